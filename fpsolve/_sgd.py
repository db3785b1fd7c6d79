"""Stochastic gradient descent on an ensemble's sample losses, one iteration at a time in NumPy.

Each trajectory draws its batches from a generator seeded by (seed, trajectory index).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["batches", "iterate"]

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
