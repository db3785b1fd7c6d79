"""Stochastic gradient descent on sample losses in NumPy: groups of trajectories advance together, some iterations at a time.

Each trajectory draws its batches from a generator of its own, seeded by (seed, trajectory index).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ._paths import Plan, Records
    from ._runner import Control
    from .chains import SGDChain

__all__ = ["Group", "first_exits", "group_size", "record_group", "update"]

Array = NDArray[np.float64]

#: Iterations recorded between two looks at the observers; numbers that a block of draws may hold.
BLOCK, NUMBERS = 64, 1 << 20


def _draw_count(chain: SGDChain) -> int:
    """Iterations whose batches one call of a generator draws: a function of the chain only, so that all runs of it agree."""
    if not isinstance(chain.batch, int):
        return 1
    if chain.sampling == "shuffle":
        epoch = chain.size // chain.batch
        return int(epoch * max(1, 16 // epoch))
    return max(1, min(BLOCK, 4096 // chain.batch))


def group_size(chain: SGDChain) -> int:
    """Trajectories that advance together, within the memory that their draws may take."""
    width = chain.dim if chain.kind == "shift" else 1
    batch = chain.batch if isinstance(chain.batch, int) else chain.size
    return int(max(1, min(1024, NUMBERS // max(1, _draw_count(chain) * max(1, batch) * width), NUMBERS // (BLOCK * chain.dim))))


def update(chain: SGDChain, state: dict[str, Array], theta: Array, gradient: Array, k: int) -> Array:
    """The weights (n, dim) after iteration k = 0, 1, ..., whose mean minibatch gradient is given; `state` is changed in place."""
    lr = chain.lr_at(k)
    if chain.optimizer == "sgd":
        v = state["v"] = chain.momentum * state["v"] + gradient
        return theta - lr * (gradient + chain.momentum * v if chain.nesterov else v)
    first, second = chain.betas
    v = state["v"] = second * state["v"] + (1.0 - second) * gradient**2
    corrected = v / (1.0 - second ** (k + 1))
    if chain.optimizer == "adam":
        m = state["m"] = first * state["m"] + (1.0 - first) * gradient
        return np.asarray(theta - lr * m / (1.0 - first ** (k + 1)) / (np.sqrt(corrected) + chain.eps))
    mean = corrected.mean(axis=1, keepdims=True)
    share = np.divide(corrected, mean, out=np.zeros_like(corrected), where=mean > 0.0)
    beta = np.clip(1.0 - first * share, 0.0, 1.0 - chain.eps)
    m = state["m"] = beta * state["m"] + (1.0 - beta) * gradient
    state["p"] = state["p"] * beta
    return np.asarray(theta - lr * m / (1.0 - state["p"]))


class Group:
    """Trajectories lo, lo + 1, ... of a chain: weights, memory of the optimiser, generators, and batches drawn ahead."""

    def __init__(self, chain: SGDChain, theta: Array, seed: int, lo: int) -> None:
        self.chain, self.theta, self.k = chain, np.array(theta, float), 0
        self.rngs = [np.random.default_rng([seed, lo + i]) for i in range(len(theta))]
        self.state = {"v": np.zeros_like(self.theta), "m": np.zeros_like(self.theta), "p": np.ones_like(self.theta)}
        self.draws, self.used = np.zeros((len(theta), 0, 1)), 0  # (n, iterations, batch[, dim])
        self.order, self.cursor = np.zeros((len(theta), 0), np.int64), 0  # epochs of a scheduled batch size

    def advance(self, count: int) -> Array:
        """Weights after each of the next `count` iterations: shape (count, n, dim).

        Raises
        ------
        ValueError
            If the ensemble's gradients have not the shape of the weights.
        """
        path = np.empty((count, *self.theta.shape))
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(count):
                gradient = self._gradient(self._next())
                path[t] = self.theta = update(self.chain, self.state, self.theta, gradient, self.k)
                self.k += 1
        return path

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Go on with some of the trajectories only."""
        self.theta, self.draws, self.order = self.theta[mask], self.draws[mask], self.order[mask]
        self.state = {name: a[mask] for name, a in self.state.items()}
        self.rngs = [rng for rng, kept in zip(self.rngs, mask, strict=True) if kept]

    def _next(self) -> NDArray[Any]:
        if not isinstance(self.chain.batch, int):
            return self._scheduled(self.chain.batch_at(self.k))
        if self.used == self.draws.shape[1]:
            self.draws = np.array([_draw(self.chain, rng, self.chain.batch, _draw_count(self.chain)) for rng in self.rngs])
            self.used = 0
        self.used += 1
        return self.draws[:, self.used - 1]

    def _scheduled(self, batch: int) -> NDArray[Any]:
        """Batches whose size changes from iteration to iteration; an epoch ends where fewer samples are left than needed."""
        chain = self.chain
        if chain.sampling != "shuffle":
            return np.array([_draw(chain, rng, batch, 1)[0] for rng in self.rngs])
        if self.cursor + batch > self.order.shape[1]:
            self.order, self.cursor = np.array([rng.permutation(chain.size) for rng in self.rngs]), 0
        self.cursor += batch
        return self.order[:, self.cursor - batch : self.cursor]

    def _gradient(self, draws: NDArray[Any]) -> Array:
        chain = self.chain
        if chain.kind == "shift":
            assert chain.landscape is not None
            return np.asarray(chain.landscape.grad(self.theta[:, None] + chain.sigma * draws).mean(axis=1))
        if hasattr(chain.ensemble, "gradients"):
            gradient = np.asarray(chain.ensemble.gradients(self.theta, draws), float)
            name, shape, expected = "gradients", gradient.shape, self.theta.shape
        else:
            rows = [np.asarray(chain.ensemble.gradient(x, i), float) for x, i in zip(self.theta, draws, strict=True)]
            name, shape, expected = "gradient", next((r.shape for r in rows if r.shape != (chain.dim,)), (chain.dim,)), (chain.dim,)
            gradient = np.array(rows) if shape == expected else self.theta
        if shape != expected:
            raise ValueError(f"ensemble.{name} returned shape {shape}; it must be {expected}")
        return gradient


def _draw(chain: SGDChain, rng: np.random.Generator, batch: int, count: int) -> NDArray[Any]:
    """`count` batches of one trajectory: indices (count, batch), or standard normal shifts (count, batch, dim)."""
    if chain.kind == "shift":
        return rng.standard_normal((count, batch, chain.dim))
    if chain.sampling == "replace":
        return rng.integers(0, chain.size, (count, batch))
    if chain.sampling == "shuffle":
        epoch = chain.size // batch
        orders = np.array([rng.permutation(chain.size) for _ in range(count // epoch)])
        return orders[:, : epoch * batch].reshape(count, batch)
    if batch == chain.size:
        return np.broadcast_to(np.arange(batch), (count, batch))
    # the places of the `batch` smallest of N independent uniform numbers are a uniform subset
    return np.argpartition(rng.random((count, chain.size)), batch, axis=1)[:, :batch]


def record_group(chain: SGDChain, points: Array, plan: Plan, records: Records, seed: int, lo: int, control: Control) -> bool:
    """Run trajectories lo ... lo + len(points) - 1 and record what the plan asks for; False if the run was stopped."""
    n, d = points.shape
    group, rows = Group(chain, points, seed, lo), slice(lo, lo + n)
    shift, total, square = group.theta, np.zeros((n, d)), np.zeros((n, d, d))
    counts = np.zeros(plan.shape, np.int64)
    if 0 in plan.stops and records.states is not None:
        records.states[0, rows] = group.theta
    while group.k < plan.steps:
        if control.stopped:
            return False
        first = group.k + 1
        limit = plan.start if plan.start is not None and first <= plan.start else plan.steps
        path = group.advance(min(BLOCK, limit - group.k))
        steps = np.arange(first, group.k + 1)
        if group.k == plan.start:
            shift = np.where(np.isfinite(group.theta), group.theta, 0.0)
        for row in (plan.stops.index(k) for k in steps.tolist() if k in plan.stops):
            assert records.states is not None
            records.states[row, rows] = path[plan.stops[row] - first]
        if plan.start is not None and first > plan.start:
            chosen = path[(steps - plan.start) % plan.every == 0]
            if plan.shape:
                plan.count(chosen.reshape(-1, d), counts)
            else:
                u = chosen - shift
                total += u.sum(axis=0)
                square += np.einsum("tni,tnj->nij", u, u)
        control.add(float(n) * len(path))
    if plan.shape:
        records.add_counts(counts)
    elif plan.start is not None and records.means is not None and records.squares is not None:
        mean = total / plan.samples
        centred = square / plan.samples - mean[:, :, None] * mean[:, None, :]
        lower = np.tril_indices(d)
        records.means[rows], records.squares[rows] = shift + mean, centred[:, lower[0], lower[1]]
    records.final[rows], records.finished[rows] = group.theta, True
    return True


def first_exits(
    chain: SGDChain, points: Array, inside: Callable[[Array], Any], limit: int | None, seed: int, lo: int, control: Control
) -> tuple[Array, NDArray[np.bool_], Array]:
    """(iteration, censored, weights) at which trajectories lo, lo + 1, ... are first outside; NaN if one became non-finite."""
    n, d = points.shape
    times, censored, exits = np.full(n, np.nan), np.zeros(n, bool), np.full((n, d), np.nan)
    group, index = Group(chain, points, seed, lo), np.arange(n)
    while len(index):
        if control.stopped or group.k == limit:
            times[index], censored[index] = group.k, True
            break
        before = group.k
        path = group.advance(BLOCK if limit is None else min(BLOCK, limit - group.k))
        finite = np.asarray(np.isfinite(path).all(axis=2))
        safe = np.where(finite[..., None], path, 0.0)
        out = ~finite | ~np.asarray(inside(safe.reshape(-1, d)), bool).reshape(finite.shape)
        gone, step = np.asarray(out.any(axis=0)), np.asarray(out.argmax(axis=0))
        met = np.flatnonzero(gone & finite[step, np.arange(len(index))])
        times[index[met]] = before + 1 + step[met]
        exits[index[met]] = path[step[met], met]
        control.add(int(gone.sum()))
        control.reach(group.k)
        group.keep(~gone)
        index = index[~gone]
    return times, censored, exits
