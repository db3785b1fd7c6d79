"""What the claims on Feng and Tu share: settings, runs (each trained once in a process), panels.

Quick: the first 4000 images of MNIST, 784-50-50-10, He's initial weights; the windows are ten epochs of 80 steps (B = 50), fewer
records than the block has weights. Full: all 60 000 images, initial weights uniform, windows of 12 000 steps. Where MNIST is not at
hand the claims fail and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nets
from nets._threads import single_threaded_blas

from . import Check

Array = NDArray[np.float64]

WIDTHS = (784, 50, 50, 10)
SOURCE = "Feng and Tu, PNAS 118, e2015617118 (2021)"


@dataclass(frozen=True)
class Setting:
    """One training run and the window at its end."""

    batch: int = 50
    lr: float = 0.1
    sampling: str = "shuffle"
    seed: int = 0
    last_epoch: int = 70  # the window is the last ten epochs
    quick: bool = True
    momentum: float = 0.0
    optimizer: str = "sgd"

    @property
    def name(self) -> str:
        """Short name in tables."""
        extra = "" if self.sampling == "shuffle" else ", with replacement"
        extra += f", momentum {self.momentum:g}" if self.momentum else ", Adam" if self.optimizer == "adam" else ""
        return f"B {self.batch}, lr {self.lr:g}{extra}"


def reference(quick: bool, seed: int = 0) -> Setting:
    """The paper's B = 50, lr = 0.1, in a window with training error zero: epochs 61-70 of 4000 samples, 91-100 of 60 000."""
    return Setting(seed=seed, last_epoch=70 if quick else 100, quick=quick)


def settings(quick: bool) -> list[Setting]:
    """Other batch sizes and learning rates; windows at equal lr x steps / (B = 50's), so that the loss is about the same."""
    base = reference(quick)
    ends = {(25, 0.1): 50, (100, 0.1): 130, (200, 0.1): 250, (50, 0.05): 100, (50, 0.2): 50}
    if not quick:
        ends = {(b, lr): int(100 * b / 50 * 0.1 / lr) for b, lr in ends}
    return [replace(base, batch=b, lr=lr, last_epoch=end) for (b, lr), end in ends.items()]


def algorithms(quick: bool) -> list[Setting]:
    """Momentum 0.9 at the same lr/(1 - mu), which slow modes cannot tell from SGD, and Adam at its usual rate."""
    base = reference(quick)
    return [replace(base, lr=0.01, momentum=0.9), replace(base, lr=0.001, optimizer="adam", last_epoch=40 if quick else 100)]


SEEDS = (0, 1, 2)


@cache
def data(quick: bool) -> nets.Data:
    """MNIST, or its first 4000 training and 1000 test images."""
    return nets.load_data("mnist").subset(4000, 1000) if quick else nets.load_data("mnist")


@dataclass(frozen=True, eq=False)
class Measured:
    """What is kept of one run: the relation in its window, and weights and losses on the way there."""

    relation: nets.InverseRelation
    snapshots: Array
    snapshot_epochs: Array
    losses: dict[str, Array]
    courses: Array  # the first 50 components against time, at most 2000 points

    @property
    def window(self) -> nets.Window:
        """The window."""
        return self.relation.window


_DONE: dict[Setting, Measured] = {}


def measured(setting: Setting, progress: bool) -> Measured:
    """The run of a setting, made once in a process; one thread, so that two runs side by side do not wait for each other."""
    if setting not in _DONE:
        with single_threaded_blas():
            _DONE[setting] = _measure(setting, progress)
    return _DONE[setting]


def _measure(setting: Setting, progress: bool) -> Measured:
    """Train to the window with a snapshot of all weights now and then, record every step of W2 in the window, analyse it."""
    mlp, d = nets.MLP(WIDTHS), data(setting.quick)
    k = d.size // setting.batch
    theta0 = mlp.init(setting.seed, scheme="he" if setting.quick else "uniform")
    before = setting.last_epoch - 10
    # a loss of 60 000 samples takes as long as 1600 steps: only where the course of training is looked at
    seldom = 1 if setting.quick else 3 if setting == reference(False, setting.seed) else 10
    record = nets.Record(weights="all", weights_every=k * max(1, before // 12), losses_every=k * seldom)
    options: dict[str, Any] = {"lr": setting.lr, "batch": setting.batch, "sampling": setting.sampling, "seed": setting.seed}
    options |= {"optimizer": "adam"} if setting.optimizer == "adam" else {"momentum": setting.momentum}
    first = nets.train(mlp, d, theta0=theta0, steps=before * k, record=record, progress=progress, **options)
    record = nets.Record(weights="W2", weights_every=1, sums=True, losses_every=k * seldom, max_bytes=10**9)
    run = nets.train(mlp, d, resume=first, steps=10 * k, record=record, progress=progress)
    relation = nets.inverse_relation(run, d, block="W2", last=400 if setting.quick else 1000, progress=progress)
    losses = {name: np.r_[first.losses[name], run.losses[name][1:]] for name in ("step", "train_loss", "train_error")}
    losses["epoch"] = losses["step"] / k
    steps, rows = first.weights["step"], run.weights["value"][:: max(1, 10 * k // 2000)]
    courses = (rows - relation.window.center[relation.window.index]) @ relation.window.directions[:, :50]
    return Measured(relation, np.array(first.weights["value"]), steps / k, losses, courses.T)


_SPECTRA: dict[Setting, tuple[Array, Array, Array]] = {}


def spectrum(setting: Setting) -> tuple[Array, Array, Array]:
    """Eigenvalues h (ascending) and eigenvectors v of the Hessian of W2 at the mean weights of the window, and v.C v there."""
    if setting not in _SPECTRA:
        d, mlp, theta = data(setting.quick), nets.MLP(WIDTHS), measured(setting, False).window.center
        with single_threaded_blas():
            h, v = np.linalg.eigh(nets.hessian(mlp, theta, d.x_train, d.y_train, block="W2"))
            C = nets.gradient_covariance(mlp, theta, d.x_train, d.y_train, block="W2")
            _SPECTRA[setting] = h, v, C @ v
    return _SPECTRA[setting]


def prepare(chosen: Sequence[Setting], progress: bool) -> list[Measured]:
    """Several runs, two at a time in threads: steps and matrix products release the GIL."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda setting: measured(setting, progress), chosen))


def landscape(setting: Setting, theta: Array | None = None) -> nets.Landscape:
    """The loss of all training samples as a function of W2 about the mean weights of the window, or about `theta`."""
    d = data(setting.quick)
    center = measured(setting, False).window.center if theta is None else theta
    return nets.Landscape(nets.MLP(WIDTHS), center, d.x_train, d.y_train, block="W2")


def check(name: str, value: float, expected: float, low: float, high: float, source: str, stderr: float = 0.0) -> Check:
    """A line of the table."""
    return Check(name=name, measured=float(value), stderr=float(stderr), expected=expected, band=(low, high), source=source)


def panel(out: Path, name: str, letter: str, ax: Any, title: str) -> None:
    """One figure file per panel."""
    ax.set_title(title, fontsize="medium")
    ax.figure.savefig(out / f"{name}-{letter}.png", dpi=120)


def axes() -> Any:
    """Axes of a new figure."""
    from matplotlib.figure import Figure

    return Figure(figsize=(5.0, 3.8), layout="constrained").subplots()


def log_slope(i: Array, y: Array, low: int, high: int) -> float:
    """Exponent of y over i = low .. high."""
    keep = (i >= low) & (i <= high)
    return nets.power_law(i[keep], y[keep]).exponent


def modes_psi(h: Array, c: Array, setting: Setting, window: nets.Window, most: int) -> float:
    """psi of the components 1 .. most of Gaussian linear modes of curvatures h and per-sample noise c, flatness from p.H p.

    Heavy ball y' = y + mu (y - y_before) - lr (h y + xi), watched for as many steps as the window after a run-up of the same
    length; the noise is independent, or sums to zero over each epoch as that of shuffled batches does.
    """
    from scipy.signal import lfilter

    rng, steps, k = np.random.default_rng(8), window.records, window.n_samples // setting.batch
    h, c = np.maximum(h, 0.0), np.maximum(c, 0.0) / setting.batch
    path = np.empty((steps, len(h)))
    for j, curvature in enumerate(h):
        xi = rng.standard_normal(2 * steps)
        if setting.sampling == "shuffle":
            epochs = xi.reshape(-1, k)
            epochs -= epochs.mean(axis=1, keepdims=True)
            xi *= (k / (k - 1)) ** 0.5
        back = [1.0, -(1.0 + setting.momentum - setting.lr * curvature), setting.momentum]
        path[:, j] = lfilter([-setting.lr * c[j] ** 0.5], back, xi)[steps:]
    parts = nets.pca(path, n_directions=most)
    curvature_along = (parts.directions**2 * h[:, None]).sum(axis=0)
    return -nets.power_law(curvature_along**-0.5, parts.variances).exponent
