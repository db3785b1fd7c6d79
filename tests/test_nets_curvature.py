"""nets.curvature: finite differences, closed forms, invariants; and that chunking does not matter."""

import numpy as np
import pytest
from nets_cases import problem

import nets
from nets import curvature

CASES = [
    ((5, 3), "tanh", "cross_entropy"),
    ((5, 4, 3), "tanh", "cross_entropy"),
    ((5, 6, 4, 3), "tanh", "mse"),
    ((5, 6, 4, 7, 3), "tanh", "cross_entropy"),
    ((5, 6, 4, 3), "relu", "cross_entropy"),
    ((5, 4, 3), "relu", "mse"),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("soft", [False, True])
def test_hessian_by_finite_differences(case, soft):
    """Central differences of the gradient at h and h/2: errors fall by 4 (tanh), and the extrapolated value agrees to 1e-9."""
    mlp, theta, x, y = problem(*case, soft=soft)
    h = nets.hessian(mlp, theta, x, y)
    assert (h == h.T).all()

    def difference(step):
        return np.array(
            [(mlp.gradient(theta + step * e, x, y) - mlp.gradient(theta - step * e, x, y)) / (2 * step) for e in np.eye(mlp.dim)]
        )

    if case[1] == "relu":  # piecewise smooth: no kink lies within this step
        np.testing.assert_allclose(h, difference(1e-6), rtol=0, atol=1e-8)
        return
    coarse, fine = difference(2e-3), difference(1e-3)
    np.testing.assert_allclose(h, (4 * fine - coarse) / 3, rtol=0, atol=1e-9)
    errors = np.abs(coarse - h).max(), np.abs(fine - h).max()
    assert errors[0] > 1e-8 and 3.9 < errors[0] / errors[1] < 4.1


@pytest.mark.parametrize("case", CASES)
def test_hessian_vector_product(case):
    mlp, theta, x, y = problem(*case)
    v = np.random.default_rng(0).standard_normal((mlp.dim, 3))
    got = np.stack([nets.hessian_vector_product(mlp, theta, x, y, v[:, i]) for i in range(3)], axis=1)
    np.testing.assert_allclose(got, nets.hessian(mlp, theta, x, y) @ v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", ["W1", "b1", ("b1", "W1"), ("W1", "b2"), ("b2", "b1", "W2"), ("W2",), "all"])
def test_blocks_are_parts_of_the_whole(case, block):
    mlp, theta, x, y = problem(*case)
    if "W2" not in mlp.blocks and any("2" in name for name in block):
        block = "all"  # a single layer has no second one
    index = mlp.block_index(block)
    for function in (nets.hessian, nets.gradient_covariance):
        whole = function(mlp, theta, x, y)
        np.testing.assert_allclose(function(mlp, theta, x, y, block=block), whole[np.ix_(index, index)], rtol=0, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_covariance_is_its_definition(case):
    mlp, theta, x, y = problem(*case)
    g = np.array([mlp.gradient(theta, x[n : n + 1], y[n : n + 1]) for n in range(len(x))])
    c = nets.gradient_covariance(mlp, theta, x, y)
    np.testing.assert_allclose(c, np.cov(g.T, bias=True), rtol=0, atol=1e-13)
    assert (c == c.T).all() and np.linalg.eigvalsh(c)[0] > -1e-13 and np.linalg.matrix_rank(c, tol=1e-10) <= len(x) - 1


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_pair_tables_give_the_same_covariance(monkeypatch, layer):
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy")
    direct = nets.gradient_covariance(mlp, theta, x, y, block=f"W{layer}")
    monkeypatch.setattr(curvature, "PAIRS_FROM", 1)
    paired = nets.gradient_covariance(mlp, theta, x, y, block=f"W{layer}")
    np.testing.assert_allclose(paired, direct, rtol=0, atol=1e-14)
    assert (paired == paired.T).all()


def test_linear_regression_closed_form():
    """mse of a linear map: H = mean x~ x~^T (x) 1 with x~ = (x, 1); C = mean of x~ x~^T (x) r r^T, centred, r the residuals."""
    mlp, theta, x, y = problem((5, 3), "tanh", "mse", n=40, soft=True)
    xt = np.c_[x, np.ones(40)]
    expected = np.kron(xt.T @ xt / 40, np.eye(3)) + 0.02 * np.eye(18)
    np.testing.assert_allclose(nets.hessian(mlp, theta, x, y), expected, rtol=0, atol=1e-13)
    r = xt @ theta.reshape(6, 3) - y
    g = np.einsum("ni,nj->nij", xt, r).reshape(40, 18)
    expected = np.einsum("na,nb->ab", g, g) / 40 - np.outer(g.mean(0), g.mean(0))
    np.testing.assert_allclose(nets.gradient_covariance(mlp, theta, x, y), expected, rtol=0, atol=1e-13)


def test_logistic_regression_closed_form():
    """Two classes: H = mean s(1 - s) x~ x~^T (x) [[1, -1], [-1, 1]], s the logistic function of the outputs' difference."""
    mlp, theta, x, y = problem((5, 2), "relu", "cross_entropy", n=40)
    xt = np.c_[x, np.ones(40)]
    w = theta.reshape(6, 2)
    s = 1.0 / (1.0 + np.exp(-xt @ (w[:, 0] - w[:, 1])))
    a = (xt * (s * (1 - s))[:, None]).T @ xt / 40
    expected = np.kron(a, [[1.0, -1.0], [-1.0, 1.0]]) + 0.02 * np.eye(12)
    np.testing.assert_allclose(nets.hessian(mlp, theta, x, y), expected, rtol=0, atol=1e-14)


def test_softmax_shift_is_flat():
    """Adding a constant to the last biases changes no probability: curvature exactly weight_decay, no noise."""
    mlp, theta, x, y = problem((5, 4, 3), "tanh", "cross_entropy")
    shift = np.zeros(mlp.dim)
    shift[mlp.blocks["b2"]] = 1.0
    np.testing.assert_allclose(nets.hessian(mlp, theta, x, y) @ shift, 0.02 * shift, rtol=0, atol=1e-14)
    np.testing.assert_allclose(nets.gradient_covariance(mlp, theta, x, y) @ shift, 0.0, rtol=0, atol=1e-14)


def test_fisher_identity():
    """Labels drawn from the model, all of them weighted by their probability: E[g g^T] equals the Gauss-Newton matrix.

    For a linear softmax model the Hessian is the Gauss-Newton matrix and does not depend on the labels.
    """
    mlp, theta, x, _ = problem((5, 3), "relu", "cross_entropy", n=23)
    plain = nets.MLP((5, 3))
    p = np.exp(mlp.outputs(theta, x))
    p /= p.sum(axis=1, keepdims=True)
    fisher = np.zeros((18, 18))
    for k in range(3):
        g = plain.per_sample_gradients(theta, x, np.full(23, k))
        fisher += (g * p[:, k : k + 1]).T @ g / 23
    np.testing.assert_allclose(nets.hessian(plain, theta, x, np.zeros(23, int)), fisher, rtol=0, atol=1e-14)


@pytest.mark.parametrize("function", [nets.hessian, nets.gradient_covariance])
def test_chunks_do_not_change_results(monkeypatch, function):
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy", n=50)
    whole = function(mlp, theta, x, y)
    monkeypatch.setattr(curvature, "CHUNK_NUMBERS", 5000)
    np.testing.assert_allclose(function(mlp, theta, x, y), whole, rtol=0, atol=1e-14)


def test_memory_does_not_grow_with_the_samples(monkeypatch):
    """Peak of NumPy's allocations for 2 000 and 8 000 samples of a 64-12-10 net differs by less than one copy of the inputs."""
    import tracemalloc

    monkeypatch.setattr(curvature, "CHUNK_NUMBERS", 1_000_000)
    monkeypatch.setattr("nets.mlp.CHUNK_NUMBERS", 100_000)
    mlp = nets.MLP((64, 12, 10), activation="tanh")
    theta, rng, peaks = mlp.init(0), np.random.default_rng(0), []
    for n in (2000, 8000):
        x, y = rng.random((n, 64)), rng.integers(0, 10, n)
        tracemalloc.start()
        nets.hessian(mlp, theta, x, y)
        nets.gradient_covariance(mlp, theta, x, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 6000 * 64 * 8  # per-sample gradients would take 6000 * 910 * 8


def test_digits_net_in_a_second_or_two():
    """910 x 910 Hessian and covariance of all 1797 digits, symmetric, consistent with Hessian-vector products."""
    data = nets.load_data("digits", split="all")
    mlp = nets.MLP((64, 12, 10), activation="tanh", weight_decay=0.01)
    theta = mlp.init(0)
    h = nets.hessian(mlp, theta, data.x_train, data.y_train)
    v = np.random.default_rng(1).standard_normal(910)
    np.testing.assert_allclose(h @ v, nets.hessian_vector_product(mlp, theta, data.x_train, data.y_train, v), rtol=0, atol=1e-12)
    c = nets.gradient_covariance(mlp, theta, data.x_train, data.y_train, block="W1")  # 768 weights: through the pair tables
    g = mlp.per_sample_gradients(theta, data.x_train, data.y_train, block="W1")
    np.testing.assert_allclose(c, np.cov(g.T, bias=True), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, t, x, y: nets.hessian(m, t[:-1], x, y), r"theta must have shape"),
        (lambda m, t, x, y: nets.hessian(m, t, x, y, block="W5"), "out of"),
        (lambda m, t, x, y: nets.gradient_covariance(m, t, x, y, block=("W1", "W1")), "different names"),
        (
            lambda m, t, x, y: nets.hessian(nets.MLP((784, 50, 10)), np.zeros(39760), np.zeros((1, 784)), [0]),
            "takes 13 GB",
        ),
        (lambda m, t, x, y: nets.hessian_vector_product(m, t, x, y, t[:3]), "shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*problem((5, 4, 3), "tanh", "mse"))
