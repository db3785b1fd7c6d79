"""Exact second-order facts of a network's loss, as matrices: gradient covariance, Hessian and its parts, by matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .mlp import CHUNK_NUMBERS, MLP, check_network, softmax
from .parameters import Model

__all__ = ["gauss_newton", "gradient_covariance", "hessian"]

Array = NDArray[np.float64]


class Terms(NamedTuple):
    """Which parts of the Hessian: from second derivatives of the loss by the outputs, of the outputs by the weights."""

    output: bool
    residual: bool


#: H = G + (H - G).
TERMS = {"hessian": Terms(True, True), "gauss-newton": Terms(True, False), "residual": Terms(False, True)}
#: A matrix of more bytes than this is refused.
MAX_MATRIX_BYTES = 4_000_000_000
#: Samples per chunk, at most: their tables of pairs then stay in the processor's cache.
ROWS = 400
#: From this size on, the covariance of one block of weights goes through tables of pairs.
PAIRS_FROM = 512


def gradient_covariance(
    mlp: MLP | Model, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str | Sequence[str] | None = None
) -> Array:
    r"""Centred covariance of the per-sample gradients.

    .. math:: C = \frac{1}{N} \sum_n g_n g_n^T - \bar g \bar g^T, \quad g_n = \nabla \ell_n(\theta)

    Normalised by N: the N samples are the whole population that SGD draws from. Weight decay shifts all g_n alike and drops out.
    The minibatch gradient of a batch of B indices drawn with replacement has covariance exactly C/B, without replacement
    C/B (N - B)/(N - 1).

    Parameters
    ----------
    mlp : MLP
    theta : array, shape (P,)
    x, y : arrays, shapes (N, inputs) and (N,) or (N, outputs)
    block : str or sequence of str, optional
        Blocks ("W2", or ("W1", "b1")) in the order of the result; default: all weights.

    Returns
    -------
    ndarray, shape (size, size)
        Symmetric to the last bit. Memory does not depend on N.

    Raises
    ------
    ValueError
        Wrong shapes, unknown block, or a matrix above 4 GB.

    Notes
    -----
    A block W of one layer has g = a (x) d, so C needs only the moments of products a_i a_k d_j d_l with i <= k, j <= l: one matrix
    product of two tables of pairs, a quarter of the work of G^T G.

    Examples
    --------
    >>> import nets
    >>> data = nets.load_data("digits")
    >>> mlp = nets.MLP((64, 10))
    >>> C = gradient_covariance(mlp, mlp.init(0), data.x_train, data.y_train)
    >>> C.shape, bool((C == C.T).all())
    ((650, 650), True)
    """
    check_network(mlp)
    theta, (x, t) = mlp.check_point(theta), mlp.check_samples(x, y)
    index = mlp.block_index(block)
    _check_size(len(index))
    if isinstance(mlp, Model):
        return _centred(mlp, theta, x, t, block, mlp.evaluate(theta, x, t)[2][index])
    name = block if isinstance(block, str) else block[0] if block is not None and len(block) == 1 else None
    if name is not None and name[0] == "W" and len(index) >= PAIRS_FROM:
        return _pair_covariance(mlp, theta, x, t, int(name[1:]))
    plain = MLP(**{**mlp.spec, "weight_decay": 0.0})
    return _centred(plain, theta, x, t, block, plain.gradient(theta, x, t)[index])


def _centred(mlp: MLP | Model, theta: Array, x: Array, t: NDArray[Any], block: str | Sequence[str] | None, mean: Array) -> Array:
    c = np.zeros((len(mean), len(mean)))
    for g in mlp.iter_per_sample_gradients(theta, x, t, block=block, chunk=max(1, CHUNK_NUMBERS // len(mean))):
        g -= mean
        c += g.T @ g
    c /= len(x)
    return np.asarray(0.5 * (c + c.T))


def _pair_covariance(mlp: MLP, theta: Array, x: Array, t: Array, layer: int) -> Array:
    m, n = mlp.widths[layer - 1], mlp.widths[layer]
    total, mean = np.zeros((_pairs(m), _pairs(n)), order="F"), np.zeros((m, n))
    for a, delta, _ in _passes(mlp, theta, x, t, _pairs(m) + _pairs(n)):
        total = _add_product(total, _products(a[layer - 1]), _products(delta[layer - 1]))
        mean += a[layer - 1].T @ delta[layer - 1]
    total /= len(x)
    flat = (mean / len(x)).ravel()
    c = _unpack_pairs(total, m, n)
    for row, factor in zip(c, flat, strict=True):  # BLAS's rank-one update may round (i, j) unlike (j, i)
        row -= factor * flat
    return c


def hessian(mlp: MLP | Model, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str | Sequence[str] | None = None) -> Array:
    r"""Exact Hessian of the loss with respect to a block or to all weights; weight decay adds :math:`\lambda I`.

    With :math:`\tilde a_l = (a_l, 1)`, :math:`\delta_l = \partial\ell/\partial z_l` and
    :math:`\mathcal{H}_l = \partial^2\ell/\partial z_l^2`, the mean over the samples of

    .. math:: \partial^2 \ell / \partial W_{l,kq} \partial W_{m,ij} = \tilde a_{l-1,k} \left[
              \frac{\partial \tilde a_{m-1,i}}{\partial z_{l,q}} \delta_{m,j}
              + \tilde a_{m-1,i} \sum_r \mathcal{H}_{m,jr} \frac{\partial z_{m,r}}{\partial z_{l,q}} \right], \quad l < m,

    and :math:`\tilde a_{l-1,i} \tilde a_{l-1,k} \mathcal{H}_{l,jq}` for l = m. The recursion
    :math:`\mathcal{H}_l = F' W_{l+1} \mathcal{H}_{l+1} W_{l+1}^T F' + \mathrm{diag}(f'' \odot W_{l+1} \delta_{l+1})`
    includes the second derivative of the activation (0 for relu, almost everywhere).

    Parameters
    ----------
    mlp, theta, x, y, block
        As in `gradient_covariance`.

    Returns
    -------
    ndarray, shape (size, size)
        Symmetric to the last bit. Memory does not depend on the number of samples.

    Raises
    ------
    ValueError
        Wrong shapes, unknown block, or a matrix above 4 GB.

    Examples
    --------
    Linear regression has the constant Hessian mean (x, 1)(x, 1)^T:

    >>> mlp = MLP((1, 1), loss="mse")
    >>> hessian(mlp, [0.3, 0.1], [[1.0], [3.0]], [[0.0], [1.0]])
    array([[5., 2.],
           [2., 1.]])
    """
    return second_derivatives(mlp, theta, x, y, block, "hessian")


def gauss_newton(
    mlp: MLP | Model, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str | Sequence[str] | None = None
) -> Array:
    r"""Exact (generalised) Gauss-Newton matrix of a block or of all weights; weight decay adds :math:`\lambda I`.

    .. math:: G = \frac{1}{N} \sum_n J_n^T B_n J_n + \lambda I, \qquad J_n = \frac{\partial z_L(x_n)}{\partial \theta}, \qquad
              H = G + \frac{1}{N} \sum_n \sum_c \frac{\partial \ell_n}{\partial z_c} \nabla^2_\theta z_c(x_n)

    with :math:`B = 1` for "mse" and :math:`B = \mathrm{diag}\,p - p p^T` (times the sum of the target row, 1 for labels) for
    "cross_entropy", p the softmax of the outputs. G - lambda is positive semidefinite, of a rank of at most N times the outputs
    (cross-entropy: outputs - 1, since a common shift of the outputs changes nothing).

    Parameters
    ----------
    mlp, theta, x, y, block
        As in `gradient_covariance`.

    Returns
    -------
    ndarray, shape (size, size)
        Symmetric to the last bit. Memory does not depend on the number of samples.

    Raises
    ------
    ValueError
        Wrong shapes, unknown block, or a matrix above 4 GB.

    Notes
    -----
    With "mse" H tends to G as the loss goes to zero: `|H - G|` falls as its root (`nets.curvature_bound`). With "cross_entropy"
    both parts are proportional to 1 - p of the true class there, so that H need not tend to G in proportion. For relu the diagonals
    of H and G are the same at any loss, because each single weight enters the outputs linearly; so are the traces.

    N. N. Schraudolph, Neural Computation 14, 1723 (2002); J. Martens, J. Mach. Learn. Res. 21, 146 (2020).

    Examples
    --------
    Of a linear map the outputs have no second derivatives, and G is H:

    >>> mlp = MLP((1, 1), loss="mse")
    >>> gauss_newton(mlp, [0.3, 0.1], [[1.0], [3.0]], [[0.0], [1.0]])
    array([[5., 2.],
           [2., 1.]])
    """
    return second_derivatives(mlp, theta, x, y, block, "gauss-newton")


def second_derivatives(
    mlp: MLP | Model, theta: ArrayLike, x: ArrayLike, y: ArrayLike, block: str | Sequence[str] | None, matrix: str
) -> Array:
    """The Hessian or, of TERMS, one of its parts."""
    check_network(mlp)
    theta, (x, t) = mlp.check_point(theta), mlp.check_samples(x, y)
    index = mlp.block_index(block)
    _check_size(len(index))
    if isinstance(mlp, Model):
        whole = mlp.products(theta, x, t, block, matrix)(np.eye(len(index)))
        return np.asarray(0.5 * (whole + whole.T))
    layer_of = {name: int(name[1:]) for name in mlp.blocks}
    wanted = [name for name, part in mlp.blocks.items() if part.start in index]
    layers = sorted({layer_of[name] for name in wanted})
    bias = {k: f"b{k}" in wanted for k in layers}
    # positions in theta of each layer's rows: all of (W, b), or W alone where the bias is not asked for
    span = {k: np.arange(mlp.blocks[f"W{k}"].start, mlp.blocks[f"b{k}" if bias[k] else f"W{k}"].stop) for k in layers}
    _check_size(sum(len(part) for part in span.values()))
    blocks = _layer_blocks(mlp, theta, x, t, layers, bias, TERMS[matrix])
    full = np.empty((len(index), len(index)))
    place = np.full(mlp.dim, -1)
    place[index] = np.arange(len(index))
    for (k, m), total in blocks.items():
        (from_row, row), (from_col, col) = _neighbours(place[span[k]]), _neighbours(place[span[m]])
        for to_row, source_row in zip(row, from_row, strict=True):
            for to_col, source_col in zip(col, from_col, strict=True):
                part = full[to_row, to_col]
                np.divide(total[source_row, source_col], len(x), out=part)
                if k < m:
                    full[to_col, to_row] = part.T
    if TERMS[matrix].output:
        full.reshape(-1)[:: len(index) + 1] += mlp.weight_decay
    return full


def _layer_blocks(
    mlp: MLP, theta: Array, x: Array, t: Array, layers: list[int], bias: dict[int, bool], terms: Terms
) -> dict[tuple[int, int], Array]:
    """Sums over the samples of the blocks (layer k, layer m), k <= m."""

    def inputs(k: int) -> int:
        return mlp.widths[k - 1] + bias[k]

    pairs = {k: np.zeros((_pairs(inputs(k)), _pairs(mlp.widths[k])), order="F") for k in layers}
    cross = {(k, m): np.zeros((inputs(k), mlp.widths[k] * inputs(m) * mlp.widths[m])) for k in layers for m in layers if k < m}
    cost = sum(c.shape[1] for c in cross.values()) + sum(sum(p.shape) for p in pairs.values()) + 4 * max(mlp.widths[1:]) ** 2
    parts = mlp.unpack(theta)
    for a, delta, tc in _passes(mlp, theta, x, t, cost):
        ext = {k: _extend(a[k - 1]) if bias[k] else a[k - 1] for k in layers}
        curvature = _preactivation_hessians(mlp, parts, a, delta, tc, min(layers), terms)
        for k in layers:
            pairs[k] = _add_product(pairs[k], _products(ext[k]), _symmetric_entries(curvature[k]))
            slopes = [m for m in layers if m > k]
            for m, jz, ja in _jacobians(mlp, parts, a, k, slopes):
                mixed = np.matmul(curvature[m], jz)  # d delta_m,j / d z_k,q
                table = np.einsum("ni,njq->nqij", ext[m], mixed)
                if terms.residual:
                    table[:, :, : mlp.widths[m - 1], :] += np.einsum("niq,nj->nqij", ja, delta[m - 1])
                cross[k, m] += ext[k].T @ table.reshape(len(table), -1)
    result = {(k, k): _unpack_pairs(pairs[k], inputs(k), mlp.widths[k]) for k in layers}
    for (k, m), c in cross.items():
        result[k, m] = c.reshape(inputs(k) * mlp.widths[k], -1)
    return result


def _preactivation_hessians(
    mlp: MLP, parts: dict[str, Array], a: list[Array], delta: list[Array], t: Array, first: int, terms: Terms
) -> dict[int, Array]:
    """d2 l_n / d z_l^2 for l = first .. L, or the wanted terms of it, arrays (n, width, width)."""
    last = mlp.n_layers
    if not terms.output:
        h = np.zeros((len(t), mlp.widths[-1], mlp.widths[-1]))
    elif mlp.loss_name == "mse":
        h = np.broadcast_to(np.eye(mlp.widths[-1]), (len(t), mlp.widths[-1], mlp.widths[-1]))
    else:
        p = softmax(a[-1])
        h = -p[:, :, None] * p[:, None, :]
        h.reshape(len(p), -1)[:, :: mlp.widths[-1] + 1] += p
        h *= t.sum(axis=1)[:, None, None]
    result = {last: h}
    for k in range(last - 1, first - 1, -1):
        w, slope = parts[f"W{k + 1}"], mlp.slope(a[k])
        h = np.matmul(np.matmul(w, h), w.T)
        h *= slope[:, :, None]
        h *= slope[:, None, :]
        if terms.residual and mlp.activation == "tanh":  # f'' = -2 f f'
            h.reshape(len(h), -1)[:, :: mlp.widths[k] + 1] += -2.0 * a[k] * slope * (delta[k] @ w.T)
        result[k] = h
    return result


def _jacobians(mlp: MLP, parts: dict[str, Array], a: list[Array], k: int, layers: list[int]) -> Any:
    """Yield m, d z_m / d z_k (n, width_m, width_k), d a_{m-1} / d z_k (n, width_{m-1}, width_k); m in `layers`, all > k."""
    if not layers:
        return
    jz = np.broadcast_to(np.eye(mlp.widths[k]), (len(a[0]), mlp.widths[k], mlp.widths[k]))
    for m in range(k + 1, max(layers) + 1):
        ja = mlp.slope(a[m - 1])[:, :, None] * jz
        jz = np.matmul(parts[f"W{m}"].T, ja)
        if m in layers:
            yield m, jz, ja


# ---- chunks and pairs ---------------------------------------------------------------------------------------------------


def _check_size(n: int) -> None:
    if 8 * n * n > MAX_MATRIX_BYTES:
        raise ValueError(
            f"a matrix over {n} weights takes {8e-9 * n * n:.0f} GB (limit {1e-9 * MAX_MATRIX_BYTES:.0f} GB): choose a "
            "smaller block, or use nets.top_eigenpairs, nets.spectral_density, or nets.hessian_vector_product"
        )


def _passes(mlp: MLP, theta: Array, x: Array, t: Array, numbers_per_sample: int) -> Any:
    """Yield activations, deltas and targets of chunks whose work arrays stay bounded."""
    rows = max(1, min(ROWS, CHUNK_NUMBERS // max(1, numbers_per_sample + 4 * sum(mlp.widths))))
    for i in range(0, len(x), rows):
        tc = t[i : i + rows]
        a = mlp.forward(theta, x[i : i + rows])
        yield a, mlp.backward(theta, a, tc), tc


def _layer_passes(mlp: MLP, theta: Array, x: Array, t: Array, first: int, matrix: str) -> Any:
    """Yield activations, deltas, and (for the Hessian and its parts) d2 l_n / d z_l^2 by layer from `first` on."""
    parts, terms = mlp.unpack(theta), TERMS.get(matrix)
    for a, delta, tc in _passes(mlp, theta, x, t, 4 * sum(w * w for w in mlp.widths[first:]) if terms else 0):
        yield a, delta, _preactivation_hessians(mlp, parts, a, delta, tc, first, terms) if terms else {}


def _extend(a: Array) -> Array:
    return np.concatenate([a, np.ones((len(a), 1))], axis=1)


def _pairs(n: int) -> int:
    return n * (n + 1) // 2


def _add_product(total: Array, left: Array, right: Array) -> Array:
    """total + left^T right, in the place of `total` (in Fortran's order)."""
    from scipy.linalg.blas import dgemm

    return np.asarray(dgemm(1.0, left.T, right.T, 1.0, total, trans_b=1, overwrite_c=1))


def _neighbours(place: NDArray[np.intp]) -> tuple[list[slice], list[slice]]:
    """Stretches of positions >= 0 that follow each other: where they are in `place`, and the positions, as slices."""
    here = np.flatnonzero(place >= 0)
    breaks = np.flatnonzero((np.diff(here) != 1) | (np.diff(place[here]) != 1)) + 1
    parts = np.split(here, breaks)
    return [slice(p[0], p[-1] + 1) for p in parts], [slice(place[p[0]], place[p[-1]] + 1) for p in parts]


def _products(a: Array) -> Array:
    """Table of the products a_i a_k, i <= k, in the order of np.triu_indices: shape (n, pairs)."""
    n, m = a.shape
    table, at = np.empty((n, _pairs(m))), 0
    for i in range(m):
        np.multiply(a[:, i : i + 1], a[:, i:], out=table[:, at : at + m - i])
        at += m - i
    return table


def _symmetric_entries(h: Array) -> Array:
    i, j = np.triu_indices(h.shape[1])
    return np.ascontiguousarray(h[:, i, j])


def _unpack_pairs(s: Array, m: int, n: int) -> Array:
    """Matrix over (i, j), (k, l) from its entries at pairs (i <= k), (j <= l)."""
    rows, cols = np.empty((m, m), dtype=np.intp), np.empty((n, n), dtype=np.intp)
    for table, size in ((rows, m), (cols, n)):
        low, high = np.triu_indices(size)
        table[low, high] = table[high, low] = np.arange(len(low))
    full = np.empty((m, n, m, n))
    for i in range(m):
        full[i] = s[rows[i]][:, cols].transpose(1, 0, 2)
    return full.reshape(m * n, m * n)
