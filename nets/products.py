"""Products of Hessian, Gauss-Newton matrix and gradient covariance with vectors, without the matrices: any block, any samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers
from ._kernels_sparse import SparseRows
from .curvature import TERMS
from .mlp import CHUNK_NUMBERS, MLP, check_network, softmax
from .parameters import Model

__all__ = ["Products", "covariance_vector_product", "hessian_vector_product", "products"]

Array = NDArray[np.float64]

MATRICES = (*TERMS, "covariance")
#: Samples that go through the network at once: beyond, the first layer's matrix products leave the processor's cache.
ROWS = 500
#: Activations at theta are kept between products as long as they take at most this many numbers (64 MB).
CACHE_NUMBERS = CHUNK_NUMBERS
#: Vectors multiplied at once.
VECTORS = 8


_Moved = dict[int, tuple[Array, Array]]


class _Pass(NamedTuple):
    """What one chunk of samples needs at theta for any product."""

    a: list[Array]  # inputs of the layers: x, a_1, ..., a_{L-1}
    delta: list[Array]  # d l_n / d z_1, ..., d l_n / d z_L
    p: Array  # softmax of the outputs; empty for mse
    weight: Array  # (n, 1) sum of each target row; empty for mse
    sparse: SparseRows | None  # x, where it is mostly zeros and a product needs it


class Products:
    r"""Hessian, one of its two parts, or centred covariance of the per-sample gradients of a block, as a linear operator.

    .. math:: H v = \lim_{\epsilon \to 0} (\nabla L(\theta + \epsilon v) - \nabla L(\theta)) / \epsilon, \qquad
              C v = \frac{1}{N} \sum_n g_n\, (g_n - \bar g) \cdot v

    H v by Pearlmutter's R-operator (Neural Computation 6, 147, 1994). Of it the Gauss-Newton product G v = < J^T B J v >, with the
    Jacobian J of the outputs and the second derivatives B of the loss by them, has what comes down from the outputs; the residual
    part (H - G) v what changes on the way down. C v with :math:`g_n \cdot v` layer by layer, so that no
    per-sample gradient is formed. Samples go in chunks; what the network gives at theta is kept between products while it is small
    (64 MB), and made anew otherwise. Layers below the block are not touched by the vectors.
    Samples that are mostly zeros, such as images, are multiplied with one vector as sparse rows.

    Parameters
    ----------
    mlp, theta, x, y, block
        As in `nets.hessian`.
    matrix : {"hessian", "gauss-newton", "residual", "covariance"}
        "residual": H - G. Hessian and Gauss-Newton matrix include the weight decay, the others have none.

    Attributes
    ----------
    index : ndarray of intp
        Positions of the block in theta.
    count : int
        Products with single vectors so far.

    Raises
    ------
    ValueError
        Wrong shapes, unknown block or matrix.

    Examples
    --------
    >>> mlp = MLP((1, 1), loss="mse")
    >>> Products(mlp, [0.3, 0.1], [[1.0], [3.0]], [[0.0], [1.0]])(np.eye(2))
    array([[5., 2.],
           [2., 1.]])
    """

    def __init__(
        self,
        mlp: MLP,
        theta: ArrayLike,
        x: ArrayLike,
        y: ArrayLike,
        *,
        block: str | Sequence[str] | None = None,
        matrix: str = "hessian",
    ) -> None:
        check_matrix(matrix)
        self.mlp, self.theta, (self.x, self.t) = mlp, mlp.check_point(theta), mlp.check_samples(x, y)
        self.matrix, self.index, self.count = matrix, mlp.block_index(block), 0
        self.terms = TERMS.get(matrix)  # None: the covariance
        self.parts = mlp.unpack(self.theta)
        inside = np.zeros(mlp.dim, dtype=bool)
        inside[self.index] = True
        self.wanted = {name for name, part in mlp.blocks.items() if inside[part.start]}
        self.first = min(int(name[1:]) for name in self.wanted)
        self.rows = max(1, min(ROWS, CHUNK_NUMBERS // (4 * VECTORS * sum(mlp.widths[1:]))))
        self._kept: list[_Pass] | None = None
        self._mean: Array | None = None

    @property
    def size(self) -> int:
        """Number of weights in the block."""
        return len(self.index)

    def __call__(self, v: ArrayLike) -> Array:
        """The products with one vector, shape (size,), or with the rows of an array (k, size)."""
        v = numbers("v", v)
        if v.ndim not in (1, 2) or v.shape[-1] != self.size:
            raise ValueError(f"v must have shape ({self.size},) or (k, {self.size}): got {v.shape}")
        if not np.isfinite(v).all():
            raise ValueError(f"v must be finite: got {np.count_nonzero(~np.isfinite(v))} non-finite numbers")
        rows = np.atleast_2d(v)
        result = np.empty_like(rows)
        for i in range(0, len(rows), VECTORS):
            result[i : i + VECTORS] = self._several(rows[i : i + VECTORS])
        self.count += len(rows)
        return result.reshape(v.shape)

    def _several(self, v: Array) -> Array:
        k, mlp = len(v), self.mlp
        full = np.zeros((k, mlp.dim))
        full[:, self.index] = v
        direction = {name: _side_by_side(full[:, part], name, mlp) for name, part in mlp.blocks.items() if name in self.wanted}
        sums = {name: np.zeros_like(array) for name, array in direction.items()}
        shift = v @ self.mean_gradient() if self.matrix == "covariance" else None
        for passed in self._passes():
            if shift is None:
                self._curvature_chunk(passed, direction, sums, k)
            else:
                self._covariance_chunk(passed, direction, sums, shift)
        for name, array in sums.items():
            rows = array.shape[0] if name[0] == "W" else 1
            part = mlp.blocks[name]
            full[:, part] = array.reshape(rows, k, -1).transpose(1, 0, 2).reshape(k, -1)
        result = full[:, self.index] / len(self.x)
        if self.terms and self.terms.output:
            result += mlp.weight_decay * v
        return np.asarray(result)

    # ---- chunks ---------------------------------------------------------------------------------------------------------

    def _passes(self) -> Any:
        if self._kept is not None:
            yield from self._kept
            return
        numbers = len(self.x) * (2 * sum(self.mlp.widths[1:]) + self.mlp.widths[-1])
        kept: list[_Pass] = []
        for i in range(0, len(self.x), self.rows):
            t = self.t[i : i + self.rows]
            a = self.mlp.forward(self.theta, self.x[i : i + self.rows])
            delta = self.mlp.backward(self.theta, a, t)
            soft = self.mlp.loss_name == "cross_entropy"
            p, weight = (softmax(a[-1]), t.sum(axis=1, keepdims=True)) if soft else (t[:, :0], t[:, :0])
            sparse = SparseRows.where_it_pays(a[0]) if self.first == 1 and self.terms else None
            passed = _Pass(a[:-1], delta, p, weight, sparse)
            if numbers <= CACHE_NUMBERS:
                kept.append(passed)
            yield passed
        if kept:
            self._kept = kept

    def _moved(self, passed: _Pass, direction: dict[str, Array], sparse: SparseRows | None, k: int) -> _Moved:
        """R{z}, R{a} of each layer, of shape (n, k, width)."""
        mlp, last, n, a = self.mlp, self.mlp.n_layers, len(passed.a[0]), passed.a
        moved: _Moved = {}
        for layer in range(self.first, last + 1):
            width = mlp.widths[layer]
            rz = np.zeros((n, k, width))
            if f"W{layer}" in direction and layer == 1 and sparse is not None:
                sparse.times(direction["W1"], rz.reshape(n, -1))
            elif f"W{layer}" in direction:
                np.matmul(a[layer - 1], direction[f"W{layer}"], out=rz.reshape(n, -1))
            if f"b{layer}" in direction:
                rz += direction[f"b{layer}"].reshape(k, width)
            if layer > self.first:
                below = moved[layer - 1][1]
                rz += (below.reshape(n * k, -1) @ self.parts[f"W{layer}"]).reshape(n, k, width)
            moved[layer] = (rz, rz * mlp.slope(a[layer])[:, None, :] if layer < last else rz)
        return moved

    def _curvature_chunk(self, passed: _Pass, direction: dict[str, Array], sums: dict[str, Array], k: int) -> None:
        """Add the R-derivative of each sample's gradient, or one of its parts; R{delta} has shape (n, k, width)."""
        assert self.terms is not None
        mlp, last, n = self.mlp, self.mlp.n_layers, len(passed.a[0])
        a, delta = passed.a, passed.delta
        sparse = passed.sparse if k == 1 else None  # BLAS makes up for the zeros where the matrices are wide
        moved = self._moved(passed, direction, sparse, k)
        rd = moved[last][1]
        if not self.terms.output:
            rd = np.zeros_like(rd)
        elif mlp.loss_name == "cross_entropy":
            p = passed.p[:, None, :]
            rd = p * (rd - (p * rd).sum(axis=2, keepdims=True)) * passed.weight[:, :, None]
        for layer in range(last, self.first - 1, -1):
            if f"W{layer}" in sums and layer == 1 and sparse is not None:
                sparse.add_transposed_times(rd.reshape(n, -1), sums["W1"])
            elif f"W{layer}" in sums:
                sums[f"W{layer}"] += a[layer - 1].T @ rd.reshape(n, -1)
                if layer > self.first and self.terms.residual:
                    moving = moved[layer - 1][1].reshape(n, -1).T @ delta[layer - 1]  # (k width_below, width)
                    rows = mlp.widths[layer - 1]
                    sums[f"W{layer}"].reshape(rows, k, -1)[...] += moving.reshape(k, rows, -1).transpose(1, 0, 2)
            if f"b{layer}" in sums:
                sums[f"b{layer}"] += rd.sum(axis=0).ravel()
            if layer > self.first:
                rd = self._pull_back(layer, rd, passed, direction, moved[layer - 1][0])

    def _pull_back(self, layer: int, rd: Array, passed: _Pass, direction: dict[str, Array], rz: Array) -> Array:
        """R{delta} of layer - 1 from that of `layer`: R of delta_{l-1} = (delta_l W_l^T) f'(z_{l-1})."""
        n, k, width = rd.shape
        a = passed.a[layer - 1]
        lower = (rd.reshape(n * k, width) @ self.parts[f"W{layer}"].T).reshape(n, k, -1)
        residual = self.terms is not None and self.terms.residual
        if residual and f"W{layer}" in direction:
            rows = a.shape[1]
            across = direction[f"W{layer}"].reshape(rows, k, width).transpose(2, 1, 0).reshape(width, k * rows)
            lower += (passed.delta[layer - 1] @ across).reshape(n, k, rows)
        lower *= self.mlp.slope(a)[:, None, :]
        if residual and self.mlp.activation == "tanh":  # f'' = -2 f f', and delta_{l-1} holds the factor f'
            lower += (-2.0 * a * passed.delta[layer - 2])[:, None, :] * rz
        return lower

    def _covariance_chunk(self, passed: _Pass, direction: dict[str, Array], sums: dict[str, Array], shift: Array) -> None:
        """Add g_n (g_n - mean) . v of each sample."""
        n, k = len(passed.a[0]), len(shift)
        dot = np.zeros((n, k)) - shift
        for name, array in direction.items():
            layer = int(name[1:])
            moved = passed.a[layer - 1] @ array if name[0] == "W" else np.broadcast_to(array, (n, array.size))
            dot += np.einsum("nkw,nw->nk", moved.reshape(n, k, -1), passed.delta[layer - 1])
        for name in sums:
            layer = int(name[1:])
            scaled = (dot[:, :, None] * passed.delta[layer - 1][:, None, :]).reshape(n, -1)
            sums[name] += passed.a[layer - 1].T @ scaled if name[0] == "W" else scaled.sum(axis=0)

    def mean_gradient(self) -> Array:
        """Mean of the per-sample gradients in the block, without weight decay, shape (size,)."""
        if self._mean is None:
            total = np.zeros(self.mlp.dim)
            parts = self.mlp.unpack(total)
            for passed in self._passes():
                for layer, d in enumerate(passed.delta, start=1):
                    parts[f"W{layer}"] += passed.a[layer - 1].T @ d
                    parts[f"b{layer}"] += d.sum(axis=0)
            self._mean = total[self.index] / len(self.x)
        return self._mean


def _side_by_side(part: Array, name: str, mlp: MLP) -> Array:
    """k vectors of one block as one matrix: (fan_in, k fan_out) for weights, (k fan_out,) for biases."""
    k, layer = len(part), int(name[1:])
    if name[0] == "b":
        return np.ascontiguousarray(part).ravel()
    rows, cols = mlp.widths[layer - 1], mlp.widths[layer]
    return part.reshape(k, rows, cols).transpose(1, 0, 2).reshape(rows, k * cols)


def check_matrix(matrix: str) -> None:
    """ValueError unless it is one of `MATRICES`."""
    if matrix not in MATRICES:
        raise ValueError(f"matrix must be one of {MATRICES}: got {matrix!r}")


def products(
    mlp: MLP | Model,
    theta: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    block: str | Sequence[str] | None = None,
    matrix: str = "hessian",
) -> Any:
    """`Products` of a network of nets, or what a network of another package has in their place."""
    check_network(mlp, "nets.MLP((2, 4, 2), ...)")
    check_matrix(matrix)
    if isinstance(mlp, Model):
        return mlp.products(mlp.check_point(theta), *mlp.check_samples(x, y), block, matrix)
    return Products(mlp, theta, x, y, block=block, matrix=matrix)


def hessian_vector_product(
    mlp: MLP | Model, theta: ArrayLike, x: ArrayLike, y: ArrayLike, v: ArrayLike, *, block: str | Sequence[str] | None = None
) -> Array:
    r"""Exact product of the Hessian of a block of weights, or of all, with one vector or several.

    Memory does not depend on the number of samples. For many products at the same point, `nets.products.Products` keeps what they
    share.

    Parameters
    ----------
    mlp, theta, x, y, block
        As in `nets.hessian`.
    v : array, shape (size,) or (k, size)
        Vectors as rows.

    Returns
    -------
    ndarray, of the shape of `v`

    Raises
    ------
    ValueError
        Wrong shapes, unknown block.

    Examples
    --------
    >>> mlp = MLP((1, 1), loss="mse")
    >>> hessian_vector_product(mlp, [0.3, 0.1], [[1.0], [3.0]], [[0.0], [1.0]], [1.0, 0.0])
    array([5., 2.])
    """
    return np.asarray(products(mlp, theta, x, y, block)(v))


def covariance_vector_product(
    mlp: MLP | Model, theta: ArrayLike, x: ArrayLike, y: ArrayLike, v: ArrayLike, *, block: str | Sequence[str] | None = None
) -> Array:
    """Exact product of the centred covariance of the per-sample gradients (`nets.gradient_covariance`) with one vector or several.

    Costs about as much as one gradient; all else as in `hessian_vector_product`.

    Examples
    --------
    >>> mlp = MLP((1, 1), loss="mse")
    >>> covariance_vector_product(mlp, [0.0, 0.0], [[1.0], [3.0]], [[0.0], [1.0]], [1.0, 0.0])
    array([2.25, 0.75])
    """
    return np.asarray(products(mlp, theta, x, y, block, "covariance")(v))
