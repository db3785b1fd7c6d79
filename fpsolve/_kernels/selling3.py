"""Selling's decomposition in three dimensions: the diffusion tensor as six nonnegative weights along integer offsets.

An obtuse superbase of D is four integer vectors v_0 + v_1 + v_2 + v_3 = 0, three of which span all integer vectors, with
v_i.D v_j <= 0 for every pair. Then D is the sum over pairs of (-v_i.D v_j) e_ij e_ij^T, e_ij = v_k x v_l of the other two.
While a product is positive, v_i -> -v_i and v_k, v_l -> v_k + v_i, v_l + v_i lowers sum v.D v, so this ends.
Sources: E. Selling, J. reine angew. Math. 77, 143 (1874); J. H. Conway, N. J. A. Sloane, Proc. R. Soc. A 436, 55 (1992).
"""

import math

import numpy as np

from .._jit import inline, kernel
from .selling import PERIODIC, REFLECTING, _room, _selling_2d

__all__ = ["axes_and_diagonals", "components", "decompose", "locate", "partner_of", "shifted", "wall_edges"]

#: Flips after which a tensor counts as beyond any cap.
_FLIPS = 400
#: The pairs (i, j) of a superbase, each with the other two (k, l).
_PAIRS = np.array([[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 1, 2], [1, 2, 0, 3], [1, 3, 0, 2], [2, 3, 0, 1]])


@inline
def locate(j0, j1, j2, e0, e1, e2, shape, sides):
    """Cell reached from (j0, j1, j2) by an offset: (cell, -1, 1), or (-1, side code, fraction of the offset inside the box)."""
    first, side = 2.0, -1
    t0, t1, t2 = j0 + e0, j1 + e1, j2 + e2
    if t0 < 0 or t0 >= shape[0]:
        which = 0 if t0 < 0 else 1
        if sides[0, which] == PERIODIC:
            t0 = t0 % shape[0]
        else:
            first, side = ((j0 + 0.5) if t0 < 0 else (shape[0] - j0 - 0.5)) / abs(e0), sides[0, which]
    if t1 < 0 or t1 >= shape[1]:
        which = 0 if t1 < 0 else 1
        if sides[1, which] == PERIODIC:
            t1 = t1 % shape[1]
        else:
            when = ((j1 + 0.5) if t1 < 0 else (shape[1] - j1 - 0.5)) / abs(e1)
            if when < first:
                first, side = when, sides[1, which]
    if t2 < 0 or t2 >= shape[2]:
        which = 0 if t2 < 0 else 1
        if sides[2, which] == PERIODIC:
            t2 = t2 % shape[2]
        else:
            when = ((j2 + 0.5) if t2 < 0 else (shape[2] - j2 - 0.5)) / abs(e2)
            if when < first:
                first, side = when, sides[2, which]
    if side >= 0:
        return -1, side, first
    return (t0 * shape[1] + t1) * shape[2] + t2, -1, 1.0


@inline
def partner_of(j, k, e0, e1, e2, offsets, weights):
    """Index of an offset in cell j, or -1; k is where it is looked for first."""
    if weights[j, k] > 0.0 and offsets[j, k, 0] == e0 and offsets[j, k, 1] == e1 and offsets[j, k, 2] == e2:
        return k
    for m in range(weights.shape[1]):
        if weights[j, m] > 0.0 and offsets[j, m, 0] == e0 and offsets[j, m, 1] == e1 and offsets[j, m, 2] == e2:
            return m
    return -1


@inline
def _product(D, v, i, j):
    """v_i . D v_j for D = (D00, D01, D02, D11, D12, D22)."""
    x0, x1, x2 = v[j, 0], v[j, 1], v[j, 2]
    return (
        v[i, 0] * (D[0] * x0 + D[1] * x1 + D[2] * x2)
        + v[i, 1] * (D[1] * x0 + D[3] * x1 + D[4] * x2)
        + v[i, 2] * (D[2] * x0 + D[4] * x1 + D[5] * x2)
    )


@kernel
def _selling(D, h, room, v, off, w):
    """Weights of D (six entries, in units of cells) on six offsets no longer than `room` (3,); returns what had to be added.

    v (4, 3): work space. Where offsets do not fit, positive products are clipped at the superbase on the way at which that adds
    least (the sum of what it adds along all offsets, which bounds the largest eigenvalue).
    """
    for i in range(3):
        for a in range(3):
            v[i, a] = 1 if i == a else 0
        v[3, i] = -1
    tol = 1e-15 * (D[0] + D[3] + D[5])
    best = math.inf
    for _ in range(_FLIPS):
        at, largest, cost, fits, beyond = 0, -math.inf, 0.0, True, False
        for pair in range(6):
            i, j, k, l = _PAIRS[pair, 0], _PAIRS[pair, 1], _PAIRS[pair, 2], _PAIRS[pair, 3]
            p = _product(D, v, i, j)
            if p > largest:
                at, largest = pair, p
            e0 = v[k, 1] * v[l, 2] - v[k, 2] * v[l, 1]
            e1 = v[k, 2] * v[l, 0] - v[k, 0] * v[l, 2]
            e2 = v[k, 0] * v[l, 1] - v[k, 1] * v[l, 0]
            if p > 4.0 * tol:
                cost += p * ((e0 * h[0]) ** 2 + (e1 * h[1]) ** 2 + (e2 * h[2]) ** 2)
            elif -p > 4.0 * tol:
                if abs(e0) > room[0] or abs(e1) > room[1] or abs(e2) > room[2]:
                    fits = False
                if max(abs(e0), abs(e1), abs(e2)) > 64 * max(room[0], room[1], room[2]):
                    beyond = True
        if fits and cost < best:
            best = cost
            _store(D, v, tol, off, w)
        if largest <= tol or beyond:
            break
        i, k, l = _PAIRS[at, 0], _PAIRS[at, 2], _PAIRS[at, 3]
        for a in range(3):
            v[k, a] += v[i, a]
            v[l, a] += v[i, a]
            v[i, a] = -v[i, a]
    return best


@inline
def _store(D, v, tol, off, w):
    """Offsets and nonnegative weights of a superbase."""
    det = D[0] * (D[3] * D[5] - D[4] * D[4]) - D[1] * (D[1] * D[5] - D[4] * D[2]) + D[2] * (D[1] * D[4] - D[3] * D[2])
    regular = det > 1e-12 * D[0] * D[3] * D[5]
    for pair in range(6):
        i, j, k, l = _PAIRS[pair, 0], _PAIRS[pair, 1], _PAIRS[pair, 2], _PAIRS[pair, 3]
        e0 = v[k, 1] * v[l, 2] - v[k, 2] * v[l, 1]
        e1 = v[k, 2] * v[l, 0] - v[k, 0] * v[l, 2]
        e2 = v[k, 0] * v[l, 1] - v[k, 1] * v[l, 0]
        if e0 < 0 or (e0 == 0 and (e1 < 0 or (e1 == 0 and e2 < 0))):
            e0, e1, e2 = -e0, -e1, -e2
        p = -_product(D, v, i, j)
        # an edge that rounding left must not have a say in how the drift is split
        if p <= tol or (regular and p * e0 * e0 <= 1e-13 * D[0] and p * e1 * e1 <= 1e-13 * D[3] and p * e2 * e2 <= 1e-13 * D[5]):
            e0, e1, e2, p = 0, 0, 0, 0.0
        off[pair, 0], off[pair, 1], off[pair, 2], w[pair] = e0, e1, e2, p


@kernel
def decompose(diffusion, spacing, shape, sides, cap, offsets, weights, clipped, clipped_free):
    """Nonnegative weights w_k on integer offsets e_k with D_ij / (h_i h_j) = sum_k w_k e_ki e_kj in every cell.

    diffusion (n, 3, 3); spacing (n, 3) cell widths; offsets (n, 6, 3), weights (n, 6). Offsets are capped at `cap` and shortened
    near reflecting walls; what this adds to D goes to clipped (n,), what the cap alone would add to clipped_free (n,).
    """
    D, last = np.zeros(6), np.full(6, -1.0)
    room, last_room, v = np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros((4, 3), np.int64)
    free = np.full(3, cap)
    for i in range(spacing.shape[0]):
        at = 0
        for a in range(3):
            for b in range(a, 3):
                D[at] = diffusion[i, a, b] / (spacing[i, a] * spacing[i, b])
                at += 1
        room[0] = _room(i // (shape[1] * shape[2]), shape[0], sides[0, 0], sides[0, 1], cap)
        room[1] = _room(i // shape[2] % shape[1], shape[1], sides[1, 0], sides[1, 1], cap)
        room[2] = _room(i % shape[2], shape[2], sides[2, 0], sides[2, 1], cap)
        same = i > 0
        for k in range(6):
            same = same and D[k] == last[k]
        for k in range(3):
            same = same and room[k] == last_room[k] and spacing[i, k] == spacing[i - 1, k]
        if same:
            for k in range(6):  # number by number: to assign rows of arrays takes Numba a second to compile
                offsets[i, k, 0], offsets[i, k, 1], offsets[i, k, 2] = (
                    offsets[i - 1, k, 0], offsets[i - 1, k, 1], offsets[i - 1, k, 2],
                )  # fmt: skip
                weights[i, k] = weights[i - 1, k]
            clipped[i], clipped_free[i] = clipped[i - 1], clipped_free[i - 1]
            continue
        clipped_free[i] = _selling(D, spacing[i], free, v, offsets[i], weights[i])
        clipped[i] = clipped_free[i]
        for k in range(6):
            if abs(offsets[i, k, 0]) > room[0] or abs(offsets[i, k, 1]) > room[1] or abs(offsets[i, k, 2]) > room[2]:
                clipped[i] = _selling(D, spacing[i], room, v, offsets[i], weights[i])
                break
        for k in range(6):
            last[k] = D[k]
        for k in range(3):
            last_room[k] = room[k]


@inline
def _root(i, parent):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel
def components(shape, sides, offsets, weights, label):
    """Label (n,) of the connected part of every cell, its first cell."""
    n = weights.shape[0]
    for i in range(n):
        label[i] = i
    for i in range(n):
        j0, j1, j2 = i // (shape[1] * shape[2]), i // shape[2] % shape[1], i % shape[2]
        for k in range(weights.shape[1]):
            if weights[i, k] > 0.0:
                for sign in range(-1, 2, 2):
                    e0, e1, e2 = sign * offsets[i, k, 0], sign * offsets[i, k, 1], sign * offsets[i, k, 2]
                    j = locate(j0, j1, j2, e0, e1, e2, shape, sides)[0]
                    if j >= 0:
                        a, b = _root(i, label), _root(j, label)
                        label[max(a, b)] = min(a, b)
    for i in range(n):
        label[i] = _root(i, label)


@kernel
def axes_and_diagonals(cells, diffusion, spacing, offsets, weights, clipped):
    """Give cells cut off in a corner edges along every axis: offsets e_a and e_a +- e_b, which always lead somewhere.

    D_ab goes to the diagonals, the rest to the axes, where it is at least a tenth of a bound below the smallest eigenvalue; what
    that adds to D is added to clipped (n,). Cells with a singular D stay as they are.
    """
    D = np.zeros((3, 3))
    for i in cells:
        for a in range(3):
            for b in range(3):
                D[a, b] = diffusion[i, a, b] / (spacing[i, a] * spacing[i, b])
        det = D[0, 0] * (D[1, 1] * D[2, 2] - D[1, 2] ** 2) - D[0, 1] * (D[0, 1] * D[2, 2] - D[1, 2] * D[0, 2])
        det += D[0, 2] * (D[0, 1] * D[1, 2] - D[1, 1] * D[0, 2])
        if not det > 1e-13 * D[0, 0] * D[1, 1] * D[2, 2]:
            continue
        floor = 0.4 * det / (D[0, 0] + D[1, 1] + D[2, 2]) ** 2
        added, n = 0.0, 3
        for a in range(3):
            left = D[a, a]
            for b in range(3):
                left -= abs(D[a, b]) if a != b else 0.0
            w = max(left, floor)
            added += (w - left) * spacing[i, a] ** 2
            for b in range(3):
                offsets[i, a, b] = 1 if a == b else 0
            weights[i, a] = w
            for b in range(a + 1, 3):
                for c in range(3):
                    offsets[i, n, c] = 0
                offsets[i, n, a], offsets[i, n, b] = 1, (1 if D[a, b] >= 0.0 else -1)
                weights[i, n] = abs(D[a, b])
                n += 1
        clipped[i] = max(clipped[i], added)


@kernel
def shifted(shape, sides, spacing, offsets, weights, short, out):
    """What cells `short` of offsets shift in half the second moment of the rates, as `selling.shifted`; the trace norm goes to out.

    sum |w_(other) - w|/4 |H e|^2 over the edges: a bound of the largest eigenvalue in size.
    """
    for i in range(weights.shape[0]):
        j0, j1, j2 = i // (shape[1] * shape[2]), i // shape[2] % shape[1], i % shape[2]
        for k in range(weights.shape[1]):
            w = weights[i, k]
            if w <= 0.0:
                continue
            e0, e1, e2 = offsets[i, k, 0], offsets[i, k, 1], offsets[i, k, 2]
            size = (e0 * spacing[i, 0]) ** 2 + (e1 * spacing[i, 1]) ** 2 + (e2 * spacing[i, 2]) ** 2
            for sign in range(-1, 2, 2):
                j = locate(j0, j1, j2, sign * e0, sign * e1, sign * e2, shape, sides)[0]
                if j < 0 or not (short[i] or short[j]):
                    continue
                partner = partner_of(j, k, e0, e1, e2, offsets, weights)
                other = weights[j, partner] if partner >= 0 else 0.0
                out[i] += 0.25 * abs(other - w) * size
                if partner < 0:
                    out[j] += 0.25 * w * size


@kernel
def wall_edges(axis, shape, sides, cap, offsets, weights, extra_offsets, extra):
    """What edges cut off by reflecting walls across `axis` would have carried along the wall: offsets (n, 3, 3), weights (n, 3).

    Without flux through the wall, q = (drift - gradient) has q_n = -q_t.D_tn/D_nn there, and the missing halves of the edges with a
    step e_n = 1 across the rows carry T q_t, T = (1/2) sum w t t^T with t = e_t - e_n D_tn/D_nn: a nonnegative tensor in the
    plane of the wall, which is decomposed there. Returns whether there is any.
    """
    off2, w2 = np.zeros((3, 2), np.int64), np.zeros(3)
    found = False
    p, q = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
    for i in range(weights.shape[0]):
        j0, j1, j2 = i // (shape[1] * shape[2]), i // shape[2] % shape[1], i % shape[2]
        at = j0 if axis == 0 else (j1 if axis == 1 else j2)
        low = at == 0 and sides[axis, 0] == REFLECTING
        if not low and not (at == shape[axis] - 1 and sides[axis, 1] == REFLECTING):
            continue
        nn, np_, nq = 0.0, 0.0, 0.0
        for k in range(weights.shape[1]):
            e = offsets[i, k, axis]
            nn += weights[i, k] * e * e
            np_ += weights[i, k] * e * offsets[i, k, p]
            nq += weights[i, k] * e * offsets[i, k, q]
        if nn <= 0.0:
            continue
        a, b, c = 0.0, 0.0, 0.0
        for k in range(weights.shape[1]):
            e = offsets[i, k, axis]
            if e != 0:
                x, y = offsets[i, k, p] - e * np_ / nn, offsets[i, k, q] - e * nq / nn
                half = 0.5 * abs(e) * weights[i, k]
                a, b, c = a + half * x * x, b + half * x * y, c + half * y * y
        if not a + c > 1e-13 * nn:
            continue
        found = True
        m, l = (j1 if p == 1 else j0), (j2 if q == 2 else j1)
        room_p = _room(m, shape[p], sides[p, 0], sides[p, 1], cap)
        room_q = _room(l, shape[q], sides[q, 0], sides[q, 1], cap)
        _selling_2d(a, b, c, 1.0, 1.0, room_p, room_q, off2, w2)
        for k in range(3):
            if w2[k] > 1e-14 * (a + c):
                extra_offsets[i, k, p], extra_offsets[i, k, q], extra[i, k] = off2[k, 0], off2[k, 1], w2[k]
    return found
