"""The part of a drift that the noise balances: g = grad log p of the stationary density, where no closed form is known.

The generator splits the drift into D g and a rest. Any g is consistent; the nearer it is to grad log p, the smaller the error,
as the fitted fluxes then vanish edge by edge. A local closure (`_kernels.stencil.fit_gradient`) is exact for linear drift and
rough for nonlinear drift that is no gradient. There g is read off a stationary density, found with the closure on a grid of at
most `REFERENCE` cells per axis: its error enters the answer on the grid proper only multiplied by the squared cell width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import _markov
from ._kernels import balance as kernels
from ._kernels.stencil3 import positive_definite
from .errors import FpsolveError
from .grid import Grid

__all__ = ["AGREE", "REFERENCE", "defect", "solved_gradient"]

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]

#: Most cells per axis of the grid on which the density is solved for its gradient, by dimension.
REFERENCE = {2: 128, 3: 24}
#: Total variation between two successive densities below which the second one is taken.
AGREE = 0.005


def defect(diffusion: Array, drift: Array, gradient: Array, spacing: Array, grid: Grid) -> float:
    """How far g (n, d) is from the gradient of a stationary log density: zero for the closure with a linear drift.

    The largest of |h_i h_j curl_ij g| and |div u + u.g| / sum_i D_ii/h_i^2 with u = a - D g, over all cells but those beside walls,
    where one-sided differences would count as a defect. Zero as well where D is singular in a cell: the scheme is of first order
    there, whatever g.
    """
    regular = positive_definite(diffusion) if grid.dim == 3 else kernels.definite(diffusion)
    periodic = np.array([[2 * (side == "periodic") for side in sides] for sides in grid.boundary], np.int64)
    return float(kernels.defect(diffusion, drift, gradient, spacing, np.array(grid.shape), periodic)) if regular else 0.0


def solved_gradient(grid: Grid, generator: Callable[[Grid, Array | None], sp.csr_matrix]) -> Array | None:
    """grad log p (n, 2) at the cell centres from a stationary density on a smaller grid of the same box.

    `generator(small, g)` discretises the process with the balanced drift g there (None: the closure). The density found with the
    closure gives g; where the one found with that g agrees to `AGREE` in total variation, it gives a better g. Absorbing sides
    are made reflecting. None where the chain has no unique, everywhere positive stationary density.
    """
    sides: list[Any] = ["periodic" if low == "periodic" else "reflecting" for low, _ in grid.boundary]
    small = grid._resized(tuple(min(n, REFERENCE[grid.dim]) for n in grid.shape), sides)
    kept: list[Any] = []
    try:
        first = _markov.stationary(generator(small, None), shape=small.shape, log=True, kept=kept)
        if not np.all(np.isfinite(first)):
            return None
        start = _spline_gradient(first, small, small)
        second = _markov.stationary(generator(small, start), shape=small.shape, log=True, kept=kept)
    except (FpsolveError, ValueError) as error:
        _log.info("no stationary density to take the balanced drift from, the local closure is used: %s", error)
        return None
    agree = np.all(np.isfinite(second)) and 0.5 * np.abs(np.exp(first) - np.exp(second)).sum() < AGREE
    return _spline_gradient(second if agree else first, small, grid)


def _spline_gradient(log_mass: Array, small: Grid, grid: Grid) -> Array:
    """grad log p at the centres of `grid` by a bicubic spline in the coordinates of the axis maps, from log masses on `small`."""
    from scipy.interpolate import RectBivariateSpline

    values = log_mass.reshape(small.shape) - np.log(small.cell_volumes)

    nodes, at = [], []
    for axis, (m, n) in enumerate(zip(small.shape, grid.shape, strict=True)):
        s = (np.arange(m) + 0.5) / m
        if grid.boundary[axis][0] == "periodic":
            pad = min(m, 6)
            values = np.take(values, np.arange(-pad, m + pad), axis=axis, mode="wrap")
            s = (np.arange(-pad, m + pad) + 0.5) / m
        nodes.append(s)
        at.append((np.arange(n) + 0.5) / n)
    if grid.dim == 3:
        return _gradient_in_space(values, nodes, at, grid)
    spline = RectBivariateSpline(*nodes, values, kx=min(3, len(nodes[0]) - 1), ky=min(3, len(nodes[1]) - 1), s=0)
    out = np.empty((grid.size, 2))
    for axis, order in enumerate(((1, 0), (0, 1))):
        slope = spline(*at, dx=order[0], dy=order[1]) / grid.shape[axis]
        width = grid.widths[axis]
        out[:, axis] = (slope / (width[:, None] if axis == 0 else width)).ravel()
    return out


def _gradient_in_space(values: Array, nodes: list[Array], at: list[Array], grid: Grid) -> Array:
    """Gradient (n, 3) at the points `at` of the product of cubic splines through values at `nodes`, both in [0, 1] per axis."""
    from scipy.interpolate import make_interp_spline

    out = np.empty((grid.size, 3))
    for axis in range(3):
        slope = values
        for k in range(3):
            slope = make_interp_spline(nodes[k], slope, k=min(3, len(nodes[k]) - 1), axis=k)(at[k], nu=int(k == axis))
        width = grid.widths[axis].reshape([-1 if k == axis else 1 for k in range(3)])
        out[:, axis] = (slope / (grid.shape[axis] * width)).ravel()
    return out
