"""Least action on a line: there is one curve, and its action is a quadrature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from .process import Process
from .results import Assumption, Estimate, Path

__all__ = ["IMPERMEABLE", "POSITIVE", "action_on_a_line", "growth", "lowest_place"]

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

#: Names of the assumptions about D along a path.
POSITIVE, IMPERMEABLE = "D is positive definite along the path", "permeable: no zero of D on the path with inward drift"
#: Samples in which zeros of the drift and of D are looked for, and panels of the quadrature.
SAMPLES, PANELS = 4097, 256
#: D below this part of its largest value on the path is a zero of D.
NO_NOISE = 1e-11
#: An integrand that grows like this or a higher power of 1/distance has no finite integral.
DIVERGES = 0.95


def growth(integrand: Function, at: float, reach: float) -> float:
    """Exponent p of an integrand that grows like distance^-p towards `at`, from distances of 1e-3 and 1e-5 of `reach`."""
    powers = [0.0]
    for side in (-1.0, 1.0):
        with np.errstate(all="ignore"):
            far, near = integrand(at + side * reach * np.array([1e-3, 1e-5]))
        if np.isfinite(far) and np.isfinite(near) and far > 0.0 and near > 0.0:
            powers.append(float(np.log(near / far) / np.log(100.0)))
    return max(powers)


def lowest_place(function: Function, low: float, high: float) -> float:
    """Where a function is lowest between two places, by parts: it may have a kink there, or touch zero like a root."""
    at = 0.5 * (low + high)
    for _ in range(40):
        x = np.linspace(low, high, 9)
        k = int(np.argmin(function(x)))
        at, low, high = float(x[k]), float(x[max(k - 1, 0)]), float(x[min(k + 1, 8)])
    return at


def action_on_a_line(process: Process, a: float, b: float, rtol: float) -> Path:
    """int_a^b max(0, -b direction)/D dx, panel by panel between the zeros of the drift and of D."""
    sign = 1.0 if b > a else -1.0
    code, slope = process.weak_drift_code, process.weak_drift_code.jacobian()

    def drift(x: Array) -> Array:
        return code.evaluate(x[:, None], process.params)[:, 0]

    def diffusion(x: Array) -> Array:
        return np.asarray(process.diffusion(x[:, None])[:, 0, 0])

    def integrand(x: Array) -> Array:
        uphill = np.maximum(-sign * drift(x), 0.0)
        with np.errstate(all="ignore"):
            return np.asarray(np.where(uphill > 0.0, uphill / diffusion(x), 0.0))

    grid = np.linspace(a, b, SAMPLES)
    zeros, holes = _zeros_of_drift(drift, grid), _holes(diffusion, grid)
    closed = [x for x in holes if growth(integrand, x, abs(b - a)) >= DIVERGES]
    points = np.array(sorted({*np.linspace(a, b, PANELS + 1).tolist(), *zeros, *holes}, key=lambda x: sign * x))
    beside = np.isin(points[:-1], closed) | np.isin(points[1:], closed)
    pieces, error = _integrate(integrand, points, ~beside, rtol)
    pieces[beside] = np.inf
    total = float(np.sum(pieces))
    notes = _notes(closed, holes, drift)
    estimate = Estimate(total, discretization_error=0.0 if closed else error, assumptions=notes, method="quadrature")
    fixed = np.array(zeros).reshape(-1, 1)
    return Path(
        points[:, None],
        estimate,
        np.concatenate([[0.0], np.cumsum(pieces)]),
        drift(points)[:, None],
        fixed,
        (slope.evaluate(fixed, process.params)[:, 0] > 0.0).astype(int) if zeros else np.empty(0, int),
        "quadrature",
        tuple(str(note) for note in notes if note.status == "failed"),
    )


def _notes(closed: list[float], holes: list[float], drift: Function) -> tuple[Assumption, ...]:
    if closed:
        x = closed[0]
        detail = f"impermeable: D = 0 on the path with inward drift {drift(np.array([x]))[0]:.4g} at x = {x:.6g}"
        return (Assumption(IMPERMEABLE, "failed", detail),)
    if holes:
        return (Assumption(POSITIVE, "failed", f"D = 0 at x = {holes[0]:.6g}, where the action stays finite"),)
    return (Assumption(POSITIVE, "held"),)


def _zeros_of_drift(drift: Function, grid: Array) -> list[float]:
    """Isolated zeros of the drift, in the order of `grid`: sign changes between neighbours, and zeros on the grid."""
    b = drift(grid)
    at = b == 0.0
    alone = at & ~np.concatenate([[False], at[:-1]]) & ~np.concatenate([at[1:], [False]])
    zeros = [float(x) for x in grid[alone]]
    for i in np.flatnonzero(b[1:] * b[:-1] < 0.0):
        zeros.append(float(brentq(lambda x: float(drift(np.array([x]))[0]), grid[i], grid[i + 1], xtol=1e-15)))
    for end in (float(grid[0]), float(grid[-1])):  # an end that is a zero but for the digits it was given with
        near = abs(float(drift(np.array([end]))[0])) < 1e-6 * np.abs(b).max()
        if near and not any(abs(x - end) < abs(grid[1] - grid[0]) for x in zeros):
            zeros.append(end)
    return sorted(zeros, key=lambda x: abs(x - grid[0]))


def _holes(diffusion: Function, grid: Array) -> list[float]:
    """Zeros of D: minima of the samples, narrowed down, where D falls below a tiny part of its largest value."""
    D = diffusion(grid)
    if not np.all(np.isfinite(D)) or D.min() < -1e-12 * D.max() or not D.max() > 0.0:
        i = int(np.argmin(np.where(np.isfinite(D), D, -np.inf)))
        raise ValueError(f"D must be finite, >= 0 and not zero throughout, but is {D[i]:.6g} at x = {grid[i]:.6g}")
    inner = np.flatnonzero((D[1:-1] <= D[:-2]) & (D[1:-1] <= D[2:])) + 1
    places = [float(grid[i]) for i in (0, -1) if D[i] <= NO_NOISE * D.max()]
    for i in inner[np.argsort(D[inner])][:16]:
        x = lowest_place(diffusion, float(grid[i - 1]), float(grid[i + 1]))
        if float(diffusion(np.array([x]))[0]) <= NO_NOISE * D.max():
            places.append(x)
    return places


def _integrate(integrand: Function, edges: Array, wanted: NDArray[np.bool_], rtol: float) -> tuple[Array, float]:
    """Integrals over the panels that are wanted, and their summed error; panels are halved where Gauss' rule does not settle."""
    node, weight = np.polynomial.legendre.leggauss(10)

    def rule(low: Array, high: Array) -> Array:
        x = low[:, None] + 0.5 * (high - low)[:, None] * (node + 1.0)
        values = integrand(x.ravel()).reshape(x.shape)
        return np.asarray((np.where(np.isfinite(values), values, 0.0) @ weight) * 0.5 * np.abs(high - low))

    low, high, owner = edges[:-1][wanted], edges[1:][wanted], np.flatnonzero(wanted)
    total, error = np.zeros(len(edges) - 1), 0.0
    whole = rule(low, high)
    for _ in range(45):  # then a panel is as narrow as rounding next to an integrable singularity
        middle = 0.5 * (low + high)
        halves = rule(low, middle), rule(middle, high)
        change = np.abs(halves[0] + halves[1] - whole)
        more = change > rtol * max(float(np.sum(total) + np.sum(whole)), 1e-300) / (8.0 * len(total))
        np.add.at(total, owner[~more], (halves[0] + halves[1])[~more])
        error += float(np.sum(change[~more]))
        if not more.any():
            break
        low, high = np.concatenate([low[more], middle[more]]), np.concatenate([middle[more], high[more]])
        owner, whole = np.tile(owner[more], 2), np.concatenate([halves[0][more], halves[1][more]])
    else:
        np.add.at(total, owner, whole)
        error += float(np.sum(np.abs(whole)))
    return total, error + 4.0 * np.finfo(float).eps * float(np.sum(total))
