"""Where the jumps of a chain land: nodes inside, their images behind reflecting and periodic sides, lines where a path ends.

A jump off the grid through a reflecting side is folded back, through a periodic one wrapped, through an absorbing one killed. A
jump to a point with h >= 0 is killed wherever it is. Behind a reflecting side h is asked at the point itself and, if the path goes
on, at the folded one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._cells import Lines, Nodes, pieces
from ._dense import DenseChain
from ._kernels import transition, transition_wide, wide
from .grid import Grid

__all__ = ["Jumps", "Landing", "Places", "System", "build"]

Array = NDArray[np.float64]
Level = Callable[[Array], Array]

#: Standard deviations of a jump that are followed beyond the grid, and how many box lengths that may be.
_REACH, _COPIES = 9.0, 4
#: The least that is looked at behind a side, in standard deviations.
_BEHIND = 4.0
#: Cells, those beyond the grid included, that are still cut.
_MAX_CELLS = 400_000
#: Rows computed at a time.
_BLOCK = 256


@dataclass(frozen=True)
class Places:
    """Points that a jump may come to: nodes and images of nodes.

    `column` is the node that each belongs to, `beyond` marks those behind a reflecting side.
    """

    points: Array
    weights: Array
    column: NDArray[np.int64]
    beyond: NDArray[np.bool_]


class Jumps:
    """Mean and covariance of the jumps of a Gaussian chain, the covariance not below what the cells resolve.

    A jump from x is normal with mean x + lr b(x) and covariance 2 lr D(x). In units of the cells it lands in, no eigenvalue of
    the covariance is less than floor^2; `added` says what that adds to D.
    """

    def __init__(self, process: Any, lr: float, grid: Grid, floor: float) -> None:
        self.process, self.lr, self.grid, self.floor = process, lr, grid, floor

    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        """Means (n, d), covariances (n, d, d) and the largest eigenvalue added to D (n,), for starts (n, d)."""
        mean = x + self.lr * self.process.drift(x)
        cov = 2.0 * self.lr * self.process.diffusion(x)
        bad = ~(np.isfinite(mean).all(axis=1) & np.isfinite(cov).all(axis=(1, 2)))
        if bad.any():
            raise ValueError(
                f"drift or D is not finite at x = {x[int(np.argmax(bad))].tolist()}; move the box or change the function"
            )
        width = np.empty(x.shape)
        for axis, (edges, sides) in enumerate(zip(self.grid.edges, self.grid.boundary, strict=True)):
            lo, hi = edges[0], edges[-1]
            at = lo + (mean[:, axis] - lo) % (hi - lo) if sides[0] == "periodic" else np.clip(mean[:, axis], lo, hi)
            cell = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, edges.size - 2)
            width[:, axis] = self.grid.widths[axis][cell]
        values, vectors = np.linalg.eigh(cov / width[:, :, None] / width[:, None, :])
        if np.any(values < -1e-9 * np.maximum(values[:, -1:], 1e-300)):
            i = int(np.argmin(values[:, 0]))
            D = self.process.diffusion(x[i]).tolist()
            raise ValueError(f"D is not positive semi-definite at x = {x[i].tolist()}: {D}; all its eigenvalues must be >= 0")
        lift = np.maximum(self.floor**2 - values, 0.0)
        low = np.asarray((lift > 0.0).any(axis=1))
        more = np.einsum("nij,nj,nkj->nik", vectors, lift, vectors) * width[:, :, None] * width[:, None, :]
        added = np.linalg.eigvalsh(more)[:, -1] / (2.0 * self.lr)
        return mean, np.where(low[:, None, None], cov + more, cov), np.where(low, added, 0.0)


class Landing:
    """The grid with the cells behind its sides that jumps of these means and covariances reach, and the map back into it."""

    def __init__(self, grid: Grid, mean: Array, cov: Array) -> None:
        self.grid = grid
        std = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
        low, high = (mean - _REACH * std).min(axis=0), (mean + _REACH * std).max(axis=0)
        # what can be left by rare jumps only must have something behind its sides as well
        longest = _BEHIND * std.max(axis=0)
        low = np.minimum(low, [edges[0] - s for edges, s in zip(grid.edges, longest, strict=True)])
        high = np.maximum(high, [edges[-1] + s for edges, s in zip(grid.edges, longest, strict=True)])
        for axis, edges in enumerate(grid.edges):  # farther off only open lines reach, where paths end
            length = edges[-1] - edges[0]
            low[axis], high[axis] = max(low[axis], edges[0] - _COPIES * length), min(high[axis], edges[-1] + _COPIES * length)
        self.edges = tuple(_extended(e, s, a, b) for e, s, a, b in zip(grid.edges, grid.boundary, low, high, strict=True))
        cells = math.prod(e.size - 1 for e in self.edges)
        if cells > _MAX_CELLS:
            raise ValueError(
                f"the jumps reach {cells} cells in and around the grid, at most {_MAX_CELLS} are handled; use fewer cells"
            )

    def fold(self, y: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Points of the grid to which landing points (..., d) are taken, and which of them an absorbing side ends."""
        out, ended = np.array(y, float), np.zeros(y.shape[:-1], bool)
        for axis, (edges, sides) in enumerate(zip(self.grid.edges, self.grid.boundary, strict=True)):
            lo, hi, x = edges[0], edges[-1], out[..., axis]
            if sides[0] == "periodic":
                out[..., axis] = np.where((x < lo) | (x > hi), lo + (x - lo) % (hi - lo), x)
                continue
            ended |= (sides[0] == "absorbing") & (x < lo)
            ended |= (sides[1] == "absorbing") & (x > hi)
            turned = (x - lo) % (2.0 * (hi - lo))
            turned = lo + np.minimum(turned, 2.0 * (hi - lo) - turned)
            out[..., axis] = np.where((x < lo) | (x > hi), turned, x)
        return out, ended

    def seen(self, g: Level | None) -> Level:
        """The level that decides about a landing point: < 0 where g < 0 there and at the point it is folded to."""
        periodic = np.array([sides[0] == "periodic" for sides in self.grid.boundary])

        def level(y: Array) -> Array:
            inner, ended = self.fold(y)
            out = np.full(y.shape[:-1], -1.0)
            if g is not None:
                off = np.asarray(np.any((inner != y) & ~periodic, axis=-1))
                out = g(inner)
                if off.any():
                    out = np.array(out)
                    out[off] = np.maximum(out[off], g(np.where(periodic, inner, y)[off]))
            return np.where(ended, np.inf, out)

        return level

    def met(self, g: Level) -> Level:
        """Level < 0 where a path has reached g < 0 at the landing point or at the point it is folded to."""
        periodic = np.array([sides[0] == "periodic" for sides in self.grid.boundary])

        def level(y: Array) -> Array:
            inner, ended = self.fold(y)
            return np.where(ended, np.inf, np.minimum(g(inner), g(np.where(periodic, inner, y))))

        return level

    def images(self, nodes: Nodes, level: Level) -> Places:
        """The nodes and their images at which a path goes on."""
        points, number = nodes.points, np.arange(len(nodes.points))
        for axis, (edges, sides, reach) in enumerate(zip(self.grid.edges, self.grid.boundary, self.edges, strict=True)):
            lo, hi = edges[0], edges[-1]
            length, parts, owners = hi - lo, [points], [number]
            for k in range(-_COPIES - 1, _COPIES + 2):
                if k == 0:
                    continue
                copy = points.copy()
                mirrored = sides[0] != "periodic" and k % 2
                copy[:, axis] = (lo + hi - points[:, axis] if mirrored else points[:, axis]) + k * length
                near = (copy[:, axis] > reach[0]) & (copy[:, axis] < reach[-1])
                parts.append(copy[near])
                owners.append(number[near])
            points, number = np.concatenate(parts), np.concatenate(owners)
        # the nodes themselves come first; an image behind an absorbing side, or where h >= 0, is no way to go on
        n = len(nodes.points)
        goes_on = np.append(np.ones(n, bool), level(points[n:]) < 0.0)
        points, number = points[goes_on], number[goes_on]
        beyond = np.zeros(len(points), bool)
        for axis, (edges, sides) in enumerate(zip(self.grid.edges, self.grid.boundary, strict=True)):
            if sides[0] != "periodic":
                beyond |= (points[:, axis] < edges[0]) | (points[:, axis] > edges[-1])
        return Places(points, nodes.weights[number], number, beyond)


def _extended(edges: Array, sides: tuple[str, str], low: float, high: float) -> Array:
    """Edges from below `low` to above `high`: cells behind a side mirror those before it, or repeat those of the other end."""
    widths = np.diff(edges)
    down = edges[0] - np.cumsum(_toward(widths, sides, low=True))
    up = edges[-1] + np.cumsum(_toward(widths, sides, low=False))
    count = int(np.searchsorted(-down, -low)) + 1 if low < edges[0] else 0
    more = int(np.searchsorted(up, high)) + 1 if high > edges[-1] else 0
    return np.concatenate([down[:count][::-1], edges, up[:more]])


def _toward(widths: Array, sides: tuple[str, str], *, low: bool) -> Array:
    """Widths of the cells met when walking away from the box."""
    if sides[0] == "periodic":
        one = widths[::-1] if low else widths
        return np.tile(one, _COPIES + 1)
    first = widths if low else widths[::-1]
    return np.tile(np.concatenate([first, first[::-1]]), _COPIES // 2 + 1)


# ---- the chain on its nodes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class System:
    """Jump probabilities between nodes and into targets; every row, with its targets, sums to one.

    Attributes
    ----------
    nodes : Nodes
    cell : array (n,)
        Cell of the grid (C order) of each node.
    P : array (n, n)
    targets : array (n, m)
        Probability of ending in each target.
    reflected : array (n,)
        Probability of being folded back by a reflecting side (or of landing beyond one at g < 0).
    added : array (n,)
        What the floor of the covariance adds to D.
    total : array (n,)
        Row sums before they were divided by them: one but for the error of the quadrature.
    """

    jumps: Jumps
    landing: Landing
    level: Level
    nodes: Nodes
    cell: NDArray[np.int64]
    P: Array
    targets: Array
    reflected: Array
    added: Array
    total: Array
    mean: Array
    cov: Array
    places: Places
    lines: tuple[Lines, ...]

    @functools.cached_property
    def chain(self) -> DenseChain:
        """The factorised chain, killed where it reaches any target."""
        return DenseChain(self.P, self.targets.sum(axis=1), self._wide_front if self.ends else None)

    @property
    def ends(self) -> bool:
        """Whether some path can end."""
        return any(len(part) > 0 for part in self.lines)

    def _wide_front(self) -> tuple[np.ndarray, np.ndarray]:
        """P and, as last column, the sum of the targets in wide numbers: also what is below doubles."""
        n, places = self.total.size, self.places
        m, e = np.zeros((n, n + 1)), np.full((n, n + 1), wide.ZERO, np.int32)
        transition_wide.wide_density(self.mean, self.cov, places.points, places.weights, places.column, self.total, m, e)
        for part in self.lines:
            ends = part.axis, part.at, part.weight, part.low, part.high
            transition_wide.wide_line_mass(self.mean, self.cov, *ends, self.total, m, e)
        return m, e

    def rows(self, x: Array) -> tuple[Array, Array]:
        """Jump probabilities from points (k, d) to nodes (k, n) and targets (k, m)."""
        mean, cov, _ = self.jumps(x)
        P, targets, _ = _rows(mean, cov, self.places, self.lines, self.nodes.points.shape[0])
        total = P.sum(axis=1) + targets.sum(axis=1)
        return P / total[:, None], targets / total[:, None]

    def log_expected(self, x: Array, log_f: Array, log_target: Array, constant: float = 0.0) -> Array:
        """ln(constant + E[f at the node landed on] + E[f of the target landed in]) for starts (k, d), f given by logarithms."""
        top = float(max(log_f.max(initial=-np.inf), log_target.max(initial=-np.inf), 0.0 if constant else -np.inf))
        f, t = np.exp(log_f - top), np.exp(log_target - top)
        out = np.empty(len(x))
        for start in range(0, len(x), _BLOCK):
            P, targets = self.rows(x[start : start + _BLOCK])
            with np.errstate(divide="ignore"):
                out[start : start + _BLOCK] = top + np.log(P @ f + targets @ t + constant * math.exp(-top))
        return out

    def density(self, mass: Array, y: Array) -> Array:
        """Density at points (k, d) one iteration after the nodes held these masses; zero where no path goes on."""
        out = np.zeros(len(y))
        share = mass / self.total
        kernel = transition.density_1d if y.shape[1] == 1 else transition.density_2d
        some = np.flatnonzero(self.level(y) < 0.0)
        for start in range(0, some.size, _BLOCK):
            at = some[start : start + _BLOCK]
            places = self.landing.images(Nodes(y[at], np.ones(at.size)), self.level)
            block = np.zeros((share.size, at.size))
            kernel(self.mean, self.cov, places.points, places.weights, places.column, block)
            out[at] = share @ block
        return out


def _rows(mean: Array, cov: Array, places: Places, lines: tuple[Lines, ...], n: int) -> tuple[Array, Array, Array]:
    """Raw masses of jumps on nodes (k, n), in targets (k, m), and folded back by reflecting sides (k,)."""
    P, folded = np.zeros((len(mean), n)), np.zeros((len(mean), 1))
    density = transition.density_1d if mean.shape[1] == 1 else transition.density_2d
    density(mean, cov, places.points, places.weights, places.column, P)
    off = places.beyond
    density(mean, cov, places.points[off], places.weights[off], np.zeros(int(off.sum()), np.int64), folded)
    targets = np.zeros((len(mean), len(lines)))
    for k, part in enumerate(lines):
        into = np.zeros(len(mean))
        if mean.shape[1] == 1:
            transition.line_mass_1d(mean, cov, part.low, part.high, into)
        else:
            transition.line_mass_2d(mean, cov, part.axis, part.at, part.weight, part.low, part.high, into)
        targets[:, k] = into
    return P, targets, folded[:, 0]


def _open_ended(lines: Lines, edges: tuple[Array, ...]) -> Lines:
    """Lines that end with the last cell go on for ever."""
    first, last = np.array([e[0] for e in edges])[lines.axis], np.array([e[-1] for e in edges])[lines.axis]
    low, high = np.where(lines.low == first, -np.inf, lines.low), np.where(lines.high == last, np.inf, lines.high)
    return Lines(lines.axis, lines.at, lines.weight, low, high)


def build(jumps: Jumps, q: int, g: Level | None, ends: tuple[Level, ...] | None, max_nodes: int) -> System:
    """The chain on the part g < 0 of the grid (all of it for None).

    Parameters
    ----------
    jumps : Jumps
    q : int
        Gauss nodes per cell and axis.
    g : callable or None
        Level function of the set the chain stays in, finite on the grid.
    ends : tuple of callables, or None
        Level functions of the targets; None: one target, everything else.
    max_nodes : int

    Raises
    ------
    ValueError
        If there are more than `max_nodes` nodes, or a jump that is to be folded back goes too far beyond the grid.
    """
    grid = jumps.grid
    nodes, _ = pieces((lambda y: np.full(y.shape[:-1], -1.0)) if g is None else g, grid.edges, q)
    n = len(nodes.weights)
    if n > max_nodes:
        raise ValueError(
            f"{n} nodes ({q} per cell and axis) would need {24e-9 * n**2:.1f} GB and {n**3 / 1.5e13:.1g} minutes or more, at most "
            f"{max_nodes} are handled; use fewer cells (as wide as the jumps are long is enough) or nodes={max(q - 1, 1)}"
        )
    mean, cov, added = jumps(nodes.points)
    landing = Landing(grid, mean, cov)
    level = landing.seen(g)
    if ends is None:
        lines: tuple[Lines, ...] = (_open_ended(pieces(lambda y: -level(y) - 1e-300, landing.edges, q)[1], landing.edges),)
    else:
        lines = tuple(_open_ended(pieces(end, landing.edges, q)[1], landing.edges) for end in map(landing.met, ends))
    places = landing.images(nodes, level)
    P, targets, folded = _rows(mean, cov, places, lines, n)
    total = P.sum(axis=1) + targets.sum(axis=1)
    if not total.min() > 0.5:
        i = int(np.argmin(total))
        std = np.sqrt(np.diag(cov[i])).tolist()
        raise ValueError(
            f"a jump from x = {nodes.points[i].tolist()} goes to {mean[i].tolist()} with standard deviation {std}, more than "
            f"{_COPIES} box lengths beyond reflecting or periodic sides: the learning rate is too large for the curvature there "
            "(lr U'' > 2) or the noise for the box; give a smaller grid or region, or lower lr"
        )
    P /= total[:, None]
    index = [np.clip(np.searchsorted(e, nodes.points[:, k], side="right") - 1, 0, e.size - 2) for k, e in enumerate(grid.edges)]
    cell = np.ravel_multi_index(tuple(index), grid.shape)
    return System(
        jumps, landing, level, nodes, cell, P, targets / total[:, None], folded / total, added, total, mean, cov, places, lines
    )
