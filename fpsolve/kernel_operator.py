r"""The discrete-time twin of the Fokker-Planck engine: a chain with Gaussian jumps, and the same questions about it.

One iteration takes theta to N(theta + lr b(theta), 2 lr D(theta)). Its transition density is known exactly, so nothing is expanded
in the learning rate: integrals over it become sums over Gauss nodes (Nystroem's method).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ._kernel_exits import KernelExits
from ._kernel_modes import KernelModes
from ._landing import Jumps, System
from ._start import initial_density
from .chains import SGDChain
from .grid import Grid
from .results import Density, DensitySeries

__all__ = ["TransitionKernel"]

Array = NDArray[np.float64]

#: Least standard deviation of a jump, in cells, that q Gauss nodes per cell integrate to 1e-4 (3e-4 for 3) of its mass.
FLOORS = {1: 0.7, 2: 0.65, 3: 0.5, 4: 0.4, 5: 0.3}


class TransitionKernel(KernelExits, KernelModes):
    r"""The transition kernel of a Gaussian chain on a grid, discretised without expansion in the learning rate.

    .. math:: \theta_{k+1} \sim N(\theta_k - lr\,\nabla U(\theta_k),\ 2\,lr\,D(\theta_k))

    Time is the iteration count: mean exit times are in iterations, rates per iteration; `per_time()` converts with lr.

    Parameters
    ----------
    chain : SGDChain
        Made by ``SGDChain.gaussian`` without momentum, in 1-D or 2-D.
    grid : Grid
        A jump beyond a reflecting side is folded back (and reported), beyond a periodic one wrapped, beyond an absorbing one
        killed.
    nodes : int, optional
        Gauss nodes per cell and axis, 1 ... 5. Default 4 in 1-D, 2 in 2-D.

    Attributes
    ----------
    added_diffusion : array of grid.shape
        What is added to D (largest eigenvalue) where a jump from the cell is shorter than the cells it lands in resolve: its
        standard deviation is kept above 0.4 of a cell with 4 nodes, 0.65 with 2, 0.7 with 1.
    warnings : tuple of str

    Raises
    ------
    TypeError
        If `chain` or `grid` is not one.
    ValueError
        For chains with momentum, on sample losses, or of another dimension; for drift or D that are not finite.

    Notes
    -----
    Rows of jump probabilities and killing probabilities are nonnegative and sum to one; killed mass is a difference of error
    functions across the surface; the elimination never subtracts (Grassmann, Taksar, Heyman 1985), so mean exit times keep their
    relative accuracy at any barrier. The surface g = 0 cuts cells exactly. K. E. Atkinson, The Numerical Solution of Integral
    Equations of the Second Kind (1997).

    Examples
    --------
    >>> from fpsolve import Grid, Noise, Potential, SGDChain, TransitionKernel
    >>> chain = SGDChain.gaussian(Potential.from_expression("x**2/2"), Noise.isotropic(0.5), lr=0.5)
    >>> kernel = TransitionKernel(chain, Grid((-6, 6, 60)))
    >>> kernel.stationary().covariance()            # 2 lr D/(1 - (1 - lr)^2) = 2/3; the equation in continuous time has 1/2
    array([[0.667]])
    """

    def __init__(self, chain: SGDChain, grid: Grid, *, nodes: int | None = None) -> None:
        _check(chain, grid, nodes)
        assert chain.process is not None and chain.lr is not None
        self.chain, self.grid = chain, grid
        if not np.any(chain.process.diffusion(grid.points())):
            raise ValueError(f"{chain!r} has no noise on {grid!r}: D is zero, and a chain without noise has no transition density")
        if nodes is None:
            nodes = 4 if grid.dim == 1 else 2
        self.nodes = int(nodes)
        per = "cell" if grid.dim == 1 else "cell and axis"
        self.method = f"transition kernel, lr {chain.lr:g}, {self.nodes} Gauss node{'s' * (nodes > 1)} per {per}"
        self._jumps = Jumps(chain.process, chain.lr, grid, FLOORS[self.nodes])
        self.added_diffusion: Array = self._jumps(grid.points())[2].reshape(grid.shape)
        self.warnings: tuple[str, ...] = ()
        self._last = None

    def __repr__(self) -> str:
        lines = [f"TransitionKernel on {self.grid!r}", f"  chain: {self.chain!r}", f"  process: {self.chain.process!r}",
                 f"  {self.nodes**self.grid.dim * self.grid.size} nodes; {self.method}"]  # fmt: skip
        floored = int(np.count_nonzero(self.added_diffusion))
        if floored:
            lines.append(f"  in {floored} of {self.grid.size} cells the step noise is raised to what the cells resolve "
                         f"(up to {self.added_diffusion.max():.3g} added to D)")  # fmt: skip
        return "\n".join(lines)

    # ---- forward ----------------------------------------------------------------------------------------------------

    def stationary(self) -> Density:
        """The stationary density, nonnegative and of mass one, by elimination without subtractions.

        Raises
        ------
        ValueError
            If a side is absorbing: nothing stays.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, SGDChain, TransitionKernel
        >>> chain = SGDChain.gaussian(Potential.from_expression("(x**2 - 1)**2/4"), Noise.isotropic(0.05), lr=0.3)
        >>> p = TransitionKernel(chain, Grid((-2.5, 2.5, 80))).stationary()
        >>> bool(abs(p.mass - 1) < 1e-12), bool(abs(p.mean()[0]) < 1e-9)
        (True, True)
        """
        system = self._system(None)
        if any("absorbing" in sides for sides in self.grid.boundary):
            raise ValueError("with absorbing sides all mass is lost in the end and there is no stationary density; "
                             "make the sides reflecting, or ask evolve for the density after t iterations")  # fmt: skip
        mass = system.chain.stationary()
        info = {"nodes": mass.size, "folded back per iteration": float(mass @ system.reflected)}
        return self._density(system, mass, mass, self.method, info, self._notes(system, mass))

    @overload
    def evolve(self, rho0: Any, t: int) -> Density: ...
    @overload
    def evolve(self, rho0: Any, t: Sequence[int] | NDArray[np.integer[Any]]) -> DensitySeries: ...
    def evolve(self, rho0: Any, t: int | Sequence[int] | NDArray[np.integer[Any]]) -> Density | DensitySeries:
        """The density after `t` iterations, or after several numbers of them, from the initial density `rho0`.

        Parameters
        ----------
        rho0 : Density, array of grid.shape, callable, or ("gaussian", mean, cov)
            As in ``FokkerPlanck.evolve``; a Gaussian or a callable is evaluated at the nodes, an array interpolated there.
        t : int or increasing sequence of ints
            Iterations >= 0.

        Returns
        -------
        Density for a number `t`, DensitySeries for a sequence; its mass is less than one where absorbing sides took some.

        Raises
        ------
        TypeError, ValueError
            For times that are no integers, or an initial density that does not fit.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, SGDChain, TransitionKernel
        >>> chain = SGDChain.gaussian(Potential.from_expression("x**2/2"), Noise.isotropic(0.5), lr=0.5)
        >>> p = TransitionKernel(chain, Grid((-6, 6, 60))).evolve(("gaussian", [1.0], [[0.25]]), 2)
        >>> p.mean(), p.covariance()           # (1 - lr)^2 = 1/4, and (1/4 + 1/2)/4 + 1/2 - 3/64 = 0.640625
        (array([0.250]), array([[0.641]]))
        """
        times = _iterations(t)
        values, notes = initial_density(rho0, self.grid)
        start = Density(values, self.grid, time=0.0, method=f"{self.method}, evolve", warnings=tuple(notes))
        system = self._system(None)
        mass, after, out = _node_mass(rho0, start, system), 0, []
        for k in times:
            if k == 0:
                out.append(start.values)
                continue
            before = _advance(system.P, mass, k - 1 - after)
            mass, after = before @ system.P, k
            density = self._density(system, before, mass, "", {}, ())
            out.append(density.values)
            notes = [*notes, *density.warnings]
        notes = [*dict.fromkeys(notes), *self._notes(system, mass)]
        method, clock = f"{self.method}, evolve", np.asarray(times, float)
        series = DensitySeries(clock, np.stack(out), self.grid, method, tuple(notes), {"nodes": mass.size}, "iteration")
        return series if np.ndim(t) else series[0]


def _iterations(t: Any) -> list[int]:
    times = np.atleast_1d(np.asarray(t))
    if times.dtype.kind not in "iu" and not (times.dtype.kind == "f" and np.all(np.isfinite(times) & (times == np.rint(times)))):
        raise TypeError(f"the time of a chain is the iteration count: t must be an integer or several, got {t!r}")
    if times.ndim != 1 or times.size == 0 or times[0] < 0 or np.any(np.diff(times) <= 0) or times[-1] > 2**53:
        raise ValueError(f"t must be a number of iterations >= 0 (up to 2^53) or an increasing sequence of them, got {t!r}")
    return [int(k) for k in times]


def _node_mass(rho0: Any, start: Density, system: System) -> Array:
    """Masses of the nodes: a function is evaluated there, an array interpolated; the sum is that of the cells."""
    points, weights = system.nodes.points, system.nodes.weights
    if isinstance(rho0, tuple):
        y = points - np.atleast_1d(np.asarray(rho0[1], float))
        exponent = -0.5 * np.sum(y * np.linalg.solve(np.atleast_2d(np.asarray(rho0[2], float)), y.T).T, axis=1)
        mass = weights * np.exp(exponent - exponent.max())
    elif callable(rho0) and not isinstance(rho0, Density):
        mass = weights * np.asarray(rho0(points), float)
    else:
        mass = weights * start.at(points)
    total = float(mass.sum())
    if not (np.all(mass >= 0.0) and 0.0 < total < math.inf):
        raise ValueError(f"rho0 must be finite and >= 0 on the whole grid, and not zero everywhere: its mass is {total:g}, its "
                         f"least value {float(mass.min()):g} (times a volume)")  # fmt: skip
    return np.asarray(mass * (start.mass / total))


def _advance(P: Array, mass: Array, steps: int) -> Array:
    """mass P^steps: row times matrix while that is cheaper than squaring the matrix."""
    while steps > 4 * len(mass):
        if steps % 2:
            mass = mass @ P
        P, steps = P @ P, steps // 2
    for _ in range(steps):
        mass = mass @ P
    return mass


def _check(chain: Any, grid: Any, nodes: Any) -> None:
    if not isinstance(chain, SGDChain):
        raise TypeError(f"TransitionKernel needs an SGDChain, got {type(chain).__name__}: {chain!r}; a Process in continuous time "
                        "goes to FokkerPlanck")  # fmt: skip
    if chain.kind != "gaussian":
        raise ValueError(f"the transition density of {chain!r} is not known: its noise is that of the samples. Make its Gaussian "
                         "twin SGDChain.gaussian(loss, noise, lr), or follow paths with escape_times")  # fmt: skip
    if chain.process is None:
        raise ValueError(f"{chain!r} changes its step on the way (schedule, adaptive optimiser): its transition density is not "
                         "one kernel; use a constant learning rate and batch size, follow paths with simulate or escape_times, or "
                         "give Driven.from_chain, the diffusion of a schedule, to FokkerPlanck")  # fmt: skip
    if chain.momentum:
        raise ValueError(f"momentum={chain.momentum:g}: with momentum the weights alone are no Markov chain, and the jump of "
                         "weights and velocity has a singular covariance; use escape_times, or momentum=0")  # fmt: skip
    if not isinstance(grid, Grid):
        raise TypeError(f"TransitionKernel needs a Grid, got {type(grid).__name__}: {grid!r}")
    if chain.dim != grid.dim:
        raise ValueError(f"the chain is {chain.dim}-D, the grid is {grid.dim}-D; give one axis (lo, hi, n) per coordinate")
    if grid.dim > 2:
        raise ValueError(f"TransitionKernel works in 1-D and 2-D, got {grid.dim}-D; use escape_times for more dimensions")
    if nodes is not None and (isinstance(nodes, bool) or not isinstance(nodes, (int, np.integer)) or nodes not in FLOORS):
        raise ValueError(f"nodes must be an integer from 1 to 5 (Gauss nodes per cell and axis), got {nodes!r}")
