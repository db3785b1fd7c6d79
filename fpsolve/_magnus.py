"""Evolution with coefficients that depend on time: p(t + h) = p(t) exp(h G(t + h/2)), of second order, with error control.

The exponential midpoint rule is Magnus' expansion cut after its first term (W. Magnus, Comm. Pure Appl. Math. 7, 649 (1954); A.
Iserles et al., Acta Numer. 9, 215 (2000)): a product of transition matrices, so mass is conserved, and nothing is lost at stiff
modes. A step is taken whole and in halves; a third of the difference is the error of the halves. Errors add up to at most their
sum, as transition matrices contract L1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import _transient
from .errors import FpsolveError

__all__ = ["evolve_driven"]

Array = NDArray[np.float64]
Coefficients = Callable[[float], tuple[sp.csr_matrix, Array]]

#: Steps, taken or tried, after which it is given up.
_MOST = 20000
#: Part of the tolerance of a step that is given to its exponentials.
_INNER = 0.02


class _Flow:
    """exp of frozen generators; the last few generators are kept, as a rejected step needs them again."""

    def __init__(self, coefficients: Coefficients, method: str | None, shape: tuple[int, ...], total: float) -> None:
        self.coefficients, self.method, self.shape, self.total = coefficients, method, shape, total
        self.kept: OrderedDict[float, tuple[sp.csr_matrix, Array]] = OrderedDict()
        self.assemblies, self.mass_drift = 0, 0.0
        self.used: set[str] = set()

    def frozen(self, t: float) -> tuple[sp.csr_matrix, Array]:
        if t not in self.kept:
            self.assemblies += 1
            self.kept[t] = self.coefficients(t)
            if len(self.kept) > 6:
                self.kept.popitem(last=False)
        return self.kept[t]

    def __call__(self, p: Array, t: float, h: float, tolerance: float) -> Array:
        """Masses after h, coefficients taken in the middle."""
        rates, kill = self.frozen(t + 0.5 * h)
        rtol = min(0.5, max(tolerance / self.total, 1e-11))
        masses, info = _transient.propagate(rates, kill, p, np.array([h]), rtol, self.method, self.shape)
        self.used.add(str(info["method"]))
        self.mass_drift = max(self.mass_drift, float(info["mass_drift"]))
        return np.asarray(masses[0])


def evolve_driven(
    coefficients: Coefficients, mass0: Array, times: Array, *, rtol: float, method: str | None, shape: tuple[int, ...]
) -> tuple[Array, dict[str, Any]]:
    """Masses (nt, n) at increasing times >= 0, and what `_transient.evolve` tells, with ``assemblies``.

    Parameters
    ----------
    coefficients : callable
        Time to off-diagonal rates and killing rates.
    mass0, times, rtol, method, shape
        As in `_transient.evolve`; `method` is that of the exponentials.

    Raises
    ------
    FpsolveError
        If the tolerance is not reached in 20000 steps, as with coefficients that jump everywhere.

    Notes
    -----
    A time inside a step costs one more assembly and exponential from its start.
    """
    total, end = float(mass0.sum()), float(times[-1])
    flow = _Flow(coefficients, method, shape, total)
    left, spent, steps, tried = rtol * total, 0.0, 0, 0
    out, errors = np.empty((times.size, mass0.size)), np.zeros(times.size)
    p, now, h, done = mass0, 0.0, end / 4, int(np.searchsorted(times, 0.0, side="right"))
    out[:done] = mass0
    while done < times.size:
        tried += 1
        if tried > _MOST:
            raise FpsolveError(f"no end in {_MOST} steps (t = {now:g} of {end:g}): raise rtol, or smooth the coefficients in time")
        h = end - now if end - now < 1.01 * h else h
        allowed = left * min(1.0, h / (end - now))
        inner = _INNER * allowed
        whole = flow(p, now, h, inner)
        half = flow(flow(p, now, 0.5 * h, inner), now + 0.5 * h, 0.5 * h, inner)
        error = float(np.abs(whole - half).sum()) / 3.0 + 2.0 * inner
        factor = 0.85 * (allowed / error) ** (1 / 3)
        if error > allowed:
            h *= min(0.8, max(0.1, factor))
            continue
        later = end if now + h >= end else now + h
        while done < times.size and times[done] <= later:
            last = times[done] == later
            out[done] = half if last else flow(p, now, float(times[done]) - now, inner)
            # from the middle of a shorter piece: no worse than the whole step in one piece
            errors[done] = spent + (error if last else 4.0 * error)
            done += 1
        p, now, left, spent, steps = half, later, left - error, spent + error, steps + 1
        h *= min(3.0, max(0.3, factor))
    info = {
        "method": f"exponential midpoint, {' and '.join(sorted(flow.used)) or 'none'}", "steps": steps, "error": errors / total,
        "negative": max(float(-np.minimum(q, 0.0).sum()) for q in out) / total, "mass_drift": flow.mass_drift,
        "assemblies": flow.assemblies,
    }  # fmt: skip
    return out, info
