r"""Motion with inertia on a grid of positions and velocities (1-D positions): the Klein-Kramers equation as a Markov generator.

.. math:: \partial_t p = -\partial_x (v p) + \partial_v \left(\frac{U' + g v}{m}\, p\right)
          + \partial_v^2 \left(\frac{g T}{m^2}\, p\right), \qquad T(x) = g D(x).

Friction and noise act along v only, where the Maxwell density exp(-m v^2/2T) balances them: exponentially fitted edges. The rest is
the flow of Hamilton's equations, for which nonnegative rates are one-sided, first order in the cell width. For constant T the flux
of the Gibbs density p = exp(-H/T), H = U + m v^2/2, is the rotation of a stream function,

.. math:: J_x = v p = -\partial_v \psi, \qquad J_v = -U' p / m = \partial_x \psi, \qquad
          \psi = \frac{T}{m}\left(e^{-m v^2/2T} - e^{-m v_{max}^2/2T}\right) e^{-U/T},

so that its flux through every face is a difference of two values at corners and its discrete divergence zero. The rate through a
face is that flux over the Gibbs mass of the cell upwind of it: exp(-H/T) at the centres is stationary to rounding, and in detailed
balance with the parity of v, pi(x, v) Q((x, v) -> (x', v')) = pi(x', v') Q((x', -v') -> (x, -v)). Where T varies the same is done
with a density in local equilibrium, which leaves only what deviates from it to first order. The constant in psi lets no flux pass
the ends of the velocity axis; it changes the force next to them, where there is no mass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._discretize import Stencil, Stream, finite, frame
from .grid import Grid
from .process import Underdamped
from .region import Region

__all__ = ["PhaseSpace", "build_phase_stencil", "over_velocities", "phase_space"]

Array = NDArray[np.float64]

#: Change of H/T across a cell beyond which the rates of the exact Gibbs flux grow like exp(H/T) and simple upwind rates are taken.
_STEEP = 8.0
#: Kinetic energy over T beyond which Maxwell's density is not formed.
_FASTEST = 600.0


class PhaseSpace:
    """An underdamped motion along a line as a process in the plane of (x, v), for the solver.

    Examples
    --------
    >>> from fpsolve.noise import Noise
    >>> from fpsolve.potentials import quadratic
    >>> plane = PhaseSpace(Underdamped(quadratic([[1.0]]), Noise.isotropic(0.5), friction=2.0))
    >>> plane.drift([[1.0, 0.5]]), float(plane.diffusion([[1.0, 0.5]])[0, 1, 1]), plane.temperature([[1.0, 0.5]])
    (array([[ 0.5, -2. ]]), 2.0, array([1.]))
    """

    dim = 2

    def __init__(self, motion: Underdamped) -> None:
        self.motion, self.noise, self.params = motion, motion.noise, motion.params

    def drift(self, points: Any) -> Array:
        """(v, -(U' + g v)/m) at points (n, 2)."""
        x = np.asarray(points, float)
        force = np.asarray(self.motion.field.drift(x[..., :1]))[..., 0]
        return np.stack([x[..., 1], (force - self.motion.friction * x[..., 1]) / self.motion.mass], axis=-1)

    def diffusion(self, points: Any) -> Array:
        """diag(0, g T/m^2) at points (n, 2)."""
        x = np.asarray(points, float)
        out = np.zeros((*x.shape, 2))
        out[..., 1, 1] = self.motion.friction * self.temperature(x) / self.motion.mass**2
        return out

    def divergence(self, points: Any) -> Array:
        """div D, zero: D depends on x and acts along v."""
        return np.zeros(np.shape(np.asarray(points, float)))

    def temperature(self, points: Any) -> Array:
        """T = g D(x), of the noise; the velocities equilibrate to the variance T/m."""
        x = np.asarray(points, float)
        return self.motion.friction * np.asarray(self.motion.field.diffusion(x[..., :1]))[..., 0, 0]

    def isothermal(self, grid: Grid) -> bool:
        """Whether T is positive and the same everywhere on a grid."""
        T = self.temperature(grid.points())
        return bool(T[0] > 0.0 and np.all(np.abs(T - T[0]) <= 1e-12 * T[0]))

    def log_density(self, points: Any) -> Array:
        """Log of the Maxwell factor -m v^2/2T, the part that is balanced along v."""
        x = np.asarray(points, float)
        T = self.temperature(x)
        kinetic = 0.5 * self.motion.mass * x[..., 1] ** 2
        return np.asarray(np.where(T > 0.0, -kinetic / np.where(T > 0.0, T, 1.0), 0.0))

    def with_params(self, **values: float) -> PhaseSpace:
        """The same motion with other parameters."""
        return PhaseSpace(self.motion.with_params(**values))

    def __repr__(self) -> str:
        return f"{self.motion!r} in phase space (x, v)"


def phase_space(process: Any) -> Any:
    """The process itself, or for an Underdamped its motion in phase space."""
    if not isinstance(process, Underdamped):
        return process
    if process.dim != 1:
        raise ValueError(f"FokkerPlanck takes an Underdamped of one coordinate, with a plane of (x, v); got {process.dim} "
                         f"coordinates, {2 * process.dim} dimensions: use simulate and escape_times")  # fmt: skip
    return PhaseSpace(process)


# ---- regions of positions -----------------------------------------------------------------------------------------------


class _AnyVelocity(Region):
    """A region of positions as one of phase space."""

    def __init__(self, positions: Region) -> None:
        self.positions, self.code, self.dim, self.params = positions, positions.code, 2, positions.params
        self.name, self.containing = f"{positions.name} at any velocity", None

    def g(self, x: Any) -> Array:
        return np.asarray(self.positions.g(np.asarray(x, float)[..., :1]))

    def mask(self, grid: Grid) -> NDArray[np.bool_]:
        line = Grid(grid.axes[0], boundary=[grid.boundary[0]])
        return np.ascontiguousarray(np.broadcast_to(self.positions.mask(line)[:, None], grid.shape))

    def __repr__(self) -> str:
        return repr(self.positions)


def over_velocities(process: Any, region: Any) -> Any:
    """The region itself, or in phase space one of positions at any velocity."""
    if isinstance(process, PhaseSpace) and isinstance(region, Region) and region.dim == 1:
        return _AnyVelocity(region)
    return region


# ---- stencil --------------------------------------------------------------------------------------------------------------


def build_phase_stencil(process: PhaseSpace, grid: Grid) -> Stencil:
    """Fitted edges along v, and the rates of Hamilton's flow through the faces."""
    _check_grid(grid)
    points, n = grid.points(), grid.size
    shape, sides, h, volume = frame(grid)
    D = finite(process.diffusion(points), (n, 2, 2), points, "the diffusion tensor")[:, 1, 1]
    if np.any(D < 0.0):
        i = int(np.argmin(D))
        raise ValueError(f"the diffusion tensor is negative at x = {points[i, :1].tolist()}: {D[i]:.3g}; it must be >= 0")
    drift = finite(process.drift(points), (n, 2), points, "the force").copy()
    noisy = D > 0.0
    # friction is balanced by noise along v; where there is none it is part of the flow
    drift[noisy, 1] += process.motion.friction * points[noisy, 1] / process.motion.mass
    offsets = np.zeros((n, 1, 2), np.int16)
    offsets[:, 0, 1] = 1
    zeros, flat, none = np.zeros(n), np.zeros((n, 2)), np.empty((0, 2, 2))
    return Stencil(shape, sides, h, volume, offsets, (volume * D / h[:, 1] ** 2)[:, None], flat, flat, np.ones((n, 1)), none, none,
                   np.empty(0), drift / h * volume[:, None], -process.log_density(points), zeros, zeros, zeros,
                   np.ones((n, 1)), zeros, 1, stream=_stream(process, grid, drift))  # fmt: skip


def _check_grid(grid: Grid) -> None:
    lo, hi = grid.edges[1][0], grid.edges[1][-1]
    if not np.allclose(grid.edges[1], -grid.edges[1][::-1], rtol=0.0, atol=1e-9 * (hi - lo)):
        raise ValueError(f"the axis of velocities must be symmetric about zero, cell by cell: got [{lo:g}, {hi:g}]; "
                         f"use ({-max(abs(lo), abs(hi)):g}, {max(abs(lo), abs(hi)):g}, n)")  # fmt: skip
    if "periodic" in grid.boundary[1]:
        raise ValueError(
            "velocities cannot be periodic; make the sides of the second axis reflecting, at some six thermal velocities"
        )


def _stream(process: PhaseSpace, grid: Grid, drift: Array) -> Stream:
    """Rates of the flow x' = v, m v' = -U' (and of friction without noise) through all faces, one-sided."""
    index = np.arange(grid.size, dtype=np.int32).reshape(grid.shape)
    (up_x, down_x), (up_v, down_v) = _face_flows(process, grid, drift.reshape(*grid.shape, 2))
    kill = np.zeros(grid.shape)
    parts = [
        (index[:-1], index[1:], up_x[1:-1], False),
        (index[1:], index[:-1], down_x[1:-1], False),
        (index[:, :-1], index[:, 1:], up_v[:, 1:-1], False),
        (index[:, 1:], index[:, :-1], down_v[:, 1:-1], False),
    ]
    for side, (cell, out) in enumerate(((0, down_x[0]), (-1, up_x[-1]))):
        kind = grid.boundary[0][side]
        if kind == "absorbing":
            kill[cell] += out
        elif kind == "periodic":
            parts.append((index[cell], index[-1 - cell], out, False))
        else:
            parts.append((index[cell], index[cell, ::-1], out, True))
    for side, (cell, out) in enumerate(((0, down_v[:, 0]), (-1, up_v[:, -1]))):
        if grid.boundary[1][side] == "absorbing":
            kill[:, cell] += out
    rows, cols, rates = (np.concatenate([np.ravel(part[k]) for part in parts]) for k in range(3))
    specular = np.concatenate([np.full(part[2].size, part[3]) for part in parts])
    keep = (rates > 0.0) & (rows != cols)  # a row of cells at v = 0 meets no wall
    return Stream(rows[keep], cols[keep], rates[keep], kill.ravel(), specular[keep])


def _face_flows(process: PhaseSpace, grid: Grid, drift: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Rates (up out of the cell below, down out of the cell above) at the faces: shapes (nx + 1, nv) and (nx, nv + 1)."""
    (hx, hv), v = grid.widths, grid.centers[1]
    padded = np.pad(drift[..., 1], ((0, 0), (1, 1)), mode="edge")
    flows = [np.broadcast_to(v, (hx.size + 1, hv.size)), 0.5 * (padded[:, 1:] + padded[:, :-1])]
    widths = [np.pad(hx, 1, mode="edge")[:, None], np.pad(hv, 1, mode="edge")[None, :]]
    out = []
    for axis, (flow, width, local) in enumerate(zip(flows, widths, _local_equilibrium(process, grid), strict=True)):
        below, above = (width[:-1], width[1:]) if axis == 0 else (width[:, :-1], width[:, 1:])
        up, down, calm = local
        out.append((np.where(calm, up, np.maximum(flow, 0.0) / below), np.where(calm, down, np.maximum(-flow, 0.0) / above)))
    return out[0], out[1]


def _local_equilibrium(process: PhaseSpace, grid: Grid) -> list[tuple[Array, Array, NDArray[np.bool_]]]:
    r"""Per axis: rates (up, down) at the faces for which a density in local equilibrium flows as it should, and where used.

    ln p = -int U'/T dx - (3/2) ln T - m v^2/2T balances the pressure rho T; for constant T it is the Gibbs density, and the fluxes
    are those of the stream function. A rate is the flux through the face over the mass of the cell upwind, by differences of ln p.
    """
    T, m, U = process.temperature(grid.points()).reshape(grid.shape)[:, 0], process.motion.mass, process.motion.potential
    Tf = process.temperature(np.stack([grid.edges[0], np.zeros(grid.shape[0] + 1)], axis=-1))
    centre, edge = (np.asarray(U(x[:, None])).ravel() for x in (grid.centers[0], grid.edges[0]))
    v, vf, (hx, hv) = grid.centers[1], grid.edges[1], grid.widths
    with np.errstate(all="ignore"):
        # along x: (T/m)(e^(-m v^2/2T) at the lower edge - at the upper) is the integral of v e^(-m v^2/2T) over the cell
        speed = (Tf / m)[:, None] * -np.diff(np.exp(-0.5 * m * vf**2 / Tf[:, None]), axis=1)
        speed[:, v == 0.0] = 0.0
        rates = []
        for faces in (slice(1, None), slice(None, -1)):
            rise = 2.0 * (edge[faces] - centre) / (Tf[faces] + T) + 1.5 * np.log(Tf[faces] / T)
            mass = hx[:, None] * hv[None, :] * np.exp(rise[:, None] - 0.5 * m * v**2 / T[:, None])
            rates.append(speed[faces] / mass)
        up_x, down_x = np.pad(rates[0], ((1, 0), (0, 0))), np.pad(-rates[1], ((0, 1), (0, 0)))
        # along v: the force integrated over the cell; nothing passes the ends of the axis
        push = (T / m) * (np.exp((centre - edge[1:]) / T) - np.exp((centre - edge[:-1]) / T)) / hx
        at_faces = np.exp(-0.5 * m * vf**2 / T[:, None]) - np.exp(-0.5 * m * vf[-1] ** 2 / T)[:, None]
        flux = push[:, None] * at_faces
        inverse = np.exp(0.5 * m * v**2 / T[:, None]) / hv
        up_v, down_v = np.pad(flux[:, 1:] * inverse, ((0, 0), (1, 0))), np.pad(-flux[:, :-1] * inverse, ((0, 0), (0, 1)))
        steep_x = np.maximum(np.abs(np.diff(edge)), 2.0 * np.maximum(np.abs(edge[1:] - centre), np.abs(edge[:-1] - centre))) / T
        steep_v = 0.5 * m * np.abs(np.diff(vf**2)) / T[:, None]
    calm = (T > 0.0)[:, None] & (steep_x <= _STEEP)[:, None] & (steep_v <= _STEEP) & (0.5 * m * v**2 < _FASTEST * T[:, None])
    calm_x, calm_v = np.pad(calm, ((1, 1), (0, 0)), mode="edge"), np.pad(calm, ((0, 0), (1, 1)), mode="edge")
    return [(np.maximum(up_x, 0.0), np.maximum(down_x, 0.0), calm_x[1:] & calm_x[:-1]),
            (np.maximum(up_v, 0.0), np.maximum(down_v, 0.0), calm_v[:, 1:] & calm_v[:, :-1])]  # fmt: skip
