"""The paths engine: ensembles of Langevin trajectories and of SGD itself, and first-passage times.

Euler-Maruyama for an Ito process, X <- X + b(X) dt + sqrt(dt) B(X) z with B B^T = 2 D; the chain itself for SGD. The randomness of
a trajectory is a function of (seed, trajectory index): results are the same bits for any number of threads and any chunks, on one
type of processor with one set of library versions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._blocks import LinearRun, WideRun
from ._checkpoint import Checkpoint, describe_arguments
from ._checks import check_memory
from ._escapes import escape_times
from ._fused import path_kernels
from ._linear import LinearSchedule, LinearStep
from ._model import Model, affine_step, check_start, initial_states, make_model, step_count
from ._observe import make_plan, trajectories
from ._paths import FusedRun, Plan, Records
from ._question import NO_WALLS, described, digest_of, labels_of, run_numbers, starts_of
from ._rounding import check_precision, measure_rounding, single_arguments, warn_of_rounding
from ._runner import Control, make_chunks, run_chunks, starting_points
from ._schemes import SCHEMES
from ._sgd import group_size, record_group
from ._watch import watched_lanes
from ._wide_run import wide_run
from .chains import SGDChain
from .driven import Driven
from .grid import Grid
from .process import Process, Underdamped
from .region import Region
from .results import Estimate, Table, Trajectories

__all__ = ["escape_times", "schemes", "simulate"]

Array = NDArray[np.float64]


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
    count, seed, workers, first = run_numbers(n, seed, threads, first)
    chain = process if isinstance(process, SGDChain) and not process.fused else None
    model = None if chain is not None else make_model(process, dt, method, walls)
    if chain is not None and dt is not None:
        raise ValueError("dt is refused for a chain: its time is the iteration count")
    if chain is not None and walls is not None:
        raise ValueError(NO_WALLS)
    if model is not None and isinstance(save, str) and save in ("moments", "autocorrelation"):
        _check_variance(model, save)
    single = check_precision(precision, model)
    clock, dim, labels = labels_of(chain, model, seed, first)
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
        found = saver.match({"process": described(chain, model, plan.steps), **call, "seed": str(seed)})
        if found is not None:
            return found  # type: ignore[no-any-return]
    labels["problem"] = digest_of(
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
            record_group(chain, starts_of(points, lo, hi), plan, records, seed, lo, control, first)

    done = 0.0
    if saver is not None:
        saver.attach(records.arrays, records.lock)
        done = saver.progress(plan.steps)
    size = group_size(chain)
    chunks = make_chunks(n, 1, max(plan.group, size // plan.group * plan.group), n, saver=saver)
    return run_chunks(work, chunks, 1, total=float(n) * plan.steps, progress=progress, label="simulate", saver=saver, done=done)
