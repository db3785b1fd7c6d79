"""A generator in CSR from its rates as triplets, and its rates off the diagonal (arrays in, arrays out).

Large arrays are made by the callers: NumPy asks the system for large pages; the first writing to small ones takes as long as all
the rest.
"""

import numpy as np

from .._jit import kernel

__all__ = ["generator", "nearest", "off_diagonal", "row_sums"]


@kernel
def generator(rows, cols, rates, kill, indptr, indices, data):
    """Rates as triplets (m,) with diagonal -(sum of the row + kill) to indptr (n + 1,), indices and data (m + n,) of a CSR matrix.

    Rows are sorted, duplicates added; returns the number of entries. One counting sort by row, straight into the result; rows are
    short and come nearly sorted, so they are sorted by insertion.
    """
    n, m = kill.size, rows.size
    indptr[:] = 0
    for k in range(m):
        indptr[rows[k] + 1] += 1
    for i in range(n):
        indptr[i + 1] += indptr[i] + 1  # and the diagonal
    at = indptr[:n].copy()
    for k in range(m):
        q = at[rows[k]]
        indices[q], data[q] = cols[k], rates[k]
        at[rows[k]] = q + 1
    out, begin = 0, 0
    for i in range(n):
        end, start = indptr[i + 1] - 1, out
        total = kill[i]
        for r in range(begin, end):
            total += data[r]
        indices[end], data[end] = i, -total
        for r in range(begin + 1, end + 1):
            c, v, q = indices[r], data[r], r
            while q > begin and indices[q - 1] > c:
                indices[q], data[q] = indices[q - 1], data[q - 1]
                q -= 1
            indices[q], data[q] = c, v
        for r in range(begin, end + 1):
            if out > start and indices[out - 1] == indices[r]:
                data[out - 1] += data[r]
            else:
                indices[out], data[out] = indices[r], data[r]
                out += 1
        begin = end + 1
        indptr[i] = start
    indptr[n] = out
    return out


@kernel
def off_diagonal(indptr, indices, data, starts, columns, values):
    """A CSR matrix without its diagonal and zeros, to starts, columns and values.

    Returns the number of entries, and the first row that has a negative rate or one that is not finite, -1 if there is none.
    """
    n = indptr.size - 1
    out, wrong = 0, -1
    for i in range(n):
        starts[i] = out
        for r in range(indptr[i], indptr[i + 1]):
            if indices[r] != i and data[r] != 0.0:
                columns[out], values[out] = indices[r], data[r]
                out += 1
                if wrong < 0 and not 0.0 <= data[r] < np.inf:
                    wrong = i
    starts[n] = out
    return out, wrong


@kernel
def nearest(indptr, indices):
    """Whether every entry of a CSR matrix is on the diagonal or beside it."""
    for i in range(indptr.size - 1):
        for r in range(indptr[i], indptr[i + 1]):
            if abs(indices[r] - i) > 1:
                return False
    return True


@kernel
def row_sums(indptr, data, out):
    """Add the sums of the rows of a CSR matrix to out (n,)."""
    for i in range(out.size):
        total = 0.0
        for r in range(indptr[i], indptr[i + 1]):
            total += data[r]
        out[i] += total
