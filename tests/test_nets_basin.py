"""Gradient flow and return to a basin: exact flows, order and stability, basins known in closed form, degenerate minima."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

import fpsolve as fps
import nets
from nets import _flow
from nets.basin import ABOVE, BENT, ELSEWHERE, OPEN, STRAIGHT


def arrays(value, gradient, dim):
    return fps.Potential.from_arrays(value, gradient, dim=dim)


def pushes(n, dim, seed):
    """The directions of a seed, as the documentation defines them."""
    u = np.array([np.random.default_rng(s).standard_normal(dim) for s in np.random.SeedSequence(seed).spawn(n)])
    return u / np.linalg.norm(u, axis=1)[:, None]


# ---- the integrator -----------------------------------------------------------------------------------------------------


def logistic(y):
    """dy/dt = -y (1 + y): exact, y/(1 + y) decays like exp(-t)."""
    return 0.5 * y[:, 0] ** 2 + y[:, 0] ** 3 / 3.0, y + y**2


@pytest.mark.parametrize("stages", [4, 16, 128])
def test_order_two(stages):
    errors = []
    for steps in (8, 16, 32, 64):
        y = np.array([[1.0]])
        for _ in range(steps):
            y = _flow.chebyshev_step(logistic, y, logistic(y)[1], np.array([1.0 / steps]), stages)
        q = 0.5 * math.exp(-1.0)
        errors.append(abs(y[0, 0] - q / (1.0 - q)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert 1.85 < orders[-1] < 2.15, orders


@pytest.mark.parametrize("stages", _flow.STAGES)
def test_stable_to_the_stated_step(stages):
    """All decay rates up to 0.65 (s^2 - 1)/h shrink in a step; one of 0.75 s^2/h grows."""

    def after(rates):
        return _flow.chebyshev_step(lambda y: (y[:, 0], rates * y), np.ones_like(rates), rates, np.ones(len(rates)), stages)

    rates = np.linspace(1e-3, 0.65 * (stages**2 - 1), 4001)[:, None]
    assert np.abs(after(rates)).max() < 1.0
    assert np.abs(after(np.array([[0.75 * stages**2]]))).max() > 1.0


def test_flow_of_a_stiff_bowl():
    """Condition number 1e6: stopped below the level, where the exact flow is to within the steps' errors."""
    rates = np.logspace(0, 6, 30)
    start = np.random.default_rng(0).standard_normal((4, 30))
    run = _flow.flow(
        lambda x: (0.5 * x**2 @ rates, x * rates), start, level=1e-3, tolerance=1e-3, max_time=50.0, max_evaluations=60_000
    )
    assert (run.status == _flow.BELOW).all() and (run.losses <= 1e-3).all()
    # only the slowest decays are left: the components decay at the ratio of their rates
    time = np.log(start[:, 0] / run.points[:, 0])
    np.testing.assert_allclose(run.points[:, 1], start[:, 1] * np.exp(-rates[1] * time), atol=2e-2)
    few = _flow.flow(
        lambda x: (0.5 * x**2 @ rates, x * rates), start, level=1e-3, tolerance=1e-3, max_time=50.0, max_evaluations=50
    )
    assert (few.status == _flow.UNFINISHED).all() and few.evaluations < 4 * 200


def test_flow_that_is_not_a_number():
    def broken(x):
        return np.where(x[:, 0] > 0.0, np.nan, 1.0), np.where(x > 0.0, np.nan, -1.0)

    run = _flow.flow(broken, np.array([[1.0], [-1.0]]), level=0.0, tolerance=0.1, max_time=2.0, max_evaluations=2000)
    assert run.status[0] == _flow.NOT_FINITE and run.status[1] in (_flow.UNFINISHED, _flow.NOT_FINITE)


# ---- basins known in closed form ----------------------------------------------------------------------------------------


def test_double_well():
    """The basin of the left well ends at 0: in one dimension a push comes back if its end is on that side."""
    radii = [0.5, 0.99, 1.01, 1.5]
    r = nets.landscape_return(fps.potentials.double_well(), [-1.0], radii=radii, level=0.01, n=60, seed=1)
    u = pushes(60, 1, 1)[:, 0]
    np.testing.assert_array_equal(r.outcome, [[STRAIGHT if -1.0 + s * v < 0.0 else ELSEWHERE for v in u] for s in radii])
    assert not r.changed.any() and 10 < (u > 0).sum() < 50


def test_two_valleys_of_a_product():
    """(xy - 1)^2/2: the flow keeps x^2 - y^2, so x + y > 0 flows to the branch of (1, 1), a curve without end below any level."""
    product = arrays(lambda x: 0.5 * (x[:, 0] * x[:, 1] - 1.0) ** 2, lambda x: (x[:, 0] * x[:, 1] - 1.0)[:, None] * x[:, ::-1], 2)
    radii = [0.5, 1.3, 1.6, 3.0]
    r = nets.landscape_return(product, [1.0, 1.0], radii=radii, level=1e-3, n=150, seed=0)
    sums = 2.0 + np.outer(radii, pushes(150, 2, 0).sum(axis=1))
    assert np.abs(sums).min() > 1e-3  # no push starts on the ridge
    np.testing.assert_array_equal(r.outcome <= BENT, sums > 0.0)
    assert set(np.unique(r.outcome)) == {STRAIGHT, BENT, ELSEWHERE}


def test_ring_of_minima():
    """All of the ring is one minimum: whatever does not start in the middle comes back, mostly by a bent way."""
    ring = arrays(lambda x: 0.25 * ((x**2).sum(axis=1) - 1.0) ** 2, lambda x: ((x**2).sum(axis=1) - 1.0)[:, None] * x, 2)
    r = nets.landscape_return(ring, [1.0, 0.0], radii=[0.2, 0.9], level=1e-3, n=60, seed=0)
    assert (r.returned == 60).all() and r.counts[1, BENT] > 20 and r.counts[0, BENT] < r.counts[1, BENT]
    assert (r.end_loss <= 1e-3).all()


def test_rest_above_the_level_and_no_end():
    """A second well above the level is a place to rest; a slope without end and a short time are no return."""
    tilted = fps.Potential.from_expression("(x**2 - 1)**2/4 + x/20")
    deep = min(tilted.critical_points([(-2.0, 2.0)]), key=lambda point: point.value)
    r = nets.landscape_return(tilted, deep.x, radii=[2.0], level=deep.value + 0.02, n=20, seed=0, max_time=1e3)
    right = pushes(20, 1, 0)[:, 0] > 0.0
    np.testing.assert_array_equal(r.outcome[0], np.where(right, ABOVE, STRAIGHT))
    short = nets.landscape_return(tilted, deep.x, radii=[2.0], level=deep.value + 0.02, n=20, seed=0, max_time=0.01)
    assert (short.outcome[0, ~right] == OPEN).all() and short.probability[0] == 0.0


def test_tolerance_decides_near_the_ridge():
    """Pushes that end a hair from the ridge may fall to either side: the count of those that change says so."""
    saddle = arrays(
        lambda x: 0.25 * (x[:, 0] ** 2 - 1.0) ** 2 + 5.0 * (x[:, 1] - np.sin(3.0 * x[:, 0])) ** 2,
        lambda x: np.column_stack(
            [
                x[:, 0] ** 3 - x[:, 0] - 30.0 * (x[:, 1] - np.sin(3.0 * x[:, 0])) * np.cos(3.0 * x[:, 0]),
                10.0 * (x[:, 1] - np.sin(3.0 * x[:, 0])),
            ]
        ),
        2,
    )
    at = [-1.0, math.sin(-3.0)]
    coarse = nets.landscape_return(saddle, at, radii=[2.0], level=0.01, n=30, seed=0, tolerance=0.3)
    fine = nets.landscape_return(saddle, at, radii=[2.0], level=0.01, n=30, seed=0, tolerance=1e-2)
    assert 0 < fine.returned[0] < 30
    assert fine.changed[0] <= 1 and fine.changed[0] <= coarse.changed[0]
    assert abs(int(coarse.returned[0]) - int(fine.returned[0])) <= 2 * int(coarse.changed[0]) + 4


def test_directions_of_a_subspace():
    """A bowl beside a plateau along one axis only: pushes within the other axes come back, those along it do not."""
    h = np.array([1.0, 2.0, 0.0])

    def value(x):
        return 0.5 * x**2 @ h + np.where(np.abs(x[:, 2]) > 1.0, 0.5 * (np.abs(x[:, 2]) - 1.0) ** 2 * 0.0 + 1.0, x[:, 2] ** 4)

    def gradient(x):
        return x * h + np.where(np.abs(x[:, 2:]) > 1.0, 0.0, 4.0 * x[:, 2:] ** 3) * np.eye(3)[2]

    plateau = arrays(value, gradient, 3)
    inside = nets.landscape_return(plateau, np.zeros(3), radii=[1.5], level=0.1, n=20, seed=0, subspace=np.eye(3)[:, :2])
    along = nets.landscape_return(plateau, np.zeros(3), radii=[1.5], level=0.1, n=20, seed=0, subspace=2.0 * np.eye(3)[:, 2:])
    assert (inside.returned[0], along.returned[0]) == (20, 0) and (along.outcome == ABOVE).all()


# ---- what comes with it -------------------------------------------------------------------------------------------------


def test_wilson_intervals():
    r = nets.landscape_return(fps.potentials.double_well(), [-1.0], radii=[0.5, 1.5], level=0.01, n=25, seed=3)
    for k in range(2):
        exact = binomtest(int(r.returned[k]), 25).proportion_ci(0.95, "wilson")
        np.testing.assert_allclose(r.interval[k], [exact.low, exact.high], atol=1e-12)


def test_pushes_do_not_depend_on_how_many_there_are(tmp_path):
    settings = {"radii": [1.5], "level": 0.01, "seed": 5}
    many = nets.landscape_return(fps.potentials.double_well(), [-1.0], n=20, **settings)
    few = nets.landscape_return(fps.potentials.double_well(), [-1.0], n=7, **settings)
    np.testing.assert_array_equal(many.outcome[:, :7], few.outcome)
    np.testing.assert_array_equal(many.end_loss[:, :7], few.end_loss)
    many.save(tmp_path / "r.h5")
    back = nets.load(tmp_path / "r.h5")
    np.testing.assert_array_equal(back.outcome, many.outcome)
    np.testing.assert_array_equal(back.interval, many.interval)
    assert back.agreement is None and back.seed == 5
    assert many.plot().get_xlabel() == "radius $r$"


def test_network():
    """A linear network is a bowl with flat directions: all comes straight back, also with the predictions compared."""
    rng = np.random.default_rng(1)
    mlp, x = nets.MLP((6, 1), loss="mse"), rng.standard_normal((4, 6))
    y = rng.standard_normal((4, 1))
    design = np.column_stack([x, np.ones(4)])
    theta = np.linalg.lstsq(design, y, rcond=None)[0].ravel()
    r = nets.basin_return(mlp, theta, x, y, radii=[0.1, 10.0], level=1e-4, n=10, seed=0, probe=x)
    assert (r.outcome == STRAIGHT).all() and (r.agreement[0] == 1.0).all()
    span = np.linalg.qr(design.T)[0]  # the flat part of a push stays, the rest goes
    start = 10.0 * pushes(10, 7, 0)
    np.testing.assert_allclose(r.distance[1], np.linalg.norm(start - start @ span @ span.T, axis=1), atol=0.05)
    assert r.agreement.shape == (2, 10) and r.agreement.min() >= 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radii": []}, "radii must be finite and above 0"),
        ({"radii": [0.0]}, "radii must be finite and above 0"),
        ({"level": 0.0}, "level must be finite and above 0"),
        ({"n": 0}, "n must be a positive integer"),
        ({"tolerance": 0.0}, "tolerance must be finite and above 0"),
        ({"max_time": math.inf}, "max_time must be finite and above 0"),
        ({"max_evaluations": 0}, "max_evaluations must be a positive integer"),
        ({"subspace": np.ones((3, 1))}, "subspace must be finite columns"),
        ({"subspace": np.ones((2, 2))}, "must be independent"),
        ({"seed": -3}, "seed must be None or an integer"),
        ({"level": True}, "level must be finite and above 0, the loss at theta: got True"),
    ],
)
def test_bad_input(change, message):
    cup = arrays(lambda x: 0.5 * (x**2).sum(axis=1), lambda x: x, 2)
    with pytest.raises(ValueError, match=message):
        nets.landscape_return(cup, np.zeros(2), **{"radii": [1.0], "level": 0.1, "n": 3, **change})


def test_arguments_of_the_wrong_kind():
    """All before any work: what is wrong, and what was given."""
    cup, mlp, x = arrays(lambda x: 0.5 * (x**2).sum(axis=1), lambda x: x, 2), nets.MLP((2, 1), loss="mse"), np.zeros((4, 2))
    how, y = {"radii": [1.0], "level": 0.1, "n": 3}, np.zeros((4, 1))
    for change in ({"radii": "one"}, {"subspace": "axes"}):
        with pytest.raises(TypeError, match="must be an array of real numbers, got str"):
            nets.landscape_return(cup, np.zeros(2), **{**how, **change})
    with pytest.raises(TypeError, match="progress must be True or False: got 1"):
        nets.landscape_return(cup, np.zeros(2), **how, progress=1)
    for wrong in (None, "x**2", fps.Potential):
        with pytest.raises(TypeError, match=r"potential must be a fpsolve\.Potential: got"):
            nets.landscape_return(wrong, np.zeros(2), **how)
    with pytest.raises(TypeError, match=r"mlp must be a nets\.MLP"):
        nets.basin_return("mlp", np.zeros(3), x, y, **how)
    for probe, error in ((np.full((1, 2), np.nan), ValueError), (x[:, :1], ValueError), (x[:0], ValueError), ("x", TypeError)):
        with pytest.raises(error, match="probe must"):
            nets.basin_return(mlp, np.zeros(3), x, y, **how, probe=probe)
