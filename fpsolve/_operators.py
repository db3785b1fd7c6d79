"""Sparse matrices of the Fokker-Planck equation and of its backward equation of order four or six on a grid of any dimension.

In cell units s (graded axes: the coordinate of the mapping, coefficients by Ito's rule) the density rho(s) = p(x) dx/ds obeys
d rho/dt = -div J, J_k = b_k rho - sum_l d_l (D_kl rho). With the matrices of one axis of `_stencils`,

    d rho/dt = - sum_k P_k b_k rho + sum_k S_k D_kk rho + sum_(k != l) P_k T_l D_kl rho,

P_k (J) the conservative derivative of a flux known at the centres, S_k its like for second derivatives, T_l a plain derivative.
Everything is a sum of products of matrices of one axis, so the dimension does not matter.
"""

from __future__ import annotations

import dataclasses
import functools
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ._mapping import half_nodes
from ._stencils import AxisMatrices, axis_matrices, fit
from .grid import Grid
from .noise import check_tensor

__all__ = ["Operators", "least_cells"]

Array = NDArray[np.float64]


#: Exponent per cell from which cells are too coarse for the noise, and faces next to a wall that are damped there.
_COARSE, _LAYER = 4.0, 4
#: Weight of the eighth differences along axes without noise, 2/5 of that in the upwind stencil of order seven: with more, weak
#: friction is seen to be larger than it is.
_SMOOTH = 1.0 / 700.0


def least_cells(order: int) -> int:
    """Cells that an axis needs at least."""
    return 2 * order + 2


@dataclasses.dataclass(frozen=True)
class Operators:
    """The discretised problem on a box whose sides may be other than those of the grid: a block of cells with absorbing ends.

    Parameters
    ----------
    process, grid, order : the problem; order is 4 or 6
    block : tuple of slices, one per axis
    sides : names of the sides of the block
    """

    process: Any
    grid: Grid
    order: int
    block: tuple[slice, ...]
    sides: tuple[tuple[str, str], ...]

    # ---- geometry -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Cells of the block."""
        return tuple(s.stop - s.start for s in self.block)

    @functools.cached_property
    def axes(self) -> tuple[AxisMatrices, ...]:
        """Matrices of the axes."""
        return tuple(axis_matrices(n, sides, self.order) for n, sides in zip(self.shape, self.sides, strict=True))

    @functools.cached_property
    def _slopes(self) -> tuple[tuple[Array, Array], ...]:
        """dx/ds and d^2x/ds^2 at edges and centres in turn, per axis of the block."""
        out = []
        for k, (lo, hi, n, *mapping) in enumerate(self.grid.axes):
            part = slice(2 * self.block[k].start, 2 * self.block[k].stop + 1)
            if mapping:
                x = half_nodes(mapping[0], lo, hi, n)
                first, second = _mapping_slopes(x, self.grid.boundary[k][0] == "periodic")
            else:
                first, second = np.full(2 * n + 1, (hi - lo) / n), np.zeros(2 * n + 1)
            out.append((first[part], second[part]))
        return tuple(out)

    @functools.cached_property
    def points(self) -> Array:
        """Cell centres (n, d)."""
        centers = [c[s] for c, s in zip(self.grid.centers, self.block, strict=True)]
        return np.stack(np.meshgrid(*centers, indexing="ij"), axis=-1).reshape(-1, self.grid.dim)

    @functools.cached_property
    def axis_weights(self) -> tuple[Array, ...]:
        """Weights of the quadrature along every axis: the mass is the sum of their products times the point values."""
        return tuple(a.weights * first[1::2] for a, (first, _) in zip(self.axes, self._slopes, strict=True))

    @functools.cached_property
    def volumes(self) -> Array:
        """The weights of the cells, of the shape of the block: the conserved mass is the sum of weights times point values."""
        return functools.reduce(np.multiply.outer, self.axis_weights)

    @property
    def weights(self) -> Array:
        """The same (n,)."""
        return self.volumes.ravel()

    @functools.cached_property
    def jacobian(self) -> Array:
        """Volumes of the cells by the slopes of the mapping at their centres (n,)."""
        return functools.reduce(np.multiply.outer, [s[0][1::2] for s in self._slopes]).ravel()

    # ---- coefficients ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def fields(self) -> tuple[Array, Array]:
        """Drift (n, d) and diffusion tensor (n, d, d) of the process at the centres, checked."""
        n, d = len(self.points), self.grid.dim
        diffusion = finite(self.process.diffusion(self.points), (n, d, d), self.points, "the diffusion tensor")
        check_tensor(diffusion, self.points)
        drift = finite(self.process.drift(self.points), (n, d), self.points, "the drift")
        if hasattr(self.process, "check_derivatives"):
            self.process.check_derivatives(self.points)
        return drift, diffusion

    @functools.cached_property
    def coefficients(self) -> tuple[Array, Array]:
        """Drift and diffusion tensor in cell units."""
        drift, diffusion = self.fields
        first = np.stack(np.meshgrid(*[s[0][1::2] for s in self._slopes], indexing="ij"), axis=-1).reshape(drift.shape)
        second = np.stack(np.meshgrid(*[s[1][1::2] for s in self._slopes], indexing="ij"), axis=-1).reshape(drift.shape)
        bent = np.einsum("nkk->nk", diffusion) * second / first**3
        return drift / first - bent, diffusion / (first[:, :, None] * first[:, None, :])

    @functools.cached_property
    def exponent(self) -> Array:
        """Largest change of the drift exponent over a cell (n,), |D^-1 (b - div D)| along an axis; inf where D cannot carry it."""
        drift, diffusion = self.fields
        force = drift - finite(self.process.divergence(self.points), drift.shape, self.points, "the divergence of D")
        first = np.stack(np.meshgrid(*[s[0][1::2] for s in self._slopes], indexing="ij"), axis=-1).reshape(drift.shape)
        size = np.abs(diffusion).max(axis=(1, 2))
        regular = np.linalg.det(diffusion) > 1e-14 * size**self.grid.dim
        safe = np.where(regular[:, None, None], diffusion, np.eye(self.grid.dim))
        out = np.abs(np.linalg.solve(safe, force[:, :, None])[:, :, 0] * first).max(axis=1)
        return np.where(regular, out, np.where(np.any(force != 0.0, axis=1), np.inf, 0.0))

    def _spread(self, **parts: sp.spmatrix) -> sp.csr_matrix:
        """Product of matrices of single axes ("_0", "_1", ...), one elsewhere."""
        out = sp.identity(1, format="csr")
        for k, n in enumerate(self.shape):
            out = sp.kron(out, parts.get(f"_{k}", sp.identity(n, format="csr")), format="csr")
        return out

    def _on(self, k: int, matrix: sp.spmatrix) -> sp.csr_matrix:
        return self._spread(**{f"_{k}": matrix})

    # ---- forward --------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def forward(self) -> sp.csr_matrix:
        """Matrix K of the masses m = weights times p: dm/dt = K m; its columns sum to zero without absorbing sides."""
        drift, diffusion = self.coefficients
        d, axes = self.grid.dim, self.axes
        total = sp.csr_matrix((len(drift), len(drift)))
        for k in range(d):
            total = total + _scaled(self._on(k, axes[k].second), diffusion[:, k, k])
            if np.any(drift[:, k]):
                total = total - _scaled(self._on(k, axes[k].first), drift[:, k])
            for j in range(k):
                if np.any(diffusion[:, k, j]):
                    mixed = self._spread(**{f"_{k}": axes[k].first, f"_{j}": axes[j].slope})
                    mixed = mixed + self._spread(**{f"_{j}": axes[j].first, f"_{k}": axes[k].slope})
                    total = total + _scaled(mixed, diffusion[:, k, j])
        total = total + self._wall_damping()
        for k, faces in self._silent_axes.items():
            total = total - self._on(k, axes[k].divergence) @ _rows(_SMOOTH * faces.ravel(), self._on(k, axes[k].seventh))
        held = self._cell_weights
        return _rows(held, _scaled(total, 1.0 / held))

    @functools.cached_property
    def _damped_faces(self) -> dict[int, Array]:
        """Upwind diffusion on the faces next to walls where the cells do not resolve the noise, per axis, in cell units.

        Central stencils that end at a wall may amplify what the noise does not damp; where it does, nothing is added.
        """
        drift, _ = self.coefficients
        ramp = np.clip((self.exponent - _COARSE) / _COARSE, 0.0, 1.0).reshape(self.shape)
        out = {}
        for k, n in enumerate(self.shape):
            if self.sides[k][0] == "periodic":
                continue
            cells = np.moveaxis(ramp * np.abs(drift[:, k]).reshape(self.shape), k, 0)
            faces = np.zeros((n + 1, *cells.shape[1:]))
            for i in [*range(1, _LAYER + 1), *range(n - _LAYER, n)]:
                faces[i] = 0.25 * (cells[i - 1] + cells[i])
            if np.any(faces):
                out[k] = np.moveaxis(faces, 0, k)
        return out

    @functools.cached_property
    def _silent_axes(self) -> dict[int, Array]:
        """Axes along which there is drift but no noise anywhere: size of the drift on the faces, in cell units.

        Central differences give a sawtooth no flux, and nothing else damps it there: its envelope drifts the other way, at 5/3
        or 11/5 of the speed, and adds modes of its own to the spectrum. Eighth differences damp it at about the rate at which
        the drift crosses three cells, with an error of order seven.
        """
        drift, diffusion = self.coefficients
        out, size = {}, np.abs(diffusion).max(initial=0.0)
        for k in range(len(self.axes)):
            speed = np.moveaxis(np.abs(drift[:, k]).reshape(self.shape), k, 0)
            if np.any(speed) and not np.any(diffusion[:, k, k] > 1e-14 * size):
                around = np.concatenate([speed[-1:], speed, speed[:1]])  # next to walls there are no differences
                out[k] = np.moveaxis(0.5 * (around[:-1] + around[1:]), 0, k)
        return out

    def _wall_damping(self) -> sp.csr_matrix:
        total = sp.csr_matrix((len(self.points), len(self.points)))
        for k, faces in self._damped_faces.items():
            total = total + self._on(k, self.axes[k].divergence) @ _rows(faces.ravel(), self._on(k, self.axes[k].step))
        return total

    @functools.cached_property
    def damping(self) -> Array:
        """What the upwind diffusion next to walls adds to D in every cell (n,), the largest of the axes."""
        out = np.zeros(self.shape)
        for k, faces in self._damped_faces.items():
            at = np.moveaxis(faces, k, 0)
            first = np.expand_dims(self._slopes[k][0][1::2], list(range(1, len(self.shape))))
            out = np.maximum(out, np.moveaxis(0.5 * (at[:-1] + at[1:]) * first**2, 0, k))
        return out.ravel()

    @functools.cached_property
    def _cell_weights(self) -> Array:
        """Weights in cell units."""
        return functools.reduce(np.multiply.outer, [a.weights for a in self.axes]).ravel()

    def current(self, values: Array) -> tuple[Array, Array]:
        """Current b p - div(D p) of point values at the centres (n, d), and its divergence (n,), that of the scheme."""
        drift, diffusion = self.coefficients
        jacobian, volume = [s[0][1::2] for s in self._slopes], self.jacobian
        rho, out = values.ravel() * volume, np.empty(drift.shape)
        for k in range(len(self.axes)):
            flux = drift[:, k] * rho
            for j, other in enumerate(self.axes):
                flux = flux - self._on(j, other.slope) @ (diffusion[:, k, j] * rho)
            unit = np.expand_dims(jacobian[k], [j for j in range(len(jacobian)) if j != k])
            out[:, k] = flux * np.broadcast_to(unit, self.shape).ravel() / volume
        outflow = -(self.forward @ (values.ravel() * self.weights)) / self.weights
        return out, outflow

    # ---- backward -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def backward(self) -> sp.csr_matrix:
        """Matrix L of b . grad + D : hess on observables, zero on absorbing sides, no conormal derivative on reflecting ones."""
        drift, diffusion = self.coefficients
        d, axes = self.grid.dim, self.axes
        total = sp.csr_matrix((len(drift), len(drift)))
        for k in range(d):
            datum = self._conormal(k)
            slope = self._on(k, axes[k].back_first) + self._on(k, axes[k].data_first) @ datum
            total = total + _rows(drift[:, k], slope)
            total = total + _rows(diffusion[:, k, k], self._on(k, axes[k].back_second) + self._on(k, axes[k].data_second) @ datum)
            for j in range(d):
                if j != k and np.any(diffusion[:, k, j]):
                    total = total + _rows(diffusion[:, k, j], self._on(j, axes[j].slope) @ slope)
        for k, faces in self._damped_faces.items():
            step = self._on(k, axes[k].step)
            total = total - step.T @ _rows(faces.ravel(), step)
        for k in self._silent_axes:
            total = total - _rows(_SMOOTH * np.abs(drift[:, k]), self._on(k, axes[k].eighth))
        return total.tocsr()

    def _conormal(self, k: int) -> sp.csr_matrix:
        """d_k f on both sides of axis k, where the conormal derivative vanishes: -sum_l (D_kl/D_kk) d_l f on reflecting ones."""
        shape = tuple(2 if j == k else n for j, n in enumerate(self.shape))
        total = sp.csr_matrix((int(np.prod(shape)), int(np.prod(self.shape))))
        if self.grid.dim == 1 or "reflecting" not in self.sides[k]:
            return total
        ends = [self.grid.edges[k][self.block[k].start], self.grid.edges[k][self.block[k].stop]]
        centers = [np.array(ends) if j == k else self.grid.centers[j][self.block[j]] for j in range(self.grid.dim)]
        points = np.stack(np.meshgrid(*centers, indexing="ij"), axis=-1).reshape(-1, self.grid.dim)
        tensor = np.asarray(self.process.diffusion(points), float)
        slopes = [s[0][[0, -1]] if j == k else s[0][1::2] for j, s in enumerate(self._slopes)]
        first = np.stack(np.meshgrid(*slopes, indexing="ij"), axis=-1).reshape(points.shape)
        closed = np.array([side == "reflecting" for side in self.sides[k]])
        shown = np.broadcast_to(np.expand_dims(closed, [j for j in range(len(shape)) if j != k]), shape).ravel()
        for j in range(self.grid.dim):
            if j == k or not np.any(tensor[:, k, j]):
                continue
            safe = np.where(tensor[:, k, k] > 0.0, tensor[:, k, k], 1.0)
            ratio = np.where(shown & (tensor[:, k, k] > 0.0), tensor[:, k, j] / safe, 0.0) * first[:, k] / first[:, j]
            parts = {f"_{k}": self.axes[k].end_values, f"_{j}": self.axes[j].back_first}
            total = total - _rows(ratio, self._spread(**parts))
        return total.tocsr()

    def lifted(self, data: tuple[tuple[float, float], ...]) -> Array:
        """L f (n,) of the function that is zero in all cells and has constant values on absorbing sides, per axis (low, high)."""
        drift, diffusion = self.coefficients
        total = np.zeros(len(drift))
        for k, pair in enumerate(data):
            if not any(pair):
                continue
            ends = np.array([v if side == "absorbing" else 0.0 for v, side in zip(pair, self.sides[k], strict=True)])
            others = [j for j in range(self.grid.dim) if j != k]

            def field(matrix: sp.csr_matrix, k: int = k, ends: Array = ends, others: list[int] = others) -> Array:
                return np.broadcast_to(np.expand_dims(matrix @ ends, others), self.shape).ravel()

            slope = field(self.axes[k].data_first)
            total += drift[:, k] * slope + diffusion[:, k, k] * field(self.axes[k].data_second)
            for j in others:
                if np.any(diffusion[:, k, j]):
                    total += diffusion[:, k, j] * (self._on(j, self.axes[j].slope) @ slope)
        return total


def _scaled(matrix: sp.csr_matrix, columns: Array) -> sp.csr_matrix:
    """Columns times numbers."""
    out = matrix.tocsr(copy=True)
    out.data *= columns[out.indices]
    return out


def _rows(rows: Array, matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Rows times numbers."""
    out = matrix.tocsr(copy=True)
    out.data *= np.repeat(rows, np.diff(out.indptr))
    return out


def finite(values: Any, shape: tuple[int, ...], points: Array, what: str) -> Array:
    """Values as a contiguous float array, or an error that names the grid point."""
    array = np.ascontiguousarray(values, float)
    if array.shape != shape:
        raise ValueError(f"{what} has shape {array.shape} at points of shape {points.shape}, expected {shape}")
    bad = ~np.isfinite(array.reshape(len(points), -1)).all(axis=1)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"{what} is not finite at the grid point x = {points[i].tolist()}: {array[i].tolist()}; "
                         f"{int(bad.sum())} of {len(points)} points are affected, move the box or change the function")  # fmt: skip
    return array


def _mapping_slopes(x: Array, periodic: bool) -> tuple[Array, Array]:
    """First and second derivative with respect to the cell of positions given every half cell, by nine points."""
    n, reach = x.size, 4
    out = np.empty((2, n))
    if periodic:
        length = x[-1] - x[0]
        x = np.concatenate([x[-1 - reach : -1] - length, x, x[1 : reach + 1] + length])
    for i in range(n):
        at = i + reach if periodic else i
        first = min(max(at - reach, 0), x.size - 2 * reach - 1)
        for k in (0, 1):
            w = _nine_points(at - first, k + 1)
            out[k, i] = w @ (x[first : first + 2 * reach + 1] - x[at]) * 2.0 ** (k + 1)
    return out[0], out[1]


@functools.lru_cache(maxsize=32)
def _nine_points(at: int, derivative: int) -> Array:
    nodes = tuple(Fraction(k) for k in range(9))
    return np.array([float(v) for v in fit(nodes, (), ((derivative, Fraction(at), Fraction(1)),))])
