"""Richardson's error estimate: exact on model sequences, honest on grids."""

import numpy as np
import pytest

from fpsolve._refine import richardson
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Estimate

FLAT = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))


def test_two_grids():
    result = richardson([Estimate(1.02, unit="time"), Estimate(1.08, unit="time")], 2.0)
    assert result.value == 1.02
    assert result.discretization_error == pytest.approx(0.02)
    assert result.unit == "time"


@pytest.mark.parametrize(("order", "ratio"), [(2.0, 2.0), (4.0, 2.0), (2.0, 1.5)])
def test_three_grids_extrapolate_a_pure_power(order, ratio):
    numbers = [Estimate(3.0 + 0.1 * ratio ** (order * k)) for k in range(3)]
    result = richardson(numbers, ratio, order=order)
    assert result.value == pytest.approx(3.0, abs=1e-12)
    assert result.assumptions[0].status == "held"
    logs = [Estimate(0.0, log_value=-2000.0 + np.log1p(0.1 * ratio ** (order * k))) for k in range(3)]
    assert richardson(logs, ratio, order=order).log_value == pytest.approx(-2000.0, abs=1e-12)


@pytest.mark.parametrize("values", [[1.0, 1.1, 1.2], [1.0, 1.1, 0.9], [1.0, 1.0, 1.0]])
def test_an_order_that_is_not_confirmed_is_said(values):
    result = richardson([Estimate(v) for v in values], 2.0)
    assert result.value == 1.0
    assert result.assumptions[0].status == "failed"
    assert result.discretization_error == pytest.approx(values[1] - values[0])


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
    assert abs(rough.value - exact) < 2 * rough.discretization_error
    assert fine.assumptions[0].status == "held", fine.assumptions
    assert abs(fine.value - exact) < 2 * fine.discretization_error < 0.3 * rough.discretization_error
    assert question(fp) > 1.6
    assert fp.estimate(mean).unit == ""
    again = fp.estimate(lambda f: f.escape_rate(Region.box([-1.0], [1.0])), confirm=True)
    assert again.value == pytest.approx(fine.value, rel=1e-12)
    assert again.unit == "1/time"


def test_refusals():
    fp = FokkerPlanck(FLAT, Grid((-1, 1, 6)))
    with pytest.raises(TypeError, match="question must be a function"):
        fp.estimate("mean")
    with pytest.raises(TypeError, match="must return a number"):
        fp.estimate(lambda f: f.stationary())
    with pytest.raises(ValueError, match="at least 8 cells"):
        fp.estimate(lambda f: 1.0, confirm=True)
    with pytest.raises(ValueError, match="order must be"):
        fp.estimate(lambda f: 1.0, order=0.0)
