"""Runs in blocks of 256 trajectories: the matrix kernel of linear processes, and the wide kernels of all others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._fused import linear_kernels
from ._kernels.rng import LANES, seed_blocks
from ._linear import LinearSchedule, LinearStep
from ._paths import LANE_STEPS_PER_CALL, Plan, Records, gather, scatter
from ._runner import Control, aligned
from ._schedule import ScheduledConstants
from ._watch import Watcher, make_watcher
from ._wide import Wide

__all__ = ["LinearRun", "WideRun"]

Array = NDArray[np.float64]

#: Memory that the second moments of a run may take.
MAX_BYTES = 2 << 30


class BlockRun(ABC):
    """What blocks have in common: when to stop, what to record.

    Chunks are whole blocks, and second moments are kept per block: the order of every sum is fixed by the trajectory index.
    """

    x0: Array
    dim: int  # numbers of a state that are shown
    seed: int
    plan: Plan
    records: Records
    first: int  # number in the ensemble of the seed of the trajectory that is the first here

    @property
    @abstractmethod
    def height(self) -> int:
        """Rows of a panel."""

    @property
    @abstractmethod
    def variables(self) -> int:
        """Numbers of a state, which are the first rows of a panel."""

    @property
    def offset(self) -> Array:
        """States are read as differences from here."""
        return np.zeros(self.dim)

    def prepare(self, n: int) -> None:
        if self.plan.averaged:
            blocks = -(-n // LANES)
            if blocks * self.dim**2 * 8 > MAX_BYTES:
                raise ValueError(
                    f"averages over time of {self.dim} x {self.dim} second moments in {blocks} blocks of 256 trajectories would "
                    f"take {blocks * self.dim**2 * 8 / 1e9:.3g} GB (at most {MAX_BYTES / 1e9:.3g} GB): leave t_burn out, for the "
                    "moments of the ensemble at t, or take save='histogram' or 'autocorrelation' with axes="
                )
            self.records.means = np.full((n, self.dim), np.nan)
            self.records.squares = np.full((blocks, self.dim, self.dim), np.nan)

    def start(self, points: Array, lo: int) -> Array:
        """States (n, variables) as the panels hold them, of trajectories lo, lo + 1, ...; a common start is that of the first."""
        return points

    def read(self, state: Array, n: int, lo: int) -> Array:
        """States (n, dim) of the lanes, less the offset; the first lane holds trajectory lo."""
        return gather(state, LANES, self.dim)[:n]

    @abstractmethod
    def advance(self, unit: _Unit, until: int) -> int:
        """Advance to step `until` or less; returns the step reached."""

    def work(self, lo: int, hi: int, control: Control) -> None:
        for start in range(lo, hi, LANES):
            if control.stopped or not self._block(start, min(start + LANES, hi), control):
                return

    def _block(self, lo: int, hi: int, control: Control) -> bool:
        plan, records, n = self.plan, self.records, hi - lo
        unit = _Unit.of(self, lo, hi, control.resume(lo, hi))
        if unit.now == 0:
            self._look(unit, n)
        while unit.now < plan.steps:
            if control.stopped:
                control.keep(lo, hi, unit.saved)
                return False
            until = self.advance(unit, self._next(unit.now))
            control.add(float(n) * (until - unit.now))
            unit.now = until
            self._look(unit, n)
            control.keep(lo, hi, unit.saved)
        final = records.final[lo:hi] = self.read(unit.state, n, lo) + self.offset
        if unit.watcher is not None:
            unit.watcher.close(records.tables, lo, np.asarray(np.isfinite(final).all(axis=1)))
        elif plan.averaged:
            assert records.means is not None and records.squares is not None
            mean = unit.total / plan.samples
            records.means[lo:hi] = self.offset + unit.shift + mean
            records.squares[lo // LANES] = unit.square / plan.samples - mean.T @ mean
        records.close(lo, hi, unit.counts)
        control.drop(lo, hi)
        return True

    def _look(self, unit: _Unit, n: int) -> None:
        """Do what the plan asks for at this step."""
        plan, now, offset = self.plan, unit.now, self.offset
        with np.errstate(invalid="ignore", over="ignore"):  # lanes that became non-finite
            if plan.start is not None and now > plan.start and (now - plan.start) % plan.every == 0:
                y = self.read(unit.state, n, unit.lo)
                if plan.shape:
                    plan.count(y + offset, unit.counts)
                elif unit.watcher is not None:
                    unit.watcher.take((y + offset)[:, list(plan.axes)].T[None])
                else:
                    u = y - unit.shift
                    unit.total += u
                    unit.square += u.T @ u
        if now == plan.start and unit.watcher is not None:
            unit.watcher.begin((self.read(unit.state, n, unit.lo) + offset)[:, list(plan.axes)].T)
        elif now == plan.start and not plan.shape:
            unit.shift[...] = self.read(unit.state, n, unit.lo)
        if now in plan.stops:
            assert self.records.states is not None
            self.records.states[plan.stops.index(now), unit.lo : unit.hi] = self.read(unit.state, n, unit.lo) + offset

    def _next(self, now: int) -> int:
        """The next step at which something is to be done."""
        plan = self.plan
        marks = [m for m in (*plan.stops, plan.steps, plan.start) if m is not None and m > now]
        if plan.start is not None and now >= plan.start:
            marks.append(now + plan.every - (now - plan.start) % plan.every)
        return min(marks)


class _Unit:
    """A block under way."""

    def __init__(self, run: BlockRun, lo: int, hi: int) -> None:
        self.lo, self.hi, self.now, self.records = lo, hi, 0, run.records
        self.words, self.panels = aligned(1, 6 * LANES), aligned(4, run.height * 64)
        self.state = self.panels.reshape(4, run.height, 64)[:, : run.variables]  # (panel, variable, lane)
        averaged = run.plan.averaged
        self.shift, self.total = np.zeros((hi - lo, run.dim)), np.zeros((hi - lo, run.dim))
        self.square = np.zeros((run.dim if averaged else 0,) * 2)
        self.counts = np.zeros(run.plan.shape, np.int64)
        self.watcher: Watcher | None = make_watcher(run.plan, hi - lo) if run.plan.watched else None
        self.step: LinearStep | None = None
        self.change = -1

    @classmethod
    def of(cls, run: BlockRun, lo: int, hi: int, saved: dict[str, Any] | None) -> _Unit:
        unit = cls(run, lo, hi)
        if saved is None:
            seed_blocks(unit.words, run.seed, run.first + lo)
            scatter(unit.state, run.start(*((run.x0, -run.first) if len(run.x0) == 1 else (run.x0[lo:hi], lo))))
            return unit
        unit.now = int(saved["now"])
        unit.words.view(np.uint64)[...] = saved["words"]
        for name in ("panels", "shift", "total", "square", "counts"):
            getattr(unit, name)[...] = saved[name]
        if run.records.states is not None:
            run.records.states[:, lo:hi] = saved["states"]
        if unit.watcher is not None:
            unit.watcher.restore(saved["watcher"])
        return unit

    def saved(self) -> dict[str, Any]:
        """A copy of all that the rest of the run depends on."""
        tree: dict[str, Any] = {"now": self.now, "done": float(self.hi - self.lo) * self.now}
        tree["words"] = self.words.view(np.uint64).copy()
        tree |= {name: getattr(self, name).copy() for name in ("panels", "shift", "total", "square", "counts")}
        if self.records.states is not None:
            tree["states"] = self.records.states[:, self.lo : self.hi].copy()
        if self.watcher is not None:
            tree["watcher"] = self.watcher.state()
        return tree


@dataclass
class LinearRun(BlockRun):
    """Trajectories of y' = M y + N z, y = x - center, through the matrix kernel."""

    step: LinearStep
    center: Array
    x0: Array
    dim: int
    seed: int
    plan: Plan
    records: Records
    schedule: LinearSchedule | None = None
    first: int = 0

    @property
    def height(self) -> int:
        m, rows = self.step.noises, len(self.step.matrix)
        return int(2 * rows + max(self.step.matrix.shape[1] - rows, m * (1 + m % 2)))

    @property
    def variables(self) -> int:
        return len(self.step.basis)

    @property
    def offset(self) -> Array:
        return self.center[: self.dim]

    def start(self, points: Array, lo: int) -> Array:
        return self._product(points - self.center, self.step.basis, lo)

    def read(self, state: Array, n: int, lo: int) -> Array:
        return self._product(gather(state, LANES, state.shape[1])[:n], self.step.basis[: self.dim].T, lo)

    def _product(self, rows: Array, matrix: Array, lo: int) -> Array:
        """rows @ matrix, rows of trajectories lo, lo + 1, ...: a library may sum in an order that depends on the shape of the
        product and on the place in it, so both are those that the trajectory has in an ensemble of whole blocks."""
        place = (self.first + lo + np.arange(len(rows))) % LANES
        full = np.zeros((LANES, rows.shape[1]))
        full[place] = rows
        return np.asarray(full @ matrix)[place]

    def advance(self, unit: _Unit, until: int) -> int:
        until = min(until, unit.now + max(2, LANE_STEPS_PER_CALL // (len(self.step.matrix) * LANES)))
        step = unit.step or self.step
        if self.schedule is not None:
            if unit.now >= unit.change:
                step, same = self.schedule.at(unit.now)
                unit.step, unit.change = step, unit.now + same
            until = min(until, unit.change)
        linear_kernels().advance_linear(unit.words[0], unit.panels, unit.now, until, step.matrix, step.noises, step.spans)
        return until


@dataclass
class WideRun(BlockRun):
    """Trajectories of any model of many dimensions through its wide kernel."""

    wide: Wide
    constants: Array
    x0: Array
    dim: int
    seed: int
    plan: Plan
    records: Records
    schedule: ScheduledConstants | None = None
    first: int = 0

    @property
    def height(self) -> int:
        return self.wide.layout.height

    @property
    def variables(self) -> int:
        return self.wide.layout.variables

    def advance(self, unit: _Unit, until: int) -> int:
        until, constants = min(until, unit.now + stride(self.wide)), self.constants
        if self.schedule is not None:
            constants = self.schedule.rows(unit.now)
            until = min(until, unit.now + len(constants))
        self.wide.module.advance(unit.words[0], unit.panels, unit.now, until, constants, *self.wide.arguments)
        return until


def stride(wide: Wide) -> int:
    """Steps of a kernel call of some tenths of a second, so that Ctrl-C and progress are prompt."""
    work = sum(a.size for a in wide.arguments) + 64 * wide.layout.variables
    return int(max(2, (LANE_STEPS_PER_CALL << 4) // (work * LANES)))
