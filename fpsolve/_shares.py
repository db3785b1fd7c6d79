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

#: Lines beside the end of an edge, per axis and cell; how far they lie (cells), and where along them the surface is searched.
_LINES, _BESIDE, _FAR = 8, 1, 3
#: Points per cell at which a line is searched for the surface, and halvings of the piece that crosses it.
_SEARCH, _HALVINGS = 8, 16


def rate_into_b(grid: Grid, between: Any, masks: tuple[Mask, Mask, Mask], cut: Cut) -> Array:
    """Rates (n,) of entering b, of those by which cells between a and b are left.

    An edge ends in the region at its end, which is exact but where the regions meet. There it ends in both, as far as the surface
    near its end belongs to each: of second order in the cell width for values away from there, but for a few hundredths of a cell.
    The end alone would place the meeting to within half a cell.
    """
    rates = np.zeros(grid.size)
    if cut.cells.size == 0:
        return rates
    centre = np.stack(np.unravel_index(cut.cells, grid.shape), axis=-1)[:, None, :] + 0.5
    ends = centre + cut.fraction[:, :, None] * cut.arms
    at = wrapped(grid, grid._locate(ends))
    in_b = between.b.g(at) <= 0.0
    unclear = (between.a.g(at) <= 0.0) == in_b
    if unclear.any():  # one potential, two basins, or a surface that is a wall: the nearer one
        in_b = np.where(unclear, ~_nearer_a(*masks[:2], grid).ravel()[cut.cells][:, None], in_b)
    part = in_b.astype(float)
    used = cut.surface & (cut.rates > 0.0)
    if grid.dim > 1 and used.any():
        reach = 1 + _BESIDE + int(np.abs(cut.arms[used]).max())
        meet = used & _where_both(grid, cut.cells, used & ~in_b, used & in_b, reach)[:, None]
        if meet.any():
            found = _part_of_surface(grid, between, ends[meet], cut.arms[meet])
            part[meet] = np.where(np.isnan(found), part[meet], found)
    rates[cut.cells] = np.sum(np.where(used, cut.rates * part, 0.0), axis=1)
    return rates


def _nearer_a(in_a: Mask, in_b: Mask, grid: Grid) -> Mask:
    """Cells that lie nearer to a than to b."""
    from scipy import ndimage

    spacing = [float(w.mean()) for w in grid.widths]
    far_a = ndimage.distance_transform_edt(~in_a, sampling=spacing)
    return np.asarray(far_a <= ndimage.distance_transform_edt(~in_b, sampling=spacing))


def _where_both(grid: Grid, cells: NDArray[np.int64], to_a: Mask, to_b: Mask, reach: int) -> Mask:
    """Cells (m,) within `reach` cells of which edges end in a, and others in b."""
    from scipy import ndimage

    mode = ["wrap" if sides[0] == "periodic" else "constant" for sides in grid.boundary]
    both = np.ones(cells.size, bool)
    for ends in (to_a, to_b):
        seen = np.zeros(grid.size, bool)
        seen[cells[ends.any(axis=1)]] = True
        both &= ndimage.maximum_filter(seen.reshape(grid.shape), size=2 * reach + 1, mode=mode).ravel()[cells]
    return both


def _part_of_surface(grid: Grid, between: Any, ends: Array, arms: NDArray[np.int64]) -> Array:
    """Part of b in the surface (k,) that lines along `arms` (k, d) beside their ends (k, d) meet; NaN where they do not tell.

    Lines lie up to `_BESIDE` cells beside the arm, across its longest component: those of all arms of one direction cover the
    surface evenly. Where a line crosses the surface, nearest to the end, g_b - g_a tells b from a; it is linear between lines.
    """
    width = 2 * _BESIDE * _LINES
    across, last = (np.arange(4) - 1.5) * _BESIDE / 2, np.linspace(-_BESIDE, _BESIDE, width + 1)  # in space a midpoint rule will do
    shifts = np.array(list(itertools.product(*[across] * (grid.dim - 2), last)))
    beside = np.stack([np.insert(shifts, k, 0.0, axis=1) for k in range(grid.dim)])[np.abs(arms).argmax(axis=1)]
    origin, along = ends[:, None, :] + beside, (arms / np.abs(arms).max(axis=1, keepdims=True))[:, None, :]

    def g(t: Any) -> tuple[Array, Array]:
        at = wrapped(grid, grid._locate(origin + np.broadcast_to(t, origin.shape[:2])[..., None] * along))
        return np.asarray(between.a.g(at)), np.asarray(between.b.g(at))

    steps = np.linspace(-_FAR, _FAR, 2 * _FAR * _SEARCH + 1)
    outside = np.stack([np.minimum(*g(t)) > 0.0 for t in steps])
    distance = np.where(outside[:-1] & ~outside[1:], np.abs(steps[:-1] + steps[1:])[:, None, None], np.inf)
    nearest = distance.argmin(axis=0)
    low, high = steps[nearest], steps[nearest + 1]
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        out = np.minimum(*g(middle)) > 0.0
        low, high = np.where(out, middle, low), np.where(out, high, middle)
    a, b = g(high)
    told = np.isfinite(distance.min(axis=0)) & ((a > 0.0) | (b > 0.0))
    tells = np.where(told, b - a, np.nan).reshape(len(ends), -1, width + 1)
    left, right = tells[..., :-1], tells[..., 1:]
    with np.errstate(invalid="ignore"):
        parts = (np.maximum(-left, 0.0) + np.maximum(-right, 0.0)) / (np.abs(left) + np.abs(right))
        known = np.isfinite(parts)
        return np.asarray(np.where(known, parts, 0.0).sum(axis=(1, 2)) / known.sum(axis=(1, 2)))
