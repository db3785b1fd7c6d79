"""What the ways of following masses in time cost, in seconds of the machine where it was measured; their ratios decide.

Elimination, solves with its factors, products with the generator: `_transient` and `_follow` choose by them, so that what is chosen
does not depend on the load of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from fpsolve import _explicit
from fpsolve import _generator as gen
from fpsolve._elimination import eliminated

__all__ = ["FEW_WORK", "few_products", "fresh", "most_products", "resolvent", "spent"]

#: Per state a solve of nearest-neighbour chains and of others, per state^(3/2) and coupling an elimination, and of the calls of one
#: solve and of one product.
_LINE, _SOLVE, _ELIMINATE, _CALL, _PRODUCT = 20e-9, 180e-9, 1.2e-9, 10e-6, 8e-6
#: In space: per state^(4/3) a solve, per state^2 an elimination.
_SOLVE_SPACE, _ELIMINATE_SPACE = 40e-9, 1.2e-9
#: What a series of products costs before the first one: its matrix is made and sorted by diagonals.
_SETUP = 0.8e-3
#: Ordering and scaling a matrix of a known pattern, once and per state.
_FRESH = 0.4e-3, 0.7e-6
#: Uniformisation is taken up to so many multiplications where it is no dearer than solves.
FEW_WORK = 20_000_000
#: Solves of the rational approximation over one interval.
_SOLVES = 30


def _dimension(shape: tuple[int, ...] | np.ndarray | None) -> int:
    return 0 if shape is None else shape.shape[1] if isinstance(shape, np.ndarray) else len(shape)


def _product(rates: sp.csr_matrix) -> float:
    """One product with the generator and keeping a term."""
    return _PRODUCT + 0.35e-9 * float(rates.nnz + 6.0 * rates.shape[0])


def resolvent(rates: sp.csr_matrix, shape: tuple[int, ...] | np.ndarray | None) -> tuple[float, float]:
    """Of one elimination and of one solve with its factors; infinite where a chain is too large to be eliminated.

    Examples
    --------
    >>> elimination, solve = resolvent(sp.diags([1.0, 1.0], [-1, 1], shape=(1000, 1000)).tocsr(), (1000,))
    >>> elimination < 3 * solve < 1e-3
    True
    """
    n, dim = rates.shape[0], _dimension(shape)
    if gen.is_tridiagonal(rates):
        return _CALL + 2 * _LINE * n, _CALL + _LINE * n
    if dim == 3:
        if not eliminated(n, dim):
            return math.inf, math.inf
        return _ELIMINATE_SPACE * float(n) ** 2, _CALL + _SOLVE_SPACE * n ** (4 / 3)
    return _ELIMINATE * (rates.nnz / n) * n**1.5, _CALL + _SOLVE * n


def fresh(rates: sp.csr_matrix) -> float:
    """Of taking up a new matrix for elimination: ordering and scaling it, whose work has no part in `resolvent`.

    Examples
    --------
    >>> fresh(sp.diags([1.0, 1.0], [-1, 1], shape=(1000, 1000)).tocsr())
    0.0
    """
    return 0.0 if gen.is_tridiagonal(rates) else _FRESH[0] + _FRESH[1] * rates.shape[0]


def few_products(rates: sp.csr_matrix, jumps: float, spans: np.ndarray) -> bool:
    """Whether uniformisation costs little, and on a line less than the solves of the rational approximation."""
    if jumps * rates.nnz > FEW_WORK:
        return False
    intervals, n = int(np.count_nonzero(spans)), rates.shape[0]
    cost, solves = _SETUP + _uniform(jumps, intervals) * _product(rates), _SOLVES * intervals * (_CALL + _LINE * n)
    return n < 200 or cost < solves or not gen.is_tridiagonal(rates)


def _uniform(jumps: float, intervals: int) -> float:
    """Products that uniformisation needs for so many jumps."""
    return jumps + intervals * (9.0 * math.sqrt(jumps / max(1, intervals)) + 40.0)


def most_products(
    rates: sp.csr_matrix, rho_t: float, spans: np.ndarray, rtol: float, shape: tuple[int, ...] | np.ndarray | None
) -> float:
    """Products with the generator that cost as much as the rational approximation; zero where the series needs more."""
    needed, product = _explicit.products(rho_t, rtol), _product(rates)
    kinds, intervals = np.unique(spans[spans > 0].round(12)).size, np.count_nonzero(spans)
    elimination, solve = resolvent(rates, shape)
    if math.isinf(elimination):
        return np.inf
    eliminations = 0 if gen.is_tridiagonal(rates) else 2 * kinds
    rational = eliminations * elimination + _SOLVES * intervals * solve
    return 1.5 * rational / product if _SETUP + needed * product < rational else 0.0


def spent(info: Mapping[str, Any], rates: sp.csr_matrix, shape: tuple[int, ...] | np.ndarray | None) -> float:
    """Of what `_transient.propagate` did over one interval, by what it tells.

    Examples
    --------
    >>> chain = sp.diags([1.0, 1.0], [-1, 1], shape=(1000, 1000)).tocsr()
    >>> spent({"factorisations": 1, "solves": 30, "method": "rational"}, chain, (1000,)) > 30 * resolvent(chain, (1000,))[1]
    True
    """
    if str(info["method"]) == "uniformisation":
        return _SETUP + _uniform(float(info["steps"]), 1) * _product(rates)
    elimination, solve = resolvent(rates, shape) if info["solves"] else (0.0, 0.0)
    products = float(info.get("products", 0))
    return (
        (_SETUP + products * _product(rates) if products else 0.0)
        + int(info["factorisations"]) * elimination
        + int(info["solves"]) * solve
    )
