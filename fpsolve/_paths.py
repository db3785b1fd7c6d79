"""Ensemble runs: the fused kernel or the matrix kernel driven over chunks, and what they record, merged in trajectory order."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ._fused import Fused, linear_kernels
from ._kernels.rng import LANES, seed_blocks
from ._runner import Control, aligned

__all__ = ["FusedRun", "LinearRun", "LinearStep", "Plan", "Records", "moments_of"]

Array = NDArray[np.float64]

LANE_STEPS_PER_CALL = 1 << 24
#: Linear steps of more variables stay in their own basis: a Schur form costs 25 v^3 operations.
MAX_TRANSFORMED = 512


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
        self.lock = threading.Lock()

    def add_counts(self, counts: NDArray[np.int64]) -> None:
        assert self.counts is not None
        with self.lock:
            self.counts += counts


@dataclass
class FusedRun:
    """Trajectories of a nonlinear model (or a small linear one) through the fused kernels."""

    fused: Fused
    arguments: tuple[Array, ...]
    x0: Array
    dim: int
    seed: int
    plan: Plan
    records: Records

    def prepare(self, n: int) -> None:
        if self.plan.start is not None and not self.plan.shape:
            v = self.dim
            self.records.means = np.full((n, v), np.nan)
            self.records.squares = np.full((n, v * (v + 1) // 2), np.nan)

    def work(self, lo: int, hi: int, control: Control) -> None:
        layout, plan = self.fused.layout, self.plan
        n = hi - lo
        blocks = aligned(-(-n // LANES), layout.moments[3] * LANES)
        seed_blocks(blocks, self.seed, lo)
        rows = blocks.reshape(len(blocks), -1, LANES)  # (block, row, lane)
        state = rows[:, layout.state : layout.state + layout.variables]
        _scatter(state, self.x0 if len(self.x0) == 1 else self.x0[lo:hi])
        marks = {*plan.stops, plan.steps} | ({plan.start} if plan.start is not None else set())
        counts = np.zeros(plan.shape, np.int64)
        now = 0
        for mark in sorted(marks):
            now = self._advance(blocks, now, mark, n, counts, control)
            if now < mark:
                return
            if mark == plan.start:
                shift = layout.moments[0]
                rows[:, shift : shift + layout.variables] = np.where(np.isfinite(state), state, 0.0)
            if mark in plan.stops:
                assert self.records.states is not None
                self.records.states[plan.stops.index(mark), lo:hi] = _gather(state, n, self.dim)
        self.records.final[lo:hi] = _gather(state, n, self.dim)
        if plan.shape:
            self.records.add_counts(counts)
        elif plan.start is not None:
            self._store_moments(rows, lo, hi)
        self.records.finished[lo:hi] = True

    def _advance(self, blocks: Array, now: int, mark: int, n: int, counts: NDArray[np.int64], control: Control) -> int:
        """Advance to step `mark` in calls of some tenths of a second; returns the step reached."""
        plan, module = self.plan, self.fused.module
        stride = max(2, LANE_STEPS_PER_CALL // (len(blocks) * LANES))
        while now < mark and not control.stopped:
            until = min(mark, now + stride)
            if plan.start is None or now < plan.start:
                module.advance(blocks, now, until, *self.arguments)
            elif plan.shape:
                module.advance_histogram(
                    blocks, now, until, *self.arguments, plan.start, plan.every, n, counts, plan.low, plan.scale, plan.edges
                )
            else:
                module.advance_moments(blocks, now, until, *self.arguments, plan.start, plan.every)
            control.add(float(n) * (until - now))
            now = until
        return now

    def _store_moments(self, rows: Array, lo: int, hi: int) -> None:
        """Per trajectory: mean = shift + S/N and centred products P/N - S S/N^2; S is small, so nothing cancels."""
        assert self.records.means is not None and self.records.squares is not None
        shift, total, products, end = self.fused.layout.moments
        v, n, count = self.fused.layout.variables, hi - lo, self.plan.samples
        s = _gather(rows[:, total:products], n, v) / count
        pairs = [(i, j) for i in range(v) for j in range(i + 1)]
        square = _gather(rows[:, products:end], n, len(pairs)) / count
        square -= np.stack([s[:, i] * s[:, j] for i, j in pairs], axis=1)
        self.records.means[lo:hi] = (_gather(rows[:, shift:total], n, v) + s)[:, : self.dim]
        self.records.squares[lo:hi] = square[:, : self.dim * (self.dim + 1) // 2]


def _scatter(state: Array, points: Array) -> None:
    """Put points (1 or n, v) into lanes (nb, v, LANES); spare lanes repeat the last point."""
    nb, v, lanes = state.shape
    full = np.repeat(points[-1:], nb * lanes, axis=0)
    full[: len(points)] = points
    state[:] = full.reshape(nb, lanes, v).transpose(0, 2, 1)


def _gather(state: Array, n: int, dim: int) -> Array:
    """Lanes (nb, rows, LANES) as points (n, dim)."""
    return state[:, :dim].transpose(0, 2, 1).reshape(-1, dim)[:n]


@dataclass(frozen=True)
class LinearStep:
    """y' = M y + N z in an orthonormal basis, y = Q w, in which few entries are left: w' = T w + R z.

    A symmetric M becomes diagonal, any other M triangular (real Schur form); N becomes a triangular R with the same R R^T where
    that has fewer entries than Q^T N. So a step takes half or a quarter of the multiply-adds of the dense product, and the
    transformation is orthogonal: nothing is ill-conditioned.
    """

    matrix: Array  # (T | R), zero padded to multiples of four
    spans: NDArray[np.int64]  # for each four rows: first and last column of what is not zero in T, and in R
    basis: Array  # Q (v, v)
    noises: int

    @classmethod
    def of(cls, step: Array, noise: Array) -> LinearStep:
        (v, m), basis = noise.shape, np.eye(len(step))
        if v <= MAX_TRANSFORMED:
            step, noise, basis = _sparsest(step, noise)
        rows, columns = -(-v // 4) * 4, -(-m // 4) * 4
        matrix = np.zeros((rows, rows + columns))
        matrix[:v, :v], matrix[:v, rows : rows + m] = step, noise
        return cls(matrix, np.hstack([_spans(matrix[:, :rows]), rows + _spans(matrix[:, rows:])]), basis, m)


def _sparsest(step: Array, noise: Array) -> tuple[Array, Array, Array]:
    """(T, R, Q) of a step y' = M y + N z."""
    from scipy import linalg

    T, Q = step, np.eye(len(step))
    if np.array_equal(step, step.T):
        values, Q = np.linalg.eigh(step) if np.any(step - np.diag(np.diag(step))) else (np.diag(step), Q)
        T = np.diag(values)
    elif np.any(np.tril(step, -1)):
        T, Q = linalg.schur(step, output="real")
    R = Q.T @ noise
    triangular = linalg.rq(R, mode="economic")[0] if R.shape[1] <= len(R) else linalg.rq(R)[0]
    triangular[np.abs(triangular) < 1e-15 * np.abs(triangular).max()] = 0.0  # rounding, where R R^T is diagonal
    return (T, R, Q) if np.count_nonzero(R) <= np.count_nonzero(triangular) else (T, triangular, Q)


def _spans(matrix: Array) -> NDArray[np.int64]:
    """(rows/4, 2): first and last column, in multiples of four, of the nonzero entries of each four rows."""
    used = np.any(matrix.reshape(len(matrix) // 4, 4, -1, 4) != 0.0, axis=(1, 3))
    first, last = np.argmax(used, axis=1), used.shape[1] - np.argmax(used[:, ::-1], axis=1)
    return np.asarray(4 * np.stack([first, np.where(used.any(axis=1), last, first)], axis=1), np.int64)


@dataclass
class LinearRun:
    """Trajectories of y' = M y + N z, y = x - center, through the matrix kernel; blocks of 256 trajectories.

    Chunks are whole blocks, and second moments are kept per block: the order of every sum is fixed by the trajectory index.
    """

    step: LinearStep
    center: Array
    x0: Array
    dim: int
    seed: int
    plan: Plan
    records: Records

    def prepare(self, n: int) -> None:
        if self.plan.start is not None and not self.plan.shape:
            blocks = -(-n // LANES)
            self.records.means = np.full((n, self.dim), np.nan)
            self.records.squares = np.full((blocks, self.dim, self.dim), np.nan)

    def _read(self, state: Array, n: int) -> Array:
        """Positions x - center (n, d) of the lanes; the product has one shape whatever n is, hence one order of its sums."""
        return np.asarray(_gather(state, LANES, state.shape[1]) @ self.step.basis[: self.dim].T)[:n]

    def work(self, lo: int, hi: int, control: Control) -> None:
        for start in range(lo, hi, LANES):
            if control.stopped or not self._block(start, min(start + LANES, hi), control):
                return

    def _block(self, lo: int, hi: int, control: Control) -> bool:
        matrix, m, v = self.step.matrix, self.step.noises, len(self.step.basis)
        rows, columns = len(matrix), matrix.shape[1] - len(matrix)
        height = 2 * rows + max(columns, m * (1 + m % 2))
        w, panels = aligned(1, 6 * LANES), aligned(4, height * 64)
        seed_blocks(w, self.seed, lo)
        state = panels.reshape(4, height, 64)[:, :v]  # (panel, variable, lane)
        points = self.x0 if len(self.x0) == 1 else self.x0[lo:hi]
        _scatter(state, (points - self.center) @ self.step.basis)
        plan, advance = self.plan, linear_kernels().advance_linear
        stride = max(2, LANE_STEPS_PER_CALL // (rows * LANES))
        shift, total = np.zeros((hi - lo, self.dim)), np.zeros((hi - lo, self.dim))
        square = np.zeros((self.dim, self.dim))
        counts = np.zeros(plan.shape, np.int64)
        now = 0
        while True:
            if plan.start is not None and now > plan.start and (now - plan.start) % plan.every == 0:
                y = self._read(state, hi - lo)
                if plan.shape:
                    plan.count(y + self.center[: self.dim], counts)
                else:
                    u = y - shift
                    total += u
                    square += u.T @ u
            if now == plan.start and not plan.shape:
                shift = self._read(state, hi - lo)
            if now in plan.stops:
                assert self.records.states is not None
                self.records.states[plan.stops.index(now), lo:hi] = self._read(state, hi - lo) + self.center[: self.dim]
            if now == plan.steps:
                break
            if control.stopped:
                return False
            until = self._next(now, stride)
            advance(w[0], panels, now, until, matrix, m, self.step.spans)
            control.add(float(hi - lo) * (until - now))
            now = until
        self.records.final[lo:hi] = self._read(state, hi - lo) + self.center[: self.dim]
        if plan.shape:
            self.records.add_counts(counts)
        elif plan.start is not None:
            assert self.records.means is not None and self.records.squares is not None
            mean = total / plan.samples
            self.records.means[lo:hi] = self.center[: self.dim] + shift + mean
            self.records.squares[lo // LANES] = square / plan.samples - mean.T @ mean
        self.records.finished[lo:hi] = True
        return True

    def _next(self, now: int, stride: int) -> int:
        """The next step at which something is to be done."""
        plan = self.plan
        marks = [m for m in (*plan.stops, plan.steps, plan.start) if m is not None and m > now]
        if plan.start is not None and now >= plan.start:
            marks.append(now + plan.every - (now - plan.start) % plan.every)
        return min(*marks, now + stride)


def moments_of(points: Array) -> tuple[Array, Array]:
    """Mean and unbiased covariance of points (n, d); a single point has covariance zero."""
    mean = points.mean(axis=0)
    centred = points - mean
    return mean, centred.T @ centred / max(1, len(points) - 1)
