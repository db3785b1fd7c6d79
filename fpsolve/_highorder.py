"""The Fokker-Planck equation by central schemes of order four or six: conservative, not monotone (see `_operators`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import _pencil
from ._checks import check_memory
from ._flows import entropy_rate
from ._highexits import HighExits, check_times
from ._notes import mass_notes, unresolved
from ._operators import Operators, least_cells
from ._phase_space import PhaseSpace, phase_space
from ._spectral import _match, _Observable, _unpaired
from ._start import initial_density
from .errors import FpsolveError
from .fokker_planck import FokkerPlanck
from .grid import Grid
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
#: The first two where the monotone density is found to be worse: farther away than so many times the error that they mean.
_STRETCHED, _WORSE = (5e-2, 1e-3), 1.5
#: L1 error of a density that is not quite resolved, in units of the two numbers, at most (random linear processes).
_MEANT = (2.0, 50.0)
#: Mass in cells next to walls whose drift is damped that is worth a warning.
_DAMPED = 1e-6
#: Share of the largest density below which rounding makes the entropy of a current meaningless.
_FAINT = 1e-10
#: Share of the range of an observable by which its expectation may leave that range without a warning.
_OVERSHOOT = 1e-3
#: Share of the mass moved by rounding from which a density gets a warning.
_ROUGH = 1e-6


class HighOrder(HighExits):
    """`FokkerPlanck` with scheme="high-order"; made by that class, which documents it.

    Sixth order in the cell width (fourth with order=4) where the cells resolve the solution, walls included; see `_operators` and
    `_stencils` for the equations.

    Attributes
    ----------
    operators : Operators
        The matrices: `operators.forward` of the masses, `operators.backward` of observables.

    Examples
    --------
    >>> from fpsolve import FokkerPlanck, Noise, Potential, Process
    >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
    >>> fp = FokkerPlanck(process, Grid((-7, 7, 80)), "high-order")
    >>> p = fp.stationary()
    >>> bool(np.abs(p.values - np.exp(-(fp.grid.centers[0] ** 2) / 2) / np.sqrt(2 * np.pi)).max() < 1e-6), p.warnings
    (True, ())
    """

    def __init__(
        self, process: Any, grid: Grid, scheme: str = "high-order", *, max_offset: int = 16, order: int | None = None,
    ) -> None:  # fmt: skip
        if "operators" in self.__dict__:  # made, and tried, by scheme="auto"
            return
        self.process, self.grid, self.scheme, self.max_offset = phase_space(process), grid, "high-order", int(max_offset)
        if isinstance(self.process, PhaseSpace) and "absorbing" in grid.boundary[0]:
            raise ValueError("an absorbing side of positions is crossed outwards by some velocities only, which 'high-order' "
                             "does not know; use scheme='monotone'")  # fmt: skip
        if isinstance(self.process, PhaseSpace) and "periodic" in grid.boundary[1]:
            raise ValueError("velocities cannot be periodic; make the sides of the second axis reflecting, at some six thermal "
                             "velocities")  # fmt: skip
        self.order = check_order(order, grid)
        # at least the matrix, and the front of the widest separator
        front = (self.order // 2 * grid.size // max(grid.shape)) ** 2
        check_memory(max(2 * grid.size * (grid.dim * self.order + 1), front),
                     f"the factors of the high-order scheme on {' x '.join(map(str, grid.shape))} cells",
                     "use fewer cells or scheme='monotone'")  # fmt: skip
        self.operators = Operators(self.process, grid, self.order, tuple(slice(0, n) for n in grid.shape), grid.boundary)
        self.exponent = self.operators.exponent.reshape(grid.shape)
        self.added_diffusion = self.operators.damping.reshape(grid.shape)
        self.warnings = ()

    @functools.cached_property
    def generator(self) -> sp.csr_matrix:
        """Matrix Q in the convention of the generator, dm/dt = Q^T m: its rows sum to -kill, but its entries have both signs."""
        return self.operators.forward.T.tocsr()

    @functools.cached_property
    def kill(self) -> Array:  # type: ignore[override]  # set once there, found when asked for here
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
    def _volumes(self) -> Array:
        return self.operators.volumes

    @property
    def _conserved(self) -> bool:
        return not any("absorbing" in sides for sides in self.grid.boundary)

    @functools.cached_property
    def _null(self) -> tuple[Array, dict[str, float], Complex]:
        return _pencil.null_vector(self.operators.forward, self.grid.shape)

    @functools.cached_property
    def _stationary_mass(self) -> Array:
        return self._null[0]

    def _values(self, mass: Array) -> Array:
        return np.asarray(mass.reshape(self.grid.shape) / self._volumes)

    def _measured(self) -> tuple[Array, tuple[float, float, float], list[str]]:
        """The density that scheme="auto" looks at, its roughness, negative part and what rounding moves, and these in words."""
        if self._conserved:
            mass, info, _ = self._null
            rounding, what = info["moved by rounding"], "the stationary density"
        else:
            mass, rate = _pencil.slowest(self.operators.forward, self.grid.shape)
            rounding, what = _pencil.ROUNDING * _pencil.largest_rate(self.operators.forward) / rate, "the slowest density"
        negative = float(-np.minimum(mass, 0.0).sum() / np.abs(mass).sum())
        names = (
            f"{what} varies by {{:.2g}} of its size from cell to cell",
            "its negative part is {:.2g}",
            "rounding moves {:.2g} of it",
        )
        measured = (self._roughness(mass), negative, rounding)
        words = [f"{name.format(value)} (limit {limit:g})" for name, value, limit in zip(names, measured, _ACCEPTED, strict=True)]
        return mass, measured, words

    def _verdict(self) -> tuple[FokkerPlanck | None, str]:
        """What scheme="auto" finds: itself or the monotone solver (None where that was not looked at), and why.

        Where the density is not resolved to the limits, neither may be that of the monotone scheme: then the two are compared. The
        error of this one follows from its roughness and negative part; if the other lies farther away than that, the
        other is wrong.
        """
        mass, measured, words = self._measured()
        failed = [w for w, value, limit in zip(words, measured, _ACCEPTED, strict=True) if not value <= limit]
        if not failed:
            return self, "; ".join(words)
        why = "; ".join(failed)
        if (
            not self._conserved
            or not measured[2] <= _ACCEPTED[2]
            or not all(v <= limit for v, limit in zip(measured, _STRETCHED, strict=False))
        ):
            return None, why
        own = _MEANT[0] * measured[0] + _MEANT[1] * measured[1]
        other = FokkerPlanck(self.process, self.grid, max_offset=self.max_offset)
        try:
            density = other.stationary().values
        except ValueError:
            return None, why
        apart = float(np.abs(mass - density.ravel() * self._volumes.ravel()).sum())
        if apart > _WORSE * own:
            return self, (f"the monotone density is {apart:.2g} of the mass away from its own, whose error is some {own:.2g} at "
                          f"most, though {why}")  # fmt: skip
        return other, f"{why}; the two densities differ by {apart:.2g} of the mass"

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
    def _coarse_note(self) -> list[str]:
        if not self._conserved:
            return []
        try:
            return self._unresolved(self._stationary_mass)
        except FpsolveError as error:
            return [str(error)]

    # ---- forward ----------------------------------------------------------------------------------------------------------

    def stationary(self, *, progress: bool = False) -> Density:
        """The stationary density, of mass one; negative parts, where cells do not resolve it, are reported.

        Parameters
        ----------
        progress : bool
            Of no effect: one factorisation, compiled, has no steps to count.

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

    def evolve(self, rho0: Any, t: Any, rtol: float = 1e-6, method: str | None = None) -> Any:
        """As in the monotone scheme; method="positive" is refused, what is negative is reported."""
        if method is not None:
            raise ValueError(f"the high-order scheme has the default method only, got {method!r}: it is not positive; use "
                             "scheme='monotone' with method='positive'")  # fmt: skip
        times = check_times(t)
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
        if isinstance(self.process, PhaseSpace):
            raise ValueError("entropy production in phase space is that of the irreversible current; use scheme='monotone'")
        density = self._density(rho)
        start = None if rho is None else rho

        def rate(fp: Any) -> float:
            p = density if fp is self else fp.stationary() if start is None else fp.evolve(start.at, 0.0)
            current, _ = fp.operators.current(p.values)
            seen = p.values.ravel() > _FAINT * p.values.max()
            return entropy_rate(fp.operators.fields[1][seen], current[seen], p.values.ravel()[seen], fp.operators.weights[seen])

        return self._two_grids(rate, "1/time", "entropy production", coarse=unresolved(self, density.cell_mass))  # type: ignore[no-any-return]

    def detailed_balance(self) -> Estimate:
        """How far the process is from detailed balance, as in the monotone scheme, without a chain to test; not in phase space."""
        if isinstance(self.process, PhaseSpace):
            raise ValueError("detailed balance in phase space, with the parity of the velocity, is tested on the rates of a "
                             "chain; use scheme='monotone'")  # fmt: skip
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
        ends = (start.min(), start.max()) if self._conserved else (min(start.min(), 0.0), max(start.max(), 0.0))
        beyond, notes = float(max(ends[0] - values[0].min(), values[0].max() - ends[1])), list(self.warnings)
        if beyond > _OVERSHOOT * (ends[1] - ends[0]):
            notes.append(f"the expectation leaves the range of f by {beyond:.2g}: the cells do not resolve the noise; use more "
                         "cells or scheme='monotone'")  # fmt: skip
        return Field(values[0].reshape(self.grid.shape), self.grid, name=f"expectation after t = {float(t):g}",
                     warnings=tuple(notes), method=f"{self.method}, backward, rtol {rtol:g}", solver_info=info)  # fmt: skip


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


def made(process: Any, grid: Grid, scheme: str, options: dict[str, Any]) -> FokkerPlanck:
    """A bare object of the class that `scheme` means, or the one that "auto" has tried; its __init__ follows."""
    if scheme == "high-order":
        out: FokkerPlanck = object.__new__(HighOrder)
        return out
    tried, chosen, reason = None, None, ""
    try:
        tried = HighOrder(process, grid, max_offset=options.get("max_offset", 16), order=options.get("order"))
        chosen, reason = tried._verdict()
    except (FpsolveError, ValueError) as error:
        if tried is None and grid.size and min(grid.shape) >= least_cells(options.get("order") or 6):
            raise
        reason = f"high-order cannot: {error}"
    if chosen is None:
        chosen = object.__new__(FokkerPlanck)
    chosen.choice = f"chosen by 'auto': {'high-order: ' if chosen is tried else 'monotone, since '}{reason}"
    return chosen
