"""Adaptive multilevel splitting of one population of paths: from x0 to the probability of leaving in a loop.

`n` paths are followed from x0 until they have settled; from then on each makes loops: out of A = {coordinate <= a} until the
coordinate exceeds s, and back to A. The last loops are the first population of splitting. Again and again the paths whose highest
level is lowest are replaced by copies of others, which are followed anew from where these first exceeded that level, until nearly
all leave the region. The product of the surviving fractions is an unbiased estimate of the probability of leaving in a loop.

Paths are Markov chains here, with their step dt or iteration, and levels are compared with > and <=: all paths at or below the
level are replaced, however many share it, and copies start at the first state strictly above it. That is what makes the product
unbiased for a chain (Brehier, Gazeau, Goudenege, Lelievre, Rousset 2016), for any coordinate and any n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._branches import BACK
from ._branching import Branching, Ended, Records
from ._kernels.langevin import ESCAPED, FAILED
from ._runner import Control
from .errors import FpsolveError

__all__ = ["Loops", "Run", "Settled", "pilot", "split"]

Array = NDArray[np.float64]

#: Paths of the pilot, and the largest distance of distribution functions at which they have settled: between times t and 4 t the
#: law N(0, t) of free diffusion moves by 0.16, and sampling error alone exceeds 0.1 in 7e-5 of the cases.
PILOT, SETTLED = 1024, 0.1
#: Steps of a path at the first look, and at the last.
FIRST_LOOK, LAST_LOOK = 16, 1 << 24
#: Shares of settled paths below the two levels that define A and the departure from it.
INNER = (0.5, 0.9)
#: Loops of each path before those that count, and loops that count.
WARM, LOOPS = 2, 8
#: Streams of one run; the pilot's come after those of all runs.
STREAMS, MAX_RUNS = 1 << 40, 1 << 20
#: Distinguishes the choices of a run from other uses of its seed.
CHOICES = 0x5B117


@dataclass(frozen=True)
class Settled:
    """Steps in which paths from x0 settle, and their states then."""

    steps: int
    states: Array


@dataclass(frozen=True)
class Loops:
    """How runs are made: start, steps to settle, levels of A and departure, paths, and how many of them are replaced at once."""

    start: Array
    settle: int
    inner: tuple[float, float]
    n: int
    kill: int
    seed: int


@dataclass(frozen=True)
class Run:
    """What one run found."""

    log_probability: float
    loop_steps: float
    exit_steps: float
    halves: tuple[float, float]
    work: int


class Stopped(Exception):
    """Ctrl-C, on the way out of a run."""


class _Streams:
    """Runs branches with fresh streams, and counts their steps."""

    def __init__(self, branching: Branching, first: int, control: Control) -> None:
        self.branching, self.next, self.control, self.work = branching, first, control, 0

    def run(self, starts: Array, **how: Any) -> Ended:
        ended = self.branching.run(starts, self.next, self.control, **how)
        if ended is None:
            raise Stopped
        self.next += len(starts)
        self.work += int(ended.steps.sum())
        failed = int(np.sum(ended.status == FAILED))
        if failed:
            raise FpsolveError(
                f"{failed} of {len(starts)} paths became non-finite (or the coordinate NaN) on the way: shorten dt, lower the "
                "learning rate, or use a coordinate that is a number everywhere"
            )
        return ended


def _replace_gone(states: Array, gone: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """Paths that have left go on as copies of others that have not."""
    if gone.all():
        raise ValueError(
            "all paths leave the region while they settle: leaving is not rare here, and there is nothing to split; "
            "use fpsolve.escape_times"
        )
    states = states.copy()
    states[gone] = states[rng.choice(np.flatnonzero(~gone), int(gone.sum()))]
    return states


def _distance(a: Array, b: Array) -> float:
    """Largest distance of the distribution functions of two samples."""
    both = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(np.sort(v), both, side="right") / v.size for v in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def pilot(branching: Branching, start: Array, seed: int, control: Control) -> Settled | None:
    """Follow paths from x0 until their law no longer changes between t and 4 t steps; None if it was stopped.

    Raises
    ------
    ValueError
        If more than half of them leave meanwhile: nothing is rare.
    FpsolveError
        If they do not settle.
    """
    streams = _Streams(branching, MAX_RUNS * STREAMS, control)
    rng = np.random.default_rng([seed, CHOICES])
    states, done, look, last = np.repeat(start, PILOT, axis=0), 0, FIRST_LOOK, None
    endless = np.full(PILOT, np.inf)
    while look <= LAST_LOOK:
        try:
            ended = streams.run(states, peaks=endless, limit=look - done)
        except Stopped:
            return None
        gone = ended.status == ESCAPED
        if gone.mean() > 0.5:
            raise ValueError(
                f"{gone.mean():.0%} of the paths from x0 have left the region after {look} steps, before they settled: leaving is "
                "not rare here, and there is nothing to split; use fpsolve.escape_times"
            )
        states = _replace_gone(ended.ends, gone, rng)
        seen = np.column_stack([branching.level(states), states])
        if last is not None and max(_distance(a, b) for a, b in zip(last.T, seen.T, strict=True)) <= SETTLED:
            return Settled(look, states)
        last, done, look = seen, look, 4 * look
    raise FpsolveError(
        f"paths from x0 = {start[0].tolist()} have not settled after {done} steps: x0 lies in no basin of its own, or the step is "
        "very short for the process; start in a minimum, or lengthen dt"
    )


def split(branching: Branching, how: Loops, run: int, control: Control) -> Run | None:
    """One run of splitting; None if it was stopped."""
    streams = _Streams(branching, run * STREAMS, control)
    rng = np.random.default_rng([how.seed, CHOICES, run + 1])
    try:
        records, loops, halves = _loops(streams, how, rng)
        log_p = _levels(streams, records, how, rng)
    except Stopped:
        return None
    out = np.isposinf(records.peaks)
    exit_steps = float(records.last_ages[out].mean()) if out.any() else math.nan
    return Run(log_p, loops, exit_steps, halves, streams.work)


def _loops(streams: _Streams, how: Loops, rng: np.random.Generator) -> tuple[Records, float, tuple[float, float]]:
    """Loops of n settled paths: records of the last ones, the mean steps of those that return, and that of both halves."""
    n, (a, s) = how.n, how.inner
    everyone = np.arange(n)
    ended = streams.run(np.repeat(how.start, n, axis=0), peaks=np.full(n, np.inf), limit=how.settle)
    states = _replace_gone(ended.ends, ended.status == ESCAPED, rng)
    records = Records(n, states.shape[1])
    sums, counts = np.zeros(LOOPS), np.zeros(LOOPS)
    for turn in range(WARM + LOOPS):
        up = streams.run(states, peaks=np.full(n, s))
        gone = up.status == ESCAPED
        heights = np.where(gone, np.inf, streams.branching.level(up.ends))
        records.begin(everyone, heights, up.ends, up.steps)
        away = np.flatnonzero(~gone)
        back, steps = np.zeros(n, bool), up.steps.copy()
        if len(away):
            ended = streams.run(up.ends[away], peaks=heights[away], bottom=a, records=records, slots=away)
            back[away] = ended.status == BACK
            steps[away] += ended.steps
            states[away] = ended.ends
        if turn >= WARM:
            sums[turn - WARM], counts[turn - WARM] = float(steps[back].sum()), float(back.sum())
        if turn < WARM + LOOPS - 1:
            states = _replace_gone(states, ~back, rng)
    half = LOOPS // 2
    with np.errstate(invalid="ignore"):
        parts = (float(sums[:half].sum() / counts[:half].sum()), float(sums[half:].sum() / counts[half:].sum()))
    return records, float(sums.sum() / counts.sum()), parts


def _levels(streams: _Streams, records: Records, how: Loops, rng: np.random.Generator) -> float:
    """Logarithm of the estimated probability; at the end at most kill - 1 paths have not left."""
    n, log_weight = how.n, 0.0
    while True:
        peaks = records.peaks
        level = float(np.partition(peaks, how.kill - 1)[how.kill - 1])
        if math.isinf(level):
            return log_weight + math.log(float(np.isposinf(peaks).mean()))
        dead = np.flatnonzero(peaks <= level)
        alive = np.flatnonzero(peaks > level)
        if not len(alive):
            return -math.inf
        log_weight += math.log(len(alive) / n)
        records.copy_beyond(dead, rng.choice(alive, len(dead)), level)
        go = dead[np.isfinite(records.heights[dead, 0])]  # the others left in the step that brought them above the level
        if len(go):
            streams.run(
                records.states[go, 0].copy(), peaks=records.heights[go, 0].copy(), bottom=how.inner[0], records=records, slots=go
            )
