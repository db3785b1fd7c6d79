r"""Fokker-Planck engine: the generator of a process on a grid, and the questions that linear algebra answers about it.

The density obeys dp/dt = -div(a p - D grad p) with a = b - div D. In every cell Selling's decomposition writes D as a sum of
nonnegative weights w_e e e^T along integer offsets e; along each edge the flux is exponentially fitted (Scharfetter-Gummel) to the
part of the drift that the noise balances and central for the rest. The result is a matrix of rates Q_ij >= 0 between cells.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _markov
from ._checks import numbers
from ._committor import Transitions
from ._cuts import singular_points
from ._discretize import assemble, build_stencil
from ._exits import start_inside
from ._follow import DRIVEN_METHODS, evolve_driven
from ._generator import clean_rates
from ._notes import barred_note, basin_note, cap_note, fits, mass_notes, thickened, thin_note
from ._phase_space import PhaseSpace, build_phase_stencil, phase_space
from ._progress import shown
from ._refine import step_error
from ._spectral import Spectral
from ._start import initial_density
from .driven import Driven
from .grid import Grid
from .region import Region
from .results import Assumption, Density, DensitySeries, Estimate, Field

__all__ = ["FokkerPlanck"]

_log = logging.getLogger(__name__)

_SCHEMES = ("monotone", "high-order", "auto")

Array = NDArray[np.float64]


class FokkerPlanck(Transitions, Spectral):
    """The Fokker-Planck equation of a process on a grid, discretised as a Markov generator.

    Parameters
    ----------
    process : Process, Underdamped or Driven
        Drift b and diffusion tensor D (any symmetric positive semi-definite field), in 1-D to 3-D. An
        Underdamped of one coordinate is solved in its phase space: a grid of positions and velocities, regions of positions at any
        velocity or of both. With a :class:`Driven` process `evolve` follows its coefficients in time; everything else is for those
        frozen at time 0 (for other times: ``FokkerPlanck(driven.at(t), grid)``).
    grid : Grid
        Cells, walls and boundary conditions.
    scheme : {"monotone", "high-order", "auto"}
        "monotone": nonnegative rates, hence positivity, exact mass, and answers free of subtractions whatever the barrier.
        "high-order": central differences of order six (or four), exact mass, for smooth densities that the cells resolve and
        barriers that double precision holds; negative parts and rounding are reported; regions end on faces of the cells.
        "auto": "high-order" where its stationary density (with absorbing sides: its slowest one) is found to be resolved,
        nonnegative and free of rounding, or nearly so and the monotone one far off; else "monotone". `choice` says what was
        measured.
    max_offset : int
        Longest offset, in cells, along which mass may jump; strong anisotropy at an angle needs long offsets. What the cap adds to
        D is in `added_diffusion`. Monotone scheme only.
    order : {4, 6}, optional
        Of the high-order scheme, 6 by default.

    Attributes
    ----------
    scheme : {"monotone", "high-order"}
        What is used.
    choice : str
        What scheme="auto" chose and why; empty without it.
    generator : scipy.sparse.csr_matrix (n, n)
        Rates Q_ij >= 0 from cell i to cell j (cells in C order); Q_ii = -sum_j Q_ij - kill_i. In the high-order scheme entries have
        both signs.
    kill : array (n,)
        Rates of leaving through absorbing walls; the rows of the generator plus kill sum to zero.
    added_diffusion : array of grid.shape
        How much the second moment of the rates differs from 2 D, halved, beyond the order of the scheme; largest eigenvalue. Capped
        offsets, shorter edges next to reflecting walls and upwind differences where the noise cannot carry the drift add to D.
        Cells whose edges end in cells of shorter offsets may lose: what is added here is taken there, and counted in size.
    exponent : array of grid.shape
        Largest drift exponent `|e . D^-1 (b - div D)|` of the edges of each cell, inf where the drift has a part without noise.
        The noise is resolved where it is below about 4.
    warnings : tuple of str

    Raises
    ------
    ValueError
        If dimensions differ, the dimension is above 3, `order` is not 4 or 6 or an axis has too few cells for it, D is not
        symmetric positive semi-definite (the message names grid point and eigenvalue), or drift or D is not finite at a grid point.
    TypeError
        If `process` or `grid` is not one.

    Notes
    -----
    Second order in the cell width where D is positive definite and resolved, first order along directions without noise (in phase
    space exact in equilibrium all the same). Where `process.log_density` is known, exp(-Phi) at the centres is in detailed balance
    on every edge. Up to 64 000 cells in 3-D chains are eliminated, at any barrier; larger ones are solved by iteration, which says
    how well, and refuses what it cannot.

    Examples
    --------
    >>> from fpsolve.grid import Grid
    >>> from fpsolve.noise import Noise
    >>> from fpsolve.process import Process
    >>> process = Process.ornstein_uhlenbeck([[1.0, 0.6], [-0.3, 0.8]], Noise.isotropic(0.5))
    >>> fp = FokkerPlanck(process, Grid((-5, 5, 64), (-5, 5, 64)))
    >>> p = fp.stationary()
    >>> bool(abs(p.mass - 1) < 1e-12), bool(p.values.min() >= 0)
    (True, True)
    >>> p.covariance()
    array([[ 0.5612, -0.1020],
           [-0.1020,  0.5867]])
    """

    choice: str = ""

    def __new__(cls, process: Any = None, grid: Any = None, scheme: str = "monotone", **options: Any) -> Any:
        """An object of the scheme that is asked for."""
        if cls is FokkerPlanck and scheme in ("high-order", "auto"):
            from . import _highorder

            if unknown := sorted(options.keys() - {"max_offset", "order"}):
                raise TypeError(f"FokkerPlanck has no option {', '.join(map(repr, unknown))}; known are max_offset and order")
            process = _of_one_time(phase_space(process), scheme)
            _check_arguments(process, grid, scheme, options.get("max_offset", 16), options.get("order"))
            return _highorder.made(process, grid, scheme, options)
        return super().__new__(cls)

    def __init__(
        self, process: Any, grid: Grid, scheme: str = "monotone", *, max_offset: int = 16, order: int | None = None
    ) -> None:  # fmt: skip
        if scheme == "high-order":
            raise TypeError(f"{type(self).__name__} is not of the high-order scheme; call FokkerPlanck itself")
        if "generator" in self.__dict__:  # made, and looked at, by scheme="auto"
            return
        scheme, order = ("monotone", None) if scheme == "auto" else (scheme, order)  # what "auto" has chosen
        self._posed = process
        self.driven = process if isinstance(process, Driven) else None
        process = phase_space(process.at(0.0) if isinstance(process, Driven) else process)
        _check_arguments(process, grid, scheme, max_offset, order)
        self.process, self.grid, self.scheme, self.max_offset = process, grid, "monotone", int(max_offset)
        in_phase_space = isinstance(process, PhaseSpace)
        self._stencil = build_phase_stencil(process, grid) if in_phase_space else build_stencil(process, grid, self.max_offset)
        self.order = 1 if in_phase_space else 2
        self.generator, self.kill, exponent = assemble(self._stencil)
        self.exponent = exponent.reshape(grid.shape)
        self.added_diffusion = (self._stencil.clipped + self._stencil.shifted + self._stencil.upwind).reshape(grid.shape)
        self._thickened = thickened(process, grid, self._stencil)
        self.warnings = tuple(cap_note(process, grid, self._stencil, self._thickened))
        for text in self.warnings:
            _log.warning(text)

    @property
    def method(self) -> str:
        """What is solved, in words."""
        fitted = "detailed balance" if self._stencil.reversible else "phase space" if self._stencil.stream else "fitted drift"
        return f"Fokker-Planck, {self.scheme} scheme ({fitted})"

    def __repr__(self) -> str:
        reach = int(np.abs(self._stencil.offsets[self._stencil.weights > 0]).max(initial=1))
        lines = [f"FokkerPlanck on {self.grid!r}", f"  process: {self.process!r}", f"  {self.method}",
                 f"  {self.generator.nnz} rates, offsets up to {reach}"]  # fmt: skip
        return "\n".join([*lines, *([f"  {self.choice}"] if self.choice else []), *(f"  warning: {w}" for w in self.warnings)])

    # ---- forward ----------------------------------------------------------------------------------------------------

    def stationary(self, *, progress: bool = False) -> Density:
        """The stationary density, nonnegative and of mass one, by elimination without subtractions.

        Parameters
        ----------
        progress : bool
            Count the rounds of the iteration for large chains in space on the terminal.

        Returns
        -------
        Density

        Raises
        ------
        ValueError
            If a side is absorbing (nothing stays), or the cells fall into classes that never reach each other.

        Warns
        -----
        In `warnings` of the result: reflecting walls that hold visible mass, cells too coarse for the noise, diffusion added by cap
        or walls where the mass is, lines on which D vanishes and that leave several parts of the box with stationary laws of their
        own, and several basins: the density is accurate at any barrier, but the shares of the basins are established only after
        the time given.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, Process
        >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
        >>> FokkerPlanck(process, Grid((-8, 8, 400))).stationary().covariance()
        array([[1.000]])
        """
        if np.any(self.kill > 0.0):
            raise ValueError("with absorbing sides all mass is lost in the end and there is no stationary density; "
                             "make the sides reflecting, or ask evolve for the density at a time")  # fmt: skip
        with shown("stationary density", "round", progress):
            mass = self._stationary_mass
        barred = barred_note(self.process, self.grid)
        notes = (*self.warnings, *mass_notes(self, mass), *(barred or basin_note(self.generator, mass, self.grid)))
        return Density(self._values(mass), self.grid, method=self.method, warnings=notes, solver_info={"cells": self.grid.size})

    @overload
    def evolve(self, rho0: Any, t: float, rtol: float = 1e-6, method: str | None = None) -> Density: ...
    @overload
    def evolve(self, rho0: Any, t: Sequence[float] | Array, rtol: float = 1e-6, method: str | None = None) -> DensitySeries: ...
    def evolve(
        self, rho0: Any, t: float | Sequence[float] | Array, rtol: float = 1e-6, method: str | None = None
    ) -> Density | DensitySeries:
        """The density at time `t`, or at several times, from the initial density `rho0`.

        Parameters
        ----------
        rho0 : Density, array of grid.shape, callable, or ("gaussian", mean, cov)
            A callable gets points (n, d) and returns n values; it and the Gaussian are normalised on the grid. Arrays are taken as
            they are, as point values at the cell centres.
        t : float or increasing sequence of floats
            Times >= 0.
        rtol : float
            Error of the time integration relative to the mass.
        method : None, "positive", "chebyshev", "rational" or "uniformisation"; of Driven processes also "magnus" or "tr-bdf2"
            None: the cheapest, may be negative within rtol, reported by `negative_mass`. "positive": nonnegative to rounding.
            "chebyshev": explicit, products with the generator only, all times from one sweep. "rational": implicit, one
            factorisation whatever the time. "uniformisation": a sum of nonnegative terms, as many as the chain jumps. What was
            used, and the error of it at every time, is in `solver_info`.

            Coefficients that depend on time are followed in steps of second order, by the exponential midpoint rule ("magnus") or
            by TR-BDF2 ("tr-bdf2"); None: the cheaper one, step by step. The other names are those of the exponentials of "magnus";
            "positive" is a product of nonnegative matrices. TR-BDF2 is negative by half of the error in `solver_info` at most.

        Returns
        -------
        Density for a number `t`, DensitySeries for a sequence.

        Raises
        ------
        ValueError
            For a wrong shape, negative or non-finite values, bad times, or an unknown method.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, Process
        >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
        >>> fp = FokkerPlanck(process, Grid((-8, 8, 400)))
        >>> p = fp.evolve(("gaussian", [2.0], [[0.25]]), 1.0)
        >>> p.mean(), p.covariance()                       # 2 exp(-1) and 1 - 0.75 exp(-2)
        (array([0.736]), array([[0.898]]))
        """
        times = np.atleast_1d(numbers("t", t))
        if times.ndim != 1 or times.size == 0 or not np.all(np.isfinite(times)) or times[0] < 0 or np.any(np.diff(times) <= 0):
            raise ValueError(f"t must be a time >= 0 or an increasing sequence of times >= 0, got {t!r}")
        if not (isinstance(rtol, (int, float)) and 1e-11 <= rtol < 1.0):
            raise ValueError(f"rtol must lie in [1e-11, 1), got {rtol!r}")
        methods = _markov.METHODS if self.driven is None else DRIVEN_METHODS
        if method not in methods:
            only = " (for Driven processes, with coefficients that depend on time)" if method in DRIVEN_METHODS else ""
            raise ValueError(f"method must be one of {', '.join(map(repr, methods))}, got {method!r}{only}")
        values, start_notes = initial_density(rho0, self.grid)
        mass0 = (values * self.grid.cell_volumes).ravel()
        if self.driven is not None:
            masses, info = evolve_driven(
                self._frozen,
                mass0,
                times,
                rtol=rtol,
                method=method,
                shape=self.grid.shape,
                values=self.driven.values,
                assembly=self._stencil.cost,
            )
        else:
            masses, info = _markov.evolve(self.generator, self.kill, mass0, times, rtol=rtol, method=method, shape=self.grid.shape)
        label = f"{self.method}, evolve{'' if method is None else ' ' + method}, rtol {rtol:g}"
        notes = (*self.warnings, *start_notes, *mass_notes(self, masses[-1]))
        series = DensitySeries(times, np.stack([self._values(m) for m in masses]), self.grid, label, notes, info)
        return series if np.ndim(t) else series[0]

    def _frozen(self, t: float) -> tuple[Any, Array]:
        """Rates and killing rates of a driven process at time t."""
        assert self.driven is not None
        generator, kill, _ = assemble(build_stencil(self.driven.at(t), self.grid, self.max_offset))
        return clean_rates(generator), kill

    def _values(self, mass: Array) -> Array:
        return np.asarray(mass.reshape(self.grid.shape) / self.grid.cell_volumes)

    # ---- backward ---------------------------------------------------------------------------------------------------

    @overload
    def mean_exit_time(self, region: Region, at: None = None) -> Field: ...
    @overload
    def mean_exit_time(self, region: Region, at: ArrayLike) -> Estimate: ...
    def mean_exit_time(self, region: Region, at: ArrayLike | None = None) -> Field | Estimate:
        """Mean time of leaving a region, E_x[first time with g(x) >= 0], as a function of the start x.

        Solves b.grad tau + D:hess tau = -1 inside and tau = 0 at the surface g = 0, which is resolved inside the cells. A box
        side with g >= 0 is an exit whatever the boundary; an absorbing side ends the path as well; other sides keep theirs.
        On a periodic axis g is a function on the box: where it jumps to g >= 0 at the seam, the seam is a surface.

        Parameters
        ----------
        region : Region
        at : array (d,), optional
            One start point. Then the answer is an Estimate with the error found on the grids with a half and a quarter of the cells
            per axis: what is left at the order seen there if that is the expected one, else the whole change from half the cells
            or more (where those have no cell in the region: from one with twice as many). The value is that of this grid.

        Returns
        -------
        Field (zero outside the region, inf and a warning where leaving is not certain), or Estimate if `at` is given. The Estimate
        carries the warnings as failed assumptions, and one where the region is not 7 cells wide, in 2-D and 3-D where no block of
        3 cells per axis fits into it; where D vanishes inside the region its error is inf.

        Raises
        ------
        ValueError
            If the region contains no cell, nothing can leave it, or `at` is not inside.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((-2, 2, 100)))
        >>> tau = fp.mean_exit_time(Region.ball([0.0], 1.0))
        >>> float(tau.at([0.0]))                             # (1 - x^2)/(2 D)
        1.000
        >>> fp.mean_exit_time(Region.ball([0.0], 1.0), at=[0.5]).value
        0.750
        """
        region = self._region(region)
        x0 = None if at is None else start_inside(region, at, self.grid)
        inside, log_tau, factor = self._log_exit_time(region)
        if x0 is not None:
            _check_centre(region, x0, inside, self.grid)
        tau = np.where(inside, np.exp(np.minimum(log_tau, 709.7)), 0.0)
        tau = np.where(inside & (log_tau > 709.7), np.inf, tau)
        notes = list(self.warnings)
        stuck = int(np.count_nonzero(inside & np.isposinf(log_tau)))
        if stuck:
            notes.append(f"{stuck} cells of the region cannot leave it for certain; their mean exit time is inf")
        singular = singular_points(self.process, self.grid, region, inside)
        if len(singular):
            notes.append(_singular_text(singular))
        coarse = self._unresolved_on_the_way(inside, factor, x0)
        for text in (*notes[len(self.warnings) :], *coarse):
            _log.warning(text)
        field = Field(tau, self.grid, name="mean exit time", unit="time", warnings=(*notes, *coarse), mask=inside,
                      method=f"{self.method}, exit from {region!r}", solver_info=factor.info)  # fmt: skip
        if x0 is None:
            return field
        return self._exit_estimate(region, x0, inside, log_tau, notes, coarse, singular, factor.info["solver error"])

    def _exit_estimate(
        self, region: Region, x0: Array, inside: NDArray[np.bool_], log_tau: Array, notes: list[str], coarse: list[str],
        singular: Array, solver_error: float,
    ) -> Estimate:  # fmt: skip
        fine = _log_at(self.grid, log_tau, inside, x0)
        value = math.exp(fine) if fine < 709.7 else math.inf
        barred = _singular_text(singular) if len(singular) else None
        names = ["D positive definite on the way" if text == barred else "no warning of the solver" for text in notes]
        assumptions = [Assumption(name, "failed", text) for name, text in zip(names, notes, strict=True)]
        if coarse:
            assumptions.append(Assumption("the cells resolve the noise", "failed", "; ".join(coarse)))
        thin = thin_note(self.grid, inside, self.grid.index(x0))
        if thin:
            assumptions.append(Assumption("the cells resolve the region", "failed", thin[0]))
        relative, grids = (
            self._relative_error(region, x0, fine, inside, not (coarse or thin)) if math.isfinite(value) else (math.inf, "one grid")
        )
        relative += solver_error
        if not math.isfinite(relative) and math.isfinite(value):
            detail = "the start has no cell of the region on a coarser or a finer grid"
            assumptions.append(Assumption("error known from a second grid", "failed", detail))
        return Estimate(value, discretization_error=math.inf if len(singular) else value * relative, log_value=fine, unit="time",
                        assumptions=tuple(assumptions), method=f"{self.method}, {grids}", **self._clock)  # fmt: skip

    def _relative_error(
        self, region: Region, x0: Array, fine: float, inside: NDArray[np.bool_], resolved: bool
    ) -> tuple[float, str]:
        """Relative error of exp(fine) from other grids and which they are: (inf, ...) if there is none.

        Second order is expected, first where the region has upwind differences; see `step_error`. An order seen on cells that do
        not resolve the noise, on any of the grids, is chance.
        """
        half = self.grid.coarsen()
        quarter = half.coarsen()
        coarse, of_half = self._log_on(half, region, x0)
        if coarse is None:
            double = self.grid._resized(tuple(2 * n for n in self.grid.shape))
            finer, _ = self._log_on(double, region, x0)
            # at first order what is left beyond the finer grid is as much again
            return (math.inf, "one grid") if finer is None else (2.0 * abs(_expm1(finer - fine)), "refined once")
        ratio = min(n / m for n, m in zip(self.grid.shape, half.shape, strict=True))
        if not ratio > 1.0:
            return math.inf, "one grid"
        coarsest, of_quarter = self._log_on(quarter, region, x0) if quarter != half else (None, True)
        first = _expm1(coarse - fine)
        second = None if coarsest is None else _expm1(coarsest - fine) - first
        order = 1.0 if np.any(self._stencil.rest[inside.ravel()] != 0.0) else 2.0
        error, _, confirmed = step_error(first, second, ratio, order, resolved=resolved and of_half and of_quarter)
        if second is not None and not confirmed:  # surfaces cut the cells of each grid differently: two may agree by chance
            error = max(error, abs(second) / ratio**order)
        return error, "two grids" if coarsest is None else "three grids"

    def _log_on(self, grid: Grid, region: Region, x0: Array) -> tuple[float | None, bool]:
        """ln tau(x0) on another grid, None where that has no answer, and whether its cells resolve region and noise on the way."""
        try:
            solver = self._on(grid)
            inside, log_tau, factor = solver._log_exit_time(region)
        except ValueError:
            return None, True
        value = _log_at(grid, log_tau, inside, x0)
        if not inside[grid.index(x0)] or not math.isfinite(value):
            return None, True
        return value, fits(grid, inside, grid.index(x0)) and not solver._unresolved_on_the_way(inside, factor, x0)

    def _log_exit_time(self, region: Region) -> tuple[NDArray[np.bool_], Array, _markov.Factor]:
        """Cells inside and ln tau there (-inf outside), both of grid.shape, and the factorised rates."""
        inside, rates, kill = self._killed(region)
        factor = _markov.factor(rates, kill, shape=self.grid.shape)
        with np.errstate(divide="ignore"):
            log_tau = factor.solve(inside.ravel().astype(float), log=True)
        return inside, np.where(inside, log_tau.reshape(self.grid.shape), -np.inf), factor

    def _phi_at(self, points: Array) -> Array:
        """-log density at points, empty where it is not known."""
        return -np.asarray(self.process.log_density(points), float) if self._stencil.use_phi else np.empty(0)


# ---- checks and coefficients ----------------------------------------------------------------------------------------------


def _of_one_time(process: Any, scheme: str) -> Any:
    if isinstance(process, Driven):
        raise TypeError(f"scheme={scheme!r} is for coefficients that do not depend on time; use 'monotone', or process.at(t)")
    return process


def _check_arguments(process: Any, grid: Grid, scheme: str, max_offset: int, order: Any = None) -> None:
    if not all(hasattr(process, name) for name in ("dim", "drift", "diffusion", "divergence", "log_density")):
        raise TypeError(f"FokkerPlanck needs a Process, got {type(process).__name__}: {process!r}")
    if not isinstance(grid, Grid):
        raise TypeError(f"FokkerPlanck needs a Grid, got {type(grid).__name__}: {grid!r}")
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(map(repr, _SCHEMES))}, got {scheme!r}")
    if scheme == "monotone" and order is not None:
        raise ValueError(f"order belongs to scheme='high-order', the monotone scheme is of order 2; got {order!r}")
    if process.dim != grid.dim:
        raise ValueError(f"the process is {process.dim}-D, the grid is {grid.dim}-D; give one axis (lo, hi, n) per coordinate")
    if grid.dim > 3:
        raise ValueError(f"FokkerPlanck works in 1-D to 3-D, got {grid.dim}-D; use simulate for more dimensions")
    if isinstance(max_offset, bool) or not isinstance(max_offset, (int, np.integer)) or max_offset < 1:
        raise ValueError(f"max_offset must be an integer >= 1, got {max_offset!r}")


def _check_centre(region: Region, x0: Array, inside: NDArray[np.bool_], grid: Grid) -> None:
    if not inside[grid.index(x0)]:
        centre = [float(c[i]) for c, i in zip(grid.centers, grid.index(x0), strict=True)]
        raise ValueError(f"the start {x0.tolist()} is inside {region!r}, the centre {centre} of its cell is not; use more cells")


def _singular_text(points: Array) -> str:
    places = ", ".join(str([float(f"{v:.6g}") for v in p]) for p in points[:3])
    return (f"D vanishes at {places}{', ...' if len(points) > 3 else ''} inside the region: Ito paths cannot cross there "
            "against the drift, and the time found depends on where the cells lie; give the noise a floor")  # fmt: skip


def _expm1(x: float) -> float:
    return math.expm1(min(x, 700.0))


def _log_at(grid: Grid, log_tau: Array, inside: NDArray[np.bool_], x: Array) -> float:
    """ln tau at a point: product of cubics through four cells per axis, bilinear where those are not all inside."""
    for order in (4, 2):
        cells, weights = [], []
        for axis, (centers, edges, sides) in enumerate(zip(grid.centers, grid.edges, grid.boundary, strict=True)):
            n, length = len(centers), float(edges[-1] - edges[0])
            at = edges[0] + (x[axis] - edges[0]) % length if sides[0] == "periodic" else x[axis]
            first = int(np.searchsorted(centers, at, side="right")) - order // 2
            if sides[0] != "periodic":
                first = min(max(first, 0), max(n - order, 0))
            nodes = np.arange(first, first + min(order, n))
            where = centers[nodes % n] + length * (nodes // n)
            weights.append([math.prod((at - q) / (p - q) for q in where if q != p) for p in where])
            cells.append(nodes % n)
        block = np.ix_(*cells)
        if inside[block].all() and np.isfinite(log_tau[block]).all():
            top = float(log_tau[block].max())
            value = np.exp(log_tau[block] - top)
            for w in weights:
                value = np.tensordot(np.asarray(w), value, axes=(0, 0))
            if float(value) > 0.0:
                return top + math.log(float(value))
    return float(log_tau[grid.index(x)])
