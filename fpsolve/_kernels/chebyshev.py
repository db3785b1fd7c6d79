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
def count_diagonals(indptr, indices, transposed):
    """Numbers of diagonals in the blocks of 1 + c (Q - out), Q in CSR (n, n), or of its transpose, added up: (blocks + 1,).

    Along a diagonal rows grow with the columns, so that it meets its blocks one after the other, whichever are read.
    """
    n = indptr.size - 1
    blocks = (n + BLOCK - 1) // BLOCK
    seen = np.full(2 * n + 1, -1, np.int32)
    block_ptr = np.zeros(blocks + 1, np.int64)
    for b in range(blocks):
        block_ptr[b + 1] = 1  # the diagonal itself
    for i in range(n):
        for r in range(indptr[i], indptr[i + 1]):
            j = indices[r]
            row, d = (j, i - j) if transposed else (i, j - i)
            b = row // BLOCK
            if d != 0 and seen[d + n] != b:
                seen[d + n] = b
                block_ptr[b + 1] += 1
    for b in range(blocks):
        block_ptr[b + 1] += block_ptr[b]
    return block_ptr


@kernel
def fill_diagonals(indptr, indices, data, out, scale, transposed, block_ptr, offsets, values):
    """Diagonals by blocks of 1 + scale (Q - out) or its transpose to offsets (m,) and values (m, BLOCK), zeros on entry."""
    n = indptr.size - 1
    seen, place = np.full(2 * n + 1, -1, np.int32), np.empty(2 * n + 1, np.int32)
    free = block_ptr[:-1] + 1
    for b in range(free.size):
        offsets[free[b] - 1] = 0
    for i in range(n):
        b = i // BLOCK
        values[block_ptr[b], i - b * BLOCK] += 1.0 - scale * out[i]
        for r in range(indptr[i], indptr[i + 1]):
            j = indices[r]
            row, d = (j, i - j) if transposed else (i, j - i)
            b = row // BLOCK
            at = block_ptr[b]
            if d != 0:
                if seen[d + n] != b:
                    seen[d + n], place[d + n] = b, free[b]
                    offsets[free[b]] = d
                    free[b] += 1
                at = place[d + n]
            values[at, row - b * BLOCK] += scale * data[r]


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
