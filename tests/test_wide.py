"""Models of many dimensions: paths against NumPy and against the fused kernels, laws against closed forms and quadrature.

Comparisons path by path are to rounding: both sides consume the same streams. Laws are asserted by ``z_test`` (one false alarm in
15 800 per number), or by the largest of many z-scores with its own bound, said there.
"""

import tracemalloc

import numpy as np
import pytest
import scipy.linalg
from path_cases import tilted_exit, z_test
from scipy import integrate
from wide_cases import LINE, euler, low_rank, wells

import fpsolve as fps
from fpsolve import _model


def table(d, r=3):
    """Covariances at four knots, low rank plus diagonal."""
    some = np.random.default_rng(5)
    return 0.4 * some.normal(size=(4, d, r)), 0.3 * some.uniform(0.2, 1.0, (4, d))


def noises(d):
    names = [f"q{i}" for i in range(d)]
    F, s = low_rank(d)
    G = np.random.default_rng(3).normal(size=(d, d)) / np.sqrt(d)
    tables = table(d)
    dense = np.einsum("kir,kjr->kij", tables[0], tables[0])
    slant = np.linspace(-1.0, 1.0, d) / np.sqrt(d)
    return {
        "isotropic": fps.Noise.isotropic(0.3),
        "low rank": fps.Noise.low_rank(F, s),
        "rank deficient": fps.Noise.low_rank(F),
        "dense": fps.Noise.constant(G @ G.T),
        "diagonal": fps.Noise.diagonal([f"0.1*(1 + q{(i + 1) % d}**2)" for i in range(d)], names),
        "factor": fps.Noise.from_factor([[f"0.3 + 0.1*q{i}", "0.2"] for i in range(d)], variables=names),
        "table": fps.Noise.covariance(tables, lr=2.0, axes=[LINE], along=1),
        "dense table on a slant": fps.Noise.covariance(dense, lr=2.0, axes=[LINE], along=slant),
    }


@pytest.mark.parametrize(
    "kind",
    [k if k in ("low rank", "diagonal", "table") else pytest.param(k, marks=pytest.mark.slow) for k in noises(18)],
)
def test_paths_are_those_of_numpy_with_the_dense_factor(kind):
    """Twenty Euler steps of a coupled nonlinear model in 18 dimensions; the factor is checked against D as well."""
    process = fps.Process(wells(18), noises(18)[kind])
    start = np.linspace(-1.2, 1.2, 18)
    got = fps.simulate(process, start, t=0.2, dt=0.01, n=70, seed=4, threads=1).final
    np.testing.assert_allclose(got, euler(process, start, 0.01, 20, 70, 4), rtol=0, atol=1e-11)
    points = np.random.default_rng(0).normal(size=(5, 18))
    B = process.factor(points)
    np.testing.assert_allclose(B @ np.swapaxes(B, 1, 2), 2 * process.diffusion(points), atol=1e-13)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("tamed", "sra15", "obabo", "gjf", "nesterov", "heun")]


@pytest.mark.parametrize("method", ["baoab", "heavy ball", *SLOW])
def test_schemes_are_those_of_the_fused_kernels(method):
    """The programs of vectors against the scalar lines, path by path, with an odd number of noises and a schedule."""
    U = fps.Potential.from_expression("(x**2-1)**2 + k*y**2/2 + sin(x*y*z)", "x y z", {"k": 1.3})
    noise = fps.Noise.low_rank([[0.3, 0.1], [0.2, 0.4], [0.0, 0.2]], [0.1, 0.2, 0.05])
    if method in ("heavy ball", "nesterov"):
        model = fps.SGDChain.gaussian(U, noise, lambda k: 0.02 / (1 + k / 10), 0.8, nesterov=method == "nesterov")
        kwargs = {"t": 21, "save": [3, 21]}
    else:
        inertial = method in ("baoab", "obabo", "gjf")
        model = fps.Underdamped(U, noise, friction=0.7, mass=1.3) if inertial else fps.Process(U, noise)
        kwargs = {"t": 0.21, "dt": 0.01, "save": [0.05, 0.21], "method": method}
    fused = fps.simulate(model, [0.5, 0.1, 0.2], n=70, seed=3, **kwargs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_model, "MAX_FUSED_DIM", 2)
        wide = fps.simulate(model, [0.5, 0.1, 0.2], n=70, seed=3, **kwargs)
    np.testing.assert_allclose(wide.states, fused.states, rtol=0, atol=1e-13)


# ---- exact laws -----------------------------------------------------------------------------------------------------


def lyapunov(A, D, h):
    return scipy.linalg.solve_discrete_lyapunov(np.eye(len(A)) - h * A, 2 * h * D)


@pytest.mark.parametrize(("d", "diagonal"), [(40, 0.2), (40, 0.0), pytest.param(200, 0.2, marks=pytest.mark.slow)])
def test_covariance_of_low_rank_noise_is_the_discrete_one(d, diagonal):
    """Irreversible drift, exact at the step; the largest of d (d + 1)/2 |z| is above 5.2 by chance in < 0.5 % (d = 200)."""
    some = np.random.default_rng(d)
    G = some.normal(size=(d, d)) / np.sqrt(d)
    A = np.diag(np.linspace(0.8, 2.0, d)) + 0.5 * (G - G.T)
    F, s = low_rank(d, 4, diagonal)
    h, n = 0.1, 2000
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.low_rank(F, s))
    got = fps.simulate(process, np.zeros(d), t=10.0, dt=h, n=n, save="moments", seed=6)
    S = lyapunov(A, F @ F.T + np.diag(s), h)
    z = (got.covariance - S) / np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / (n - 1))
    assert np.abs(z).max() < 5.2
    z_test(got.mean, 0.0, 1.25 * np.sqrt(np.diag(S) / n))  # 200 numbers: |z| < 5 instead of 4, false alarm 1e-4


def test_directions_without_noise_stay_where_the_drift_puts_them():
    """D of rank 2 in 60 dimensions: orthogonal to F the path is deterministic, (1 - h)^k x0, to rounding."""
    F, _ = low_rank(60, 2)
    process = fps.Process(fps.potentials.quadratic(np.eye(60)), fps.Noise.low_rank(F))
    Q = scipy.linalg.qr(F)[0][:, 2:]
    got = fps.simulate(process, np.ones(60), t=1.0, dt=0.01, n=100, seed=1).final
    np.testing.assert_allclose(got @ Q, np.tile(0.99**100 * Q.sum(axis=0), (100, 1)), atol=1e-13)
    assert np.std(got @ F[:, 0]) > 0.1


def test_measured_covariance_as_low_rank_is_the_dense_one():
    """The chain of a measured covariance (F, floor) in 60 dimensions against the exact discrete theory, with heavy ball."""
    F, s = low_rank(60)
    H, lr, batch = np.diag(np.linspace(0.5, 3.0, 60)), 0.1, 8
    noise = fps.Noise.covariance((F, s), lr, batch)
    chain = fps.SGDChain.gaussian(fps.potentials.quadratic(H), noise, lr, 0.5)
    n = 2000
    got = fps.simulate(chain, np.zeros(60), t=200, n=n, save="moments", seed=3)
    S = fps.theory.discrete_covariance(H, F @ F.T + np.diag(s), lr, batch, 0.5)
    z = (got.covariance - S) / np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / (n - 1))
    assert np.abs(z).max() < 5.0  # of 1830 numbers: above by chance in 0.1 %


def test_tabulated_noise_has_the_closed_moments():
    """x_0 is Gaussian; D_kk = a + b |x_0| for k > 0 is linear between knots at -8, 0, 8. Exact at the step:
    var x_k = 2 h E D_kk/(1 - (1 - h)^2), E|x_0| = sqrt(2/pi) std x_0."""
    d, h, n = 24, 0.1, 20000
    middle, end = np.full(d, 0.2), np.full(d, 4.2)
    middle[0] = end[0] = 0.5
    noise = fps.Noise.covariance((np.zeros((3, d, 0)), np.array([end, middle, end])), lr=2.0, axes=[[-8.0, 0.0, 8.0]], along=0)
    process = fps.Process(fps.potentials.quadratic(np.eye(d)), noise)
    got = fps.simulate(process, np.zeros(d), t=10.0, dt=h, n=n, seed=8).final
    first = 2 * h * 0.5 / (1 - (1 - h) ** 2)
    z_test(got[:, 0].var(), first, first * np.sqrt(2 / n))
    others = 2 * h * (0.2 + 0.5 * np.sqrt(2 / np.pi * first)) / (1 - (1 - h) ** 2)
    each = (got[:, 1:] ** 2).mean(axis=1)  # the coordinates of a path share x_0
    z_test(each.mean(), others, each.std() / np.sqrt(n))


def test_tabulated_noise_agrees_with_the_fused_kernel():
    """A dense table in 3-D, factored at every step by the fused kernel, against the same in the first 3 of 18 dimensions."""
    some = np.random.default_rng(2)
    G = some.normal(size=(4, 3, 3))
    C = 0.2 * G @ np.swapaxes(G, 1, 2)
    wide_C = np.zeros((4, 18, 18))
    wide_C[:, :3, :3], wide_C[:, range(3, 18), range(3, 18)] = C, 0.1
    small = fps.Process(fps.potentials.quadratic(np.eye(3)), fps.Noise.covariance(C, lr=2.0, axes=[LINE], along=0))
    large = fps.Process(fps.potentials.quadratic(np.eye(18)), fps.Noise.covariance(wide_C, lr=2.0, axes=[LINE], along=0))
    n = 20000
    a = fps.simulate(small, np.zeros(3), t=5.0, dt=0.05, n=n, seed=1).final
    b = fps.simulate(large, np.zeros(18), t=5.0, dt=0.05, n=n, seed=2).final[:, :3]
    for i in range(3):
        for j in range(i + 1):
            u, v = a[:, i] * a[:, j], b[:, i] * b[:, j]
            z_test(u.mean(), v.mean(), np.sqrt((u.var() + v.var()) / n))


def test_klimontovich_drift_of_a_table_is_the_divergence():
    """Against differences of D along each axis, and with the stationary density exp(-U) of the reversible process it gives."""
    noise = fps.Noise.covariance(table(18), lr=2.0, axes=[LINE], along=1)
    U = fps.potentials.quadratic(np.eye(18))
    ito, klimontovich = fps.Process(U, noise), fps.Process(U, noise, "klimontovich")
    x, step = np.linspace(-0.5, 0.5, 18), 1e-4
    moved = x + step * np.eye(18)[:, None] * np.array([[1.0], [-1.0]])  # (axis, sign, d)
    D = ito.diffusion(moved)
    slopes = np.einsum("jij->i", ((D[:, 0] - D[:, 1]) / (2 * step)))
    np.testing.assert_allclose(klimontovich.drift(x) - ito.drift(x), slopes, atol=1e-9)
    np.testing.assert_allclose(
        fps.simulate(klimontovich, x, t=0.1, dt=0.01, n=20, seed=4).final, euler(klimontovich, x, 0.01, 10, 20, 4), atol=1e-11
    )


def test_separable_wells_have_the_boltzmann_moments():
    """64 independent double wells with BAOAB: E x^2 of all coordinates by quadrature; its bias at this step is below 1e-3."""
    d, T, n = 64, 0.5, 512
    names = [f"q{i}" for i in range(d)]
    U = fps.Potential.from_expression(" + ".join(f"({q}**2 - 1)**2" for q in names), names)
    model = fps.Underdamped(U, fps.Noise.isotropic(T), friction=1.0)
    signs = np.where(np.random.default_rng(1).random((n, d)) < 0.5, -1.0, 1.0)
    got = fps.simulate(model, signs, t=10.0, dt=0.05, n=n, seed=2).final
    weight = lambda x: np.exp(-((x**2 - 1) ** 2) / T)  # noqa: E731
    expected = integrate.quad(lambda x: x**2 * weight(x), -4, 4)[0] / integrate.quad(weight, -4, 4)[0]
    squares = got[:, :d] ** 2
    z_test(squares.mean(), expected, squares.std() / np.sqrt(squares.size))
    z_test((got[:, d:] ** 2).mean(), T * 1.0, np.sqrt(2 * T**2 / squares.size) + 1e-3)


def slow_and_fast(x, p):
    """A valley: one double well, the other directions fast."""
    total = (x[0] ** 2 - 1.0) ** 2
    for i in range(1, len(x)):
        total += 0.5 * p[0] * x[i] ** 2
    return total


def slow_and_fast_slope(x, p):
    out = np.empty(len(x))
    out[0] = 4.0 * x[0] * (x[0] ** 2 - 1.0)
    for i in range(1, len(x)):
        out[i] = p[0] * x[i]
    return out


def test_python_functions_loop_over_an_array():
    """A valley of 300 dimensions; the slow coordinate is the 1-D process path by path when the streams are aligned to it."""
    U = fps.Potential(slow_and_fast, slow_and_fast_slope, dim=300, params={"k": 20.0})
    F, s = low_rank(300, 2)
    process = fps.Process(U, fps.Noise.low_rank(F, s))
    start = np.append(-1.0, np.zeros(299))
    got = fps.simulate(process, start, t=0.05, dt=0.01, n=40, seed=3).final
    np.testing.assert_allclose(got, euler(process, start, 0.01, 5, 40, 3), atol=1e-11)
    assert U(start) == 0.0


# ---- the same bits --------------------------------------------------------------------------------------------------

SPLITS = [{"threads": 1}, {"threads": 2}, {"threads": 2, "chunk": 100}, {"threads": 1, "chunk": 1}]


def test_simulate_gives_the_same_bits_on_any_threads_and_chunks():
    process = fps.Process(wells(18), noises(18)["table"])
    for save, extra in (("moments", {"t_burn": 0.1}), ([0.1, 0.2], {}), ("final", {})):
        kwargs = {"t": 0.2, "dt": 0.01, "save": save, "seed": 3, **extra}
        runs = [fps.simulate(process, np.zeros(18), n=600, **kwargs, **s) for s in SPLITS]
        for other in runs[1:]:
            assert np.array_equal(runs[0].final, other.final)
            assert runs[0].covariance is None or np.array_equal(runs[0].covariance, other.covariance)
        few = fps.simulate(process, np.zeros(18), n=90, **kwargs)
        assert np.array_equal(few.final, runs[0].final[:90])


def test_escape_gives_the_same_bits_on_any_threads_and_chunks():
    F, s = low_rank(18)
    process = fps.Process(wells(18), fps.Noise.low_rank(F, s))
    kwargs = {"dt": 0.01, "seed": 3, "t_max": 0.15}
    region = fps.Region.ball(np.zeros(18), 2.0)
    runs = [fps.escape_times(process, np.zeros(18), region, n=400, **kwargs, **s) for s in SPLITS[:3]]
    assert 0 < runs[0].censored.sum() < 400
    for other in runs[1:]:
        assert np.array_equal(runs[0].times, other.times)
        assert np.array_equal(runs[0].exit_points, other.exit_points, equal_nan=True)
    assert np.array_equal(fps.escape_times(process, np.zeros(18), region, n=90, **kwargs).times, runs[0].times[:90])


def test_moments_and_histogram_over_time_are_those_of_the_states():
    process = fps.Process(wells(18), noises(18)["low rank"])
    kwargs = {"t": 0.2, "dt": 0.01, "n": 300, "seed": 3}
    states = fps.simulate(process, np.zeros(18), save=list(np.arange(11, 21) * 0.01), **kwargs).states
    moments = fps.simulate(process, np.zeros(18), save="moments", t_burn=0.1, **kwargs)
    flat = states.reshape(-1, 18)
    np.testing.assert_allclose(moments.mean, flat.mean(axis=0), atol=1e-12)
    grid = fps.Grid((-1.0, 1.0, 8))
    histogram = fps.simulate(process, np.zeros(18), save="histogram", t_burn=0.1, bins=grid, axes=[5], **kwargs).histogram
    counts = np.histogram(flat[:, 5], bins=grid.edges[0])[0]
    np.testing.assert_allclose(histogram.cell_mass, counts / len(flat), atol=1e-12)
    correlation = fps.simulate(process, np.zeros(18), save="autocorrelation", lags=0.05, axes=[5], **kwargs).autocorrelation
    assert correlation.values.shape == (6, 1, 1)


# ---- first passage --------------------------------------------------------------------------------------------------


def still(x, p):
    return np.zeros(len(x))


def test_brownian_exits_from_ball_and_slab():
    """Ball of radius 1 in 20-D: mean exit time 1/(2 d D); slab -1 < x_0 < 2: mean 2, left side 2/3. Without the bridge late."""
    flat = fps.Process.from_drift(["0"] * 20, fps.Noise.isotropic(0.5), variables=[f"q{i}" for i in range(20)])
    ball = fps.escape_times(flat, np.zeros(20), fps.Region.ball(np.zeros(20), 1.0), n=4000, dt=0.0005, seed=2)
    z_test(ball.mean().value, 1 / 20, ball.mean().stderr)
    np.testing.assert_allclose(np.linalg.norm(ball.exit_points, axis=1), 1.0, atol=1e-12)
    z_test(ball.exit_points.mean(axis=0), 0.0, np.sqrt(1 / 20 / 4000))
    low, high = np.full(20, -np.inf), np.full(20, np.inf)
    low[0], high[0] = -1.0, 2.0
    slab = fps.escape_times(flat, np.zeros(20), fps.Region.box(low, high), n=2000, dt=0.02, seed=3)
    z_test(slab.mean().value, 2.0, slab.mean().stderr)
    left = slab.exit_probabilities()["x0 = -1"]
    z_test(left.value, 2 / 3, left.stderr)
    late = fps.escape_times(flat, np.zeros(20), fps.Region.box(low, high), n=2000, dt=0.02, seed=3, correction=None).mean()
    assert late.value > 2.0 + 2 * late.stderr  # (1 + 2 delta)(2 + 2 delta)/... is 2.26 with delta = 0.5826 sqrt(dt)


def test_times_and_places_of_the_exit_with_a_full_tensor_are_exact_at_any_step():
    tilted_exit(18, n=4000, dt=1.0, seed=9)


def test_exits_near_a_corner_are_on_the_surface():
    """Of a square in the first two coordinates, at a long step: no point beyond a second face; a quarter per side, |z| < 4."""
    flat = fps.Process.from_drift(["0"] * 18, fps.Noise.isotropic(0.5), variables=[f"q{i}" for i in range(18)])
    low, high = np.full(18, -np.inf), np.full(18, np.inf)
    low[:2], high[:2] = -1.0, 1.0
    out = fps.escape_times(flat, np.zeros(18), fps.Region.box(low, high), n=4000, dt=0.5, seed=1)
    p = out.exit_points[:, :2]
    np.testing.assert_allclose(np.abs(p).max(axis=1), 1.0, rtol=0, atol=1e-12)
    for side, (axis, end) in enumerate([(0, -1.0), (0, 1.0), (1, -1.0), (1, 1.0)]):
        np.testing.assert_allclose(p[out.sides == side, axis], end, atol=1e-12)
        z_test(np.mean(out.sides == side), 0.25, np.sqrt(0.1875 / 4000))


def test_a_face_without_noise_is_crossed_on_a_straight_line():
    """Drift along x0, noise on the other coordinates: x0 = 1 is met at time 1 exactly, at any step; |z| < 4 for the rest."""
    d = 18
    drift = ["1 + 0*q0", *["0"] * (d - 1)]
    process = fps.Process.from_drift(
        drift, fps.Noise.constant(np.diag([0.0] + [0.5] * (d - 1))), variables=[f"q{i}" for i in range(d)]
    )
    low, high = np.full(d, -np.inf), np.full(d, np.inf)
    high[0], low[1], high[1] = 1.0, -1.0, 1.0
    out = fps.escape_times(process, np.zeros(d), fps.Region.box(low, high), n=4000, dt=0.03, seed=1)
    ahead = out.sides == out.side_names.index("x0 = 1")
    k = np.arange(50)
    inside = np.sum(4 / np.pi * (-1.0) ** k / (2 * k + 1) * np.exp(-0.5 * ((2 * k + 1) * np.pi / 2) ** 2))  # P(T > 1)
    z_test(ahead.mean(), inside, np.sqrt(inside * (1 - inside) / 4000))
    np.testing.assert_allclose(out.times[ahead], 1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(out.exit_points[ahead, 0], 1.0, rtol=0, atol=1e-12)
    assert np.all(out.times <= 1.0 + 1e-12) and np.all(out.sides >= 0)


def test_half_space_of_a_linear_process_is_the_one_dimensional_exit():
    """n.X is an Ornstein-Uhlenbeck process of its own when A is a multiple of the identity; with low-rank noise, D = n.D n."""
    F, s = low_rank(30, 2, 0.5)
    normal = np.linspace(1.0, 2.0, 30) / np.linalg.norm(np.linspace(1.0, 2.0, 30))
    D = float(normal @ (F @ F.T + np.diag(s)) @ normal)
    process = fps.Process(fps.potentials.quadratic(np.eye(30)), fps.Noise.low_rank(F, s))
    line = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(D))
    level = 1.2 * np.sqrt(D)
    exact = fps.theory.mean_first_passage_1d(line, 0.0, level).value
    out = fps.escape_times(process, np.zeros(30), fps.Region.halfspace(normal, level), n=2000, dt=0.01, seed=7)
    z_test(out.mean().value, exact, out.mean().stderr)
    np.testing.assert_allclose(out.exit_points @ normal, level, atol=1e-12)


def test_sublevel_set_of_a_valley_and_a_chain():
    """E = |x|^2/2 < 1 in 20-D is the ball of radius sqrt 2: the same law of exit, for a process, and for a chain that jumps."""
    U = fps.potentials.quadratic(np.eye(20))
    noise = fps.Noise.low_rank(*low_rank(20, 2, 0.2))
    process = fps.Process(U, noise)
    regions = [fps.Region.sublevel(U, 1.0), fps.Region.ball(np.zeros(20), np.sqrt(2.0))]
    a, b = (fps.escape_times(process, np.zeros(20), region, n=1500, dt=0.005, seed=s).mean() for s, region in enumerate(regions))
    z_test(a.value, b.value, np.hypot(a.stderr, b.stderr))
    chain = fps.SGDChain.gaussian(U, noise, 0.05, 0.5)
    a, b = (fps.escape_times(chain, np.zeros(20), region, n=300, seed=4) for region in regions)
    assert np.array_equal(a.times, b.times)
    assert np.all(np.linalg.norm(a.exit_points, axis=1) >= np.sqrt(2.0) - 1e-12)


# ---- memory, failures, refusals -------------------------------------------------------------------------------------


def test_four_thousand_dimensions_need_no_matrix():
    """r = 10: the parts are 0.4 MB, a matrix would be 128 MB."""
    d = 4000
    F, s = low_rank(d, 10)
    noise = fps.Noise.low_rank(F, s)
    U = fps.Potential(slow_and_fast, slow_and_fast_slope, dim=d, params={"k": 20.0})
    tracemalloc.start()
    got = fps.simulate(fps.Process(U, noise), np.zeros(d), t=0.02, dt=0.01, n=20, seed=1, save=[0.02])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "values" not in vars(noise.diffusion_code)
    assert np.all(np.isfinite(got.final))
    assert peak < 500e6  # the covariance of the result is d x d: 128 MB and what NumPy needs on the way


def cubic(x, p):
    out = np.empty(len(x))
    for i in range(len(x)):
        out[i] = x[i] ** 3
    return out


def test_paths_that_blow_up_are_counted():
    names = [f"q{i}" for i in range(20)]
    process = fps.Process.from_drift([f"{q}**3" for q in names], fps.Noise.isotropic(0.05), variables=names)
    with pytest.warns(RuntimeWarning, match="became non-finite"):
        out = fps.simulate(process, np.zeros(20), t=3.0, dt=0.05, n=200, seed=1)
    assert 0 < out.status["not_finite"] < 200
    assert np.isnan(out.final).any(axis=1).sum() == out.status["not_finite"]
    with pytest.warns(RuntimeWarning, match="became non-finite"):
        exits = fps.escape_times(process, np.zeros(20), fps.Region.halfspace(np.eye(20)[0], 1e3), n=200, dt=0.05, t_max=3.0, seed=1)
    assert exits.n_failed > 0


def test_checkpoints_tell_processes_apart():
    """By every part: F, the floor, a knot of a table, the sign of a drift; a matrix formed on request changes nothing."""
    from fpsolve._checkpoint import describe_process

    F, s = low_rank(18)
    other, tables = F.copy(), table(18)
    other[3, 1] += 1e-9
    moved = tables[0].copy()
    moved[2, 5, 0] += 1e-9
    U = wells(18)
    lines = [fps.Noise.covariance((A, tables[1]), lr=2.0, axes=[LINE], along=1) for A in (tables[0], moved)]
    formed = fps.Process(U, fps.Noise.low_rank(F, s))
    processes = [formed, *(fps.Process(U, noise) for noise in (fps.Noise.low_rank(other, s), fps.Noise.low_rank(F, 2 * s), *lines))]
    processes += [fps.Process(fps.potentials.quadratic(a * np.eye(18)), fps.Noise.low_rank(F, s)) for a in (1.0, -1.0)]
    names = [describe_process(process) for process in processes]
    assert len(set(names)) == len(names)
    formed.factor(np.zeros(18)), formed.diffusion(np.zeros(18))
    assert describe_process(formed) == names[0]


def test_checkpoints_go_on_to_the_same_bits(tmp_path, monkeypatch):
    from fpsolve import _blocks, _runner

    process = fps.Process(wells(18), noises(18)["table"])
    kwargs = {"t": 0.4, "dt": 0.01, "n": 300, "seed": 5, "save": "moments", "t_burn": 0.1, "threads": 1}
    whole = fps.simulate(process, np.zeros(18), **kwargs)
    calls = []

    def interrupted(self, unit, until, original=_blocks.WideRun.advance):
        calls.append(unit.now)
        if len(calls) == 25:
            raise RuntimeError("the machine went down")
        return original(self, unit, until)

    monkeypatch.setattr(_blocks.WideRun, "advance", interrupted)
    monkeypatch.setattr(_runner.Control, "keep", lambda self, lo, hi, state: self._units.__setitem__((lo, hi), state()))
    with pytest.raises(RuntimeError, match="went down"):
        fps.simulate(process, np.zeros(18), **kwargs, checkpoint=tmp_path / "run.h5", checkpoint_every=0.001)
    monkeypatch.undo()
    resumed = fps.simulate(process, np.zeros(18), **kwargs, checkpoint=tmp_path / "run.h5")
    assert np.array_equal(resumed.final, whole.final)
    assert np.array_equal(resumed.covariance, whole.covariance)
    other = fps.Process(wells(18), noises(18)["low rank"])
    with pytest.raises(ValueError, match="another call"):
        fps.simulate(other, np.zeros(18), **kwargs, checkpoint=tmp_path / "run.h5")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fps.Noise.low_rank(np.ones(3)), r"F must have shape \(d, r\), got \(3,\)"),
        (lambda: fps.Noise.low_rank(np.ones((3, 1)), [1.0, 2.0]), "diagonal must be a number or have shape"),
        (lambda: fps.Noise.low_rank(np.ones((3, 1)), [1.0, -0.5, 1.0]), "must be >= 0, got -0.5 at entry 1"),
        (lambda: fps.Noise.low_rank([[np.nan]]), "F has 1 entries that are not finite"),
        (lambda: fps.Noise.diagonal(["1", "2"], "x y z"), "2 entries for 3 variables"),
        (lambda: fps.Noise.covariance(np.eye(2), 0.1, along=0), "give the knots as axes"),
        (lambda: fps.Noise.covariance([-np.eye(2)] * 2, 0.1, axes=[[0, 1]], along=0), "knot 0 is not positive semi-definite: eig"),
        (lambda: fps.Noise.covariance(np.ones((3, 2, 2)), 0.1, axes=[[0, 1]], along=0), r"must have shape \(2, d, d\)"),
        (lambda: fps.Noise.covariance([np.eye(2)] * 2, 0.1, axes=[[0, 1]], along=2), "coordinate in 0..1"),
        (lambda: fps.Noise.covariance([np.eye(2)] * 2, 0.1, axes=[[0, 1]], along=[0, 0]), "not all zero"),
        (lambda: fps.Noise.low_rank(np.ones((40000, 1))).diffusion(np.zeros(40000)), "would take 12.8 GB"),
    ],
)  # fmt: skip
def test_noise_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_many_dimensions_do_not_take_is_refused(monkeypatch):
    U, F = wells(18), low_rank(18)
    diagonal = fps.Noise.diagonal(still, dim=18)
    run = {"x0": np.zeros(18), "t": 0.1, "dt": 0.01, "n": 10}
    process = fps.Process(U, fps.Noise.low_rank(*F))
    with pytest.raises(ValueError, match="walls"):
        fps.simulate(process, **run, walls=[(-1, 1, "reflecting")] + [None] * 17)
    with pytest.raises(ValueError, match="Levy noise is simulated in up to 16"):
        fps.simulate(fps.Process(U, fps.Noise.levy(1.5, 0.1)), **run)
    with pytest.raises(ValueError, match="constant noise"):
        fps.simulate(fps.Process(U, diagonal), **run, method="heun")
    with pytest.raises(ValueError, match="more than 16 dimensions run in double precision"):
        fps.simulate(process, **run, precision="single")
    with pytest.raises(ValueError, match="divergence of a diagonal tensor given as a function"):
        fps.Process(U, diagonal, "klimontovich")
    with pytest.raises(ValueError, match="Stratonovich"):
        fps.Process(U, fps.Noise.covariance(table(18), lr=2.0, axes=[LINE], along=1), "stratonovich")
    with pytest.raises(ValueError, match="Stratonovich"):
        fps.Process(U, diagonal, "stratonovich")
    flat = fps.Process(fps.potentials.quadratic(np.eye(18)), fps.Noise.low_rank(np.eye(18)[:, :1]))
    with pytest.raises(ValueError, match="no noise across the surface"):
        fps.escape_times(flat, np.zeros(18), fps.Region.halfspace(np.eye(18)[1], 1.0), n=10, dt=0.01)
    with pytest.raises(ValueError, match="must be finite and >= 0"):
        fps.simulate(fps.Process(U, fps.Noise.diagonal(cubic, dim=18)), **{**run, "x0": -np.ones(18)})
    monkeypatch.setattr("fpsolve._blocks.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="leave t_burn out"):
        fps.simulate(process, **run, save="moments", t_burn=0.0)
