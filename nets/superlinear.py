"""How gradient noise grows with curvature: C against H, and against the mean square of the samples' Hessians, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import of_kind
from ._saved import Saved
from ._threads import single_threaded_blas
from .curvature import _layer_passes, gradient_covariance, hessian
from .mlp import CHUNK_NUMBERS, MLP
from .power_laws import PowerLaw, power_law
from .spectrum import top_eigenpairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NoiseCurvature", "noise_against_curvature"]

Array = NDArray[np.float64]

#: Up to this many weights H and C are made as matrices.
DENSE_UP_TO = 3000


@dataclass(frozen=True, eq=False, repr=False)
class NoiseCurvature(Saved):
    r"""Noise along the eigenvectors of the Hessian of one layer; made by `noise_against_curvature`.

    Attributes
    ----------
    curvature : ndarray, shape (k,)
        Eigenvalues of H, the largest first.
    noise : ndarray, shape (k,)
        v.C v, per sample.
    squared : ndarray, shape (k,)
        v.E[h_p^2] v, with h_p the Hessian of sample p.
    commutator : float
        ||C H - H C|| / (||C|| ||H||), Frobenius; NaN for blocks beyond 3000 weights.
    turned : float
        The same with H turned at random in the space of all weights of the block. There it is about sqrt(2/weights) whatever the
        matrices, small for large blocks.
    turned_within : float
        The same within the span of the k eigenvectors, C and H restricted to it and H turned there: the stricter comparison.
    within : float
        The commutator of the two restricted to it.
    block : str

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("digits"), nets.MLP((64, 12, 10))
    >>> run = nets.train(mlp, data, lr=0.1, batch=20, epochs=20, record=nets.Record(weights=None))
    >>> found = nets.noise_against_curvature(mlp, run.theta, data.x_train, data.y_train, block="W2", k=60)
    >>> bool(0.9 < found.against_curvature().exponent < 2.0), found.commutator < found.turned
    (True, True)
    """

    curvature: Array
    noise: Array
    squared: Array
    commutator: float
    turned: float
    within: float
    turned_within: float
    block: str
    KIND: ClassVar[str] = "noise against curvature"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "curvature": ("direction", "loss/weight^2", "eigenvalues of H"),
        "noise": ("direction", "loss^2/weight^2", "v . C v, per sample"),
        "squared": ("direction", "loss^2/weight^4", "v . E[h^2] v"),
    }
    ROWS: ClassVar[str] = "direction"

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Noise against curvature with the power law; `options` go to ``Axes.loglog``."""
        from .plotting import plot_power_law

        ax = plot_power_law(*self._kept(self.curvature, self.noise, 1e-3), ax=ax, **options)
        ax.set(xlabel="$H_{ii}$", ylabel="$C_{ii}$")
        return ax

    def against_curvature(self, floor: float = 1e-3) -> PowerLaw:
        """C_ii against H_ii, C ~ H^gamma, over the eigenvalues above `floor` times the largest."""
        return power_law(*self._kept(self.curvature, self.noise, floor))

    def against_squares(self, floor: float = 1e-3) -> PowerLaw:
        """C_ii against E[h_p^2]_ii over the same directions: exponent 1 where samples see one landscape at shifted weights."""
        return power_law(*self._kept(self.squared, self.noise, floor))

    def _kept(self, x: Array, y: Array, floor: float) -> tuple[Array, Array]:
        keep = self.curvature > floor * self.curvature[0]
        return x[keep], y[keep]


def noise_against_curvature(
    mlp: MLP, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str = "W2", k: int = 100, seed: int = 0
) -> NoiseCurvature:
    r"""Gradient noise and curvature of one layer of weights, along the k leading eigenvectors of its Hessian.

    If samples see one landscape at weights shifted at random, :math:`g_p = h_p (w - w_p)` with isotropic w_p, then

    .. math:: C \propto E_p[h_p^2], \qquad H = E_p[h_p], \qquad C_{ii} \propto H_{ii}^\gamma, \quad 1 \le \gamma \le 2 ,

    gamma = 2 where samples share the curvature of a direction up to a factor, 1 where a direction is curved for few samples, the
    more of them the larger its mean. Of one layer, :math:`h_p = a a^T \otimes M_p` with its inputs a and the second derivatives
    M_p by its preactivations, so that :math:`|h_p v|^2 = |a|^2 |M_p V^T a|^2`: exact, and no matrix per sample is formed. The
    weight decay is left out: it is no noise.

    Parameters
    ----------
    mlp, theta, x, y
        As in `nets.hessian`.
    block : str
        The weights of one layer, "W1", "W2", ...
    k : int
    seed : int
        Of the random rotations.

    Returns
    -------
    NoiseCurvature

    Raises
    ------
    ValueError
        No such block, or k out of range.
    fpsolve.FpsolveError
        Lanczos did not converge (blocks above 3000 weights).

    References
    ----------
    Y. Zhang, N. Yang, Y. Tu, arXiv:2602.05600: C ~ E[h^2], per layer; the form of h_p above is derived here.
    """
    of_kind(mlp, MLP, "mlp", "nets.MLP((2, 4, 2), ...)")
    if not isinstance(block, str) or block not in mlp.blocks or block[0] != "W":
        raise ValueError(f"block must be one of {[b for b in mlp.blocks if b[0] == 'W']}: got {block!r}")
    size = len(mlp.block_index(block))
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 3 <= k <= size:
        raise ValueError(f"k must lie in 3 .. {size}, the number of weights: got {k!r}")
    plain, k = MLP(**{**mlp.spec, "weight_decay": 0.0}), int(k)
    theta, (inputs, targets) = plain.check_theta(theta), plain.check_samples(x, y)
    rng = np.random.default_rng(seed)
    dense = size <= DENSE_UP_TO
    with single_threaded_blas():
        if dense:
            H, C = hessian(plain, theta, x, y, block=block), gradient_covariance(plain, theta, x, y, block=block)
            values, vectors = np.linalg.eigh(H)
            values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
        else:
            pairs = top_eigenpairs(plain, theta, x, y, k=k, block=block)
            values, vectors = pairs.values, pairs.vectors
        noise, squared = _along(plain, theta, inputs, targets, int(block[1:]), vectors)
        facts = _commutators(C, H, values, vectors, rng) if dense else (math.nan,) * 4
    return NoiseCurvature(values, noise, squared, *facts, block)


def _along(mlp: MLP, theta: Array, x: Array, t: Array, layer: int, vectors: Array) -> tuple[Array, Array]:
    """v.C v and v.E[h^2] v of each column."""
    m, n, k = mlp.widths[layer - 1], mlp.widths[layer], vectors.shape[1]
    first, second, square = np.zeros(k), np.zeros(k), np.zeros(k)
    stride = max(1, CHUNK_NUMBERS // (8 * 400 * n))  # vectors at once: tables of 400 samples x n x stride numbers
    for a, delta, curvature in _layer_passes(mlp, theta, x, t, layer, "hessian"):
        inputs, slopes, M = a[layer - 1], delta[layer - 1], curvature[layer]
        weight = np.einsum("pi,pi->p", inputs, inputs)
        for i in range(0, k, stride):
            part = vectors[:, i : i + stride]
            u = (inputs @ part.reshape(m, -1)).reshape(len(inputs), n, -1)
            along = np.einsum("pjv,pj->pv", u, slopes)
            bent = np.matmul(M, u)
            first[i : i + stride] += along.sum(axis=0)
            second[i : i + stride] += np.einsum("pv,pv->v", along, along)
            square[i : i + stride] += np.einsum("pjv,pjv,p->v", bent, bent, weight, optimize=True)
    return second / len(x) - (first / len(x)) ** 2, square / len(x)


def _commutators(C: Array, H: Array, values: Array, vectors: Array, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Relative commutators: of C and H, with H turned, of both within the span of the vectors, with H turned there."""
    size, k = vectors.shape

    def relative(product: Array, left: Array, right: float) -> float:
        return float(np.linalg.norm(product - product.T) / (np.linalg.norm(left) * right))

    whole = relative(C @ H, C, float(np.linalg.norm(H)))
    frame = np.linalg.qr(rng.standard_normal((size, k)))[0]
    turned = relative((C @ frame * values) @ frame.T, C, float(np.linalg.norm(values)))
    inner = vectors.T @ C @ vectors
    inside = relative(inner * values, inner, float(np.linalg.norm(values)))
    R = np.linalg.qr(rng.standard_normal((k, k)))[0]
    return whole, turned, inside, relative(inner @ (R * values @ R.T), inner, float(np.linalg.norm(values)))
