"""nets.mlp and its kernels: against loops over single samples, finite differences, and each other."""

import math

import numpy as np
import pytest

import fpsolve as fps
import nets
from nets import _kernels as K

CASES = [
    ((5, 3), "relu", "cross_entropy"),
    ((5, 4, 3), "tanh", "cross_entropy"),
    ((5, 6, 4, 3), "tanh", "mse"),
    ((5, 4, 3), "relu", "mse"),
    ((5, 7, 4, 3), "relu", "cross_entropy"),
]


def naive_loss(mlp, theta, x, t):
    """Mean loss by plain loops over samples and units, from the definition."""
    total, act = 0.0, math.tanh if mlp.activation == "tanh" else lambda z: max(z, 0.0)
    for row, target in zip(x, t, strict=True):
        a, at = list(row), 0
        for k in range(mlp.n_layers):
            m, n = mlp.widths[k], mlp.widths[k + 1]
            z = [sum(a[i] * theta[at + i * n + j] for i in range(m)) + theta[at + m * n + j] for j in range(n)]
            a = z if k == mlp.n_layers - 1 else [act(v) for v in z]
            at += (m + 1) * n
        if mlp.loss_name == "mse":
            total += 0.5 * sum((u - v) ** 2 for u, v in zip(a, target, strict=True))
        else:
            norm = math.log(sum(math.exp(v) for v in a))
            total -= sum(v * (u - norm) for u, v in zip(a, target, strict=True))
    return total / len(x) + 0.5 * mlp.weight_decay * sum(v * v for v in theta)


def problem(widths, activation, loss, n=11):
    rng = np.random.default_rng(7)
    mlp = nets.MLP(widths, activation=activation, loss=loss, weight_decay=0.03)
    return mlp, mlp.init(3) * 1.5, rng.standard_normal((n, 5)), rng.integers(0, 3, n)


@pytest.mark.parametrize("case", CASES)
def test_loss_is_its_definition(case):
    mlp, theta, x, y = problem(*case)
    t = np.eye(3)[y]
    assert mlp.loss(theta, x, y) == pytest.approx(naive_loss(mlp, theta, x, t), rel=1e-13)
    soft = np.random.default_rng(0).random((11, 3))  # real targets; for cross entropy weights that need not sum to one
    assert mlp.loss(theta, x, soft) == pytest.approx(naive_loss(mlp, theta, x, soft), rel=1e-13)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("soft", [False, True])
def test_gradient_by_finite_differences(case, soft):
    """Central differences with h = 1e-5: h^2 f'''/6 and rounding 1e-16/h are below 1e-9 here; no kink within h for these seeds."""
    mlp, theta, x, y = problem(*case)
    y = np.random.default_rng(0).random((11, 3)) if soft else y
    g, h = mlp.gradient(theta, x, y), 1e-5
    for i, e in enumerate(np.eye(mlp.dim) * h):
        assert g[i] == pytest.approx((mlp.loss(theta + e, x, y) - mlp.loss(theta - e, x, y)) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_compiled_gradient_equals_numpy(case):
    mlp, theta, x, y = problem(*case)
    data = nets.Data(x, y, x[:0], y[:0], "made", 3)
    ensemble, index = mlp.ensemble(data), np.array([3, 3, 0, 9, 10])
    np.testing.assert_allclose(ensemble.gradient(theta, index), mlp.gradient(theta, x[index], y[index]), rtol=0, atol=1e-14)
    assert (ensemble.dim, ensemble.size) == (mlp.dim, 11)
    grad = np.empty(mlp.dim)
    value = K.gradient_at(mlp.kernel_args(), theta, x, mlp.targets(y), index, grad)
    assert value == pytest.approx(mlp.loss(theta, x[index], y[index]), rel=1e-13)


def test_python_version_of_the_kernel_agrees(monkeypatch):
    """The uncompiled source of the inner kernels gives the same numbers."""
    mlp, theta, x, y = problem((5, 4, 3), "tanh", "cross_entropy")
    for name in ("_add_bias", "_activate", "_output_delta", "_hidden_delta"):
        monkeypatch.setattr(K, name, getattr(K, name).py_func)
    grad, work = np.empty(mlp.dim), 11 * 7
    K.minibatch_gradient.py_func(mlp.kernel_args(), theta, x, mlp.targets(y), np.empty(work), np.empty(work), grad)
    np.testing.assert_allclose(grad + mlp.weight_decay * theta, mlp.gradient(theta, x, y), rtol=0, atol=1e-14)


def test_exponential_and_tanh():
    """Against the library: relative error of exp below 1e-14 up to |x| = 30 (a few ulp), absolute error of tanh below 1e-15."""
    x = np.r_[np.linspace(-30.0, 30.0, 100_001), 0.0, 1e-300, -1e-9, np.random.default_rng(0).standard_normal(1000)]
    z = x.copy()
    K.exponentials(z)
    np.testing.assert_allclose(z, np.exp(x), rtol=1e-14)
    z = np.r_[x, 1e6, -1e6, np.inf, -np.inf]
    K.tangents(z)
    np.testing.assert_allclose(z, np.tanh(np.r_[x, 1e6, -1e6, np.inf, -np.inf]), rtol=0, atol=1e-15)
    z = np.array([-800.0, -1e300, 0.0, 1.0])
    K.exponentials(z)
    assert (z[:2] < 1e-300).all() and (z[:2] >= 0.0).all() and z[2] == 1.0


@pytest.mark.parametrize("case", CASES)
def test_per_sample_gradients(case):
    mlp, theta, x, y = problem(*case)
    g = mlp.per_sample_gradients(theta, x, y)
    for n in range(len(x)):
        np.testing.assert_allclose(g[n], mlp.gradient(theta, x[n : n + 1], y[n : n + 1]), rtol=0, atol=1e-14)
    chunks = list(mlp.iter_per_sample_gradients(theta, x, y, block=("b1", "W1"), chunk=4))
    assert [len(c) for c in chunks] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(chunks), g[:, mlp.block_index(("b1", "W1"))])


def test_chunks_do_not_change_results(monkeypatch):
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy", n=40)
    whole = mlp.loss_and_gradient(theta, x, y), mlp.outputs(theta, x)
    monkeypatch.setattr(nets.MLP, "chunk_rows", lambda self: 7)
    parts = mlp.loss_and_gradient(theta, x, y), mlp.outputs(theta, x)
    assert parts[0][0] == pytest.approx(whole[0][0], rel=1e-14) and mlp.loss(theta, x, y) == pytest.approx(whole[0][0], rel=1e-14)
    np.testing.assert_allclose(parts[0][1], whole[0][1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(parts[1], whole[1], rtol=0, atol=1e-14)


def test_large_outputs_do_not_overflow():
    mlp = nets.MLP((1, 2))
    theta, x = np.array([1000.0, -1000.0, 0.0, 0.0]), np.ones((1, 1))
    assert mlp.loss(theta, x, np.array([1])) == pytest.approx(2000.0) and mlp.loss(theta, x, np.array([0])) == 0.0
    assert np.isfinite(mlp.gradient(theta, x, np.array([1]))).all()


def test_predictions_and_error():
    mlp = nets.MLP((2, 2))
    theta = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])  # output = input
    x = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])
    assert mlp.predict(theta, x).tolist() == [0, 1, 0]
    assert mlp.error(theta, x, np.array([0, 0, 0])) == pytest.approx(1 / 3)


def test_layout_and_init():
    mlp = nets.MLP((4, 3, 2))
    assert mlp.blocks == {"W1": slice(0, 12), "b1": slice(12, 15), "W2": slice(15, 21), "b2": slice(21, 23)} and mlp.dim == 23
    parts = mlp.unpack(np.arange(23.0))
    assert parts["W1"][1, 2] == 5.0 and parts["W1"].base is not None and parts["b2"].tolist() == [21.0, 22.0]
    wide = nets.MLP((400, 100, 10))
    uniform, he = wide.unpack(wide.init(0)), wide.unpack(wide.init(0, scheme="he"))
    assert np.abs(uniform["W1"]).max() <= 0.05 and np.abs(uniform["b1"]).max() <= 0.05
    # standard deviations of 40 000 draws: relative error 0.35 % (normal), so 2 % is more than 5 sigma
    assert uniform["W1"].std() == pytest.approx(0.05 / math.sqrt(3), rel=0.02)
    assert he["W1"].std() == pytest.approx(math.sqrt(2 / 400), rel=0.02) and not he["b1"].any()
    assert (wide.init(5) == wide.init(5)).all() and not (wide.init(5) == wide.init(6)).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: nets.MLP((3,)), "at least two positive"),
        (lambda m: nets.MLP((3, 0)), "at least two positive"),
        (lambda m: nets.MLP((3, 2), activation="gelu"), "activation must be one of"),
        (lambda m: nets.MLP((3, 2), loss="hinge"), "loss must be one of"),
        (lambda m: nets.MLP((3, 2), weight_decay=-1.0), "weight_decay"),
        (lambda m: nets.MLP((3, 1)), "at least 2 outputs"),
        (lambda m: m.loss(np.zeros(3), np.ones((2, 3)), np.array([0, 1])), r"shape \(8,\)"),
        (lambda m: m.loss(np.zeros(8), np.ones((2, 4)), np.array([0, 1])), r"shape \(n, 3\)"),
        (lambda m: m.loss(np.zeros(8), np.ones((2, 3)), np.array([0, 2])), r"labels in 0 \.\. 1"),
        (lambda m: m.loss(np.zeros(8), np.ones((2, 3)), np.zeros((2, 3))), r"shape \(2, 2\)"),
        (lambda m: m.error(np.zeros(8), np.ones((2, 3)), np.zeros(2)), "integer labels"),
        (lambda m: m.init(0, scheme="zeros"), "scheme must be"),
        (lambda m: m.block_index("W9"), "out of"),
        (
            lambda m: m.ensemble(nets.Data(np.ones((4, 3)), np.zeros(4, int), np.ones((0, 3)), np.zeros(0, int), "a")).gradient(
                np.zeros(8), [4]
            ),
            r"0 \.\. 3",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(nets.MLP((3, 2)))


def test_the_loss_as_a_landscape():
    """The landscape is `MLP.loss`, chains of Gaussian noise run on it, and a process in continuous time is refused."""
    data, mlp = nets.load_data("digits"), nets.MLP((64, 5, 10), activation="tanh", weight_decay=1e-2)
    ensemble = mlp.ensemble(data)
    thetas = np.array([mlp.init(k) for k in range(3)])
    expected = [mlp.loss(theta, data.x_train, data.y_train) for theta in thetas]
    np.testing.assert_allclose(ensemble.loss(thetas), expected, rtol=1e-13)
    gradients = [mlp.gradient(theta, data.x_train, data.y_train) for theta in thetas]
    np.testing.assert_allclose(ensemble.loss.grad(thetas), gradients, rtol=0, atol=1e-14)
    batches = np.array([[0, 5, 5], [7, 1, 2], [9, 9, 9]])
    rows = [mlp.gradient(theta, data.x_train[i], data.y_train[i]) for theta, i in zip(thetas, batches, strict=True)]
    np.testing.assert_allclose(ensemble.gradients(thetas, batches), rows, rtol=0, atol=1e-14)
    region = fps.Region.sublevel(ensemble.loss, float(np.mean(sorted(expected)[1:])))
    assert region.contains(thetas).tolist() == [value < np.mean(sorted(expected)[1:]) for value in expected]
    chain = fps.SGDChain.gaussian(ensemble.loss, fps.Noise.isotropic(1e-12), 0.5)
    assert not chain.fused and fps.SGDChain.gaussian(fps.potentials.double_well(), fps.Noise.isotropic(0.1), 0.1).fused
    end = fps.simulate(chain, thetas[0], t=1, n=1, seed=0, save="final").final[0]  # gradient descent but for noise of 1e-6
    np.testing.assert_allclose(end, thetas[0] - 0.5 * gradients[0], rtol=0, atol=1e-5)
    continuous = fps.Process(nets.MLP((2, 2)).ensemble(nets.load_data("spiral")).loss, fps.Noise.isotropic(0.1))
    with pytest.raises(ValueError, match="SGDChain"):
        fps.simulate(continuous, np.zeros(6), t=1, dt=0.1, n=2)
    for bad in (thetas[:, :-1], thetas[0]):
        with pytest.raises(ValueError, match="weights must have shape"):
            ensemble.gradients(bad, batches)
    with pytest.raises(ValueError, match="indices must be"):
        ensemble.gradients(thetas, batches + 10_000)
