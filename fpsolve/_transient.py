"""Transient masses of a Markov generator: p(t) = p(0) exp(t G) with G = Q - diag(sum_{j != i} Q_ij + kill_i), autonomous.

Default: a rational approximation of exp with one repeated real pole. With X = (I - g G)^{-1}, spectrum in (0, 1] for a
reversible chain,

    exp(t G) = f(X),   f(u) = exp((1 - 1/u) t / g),   p(t) ~ p(0) sum_{j <= k} c_j T_j(2 X - I),

c_j the Chebyshev coefficients of f on [0, 1]. For the best g the error falls like (sqrt(2) - 1)^k (Andersson, J. Approx. Theory
32, 85 (1981); Moret and Novati, BIT 44, 595 (2004)): 1e-9 for 20 resolvents, 1e-12 for 28, whatever the stiffness, so one
step covers any time. Every resolvent is the same M-matrix, factorised once without subtractions: mass is conserved to
rounding and slow modes are right even where t |G| eps > 1. The norms of the terms c_j T_j p are at hand, so the error is
estimated from the terms that are left out and their observed growth (an irreversible chain has a spectrum off the real
axis: then two step sizes are compared instead); where it stays above the tolerance the step is halved, and then the span.
"""

import logging
import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from fpsolve import _explicit
from fpsolve import _generator as gen
from fpsolve._costs import FEW_WORK, few_products, most_products
from fpsolve._elimination import Tridiagonal, engine
from fpsolve._kernels import line
from fpsolve.errors import FpsolveError

__all__ = ["METHODS", "backward_evolve", "evolve", "exponential_series", "propagate"]

_log = logging.getLogger(__name__)

#: What `evolve` takes; None chooses by cost.
METHODS = (None, "positive", "chebyshev", "rational", "uniformisation")
#: Uniformisation is taken for method="positive" up to this many multiplications (jumps x couplings) and jumps (each loses up to
#: 1e-16 of the mass) ...
_UNIFORM_WORK, _UNIFORM_JUMPS = 2_000_000_000, 1e4
#: ... and by default where this many jumps do, and few multiplications (`_costs`), since it is then as cheap as a factorisation and
#: exact.
_FEW_JUMPS = 200.0
_MAX_DEGREE = 60
#: How often a step is halved at most: all steps of a span at once, twice, and then by halving the span, while half of its tolerance
#: is above what the series can reach.
_MAX_HALVINGS, _DOUBLINGS, _DIVISIBLE = 16, 2, 2e-11
_ROUNDING = 1e-12
#: A mass wrong by less than this is rounding in a sum of large terms of both signs; more would be an error, left to be seen.
_MASS_ROUNDING = 1e-10
#: Growth per degree of the terms ||T_j p|| up to which the spectrum counts as real.
_STEADY = 1.08


@lru_cache(maxsize=256)
def exponential_series(s: float) -> np.ndarray:
    """Chebyshev coefficients c_j of f(u) = exp(s (1 - 1/u)) on [0, 1]: f(u) = sum_j c_j T_j(2u - 1), those below 1e-16 cut off.

    Parameters
    ----------
    s : time in units of the pole, 0 < s <= 200; ValueError otherwise

    Examples
    --------
    >>> import numpy as np
    >>> c = exponential_series(15.0)
    >>> bool(abs(np.polynomial.chebyshev.chebval(2 * 0.8 - 1, c) - np.exp(-0.25 * 15)) < 1e-14)
    True
    """
    if not 0 < s <= 200:
        raise ValueError(f"s must lie in (0, 200], got {s!r}")
    from scipy.fft import dct  # a tenth of a second that a stationary density does not need

    points = 1024
    u = (np.cos(np.pi * (np.arange(points) + 0.5) / points) + 1) / 2
    c: np.ndarray = dct(np.exp(s * (1 - 1 / u)), type=2) / points
    c[0] /= 2
    # sum over cosines of rounding errors: entries of this size mean nothing
    last = int(np.flatnonzero(np.abs(c) > 1e-16)[-1]) if s > 0 else 0
    noise = np.abs(c[points // 2 :]).max()
    last = min(last, int(np.flatnonzero(np.abs(c) > 4 * noise)[-1]))
    c = c[: last + 1]
    c.setflags(write=False)
    return c


@lru_cache(maxsize=64)
def _best_pole(tolerance: float) -> float:
    """s = t / g for which the fewest resolvents leave a tail below the tolerance."""
    for degree in range(4, _MAX_DEGREE):
        for ratio in (0.75, 0.65, 0.85, 0.95, 0.55):
            if np.abs(exponential_series(ratio * degree)[degree + 1 :]).sum() < tolerance:
                return ratio * degree
    return 0.75 * 32


class Terms(ABC):
    """A resolvent X = (1 - g G)^-1, called as X p, and the terms T_j(2X - 1) p of a series in it."""

    @abstractmethod
    def __call__(self, p: np.ndarray) -> np.ndarray:
        """X p."""

    def term(self, first: bool, old: np.ndarray, older: np.ndarray, c: float, total: np.ndarray) -> tuple[np.ndarray, float]:
        """T_j p from the two before it (T_1 from p alone), and its L1 norm; c T_j p is added to the total."""
        new = 2 * self(old) - old
        if not first:
            new = 2 * new - older
        total += c * new
        return new, float(np.abs(new).sum())


class _Resolvent(Terms):
    """X^T p = p (I - g G)^{-1}, or X p = (I - g G)^{-1} p, refactorised when g changes."""

    def __init__(
        self, rates: sp.csr_matrix, kill: np.ndarray, shape: tuple[int, ...] | np.ndarray | None, *, transposed: bool = True
    ) -> None:
        self.rates, self.kill, self.shape, self.transposed = rates, kill, shape, transposed
        self.core: Any = None
        self.pole = 0.0
        self.factorisations = self.solves = 0

    def set_pole(self, g: float) -> None:
        if g == self.pole:
            return
        loss = self.kill + 1.0 / g
        if self.core is None:
            self.core = engine(self.rates, loss, lambda: gen.coordinates(self.rates, self.shape))
        else:
            self.core.refactor(loss)
        self.pole = g
        self.factorisations += 1

    def term(self, first: bool, old: np.ndarray, older: np.ndarray, c: float, total: np.ndarray) -> tuple[np.ndarray, float]:
        core = self.core
        if isinstance(core, Tridiagonal) and core.plain_d is not None:
            self.solves += 1
            new = np.empty(old.size)
            size = line.term(core.down, core.up, core.plain_d, self.pole, first, self.transposed, old, older, c, total, new)
            return new, float(size)
        return super().term(first, old, older, c, total)

    def __call__(self, p: np.ndarray) -> np.ndarray:
        self.solves += 1
        out: np.ndarray | None = self.core.plain_solve(p / self.pole, self.transposed)
        if out is None:
            raise FpsolveError(
                f"a resolvent at the time {self.pole:g} left the range of doubles: take shorter times or scale the rates"
            )
        return out


def _series_step(resolvent: Terms, p: np.ndarray, s: float, tolerance: float) -> tuple[np.ndarray, float, bool]:
    """sum_j c_j T_j(2X - I) p until the estimated tail is below the tolerance: value, estimate, whether to trust it.

    Off the real axis T_j grows geometrically and the series is only asymptotic (f is singular at u = 0), so the terms left
    out are no measure of the error where growth is seen.
    """
    c = exponential_series(s)
    older = old = p
    total, used = c[0] * p, float(c[0])
    norms = [float(np.abs(p).sum())]
    error, growth = np.inf, 1.0
    size = np.abs(c)
    tails = np.append(np.cumsum(size[::-1])[::-1], 0.0)
    last = min(c.size, _MAX_DEGREE) - 1
    for j in range(1, last + 1):
        new, norm = resolvent.term(j == 1, old, older, float(c[j]), total)
        older, old = old, new
        norms.append(norm)
        if norm == 0.0:
            error = 0.0
            break
        used += c[j]
        growth = max(1.0, (max(norms[-2:]) / max(norms[-6:-4])) ** 0.25) if j >= 5 else 1.0
        error = 2.0 * max(norms[-4:]) * float(tails[j + 1])  # twice: the tail is itself an estimate
        if growth > 1.0 and (error < tolerance or j == last):
            error = 2.0 * max(norms[-4:]) * float(np.sum(size[j + 1 :] * growth ** np.arange(1, c.size - j)))
        if j >= 5 and error < tolerance:
            break
        if not math.isfinite(error) or norms[-1] > 1e12 * norms[0]:
            return total, np.inf, False
    # f(1) = 1 exactly: the mass is conserved; the correction is smaller than the tail.
    rounding = 4e-16 * len(norms) * max(norms)
    return total + (1.0 - used) * p, error + rounding, growth < _STEADY


def _advance(
    resolvent: _Resolvent, p: np.ndarray, span: float, wanted: float, tolerance: float, total: float, steps: int, depth: int = 0
) -> tuple[np.ndarray, float, int]:
    """Masses after ``span``, the estimated L1 error and the number of steps; errors absolute, ``wanted`` aimed at.

    Where a few equal steps do not reach the tolerance, each half of the span goes on by itself with half of it: steps may be short
    at first and long once fast modes are gone.
    """
    divisible = tolerance > _DIVISIBLE * total and depth + _DOUBLINGS < _MAX_HALVINGS
    doublings = _DOUBLINGS if divisible else _MAX_HALVINGS - depth
    found, tried = _equal_steps(resolvent, p, span, wanted, tolerance, total, steps, doublings)
    if found is not None:
        return *found, tried
    if divisible:
        try:
            return _halves(resolvent, p, span, wanted, tolerance, total, max(1, tried // 4), depth + 1)
        except FpsolveError:
            # the first pieces of a hard start get a small part of the tolerance, which equal steps share as they need it
            if depth == 0:
                found, tried = _equal_steps(resolvent, p, span, wanted, tolerance, total, 2 * tried, _MAX_HALVINGS - _DOUBLINGS)
    if found is None:
        raise FpsolveError(
            f"the rational approximation did not reach {tolerance:.1e} over a time of {span:g} in {tried} steps: raise rtol, "
            "or use method='positive' (uniformisation)"
        )
    return *found, tried


def _halves(
    resolvent: _Resolvent, p: np.ndarray, span: float, wanted: float, tolerance: float, total: float, steps: int, depth: int
) -> tuple[np.ndarray, float, int]:
    most, errors = 0, 0.0
    for _ in range(2):
        p, error, used = _advance(resolvent, p, span / 2, wanted / 2, tolerance / 2, total, steps, depth)
        most, errors, steps = most + used, errors + error, max(1, min(steps, used // 2))
    return p, errors, most


def _equal_steps(
    resolvent: _Resolvent, p: np.ndarray, span: float, wanted: float, tolerance: float, total: float, steps: int, doublings: int
) -> tuple[tuple[np.ndarray, float] | None, int]:
    """Masses after ``span`` with their error, None where the tolerance is not reached after so many doublings; the steps taken.

    Where the terms of the series grow, the estimate is the difference to the same time in twice as many steps.
    """
    previous, error = None, np.inf
    for doubling in range(doublings + 1):
        steps *= 2 if doubling else 1
        share = wanted / steps
        best = _best_pole(10.0 ** np.floor(np.log10(max(share / total / 10.0, 1e-13))))
        s = span / steps / resolvent.pole if resolvent.pole else 0.0
        if not 0.4 * best <= s <= 1.2 * best:
            resolvent.set_pole(span / steps / best)
            s = best
        out, error, steady = p, 0.0, True
        for _ in range(steps):
            out, part, trusted = _series_step(resolvent, out, s, share)
            error, steady = error + part, steady and trusted
            if not error <= tolerance:
                break
        complete = error <= tolerance
        if complete and not steady:
            error = max(error, float(np.abs(out - previous).sum())) if previous is not None else np.inf
        if error <= tolerance:
            return (out, error), steps
        # an interrupted pass has not reached the end of the span
        previous = out if complete else None
        _log.debug("%d steps over %g: estimated error %.1e, tolerance %.1e", steps, span, error, tolerance)
        resolvent.pole = 0.0
    return None, steps


def _poisson(mean: float) -> tuple[int, np.ndarray]:
    """First index and normalised weights of a Poisson law, tails below 1e-17 cut (Fox and Glynn, CACM 31, 440 (1988))."""
    half = int(9.0 * np.sqrt(mean) + 40)
    mode = int(mean)
    first = max(0, mode - half)
    up = np.cumprod(mean / np.arange(mode + 1, mode + half + 1))
    down = np.cumprod(np.arange(mode, first, -1) / mean) if mode > first else np.empty(0)
    weights = np.concatenate([down[::-1], [1.0], up])
    return first, weights / weights.sum()


def _jumps(rates: sp.csr_matrix, kill: np.ndarray, rate: float) -> sp.csr_matrix:
    """1 + G / rate: probabilities of jumps of a chain that jumps, or stays, at one rate."""
    return (rates / rate + sp.diags(np.maximum(1.0 - gen.leaving(rates, kill) / rate, 0.0))).tocsr()


def _uniform_rounding(mean: float) -> float:
    """Bound of the rounding of `_uniformise`, relative to the mass."""
    return 2e-16 * (mean + 50.0)


def _uniformise(jump: sp.csr_matrix, p: np.ndarray, mean: float) -> np.ndarray:
    """sum_k Poisson(k; mean) jump^k p: nonnegative term by term."""
    first, weights = _poisson(mean)
    for _ in range(first):
        p = jump @ p
    out: np.ndarray = weights[0] * p
    for w in weights[1:]:
        p = jump @ p
        out += w * p
    return out


def _nonnegative(p: np.ndarray) -> tuple[np.ndarray, float]:
    """Nonnegative masses of the same total: negatives to zero, the surplus taken from the rest in proportion."""
    negative = float(-np.minimum(p, 0.0).sum())
    if negative == 0.0:
        return p, 0.0
    kept = np.maximum(p, 0.0)
    total = float(kept.sum())
    # where nearly all mass has left through the walls, what remains is rounding and its sum may be negative: then nothing is left
    return kept * (max(total - negative, 0.0) / total if total > 0.0 else 0.0), negative


def _checked(mass0: np.ndarray, times: np.ndarray, rtol: float, method: str | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    p, t = np.array(mass0, dtype=float), np.atleast_1d(np.array(times, dtype=float))
    if p.shape != (n,):
        raise ValueError(f"mass0 must have shape ({n},), got {p.shape}")
    bad = np.flatnonzero(~((p >= 0) & np.isfinite(p)))
    if bad.size:
        raise ValueError(f"mass0 must be finite and >= 0, got {p[bad[0]]!r} at state {bad[0]}")
    if p.sum() == 0:
        raise ValueError("mass0 is zero everywhere: give the masses of the cells, for example one at the start")
    if t.ndim != 1 or t.size == 0 or not np.all(np.isfinite(t)) or t[0] < 0 or np.any(np.diff(t) < 0):
        raise ValueError(f"times must be a non-empty, non-decreasing list of finite numbers >= 0, got {times!r}")
    if not 1e-11 <= rtol < 1:
        raise ValueError(f"rtol must lie in [1e-11, 1), got {rtol!r}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    return p, t


def evolve(
    Q: sp.sparray | sp.spmatrix,
    kill: np.ndarray | None,
    mass0: np.ndarray,
    times: np.ndarray,
    *,
    rtol: float = 1e-6,
    method: str | None = None,
    shape: tuple[int, ...] | np.ndarray | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Masses at the given times of dp_j/dt = sum_{i != j} p_i Q_ij - (sum_{i != j} Q_ji + kill_j) p_j.

    Parameters
    ----------
    Q : (n, n) sparse, rates Q_ij >= 0 from i to j (1/time); the diagonal is ignored
    kill : (n,) rates >= 0 of leaving the state space, or None
    mass0 : (n,) masses at time zero, >= 0
    times : (nt,) non-decreasing, >= 0
    rtol : tolerated L1 error relative to the initial mass, summed over all times
    method : None: the cheapest of "chebyshev" (`_explicit`: products with G only, all times from one sweep), "rational" (one
        factorisation per interval) and, where few jumps do, "uniformisation"; conservative, negative part at most of the
        size of the error and reported. "positive": uniformisation p(t) = sum_k Poisson(k; lambda t) p(0) (1 + G / lambda)^k
        where that is affordable, else the cheaper of the two others followed by a move to nonnegative masses of equal total,
        whose size enters the error estimate. Nonnegative in both cases.
    shape : grid shape in C order, or coordinates (n, d) of the states: for the elimination order, in 3-D for the choice of method

    Returns
    -------
    masses (nt, n), and a dict: ``method``, ``steps`` (most steps in one interval), ``error`` (nt,) estimated accumulated L1
    error relative to the initial mass, ``negative`` largest negative part relative to the initial mass before any move,
    ``mass_drift`` largest change of the total in one interval relative to it (kill = 0; nothing is renormalised),
    ``factorisations``, ``solves``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or sign.
    FpsolveError
        If the tolerance cannot be met.

    Notes
    -----
    Sources: module docstring; uniformisation: Jensen 1953, weights as Fox and Glynn, CACM 31, 440 (1988). No linear one-step
    method of order above one is positive for every step (Bolley, Crouzeix 1978), hence the choice of methods.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> p, info = evolve(sp.csr_matrix([[0, 1.0], [1.0, 0]]), None, [1.0, 0.0], [1.0])
    >>> bool(abs(p[0, 0] - (1 + np.exp(-2)) / 2) < 1e-10)
    True
    """
    rates = gen.clean_rates(Q)
    n = rates.shape[0]
    loss = gen.clean_kill(kill, n)
    p, t = _checked(mass0, times, rtol, method, n)
    return propagate(rates, loss, p, t, rtol, method, shape)


def propagate(
    rates: sp.csr_matrix,
    loss: np.ndarray,
    p: np.ndarray,
    t: np.ndarray,
    rtol: float,
    method: str | None,
    shape: tuple[int, ...] | np.ndarray | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """`evolve` with checked arguments; the masses may have small negative parts."""
    n = rates.shape[0]
    spans = np.diff(t, prepend=0.0)
    out_rate = float(gen.leaving(rates, loss).max())
    jumps = out_rate * t[-1]
    affordable = jumps <= _UNIFORM_JUMPS and jumps * (rates.nnz + n) <= _UNIFORM_WORK
    few = jumps <= _FEW_JUMPS and (method == "positive" or (method is None and few_products(rates, jumps, spans)))
    if few or method == "uniformisation" or (method == "positive" and affordable):
        return _evolve_uniform(rates, loss, p, spans, out_rate, rtol)
    if method in (None, "positive", "chebyshev"):
        most = np.inf if method == "chebyshev" else most_products(rates, 2.0 * jumps, spans, rtol, shape)
        found = _evolve_chebyshev(rates, loss, p, t, rtol, most, method == "positive") if most > 0 else None
        if found is not None:
            return found
    return _evolve_rational(rates, loss, p, spans, rtol, method, shape)


def _evolve_chebyshev(
    rates: sp.csr_matrix, kill: np.ndarray, p: np.ndarray, times: np.ndarray, rtol: float, most: float, positive: bool
) -> tuple[np.ndarray, dict[str, Any]] | None:
    total = float(p.sum())
    series = _explicit.Chebyshev(rates, kill)
    # the move to nonnegative masses can double the error
    found = series.series(p, times, max(rtol / (3.0 if positive else 1.0), _ROUNDING) * total, most)
    if found is None:
        return None
    out, errors = found
    drift = 0.0
    if not kill.any():  # rounding in the sum of large terms of both signs is put back, and reported
        sums = out.sum(axis=1)
        drift = float(np.abs(sums - total).max() / total)
        if drift <= max(errors[-1] / total, _MASS_ROUNDING):
            out *= (total / sums)[:, None]
    negative = _negative_part(out) / total
    for k in range(times.size if positive else 0):
        out[k], moved = _nonnegative(out[k])
        errors[k] += 2.0 * moved
    info = {
        "method": "chebyshev, moved to nonnegative masses" if positive else "chebyshev", "steps": series.steps,
        "error": errors / total, "negative": negative, "mass_drift": drift, "factorisations": 0, "solves": 0,
        "products": series.products,
    }  # fmt: skip
    return out, info


def _negative_part(masses: np.ndarray) -> float:
    """The largest sum of the negative masses."""
    return max(float(-np.minimum(p, 0.0).sum()) for p in masses)


def _evolve_uniform(
    rates: sp.csr_matrix, kill: np.ndarray, p: np.ndarray, spans: np.ndarray, out_rate: float, rtol: float
) -> tuple[np.ndarray, dict[str, Any]]:
    total = p.sum()
    out = np.empty((spans.size, p.size))
    drift = 0.0
    rate = out_rate if out_rate > 0 else 1.0
    longest = float(np.max(spans))
    jump = _jumps(rates, kill, rate).T.tocsr()
    error = np.cumsum([_uniform_rounding(rate * span) if span > 0 else 0.0 for span in spans])
    for k, span in enumerate(spans):
        before = p.sum()
        if span > 0:
            p = _uniformise(jump, p, rate * span)
        if not kill.any():
            drift = max(drift, abs(p.sum() - before) / total)
        out[k] = p
    if error[-1] > rtol:
        raise FpsolveError(f"rounding over {rate * spans.sum():.1e} jumps may reach {error[-1]:.1e}, above rtol = {rtol:g}: "
                           "raise rtol, or shorten the time")  # fmt: skip
    info = {
        "method": "uniformisation", "steps": int(rate * longest) + 1, "error": error, "negative": 0.0,
        "mass_drift": drift, "factorisations": 0, "solves": 0,
    }  # fmt: skip
    return out, info


def _evolve_rational(
    rates: sp.csr_matrix,
    kill: np.ndarray,
    p: np.ndarray,
    spans: np.ndarray,
    rtol: float,
    method: str | None,
    shape: tuple[int, ...] | np.ndarray | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    resolvent = _Resolvent(rates, kill, shape)
    total = float(p.sum())
    # The move to nonnegative masses can double the error.
    share = max(rtol / max(1, int(np.count_nonzero(spans))) / (3.0 if method == "positive" else 1.0), _ROUNDING) * total
    # In 1-D eight more solves cost next to nothing, and few terms do not show that the series may be trusted.
    wanted = min(share, 1e-10 * total) if gen.is_tridiagonal(rates) else share
    out, errors = np.empty((spans.size, p.size)), np.zeros(spans.size)
    steps, most, drift, negative = 1, 1, 0.0, 0.0
    # Without losses each solve keeps the mass; rounding in the sum of its large terms of both signs is put back, and reported.
    for k, span in enumerate(spans):
        if span > 0:
            before = p.sum()
            p, errors[k], steps = _advance(resolvent, p, float(span), wanted, share, total, steps)
            most, steps = max(most, steps), max(1, steps // 2)
            if not kill.any():
                drift = max(drift, abs(p.sum() - before) / total)
                if abs(p.sum() - total) < _MASS_ROUNDING * total:
                    p = p * (total / p.sum())
            part = float(-np.minimum(p, 0.0).sum())
            negative = max(negative, part / total)
            if method == "positive":
                p, moved = _nonnegative(p)
                errors[k] += 2 * moved
        out[k] = p
    name = "rational" if method != "positive" else "rational, moved to nonnegative masses"
    info = {
        "method": name, "steps": most, "error": np.cumsum(errors) / total, "negative": negative, "mass_drift": drift,
        "factorisations": resolvent.factorisations, "solves": resolvent.solves,
    }  # fmt: skip
    return out, info


def backward_evolve(
    Q: sp.sparray | sp.spmatrix,
    kill: np.ndarray | None,
    values: np.ndarray,
    time: float,
    *,
    rtol: float = 1e-8,
    shape: tuple[int, ...] | np.ndarray | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """exp(t G) f: the expectation of f(X_t) as a function of the start, f of any sign.

    Parameters
    ----------
    Q, kill, shape : as in `evolve`
    values : (n,) f, finite
    time : t >= 0
    rtol : tolerated sum of errors relative to the sum of |f|

    Returns
    -------
    (n,) the expectations (killed paths count zero), and a dict: ``method``, ``steps``, ``error`` estimated relative to the sum of
    |f|, ``factorisations``, ``solves``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or sign.
    FpsolveError
        If the tolerance cannot be met.

    Notes
    -----
    The cheapest of the Chebyshev series in G (`_explicit`), the rational series of this module with X instead of its transpose, and
    uniformisation where few jumps do. A constant stays constant to rounding without killing.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> u, _ = backward_evolve(sp.csr_matrix([[0, 1.0], [1.0, 0]]), None, np.array([1.0, -1.0]), 1.0)
    >>> bool(abs(u[0] - np.exp(-2)) < 1e-9)
    True
    """
    rates = gen.clean_rates(Q)
    n = rates.shape[0]
    loss = gen.clean_kill(kill, n)
    f = np.array(values, dtype=float)
    if f.shape != (n,) or not np.all(np.isfinite(f)):
        raise ValueError(f"values must be {n} finite numbers, got shape {f.shape}")
    if not (np.isfinite(time) and time >= 0):
        raise ValueError(f"time must be finite and >= 0, got {time!r}")
    if not 1e-11 <= rtol < 1:
        raise ValueError(f"rtol must lie in [1e-11, 1), got {rtol!r}")
    total = float(np.abs(f).sum())
    out_rate = float(gen.leaving(rates, loss).max())
    if time == 0 or total == 0 or out_rate == 0:
        return f, {"method": "none", "steps": 0, "error": 0.0, "factorisations": 0, "solves": 0}
    mean = out_rate * time
    if mean <= _FEW_JUMPS and mean * rates.nnz <= FEW_WORK:
        info = {"method": "uniformisation", "steps": int(mean) + 1, "error": _uniform_rounding(mean), "factorisations": 0,
                "solves": 0}  # fmt: skip
        return _uniformise(_jumps(rates, loss, out_rate), f, mean), info
    wanted, times = max(rtol, _ROUNDING) * total, np.array([time])
    most = most_products(rates, 2.0 * mean, times, rtol, shape)
    if most > 0:
        series = _explicit.Chebyshev(rates, loss, transposed=False)
        found = series.series(f, times, wanted, most)
        if found is not None:
            return found[0][0], {"method": "chebyshev", "steps": series.steps, "error": float(found[1][0]) / total,
                                 "factorisations": 0, "solves": 0, "products": series.products}  # fmt: skip
    resolvent = _Resolvent(rates, loss, shape, transposed=False)
    out, error, steps = _advance(resolvent, f, time, min(wanted, 1e-10 * total) if n < 5000 else wanted, wanted, total, 1)
    return out, {"method": "rational", "steps": steps, "error": error / total, "factorisations": resolvent.factorisations,
                 "solves": resolvent.solves}  # fmt: skip
