"""Leading eigenpairs, spectral density and trace of Hessian, its parts, or gradient covariance, from products with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import positive
from ._lanczos import ORDERS, lanczos
from ._saved import Saved
from ._threads import single_threaded_blas
from .curvature import _layer_passes, gradient_covariance, second_derivatives
from .mlp import MLP
from .parameters import Model
from .products import Products, products

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpsolve import Estimate

__all__ = ["Eigenpairs", "SpectralDensity", "spectral_density", "top_eigenpairs", "trace"]

Array = NDArray[np.float64]

#: Up to this many weights the whole matrix is made and diagonalised.
DENSE_UP_TO = 2000
#: The same of networks of other packages, whose matrices are made of products.
DENSE_OF_MODELS = 200
#: Matrices that are sums of few squares: what they are, and who makes them.
LOW_RANK = {
    "covariance": ("covariance of {} gradients", "gradient_covariance"),
    "gauss-newton": ("Gauss-Newton matrix of {} samples", "gauss_newton"),
}
#: Names in pictures where the short ones do not do.
LONG_NAMES = {"gauss-newton": "Gauss-Newton matrix", "residual": "residual part of the hessian"}
#: The Lanczos vectors of the probes that run side by side take at most this many numbers (128 MB).
LANCZOS_NUMBERS = 16_000_000


@dataclass(frozen=True, eq=False)
class Eigenpairs(Saved):
    """Eigenvalues and eigenvectors of a block of the Hessian, one of its parts, or the gradient covariance.

    Attributes
    ----------
    values : ndarray, shape (k,)
        In the order asked for: largest, smallest, or largest magnitude first.
    vectors : ndarray, shape (size, k)
        Orthonormal columns; the largest component of each is positive.
    residuals : ndarray, shape (k,)
        `|A v - value v|`: an eigenvalue of A lies within this distance of the value.
    matrix : {"hessian", "gauss-newton", "residual", "covariance"}
    index : ndarray of intp, shape (size,)
        Positions of the block in theta.
    products : int
        Products with a vector that were needed; 0 if the matrix itself was made.
    """

    KIND: ClassVar[str] = "eigenpairs"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "values": ("mode", "loss/weight^2", "eigenvalues"),
        "vectors": ("weight mode", "1", "eigenvectors as columns"),
        "residuals": ("mode", "loss/weight^2", "norm of A v - value v"),
        "index": ("weight", "1", "position in theta"),
    }
    ROWS: ClassVar[str] = "mode"
    ERRORS: ClassVar[dict[str, str]] = {"values": "residuals"}

    values: Array
    vectors: Array = field(repr=False)
    residuals: Array
    matrix: str
    index: NDArray[np.intp] = field(repr=False)
    products: int

    def __repr__(self) -> str:
        ends = f"{self.values[0]:.6g} .. {self.values[-1]:.6g}"
        return (
            f"Eigenpairs({self.matrix}, {len(self.values)} of {len(self.index)}, values {ends}, "
            f"largest residual {self.residuals.max():.1g})"
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Eigenvalues by rank; `options` go to ``Axes.errorbar``, whose bars are the residuals."""
        from ._pictures import axes

        ax = axes(ax)
        style: dict[str, Any] = {"fmt": "o", "ms": 3} | options
        ax.errorbar(np.arange(1, len(self.values) + 1), self.values, yerr=self.residuals, **style)
        ax.set(xlabel="rank", ylabel=f"eigenvalue of the {LONG_NAMES.get(self.matrix, self.matrix)} [loss/weight$^2$]")
        return ax


def top_eigenpairs(
    mlp: MLP | Model,
    theta: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 20,
    block: str | Sequence[str] | None = None,
    matrix: str = "hessian",
    which: str = "largest",
    tol: float = 1e-6,
    seed: int = 0,
) -> Eigenpairs:
    """The k leading eigenpairs of a block of the Hessian, one of its parts, or the centred covariance of the per-sample gradients.

    Parameters
    ----------
    mlp, theta, x, y, block
        As in `nets.hessian`.
    k : int
    matrix : {"hessian", "gauss-newton", "residual", "covariance"}
    which : {"largest", "smallest", "magnitude"}
        Algebraically largest or smallest, or of largest magnitude.
    tol : float
        Lanczos stops where the residuals are below `tol` times the eigenvalues.
    seed : int
        Of the first Lanczos vector.

    Returns
    -------
    Eigenpairs

    Raises
    ------
    ValueError
        Bad arguments; the smallest of covariance or Gauss-Newton matrix for more than 2000 weights: they are zeros, or crowd there.
    fpsolve.FpsolveError
        Lanczos did not converge.

    Notes
    -----
    Up to 2000 weights (200 of a `TorchModel`) the matrix is made and diagonalised; beyond, Lanczos with a thick restart (K. Wu,
    H. Simon 2000) on exact products: memory twice 4 k + 20 vectors, whatever the number of samples. Of an eigenvalue that
    occurs many times some copies can be missed. BLAS runs with one thread meanwhile.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("digits"), nets.MLP((64, 40, 10))
    >>> found = top_eigenpairs(mlp, mlp.init(0), data.x_train, data.y_train, k=5)
    >>> found.vectors.shape, bool(found.residuals.max() < 1e-6 * found.values[0])
    ((3010, 5), True)
    """
    if which not in ORDERS:
        raise ValueError(f"which must be one of {tuple(ORDERS)}: got {which!r}")
    from fpsolve import FpsolveError

    operator = products(mlp, theta, x, y, block, matrix)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= operator.size:
        raise ValueError(f"k must lie in 1 .. {operator.size}, the number of weights: got {k!r}")
    positive("tol", tol)
    dense = operator.size <= (DENSE_OF_MODELS if isinstance(mlp, Model) else DENSE_UP_TO) or 5 * k >= operator.size
    if matrix in LOW_RANK and which == "smallest" and not dense:
        of, function = LOW_RANK[matrix]
        raise ValueError(
            f"the smallest eigenvalues of the {of.format(len(operator.x))} in {operator.size} directions are zeros or "
            f"crowd at zero, which Lanczos does not resolve: use numpy.linalg.eigvalsh(nets.{function}(...))"
        )
    with single_threaded_blas():
        if dense:
            if matrix == "covariance":
                whole = gradient_covariance(mlp, theta, x, y, block=block)
            else:
                whole = second_derivatives(mlp, theta, x, y, block, matrix)
            values, vectors = np.linalg.eigh(whole)
            order = np.argsort(ORDERS[which](values), kind="stable")[: int(k)]
            values, vectors = values[order], _signed(np.ascontiguousarray(vectors[:, order]))
            residuals = np.linalg.norm(whole @ vectors - values * vectors, axis=0)
            return Eigenpairs(values, vectors, residuals, matrix, operator.index, 0)
        values, vectors, residuals, converged = lanczos(operator, operator.size, int(k), which, tol, seed)
    if not converged:
        good = np.count_nonzero(residuals <= tol * np.abs(values))
        raise FpsolveError(
            f"Lanczos found {good} of {k} eigenpairs to tol={tol:g} in {operator.count} products: raise tol, or ask for fewer"
        )
    return Eigenpairs(values, _signed(vectors), residuals, matrix, operator.index, operator.count)


def _signed(vectors: Array) -> Array:
    """The columns with their largest component positive, in place."""
    top = np.abs(vectors).argmax(axis=0)
    vectors *= np.where(vectors[top, np.arange(vectors.shape[1])] < 0.0, -1.0, 1.0)
    return vectors


# ---- spectral density ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SpectralDensity(Saved):
    r"""Density of eigenvalues :math:`\rho(\lambda) = \frac1P \sum_i \delta(\lambda - \lambda_i)`, by stochastic Lanczos quadrature.

    Each probe vector gives a Gauss quadrature of :math:`\rho`, exact in expectation over the probes for polynomials up to degree
    2 steps - 1; the scatter between probes gives the errors.

    Attributes
    ----------
    nodes, weights : ndarray, shape (probes, steps)
        Nodes and weights (adding to 1) of each probe's quadrature; probes that ended early have weights 0.
    coarse_nodes, coarse_weights : ndarray, shape (probes, steps // 2)
        Those after half of the steps, from which the truncation is judged.
    size : int
        Number of weights P.
    matrix : {"hessian", "gauss-newton", "residual", "covariance"}
    seed : int
    """

    KIND: ClassVar[str] = "spectral density"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "nodes": ("probe node", "loss/weight^2", "nodes of the quadrature"),
        "weights": ("probe node", "1", "weights of the quadrature"),
        "coarse_nodes": ("probe coarse_node", "loss/weight^2", "nodes after half of the Lanczos steps"),
        "coarse_weights": ("probe coarse_node", "1", "weights after half of the Lanczos steps"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {"range": ("end", "loss/weight^2", "smallest and largest node")}
    ROWS: ClassVar[str] = "probe node"

    nodes: Array = field(repr=False)
    weights: Array = field(repr=False)
    coarse_nodes: Array = field(repr=False)
    coarse_weights: Array = field(repr=False)
    size: int
    matrix: str
    seed: int

    def __repr__(self) -> str:
        low, high = self.range
        return (
            f"SpectralDensity({self.matrix} of {self.size} weights, {len(self.nodes)} probes, {self.nodes.shape[1]} steps, "
            f"spectrum in {low:.4g} .. {high:.4g})"
        )

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest node: from inside, the ends of the spectrum."""
        seen = self.nodes[self.weights > 0.0]
        return float(seen.min()), float(seen.max())

    def _average(self, nodes: Array, weights: Array, values: Any) -> tuple[Array, Array]:
        each = np.array([weight @ values(node) for node, weight in zip(nodes, weights, strict=True)])
        return each.mean(axis=0), each.std(axis=0, ddof=1) / math.sqrt(len(each)) if len(each) > 1 else np.full_like(
            each[0], np.nan
        )

    def mean(self, function: Any) -> Estimate:
        """tr f(A) / P for a function f of arrays of eigenvalues, with the standard error over the probes.

        Its discretisation error is the change from half of the Lanczos steps.
        """
        from fpsolve import Estimate

        value, stderr = self._average(self.nodes, self.weights, function)
        coarse, _ = self._average(self.coarse_nodes, self.coarse_weights, function)
        return Estimate(
            float(value),
            stderr=float(stderr),
            discretization_error=abs(float(value - coarse)),
            method="stochastic Lanczos quadrature",
        )

    def cumulative(self, at: ArrayLike) -> tuple[Array, Array]:
        """Fraction of the eigenvalues up to each point, and its standard error over the probes."""
        at = np.asarray(at, dtype=np.float64)
        return self._average(self.nodes, self.weights, lambda nodes: (nodes[:, None] <= at.ravel()).astype(float))

    def density(self, at: ArrayLike, width: float) -> tuple[Array, Array, Array]:
        r"""The density seen through a Gaussian of standard deviation `width`.

        Parameters
        ----------
        at : array, shape (n,)
        width : float, > 0
            Not much below (largest - smallest eigenvalue) / steps: finer, single nodes show.

        Returns
        -------
        value, stderr, truncation : ndarray, shape (n,)
            The standard error is over the probes, the truncation the change from half of the Lanczos steps.
        """
        if not (math.isfinite(width) and width > 0.0):
            raise ValueError(f"width must be finite and > 0: got {width!r}")
        at = np.asarray(at, dtype=np.float64).ravel()

        def bell(nodes: Array) -> Array:
            return np.asarray(np.exp(-0.5 * ((at - nodes[:, None]) / width) ** 2) / (math.sqrt(2.0 * math.pi) * width))

        value, stderr = self._average(self.nodes, self.weights, bell)
        return value, stderr, np.abs(value - self._average(self.coarse_nodes, self.coarse_weights, bell)[0])

    def plot(self, ax: Axes | None = None, width: float | None = None, **options: Any) -> Axes:
        """Density with a band of two standard errors; default width: a hundredth of the range. `options` go to ``Axes.plot``."""
        from ._pictures import axes

        ax, (low, high) = axes(ax), self.range
        width = width or max(high - low, 1e-12 * max(abs(low), abs(high), 1e-300)) / 100.0
        at = np.linspace(low - 4.0 * width, high + 4.0 * width, 1000)
        value, stderr, _ = self.density(at, width)
        (line,) = ax.plot(at, value, **options)
        if np.isfinite(stderr).all():
            ax.fill_between(at, np.maximum(value - 2 * stderr, 0.0), value + 2 * stderr, color=line.get_color(), alpha=0.25, lw=0)
        ax.set(yscale="log", ylim=(1e-2 / (self.size * width), None))  # below: less than a hundredth of one eigenvalue
        name = LONG_NAMES.get(self.matrix, self.matrix)
        ax.set(xlabel=f"eigenvalue of the {name} [loss/weight$^2$]", ylabel="density [weight$^2$/loss]")
        return ax


def spectral_density(
    mlp: MLP | Model,
    theta: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    block: str | Sequence[str] | None = None,
    matrix: str = "hessian",
    probes: int = 10,
    steps: int = 80,
    seed: int = 0,
) -> SpectralDensity:
    """Spectral density of a block of the Hessian, one of its parts, or the gradient covariance, by stochastic Lanczos quadrature.

    Parameters
    ----------
    mlp, theta, x, y, block
        As in `nets.hessian`.
    matrix : {"hessian", "gauss-newton", "residual", "covariance"}
    probes : int
        Random vectors of signs; the standard errors fall as 1 / sqrt(probes).
    steps : int
        Lanczos steps per probe, at most the number of weights.
    seed : int
        Of the probes.

    Returns
    -------
    SpectralDensity

    Raises
    ------
    ValueError
        Bad arguments.

    Notes
    -----
    G. H. Golub and G. Meurant, Matrices, Moments and Quadrature (2010); S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal. Appl. 38,
    1075 (2017). Lanczos vectors are kept orthogonal by full reorthogonalisation; several probes run side by side, because a
    matrix product of several vectors costs less per vector. Memory: 128 MB of Lanczos vectors, whatever the number of samples.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("digits"), nets.MLP((64, 12, 10), activation="tanh", weight_decay=0.01)
    >>> density = spectral_density(mlp, mlp.init(0), data.x_train, data.y_train, probes=4, steps=30)
    >>> density.nodes.shape
    (4, 30)
    >>> exact = trace(mlp, mlp.init(0), data.x_train, data.y_train).value / mlp.dim
    >>> abs(density.mean(lambda eigenvalue: eigenvalue).value / exact - 1) < 0.3
    True
    """
    operator = products(mlp, theta, x, y, block, matrix)
    for name, value in (("probes", probes), ("steps", steps)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be a positive integer: got {value!r}")
    steps, half = min(int(steps), operator.size), max(1, min(int(steps), operator.size) // 2)
    vectors = np.random.default_rng(seed).choice([-1.0, 1.0], (int(probes), operator.size)) / math.sqrt(operator.size)
    together = max(1, min(8, LANCZOS_NUMBERS // (steps * operator.size)))
    fine, coarse = [], []
    with single_threaded_blas():
        for i in range(0, len(vectors), together):
            for alpha, beta in zip(*_lanczos(operator, vectors[i : i + together], steps), strict=True):
                fine.append(_gauss(alpha, beta))
                coarse.append(_gauss(alpha[:half], beta[: half - 1]))
    (nodes, weights), (coarse_nodes, coarse_weights) = (map(np.array, zip(*rules, strict=True)) for rules in (fine, coarse))
    return SpectralDensity(nodes, weights, coarse_nodes, coarse_weights, operator.size, matrix, seed)


def _lanczos(operator: Callable[[Array], Array], start: Array, steps: int) -> tuple[Array, Array]:
    """Diagonals (k, steps) and off-diagonals (k, steps - 1) of the Lanczos matrices of the unit rows of `start`.

    A probe whose invariant subspace is exhausted goes on with zeros: the matrix then falls apart, and the first part holds all.
    """
    k, size = start.shape
    basis, alpha, beta = np.zeros((k, steps, size)), np.zeros((k, steps)), np.zeros((k, max(steps - 1, 0)))
    basis[:, 0] = start
    for j in range(steps):
        w = operator(np.ascontiguousarray(basis[:, j]))
        alpha[:, j] = np.einsum("ks,ks->k", w, basis[:, j])
        if j == steps - 1:
            break
        scale = np.linalg.norm(w, axis=1)
        for i in range(k):
            for _ in range(2):  # twice is enough (Parlett)
                w[i] -= (basis[i, : j + 1] @ w[i]) @ basis[i, : j + 1]
        norm = np.linalg.norm(w, axis=1)
        norm[norm <= 1e-12 * scale] = 0.0
        beta[:, j] = norm
        basis[:, j + 1] = w / np.where(norm > 0.0, norm, np.inf)[:, None]
    return alpha, beta


def _gauss(alpha: Array, beta: Array) -> tuple[Array, Array]:
    """Nodes and weights of the quadrature of a Lanczos matrix (Golub and Welsch)."""
    from scipy.linalg import eigh_tridiagonal

    nodes, vectors = eigh_tridiagonal(alpha, beta)
    return nodes, vectors[0] ** 2


# ---- trace --------------------------------------------------------------------------------------------------------------


def trace(
    mlp: MLP | Model,
    theta: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    block: str | Sequence[str] | None = None,
    matrix: str = "hessian",
    probes: int | None = None,
    seed: int = 0,
) -> Estimate:
    r"""Trace of a block of the Hessian, one of its parts, or the centred covariance of the per-sample gradients.

    Parameters
    ----------
    mlp, theta, x, y, block
        As in `nets.hessian`.
    matrix : {"hessian", "gauss-newton", "residual", "covariance"}
    probes : int, optional
        Default: exact, in one pass, as fast as a few products. A number >= 2: Hutchinson's estimate :math:`\langle v^T A v
        \rangle` from that many random vectors of signs, with its standard error; for a check, or beside published estimates.
    seed : int
        Of the probes.

    Returns
    -------
    fpsolve.Estimate

    Raises
    ------
    ValueError
        Bad arguments.

    Notes
    -----
    Exact, with :math:`\tilde a` the inputs of a layer (and 1 for its bias): :math:`\mathrm{tr}\,H = \sum_l \langle |\tilde
    a_{l-1}|^2\, \mathrm{tr}\, \partial^2 \ell / \partial z_l^2 \rangle + \lambda P` and :math:`\mathrm{tr}\,C = \sum_l \langle
    |\tilde a_{l-1}|^2 |\delta_l|^2 \rangle - |\bar g|^2`.

    Examples
    --------
    >>> mlp = MLP((1, 1), loss="mse")
    >>> trace(mlp, [0.3, 0.1], [[1.0], [3.0]], [[0.0], [1.0]]).value
    6.0
    """
    from fpsolve import Estimate

    operator = products(mlp, theta, x, y, block, matrix)
    if probes is None:
        if isinstance(mlp, Model):
            raise ValueError(f"the exact trace is for nets.MLP: give probes=, say 50, for {mlp!r}")
        return Estimate(_exact_trace(operator), method="exact")
    if isinstance(probes, bool) or not isinstance(probes, (int, np.integer)) or probes < 2:
        raise ValueError(f"probes must be an integer >= 2, or None for the exact trace: got {probes!r}")
    rng, values = np.random.default_rng(seed), np.empty(int(probes))
    with single_threaded_blas():
        for i in range(0, len(values), 8):
            v = rng.choice([-1.0, 1.0], (min(8, len(values) - i), operator.size))
            values[i : i + 8] = np.einsum("ks,ks->k", v, operator(v))
    return Estimate(float(values.mean()), stderr=float(values.std(ddof=1) / math.sqrt(len(values))), method="Hutchinson")


def _exact_trace(operator: Products) -> float:
    mlp, wanted, total = operator.mlp, operator.wanted, 0.0
    for a, delta, curvature in _layer_passes(mlp, operator.theta, operator.x, operator.t, operator.first, operator.matrix):
        for name in wanted:
            layer = int(name[1:])
            size = np.einsum("ni,ni->n", a[layer - 1], a[layer - 1]) if name[0] == "W" else np.ones(len(a[0]))
            if operator.terms:
                each = np.einsum("njj->n", curvature[layer])
            else:
                each = np.einsum("nj,nj->n", delta[layer - 1], delta[layer - 1])
            total += float(size @ each)
    if operator.terms:
        return total / len(operator.x) + mlp.weight_decay * operator.size * operator.terms.output
    mean = operator.mean_gradient()
    return total / len(operator.x) - float(mean @ mean)
