"""Checks, graph classes and elimination order of a Markov generator: what `_markov` and `_transient` both need.

Convention: Q is (n, n) CSR with rates Q_ij >= 0 from state i to state j, the diagonal is ignored, kill (n,) >= 0 are the rates of
leaving the state space. The generator itself is Q - diag(sum_{j != i} Q_ij + kill_i).
"""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order, connected_components, dijkstra

from fpsolve._kernels import triplets
from fpsolve._kernels.dissection import dissect

__all__ = [
    "assembled",
    "clean_kill",
    "clean_rates",
    "closed_classes",
    "coordinates",
    "dissection_order",
    "is_tridiagonal",
    "leaving",
    "reaching",
]

LEAF = 32


def clean_rates(Q: sp.sparray | sp.spmatrix) -> sp.csr_matrix:
    """Off-diagonal rates as a canonical CSR copy: sorted, duplicates summed, diagonal and zeros removed.

    Raises TypeError if Q is not a SciPy sparse matrix, ValueError if it is not square, or a rate is negative, infinite or NaN.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> clean_rates(sp.csr_matrix([[-1.0, 1.0], [2.0, -2.0]])).toarray()
    array([[0., 1.],
           [2., 0.]])
    """
    if not sp.issparse(Q):
        raise TypeError(f"Q must be a scipy.sparse matrix of rates, got {type(Q).__name__}; wrap it in scipy.sparse.csr_matrix")
    if Q.ndim != 2 or Q.shape[0] != Q.shape[1] or Q.shape[0] == 0:
        raise ValueError(f"Q must be square with at least one state, got shape {Q.shape}")
    full = sp.csr_matrix(Q, dtype=float)
    if not full.has_canonical_format:
        full = full.copy()
        full.sum_duplicates()
    starts, columns, values = np.empty_like(full.indptr), np.empty_like(full.indices), np.empty_like(full.data)
    count, wrong = triplets.off_diagonal(full.indptr, full.indices, full.data, starts, columns, values)
    rates = sp.csr_matrix((values[:count], columns[:count], starts), shape=Q.shape)
    rates.has_canonical_format = True
    if wrong >= 0:
        row = slice(rates.indptr[wrong], rates.indptr[wrong + 1])
        at = int(np.argmin((rates.data[row] >= 0.0) & np.isfinite(rates.data[row]))) + row.start
        raise ValueError(
            f"rates off the diagonal must be finite and >= 0, got Q[{wrong}, {rates.indices[at]}] = {rates.data[at]!r}; "
            "use a monotone scheme (nonnegative rates)"
        )
    return rates


def assembled(rows: np.ndarray, cols: np.ndarray, rates: np.ndarray, kill: np.ndarray) -> sp.csr_matrix:
    """The generator of rates given as triplets (m,), with its diagonal.

    Examples
    --------
    >>> import numpy as np
    >>> pair = np.array([0, 1], np.int32)
    >>> assembled(pair, pair[::-1].copy(), np.array([1.0, 2.0]), np.array([0.5, 0.0])).toarray()
    array([[-1.5,  1. ],
           [ 2. , -2. ]])
    """
    n = kill.size
    indptr, indices, data = np.empty(n + 1, np.int32), np.empty(rows.size + n, np.int32), np.empty(rows.size + n)
    count = triplets.generator(rows, cols, rates, kill, indptr, indices, data)
    out = sp.csr_matrix((data[:count], indices[:count], indptr), shape=(n, n))
    out.has_canonical_format = True
    return out


def clean_kill(kill: np.ndarray | None, n: int) -> np.ndarray:
    """Killing rates as a float array (n,), zeros for None; ValueError on a wrong shape, a negative or a non-finite rate.

    Examples
    --------
    >>> clean_kill(None, 2)
    array([0., 0.])
    """
    if kill is None:
        return np.zeros(n)
    out = np.ascontiguousarray(kill, dtype=float)
    if out.shape != (n,):
        raise ValueError(f"kill must have shape ({n},), one rate per state, got {out.shape}")
    bad = np.flatnonzero(~((out >= 0) & np.isfinite(out)))
    if bad.size:
        raise ValueError(f"killing rates must be finite and >= 0, got kill[{bad[0]}] = {out[bad[0]]!r}")
    return out


def leaving(rates: sp.csr_matrix, kill: np.ndarray) -> np.ndarray:
    """Rates (n,) of leaving each state, for another one or for good.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> leaving(sp.csr_matrix([[0, 1.0], [2.0, 0]]), np.array([0.5, 0.0]))
    array([1.5, 2. ])
    """
    out = np.array(kill, dtype=float)
    triplets.row_sums(rates.indptr, rates.data, out)
    return out


def closed_classes(rates: sp.csr_matrix) -> list[np.ndarray]:
    """Sorted states of every closed communicating class (no rate leads out of it), by their first state.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> closed_classes(sp.csr_matrix([[0, 1.0, 1.0], [0, 0, 0], [0, 0, 0]]))
    [array([1]), array([2])]
    """
    count, label = connected_components(rates, directed=True, connection="strong")
    source = np.repeat(np.arange(rates.shape[0]), np.diff(rates.indptr))
    leaving = label[source] != label[rates.indices]
    closed = np.ones(count, bool)
    closed[label[source[leaving]]] = False
    order = np.argsort(label, kind="stable")
    ends = np.cumsum(np.bincount(label, minlength=count))
    return sorted((order[ends[c - 1] if c else 0 : ends[c]] for c in np.flatnonzero(closed)), key=lambda states: int(states[0]))


def reaching(rates: sp.csr_matrix, target: np.ndarray) -> np.ndarray:
    """Boolean (n,): states from which the set ``target`` (boolean) can be reached, the set itself included.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> reaching(sp.csr_matrix([[0, 1.0], [0, 0]]), np.array([False, True]))
    array([ True,  True])
    """
    n = rates.shape[0]
    out = np.zeros(n, bool)
    if not target.any():
        return out
    # One extra vertex n that leads to every target in the reversed graph: one search for all of them.
    entry = sp.csr_matrix((np.ones(int(target.sum())), (np.zeros(int(target.sum()), int), np.flatnonzero(target))), shape=(1, n))
    graph = sp.bmat([[rates.T, None], [entry, sp.csr_matrix((1, 1))]], format="csr")
    found = breadth_first_order(graph, n, directed=True, return_predecessors=False)
    out[found[found < n]] = True
    return out


def is_tridiagonal(rates: sp.csr_matrix) -> bool:
    """True when every rate joins neighbouring indices: a 1-D chain without wrap-around.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> is_tridiagonal(sp.csr_matrix([[0, 1.0], [1.0, 0]]))
    True
    """
    return bool(triplets.nearest(rates.indptr, rates.indices))


def coordinates(rates: sp.csr_matrix, shape: tuple[int, ...] | np.ndarray | None) -> np.ndarray:
    """Integer coordinates (n, d) of the states for the dissection: grid indices in C order, or graph distances without a shape.

    An array (n, d) is taken as the coordinates themselves.

    Without a shape each connected part is spread by its distances from two far vertices. ValueError if the shape does not hold n
    states.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> coordinates(sp.csr_matrix((4, 4)), (2, 2)).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    n = rates.shape[0]
    if isinstance(shape, np.ndarray):
        return np.ascontiguousarray(shape, np.int64)
    if shape is not None:
        if int(np.prod(shape)) != n:
            raise ValueError(f"shape {tuple(shape)} holds {int(np.prod(shape))} states, but Q has {n}")
        return np.ascontiguousarray(np.stack(np.unravel_index(np.arange(n), shape), axis=1), dtype=np.int64)
    pattern = (rates + rates.T).tocsr()
    _, label = connected_components(pattern, directed=False)
    starts = np.unique(label, return_index=True)[1]
    out = np.zeros((n, 2), np.int64)
    for axis in range(2):
        steps = dijkstra(pattern, directed=False, indices=starts, unweighted=True, min_only=True)
        # The farthest vertex of each part is the next start: ends first, then a direction across.
        order = np.argsort(steps, kind="stable")
        far = np.zeros(starts.size, np.int64)
        far[label[order]] = order
        starts = far
        steps = dijkstra(pattern, directed=False, indices=starts, unweighted=True, min_only=True)
        out[:, axis] = steps.astype(np.int64)
        if axis == 0:
            # Half-way between the ends, as far as possible from the middle: the second direction.
            middle = np.lexsort((np.arange(n), np.abs(out[:, 0] - out[:, 0].max() // 2)))[::-1]
            mids = np.zeros(starts.size, np.int64)
            mids[label[middle]] = middle
            starts = mids
    return out


def dissection_order(rates: sp.csr_matrix, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Elimination order (n,), pivots per tree node (nodes + 1,) and parents (nodes,) of the geometric nested dissection.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> rates = sp.diags([1.0, 1.0], [-1, 1], shape=(5, 5), format="csr")
    >>> order, _, _ = dissection_order(rates, np.arange(5)[:, None])
    >>> sorted(order.tolist())
    [0, 1, 2, 3, 4]
    """
    pattern = (rates + rates.T).tocsr()
    order, parents, sizes = dissect(
        pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64), np.ascontiguousarray(coords), LEAF
    )
    return order, parents, sizes
