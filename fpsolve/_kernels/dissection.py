"""Geometric nested dissection of a sparse graph and the symbolic factorisation that follows from it.

A set of vertices with integer coordinates is cut at the median of one coordinate; the vertices on one side that have a
neighbour on the other are the separator, whatever the width of the stencil and whether or not an axis is periodic. Both axes
and both sides are tried and the smallest separator is kept. Separators are eliminated after the two halves (George 1973).
"""

import numpy as np

from fpsolve._jit import kernel

__all__ = ["dissect", "symbolic"]


@kernel
def _best_cut(indptr, indices, coords, perm, lo, hi, comp, node):
    """Axis, cut value, side (0: separator among coord <= cut, 1: above) and size of the smallest separator; axis -1: none."""
    best_axis, best_cut, best_side, best_cost = -1, 0, 0, np.inf
    size = hi - lo
    for axis in range(coords.shape[1]):
        low, high = coords[perm[lo], axis], coords[perm[lo], axis]
        for q in range(lo, hi):
            c = coords[perm[q], axis]
            low, high = min(low, c), max(high, c)
        if high == low:
            continue
        counts = np.zeros(high - low + 1, np.int64)
        for q in range(lo, hi):
            counts[coords[perm[q], axis] - low] += 1
        below, cut = 0, 0
        for c in range(high - low):
            below += counts[c]
            cut = c + low
            if 2 * below >= size:
                break
        below_sep, above_sep = 0, 0
        for q in range(lo, hi):
            v = perm[q]
            inside = coords[v, axis] <= cut
            for r in range(indptr[v], indptr[v + 1]):
                u = indices[r]
                if comp[u] == node and (coords[u, axis] <= cut) != inside:
                    if inside:
                        below_sep += 1
                    else:
                        above_sep += 1
                    break
        # The larger of the two remaining parts enters with a small weight: balance breaks ties.
        for side in range(2):
            sep = below_sep if side == 0 else above_sep
            rest = max(below - sep, size - below) if side == 0 else max(below, size - below - sep)
            cost = sep + 0.02 * rest
            if cost < best_cost:
                best_axis, best_cut, best_side, best_cost = axis, cut, side, cost
    return best_axis, best_cut, best_side


@kernel
def _partition(indptr, indices, coords, perm, lo, hi, comp, node, axis, cut, side, work):
    """Reorder perm[lo:hi] to (first part, second part, separator); returns the two inner bounds."""
    kind = np.empty(hi - lo, np.int8)
    for q in range(lo, hi):
        v = perm[q]
        inside = coords[v, axis] <= cut
        kind[q - lo] = 0 if inside else 1
        if inside == (side == 0):
            for r in range(indptr[v], indptr[v + 1]):
                u = indices[r]
                if comp[u] == node and (coords[u, axis] <= cut) != inside:
                    kind[q - lo] = 2
                    break
    at = lo
    bounds = np.empty(2, np.int64)
    for part in range(3):
        for q in range(lo, hi):
            if kind[q - lo] == part:
                work[at] = perm[q]
                at += 1
        if part < 2:
            bounds[part] = at
    for q in range(lo, hi):  # a slice would bring the text of Numba's message about shapes along, which takes a second to compile
        perm[q] = work[q]
    return bounds[0], bounds[1]


@kernel
def dissect(indptr, indices, coords, leaf):
    """Elimination order and assembly tree of a graph with a symmetric pattern.

    Parameters: CSR pattern (n rows), coords (n, dim) int64, leaf (sets up to this size are not cut). Returns ``order`` (n,):
    vertices in elimination order; ``node_ptr`` (nodes + 1,): positions eliminated at each tree node, children before
    parents in post-order; ``parent`` (nodes,), -1 at a root.
    """
    n = indptr.size - 1
    perm, work = np.arange(n), np.empty(n, np.int64)
    comp = np.zeros(n, np.int64)
    cap = 2 * n + 2
    pivot_lo, pivot_hi = np.empty(cap, np.int64), np.empty(cap, np.int64)
    parent = np.full(cap, -1)
    stack = np.empty((cap, 3), np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, n, -1
    depth, nodes = 1, np.int64(0)  # a literal zero would have the functions it is passed to compiled once more, for that number
    while depth > 0:
        depth -= 1
        lo, hi, node = stack[depth, 0], stack[depth, 1], nodes
        parent[node] = stack[depth, 2]
        nodes += 1
        for q in range(lo, hi):
            comp[perm[q]] = node
        pivot_lo[node], pivot_hi[node] = lo, hi
        if hi - lo <= leaf:
            continue
        axis, cut, side = _best_cut(indptr, indices, coords, perm, lo, hi, comp, node)
        if axis < 0:
            continue
        first, second = _partition(indptr, indices, coords, perm, lo, hi, comp, node, axis, cut, side, work)
        pivot_lo[node] = second
        if first > lo:
            stack[depth, 0], stack[depth, 1], stack[depth, 2] = lo, first, node
            depth += 1
        if second > first:
            stack[depth, 0], stack[depth, 1], stack[depth, 2] = first, second, node
            depth += 1
    # Nodes were made in pre-order; read backwards they are a post-order of the mirrored tree.
    order, node_ptr, up = np.empty(n, np.int64), np.zeros(nodes + 1, np.int64), np.full(nodes, -1)
    at = 0
    for k in range(nodes):
        old = nodes - 1 - k
        for q in range(pivot_lo[old], pivot_hi[old]):
            order[at] = perm[q]
            at += 1
        node_ptr[k + 1] = at
        if parent[old] >= 0:
            up[k] = nodes - 1 - parent[old]
    return order, node_ptr, up


@kernel
def symbolic(indptr, indices, node_ptr, parent):
    """Borders of all fronts for a graph already numbered in elimination order.

    Returns ``border_ptr`` (nodes + 1,), ``border``: for each tree node the sorted later positions its elimination couples;
    ``children`` (nodes,): number of children; ``largest`` front size; ``peak`` number of entries on the update stack.
    """
    nodes, n = parent.size, indptr.size - 1
    border_ptr, border = np.zeros(nodes + 1, np.int64), np.empty(max(16, 8 * n), np.int64)
    children = np.zeros(nodes, np.int64)
    mark = np.full(n, -1)
    first_child, next_child = np.full(nodes, -1), np.full(nodes, -1)
    largest, peak, held = 0, 0, 0
    for t in range(nodes):
        start, last = border_ptr[t], node_ptr[t + 1]
        top = start
        if border.size < top + n:
            grown = np.empty(2 * border.size + n, np.int64)
            for r in range(top):
                grown[r] = border[r]
            border = grown
        for v in range(node_ptr[t], last):
            for r in range(indptr[v], indptr[v + 1]):
                u = indices[r]
                if u >= last and mark[u] != t:
                    mark[u] = t
                    border[top] = u
                    top += 1
        child = first_child[t]
        while child >= 0:
            for r in range(border_ptr[child], border_ptr[child + 1]):
                u = border[r]
                if u >= last and mark[u] != t:
                    mark[u] = t
                    border[top] = u
                    top += 1
            size = border_ptr[child + 1] - border_ptr[child]
            held -= size * (size + 1)
            child = next_child[child]
        border[start:top].sort()
        border_ptr[t + 1] = top
        held += (top - start) * (top - start + 1)
        peak = max(peak, held)
        largest = max(largest, top - start + last - node_ptr[t])
        if parent[t] >= 0:
            children[parent[t]] += 1
            next_child[t] = first_child[parent[t]]
            first_child[parent[t]] = t
    return border_ptr, border[: border_ptr[nodes]].copy(), children, largest, peak
