"""What a user must know about a solution on a grid: walls and cells that matter where the mass is, basins that hardly exchange."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from . import _markov
from ._cuts import singular_edges
from ._discretize import Stencil
from .grid import Grid

__all__ = [
    "barred_note",
    "basin_note",
    "cap_note",
    "doubtful",
    "fits",
    "mass_notes",
    "slow_exchange",
    "thickened",
    "thin_note",
    "unresolved",
]

Array = NDArray[np.float64]

#: Mass in the outermost cells of reflecting sides from which a density is said to lean on its walls.
_WALL_MASS = 1e-3
#: Exponent per edge from which a cell is too coarse for its noise, and the mass in such cells that earns a warning.
_PECLET, _PECLET_MASS = 4.0, 0.01
#: Share of the smallest eigenvalue of D that may be added to it, and the mass in cells beyond it that earns a warning.
_ADDED, _ADDED_MASS = 0.1, 1e-3
#: Cells per axis, odd, of the block that must fit into a region for the grid to resolve it, by dimension: in 2-D and 3-D the region
#: may lie across the axes. And of that without which an order seen on a grid does not count.
_BLOCK, _ORDER_BLOCK = {1: 7, 2: 3, 3: 3}, 5
#: Factor between successive times of reaching the fullest cell that separates basins, and the mass beyond it that counts.
_GAP, _BASIN_MASS = 1e6, 1e-3
#: Logarithm of the longest time found from masses in doubles.
_LONGEST = math.log(1e240)


# ---- what cap and walls change in D ---------------------------------------------------------------------------------------


def thickened(process: Any, grid: Grid, st: Stencil) -> NDArray[np.bool_]:
    """Cells (n,) where cap or walls change D by more than a tenth of its smallest eigenvalue."""
    out, changed = np.zeros(grid.size, bool), st.clipped + st.shifted
    cells = np.flatnonzero(changed > 0.0)
    if cells.size:
        eigenvalues = np.linalg.eigvalsh(process.diffusion(grid.points()[cells]))
        # rounding of a singular tensor is no change
        out[cells] = changed[cells] > np.maximum(_ADDED * eigenvalues[:, 0], 1e-12 * eigenvalues[:, -1])
    return out


def cap_note(process: Any, grid: Grid, st: Stencil, thick: NDArray[np.bool_]) -> list[str]:
    """Say where capped offsets add more than a tenth of the smallest eigenvalue to D, whatever mass is there."""
    worst = np.flatnonzero(thick & (st.clipped_by_cap > 0.0))
    if worst.size == 0:
        return []
    points = grid.points()[worst]
    smallest = np.maximum(np.linalg.eigvalsh(process.diffusion(points))[:, 0], 0.0)
    bad = st.clipped_by_cap[worst] > _ADDED * smallest
    if not bad.any():
        return []
    i = int(np.argmax(np.where(bad, st.clipped_by_cap[worst], 0.0)))
    return [
        f"in {int(bad.sum())} cells the longest offset allowed adds more than 10 % of its smallest eigenvalue to D (most at "
        f"x = {points[i].tolist()}: {st.clipped_by_cap[worst][i]:.3g} to {smallest[i]:.3g}); raise max_offset, or use cells "
        "of another shape"
    ]


# ---- where the mass is ----------------------------------------------------------------------------------------------------


def mass_notes(fp: Any, mass: Array) -> list[str]:
    """Reflecting walls that hold visible mass; where the mass is: cells too coarse for the noise, diffusion that was added."""
    total = float(mass.sum())
    if not total > 0.0:
        return []
    out, cells = [], mass.reshape(fp.grid.shape)
    for axis, sides in enumerate(fp.grid.boundary):
        for name, at, side in zip(("low", "high"), (0, -1), sides, strict=True):
            share = float(np.take(cells, at, axis).sum()) / total
            if side == "reflecting" and share > _WALL_MASS:
                out.append(f"the reflecting {name} wall of axis {axis} holds {share:.1%} of the mass in its cells; "
                           "if the wall is not meant, enlarge the box")  # fmt: skip
    return [*out, *unresolved(fp, mass)]


def doubtful(fp: Any) -> NDArray[np.bool_]:
    """Cells (n,) too coarse for the noise, or where cap or walls change D: `unresolved` says nothing unless mass is in them."""
    if fp.scheme != "monotone":
        return np.ones(fp.grid.size, bool)
    return np.asarray((fp.exponent.ravel() > _PECLET) | fp._thickened | (fp._stencil.stream is not None))


def fits(grid: Grid, inside: NDArray[np.bool_], cell: tuple[int, ...], block: int = _ORDER_BLOCK) -> bool:
    """Whether a block of so many cells per axis (odd) lies in the part of a region around a cell.

    Beyond reflecting walls the region goes on, like on the other side of a periodic axis.
    """
    from scipy import ndimage

    half = block // 2
    own, modes = inside, ["wrap" if sides[0] == "periodic" else "edge" for sides in grid.boundary]
    if "wrap" not in modes:
        label = ndimage.label(inside)[0]
        own = label == label[cell]
    for axis, sides in enumerate(grid.boundary):
        width = [(half, half) if k == axis else (0, 0) for k in range(grid.dim)]
        ends = np.moveaxis(padded := np.pad(own, width, mode=modes[axis]), axis, 0)  # type: ignore[call-overload]
        ends[:half] &= sides[0] != "absorbing"
        ends[-half:] &= sides[1] != "absorbing"
        lowest = ndimage.minimum_filter1d(padded.astype(np.uint8), block, axis=axis).astype(bool)
        own = np.moveaxis(np.moveaxis(lowest, axis, 0)[half:-half], 0, axis)
    return bool(own.any())


def thin_note(grid: Grid, inside: NDArray[np.bool_], cell: tuple[int, ...]) -> list[str]:
    """Say that a region is only a few cells thick: coarser grids see little of it, and the error found with them is chance."""
    block = _BLOCK[grid.dim]
    if fits(grid, inside, cell, block):
        return []
    return [f"no block of {block} cells per axis fits into the region; use more cells"]


def unresolved(fp: Any, mass: Array) -> list[str]:
    """Why the cells do not resolve the noise where the mass is; nothing where they do, and where there is no mass."""
    if fp.scheme != "monotone":
        return list(fp._unresolved(mass))
    total = float(mass.sum())
    if not 0.0 < total < math.inf:
        return []
    return [*_coarse_note(fp, mass), *_added_notes(fp, mass.ravel() / total), *_friction_note(fp, mass.ravel() / total)]


def _coarse_note(fp: Any, mass: Array) -> list[str]:
    """Where the mass is, cells too coarse for the noise."""
    cells = mass.reshape(fp.grid.shape)
    share = float(cells[fp.exponent > _PECLET].sum()) / float(mass.sum())
    if not share > _PECLET_MASS:
        return []
    return [f"cells holding {share:.1%} of the mass are too coarse for the noise (exponent up to "
            f"{fp.exponent[cells > 0].max():.3g} per edge, resolved below {_PECLET:g}); use more cells"]  # fmt: skip


def _added_notes(fp: Any, share: Array) -> list[str]:
    out, capped = [], fp._thickened & (fp._stencil.clipped_by_cap > 0.0)
    causes = [
        (capped, f"offsets capped at {fp.max_offset}", "raise max_offset, or use cells of another shape"),
        (fp._thickened & ~capped, "shorter offsets next to reflecting walls", "enlarge the box or use more cells"),
    ]
    for cells, cause, remedy in causes:
        held = float(share[cells].sum())
        if held > _ADDED_MASS:
            out.append(f"in cells holding {held:.1%} of the mass {cause} change D by more than {_ADDED:.0%} "
                       f"of its smallest eigenvalue (see added_diffusion); {remedy}")  # fmt: skip
    return out


def _friction_note(fp: Any, share: Array) -> list[str]:
    """In phase space: what one-sided differences add to the noise, as part of what friction and noise do.

    Weak friction: the energy fed in per time, D_vv (m v)^2, against the same from the diffusion that the differences add along
    v and x; strong friction: the diffusion of positions, T/g, against what they add to it.
    """
    st = fp._stencil
    if st.stream is None:
        return []
    motion, points = fp.process.motion, fp.grid.points()
    flow = np.abs(st.rest) / st.volume[:, None] * st.spacing  # (|v|, |U'|/m)
    push, momentum = motion.mass * flow[:, 1], motion.mass * np.abs(points[:, 1])
    along_x, along_v = 0.5 * flow[:, 0] * st.spacing[:, 0], 0.5 * flow[:, 1] * st.spacing[:, 1]
    pairs = [(along_x * push**2 + along_v * momentum**2, fp.process.diffusion(points)[:, 1, 1] * momentum**2),
             (along_x, fp.process.temperature(points) / motion.friction)]  # fmt: skip
    sums = [(float(share @ added), float(share @ given)) for added, given in pairs]
    part = max(added / given if given > 0.0 else math.inf for added, given in sums)
    if not part > _ADDED:
        return []
    return [f"one-sided differences along the flow of Hamilton's equations add {part:.0%} to what friction and noise do (first "
            "order in the cell width); use more cells, or extrapolate with estimate(..., confirm=True)"]  # fmt: skip


# ---- lines that no path crosses -------------------------------------------------------------------------------------------


def barred_note(process: Any, grid: Grid) -> list[str]:
    """Say that D vanishes on lines that part the box so that no part is left again: then there are several stationary laws.

    Across a line where D vanishes paths go with the drift only. The cells beside it do not see the line.
    """
    edges = singular_edges(process, grid, np.ones(grid.shape, bool))
    if not any(cells.size for _, cells, _ in edges):
        return []
    index = np.arange(grid.size).reshape(grid.shape)
    rows, cols, cut = [], [], []
    for axis, cells, points in edges:
        here, there = index, np.roll(index, -1, axis)
        barred = np.zeros(grid.size, bool)
        barred[cells] = True
        last = np.zeros(grid.shape, bool)
        if grid.boundary[axis][0] != "periodic":
            np.moveaxis(last, axis, 0)[-1] = True
        joined = ~(barred.reshape(grid.shape) | last)
        rows.append(here[joined])
        cols.append(there[joined])
        if cells.size:
            normal = np.linalg.eigh(np.asarray(process.diffusion(points), float))[1][:, :, 0]
            speed = np.sum(np.asarray(process.drift(points), float) * normal, axis=1) * np.sign(normal[:, axis])
            cut.append((here.ravel()[cells], there.ravel()[cells], speed))
    r, c = np.concatenate(rows), np.concatenate(cols)
    parts, label = connected_components(sp.csr_matrix((np.ones(r.size), (r, c)), shape=(grid.size, grid.size)), directed=False)
    left = np.zeros(parts, bool)
    for a, b, speed in cut:
        apart = label[a] != label[b]
        left[label[a[apart & (speed > 0.0)]]] = True
        left[label[b[apart & (speed < 0.0)]]] = True
    if int((~left).sum()) < 2:
        return []
    points = np.concatenate([at for _, _, at in edges])
    shown = ", ".join(str([float(f"{v:.6g}") for v in p]) for p in points[:2])
    return [f"D vanishes at {shown}{', ...' if len(points) > 2 else ''}: Ito paths cannot cross there against the drift, so that "
            f"{int((~left).sum())} parts of the box have stationary laws of their own, and their shares depend on where the "
            "cells lie; give the noise a floor, or ask for the quasi-stationary density of one part"]  # fmt: skip


# ---- basins ---------------------------------------------------------------------------------------------------------------


def basin_note(generator: sp.csr_matrix, mass: Array, grid: Grid) -> list[str]:
    """Say that a stationary density rests on rare exchange between basins, and how long that takes."""
    found = slow_exchange(generator, mass, grid.shape)
    if found is None:
        return []
    log_time, share = found
    time = f"about {math.exp(log_time):.1g}" if log_time < _LONGEST else "more than 1e240"
    return [f"near-degenerate null space, several basins: {share:.1%} of the mass lies beyond a barrier, and the shares of the "
            f"basins are established only after times of {time}; for what is seen before, ask for the quasi-stationary density and "
            "the escape rate of one basin"]  # fmt: skip


def slow_exchange(generator: sp.csr_matrix, mass: Array, shape: tuple[int, ...]) -> tuple[float, float] | None:
    r"""Logarithm of the time in which basins of a chain exchange mass, and the mass beyond the main one; None: one basin.

    Blocks of neighbouring states, with states weighted by their stationary mass, form a small chain with the same stationary law
    (with 4 x 4 states per block its elimination takes 1/64 of the operations). Its mean times :math:`\tau` of reaching the fullest
    block m come without subtractions, so they hold at any barrier. Those of the blocks that hold all but a thousandth of the mass
    (and of the neighbours of m) jump by more than 1e6 from one basin to another, and next to no mass touches the cut. A
    direction that is slow without a barrier has the jump, not the empty cut. Two basins with masses p and 1 - p relax at the sum
    of their rates, in the time :math:`p\,\tau`, p the mass of m's side. Blocks of width w leave out all but one in w of the steps
    over the barrier, so the time is multiplied by w. Beyond exp(`_LONGEST`) masses underflow and it is a lower bound.
    """
    width = min(4 if n >= 64 else 2 if n >= 16 else 1 for n in shape)
    chain, held = _lumped(generator, mass, _blocks(shape, width))
    main = int(np.argmax(held))
    log_tau = np.minimum(_log_times(chain, main), 700.0)
    order = np.argsort(log_tau)
    beyond = 1.0 - np.cumsum(held[order])
    by_mass = np.argsort(-held)
    visible = np.zeros(held.size, bool)
    visible[by_mass[: int(np.searchsorted(np.cumsum(held[by_mass]), 1.0 - _BASIN_MASS)) + 1]] = True
    visible[chain[main].indices] = True
    visible[main] = False
    keep = np.flatnonzero(visible[order])
    if keep.size < 2:
        return None
    jumps = np.where(beyond[keep[1:] - 1] > _BASIN_MASS, np.diff(log_tau[order][keep]), 0.0)
    at = int(np.argmax(jumps)) + 1
    share, slow = float(beyond[keep[at] - 1]), float(log_tau[order][keep[at]])
    near = log_tau < slow - math.log(2.0)
    touching = near & (chain @ (~near).astype(float) > 0.0)
    if not jumps[at - 1] > math.log(_GAP) or held[touching].sum() > _BASIN_MASS * share:
        return None
    return slow + math.log(width * max(1.0 - share, _BASIN_MASS)), share


def _log_times(chain: sp.csr_matrix, main: int) -> Array:
    """ln of the mean times of reaching one state of a chain; at that state itself something very small."""
    open_rows = np.ones(chain.shape[0])
    open_rows[main] = 0.0
    kill = np.zeros(chain.shape[0])
    kill[main] = 1e6 * float(chain.data.max(initial=1e-300))
    return _markov.hitting_time(sp.csr_matrix(sp.diags(open_rows) @ chain), kill, log=True)


def _blocks(shape: tuple[int, ...], width: int) -> NDArray[np.int64]:
    """Block of every state, `width` states per axis."""
    index = np.indices(shape).reshape(len(shape), -1)
    small = tuple(-(-n // width) for n in shape)
    return np.asarray(np.ravel_multi_index(tuple(i // width for i in index), small), np.int64)


def _lumped(generator: sp.csr_matrix, mass: Array, block: NDArray[np.int64]) -> tuple[sp.csr_matrix, Array]:
    """Rates between blocks, states weighted by mass (equally where all underflow), and the mass of every block."""
    m = int(block.max()) + 1
    held = np.bincount(block, weights=mass, minlength=m)
    top = np.zeros(m)
    np.maximum.at(top, block, mass)
    weight = np.where(top[block] > 0.0, mass / np.where(top > 0.0, top, 1.0)[block], 1.0)
    weight /= np.bincount(block, weights=weight, minlength=m)[block]
    Q = generator.tocoo()
    off = block[Q.row] != block[Q.col]
    rates = sp.csr_matrix((Q.data[off] * weight[Q.row[off]], (block[Q.row[off]], block[Q.col[off]])), shape=(m, m))
    return rates, held / held.sum()
