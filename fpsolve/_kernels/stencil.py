"""Stencil of a Markov generator: exponentially fitted rates on edges of given weights (arrays in, arrays out).

One cell at a time, on the offsets and weights of `selling`: `fit_gradient` estimates the gradient of the log density, `edge_drift`
distributes the drift over the offsets, `fill_edges` turns all this into rates between cells, `exit_rows` into rates of cells at
the boundary of a region.
Source: Scharfetter, Gummel, IEEE Trans. Electron Devices 16, 64 (1969).

After `fit_gradient` everything is in units of cells: with x = x(s), s counting cells, and V = det(dx/ds) the volume of a cell,
the density p (per volume in x) obeys V dp/dt = -div_s V (a_s p - D_s grad_s p), a_s = (dx/ds)^-1 a, D_s = (dx/ds)^-1 D (dx/ds)^-T.
On a graded grid the scheme is thus the uniform one with V w and V a for w and a, and with rates divided by the volume of the
cell they leave.
"""

import math

import numpy as np

from .._jit import inline, kernel
from .selling import ABSORBING, locate, partner_of

__all__ = [
    "bernoulli",
    "both_rates",
    "corrected",
    "drift_exponent",
    "edge_drift",
    "edge_rates",
    "exit_rows",
    "fill_edges",
    "fit_gradient",
    "smaller_rate",
]

#: Exponent of an edge beyond which its smaller rate stays as it is, some 1e-297 of its weight.
STEEPEST = 690.0
#: Part of D below which an edge has less than a full say in how far the drift of its cell is scaled back, and in its exponent.
SMALL_PART = 0.05
#: Part of phi(g) by which a rate may miss zero before `edge_rates` mends it: corrections then change continuously with the fields.
SLACK = 0.01


@inline
def bernoulli(z):
    """B(z) = z / (exp(z) - 1) to full relative accuracy up to 690, and B(690) beyond: a rate that underflows cuts the graph.

    By its series below 1/2, where most edges are; above, the difference costs less than two bits.
    """
    if abs(z) < 0.5:
        y = z * z
        even = -1.0 / 1209600.0 + y * (1.0 / 47900160.0 + y * (-691.0 / 1307674368000.0 + y / 74724249600.0))
        return 1.0 - 0.5 * z + y * (1.0 / 12.0 + y * (-1.0 / 720.0 + y * (1.0 / 30240.0 + y * even)))
    return min(z, STEEPEST) / (math.exp(min(z, STEEPEST)) - 1.0)


@inline
def kept_positive(size, central):
    """The smaller rate of an edge of exponent +-size: phi(g) + extra - size/2, or more where that comes near zero or below.

    From size = 6 on at least B(size). B <= 1 is found only where it is needed.
    """
    least = min(1.0, max(0.01, 0.25 * (size - 2.0)))
    return central if central >= least else max(central, least * bernoulli(size))


@inline
def central_rate(z, g, extra):
    """phi(g) + extra - |z|/2 with phi(g) = (g/2) coth(g/2), without cancellation where g is close to z."""
    return bernoulli(abs(g)) + 0.5 * (abs(g) - abs(z)) + extra


@inline
def smaller_rate(z, g):
    """The smaller rate per weight of an edge with drift exponent z, of which g is the part that the noise balances."""
    return bernoulli(abs(z)) if z == g else kept_positive(abs(z), central_rate(z, g, 0.0))


@inline
def edge_rates(weight, z, g):
    """Rates (forward, backward) of one edge with drift exponent z, of which g is the part that the noise balances.

    z == g is Scharfetter-Gummel, weight * B(-+z). Otherwise weight * (phi(g) +- z/2): the rest z - g is carried by central
    differences. Where the smaller of the two would come near zero or below (|z| > 2) it is kept positive, and the difference of the
    two is kept.
    """
    return both_rates(weight, z, smaller_rate(z, g))


@inline
def both_rates(weight, z, small):
    """Rates (forward, backward) from the smaller one per weight."""
    return weight * (small + max(z, 0.0)), weight * (small + max(-z, 0.0))


@kernel
def fit_gradient(diffusion, drift, slope, spacing, gradient):
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
        h0, h1 = spacing[i, 0], spacing[i, 1]
        a11, a12, a21, a22 = -slope[i, 0, 0] / h0, -slope[i, 0, 1] / h1, -slope[i, 1, 0] / h0, -slope[i, 1, 1] / h1
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
def _inverse(i, offsets, weights):
    """Entries 00, 01, 11 of the inverse of sum_k w_k e_k e_k^T, and True; False if the edges of cell i do not span the space."""
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
        return m11 / det, -m01 / det, m00 / det, True
    return 0.0, 0.0, 0.0, False


@kernel
def edge_drift(unbalanced, gradient, offsets, weights, free, share, rest):
    """Give the drift u = a - D g (n, d) that the noise does not balance to the edges: u = sum_k w_k e_k f_k + rest.

    f_k = share_k e_k.free with D free = u has the least sum of squares over w_k; share (n, K) is below one where a rate would turn
    negative. All edges of a cell are scaled back together, which leaves least, but an edge that is a small part w_k e_k.D^-1 e_k of
    D (the parts add up to d) has so much less of a say, and is scaled back alone if need be. What is scaled back stays in rest
    (n, d), for upwind differences along the axes. All in units of cells. Where offsets are capped, the weights stand for more
    than D; what they add carries the drift that balances it, so that the stationary density is kept.
    """
    n, d = unbalanced.shape
    for i in range(n):
        u0 = unbalanced[i, 0]
        u1 = unbalanced[i, 1] if d == 2 else 0.0
        i00, i01, i11, spans = _inverse(i, offsets, weights)
        l0, l1 = i00 * u0 + i01 * u1, i01 * u0 + i11 * u1
        scale = 1.0
        for k in range(weights.shape[1]):
            e0 = offsets[i, k, 0]
            e1 = offsets[i, k, 1] if d == 2 else 0
            g, c = _dot(i, e0, e1, gradient), e0 * l0 + e1 * l1
            share[i, k] = 1.0
            if weights[i, k] > 0.0 and c != 0.0:
                room = 2.0 * bernoulli(abs(g)) + abs(g) + (-g if c > 0.0 else g)  # 2 phi(g) -+ g
                if room < abs(c):
                    share[i, k] = max(0.0, room / abs(c))
                    part = weights[i, k] * (i00 * e0 * e0 + 2.0 * i01 * e0 * e1 + i11 * e1 * e1)
                    scale = min(scale, 1.0 - (1.0 - share[i, k]) * min(1.0, part / SMALL_PART))
        r0, r1 = (0.0, 0.0) if spans else (u0, u1)
        for k in range(weights.shape[1]):
            e0 = offsets[i, k, 0]
            e1 = offsets[i, k, 1] if d == 2 else 0
            left = weights[i, k] * (e0 * l0 + e1 * l1) * (1.0 - min(share[i, k], scale))
            share[i, k] = share[i, k] / scale if share[i, k] < scale else 1.0
            r0 += left * e0
            r1 += left * e1
        free[i, 0], rest[i, 0] = scale * l0, r0
        if d == 2:
            free[i, 1], rest[i, 1] = scale * l1, r1


@inline
def _bend(i, j, x0, x1, slope):
    """Second derivative along the edge of the component along the edge, in units of the edge: difference of the end slopes."""
    a = x0 * x0 * (slope[j, 0, 0] - slope[i, 0, 0])
    if slope.shape[1] == 2:
        a += x0 * x1 * (slope[j, 0, 1] - slope[i, 0, 1] + slope[j, 1, 0] - slope[i, 1, 0])
        a += x1 * x1 * (slope[j, 1, 1] - slope[i, 1, 1])
    return a


@kernel
def drift_exponent(diffusion, drift, spacing, volume, offsets, weights, say, exponent):
    """Largest |e . D^-1 a| of the edges of every cell (n,): inf where the drift leaves the range of a singular D.

    say (n, K): at most one, what an edge counts for. An edge that is a small part w e . D^-1 e of D (the parts of a cell add up to
    d) counts for less, so that nothing jumps where an edge appears.
    """
    n, d = drift.shape
    for i in range(n):
        h0, a, b0 = spacing[i, 0], diffusion[i, 0, 0], drift[i, 0]
        b, c, h1, b1 = 0.0, 1.0, 1.0, 0.0
        if d == 2:
            b, c, h1, b1 = diffusion[i, 0, 1], diffusion[i, 1, 1], spacing[i, 1], drift[i, 1]
        det = a * c - b * b
        regular = det > 1e-14 * a * c
        exponent[i] = 0.0 if regular or (b0 == 0.0 and b1 == 0.0) else math.inf
        for k in range(weights.shape[1]):
            say[i, k] = 1.0
            if not regular or weights[i, k] <= 0.0:
                continue
            x0 = h0 * offsets[i, k, 0]
            x1 = h1 * offsets[i, k, 1] if d == 2 else 0.0
            part = weights[i, k] / volume[i] * (c * x0 * x0 - 2.0 * b * x0 * x1 + a * x1 * x1) / det
            say[i, k] = min(1.0, part / SMALL_PART)
            size = abs((c * x0 - b * x1) * b0 + (a * x1 - b * x0) * b1) / det
            exponent[i] = max(exponent[i], say[i, k] * size)


@inline
def _dot(i, x0, x1, gradient):
    """Component of a cell's gradient along the physical offset (x0, x1)."""
    if gradient.shape[1] == 1:
        return x0 * gradient[i, 0]
    return x0 * gradient[i, 0] + x1 * gradient[i, 1]


@inline
def corrected(g, f, fitted, z, extra):
    """(z, smaller rate per weight) for a plain exponent g + f and its corrections, as many of them as nonnegative rates hold."""
    central = central_rate(z, fitted, extra)
    if central < 0.0:
        # the smaller rate would be negative, while the plain rates are not: as much of the corrections as fits
        plain = bernoulli(abs(g)) + 0.5 * abs(g)
        some = max(0.0, plain - 0.5 * abs(g + f)) + SLACK * plain
        part = some / (some - central)
        z = g + f + part * (z - g - f)
        central = central_rate(z, g + part * (fitted - g), part * extra)
    return z, kept_positive(abs(z), central)


@inline
def _fitted_edge(i, j, w_i, w_j, s_i, s_j, x0, x1, gradient, free, gradient_slope, free_slope):
    """(weight, z, smaller rate per weight) of the edge from i to j where the stationary density is unknown; see `edge_rates`.

    With s the position along the edge in units of its length, p' = g p and p'' = (g^2 + g') p. The exponent of the balanced part is
    the integral of g (trapezoid with end slopes). The flux c p of the free drift c = w f is evaluated so that differences along
    the line are exact to fourth order: c p - (c p)''/24 at the middle =
    mean(p) (c (1 - g'/6) - c''/6) - (c g/6 + c'/12) (p_j - p_i). These are corrections of second order in the cell width: a rough
    g costs accuracy, never consistency.
    """
    w = 0.5 * (w_i + w_j)
    g_i, g_j = _dot(i, x0, x1, gradient), _dot(j, x0, x1, gradient)
    f_i, f_j = s_i * _dot(i, x0, x1, free), s_j * _dot(j, x0, x1, free)
    g = 0.5 * (g_i + g_j)
    f = 0.5 * (w_i * f_i + w_j * f_j) / w
    if w_i == 0.0 or w_j == 0.0:
        return w, g + f, smaller_rate(g + f, g)
    limit = 0.5 * (abs(g_i) + abs(g_j))
    fitted = g - min(limit, max(-limit, _bend(i, j, x0, x1, gradient_slope) / 12.0))
    extra = min(0.5, max(-0.5, f * fitted / 6.0 + (w_j * f_j - w_i * f_i) / (12.0 * w)))
    limit = 0.5 * (abs(f_i) + abs(f_j))
    change = f * (g_j - g_i) / 6.0 + 0.5 * (s_i + s_j) * _bend(i, j, x0, x1, free_slope) / 6.0
    z, small = corrected(g, f, fitted, fitted + f - min(limit, max(-limit, change)), extra)
    return w, z, small


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
    share,
    gradient_slope,
    free_slope,
    midpoint,
    rest,
    phi,
    say,
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
    kill (n,): rates through absorbing walls, on the edge shortened to the wall. exponent (n,): largest |z| of a cell's edges, each
    times its say (n, K), see `drift_exponent`.
    """
    n, d = rest.shape
    m = np.int64(0)  # a literal zero would have _upwind compiled once more, for that number
    n1 = shape[1] if d == 2 else 1
    for i in range(n):
        i0 = i // n1
        i1 = i - i0 * n1
        for k in range(weights.shape[1]):
            w_i = weights[i, k]
            if w_i <= 0.0:
                continue
            e0 = offsets[i, k, 0]
            e1 = offsets[i, k, 1] if d == 2 else 0
            for sign in range(1, -2, -2):
                x0, x1 = sign * e0, sign * e1
                if 0 <= i0 + x0 < shape[0] and 0 <= i1 + x1 < n1:
                    j, side, cut = i + x0 * n1 + x1, -1, 1.0
                else:
                    j, side, cut = locate(i, x0, x1, shape, sides)
                if j < 0:
                    if side == ABSORBING:
                        g = _dot(i, x0, x1, gradient)
                        z = g + share[i, k] * _dot(i, x0, x1, free)
                        kill[i] += edge_rates(w_i / cut, z * cut, g * cut)[0] / volume[i]
                    continue
                if weights[j, k] > 0.0 and offsets[j, k, 0] == e0 and (d == 1 or offsets[j, k, 1] == e1):
                    partner = k
                else:
                    partner = partner_of(j, e0, e1, offsets, weights)
                if sign < 0 and partner >= 0:
                    continue  # done from the other cell
                w_j = weights[j, partner] if partner >= 0 else 0.0
                s_j = share[j, partner] if partner >= 0 else 0.0
                if phi.size > 0:
                    w, z = 0.5 * (w_i + w_j), phi[i] - phi[j]
                    small = bernoulli(abs(z))
                elif d == 1:
                    w, z = 0.5 * (w_i + w_j), 0.5 * x0 * (gradient[i, 0] + gradient[j, 0])
                    middle = midpoint[i] if sign > 0 else midpoint[j]
                    if w_j == 0.0:
                        z = x0 * gradient[i, 0]
                    elif middle == middle:
                        z = (z + 2.0 * x0 * middle) / 3.0
                    small = bernoulli(abs(z))
                else:
                    w, z, small = _fitted_edge(i, j, w_i, w_j, share[i, k], s_j, x0, x1, gradient, free, gradient_slope, free_slope)
                forward, backward = both_rates(w, z, small)
                rows[m], cols[m], rates[m] = i, j, forward / volume[i]
                rows[m + 1], cols[m + 1], rates[m + 1] = j, i, backward / volume[j]
                m += 2
                exponent[i] = max(exponent[i], abs(z) * say[i, k])
                exponent[j] = max(exponent[j], abs(z) * (say[j, partner] if partner >= 0 else say[i, k]))
        m = _upwind(i, m, shape, sides, volume, rest, rows, cols, rates, kill)
    return m


@inline
def _arm_weight(i, j, s, other, e0, e1, w, offsets, weights):
    """Weight V w half way along an arm of length s to cell j (-1: cut), for which the cell on the other side stands in if cut."""
    if j >= 0 and s == 1.0:
        k = partner_of(j, e0, e1, offsets, weights)
        return 0.5 * (w + weights[j, k]) if k >= 0 else w
    k = partner_of(other, e0, e1, offsets, weights) if other >= 0 else -1
    if k < 0:
        return w
    return min(2.0 * w, max(0.5 * w, w + 0.5 * s * (w - weights[other, k])))


@kernel
def exit_rows(cells, target, cut, volume, offsets, weights, gradient, free, share, rest, phi, phi_cut, rows, cols, rates, exits):
    """Rows of cells whose edges are cut by the boundary of a region, consistent for the backward equation.

    target, cut, phi_cut (m, 2 K + 2 d): per arm the cell it reaches (>= 0), -1 exit at the fraction `cut` of the arm, -2 no
    flux. Arms come in pairs (+, -), first the K offsets, then the axes (for the upwind rest). On a pair with arms s+ and s- the
    rates are those of the shortened edges times 2/(s+ + s-) (Shortley-Weller), exact for quadratic functions. Rates of arms that
    exit go to exits (m, 2 K + 2 d), zeros before. Returns the number of triplets.
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
                z = g + share[i, k] * _dot(i, x0, x1, free)
                if phi.size > 0:
                    z = phi[i] - (phi[j] if j >= 0 else phi_cut[r, 2 * k + arm])
                    g = z
                middle = _arm_weight(i, j, s, target[r, 2 * k + 1 - arm], e0, e1, w, offsets, weights)
                rate = edge_rates(stretch * middle / s, z, g)[0]
                if j == -1:
                    exits[r, 2 * k + arm] = rate
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
                exits[r, a] = rate
            else:
                rows[m], cols[m], rates[m] = i, target[r, a], rate
                m += 1
    return m
