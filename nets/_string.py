"""Paths that the gradient flow leaves as they are, on any landscape: the string method, with long stable steps.

W. E, W. Ren, E. Vanden-Eijnden, J. Chem. Phys. 126, 164103 (2007): every image flows downhill for a while, then all are put at
equal distances along the curve through them. There are no springs, and no tangents that could kink the path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._flow import STAGES, chebyshev_step
from ._losses import Evaluate

__all__ = ["Curve", "Relaxed", "relax"]

Array = NDArray[np.float64]

#: Steps of the power method for the largest curvature, and the factor by which it is taken for too low.
POWER, MARGIN = 10, 1.5
#: Evaluations in a step, at most.
MOST_STAGES = 16
#: The flow of a step is no longer than this part of the distance of neighbours.
LEAP = 0.5
#: The highest loss is looked up after so many steps, at so many places of each segment.
LOOK, PLACES = 5, 4
#: After so many steps without a lower one there will be none: images have found low places that the curve between them has not.
PATIENCE = 50
#: Points in a segment from which the length of the curve is integrated.
FINE = 32


class Curve:
    """The cubic spline through images (n, P), by its length s from 0 to `length`; `nodes` (n,) are the lengths at the images."""

    def __init__(self, images: Array) -> None:
        from scipy.interpolate import CubicHermiteSpline, CubicSpline

        gaps = np.linalg.norm(np.diff(images, axis=0), axis=1)
        u = np.concatenate([[0.0], np.cumsum(gaps)])
        self._spline = CubicSpline(u, images)
        self._slope = self._spline.derivative()
        self._u = np.concatenate([u[:-1, None] + gaps[:, None] * np.arange(FINE) / FINE, [[u[-1]] * FINE]]).ravel()[: 1 - FINE]
        speed = np.linalg.norm(self._slope(self._u), axis=1)
        middle = np.linalg.norm(self._slope(0.5 * (self._u[1:] + self._u[:-1])), axis=1)
        pieces = np.diff(self._u) * (speed[1:] + speed[:-1] + 4.0 * middle) / 6.0  # Simpson's rule
        self._s = np.concatenate([[0.0], np.cumsum(pieces)])
        self._place = CubicHermiteSpline(self._s, self._u, 1.0 / speed)
        self.nodes = self._s[::FINE]
        self.length = float(self._s[-1])

    def __call__(self, s: Array) -> tuple[Array, Array]:
        """Points and unit tangents (m, P) at lengths s (m,)."""
        u = self._place(s)
        slope = self._slope(u)
        return self._spline(u), slope / np.linalg.norm(slope, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Images (n, P), how many steps and evaluations it took, largest residual before each step, whether it is small enough."""

    images: Array
    steps: int
    evaluations: int
    history: Array
    converged: bool


def across(gradient: Array, tangent: Array) -> Array:
    """The part of gradients (m, P) across unit tangents."""
    return np.asarray(gradient - (gradient * tangent).sum(axis=1, keepdims=True) * tangent)


class _Stiffness:
    """About the largest curvature at the images: the power method on differences of gradients, one step at a time."""

    def __init__(self, evaluate: Evaluate, points: Array, gradients: Array) -> None:
        self.evaluate = evaluate
        self.v = gradients + 1e-8 * np.random.default_rng(0).standard_normal(points.shape)
        self.top = 0.0
        for _ in range(POWER):
            self.update(points, gradients)

    def update(self, points: Array, gradients: Array) -> None:
        self.v /= np.maximum(np.linalg.norm(self.v, axis=1, keepdims=True), 1e-300)
        small = 1e-5 * (1.0 + np.linalg.norm(points, axis=1, keepdims=True))
        turned = (self.evaluate(points + small * self.v)[1] - gradients) / small
        size = np.linalg.norm(turned, axis=1)
        moved = (size > 0.0) & np.isfinite(size)
        self.v[moved] = turned[moved]
        self.top = max(float(size[moved].max(initial=0.0)), 0.7 * self.top)


def relax(evaluate: Evaluate, images: Array, *, tolerance: float, max_steps: int, show: Callable[[], Any]) -> Relaxed:
    """Let the inner images flow until the gradient across the curve is at most `tolerance` at all of them; the ends stay.

    Where that is not reached, the images are those between which the highest loss was lowest.
    """
    curve = Curve(images)
    even = np.linspace(0.0, 1.0, len(images))[1:-1]
    fine = np.linspace(0.0, 1.0, PLACES * (len(images) - 1) + 1)
    inner, tangent = curve(even * curve.length)
    gradient = evaluate(inner)[1]
    stiffness = _Stiffness(evaluate, inner, gradient)
    evaluations, history, best = (1 + POWER) * len(inner), list[float](), (np.inf, 0, images, np.inf)
    for step in range(max_steps + 1):
        history.append(float(np.linalg.norm(across(gradient, tangent), axis=1).max()))
        over = history[-1] <= tolerance or step == max_steps or not np.isfinite(history[-1])
        if over or step % LOOK == 0:
            top = float(evaluate(curve(fine * curve.length)[0])[0].max())
            evaluations += len(fine)
            if top <= best[0] or history[-1] <= tolerance:
                best = top, step, np.concatenate([images[:1], inner, images[-1:]]), history[-1]
        if over or step - best[1] >= PATIENCE:
            break
        h, stages = _step(stiffness.top, float(np.linalg.norm(gradient, axis=1).max()), curve.length / (len(images) - 1))
        inner = chebyshev_step(evaluate, inner, gradient, np.full(len(inner), h), stages)
        curve = Curve(np.concatenate([images[:1], inner, images[-1:]]))
        inner, tangent = curve(even * curve.length)
        gradient = evaluate(inner)[1]
        stiffness.update(inner, gradient)
        evaluations += (stages + 2) * len(inner)
        show()
    return Relaxed(best[2], len(history) - 1, evaluations, np.array(history), best[3] <= tolerance)


def _step(stiff: float, steepest: float, gap: float) -> tuple[float, int]:
    """Time of flow and stages: as long as is stable, no further than LEAP gaps."""
    rate = MARGIN * stiff / 0.65
    reach = LEAP * gap / max(steepest, 1e-300)
    h = min(reach, (MOST_STAGES**2 - 1.0) / max(rate, 1e-300))
    return h, next(s for s in STAGES if s >= MOST_STAGES or s * s - 1.0 >= rate * h)
