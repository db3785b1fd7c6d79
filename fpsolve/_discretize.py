"""From a process and a grid to rates between cells: coefficients, stencil, generator.

The kernels in `_kernels.selling`, `_kernels.balance` and `_kernels.stencil` do the work cell by cell; here are the arrays they need
and the checks of what a process returns.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import _balance as balance
from . import _space as space
from ._generator import assembled
from ._kernels import balance as kernels
from ._kernels import selling, stencil, stencil3
from .grid import Grid
from .noise import check_tensor

__all__ = ["SIDES", "Stencil", "Stream", "assemble", "build_stencil", "finite", "frame"]

Array = NDArray[np.float64]

SIDES = {"reflecting": 0, "absorbing": 1, "periodic": 2}
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
    #: Cells of the smaller grid on which a stationary density was solved for.
    asked: int = 0

    @property
    def use_phi(self) -> bool:
        return self.phi.size > 0

    @property
    def reversible(self) -> bool:
        """Whether exp(-phi) is in detailed balance on every edge."""
        return self.use_phi and self.stream is None

    @property
    def cost(self) -> float:
        """Of making it and the rates, in the seconds of `_costs`."""
        n, d = map(int, self.spacing.shape)
        if self.use_phi:
            return 0.3e-3 + 0.27e-6 * n
        return 0.7e-3 + (0.0 if d == 1 else 1e-6 * n) + 6e-6 * self.asked

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
    sides = np.array([[SIDES[s] for s in pair] for pair in grid.boundary], np.int64)
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
    share, asked = np.ones(weights.shape), 0
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
            asked = math.prod(min(m, balance.REFERENCE[d]) for m in grid.shape)
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
                   clipped, by_cap, shifted, say, exponent, cap, asked=asked)  # fmt: skip


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
    return assembled(rows, cols, rates, kill), kill, exponent
