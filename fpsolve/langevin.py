"""The paths engine: ensembles of Langevin trajectories and of SGD itself, and first-passage times.

Euler-Maruyama for an Ito process, X <- X + b(X) dt + sqrt(dt) B(X) z with B B^T = 2 D; the chain itself for SGD. The randomness of
a trajectory is a function of (seed, trajectory index): results are the same bits for any number of threads and any chunks, on one
type of processor with one set of library versions.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._blocks import LinearRun, WideRun
from ._checkpoint import Checkpoint, describe_arguments, describe_chain, describe_process, describe_schedule, problem_digest
from ._checks import check_memory
from ._fused import escape_kernels, path_kernels
from ._kernels.langevin import UNFINISHED
from ._linear import LinearSchedule, LinearStep
from ._model import (
    MAX_FUSED_DIM,
    MAX_STEPS,
    Model,
    affine_step,
    check_start,
    initial_states,
    make_model,
    positive,
    step_count,
)
from ._observe import cure_for, make_plan, trajectories
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
from ._paths import FusedRun, Plan, Records
from ._rounding import check_precision, measure_rounding, single_arguments, warn_of_rounding
from ._runner import Control, check_count, check_first, make_chunks, resolve_seed, run_chunks, starting_points, thread_count
from ._schedule import DrivenConstants
from ._schemes import SCHEMES
from ._sgd import first_exits, group_size, record_group
from ._watch import watched_lanes
from ._wide_run import WidePassage, wide_passage, wide_run
from .chains import SGDChain
from .driven import Driven
from .errors import FpsolveError
from .grid import Grid, Region
from .process import Process, Underdamped
from .results import EscapeTimes, Estimate, Table, Trajectories

__all__ = ["escape_times", "schemes", "simulate"]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

NO_WALLS = (
    "walls are refused for SGD on sample losses and for Adam and Adai, which know no box; they are for a Process, for Underdamped "
    "and for SGDChain.gaussian with plain SGD or momentum"
)
#: Steps without any escape after which a run without t_max warns.
PATIENCE = 10**6


def schemes() -> Table:
    """The integrators of :func:`simulate` and :func:`escape_times`, with their orders and the noise they are for.

    Orders are those of the error at a fixed time in the step: of the paths (strong) and of averages (weak), for the widest noise
    that the method takes, and for additive noise. A dash: not known here. The tests measure every order of the table on nonlinear
    or bilinear equations, but for Milstein's weak one, which follows from its exact moments. All are for Gaussian
    noise; with Levy noise the law of the linear Euler chain is known exactly and tested. Walls leave euler its weak order 1.

    Examples
    --------
    >>> import fpsolve as fps
    >>> "baoab" in fps.schemes().column("method")
    True
    """
    rows = [
        [s.name, s.title, s.equations, s.noise + " or Levy" * s.levy, s.calculus, s.strong, s.weak, s.additive, s.source]
        for s in SCHEMES.values()
        if s.equations != "chain"
    ]
    columns = ["method", "scheme", "equations", "noise", "calculus", "strong", "weak", "additive (strong / weak)", "source"]
    return Table("Schemes of the paths engine", tuple(columns), tuple(tuple(row) for row in rows))


def _run_numbers(n: Any, seed: Any, threads: Any, first: Any) -> tuple[int, int, int, int]:
    """(trajectories, seed, threads, first trajectory), checked."""
    count = check_count("n", n)
    start = check_first(first, count, seed)
    return count, resolve_seed(seed), thread_count(threads), start


# ---- simulate -------------------------------------------------------------------------------------------------------


def simulate(
    process: Process | Driven | Underdamped | SGDChain, x0: Any, *, t: float, dt: float | None = None, n: int,
    method: str | None = None, save: str | ArrayLike = "final", seed: int | None = None, t_burn: float | None = None,
    every: int = 1, bins: Grid | int | Sequence[int] | None = None, ranges: Sequence[Any] | None = None,
    axes: Sequence[int] | None = None, first: int = 0,
    walls: Grid | Sequence[Any] | None = None, lags: ArrayLike | None = None, regions: Sequence[Region] | None = None,
    precision: str = "double",
    checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: float = 60.0, threads: int | None = None,
    chunk: int | None = None, progress: bool = False,
) -> Trajectories:  # fmt: skip
    r"""Simulate `n` independent trajectories up to time `t`.

    For a :class:`Process`, Euler-Maruyama for the Ito equation,

    .. math:: X_{k+1} = X_k + b(X_k)\,\mathrm{d}t + \sqrt{\mathrm{d}t}\,B(X_k)\,z_k, \qquad B B^T = 2 D, \quad z_k \sim N(0, 1),

    of weak order 1. For an :class:`SGDChain` the chain itself; its time is the number of iterations.

    Parameters
    ----------
    process : Process, Driven, Underdamped or SGDChain
        The coefficients of a :class:`Driven` process are those in the middle of each step: weak orders stay what they are, strong
        ones are at most 1.
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
    save : {"final", "moments", "histogram", "autocorrelation", "occupation"} or sequence of times
        What to keep besides the final states: mean and covariance, a histogram, the autocovariance function of the state, where
        the paths were and how they moved between regions, or the states at given times (moved to the nearest step; the times in
        the result are those of the steps).
    seed : int, optional
        In [0, 2**63); drawn and recorded if not given.
    first : int
        The call runs trajectories first ... first + n - 1 of the ensemble of the seed, with the same bits as one call for all of
        them: a large ensemble can be run in parts, on one machine or on many. Individual starting points are those of this part.
        A sampler draws blocks of 2**20 rows, each from a generator of its own; parts that begin inside a block need one whose rows
        do not depend on how many are asked for (it is tried). Statistics are those of this part; see ``statistics`` of the result.
    t_burn : float, optional
        With "moments" and "histogram": average also over the times in (t_burn, t]. Without it they are those of the
        ensemble at `t`. "autocorrelation" and "occupation" are always averages over (t_burn, t], from 0 by default.
    every : int
        Steps between the samples of such an average.
    bins, ranges, axes
        Histogram: a :class:`Grid` (its axes may be graded), or numbers of cells with `ranges` ((lo, hi), ...); `axes` names the one
        or two coordinates it is of (default: the first ones). Along periodic axes of the grid the coordinate is wrapped.
        Autocorrelation: `axes` are the components it is of (default: all).
    lags : float or sequence of float
        Autocorrelation: the longest lag, for all multiples of ``every`` steps up to it; or the lags themselves, moved to the
        nearest multiples. The work grows with the number of lags: ``np.geomspace(dt, 100, 50)`` reaches far at little cost.
    regions : sequence of Region
        Occupation: a point belongs to the first region that holds it.
    walls : Grid or sequence, optional
        Walls that keep the paths in a box: a :class:`Grid` (its box and boundary), or for each axis None or (lo, hi, kind), with
        kind "reflecting", "periodic" or a pair for (low side, high side), in which None is no wall. A step that ends beyond a
        reflecting wall is mirrored along the conormal D n, which is the no-flux condition of the Fokker-Planck equation;
        velocities turn around; for a chain and for Levy noise the coordinate is folded. Periodic coordinates are wrapped.
    precision : {"double", "single"}
        "single" is for many paths in fewer seconds: states and arithmetic of 32 bits, sums over time still of 64, streams of their
        own (other paths than in double precision). Each run measures what the rounding does to means and variances, puts it in
        ``rounding`` and warns unless it is shown to be below half the statistical error. Refused for Levy noise, walls, SGD on
        sample losses, linear processes above 8 dimensions, and processes with Python functions, tables or derivatives by
        differences.
    checkpoint : path, optional
        HDF5 file that holds what is done while the run goes on, and in the end the result. The same call goes on where the file
        ends, also with other `threads` and `chunk`, with the same bits as one undisturbed run; a finished file gives its result at
        once. A file of another call is refused. Without `seed` the one of the file is taken.
    checkpoint_every : float
        Seconds between two writes of the file, which is also written after Ctrl-C or an error.
    threads : int, optional
        Default: the cores this process may use. Does not change the result, nor does
    chunk : int, optional
        trajectories per unit of work.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Trajectories
        ``final`` (n, d); ``mean`` (d,) and ``covariance`` (d, d), the covariance corrected for the estimated mean (None for
        Levy noise, whose moments do not exist in general; "moments" is refused).
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
    saver = Checkpoint.open(checkpoint, checkpoint_every, "simulate")
    seed = saver.seed if saver is not None and seed is None else seed
    count, seed, workers, first = _run_numbers(n, seed, threads, first)
    chain = process if isinstance(process, SGDChain) and not process.fused else None
    model = None if chain is not None else make_model(process, dt, method, walls)
    if chain is not None and dt is not None:
        raise ValueError("dt is refused for a chain: its time is the iteration count")
    if chain is not None and walls is not None:
        raise ValueError(NO_WALLS)
    if model is not None and isinstance(save, str) and save in ("moments", "autocorrelation"):
        _check_variance(model, save)
    single = check_precision(precision, model)
    clock, dim, labels = _labels(chain, model, seed, first)
    plan, grid = make_plan(
        save, step_count(t, clock if model is None else model.h, labels["unit"]), clock, labels["unit"], t_burn, every, bins,
        ranges, axes, dim, lags, regions, count, None if model is None else model.process.dim,
    )  # fmt: skip
    if model is not None:
        model.check_schedule(plan.steps)
    rows, width = 2 + len(plan.stops), 2 * dim if plan.start is None else 2 * dim + dim * (dim + 1) // 2
    cure = "run fewer trajectories, or keep fewer times or a statistic (save=)"
    check_memory(count * (rows * dim + width), f"{count} trajectories of {dim} numbers at {rows - 1} times", cure)
    points = starting_points(x0, count, dim, seed, first) if model is None else initial_states(x0, count, model, seed, first)
    if saver is not None:
        call = describe_arguments(
            t=t, dt=dt, n=count, method=labels["method"], save=save, t_burn=t_burn, every=every, bins=bins, ranges=ranges,
            axes=axes, walls=walls, lags=lags, regions=regions, precision=precision, x0=points, first=first,
        )  # fmt: skip
        found = saver.match({"process": _named(chain, model, plan.steps), **call, "seed": str(seed)})
        if found is not None:
            return found  # type: ignore[no-any-return]
    labels["problem"] = _problem(
        chain, model, points, t=t, method=labels["method"], dt=dt, save=save, t_burn=t_burn, every=every, bins=bins, ranges=ranges,
        axes=axes, walls=walls, lags=lags, regions=regions, precision=precision,
    )  # fmt: skip
    records = Records(count, dim, plan)
    if chain is not None:
        if chain.reference is not None:
            check_start(chain.reference, points)
        partial = _run_ensemble(chain, points, plan, records, seed, progress, saver, first)
    else:
        assert model is not None
        partial, rounding = _run_model(model, points, plan, records, seed, workers, chunk, progress, saver, single, first)
        labels |= {"precision": precision, "rounding": rounding}
        warn_of_rounding(rounding, count)
    out = trajectories(records, plan, grid, save, clock, partial, labels, None if model is None else model.process)
    if saver is not None and not partial:
        saver.finish(out)
    return out


def _check_variance(model: Model, save: str) -> None:
    if model.process.noise.stable is not None:
        raise ValueError(
            f"save={save!r} is refused for Levy noise: its variance is infinite, so that sample moments have no limit unless the "
            "drift makes the tails lighter; use save='histogram', or take quantiles of the states"
        )


def _labels(chain: SGDChain | None, model: Model | None, seed: int, first: int) -> tuple[float, int, dict[str, Any]]:
    """(duration of a step in the unit of the times, components of a state, what the results say of the run)."""
    if chain is not None:
        words = {"unit": "iteration", "dt": None, "method": chain.label, "lr": chain.lr, "batch": chain.batch}
        return 1.0, chain.dim, {**words, "seed": seed, "first": first}
    assert model is not None
    discrete = model.unit == "iteration"
    words = {"unit": model.unit, "dt": None if discrete else model.h, "method": model.method, "lr": model.lr, "batch": model.batch}
    return 1.0 if discrete else model.h, model.shown, {**words, "seed": seed, "first": first}


def _named(chain: SGDChain | None, model: Model | None, limit: int | None) -> str:
    """The equations as words, for a checkpoint; a schedule counts up to the limit of the run."""
    if chain is not None:
        return describe_chain(chain, limit)
    assert model is not None
    settings = ", ".join(f"{name} {value!r}" for name, value in model.settings.items())
    if model.schedule is not None:
        settings += f" schedule {describe_schedule(model.schedule, limit)}"
    if model.driven is not None:
        changes = DrivenConstants(model.driven, model.h, model.constants, limit, model.moving)
        settings += f"coefficients in time #{changes.digest()}"
    return f"{model.scheme.equations}, {settings or 'no settings'}, {describe_process(model.process)}"


def _problem(chain: SGDChain | None, model: Model | None, points: Array, **call: Any) -> str:
    """Digest of the question that a run answers."""
    if model is not None:
        how = (model.scheme.equations, sorted(model.settings.items()), type(model.driven).__name__)
        return problem_digest(how, model.process, points, **call)
    assert chain is not None
    fixed = [value for value in (chain.lr, chain.batch) if not callable(value)]
    momentum = (chain.momentum, chain.nesterov, chain.optimizer, chain.betas, chain.eps)
    words = (chain.label, chain.kind, chain.dim, chain.size, chain.sampling, chain.sigma, momentum, fixed)
    return problem_digest(words, chain.reference, points, **call)


def _run_model(
    model: Model, points: Array, plan: Plan, records: Records, seed: int, workers: int, chunk: int | None, progress: bool,
    saver: Checkpoint | None, single: bool, first: int,
) -> tuple[bool, Estimate | None]:  # fmt: skip
    """Whether the run was interrupted, and the effect of rounding in single precision."""
    process, n = model.process, len(records.final)
    check_start(process, points[:, : process.dim])
    run: FusedRun | LinearRun | WideRun
    if model.is_matrix:
        step, noise, center = affine_step(model)
        changing = _linear_schedule(model, plan.steps)
        begin = LinearStep.of(step, noise) if changing is None else changing.at(0)[0]
        run = LinearRun(begin, center, points, model.shown, seed, plan, records, changing, first)
        largest, align = 4096, 256
    elif model.is_wide:
        run, largest, align = wide_run(model, points, plan, records, seed, first), 4096, 256
    else:
        scheme = model.step(points[:, : process.dim])
        bins = plan.axes if plan.shape else ()
        arguments = single_arguments(model, scheme, points) if single else model.arguments(scheme)
        fused = path_kernels(scheme, bins, plan.wraps, plan.graded, "single" if single else "double")
        changes = model.scheduled(scheme.constants, plan.steps, scheme.moving)
        run = FusedRun(fused, arguments, points, model.shown, seed, plan, records, changes, first)
        largest, align = 16384 if not plan.watched else watched_lanes(plan), plan.group
    run.prepare(n)
    done = 0.0
    if saver is not None:
        saver.attach(records.arrays, records.lock)
        done = saver.progress(plan.steps)
    chunks = make_chunks(n, workers, chunk, largest, align, saver)
    total = float(n) * plan.steps
    partial = run_chunks(run.work, chunks, workers, total=total, progress=progress, label="simulate", saver=saver, done=done)
    if partial or not single:
        return partial, None
    rounding = measure_rounding(model, scheme, fused, points, plan, n, seed, first)
    if rounding is None and saver is not None:
        saver.write({})  # the paths are all there; only this measurement is left
    return rounding is None, rounding


def _linear_schedule(model: Model, limit: int) -> LinearSchedule | None:
    """The steps of a linear chain whose learning rate or batch size changes."""
    constants = model.scheduled(model.constants, limit)
    if constants is None:
        return None
    assert model.process.linear is not None and model.scheme.affine is not None
    A, center, _ = model.process.linear
    return LinearSchedule(model.scheme.affine, A, model.process.unscaled.factor(center), constants)


def _run_ensemble(
    chain: SGDChain, points: Array, plan: Plan, records: Records, seed: int, progress: bool, saver: Checkpoint | None, first: int
) -> bool:
    """SGD on sample losses, group after group; the time goes into NumPy and the user's Python code, so threads would not help."""
    n, d = records.final.shape
    if plan.averaged:
        records.means, records.squares = np.full((n, d), np.nan), np.full((n, d * (d + 1) // 2), np.nan)

    def work(lo: int, hi: int, control: Control) -> None:
        if not control.stopped:
            record_group(chain, _starts(points, lo, hi), plan, records, seed, lo, control, first)

    done = 0.0
    if saver is not None:
        saver.attach(records.arrays, records.lock)
        done = saver.progress(plan.steps)
    size = group_size(chain)
    chunks = make_chunks(n, 1, max(plan.group, size // plan.group * plan.group), n, saver=saver)
    return run_chunks(work, chunks, 1, total=float(n) * plan.steps, progress=progress, label="simulate", saver=saver, done=done)


def _starts(points: Array, lo: int, hi: int) -> Array:
    """Starting points (hi - lo, dim) of a group of trajectories."""
    return points[lo:hi] if len(points) > 1 else np.repeat(points, hi - lo, axis=0)


# ---- first passage --------------------------------------------------------------------------------------------------


def escape_times(
    process: Process | Driven | Underdamped | SGDChain, x0: Any, region: Region, *, n: int, dt: float | None = None,
    t_max: float | None = None, method: str | None = None, correction: str | None = "auto",
    walls: Grid | Sequence[Any] | None = None, seed: int | None = None, first: int = 0,
    checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: float = 60.0,
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
    process : Process, Driven, Underdamped or SGDChain
        With :class:`Driven` every path starts at the time 0 of its coefficients.
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
        "auto" is "bridge" for a Process and None for a chain, for Levy noise, whose paths jump, and for :class:`Underdamped`,
        whose positions are smooth.
    walls : Grid or sequence, optional
        As in :func:`simulate`. A path that meets a wall where g >= 0 has left. Without the bridge a step is a jump: it has left if
        it lands at g >= 0, beyond a wall or not, and a jump beyond a wall to g < 0 is put back.
    seed, first, checkpoint, checkpoint_every, threads, chunk, progress
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
    saver = Checkpoint.open(checkpoint, checkpoint_every, "escape_times")
    seed = saver.seed if saver is not None and seed is None else seed
    count, seed, workers, first = _run_numbers(n, seed, threads, first)
    bridge = _check_correction(process, region, correction)
    chain = process if isinstance(process, SGDChain) and not process.fused else None
    if chain is not None and dt is not None:
        raise ValueError("dt is refused for a chain: its time is the iteration count")
    if chain is not None and walls is not None:
        raise ValueError(NO_WALLS)
    model = None if chain is not None else make_model(process, dt, method, walls)
    clock, dim, labels = _labels(chain, model, seed, first)
    labels |= {"correction": "bridge" if bridge else "", "t_max": t_max}
    discrete, limit = isinstance(process, SGDChain), None
    if t_max is not None:
        whole = check_count("t_max (iterations)", t_max) if discrete else positive("t_max", t_max) / clock * (1 - 1e-12)
        limit = math.ceil(min(whole, MAX_STEPS))
        if model is not None:
            model.check_schedule(limit)
    check_memory(count * (3 + 2 * dim), f"the times and exit points of {count} trajectories", "run fewer trajectories")
    points = starting_points(x0, count, dim, seed, first) if model is None else initial_states(x0, count, model, seed, first)
    if saver is not None:
        call = describe_arguments(
            region=region,
            dt=dt,
            n=count,
            method=labels["method"],
            t_max=t_max,
            bridge=bridge,
            walls=walls,
            x0=points,
            first=first,
        )
        found = saver.match({"process": _named(chain, model, limit), **call, "seed": str(seed)})
        if found is not None:
            return found  # type: ignore[no-any-return]
    labels["problem"] = _problem(
        chain, model, points, region=region, method=labels["method"], dt=dt, t_max=t_max, bridge=bridge, walls=walls
    )
    if chain is not None:
        check_inside(points, region, chain.dim)
        if chain.reference is not None:
            check_start(chain.reference, points)
        check_leaving(chain.reference, points, region, surface_codes(region.code)[1])
        check_component(points, region)
        alone = region_for_jumps(region, points, chain, 1.0)
        out = _escapes(*_escape_ensemble(chain, points, alone, count, limit, seed, progress, saver, first), labels, None, region)
    else:
        assert model is not None
        gaussian = process if isinstance(process, SGDChain) else None
        run = _passage(model, points, region, count, limit, seed, bridge, clock, gaussian, first)
        done = 0.0
        if saver is not None:
            saver.attach(run.arrays, contextlib.nullcontext())
            run.status[~run.finished] = UNFINISHED
            done = saver.progress(1.0)
        chunks = make_chunks(count, workers, chunk, max(1024, -(-count // workers)), saver=saver)
        watch = _patience(limit is None, clock, model.unit)
        partial = run_chunks(
            run.work, chunks, workers, total=count, progress=progress, label="escape_times", unit="path", watch=watch, saver=saver,
            done=done,
        )  # fmt: skip
        out = _escapes(*run.collect(t_max), partial, labels, model.process, region)
    if saver is not None and not out.partial:
        saver.finish(out)
    return out


def _check_correction(process: Any, region: Any, correction: Any) -> bool:
    """Whether the crossings inside a step are looked for."""
    if not isinstance(region, Region):
        raise TypeError(f"region must be a Region, e.g. Region.ball(c, r); got {type(region).__name__}")
    if correction not in ("auto", "bridge", None):
        raise ValueError(f"correction must be 'auto', 'bridge' or None, got {correction!r}")
    chain, inertial = isinstance(process, SGDChain), isinstance(process, Underdamped)
    if inertial and correction == "bridge":
        raise ValueError(
            "the Brownian bridge does not apply to positions with inertia, whose paths are smooth: use correction=None"
        )
    if chain and correction == "bridge":
        raise ValueError("the Brownian bridge does not apply to a chain, which has no path between iterations: leave it out")
    levy = isinstance(process, Process) and process.noise.stable is not None
    if levy and correction == "bridge":
        raise ValueError("the Brownian bridge does not apply to Levy noise, whose paths jump: use correction=None")
    return not (chain or inertial or levy) and correction is not None


def _passage(
    model: Model, points: Array, region: Region, n: int, limit: int | None, seed: int, bridge: bool, clock: float,
    chain: SGDChain | None, first: int,
) -> Passage | WidePassage:  # fmt: skip
    """Check start and region, and set the kernel up."""
    process = model.process
    if region.dim not in (process.dim, 2 * process.dim if model.scheme.copies > 1 else process.dim):
        raise ValueError(f"the region is {region.dim}-D, the process {process.dim}-D")
    check_inside(points[:, : region.dim], region, region.dim)
    check_start(process, points[:, : process.dim])
    if process.dim > MAX_FUSED_DIM or model.is_wide:
        return wide_passage(model, points, region, n, limit, seed, bridge, clock, chain, first)
    faces, slopes = surface_codes(region.code)
    check_leaving(None if model.scheme.equations == "underdamped" else process, points, region, slopes)
    turns = [] if model.walls is None else (model.walls.turns + [None] * region.dim)[: region.dim]
    check_component(points[:, : region.dim], region, turns)
    if region.containing is not None and (chain is not None or process.noise.stable is not None):
        region = region_for_jumps(region, points[:, : region.dim], chain or process, model.h, turns)
        faces, slopes = surface_codes(region.code)
    if bridge:
        check_bridge(process, points, slopes, region)
    step = model.step(points[:, : process.dim])
    fused = escape_kernels(step, faces, slopes, bridge)
    constants, *packed = model.arguments(step)
    surface = (faces.pack(region.params), slopes.pack(region.params))
    results = (np.full(n, np.nan), np.zeros(n, np.int8), np.full((n, region.dim), np.nan), np.zeros(n, bool))
    ends = (1 << 61) if limit is None else limit
    changes = model.scheduled(step.constants, limit, step.moving)
    return Passage(constants, clock, points, ends, seed, *results, changes, first, fused=fused, arguments=(*packed, *surface))


def _escape_ensemble(
    chain: SGDChain,
    points: Array,
    region: Region,
    n: int,
    limit: int | None,
    seed: int,
    progress: bool,
    saver: Checkpoint | None,
    first: int,
) -> tuple[Array, NDArray[np.bool_], Array, int, bool]:
    """First iterations at which SGD on sample losses is outside."""
    times, exits = np.full(n, np.nan), np.full((n, chain.dim), np.nan)
    censored, started, finished = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)

    def work(lo: int, hi: int, control: Control) -> None:
        if control.stopped:
            return
        some = slice(lo, hi)
        started[some] = True
        times[some], censored[some], exits[some] = first_exits(
            chain, _starts(points, lo, hi), region.contains, limit, seed, lo, control, first
        )
        if np.all(~censored[some] | (times[some] == (-1 if limit is None else limit))):  # else Ctrl-C ended it
            finished[some] = True
            control.drop(lo, hi)

    done = 0.0
    if saver is not None:
        arrays = {"times": times, "censored": censored, "exits": exits, "finished": finished}
        saver.attach(lambda: arrays, contextlib.nullcontext())
        started[:] = finished
        done = saver.progress(1.0)
    chunks = make_chunks(n, 1, group_size(chain), n, saver=saver)
    watch = _patience(limit is None, 1.0, "iteration")
    partial = run_chunks(
        work, chunks, 1, total=n, progress=progress, label="escape_times", unit="path", watch=watch, saver=saver, done=done
    )
    failed = int(np.sum(started & np.isnan(times)))
    return times[started], censored[started], exits[started], failed, partial


def _escapes(
    times: Array, censored: NDArray[np.bool_], points: Array, failed: int, partial: bool,
    labels: dict[str, Any], process: Process | None, region: Region,
) -> EscapeTimes:  # fmt: skip
    if failed:
        cure = cure_for(labels["unit"], process)
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
