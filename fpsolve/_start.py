"""Initial densities on a grid, from a density, an array, a function or a Gaussian."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, roots_legendre

from ._checks import numbers
from .grid import Grid
from .results import Density

__all__ = ["gaussian_mass", "initial_density"]

Array = NDArray[np.float64]

#: Mass of a Gaussian start outside the box that is worth a warning, and the least that must be inside.
_OUTSIDE_MASS, _INSIDE_MASS = 1e-6, 0.5


def initial_density(rho0: Any, grid: Grid) -> tuple[Array, list[str]]:
    """Point values of grid.shape and warnings."""
    notes: list[str] = []
    if isinstance(rho0, Density):
        if rho0.grid != grid:
            raise ValueError(f"rho0 lives on {rho0.grid!r}, the solver on {grid!r}; pass rho0.at as a callable to interpolate")
        return rho0.values, notes
    if isinstance(rho0, tuple) and len(rho0) > 0 and isinstance(rho0[0], str):
        values = _gaussian(rho0, grid, notes)
    elif isinstance(rho0, str):
        raise TypeError(f"rho0 is text, {rho0!r}; give a Density, an array, ('gaussian', mean, covariance), or a callable")
    elif callable(rho0):
        values = np.asarray(rho0(grid.points()), float)
        if values.shape != (grid.size,):
            raise ValueError(f"rho0 must return {grid.size} values for points of shape {(grid.size, grid.dim)}, "
                             f"got shape {values.shape}")  # fmt: skip
        values = values.reshape(grid.shape)
    else:
        values = numbers("rho0", rho0, "a Density, an array, ('gaussian', mean, covariance), or a callable")
        if values.shape != grid.shape:
            raise ValueError(f"rho0 must have the shape {grid.shape} of the grid, got {values.shape}")
    bad = ~(np.isfinite(values) & (values >= 0.0))
    if bad.any():
        i = int(np.argmax(bad.ravel()))
        raise ValueError(f"rho0 must be finite and >= 0, got {values.ravel()[i]} at x = {grid.points()[i].tolist()}")
    mass = float((values * grid.cell_volumes).sum())
    if not mass > 0.0:
        raise ValueError(f"rho0 has no mass on {grid!r}; is it inside the box and wider than a cell?")
    given = callable(rho0) or isinstance(rho0, tuple)
    return (values / mass if given else values), notes


def _gaussian(spec: tuple[Any, ...], grid: Grid, notes: list[str]) -> Array:
    if len(spec) != 3 or spec[0] != "gaussian":
        raise ValueError(f"rho0 must be a Density, an array, a callable or ('gaussian', mean, cov), got {spec!r}")
    d = grid.dim
    mean, cov = np.atleast_1d(numbers("mean", spec[1])), np.atleast_2d(numbers("covariance", spec[2]))
    if mean.shape != (d,) or cov.shape != (d, d):
        raise ValueError(f"a Gaussian in {d}-D needs a mean of shape ({d},) and a covariance ({d}, {d}), "
                         f"got {mean.shape}, {cov.shape}")  # fmt: skip
    if not np.allclose(cov, cov.T) or not np.all(np.linalg.eigvalsh(cov) > 0.0):
        raise ValueError(f"the covariance of rho0 must be symmetric and positive definite, got {cov.tolist()}")
    widest = max(float(w.max()) for w in grid.widths)
    narrow = math.sqrt(float(np.linalg.eigvalsh(cov)[0]))
    if narrow < widest:
        notes.append(f"rho0 is narrower ({narrow:.3g}) than a cell ({widest:.3g}); use more cells or a wider start")
    share = gaussian_mass(mean, cov, grid)
    if share < _INSIDE_MASS:
        raise ValueError(f"only {share:.3g} of the mass of the Gaussian rho0 lies in the box {grid!r}, at least {_INSIDE_MASS:g} "
                         f"must: mean {mean.tolist()}, covariance {cov.tolist()}; move the mean or enlarge the box")  # fmt: skip
    if share < 1.0 - _OUTSIDE_MASS:
        notes.append(f"{1.0 - share:.3g} of the mass of the Gaussian rho0 lies outside the box and was cut off; enlarge the box")
    precision, exponent = np.linalg.inv(cov), np.zeros(grid.shape)
    y = np.meshgrid(*(x - m for x, m in zip(grid.centers, mean, strict=True)), indexing="ij", sparse=True)
    for a in range(d):  # -y.P y/2 axis by axis
        exponent += y[a] * (-0.5 * precision[a, a] * y[a] - sum(precision[a, b] * y[b] for b in range(a)))
    return np.asarray(np.exp(exponent - exponent.max()))


def gaussian_mass(mean: Array, cov: Array, grid: Grid) -> float:
    """Mass of a Gaussian in the box: the error function along the last axis, Gauss-Legendre along those before.

    Axis by axis: with cov = L L^T the coordinate k is ``mean_k + sum_(j<k) L_kj u_j + L_kk u_k``, where u_j are those of the
    nodes before. Its standard normal u_k is integrated over what of the box lies within 9, and the last exactly.
    """
    lo, hi = (np.array([axis[k] for axis in grid.axes]) for k in (0, 1))
    L = np.linalg.cholesky(cov)
    u, mass = np.zeros((1, 0)), np.ones(1)
    for k in range(grid.dim):
        middle = mean[k] + u @ L[k, :k]
        a, b = (lo[k] - middle) / L[k, k], (hi[k] - middle) / L[k, k]
        if k < grid.dim - 1:
            nodes, weights = _legendre(400 if grid.dim == 2 else 120)
            a, b = np.clip(a, -9.0, 9.0)[:, None], np.clip(b, -9.0, 9.0)[:, None]
            here = 0.5 * (a + b) + 0.5 * (b - a) * nodes
            mass = (mass[:, None] * 0.5 * (b - a) * weights * np.exp(-0.5 * here * here) / math.sqrt(2.0 * math.pi)).ravel()
            u = np.column_stack([np.repeat(u, nodes.size, axis=0), here.ravel()])
    return float(np.sum(mass * (ndtr(b) - ndtr(a))))


@functools.cache
def _legendre(count: int) -> tuple[Array, Array]:
    nodes, weights = roots_legendre(count)
    return np.asarray(nodes), np.asarray(weights)
