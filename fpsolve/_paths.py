"""Ensemble runs: the fused kernel or the matrix kernel driven over chunks, and what they record, merged in trajectory order."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernels.rng import LANES, seed_blocks
from ._kernels.rng32 import seed_blocks32
from ._runner import Control, aligned
from ._schedule import ScheduledConstants
from ._step_text import Fused
from ._watch import SAMPLES, Tables, Watcher, make_tables, make_watcher
from .region import Region

__all__ = ["FusedRun", "Plan", "Records", "gather", "moments_of", "scatter"]

Array = NDArray[np.float64]

LANE_STEPS_PER_CALL = 1 << 24
#: Samples that are summed in single precision before the sums go into double precision; a fixed window, so that bits stay the same.
WINDOW = 64


@dataclass(frozen=True)
class Plan:
    """What to do when, in steps: states are recorded at `stops`, statistics from `start` on every `every` steps up to `steps`."""

    steps: int
    stops: tuple[int, ...] = ()
    start: int | None = None
    every: int = 1
    axes: tuple[int, ...] = ()
    low: Array = field(default_factory=lambda: np.zeros(0))
    scale: Array = field(default_factory=lambda: np.zeros(0))
    shape: tuple[int, ...] = ()
    wraps: tuple[bool, ...] = ()  # periodic axes of the histogram
    graded: tuple[bool, ...] = ()  # axes of the histogram whose cells differ in width
    edges: Array = field(default_factory=lambda: np.zeros((0, 0)))  # per axis, in mean cell widths from the low wall
    lags: tuple[int, ...] = ()  # of the autocorrelation of the components `axes`, in samples
    regions: tuple[Region, ...] = ()  # of the occupation
    group: int = 1  # trajectories per group of the autocorrelation: units of work are whole groups

    @property
    def watched(self) -> bool:
        """Whether a watcher sees the samples."""
        return bool(self.lags or self.regions)

    @property
    def averaged(self) -> bool:
        """Whether moments are averaged over time."""
        return self.start is not None and not self.shape and not self.watched

    @property
    def samples(self) -> int:
        """Number of times per trajectory that enter the statistics."""
        return 0 if self.start is None else (self.steps - self.start) // self.every

    def count(self, points: Array, counts: NDArray[np.int64]) -> None:
        """Add points (n, d) to the counts of their cells; points outside are not counted, periodic axes wrap."""
        cell = (points[:, list(self.axes)] - self.low) * self.scale
        for axis, n in enumerate(self.shape):
            if self.wraps[axis]:
                cell[:, axis] -= n * np.floor(cell[:, axis] / n)
                cell[cell[:, axis] == n, axis] = 0.0  # a rounded tiny negative number
        inside = np.all((cell >= 0.0) & (cell < np.array(self.shape)), axis=1)
        for axis in (a for a, bent in enumerate(self.graded) if bent):
            cell[:, axis] = np.searchsorted(self.edges[axis, 1 : self.shape[axis]], cell[:, axis], side="right")
        np.add.at(counts, tuple(cell[inside].astype(np.int64).T), 1)


class Records:
    """Results by trajectory; each chunk writes its own rows."""

    def __init__(self, n: int, dim: int, plan: Plan) -> None:
        self.final = np.full((n, dim), np.nan)
        self.finished = np.zeros(n, bool)
        self.states = np.full((len(plan.stops), n, dim), np.nan) if plan.stops else None
        self.counts = np.zeros(plan.shape, np.int64) if plan.shape else None
        self.means: Array | None = None  # time averages, one row per trajectory
        self.squares: Array | None = None  # mean centred products, lower triangle row by row; or their sum over each block
        self.tables: Tables = make_tables(plan, n) if plan.watched else {}
        self.lock = threading.Lock()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that a checkpoint keeps of the trajectories that are finished; the arrays themselves, not copies."""
        named = {name: getattr(self, name) for name in ("final", "finished", "states", "counts", "means", "squares")}
        return {**{name: a for name, a in named.items() if a is not None}, **self.tables}

    def close(self, lo: int, hi: int, counts: NDArray[np.int64]) -> None:
        """Trajectories lo ... hi - 1 are finished, and these are their counts."""
        with self.lock:  # a checkpoint sees both or neither
            if self.counts is not None:
                self.counts += counts
            self.finished[lo:hi] = True


@dataclass
class FusedRun:
    """Trajectories of a nonlinear model (or a small linear one) through the fused kernels."""

    fused: Fused
    arguments: tuple[NDArray[Any], ...]
    x0: Array
    dim: int
    seed: int
    plan: Plan
    records: Records
    schedule: ScheduledConstants | None = None
    first: int = 0  # number in the ensemble of the seed of the trajectory that is the first here

    def prepare(self, n: int) -> None:
        if self.plan.averaged:
            v = self.dim
            self.records.means = np.full((n, v), np.nan)
            self.records.squares = np.full((n, v * (v + 1) // 2), np.nan)

    def work(self, lo: int, hi: int, control: Control) -> None:
        """Run trajectories lo ... hi - 1, from where a checkpoint left them if there is one."""
        plan, records = self.plan, self.records
        unit = _Unit.of(self, lo, hi, control.resume(lo, hi))
        now = unit.now
        marks = {*plan.stops, plan.steps} | ({plan.start} if plan.start is not None else set())
        for mark in sorted(m for m in marks if m >= now):
            now = self._advance(unit, mark, control)
            if now < mark:
                return
            if mark == plan.start:
                unit.begin()
            if mark in plan.stops:
                assert records.states is not None
                records.states[plan.stops.index(mark), lo:hi] = gather(unit.state, hi - lo, self.dim)
        final = records.final[lo:hi] = gather(unit.state, hi - lo, self.dim)
        if unit.watcher is not None:
            unit.watcher.close(records.tables, lo, np.asarray(np.isfinite(final).all(axis=1)))
        elif plan.averaged:
            self._store_moments(unit, lo, hi)
        records.close(lo, hi, unit.counts)
        control.drop(lo, hi)

    def _advance(self, unit: _Unit, mark: int, control: Control) -> int:
        """Advance to step `mark` in calls of some tenths of a second; returns the step reached."""
        plan, module, blocks, n = self.plan, self.fused.module, unit.blocks, unit.hi - unit.lo
        stride = max(2, LANE_STEPS_PER_CALL // (len(blocks) * LANES))
        while unit.now < mark and not control.stopped:
            now, until, arguments = unit.now, min(mark, unit.now + stride), self.arguments
            if self.schedule is not None:
                rows = self.schedule.rows(now)
                until, arguments = min(until, now + len(rows)), (rows, *self.arguments[1:])
            if plan.start is None or now < plan.start:
                module.advance(blocks, now, until, *arguments)
            elif plan.shape:
                module.advance_histogram(
                    blocks, now, until, *arguments, plan.start, plan.every, n, unit.counts, plan.low, plan.scale, plan.edges
                )
            elif unit.watcher is not None:
                done = (now - plan.start) // plan.every
                until = min(until, plan.start + (done + SAMPLES) * plan.every)
                out = unit.buffer
                module.advance_record(blocks, now, until, *arguments, plan.start, plan.every, unit.components, out)
                unit.watcher.take(out[: (until - plan.start) // plan.every - done])
            else:
                window = WINDOW * plan.every
                border = plan.start + ((now - plan.start) // window + 1) * window
                until = min(until, border) if unit.single else until
                module.advance_moments(blocks, now, until, *arguments, plan.start, plan.every)
                if unit.single and until == border:
                    unit.flush()
            control.add(float(n) * (until - now))
            unit.now = until
            control.keep(unit.lo, unit.hi, unit.saved)
        control.keep(unit.lo, unit.hi, unit.saved)
        return unit.now

    def _store_moments(self, unit: _Unit, lo: int, hi: int) -> None:
        """Per trajectory: mean = shift + S/N and centred products P/N - S S/N^2; S is small, so nothing cancels."""
        assert self.records.means is not None and self.records.squares is not None
        shift, total, _, end = self.fused.layout.moments
        v, n, count = self.fused.layout.variables, hi - lo, self.plan.samples
        if unit.single:
            unit.flush()
        sums = unit.sums if unit.single else unit.rows[:, total:end]
        s = gather(sums[:, :v], n, v) / count
        pairs = [(i, j) for i in range(v) for j in range(i + 1)]
        square = gather(sums[:, v:], n, len(pairs)) / count
        square -= np.stack([s[:, i] * s[:, j] for i, j in pairs], axis=1)
        self.records.means[lo:hi] = (gather(unit.rows[:, shift:total], n, v) + s)[:, : self.dim]
        self.records.squares[lo:hi] = square[:, : self.dim * (self.dim + 1) // 2]


class _Unit:
    """Trajectories lo ... hi - 1 under way: their blocks, which hold generators, states and sums, and what else is kept of them."""

    def __init__(self, run: FusedRun, lo: int, hi: int) -> None:
        layout, self.plan, self.records = run.fused.layout, run.plan, run.records
        self.lo, self.hi, self.now, self.layout, self.arithmetic = lo, hi, 0, layout, run.fused.arithmetic
        self.single = self.arithmetic == "single"
        self.blocks = aligned(-(-(hi - lo) // LANES), layout.moments[3] * LANES, np.float32 if self.single else np.float64)
        self.bits = self.blocks.view(np.uint32 if self.single else np.uint64)
        self.rows = self.blocks.reshape(len(self.blocks), -1, LANES)  # (block, row, lane)
        self.state = self.rows[:, layout.state : layout.state + layout.variables]
        self.counts = np.zeros(self.plan.shape, np.int64)
        self.components = np.array(self.plan.axes, np.int64)
        lanes = len(self.blocks) * LANES
        _, total, _, end = layout.moments
        self.sums = np.zeros((len(self.blocks), end - total if self.single and run.plan.averaged else 0, LANES))
        self.watcher: Watcher | None = make_watcher(self.plan, lanes) if self.plan.watched else None
        self.buffer = np.empty((SAMPLES, len(self.plan.axes), lanes)) if self.plan.watched else np.empty((0, 0, 0))

    @classmethod
    def of(cls, run: FusedRun, lo: int, hi: int, saved: dict[str, Any] | None) -> _Unit:
        unit = cls(run, lo, hi)
        if saved is None:
            unit.seed(run.seed, run.first + lo)
            scatter(unit.state, run.x0 if len(run.x0) == 1 else run.x0[lo:hi])
            return unit
        unit.now = int(saved["now"])
        unit.bits[...] = saved["blocks"]
        unit.counts[...] = saved["counts"]
        if unit.single:
            unit.sums[...] = saved["sums"]
        if run.records.states is not None:
            run.records.states[:, lo:hi] = saved["states"]
        if unit.watcher is not None:
            unit.watcher.restore(saved["watcher"])
        return unit

    def seed(self, seed: int, first: int) -> None:
        """Give every lane the stream of its trajectory, `first` and those after it."""
        if self.arithmetic == "double":
            seed_blocks(self.blocks, seed, first)
            return
        words = self.blocks if self.single else np.zeros(self.blocks.shape, np.float32)
        seed_blocks32(words, seed, first)
        if not self.single:  # the words of single precision, each in the lower half of 64 bits
            self.bits[:, : 4 * LANES] = words[:, : 4 * LANES].view(np.uint32)

    def flush(self) -> None:
        """The sums of a window in single precision go into double precision."""
        _, total, _, end = self.layout.moments
        with np.errstate(invalid="ignore", over="ignore"):  # lanes that became non-finite
            self.sums += self.rows[:, total:end]
        self.rows[:, total:end] = 0.0

    def saved(self) -> dict[str, Any]:
        """A copy of all that the rest of the run depends on; generator words are bits, not numbers."""
        tree: dict[str, Any] = {"now": self.now, "done": float(self.hi - self.lo) * self.now}
        tree |= {"blocks": self.bits.copy(), "counts": self.counts.copy()}
        if self.single:
            tree["sums"] = self.sums.copy()
        if self.records.states is not None:
            tree["states"] = self.records.states[:, self.lo : self.hi].copy()
        if self.watcher is not None:
            tree["watcher"] = self.watcher.state()
        return tree

    def begin(self) -> None:
        """The averages begin here."""
        if self.watcher is not None:
            self.watcher.begin(self.state[:, self.components].transpose(1, 0, 2).reshape(len(self.components), -1))
        else:
            shift = self.layout.moments[0]
            self.rows[:, shift : shift + self.layout.variables] = np.where(np.isfinite(self.state), self.state, 0.0)


def scatter(state: Array, points: Array) -> None:
    """Put points (1 or n, v) into lanes (nb, v, LANES); spare lanes repeat the last point."""
    nb, v, lanes = state.shape
    full = np.repeat(points[-1:], nb * lanes, axis=0)
    full[: len(points)] = points
    state[:] = full.reshape(nb, lanes, v).transpose(0, 2, 1)


def gather(state: Array, n: int, dim: int) -> Array:
    """Lanes (nb, rows, LANES) as points (n, dim)."""
    return state[:, :dim].transpose(0, 2, 1).reshape(-1, dim)[:n]


def moments_of(points: Array) -> tuple[Array, Array]:
    """Mean and unbiased covariance of points (n, d); a single point has covariance zero."""
    mean = points.mean(axis=0)
    centred = points - mean
    return mean, centred.T @ centred / max(1, len(points) - 1)
