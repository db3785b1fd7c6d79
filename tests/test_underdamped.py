"""Motion with inertia: exact covariances at finite step, the limit of large friction, states, regions and refusals.

``z_test`` asserts |z| < 4: a correct code fails one such test in 15 800 (normal law).
"""

import math

import numpy as np
import pytest
import scipy.linalg
from path_cases import z_test

import fpsolve as fps
from fpsolve import _linear, _model

T = 0.5


def harmonic(k=1.0, friction=1.0, mass=1.0):
    """U = k x^2/2 at temperature T: the overdamped diffusion is T/friction."""
    return fps.Underdamped(fps.potentials.quadratic([[k]]), fps.Noise.isotropic(T / friction), friction, mass)


def covariance(method, h, n=100_000, **model):
    got = fps.simulate(harmonic(**model), [0.3], t=round(40 / h) * h, dt=h, n=n, method=method, save="moments", seed=5)
    return got.covariance, math.sqrt(2.0 / (n - 1))


@pytest.mark.parametrize(("method", "x", "v"), [("baoab", 0, 1), ("obabo", -1, 0), ("gjf", 0, 0)])
@pytest.mark.parametrize("model", [{}, {"k": 2.0, "friction": 0.7, "mass": 1.6}])
def test_harmonic_variances_are_exact_at_finite_step(method, x, v, model):
    """With s = 1 - h^2 k/(4 m): BAOAB has T/k and (T/m) s, OBABO (T/k)/s and T/m, GJF T/k and, at half steps, T/m. h = 0.8."""
    h, k, m = 0.8, model.get("k", 1.0), model.get("mass", 1.0)
    s = 1.0 - h * h * k / (4.0 * m)
    S, error = covariance(method, h, **model)
    z_test(S[0, 0] / (T / k * s**x), 1.0, error)
    z_test(S[1, 1] / (T / m * s**v), 1.0, error)


def test_velocities_of_a_free_particle_decay_exactly():
    """U = 0: E v(t) = v0 exp(-g t/m) and var v = (T/m)(1 - exp(-2 g t/m)) at any step of BAOAB and OBABO."""
    free = fps.Underdamped(fps.Potential.from_expression("0*x"), fps.Noise.isotropic(T / 0.6), 0.6, 1.5)
    for method in ("baoab", "obabo"):
        n = 50_000
        got = fps.simulate(free, [0.0, 2.0], t=2.0, dt=0.5, n=n, method=method, save="moments", seed=2)
        decay = math.exp(-0.6 * 2.0 / 1.5)
        variance = T / 1.5 * (1 - decay**2)
        z_test(got.mean[1], 2.0 * decay, math.sqrt(variance / n))
        z_test(got.covariance[1, 1], variance, variance * math.sqrt(2.0 / n))


def test_gjf_diffuses_exactly_at_any_step():
    """A free particle: var x grows by 2 D h per step in the long run, D = T/g, whatever the step (here g h/m = 2)."""
    free = fps.Underdamped(fps.Potential.from_expression("0*x"), fps.Noise.isotropic(0.5), 1.0)
    n = 50_000
    x = fps.simulate(free, [0.0], t=200.0, dt=2.0, n=n, method="gjf", save=[100.0, 200.0], seed=3).states[:, :, 0]
    gain = x[1] - x[0]
    z_test(np.var(gain), 2 * 0.5 * 100.0, 100.0 * math.sqrt(2.0 / n))


@pytest.mark.parametrize("method", ["baoab", "obabo", "gjf"])
def test_weak_order_two(method):
    """The linear flow has Gaussian laws, so means and covariances at t = 2 are those of the step's matrices: no sampling error.

    The matrices are checked against the kernels path by path in the next test. Halving h divides the error by four.
    """
    A, B = np.array([[2.0, 0.3], [0.1, 1.0]]), np.array([[0.7, 0.0], [0.2, 0.5]])
    g, m, t = 0.8, 1.3, 2.0
    scheme = _model.SCHEMES[method]
    flow = np.block([[np.zeros((2, 2)), np.eye(2)], [-A / m, -g / m * np.eye(2)]])
    Q = np.block([[np.zeros((2, 4))], [np.zeros((2, 2)), (g / m) ** 2 * B @ B.T]])
    big = scipy.linalg.expm(t * np.block([[-flow, Q], [np.zeros((4, 4)), flow.T]]))
    mean, exact = big[4:, 4:].T, big[4:, 4:].T @ big[:4, 4:]
    errors = []
    for h in (0.1, 0.05, 0.025):
        M, N = scheme.affine(A, B, scheme.constants(h, {"friction": g, "mass": m}))
        S, P = np.zeros_like(M), np.eye(len(M))
        for _ in range(round(t / h)):
            S, P = M @ S @ M.T + N @ N.T, M @ P
        # positions only for GJF: its velocity belongs to the middle of a step
        shown = slice(0, 2 if method == "gjf" else 4)
        start = P[shown, :2]
        errors.append((np.abs(S[shown, shown] - exact[shown, shown]).max(), np.abs(start - mean[shown, :2]).max()))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.all((ratios > 3.6) & (ratios < 4.4)), ratios


@pytest.mark.parametrize("method", ["baoab", "obabo", "gjf"])
def test_matrix_and_fused_kernels_agree_path_by_path(method):
    """The same streams: a 9-D harmonic motion through both kernels ends at the same points to rounding."""
    D = 0.3 * np.eye(9)
    D[0, 1] = D[1, 0] = 0.1
    model = fps.Underdamped(fps.potentials.quadratic(np.diag(np.linspace(0.5, 2, 9))), fps.Noise.constant(D), 0.7, 1.4)
    kwargs = {"t": 0.9, "dt": 0.1, "n": 70, "seed": 2, "save": [0.3, 0.9], "method": method}
    start = np.append(np.ones(9), np.arange(9.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_linear, "MAX_TRANSFORMED", 0)  # in the sparsest basis the law is the same, the paths are others
        matrix = fps.simulate(model, start, **kwargs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_model, "MAX_UNROLLED_LINEAR", 100)
        fused = fps.simulate(model, start, **kwargs)
    np.testing.assert_allclose(matrix.states, fused.states, rtol=1e-12, atol=1e-12)


def test_large_friction_is_the_overdamped_process_with_a_varying_tensor():
    """g = 40: at t = 40 the second moments are those of dx = -grad U/g dt + sqrt(2 D) dW within 2 % and the statistical error.

    D_xx depends on y only, so div D = 0. With h = 0.01, g h/(2 m) = 0.2: BAOAB's time runs 0.2 coth 0.2 = 1.3 % too fast, which is
    0.4 % in the variance of x. n = 20 000: 4 standard errors are 4 % for the normal y, and 6 % are allowed for x.
    """
    U = fps.potentials.quadratic([[1.0, 0.0], [0.0, 2.0]])
    D = fps.Noise.from_expression([["0.02*(1 + y**2)", "0"], ["0", "0.03"]], "x y")
    motion = fps.Underdamped(U, D, friction=40.0)
    n, t, v = 20_000, 40.0, 0.6
    got = fps.simulate(motion, [0.0, 0.0], t=t, dt=0.01, n=n, save="moments", seed=1).covariance
    slow, fast = math.exp(-t / 20), math.exp(-t / 10)
    assert got[1, 1] == pytest.approx(v * (1 - fast), rel=0.02 + 4 * math.sqrt(2 / n))
    # d/dt E x^2 = -E x^2/20 + 0.04 (1 + E y^2) with E y^2 = v (1 - exp(-t/10))
    exact = 0.8 * (1 + v) * (1 - slow) - 0.8 * v * (slow - fast)
    assert got[0, 0] == pytest.approx(exact, rel=0.02 + 6 * math.sqrt(2 / n))
    np.testing.assert_allclose(motion.overdamped.drift([0.4, 0.2]), [-0.01, -0.01], rtol=1e-12)


def test_states_are_positions_and_velocities():
    model = harmonic()
    for method in ("baoab", "obabo", "gjf"):
        got = fps.simulate(model, [0.3], t=0.2, dt=0.1, n=5, method=method, save=[0.0, 0.2], seed=1)
        assert got.states.shape == (2, 5, 2) and np.all(got.states[0] == [0.3, 0.0]) and got.method == method
        given = fps.simulate(model, [0.3, -1.0], t=0.2, dt=0.1, n=5, method=method, save=[0.0, 0.2], seed=1)
        assert np.all(given.states[0] == [0.3, -1.0]) and given.mean.shape == (2, 2)
    drawn = fps.simulate(model, lambda rng, n: rng.normal(size=(n, 2)), t=0.1, dt=0.1, n=6, save=[0.0], seed=1)
    assert len(np.unique(drawn.states[0])) == 12
    one = fps.simulate(model, [0.3], t=3.0, dt=0.1, n=300, seed=1, threads=1)
    assert np.array_equal(one.final, fps.simulate(model, [0.3], t=3.0, dt=0.1, n=300, seed=1, threads=2, chunk=100).final)
    assert one.method == "baoab"


def test_exits_in_position_and_in_phase_space():
    """Ballistic flight without noise: x = 1 is reached at t = 1/v; the region in phase space sees the velocity."""
    free = fps.Underdamped(fps.Potential.from_expression("0*x"), fps.Noise.isotropic(0.0), friction=1e-9)
    for method in ("baoab", "obabo", "gjf"):
        out = fps.escape_times(free, [0.0, 2.0], fps.Region.halfspace([1.0], 1.0), n=3, dt=0.03125, method=method, seed=1)
        np.testing.assert_allclose(out.times, 0.5, atol=0.03126)
        assert out.correction == "" and out.exit_points.shape == (3, 1)
    falling = fps.Underdamped(fps.Potential.from_expression("-x"), fps.Noise.isotropic(0.0), friction=1e-9)
    out = fps.escape_times(falling, [0.0], fps.Region.halfspace([0.0, 1.0], 1.0), n=3, dt=0.03125, seed=1)  # v = t
    np.testing.assert_allclose(out.times, 1.0, atol=0.0626)
    assert out.exit_points.shape == (3, 2) and np.all(out.exit_points[:, 1] >= 1.0)


def test_refusals():
    U, noise = fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.1)
    for wrong, error in ((0.0, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error, match="friction"):
            fps.Underdamped(U, noise, friction=wrong)
        with pytest.raises(error, match="mass"):
            fps.Underdamped(U, noise, friction=1.0, mass=wrong)
    model, process = harmonic(), fps.Process(U, noise)
    with pytest.raises(ValueError, match="'euler' is for overdamped .* use baoab, obabo, gjf"):
        fps.simulate(model, [0.0], t=1.0, dt=0.1, n=2, method="euler")
    with pytest.raises(ValueError, match="'baoab' is for underdamped .* use euler"):
        fps.simulate(process, [0.0], t=1.0, dt=0.1, n=2, method="baoab")
    region = fps.Region.ball([0.0], 1.0)
    with pytest.raises(ValueError, match="inertia"):
        fps.escape_times(model, [0.0], region, n=2, dt=0.1, correction="bridge")
    with pytest.raises(ValueError, match="3-D"):
        fps.escape_times(model, [0.0], fps.Region.ball([0.0] * 3, 1.0), n=2, dt=0.1)
    with pytest.raises(ValueError, match="x0"):
        fps.simulate(model, [0.0, 0.0, 0.0], t=1.0, dt=0.1, n=2)
