"""Stochastic gradient descent on an ensemble's sample losses, one iteration at a time in NumPy.

Each trajectory draws its batches from a generator seeded by (seed, trajectory index).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ._paths import Plan, Records
    from ._runner import Control
    from .chains import SGDChain

__all__ = ["batches", "first_exit", "iterate", "record_chain"]

Array = NDArray[np.float64]


def batches(size: int, batch: int, sampling: str, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Endless indices of minibatches: independent draws, or reshuffled epochs whose last partial batch is dropped."""
    if sampling == "replace":
        while True:
            # draw the batches of many iterations at once: one call of the generator costs more than the numbers
            yield from rng.integers(0, size, (max(1, 4096 // batch), batch))
    while True:
        order = rng.permutation(size)
        for start in range(0, size - batch + 1, batch):
            yield order[start : start + batch]


def iterate(chain: Any, theta: Array, seed: int, index: int) -> Iterator[Array]:
    """Weights of trajectory `index` after each iteration; a new array every time.

    Raises
    ------
    ValueError
        If the ensemble's gradient has not the shape (dim,).
    """
    rng = np.random.default_rng([seed, index])
    velocity = np.zeros_like(theta)
    for indices in batches(int(chain.ensemble.size), chain.batch, chain.sampling, rng):
        gradient = np.asarray(chain.ensemble.gradient(theta, indices), float)
        if gradient.shape != theta.shape:
            raise ValueError(f"ensemble.gradient returned shape {gradient.shape}; it must be {theta.shape}")
        velocity = chain.momentum * velocity + gradient
        theta = theta - chain.lr * velocity
        yield theta


def record_chain(chain: SGDChain, theta: Array, plan: Plan, records: Records, seed: int, i: int, control: Control) -> bool:
    """Run trajectory `i` and record what the plan asks for; False if the run was stopped."""
    shift, total, square = theta, np.zeros(chain.dim), np.zeros((chain.dim, chain.dim))
    lower = np.tril_indices(chain.dim)
    counts = np.zeros(plan.shape, np.int64)
    if 0 in plan.stops and records.states is not None:
        records.states[0, i] = theta
    start = theta
    for k, theta in enumerate(iterate(chain, start, seed, i), start=1):
        if k == plan.start:
            shift = theta
        elif plan.start is not None and k > plan.start and (k - plan.start) % plan.every == 0:
            if plan.shape:
                plan.count(theta[None], counts)
            else:
                u = theta - shift
                total += u
                square += np.outer(u, u)
        if records.states is not None and k in plan.stops:
            records.states[plan.stops.index(k), i] = theta
        if k == plan.steps:
            break
        if k % 64 == 0 and control.stopped:
            return False
    if plan.shape:
        records.add_counts(counts)
    elif plan.start is not None and records.means is not None and records.squares is not None:
        mean = total / plan.samples
        records.means[i], records.squares[i] = shift + mean, (square / plan.samples - np.outer(mean, mean))[lower]
    records.final[i], records.finished[i] = theta, True
    control.add(plan.steps)
    return True


def first_exit(
    chain: SGDChain, theta: Array, inside: Callable[[Array], Any], limit: int | None, seed: int, i: int, control: Control
) -> tuple[float, bool, Array]:
    """(iteration, censored, weights) at which trajectory `i` is first outside; NaN if it became non-finite."""
    nowhere = np.full(chain.dim, np.nan)
    for k, weights in enumerate(iterate(chain, theta, seed, i), start=1):
        if not np.isfinite(weights).all():
            return np.nan, False, nowhere
        if not inside(weights):
            return k, False, weights
        if k % 64 == 0:
            control.reach(k)
        if k == limit or (k % 64 == 0 and control.stopped):
            return k, True, nowhere
    raise AssertionError("the iteration has no end")
