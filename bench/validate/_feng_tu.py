"""What the claims on Feng and Tu share: settings, runs (each trained once in a process), panels.

Quick: the first 4000 images of MNIST, 784-50-50-10, He's initial weights; the windows are ten epochs of 80 steps (B = 50), fewer
records than the block has weights. Full: all 60 000 images, initial weights uniform, windows of 12 000 steps. Where MNIST is not at
hand the claims fail and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps
import nets
from nets._threads import single_threaded_blas

from . import Check

Array = NDArray[np.float64]

#: Of the claims that look at runs of `measured`.
SHARED = "networks of Feng and Tu"
WIDTHS = (784, 50, 50, 10)
SOURCE = "Feng and Tu, PNAS 118, e2015617118 (2021)"


@dataclass(frozen=True)
class Setting:
    """One training run and the window at its end."""

    batch: int = 50
    lr: float = 0.1
    sampling: str = "shuffle"
    seed: int = 0
    last_epoch: int | None = 70  # the window is the last ten epochs; None: epochs 51-60 after the error has reached zero
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
    """Other batch sizes and learning rates, in windows as old as the reference's: fifty epochs after the error has reached zero."""
    chosen = ((25, 0.1), (100, 0.1), (200, 0.1), (50, 0.05), (50, 0.2))
    return [replace(reference(quick), batch=b, lr=lr, last_epoch=None) for b, lr in chosen]


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
    # a loss of 60 000 samples takes as long as 1600 steps: only where the course of training is looked at
    seldom = 1 if setting.quick else 3 if setting == reference(False, setting.seed) else 10
    before = _approach(setting, seldom, progress)
    record = nets.Record(weights="W2", weights_every=1, sums=True, losses_every=k * seldom, max_bytes=10**9)
    run = nets.train(mlp, d, resume=before[-1], steps=10 * k, record=record, progress=progress)
    relation = nets.inverse_relation(run, d, block="W2", last=400 if setting.quick else 1000, progress=progress)
    losses = {name: np.concatenate([r.losses[name] for r in (*before, run)]) for name in ("step", "train_loss", "train_error")}
    losses["epoch"] = losses["step"] / k
    snapshots, steps = (np.concatenate([r.weights[name] for r in before]) for name in ("value", "step"))
    rows = run.weights["value"][:: max(1, 10 * k // 2000)]
    courses = (rows - relation.window.center[relation.window.index]) @ relation.window.directions[:, :50]
    return Measured(relation, snapshots, steps / k, losses, courses.T)


def _approach(setting: Setting, seldom: int, progress: bool) -> list[nets.Run]:
    """All training before the window, to a given epoch or to fifty epochs after the first of every tenth with error zero."""
    mlp, d = nets.MLP(WIDTHS), data(setting.quick)
    k, runs = d.size // setting.batch, list[nets.Run]()
    options: dict[str, Any] = {"lr": setting.lr, "batch": setting.batch, "sampling": setting.sampling, "seed": setting.seed}
    options |= {"optimizer": "adam"} if setting.optimizer == "adam" else {"momentum": setting.momentum}
    options["theta0"] = mlp.init(setting.seed, scheme="he" if setting.quick else "uniform")

    def further(epochs: int) -> nets.Run:
        record = nets.Record(weights="all", weights_every=k * max(1, epochs // 12), losses_every=k * seldom)
        start = {"resume": runs[-1]} if runs else options
        runs.append(nets.train(mlp, d, steps=epochs * k, record=record, progress=progress, **start))
        return runs[-1]

    if setting.last_epoch is not None:
        further(setting.last_epoch - 10)
        return runs
    while further(10).losses["train_error"][-1] > 0.0:
        if len(runs) == 40:
            raise fps.FpsolveError(f"{setting.name}: the training error is not zero at any tenth epoch up to 400")
    further(50)
    return runs


@cache
def modes(setting: Setting) -> tuple[Array, Array]:
    """Eigenvalues (ascending) and eigenvectors of the Hessian of W2 at the mean weights of the window."""
    d, theta = data(setting.quick), measured(setting, False).window.center
    with single_threaded_blas():
        return tuple(np.linalg.eigh(nets.hessian(nets.MLP(WIDTHS), theta, d.x_train, d.y_train, block="W2")))


@cache
def spectrum(setting: Setting) -> tuple[Array, Array, Array]:
    """The same two, and C v: the covariance of the gradients of samples, times the eigenvectors."""
    d, theta = data(setting.quick), measured(setting, False).window.center
    h, v = modes(setting)
    with single_threaded_blas():
        return h, v, nets.gradient_covariance(nets.MLP(WIDTHS), theta, d.x_train, d.y_train, block="W2") @ v


def side_by_side(work: Callable[[Setting], Any], chosen: Sequence[Setting]) -> list[Any]:
    """The same for several settings, two at a time in threads: steps and matrix products release the GIL."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, chosen))


def prepare(chosen: Sequence[Setting], progress: bool) -> list[Measured]:
    """Several runs, two at a time."""
    return side_by_side(lambda setting: measured(setting, progress), chosen)


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


def largest(window: nets.Window, quick: bool) -> int:
    """Number of the last component that is fitted: half as many as there are records, 400 or 1000 at most."""
    return min(400 if quick else 1000, window.records // 2)


def linear_psi(setting: Setting) -> tuple[float, float]:
    """psi of the components that are fitted, flatness from p.H p, of the network and of linear SGD with its H and its gradients.

    y' = y + mu (y - y_before) - lr (h y + xi) in the eigenbasis of H. xi are the gradients of minibatches at the mean weights,
    drawn as in training, less the mean of all; nothing depends on y but the force h y, no other layer moves, and there is no
    drift. The window is as long as the network's, after a run-up of the same length, and analysed in the same way.
    """
    d, mlp, window = data(setting.quick), nets.MLP(WIDTHS), measured(setting, False).window
    (h, v), b, n, most = modes(setting), setting.batch, d.size, largest(window, setting.quick)
    h, k, rng = np.maximum(h, 0.0), n // b, np.random.default_rng(8)
    below, delta = np.empty((n, WIDTHS[1])), np.empty((n, WIDTHS[2]))
    x, t = mlp.check_samples(d.x_train, d.y_train)
    for i in range(0, n, 2000):
        layers = mlp.forward(window.center, x[i : i + 2000])
        below[i : i + 2000], delta[i : i + 2000] = layers[1], mlp.backward(window.center, layers, t[i : i + 2000])[1]
    mean = (below.T @ delta).ravel() / n
    y, before, path = np.zeros(len(h)), np.zeros(len(h)), np.empty((10 * k, len(h)))
    with single_threaded_blas():
        for epoch in range(20):
            drawn = rng.permutation(n)[: k * b] if setting.sampling == "shuffle" else rng.integers(n, size=k * b)
            gradients = np.matmul(below[drawn].reshape(k, b, -1).transpose(0, 2, 1), delta[drawn].reshape(k, b, -1)) / b
            for step, xi in enumerate((gradients.reshape(k, -1) - mean) @ v):
                y, before = y + setting.momentum * (y - before) - setting.lr * (h * y + xi), y
                if epoch >= 10:
                    path[(epoch - 10) * k + step] = y
        parts = nets.pca(path, n_directions=most)
        along = v.T @ window.directions[:, 1:most]
    curvature = (along**2).T @ h, (parts.directions[:, 1:] ** 2).T @ h
    variances = window.variances[1:most], parts.variances[1:]
    own, linear = (-nets.power_law(c**-0.5, s).exponent for c, s in zip(curvature, variances, strict=True))
    return own, linear
