"""Moments and laws of exit times, quasi-stationary densities and escape rates against series, quadrature and other solvers."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

import fpsolve
from fokker_planck_cases import orders
from fpsolve import _exits, theory
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Density, Estimate, ExitTimeDistribution

FLAT = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
WELL = Potential.from_expression("(x**2-1)**2")


def brownian_survival(t):
    """P_0(T > t) of standard Brownian motion leaving (-1, 1)."""
    k = np.arange(60)
    terms = 4 / np.pi * (-1.0) ** k / (2 * k + 1) * np.exp(-((2 * k + 1) ** 2) * np.pi**2 / 8 * np.atleast_1d(t)[:, None])
    return terms.sum(axis=1)


# ---- moments ------------------------------------------------------------------------------------------------------------


def test_moments_of_brownian_motion_in_an_interval():
    """E T^n for standard Brownian motion leaving (-1, 1) from 0: E exp(sT) = 1/cos(sqrt(2s)), Euler numbers."""
    euler = np.abs(special.euler(8))[2::2]
    exact = [math.factorial(n) * 2**n * e / math.factorial(2 * n) for n, e in enumerate(euler, 1)]
    assert exact[:2] == pytest.approx([1.0, 5 / 3])
    errors = []
    for n in (25, 51, 101):
        fields = FokkerPlanck(FLAT, Grid((-1, 1, n))).exit_time_moments(Region.box([-1.0], [1.0]), 4)
        errors.append([abs(f.values[n // 2] / e - 1) for f, e in zip(fields, exact, strict=True)])
        assert [f.unit for f in fields] == ["time", "time^2", "time^3", "time^4"]
    errors = np.array(errors)
    assert errors[:, 0].max() < 1e-12  # a quadratic is exact
    assert np.all(np.log(errors[:-1, 1:] / errors[1:, 1:]) / np.log(2) >= 1.9)
    assert errors[-1].max() < 2e-3


def test_variance_of_the_exit_time():
    errors = []
    for n in (25, 50, 100):
        fp = FokkerPlanck(FLAT, Grid((-1.2, 1.3, n)))
        variance = fp.exit_time_variance(Region.ball([0.0], 1.0), at=[0.0])
        assert variance.unit == "time^2"
        errors.append(abs(variance.value - 2 / 3))
        assert errors[-1] < 3 * variance.discretization_error
    assert orders(errors).mean() >= 1.8, errors
    assert errors[-1] < 1e-3
    field = fp.exit_time_variance(Region.ball([0.0], 1.0))
    x = fp.grid.centers[0]
    exact = np.where(np.abs(x) < 1, 2 / 3 * (1 - x**4), 0.0)  # int of 2 tau'^2 against the Green function
    assert np.abs(field.values - exact).max() < 2e-3


def test_variance_over_a_high_barrier_is_that_of_an_exponential():
    """At barrier/D = 100 the time is exponential to exp(-100): variance = mean^2, in 2-D as in 1-D."""
    region = Region.halfspace([1.0], 1.0)
    fp = FokkerPlanck(Process(WELL, Noise.isotropic(0.01)), Grid((-1.8, 1.8, 800)))
    mean, variance = fp.mean_exit_time(region, at=[-1.0]), fp.exit_time_variance(region, at=[-1.0])
    assert abs(variance.log_value - 2 * mean.log_value) < 1e-6
    assert variance.log_value > 190
    colder = FokkerPlanck(Process(WELL, Noise.isotropic(1 / 700)), Grid((-1.6, 1.6, 2500)))
    second = colder.exit_time_variance(region, at=[-1.0])
    assert second.value == np.inf
    assert abs(second.log_value - 2 * (700 + np.log(2 * np.pi / np.sqrt(32)))) < 0.02  # Kramers, corrections of order D


# ---- distribution -------------------------------------------------------------------------------------------------------


def test_survival_of_brownian_motion():
    times, region = np.array([0.05, 0.2, 0.5, 1.0, 2.0]), Region.box([-1.0], [1.0])
    errors = []
    for n in (25, 51, 101):
        law = FokkerPlanck(FLAT, Grid((-1, 1, n))).exit_time_distribution(region, [0.0], times)
        errors.append(np.abs(law.survival - brownian_survival(times)).max())
    assert np.all(np.log(np.array(errors[:-1]) / errors[1:]) / np.log(2) >= 1.9), errors
    assert errors[-1] < 2e-4
    h = 1e-4
    slope = (brownian_survival(times - h) - brownian_survival(times + h)) / (2 * h)
    assert np.abs(law.density - slope).max() < 1e-3
    assert isinstance(law, ExitTimeDistribution)


def test_survival_between_centres_and_from_a_density():
    """From x: sum 4/pi/(2k+1) sin((2k+1) pi (1 + x)/2) exp(...); an average over starts is the average of survivals."""
    k, x, t = 2 * np.arange(50) + 1, 0.337, 0.3
    exact = np.sum(4 / np.pi / k * np.sin(k * np.pi * (1 + x) / 2) * np.exp(-(k**2) * np.pi**2 / 8 * t))
    fp, region = FokkerPlanck(FLAT, Grid((-1, 1, 200))), Region.box([-1.0], [1.0])
    assert abs(fp.exit_time_distribution(region, [x], [t]).survival[0] - exact) < 1e-4
    uniform = np.sum(8 / np.pi**2 / k**2 * np.exp(-(k**2) * np.pi**2 / 8 * t))
    law = fp.exit_time_distribution(region, np.full(200, 0.5), [t])
    assert abs(law.survival[0] - uniform) < 1e-4
    half = fp.exit_time_distribution(Region.halfspace([1.0], 0.0), np.full(200, 0.5), [0.0])
    assert half.survival[0] == pytest.approx(0.5)  # mass outside has left


def test_distribution_agrees_with_the_moments():
    """int P(T > t) dt = E T in 2-D with a rotated tensor, two different solvers of one chain."""
    D = np.array([[0.6, 0.3], [0.3, 0.4]])
    process = Process.from_drift(["-x + y", "-y"], Noise.constant(D), variables="x y")
    fp, region = FokkerPlanck(process, Grid((-1.5, 1.5, 30), (-1.5, 1.5, 30))), Region.ball([0.0, 0.0], 1.2)
    x0 = [fp.grid.centers[0][17], fp.grid.centers[1][12]]
    times = np.concatenate([[0.0], np.geomspace(1e-3, 30.0, 400)])
    law = fp.exit_time_distribution(region, x0, times)
    mean = fp.mean_exit_time(region).values[17, 12]
    assert abs(integrate.simpson(law.survival, x=times) / mean - 1) < 1e-4
    assert abs(integrate.simpson(law.density, x=times) - 1) < 1e-4


def test_distribution_record(tmp_path):
    fp = FokkerPlanck(FLAT, Grid((-1, 1, 51)))
    law = fp.exit_time_distribution(Region.box([-1.0], [1.0]), [0.0], np.linspace(0, 3, 61))
    fpsolve.save(tmp_path / "law.h5", law)
    assert fpsolve.load(tmp_path / "law.h5") == law
    assert law.plot().get_yscale() == "log"
    assert "start: x = [0.0]" in repr(law)
    assert abs(brownian_survival(law.quantile(0.3))[0] - 0.7) < 2e-3
    with pytest.raises(ValueError, match="take other times"):
        law.quantile(0.9999)


# ---- escape rate and quasi-stationary density ---------------------------------------------------------------------------


def test_escape_rate_of_brownian_motion():
    """pi^2 D/(4 a^2) and the first Dirichlet eigenvalue j01^2 D/a^2 of the disc."""
    errors = []
    for n in (25, 50, 100):
        rate = FokkerPlanck(FLAT, Grid((-1.2, 1.3, n))).escape_rate(Region.ball([0.0], 0.9))
        exact = np.pi**2 * 0.5 / (4 * 0.81)
        errors.append(abs(rate.value / exact - 1))
        assert abs(rate.value - exact) < 4 * rate.discretization_error
    assert orders(errors)[-1] >= 1.9, errors
    assert errors[-1] < 2e-4
    flat = Process(Potential.from_expression("0*x + 0*y", variables="x y"), Noise.isotropic(0.5))
    disc = FokkerPlanck(flat, Grid((-1.1, 1.1, 90), (-1.15, 1.1, 84))).escape_rate(Region.ball([0.0, 0.0], 1.0))
    assert abs(disc.value / (0.5 * special.jn_zeros(0, 1)[0] ** 2) - 1) < 1e-3
    assert disc.unit == "1/time"


def test_quasi_stationary_density_of_brownian_motion():
    """(pi/4a) cos(pi x / 2a)."""
    errors = []
    for n in (25, 50, 100):
        p = FokkerPlanck(FLAT, Grid((-1.2, 1.3, n))).quasi_stationary(Region.ball([0.0], 1.0))
        x = p.grid.centers[0]
        exact = np.where(np.abs(x) < 1, np.pi / 4 * np.cos(np.pi * x / 2), 0.0)
        errors.append(np.sum(np.abs(p.values - exact)) * p.grid.widths[0][0])
        assert isinstance(p, Density)
        assert p.mass == pytest.approx(1.0, abs=1e-12)
    assert orders(errors).mean() >= 1.7, errors
    assert errors[-1] < 2e-3


@pytest.mark.parametrize("D", [0.1, 0.02, 0.005])
def test_escape_rate_over_a_barrier(D):
    """barrier/D up to 200: the rate is one over the mean time from the minimum, up to (relaxation time)/(mean time)."""
    process, region = Process(WELL, Noise.isotropic(D)), Region.halfspace([1.0], 1.0)
    exact = theory.mean_first_passage_1d(process, [-1.0], 1.0, reflecting=-2.0)
    errors = []
    for n in (400, 800, 1600):
        rate = FokkerPlanck(process, Grid((-2.0, 2.0, n))).escape_rate(region)
        errors.append(abs(math.expm1(rate.log_value + math.log(exact.value))))
    relaxation = 3.0 / exact.value  # of order 1/U'' and ln(barrier/D)
    assert errors[-1] < 2e-3 + relaxation
    if D < 0.1:
        assert np.all(orders(errors) >= 1.9), errors
        assert abs(rate.value * exact.value - 1) < 2 * rate.discretization_error * exact.value
        kramers = theory.kramers_rate(process, [-1.0], [0.0])
        assert abs(rate.log_value - kramers.log_value) < 1.5 * D  # next order of the Laplace expansion


def test_escape_rate_below_the_range_of_doubles():
    process = Process(WELL, Noise.isotropic(1 / 900))
    rate = FokkerPlanck(process, Grid((-1.6, 1.6, 3000))).escape_rate(Region.halfspace([1.0], 1.0))
    assert rate.value == 0.0
    assert abs(rate.log_value + 900 + np.log(2 * np.pi / np.sqrt(32))) < 5e-3


def test_separatrix_is_left_twice_as_fast():
    """Region up to the saddle: the flux through it is twice the committed crossings (tends to 2 as D -> 0)."""
    D = 0.01
    fp = FokkerPlanck(Process(WELL, Noise.isotropic(D)), Grid((-1.8, 1.8, 1200)))
    ratio = math.exp(
        fp.escape_rate(Region.halfspace([1.0], 0.0)).log_value - fp.escape_rate(Region.halfspace([1.0], 1.0)).log_value
    )
    assert abs(ratio - 2) < 5e-3


def test_two_dimensional_escape_is_the_one_dimensional_one():
    """U = (x^2-1)^2 + y^2/2 at barrier/D = 100: the x-rates separate on the grid."""
    process = Process(Potential.from_expression("(x**2-1)**2 + y**2/2", variables="x y"), Noise.isotropic(0.01))
    plane = FokkerPlanck(process, Grid((-1.6, 1.6, 96), (-0.8, 0.8, 24))).escape_rate(Region.halfspace([1.0, 0.0], 1.0))
    line = FokkerPlanck(Process(WELL, Noise.isotropic(0.01)), Grid((-1.6, 1.6, 96))).escape_rate(Region.halfspace([1.0], 1.0))
    assert abs(plane.log_value - line.log_value) < 1e-9
    assert isinstance(plane, Estimate)


def test_log_moments_of_a_chain():
    """One state killed at rate r: E T^n = n!/r^n; a state that never dies has infinite moments."""
    logs = _exits.log_moments(sp.csr_matrix((2, 2)), np.array([1e-200, 1.0]), np.array([True, True]), 3, (2,))
    np.testing.assert_allclose([v[0] for v in logs], np.log([1, 2, 6]) + np.arange(1, 4) * 200 * np.log(10), rtol=1e-13)


def test_refusals():
    fp = FokkerPlanck(FLAT, Grid((-1, 1, 20)))
    region = Region.box([-1.0], [1.0])
    for order in (0, 21, 1.5, True):
        with pytest.raises(ValueError, match="order must be"):
            fp.exit_time_moments(region, order)
    with pytest.raises(ValueError, match="not inside"):
        fp.exit_time_variance(Region.ball([0.0], 0.5), at=[0.7])
    with pytest.raises(ValueError, match="increasing sequence"):
        fp.exit_time_distribution(region, [0.0], [1.0, 0.5])
    with pytest.raises(ValueError, match="nothing can leave"):
        fp.escape_rate(Region.ball([0.0], 3.0))
    with pytest.raises(TypeError, match="Region"):
        fp.quasi_stationary("all")
    with pytest.raises(ValueError, match="no mass starts inside"):
        fp.exit_time_distribution(Region.halfspace([1.0], -0.5), np.where(fp.grid.centers[0] > 0, 1.0, 0.0), [1.0])


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.0, 3.0))
def test_survival_of_random_fields_falls(seed, log_condition):
    """Any tensor and drift: P(T > t) falls from one, its density is nonnegative, and the quasi-stationary decay is its tail."""
    t, u, v = np.random.default_rng(seed).uniform(-2, 2, 3).tolist()
    small = 10.0**-log_condition
    turn = f"({t!r} + sin({u!r}*x + y))"
    a, b, c = (f"cos({turn})**2 + {small!r}*sin({turn})**2", f"(1 - {small!r})*sin({turn})*cos({turn})",
               f"sin({turn})**2 + {small!r}*cos({turn})**2")  # fmt: skip
    noise = Noise.from_expression([[a, b], [b, c]], variables="x y")
    process = Process.from_drift([f"{v!r}*y - x", "sin(3*x)"], noise, variables="x y")
    fp = FokkerPlanck(process, Grid((-1.2, 1.2, 20), (-1.2, 1.2, 22)))
    region = Region.ball([0.0, 0.0], 1.0)
    rate, rest = fp.escape_rate(region), fp.quasi_stationary(region)
    law = fp.exit_time_distribution(region, rest, np.linspace(0.0, 2.0, 9) / rate.value)
    # from the quasi-stationary density the time is exponential
    np.testing.assert_allclose(law.survival, np.exp(-rate.value * law.times), atol=1e-7)
    np.testing.assert_allclose(law.density, rate.value * np.exp(-rate.value * law.times), rtol=1e-5)
    start = fp.exit_time_distribution(region, [0.1, -0.2], np.geomspace(0.01, 3.0, 12))
    assert np.all(np.diff(start.survival) <= 1e-8)
    assert np.all(start.density >= -1e-6)
    assert start.survival[0] <= 1.0 + 1e-8


# ---- what cells do not resolve --------------------------------------------------------------------------------------------


def test_exits_say_where_the_cells_do_not_resolve_the_noise():
    """An irreversible process at condition 1000 on coarse cells: every scalar answer has the failed assumption."""
    c, s = math.cos(0.5), math.sin(0.5)
    R = np.array([[c, -s], [s, c]])
    region, start = Region.ball([0.0, 0.0], 2.0), [0.0, 0.0]

    def answers(condition, n):
        D = R @ np.diag([1.0, 1 / condition]) @ R.T
        fp = FokkerPlanck(Process.ornstein_uhlenbeck([[1.0, 0.6], [-0.3, 0.8]], Noise.constant(D)), Grid((-4, 4, n), (-4, 4, n)))
        inside, far = Region.box([-0.5, -0.5], [0.5, 0.5]), Region.halfspace([-1.0, 0.0], -2.0)
        scalars = [
            fp.mean_exit_time(region, at=start), fp.exit_time_variance(region, at=start), fp.escape_rate(region),
            fp.reactive_rate(inside, far), fp.entropy_production(),
            fp.expectation(lambda x: x[:, 0] ** 2, 1.0, ("gaussian", [0.0, 0.0], 0.1 * np.eye(2))),
        ]  # fmt: skip
        return [a.name for e in scalars for a in e.failed], fp.mean_exit_time(region).warnings, fp.quasi_stationary(region).warnings

    name = "the cells resolve the noise"
    failed, of_field, of_density = answers(1000.0, 32)
    assert failed.count(name) == 6
    assert all("too coarse for the noise" in "; ".join(notes) for notes in (of_field, of_density))
    failed, of_field, of_density = answers(2.0, 64)  # no false alarm where they do
    assert name not in failed and of_field == of_density == ()


def test_exits_say_where_walls_that_no_path_reaches_change_the_noise():
    c, s = math.cos(0.3), math.sin(0.3)
    R = np.array([[c, -s], [s, c]])
    D = 0.5 * R @ np.diag([1.0, 1e-2]) @ R.T
    process = Process.from_drift(["0*x", "0*y"], Noise.constant(0.5 * (D + D.T)), variables="x y")
    inner, found = 0.5 * np.linalg.inv(D), {}
    text = f"{inner[0, 0]}*x**2 + {2 * inner[0, 1]}*x*y + {inner[1, 1]}*y**2 - 1"
    for reach in (1.0, 3.0):
        n = round(40 * reach)
        fp = FokkerPlanck(process, Grid((-reach, reach, n), (-reach, reach, n)))
        found[reach] = fp.mean_exit_time(Region.from_expression(text, "x y"), at=[0.025, 0.025])
    # E T from 0 is 1/2: an affine image of the unit disc and of Brownian motion of variance t; here |M^-1 x|^2 = x.D^-1 x / 2
    exact = 0.5 * (1 - np.array([0.025, 0.025]) @ inner @ [0.025, 0.025])
    near, far = found[1.0], found[3.0]
    assert abs(near.value / exact - 1) > 1e-3 and [a.name for a in near.failed] == ["the cells resolve the noise"]
    assert "next to reflecting walls" in near.failed[0].detail
    assert abs(far.value / exact - 1) < 1e-9 and far.failed == ()


def test_a_start_in_a_cell_whose_centre_is_outside_is_told_apart_from_a_start_outside():
    fp = FokkerPlanck(FLAT, Grid((-1, 1, 10)))
    with pytest.raises(ValueError, match="its exit time is zero"):
        fp.mean_exit_time(Region.box([-0.5], [0.65]), at=[0.7])
    with pytest.raises(ValueError, match=r"centre \[0.7.*\] of its cell is not; use more cells"):
        fp.mean_exit_time(Region.box([-0.5], [0.65]), at=[0.62])
