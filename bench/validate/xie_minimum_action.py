"""Exponents of weak noise: minimum action paths against closed forms, quadrature and least squares in time.

S = (1/4) int (x' - b)^T D^-1 (x' - b) dt. Linear systems have x^T Sigma^-1 x/2 with A Sigma + Sigma A^T = 2 D; gradient systems
Delta U/D; reversible ones Delta Phi; a round cycle (1 - r^2)^2/(4 D); Maier and Stein's drift 1/2 up to beta = 4. Where no closed
form is known the action at a fixed long time is minimised over polygons, a problem of least squares that shares nothing with the
curves of fpsolve, and extrapolated from two steps. Curvature noise sqrt(f''^2 + floor^2) on the Styblinski-Tang function has a
quadrature; without a floor nothing crosses the inflection. On one core the quick run takes about 15 s, the full one half a minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import integrate
from scipy.linalg import solve_continuous_lyapunov, solveh_banded

import fpsolve as fps

from . import Check

NAME = "xie-minimum-action"
GROUP = "xie"
CLAIM = "Minimum action paths have the exact exponents within 0.1 %, and say where no noise carries a path on."
STANDING = "derived"
EQUATION = "S = {1/4} int (x' - b)^T D^-1 (x' - b) dt"

Array = NDArray[np.float64]
Field = Callable[[Array], Array]

#: 0.1 % where an exact value is known, written before the first run.
EXACT = 1e-3
#: Least squares in time at a finite time and step: its own extrapolated error is below 1e-4, both together below 0.1 % too.
HALF = fps.Noise.isotropic(0.5)


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Every family of exact values, and two paths without; figure xie-minimum-action.png."""
    checks = [*_linear(quick), *_barriers(quick), *_cycles(quick), *_curvature(quick)]
    paths = {beta: fps.minimum_action_path(_maier_stein(beta), [-1.0, 0.0], [0.0, 0.0]) for beta in (1.0, 3.0, 6.0, 10.0)}
    for beta, path in paths.items():
        source, exact = "Maier & Stein, beta <= 4", 0.5
        if beta > 4.0:
            source, exact = "least squares in time", _maier_stein_in_time(beta, quick)
        checks.append(_check(f"Maier-Stein, beta = {beta:g}", path.action.value, exact, source))
    if progress:
        print(f"{len(checks)} actions")
    _figure(paths, out / f"{NAME}.png")
    return checks


def _check(name: str, measured: float, exact: float, source: str, width: float = EXACT) -> Check:
    band = (exact * (1.0 - width), exact * (1.0 + width))
    return Check(name=name, measured=measured, expected=exact, band=band, source=source)


def _linear(quick: bool) -> list[Check]:
    """Two systems of the literature, and random ones with rotation in more dimensions."""
    cases = [
        ("shear, V(1, 1)", np.diag([1.0, 3.0]), np.array([[1.0, 0.6], [0.6, 2.0]]), np.ones(2)),
        ("spiral, V(1, 0)", np.array([[1.0, 2.0], [-2.0, 1.0]]), 0.5 * np.eye(2), np.array([1.0, 0.0])),
    ]
    rng = np.random.default_rng(11)
    for d in (3, 4) if quick else (3, 4, 6, 10):
        S, K, F = (rng.normal(size=(d, d)) for _ in range(3))
        cases.append(
            (f"random in {d}-D", S @ S.T / d + 0.3 * np.eye(d) + 0.5 * (K - K.T), F @ F.T / d + 0.2 * np.eye(d), np.ones(d))
        )
    checks = []
    for name, A, D, x in cases:
        process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
        V = fps.quasipotential(process, np.zeros(len(x)), x, rtol=1e-4)
        assert isinstance(V, fps.Estimate)
        exact = 0.5 * float(x @ np.linalg.solve(solve_continuous_lyapunov(A, 2.0 * D), x))
        checks.append(_check(f"linear, {name}", V.value, exact, "Lyapunov equation"))
    return checks


def _barriers(quick: bool) -> list[Check]:
    """Gradient systems, and a reversible one with a full tensor that varies."""
    U = fps.potentials.mueller_brown()
    points = U.critical_points([(-1.5, 1.2), (-0.2, 2.0)])
    deep, second, between = (c for c in points if c.kind == "minimum")
    low, high = (c for c in points if c.kind == "saddle")
    path = fps.minimum_action_path(fps.Process(U, fps.Noise.isotropic(10.0)), deep.x, second.x)
    climbed = (high.value - deep.value + low.value - between.value) / 10.0
    checks = [_check("Mueller-Brown, deepest to second minimum", path.action.value, climbed, "two barriers over D")]
    for d in (1, 2) if quick else (1, 2, 3, 5):
        a, b = np.zeros(d), np.zeros(d)
        a[0], b[0] = -1.0, 1.0
        process = fps.Process(fps.potentials.double_well(d), fps.Noise.isotropic(0.05))
        action = fps.minimum_action_path(process, a, b).action.value
        checks.append(_check(f"double well in {d}-D", action, 20.0, "barrier over D"))
    Phi = fps.Potential.from_expression("4*(x**2 - 1)**2 + 3*(y - 0.4*x**2)**2", "x y")
    tensor = [["0.4 + 0.3*x**2", "0.2*sin(x + y)"], ["0.2*sin(x + y)", "0.6 + 0.2*cos(y)"]]
    process = fps.Process.reversible(Phi, fps.Noise.from_expression(tensor, variables="x y"))
    action = fps.minimum_action_path(process, [-1.0, 0.4], [1.0, 0.4]).action.value
    checks.append(_check("reversible, full varying tensor", action, 4.0, "Delta Phi"))
    return checks


def _cycles(quick: bool) -> list[Check]:
    """A round cycle with a closed form, and the forced van der Pol oscillator."""
    drift = ["x*(1 - x**2 - y**2) - 2*y", "y*(1 - x**2 - y**2) + 2*x"]
    process = fps.Process.from_drift(drift, fps.Noise.isotropic(0.25), variables="x y")
    V = fps.quasipotential(process, fps.limit_cycle(process, [1.5, 0.0]), [0.5, 0.0], rtol=1e-4)
    assert isinstance(V, fps.Estimate)
    checks = [_check("round cycle to r = 1/2", V.value, 0.75**2, "(1 - r^2)^2/(4 D)")]
    process = fps.Process.from_drift(["x - x**3/3 + y - y**3/9", "x + 0.9"], HALF, variables="x y")
    cycle = fps.limit_cycle(process, [2.0, 0.0])
    target = next(p.x for p in process.fixed_points([(-4, 4), (-4, 4)]) if p.kind == "saddle")
    period = cycle.period.value
    band = (5.79655, 5.79665)  # the digits that are known
    checks.append(Check(name="van der Pol, period", measured=period, expected=5.7966, band=band, source="recalled digits"))
    action = fps.minimum_action_path(process, cycle, target, rtol=1e-4 if quick else 1e-5).action.value
    exact = _van_der_pol_in_time(cycle.points, period, target, quick)
    checks.append(_check("van der Pol, cycle to fixed point", action, exact, "least squares in time"))
    return checks


def _curvature(quick: bool) -> list[Check]:
    """D = sqrt(f''^2 + floor^2), the deep well of Styblinski and Tang, up to the maximum; and D = |f''|."""
    U = fps.potentials.styblinski_tang()
    deep, _, top = U.critical_points([(-4, 4)])
    checks = []
    for floor in (1.0, 0.01) if quick else (10.0, 3.0, 1.0, 0.3, 0.1, 0.01, 0.001):
        process = fps.Process(U, fps.Noise.hessian(U, scale=1.0, floor=floor))
        exact, _ = integrate.quad(
            lambda x, floor=floor: (2 * x**3 - 16 * x + 2.5) / math.hypot(6 * x**2 - 16, floor),
            deep.x[0], top.x[0], points=[-math.sqrt(8 / 3)], limit=400,
        )  # fmt: skip
        action = fps.minimum_action_path(process, deep.x, top.x).action.value
        checks.append(_check(f"curvature noise, floor {floor:g}", action, exact, "quadrature of f'/D"))
    for scale in (0.8,) if quick else (0.1, 0.8, 3.0, 10.0):
        process = fps.Process(U, fps.Noise.hessian(U, scale=scale))
        action = fps.minimum_action_path(process, deep.x, top.x).action
        flagged = math.isinf(action.value) and any(a.name.startswith("permeable") for a in action.failed)
        name = f"curvature noise without floor, scale {scale:g}: flagged impermeable"
        checks.append(Check(name=name, measured=float(flagged), expected=1.0, band=(1.0, 1.0), source="D = 0, inward drift"))
    return checks


# ---- least squares in time ------------------------------------------------------------------------------------------


def least_action_in_time(drift: Field, slope: Field, path: Array, T: float) -> tuple[Array, float]:
    """min (1/2) int_0^T |x' - b|^2 dt over polygons in the plane: midpoint rule, Levenberg-Marquardt, banded equations."""
    x, h = path.copy(), T / (len(path) - 1)
    size, damping, one = math.sqrt(h / 2), 1e-3, np.eye(2)

    def residuals(x: Array) -> Array:
        return np.asarray((np.diff(x, axis=0) / h - drift(0.5 * (x[1:] + x[:-1]))) * size)

    r = residuals(x)
    for _ in range(400):
        J = slope(0.5 * (x[1:] + x[:-1]))
        left, right = (-one / h - 0.5 * J) * size, (one / h - 0.5 * J) * size
        gradient = np.einsum("nij,ni->nj", right[:-1], r[:-1]) + np.einsum("nij,ni->nj", left[1:], r[1:])
        diagonal = np.einsum("nki,nkj->nij", right[:-1], right[:-1]) + np.einsum("nki,nkj->nij", left[1:], left[1:])
        beside = np.einsum("nki,nkj->nij", left[1:-1], right[1:-1])
        band = np.zeros((4, gradient.size))
        for i in range(2):
            for j in range(2):
                if j >= i:
                    band[3 - (j - i), j::2] = diagonal[:, i, j]
                band[1 - j + i, 2 + j :: 2] = beside[:, i, j]
        pivots = band[3].copy()
        while True:
            band[3] = pivots * (1.0 + damping)
            trial = x.copy()
            trial[1:-1] -= solveh_banded(band, gradient.ravel()).reshape(-1, 2)
            new = residuals(trial)
            gain = float(np.sum(r * r) - np.sum(new * new))
            if gain > 0.0 or damping > 1e8:
                break
            damping *= 4.0
        x, r, damping = trial, new, max(damping / 5.0, 1e-12)
        if gain < 1e-12 * float(np.sum(r * r)):
            break
    return x, float(np.sum(r * r))


def _extrapolated(drift: Field, slope: Field, path: Array, T: float, sizes: tuple[int, int]) -> float:
    """The method is of second order in the step: the value for none from two."""
    found = []
    for n in sizes:
        at, old = np.linspace(0.0, 1.0, n + 1), np.linspace(0.0, 1.0, len(path))
        path, action = least_action_in_time(drift, slope, np.stack([np.interp(at, old, c) for c in path.T], -1), T)
        found.append(action)
    return found[1] + (found[1] - found[0]) / 3.0


def _rows(*rows: tuple[Array, Array]) -> Array:
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _maier_stein(beta: float) -> fps.Process:
    drift = ["x - x**3 - beta*x*y**2", "-(1 + x**2)*y"]
    return fps.Process.from_drift(drift, HALF, variables="x y", params={"beta": beta})


def _maier_stein_in_time(beta: float, quick: bool) -> float:
    def drift(q: Array) -> Array:
        x, y = q.T
        return np.stack([x - x**3 - beta * x * y**2, -(1 + x**2) * y], -1)

    def slope(q: Array) -> Array:
        x, y = q.T
        return _rows((1 - 3 * x**2 - beta * y**2, -2 * beta * x * y), (-2 * x * y, -(1 + x**2)))

    u = np.linspace(0.0, 1.0, 1001)
    return _extrapolated(drift, slope, np.stack([u - 1.0, 0.8 * u * (1 - u)], -1), 24.0, (1000, 2000) if quick else (4000, 8000))


def _van_der_pol_in_time(loop: Array, period: float, target: Array, quick: bool) -> float:
    def drift(q: Array) -> Array:
        x, y = q.T
        return np.stack([x - x**3 / 3 + y - y**3 / 9, x + 0.9], -1)

    def slope(q: Array) -> Array:
        x, y = q.T
        return _rows((1 - x**2, 1 - y**2 / 3), (np.ones_like(x), np.zeros_like(x)))

    turns, tail, lowest = 5, 16.0, math.inf
    T = turns * period + tail
    for phase in range(0, len(loop), len(loop) // 4):
        turned = np.roll(loop, -phase, axis=0)
        closed, t = np.concatenate([np.tile(turned, (turns, 1)), turned[:1]]), np.linspace(0.0, T, 2001)
        clock = np.linspace(0.0, turns * period, len(closed))
        path = np.stack([np.interp(t, clock, c) for c in closed.T], -1)
        late = t > turns * period
        path[late] = turned[0] + ((t[late] - turns * period) / tail)[:, None] * (target - turned[0])
        path[-1] = target
        lowest = min(lowest, _extrapolated(drift, slope, path, T, (2000, 4000) if quick else (4000, 8000)))
    return lowest


def _figure(paths: dict[float, fps.Path], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for beta, found in paths.items():
        x, y = found.points.T
        left.plot(x, np.abs(y), label=f"beta = {beta:g}, S = {found.action.value:.4f}")
    left.set(xlabel="x", ylabel="|y|", title="Maier-Stein: from (-1, 0) to the saddle")
    left.legend(frameon=False, fontsize=8)
    U = fps.potentials.styblinski_tang()
    floors = np.geomspace(1e-3, 10.0, 17)
    actions = [
        fps.minimum_action_path(fps.Process(U, fps.Noise.hessian(U, scale=1.0, floor=float(f))), -2.903534, 0.156731).action.value
        for f in floors
    ]
    right.semilogx(floors, actions, "o-", ms=3)
    right.set(xlabel="floor under |f''|", ylabel="action", title="curvature noise: the action diverges")
    figure.savefig(path, dpi=120)
