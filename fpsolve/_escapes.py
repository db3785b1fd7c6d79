"""First passages: `escape_times`, for processes and for chains."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checkpoint import Checkpoint, describe_arguments
from ._checks import check_memory
from ._fused_escape import escape_kernels
from ._kernels.langevin import UNFINISHED
from ._model import MAX_FUSED_DIM, MAX_STEPS, Model, check_start, initial_states, make_model, positive
from ._observe import cure_for
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
from ._question import NO_WALLS, check_pace, described, digest_of, labels_of, run_numbers, starts_of
from ._runner import Control, check_count, make_chunks, run_chunks, starting_points
from ._sgd import first_exits, group_size
from ._wide_run import WidePassage, wide_passage
from .chains import SGDChain
from .driven import Driven
from .errors import FpsolveError
from .grid import Grid
from .process import Process, Underdamped
from .region import Region
from .results import EscapeTimes

__all__ = ["check_correction", "escape_times"]

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]
#: Steps without any escape after which a run without t_max warns.
PATIENCE = 10**6


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
        left (no surface, no noise at a start in equilibrium, or a step so short that no number of them leads there), a bridge where
        it does not apply (chains, or no noise across the surface).
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
    count, seed, workers, first = run_numbers(n, seed, threads, first)
    bridge = check_correction(process, region, correction)
    chain = process if isinstance(process, SGDChain) and not process.fused else None
    if chain is not None and dt is not None:
        raise ValueError("dt is refused for a chain: its time is the iteration count")
    if chain is not None and walls is not None:
        raise ValueError(NO_WALLS)
    model = None if chain is not None else make_model(process, dt, method, walls)
    clock, dim, labels = labels_of(chain, model, seed, first)
    labels |= {"correction": "bridge" if bridge else "", "t_max": t_max}
    limit = _steps_until(t_max, clock, isinstance(process, SGDChain))
    if model is not None and limit is not None:
        model.check_schedule(limit)
    check_memory(count * (3 + 2 * dim), f"the times and exit points of {count} trajectories", "run fewer trajectories")
    points = starting_points(x0, count, dim, seed, first) if model is None else initial_states(x0, count, model, seed, first)
    if saver is not None:
        call = describe_arguments(
            region=region, dt=dt, n=count, method=labels["method"], t_max=t_max, bridge=bridge, walls=walls, x0=points, first=first
        )  # fmt: skip
        found = saver.match({"process": described(chain, model, limit), **call, "seed": str(seed)})
        if found is not None:
            return found  # type: ignore[no-any-return]
    labels["problem"] = digest_of(
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


def check_correction(process: Any, region: Any, correction: Any) -> bool:
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


def _steps_until(t_max: float | None, clock: float, discrete: bool) -> int | None:
    """Steps after which a path is given up."""
    if t_max is None:
        return None
    whole = check_count("t_max (iterations)", t_max) if discrete else positive("t_max", t_max) / clock * (1 - 1e-12)
    return math.ceil(min(whole, MAX_STEPS))


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
    if limit is None or limit >= MAX_STEPS:
        check_pace(model, points, region)
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
            chain, starts_of(points, lo, hi), region.contains, limit, seed, lo, control, first
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
