"""From tensors to edges between cells in three dimensions: the arrays that `_kernels.selling3` and `_kernels.stencil3` work on."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ._generator import assembled
from ._kernels import selling, selling3, stencil3

__all__ = ["assemble", "cells", "edges"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Share of D by which tensors are moved for the mean of their weights, and most offsets of a cell then.
_WIDTH, _MOST = 0.5, 12
#: Rounds in which cells of corners that are cut off get edges along the axes.
_ROUNDS = 3


def edges(
    diffusion: Array, spacing: Array, shape: Integers, sides: Integers, cap: int
) -> tuple[NDArray[Any], Array, Array, Array, Array]:
    """Offsets (n, K, 3) and weights (n, K) of every cell, what cap and walls and the cap alone add to D, and what walls shift.

    Six offsets of Selling's decomposition, three where D is diagonal everywhere. A corner can cut off a cell all of whose offsets
    have mixed signs: it gets edges along the axes.
    """
    n = len(spacing)
    clipped, by_cap, shifted = np.zeros((3, n))
    if not any(diffusion[:, a, b].any() for a, b in ((0, 1), (0, 2), (1, 2))):
        offsets = np.broadcast_to(np.eye(3, dtype=np.int16), (n, 3, 3)).copy()
        return offsets, np.ascontiguousarray(np.einsum("nii->ni", diffusion) / spacing**2), clipped, by_cap, shifted
    offsets, weights = np.zeros((n, 6, 3), np.int16), np.zeros((n, 6))
    selling3.decompose(diffusion, spacing, shape, sides, cap, offsets, weights, clipped, by_cap)
    offsets, weights = _smoothed(diffusion, spacing, shape, sides, cap, offsets, weights, clipped)
    label = np.empty(n, np.int32)
    for _ in range(_ROUNDS):
        selling3.components(shape, sides, offsets, weights, label)
        cut_off = np.flatnonzero(label != np.bincount(label).argmax())
        if not cut_off.size:
            break
        selling3.axes_and_diagonals(cut_off, diffusion, spacing, offsets, weights, clipped)
    short = clipped > by_cap
    if short.any():
        selling3.shifted(shape, sides, spacing, offsets, weights, short, shifted)
    return offsets, weights, clipped, by_cap, shifted


def _smoothed(
    diffusion: Array, spacing: Array, shape: Integers, sides: Integers, cap: int, offsets: NDArray[Any], weights: Array,
    clipped: Array,
) -> tuple[NDArray[Any], Array]:  # fmt: skip
    """Smooth weights on a few more offsets per cell if D varies so that no one set of offsets serves all cells."""
    n, own = len(weights), weights > 0.0
    if (np.all(diffusion == diffusion[0]) and np.all(spacing == spacing[0])) or np.all(clipped > 0.0):
        return offsets, weights
    # the cell whose tensor is amid those of its offsets: most weights, of which the least is the largest part of their sum
    total = np.maximum(weights.sum(axis=1), np.finfo(float).tiny)
    depth = own.sum(axis=1) + np.where(own, weights, total[:, None]).min(axis=1) / total
    i = int(np.argmax(np.where(clipped > 0.0, -1.0, depth)))
    reference = (diffusion[i] / np.outer(spacing[i], spacing[i]))[np.triu_indices(3)]
    more = np.concatenate([offsets, np.zeros((n, _MOST - 6, 3), offsets.dtype)], axis=1)
    smooth = np.concatenate([weights, np.zeros((n, _MOST - 6))], axis=1)
    most = selling3.smooth_switches(diffusion, spacing, shape, sides, cap, reference, _WIDTH, clipped, more, smooth)
    if most == 6:
        return offsets, weights
    return np.ascontiguousarray(more[:, :most]), np.ascontiguousarray(smooth[:, :most])


def cells(st: Any) -> stencil3.Cells:
    """What the kernels need of a `_discretize.Stencil`."""
    return stencil3.Cells(st.shape, st.sides, st.volume, st.offsets, st.weights, st.gradient, st.free, st.share, st.gradient_slope,
                          st.free_slope, st.rest, st.phi, st.say)  # fmt: skip


def assemble(st: Any) -> tuple[sp.csr_matrix, Array, Array]:
    """Generator, kill rates and largest exponent per cell, as `_discretize.assemble`.

    The edges of the cells, and along reflecting walls those for what the walls cut off.
    """
    n, k = st.weights.shape
    own, walls, room = cells(st), [], n * (4 * k + 3)
    index, ones = np.arange(n, dtype=np.int32), np.ones((n, 3)) if k > 3 else np.empty((0, 3))
    for axis in range(3):
        ends = [end for end, side in zip((0, -1), st.sides[axis], strict=True) if side == selling.REFLECTING]
        if k > 3 and ends:
            beside = np.unique(np.take(index.reshape(st.shape), ends, axis))
            offsets, weights = np.zeros((n, 3, 3), np.int16), np.zeros((n, 3))
            if selling3.wall_edges(axis, beside, st.shape, st.sides, st.cap, st.offsets, st.weights, offsets, weights):
                walls.append((beside, own._replace(offsets=offsets, weights=weights, share=ones, say=ones)))
                room += 12 * beside.size
    out = stencil3.Edges(np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room), np.zeros(n), np.zeros(n))
    m = stencil3.fill_edges(index, own, bool(st.rest.any()), 0, out)
    for beside, along in walls:
        m = stencil3.fill_edges(beside, along, False, m, out)
    return assembled(out.rows[:m], out.cols[:m], out.rates[:m], out.kill), out.kill, np.maximum(out.exponent, st.exponent)
