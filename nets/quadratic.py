"""Volume of a quadratic basin: the sum of the logarithms of the leading eigenvalues of the Gauss-Newton matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import integer, of_kind
from ._output_rows import gram, passes, rows_per_sample, weight_rows
from ._saved import Saved
from .curvature import MAX_MATRIX_BYTES, gauss_newton
from .mlp import MLP
from .spectrum import top_eigenpairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["QuadraticVolume", "quadratic_volume"]

Array = NDArray[np.float64]

#: Up to this size the eigenvalues are squares of singular values, which holds twice as many digits.
FACTOR_UP_TO = 3000
#: Eigenvalues below this are no doubles of full precision.
TINY = float(np.finfo(float).tiny)
#: The rows of which singular values are taken have at most this many numbers (400 MB).
FACTOR_NUMBERS = 50_000_000


@dataclass(frozen=True, eq=False)
class QuadraticVolume(Saved):
    r"""Sum of the logarithms of the k leading eigenvalues of the Gauss-Newton matrix; made by `quadratic_volume`.

    .. math:: \ln V = \mathrm{const} - \frac12 \sum_{i \le k} \ln \lambda_i

    Attributes
    ----------
    eigenvalues : ndarray, shape (rank,)
        Those that stand above rounding (or, for Lanczos, the k asked for), the largest first; weight decay included. Those below
        2e-308, which no double holds, are left out.
    k : int
        How many are summed.
    limit : int
        What the rank can be at most: min(N outputs, P); with cross-entropy min(N (outputs - 1), P).
    floor : float
        Eigenvalues without weight decay up to this are rounding, and left out; 2e-308 where all are right to their own last digits.
    loss : float
        Of the data, without weight decay.
    size : int
        Number of weights P.

    Examples
    --------
    >>> volume = QuadraticVolume(np.array([4.0, 1.0, 0.25]), 2, 3, 1e-15, 0.0, 10)
    >>> volume.value, volume.slope, volume.at([1, 2, 3])
    (1.3862943611198906, 0.0, array([1.38629436, 1.38629436, 0.        ]))
    """

    eigenvalues: Array = field(repr=False)
    k: int
    limit: int
    floor: float
    loss: float
    size: int
    KIND: ClassVar[str] = "quadratic volume"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "eigenvalues": ("mode", "loss/weight^2", "leading eigenvalues of the Gauss-Newton matrix"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "value": ("", "", "sum of the k leading logarithms"),
        "slope": ("", "", "its change with the last eigenvalue"),
    }
    ROWS: ClassVar[str] = "mode"

    def __repr__(self) -> str:
        known = f"rank {self.rank} of {self.limit}"
        return f"QuadraticVolume(sum of {self.k} logarithms {self.value:.6g}, slope {self.slope:.4g}, {known})"

    @property
    def rank(self) -> int:
        """Number of eigenvalues known."""
        return len(self.eigenvalues)

    @property
    def value(self) -> float:
        r""":math:`\sum_{i \le k} \ln \lambda_i`."""
        return float(self.at(self.k))

    @property
    def slope(self) -> float:
        """By how much the sum changes with the last eigenvalue: ln lambda_k."""
        return float(np.log(self.eigenvalues[self.k - 1]))

    def at(self, k: ArrayLike) -> Array:
        """The sum over the first k, for any numbers k: of several nets compare the sums over one number."""
        counts = np.asarray(k)
        if not np.issubdtype(counts.dtype, np.integer) or counts.size == 0 or counts.min() < 1 or counts.max() > self.rank:
            raise ValueError(f"k must be integers in 1 .. {self.rank}, the number of eigenvalues above rounding: got {k!r}")
        return np.asarray(np.cumsum(np.log(self.eigenvalues))[counts - 1])

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """The sum against k, with a point at the k chosen; `options` go to ``Axes.plot``."""
        from ._pictures import axes

        ax = axes(ax)
        (line,) = ax.plot(np.arange(1, self.rank + 1), self.at(np.arange(1, self.rank + 1)), **options)
        ax.plot([self.k], [self.value], "o", color=line.get_color())
        ax.set(xlabel="k", ylabel=r"$\sum_{i \leq k} \ln \lambda_i$")
        return ax


def quadratic_volume(mlp: MLP, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, k: int | None = None) -> QuadraticVolume:
    r"""Quadratic estimate of how large the basin of a minimum is: the sum of ln lambda over the k leading eigenvalues of G.

    The other directions are taken for equally flat in all minima compared. G, not H: it is positive semidefinite, and at zero loss
    of "mse" it is H.

    Parameters
    ----------
    mlp, theta, x, y
        As in `nets.hessian`.
    k : int, optional
        Default: the rank of G, as far as it stands above rounding. Nets are compared at one k, see `QuadraticVolume.at`.

    Returns
    -------
    QuadraticVolume

    Raises
    ------
    ValueError
        Bad arguments; a k beyond the rank that G can have; too many samples and weights for all eigenvalues.
    fpsolve.FpsolveError
        A k beyond the eigenvalues that stand above rounding.

    Notes
    -----
    The sum is dominated by the smallest eigenvalues kept. With "mse" they depend on how far the fit was driven; with
    "cross_entropy" all of G goes with 1 - p of the true class near zero loss, so that the sum falls by about k with each e-fold of
    the loss: stop all nets at one loss. The eigenvalues of "cross_entropy" go down with the probabilities of the least probable
    classes, over tens of decades in nets that have learnt false labels, and the sum over all says little but these. Rescaling of
    relu units changes the sum and not the network: `nets.rescaled_trace` finds weights that all rescaled copies have in common.

    Sizes up to 3000 of the smaller side (weights, or samples times outputs): singular values of the rows :math:`S_n J_n / \sqrt
    N`, :math:`S^T S = B`, so that eigenvalues down to 1e-24 of the largest are right. Where the rows are fewer than the weights,
    one-sided Jacobi rotations find each to relative accuracy, however far down: G has full rank unless the rows, scaled to one
    length, are dependent. They can be where hidden units saturate; known are then eigenvalues above the squares of the rows that
    depend on longer ones. Beyond that size: eigenvalues of the rows' matrix of products (the neural tangent kernel), or of G,
    whichever is smaller, right above 1e-12 or so of the largest; the matrix takes at most 4 GB. Where k is below a fifth of its
    size: Lanczos.

    L. Wu, Z. Zhu, W. E, arXiv:1706.10239. Z. Drmac, K. Veselic, SIAM J. Matrix Anal. Appl. 29, 1322 and 1343 (2008), for the
    singular values of graded rows.

    Examples
    --------
    Linear regression on two samples has G = mean (x, 1)(x, 1)^T, of determinant 1:

    >>> mlp = MLP((1, 1), loss="mse")
    >>> volume = quadratic_volume(mlp, [0.3, 0.1], [[1.0], [3.0]], [[0.0], [1.0]])
    >>> volume.k, abs(volume.value) < 1e-12
    (2, True)
    """
    of_kind(mlp, MLP, "mlp", "nets.MLP((64, 20, 10))")
    weights, (inputs, t) = mlp.check_point(theta), mlp.check_samples(x, y)
    plain = MLP(**{**mlp.spec, "weight_decay": 0.0})
    rows = len(inputs) * rows_per_sample(mlp)
    limit = min(rows, mlp.dim)
    if k is not None:
        integer("k", k, 1, limit)
    values, floor = _eigenvalues(plain, weights, inputs, t, rows, k)
    kept = values[values > floor] + mlp.weight_decay
    if len(kept) < (1 if k is None else k):
        from fpsolve import FpsolveError

        raise FpsolveError(
            f"{len(kept)} eigenvalues of G stand above rounding, {floor:.1g}: "
            + ("no direction is curved" if k is None else f"the logarithms of k = {k} are not known, take k <= {len(kept)}")
        )
    return QuadraticVolume(kept, len(kept) if k is None else int(k), limit, floor, plain.loss(weights, inputs, t), mlp.dim)


def _eigenvalues(mlp: MLP, theta: Array, x: Array, t: Array, rows: int, k: int | None) -> tuple[Array, float]:
    """Eigenvalues of G, the largest first, and up to where they are rounding."""
    from scipy.linalg import eigh

    small = min(rows, mlp.dim)
    if mlp.dim <= FACTOR_UP_TO or (rows <= FACTOR_UP_TO and rows * mlp.dim <= FACTOR_NUMBERS):
        singular, rounding = _singular_values(mlp, theta, x, t, rows)
        return singular**2 / len(x), max(rounding**2 / len(x), TINY)
    if k is not None and 5 * k < small:
        pairs = top_eigenpairs(mlp, theta, x, t, k=k, matrix="gauss-newton")
        return pairs.values, float(mlp.dim * np.finfo(float).eps * pairs.values[0])
    if 8 * small * small > MAX_MATRIX_BYTES:
        raise ValueError(
            f"all eigenvalues of G need a matrix of {small} rows, {8e-9 * small * small:.0f} GB (limit "
            f"{1e-9 * MAX_MATRIX_BYTES:.0f} GB): take fewer samples, or k < {small // 5}"
        )
    if rows < mlp.dim:
        matrix = gram(mlp, theta, x, t)
        matrix /= len(x)
    else:
        matrix = gauss_newton(mlp, theta, x, t)
    values = eigh(matrix.T, eigvals_only=True, overwrite_a=True, check_finite=False, driver="evd")[::-1]  # .T: in place
    return values, float(small * np.finfo(float).eps * values[0])


def _singular_values(mlp: MLP, theta: Array, x: Array, t: Array, rows: int) -> tuple[Array, float]:
    """Of the rows S_n J_n of all samples, the largest first, and up to where they are rounding.

    Where weights are few, chunk by chunk through triangles.
    """
    from scipy.linalg import svdvals

    wide = rows < mlp.dim
    room = rows if wide else min(rows, FACTOR_NUMBERS // mlp.dim)
    table, used = (np.empty((rows, mlp.dim)) if wide else np.empty((mlp.dim, room)).T), 0
    for a, d in passes(mlp, theta, x, t, mlp.dim):
        more = weight_rows(mlp, a, d)
        if used + len(more) > room:
            triangle = _triangle(table[:used])
            used = len(triangle)
            table[:used] = triangle
        table[used : used + len(more)] = more
        used += len(more)
    if wide:
        return _graded_singular_values(table)
    values = np.asarray(svdvals(_triangle(table[:used])))
    return values, float(values[0]) * max(rows, mlp.dim) * float(np.finfo(float).eps)


def _graded_singular_values(table: Array) -> tuple[Array, float]:
    """Singular values of fewer rows than columns, the largest first, and up to where they are rounding.

    Rounding disturbs each row by so much of its own length. While the rows, scaled to one length, are independent, that amounts
    to a small relative change of all singular values. If only the longest are, it does so for values above the norm of the others;
    and values far enough above the rounding of the largest are right in any case.
    """
    from scipy.linalg.lapack import dgejsv

    lengths = np.linalg.norm(table, axis=1)
    order = np.argsort(-lengths)
    order = order[lengths[order] > math.sqrt(TINY)]
    values = np.zeros(len(table))
    if not len(order):
        return values, 0.0
    longest, rounding = lengths[order], max(table.shape) * float(np.finfo(float).eps)
    scaled = table[order]
    scaled /= longest[:, None]
    triangle = _triangle(scaled.T)
    left = np.linalg.norm(longest[_independent(triangle, rounding) :])
    triangle *= longest
    found, _, _, work, _, info = dgejsv(triangle, joba=0, jobu=3, jobv=3, jobr=0, jobt=1, overwrite_a=True)  # C, N, N, N, N
    if info:
        from fpsolve import FpsolveError

        raise FpsolveError(
            f"singular values of {len(order)} rows were not found: LAPACK's dgejsv returned {info}; give k=, "
            "which takes another way"
        )
    values[: len(order)] = np.sort(found)[::-1] * (work[0] / work[1])
    return values, float(min(left, rounding * values[0]))


def _independent(triangle: Array, rounding: float) -> int:
    """How many of the first columns are independent: their smallest singular value is above rounding."""
    from scipy.linalg.lapack import dpocon

    low, high = 1, len(triangle)
    while low < high:
        middle = (low + high + 1) // 2
        inverse, _ = dpocon(triangle[:middle, :middle], 1.0)  # 1 / |(R^T R)^-1|
        low, high = (middle, high) if inverse > rounding**2 else (low, middle - 1)
    return low


def _triangle(table: Array) -> Array:
    """R of table = Q R, square: it has the same singular values. A table in Fortran's order is overwritten."""
    from scipy.linalg import qr

    return np.asarray(qr(table, mode="r", overwrite_a=True, check_finite=False)[0][: table.shape[1]])
