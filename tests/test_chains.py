"""SGD as a chain: ensembles of sample losses, samplings, optimisers, schedules, random shifts, the modified equation."""

import itertools
import math

import numpy as np
import pytest
from path_cases import Quadratic, gaussian_chain, z_test
from scipy import linalg, stats

import fpsolve as fps

#: Every z-test below has this false-alarm rate: 6e-5 for one number.
Z = 4.0
X = np.array([-1.0, -0.4, 0.1, 0.3, 0.7, 1.2])
Y = np.array([0.5, -0.2, 0.3, 0.1, 0.4, -0.6])


def wells(centres=(0.0, 1.0, 3.0, -2.0), h=1.5):
    return fps.Ensemble.from_expression("h*(theta - y)**2/2", "theta", {"y": centres}, {"h": h})


def fit():
    return fps.Ensemble.from_expression("(a*tanh(b*x) - y)**2/2", "a b", {"x": X, "y": Y})


def sample_gradients(theta):
    """By hand: r = a tanh(b x) - y, gradient (r tanh, r a x (1 - tanh^2))."""
    a, b = theta
    t = np.tanh(b * X)
    r = a * t - Y
    return np.stack([r * t, r * a * X * (1 - t * t)], -1)


def z_of(values, expected):
    return (np.mean(values) - expected) / (np.std(values) / math.sqrt(len(values)))


# ---- ensembles -------------------------------------------------------------------------------------------------------


def test_ensemble_against_formulas_by_hand():
    theta, e = np.array([0.8, -0.6]), fit()
    g = sample_gradients(theta)
    np.testing.assert_allclose(e.sample_gradients(theta), g, rtol=1e-13)
    np.testing.assert_allclose(e.gradient(theta, [0, 2, 2]), g[[0, 2, 2]].mean(0), rtol=1e-13)
    np.testing.assert_allclose(e.covariance(theta), np.cov(g.T, bias=True), rtol=1e-12)
    np.testing.assert_allclose(e.loss.grad(theta), g.mean(0), rtol=1e-12)
    assert e.loss(theta) == pytest.approx(np.mean((0.8 * np.tanh(-0.6 * X) - Y) ** 2) / 2, rel=1e-13)
    step = 1e-5
    slopes = [(e.loss.grad(theta + d) - e.loss.grad(theta - d)) / (2 * step) for d in step * np.eye(2)]
    np.testing.assert_allclose(e.hessian(theta), slopes, atol=1e-9)
    for sampling, factor in (("replace", 1.0), ("without", 4 / 5)):
        process = fps.SGDChain(e, lr=0.1, batch=2, sampling=sampling).process
        np.testing.assert_allclose(process.diffusion(theta), factor * 0.1 / 4 * np.cov(g.T, bias=True), rtol=1e-11)
        np.testing.assert_allclose(process.drift(theta), -g.mean(0), rtol=1e-12)


def test_equivalent_process_runs_in_the_fused_kernel():
    """Linear: variance of the Euler chain with dt = lr is that of SGD; error from 20000 independent Gaussians."""
    chain = fps.SGDChain(wells(), lr=0.2, batch=2)
    got = fps.simulate(chain.process, [0.5], t=8.0, dt=0.2, n=20000, save="moments", seed=1).covariance[0, 0]
    exact = fps.theory.discrete_covariance([[1.5]], chain.ensemble.covariance([0.0]), 0.2, 2)[0, 0]
    assert abs(got - exact) < Z * exact * math.sqrt(2 / 20000)


# ---- samplings: exact moments by enumeration -----------------------------------------------------------------------


def after_epoch(batch, lr=0.3, h=1.5, centres=(0.0, 1.0, 3.0, -2.0)):
    """Weights after one epoch from 0 for every permutation of four samples."""
    out = []
    for order in itertools.permutations(centres):
        theta = 0.0
        for k in range(0, 4, batch):
            theta -= lr * h * (theta - np.mean(order[k : k + batch]))
        out.append(theta)
    return np.array(out)


@pytest.mark.parametrize("batch", [1, 2])
def test_shuffled_epoch_has_the_moments_of_all_permutations(batch):
    exact = after_epoch(batch)
    n = 20000
    x = fps.simulate(fps.SGDChain(wells(), 0.3, batch, sampling="shuffle"), [0.0], t=4 // batch, n=n, seed=3).final[:, 0]
    assert abs(z_of(x, exact.mean())) < Z
    assert abs(z_of((x - exact.mean()) ** 2, exact.var())) < Z
    values, counts = np.unique(np.round(x, 9), return_counts=True)
    known, weights = np.unique(np.round(exact, 9), return_counts=True)
    assert np.array_equal(values, known)
    p = weights / weights.sum()
    assert np.all(np.abs(counts - n * p) < 4.5 * np.sqrt(n * p * (1 - p)))  # 24 cells: false alarm 2e-4


def test_batches_without_replacement_are_uniform_pairs_and_have_the_variance_factor():
    """From 0 one step moves by lr h times the mean of two of four centres: six pairs, equally likely; factor (N-B)/(N-1) = 2/3."""
    n, centres = 30000, np.array([0.0, 1.0, 3.0, -2.0])
    x = fps.simulate(fps.SGDChain(wells(), 0.3, 2, sampling="without"), [0.0], t=1, n=n, seed=5).final[:, 0] / 0.45
    pairs = sorted(np.mean(p) for p in itertools.combinations(centres, 2))
    values, index = np.unique(np.round(pairs, 9), return_inverse=True)
    p = np.bincount(index) / 6
    counts = np.array([np.sum(np.isclose(x, v)) for v in values])
    assert counts.sum() == n and np.all(np.abs(counts - n * p) < Z * np.sqrt(n * p * (1 - p)))
    assert abs(z_of((x - 0.5) ** 2, centres.var() / 2 * 2 / 3)) < Z


@pytest.mark.parametrize("sampling", ["replace", "without", "shuffle"])
def test_full_batch_and_grouping_do_not_change_a_trajectory(sampling):
    """The first trajectories of a large run are those of a small one, with Python's gradient as with that of arrays."""

    class Slow:
        dim, size = 1, 4

        def gradient(self, theta, indices):
            return 1.5 * (theta - np.array([0.0, 1.0, 3.0, -2.0])[indices].mean())

    many = fps.simulate(fps.SGDChain(wells(), 0.1, 2, sampling=sampling), [0.3], t=100, n=2500, seed=2).final
    few = fps.simulate(fps.SGDChain(wells(), 0.1, 2, sampling=sampling), [0.3], t=100, n=7, seed=2).final
    slow = fps.simulate(fps.SGDChain(Slow(), 0.1, 2, sampling=sampling), [0.3], t=100, n=7, seed=2).final
    assert np.array_equal(many[:7], few) and len(np.unique(many)) > 1000
    np.testing.assert_allclose(slow, few, rtol=1e-12)


# ---- momentum --------------------------------------------------------------------------------------------------------


def lyapunov(H, C, lr, mu, nesterov):
    """Covariance of the weights from the joint equation of (w, v): M S M^T + Q = S."""
    d = len(H)
    eye, gain = np.eye(d), (1 + mu if nesterov else 1.0)
    M = np.block([[eye - lr * gain * H, -lr * mu * (mu if nesterov else 1.0) * eye], [H, mu * eye]])
    N = np.vstack([-lr * gain * eye, eye])
    return linalg.solve_discrete_lyapunov(M, N @ C @ N.T)[:d, :d]


@pytest.mark.parametrize("dim", [2, 10])
@pytest.mark.parametrize("nesterov", [False, True])
def test_gaussian_momentum_has_the_exact_covariance(dim, nesterov):
    """Both kernels; 20000 independent Gaussians: relative error of a variance sqrt(2/n), z < 4.5 for at most 10 numbers (7e-5)."""
    H, lr, mu, n = np.diag(np.linspace(0.5, 3.0, dim)), 0.2, 0.7, 20000
    C = np.eye(dim) + 0.3
    chain = fps.SGDChain.gaussian(fps.potentials.quadratic(H), fps.Noise.covariance(C, lr), lr, mu, nesterov=nesterov)
    got = fps.simulate(chain, np.zeros(dim), t=300, n=n, save="moments", seed=4)
    exact = lyapunov(H, C, lr, mu, nesterov)
    if not nesterov:
        np.testing.assert_allclose(exact, fps.theory.discrete_covariance(H, C, lr, 1, mu), rtol=1e-9)
    assert np.all(np.abs(np.diag(got.covariance) / np.diag(exact) - 1) < 4.5 * math.sqrt(2 / n))
    assert got.method.endswith("Nesterov" if nesterov else "heavy ball")


@pytest.mark.parametrize("nesterov", [False, True])
def test_ensemble_momentum_has_the_exact_covariance(nesterov):
    """Independent trajectories; the fourth moment is measured."""
    chain = fps.SGDChain(wells(), 0.1, 2, 0.6, nesterov=nesterov)
    x = fps.simulate(chain, [0.5], t=150, n=20000, seed=6).final[:, 0]
    exact = lyapunov(np.array([[1.5]]), chain.ensemble.covariance([0.0]) / 2, 0.1, 0.6, nesterov)[0, 0]
    assert abs(z_of((x - 0.5) ** 2, exact)) < Z


# ---- Adam, Adai, schedules: full batch against plain loops -----------------------------------------------------------


def plain(optimizer, theta, steps, lr, betas, eps):
    """The papers' algorithms, one number after another."""
    theta, d = list(theta), 2
    m, v, product = [0.0] * d, [0.0] * d, [1.0] * d
    for t in range(1, steps + 1):
        g = sample_gradients(theta).mean(0)
        v = [betas[1] * v[i] + (1 - betas[1]) * g[i] ** 2 for i in range(d)]
        vhat = [v[i] / (1 - betas[1] ** t) for i in range(d)]
        for i in range(d):
            if optimizer == "adam":
                m[i] = betas[0] * m[i] + (1 - betas[0]) * g[i]
                theta[i] -= lr * (m[i] / (1 - betas[0] ** t)) / (math.sqrt(vhat[i]) + eps)
            else:
                b = min(max(1 - betas[0] * vhat[i] / (sum(vhat) / d), 0.0), 1 - eps)
                m[i] = b * m[i] + (1 - b) * g[i]
                product[i] *= b
                theta[i] -= lr * m[i] / (1 - product[i])
    return theta


@pytest.mark.parametrize("steps", [1, 2, 40])
@pytest.mark.parametrize(
    "optimizer, betas, eps",
    [("adam", (0.9, 0.999), 1e-8), ("adam", (0.5, 0.9), 0.1), ("adai", (0.1, 0.99), 1e-3)],
)
def test_adaptive_optimisers_against_plain_loops(optimizer, betas, eps, steps):
    chain = fps.SGDChain(fit(), 0.05, 6, sampling="without", optimizer=optimizer, betas=betas, eps=eps)
    got = fps.simulate(chain, [0.8, -0.6], t=steps, n=2, seed=1).final
    np.testing.assert_allclose(got, [plain(optimizer, [0.8, -0.6], steps, 0.05, betas, eps)] * 2, rtol=1e-9)


def test_first_step_of_adam_is_the_learning_rate_and_of_adai_that_of_sgd():
    start, lr = np.array([0.8, -0.6]), 1e-3
    g = sample_gradients(start).mean(0)
    adam = fps.simulate(fps.SGDChain(fit(), lr, 6, sampling="without", optimizer="adam"), start, t=1, n=1, seed=1).final[0]
    np.testing.assert_allclose(adam, start - lr * np.sign(g), atol=1e-9)
    adai = fps.simulate(fps.SGDChain(fit(), lr, 6, sampling="without", optimizer="adai"), start, t=1, n=1, seed=1).final[0]
    np.testing.assert_allclose(adai, start - lr * g, rtol=1e-12)


def test_schedule_equals_pieces_of_constant_runs():
    """Full batch: 10 iterations at 0.3, then 15 at 0.05; as a function and as a table."""

    def full(lr):
        return fps.SGDChain(fit(), lr, 6, sampling="without")

    middle = fps.simulate(full(0.3), [0.8, -0.6], t=10, n=1, seed=1).final
    end = fps.simulate(full(0.05), middle, t=15, n=1, seed=1).final
    for schedule in (lambda k: 0.3 if k < 10 else 0.05, [0.3] * 10 + [0.05]):
        got = fps.simulate(full(schedule), [0.8, -0.6], t=25, n=1, seed=1)
        assert np.array_equal(got.final, end) and got.method.endswith("scheduled") and got.lr is None


def test_batch_schedule_has_the_variance_of_its_last_batch():
    """lr h = 1 forgets the past: after batches 1, 4 the variance is c/4, after 4, 1 it is c."""
    c = np.var([0.0, 1.0, 3.0, -2.0])
    for schedule, last in (([1, 4], 4), (lambda k: 4 if k == 0 else 1, 1)):
        x = fps.simulate(fps.SGDChain(wells(), 1 / 1.5, schedule), [0.0], t=2, n=20000, seed=8).final[:, 0]
        assert abs(z_of((x - 0.5) ** 2, c / last)) < Z


# ---- exits and random shifts -----------------------------------------------------------------------------------------


def test_escape_times_are_the_first_iterations_outside():
    """Against the recorded paths of the same seed: times, exit points, censoring."""
    chain = fps.SGDChain(wells(), 0.3, 1)
    region = fps.Region.halfspace([1.0], 1.6)
    paths = fps.simulate(chain, [0.5], t=40, n=300, save=list(range(1, 41)), seed=9).states[..., 0]
    out = fps.escape_times(chain, [0.5], region, n=300, t_max=40, seed=9)
    beyond = paths >= 1.6
    left = beyond.any(axis=0)
    assert 20 < left.sum() and np.array_equal(out.censored, ~left)
    assert np.array_equal(out.times, np.where(left, beyond.argmax(axis=0) + 1, 40))
    assert np.array_equal(out.exit_points[left, 0], paths[beyond.argmax(axis=0), np.arange(300)][left])


def test_exact_shift_is_the_linearised_one_on_a_quadratic_only():
    """Exact: U = x^4/4 shifted has mean gradient x^3 + 3 sigma^2 x; linearised: x^3. One step from 1, z < 4."""
    lr, s, n = 0.1, 0.5, 40000
    U = fps.Potential.from_expression("x**4/4")
    exact = fps.simulate(fps.SGDChain.random_shift(U, s, lr), [1.0], t=1, n=n, seed=3).final[:, 0]
    linear = fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, s, lr), lr)
    linear = fps.simulate(linear, [1.0], t=1, n=n, seed=3).final[:, 0]
    assert abs(z_of(exact, 1 - lr * (1 + 3 * s * s))) < Z and abs(z_of(linear, 1 - lr)) < Z
    quadratic = fps.potentials.quadratic([[2.0]])
    x = fps.simulate(fps.SGDChain.random_shift(quadratic, s, lr, batch=4), [0.0], t=60, n=20000, seed=4).final[:, 0]
    stationary = fps.theory.discrete_covariance([[2.0]], [[s * s * 4.0]], lr, 4)[0, 0]
    assert abs(z_of(x**2, stationary)) < Z


# ---- modified equation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_modified_equation_is_of_second_order_in_the_covariance(mu):
    """Relative error of the stationary covariance against the exact chain: order 2, order 1 without the correction of the noise."""
    H, C = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, 0.3], [0.3, 2.0]])
    errors = {True: [], False: []}
    for lr in (0.02, 0.01, 0.005):
        chain = fps.SGDChain.gaussian(fps.potentials.quadratic(H), fps.Noise.covariance(C, lr), lr, mu)
        exact = fps.theory.discrete_covariance(H, C, lr, 1, mu)
        for corrected, list_ in errors.items():
            A, _, D = fps.Process.modified(chain, noise_correction=corrected).linear
            list_.append(np.linalg.norm(fps.theory.ou_covariance(A, D) - exact) / np.linalg.norm(exact))
    orders = {k: np.log2(np.array(v)[:-1] / np.array(v)[1:]) for k, v in errors.items()}
    assert np.all(np.abs(orders[True] - 2.0) < 0.15) and np.all(np.abs(orders[False] - 1.0) < 0.15), (errors, orders)


def moment_of(drift, diffusion, x, t, power):
    """E (X_t - x)^p of a 1-D diffusion by its backward equation on a fine grid, an independent deterministic way."""
    grid = np.linspace(x - 0.1, x + 0.1, 401)  # more than 12 standard deviations of the step
    h = grid[1] - grid[0]
    b, D = drift(grid[:, None])[:, 0], diffusion(grid[:, None])[:, 0, 0]
    L = np.diag(-2 * D / h**2) + np.diag((D / h**2 + b / (2 * h))[:-1], 1) + np.diag((D / h**2 - b / (2 * h))[1:], -1)
    L[0] = L[-1] = 0.0
    return (linalg.expm(t * L) @ (grid - x) ** power)[200]


def test_modified_equation_has_weak_local_order_three():
    """Double well with D = lr (1 + x^2)/2: first two moments after one step against the chain's own, no sampling.

    A method of weak order p errs by lr^(p+1) in one step: the plain equation by lr^2, the modified one by lr^3. The grid's own
    error, second order with exact first and second moments of the generator, is far below.
    """
    U, x = fps.potentials.double_well(), 0.6
    slopes = {}
    for name in ("plain", "modified"):
        rows = []
        for lr in (0.005, 0.0025):
            noise = fps.Noise.from_expression("s*(1 + x**2)/2", params={"s": lr})
            chain = fps.SGDChain.gaussian(U, noise, lr)
            process = chain.process if name == "plain" else fps.Process.modified(chain)
            g, D = U.grad([x])[0], lr * (1 + x * x) / 2
            exact = np.array([-lr * g, lr**2 * g * g + 2 * lr * D])
            rows.append(np.abs([moment_of(process.drift, process.diffusion, x, lr, p) for p in (1, 2)] - exact))
        slopes[name] = np.log2(rows[0] / rows[1])
    assert slopes["plain"][0] < 2.2 and np.all(slopes["modified"] > 2.7), slopes


# ---- refusals --------------------------------------------------------------------------------------------------------

QUARTIC = fps.Potential.from_expression("x**4")


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: fps.SGDChain(wells(), 0.1, 5, sampling="without"), ValueError, "exceeds the 4 samples"),
        (lambda: fps.SGDChain(wells(), 0.1, 1, sampling="epoch"), ValueError, "'without'"),
        (lambda: fps.SGDChain(wells(), [0.1, -1.0], 1), ValueError, "at iteration 1"),
        (lambda: fps.SGDChain(wells(), 0.1, [1, 0]), ValueError, "at iteration 1"),
        (lambda: fps.SGDChain(wells(), 0.1, 1, nesterov=True), ValueError, "momentum > 0"),
        (lambda: fps.SGDChain(wells(), 0.1, 1, 0.9, optimizer="adam"), ValueError, "betas="),
        (lambda: fps.SGDChain(wells(), 0.1, 1, optimizer="rmsprop"), ValueError, "'adai'"),
        (lambda: fps.SGDChain(wells(), 0.1, 1, betas=(0.9, 0.9)), ValueError, "belong to"),
        (lambda: fps.SGDChain(wells(), 0.1, 1, optimizer="adam", betas=(1.0, 0.9)), ValueError, r"betas\[0\]"),
        (lambda: fps.SGDChain.random_shift(QUARTIC, -1.0, 0.1), ValueError, "sigma"),
        (lambda: fps.Ensemble.from_expression("(t - y)**2", "t", {"y": [1.0, np.nan]}), ValueError, "sample 1"),
        (lambda: fps.Ensemble.from_expression("(t - y)**2", "t", {"y": [1.0], "t": [1.0]}), ValueError, "two meanings"),
        (lambda: fps.Ensemble.from_expression("t*x*y", "t", {"y": [1.0], "x": [1.0, 2.0]}), ValueError, "one length"),
        (lambda: fps.Ensemble.from_function(lambda t, i: t, dim=1, size=2).hessian([0.0]), ValueError, "from_expression"),
        (lambda: fps.Ensemble.from_function(1.0, dim=1, size=2), TypeError, "function"),
        (lambda: wells().noise(0.1, 1, "shuffle"), ValueError, "not white"),
        (lambda: fps.Process.modified(fps.SGDChain(wells(), 0.1, 1)), TypeError, "ensemble.loss"),
        (lambda: fps.Process.modified(fps.SGDChain.gaussian(QUARTIC, fps.Noise.isotropic(1.0), 0.1, 0.5)), ValueError, "quadratic"),
    ],
)  # fmt: skip
def test_bad_input(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_wrong_shape_of_gradients_is_named():
    bad = fps.Ensemble.from_function(lambda theta, i: theta[:, 0], dim=1, size=3)
    with pytest.raises(ValueError, match=r"gradients returned shape \(5,\)"):
        fps.simulate(fps.SGDChain(bad, 0.1, 1), [0.0], t=1, n=5, seed=1)


def test_successive_batches_of_distinct_samples_are_independent_and_uniform():
    """Two of five: each of the 20 x 20 ordered pairs of successive batches has probability 1/400; z < 5 in 400 cells: 2e-4."""
    from fpsolve._kernels.batches import distinct

    count = 200000
    out = np.empty((count, 2), np.int64)
    distinct(np.random.default_rng(7).random((count, 2)), np.arange(5), out)
    assert np.all(out[:, 0] != out[:, 1]) and out.min() == 0 and out.max() == 4
    name = 5 * out[:, 0] + out[:, 1]
    cells = np.bincount(25 * name[:-1:2] + name[1::2], minlength=625)
    cells = cells[cells > 0]
    n, p = count // 2, 1 / 400
    assert len(cells) == 400 and np.all(np.abs(cells - n * p) < 5.0 * np.sqrt(n * p * (1 - p)))


def test_compiled_gradients_are_those_of_the_ensemble():
    """One iteration from a common start with batches of 3 of the six samples: all 20 means of the gradients by hand, no others."""
    start, lr, n = np.array([0.8, -0.6]), 0.1, 400
    x = fps.simulate(fps.SGDChain(fit(), lr, 3, sampling="without"), start, t=1, n=n, seed=1).final
    means = [sample_gradients(start)[list(c)].mean(0) for c in itertools.combinations(range(6), 3)]
    distance = np.abs(x[:, None] - (start - lr * np.array(means))[None]).max(axis=2)
    assert distance.min(axis=1).max() < 1e-14
    assert len(np.unique(distance.argmin(axis=1))) == 20


# ---- variances and exits in closed form -----------------------------------------------------------------------------


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


def test_a_sampler_of_starts_shares_no_stream_with_a_trajectory():
    """The generators of starts and of each trajectory's batches differ; 24301 is the number that marks the sampler."""
    seen = []

    def sampler(rng, n):
        seen.append(rng.random(4))
        return np.zeros((n, 1))

    fps.simulate(fps.SGDChain(Quadratic(), 0.1, 1), sampler, t=1, n=2, seed=5)
    batches = [np.random.default_rng([5, i]).random(4) for i in (0, 1, 24301)]
    assert not any(np.array_equal(seen[0], b) for b in batches)


def test_all_bits_of_a_seed_enter_the_batches():
    """Seeds that share their lower or upper half share no stream: NumPy alone takes [2**32 + 5, 0] and [5, 1] for the same."""
    from fpsolve._sgd import stream_entropy

    def batches(seed, index):
        return tuple(np.random.SeedSequence(stream_entropy(seed, index)).generate_state(4).tolist())

    seeds = [5, 6, 5 + 2**32, 5 + 2**33, 5 + 2**62, 2**32, 2**63 - 1]
    assert len({batches(seed, i) for seed in seeds for i in range(50)}) == 50 * len(seeds)
    chain = fps.SGDChain(wells(), 0.1, 2)
    few, many = (fps.simulate(chain, [0.3], t=20, n=n, seed=seed).final[:, 0] for n, seed in ((1, 2**32 + 5), (2, 5)))
    assert few[0] not in many
    first = np.random.default_rng([5, 1]).integers(0, 1000, 8)  # small seeds keep the streams they always had
    assert np.array_equal(first, np.random.default_rng(stream_entropy(5, 1)).integers(0, 1000, 8))
