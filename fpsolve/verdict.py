"""How long does it stay, and which formula can be trusted: formulas, equation, chain, paths and splitting side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from . import theory
from ._conclusion import (
    EQUATION,
    EXPONENT,
    FORMULA,
    KERNEL,
    KNOWN,
    KRAMERS,
    NEVER,
    PATHS,
    SPLITTING,
    WHITE,
    conclude,
    log_of,
    power_of_ten,
    relative,
    row,
    total_time,
)  # fmt: skip
from ._escape_case import Case, Way, pose
from ._escape_conditions import conditions, frozen_noise, is_white
from ._escape_run import Part, Run, seconds_of, within
from ._progress import each
from ._runner import resolve_seed, thread_count
from .chains import SGDChain
from .fokker_planck import FokkerPlanck
from .grid import Grid
from .kernel_operator import TransitionKernel
from .langevin import escape_times
from .noise import Noise
from .process import Process, Underdamped
from .rare import minimum_action_path, multilevel_splitting
from .region import Region
from .results import Assumption, EscapeReport, EscapeTimes, Estimate, SplittingEstimate

__all__ = ["escape_report"]

#: Cells per axis by dimension, for the equation and the chain: quick and not.
CELLS = {True: {1: 800, 2: 100, 3: 24}, False: {1: 1600, 2: 200, 3: 40}}
JUMP_CELLS = {True: {1: 300, 2: 24}, False: {1: 600, 2: 34}}
#: Most steps of all paths together, in a generated kernel and in NumPy, and paths; paths per run of splitting.
STEPS = {True: (1e8, 1e6), False: (2e9, 2e7)}
#: Largest ln(time) that splitting is tried at, in a generated kernel and in NumPy.
RAREST = {True: (500.0, 30.0), False: (2000.0, 120.0)}
COUNT, POPULATION = {True: 400, False: 4000}, {True: 100, False: 400}
#: Time step of a process without learning rate, in relaxation times of the stiffest direction.
STEP = 0.02


def escape_report(
    process: Process | SGDChain,
    minimum: ArrayLike,
    saddle: ArrayLike | Literal["all"] | None = None,
    *,
    exit: Literal["beyond", "saddle"] = "beyond",
    region: Region | None = None,
    box: Sequence[Sequence[float]] | None = None,
    lr: float | None = None,
    batch: float | None = None,
    quick: bool = True,
    seconds: float | None = None,
    seed: int | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> EscapeReport:
    """Mean time of an escape by every method at hand, side by side, and which formula can be trusted.

    ==========================  ===================================================================================
    row                         what it is
    ==========================  ===================================================================================
    SGD formula, s = 1, s = 0   :func:`fpsolve.theory.sgd_escape_time`, both ends of its range
    Eyring-Kramers              :func:`fpsolve.theory.kramers_rate` with the noise as it is, where that is in detailed balance
    white noise                 the same with D frozen at the minimum (the law of SGLD)
    equation                    the exact mean first passage time of dX = b dt + B dW: quadrature on a line, else the PDE (to 3-D)
    transition kernel           the chain, or its Gaussian twin, without expansion in lr (1-D and 2-D)
    splitting, paths            the chain if there is one, else the equation with a small step
    quasi-potential             the exponent S of the equation; ln(time) ~ S for weak noise, without prefactor
    ==========================  ===================================================================================

    Parameters
    ----------
    process : Process or SGDChain
        A process with a learning rate (that of its noise, or `lr`) has the Gaussian chain beside it, a chain its equation.
    minimum : array (d,)
        Where it starts; a guess, refined by Newton's method.
    saddle : array (d,) or (k, d), or "all", optional
        Guess of the saddle, or guesses of several; "all": every one in `box` that leads out of the minimum. The rates over several
        add: each has a row, and the region is left by whichever comes first. Without it the lowest one in `box`.
    exit : {"beyond", "saddle"}
        "beyond": until the path is well on the other side, which is what the formulas are about. "saddle": first arrival at the
        plane through the saddle across the way out; the formulas are then halved.
    region : Region, optional
        What is left. Default: for "beyond" the half-space up to the other minimum on a line, half way to it in the plane and above
        (where the way down bends back: all but a ball around it).
    box : sequence of (lo, hi), optional
        Where saddles are looked for, and the box of the grids, which is enlarged if the region is left behind its sides. Default:
        where the density around the minimum has fallen by e^-30.
    lr, batch : float, optional
        Of a process whose noise does not know them.
    quick : bool
        Seconds to a minute; False: finer grids, ten times more paths, four times more in splitting.
    seconds : float, optional
        Wall time that may be spent. What is not begun by then, or would take longer by an estimate, is in the table as "not run";
        splitting and paths stop where they are. How far these come depends on the machine, and with it their digits.
    seed, threads, progress
        As in :func:`fpsolve.simulate`.

    Returns
    -------
    EscapeReport
        A table in iterations (in time without learning rate); ``.estimates``, ``.reference``, ``.assumptions``, ``.skipped``,
        ``.conclusion``, ``.plot()``, ``.save()``. Ctrl-C ends it as a whole: what was found is in it, all else "not run".

    Raises
    ------
    TypeError, ValueError
        For Levy noise, a chain without known loss and noise, a minimum or saddle that is none, a saddle that does not lead out of
        the minimum. What cannot be run for the case is listed in ``.skipped`` instead.

    References
    ----------
    Z. Xie, I. Sato, M. Sugiyama, arXiv:2002.03495, for the formula; the conditions are derived here.

    Examples
    --------
    >>> import fpsolve as fps
    >>> process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.1))
    >>> report = fps.escape_report(process, [-1.0], [0.0], seed=1, threads=1)
    >>> report.reference, round(report.estimates["equation"].value)
    ('equation', 25527)
    >>> report.conclusion
    'Eyring-Kramers can be trusted here: 0.958 times the answer of equation.'
    """
    if not isinstance(quick, (bool, np.bool_)):
        raise TypeError(f"escape_report: quick must be True or False, got {type(quick).__name__}: {quick!r}")
    limit = seconds_of(seconds)
    begun, seed, workers = time.monotonic(), resolve_seed(seed), thread_count(threads)
    run = Run(pose(process, minimum, saddle, exit, region, box, lr, batch), bool(quick), seed, workers, limit, begun)
    parts: tuple[tuple[str, Part], ...] = (
        (EXPONENT, _exponent),
        ("SGD formula", _formula),
        (KRAMERS, _kramers),
        (WHITE, _white),
        (EQUATION, _equation),
        (KERNEL, _kernel),
        (SPLITTING, _splitting),
        (PATHS, _paths),
    )
    for name, part in each(parts, "escape_report", "part", progress, name=lambda p: p[0]):
        run.add(name, part)
    return _report(run)


# ---- running the parts ----------------------------------------------------------------------------------------------


def _each(run: Run, ask: Callable[[Way], dict[str, Estimate]]) -> dict[str, Estimate]:
    """Rows of one way; of several ways the total of each row, then the rows of each way."""
    ways = run.case.ways
    if len(ways) == 1:
        return {name: run.time(e) for name, e in ask(ways[0]).items()}
    found = {_place(way.s): {name: run.time(e) for name, e in ask(way).items()} for way in ways}
    total = {name: total_time([rows[name] for rows in found.values()]) for name in next(iter(found.values()))}
    return total | {f"{name}, over {place}": e for place, rows in found.items() for name, e in rows.items()}


def _exponent(run: Run) -> dict[str, Estimate]:
    """The least action; the way that has it comes first from now on."""
    case = run.case
    _no_inertia(case)
    run.afford(EXPONENT)
    paths = [minimum_action_path(case.process, case.a, way.s, rtol=1e-4) for way in case.ways]
    for way, path in zip(case.ways, paths, strict=True):
        wall = next((a for a in path.action.assumptions if a.status == "failed"), None)
        if wall is not None and math.isinf(path.action.value):
            run.closed[tuple(way.s)] = wall
    order = sorted(range(len(paths)), key=lambda i: paths[i].action.value)
    run.path, run.case = paths[order[0]], replace(case, ways=tuple(case.ways[i] for i in order))
    rows = {EXPONENT: run.path.action}
    if len(order) > 1:
        rows |= {f"{EXPONENT}, over {_place(case.ways[i].s)}": paths[i].action for i in order}
    return rows


def _formula(run: Run) -> dict[str, Estimate]:
    case = run.case
    U, lr, batch = case.U, case.lr, case.batch
    if U is None:
        raise ValueError("the drift has no potential")
    if lr is None or batch is None:
        raise ValueError("needs a learning rate and a batch size: give lr= and batch=")
    settings: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0}
    if case.chain is not None:
        settings = {"optimizer": "momentum" if case.chain.momentum else case.chain.optimizer, "momentum": case.chain.momentum}
    settings["boundary"] = "other-minimum" if case.exit == "beyond" else "saddle"

    def ask(way: Way) -> dict[str, Estimate]:
        return {
            name: theory.sgd_escape_time(U, case.a, way.s, lr=lr, batch=batch, s=s, noise=case.process.noise, **settings)
            for name, s in zip(FORMULA, (1.0, 0.0), strict=True)
        }

    return _each(run, ask)


def _no_inertia(case: Case) -> None:
    if case.inertial:
        raise ValueError(f"the equation without inertia is not that of {case.chain!r}")


def _impermeable(run: Run) -> Assumption | None:
    """The assumption that says that nothing crosses, if the equation never does on any way that was looked at."""
    return run.closed.get(tuple(run.case.s)) if len(run.closed) == len(run.case.ways) else None


def _never(run: Run) -> Estimate | None:
    wall = _impermeable(run)
    unit = "time" if run.case.lr is None else "iteration"
    if wall is None:
        return None
    # on a line there is one way, in the plane and above the most probable one was looked at
    method = NEVER if run.case.process.dim == 1 else f"{NEVER} on the way of least action"
    return Estimate(math.inf, log_value=math.inf, unit=unit, assumptions=(wall,), lr=run.case.lr, method=method)


def _kramers(run: Run) -> dict[str, Estimate]:
    case = run.case
    if wall := _impermeable(run):
        raise ValueError(wall.detail)
    run.afford(KRAMERS)

    def ask(way: Way) -> dict[str, Estimate]:
        if case.inertial:
            return {KRAMERS: _heavy_ball(case, way)}
        if (wall := run.closed.get(tuple(way.s))) is not None:
            return {KRAMERS: Estimate(math.inf, log_value=math.inf, unit="time", assumptions=(wall,), lr=case.lr)}
        return {KRAMERS: theory.kramers_rate(case.process, case.a, way.s, exit=case.exit)}

    return _each(run, ask)


def _heavy_ball(case: Case, way: Way) -> Estimate:
    """Kramers' rate with inertia: mass lr (1 + mu)/2, friction 1 - mu, D/(1 - mu)^2."""
    D, chain = case.process.isotropic_diffusion, case.chain
    if chain is None or chain.optimizer != "sgd" or chain.nesterov or case.U is None or D is None or case.lr is None:
        raise ValueError("with inertia the law is known for heavy ball with constant isotropic noise")
    drag = 1.0 - chain.momentum
    motion = Underdamped(case.U, Noise.isotropic(D / drag**2), friction=drag, mass=0.5 * case.lr * (1.0 + chain.momentum))
    return theory.kramers_rate(motion, case.a, way.s, exit=case.exit)


def _white(run: Run) -> dict[str, Estimate]:
    case, U = run.case, run.case.U
    _no_inertia(case)
    if case.process.isotropic_diffusion is not None:
        raise ValueError("the noise is white and isotropic: this is the law of Eyring and Kramers above")
    if U is None:
        raise ValueError("the drift has no potential")

    def ask(way: Way) -> dict[str, Estimate]:
        noise = frozen_noise(case, way.s)
        law = theory.kramers_rate(Process(U, noise), case.a, way.s, exit=case.exit)
        return {WHITE: replace(law, assumptions=(is_white(case, way.s), *law.assumptions))}

    return _each(run, ask)


def _equation(run: Run) -> dict[str, Estimate]:
    case = run.case
    _no_inertia(case)
    if (never := _never(run)) is not None:
        return {EQUATION: never}
    run.afford(EQUATION)
    if case.end is not None:
        wall = case.box[0][0] if case.end > case.a[0] else case.box[0][1]  # beyond it D may grow without bound
        return {EQUATION: run.time(theory.mean_first_passage_1d(case.process, float(case.a[0]), case.end, reflecting=wall))}
    d = case.process.dim
    if d > 3:
        raise ValueError(f"no grid in {d} dimensions; see splitting and paths")
    grid = Grid(*((lo, hi, CELLS[run.quick][d]) for lo, hi in case.box))
    return {EQUATION: run.time(FokkerPlanck(case.process, grid).mean_exit_time(case.region, at=case.a))}


def _kernel(run: Run) -> dict[str, Estimate]:
    case = run.case
    if case.chain is None or case.lr is None:
        raise ValueError("needs a learning rate: give lr=")
    _no_inertia(case)
    run.afford(KERNEL)
    chain = case.chain
    if chain.kind != "gaussian":
        run.notes.append(f"{KERNEL}: that of the Gaussian twin, not of the samples")
        assert case.U is not None
        chain = SGDChain.gaussian(case.U, case.process.noise, case.lr)
    if chain.dim > 2:
        raise ValueError(f"no grid of jumps in {chain.dim} dimensions; see splitting and paths")

    cells = JUMP_CELLS[run.quick][chain.dim]
    kernel = TransitionKernel(chain, Grid(*((lo, hi, cells) for lo, hi in case.box)))
    e = run.time(kernel.mean_exit_time(case.region, at=case.a))
    # beyond doubles its error is in the assumptions
    return {KERNEL: e if math.isfinite(e.value) or e.failed else replace(e, discretization_error=0.0)}


def _dt(case: Case) -> float | None:
    """Time step of a process without learning rate."""
    if case.chain is not None:
        return None
    h = 1e-5 * float(np.linalg.norm(case.s - case.a))
    rates = []
    for x in (case.a, case.s):
        steps = h * np.eye(x.size)
        rates.append(np.abs(np.linalg.eigvals((case.process.drift(x + steps) - case.process.drift(x - steps)) / (2.0 * h))).max())
    return STEP / float(max(rates))


def _in_numpy(case: Case) -> bool:
    """Whether the chain is on sample losses or adaptive, and its paths run a hundred times slower."""
    return case.chain is not None and not case.chain.fused


def _expected(run: Run, names: Sequence[str]) -> float:
    """The least ln(time) that other answers let expect; inf if there is none."""
    logs = [e.value if name == EXPONENT else log_of(e) for name in names if (e := run.estimates.get(name)) is not None]
    return min((log for log in logs if math.isfinite(log)), default=math.inf)


def _no_leaks(run: Run) -> None:
    """Paths with a step leap over a place without noise, at a rate of the step's making."""
    if run.case.chain is None and (wall := _impermeable(run)) is not None:
        raise ValueError(f"the equation has no such rate: a path with a step leaps across, the more rarely the shorter the step is "
                         f"({wall.detail})")  # fmt: skip


def _splitting(run: Run) -> dict[str, Estimate]:
    case = run.case
    _no_leaks(run)
    slow = _in_numpy(case)
    expected, limit = _expected(run, (KERNEL, EQUATION, EXPONENT)), RAREST[run.quick][int(slow)]
    if limit < expected < math.inf:
        raise ValueError(f"ln(time) is about {expected:.0f}, and up to {limit:.0f} it is tried" + (" in NumPy" if slow else ""))

    def ask() -> SplittingEstimate:
        return multilevel_splitting(
            case.chain or case.process, case.a, case.region, n=POPULATION[run.quick] // (2 if slow else 1), dt=_dt(case),
            kill=0.3 if slow else 0.1, seed=run.seed, threads=run.threads,
        )  # fmt: skip

    rate = within(run, 0.5 * run.left, ask)
    if rate.partial:
        run.notes.append(f"{SPLITTING}: stopped after {rate.runs} runs of 10")
    mean = rate.mean_time()
    if not math.isfinite(mean.value):
        mean = replace(mean, stderr=math.inf)  # beyond doubles: not known
    return {SPLITTING: run.time(mean)}


def _paths(run: Run) -> dict[str, Estimate]:
    """Followed until they leave, where that can be afforded."""
    case, n = run.case, COUNT[run.quick]
    _no_leaks(run)
    budget, dt = STEPS[run.quick][int(_in_numpy(case))], _dt(case)
    expected = _expected(run, (KERNEL, EQUATION, SPLITTING))
    steps = math.log(n / (dt if dt is not None else 1.0)) + (0.0 if run.case.inertial and math.isinf(expected) else expected)
    if steps > math.log(budget):
        raise ValueError(f"{n} of them would take {power_of_ten(steps)} steps, more than {budget:.0e}; see splitting")
    # where the other answers are wrong the paths that are still inside are cut off
    limit = math.ceil(3.0 * budget / n) if dt is None else 3.0 * budget / n * dt

    def ask() -> tuple[EscapeTimes, Estimate]:
        times = escape_times(
            case.chain or case.process, case.a, case.region, n=n, dt=dt, t_max=limit, seed=(run.seed + 1) % 2**63,
            threads=run.threads,
        )  # fmt: skip
        return times, times.mean()

    times, mean = within(run, run.left, ask)
    if times.partial:
        run.notes.append(f"{PATHS}: stopped with {int(np.sum(~times.censored))} of {n} out")
    return {PATHS: run.time(mean)}


# ---- the table ------------------------------------------------------------------------------------------------------


def _reference(run: Run) -> str:
    """The answer to trust: of the algorithm if there is one, else of the equation; exact ones first, then sampled ones."""
    chain = run.case.chain
    if chain is None and run.case.process.dim == 1 and _impermeable(run) is not None and EQUATION in run.estimates:
        return EQUATION  # never; on a line there is no other way
    exact: tuple[str, ...] = (EQUATION,) if chain is None else (KERNEL,) if chain.kind == "gaussian" else ()
    for name in (*exact, PATHS, SPLITTING):
        e = run.estimates.get(name)
        if e is not None and not (relative(e) or 0.0) > KNOWN and not (name != PATHS and e.failed):
            return name
    return ""


def _ordered(run: Run) -> list[str]:
    """Rows in their order: each answer, and below it those over single saddles."""
    order = (*FORMULA, KRAMERS, WHITE, EQUATION, KERNEL, SPLITTING, PATHS, EXPONENT)
    return [name for head in order for name in run.estimates if name == head or name.startswith(f"{head}, over ")]


def _report(run: Run) -> EscapeReport:
    case, reference, tested = run.case, _reference(run), conditions(run.case, run.path)
    estimates = {name: run.estimates[name] for name in _ordered(run)}
    base = log_of(estimates[reference]) if reference else None
    rows: list[tuple[Any, ...]] = [row(name, e, base) for name, e in estimates.items()]
    rows += [(name, "not run", None, None, "", None) for name in run.unaffordable]
    unit = "time" if case.lr is None else "iterations"
    places = " and ".join(_place(way.s) for way in case.ways)
    targets = [_place(way.target) for way in case.ways if way.target is not None]
    where = f"Escape from {_place(case.a)} over {places}" + (f" to {' and '.join(targets)}" if targets else "")
    terms = "".join(f", {name} {value:g}" for name, value in (("lr", case.lr), ("batch", case.batch)) if value is not None)
    notes = [f"left: {case.region!r}; exit={case.exit!r}", *run.notes]
    return EscapeReport(
        f"{where}{terms}: mean time in {unit}",
        ("answer", "mean time", "ln", "rel. error", "over reference", "failed assumptions"),
        tuple(rows),
        tuple(notes),
        estimates=estimates,
        reference=reference,
        assumptions=(*tested, *_of_formula(estimates)),
        skipped=run.skipped,
        conclusion=conclude(estimates, reference, tested),
        seed=run.seed,
    )


def _of_formula(estimates: Mapping[str, Estimate]) -> list[Assumption]:
    """What the formula of SGD assumes beyond the other conditions."""
    names = ("the path is straight along eigenvectors of the Hessian", "covariance of the gradient noise is the Hessian")
    found = estimates[FORMULA[0]].assumptions if FORMULA[0] in estimates else ()
    return list(dict.fromkeys(a for a in found if a.name in names))


def _place(x: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:.4g}" for v in x[:4]) + (", ...]" if x.size > 4 else "]")
