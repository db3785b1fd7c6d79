"""From a process and a grid to rates between cells: coefficients, stencil, generator, and the rows at an exit surface.

The kernels in `_kernels.selling` and `_kernels.stencil` do the work cell by cell; here are the arrays they need, the checks of
what a process returns, and the geometry of a region's surface (where an edge of the stencil is cut).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import _balance as balance
from . import _space as space
from ._kernels import balance as kernels
from ._kernels import selling, stencil, stencil3, triplets
from .grid import Grid, Region
from .noise import check_tensor

__all__ = ["Stencil", "assemble", "build_stencil", "exit_generator", "singular_edges", "singular_points"]

Array = NDArray[np.float64]

_SIDES = {"reflecting": 0, "absorbing": 1, "periodic": 2}
_EXIT, _NO_FLUX = -1, -2
#: Fall of the smallest eigenvalue of D between two cell centres from which D counts as vanishing there.
_SINGULAR = 1e-3
#: Width of the smoothing of weights over the distance to which the tensors stray from one set of offsets; at most one, where the
#: ranking of the weights changes.
_REACH = 2.0
#: Distance below which tensors stray by rounding only.
_STRAY = 1e-12
#: Defect of the local closure (`_balance.defect`) below which the cells resolve it anyway.
_DEFECT = 1e-3
#: Part of D_11 D_22 below which det D is rounding.
_DEFINITE = 1e-8
#: Share of the unbalanced drift by which a better g may leave more of it without an edge before it is not used at all.
_EXCESS = 0.05


@dataclasses.dataclass(frozen=True)
class Stream:
    """Rates of a flow without noise through the faces of the cells, and of leaving; `specular`: thrown back at a wall."""

    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    rates: Array
    kill: Array
    specular: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Stencil:
    """What the kernels need to know about every cell; n cells, K offsets per cell, d dimensions.

    Weights, drifts and gradients are in units of cells; weights and rest are multiplied by the relative volume.
    """

    shape: NDArray[np.int64]
    sides: NDArray[np.int64]
    spacing: Array
    volume: Array
    offsets: NDArray[Any]
    weights: Array
    gradient: Array
    free: Array
    share: Array
    gradient_slope: Array
    free_slope: Array
    midpoint: Array
    rest: Array
    phi: Array
    clipped: Array
    clipped_by_cap: Array
    shifted: Array
    say: Array
    exponent: Array
    cap: int
    #: In phase space: carries `rest`, which else goes through the faces by `fill_edges`.
    stream: Stream | None = None

    @property
    def use_phi(self) -> bool:
        return self.phi.size > 0

    @property
    def reversible(self) -> bool:
        """Whether exp(-phi) is in detailed balance on every edge."""
        return self.use_phi and self.stream is None

    @property
    def upwind(self) -> Array:
        """What upwind differences add to D in every cell (n,)."""
        if not self.rest.any():
            return np.zeros(len(self.rest))
        along = [np.abs(self.rest[:, k]) * self.spacing[:, k] ** 2 for k in range(self.rest.shape[1])]
        return np.asarray(0.5 * functools.reduce(np.maximum, along) / self.volume)


def finite(values: Any, shape: tuple[int, ...], points: Array, what: str) -> Array:
    """Values as a contiguous float array, or an error that names the grid point."""
    array = np.ascontiguousarray(values, float)
    if array.shape != shape:
        raise ValueError(f"{what} has shape {array.shape} at points of shape {points.shape}, expected {shape}")
    if not np.isfinite(array).all():
        bad = ~np.isfinite(array.reshape(len(points), -1)).all(axis=1)
        i = int(np.argmax(bad))
        raise ValueError(f"{what} is not finite at the grid point x = {points[i].tolist()}: {array[i].tolist()}; "
                         f"{int(bad.sum())} of {len(points)} points are affected, move the box or change the function")  # fmt: skip
    return array


def _check_diffusion(diffusion: Array, points: Array) -> None:
    """Refuse tensors that are not symmetric positive semi-definite; closed forms spare most grids an eigensolver."""
    if diffusion.shape[1] == 1 and np.all(diffusion >= 0.0):
        return
    if diffusion.shape[1] == 2 and kernels.semidefinite(diffusion):
        return
    if diffusion.shape[1] == 3 and stencil3.positive_definite(diffusion):
        return
    check_tensor(diffusion, points)


def frame(grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, Array]:
    """Shape, kinds of the sides, cell widths (n, d) and relative volumes (n,) of a grid as the kernels take them."""
    sides = np.array([[_SIDES[s] for s in pair] for pair in grid.boundary], np.int64)
    spacing = np.stack(np.meshgrid(*grid.widths, indexing="ij"), axis=-1).reshape(-1, grid.dim)
    volume = np.ones(grid.size) if grid.uniform else grid.cell_volumes.ravel() * (grid.size / grid.cell_volumes.sum())
    return np.array(grid.shape, np.int64), sides, spacing, volume


def build_stencil(process: Any, grid: Grid, cap: int, *, local: bool = False, balanced: Array | None = None) -> Stencil:
    """Weights and drift of every cell; with `local` the balanced drift g is `balanced` or the closure, and not improved."""
    points, d, n = grid.points(), grid.dim, grid.size
    diffusion = finite(process.diffusion(points), (n, d, d), points, "the diffusion tensor")
    _check_diffusion(diffusion, points)
    drift = finite(process.drift(points), (n, d), points, "the drift")
    if hasattr(process, "check_derivatives"):  # the time reversal of a process brings its fields ready-made
        process.check_derivatives(points)
    drift = drift - finite(process.divergence(points), (n, d), points, "the divergence of D")
    log_density = process.log_density(points)
    phi = np.empty(0) if log_density is None else -finite(log_density, (n,), points, "the log density")
    shape, sides, spacing, volume = frame(grid)
    offsets, weights, clipped, by_cap, shifted = _edges(diffusion, spacing, shape, sides, cap)
    if not grid.uniform:
        weights *= volume[:, None]
    gradient, free, rest = np.zeros((3, n, d))
    share = np.ones(weights.shape)
    slope, free_slope = np.empty((0, d, d)), np.empty((0, d, d))
    if phi.size:
        gradient = _differences(-phi, grid)
    else:
        slope, free_slope = np.empty((2, n, d, d))
        gradient = _closure(diffusion, drift, spacing, shape, sides) if balanced is None else balanced

        def split(g: Array, at: Any = slice(None)) -> tuple[Array, Array, Array]:
            """Free part, shares and rest of the drift in the cells `at`, for the balanced drift g there."""
            left, steps, free, rest = np.empty((4, *g.shape))
            share = np.empty((len(g), weights.shape[1]))
            kernels.unbalanced(diffusion[at], drift[at], g, spacing[at], volume[at], left, steps)
            give = stencil3.edge_drift if d == 3 else stencil.edge_drift
            give(left, steps, offsets[at], weights[at], free, share, rest)
            return free, share, rest

        free, share, rest = split(gradient)
        if d > 1 and not local and balance.defect(diffusion, drift, gradient, spacing, grid) > _DEFECT:
            better = _stationary_gradient(process, grid, cap)
            if better is not None:  # used where no more drift is left without an edge, and less and less where there is more
                found = split(better)
                mixed = kernels.blend(diffusion, drift, spacing, volume, _EXCESS, rest, better, found[2], gradient)
                free, share, rest = found
                free[mixed], share[mixed], rest[mixed] = split(gradient[mixed], mixed)
        gradient = gradient * spacing
        kernels.slopes(gradient, shape, sides, slope)
        kernels.slopes(free, shape, sides, free_slope)
    midpoint = _face_ratio(process, grid) if d == 1 and not phi.size else np.empty(0)
    exponent, say = np.empty(n), np.empty(weights.shape)
    exponents = stencil3.drift_exponent if d == 3 else stencil.drift_exponent
    exponents(diffusion, drift, spacing, volume, offsets, weights, say, exponent)
    return Stencil(shape, sides, spacing, volume, offsets, weights, gradient, free, share, slope, free_slope, midpoint, rest, phi,
                   clipped, by_cap, shifted, say, exponent, cap)  # fmt: skip


def _edges(
    diffusion: Array, spacing: Array, shape: NDArray[np.int64], sides: NDArray[np.int64], cap: int
) -> tuple[NDArray[Any], Array, Array, Array, Array]:
    """Offsets and weights of every cell, what cap and walls together and the cap alone add to D, and what walls shift."""
    n, d = spacing.shape
    if d == 3:
        return space.edges(diffusion, spacing, shape, sides, cap)
    k = d * (d + 1) // 2
    offsets, weights = np.zeros((n, k, d), np.int16), np.zeros((n, k))
    clipped, by_cap, shifted = np.zeros((3, n))
    selling.decompose(diffusion, spacing, shape, sides, cap, offsets, weights, clipped, by_cap)
    if d == 2:
        _join(diffusion, spacing, shape, sides, cap, offsets, weights, clipped)
        offsets, weights = _smoothed(shape, sides, cap, offsets, weights, clipped)
        short = clipped > by_cap
        if short.any():
            selling.shifted(shape, sides, spacing, offsets, weights, short, shifted)
    return offsets, weights, clipped, by_cap, shifted


def _join(
    diffusion: Array, spacing: Array, shape: NDArray[np.int64], sides: NDArray[np.int64], cap: int, offsets: NDArray[Any],
    weights: Array, clipped: Array,
) -> None:  # fmt: skip
    """Shorten, in place, offsets of cells with definite D that no edges join to the largest set of cells: as little as joins them.

    Edges that leave through absorbing walls join nothing: in corners between two of them, and where walls are closer than the
    offsets are long, cells may have no others. Along directions without noise nothing is joined.
    """
    label = np.empty(len(weights), np.int64)
    a, b, c = diffusion[:, 0, 0], diffusion[:, 0, 1], diffusion[:, 1, 1]
    limit = cap
    while limit >= 1:
        selling.components(shape, sides, offsets, weights, label)
        if not label.any():  # one set
            return
        lost = label != np.argmax(np.bincount(label))
        cells = np.flatnonzero(lost & (a * c - b * b > _DEFINITE * a * c))
        if not cells.size:
            return
        limit //= 2
        if limit:
            selling.shorten(cells, limit, diffusion, spacing, shape, sides, offsets, weights, clipped)


def _smoothed(
    shape: NDArray[np.int64], sides: NDArray[np.int64], cap: int, offsets: NDArray[Any], weights: Array, clipped: Array
) -> tuple[NDArray[Any], Array]:
    """Four offsets per cell with smooth weights if D varies so that no one set of three offsets serves all cells.

    The width of the smoothing goes to zero with the distance to which the tensors stray from one set, so nothing jumps.
    """
    far = float(selling.stray(offsets[selling.deepest(weights, clipped)], offsets, weights, clipped))
    if far < _STRAY:
        return offsets, weights
    n = len(weights)
    offsets = np.concatenate([offsets, np.zeros((n, 1, 2), offsets.dtype)], axis=1)
    weights = np.concatenate([weights, np.zeros((n, 1))], axis=1)
    selling.smooth_switches(shape, sides, cap, min(1.0, _REACH * far), offsets, weights)
    return offsets, weights


def _closure(diffusion: Array, drift: Array, spacing: Array, shape: NDArray[np.int64], sides: NDArray[np.int64]) -> Array:
    """Local estimate of grad log p (n, d), per unit length."""
    slope, gradient = np.empty(diffusion.shape), np.empty(drift.shape)
    kernels.slopes(drift, shape, sides, slope)
    fit = stencil3.fit_gradient if drift.shape[1] == 3 else stencil.fit_gradient
    fit(diffusion, drift, slope, spacing, gradient)
    return gradient


def _stationary_gradient(process: Any, grid: Grid, cap: int) -> Array | None:
    """grad log p (n, d) from a stationary density on a smaller grid, discretised with the closure."""
    return balance.solved_gradient(grid, lambda small, g: assemble(build_stencil(process, small, cap, local=True, balanced=g))[0])


def _differences(values: Array, grid: Grid) -> Array:
    """Gradient (n, d) per cell of cell values by central differences, one-sided at walls."""
    out = np.empty((grid.size, grid.dim))
    field = values.reshape(grid.shape)
    for axis, sides in enumerate(grid.boundary):
        if sides[0] == "periodic":
            derivative = 0.5 * (np.roll(field, -1, axis) - np.roll(field, 1, axis))
        else:
            derivative = np.gradient(field, axis=axis, edge_order=2 if field.shape[axis] > 2 else 1)
        out[:, axis] = derivative.ravel()
    return out


def _face_ratio(process: Any, grid: Grid) -> Array:
    """(b - D')/D per cell at the upper face of every cell of a 1-D grid, NaN where D vanishes or anything is not finite."""
    faces, centers = grid.edges[0][1:, None], grid.centers[0]
    step = np.diff(centers, append=centers[0] + grid.edges[0][-1] - grid.edges[0][0])
    drift = np.asarray(process.drift(faces), float)[:, 0] - np.asarray(process.divergence(faces), float)[:, 0]
    diffusion = np.asarray(process.diffusion(faces), float)[:, 0, 0]
    with np.errstate(all="ignore"):
        ratio = drift / diffusion * step
    return np.where(np.isfinite(ratio) & (diffusion > 0.0), ratio, np.nan)


def assemble(st: Stencil) -> tuple[sp.csr_matrix, Array, Array]:
    """Generator, kill rates and largest exponent per cell."""
    n, d = st.spacing.shape
    if d == 3:
        return space.assemble(st)
    room = n * (4 * st.weights.shape[1] + d)
    rows, cols, rates = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room)
    kill, exponent = np.zeros(n), np.zeros(n)
    weights = st.weights.copy()  # not kept: a wall that is the exit of a region reflects nothing
    selling.wall_weights(st.shape, st.sides, st.offsets, weights)
    rest = st.rest if st.stream is None else np.zeros_like(st.rest)
    m = stencil.fill_edges(st.shape, st.sides, st.volume, st.offsets, weights, st.gradient, st.free, st.share, st.gradient_slope,
                           st.free_slope, st.midpoint, rest, st.phi, st.say, rows, cols, rates, kill, exponent)  # fmt: skip
    rows, cols, rates = rows[:m], cols[:m], rates[:m]
    if st.stream is not None:
        flow = st.stream
        rows, cols = np.concatenate([rows, flow.rows]), np.concatenate([cols, flow.cols])
        rates = np.concatenate([rates, flow.rates])
        kill = kill + st.stream.kill
    exponent = np.maximum(exponent, st.exponent)
    indptr, indices, data = triplets.generator(rows, cols, rates, kill)
    generator = sp.csr_matrix((data, indices, indptr), shape=(n, n))
    generator.has_canonical_format = True
    return generator, kill, exponent


# ---- exit from a region ---------------------------------------------------------------------------------------------------


def exit_generator(
    st: Stencil, generator: sp.csr_matrix, grid: Grid, region: Region, inside: NDArray[np.bool_],
    phi_at: Callable[[Array], Array],
) -> tuple[sp.csr_matrix, Array]:  # fmt: skip
    """Rates among the cells inside and exit rates; cells outside are isolated and killed at rate one."""
    flat = inside.ravel()
    cells = _near_boundary(st, grid, inside)
    target, cut = _arms(st, grid, region, flat, cells)
    # without an upwind rest the arms along the axes carry nothing
    used = np.concatenate([np.repeat(st.weights[cells] > 0.0, 2, axis=1), np.repeat(st.rest[cells] != 0.0, 2, axis=1)], axis=1)
    stranger = np.asarray(abs(generator) @ (~flat).astype(float)).ravel()[cells] > 0.0
    changed = ((target == _EXIT) & used).any(axis=1) | stranger
    cells, target, cut = cells[changed], target[changed], cut[changed]
    phi_cut = np.zeros(cut.shape)
    if st.use_phi:
        phi_cut = phi_at(_arm_points(st, grid, cells, cut).reshape(-1, grid.dim)).reshape(cut.shape)
    room = cells.size * (2 * st.weights.shape[1] + grid.dim)
    rows, cols, rates, kill = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room), np.zeros(grid.size)
    if grid.dim == 3:
        edges = stencil3.Edges(rows, cols, rates, kill, np.zeros(0))
        m = stencil3.exit_rows(cells, target, cut, phi_cut, space.cells(st), edges)
    else:
        m = stencil.exit_rows(cells, target, cut, st.volume, st.offsets, st.weights, st.gradient, st.free, st.share, st.rest,
                              st.phi, phi_cut, rows, cols, rates, kill)  # fmt: skip
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
    kill[~flat] = 1.0
    return sp.csr_matrix(entries, shape=generator.shape), kill


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
) -> tuple[NDArray[np.int64], Array]:
    """Where every arm leads (a cell, exit or no flux), and the fraction of it that lies inside the region."""
    arms = _arm_offsets(st, cells)
    index = np.stack(np.unravel_index(cells, grid.shape), axis=-1)[:, None, :] + arms
    length, side = np.ones(arms.shape[:2]), np.full(arms.shape[:2], -1)
    for axis, n in enumerate(grid.shape):
        if st.sides[axis, 0] == _SIDES["periodic"]:
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
        return target, length
    out, cut = _first_exit(st, grid, region, cells, arms, length, ~on_grid)
    elsewhere = on_grid & ~flat[target] & ~out  # beyond g < 0 of another component
    cut = np.where(out, cut, np.where(side == _SIDES["absorbing"], length, 1.0))
    target = np.where(out | elsewhere | (side == _SIDES["absorbing"]), _EXIT, target)
    return target, np.maximum(cut, 1e-8)


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
        g = region.g(_wrapped(grid, grid._locate(origin + t[:, :, None] * step)))
        # rounding must not hide a surface that coincides with the wall
        hit = ~found & (g >= np.where(at_wall & (k == steps), -1e-9 * np.abs(own), 0.0))
        high = np.where(hit, t, high)
        low = np.where(found | hit, low, t)
        found |= hit
    low, high = low[found], high[found]
    start, way = np.broadcast_to(origin, step.shape)[found], step[found]
    for _ in range(45):
        middle = 0.5 * (low + high)
        at = _wrapped(grid, grid._locate(start + middle[:, None] * way))
        beyond = region.g(at) >= 0.0 if middle.size else np.zeros(0, bool)
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    cut = np.ones(length.shape)
    cut[found] = high
    return found, cut


def _wrapped(grid: Grid, points: Array) -> Array:
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
        return _wrapped(grid, grid._locate(start + t[:, None] * step))

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
