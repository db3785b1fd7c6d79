"""A second task: Fisher information by definition, the proximal step against ridge regression, copies against single runs."""

import numpy as np
import pytest

import nets

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def tasks():
    digits = nets.load_data("digits")
    return nets.only_labels(digits, (0, 1)), nets.only_labels(digits, (2, 3))


def test_tasks_share_their_labels(tasks):
    digits = nets.load_data("digits")
    one, two = tasks
    assert one.size == np.isin(digits.y_train, (0, 1)).sum() and two.n_classes == 2
    np.testing.assert_array_equal(two.x_train[two.y_train == 1], digits.x_train[digits.y_train == 3])
    with pytest.raises(ValueError, match="different classes"):
        nets.only_labels(digits, (1, 1))
    with pytest.raises(ValueError, match="different classes"):
        nets.only_labels(nets.load_data("teacher"), (0, 1))


@pytest.mark.parametrize("block", ["W2", "b2", "W1"])
def test_fisher_information_is_the_mean_of_squares_of_single_samples(block):
    mlp = nets.MLP((4, 5, 3, 3), activation="tanh", weight_decay=0.3)
    x, y, theta = RNG.normal(size=(50, 4)), RNG.integers(0, 3, 50), RNG.normal(size=mlp.dim)
    plain = nets.MLP((4, 5, 3, 3), activation="tanh")
    g = plain.per_sample_gradients(theta, x, y, block=block)
    np.testing.assert_allclose(nets.fisher_diagonal(mlp, theta, x, y, block=block), (g**2).mean(axis=0), rtol=1e-12)
    z = plain.outputs(theta, x)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    each = [plain.per_sample_gradients(theta, x, np.full(50, k), block=block) ** 2 * p[:, k : k + 1] for k in range(3)]
    model = nets.fisher_diagonal(mlp, theta, x, y, block=block, labels="model")
    np.testing.assert_allclose(model, np.sum(each, axis=0).mean(axis=0), rtol=1e-12)


def test_model_fisher_is_the_curvature_of_a_linear_classifier():
    """For softmax regression E over the model's labels of g^2 is the diagonal of the Hessian, whatever the labels are."""
    mlp = nets.MLP((4, 3))
    x, y, theta = RNG.normal(size=(80, 4)), RNG.integers(0, 3, 80), RNG.normal(size=15)
    model = nets.fisher_diagonal(mlp, theta, x, y, block="W1", labels="model")
    np.testing.assert_allclose(model, np.diag(nets.hessian(mlp, theta, x, y, block="W1")), rtol=1e-10)


@pytest.mark.parametrize("kind", ["ldc", "ewc"])
def test_penalised_training_ends_in_ridge_regression(kind):
    """Linear regression: full batches converge to argmin L_2 + lambda sum s q^2, solved directly, for each lambda and N_c."""
    x, y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 1))
    data, mlp = nets.Data(x, y, x, y, "line"), nets.MLP((3, 1), loss="mse")
    theta = RNG.normal(size=4)
    strengths = np.array([3.0, 0.5, 0.1])
    directions = np.linalg.qr(RNG.normal(size=(3, 3)))[0] if kind == "ldc" else np.eye(3)
    if kind == "ldc":
        width = strengths**-0.5
        zero = np.zeros(3)
        flat = nets.Flatness(-width / 2, width / 2, zero, zero, zero, zero, 1.0, np.e)
        constraint = nets.ldc(flat, directions)
    else:
        constraint = nets.ewc(2 * strengths)
    lambdas, counts, lr = [0.0, 0.7, 5.0], [1, 3], 0.02
    job = (mlp, theta, constraint, lambdas, counts)
    moved = _ends(*job, data, lr)
    H, g = x.T @ x / 40, mlp.gradient(theta, x, y)[:3]
    for k, (lam, n) in enumerate((a, b) for a in lambdas for b in counts):
        p = directions[:, :n]
        expected = np.linalg.solve(H + 2 * lam * (p * strengths[:n]) @ p.T, -g)
        # the alternating step has a fixed point at a distance of order lr from the minimum of the sum
        np.testing.assert_allclose(moved[k], expected, atol=0.06 * np.abs(expected).max())


def _ends(mlp, theta, constraint, lambdas, counts, data, lr):
    """Displacements from w_1 after convergence, in the directions of the constraint put back into weights."""
    from nets import continual

    strengths, number = continual._grid(constraint, lambdas, counts)
    layer = continual._Layer(mlp, theta, 1)
    used = 2 * lr * strengths[:, None] * constraint.strengths * (np.arange(3) < number[:, None])
    moved = np.zeros((len(strengths), 3))
    for _ in range(4000):
        moved -= lr * layer.gradients(theta[:3] + moved, data.x_train, data.y_train)
        constraint.step(moved, used / (1 + used))
    return moved


def test_copies_do_what_plain_training_does(tasks):
    """lambda = 0 against a loop over mlp.gradient on the same minibatches."""
    one, two = tasks
    mlp = nets.MLP((64, 12, 8, 2))
    run = nets.train(mlp, one, lr=0.1, batch=20, epochs=10)
    constraint = nets.ewc(nets.fisher_diagonal(mlp, run.theta, one.x_train, one.y_train))
    kept = nets.second_task(mlp, one, two, run.theta, constraint, [0.0, 1e12], [96], lr=0.1, batch=25, epochs=3, seed=4)
    theta, rng, part = run.theta.copy(), np.random.default_rng(4), mlp.blocks["W2"]
    for _ in range(3):
        order = rng.permutation(two.size)
        for i in range(0, two.size - 24, 25):
            chosen = order[i : i + 25]
            theta[part] -= 0.1 * mlp.gradient(theta, two.x_train[chosen], two.y_train[chosen])[part]
    moved = np.abs(theta[part] - run.theta[part])[constraint.axes]
    np.testing.assert_allclose(kept.displacements[0], moved, atol=1e-10)
    assert kept.second_error[0] == mlp.error(theta, two.x_test, two.y_test)
    assert kept.first_error[0] == mlp.error(theta, one.x_test, one.y_test)
    # a step of at most lr |g| survives as its share 1/(2 lr lambda s)
    held = constraint.strengths > 1e-6 * constraint.strengths[0]
    assert held.sum() > 20 and kept.displacements[1][held].max() < 1e-4 < moved[held].max()
    assert kept.before == mlp.error(run.theta, one.x_test, one.y_test)


def test_open_sides_count_with_their_finite_end():
    one = np.ones(3)
    flat = nets.Flatness(np.array([-1.0, -2.0, -np.inf]), np.array([3.0, np.inf, np.inf]), one, one, one, one, 1.0, np.e)
    np.testing.assert_allclose(nets.ldc(flat, np.eye(3)).strengths, [1 / 16, 1 / 16, 0.0])


def test_retention_orders_its_runs(tmp_path):
    first, second = np.array([0.4, 0.2, 0.0, 0.3]), np.array([0.0, 0.1, 0.4, 0.1])
    kept = nets.Retention("LDC", np.ones(4), np.array([1, 5, 5, 2]), first, second, 0.0, np.zeros((4, 1)))
    assert kept.pareto().tolist() == [2, 1, 0] and kept.best == 1 and kept.enough(0.11) == 1 and kept.enough(0.01) == 5
    kept.save(tmp_path / "kept.h5")
    np.testing.assert_array_equal(nets.load(tmp_path / "kept.h5").overall, kept.overall)


def test_bad_second_tasks_are_refused(tasks):
    one, two = tasks
    mlp = nets.MLP((64, 12, 8, 2))
    theta, constraint = mlp.init(0), nets.ewc(np.ones(96))
    options = {"lr": 0.1, "batch": 20, "epochs": 1}
    with pytest.raises(ValueError, match="weight matrix of 96"):
        nets.second_task(mlp, one, two, theta, constraint, [1.0], [1], block="W1", **options)
    with pytest.raises(ValueError, match=r"1 \.\. 96"):
        nets.second_task(mlp, one, two, theta, constraint, [1.0], [97], **options)
    with pytest.raises(ValueError, match="lambdas"):
        nets.second_task(mlp, one, two, theta, constraint, [-1.0], [1], **options)
    with pytest.raises(ValueError, match=r"batch, up to the samples of the second task, must be an integer in 1 \.\. "):
        nets.second_task(mlp, one, two, theta, constraint, [1.0], [1], lr=0.1, batch=10**6, epochs=1)
    with pytest.raises(ValueError, match="drawn from a network"):
        nets.fisher_diagonal(
            nets.MLP((3, 2), loss="mse"), np.zeros(8), np.ones((1, 3)), np.ones((1, 2)), block="W1", labels="model"
        )
    with pytest.raises(ValueError, match="vector of finite"):
        nets.ewc(-np.ones(3))
