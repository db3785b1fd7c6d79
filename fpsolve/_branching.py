"""Branches of paths for splitting: what they leave behind, and how processes and chains make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ._branches import (
    ACTIVE,
    BACK,
    BASE,
    DEADLINE,
    DONE,
    FREE,
    FULL,
    KEEP,
    LIMIT,
    PLACES,
    SEED,
    STEP,
    STOP,
    UP,
)
from ._checks import check_memory
from ._code import Code
from ._fused import CENSORED, ESCAPED, FAILED, UNFINISHED, Fused
from ._kernels.rng import LANES
from ._runner import Control, aligned
from ._sgd import Group
from .chains import SGDChain
from .grid import Region

__all__ = ["Branching", "ChainBranches", "Ended", "FusedBranches", "Records"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Kernel calls aim at this many steps of all lanes, so that Ctrl-C is prompt.
STEPS_PER_CALL = 1 << 17
#: Records a path may leave before its arrays grow.
FIRST_RECORDS = 64
#: No limit on the steps of a branch.
ENDLESS = 1 << 61


class Records:
    """For each of n paths the moments at which its coordinate was higher than ever: level, state, and steps since the start.

    The last level is the highest the path has reached, inf if it has left the region.
    """

    def __init__(self, n: int, variables: int) -> None:
        self.heights = np.empty((n, FIRST_RECORDS))
        self.states = np.empty((n, FIRST_RECORDS, variables))
        self.ages = np.empty((n, FIRST_RECORDS), np.int64)
        self.counts = np.zeros(n, np.int64)

    def grow(self) -> None:
        """Twice the room."""
        n, cap, v = self.states.shape
        check_memory(2 * n * cap * (v + 2), f"the records of {n} paths", "use fewer paths n, or a longer step")
        for name in ("heights", "states", "ages"):
            old = getattr(self, name)
            new = np.empty((n, 2 * cap, *old.shape[2:]), old.dtype)
            new[:, :cap] = old
            setattr(self, name, new)

    def begin(self, slots: Ints, heights: Array, states: Array, ages: Ints) -> None:
        """Paths in `slots` start anew with one record each."""
        self.heights[slots, 0], self.states[slots, 0], self.ages[slots, 0] = heights, states, ages
        self.counts[slots] = 1

    def add(self, slots: Ints, heights: Array, states: Array, ages: Ints) -> None:
        """One more record for each of the paths in `slots`, which differ."""
        if len(slots) and int(self.counts[slots].max()) >= self.heights.shape[1]:
            self.grow()
        at = self.counts[slots]
        self.heights[slots, at], self.states[slots, at], self.ages[slots, at] = heights, states, ages
        self.counts[slots] = at + 1

    @property
    def peaks(self) -> Array:
        """The highest level of every path."""
        return np.asarray(self.heights[np.arange(len(self.counts)), self.counts - 1])

    @property
    def last_ages(self) -> Ints:
        """Steps up to the last record."""
        return np.asarray(self.ages[np.arange(len(self.counts)), self.counts - 1])

    def copy_beyond(self, slots: Ints, parents: Ints, level: float) -> None:
        """Path slots[i] becomes that of parents[i] up to where it first exceeded `level`; that moment is its first record."""
        for slot, parent in zip(slots.tolist(), parents.tolist(), strict=True):
            at = int(np.searchsorted(self.heights[parent, : self.counts[parent]], level, side="right"))
            self.heights[slot, 0] = self.heights[parent, at]
            self.states[slot, 0] = self.states[parent, at]
            self.ages[slot, 0] = self.ages[parent, at]
        self.counts[slots] = 1


@dataclass(frozen=True)
class Ended:
    """How branches ended: status, steps made, last state."""

    status: NDArray[np.int8]
    steps: Ints
    ends: Array


class Branching(Protocol):
    """What splitting asks of a process: branches (K, variables) with random streams base, base + 1, ..."""

    @property
    def variables(self) -> int: ...

    def level(self, states: Array) -> Array: ...

    def run(
        self, starts: Array, base: int, control: Control, *, peaks: Array, bottom: float = ..., limit: int | None = None,
        records: Records | None = None, slots: Ints | None = None,
    ) -> Ended | None: ...  # fmt: skip


@dataclass(frozen=True)
class FusedBranches:
    """Branches of a process or a Gaussian chain in the generated kernel; None from `run` if it was stopped."""

    fused: Fused
    arguments: tuple[Array, ...]
    code: Code
    params: Mapping[str, float]
    variables: int
    seed: int

    def level(self, states: Array) -> Array:
        return np.asarray(self.code.evaluate(states[..., : self.code.dim], self.params)[..., 0])

    def run(
        self, starts: Array, base: int, control: Control, *, peaks: Array, bottom: float = -np.inf, limit: int | None = None,
        records: Records | None = None, slots: Ints | None = None,
    ) -> Ended | None:  # fmt: skip
        count = len(starts)
        kept = Records(1, self.variables) if records is None or slots is None else records
        slots = np.zeros(count, np.int64) if slots is None else slots
        before = kept.last_ages[slots] if records is not None else np.zeros(count, np.int64)
        task, birth, freed = np.full(LANES, -1), np.zeros(LANES, np.int64), np.arange(LANES)[::-1].copy()
        meta = np.zeros(PLACES, np.int64)
        meta[[STOP, FREE, SEED, BASE]] = count, LANES, self.seed, base
        meta[[LIMIT, DEADLINE, KEEP]] = ENDLESS if limit is None else limit, 1 << 62, records is not None
        block = aligned(1, self.fused.layout.rows * LANES)[0]  # type: ignore[attr-defined]
        status, steps, ends = np.zeros(count, np.int8), np.zeros(count, np.int64), np.empty((count, self.variables))
        starts, peaks = np.ascontiguousarray(starts), np.ascontiguousarray(peaks)
        while meta[DONE] < count:
            if control.stopped:
                return None
            self.fused.module.branches(
                block, task, birth, freed, meta, starts, peaks, slots, before, status, steps, ends,
                kept.heights, kept.states, kept.ages, kept.counts, float(bottom), int(meta[STEP]) + STEPS_PER_CALL, *self.arguments,
            )  # fmt: skip
            if meta[FULL]:
                kept.grow()
                meta[FULL] = 0
            if meta[ACTIVE]:
                control.reach(int(meta[STEP]))
        return Ended(status, steps, ends)


@dataclass(frozen=True)
class ChainBranches:
    """Branches of SGD on sample losses, advanced together in NumPy; a state holds the weights, with momentum the velocity too."""

    chain: SGDChain
    region: Region
    code: Code
    params: Mapping[str, float]
    seed: int

    @property
    def variables(self) -> int:
        return self.chain.dim * (2 if self.chain.momentum else 1)

    def level(self, states: Array) -> Array:
        return np.asarray(self.code.evaluate(states[..., : self.code.dim], self.params)[..., 0])

    def _state(self, group: Group) -> Array:
        return np.hstack([group.theta, group.state["v"]]) if self.chain.momentum else group.theta

    def _judge(self, states: Array, peaks: Array, bottom: float, keep: bool) -> tuple[NDArray[np.int8], Array]:
        """Status and level of states; UNFINISHED goes on."""
        x = states[:, : self.region.dim]
        good = np.isfinite(states).all(axis=1)
        heights = np.full(len(states), np.nan)
        heights[good] = self.level(states[good])
        outside = np.zeros(len(states), bool)
        outside[good] = ~(self.region.code.evaluate(x[good], self.region.params)[..., 0] < 0.0)
        heights[outside] = np.inf
        status = np.full(len(states), UNFINISHED, np.int8)
        if not keep:
            status[heights > peaks] = UP
        status[heights <= bottom] = BACK
        status[np.isnan(heights)] = FAILED
        status[outside] = ESCAPED
        return status, heights

    def run(
        self, starts: Array, base: int, control: Control, *, peaks: Array, bottom: float = -np.inf, limit: int | None = None,
        records: Records | None = None, slots: Ints | None = None,
    ) -> Ended | None:  # fmt: skip
        count, d, keep = len(starts), self.chain.dim, records is not None
        status, steps, ends = np.zeros(count, np.int8), np.zeros(count, np.int64), np.array(starts, float)
        group = Group(self.chain, starts[:, :d], self.seed, base)
        if self.chain.momentum:
            group.state["v"] = np.array(starts[:, d:], float)
        index, peaks = np.arange(count), np.array(peaks, float)
        slots = np.zeros(count, np.int64) if slots is None else slots
        before = np.zeros(count, np.int64) if records is None else records.last_ages[slots]
        while len(index):
            if control.stopped:
                return None
            group.advance(1)
            states = self._state(group)
            found, heights = self._judge(states, peaks, bottom, keep)
            if records is not None:
                up = (heights > peaks) & (found != BACK)
                records.add(slots[index[up]], heights[up], states[up], before[index[up]] + group.k)
                peaks[up] = heights[up]
            if group.k == limit:
                found[found == UNFINISHED] = CENSORED
            done = found != UNFINISHED
            if done.any():
                status[index[done]], steps[index[done]], ends[index[done]] = found[done], group.k, states[done]
                group.keep(~done)
                index, peaks = index[~done], peaks[~done]
            control.reach(group.k)
        return Ended(status, steps, ends)
