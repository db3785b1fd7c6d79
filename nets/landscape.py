"""Losses of all samples on straight lines and planes through a point in weight space, and their derivatives.

Only what moves is computed anew: the layers before the chosen block are passed once, for all displacements. Samples lie along the
last axis, so that sums over the outputs vectorise, and go in chunks that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .mlp import MLP, check_network
from .parameters import Model

__all__ = ["Landscape", "Section"]

Array = NDArray[np.float64]

#: Samples per chunk: the work arrays of a layer of 50 units take 0.4 MB.
COLUMNS = 1024


class Landscape:
    r"""The loss as a function of one block of weights, the others fixed.

    .. math:: L(w) = \frac1N \sum_n \ell_n(w) + \frac{\lambda}{2} |\theta|^2

    Parameters
    ----------
    mlp : MLP
    theta : array, shape (P,)
        The point w_0 that displacements count from; blocks not chosen stay as they are here.
    x, y : arrays, shapes (N, inputs) and (N,) or (N, outputs)
        All samples that the loss is the mean over.
    block : str or sequence of str, optional
        Blocks that move ("W2", or ("W2", "b2")); default: all weights.

    Raises
    ------
    ValueError
        Wrong shapes or an unknown block.

    Examples
    --------
    >>> import nets, numpy as np
    >>> data, mlp = nets.load_data("digits"), nets.MLP((64, 12, 10))
    >>> land = nets.Landscape(mlp, mlp.init(0), data.x_train, data.y_train, block="W2")
    >>> line = land.section(np.eye(land.size)[:, :1])
    >>> line.loss([0.0, 1.0]).shape, bool(np.isclose(line.loss([0.0])[0], mlp.loss(mlp.init(0), data.x_train, data.y_train)))
    ((2,), True)
    """

    def __init__(
        self, mlp: MLP | Model, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str | Sequence[str] | None = None
    ) -> None:
        check_network(mlp, "nets.MLP((2, 4, 2), ...)")
        self.mlp: Any = mlp
        self.theta = mlp.check_point(theta).copy()
        samples, targets = mlp.check_samples(x, y)
        self.index, self.samples = mlp.block_index(block), len(samples)
        if isinstance(mlp, Model):
            self.inputs, self.targets = samples, targets
            return
        self.targets = np.ascontiguousarray(targets.T)
        self.first = min(k for k in range(1, mlp.n_layers + 1) if self._touches(k))
        parts, n = mlp.unpack(self.theta), len(samples)
        self.inputs = samples.T if self.first == 1 else np.empty((mlp.widths[self.first - 1], n))
        self.base = np.empty((mlp.widths[self.first], n))
        weights, bias = parts[f"W{self.first}"].T, parts[f"b{self.first}"][:, None]
        for i in range(0, n, COLUMNS):
            if self.first > 1:
                self.inputs[:, i : i + COLUMNS] = mlp.forward(self.theta, samples[i : i + COLUMNS])[self.first - 1].T
            self.base[:, i : i + COLUMNS] = weights @ self.inputs[:, i : i + COLUMNS] + bias

    def _touches(self, layer: int) -> bool:
        start, stop = self.mlp.blocks[f"W{layer}"].start, self.mlp.blocks[f"b{layer}"].stop
        return bool(np.any((self.index >= start) & (self.index < stop)))

    @property
    def size(self) -> int:
        """Number of weights that may move."""
        return len(self.index)

    def section(self, directions: ArrayLike) -> Section:
        """The line (one direction) or plane (two) w_0 + sum_j d_j p_j through the point; `directions` are columns (size, k)."""
        p = np.asarray(directions, dtype=np.float64)
        p = p[:, None] if p.ndim == 1 else p
        if p.ndim != 2 or len(p) != self.size or not 1 <= p.shape[1] <= 3:
            raise ValueError(f"directions must be 1 to 3 columns of {self.size} weights: got shape {p.shape}")
        if not np.isfinite(p).all():
            raise ValueError(f"directions must be finite: got {np.count_nonzero(~np.isfinite(p))} entries that are not")
        full = np.zeros((p.shape[1], self.mlp.dim))
        full[:, self.index] = p.T
        if isinstance(self.mlp, Model):
            return _ModelSection(self, full, list(full), {})
        moves = [self.mlp.unpack(row) for row in full]
        later: dict[tuple[int, int], tuple[Array, Array]] = {}
        for k in range(self.first + 1, self.mlp.n_layers + 1):
            for j, part in enumerate(moves):
                if part[f"W{k}"].any() or part[f"b{k}"].any():
                    later[k, j] = (np.ascontiguousarray(part[f"W{k}"].T), part[f"b{k}"][:, None].copy())
        change = [m[f"W{self.first}"].T @ self.inputs + m[f"b{self.first}"][:, None] for m in moves]
        return Section(self, full, change, later)


@dataclass(frozen=True, eq=False)
class Section:
    """Losses on a line or plane through a point; made by `Landscape.section`.

    Attributes
    ----------
    landscape : Landscape
    moves : ndarray, shape (k, P)
        The directions in the space of all weights.
    change : list of ndarray, shapes (width, N)
        What a unit displacement adds to the pre-activations of the first layer that moves.
    later : dict
        Displacements of the weights of later layers, by layer and direction.
    """

    landscape: Landscape
    moves: Array
    change: list[Array]
    later: dict[tuple[int, int], tuple[Array, Array]]

    def loss(self, displacements: ArrayLike) -> Array:
        """Mean loss over all samples, weight decay included, at m points; displacements (m,) on a line, (m, k) in general."""
        d = self._points(displacements)
        total = np.zeros(len(d))
        for cols in self._chunks():
            for i, c in enumerate(d):
                total[i] += self._at(cols, c).sum()
        return np.asarray(total / self.landscape.samples + self._decay(d))

    def sample_losses(self, displacements: ArrayLike) -> Array:
        """Losses of the single samples at m points, array (m, N); their means over a batch are the minibatch losses."""
        d = self._points(displacements)
        out = np.empty((len(d), self.landscape.samples))
        for cols in self._chunks():
            for i, c in enumerate(d):
                out[i, cols] = self._at(cols, c)
        return np.asarray(out + self._decay(d)[:, None])

    def batch_losses(self, indices: NDArray[np.intp], displacements: ArrayLike) -> Array:
        """Minibatch losses, each at a point of its own: indices (m, B) of samples, displacements (m,) on a line; array (m,)."""
        if self.change[1:]:
            raise ValueError(
                f"minibatch losses are for lines: this section has {len(self.change)} directions, make one with a single direction"
            )
        d = self._points(displacements)
        out = np.empty(len(indices))
        step = max(1, 4 * COLUMNS // indices.shape[1])
        for i in range(0, len(indices), step):
            cols = indices[i : i + step].ravel()
            c = np.repeat(d[i : i + step, 0], indices.shape[1])[None, :]
            out[i : i + step] = self._at(cols, c).reshape(-1, indices.shape[1]).mean(axis=1)
        return np.asarray(out + self._decay(d))

    def jets(self, displacement: float = 0.0) -> tuple[Array, Array, Array]:
        """Loss, slope and curvature along a line of every sample (N,), weight decay included, at one displacement.

        For relu the curvature is that between the kinks: the Hessian as `nets.hessian` has it.
        """
        if self.change[1:]:
            raise ValueError(
                f"slopes are for lines: this section has {len(self.change)} directions, make one with a single direction"
            )
        land, out = self.landscape, np.empty((3, self.landscape.samples))
        for cols in self._chunks():
            out[:, cols] = self._jets(cols, float(displacement))
        decay, v = land.mlp.weight_decay, self.moves[0]
        at = land.theta + displacement * v
        out += decay * np.array([0.5 * at @ at, at @ v, v @ v])[:, None]
        return out[0], out[1], out[2]

    # ---- chunks ---------------------------------------------------------------------------------------------------------

    def _points(self, displacements: ArrayLike) -> Array:
        d = np.atleast_1d(np.asarray(displacements, dtype=np.float64))
        d = d[:, None] if d.ndim == 1 and len(self.change) == 1 else d
        if d.ndim != 2 or d.shape[1] != len(self.change) or not np.isfinite(d).all():
            raise ValueError(f"displacements must be finite, of shape (m, {len(self.change)}): got shape {d.shape}")
        return d

    def _chunks(self) -> Iterator[slice]:
        return (slice(i, i + COLUMNS) for i in range(0, self.landscape.samples, COLUMNS))

    def _decay(self, d: Array) -> Array:
        at = self.landscape.theta + d @ self.moves if self.landscape.mlp.weight_decay else np.zeros((len(d), 1))
        return np.asarray(0.5 * self.landscape.mlp.weight_decay * np.einsum("ij,ij->i", at, at))

    def _at(self, cols: Any, c: Array) -> Array:
        """Losses (n,) of the samples at displacements c, (k,) or (k, n)."""
        return self._losses(self._outputs(cols, c), cols)

    def _outputs(self, cols: Any, c: Array) -> Array:
        """Outputs z_L (outputs, n) at displacements c, (k,) or (k, n)."""
        land, mlp = self.landscape, self.landscape.mlp
        parts = mlp.unpack(land.theta)
        z: Array = self.change[0][:, cols] * c[0]
        z += land.base[:, cols]
        for j in range(1, len(self.change)):
            z += c[j] * self.change[j][:, cols]
        for k in range(land.first + 1, mlp.n_layers + 1):
            a = np.tanh(z, out=z) if mlp.activation == "tanh" else np.maximum(z, 0.0, out=z)
            z = parts[f"W{k}"].T @ a
            z += parts[f"b{k}"][:, None]
            for j in range(len(self.change)):
                if (k, j) in self.later:
                    w, b = self.later[k, j]
                    z += c[j] * (w @ a + b)
        return z

    def _losses(self, z: Array, cols: Any) -> Array:
        t = self.landscape.targets[:, cols]
        if self.landscape.mlp.loss_name == "mse":
            return np.asarray(0.5 * ((z - t) ** 2).sum(axis=0))
        z -= z.max(axis=0)
        linear = np.einsum("ij,ij->j", t, z)
        return np.asarray(t.sum(axis=0) * np.log(np.exp(z, out=z).sum(axis=0)) - linear)

    def _jets(self, cols: Any, d: float) -> Array:
        """Loss, slope, curvature (3, n) of the samples, by the chain rule from layer to layer."""
        land, mlp = self.landscape, self.landscape.mlp
        parts = mlp.unpack(land.theta)
        z, dz = land.base[:, cols] + d * self.change[0][:, cols], self.change[0][:, cols]
        ddz = np.zeros_like(z)
        for k in range(land.first + 1, mlp.n_layers + 1):
            a = np.tanh(z) if mlp.activation == "tanh" else np.maximum(z, 0.0)
            slope = mlp.slope(a)
            dda = slope * ddz
            if mlp.activation == "tanh":  # f'' = -2 f f'
                dda -= 2.0 * a * slope * dz * dz
            da = slope * dz
            w = parts[f"W{k}"].T
            z, dz, ddz = w @ a + parts[f"b{k}"][:, None], w @ da, w @ dda
            if (k, 0) in self.later:
                v, b = self.later[k, 0]
                va, vda = v @ a + b, v @ da
                z, ddz = z + d * va, ddz + 2.0 * vda + d * (v @ dda)
                dz = dz + va + d * vda
        t = land.targets[:, cols]
        if mlp.loss_name == "mse":
            gap = z - t
            return np.array([0.5 * (gap * gap).sum(axis=0), (gap * dz).sum(axis=0), (dz * dz + gap * ddz).sum(axis=0)])
        scale, losses = t.sum(axis=0), self._losses(z.copy(), cols)
        p = np.exp(z - z.max(axis=0))
        p /= p.sum(axis=0)
        mean = (p * dz).sum(axis=0)
        spread = scale * ((p * dz * dz).sum(axis=0) - mean * mean)
        gap = p * scale - t
        return np.array([losses, (gap * dz).sum(axis=0), spread + (gap * ddz).sum(axis=0)])


class _ModelSection(Section):
    """The same of a network of another package, which passes through all of its layers each time."""

    def _at(self, cols: Any, c: Array) -> Array:
        land = self.landscape
        return np.asarray(land.mlp.sample_losses_at(land.theta, land.inputs, land.targets, cols, self.moves, c))

    def _jets(self, cols: Any, d: float) -> Array:
        land = self.landscape
        return np.asarray(land.mlp.sample_jets_at(land.theta, land.inputs, land.targets, cols, self.moves[0], d))
