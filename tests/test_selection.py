"""fps.selection_report and fps.phase_diagram: rows against their sources, the sentence, refusals, resuming; two traps."""

import math
import warnings

import numpy as np
import pytest

import fpsolve as fps
from fpsolve.potentials import degenerate_valley, product, ring


@pytest.fixture(scope="module")
def report():
    """Both sides of the valley are seen within the run: kappa = 5, Delta = 0.05, a floor lowest at x = 1."""
    valley = degenerate_valley("1 + 4*x**2", "0.02*(x - 1)**2")
    return fps.selection_report(fps.Process(valley, fps.Noise.diagonal([0.01, 0.05])), (-2.0, 2.0), lr=0.02, seed=1, threads=1)


def test_rows_are_those_of_their_sources(report):
    """The marginal of an own grid, exp(-kappa U/Delta) by hand, and the distance between the two."""
    process = fps.Process(degenerate_valley("1 + 4*x**2", "0.02*(x - 1)**2"), fps.Noise.diagonal([0.01, 0.05]))
    marginal = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, 160), (-1.35, 1.35, 120))).stationary().marginal(0)
    x = report.effective.x
    own = np.interp(x, marginal.grid.centers[0], marginal.values)
    inner = own > 1e-3 * own.max()  # lines between cells are far from exponentials in the tails
    np.testing.assert_allclose(report.densities["equation"][inner], own[inner], rtol=0.02)
    # the chain's variance 2 Delta/(lambda (2 - lr lambda)) makes (lambda/(2 - lr lambda))^(-kappa/2) of F^kappa
    lam = 1.0 + 4.0 * x**2
    law = np.exp(-5.0 * 0.02 * (x - 1.0) ** 2 / 0.05) * (lam / (2.0 - 0.02 * lam)) ** -2.5
    np.testing.assert_allclose(report.densities["theory, leading order"], law / np.trapezoid(law, x), rtol=1e-5)
    tv = 0.5 * np.trapezoid(np.abs(report.densities["theory, leading order"] - report.densities["equation"]), x)
    assert report.distances["theory, leading order"] == pytest.approx(tv, rel=0.1)
    assert report.distances["theory, second order"] < report.distances["theory, leading order"] < 0.05
    # the bins of the histogram, its sampling error, and lr lambda/2 of the variance
    assert report.distances["paths"] < 0.03


def test_answers_agree(report):
    """<x> after one relaxation: equation and paths within 4 standard errors and the 2 % that lr lambda changes."""
    e = report.estimates
    assert abs(e["paths"].value - e["equation"].value) < 4.0 * e["paths"].stderr + 0.04
    assert abs(e["theory, second order"].value - e["equation"].value) < 0.03
    assert e["relaxation"].per_iteration().value == pytest.approx(e["relaxation"].value / 0.02)
    assert report.reference == "equation" and not report.skipped
    assert "the floor is lowest at x = 1" in report.conclusion and "SGD goes to x = 0.18" in report.conclusion
    assert "the theory is stretched" in report.conclusion and report.failed


def test_saved_drawn_and_printed(report, tmp_path):
    report.save(tmp_path / "report.h5")
    assert fps.load(tmp_path / "report.h5") == report
    assert len(report.plot().lines) == 5
    assert "conditions of the theory" in str(report) and report.conclusion in str(report)


def test_same_seed_same_report(report):
    valley = degenerate_valley("1 + 4*x**2", "0.02*(x - 1)**2")
    again = fps.selection_report(fps.Process(valley, fps.Noise.diagonal([0.01, 0.05])), (-2.0, 2.0), lr=0.02, seed=1, threads=2)
    assert again == report


def test_shifted_minima_have_a_mean_and_no_density():
    """<x> after n* steps is start/e, to the curvature's change over the way; the equation has no noise on the floor."""
    U = degenerate_valley("1 + 0.02*x**2")
    chain = fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, 1.0, 0.2), 0.2)
    report = fps.selection_report(chain, (-1.0, 1.0), 0.5, seed=2, threads=1)
    assert not report.densities and report.reference == "paths" and "equation" in report.skipped
    for name in ("theory, leading order", "theory, second order"):
        assert report.estimates[name].value == pytest.approx(0.5 / math.e, rel=0.02)
    paths = report.estimates["paths"]
    assert abs(paths.value - report.estimates["theory, second order"].value) < 4.0 * paths.stderr + 0.002
    assert report.estimates["relaxation"].per_iteration().value == pytest.approx(2.0 * 1.8 / (0.2**2 * 0.04), rel=2e-3)


def test_beyond_the_bound():
    U = degenerate_valley("1 + x**2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = fps.selection_report(fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, 3.0, 0.1), 0.1), (-1.5, 1.5), seed=1)
    assert report.effective.beyond and "beyond its bound (anisotropy, second moment)" in report.conclusion
    assert "would go" in report.conclusion and "are lost" in report.skipped["paths"]


def test_three_dimensions_by_paths():
    U = degenerate_valley(["1 + x**2", "2 + x**2"])
    report = fps.selection_report(fps.Process(U, fps.Noise.diagonal([0.01, 0.05, 0.05])), (-2.0, 2.0), seed=1, threads=1)
    assert report.reference == "paths" and "3 dimensions" in report.skipped["equation"]
    assert report.distances["theory, second order"] < 0.03


def test_a_floor_away_from_zero():
    """The same valley at y = 0.7: start, grid and curvatures are those of its floor, so that nothing but y changes."""
    U = fps.Potential.from_expression("(1 + a*x**2)*(y - b)**2/2", "x y", {"a": 4.0, "b": 0.7})
    noise = fps.Noise.diagonal([0.01, 0.05])
    away, home = (
        fps.selection_report(fps.Process(U, noise).with_params(b=b), (-2.0, 2.0), 1.5, seed=1, threads=1) for b in (0.7, 0.0)
    )
    for name in ("equation", "theory, second order"):
        assert away.estimates[name].value == pytest.approx(home.estimates[name].value, rel=1e-6)
    # the same random numbers; y is rounded at another place
    assert away.estimates["paths"].value == pytest.approx(home.estimates["paths"].value, rel=1e-3)
    np.testing.assert_allclose(away.densities["equation"], home.densities["equation"], rtol=1e-5)
    shifted = degenerate_valley("1 + x**2")
    moved = fps.Potential.from_expression("(1 + x**2)*(y - 0.7)**2/2 + 0*x", "x y")
    shares = [
        fps.phase_diagram(V, [1.0], [0.1], [1.0, y], (-20.0, 20.0), n=50, t=20.0, seed=3, threads=1).order[0, 0]
        for V, y in ((shifted, 0.0), (moved, 0.7))
    ]
    assert shares[1] == pytest.approx(shares[0], rel=1e-9)


def test_what_the_sentence_says_of_isotropic_noise_and_of_two_minima():
    same = fps.selection_report(fps.Process(degenerate_valley(), fps.Noise.isotropic(0.05)), (-2.0, 2.0), seed=1, threads=1)
    assert "nothing is preferred beyond" in same.conclusion and "paths" in same.estimates and not same.effective.beyond
    # F^kappa with kappa = 1, to the error of the cells
    assert same.distances["theory, leading order"] < 1e-3
    two = degenerate_valley("1 + 4*x**2", "0.1*(x**2 - 1)**2")
    said = fps.selection_report(fps.Process(two, fps.Noise.diagonal([0.02, 0.05])), (-2.0, 2.0), seed=1, threads=1).conclusion
    assert "the effective loss has minima at x = -0.9" in said


def test_correlation_of_the_noises_is_a_trap():
    """D_x of the chain: 1/16 with the noises of one step correlated, 5/16 without; 12 000 paths, 4 standard errors and 2 %."""
    lr, sigma, n, steps = 0.02, 0.5, 12_000, 800
    eps, U = lr * sigma**2, degenerate_valley("1 + 0.1*x")
    c = eps / 2.0
    rows = [[f"{c}*(0.1*y)**2", "0"], ["0", f"{c}*((1 + 0.1*x)**2 + (0.1*y)**2)"]]
    start = np.stack([np.zeros(n), math.sqrt(eps / (2.0 - lr)) * np.random.default_rng(0).normal(size=n)], axis=1)
    for k, (noise, factor) in enumerate(
        ((fps.Noise.shifted_minima(U, sigma, lr), 1.0), (fps.Noise.from_expression(rows, variables="x y"), 5.0))
    ):
        chain = fps.SGDChain.gaussian(U, noise, lr)
        end = fps.simulate(chain, start, t=steps, n=n, seed=k, threads=1).final
        moved = [w[:, 0] - 0.025 / (1.0 + 0.1 * w[:, 0]) * w[:, 1] ** 2 for w in (start, end)]
        ratio = float((moved[1] - moved[0]).var()) / (2.0 * lr * steps) / (eps**2 * 0.01 / 16.0)
        width = factor * (4.0 * math.sqrt(2.0 / n) + 0.02 + 0.05 * (factor == 1.0))  # lr lambda adds 5 % to the correlated one
        assert abs(ratio - factor) < width


def test_exact_shifts_are_another_ensemble():
    """Exact shifts move along the floor at lr sigma^2 k/2 + 1/n*, twenty times faster than the linearised ones, 1/n*."""
    lr, sigma, k = 0.1, 0.3, 0.5
    U = degenerate_valley(f"1 + {k}*x**2/2")
    rates = []
    for chain, steps, n in (
        (fps.SGDChain.random_shift(U, sigma, lr), 300, 800),
        (fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, sigma, lr), lr), 4000, 800),
    ):
        x = fps.simulate(chain, [0.3, 0.0], t=steps, n=n, seed=4, threads=1).final[:, 0]
        rates.append(-math.log(x.mean() / 0.3) / steps)
    slow = lr**2 * sigma**2 * k / (2.0 * (2.0 - lr))
    # 800 paths: 0.6 % and 0.4 %; the curvature changes by 1 % from 0.3 to 0
    assert rates[0] == pytest.approx(lr * sigma**2 * k / 2.0 + slow, rel=0.04)
    assert rates[1] == pytest.approx(slow, rel=0.04)
    assert 16.0 < rates[0] / rates[1] < 24.0


def test_other_degenerate_families_flow_to_the_flat_end():
    """SGD on (x y - 1)^2 balances its factors; on a ring, where all minima are alike, the angle only diffuses."""
    U = product()
    chain = fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, 0.25, 0.02), 0.02)
    final = fps.simulate(chain, [2.0, 0.5], t=4000, n=200, seed=5, threads=1).final
    # x^2 - y^2 starts at 3.75 and decays
    imbalance = np.abs(final[:, 0] ** 2 - final[:, 1] ** 2).mean()
    assert imbalance < 1.9 and abs((final[:, 0] * final[:, 1]).mean() - 1.0) < 0.1
    still = fps.simulate(
        fps.Process(ring(), fps.Noise.isotropic(0.01)), [1.0, 0.0], t=20.0, dt=0.02, n=2000, seed=6, threads=1
    ).final
    # <cos angle> = exp(-D t) for D/r^2 = 0.01, to the order D of the radius; 4 standard errors
    cosine = still[:, 0] / np.hypot(*still.T)
    assert abs(cosine.mean() - math.exp(-0.2)) < 4.0 * cosine.std() / math.sqrt(2000) + 0.01


def test_phase_diagram(tmp_path):
    """Shares against paths counted here, the theory's hyperbola, and a file that is taken up again."""
    U = degenerate_valley("1 + x**2")
    sigma, lr = np.array([1.0, 3.2, 3.8]), [0.05, 0.1]
    options = {"n": 100, "t": 50.0, "seed": 3, "threads": 1}
    diagram = fps.phase_diagram(U, sigma, lr, [1.0, 0.0], (-20.0, 20.0), save=tmp_path / "phase.h5", **options)
    assert diagram.escaped[0, 0] == 0.0 and diagram.escaped[2, 1] > 0.9 and np.all(np.diff(diagram.escaped, axis=0) >= 0.0)
    chain = fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, 1.0, 0.05), 0.05)
    final = fps.simulate(chain, [1.0, 0.0], t=1000, n=100, seed=3, threads=1).final
    assert diagram.order[0, 0] == pytest.approx(float(((1.0 + final[:, 0] ** 2) ** -0.5).mean()), rel=1e-12)
    assert diagram.bounds["anisotropy"].value == pytest.approx(0.5 * (1.0 + 1.0 / 400.0), rel=1e-3)  # 2 lambda/lambda'^2 at the end
    part = fps.PhaseDiagram(diagram.sigma, diagram.lr, diagram.escaped.copy(), diagram.order.copy(), 100, diagram.bounds,
                            diagram.settings, 3)  # fmt: skip
    part.escaped[1, 1] = part.order[1, 1] = np.nan
    part.save(tmp_path / "phase.h5")
    again = fps.phase_diagram(U, sigma, lr, [1.0, 0.0], (-20.0, 20.0), save=tmp_path / "phase.h5", **options)
    assert again == diagram and fps.load(tmp_path / "phase.h5") == diagram
    assert len(diagram.plot().lines) == 3 and "critical sigma" in repr(diagram)
    with pytest.raises(ValueError, match="something else"):
        fps.phase_diagram(U, sigma, [0.05, 0.2], [1.0, 0.0], (-20.0, 20.0), save=tmp_path / "phase.h5", **options)


def test_critical_line_of_known_shares():
    shares = np.array([[0.0, 0.2], [0.4, 0.6], [0.6, 0.9]])
    diagram = fps.PhaseDiagram([1.0, 2.0, 3.0], [0.1, 0.4], shares, np.ones((3, 2)), 10)
    np.testing.assert_allclose(diagram.critical(), [2.5, 1.75])
    assert diagram.exponent() == pytest.approx(math.log(1.75 / 2.5) / math.log(4.0))
    assert np.isnan(diagram.critical(0.95)).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda v: fps.selection_report(v, (2.0, -2.0)), ValueError, "range"),
        (
            lambda v: fps.selection_report(fps.Process(v.potential, v.noise, interpretation="stratonovich"), (-2, 2), lr=0.02),
            ValueError,
            "interpretation='stratonovich'",
        ),
        (
            lambda v: fps.selection_report(
                fps.Process.from_drift(["-4*x*y**2", "-(1 + 4*x**2)*y"], v.noise, variables="x y"), (-2.0, 2.0), lr=0.02
            ),
            ValueError,
            "no potential",
        ),
        (lambda v: fps.phase_diagram(v.potential, [1.0], [0.1], [1.0, 0.0], (-2.0, 2.0), n=2.5), ValueError, "n must"),
        (lambda v: fps.phase_diagram(v.potential, [1.0], [0.1], [1.0, 0.0], (-2.0, 2.0), radius=-1.0), ValueError, "radius"),
        (lambda v: fps.phase_diagram(v.potential, [], [0.1], [1.0, 0.0], (-2.0, 2.0)), ValueError, "sigma"),
        (lambda v: fps.phase_diagram(v.potential, "a", [0.1], [1.0, 0.0], (-2.0, 2.0)), TypeError, "sigma"),
        (lambda v: fps.selection_report(v, (-2.0, 0.0, 2.0)), ValueError, "range"),
        (lambda v: fps.selection_report(v, (-2.0, 2.0), 3.0), ValueError, "start"),
        (lambda v: fps.selection_report(v.potential, (-2.0, 2.0)), TypeError, "Process"),
        (lambda v: fps.phase_diagram(v, [1.0], [0.1], [1.0, 0.0], (-2.0, 2.0)), TypeError, "Potential"),
        (lambda v: fps.phase_diagram(v.potential, [2.0, 1.0], [0.1], [1.0, 0.0], (-2.0, 2.0)), ValueError, "sigma"),
        (lambda v: fps.phase_diagram(v.potential, [1.0], [0.1], [1.0], (-2.0, 2.0)), ValueError, "start"),
        (lambda v: fps.phase_diagram(v.potential, [1.0], [0.1], [1.0, 0.0], (-2.0, 2.0), t=0.01), ValueError, "t must"),
        (lambda v: fps.phase_diagram(v.potential, [1.0], [0.1], [1.0, 0.0], (-2.0, 2.0), ensemble="x"), ValueError, "ensemble"),
        (lambda v: fps.PhaseDiagram([1.0], [0.1], [[0.0, 1.0]], [[1.0]], 3), ValueError, "shape"),
        (lambda v: fps.SelectionReport("a", ["b"], [], reference="paths"), ValueError, "reference"),
        (lambda v: fps.theory.slow_process(v), TypeError, "EffectiveLoss"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(fps.Process(degenerate_valley(), fps.Noise.diagonal([0.01, 0.05])))
