"""fps.escape_report: every row against its own source, the conditions, the sentence, and what is refused."""

import math
import re

import numpy as np
import pytest

import fpsolve as fps
from fpsolve import theory
from fpsolve._escape_case import _tails, pose

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
        ({"region": fps.Region.ball([0.0, 0.0], 1.0)}, ValueError, "must be a Region in 1-D"),
        ({"region": fps.Region.ball([1.0], 0.5)}, ValueError, "not inside"),
        ({"region": fps.Region.ball([-1.0], 0.5)}, ValueError, "exit='saddle'"),
        ({"saddle": None, "box": [(-2.0, -0.5)]}, ValueError, "larger box"),
        ({"saddle": None, "box": [(1.0, -1.0)]}, ValueError, "lo < hi|lo"),
        ({"seed": -1}, ValueError, "seed"),
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
