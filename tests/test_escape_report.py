"""fps.escape_report: every row against its own source, the conditions, the sentence, and what is refused."""

import _thread
import math
import re
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

import fpsolve as fps
from fpsolve import _escape_run, theory, verdict
from fpsolve._conclusion import conclude, inverse, power_of_ten, total_time
from fpsolve._escape_case import pose
from fpsolve._escape_conditions import _ends, _tails
from fpsolve._runner import Control, time_limit

WELL = fps.potentials.double_well()
TANG = fps.potentials.styblinski_tang()


def report(*args: object, **kwargs: object) -> fps.EscapeReport:
    return fps.escape_report(*args, **{"seed": 3, "threads": 1, **kwargs})  # type: ignore[arg-type]


def status(found: fps.EscapeReport, start: str) -> str:
    (one,) = [a for a in found.assumptions if a.name.startswith(start)]
    return one.status


@pytest.fixture(scope="module")
def white() -> fps.EscapeReport:
    """A chain with white noise and a low barrier: everything runs, everything agrees."""
    return report(fps.Process(WELL, fps.Noise.isotropic(0.15)), [-0.9], [0.1], lr=0.01, batch=1)


def test_rows_are_those_of_their_sources(white: fps.EscapeReport) -> None:
    process = fps.Process(WELL, fps.Noise.isotropic(0.15))
    exact = theory.mean_first_passage_1d(process, -1.0, 1.0).value / 0.01
    kramers = 1.0 / theory.kramers_rate(process, [-1.0], [0.0]).value / 0.01
    assert white.estimates["equation"].value == pytest.approx(exact, rel=1e-9)
    assert white.estimates["Eyring-Kramers"].value == pytest.approx(kramers, rel=1e-9)
    assert white.estimates["quasi-potential (exponent)"].value == pytest.approx(1.0 / 0.15, rel=1e-6)
    for s, name in ((1.0, "SGD formula, s = 1"), (0.0, "SGD formula, s = 0")):
        formula = theory.sgd_escape_time(WELL, [-1.0], [0.0], lr=0.01, batch=1, s=s)
        assert white.log_time(name) == pytest.approx(formula.log_value - math.log(0.01), rel=1e-12)  # type: ignore[operator]
    assert all(e.unit in ("iteration", "") for e in white.estimates.values())


def test_methods_agree(white: fps.EscapeReport) -> None:
    """Kernel, paths and splitting of one chain: four standard errors, a false alarm in 1e-4 of the cases (fixed seed)."""
    kernel = white.estimates["transition kernel"]
    assert white.reference == "transition kernel"
    for name in ("paths", "splitting"):
        e = white.estimates[name]
        assert abs(e.value - kernel.value) < 4.0 * math.hypot(e.error, kernel.error), name
    # the chain is late by the overshoot, a relative 0.58 sqrt(2 lr D) times the slope of the time at the end, and order lr h
    assert white.log_ratio("equation") == pytest.approx(0.0, abs=0.1)
    assert white.conclusion.startswith("Eyring-Kramers can be trusted here")
    assert "SGD formula is wrong by a factor of at least" in white.conclusion


def test_saddle_halves_the_time() -> None:
    noise = fps.Noise.isotropic(0.1)
    beyond, saddle = (report(fps.Process(WELL, noise), [-1.0], [0.0], exit=e) for e in ("beyond", "saddle"))
    assert saddle.log_time("Eyring-Kramers") == pytest.approx(beyond.log_time("Eyring-Kramers") - math.log(2.0), abs=1e-12)
    assert saddle.log_time("equation") == pytest.approx(beyond.log_time("equation") - math.log(2.0), abs=1e-4)
    assert "halfspace([1.0], 0)" in saddle.notes[0]


def test_impermeable() -> None:
    """D = 0.6 |f''|: the equation never crosses, the chain leaps across; 4.388 is another program's -ln(rate)."""
    found = report(fps.Process(TANG, fps.Noise.hessian(TANG, scale=0.6)), [-2.9], [0.15], lr=0.02, batch=1, exit="saddle")
    assert found.estimates["equation"].value == math.inf and "impermeable" in found.skipped["Eyring-Kramers"]
    # started at the minimum, not from the quasi-stationary law: within a few per cent at 80 iterations
    assert found.log_time("transition kernel") == pytest.approx(4.388, abs=0.05)
    assert found.log_time("paths") == pytest.approx(4.388, abs=0.25)
    assert "the equation never crosses" in found.conclusion
    assert [status(found, s) for s in ("D changes little", "D is nowhere", "one step's noise")] == ["failed"] * 3


def test_range_of_the_formula_holds_a_path_parameter() -> None:
    """Noise with D = lr H_a/2B up to half the height and lr |H_b|/2B above is what the formula is about: s = 1/2 (spec A2.2)."""
    kappa, height = 0.12, float(TANG([0.156731]) - TANG([-2.903534]))
    from scipy.optimize import brentq

    c = brentq(lambda x: float(TANG([x]) - TANG([-2.903534])) - 0.5 * height, -2.9, 0.15)
    text = f"{kappa}*(15.852612 + 18.730447*(1 - tanh((x - ({c}))*400))/2)"
    found = report(fps.Process(TANG, fps.Noise.from_expression(text)), [-2.9], [0.15], lr=0.24 * 0.01, batch=0.01)
    match = re.search(r"the SGD formula holds with s = ([0-9.]+)", found.conclusion)
    assert match, found.conclusion
    # the prefactor 2 pi/|H_b| in place of 2 pi/H_a (a factor 0.54) moves ln by 0.6 of a range of 11
    assert float(match[1]) == pytest.approx(0.5, abs=0.1)


def test_region_box_and_lowest_saddle() -> None:
    """Of two ways out the lower one is taken, and the other one told of where it is as low."""
    U = fps.Potential.from_expression("(x**2 - 1)**2 + a*(x + x**3/3)/10", params={"a": 0.0})
    three = fps.Potential.from_expression("x**2*(x**2 - 1)**2*4 + a*x", params={"a": 0.0})
    for a, place, others in ((0.0, None, "failed"), (0.3, -0.55, "held"), (-0.3, 0.55, "held")):
        found = report(fps.Process(three.with_params(a=a), fps.Noise.isotropic(0.05)), [0.0], box=[(-1.6, 1.6)], exit="saddle")
        assert status(found, "no other saddle") == others
        if place is not None:
            assert re.search(rf"over \[{'-' if place < 0 else ''}0\.5", found.title), found.title
    disc = report(fps.Process(U, fps.Noise.isotropic(0.2)), [-1.0], [0.0], region=fps.Region.box([-3.0], [0.5]))
    exact = fps.FokkerPlanck(fps.Process(U, fps.Noise.isotropic(0.2)), fps.Grid((-3.0, 0.5, 900))).mean_exit_time(
        fps.Region.box([-3.0], [0.5]), at=[-1.0]
    )
    assert disc.estimates["equation"].value == pytest.approx(exact.value, rel=1e-3)


def test_plane_against_quadrature() -> None:
    """Separable: the first coordinate alone decides, so the PDE in the plane has the time of the line."""
    U2 = fps.Potential.from_expression("(x**2 - 1)**2 + 2*y**2", "x y")
    found = report(fps.Process(U2, fps.Noise.isotropic(0.15)), [-1.0, 0.0], [0.0, 0.0])
    exact = theory.mean_first_passage_1d(fps.Process(WELL, fps.Noise.isotropic(0.15)), -1.0, 0.5).value
    assert found.estimates["equation"].value == pytest.approx(exact, rel=5e-3)
    assert found.estimates["quasi-potential (exponent)"].value == pytest.approx(1.0 / 0.15, rel=1e-3)


def test_heavy_ball() -> None:
    """Kramers' law with inertia against the paths: 20 % for the next order in 1/barrier and the step."""
    chain = fps.SGDChain.gaussian(WELL, fps.Noise.isotropic(0.03), 0.005, momentum=0.8, batch=1)
    found = report(chain, [-1.0], [0.0])
    assert found.log_ratio("Eyring-Kramers", "paths") == pytest.approx(0.0, abs=0.2)
    assert "inertia" in found.skipped["equation"] and "inertia" in found.skipped["transition kernel"]
    assert status(found, "barrier / D") == "held"  # 1/0.15


def test_adam_has_the_formula_only(capsys: pytest.CaptureFixture[str]) -> None:
    """No escape within the steps that may be spent: everything else is listed as left out, and nothing is concluded."""
    noise = fps.Noise.covariance([[80.0]], 0.002, 4)
    found = report(fps.SGDChain.gaussian(WELL, noise, 0.002, optimizer="adam"), [-1.0], [0.0], progress=True)
    assert set(found.estimates) == {"SGD formula, s = 1", "SGD formula, s = 0"} and found.reference == ""
    exponent = 2.0 * math.sqrt(4.0) / (0.002 * math.sqrt(8.0))  # 2 sqrt(B) dL/(lr sqrt(H))
    prefactor = math.log(2.0 * math.pi / 4.0) + 0.25 * math.log(4.0 / 8.0)
    assert found.log_time("SGD formula, s = 1") == pytest.approx(exponent + prefactor - math.log(0.002), rel=1e-9)
    assert "no escape among" in found.skipped["paths"] and "adam counts" in found.skipped["splitting"]
    assert found.conclusion.startswith("Nothing here is known well enough")


@pytest.mark.parametrize(("heavy", "expected"), [(False, "held"), (True, "failed")])
def test_tails_of_data(heavy: bool, expected: str) -> None:
    """Gaussian samples, and Student's law with 1.2 degrees of freedom: index 2 and 1.2, each to 0.1."""
    rng = np.random.default_rng(5)
    data = rng.standard_t(1.2, 20_000) if heavy else rng.normal(size=20_000)
    ensemble = fps.Ensemble.from_expression("(x**2 - 1)**2 + 4*c*x", "x", data={"c": data - data.mean()})
    case = pose(fps.SGDChain(ensemble, lr=0.05, batch=20), [-1.0], [0.0], "saddle", None, [(-2.0, 2.0)], None, None)
    assert _tails(case).status == expected


def test_saved_and_drawn(white: fps.EscapeReport, tmp_path: object) -> None:
    path = f"{tmp_path}/report.h5"
    white.save(path)
    assert fps.load(path) == white
    labels = [label.get_text() for label in white.plot().get_yticklabels()]
    assert white.seed == 3
    assert labels[0] == "SGD formula, s in [0, 1]" and "paths" in labels and "quasi-potential (exponent)" not in labels
    text = str(white)
    assert "conditions of the formulas" in text and text.endswith(white.conclusion)
    with pytest.raises(ValueError, match="no row 'nothing'"):
        white.log_time("nothing")


def test_same_seed_same_report(white: fps.EscapeReport) -> None:
    assert report(fps.Process(WELL, fps.Noise.isotropic(0.15)), [-0.9], [0.1], lr=0.01, batch=1) == white


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"process": WELL}, TypeError, "takes a Process or an SGDChain"),
        ({"process": fps.Process(WELL, fps.Noise.levy(1.5, 0.1))}, ValueError, "Levy"),
        ({"exit": "over"}, ValueError, "'beyond' or 'saddle'"),
        ({"saddle": None}, ValueError, "give saddle="),
        ({"minimum": [0.0]}, ValueError, "same point"),
        ({"minimum": [0.02]}, ValueError, "must have 0|no zero"),
        ({"saddle": [1.0]}, ValueError, "must have 1"),
        ({"minimum": [math.nan]}, ValueError, "finite numbers"),
        ({"lr": -1.0}, ValueError, "lr must be a number > 0"),
        ({"lr": 0.01, "batch": math.inf}, ValueError, "batch must be a number > 0"),
        ({"region": fps.Region.ball([0.0, 0.0], 1.0)}, ValueError, "must be a Region in 1-D"),
        ({"region": fps.Region.ball([1.0], 0.5)}, ValueError, "not inside"),
        ({"region": fps.Region.ball([-1.0], 0.5)}, ValueError, "exit='saddle'"),
        ({"saddle": None, "box": [(-2.0, -0.5)]}, ValueError, "larger box"),
        ({"saddle": None, "box": [(1.0, -1.0)]}, ValueError, "lo < hi|lo"),
        ({"seed": -1}, ValueError, "seed"),
        ({"quick": "no"}, TypeError, "quick must be True or False"),
        ({"seconds": 0}, ValueError, "seconds must be > 0"),
        ({"seconds": math.nan}, ValueError, "seconds must be > 0"),
        ({"seconds": "5"}, TypeError, "seconds must be a number"),
        ({"seconds": True}, TypeError, "seconds must be a number"),
        ({"saddle": "lowest"}, ValueError, "several points or 'all'"),
        ({"saddle": "all"}, ValueError, "give saddle="),
        ({"saddle": [[0.0, 0.0]]}, ValueError, r"shape \(k, 1\)"),
        ({"saddle": [[0.0], [0.01]]}, ValueError, "name each once"),
        ({"saddle": [[math.nan]]}, ValueError, "finite"),
        ({"box": [(-0.5, 1.5)]}, ValueError, "is not inside box"),
    ],
)
def test_refused(change: dict[str, object], error: type[Exception], words: str) -> None:
    given = {"process": fps.Process(WELL, fps.Noise.isotropic(0.1)), "minimum": [-1.0], "saddle": [0.0], **change}
    with pytest.raises(error, match=words):
        report(given.pop("process"), given.pop("minimum"), given.pop("saddle"), **given)


def test_nothing_known_is_said() -> None:
    table = fps.EscapeReport("Escape", ["answer"], [["equation"]], estimates={"equation": fps.Estimate(2.0, unit="time")})
    assert table.reference == "" and table.failed == ()
    with pytest.raises(ValueError, match="is none of"):
        fps.EscapeReport("Escape", ["answer"], [["equation"]], reference="paths")


# ---- several saddles ------------------------------------------------------------------------------------------------

#: Three wells; the middle one has saddles at -0.577 and 0.577, of unequal height for a != 0.
THREE = fps.Potential.from_expression("4*x**2*(x**2 - 1)**2 + a*x", params={"a": 0.02})


def two_sided(D: float, low: float, high: float, start: float) -> float:
    """Mean time of leaving (low, high), by the trapezoidal rule: p(x) of leaving at the top, then two one-sided integrals."""
    x = np.linspace(low, high, 40_001)
    h, u = x[1] - x[0], (4 * x**2 * (x**2 - 1) ** 2 + 0.02 * x) / D

    def integral(f: np.ndarray) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(0.5 * h * (f[1:] + f[:-1]))])

    scale, inner = integral(np.exp(u)), integral(np.exp(-u)) / D
    outer = integral(np.exp(u) * inner)
    at = int(round((start - low) / h))
    return float(outer[-1] * scale[at] / scale[-1] - outer[at])


def test_rates_over_two_saddles_add() -> None:
    found = report(fps.Process(THREE, fps.Noise.isotropic(0.1)), [0.0], "all", box=[(-1.6, 1.6)])
    rows = [name for name in found.estimates if name.startswith("Eyring-Kramers")]
    assert len(rows) == 3 and rows[0] == "Eyring-Kramers"
    rates = [1.0 / theory.kramers_rate(fps.Process(THREE, fps.Noise.isotropic(0.1)), [0.0], [s]).value for s in (-0.577, 0.577)]
    assert sorted(found.estimates[name].value for name in rows[1:]) == pytest.approx(sorted(rates), rel=1e-9)
    assert found.estimates["Eyring-Kramers"].value == pytest.approx(1.0 / sum(1.0 / r for r in rates), rel=1e-9)
    # left at either of the outer minima
    ends = [p.x[0] for p in THREE.critical_points([(-1.6, 1.6)]) if p.index == 0]
    exact = two_sided(0.1, ends[0], ends[2], ends[1])
    assert found.estimates["equation"].value == pytest.approx(exact, rel=2e-3)
    assert found.reference == "equation" and abs(found.log_ratio("Eyring-Kramers")) < 0.15
    splitting = found.estimates["splitting"]
    assert abs(splitting.value - exact) < 4.0 * splitting.error  # false alarm 6e-5, and 1 % for the step
    assert status(found, "no other saddle") == "held"
    assert found.title.count("[") == 5  # from, two saddles, two minima
    # the least action is that over the lower saddle
    actions = [e.value for name, e in found.estimates.items() if name.startswith("quasi-potential")]
    assert actions[0] == min(actions[1:]) < max(actions[1:])
    assert [label.get_text() for label in found.plot().get_yticklabels()][0] == "Eyring-Kramers"
    named = report(fps.Process(THREE, fps.Noise.isotropic(0.1)), [0.0], [[0.58], [-0.58]], seed=3)
    assert named.log_time("Eyring-Kramers") == pytest.approx(found.log_time("Eyring-Kramers"), rel=1e-12)
    assert status(named, "no other saddle") == "unknown"


def test_a_box_that_holds_the_saddles_alone() -> None:
    """The region ends at the next minima, behind the sides of the box: these must not hold the paths back."""
    found = report(fps.Process(THREE, fps.Noise.isotropic(0.1)), [0.0], "all", box=[(-0.7, 0.7)], seconds=60.0)
    ends = [p.x[0] for p in THREE.critical_points([(-1.6, 1.6)]) if p.index == 0]
    assert found.estimates["equation"].value == pytest.approx(two_sided(0.1, ends[0], ends[2], ends[1]), rel=2e-3)


def test_four_saddles_of_a_plane() -> None:
    """By symmetry the total is a quarter of each time, and the PDE on a region with four sides agrees with it."""
    U = fps.Potential.from_expression("4*x**2*(x**2 - 1)**2 + 4*y**2*(y**2 - 1)**2", "x y")
    box = [(-1.3, 1.3), (-1.3, 1.3)]
    found = report(fps.Process(U, fps.Noise.covariance(16.0 * np.eye(2), 0.01)), [0.0, 0.0], "all", box=box, seconds=600.0)
    singles = [found.log_time(name) for name in found.estimates if name.startswith("Eyring-Kramers, over")]
    assert len(singles) == 4 and max(singles) - min(singles) < 1e-9
    assert found.log_time("Eyring-Kramers") == pytest.approx(singles[0] - math.log(4.0), abs=1e-9)
    # exact/Kramers at barrier/D = 7.4: next order, as on the line with two saddles (0.93)
    assert found.log_ratio("equation", "Eyring-Kramers") == pytest.approx(0.0, abs=0.2)
    assert "not run" not in found.column("mean time")
    assert len([name for name in found.estimates if name.startswith("quasi-potential")]) == 5


def test_another_saddle_that_counts_is_told_of() -> None:
    """Higher by a fifth of the barrier, but by 1.2 D only: its rate is a third of the other one, and no tenth of the barrier."""
    found = report(fps.Process(THREE.with_params(a=0.1), fps.Noise.isotropic(0.1)), [0.0], box=[(-1.6, 1.6)], exit="saddle")
    assert status(found, "no other saddle") == "failed"
    (condition,) = [a for a in found.assumptions if a.name.startswith("no other saddle")]
    assert "saddle='all'" in condition.detail


# ---- nothing crosses ------------------------------------------------------------------------------------------------


def test_nothing_crosses_and_paths_leak() -> None:
    """Without a learning rate there is the equation alone, and it never crosses: paths with a step do, at a rate of their own."""
    found = report(fps.Process(TANG, fps.Noise.hessian(TANG, scale=2.0)), [-2.9], [0.15], exit="saddle")
    assert found.reference == "equation" and found.estimates["equation"].value == math.inf
    assert "leaps across" in found.skipped["splitting"] and "leaps across" in found.skipped["paths"]
    assert found.conclusion.startswith("The equation never crosses (impermeable: D = 0 on the path with inward drift -19.92")
    assert found.conclusion.endswith("the finite time of white noise, D of the minimum is wrong.")
    assert [label.get_text() for label in found.plot().get_yticklabels()] == ["white noise, D of the minimum", "equation"]


# ---- what may be spent ----------------------------------------------------------------------------------------------


def test_what_is_not_afforded_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    process = fps.Process(WELL, fps.Noise.isotropic(0.1))
    nothing = report(process, [-1.0], [0.0], seconds=1e-9)
    assert set(nothing.column("mean time")) == {"not run"} and len(nothing.rows) == 8
    assert all("seconds were spent" in reason for reason in nothing.skipped.values())
    assert nothing.reference == "" and nothing.conclusion.startswith("Nothing here is known")
    assert "not run" in str(nothing)
    monkeypatch.setitem(_escape_run.POINTS, "equation", {1: 1e15})
    some = report(process, [-1.0], [0.0], lr=0.01, seconds=60.0)
    assert "it would take about" in some.skipped["equation"]
    assert dict(zip(some.column("answer"), some.column("mean time"), strict=True))["equation"] == "not run"
    assert some.reference == "transition kernel"
    whole = report(process, [-1.0], [0.0], lr=0.01)
    assert some.estimates["splitting"] == whole.estimates["splitting"]  # enough time changes no bit


def test_runs_end_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run under way ends as by Ctrl-C; a report says how far it came, or that it was too short for anything."""
    slow = fps.Process(WELL, fps.Noise.isotropic(0.05))
    with time_limit(0.3):
        times = fps.escape_times(slow, [-1.0], fps.Region.halfspace([1.0], 0.0), n=400, dt=0.001, t_max=1e9, seed=1, threads=1)
    assert times.partial and times.censored.all()
    assert fps.escape_times(slow, [-1.0], fps.Region.halfspace([1.0], -0.8), n=100, dt=0.01, seed=1, threads=1).partial is False
    monkeypatch.setattr("fpsolve.verdict.STEPS", {True: (1e15, 1e6)})
    found = report(slow, [-1.0], [0.0], seconds=3.0)
    assert "were too short" in found.skipped["paths"]
    assert found.column("mean time")[-1] == "not run"


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A background job of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("runs", [1, 4])
def test_ctrl_c_in_sampling_ends_the_report(monkeypatch: pytest.MonkeyPatch, ctrl_c: None, runs: int) -> None:
    """What was found is kept, the runs of splitting that were finished too if they are enough, and nothing is begun anew."""
    original, count = Control.add, iter(range(10_000))

    def add(self: Control, amount: float) -> None:
        original(self, amount)
        if amount == 1 and next(count) == runs - 1:
            _thread.interrupt_main()
            deadline = time.monotonic() + 20.0
            while not self.stopped:
                assert time.monotonic() < deadline
                time.sleep(0.001)

    monkeypatch.setattr(Control, "add", add)
    found = report(fps.Process(WELL, fps.Noise.isotropic(0.1)), [-1.0], [0.0])
    assert found.reference == "equation" and "Eyring-Kramers can be trusted" in found.conclusion
    assert ("splitting" in found.estimates) is (runs >= 3)
    if runs < 3:
        assert found.skipped["splitting"].startswith("Ctrl-C ended it: interrupted after 1 finished runs")
    else:
        assert any(f"splitting: stopped after {runs} runs" in note for note in found.notes)
    assert found.skipped["paths"] == "Ctrl-C came before it"
    assert found.rows[-1][:2] == ("paths", "not run")


def test_ctrl_c_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a part that solves, too; but not where there is nothing to keep."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    process = fps.Process(WELL, fps.Noise.isotropic(0.1))
    monkeypatch.setattr(theory, "mean_first_passage_1d", stop)
    found = report(process, [-1.0], [0.0])
    assert list(found.estimates) == ["Eyring-Kramers", "quasi-potential (exponent)"] and found.reference == ""
    assert found.skipped["equation"] == "Ctrl-C ended it"
    assert found.skipped["splitting"] == found.skipped["paths"] == "Ctrl-C came before it"
    monkeypatch.setattr(verdict, "minimum_action_path", stop)
    with pytest.raises(KeyboardInterrupt):
        report(process, [-1.0], [0.0])


# ---- the region -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "exit", "detail"),
    [
        (fps.Region.halfspace([1.0], 0.9), "saddle", "beyond the saddle"),
        (fps.Region.halfspace([1.0], -0.4), "saddle", "before the saddle"),
        (fps.Region.halfspace([1.0], 0.02), "beyond", "0.163 standard deviations"),  # 0.02/sqrt(D/U'')
        (fps.Region.box([-1.8], [1.8]), "beyond", "stays inside"),
    ],
)
def test_laws_are_not_blamed_for_another_region(region: fps.Region, exit: str, detail: str) -> None:
    """A region that ends elsewhere than the laws suppose is left after another time: half of it, or twice, or any."""
    found = report(fps.Process(WELL, fps.Noise.isotropic(0.06)), [-1.0], [0.0], region=region, exit=exit, box=[(-2.0, 2.0)])
    (condition,) = [a for a in found.failed if a.name == "the region ends where the laws do"]
    assert detail in condition.detail
    assert found.conclusion.startswith("The laws answer another question") or found.reference == ""
    assert "wrong" not in found.conclusion and "trusted" not in found.conclusion


def test_regions_that_end_where_the_laws_do() -> None:
    """The half of the time that is spent within sight of the saddle: 1.7 standard deviations beyond it 0.955 are left."""
    process = fps.Process(WELL, fps.Noise.isotropic(0.04))
    for exit, end in (("saddle", 0.0), ("saddle", 0.005), ("beyond", 0.17), ("beyond", 0.9)):
        found = report(process, [-1.0], [0.0], region=fps.Region.halfspace([1.0], end), exit=exit, seconds=60.0)
        assert status(found, "the region ends") == "held"
        assert abs(found.log_ratio("Eyring-Kramers", "equation")) < 0.12
    plane = fps.Potential.from_expression("(x**2 - 1)**2 + 2*y**2", "x y")
    case = pose(fps.Process(plane, fps.Noise.isotropic(0.1)), [-1.0, 0.0], [0.0, 0.0], "beyond", None, None, None, None)
    assert _ends(case).status == "held" and _ends(case).detail.startswith("3.16 standard")  # half way: 0.5/sqrt(0.1/4)


# ---- the sentence ---------------------------------------------------------------------------------------------------


def test_a_law_is_not_trusted_for_a_chain_with_long_steps() -> None:
    """lr U'' = 0.16: within a factor 2 of the chain, but the conditions under which the equation stands for it do not hold."""
    found = report(fps.Process(WELL, fps.Noise.isotropic(0.1)), [-1.0], [0.0], lr=0.02, batch=1, exit="saddle")
    assert found.reference == "transition kernel" and abs(found.log_ratio("Eyring-Kramers")) < math.log(2.0)
    assert "trusted" not in found.conclusion
    assert found.conclusion.count("'lr times the largest curvature is small' failed") >= 2  # the law and the equation


def test_the_formula_is_not_trusted_by_chance() -> None:
    chance = (fps.Assumption("covariance of the gradient noise is the Hessian", "failed"),)
    times = {
        "SGD formula, s = 1": fps.Estimate(90.0, unit="time", assumptions=chance),
        "SGD formula, s = 0": fps.Estimate(110.0, unit="time", assumptions=chance),
        "paths": fps.Estimate(100.0, stderr=2.0, unit="time"),
    }
    assert "though not for a good reason: 'covariance" in conclude(times, "paths")
    held = {name: fps.Estimate(e.value, unit="time") for name, e in times.items()}
    assert conclude(held, "paths").startswith("The SGD formula can be trusted here: 0.9 to 1.1 times")
    never = {"equation": fps.Estimate(math.inf, log_value=math.inf, unit="time")}
    assert conclude(never, "").startswith("On the way that was looked at the equation never crosses")
    on_a_line = {"equation": fps.Estimate(math.inf, log_value=math.inf, unit="time", method="never crosses")}
    assert conclude(on_a_line, "").startswith("The equation never crosses; of the algorithm nothing here is known")
    both = {**never, "paths": fps.Estimate(100.0, stderr=2.0, unit="time")}
    assert conclude(both, "paths") == (
        "The equation never crosses on the way that was looked at, while the answer of paths is finite."
    )


def test_a_minimum_without_noise_is_never_left() -> None:
    """C = 0 where all samples fit: the equation stays for ever, of the chain nothing is known on these cells, and no law holds."""
    found = report(fps.Process(WELL, fps.Noise.from_expression("0.15*(x**2 - 1)**2")), [-1.0], [0.0], lr=0.01, batch=1)
    assert status(found, "noise is left at the minimum") == "failed"
    assert found.estimates["equation"].value == math.inf and found.reference == ""
    assert found.conclusion.startswith("The equation never crosses; of the algorithm")


def test_range_of_the_formula_over_two_saddles() -> None:
    """Rates add, so that the sum is not linear in s: 0 = -ln(e^-(4 s - 1) + e^-(3 - 4 s)) at two s, and both ends are negative."""

    def said(*ends: tuple[float, float]) -> str:
        times = {"paths": fps.Estimate(1.0, stderr=0.01, unit="time")}
        for k, s in enumerate(("s = 1", "s = 0")):
            every = [fps.Estimate(math.exp(e[k]), unit="time") for e in ends]
            times[f"SGD formula, {s}"] = total_time(every)
            times |= {f"SGD formula, {s}, over [{i}]": e for i, e in enumerate(every)} if len(ends) > 1 else {}
        return conclude(times, "paths")

    assert said((3.0, -1.0)).startswith("The SGD formula holds with s = 0.25")
    # both ends too short, and right in between: u = e^(4 s - 2), 1 = e^-1 (1/u + u), u = e/2 - sqrt(e^2/4 - 1)
    u = math.e / 2.0 - math.sqrt(math.e**2 / 4.0 - 1.0)
    assert said((3.0, -1.0), (-1.0, 3.0)).startswith(f"The SGD formula holds with s = {0.5 + math.log(u) / 4.0:.2g}")
    assert said((0.2, 3.0)).startswith(
        "The SGD formula is wrong by a factor of 1.22, too long, with s = 1, which it does not predict"
    )
    assert "at least 2.72 for every s" in said((1.0, 3.0))


def test_an_answer_that_is_not_known_is_not_compared() -> None:
    times = {
        "equation": fps.Estimate(62.0, discretization_error=60.0, unit="time"),
        "splitting": fps.Estimate(100.0, stderr=5.0, unit="time"),
    }
    assert conclude(times, "splitting") == "The equation is not known well enough to be compared (to 97%)."
    flagged = fps.Estimate(90.0, unit="time", assumptions=(fps.Assumption("cells resolve the noise", "failed"),))
    assert "not for a good reason: 'cells resolve" in conclude({**times, "equation": flagged}, "splitting")


def test_beyond_doubles_a_kernel_is_known_from_two_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Barrier/D = 800: three quarters of 200 cells do not resolve the jumps, those of 300 do."""
    for cells, known in ((200, False), (300, True)):
        monkeypatch.setitem(verdict.JUMP_CELLS[True], 1, cells)
        found = report(fps.Process(WELL, fps.Noise.isotropic(1.25e-3)), [-1.0], [0.0], lr=0.01, exit="saddle")
        kernel = found.estimates["transition kernel"]
        assert math.isinf(kernel.value) and bool(kernel.failed) is not known
        assert known or [a.name for a in kernel.failed] == ["the logarithm is known to 0.25"]
        assert found.reference == ("transition kernel" if known else "")
    assert found.log_ratio("equation") == pytest.approx(0.0, abs=0.5)


def test_noise_of_rank_one_is_not_white() -> None:
    """Noise along x alone: the law of white noise is right within a factor 2 by chance, and the conditions say what is missing."""
    U2 = fps.Potential.from_expression("(x**2 - 1)**2 + 2*(y - 0.3*x)**2", "x y")
    noise = fps.Noise.covariance([[40.0, 0.0], [0.0, 0.0]], 0.01)
    found = report(fps.Process(U2, noise), [-1.0, -0.3], [0.0, 0.0], exit="saddle", seconds=300.0)
    assert status(found, "noise acts in every direction") == "failed"
    white = found.estimates["white noise, D of the minimum"]
    assert [a.name for a in white.failed][0] == "the noise is white and isotropic"
    assert "can be trusted" not in found.conclusion
    assert found.reference == "paths"


def test_numbers_of_the_table() -> None:
    assert power_of_ten(math.log(9.9996e11)) == "1.00e+12"
    assert power_of_ten(math.log(1.0) - 2000.0 * math.log(10.0)) == "1.00e-2000"
    rate = inverse(fps.Estimate(4.0, stderr=1.0, unit="iteration", lr=0.1))
    assert (rate.value, rate.stderr, rate.unit, rate.lr) == (0.25, 0.0625, "1/iteration", 0.1)
    assert inverse(rate).value == 4.0
    far = [fps.Estimate(math.inf, log_value=v, unit="time") for v in (1000.0, 1001.0)]
    assert total_time(far).log_value == pytest.approx(1000.0 - math.log1p(math.exp(-1.0)), abs=1e-12)
    closed = fps.Estimate(math.inf, log_value=math.inf, unit="time")
    assert total_time([closed, fps.Estimate(3.0, unit="time")]).value == pytest.approx(3.0)
