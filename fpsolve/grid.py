"""Grids of cells."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_memory, is_finite, is_number, numbers
from ._mapping import check, half_nodes, position, text
from .region import Region

__all__ = ["BOUNDARIES", "Grid", "Region"]

Array = NDArray[np.float64]

#: What may stand at a side of the box.
BOUNDARIES = ("reflecting", "absorbing", "periodic")


class Grid:
    """A box of cells with uniform or graded axes; values belong to the cell centres.

    Parameters
    ----------
    *axes : (lo, hi, n) or (lo, hi, n, mapping)
        One per dimension: the box reaches from `lo` to `hi` (the walls) and has `n` >= 2 cells; centres lie half a cell inside.
        With a mapping x(s), s in [0, 1], the edges are x(k/n) and the centres x((k + 1/2)/n). A mapping is ("sinh", x0, width):
        finest at x0, cells growing beyond about `width` from it; ("tanh", strength): finest at both walls; a smooth increasing
        callable that takes an array from [0, 1] to [0, 1]; or ("nodes", numbers): edges and centres in turn, 2 n + 1 of them.
    boundary : str or sequence
        "reflecting" (no flux, the default), "absorbing" (density zero at the wall, mass is lost) or "periodic" for all sides, or
        one entry per axis, each a name or a pair (low side, high side). In 1-D a pair of names means the two sides.

    Attributes
    ----------
    dim : int
    shape : tuple of int
    size : int
        Number of cells.
    axes : tuple of (lo, hi, n), with the mapping as fourth entry where there is one
    boundary : tuple of (low, high)
        Names of both sides, one pair per axis.
    centers, edges, widths : tuple of 1-D arrays
        Per axis: n centres, n + 1 edges, n widths.
    cell_volumes : array of `shape`
    uniform : bool
        Whether no axis has a mapping.

    Raises
    ------
    ValueError
        For an axis that is not (lo, hi, n) with finite lo < hi and n >= 2, an unknown boundary name (the message names the
        nearest one), an axis that is periodic on one side only, a mapping that does not increase, or one on a periodic axis whose
        cells differ in size at the two ends.
    TypeError
        If n is not an integer or a mapping is of no known form.

    Examples
    --------
    >>> grid = Grid((-2.0, 2.0, 4), (0.0, 1.0, 2), boundary=["reflecting", "periodic"])
    >>> grid.shape, grid.centers[0].tolist(), grid.boundary[1]
    ((4, 2), [-1.5, -0.5, 0.5, 1.5], ('periodic', 'periodic'))
    >>> grid
    Grid((-2, 2, 4), (0, 1, 2), boundary=['reflecting', 'periodic'])
    >>> float(grid.cell_volumes.sum())
    4.0
    >>> fine = Grid((-5.0, 5.0, 6, ("sinh", 0.0, 0.5)))
    >>> fine.widths[0].round(2).tolist()
    [3.19, 1.22, 0.59, 0.59, 1.22, 3.19]
    """

    def __init__(self, *axes: Sequence[Any], boundary: str | Sequence[Any] = "reflecting") -> None:
        if not axes:
            raise ValueError("a Grid needs at least one axis (lo, hi, n), e.g. Grid((-2, 2, 200))")
        self._axes = tuple(_check_axis(axis, k) for k, axis in enumerate(axes))
        self._boundary = _check_boundary(boundary, len(axes))
        cells = [int(axis[2]) for axis in self._axes]
        count = 3 * sum(cells) + math.prod(cells)
        check_memory(count, f"the numbers on a grid of {' x '.join(map(str, cells))} cells", "use fewer cells")
        parts = [_cells(axis) for axis in self._axes]
        self._edges, self._centers, self._widths = (tuple(_frozen(p[k]) for p in parts) for k in range(3))
        for k, (widths, sides) in enumerate(zip(self._widths, self._boundary, strict=True)):
            if sides[0] == "periodic" and len(self._axes[k]) > 3:
                _check_wrap(widths, k)

    @property
    def axes(self) -> tuple[tuple[Any, ...], ...]:
        """(lo, hi, n) of every axis, followed by its mapping if it has one."""
        return self._axes

    @property
    def boundary(self) -> tuple[tuple[str, str], ...]:
        """Names of the low and the high side of every axis."""
        return self._boundary

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self._axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along every axis."""
        return tuple(axis[2] for axis in self._axes)

    @property
    def uniform(self) -> bool:
        """Whether no axis has a mapping."""
        return all(len(axis) == 3 for axis in self._axes)

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def centers(self) -> tuple[Array, ...]:
        """Cell centres, one array per axis."""
        return self._centers

    @property
    def edges(self) -> tuple[Array, ...]:
        """Cell edges, one array of n + 1 numbers per axis."""
        return self._edges

    @property
    def widths(self) -> tuple[Array, ...]:
        """Cell widths, one array per axis."""
        return self._widths

    @functools.cached_property
    def cell_volumes(self) -> Array:
        """Volume of every cell, array of `shape`."""
        return _frozen(functools.reduce(np.multiply.outer, self._widths))

    def points(self) -> Array:
        """Cell centres as an array (size, dim), last axis fastest (C order).

        Examples
        --------
        >>> Grid((0.0, 2.0, 2), (0.0, 4.0, 2)).points().tolist()
        [[0.5, 1.0], [0.5, 3.0], [1.5, 1.0], [1.5, 3.0]]
        """
        return np.stack(np.meshgrid(*self._centers, indexing="ij"), axis=-1).reshape(-1, self.dim)

    def index(self, point: ArrayLike) -> tuple[int, ...]:
        """Index of the cell that contains a point of shape (dim,); periodic axes wrap.

        Raises
        ------
        ValueError
            If the point has the wrong shape or lies outside the box.

        Examples
        --------
        >>> Grid((0.0, 1.0, 10)).index([0.31])
        (3,)
        """
        x = np.atleast_1d(numbers("point", point))
        if x.shape != (self.dim,):
            raise ValueError(f"a point of this grid has shape ({self.dim},), got {x.shape}")
        index = []
        for k, (lo, hi, n, *_) in enumerate(self._axes):
            at = lo + (x[k] - lo) % (hi - lo) if self._boundary[k][0] == "periodic" else x[k]
            if not lo <= at <= hi:
                raise ValueError(f"the point {x.tolist()} lies outside the grid: axis {k} spans [{lo:g}, {hi:g}]")
            index.append(min(n - 1, max(0, int(np.searchsorted(self._edges[k], at, side="right")) - 1)))
        return tuple(index)

    def coarsen(self) -> Grid:
        """The grid of the same box with half as many cells per axis (rounded down, at least 2).

        Examples
        --------
        >>> Grid((0.0, 1.0, 10)).coarsen().shape
        (5,)
        """
        return self._resized(tuple(max(2, n // 2) for n in self.shape))

    def _resized(self, shape: tuple[int, ...], boundary: list[Any] | None = None) -> Grid:
        """The same box with another number of cells, and other sides if given."""
        axes = (_resized_axis(axis, m) for axis, m in zip(self._axes, shape, strict=True))
        return Grid(*axes, boundary=self._boundary_argument() if boundary is None else boundary)

    def _locate(self, coordinates: Array) -> Array:
        """Points at cell coordinates (..., dim): k is the lower edge of cell k, k + 1/2 its centre; periodic axes go on."""
        out = np.empty(coordinates.shape)
        for k, (lo, hi, n, *mapping) in enumerate(self._axes):
            out[..., k] = position(mapping[0] if mapping else None, lo, hi, coordinates[..., k] / n)
        return out

    def _boundary_argument(self) -> list[Any]:
        return [low if low == high else (low, high) for low, high in self._boundary]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        if [a[:3] for a in self._axes] != [a[:3] for a in other._axes] or self._boundary != other._boundary:
            return False
        if self.uniform and other.uniform:
            return True
        pairs = zip((*self._edges, *self._centers), (*other._edges, *other._centers), strict=True)
        return all(np.array_equal(a, b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((tuple(a[:3] for a in self._axes), self._boundary))

    def __repr__(self) -> str:
        axes = ", ".join(
            f"({lo:g}, {hi:g}, {n}" + "".join(f", {text(m)}" for m in mapping) + ")" for lo, hi, n, *mapping in self._axes
        )
        entries = self._boundary_argument()
        boundary = entries[0] if all(e == entries[0] for e in entries) and isinstance(entries[0], str) else entries
        return f"Grid({axes}, boundary={boundary!r})"


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array


def _cells(axis: tuple[Any, ...]) -> tuple[Array, Array, Array]:
    """Edges, centres and widths of one axis."""
    lo, hi, n, *mapping = axis
    if mapping:
        nodes = half_nodes(mapping[0], lo, hi, n)
        return nodes[::2].copy(), nodes[1::2].copy(), np.diff(nodes[::2])
    edges = lo + (hi - lo) * np.arange(n + 1) / n
    return edges, 0.5 * (edges[1:] + edges[:-1]), np.full(n, (hi - lo) / n)


def _resized_axis(axis: tuple[Any, ...], m: int) -> tuple[Any, ...]:
    lo, hi, _, *mapping = axis
    if mapping and isinstance(mapping[0], tuple) and mapping[0][0] == "nodes":
        mapping = [("nodes", tuple(position(mapping[0], lo, hi, np.arange(2 * m + 1) / (2 * m)).tolist()))]
    return (lo, hi, m, *mapping)


def _check_wrap(widths: Array, k: int) -> None:
    """Cells on both sides of a periodic end must differ no more than neighbours elsewhere do."""
    inner = float(np.abs(np.diff(np.log(widths))).max(initial=0.0))
    if abs(math.log(widths[0] / widths[-1])) > 2.0 * inner + 1e-9:
        raise ValueError(f"axis {k} is periodic, but its mapping makes cells of size {widths[0]:.3g} and {widths[-1]:.3g} meet at "
                         "the ends; use a mapping with the same slope at both ends")  # fmt: skip


def _check_axis(axis: Any, k: int) -> tuple[Any, ...]:
    if isinstance(axis, str) or not hasattr(axis, "__len__") or len(axis) not in (3, 4):
        raise ValueError(f"axis {k} must be (lo, hi, n) or (lo, hi, n, mapping), e.g. (-2.0, 2.0, 200), got {axis!r}")
    lo, hi, n = axis[:3]
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"axis {k}: the number of cells must be an integer, got {n!r}")
    if n < 2:
        raise ValueError(f"axis {k}: at least 2 cells are needed, got n = {n}")
    if not all(is_number(wall) and is_finite(wall) and abs(float(wall)) < 1e300 for wall in (lo, hi)):
        raise ValueError(f"axis {k}: the walls must be finite numbers, below 1e300 in size, got ({lo!r}, {hi!r})")
    lo, hi = float(lo), float(hi)
    check_memory(int(n), f"axis {k}: {n} cells", "take fewer cells")
    if lo >= hi:
        raise ValueError(f"axis {k}: lo must be less than hi, got ({lo:g}, {hi:g})")
    mapping = axis[3] if len(axis) == 4 else None
    return (lo, hi, int(n)) if mapping is None else (lo, hi, int(n), check(mapping, lo, hi, int(n), k))


def _check_boundary(boundary: Any, dim: int) -> tuple[tuple[str, str], ...]:
    if isinstance(boundary, str):
        entries: list[Any] = [boundary] * dim
    elif hasattr(boundary, "__len__"):
        entries = list(boundary)
        if dim == 1 and len(entries) == 2 and all(isinstance(e, str) for e in entries):
            entries = [tuple(entries)]
    else:
        raise TypeError(f"boundary must be a name or one entry per axis, got {boundary!r}")
    if len(entries) != dim:
        raise ValueError(f"boundary has {len(entries)} entries for {dim} axes: {boundary!r}; give one name, or one entry per axis")
    return tuple(_check_sides(entry, k) for k, entry in enumerate(entries))


def _check_sides(entry: Any, k: int) -> tuple[str, str]:
    sides = (entry, entry) if isinstance(entry, str) else tuple(entry)
    if len(sides) != 2:
        raise ValueError(f"boundary of axis {k} must be a name or a pair (low side, high side), got {entry!r}")
    for name in sides:
        if name not in BOUNDARIES:
            near = difflib.get_close_matches(str(name).lower(), BOUNDARIES, n=1, cutoff=0.0)
            raise ValueError(f"unknown boundary {name!r} of axis {k}: did you mean {near[0]!r}? Known are {', '.join(BOUNDARIES)}")
    if sides.count("periodic") == 1:
        raise ValueError(f"axis {k} is periodic on one side only: {sides!r}; both sides must be periodic")
    return sides[0], sides[1]
