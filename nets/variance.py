"""Variances of a real network's weights, measured and predicted: tensors averaged along a run, errors by blocks and jackknife."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._progress import each
from .data import Data
from .mlp import MLP
from .parameters import Model
from .products import products
from .run import Run
from .spectrum import top_eigenpairs

__all__ = ["Tensors", "Variances", "average_tensors", "leading_directions", "measured_variances"]

Array = NDArray[np.float64]

#: Blocks of consecutive snapshots that are left out one at a time to find the error of the averaged tensors.
JACKKNIFE_BLOCKS = 20


def leading_directions(mlp: MLP | Model, data: Data, theta: ArrayLike, k: int) -> tuple[Array, Array]:
    """The k largest eigenvalues (k,) of the Hessian of the training loss at `theta`, and their eigenvectors as columns (P, k).

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("teacher"), nets.MLP((8, 1), loss="mse")
    >>> values, vectors = leading_directions(mlp, data, mlp.init(0), 3)
    >>> vectors.shape, bool(values[0] >= values[1])
    ((9, 3), True)
    """
    if not 1 <= k <= mlp.dim:
        raise ValueError(f"k must lie in 1 .. {mlp.dim}, the number of weights: got {k}")
    found = top_eigenpairs(mlp, theta, data.x_train, data.y_train, k=k, tol=1e-8)
    return found.values, found.vectors


@dataclass(frozen=True, eq=False)
class Tensors:
    """Hessian and per-sample gradient covariance in k directions, averaged over snapshots of a run.

    Near a stationary state the second-moment balance of SGD holds exactly with C averaged over the states visited, and, for
    Gaussian states (Stein's lemma: <g x^T> = <H> <x x^T>), with H averaged likewise. Tensors at the mean weights miss the
    anharmonicity.

    Attributes
    ----------
    basis : ndarray, shape (P, k)
    hessians, covariances : ndarray, shape (snapshots, k, k)
    lr, batch, n_samples
        Of the run.
    """

    basis: Array
    hessians: Array
    covariances: Array
    lr: float
    batch: int
    n_samples: int

    @property
    def hessian(self) -> Array:
        """Mean over the snapshots, shape (k, k)."""
        return np.asarray(self.hessians.mean(0))

    @property
    def covariance(self) -> Array:
        """Mean over the snapshots, shape (k, k)."""
        return np.asarray(self.covariances.mean(0))

    def predict(self, formula: Callable[[Array, Array], Array]) -> tuple[Array, Array]:
        """``formula(H, C)`` at the averages, and its standard error: delete-one jackknife over blocks of snapshots."""
        blocks = np.array_split(np.arange(len(self.hessians)), min(JACKKNIFE_BLOCKS, len(self.hessians)))
        if len(blocks) < 2:
            raise ValueError(f"an error needs at least 2 snapshots: got {len(self.hessians)}")
        keep = [np.setdiff1d(np.arange(len(self.hessians)), b) for b in blocks]
        left_out = np.array([formula(self.hessians[i].mean(0), self.covariances[i].mean(0)) for i in keep])
        spread = left_out - left_out.mean(0)
        error = np.sqrt((len(blocks) - 1) / len(blocks) * np.sum(spread**2, 0))
        return formula(self.hessian, self.covariance), error


def average_tensors(mlp: MLP | Model, data: Data, run: Run, basis: Array, *, threads: int = 2, progress: bool = False) -> Tensors:
    """H and C in the directions `basis` at every snapshot of the weights that `run` recorded (all blocks).

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("teacher"), nets.MLP((8, 1), loss="mse", weight_decay=0.1)
    >>> run = nets.train(mlp, data, lr=0.1, batch=5, steps=200, sampling="replace")
    >>> tensors = average_tensors(mlp, data, run, leading_directions(mlp, data, run.theta, 2)[1])
    >>> tensors.hessian.shape
    (2, 2)
    """
    from ._threads import single_threaded_blas

    lr, batch = run.constants("the theory of H and C")
    snapshots = np.asarray(run.weights["value"], dtype=np.float64)
    if snapshots.shape[1] != mlp.dim:
        raise ValueError(
            f"snapshots of all {mlp.dim} weights are needed, the run recorded {snapshots.shape[1]}: use Record(weights='all')"
        )

    def one(theta: Array) -> tuple[Array, Array]:
        h = products(mlp, theta, data.x_train, data.y_train)(basis.T).T
        g = [chunk @ basis for chunk in mlp.iter_per_sample_gradients(theta, data.x_train, data.y_train)]
        samples = np.concatenate(g)
        samples -= samples.mean(0)
        projected = basis.T @ h
        return 0.5 * (projected + projected.T), samples.T @ samples / len(samples)

    if isinstance(mlp, Model):  # it holds one module, through which one thread can go at a time
        threads = 1
    with single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        pairs = list(each(pool.map(one, snapshots), progress, "H and C along the pilot", len(snapshots)))
    return Tensors(basis, np.array([h for h, _ in pairs]), np.array([c for _, c in pairs]), lr, batch, run.n_samples)


@dataclass(frozen=True, eq=False)
class Variances:
    """Variance of the weights along each direction, with errors that know the autocorrelation.

    Attributes
    ----------
    value, stderr : ndarray, shape (k,)
    effective : ndarray, shape (k,)
        Number of independent Gaussian samples with the same relative error: 2 (value/stderr)^2.
    halves : ndarray, shape (k,)
        Difference between the second and the first half of the run, in standard errors.
    """

    value: Array
    stderr: Array
    effective: Array
    halves: Array


def measured_variances(run: Run) -> Variances:
    """Variances of the recorded projections over every step of a run; errors from the scatter of its blocks of time.

    Blocks must be longer than the correlation time; their lag-one correlation enters the error where it is positive.

    Examples
    --------
    >>> import nets, numpy as np
    >>> data, mlp = nets.load_data("teacher"), nets.MLP((8, 1), loss="mse", weight_decay=0.1)
    >>> record = nets.Record(center=np.zeros(9), basis=np.eye(9)[:, :2])
    >>> run = nets.train(mlp, data, lr=0.1, batch=5, steps=20000, sampling="replace", record=record)
    >>> measured_variances(run).value.shape
    (2,)
    """
    m = run.moments
    count, mean = np.asarray(m["block_count"], float)[:, None], np.asarray(m["mean"])
    if len(count) < 8:
        raise ValueError(f"at least 8 blocks of time are needed for an error: got {len(count)}; raise Record(blocks=)")
    blocks = m["block_square"] - 2.0 * mean * m["block_mean"] + mean**2  # mean of (y - mean)^2 in each block
    value = np.sum(count * blocks, 0) / count.sum()
    deviation = blocks - value
    spread = np.mean(deviation**2, 0)
    lag = np.mean(deviation[1:] * deviation[:-1], 0) / np.maximum(spread, 1e-300)
    correlated = 1.0 + 2.0 * np.clip(lag, 0.0, 0.45) / (1.0 - np.clip(lag, 0.0, 0.45))
    stderr = np.sqrt(spread * correlated / (len(count) - 1))
    half = len(count) // 2
    halves = blocks[half:].mean(0) - blocks[:half].mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Variances(value, stderr, 2.0 * (value / stderr) ** 2, halves / (2.0 * stderr))
