"""Three-term recurrences with a sparse matrix kept as short diagonals (arrays in, arrays out).

Rows go in blocks of `BLOCK`; within a block the entries of one diagonal (column minus row) lie side by side, zero where there is
none. On a grid nearly all entries of a block are on few diagonals, whatever the offsets do elsewhere, so no column index is read
and the loops over a block vectorise. Vectors are padded on both sides, so that diagonals may stick out.
"""

import numpy as np

from .._jit import kernel, lean_kernel

__all__ = ["BLOCK", "count_diagonals", "fill_diagonals", "recur"]

BLOCK = 256


@kernel
def count_diagonals(indptr, indices):
    """Numbers of diagonals in the blocks of a CSR matrix (n, n), added up: block_ptr (blocks + 1,)."""
    n = indptr.size - 1
    blocks = (n + BLOCK - 1) // BLOCK
    seen = np.full(2 * n + 1, -1)
    block_ptr = np.zeros(blocks + 1, np.int64)
    for b in range(blocks):
        count = 0
        for i in range(b * BLOCK, min(n, (b + 1) * BLOCK)):
            for r in range(indptr[i], indptr[i + 1]):
                d = indices[r] - i + n
                if seen[d] != b:
                    seen[d] = b
                    count += 1
        block_ptr[b + 1] = block_ptr[b] + count
    return block_ptr


@kernel
def fill_diagonals(indptr, indices, data, block_ptr, offsets, values):
    """Diagonals by blocks of a CSR matrix (n, n), to offsets (m,) and values (m, BLOCK), zeros on entry."""
    n = indptr.size - 1
    seen, place = np.full(2 * n + 1, -1), np.empty(2 * n + 1, np.int64)
    for b in range(block_ptr.size - 1):
        at = block_ptr[b]
        for i in range(b * BLOCK, min(n, (b + 1) * BLOCK)):
            for r in range(indptr[i], indptr[i + 1]):
                d = indices[r] - i + n
                if seen[d] != b:
                    seen[d] = b
                    place[d] = at
                    offsets[at] = d - n
                    at += 1
                values[place[d], i - b * BLOCK] += data[r]


@lean_kernel
def recur(block_ptr, offsets, values, pad, n, a, old, c, older, out):
    """out = a (A old) + c older; vectors padded by `pad` zeros on both sides. Returns the sum of |out|.

    Per row it reads one number per diagonal and three vectors and writes one, 8 (m + 4) bytes for m diagonals: bound by memory.
    """
    total = 0.0
    for block in range(block_ptr.size - 1):
        lo = block * BLOCK
        size = min(BLOCK, n - lo)
        start = pad + lo
        o, u = out[start : start + size], older[start : start + size]
        for j in range(size):
            o[j] = c * u[j]
        m, last = block_ptr[block], block_ptr[block + 1]
        while m + 4 <= last:
            w0, w1, w2, w3 = values[m], values[m + 1], values[m + 2], values[m + 3]
            q0 = old[start + offsets[m] : start + offsets[m] + size]
            q1 = old[start + offsets[m + 1] : start + offsets[m + 1] + size]
            q2 = old[start + offsets[m + 2] : start + offsets[m + 2] + size]
            q3 = old[start + offsets[m + 3] : start + offsets[m + 3] + size]
            for j in range(size):
                o[j] += a * ((w0[j] * q0[j] + w1[j] * q1[j]) + (w2[j] * q2[j] + w3[j] * q3[j]))
            m += 4
        while m < last:
            w0, q0 = values[m], old[start + offsets[m] : start + offsets[m] + size]
            for j in range(size):
                o[j] += a * (w0[j] * q0[j])
            m += 1
        for j in range(size):
            total += abs(o[j])
    return total
