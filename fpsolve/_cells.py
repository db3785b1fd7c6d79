"""Sets {h < 0} in a box of cells, cut along their surface: Gauss nodes to integrate over them, lines to weigh them exactly.

In a cell that the surface crosses, the set is swept by lines along the axis in which h changes most; the sweep is split where the
surface enters or leaves the sides that the lines end at, so that what is integrated stays smooth (R. I. Saye, SIAM J. Sci.
Comput. 37, A993 (2015), in two dimensions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lines", "Nodes", "pieces"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Level = Callable[[Array], Array]

#: Parts in which a line is searched for sign changes; bisections of one; how far the first sample stays off an edge, in cells.
_PARTS, _HALVINGS, _INSET = 8, 48, 1e-9


@dataclass(frozen=True)
class Nodes:
    """Quadrature: points (n, d) and weights (n,) whose sum is the volume."""

    points: Array
    weights: Array


@dataclass(frozen=True)
class Lines:
    """Segments low < x[axis] < high at the other coordinate `at`, with the weight of the quadrature across them.

    In 1-D the intervals themselves: axis 0, weight 1.
    """

    axis: Index
    at: Array
    weight: Array
    low: Array
    high: Array

    def __len__(self) -> int:
        return int(self.low.size)


def pieces(h: Level, edges: tuple[Array, ...], q: int) -> tuple[Nodes, Lines]:
    """The part of a box of cells where h < 0, with q Gauss nodes per axis of a cell or of a piece of one.

    Parameters
    ----------
    h : callable
        Points (..., d) to (...), the level function.
    edges : arrays
        Cell edges per axis, one or two axes.
    q : int

    Examples
    --------
    >>> nodes, lines = pieces(lambda x: x[..., 0] - 0.25, (np.array([0.0, 1.0, 2.0]),), 2)
    >>> round(float(nodes.weights.sum()), 12), len(lines)
    (0.25, 1)
    """
    return _line(h, edges[0], q) if len(edges) == 1 else _plane(h, edges, q)


def _gauss(q: int, low: Array, high: Array) -> tuple[Array, Array]:
    """Nodes and weights (n, q) on n intervals."""
    x, w = np.polynomial.legendre.leggauss(q)
    half = 0.5 * (high - low)[:, None]
    return 0.5 * (low + high)[:, None] + half * x, half * w


def _line(h: Level, edges: Array, q: int) -> tuple[Nodes, Lines]:
    cells = edges.size - 1
    _, low, high = _intervals(h, np.zeros((cells, 1)), np.zeros(cells, np.int64), edges[:-1], edges[1:])
    x, w = _gauss(q, low, high)
    zero = np.zeros(low.size)
    return Nodes(x.reshape(-1, 1), w.ravel()), _joined(Lines(zero.astype(np.int64), zero, np.ones(low.size), low, high))


def _samples(low: Array, high: Array, parts: int) -> Array:
    """(n, parts + 1) numbers from just after low to just before high."""
    s = np.linspace(0.0, 1.0, parts + 1)
    s[0], s[-1] = _INSET, 1.0 - _INSET
    return np.asarray(low[:, None] + (high - low)[:, None] * s)


def _at(base: Array, axis: Index, s: Array) -> Array:
    """Points (n, k, d): base (n, d) with coordinate `axis` (n,) replaced by s (n, k)."""
    points = np.repeat(base[:, None, :], s.shape[1], axis=1)
    np.put_along_axis(points, np.broadcast_to(axis[:, None, None], (*s.shape, 1)), s[..., None], axis=2)
    return points


def _intervals(h: Level, base: Array, axis: Index, low: Array, high: Array) -> tuple[Index, Array, Array]:
    """Where h < 0 along lines: number of the line, low and high end of each interval, sorted."""
    s = _samples(low, high, _PARTS)
    inside = h(_at(base, axis, s)) < 0.0
    line, k = np.nonzero(inside[:, 1:] != inside[:, :-1])
    a, b, leaving = s[line, k], s[line, k + 1], inside[line, k]
    for _ in range(_HALVINGS if line.size else 0):
        middle = 0.5 * (a + b)
        same = (h(_at(base[line], axis[line], middle[:, None]))[:, 0] < 0.0) == leaving
        a, b = np.where(same, middle, a), np.where(same, b, middle)
    root = 0.5 * (a + b)
    first, last = np.flatnonzero(inside[:, 0]), np.flatnonzero(inside[:, -1])
    starts = np.concatenate([first, line[~leaving]]), np.concatenate([low[first], root[~leaving]])
    ends = np.concatenate([last, line[leaving]]), np.concatenate([high[last], root[leaving]])
    one, two = np.lexsort(starts[::-1]), np.lexsort(ends[::-1])
    return starts[0][one], starts[1][one], ends[1][two]


def _plane(h: Level, edges: tuple[Array, ...], q: int) -> tuple[Nodes, Lines]:
    first, second = (e.size - 1 for e in edges)
    low = np.stack(np.meshgrid(edges[0][:-1], edges[1][:-1], indexing="ij"), axis=-1).reshape(-1, 2)
    high = np.stack(np.meshgrid(edges[0][1:], edges[1][1:], indexing="ij"), axis=-1).reshape(-1, 2)
    x, y = _samples(low[:, 0], high[:, 0], 4), _samples(low[:, 1], high[:, 1], 4)
    level = np.empty((first * second, 5, 5))
    for start in range(0, len(low), 4096):
        some = slice(start, start + 4096)
        grid = np.stack(np.broadcast_arrays(x[some, :, None], y[some, None, :]), axis=-1)
        level[some] = h(grid)
    inside = level < 0.0
    full, mixed = inside.all(axis=(1, 2)), inside.any(axis=(1, 2)) & ~inside.all(axis=(1, 2))
    level = np.clip(level, -1e300, 1e300)
    slopes = np.stack(
        [np.abs(level[:, -1].mean(1) - level[:, 0].mean(1)), np.abs(level[:, :, -1].mean(1) - level[:, :, 0].mean(1))], 1
    )
    axis = np.argmax(slopes, axis=1)
    whole = _swept(axis[full], low[full], high[full], q)
    cut = _cut(h, axis[mixed], low[mixed], high[mixed], q)
    joined = [np.concatenate([u, v]) for u, v in zip(whole, cut, strict=True)]
    lines = Lines(*joined)
    return _fill(lines, q), _joined(lines)


def _joined(lines: Lines) -> Lines:
    """Lines that go on from cell to cell made one: far fewer error functions."""
    order = np.lexsort((lines.low, lines.at, lines.axis))
    axis, at, weight, low, high = (v[order] for v in (lines.axis, lines.at, lines.weight, lines.low, lines.high))
    goes_on = (axis[1:] == axis[:-1]) & (at[1:] == at[:-1]) & (weight[1:] == weight[:-1]) & (low[1:] == high[:-1])
    first = np.append(True, ~goes_on) if low.size else np.zeros(0, bool)
    last = np.append(~goes_on, True) if low.size else np.zeros(0, bool)
    return Lines(axis[first], at[first], weight[first], low[first], high[last])


def _swept(axis: Index, low: Array, high: Array, q: int) -> tuple[Index, Array, Array, Array, Array]:
    """q lines through each whole cell."""
    rows = np.arange(axis.size)
    at, weight = _gauss(q, low[rows, 1 - axis], high[rows, 1 - axis])
    spread = [np.repeat(v, q) for v in (low[rows, axis], high[rows, axis])]
    return np.repeat(axis, q), at.ravel(), weight.ravel(), spread[0], spread[1]


def _cut(h: Level, axis: Index, low: Array, high: Array, q: int) -> tuple[Index, Array, Array, Array, Array]:
    """Lines through cells that the surface crosses: the sweep is split where the number of crossings changes."""
    rows = np.arange(axis.size)
    inner = low[rows, axis], high[rows, axis]
    outer = low[rows, 1 - axis], high[rows, 1 - axis]

    def pattern(cell: Index, t: Array) -> Array:
        base = np.zeros((cell.size, 2))
        base[np.arange(cell.size), 1 - axis[cell]] = t
        inside = h(_at(base, axis[cell], _samples(inner[0][cell], inner[1][cell], _PARTS))) < 0.0
        return np.asarray(2 * (inside[:, 1:] != inside[:, :-1]).sum(axis=1) + inside[:, 0])

    s = _samples(*outer, _PARTS)
    seen = pattern(np.repeat(rows, _PARTS + 1), s.ravel()).reshape(s.shape)
    cell, k = np.nonzero(seen[:, 1:] != seen[:, :-1])
    a, b, before = s[cell, k], s[cell, k + 1], seen[cell, k]
    for _ in range(_HALVINGS if cell.size else 0):
        middle = 0.5 * (a + b)
        same = pattern(cell, middle) == before
        a, b = np.where(same, middle, a), np.where(same, b, middle)
    cells = np.concatenate([rows, rows, cell])
    marks = np.concatenate([*outer, 0.5 * (a + b)])
    order = np.lexsort((marks, cells))
    cells, marks = cells[order], marks[order]
    panel = np.flatnonzero(cells[1:] == cells[:-1])
    at, weight = _gauss(q, marks[panel], marks[panel + 1])
    owner, at, weight = np.repeat(cells[panel], q), at.ravel(), weight.ravel()
    base = np.zeros((owner.size, 2))
    base[np.arange(owner.size), 1 - axis[owner]] = at
    line, a, b = _intervals(h, base, axis[owner], inner[0][owner], inner[1][owner])
    keep = (b > a) & (weight[line] > 0.0)
    line = line[keep]
    return axis[owner[line]], at[line], weight[line], a[keep], b[keep]


def _fill(lines: Lines, q: int) -> Nodes:
    """q Gauss nodes on every line."""
    x, w = _gauss(q, lines.low, lines.high)
    points = np.empty((len(lines), q, 2))
    rows = np.arange(len(lines))
    points[rows, :, lines.axis] = x
    points[rows, :, 1 - lines.axis] = lines.at[:, None]
    return Nodes(points.reshape(-1, 2), (w * lines.weight[:, None]).ravel())
