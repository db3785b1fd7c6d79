"""First-passage runs: the smooth pieces of a region, and the escape kernel driven over a queue of trajectories."""

from __future__ import annotations

import functools
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._code import Code, DerivedCode, ExpressionCode
from ._components import Turns, component_for_jumps, inside
from ._kernels.langevin import (
    ACTIVE,
    BASE,
    CENSORED,
    DEADLINE,
    DONE,
    ENTRIES,
    ESCAPED,
    FAILED,
    FREE,
    LIMIT,
    NEXT,
    SEED,
    STEP,
    STOP,
    STRIDE,
    UNFINISHED,
)
from ._kernels.rng import LANES
from ._known import fact, name_of
from ._runner import Control, aligned
from ._schedule import ScheduledConstants
from ._schemes import zero_outputs
from ._step_text import Fused
from .chains import SGDChain
from .expressions import parse
from .process import Process
from .region import Region

__all__ = [
    "Passage",
    "Queue",
    "check_bridge",
    "check_component",
    "check_inside",
    "check_leaving",
    "exit_sides",
    "region_for_jumps",
    "surface_codes",
]

Array = NDArray[np.float64]

#: Kernel calls aim at this many lane steps.
LANE_STEPS_PER_CALL = 1 << 25
#: Surfaces are handled in symbols up to this dimension.
MAX_SYMBOLIC = 16


class _PieceCode(ExpressionCode):
    """Expressions in x0... and p0... whose parameter values are those of another code."""

    def __init__(self, expressions: Any, parent: Code, origin: str | None) -> None:
        variables = [f"x{i}" for i in range(parent.dim)]
        super().__init__(expressions, variables, [f"p{i}" for i in range(parent.n_params)], origin)
        self.parent = parent

    def pack(self, params: Mapping[str, float]) -> Array:
        values = self.parent.pack(params)
        return np.array([values[int(name[1:])] for name in self.names])

    def jacobian(self) -> ExpressionCode:
        return _PieceCode(self.slopes, self.parent, self.derived("jacobian"))


def _pieces_of_text(formula: str, names: Sequence[str]) -> list[Any]:
    """The smooth pieces of scalar source made by a Region."""
    text = re.sub(r"\b([xp])\[(\d+)\]", r"\1\2", formula).replace("fmax(", "max(").replace("fabs(", "abs(")
    return _pieces(parse(text, names))


def _pieces_of_code(code: ExpressionCode) -> list[Any]:
    return _pieces(code.expressions[0])


def _pieces(expression: Any) -> list[Any]:
    from ._kinks import pieces

    return sorted(pieces(expression), key=str)


def surface_codes(code: Code) -> tuple[Code, Code]:
    """(faces, slopes): smooth functions whose maximum is g, and their derivatives.

    A box is the maximum of its faces, each of which is a plane with a test of its own; where g is one expression it is one face.
    Derivatives are symbolic where the region or its landscape has them, else central differences.
    """
    if code.dim > MAX_SYMBOLIC and str(getattr(code, "kind", "")):
        return code, code.jacobian()  # a ball, a half-space or a box: as text it would be long
    formula = getattr(code, "formula", None)
    if formula is not None:
        names = [f"x{i}" for i in range(code.dim)] + [f"p{i}" for i in range(code.n_params)]
        faces: ExpressionCode = _PieceCode(functools.partial(_pieces_of_text, formula, names), code, name_of("pieces", formula))
        return faces, faces.jacobian()
    if isinstance(code, ExpressionCode):
        faces = ExpressionCode(functools.partial(_pieces_of_code, code), code.variables, code.names, code.derived("pieces"))
        return faces, faces.jacobian()
    if isinstance(code, DerivedCode) and code.outputs == ("c0[0] - c1[0]",) and not code.lines:
        return code, code.children[0].jacobian()  # U(x) - level
    return code, code.jacobian()


def exit_sides(region: Region, points: Array) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Through which side of the region each of points (n, d) lies, and the names of the sides; -1 where a point is NaN.

    The sides are the smooth pieces of the surface; of a box the finite faces in the order of the axes, low side first. A point
    beyond two faces (a chain, or a step without bridge, may end there) counts for the one it is further beyond.
    """
    if region.dim > MAX_SYMBOLIC and str(getattr(region.code, "kind", "")):
        return _sides_of(region, points)
    faces = surface_codes(region.code)[0]
    if faces.n_out == 1:
        names, order = [region.name], [0]
    else:
        assert isinstance(faces, ExpressionCode)
        sides = _sides(faces, faces.pack(region.params))
        order = sorted((i for i, side in enumerate(sides) if side is not None), key=lambda i: sides[i] or ())
        names = [str(sides[i][-1]) for i in order]  # type: ignore[index]
    found = np.full(len(points), -1, np.int64)
    there = np.isfinite(points).all(axis=1)
    if there.any():
        found[there] = np.argmax(faces.evaluate(points[there], region.params)[:, order], axis=1)
    return found, tuple(names)


def _sides(faces: ExpressionCode, values: Array) -> list[tuple[Any, ...] | None]:
    """Sort keys of the sides with their names at the end; None for a face at infinity."""
    value = dict(zip(faces.names, values.tolist(), strict=True))
    sides: list[tuple[Any, ...] | None] = []
    for i, plane in enumerate(fact(faces.origin, "planes", lambda: [_plane(e, faces.variables) for e in faces.expressions])):
        if plane is None:
            sides.append(_side(faces.expressions[i], faces.names, values))
            continue
        variable, slope, factor, rest = plane
        at = -slope * factor * value.get(rest, 1.0)
        sides.append(None if abs(at) >= 1e300 else (0, variable, slope, at, f"{variable} = {at:g}"))
    return sides


def _plane(expression: Any, variables: Sequence[str]) -> list[Any] | None:
    """[variable, slope, factor, parameter] of slope*variable + factor*parameter with slope 1 or -1, else None."""
    here = [s for s in expression.free_symbols if str(s) in variables]
    if len(here) != 1 or (slope := expression.diff(here[0])) not in (1, -1):
        return None
    factor, rest = (expression - slope * here[0]).as_coeff_Mul()
    return [str(here[0]), int(slope), float(factor), str(rest)] if rest.is_Symbol or rest == 1 else None


def _sides_of(region: Region, points: Array) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The same for a ball, a half-space or a box of many dimensions."""
    found, there = np.full(len(points), -1, np.int64), np.isfinite(points).all(axis=1)
    if region.code.kind != "box":  # type: ignore[attr-defined]
        found[there] = 0
        return found, (region.name,)
    low, high = np.split(region.code.values, 2)  # type: ignore[attr-defined]
    sides = [(k, sign, at) for k in range(region.dim) for sign, at in ((-1.0, low[k]), (1.0, high[k])) if abs(at) < 1e300]
    if there.any():
        beyond = np.stack([sign * (points[there, k] - at) for k, sign, at in sides], axis=1)
        found[there] = np.argmax(beyond, axis=1)
    return found, tuple(f"x{k} = {at:g}" for k, _, at in sides)


def _side(expression: Any, names: Sequence[str], values: Array) -> tuple[Any, ...] | None:
    """Sort key of a side with its name at the end: a plane of a box is x_i = c; None for a face at infinity."""
    value = dict(zip(names, values.tolist(), strict=True))
    filled = expression.subs({s: value[str(s)] for s in expression.free_symbols if str(s) in value})
    variables = sorted(filled.free_symbols, key=str)
    if len(variables) == 1:
        slope = filled.diff(variables[0])
        if slope in (1, -1):
            at = float(-filled.subs(variables[0], 0) / slope)
            return None if abs(at) >= 1e300 else (0, str(variables[0]), int(slope), at, f"{variables[0]} = {at:g}")
    return (1, str(filled), 0, 0.0, f"{filled} = 0")


# ---- what can be said before any work -------------------------------------------------------------------------------


def check_inside(points: Array, region: Region, dim: int) -> None:
    """Starting points must have g < 0."""
    if region.dim != dim:
        raise ValueError(f"the region is {region.dim}-D, the process {dim}-D")
    g = region.g(points)
    if np.any(out := ~(g < 0.0)):
        i = int(np.argmax(out))
        where = f"x0[{i}] = " if len(points) > 1 else "x0 = "
        raise ValueError(f"{where}{points[i].tolist()} is not inside {region!r}: g = {g[i]:.6g}, must be < 0")


def check_bridge(process: Process, points: Array, slopes: Code, region: Region) -> None:
    """Without noise along the normal there is no bridge; the whole surface cannot be checked, the start can."""
    some = points[:: max(1, len(points) // 64)]
    normals = slopes.evaluate(some, region.params).reshape(len(some), -1, process.dim)
    across = np.einsum("nfi,nij,nfj->nf", normals, process.diffusion(some), normals)
    seen = np.einsum("nfi,nfi->nf", normals, normals) > 0.0
    if np.any(seen) and not np.any(across[seen] > 0.0):
        raise ValueError(
            f"the Brownian bridge does not apply: n.D n = 0 at x0 = {some[0].tolist()}, "
            "there is no noise across the surface; use correction=None"
        )


def check_leaving(process: Process | None, points: Array, region: Region, slopes: Code) -> None:
    """Refuse what would run for ever: a region without a surface, or a path that stands still."""
    bounds = getattr(region.code, "values", np.zeros(0))
    if len(zero_outputs(slopes)) == slopes.n_out or (bounds.size and np.all(np.abs(bounds) >= 1e300)):
        raise ValueError(f"{region!r} can never be left: its g is negative everywhere; give a region with a surface")
    if (
        process is None
        or process.noise.stable is not None
        or (process.noise.is_constant and process.diffusion(points[0, : process.dim]).any())
    ):
        return
    x = points[:, : process.dim]
    still = ~process.drift(x).any(axis=-1) & ~process.diffusion(x).any(axis=(-2, -1))
    if still.any():
        raise ValueError(
            f"x0 = {x[np.argmax(still)].tolist()} is an equilibrium without noise (drift and D are zero): a path that starts there "
            "stays there, and never leaves the region; start elsewhere or add noise"
        )


def check_component(points: Array, region: Region, turns: Turns = ()) -> None:
    """With `containing`, every start (of at most 4096) must be in the component of that point, which a path cannot leave unseen.

    The straight segment shows it where it is inside; in 1-D there is no other way. In 2-D a flood fill on grids around the points
    is the second try, and where an axis has a period (`turns`) the component on it. Beyond, what cannot be shown is warned of.
    """
    if region.containing is None:
        return
    starts = np.unique(points, axis=0)
    starts = starts[:: -(-len(starts) // 4096)]
    apart = starts[~_segments_inside(region, starts, region.containing)]
    for factor in (0.5, 2.0, 8.0) if region.dim == 2 else ():
        if len(apart):
            apart = apart[~_joined(region, apart, region.containing, factor)]
    if len(apart) and any(turns) and region.dim <= 2:
        width = max(b - a for a, b in filter(None, turns))
        apart = apart[~inside(component_for_jumps(region, apart, width / 16.0, turns), apart)]
    if not len(apart):
        return
    message = (
        f"x0 = {apart[0].tolist()} cannot be shown to lie in the component of {region!r}: no path inside the region was found "
        f"between the two points; for the component of this start make the region with containing={apart[0].tolist()}"
    )
    if region.dim <= 2:
        raise ValueError(message)
    warnings.warn(f"{message}. Only the straight segment was tried in {region.dim}-D", RuntimeWarning, stacklevel=4)


def _segments_inside(region: Region, starts: Array, ends: Array) -> NDArray[np.bool_]:
    """Whether the segments from starts (n, d) to ends (n, d) or (d,) are inside, looked at in 257 points each."""
    ends = np.broadcast_to(ends, starts.shape)
    s = np.linspace(0.0, 1.0, 257)[:, None]
    found = [inside(region, a + s * (b - a)).all() for a, b in zip(starts, ends, strict=True)]
    return np.array(found, bool)


def _joined(region: Region, starts: Array, point: Array, factor: float) -> NDArray[np.bool_]:
    """Which of starts (n, 2) are joined to `point` by cells of a 400 x 400 grid, on each side `factor` times wider than them."""
    from scipy import ndimage
    from scipy.spatial import cKDTree

    everything = np.vstack([point[None], starts])
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = factor * float((high - low).max())
    axes = [np.linspace(a - margin, b + margin, 400) for a, b in zip(low, high, strict=True)]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    labels = ndimage.label(inside(region, cells))[0]
    if not labels.any():
        return np.zeros(len(starts), bool)
    centers, names = cells[labels > 0], labels[labels > 0]
    near = cKDTree(centers).query(everything, k=min(4, len(centers)))[1].reshape(len(everything), -1)
    touched = [
        set(names[row][_segments_inside(region, np.repeat(p[None], len(row), axis=0), centers[row])].tolist())
        for p, row in zip(everything, near, strict=True)
    ]
    return np.array([bool(touched[0] & other) for other in touched[1:]])


def region_for_jumps(region: Region, points: Array, process: SGDChain | Process, h: float, turns: Turns = ()) -> Region:
    """The region that jumps can leave by landing in another component: with `containing`, that component alone."""
    if region.containing is None:
        return region
    step = 1.0
    if isinstance(process, Process):
        if process.noise.stable is not None:
            step = process.noise.stable.scale * h ** (1.0 / process.noise.stable.alpha)
    elif (known := process.process or process.reference) is not None and process.optimizer == "sgd" and region.dim == process.dim:
        x, lr = points[:: max(1, len(points) // 64)], process.lr_at(0)
        cov, move = 2.0 * lr * known.diffusion(x), lr * known.drift(x)
        step = float(np.sqrt(np.trace(cov, axis1=1, axis2=2).max())) + float(np.linalg.norm(move, axis=1).max()) or 1.0
    return component_for_jumps(region, points, step, turns)


# ---- the run --------------------------------------------------------------------------------------------------------


@dataclass
class Queue(ABC):
    """One escape run: results by trajectory, and the loop over calls of a kernel whose lanes take trajectories from a queue.

    A kernel has a class of its own, which says what its lanes keep (`place`), how long a call is (`length`) and how it is called
    (`advance`).
    """

    constants: Array
    clock: float  # duration of a step in the unit of the times
    x0: Array  # (1 or n, state variables)
    limit: int  # steps after which a trajectory is censored
    seed: int
    times: Array
    status: NDArray[np.int8]
    points: Array
    finished: NDArray[np.bool_]  # whole units of work only
    schedule: ScheduledConstants | None = None
    first: int = 0  # number in the ensemble of the seed of the trajectory that is the first here

    lanes: ClassVar[int]

    @property
    @abstractmethod
    def length(self) -> int:
        """Steps of a call: some tenths of a second, so that Ctrl-C and progress are prompt."""

    @abstractmethod
    def place(self, lo: int) -> dict[str, NDArray[Any]]:
        """Arrays in which the lanes keep their place: index, birth, meta with the entries of the kernel's own, and more."""

    @abstractmethod
    def restart(self, place: dict[str, NDArray[Any]]) -> None:
        """All lanes are free, and the steps are counted from zero again."""

    @abstractmethod
    def advance(self, place: dict[str, NDArray[Any]], constants: Array, until: int) -> None:
        """Call the kernel."""

    def work(self, lo: int, hi: int, control: Control) -> None:
        """Run trajectories [lo, hi) to their ends, or until the run is stopped: those under way are then censored."""
        place = self.place(lo)
        index, birth, meta = place["index"], place["birth"], place["meta"]
        # a schedule knows one age only: as many trajectories as there are lanes start together, and the next when all are done
        together = hi if self.schedule is None else min(lo + self.lanes, hi)
        meta[[NEXT, STOP, LIMIT, SEED, BASE]] = lo, together, self.limit, self.seed, self.first
        meta[STRIDE] = 0 if len(self.x0) == 1 else 1
        kept = place | {"times": self.times[lo:hi], "status": self.status[lo:hi], "points": self.points[lo:hi]}
        for name, value in (control.resume(lo, hi) or {}).items():
            if name != "done":
                kept[name][...] = value

        def saved() -> dict[str, Any]:
            return {"done": float(meta[DONE]), **{name: array.copy() for name, array in kept.items()}}

        before = int(meta[DONE])
        while meta[DONE] < hi - lo and not control.stopped:
            constants, length = self.constants, self.length
            if self.schedule is not None:
                if meta[DONE] == meta[STOP] - lo:
                    self.restart(place)
                    meta[[STEP, STOP]] = 0, min(int(meta[STOP]) + self.lanes, hi)
                constants = self.schedule.rows(int(meta[STEP]))
                length = min(length, len(constants))
            self.advance(place, constants, int(meta[STEP]) + length)
            control.add(int(meta[DONE]) - before)
            control.reach(int(meta[STEP]))
            before = int(meta[DONE])
            control.keep(lo, hi, saved)
        if meta[DONE] == hi - lo:
            self.finished[lo:hi] = True
            control.drop(lo, hi)
            return
        control.keep(lo, hi, saved)
        for lane in np.flatnonzero(index >= 0):
            self.status[index[lane]] = CENSORED
            self.times[index[lane]] = (meta[STEP] - birth[lane]) * self.clock

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that a checkpoint keeps of the trajectories that are finished."""
        return {"times": self.times, "status": self.status, "points": self.points, "finished": self.finished}

    def collect(self, t_max: float | None) -> tuple[Array, NDArray[np.bool_], Array, int]:
        """(times, censored, exit points, number failed) of the trajectories that were started."""
        started = self.status != UNFINISHED
        times, status, points = self.times[started], self.status[started], self.points[started]
        if t_max is not None:  # the last step may reach beyond the watch
            late = (status == ESCAPED) & (times > t_max)
            status[late] = CENSORED
            times[status == CENSORED] = np.minimum(times[status == CENSORED], t_max)
        times[status == FAILED] = np.nan
        points[status != ESCAPED] = np.nan
        return times, status == CENSORED, points, int(np.sum(status == FAILED))


@dataclass
class Passage(Queue):
    """A run of the fused kernel."""

    fused: Fused = field(kw_only=True)
    arguments: tuple[Array, ...] = field(kw_only=True)  # packed parameters

    lanes: ClassVar[int] = LANES

    @property
    def length(self) -> int:
        return LANE_STEPS_PER_CALL // LANES

    def place(self, lo: int) -> dict[str, NDArray[Any]]:
        meta = np.zeros(ENTRIES, np.int64)
        meta[[FREE, DEADLINE]] = LANES, 1 << 62
        lanes = aligned(1, self.fused.layout.rows * LANES)[0].view(np.uint64)  # type: ignore[attr-defined]
        freed = np.arange(LANES)[::-1].copy()  # a stack: the first trajectory takes lane 0
        return {"index": np.full(LANES, -1), "birth": np.zeros(LANES, np.int64), "freed": freed, "meta": meta, "lanes": lanes}

    def restart(self, place: dict[str, NDArray[Any]]) -> None:
        place["index"][:], place["freed"][:] = -1, np.arange(LANES)[::-1]
        place["meta"][[ACTIVE, FREE, DEADLINE]] = 0, LANES, 1 << 62

    def advance(self, place: dict[str, NDArray[Any]], constants: Array, until: int) -> None:
        lanes, index, birth, freed, meta = (place[name] for name in ("lanes", "index", "birth", "freed", "meta"))
        self.fused.module.escape(
            lanes.view(np.float64), index, birth, freed, meta, self.x0, constants, *self.arguments, self.clock, self.times,
            self.status, self.points, until,
        )  # fmt: skip
