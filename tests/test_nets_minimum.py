"""nets.find_minimum: the loss at which it stops is exact; paths of gradient descent in closed form and rebuilt in NumPy."""

import numpy as np
import pytest

import fpsolve as fps
import nets

LINE = nets.MLP((3, 2), loss="mse")
DISC = nets.load_data("disc", n=1000, seed=1).subset(80)
TANH = nets.MLP((2, 12, 1), activation="tanh", loss="mse")


@pytest.fixture(scope="module")
def regression():
    """Samples of a linear network, its least-squares minimum, and the Hessian of one output's weights and bias."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    ones = np.column_stack([x, np.ones(30)])
    best, *_ = np.linalg.lstsq(ones, y, rcond=None)
    return x, y, best, ones.T @ ones / 30, 0.5 * ((ones @ best - y) ** 2).sum() / 30


def in_theta(weights):
    """Rows W, then the bias row, are theta already."""
    return np.asarray(weights).ravel()


@pytest.mark.parametrize("excess", [1e-1, 1e-4, 1e-8])
def test_gradient_descent_takes_the_path_of_a_quadratic(regression, excess):
    """theta_k = best + (1 - lr H)^k (theta_0 - best); the last step ends where the parabola along it has that loss."""
    x, y, best, H, floor = regression
    lr, start = 0.2, in_theta(np.random.default_rng(0).normal(size=(4, 2)))
    found = nets.find_minimum(LINE, start, x, y, loss=floor + excess, method="gd", lr=lr)
    d = start.reshape(4, 2) - best

    def above(d):
        return 0.5 * np.sum(d * (H @ d))

    steps = 0
    while above(d) > excess:
        last, d, steps = d, d - lr * H @ d, steps + 1
    s = d - last
    a, b, c = above(s), np.sum(last * (H @ s)), above(last) - excess
    root = (-b - np.sqrt(b * b - 4 * a * c)) / (2 * a)
    assert found.steps == found.evaluations == steps
    assert 0 < root <= 1
    np.testing.assert_allclose(found.theta, in_theta(best + last + root * s), atol=1e-9 / np.sqrt(excess) * 1e-3 + 1e-12)
    assert found.loss == pytest.approx(floor + excess, rel=1e-12)


METHODS = [
    ("l-bfgs", {}),
    ("gd", {}),
    ("gd", {"lr": 0.1, "momentum": 0.9}),
    ("sgd", {"lr": 0.1, "batch": 10}),
    ("sgd", {"lr": 0.05, "batch": 7, "momentum": 0.9, "sampling": "replace"}),
]


@pytest.mark.parametrize("method, options", METHODS)
@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_the_loss_is_the_one_asked_for(method, options, decay):
    mlp = nets.MLP((2, 12, 1), activation="tanh", loss="mse", weight_decay=decay)
    found = nets.find_minimum(mlp, mlp.init(3), DISC.x_train, DISC.y_train, loss=0.15, method=method, **options)
    assert mlp.loss(found.theta, DISC.x_train, DISC.y_train) == pytest.approx(0.15, rel=1e-9)
    loss, gradient = mlp.loss_and_gradient(found.theta, DISC.x_train, DISC.y_train)
    assert found.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-9)
    assert found.history[0].tolist() == [0.0, pytest.approx(mlp.loss(mlp.init(3), DISC.x_train, DISC.y_train), rel=1e-12)]
    assert found.history[-1].tolist() == [found.evaluations, found.loss] and found.loss == pytest.approx(loss, rel=1e-12)


def test_a_loss_out_of_reach_is_told():
    """The labels of repeated inputs disagree: no network does better than their mean, 1/2 (1 - 0.5^2) with three of four alike."""
    x, y = np.zeros((4, 2)), np.array([1, 1, 1, 0])
    for method, options in METHODS:
        with pytest.raises(fps.FpsolveError, match=r"0\.37 was not reached.*lowest was 0\.375"):
            nets.find_minimum(
                TANH,
                TANH.init(0),
                x,
                y,
                loss=0.37,
                method=method,
                max_evaluations=3000,
                **{**options, "batch": 4} if method == "sgd" else options,
            )
