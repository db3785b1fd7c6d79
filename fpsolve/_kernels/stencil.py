"""Stencil of a Markov generator: nonnegative edge weights and exponentially fitted rates (arrays in, arrays out).

One cell at a time: `decompose` writes the diffusion tensor as a sum of nonnegative weights along integer offsets
(Selling's decomposition), `fit_gradient` estimates the gradient of the log density, `edge_drift` distributes the drift over the
offsets, `fill_edges` turns all this into rates between cells, `exit_rows` into rates of cells at the boundary of a region.
Sources: Selling, J. reine angew. Math. 77, 143 (1874); Bonnans, Bonnet, Mirebeau, SIAM J. Numer. Anal. 60, 2022 (2022);
Scharfetter, Gummel, IEEE Trans. Electron Devices 16, 64 (1969).

Sides are coded per axis: 0 reflecting, 1 absorbing, 2 periodic.

After `fit_gradient` everything is in units of cells: with x = x(s), s counting cells, and V = det(dx/ds) the volume of a cell,
the density p (per volume in x) obeys V dp/dt = -div_s V (a_s p - D_s grad_s p), a_s = (dx/ds)^-1 a, D_s = (dx/ds)^-1 D (dx/ds)^-T.
On a graded grid the scheme is thus the uniform one with V w and V a for w and a, and with rates divided by the volume of the
cell they leave.
"""

import math

from .._jit import inline, kernel

__all__ = [
    "bernoulli",
    "decompose",
    "edge_drift",
    "edge_rates",
    "exit_rows",
    "fill_edges",
    "fit_gradient",
    "locate",
    "slopes",
    "wall_weights",
]

REFLECTING, ABSORBING, PERIODIC = 0, 1, 2


@inline
def bernoulli(z):
    """B(z) = z / (exp(z) - 1) to full relative accuracy for every z."""
    if abs(z) < 1e-5:
        return 1.0 - 0.5 * z + z * z / 12.0
    if z > 700.0:
        return z * math.exp(-z)
    return z / math.expm1(z)


@inline
def edge_rates(weight, z, g, extra):
    """Rates (forward, backward) of one edge with drift exponent z, of which g is the part that the noise balances.

    z == g is Scharfetter-Gummel, weight * B(-+z). Otherwise weight * (phi(g) + extra +- z/2) with
    phi(g) = (g/2) coth(g/2): the rest z - g is carried by central differences. Where the smaller of the two would come
    near zero or below (|z| > 2) it is kept positive, at B(|z|) from |z| = 6 on, and the difference of the two is kept.
    """
    size = abs(z)
    small = bernoulli(size)
    if z != g:
        # phi(g) - |z|/2 without cancellation where g is close to z
        central = bernoulli(abs(g)) + 0.5 * (abs(g) - size) + extra
        small = max(central, small * min(1.0, max(0.01, 0.25 * (size - 2.0))))
    if z >= 0.0:
        return weight * (small + size), weight * small
    return weight * small, weight * (small + size)


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
        if not _stays_inside(i, shape, sides, offsets, weights):  # a corner between absorbing sides
            clipped[i] = _selling_2d(a, b, c, h0, h1, 1, 1, offsets[i], weights[i])


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


@inline
def _stays_inside(i, shape, sides, offsets, weights):
    """Whether at least one edge of cell i leads to another cell."""
    for k in range(weights.shape[1]):
        e0, e1 = offsets[i, k, 0], offsets[i, k, 1]
        if weights[i, k] > 0.0 and (locate(i, e0, e1, shape, sides)[0] >= 0 or locate(i, -e0, -e1, shape, sides)[0] >= 0):
            return True
    return False


@kernel
def fit_gradient(diffusion, drift, slope, gradient):
    """Estimate of g = grad log p where p is unknown: the part of the drift that the noise can balance.

    A stationary current has a = (D + R) grad log p + div R with R antisymmetric. In 1-D R = 0. In 2-D R = rho [[0, 1], [-1, 0]]
    and, for the drift linearised with the matrix -A = slope (n, d, d), the Lyapunov equation A S + S A^T = 2 D gives
    rho tr(A) = (A11 - A22) D12 + A12 D22 - A21 D11: exact for linear drift with definite (A + A^T)/2 and constant D, zero
    where D^-1 a is a gradient. A nearly singular D is regularised by rho itself. div R is not known and left out, so
    elsewhere g is rough.
    """
    n, d = drift.shape
    for i in range(n):
        d11 = diffusion[i, 0, 0]
        if d == 1:
            gradient[i, 0] = drift[i, 0] / d11 if d11 > 0.0 else 0.0
            continue
        d12, d22 = diffusion[i, 0, 1], diffusion[i, 1, 1]
        a11, a12, a21, a22 = -slope[i, 0, 0], -slope[i, 0, 1], -slope[i, 1, 0], -slope[i, 1, 1]
        top = (a11 - a22) * d12 + a12 * d22 - a21 * d11
        size = (abs(a11) + abs(a22)) * abs(d12) + abs(a12) * d22 + abs(a21) * d11
        trace = a11 + a22
        # where tr(A) is small beside the symmetric part (saddles) the closure has a pole: keep |rho| and turn its sign smoothly
        norm = a11 * a11 + a22 * a22 + 0.5 * (a12 + a21) ** 2
        near = max(0.0, 1.0 - trace * trace / norm) if norm > 0.0 else 0.0
        square = trace * trace + norm * near * near
        if abs(top) <= 1e-10 * size:
            top, square = 0.0, 1.0
        det = (d11 * d22 - d12 * d12) * square + top * top
        if det > 1e-14 * (d11 * d22) * square:
            b1, b2 = drift[i, 0], drift[i, 1]
            gradient[i, 0] = (square * (d22 * b1 - d12 * b2) - trace * top * b2) / det
            gradient[i, 1] = (square * (d11 * b2 - d12 * b1) + trace * top * b1) / det
        else:
            gradient[i, 0] = 0.0
            gradient[i, 1] = 0.0


@inline
def _share(i, u0, u1, offsets, weights):
    """l with sum_k w_k e_k (e_k.l) = u, and True; False if the edges of cell i do not span the space."""
    m00, m01, m11 = 0.0, 0.0, 0.0
    d = offsets.shape[2]
    for k in range(weights.shape[1]):
        e0 = offsets[i, k, 0]
        e1 = offsets[i, k, 1] if d == 2 else 0
        m00 += weights[i, k] * e0 * e0
        m01 += weights[i, k] * e0 * e1
        m11 += weights[i, k] * e1 * e1
    if d == 1:
        m11 = 1.0
    det = m00 * m11 - m01 * m01
    if det > 1e-13 * m00 * m11:
        return (m11 * u0 - m01 * u1) / det, (m00 * u1 - m01 * u0) / det, True
    return 0.0, 0.0, False


@kernel
def edge_drift(unbalanced, gradient, offsets, weights, free, rest):
    """Give the drift u = a - D g (n, d) that the noise does not balance to the edges: u = sum_k w_k e_k (e_k.free) + rest.

    The split has the least sum of squares over w_k, which is D free = u, scaled back where a rate would turn negative; what is
    scaled back stays in rest (n, d), for upwind differences along the axes. All in units of cells. Where offsets are capped, the
    weights stand for more than D; what they add carries the drift that balances it, so that the stationary density is kept.
    """
    n, d = unbalanced.shape
    for i in range(n):
        u0 = unbalanced[i, 0]
        u1 = unbalanced[i, 1] if d == 2 else 0.0
        l0, l1, spans = _share(i, u0, u1, offsets, weights)
        scale = 1.0 if spans else 0.0
        for k in range(weights.shape[1]):
            e0 = offsets[i, k, 0]
            e1 = offsets[i, k, 1] if d == 2 else 0
            g, c = _dot(i, e0, e1, gradient), e0 * l0 + e1 * l1
            if weights[i, k] > 0.0 and c != 0.0:
                room = 2.0 * bernoulli(abs(g)) + abs(g) + (-g if c > 0.0 else g)  # 2 phi(g) -+ g
                if room < abs(c) * scale:
                    scale = max(0.0, room / abs(c))
        free[i, 0] = scale * l0
        rest[i, 0] = (1.0 - scale) * u0
        if d == 2:
            free[i, 1] = scale * l1
            rest[i, 1] = (1.0 - scale) * u1


@kernel
def slopes(field, shape, sides, out):
    """out (n, d, d): derivative of component i of a field (n, d) along axis j per cell, central, one-sided at walls."""
    n, d = field.shape
    stride = 1
    for axis in range(d - 1, -1, -1):
        m = shape[axis]
        for i in range(n):
            j = (i // stride) % m
            up, down = i + stride, i - stride
            if j == m - 1:
                up = i - (m - 1) * stride if sides[axis, 1] == PERIODIC else i
            if j == 0:
                down = i + (m - 1) * stride if sides[axis, 0] == PERIODIC else i
            step = (i != down) + (i != up)
            for k in range(d):
                out[i, k, axis] = (field[up, k] - field[down, k]) / step
        stride *= m


@inline
def _bend(i, j, x0, x1, slope):
    """Second derivative along the edge of the component along the edge, in units of the edge: difference of the end slopes."""
    a = x0 * x0 * (slope[j, 0, 0] - slope[i, 0, 0])
    if slope.shape[1] == 2:
        a += x0 * x1 * (slope[j, 0, 1] - slope[i, 0, 1] + slope[j, 1, 0] - slope[i, 1, 0])
        a += x1 * x1 * (slope[j, 1, 1] - slope[i, 1, 1])
    return a


@inline
def _dot(i, x0, x1, gradient):
    """Component of a cell's gradient along the physical offset (x0, x1)."""
    if gradient.shape[1] == 1:
        return x0 * gradient[i, 0]
    return x0 * gradient[i, 0] + x1 * gradient[i, 1]


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
def _partner(j, e0, e1, offsets, weights):
    """Index of the same offset in cell j, or -1."""
    for k in range(weights.shape[1]):
        if weights[j, k] > 0.0 and offsets[j, k, 0] == e0 and (offsets.shape[2] == 1 or offsets[j, k, 1] == e1):
            return k
    return -1


@inline
def _fitted_edge(i, j, w_i, w_j, x0, x1, gradient, free, gradient_slope, free_slope):
    """(weight, z, g, extra) of the edge from i to j where the stationary density is unknown; see `edge_rates`.

    With s the position along the edge in units of its length, p' = g p and p'' = (g^2 + g') p. The exponent of the balanced part is
    the integral of g (trapezoid with end slopes). The flux c p of the free drift c = w f is evaluated so that differences along
    the line are exact to fourth order: c p - (c p)''/24 at the middle =
    mean(p) (c (1 - g'/6) - c''/6) - (c g/6 + c'/12) (p_j - p_i). These are corrections of second order in the cell width: a rough
    g costs accuracy, never consistency.
    """
    w = 0.5 * (w_i + w_j)
    g_i, g_j = _dot(i, x0, x1, gradient), _dot(j, x0, x1, gradient)
    f_i, f_j = _dot(i, x0, x1, free), _dot(j, x0, x1, free)
    g = 0.5 * (g_i + g_j)
    f = 0.5 * (w_i * f_i + w_j * f_j) / w
    if w_i == 0.0 or w_j == 0.0:
        return w, g + f, g, 0.0
    limit = 0.5 * (abs(g_i) + abs(g_j))
    g -= min(limit, max(-limit, _bend(i, j, x0, x1, gradient_slope) / 12.0))
    extra = min(0.5, max(-0.5, f * g / 6.0 + (w_j * f_j - w_i * f_i) / (12.0 * w)))
    limit = 0.5 * (abs(f_i) + abs(f_j))
    change = f * (g_j - g_i) / 6.0 + _bend(i, j, x0, x1, free_slope) / 6.0
    z = g + f - min(limit, max(-limit, change))
    if 0.5 * abs(z) > bernoulli(abs(g)) + 0.5 * abs(g) + extra:
        return w, g + f, g, 0.0  # no room for the correction: the plain rates are positive
    return w, z, g, extra


@inline
def _upwind(i, m, shape, sides, volume, rest, rows, cols, rates, kill):
    """One-sided rates along the axes for the drift that no edge can carry; returns the new number of triplets."""
    for axis in range(rest.shape[1]):
        e0, e1 = (1, 0) if axis == 0 else (0, 1)
        u = rest[i, axis]
        j, side, _ = locate(i, e0, e1, shape, sides)
        if j >= 0:
            c = 0.5 * (u + rest[j, axis])
            if c != 0.0:
                rows[m], cols[m], rates[m] = (i, j, c / volume[i]) if c > 0.0 else (j, i, -c / volume[j])
                m += 1
        elif side == ABSORBING and u > 0.0:
            kill[i] += u / volume[i]
        if u < 0.0:
            j, side, _ = locate(i, -e0, -e1, shape, sides)
            if j < 0 and side == ABSORBING:
                kill[i] -= u / volume[i]
    return m


@kernel
def fill_edges(
    shape,
    sides,
    volume,
    offsets,
    weights,
    gradient,
    free,
    gradient_slope,
    free_slope,
    midpoint,
    rest,
    phi,
    rows,
    cols,
    rates,
    kill,
    exponent,
):
    """Rates between cells as triplets rows, cols, rates (room for 4 K + d entries per cell); returns their number.

    The weight of an edge is the mean of its two cells' weights for this offset. With phi (n,) the exponent is phi_i - phi_j, so
    that exp(-phi) is in detailed balance on every edge; without (n = 0) see `_fitted_edge`; in 1-D everything is balanced and
    the exponent is an integral by Simpson's rule with midpoint (n,), D^-1 a at the face above each cell, NaN where unknown.
    volume (n,): V, by which weights and rest are already multiplied.
    kill (n,): rates through absorbing walls, on the edge shortened to the wall. exponent (n,): largest |z| of a cell's edges.
    """
    n, d = rest.shape
    m = 0
    for i in range(n):
        for k in range(weights.shape[1]):
            w_i = weights[i, k]
            if w_i <= 0.0:
                continue
            e0 = offsets[i, k, 0]
            e1 = offsets[i, k, 1] if d == 2 else 0
            for sign in range(1, -2, -2):
                j, side, cut = locate(i, sign * e0, sign * e1, shape, sides)
                x0, x1 = sign * e0, sign * e1
                if j < 0:
                    if side == ABSORBING:
                        g = _dot(i, x0, x1, gradient)
                        z = g + _dot(i, x0, x1, free)
                        kill[i] += edge_rates(w_i / cut, z * cut, g * cut, 0.0)[0] / volume[i]
                    continue
                partner = _partner(j, e0, e1, offsets, weights)
                if sign < 0 and partner >= 0:
                    continue  # done from the other cell
                w_j = weights[j, partner] if partner >= 0 else 0.0
                extra = 0.0
                if phi.size > 0:
                    w, z = 0.5 * (w_i + w_j), phi[i] - phi[j]
                    g = z
                elif d == 1:
                    w, z = 0.5 * (w_i + w_j), 0.5 * x0 * (gradient[i, 0] + gradient[j, 0])
                    middle = midpoint[i] if sign > 0 else midpoint[j]
                    if w_j == 0.0:
                        z = x0 * gradient[i, 0]
                    elif middle == middle:
                        z = (z + 2.0 * x0 * middle) / 3.0
                    g = z
                else:
                    w, z, g, extra = _fitted_edge(i, j, w_i, w_j, x0, x1, gradient, free, gradient_slope, free_slope)
                forward, backward = edge_rates(w, z, g, extra)
                rows[m], cols[m], rates[m] = i, j, forward / volume[i]
                rows[m + 1], cols[m + 1], rates[m + 1] = j, i, backward / volume[j]
                m += 2
                exponent[i] = max(exponent[i], abs(z))
                exponent[j] = max(exponent[j], abs(z))
        m = _upwind(i, m, shape, sides, volume, rest, rows, cols, rates, kill)
    return m


@inline
def _arm_weight(i, j, s, other, e0, e1, w, offsets, weights):
    """Weight V w half way along an arm of length s to cell j (-1: cut), for which the cell on the other side stands in if cut."""
    if j >= 0 and s == 1.0:
        k = _partner(j, e0, e1, offsets, weights)
        return 0.5 * (w + weights[j, k]) if k >= 0 else w
    k = _partner(other, e0, e1, offsets, weights) if other >= 0 else -1
    if k < 0:
        return w
    return min(2.0 * w, max(0.5 * w, w + 0.5 * s * (w - weights[other, k])))


@kernel
def exit_rows(cells, target, cut, volume, offsets, weights, gradient, free, rest, phi, phi_cut, rows, cols, rates, kill):
    """Rows of cells whose edges are cut by the boundary of a region, consistent for the backward equation.

    target, cut, phi_cut (m, 2 K + 2 d): per arm the cell it reaches (>= 0), -1 exit at the fraction `cut` of the arm, -2 no
    flux. Arms come in pairs (+, -), first the K offsets, then the axes (for the upwind rest). On a pair with arms s+ and s- the
    rates are those of the shortened edges times 2/(s+ + s-) (Shortley-Weller), exact for quadratic functions. Returns the
    number of triplets.
    """
    m = 0
    d, kk = rest.shape[1], weights.shape[1]
    for r in range(cells.size):
        i = cells[r]
        for k in range(kk):
            w = weights[i, k]
            if w <= 0.0:
                continue
            stretch = 2.0 / ((cut[r, 2 * k] + cut[r, 2 * k + 1]) * volume[i])
            e0 = offsets[i, k, 0]
            e1 = offsets[i, k, 1] if d == 2 else 0
            for arm in range(2):
                j, s = target[r, 2 * k + arm], cut[r, 2 * k + arm]
                sign = 1.0 - 2.0 * arm
                if j == -2:
                    continue
                x0, x1 = sign * e0 * s, sign * e1 * s
                g = _dot(i, x0, x1, gradient)
                z = g + _dot(i, x0, x1, free)
                if phi.size > 0:
                    z = phi[i] - (phi[j] if j >= 0 else phi_cut[r, 2 * k + arm])
                    g = z
                middle = _arm_weight(i, j, s, target[r, 2 * k + 1 - arm], e0, e1, w, offsets, weights)
                rate = edge_rates(stretch * middle / s, z, g, 0.0)[0]
                if j == -1:
                    kill[i] += rate
                else:
                    rows[m], cols[m], rates[m] = i, j, rate
                    m += 1
        for axis in range(d):
            u = rest[i, axis]
            a = 2 * kk + 2 * axis + (0 if u > 0.0 else 1)
            if u == 0.0 or target[r, a] == -2:
                continue
            rate = abs(u) / (volume[i] * cut[r, a])
            if target[r, a] == -1:
                kill[i] += rate
            else:
                rows[m], cols[m], rates[m] = i, target[r, a], rate
                m += 1
    return m
