"""Gradient flow of many walkers, each with its own steps: stabilised Runge-Kutta-Chebyshev of second order, error controlled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AT_REST", "BELOW", "NOT_FINITE", "UNFINISHED", "Evaluate", "Flow", "flow", "highest_between"]

Array = NDArray[np.float64]
Evaluate = Callable[[Array], tuple[Array, Array]]

#: Evaluations per step. The stable step is 0.65 (STAGES^2 - 1) over the largest curvature: 5.1 per evaluation, Euler's 2.
STAGES = 8
#: How a walker's flow may end: below the level; at rest above it; out of steps; not finite.
BELOW, AT_REST, UNFINISHED, NOT_FINITE = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Flow:
    """Where the flows ended: points (n, P), losses, and how (n,); loss and gradient evaluations of all."""

    points: Array
    losses: Array
    status: NDArray[np.intp]
    evaluations: int


@cache
def _chebyshev() -> tuple[Any, ...]:
    """Coefficients of the damped scheme (Sommeijer, Shampine & Verwer, J. Comput. Appl. Math. 88, 315, 1998)."""
    s = STAGES
    w0 = 1.0 + 2.0 / (13.0 * s * s)
    t, d1, d2 = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for j in range(2, s + 1):
        t.append(2.0 * w0 * t[j - 1] - t[j - 2])
        d1.append(2.0 * t[j - 1] + 2.0 * w0 * d1[j - 1] - d1[j - 2])
        d2.append(4.0 * d1[j - 1] + 2.0 * w0 * d2[j - 1] - d2[j - 2])
    w1 = d1[s] / d2[s]
    b = [0.0, 1.0 / w0, *(d2[j] / d1[j] ** 2 for j in range(2, s + 1))]
    b[0] = b[2]
    a = [1.0 - b[j] * t[j] for j in range(s + 1)]
    rows = []
    for j in range(2, s + 1):
        mu, nu, step = 2.0 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], 2.0 * b[j] * w1 / b[j - 1]
        rows.append((mu, nu, step, -a[j - 1] * step))
    return b[1] * w1, rows


def _step(evaluate: Evaluate, y: Array, g: Array, h: Array) -> Array:
    """One step of dy/dt = -gradient from y with gradient g."""
    first, rows = _chebyshev()
    step = h[:, None]
    older, old = y, y - first * step * g
    for mu, nu, new, start in rows:
        force = evaluate(old)[1]
        older, old = old, (1.0 - mu - nu) * y + mu * old + nu * older - step * (new * force + start * g)
    return old


def flow(evaluate: Evaluate, points: Array, *, level: float, tolerance: float, max_time: float, max_steps: int) -> Flow:
    """Follow d theta/dt = -grad L from each point until L <= level, the flow rests, or `max_time`.

    The error of each step is held below `tolerance` (in the norm of theta, per step). At rest means that the rest of the flow is
    shorter than the tolerance if the gradient does not grow: |grad L| max_time <= tolerance.
    """
    y = points.copy()
    n = len(y)
    loss, g = evaluate(y)
    evaluations = n
    time, status = np.zeros(n), np.full(n, UNFINISHED)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        h = np.minimum(0.1 * tolerance / np.maximum(np.linalg.norm(g, axis=1), 1e-300), max_time)
        for _ in range(max_steps):
            rest = np.linalg.norm(g, axis=1) * max_time <= tolerance
            status[(status == UNFINISHED) & rest] = AT_REST
            status[~np.isfinite(loss) | ~np.isfinite(g).all(axis=1)] = NOT_FINITE
            status[(loss <= level) & (status != NOT_FINITE)] = BELOW
            rows = np.flatnonzero((status == UNFINISHED) & (time < max_time))
            if not len(rows):
                break
            step = np.minimum(h[rows], max_time - time[rows])
            new = _step(evaluate, y[rows], g[rows], step)
            value, slope = evaluate(new)
            evaluations += STAGES * len(rows)
            error = np.linalg.norm(0.8 * (y[rows] - new) - 0.4 * step[:, None] * (g[rows] + slope), axis=1) / tolerance
            # along the flow L falls: a step up is an error whatever its size
            error = np.where(np.isfinite(error) & (value <= loss[rows] * (1.0 + 1e-12) + 1e-300), error, np.maximum(8.0, error))
            ok = error <= 1.0
            factor = np.clip(0.8 * np.where(error > 0.0, error, 1e-9) ** (-1.0 / 3.0), 0.1, 5.0)
            h[rows] = step * np.where(np.isfinite(error), factor, 0.1)
            good = rows[ok]
            y[good], loss[good], g[good], time[good] = new[ok], value[ok], slope[ok], time[good] + step[ok]
    return Flow(y, loss, status, evaluations)


def highest_between(evaluate: Evaluate, starts: Array, stops: Array, spacing: int) -> Array:
    """Largest loss at `spacing` points within each segment, (n,); inf where it is not a number."""
    top = np.full(len(starts), -math.inf)
    for share in np.arange(1, spacing + 1) / (spacing + 1):
        loss = evaluate((1.0 - share) * starts + share * stops)[0]
        top = np.maximum(top, np.where(np.isnan(loss), math.inf, loss))
    return top
