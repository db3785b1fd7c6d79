"""First passage: exit times and points of diffusions against closed forms, censoring, sides, survival, and what is refused."""

import logging
import math

import numpy as np
import pytest
from path_cases import WELL, Quadratic, brownian, gaussian_chain, tilted_exit, z_test
from scipy import stats

import fpsolve as fps
from fpsolve import _escapes
from fpsolve._jit import kernel_uncached
from fpsolve._kernels.langevin import bridge_fraction
from fpsolve._runner import Control


def mean_z(out, exact, var=None):
    mean = out.mean()
    z_test(mean.value, exact, mean.stderr if var is None else math.sqrt(var / out.n))


@pytest.mark.parametrize("dt", [0.01, 0.04])
def test_brownian_exit_from_the_unit_interval(dt):
    """Mean 1 and variance 2/3 at both steps: taking the end of the step for the time would add dt/2, 11 standard errors at 0.04."""
    n = 200000
    out = fps.escape_times(brownian(), [0.0], fps.Region.box([-1.0], [1.0]), n=n, dt=dt, seed=2)
    t = out.times
    mean_z(out, 1.0, 2 / 3)
    z_test(t.var(), 2 / 3, math.sqrt((np.mean((t - t.mean()) ** 4) - (2 / 3) ** 2) / n))
    survival = sum((-1) ** k * 4 / (math.pi * (2 * k + 1)) * math.exp(-((2 * k + 1) ** 2) * math.pi**2 / 8) for k in range(20))
    z_test(np.mean(t > 1.0), survival, math.sqrt(survival * (1 - survival) / n))
    assert np.all(np.abs(np.abs(out.exit_points) - 1.0) < 1e-12)
    z_test(np.mean(out.exit_points > 0), 0.5, 0.5 / math.sqrt(n))


def test_without_the_bridge_the_exit_is_twelve_percent_late():
    """Siegmund: the barrier seems to be 0.5826 sqrt(dt) further out, so the mean is (1 + 0.05826)^2 = 1.120 at dt = 0.01."""
    out = fps.escape_times(brownian(), [0.0], fps.Region.box([-1.0], [1.0]), n=50000, dt=0.01, seed=2, correction=None)
    assert out.mean().value == pytest.approx(1.120, abs=4 * out.mean().stderr + 0.001)
    assert np.all(np.abs(out.exit_points) >= 1.0)
    assert np.allclose(out.times / 0.01, np.rint(out.times / 0.01))


def test_first_passage_of_drifted_brownian_motion_is_exact_at_any_step():
    """Constant coefficients and a plane: Euler with the bridge is exact at dt = 0.5. The law is inverse Gaussian."""
    v, D, b = 1.0, 0.5, 2.0
    process = fps.Process.from_drift("v", fps.Noise.isotropic(D), variables="x", params={"v": v})
    out = fps.escape_times(process, [0.0], fps.Region.halfspace([1.0], b), n=20000, dt=0.5, seed=3)
    mu, lam = b / v, b * b / (2 * D)
    assert stats.kstest(out.times, "invgauss", args=(mu / lam, 0, lam)).pvalue > 1e-4


def test_times_and_places_of_the_exit_with_a_full_tensor_are_exact_at_any_step():
    tilted_exit(2, n=20000, dt=1.0, seed=9)


def test_time_inside_the_step_has_the_bridge_law():
    """v = s/(1 - s) is inverse Gaussian; also for an end on the level (a Levy law)."""

    @kernel_uncached
    def draw(a, b, s2, z, u):
        out = np.empty(z.size)
        for i in range(z.size):
            out[i] = bridge_fraction(a, b, s2, z[i], u[i])
        return out

    rng = np.random.default_rng(1)
    z, u = rng.normal(size=20000), 1.0 - rng.random(20000)
    for a, b, s2 in ((0.5, 0.2, 1.0), (0.1, 3.0, 0.4), (2.0, 1e-9, 1.0)):
        s = draw(a, b, s2, z, u)
        lam = a * a / s2
        assert stats.kstest(s / (1 - s), "invgauss", args=(a / b / lam, 0, lam)).pvalue > 1e-4
    assert stats.kstest(1 / (1 / draw(0.7, 0.0, 1.0, z, u) - 1), "levy", args=(0, 0.49)).pvalue > 1e-4


@pytest.mark.parametrize("shape", ["ball", "expression", "function"])
def test_exit_from_the_disc_with_a_rotating_tensor(shape):
    """With constant trace and no drift E T = (1 - r^2)/(2 tr D), whatever the axes do; E X_T = x0 (a martingale).

    The curved surface is taken as plane inside a step, an error O(dt): dt is small enough for the statistical error to dominate.
    """
    noise = fps.Noise.from_factor([["0.9*cos(2*x+y)", "-0.4*sin(2*x+y)"], ["0.9*sin(2*x+y)", "0.4*cos(2*x+y)"]], variables="x y")
    process = fps.Process.from_drift(["0*x", "0*y"], noise, variables="x y")

    def g(x, p):
        return x[0] ** 2 + x[1] ** 2 - 1.0

    region = {"ball": fps.Region.ball([0.0, 0.0], 1.0), "expression": fps.Region.from_expression("x**2+y**2-1", variables="x y"),
              "function": fps.Region.from_function(g, dim=2)}[shape]  # fmt: skip
    x0, trace, n = np.array([0.5, -0.2]), (0.81 + 0.16) / 2, 10000
    out = fps.escape_times(process, x0, region, n=n, dt=0.001, seed=4)
    mean_z(out, (1 - x0 @ x0) / (2 * trace))
    assert np.all(np.abs(np.linalg.norm(out.exit_points, axis=1) - 1.0) < 1e-9)
    z_test(out.exit_points.mean(axis=0), x0, out.exit_points.std(axis=0) / math.sqrt(n))


def test_exit_from_a_square_at_a_coarse_step():
    """Each face has its own bridge: the mean of the double Fourier series at dt = 0.02, where the step is a tenth of the side."""
    k = np.arange(1, 400, 2)
    sines = np.sin(k * math.pi / 2)
    exact = 128 / math.pi**4 * np.sum(np.outer(sines / k, sines / k) / (k[:, None] ** 2 + k**2))  # Delta u / 2 = -1
    out = fps.escape_times(brownian(dim=2), [0.0, 0.0], fps.Region.box([-1.0, -1.0], [1.0, 1.0]), n=100000, dt=0.02, seed=6)
    mean_z(out, exact)
    assert np.all(np.abs(np.abs(out.exit_points).max(axis=1) - 1.0) < 1e-9)


def test_multiplicative_noise_escape():
    """log X is a Brownian motion with drift a - s^2/2: E T = log(b/x0)/(a - s^2/2)."""
    a, s, b = 1.0, 0.5, 2.0
    noise = fps.Noise.from_factor([["s*x"]], variables="x", params={"s": s})
    process = fps.Process.from_drift("a*x", noise, params={"a": a})
    out = fps.escape_times(process, [1.0], fps.Region.halfspace([1.0], b), n=40000, dt=0.002, seed=5)
    mean_z(out, math.log(b) / (a - s * s / 2))


def test_censoring_at_t_max():
    """No path is watched beyond t_max, which need not be a multiple of dt; the events before are those of the full run."""
    args = (brownian(), [0.0], fps.Region.box([-1.0], [1.0]))
    full = fps.escape_times(*args, n=3000, dt=0.01, seed=2)
    cut = fps.escape_times(*args, n=3000, dt=0.01, seed=2, t_max=0.7053)
    assert np.array_equal(cut.censored, full.times > 0.7053)
    assert np.array_equal(cut.times, np.minimum(full.times, 0.7053))
    assert np.array_equal(np.isnan(cut.exit_points[:, 0]), cut.censored)


# ---- sides and survival ---------------------------------------------------------------------------------------------


def test_sides_of_a_box_are_its_finite_faces():
    out = fps.escape_times(brownian(dim=2), [0.0, 0.0], fps.Region.box([-1.0, -math.inf], [2.0, 0.5]), n=500, dt=0.01, seed=1)
    assert out.side_names == ("x0 = -1", "x0 = 2", "x1 = 0.5")
    where = np.array([-1.0, 2.0, 0.5])[out.sides]
    assert np.allclose(np.where(out.sides < 2, out.exit_points[:, 0], out.exit_points[:, 1]), where, atol=1e-12)
    assert set(out.sides) == {0, 1, 2}
    disc = fps.escape_times(brownian(dim=2), [0.0, 0.0], fps.Region.ball([0.0, 0.0], 1.0), n=5, dt=0.01, seed=1)
    assert len(disc.side_names) == 1 and not disc.sides.any()


@pytest.mark.parametrize("v", [0.0, 1.0])
def test_exit_probabilities_of_brownian_motion(v):
    """From x in (0, L): P(L) = (1 - e^(-v x/D))/(1 - e^(-v L/D)), x/L without drift; |z| < 4."""
    D, x, L, n = 0.5, 0.3, 1.0, 20000
    process = fps.Process.from_drift("v + 0*x", fps.Noise.isotropic(D), variables="x", params={"v": v})
    out = fps.escape_times(process, [x], fps.Region.box([0.0], [L]), n=n, dt=0.01, seed=7)
    exact = math.expm1(-v * x / D) / math.expm1(-v * L / D) if v else x / L
    found = out.exit_probabilities()
    assert list(found) == ["x0 = 0", "x0 = 1"]
    z_test(found["x0 = 1"].value, exact, math.sqrt(exact * (1 - exact) / n))
    assert found["x0 = 0"].value + found["x0 = 1"].value == pytest.approx(1.0)
    low, high = found["x0 = 1"].interval
    assert low == pytest.approx(stats.beta.ppf(0.025, n * found["x0 = 1"].value, n * found["x0 = 0"].value + 1), rel=1e-9)
    cut = fps.escape_times(process, [x], fps.Region.box([0.0], [L]), n=500, dt=0.01, seed=7, t_max=0.05)
    assert np.array_equal(cut.sides == -1, cut.censored)


def test_parts_of_a_surface_are_counted_by_their_exit_points():
    """Brownian motion from (r, 0) leaves the unit disc with x > 0 with probability (2/pi) atan((1 + r)/(1 - r)); |z| < 4."""
    n, disc = 4000, fps.Region.ball([0.0, 0.0], 1.0)
    out = fps.escape_times(brownian(dim=2), [0.5, 0.0], disc, n=n, dt=0.005, seed=8)
    right, left = fps.Region.halfspace([-1.0, 0.0], 0.0), fps.Region.halfspace([1.0, 0.0], 0.0)
    found = out.exit_probabilities({"right": right, "left": left})
    exact = 2 / math.pi * math.atan(3.0)
    z_test(found["right"].value, exact, math.sqrt(exact * (1 - exact) / n))
    assert found["right"].value + found["left"].value == pytest.approx(1.0)
    with pytest.raises(TypeError, match="must be a Region.*got str"):
        out.exit_probabilities({"right": "x > 0"})
    with pytest.raises(ValueError, match="has dimension 1, the exit points have 2"):
        out.exit_probabilities({"right": fps.Region.halfspace([1.0], 0.0)})


def test_survival_curve_of_a_censored_run():
    """Brownian exit of (-1, 1), watched to 0.8: the curve against the series, |z| < 4 with Greenwood's error."""
    out = fps.escape_times(brownian(), [0.0], fps.Region.box([-1.0], [1.0]), n=20000, dt=0.01, seed=3, t_max=0.8)
    t = np.array([0.2, 0.5, 0.79])
    k = np.arange(30)[:, None]
    exact = np.sum((-1.0) ** k * 4 / (math.pi * (2 * k + 1)) * np.exp(-((2 * k + 1) ** 2) * math.pi**2 * t / 8), axis=0)
    curve = out.survival(t)
    z_test(curve.survival, exact, np.sqrt(exact * (1 - exact) / out.n))
    assert np.all(curve.low < curve.survival) and np.all(curve.survival < curve.high)
    assert np.isnan(out.survival([0.9]).survival[0])


EXIT_SERIES = sum(
    (-1) ** k * 4 / (math.pi * (2 * k + 1)) * math.exp(-((2 * k + 1) ** 2) * math.pi**2 / 8) for k in range(20)
)  # P(T > 1) from the middle of (-1, 1), D = 1/2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_brownian_exit_with_two_million_paths(seed):
    """dt = 0.01, n = 2e6: mean 1, variance 2/3, P(T > 1), each |z| < 4 (one in 15 800); the same times put at the end of the step
    must fail, by about dt/2 = 8.7 standard errors of the mean.
    """
    n, dt = 2_000_000, 0.01
    t = fps.escape_times(brownian(), [0.0], fps.Region.box([-1.0], [1.0]), n=n, dt=dt, seed=seed).times
    error = math.sqrt(2 / 3 / n)
    z_test(t.mean(), 1.0, error)
    z_test(t.var(), 2 / 3, math.sqrt((np.mean((t - t.mean()) ** 4) - (2 / 3) ** 2) / n))
    z_test(np.mean(t > 1.0), EXIT_SERIES, math.sqrt(EXIT_SERIES * (1 - EXIT_SERIES) / n))
    late = np.ceil(t / dt) * dt
    with pytest.raises(AssertionError, match="z ="):
        z_test(late.mean(), 1.0, error)
    assert (late.mean() - 1.0) / error > 6.0


@pytest.mark.slow
def test_uncorrected_exit_is_twelve_percent_late_with_many_paths():
    """Siegmund's correction (1 + 0.5826 sqrt(dt))^2 = 1.1199; what it neglects is of order dt^(3/2) and smaller."""
    out = fps.escape_times(brownian(), [0.0], fps.Region.box([-1.0], [1.0]), n=500_000, dt=0.01, seed=2, correction=None)
    assert out.times.mean() == pytest.approx((1 + 0.5826 * 0.1) ** 2, abs=4 * out.mean().stderr + 0.001)


# ---- what is refused or warned of -----------------------------------------------------------------------------------


PROCESS = fps.Process(WELL, fps.Noise.isotropic(0.1))
DISC = fps.Region.ball([0.0, 0.0], 1.0)


def test_escape_refuses():
    with pytest.raises(ValueError, match=r"\[2\.0, 0\.0\].*not inside.*g = 1"):
        fps.escape_times(PROCESS, [2.0, 0.0], DISC, n=2, dt=0.1)
    with pytest.raises(ValueError, match="1-D"):
        fps.escape_times(PROCESS, [0.0, 0.0], fps.Region.ball([0.0], 1.0), n=2, dt=0.1)
    with pytest.raises(ValueError, match="correction"):
        fps.escape_times(PROCESS, [0.0, 0.0], DISC, n=2, dt=0.1, correction="half")
    along = fps.Process.from_drift(["1", "0*y"], fps.Noise.constant([[0.0, 0.0], [0.0, 1.0]]), variables="x y")
    with pytest.raises(ValueError, match="no noise across"):
        fps.escape_times(along, [0.0, 0.0], fps.Region.halfspace([1.0, 0.0], 1.0), n=2, dt=0.1)
    out = fps.escape_times(along, [0.0, 0.0], fps.Region.halfspace([1.0, 0.0], 1.0), n=2, dt=0.125, correction=None)
    assert np.all(out.times == 1.0)


def component(variables, text, level, point):
    return fps.Region.sublevel(fps.Potential.from_expression(text, variables=variables), level, containing=point)


def test_starts_in_another_component_are_refused():
    process, line = fps.Process(WELL, fps.Noise.isotropic(0.3)), fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.3))
    left = component("x y", "(x**2-1)**2 + y**2/2", 0.5, [-1.0, 0.0])
    kwargs = {"n": 2, "dt": 0.05, "seed": 1}
    with pytest.raises(ValueError, match=r"x0 = \[1\.0, 0\.1\] cannot be shown .*containing=\[1\.0, 0\.1\]"):
        fps.escape_times(process, [[-0.9, 0.0], [1.0, 0.1]], left, **kwargs)
    assert fps.escape_times(process, [-0.9, 0.0], left, **kwargs).n == 2
    with pytest.raises(ValueError, match=r"x0 = \[1\.0\]"):
        fps.escape_times(line, [1.0], component("x", "(x**2-1)**2/4", 0.1, [-1.0]), **kwargs)
    with pytest.raises(ValueError, match=r"x0 = \[1\.0\]"):
        fps.escape_times(gaussian_chain(1.0, 1.0, 0.1, 1), [1.0], component("x", "(x**2-1)**2/4", 0.1, [-1.0]), n=2)


def test_starts_around_a_corner_are_found_in_the_component():
    """A ring, where the straight segment between opposite points is outside, and three quarters of one, where the way is long."""
    flat = brownian(dim=2)
    ring = component("x y", "(sqrt(x**2 + y**2) - 1)**2", 0.04, [-1.0, 0.0])
    assert fps.escape_times(flat, [1.0, 0.0], ring, n=3, dt=0.01, seed=1).n_events == 3
    cut = component("x y", "(sqrt(x**2 + y**2) - 1)**2 + 0.1*(1 + tanh(50*(x + y - 1.2)))", 0.04, [0.0, 1.0])
    assert fps.escape_times(flat, [1.0, 0.0], cut, n=3, dt=0.01, seed=1).n_events == 3
    two = component("x y", "(sqrt(x**2 + y**2) - 1)**2 + 0.1*(1 + tanh(50*(0.04 - (x + y)**2)))", 0.04, [0.0, 1.0])
    with pytest.raises(ValueError, match="cannot be shown"):  # cut across twice: two halves
        fps.escape_times(flat, [-1.0, 0.0], two, n=3, dt=0.01, seed=1)
    cube = fps.Process.from_drift(["0*x", "0*y", "0*z"], fps.Noise.isotropic(0.5), variables="x y z")
    shell = component("x y z", "(sqrt(x**2 + y**2 + z**2) - 1)**2", 0.04, [-1.0, 0.0, 0.0])
    with pytest.warns(RuntimeWarning, match="Only the straight segment"):
        assert fps.escape_times(cube, [1.0, 0.0, 0.0], shell, n=3, dt=0.01, seed=1).n_events == 3


def test_regions_that_are_never_left_are_refused():
    kwargs = {"n": 2, "dt": 0.1}
    everywhere = fps.Region.box([-math.inf] * 2, [math.inf] * 2)
    for region in (everywhere, fps.Region.from_expression("-1 + 0*x", variables="x y")):
        with pytest.raises(ValueError, match="never be left"):
            fps.escape_times(PROCESS, [0.0, 0.0], region, **kwargs)
    with pytest.raises(ValueError, match="never be left"):
        fps.escape_times(fps.SGDChain(Quadratic(), lr=0.1, batch=1), [0.0], fps.Region.box([-math.inf], [math.inf]), n=2)
    still = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.from_expression("x**2"))
    interval = fps.Region.box([-1.0], [1.0])
    for process in (still, fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.0))):
        with pytest.raises(ValueError, match=r"x0 = \[0\.0\] is an equilibrium"):
            fps.escape_times(process, [[0.5], [0.0]], interval, correction=None, **kwargs)
    half = fps.Region.box([-math.inf, -1.0], [math.inf, 1.0])
    assert fps.escape_times(PROCESS, [0.0, 0.0], half, n=2, dt=0.1, seed=1).n_events == 2


def test_a_run_without_escapes_warns_once(caplog):
    """The suite makes warnings errors, so that this run, which would take e^500 relaxation times, ends."""
    line = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(5e-4))
    with pytest.raises(RuntimeWarning, match=r"no path has escaped in [1-9]e?.*t_max"), caplog.at_level(logging.WARNING):
        fps.escape_times(line, [-1.0], fps.Region.halfspace([1.0], 0.0), n=5, dt=0.01, seed=1)
    assert caplog.text.count("no path has escaped") == 1
    control, note = Control(), _escapes._patience(True, 0.01, "time")
    assert note(control) == "time 0"
    control.reach(2 * 10**6)
    with pytest.warns(RuntimeWarning, match="time 2e\\+04"):
        assert note(control) == "time 2e+04"
    note(control)  # not again
    _escapes._patience(False, 0.01, "time")(control)  # not with t_max


def test_a_face_without_noise_is_crossed_on_a_straight_line():
    """Drift along x, noise along y: whoever has not met y = -1 or 1 by then leaves through x = 1 at time 1, at any step.

    False alarm: 4 standard errors of the fraction, 6e-5; the times and points are exact.
    """
    process = fps.Process.from_drift(["1 + 0*x", "0*y"], fps.Noise.constant([[0.0, 0.0], [0.0, 0.5]]), "x y")
    exits = fps.escape_times(process, [0.0, 0.0], fps.Region.box([-5.0, -1.0], [1.0, 1.0]), n=20000, dt=0.03, seed=1)
    ahead = exits.sides == exits.side_names.index("x0 = 1")
    k = np.arange(50)
    inside = np.sum(4 / np.pi * (-1.0) ** k / (2 * k + 1) * np.exp(-0.5 * ((2 * k + 1) * np.pi / 2) ** 2))  # P(T > 1)
    share = exits.exit_probabilities()["x0 = 1"]
    assert abs(share.value - inside) < 4 * share.stderr
    assert np.allclose(exits.times[ahead], 1.0, rtol=0, atol=1e-12) and np.allclose(exits.exit_points[ahead, 0], 1.0, atol=1e-12)
    assert np.all(exits.times <= 1.0 + 1e-12) and np.all(exits.sides >= 0)


def test_points_on_a_curved_surface_where_noise_is_tangential():
    """At the foot of a circle the noise is along the surface only: exits lie on it all the same."""
    process = fps.Process.from_drift(["1 + 0*x", "0*y"], fps.Noise.constant([[0.0, 0.0], [0.0, 0.01]]), "x y")
    disc = fps.Region.ball([0.0, 0.0], 1.0)
    exits = fps.escape_times(process, [0.0, 1e-3], disc, n=300, dt=0.05, seed=1)
    assert np.abs(disc.g(exits.exit_points)).max() < 1e-12 and np.all(np.isfinite(exits.times))


def test_lanes_are_refilled_so_that_the_tail_does_not_idle(monkeypatch):
    """256 lanes that take the next path at once need at most (all steps + one wait per path)/256 and the longest path (Graham
    1966); groups of 256 that wait for their last one need six times as many steps."""
    reached = []
    monkeypatch.setattr(Control, "reach", lambda self, steps: reached.append(steps))
    out = fps.escape_times(brownian(), [0.0], fps.Region.box([-1.0], [1.0]), n=10_000, dt=0.01, seed=1, threads=1)
    steps = np.ceil(out.times / 0.01)
    assert max(reached) <= (steps.sum() + steps.size) / 256 + steps.max() + 1
    together = sum(group.max() for group in np.array_split(steps, 40))
    assert together > 2 * max(reached)


@pytest.mark.parametrize("dim", [2, 20])
def test_a_level_of_a_loss_that_is_evaluated_on_arrays(dim, tmp_path):
    """As of a network: the exits of SGD are those from the same level written as a formula, and the questions have digests."""
    U = fps.potentials.quadratic(np.eye(dim))
    loss = fps.Potential.from_arrays(lambda x: 0.5 * (x * x).sum(axis=1), dim=dim)
    targets = np.random.default_rng(0).standard_normal((200, dim))
    pull = fps.Ensemble.from_function(lambda x, i: x - targets[i].mean(axis=1), dim=dim, size=200)
    chain, level = fps.SGDChain(pull, 0.1, 5), 0.008 * dim

    def exits(region, **options):
        return fps.escape_times(chain, np.zeros(dim), region, n=50, seed=3, **options)

    formula, arrays, lower = (exits(fps.Region.sublevel(*of)) for of in ((U, level), (loss, level), (loss, 0.9 * level)))
    np.testing.assert_array_equal(arrays.times, formula.times)
    assert len({formula.problem, arrays.problem, lower.problem}) == 3
    saved = exits(fps.Region.sublevel(loss, level), checkpoint=tmp_path / "exits.h5")
    assert saved.problem == arrays.problem
    np.testing.assert_array_equal(saved.times, arrays.times)
    again = fps.Potential.from_arrays(lambda x: 0.5 * (x * x).sum(axis=1) + 0.0 * level + 1.0, dim=dim)
    with pytest.raises(ValueError, match="checkpoint"):
        exits(fps.Region.sublevel(again, level + 1.0), checkpoint=tmp_path / "exits.h5")
