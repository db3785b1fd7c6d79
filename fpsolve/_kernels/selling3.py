"""Selling's decomposition in three dimensions: the diffusion tensor as six nonnegative weights along integer offsets.

An obtuse superbase of D is four integer vectors v_0 + v_1 + v_2 + v_3 = 0, three of which span all integer vectors, with
v_i.D v_j <= 0 for every pair. Then D is the sum over pairs of (-v_i.D v_j) e_ij e_ij^T, e_ij = v_k x v_l of the other two.
While a product is positive, v_i -> -v_i and v_k, v_l -> v_k + v_i, v_l + v_i lowers sum v.D v, so this ends.
Sources: E. Selling, J. reine angew. Math. 77, 143 (1874); J. H. Conway, N. J. A. Sloane, Proc. R. Soc. A 436, 55 (1992).
"""

import math

import numpy as np

from .._jit import inline, kernel
from .selling import PERIODIC, _room, _root, _selling_2d

__all__ = ["axes_and_diagonals", "components", "decompose", "locate", "partner_of", "shifted", "smooth_switches", "wall_edges"]

#: Flips after which a tensor counts as beyond any cap.
_FLIPS = 400
#: Most offsets on the way along a segment of tensors.
ROOM = 16
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


@inline
def _offset(v, pair):
    """The offset that belongs to a pair of a superbase, with its first entry that is not zero positive."""
    k, l = _PAIRS[pair, 2], _PAIRS[pair, 3]
    e0 = v[k, 1] * v[l, 2] - v[k, 2] * v[l, 1]
    e1 = v[k, 2] * v[l, 0] - v[k, 0] * v[l, 2]
    e2 = v[k, 0] * v[l, 1] - v[k, 1] * v[l, 0]
    if e0 < 0 or (e0 == 0 and (e1 < 0 or (e1 == 0 and e2 < 0))):
        return -e0, -e1, -e2
    return e0, e1, e2


@inline
def _flip(v, pair):
    i, k, l = _PAIRS[pair, 0], _PAIRS[pair, 2], _PAIRS[pair, 3]
    for a in range(3):
        v[k, a] += v[i, a]
        v[l, a] += v[i, a]
        v[i, a] = -v[i, a]


@kernel
def _selling(D, h, room, v, off, w):
    """Weights of D (six entries, in units of cells) on six offsets no longer than `room` (3,); returns what had to be added.

    v (4, 3): the superbase to begin with, in place. Where offsets do not fit, positive products are clipped at the superbase on the
    way at which that adds least (the sum of what it adds along all offsets, which bounds the largest eigenvalue).
    """
    tol = 1e-15 * (D[0] + D[3] + D[5])
    best = math.inf
    for _ in range(_FLIPS):
        at, largest, cost, fits, beyond = 0, -math.inf, 0.0, True, False
        for pair in range(6):
            p = _product(D, v, _PAIRS[pair, 0], _PAIRS[pair, 1])
            if p > largest:
                at, largest = pair, p
            e0, e1, e2 = _offset(v, pair)
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
        _flip(v, at)
    return best


@inline
def _axes(v):
    """The superbase of the axes."""
    for i in range(3):
        for a in range(3):
            v[i, a] = 1 if i == a else 0
        v[3, i] = -1


@inline
def _store(D, v, tol, off, w):
    """Offsets and nonnegative weights of a superbase."""
    det = D[0] * (D[3] * D[5] - D[4] * D[4]) - D[1] * (D[1] * D[5] - D[4] * D[2]) + D[2] * (D[1] * D[4] - D[3] * D[2])
    regular = det > 1e-12 * D[0] * D[3] * D[5]
    for pair in range(6):
        e0, e1, e2 = _offset(v, pair)
        p = -_product(D, v, _PAIRS[pair, 0], _PAIRS[pair, 1])
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
    room, v = np.zeros(3, np.int64), np.zeros((4, 3), np.int64)
    near, free, base, at = np.zeros((6, 3), offsets.dtype), np.zeros(6), np.zeros((4, 3), np.int64), 0
    long, added = np.full(3, cap), 0.0
    _axes(base)
    for i in range(spacing.shape[0]):
        at, same = 0, i > 0 and spacing[i, 0] == spacing[i - 1, 0] and spacing[i, 1] == spacing[i - 1, 1]
        same = same and spacing[i, 2] == spacing[i - 1, 2]
        for a in range(3):
            for b in range(a, 3):
                D[at] = diffusion[i, a, b] / (spacing[i, a] * spacing[i, b])
                same = same and D[at] == last[at]
                at += 1
        if not same:
            # from the superbase of the cell before, and from the axes where that is not it: on the way from there offsets are short
            added = _selling(D, spacing[i], long, base, near, free)
            if added > 0.0:
                _axes(base)
                added = _selling(D, spacing[i], long, base, near, free)
            last[:] = D
        offsets[i], weights[i], clipped_free[i], clipped[i] = near, free, added, added
        j0, j1 = i // (shape[1] * shape[2]), i // shape[2] % shape[1]
        room[0] = _room(j0, shape[0], sides[0, 0], sides[0, 1], cap)
        room[1] = _room(j1, shape[1], sides[1, 0], sides[1, 1], cap)
        room[2] = _room(i - (j0 * shape[1] + j1) * shape[2], shape[2], sides[2, 0], sides[2, 1], cap)
        for k in range(6):
            if abs(near[k, 0]) > room[0] or abs(near[k, 1]) > room[1] or abs(near[k, 2]) > room[2]:
                _axes(v)
                clipped[i] = _selling(D, spacing[i], room, v, offsets[i], weights[i])
                break


@inline
def _obtuse(D, v):
    """Flip v in place to an obtuse superbase of D; returns whether that ended."""
    tol = 1e-15 * (D[0] + D[3] + D[5])
    for _ in range(_FLIPS):
        at, largest = 0, -math.inf
        for pair in range(6):
            p = _product(D, v, _PAIRS[pair, 0], _PAIRS[pair, 1])
            if p > largest:
                at, largest = pair, p
        if largest <= tol:
            return True
        _flip(v, at)
    return False


@inline
def _mean(D, N, v, found, mean):
    """Mean weights (ROOM,) of D + s N over s with the density 3 (1 - s^2)/4 on [-1, 1] on offsets found (ROOM, 3).

    v: an obtuse superbase of D - N, in place. Along the segment weights are linear between flips. Returns how many offsets, or -1
    where there is no room.
    """
    count, low, least = 0, -1.0, 1e-14 * (D[0] + D[3] + D[5])
    for _ in range(ROOM):
        high, at = 1.0, -1
        for pair in range(6):
            i, j = _PAIRS[pair, 0], _PAIRS[pair, 1]
            slope = _product(N, v, i, j)
            if slope > 0.0:
                when = max(low, -_product(D, v, i, j) / slope)
                if when < high:
                    high, at = when, pair
        zeroth = 0.75 * (high - low) - 0.25 * (high**3 - low**3)
        first = 0.375 * (high**2 - low**2) - 0.1875 * (high**4 - low**4)
        for pair in range(6):
            i, j = _PAIRS[pair, 0], _PAIRS[pair, 1]
            w = -(_product(D, v, i, j) * zeroth + _product(N, v, i, j) * first)
            if w <= least:
                continue
            e0, e1, e2 = _offset(v, pair)
            place = count
            for k in range(count):
                if found[k, 0] == e0 and found[k, 1] == e1 and found[k, 2] == e2:
                    place = k
            if place == ROOM:
                return -1
            if place == count:
                found[count, 0], found[count, 1], found[count, 2], mean[count] = e0, e1, e2, 0.0
                count += 1
            mean[place] += w
        if at < 0:
            return count
        _flip(v, at)
        low = high
    return -1


@inline
def _departure(D, R):
    """det D, tr D/tr R, and tr(1 - (tr D/tr R) D^-1 R)^2."""
    k00, k01, k02 = D[3] * D[5] - D[4] * D[4], D[2] * D[4] - D[1] * D[5], D[1] * D[4] - D[2] * D[3]
    k11, k12, k22 = D[0] * D[5] - D[2] * D[2], D[1] * D[2] - D[0] * D[4], D[0] * D[3] - D[1] * D[1]
    det, share = D[0] * k00 + D[1] * k01 + D[2] * k02, (D[0] + D[3] + D[5]) / (R[0] + R[3] + R[5])
    c = share / det if det != 0.0 else 0.0
    a00, a01, a02 = k00 * R[0] + k01 * R[1] + k02 * R[2], k00 * R[1] + k01 * R[3] + k02 * R[4], k00 * R[2] + k01 * R[4] + k02 * R[5]
    a10, a11, a12 = k01 * R[0] + k11 * R[1] + k12 * R[2], k01 * R[1] + k11 * R[3] + k12 * R[4], k01 * R[2] + k11 * R[4] + k12 * R[5]
    a20, a21, a22 = k02 * R[0] + k12 * R[1] + k22 * R[2], k02 * R[1] + k12 * R[3] + k22 * R[4], k02 * R[2] + k12 * R[4] + k22 * R[5]
    size = (1.0 - c * a00) ** 2 + (1.0 - c * a11) ** 2 + (1.0 - c * a22) ** 2
    return det, share, max(0.0, size + 2.0 * c * c * (a01 * a10 + a02 * a20 + a12 * a21))


@kernel
def smooth_switches(diffusion, spacing, shape, sides, cap, reference, width, clipped, offsets, weights):
    """Make the weights smooth functions of D where Selling's offsets change; offsets (n, K, 3), weights (n, K), K > 6.

    Selling's weights are linear between the tensors at which offsets change. Taken is their mean over the tensors D + s N,
    |s| < 1, with the density 3 (1 - s^2)/4: nonnegative, they add up to D still, twice continuously differentiable where N leads
    across one change and once where it leads across several. N = width M/sqrt(1 + tr(D^-1 M)^2), M = D - R tr D/tr R, with the
    six entries R of `reference`, a tensor amid those of one set of offsets: it crosses every plane on which R does not lie,
    D +- N >= (1 - width) D, and where one set serves nothing changes. Where offsets do not fit N is halved, twice. Returns how many
    offsets a cell has at most.
    """
    D, N, E, R = np.zeros(6), np.zeros(6), np.zeros(6), reference
    v, found, mean = np.zeros((4, 3), np.int64), np.zeros((ROOM, 3), np.int64), np.zeros(ROOM)
    most = 6
    _axes(v)
    for i in range(weights.shape[0]):
        at = 0
        for a in range(3):
            for b in range(a, 3):
                D[at] = diffusion[i, a, b] / (spacing[i, a] * spacing[i, b])
                at += 1
        det, share, size = _departure(D, R)
        if clipped[i] > 0.0 or not det > 1e-12 * D[0] * D[3] * D[5]:
            continue
        line = i // shape[2]
        room0 = _room(line // shape[1], shape[0], sides[0, 0], sides[0, 1], cap)
        room1 = _room(line % shape[1], shape[1], sides[1, 0], sides[1, 1], cap)
        room2 = _room(i - line * shape[2], shape[2], sides[2, 0], sides[2, 1], cap)
        scale = width / math.sqrt(1.0 + size)
        for _ in range(3):
            for k in range(6):
                N[k] = scale * (D[k] - share * R[k])
                E[k] = D[k] - N[k]
            if not _obtuse(E, v):
                _axes(v)
                break
            count = _mean(D, N, v, found, mean)
            if 0 <= count <= weights.shape[1] and _fit(count, found, room0, room1, room2):
                _put(i, count, found, mean, offsets, weights)
                most = max(most, count)
                break
            scale *= 0.5
    return most


@inline
def _fit(count, found, room0, room1, room2):
    for k in range(count):
        if abs(found[k, 0]) > room0 or abs(found[k, 1]) > room1 or abs(found[k, 2]) > room2:
            return False
    return True


@inline
def _put(i, count, found, mean, offsets, weights):
    for k in range(weights.shape[1]):
        weights[i, k] = mean[k] if k < count else 0.0
        for a in range(3):
            offsets[i, k, a] = found[k, a] if k < count else 0


@kernel
def components(shape, sides, offsets, weights, label):
    """Label (n,) of the connected part of every cell, its first cell."""
    n = weights.shape[0]
    n0, n1, n2 = shape[0], shape[1], shape[2]
    for i in range(n):
        label[i] = i
    for i in range(n):
        line = i // n2
        j0, j1, j2 = line // n1, line % n1, i - line * n2
        for k in range(weights.shape[1]):
            if weights[i, k] > 0.0:
                for sign in range(-1, 2, 2):
                    e0, e1, e2 = sign * offsets[i, k, 0], sign * offsets[i, k, 1], sign * offsets[i, k, 2]
                    if 0 <= j0 + e0 < n0 and 0 <= j1 + e1 < n1 and 0 <= j2 + e2 < n2:
                        j = i + (e0 * n1 + e1) * n2 + e2
                    else:
                        j = locate(j0, j1, j2, e0, e1, e2, shape, sides)[0]
                    if j >= 0 and label[i] != label[j]:
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
        for k in range(6, weights.shape[1]):
            weights[i, k] = 0.0
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
def wall_edges(axis, cells, shape, sides, cap, offsets, weights, extra_offsets, extra):
    """What edges cut off by reflecting walls across `axis` would have carried along the wall: offsets (n, 3, 3), weights (n, 3).

    Without flux through the wall, q = (drift - gradient) has q_n = -q_t.D_tn/D_nn there, and the missing halves of the edges with a
    step e_n = 1 across the rows carry T q_t, T = (1/2) sum w t t^T with t = e_t - e_n D_tn/D_nn: a nonnegative tensor in the
    plane of the wall, which is decomposed there. cells (m,): those beside the walls. Returns whether there is any.
    """
    off2, w2 = np.zeros((3, 2), np.int64), np.zeros(3)
    found = False
    p, q = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
    for i in cells:
        j0, j1 = i // (shape[1] * shape[2]), i // shape[2] % shape[1]
        j2 = i - (j0 * shape[1] + j1) * shape[2]
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
