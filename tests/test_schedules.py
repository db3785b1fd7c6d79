"""Gaussian chains whose learning rate and batch size change: exact linear recursions, observers, exits, bits, refusals."""

import math

import numpy as np
import pytest

import fpsolve as fps

LR0, B0 = 0.25, 2


def rate(k):
    return 0.3 / (1.0 + 0.2 * k)


SIZES = [2, 2, 3, 8]
H2, C2 = np.array([[2.0, 0.4], [0.4, 1.0]]), np.array([[1.0, 0.3], [0.3, 2.0]])


def matrices(dim):
    if dim == 2:
        return H2, C2
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return q @ np.diag(np.linspace(0.5, 2.5, dim)) @ q.T, np.eye(dim) + 0.4


def chain_of(dim=2, mu=0.0, nesterov=False, lr=rate, batch=SIZES):
    H, C = matrices(dim)
    noise = fps.Noise.covariance(C, LR0, B0)
    return fps.SGDChain.gaussian(fps.potentials.quadratic(H), noise, lr, mu, batch=batch, nesterov=nesterov)


def exact(H, C, start, steps, mu, nesterov):
    """Mean and covariance of w after `steps` of v <- mu v + g, w <- w - lr_k v (or w - lr_k (g + mu v)), cov g = C/B_k, by hand."""
    d = len(H)
    mean, S = np.append(start, np.zeros(d)), np.zeros((2 * d, 2 * d))
    gradient, velocity, place = np.hstack([H, 0 * H]), np.hstack([0 * H, np.eye(d)]), np.hstack([np.eye(d), 0 * H])
    for k in range(steps):
        lr, batch = rate(k), SIZES[min(k, len(SIZES) - 1)]
        v = mu * velocity + gradient
        move = gradient + mu * v if nesterov else v
        M = np.vstack([place - lr * move, v])
        G = np.vstack([-lr * (1.0 + mu if nesterov else 1.0) * np.eye(d), np.eye(d)])
        mean, S = M @ mean, M @ S @ M.T + G @ (C / batch) @ G.T
    return mean[:d], S[:d, :d]


@pytest.mark.parametrize("dim", [2, 10])
@pytest.mark.parametrize(("mu", "nesterov"), [(0.0, False), (0.7, False), (0.7, True)])
def test_mean_and_covariance_of_a_linear_chain_are_the_exact_ones(dim, mu, nesterov):
    """Both kernels; n Gaussians: z of d means and d (d + 1)/2 covariances below 5, at most 65 numbers twice: false alarm 8e-5."""
    H, C = matrices(dim)
    n, start = 20000, np.linspace(-1.0, 1.0, dim)
    for steps in (1, 7):
        x = fps.simulate(chain_of(dim, mu, nesterov), start, t=steps, n=n, seed=3 + steps).final
        mean, S = exact(H, C, start, steps, mu, nesterov)
        spread = np.sqrt((S**2 + np.outer(np.diag(S), np.diag(S))) / n)
        assert np.all(np.abs(x.mean(axis=0) - mean) < 5.0 * np.sqrt(np.diag(S) / n))
        assert np.all(np.abs((x - mean).T @ (x - mean) / n - S) < 5.0 * spread)


def test_reference_is_the_first_iteration_where_the_noise_does_not_say():
    """One dimension, U = 0: variance 2 D (lr_0^2 + lr_1^2 B_0/B_1)/lr_0; 20000 Gaussians, z < 4: false alarm 6e-5."""
    flat, D, n = fps.Potential.from_expression("0*x"), 0.5, 20000
    chain = fps.SGDChain.gaussian(flat, fps.Noise.isotropic(D), [0.4, 0.2], batch=[3, 12])
    x = fps.simulate(chain, [0.0], t=2, n=n, seed=2).final[:, 0]
    variance = 2 * D * (0.4**2 + 0.2**2 * 3 / 12) / 0.4
    assert abs(np.mean(x**2) / variance - 1) < 4.0 * math.sqrt(2 / n)


@pytest.mark.parametrize(("mu", "nesterov"), [(0.0, False), (0.5, False), (0.5, True)])
def test_a_schedule_that_never_changes_is_the_constant_chain_bit_for_bit(mu, nesterov):
    constant, region = chain_of(mu=mu, nesterov=nesterov, lr=LR0, batch=B0), fps.Region.ball([0.0, 0.0], 0.9)
    same = chain_of(mu=mu, nesterov=nesterov, lr=lambda k: LR0, batch=[B0])
    a, b = (fps.simulate(c, [0.5, 0.0], t=51, n=300, seed=1) for c in (constant, same))
    assert np.array_equal(a.final, b.final)
    assert (a.lr, b.lr, b.batch) == (LR0, None, None) and b.method.endswith("scheduled")
    a, b = (fps.escape_times(c, [0.5, 0.0], region, n=700, t_max=200, seed=1) for c in (constant, same))
    assert np.array_equal(a.times, b.times) and np.array_equal(a.exit_points, b.exit_points, equal_nan=True)


@pytest.mark.parametrize("odd", [False, True])
def test_exits_are_the_first_iterations_outside_of_the_same_paths(odd):
    """Against the recorded paths of the same seed: each trajectory meets the schedule at its own start, in every group of lanes."""
    n, steps, dim, radius = 700, 60, 1 if odd else 2, 1.3 if odd else 0.6
    chain = chain_of(2, 0.5)
    if odd:
        noise = fps.Noise.covariance([[4.0]], LR0, B0)
        chain = fps.SGDChain.gaussian(fps.potentials.double_well(), noise, lambda k: 0.02 + 0.002 * k, 0.5, batch=[4, 2])
    region = fps.Region.ball(np.zeros(dim), radius)
    start = [0.1] * dim
    paths = fps.simulate(chain, start, t=steps, n=n, save=list(range(1, steps + 1)), seed=9).states
    out = fps.escape_times(chain, start, region, n=n, t_max=steps, seed=9, chunk=600)
    beyond = np.linalg.norm(paths, axis=-1) >= radius
    left, first = beyond.any(axis=0), beyond.argmax(axis=0)
    assert 100 < left.sum() < n - 20 and np.array_equal(out.censored, ~left)
    assert np.array_equal(out.times, np.where(left, first + 1, steps))
    np.testing.assert_array_equal(out.exit_points[left], paths[first, np.arange(n)][left])


@pytest.mark.parametrize("dim", [2, 10])
def test_time_averages_are_those_of_the_recorded_states(dim):
    """Moments, histogram and autocovariance over time, with `every`, against the states of the same run; any threads and chunks."""
    chain, n, times = chain_of(dim, 0.4), 520, list(range(12, 41, 2))
    common = {"x0": np.zeros(dim), "t": 40, "n": n, "seed": 5}
    states = fps.simulate(chain, save=times, **common).states
    average = {**common, "t_burn": 10, "every": 2}
    once = fps.simulate(chain, save="moments", threads=1, **average)
    np.testing.assert_allclose(once.mean, states.mean(axis=(0, 1)), atol=1e-13)
    flat = states.reshape(-1, dim)
    square = np.einsum("ki,kj->ij", flat, flat) / len(flat) - np.outer(flat.mean(0), flat.mean(0))
    square += np.atleast_2d(np.cov(states.mean(axis=0).T)) / n  # the variance of the estimated mean, from its n trajectories
    np.testing.assert_allclose(once.covariance, square, rtol=1e-9, atol=1e-15)
    counts = fps.simulate(chain, save="histogram", bins=20, ranges=[(-1.0, 1.0)], axes=[0], **average).histogram
    expected = np.histogram(flat[:, 0], bins=20, range=(-1.0, 1.0))[0]
    np.testing.assert_allclose(counts.values / counts.values.sum(), expected / expected.sum(), atol=1e-12)
    for save in ("moments", "final"):
        extra = average if save == "moments" else common
        a = fps.simulate(chain, save=save, threads=1, **extra)
        b = fps.simulate(chain, save=save, threads=2, chunk=256, **extra)
        assert np.array_equal(a.final, b.final)
        if save == "moments":
            assert np.array_equal(a.covariance, b.covariance)


def test_many_iterations_follow_the_schedule_over_the_blocks_of_constants():
    """Without noise w_k = prod (1 - lr_k h) w_0; the schedule turns at 4096, 8192 and 9000."""

    def steps(k):
        return 1e-4 if k < 4096 else 2e-4 if k < 8192 else 1e-3 if k < 9000 else 5e-5

    U = fps.potentials.quadratic([[1.5]])
    chain = fps.SGDChain.gaussian(U, fps.Noise.constant([[0.0]]), steps)
    got = fps.simulate(chain, [1.0], t=10000, n=3, save=[4096, 4097, 8193, 9001, 10000], seed=1).states[:, 0, 0]
    factors = np.cumprod([1.0 - 1.5 * steps(k) for k in range(10000)])
    np.testing.assert_allclose(got, factors[[4095, 4096, 8192, 9000, 9999]], rtol=1e-11)


def test_a_schedule_is_not_asked_beyond_the_run():
    chain = chain_of(lr=lambda k: 0.1 * (1.0 - k / 30), batch=None)
    chain_ok = chain_of(lr=lambda k: 0.1 * (1.0 - k / 30), batch=B0)
    for c in (chain, chain_ok):
        assert np.isfinite(fps.simulate(c, [0.0, 0.0], t=30, n=5, seed=1).final).all()
    with pytest.raises(ValueError, match="at iteration 30"):
        fps.simulate(chain, [0.0, 0.0], t=31, n=5, seed=1)
    near, far = fps.Region.ball([0.0, 0.0], 1e-6), fps.Region.ball([0.0, 0.0], 1e6)
    assert np.all(fps.escape_times(chain, [0.0, 0.0], near, n=600, seed=1).times == 1.0)
    with pytest.raises(ValueError, match="at iteration 30"):
        fps.escape_times(chain, [0.0, 0.0], far, n=5, seed=1)


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path):
    """Tables that differ at one late iteration, and another reference of the noise."""
    path, table = tmp_path / "run.h5", [0.1] * 3000 + [0.05]
    run = {"x0": [0.0, 0.0], "t": 3500, "n": 4, "seed": 1, "checkpoint": path}
    first = fps.simulate(chain_of(lr=table), **run)
    assert np.array_equal(fps.simulate(chain_of(lr=list(table)), **run).final, first.final)
    for other in (chain_of(lr=[0.1] * 2999 + [0.05]), chain_of(lr=table, batch=[2, 2, 3, 9])):
        with pytest.raises(ValueError, match="another call"):
            fps.simulate(other, **run)


def test_what_has_no_single_equation_refuses_schedules():
    chain = chain_of()
    assert chain.process is None and chain.reference is not None
    with pytest.raises(ValueError, match="no modified equation"):
        fps.Process.modified(chain)
    with pytest.raises(ValueError, match="one kernel"):
        fps.TransitionKernel(chain, fps.Grid((-1, 1, 8), (-1, 1, 8)))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"lr": 0.1, "batch": B0}, "lr=0.25"),
        ({"lr": LR0, "batch": 5}, "batch=2"),
        ({"lr": [0.1, 0.0], "batch": B0}, "at iteration 1"),
        ({"lr": LR0, "batch": [1, 0]}, "at iteration 1"),
        ({"lr": LR0, "batch": 2.5}, "positive integer"),
    ],
)
def test_bad_schedules(arguments, text):
    with pytest.raises(ValueError, match=text):
        chain_of(**arguments)


@pytest.mark.parametrize("walls", [None, [None, (-0.3, 0.4, "reflecting")]])
@pytest.mark.parametrize("save", ["moments", "histogram", "autocorrelation", "occupation"])
def test_observers_and_walls_see_the_same_steps_as_of_the_constant_chain(save, walls):
    """Beyond the 4096 iterations whose constants are made at once."""
    options = {
        "moments": {}, "histogram": {"bins": 10, "ranges": [(-1, 1)]}, "autocorrelation": {"lags": 5, "every": 2},
        "occupation": {"regions": [fps.Region.halfspace([s, 0.0], 0.0) for s in (1.0, -1.0)]},
    }[save]  # fmt: skip
    run = {"x0": [0.1, 0.1], "t": 4200, "n": 10, "seed": 1, "save": save, "t_burn": 100, "walls": walls, **options}
    a, b = (fps.simulate(c, **run) for c in (chain_of(lr=LR0, batch=B0), chain_of(lr=lambda k: LR0, batch=[B0])))
    assert np.array_equal(a.final, b.final)
    read = {
        "moments": lambda out: out.covariance, "histogram": lambda out: out.histogram.values,
        "autocorrelation": lambda out: out.autocorrelation.values, "occupation": lambda out: out.occupation.counts,
    }[save]  # fmt: skip
    assert np.array_equal(read(a), read(b)) and np.any(read(a))
    if walls is not None:
        region = fps.Region.ball([0.0, 0.0], 0.9)
        a, b = (
            fps.escape_times(c, [0.1, 0.1], region, n=300, t_max=100, seed=1, walls=walls)
            for c in (chain_of(lr=LR0, batch=B0), chain_of(lr=lambda k: LR0, batch=[B0]))
        )
        assert np.array_equal(a.times, b.times) and np.array_equal(a.exit_points, b.exit_points, equal_nan=True)
