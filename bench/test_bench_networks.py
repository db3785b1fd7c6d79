"""The instrumented network beside plain NumPy: training steps, gradient covariance, Hessian."""

import numpy as np
import pytest

import nets
from nets._losses import network_loss
from nets._threads import single_threaded_blas

DATA = nets.load_data("digits")
MLP = nets.MLP((64, 12, 10), activation="tanh", weight_decay=0.01)
STEPS = 5_000


def numpy_training(steps, lr=0.05, batch=20):
    """The same network and algorithm in vectorised NumPy, nothing recorded."""
    rng, theta = np.random.default_rng(0), MLP.init(0)
    x, y = DATA.x_train, DATA.y_train
    for _ in range(steps):
        p = MLP.unpack(theta)
        i = rng.integers(len(x), size=batch)
        h = np.tanh(x[i] @ p["W1"] + p["b1"])
        z = h @ p["W2"] + p["b2"]
        d = np.exp(z - z.max(1, keepdims=True))
        d /= d.sum(1, keepdims=True)
        d[np.arange(batch), y[i]] -= 1.0
        d /= batch
        dh = (d @ p["W2"].T) * (1 - h * h)
        g = np.concatenate([(x[i].T @ dh).ravel(), dh.sum(0), (h.T @ d).ravel(), d.sum(0)])
        theta = theta - lr * (g + 0.01 * theta)
    return theta


@pytest.mark.parametrize("way", ["fpsolve", "numpy"])
def test_training_steps(benchmark, way):
    benchmark.group = "SGD steps, 64-12-10 tanh, batch 20, float64"
    steps = STEPS
    record = nets.Record(losses_every=STEPS)
    run = (
        (lambda: nets.train(MLP, DATA, lr=0.05, batch=20, steps=steps, sampling="replace", record=record))
        if way == "fpsolve"
        else (lambda: numpy_training(steps))
    )
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["microseconds_per_step"] = round(benchmark.stats.stats.median / steps * 1e6, 1)


@pytest.mark.parametrize("way", ["fpsolve", "numpy, explicit gradients"])
def test_gradient_covariance(benchmark, way):
    benchmark.group = "centred gradient covariance, all 910 weights, 1438 samples"
    theta = MLP.init(0)

    def explicit():
        g = MLP.per_sample_gradients(theta, DATA.x_train, DATA.y_train)
        return np.cov(g, rowvar=False, bias=True)

    run = (lambda: nets.gradient_covariance(MLP, theta, DATA.x_train, DATA.y_train)) if way == "fpsolve" else explicit
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("way", ["fpsolve", "numpy, differences of the gradient"])
def test_hessian(benchmark, way):
    benchmark.group = "exact Hessian, all 910 weights, 1438 samples"
    theta = MLP.init(0)

    def differences(h=1e-5):
        def gradient(at):
            return MLP.gradient(at, DATA.x_train, DATA.y_train)

        rows = [(gradient(theta + h * e) - gradient(theta - h * e)) / (2 * h) for e in np.eye(MLP.dim)]
        return 0.5 * (np.array(rows) + np.array(rows).T)

    run = (lambda: nets.hessian(MLP, theta, DATA.x_train, DATA.y_train)) if way == "fpsolve" else differences
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_of_a_larger_network(benchmark, optimizer, precision):
    """784-50-50-10, batches of 50, the second layer's weights recorded at every step (bench/speed_of_networks.py compares)."""
    benchmark.group = "steps, 784-50-50-10, batch 50, W2 recorded"
    rng, steps = np.random.default_rng(0), 1000
    data = nets.Data(rng.random((5000, 784)), rng.integers(0, 10, 5000), np.zeros((0, 784)), np.zeros(0, int), "random", 10)
    mlp, record = nets.MLP((784, 50, 50, 10)), nets.Record(weights="W2", weights_every=1, losses_every=10**6)
    options = {"lr": 0.01, "batch": 50, "steps": steps, "optimizer": optimizer, "precision": precision, "record": record}
    benchmark.pedantic(lambda: nets.train(mlp, data, **options), rounds=3, warmup_rounds=1)
    benchmark.extra_info["microseconds_per_step"] = round(benchmark.stats.stats.median / steps * 1e6, 1)


@pytest.mark.parametrize("way", ["fpsolve", "numpy, differences of the gradient"])
def test_hessian_vector_products(benchmark, way):
    benchmark.group = "8 Hessian-vector products, all 910 weights, 1438 samples"
    theta, v = MLP.init(0), np.random.default_rng(0).standard_normal((8, MLP.dim))

    def differences(h=1e-5):
        def gradient(at):
            return MLP.gradient(at, DATA.x_train, DATA.y_train)

        return np.array([(gradient(theta + h * e) - gradient(theta - h * e)) / (2 * h) for e in v])

    product = (lambda: nets.hessian_vector_product(MLP, theta, DATA.x_train, DATA.y_train, v)) if way == "fpsolve" else differences
    benchmark.pedantic(product, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("way", ["fpsolve", "numpy, covariance and eigh"])
def test_principal_components(benchmark, way):
    benchmark.group = "principal components of 4000 x 600"
    rows = np.random.default_rng(0).standard_normal((4000, 600)) + 5.0
    run = (lambda: nets.pca(rows)) if way == "fpsolve" else (lambda: np.linalg.eigh(np.cov(rows.T, bias=True)))
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


def numpy_losses_and_gradients(thetas, x, t):
    """Networks 2-40-1 tanh, "mse", all at once by products of stacks of matrices."""
    n, m = len(thetas), 40
    w, b, v = thetas[:, : 2 * m].reshape(n, 2, m), thetas[:, None, 2 * m : 3 * m], thetas[:, 3 * m : 4 * m, None]
    h = np.tanh(x @ w + b)
    d = (h @ v + thetas[:, None, 4 * m :] - t) / len(x)
    dh = (d @ v.transpose(0, 2, 1)) * (1.0 - h * h)
    parts = (x.T @ dh).reshape(n, -1), dh.sum(axis=1), (h.transpose(0, 2, 1) @ d)[:, :, 0], d.sum(axis=1)
    return 0.5 * len(x) * (d * d).sum(axis=(1, 2)), np.concatenate(parts, axis=1)


@pytest.mark.parametrize("way", ["fpsolve", "numpy, batched"])
@pytest.mark.parametrize("walkers", [8, 64, 512])
def test_losses_and_gradients_of_many_networks(benchmark, walkers, way):
    """What volumes and basins of minima spend their time on."""
    benchmark.group = f"losses and gradients of {walkers} networks 2-40-1 tanh, 80 samples"
    mlp, rng = nets.MLP((2, 40, 1), activation="tanh", loss="mse"), np.random.default_rng(0)
    x, t = rng.uniform(-1.6, 1.6, (80, 2)), rng.choice([-1.0, 1.0], (80, 1))
    thetas = np.array([mlp.init(i) for i in range(walkers)])
    ours = network_loss(mlp, x, t)
    for mine, theirs in zip(ours(thetas), numpy_losses_and_gradients(thetas, x, t), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-13)
    run = (lambda: ours(thetas)) if way == "fpsolve" else (lambda: numpy_losses_and_gradients(thetas, x, t))
    with single_threaded_blas():
        benchmark.pedantic(run, rounds=30, warmup_rounds=2)
    benchmark.extra_info["microseconds_per_network"] = round(benchmark.stats.stats.median / walkers * 1e6, 1)
