"""Integrals of exp(s(x)) for an s(x) that spans thousands: panels of Gauss-Legendre nodes, everything kept as logarithms.

All functions work with a 1-D coordinate; s is itself an integral, s(x) = int rate(u) du, of a smooth rate.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["cumulative", "graded", "log_double_integral"]

Array = npt.NDArray[np.float64]

_NODES = 16


@lru_cache(maxsize=1)
def _rule() -> tuple[Array, Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1] and the matrix that integrates the interpolant from 0 to every node.

    Row k of the matrix is exact for polynomials up to degree 15: P_n is integrated by (P_{n+1} - P_{n-1}) / (2n + 1).
    """
    x, w = np.polynomial.legendre.leggauss(_NODES)
    values = np.polynomial.legendre.legvander(x, _NODES)  # P_0 ... P_16 at the nodes
    order = np.arange(_NODES)
    coefficients = (values[:, :_NODES] * w[:, None]).T * (order[:, None] + 0.5)  # samples -> Legendre coefficients
    integrals = np.empty((_NODES, _NODES))
    integrals[:, 0] = x + 1.0
    integrals[:, 1:] = (values[:, 2:] - values[:, :-2]) / (2 * order[1:] + 1)
    return 0.5 * (x + 1.0), 0.5 * w, 0.5 * integrals @ coefficients


def _panels(edges: Array) -> tuple[Array, Array]:
    """Nodes (panels, 16) and widths (panels, 1)."""
    width = np.diff(edges)[:, None]
    return edges[:-1, None] + width * _rule()[0], width


def cumulative(rate: Callable[[Array], Array], points: Array, *, rtol: float = 1e-13, depth: int = 10) -> tuple[Array, float]:
    """int from points[0] to every point of `rate`, and the change of the last halving of the panels.

    Parameters
    ----------
    rate : callable
        (n, 16) coordinates -> the same shape.
    points : array (n,)
        Monotone.
    """
    previous: Array | None = None
    change = np.inf
    for level in range(depth + 1):
        edges = _refined(points, 2**level)
        nodes, width = _panels(edges)
        pieces = (rate(nodes) * width) @ _rule()[1]
        total = np.concatenate([[0.0], np.cumsum(pieces)])[:: 2**level]
        if previous is not None:
            change = float(np.max(np.abs(total - previous)))
            if change <= rtol * max(1.0, float(np.max(np.abs(total)))):
                break
        previous = total
        if edges.size > 200_000:
            break
    return total, change


def _refined(points: Array, parts: int) -> Array:
    steps = np.arange(parts) / parts
    inner = points[:-1, None] + np.diff(points)[:, None] * steps
    return np.concatenate([inner.ravel(), points[-1:]])


def log_double_integral(
    rate: Callable[[Array], Array],
    log_weight: Callable[[Array], Array],
    start: float,
    lower: float,
    upper: float,
    *,
    rtol: float = 1e-12,
    max_panels: int = 1 << 16,
) -> tuple[float, float]:
    r"""Logarithm of int_lower^upper dy exp(-s(y)) int_start^y dz exp(s(z) + log_weight(z)), with s' = rate.

    Panels are halved until the logarithm settles; returns it and its last change, an upper bound of its error once the
    rule converges, but no less than what it had to settle to: below that the change is rounding, and another on every
    processor. Nothing overflows: inner integrals are joined by logaddexp.

    Parameters
    ----------
    rate, log_weight : callable
        (n, 16) coordinates -> the same shape.
    start, lower, upper : float
        start <= lower < upper.
    """
    parts, previous, change = 64, np.nan, np.inf
    while True:
        result = _log_double(rate, log_weight, _edges(rate, start, lower, upper, parts), lower)
        change, settled = abs(result - previous), rtol * max(1.0, abs(result) * 1e-2)
        if change <= settled or parts >= max_panels:
            return result, max(change, settled)
        previous, parts = result, 2 * parts


def graded(start: float, lower: float, upper: float, parts: int) -> Array:
    """Points from start to upper, even between lower and upper, and sparser with the distance further away.

    A start that is 1e20 lengths away is reached like one that is near, which algebraic tails ask for.
    """
    length = upper - lower
    far = float(np.arcsinh((lower - start) / length))
    t = np.linspace(-far, 1.0, parts + 1)
    x = lower + length * np.where(t < 0.0, np.sinh(t), t)
    x[0], x[-1] = start, upper
    return np.unique(x)


def _edges(rate: Callable[[Array], Array], start: float, lower: float, upper: float, parts: int) -> Array:
    """About `parts` panels, each with an equal share of the graded points and of the variation of s; `lower` is an edge."""
    fine = graded(start, lower, upper, 4 * parts)
    middle = 0.5 * (fine[1:] + fine[:-1])
    variation = np.abs(rate(middle)) * np.diff(fine)
    share = 1.0 / (fine.size - 1) + variation / max(float(variation.sum()), 1e-300)
    clock = np.concatenate([[0.0], np.cumsum(share)])
    edges = np.interp(np.linspace(0.0, clock[-1], parts + 1), clock, fine)
    edges[0], edges[-1] = start, upper
    return np.unique(np.concatenate([edges, [lower]]))


def _log_double(rate: Callable[[Array], Array], log_weight: Callable[[Array], Array], edges: Array, lower: float) -> float:
    _, weights, matrix = _rule()
    nodes, width = _panels(edges)
    slope = rate(nodes) * width
    at_edges = np.concatenate([[0.0], np.cumsum(slope @ weights)])
    s = at_edges[:-1, None] + slope @ matrix.T
    log_inner = s + log_weight(nodes)
    top = log_inner.max(axis=1, keepdims=True)
    scaled = np.exp(log_inner - top) * width
    with np.errstate(divide="ignore"):
        whole = np.log(scaled @ weights) + top[:, 0]
        part = np.log(np.maximum(scaled @ matrix.T, 0.0)) + top
    before = np.concatenate([[-np.inf], np.logaddexp.accumulate(whole)[:-1]])
    outer = np.logaddexp(before[:, None], part) - s + np.log(width * weights)
    outer = outer[edges[:-1] >= lower]
    highest = outer.max()
    return float(highest + np.log(np.exp(outer - highest).sum()))
