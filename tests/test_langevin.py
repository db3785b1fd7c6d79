"""Paths against exact results at finite step, with fixed seeds.

``z_test`` asserts |z| < 4: a correct code fails one such test in 15 800 (normal law). Unless said otherwise the expected values are
exact for the scheme at its step, not only in the limit.
"""

import io
import logging
import math
import os
import re
import signal
import sys
import threading

import numpy as np
import pytest
import scipy.linalg
from scipy import stats

import fpsolve as fps
from fpsolve import _codegen, langevin
from fpsolve._jit import kernel_uncached
from fpsolve._kernels.langevin import bridge_fraction
from fpsolve._runner import Control

WELL = fps.Potential.from_expression("(x**2-1)**2 + k*y**2/2", variables="x y", params={"k": 1.0})
FULL = fps.Noise.from_expression([["0.2+0.05*x**2", "0.02*x*y"], ["0.02*x*y", "0.1+0.05*y**2"]], variables="x y")


def z_test(value, expected, error):
    z = (value - expected) / error
    assert np.all(np.abs(z) < 4.0), f"z = {z}"


def brownian(D=0.5, dim=1):
    return fps.Process.from_drift(["0*x", "0*y"][:dim], fps.Noise.isotropic(D), variables="x y"[: 2 * dim - 1])


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


# ---- escape ---------------------------------------------------------------------------------------------------------


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


# ---- chains ---------------------------------------------------------------------------------------------------------


def gaussian_chain(h, c, lr, batch, momentum=0.0):
    U = fps.Potential.from_expression("h*x**2/2", params={"h": h})
    return fps.SGDChain.gaussian(U, fps.Noise.covariance([[c]], lr=lr, batch=batch), lr=lr, momentum=momentum)


@pytest.mark.parametrize("mu", [0.0, 0.6])
def test_gaussian_chain_variance(mu):
    """Heavy ball with gradient variance c/B: var = lr c (1 + mu)/(B h (1 - mu) (2 (1 + mu) - lr h)).

    mu = 0 gives lr c/(B h (2 - lr h)).
    """
    h, c, lr, batch, n = 2.0, 3.0, 0.3, 5, 100000
    got = fps.simulate(gaussian_chain(h, c, lr, batch, mu), [0.0], t=200, n=n, save="moments", seed=1)
    exact = lr * c / batch * (1 + mu) / (h * (1 - mu) * (2 * (1 + mu) - lr * h))
    z_test(got.covariance[0, 0], exact, exact * math.sqrt(2 / n))
    assert got.unit == "iteration" and got.times[-1] == 200 and got.dt is None


def test_gaussian_chain_in_many_dimensions_with_momentum():
    """Matrix kernel with velocities: each direction has the variance of its own chain; max |z| of 12 below 4."""
    d, lr, mu, n = 12, 0.1, 0.5, 20000
    H = np.diag(np.linspace(0.5, 4.0, d))
    chain = fps.SGDChain.gaussian(fps.potentials.quadratic(H), fps.Noise.covariance(np.eye(d), lr=lr, batch=2), lr=lr, momentum=mu)
    got = fps.simulate(chain, np.zeros(d), t=400, n=n, save="moments", seed=1)
    lam = np.diag(H)
    exact = lr / 2 * (1 + mu) / (lam * (1 - mu) * (2 * (1 + mu) - lr * lam))
    z_test(np.diag(got.covariance), exact, exact * math.sqrt(2 / n))


def test_chain_escape_is_tested_after_each_iteration():
    """With h = 1/lr the chain is independent Gaussian draws: the escape time is geometric."""
    lr, c = 0.5, 1.0
    chain = gaussian_chain(2.0, c, lr, 1)
    out = fps.escape_times(chain, [0.0], fps.Region.ball([0.0], 1.0), n=20000, seed=1)
    p = 2 * stats.norm.sf(1.0 / (lr * math.sqrt(c)))
    assert out.unit == "iteration" and out.correction == ""
    assert np.array_equal(out.times, np.rint(out.times)) and out.times.min() >= 1
    z_test(out.times.mean(), 1 / p, math.sqrt((1 - p) / p**2 / out.n))


class Quadratic:
    """Sample losses h (theta - a_i)^2/2."""

    def __init__(self, size=20, h=1.5):
        self.dim, self.size, self.h = 1, size, h
        self.a = np.random.default_rng(0).normal(size=(size, 1))

    def gradient(self, theta, indices):
        return self.h * (theta - self.a[indices].mean(axis=0))


@pytest.mark.parametrize("batch", [1, 4])
def test_ensemble_with_replacement(batch):
    """var = lr c/(B h (2 - lr h)) with c the variance of the sample gradients; errors from the means of blocks of trajectories."""
    e, lr, n = Quadratic(), 0.2, 400
    chain = fps.SGDChain(e, lr, batch)
    x = fps.simulate(chain, e.a.mean(axis=0), t=150, n=n, save=np.arange(50, 151, 20), seed=3).states[..., 0]
    c = e.h**2 * e.a.var()
    exact = lr * c / batch / (e.h * (2 - lr * e.h))
    per_path = ((x - e.a.mean()) ** 2).mean(axis=0)
    z_test(per_path.mean(), exact, per_path.std() / math.sqrt(n))


def test_ensemble_shuffled_epochs():
    """One epoch from theta: the weights w_k = lr h (1 - lr h)^(K-1-k) of a random permutation give the variance at its end exactly.

    var = s^2 (sum w^2 - (sum w)^2/K) K/(K - 1) with s^2 the population variance of a (batch 1, drawn without replacement).
    """
    e, lr, n = Quadratic(size=8), 0.3, 4000
    got = fps.simulate(fps.SGDChain(e, lr, 1, sampling="shuffle"), [0.0], t=8, n=n, save="moments", seed=3)
    w = lr * e.h * (1 - lr * e.h) ** np.arange(7, -1, -1)
    exact = e.a.var() * (np.sum(w**2) - np.sum(w) ** 2 / 8) * 8 / 7
    x = got.final[:, 0]
    z_test(x.mean(), np.sum(w) * e.a.mean(), math.sqrt(exact / n))
    z_test(got.covariance[0, 0], exact, np.std((x - x.mean()) ** 2) / math.sqrt(n))


def test_ensemble_drops_the_last_partial_batch_and_uses_each_sample_once():
    seen = []

    class Recorder(Quadratic):
        def gradient(self, theta, indices):
            seen.append(np.array(indices))
            return super().gradient(theta, indices)

    fps.simulate(fps.SGDChain(Recorder(size=10), 0.1, 3, sampling="shuffle"), [0.0], t=9, n=1, seed=3)
    for epoch in (seen[0:3], seen[3:6], seen[6:9]):
        assert len(set(np.concatenate(epoch))) == 9


def test_ensemble_momentum_and_escape_agree_with_the_definition():
    e, lr, mu = Quadratic(), 0.2, 0.5
    chain = fps.SGDChain(e, lr, e.size, momentum=mu, sampling="shuffle")  # full batch: no noise
    got = fps.simulate(chain, [2.0], t=5, n=2, seed=1).final
    theta, v = 2.0, 0.0
    for _ in range(5):
        v = mu * v + e.h * (theta - e.a.mean())
        theta -= lr * v
    np.testing.assert_allclose(got, theta, rtol=1e-12)
    out = fps.escape_times(chain, [2.0], fps.Region.halfspace([-1.0], -1.0), n=3, seed=1)
    assert np.all(out.exit_points <= 1.0) and len(set(out.times)) == 1


# ---- failures, errors, interruption, compilation --------------------------------------------------------------------


def test_paths_say_what_they_are_of():
    """A process with measured noise knows lr and batch, and is no chain for that."""
    U, noise = fps.potentials.quadratic([[1.0]]), fps.Noise.covariance([[1.0]], lr=0.1, batch=20)
    region = fps.Region.ball([0.0], 0.1)
    for process, kwargs, method in (
        (fps.Process(U, noise), {"dt": 0.1}, "euler"),
        (fps.SGDChain.gaussian(U, noise, lr=0.1), {}, "SGD, Gaussian"),
        (fps.SGDChain(Quadratic(), lr=0.1, batch=20), {}, "SGD, replace"),
    ):
        paths = fps.simulate(process, [0.0], t=1, n=5, seed=1, **kwargs)
        escapes = fps.escape_times(process, [0.0], region, n=5, seed=1, **kwargs)
        for result in (paths, escapes, escapes.mean(), escapes.rate().per_iteration()):
            assert (result.lr, result.batch) == (0.1, 20.0)
        assert paths.method == escapes.method == method
    other = fps.Process(U, fps.Noise.covariance([[1.0]], lr=0.1, batch=10))
    with pytest.raises(ValueError, match="batch size 20, .* to 10"):
        fps.compare(escapes.mean(), fps.escape_times(other, [0.0], region, n=5, seed=1, dt=0.1).mean(), lr=0.1)


def test_non_finite_trajectories_are_counted_and_reported():
    steep = fps.Process(fps.Potential.from_expression("x**4/4"), fps.Noise.isotropic(1e-3))
    starts = np.where(np.arange(200)[:, None] % 10 == 0, 100.0, 0.5)
    with pytest.warns(RuntimeWarning, match=r"20 of 200 .* halve dt"):
        got = fps.simulate(steep, starts, t=1.0, dt=0.01, n=200, seed=1)
    assert got.status["not_finite"] == 20 and np.isnan(got.final).sum() == 20 and np.isfinite(got.mean).all()
    with pytest.raises(fps.FpsolveError, match="halve dt"):
        fps.simulate(steep, [100.0], t=1.0, dt=0.01, n=10, seed=1)
    blind = fps.Process(fps.Potential.from_expression("x**4/4", variables="x y"), fps.Noise.isotropic(1.0))
    starts = [[100.0, 0.0]] * 5 + [[0.1, 0.0]] * 45
    with pytest.warns(RuntimeWarning, match="5 of 50"):  # g does not see x, which blows up
        out = fps.escape_times(blind, starts, fps.Region.halfspace([0.0, 1.0], 1.0), n=50, dt=0.01, seed=1)
    assert out.n_failed == 5 and out.n_events == 45


PROCESS = fps.Process(WELL, fps.Noise.isotropic(0.1))
DISC = fps.Region.ball([0.0, 0.0], 1.0)
OK = {"t": 1.0, "dt": 0.1, "n": 4}


@pytest.mark.parametrize(("change", "match"), [
    ({"dt": -0.1}, "dt"), ({"dt": None}, "dt is missing"), ({"t": 1.05}, "multiple"), ({"n": 0}, "n must"),
    ({"save": "everything"}, "save"),
    ({"save": [2.0]}, r"\[0, 1\]"), ({"method": "rk4"}, "euler"), ({"seed": -1}, "seed"), ({"t_burn": 0.5}, "t_burn"),
    ({"save": "moments", "t_burn": 1.0}, "t_burn"), ({"save": "histogram"}, "bins"), ({"threads": 0}, "threads"),
    ({"chunk": 0}, "chunk"),
    ({"save": "histogram", "bins": 5, "ranges": [(0, 1)], "axes": [2]}, "coordinates"), ({"t": math.nan}, "t must"),
])  # fmt: skip
def test_simulate_refuses(change, match):
    with pytest.raises(ValueError, match=match):
        fps.simulate(PROCESS, [0.0, 0.0], **{**OK, **change})


@pytest.mark.parametrize(("x0", "match"), [([0.0], r"\(2,\)"), ([[0.0, 0.0]] * 3, r"\(4, 2\)"), ([0.0, math.nan], "not finite"),
                                            (lambda rng, n: np.zeros(n), "sampler")])  # fmt: skip
def test_simulate_refuses_starts(x0, match):
    with pytest.raises(ValueError, match=match):
        fps.simulate(PROCESS, x0, **OK)


def test_chains_refuse_dt_and_fractions_of_iterations():
    chain = gaussian_chain(1.0, 1.0, 0.1, 1)
    with pytest.raises(ValueError, match="iteration"):
        fps.simulate(chain, [0.0], t=10, dt=0.1, n=2)
    with pytest.raises(TypeError, match="iterations"):
        fps.simulate(chain, [0.0], t=10.5, n=2)
    with pytest.raises(ValueError, match="bridge"):
        fps.escape_times(chain, [0.0], fps.Region.ball([0.0], 1.0), n=2, correction="bridge")


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
    control, note = Control(), langevin._patience(True, 0.01, "time")
    assert note(control) == "time 0"
    control.reach(2 * 10**6)
    with pytest.warns(RuntimeWarning, match="time 2e\\+04"):
        assert note(control) == "time 2e+04"
    note(control)  # not again
    langevin._patience(False, 0.01, "time")(control)  # not with t_max


def test_a_tensor_that_turns_negative_is_named():
    """D = 0.1 - x is negative beyond 0.1, where the drift takes the paths: the warning says so and where."""
    process = fps.Process.from_drift("1", fps.Noise.from_expression("0.1 - x"), variables="x")
    with pytest.raises(fps.FpsolveError, match=r"halve dt.*D\(x\) became non-finite or negative.*process\.diffusion"):
        fps.simulate(process, [0.0], t=2.0, dt=0.01, n=20, seed=1)
    with pytest.raises(fps.FpsolveError, match=r"It did: .*x = \["):
        fps.simulate(process, [0.0], t=2.0, dt=0.01, n=20, seed=1, save=np.arange(1, 201) / 100)
    with pytest.raises(fps.FpsolveError, match=r"D\(x\) became non-finite or negative"):
        fps.escape_times(process, [0.0], fps.Region.box([-50.0], [50.0]), n=20, dt=0.01, seed=1)


def test_nonlinear_models_in_many_dimensions_are_refused_with_the_limit():
    names = " ".join(f"x{i}" for i in range(17))
    U = fps.Potential.from_expression(" + ".join(f"x{i}**4" for i in range(17)), variables=names)
    with pytest.raises(ValueError, match="16 dimensions"):
        fps.simulate(fps.Process(U, fps.Noise.isotropic(0.1)), np.zeros(17), t=1.0, dt=0.1, n=2)


def test_ctrl_c_returns_what_is_done():
    """Chunks done before the signal are complete, the rest is marked; for escape the paths under way are censored."""

    def interrupt(after):
        timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        return timer

    fps.simulate(PROCESS, [0.0, 0.0], t=1.0, dt=0.01, n=10, seed=1)
    timer = interrupt(0.5)
    got = fps.simulate(PROCESS, [0.0, 0.0], t=2e6, dt=0.01, n=256 * 64, seed=1, threads=1, chunk=256)
    timer.cancel()
    assert got.partial and got.status["interrupted"] > 0 and got.status["ok"] + got.status["interrupted"] == 256 * 64
    slow = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.02))
    fps.escape_times(slow, [-1.0], fps.Region.halfspace([1.0], 0.0), n=10, dt=0.01, seed=1, t_max=0.1)
    timer = interrupt(0.5)
    out = fps.escape_times(slow, [-1.0], fps.Region.halfspace([1.0], 0.0), n=10**6, dt=0.01, seed=1, threads=1)
    timer.cancel()
    assert out.partial and 0 < out.n < 10**6 and out.censored.sum() == 256
    assert np.all(out.times[out.censored] > 0)


def test_changing_parameters_compiles_nothing():
    def compilations():
        kernels = [v for m in _codegen.loaded_modules() for v in vars(m).values() if hasattr(v, "signatures")]
        return len(_codegen.loaded_modules()), sum(len(k.signatures) for k in kernels)

    def everything(k, D, radius):
        process = fps.Process(WELL.with_params(k=k), fps.Noise.isotropic(D))
        fps.simulate(process, [0.1, 0.1], t=0.1, dt=0.01, n=10, save="moments", t_burn=0.0)
        fps.escape_times(process, [0.1, 0.1], fps.Region.ball([0.0, 0.0], radius), n=10, dt=0.01)

    everything(1.0, 0.1, 0.5)
    before = compilations()
    everything(2.0, 0.2, 0.7)
    everything(3.0, 0.3, 0.8)
    assert compilations() == before


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_terminals_only(capsys, monkeypatch):
    fps.simulate(PROCESS, [0.0, 0.0], **OK, progress=True, seed=1)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    fps.simulate(PROCESS, [0.0, 0.0], **OK, progress=True, seed=1)
    assert "simulate" in screen.getvalue() and "step/s" in screen.getvalue()
    fps.simulate(PROCESS, [0.0, 0.0], **OK, seed=1)
    slow = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.003))
    fps.escape_times(slow, [-1.0], fps.Region.halfspace([1.0], 0.0), n=300, dt=0.001, t_max=2000.0, seed=1, progress=True)
    shown = [re.search(r"escape_times: .* (\d+)/300 .*path/s, time ([\d.e+]+)", line) for line in screen.getvalue().split("\r")]
    assert any(m and 0.0 < float(m[2]) < 2000.0 for m in shown)  # the bar moves while paths are on their way


def test_fresh_seeds_are_recorded_and_reproduce_the_run():
    first = fps.simulate(PROCESS, [0.0, 0.0], **OK)
    again = fps.simulate(PROCESS, [0.0, 0.0], **OK, seed=first.seed)
    assert np.array_equal(first.final, again.final)
    assert not np.array_equal(first.final, fps.simulate(PROCESS, [0.0, 0.0], **OK).final)


@pytest.mark.parametrize("kind", ["symmetric", "normal", "general", "heavy ball", "singular noise", "more noises than states"])
def test_the_basis_of_the_matrix_kernel_keeps_the_law(kind):
    """w = Q^T y: Q is orthogonal, Q T Q^T = M and Q R R^T Q^T = N N^T to rounding, and nothing lies outside the spans."""
    from fpsolve._paths import LinearStep

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
