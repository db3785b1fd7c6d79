"""Selling's decomposition: the diffusion tensor as a sum of nonnegative weights along integer offsets (arrays in, arrays out).

One cell at a time: `decompose` finds offsets and weights, `smooth_switches` makes the weights smooth functions of the tensor,
`wall_weights` adds what edges along a reflecting wall carry for those that the wall cuts off.
Sources: Selling, J. reine angew. Math. 77, 143 (1874); Bonnans, Bonnet, Mirebeau, Constr. Approx. (2023), on Voronoi's first
reduction: the decomposition, and a smooth variant with four offsets in two dimensions.

Sides are coded per axis: 0 reflecting, 1 absorbing, 2 periodic.
"""

import math

import numpy as np

from .._jit import inline, kernel

__all__ = [
    "ABSORBING",
    "PERIODIC",
    "REFLECTING",
    "components",
    "decompose",
    "deepest",
    "locate",
    "partner_of",
    "shifted",
    "shorten",
    "smooth_switches",
    "stray",
    "wall_weights",
]

REFLECTING, ABSORBING, PERIODIC = 0, 1, 2


@inline
def locate(i, e0, e1, shape, sides):
    """Cell reached from cell i by an offset: (cell, -1, 1), or (-1, side code, fraction of the offset inside the box)."""
    n1 = 1 if shape.size == 1 else shape[1]
    j0, j1 = i // n1, i % n1
    t0, t1 = j0 + e0, j1 + e1
    first, side = 2.0, -1
    if t0 < 0 or t0 >= shape[0]:
        which = 0 if t0 < 0 else 1
        if sides[0, which] == PERIODIC:
            t0 = t0 % shape[0]
        else:
            first = ((j0 + 0.5) if t0 < 0 else (shape[0] - j0 - 0.5)) / abs(e0)
            side = sides[0, which]
    if shape.size == 2 and (t1 < 0 or t1 >= n1):
        which = 0 if t1 < 0 else 1
        if sides[1, which] == PERIODIC:
            t1 = t1 % n1
        else:
            when = ((j1 + 0.5) if t1 < 0 else (n1 - j1 - 0.5)) / abs(e1)
            if when < first:
                first, side = when, sides[1, which]
    if side >= 0:
        return -1, side, first
    return t0 * n1 + t1, -1, 1.0


@inline
def partner_of(j, e0, e1, offsets, weights):
    """Index of the same offset in cell j, or -1."""
    for k in range(weights.shape[1]):
        if weights[j, k] > 0.0 and offsets[j, k, 0] == e0 and (offsets.shape[2] == 1 or offsets[j, k, 1] == e1):
            return k
    return -1


@inline
def _selling_2d(a, b, c, h0, h1, cap0, cap1, off, w):
    """Weights of [[a, b], [b, c]] on three offsets; returns what had to be added to D (largest eigenvalue).

    Only one of the three products of a superbase can be positive. It shrinks with every flip while the offsets grow; if the caps
    stop the flips before it vanishes, the weight is clipped at the superbase where this adds least.
    """
    p0, p1, q0, q1 = 1, 0, 0, 1
    r0, r1 = -1, -1
    tol = 1e-15 * (a + c)
    added = math.inf
    for _ in range(200):
        pq = p0 * (a * q0 + b * q1) + p1 * (b * q0 + c * q1)
        pr = p0 * (a * r0 + b * r1) + p1 * (b * r0 + c * r1)
        qr = q0 * (a * r0 + b * r1) + q1 * (b * r0 + c * r1)
        # rotate so that the largest product is that of (p, q)
        if qr > pq and qr >= pr:
            p0, p1, q0, q1, r0, r1 = q0, q1, r0, r1, p0, p1
            pq, pr, qr = qr, pq, pr
        elif pr > pq and pr >= qr:
            p0, p1, q0, q1, r0, r1 = r0, r1, p0, p1, q0, q1
            pq, pr, qr = pr, qr, pq
        # the offset that belongs to a product is the vector left out, turned by a right angle
        cost = 0.0 if pq <= 4.0 * tol else pq * (r1 * r1 * h0 * h0 + r0 * r0 * h1 * h1)
        if cost < added:
            added = cost
            off[0, 0], off[0, 1], w[0] = -p1, p0, max(0.0, -qr)
            off[1, 0], off[1, 1], w[1] = -q1, q0, max(0.0, -pr)
            off[2, 0], off[2, 1], w[2] = -r1, r0, max(0.0, -pq)
        if pq <= tol or abs(p1 - q1) > cap0 or abs(p0 - q0) > cap1:
            break
        p0, p1, r0, r1 = -p0, -p1, p0 - q0, p1 - q1
    regular = a * c - b * b > 1e-8 * a * c
    for k in range(3):
        if off[k, 0] < 0 or (off[k, 0] == 0 and off[k, 1] < 0):
            off[k, 0], off[k, 1] = -off[k, 0], -off[k, 1]
        # an edge that rounding left must not have a say in how the drift is split
        if regular and w[k] * off[k, 0] ** 2 <= 1e-13 * a and w[k] * off[k, 1] ** 2 <= 1e-13 * c:
            w[k] = 0.0
    return added


@inline
def _room(cell, n, low, high, cap):
    """Longest offset along one axis that stays inside on both sides (at least 1)."""
    room = cap
    if low == PERIODIC:
        return max(1, min(room, (n - 1) // 2))
    if low == REFLECTING:
        room = min(room, cell)
    if high == REFLECTING:
        room = min(room, n - 1 - cell)
    return max(1, room)


@kernel
def decompose(diffusion, spacing, shape, sides, cap, offsets, weights, clipped, clipped_free):
    """Nonnegative weights w_k on integer offsets e_k with D_ij / (h_i h_j) = sum_k w_k e_ki e_kj in every cell.

    diffusion (n, d, d); spacing (n, d) cell widths; offsets (n, K, d), weights (n, K): K = 1 in 1-D, 3 in 2-D.
    Offsets are capped at `cap` and shortened near reflecting walls; what this adds to D (largest eigenvalue) goes to
    clipped (n,), what the cap alone would add to clipped_free (n,).
    """
    n, d = spacing.shape
    if d == 1:
        for i in range(n):
            offsets[i, 0, 0] = 1
            weights[i, 0] = diffusion[i, 0, 0] / (spacing[i, 0] * spacing[i, 0])
            clipped[i] = 0.0
            clipped_free[i] = 0.0
        return
    n1 = shape[1]
    for i in range(n):
        h0, h1 = spacing[i, 0], spacing[i, 1]
        a = diffusion[i, 0, 0] / (h0 * h0)
        b = diffusion[i, 0, 1] / (h0 * h1)
        c = diffusion[i, 1, 1] / (h1 * h1)
        cap0 = _room(i // n1, shape[0], sides[0, 0], sides[0, 1], cap)
        cap1 = _room(i % n1, n1, sides[1, 0], sides[1, 1], cap)
        clipped_free[i] = _selling_2d(a, b, c, h0, h1, cap, cap, offsets[i], weights[i])
        clipped[i] = clipped_free[i]
        if cap0 < cap or cap1 < cap:
            clipped[i] = _selling_2d(a, b, c, h0, h1, cap0, cap1, offsets[i], weights[i])


@inline
def _root(i, parent):
    """Representative of the set of i; paths are halved on the way."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel
def components(shape, sides, offsets, weights, label):
    """Sets of cells that edges join: label (n,), the lowest cell of each set. Union and find."""
    n, d = label.size, offsets.shape[2]
    for i in range(n):
        label[i] = i
    for i in range(n):
        for k in range(weights.shape[1]):
            if weights[i, k] <= 0.0:
                continue
            e0 = offsets[i, k, 0]
            e1 = offsets[i, k, 1] if d == 2 else 0
            for sign in range(-1, 2, 2):
                j = locate(i, sign * e0, sign * e1, shape, sides)[0]
                if j >= 0:
                    a, b = _root(i, label), _root(j, label)
                    label[max(a, b)] = min(a, b)
    for i in range(n):
        label[i] = _root(i, label)


@kernel
def shorten(cells, limit, diffusion, spacing, shape, sides, offsets, weights, clipped):
    """Offsets of at most `limit` in some cells of a 2-D grid, see `decompose`."""
    n1 = shape[1]
    for i in cells:
        h0, h1 = spacing[i, 0], spacing[i, 1]
        room0 = _room(i // n1, shape[0], sides[0, 0], sides[0, 1], limit)
        room1 = _room(i % n1, n1, sides[1, 0], sides[1, 1], limit)
        a, b, c = diffusion[i, 0, 0] / (h0 * h0), diffusion[i, 0, 1] / (h0 * h1), diffusion[i, 1, 1] / (h1 * h1)
        clipped[i] = _selling_2d(a, b, c, h0, h1, room0, room1, offsets[i], weights[i])


@kernel
def deepest(weights, clipped):
    """The cell whose least weight is the largest part of their sum; clipped cells come last."""
    best, depth = 0, -2.0
    for i in range(weights.shape[0]):
        total, least = 0.0, math.inf
        for k in range(weights.shape[1]):
            total += weights[i, k]
            least = min(least, weights[i, k])
        here = -1.0 if clipped[i] > 0.0 else least / (total if total > 0.0 else 1.0)
        if here > depth:
            best, depth = i, here
    return best


@kernel
def stray(basis, offsets, weights, clipped):
    """How far the tensors stray from one set of offsets: the largest -t / r, t the least weight on `basis` (3, 2), r the `_width`.

    Zero where one set serves all cells: constant, isotropic and diagonal tensors. Cells with clipped weights do not count.
    """
    worst = 0.0
    for i in range(weights.shape[0]):
        if clipped[i] > 0.0:
            continue
        a, b, c = 0.0, 0.0, 0.0
        for k in range(3):
            a += weights[i, k] * offsets[i, k, 0] * offsets[i, k, 0]
            b += weights[i, k] * offsets[i, k, 0] * offsets[i, k, 1]
            c += weights[i, k] * offsets[i, k, 1] * offsets[i, k, 1]
        t = 0.0
        for k in range(3):
            # the weight of e_k is -u.D v with u, v the other two turned by a right angle and signed so that their sum is e_k turned
            u0, u1 = -basis[(k + 1) % 3, 1], basis[(k + 1) % 3, 0]
            v0, v1 = -basis[(k + 2) % 3, 1], basis[(k + 2) % 3, 0]
            w = u0 * (a * v0 + b * v1) + u1 * (b * v0 + c * v1)
            same = (u0 + v0) * basis[k, 0] + (u1 + v1) * basis[k, 1] == 0
            t = min(t, -w if same else w)
        if t < 0.0:
            width = _width(i, weights)
            if width <= 0.0:
                return math.inf
            worst = max(worst, -t / width)
    return worst


@inline
def _width(i, weights):
    """r = det / (2 sqrt((p2 - p1)^2 + 2 det)) with det = p0 p1 + p1 p2 + p2 p0 = det D of the sorted weights p0 <= p1 <= p2.

    Below p1, and smooth in D also where p0 passes zero: then p1 and p2 change, their difference does not.
    """
    x, y, z = weights[i, 0], weights[i, 1], weights[i, 2]
    det = x * y + y * z + z * x
    low, high = min(x, y, z), max(x, y, z)
    gap = 2.0 * high + low - (x + y + z)
    norm = gap * gap + 2.0 * det
    return 0.5 * det / math.sqrt(norm) if norm > 0.0 else 0.0


@kernel
def smooth_switches(shape, sides, cap, scale, offsets, weights):
    """Make the weights twice continuously differentiable in D where Selling's offsets change; offsets (n, 4, 2), weights (n, 4).

    Where the least weight t of a superbase passes zero, its offset e0 = e1 + e2 gives way to e1 - e2 and the weights have kinks. As
    e0 e0^T + (e1 - e2)(e1 - e2)^T = 2 e1 e1^T + 2 e2 e2^T, adding s to the weights of e0 and e1 - e2 and subtracting 2 s from
    those of e1 and e2 keeps D. s = a ((3 + 6 x^2 - x^4)/8 - |x|)/2, x = t/a, a = scale `_width`, has the opposite kinks and ends at
    t = a, before the ranking of the weights changes; at most 3 a/16 < p1/2, it leaves all weights positive.
    """
    n1 = shape[1]
    for i in range(weights.shape[0]):
        k = 0
        for j in range(1, 3):
            k = j if weights[i, j] < weights[i, k] else k
        l, m = (k + 1) % 3, (k + 2) % 3
        width = scale * _width(i, weights)
        if weights[i, k] >= width:
            continue
        e0, e1 = offsets[i, l, 0] + offsets[i, m, 0], offsets[i, l, 1] + offsets[i, m, 1]
        if e0 * offsets[i, k, 1] == e1 * offsets[i, k, 0]:  # that is the offset in use
            e0, e1 = offsets[i, l, 0] - offsets[i, m, 0], offsets[i, l, 1] - offsets[i, m, 1]
        if e0 < 0 or (e0 == 0 and e1 < 0):
            e0, e1 = -e0, -e1
        room0 = _room(i // n1, shape[0], sides[0, 0], sides[0, 1], cap)
        room1 = _room(i % n1, n1, sides[1, 0], sides[1, 1], cap)
        if abs(e0) > room0 or abs(e1) > room1:
            continue
        x = weights[i, k] / width
        s = width * (1.0 - x) ** 3 * (3.0 + x) / 16.0
        offsets[i, 3, 0], offsets[i, 3, 1] = e0, e1
        weights[i, 3] = s
        weights[i, k] += s
        weights[i, l] -= 2.0 * s
        weights[i, m] -= 2.0 * s


@kernel
def shifted(shape, sides, spacing, offsets, weights, short, out):
    """Largest eigenvalue, in size, of what cells `short` of offsets shift in half the second moment of the rates; out (n,).

    An edge has the mean of its ends' weights. Where the weights of a cell i and of the cells at i + e and i - e differ, the moment
    is D + (1/4) sum_e (w_(i+e) + w_(i-e) - 2 w_i) e e^T: of second order inside, not where walls shorten the offsets of one of
    them. What one cell gains another loses; integrals against smooth functions see nothing of it.
    """
    n = weights.shape[0]
    moment = np.zeros((n, 3))
    for i in range(n):
        for k in range(weights.shape[1]):
            w = weights[i, k]
            if w <= 0.0:
                continue
            e0, e1 = offsets[i, k, 0], offsets[i, k, 1]
            for sign in range(-1, 2, 2):
                j = locate(i, sign * e0, sign * e1, shape, sides)[0]
                if j < 0 or not (short[i] or short[j]):
                    continue
                partner = partner_of(j, e0, e1, offsets, weights)
                other = weights[j, partner] if partner >= 0 else 0.0
                moment[i, 0] += 0.25 * (other - w) * e0 * e0
                moment[i, 1] += 0.25 * (other - w) * e0 * e1
                moment[i, 2] += 0.25 * (other - w) * e1 * e1
                if partner < 0:
                    moment[j, 0] += 0.25 * w * e0 * e0
                    moment[j, 1] += 0.25 * w * e0 * e1
                    moment[j, 2] += 0.25 * w * e1 * e1
    for i in range(n):
        a, c = moment[i, 0] * spacing[i, 0] ** 2, moment[i, 2] * spacing[i, 1] ** 2
        b = moment[i, 1] * spacing[i, 0] * spacing[i, 1]
        out[i] = 0.5 * (abs(a + c) + math.hypot(a - c, 2.0 * b))


@kernel
def wall_weights(shape, sides, offsets, weights):
    """Add to the edges along a reflecting wall, in the cells next to it, what the edges cut off by the wall would have carried.

    Without flux through the wall, q = (drift - gradient) has q_n = -q_t D_nt/D_nn there, and the missing halves of the edges
    with a step e_n = 1 across the rows carry T q_t along the wall, T = (1/2) sum w (e_t - e_n D_nt/D_nn)^2 over those edges:
    nonnegative, so that the wall costs no order where steps of one row suffice. Called once the drift is split.
    """
    if shape.size == 1:
        return
    n1 = shape[1]
    for i in range(weights.shape[0]):
        for axis in range(2):
            at = i // n1 if axis == 0 else i % n1
            low = at == 0 and sides[axis, 0] == REFLECTING
            if not low and not (at == shape[axis] - 1 and sides[axis, 1] == REFLECTING):
                continue
            nn, nt, along = 0.0, 0.0, -1
            for k in range(weights.shape[1]):
                step = abs(offsets[i, k, axis])
                if step == 0:
                    along = k if abs(offsets[i, k, 1 - axis]) == 1 else along
                else:
                    nn += weights[i, k] * step * step
                    nt += weights[i, k] * offsets[i, k, axis] * offsets[i, k, 1 - axis]
            if along < 0 or nn <= 0.0:
                continue
            extra = 0.0
            for k in range(weights.shape[1]):
                step = abs(offsets[i, k, axis])
                if step > 0:
                    extra += 0.5 * step * weights[i, k] * (offsets[i, k, 1 - axis] - offsets[i, k, axis] * nt / nn) ** 2
            weights[i, along] += extra
