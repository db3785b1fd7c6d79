"""Exits and transitions of the high-order scheme: regions are blocks of cells with absorbing sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _pencil
from ._aligned import Block, block_of, face_values, lagrange, side_values
from ._committor import Between
from ._exits import start_inside
from ._notes import unresolved
from ._operators import Operators, least_cells
from ._phase_space import PhaseSpace
from ._start import initial_density
from .errors import FpsolveError
from .fokker_planck import FokkerPlanck
from .region import Region
from .results import Density, ExitTimeDistribution, Field

__all__ = ["HighExits", "check_times"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Distance from [0, 1] from which a committor gets a warning, and relative rounding from which there is no answer.
_ROUGH, _LOST = 1e-6, 1e-3


class HighExits(FokkerPlanck):
    """Questions about leaving regions; a part of the high-order scheme."""

    operators: Operators

    if TYPE_CHECKING:

        def _notes_of(self, mass: Array) -> list[str]: ...

    def _cells(self, region: Region) -> tuple[Mask, Block, Operators]:
        """Cells inside, the block they are, and its matrices."""
        _needs_noise(self.process, "exits")
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
        x0 = start_inside(self._region(region), at, self.grid)
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
        x0 = start_inside(self._region(region), at, self.grid)

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
        _needs_noise(self.process, "committors")
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

    def exit_time_distribution(
        self, region: Region, start: Any, t: Sequence[float] | Array, *, rtol: float = 1e-8
    ) -> ExitTimeDistribution:
        """As in the monotone scheme, from a density: a path that starts at a point is none that cells resolve."""
        times = check_times(t)
        _needs_noise(self.process, "exits")
        given = callable(start) or isinstance(start, (tuple, Density))
        if not given and np.shape(start) == (self.grid.dim,) and self.grid.shape != (self.grid.dim,):
            raise ValueError(f"the high-order scheme needs a smooth start, got the point {np.asarray(start).tolist()}; give a "
                             "density some cells wide, e.g. ('gaussian', mean, cov), or use scheme='monotone'")  # fmt: skip
        _, block, operators = self._cells(region)
        values, notes = initial_density(start, self.grid)
        total = float((values * self._volumes).sum()) if callable(start) or isinstance(start, tuple) else 1.0
        first = (values[block[0]] * operators.volumes).ravel() / total
        if not first.sum() > 0.0:
            raise ValueError(f"no mass starts inside {region!r}: the exit time is zero")
        masses, info = _pencil.evolve(operators.forward, first, times, rtol, operators.shape, False)
        flow = -np.asarray(operators.forward.sum(axis=0)).ravel()
        return ExitTimeDistribution(times, masses.sum(axis=1), masses @ flow, np.asarray(info["error"]) * np.abs(first).sum(),
                                    start=f"a density of mass {first.sum():.6g} inside", warnings=(*self.warnings, *notes),
                                    method=f"{self.method}, exit from {region!r}")  # fmt: skip

    # ---- what it has no answer to -----------------------------------------------------------------------------------------

    def reactive_rate(self, *args: Any, **options: Any) -> Any:
        """Refused."""
        raise _no_answer("reactive_rate")

    def reactive_current(self, *args: Any, **options: Any) -> Any:
        """Refused."""
        raise _no_answer("reactive_current")


def _no_answer(name: str) -> ValueError:
    return ValueError(f"{name} needs the rates of a Markov chain, which the high-order scheme is not; use scheme='monotone'")


def check_times(t: Any) -> Array:
    """Times >= 0 in increasing order, as an array."""
    times = np.atleast_1d(np.asarray(t, float))
    if times.ndim != 1 or times.size == 0 or not np.all(np.isfinite(times)) or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ValueError(f"t must be a time >= 0 or an increasing sequence of times >= 0, got {t!r}")
    return times


def _needs_noise(process: Any, what: str) -> None:
    """In phase space a surface is crossed outwards by some velocities only; here it absorbs them all."""
    if isinstance(process, PhaseSpace):
        raise ValueError(f"{what} in phase space: without noise along the positions the density is zero on a surface only "
                         "for velocities that point inwards, which this scheme does not know; use scheme='monotone'")  # fmt: skip
