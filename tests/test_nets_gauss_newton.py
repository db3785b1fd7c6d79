"""The Gauss-Newton matrix and the residual part: explicit Jacobians by complex steps, differences, ranks, known spectra."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from nets_cases import blocks_of, outputs, problem
from scipy.optimize import least_squares

import nets
from nets import products, spectrum
from nets.products import Products

CASES = [
    ((5, 3), "tanh", "cross_entropy"),
    ((5, 6, 4, 3), "tanh", "mse"),
    ((3, 4, 3, 4, 3), "tanh", "cross_entropy"),
    ((5, 6, 4, 3), "relu", "cross_entropy"),
    ((5, 6, 1), "relu", "mse"),
]
BLOCKS = ["all", "W1", "b1", ("b2", "W2"), ("W2", "b1")]


def jacobians(mlp, theta, x):
    """d z / d theta by complex steps, exact to rounding, shape (n, outputs, P)."""
    step = 1e-30
    return np.stack([outputs(mlp, theta + 1j * step * e, x).imag / step for e in np.eye(mlp.dim)], axis=-1)


def explicit(mlp, theta, x, y):
    """mean J^T B J + decay, and d loss / d z, from the explicit Jacobians."""
    j, z, t = jacobians(mlp, theta, x), outputs(mlp, theta, x), mlp.targets(y)
    if mlp.loss_name == "mse":
        b, slope = np.broadcast_to(np.eye(z.shape[1]), (len(x), z.shape[1], z.shape[1])), z - t
    else:
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        b = np.array([(np.diag(q) - np.outer(q, q)) * w for q, w in zip(p, t.sum(axis=1), strict=True)])
        slope = p * t.sum(axis=1, keepdims=True) - t
    return np.einsum("nca,ncd,ndb->ab", j, b, j) / len(x) + mlp.weight_decay * np.eye(mlp.dim), slope


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("soft", [False, True])
def test_from_explicit_jacobians(case, soft):
    where = problem(*case, soft=soft)
    g = nets.gauss_newton(*where)
    assert (g == g.T).all()
    np.testing.assert_allclose(g, explicit(*where)[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_residual_part_by_differences(case):
    """H - G = mean of sum_c (d l / d z_c) Hess z_c, from central differences of the Jacobians at h and h/2, extrapolated."""
    where = mlp, theta, x, _ = problem(*case)
    slope = explicit(*where)[1]

    def difference(h):
        steps = [(jacobians(mlp, theta + h * e, x) - jacobians(mlp, theta - h * e, x)) / (2 * h) for e in np.eye(mlp.dim)]
        return np.einsum("nc,bnca->ab", slope, np.array(steps)) / len(x)

    found = nets.hessian(*where) - nets.gauss_newton(*where)
    if case[1] == "relu":  # piecewise polynomial: no kink lies within this step
        expected = difference(1e-5)
    else:
        coarse, fine = difference(2e-3), difference(1e-3)
        expected = (4 * fine - coarse) / 3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert np.abs(found).max() > 0.05 or mlp.n_layers == 1
    if case[1] == "relu":  # each weight enters the outputs linearly: no diagonal
        np.testing.assert_allclose(np.diag(found), 0.0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", BLOCKS)
def test_products_and_traces_of_blocks(monkeypatch, case, block):
    """One vector, several, in odd chunks, mostly zeros or not: against the matrices."""
    mlp, theta, x, y = problem((23, *case[0][1:]), *case[1:])
    block = blocks_of(mlp, block)
    monkeypatch.setattr(products, "ROWS", 5)
    monkeypatch.setattr(products, "VECTORS", 3)
    v = np.random.default_rng(0).standard_normal((7, len(mlp.block_index(block))))
    g = nets.gauss_newton(mlp, theta, x, y)
    index = np.ix_(mlp.block_index(block), mlp.block_index(block))
    matrices = {"gauss-newton": g, "residual": nets.hessian(mlp, theta, x, y) - g}
    for thin in (False, True):
        if thin:
            x[np.random.default_rng(5).random(x.shape) < 0.8] = 0.0
            g = nets.gauss_newton(mlp, theta, x, y)
            matrices = {"gauss-newton": g, "residual": nets.hessian(mlp, theta, x, y) - g}
        for matrix, whole in matrices.items():
            operator, part = Products(mlp, theta, x, y, block=block, matrix=matrix), whole[index]
            np.testing.assert_allclose(operator(v), v @ part, rtol=0, atol=1e-12)
            np.testing.assert_allclose(operator(v[3]), v[3] @ part, rtol=0, atol=1e-12)
            trace = nets.trace(mlp, theta, x, y, block=block, matrix=matrix)
            assert trace.value == pytest.approx(np.trace(part), rel=1e-12, abs=1e-13) and not trace.stderr
    np.testing.assert_allclose(nets.gauss_newton(mlp, theta, x, y, block=block), g[index], rtol=0, atol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("loss, per_sample", [("mse", 3), ("cross_entropy", 2)])
def test_semidefinite_and_of_known_rank(activation, loss, per_sample):
    """4 samples, 3 outputs, 67 weights: rank 12 for mse, 8 for cross-entropy, whose outputs' common shift changes nothing."""
    where = problem((5, 6, 4, 3), activation, loss, n=4, decay=0.0)
    values = np.linalg.eigvalsh(nets.gauss_newton(*where))[::-1]
    rank = 4 * per_sample
    assert values[-1] > -1e-14 * values[0]
    if activation == "tanh":
        assert values[rank - 1] > 1e-8 * values[0]
    assert np.abs(values[rank:]).max() < 1e-14 * values[0]


@pytest.mark.parametrize("widths, n", [((2, 12, 1), 10), ((2, 8, 6, 2), 8)])
def test_is_the_hessian_at_zero_loss(widths, n):
    """A tanh net fitted by SciPy to a loss below 1e-12: G = H to 1e-5; at its start it is not."""
    rng = np.random.default_rng(3)
    mlp = nets.MLP(widths, activation="tanh", loss="mse")
    x, y = rng.uniform(-1.6, 1.6, (n, 2)), rng.uniform(-1.0, 1.0, (n, widths[-1]))

    def apart(theta):
        h, g = nets.hessian(mlp, theta, x, y), nets.gauss_newton(mlp, theta, x, y)
        return np.linalg.norm(h - g, 2) / np.linalg.norm(g, 2)

    start = 2.0 * mlp.init(0)
    fit = least_squares(
        lambda theta: (outputs(mlp, theta, x) - y).ravel(),
        start,
        jac=lambda theta: jacobians(mlp, theta, x).reshape(-1, mlp.dim),
        xtol=None,
        ftol=None,
        gtol=1e-10,
    )
    assert mlp.loss(fit.x, x, y) < 1e-12 and apart(fit.x) < 1e-5 and apart(start) > 1e-2


def test_density_of_known_eigenvalues():
    """Fraction of eigenvalues up to a point within every gap: 4 standard errors of 200 probes, 14 gaps: false alarm 0.1 %."""
    where = problem((5, 6, 4, 3), "tanh", "mse", n=5, decay=0.0)
    values = np.linalg.eigvalsh(nets.gauss_newton(*where))
    density = nets.spectral_density(*where, matrix="gauss-newton", probes=200, steps=20)
    assert density.matrix == "gauss-newton" and density.range[0] > -1e-12
    lines = values[-15:]  # the others are zeros
    between = np.sqrt(lines[1:] * lines[:-1])
    fraction, stderr = density.cumulative(between)
    exact = (values[:, None] <= between).mean(axis=0)
    assert (np.abs(fraction - exact) < 4 * stderr + 1e-12).all() and (stderr < 0.01).all()
    mean = density.mean(lambda eigenvalue: eigenvalue**2)
    assert abs(mean.value - np.mean(values**2)) < 4 * mean.stderr
    assert "Gauss-Newton matrix" in density.plot().get_xlabel()
    plt.close("all")


@pytest.mark.parametrize("matrix, which", [("gauss-newton", "largest"), ("residual", "magnitude"), ("residual", "smallest")])
def test_lanczos_agrees_with_the_matrix(monkeypatch, matrix, which):
    where = problem((5, 6, 4, 7, 3), "tanh", "cross_entropy", n=150)
    dense = nets.top_eigenpairs(*where, k=6, matrix=matrix, which=which)
    monkeypatch.setattr(spectrum, "DENSE_UP_TO", 0)
    found = nets.top_eigenpairs(*where, k=6, matrix=matrix, which=which, tol=1e-10)
    assert dense.products == 0 < found.products and dense.matrix == found.matrix == matrix
    np.testing.assert_allclose(found.values, dense.values, rtol=1e-9)


def test_smallest_eigenvalues_are_no_task_for_lanczos(monkeypatch):
    where = problem((5, 6, 4, 3), "tanh", "mse", n=5, decay=0.0)
    assert np.abs(nets.top_eigenpairs(*where, k=5, matrix="gauss-newton", which="smallest").values).max() < 1e-14
    monkeypatch.setattr(spectrum, "DENSE_UP_TO", 0)
    with pytest.raises(ValueError, match=r"Gauss-Newton matrix of 5 samples in 79 directions .*nets.gauss_newton\("):
        nets.top_eigenpairs(*where, k=5, matrix="gauss-newton", which="smallest")


def test_softmax_far_from_and_at_certainty():
    """Two classes with a margin m: B = p (1 - p) [[1, -1], [-1, 1]] with p = 1/(1 + exp(-m)), without overflow at m = 800."""
    mlp = nets.MLP((1, 2), loss="cross_entropy")
    for margin in (0.0, 5.0, 30.0, 800.0):
        g = nets.gauss_newton(mlp, [margin, 0.0, 0.0, 0.0], [[1.0]], np.array([0]))
        q = math.exp(-margin) / (1.0 + math.exp(-margin)) ** 2
        expected = q * np.kron(np.ones((2, 2)), [[1.0, -1.0], [-1.0, 1.0]])
        np.testing.assert_allclose(g, expected, rtol=1e-9 if margin < 10.0 else 1.0, atol=1e-15)


def test_bad_input():
    mlp, theta, x, y = problem((5, 4, 3), "tanh", "mse")
    with pytest.raises(ValueError, match="theta must have shape"):
        nets.gauss_newton(mlp, theta[:-1], x, y)
    with pytest.raises(ValueError, match="out of"):
        nets.gauss_newton(mlp, theta, x, y, block="W5")
    with pytest.raises(ValueError, match="takes 13 GB"):
        nets.gauss_newton(nets.MLP((784, 50, 10)), np.zeros(39760), np.zeros((1, 784)), [0])
    with pytest.raises(ValueError, match="matrix must be one of .*gauss-newton"):
        nets.trace(mlp, theta, x, y, matrix="fisher")


def test_against_pytorch():
    """Gauss-Newton matrix from the Jacobian of the outputs by automatic differentiation."""
    torch = pytest.importorskip("torch")
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy", decay=0.0)

    def forward(flat):
        a = torch.tensor(x)
        for k in range(1, mlp.n_layers + 1):
            a = a @ flat[mlp.blocks[f"W{k}"]].reshape(mlp.widths[k - 1], mlp.widths[k]) + flat[mlp.blocks[f"b{k}"]]
            a = torch.tanh(a) if k < mlp.n_layers else a
        return a

    flat = torch.tensor(theta)
    j = torch.autograd.functional.jacobian(forward, flat).numpy()
    p = torch.softmax(forward(flat), dim=1).numpy()
    whole = np.einsum("nca,nc,ncb->ab", j, p, j) - np.einsum("nca,nc,nd,ndb->ab", j, p, p, j)
    np.testing.assert_allclose(nets.gauss_newton(mlp, theta, x, y), whole / len(x), rtol=0, atol=1e-12)
