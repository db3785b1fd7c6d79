"""A run of an escape report: what was found, what was left out, and the time that may be spent."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ._conclusion import EQUATION, EXPONENT, KERNEL, KRAMERS, inverse
from ._escape_case import Case
from ._runner import time_limit
from .errors import FpsolveError
from .results import Assumption, Estimate, Path

__all__ = ["Part", "Run", "seconds_of", "within"]

#: Points at which drift and tensor are evaluated for an answer, by dimension: counted on a line, elsewhere a rough guess.
POINTS = {
    EXPONENT: {1: 1.2e4, 2: 2e5, 3: 4e5},
    KRAMERS: {1: 2e4, 2: 5e3, 3: 5e3},
    EQUATION: {1: 2e4, 2: 5e4, 3: 1e5},
    KERNEL: {1: 3e3, 2: 1e4},
}


class Run:
    """The question, how much may be spent on it, what was found so far, what was left out, what the methods warned of."""

    def __init__(self, case: Case, quick: bool, seed: int, threads: int, seconds: float, begun: float) -> None:
        self.case, self.quick, self.seed, self.threads = case, quick, seed, threads
        self.seconds, self.end = seconds, begun + seconds
        self.path: Path | None = None
        self.closed: dict[tuple[float, ...], Assumption] = {}
        self.estimates: dict[str, Estimate] = {}
        self.skipped: dict[str, str] = {}
        self.unaffordable: list[str] = []
        self.notes: list[str] = []
        self.interrupted = False

    @property
    def left(self) -> float:
        """Seconds that may still be spent."""
        return self.end - time.monotonic()

    def add(self, name: str, part: Part) -> None:
        """Run a part; what cannot be run is listed with the reason.

        Ctrl-C ends the report, not the part alone: what was found is kept. It is passed on where nothing was found yet.
        """
        if self.interrupted:
            self._not_run(name, "Ctrl-C came before it")
            return
        if self.left <= 0.0:
            self._not_run(name, f"the {self.seconds:g} seconds were spent before it")
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self.estimates |= part(self)
            except TooLong as error:
                self._not_run(name, str(error))
            except KeyboardInterrupt:
                if not self.estimates:
                    raise
                self.interrupted = True
                self._not_run(name, "Ctrl-C ended it")
            except (ValueError, FpsolveError) as error:
                self.skipped[name] = str(error)
        self.notes += [f"{name}: {w.message}" for w in caught]

    def _not_run(self, name: str, reason: str) -> None:
        self.skipped[name] = reason
        self.unaffordable.append(name)

    def afford(self, name: str) -> None:
        """Refuse a part whose evaluations of drift and tensor would take longer than what is left: those of many samples."""
        if math.isinf(self.seconds):
            return
        x = self.case.a + np.linspace(0.0, 1.0, 16)[:, None] * (self.case.s - self.case.a)
        start = time.monotonic()
        for _ in range(2):  # the first one may compile
            start = time.monotonic()
            self.case.process.drift(x), self.case.process.diffusion(x)
        each = max((time.monotonic() - start) / 16.0 - 2e-5, 1e-9)  # what single calls cost is shared by many points
        expected = each * POINTS[name].get(min(self.case.process.dim, 3), 0.0)
        if expected > self.left:
            raise TooLong(f"it would take about {expected:.0f} s, more than the {max(self.left, 0.0):.1f} s that are left")

    def time(self, e: Estimate) -> Estimate:
        """A mean time, or one over a rate, in the unit of the report."""
        if e.unit.startswith("1/"):
            e = inverse(e)
        if self.case.lr is None or e.unit == "iteration":
            return e
        return e.per_iteration(None if e.lr is not None else self.case.lr)


class TooLong(Exception):
    """More than what is left of the time."""


Part = Callable[[Run], dict[str, Estimate]]


def within(run: Run, seconds: float, ask: Callable[[], Any]) -> Any:
    """What comes of sampling for so long; told apart from other failures if that was too short."""
    end = time.monotonic() + seconds
    try:
        with time_limit(seconds) as limit:
            return ask()
    except (ValueError, FpsolveError) as error:
        if limit.interrupted:
            raise TooLong(f"Ctrl-C ended it: {error}") from error
        if time.monotonic() < end:
            raise
        raise TooLong(f"the {seconds:.1f} s of the {run.seconds:g} that were left for it were too short: {error}") from error
    finally:
        run.interrupted |= limit.interrupted


def seconds_of(value: float | None) -> float:
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"escape_report: seconds must be a number or None, got {type(value).__name__}: {value!r}")
    if not value > 0.0:
        raise ValueError(f"escape_report: seconds must be > 0 (None for no limit), got {value!r}")
    return float(value)
