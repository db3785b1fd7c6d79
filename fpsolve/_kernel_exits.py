"""Leaving a region in discrete time: mean exit time, quasi-stationary density, escape rate, committor."""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers
from ._kernel_base import MAX_NODES, KernelSolver, level_of
from ._landing import System, build
from .region import Region
from .results import Assumption, Density, Estimate, Field

__all__ = ["KernelExits"]

Array = NDArray[np.float64]

_LARGEST = 709.7


class KernelExits(KernelSolver):
    """Questions about leaving a region; a part of `TransitionKernel`."""

    @overload
    def mean_exit_time(self, region: Region, at: None = None) -> Field: ...
    @overload
    def mean_exit_time(self, region: Region, at: ArrayLike) -> Estimate: ...
    def mean_exit_time(self, region: Region, at: ArrayLike | None = None) -> Field | Estimate:
        r"""Mean number of iterations after which a chain started at x is first at g >= 0, as a function of x.

        Solves :math:`\tau(x) = 1 + \int_{g<0} k(x, y) \tau(y) dy`. The chain is tested after each iteration and has no path in
        between. With `containing`, only the component of that point is inside: landing in another component is an exit.
        A jump off the grid with g < 0 is folded back by a reflecting side, and its share reported.

        Parameters
        ----------
        region : Region
        at : array (d,), optional
            One start point. Then the answer is an Estimate with the whole change from a grid with three quarters of the cells per
            axis as error.

        Returns
        -------
        Field (zero outside the region, inf where beyond doubles), or Estimate if `at` is given; in iterations.

        Raises
        ------
        TypeError, ValueError
            If the region contains no cell centre, nothing can leave it, there are too many nodes, or `at` is not inside.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, Region, SGDChain, TransitionKernel
        >>> chain = SGDChain.gaussian(Potential.from_expression("0*x"), Noise.isotropic(0.5), lr=0.01)    # steps of 0.1
        >>> kernel = TransitionKernel(chain, Grid((-1, 1, 20)))
        >>> tau = kernel.mean_exit_time(Region.box([-1.0], [1.0]), at=[0.0])
        >>> tau.value * chain.lr         # continuous motion takes 1; the walk oversteps the ends by 0.0583, (1.0583)^2 = 1.120
        1.122
        """
        system = self._left(region)
        if at is not None:
            return self._exit_estimate(region, system, np.atleast_1d(numbers("at", at, "a point")))
        logs = system.chain.log_times()
        points = self.grid.points()
        inside = system.level(points) < 0.0
        log_tau = np.full(self.grid.size, -np.inf)
        log_tau[inside] = system.log_expected(points[inside], logs, np.full(1, -np.inf), 1.0)
        values = np.where(inside, np.exp(np.minimum(log_tau, _LARGEST)), 0.0)
        values = np.where(inside & (log_tau > _LARGEST), np.inf, values).reshape(self.grid.shape)
        occupied = np.exp(_scaled(system.chain.log_solve(system.nodes.weights, transposed=True)))
        info = {"nodes": logs.size, "folded back per iteration": float(occupied @ system.reflected / occupied.sum())}
        return Field(values, self.grid, name="mean exit time", unit="iteration", mask=inside.reshape(self.grid.shape),
                     method=f"{self.method}, exit from {region!r}", warnings=tuple(self._notes(system, occupied)),
                     solver_info=info)  # fmt: skip

    def _exit_estimate(self, region: Region, system: System, x0: Array) -> Estimate:
        self.grid.index(x0)  # refuses a wrong shape and points outside the box
        if not system.level(x0[None])[0] < 0.0:
            raise ValueError(f"the start {x0.tolist()} is not inside {region!r}; its exit time is zero")
        P, _ = system.rows(x0[None])
        occupied = np.exp(_scaled(system.chain.log_solve(P[0], transposed=True)))
        assumptions = tuple(Assumption("no warning of the solver", "failed", text) for text in self._notes(system, occupied))

        def log_tau(kernel: Any) -> float:
            s = kernel._left(region)
            return float(s.log_expected(x0[None], s.chain.log_times(), np.full(1, -np.inf), 1.0)[0])

        return self._log_estimate(log_tau, "iteration", f"exit from {region!r}", assumptions=assumptions)

    def quasi_stationary(self, region: Region) -> Density:
        r"""Quasi-stationary density of a region: the law of a chain that has stayed inside for long, of mass one.

        Parameters
        ----------
        region : Region

        Returns
        -------
        Density
            Zero outside the region; in cells cut by the surface the average over the cell. `solver_info` holds the escape rate
            1 - rho, its logarithm, and the decay rate -ln rho, rho the largest eigenvalue of the killed kernel.

        Raises
        ------
        TypeError, ValueError
            As `mean_exit_time`.
        FpsolveError
            If the two slowest decay rates are too close.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, Region, SGDChain, TransitionKernel
        >>> chain = SGDChain.gaussian(Potential.from_expression("x**2/2"), Noise.isotropic(0.5), lr=0.5)
        >>> p = TransitionKernel(chain, Grid((-2, 2, 40))).quasi_stationary(Region.box([-2.0], [2.0]))
        >>> bool(abs(p.mass - 1) < 1e-12), p.solver_info["escape rate"]
        (True, 0.0127)
        """
        system = self._left(region)
        nu, log_rate = system.chain.slowest()
        rate = math.exp(log_rate) if log_rate > -745.0 else 0.0
        info = {"escape rate": rate, "log escape rate": log_rate, "decay rate -ln rho": -math.log1p(-rate), "nodes": nu.size,
                "folded back per iteration": float(nu @ system.reflected)}  # fmt: skip
        # an iteration leaves rho nu
        return self._density(
            system, nu / (1.0 - rate), nu, f"{self.method}, quasi-stationary in {region!r}", info, self._notes(system, nu)
        )

    def escape_rate(self, region: Region) -> Estimate:
        r"""Probability per iteration, 1 - rho, with which a chain that has stayed inside for long leaves the region.

        rho is the largest eigenvalue of the kernel killed at g >= 0. 1 - rho is the inverse of the mean exit time from the
        quasi-stationary density; the survival probability falls like rho^n, so its logarithm has the slope ln rho, which `method`
        gives as well. The two agree where few leave in an iteration.

        Parameters
        ----------
        region : Region

        Returns
        -------
        Estimate
            Per iteration, with the whole change from a grid with three quarters of the cells per axis as error; `log_value` always.

        Raises
        ------
        TypeError, ValueError, FpsolveError
            As `quasi_stationary`.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, Region, SGDChain, TransitionKernel
        >>> chain = SGDChain.gaussian(Potential.from_expression("x**2/2"), Noise.isotropic(0.5), lr=0.5)
        >>> TransitionKernel(chain, Grid((-2, 2, 40))).escape_rate(Region.box([-2.0], [2.0])).value
        0.0127
        """
        system = self._left(region)
        nu, log_rate = system.chain.slowest()
        assumptions = tuple(Assumption("no warning of the solver", "failed", text) for text in self._notes(system, nu))
        # the two rates differ by half their product
        decay = f" (-ln rho = {-math.log1p(-math.exp(log_rate)):.6g})" if log_rate > -36.0 else ""
        found = {id(self): log_rate}

        def log_of(kernel: Any) -> float:
            return found[id(kernel)] if id(kernel) in found else float(kernel._left(region).chain.slowest()[1])

        label = f"escape rate 1 - rho of {region!r}{decay}"
        return self._log_estimate(log_of, "1/iteration", label, assumptions=assumptions)

    def committor(self, a: Region, b: Region) -> Field:
        """Probability q(x) that a chain started at x lands in b before it lands in a: 0 on a, 1 on b.

        Chains that end at an absorbing side reach neither.

        Parameters
        ----------
        a, b : Region
            Disjoint open sets.

        Returns
        -------
        Field

        Raises
        ------
        TypeError, ValueError
            If a region is none or contains no cell centre, both overlap, or nothing lies between.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, Region, SGDChain, TransitionKernel
        >>> chain = SGDChain.gaussian(Potential.from_expression("0*x"), Noise.isotropic(0.5), lr=0.01)
        >>> kernel = TransitionKernel(chain, Grid((-2, 2, 40)))
        >>> q = kernel.committor(Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0))
        >>> float(q.at([0.0]))
        0.500
        """
        inner = self._inner(a), self._inner(b)
        points = self.grid.points()
        in_a, in_b = (np.asarray(r.contains(points)) for r in inner)
        if np.any(in_a & in_b):
            i = int(np.argmax(in_a & in_b))
            raise ValueError(f"the regions overlap, for example at x = {points[i].tolist()}: {a!r} and {b!r}; make them smaller")
        if np.all(in_a | in_b):
            raise ValueError(f"no cell lies between {a!r} and {b!r} on {self.grid!r}; use more cells")
        first, second = level_of(inner[0]), level_of(inner[1])
        system = build(self._jumps, self.nodes, lambda y: np.maximum(-first(y), -second(y)) - 1e-300, (first, second), MAX_NODES)
        with np.errstate(divide="ignore"):
            logs = system.chain.log_solve(system.targets[:, 1])
        between = system.level(points) < 0.0
        q = in_b.astype(float)
        q[between] = np.exp(system.log_expected(points[between], logs, np.array([-np.inf, 0.0])))
        return Field(q.reshape(self.grid.shape), self.grid, name="committor", mask=between.reshape(self.grid.shape),
                     method=f"{self.method}, {a!r} to {b!r}", solver_info={"nodes": logs.size})  # fmt: skip


def _scaled(logs: Array) -> Array:
    return np.asarray(logs - logs[np.isfinite(logs)].max())
