"""Models of many dimensions: what is refused, their runs, and first passage out of a region."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._blocks import WideRun, stride
from ._kernels.langevin import ENTRIES
from ._kernels.rng import LANES
from ._model import MAX_FUSED_DIM, Model
from ._passage import Queue, check_component, check_inside, region_for_jumps
from ._paths import Plan, Records
from ._rows import rows_of
from ._runner import aligned
from ._surfaces import Surface, make_surface
from ._tensors import DiagonalCode, LineTableCode, LowRankCode
from ._wide import ADDITIVE, FRESH, PROGRAMS, START, Wide, wide_escape, wide_paths
from ._wide_noise import noise_rows
from .process import Process

__all__ = ["WidePassage", "check_wide", "wide_passage", "wide_run"]

Array = NDArray[np.float64]

#: Memory of a panel of the escape kernel.
MAX_PANEL = 1 << 30


def check_wide(model: Model) -> None:
    """Refuse what the wide kernels do not know, with what to use instead."""
    process, name, d = model.process, model.scheme.name, model.process.dim
    if model.walls is not None:
        raise ValueError(f"walls are put around processes of up to {MAX_FUSED_DIM} dimensions, this one has {d}")
    if process.noise.stable is not None:
        raise ValueError(f"Levy noise is simulated in up to {MAX_FUSED_DIM} dimensions, this process has {d}")
    if name not in PROGRAMS:
        raise ValueError(f"method {name!r} is not available in {d} dimensions; use {', '.join(PROGRAMS)}")
    if name in ADDITIVE and not process.noise.is_constant:
        raise ValueError(f"above {MAX_FUSED_DIM} dimensions {name} is for constant noise; use method='euler'")
    if model.driven is not None and model.driven.params is not None:
        raise ValueError(
            f"parameters that move with time are for up to {MAX_FUSED_DIM} dimensions, this process has {d}; noise= may move"
        )


def wide_run(model: Model, points: Array, plan: Plan, records: Records, seed: int, first: int = 0) -> WideRun:
    """The run of a model, its kernel compiled."""
    check_wide(model)
    process, constants = model.process.unscaled, model.constants
    drift = rows_of(process.drift_code, "drift_rows", process.params)
    noise = noise_rows(process.factor_code, process.params)
    wide = wide_paths(model.scheme.name, process.dim, model.variables, drift, noise, constants, model.changing)
    values = np.array(list(constants.values()))
    return WideRun(wide, values, points, model.shown, seed, plan, records, model.scheduled(constants, plan.steps), first)


# ---- first passage --------------------------------------------------------------------------------------------------


@dataclass
class WidePassage(Queue):
    """A run of a wide kernel: a panel of 64 lanes."""

    wide: Wide = field(kw_only=True)

    lanes: ClassVar[int] = 64

    @property
    def length(self) -> int:
        return 4 * stride(self.wide)

    def place(self, lo: int) -> dict[str, NDArray[Any]]:
        meta = np.zeros(ENTRIES, np.int64)
        meta[[START, FRESH]] = lo, 1
        words, panel = aligned(1, 6 * LANES)[0].view(np.uint64), aligned(1, self.wide.layout.height * 64)[0]
        return {"index": np.full(64, -1), "birth": np.zeros(64, np.int64), "meta": meta, "words": words, "panel": panel}

    def restart(self, place: dict[str, NDArray[Any]]) -> None:
        place["meta"][FRESH] = 1

    def advance(self, place: dict[str, NDArray[Any]], constants: Array, until: int) -> None:
        words, panel, index, birth, meta = (place[name] for name in ("words", "panel", "index", "birth", "meta"))
        self.wide.module.escape(
            words.view(np.float64), panel, index, birth, meta, self.x0, constants, *self.wide.arguments, self.clock, self.times,
            self.status, self.points, until,
        )  # fmt: skip


def wide_passage(
    model: Model,
    points: Array,
    region: Any,
    n: int,
    limit: int | None,
    seed: int,
    bridge: bool,
    clock: float,
    chain: Any,
    first: int = 0,
) -> WidePassage:
    """Check start and region, and set the kernel up."""
    check_wide(model)
    process, constants = model.process.unscaled, model.constants
    inside = points[:, : region.dim]
    check_inside(inside, region, region.dim)
    surface = make_surface(region)
    _check_leaving(None if model.scheme.equations == "underdamped" else process, points, region)
    check_component(inside, region)
    if region.containing is not None and chain is not None:
        region_for_jumps(region, inside, chain, model.h)  # warns: components are known in one and two dimensions
    if bridge:
        _check_bridge(process, inside, surface)
    drift = rows_of(process.drift_code, "drift_rows", process.params)
    noise = noise_rows(process.factor_code, process.params)
    size = 64 * 8 * surface.count * process.dim if bridge else 0
    if size > MAX_PANEL:
        raise ValueError(
            f"{surface.count} faces in {process.dim} dimensions need {size / 1e9:.3g} GB for their normals; use correction=None "
            "or a region with fewer finite faces"
        )
    wide = wide_escape(
        model.scheme.name, process.dim, model.variables, drift, noise, constants, model.changing, surface.faces,
        surface.slopes, surface.count, region.dim, bridge,
    )  # fmt: skip
    results = (np.full(n, np.nan), np.zeros(n, np.int8), np.full((n, region.dim), np.nan), np.zeros(n, bool))
    ends = (1 << 61) if limit is None else limit
    values = np.array(list(constants.values()))
    return WidePassage(values, clock, points, ends, seed, *results, model.scheduled(constants, limit), first, wide=wide)


def _check_leaving(process: Process | None, points: Array, region: Any) -> None:
    """Refuse a path that stands still."""
    tensor = None if process is None else process.noise.diffusion_code
    if process is None or (isinstance(tensor, LowRankCode) and tensor.any) or isinstance(tensor, LineTableCode):
        return
    x = points[:: max(1, len(points) // 64), : process.dim]
    if isinstance(tensor, DiagonalCode):
        noisy = tensor.diagonal(x, process.params).any(axis=1)
    elif process.noise.is_constant:
        noisy = np.full(len(x), process.noise.matrix is not None and process.noise.matrix.any())
    else:
        return
    still = ~process.drift(x).any(axis=-1) & ~noisy
    if still.any():
        raise ValueError(
            f"x0 = {np.array2string(x[np.argmax(still)], threshold=20)} is an equilibrium without noise (drift and D are zero): a "
            f"path that starts there stays there, and never leaves {region!r}; start elsewhere or add noise"
        )


def _check_bridge(process: Process, points: Array, surface: Surface) -> None:
    """Without noise along the normal there is no bridge; the whole surface cannot be checked, the start can."""
    some = points[:: max(1, len(points) // 64)]
    normals = surface.normals(some)
    across = spread_along(process, some, normals)
    seen = np.einsum("nfi,nfi->nf", normals, normals) > 0.0
    if np.any(seen) and not np.any(across[seen] > 0.0):
        raise ValueError(
            f"the Brownian bridge does not apply: n.D n = 0 at x0 = {np.array2string(some[0], threshold=20)}, "
            "there is no noise across the surface; use correction=None"
        )


def spread_along(process: Process, points: Array, normals: Array) -> Array:
    """n.D(x) n for points (k, d) and vectors (k, faces, d); no d x d matrix where the tensor has parts."""
    tensor, params = process.noise.diffusion_code, process.params
    if isinstance(tensor, LowRankCode):
        return tensor.form(normals)
    if isinstance(tensor, LineTableCode):
        return tensor.form(points, normals)
    if isinstance(tensor, DiagonalCode):
        return np.asarray(np.einsum("nfi,ni->nf", normals**2, tensor.diagonal(points, params)))
    return np.array([np.einsum("fi,ij,fj->f", g, process.diffusion(x), g) for x, g in zip(points, normals, strict=True)])
