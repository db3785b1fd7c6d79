"""Branches of paths for splitting: what they leave behind, and how processes and chains make them."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ._branches import BACK, FULL, KEEP, PLACES, UP
from ._checks import check_memory
from ._code import Code
from ._kernels.langevin import ACTIVE, BASE, CENSORED, DEADLINE, DONE, ESCAPED, FAILED, FREE, LIMIT, SEED, STEP, STOP, UNFINISHED
from ._kernels.rng import LANES
from ._runner import Control, aligned
from ._sgd import Group, stream_entropy
from ._step_text import Fused
from .chains import SGDChain
from .process import Process
from .region import Region

__all__ = ["Branching", "ChainBranches", "Ended", "EulerBranches", "FusedBranches", "Records"]

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
        # paths alive are above the level, those in `slots` are not: no parent is written
        pairs = zip(parents.tolist(), self.counts[parents].tolist(), strict=True)
        at = np.array([self.heights[parent, :count].searchsorted(level, side="right") for parent, count in pairs], np.int64)
        self.heights[slots, 0] = self.heights[parents, at]
        self.states[slots, 0] = self.states[parents, at]
        self.ages[slots, 0] = self.ages[parents, at]
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

    @property
    def code(self) -> Code: ...

    @property
    def params(self) -> Mapping[str, float]: ...

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


class _ChainGroup:
    """SGD in NumPy; a state holds the weights, with momentum the velocity too."""

    crossed: NDArray[np.bool_] | None = None

    def __init__(self, chain: SGDChain, states: Array, seed: int, base: int) -> None:
        self.group, self.momentum = Group(chain, states[:, : chain.dim], seed, base), chain.momentum
        if chain.momentum:
            self.group.state["v"] = np.array(states[:, chain.dim :], float)

    @property
    def states(self) -> Array:
        return np.hstack([self.group.theta, self.group.state["v"]]) if self.momentum else self.group.theta

    def advance(self) -> None:
        self.group.advance(1)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        self.group.keep(mask)


class _EulerGroup:
    """Euler steps of a process in NumPy, each path with a generator of its own; with `normal` the bridge to one smooth surface."""

    def __init__(self, owner: EulerBranches, states: Array, base: int) -> None:
        self.owner, self.states = owner, np.array(states, float)
        self.crossed: NDArray[np.bool_] | None = None
        self.rngs = [np.random.default_rng(stream_entropy(owner.seed, base + i)) for i in range(len(states))]
        self.normals, self.uniforms, self.used = np.zeros((len(states), 0, 0)), np.zeros((len(states), 0)), 0

    def advance(self) -> None:
        process, h = self.owner.process, self.owner.h
        if self.used == self.normals.shape[1]:
            m = process.noise_dim
            count = max(1, min(64, (1 << 16) // m))
            self.normals = np.array([rng.standard_normal((count, m)) for rng in self.rngs])
            self.uniforms = np.array([rng.random(count) for rng in self.rngs])
            self.used = 0
        x, z = self.states, self.normals[:, self.used]
        with np.errstate(over="ignore", invalid="ignore"):
            self.states = x + h * process.drift(x) + np.sqrt(h) * process.kick(x, z)
            self.crossed = self.owner.meets(x, self.states, self.uniforms[:, self.used])
        self.used += 1

    def keep(self, mask: NDArray[np.bool_]) -> None:
        self.states, self.normals, self.uniforms = self.states[mask], self.normals[mask], self.uniforms[mask]
        self.rngs = [rng for rng, kept in zip(self.rngs, mask, strict=True) if kept]


@dataclass(frozen=True)
class _GroupBranches(ABC):
    """Branches advanced together in NumPy."""

    region: Region
    code: Code
    params: Mapping[str, float]
    seed: int

    def level(self, states: Array) -> Array:
        return np.asarray(self.code.evaluate(states[..., : self.code.dim], self.params)[..., 0])

    def g(self, x: Array) -> Array:
        return np.asarray(self.region.code.evaluate(x, self.region.params)[..., 0])

    @abstractmethod
    def _begin(self, starts: Array, base: int) -> _ChainGroup | _EulerGroup:
        """Branches from these states, the first of which has the number `base`."""

    def _judge(self, group: _ChainGroup | _EulerGroup, peaks: Array, bottom: float, keep: bool) -> tuple[NDArray[np.int8], Array]:
        """Status and level of the states; UNFINISHED goes on."""
        states = group.states
        good = np.isfinite(states).all(axis=1)
        heights = np.full(len(states), np.nan)
        heights[good] = self.level(states[good])
        outside = np.zeros(len(states), bool)
        outside[good] = ~(self.g(states[good][:, : self.region.dim]) < 0.0)
        if group.crossed is not None:
            outside |= group.crossed & good
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
        count, keep, k = len(starts), records is not None, 0
        status, steps, ends = np.zeros(count, np.int8), np.zeros(count, np.int64), np.array(starts, float)
        group = self._begin(starts, base)
        index, peaks = np.arange(count), np.array(peaks, float)
        slots = np.zeros(count, np.int64) if slots is None else slots
        before = np.zeros(count, np.int64) if records is None else records.last_ages[slots]
        while len(index):
            if control.stopped:
                return None
            group.advance()
            k += 1
            found, heights = self._judge(group, peaks, bottom, keep)
            states = group.states
            if records is not None:
                up = (heights > peaks) & (found != BACK)
                records.add(slots[index[up]], heights[up], states[up], before[index[up]] + k)
                peaks[up] = heights[up]
            if k == limit:
                found[found == UNFINISHED] = CENSORED
            done = found != UNFINISHED
            if done.any():
                status[index[done]], steps[index[done]], ends[index[done]] = found[done], k, states[done]
                group.keep(~done)
                index, peaks = index[~done], peaks[~done]
            control.reach(k)
        return Ended(status, steps, ends)


@dataclass(frozen=True)
class ChainBranches(_GroupBranches):
    """Branches of SGD on sample losses, or in many dimensions."""

    chain: SGDChain

    @property
    def variables(self) -> int:
        return self.chain.dim * (2 if self.chain.momentum else 1)

    def _begin(self, starts: Array, base: int) -> _ChainGroup:
        return _ChainGroup(self.chain, starts, self.seed, base)


@dataclass(frozen=True)
class EulerBranches(_GroupBranches):
    """Branches of a process in many dimensions; `normal` gives grad g where the surface is smooth and the bridge is wanted."""

    process: Process
    h: float
    normal: Callable[[Array], Array] | None

    @property
    def variables(self) -> int:
        return self.process.dim

    @functools.cached_property
    def _factor(self) -> Array:
        """B where it is constant."""
        return self.process.factor(np.zeros(self.process.dim))

    def _begin(self, starts: Array, base: int) -> _EulerGroup:
        return _EulerGroup(self, starts, base)

    def meets(self, x: Array, y: Array, u: Array) -> NDArray[np.bool_] | None:
        """Whether the Brownian bridge from x to y meets the surface: probability exp(-2 g0 g1/s^2) with s^2 = h |B^T n|^2."""
        if self.normal is None:
            return None
        n = self.normal(x)
        across = n @ self._factor if self.process.noise.is_constant else np.einsum("ni,nik->nk", n, self.process.factor(x))
        variance = self.h * np.einsum("nk,nk->n", across, across)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(u < np.exp(-2.0 * self.g(x) * self.g(y) / variance))
