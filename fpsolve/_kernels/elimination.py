"""Elimination of the states of a Markov chain without a single subtraction, on dense fronts, in ordinary doubles.

Eliminating state k of a chain with rates F_ij and killing rates F_iK (last column of a front) gives the chain watched outside k:
``d_k = sum_{j > k} F_kj + F_kK``, ``P_kj = F_kj / d_k``, ``F_ij <- F_ij + F_ik P_kj``. The diagonal is never used: Grassmann,
Taksar and Heyman (1985); for M-matrices with off-diagonals and row sums as data Alfa, Xue and Ye (2002). It is the LU
factorisation of A = diag(row sum + kill) - F, with every entry to high relative accuracy. All terms of the blocked update are
nonnegative, so they may be added in any order.

A front of p pivots and m border states is stored as its p pivot rows of length p + m (left of the diagonal F, right of it
P) followed by the m x p block of F below them.
"""

import numpy as np

from fpsolve._jit import inline, kernel, lean_kernel

__all__ = [
    "assemble", "backward", "backward_transposed", "copy_block", "eliminate_front", "factorise", "forward", "forward_transposed",
    "tridiagonal_solve", "tridiagonal_solve_transposed",
]  # fmt: skip

#: Pivots eliminated row by row before the rest of a front is updated, and columns updated at a time. Most fronts are small.
PANEL, CHUNK = 8, 128


@inline
def _axpy_row(F, i, k, start, stop):
    """F[i, start:stop] += F[i, k] F[k, start:stop]."""
    f = F[i, k]
    if f != 0.0:
        for j in range(start, stop):
            F[i, j] += f * F[k, j]


@lean_kernel
def _rank_update(F, k0, k1):
    """F[i, j] += sum_{k0 <= k < k1} F[i, k] F[k, j] for all i, j >= k1, in tiles of 4 rows and 4 pivots.

    A loop of our own: a threaded BLAS gains nothing on panels this thin and loses much on a busy machine, and its sums depend
    on the number of threads.
    """
    s, width = F.shape
    for j0 in range(k1, width, CHUNK):
        j1 = min(j0 + CHUNK, width)
        full = k1 + (s - k1) // 4 * 4
        deep = k0 + (k1 - k0) // 4 * 4
        for i in range(k1, full, 4):
            o0, o1, o2, o3 = F[i, j0:j1], F[i + 1, j0:j1], F[i + 2, j0:j1], F[i + 3, j0:j1]
            for k in range(k0, deep, 4):
                r0, r1, r2, r3 = F[k, j0:j1], F[k + 1, j0:j1], F[k + 2, j0:j1], F[k + 3, j0:j1]
                a0, a1, a2, a3 = F[i, k], F[i, k + 1], F[i, k + 2], F[i, k + 3]
                b0, b1, b2, b3 = F[i + 1, k], F[i + 1, k + 1], F[i + 1, k + 2], F[i + 1, k + 3]
                c0, c1, c2, c3 = F[i + 2, k], F[i + 2, k + 1], F[i + 2, k + 2], F[i + 2, k + 3]
                e0, e1, e2, e3 = F[i + 3, k], F[i + 3, k + 1], F[i + 3, k + 2], F[i + 3, k + 3]
                for j in range(j1 - j0):
                    u0, u1, u2, u3 = r0[j], r1[j], r2[j], r3[j]
                    o0[j] += a0 * u0 + a1 * u1 + a2 * u2 + a3 * u3
                    o1[j] += b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3
                    o2[j] += c0 * u0 + c1 * u1 + c2 * u2 + c3 * u3
                    o3[j] += e0 * u0 + e1 * u1 + e2 * u2 + e3 * u3
            for k in range(deep, k1):
                for q in range(i, i + 4):
                    _axpy_row(F, q, k, j0, j1)
        for i in range(full, s):
            for k in range(k0, k1):
                _axpy_row(F, i, k, j0, j1)


@lean_kernel
def eliminate_front(F, p, d):
    """Eliminate the first p states of the front F (s, s + 1), last column the killing; d (p,) receives the exit rates.

    An exit rate of zero is stored as zero and its row left zero: the caller decides whether that state may be the last one.
    """
    s, width = F.shape
    for k0 in range(0, p, PANEL):
        k1 = min(k0 + PANEL, p)
        for k in range(k0, k1):
            for q in range(k0, k):
                _axpy_row(F, k, q, q + 1, width)
            total = 0.0
            for j in range(k + 1, width):
                total += F[k, j]
            d[k] = total
            if total > 0.0:
                for j in range(k + 1, width):
                    F[k, j] /= total
        for i in range(k1, s):
            for q in range(k0, k1):
                _axpy_row(F, i, q, q + 1, k1)
        if k1 < s:
            _rank_update(F, k0, k1)


@lean_kernel
def assemble(F, t, indptr, indices, data, tptr, tindices, tdata, kill, node_ptr, border_ptr, border, loc):
    """Write the original rates that belong to tree node t into its zeroed front; sets loc[position] = row of the front."""
    a, b = node_ptr[t], node_ptr[t + 1]
    p, last = b - a, F.shape[1] - 1
    for v in range(a, b):
        loc[v] = v - a
    for r in range(border_ptr[t], border_ptr[t + 1]):
        loc[border[r]] = p + r - border_ptr[t]
    for v in range(a, b):
        F[v - a, last] = kill[v]
        for r in range(indptr[v], indptr[v + 1]):
            if indices[r] >= a:
                F[v - a, loc[indices[r]]] = data[r]
        for r in range(tptr[v], tptr[v + 1]):
            if tindices[r] >= b:
                F[loc[tindices[r]], v - a] = tdata[r]


@lean_kernel
def copy_block(F, i0, i1, j0, j1, out, at):
    """Write F[i0:i1, j0:j1] row by row into out, from ``at`` on (assigning slices takes Numba seconds to compile)."""
    for i in range(i0, i1):
        for j in range(j0, j1):
            out[at] = F[i, j]
            at += 1


@kernel
def factorise(rates, tree, kill, sizes, store):
    """Multifrontal elimination of all states.

    rates = (indptr, indices, data, tptr, tindices, tdata): off-diagonal rates by row and by column, in elimination order.
    tree = (node_ptr, border_ptr, border, children, store_ptr) of `symbolic`; sizes = (largest front, stack peak).
    store: room for the fronts. Returns the exit rates d (n,).
    """
    indptr, indices, data, tptr, tindices, tdata = rates
    node_ptr, border_ptr, border, children, store_ptr = tree
    largest, peak = sizes
    nodes, n = children.size, kill.size
    d = np.empty(n)
    buffer = np.empty(largest * (largest + 1))
    stack, held = np.empty(peak), np.empty(nodes, np.int64)
    loc = np.empty(n, np.int64)
    top, count, zero = np.int64(0), 0, np.int64(0)  # literal zeros would have functions compiled for these numbers
    for t in range(nodes):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        s = p + m
        F = buffer[: s * (s + 1)].reshape(s, s + 1)
        F[:, :] = 0.0
        assemble(F, t, indptr, indices, data, tptr, tindices, tdata, kill, node_ptr, border_ptr, border, loc)
        for _ in range(children[t]):
            count -= 1
            child = held[count]
            start, size = border_ptr[child], border_ptr[child + 1] - border_ptr[child]
            top -= size * (size + 1)
            for i in range(size):
                row, base = loc[border[start + i]], top + i * (size + 1)
                for j in range(size):
                    F[row, loc[border[start + j]]] += stack[base + j]
                F[row, s] += stack[base + size]
        eliminate_front(F, p, d[a:b])
        copy_block(F, zero, p, zero, s, store, store_ptr[t])
        copy_block(F, p, s, zero, p, store, store_ptr[t] + p * s)
        copy_block(F, p, s, p, s + 1, stack, top)
        top += m * (m + 1)
        held[count] = t
        count += 1
    return d


@lean_kernel
def forward(store, d, tree, y):
    """In place: y <- exit-rate-scaled forward substitution, y_k = (b_k + sum_{i < k} F_ki y_i) / d_k."""
    node_ptr, border_ptr, border, children, store_ptr = tree
    for t in range(children.size):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        top = store[store_ptr[t] : store_ptr[t] + p * (p + m)].reshape(p, p + m)
        low = store[store_ptr[t] + p * (p + m) : store_ptr[t + 1]].reshape(m, p)
        for k in range(p):
            total = y[a + k]
            for i in range(k):
                total += top[k, i] * y[a + i]
            y[a + k] = total / d[a + k]
        for i in range(m):
            total = 0.0
            for k in range(p):
                total += low[i, k] * y[a + k]
            y[border[border_ptr[t] + i]] += total


@kernel
def backward(store, d, tree, y):
    """In place: x_k = y_k + sum_{j > k} P_kj x_j."""
    node_ptr, border_ptr, border, children, store_ptr = tree
    for t in range(children.size - 1, -1, -1):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        top = store[store_ptr[t] : store_ptr[t] + p * (p + m)].reshape(p, p + m)
        x = np.empty(p + m)
        for i in range(m):
            x[p + i] = y[border[border_ptr[t] + i]]
        for k in range(p - 1, -1, -1):
            total = y[a + k]
            for j in range(k + 1, p + m):
                total += top[k, j] * x[j]
            x[k] = total
            y[a + k] = total


@lean_kernel
def forward_transposed(store, d, tree, z):
    """In place: z_j <- z_j + sum_{k < j} P_kj z_k, the mass that first appears at j when only later states are watched."""
    node_ptr, border_ptr, border, children, store_ptr = tree
    for t in range(children.size):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        top = store[store_ptr[t] : store_ptr[t] + p * (p + m)].reshape(p, p + m)
        for k in range(p):
            f = z[a + k]
            if f != 0.0:
                for j in range(k + 1, p):
                    z[a + j] += f * top[k, j]
                for j in range(m):
                    z[border[border_ptr[t] + j]] += f * top[k, p + j]


@lean_kernel
def backward_transposed(store, d, tree, z):
    """In place: mu_k = (z_k + sum_{i > k} F_ik mu_i) / d_k."""
    node_ptr, border_ptr, border, children, store_ptr = tree
    for t in range(children.size - 1, -1, -1):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        top = store[store_ptr[t] : store_ptr[t] + p * (p + m)].reshape(p, p + m)
        low = store[store_ptr[t] + p * (p + m) : store_ptr[t + 1]].reshape(m, p)
        for i in range(m):
            f = z[border[border_ptr[t] + i]]
            if f != 0.0:
                for k in range(p):
                    z[a + k] += f * low[i, k]
        for k in range(p - 1, -1, -1):
            z[a + k] /= d[a + k]
            f = z[a + k]
            if f != 0.0:
                for i in range(k):
                    z[a + i] += f * top[k, i]


@kernel
def tridiagonal_solve(down, up, d, y):
    """In place x, exit rates d given: y_i = (b_i + down_i y_{i-1}) / d_i, then x_i = y_i + (up_i / d_i) x_{i+1}."""
    n = y.size
    y[0] /= d[0]
    for i in range(1, n):
        y[i] = (y[i] + down[i] * y[i - 1]) / d[i]
    for i in range(n - 2, -1, -1):
        y[i] += (up[i] / d[i]) * y[i + 1]


@kernel
def tridiagonal_solve_transposed(down, up, d, z):
    """In place mu: z_i += (up_{i-1} / d_{i-1}) z_{i-1}, then mu_i = (z_i + down_{i+1} mu_{i+1}) / d_i."""
    n = z.size
    last = 0.0
    for i in range(n):  # z_i / d_i: the division waits for no other one
        part = 1.0 / d[i]
        z[i] = last = z[i] * part + (up[i - 1] * part * last if i > 0 else 0.0)
    for i in range(n - 2, -1, -1):
        z[i] = last = z[i] + (down[i + 1] / d[i]) * last
