"""Spectral norms of the second derivatives of single samples' outputs by all weights, many samples side by side."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .mlp import MLP
from .spectrum import _gauss, _lanczos

__all__ = ["hessian_norms"]

Array = NDArray[np.float64]

#: The Lanczos vectors of the samples that run side by side take at most this many numbers (32 MB).
LANCZOS_NUMBERS = 4_000_000
#: Vectors of up to this length are exhausted; beyond, so many Lanczos steps.
EXACT_UP_TO, STEPS = 200, 60


class _SampleHessians:
    r"""v_n -> Hess(u_n . z_L(x_n)) v_n for the samples of a chunk, a vector of its own for each.

    The inputs of the first layer are fixed, so that its weights act by :math:`V_1^T (x, 1)` alone: of V_1 only the part c along
    (x, 1)/|(x, 1)| can have a second derivative, and the vectors are (c, V_2, V_3, ...), each V with its bias as the last row.
    """

    def __init__(self, mlp: MLP, theta: Array, x: Array, u: Array) -> None:
        self.mlp, self.parts = mlp, mlp.unpack(theta)
        self.a = mlp.forward(theta, x)[:-1]
        self.slopes = [np.zeros(0), *(mlp.slope(a) for a in self.a[1:])]
        self.length = np.sqrt(1.0 + (x**2).sum(axis=1))[:, None]
        self.delta, self.bend = [u], list[Array]()  # d (u . z_L) / d z_l; the same by a_l, times f''
        down = u
        for layer in range(mlp.n_layers, 1, -1):
            down = down @ self.parts[f"W{layer}"].T
            second = -2.0 * self.a[layer - 1] * self.slopes[layer - 1] if mlp.activation == "tanh" else np.zeros_like(down)  # f''
            self.bend.insert(0, second * down)
            down = down * self.slopes[layer - 1]
            self.delta.insert(0, down)
        shapes = [(1, mlp.widths[1])] + [(rows + 1, cols) for rows, cols in zip(mlp.widths[1:-1], mlp.widths[2:], strict=True)]
        self.shapes, self.ends = shapes, np.cumsum([rows * cols for rows, cols in shapes])

    @property
    def size(self) -> int:
        """Length of the vectors."""
        return int(self.ends[-1])

    def __call__(self, v: Array) -> Array:
        n, last = len(v), self.mlp.n_layers
        parts = [p.reshape(n, *shape) for p, shape in zip(np.split(v, self.ends[:-1], axis=1), self.shapes, strict=True)]
        rz = [self.length * parts[0][:, 0]]  # R{z_1}, R{z_2}, ...
        ra: list[Array] = []  # R{a_1}, R{a_2}, ...
        for layer in range(2, last + 1):
            w, a = parts[layer - 1], self.a[layer - 1]
            ra.append(rz[-1] * self.slopes[layer - 1])
            rz.append(np.matmul(a[:, None, :], w[:, :-1])[:, 0] + w[:, -1] + ra[-1] @ self.parts[f"W{layer}"])
        rd = np.zeros_like(self.delta[-1])  # u does not move
        result: list[Array] = []
        for layer in range(last, 1, -1):
            w, a, delta = parts[layer - 1], self.a[layer - 1], self.delta[layer - 1]
            mine = np.empty_like(w)
            np.multiply(a[:, :, None], rd[:, None, :], out=mine[:, :-1])
            mine[:, :-1] += ra[layer - 2][:, :, None] * delta[:, None, :]
            mine[:, -1] = rd
            result.insert(0, mine.reshape(n, -1))
            rd = rd @ self.parts[f"W{layer}"].T + np.matmul(w[:, :-1], delta[:, :, None])[:, :, 0]
            rd = rd * self.slopes[layer - 1] + self.bend[layer - 2] * rz[layer - 2]
        result.insert(0, self.length * rd)
        return np.concatenate(result, axis=1)


def hessian_norms(mlp: MLP, theta: Array, x: Array, u: Array, steps: int | None = None) -> Array:
    """|Hess(u_n . z_L(x_n))|_2 by all weights, shape (n,): from below, the norm on the Krylov space of a random vector.

    Exact for at most 200 numbers that can have second derivatives, and where the space is exhausted.
    """
    if mlp.n_layers == 1:
        return np.zeros(len(x))
    size = _SampleHessians(mlp, theta, x[:1], u[:1]).size
    steps = min(size, steps or (size if size <= EXACT_UP_TO else STEPS))
    rng, norms = np.random.default_rng(0), np.empty(len(x))
    together = max(1, LANCZOS_NUMBERS // (steps * size))
    for i in range(0, len(x), together):
        operator = _SampleHessians(mlp, theta, x[i : i + together], u[i : i + together])
        start = rng.choice([-1.0, 1.0], (len(operator.delta[0]), size)) / math.sqrt(size)
        for j, (alpha, beta) in enumerate(zip(*_lanczos(operator, start, steps), strict=True), start=i):
            norms[j] = np.abs(_gauss(alpha, beta)[0]).max()
    return norms
