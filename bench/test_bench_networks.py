"""The instrumented network beside plain NumPy: training steps, gradient covariance, Hessian."""

import numpy as np
import pytest

import nets

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
