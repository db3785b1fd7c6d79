"""A killed Markov chain in discrete time, held as a full matrix: exit times, stationary and quasi-stationary laws.

With jump probabilities P_ij >= 0 and killing probabilities kill_i >= 0 whose rows sum to one, I - P is an M-matrix. Its diagonal,
1 - P_ii, is recomputed as sum_{j != i} P_ij + kill_i, so nothing is subtracted (see `_kernels.elimination`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fpsolve._elimination import Multifrontal, slowest_decay
from fpsolve._kernels import elimination, wide
from fpsolve.errors import FpsolveError

__all__ = ["DenseChain"]

Array = NDArray[np.float64]
Wide = tuple[np.ndarray, np.ndarray]

#: Results above this are as good in doubles as in wide numbers.
_TINY = 1e-250


class DenseChain(Multifrontal):
    """One dense front with every state a pivot; the substitutions are those of `Multifrontal`.

    Parameters
    ----------
    P : array (n, n)
        Jump probabilities; the diagonal is not used.
    kill : array (n,)
        Probability of leaving in one step; all zero for the stationary law.
    wide_front : callable, optional
        Makes P with kill as last column as wide numbers, where doubles do not suffice; for chains that are killed.

    Raises
    ------
    FpsolveError
        If a state is left with no probability above 1e-308 (then no answer is in the range of the numbers).

    Examples
    --------
    >>> chain = DenseChain(np.array([[0.5, 0.5], [0.25, 0.5]]), np.array([0.0, 0.25]))
    >>> np.exp(chain.log_times())
    array([8., 6.])
    """

    def __init__(self, P: Array, kill: Array, wide_front: Callable[[], Wide] | None = None) -> None:
        n = self.n = kill.size
        self.order = np.arange(n)
        self.scale = np.ones(n)
        zero = np.zeros(1, np.int64)
        self.tree = (np.array([0, n]), np.zeros(2, np.int64), np.empty(0, np.int64), zero, np.array([0, n * n]))
        self._P, self._kill, self._make = P, kill, wide_front
        self._wide_factor: tuple[np.ndarray, ...] | None = None
        front, d = self._front(), np.empty(n)
        elimination.eliminate_front(front, n, d)
        store = np.ascontiguousarray(front[:, :n]).ravel()
        # a chain that is killed somewhere, but nowhere in doubles, must not pass for one that is never killed
        lost = wide_front is not None and d[-1] == 0.0
        self.plain: tuple[np.ndarray, np.ndarray] | None = (store, d)
        if lost or not self._plain_will_do(store, d):
            self.plain = None

    def _front(self) -> Array:
        front = np.empty((self.n, self.n + 1))
        front[:, :-1], front[:, -1] = self._P, self._kill
        return front

    @property
    def wide_factor(self) -> tuple[np.ndarray, ...]:
        """(store, exponents, d, exponents) in wide numbers, made on first use."""
        if self._wide_factor is None:
            n = self.n
            if self._make is None:
                m, e = (v.reshape(n, n + 1) for v in wide.wide_from(self._front().ravel()))
            else:
                m, e = self._make()
            d, d_e = np.empty(n), np.empty(n, np.int32)
            wide.wide_eliminate_front(m, e, n, d, d_e)
            if d[-1] == 0.0:
                d[-1], d_e[-1] = 1.0, 0
            if not np.all(d > 0.0):
                raise FpsolveError(
                    f"{int(np.sum(d == 0.0))} of {n} nodes are left with no probability above 1e-308: the noise is too small "
                    "for this region; take a smaller one, or follow paths with fpsolve.multilevel_splitting"
                )
            self._wide_factor = tuple(np.ascontiguousarray(v).ravel() for v in (m[:, :n], e[:, :n], d, d_e))
        return self._wide_factor

    def log_solve(self, rhs: Array, *, transposed: bool = False) -> Array:
        """ln x with (I - P) x = rhs, or x (I - P) = rhs, for rhs >= 0: each entry to high relative accuracy."""
        with np.errstate(all="ignore"):
            out = self.plain_solve(rhs, transposed)
            if out is not None and np.all(out > _TINY):
                return np.asarray(np.log(out))
        x = wide.wide_from(rhs)
        x = self.transposed(x) if transposed else self.forward_backward(x)
        return np.asarray(wide.wide_log(*x))

    def log_times(self) -> Array:
        """ln of the mean number of steps until the chain is killed."""
        return self.log_solve(np.ones(self.n))

    def stationary(self) -> Array:
        """Masses (n,) with sum one of the chain without killing."""
        m, e = self.occupation_of_last()
        e -= e.max()
        return np.asarray(wide.wide_value(*wide.wide_divide(m, e, *wide.wide_sum(m, e))))

    def slowest(self, *, rtol: float = 1e-12, max_iterations: int = 1000) -> tuple[Array, float]:
        """Quasi-stationary masses nu (n,), nu P = rho nu, and ln(1 - rho), which is never formed as a difference.

        Inverse iteration mu = nu (I - P)^-1, 1 - rho = 1/sum(mu).

        Raises
        ------
        FpsolveError
            If it does not settle: the two slowest decay rates are too close.
        """
        return slowest_decay(lambda nu: self.log_solve(nu, transposed=True), self.n, rtol, max_iterations)
