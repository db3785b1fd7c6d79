"""Gradient flow of many walkers, each with its own steps: stabilised Runge-Kutta-Chebyshev of second order, error controlled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._losses import Evaluate

__all__ = ["AT_REST", "BELOW", "NOT_FINITE", "UNFINISHED", "Flow", "flow", "highest_between"]

Array = NDArray[np.float64]

#: Evaluations per step, as many as the step needs: it is stable up to 0.65 (stages^2 - 1) over the largest curvature.
STAGES = (4, 8, 16, 32, 64, 128)
#: The estimate of the largest curvature is taken for too low by this factor.
MARGIN = 1.25
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
def _chebyshev(s: int) -> tuple[Any, ...]:
    """Coefficients of the damped scheme (Sommeijer, Shampine & Verwer, J. Comput. Appl. Math. 88, 315, 1998)."""
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


def chebyshev_step(evaluate: Evaluate, y: Array, g: Array, h: Array, stages: int) -> Array:
    """One step of dy/dt = -gradient, lengths h (n,), from y with gradient g."""
    first, rows = _chebyshev(stages)
    step = h[:, None]
    older: Array = y
    old: Array = y - first * step * g
    for mu, nu, new, start in rows:
        force = evaluate(old)[1]
        older, old = old, (1.0 - mu - nu) * y + mu * old + nu * older - step * (new * force + start * g)
    return old


class _Walkers:
    """All that a flow keeps of each walker."""

    def __init__(self, evaluate: Evaluate, points: Array, tolerance: float, max_time: float) -> None:
        n = len(points)
        self.evaluate, self.tolerance, self.max_time = evaluate, tolerance, max_time
        self.y, self.time, self.status = points.copy(), np.zeros(n), np.full(n, UNFINISHED)
        self.loss, self.g = evaluate(self.y)
        size = np.maximum(np.linalg.norm(self.g, axis=1), 1e-300)
        self.h = np.minimum(tolerance / size, max_time)
        self.v, self.curvature = self.g / size[:, None], np.zeros(n)

    def settle(self, level: float) -> NDArray[np.intp]:
        """Walkers that go on."""
        rest = np.linalg.norm(self.g, axis=1) * self.max_time <= self.tolerance
        self.status[(self.status == UNFINISHED) & rest] = AT_REST
        self.status[self.loss <= level] = BELOW
        self.status[~np.isfinite(self.loss) | ~np.isfinite(self.g).all(axis=1)] = NOT_FINITE
        return np.flatnonzero((self.status == UNFINISHED) & (self.time < self.max_time))

    def stages(self, rows: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
        """Steps and their stages: the largest curvature by one step of the power method along the last direction, kept."""
        small = 1e-6 * (1.0 + np.linalg.norm(self.y[rows], axis=1))
        turned = self.evaluate(self.y[rows] + small[:, None] * self.v[rows])[1] - self.g[rows]
        size = np.linalg.norm(turned, axis=1)
        self.curvature[rows] = np.maximum(size / small, 0.7 * self.curvature[rows])
        moved = (size > 0.0) & np.isfinite(size)
        self.v[rows[moved]] = turned[moved] / size[moved, None]
        rate = MARGIN * self.curvature[rows] / 0.65
        step = np.minimum(self.h[rows], self.max_time - self.time[rows])
        step = np.minimum(step, (STAGES[-1] ** 2 - 1.0) / np.maximum(rate, 1e-300))
        need = np.searchsorted(STAGES, np.sqrt(1.0 + rate * step) * (1.0 - 1e-12)).clip(0, len(STAGES) - 1)
        return step, np.array(STAGES)[need]

    def advance(self, rows: NDArray[np.intp], step: Array, stages: int) -> None:
        """A step of some walkers, taken where its error is below the tolerance."""
        new = chebyshev_step(self.evaluate, self.y[rows], self.g[rows], step, stages)
        value, slope = self.evaluate(new)
        error = 0.8 * (self.y[rows] - new) - 0.4 * step[:, None] * (self.g[rows] + slope)
        error = np.linalg.norm(error, axis=1) / self.tolerance
        # along the flow L falls: a step up is an error whatever its size
        fine = np.isfinite(error) & (value <= self.loss[rows] * (1.0 + 1e-12) + 1e-300)
        error = np.where(fine, error, np.maximum(8.0, error))
        factor = np.clip(0.8 * np.maximum(error, 1e-9) ** (-1.0 / 3.0), 0.1, 5.0)
        self.h[rows] = step * np.where(np.isfinite(error), factor, 0.1)
        ok = error <= 1.0
        good = rows[ok]
        self.y[good], self.loss[good], self.g[good] = new[ok], value[ok], slope[ok]
        self.time[good] += step[ok]


def flow(evaluate: Evaluate, points: Array, *, level: float, tolerance: float, max_time: float, max_evaluations: int) -> Flow:
    """Follow d theta/dt = -grad L from each point until L <= level, the flow rests, or the limits of time and evaluations.

    The error of each step is held below `tolerance` (in the norm of theta, per step). At rest means that the rest of the flow is
    shorter than the tolerance if the gradient does not grow: |grad L| max_time <= tolerance.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        walkers = _Walkers(evaluate, points, tolerance, max_time)
        rows, spent = walkers.settle(level), np.ones(len(points), dtype=np.intp)
        while len(rows):
            step, stages = walkers.stages(rows)
            for s in np.unique(stages):
                walkers.advance(rows[stages == s], step[stages == s], int(s))
            spent[rows] += stages + 1
            rows = walkers.settle(level)
            rows = rows[spent[rows] < max_evaluations]
    return Flow(walkers.y, walkers.loss, walkers.status, int(spent.sum()))


def highest_between(evaluate: Evaluate, starts: Array, stops: Array, spacing: int) -> Array:
    """Largest loss at `spacing` points within each segment, (n,); inf where it is not a number."""
    top = np.full(len(starts), -math.inf)
    for share in np.arange(1, spacing + 1) / (spacing + 1):
        loss = evaluate((1.0 - share) * starts + share * stops)[0]
        top = np.maximum(top, np.where(np.isnan(loss), math.inf, loss))
    return top
