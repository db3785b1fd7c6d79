"""The Fokker-Planck equation by central schemes of order four or six: conservative, not monotone (see `_operators`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from . import _pencil
from ._aligned import Block, block_of, face_values, lagrange, side_values
from ._committor import Between
from ._flows import entropy_rate
from ._notes import mass_notes, unresolved
from ._operators import Operators, least_cells
from ._spectral import _match, _Observable, _unpaired
from ._start import initial_density
from .errors import FpsolveError
from .fokker_planck import FokkerPlanck
from .grid import Grid, Region
from .results import Current, Density, DensitySeries, Estimate, Field

__all__ = ["HighOrder"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Complex = NDArray[np.complex128]

#: Negative mass, as a share, that is worth a warning: more than rounding leaves.
_NEGATIVE = 1e-8
#: Roughness of a density from which its cells do not resolve it: the L1 error is one to five times as large.
_ROUGHNESS = 1e-3
#: What scheme="auto" accepts at most: roughness, negative share, share moved by rounding.
_ACCEPTED = (1e-3, 1e-6, 1e-6)
#: Mass in cells next to walls whose drift is damped that is worth a warning.
_DAMPED = 1e-6
#: Share of the largest density below which rounding makes the entropy of a current meaningless.
_FAINT = 1e-10
#: Relative rounding from which an answer gets a warning, and from which there is none.
_ROUGH, _LOST = 1e-6, 1e-3


class HighOrder(FokkerPlanck):
    """`FokkerPlanck` with scheme="high-order"; made by that class, which documents it."""

    def __init__(
        self, process: Any, grid: Grid, scheme: str = "high-order", *, max_offset: int = 16, order: int | None = None,
    ) -> None:  # fmt: skip
        if "operators" in self.__dict__:  # made, and tried, by scheme="auto"
            return
        self.process, self.grid, self.scheme, self.max_offset = process, grid, "high-order", int(max_offset)
        self.order = check_order(order, grid)
        self.operators = Operators(process, grid, self.order, tuple(slice(0, n) for n in grid.shape), grid.boundary)
        self.exponent = self.operators.exponent.reshape(grid.shape)
        self.added_diffusion = self.operators.damping.reshape(grid.shape)
        self.warnings = ()

    @functools.cached_property
    def generator(self) -> sp.csr_matrix:  # type: ignore[override]
        """Matrix Q in the convention of the generator, dm/dt = Q^T m: its rows sum to -kill, but its entries have both signs."""
        return self.operators.forward.T.tocsr()

    @functools.cached_property
    def kill(self) -> Array:  # type: ignore[override]
        """Rates (n,) at which mass is lost through absorbing sides, of both signs."""
        if not any("absorbing" in sides for sides in self.grid.boundary):
            return np.zeros(self.grid.size)
        return -np.asarray(self.operators.forward.sum(axis=0)).ravel()

    @property
    def method(self) -> str:
        """What is solved, in words."""
        return f"Fokker-Planck, high-order scheme (order {self.order})"

    def __repr__(self) -> str:
        lines = [f"FokkerPlanck on {self.grid!r}", f"  process: {self.process!r}", f"  {self.method}",
                 f"  {self.operators.forward.nnz} entries, {self.operators.forward.nnz / self.grid.size:.0f} per cell"]  # fmt: skip
        return "\n".join([*lines, *([f"  {self.choice}"] if self.choice else []), *(f"  warning: {w}" for w in self.warnings)])

    # ---- what other parts ask ---------------------------------------------------------------------------------------------

    def _on(self, grid: Grid, process: Any = None) -> Any:
        return type(self)(self.process if process is None else process, grid, order=self.order)

    @property
    def _backward_matrix(self) -> sp.csr_matrix:
        return self.operators.backward

    @functools.cached_property
    def _volumes(self) -> Array:  # type: ignore[override]
        return self.operators.volumes

    @property
    def _conserved(self) -> bool:
        return not any("absorbing" in sides for sides in self.grid.boundary)

    @functools.cached_property
    def _null(self) -> tuple[Array, dict[str, float], Complex]:
        return _pencil.null_vector(self.operators.forward, self.grid.shape)

    @functools.cached_property
    def _stationary_mass(self) -> Array:  # type: ignore[override]
        return self._null[0]

    def _values(self, mass: Array) -> Array:
        return np.asarray(mass.reshape(self.grid.shape) / self._volumes)

    def _verdict(self) -> str:
        """What scheme="auto" measures: "high-order: ..." where it will do, else why it will not."""
        if self._conserved:
            mass, info, _ = self._null
            rounding, what = info["moved by rounding"], "the stationary density"
        else:
            mass, rate = _pencil.slowest(self.operators.forward, self.grid.shape)
            rounding, what = _pencil.ROUNDING * _pencil.largest_rate(self.operators.forward) / rate, "the slowest density"
        negative = float(-np.minimum(mass, 0.0).sum() / np.abs(mass).sum())
        measured = (self._roughness(mass), negative, rounding)
        names = (
            f"{what} varies by {{:.2g}} of its size from cell to cell",
            "its negative part is {:.2g}",
            "rounding moves {:.2g} of it",
        )
        words = [f"{name.format(value)} (limit {limit:g})" for name, value, limit in zip(names, measured, _ACCEPTED, strict=True)]
        failed = [w for w, value, limit in zip(words, measured, _ACCEPTED, strict=True) if not value <= limit]
        return "; ".join(failed) if failed else "high-order: " + "; ".join(words)

    def _notes_of(self, mass: Array) -> list[str]:
        """Warnings of a density: walls, cells too coarse, negative parts, damping."""
        total = float(np.abs(mass).sum())
        notes = mass_notes(self, mass) if mass.sum() > 0.0 else self._unresolved(mass)
        negative = float(-np.minimum(mass, 0.0).sum())
        if negative > _NEGATIVE * total:
            notes.append(f"a mass of -{negative:.2g} in {int(np.count_nonzero(mass < 0.0))} cells is negative: the cells do not "
                         "resolve the density; use more cells or scheme='monotone'")  # fmt: skip
        damped = float(np.abs(mass.ravel())[self.operators.damping > 0.0].sum())
        if damped > _DAMPED * total:
            notes.append(f"cells next to walls that hold {damped / total:.2g} of the mass are too coarse for the noise: upwind "
                         "diffusion of first order was added there (see added_diffusion); use more cells")  # fmt: skip
        return notes

    def _roughness(self, mass: Array) -> float:
        """Size of the differences of the order of the scheme between neighbouring cells, over 2^order, relative to the mass."""
        cells, out = mass.reshape(self.grid.shape), 0.0
        if not 0.0 < float(np.abs(cells).sum()) < math.inf:
            return 0.0
        # of a density that lives on a block of cells
        block = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(cells))
        if min(s.stop - s.start for s in block) < least_cells(self.order):
            return math.inf
        sides = tuple(pair if s == slice(0, n) else ("absorbing", "absorbing")
                      for s, n, pair in zip(block, self.grid.shape, self.grid.boundary, strict=True))  # fmt: skip
        density = cells[block] / Operators(self.process, self.grid, self.order, block, sides).volumes
        for axis, pair in enumerate(sides):
            if pair[0] == "periodic":
                first = np.take(density, range(self.order), axis)
                line = np.diff(np.concatenate([density, first], axis), self.order, axis=axis)
            else:
                line = np.diff(density, self.order, axis=axis)
            out = max(out, float(np.abs(line).sum() / np.abs(density).sum()) / 2.0**self.order)
        return out

    def _unresolved(self, mass: Array) -> list[str]:
        """Why the cells do not resolve a density: its size on the scale of a cell."""
        rough = self._roughness(mass)
        if not rough > _ROUGHNESS:
            return []
        return [f"the density varies by {rough:.2g} of its size from cell to cell, more than a scheme of order {self.order} "
                f"resolves (below {_ROUGHNESS:g}); use more cells"]  # fmt: skip

    @functools.cached_property
    def _coarse_note(self) -> list[str]:  # type: ignore[override]
        if not self._conserved:
            return []
        try:
            return self._unresolved(self._stationary_mass)
        except FpsolveError as error:
            return [str(error)]

    # ---- forward ----------------------------------------------------------------------------------------------------------

    def stationary(self) -> Density:
        """The stationary density, of mass one; negative parts, where cells do not resolve it, are reported.

        Returns
        -------
        Density
            Point values; `solver_info` holds the residual and what rounding may have moved between basins.

        Raises
        ------
        ValueError
            If a side is absorbing.
        FpsolveError
            If a barrier is so high that rounding decides on the shares of the basins.
        """
        if not self._conserved:
            raise ValueError("with absorbing sides all mass is lost in the end and there is no stationary density; "
                             "make the sides reflecting, or ask evolve for the density at a time")  # fmt: skip
        mass, info, values = self._null
        notes = [*self.warnings, *self._notes_of(mass)]
        if info["moved by rounding"] > _ROUGH:
            slow = 1.0 / float(np.sort(np.abs(values))[1])
            notes.append(f"several basins: their shares are established only after the time {slow:.3g}, and rounding may have "
                         f"moved {info['moved by rounding']:.1g} of the mass; scheme='monotone' keeps every digit")  # fmt: skip
        return Density(self._values(mass), self.grid, method=self.method, warnings=tuple(notes), weights=self._volumes,
                       solver_info={"cells": self.grid.size, **info})  # fmt: skip

    def evolve(
        self, rho0: Any, t: float | Sequence[float], rtol: float = 1e-6, method: str | None = None
    ) -> Density | DensitySeries:
        """As in the monotone scheme; method="positive" is refused, what is negative is reported."""
        if method is not None:
            raise ValueError(f"the high-order scheme has the default method only, got {method!r}: it is not positive; use "
                             "scheme='monotone' with method='positive'")  # fmt: skip
        times = _times(t)
        if not (isinstance(rtol, (int, float)) and 1e-11 <= rtol < 1.0):
            raise ValueError(f"rtol must lie in [1e-11, 1), got {rtol!r}")
        values, start_notes = initial_density(rho0, self.grid)
        mass0 = (values * self._volumes).ravel()
        if callable(rho0) or isinstance(rho0, tuple):
            mass0 = mass0 / mass0.sum()
        masses, info = self._advanced(self.operators.forward, mass0, times, rtol, self._conserved)
        notes = (*self.warnings, *start_notes, *self._notes_of(masses[-1]))
        info["negative"] = float(max(-np.minimum(m, 0.0).sum() for m in masses) / np.abs(mass0).sum())
        label = f"{self.method}, evolve, rtol {rtol:g}"
        values = np.stack([self._values(m) for m in masses])
        series = DensitySeries(times, values, self.grid, label, notes, info, weights=self._volumes)
        return series if np.ndim(t) else series[0]

    def _advanced(
        self, matrix: sp.csr_matrix, start: Array, times: Sequence[float] | Array, rtol: float, conserved: bool
    ) -> tuple[Array, dict[str, Any]]:
        try:
            return _pencil.evolve(matrix, start, times, rtol, self.grid.shape, conserved)
        except FpsolveError as error:
            raise FpsolveError(f"{error}; where the cells do not resolve the noise the high-order scheme has growing modes: use "
                               "more cells, or scheme='monotone'") from error  # fmt: skip

    def current(self, rho: Density | None = None) -> Current:
        """The probability current J = b p - div(D p) of a density at the centres, of the order of the scheme."""
        density = self._density(rho)
        values, outflow = self.operators.current(density.values)
        return Current(values.reshape(*self.grid.shape, self.grid.dim), self.grid, outflow.reshape(self.grid.shape),
                       time=density.time, method=self.method, warnings=density.warnings)  # fmt: skip

    def entropy_production(self, rho: Density | None = None) -> Estimate:
        """The integral of J . D^-1 J / p, over the cells whose density is above 1e-10 of the largest: below, rounding rules J."""
        density = self._density(rho)
        start = None if rho is None else rho

        def rate(fp: Any) -> float:
            p = density if fp is self else fp.stationary() if start is None else fp.evolve(start.at, 0.0)
            current, _ = fp.operators.current(p.values)
            seen = p.values.ravel() > _FAINT * p.values.max()
            return entropy_rate(fp.operators.fields[1][seen], current[seen], p.values.ravel()[seen], fp.operators.weights[seen])

        return self._two_grids(rate, "1/time", "entropy production", coarse=unresolved(self, density.cell_mass))  # type: ignore[no-any-return]

    def detailed_balance(self) -> Estimate:
        """How far the process is from detailed balance, as in the monotone scheme, without a chain to test."""
        values = [self._imbalance(fraction) for fraction in (0.25, 0.125)]
        return Estimate(values[1], discretization_error=abs(values[0] - values[1]),
                        method=f"{self.method}, curl of D^-1 (b - div D)")  # fmt: skip

    # ---- spectrum and observables -----------------------------------------------------------------------------------------

    def _slow_modes(self, wanted: int) -> tuple[Array | None, Any]:
        """Stationary masses, and eigenvalues, right and left vectors and circle of the slowest modes beside them."""
        pi, count, n = None, max(wanted, 2), self.grid.size
        ones = np.ones(n)
        if self._conserved:
            pi = self._stationary_mass
        extra = max(1, min(2 * count + 4, n - 2))
        shape, forward, backward = self.grid.shape, self.operators.forward, self.operators.backward
        values, left, circle = _pencil.slow_modes(forward, None if pi is None else (pi, ones), extra, shape)
        other, right, _ = _pencil.slow_modes(backward, None if pi is None else (ones, pi), extra, shape)
        keep = min(count, values.size)
        if keep < values.size and _unpaired(values[:keep]):
            keep += 1
        values, left = values[:keep], left[:, :keep]
        right = right[:, _match(values, other)]
        return pi, (values, right, np.asarray(np.linalg.solve((left.T @ right).T, left.T).T, np.complex128), circle)

    def backward(self, f: Any, t: float, *, rtol: float = 1e-8) -> Field:
        """Expectation u(x) = E_x[f(X_t)] as a function of the start, as in the monotone scheme."""
        if isinstance(t, bool) or not isinstance(t, (int, float, np.number)) or not (math.isfinite(t) and t >= 0.0):
            raise ValueError(f"t must be a finite time >= 0, got {t!r}")
        if not 1e-11 <= rtol < 1.0:
            raise ValueError(f"rtol must lie in [1e-11, 1), got {rtol!r}")
        start = _Observable(f, self.grid).on(self.grid).ravel()
        values, info = self._advanced(self.operators.backward, start, [float(t)], rtol, False)
        return Field(values[0].reshape(self.grid.shape), self.grid, name=f"expectation after t = {float(t):g}",
                     warnings=self.warnings, method=f"{self.method}, backward, rtol {rtol:g}", solver_info=info)  # fmt: skip

    # ---- exits ------------------------------------------------------------------------------------------------------------

    def _cells(self, region: Region) -> tuple[Mask, Block, Operators]:
        """Cells inside, the block they are, and its matrices."""
        if not isinstance(region, Region):
            raise TypeError(f"region must be a Region, got {type(region).__name__}: {region!r}")
        inside = region.mask(self.grid)
        return inside, *self._block(region, inside)

    def _block(self, region: Any, inside: Mask) -> tuple[Block, Operators]:
        block = block_of(self.grid, region, inside)
        least = least_cells(self.order)
        if min(s.stop - s.start for s in block[0]) < least:
            raise ValueError(f"{region!r} has {tuple(s.stop - s.start for s in block[0])} cells on {self.grid!r}; order "
                             f"{self.order} needs at least {least} along every axis")  # fmt: skip
        return block, Operators(self.process, self.grid, self.order, *block)

    def _moments(self, region: Region, order: int) -> tuple[Mask, list[Array]]:
        """E_x[T^n], n = 1 ... order, on the grid, zero outside."""
        inside, block, operators = self._cells(region)
        solver = _pencil.factorised(operators.backward, operators.shape)
        out: list[Array] = []
        last = np.ones(int(np.prod(operators.shape)))
        scale = _pencil.largest_rate(operators.backward)
        for n in range(1, order + 1):
            last = -n * solver.solve(last)
            lost = _pencil.ROUNDING * scale * float(np.abs(last).max() / (n * (np.abs(out[-1]).max() if out else 1.0)))
            if not lost < _LOST:
                raise FpsolveError(f"the exit time from {region!r} is lost in rounding (rates of {scale:.3g} against times of "
                                   f"{np.abs(last).max():.3g}); scheme='monotone' keeps every digit at any barrier")  # fmt: skip
            values = np.zeros(self.grid.shape)
            values[block[0]] = last.reshape(operators.shape)
            out.append(values)
        return inside, out

    def _exit_field(self, values: Array, inside: Mask, region: Any, name: str, unit: str) -> Field:
        notes = list(self.warnings)
        wrong = int(np.count_nonzero(values[inside] < 0.0))
        if wrong:
            notes.append(f"the {name} is negative in {wrong} cells: the cells do not resolve the noise; use more cells or "
                         "scheme='monotone'")  # fmt: skip
        return Field(values, self.grid, name=name, unit=unit, warnings=tuple(notes), mask=inside,
                     method=f"{self.method}, exit from {region!r}")  # fmt: skip

    def mean_exit_time(self, region: Region, at: ArrayLike | None = None) -> Any:
        """As in the monotone scheme, for regions that end on faces of the cells; an Estimate has its error from two grids."""
        if at is None:
            inside, (tau,) = self._moments(region, 1)
            return self._exit_field(tau, inside, region, "mean exit time", "time")
        x0 = _point_inside(region, at, self.grid)
        return self._two_grids(lambda fp: fp._at(fp._moments(region, 1), x0)[0], "time", f"exit from {region!r}",
                               coarse=self._coarse_way(region))  # fmt: skip

    def exit_time_moments(self, region: Region, order: int = 2) -> tuple[Field, ...]:
        """As in the monotone scheme, for regions that end on faces of the cells."""
        if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or not 1 <= order <= 20:
            raise ValueError(f"order must be an integer from 1 to 20, got {order!r}")
        inside, moments = self._moments(region, int(order))
        return tuple(self._exit_field(v, inside, region, f"moment {n + 1} of the exit time", "time" + (f"^{n + 1}" if n else ""))
                     for n, v in enumerate(moments))  # fmt: skip

    def exit_time_variance(self, region: Region, at: ArrayLike | None = None) -> Any:
        """As in the monotone scheme, for regions that end on faces of the cells."""
        if at is None:
            inside, (first, second) = self._moments(region, 2)
            return self._exit_field(second - first**2, inside, region, "variance of the exit time", "time^2")
        x0 = _point_inside(region, at, self.grid)

        def variance(fp: Any) -> float:
            first, second = fp._at(fp._moments(region, 2), x0)
            return float(second - first**2)

        return self._two_grids(variance, "time^2", f"variance of the exit time from {region!r}", coarse=self._coarse_way(region))

    def _coarse_way(self, region: Region) -> list[str]:
        """Why the cells of a region do not resolve the noise, weighted by its quasi-stationary density."""
        try:
            return unresolved(self, self._slowest(region)[1])
        except FpsolveError as error:
            return [str(error)]

    def _at(self, answer: tuple[Mask, list[Array]], x0: Array) -> tuple[float, ...]:
        """Interpolated values at a point inside, by polynomials of the order of the scheme."""
        block = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(answer[0]))
        return tuple(lagrange(self.grid, values, block, x0, self.order) for values in answer[1])

    def _slowest(self, region: Region) -> tuple[Mask, Array, float]:
        inside, block, operators = self._cells(region)
        nu, rate = _pencil.slowest(operators.forward, operators.shape)
        mass = np.zeros(self.grid.shape)
        mass[block[0]] = nu.reshape(operators.shape)
        return inside, mass.ravel(), math.log(rate)

    def quasi_stationary(self, region: Region) -> Density:
        """As in the monotone scheme, for regions that end on faces of the cells."""
        _, block, operators = self._cells(region)
        inside, mass, log_rate = self._slowest(region)
        weights = np.array(self.grid.cell_volumes)
        weights[block[0]] = operators.volumes
        info = {"escape rate": math.exp(log_rate), "log escape rate": log_rate, "cells inside": int(inside.sum())}
        return Density(mass.reshape(self.grid.shape) / weights, self.grid, method=f"{self.method}, quasi-stationary in {region!r}",
                       warnings=(*self.warnings, *self._notes_of(mass)), solver_info=info, weights=weights)  # fmt: skip

    def committor(self, a: Region, b: Region) -> Field:
        """As in the monotone scheme, between regions that end on faces of the cells or on sides of the box."""
        for name, region in (("a", a), ("b", b)):
            if not isinstance(region, Region):
                raise TypeError(f"{name} must be a Region, got {type(region).__name__}: {region!r}")
        between: Any = Between(a, b)
        _, in_b, inside = between.masks(self.grid)
        block, operators = self._block(between, inside)
        data = tuple((self._reached(a, b, block, k, 0), self._reached(a, b, block, k, 1)) for k in range(self.grid.dim))
        values = np.where(in_b, 1.0, 0.0)
        solver = _pencil.factorised(operators.backward, operators.shape)
        values[block[0]] = -solver.solve(operators.lifted(data)).reshape(operators.shape)
        notes, part = list(self.warnings), values[block[0]]
        low, high = float(part.min()), float(part.max())
        if low < -_ROUGH or high > 1.0 + _ROUGH:
            notes.append(f"the committor leaves [0, 1] ({low:.2g} to {high:.6g}): the cells do not resolve the noise, or both "
                         "regions meet in a corner; use more cells or scheme='monotone'")  # fmt: skip
        return Field(
            values, self.grid, name="committor", warnings=tuple(notes), method=f"{self.method}, from {a!r} to {b!r}", mask=inside
        )

    def _reached(self, a: Region, b: Region, block: Block, axis: int, side: int) -> float:
        """The committor on one side of the block: 1 where b is, else 0."""
        if block[1][axis][side] != "absorbing":
            return 0.0
        size = np.abs(side_values(b.g, self.grid, block[0], axis, side)).max()
        on_b = np.abs(face_values(b.g, self.grid, block[0], axis, side)) <= 1e-8 * size
        if on_b.any() and not on_b.all():
            raise ValueError(f"{b!r} begins on a part of a side of the cells between it and {a!r} only: the high-order scheme "
                             "needs whole sides; use scheme='monotone'")  # fmt: skip
        return 1.0 if on_b.all() else 0.0

    # ---- what it has no answer to -----------------------------------------------------------------------------------------

    def exit_time_distribution(self, *args: Any, **options: Any) -> Any:
        """Refused: a path that starts at a point is no smooth density."""
        raise _no_answer("exit_time_distribution")

    def reactive_rate(self, *args: Any, **options: Any) -> Any:
        """Refused."""
        raise _no_answer("reactive_rate")

    def reactive_current(self, *args: Any, **options: Any) -> Any:
        """Refused."""
        raise _no_answer("reactive_current")


def _no_answer(name: str) -> ValueError:
    return ValueError(f"{name} needs the rates of a Markov chain, which the high-order scheme is not; use scheme='monotone'")


def check_order(order: Any, grid: Grid) -> int:
    """Order four or six, six by default, and enough cells for it."""
    order = 6 if order is None else order
    if isinstance(order, bool) or order not in (4, 6):
        raise ValueError(f"order must be 4 or 6, got {order!r}")
    least = least_cells(int(order))
    if min(grid.shape) < least:
        raise ValueError(f"the high-order scheme of order {order} needs at least {least} cells along every axis, got {grid.shape}; "
                         "use more cells, order=4 or scheme='monotone'")  # fmt: skip
    return int(order)


def _times(t: Any) -> Array:
    times = np.atleast_1d(np.asarray(t, float))
    if times.ndim != 1 or times.size == 0 or not np.all(np.isfinite(times)) or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ValueError(f"t must be a time >= 0 or an increasing sequence of times >= 0, got {t!r}")
    return times


def _point_inside(region: Region, at: ArrayLike, grid: Grid) -> Array:
    x0 = np.atleast_1d(np.asarray(at, float))
    grid.index(x0)  # refuses a wrong shape and points outside the box
    if not region.contains(x0):
        raise ValueError(f"the start {x0.tolist()} is not inside {region!r}; its exit time is zero")
    return x0


def made(process: Any, grid: Grid, scheme: str, options: dict[str, Any]) -> FokkerPlanck:
    """A bare object of the class that `scheme` means, or the one that "auto" has tried; its __init__ follows."""
    if scheme == "high-order":
        out: FokkerPlanck = object.__new__(HighOrder)
        return out
    tried, reason = None, ""
    try:
        tried = HighOrder(process, grid, order=options.get("order"))
        reason = tried._verdict()
    except (FpsolveError, ValueError) as error:
        if tried is None and grid.size and min(grid.shape) >= least_cells(options.get("order") or 6):
            raise
        reason = f"high-order cannot: {error}"
    if tried is not None and reason.startswith("high-order:"):
        tried.choice = f"chosen by 'auto': {reason}"
        return tried
    other: FokkerPlanck = object.__new__(FokkerPlanck)
    other.choice = f"chosen by 'auto': monotone, since {reason}"
    return other
