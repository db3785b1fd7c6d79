"""nets.find_minimum: the loss at which it stops is exact; paths in closed form, and those of other programs."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

import fpsolve as fps
import nets

LINE = nets.MLP((3, 2), loss="mse")
DISC = nets.load_data("disc", n=1000, seed=1).subset(80)
TANH = nets.MLP((2, 12, 1), activation="tanh", loss="mse")
SAMPLES = DISC.x_train, DISC.y_train


@pytest.fixture(scope="module")
def regression():
    """Samples of a linear network, its least-squares minimum, and the Hessian of one output's weights and bias."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    ones = np.column_stack([x, np.ones(30)])
    best, *_ = np.linalg.lstsq(ones, y, rcond=None)
    return x, y, best, ones.T @ ones / 30, 0.5 * ((ones @ best - y) ** 2).sum() / 30


@pytest.mark.parametrize("excess", [1e-1, 1e-4, 1e-8])
def test_gradient_descent_takes_the_path_of_a_quadratic(regression, excess):
    """theta_k = best + (1 - lr H)^k (theta_0 - best); the last step ends where the parabola along it has that loss."""
    x, y, best, H, floor = regression
    lr, start = 0.2, np.random.default_rng(0).normal(size=(4, 2))  # W row by row, and b: theta as it is stored
    found = nets.find_minimum(LINE, start.ravel(), x, y, loss=floor + excess, method="gd", lr=lr)
    d, steps = start - best, 0

    def above(d):
        return 0.5 * np.sum(d * (H @ d))

    while above(d) > excess:
        last, d, steps = d, d - lr * H @ d, steps + 1
    step = d - last
    a, b, c = above(step), np.sum(last * (H @ step)), above(last) - excess
    root = (-b - np.sqrt(b * b - 4 * a * c)) / (2 * a)
    assert found.steps == found.evaluations == steps
    assert 0 < root <= 1
    # a loss known to 1e-16 places the end of a step of length |step| and slope 2 excess / |step| to |step| 1e-16 / excess
    room = 1e-12 + 10 * np.linalg.norm(step) * 1e-16 / excess
    np.testing.assert_allclose(found.theta, (best + last + root * step).ravel(), rtol=0, atol=room)
    assert found.loss == pytest.approx(floor + excess, rel=1e-12)


def test_gradient_descent_without_a_rate_never_rises_and_finds_one():
    """Steps raise the loss of a quadratic from a rate of 2/lambda_max on; searching for it, it beats one of 1/(2 lambda_max)."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(30, 3)) * [1.0, 0.2, 0.05], rng.normal(size=(30, 2))
    ones = np.column_stack([x, np.ones(30)])
    floor = 0.5 * np.sum((ones @ np.linalg.lstsq(ones, y)[0] - y) ** 2) / 30
    top = np.linalg.eigvalsh(ones.T @ ones / 30)[-1]
    job = (LINE, np.ones(8), x, y)
    found = nets.find_minimum(*job, loss=floor * (1 + 1e-6), method="gd")
    slow = nets.find_minimum(*job, loss=floor * (1 + 1e-6), method="gd", lr=0.5 / top)
    assert (np.diff(found.history[:, 1]) < 0).all()
    assert found.evaluations < slow.evaluations


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_full_batches_with_momentum_as_written_in_numpy(momentum):
    theta, v, lr, level = TANH.init(4), 0.0, 0.1, 0.2
    found = nets.find_minimum(TANH, theta, *SAMPLES, loss=level, method="gd", lr=lr, momentum=momentum)
    steps = 0
    while TANH.loss(theta, *SAMPLES) > level:
        v = momentum * v + TANH.gradient(theta, *SAMPLES)
        last, theta, steps = theta, theta - lr * v, steps + 1
    s = brentq(lambda s: TANH.loss(last + s * (theta - last), *SAMPLES) - level, 0, 1, xtol=1e-14)
    assert found.steps == steps > 50
    np.testing.assert_allclose(found.theta, last + s * (theta - last), rtol=0, atol=1e-10)


def test_sgd_takes_the_steps_of_train():
    """Runs of that many steps, and of one less, end on both sides of the level; the minimum lies on the line between them."""
    level, options = 0.18, {"lr": 0.05, "batch": 12, "momentum": 0.5, "seed": 7}
    found = nets.find_minimum(TANH, TANH.init(2), *SAMPLES, loss=level, **options)
    last, theta = (nets.train(TANH, DISC, theta0=TANH.init(2), steps=found.steps - k, **options).theta for k in (1, 0))
    assert TANH.loss(theta, *SAMPLES) <= level < TANH.loss(last, *SAMPLES)
    s = (found.theta - last) @ (theta - last) / np.sum((theta - last) ** 2)
    assert 0 < s <= 1
    np.testing.assert_allclose(found.theta, last + s * (theta - last), rtol=0, atol=1e-14)
    assert found.evaluations == found.steps * 12 / 80


def test_l_bfgs_takes_the_steps_of_scipy():
    """The same minimiser on the NumPy loss, stopped by its own count of iterations; the line search makes losses fall."""
    found = nets.find_minimum(TANH, TANH.init(1), *SAMPLES, loss=0.15, method="l-bfgs")
    assert (np.diff(found.history[:, 1]) < 0).all()

    def run(steps):
        options = {"maxcor": nets.minimum.MEMORY, "ftol": 0.0, "gtol": 0.0, "maxls": 50, "maxiter": steps}
        return minimize(TANH.loss_and_gradient, TANH.init(1), SAMPLES, jac=True, method="L-BFGS-B", options=options)

    before, after = run(found.steps - 1), run(found.steps)
    assert after.fun <= 0.15 < before.fun
    assert found.evaluations == after.nfev
    s = brentq(lambda s: TANH.loss(before.x + s * (after.x - before.x), *SAMPLES) - 0.15, 0, 1, xtol=1e-14)
    np.testing.assert_allclose(found.theta, before.x + s * (after.x - before.x), rtol=0, atol=1e-6)


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
    found = nets.find_minimum(mlp, mlp.init(3), *SAMPLES, loss=0.15, method=method, **options)
    loss, gradient = mlp.loss_and_gradient(found.theta, *SAMPLES)
    assert found.loss == pytest.approx(0.15, rel=1e-9)
    assert loss == pytest.approx(0.15, rel=1e-9)
    assert found.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-9)
    assert found.history[0].tolist() == [0.0, pytest.approx(mlp.loss(mlp.init(3), *SAMPLES), rel=1e-12)]
    assert found.history[-1].tolist() == [found.evaluations, found.loss]


def test_cross_entropy_and_many_layers():
    data = nets.load_data("digits").subset(200)
    mlp = nets.MLP((64, 16, 12, 10))
    for method, options in (("l-bfgs", {}), ("sgd", {"lr": 0.1, "batch": 20}), ("gd", {})):
        found = nets.find_minimum(mlp, mlp.init(0), data.x_train, data.y_train, loss=0.05, method=method, **options)
        assert mlp.loss(found.theta, data.x_train, data.y_train) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("method, options", METHODS)
def test_a_loss_out_of_reach_is_told(method, options):
    """Three of four equal inputs are labelled +1, one -1: the best output is their mean 1/2, of the loss (3/4 + 9/4)/8 = 3/8."""
    job = (TANH, TANH.init(0), np.zeros((4, 2)), np.array([1, 1, 1, 0]))
    options = {**options, "batch": 4} if method == "sgd" else options
    if options.get("sampling"):
        pytest.skip("drawn with repeats, batches have minima of their own")
    with pytest.raises(fps.FpsolveError, match=rf"0\.37 was not reached by method='{method}'.*is 0\.375, the lowest was 0\.375"):
        nets.find_minimum(*job, loss=0.37, method=method, max_evaluations=3000, **options)
    reached = nets.find_minimum(*job, loss=0.37, method=method, max_evaluations=3000, strict=False, **options)
    assert reached.loss == pytest.approx(0.375, rel=1e-6)
    assert reached.loss == pytest.approx(TANH.loss(reached.theta, *job[2:]), rel=1e-12)


def test_weights_that_blow_up_are_told():
    with pytest.raises(fps.FpsolveError, match=r"diverged after \d+ steps: lr=50 is too large, try 12.5"):
        nets.find_minimum(LINE, np.ones(8), np.ones((5, 3)), np.zeros((5, 2)), loss=1e-3, method="gd", lr=50.0)


BAD = [
    ({"strict": 1}, TypeError, "strict must be True or False: got 1"),
    ({"loss": 0.0}, ValueError, "loss must be finite and above 0: got 0"),
    ({"loss": 1e9}, ValueError, "must be above the loss to stop at: got loss=1000000000.0; nothing goes uphill"),
    ({"method": "newton"}, ValueError, "method must be one of .*'l-bfgs'.*: got 'newton'"),
    ({"lr": 0.1}, ValueError, "method='l-bfgs' has no use for lr: leave it out"),
    ({"method": "gd", "batch": 5, "sampling": "replace"}, ValueError, "method='gd' has no use for batch, sampling"),
    ({"method": "gd", "momentum": 0.5}, ValueError, "momentum=0.5 needs a learning rate"),
    ({"method": "gd", "lr": -1.0}, ValueError, "lr must be finite and above 0: got -1"),
    ({"method": "gd", "lr": 0.1, "momentum": 1.0}, ValueError, r"momentum must lie in \[0, 1\): got 1.0"),
    ({"method": "sgd", "lr": 0.1}, ValueError, "'sgd' needs lr .* and batch"),
    ({"method": "sgd", "lr": 0.1, "batch": 81}, ValueError, r"batch, .* must be an integer in 1 \.\. 80: got 81"),
    ({"method": "sgd", "lr": 0.1, "batch": 8, "sampling": "some"}, ValueError, "sampling must be one of .*'some'"),
    ({"method": "sgd", "lr": 0.1, "batch": 8, "seed": -1}, ValueError, "seed must be None or an integer"),
    ({"max_evaluations": 0}, ValueError, "max_evaluations must be finite and above 0: got 0"),
    ({"theta": np.ones(3)}, ValueError, r"theta must have shape \(49,\)"),
    ({"theta": np.full(49, np.nan)}, ValueError, "theta must be finite: got 49"),
    ({"y": np.ones(3)}, ValueError, "y must be 80 integer labels"),
    ({"mlp": 3}, TypeError, "mlp must be a nets.MLP"),
    ({"progress": 1}, TypeError, "progress must be True or False: got 1"),
]


@pytest.mark.parametrize("change, error, message", BAD)
def test_bad_input(change, error, message):
    given = {"mlp": TANH, "theta": TANH.init(0), "x": DISC.x_train, "y": DISC.y_train, "loss": 0.1, "method": "l-bfgs", **change}
    with pytest.raises(error, match=message):
        nets.find_minimum(**given)


def test_saved_shown_and_drawn(tmp_path, capsys):
    found = nets.find_minimum(TANH, TANH.init(0), *SAMPLES, loss=0.2, method="l-bfgs", progress=True)
    found.save(tmp_path / "minimum.h5")
    again = nets.load(tmp_path / "minimum.h5")
    assert repr(again) == repr(found)
    assert again.theta.tolist() == found.theta.tolist()
    assert again.history.tolist() == found.history.tolist()
    ax = found.plot(label="one")
    assert ax.get_yscale() == "log"
    assert ax.lines[0].get_ydata()[-1] == found.loss
