"""Principal components of a window of recorded weights, in one pass over blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import integer, numbers
from ._saved import Saved
from ._threads import single_threaded_blas
from .run import Run

__all__ = ["PCA", "pca"]

Array = NDArray[np.float64]

#: Rows that are read and multiplied at once: each time the covariance, larger than any cache, is read and written once.
ROWS = 2000
#: A covariance of more bytes than this is refused.
MAX_MATRIX_BYTES = 4_000_000_000


@dataclass(frozen=True, eq=False)
class PCA(Saved):
    r"""Principal components: :math:`C = \frac1n \sum_t (w_t - \bar w)(w_t - \bar w)^T = \sum_i \sigma_i^2\, p_i p_i^T`.

    Attributes
    ----------
    mean : ndarray, shape (P,)
        Mean of the records.
    variances : ndarray, shape (k,)
        The :math:`\sigma_i^2`, largest first (divided by n; weights squared).
    directions : ndarray, shape (P, k)
        The unit vectors :math:`p_i` as columns; the largest component of each is positive.
    total : float
        Sum of all variances, also of those left out.
    n : int
        Number of records.
    steps : ndarray of int64, shape (n,)
        Step of each record of a run; 0, 1, ... for an array.
    index : ndarray of intp, shape (P,), or None
        Positions in theta of the weights of a run.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.linspace(0.0, 1.0, 101)[:, None]
    >>> line = pca(t * [3.0, 4.0] + 100.0)
    >>> line.directions[:, 0].round(12), bool(line.shares[0] > 1 - 1e-12)
    (array([0.6, 0.8]), True)
    """

    KIND: ClassVar[str] = "pca"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "mean": ("weight", "weight", "mean of the records"),
        "variances": ("direction", "weight^2", "variances along the directions"),
        "directions": ("weight direction", "1", "principal directions as columns"),
        "steps": ("record", "iteration", "steps of the records"),
        "index": ("weight", "1", "position in theta"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {"shares": ("direction", "1", "share of the variance")}
    ROWS: ClassVar[str] = "direction"
    DRAWN: ClassVar[str] = "variances"

    mean: Array
    variances: Array
    directions: Array
    total: float
    n: int
    steps: NDArray[np.int64] = field(repr=False)
    index: NDArray[np.intp] | None = field(default=None, repr=False)
    rows: Callable[[], Iterator[Array]] | None = field(default=None, repr=False, metadata={"saved": False})

    def __repr__(self) -> str:
        return (
            f"PCA({self.n} records of {len(self.mean)} weights, {len(self.variances)} directions, first one "
            f"{100 * self.shares[0]:.3g} % of the variance)"
        )

    @property
    def shares(self) -> Array:
        """Fraction of the total variance in each direction, shape (k,)."""
        return self.variances / self.total if self.total > 0.0 else np.zeros_like(self.variances)

    @property
    def resolution(self) -> float:
        """Variances up to about this are rounding: machine epsilon times the total variance, times sqrt(P)."""
        return float(np.finfo(np.float64).eps * self.total * np.sqrt(len(self.mean)))

    def needed(self, fraction: float, *, without: int = 0) -> int:
        """Number of leading directions that hold `fraction` of the variance, the first `without` of them left out of both.

        Raises
        ------
        ValueError
            If the directions kept hold less than that, or nothing but rounding is left.
        """
        return needed(self.variances, self.total, len(self.mean), fraction, without)

    def project(self, weights: ArrayLike, k: int | None = None) -> Array:
        """(weights - mean) . directions, shape (..., k); default: all directions kept."""
        return np.asarray((np.asarray(weights, dtype=np.float64) - self.mean) @ self.directions[:, :k])

    def projections(self, k: int | None = None) -> Array:
        """Time course of the records in the first k directions, shape (n, k); reads the records once more, block by block."""
        if self.rows is None:
            raise ValueError("the records are not at hand: use project(weights)")
        return np.concatenate([self.project(part, k) for part in self.rows()])


def needed(variances: Array, total: float, size: int, fraction: float, without: int) -> int:
    """Number of leading directions that hold `fraction` of the variance, the first `without` of them left out of both."""
    if not 0.0 < fraction <= 1.0 or not 0 <= without < len(variances):
        raise ValueError(f"fraction must lie in (0, 1] and without in 0 .. {len(variances) - 1}: got {fraction!r}, {without!r}")
    left = total - variances[:without].sum()
    if not left > np.finfo(np.float64).eps * total * np.sqrt(size):
        raise ValueError(f"without the first {without} directions there is no variance but rounding: {left:.2g} of {total:.6g}")
    held = np.cumsum(variances[without:]) / left
    enough = np.flatnonzero(held >= fraction * (1.0 - 1e-12))
    if not len(enough):
        raise ValueError(f"the {len(variances)} directions kept hold only {held[-1]:.6g} of the variance: raise n_directions")
    return int(enough[0]) + 1


def pca(
    source: Run | ArrayLike,
    *,
    block: str | Sequence[str] | None = None,
    window: tuple[int, int] | None = None,
    n_directions: int | None = None,
) -> PCA:
    r"""Principal component analysis of recorded weights.

    Parameters
    ----------
    source : Run, or array-like of shape (n, P)
        A run that recorded weights (read from its file block by block), an array, or anything that gives rows by slices, such
        as an h5py dataset.
    block : str or sequence of str, optional
        Blocks of a run ("W2"); default: all that were recorded.
    window : (int, int), optional
        Of a run: the records of the steps window[0] + 1 .. window[1].
    n_directions : int, optional
        Directions to keep; default all, min(P, n - 1).

    Returns
    -------
    PCA

    Raises
    ------
    ValueError
        Fewer than 2 records, non-finite weights, bad block or window, a covariance above 4 GB.

    Notes
    -----
    The origin is moved to the mean of the first 2000 records before anything is multiplied: weights of size 10 that fluctuate by
    1e-7 in the stiffest direction would otherwise lose all digits. With n > P records the covariance is accumulated over blocks
    of 2000 rows (memory P^2 numbers, whatever n) and diagonalised; with fewer the singular values of the centred records are
    taken. Single-precision records are multiplied in double precision, but their own rounding stays. BLAS runs with one thread
    meanwhile: the same bits on any number of cores, and no slower where others use them (threads that wait for each other make
    `eigh` many times slower there).

    Examples
    --------
    >>> import nets
    >>> data = nets.load_data("spiral")
    >>> mlp = nets.MLP((2, 8, 2), activation="tanh", weight_decay=0.01)
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=5, seed=0, record=nets.Record(weights="W2", weights_every=1))
    >>> parts = pca(run, window=(200, 400))
    >>> parts.n, parts.directions.shape, parts.projections(2).shape
    (200, (16, 16), (200, 2))
    """
    index = None
    if isinstance(source, Run):
        run, columns = source, source.weight_columns(block)
        index, steps = run.weights_index[columns], run.weight_steps(window)

        def rows() -> Iterator[Array]:
            return (value for _, value in run.iter_weights(block=block, window=window, rows=ROWS))
    else:
        if block is not None or window is not None:
            raise ValueError("block and window choose from a Run: slice the array instead")
        array: Any = source if hasattr(source, "shape") and hasattr(source, "dtype") else numbers("source", source)
        if len(array.shape) != 2:
            raise ValueError(f"the records must have shape (n, P): got {tuple(array.shape)}")
        steps = np.arange(array.shape[0], dtype=np.int64)

        def rows() -> Iterator[Array]:
            return (np.asarray(array[i : i + ROWS], dtype=np.float64) for i in range(0, len(steps), ROWS))

    if len(steps) < 2:
        raise ValueError(f"principal components need at least 2 records: got {len(steps)}")
    origin: Array = np.asarray(next(rows()).mean(axis=0, dtype=np.float64))  # not one record: that could lie far from all others
    if not np.isfinite(origin).all():
        origin = np.zeros_like(origin)  # the records are refused below, with a count
    size, n = len(origin), len(steps)
    most = min(size, n - 1)
    if n_directions is not None:
        integer("n_directions, at most min(P, n - 1),", n_directions, 1, most)
    keep = most if n_directions is None else int(n_directions)
    with single_threaded_blas():
        shift, variances, directions, total = (_by_rows if n <= size else _by_covariance)(rows, origin, n)
    directions = np.asfortranarray(directions[:, :keep])
    for column in directions.T:
        if column[np.abs(column).argmax()] < 0.0:
            np.negative(column, out=column)
    return PCA(origin + shift, variances[:keep], directions, total, n, steps, index, rows)


def _by_covariance(rows: Any, origin: Array, n: int) -> tuple[Array, Array, Array, float]:
    """Mean - origin, variances, directions, total variance through the covariance; memory P^2."""
    from scipy.linalg import eigh
    from scipy.linalg.blas import dsyr, dsyrk

    size = len(origin)
    if 8 * size * size > MAX_MATRIX_BYTES:
        raise ValueError(
            f"the covariance of {size} weights takes {8e-9 * size * size:.0f} GB (limit {1e-9 * MAX_MATRIX_BYTES:.0f} GB): choose "
            "a smaller block, or at most as many records as weights"
        )
    c, mean, buffer = np.zeros((size, size), order="F"), np.zeros(size), np.empty((min(ROWS, n), size))
    for part in rows():
        shifted = _shifted(part, origin, mean, buffer[: len(part)])
        c = dsyrk(1.0 / n, shifted.T, 1.0, c, lower=1, overwrite_c=1)  # the lower triangle only: half the work
    mean /= n
    c = dsyr(-1.0, mean, lower=1, a=c, overwrite_a=1)
    total = float(np.trace(c))
    values, vectors = eigh(c, lower=True, overwrite_a=True, check_finite=False, driver="evd")
    return mean, np.maximum(values[::-1], 0.0), vectors[:, ::-1], total


def _by_rows(rows: Any, origin: Array, n: int) -> tuple[Array, Array, Array, float]:
    """The same for at most as many records as weights, through the singular values of the centred records."""
    table, mean, at = np.empty((n, len(origin))), np.zeros(len(origin)), 0
    for part in rows():
        _shifted(part, origin, mean, table[at : at + len(part)])
        at += len(part)
    mean /= n
    table -= mean
    _, values, right = np.linalg.svd(table, full_matrices=False)
    return mean, values[: n - 1] ** 2 / n, right[: n - 1].T, float(np.sum(values**2) / n)


def _shifted(part: Array, origin: Array, total: Array, out: Array) -> Array:
    """part - origin, written to `out` and added to `total`."""
    np.subtract(part, origin, out=out)
    total += out.sum(axis=0)
    if not np.isfinite(total).all():
        raise ValueError(f"the records contain {np.count_nonzero(~np.isfinite(out))} non-finite numbers")
    return out
