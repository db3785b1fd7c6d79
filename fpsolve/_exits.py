"""Leaving a region: moments and distribution of the exit time, quasi-stationary density and escape rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from . import _interpolate, _markov
from ._checks import numbers
from ._cuts import exit_generator
from ._elimination import slowest_decay, solver_errors
from ._notes import doubtful, mass_notes, unresolved
from ._phase_space import over_velocities
from ._refine import Solver
from .errors import FpsolveError
from .grid import Grid
from .region import Region
from .results import Density, Estimate, ExitTimeDistribution, Field

__all__ = ["Exits", "log_moments", "slowest_mode", "start_inside"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: exp of more than this is inf in doubles.
_LARGEST = 709.7


def log_moments(rates: sp.csr_matrix, kill: Array, inside: Mask, order: int, shape: tuple[int, ...]) -> list[Array]:
    """ln E_x[T^n], n = 1 ... order, of the time of being killed: A M_n = n M_{n-1} on the cells inside, -inf elsewhere.

    Every right-hand side is nonnegative and scaled by its largest entry, so the logarithms hold far beyond doubles.

    Examples
    --------
    >>> logs = log_moments(sp.csr_matrix((1, 1)), np.array([2.0]), np.array([True]), 2, (1,))
    >>> np.exp(logs[0]), np.exp(logs[1])
    (array([0.5]), array([0.5]))
    """
    factor = _markov.factor(rates, kill, shape=shape)
    out: list[Array] = []
    last = np.where(inside, 0.0, -np.inf)
    for n in range(1, order + 1):
        finite = np.isfinite(last)
        top = float(last[finite].max())
        rhs = np.where(finite, np.exp(np.where(finite, last, top) - top), 0.0)
        with np.errstate(divide="ignore"):
            value = factor.solve(rhs, log=True) + (top + math.log(n))
        # where a lower moment is infinite so is this one
        last = np.where(inside, np.where(np.isposinf(last), np.inf, value), -np.inf)
        out.append(last)
    return out


def slowest_mode(
    rates: sp.csr_matrix, kill: Array, *, shape: Any = None, rtol: float = 1e-12, max_iterations: int = 1000
) -> tuple[Array, float]:
    """Quasi-stationary masses (n,) and ln of the decay rate of a killed chain, also where the rate is below doubles.

    `_markov.quasi_stationary`, and the same inverse iteration with logarithms where that runs out of range.

    Examples
    --------
    >>> nu, log_rate = slowest_mode(sp.csr_matrix([[0, 1.0], [1.0, 0]]), np.array([0.5, 0.5]))
    >>> nu, round(float(log_rate / np.log(0.5)), 12)
    (array([0.5, 0.5]), 1.0)
    """
    try:
        with np.errstate(over="ignore"):
            nu, rate = _markov.quasi_stationary(rates, kill, shape=shape, rtol=rtol, max_iterations=max_iterations)
        return nu, math.log(rate)
    except FpsolveError as error:
        if "range of doubles" not in str(error):
            raise
    factor = _markov.factor(rates, kill, shape=shape)

    def solve(nu: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(factor.solve_transposed(nu, log=True))

    return slowest_decay(solve, kill.size, rtol, max_iterations)


class Exits(Solver):
    """Questions about leaving a region; a part of `FokkerPlanck`."""

    def _region(self, region: Any, name: str = "region") -> Region:
        """A region of the grid's dimension; in phase space one of positions holds for any velocity."""
        if not isinstance(region, Region):
            raise TypeError(f"{name} must be a Region, got {type(region).__name__}: {region!r}")
        out: Region = over_velocities(self.process, region)
        return out

    def _killed(self, region: Region) -> tuple[Mask, sp.csr_matrix, Array]:
        """Cells inside (grid.shape), rates among them, exit rates; cells outside are isolated and killed at rate one."""
        region = self._region(region)
        inside = region.mask(self.grid)
        rates, kill, _ = exit_generator(self._stencil, self.generator, self.grid, region, inside, self._phi_at)
        if not np.any(kill[inside.ravel()] > 0.0):
            raise ValueError(f"nothing can leave {region!r} on {self.grid!r}: every side inside it is reflecting or "
                             "periodic; make the box reach beyond the region's surface, or a side absorbing")  # fmt: skip
        return inside, rates, kill

    def _places(self, cells: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Coordinates (m, 3) of some cells in space, by which the solver is chosen; on line and plane the graph tells enough."""
        return np.stack(np.unravel_index(cells, self.grid.shape), axis=1) if self.grid.dim == 3 else None

    def _unresolved_on_the_way(self, inside: Mask, factor: _markov.Factor, x0: Array | None = None) -> list[str]:
        """Why the cells do not resolve the noise where paths from x0 (or from everywhere inside) spend their time."""
        if not np.any(doubtful(self) & inside.ravel()):
            return []
        start = inside.ravel().astype(float)
        if x0 is not None:
            start = np.zeros(self.grid.size)
            start[np.ravel_multi_index(self.grid.index(x0), self.grid.shape)] = 1.0
        with np.errstate(divide="ignore"):
            logs = np.where(inside.ravel(), factor.solve_transposed(start, log=True), -np.inf)
        top = float(logs.max())
        return unresolved(self, np.exp(logs - top)) if math.isfinite(top) else []

    def _log_moments(self, region: Region, order: int) -> tuple[Mask, list[Array]]:
        inside, rates, kill = self._killed(region)
        logs = log_moments(rates, kill, inside.ravel(), order, self.grid.shape)
        return inside, [values.reshape(self.grid.shape) for values in logs]

    def exit_time_moments(self, region: Region, order: int = 2) -> tuple[Field, ...]:
        r"""Moments E_x[T^n], n = 1 ... order, of the time T of leaving a region, as functions of the start x.

        With the backward operator L, :math:`L M_n = -n M_{n-1}` inside, :math:`M_n = 0` at the surface, :math:`M_0 = 1`.

        Parameters
        ----------
        region : Region
            As in `mean_exit_time`, which is the first moment.
        order : int
            Highest moment, 1 ... 20.

        Returns
        -------
        tuple of Field
            In time^n; zero outside the region, inf where a moment is infinite or beyond doubles.

        Raises
        ------
        TypeError, ValueError
            If the region contains no cell, nothing can leave it, or `order` is out of range.

        Notes
        -----
        C. W. Gardiner, Stochastic Methods, section 5.5. Solved without subtractions, so relative accuracy holds at any barrier.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((-1, 1, 101)))
        >>> first, second = fp.exit_time_moments(Region.box([-1.0], [1.0]))
        >>> float(first.at([0.0])), float(second.at([0.0]))           # 1 and 5/3
        (1.000, 1.667)
        """
        if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or not 1 <= order <= 20:
            raise ValueError(f"order must be an integer from 1 to 20, got {order!r}")
        inside, logs = self._log_moments(region, int(order))
        return tuple(self._log_field(inside, v, f"moment {n + 1} of the exit time", "time" + (f"^{n + 1}" if n else ""), region)
                     for n, v in enumerate(logs))  # fmt: skip

    def _log_field(self, inside: Mask, logs: Array, name: str, unit: str, region: Region) -> Field:
        values = np.where(inside, np.exp(np.minimum(logs, _LARGEST)), 0.0)
        values = np.where(inside & (logs > _LARGEST), np.inf, values)
        notes, stuck = list(self.warnings), int(np.count_nonzero(inside & np.isposinf(logs)))
        if stuck:
            notes.append(f"{stuck} cells of the region cannot leave it for certain; there the answer is inf")
        method = f"{self.method}, exit from {region!r}"
        return Field(values, self.grid, name=name, unit=unit, warnings=tuple(notes), method=method, mask=inside)

    @overload
    def exit_time_variance(self, region: Region, at: None = None) -> Field: ...
    @overload
    def exit_time_variance(self, region: Region, at: ArrayLike) -> Estimate: ...
    def exit_time_variance(self, region: Region, at: ArrayLike | None = None) -> Field | Estimate:
        """Variance of the time of leaving a region, M_2 - M_1^2 of `exit_time_moments`.

        Parameters
        ----------
        region : Region
        at : array (d,), optional
            One start point; then the answer is an Estimate with the error found on half as many cells per axis.

        Returns
        -------
        Field (zero outside, inf where a moment is), or Estimate if `at` is given; both in time^2.

        Raises
        ------
        TypeError, ValueError
            As `exit_time_moments`, or if `at` is not inside.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((-1, 1, 101)))
        >>> fp.exit_time_variance(Region.box([-1.0], [1.0]), at=[0.0]).value           # 2/3
        0.667
        """
        region = self._region(region)
        x0 = None if at is None else start_inside(region, at, self.grid)
        inside, logs = self._log_moments(region, 2)
        if x0 is None:
            return self._log_field(inside, _log_variance(logs), "variance of the exit time", "time^2", region)

        def log_variance_at(fp: Any) -> float:
            within, values = fp._log_moments(region, 2)
            return _interpolated_log(fp.grid, _log_variance(values), within, x0)

        _, rates, kill = self._killed(region)
        coarse = self._unresolved_on_the_way(inside, _markov.factor(rates, kill, shape=self.grid.shape), x0)
        at_x0 = self.grid.index(x0)
        excess = math.expm1(min(float(logs[1][at_x0] - 2.0 * logs[0][at_x0]), 1.0)) if np.isfinite(logs[1][at_x0]) else 1.0
        label = f"variance of the exit time from {region!r}"
        amplified = (excess + 3.0) / max(excess, 1e-12)  # of M_2 - M_1^2
        found: Estimate = self._two_grids(log_variance_at, "time^2", label, log=True, coarse=coarse, amplified=amplified)
        return found

    def exit_time_distribution(
        self, region: Region, start: Any, t: Sequence[float] | Array, *, rtol: float = 1e-8
    ) -> ExitTimeDistribution:
        r"""Survival probability P(T > t) and density of the time T of leaving a region.

        The killed process is evolved from the start: P(T > t) is the mass left in the region, the density what the exit rates take
        from it.

        Parameters
        ----------
        region : Region
        start : array (d,) or an initial density
            A point inside (its mass is spread over the cells around it by the weights of linear interpolation), or what `evolve`
            takes; mass outside the region counts as having left.
        t : increasing sequence of times >= 0
        rtol : float
            Error of the time integration.

        Returns
        -------
        ExitTimeDistribution

        Raises
        ------
        TypeError, ValueError
            As `mean_exit_time` and `evolve`, or if no mass starts inside.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((-1, 1, 101)))
        >>> fp.exit_time_distribution(Region.box([-1.0], [1.0]), [0.0], [0.5, 1.0]).survival.round(4)
        array([0.6854, 0.3708])
        """
        times = np.atleast_1d(numbers("t", t))
        if times.ndim != 1 or times.size == 0 or not np.all(np.isfinite(times)) or times[0] < 0 or np.any(np.diff(times) <= 0):
            raise ValueError(f"t must be an increasing sequence of times >= 0, got {t!r}")
        region = self._region(region)
        inside, rates, kill = self._killed(region)
        mass, words = self._start(region, start)
        within = np.flatnonzero(inside.ravel())
        first = mass[within]
        if not first.sum() > 0.0:
            raise ValueError(f"no mass starts inside {region!r}: the exit time is zero")
        inner, loss = rates[within][:, within].tocsr(), kill[within]
        masses, info = _markov.evolve(inner, loss, first, times, rtol=rtol, shape=self._places(within))
        return ExitTimeDistribution(times, masses.sum(axis=1), masses @ loss, np.asarray(info["error"]) * first.sum(), start=words,
                                    method=f"{self.method}, exit from {region!r}", warnings=self.warnings)  # fmt: skip

    def _start(self, region: Region, start: Any) -> tuple[Array, str]:
        """Initial cell masses (n,) and what they are."""
        point = numbers("start", start) if not (callable(start) or isinstance(start, (tuple, Density))) else np.empty(0)
        if point.shape == (self.grid.dim,):
            x0 = start_inside(region, point, self.grid)
            return _spread(self.grid, x0), f"x = {x0.tolist()}"
        density = self.evolve(start, 0.0)
        return density.cell_mass.ravel(), f"a density of mass {density.mass:.6g}"

    def quasi_stationary(self, region: Region) -> Density:
        """Quasi-stationary density of a region: the law of a path that has stayed inside for long, of mass one.

        Parameters
        ----------
        region : Region
            One basin: with several, separated by barriers, the slowest counts and the iteration may not settle.

        Returns
        -------
        Density
            Zero outside the region; `solver_info` holds the escape rate and its logarithm.

        Raises
        ------
        TypeError, ValueError
            As `mean_exit_time`, or if some cell of the region can never leave it.
        FpsolveError
            If the two slowest decay rates are too close.

        Notes
        -----
        P. Collet, S. Martinez, J. San Martin, Quasi-Stationary Distributions (2013). Inverse iteration without subtractions.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> p = FokkerPlanck(process, Grid((-1, 1, 101))).quasi_stationary(Region.box([-1.0], [1.0]))
        >>> float(p.at([0.0]))                                   # (pi/4) cos(pi x/2)
        0.785
        """
        inside, mass, log_rate = self._slowest(region)
        rate = math.exp(log_rate) if log_rate > -745.0 else 0.0
        values = mass.reshape(self.grid.shape) / self.grid.cell_volumes
        info = {"escape rate": rate, "log escape rate": log_rate, "cells inside": int(inside.sum())}
        method = f"{self.method}, quasi-stationary in {region!r}"
        notes = (*self.warnings, *mass_notes(self, mass))
        return Density(values, self.grid, method=method, warnings=notes, solver_info=info)

    def _slowest(self, region: Region) -> tuple[Mask, Array, float]:
        inside, rates, kill = self._killed(region)
        within = np.flatnonzero(inside.ravel())
        nu, log_rate = slowest_mode(rates[within][:, within].tocsr(), kill[within], shape=self._places(within))
        mass = np.zeros(self.grid.size)
        mass[within] = nu
        return inside, mass, log_rate

    def escape_rate(self, region: Region) -> Estimate:
        """Slowest decay rate of the process killed on leaving the region.

        Parameters
        ----------
        region : Region

        Returns
        -------
        Estimate
            In 1/time with the error found on half as many cells per axis; `log_value` always, `value` 0 where it underflows.

        Raises
        ------
        TypeError, ValueError, FpsolveError
            As `quasi_stationary`.

        Notes
        -----
        It is the inverse of the mean exit time from the quasi-stationary density. Leaving through the point of no return
        at a saddle is twice Kramers' rate of committed crossings; a region that reaches well beyond the saddle gives the latter.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> FokkerPlanck(process, Grid((-1, 1, 101))).escape_rate(Region.box([-1.0], [1.0])).value   # pi^2/8
        1.234
        """
        with solver_errors() as seen:
            _, mass, log_rate = self._slowest(region)

        def log_rate_of(fp: Any) -> float:
            return log_rate if fp is self else float(fp._slowest(region)[2])

        rate: Estimate = self._two_grids(
            log_rate_of, "1/time", f"escape rate of {region!r}", log=True, coarse=unresolved(self, mass), solver=max(seen)
        )
        return rate


def _log_variance(logs: list[Array]) -> Array:
    """ln(M_2 - M_1^2) from the logarithms; the ratio M_2/M_1^2 is at least one."""
    finite = np.isfinite(logs[0])
    first = np.where(finite, logs[0], 0.0)
    excess = np.where(finite, np.expm1(np.where(finite, logs[1], 0.0) - 2.0 * first), 0.0)
    with np.errstate(divide="ignore"):
        return np.where(finite, 2.0 * first + np.log(np.maximum(excess, 0.0)), logs[0])


def start_inside(region: Region, at: ArrayLike, grid: Grid) -> Array:
    """The start of a path as an array; refused if it is no point, or not one of grid and region."""
    if region.dim != grid.dim:
        raise ValueError(f"{region!r} is {region.dim}-D, the grid is {grid.dim}-D; give one entry per coordinate")
    x0 = np.atleast_1d(numbers("at", at, "a point"))
    if x0.shape != (grid.dim,):
        raise ValueError(f"at must be one point of shape ({grid.dim},), got shape {x0.shape}; for several starts leave it out and "
                         "use .at(points) of the field")  # fmt: skip
    grid.index(x0)  # refuses points outside the box
    if not region.contains(x0):
        raise ValueError(f"the start {x0.tolist()} is not inside {region!r}; its exit time is zero")
    return x0


def _interpolated_log(grid: Grid, logs: Array, inside: Mask, x0: Array) -> float:
    """ln of a nonnegative function at a point from logarithms at the centres."""
    if not inside.any() or not np.isfinite(logs[inside]).any():
        return float(logs[grid.index(x0)])
    top = float(logs[grid.index(x0)])
    if not math.isfinite(top):
        top = float(logs[np.isfinite(logs)].max())
    scaled = np.exp(np.minimum(np.where(np.isneginf(logs), -np.inf, logs - top), 700.0))
    value = float(_quadratic(grid, scaled, x0))
    return top + math.log(value) if value > 0.0 else top


def _quadratic(grid: Grid, values: Array, x0: Array) -> float:
    """Multilinear interpolation with its leading error taken out, by second differences around the nearest cell."""
    out = float(_interpolate.multilinear(grid, values, x0, outside=math.nan))
    index = grid.index(x0)
    for axis, n in enumerate(grid.shape):
        centers, at = grid.centers[axis], index[axis]
        if not 0 < at < n - 1:
            continue
        line = [values[tuple(at + k if a == axis else i for a, i in enumerate(index))] for k in (-1, 0, 1)]
        h = float(centers[at + 1] - centers[at])
        offset = abs(float(x0[axis] - centers[at]))
        if min(line) > 0.0:
            out -= 0.5 * offset * (h - offset) * (line[0] - 2.0 * line[1] + line[2]) / h**2
    return out


def _spread(grid: Grid, x0: Array) -> Array:
    """Masses of the cells around a point with the weights of linear interpolation: unit mass, mean x0, none negative."""
    mass = np.zeros(grid.shape)
    pieces = []
    for axis, (centers, sides) in enumerate(zip(grid.centers, grid.boundary, strict=True)):
        n = centers.size
        lo, hi = grid.edges[axis][0], grid.edges[axis][-1]
        if sides[0] == "periodic":
            x = lo + (x0[axis] - lo) % (hi - lo)
            left = int(np.searchsorted(centers, x, side="right")) - 1
            gap = float((centers[(left + 1) % n] - centers[left]) % (hi - lo))
            w = float((x - centers[left]) % (hi - lo)) / gap
        else:
            left = min(max(int(np.searchsorted(centers, x0[axis], side="right")) - 1, 0), n - 2)
            w = min(max(float((x0[axis] - centers[left]) / (centers[left + 1] - centers[left])), 0.0), 1.0)
        pieces.append(((left % n, 1.0 - w), ((left + 1) % n, w)))
    corners: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    for pair in pieces:
        corners = [((*index, i), weight * w) for index, weight in corners for i, w in pair]
    for index, weight in corners:
        mass[index] += weight
    return mass.ravel()
