"""What is kept of an ensemble: the plan made from the options of `simulate`, and the result put together from the records."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import numbers
from ._kernels.rng import LANES
from ._paths import Plan, Records, moments_of
from ._runner import check_count
from ._watch import autocorrelation, group_size, lane_bytes, occupation
from .errors import FpsolveError
from .grid import Grid
from .process import Process
from .region import Region
from .results import Density, Trajectories

__all__ = ["cure_for", "make_plan", "trajectories"]

Array = NDArray[np.float64]

#: Memory that the autocorrelation of a run may take.
MAX_BYTES = 2 << 30


def make_plan(
    save: Any, steps: int, clock: float, unit: str, t_burn: float | None, every: int, bins: Any, ranges: Any, axes: Any, dim: int,
    lags: Any = None, regions: Any = None, n: int = 1, positions: int | None = None,
) -> tuple[Plan, Grid | None]:  # fmt: skip
    """Turn times into steps and check the options that belong together; of `dim` components the first are `positions`."""
    every = check_count("every", every)
    kinds = ("final", "moments", "histogram", "autocorrelation", "occupation")
    if isinstance(save, str) and save not in kinds:
        raise ValueError(f"save must be one of {', '.join(kinds)} or a sequence of times, got {save!r}")
    averaging = isinstance(save, str) and save != "final"
    if t_burn is not None and not averaging:
        raise ValueError("t_burn belongs to save='moments', 'histogram', 'autocorrelation' or 'occupation'")
    for name, value, kind in (("lags", lags, "autocorrelation"), ("regions", regions, "occupation")):
        if value is not None and not (isinstance(save, str) and save == kind):
            raise ValueError(f"{name} belongs to save={kind!r}")
    if isinstance(save, str) and save in kinds[3:] and t_burn is None:
        t_burn = 0.0
    start = None
    if t_burn is not None:
        burn = float(numbers("t_burn", t_burn, "a number"))
        start = round(burn / clock) if math.isfinite(burn) else -1
        if every > steps:
            raise ValueError(f"every must be at most the number of steps, {steps}, got {every}")
        if not 0 <= start <= steps - every:
            raise ValueError(f"t_burn = {t_burn:g} must be in [0, t - every*dt] = [0, {(steps - every) * clock:g}]")
    grid = None
    if isinstance(save, str) and save == "histogram":
        grid, chosen = _histogram_grid(bins, ranges, axes, dim)
        low = np.array([a[0] for a in grid.axes])
        scale = np.array([a[2] / (a[1] - a[0]) for a in grid.axes])
        wraps = tuple(sides[0] == "periodic" for sides in grid.boundary)
        graded = tuple(len(axis) > 3 for axis in grid.axes)
        edges = np.full((grid.dim, max(grid.shape) + 1), np.inf)
        for k, e in enumerate(grid.edges):
            edges[k, : e.size] = (e - low[k]) * scale[k]
        return Plan(steps, (), start, every, chosen, low, scale, grid.shape, wraps, graded, edges), grid
    if bins is not None or ranges is not None or (axes is not None and save != "autocorrelation"):
        raise ValueError("bins and ranges belong to save='histogram', axes to that or to save='autocorrelation'")
    if isinstance(save, str) and save == "autocorrelation":
        assert start is not None
        return _correlation_plan(lags, axes, steps, start, every, clock, dim, n), None
    if isinstance(save, str) and save == "occupation":
        some = _regions(regions, (dim if positions is None else positions, dim))
        return Plan(steps, (), start, every, tuple(range(max(r.dim for r in some))), regions=some), None
    if isinstance(save, str):
        return Plan(steps, (), start, every), None
    times = np.atleast_1d(numbers("save", save, f"one of {', '.join(kinds)} or a sequence of times"))
    with np.errstate(over="ignore"):
        stops = np.rint(times / clock)
    if times.ndim != 1 or times.size == 0 or not np.all(np.isfinite(times)) or np.any(stops < 0) or np.any(stops > steps):
        raise ValueError(f"save: times must be a list of numbers in [0, t] = [0, {steps * clock:g}], got {save!r}")
    if np.any(np.diff(stops) <= 0):
        raise ValueError(f"save: times must increase by at least one {'iteration' if unit == 'iteration' else f'dt = {clock:g}'}")
    return Plan(steps, tuple(int(s) for s in stops)), None


def _correlation_plan(
    lags: Any, axes: Any, steps: int, start: int, every: int, clock: float, dim: int, n: int
) -> Plan:  # fmt: skip
    if lags is None:
        raise ValueError("save='autocorrelation' needs lags: the longest one (a number) or all of them (a sequence of times)")
    step, samples = every * clock, (steps - start) // every
    times = numbers("lags", lags, "a time > 0 or a list of times >= 0")
    if times.ndim > 1 or times.size == 0 or not np.all((times >= 0.0) & (times <= steps * clock)):
        raise ValueError(f"lags must be a time > 0 or a list of times >= 0, got {lags!r}")
    counts = np.arange(round(float(times) / step) + 1) if times.ndim == 0 else np.unique(np.append(0, np.rint(times / step)))
    longest = int(counts[-1])
    if not 1 <= longest < samples:
        raise ValueError(
            f"the longest lag must be >= every*dt = {step:g} and below t - t_burn = {samples * step:g}, got {longest * step:g}"
        )
    chosen = _axes(axes, dim, dim)
    if not chosen or len(set(chosen)) != len(chosen) or not all(0 <= a < dim for a in chosen):
        raise ValueError(f"axes must be different coordinates in 0..{dim - 1}, got {axes!r}")
    plan = Plan(steps, (), start, every, chosen, lags=tuple(int(k) for k in counts), group=group_size(n))
    tables = 8 * len(counts) * len(chosen) ** 2 * -(-n // plan.group)
    if max(tables, LANES * lane_bytes(plan)) > MAX_BYTES:
        raise ValueError(
            f"{len(counts)} lags of a {len(chosen)} x {len(chosen)} matrix for {n} trajectories would take more than "
            f"{MAX_BYTES >> 30} GB: choose components with axes=, or fewer lags: np.geomspace({step:g}, {longest * step:g}, 50)"
        )
    return plan


def _axes(axes: Any, default: int, dim: int) -> tuple[int, ...]:
    """The chosen coordinates, the first ones by default; whether they exist is for the caller to see."""
    if axes is None:
        return tuple(range(default))
    chosen = numbers("axes", axes, f"coordinates in 0..{dim - 1}").ravel()
    if not np.array_equal(chosen, np.rint(chosen)):
        raise ValueError(f"axes must be different coordinates in 0..{dim - 1}, got {axes!r}")
    return tuple(int(a) for a in chosen)


def _regions(regions: Any, dims: tuple[int, int]) -> tuple[Region, ...]:
    if not isinstance(regions, Sequence) or len(regions) == 0:
        raise ValueError("save='occupation' needs regions: a list of Region, e.g. [Region.ball(a, r), Region.ball(b, r)]")
    for region in regions:
        if not isinstance(region, Region):
            raise TypeError(f"regions must be Regions, got {type(region).__name__}: {region!r}")
        if region.dim not in dims:
            raise ValueError(f"{region!r} is {region.dim}-D, the state {' or '.join(f'{d}-D' for d in sorted(set(dims)))}")
        if region.containing is not None:
            raise ValueError(
                f"{region!r} is one component of {region.name}, which single points cannot be tested for: use a ball or a box"
            )
    return tuple(regions)


def _histogram_grid(bins: Any, ranges: Any, axes: Any, dim: int) -> tuple[Grid, tuple[int, ...]]:
    if bins is None:
        raise ValueError("save='histogram' needs bins: a Grid, or numbers of cells with ranges=((lo, hi), ...)")
    if isinstance(bins, Grid):
        grid = bins
        if ranges is not None:
            raise ValueError("ranges is refused where bins is a Grid, which has its own")
    else:
        if ranges is None:
            raise ValueError("a histogram with bins as numbers needs ranges=((lo, hi), ...)")
        pairs = np.atleast_2d(numbers("ranges", ranges, "((lo, hi), ...)"))
        cells = [bins] * len(pairs)
        if not isinstance(bins, (int, np.integer)):
            cells = numbers("bins", bins, "a Grid, a number of cells or several").ravel().tolist()
            if not all(math.isfinite(k) and k == int(k) for k in cells):
                raise ValueError(f"bins must be whole numbers of cells, got {bins!r}")
        if pairs.ndim != 2 or pairs.shape[1] != 2 or len(cells) != len(pairs):
            raise ValueError(f"ranges must be one (lo, hi) per axis, as many as bins; got bins={bins!r}, ranges={ranges!r}")
        grid = Grid(*((float(lo), float(hi), int(k)) for (lo, hi), k in zip(pairs, cells, strict=True)))
    chosen = _axes(axes, grid.dim, dim)
    if grid.dim > 2 or len(chosen) != grid.dim or len(set(chosen)) != len(chosen) or not all(0 <= a < dim for a in chosen):
        raise ValueError(
            f"a histogram is of one or two different coordinates in 0..{dim - 1}; "
            f"got {grid.dim} axes of cells for coordinates {chosen}"
        )
    return grid, chosen


def trajectories(
    records: Records, plan: Plan, grid: Grid | None, save: Any, clock: float, partial: bool, labels: dict[str, Any],
    process: Process | None,
) -> Trajectories:  # fmt: skip
    """Put the records together, leave failed trajectories out of the statistics, and say so."""
    finite = np.isfinite(records.final).all(axis=1)
    failed = int(np.sum(records.finished & ~finite))
    good = records.finished & finite
    status = {"ok": int(good.sum()), "not_finite": failed, "interrupted": int(np.sum(~records.finished))}
    if failed:
        cure = cure_for(labels["unit"], process, _last_seen(records, records.finished & ~finite))
        if not good.any() and not partial:
            raise FpsolveError(f"all {failed} trajectories became non-finite: {cure}")
        message = f"{failed} of {len(finite)} trajectories became non-finite and are left out of the statistics: {cure}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    records.final[~(finite & records.finished)] = np.nan
    heavy = process is not None and process.noise.stable is not None  # no moments in general, and no errors of those there are
    out: dict[str, Any] = {"times": np.array([plan.steps * clock])}
    if records.states is not None:
        out |= {"states": records.states, "times": np.array(plan.stops) * clock}
        pairs = [moments_of(frame[good]) if good.any() else (np.full(frame.shape[1], np.nan),) * 2 for frame in records.states]
        if good.any() and not heavy:
            out |= {"mean": np.array([p[0] for p in pairs]), "covariance": np.array([p[1] for p in pairs])}
    elif grid is not None:
        out["histogram"] = _histogram(records, plan, grid, good)
    elif plan.watched and good.any():
        if plan.lags:
            out["autocorrelation"] = autocorrelation(records.tables, plan, clock, labels)
        else:
            out["occupation"] = occupation(records.tables, good, plan, clock, labels)
    elif good.any() and not plan.watched and not heavy:
        out |= _merge_moments(records, plan, good)
    return Trajectories(records.final, partial=partial, status=status, **out, **labels)


def _last_seen(records: Records, failed: NDArray[np.bool_]) -> Array | None:
    """Last finite recorded states of up to 1000 failed trajectories, if any were recorded."""
    if records.states is None:
        return None
    states = records.states[:, np.flatnonzero(failed)[:1000]]  # (time, trajectory, component)
    seen = np.isfinite(states).all(axis=2)
    latest = len(states) - 1 - np.argmax(seen[::-1], axis=0)
    some = seen.any(axis=0)
    return states[latest[some], np.flatnonzero(some)] if some.any() else None


def cure_for(unit: str, process: Process | None, last: Array | None = None) -> str:
    """What to try against non-finite trajectories, whose last recorded finite states are `last` (n, d)."""
    cure = "halve dt" if unit == "time" else "lower the learning rate"
    if process is not None and process.noise.stable is not None:
        return f"{cure}; or, where the drift grows faster than x, on which jumps blow Euler up at any dt, use method='tamed'"
    if process is None or process.noise.is_constant:
        return cure
    text = (
        f"{cure}; or the diffusion tensor D(x) became non-finite or negative on the way, where the noise is NaN: look at "
        "process.diffusion where the paths go, and give a D(x) (or Noise.from_factor) that is positive semi-definite everywhere"
    )
    try:
        if last is not None:
            process.check_diffusion(last)
    except ValueError as error:
        text += f". It did: {error}"
    return text


def _merge_moments(records: Records, plan: Plan, good: NDArray[np.bool_]) -> dict[str, Array]:
    """Ensemble and time averages from those of the trajectories, in trajectory order.

    The covariance is the mean of the covariances in time plus the unbiased covariance of the time means, which makes up for the
    mean being estimated.
    """
    if records.means is None or records.squares is None:
        mean, covariance = moments_of(records.final[good])
        return {"mean": mean, "covariance": covariance}
    d = records.final.shape[1]
    mean, between = moments_of(records.means[good])
    if records.squares.ndim == 3:  # sums over blocks of trajectories; a block with a failed one is left out
        starts = np.arange(0, len(good), LANES)
        whole = np.logical_and.reduceat(good, starts)
        size = int(np.diff(np.append(starts, len(good)))[whole].sum())
        within = records.squares[whole].sum(axis=0) / size if size else np.full((d, d), np.nan)
        return {"mean": mean, "covariance": within + between, "within": within}
    within = np.zeros((d, d))
    within[np.tril_indices(d)] = records.squares[good].mean(axis=0)
    within = within + np.tril(within, -1).T
    return {"mean": mean, "covariance": within + between, "within": within}


def _histogram(records: Records, plan: Plan, grid: Grid, good: NDArray[np.bool_]) -> Density:
    """Counts over all samples and cell volume: the mass that is missing to 1 was outside.

    Over time the counts hold what failed trajectories did before they failed, so all their samples count; else they are left out.
    """
    counts = np.zeros(grid.shape, np.int64) if records.counts is None else records.counts
    samples = int(records.finished.sum()) * plan.samples
    if plan.start is None:
        plan.count(records.final[good], counts)
        samples = int(good.sum())
    inside = int(counts.sum())
    info = {"samples": samples, "inside": inside}
    return Density(counts / (max(1, samples) * grid.cell_volumes), grid, method="paths, histogram", solver_info=info)
