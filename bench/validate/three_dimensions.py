"""Three dimensions with full tensors: closed forms of a linear process with a current, and exit times against paths.

The linear process has a full tensor and a drift that no potential gives: its stationary covariance, its entropy production and its
means in time are matrix formulas. The landscape with a barrier, a tensor that varies in space and a tilted exit has no closed
form: there the paths engine answers as well. Every band is the error stated by the cells, for paths 4.5 standard errors more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.linalg import expm

import fpsolve as fps

from . import Check

NAME = "three-dimensions"
GROUP = "fokker-planck"
CLAIM = "In three dimensions with full tensors, densities, currents, transients and exit times have the errors that they state."
STANDING = "derived"
EQUATION = """
dX = -A X dt + sqrt(2 D) dW, A S + S A^T = 2 D
<x>(t) = e^(-A t) m, sigma = tr(M^T D^-1 M S), M = D S^-1 - A
"""

A = np.array([[1.0, 0.6, 0.2], [-0.3, 0.8, 0.1], [0.1, -0.4, 1.2]])
D = np.array([[0.8, 0.2, 0.1], [0.2, 0.6, -0.1], [0.1, -0.1, 0.7]])
MEAN, TIME = np.array([1.0, -0.5, 0.5]), 0.7


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """A linear process on 24^3 (full run: 44^3, beyond elimination) cells, then paths; figure three-dimensions.png."""
    return [*_linear(24 if quick else 44, out / f"{NAME}.png"), *_paths(quick, progress)]


def _within(name: str, found: fps.Estimate, expected: float, source: str, extra: float = 0.0, stderr: float = 0.0) -> Check:
    error = found.discretization_error + extra
    return Check(name=name, measured=found.value, expected=expected, band=(expected - error, expected + error), stderr=stderr,
                 source=source)  # fmt: skip


def _linear(n: int, figure: Path) -> list[Check]:
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
    fp = fps.FokkerPlanck(process, fps.Grid((-5, 5, n), (-5, 5, n), (-5, 5, n)))
    S = fps.theory.ou_covariance(A, D)
    covariance = fp.estimate(lambda f: f.stationary().covariance())
    push = -A + D @ np.linalg.inv(S)
    entropy = float(np.trace(push.T @ np.linalg.solve(D, push) @ S))
    moved = expm(-A * TIME) @ MEAN
    checks = [
        _within(f"covariance {i}{j}", covariance[i][j], float(S[i, j]), "A S + S A^T = 2 D") for i in range(3) for j in range(i, 3)
    ]
    checks.append(_within("entropy production", fp.entropy_production(), entropy, "tr (D/S - A)^T D^-1 (D/S - A) S"))
    for k in range(3):
        found = fp.expectation(lambda x, k=k: x[:, k], TIME, ("gaussian", MEAN, 0.4 * np.eye(3)))
        checks.append(_within(f"mean {k} at t = {TIME}", found, float(moved[k]), "exp(-A t) m"))
    ax = fp.stationary().plot(plane=(0, 1))
    ax.figure.savefig(figure)
    return checks


def _paths(quick: bool, progress: bool) -> list[Check]:
    """Leaving the left well through a tilted plane beyond the saddle."""
    drift = ["x - x**3 + y/4", "-y - x/4 + z/5", "-3*z/2 - y/5"]
    noise = fps.Noise.from_expression(
        [["3/10 + x**2/20", "y/20", "1/20"], ["y/20", "1/4", "0"], ["1/20", "0", "1/5"]], variables="x y z"
    )
    process = fps.Process.from_drift(drift, noise, variables="x y z")
    region, start = fps.Region.halfspace([1.0, 0.2, 0.1], 0.5), [-1.0, 0.2, 0.0]
    n, dt = (20_000, 2e-3) if quick else (200_000, 5e-4)
    grid = (
        fps.Grid((-2.6, 0.9, 28), (-2.2, 2.2, 24), (-2.0, 2.0, 20))
        if quick
        else fps.Grid((-2.6, 0.9, 56), (-2.2, 2.2, 48), (-2, 2, 40))
    )
    cells = fps.FokkerPlanck(process, grid).mean_exit_time(region, at=start)
    paths = fps.escape_times(process, start, region, n=n, dt=dt, seed=41, progress=progress).mean()
    # Euler's weak error of a mean exit time with the bridge is about rate x dt of the time itself, rates below 2
    extra = 4.5 * paths.stderr + 2.0 * dt * paths.value
    return [_within("exit over a barrier through a tilted plane", cells, paths.value, f"{n} paths", extra, paths.stderr)]
