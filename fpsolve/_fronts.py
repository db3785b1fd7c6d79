"""Direct solution of general sparse systems on grids: nested dissection and dense fronts."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from fpsolve._kernels import dissection, fronts
from fpsolve.errors import FpsolveError

__all__ = ["Fronts"]

Array = NDArray[np.float64]

#: Sets of unknowns up to this size are not cut further: dense blocks of this size are as fast as they get.
_LEAF = 96


class Fronts:
    """Factorisation of a sparse matrix whose unknowns have integer coordinates; other matrices of the same pattern reuse the order.

    Parameters
    ----------
    pattern : (n, n) sparse
        Where entries may be.
    coords : (n, d) integers

    Examples
    --------
    >>> matrix = sp.diags([-1.0, 3.0, -1.0], [-1, 0, 1], shape=(500, 500), format="csr")
    >>> solver = Fronts(matrix, np.arange(500)[:, None]).factorise(matrix)
    >>> x = solver.solve(np.ones(500))
    >>> bool(abs(matrix @ x - 1.0).max() < 1e-14)
    True
    """

    def __init__(self, pattern: sp.spmatrix, coords: NDArray[np.int64]) -> None:
        both = (abs(pattern) + abs(pattern.T)).tocsr()
        indptr, indices = both.indptr.astype(np.int64), both.indices.astype(np.int64)
        self.order, node_ptr, parent = dissection.dissect(indptr, indices, np.ascontiguousarray(coords, np.int64), _LEAF)
        both = both[self.order][:, self.order].tocsr()
        both.sort_indices()
        border_ptr, border, children, front, peak = dissection.symbolic(
            both.indptr.astype(np.int64), both.indices.astype(np.int64), node_ptr, parent
        )
        p, m = np.diff(node_ptr), np.diff(border_ptr)
        store_ptr = np.concatenate([[0], np.cumsum(p * (p + 2 * m))])
        self._tree = (node_ptr, border_ptr, border, children, store_ptr)
        self._sizes = np.array([front, peak], np.int64)
        self._store = np.empty(0)

    @property
    def memory(self) -> float:
        """Bytes that the factors and the stack of updates take."""
        return 8.0 * float(self._tree[4][-1] + self._sizes[1] + self._sizes[0] ** 2)

    def factorise(self, matrix: sp.spmatrix) -> Fronts:
        """Factorise a matrix of the pattern; returns self. FpsolveError where it is singular."""
        rows = matrix.tocsr()[self.order][:, self.order].tocsr()
        columns = rows.T.tocsr()
        if self._store.size == 0:
            self._store = np.empty(int(self._tree[4][-1]))
        triples = [(m.indptr.astype(np.int64), m.indices.astype(np.int64), m.data) for m in (rows, columns)]
        try:
            done = fronts.factorise(triples[0], triples[1], self._tree, self._sizes, self._store)
        except np.linalg.LinAlgError:
            done = False
        if not done:
            raise FpsolveError("the matrix is singular to rounding: no factorisation of it exists")
        return self

    def solve(self, rhs: Array, *, transposed: bool = False) -> Array:
        """Solution of A x = rhs, or of A^T x = rhs."""
        x = np.ascontiguousarray(rhs, float)[self.order]
        (fronts.solve_transposed if transposed else fronts.solve)(self._store, self._tree, x)
        out = np.empty(x.size)
        out[self.order] = x
        return out
