r"""exp(t G) p by Chebyshev polynomials of the generator: no factorisation, for large sparse chains.

With L = twice the largest rate of leaving a state, X = I + 2 G / L has its spectrum in [-1, 1] for a reversible chain, and

    exp(t G) = sum_k c_k T_k(X),   c_0 = e^-a I_0(a),  c_k = 2 e^-a I_k(a),   a = t L / 2

(H. Tal-Ezer, R. Kosloff, J. Chem. Phys. 81, 3967 (1984)). The coefficients fall like exp(-k^2 / 2a), so sqrt(2 a ln(1/error))
products with G suffice, where uniformisation takes a of them. An irreversible chain has a spectrum off the real axis, where
T_k grows like exp(k beta), beta its imaginary part over L/2; exp is entire, so the series converges all the same. The norms of
the terms are at hand: the error is estimated from the terms left out and their observed growth, and the step is halved where
growth would cost digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import ive

from fpsolve._elimination import ELIMINATED
from fpsolve._kernels import chebyshev
from fpsolve.errors import FpsolveError

__all__ = ["advance", "backward", "evolve", "products", "scaled", "suits"]

#: The step is halved where rounding in the grown terms reaches this part of the tolerance.
_ROUNDING = 0.05
#: Terms whose norms are taken for those of the terms left out: they go up and down.
_SEEN = 16
#: Seconds, about, of a product with X per rate, and of an elimination in space per state squared; what counts is their ratio.
_PRODUCT, _ELIMINATION = 2e-9, 3e-9
#: Halvings of the whole time at most.
_HALVINGS = 14


def scaled(rates: sp.csr_matrix, kill: np.ndarray, *, transposed: bool) -> tuple[sp.csr_matrix, float]:
    """X = I + 2 G / L, or its transpose, and L; L = 0 where nothing moves.

    Examples
    --------
    >>> X, L = scaled(sp.csr_matrix([[0, 1.0], [1.0, 0]]), np.zeros(2), transposed=False)
    >>> X.toarray().tolist(), L
    ([[0.0, 1.0], [1.0, 0.0]], 2.0)
    """
    out = np.asarray(rates.sum(axis=1)).ravel() + kill
    L = 2.0 * float(out.max())
    scale = 2.0 / L if L > 0.0 else 0.0
    X = (rates * scale + sp.diags(1.0 - scale * out)).tocsr()
    X = X.T.tocsr() if transposed else X
    X.sort_indices()
    return X, L


def products(L: float, time: float, tolerance: float) -> float:
    """About so many products with X are needed for a time.

    Examples
    --------
    >>> 40 < products(100.0, 1.0, 1e-6) < 60
    True
    """
    a = 0.5 * L * time
    return 10.0 + math.sqrt(2.0 * a * math.log(2.0 / tolerance)) + 0.3 * math.log(2.0 / tolerance)


def advance(X: sp.csr_matrix, L: float, p: np.ndarray, span: float, tolerance: float) -> tuple[np.ndarray, float, int, int]:
    """exp(span G) p: values, estimated L1 error (absolute), steps taken, products with X.

    Raises
    ------
    FpsolveError
        If the terms grow however short the steps are.

    Examples
    --------
    >>> X, L = scaled(sp.csr_matrix([[0, 1.0], [1.0, 0]]), np.zeros(2), transposed=True)
    >>> p, error, _, _ = advance(X, L, np.array([1.0, 0.0]), 1.0, 1e-12)
    >>> bool(abs(p[0] - (1 + np.exp(-2)) / 2) < 1e-12)
    True
    """
    if span == 0.0 or L == 0.0:
        return p, 0.0, 0, 0
    used = 0
    steps = 1
    for _ in range(_HALVINGS):
        out, errors = p, 0.0
        for _ in range(steps):
            found = _series(X, 0.5 * L * span / steps, out, tolerance / steps)
            used += found[2]
            if found[0] is None:
                break
            out, errors = found[0], errors + found[1]
        else:
            return out, errors, steps, used
        steps *= 2
    raise FpsolveError(f"the terms of the Chebyshev series grow over a time of {span:g} in {steps} steps: the drift is strong "
                       "beside the noise in every cell; use more cells, or method='positive' (uniformisation)")  # fmt: skip


def _series(X: sp.csr_matrix, a: float, p: np.ndarray, tolerance: float) -> tuple[np.ndarray | None, float, int]:
    """sum_k c_k T_k(X) p until the estimated tail is below the tolerance, that estimate, the products; None where terms grow."""
    start = float(np.abs(p).sum())
    if start == 0.0:
        return p, 0.0, 0
    most = int(products(2.0 * a, 1.0, min(1e-17, 1e-3 * tolerance / start))) + 20
    c = 2.0 * ive(np.arange(most), a)
    c[0] *= 0.5
    tails = np.concatenate([np.cumsum(c[::-1])[::-1], [0.0]])
    old, new, total = p.copy(), X @ p, c[0] * p
    total += c[1] * new
    norms, error = [start, float(np.abs(new).sum())], np.inf
    for k in range(2, most):
        norms.append(chebyshev.step(X @ new, c[k], old, total))
        old, new = new, old
        if not 4e-16 * norms[-1] < _ROUNDING * tolerance + 1e-14 * start:
            return None, np.inf, k
        if k % 4 == 0:
            # growth per term as seen over the last eight, the tail weighted with it
            growth = max(1.0, (max(norms[-4:]) / max(norms[max(0, k - 12) : max(1, k - 7)])) ** 0.125) if k >= 12 else 1.0
            rest, left = c[k + 1 :], tails[k + 1]
            if growth > 1.0:
                with np.errstate(over="ignore", invalid="ignore"):
                    left = float(np.sum(rest * growth ** np.arange(1.0, rest.size + 1)))
            # what is left out also enters the correction of the mass, and its norms are only guessed
            error = 4.0 * max(norms[-_SEEN:]) * left
            if error < tolerance:
                break
    if not error < tolerance:
        return None, np.inf, k
    used = float(c[: k + 1].sum())
    # exp(0) = 1 exactly: mass, or a constant, is kept; the correction is smaller than the tail
    return total + (1.0 - used) * p, error + 4e-16 * math.sqrt(k) * max(norms), k


def suits(rates: sp.csr_matrix, shape: Any, longest: float, out_rate: float, rtol: float) -> bool:
    """Whether this is the way for a chain in space, as elimination would take longer; shape of the grid, or coordinates (n, 3)."""
    dim = 0 if shape is None else shape.shape[1] if isinstance(shape, np.ndarray) else len(shape)
    if dim != 3:
        return False
    work = products(2.0 * out_rate, longest, rtol) * rates.nnz * _PRODUCT
    return work < _ELIMINATION * float(rates.shape[0]) ** 2 or rates.shape[0] > ELIMINATED


def evolve(
    rates: sp.csr_matrix,
    kill: np.ndarray,
    p: np.ndarray,
    spans: np.ndarray,
    rtol: float,
    nonnegative: Callable[[np.ndarray], tuple[np.ndarray, float]] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Masses after each of the spans, as `_transient.evolve` promises; `nonnegative` moves masses to such ones and says how far.

    Examples
    --------
    >>> p, info = evolve(sp.csr_matrix([[0, 1.0], [1.0, 0]]), np.zeros(2), np.array([1.0, 0.0]), np.array([1.0]), 1e-9)
    >>> bool(abs(p[0, 0] - (1 + np.exp(-2)) / 2) < 1e-9), info["method"]
    (True, 'Chebyshev')
    """
    X, L = scaled(rates, kill, transposed=True)
    total, conserved = float(p.sum()), not kill.any()
    share = rtol / max(1, int(np.count_nonzero(spans))) / (1.0 if nonnegative is None else 3.0) * total
    out, errors = np.empty((spans.size, p.size)), np.zeros(spans.size)
    most, used, drift, negative = 1, 0, 0.0, 0.0
    for k, span in enumerate(spans):
        before = float(p.sum())
        p, errors[k], steps, count = advance(X, L, p, float(span), share)
        most, used = max(most, steps), used + count
        if conserved:  # rounding is put back, and reported
            drift = max(drift, abs(float(p.sum()) - before) / total)
            p = p * (total / float(p.sum()))
        negative = max(negative, float(-np.minimum(p, 0.0).sum()) / total)
        if nonnegative is not None:
            p, moved = nonnegative(p)
            errors[k] += 2.0 * moved
        out[k] = p
    info = {"method": "Chebyshev" if nonnegative is None else "Chebyshev, moved to nonnegative masses", "steps": most,
            "error": np.cumsum(errors) / total, "negative": negative, "mass_drift": drift, "factorisations": 0, "solves": 0,
            "products": used}  # fmt: skip
    return out, info


def backward(rates: sp.csr_matrix, kill: np.ndarray, f: np.ndarray, time: float, rtol: float) -> tuple[np.ndarray, dict[str, Any]]:
    """exp(time G) f for values of any sign, as `_transient.backward_evolve` promises.

    Examples
    --------
    >>> u, _ = backward(sp.csr_matrix([[0, 1.0], [1.0, 0]]), np.zeros(2), np.array([1.0, -1.0]), 1.0, 1e-9)
    >>> bool(abs(u[0] - np.exp(-2)) < 1e-9)
    True
    """
    X, L = scaled(rates, kill, transposed=False)
    total = float(np.abs(f).sum())
    out, error, steps, used = advance(X, L, f, time, rtol * total)
    return out, {"method": "Chebyshev", "steps": steps, "error": error / total, "factorisations": 0, "solves": 0, "products": used}
