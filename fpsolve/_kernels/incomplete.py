"""Incomplete elimination and Gauss-Seidel sweeps for a sparse generator (arrays in, arrays out).

All matrices are CSR with sorted columns. For an M-matrix the incomplete factors without fill exist and have the signs of the full
ones: Meijerink, van der Vorst, Math. Comp. 31, 148 (1977).
"""

import numpy as np

from .._jit import kernel

__all__ = ["factorise", "solve", "solve_transposed", "sweep"]


@kernel
def factorise(indptr, indices, data, diagonal):
    """Incomplete LU without fill in place: unit lower part, upper part; diagonal (n,): position of the diagonal in each row."""
    n = indptr.size - 1
    at = np.full(n, -1)
    for i in range(n):
        for q in range(indptr[i], indptr[i + 1]):
            at[indices[q]] = q
            if indices[q] == i:
                diagonal[i] = q
        own = data[diagonal[i]]
        for q in range(indptr[i], diagonal[i]):
            k = indices[q]
            data[q] /= data[diagonal[k]]
            for r in range(diagonal[k] + 1, indptr[k + 1]):
                p = at[indices[r]]
                if p >= 0:
                    data[p] -= data[q] * data[r]
        if not data[diagonal[i]] > 1e-8 * own:  # the last state of a chain without killing
            data[diagonal[i]] = own
        for q in range(indptr[i], indptr[i + 1]):
            at[indices[q]] = -1


@kernel
def solve(indptr, indices, data, diagonal, x):
    """x <- (L U)^-1 x."""
    n = indptr.size - 1
    for i in range(n):
        for q in range(indptr[i], diagonal[i]):
            x[i] -= data[q] * x[indices[q]]
    for i in range(n - 1, -1, -1):
        for q in range(diagonal[i] + 1, indptr[i + 1]):
            x[i] -= data[q] * x[indices[q]]
        x[i] /= data[diagonal[i]]


@kernel
def solve_transposed(indptr, indices, data, diagonal, x):
    """x <- (L U)^-T x."""
    n = indptr.size - 1
    for i in range(n):
        x[i] /= data[diagonal[i]]
        for q in range(diagonal[i] + 1, indptr[i + 1]):
            x[indices[q]] -= data[q] * x[i]
    for i in range(n - 1, -1, -1):
        for q in range(indptr[i], diagonal[i]):
            x[indices[q]] -= data[q] * x[i]


@kernel
def sweep(indptr, indices, data, out, x):
    """One symmetric Gauss-Seidel sweep for x_i out_i = sum_j x_j Q_ji, with the CSR arrays of Q^T: nonnegative if x is."""
    n = indptr.size - 1
    for direction in range(2):
        for step in range(n):
            i = step if direction == 0 else n - 1 - step
            total = 0.0
            for q in range(indptr[i], indptr[i + 1]):
                total += data[q] * x[indices[q]]
            if out[i] > 0.0:
                x[i] = total / out[i]
