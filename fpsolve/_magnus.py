"""The exponential midpoint rule for coefficients that depend on time: p(t + h) = p(t) exp(h G(t + h/2)), of second order.

It is Magnus' expansion cut after its first term (W. Magnus, Comm. Pure Appl. Math. 7, 649 (1954); A. Iserles et al., Acta Numer. 9,
215 (2000)): a product of transition matrices, so mass is conserved, and nothing is lost at stiff modes. A step is taken whole and
in halves; a third of the difference is what the halves miss.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import _costs, _transient
from ._frozen import Frozen, Step

__all__ = ["Midpoint"]

Array = NDArray[np.float64]

#: Part of the tolerance of a step that is given to its exponentials.
_INNER = 0.02


class Midpoint:
    """Steps of the exponential midpoint rule.

    Parameters
    ----------
    frozen : Frozen
    method : str or None
        Of the exponentials, as in `_transient.evolve`.
    shape : tuple of int
    total : float
        Mass that tolerances are relative to.
    assembly : float
        Cost of the coefficients at one time, in the seconds of `_costs`.

    Examples
    --------
    A rate that falls like 1 - t/2 from 1: over 1/2 what matters is its integral, 7/16, which the midpoint rule has exactly.

    >>> import scipy.sparse as sp
    >>> pair = Frozen(lambda t: (sp.csr_matrix([[0, 1 - t / 2], [1 - t / 2, 0]]), np.zeros(2)), [], 0.5)
    >>> step = Midpoint(pair, None, (2,), 1.0, 1e-4).step(np.array([1.0, 0.0]), 0.0, 0.5, 1e-8)
    >>> bool(abs(step.masses[0] - (1 + np.exp(-2 * 7 / 16)) / 2) < 1e-8), step.error < 1e-8
    (True, True)
    """

    def __init__(self, frozen: Frozen, method: str | None, shape: tuple[int, ...], total: float, assembly: float) -> None:
        self.frozen, self.method, self.shape, self.total, self.assembly = frozen, method, shape, total, assembly
        self.mass_drift, self._error, self._cost = 0.0, 0.0, 0.0
        self._used: set[str] = set()

    @property
    def name(self) -> str:
        return f"exponential midpoint, {' and '.join(sorted(self._used)) or 'none'}"

    def leave(self) -> None:
        """The next step does not go on from the last one."""

    def before(self, t: float) -> float:
        """Cost of a step, unknown before the first one."""
        return 0.0

    def _flow(self, p: Array, t: float, h: float, tolerance: float) -> Array:
        """Masses after h, coefficients taken in the middle."""
        rates, kill = self.frozen.at(t + 0.5 * h)
        rtol = min(0.5, max(tolerance / self.total, 1e-11))
        masses, info = _transient.propagate(rates, kill, p, np.array([h]), rtol, self.method, self.shape)
        self._error += float(info["error"][0]) * self.total
        self._cost += _costs.spent(info, rates, self.shape)
        self._used.add(str(info["method"]))
        self.mass_drift = max(self.mass_drift, float(info["mass_drift"]))
        return np.asarray(masses[0])

    def step(self, p: Array, now: float, later: float, allowed: float) -> Step:
        """One step whole and in halves; the halves are kept."""
        inner, h = _INNER * allowed, later - now
        self._cost = 0.0
        whole = self._flow(p, now, h, inner)
        self._error = 0.0
        half = self._flow(self._flow(p, now, 0.5 * h, inner), now + 0.5 * h, 0.5 * h, inner)
        defect, exponentials, spent = (half - whole) / 3.0, self._error, self._cost
        error = float(np.abs(defect).sum()) + exponentials

        def carried(missing: Array) -> Array:
            # the solution by whole steps is followed beside that by halves
            return np.asarray((whole - self._flow(p - 3.0 * missing, now, h, inner)) / 3.0)

        def between(t: float, _missed: Array, _misses: Array) -> tuple[Array, float]:
            # a shorter piece is taken whole: four times the defect of the step at its end, with the cube of the length before
            return self._flow(p, now, t - now, inner), 4.0 * error * ((t - now) / h) ** 2

        # three exponentials, and one more for what was missed
        return Step(half, defect, exponentials, 3 * self.assembly + 4 / 3 * spent, carried, between, self.assembly + spent / 3)
