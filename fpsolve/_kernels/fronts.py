"""Multifrontal factorisation and solution of a general sparse matrix on the tree of `_kernels.dissection`, dense fronts by BLAS.

A front of p pivots and m border rows is [[A, B], [C, S]]; stored are X = A^-1 (pivoting inside the block), G = X B and C, and
S - C G goes to the parent. Unlike `_kernels.elimination` this subtracts: for matrices that are no M-matrices.
"""

import numpy as np

from fpsolve._jit import kernel

__all__ = ["factorise", "solve", "solve_transposed"]


@kernel
def _gather(rows, columns, lo, hi, where, F):
    """Add the entries of the matrix whose first eliminated index is a pivot of the front lo ... hi - 1."""
    indptr, indices, data = rows
    for i in range(lo, hi):
        for r in range(indptr[i], indptr[i + 1]):
            if indices[r] >= lo:
                F[i - lo, where[indices[r]]] += data[r]
    indptr, indices, data = columns
    for j in range(lo, hi):
        for r in range(indptr[j], indptr[j + 1]):
            if indices[r] >= hi:
                F[where[indices[r]], j - lo] += data[r]


@kernel
def factorise(rows, columns, tree, sizes, store):
    """Fill `store`; False where a pivot block is singular.

    rows, columns : CSR triples (indptr, indices, data) of the matrix in elimination order and of its transpose
    tree : node_ptr, border_ptr, border, children, store_ptr
    sizes : order of the largest front, entries on the stack of updates
    """
    node_ptr, border_ptr, border, children, store_ptr = tree
    n = rows[0].size - 1
    where = np.zeros(n, np.int64)
    whole = np.empty(sizes[0] * sizes[0])
    stack, top = np.empty(sizes[1]), 0
    waiting, count = np.empty(node_ptr.size, np.int64), 0
    for t in range(node_ptr.size - 1):
        lo, hi = node_ptr[t], node_ptr[t + 1]
        own = border[border_ptr[t] : border_ptr[t + 1]]
        p, m = hi - lo, own.size
        s = p + m
        for q in range(p):
            where[lo + q] = q
        for q in range(m):
            where[own[q]] = p + q
        F = whole[: s * s].reshape(s, s)
        F[:] = 0.0
        _gather(rows, columns, lo, hi, where, F)
        for _ in range(children[t]):
            count -= 1
            theirs = border[border_ptr[waiting[count]] : border_ptr[waiting[count] + 1]]
            k = theirs.size
            top -= k * k
            part = stack[top : top + k * k].reshape(k, k)
            for a in range(k):
                row = F[where[theirs[a]]]
                for b in range(k):
                    row[where[theirs[b]]] += part[a, b]
        base = store_ptr[t]
        if p > 0:
            pivots = F[:p, :p].copy()
            if not np.all(np.isfinite(pivots)) or not np.abs(pivots).sum() > 0.0:
                return False
            X = store[base : base + p * p].reshape(p, p)
            inverse = np.linalg.inv(pivots)
            for a in range(p):  # no slices: to assign them takes Numba seconds to compile
                for b in range(p):
                    X[a, b] = inverse[a, b]
            if m > 0:
                G = store[base + p * p : base + p * p + p * m].reshape(p, m)
                C = store[base + p * p + p * m : base + p * p + 2 * p * m].reshape(m, p)
                for a in range(m):
                    for b in range(p):
                        C[a, b] = F[p + a, b]
                np.dot(X, F[:p, p:].copy(), G)
                part = stack[top : top + m * m].reshape(m, m)
                np.dot(C, G, part)
                for a in range(m):
                    for b in range(m):
                        part[a, b] = F[p + a, p + b] - part[a, b]
        else:
            for a in range(m * m):
                stack[top + a] = whole[a]
        top += m * m
        waiting[count] = t
        count += 1
    return True


@kernel
def _room(starts):
    """A vector for the longest of the pieces that begin at `starts`."""
    longest = 0
    for t in range(starts.size - 1):
        longest = max(longest, starts[t + 1] - starts[t])
    return np.empty(longest)


@kernel
def solve(store, tree, x):
    """A x = b in place, in elimination order."""
    node_ptr, border_ptr, border, _, store_ptr = tree
    nodes = node_ptr.size - 1
    pivots, others = _room(node_ptr), _room(border_ptr)
    for t in range(nodes):
        lo, hi = node_ptr[t], node_ptr[t + 1]
        own, p = border[border_ptr[t] : border_ptr[t + 1]], hi - lo
        m, base = own.size, store_ptr[t]
        if p > 0:
            np.dot(store[base : base + p * p].reshape(p, p), x[lo:hi], pivots[:p])
            for a in range(p):  # no slices, as above
                x[lo + a] = pivots[a]
            if m > 0:
                np.dot(store[base + p * p + p * m : base + p * p + 2 * p * m].reshape(m, p), x[lo:hi], others[:m])
                for a in range(m):
                    x[own[a]] -= others[a]
    for t in range(nodes - 1, -1, -1):
        lo, hi = node_ptr[t], node_ptr[t + 1]
        own, p = border[border_ptr[t] : border_ptr[t + 1]], hi - lo
        m, base = own.size, store_ptr[t]
        if p > 0 and m > 0:
            for a in range(m):
                others[a] = x[own[a]]
            np.dot(store[base + p * p : base + p * p + p * m].reshape(p, m), others[:m], pivots[:p])
            for a in range(p):
                x[lo + a] -= pivots[a]


@kernel
def solve_transposed(store, tree, x):
    """A^T x = b in place, in elimination order."""
    node_ptr, border_ptr, border, _, store_ptr = tree
    nodes = node_ptr.size - 1
    pivots, others = _room(node_ptr), _room(border_ptr)
    for t in range(nodes):
        lo, hi = node_ptr[t], node_ptr[t + 1]
        own, p = border[border_ptr[t] : border_ptr[t + 1]], hi - lo
        m, base = own.size, store_ptr[t]
        if p > 0 and m > 0:
            np.dot(store[base + p * p : base + p * p + p * m].reshape(p, m).T, x[lo:hi], others[:m])
            for a in range(m):
                x[own[a]] -= others[a]
    for t in range(nodes - 1, -1, -1):
        lo, hi = node_ptr[t], node_ptr[t + 1]
        own, p = border[border_ptr[t] : border_ptr[t + 1]], hi - lo
        m, base = own.size, store_ptr[t]
        if p > 0:
            if m > 0:
                for a in range(m):
                    others[a] = x[own[a]]
                np.dot(store[base + p * p + p * m : base + p * p + 2 * p * m].reshape(m, p).T, others[:m], pivots[:p])
                for a in range(p):
                    x[lo + a] -= pivots[a]
            np.dot(store[base : base + p * p].reshape(p, p).T, x[lo:hi], pivots[:p])
            for a in range(p):  # no slices, as above
                x[lo + a] = pivots[a]
