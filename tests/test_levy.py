"""Alpha-stable noise: the variates against their formulas and laws, Euler chains and exits against exact results.

``z_test`` asserts |z| < 4 and ``cf_test`` does so for several wave numbers: a correct code fails one such number in 15 800.
"""

import math

import mpmath
import numpy as np
import pytest
from compiled import entry
from path_cases import z_test
from scipy import integrate, stats

import fpsolve as fps
from fpsolve._kernels import stable
from fpsolve._kernels.stable import stable_of_words

exp_bounded, sine_quarter = entry(stable.exp_bounded), entry(stable.sine_quarter)
INTERVAL = fps.Region.box([-1.0], [1.0])


def cf_test(x, waves, expected):
    """Mean of cos(k.x) over samples x (n, d) for waves (m, d)."""
    c = np.cos(x @ np.transpose(waves))
    z_test(c.mean(axis=0), expected, c.std(axis=0) / math.sqrt(len(x)))


def free(noise, dim=1):
    names = ["x", "y", "u"][:dim]
    return fps.Process.from_drift([f"0*{name}" for name in names], noise, variables=names)


# ---- variates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.5, 1.999])
@pytest.mark.parametrize("spread", [False, True])
def test_variates_are_those_of_the_formulas(alpha, spread):
    """Against 40 digits, the smallest and largest uniform numbers included; absolute where the variate passes through zero."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, size=(60, 2), dtype=np.uint64)
    words[:5, 1] = np.arange(5, dtype=np.uint64) << np.uint64(12 if spread else 10)
    words[5:10, 0] = np.arange(5, dtype=np.uint64) << np.uint64(12)
    words[10:15, 0] = np.uint64(2**64 - 1) - words[5:10, 0]
    with mpmath.workdps(40):
        a, index = mpmath.mpf(alpha), mpmath.mpf(alpha) / 2

        def uniform(bits):
            return (mpmath.mpf(bits >> 12) + mpmath.mpf(1) / 2) / 2**52

        for (p, q), got in zip(words.tolist(), stable_of_words(words, alpha, spread), strict=True):
            w = -mpmath.log(uniform(p))
            if spread:
                theta = mpmath.pi * (1 - uniform(q))
                tail = (mpmath.sin((1 - index) * theta) / w) ** ((1 - index) / index)
                exact = mpmath.sqrt(2 * mpmath.sin(index * theta) / mpmath.sin(theta) ** (1 / index) * tail)
            else:
                phi = mpmath.pi / 2 * (1 - uniform((q << 2) % 2**64)) * (-1 if q >> 63 else 1)
                exact = mpmath.sin(a * phi) / mpmath.cos(phi) ** (1 / a) * (mpmath.cos((1 - a) * phi) / w) ** ((1 - a) / a)
            assert got == pytest.approx(float(exact), rel=5e-14, abs=1e-15)


def test_exponential_and_sine():
    for x in (-690.0, -1.5, 0.0, 1e-9, 0.4, 33.3, 699.0):
        assert exp_bounded(x) == pytest.approx(math.exp(x), rel=3e-14)
    assert exp_bounded(800.0) == exp_bounded(700.0) < math.inf
    for t in (1e-16, 0.1, 0.5, 0.9, 1.0):
        assert sine_quarter(t) == pytest.approx(math.sin(0.5 * math.pi * t), rel=1e-15)


@pytest.mark.parametrize("alpha", [0.5, 0.9, 1.0, 1.5, 1.9])
def test_characteristic_function_of_a_step(alpha):
    dt, scale = 0.3, 0.7
    x = fps.simulate(free(fps.Noise.levy(alpha, scale)), [0.0], t=dt, dt=dt, n=100_000, seed=1).final
    k = np.array([[0.3], [1.0], [3.0], [10.0]])
    cf_test(x, k, np.exp(-dt * np.abs(scale * k[:, 0]) ** alpha))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("alpha", [0.7, 1.5])
def test_isotropic_noise_depends_on_the_length_of_k_only_and_component_noise_does_not(dim, alpha):
    waves = 1.3 * np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.6, -0.48, 0.64]])[: dim + 1, :dim]
    waves[-1] *= 1.3 / np.linalg.norm(waves[-1])
    for isotropic in (True, False):
        noise = fps.Noise.levy(alpha, 1.0, isotropic=isotropic)
        x = fps.simulate(free(noise, dim), [0.0] * dim, t=1.0, dt=0.5, n=100_000, seed=2).final
        total = np.linalg.norm(waves, axis=1) ** alpha if isotropic else np.sum(np.abs(waves) ** alpha, axis=1)
        cf_test(x, waves, np.exp(-total))


def test_alpha_one_is_cauchy():
    x = fps.simulate(free(fps.Noise.levy(1.0, 1.0)), [0.0], t=2.0, dt=0.5, n=100_000, seed=3).final[:, 0]
    assert stats.kstest(x / 2.0, stats.cauchy.cdf).pvalue > 1e-4


@pytest.mark.parametrize(("alpha", "at"), [(0.5, 30.0), (0.5, 1e6), (1.5, 30.0), (1.5, 100.0)])
def test_tails(alpha, at):
    """P(|X| > x) by its series in x^-alpha, which converges for alpha < 1 and is good to 1e-4 for the others; binomial errors."""
    n = np.arange(1, 30 if alpha < 1 else 4)
    tail = (
        2
        / math.pi
        * np.sum(
            (-1.0) ** (n + 1)
            * [math.gamma(k * alpha) / math.factorial(k) for k in n.tolist()]
            * np.sin(n * np.pi * alpha / 2)
            * at ** (-n * alpha)
        )
    )
    x = fps.simulate(free(fps.Noise.levy(alpha, 1.0)), [0.0], t=1.0, dt=1.0, n=400_000, seed=4).final
    z_test((np.abs(x) > at).mean(), tail, math.sqrt(tail * (1 - tail) / len(x)))


def test_alpha_two_is_gaussian_noise():
    noise = fps.Noise.levy(2.0, 0.4)
    assert noise.stable is None and np.isclose(noise.diffusion([0.0])[0, 0], 0.16)
    run = {"t": 1.0, "dt": 0.1, "n": 50, "seed": 1}
    a = fps.simulate(free(noise), [0.0], **run)
    b = fps.simulate(free(fps.Noise.isotropic(0.4**2)), [0.0], **run)
    assert np.array_equal(a.final, b.final) and a.covariance is not None


# ---- Euler chains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.8, 1.0, 1.6])
def test_stationary_scale_of_the_linear_euler_chain(alpha):
    """X' = (1 - a dt) X + dt^(1/alpha) scale L: sigma^alpha = scale^alpha dt/(1 - (1 - a dt)^alpha), exact at any step."""
    a, dt, scale = 1.5, 0.2, 0.6
    well = fps.Process(fps.potentials.quadratic([[a]]), fps.Noise.levy(alpha, scale))
    x = fps.simulate(well, [0.0], t=12.0, dt=dt, n=100_000, seed=5).final
    power = scale**alpha * dt / (1 - (1 - a * dt) ** alpha)
    k = np.array([[0.5], [1.0], [2.0]])
    cf_test(x, k, np.exp(-power * np.abs(k[:, 0]) ** alpha))


@pytest.mark.slow
def test_cauchy_noise_in_a_quartic_well():
    """dX = -X^3 dt + dL, alpha = 1: p = 1/(pi (1 - x^2 + x^4)) (Chechkin et al., J. Stat. Phys. 115 (2004) 1505).

    The tamed drift brings a jump to a > dt^(-1/3) back in a steps instead of at once; jumps have the density 1/(pi a^2): the
    error is of order dt log(1/dt): extrapolated in dt and dt log dt; binomial errors.
    """
    process, n = fps.Process(fps.Potential.from_expression("x**4/4"), fps.Noise.levy(1.0, 1.0)), 400_000
    steps, radii = np.array([0.02, 0.01, 0.005]), (0.5, 1.0, 2.0)
    weights = np.linalg.inv(np.stack([np.ones(3), steps, steps * np.log(steps)], axis=1))[0]
    runs = []
    for seed, dt in enumerate(steps):
        x = fps.simulate(process, [0.0], t=6.0, dt=dt, n=n, seed=seed, method="tamed").final[:, 0]
        runs.append([np.mean(np.abs(x) < c) for c in radii])
    p = np.array([integrate.quad(lambda x: 2 / (math.pi * (1 - x * x + x**4)), 0, c)[0] for c in radii])
    z_test(weights @ np.array(runs), p, np.linalg.norm(weights) * np.sqrt(p * (1 - p) / n))


def test_euler_blows_up_on_a_cubic_drift_and_the_cure_is_named():
    process = fps.Process(fps.Potential.from_expression("x**4/4"), fps.Noise.levy(1.0, 1.0))
    with pytest.warns(RuntimeWarning, match="method='tamed'"):
        fps.simulate(process, [0.0], t=5.0, dt=0.02, n=500, seed=1)
    assert fps.simulate(process, [0.0], t=5.0, dt=0.02, n=500, seed=1, method="tamed").status["not_finite"] == 0


# ---- exits ----------------------------------------------------------------------------------------------------------


def cauchy_walk(dt, beyond):
    """(mean exit time, probability to land beyond |x| = `beyond`) of a Cauchy walk from 0 out of (-1, 1), by the integral equation.

    m = dt + K m and u = f + K u on Gauss-Legendre nodes; the kernel has poles at the distance dt from the real axis, so that the
    quadrature error is about exp(-2 nodes dt).
    """
    nodes = 100 + round(9 / dt)
    x, w = np.polynomial.legendre.leggauss(nodes)
    K = dt / (math.pi * (dt * dt + (x[:, None] - x) ** 2)) * w
    first = dt / (math.pi * (dt * dt + x * x)) * w

    def lands(at):
        return 1 - (np.arctan((beyond - at) / dt) + np.arctan((beyond + at) / dt)) / math.pi

    m, u = np.linalg.solve(np.eye(nodes) - K, np.stack([np.full(nodes, dt), lands(x)], axis=1)).T
    return dt + first @ m, lands(0.0) + first @ u


@pytest.mark.parametrize("dt", [0.1, 0.02])
def test_exit_of_a_cauchy_walk(dt):
    """Mean time, and the part that lands beyond 2, exact at this step."""
    mean, beyond = cauchy_walk(dt, 2.0)
    out = fps.escape_times(free(fps.Noise.levy(1.0, 1.0)), [0.0], INTERVAL, n=60_000, dt=dt, seed=7)
    assert out.correction == "" and np.all(np.abs(out.exit_points) >= 1.0)
    z_test(out.times.mean(), mean, out.times.std() / math.sqrt(out.times.size))
    z_test(np.mean(np.abs(out.exit_points) > 2.0), beyond, math.sqrt(beyond * (1 - beyond) / out.times.size))


def test_the_integral_equation_knows_the_limits():
    """Mean 1/Gamma(1 + alpha) = 1 with an error of order dt log(1/dt), and the law of the landing point of Blumenthal et al."""
    coarse, fine = (cauchy_walk(dt, 2.0) for dt in (0.02, 0.01))
    assert coarse[0] - 1 == pytest.approx(0.0282, abs=1e-4) and fine[0] - 1 == pytest.approx(0.0152, abs=1e-4)
    landing = 2 / math.pi * integrate.quad(lambda y: 1 / (y * math.sqrt(y * y - 1)), 2, np.inf)[0]
    assert 2 * fine[1] - coarse[1] == pytest.approx(landing, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "powers", "steps"), [
    (0.7, (1.0, 1 / 0.7), (0.04, 0.02, 0.01, 0.005)), (1.5, (1 / 1.5, 1.0), (0.02, 0.01, 0.005, 0.0025)),
])  # fmt: skip
def test_mean_exit_extrapolates_to_getoor(alpha, powers, steps):
    """Weighted least squares in (dt^(1/alpha), dt): the constant is 1/Gamma(1 + alpha) within 4 of its standard errors."""
    runs = [fps.escape_times(free(fps.Noise.levy(alpha, 1.0)), [0.0], INTERVAL, n=1_000_000, dt=dt, seed=8).mean() for dt in steps]
    weight = 1 / np.array([r.stderr for r in runs])
    design = np.stack([np.ones(len(steps)), *(np.array(steps) ** p for p in powers)], axis=1) * weight[:, None]
    covariance = np.linalg.inv(design.T @ design)
    fit = covariance @ design.T @ (weight * [r.value for r in runs])
    z_test(fit[0], 1 / math.gamma(1 + alpha), math.sqrt(covariance[0, 0]))


def test_isotropic_exit_from_the_disc():
    """Getoor in d dimensions, from the centre: Gamma(d/2)/(2^alpha Gamma(1 + alpha/2) Gamma((d + alpha)/2)), here alpha = 1."""
    exact = math.gamma(1.0) / (2.0 * math.gamma(1.5) * math.gamma(1.5))
    process = free(fps.Noise.levy(1.0, 1.0, isotropic=True), 2)
    runs = [
        fps.escape_times(process, [0.0, 0.0], fps.Region.ball([0.0, 0.0], 1.0), n=100_000, dt=dt, seed=9).mean()
        for dt in (0.01, 0.005)
    ]
    # of a step error 0.15 dt ln(1/dt), as it is in 1-D by the integral equation above, 0.15 dt ln 2 = 1e-3 is left
    error = math.hypot(2 * runs[1].stderr, runs[0].stderr)
    assert abs(2 * runs[1].value - runs[0].value - exact) < 4 * error + 1e-3


# ---- same bits, refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isotropic", [False, True])
def test_same_bits_on_any_threads_and_chunks(isotropic):
    process = fps.Process(fps.potentials.quadratic(np.diag([1.0, 2.0, 3.0])), fps.Noise.levy(1.3, 0.5, isotropic=isotropic))
    run = {"n": 700, "dt": 0.05, "seed": 11}
    region = fps.Region.ball([0.0, 0.0, 0.0], 1.0)
    one = fps.simulate(process, [0.0] * 3, t=1.0, threads=1, **run)
    out = fps.escape_times(process, [0.0] * 3, region, threads=1, **run)
    for split in ({"threads": 2}, {"threads": 2, "chunk": 100}, {"threads": 1, "chunk": 257}):
        assert np.array_equal(one.final, fps.simulate(process, [0.0] * 3, t=1.0, **split, **run).final)
        other = fps.escape_times(process, [0.0] * 3, region, **split, **run)
        assert np.array_equal(out.times, other.times) and np.array_equal(out.exit_points, other.exit_points)


def test_simulate_and_escape_follow_the_same_paths():
    """With an exit that is never reached before t_max the escape kernel's path is that of simulate (times as in the states)."""
    process = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.levy(1.2, 0.5))
    times = np.arange(1, 21) * 0.1
    states = fps.simulate(process, [0.0], t=2.0, dt=0.1, n=300, seed=12, save=times).states[:, :, 0]
    out = fps.escape_times(process, [0.0], INTERVAL, n=300, dt=0.1, t_max=2.0, seed=12)
    left = np.abs(states) >= 1.0
    first = np.where(left.any(axis=0), np.argmax(left, axis=0), -1)
    assert np.array_equal(out.censored, first < 0)
    np.testing.assert_allclose(out.times[first >= 0], times[first[first >= 0]])
    assert np.array_equal(out.exit_points[first >= 0, 0], states[first[first >= 0], np.flatnonzero(first >= 0)])


def test_no_moments_are_reported():
    paths = fps.simulate(free(fps.Noise.levy(1.5, 1.0)), [0.0], t=1.0, dt=0.5, n=20, seed=1, save=[0.5, 1.0])
    assert paths.mean is None and paths.covariance is None
    for save, more in (("moments", {}), ("autocorrelation", {"lags": 0.5})):
        with pytest.raises(ValueError, match="variance is infinite"):
            fps.simulate(free(fps.Noise.levy(1.5, 1.0)), [0.0], t=1.0, dt=0.5, n=20, save=save, **more)


def test_refusals():
    U, noise = fps.potentials.double_well(), fps.Noise.levy(1.5, 0.5)
    process = fps.Process(U, noise)
    for alpha, scale in ((0.0, 1.0), (2.5, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="alpha must|scale must"):
            fps.Noise.levy(alpha, scale)
    with pytest.raises(TypeError, match="isotropic"):
        fps.Noise.levy(1.0, 1.0, isotropic=1)  # type: ignore[arg-type]
    for reading in ("stratonovich", "klimontovich"):
        with pytest.raises(ValueError, match="Levy noise is additive"):
            fps.Process(U, noise, interpretation=reading)
    with pytest.raises(ValueError, match=r"Process\.reversible is for Gaussian"):
        fps.Process.reversible(U, noise)
    with pytest.raises(ValueError, match="needs Gaussian noise"):
        fps.Underdamped(U, noise, friction=1.0)
    with pytest.raises(ValueError, match="needs Gaussian noise"):
        fps.SGDChain.gaussian(U, noise, lr=0.1)
    for method in ("milstein", "heun", "weak2", "sra15"):
        with pytest.raises(ValueError, match="made for Gaussian noise.*use euler, tamed"):
            fps.simulate(process, [0.0], t=1.0, dt=0.1, n=10, method=method)
    with pytest.raises(ValueError, match="paths jump"):
        fps.escape_times(process, [0.0], INTERVAL, n=10, dt=0.1, correction="bridge")


@pytest.mark.parametrize("ask", [
    lambda p: fps.FokkerPlanck(p, fps.Grid((-2, 2, 40))), lambda p: fps.theory.boltzmann(p, fps.Grid((-2, 2, 40))),
    lambda p: fps.theory.kramers_rate(p, [-1.0], [0.0]), lambda p: fps.theory.mean_first_passage_1d(p, -1.0, 1.0),
    lambda p: p.diffusion([0.0]), lambda p: p.noise.diffusion([0.0]),
])  # fmt: skip
def test_engines_that_need_a_tensor_say_so(ask):
    with pytest.raises(ValueError, match=r"Levy noise has no diffusion tensor.*simulate, escape_times"):
        ask(fps.Process(fps.potentials.double_well(), fps.Noise.levy(1.5, 0.5)))
