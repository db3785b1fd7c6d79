"""Linear algebra of a Markov generator, free of subtractions: stationary laws, hitting times, occupation measures.

With rates Q_ij >= 0 (i to j) and killing rates kill_i >= 0 the matrix A = diag(sum_{j != i} Q_ij + kill_i) - Q is an
M-matrix. Ordinary LU loses every digit once the slowest time exceeds 1e16 of the fastest. Here off-diagonal rates and
killing rates are the primary data and each pivot is recomputed as a sum of nonnegative numbers, so every entry of a
solution with a nonnegative right-hand side has a small relative error whatever the barrier (Grassmann, Taksar, Heyman,
Oper. Res. 33, 1107 (1985); Alfa, Xue, Ye, Math. Comp. 71, 217 (2002)). Numbers outside the range of doubles are carried
with an extra exponent (`_kernels.wide`) and are available as logarithms.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp

from fpsolve import _generator as gen
from fpsolve._elimination import Multifrontal, Tridiagonal, engine
from fpsolve._kernels import wide
from fpsolve._transient import METHODS, evolve
from fpsolve.errors import FpsolveError

#: Results above this are as good in doubles as in wide numbers.
_TINY = 1e-250
#: Change at which an inverse iteration with iterated solutions has settled.
_SETTLED = 1e-8

__all__ = ["METHODS", "Factor", "evolve", "factor", "hitting_time", "quasi_stationary", "stationary"]


class Factor:
    """Subtraction-free factorisation of A = diag(sum_{j != i} Q_ij + kill_i) - Q, reusable for many right-hand sides.

    Made by `factor`. Closed classes that are never killed are set aside: A is singular there, and solutions are the
    minimal nonnegative ones (0 where nothing accumulates, inf where it accumulates for ever).
    """

    def __init__(self, rates: sp.csr_matrix, kill: np.ndarray, shape: tuple[int, ...] | np.ndarray | None) -> None:
        self.n = kill.size
        self._rates = rates
        self._classes = [c for c in gen.closed_classes(rates) if not np.any(kill[c] > 0)]
        trapped = np.zeros(self.n, bool)
        for states in self._classes:
            trapped[states] = True
        self._live = np.flatnonzero(~trapped)
        self._core: Any = None
        if self._live.size == 0:
            return
        inner = rates[self._live][:, self._live].tocsr() if trapped.any() else rates
        into_traps = rates[self._live] @ trapped.astype(float) if trapped.any() else 0.0
        self._core = engine(inner, kill[self._live] + into_traps, lambda: gen.coordinates(rates, shape)[self._live])

    def __repr__(self) -> str:
        kind = {Tridiagonal: "tridiagonal", Multifrontal: "nested dissection"}
        name = "no killed state" if self._core is None else kind.get(type(self._core), "iteration")
        return f"Factor({self.n} states, {name}, {len(self._classes)} closed classes without killing)"

    @property
    def info(self) -> dict[str, Any]:
        """How it was solved: with iteration also the iterations and the largest relative error that residuals leave room for."""
        if not hasattr(self._core, "error"):
            return {"solver": "elimination", "solver error": 0.0}
        return {"solver": "iteration", "solver error": self._core.error, "iterations": self._core.iterations}

    def _checked(self, rhs: np.ndarray) -> np.ndarray:
        out = np.ascontiguousarray(rhs, dtype=float)
        if out.shape != (self.n,):
            raise ValueError(f"the right-hand side must have shape ({self.n},), got {out.shape}")
        bad = np.flatnonzero(~((out >= 0) & np.isfinite(out)))
        if bad.size:
            raise ValueError(
                f"the right-hand side must be finite and >= 0, got {out[bad[0]]!r} at state {bad[0]}; split it into its "
                "positive and negative part and subtract the two solutions"
            )
        return out

    def _inner(self, rhs: np.ndarray, transposed: bool, log: bool) -> np.ndarray:
        core = self._core
        if core is None:
            return np.empty(0)
        if not isinstance(core, Tridiagonal):
            out: np.ndarray | None = core.plain_solve(rhs, transposed)
            if out is not None and not log:
                return out
            if out is not None and np.all(out > _TINY):
                return np.asarray(np.log(out))
        x = wide.wide_from(rhs)
        x = core.transposed(x) if transposed else core.forward_backward(x)
        return np.asarray(wide.wide_log(*x) if log else wide.wide_value(*x))

    def _spread(self, values: np.ndarray, infinite: np.ndarray, log: bool) -> np.ndarray:
        out = np.full(self.n, -np.inf if log else 0.0)
        out[self._live] = values
        out[infinite] = np.inf
        return out

    def solve(self, rhs: np.ndarray, *, log: bool = False) -> np.ndarray:
        """x = A^{-1} rhs for rhs >= 0: the expected integral of rhs along the path until it is killed.

        Parameters
        ----------
        rhs : (n,) nonnegative, finite
        log : return ln x, valid far outside the range of doubles

        Returns
        -------
        (n,) x (or ln x): each entry to high relative accuracy; inf where rhs accumulates for ever.

        Raises
        ------
        ValueError
            If rhs has the wrong shape or a negative or non-finite entry.

        Examples
        --------
        >>> import numpy as np, scipy.sparse as sp
        >>> f = factor(sp.csr_matrix([[0, 1.0], [3.0, 0]]), np.array([0.0, 1.0]))
        >>> f.solve(np.ones(2))
        array([5., 4.])
        """
        b = self._checked(rhs)
        fatal = np.zeros(self.n, bool)
        for states in self._classes:
            if np.any(b[states] > 0):
                fatal[states] = True
        infinite = gen.reaching(self._rates, fatal)
        return self._spread(self._inner(b[self._live], False, log), infinite, log)

    def solve_transposed(self, rhs: np.ndarray, *, log: bool = False) -> np.ndarray:
        """mu = rhs A^{-1} for rhs >= 0: expected time spent in each state by paths started with masses rhs, until killed.

        Parameters and returns as in `solve`; inf on closed classes that receive mass and are never killed.

        Examples
        --------
        >>> import numpy as np, scipy.sparse as sp
        >>> f = factor(sp.csr_matrix([[0, 1.0], [3.0, 0]]), np.array([0.0, 1.0]))
        >>> f.solve_transposed(np.array([1.0, 0.0]))
        array([4., 1.])
        """
        b = self._checked(rhs)
        trapped = np.ones(self.n, bool)
        trapped[self._live] = False
        infinite = gen.reaching(self._rates.T.tocsr(), b > 0) & trapped if trapped.any() else trapped
        return self._spread(self._inner(b[self._live], True, log), infinite, log)


def factor(
    Q: sp.sparray | sp.spmatrix, kill: np.ndarray | None = None, *, shape: tuple[int, ...] | np.ndarray | None = None
) -> Factor:
    """Factorise A = diag(sum_{j != i} Q_ij + kill_i) - Q without subtractions.

    Parameters
    ----------
    Q : (n, n) sparse, rates Q_ij >= 0 from i to j (1/time); the diagonal is ignored
    kill : (n,) rates >= 0 of leaving the state space; None: no killing
    shape : grid shape in C order, or coordinates (n, d) of the states, used for the elimination order; None: from the graph

    Returns
    -------
    Factor with ``solve`` and ``solve_transposed``.

    Raises
    ------
    TypeError, ValueError
        If Q is not sparse and square, a rate is negative or not finite, or the shape does not hold n states.

    Notes
    -----
    Alfa, Xue, Ye, Math. Comp. 71, 217 (2002); nearest-neighbour chains O(n), else multifrontal nested dissection,
    O(n^{3/2}) operations in 2-D.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> factor(sp.csr_matrix([[0, 1.0], [1.0, 0]]), [0.0, 2.0])
    Factor(2 states, tridiagonal, 0 closed classes without killing)
    """
    rates = gen.clean_rates(Q)
    if not isinstance(shape, np.ndarray) and shape is not None:
        shape = tuple(shape)
        if int(np.prod(shape)) != rates.shape[0]:
            raise ValueError(f"shape {shape} holds {int(np.prod(shape))} states, but Q has {rates.shape[0]}")
    return Factor(rates, gen.clean_kill(kill, rates.shape[0]), shape)


def stationary(
    Q: sp.sparray | sp.spmatrix, *, shape: tuple[int, ...] | None = None, log: bool = False, kept: list[Any] | None = None
) -> np.ndarray:
    """Stationary law pi of a chain, pi_i sum_{j != i} Q_ij = sum_{j != i} pi_j Q_ji, by elimination without subtractions.

    Parameters
    ----------
    Q : (n, n) sparse, rates Q_ij >= 0 from i to j; the diagonal is ignored
    shape : grid shape in C order, used for the elimination order
    log : return ln pi instead, valid where pi itself underflows
    kept : a list that keeps the elimination for the next chain, whose order of elimination is then found if the graph is the same

    Returns
    -------
    (n,) pi >= 0 with sum 1 (each entry to high relative accuracy; 0 below 1e-308 and at transient states), or ln pi.

    Raises
    ------
    TypeError, ValueError
        If Q is not a sparse matrix of nonnegative rates, or the chain has several closed classes.

    Notes
    -----
    Grassmann, Taksar, Heyman, Oper. Res. 33, 1107 (1985). Without ``log`` entries below 1e-250 of the largest are accurate
    relative to 1e-250 only, except in nearest-neighbour chains.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> stationary(sp.csr_matrix([[0, 3.0], [1.0, 0]]))
    array([0.25, 0.75])
    """
    rates = gen.clean_rates(Q)
    coords_shape = None if shape is None else tuple(shape)
    if coords_shape is not None and int(np.prod(coords_shape)) != rates.shape[0]:
        raise ValueError(f"shape {coords_shape} holds {int(np.prod(coords_shape))} states, but Q has {rates.shape[0]}")
    classes = gen.closed_classes(rates)
    if len(classes) > 1:
        raise ValueError(
            f"the chain has {len(classes)} closed classes (for example states {classes[0][0]} and {classes[1][0]} never reach each "
            "other), so its stationary law is not unique: restrict it to one class or connect them"
        )
    states = classes[0]
    out = np.full(rates.shape[0], -np.inf if log else 0.0)
    if states.size == 1:
        out[states] = 0.0 if log else 1.0
        return out
    inner = rates if states.size == rates.shape[0] else rates[states][:, states].tocsr()
    like = kept[-1] if kept else None
    core = engine(inner, np.zeros(states.size), lambda: gen.coordinates(rates, coords_shape)[states], like)
    if kept is not None:
        kept[:] = [core]
    m, e = core.occupation_of_last()
    logs = wide.wide_log(m, e)
    if log and isinstance(core, Multifrontal) and not logs.min() - logs.max() > np.log(_TINY):
        m, e = core.occupation_of_last(exact_range=True)
    # Exponents relative to the largest: dividing by the sum then cannot overflow.
    e -= e.max()
    total = wide.wide_sum(m, e)
    if log:
        out[states] = wide.wide_log(m, e) - wide.wide_log(*total)[0]
    else:
        out[states] = wide.wide_value(*wide.wide_divide(m, e, *total))
    return out


def hitting_time(
    Q: sp.sparray | sp.spmatrix,
    kill: np.ndarray,
    *,
    shape: tuple[int, ...] | None = None,
    rhs: np.ndarray | None = None,
    log: bool = False,
) -> np.ndarray:
    """Mean time tau until killing: (diag(sum_{j != i} Q_ij + kill_i) - Q) tau = rhs, entry by entry to relative accuracy.

    Parameters
    ----------
    Q, kill, shape : as in `factor`
    rhs : (n,) >= 0, default ones (the time itself); n tau_{n-1} gives the n-th moment
    log : return ln tau, valid beyond 1e308

    Returns
    -------
    (n,) tau (time), inf where killing is not certain; or ln tau.

    Raises
    ------
    ValueError
        If nothing can be killed at all (every kill is zero), or as in `factor`.

    Notes
    -----
    Alfa, Xue, Ye, Math. Comp. 71, 217 (2002).

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> hitting_time(sp.csr_matrix([[0, 1.0], [3.0, 0]]), [0.0, 1.0])
    array([5., 4.])
    """
    f = factor(Q, kill, shape=shape)
    if not np.any(np.asarray(kill) > 0):
        raise ValueError("no state can be killed: every entry of kill is zero, so no hitting time is finite; give a target")
    return f.solve(np.ones(f.n) if rhs is None else rhs, log=log)


def quasi_stationary(
    Q: sp.sparray | sp.spmatrix,
    kill: np.ndarray,
    *,
    shape: tuple[int, ...] | np.ndarray | None = None,
    rtol: float = 1e-12,
    max_iterations: int = 1000,
) -> tuple[np.ndarray, float]:
    """Quasi-stationary law nu and decay rate lambda of a killed chain: nu A = lambda nu, lambda the smallest eigenvalue of A.

    Inverse iteration with the subtraction-free factor, so lambda keeps its relative accuracy however small it is:
    mu = nu A^{-1}, lambda = 1 / sum(mu), nu <- lambda mu; it converges like (lambda_1 / lambda_2)^k.

    Parameters
    ----------
    Q, kill, shape : as in `factor`; every state must reach killing and the chain should be irreducible
    rtol : stop when nu changes by less than rtol in L1 and lambda by less than rtol relatively
    max_iterations : limit on the iterations

    Returns
    -------
    nu (n,) with sum 1, and lambda (1/time).

    Raises
    ------
    ValueError
        If some state can never be killed.
    FpsolveError
        If the iteration does not converge (lambda_2 close to lambda_1) or lambda underflows.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> nu, rate = quasi_stationary(sp.csr_matrix([[0, 1.0], [1.0, 0]]), [0.5, 0.5])
    >>> nu.round(12), round(rate, 12)
    (array([0.5, 0.5]), 0.5)
    """
    f = factor(Q, kill, shape=shape)
    if f._live.size < f.n:
        raise ValueError(f"state {f._classes[0][0]} can never be killed, so there is no quasi-stationary law on all states")
    nu, rate = np.full(f.n, 1.0 / f.n), np.inf
    rtol = max(rtol, _SETTLED) if f.info["solver"] == "iteration" else rtol
    for _ in range(max_iterations):
        mu = f.solve_transposed(nu)
        total = mu.sum()
        if not np.isfinite(total):
            raise FpsolveError("the decay rate is below the range of doubles: use hitting_time(..., log=True) instead")
        change, change_rate = np.abs(mu / total - nu).sum(), abs(1.0 / total - rate)
        nu, rate = mu / total, 1.0 / total
        if change < rtol and change_rate < rtol * rate:
            return nu, float(rate)
    raise FpsolveError(
        f"inverse iteration did not settle in {max_iterations} steps (last change {change:.1e}): the two slowest decay rates are "
        "close; raise max_iterations or restrict the region to one basin"
    )
