"""A report on a curved floor: states of the plane by their nearest point of the floor, the box around it, equation and paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fokker_planck import FokkerPlanck
from .grid import Grid
from .langevin import simulate
from .results import Density, EffectiveLoss

__all__ = ["Along"]

Array = NDArray[np.float64]

#: Points of the floor that nearest ones are looked for among; points per cell and axis when a density is sorted by them.
FINE, SPLIT = 8000, 4
#: Standard deviations across the floor that belong to it.
WIDE = 6.0
#: Cells per axis of the plane; quick and not.
CELLS = {True: 128, False: 256}


class Along:
    """The floor of an effective loss as a curve that states are projected on."""

    def __init__(self, effective: EffectiveLoss):
        from scipy.interpolate import make_interp_spline
        from scipy.spatial import cKDTree

        assert effective.points is not None
        self.closed, self.low, self.high = effective.closed, float(effective.x[0]), float(effective.x[-1])
        ends = "periodic" if self.closed else None
        self.curve = make_interp_spline(effective.x, effective.points, k=5, bc_type=ends)
        self.fine = np.linspace(self.low, self.high, FINE)
        self.tree = cKDTree(self.curve(self.fine))
        self.width = WIDE * math.sqrt(float(effective.variance.max()))

    def nearest(self, states: Array) -> Array:
        """Arc length of the nearest point of the floor; NaN beyond its ends, and too far from it to belong to it."""
        distance, index = self.tree.query(states)
        s = self.fine[index]
        for _ in range(2):
            off, t, bend = states - self.curve(s), self.curve(s, 1), self.curve(s, 2)
            s = s + np.einsum("ni,ni->n", off, t) / np.maximum(1.0 - np.einsum("ni,ni->n", off, bend), 0.1)
        if self.closed:
            s = np.mod(s - self.low, self.high - self.low) + self.low
        return np.where((distance <= self.width) & (s >= self.low) & (s <= self.high), s, np.nan)

    def sides(self) -> list[tuple[float, float]]:
        """Ends of the box around the floor, axis by axis."""
        points = self.curve(self.fine)
        low, high = points.min(axis=0) - self.width, points.max(axis=0) + self.width
        return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]

    def line(self, n: int) -> Grid:
        """The floor as a grid of its own."""
        return Grid((self.low, self.high, n), boundary="periodic" if self.closed else "reflecting")

    def spreads(self, diffusion: Callable[[Array], Array]) -> bool:
        """Whether there is noise along the floor itself."""
        x = self.fine[:: FINE // 200]
        D, t = diffusion(self.curve(x)), self.curve(x, 1)
        return bool(np.einsum("ni,nij,nj->n", t, D, t).max() > 1e-9 * float(np.abs(D).max()))

    def start(self, s: float, width: float, n: int) -> Array:
        """A narrow density on the line."""
        x = self.line(n).centers[0]
        gap = np.abs(x - s)
        gap = np.minimum(gap, self.high - self.low - gap) if self.closed else gap
        return np.asarray(np.exp(-0.5 * (gap / width) ** 2) / (math.sqrt(2.0 * math.pi) * width))

    def sorted_out(self, density: Density, n: int) -> tuple[Array, float]:
        """Masses of n pieces of the floor, and the share of the density that belongs to none."""
        grid = density.grid
        parts = (np.arange(SPLIT) + 0.5) / SPLIT - 0.5
        fine = [(c[:, None] + w[:, None] * parts).ravel() for c, w in zip(grid.centers, grid.widths, strict=True)]
        points = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1).reshape(-1, grid.dim)
        values = density.at(points).clip(0.0)
        seen = values > 1e-12 * values.max()
        s = self.nearest(points[seen])
        inside = np.isfinite(s)
        mass = np.histogram(s[inside], np.linspace(self.low, self.high, n + 1), weights=values[seen][inside])[0]
        return mass / mass.sum(), 1.0 - float(mass.sum() / values.sum())


def plane(process: Any, along: Along, s: float, t: float, quick: bool) -> tuple[Density, Density, str]:
    """The stationary density in the box around the floor, that at a time after a start on the floor, and the method."""
    if process.dim != 2:
        raise ValueError(f"no grid in {process.dim} dimensions; see paths")
    if not along.spreads(process.diffusion):
        raise ValueError("the noise along the floor vanishes on it, where no cell resolves it")
    grid = Grid(*((low, high, CELLS[quick]) for low, high in along.sides()))
    solver = FokkerPlanck(process, grid, scheme="auto")
    stationary = solver.stationary()
    width = (along.width / (2.0 * WIDE)) ** 2
    later = solver.evolve(("gaussian", along.curve(s).tolist(), (width * np.eye(2)).tolist()), t)
    assert isinstance(later, Density)
    return stationary, later, solver.method


def paths(subject: Any, along: Along, s: float, times: list[float], n: int, **options: Any) -> list[Array]:
    """States of paths in the box around the floor at the times."""
    walls = [(low, high, "reflecting") for low, high in along.sides()]
    found = simulate(subject, along.curve(s), t=times[-1], save=times, n=n, walls=walls, **options).states
    assert found is not None
    return list(found)
