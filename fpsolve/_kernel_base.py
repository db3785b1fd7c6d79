"""What every question needs of the transition kernel: the chain on a region, warnings, densities, a second grid."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ._components import component
from ._landing import Jumps, Level, System, build
from .chains import SGDChain
from .errors import FpsolveError
from .grid import Grid
from .region import Region
from .results import Assumption, Density, Estimate

__all__ = ["MAX_NODES", "KernelSolver", "level_of"]

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]

#: Nodes beyond which the full matrix is refused.
MAX_NODES = 4800
#: Mass on nodes with another tenth of D that earns a warning; mass folded back per iteration; mean error of the row sums.
_ADDED, _ADDED_MASS, _FOLDED, _ROW_ERROR = 0.1, 1e-3, 1e-4, 1e-3
#: The second grid, from which errors are found, has this share of the cells per axis.
_COARSER = 0.75
#: How well the logarithm of a time or rate must be known.
_KNOWN = 0.25
_LARGEST = 709.7


def level_of(region: Region) -> Level:
    """g of a region as a function of points (..., d); +1 where it is NaN (off the grid only)."""

    def level(points: Array) -> Array:
        with np.errstate(all="ignore"):
            g = region.code.evaluate(points, region.params)[..., 0]
        return np.where(np.isnan(g), 1.0, g)

    return level


class KernelSolver:
    """Systems, estimates and warnings; `TransitionKernel` inherits from this."""

    chain: SGDChain
    grid: Grid
    nodes: int
    method: str
    _jumps: Jumps
    _last: tuple[Any, System] | None

    def _system(self, region: Region | None) -> System:
        """The chain on the region (or the grid), killed elsewhere; the last one is kept."""
        if self._last is None or self._last[0] is not region:
            g = None if region is None else level_of(self._inner(region))
            self._last = region, build(self._jumps, self.nodes, g, None, MAX_NODES)
        return self._last[1]

    def _inner(self, region: Region) -> Region:
        """The region without the components that do not hold its point; ValueError if it has no cell centre on the grid."""
        if not isinstance(region, Region):
            raise TypeError(f"region must be a Region, got {type(region).__name__}: {region!r}")
        if region.dim != self.grid.dim:
            raise ValueError(f"{region!r} is {region.dim}-D, the grid is {self.grid.dim}-D; give one entry per coordinate")
        region.g(self.grid.points())  # refuses NaN on the grid
        lo, hi = np.array([e[0] for e in self.grid.edges]), np.array([e[-1] for e in self.grid.edges])
        inner = component(region, 2 * lo - hi, 2 * hi - lo) if region.containing is not None else region
        if not inner.contains(self.grid.points()).any():
            raise ValueError(f"{region!r} contains no cell centre of {self.grid!r}; use more cells or move the box")
        return inner

    def _left(self, region: Region) -> System:
        system = self._system(region)
        if not system.ends:
            raise ValueError(
                f"nothing can leave {region!r} on {self.grid!r}: every jump out of it is folded back or wrapped; make the "
                "box reach beyond the region's surface, or a side absorbing"
            )
        return system

    def _on(self, grid: Grid) -> Any:
        make: Any = type(self)
        return make(self.chain, grid, nodes=self.nodes)

    def refine(self) -> Self:
        """The same kernel on twice as many cells per axis."""
        finer: Self = self._on(self.grid._resized(tuple(2 * n for n in self.grid.shape)))
        return finer

    def _coarser(self) -> Any:
        return self._on(self.grid._resized(tuple(max(2, int(_COARSER * n)) for n in self.grid.shape)))

    def estimate(self, question: Callable[[Any], Any], *, unit: str = "") -> Estimate:
        """A scalar question with its discretisation error: the whole change from a grid with three quarters of the cells per axis.

        Parameters
        ----------
        question : callable
            Takes a TransitionKernel and returns a number or an Estimate.
        unit : str
            Of a plain number.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, SGDChain, TransitionKernel
        >>> chain = SGDChain.gaussian(Potential.from_expression("x**2/2"), Noise.isotropic(0.5), lr=0.5)
        >>> variance = TransitionKernel(chain, Grid((-6, 6, 60))).estimate(lambda k: k.stationary().covariance()[0, 0])
        >>> bool(abs(variance.value - 2 / 3) < 1e-9), bool(variance.discretization_error < 1e-9)
        (True, True)
        """
        if not callable(question):
            raise TypeError(f"question must be a function of a TransitionKernel, got {type(question).__name__}: {question!r}")
        fine, coarse = question(self), question(self._coarser())
        if isinstance(fine, Estimate):
            return dataclasses.replace(fine, discretization_error=abs(fine.value - coarse.value))
        return Estimate(float(fine), discretization_error=abs(float(fine) - float(coarse)), unit=unit, method=self.method,
                        lr=self.chain.lr, batch=self.chain.batch)  # fmt: skip

    def _log_estimate(
        self, log_scalar: Callable[[Any], float], unit: str, label: str, assumptions: Sequence[Assumption] = ()
    ) -> Estimate:
        """Estimate of exp(log_scalar) with the factor between two grids, less one, as relative error; inf where one has no answer.

        Beyond doubles an error has no place but in an assumption, which also tells of logarithms that are not known.
        """
        fine = log_scalar(self)
        value = math.exp(fine) if fine < _LARGEST else math.inf
        try:
            change = abs(log_scalar(self._coarser()) - fine)
            detail = f"three quarters of the cells change it by {change:.2g}"
        except (ValueError, FpsolveError) as reason:
            change, detail = math.inf, f"three quarters of the cells have no answer ({reason})"
        known, inside = change <= _KNOWN, 0.0 < value < math.inf
        if not (known and inside):
            assumptions = (*assumptions, Assumption(f"the logarithm is known to {_KNOWN:g}", "held" if known else "failed", detail))
        if not known:
            _log.warning("%s: the logarithm is not known to %g: %s; use more cells", label, _KNOWN, detail)
        error = value * math.expm1(min(change, _LARGEST)) if inside else 0.0 if known and value == 0.0 else math.inf
        return Estimate(value, discretization_error=error, log_value=fine, unit=unit, lr=self.chain.lr, batch=self.chain.batch,
                        method=f"{self.method}, {label}, two grids", assumptions=tuple(assumptions))  # fmt: skip

    # ---- what the reader must know ------------------------------------------------------------------------------------

    def _notes(self, system: System, mass: Array) -> list[str]:
        """Warnings for an answer that rests on nodes in proportion to `mass` (n,)."""
        share, out = mass / mass.sum(), []
        smallest = np.linalg.eigvalsh(self.chain.process.diffusion(system.nodes.points))[:, 0]  # type: ignore[union-attr]
        held = float(share[system.added > _ADDED * smallest].sum())
        if held > _ADDED_MASS:
            most = float(system.added[share > 0].max())
            out.append(f"cells holding {held:.1%} of the mass are too coarse for the step noise, which is raised there "
                       f"(up to {most:.3g} added to D, see added_diffusion); use more cells or nodes")  # fmt: skip
        folded = float(share @ system.reflected)
        if folded > _FOLDED:
            out.append(
                f"reflecting sides fold back {folded:.2g} of the mass in an iteration; if they are not meant, enlarge the box"
            )
        error = float(share @ np.abs(system.total - 1.0))
        if error > _ROW_ERROR:
            out.append(f"the quadrature misses {error:.1%} of the mass of a jump (made up for by scaling); use more cells")
        for text in out:
            _log.warning(text)
        return out

    def _density(
        self, system: System, before: Array, after: Array, method: str, info: dict[str, Any], notes: Sequence[str]
    ) -> Density:  # fmt: skip
        """Density at the centres one iteration after `before`, with the masses `after`; cell averages where the surface cuts.

        Scaled so that the cell masses sum to the mass there is: the midpoint rule of the result is exact to the order of the cells.
        """
        grid = self.grid
        volume = grid.cell_volumes.ravel()
        covered = np.bincount(system.cell, system.nodes.weights, grid.size)
        masses = np.bincount(system.cell, after, grid.size)
        whole = covered > (1.0 - 1e-9) * volume
        values = np.where(whole, 0.0, masses / volume)
        values[whole] = system.density(before, grid.points()[whole])
        ratio = float(values @ volume) / float(after.sum()) if after.sum() > 0.0 else 1.0
        warnings = list(notes)
        if not 0.99 < ratio < 1.01:
            warnings.append(f"the cells are too wide for the density: its midpoint sum is {ratio:.3g} of its mass; use more cells")
        return Density((values / ratio).reshape(grid.shape), grid, method=method, warnings=tuple(warnings), unit="iteration",
                       solver_info={**info, "midpoint sum over mass": ratio})  # fmt: skip
