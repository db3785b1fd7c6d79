"""Transitions between two regions: committor, reactive current and rate (transition path theory)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import _interpolate, _markov
from ._cuts import exit_generator
from ._exits import Exits
from ._flows import Flows, cell_currents
from ._phase_space import PhaseSpace
from ._shares import rate_into_b
from .grid import Grid
from .region import Region
from .results import Current, Estimate, Field

__all__ = ["Between", "Reversed", "Transitions"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Between:
    """The open set outside two regions, g = max(-g_a, -g_b); stands in for a Region."""

    def __init__(self, a: Region, b: Region) -> None:
        self.a, self.b = a, b

    def g(self, x: Array) -> Array:
        """g at points (..., d) -> (...)."""
        return np.asarray(np.maximum(-self.a.g(x), -self.b.g(x)))

    def masks(self, grid: Grid) -> tuple[Mask, Mask, Mask]:
        """Cells of a, of b, and between; ValueError where they overlap or nothing lies between."""
        in_a, in_b = self.a.mask(grid), self.b.mask(grid)
        if np.any(in_a & in_b):
            i = int(np.argmax((in_a & in_b).ravel()))
            raise ValueError(f"the regions overlap, for example at x = {grid.points()[i].tolist()}: {self.a!r} and {self.b!r}; "
                             "make them smaller")  # fmt: skip
        between = ~(in_a | in_b)
        if not between.any():
            raise ValueError(f"no cell lies between {self.a!r} and {self.b!r} on {grid!r}; use more cells")
        stray = between & (self.g(grid.points()) > 0.0).reshape(grid.shape)
        if stray.any():
            i = int(np.argmax(stray.ravel()))
            raise ValueError(f"x = {grid.points()[i].tolist()} lies in another component of {self.a!r} or {self.b!r}; give regions "
                             "without `containing`, or intersect them with a half-space")  # fmt: skip
        return in_a, in_b, between

    def __repr__(self) -> str:
        return f"outside {self.a!r} and {self.b!r}"


class Reversed:
    """The time reversal of a stationary process: the same D, drift -b + 2 D grad ln p + 2 div D, as a process for the solver."""

    def __init__(self, process: Any, grid: Grid, log_density: Array) -> None:
        self.process, self.grid, self.dim = process, grid, process.dim
        self._slope = [_derivative(log_density.reshape(grid.shape), grid, axis) for axis in range(grid.dim)]

    def diffusion(self, x: Array) -> Array:
        """As the process."""
        return np.asarray(self.process.diffusion(x))

    def divergence(self, x: Array) -> Array:
        """As the process."""
        return np.asarray(self.process.divergence(x))

    def drift(self, x: Array) -> Array:
        """Ito drift of the reversed paths; grad ln p by interpolation between the cell centres."""
        slope = np.stack([_interpolate.multilinear(self.grid, s, x, outside=0.0) for s in self._slope], axis=-1)
        pushed = np.einsum("...ij,...j->...i", self.diffusion(x), slope)
        return np.asarray(2.0 * (pushed + self.divergence(x)) - self.process.drift(x))

    def log_density(self, x: Array) -> None:
        """Not known in closed form."""

    def __repr__(self) -> str:
        return f"time reversal of {self.process!r}"


def _derivative(values: Array, grid: Grid, axis: int) -> Array:
    centers = grid.centers[axis]
    if grid.boundary[axis][0] == "periodic":
        length = grid.edges[axis][-1] - grid.edges[axis][0]
        apart = np.mod(np.roll(centers, -1) - np.roll(centers, 1), length)
        along = [-1 if k == axis else 1 for k in range(grid.dim)]
        return np.asarray((np.roll(values, -1, axis) - np.roll(values, 1, axis)) / apart.reshape(along))
    return np.asarray(np.gradient(values, centers, axis=axis, edge_order=2 if centers.size > 2 else 1))


class Transitions(Exits, Flows):
    """Questions about transitions from one region to another; a part of `FokkerPlanck`."""

    def _hitting(self, a: Region, b: Region) -> tuple[tuple[Mask, Mask, Mask], Array, dict[str, Any]]:
        """Masks, ln of the probability of hitting b before a, (grid.shape), 0 on b and -inf on a, and how it was solved."""
        between = Between(self._region(a, "a"), self._region(b, "b"))
        masks = between.masks(self.grid)
        in_a, in_b, inside = masks
        stand_in: Any = between
        rates, kill, cut = exit_generator(self._stencil, self.generator, self.grid, stand_in, inside, self._phi_at)
        to_b = rate_into_b(self.grid, between, masks, cut)
        if not np.any(to_b > 0.0):
            raise ValueError(f"no edge between the regions reaches {b!r}; use more cells")
        with np.errstate(divide="ignore"):
            factor = _markov.factor(rates, kill, shape=self.grid.shape)
            logs = factor.solve(to_b, log=True)
        logs = np.minimum(logs.reshape(self.grid.shape), 0.0)
        return masks, np.where(in_b, 0.0, np.where(in_a, -np.inf, logs)), factor.info

    def committor(self, a: Region, b: Region) -> Field:
        r"""Committor q(x) = P_x(reach b before a): 0 on a, 1 on b.

        Solves b . grad q + D : hess q = 0 between the regions, whose surfaces are resolved inside the cells.
        Paths that end at an absorbing side reach neither.

        Parameters
        ----------
        a, b : Region
            Disjoint open sets. Of a region that is left, give two parts of what lies outside to split its exits.

        Returns
        -------
        Field
            Values in [0, 1] with small relative errors however small they are; committor(b, a) does the same for 1 - q.

        Raises
        ------
        TypeError, ValueError
            If a region is none, contains no cell centre, both overlap, or nothing lies between.

        Notes
        -----
        W. E and E. Vanden-Eijnden, J. Stat. Phys. 123, 503 (2006). Elimination without subtractions. Where the regions meet,
        edges that are cut near by end in both, as far as the surface around belongs to each: on a smooth surface values away from
        there are of second order, but for the place where they meet, which is known to some hundredths of a cell.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((-2, 2, 80)))
        >>> q = fp.committor(Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0))
        >>> q.at([[-1.5], [0.0], [0.5], [1.5]])
        array([0.  , 0.5 , 0.75, 1.  ])
        """
        masks, logs, info = self._hitting(a, b)
        method = f"{self.method}, from {a!r} to {b!r}"
        return Field(np.exp(logs), self.grid, name="committor", warnings=self.warnings, method=method, mask=masks[2],
                     solver_info=info)  # fmt: skip

    def _backward_committor(self, a: Region, b: Region, log_pi: Array) -> Array:
        """Probability (grid.shape) that the stationary path was last in a, not in b."""
        one_way = self.grid.dim == 1 and self.grid.boundary[0][0] != "periodic"
        if self._stencil.reversible or one_way:
            return np.exp(self._hitting(b, a)[1])
        if isinstance(self.process, PhaseSpace) and self.process.isothermal(self.grid):
            return np.exp(self._hitting(b, a)[1])[:, ::-1]  # the reversed path has the opposite velocity
        log_density = log_pi.reshape(self.grid.shape) - np.log(self.grid.cell_volumes)
        back = self._on(self.grid, Reversed(self.process, self.grid, log_density))
        return np.asarray(np.exp(back._hitting(b, a)[1]))

    def _reactive(self, a: Region, b: Region) -> tuple[Array, Array, Array, sp.coo_matrix, float]:
        """q+, q- (n,), ln pi (n,), net reactive fluxes over exp(scale) on edges, scale."""
        if np.any(self.kill > 0.0):
            raise ValueError("with absorbing sides there is no stationary flow of transitions; make the sides reflecting")
        log_pi = _markov.stationary(self.generator, shape=self.grid.shape, log=True)
        forth = np.exp(self._hitting(a, b)[1]).ravel()
        back = self._backward_committor(a, b, log_pi).ravel()
        edges = (self.generator - sp.diags(self.generator.diagonal())).tocoo()
        seen = (edges.data > 0.0) & (back[edges.row] > 0.0) & (forth[edges.col] > 0.0)
        row, col = edges.row[seen], edges.col[seen]
        logs = log_pi[row] + np.log(edges.data[seen]) + np.log(back[row]) + np.log(forth[col])
        scale = float(logs.max()) if logs.size else 0.0
        flow = sp.csr_matrix((np.exp(logs - scale), (row, col)), shape=edges.shape)
        return forth, back, log_pi, (flow - flow.T).tocoo(), scale

    def _log_flux(self, a: Region, b: Region) -> tuple[float, float]:
        """ln of the transitions per time and of the fraction of time spent having been last in a."""
        forth, back, log_pi, net, scale = self._reactive(a, b)
        crossing = (forth[net.row] < 0.5) & (forth[net.col] >= 0.5)
        total = float(net.data[crossing].sum())
        if not total > 0.0:
            raise ValueError(f"no transitions from {a!r} to {b!r} are resolved on {self.grid!r}; use more cells")
        with np.errstate(divide="ignore"):
            logs = log_pi + np.log(back)
        top = float(logs.max())
        return scale + math.log(total), top + math.log(float(np.exp(logs - top).sum()))

    def reactive_rate(self, a: Region, b: Region) -> Estimate:
        r"""Rate of transitions from a to b: their number per time over the fraction of time in which a was visited last.

        .. math:: k_{ab} = \nu / \rho_a, \quad \nu = \int_S J_{ab} \cdot n\, dS, \quad \rho_a = \int q^-(x)\, p(x)\, dx

        Parameters
        ----------
        a, b : Region

        Returns
        -------
        Estimate
            In 1/time with the error found on half as many cells per axis; `log_value` holds beyond the range of doubles. For two
            metastable regions it tends to Kramers' rate of committed crossings.

        Raises
        ------
        TypeError, ValueError
            As `committor`; with absorbing sides.

        Notes
        -----
        The flux nu through the surface q = 1/2. W. E and E. Vanden-Eijnden, J. Stat. Phys. 123, 503 (2006), section 4.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((-2, 2, 80)))
        >>> fp.reactive_rate(Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0)).value    # (1/16)/(1/2)
        0.125
        """

        def log_rate(fp: Any) -> float:
            flux, share = fp._log_flux(a, b)
            return float(flux - share)

        name = f"transitions from {a!r} to {b!r}"
        rate: Estimate = self._two_grids(log_rate, "1/time", name, log=True, coarse=self._coarse_note)
        return rate

    def reactive_current(self, a: Region, b: Region) -> Current:
        r"""Current of the paths that come from a and reach b before they return, J_ab = q q^- J + p D (q^- grad q - q grad q^-).

        Parameters
        ----------
        a, b : Region

        Returns
        -------
        Current
            Components at the cell centres, zero inside the regions; second order but for the cells that a surface cuts.
            `solver_info` holds the flux from a to b in transitions per time, with its logarithm.

        Raises
        ------
        TypeError, ValueError
            As `reactive_rate`.

        Notes
        -----
        P. Metzner, C. Schuette, E. Vanden-Eijnden, Multiscale Model. Simul. 7, 1192 (2009): the net of
        pi_i q^-_i Q_ij q^+_j. Where the process is not reversible, q^- is the committor of the time-reversed process.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process, Region
        >>> process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((-2, 2, 80)))
        >>> current = fp.reactive_current(Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0))
        >>> float(current.at([0.0])[0])                          # D p q' = (1/2)(1/4)(1/2)
        0.0625
        """
        _, _, _, net, scale = self._reactive(a, b)
        fluxes = (net * math.exp(scale) if scale > -745.0 else net * 0.0).tocsr()
        values = cell_currents(self.grid, fluxes).reshape(*self.grid.shape, self.grid.dim)
        outflow = np.asarray(fluxes.sum(axis=1)).reshape(self.grid.shape) / self.grid.cell_volumes
        log_flux, log_share = self._log_flux(a, b)
        info = {"flux": math.exp(log_flux) if log_flux > -745.0 else 0.0, "log flux": log_flux, "share of a": math.exp(log_share)}
        return Current(values, self.grid, outflow, name="reactive current", warnings=self.warnings, solver_info=info,
                       method=f"{self.method}, from {a!r} to {b!r}")  # fmt: skip
