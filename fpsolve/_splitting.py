"""Adaptive multilevel splitting: arguments, coordinate, independent runs, and the estimate made of them."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._branches import branch_kernels
from ._branching import Branching, ChainBranches, EulerBranches, FusedBranches
from ._checkpoint import Checkpoint, describe_arguments, describe_code
from ._checks import check_memory
from ._code import QuadraticCode
from ._escapes import check_correction
from ._levels import check_level, level_of
from ._model import MAX_FUSED_DIM, Model, check_start, initial_states, make_model
from ._passage import check_bridge, check_component, check_inside, check_leaving, region_for_jumps, surface_codes
from ._population import INNER, MAX_RUNS, Loops, Run, Settled, pilot, split
from ._question import check_pace, described
from ._rare_results import SplittingEstimate, log_normal_half, student
from ._runner import Control, check_count, resolve_seed, run_chunks, starting_points, thread_count
from .chains import SGDChain
from .errors import FpsolveError
from .grid import Grid
from .potentials import Potential
from .process import Process, Underdamped
from .region import Region
from .results import Assumption, Field

__all__ = ["multilevel_splitting"]

Array = NDArray[np.float64]

#: A branch longer than this many times the settling time is told of: something holds the path.
LONG = 10_000
#: Largest chance of leaving per loop at which A counts as left many times, and the largest variance between runs, in units of the
#: least possible one, that counts as usual.
RARE, SPREAD = 0.1, 4.0


def multilevel_splitting(
    process: Process | Underdamped | SGDChain, x0: Any, region: Region, *, n: int, runs: int = 10, dt: float | None = None,
    coordinate: str | Potential | Region | Field | Callable[..., Any] = "region", inner: Sequence[float] | None = None,
    kill: float = 0.1, method: str | None = None, correction: str | None = "auto", walls: Grid | Sequence[Any] | None = None,
    step_error: bool = False, seed: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: float = 60.0,
    threads: int | None = None, progress: bool = False,
) -> SplittingEstimate:  # fmt: skip
    r"""Rate of leaving a region around x0, however rare, by adaptive multilevel splitting.

    A = {coordinate <= a} is a set around x0; a loop is a path out of A until its coordinate exceeds s >= a, and on until it is back
    in A or out of the region. With p the probability that a loop ends outside, the mean time between exits is (Hill's relation)

    .. math:: \frac{1}{\lambda} = \Big(\frac{1}{p} - 1\Big)\,E[T \mid \text{back}] + E[T \mid \text{out}],

    exactly, if loops begin as they do in the long run of a path that has not left (quasi-stationarity). Loop times are measured;
    p is a product of conditional probabilities that splitting makes of paths which climb the levels of the coordinate, unbiased
    for any coordinate, n, kill. It is the *discrete* path (step dt or iteration) that this holds for.

    Parameters
    ----------
    process : Process, Underdamped or SGDChain
        Up to 16 dimensions run in a generated kernel. Sample losses and more dimensions run in NumPy, a hundred times slower,
        processes by Euler steps without walls. Chains with shuffling, schedules or adaptive optimisers are refused.
    x0 : array (d,)
        Where the paths start: in the basin, best its minimum. They settle before loops are counted.
    region : Region
        Of the dimension of the process, or of phase space, as in :func:`escape_times`.
    n : int
        Paths per run, at least 20. The logarithm of p of one run has a variance of at least -ln(p)/n.
    runs : int
        Independent runs, at least 3; the error is found from their spread.
    dt : float
        Time step; refused for a chain.
    coordinate : str, Potential, Region, Field or callable
        A number that grows on the way out. "region" (g of the region), "distance" (from x0, in the metric of the settled paths),
        "potential" (of the process), an expression in x, y, z, a Potential or another Region, a Field on a grid (a committor, in
        1-D or 2-D), or a function (x, p) -> number that Numba can compile. It decides about the error, not about the mean.
    inner : (float, float), optional
        The levels a and s. By default the median and the 90 % quantile of the coordinate of settled paths.
    kill : float
        Share of the paths replaced at a level, in (0, 0.5].
    method, correction, walls
        As in :func:`escape_times`: with the Brownian bridge (default where it applies) the exit is not missed between steps, and
        the error of the step is O(dt), else O(sqrt(dt)).
    step_error : bool
        Do all of it again with 2 dt: the difference, sampling error included, is the ``discretization_error``.
    seed, threads, progress
        As in :func:`simulate`; the result is the same for any number of threads.
    checkpoint, checkpoint_every
        As in :func:`simulate`. The file holds the runs that were finished; one that was under way is made again.

    Returns
    -------
    SplittingEstimate
        The rate per time or iteration; ``.mean_time()``, ``.probability()``, ``.steps_per_decade``. The interval is that of a
        log-normal law. After Ctrl-C it holds the runs that were finished, at least 3.

    Raises
    ------
    TypeError, ValueError
        For unusable input before any work, or where leaving is not rare.
    FpsolveError
        If paths do not settle or become non-finite, if all runs die out, or too few were finished at Ctrl-C.

    References
    ----------
    F. Cerou, A. Guyader, Stoch. Anal. Appl. 25 (2007) 417; C.-E. Brehier et al., Ann. Appl. Probab. 26 (2016) 3559 (unbiased in
    discrete time); F. Cerou et al., J. Chem. Phys. 134 (2011) 054108 (loops); T. Hill, Free Energy Transduction (1977).

    Examples
    --------
    >>> import fpsolve as fps
    >>> process = fps.Process(fps.Potential.from_expression("(x**2 - 1)**2/4"), fps.Noise.isotropic(0.0125))     # barrier/D = 20
    >>> rate = fps.multilevel_splitting(process, [-1.0], fps.Region.halfspace([1.0], 0.5), n=200, dt=0.02, seed=1, threads=1)
    >>> exact = fps.theory.mean_first_passage_1d(process, -1.0, 0.5)
    >>> low, high = rate.mean_time().interval
    >>> bool(low < exact.value < high), rate.unit
    (True, '1/time')
    """
    saver = Checkpoint.open(checkpoint, checkpoint_every, "multilevel_splitting")
    seed = saver.seed if saver is not None and seed is None else seed
    how = _options(n, runs, kill, inner)
    seed, workers = resolve_seed(seed), thread_count(threads)
    problem = _pose(process, x0, region, dt, coordinate, method, correction, walls, seed)
    rougher = None
    if step_error:
        if problem.unit != "time":
            raise ValueError("step_error is for processes in continuous time: a chain has no step to refine")
        assert dt is not None
        rougher = _pose(process, x0, region, 2.0 * dt, coordinate, method, correction, walls, seed)
    if saver is not None:
        call = describe_arguments(
            region=region, dt=dt, n=how.n, runs=how.runs, kill=how.kill, inner=how.inner, method=method, bridge=problem.bridge,
            walls=walls, step_error=step_error, x0=problem.start,
        )  # fmt: skip
        code = problem.branching.code
        call["coordinate"] = f"{problem.coordinate} {describe_code(code, problem.branching.params)}"
        found = saver.match({"process": _equations(process, dt, method, walls), **call, "seed": str(seed)})
        if found is not None:
            assert isinstance(found, SplittingEstimate)  # a file of something else has been refused
            return found
    ledger = _Ledger(how.runs * (1 if rougher is None else 2), saver)
    estimate = _estimate(problem, how, seed, workers, progress, ledger, 0)
    if rougher is not None and not estimate.partial:
        estimate = _with_step_error(estimate, _estimate(rougher, how, seed, workers, progress, ledger, how.runs))
    if saver is not None and not estimate.partial:
        saver.finish(estimate)
    return estimate


@dataclass(frozen=True)
class _Options:
    n: int
    runs: int
    kill: int
    inner: tuple[float, float] | None


def _options(n: Any, runs: Any, kill: Any, inner: Any) -> _Options:
    count, times = check_count("n", n, 20), check_count("runs", runs, 3)
    if times > MAX_RUNS:
        raise ValueError(f"runs must be at most {MAX_RUNS}, got {times}")
    check_memory(count, f"{count} paths", "use fewer paths n")
    number = isinstance(kill, (int, float, np.floating)) and not isinstance(kill, bool)
    if not (number and 0.0 < kill <= 0.5):
        raise ValueError(f"kill must be the share of paths replaced at a level, in (0, 0.5], got {kill!r}")
    if inner is None:
        return _Options(count, times, max(1, int(kill * count)), None)
    try:
        pair = np.asarray(inner, float)
    except (TypeError, ValueError, OverflowError):
        pair = np.empty(0)
    if pair.shape != (2,) or not np.all(np.isfinite(pair)) or pair[0] > pair[1]:
        raise ValueError(f"inner must be two levels (a, s) of the coordinate with a <= s, got {inner!r}")
    return _Options(count, times, max(1, int(kill * count)), (float(pair[0]), float(pair[1])))


# ---- the problem ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    """A process, where it starts, and its coordinate; `measured` waits for the covariance of settled paths."""

    branching: Branching
    start: Array
    dim: int
    coordinate: str
    unit: str
    step: float
    labels: Mapping[str, Any]
    bridge: bool
    measured: bool

    def with_metric(self, settled: Settled) -> _Problem:
        """The distance from x0 in the metric of the settled paths."""
        if not self.measured:
            return self
        x = settled.states[:, : self.dim]
        covariance = np.atleast_2d(np.cov(x, rowvar=False))
        if np.linalg.matrix_rank(covariance) < self.dim:
            raise ValueError("coordinate='distance' needs noise in all directions: the covariance of settled paths is singular")
        code = QuadraticCode(np.asarray(np.linalg.inv(covariance), np.float64), self.start[0, : self.dim])
        branching: Any = self.branching
        changed: dict[str, Any] = {"code": code, "params": {}}
        if isinstance(branching, FusedBranches):
            changed["arguments"] = (*branching.arguments[:-1], code.pack({}))
        return dataclasses.replace(self, branching=dataclasses.replace(branching, **changed), measured=False)


def _pose(
    process: Any, x0: Any, region: Any, dt: Any, coordinate: Any, method: Any, correction: Any, walls: Any, seed: int
) -> _Problem:
    """Check everything that can be checked before any work, and set the kernel up."""
    bridge = check_correction(process, region, correction)
    if isinstance(process, SGDChain):
        _check_chain(process)
        if not process.fused or process.dim > MAX_FUSED_DIM:
            if dt is not None or method is not None or walls is not None:
                what = f"SGD on sample losses, or in more than {MAX_FUSED_DIM} dimensions"
                raise ValueError(f"dt, method and walls are refused for {what}: its time is the iteration count")
            return _pose_chain(process, x0, region, coordinate, seed)
    model = make_model(process, dt, method, walls)
    field, dim = model.process, model.process.dim
    if field.noise.stable is not None:
        raise ValueError(
            "with Levy noise a path leaves by one large jump and climbs no levels: splitting gains nothing, use escape_times"
        )
    start = initial_states(_point(x0, (dim, model.shown)), 1, model, seed)
    if region.dim not in (dim, 2 * dim if model.scheme.copies > 1 else dim):
        raise ValueError(f"the region is {region.dim}-D, the process {dim}-D")
    check_inside(start[:, : region.dim], region, region.dim)
    check_start(field, start[:, :dim])
    if dim > MAX_FUSED_DIM or model.is_wide:
        return _pose_wide(model, start, region, coordinate, correction, seed)
    faces, slopes = surface_codes(region.code)
    check_leaving(None if model.scheme.equations == "underdamped" else field, start, region, slopes)
    check_pace(model, start, region)
    turns = [] if model.walls is None else (model.walls.turns + [None] * region.dim)[: region.dim]
    check_component(start[:, : region.dim], region, turns)
    if region.containing is not None and model.unit == "iteration":
        region = region_for_jumps(region, start[:, : region.dim], process, model.h, turns)
        faces, slopes = surface_codes(region.code)
    if bridge:
        check_bridge(field, start, slopes, region)
    code, params, name = level_of(coordinate, field, region, start[0, :dim], start.shape[1])
    check_level(code, params, name, start)
    step = model.step(start[:, :dim])
    fused = branch_kernels(step, faces, slopes, code, bridge)
    packed = (faces.pack(region.params), slopes.pack(region.params), code.pack(params))
    branching = FusedBranches(fused, (*model.arguments(step), *packed), code, params, start.shape[1], seed)
    return _Problem(branching, start, dim, name, model.unit, *_times(model), bridge, coordinate == "distance")


def _pose_wide(model: Model, start: Array, region: Region, coordinate: Any, correction: Any, seed: int) -> _Problem:
    """A process in many dimensions, by Euler steps in NumPy."""
    if model.method != "euler" or model.walls is not None or model.unit != "time":
        raise ValueError(
            f"in more than {MAX_FUSED_DIM} dimensions splitting of a process takes method='euler' without walls and inertia, "
            f"got {model.method!r}"
        )
    dim = model.process.dim
    check_component(start, region)
    normal = None if correction is None else _normal(region)
    if normal is None and correction == "bridge":
        raise ValueError(f"in {dim}-D the bridge serves half-spaces, balls and sublevels, not {region!r}; use correction=None")
    code, params, name = level_of(coordinate, model.process, region, start[0], dim)
    check_level(code, params, name, start)
    branching = EulerBranches(region, code, params, seed, model.process, model.h, normal)
    return _Problem(branching, start, dim, name, "time", *_times(model), normal is not None, coordinate == "distance")


def _normal(region: Region) -> Callable[[Array], Array] | None:
    """grad g at points (n, d) of a region in many dimensions with one smooth surface."""
    kind, values, d = getattr(region.code, "kind", ""), getattr(region.code, "values", np.zeros(0)), region.dim
    if kind == "halfspace":
        return lambda x: np.broadcast_to(values[:d], x.shape)
    if kind == "ball":
        return lambda x: (x - values[:d]) / np.linalg.norm(x - values[:d], axis=-1, keepdims=True)
    slopes = getattr(region.code, "slope_code", None)
    return None if slopes is None else lambda x: np.asarray(slopes.evaluate(x, region.params))


def _times(model: Model) -> tuple[float, dict[str, Any]]:
    """Duration of a step in the unit of the times, and what the results say of the process."""
    step = 1.0 if model.unit == "iteration" else model.h
    return step, {"lr": model.lr, "batch": model.batch, "scheme": model.method}


def _point(x0: Any, sizes: tuple[int, ...]) -> Any:
    if callable(x0):
        raise TypeError("x0 must be one point: all paths start there and settle; a sampler is for escape_times")
    size = np.shape(np.atleast_1d(x0))
    if len(size) != 1 or size[0] not in sizes:
        raise ValueError(f"x0 must be one point of shape ({sizes[0]},), got shape {np.shape(x0)}")
    return x0


def _check_chain(chain: SGDChain) -> None:
    if chain.scheduled:
        raise ValueError(f"{chain!r} changes its step on the way, so that it has no escape rate: use a constant lr and batch size")
    if chain.optimizer != "sgd":
        raise ValueError(
            f"splitting needs the whole state of the chain, and {chain.optimizer} counts its iterations in it: use optimizer='sgd'"
        )
    if chain.kind == "ensemble" and chain.sampling == "shuffle":
        raise ValueError(
            "with sampling='shuffle' the weights alone are no Markov chain, the rest of the epoch belongs to the state: use "
            "sampling='replace' or 'without'"
        )


def _pose_chain(chain: SGDChain, x0: Any, region: Region, coordinate: Any, seed: int) -> _Problem:
    start = starting_points(_point(x0, (chain.dim,)), 1, chain.dim, seed)
    check_inside(start, region, chain.dim)
    check_leaving(None, start, region, surface_codes(region.code)[1])
    check_component(start, region)
    region = region_for_jumps(region, start, chain, 1.0)
    code, params, name = level_of(coordinate, chain, region, start[0], chain.dim)
    if chain.momentum:
        start = np.hstack([start, np.zeros_like(start)])
    check_level(code, params, name, start)
    branching = ChainBranches(region, code, params, seed, chain)
    labels = {"lr": chain.lr, "batch": chain.batch, "scheme": chain.label}
    return _Problem(branching, start, chain.dim, name, "iteration", 1.0, labels, False, coordinate == "distance")


# ---- runs and what comes of them ------------------------------------------------------------------------------------


def _equations(process: Any, dt: Any, method: Any, walls: Any) -> str:
    """The process in words, for a checkpoint."""
    if isinstance(process, SGDChain) and (not process.fused or process.dim > MAX_FUSED_DIM):
        return described(process, None, None)
    return described(None, make_model(process, dt, method, walls), None)


class _Ledger:
    """What the runs of a call found, as arrays that a checkpoint can hold; `finished` is set last."""

    def __init__(self, count: int, saver: Checkpoint | None) -> None:
        self.saver, self.lock = saver, threading.Lock()
        self.finished, self.work = np.zeros(count, bool), np.zeros(count, np.int64)
        self.found = np.full((count, 5), np.nan)  # logarithm of p, steps of loops and of exits, both halves of the loops
        if saver is not None:
            saver.attach(self.arrays, self.lock)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"finished": self.finished, "found": self.found, "work": self.work}

    def put(self, i: int, run: Run) -> None:
        with self.lock:
            self.found[i] = run.log_probability, run.loop_steps, run.exit_steps, *run.halves
            self.work[i], self.finished[i] = run.work, True

    def runs(self, lo: int, hi: int) -> list[Run]:
        """The finished ones of lo ... hi - 1."""
        rows = [(self.found[i].tolist(), int(self.work[i])) for i in range(lo, hi) if self.finished[i]]
        return [Run(p, loops, exits, (first, second), work) for (p, loops, exits, first, second), work in rows]


def _estimate(
    problem: _Problem, options: _Options, seed: int, workers: int, progress: bool, ledger: _Ledger, first: int
) -> SplittingEstimate:
    """Of the runs first ... of the ledger; those that a checkpoint has are not made again."""
    found: list[Settled | None] = [None]

    def settle(lo: int, hi: int, control: Control) -> None:
        found[0] = pilot(problem.branching, problem.start, seed, control)

    run_chunks(settle, [(0, 1)], 1, total=1, progress=False, label="multilevel_splitting")
    settled = found[0]
    if settled is None:
        raise FpsolveError("interrupted before the paths had settled; there is no estimate yet")
    problem = problem.with_metric(settled)
    inner = options.inner
    if inner is None:
        levels = np.quantile(problem.branching.level(settled.states), INNER)
        inner = (float(levels[0]), float(levels[1]))
    loops = Loops(problem.start, settled.steps, inner, options.n, options.kill, seed)

    def work(lo: int, hi: int, control: Control) -> None:
        run = split(problem.branching, loops, lo - first, control)
        if run is not None:
            ledger.put(lo, run)
            control.add(1)

    last = first + options.runs
    chunks = [(i, i + 1) for i in range(first, last) if not ledger.finished[i]]
    partial = bool(chunks) and run_chunks(
        work, chunks, workers, total=options.runs, progress=progress, label="multilevel_splitting", unit="run",
        watch=_patience(settled.steps), saver=ledger.saver, done=options.runs - len(chunks),
    )  # fmt: skip
    done = ledger.runs(first, last)
    if len(done) < 3:
        raise FpsolveError(f"interrupted after {len(done)} finished runs; an estimate with an error needs 3")
    return _assemble(problem, loops, done, partial and len(done) < options.runs)


def _patience(settle: int) -> Callable[[Control], str]:
    """Warns once of a path that comes neither back nor out."""
    told = False

    def watch(control: Control) -> str:
        nonlocal told
        if not told and control.steps > LONG * settle:
            told = True
            warnings.warn(
                f"a path has gone {control.steps:.3g} steps without coming back to A or leaving, and paths settle in {settle}: "
                "another basin inside the region may hold it. Make the region smaller, or give inner=(a, s) that paths reach",
                RuntimeWarning,
                stacklevel=5,
            )
        return f"longest path {control.steps:.3g} steps"

    return watch


def _assemble(problem: _Problem, loops: Loops, done: Sequence[Run], partial: bool) -> SplittingEstimate:
    log_p = np.array([run.log_probability for run in done])
    back, out = np.array([run.loop_steps for run in done]), np.array([run.exit_steps for run in done])
    alive = np.isfinite(log_p)
    if not alive.any():
        cure = "shorten dt" if problem.unit == "time" else "a chain like that needs a larger n"
        raise FpsolveError(
            f"all {len(done)} runs died out: no path above some level was left. Where one step of drift is longer than that "
            f"of the noise no path climbs: {cure}. Else use more paths n, or a coordinate that orders the way out"
        )
    top = float(log_p.max())
    log_mean = top + math.log(float(np.exp(log_p - top).mean()))
    p, share = math.exp(max(log_mean, -745.0)), np.exp(log_p - log_mean)
    steps = (1.0 - p) * float(np.nanmean(back)) + p * float(np.sum(share[alive] * out[alive]) / share[alive].sum())
    log_rate = log_mean - math.log(steps * problem.step)
    relative = float(np.std(share - back / back.mean(), ddof=1)) / math.sqrt(len(done))
    half = log_normal_half(log_p - np.log(back)) if alive.all() else student(len(done) - 1) * relative
    rate = math.exp(max(log_rate, -745.0)) if log_rate > -745.0 else 0.0
    labels = dict(problem.labels)
    scheme = labels.pop("scheme")
    text = f"multilevel splitting, {len(done)} runs of {loops.n} paths, {scheme}, coordinate {problem.coordinate}"
    return SplittingEstimate(
        rate, stderr=rate * relative, interval=(rate * math.exp(-half), rate * math.exp(half)), log_value=log_rate,
        unit=f"1/{problem.unit}", assumptions=_assumptions(problem, loops, done, log_mean, log_p), method=text,
        log_probabilities=log_p, loop_steps=back, exit_steps=out, work=np.array([float(run.work) for run in done]),
        n=loops.n, step=problem.step, inner=loops.inner, coordinate=problem.coordinate, seed=loops.seed, partial=partial, **labels,
    )  # fmt: skip


def _assumptions(problem: _Problem, loops: Loops, done: Sequence[Run], log_mean: float, log_p: Array) -> tuple[Assumption, ...]:
    p = math.exp(max(log_mean, -745.0))
    rare = Assumption(f"A is left many times before an exit (p <= {RARE:g})", "held" if p <= RARE else "failed", f"p = {p:.3g}")
    gaps = np.array([run.halves[0] - run.halves[1] for run in done])
    error = float(gaps.std(ddof=1)) / math.sqrt(len(done))
    z = float(gaps.mean()) / error if error > 0.0 else 0.0
    limit = student(len(done) - 1) * 2.0
    even = Assumption(
        "loops have settled", "held" if abs(z) < limit else "failed", f"first half of the loops against the second: t = {z:+.1f}"
    )
    beta = loops.kill / loops.n
    least = -log_mean * beta / (1.0 - beta) / -math.log1p(-beta) / loops.n
    if np.isfinite(log_p).all() and least > 0.0:
        ratio = float(log_p.var(ddof=1)) / least
        status = "held" if ratio <= SPREAD else "failed"
        detail = f"{ratio:.2g} times; more: the coordinate, several ways out, or steps as long as the way"
    else:
        status, detail = "failed", f"{int(np.sum(~np.isfinite(log_p)))} of {len(done)} runs died out"
    good = Assumption(f"variance between runs at most {SPREAD:g} times the least possible", status, detail)  # type: ignore[arg-type]
    if problem.unit != "time":
        return rare, even, good
    order = "O(dt)" if problem.bridge else "O(sqrt(dt))"
    text = f"repeat with dt = {problem.step / 2:g}, or pass step_error=True"
    return rare, even, good, Assumption(f"time-step bias {order} below the statistical error", "unknown", text)


def _with_step_error(fine: SplittingEstimate, rough: SplittingEstimate) -> SplittingEstimate:
    """The change between 2 dt and dt, for an error of order dt that of dt itself."""
    change = math.expm1(rough.log_rate - fine.log_rate)
    noise = math.hypot(fine.stderr / fine.value, rough.stderr / rough.value) if fine.value > 0.0 and rough.value > 0.0 else 0.0
    status = "held" if abs(change) <= 2.0 * noise else "failed"
    detail = f"with 2 dt the rate changes by {change:+.2%}, sampling error of the change {noise:.2%}"
    last = Assumption(fine.assumptions[-1].name, status, detail)  # type: ignore[arg-type]
    return dataclasses.replace(
        fine, discretization_error=abs(change) * fine.value, assumptions=(*fine.assumptions[:-1], last),
        work=fine.work + rough.work if fine.work.shape == rough.work.shape else fine.work,
    )  # fmt: skip
