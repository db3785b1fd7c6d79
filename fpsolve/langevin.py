"""The paths engine: ensembles of Langevin trajectories and of SGD itself, and first-passage times.

Euler-Maruyama for an Ito process, X <- X + b(X) dt + sqrt(dt) B(X) z with B B^T = 2 D; the chain itself for SGD. The randomness of
a trajectory is a function of (seed, trajectory index): results are the same bits for any number of threads and any chunks, on one
type of processor with one set of library versions.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._fused import escape_kernels, path_kernels
from ._kernels.rng import LANES
from ._passage import (
    Passage,
    check_bridge,
    check_component,
    check_inside,
    check_leaving,
    exit_sides,
    region_for_jumps,
    surface_codes,
)
from ._paths import FusedRun, LinearRun, LinearStep, Plan, Records, moments_of
from ._runner import Control, check_count, make_chunks, resolve_seed, run_chunks, starting_points, thread_count
from ._schemes import CLASSES, SCHEMES, Scheme, Shape, Step, factor_with_slopes, noise_class, zero_outputs
from ._sgd import first_exits, group_size, record_group
from .chains import SGDChain
from .errors import FpsolveError
from .grid import Grid, Region
from .process import Process, Underdamped
from .results import Density, EscapeTimes, Table, Trajectories

__all__ = ["MAX_FUSED_DIM", "escape_times", "schemes", "simulate"]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

#: Nonlinear models are unrolled into scalar code up to this dimension.
MAX_FUSED_DIM = 16
#: Linear processes above this dimension use the matrix kernel.
MAX_UNROLLED_LINEAR = 8
#: Steps without any escape after which a run without t_max warns.
PATIENCE = 10**6


@dataclass(frozen=True)
class _Model:
    """A process or a Gaussian chain as the kernels see it."""

    process: Process
    scheme: Scheme
    h: float
    settings: Mapping[str, float]
    unit: str
    lr: float | None
    batch: float | None
    label: str = ""

    @property
    def method(self) -> str:
        return self.scheme.name if self.unit == "time" else self.label

    @property
    def is_matrix(self) -> bool:
        return self.process.linear is not None and self.process.dim > MAX_UNROLLED_LINEAR and self.scheme.affine is not None

    @property
    def variables(self) -> int:
        """Numbers of a state."""
        return self.scheme.copies * self.process.dim

    @property
    def shown(self) -> int:
        """Numbers of a state that enter the results: x, or (x, v)."""
        return self.scheme.shown * self.process.dim

    def step(self, points: Array) -> Step:
        """The scheme with the model's codes, after a look at the noise around the starting points (n, d)."""
        process, scheme, dim = self.process, self.scheme, self.process.dim
        if dim > MAX_FUSED_DIM:
            raise ValueError(
                f"nonlinear models are simulated up to {MAX_FUSED_DIM} dimensions, this one has {dim}; "
                "linear processes (quadratic landscape, constant noise) have no limit in simulate, with any method but 'tamed'"
            )
        kind = noise_class(process, points) if scheme.name in ("milstein", "heun", "weak2", "sra15") else "general"
        if CLASSES.index(kind) > CLASSES.index(scheme.noise):
            fits = "additive noise" if scheme.noise == "additive" else "scalar, diagonal or commutative noise"
            other = "milstein, weak2 or euler" if kind in CLASSES[1:4] else "weak2, heun or euler"
            raise ValueError(f"{scheme.name} needs {fits}, and this B(x) is {kind}; use method {other}")
        drift = process.stratonovich_code if scheme.calculus == "Stratonovich" else process.drift_code
        factor = process.factor_code
        if scheme.name == "milstein" and kind != "additive":
            factor = factor_with_slopes(factor)
        shape = Shape(dim, process.noise_dim, kind, frozenset(zero_outputs(process.factor_code)))
        return Step(scheme, drift, factor, shape, scheme.constants(self.h, self.settings))

    def arguments(self, step: Step) -> tuple[Array, ...]:
        params = self.process.params
        return step.values, step.drift.pack(params), step.factor.pack(params)


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: {value!r}")
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
    return float(value)


def _model(process: Any, dt: float | None, method: str | None) -> _Model:
    """Check the process, its step and the scheme against each other."""
    kinds = {Process: "overdamped", Underdamped: "underdamped", SGDChain: "chain"}
    equations = next((word for kind, word in kinds.items() if isinstance(process, kind)), None)
    if equations is None:
        raise TypeError(f"expected a Process, an Underdamped or an SGDChain, got {type(process).__name__}")
    fitting = [s.name for s in SCHEMES.values() if s.equations == equations]
    if method is not None and method not in SCHEMES:
        raise ValueError(f"unknown method {method!r}; for this process there are {', '.join(fitting)}: see fpsolve.schemes()")
    if isinstance(process, SGDChain):
        if dt is not None:
            raise ValueError(
                f"dt = {dt!r} was given, but the time of a chain is its iteration count: leave dt out (its step is "
                f"lr = {process.lr or 0.0:g}) and give t as a number of iterations"
            )
        if method not in (None, "euler"):
            raise ValueError(f"a chain is its own method and takes no other, got {method!r}; leave method out")
        scheme = SCHEMES["nesterov" if process.nesterov else "heavy_ball" if process.momentum else "euler"]
        assert process.process is not None and process.lr is not None
        settings = {"momentum": process.momentum}
        return _Model(process.process, scheme, process.lr, settings, "iteration", process.lr, process.batch, process.label)
    if dt is None:
        raise ValueError("dt is missing: give the time step, e.g. dt=0.01, well below the fastest relaxation time of the drift")
    name = method or ("baoab" if equations == "underdamped" else "euler")
    if name not in fitting:
        raise ValueError(
            f"method {name!r} is for {SCHEMES[name].equations} equations, and this process is {equations}; use {', '.join(fitting)}"
        )
    h, noise = _positive("dt", dt), process.noise
    if isinstance(process, Underdamped):
        settings = {"friction": process.friction, "mass": process.mass}
        return _Model(process.field, SCHEMES[name], h, settings, "time", noise.lr, noise.batch)
    return _Model(process, SCHEMES[name], h, {}, "time", noise.lr, noise.batch)


def schemes() -> Table:
    """The integrators of :func:`simulate` and :func:`escape_times`, with their orders and the noise they are for.

    Orders are those of the error at a fixed time in the step: of the paths (strong) and of averages (weak), for the widest noise
    that the method takes, and for additive noise. A dash: not known here. The orders are those of the sources. The tests measure
    the strong ones of euler, tamed, milstein, heun (commutative noise) and sra15, the weak ones of euler, heun and weak2 with noise
    that does not commute, and the weak ones with inertia for additive noise; the others are taken from theory.

    Examples
    --------
    >>> import fpsolve as fps
    >>> "baoab" in fps.schemes().column("method")
    True
    """
    rows = [
        [s.name, s.title, s.equations, s.noise, s.calculus, s.strong, s.weak, s.additive, s.source]
        for s in SCHEMES.values()
        if s.equations != "chain"
    ]
    columns = ["method", "scheme", "equations", "noise", "calculus", "strong", "weak", "additive (strong / weak)", "source"]
    return Table("Schemes of the paths engine", tuple(columns), tuple(tuple(row) for row in rows))


def _step_count(t: Any, h: float, unit: str) -> int:
    """Number of steps in t, which must be a whole number of them."""
    if unit == "iteration":
        return check_count("t (iterations)", t)
    total = _positive("t", t)
    steps = round(total / h)
    if steps < 1 or abs(steps * h - total) > 1e-6 * total:
        other = total / max(1, math.ceil(total / h))
        raise ValueError(f"t = {total:g} is not a multiple of dt = {h:g}; use t = {max(1, steps) * h:.12g} or dt = {other:.12g}")
    return steps


def _initial(x0: Any, n: int, model: _Model, seed: int) -> Array:
    """Starting states: velocities are zero unless x0 has them; hidden variables start as the velocities."""
    dim, shown, full = model.process.dim, model.shown, model.variables
    shape = np.shape(x0(np.random.default_rng(seed), 1)) if callable(x0) and shown > dim else () if callable(x0) else np.shape(x0)
    given = shown if shown > dim and shape and shape[-1] == shown else dim
    points = starting_points(x0, n, given, seed)
    if given == dim:
        points = np.hstack([points, np.zeros((len(points), max(shown, full) - dim))])
    return np.ascontiguousarray(np.hstack([points, points[:, dim : dim + full - points.shape[1]]]))


# ---- simulate -------------------------------------------------------------------------------------------------------


def simulate(
    process: Process | Underdamped | SGDChain, x0: Any, *, t: float, dt: float | None = None, n: int, method: str | None = None,
    save: str | ArrayLike = "final", seed: int | None = None, t_burn: float | None = None, every: int = 1,
    bins: Grid | int | Sequence[int] | None = None, ranges: Sequence[Any] | None = None, axes: Sequence[int] | None = None,
    threads: int | None = None, chunk: int | None = None, progress: bool = False,
) -> Trajectories:  # fmt: skip
    r"""Simulate `n` independent trajectories up to time `t`.

    For a :class:`Process`, Euler-Maruyama for the Ito equation,

    .. math:: X_{k+1} = X_k + b(X_k)\,\mathrm{d}t + \sqrt{\mathrm{d}t}\,B(X_k)\,z_k, \qquad B B^T = 2 D, \quad z_k \sim N(0, 1),

    of weak order 1. For an :class:`SGDChain` the chain itself; its time is the number of iterations.

    Parameters
    ----------
    process : Process, Underdamped or SGDChain
    x0 : array (d,) or (n, d), or callable
        Common or individual starting points, or a sampler ``x0(rng, n) -> (n, d)``. Velocities start at zero; for
        :class:`Underdamped` x0 may have 2 d numbers, (x, v). States of the result are then (x, v) too.
    t : float
        Final time, a multiple of `dt`; for a chain an integer number of iterations.
    dt : float
        Time step; refused for a chain.
    n : int
        Number of trajectories.
    method : str, optional
        A row of :func:`schemes`; default "euler", for :class:`Underdamped` "baoab".
    save : {"final", "moments", "histogram"} or sequence of times
        What to keep besides the final states: mean and covariance, a histogram, or the states at given times (moved to the nearest
        step; the times in the result are those of the steps).
    seed : int, optional
        In [0, 2**63); drawn and recorded if not given.
    t_burn : float, optional
        With "moments" and "histogram": average also over the times in (t_burn, t]. Without it they are those of the
        ensemble at `t`.
    every : int
        Steps between the samples of such an average.
    bins, ranges, axes
        Histogram: a :class:`Grid` (its axes may be graded), or numbers of cells with `ranges` ((lo, hi), ...); `axes` names the one
        or two coordinates it is of (default: the first ones). Along periodic axes of the grid the coordinate is wrapped.
    threads : int, optional
        Default: the cores this process may use. Does not change the result, nor does
    chunk : int, optional
        trajectories per unit of work.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Trajectories
        ``final`` (n, d); ``mean`` (d,) and ``covariance`` (d, d), the covariance corrected for the estimated mean.
        Trajectories that became infinite or NaN are NaN in ``final``, counted in ``status``, left out of the statistics (in a
        histogram over time: from then on outside), and warned of. After Ctrl-C the result holds what was done, marked ``partial``.

    Raises
    ------
    TypeError, ValueError
        For unusable input, before any work.
    FpsolveError
        If every trajectory became non-finite.

    References
    ----------
    P. Kloeden, E. Platen, Numerical Solution of Stochastic Differential Equations (1992), ch. 9.

    Examples
    --------
    >>> import fpsolve as fps
    >>> well = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.5))
    >>> paths = fps.simulate(well, [0.0], t=5.0, dt=0.05, n=4000, save="moments", t_burn=4.0, seed=1, threads=1)
    >>> bool(abs(paths.covariance[0, 0] - 0.5 / (1 - 0.05 / 2)) < 0.05)     # exact for Euler at this step
    True
    """
    count, seed, workers = check_count("n", n), resolve_seed(seed), thread_count(threads)
    chain = process if isinstance(process, SGDChain) and process.kind != "gaussian" else None
    lr: float | None
    batch: float | None
    if chain is not None:
        if dt is not None:
            raise ValueError("dt is refused for a chain: its time is the iteration count")
        h, unit, dim, lr, batch, label = 1.0, "iteration", chain.dim, chain.lr, chain.batch, chain.label
    else:
        model = _model(process, dt, method)
        h, unit, dim, lr, batch, label = model.h, model.unit, model.shown, model.lr, model.batch, model.method
    clock = 1.0 if unit == "iteration" else h
    plan, grid = _plan(save, _step_count(t, h, unit), clock, unit, t_burn, every, bins, ranges, axes, dim)
    records = Records(count, dim, plan)
    if chain is not None:
        points = starting_points(x0, count, dim, seed)
        partial = _run_ensemble(chain, points, plan, records, seed, progress)
    else:
        partial = _run_model(model, x0, plan, records, seed, workers, chunk, progress)
    return _trajectories(
        records,
        plan,
        grid,
        save,
        clock,
        partial,
        {"unit": unit, "dt": None if unit == "iteration" else h, "seed": seed, "method": label, "lr": lr, "batch": batch},
        None if chain is not None else model.process,
    )


def _cure(unit: str, process: Process | None, last: Array | None = None) -> str:
    """What to try against non-finite trajectories, whose last recorded finite states are `last` (n, d)."""
    cure = "halve dt" if unit == "time" else "lower the learning rate"
    if process is None or process.noise.matrix is not None:
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


def _last_seen(records: Records, failed: NDArray[np.bool_]) -> Array | None:
    """Last finite recorded states of up to 1000 failed trajectories, if any were recorded."""
    if records.states is None:
        return None
    states = records.states[:, np.flatnonzero(failed)[:1000]]  # (time, trajectory, component)
    seen = np.isfinite(states).all(axis=2)
    latest = len(states) - 1 - np.argmax(seen[::-1], axis=0)
    some = seen.any(axis=0)
    return states[latest[some], np.flatnonzero(some)] if some.any() else None


def _plan(
    save: Any, steps: int, clock: float, unit: str, t_burn: float | None, every: int, bins: Any, ranges: Any, axes: Any, dim: int,
) -> tuple[Plan, Grid | None]:  # fmt: skip
    """Turn times into steps and check the options that belong together."""
    every = check_count("every", every)
    kinds = ("final", "moments", "histogram")
    if isinstance(save, str) and save not in kinds:
        raise ValueError(f"save must be one of {', '.join(kinds)} or a sequence of times, got {save!r}")
    averaging = isinstance(save, str) and save != "final"
    if t_burn is not None and not averaging:
        raise ValueError("t_burn belongs to save='moments' or 'histogram'")
    start = None
    if t_burn is not None:
        start = round(float(t_burn) / clock)
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
    if any(v is not None for v in (bins, ranges, axes)):
        raise ValueError("bins, ranges and axes belong to save='histogram'")
    if isinstance(save, str):
        return Plan(steps, (), start, every), None
    times = np.atleast_1d(np.asarray(save, float))
    stops = np.rint(times / clock)
    if times.ndim != 1 or times.size == 0 or not np.all(np.isfinite(times)) or np.any(stops < 0) or np.any(stops > steps):
        raise ValueError(f"save: times must be a list of numbers in [0, t] = [0, {steps * clock:g}], got {save!r}")
    if np.any(np.diff(stops) <= 0):
        raise ValueError(f"save: times must increase by at least one {'iteration' if unit == 'iteration' else f'dt = {clock:g}'}")
    return Plan(steps, tuple(int(s) for s in stops)), None


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
        pairs = np.atleast_2d(np.asarray(ranges, float))
        numbers = [bins] * len(pairs) if isinstance(bins, (int, np.integer)) else list(bins)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or len(numbers) != len(pairs):
            raise ValueError(f"ranges must be one (lo, hi) per axis, as many as bins; got bins={bins!r}, ranges={ranges!r}")
        grid = Grid(*((float(lo), float(hi), int(k)) for (lo, hi), k in zip(pairs, numbers, strict=True)))
    chosen = tuple(range(grid.dim)) if axes is None else tuple(int(a) for a in axes)
    if grid.dim > 2 or len(chosen) != grid.dim or len(set(chosen)) != len(chosen) or not all(0 <= a < dim for a in chosen):
        raise ValueError(
            f"a histogram is of one or two different coordinates in 0..{dim - 1}; "
            f"got {grid.dim} axes of cells for coordinates {chosen}"
        )
    return grid, chosen


def _run_model(
    model: _Model, x0: Any, plan: Plan, records: Records, seed: int, workers: int, chunk: int | None, progress: bool
) -> bool:
    process, n = model.process, len(records.final)
    points = _initial(x0, n, model, seed)
    _check_start(process, points[:, : process.dim])
    run: FusedRun | LinearRun
    if model.is_matrix:
        step, noise, center = _affine(model)
        run = LinearRun(LinearStep.of(step, noise), center, points, model.shown, seed, plan, records)
        chunks = make_chunks(n, workers, chunk, 4096, align=256)
    else:
        scheme = model.step(points[:, : process.dim])
        fused = path_kernels(scheme, plan.axes, plan.wraps, plan.graded)
        run = FusedRun(fused, model.arguments(scheme), points, model.shown, seed, plan, records)
        chunks = make_chunks(n, workers, chunk, 16384)
    run.prepare(n)
    return run_chunks(run.work, chunks, workers, total=float(n) * plan.steps, progress=progress, label="simulate")


def _check_start(process: Process, points: Array) -> None:
    """Drift and D must be usable where the trajectories start (some of the points, if there are many)."""
    process.check_diffusion(points[:: max(1, len(points) // 64)])


def _affine(model: _Model) -> tuple[Array, Array, Array]:
    """(M, N, center) of the linear step y' = M y + N z, velocities included."""
    assert model.process.linear is not None and model.scheme.affine is not None
    A, center, _ = model.process.linear
    constants = model.scheme.constants(model.h, model.settings)
    M, N = model.scheme.affine(A, model.process.factor(center), constants)
    return M, N, np.append(center, np.zeros(len(M) - len(center)))


def _run_ensemble(chain: SGDChain, points: Array, plan: Plan, records: Records, seed: int, progress: bool) -> bool:
    """SGD on sample losses, group after group; the time goes into NumPy and the user's Python code, so threads would not help."""
    if plan.start is not None and not plan.shape:
        n, d = records.final.shape
        records.means, records.squares = np.full((n, d), np.nan), np.full((n, d * (d + 1) // 2), np.nan)

    def work(lo: int, hi: int, control: Control) -> None:
        for i, starts in _groups(chain, points, lo, hi):
            if not record_group(chain, starts, plan, records, seed, i, control):
                return

    total = float(len(records.final)) * plan.steps
    return run_chunks(work, [(0, len(records.final))], 1, total=total, progress=progress, label="simulate")


def _groups(chain: SGDChain, points: Array, lo: int, hi: int) -> Iterator[tuple[int, Array]]:
    """First trajectory and starting points (n, dim) of each group."""
    size = group_size(chain)
    for i in range(lo, hi, size):
        n = min(size, hi - i)
        yield i, points[i : i + n] if len(points) > 1 else np.repeat(points, n, axis=0)


def _trajectories(
    records: Records, plan: Plan, grid: Grid | None, save: Any, clock: float, partial: bool, labels: dict[str, Any],
    process: Process | None,
) -> Trajectories:  # fmt: skip
    """Put the records together, leave failed trajectories out of the statistics, and say so."""
    finite = np.isfinite(records.final).all(axis=1)
    failed = int(np.sum(records.finished & ~finite))
    good = records.finished & finite
    status = {"ok": int(good.sum()), "not_finite": failed, "interrupted": int(np.sum(~records.finished))}
    if failed:
        cure = _cure(labels["unit"], process, _last_seen(records, records.finished & ~finite))
        if not good.any() and not partial:
            raise FpsolveError(f"all {failed} trajectories became non-finite: {cure}")
        message = f"{failed} of {len(finite)} trajectories became non-finite and are left out of the statistics: {cure}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    records.final[~finite] = np.nan
    out: dict[str, Any] = {"times": np.array([plan.steps * clock])}
    if records.states is not None:
        out |= {"states": records.states, "times": np.array(plan.stops) * clock}
        pairs = [moments_of(frame[good]) if good.any() else (np.full(frame.shape[1], np.nan),) * 2 for frame in records.states]
        if good.any():
            out |= {"mean": np.array([p[0] for p in pairs]), "covariance": np.array([p[1] for p in pairs])}
    elif grid is not None:
        out["histogram"] = _histogram(records, plan, grid, good)
    elif good.any():
        out["mean"], out["covariance"] = _merge_moments(records, plan, good)
    return Trajectories(records.final, partial=partial, status=status, **out, **labels)


def _merge_moments(records: Records, plan: Plan, good: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Ensemble and time averages from those of the trajectories, in trajectory order.

    The covariance is the mean of the covariances in time plus the unbiased covariance of the time means, which makes up for the
    mean being estimated.
    """
    if records.means is None or records.squares is None:
        return moments_of(records.final[good])
    d = records.final.shape[1]
    mean, between = moments_of(records.means[good])
    if records.squares.ndim == 3:  # sums over blocks of trajectories; a block with a failed one is left out
        starts = np.arange(0, len(good), LANES)
        whole = np.logical_and.reduceat(good, starts)
        size = int(np.diff(np.append(starts, len(good)))[whole].sum())
        within = records.squares[whole].sum(axis=0) / size if size else np.full((d, d), np.nan)
        return mean, within + between
    within = np.zeros((d, d))
    within[np.tril_indices(d)] = records.squares[good].mean(axis=0)
    return mean, within + np.tril(within, -1).T + between


def _histogram(records: Records, plan: Plan, grid: Grid, good: NDArray[np.bool_]) -> Density:
    """Counts over all samples and cell volume: the mass that is missing to 1 was outside."""
    counts = np.zeros(grid.shape, np.int64) if records.counts is None else records.counts
    samples = int(good.sum()) * plan.samples
    if plan.start is None:
        plan.count(records.final[good], counts)
        samples = int(good.sum())
    inside = int(counts.sum())
    info = {"samples": samples, "inside": inside}
    return Density(counts / (max(1, samples) * grid.cell_volumes), grid, method="paths, histogram", solver_info=info)


# ---- first passage --------------------------------------------------------------------------------------------------


def escape_times(
    process: Process | Underdamped | SGDChain, x0: Any, region: Region, *, n: int, dt: float | None = None,
    t_max: float | None = None, method: str | None = None, correction: str | None = "auto", seed: int | None = None,
    threads: int | None = None, chunk: int | None = None, progress: bool = False,
) -> EscapeTimes:  # fmt: skip
    r"""First times at which `n` independent trajectories leave a region, that is reach g >= 0.

    With ``correction="bridge"`` (the default for a :class:`Process`) a crossing inside a step is not missed: between its two ends
    the path is a Brownian bridge, which meets the surface with probability

    .. math:: p = \exp\left(-\frac{2\, g_0\, g_1}{2\, n^T D n\, \mathrm{d}t}\right), \qquad n = \nabla g,

    g taken as locally linear; each face of a box has its own test. The time of the crossing is drawn from its law inside the step
    (tau/(dt - tau) is inverse Gaussian), the exit point from the bridge at that time, conditioned to be on the surface.
    Without it the escape is the end of the first step that ends outside: late by O(sqrt(dt)), 12 % for the unit interval at
    dt = 0.01. A chain is tested after each iteration; of a region made with `containing` it is out as well when it lands in another
    component (in more than two dimensions this is not noticed, and warned of).

    Parameters
    ----------
    process : Process or SGDChain
    x0 : array (d,) or (n, d), or callable
        As in :func:`simulate`; every point must be inside the region.
    region : Region
        Of the dimension of the process; for heavy ball and :class:`Underdamped` also of twice that, acting on (x, v).
    n : int
        Number of trajectories.
    dt : float
        Time step; refused for a chain.
    t_max : float, optional
        Give up at this time (the trajectory is then censored). Not needed: trajectories are followed until they escape, with a
        warning if after 1e6 steps none has.
    method : str, optional
        As in :func:`simulate`.
    correction : {"auto", "bridge", None}
        "auto" is "bridge" for a Process and None for a chain and for :class:`Underdamped`, whose positions are smooth.
    seed, threads, chunk, progress
        As in :func:`simulate`; the result is the same for any threads and chunk.

    Returns
    -------
    EscapeTimes
        ``.mean()`` and ``.rate()`` are estimates with errors, ``.survival()`` is the curve, ``.sides`` says through which face of a
        box each path left. Trajectories that became non-finite are counted in ``n_failed``,
        enter no estimate, and are warned of. After Ctrl-C it holds the trajectories that were started, those under way censored.

    Raises
    ------
    TypeError, ValueError
        For unusable input before any work: a start outside the region or in another component of it, a region that can never be
        left (no surface, or no noise at a start in equilibrium), a bridge where it does not apply (chains, or no noise across
        the surface).
    FpsolveError
        If every trajectory became non-finite.

    References
    ----------
    E. Gobet, Stoch. Proc. Appl. 87 (2000) 167 (bridge); J. Michael, W. Schucany, R. Haas, Amer. Stat. 30 (1976) 88.

    Examples
    --------
    >>> import fpsolve as fps
    >>> flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
    >>> out = fps.escape_times(flat, [0.0], fps.Region.box([-1.0], [1.0]), n=4000, dt=0.01, seed=2, threads=1)
    >>> mean = out.mean()                                                   # exact: 1
    >>> bool(abs(mean.value - 1.0) < 4 * mean.stderr)
    True
    """
    count, seed, workers = check_count("n", n), resolve_seed(seed), thread_count(threads)
    if not isinstance(region, Region):
        raise TypeError(f"region must be a Region, e.g. Region.ball(c, r); got {type(region).__name__}")
    if correction not in ("auto", "bridge", None):
        raise ValueError(f"correction must be 'auto', 'bridge' or None, got {correction!r}")
    chain = isinstance(process, SGDChain)
    inertial = isinstance(process, Underdamped)
    if inertial and correction == "bridge":
        raise ValueError(
            "the Brownian bridge does not apply to positions with inertia, whose paths are smooth: use correction=None"
        )
    if chain and correction == "bridge":
        raise ValueError("the Brownian bridge does not apply to a chain, which has no path between iterations: leave it out")
    bridge = not chain and not inertial and correction is not None
    if isinstance(process, SGDChain) and process.kind != "gaussian":
        if dt is not None:
            raise ValueError("dt is refused for a chain: its time is the iteration count")
        limit = None if t_max is None else _step_count(t_max, 1.0, "iteration")
        points = starting_points(x0, count, process.dim, seed)
        check_inside(points, region, process.dim)
        check_leaving(None, points, region, surface_codes(region.code)[1])
        check_component(points, region)
        out = _escape_ensemble(process, points, region_for_jumps(region, points, process), count, limit, seed, progress)
        return _escapes(
            *out,
            {"unit": "iteration", "seed": seed, "method": process.label, "lr": process.lr, "batch": process.batch, "t_max": t_max},
            None,
            region,
        )
    model = _model(process, dt, method)
    clock = 1.0 if chain else model.h
    limit = None
    if t_max is not None:
        limit = _step_count(t_max, 1.0, "iteration") if chain else math.ceil(_positive("t_max", t_max) / clock * (1 - 1e-12))
    run = _passage(model, x0, region, count, limit, seed, bridge, clock, process if isinstance(process, SGDChain) else None)
    size = max(1024, -(-count // workers))
    chunks = make_chunks(count, workers, chunk, size)
    watch = _patience(limit is None, clock, model.unit)
    partial = run_chunks(run.work, chunks, workers, total=count, progress=progress, label="escape_times", unit="path", watch=watch)
    labels = {
        "unit": model.unit,
        "dt": None if chain else model.h,
        "seed": seed,
        "method": model.method,
        "lr": model.lr,
        "batch": model.batch,
        "correction": "bridge" if bridge else "",
        "t_max": t_max,
    }
    return _escapes(*run.collect(t_max), partial, labels, model.process, region)


def _passage(
    model: _Model, x0: Any, region: Region, n: int, limit: int | None, seed: int, bridge: bool, clock: float,
    chain: SGDChain | None,
) -> Passage:  # fmt: skip
    """Check start and region, and set the kernel up."""
    process = model.process
    if region.dim not in (process.dim, 2 * process.dim if model.scheme.copies > 1 else process.dim):
        raise ValueError(f"the region is {region.dim}-D, the process {process.dim}-D")
    points = _initial(x0, n, model, seed)
    check_inside(points[:, : region.dim], region, region.dim)
    _check_start(process, points[:, : process.dim])
    faces, slopes = surface_codes(region.code)
    check_leaving(None if model.scheme.equations == "underdamped" else process, points, region, slopes)
    check_component(points[:, : region.dim], region)
    if chain is not None and region.containing is not None:
        region = region_for_jumps(region, points[:, : region.dim], chain)
        faces, slopes = surface_codes(region.code)
    if bridge:
        check_bridge(process, points, slopes, region)
    step = model.step(points[:, : process.dim])
    fused = escape_kernels(step, faces, slopes, bridge)
    constants, *packed = model.arguments(step)
    surface = (faces.pack(region.params), slopes.pack(region.params))
    results = (np.full(n, np.nan), np.zeros(n, np.int8), np.full((n, region.dim), np.nan))
    return Passage(fused, (constants, *packed, *surface), clock, points, (1 << 61) if limit is None else limit, seed, *results)


def _escape_ensemble(
    chain: SGDChain, points: Array, region: Region, n: int, limit: int | None, seed: int, progress: bool
) -> tuple[Array, NDArray[np.bool_], Array, int, bool]:
    """First iterations at which SGD on sample losses is outside."""
    times, exits = np.full(n, np.nan), np.full((n, chain.dim), np.nan)
    censored, started = np.zeros(n, bool), np.zeros(n, bool)

    def work(lo: int, hi: int, control: Control) -> None:
        for i, starts in _groups(chain, points, lo, hi):
            if control.stopped:
                return
            some = slice(i, i + len(starts))
            started[some] = True
            times[some], censored[some], exits[some] = first_exits(chain, starts, region.contains, limit, seed, i, control)

    watch = _patience(limit is None, 1.0, "iteration")
    partial = run_chunks(work, [(0, n)], 1, total=n, progress=progress, label="escape_times", unit="path", watch=watch)
    failed = int(np.sum(started & np.isnan(times)))
    return times[started], censored[started], exits[started], failed, partial


def _escapes(
    times: Array, censored: NDArray[np.bool_], points: Array, failed: int, partial: bool,
    labels: dict[str, Any], process: Process | None, region: Region,
) -> EscapeTimes:  # fmt: skip
    if failed:
        cure = _cure(labels["unit"], process)
        if failed == len(times) and not partial:
            raise FpsolveError(f"all {failed} trajectories became non-finite: {cure}")
        message = f"{failed} of {len(times)} trajectories became non-finite and enter no estimate: {cure}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    sides, names = exit_sides(region, points)
    return EscapeTimes(times, censored, points, n_failed=failed, partial=partial, sides=sides, side_names=names, **labels)


def _patience(endless: bool, clock: float, unit: str) -> Callable[[Control], str]:
    """How far the paths are, as text; of runs without t_max one warning if after many steps none has escaped."""
    told = False

    def watch(control: Control) -> str:
        nonlocal told
        reached = f"{control.steps * clock:.3g} iterations" if unit == "iteration" else f"time {control.steps * clock:.3g}"
        if endless and not told and control.done == 0 and control.steps >= PATIENCE:
            told = True
            message = (
                f"no path has escaped in {control.steps:.3g} steps ({reached}), and without t_max the run goes on until all have: "
                "the barrier may be too high for direct simulation. Give t_max (paths are then censored and rate() has an upper "
                "bound), or take the mean time from fpsolve.theory or FokkerPlanck.mean_exit_time"
            )
            logger.warning(message)
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        return reached

    return watch
