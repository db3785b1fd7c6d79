"""Richardson's error estimate: exact on model sequences, honest on grids."""

import numpy as np
import pytest
import scipy.linalg as la

from fpsolve._refine import richardson, step_error
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Estimate

FLAT = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))


def test_two_grids_give_the_whole_change():
    result = richardson([Estimate(1.02, unit="time", method="grid"), Estimate(1.08, unit="time")], 2.0)
    assert result.value == 1.02
    assert result.discretization_error == pytest.approx(0.06)
    assert result.unit == "time"
    assert result.method == "grid, two grids"
    # cells 1.5 times as wide, first order: errors 0.10 and 0.15
    assert richardson([Estimate(1.10), Estimate(1.15)], 1.5).discretization_error == pytest.approx(0.1)
    assert richardson([Estimate(1.0), Estimate(1.0)], 1.0).discretization_error == np.inf


@pytest.mark.parametrize("order", [0.6, 0.9, 1.0, 1.5, 1.75, 2.0, 2.25, 3.0, 4.0])
@pytest.mark.parametrize("grids", [2, 3])
def test_the_error_of_the_finest_grid_bounds_a_pure_power_of_any_order(order, grids):
    """v(h) = 3 + 0.1 h^q: with three grids from q = 1/2 on, with two from q = 1 on."""
    first, second = 0.1 * (2**order - 1), 0.1 * (4**order - 2**order)
    error, measured, confirmed = step_error(first, second if grids == 3 else None, 2.0)
    assert error >= 0.1 * (1 - 1e-12) or (grids == 2 and order < 1)
    assert confirmed == (grids == 3 and 1.7 <= order <= 2.3)
    if grids == 3:
        assert measured == pytest.approx(order)
    if confirmed and order <= 2 or grids == 3 and order < 1:
        # where confirmed, the change over 2^1.7 - 1: a third more than the error at order 2
        assert error == pytest.approx(0.1 * ((2**order - 1) / (2**1.7 - 1) if confirmed else 1.0))
    elif not confirmed:
        assert first <= error * (1 + 1e-12) <= 1.4 * first


def test_a_chance_agreement_of_two_grids_is_no_small_error():
    """Then the two coarser ones decide: their change falls fourfold per grid, and a third of it is left."""
    for first in (1e-9, -1e-9, 0.0):
        assert step_error(first, 0.24, 2.0)[0] == pytest.approx(0.02)


@pytest.mark.parametrize(("order", "ratio"), [(2.0, 2.0), (4.0, 2.0), (2.0, 1.5)])
def test_three_grids_extrapolate_a_pure_power(order, ratio):
    numbers = [Estimate(3.0 + 0.1 * ratio ** (order * k)) for k in range(3)]
    result = richardson(numbers, ratio, order=order)
    assert result.value == pytest.approx(3.0, abs=1e-12)
    assert result.assumptions[0].status == "held"
    logs = [Estimate(0.0, log_value=-2000.0 + np.log1p(0.1 * ratio ** (order * k))) for k in range(3)]
    assert richardson(logs, ratio, order=order).log_value == pytest.approx(-2000.0, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "error"),
    [([1.0, 1.1, 1.25], 0.1 / (1.5 - 1)), ([1.0, 1.1, 0.9], 0.1), ([1.0, 1.1, 1.3], 0.1), ([1.0, 1.0, 1.0], 0.0)],
)
def test_an_order_that_is_not_confirmed_is_said(values, error):
    """The first falls by 1.5 per grid, order 0.58: what is left is 1/(1.5 - 1) of the last change."""
    result = richardson([Estimate(v) for v in values], 2.0)
    assert result.value == 1.0
    assert result.assumptions[0].status == "failed"
    assert result.discretization_error == pytest.approx(error)


def test_an_order_measured_with_cells_that_are_too_coarse_is_chance():
    numbers = [Estimate(1 + 0.01 * 4**k) for k in range(3)]
    result = richardson(numbers, 2.0, coarse=["cells holding 30% of the mass"])
    assert result.value == 1.01
    assert result.discretization_error == pytest.approx(0.03)
    assert [(a.name, a.status) for a in result.assumptions] == [
        ("the cells resolve the noise", "failed"),
        ("order 2 on three grids", "failed"),
    ]
    assert "FAILED: the cells resolve the noise" in repr(richardson(numbers[:2], 2.0, coarse=["30%"]))


def test_beyond_doubles_the_error_is_infinite():
    assert richardson([Estimate(np.inf), Estimate(np.inf)], 2.0).discretization_error == np.inf


def test_refine_doubles_the_cells_and_keeps_the_rest():
    grid = Grid((-1, 1, 10), (0, 2, 6), boundary=["periodic", ("absorbing", "reflecting")])
    process = Process.from_drift(["1", "0"], Noise.isotropic(0.5), variables="x y")
    fp = FokkerPlanck(process, grid, max_offset=5).refine()
    assert fp.grid == Grid((-1, 1, 20), (0, 2, 12), boundary=grid.boundary)
    assert fp.max_offset == 5
    assert fp.process is process


def test_estimate_confirms_the_order_and_extrapolates():
    """Second moment of the exit time from (-1, 1), 5/3: the extrapolated value is far better than the grid's own."""
    fp = FokkerPlanck(FLAT, Grid((-1, 1, 80)))
    question = lambda f: f.exit_time_moments(Region.box([-1.0], [1.0]))[1].values[f.grid.shape[0] // 2]  # noqa: E731
    mean = lambda f: f.evolve(("gaussian", [0.2], [[0.01]]), 0.3, rtol=1e-10).mean()[0]  # noqa: E731
    rough = fp.estimate(lambda f: f.escape_rate(Region.box([-1.0], [1.0])).value, unit="1/time")
    fine = fp.estimate(lambda f: f.escape_rate(Region.box([-1.0], [1.0])).value, confirm=True, unit="1/time")
    exact = np.pi**2 / 8
    assert abs(rough.value - exact) < rough.discretization_error
    assert rough.value == fp.escape_rate(Region.box([-1.0], [1.0])).value
    assert fine.assumptions[0].status == "held", fine.assumptions
    assert abs(fine.value - exact) < 2 * fine.discretization_error < 0.3 * rough.discretization_error
    assert question(fp) > 1.6
    assert fp.estimate(mean).unit == ""
    again = fp.estimate(lambda f: f.escape_rate(Region.box([-1.0], [1.0])), confirm=True)
    assert again.value == pytest.approx(fine.value, rel=1e-12)
    assert again.unit == "1/time"
    assert again.method.endswith("three grids") and again.method.count("grids") == 1


def test_arrays_of_answers_are_tuples_of_estimates():
    """Mean and covariance of a linear process with a current after t = 0.5 and for ever, against the matrix exponential."""
    A, D = np.array([[1.0, 0.6], [-0.3, 0.8]]), 0.5
    fp = FokkerPlanck(Process.ornstein_uhlenbeck(A, Noise.isotropic(D)), Grid((-5, 5, 48), (-5, 5, 48)))
    start = ("gaussian", [1.0, -0.5], 0.4 * np.eye(2))
    S = la.solve_continuous_lyapunov(A, 2 * D * np.eye(2))
    decay = la.expm(-0.5 * A)
    for confirm in (False, True):
        mean, cov, forever = fp.estimate(
            lambda f: (*((p := f.evolve(start, 0.5, rtol=1e-9)).mean(), p.covariance()), f.stationary().covariance()),
            confirm=confirm,
        )
        moved = S + decay @ (0.4 * np.eye(2) - S) @ decay.T
        for estimates, exact in ((mean, decay @ [1.0, -0.5]), (cov, moved), (forever, S)):
            values = np.vectorize(lambda e: e.value)(np.array(estimates, dtype=object))
            errors = np.vectorize(lambda e: e.discretization_error)(np.array(estimates, dtype=object))
            assert values.shape == exact.shape
            assert np.all(np.abs(values - exact) <= errors + 1e-9), (confirm, values - exact, errors)
            assert np.all(errors < 0.03), errors


def test_rates_and_times_carry_the_learning_rate_of_the_noise():
    """Noise of a batch: lr = 0.1, batch = 4, D = lr C / (2 batch)."""
    noise = Noise.covariance([[40.0]], lr=0.1, batch=4)
    fp = FokkerPlanck(Process(Potential.from_expression("x**2/2"), noise), Grid((-3, 3, 60)))
    region, a, b = Region.box([-1.0], [1.0]), Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0)
    rates = [fp.escape_rate(region), fp.reactive_rate(a, b), fp.entropy_production(), fp.estimate(lambda f: 2.0, unit="1/time")]
    for rate in rates:
        assert (rate.lr, rate.batch) == (0.1, 4.0)
        assert rate.per_iteration().value == pytest.approx(0.1 * rate.value)
    times = [fp.mean_exit_time(region, at=[0.0]), fp.estimate(lambda f: f.mean_exit_time(region, at=[0.0]), confirm=True)]
    for time in times:
        assert time.per_iteration().value == pytest.approx(10.0 * time.value)
    variance = fp.exit_time_variance(region, at=[0.0])
    assert variance.per_iteration().value == pytest.approx(100.0 * variance.value)
    assert fp.expectation(lambda x: x[:, 0], 1.0, ("gaussian", [0.5], [[0.1]])).lr == 0.1


def test_a_grid_that_cannot_be_halved_has_an_infinite_error():
    fp = FokkerPlanck(
        Process(Potential.from_expression("0*x + y**2/2", "x y"), Noise.isotropic(0.5)), Grid((-1, 1, 2), (-4, 4, 20))
    )
    region = Region.box([-2.0, -1.0], [2.0, 1.0])
    assert fp.escape_rate(region).discretization_error == np.inf
    assert fp.mean_exit_time(region, at=[0.0, 0.0]).discretization_error == np.inf
    assert fp.estimate(lambda f: 1.0).discretization_error == np.inf


def test_refusals():
    fp = FokkerPlanck(FLAT, Grid((-1, 1, 6)))
    with pytest.raises(TypeError, match="question must be a function"):
        fp.estimate("mean")
    for answer in (fp.stationary(), True, 1j, "one"):
        with pytest.raises(TypeError, match="must return a number"):
            fp.estimate(lambda f, answer=answer: answer)
    for question in (
        lambda f: f.stationary().values,
        lambda f: (1.0,) if f is fp else 1.0,
        lambda f: [[1.0]] if f is fp else [1.0],
    ):
        with pytest.raises(ValueError, match="same shape on every grid"):
            fp.estimate(question)
    with pytest.raises(ValueError, match="at least 8 cells"):
        fp.estimate(lambda f: 1.0, confirm=True)
    with pytest.raises(ValueError, match="order must be"):
        fp.estimate(lambda f: 1.0, order=0.0)


def test_orders_seen_on_coarser_cells_that_do_not_resolve_the_noise_are_not_believed():
    """Covariances of random linear processes at conditions up to 100: errors of three grids cover, or an assumption fails."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(30):
        A = rng.normal(size=(2, 2))
        A = 0.4 * A @ A.T + 0.5 * np.eye(2) + rng.normal() * np.array([[0.0, 1.0], [-1.0, 0.0]])
        angle, small = rng.uniform(0, np.pi), 10 ** -rng.uniform(0, 2)
        u, v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        D = np.outer(u, u) + small * np.outer(v, v)
        exact = la.solve_continuous_lyapunov(A, 2 * D)
        reach = 7.5 * np.sqrt(np.diag(exact))
        process = Process.ornstein_uhlenbeck(A, Noise.constant(D))
        for n in (24, 48):
            fp = FokkerPlanck(process, Grid((-reach[0], reach[0], n), (-reach[1], reach[1], n)))
            cov = fp.estimate(lambda f: f.stationary().covariance(), confirm=True)
            for i, j in ((0, 0), (0, 1), (1, 1)):
                entry = cov[i][j]
                if any(a.name == "the cells resolve the noise" for a in entry.failed):
                    continue
                assert abs(entry.value - exact[i, j]) <= entry.discretization_error + 1e-9, (n, A, D, entry)
                refused += any("coarser cells" in a.detail for a in entry.assumptions)
    assert refused > 0
