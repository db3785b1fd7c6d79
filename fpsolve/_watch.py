"""Watchers: statistics in time of many trajectories, taken from their samples as they come, without keeping the paths.

A watcher sees the lanes of one unit of work: `begin` gives it their states at the start of the watch, `take` the samples that
follow in their order, and `close` puts what it found into tables by trajectory or by group of trajectories. What it finds
for a lane depends on that lane only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._kernels.observe import correlate, pass_regions
from .results import Autocorrelation, Occupation

if TYPE_CHECKING:
    from ._paths import Plan

__all__ = [
    "SAMPLES",
    "Watcher",
    "autocorrelation",
    "group_size",
    "lane_bytes",
    "make_tables",
    "make_watcher",
    "occupation",
    "watched_lanes",
]

Array = NDArray[np.float64]
Tables = dict[str, NDArray[Any]]

#: Samples handed over at once, at most.
SAMPLES = 64


def group_size(n: int) -> int:
    """Trajectories per group, whose means give the errors: a power of two that makes at most 128 groups, but not above 256."""
    size = 1
    while size < 256 and -(-n // size) > 128:
        size *= 2
    return size


def lane_bytes(plan: Plan) -> int:
    """Memory that a watcher takes per lane."""
    d = len(plan.axes)
    return 8 * (SAMPLES * d + (plan.lags[-1] * d + len(plan.lags) * d * (d + 1) if plan.lags else 0))


def watched_lanes(plan: Plan) -> int:
    """Lanes of a unit of work whose watcher takes at most 64 MB or has one block."""
    return int(max(256, min(4096, (64 << 20) // lane_bytes(plan) // 256 * 256)))


def make_tables(plan: Plan, n: int) -> Tables:
    """Empty tables of the whole ensemble."""
    if plan.regions:
        m = len(plan.regions)
        shapes = {"inside": (n, m), "exits": (n, m), "after": (n, m), "switches": (n, m, m)}
        return {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
    d, K, G = len(plan.axes), len(plan.lags), -(-n // plan.group)
    shapes = {"weight": (G,), "center": (G, d), "early": (G, K, d), "products": (G, K, d, d)}
    return {name: np.zeros(shape) for name, shape in shapes.items()}


class Watcher(Protocol):
    """What the runs ask of a watcher; samples have shape (components, lanes)."""

    def begin(self, points: Array) -> None: ...

    def take(self, samples: Array) -> None: ...

    def state(self) -> Tables: ...

    def restore(self, state: Tables) -> None: ...

    def close(self, tables: Tables, lo: int, good: NDArray[np.bool_]) -> None: ...


def make_watcher(plan: Plan, lanes: int) -> Watcher:
    return _RegionWatcher(plan, lanes) if plan.regions else _Correlator(plan, lanes)


class _Correlator:
    """Sums of products of a lane's samples at the lags of the plan, about its state at the beginning."""

    def __init__(self, plan: Plan, lanes: int) -> None:
        d, K = len(plan.axes), len(plan.lags)
        self.plan, self.lags, padded = plan, np.array(plan.lags, np.int64), -(-lanes // 64) * 64
        self.lanes, self.seen = lanes, 0
        self.ring = np.zeros((plan.lags[-1] + SAMPLES, d, padded))
        self.shift, self.late = np.zeros((d, padded)), np.zeros((d, padded))
        self.early, self.sums = np.zeros((K, d, padded)), np.zeros((K, d, d, padded))

    def begin(self, points: Array) -> None:
        self.shift[:, : self.lanes] = np.where(np.isfinite(points), points, 0.0)

    def take(self, samples: Array) -> None:
        first, last = self.seen, self.seen + len(samples)
        rows = np.arange(first, last) % len(self.ring)
        with np.errstate(invalid="ignore"):
            self.ring[rows, :, : self.lanes] = samples - self.shift[:, : self.lanes]
        correlate(self.ring, first, last, self.lags, self.sums, self.late, self.early)
        self.seen = last

    def state(self) -> Tables:
        names = ("ring", "shift", "late", "early", "sums")
        return {"seen": np.array(self.seen), **{name: getattr(self, name).copy() for name in names}}

    def restore(self, state: Tables) -> None:
        self.seen = int(state["seen"])
        for name in ("ring", "shift", "late", "early", "sums"):
            getattr(self, name)[...] = state[name]

    def close(self, tables: Tables, lo: int, good: NDArray[np.bool_]) -> None:
        """Means over each group of trajectories, about the mean of the group."""
        size, pairs = self.plan.group, self.plan.samples - self.plan.lags[-1]
        for start in range(0, self.lanes, size):
            lanes = start + np.flatnonzero(good[start : min(start + size, self.lanes)])
            row = (lo + start) // size
            if not lanes.size:
                continue
            late, early = self.late[:, lanes] / pairs, self.early[:, :, lanes] / pairs
            center = (self.shift[:, lanes] + late).mean(axis=1)
            move = self.shift[:, lanes] - center[:, None]  # x(t) - center = u(t) + move
            products = self.sums[:, :, :, lanes] / pairs + late[:, None] * move
            products += move[:, None] * early[:, None] + move[:, None] * move
            tables["weight"][row], tables["center"][row] = lanes.size, center
            tables["early"][row], tables["products"][row] = (early + move).mean(axis=-1), products.mean(axis=-1)


class _RegionWatcher:
    """Labels of the samples, and what changes from one to the next."""

    def __init__(self, plan: Plan, lanes: int) -> None:
        m = len(plan.regions)
        self.plan = plan
        self.here, self.last = np.full(lanes, -1, np.int64), np.full(lanes, -1, np.int64)
        self.inside, self.exits, self.after = (np.zeros((m, lanes), np.int64) for _ in range(3))
        self.switches = np.zeros((m, m, lanes), np.int64)

    def _labels(self, samples: Array) -> NDArray[np.int64]:
        """The first region that holds a point, -1 for none; samples (T, d, lanes)."""
        points, labels = np.moveaxis(samples, 1, 2), np.full((len(samples), samples.shape[2]), -1, np.int64)
        for i in range(len(self.plan.regions) - 1, -1, -1):
            region = self.plan.regions[i]
            with np.errstate(all="ignore"):
                labels[region.code.evaluate(points[..., : region.dim], region.params)[..., 0] < 0.0] = i
        return labels

    def begin(self, points: Array) -> None:
        self.here = self._labels(points[None])[0]
        self.last = self.here.copy()

    def take(self, samples: Array) -> None:
        pass_regions(self._labels(samples), self.here, self.last, self.inside, self.exits, self.after, self.switches)

    def state(self) -> Tables:
        return {name: getattr(self, name).copy() for name in ("here", "last", "inside", "exits", "after", "switches")}

    def restore(self, state: Tables) -> None:
        for name, value in state.items():
            getattr(self, name)[...] = value

    def close(self, tables: Tables, lo: int, good: NDArray[np.bool_]) -> None:
        rows = slice(lo, lo + len(good))
        for name in tables:
            tables[name][rows] = np.moveaxis(getattr(self, name)[..., : len(good)], -1, 0)


# ---- results --------------------------------------------------------------------------------------------------------


def autocorrelation(tables: Tables, plan: Plan, clock: float, labels: dict[str, Any]) -> Autocorrelation:
    """Means over all groups, and over all but one of them for errors and against the bias of the estimated mean."""
    used = tables["weight"] > 0
    weight, center = tables["weight"][used], tables["center"][used]
    mean = np.sum(weight[:, None] * center, axis=0) / weight.sum()
    move = center - mean
    early = tables["early"][used] + move[:, None]
    products = tables["products"][used] + move[:, None, None, :] * move[:, None, :, None]
    products += move[:, None, :, None] * tables["early"][used][:, :, None, :]  # about the group's mean, x(t + s) averages to 0

    # sums in the order of the groups: a product of BLAS may depend on its threads
    sums = [np.sum(weight.reshape(-1, *[1] * (part.ndim - 1)) * part, axis=0) for part in (products, move, early)]

    def combine(i: int | None) -> Array:
        """C from all groups, or from all but number i."""
        w = 0.0 if i is None else weight[i]
        P, late, before = (
            (total - (0.0 if i is None else w * part[i])) / (weight.sum() - w)
            for total, part in zip(sums, (products, move, early), strict=True)
        )
        return np.asarray(P - late[None, :, None] * before[:, None, :])

    whole, g = combine(None), len(weight)
    values, stderr = whole, np.full_like(whole, np.nan)
    left_out = np.empty((g if g > 1 else 0, *whole.shape[:2]))
    if g > 1:
        total, square = np.zeros_like(whole), np.zeros_like(whole)
        for i in range(g):
            one = combine(i)
            left_out[i] = np.diagonal(one, axis1=1, axis2=2)
            total += one - whole
            square += (one - whole) ** 2
        values = whole - (g - 1) / g * total
        stderr = np.sqrt((g - 1) / g * np.maximum(square - total**2 / g, 0.0))
    times = np.array(plan.lags) * (plan.every * clock)
    words = {name: labels[name] for name in ("unit", "lr", "batch")}
    return Autocorrelation(times, values, stderr, left_out, mean, np.array(plan.axes), **words)


def occupation(tables: Tables, good: NDArray[np.bool_], plan: Plan, clock: float, labels: dict[str, Any]) -> Occupation:
    """Of the trajectories that did not fail."""
    inside, exits, after, switches = (tables[name][good] for name in ("inside", "exits", "after", "switches"))
    names = tuple(region.name for region in plan.regions)
    words = {name: labels[name] for name in ("unit", "lr", "batch")}
    return Occupation(inside, exits, after, switches, plan.every * clock, plan.samples, names, **words)
