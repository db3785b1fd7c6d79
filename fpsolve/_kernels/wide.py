"""The same elimination in numbers with an unlimited exponent: rates and times over e^+-5000 and more, relative accuracy kept.

A wide number is m * 2^(512 e): a double m, zero or 2^-256 <= m < 2^256, and an integer e. Two of them multiply and add in a few
operations without a logarithm, so nothing is lost but rounding. Arrays of wide numbers are a float64 and an int32 array.
A factor stored as plain doubles is passed with an empty exponent array.
"""

import math

import numpy as np

from fpsolve._jit import inline, kernel
from fpsolve._kernels.elimination import assemble, copy_block

__all__ = [
    "wide_backward", "wide_backward_transposed", "wide_divide", "wide_eliminate_front", "wide_factorise", "wide_forward",
    "wide_forward_transposed", "wide_from", "wide_log", "wide_normalise", "wide_sum", "wide_tridiagonal_factor",
    "wide_tridiagonal_solve",
    "wide_tridiagonal_solve_transposed", "wide_value",
]  # fmt: skip

LOW, HIGH, UP, DOWN = 2.0**-256, 2.0**256, 2.0**512, 2.0**-512
TINY, HUGE = 2.0**-768, 2.0**768
ZERO = -(2**20)
LOG_RADIX = 512.0 * math.log(2.0)


@inline
def _norm(m, e):
    """Bring a product, quotient, sum or plain double into the mantissa range.

    Two steps at once go through ldexp: fast-math would merge two factors UP into one that overflows.
    """
    if m == 0.0:
        return 0.0, ZERO
    if m < LOW:
        return (m * UP, e - 1) if m >= TINY else (math.ldexp(m, 1024), e - 2)
    if m >= HIGH:
        return (m * DOWN, e + 1) if m < HUGE else (math.ldexp(m, -1024), e + 2)
    return m, e


@inline
def _add(am, ae, bm, be):
    """Sum of two nonnegative wide numbers; b may be an unnormalised product (two exponents apart the smaller is below rounding)."""
    if ae == be:
        return _norm(am + bm, ae)
    if ae > be:
        if ae == be + 1:
            return _norm(am + bm * DOWN, ae)
        return am, ae
    if be == ae + 1:
        return _norm(bm + am * DOWN, be)
    return _norm(bm, be)


@inline
def _exponent(E, at):
    """Exponent of a stored factor entry: an empty array stands for plain doubles."""
    return np.int64(E[at]) if E.size > 0 else np.int64(0)


@kernel
def wide_from(values):
    """Wide numbers from nonnegative doubles."""
    m, e = np.empty(values.size), np.empty(values.size, np.int32)
    for i in range(values.size):
        m[i], e[i] = _norm(values[i], 0)
    return m, e


@kernel
def wide_normalise(m, e):
    """Bring mantissas back into range, in place."""
    for i in range(m.size):
        m[i], e[i] = _norm(m[i], np.int64(e[i]))


@kernel
def wide_sum(m, e):
    """Sum of a wide vector, as wide arrays of length one."""
    tm, te = 0.0, np.int64(ZERO)
    for i in range(m.size):
        if m[i] > 0.0:
            tm, te = _add(tm, te, m[i], np.int64(e[i]))
    return np.array([tm]), np.array([te]).astype(np.int32)


@kernel
def wide_divide(m, e, by_m, by_e):
    """Wide vector divided by one wide number (arrays of length one)."""
    out, out_e = np.empty(m.size), np.empty(m.size, np.int32)
    for i in range(m.size):
        out[i], out_e[i] = _norm(m[i] / by_m[0], np.int64(e[i]) - by_e[0])
    return out, out_e


@kernel
def wide_value(m, e):
    """Doubles from wide numbers; 0 below and inf above their range."""
    out = np.empty(m.size)
    for i in range(m.size):
        value, k = m[i], np.int64(e[i])
        if value == 0.0 or k < -3:
            out[i] = 0.0
        elif k > 3:
            out[i] = np.inf
        else:
            out[i] = math.ldexp(value, 512 * k)
    return out


@kernel
def wide_log(m, e):
    """Natural logarithms of wide numbers; -inf for zero."""
    out = np.empty(m.size)
    for i in range(m.size):
        out[i] = -np.inf if m[i] == 0.0 else math.log(m[i]) + LOG_RADIX * e[i]
    return out


@kernel
def wide_eliminate_front(F, E, p, dm, de):
    """Row by row: row i takes all earlier pivot rows, then is normalised by its own exit rate if it is a pivot."""
    s, width = F.shape
    for i in range(s):
        for k in range(min(i, p)):
            fm, fe = F[i, k], np.int64(E[i, k])
            if fm == 0.0:
                continue
            for j in range(k + 1, width):
                pm = F[k, j]
                if pm != 0.0:
                    F[i, j], E[i, j] = _add(F[i, j], np.int64(E[i, j]), fm * pm, fe + E[k, j])
        if i < p:
            tm, te = 0.0, np.int64(ZERO)
            for j in range(i + 1, width):
                if F[i, j] != 0.0:
                    tm, te = _add(tm, te, F[i, j], np.int64(E[i, j]))
            dm[i], de[i] = tm, te
            if tm > 0.0:
                for j in range(i + 1, width):
                    if F[i, j] != 0.0:
                        F[i, j], E[i, j] = _norm(F[i, j] / tm, np.int64(E[i, j]) - te)


@kernel
def wide_factorise(rates, tree, kill, sizes):
    """`elimination.factorise` in wide numbers: returns (store, store exponents, d, d exponents)."""
    indptr, indices, data, tptr, tindices, tdata = rates
    node_ptr, border_ptr, border, children, store_ptr = tree
    largest, peak = sizes
    nodes, n = children.size, kill.size
    store, store_e = np.empty(store_ptr[nodes]), np.empty(store_ptr[nodes], np.int32)
    dm, de = np.empty(n), np.empty(n, np.int32)
    buffer, buffer_e = np.empty(largest * (largest + 1)), np.empty(largest * (largest + 1), np.int32)
    stack, stack_e, held = np.empty(peak), np.empty(peak, np.int32), np.empty(nodes, np.int64)
    loc = np.empty(n, np.int64)
    top, count, zero = np.int64(0), 0, np.int64(0)  # literal zeros would have functions compiled for these numbers
    for t in range(nodes):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        s = p + m
        F, E = buffer[: s * (s + 1)].reshape(s, s + 1), buffer_e[: s * (s + 1)].reshape(s, s + 1)
        F[:, :] = 0.0
        assemble(F, t, indptr, indices, data, tptr, tindices, tdata, kill, node_ptr, border_ptr, border, loc)
        for i in range(s):
            for j in range(s + 1):
                F[i, j], E[i, j] = _norm(F[i, j], 0)
        for _ in range(children[t]):
            count -= 1
            child = held[count]
            start, size = border_ptr[child], border_ptr[child + 1] - border_ptr[child]
            top -= size * (size + 1)
            for i in range(size):
                row, base = loc[border[start + i]], top + i * (size + 1)
                for j in range(size + 1):
                    col = s if j == size else loc[border[start + j]]
                    if stack[base + j] != 0.0:
                        F[row, col], E[row, col] = _add(
                            F[row, col], np.int64(E[row, col]), stack[base + j], np.int64(stack_e[base + j])
                        )
        wide_eliminate_front(F, E, p, dm[a:b], de[a:b])
        at, mid = store_ptr[t], store_ptr[t] + p * s
        copy_block(F, zero, p, zero, s, store, at), copy_block(E, zero, p, zero, s, store_e, at)
        copy_block(F, p, s, zero, p, store, mid), copy_block(E, p, s, zero, p, store_e, mid)
        copy_block(F, p, s, p, s + 1, stack, top), copy_block(E, p, s, p, s + 1, stack_e, top)
        top += m * (m + 1)
        held[count] = t
        count += 1
    return store, store_e, dm, de


@inline
def _fma(am, ae, S, E, at, xm, xe):
    """a + S[at] x, S a stored factor (wide or plain)."""
    sm = S[at]
    if sm == 0.0 or xm == 0.0:
        return am, ae
    m, e = _norm(sm, _exponent(E, at))
    return _add(am, ae, m * xm, e + xe)


@inline
def _over(am, ae, D, E, at):
    """a / D[at]."""
    dm, de = _norm(D[at], _exponent(E, at))
    return _norm(am / dm, ae - de)


@kernel
def wide_forward(factor, tree, ym, ye):
    """`elimination.forward` on a wide vector; factor = (store, exponents, d, exponents)."""
    store, store_e, d, d_e = factor
    node_ptr, border_ptr, border, children, store_ptr = tree
    for t in range(children.size):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        at, low = store_ptr[t], store_ptr[t] + p * (p + m)
        for k in range(p + m):
            v = a + k if k < p else border[border_ptr[t] + k - p]
            base = at + k * (p + m) if k < p else low + (k - p) * p
            tm, te = ym[v], np.int64(ye[v])
            for i in range(min(k, p)):
                tm, te = _fma(tm, te, store, store_e, base + i, ym[a + i], np.int64(ye[a + i]))
            if k < p:
                tm, te = _over(tm, te, d, d_e, v)
            ym[v], ye[v] = tm, te


@kernel
def wide_backward(factor, tree, ym, ye):
    """`elimination.backward` on a wide vector."""
    store, store_e, d, d_e = factor
    node_ptr, border_ptr, border, children, store_ptr = tree
    for t in range(children.size - 1, -1, -1):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        for k in range(p - 1, -1, -1):
            base = store_ptr[t] + k * (p + m)
            tm, te = ym[a + k], np.int64(ye[a + k])
            for j in range(k + 1, p + m):
                v = a + j if j < p else border[border_ptr[t] + j - p]
                tm, te = _fma(tm, te, store, store_e, base + j, ym[v], np.int64(ye[v]))
            ym[a + k], ye[a + k] = tm, te


@kernel
def wide_forward_transposed(factor, tree, zm, ze):
    """`elimination.forward_transposed` on a wide vector."""
    store, store_e, d, d_e = factor
    node_ptr, border_ptr, border, children, store_ptr = tree
    for t in range(children.size):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        for k in range(p):
            fm, fe = zm[a + k], np.int64(ze[a + k])
            base = store_ptr[t] + k * (p + m)
            for j in range(k + 1, p + m):
                v = a + j if j < p else border[border_ptr[t] + j - p]
                zm[v], ze[v] = _fma(zm[v], np.int64(ze[v]), store, store_e, base + j, fm, fe)


@kernel
def wide_backward_transposed(factor, tree, zm, ze):
    """`elimination.backward_transposed` on a wide vector."""
    store, store_e, d, d_e = factor
    node_ptr, border_ptr, border, children, store_ptr = tree
    for t in range(children.size - 1, -1, -1):
        a, b = node_ptr[t], node_ptr[t + 1]
        p, m = b - a, border_ptr[t + 1] - border_ptr[t]
        at, low = store_ptr[t], store_ptr[t] + p * (p + m)
        for i in range(m):
            v = border[border_ptr[t] + i]
            fm, fe = zm[v], np.int64(ze[v])
            for k in range(p):
                zm[a + k], ze[a + k] = _fma(zm[a + k], np.int64(ze[a + k]), store, store_e, low + i * p + k, fm, fe)
        for k in range(p - 1, -1, -1):
            fm, fe = _over(zm[a + k], np.int64(ze[a + k]), d, d_e, a + k)
            zm[a + k], ze[a + k] = fm, fe
            for i in range(k):
                zm[a + i], ze[a + i] = _fma(zm[a + i], np.int64(ze[a + i]), store, store_e, at + k * (p + m) + i, fm, fe)


@kernel
def wide_tridiagonal_factor(down, up, kill):
    """Exit rates d of a nearest-neighbour chain, eliminated from left to right.

    down[i] = Q_{i,i-1}, up[i] = Q_{i,i+1} (down[0] and up[-1] unused). d_i = up_i + kappa_i with the killing of the chain
    watched at i and to its right, kappa_i = kill_i + down_i kappa_{i-1} / d_{i-1}. A last exit rate of zero stays zero.
    """
    n = kill.size
    dm, de = np.empty(n), np.empty(n, np.int32)
    km, ke = 0.0, np.int64(ZERO)
    for i in range(n):
        cm, ce = _norm(kill[i], 0)
        if i > 0 and km > 0.0 and down[i] > 0.0:
            lm, le = _norm(down[i], 0)
            # the quotient first: a product of three mantissas would leave the range of doubles
            qm, qe = _norm(km / dm[i - 1], ke - np.int64(de[i - 1]))
            cm, ce = _add(cm, ce, lm * qm, le + qe)
        km, ke = cm, ce
        if i < n - 1 and up[i] > 0.0:
            um, ue = _norm(up[i], 0)
            cm, ce = _add(cm, ce, um, ue)
        dm[i], de[i] = cm, ce
    return dm, de


@kernel
def wide_tridiagonal_solve(down, up, dm, de, ym, ye):
    """In place x: y_i = (b_i + down_i y_{i-1}) / d_i, then x_i = y_i + (up_i / d_i) x_{i+1}."""
    n, plain = ym.size, np.empty(0, np.int32)
    for i in range(n):
        tm, te = ym[i], np.int64(ye[i])
        if i > 0:
            tm, te = _fma(tm, te, down, plain, i, ym[i - 1], np.int64(ye[i - 1]))
        ym[i], ye[i] = _over(tm, te, dm, de, i)
    for i in range(n - 2, -1, -1):
        if up[i] > 0.0:
            fm, fe = _norm(up[i], 0)
            fm, fe = _over(fm, fe, dm, de, i)
            ym[i], ye[i] = _add(ym[i], np.int64(ye[i]), fm * ym[i + 1], fe + ye[i + 1])


@kernel
def wide_tridiagonal_solve_transposed(down, up, dm, de, zm, ze):
    """In place mu: z_i += (up_{i-1} / d_{i-1}) z_{i-1}, then mu_i = (z_i + down_{i+1} mu_{i+1}) / d_i."""
    n, plain = zm.size, np.empty(0, np.int32)
    for i in range(1, n):
        if up[i - 1] > 0.0 and zm[i - 1] > 0.0:
            fm, fe = _norm(up[i - 1], 0)
            fm, fe = _over(fm, fe, dm, de, i - 1)
            zm[i], ze[i] = _add(zm[i], np.int64(ze[i]), fm * zm[i - 1], fe + ze[i - 1])
    for i in range(n - 1, -1, -1):
        tm, te = zm[i], np.int64(ze[i])
        if i < n - 1:
            tm, te = _fma(tm, te, down, plain, i + 1, zm[i + 1], np.int64(ze[i + 1]))
        zm[i], ze[i] = _over(tm, te, dm, de, i)
