"""Large sparse chains by iteration: blocks of cells are eliminated, what happens inside the blocks is iterated.

Elimination in 3-D takes n^2 operations and n^(4/3) numbers. Beyond a size the same questions are put to two levels, the cells and
a chain of blocks of cells, in which the cells of a block are weighted with their stationary law. That small chain is eliminated
without subtractions, so basins that exchange slowly are no obstacle.

* The stationary law comes from rounds of aggregation and Gauss-Seidel sweeps (J. R. Koury, D. F. McAllister, W. J. Stewart, SIAM
  J. Algebr. Discrete Methods 5, 164 (1984)): positive throughout, and every entry converges relative to itself.
* Equations A x = b are solved by GMRES, preconditioned by incomplete elimination of the cells and elimination of the blocks. A
  residual in doubles is known to 1e-16 of its largest term only, so this cannot be accurate at any barrier. For b > 0 the bound
  |x - x*| <= max(|b - A x| / b) x* holds entry by entry, as A is an M-matrix; where it stays too large, the answer is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from fpsolve import _elimination as elimination
from fpsolve._kernels import incomplete, wide
from fpsolve._progress import tick
from fpsolve.errors import FpsolveError

__all__ = ["Iterative", "gmres"]

_log = logging.getLogger(__name__)

Array = np.ndarray
_Map = Callable[[Array], Array]

#: Cells of the chain of blocks at most.
_BLOCKS = 5000
#: Relative residual that is aimed at, the largest that is accepted, and iterations in all and between restarts.
_AIM, _ACCEPTED, _MOST, _RESTART = 1e-10, 1e-4, 400, 40
#: What to do where iteration does not do.
_REMEDY = f"use fewer cells: chains of at most {elimination.ELIMINATED} states are eliminated without subtractions, at any barrier"
#: Gauss-Seidel sweeps in a round, most rounds, and the relative change of any entry at which the law is settled, or good enough to
#: weight the cells.
_SWEEPS, _ROUNDS, _SETTLED, _ROUGH = 8, 80, 1e-10, 0.05
#: Entries of a law below this part of the largest are not followed.
_LEAST = 1e-290


def gmres(apply: _Map, precondition: _Map, b: Array, x: Array, tolerance: float, most: int = _MOST) -> tuple[Array, float, int]:
    """Solution of apply(x) = b from the start x, the norm of its residual, and the iterations.

    Restarted GMRES, preconditioned on the right. Ends at |residual| <= tolerance (absolute), after `most` iterations, or where a
    restart gains less than a factor two.
    Y. Saad, M. Schultz, SIAM J. Sci. Stat. Comput. 7, 856 (1986).

    Examples
    --------
    >>> A = np.array([[2.0, 1.0], [0.0, 3.0]])
    >>> gmres(lambda v: A @ v, lambda v: v, np.array([3.0, 3.0]), np.zeros(2), 1e-12)[0].round(12)
    array([1., 1.])
    """
    residual = b - apply(x)
    size, done = float(np.linalg.norm(residual)), 0
    while size > tolerance and done < most:
        before, m = size, min(_RESTART, b.size, most - done)
        basis, moved = np.empty((m + 1, b.size)), []
        H, rotations = np.zeros((m + 1, m)), np.zeros((m, 2))
        rhs = np.zeros(m + 1)
        rhs[0], basis[0] = size, residual / size
        k = 0
        while k < m:
            moved.append(precondition(basis[k].copy()))
            v = apply(moved[k])
            for _ in range(2):  # once more against rounding
                h = basis[: k + 1] @ v
                v = v - h @ basis[: k + 1]
                H[: k + 1, k] += h
            H[k + 1, k] = np.linalg.norm(v)
            if H[k + 1, k] > 0.0:
                basis[k + 1] = v / H[k + 1, k]
            for j in range(k):
                c, s = rotations[j]
                H[j, k], H[j + 1, k] = c * H[j, k] + s * H[j + 1, k], c * H[j + 1, k] - s * H[j, k]
            length = float(np.hypot(H[k, k], H[k + 1, k]))
            if length == 0.0:
                break
            c, s = rotations[k] = H[k, k] / length, H[k + 1, k] / length
            H[k, k], rhs[k], rhs[k + 1] = length, c * rhs[k], -s * rhs[k]
            k += 1
            if abs(rhs[k]) <= 0.5 * tolerance:
                break
        if k == 0:
            break
        weights = np.linalg.solve(np.triu(H[:k, :k]), rhs[:k])
        x = x + sum(w * z for w, z in zip(weights, moved, strict=False))
        residual = b - apply(x)
        size, done = float(np.linalg.norm(residual)), done + k
        if not size < 0.5 * before:
            break
    return x, size, done


class Iterative:
    """A = diag(sum_{j != i} Q_ij + kill_i) - Q for a large chain, with the interface of `_elimination.Multifrontal`."""

    def __init__(self, rates: sp.csr_matrix, kill: Array, coords: Array) -> None:
        self.n, self.rates = kill.size, rates
        self.columns = rates.T.tocsr()
        self.out = np.asarray(rates.sum(axis=1)).ravel()
        self._blocks(coords)
        #: Largest bound of the relative error of a solution so far, and iterations in all.
        self.error, self.iterations = 0.0, 0
        self._last: dict[bool, tuple[Array, Array]] = {}
        # of a chain with losses, which may fall into parts, the law of paths that start anew everywhere at a small rate
        self.restart = 1e-9 * float(self.out.max(initial=1e-300)) if kill.any() else 0.0
        self.weight, _ = self._improve(np.full(self.n, 1.0 / self.n), _ROUGH)
        self.refactor(kill)

    def _blocks(self, coords: Array) -> None:
        """Block of every cell: the same number of cells along every axis, as few as leave at most `_BLOCKS`."""
        low = coords.min(axis=0)
        span = coords.max(axis=0) - low + 1
        width = 1
        while np.prod(-(-span // width)) > _BLOCKS:
            width += 1
        place = (coords - low) // width
        key = np.ravel_multi_index(tuple(place.T), tuple(-(-span // width)))
        kept, self.block = np.unique(key, return_inverse=True)
        self.places = np.ascontiguousarray(np.stack(np.unravel_index(kept, tuple(-(-span // width))), axis=1), dtype=np.int64)
        self.count = kept.size

    def _coarse(self, share: Array, kill: Array) -> tuple[sp.csr_matrix, Array]:
        """Rates between blocks and their killing rates, cells weighted with `share` (sums of one in every block)."""
        Q = self.rates
        rows = np.repeat(self.block, np.diff(Q.indptr))
        cols = self.block[Q.indices]
        off = rows != cols
        data = Q.data * np.repeat(share, np.diff(Q.indptr))
        lumped = sp.csr_matrix((data[off], (rows[off], cols[off])), shape=(self.count, self.count))
        return lumped, np.bincount(self.block, weights=share * kill, minlength=self.count)

    def _share(self, law: Array) -> Array:
        held = np.bincount(self.block, weights=law, minlength=self.count)
        return law / held[self.block]

    def _improve(self, law: Array, tolerance: float) -> tuple[Array, float]:
        """The stationary law of the chain without killing from an estimate, and an estimate of its error (L1).

        A round weights the cells of every block with the law so far, takes the shares of the blocks from the chain of the blocks,
        and sweeps over the cells.
        """
        change, rate, small = np.inf, 1.0, np.inf
        for _ in range(_ROUNDS):
            tick()
            share = self._share(law)
            lumped, _ = self._coarse(share, np.zeros(self.n))
            held = np.zeros(1)
            if self.count > 1:
                core = elimination.Multifrontal(lumped, np.full(self.count, self.restart), self.places)
                start = np.bincount(self.block, minlength=self.count) * self.restart
                with np.errstate(divide="ignore"):
                    held = wide.wide_log(*(core.transposed(wide.wide_from(start)) if self.restart else core.occupation_of_last()))
            held = np.exp(np.maximum(held - held.max(), np.log(_LEAST)))
            new = share * held[self.block]
            for _ in range(_SWEEPS):
                incomplete.sweep(self.columns.indptr, self.columns.indices, self.columns.data, self.out, new)
            new = np.maximum(new / new.sum(), _LEAST)
            followed = new > 1e10 * _LEAST
            largest = float(np.abs(new / law - 1.0)[followed].max(initial=0.0))
            before, change = change, float(np.abs(new - law).sum())
            rate = min(change / before, 0.99) if 0.0 < before < np.inf else 0.99
            law, small = new, min(small, largest)
            if largest < tolerance or (change < 1e-12 and largest > 0.5 * small and largest < 1e-6):
                break
        _log.debug("the law changed by %.1e (L1), %.1e (any entry)", change, largest)
        return law, change * rate / (1.0 - rate)

    def refactor(self, kill: Array) -> None:
        """Other killing rates; weights and blocks are kept."""
        self.kill, self._last = kill, {}
        A = (sp.diags(self.out + kill) - self.rates).tocsr()
        A.sort_indices()
        self._A, self._T = A, A.T.tocsr()
        data, diagonal = A.data.copy(), np.empty(self.n, np.int64)
        incomplete.factorise(A.indptr, A.indices, data, diagonal)
        self._lu = (A.indptr, A.indices, data, diagonal)
        self._shares = self._share(self.weight)
        lumped, lost = self._coarse(self._shares, kill)
        self._core = elimination.Multifrontal(lumped, lost, self.places)

    def _of_blocks(self, r: Array, transposed: bool) -> Array:
        if transposed:
            coarse = self._core.plain_solve(np.bincount(self.block, weights=r, minlength=self.count), True)
            return np.asarray(self._checked(coarse)[self.block] * self._shares)
        coarse = self._core.plain_solve(np.bincount(self.block, weights=self._shares * r, minlength=self.count), False)
        return self._checked(coarse)[self.block]

    def _checked(self, coarse: Array | None) -> Array:
        if coarse is None:
            raise FpsolveError(f"a chain of {self.n} states is solved by iteration, in doubles, and its barrier is beyond their "
                               f"range; {_REMEDY}")  # fmt: skip
        return coarse

    def _precondition(self, r: Array, transposed: bool) -> Array:
        matrix = self._T if transposed else self._A
        z = r.copy()
        (incomplete.solve_transposed if transposed else incomplete.solve)(*self._lu, z)
        return np.asarray(z + self._of_blocks(r - matrix @ z, transposed))

    def plain_solve(self, rhs: Array, transposed: bool) -> Array:
        """Solution for a right-hand side of any sign.

        Transposed equations are scaled with the root of the stationary law: in detailed balance they are then symmetric.
        """
        matrix, scale = (self._T, np.sqrt(self.weight)) if transposed else (self._A, np.ones(self.n))
        b = rhs / scale
        norm = float(np.linalg.norm(b))
        if norm == 0.0:
            return np.zeros(self.n)
        x = self._start(b, transposed)

        def apply(v: Array) -> Array:
            return np.asarray((matrix @ (scale * v)) / scale)

        def precondition(v: Array) -> Array:
            return np.asarray(self._precondition(scale * v, transposed) / scale)

        x, size, steps = gmres(apply, precondition, b, x, _AIM * norm)
        self.iterations += steps
        relative = size / norm
        if transposed and relative <= _ACCEPTED:  # where next to nothing is, the scaled equation is no measure
            total = float(np.linalg.norm(rhs))
            y, size, steps = gmres(lambda v: matrix @ v, lambda v: self._precondition(v, True), rhs, scale * x, _AIM * total)
            self.iterations += steps
            x, relative = y / scale, size / total
        _log.debug("%d iterations, relative residual %.1e", steps, relative)
        if not relative <= _ACCEPTED:
            raise FpsolveError(
                f"the iteration for a chain of {self.n} states stopped at a relative residual of {relative:.1e} (accepted: "
                f"{_ACCEPTED:g}): a high barrier, or cells too coarse for the noise; {_REMEDY}"
            )
        self._last[transposed] = (b, x)
        if np.all(rhs >= 0.0):
            self._bound(b, (matrix @ (scale * x)) / scale, x, norm, transposed)
        return scale * x

    def _start(self, b: Array, transposed: bool) -> Array:
        """The last solution where the right-hand side is nearly a multiple of the last one."""
        if transposed not in self._last:
            return np.zeros(self.n)
        old, x = self._last[transposed]
        factor = float(b @ old) / float(old @ old)
        return factor * x if np.linalg.norm(b - factor * old) < 0.5 * np.linalg.norm(b) else np.zeros(self.n)

    def _bound(self, b: Array, found: Array, x: Array, norm: float, transposed: bool) -> None:
        """Refuse a solution that is not positive, and keep the bound of its error."""
        missing = np.abs(b - found)
        relative = float(np.max(missing / b)) if np.all(b > 0.0) else float(np.linalg.norm(missing)) / norm
        lowest = float(x.min() / x.max()) if x.max() > 0.0 else -1.0
        if lowest < -max(1e-6, 10.0 * relative):
            raise FpsolveError(f"the iteration for a chain of {self.n} states gave a solution of both signs ({lowest:.1e} of the "
                               f"largest), which cannot be; {_REMEDY}")  # fmt: skip
        self._note(relative)

    def _note(self, relative: float) -> None:
        self.error = max(self.error, relative)
        elimination.note_error(relative)

    def occupation_of_last(self, exact_range: bool = False) -> tuple[Array, Array]:
        """Left null vector of a chain without killing, as wide numbers."""
        self.weight, error = self._improve(self.weight, _SETTLED)
        self._note(error)
        if not error <= _ACCEPTED:
            raise FpsolveError(f"the stationary law of a chain of {self.n} states is known to {error:.1e} only after {_ROUNDS} "
                               f"rounds (accepted: {_ACCEPTED:g}); {_REMEDY}")  # fmt: skip
        return _wide(self.weight)

    def forward_backward(self, rhs: tuple[Array, Array]) -> tuple[Array, Array]:
        """As `Multifrontal`; the numbers are doubles."""
        return _wide(np.maximum(self.plain_solve(wide.wide_value(*rhs), False), 0.0))

    def transposed(self, rhs: tuple[Array, Array]) -> tuple[Array, Array]:
        """As `Multifrontal`; the numbers are doubles."""
        return _wide(np.maximum(self.plain_solve(wide.wide_value(*rhs), True), 0.0))


def _wide(values: Array) -> tuple[Array, Array]:
    """Numbers of a wider range than doubles: mantissas and exponents."""
    mantissa, exponent = wide.wide_from(values)
    return mantissa, exponent
