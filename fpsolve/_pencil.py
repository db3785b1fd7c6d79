"""Linear algebra of the high-order matrices, which are no M-matrices: null vectors, slow modes, resolvents, with their rounding.

Ordinary elimination subtracts. What that costs is known: a solution that is larger by 1/(rounding times the largest rate) than its
data has no digits left. Every function here says how large the rounding may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, LinearOperator, eigs

from ._fronts import Fronts
from ._progress import tick
from ._transient import Terms, _advance
from .errors import FpsolveError

__all__ = [
    "ROUNDING",
    "Resolvent",
    "coordinates",
    "evolve",
    "factorised",
    "in_pairs",
    "largest_rate",
    "null_vector",
    "slow_modes",
    "slowest",
]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

#: Rounding of a matrix-vector product relative to the largest rate: a few units in the last place per row.
ROUNDING = 2e-15
#: Shift of inverse iterations relative to the largest rate, well above rounding.
_SHIFT = 1e-10
#: Solves after which an evolution is given up: hard starts take some hundred, growing modes any number.
_MOST_SOLVES = 3000
#: Share of the mass that rounding may move between basins before there is no answer.
_LOST = 1e-3


def coordinates(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Cell indices (n, d) in C order."""
    return np.ascontiguousarray(np.indices(shape).reshape(len(shape), -1).T, np.int64)


def largest_rate(matrix: sp.csr_matrix) -> float:
    """Size of the fastest rate."""
    return float(np.abs(matrix.diagonal()).max())


class Resolvent(Terms):
    """(1 - g K)^-1, factorised anew when g changes; what the time stepping of `_transient` asks for."""

    def __init__(self, matrix: sp.csr_matrix, shape: tuple[int, ...]) -> None:
        self.matrix, self.unit = matrix, sp.identity(matrix.shape[0], format="csr")
        self._fronts: Fronts | None = None
        self._shape = shape
        self.pole = 0.0
        self.factorisations = self.solves = 0

    def set_pole(self, g: float) -> None:
        """Factorise for another g."""
        if g == self.pole:
            return
        if self._fronts is None:
            self._fronts = Fronts(self.matrix + self.unit, coordinates(self._shape))
        self._fronts.factorise(self.unit - g * self.matrix)
        self.pole = g
        self.factorisations += 1

    def __call__(self, p: Array) -> Array:
        assert self._fronts is not None
        self.solves += 1
        if self.solves > _MOST_SOLVES:
            raise FpsolveError(
                f"the evolution did not reach its tolerance in {_MOST_SOLVES} solves: raise rtol, shorten the "
                "time, or use scheme='monotone'"
            )
        return self._fronts.solve(p)


def evolve(
    matrix: sp.csr_matrix, start: Array, times: Sequence[float] | Array, rtol: float, shape: tuple[int, ...], conserved: bool
) -> tuple[Array, dict[str, Any]]:
    """exp(t K) start at increasing times, with the rational series of `_transient`: values (nt, n) and what it took.

    Raises
    ------
    FpsolveError
        If the tolerance is not met, as where the matrix has growing modes.
    """
    resolvent = Resolvent(matrix, shape)
    spans = np.diff(np.asarray(times, float), prepend=0.0)
    total = float(np.abs(start).sum())
    share = max(rtol / max(1, int(np.count_nonzero(spans))), 1e-12) * total
    out, errors, p, steps, most, drift = np.empty((spans.size, start.size)), np.zeros(spans.size), start.copy(), 1, 1, 0.0
    for k, span in enumerate(spans):
        if span > 0.0 and total > 0.0:
            before = float(p.sum())
            p, errors[k], steps = _advance(resolvent, p, float(span), share, share, total, steps)  # type: ignore[arg-type]
            most, steps = max(most, steps), max(1, steps // 2)
            if conserved:
                # each solve conserves the sum but for rounding, which is put back, and reported
                change = float(p.sum()) - before
                drift = max(drift, abs(change) / total)
                p = p - change * np.abs(p) / float(np.abs(p).sum())
        out[k] = p
    info = {"method": "rational", "steps": most, "error": np.cumsum(errors) / max(total, 1e-300), "mass_drift": drift,
            "factorisations": resolvent.factorisations, "solves": resolvent.solves}  # fmt: skip
    return out, info


def null_vector(matrix: sp.csr_matrix, shape: tuple[int, ...]) -> tuple[Array, dict[str, float], Complex]:
    """Null vector of sum one of a matrix whose columns sum to zero, how well it is known, and the eigenvalues nearest to zero.

    The information holds the residual relative to the largest rate and the share of the mass that rounding may have moved.

    Raises
    ------
    FpsolveError
        If a second eigenvalue is so close to zero that rounding decides.
    """
    n, scale = matrix.shape[0], largest_rate(matrix)
    shift = _SHIFT * scale
    solver = Fronts(matrix + sp.identity(n), coordinates(shape)).factorise(matrix - shift * sp.identity(n, format="csr"))
    block = np.column_stack([np.ones(n), np.random.default_rng(0).standard_normal((n, 2))])
    for _ in range(2):
        block = np.linalg.qr(np.column_stack([solver.solve(v) for v in block.T]))[0]
    again = np.column_stack([solver.solve(v) for v in block.T])
    theta, small = np.linalg.eig(block.T @ again)
    values = np.sort_complex(shift + 1.0 / theta)[::-1]
    nearest = np.sort(np.abs(values))
    moved = ROUNDING * scale / max(float(nearest[1]), 1e-300)
    p = np.real(block @ small[:, int(np.argmax(np.abs(theta)))])
    for _ in range(2):
        p = solver.solve(p)
        p /= np.abs(p).sum()
    total = float(p.sum())
    if not moved < _LOST or not abs(total) > 1e-6:
        raise FpsolveError(f"the stationary density is not determined in double precision: the slowest rate, {nearest[1]:.3g}, is "
                           f"lost in the rounding of rates of {scale:.3g}; scheme='monotone' solves without subtractions at any "
                           "barrier")  # fmt: skip
    p = p / total
    residual = float(np.abs(matrix @ p).max() / (scale * np.abs(p).max()))
    return p, {"residual": residual, "moved by rounding": moved}, values


def slowest(matrix: sp.csr_matrix, shape: tuple[int, ...], *, rtol: float = 1e-13) -> tuple[Array, float]:
    """Left-over masses of sum one and decay rate of a matrix that loses mass, by inverse iteration.

    Raises
    ------
    FpsolveError
        If the rate is lost in rounding, the iteration does not settle, or the rate is not positive.
    """
    scale = largest_rate(matrix)
    solver = Fronts(matrix + sp.identity(matrix.shape[0]), coordinates(shape)).factorise(matrix)
    nu, rate = np.full(matrix.shape[0], 1.0 / matrix.shape[0]), np.inf
    for _ in range(500):
        mu = -solver.solve(nu)
        total = float(mu.sum())
        if not np.isfinite(total) or total == 0.0:
            break
        change, before = float(np.abs(mu / total - nu).sum()), rate
        nu, rate = mu / total, 1.0 / total
        rounding = ROUNDING * scale / abs(rate)
        if not rounding < _LOST:
            raise FpsolveError(f"the decay rate {rate:.3g} is lost in the rounding of rates of {scale:.3g}; scheme='monotone' "
                               "keeps every digit at any barrier")  # fmt: skip
        if change < max(1e-10, 10.0 * rounding) and abs(rate - before) < max(rtol, rounding) * abs(rate):
            if rate <= 0.0:
                raise FpsolveError(f"the slowest mode grows, at the rate {-rate:.3g}: the cells do not resolve the noise; use "
                                   "more cells or scheme='monotone'")  # fmt: skip
            return nu, float(rate)
    raise FpsolveError("inverse iteration for the slowest decay did not settle: the two slowest rates are close or complex; "
                       "restrict the region to one basin, or use scheme='monotone'")  # fmt: skip


def in_pairs(values: Complex) -> NDArray[np.bool_]:
    """Which of some eigenvalues of a real matrix are real or come with their conjugate: ARPACK may cut the pair farthest out.

    Examples
    --------
    >>> in_pairs(np.array([1 + 1j, 0.5, 1 - 1j, 0.2 + 3j]))
    array([ True,  True,  True, False])
    """
    apart = np.abs(values[:, None] - values.conj()[None, :]).min(axis=1)
    return np.asarray((values.imag == 0.0) | (apart < 1e-6 * np.abs(values)))


def slow_modes(
    matrix: sp.csr_matrix, stationary: tuple[Array, Array] | None, count: int, shape: tuple[int, ...]
) -> tuple[Complex, Complex, tuple[float, float]]:
    """The slowest eigenvalues, largest real part first, and eigenvectors (n, k), without the stationary mode; and a circle.

    `stationary` holds the right and left null vectors of product one, projected out. No other mode lies in the circle (centre,
    radius).

    Raises
    ------
    FpsolveError
        If the iteration does not converge.
    """
    n, scale = matrix.shape[0], largest_rate(matrix)
    unit = sp.identity(n, format="csr")
    solver = Fronts(matrix + unit, coordinates(shape))

    def project(x: Array) -> Array:
        return x if stationary is None else np.asarray(x - stationary[0] * (stationary[1] @ x))

    def nearest(shift: float) -> tuple[Complex, Complex]:
        solver.factorise(shift * unit - matrix)

        def apply(x: Array) -> Array:
            tick()
            return project(solver.solve(project(np.ravel(x))))

        operator = LinearOperator((n, n), matvec=apply, dtype=float)
        start = project(np.random.default_rng(0).standard_normal(n))
        try:
            theta, vectors = eigs(operator, count, which="LM", v0=start, maxiter=2000, ncv=min(n, 2 * count + 16), tol=1e-13)
        except ArpackError as error:
            raise FpsolveError(f"the eigenvalue iteration did not converge: {error}; ask for fewer modes") from error
        whole = in_pairs(theta)
        theta, vectors = theta[whole], vectors[:, whole]
        order = np.argsort(-(shift - 1.0 / theta).real, kind="stable")
        return np.asarray(shift - 1.0 / theta[order], np.complex128), np.asarray(vectors[:, order], np.complex128)

    shift = scale / n ** (2.0 / len(shape)) if stationary is not None else 0.0
    values, vectors = nearest(shift)
    reach = float(np.sort(np.abs(values))[max(0, count // 2 - 1)])
    if stationary is not None and not 0.3 * reach <= shift <= 3.0 * reach:
        shift = max(reach, 1e-12 * scale)
        values, vectors = nearest(shift)
    return values, vectors, (shift, float(np.abs(shift - values).max()))


def factorised(matrix: sp.csr_matrix, shape: tuple[int, ...]) -> Fronts:
    """The factors of a matrix as it is."""
    return Fronts(matrix, coordinates(shape)).factorise(matrix)
