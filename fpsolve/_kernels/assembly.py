"""Compressed rows from triplets (arrays in, arrays out)."""

import numpy as np

from .._jit import kernel

__all__ = ["compress"]


@kernel
def compress(rows, cols, rates, kill, indptr, indices, data):
    """CSR arrays of the generator from the rates off its diagonal: rows sorted, duplicates summed, diagonal -(sum of rates) - kill.

    indptr (n + 1,); indices and data hold one entry per triplet and one per row. Returns the number of entries.
    """
    n, m = kill.size, rows.size
    start = np.zeros(n + 1, np.int64)
    for q in range(m):
        start[rows[q] + 1] += 1
    for i in range(n):
        start[i + 1] += start[i] + 1
    at = start[:-1].copy()
    for i in range(n):
        indices[at[i]], data[at[i]] = i, -kill[i]
        at[i] += 1
    for q in range(m):
        i = rows[q]
        data[start[i]] -= rates[q]
        indices[at[i]], data[at[i]] = cols[q], rates[q]
        at[i] += 1
    out = 0
    for i in range(n):
        low, high = start[i], start[i + 1]
        for q in range(low + 1, high):  # by insertion: rows are short
            j, v, p = indices[q], data[q], q
            while p > low and indices[p - 1] > j:
                indices[p], data[p] = indices[p - 1], data[p - 1]
                p -= 1
            indices[p], data[p] = j, v
        indptr[i] = out
        for q in range(low, high):
            if q > low and indices[q] == indices[out - 1]:
                data[out - 1] += data[q]
            else:
                indices[out], data[out] = indices[q], data[q]
                out += 1
    indptr[n] = out
    return out
