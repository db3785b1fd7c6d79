"""Paths against exact results at finite step, with fixed seeds, and the same bits on any threads and chunks.

Every number is asserted by ``z_test``. Unless said otherwise the expected values are exact for the scheme at its step, not only
in the limit.
"""

import math

import numpy as np
import pytest
import scipy.linalg
from path_cases import FULL, WELL, Quadratic, brownian, z_test
from scipy import stats

import fpsolve as fps

# ---- same bits ------------------------------------------------------------------------------------------------------


SPLITS = [{"threads": 1}, {"threads": 2}, {"threads": 2, "chunk": 100}, {"threads": 1, "chunk": 1}, {"threads": 2, "chunk": 257}]
SAVES = {
    "final": {}, "moments": {"t_burn": 0.1}, "histogram": {"t_burn": 0.1, "bins": (20, 10), "ranges": ((-2, 2), (-2, 2))},
    "times": {},
}  # fmt: skip


def same(a, b):
    for name in ("final", "states", "mean", "covariance", "times", "censored", "exit_points"):
        x, y = getattr(a, name, None), getattr(b, name, None)
        if callable(x):  # EscapeTimes.mean
            continue
        assert (x is None) == (y is None) and (x is None or np.array_equal(x, y, equal_nan=True)), name
    if getattr(a, "histogram", None) is not None:
        assert np.array_equal(a.histogram.values, b.histogram.values)


@pytest.mark.parametrize("kind", SAVES)
@pytest.mark.parametrize("noise", [fps.Noise.isotropic(0.1), FULL], ids=["isotropic", "full"])
def test_simulate_gives_the_same_bits_on_any_threads_and_chunks(kind, noise):
    save = [0.1, 0.23, 0.37] if kind == "times" else kind
    runs = [fps.simulate(fps.Process(WELL, noise), [0.1, 0.2], t=0.37, dt=0.01, n=300, save=save, seed=3, **SAVES[kind], **s)
            for s in SPLITS]  # fmt: skip
    for other in runs[1:]:
        same(runs[0], other)


def test_simulate_does_not_depend_on_n():
    """Trajectory i is the same whatever the size of the ensemble it is part of; also with an odd number of noises."""
    for process in (fps.Process(WELL, FULL), fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.1))):
        runs = [fps.simulate(process, [0.1] * process.dim, t=0.37, dt=0.01, n=n, seed=3).final for n in (40, 700)]
        assert np.array_equal(runs[0], runs[1][:40])


def test_states_on_the_way_do_not_change_the_path():
    process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.1))
    plain = fps.simulate(process, [0.1], t=0.37, dt=0.01, n=300, seed=3)
    saved = fps.simulate(process, [0.1], t=0.37, dt=0.01, n=300, seed=3, save=[0.0, 0.11, 0.12, 0.37])
    assert np.array_equal(plain.final, saved.states[-1])
    assert np.all(saved.states[0] == 0.1)


@pytest.mark.parametrize("correction", ["bridge", None])
@pytest.mark.parametrize("dim", [1, 2])
def test_escape_gives_the_same_bits_on_any_threads_and_chunks(dim, correction):
    region = fps.Region.ball([0.0] * dim, 0.5)
    args = (brownian(dim=dim), [0.1] * dim, region)
    kwargs = {"dt": 0.003, "seed": 3, "t_max": 0.15, "correction": correction}
    runs = [fps.escape_times(*args, n=900, **kwargs, **s) for s in SPLITS]
    assert 0 < runs[0].censored.sum() < 900
    for other in runs[1:]:
        same(runs[0], other)
    more = fps.escape_times(*args, n=2000, **kwargs)
    assert np.array_equal(more.times[:900], runs[0].times)


def test_matrix_kernel_gives_the_same_bits_on_any_threads_and_chunks():
    process = fps.Process.ornstein_uhlenbeck(np.diag(np.linspace(0.5, 2, 11)), fps.Noise.isotropic(0.3))
    for save in ("final", "moments", [0.1, 0.25]):
        extra = {"t_burn": 0.1} if save == "moments" else {}
        runs = [fps.simulate(process, np.ones(11), t=0.25, dt=0.01, n=600, save=save, seed=1, **extra, **s) for s in SPLITS]
        for other in runs[1:]:
            same(runs[0], other)


# ---- exact results at finite step -----------------------------------------------------------------------------------


def lyapunov(A, D, h):
    """Stationary covariance of x <- x - h A x + sqrt(2 h D) z."""
    M = np.eye(len(A)) - h * np.asarray(A)
    return scipy.linalg.solve_discrete_lyapunov(M, 2 * h * np.asarray(D))


def covariance_z(A, D, h, n, dim):
    """z-scores of the final covariances; under a Gaussian law var(S_ij) = (S_ii S_jj + S_ij^2)/(n - 1)."""
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
    got = fps.simulate(process, np.zeros(dim), t=round(12 / h) * h, dt=h, n=n, save="moments", seed=5)
    S = lyapunov(A, D, h)
    z_test(got.covariance, S, np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / (n - 1)))
    z_test(got.mean, 0.0, np.sqrt(np.diag(S) / n))


def test_euler_stationary_covariance_is_the_discrete_one():
    """Irreversible 2-D Ornstein-Uhlenbeck with correlated noise and a step of 0.2: 10 % off the continuous Lyapunov equation."""
    covariance_z([[1.0, 0.6], [-0.3, 0.8]], [[0.5, 0.2], [0.2, 0.3]], 0.2, 40000, 2)


@pytest.mark.parametrize("d", [9, 20, 33])
def test_matrix_kernel_covariance_is_the_discrete_one(d):
    """Dimensions with every remainder of the blocking; max |z| of d (d + 1)/2 entries would be above 4.5 by chance in < 0.4 %."""
    rng = np.random.default_rng(d)
    G = rng.normal(size=(d, d))
    A = np.diag(np.linspace(0.6, 2.0, d)) + 0.15 * (G - G.T)
    D = np.diag(np.linspace(0.2, 1.0, d)) + 0.02 * (G @ G.T)
    h, n = 0.1, 4000
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
    got = fps.simulate(process, np.zeros(d), t=12.0, dt=h, n=n, save="moments", seed=5)
    S = lyapunov(A, D, h)
    z = (got.covariance - S) / np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / (n - 1))
    assert np.abs(z).max() < 4.5


def test_matrix_and_fused_kernels_agree_path_by_path():
    """The same streams: a 9-D linear process through both kernels ends at the same points to rounding."""
    from fpsolve import _model

    process = fps.Process.ornstein_uhlenbeck(np.diag(np.linspace(0.5, 2, 9)), fps.Noise.isotropic(0.3), center=np.arange(9.0))
    kwargs = {"t": 0.31, "dt": 0.01, "n": 70, "seed": 2, "save": [0.1, 0.31]}
    matrix = fps.simulate(process, np.ones(9), **kwargs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_model, "MAX_UNROLLED_LINEAR", 100)
        fused = fps.simulate(process, np.ones(9), **kwargs)
    np.testing.assert_allclose(matrix.states, fused.states, rtol=1e-12, atol=1e-12)


def test_time_averages_equal_those_of_the_saved_states():
    """Moments and histogram accumulated on the way are those of the states saved at the same steps (to rounding)."""
    process, times = fps.Process(WELL, FULL), np.arange(13, 61) * 0.01
    common = {"t": 0.6, "dt": 0.01, "n": 40, "seed": 4}
    states = fps.simulate(process, [0.5, 0.1], save=times, **common).states
    for every in (1, 3):
        chosen = states[every - 1 :: every]
        got = fps.simulate(process, [0.5, 0.1], save="moments", t_burn=0.12, every=every, **common)
        means = chosen.mean(axis=0)
        np.testing.assert_allclose(got.mean, means.mean(axis=0), rtol=1e-12)
        centred = chosen - means
        within = np.einsum("tni,tnj->ij", centred, centred) / centred[..., 0].size
        np.testing.assert_allclose(got.covariance, within + np.cov(means.T), rtol=1e-10)
        cells = {"bins": (8, 5), "ranges": ((0, 2), (-1, 1))}
        hist = fps.simulate(process, [0.5, 0.1], save="histogram", t_burn=0.12, every=every, **cells, **common).histogram
        counts, *_ = np.histogram2d(*chosen.reshape(-1, 2).T, bins=(8, 5), range=((0, 2), (-1, 1)))
        np.testing.assert_array_equal(np.rint(hist.values * chosen[..., 0].size * hist.grid.cell_volumes), counts)


@pytest.mark.parametrize("d", [8, 9])
def test_time_averaged_covariance_of_few_trajectories_is_unbiased(d):
    """Four trajectories averaged over two relaxation times, 400 seeds: both kernels on average have the exact covariance at this
    step. (Without correction for the estimated mean it is 14 % short: the variance of the time mean, 0.57 of the whole, over 4.)
    """
    process = fps.Process.ornstein_uhlenbeck(np.eye(d), fps.Noise.isotropic(0.5))
    runs = [fps.simulate(process, np.zeros(d), t=12.0, dt=0.1, n=4, save="moments", t_burn=10.0, seed=s, threads=1)
            for s in range(400)]  # fmt: skip
    found = np.array([np.diag(r.covariance).mean() for r in runs])
    z_test(found.mean(), 0.5 / (1 - 0.05), found.std(ddof=1) / 20)
    means = np.array([r.mean for r in runs])
    z_test(means.mean(), 0.0, means.std() / math.sqrt(means.size))


def test_blocks_with_a_failed_trajectory_are_left_out():
    process = fps.Process.ornstein_uhlenbeck(np.eye(9), fps.Noise.isotropic(0.5))
    starts = np.zeros((600, 9))
    plain = fps.simulate(process, starts[256:], t=3.0, dt=0.1, n=344, save="final", seed=1)
    assert np.isfinite(plain.final).all()
    starts[3] = 1e308
    hard = fps.Process.ornstein_uhlenbeck(25.0 * np.eye(9), fps.Noise.isotropic(0.5))  # |1 - 2.5| > 1
    with pytest.warns(RuntimeWarning, match="1 of 600"):
        got = fps.simulate(hard, starts, t=0.6, dt=0.1, n=600, save="moments", t_burn=0.4, seed=1)
    assert np.isfinite(got.mean).all() and np.isfinite(got.covariance).all()


def wrapped_normal(edges, variance):
    """Probabilities of cells of the circle of length 2, from the normal law."""
    turns = 2.0 * np.arange(-40, 41)[:, None]
    return np.diff(stats.norm.cdf((edges + turns) / math.sqrt(variance)), axis=1).sum(axis=0)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("dim", [1, 9])
def test_histogram_on_a_periodic_axis_wraps(dim, average):
    """Free diffusion to variance 2 D t = 2 on a circle of length 2: every path is counted, in the cell of its angle."""
    process = fps.Process.ornstein_uhlenbeck(1e-9 * np.eye(dim), fps.Noise.isotropic(0.5))
    grid = fps.Grid((-1.0, 1.0, 8), boundary="periodic")
    extra = {"t_burn": 1.875} if average else {}
    got = fps.simulate(process, np.full(dim, 0.3), t=2.0, dt=0.125, n=20000, save="histogram", bins=grid, seed=4, **extra)
    assert got.histogram.mass == pytest.approx(1.0, abs=1e-12)
    p = wrapped_normal(grid.edges[0] - 0.3, 2.0)
    z_test(got.histogram.cell_mass, p, np.sqrt(p * (1 - p) / 20000))
    inside = ((got.final[:, 0] + 1.0) % 2.0 / 0.25).astype(int)
    assert np.array_equal(np.round(got.histogram.cell_mass * 20000), np.bincount(inside, minlength=8))


@pytest.mark.parametrize("average", [False, True])
def test_histogram_on_graded_axes(average):
    """The counts are NumPy's in the same cells, of the last coordinate and of both, and the density has their mass."""
    process, times = fps.Process(WELL, FULL), np.arange(50, 61) * 0.01
    common = {"t": 0.6, "dt": 0.01, "n": 600, "seed": 4}
    states = fps.simulate(process, [0.5, 0.1], save=times, **common).states[1 if average else -1 :]
    plane = fps.Grid((-0.5, 2.0, 9, ("sinh", 0.7, 0.2)), (-1.0, 1.0, 6))
    line = fps.Grid((-0.8, 1.0, 7, ("tanh", 1.5)))
    extra = {"t_burn": 0.5} if average else {}
    for grid, axes in ((plane, (0, 1)), (line, (1,))):
        got = fps.simulate(process, [0.5, 0.1], save="histogram", bins=grid, axes=axes, **extra, **common).histogram
        points = states.reshape(-1, 2)[:, list(axes)]
        counts, _ = np.histogramdd(points, bins=grid.edges)
        assert 0 < counts.sum() < len(points)
        np.testing.assert_allclose(got.cell_mass * len(points), counts, atol=1e-9)


def test_histogram_over_time_of_paths_that_blow_up_holds_what_they_did_before():
    """Mass one is all samples of all paths, so it cannot exceed one: the counts are those of the finite states in the box."""
    process, times = fps.Process.from_drift("x**3 - x", fps.Noise.isotropic(0.15)), np.arange(1, 501) * 0.02
    common, grid = {"t": 10.0, "dt": 0.01, "n": 100, "seed": 4}, fps.Grid((-1.5, 1.5, 12))
    with pytest.warns(RuntimeWarning, match="of 100 trajectories became non-finite"):
        states = fps.simulate(process, [0.0], save=times, **common).states[:, :, 0]
    with pytest.warns(RuntimeWarning, match="of 100 trajectories became non-finite"):
        got = fps.simulate(process, [0.0], save="histogram", bins=grid, t_burn=0.0, every=2, **common)
    assert 20 < got.status["not_finite"] < 80
    counts = np.histogram(states[np.isfinite(states)], grid.edges[0])[0]
    np.testing.assert_allclose(got.histogram.cell_mass * states.size, counts, atol=1e-9)


@pytest.mark.parametrize("dim", [1, 9])
def test_graded_histogram_on_a_periodic_axis_wraps(dim):
    process = fps.Process.ornstein_uhlenbeck(1e-9 * np.eye(dim), fps.Noise.isotropic(0.5))
    grid = fps.Grid((-1.0, 1.0, 8, ("tanh", 1.0)), boundary="periodic")
    common = {"t": 2.0, "dt": 0.125, "n": 20000, "seed": 4}
    got = fps.simulate(process, np.full(dim, 0.3), save="histogram", bins=grid, t_burn=1.875, **common)
    p = wrapped_normal(grid.edges[0] - 0.3, 2.0)
    z_test(got.histogram.cell_mass, p, np.sqrt(p * (1 - p) / 20000))
    wrapped = (got.final[:, 0] + 1.0) % 2.0 - 1.0
    assert np.array_equal(np.round(got.histogram.cell_mass * 20000), np.histogram(wrapped, grid.edges[0])[0])


def test_histogram_of_a_chain_wraps_too():
    chain = fps.SGDChain(Quadratic(), lr=0.5, batch=1)
    grid = fps.Grid((0.0, 1.0, 4), boundary="periodic")
    got = fps.simulate(chain, [0.0], t=30, n=50, save="histogram", bins=grid, t_burn=20, seed=1)
    assert got.histogram.mass == pytest.approx(1.0, abs=1e-12)


def test_moments_are_stable_far_from_the_origin():
    """Mean 1e8, standard deviation 1: sums of squares would have lost every digit."""
    process = fps.Process.ornstein_uhlenbeck([[1.0]], fps.Noise.isotropic(1.0), center=[1e8])
    n, h = 2000, 0.125
    got = fps.simulate(process, [1e8], t=40.0, dt=h, n=n, save="moments", t_burn=20.0, seed=1)
    S = 1.0 / (1 - h / 2)
    rho = (1 - h) ** 2  # autocorrelation of the squares from step to step
    samples = n * 20 / h * (1 - rho) / (1 + rho)
    z_test(got.covariance[0, 0], S, S * math.sqrt(2 / samples))


def test_geometric_brownian_motion_has_exact_moments_at_finite_step():
    """E X = (1 + a h)^k, E X^2 = ((1 + a h)^2 + s^2 h)^k; errors from the exact fourth moment by quadrature of the step."""
    a, s, h, k, n = 0.3, 0.4, 0.1, 10, 200000
    process = fps.Process.from_drift("a*x", fps.Noise.from_factor([["s*x"]], variables="x", params={"s": s}), params={"a": a})
    x = fps.simulate(process, [1.0], t=k * h, dt=h, n=n, seed=8).final[:, 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    power = [np.sum(weights * (1 + a * h + s * math.sqrt(h) * nodes) ** p) / weights.sum() for p in range(5)]
    exact = [p**k for p in power]
    assert exact[2] == pytest.approx(((1 + a * h) ** 2 + s * s * h) ** k)
    z_test(x.mean(), exact[1], math.sqrt((exact[2] - exact[1] ** 2) / n))
    z_test((x**2).mean(), exact[2], math.sqrt((exact[4] - exact[2] ** 2) / n))


def test_interpretations_differ_as_they_should():
    """Pure noise with D(x) = (s x)^2/2: the Ito drift is 0, s^2 x/2 (Stratonovich) or s^2 x (Klimontovich)."""
    s, h, k, n = 0.5, 0.05, 20, 100000
    flat = fps.Potential.from_expression("0*x")
    noise = fps.Noise.from_factor([["s*x"]], variables="x", params={"s": s})
    for kind, drift in (("ito", 0.0), ("stratonovich", 0.5), ("klimontovich", 1.0)):
        x = fps.simulate(fps.Process(flat, noise, interpretation=kind), [1.0], t=k * h, dt=h, n=n, seed=8).final[:, 0]
        mean = (1 + drift * s * s * h) ** k
        second = ((1 + drift * s * s * h) ** 2 + s * s * h) ** k
        z_test(x.mean(), mean, math.sqrt((second - mean**2) / n))


def test_full_tensor_covariance_of_one_step():
    """After one step the covariance is 2 D(x0) dt exactly, entry by entry."""
    x0, h, n = np.array([1.2, -0.7]), 0.01, 100000
    process = fps.Process(WELL, FULL)
    got = fps.simulate(process, x0, t=h, dt=h, n=n, save="moments", seed=1)
    S = 2 * h * process.diffusion(x0)
    z_test(got.covariance, S, np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / (n - 1)))
    z_test(got.mean, x0 + h * process.drift(x0), np.sqrt(np.diag(S) / n))


def test_python_callables_give_the_same_paths_as_expressions():
    def value(x, p):
        return (x[0] ** 2 - 1.0) ** 2 + 0.5 * p[0] * x[1] ** 2

    def grad(x, p):
        return 4.0 * x[0] * (x[0] ** 2 - 1.0), p[0] * x[1]

    other = fps.Potential(value, grad, dim=2, params={"k": 1.0})
    runs = [fps.simulate(fps.Process(U, FULL), [0.1, 0.2], t=0.5, dt=0.01, n=50, seed=1).final for U in (WELL, other)]
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-10)


def test_sampler_and_individual_starts():
    process = fps.Process(WELL, FULL)
    starts = np.random.default_rng(0).normal(size=(600, 2))
    a = fps.simulate(process, starts, t=0.1, dt=0.01, n=600, seed=1, save=[0.0, 0.1])
    assert np.array_equal(a.states[0], starts)
    b = fps.simulate(process, lambda rng, n: starts, t=0.1, dt=0.01, n=600, seed=1, chunk=50)
    assert np.array_equal(a.final, b.final)
    one = fps.simulate(process, starts[0], t=0.1, dt=0.01, n=1, seed=1)
    assert np.array_equal(one.final[0], a.final[0])


@pytest.mark.parametrize("kind", ["symmetric", "normal", "general", "heavy ball", "singular noise", "more noises than states"])
def test_the_basis_of_the_matrix_kernel_keeps_the_law(kind):
    """w = Q^T y: Q is orthogonal, Q T Q^T = M and Q R R^T Q^T = N N^T to rounding, and nothing lies outside the spans."""
    from fpsolve._linear import LinearStep

    rng = np.random.default_rng(3)
    v, m = 21, {"singular noise": 6, "more noises than states": 30}.get(kind, 21)
    M, N = np.eye(v) - 0.1 * rng.normal(size=(v, v)), rng.normal(size=(v, m))
    if kind == "symmetric":
        M = M + M.T
    if kind == "normal":
        M, N = np.eye(v) + M - M.T, 0.3 * np.eye(v)
    if kind == "heavy ball":
        M[:10, 10:20] = np.eye(10)
    step = LinearStep.of(M, N)
    Q, rows = step.basis, len(step.matrix)
    T, R = step.matrix[:v, :v], step.matrix[:v, rows : rows + m]
    np.testing.assert_allclose(Q.T @ Q, np.eye(v), atol=1e-13)
    np.testing.assert_allclose(Q @ T @ Q.T, M, atol=1e-12)
    np.testing.assert_allclose(Q @ R @ R.T @ Q.T, N @ N.T, atol=1e-12)
    inside = np.zeros(step.matrix.shape, bool)
    for block, (a, b, c, d) in enumerate(step.spans):
        inside[4 * block : 4 * block + 4, a:b] = inside[4 * block : 4 * block + 4, c:d] = True
    assert not step.matrix[~inside].any()
    dense = 2 * rows if kind != "more noises than states" else rows + m
    assert inside.sum() / rows < 0.8 * dense  # the multiply-adds of a step: less than those of the dense product
