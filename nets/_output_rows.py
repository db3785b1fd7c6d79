"""Rows S_n J_n whose squares add up to the Gauss-Newton matrix: factors of the output's curvature, pulled back sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mlp import CHUNK_NUMBERS, MLP, softmax

__all__ = ["gram", "output_factor", "passes", "pulled_back", "rows_per_sample", "weight_rows"]

Array = NDArray[np.float64]


def rows_per_sample(mlp: MLP) -> int:
    """Rank of the second derivatives of one sample's loss by the outputs."""
    return mlp.widths[-1] - (mlp.loss_name == "cross_entropy")


def output_factor(mlp: MLP, z: Array, t: Array) -> Array:
    """S of shape (n, rows, outputs) with S^T S = d2 l / d z^2 of each sample.

    Of diag p - p p^T the exact Cholesky factor, whose entries have no differences: small probabilities keep all their digits
    (K. Tanabe, M. Sagae, J. R. Stat. Soc. B 54, 211, 1992). In ascending order of p no divisor is small.
    """
    n, outputs = z.shape
    if mlp.loss_name == "mse":
        return np.broadcast_to(np.eye(outputs), (n, outputs, outputs))
    p = softmax(z)
    order = np.argsort(p, axis=1)
    q = np.take_along_axis(p, order, axis=1)
    tail = np.cumsum(q[:, ::-1], axis=1)[:, ::-1]  # of this class and all more probable ones
    rows = np.zeros((n, outputs - 1, outputs))
    for j in range(outputs - 1):
        rows[:, j, j] = 1.0
        rows[:, j, j + 1 :] = -q[:, j + 1 :] / tail[:, j + 1 :][:, :1]
        rows[:, j] *= np.sqrt(q[:, j] * tail[:, j + 1] / tail[:, j])[:, None]
    back = np.empty_like(rows)
    np.put_along_axis(back, np.broadcast_to(order[:, None, :], rows.shape), rows, axis=2)
    back *= np.sqrt(t.sum(axis=1))[:, None, None]
    return back


def pulled_back(mlp: MLP, parts: dict[str, Array], a: list[Array], rows: Array) -> list[Array]:
    """[rows . d z_L / d z_1, ..., rows . d z_L / d z_L], arrays (n, rows, width), from rows (n, rows, outputs)."""
    n, count, _ = rows.shape
    result = [rows]
    for layer in range(mlp.n_layers, 1, -1):
        lower = (result[0].reshape(n * count, -1) @ parts[f"W{layer}"].T).reshape(n, count, -1)
        lower *= mlp.slope(a[layer - 1])[:, None, :]
        result.insert(0, lower)
    return result


def passes(mlp: MLP, theta: Array, x: Array, t: Array | None, numbers_per_row: int = 0) -> Any:
    """Yield activations and pulled back rows of chunks of samples: S_n, or without targets t the outputs themselves."""
    parts, outputs = mlp.unpack(theta), mlp.widths[-1]
    chunk = max(1, CHUNK_NUMBERS // (outputs * (4 * sum(mlp.widths) + numbers_per_row)))
    for i in range(0, len(x), chunk):
        a = mlp.forward(theta, x[i : i + chunk])
        top = np.broadcast_to(np.eye(outputs), (len(a[0]), outputs, outputs))
        yield a, pulled_back(mlp, parts, a, top if t is None else output_factor(mlp, a[-1], t[i : i + chunk]))


def weight_rows(mlp: MLP, a: list[Array], pulled: list[Array]) -> Array:
    """The rows S_n J_n of a chunk by all weights, shape (n rows, P)."""
    n, count, _ = pulled[0].shape
    result = np.empty((n, count, mlp.dim))
    for layer, d in enumerate(pulled, start=1):
        inside = result[:, :, mlp.blocks[f"W{layer}"]].reshape(n, count, mlp.widths[layer - 1], mlp.widths[layer], copy=False)
        np.multiply(a[layer - 1][:, None, :, None], d[:, :, None, :], out=inside)
        result[:, :, mlp.blocks[f"b{layer}"]] = d
    return result.reshape(n * count, mlp.dim)


def gram(mlp: MLP, theta: Array, x: Array, t: Array) -> Array:
    """Products of the rows with each other, (N rows, N rows): it has the non-zero eigenvalues of N (G - decay).

    Layer by layer (1 + a_n . a_m) d_n . d_m, so that no row by all weights is formed.
    """
    n, count = len(x), rows_per_sample(mlp)
    total = np.zeros((n, count, n, count))
    inputs: list[list[Array]] = [[] for _ in range(mlp.n_layers)]
    downs: list[list[Array]] = [[] for _ in range(mlp.n_layers)]
    for a, pulled in passes(mlp, theta, x, t):
        for layer in range(mlp.n_layers):
            inputs[layer].append(a[layer])
            downs[layer].append(pulled[layer])
    strip = max(1, CHUNK_NUMBERS // (count * n * count))
    for below, above in zip(map(np.concatenate, inputs), map(np.concatenate, downs), strict=True):
        flat = above.reshape(n * count, -1)
        for i in range(0, n, strip):
            part = (flat[i * count : (i + strip) * count] @ flat.T).reshape(-1, count, n, count)
            part *= (1.0 + below[i : i + strip] @ below.T)[:, None, :, None]
            total[i : i + strip] += part
    return total.reshape(n * count, n * count)
