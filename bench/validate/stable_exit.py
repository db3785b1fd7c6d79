"""Exits by jumps: mean exit time and landing point of alpha-stable motion in (-1, 1), and the law of its linear Euler chain."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy import integrate

import fpsolve as fps

from . import Check

NAME = "stable-exit"
GROUP = "paths"
CLAIM = "Alpha-stable motion leaves (-1, 1) in the mean time 1/Gamma(1 + alpha) and lands where Blumenthal, Getoor and Ray say."
STANDING = "derived"
EQUATION = """
E T = 1/Gamma(1 + alpha)
p(y) = {sin(pi alpha/2)/pi} (y^2 - 1)^(-alpha/2)/|y|, |y| > 1 "where it lands"
"""

#: Index, and the two functions of dt in which the step error is expanded. A step that lands outside is seen unless it jumps back
#: before its end: from distances of dt^(1/alpha), which costs dt^(1/alpha) for alpha > 1, or from all over the outside, which costs
#: dt for alpha < 1; at alpha = 1 the two meet in dt log dt.
CASES = {
    0.7: (lambda dt: dt, lambda dt: dt ** (1 / 0.7)),
    1.0: (lambda dt: dt * np.log(dt), lambda dt: dt),
    1.5: (lambda dt: dt ** (1 / 1.5), lambda dt: dt),
}
STEPS = np.array([0.02, 0.01, 0.005, 0.0025])


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """z-scores at fixed seeds, each within 4: a correct code fails one check in 15 800. Figure stable-exit.png."""
    n = 60_000 if quick else 1_000_000
    checks, curves = _scales(quick), {}
    for number, alpha in enumerate(CASES):
        means, errors, beyond = _exits(alpha, n, 100 + 10 * number, progress)
        value, error, fit = _extrapolated(alpha, means, errors)
        curves[alpha] = (means, errors, fit)
        exact = 1 / math.gamma(1 + alpha)
        checks.append(_z(f"alpha = {alpha:g}: mean exit time, dt to 0", value, error, exact, "Getoor 1961"))
        far = _landing(alpha, 2.0)
        spread = np.full(len(STEPS), math.sqrt(far * (1 - far) / n))
        value, error, _ = _extrapolated(alpha, beyond, spread)
        checks.append(_z(f"alpha = {alpha:g}: lands beyond 2, dt to 0", value, error, far, "Blumenthal, Getoor, Ray 1961"))
    _figure(curves, out / f"{NAME}.png")
    return checks


def _z(name: str, value: float, error: float, exact: float, source: str) -> Check:
    return Check(
        name=name, measured=value, stderr=error, expected=exact, band=(exact - 4 * error, exact + 4 * error), source=source
    )


def _exits(alpha: float, n: int, seed: int, progress: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, their errors and the fractions beyond 2 at each step."""
    free = fps.Process.from_drift("0*x", fps.Noise.levy(alpha, 1.0))
    region, rows = fps.Region.box([-1.0], [1.0]), []
    for k, dt in enumerate(STEPS):
        escapes = fps.escape_times(free, [0.0], region, n=n, dt=float(dt), seed=seed + k, progress=progress)
        mean = escapes.mean()
        rows.append((mean.value, mean.stderr, float(np.mean(np.abs(escapes.exit_points) > 2.0))))
    means, errors, beyond = np.array(rows).T
    return means, errors, beyond


def _extrapolated(alpha: float, values: np.ndarray, errors: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Constant of the weighted fit a + b f(dt) + c g(dt), its error, and (a, b, c)."""
    f, g = CASES[alpha]
    design = np.stack([np.ones(len(STEPS)), f(STEPS), g(STEPS)], axis=1) / errors[:, None]
    covariance = np.linalg.inv(design.T @ design)
    fit = covariance @ design.T @ (values / errors)
    return float(fit[0]), math.sqrt(covariance[0, 0]), fit


def _landing(alpha: float, at: float) -> float:
    """P(|X| > at) at the exit from (-1, 1), started in the middle: density sin(pi alpha/2)/pi (y^2 - 1)^(-alpha/2)/|y|."""
    tail = integrate.quad(lambda y: (y * y - 1) ** (-alpha / 2) / y, at, np.inf)[0]
    return 2 * math.sin(math.pi * alpha / 2) / math.pi * tail


def _scales(quick: bool) -> list[Check]:
    """Linear Euler chain: sigma^alpha = scale^alpha dt/(1 - (1 - a dt)^alpha), through the characteristic function at k = 1."""
    n, dt, checks = 100_000 if quick else 1_000_000, 0.2, []
    for seed, alpha in enumerate((0.8, 1.0, 1.6)):
        well = fps.Process(fps.potentials.quadratic([[1.5]]), fps.Noise.levy(alpha, 0.6))
        c = np.cos(fps.simulate(well, [0.0], t=12.0, dt=dt, n=n, seed=seed).final[:, 0])
        exact = math.exp(-(0.6**alpha) * dt / (1 - (1 - 1.5 * dt) ** alpha))
        error = float(c.std()) / math.sqrt(n)
        checks.append(_z(f"alpha = {alpha:g}: Euler chain, E cos X", float(c.mean()), error, exact, "exact at this step"))
    return checks


def _figure(curves: dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    fine = np.linspace(1e-6, STEPS[0], 200)
    for alpha, (means, errors, fit) in curves.items():
        f, g = CASES[alpha]
        line = axes.errorbar(STEPS, means, errors, fmt="o", label=f"alpha = {alpha:g}")[0]
        axes.plot(fine, fit[0] + fit[1] * f(fine) + fit[2] * g(fine), color=line.get_color(), lw=1)
        axes.plot(0.0, 1 / math.gamma(1 + alpha), "k_", ms=12)
    axes.set_xlabel("time step dt")
    axes.set_ylabel("mean exit time from (-1, 1)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
