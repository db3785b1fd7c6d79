"""Which minimum of a valley does SGD choose: effective loss, equation and paths side by side; where training fails."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _along, theory
from ._phase_diagram import phase_diagram
from ._progress import each
from ._runner import resolve_seed, thread_count
from ._valley import local_minima, on_floor
from .chains import SGDChain
from .errors import FpsolveError
from .fokker_planck import FokkerPlanck
from .grid import Grid
from .langevin import simulate
from .process import Process
from .results import Density, EffectiveLoss, Estimate, SelectionReport

__all__ = ["phase_diagram", "selection_report"]

Array = NDArray[np.float64]

LEADING, SECOND, EQUATION, PATHS = "theory, leading order", "theory, second order", "equation", "paths"
#: Cells of the plane (slow, fast) and of the line, bins of histograms; quick and not.
CELLS = {True: (120, 96), False: (240, 192)}
LINE, BINS = 400, 40
#: Paths of a report, and the most steps of all of them together.
COUNT, STEPS = {True: 2000, False: 20_000}, {True: 4e7, False: 4e9}
#: Time step of a process without learning rate, in relaxation times of the stiffest direction.
STEP = 0.02
#: Relaxation times of the slow coordinate after which paths are taken as stationary, and over which they are averaged.
SETTLED, WATCHED = 4.0, 4.0


def selection_report(
    process: Process | SGDChain,
    x: Sequence[float] | None = None,
    start: float | None = None,
    *,
    floor: ArrayLike | None = None,
    lr: float | None = None,
    quick: bool = True,
    seed: int | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> SelectionReport:
    """Where SGD goes in a valley of equally good minima, how fast, and how far theory, equation and paths agree.

    ==========================  ===================================================================================
    row                         what it is
    ==========================  ===================================================================================
    theory, leading order       :func:`fpsolve.theory.effective_loss`: p ~ exp(-kappa U/Delta) for constant noise
    theory, second order        the same with what the fluctuations across the valley add to drift and diffusion
    equation                    the stationary density of the process in the plane, and its evolution
    paths                       the chain, if there is a learning rate; else the equation with a small step
    ==========================  ===================================================================================

    With a learning rate theory and paths are those of the chain, and the equation is its limit of small steps.

    Parameters
    ----------
    process : Process or SGDChain
        The slow coordinate is the first one, the floor runs along it at the other coordinates zero (or where Newton's iteration
        from zero ends), unless `floor` is given. A chain must be Gaussian.
    x : (lo, hi)
        Range of the slow coordinate; its ends reflect. On a curved floor arc length, none for a closed one; there the ends
        reflect in theory only, and densities are compared between them.
    start : float, optional
        Where on the floor SGD starts. Default: where the effective loss is largest, 5 % inside the range.
    floor : array (d,), optional
        A point near a floor that is a curve, see :func:`fpsolve.theory.effective_loss`; theory is then of leading order. Equation
        and paths stay in a box around the floor, six standard deviations wider, and count at the nearest point of the floor.
    lr : float, optional
        Learning rate of a process: its Gaussian chain is then what is simulated.
    quick : bool
        Seconds; False: twice the cells per axis, ten times the paths.
    seed, threads, progress
        As in :func:`fpsolve.simulate`.

    Returns
    -------
    SelectionReport

    Raises
    ------
    TypeError, ValueError
        As :func:`fpsolve.theory.effective_loss`, and for a start outside the range. What cannot be run for the case is listed in
        ``.skipped`` instead.

    Examples
    --------
    >>> import fpsolve as fps
    >>> valley = fps.potentials.degenerate_valley("1 + 4*x**2", "0.02*(x - 1)**2")
    >>> report = fps.selection_report(fps.Process(valley, fps.Noise.diagonal([0.01, 0.05])), (-2.0, 2.0), seed=1, threads=1)
    >>> report.reference, round(report.effective.minimum.value, 4), sorted(report.distances)
    ('equation', 0.1853, ['paths', 'theory, leading order', 'theory, second order'])
    """
    if floor is None if x is None else np.shape(x) != (2,):
        raise ValueError(f"x must be a range (lo, hi), got {x!r}")
    if lr is not None and isinstance(process, Process):
        if process.potential is None or process.interpretation != "ito":
            what = "no potential" if process.potential is None else f"interpretation={process.interpretation!r}"
            raise ValueError(f"lr makes the Gaussian chain of an Ito process with a potential; this one has {what}: leave lr out")
        process, lr = SGDChain.gaussian(process.potential, process.noise, lr), None
    effective = theory.effective_loss(process, x, lr=lr, floor=floor)
    run = _Run(process, effective, _start(effective, start), quick, resolve_seed(seed), thread_count(threads))
    parts: tuple[tuple[str, Callable[[_Run], None]], ...] = (
        (LEADING, lambda r: _theory(r, LEADING)), (SECOND, lambda r: _theory(r, SECOND)), (EQUATION, _equation), (PATHS, _paths),
    )  # fmt: skip
    if floor is not None:
        parts = tuple(part for part in parts if part[0] != SECOND)
    for name, part in each(parts, "selection_report", "part", progress, name=lambda p: p[0]):
        run.add(name, part)
    return _report(run)


def _start(effective: EffectiveLoss, start: float | None) -> float:
    low, high = float(effective.x[0]), float(effective.x[-1])
    if start is None:
        top = float(effective.x[int(np.argmax(effective.loss))])
        margin = 0.0 if effective.closed else 0.05 * (high - low)
        return min(max(top, low + margin), high - margin)
    if isinstance(start, bool) or not isinstance(start, (int, float, np.number)) or not low < start < high:
        raise ValueError(f"start must lie inside the range ({low:g}, {high:g}), got {start!r}")
    return float(start)


class _Run:
    """The question, and what was found so far."""

    def __init__(self, given: Process | SGDChain, effective: EffectiveLoss, start: float, quick: bool, seed: int, threads: int):
        self.chain = given if isinstance(given, SGDChain) else None
        process = given if isinstance(given, Process) else given.process
        assert process is not None  # theory.effective_loss has refused what has none
        self.process, self.effective, self.start = process, effective, start
        self.quick, self.seed, self.threads = bool(quick), seed, threads
        self.densities: dict[str, Array] = {}
        self.masses: dict[str, Array] = {}
        self.estimates: dict[str, Estimate] = {}
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        self.sampling, self.lost = 0.0, 0.0
        self.along = None if effective.points is None else _along.Along(effective)
        #: States on the floor at the points of `effective`.
        self.floor = on_floor(process, effective.x) if effective.points is None else effective.points
        #: Whether there is noise along the floor itself: else paths end in the minimum, and there is no density to compare.
        self.spreads = self._noise_along() if self.along is None else self.along.spreads(process.diffusion)
        found = bool(np.all(np.isfinite(effective.corrected)))
        self.settles = found and (self.spreads or self.along is not None)
        self.time = self._relaxation()

    def _noise_along(self) -> bool:
        noise = self.process.diffusion(self.floor)
        across = np.einsum("nii->ni", noise)[:, 1:]
        return float(noise[:, 0, 0].min()) > 1e-9 * float(across.max())

    def _relaxation(self) -> float:
        """1/e time of the slow coordinate: one over the gap of its generator where there is a density, else that of the mean."""
        if self.settles:
            return 1.0 / float(np.abs(FokkerPlanck(self._line(SECOND), self._axis()).spectrum(2).eigenvalues[1]))
        if math.isfinite(self.effective.relaxation.value):
            return self.effective.relaxation.value
        raise ValueError(
            "selection_report: the effective loss has no minimum inside the range and no density; take a wider range of x"
        )

    def _line(self, name: str) -> Process:
        return theory.slow_process(self.effective, leading=name == LEADING)

    def _axis(self) -> Grid:
        if self.along is not None:
            return self.along.line(LINE)
        return Grid((float(self.effective.x[0]), float(self.effective.x[-1]), LINE))

    def begin(self) -> Array:
        """Where SGD starts: on the floor."""
        if self.along is not None:
            return np.asarray(self.along.curve(self.start))
        return np.array([np.interp(self.start, self.effective.x, column) for column in self.floor.T])

    def edges(self) -> Array:
        """Ends of the bins that densities are compared in."""
        return np.linspace(float(self.effective.x[0]), float(self.effective.x[-1]), BINS + 1)

    def keep(self, name: str, x: Array, density: Array) -> None:
        """A density given at points of its own."""
        values = np.interp(self.effective.x, x, density)
        self.densities[name] = values / float(np.trapezoid(values, self.effective.x))
        steps = 0.5 * (self.densities[name][1:] + self.densities[name][:-1]) * np.diff(self.effective.x)
        self.masses[name] = np.diff(np.interp(self.edges(), self.effective.x, np.concatenate([[0.0], np.cumsum(steps)])))

    def add(self, name: str, part: Callable[[_Run], None]) -> None:
        """Run a part; what cannot be run is listed with the reason."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                part(self)
            except (ValueError, FpsolveError) as error:
                self.skipped[name] = str(error)
        self.notes += [f"{name}: {w.message}" for w in caught]


def _theory(run: _Run, name: str) -> None:
    effective, leading = run.effective, name == LEADING
    if not run.settles:  # paths end in one point: the mean moves with the force
        end = _carried(effective, run.start, run.time, leading)
        end = end if run.along is None else float(run.along.curve(end)[0])
        run.estimates[name] = Estimate(end, assumptions=effective.assumptions)
        why = "there is no noise along the floor" if not run.spreads else "it is narrower than the points of the slow coordinate"
        run.skipped["density"] = f"{why}: all paths end at the minimum"
        return
    run.keep(name, effective.x, effective.density(leading=leading))
    axis = run._axis()
    width = 3.0 * float(axis.widths[0][0])
    start: Any = ("gaussian", [run.start], [[width**2]]) if run.along is None else run.along.start(run.start, width, LINE)
    later = FokkerPlanck(run._line(name), axis).evolve(start, run.time)
    assert isinstance(later, Density)
    first = axis.centers[0] if run.along is None else run.along.curve(axis.centers[0])[:, 0]
    mean = float((first * later.cell_mass).sum() / later.cell_mass.sum())
    run.estimates[name] = Estimate(mean, assumptions=effective.assumptions, method="slow coordinate on a line")


def _carried(effective: EffectiveLoss, start: float, t: float, leading: bool) -> float:
    """Where the mean force carries the slow coordinate: Runge and Kutta's method, between the ends of the range."""
    values, u = effective.force if leading else effective.drift, start
    steps = 1000
    h = t / steps

    def force(v: float) -> float:
        return float(np.interp(v, effective.x, values))

    for _ in range(steps):
        a = force(u)
        b = force(u + 0.5 * h * a)
        c = force(u + 0.5 * h * b)
        u += h / 6.0 * (a + 2.0 * b + 2.0 * c + force(u + h * c))
        u = min(max(u, float(effective.x[0])), float(effective.x[-1]))
    return u


def _spread(run: _Run) -> float:
    return 6.0 * float(np.sqrt(run.effective.variance.max()))


def _equation(run: _Run) -> None:
    if run.along is not None:
        _equation_along(run, run.along)
        return
    if run.process.dim != 2:
        raise ValueError(f"no grid in {run.process.dim} dimensions; see paths")
    if not run.spreads:
        raise ValueError("the noise along the valley vanishes on the floor, where no cell resolves it")
    nx, ny = CELLS[run.quick]
    wide, y = _spread(run), run.floor[:, 1]
    grid = Grid((float(run.effective.x[0]), float(run.effective.x[-1]), nx), (float(y.min()) - wide, float(y.max()) + wide, ny))
    solver = FokkerPlanck(run.process, grid)
    density = solver.stationary()
    marginal = density.marginal(0)
    run.keep(EQUATION, marginal.grid.centers[0], marginal.values)
    run.notes += [f"{EQUATION}: {note}" for note in density.warnings if "reflecting" not in note]
    variance = float(np.interp(run.start, run.effective.x, run.effective.variance[:, 0]))
    widths = 3.0 * float(grid.widths[0][0]), math.sqrt(variance)
    later = solver.evolve(("gaussian", run.begin(), [[widths[0] ** 2, 0.0], [0.0, widths[1] ** 2]]), run.time)
    assert isinstance(later, Density)
    run.estimates[EQUATION] = Estimate(float(later.mean()[0]), method=solver.method)


def _equation_along(run: _Run, along: _along.Along) -> None:
    stationary, later, method = _along.plane(run.process, along, run.start, run.time, run.quick)
    mass, rest = along.sorted_out(stationary, 4 * BINS)
    run.keep(EQUATION, along.line(4 * BINS).centers[0], mass)
    run.notes += [f"{EQUATION}: {note}" for note in stationary.warnings if "reflecting" not in note]
    if rest > 0.01:
        run.notes.append(f"{EQUATION}: {rest:.1%} of the mass lies beyond the ends of the floor, or off it")
    run.estimates[EQUATION] = Estimate(float(later.mean()[0]), method=method)


def _paths_along(run: _Run, along: _along.Along, step: float, n: int) -> None:
    """As along an axis; a density from the states at forty times."""
    subject: Any = run.chain if run.chain is not None else run.process
    clock: dict[str, Any] = {} if run.chain is not None else {"dt": step}
    unit = 1 if run.chain is not None else step
    ends = [1.0] if not run.settles else [1.0, *np.linspace(SETTLED, SETTLED + WATCHED, 40)]
    times = [max(1, round(k * run.time / step)) * unit for k in ends]
    states = _along.paths(subject, along, run.start, times, n, seed=run.seed, threads=run.threads, **clock)
    moved = states[0][:, 0]
    run.estimates[PATHS] = Estimate(float(moved.mean()), stderr=float(moved.std()) / math.sqrt(n), method=f"{n} paths")
    if not run.settles:
        return
    halves = []
    for part in (slice(0, n // 2), slice(n // 2, n)):
        s = along.nearest(np.concatenate([state[part] for state in states[1:]]))
        counts = np.histogram(s[np.isfinite(s)], run.edges())[0]
        halves.append(counts / counts.sum())
    _sampled(run, halves)


def _paths(run: _Run) -> None:
    chain, d = run.chain, run.process.dim
    stiff = float(np.abs(np.linalg.eigvals(_curvatures(run))).max())
    step = chain.lr if chain is not None else STEP / stiff
    assert step is not None
    x0 = run.begin()
    if run.effective.beyond:
        _lost(run, chain if chain is not None else run.process, x0, step)
    walls = [(float(run.effective.x[0]), float(run.effective.x[-1]), "reflecting"), *[None] * (d - 1)]
    watch = SETTLED + WATCHED if run.settles else 1.0
    steps, n = watch * run.time / step, COUNT[run.quick]
    n = min(n, max(100, int(STEPS[run.quick] / steps)))
    if n * steps > STEPS[run.quick]:
        raise ValueError(f"{n} of them would take {n * steps:.1e} steps, more than {STEPS[run.quick]:.0e}")
    if run.along is not None:
        _paths_along(run, run.along, step, n)
        return
    clock: float = 1 if chain is not None else step  # a chain counts whole iterations
    options: dict[str, Any] = {"walls": walls, "threads": run.threads, "dt": None if chain is not None else step}
    subject: Any = chain if chain is not None else run.process
    t = max(1, round(run.time / step)) * clock
    moved = simulate(subject, x0, t=t, n=n, seed=run.seed, **options).final[:, 0]
    run.estimates[PATHS] = Estimate(float(np.nanmean(moved)), stderr=float(np.nanstd(moved)) / math.sqrt(n), method=f"{n} paths")
    if not run.settles:
        return
    burn, end = (round(k * run.time / step) * clock for k in (SETTLED, SETTLED + WATCHED))
    axis = Grid((float(run.effective.x[0]), float(run.effective.x[-1]), BINS))
    halves = []
    for k in (1, 2):
        found = simulate(subject, x0, t=end, t_burn=burn, every=max(1, round(steps / 400)), n=max(50, n // 2), save="histogram",
                         bins=axis, axes=[0], seed=(run.seed + k) % 2**63, **options).histogram  # fmt: skip
        assert found is not None
        halves.append(found.cell_mass / found.cell_mass.sum())
    _sampled(run, halves)


def _sampled(run: _Run, halves: list[Array]) -> None:
    """The density of paths from the masses that two independent halves of them give."""
    axis = Grid((float(run.effective.x[0]), float(run.effective.x[-1]), BINS))
    run.sampling = 0.25 * float(np.abs(halves[0] - halves[1]).sum())
    mass = 0.5 * (halves[0] + halves[1])
    run.masses[PATHS] = mass
    run.densities[PATHS] = np.interp(run.effective.x, axis.centers[0], mass / axis.widths[0])


def _lost(run: _Run, subject: Any, x0: Array, step: float) -> None:
    """Beyond a bound of the noise: the share of paths without walls that are lost, ten times farther out than the range."""
    steps, n = max(1, round((SETTLED + WATCHED) * run.time / step)), COUNT[run.quick]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # paths that become infinite are what is counted
        clock: dict[str, Any] = {"t": steps} if isinstance(subject, SGDChain) else {"t": steps * step, "dt": step}
        try:
            final = simulate(subject, x0, n=n, seed=run.seed, threads=run.threads, **clock).final
        except FpsolveError:
            final = np.full((n, len(x0)), np.nan)
        reach = 10.0 * float(np.abs(run.floor).max())
        stayed = np.isfinite(final).all(axis=1) & (np.abs(final).max(axis=1) < reach)
    run.lost = 1.0 - float(stayed.mean())
    raise ValueError(f"the noise is beyond a bound; without walls {run.lost:.0%} of {n} are lost within {steps} steps")


def _curvatures(run: _Run) -> Array:
    """In the fast directions along an axis, in all along a curve."""
    rates = run.process.drift_code.jacobian().evaluate(run.floor, run.process.params)
    curvatures = -np.asarray(rates).reshape(-1, run.process.dim, run.process.dim)
    return curvatures[:, 1:, 1:] if run.along is None else curvatures


# ---- the table ------------------------------------------------------------------------------------------------------


def _report(run: _Run) -> SelectionReport:
    effective = run.effective
    reference = EQUATION if EQUATION in run.densities else PATHS if PATHS in run.estimates else ""
    against = run.masses.get(reference)
    names = [name for name in (LEADING, SECOND, EQUATION, PATHS) if name in run.estimates]
    distances = {
        name: 0.5 * float(np.abs(run.masses[name] - against).sum())
        for name in names
        if against is not None and name in run.masses and name != reference
    }
    rows = [_row(run, name, distances.get(name)) for name in names]
    lr = None if run.chain is None else run.chain.lr
    when = f"{run.time:.4g}" + ("" if lr is None else f" ({run.time / lr:.4g} iterations)")
    word, unit = ("<x>", "x") if run.along is None else ("<x_1>", "length along the floor")
    notes = [f"{word} starts at {run.begin()[0]:.4g}; t = one relaxation time, {when}"]
    if run.along is not None and not run.along.closed and run.settles:
        ends = effective.log_density[[0, -1]].max() - effective.log_density.max()
        if ends > math.log(0.01):
            notes.append(
                "states reach the ends of the range, where theory reflects and equation and paths go on: <x_1> differs by that"
            )
    if run.sampling:
        notes.append(f"sampling error of the distance of paths: {run.sampling:.2g}")
    relaxation = Estimate(run.time, unit="time", lr=lr, assumptions=effective.assumptions, method="gap of the slow coordinate")
    return SelectionReport(
        f"Valley for {unit} in [{effective.x[0]:.4g}, {effective.x[-1]:.4g}]"
        + ("" if lr is None else f", lr {lr:g}")
        + ": where SGD goes",
        ("answer", "mode", "<F>/F_max", f"{word} at t", "distance"),
        tuple(rows),
        (*notes, *run.notes),
        effective=effective,
        densities=run.densities,
        estimates={**run.estimates, "relaxation": relaxation},
        distances=distances,
        reference=reference,
        skipped=run.skipped,
        conclusion=_conclusion(run, reference, distances, when),
        seed=run.seed,
    )


def _row(run: _Run, name: str, distance: float | None) -> tuple[str, float | None, float | None, float, float | None]:
    density, x = run.densities.get(name), run.effective.x
    if density is None:
        theory_row = name in (LEADING, SECOND)
        mode = run.effective.minimum.value if theory_row else None
        return name, mode, run.effective.order.value if theory_row else None, run.estimates[name].value, None
    order = float(np.trapezoid(density * run.effective.flatness, x) / np.trapezoid(density, x) / run.effective.flatness.max())
    mode = None if name == PATHS else float(x[int(np.argmax(density))])  # the highest bin of a histogram is chance
    return name, mode, order, run.estimates[name].value, distance


def _conclusion(run: _Run, reference: str, distances: dict[str, float], when: str) -> str:
    """One sentence that follows from the numbers."""
    effective = run.effective
    low, flat = effective.minimum.value, float(np.interp(effective.minimum.value, effective.x, effective.flatness))
    lowest = float(effective.x[int(np.argmin(effective.floor))])
    goes = "SGD would go" if effective.beyond else "SGD goes"
    clauses = [f"{goes} to {_at(run, low)}, where the flatness is {flat / effective.flatness.max():.3g} of the largest"]
    if float(np.ptp(effective.floor)) > 1e-12 * float(np.ptp(effective.loss)):
        clauses[0] += f"; the floor is lowest at {_at(run, lowest)}"
    if len(lows := _minima(effective)) > 1:
        clauses[0] += "; the effective loss has minima at " + ", ".join(_at(run, x) for x in lows)
    clauses.append(f"it takes about {when}")
    clauses.append(_noise(run))
    if distances:
        parts = ", ".join(f"{name} {value:.2g}" for name, value in distances.items())
        clauses.append(f"distances from the {reference} in total variation: {parts}")
    elif reference:
        means = {name: e.value for name, e in run.estimates.items()}
        parts = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        clauses.append(f"{'<x>' if run.along is None else '<x_1>'} after that time: {parts}")
    if effective.failed:
        clauses.append(f"the theory is stretched: '{effective.failed[0].name}' failed")
    return "; ".join(clauses) + "."


def _minima(effective: EffectiveLoss) -> list[float]:
    """Of the effective loss; a closed floor is cut where that is largest."""
    top = int(np.argmax(effective.loss)) if effective.closed else 0
    return local_minima(np.roll(effective.x, -top), np.roll(effective.loss, -top))


def _at(run: _Run, x: float) -> str:
    """A place on the floor: the slow coordinate, or the state on a curve."""
    if run.along is None:
        return f"x = {x:.4g}"
    state = np.asarray(run.along.curve(x))
    small = 1e-8 * float(np.abs(state).max())
    return f"({', '.join(f'{v if abs(v) > small else 0.0:.4g}' for v in state)})"


def _noise(run: _Run) -> str:
    effective = run.effective
    over = [name for name, e in effective.bounds.items() if e.value < 1.0]
    if over:
        lost = f", and {run.lost:.0%} of the paths are lost" if run.lost else ""
        return f"the noise is beyond its bound ({', '.join(over)}){lost}"
    noise = {name: e.value for name, e in effective.bounds.items() if name != "step"}
    least = min(noise, key=lambda name: noise[name])
    if effective.anisotropy.max() <= 1.0 + 1e-9:
        return "the noise is not stronger across the floor than along it: nothing is preferred beyond what room there is"
    if math.isinf(noise[least]):
        return "the noise has no upper bound here"
    return f"the noise is below its bounds, the next one ({least}) at {noise[least]:.3g} times as much"
