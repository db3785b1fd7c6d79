"""What the claims on escape over a level of the loss share: a loss at its minimum, the linear chain, lines of mean times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import fpsolve as fps
import nets
from nets.mlp import Ensemble

from . import Check

Array = NDArray[np.float64]

FACTORS = (1.0, 1.3, 1.6, 1.9)
BATCH, STEP, FASTEST = 20, 0.25, 3.0  # batch size, lr H_max and exponent where escape is fastest


@dataclass(frozen=True, eq=False)
class Model:
    """A loss with a minimum: minibatch gradients, the loss as a landscape, H and C at the minimum."""

    name: str
    ensemble: Any
    loss: fps.Potential
    minimum: Array
    H: Array
    C: Array
    batch: int = BATCH

    @cached_property
    def lr(self) -> float:
        return STEP / float(np.linalg.eigvalsh(self.H)[-1])

    @cached_property
    def rise(self) -> float:
        """dL at which the exponent is FASTEST for batch and lr."""
        unit = fps.theory.quadratic_exit_exponent(self.H, self.C, lr=self.lr, batch=self.batch, threshold=1.0)
        return FASTEST / unit.value

    @cached_property
    def inside(self) -> fps.Region:
        return fps.Region.sublevel(self.loss, float(self.loss(self.minimum)) + self.rise)

    @cached_property
    def parabola(self) -> tuple[fps.Potential, fps.Region]:
        U = fps.potentials.quadratic(self.H)
        return U, fps.Region.sublevel(U, self.rise)

    @cached_property
    def way_out(self) -> Array:
        """Unit vector of the cheapest exit: H^(-1/2) times the top eigenvector of H^(1/2) S H^(1/2)."""
        values, vectors = np.linalg.eigh(self.H)
        root = (vectors * np.sqrt(values)) @ vectors.T
        top = np.linalg.eigh(root @ fps.theory.ou_covariance(self.H, self.C) @ root)[1][:, -1]
        out = np.linalg.solve(root, top)
        return np.asarray(out / np.linalg.norm(out))


def components(x: Array, k: int) -> Array:
    """Principal components of the inputs, in units of the first one's deviation."""
    centred = x - x.mean(axis=0)
    _, s, right = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(centred @ right[:k].T / (s[0] / np.sqrt(len(x))))


def minimum(U: fps.Potential, start: Array) -> Array:
    found = minimize(lambda w: float(U(w)), start, jac=U.grad, method="BFGS", options={"gtol": 1e-7, "maxiter": 10_000})
    return np.asarray(found.x)


def network(name: str, mlp: nets.MLP, x: Array, y: NDArray[np.int64], batch: int = BATCH) -> Model:
    """A network at the minimum that training from its first initial weights leads to; weight decay isolates it."""
    ensemble = Ensemble(mlp, *mlp.check_samples(x, y))
    at = minimum(ensemble.loss, mlp.init(0))
    return Model(name, ensemble, ensemble.loss, at, nets.hessian(mlp, at, x, y), nets.gradient_covariance(mlp, at, x, y), batch)


@dataclass(frozen=True)
class Point:
    """One setting: where it is on the axis, the exponent, and the two chains."""

    at: float
    exponent: float
    chain: Callable[[], fps.SGDChain]
    linear: Callable[[], fps.SGDChain]


def axes(model: Model, thermal: Sequence[float] = FACTORS) -> dict[str, list[Point]]:
    """The three lines; on each the exponent goes from FASTEST to 1.9 times that, for SGLD by other factors if given."""
    return {
        "B": [sgd(model, round(model.batch * f), model.lr, round(model.batch * f)) for f in FACTORS],
        "1/lr": [sgd(model, model.batch, model.lr / f, f / model.lr) for f in FACTORS],
        "1/D": [sgld(model, f) for f in thermal],
    }


def sgd(model: Model, batch: int, lr: float, at: float) -> Point:
    E = fps.theory.quadratic_exit_exponent(model.H, model.C, lr=lr, batch=batch, threshold=model.rise).value
    noise = fps.Noise.covariance(model.C, lr=lr, batch=batch)
    return Point(at, E, lambda: fps.SGDChain(model.ensemble, lr, batch),
                 lambda: fps.SGDChain.gaussian(model.parabola[0], noise, lr))  # fmt: skip


def sgld(model: Model, factor: float) -> Point:
    """Noise of the same strength in all directions: dL/D is the exponent, above the number of soft directions that it must beat."""
    exponent = (FASTEST + 0.5 * _thermal(model)) * factor
    noise = fps.Noise.isotropic(model.rise / exponent)
    return Point(exponent / model.rise, exponent, lambda: fps.SGDChain.gaussian(model.loss, noise, model.lr),
                 lambda: fps.SGDChain.gaussian(model.parabola[0], noise, model.lr))  # fmt: skip


def _thermal(model: Model) -> float:
    """Directions that equilibrate within the run, each of which adds D/2 to the mean loss."""
    return float(np.sum(np.linalg.eigvalsh(model.H) > 0.01 * np.linalg.eigvalsh(model.H)[-1]))


class Line:
    """Mean times of exit along one axis: the model, and the linear chain."""

    def __init__(self, model: Model, axis: str, points: Sequence[Point], n: int, seed: int, progress: bool) -> None:
        self.model, self.axis, self.points = model, axis, points
        self.others: dict[str, Sequence[fps.EscapeTimes]] = {}  # further chains, at the first points or at all
        U, within = model.parabola
        start, zero = model.minimum, np.zeros(len(model.H))
        self.escapes = [
            fps.escape_times(p.chain(), start, model.inside, n=n, seed=seed + i, progress=progress) for i, p in enumerate(points)
        ]
        self.linear = [
            fps.escape_times(p.linear(), zero, within, n=5 * n, seed=seed + 50 + i, progress=progress) for i, p in enumerate(points)
        ]

    def logs(self, runs: Sequence[fps.EscapeTimes]) -> Array:
        """ln of the mean times; over 1/lr in units of lr x iterations."""
        units = [1.0 / p.at if self.axis == "1/lr" else 1.0 for p in self.points]
        return np.log([unit * run.mean().value for unit, run in zip(units, runs, strict=False)])

    def slope(self, runs: Sequence[fps.EscapeTimes]) -> tuple[float, float]:
        """Slope over the axis by least squares, and its standard error from the numbers of escapes."""
        at = np.array([p.at for p in self.points[: len(runs)]])
        lever = (at - at.mean()) / np.sum((at - at.mean()) ** 2)
        errors = np.array([run.mean().stderr / run.mean().value for run in runs])
        return float(lever @ self.logs(runs)), float(np.sqrt(np.sum((lever * errors) ** 2)))

    def checks(self) -> list[Check]:
        name = f"{self.model.name}, {'SGLD' if self.axis == '1/D' else 'SGD'} over {self.axis}"
        (slope, error), (linear, other) = self.slope(self.escapes), self.slope(self.linear)
        ratio = slope / linear
        spread, usual = (float(runs[-1].times.std() / runs[-1].times.mean()) for runs in (self.escapes, self.linear))
        checks = [
            Check(name=f"{name}: slope / linear chain's", measured=ratio, expected=1.0, band=(0.8, 1.2),
                  stderr=ratio * float(np.hypot(error / slope, other / linear)), source="Gaussian chain in the parabola"),
            Check(name=f"{name}: deviation / mean of the slowest waiting times", measured=spread, expected=usual,
                  band=(usual - 0.2, usual + 0.2), source="Gaussian chain in the parabola"),
        ]  # fmt: skip
        exponent = self._exponent()
        if exponent is not None:
            expected, low, high, source = exponent
            rise = (self.points[-1].exponent - self.points[0].exponent) / (self.points[-1].at - self.points[0].at)
            checks.append(Check(name=f"{name}: slope / exponent's", measured=slope / rise, expected=expected, band=(low, high),
                                stderr=error / rise, source=source))  # fmt: skip
        if self.axis != "1/D":
            checks.append(self._direction(name))
        return checks

    def _exponent(self) -> tuple[float, float, float, str] | None:
        """Expected share of the exponent's slope, its band and source; None where no law is at hand."""
        if self.axis != "1/D":
            return 1.0, 0.5, 1.1, "quasi-potential of the linear chain, without prefactor"
        E, n = [self.points[0].exponent, self.points[-1].exponent], len(self.model.H)
        if n > E[0]:
            return None
        share = 1.0 - 0.5 * n * float(np.log(E[1] / E[0])) / (E[1] - E[0])
        return share, share - 0.15, share + 0.15, "E^(n/2) exp(-E)"

    def _direction(self, name: str) -> Check:
        """Mean |cos| of the places of exit with the cheapest way out, against that of the linear chain."""
        out = self.model.way_out

        def cosines(run: fps.EscapeTimes, origin: Array) -> Array:
            moved = run.exit_points - origin
            return np.abs(moved @ out) / np.linalg.norm(moved, axis=1)

        ours = cosines(self.escapes[-1], self.model.minimum)
        theirs = cosines(self.linear[-1], np.zeros(len(out)))
        error = np.hypot(ours.std() / len(ours) ** 0.5, theirs.std() / len(theirs) ** 0.5)
        expected = float(theirs.mean())
        return Check(name=f"{name}: |cos| of the exit with the cheapest way out", measured=float(ours.mean()), expected=expected,
                     band=(expected - 4 * error - 0.03, expected + 4 * error + 0.03), stderr=float(error),
                     source="Gaussian chain in the parabola")  # fmt: skip


def figure_of(lines: Sequence[Line], path: Path) -> None:
    from matplotlib.figure import Figure

    rows = -(-len(lines) // 3)
    figure = Figure(figsize=(11.0, 3.2 * rows), layout="constrained")
    for ax, line in zip(figure.subplots(rows, 3).flat, lines, strict=False):
        chains = {"model": (line.escapes, "o"), "linear chain": (line.linear, "-")}
        chains |= {name: (runs, "--") for name, runs in line.others.items()}
        for label, (runs, style) in chains.items():
            at = [p.at for p in line.points[: len(runs)]]
            ax.errorbar(at, line.logs(runs), 2 * np.array([r.mean().stderr / r.mean().value for r in runs]), fmt=style, label=label)
        ax.set(xlabel=line.axis, ylabel="ln(mean time)", title=line.model.name)
        if line is lines[0] or line.others:
            ax.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=120)
