"""A window of a training run in its principal components: drift, diffusion, correlation times, and the random walk beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import integer, numbers, of_kind
from ._saved import Saved
from .pca import PCA, needed, pca
from .run import Run
from .series import autocorrelation

__all__ = ["RandomWalk", "Window", "analyse_window", "correlation_time", "random_walk"]

Array = NDArray[np.float64]

#: Stretches of time that are left out in turn for an interval within one run.
BLOCKS = 10
#: Columns whose autocorrelations are taken at once.
COLUMNS = 64


@dataclass(frozen=True, eq=False, repr=False)
class Window(Saved):
    r"""Principal components of a block of weights in a window, :math:`w(t) = \bar w + \sum_i \theta_i(t) p_i`.

    Arrays over directions are ordered by variance; the paper's number i is the index plus one. Times are in steps.

    Attributes
    ----------
    variances : ndarray, shape (k,)
        sigma_i^2, mean square of theta_i over the window.
    directions : ndarray, shape (size, k)
        Unit vectors p_i as columns.
    total : float
        Sum of all variances, also of directions not kept.
    tau : ndarray, shape (k,)
        Where the autocorrelation of theta_i within the window falls to 1/e, interpolated between lags (inf: nowhere).
    trend : ndarray, shape (k,)
        Correlation of theta_i with time, between -1 and 1.
    speed : ndarray, shape (k,)
        Slope of the straight line through theta_i, per step.
    diffusion : ndarray, shape (k,)
        Half the mean square of the increments between records, per step.
    cosine : ndarray, shape (k,)
        Squared correlation of theta_i with the cosine of i half periods over the window: one for a random walk.
    block_mean, block_square : ndarray, shape (b, k)
        Means of theta_i and theta_i^2 over b equal stretches of time.
    center : ndarray, shape (P,)
        w_0: the block at its mean over the window, the others at theirs where they were recorded or the window is the whole run,
        else at the end of the run.
    centred : bool
        Whether that is w_0 at the time of the window: not for one before the end of a run that recorded the block only.
    index : ndarray, shape (size,)
        Positions of the block in theta.
    block : str
    first, last, every : int
        Steps of the first and last record, and between records.
    lr, batch, momentum, n_samples, sampling, seed, optimizer
        Of the run.

    Examples
    --------
    >>> import nets
    >>> mlp, data = nets.MLP((2, 8, 2), activation="tanh"), nets.load_data("spiral")
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=20, record=nets.Record(weights="W2", weights_every=1))
    >>> window = nets.analyse_window(run, "W2")
    >>> window.variances.shape, window.steps
    ((16,), 1600)
    """

    variances: Array
    directions: Array
    total: float
    tau: Array
    trend: Array
    speed: Array
    diffusion: Array
    cosine: Array
    block_mean: Array
    block_square: Array
    center: Array
    index: NDArray[np.intp]
    block: str
    first: int
    last: int
    every: int
    lr: float
    batch: int
    momentum: float
    n_samples: int
    sampling: str
    seed: int
    optimizer: str = "sgd"
    centred: bool = True
    KIND: ClassVar[str] = "window"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "variances": ("direction", "weight^2", "variance along each principal component"),
        "directions": ("weight direction", "1", "principal components"),
        "tau": ("direction", "iteration", "1/e time of the autocorrelation"),
        "trend": ("direction", "1", "correlation with time"),
        "speed": ("direction", "weight/iteration", "slope of the straight line over time"),
        "diffusion": ("direction", "weight^2/iteration", "half the mean square increment per step"),
        "cosine": ("direction", "1", "squared correlation with a cosine"),
        "block_mean": ("stretch direction", "weight", "mean over a stretch of time"),
        "block_square": ("stretch direction", "weight^2", "mean square over a stretch of time"),
        "center": ("parameter", "weight", "weights that displacements count from"),
        "index": ("weight", "1", "position in theta"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {"shares": ("direction", "1", "share of the variance")}
    ROWS: ClassVar[str] = "direction"
    PICTURE: ClassVar[str] = "nets.plotting.plot_variances"

    @property
    def records(self) -> int:
        """Number of records in the window."""
        return (self.last - self.first) // self.every + 1

    @property
    def steps(self) -> int:
        """Length of the window in steps."""
        return self.records * self.every

    @property
    def shares(self) -> Array:
        """Fractions of the total variance, shape (k,)."""
        return np.asarray(self.variances / self.total if self.total > 0.0 else np.zeros_like(self.variances))

    def needed(self, fraction: float, *, without: int = 1) -> int:
        """Leading directions that hold `fraction` of the variance, the first `without` left out of both."""
        return needed(self.variances, self.total, len(self.index), fraction, without)

    @property
    def alignment(self) -> float:
        """`|cos|` of the angle between the first direction and the mean weights of the block."""
        mean = self.center[self.index]
        return float(abs(mean @ self.directions[:, 0]) / np.linalg.norm(mean))

    def variances_without(self, stretch: int) -> Array:
        """Variances along the same directions with one stretch of time left out, for a jackknife."""
        keep = np.delete(np.arange(len(self.block_mean)), stretch)
        return np.asarray(self.block_square[keep].mean(axis=0) - self.block_mean[keep].mean(axis=0) ** 2)


def analyse_window(
    run: Run, block: str | Sequence[str] = "W2", *, window: tuple[int, int] | None = None, n_directions: int | None = None
) -> Window:
    """Principal components of the recorded weights of a block, and how each of them moves.

    Parameters
    ----------
    run : Run
        With ``Record(weights=block, weights_every=...)``; ``sums=True`` gives the mean of the other blocks.
    block : str or sequence of str
    window : (int, int), optional
        Steps window[0] + 1 .. window[1]; default: all records.
    n_directions : int, optional
        Default: all.

    Returns
    -------
    Window

    Raises
    ------
    ValueError
        Fewer than 20 records, records at unequal steps, an unknown or unrecorded block.

    Notes
    -----
    Variances, correlation times and a dominant first component come out of any slow process: compare with `random_walk`.
    Time courses of a few thousand records take as much memory as the records themselves.

    Examples
    --------
    >>> import nets
    >>> mlp, data = nets.MLP((2, 8, 2), activation="tanh"), nets.load_data("spiral")
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=20, record=nets.Record(weights="W2", weights_every=1))
    >>> bool(analyse_window(run, "W2", n_directions=3).needed(0.5, without=0) <= 3)
    True
    """
    of_kind(run, Run, "run", "of nets.train")
    if run.lr is None or run.batch is None:
        raise ValueError(f"a window needs a constant learning rate and batch size: got {run!r}")
    parts = pca(run, block=block, window=window, n_directions=n_directions)
    gaps = np.diff(parts.steps)
    if parts.n < 20 or gaps.min() != gaps.max():
        raise ValueError(
            f"a window needs at least 20 records at equal distances: got {parts.n}, {gaps.min()} to {gaps.max()} steps apart"
        )
    assert parts.index is not None
    every, series = int(gaps[0]), parts.projections()
    center, centred = _center(run, window, parts)
    t = np.arange(parts.n) - (parts.n - 1) / 2
    slope = (t @ series) / (t @ t)
    pieces = np.array_split(np.arange(parts.n), BLOCKS)
    rms = np.sqrt(np.maximum(np.einsum("tk,tk->k", series, series), 1e-300))
    return Window(
        variances=parts.variances,
        directions=parts.directions,
        total=parts.total,
        tau=correlation_time(series) * every,
        trend=slope * np.linalg.norm(t) / rms,
        speed=slope / every,
        diffusion=np.mean(np.diff(series, axis=0) ** 2, axis=0) / (2 * every),
        cosine=_cosine_content(series),
        block_mean=np.array([series[p].mean(axis=0) for p in pieces]),
        block_square=np.array([np.mean(series[p] ** 2, axis=0) for p in pieces]),
        center=center,
        index=parts.index,
        block=block if isinstance(block, str) else "+".join(block),
        first=int(parts.steps[0]),
        last=int(parts.steps[-1]),
        every=every,
        lr=run.lr,
        batch=run.batch,
        momentum=run.momentum,
        n_samples=run.n_samples,
        sampling=run.sampling,
        seed=run.seed,
        optimizer=run.optimizer,
        centred=centred,
    )


def _center(run: Run, window: tuple[int, int] | None, parts: PCA) -> tuple[Array, bool]:
    """All weights at the time of the window, and whether they are known."""
    assert parts.index is not None
    every = int(parts.steps[1] - parts.steps[0])
    to_the_end = run.step - parts.steps[-1] < every
    whole = "mean" in run.tree and to_the_end and parts.steps[0] - run.first_step <= every
    center = (run.mean_weights if whole else run.theta).copy()
    recorded = run.weights_index
    if len(recorded) > len(parts.index):
        total = sum(value.sum(axis=0, dtype=np.float64) for _, value in run.iter_weights(window=window))
        center[recorded] = total / parts.n
    center[parts.index] = parts.mean
    return center, bool(to_the_end or len(recorded) == run.mlp.dim)


def correlation_time(series: ArrayLike) -> Array:
    """Lag at which the autocorrelation first falls to 1/e, interpolated linearly; inf where it does not, or nothing moves.

    Parameters
    ----------
    series : array, shape (n,) or (n, k)

    Returns
    -------
    ndarray, shape () or (k,)
        In records.

    Examples
    --------
    A cosine of one half period over the window decays within a fifth of it:

    >>> n = 1000
    >>> float(correlation_time(np.cos(np.pi * (np.arange(n) + 0.5) / n)).round(1))
    229.7
    """
    y = numbers("series", series)
    if y.ndim not in (1, 2) or len(y) < 4 or not np.isfinite(y).all():
        raise ValueError(f"a series must be finite, of shape (n,) or (n, k) with n >= 4: got shape {y.shape}")
    columns = y[:, None] if y.ndim == 1 else y
    tau = np.full(columns.shape[1], math.inf)
    moving = np.flatnonzero(np.ptp(columns, axis=0) > 0.0)
    for i in range(0, len(moving), COLUMNS):
        part = moving[i : i + COLUMNS]
        rho = autocorrelation(columns[:, part])
        below = rho < math.exp(-1.0)
        lag = below.argmax(axis=0)
        found = np.flatnonzero(below.any(axis=0))
        high, low = rho[lag[found] - 1, found], rho[lag[found], found]
        tau[part[found]] = lag[found] - 1 + (high - math.exp(-1.0)) / (high - low)
    return tau.reshape(y.shape[1:])


def _cosine_content(series: Array) -> Array:
    n, k = series.shape
    out = np.empty(k)
    position = (np.arange(n) + 0.5) / n
    for i in range(k):
        wave, y = np.cos(np.pi * (i + 1) * position), series[:, i]
        power = y @ y
        out[i] = 2.0 * (y @ wave) ** 2 / (n * power) if power > 0.0 else 0.0
    return out


@dataclass(frozen=True, eq=False, repr=False)
class RandomWalk(Saved):
    r"""Principal components of a random walk in very many dimensions: what a window shows where nothing is learned or confined.

    .. math:: \sigma_k^2 \propto \frac{1}{4 n \sin^2(\pi k / 2n)}, \quad \theta_k(t) \propto \cos\frac{\pi k (t + 1/2)}{n}

    Attributes
    ----------
    shares : ndarray, shape (k,)
        Fractions of the variance; 6/pi^2 = 0.61 for the first, falling as k^-2.
    tau : ndarray, shape (k,)
        1/e times of the cosines, in units of the window's records; falling as 1/k.

    Examples
    --------
    >>> walk = random_walk(2000, 10)
    >>> walk.shares[:2].round(3), walk.tau[:2].round(0)
    (array([0.608, 0.152]), array([459., 301.]))
    """

    shares: Array
    tau: Array
    KIND: ClassVar[str] = "random walk"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "shares": ("direction", "1", "fraction of the variance"),
        "tau": ("direction", "record", "1/e time of the autocorrelation"),
    }
    ROWS: ClassVar[str] = "direction"
    DRAWN: ClassVar[str] = "shares"


def random_walk(n: int, k: int) -> RandomWalk:
    """The null model beside the spectrum of a window of n records: the first k components of a random walk.

    Source: J. Antognini, J. Sohl-Dickstein, "PCA of high dimensional random walks with comparison to neural network training",
    NeurIPS 2018. Exact for many more dimensions than records; with fewer, the later components are less pure.

    Parameters
    ----------
    n : int
        Records in the window.
    k : int
        Components.

    Returns
    -------
    RandomWalk

    Raises
    ------
    ValueError
        k outside 1 .. n - 1.

    Examples
    --------
    >>> round(float(random_walk(10_000, 1).shares[0] * np.pi**2 / 6), 3)
    1.0
    """
    integer("n", n, 2)
    integer("k", k, 1, n - 1)
    number = np.arange(1, n)
    power = 1.0 / np.sin(np.pi * number / (2 * n)) ** 2
    tau = np.array([_cosine_time(i) * n for i in range(1, k + 1)])
    return RandomWalk(power[:k] / power.sum(), tau)


def _cosine_time(k: int) -> float:
    """First u with C(u) = (1 - u) cos(pi k u) - sin(pi k u)/(pi k) = 1/e: autocorrelation of cos(pi k s), 0 < s < 1."""
    from scipy.optimize import brentq

    def gap(u: float) -> float:
        return (1.0 - u) * math.cos(math.pi * k * u) - math.sin(math.pi * k * u) / (math.pi * k) - math.exp(-1.0)

    return float(brentq(gap, 0.0, 0.5 / k))
