"""Multilinear interpolation of cell-centre values on a grid, for `Density.at` and `Field.at`."""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._checks import numbers

if TYPE_CHECKING:
    from fpsolve.grid import Grid

__all__ = ["multilinear"]

Array = npt.NDArray[np.float64]


def _axis(grid: "Grid", axis: int, x: Array) -> tuple[Any, Any, Array, Any]:
    """Left index, right index, weight of the right one and "inside" for the coordinate x along one axis.

    Beyond the outermost centres the weight leaves [0, 1]: the line through the two last centres is continued to the wall.
    """
    centers, edges = grid.centers[axis], grid.edges[axis]
    n, low, high = centers.size, edges[0], edges[-1]
    if "periodic" in grid.boundary[axis]:
        inside = np.isfinite(x)
        x = low + np.mod(np.where(inside, x, low) - low, high - low)
        right = np.searchsorted(centers, x, side="right")
        left = (right - 1) % n
        gap = np.where((right == 0) | (right == n), centers[0] + (high - low) - centers[-1], 0.0)
        right = right % n
        gap = np.where(gap > 0.0, gap, centers[right] - centers[left])
        return left, right, np.mod(x - centers[left], high - low) / gap, inside
    inside = (x >= low) & (x <= high)
    x = np.clip(x, low, high)  # what lies outside is not computed: 1e308 would overflow
    if n == 1:
        zero = np.zeros(x.shape, dtype=np.intp)
        return zero, zero, np.zeros_like(x), inside
    left = np.clip(np.searchsorted(centers, x, side="right") - 1, 0, n - 2)
    return left, left + 1, (x - centers[left]) / (centers[left + 1] - centers[left]), inside


def multilinear(grid: "Grid", values: Array, points: npt.ArrayLike, *, outside: float, nonnegative: bool = False) -> Array:
    """Interpolate values (grid.shape) at points (..., d); `outside` is the answer beyond the grid.

    With `nonnegative`, extrapolation next to a wall stops at zero where all values around are nonnegative.

    Raises
    ------
    ValueError
        If the last axis of `points` is not the dimension of the grid.
    """
    x = numbers("points", points)
    if grid.dim == 1 and x.ndim == 0:
        x = x[None]
    if x.ndim == 0 or x.shape[-1] != grid.dim:
        hint = "; a list of 1-D points x has shape (n, 1): pass x[:, None]" if grid.dim == 1 else ""
        raise ValueError(f"at: points must have shape (..., {grid.dim}), got {x.shape}{hint}")
    unknown = np.isnan(x).any(axis=-1)
    pieces = [_axis(grid, k, x[..., k]) for k in range(grid.dim)]
    inside = np.logical_and.reduce([p[3] for p in pieces])
    result = np.zeros(x.shape[:-1])
    lowest = np.full(x.shape[:-1], np.inf)
    for corner in itertools.product((0, 1), repeat=grid.dim):
        weight = np.ones(x.shape[:-1])
        for side, (_, _, w, _) in zip(corner, pieces, strict=True):
            weight = weight * (w if side else 1.0 - w)
        value = values[tuple(p[side] for side, p in zip(corner, pieces, strict=True))]
        # a corner without weight must not count, even where its value is infinite
        result = result + np.where(weight == 0.0, 0.0, weight * np.where(weight == 0.0, 0.0, value))
        lowest = np.minimum(lowest, value)
    if nonnegative:
        result = np.where((lowest >= 0.0) & (result < 0.0), 0.0, result)
    return np.where(unknown, np.nan, np.where(inside, result, outside))
