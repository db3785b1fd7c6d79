"""The two elimination engines behind `_markov` and `_transient`: nearest-neighbour chains and general sparse chains.

Both hold A = diag(sum_{j != i} Q_ij + kill_i) - Q as rates and killing rates and never subtract (see `_kernels.elimination`).
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import scipy.sparse as sp

from fpsolve import _generator as gen
from fpsolve._kernels import dissection, elimination, wide
from fpsolve.errors import FpsolveError

__all__ = ["ELIMINATED", "Multifrontal", "Tridiagonal", "eliminated", "engine", "note_error", "slowest_decay", "solver_errors"]

_log = logging.getLogger(__name__)

#: Above this time (in units of each row's own fastest time) the plain doubles may have lost a rate by underflow.
_PLAIN_LIMIT = 1e250
#: States of a chain in space up to which it is eliminated: 40^3 cells take 0.4 GB and about 8 s.
ELIMINATED = 64_000

_Wide = tuple[np.ndarray, np.ndarray]

_listening: ContextVar[tuple[list[float], ...]] = ContextVar("those who ask for the errors of solvers", default=())


@contextmanager
def solver_errors() -> Iterator[list[float]]:
    """Bounds of the relative errors of all solutions by iteration in the block, after a zero; elimination has none.

    Examples
    --------
    >>> with solver_errors() as seen:
    ...     note_error(1e-9)
    >>> max(seen)
    1e-09
    """
    seen = [0.0]
    token = _listening.set((*_listening.get(), seen))
    try:
        yield seen
    finally:
        _listening.reset(token)


def note_error(relative: float) -> None:
    """Tell who listens (see `solver_errors`)."""
    for seen in _listening.get():
        seen.append(relative)


class Tridiagonal:
    """Nearest-neighbour chain: always wide, O(n)."""

    def __init__(self, rates: sp.csr_matrix, kill: np.ndarray) -> None:
        many = kill.size > 1
        self.down = np.concatenate([[0.0], rates.diagonal(-1) if many else []])
        self.up = np.concatenate([rates.diagonal(1) if many else [], [0.0]])
        self.last = kill.size - 1
        self.refactor(kill)

    def refactor(self, kill: np.ndarray) -> None:
        """Eliminate again with other killing rates."""
        self.kill = kill
        self.d = wide.wide_tridiagonal_factor(self.down, self.up, kill)
        _let_last_rest(self.d, self.last)
        plain = wide.wide_value(*self.d)
        #: The exit rates in doubles, None where they do not suffice.
        self.plain_d = plain if np.all(plain > 0) and np.all(np.isfinite(plain)) else None

    def plain_solve(self, rhs: np.ndarray, transposed: bool) -> np.ndarray | None:
        """Solution for a right-hand side of any sign in doubles, or None where they do not suffice."""
        if self.plain_d is None:
            return None
        out = rhs.copy()
        solve = elimination.tridiagonal_solve_transposed if transposed else elimination.tridiagonal_solve
        solve(self.down, self.up, self.plain_d, out)
        return out if math.isfinite(float(out.sum())) else None

    def forward_backward(self, rhs: _Wide) -> _Wide:
        wide.wide_tridiagonal_solve(self.down, self.up, *self.d, *rhs)
        return rhs

    def transposed(self, rhs: _Wide) -> _Wide:
        wide.wide_tridiagonal_solve_transposed(self.down, self.up, *self.d, *rhs)
        return rhs

    def occupation_of_last(self) -> _Wide:
        """Left null vector of a chain without killing, 1 at the state eliminated last."""
        return self.transposed(wide.wide_from(_unit(self.d[0].size, self.last)))


class Multifrontal:
    """General sparse chain: nested dissection, dense fronts in doubles, wide numbers where doubles would not do."""

    def __init__(self, rates: sp.csr_matrix, kill: np.ndarray, coords: np.ndarray, like: "Multifrontal | None" = None) -> None:
        self.n = kill.size
        self._largest = rates.max(axis=1).toarray().ravel() if rates.nnz else np.zeros(self.n)
        self._pattern = rates.indptr, rates.indices
        known = like is not None and all(map(np.array_equal, self._pattern, like._pattern))
        #: Elimination order, tree of fronts, and the sizes of the largest front and of the stack.
        self.order, self.tree, self._sizes = like.symbolic if like is not None and known else _analysed(rates, coords)
        self._sorted = rates[self.order][:, self.order].tocsr()
        self.refactor(kill)

    @property
    def symbolic(self) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[int, int]]:
        """What depends on the graph only."""
        return self.order, self.tree, self._sizes

    def refactor(self, kill: np.ndarray) -> None:
        """Eliminate again with other killing rates; order and symbolic work are kept."""
        # A power of two per row, a change of the time unit of that state, keeps the largest rate near one without rounding.
        largest = np.maximum(kill, self._largest)
        self.scale = np.where(largest > 0, np.exp2(-np.floor(np.log2(np.where(largest > 0, largest, 1.0)))), 1.0)
        Q = (sp.diags(self.scale[self.order]) @ self._sorted).tocsr()
        columns = Q.T.tocsr()
        self._rates = (_int(Q.indptr), _int(Q.indices), Q.data, _int(columns.indptr), _int(columns.indices), columns.data)
        self._kill = (kill * self.scale)[self.order]
        self._wide_factor: tuple[np.ndarray, ...] | None = None
        store = np.empty(self.tree[4][-1])  # NumPy asks for large pages, first writing to small ones takes long
        d = elimination.factorise(self._rates, self.tree, self._kill, self._sizes, store)
        self.plain: tuple[np.ndarray, np.ndarray] | None = (store, d)
        if not self._plain_will_do(*self.plain):
            _log.info("rates beyond the range of doubles: eliminating in wide numbers")
            self.plain = None

    def _plain_will_do(self, store: np.ndarray, d: np.ndarray) -> bool:
        """A rate lost to underflow acts as a perturbation of 2^-1074 that grows with the time spent before leaving."""
        if d[-1] == 0.0:
            d[-1] = 1.0
        if not np.all(d > 0):
            return False
        y = np.ones(self.n)
        elimination.forward(store, d, self.tree, y)
        return bool(np.max(y) < _PLAIN_LIMIT)

    @property
    def wide_factor(self) -> tuple[np.ndarray, ...]:
        """(store, exponents, d, exponents) in wide numbers, made on first use."""
        if self._wide_factor is None:
            self._wide_factor = wide.wide_factorise(self._rates, self.tree, self._kill, self._sizes)
            _let_last_rest(self._wide_factor[2:], self.n - 1)
        return self._wide_factor

    def plain_solve(self, rhs: np.ndarray, transposed: bool) -> np.ndarray | None:
        """Solution for a right-hand side of any sign in doubles, or None where they do not suffice."""
        if self.plain is None:
            return None
        x = (rhs if transposed else rhs * self.scale)[self.order]
        steps = (
            (elimination.forward_transposed, elimination.backward_transposed)
            if transposed
            else (elimination.forward, elimination.backward)
        )
        for step in steps:
            step(*self.plain, self.tree, x)
        out = np.empty(self.n)
        out[self.order] = x
        if transposed:
            out *= self.scale
        return out if np.all(np.isfinite(out)) else None

    def _unorder(self, x: _Wide) -> _Wide:
        m, e = np.empty(self.n), np.empty(self.n, np.int32)
        m[self.order], e[self.order] = x
        return m, e

    def forward_backward(self, rhs: _Wide) -> _Wide:
        x = (rhs[0] * self.scale)[self.order], rhs[1][self.order]
        wide.wide_normalise(*x)
        wide.wide_forward(self.wide_factor, self.tree, *x)
        wide.wide_backward(self.wide_factor, self.tree, *x)
        return self._unorder(x)

    def transposed(self, rhs: _Wide, factor: tuple[np.ndarray, ...] | None = None) -> _Wide:
        x = rhs[0][self.order], rhs[1][self.order]
        factor = self.wide_factor if factor is None else factor
        wide.wide_forward_transposed(factor, self.tree, *x)
        wide.wide_backward_transposed(factor, self.tree, *x)
        m, e = self._unorder(x)
        m *= self.scale
        wide.wide_normalise(m, e)
        return m, e

    def occupation_of_last(self, exact_range: bool = False) -> _Wide:
        """Left null vector of a chain without killing, 1 at the state eliminated last.

        The vector is wide in any case (the last state may be the rarest); the factor only on request or when it has to be.
        """
        none = np.empty(0, np.int32)
        factor = None if exact_range or self.plain is None else (self.plain[0], none, self.plain[1], none)
        return self.transposed(wide.wide_from(_unit(self.n, int(self.order[-1]))), factor)


def _analysed(rates: sp.csr_matrix, coords: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[int, int]]:
    """Elimination order of a graph, its tree of fronts, and the sizes of the largest front and of the stack."""
    order, node_ptr, parent = gen.dissection_order(rates, coords)
    ordered = rates[order][:, order].tocsr()
    pattern = (ordered + ordered.T).tocsr()
    pattern.sort_indices()
    border_ptr, border, children, front, peak = dissection.symbolic(_int(pattern.indptr), _int(pattern.indices), node_ptr, parent)
    p, m = np.diff(node_ptr), np.diff(border_ptr)
    store_ptr = np.concatenate([[0], np.cumsum(p * (p + 2 * m))])
    return order, (node_ptr, border_ptr, border, children, store_ptr), (int(front), int(peak))


def _let_last_rest(d: tuple[np.ndarray, ...], last: int) -> None:
    """The state eliminated last in a chain without killing has nowhere to go: its exit rate is set to one."""
    if d[0][last] == 0.0:
        d[0][last], d[1][last] = 1.0, 0


def _int(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64)


def _unit(n: int, at: int) -> np.ndarray:
    out = np.zeros(n)
    out[at] = 1.0
    return out


def eliminated(n: int, dim: int) -> bool:
    """Whether chains of n states in dim dimensions are eliminated: large ones in space are iterated."""
    return dim != 3 or n <= ELIMINATED


def engine(rates: sp.csr_matrix, kill: np.ndarray, coords: Callable[[], np.ndarray], like: Any = None) -> Any:
    """The engine that fits the graph of the rates: `Tridiagonal`, `Multifrontal`, or, if large and in space, `Iterative`.

    The order of elimination is that of the engine `like` if it was made for the same graph.
    """
    if gen.is_tridiagonal(rates):
        return Tridiagonal(rates, kill)
    at = coords()
    if not eliminated(kill.size, at.shape[1]):
        from fpsolve._iterative import Iterative  # its blocks are eliminated by the class above

        return Iterative(rates, kill, at)
    return Multifrontal(rates, kill, at, like if isinstance(like, Multifrontal) else None)


def slowest_decay(solve: Callable[[np.ndarray], np.ndarray], n: int, rtol: float, max_iterations: int) -> tuple[np.ndarray, float]:
    """Quasi-stationary masses nu (n,) and ln of the decay rate, by inverse iteration mu = A^-T nu, rate = 1/sum(mu).

    `solve` returns ln mu, so that the rate may be below the range of doubles.

    Raises
    ------
    FpsolveError
        If it does not settle: the two slowest decay rates are too close.

    Examples
    --------
    >>> import numpy as np
    >>> nu, log_rate = slowest_decay(lambda nu: np.log(nu) - np.log([2.0, 2.0]), 2, 1e-12, 10)  # A = 2
    >>> nu, round(float(log_rate - np.log(2.0)), 12)
    (array([0.5, 0.5]), 0.0)
    """
    nu, log_rate, change = np.full(n, 1.0 / n), math.inf, math.inf
    for _ in range(max_iterations):
        log_mu = solve(nu)
        top = float(log_mu.max())
        mu = np.exp(log_mu - top)
        total = float(mu.sum())
        change, before = float(np.abs(mu / total - nu).sum()), log_rate
        nu, log_rate = mu / total, -(top + math.log(total))
        if change < rtol and abs(log_rate - before) < rtol * max(1.0, abs(log_rate)):
            return nu, log_rate
    raise FpsolveError(
        f"inverse iteration did not settle in {max_iterations} steps (last change {change:.1e}): the two slowest decay rates are "
        "close; restrict the region to one basin"
    )
