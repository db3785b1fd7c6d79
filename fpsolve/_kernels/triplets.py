"""A generator in CSR from its rates as triplets (arrays in, arrays out)."""

import numpy as np

from .._jit import kernel

__all__ = ["generator"]


@kernel
def generator(rows, cols, rates, kill):
    """Rates as triplets (m,) with diagonal -(sum of the row + kill): indptr (n + 1,), indices, data; rows sorted, duplicates added.

    Two counting sorts, by column and then by row, keep every row in order; an entry is read and written twice.
    """
    n, m = kill.size, rows.size
    by_col = np.zeros(n + 1, np.int32)
    for k in range(m):
        by_col[cols[k] + 1] += 1
    indptr = np.zeros(n + 1, np.int32)
    for k in range(m):
        indptr[rows[k] + 1] += 1
    for i in range(n):
        by_col[i + 1] += by_col[i]
        indptr[i + 1] += indptr[i]
    order = np.empty(m, np.int32)
    for k in range(m):
        c = cols[k]
        order[by_col[c]] = k
        by_col[c] += 1
    at = indptr[:n].copy()
    columns, values = np.empty(m, np.int32), np.empty(m)
    for q in range(m):
        k = order[q]
        i = rows[k]
        columns[at[i]], values[at[i]] = cols[k], rates[k]
        at[i] += 1
    indices, data = np.empty(m + n, np.int32), np.empty(m + n)
    out, begin = 0, 0
    for i in range(n):
        total, own, end = kill[i], -1, indptr[i + 1]
        start = out
        for r in range(begin, end):
            total += values[r]
            c = columns[r]
            if own < 0 and c > i:
                own = out
                indices[out] = i
                out += 1
            if out > start and indices[out - 1] == c:
                data[out - 1] += values[r]
            else:
                indices[out], data[out] = c, values[r]
                out += 1
        if own < 0:
            own = out
            indices[out] = i
            out += 1
        data[own] = -total
        begin = end
        indptr[i] = start
    indptr[n] = out
    return indptr, indices[:out].copy(), data[:out].copy()
