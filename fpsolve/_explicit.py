"""Explicit evolution in one sweep: the exponential of a generator as a Chebyshev series in the generator itself.

With W = I + 2 G/rho, rho at least the spectral radius (twice the largest rate of leaving), and s = rho t/2,

    exp(t G) = exp(s (W - I)) = sum_k c_k(s) T_k(W),   c_k = (2 - [k = 0]) exp(-s) I_k(s)

(H. Tal-Ezer, R. Kosloff, J. Chem. Phys. 81, 3967 (1984)). The coefficients fall like exp(-k^2/(2 s)): some sqrt(rho t log(1/error))
products with G. A Runge-Kutta-Chebyshev method of second order, which needs steps for accuracy besides stages for
stability, took 1.7 times as many for a process with a current at rtol 1e-3, and nearly four times as many at 1e-5.
The vectors T_k(W) p do not depend on the time, so all times
of a series share them: a further time costs one multiplication per vector and cell.

The spectrum need not be real. For f in L^2(1/pi), edges with fluxes J and symmetric parts S, an eigenvalue -r + i omega has
omega^2 <= kappa r with kappa the largest u.D^-1 u of the drift u that the noise does not balance; on this parabola T_k grows like
exp(k sqrt(kappa/rho)), at most exp(sqrt(kappa t log(1/error))) before the coefficients win, which no damping has to be chosen for.
The growth is seen in the norms of the terms; where it costs digits, the time is cut in halves.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ._generator import leaving
from ._kernels import chebyshev as kernels
from .errors import FpsolveError

__all__ = ["Chebyshev", "products"]

Array = NDArray[np.float64]

#: Terms held at once: what they give to all times is one product of matrices.
HELD = 16
#: Cost of a product with the generator and of keeping a term, per number read (seconds on the machine where it was measured; only
#: the ratio to the cost of an elimination counts).
_READ = 0.35e-9
#: Terms whose norms are taken for those of the terms left out: they go up and down.
_SEEN = 16
#: Rounding of a term relative to the largest before it.
_ROUNDING = 2e-15
#: How often the time is cut in halves at most.
_CUTS = 30


def products(rho_t: float, rtol: float) -> float:
    """Number of products with the generator for a real spectrum.

    Examples
    --------
    >>> round(products(4000.0, 1e-3))
    190
    """
    level = math.log(4.0 / rtol)
    return math.sqrt(rho_t * level) + level


def _coefficients(s: Array, count: int) -> Array:
    """c_k(s), k < count, for every s (times, count)."""
    from scipy.special import ive

    out = 2.0 * ive(np.arange(count)[None, :], s[:, None])
    out[:, 0] *= 0.5
    return np.asarray(np.where(s[:, None] > 0.0, out, np.arange(count)[None, :] == 0))


class Chebyshev:
    """Masses in time under a generator.

    Parameters
    ----------
    rates : csr_matrix (n, n)
        Rates from i to j, zero diagonal.
    kill : array (n,)
    transposed : bool
        True: masses p exp(t G); False: expectations exp(t G) f.

    Examples
    --------
    >>> chain = Chebyshev(sp.csr_matrix([[0, 1.0], [1.0, 0]]), np.zeros(2))
    >>> p, error = chain.series(np.array([1.0, 0.0]), np.array([0.5, 1.0]), 1e-9)
    >>> bool(np.abs(p[:, 0] - (1 + np.exp([-1.0, -2.0])) / 2).max() < 1e-9)
    True
    """

    def __init__(self, rates: sp.csr_matrix, kill: Array, *, transposed: bool = True) -> None:
        out = leaving(rates, kill)
        self.n, self.rho = out.size, 2.0 * float(out.max(initial=0.0))
        scale = 2.0 / self.rho if self.rho > 0.0 else 0.0
        block_ptr = kernels.count_diagonals(rates.indptr, rates.indices, transposed)
        offsets, values = np.empty(block_ptr[-1], np.int64), np.zeros((block_ptr[-1], kernels.BLOCK))
        kernels.fill_diagonals(rates.indptr, rates.indices, rates.data, out, scale, transposed, block_ptr, offsets, values)
        self.matrix = (block_ptr, offsets, values)
        self.pad = int(np.abs(offsets).max(initial=0))
        self.keeps = not kill.any()
        self.products = 0
        self.steps = 0

    @property
    def cost(self) -> float:
        """Cost of one product, in the unit of `_READ`."""
        return _READ * (self.matrix[2].size + 5.0 * self.n)

    def series(self, p: Array, times: Array, tolerance: float, most: float = math.inf) -> tuple[Array, Array] | None:
        """Vectors (nt, n) at increasing times >= 0 and their errors (nt,), estimated, absolute in L1.

        The tolerance is that of the last time. None where `most` products do not suffice.
        """
        out, errors = np.empty((times.size, self.n)), np.zeros(times.size)
        done, now, spent, end = 0, 0.0, 0.0, float(times[-1])
        span, cuts = end, 0
        while done < times.size:
            last = np.searchsorted(times, (now + span) * (1 + 1e-14), side="right")
            at = times[done:last] - now
            at = at if at.size and at[-1] >= span else np.append(at, span)
            found = self._sweep(p, at, tolerance * (span / end if end > 0.0 else 1.0), most)
            if found is None and self.products >= most:
                return None
            if found is None:
                span, cuts = span / 2, cuts + 1
                if cuts > _CUTS:
                    raise FpsolveError("the terms of the Chebyshev series grow beyond the range of doubles: use method='rational'")
                continue
            values, error = found
            out[done:last], errors[done:last] = values[: last - done], spent + error
            p, now, spent, done = values[-1], now + span, spent + error, int(last)
            span = min(span, end - now) if end > now else span
            self.steps += 1
        return out, errors

    def _sweep(self, p: Array, times: Array, tolerance: float, most: float) -> tuple[Array, float] | None:
        """Vectors at `times` (the last one is the longest) and the error of the last, or None where the terms grow too much."""
        s = 0.5 * self.rho * times
        top = int(math.sqrt(160.0 * float(s[-1])) + 100)
        c = _coefficients(s, top + 1)
        tails = np.cumsum(np.abs(c[:, ::-1]), axis=1)[:, ::-1].max(axis=0)
        n, inner = self.n, slice(self.pad, self.pad + self.n)
        room = HELD if times.size < HELD else 3 * HELD
        held = np.zeros((room + 2, n + 2 * self.pad))
        held[0, inner] = p
        out = np.zeros((times.size, n))
        first, have, norms, rounding = 0, 1, [float(np.abs(p).sum())], 0.0
        while True:
            k = len(norms)  # the next term
            error = tails[min(k, top)] * max(norms[-_SEEN:]) * _further(norms)
            if error < tolerance - rounding:
                break
            if rounding > 0.5 * tolerance or k >= top or self.products >= most:
                return None
            if have == room + 2:
                _add(out, c[:, first : first + room], held[:room, inner], max(norms) / norms[0])
                held[:2] = held[room:]
                first, have = first + room, 2
            step = (1.0, held[0], 0.0, held[0]) if k == 1 else (2.0, held[have - 1], -1.0, held[have - 2])
            rounding += _ROUNDING * float(np.abs(c[:, k - 1]).max()) * max(norms)
            norms.append(float(kernels.recur(*self.matrix, self.pad, n, *step, held[have])))
            have += 1
            self.products += 1
        _add(out, c[:, first : first + have], held[:have, inner], max(norms) / norms[0])
        if self.keeps:  # exp(0) = 1: what the terms left out have of the mass, or of a constant
            out += (1.0 - c[:, :k].sum(axis=1))[:, None] * p
        return out, error + rounding


def _add(out: Array, factors: Array, terms: Array, size: float) -> None:
    """out += factors @ terms for the times that the terms still matter to, which are the late ones."""
    matters = np.flatnonzero(np.abs(factors).max(axis=1) * size > 1e-18)
    if matters.size:
        out[matters[0] :] += factors[matters[0] :] @ terms


def _further(norms: list[float]) -> float:
    """By how much the terms left out may exceed the last ones: their growth over the last eight, for as many more.

    Four times that: their norms are only guessed, and what is left out also enters the correction of the mass. With twice that,
    over four norms, the error was above the estimate for 42 of 12 000 random chains, by up to 1.37 times; with this it was at most
    0.66 of it for 3600 of them.
    """
    if len(norms) < 10:
        return 4.0
    return 4.0 * max(1.0, max(norms[-4:]) / max(norms[-10:-6]))
