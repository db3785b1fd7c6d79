"""Eigenvalues and eigenfunctions of the generator, and expectations of observables forward and backward in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, LinearOperator, eigs

from . import _generator as gen
from ._checks import is_finite, numbers
from ._elimination import eliminated, engine
from ._explicit import Chebyshev
from ._notes import unresolved
from ._pencil import in_pairs
from ._progress import shown, tick
from ._refine import _ORDER_BAND, Solver, _ratio
from ._transient import backward_evolve
from .errors import FpsolveError
from .grid import Grid
from .results import Estimate, Field, Spectrum

__all__ = ["Spectral", "leading_modes"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

#: Ratio of the two slowest nonzero rates below which the null space counts as nearly degenerate.
_BASINS = 1e-5
#: Cells up to which all eigenvalues are found at once; the iteration needs more cells than modes.
_DENSE = 32
#: Relative accuracy of the modes of a chain too large to factorise, and of the exponentials that only tell how long a time to take.
_INEXACT, _ROUGH = 1e-7, 1e-4


class _ShiftInvert:
    """(s - G)^{-1} with the stationary mode projected out, and its transpose, from one factor without subtractions."""

    def __init__(self, rates: sp.csr_matrix, kill: Array, pi: Array | None, shape: tuple[int, ...]) -> None:
        self.rates, self.kill, self.pi, self.shape = rates, kill, pi, shape
        self.core: Any = None
        self.shift = -1.0

    def set_shift(self, shift: float) -> None:
        loss = self.kill + shift
        if self.core is None:
            self.core = engine(self.rates, loss, lambda: gen.coordinates(self.rates, self.shape))
        else:
            self.core.refactor(loss)
        self.shift = shift

    def apply(self, x: Array, transposed: bool) -> Array:
        tick()
        out = self.core.plain_solve(np.ascontiguousarray(_without(np.ravel(x), self.pi, transposed)), transposed)
        if out is None:
            raise FpsolveError(f"the resolvent at {self.shift:g} left the range of doubles; scale the rates")
        return _without(out, self.pi, transposed)

    def largest(self, count: int, transposed: bool) -> tuple[Complex, Complex]:
        n = self.kill.size
        if n <= _DENSE:
            theta, vectors = np.linalg.eig(np.column_stack([self.apply(unit, transposed) for unit in np.eye(n)]).astype(complex))
            most = np.argsort(-np.abs(theta), kind="stable")[:count]
            theta, vectors = theta[most], vectors[:, most]
        else:
            start = _without(np.random.default_rng(0).standard_normal(n), self.pi, transposed)
            operator = LinearOperator((n, n), matvec=lambda x: self.apply(x, transposed), dtype=float)
            try:
                theta, vectors = eigs(operator, count, which="LM", v0=start, maxiter=2000, ncv=min(n, 2 * count + 16), tol=1e-13)
            except ArpackError as error:
                raise FpsolveError(f"the eigenvalue iteration did not converge: {error}; ask for fewer modes") from error
        whole = in_pairs(theta)
        theta, vectors = theta[whole], vectors[:, whole]
        order = np.argsort(-(self.shift - 1.0 / theta).real, kind="stable")
        return np.asarray(self.shift - 1.0 / theta[order], np.complex128), np.asarray(vectors[:, order], np.complex128)


class _Exponential:
    """exp(G/s) with the stationary mode projected out, and its transpose, by products with G: for chains too large to factorise.

    The modes that are largest under it are the slowest, also where they oscillate; eigenvalues are Rayleigh quotients of G.
    """

    def __init__(self, rates: sp.csr_matrix, kill: Array, pi: Array | None) -> None:
        self.kill, self.pi = kill, pi
        loss = np.asarray(rates.sum(axis=1)).ravel() + kill
        generator = (rates - sp.diags(loss)).tocsr()
        self.generators = {False: generator, True: generator.T.tocsr()}
        self.series = {side: Chebyshev(rates, kill, transposed=side) for side in (False, True)}
        self.shift = -1.0

    def set_shift(self, shift: float) -> None:
        self.shift = shift

    def reach(self, count: int, scale: float) -> float:
        """About the rate of the slowest mode but so many: the decay of as many vectors over times that double until it settles."""
        block, before = np.linalg.qr(np.random.default_rng(0).standard_normal((self.kill.size, count)))[0], math.inf
        self.set_shift(scale)
        while True:
            moved = np.stack([self.apply(x, True, _ROUGH) for x in block.T], axis=1)
            block, triangle = np.linalg.qr(moved)
            rate = -math.log(max(float(np.abs(np.diag(triangle)).min()), 1e-300)) * self.shift
            if rate > 0.9 * before and rate > self.shift:
                return rate
            before = rate
            self.set_shift(0.5 * self.shift)

    def apply(self, x: Array, transposed: bool, tolerance: float) -> Array:
        tick()
        x = _without(np.ravel(x), self.pi, transposed)
        found = self.series[transposed].series(x, np.array([1.0 / self.shift]), tolerance * float(np.abs(x).sum()))
        assert found is not None, "no limit was set"
        return _without(found[0][0], self.pi, transposed)

    def largest(self, count: int, transposed: bool) -> tuple[Complex, Complex]:
        n = self.kill.size
        start = _without(np.random.default_rng(0).standard_normal(n), self.pi, transposed)
        operator = LinearOperator((n, n), matvec=lambda x: self.apply(x, transposed, 0.01 * _INEXACT), dtype=float)
        try:
            _, vectors = eigs(operator, count, which="LM", v0=start, maxiter=2000, ncv=2 * count + 8, tol=_INEXACT)
        except ArpackError as error:
            raise FpsolveError(f"the eigenvalue iteration did not converge: {error}; ask for fewer modes") from error
        moved = self.generators[transposed] @ vectors
        values = np.einsum("nk,nk->k", vectors.conj(), moved) / np.einsum("nk,nk->k", vectors.conj(), vectors)
        whole = in_pairs(values)
        values, vectors = values[whole], vectors[:, whole]
        order = np.argsort(-values.real, kind="stable")
        return np.asarray(values[order], np.complex128), np.asarray(vectors[:, order], np.complex128)


def _without(x: Array, pi: Array | None, transposed: bool) -> Array:
    """The vector without its stationary part."""
    if pi is None:
        return x
    return x - pi * x.sum() if transposed else x - pi @ x


def leading_modes(
    generator: sp.csr_matrix, kill: Array, pi: Array | None, count: int, shape: tuple[int, ...]
) -> tuple[Complex, Complex, Complex, tuple[float, float]]:
    """Slowest eigenvalues of a generator without the stationary one: values (k,), right and left vectors (n, k), circle.

    Parameters
    ----------
    generator, kill : (n, n) rates and (n,) killing rates
    pi : stationary masses, projected out, or None for a killed chain
    count : number of modes; one more where a complex pair would be cut

    The circle (centre s, radius) around s holds no other modes than those found.

    Notes
    -----
    Normalised to l_j . r_k = delta_jk. ARPACK (R. Lehoucq, D. Sorensen, C. Yang 1998) on (s - G)^{-1}; s is near the slowest rates:
    a first run finds them.
    """
    rates = gen.clean_rates(generator)
    n = kill.size
    large = len(shape) == 3 and not eliminated(n, 3)
    problem = _Exponential(rates, kill, pi) if large else _ShiftInvert(rates, kill, pi, shape)
    scale = float(np.abs(generator.diagonal()).max())
    # modes near the shift are found, the slowest are wanted: more than asked for, and a shift far enough to the right
    extra = max(1, min((count if large else 2 * count) + (2 if large else 4), n - 2))
    if isinstance(problem, _Exponential):
        problem.set_shift(problem.reach(extra, scale))
        values, right = problem.largest(extra, False)
        circle = problem.shift, float((problem.shift - values.real).max())
    else:
        values, right = _near_the_slowest(problem, count, extra, scale / n ** (2.0 / max(len(shape), 1)))
        circle = problem.shift, float(np.abs(problem.shift - values).max())
    keep = min(count, values.size)
    if keep < values.size and _unpaired(values[:keep]):
        keep += 1
    other, left = problem.largest(extra, True)
    values, right = values[:keep], right[:, :keep]
    left = left[:, _match(values, other)]
    return values, right, np.asarray(np.linalg.solve(left.T @ right, left.T).T, np.complex128), circle


def _near_the_slowest(problem: _ShiftInvert, count: int, extra: int, guess: float) -> tuple[Complex, Complex]:
    """Modes nearest to a shift that is near the slowest rates: a first run finds them."""
    problem.set_shift(0.0 if problem.pi is None else guess)
    values, right = problem.largest(extra, False)
    if problem.pi is not None:
        reach = float(np.abs(values[:count]).max())
        if not 0.3 * reach <= problem.shift <= 3.0 * reach:
            problem.set_shift(max(reach, 1e-12 * float(np.abs(problem.rates.data).max(initial=1.0))))
            values, right = problem.largest(extra, False)
    return values, right


def _match(values: Complex, other: Complex) -> list[int]:
    """For every value the index of its partner in another list, each used once."""
    free, out = list(range(other.size)), []
    for v in values:
        best = min(free, key=lambda j: abs(other[j] - v))
        free.remove(best)
        out.append(best)
    return out


def _tidy(values: Complex, right: Complex, left: Complex, weight: Array) -> tuple[Complex, Complex, Complex]:
    """Real parts where the imaginary ones are rounding, unit weighted norm of the right functions, largest entry positive."""
    weight = np.abs(weight)  # a density that cells do not resolve may be negative
    real = np.abs(values.imag) < 1e-9 * np.maximum(np.abs(values), 1e-300)
    values = np.asarray(np.where(real, values.real, values), np.complex128)
    for k in range(values.size):
        at = int(np.argmax(np.abs(right[:, k]) * np.sqrt(weight)))
        factor = np.abs(right[at, k]) / right[at, k] / np.sqrt(np.sum(weight * np.abs(right[:, k]) ** 2))
        right[:, k] *= factor
        left[:, k] /= factor
        if real[k]:
            right[:, k], left[:, k] = right[:, k].real, left[:, k].real
    return values, right, left


class Spectral(Solver):
    """Eigenfunctions and expectations; a part of `FokkerPlanck`."""

    def spectrum(self, k: int, *, progress: bool = False) -> Spectrum:
        r"""The k slowest modes of the generator: L r = mu r and its adjoint.

        Parameters
        ----------
        k : int
            Number of modes, the stationary one (mu = 0) included where mass is conserved; a complex pair is not cut.
        progress : bool
            Show how many solves, or exponentials of a large chain in space, have been made: there are some hundred, and on 64^3
            cells they take up to a minute.

        Returns
        -------
        Spectrum
            Eigenvalues in 1/time (real parts <= 0), right eigenfunctions (observables), left ones (densities), residuals.
            `eigenvalue_errors` is the whole change from half as many cells (in phase space, of first order, 1.6 times
            that), inf for modes that those do not have;
            ``fp.estimate(lambda f: f.spectrum(k).rates, confirm=True)`` gives rates as Estimates from three grids.
            `solver_info` holds centre and radius of a circle in the complex plane in which no other mode lies: a mode that
            oscillates faster than the circle reaches may be missing.

        Raises
        ------
        ValueError
            If k is not between 1 and a quarter of the cells, or the cells fall into classes that never reach each other.
        FpsolveError
            If the iteration does not converge.

        Warns
        -----
        In `warnings` of the result: a slowest rate far below the next means several basins. Then differences
        between basins decay at a rate that rounding limits here; `escape_rate` and `quasi_stationary` of one basin
        keep their digits.

        Notes
        -----
        ARPACK on the inverse of s - Q, factorised without subtractions; the stationary mode is exact and projected out.
        Eigenvalues are of second order in the cell width. H. Risken, The Fokker-Planck Equation, chapters 5 and 6.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process
        >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
        >>> FokkerPlanck(process, Grid((-7, 7, 400))).spectrum(4).rates.round(2)
        array([0., 1., 2., 3.])
        """
        n, conserved = self.grid.size, not np.any(self.kill > 0.0)
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= max(1, n // 4):
            raise ValueError(f"k must be an integer from 1 to {max(1, n // 4)} (a quarter of the cells), got {k!r}")
        with shown("spectrum", "solve", progress):
            return self._spectrum(int(k), conserved)

    def _spectrum(self, k: int, conserved: bool) -> Spectrum:
        """`spectrum` of checked arguments."""
        n, wanted = self.grid.size, k - conserved
        pi, (values, right, left, circle) = self._slow_modes(wanted)
        weight = pi if pi is not None else np.full(n, 1.0 / n)
        values, right, left = _tidy(values, right, left, weight)
        notes = [*self.warnings, *_basin_note(values)]
        keep = wanted + (1 if 0 < wanted < values.size and _unpaired(values[:wanted]) else 0)
        values, right, left = values[:keep], right[:, :keep], left[:, :keep]
        errors = self._eigenvalue_errors(values)
        if pi is not None:
            values, errors = np.concatenate([[0.0], values]), np.concatenate([[0.0], errors])
            right = np.column_stack([np.ones(n), right])
            left = np.column_stack([pi.astype(np.complex128), left])
        moved = self._backward_matrix @ right - right * values
        residuals = np.linalg.norm(moved, axis=0) / np.linalg.norm(right, axis=0)
        shape = (values.size, *self.grid.shape)
        return Spectrum(values, right.T.reshape(shape), left.T.reshape(shape) / self._volumes, residuals, self.grid,
                        method=f"{self.method}, shift and invert", warnings=tuple(notes), eigenvalue_errors=errors,
                        solver_info={"centre": circle[0], "radius": circle[1]})  # fmt: skip

    def _slow_modes(self, wanted: int) -> tuple[Array | None, Any]:
        """Stationary masses, None where none stay, and `leading_modes` beside them: two at least, to see several basins."""
        conserved = not np.any(self.kill > 0.0)
        pi = self._stationary_mass if conserved else None
        return pi, leading_modes(self.generator, self.kill, pi, max(wanted, 2), self.grid.shape)

    def _eigenvalue_errors(self, values: Complex) -> Array:
        """Distance to the eigenvalues on half as many cells, slowest first each to the nearest one left; inf where none is."""
        errors = np.full(values.size, math.inf)
        try:
            if not values.size or self._half.grid == self.grid:
                return errors
            most = max(1, self._half.grid.size // 4 - (not np.any(self.kill > 0.0)))  # as many as `spectrum` gives there
            coarse = self._half._slow_modes(min(values.size + 2, most))[1][0][:most]
        except (ValueError, FpsolveError):
            return errors
        paired = min(values.size, coarse.size)
        # where no more than first order is expected, what is left is more than the change
        left = min(1.0, _ratio(self.grid, self._half.grid) ** min(1.0, self.order - _ORDER_BAND) - 1.0)
        errors[:paired] = np.abs(values[:paired] - coarse[_match(values[:paired], coarse)]) / left
        return errors

    # ---- expectations ---------------------------------------------------------------------------------------------------

    @overload
    def expectation(self, f: Any, t: float, rho0: Any, *, rtol: float = 1e-8) -> Estimate: ...
    @overload
    def expectation(self, f: Any, t: Sequence[float] | Array, rho0: Any, *, rtol: float = 1e-8) -> tuple[Estimate, ...]: ...
    def expectation(self, f: Any, t: float | Sequence[float] | Array, rho0: Any, *, rtol: float = 1e-8) -> Any:
        """Expectation E[f(X_t)] of an observable from an initial density, by the forward equation.

        Parameters
        ----------
        f : callable, Field, or array of grid.shape
            The observable; a callable gets points (n, d) and returns n values.
        t : float or increasing sequence of floats
        rho0 : as in `evolve`
        rtol : float
            Error of the time integration relative to the mass.

        Returns
        -------
        Estimate for a number `t`, tuple of Estimates for a sequence; paths that ended at absorbing sides count zero. The error is
        the one from half as many cells per axis.

        Raises
        ------
        ValueError
            As `evolve`, or if `f` has the wrong shape or is not finite.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process
        >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
        >>> fp = FokkerPlanck(process, Grid((-8, 8, 400)))
        >>> fp.expectation(lambda x: x[:, 0], 1.0, ("gaussian", [2.0], [[0.25]])).value       # 2 exp(-1)
        0.736
        """
        times = tuple(float(v) for v in np.atleast_1d(numbers("t", t)))
        observable = _Observable(f, self.grid)
        start = _Start(rho0, self.grid)

        def values(fp: Any) -> tuple[float, ...]:
            series = first if fp is self else fp.evolve(start.on(fp.grid), times, rtol=rtol)
            weight = observable.on(fp.grid)
            return tuple(float(np.sum(weight * p.cell_mass)) for p in series)

        first = self.evolve(start.on(self.grid), times, rtol=rtol)
        label = "expectation at t = " + ", ".join(f"{time:g}" for time in times)
        out = self._two_grids(values, "", label, coarse=unresolved(self, np.maximum(first[-1].cell_mass, 0.0)))
        return out if np.ndim(t) else out[0]

    def backward(self, f: Any, t: float, *, rtol: float = 1e-8) -> Field:
        """Expectation u(x) = E_x[f(X_t)] as a function of the start, by the backward equation du/dt = b . grad u + D : hess u.

        Parameters
        ----------
        f : callable, Field, or array of grid.shape
            The observable; a callable gets points (n, d) and returns n values.
        t : float
            Time >= 0.
        rtol : float
            Mean error of the time integration over the cells relative to the mean of `|f|`.

        Returns
        -------
        Field; paths that ended at absorbing sides count zero.

        Raises
        ------
        ValueError
            If t is negative or not finite, or `f` has the wrong shape or is not finite.
        FpsolveError
            If the tolerance cannot be met.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process
        >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
        >>> u = FokkerPlanck(process, Grid((-8, 8, 400))).backward(lambda x: x[:, 0]**2, 0.5)
        >>> float(u.at([1.0]))                                  # exp(-1) + 1 - exp(-1)
        1.000
        """
        if isinstance(t, bool) or not isinstance(t, (int, float, np.number)) or not (is_finite(t) and t >= 0.0):
            raise ValueError(f"t must be a finite time >= 0, got {t!r}")
        if not 0.0 < rtol < 1.0:
            raise ValueError(f"rtol must lie in (0, 1), got {rtol!r}")
        start = _Observable(f, self.grid).on(self.grid).ravel()
        values, info = backward_evolve(self.generator, self.kill, start, float(t), rtol=rtol, shape=self.grid.shape)
        return Field(values.reshape(self.grid.shape), self.grid, name=f"expectation after t = {float(t):g}", warnings=self.warnings,
                     method=f"{self.method}, backward, rtol {rtol:g}", solver_info=info)  # fmt: skip


def _unpaired(values: Complex) -> bool:
    """Whether the last of the values lacks its complex conjugate among the others."""
    last = values[-1]
    return bool(last.imag != 0.0 and not np.any(np.abs(values[:-1] - last.conj()) < 1e-8 * abs(last)))


def _basin_note(values: Complex) -> list[str]:
    slow = np.sort(np.abs(values))
    if slow.size > 1 and slow[0] < _BASINS * slow[1]:
        return [
            f"nearly degenerate null space (rates {slow[0]:.3g} and {slow[1]:.3g}), several basins: ask for the "
            "quasi-stationary density and the escape rate of one of them"
        ]
    return []


class _Observable:
    """A function on any grid: of a callable its values, of values on one grid their interpolation."""

    def __init__(self, f: Any, grid: Grid) -> None:
        if isinstance(f, Field):
            if f.grid != grid:
                raise ValueError(f"f lives on {f.grid!r}, the solver on {grid!r}; pass f.at as a callable to interpolate")
            f = f.values
        if isinstance(f, str):
            raise TypeError(f"f is text, {f!r}; give a callable (Potential.from_expression(text, variables) is one) or an array")
        self.f: Callable[[Array], Any]
        self.grid, self.values = grid, None if callable(f) else numbers("f", f)
        if self.values is not None and self.values.shape != grid.shape:
            raise ValueError(f"f must be callable or have the shape {grid.shape} of the grid, got {self.values.shape}")
        self.f = f if callable(f) else Field(np.asarray(f, float), grid).at

    def on(self, grid: Grid) -> Array:
        """Values of grid.shape."""
        points = grid.points()
        out = self.values if self.values is not None and grid == self.grid else np.asarray(self.f(points), float)
        if out is not self.values and out.shape != (grid.size,):
            raise ValueError(f"f must return {grid.size} values for points of shape {points.shape}, got shape {out.shape}")
        bad = ~np.isfinite(out.ravel())
        if bad.any():
            raise ValueError(f"f is not finite at x = {points[int(np.argmax(bad))].tolist()}; it must be on the whole grid")
        return out.reshape(grid.shape)


class _Start:
    """An initial density on any grid: values on one grid are interpolated on another, with their mass."""

    def __init__(self, rho0: Any, grid: Grid) -> None:
        self.rho0, self.grid = rho0, grid

    def on(self, grid: Grid) -> Any:
        if grid == self.grid or callable(self.rho0) or isinstance(self.rho0, tuple):
            return self.rho0
        values = getattr(self.rho0, "values", self.rho0)
        fine = np.asarray(values, float)
        out = np.maximum(Field(fine, self.grid).at(grid.points()).reshape(grid.shape), 0.0)
        mass = float((fine * self.grid.cell_volumes).sum())
        total = float((out * grid.cell_volumes).sum())
        return out * (mass / total) if total > 0.0 else out
