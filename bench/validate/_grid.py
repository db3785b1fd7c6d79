"""Networks trained over a grid of learning rate x batch size x seeds, each once in a process: what two claims look at.

1000 images of MNIST, 784-30-30-10, ReLU, shuffled epochs. A seed has the same initial weights at every rate and batch size. All
runs go on for the same SDE time, rate x steps = 200, so that those with more noise are not also those that have trained longer;
at the end the losses are nearly equal. (At a rate of 0.2 and batches of 10 some samples were never right.) The state at equal
loss is the first record with a loss below 0.02.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

import nets
from nets._threads import single_threaded_blas

Array = NDArray[np.float64]

SHARED = "networks over rates and batch sizes"
RATES, BATCHES, TIME = (0.08, 0.11, 0.16), (10, 20, 40), 200.0
WIDTHS = (784, 30, 30, 10)
#: Losses at which a run counts as frozen (the papers' criterion), and at which states are compared.
FROZEN, EQUAL = 0.1, 0.02
#: SDE time between records.
RESOLUTION = 2.5


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of the grid."""

    lr: float
    batch: int
    seed: int
    frozen: float  # step at which the training loss is first below FROZEN
    loss: float
    error: float  # the smallest on the way: late in training single samples come and go
    theta: Array
    end: Array  # ten leading eigenvalues of the Hessian at the end
    equal: Array  # and at equal loss

    @property
    def noise(self) -> float:
        """Learning rate over batch size."""
        return self.lr / self.batch


@cache
def samples() -> nets.Data:
    """The first 1000 images."""
    return nets.load_data("mnist").subset(1000, 200)


@cache
def grid(quick: bool) -> list[Cell]:
    """All runs; three seeds in quick, five in full."""
    mlp, data, cells = nets.MLP(WIDTHS), samples(), list[Cell]()
    for lr in RATES:
        for batch in BATCHES:
            every = round(RESOLUTION / lr)  # a loss of all samples takes as long as thirty steps
            steps = -(-round(TIME / lr) // every) * every
            record = nets.Record(weights="all", weights_every=every, losses_every=every, test=False)
            seeds = range(3 if quick else 5)
            runs = nets.train_many(
                mlp, data, seeds=seeds, lr=lr, batch=batch, steps=steps, threads=2, record=record, precision="single"
            )
            with single_threaded_blas(), ThreadPoolExecutor(2) as pool:
                cells += pool.map(_cell, runs, seeds)
    return cells


def _cell(run: nets.Run, seed: int) -> Cell:
    step, loss = run.losses["step"], run.losses["train_loss"]
    states = dict(zip(run.weights["step"].tolist(), run.weights["value"], strict=True))

    def first(level: float) -> int:
        return int(step[np.flatnonzero(loss < level)[0]])

    end, equal = (_sharpness(run.mlp, theta) for theta in (run.theta, states[first(EQUAL)]))
    return Cell(run.lr, run.batch, seed, first(FROZEN), float(loss[-1]), run.losses["train_error"].min(), run.theta, end, equal)


def _sharpness(mlp: nets.MLP, theta: Array) -> Array:
    data = samples()
    return nets.top_eigenpairs(mlp, theta, data.x_train, data.y_train, k=10, tol=1e-3).values


def geometric_mean(values: Array) -> float:
    """Of the ten leading eigenvalues."""
    return float(np.exp(np.log(values).mean()))


def rank_correlation(cells: list[Cell], of: Callable[[Cell], float]) -> tuple[float, float, tuple[float, float]]:
    """Spearman's of a number with lr/batch over all runs; standard error and 95 % interval from 1000 draws of seeds."""
    from scipy.stats import spearmanr

    rng, seeds = np.random.default_rng(9), sorted({c.seed for c in cells})
    pairs = {s: [(c.noise, of(c)) for c in cells if c.seed == s] for s in seeds}

    def value(chosen: list[int]) -> float:
        return float(spearmanr(*np.concatenate([pairs[s] for s in chosen]).T).statistic)

    drawn = [value([seeds[i] for i in rng.integers(len(seeds), size=len(seeds))]) for _ in range(1000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return value(seeds), float(np.std(drawn)), (float(low), float(high))
