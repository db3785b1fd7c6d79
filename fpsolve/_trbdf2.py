"""TR-BDF2 for coefficients that depend on time: one step, second order, L-stable, with an embedded error and dense output.

With gamma = 2 - sqrt 2 and a = gamma/2, for dp/dt = f(t, p) = p G(t):

    p_1 = p_0 + a h (f_0 + f_1)                                              trapezoidal rule to t + gamma h,
    p_2 = (p_1 - (1 - gamma)^2 p_0) / (gamma (2 - gamma)) + a h f_2          BDF2 to t + h,

so that both stages solve with 1 - a h G (R. E. Bank et al., IEEE Trans. Electron Devices 32, 1992 (1985)). Both stages miss
multiples of h^3 p''', and h^2 p'''/2 is the second divided difference of f: this is the embedded formula of third order (M. E.
Hosea, L. F. Shampine, Appl. Numer. Math. 20, 21 (1996)). What the stages miss goes through the stages once more, which makes it
right at stiff modes too, and what their slopes miss by it corrects p'''. Between the ends of a step the masses are the cubic
Hermite polynomial of p and f.

Every solve is an elimination without subtractions and conserves mass. The step is not positive: the trapezoidal rule reflects modes
with a h |lambda| > 1. The exact masses are nonnegative and have the same sum, so that the error in L1 is at least twice the
negative part: what a step adds to that counts as its error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import _costs
from ._elimination import engine
from ._frozen import Frozen, Step
from ._generator import coordinates
from .errors import FpsolveError

__all__ = ["TrBdf2", "negative"]

Array = NDArray[np.float64]

_GAMMA = 2.0 - math.sqrt(2.0)
#: Of h in both stages, and of p_1 and -p_0 in the second.
_STAGE, _NEW, _OLD = 0.5 * _GAMMA, 1.0 / (_GAMMA * (2.0 - _GAMMA)), (1.0 - _GAMMA) ** 2 / (_GAMMA * (2.0 - _GAMMA))
#: What the stages miss, by h^3 p'''; a step misses _NEW _FIRST + _SECOND where nothing is stiff.
_FIRST = -(_GAMMA**3) / 12.0
_SECOND = (1.0 - _NEW * _GAMMA**3 - 3.0 * _STAGE) / 6.0
#: Solves of a step: two stages, four for what they miss, two for what was missed before.
_SOLVES = 8
#: Largest error of the Hermite polynomial, by h^3 p''', where h p'''' is twice p'''.
_BETWEEN = 2.0 / 384.0


def negative(p: Array) -> float:
    """Sum of the negative masses."""
    return float(-np.minimum(p, 0.0).sum())


def _slope(rates: sp.csr_matrix, kill: Array, p: Array) -> Array:
    """p G."""
    return np.asarray(rates.T @ p - (np.asarray(rates.sum(axis=1)).ravel() + kill) * p)


class _Stage:
    """(1 - c G)^-1 at one time, acting on masses."""

    def __init__(self, at: tuple[sp.csr_matrix, Array], c: float, shape: tuple[int, ...], like: Any) -> None:
        rates, kill = at
        self.core: Any = engine(rates, kill + 1.0 / c, lambda: coordinates(rates, shape), like)
        self.c = c

    def __call__(self, rhs: Array) -> tuple[Array, Array]:
        """Masses p = rhs + c f of a stage, and f."""
        p = self.core.plain_solve(rhs / self.c, True)
        if p is None:
            raise FpsolveError(
                f"a stage of TR-BDF2 over {self.c:g} left the range of doubles: take shorter times or scale the rates"
            )
        return p, (p - rhs) / self.c


class TrBdf2:
    """Steps of TR-BDF2; arguments as those of `_magnus.Midpoint`.

    Examples
    --------
    >>> pair = Frozen(lambda t: (sp.csr_matrix([[0, 1 - t / 2], [1 - t / 2, 0]]), np.zeros(2)), [], 0.1)
    >>> step = TrBdf2(pair, (2,), 1.0, 1e-4).step(np.array([1.0, 0.0]), 0.0, 0.1, 1e-3)
    >>> true = (1 + np.exp(-2 * 0.0975)) / 2 - step.masses[0]
    >>> bool(abs(true / step.defect[0] - 1) < 0.1), bool(1e-4 < abs(true) < 3e-4)
    (True, True)
    """

    name = "TR-BDF2"

    def __init__(self, frozen: Frozen, shape: tuple[int, ...], total: float, assembly: float) -> None:
        self.frozen, self.shape, self.total, self.assembly = frozen, shape, total, assembly
        self.mass_drift = 0.0
        self._core: Any = None
        #: Masses at both ends of the last step tried, with their slopes.
        self._known: tuple[tuple[Array, Array], ...] = ()

    def leave(self) -> None:
        """Coefficients have jumped: slopes are no longer what they were."""
        self._known = ()

    def before(self, t: float) -> float:
        """Cost of a step that begins at t."""
        rates = self.frozen.at(t)[0]
        elimination, solve = _costs.resolvent(rates, self.shape)
        return 2 * (self.assembly + elimination + _costs.fresh(rates)) + _SOLVES * solve

    def _stage(self, at: tuple[sp.csr_matrix, Array], c: float) -> _Stage:
        stage = _Stage(at, c, self.shape, self._core)
        self._core = stage.core
        return stage

    def step(self, p: Array, now: float, later: float, allowed: float) -> Step:
        """One step, whatever it misses."""
        h = later - now
        first, until, c = self.frozen.at(now), self.frozen.before(later), _STAGE * h
        found = [slope for masses, slope in self._known if masses is p]
        start = found[0] if found else _slope(*first, p)
        inner = self._stage(self.frozen.at(now + _GAMMA * h), c)
        middle, slope = inner(p + c * start)
        last = self._stage(until, c)
        new, end = last(_NEW * middle - _OLD * p)
        third = 2.0 * h * (start / _GAMMA - slope / (_GAMMA * (1.0 - _GAMMA)) + end / (1.0 - _GAMMA))
        for correction in (True, False):
            half, bend = inner(_FIRST * third)
            defect, turn = last(_NEW * half + _SECOND * third)
            if correction:
                third = third + 2.0 * h * (turn / (1.0 - _GAMMA) - bend / (_GAMMA * (1.0 - _GAMMA)))
        size = float(np.abs(defect).sum())
        if not until[1].any():  # each solve conserves the mass; its rounding is put back
            total = float(p.sum())
            self.mass_drift = max(self.mass_drift, abs(float(new.sum()) - total) / self.total)
            new *= total / float(new.sum())
        self._known = ((p, start), (new, end))

        def carried(missing: Array) -> Array:
            return last(_NEW * inner(missing + c * _slope(*first, missing))[0] - _OLD * missing)[0]

        def between(t: float, missed: Array, misses: Array) -> tuple[Array, float]:
            s = (t - now) / h
            least = max(float(np.abs(missed).sum()), float(np.abs(misses).sum()))
            here = _hermite(s, h, (missed, _slope(*first, missed)), (misses, _slope(*until, misses)))
            bound = 16.0 * (s * (1.0 - s)) ** 2 * _BETWEEN * float(np.abs(third).sum())
            return _hermite(s, h, (p, start), (new, end)), max(float(np.abs(here).sum()) - least, 0.0) + bound

        excess = max(0.0, 2.0 * (negative(new) - negative(p)) - size)
        return Step(new, defect, excess, self.before(now), carried, between)


def _hermite(s: float, h: float, low: tuple[Array, Array], high: tuple[Array, Array]) -> Array:
    """Cubic polynomial in s from 0 to 1 of values and slopes at both ends."""
    r = 1.0 - s
    return np.asarray(r * r * ((1.0 + 2.0 * s) * low[0] + s * h * low[1]) + s * s * ((1.0 + 2.0 * r) * high[0] - r * h * high[1]))
