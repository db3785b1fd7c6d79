"""Products of samples that are mostly zeros, such as images, with narrow matrices: only what is not zero is multiplied."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsolve._jit import lean_kernel

__all__ = ["SparseRows"]

Array = NDArray[np.float64]

#: Above this share of non-zero numbers the dense product is as fast: per operation BLAS is three times as fast as the loops here.
MOST_FULL = 0.3


@lean_kernel
def _find(x: Any, starts: Any, columns: Any, values: Any) -> None:
    """The non-zero numbers of x, row by row; row i has those from starts[i] on."""
    at = 0
    for i in range(x.shape[0]):
        starts[i] = at
        for j in range(x.shape[1]):
            if x[i, j] != 0.0:
                columns[at] = j
                values[at] = x[i, j]
                at += 1
    starts[x.shape[0]] = at


@lean_kernel
def _times(starts: Any, columns: Any, values: Any, w: Any, out: Any) -> None:
    """out = X w; four rows of w at a time, so that a row of `out` is read and written a fourth as often."""
    width = w.shape[1]
    for i in range(out.shape[0]):
        for j in range(width):
            out[i, j] = 0.0
        at, stop = starts[i], starts[i + 1]
        while at + 4 <= stop:
            c0, c1, c2, c3 = columns[at], columns[at + 1], columns[at + 2], columns[at + 3]
            v0, v1, v2, v3 = values[at], values[at + 1], values[at + 2], values[at + 3]
            for j in range(width):
                out[i, j] += v0 * w[c0, j] + v1 * w[c1, j] + v2 * w[c2, j] + v3 * w[c3, j]
            at += 4
        while at < stop:
            c0, v0 = columns[at], values[at]
            for j in range(width):
                out[i, j] += v0 * w[c0, j]
            at += 1


@lean_kernel
def _add_transposed(starts: Any, columns: Any, values: Any, d: Any, out: Any) -> None:
    """out += X^T d."""
    width = d.shape[1]
    for i in range(d.shape[0]):
        for at in range(starts[i], starts[i + 1]):
            c, v = columns[at], values[at]
            for j in range(width):
                out[c, j] += v * d[i, j]


class SparseRows:
    """The non-zero numbers of the rows of a matrix."""

    def __init__(self, x: Array, count: int) -> None:
        self.starts = np.empty(len(x) + 1, dtype=np.int64)
        self.columns, self.values = np.empty(count, dtype=np.int32), np.empty(count)
        _find(x, self.starts, self.columns, self.values)

    @classmethod
    def where_it_pays(cls, x: Array) -> SparseRows | None:
        """The sparse form of x; None where more than 0.3 of the numbers are not zero."""
        count = int(np.count_nonzero(x))
        return cls(x, count) if count <= MOST_FULL * x.size else None

    def times(self, w: Array, out: Array) -> None:
        """out = x w, for w of shape (columns, m)."""
        _times(self.starts, self.columns, self.values, w, out)

    def add_transposed_times(self, d: Array, out: Array) -> None:
        """out += x^T d, for d of shape (rows, m)."""
        _add_transposed(self.starts, self.columns, self.values, d, out)
