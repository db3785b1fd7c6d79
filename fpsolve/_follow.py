"""Evolution with coefficients that depend on time: one-step methods of second order, with error control, chosen by what they cost.

The exponential midpoint rule (`_magnus`) takes long steps where the coefficients change slowly, whatever the masses do; TR-BDF2
(`_trbdf2`) costs less a step, and its steps are as long where the masses change slowly too. Both tell what a step misses, so that
after a step of each their costs per time are known. The cheaper one goes on, and the other is tried again now and then.

What is missed is carried along, as a signed vector, by the same flow (R. D. Skeel, Numer. Math. 48, 1 (1986)): later steps damp it,
and parts of opposite sign cancel, as they do in the solution itself. Added up as numbers they would overstate the error, the more
the longer a system that forgets is followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._frozen import Coefficients, Frozen, Step, find_jumps
from ._magnus import Midpoint
from ._transient import METHODS
from ._trbdf2 import TrBdf2, negative
from .errors import FpsolveError

__all__ = ["DRIVEN_METHODS", "evolve_driven"]

Array = NDArray[np.float64]

#: What `evolve` takes for coefficients that depend on time: None chooses between the last two, the others name the exponentials of
#: the exponential midpoint rule.
DRIVEN_METHODS = (*METHODS, "magnus", "tr-bdf2")
#: Steps, taken or tried, after which it is given up.
_MOST = 20000
#: By what the estimate exceeds the carried defects: with 1.3 one of 42 errors was 7 % above it, at few steps per unit of change.
_SURE = 1.6
#: A method is tried where one step of it costs less than this part of what is left to do.
_TRIAL = 0.2
#: What rounding adds with each step, of the masses: all that is missed where they hardly change.
_ROUNDING = 4.0 * np.finfo(float).eps
#: Steps after which the other method is tried again at first, and at most.
_AGAIN, _SELDOM = 8, 64


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

    def accept(self, h: float, carried: Array, step: Step) -> None:
        size, was = float(np.abs(carried).sum()), float(np.abs(self.missing).sum())
        kept = min(1.0, size / was) if was > 0.0 else 1.0
        self.decay = -math.log(max(kept, 1e-3)) / h
        self.missing, self.inner = carried + step.defect, kept * self.inner + step.inner


@dataclass
class _Way:
    """A method, the length its next step should have, what its last step cost, and what it costs to ask between."""

    method: Midpoint | TrBdf2
    length: float
    cost: float = math.nan
    dear: float = 0.0

    def rate(self, asked: float) -> float:
        """Cost per time, with so many times asked for per time."""
        return self.cost / self.length + asked * self.dear


class _Choice:
    """Which method takes the next step, by cost per time."""

    def __init__(self, methods: list[Midpoint | TrBdf2], length: float) -> None:
        self.ways = [_Way(method, length) for method in methods]
        self.now = self.ways[0]
        self._patience, self._since = _AGAIN, 0

    def pick(self, t: float, left: float, asked: float) -> _Way:
        """The way for a step at t; `left` is the time to the next jump, `asked` the number of times asked for per time."""
        if len(self.ways) == 1 or math.isnan(self.now.cost):
            return self.now
        other = self.ways[1] if self.now is self.ways[0] else self.ways[0]
        if not math.isnan(other.cost) and other.rate(asked) < 0.9 * self.now.rate(asked):
            self.now, self._patience, self._since = other, _AGAIN, 0
            return self.now
        self._since += 1
        if math.isnan(other.cost) or self._since >= self._patience:
            price = other.method.before(t) if math.isnan(other.cost) else other.cost
            if price < _TRIAL * self.now.rate(asked) * left:
                if not math.isnan(other.cost):
                    self._patience = min(_SELDOM, 2 * self._patience)
                self._since, other.length = 0, self.now.length
                return other
        return self.now

    def learn(self, way: _Way, step: Step, length: float) -> None:
        way.cost, way.dear, way.length = step.cost, step.dear, length


def evolve_driven(
    coefficients: Coefficients, mass0: Array, times: Array, *, rtol: float, method: str | None, shape: tuple[int, ...],
    values: Callable[[float], Mapping[str, float]] | None = None, assembly: float = 1e-3,
) -> tuple[Array, dict[str, Any]]:  # fmt: skip
    """Masses (nt, n) at increasing times >= 0, and what `_transient.evolve` tells, with ``assemblies``.

    Parameters
    ----------
    coefficients : callable
        Time to off-diagonal rates and killing rates.
    mass0, times, rtol, shape
        As in `_transient.evolve`.
    method : str, optional
        One of `DRIVEN_METHODS`.
    values : callable, optional
        Time to numbers that the coefficients follow: where one of them jumps a step ends.
    assembly : float
        Cost of the coefficients at one time, in the seconds of `_costs`.

    Raises
    ------
    FpsolveError
        If the tolerance is not reached in 20000 steps, as with coefficients that jump everywhere.

    Notes
    -----
    A time inside a step costs TR-BDF2 a polynomial, the exponential midpoint rule one more assembly and exponential.
    """
    total, end = float(mass0.sum()), float(times[-1])
    jumps = find_jumps(values, end) if values is not None and end > 0.0 else []
    frozen = Frozen(coefficients, jumps, end)
    methods: list[Midpoint | TrBdf2] = []
    if method != "tr-bdf2":
        methods.append(Midpoint(frozen, None if method == "magnus" else method, shape, total, assembly))
    if method in (None, "tr-bdf2"):
        methods.append(TrBdf2(frozen, shape, total, assembly))
    run = _Run(frozen, _Choice(methods, end / 4), _Budget(rtol * total, mass0.size), mass0, times, [*jumps, end])
    while run.done < times.size:
        run.advance()
    info = {
        "method": " and ".join(m.name for m in run.used), "steps": run.steps, "error": run.errors / total,
        "negative": max(map(negative, run.out)) / total, "mass_drift": max(m.mass_drift for m in methods),
        "assemblies": frozen.assemblies,
    }  # fmt: skip
    return run.out, info


class _Run:
    """Masses so far, and how to go on."""

    def __init__(self, frozen: Frozen, choice: _Choice, budget: _Budget, p: Array, times: Array, ends: list[float]) -> None:
        self.frozen, self.choice, self.budget, self.p, self.times, self.ends = frozen, choice, budget, p, times, ends
        self.now, self.steps, self.tried, self.end = 0.0, 0, 0, ends[-1]
        self.out, self.errors = np.empty((times.size, p.size)), np.zeros(times.size)
        self.done = int(np.searchsorted(times, 0.0, side="right"))
        self.out[: self.done] = p
        self.used: dict[Midpoint | TrBdf2, None] = {}

    def advance(self) -> None:
        """Try one step, and go on where it keeps its tolerance."""
        self.tried += 1
        if self.tried > _MOST:
            raise FpsolveError(
                f"no end in {_MOST} steps (t = {self.now:g} of {self.end:g}): raise rtol, or smooth the coefficients in time"
            )
        piece = self.ends[0] - self.now
        way = self.choice.pick(self.now, piece, (self.times.size - self.done) / max(self.end - self.now, 1e-300))
        h = piece if piece < 1.01 * way.length else way.length
        allowed = self.budget.allowed(h, self.end - self.now)
        later = self.ends[0] if self.now + h >= self.ends[0] else self.now + h
        step = way.method.step(self.p, self.now, later, allowed)
        factor = 0.85 * (allowed / max(step.error, 1e-300)) ** (1 / 3)
        if step.error > allowed:
            self.choice.learn(way, step, h * min(0.8, max(0.1, factor)))
            return
        before, missed = self.budget.estimate, self.budget.missing
        self.budget.accept(h, step.carried(missed) if self.steps else missed, step)
        self._answer(step, later, before, missed)
        self.p, self.now, self.steps = step.masses, later, self.steps + 1
        self.used[way.method] = None
        if later == self.ends[0]:  # the next piece may be longer than the last step of this one
            self.ends, h = self.ends[1:], max(h, way.length)
            for each in self.choice.ways:
                each.method.leave()
        self.choice.learn(way, step, h * min(3.0, max(0.3, factor)))

    def _answer(self, step: Step, later: float, before: float, missed: Array) -> None:
        """Masses and errors at the times that the step has reached."""
        while self.done < self.times.size and self.times[self.done] <= later:
            t, error = float(self.times[self.done]), self.budget.estimate
            masses, more = step.masses, 0.0
            if t < later:
                masses, more = step.between(t, missed, self.budget.missing)
                error = max(before, error) + more
            rounding = _ROUNDING * (self.steps + 1) * float(np.abs(masses).sum())
            # exact masses are nonnegative and of the same sum
            self.out[self.done], self.errors[self.done] = masses, max(error, 2.0 * negative(masses)) + rounding
            self.done += 1
