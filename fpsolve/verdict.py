"""How long does it stay, and which formula can be trusted: formulas, equation, chain, paths and splitting side by side."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from . import theory
from ._escape_case import Case, conditions, frozen_noise, pose
from ._runner import resolve_seed, thread_count
from .chains import SGDChain
from .errors import FpsolveError
from .fokker_planck import FokkerPlanck
from .grid import Grid, Region
from .kernel_operator import TransitionKernel
from .langevin import escape_times
from .noise import Noise
from .process import Process, Underdamped
from .rare import minimum_action_path, multilevel_splitting
from .results import Assumption, EscapeReport, Estimate, Path

__all__ = ["escape_report"]

FORMULA = ("SGD formula, s = 1", "SGD formula, s = 0")
KRAMERS, WHITE, EQUATION, KERNEL = "Eyring-Kramers", "white noise, D of the minimum", "equation", "transition kernel"
SPLITTING, PATHS, EXPONENT = "splitting", "paths", "quasi-potential (exponent)"
LAWS = (KRAMERS, WHITE)
#: A law within this factor of the reference can be trusted; a reference must be known this well, relatively.
TRUSTED, KNOWN = 2.0, 0.25
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
    saddle: ArrayLike | None = None,
    *,
    exit: Literal["beyond", "saddle"] = "beyond",
    region: Region | None = None,
    box: Sequence[Sequence[float]] | None = None,
    lr: float | None = None,
    batch: float | None = None,
    quick: bool = True,
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
    saddle : array (d,), optional
        Guess of the saddle. Without it the lowest one in `box` that leads out of the minimum.
    exit : {"beyond", "saddle"}
        "beyond": until the path is well on the other side, which is what the formulas are about. "saddle": first arrival at the
        plane through the saddle across the way out; the formulas are then halved.
    region : Region, optional
        What is left. Default: for "beyond" the half-space up to the other minimum on a line, half way to it in the plane and above
        (where the way down bends back: all but a ball around it).
    box : sequence of (lo, hi), optional
        Where saddles are looked for, and the box of the grids. Default: where the density around the minimum has fallen by e^-30.
    lr, batch : float, optional
        Of a process whose noise does not know them.
    quick : bool
        Seconds to a minute; False: finer grids, ten times more paths, four times more in splitting.
    seed, threads, progress
        As in :func:`fpsolve.simulate`.

    Returns
    -------
    EscapeReport
        A table in iterations (in time without learning rate); ``.estimates``, ``.reference``, ``.assumptions``, ``.skipped``,
        ``.conclusion``, ``.plot()``, ``.save()``.

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
    case = pose(process, minimum, saddle, exit, region, box, lr, batch)
    run = _Run(case, bool(quick), resolve_seed(seed), thread_count(threads))
    parts: tuple[tuple[str, _Part], ...] = (
        (EXPONENT, _exponent),
        ("SGD formula", _formula),
        (KRAMERS, _kramers),
        (WHITE, _white),
        (EQUATION, _equation),
        (KERNEL, _kernel),
        (SPLITTING, _splitting),
        (PATHS, _paths),
    )
    for name, part in _shown(parts, progress):
        run.add(name, part)
    return _report(run)


# ---- running the parts ----------------------------------------------------------------------------------------------


class _Run:
    """The question, how much may be spent on it, what was found so far, what was left out, what the methods warned of."""

    def __init__(self, case: Case, quick: bool, seed: int, threads: int) -> None:
        self.case, self.quick, self.seed, self.threads = case, quick, seed, threads
        self.path: Path | None = None
        self.estimates: dict[str, Estimate] = {}
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []

    def add(self, name: str, part: _Part) -> None:
        """Run a part; what cannot be run is listed with the reason."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self.estimates |= part(self)
            except (ValueError, FpsolveError) as error:
                self.skipped[name] = str(error)
        self.notes += [f"{name}: {w.message}" for w in caught]

    def time(self, e: Estimate) -> Estimate:
        """A mean time, or one over a rate, in the unit of the report."""
        if e.unit.startswith("1/"):
            e = _inverse(e)
        if self.case.lr is None or e.unit == "iteration":
            return e
        return e.per_iteration(None if e.lr is not None else self.case.lr)


_Part = Callable[[_Run], dict[str, Estimate]]


def _shown(parts: Sequence[tuple[str, _Part]], progress: bool) -> Sequence[tuple[str, _Part]]:
    if not progress:
        return parts
    from tqdm.auto import tqdm

    return tqdm(parts, desc="escape_report", unit="part", disable=None)  # type: ignore[return-value]


def _inverse(e: Estimate) -> Estimate:
    """One over a rate, with the same relative errors."""
    log_rate = e.log_value if e.log_value is not None else math.log(e.value)
    value = math.exp(-log_rate) if -log_rate < 709.7 else math.inf
    relative = [x / e.value if e.value > 0.0 else 0.0 for x in (e.stderr, e.discretization_error)]
    errors = [value * r if math.isfinite(value) else 0.0 for r in relative]
    return replace(e, value=value, stderr=errors[0], discretization_error=errors[1], interval=None, log_value=-log_rate,
                   unit=e.unit.removeprefix("1/"))  # fmt: skip


def _exponent(run: _Run) -> dict[str, Estimate]:
    _no_inertia(run.case)
    run.path = minimum_action_path(run.case.process, run.case.a, run.case.s, rtol=1e-4)
    return {EXPONENT: run.path.action}


def _formula(run: _Run) -> dict[str, Estimate]:
    case = run.case
    if case.U is None:
        raise ValueError("the drift has no potential")
    if case.lr is None or case.batch is None:
        raise ValueError("needs a learning rate and a batch size: give lr= and batch=")
    optimizer: Literal["sgd", "momentum", "adam", "adai"] = "sgd"
    if case.chain is not None:
        optimizer = "momentum" if case.chain.momentum else case.chain.optimizer  # type: ignore[assignment]
    momentum = case.chain.momentum if case.chain is not None else 0.0
    return {
        name: run.time(
            theory.sgd_escape_time(
                case.U, case.a, case.s, lr=case.lr, batch=case.batch, s=s, noise=case.process.noise, momentum=momentum,
                optimizer=optimizer, boundary="other-minimum" if case.exit == "beyond" else "saddle",
            )
        )
        for name, s in zip(FORMULA, (1.0, 0.0), strict=True)
    }  # fmt: skip


def _no_inertia(case: Case) -> None:
    if case.inertial:
        raise ValueError(f"the equation without inertia is not that of {case.chain!r}")


def _impermeable(run: _Run) -> Assumption | None:
    """The assumption that says that nothing crosses, if the equation never does."""
    if run.path is None or math.isfinite(run.path.action.value):
        return None
    return next((a for a in run.path.action.assumptions if a.status == "failed"), None)


def _never(run: _Run) -> Estimate | None:
    wall = _impermeable(run)
    unit = "time" if run.case.lr is None else "iteration"
    if wall is None:
        return None
    return Estimate(math.inf, log_value=math.inf, unit=unit, assumptions=(wall,), lr=run.case.lr, method="never crosses")


def _kramers(run: _Run) -> dict[str, Estimate]:
    case = run.case
    if case.inertial:
        return {KRAMERS: run.time(_heavy_ball(case))}
    if wall := _impermeable(run):
        raise ValueError(wall.detail)
    return {KRAMERS: run.time(theory.kramers_rate(case.process, case.a, case.s, exit=case.exit))}


def _heavy_ball(case: Case) -> Estimate:
    """Kramers' rate with inertia: mass lr (1 + mu)/2, friction 1 - mu, D/(1 - mu)^2."""
    D, chain = case.process.isotropic_diffusion, case.chain
    if chain is None or chain.optimizer != "sgd" or chain.nesterov or case.U is None or D is None or case.lr is None:
        raise ValueError("with inertia the law is known for heavy ball with constant isotropic noise")
    drag = 1.0 - chain.momentum
    motion = Underdamped(case.U, Noise.isotropic(D / drag**2), friction=drag, mass=0.5 * case.lr * (1.0 + chain.momentum))
    return theory.kramers_rate(motion, case.a, case.s, exit=case.exit)


def _white(run: _Run) -> dict[str, Estimate]:
    case, noise = run.case, frozen_noise(run.case)
    _no_inertia(case)
    if noise is None:
        raise ValueError("the noise is white and isotropic: this is the law of Eyring and Kramers above")
    if case.U is None:
        raise ValueError("the drift has no potential")
    return {WHITE: run.time(theory.kramers_rate(Process(case.U, noise), case.a, case.s, exit=case.exit))}


def _equation(run: _Run) -> dict[str, Estimate]:
    case = run.case
    _no_inertia(case)
    if (never := _never(run)) is not None:
        return {EQUATION: never}
    if case.end is not None:
        wall = case.box[0][0] if case.end > case.a[0] else case.box[0][1]  # beyond it D may grow without bound
        return {EQUATION: run.time(theory.mean_first_passage_1d(case.process, float(case.a[0]), case.end, reflecting=wall))}
    d = case.process.dim
    if d > 3:
        raise ValueError(f"no grid in {d} dimensions; see splitting and paths")
    grid = Grid(*((lo, hi, CELLS[run.quick][d]) for lo, hi in case.box))
    return {EQUATION: run.time(FokkerPlanck(case.process, grid).mean_exit_time(case.region, at=case.a))}


def _kernel(run: _Run) -> dict[str, Estimate]:
    case = run.case
    if case.chain is None or case.lr is None:
        raise ValueError("needs a learning rate: give lr=")
    _no_inertia(case)
    chain = case.chain
    if chain.kind != "gaussian":
        assert case.U is not None
        chain = SGDChain.gaussian(case.U, case.process.noise, case.lr)
    if chain.dim > 2:
        raise ValueError(f"no grid of jumps in {chain.dim} dimensions; see splitting and paths")
    kernel = TransitionKernel(chain, Grid(*((lo, hi, JUMP_CELLS[run.quick][chain.dim]) for lo, hi in case.box)))
    return {KERNEL: run.time(kernel.mean_exit_time(case.region, at=case.a))}


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


def _expected(run: _Run, names: Sequence[str]) -> float:
    """The least ln(time) that other answers let expect; inf if there is none."""
    logs = [e.value if name == EXPONENT else _log(e) for name in names if (e := run.estimates.get(name)) is not None]
    return min((log for log in logs if math.isfinite(log)), default=math.inf)


def _splitting(run: _Run) -> dict[str, Estimate]:
    case = run.case
    slow = _in_numpy(case)
    expected, limit = _expected(run, (KERNEL, EQUATION, EXPONENT)), RAREST[run.quick][int(slow)]
    if limit < expected < math.inf:
        raise ValueError(f"ln(time) is about {expected:.0f}, and up to {limit:.0f} it is tried" + (" in NumPy" if slow else ""))
    rate = multilevel_splitting(
        case.chain or case.process, case.a, case.region, n=POPULATION[run.quick] // (2 if slow else 1), dt=_dt(case),
        kill=0.3 if slow else 0.1, seed=run.seed, threads=run.threads,
    )  # fmt: skip
    return {SPLITTING: run.time(rate.mean_time())}


def _paths(run: _Run) -> dict[str, Estimate]:
    """Followed until they leave, where that can be afforded."""
    case, n = run.case, COUNT[run.quick]
    budget, dt = STEPS[run.quick][int(_in_numpy(case))], _dt(case)
    expected = _expected(run, (KERNEL, EQUATION, SPLITTING))
    steps = math.log(n / (dt if dt is not None else 1.0)) + (0.0 if run.case.inertial and math.isinf(expected) else expected)
    if steps > math.log(budget):
        raise ValueError(f"{n} of them would take {_power_of_ten(steps)} steps, more than {budget:.0e}; see splitting")
    # where the other answers are wrong the paths that are still inside are cut off
    limit = math.ceil(3.0 * budget / n) if dt is None else 3.0 * budget / n * dt
    times = escape_times(
        case.chain or case.process, case.a, case.region, n=n, dt=dt, t_max=limit, seed=(run.seed + 1) % 2**63, threads=run.threads
    )
    return {PATHS: run.time(times.mean())}


# ---- the table ------------------------------------------------------------------------------------------------------


def _log(e: Estimate) -> float:
    if e.log_value is not None:
        return e.log_value
    return math.log(e.value) if e.value > 0.0 else -math.inf


def _power_of_ten(log: float) -> str:
    """exp(log) with three digits, also beyond doubles."""
    if math.isinf(log):
        return "inf" if log > 0 else "0"
    if abs(log) < 11.0:
        return f"{math.exp(log):.3g}"
    place = math.floor(log / math.log(10.0))
    return f"{math.exp(log - place * math.log(10.0)):.2f}e{place:+03d}"


def _relative(e: Estimate) -> float | None:
    return e.error / e.value if 0.0 < e.value < math.inf and e.error > 0.0 else None


def _reference(run: _Run) -> str:
    """The answer to trust: of the algorithm if there is one, else of the equation; exact ones first, then sampled ones."""
    chain = run.case.chain
    exact = (EQUATION,) if chain is None else (KERNEL,) if chain.kind == "gaussian" else ()
    for name in (*exact, PATHS, SPLITTING):
        e = run.estimates.get(name)
        relative = None if e is None else _relative(e)
        if e is not None and not (relative or 0.0) > KNOWN and not (name != PATHS and e.failed):
            return name
    return ""


def _report(run: _Run) -> EscapeReport:
    case, reference = run.case, _reference(run)
    order = (*FORMULA, *LAWS, EQUATION, KERNEL, SPLITTING, PATHS, EXPONENT)
    estimates = {name: run.estimates[name] for name in order if name in run.estimates}
    base = _log(estimates[reference]) if reference else None
    rows = [_row(name, e, base) for name, e in estimates.items()]
    unit = "time" if case.lr is None else "iterations"
    where = f"Escape from {_place(case.a)} over {_place(case.s)}" + ("" if case.target is None else f" to {_place(case.target)}")
    terms = "".join(f", {name} {value:g}" for name, value in (("lr", case.lr), ("batch", case.batch)) if value is not None)
    notes = [f"left: {case.region!r}; exit={case.exit!r}", *run.notes]
    return EscapeReport(
        f"{where}{terms}: mean time in {unit}",
        ("answer", "mean time", "ln", "rel. error", "over reference", "failed assumptions"),
        tuple(rows),
        tuple(notes),
        estimates=estimates,
        reference=reference,
        assumptions=(*conditions(case, run.path), *_of_formula(estimates)),
        skipped=run.skipped,
        conclusion=_conclusion(estimates, reference),
        seed=run.seed,
    )


def _of_formula(estimates: Mapping[str, Estimate]) -> list[Assumption]:
    """What the formula of SGD assumes beyond the other conditions."""
    names = ("the path is straight along eigenvectors of the Hessian", "covariance of the gradient noise is the Hessian")
    return [a for a in estimates[FORMULA[0]].assumptions if a.name in names] if FORMULA[0] in estimates else []


def _place(x: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:.4g}" for v in x[:4]) + (", ...]" if x.size > 4 else "]")


def _row(name: str, e: Estimate, base: float | None) -> tuple[str, str, float | None, float | None, str, int]:
    failed = len(e.failed)
    if name == EXPONENT:
        return name, "", e.value, _relative(e), "", failed
    log = _log(e)
    over = "" if base is None else _power_of_ten(log - base)
    return name, _power_of_ten(log), log, _relative(e), over, failed


# ---- the conclusion -------------------------------------------------------------------------------------------------


def _conclusion(estimates: Mapping[str, Estimate], reference: str) -> str:
    """One sentence that follows from the numbers."""
    if not reference:
        return "Nothing here is known well enough to test the formulas: see what was left out."
    base = _log(estimates[reference])
    logs = {name: _log(e) - base for name, e in estimates.items() if name != EXPONENT}
    clauses = [_verdict(name, logs[name], reference, estimates[name].failed) for name in LAWS if name in logs]
    if FORMULA[0] in logs:
        clauses.append(_range(logs[FORMULA[0]], logs[FORMULA[1]], reference))
    if reference != EQUATION and EQUATION in logs:
        clauses.append(_verdict("the " + EQUATION, logs[EQUATION], reference, ()))
    sentence = "; ".join(clauses) if clauses else f"no formula applies; the answer is that of {reference}"
    return sentence[0].upper() + sentence[1:] + "."


def _verdict(name: str, log: float, reference: str, failed: Sequence[Assumption]) -> str:
    if math.isinf(log):
        return f"{name} never crosses, while the answer of {reference} is finite"
    times = f"{math.exp(min(log, 700.0)):.3g} times the answer of {reference}"
    if abs(log) > math.log(TRUSTED):
        return f"{name} is wrong by a factor of {_power_of_ten(abs(log))}, too {'long' if log > 0.0 else 'short'}"
    if failed:
        return f"{name} is {times}, though not for a good reason: '{failed[0].name}' failed"
    return f"{name} can be trusted here: {times}"


def _range(first: float, last: float, reference: str) -> str:
    """What the two ends of the formula of SGD say."""
    low, high = min(first, last), max(first, last)
    name = "the SGD formula"
    if max(abs(low), abs(high)) <= math.log(TRUSTED):
        return f"{name} can be trusted here: {math.exp(low):.3g} to {math.exp(high):.3g} times the answer of {reference}"
    if low <= 0.0 <= high:
        s, span = last / (last - first), _power_of_ten(high - low)
        return f"{name} holds with s = {s:.2g}, which it does not predict: from s = 1 to 0 it spans a factor of {span}"
    nearest = low if low > 0.0 else high
    factor, side = _power_of_ten(abs(nearest)), "long" if nearest > 0.0 else "short"
    return f"{name} is wrong by a factor of at least {factor} for every s in [0, 1], too {side}"
