"""Regions whose surface follows the faces of the cells: blocks of cells with absorbing sides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import Grid

__all__ = ["Block", "block_of", "face_values", "lagrange", "side_values"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
#: Slices of the cells, and names of the sides.
Block = tuple[tuple[slice, ...], tuple[tuple[str, str], ...]]

#: Size of g on a face, relative to the next centre, that counts as zero.
_ON_FACE = 1e-8


def face_values(g: Callable[[Array], Array], grid: Grid, block: tuple[slice, ...], axis: int, side: int) -> Array:
    """g at the centres of the outer faces of a block on one side."""
    lines = [c[s] for c, s in zip(grid.centers, block, strict=True)]
    lines[axis] = grid.edges[axis][[block[axis].start if side == 0 else block[axis].stop]]
    return np.asarray(g(np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, grid.dim)), float)


def side_values(g: Callable[[Array], Array], grid: Grid, block: tuple[slice, ...], axis: int, side: int) -> Array:
    """g at the centres of the outermost cells of a block on one side."""
    lines = [c[s] for c, s in zip(grid.centers, block, strict=True)]
    lines[axis] = lines[axis][[0 if side == 0 else -1]]
    return np.asarray(g(np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, grid.dim)), float)


def block_of(grid: Grid, region: Any, inside: Mask) -> Block:
    """The block of cells that a region is, with absorbing sides where it ends.

    Raises
    ------
    ValueError
        If the region holds no cell, its surface cuts cells, or nothing can leave it.
    """
    if not inside.any():
        raise ValueError(f"no cell centre lies in {region!r} on {grid!r}; use more cells")
    block = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(inside))
    if not inside[block].all():
        raise _cut(region, grid)
    sides = []
    for axis, (n, names) in enumerate(zip(grid.shape, grid.boundary, strict=True)):
        pair = [_side(grid, region, block, axis, side, names[side]) for side in (0, 1)]
        if names[0] == "periodic" and "absorbing" in pair and block[axis] == slice(0, n):
            pair = ["absorbing", "absorbing"]
        sides.append((pair[0], pair[1]))
    if not any("absorbing" in pair for pair in sides):
        raise ValueError(f"nothing can leave {region!r} on {grid!r}: every side inside it is reflecting or "
                         "periodic; make the box reach beyond the region's surface, or a side absorbing")  # fmt: skip
    return block, tuple(sides)


def _side(grid: Grid, region: Any, block: tuple[slice, ...], axis: int, side: int, name: str) -> str:
    """Name of one side of the block: an exit, or what stands there on the grid."""
    size = np.abs(side_values(region.g, grid, block, axis, side)).max()
    on_face = face_values(region.g, grid, block, axis, side)
    at_surface = np.abs(on_face) <= _ON_FACE * size
    wall = block[axis].start == 0 if side == 0 else block[axis].stop == grid.shape[axis]
    if at_surface.all():
        return "absorbing"
    if wall and np.all(on_face < 0.0) and not at_surface.any():
        return name
    raise _cut(region, grid)


def _cut(region: Any, grid: Grid) -> ValueError:
    return ValueError(f"the surface of {region!r} cuts cells of {grid!r}: the high-order scheme takes regions that end on faces of "
                      "the cells or on sides of the box; move the walls of the grid there, or use scheme='monotone'")  # fmt: skip


def lagrange(grid: Grid, values: Array, block: tuple[slice, ...], x0: Array, order: int) -> float:
    """Product of polynomials through `order` centres per axis."""
    out = values
    for axis in range(grid.dim):
        centers, edges = grid.centers[axis], grid.edges[axis]
        periodic, n = grid.boundary[axis][0] == "periodic", centers.size
        length = float(edges[-1] - edges[0])
        x = edges[0] + (x0[axis] - edges[0]) % length if periodic else x0[axis]
        first = int(np.searchsorted(centers, x, side="right")) - order // 2
        if not (periodic and block[axis] == slice(0, n)):
            first = min(max(first, block[axis].start), block[axis].stop - order)
        cells = np.arange(first, first + order)
        nodes = centers[cells % n] + length * (cells // n)
        weights = np.array([math.prod((x - q) / (p - q) for q in nodes if q != p) for p in nodes])
        out = np.tensordot(weights, np.take(out, cells % n, axis=0), axes=(0, 0))
    return float(out)
