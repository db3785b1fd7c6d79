"""Stencil of a Markov generator in three dimensions: the split of the drift and exponentially fitted rates (arrays in, arrays out).

As `stencil`, whose rates of one edge serve here too; offsets and weights come from `selling3`. After `fit_gradient` everything is
in units of cells.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._jit import inline, kernel
from .selling import ABSORBING
from .selling3 import locate, partner_of
from .stencil import SMALL_PART, bernoulli, both_rates, corrected, edge_rates, smaller_rate

__all__ = ["Cells", "Edges", "drift_exponent", "edge_drift", "exit_rows", "fill_edges", "fit_gradient", "positive_definite"]


class Cells(NamedTuple):
    """What a cell knows of itself: as `_discretize.Stencil`."""

    shape: NDArray[np.int64]
    sides: NDArray[np.int64]
    volume: NDArray[np.float64]
    offsets: NDArray[Any]
    weights: NDArray[np.float64]
    gradient: NDArray[np.float64]
    free: NDArray[np.float64]
    share: NDArray[np.float64]
    gradient_slope: NDArray[np.float64]
    free_slope: NDArray[np.float64]
    rest: NDArray[np.float64]
    phi: NDArray[np.float64]
    say: NDArray[np.float64]


class Edges(NamedTuple):
    """Triplets of rates, kill rates and largest exponents, to be filled."""

    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    rates: NDArray[np.float64]
    kill: NDArray[np.float64]
    exponent: NDArray[np.float64]


@inline
def _solve(m, b0, b1, b2):
    """Solution of a 3 x 3 system by cofactors and its determinant; zeros where that is zero."""
    c00, c01 = m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1], m[0, 2] * m[2, 1] - m[0, 1] * m[2, 2]
    c02 = m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]
    c10, c11 = m[1, 2] * m[2, 0] - m[1, 0] * m[2, 2], m[0, 0] * m[2, 2] - m[0, 2] * m[2, 0]
    c12 = m[0, 2] * m[1, 0] - m[0, 0] * m[1, 2]
    c20, c21 = m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0], m[0, 1] * m[2, 0] - m[0, 0] * m[2, 1]
    c22 = m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]
    det = m[0, 0] * c00 + m[0, 1] * c10 + m[0, 2] * c20
    inv = 1.0 / det if det != 0.0 else 0.0
    return (
        inv * (c00 * b0 + c01 * b1 + c02 * b2),
        inv * (c10 * b0 + c11 * b1 + c12 * b2),
        inv * (c20 * b0 + c21 * b1 + c22 * b2),
        det,
    )


@inline
def _inverse(a, b, c, d, e, f):
    """Inverse (six entries) and determinant of the symmetric matrix [[a, b, c], [b, d, e], [c, e, f]]; zeros where that is zero."""
    k0, k1, k2 = d * f - e * e, c * e - b * f, b * e - c * d
    det = a * k0 + b * k1 + c * k2
    inv = 1.0 / det if det != 0.0 else 0.0
    return (inv * k0, inv * k1, inv * k2, inv * (a * f - c * c), inv * (b * c - a * e), inv * (a * d - b * b)), det


@inline
def _form(m, x0, x1, x2):
    """x.M x for the six entries of a symmetric matrix."""
    return m[0] * x0 * x0 + m[3] * x1 * x1 + m[5] * x2 * x2 + 2.0 * (m[1] * x0 * x1 + m[2] * x0 * x2 + m[4] * x1 * x2)


@inline
def _times(m, x0, x1, x2):
    """M x for the six entries of a symmetric matrix."""
    return m[0] * x0 + m[1] * x1 + m[2] * x2, m[1] * x0 + m[3] * x1 + m[4] * x2, m[2] * x0 + m[4] * x1 + m[5] * x2


@kernel
def positive_definite(diffusion):
    """Whether all tensors (n, 3, 3) are symmetric and positive definite beyond rounding, by their leading minors."""
    for i in range(diffusion.shape[0]):
        D = diffusion[i]
        if D[0, 1] != D[1, 0] or D[0, 2] != D[2, 0] or D[1, 2] != D[2, 1]:
            return False
        plane = D[0, 0] * D[1, 1] - D[0, 1] * D[0, 1]
        det = D[2, 2] * plane - D[0, 0] * D[1, 2] ** 2 - D[1, 1] * D[0, 2] ** 2 + 2.0 * D[0, 1] * D[0, 2] * D[1, 2]
        if not (D[0, 0] > 0.0 and plane > 1e-10 * D[0, 0] * D[1, 1] and det > 1e-10 * D[0, 0] * D[1, 1] * D[2, 2]):
            return False
    return True


@inline
def _ridge(A):
    """Largest (2 a_i a_j)^2/(a_i^2 + a_j^2) over pairs of eigenvalues of (A + A^T)/2 of opposite signs; 0 where it is definite."""
    p, q, r = 0.5 * (A[0, 1] + A[1, 0]), 0.5 * (A[0, 2] + A[2, 0]), 0.5 * (A[1, 2] + A[2, 1])
    plane = A[0, 0] * A[1, 1] - p * p  # leading minors: most are definite
    minor = A[2, 2] * plane - A[0, 0] * r * r - A[1, 1] * q * q + 2.0 * p * q * r
    if plane > 0.0 and minor * A[0, 0] > 0.0:
        return 0.0
    mean = (A[0, 0] + A[1, 1] + A[2, 2]) / 3.0
    x, y, z = A[0, 0] - mean, A[1, 1] - mean, A[2, 2] - mean
    size = math.sqrt((x * x + y * y + z * z + 2.0 * (p * p + q * q + r * r)) / 6.0)
    if size == 0.0:
        return 0.0
    det = x * (y * z - r * r) - p * (p * z - r * q) + q * (p * r - y * q)
    angle = math.acos(min(1.0, max(-1.0, 0.5 * det / size**3))) / 3.0
    high = mean + 2.0 * size * math.cos(angle)
    low = mean + 2.0 * size * math.cos(angle + 2.0 * math.pi / 3.0)
    middle = 3.0 * mean - high - low
    if low >= 0.0 or high <= 0.0:
        return 0.0
    ridge = (2.0 * low * high) ** 2 / (low * low + high * high)
    other = low if middle > 0.0 else high
    if middle * other < 0.0:
        ridge = max(ridge, (2.0 * middle * other) ** 2 / (middle * middle + other * other))
    return ridge


@kernel
def fit_gradient(diffusion, drift, slope, spacing, gradient):
    """Estimate of g = grad log p where p is unknown: the part of the drift that the noise can balance.

    A stationary current has a = (D + R) grad log p + div R with R = [r]_x antisymmetric. For the drift linearised with the matrix
    -A = slope (n, 3, 3), the Lyapunov equation A S + S A^T = 2 D means (tr(A) - A^T) r = axial vector of A D - D A^T: exact
    for linear drift with definite (A + A^T)/2 and constant D, zero where D^-1 a is a gradient. At saddles the equation has poles
    and is solved by least squares with a ridge. div R is not known and left out, so elsewhere g is rough.
    """
    A, M, N = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    for i in range(drift.shape[0]):
        D = diffusion[i]
        for a in range(3):
            for b in range(3):
                A[a, b] = -slope[i, a, b] / spacing[i, b]
        trace = A[0, 0] + A[1, 1] + A[2, 2]
        top0 = top1 = top2 = size = 0.0
        for k in range(3):  # entries (2,1), (0,2), (1,0) of A D - D A^T
            top0 += A[2, k] * D[k, 1] - D[2, k] * A[1, k]
            top1 += A[0, k] * D[k, 2] - D[0, k] * A[2, k]
            top2 += A[1, k] * D[k, 0] - D[1, k] * A[0, k]
            size += abs(A[2, k] * D[k, 1]) + abs(D[2, k] * A[1, k]) + abs(A[0, k] * D[k, 2]) + abs(D[0, k] * A[2, k])
            size += abs(A[1, k] * D[k, 0]) + abs(D[1, k] * A[0, k])
        r0 = r1 = r2 = 0.0
        if max(abs(top0), abs(top1), abs(top2)) > 1e-10 * size:
            ridge = _ridge(A)
            for a in range(3):
                for b in range(3):
                    M[a, b] = (trace if a == b else 0.0) - A[b, a]
            if ridge > 0.0:
                for a in range(3):
                    for b in range(3):
                        N[a, b] = ridge if a == b else 0.0
                        for k in range(3):
                            N[a, b] += M[a, k] * M[b, k]
                y0, y1, y2, _ = _solve(N, top0, top1, top2)
                r0, r1 = M[0, 0] * y0 + M[1, 0] * y1 + M[2, 0] * y2, M[0, 1] * y0 + M[1, 1] * y1 + M[2, 1] * y2
                r2 = M[0, 2] * y0 + M[1, 2] * y1 + M[2, 2] * y2
            else:
                r0, r1, r2, _ = _solve(M, top0, top1, top2)
        for a in range(3):
            for b in range(3):
                N[a, b] = D[a, b]
        N[2, 1], N[1, 2], N[0, 2] = N[2, 1] + r0, N[1, 2] - r0, N[0, 2] + r1
        N[2, 0], N[1, 0], N[0, 1] = N[2, 0] - r1, N[1, 0] + r2, N[0, 1] - r2
        g0, g1, g2, det = _solve(N, drift[i, 0], drift[i, 1], drift[i, 2])
        keep = det > 1e-14 * D[0, 0] * D[1, 1] * D[2, 2]
        gradient[i, 0], gradient[i, 1], gradient[i, 2] = (g0, g1, g2) if keep else (0.0, 0.0, 0.0)


@inline
def _dot(i, x0, x1, x2, field):
    return x0 * field[i, 0] + x1 * field[i, 1] + x2 * field[i, 2]


@inline
def _bend(i, j, x0, x1, x2, slope):
    """Second derivative along the edge of the component along the edge: difference of the end slopes."""
    a, b = slope[i], slope[j]
    out = x0 * x0 * (b[0, 0] - a[0, 0]) + x1 * x1 * (b[1, 1] - a[1, 1]) + x2 * x2 * (b[2, 2] - a[2, 2])
    out += x0 * x1 * (b[0, 1] - a[0, 1] + b[1, 0] - a[1, 0]) + x0 * x2 * (b[0, 2] - a[0, 2] + b[2, 0] - a[2, 0])
    return out + x1 * x2 * (b[1, 2] - a[1, 2] + b[2, 1] - a[2, 1])


@kernel
def drift_exponent(diffusion, drift, spacing, volume, offsets, weights, say, exponent):
    """Largest |e . D^-1 a| of the edges of every cell (n,) and what an edge counts for, say (n, K), as `stencil.drift_exponent`."""
    for i in range(drift.shape[0]):
        D = diffusion[i]
        inverse, det = _inverse(D[0, 0], D[0, 1], D[0, 2], D[1, 1], D[1, 2], D[2, 2])
        a0, a1, a2 = _times(inverse, drift[i, 0], drift[i, 1], drift[i, 2])
        regular = det > 1e-14 * D[0, 0] * D[1, 1] * D[2, 2]
        still = drift[i, 0] == 0.0 and drift[i, 1] == 0.0 and drift[i, 2] == 0.0
        exponent[i] = 0.0 if regular or still else math.inf
        for k in range(weights.shape[1]):
            say[i, k] = 1.0
            if not regular or weights[i, k] <= 0.0:
                continue
            x0, x1 = offsets[i, k, 0] * spacing[i, 0], offsets[i, k, 1] * spacing[i, 1]
            x2 = offsets[i, k, 2] * spacing[i, 2]
            say[i, k] = min(1.0, weights[i, k] / volume[i] * _form(inverse, x0, x1, x2) / SMALL_PART)
            exponent[i] = max(exponent[i], say[i, k] * abs(x0 * a0 + x1 * a1 + x2 * a2))


@kernel
def edge_drift(unbalanced, gradient, offsets, weights, free, share, rest):
    """Give the drift u = a - D g (n, 3) that the noise does not balance to the edges, as `stencil.edge_drift`."""
    for i in range(unbalanced.shape[0]):
        u0, u1, u2 = unbalanced[i, 0], unbalanced[i, 1], unbalanced[i, 2]
        for k in range(weights.shape[1]):
            share[i, k] = 1.0
        for a in range(3):
            free[i, a], rest[i, a] = 0.0, 0.0
        if u0 == 0.0 and u1 == 0.0 and u2 == 0.0:
            continue
        m00 = m01 = m02 = m11 = m12 = m22 = 0.0
        for k in range(weights.shape[1]):
            w, e0, e1, e2 = weights[i, k], offsets[i, k, 0], offsets[i, k, 1], offsets[i, k, 2]
            m00, m01, m02 = m00 + w * e0 * e0, m01 + w * e0 * e1, m02 + w * e0 * e2
            m11, m12, m22 = m11 + w * e1 * e1, m12 + w * e1 * e2, m22 + w * e2 * e2
        inverse, det = _inverse(m00, m01, m02, m11, m12, m22)
        if not det > 1e-13 * m00 * m11 * m22:  # the edges do not span the space
            rest[i, 0], rest[i, 1], rest[i, 2] = u0, u1, u2
            continue
        l0, l1, l2 = _times(inverse, u0, u1, u2)
        scale, fits = 1.0, True
        for k in range(weights.shape[1]):
            e0, e1, e2 = offsets[i, k, 0], offsets[i, k, 1], offsets[i, k, 2]
            g, c = _dot(i, e0, e1, e2, gradient), e0 * l0 + e1 * l1 + e2 * l2
            if weights[i, k] > 0.0 and abs(c) > 2.0 - abs(g):  # as B(x) >= 1 - x/2, no need to look else
                room = 2.0 * bernoulli(abs(g)) + abs(g) + (-g if c > 0.0 else g)  # 2 phi(g) -+ g
                if room < abs(c):
                    fits, share[i, k] = False, max(0.0, room / abs(c))
                    part = weights[i, k] * _form(inverse, e0, e1, e2)
                    scale = min(scale, 1.0 - (1.0 - share[i, k]) * min(1.0, part / SMALL_PART))
        free[i, 0], free[i, 1], free[i, 2] = scale * l0, scale * l1, scale * l2
        if fits:
            continue
        for k in range(weights.shape[1]):
            e0, e1, e2 = offsets[i, k, 0], offsets[i, k, 1], offsets[i, k, 2]
            left = weights[i, k] * (e0 * l0 + e1 * l1 + e2 * l2) * (1.0 - min(share[i, k], scale))
            share[i, k] = share[i, k] / scale if share[i, k] < scale else 1.0
            rest[i, 0], rest[i, 1], rest[i, 2] = rest[i, 0] + left * e0, rest[i, 1] + left * e1, rest[i, 2] + left * e2


@inline
def _fitted_edge(i, j, k, partner, x0, x1, x2, c):
    """(weight, z, smaller rate per weight) of an edge where the stationary density is unknown, as `stencil._fitted_edge`."""
    w_i, s_i = c.weights[i, k], c.share[i, k]
    w_j = c.weights[j, partner] if partner >= 0 else 0.0
    s_j = c.share[j, partner] if partner >= 0 else 0.0
    w = 0.5 * (w_i + w_j)
    g_i, g_j = _dot(i, x0, x1, x2, c.gradient), _dot(j, x0, x1, x2, c.gradient)
    f_i, f_j = s_i * _dot(i, x0, x1, x2, c.free), s_j * _dot(j, x0, x1, x2, c.free)
    g = 0.5 * (g_i + g_j)
    f = 0.5 * (w_i * f_i + w_j * f_j) / w
    if w_i == 0.0 or w_j == 0.0:
        return w, g + f, smaller_rate(g + f, g)
    limit = 0.5 * (abs(g_i) + abs(g_j))
    fitted = g - min(limit, max(-limit, _bend(i, j, x0, x1, x2, c.gradient_slope) / 12.0))
    if f_i == 0.0 and f_j == 0.0:
        return w, fitted, bernoulli(abs(fitted))
    extra = min(0.5, max(-0.5, f * fitted / 6.0 + (w_j * f_j - w_i * f_i) / (12.0 * w)))
    limit = 0.5 * (abs(f_i) + abs(f_j))
    change = f * (g_j - g_i) / 6.0 + 0.5 * (s_i + s_j) * _bend(i, j, x0, x1, x2, c.free_slope) / 6.0
    z, small = corrected(g, f, fitted, fitted + f - min(limit, max(-limit, change)), extra)
    return w, z, small


@inline
def _upwind(i, j0, j1, j2, m, c, out):
    """One-sided rates along the axes for the drift that no edge can carry; returns the new number of triplets."""
    for axis in range(3):
        e0, e1, e2 = (1, 0, 0) if axis == 0 else ((0, 1, 0) if axis == 1 else (0, 0, 1))
        u = c.rest[i, axis]
        j, side, _ = locate(j0, j1, j2, e0, e1, e2, c.shape, c.sides)
        if j >= 0:
            v = 0.5 * (u + c.rest[j, axis])
            if v != 0.0:
                start, end = (i, j) if v > 0.0 else (j, i)
                out.rows[m], out.cols[m], out.rates[m] = start, end, abs(v) / c.volume[start]
                m += 1
        elif side == ABSORBING and u > 0.0:
            out.kill[i] += u / c.volume[i]
        if u < 0.0:
            j, side, _ = locate(j0, j1, j2, -e0, -e1, -e2, c.shape, c.sides)
            if j < 0 and side == ABSORBING:
                out.kill[i] -= u / c.volume[i]
    return m


@kernel
def fill_edges(cells, c, upwind, first, out):
    """Rates between cells as triplets (room for 4 K + 3 per cell) from position `first` on; returns their number. See `stencil`.

    cells (m,): those whose edges are made.
    """
    m = first
    n0, n1, n2 = c.shape[0], c.shape[1], c.shape[2]
    for i in cells:
        line = i // n2
        j0, j1, j2 = line // n1, line % n1, i - line * n2
        for k in range(c.weights.shape[1]):
            w_i = c.weights[i, k]
            if w_i <= 0.0:
                continue
            for sign in range(1, -2, -2):
                e0, e1, e2 = sign * c.offsets[i, k, 0], sign * c.offsets[i, k, 1], sign * c.offsets[i, k, 2]
                if 0 <= j0 + e0 < n0 and 0 <= j1 + e1 < n1 and 0 <= j2 + e2 < n2:
                    j, side, cut = i + (e0 * n1 + e1) * n2 + e2, -1, 1.0
                else:
                    j, side, cut = locate(j0, j1, j2, e0, e1, e2, c.shape, c.sides)
                if j < 0:
                    if side == ABSORBING:
                        g = _dot(i, e0, e1, e2, c.gradient)
                        z = g + c.share[i, k] * _dot(i, e0, e1, e2, c.free)
                        out.kill[i] += edge_rates(w_i / cut, z * cut, g * cut)[0] / c.volume[i]
                    continue
                partner = partner_of(j, k, sign * e0, sign * e1, sign * e2, c.offsets, c.weights)
                if sign < 0 and partner >= 0:
                    continue  # done from the other cell
                if c.phi.size > 0:
                    w, z = 0.5 * (w_i + (c.weights[j, partner] if partner >= 0 else 0.0)), c.phi[i] - c.phi[j]
                    small = bernoulli(abs(z))
                else:
                    w, z, small = _fitted_edge(i, j, k, partner, e0, e1, e2, c)
                forward, backward = both_rates(w, z, small)
                out.rows[m], out.cols[m], out.rates[m] = i, j, forward / c.volume[i]
                out.rows[m + 1], out.cols[m + 1], out.rates[m + 1] = j, i, backward / c.volume[j]
                m += 2
                out.exponent[i] = max(out.exponent[i], abs(z) * c.say[i, k])
                out.exponent[j] = max(out.exponent[j], abs(z) * (c.say[j, partner] if partner >= 0 else c.say[i, k]))
        if upwind:
            m = _upwind(i, j0, j1, j2, m, c, out)
    return m


@inline
def _arm_weight(i, j, k, s, other, e0, e1, e2, c):
    """Weight V w half way along an arm of length s to cell j (-1: cut), for which the cell on the other side stands in if cut."""
    w = c.weights[i, k]
    if j >= 0 and s == 1.0:
        m = partner_of(j, k, e0, e1, e2, c.offsets, c.weights)
        return 0.5 * (w + c.weights[j, m]) if m >= 0 else w
    m = partner_of(other, k, e0, e1, e2, c.offsets, c.weights) if other >= 0 else -1
    if m < 0:
        return w
    return min(2.0 * w, max(0.5 * w, w + 0.5 * s * (w - c.weights[other, m])))


@kernel
def exit_rows(cells, target, cut, phi_cut, c, out, exits):
    """Rows of cells whose edges are cut by the boundary of a region, as `stencil.exit_rows`; returns the number of triplets."""
    m = 0
    kk = c.weights.shape[1]
    for r in range(cells.size):
        i = cells[r]
        for k in range(kk):
            if c.weights[i, k] <= 0.0:
                continue
            stretch = 2.0 / ((cut[r, 2 * k] + cut[r, 2 * k + 1]) * c.volume[i])
            e0, e1, e2 = c.offsets[i, k, 0], c.offsets[i, k, 1], c.offsets[i, k, 2]
            for arm in range(2):
                j, s = target[r, 2 * k + arm], cut[r, 2 * k + arm]
                x = s * (1.0 - 2.0 * arm)
                if j == -2:
                    continue
                g = _dot(i, x * e0, x * e1, x * e2, c.gradient)
                z = g + c.share[i, k] * _dot(i, x * e0, x * e1, x * e2, c.free)
                if c.phi.size > 0:
                    z = c.phi[i] - (c.phi[j] if j >= 0 else phi_cut[r, 2 * k + arm])
                    g = z
                middle = _arm_weight(i, j, k, s, target[r, 2 * k + 1 - arm], e0, e1, e2, c)
                rate = edge_rates(stretch * middle / s, z, g)[0]
                if j == -1:
                    exits[r, 2 * k + arm] = rate
                else:
                    out.rows[m], out.cols[m], out.rates[m] = i, j, rate
                    m += 1
        for axis in range(3):
            u = c.rest[i, axis]
            a = 2 * kk + 2 * axis + (0 if u > 0.0 else 1)
            if u == 0.0 or target[r, a] == -2:
                continue
            rate = abs(u) / (c.volume[i] * cut[r, a])
            if target[r, a] == -1:
                exits[r, a] = rate
            else:
                out.rows[m], out.cols[m], out.rates[m] = i, target[r, a], rate
                m += 1
    return m
