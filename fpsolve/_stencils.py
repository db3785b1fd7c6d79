"""Finite-difference matrices of one axis: conservative first and second derivatives of order four or six, and their walls.

Lengths are in cells: centres at i + 1/2, faces at i = 0 ... n. A function g has on every inner face the *flux value*
F_i = g - g''/24 + 7 g''''/5760, whose difference over a cell is the derivative of g at the centre, F_(i+1) - F_i = g'(i + 1/2)
(C.-W. Shu and S. Osher, J. Comput. Phys. 77, 439 (1988)). On a wall the flux is a datum of the problem and kept as it is,
F_0 = g(0). Next to it

    F_1 - F_0 = int_0^1 g' ds - g''(1)/24 + 7 g''''(1)/5760 = sum_j H_0j g'(j + 1/2),

so H g' = Delta F with H = 1 but for its first and last row, and sum_ij H_ij g'_j = F_n - F_0 holds exactly whatever the
stencils of F are: the column sums of H are the weights of the conserved mass, a quadrature of the same order.
All weights are rational and found in exact arithmetic.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["AxisMatrices", "axis_matrices", "fit"]

Array = NDArray[np.float64]

_HALF = Fraction(1, 2)
#: Data of one-sided stencils, beyond the order: with fewer in the flux of the drift the scheme stays stable at walls up to far
#: larger drifts per cell, and an error on a face next to a wall costs one power of the cell width less than elsewhere.
_EXTRA = {"flux": -1, "flux of slope": 0, "slope": 0, "end": 0, "backward": 1}
#: Coefficients of g'' and g'''' in the flux value.
_FLUX = {4: (Fraction(-1, 24),), 6: (Fraction(-1, 24), Fraction(7, 5760))}


def _falling(power: int, derivative: int) -> int:
    """Factor of the derivative of s^power."""
    out = 1
    for k in range(derivative):
        out *= power - k
    return out


def _monomial(power: int, derivative: int, at: Fraction) -> Fraction:
    return Fraction(0) if derivative > power else _falling(power, derivative) * at ** (power - derivative)


@functools.lru_cache(maxsize=4096)
def fit(nodes: tuple[Fraction, ...], slopes: tuple[Fraction, ...], target: tuple[tuple[int, Fraction, Fraction], ...],
         integral: bool = False) -> tuple[Fraction, ...]:  # fmt: skip
    """Weights of the values at `nodes` and of the derivatives at `slopes` that give a functional exactly for low powers.

    The functional is the sum of coefficient times derivative at a point over the triples (derivative, point, coefficient), plus
    the integral from 0 to 1 if asked for.
    """
    m = len(nodes) + len(slopes)
    rows = []
    for power in range(m):
        value = sum((c * _monomial(power, d, at) for d, at, c in target), Fraction(1, power + 1) if integral else Fraction(0))
        rows.append([*(_monomial(power, 0, x) for x in nodes), *(_monomial(power, 1, x) for x in slopes), value])
    for k in range(m):
        pivot = next(i for i in range(k, m) if rows[i][k] != 0)
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(m):
            if i != k and rows[i][k] != 0:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    return tuple(row[-1] for row in rows)


def _flux_target(at: int, derivative: int, order: int) -> tuple[tuple[int, Fraction, Fraction], ...]:
    """The flux value of g (derivative 0) or g' (1) on an inner face."""
    terms = [(derivative, Fraction(at), Fraction(1))]
    terms += [(derivative + 2 * (k + 1), Fraction(at), c) for k, c in enumerate(_FLUX[order])]
    return tuple(terms)


@dataclasses.dataclass(frozen=True)
class AxisMatrices:
    """Matrices of one axis, in units of cells; those with a datum at the walls take it as zero.

    Attributes
    ----------
    first, second : (n, n)
        Conservative g' and g'' of a density: the flux g or g' is dropped on reflecting walls, g is zero on absorbing ones.
    slope : (n, n)
        g' at the centres of a density, for mixed derivatives.
    back_first, back_second : (n, n)
        g' and g'' of an observable: g' is zero on reflecting walls, g on absorbing ones.
    data_first, data_second : (n, 2)
        What the datum of the low and the high side adds to them (g' on reflecting walls, g on absorbing ones).
    end_values : (2, n)
        g on the two walls; rows of zeros where periodic, and where g is zero: on absorbing ones.
    divergence : (n, n + 1)
        From fluxes on the faces to the conservative derivative, as in `first`.
    step : (n + 1, n)
        Differences of neighbouring cells on the faces, none on walls.
    seventh, eighth : (n + 1, n), (n, n)
        Differences of seventh order on the faces and of eighth order in the cells, none where they would reach across a wall.
    weights : (n,)
        Conserved weights of point values, close to one.
    """

    first: sp.csr_matrix
    second: sp.csr_matrix
    slope: sp.csr_matrix
    back_first: sp.csr_matrix
    back_second: sp.csr_matrix
    data_first: sp.csr_matrix
    data_second: sp.csr_matrix
    end_values: sp.csr_matrix
    divergence: sp.csr_matrix
    step: sp.csr_matrix
    seventh: sp.csr_matrix
    eighth: sp.csr_matrix
    weights: Array


class _Rows:
    """Sparse rows with weights of centres, periodic or not."""

    def __init__(self, rows: int, n: int) -> None:
        self.shape = (rows, n)
        self.rows: list[int] = []
        self.columns: list[int] = []
        self.values: list[float] = []

    def add(self, row: int, columns: Sequence[int], weights: Sequence[Fraction]) -> None:
        for column, weight in zip(columns, weights, strict=True):
            if weight != 0:
                self.rows.append(row)
                self.columns.append(column % self.shape[1])
                self.values.append(float(weight))

    def matrix(self) -> sp.csr_matrix:
        return sp.csr_matrix((self.values, (self.rows, self.columns)), shape=self.shape)


@functools.lru_cache(maxsize=32)
def axis_matrices(n: int, sides: tuple[str, str], order: int) -> AxisMatrices:
    """The matrices of an axis of n cells with the given sides.

    Examples
    --------
    >>> import numpy as np
    >>> axis = axis_matrices(40, ("reflecting", "reflecting"), 6)
    >>> x = (np.arange(40) + 0.5) / 40
    >>> bool(abs(axis.weights @ np.exp(x) / 40 - np.e + 1) < 1e-9), bool(abs(axis.weights @ axis.second).max() < 1e-12)
    (True, True)
    """
    build = _Build(n, sides, order)
    return build.matrices()


class _Build:
    """Stencils of one axis."""

    def __init__(self, n: int, sides: tuple[str, str], order: int) -> None:
        self.n, self.sides, self.order, self.half = n, sides, order, order // 2
        self.periodic = sides[0] == "periodic"
        self._inner: dict[Any, tuple[Fraction, ...]] = {}

    def _near(self, first: int, count: int, kind: str) -> tuple[list[int], int | None]:
        """`count` cells from `first` on, near a wall those next to it, and the side whose datum belongs to them, if any."""
        n = self.n
        if self.periodic or (0 <= first and first + count <= n):
            return list(range(first, first + count)), None
        side = 0 if first < 0 else 1
        size = self.order + _EXTRA[kind] - (self.sides[side] == "absorbing" or kind == "backward")
        return (list(range(size)) if side == 0 else list(range(n - size, n))), side

    def _row(self, out: _Rows, row: int, first: int, count: int, target: tuple[tuple[int, Fraction, Fraction], ...],
             kind: str, data: _Rows | None = None) -> None:  # fmt: skip
        """One row: of a density, zero on absorbing walls, or an observable ("backward"), with a datum on every wall."""
        cells, side = self._near(first, count, kind)
        inner = (kind, count, tuple((d, c) for d, _, c in target))  # the same stencil wherever no wall is near
        if side is None and inner in self._inner:
            out.add(row, cells, self._inner[inner])
            return
        nodes, slopes = [Fraction(c) + _HALF for c in cells], []
        wall = Fraction(0 if side == 0 else self.n)
        datum = side is not None and (self.sides[side] == "absorbing" or kind == "backward")
        if datum and self.sides[side or 0] == "absorbing":
            nodes.append(wall)
        elif datum:
            slopes.append(wall)
        shift = Fraction(cells[0])
        weights = fit(tuple(x - shift for x in nodes), tuple(x - shift for x in slopes),
                       tuple((d, at - shift, c) for d, at, c in target))  # fmt: skip
        out.add(row, cells, weights[: len(cells)])
        if side is None:
            self._inner[inner] = weights
        if datum and data is not None:
            data.add(row, [side or 0], weights[len(cells) :])

    def _faces(self, derivative: int) -> sp.csr_matrix:
        """Flux values of g or g' on all n + 1 faces."""
        rows = _Rows(self.n + 1, self.n)
        for i in range(self.n + 1):
            side = None if self.periodic else {0: 0, self.n: 1}.get(i)
            if side is None:
                self._row(rows, i, i - self.half, self.order, _flux_target(i, derivative, self.order),
                          ("flux", "flux of slope")[derivative])  # fmt: skip
            elif self.sides[side] == "absorbing" and derivative == 1:
                self._row(rows, i, -1 if side == 0 else self.n, 1, ((1, Fraction(i), Fraction(1)),), "flux of slope")
        return rows.matrix()

    def _centres(self, derivative: int, kind: str) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        rows, data = _Rows(self.n, self.n), _Rows(self.n, 2)
        for i in range(self.n):
            target = ((derivative, Fraction(i) + _HALF, Fraction(1)),)
            self._row(rows, i, i - self.half, self.order + 1, target, kind, data)
        return rows.matrix(), data.matrix()

    def _ends(self) -> sp.csr_matrix:
        rows = _Rows(2, self.n)
        for side in (0, 1):
            if self.sides[side] == "reflecting":
                self._row(rows, side, -1 if side == 0 else self.n, 1, ((0, Fraction(side * self.n), Fraction(1)),), "end")
        return rows.matrix()

    def _norm(self) -> tuple[sp.csr_matrix, Array]:
        """H^-1, and the column sums of H."""
        if self.periodic:
            return sp.identity(self.n, format="csr"), np.ones(self.n)
        nodes = tuple(Fraction(k) + _HALF for k in range(self.order))
        target = tuple((1 + 2 * k, Fraction(1), c) for k, c in enumerate(_FLUX[self.order]))
        weights = np.array([float(v) for v in fit(nodes, (), target, True)])
        inverse = sp.identity(self.n, format="lil")
        inverse[0, : self.order] = np.concatenate([[1.0], -weights[1:]]) / weights[0]
        inverse[-1, -self.order :] = inverse[0, : self.order].toarray()[0, ::-1]
        total = np.ones(self.n)
        total[[0, -1]] = 0.0
        total[: self.order] += weights
        total[-self.order :] += weights[::-1]
        return inverse.tocsr(), total

    def _differences(self, power: int) -> sp.csr_matrix:
        """Plain differences of neighbouring cells: of odd powers on the n + 1 faces, of even ones in the n cells."""
        reach, rows = (power + 1) // 2 if power % 2 else power // 2, self.n + power % 2
        out = _Rows(rows, self.n)
        weights = [Fraction((-1) ** (power - j) * math.comb(power, j)) for j in range(power + 1)]
        for i in range(rows):
            cells = range(i - reach, i - reach + power + 1)
            if self.periodic or (cells[0] >= 0 and cells[-1] < self.n):
                out.add(i, cells, weights)
        return out.matrix()

    def matrices(self) -> AxisMatrices:
        norm, weights = self._norm()
        difference = sp.diags([-np.ones(self.n), np.ones(self.n)], [0, 1], shape=(self.n, self.n + 1), format="csr")
        divergence = (norm @ difference).tocsr()
        first, second = divergence @ self._faces(0), divergence @ self._faces(1)
        slope, _ = self._centres(1, "slope")
        back_first, data_first = self._centres(1, "backward")
        back_second, data_second = self._centres(2, "backward")
        return AxisMatrices(first.tocsr(), second.tocsr(), slope, back_first, back_second, data_first, data_second,
                            self._ends(), divergence, self._differences(1), self._differences(7), self._differences(8),
                            weights)  # fmt: skip
