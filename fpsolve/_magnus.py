"""Evolution with coefficients that depend on time: p(t + h) = p(t) exp(h G(t + h/2)), of second order, with error control.

The exponential midpoint rule is Magnus' expansion cut after its first term (W. Magnus, Comm. Pure Appl. Math. 7, 649 (1954); A.
Iserles et al., Acta Numer. 9, 215 (2000)): a product of transition matrices, so mass is conserved, and nothing is lost at stiff
modes. A step is taken whole and in halves; a third of the difference is what the halves miss. These defects are carried along, as
signed vectors, by the same flow (the solution by whole steps is followed beside that by halves, R. D. Skeel, Numer. Math. 48, 1
(1986)): later steps damp them, and those of opposite sign cancel, as they do in the solution itself. Added up as numbers they would
overstate the error, the more the longer a system that forgets is followed.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
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
#: By what the estimate exceeds the carried defects: with 1.3 one of 42 errors was 7 % above it, at few steps per unit of change.
_SURE = 1.6
#: Pieces of the time in which jumps of the coefficients are looked for.
_PIECES = 2048


class _Flow:
    """exp of frozen generators; the last few generators are kept, as a rejected step needs them again."""

    def __init__(self, coefficients: Coefficients, method: str | None, shape: tuple[int, ...], total: float) -> None:
        self.coefficients, self.method, self.shape, self.total = coefficients, method, shape, total
        self.kept: OrderedDict[float, tuple[sp.csr_matrix, Array]] = OrderedDict()
        self.assemblies, self.mass_drift, self.error = 0, 0.0, 0.0
        self.used: set[str] = set()

    def frozen(self, t: float) -> tuple[sp.csr_matrix, Array]:
        if t not in self.kept:
            self.assemblies += 1
            self.kept[t] = self.coefficients(t)
            if len(self.kept) > 6:
                self.kept.popitem(last=False)
        return self.kept[t]

    def __call__(self, p: Array, t: float, h: float, tolerance: float) -> Array:
        """Masses after h, coefficients taken in the middle; the error of the exponential is added to `error`."""
        rates, kill = self.frozen(t + 0.5 * h)
        rtol = min(0.5, max(tolerance / self.total, 1e-11))
        masses, info = _transient.propagate(rates, kill, p, np.array([h]), rtol, self.method, self.shape)
        self.error += float(info["error"][0]) * self.total
        self.used.add(str(info["method"]))
        self.mass_drift = max(self.mass_drift, float(info["mass_drift"]))
        return np.asarray(masses[0])


class _Budget:
    """What the solution misses, as a vector that the flow carries along, and what the next step may miss."""

    def __init__(self, target: float, n: int) -> None:
        self.target, self.missing, self.inner, self.decay = target, np.zeros(n), 0.0, 0.0

    @property
    def estimate(self) -> float:
        """Of the L1 error; a part more than the vector has, whose own error is of the next order in the step."""
        return _SURE * float(np.abs(self.missing).sum()) + self.inner

    def allowed(self, h: float, left: float) -> float:
        """For a step of length h: its share of what is left, by time, or as much as decays meanwhile."""
        share = max(min(1.0, h / left), -math.expm1(-self.decay * h))
        return max(self.target - self.estimate, 1e-3 * self.target) * share / _SURE

    def accept(self, h: float, carried: Array, defect: Array, inner: float) -> None:
        size, was = float(np.abs(carried).sum()), float(np.abs(self.missing).sum())
        kept = min(1.0, size / was) if was > 0.0 else 1.0
        self.decay = -math.log(max(kept, 1e-3)) / h
        self.missing, self.inner = carried + defect, kept * self.inner + inner


def find_jumps(values: Callable[[float], Mapping[str, float]], end: float) -> list[float]:
    """Times in (0, end) at which one of the values jumps: a change that stays in ever smaller pieces of the time.

    Two thousand pieces are looked at, so that a pulse shorter than that may be missed.

    Examples
    --------
    >>> find_jumps(lambda t: {"a": float(t > 0.5), "b": t}, 1.0)
    [0.5]
    """

    def at(t: float) -> Array:
        return np.array(list(values(t).values()))

    def split(a: float, b: float, low: Array, high: Array, depth: int) -> list[float]:
        """The jumps between a and b: halves are followed as long as a change stays more than half of what it was."""
        change = np.abs(high - low)
        if not np.any(change > 1e-9 * scale):
            return []
        middle = 0.5 * (a + b)
        if depth == 0 or not a < middle < b:
            return [b]
        value = at(middle)
        out = []
        for x, y, left, right in ((a, middle, low, value), (middle, b, value, high)):
            if np.any((np.abs(right - left) > 0.75 * change) & (change > 1e-9 * scale)):
                out += split(x, y, left, right, depth - 1)
        return out

    grid = np.linspace(0.0, end, _PIECES + 1)
    table = [at(t) for t in grid.tolist()]
    scale = np.abs(np.array(table)).max(axis=0)
    found = [split(a, b, low, high, 44) for a, b, low, high in zip(grid, grid[1:], table, table[1:], strict=False)]
    return sorted({float(t) for some in found for t in some if t < end})


def evolve_driven(
    coefficients: Coefficients, mass0: Array, times: Array, *, rtol: float, method: str | None, shape: tuple[int, ...],
    values: Callable[[float], Mapping[str, float]] | None = None,
) -> tuple[Array, dict[str, Any]]:  # fmt: skip
    """Masses (nt, n) at increasing times >= 0, and what `_transient.evolve` tells, with ``assemblies``.

    Parameters
    ----------
    coefficients : callable
        Time to off-diagonal rates and killing rates.
    mass0, times, rtol, method, shape
        As in `_transient.evolve`; `method` is that of the exponentials.
    values : callable, optional
        Time to numbers that the coefficients follow: where one of them jumps a step ends.

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
    ends = [*(find_jumps(values, end) if values is not None and end > 0.0 else []), end]
    budget = _Budget(rtol * total, mass0.size)
    steps, tried = 0, 0
    out, errors = np.empty((times.size, mass0.size)), np.zeros(times.size)
    p, now, h, done = mass0, 0.0, end / 4, int(np.searchsorted(times, 0.0, side="right"))
    out[:done] = mass0
    while done < times.size:
        tried += 1
        if tried > _MOST:
            raise FpsolveError(f"no end in {_MOST} steps (t = {now:g} of {end:g}): raise rtol, or smooth the coefficients in time")
        piece = ends[0] - now
        uncut, h = h, piece if piece < 1.01 * h else h
        allowed = budget.allowed(h, end - now)
        inner = _INNER * allowed
        whole = flow(p, now, h, inner)
        flow.error = 0.0
        half = flow(flow(p, now, 0.5 * h, inner), now + 0.5 * h, 0.5 * h, inner)
        defect = (half - whole) / 3.0
        exponentials = flow.error
        error = float(np.abs(defect).sum()) + exponentials
        factor = 0.85 * (allowed / error) ** (1 / 3)
        if error > allowed:
            h *= min(0.8, max(0.1, factor))
            continue
        later = ends[0] if now + h >= ends[0] else now + h
        before = budget.estimate
        coarse = flow(p - 3.0 * budget.missing, now, h, inner) if steps else whole
        budget.accept(h, (whole - coarse) / 3.0, defect, exponentials)
        while done < times.size and times[done] <= later:
            last = times[done] == later
            out[done] = half if last else flow(p, now, float(times[done]) - now, inner)
            # a shorter piece is taken whole: four times the defect of the step at its end, with the cube of the length before
            errors[done] = budget.estimate if last else max(before, budget.estimate) + 4.0 * error * ((times[done] - now) / h) ** 2
            done += 1
        p, now, steps = half, later, steps + 1
        if later == ends[0]:  # the next piece may be longer than the last step of this one
            ends, h = ends[1:], max(h, uncut)
        h *= min(3.0, max(0.3, factor))
    info = {
        "method": f"exponential midpoint, {' and '.join(sorted(flow.used)) or 'none'}", "steps": steps, "error": errors / total,
        "negative": max(float(-np.minimum(q, 0.0).sum()) for q in out) / total, "mass_drift": flow.mass_drift,
        "assemblies": flow.assemblies,
    }  # fmt: skip
    return out, info
