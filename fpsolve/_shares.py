"""Rates of entering one of two regions: in which of them the edges end that leave what lies between."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._cuts import Cut, wrapped
from .grid import Grid

__all__ = ["rate_into_b"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Lines beside the end of an edge, per cell across; up to how many cells away they lie, and how far along them, both ways, the
#: surface is searched (cells).
_LINES, _BESIDE, _FAR = 8, 1, 3
#: Points per cell at which a line is searched for the surface, and halvings of the piece that crosses it; half as many find the
#: place between two lines at which one region follows the other.
_SEARCH, _HALVINGS = 8, 16


def rate_into_b(grid: Grid, between: Any, masks: tuple[Mask, Mask, Mask], cut: Cut) -> Array:
    """Rates (n,) of entering b, of those by which cells between a and b are left.

    An edge ends in the region at its end, which is exact but where the regions meet. There it ends in both, as far as the surface
    near its end belongs to each: on a smooth surface of second order in the cell width for values away from there, but for some
    hundredths of a cell in where they meet. The end alone would place that to within half a cell.
    """
    rates = np.zeros(grid.size)
    if cut.cells.size == 0:
        return rates
    centre = np.stack(np.unravel_index(cut.cells, grid.shape), axis=-1)[:, None, :] + 0.5
    used = cut.surface & (cut.rates > 0.0)
    ends = centre + np.where(used, cut.fraction, 0.0)[:, :, None] * cut.arms
    at = wrapped(grid, grid._locate(ends))
    g_a, g_b = between.a.g(at), between.b.g(at)
    in_b = g_b < g_a
    unclear = used & ((np.maximum(g_a, g_b) <= 0.0) | (g_a == g_b))
    if unclear.any():  # one potential, two basins: the one that is nearer half a cell on
        on = ends + 0.5 * cut.arms / np.abs(cut.arms).max(axis=2, initial=1, keepdims=True)
        in_b = np.where(unclear, ~_nearer_a(*masks[:2], grid, on), in_b)
    part = in_b.astype(float)
    if grid.dim > 1 and used.any():
        reach = _FAR + _BESIDE + int(np.abs(cut.arms[used]).max())  # as far as a line finds the surface where that is steep
        meet = used & _where_both(grid, cut, used & ~in_b, used & in_b, reach)
        if meet.any():
            found = _part_of_surface(grid, between, ends[meet], cut.arms[meet])
            part[meet] = np.where(np.isnan(found), part[meet], found)
    rates[cut.cells] = np.sum(np.where(used, cut.rates * part, 0.0), axis=1)
    return rates


def _nearer_a(in_a: Mask, in_b: Mask, grid: Grid, at: Array) -> Mask:
    """Whether the cells at cell coordinates (..., d) lie nearer to a than to b."""
    from scipy import ndimage

    spacing = [float(w.mean()) for w in grid.widths]
    around = [n // 2 if sides[0] == "periodic" else 0 for n, sides in zip(grid.shape, grid.boundary, strict=True)]
    masks = [np.pad(mask, [(k, k) for k in around], mode="wrap") for mask in (in_a, in_b)]
    far_a, far_b = (ndimage.distance_transform_edt(~mask, sampling=spacing) for mask in masks)
    index = np.floor(at).astype(np.int64)
    for axis, (n, k) in enumerate(zip(grid.shape, around, strict=True)):
        index[..., axis] = index[..., axis] % n + k if k else np.clip(index[..., axis], 0, n - 1)
    cell = tuple(np.moveaxis(index, -1, 0))
    return np.asarray(far_a[cell] <= far_b[cell])


def _where_both(grid: Grid, cut: Cut, to_a: Mask, to_b: Mask, reach: int) -> Mask:
    """Arms (m, 2 K + 2 d) within `reach` cells of which some the same way, along one axis in the main, end in a, and others in b.

    Where a and b only face each other, across a gap, the arms to them go opposite ways: nothing is to be shared.
    """
    from scipy import ndimage

    mode = ["wrap" if sides[0] == "periodic" else "constant" for sides in grid.boundary]
    longest = np.abs(cut.arms).argmax(axis=2)
    way = 2 * longest + (np.take_along_axis(cut.arms, longest[..., None], axis=2)[..., 0] > 0)
    both = np.zeros(to_a.shape, bool)
    for k in range(2 * grid.dim):
        mine = way == k
        if not ((to_a & mine).any() and (to_b & mine).any()):
            continue
        near = np.ones(cut.cells.size, bool)
        for ends in (to_a, to_b):
            seen = np.zeros(grid.size, bool)
            seen[cut.cells[(ends & mine).any(axis=1)]] = True
            near &= ndimage.maximum_filter(seen.reshape(grid.shape), size=2 * reach + 1, mode=mode).ravel()[cut.cells]
        both |= mine & near[:, None]
    return both


def _part_of_surface(grid: Grid, between: Any, ends: Array, arms: NDArray[np.int64]) -> Array:
    """Part of b in the surface (k,) that lines along `arms` (k, d) beside their ends (k, d) meet; NaN where they do not tell.

    Lines lie up to `_BESIDE` cells beside the arm, across its longest component, all in cell coordinates. Arms of one direction are
    one cell apart, so that their lines cover the surface evenly, and more than once: the rates of single edges are uneven from cell
    to cell, and average out. Between neighbouring lines of which one ends in a, the other in b, the change is found by bisection.
    """
    width = 2 * _BESIDE * _LINES
    across, last = (np.arange(4) - 1.5) * _BESIDE / 2, np.linspace(-_BESIDE, _BESIDE, width + 1)
    shifts = np.array(list(itertools.product(*[across] * (grid.dim - 2), last)))
    shifts[:, :-1] += shifts[:, -1:] / 4  # in space four rows, aslant: wherever along either axis the regions meet, a row passes it
    # one set of shifts for each axis that may be the longest
    beside = np.stack([np.insert(shifts, k, 0.0, axis=1) for k in range(grid.dim)])[np.abs(arms).argmax(axis=1)]
    start, along = ends[:, None, :] + beside, (arms / np.abs(arms).max(axis=1, keepdims=True))[:, None, :]
    side = _side(grid, between, start, along).reshape(len(ends), -1, width + 1)
    start = start.reshape(*side.shape, grid.dim)
    left, right = side[..., :-1], side[..., 1:]
    change = left + right == 1.0
    at, way, first = start[..., :-1, :][change], (start[..., 1:, :] - start[..., :-1, :])[change], left[change]
    low, high = np.zeros(len(at)), np.ones(len(at))
    for _ in range(_HALVINGS // 2 if len(at) else 0):
        middle = 0.5 * (low + high)
        there = _side(grid, between, (at + middle[:, None] * way)[:, None, :], along[np.nonzero(change)[0]])[:, 0]
        low, high = np.where(there == first, middle, low), np.where(there == first, high, middle)
    until = np.ones(change.shape)
    until[change] = low
    parts = until * left + (1.0 - until) * right
    known = np.isfinite(parts)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, parts, 0.0).sum(axis=(1, 2)) / known.sum(axis=(1, 2)))


def _side(grid: Grid, between: Any, start: Array, along: Array) -> Array:
    """Where lines start + t along (k, lines, d) go out nearest to t = 0: 1 in b, 0 in a, NaN where they do not or it is unclear.

    Beyond the sides of the grid, where regions need not be defined, is the mirror image, or the next period.
    """

    def g(t: Any) -> tuple[Array, Array]:
        at = start + np.broadcast_to(t, start.shape[:-1])[..., None] * along
        for axis, (n, sides) in enumerate(zip(grid.shape, grid.boundary, strict=True)):
            if sides[0] != "periodic":
                at[..., axis] = np.abs((at[..., axis] + n) % (2 * n) - n)
        at = wrapped(grid, grid._locate(at))
        return np.asarray(between.a.g(at)), np.asarray(between.b.g(at))

    low, high, nearest = (np.full(start.shape[:-1], value) for value in (0.0, 0.0, np.inf))
    before = np.zeros(start.shape[:-1])
    for t in np.linspace(-_FAR, _FAR, 2 * _FAR * _SEARCH + 1):
        now, distance = np.minimum(*g(t)), abs(t - 0.5 / _SEARCH)
        # rounding must not hide a surface that coincides with the wall
        here = (0.0 < before) & (before < np.inf) & (now <= 1e-9 * before) & (distance < nearest)
        low, high, nearest = np.where(here, t - 1.0 / _SEARCH, low), np.where(here, t, high), np.where(here, distance, nearest)
        before = now
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        out = np.minimum(*g(middle)) > 0.0
        low, high = np.where(out, middle, low), np.where(out, high, middle)
    a, b = g(high)
    return np.where(np.isfinite(nearest) & (np.maximum(a, b) > 0.0), b < a, np.nan)
