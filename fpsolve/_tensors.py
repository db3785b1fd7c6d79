"""Diffusion tensors of many dimensions in the form in which they are given, so that no d x d matrix is formed unasked.

``D = F F^T + diag(s)`` (constant), the same at the knots of a line and linear in between, and a diagonal that depends on x. The
engines of few dimensions see them as ordinary codes; the wide kernels of the paths engine take the parts.
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import numbers
from ._code import Code, ConstantCode, ExpressionCode, TableCode

__all__ = ["MAX_EMITTED", "DiagonalCode", "LineFactorCode", "LineTableCode", "LowRankCode", "LowRankFactorCode", "check_dense"]

Array = NDArray[np.float64]

#: Dense tensors are formed on request up to this size.
MAX_DENSE_BYTES = 4 << 30
#: Tensors are written out as scalar code up to this dimension.
MAX_EMITTED = 16


def check_dense(points: int, d: int, columns: int) -> None:
    """Refuse to form dense matrices that no memory holds."""
    if points * d * columns * 8 > MAX_DENSE_BYTES:
        raise ValueError(
            f"{points} dense {d} x {columns} matrices would take {points * d * columns * 8 / 1e9:.3g} GB (at most "
            f"{MAX_DENSE_BYTES / 1e9:.3g} GB are formed): ask at fewer points, or use the parts of the tensor"
        )


class LowRankCode(ConstantCode):
    """D = F F^T + diag(s) row by row; dense only where it is asked for."""

    def __init__(self, F: Array, diagonal: Array) -> None:
        self.F, self.diagonal = np.ascontiguousarray(F, float), np.ascontiguousarray(diagonal, float)
        self.dim = len(self.F)
        self.n_out = self.dim**2

    @functools.cached_property
    def values(self) -> Array:  # type: ignore[override]
        check_dense(1, self.dim, self.dim)
        return np.asarray((self.F @ self.F.T + np.diag(self.diagonal)).ravel())

    @property
    def n_params(self) -> int:
        return self.n_out

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        check_dense(int(np.prod(np.shape(x)[:-1])), self.dim, self.dim)
        return super().evaluate(x, params)

    @property
    def uniform(self) -> float | None:
        """The number D of a tensor D times the identity, else None."""
        same = not self.F.any() and np.all(self.diagonal == self.diagonal[0])
        return float(self.diagonal[0]) if same else None

    @property
    def any(self) -> bool:
        """Whether there is any noise."""
        return bool(self.F.any() or self.diagonal.any())

    @property
    def top(self) -> float:
        """An upper bound of the largest eigenvalue."""
        gram = self.F.T @ self.F
        return float((np.linalg.eigvalsh(gram)[-1] if gram.size else 0.0) + self.diagonal.max())

    def form(self, normals: Array) -> Array:
        """n.D n for vectors (..., d)."""
        return np.asarray(np.sum((normals @ self.F) ** 2, -1) + normals**2 @ self.diagonal)


class LowRankFactorCode(ConstantCode):
    """B = sqrt(2) (F | diag(sqrt s)); without the diagonal part where it is zero and F is there."""

    def __init__(self, tensor: LowRankCode) -> None:
        self.tensor, self.dim = tensor, tensor.dim
        self.rank = tensor.F.shape[1]
        self.diagonal = np.sqrt(2.0 * tensor.diagonal) if tensor.diagonal.any() or not self.rank else np.zeros(0)
        self.noise_dim = self.rank + self.diagonal.size
        self.n_out = self.dim * self.noise_dim

    @property
    def parts(self) -> tuple[Code, ...]:
        return (self.tensor,)

    @functools.cached_property
    def values(self) -> Array:  # type: ignore[override]
        check_dense(1, self.dim, self.noise_dim)
        parts = [np.sqrt(2.0) * self.tensor.F] + ([np.diag(self.diagonal)] if self.diagonal.size else [])
        return np.ascontiguousarray(np.hstack(parts)).ravel()

    @property
    def n_params(self) -> int:
        return self.n_out


class DiagonalCode(Code):
    """diag(D_1(x), ..., D_d(x)) row by row, or with `root` its factor sqrt(2 D)."""

    def __init__(self, child: Code, root: bool = False) -> None:
        self.child, self.root, self.dim, self.n_out = child, root, child.dim, child.dim**2
        self.names, self.cacheable, self.array_params = child.names, child.cacheable, child.array_params
        self.noise_level, self.length = child.noise_level, child.length

    @property
    def parts(self) -> tuple[Code, ...]:
        return (self.child,)

    @property
    def n_params(self) -> int:
        return self.child.n_params

    def pack(self, params: Mapping[str, float]) -> Array:
        return self.child.pack(params)

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        source, namespace = self.child.emit(f"{name}_0", inline)
        d = self.dim
        entry = "positive_sqrt(2.0*c[{0}], c[{0}])" if self.root else "c[{0}]"
        outputs = "".join((entry.format(i) if i == j else "0.0") + ", " for i in range(d) for j in range(d))
        body = f"{inline}\ndef {name}(x, p):\n    c = {name}_0(x, p)\n    return ({outputs})\n"
        return f"{source}\n{body}", namespace

    @property
    def is_symbolic(self) -> bool:
        """Whether its derivatives are known in symbols."""
        return isinstance(self.child, ExpressionCode)

    def diagonal(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        """The diagonal (..., d) of D."""
        return self.child.evaluate(x, params)

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        values, d = self.diagonal(x, params), self.dim
        check_dense(int(np.prod(values.shape[:-1])), d, d)
        if self.root:
            values = np.sqrt(2.0 * values)
        out = np.zeros((*values.shape[:-1], d, d))
        out[..., range(d), range(d)] = values
        return out.reshape(*values.shape[:-1], d * d)

    def divergence(self) -> Code:
        """d D_i/d x_i, where it is known in symbols."""
        import sympy

        if not isinstance(self.child, ExpressionCode):
            raise ValueError(
                f"the divergence of a diagonal tensor given as a function is not available in {self.dim}-D; give the diagonal as "
                "expressions, or write the Ito drift and use interpretation='ito'"
            )
        pairs = zip(self.child.expressions, self.child.variables, strict=True)
        slopes = [e.diff(sympy.Symbol(v, real=True)) for e, v in pairs]
        return ExpressionCode(slopes, self.child.variables, self.child.names)


class _LineCode(Code):
    """A table along the line s = u.x: equally spaced knots, linear in between, constant beyond."""

    array_params = True

    def __init__(self, knots: Array, direction: Array) -> None:
        self.knots, self.direction, self.dim = np.asarray(knots, float), np.asarray(direction, float), len(direction)

    @property
    def step(self) -> float:
        return float(self.knots[1] - self.knots[0])

    def place(self, x: Any) -> tuple[NDArray[np.int64], Array]:
        """(interval, weight of its upper knot) of points (..., d)."""
        n = len(self.knots)
        s = np.clip(np.nan_to_num((np.asarray(x, float) @ self.direction - self.knots[0]) / self.step), 0.0, n - 1.0)
        k = np.minimum(s.astype(np.int64), n - 2)
        return k, s - k

    def _along(self, name: str, inline: str, table: TableCode) -> tuple[str, dict[str, Any]]:
        source, namespace = table.emit(f"{name}_0", inline)
        d = self.dim
        line = " + ".join(f"p[{i}]*x[{i}]" for i in range(d))
        return f"{source}\n{inline}\ndef {name}(x, p):\n    return {name}_0(({line},), p[{d}:])\n", namespace


class LineTableCode(_LineCode):
    """D(x) = (1 - w) D_k + w D_{k+1} along a line, with D_k = F_k F_k^T + diag(s_k).

    ``F`` (n, d, r) and ``diagonal`` (n, d) are those of D, not of a covariance.
    """

    def __init__(self, F: Array, diagonal: Array, knots: Array, direction: Array) -> None:
        super().__init__(knots, direction)
        self.F, self.diagonal = np.ascontiguousarray(F, float), np.ascontiguousarray(diagonal, float)
        self.n_out = self.dim**2

    @functools.cached_property
    def table(self) -> TableCode:
        """The dense tensors as a table over s."""
        check_dense(len(self.knots), self.dim, self.dim)
        D = self.F @ np.swapaxes(self.F, 1, 2) + self.diagonal[:, :, None] * np.eye(self.dim)
        return TableCode(D, [self.knots])

    def pack(self, params: Mapping[str, float]) -> Array:
        return np.concatenate([self.direction, self.table.pack(params)])

    @property
    def n_params(self) -> int:
        return self.dim + self.table.n_params

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        return self._along(name, inline, self.table)

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        x = np.asarray(x, float)
        check_dense(int(np.prod(x.shape[:-1])), self.dim, self.dim)
        return self.table.evaluate((x @ self.direction)[..., None], params)

    def divergence(self) -> Code:
        """D'(s) u: on each interval a constant vector."""
        lower = np.einsum("kir,kr->ki", self.F, np.einsum("kir,i->kr", self.F, self.direction)) + self.diagonal * self.direction
        return LineSlopeCode(np.diff(lower, axis=0) / self.step, self.knots, self.direction)

    @property
    def top(self) -> float:
        """An upper bound of the largest eigenvalue anywhere: linear interpolation does not exceed the knots."""
        return max(LowRankCode(F, s).top for F, s in zip(self.F, self.diagonal, strict=True))

    def form(self, x: Array, normals: Array) -> Array:
        """n.D(x) n for points (n, d) and vectors (n, faces, d)."""
        k, w = self.place(x)
        ends = [
            np.sum(np.einsum("nfd,ndr->nfr", normals, self.F[j]) ** 2, -1) + np.einsum("nfd,nd->nf", normals**2, self.diagonal[j])
            for j in (k, k + 1)
        ]
        return np.asarray((1.0 - w)[:, None] * ends[0] + w[:, None] * ends[1])


class LineSlopeCode(_LineCode):
    """Vectors (n - 1, d), constant on each interval of a line and zero beyond its ends."""

    def __init__(self, vectors: Array, knots: Array, direction: Array) -> None:
        super().__init__(knots, direction)
        self.vectors, self.n_out = np.ascontiguousarray(vectors, float), len(direction)

    def pack(self, params: Mapping[str, float]) -> Array:
        return np.concatenate([self.direction, [self.knots[0], self.step], self.vectors.ravel()])

    @property
    def n_params(self) -> int:
        return self.dim + 2 + self.vectors.size

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        d, n = self.dim, len(self.knots)
        line = " + ".join(f"p[{i}]*x[{i}]" for i in range(d))
        lines = [f"    s = ({line} - p[{d}])/p[{d + 1}]", f"    inside = 1.0 if (s > 0.0) & (s < {n - 1}.0) else 0.0"]
        lines += [f"    at = {d + 2} + {d}*min(int(clamp(s, 0.0, {n - 1}.0)), {n - 2})"]
        outputs = "".join(f"inside*p[at + {i}], " for i in range(d))
        return "\n".join([inline, f"def {name}(x, p):", *lines, f"    return ({outputs})", ""]), {}

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        s = (np.asarray(x, float) @ self.direction - self.knots[0]) / self.step
        inside = (s > 0.0) & (s < len(self.knots) - 1.0)
        return np.asarray(np.where(inside[..., None], self.vectors[self.place(x)[0]], 0.0))


class LineFactorCode(_LineCode):
    """B(x) = sqrt(2) (sqrt(1 - w) F_k | sqrt(w) F_{k+1} | diag(sqrt(s))): B B^T is linear in w, and nothing is factored on the way.

    Even knots come first, so that a column belongs to the same normal on both sides of a knot.
    """

    def __init__(self, tensor: LineTableCode) -> None:
        super().__init__(tensor.knots, tensor.direction)
        self.tensor, self.rank = tensor, tensor.F.shape[2]
        self.has_diagonal = bool(tensor.diagonal.any()) or not self.rank
        self.noise_dim = 2 * self.rank + (self.dim if self.has_diagonal else 0)
        self.n_out = self.dim * self.noise_dim

    @property
    def parts(self) -> tuple[Code, ...]:
        return (self.tensor,)

    def pack(self, params: Mapping[str, float]) -> Array:
        return self.tensor.pack(params)

    @property
    def n_params(self) -> int:
        return self.tensor.n_params

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        k, w = self.place(x)
        check_dense(int(np.prod(w.shape)), self.dim, self.noise_dim)
        r, d, tensor = self.rank, self.dim, self.tensor
        out = np.zeros((*w.shape, d, self.noise_dim))
        even = (k % 2 == 0)[..., None, None]
        lower = np.sqrt(1.0 - w)[..., None, None] * tensor.F[k]
        upper = np.sqrt(w)[..., None, None] * tensor.F[k + 1]
        out[..., :r], out[..., r : 2 * r] = np.where(even, lower, upper), np.where(even, upper, lower)
        if self.has_diagonal:
            s = (1.0 - w)[..., None] * tensor.diagonal[k] + w[..., None] * tensor.diagonal[k + 1]
            out[..., range(d), range(2 * r, 2 * r + d)] = np.sqrt(s)
        return np.asarray(np.sqrt(2.0) * out.reshape(*w.shape, -1))


# ---- input ----------------------------------------------------------------------------------------------------------


def is_pair(C: Any, ndim: int) -> bool:
    """Whether C is a pair (F, diagonal) whose F has `ndim` axes, not an array."""
    return isinstance(C, tuple) and len(C) == 2 and np.ndim(C[0]) == ndim


def low_rank_parts(name: str, F: Any, diagonal: Any, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
    """F (..., d, r) and the diagonal (..., d), checked; `shape` stands in front of both."""
    factors, expected = numbers("F", F), f"({', '.join([*map(str, shape), 'd', 'r'])})"
    if factors.ndim != len(shape) + 2 or factors.shape[: len(shape)] != shape or 0 in factors.shape[:-1]:
        raise ValueError(f"{name}: F must have shape {expected}, got {factors.shape}")
    try:
        s = np.broadcast_to(numbers("diagonal", diagonal), factors.shape[:-1]).copy()
    except ValueError:
        raise ValueError(
            f"{name}: the diagonal must be a number or have shape {factors.shape[:-1]}, got {np.shape(diagonal)}"
        ) from None
    for what, array in (("F", factors), ("the diagonal", s)):
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name}: {what} has {int(np.sum(~np.isfinite(array)))} entries that are not finite")
    if np.any(s < 0.0):
        at = int(np.argmin(s))
        raise ValueError(
            f"{name}: the diagonal must be >= 0, got {s.ravel()[at]:.6g} at entry {at}; F F^T + diag(s) is then positive "
            "semi-definite whatever F is"
        )
    return factors, s


def line_parts(C: Any, axes: Any, along: Any) -> tuple[Array, Array, Array, Array]:
    """(F (n, d, r), diagonal (n, d), knots (n,), direction (d,)) of covariances given at the knots of a line."""
    if len(axes) != 1:
        raise ValueError(f"a table along a line has one axis, the knots of s = u.x; got {len(axes)} axes")
    knots = np.asarray(axes[0], float)
    check_knots(knots, 0)
    n = len(knots)
    if is_pair(C, 3):
        F, s = low_rank_parts("tabulated C", C[0], C[1], (n,))
    else:
        table = np.asarray(C, float)
        if table.ndim != 3 or table.shape[0] != n or table.shape[1] != table.shape[2]:
            raise ValueError(
                f"tabulated C must have shape ({n}, d, d) for {n} knots, or be a pair (F ({n}, d, r), diagonal ({n}, d)); "
                f"got shape {table.shape}"
            )
        F, s = np.array([psd_root(D, f"C at knot {k}") for k, D in enumerate(table)]), np.zeros(table.shape[:2])
    return F, s, knots, _direction(along, F.shape[1])


def _direction(along: Any, d: int) -> Array:
    if isinstance(along, (int, np.integer)) and not isinstance(along, bool):
        if not 0 <= along < d:
            raise ValueError(f"along must be a coordinate in 0..{d - 1} or a direction ({d},), got {along}")
        return np.asarray(np.eye(1, d, int(along))[0])
    u = np.asarray(along, float)
    if u.shape != (d,) or not np.all(np.isfinite(u)) or not u.any():
        raise ValueError(
            f"along must be a coordinate in 0..{d - 1} or a direction of {d} finite numbers, not all zero; got {along!r}"
        )
    return u


def check_knots(a: Array, k: int) -> None:
    if a.ndim != 1 or len(a) < 2 or np.any(np.diff(a) <= 0) or not np.allclose(np.diff(a), a[1] - a[0], rtol=1e-9):
        raise ValueError(f"axes[{k}] must hold at least two equally spaced increasing numbers, got {reprlib.repr(a.tolist())}")


def psd_root(D: Array, name: str) -> Array:
    """The symmetric root of a positive semi-definite matrix; others are refused with their lowest eigenvalue."""
    size = float(np.abs(D).max())
    if not np.isfinite(size) or np.abs(D - D.T).max() > 1e-10 * size:
        gap = float(np.abs(D - D.T).max())
        raise ValueError(f"{name} must be a finite symmetric matrix, differs from its transpose by {gap:.3g}; use (C + C.T)/2 if "
                         "that is what you mean")  # fmt: skip
    values, vectors = np.linalg.eigh(D)
    if values[0] < -1e-10 * size:
        raise ValueError(f"{name} is not positive semi-definite: eigenvalue {values[0]:.6g}; all must be >= 0")
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
