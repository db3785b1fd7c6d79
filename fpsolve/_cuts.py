"""Cells whose edges are cut: by the surface of a region that paths leave, by lines on which D vanishes.

Rates of cells at an exit surface are consistent for the backward equation (`_kernels.stencil.exit_rows`); here is the geometry:
where every edge of the stencil meets the surface or a wall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import _space as space
from ._discretize import SIDES, Stencil
from ._kernels import stencil, stencil3
from .grid import Grid
from .region import Region

__all__ = ["Cut", "exit_generator", "singular_edges", "singular_points", "wrapped"]

Array = NDArray[np.float64]

_EXIT, _NO_FLUX = -1, -2
#: Fall of the smallest eigenvalue of D between two cell centres from which D counts as vanishing there.
_SINGULAR = 1e-3


# ---- exit from a region ---------------------------------------------------------------------------------------------------


class Cut(NamedTuple):
    """Edges that end outside: of cells (m,), both ways along every offset and axis."""

    cells: NDArray[np.int64]
    #: (m, 2 K + 2 d, d), integer, and the fraction (m, 2 K + 2 d) up to the end.
    arms: NDArray[np.int64]
    fraction: Array
    #: Whether the end is the surface of the region, and not an absorbing side (m, 2 K + 2 d).
    surface: NDArray[np.bool_]
    #: Rates of leaving (m, 2 K + 2 d), 0 where an arm ends in a cell.
    rates: Array


def exit_generator(
    st: Stencil, generator: sp.csr_matrix, grid: Grid, region: Region, inside: NDArray[np.bool_],
    phi_at: Callable[[Array], Array],
) -> tuple[sp.csr_matrix, Array, Cut]:  # fmt: skip
    """Rates among the cells inside, exit rates, and by which edges; cells outside are isolated and killed at rate one."""
    flat = inside.ravel()
    cells = _near_boundary(st, grid, inside)
    target, cut, surface = _arms(st, grid, region, flat, cells)
    # without an upwind rest the arms along the axes carry nothing
    used = np.concatenate([np.repeat(st.weights[cells] > 0.0, 2, axis=1), np.repeat(st.rest[cells] != 0.0, 2, axis=1)], axis=1)
    stranger = np.asarray(abs(generator) @ (~flat).astype(float)).ravel()[cells] > 0.0
    changed = ((target == _EXIT) & used).any(axis=1) | stranger
    cells, target, cut, surface = cells[changed], target[changed], cut[changed], surface[changed]
    phi_cut = np.zeros(cut.shape)
    if st.use_phi:
        phi_cut = phi_at(_arm_points(st, grid, cells, cut).reshape(-1, grid.dim)).reshape(cut.shape)
    room = cells.size * (2 * st.weights.shape[1] + grid.dim)
    rows, cols, rates, exits = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room), np.zeros(cut.shape)
    if grid.dim == 3:
        edges = stencil3.Edges(rows, cols, rates, np.zeros(0), np.zeros(0))
        m = stencil3.exit_rows(cells, target, cut, phi_cut, space.cells(st), edges, exits)
    else:
        m = stencil.exit_rows(cells, target, cut, st.volume, st.offsets, st.weights, st.gradient, st.free, st.share, st.rest,
                              st.phi, phi_cut, rows, cols, rates, exits)  # fmt: skip
    keep = flat.copy()
    keep[cells] = False
    old = generator.tocoo()
    stay = keep[old.row] & (old.row != old.col)
    rows, cols, rates = rows[:m], cols[:m], rates[:m]
    if st.stream is not None:
        back = _thrown_back(st, cells, target)
        rows, cols, rates = (np.concatenate(pair) for pair in zip((rows, cols, rates), back, strict=True))
    entries = (np.concatenate([old.data[stay], rates]),
               (np.concatenate([old.row[stay], rows]), np.concatenate([old.col[stay], cols])))  # fmt: skip
    kill = (~flat).astype(float)
    kill[cells] = exits.sum(axis=1)
    return sp.csr_matrix(entries, shape=generator.shape), kill, Cut(cells, _arm_offsets(st, cells), cut, surface, exits)


def _thrown_back(st: Stencil, cells: NDArray[np.int64], target: NDArray[np.int64]) -> tuple[Any, Any, Any]:
    """Triplets of the specular reflection of cells whose way out along the first axis meets a wall and no exit."""
    assert st.stream is not None
    axis = 2 * st.weights.shape[1]
    ahead = np.where(st.rest[cells, 0] > 0.0, target[:, axis], target[:, axis + 1])
    back = st.stream.specular & np.isin(st.stream.rows, cells[ahead == _NO_FLUX])
    return st.stream.rows[back], st.stream.cols[back], st.stream.rates[back]


def _near_boundary(st: Stencil, grid: Grid, inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Cells inside from which an edge may lead out of the region or of the grid."""
    from scipy import ndimage

    reach = np.abs(st.offsets * (st.weights > 0.0)[:, :, None]).max(axis=(0, 1), initial=1)
    outside = ~inside
    for axis, sides in enumerate(grid.boundary):
        width = int(max(1, reach[axis]))
        mode = "wrap" if sides[0] == "periodic" else "constant"
        outside = ndimage.maximum_filter1d(outside.astype(np.uint8), 2 * width + 1, axis=axis, mode=mode, cval=1).astype(bool)
    return np.flatnonzero((inside & outside).ravel())


def _arm_points(st: Stencil, grid: Grid, cells: NDArray[np.int64], fraction: Array) -> Array:
    """Points at a fraction of every arm, shape (m, 2 K + 2 d, d); arms are straight in the coordinates of the axis maps."""
    return grid._locate(_centre(grid, cells)[:, None, :] + fraction[:, :, None] * _arm_offsets(st, cells))


def _centre(grid: Grid, cells: NDArray[np.int64]) -> Array:
    """Cell coordinates (m, d) of the centres of cells."""
    return np.asarray(np.stack(np.unravel_index(cells, grid.shape), axis=-1) + 0.5, float)


def _arm_offsets(st: Stencil, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integer offsets of all arms, in pairs (+, -): the K edges, then the axes."""
    d = st.spacing.shape[1]
    axes = np.broadcast_to(np.eye(d, dtype=np.int64), (cells.size, d, d))
    plus = np.concatenate([st.offsets[cells], axes], axis=1)
    return np.stack([plus, -plus], axis=2).reshape(cells.size, 2 * plus.shape[1], d)


def _arms(
    st: Stencil, grid: Grid, region: Region, flat: NDArray[np.bool_], cells: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Array, NDArray[np.bool_]]:
    """Where every arm leads (a cell, exit or no flux), the fraction of it inside the region, and whether it leaves that."""
    arms = _arm_offsets(st, cells)
    index = np.stack(np.unravel_index(cells, grid.shape), axis=-1)[:, None, :] + arms
    length, side = np.ones(arms.shape[:2]), np.full(arms.shape[:2], -1)
    for axis, n in enumerate(grid.shape):
        if st.sides[axis, 0] == SIDES["periodic"]:
            index[..., axis] %= n
            continue
        start = index[..., axis] - arms[..., axis]
        for which, beyond, room in ((0, index[..., axis] < 0, start + 0.5), (1, index[..., axis] >= n, n - start - 0.5)):
            to_wall = np.where(beyond, room / np.maximum(np.abs(arms[..., axis]), 1), 2.0)
            side = np.where(to_wall < length, st.sides[axis, which], side)
            length = np.minimum(length, to_wall)
    on_grid = side < 0
    target = np.where(on_grid, np.ravel_multi_index(tuple(np.moveaxis(index, -1, 0)), grid.shape, mode="clip"), _NO_FLUX)
    if cells.size == 0:
        return target, length, on_grid
    out, cut = _first_exit(st, grid, region, cells, arms, length, ~on_grid)
    elsewhere = on_grid & ~flat[target] & ~out  # beyond g < 0 of another component
    cut = np.where(out, cut, np.where(side == SIDES["absorbing"], length, 1.0))
    target = np.where(out | elsewhere | (side == SIDES["absorbing"]), _EXIT, target)
    return target, np.maximum(cut, 1e-8), out | elsewhere


def _first_exit(
    st: Stencil, grid: Grid, region: Region, cells: NDArray[np.int64], arms: NDArray[np.int64], length: Array,
    at_wall: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], Array]:  # fmt: skip
    """Whether an arm meets g >= 0 within `length`, and where first: once per cell crossed, then by bisection.

    On periodic axes g is a function on the box: where it jumps to g >= 0 at the seam, the seam is the surface.
    """
    origin, step = _centre(grid, cells)[:, None, :], arms.astype(float)
    own = region.g(grid.points()[cells])[:, None]
    steps = int(np.abs(arms).max(initial=1))
    low, high, found = np.zeros(length.shape), length.copy(), np.zeros(length.shape, bool)
    for k in range(1, steps + 1):
        t = length * k / steps
        g = region.g(wrapped(grid, grid._locate(origin + t[:, :, None] * step)))
        # rounding must not hide a surface that coincides with the wall
        hit = ~found & (g >= np.where(at_wall & (k == steps), -1e-9 * np.abs(own), 0.0))
        high = np.where(hit, t, high)
        low = np.where(found | hit, low, t)
        found |= hit
    low, high = low[found], high[found]
    start, way = np.broadcast_to(origin, step.shape)[found], step[found]
    for _ in range(45):
        middle = 0.5 * (low + high)
        at = wrapped(grid, grid._locate(start + middle[:, None] * way))
        beyond = region.g(at) >= 0.0 if middle.size else np.zeros(0, bool)
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    cut = np.ones(length.shape)
    cut[found] = high
    return found, cut


def wrapped(grid: Grid, points: Array) -> Array:
    """Points (..., d) moved into the box along periodic axes."""
    points = points.copy()
    for axis, ((lo, hi, *_), sides) in enumerate(zip(grid.axes, grid.boundary, strict=True)):
        if sides[0] == "periodic":
            points[..., axis] = lo + (points[..., axis] - lo) % (hi - lo)
    return points


# ---- where D vanishes between the cells -----------------------------------------------------------------------------------


def singular_points(process: Any, grid: Grid, region: Region, inside: NDArray[np.bool_]) -> Array:
    """Points (m, d) of the region where D vanishes across a line, a barrier that cells on both sides of it do not see.

    Candidates are pairs of neighbours from which the smallest eigenvalue of D points to zero; its minimum between them is found by
    golden section. Where D vanishes along a whole axis, or the null vector lies in the line and not across it, nothing is barred.
    """
    points = np.concatenate([at for _, _, at in singular_edges(process, grid, inside)])
    return np.asarray(points[region.g(points) < 0.0]) if len(points) else points


def singular_edges(process: Any, grid: Grid, inside: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.int64], Array]]:
    """Per axis: (axis, cells (m,), points (m, d)), D vanishing across a line at the points between the cells and the next ones."""
    d = grid.dim
    low = _smallest(process, grid.points()).reshape(grid.shape)
    found = []
    for axis, sides in enumerate(grid.boundary):
        here, there = np.moveaxis(low, axis, 0), np.roll(np.moveaxis(low, axis, 0), -1, 0)
        before, after = np.roll(here, 1, 0), np.roll(there, -1, 0)
        pick = (here - 2.0 * np.maximum(before - here, 0.0) <= 0.0) | (there - 2.0 * np.maximum(after - there, 0.0) <= 0.0)
        pick &= np.maximum(here, there) > 0.0
        pick &= np.moveaxis(inside, axis, 0) | np.roll(np.moveaxis(inside, axis, 0), -1, 0)
        if sides[0] != "periodic":
            pick[-1] = False
        cells = np.flatnonzero(np.moveaxis(pick, 0, axis).ravel())
        points, barred = np.empty((0, d)), np.zeros(0, bool)
        if cells.size:
            points, barred = _vanishing(process, grid, _centre(grid, cells), np.eye(d)[axis])
        found.append((axis, cells[barred], points[barred]))
    return found


def _smallest(process: Any, points: Array) -> Array:
    """Smallest eigenvalue of D at points (n, d), 0 for what rounding leaves of a singular tensor."""
    D = np.asarray(process.diffusion(points), float)
    values = np.linalg.eigvalsh(D)
    return np.where(values[:, 0] > 1e-12 * values[:, -1] if D.shape[1] > 1 else values[:, 0] > 0.0, values[:, 0], 0.0)


def _vanishing(process: Any, grid: Grid, start: Array, step: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Minima of the smallest eigenvalue on segments start + [0, 1] step (in cells), and whether D vanishes across a line there."""

    def place(t: Array) -> Array:
        return wrapped(grid, grid._locate(start + t[:, None] * step))

    def low(t: Array) -> Array:
        return _smallest(process, place(t))

    golden = 0.5 * (np.sqrt(5.0) - 1.0)
    a, b = np.zeros(len(start)), np.ones(len(start))
    ends = np.maximum(low(a), low(b))
    for _ in range(40):
        c, e = b - golden * (b - a), a + golden * (b - a)
        left = low(c) <= low(e)
        a, b = np.where(left, a, c), np.where(left, e, b)
    tries = np.stack([0.5 * (a + b), np.zeros(len(start)), np.ones(len(start))])
    values = np.stack([low(t) for t in tries])
    best = np.argmin(values, axis=0)
    t = np.take_along_axis(tries, best[None], 0)[0]
    points = place(t)
    bad = values.min(axis=0) <= _SINGULAR * ends
    if grid.dim == 1 or not bad.any():
        return points, bad
    vectors = np.linalg.eigh(np.asarray(process.diffusion(points), float))[1]
    null = vectors[:, :, 0]
    others = [np.stack([-null[:, 1], null[:, 0]], axis=1)] if grid.dim == 2 else [vectors[:, :, 1], vectors[:, :, 2]]
    h = 0.5 * min(float(w[0]) for w in grid.widths)
    across, *beside = (np.minimum(_smallest(process, points + h * v), _smallest(process, points - h * v)) for v in (null, *others))
    return points, bad & (across > np.max(beside, axis=0))
