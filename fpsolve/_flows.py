"""Currents of a density on a grid, the entropy they produce, and tests of detailed balance."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import breadth_first_order

from ._discretize import assemble
from ._notes import unresolved
from ._refine import Solver
from .grid import Grid
from .results import Assumption, Current, Density, Estimate

__all__ = ["Flows", "cell_currents", "cycle_affinity", "displacements", "entropy_rate", "net_fluxes"]

Array = NDArray[np.float64]

#: Largest affinity of a cycle (sum of ln Q_ij / Q_ji) that counts as rounding, per unit of the largest potential difference.
_BALANCED = 1e-10


def net_fluxes(generator: sp.csr_matrix, mass: Array) -> sp.csr_matrix:
    """Antisymmetric F_ij = m_i Q_ij - m_j Q_ji: net mass per time from cell i to cell j.

    Examples
    --------
    >>> net_fluxes(sp.csr_matrix([[-1.0, 1.0], [3.0, -3.0]]), np.array([0.5, 0.5])).toarray()
    array([[ 0., -1.],
           [ 1., 0.]])
    """
    flow = _one_way(generator, mass)
    return (flow - flow.T).tocsr()


def _one_way(generator: sp.csr_matrix, mass: Array) -> sp.csr_matrix:
    rates = generator - sp.diags(generator.diagonal())
    return (sp.diags(mass) @ rates).tocsr()


def displacements(grid: Grid, start: NDArray[Any], end: NDArray[Any]) -> Array:
    """Vectors (m, d) from the centres of cells `start` to those of `end`, the short way round periodic axes.

    Examples
    --------
    >>> displacements(Grid((0.0, 1.0, 4), boundary="periodic"), np.array([0]), np.array([3])).tolist()
    [[-0.25]]
    """
    a, b = np.unravel_index(start, grid.shape), np.unravel_index(end, grid.shape)
    parts = []
    for axis, centers in enumerate(grid.centers):
        step = centers[b[axis]] - centers[a[axis]]
        if grid.boundary[axis][0] == "periodic":
            length = grid.edges[axis][-1] - grid.edges[axis][0]
            step = step - length * np.round(step / length)
        parts.append(step)
    return np.stack(parts, axis=-1)


def cell_currents(grid: Grid, fluxes: sp.csr_matrix) -> Array:
    """Current (n, d) at the cell centres: J_i = sum_j F_ij (x_j - x_i) / (2 V_i), half of every edge's flux to either end.

    Examples
    --------
    >>> ring = sp.csr_matrix(np.roll(np.eye(4), 1, axis=1) - np.roll(np.eye(4), -1, axis=1))
    >>> cell_currents(Grid((0.0, 1.0, 4), boundary="periodic"), ring)[:, 0]
    array([1., 1., 1., 1.])
    """
    coo = fluxes.tocoo()
    moved = coo.data[:, None] * displacements(grid, coo.row, coo.col)
    total = np.stack([np.bincount(coo.row, weights=moved[:, k], minlength=grid.size) for k in range(grid.dim)], axis=-1)
    return np.asarray(total / (2.0 * grid.cell_volumes.reshape(-1, 1)))


def entropy_rate(diffusion: Array, current: Array, density: Array, volumes: Array) -> float:
    """sum_i V_i J_i . D_i^-1 J_i / p_i; inf where a current runs along a direction without noise.

    Examples
    --------
    >>> float(entropy_rate(np.array([[[2.0]]]), np.array([[1.0]]), np.array([0.5]), np.array([1.0])))
    1.0
    """
    keep = (density > 0.0) & np.any(current != 0.0, axis=1)
    values, vectors = np.linalg.eigh(diffusion[keep])
    along = np.einsum("nji,nj->ni", vectors, current[keep])
    floor = 1e-14 * np.maximum(values[:, -1:], 0.0)
    dead = values <= floor
    if np.any(dead & (np.abs(along) > 1e-8 * np.abs(along).max(axis=1, keepdims=True))):
        return math.inf
    terms = np.where(dead, 0.0, along**2 / np.where(dead, 1.0, values)).sum(axis=1)
    return float(np.sum(volumes[keep] * terms / density[keep]))


def _edge_entropy(generator: sp.csr_matrix, mass: Array) -> float:
    """sum over edges of (F_ij - F_ji) ln(F_ij / F_ji), F_ij = m_i Q_ij, every term >= 0.

    Where the noise cannot carry the drift edges are one-way, and their terms, infinite for the chain, mean nothing for the process:
    they count with the bound 2 (F_ij - F_ji)^2 / (F_ij + F_ji) from below.
    """
    one_way = _one_way(generator, mass)
    flow = one_way.tocoo()
    back = np.asarray(one_way.T.tocsr()[flow.row, flow.col]).ravel()
    seen = flow.data > 0.0
    forth, back = flow.data[seen], back[seen]
    alone = back == 0.0
    both = (forth - back) * np.log(forth / np.where(alone, 1.0, back))
    return float(np.sum(np.where(alone, 2.0 * forth, 0.5 * both)))


def cycle_affinity(generator: sp.csr_matrix) -> tuple[float, float]:
    """Largest |sum of ln Q_ij / Q_ji| over the cycles that one edge closes with a spanning tree, and the largest |potential| on it.

    Kolmogorov's criterion: a chain is reversible if and only if the first number is zero; inf if an edge is one-way.

    Examples
    --------
    >>> ring = sp.csr_matrix([[0, 2.0, 1.0], [1.0, 0, 2.0], [2.0, 1.0, 0]])
    >>> round(float(cycle_affinity(ring)[0] / np.log(2.0)), 12)
    3.0
    """
    rates = (generator - sp.diags(generator.diagonal())).tocsr()
    rates.eliminate_zeros()
    edges = rates.tocoo()
    back = np.asarray(rates.T.tocsr()[edges.row, edges.col]).ravel()
    if np.any(back <= 0.0):
        return math.inf, math.inf
    force = sp.csr_matrix((np.log(edges.data / back), (edges.row, edges.col)), shape=rates.shape)
    potential, done = np.zeros(rates.shape[0]), np.zeros(rates.shape[0], bool)
    while not done.all():
        order, parent = breadth_first_order(rates, int(np.argmin(done)), directed=False)
        step = np.asarray(force[parent[order[1:]], order[1:]]).ravel()
        for cell, above, rise in zip(order[1:].tolist(), parent[order[1:]].tolist(), step.tolist(), strict=True):
            potential[cell] = potential[above] + rise
        done[order] = True
    closing = np.log(edges.data / back) - (potential[edges.col] - potential[edges.row])
    return float(np.abs(closing).max(initial=0.0)), float(np.abs(potential).max())


class Flows(Solver):
    """Questions about currents; a part of `FokkerPlanck`."""

    def current(self, rho: Density | None = None) -> Current:
        r"""The probability current J = b p - div(D p) of a density.

        Parameters
        ----------
        rho : Density, optional
            On the grid of the solver; default the stationary density.

        Returns
        -------
        Current
            Components at the cell centres, shape grid.shape + (d,), in probability per time and area, second order where D is
            positive definite and resolved; `divergence` is that of the discrete fluxes, so that dp/dt = -divergence exactly.

        Raises
        ------
        TypeError, ValueError
            If `rho` is no Density on this grid, or as `stationary`.

        Notes
        -----
        The flux of an edge is m_i Q_ij - m_j Q_ji with cell masses m (Scharfetter and Gummel 1969). Where the chain is in detailed
        balance every flux of the stationary density is zero to rounding.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Process
        >>> process = Process.from_drift("1.0", Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((0, 2, 40), boundary="periodic"))
        >>> fp.current().values[:2, 0]                         # drift / length
        array([0.5000, 0.5000])
        """
        density = self._density(rho)
        mass = density.cell_mass.ravel()
        fluxes = net_fluxes(self.generator, mass)
        lost = mass * self.kill
        values = cell_currents(self.grid, fluxes)
        if np.any(lost):
            values = values + lost[:, None] * self._ways_out / (2.0 * self.grid.cell_volumes.reshape(-1, 1))
        outflow = (np.asarray(fluxes.sum(axis=1)).ravel() + lost).reshape(self.grid.shape)
        one_way = np.asarray(_one_way(self.generator, mass).sum(axis=1)).ravel().max()
        return Current(values.reshape(*self.grid.shape, self.grid.dim), self.grid, outflow / self.grid.cell_volumes,
                       time=density.time, method=self.method, warnings=density.warnings,
                       solver_info={"largest net flux relative": float(np.abs(fluxes.data).max(initial=0.0) / one_way)
                                    if one_way > 0.0 else 0.0})  # fmt: skip

    def _density(self, rho: Density | None) -> Density:
        if rho is None:
            out: Density = self.stationary()
            return out
        if not isinstance(rho, Density):
            raise TypeError(f"rho must be a Density on the grid of the solver, got {type(rho).__name__}; "
                            "fp.evolve(rho0, 0.0) makes one")  # fmt: skip
        if rho.grid != self.grid:
            raise ValueError(f"rho lives on {rho.grid!r}, the solver on {self.grid!r}; fp.evolve(rho.at, 0.0) interpolates")
        return rho

    @functools.cached_property
    def _ways_out(self) -> Array:
        """Mean edge vector (n, d) through absorbing sides, weighted like the rates there."""
        st, grid = self._stencil, self.grid
        cells = np.stack(np.unravel_index(np.arange(grid.size), grid.shape), axis=-1)
        total, weight = np.zeros((grid.size, grid.dim)), np.zeros(grid.size)
        for k in range(st.weights.shape[1]):
            for sign in (1, -1):
                ends = cells + sign * st.offsets[:, k]
                out = np.zeros(grid.size, bool)
                for axis, sides in enumerate(grid.boundary):
                    out |= (ends[:, axis] < 0) & (sides[0] == "absorbing")
                    out |= (ends[:, axis] >= grid.shape[axis]) & (sides[1] == "absorbing")
                w = np.where(out, st.weights[:, k], 0.0)
                total += sign * w[:, None] * st.offsets[:, k] * st.spacing
                weight += w
        return np.asarray(total / np.where(weight > 0.0, weight, 1.0)[:, None])

    def entropy_production(self, rho: Density | None = None) -> Estimate:
        r"""Rate of entropy production, the integral of J . D^-1 J / p.

        Parameters
        ----------
        rho : Density, optional
            On the grid of the solver; default the stationary density, for which the rate is zero if and only if there is detailed
            balance.

        Returns
        -------
        Estimate
            In 1/time, dimensionless entropy (k_B = 1); inf where a current runs along a direction without noise (in phase space
            the current is that of friction and noise alone, the rest being reversible motion). An assumption
            compares with the chain's own sum over edges of (m_i Q_ij - m_j Q_ji) ln(m_i Q_ij / m_j Q_ji), in which one-way edges
            count with a bound from below; the discretisation error is the larger of its distance and the one from a second grid.

        Raises
        ------
        TypeError, ValueError
            As `current`.

        Notes
        -----
        U. Seifert, Rep. Prog. Phys. 75, 126001 (2012); J. Schnakenberg, Rev. Mod. Phys. 48, 571 (1976) for the edge sum.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Process
        >>> process = Process.from_drift("1.0", Noise.isotropic(0.5))
        >>> fp = FokkerPlanck(process, Grid((0, 2, 40), boundary="periodic"))
        >>> fp.entropy_production().value                      # drift^2 / D
        2.000
        """
        density = self._density(rho)
        start = None if rho is None else rho

        def rate(fp: Any) -> float:
            p = density if fp is self else fp.stationary() if start is None else fp.evolve(start.at, 0.0)
            points = fp.grid.points()
            current = fp._irreversible_current(p)
            return entropy_rate(fp.process.diffusion(points), current, p.values.ravel(), fp.grid.cell_volumes.ravel())

        value: Estimate = self._two_grids(rate, "1/time", "entropy production", coarse=unresolved(self, density.cell_mass))
        edges = _edge_entropy(self._dissipative, density.cell_mass.ravel())
        gap = abs(edges - value.value)
        held = gap <= 0.05 * abs(value.value) + 1e-12
        checked = Assumption("the edge sum of the chain agrees within 5 %", "held" if held else "failed", f"edge sum {edges:.6g}")
        error = max(value.discretization_error, gap) if math.isfinite(gap) else math.inf
        return dataclasses.replace(value, discretization_error=error, assumptions=(*value.assumptions, checked))

    @functools.cached_property
    def _dissipative(self) -> sp.csr_matrix:
        """The generator without what is odd under time reversal: all of it, but for the flow of Hamilton's equations."""
        if self._stencil.stream is None:
            return self.generator
        return assemble(dataclasses.replace(self._stencil, stream=None, rest=np.zeros_like(self._stencil.rest)))[0]

    def _irreversible_current(self, rho: Density) -> Array:
        """The current (n, d) that produces entropy."""
        if self._stencil.stream is None:
            return np.asarray(self.current(rho).values.reshape(self.grid.size, self.grid.dim))
        return cell_currents(self.grid, net_fluxes(self._dissipative, rho.cell_mass.ravel()))

    def detailed_balance(self) -> Estimate:
        r"""How far the process is from detailed balance: zero if and only if F = D^-1 (b - div D) is a gradient.

        In 2-D and 3-D the root mean square of curl F over that of the whole derivative of F, both weighted with the stationary
        density (with equal weights where there is none); around periodic axes also the mean circulation of F over the mean of
        `|F|`, of which the larger counts. Derivatives of the process itself are taken, so the grid only sets where.

        In phase space detailed balance knows the parity of the velocity: it asks for p = exp(-H/T), in which friction and noise
        balance. There it is the root mean square of the irreversible velocity J_v/p = -(g/m) v - D_vv d/dv ln p over that of
        (g/m) v.

        Returns
        -------
        Estimate
            Dimensionless, between 0 and about sqrt(2), error from two difference steps. An assumption carries Kolmogorov's
            criterion for the generator: the largest affinity sum ln(Q_ij/Q_ji) of a cycle, which holds where the scheme
            knows the potential and vanishes only to second order elsewhere.

        Raises
        ------
        ValueError
            If D is singular somewhere on the grid.

        Notes
        -----
        C. W. Gardiner, Stochastic Methods, section 5.3; F. P. Kelly, Reversibility and Stochastic Networks (1979), section 1.5.

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Process
        >>> process = Process.ornstein_uhlenbeck([[1.0, 1.0], [-1.0, 1.0]], Noise.isotropic(1.0))
        >>> fp = FokkerPlanck(process, Grid((-4, 4, 24), (-4, 4, 24)))
        >>> fp.detailed_balance().value                        # curl 2, derivative of size 2
        1.000
        """
        if self._stencil.stream is not None:
            return self._balance_with_parity()
        values = [self._imbalance(fraction) for fraction in (0.25, 0.125)]
        affinity, height = cycle_affinity(self.generator)
        held = affinity <= _BALANCED * max(1.0, height)
        checked = Assumption("Kolmogorov's criterion holds for the generator", "held" if held else "failed",
                             f"largest affinity of a cycle {affinity:.3g}")  # fmt: skip
        return Estimate(values[1], discretization_error=abs(values[0] - values[1]), assumptions=(checked,),
                        method=f"{self.method}, curl of D^-1 (b - div D)")  # fmt: skip

    def _balance_with_parity(self) -> Estimate:
        def ratio(fp: Any) -> float:
            p = fp.stationary()
            mass, seen = p.cell_mass.ravel(), p.values.ravel() > 0.0
            v = fp._irreversible_current(p)[seen, 1] / p.values.ravel()[seen]
            friction = fp.process.motion.friction / fp.process.motion.mass * fp.grid.points()[seen, 1]
            return float(np.sqrt(mass[seen] @ v**2 / (mass[seen] @ friction**2)))

        flow = _one_way(self.generator, self._stationary_mass)
        index = np.arange(self.grid.size).reshape(self.grid.shape)[:, ::-1].ravel()
        off = float(abs(flow - flow.T.tocsr()[index][:, index]).max() / flow.max())
        name = "pi(x, v) Q((x, v) -> (x', v')) = pi(x', v') Q((x', -v') -> (x, -v)) for the generator"
        status: Any = "held" if off <= _BALANCED else "failed"
        checked = Assumption(name, status, f"largest difference {off:.3g} of the largest flow")
        value: Estimate = self._two_grids(ratio, "", "irreversible velocity over friction")
        return dataclasses.replace(value, assumptions=(*value.assumptions, checked))

    def _imbalance(self, fraction: float) -> float:
        grid = self.grid
        points, d = grid.points(), grid.dim
        force = _force(self.process, points)
        weight = np.full(grid.size, 1.0 / grid.size)
        if not np.any(self.kill > 0.0):
            weight = self.stationary().cell_mass.ravel()
        out = 0.0
        for axis, sides in enumerate(grid.boundary):
            if sides[0] == "periodic":
                along, share = force[:, axis].reshape(grid.shape), grid.widths[axis] / grid.widths[axis].sum()
                size = float(np.tensordot(np.abs(along), share, axes=(axis, 0)).mean())
                round_trip = np.tensordot(along, share, axes=(axis, 0))
                out = max(out, float(np.abs(round_trip).mean()) / size if size > 0.0 else 0.0)
        if d == 1:
            return out
        slope = np.empty((grid.size, d, d))  # slope[:, i, j] = d_j F_i
        for j in range(d):
            step = fraction * float(grid.widths[j].min())
            move = np.zeros(d)
            move[j] = step
            slope[:, :, j] = (_force(self.process, points + move) - _force(self.process, points - move)) / (2.0 * step)
        curl = slope - np.swapaxes(slope, 1, 2)
        square = np.sum(curl[:, *np.triu_indices(d, 1)] ** 2, axis=1)
        whole = float(np.sqrt(weight @ np.sum(slope**2, axis=(1, 2))))
        return max(out, float(np.sqrt(weight @ square)) / whole) if whole > 0.0 else out


def _force(process: Any, points: Array) -> Array:
    diffusion = np.asarray(process.diffusion(points), float)
    lowest = np.linalg.eigvalsh(diffusion)
    bad = lowest[:, 0] <= 1e-14 * lowest[:, -1]
    if bad.any():
        raise ValueError(f"detailed balance needs a positive definite D, but its smallest eigenvalue is {lowest[bad][0, 0]:.3g} "
                         f"at x = {points[int(np.argmax(bad))].tolist()}; give the noise a floor")  # fmt: skip
    drift = np.asarray(process.drift(points), float) - np.asarray(process.divergence(points), float)
    return np.asarray(np.linalg.solve(diffusion, drift[:, :, None])[:, :, 0])
