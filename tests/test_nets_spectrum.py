"""Products, eigenpairs, spectral density and trace: against the matrices themselves, closed forms, differences, and PyTorch."""

import math
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import pytest
from nets_cases import blocks_of, problem

import nets
from fpsolve import FpsolveError
from nets import products, spectrum
from nets.products import Products

CASES = [
    ((5, 3), "tanh", "cross_entropy"),
    ((5, 6, 4, 3), "tanh", "mse"),
    ((5, 6, 4, 7, 3), "tanh", "cross_entropy"),
    ((5, 6, 4, 3), "relu", "cross_entropy"),
]
BLOCKS = ["all", "W1", "b1", ("b2", "W2"), ("W3", "b1")]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("soft", [False, True])
def test_products_of_blocks(monkeypatch, case, block, soft):
    """One vector, several, in odd chunks, kept or made anew: A v with the matrices of nets.hessian and nets.gradient_covariance."""
    mlp, theta, x, y = problem(*case, soft=soft)
    block = blocks_of(mlp, block)
    monkeypatch.setattr(products, "ROWS", 5)
    monkeypatch.setattr(products, "VECTORS", 3)
    v = np.random.default_rng(0).standard_normal((7, len(mlp.block_index(block))))
    pairs = (
        (nets.hessian, nets.hessian_vector_product),
        (nets.gradient_covariance, nets.covariance_vector_product),
    )
    for matrix, product in pairs:
        expected = v @ matrix(mlp, theta, x, y, block=block)
        got = product(mlp, theta, x, y, v, block=block)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * max(1.0, np.abs(expected).max()))
        single = product(mlp, theta, x, y, v[3], block=block)
        np.testing.assert_allclose(single, expected[3], rtol=0, atol=1e-13 * max(1.0, np.abs(expected).max()))
    monkeypatch.setattr(products, "CACHE_NUMBERS", 0)
    fresh = Products(mlp, theta, x, y, block=block)
    np.testing.assert_array_equal(fresh(v), nets.hessian_vector_product(mlp, theta, x, y, v, block=block))
    assert fresh._kept is None and fresh.count == 7


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", ["all", "W1", ("b1", "W2")])
def test_products_with_samples_that_are_mostly_zeros(monkeypatch, case, block):
    """H v of one vector multiplies only what is not zero: rows without any number, with one, and with more than four of them."""
    mlp, theta, x, y = problem((23, *case[0][1:]), *case[1:])
    x[np.random.default_rng(5).random(x.shape) < 0.8] = 0.0
    x[3], x[4], x[5] = 0.0, np.eye(23)[22], np.r_[np.ones(13), np.zeros(10)]
    block = blocks_of(mlp, block)
    monkeypatch.setattr(products, "ROWS", 12)
    v = np.random.default_rng(0).standard_normal((2, len(mlp.block_index(block))))
    expected = v @ nets.hessian(mlp, theta, x, y, block=block)
    operator = Products(mlp, theta, x, y, block=block)
    got = np.array([operator(one) for one in v])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * max(1.0, np.abs(expected).max()))
    np.testing.assert_allclose(operator(v), expected, rtol=0, atol=1e-13 * max(1.0, np.abs(expected).max()))
    assert [passed.sparse is not None for passed in operator._kept] == [operator.first == 1] * 2


def test_hessian_vector_products_by_differences():
    """Directional central differences of the gradient at h and h/2: the error falls by 4, the extrapolated one agrees to 1e-9."""
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy")
    v = np.random.default_rng(3).standard_normal(mlp.dim)
    v /= np.linalg.norm(v)
    product = nets.hessian_vector_product(mlp, theta, x, y, v)
    coarse, fine = ((mlp.gradient(theta + h * v, x, y) - mlp.gradient(theta - h * v, x, y)) / (2 * h) for h in (2e-3, 1e-3))
    np.testing.assert_allclose(product, (4 * fine - coarse) / 3, rtol=0, atol=1e-9)
    assert 3.9 < np.abs(coarse - product).max() / np.abs(fine - product).max() < 4.1


# ---- closed forms -------------------------------------------------------------------------------------------------------


def linear_regression():
    """H = mean (x, 1)(x, 1)^T (x) 1 + decay: its eigenvalues, three times each."""
    mlp, theta, x, y = problem((5, 3), "tanh", "mse", n=40, soft=True)
    xt = np.c_[x, np.ones(40)]
    return (mlp, theta, x, y), np.repeat(np.linalg.eigvalsh(xt.T @ xt / 40)[::-1], 3) + 0.02


def logistic_regression():
    """H = mean s (1 - s) (x, 1)(x, 1)^T (x) [[1, -1], [-1, 1]] + decay: twice the eigenvalues of the first factor, and zeros."""
    mlp, theta, x, y = problem((5, 2), "relu", "cross_entropy", n=40)
    xt, w = np.c_[x, np.ones(40)], theta.reshape(6, 2)
    s = 1.0 / (1.0 + np.exp(-xt @ (w[:, 0] - w[:, 1])))
    half = np.linalg.eigvalsh((xt * (s * (1 - s))[:, None]).T @ xt / 40)[::-1]
    return (mlp, theta, x, y), np.r_[2.0 * half, np.zeros(6)] + 0.02


@pytest.mark.parametrize("problem_and_spectrum", [linear_regression, logistic_regression])
def test_closed_forms(monkeypatch, problem_and_spectrum):
    """Eigenpairs made densely and by Lanczos, exact and Hutchinson's trace, and moments of the density, of known spectra."""
    where, eigenvalues = problem_and_spectrum()
    dim = len(eigenvalues)
    for dense_up_to in (2000, 0):
        monkeypatch.setattr(spectrum, "DENSE_UP_TO", dense_up_to)
        found = nets.top_eigenpairs(*where, k=2)
        np.testing.assert_allclose(found.values, eigenvalues[:2], rtol=1e-9)
        np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(2), rtol=0, atol=1e-9)
        assert (found.products == 0) == (dense_up_to > 0) and found.residuals.max() < 1e-5
    assert nets.trace(*where).value == pytest.approx(eigenvalues.sum(), rel=1e-13)
    estimate = nets.trace(*where, probes=400)
    assert abs(estimate.value - eigenvalues.sum()) < 4 * estimate.stderr < 0.2 * eigenvalues.sum()
    # as many steps as different eigenvalues: every quadrature is exact, and the probes scatter around the truth
    density = nets.spectral_density(*where, probes=400, steps=dim)
    for power in (1, 2, 5):
        moment = density.mean(lambda nodes, power=power: nodes**power)
        assert abs(moment.value - np.mean(eigenvalues**power)) < 4 * moment.stderr


# ---- eigenpairs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "matrix, which",  # the smallest eigenvalues of the covariance are zeros: no direction is distinguished
    [
        ("hessian", "largest"),
        ("hessian", "smallest"),
        ("hessian", "magnitude"),
        ("covariance", "largest"),
        ("covariance", "magnitude"),
    ],
)
def test_lanczos_agrees_with_the_matrix(monkeypatch, matrix, which):
    mlp, theta, x, y = problem((5, 6, 4, 7, 3), "tanh", "cross_entropy", n=150)
    whole = (nets.hessian if matrix == "hessian" else nets.gradient_covariance)(mlp, theta, x, y, block=("W2", "b3", "W3"))
    values = np.linalg.eigvalsh(whole)
    order = {"largest": np.argsort(-values), "smallest": np.argsort(values), "magnitude": np.argsort(-np.abs(values))}[which]
    results = []
    for dense_up_to in (2000, 0):
        monkeypatch.setattr(spectrum, "DENSE_UP_TO", dense_up_to)
        found = nets.top_eigenpairs(mlp, theta, x, y, k=6, block=("W2", "b3", "W3"), matrix=matrix, which=which, tol=1e-10)
        np.testing.assert_allclose(found.values, values[order[:6]], rtol=1e-8, atol=1e-12)
        residual = np.linalg.norm(whole @ found.vectors - found.vectors * found.values, axis=0)
        np.testing.assert_allclose(found.residuals, residual, rtol=0, atol=1e-12)
        assert (np.abs(found.values - values[order[:6]]) <= found.residuals + 1e-13).all()
        assert (found.vectors[np.abs(found.vectors).argmax(axis=0), np.arange(6)] > 0).all()
        results.append(found)
    np.testing.assert_allclose(np.abs(np.sum(results[0].vectors * results[1].vectors, axis=0)), 1.0, rtol=0, atol=1e-6)


def test_the_zeros_of_the_covariance_are_no_task_for_lanczos(monkeypatch):
    """17 gradients in 79 directions: 63 zeros, of which Lanczos finds one or two, and then values that are not the smallest."""
    where = problem((5, 6, 4, 3), "tanh", "cross_entropy")
    assert np.abs(nets.top_eigenpairs(*where, k=5, matrix="covariance", which="smallest").values).max() < 1e-15
    monkeypatch.setattr(spectrum, "DENSE_UP_TO", 0)
    with pytest.raises(ValueError, match="covariance of 17 gradients in 79 directions are zeros or crowd at zero"):
        nets.top_eigenpairs(*where, k=5, matrix="covariance", which="smallest")


def test_lanczos_that_does_not_converge(monkeypatch):
    monkeypatch.setattr(spectrum, "DENSE_UP_TO", 0)
    monkeypatch.setattr("nets._lanczos.MOST", 0)  # ends at the first look, after as many products as pairs are asked for
    with pytest.raises(FpsolveError, match=r"found [0-2] of 3 eigenpairs to tol=1e-06 in 3 products"):
        nets.top_eigenpairs(*problem((5, 6, 4, 3), "tanh", "mse", soft=True), k=3)


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_lanczos_through_restarts_and_repeated_eigenvalues(which):
    """A known matrix of 400 rows: 3 pairs from a basis of 32 need restarts; a double eigenvalue and a null space are met."""
    from nets._lanczos import ORDERS, lanczos

    rng = np.random.default_rng(3)
    q = np.linalg.qr(rng.standard_normal((400, 400)))[0]
    values = np.r_[np.linspace(-1.0, 1.0, 396), 1.3, 1.3, -1.4, 1.1]
    matrix = (q * values) @ q.T
    found, vectors, residuals, converged = lanczos(lambda v: matrix @ v, 400, 3, which, 1e-9, 0)
    assert converged
    exact = values[np.argsort(ORDERS[which](values), kind="stable")]
    np.testing.assert_allclose(np.linalg.norm(matrix @ vectors - vectors * found, axis=0), residuals, atol=1e-13)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    # of a repeated eigenvalue rounding brings the second copy in later: each pair is one of the matrix, and the first is the first
    assert found[0] == pytest.approx(exact[0], abs=1e-9)
    assert np.abs(found[:, None] - values).min(axis=1).max() < 1e-9
    # a matrix of rank two: the space of the start is exhausted after three steps
    low = q[:, :2] @ np.diag([2.0, -3.0]) @ q[:, :2].T
    found, vectors, residuals, converged = lanczos(lambda v: low @ v, 400, 6, which, 1e-9, 0)
    exact = np.r_[2.0, -3.0, np.zeros(398)]
    assert converged and residuals.max() < 1e-13
    np.testing.assert_allclose(found, exact[np.argsort(ORDERS[which](exact), kind="stable")][:6], atol=1e-13)


# ---- density and trace --------------------------------------------------------------------------------------------------


def test_each_probe_is_a_gauss_rule():
    """Moments up to 2 steps - 1 = 13 of each probe equal v^T A^j v with the matrix; a degree more does not."""
    where = problem((5, 6, 4, 3), "tanh", "cross_entropy", n=60)
    a = nets.hessian(*where)
    found = nets.spectral_density(*where, probes=3, steps=7, seed=5)
    v = np.random.default_rng(5).choice([-1.0, 1.0], (3, len(a))) / math.sqrt(len(a))
    scale = np.abs(np.linalg.eigvalsh(a)).max()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, rtol=1e-13)
    for j in range(15):
        exact = np.einsum("ki,ij,kj->k", v, np.linalg.matrix_power(a / scale, j), v)
        rule = np.sum(found.weights * (found.nodes / scale) ** j, axis=1)
        if j < 14:
            np.testing.assert_allclose(rule, exact, rtol=1e-10, atol=1e-13)
        else:
            assert np.abs(rule / exact - 1.0).min() > 1e-8
    coarse = np.sum(found.coarse_weights * (found.coarse_nodes / scale) ** 5, axis=1)
    np.testing.assert_allclose(coarse, np.einsum("ki,ij,kj->k", v, np.linalg.matrix_power(a / scale, 5), v), rtol=1e-10)


def test_density_of_a_known_spectrum():
    """Smoothed density and counts of a 79-weight Hessian within 4 standard errors + truncation of the exact ones at 50 points.

    60 probes; |z| < 4.5 at 50 correlated points fails for a right estimate with probability below 50 x 3e-5 (Student, 59 degrees).
    """
    where = problem((5, 6, 4, 3), "tanh", "cross_entropy", n=60)
    eigenvalues = np.linalg.eigvalsh(nets.hessian(*where))
    found = nets.spectral_density(*where, probes=60, steps=60)
    low, high = found.range
    assert eigenvalues[0] - 1e-9 <= low and high <= eigenvalues[-1] + 1e-9 and high > 0.99 * eigenvalues[-1]
    at, width = np.linspace(low, high, 50), (high - low) / 40
    value, stderr, truncation = found.density(at, width)
    exact = np.exp(-0.5 * ((at - eigenvalues[:, None]) / width) ** 2).mean(axis=0) / (math.sqrt(2 * math.pi) * width)
    assert (np.abs(value - exact) <= 4.5 * stderr + truncation + 1e-12).all()
    assert stderr.max() < 0.1 * exact.max() and truncation.max() < 0.1 * exact.max()  # so the bands above mean something
    share, error = found.cumulative([0.5 * eigenvalues[-1]])
    assert abs(share[0] - np.mean(eigenvalues <= 0.5 * eigenvalues[-1])) < 4 * error[0] < 0.05


def test_errors_cover(monkeypatch):
    """Hutchinson's 2-sigma interval and that of the quadrature hold the truth in about 95 % of 200 seeds (band: 4 sigma)."""
    where = problem((5, 3), "tanh", "cross_entropy", n=60)
    exact = nets.trace(*where).value
    hits = np.zeros(2)
    for seed in range(200):
        estimate = nets.trace(*where, probes=30, seed=seed)
        density = nets.spectral_density(*where, probes=30, steps=2, seed=seed).mean(lambda nodes: nodes)
        hits += abs(estimate.value - exact) < 2.045 * estimate.stderr, abs(18 * density.value - exact) < 2.045 * 18 * density.stderr
    assert (np.abs(hits / 200 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 200)).all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", BLOCKS)
def test_exact_trace(case, block):
    mlp, theta, x, y = problem(*case)
    block = blocks_of(mlp, block)
    for matrix, make in (("hessian", nets.hessian), ("covariance", nets.gradient_covariance)):
        exact = nets.trace(mlp, theta, x, y, block=block, matrix=matrix)
        whole = make(mlp, theta, x, y, block=block)
        assert exact.value == pytest.approx(np.trace(whole), rel=1e-12, abs=1e-14) and not exact.stderr


def test_exhausted_probes():
    """More steps than different eigenvalues: the quadrature of the invariant subspace holds all, and nothing is invented."""
    where, eigenvalues = linear_regression()
    found = nets.spectral_density(*where, probes=3, steps=18)
    heavy = found.nodes[found.weights > 1e-9]
    assert np.abs(heavy[:, None] - eigenvalues).min(axis=1).max() < 1e-7
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, rtol=1e-12)


def test_memory_does_not_grow_with_the_samples(monkeypatch):
    """Peaks of NumPy's allocations for 3 000 and 12 000 samples, nothing kept, differ by less than a tenth of the inputs."""
    monkeypatch.setattr(products, "CACHE_NUMBERS", 0)
    monkeypatch.setattr("nets.mlp.CHUNK_NUMBERS", 100_000)
    monkeypatch.setattr("nets.curvature.CHUNK_NUMBERS", 100_000)
    mlp = nets.MLP((64, 12, 10), activation="tanh")
    theta, rng, peaks = mlp.init(0), np.random.default_rng(0), []
    for n in (3000, 12_000):
        x, t = rng.random((n, 64)), np.eye(10)[rng.integers(0, 10, n)]
        tracemalloc.start()
        nets.spectral_density(mlp, theta, x, t, probes=2, steps=3)
        nets.covariance_vector_product(mlp, theta, x, t, np.ones(mlp.dim))
        nets.trace(mlp, theta, x, t)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 9000 * 64 * 8 / 10


def test_repeats_to_the_bit():
    where = problem((5, 6, 4, 3), "tanh", "cross_entropy", n=60)
    a, b = (nets.spectral_density(*where, probes=3, steps=9, seed=4) for _ in range(2))
    assert np.array_equal(a.nodes, b.nodes) and np.array_equal(a.weights, b.weights)


# ---- files, pictures, PyTorch -------------------------------------------------------------------------------------------


def test_saved_and_drawn(tmp_path):
    where = problem((5, 6, 4, 3), "tanh", "cross_entropy", n=60)
    pairs, density = nets.top_eigenpairs(*where, k=4), nets.spectral_density(*where, probes=3, steps=9)
    for result in (pairs, density):
        result.save(tmp_path / "result.h5")
        back = nets.load(tmp_path / "result.h5")
        assert repr(back) == repr(result)
        for name in result.DESCRIBE:
            assert np.array_equal(getattr(back, name), getattr(result, name)), name
        with pytest.raises(FileExistsError):
            result.save(tmp_path / "result.h5", overwrite=False)
        _, ax = plt.subplots()
        assert result.plot(ax=ax) is ax and "eigenvalue" in ax.get_xlabel() + ax.get_ylabel()
        plt.close("all")
    import fpsolve as fps

    fps.save(tmp_path / "other.h5", {"a": 1})
    with pytest.raises(ValueError, match="holds 'no result'"):
        nets.load(tmp_path / "other.h5")


def test_against_pytorch():
    """Gradient, Hessian-vector product, per-sample covariance and Hessian of a tanh net by automatic differentiation."""
    torch = pytest.importorskip("torch")
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy")

    def loss(flat, inputs, labels):
        a = inputs
        for k in range(1, mlp.n_layers + 1):
            w = flat[mlp.blocks[f"W{k}"]].reshape(mlp.widths[k - 1], mlp.widths[k])
            a = a @ w + flat[mlp.blocks[f"b{k}"]]
            a = torch.tanh(a) if k < mlp.n_layers else a
        return torch.nn.functional.cross_entropy(a, labels) + 0.01 * (flat @ flat)

    flat, inputs, labels = torch.tensor(theta, requires_grad=True), torch.tensor(x), torch.tensor(y)
    (gradient,) = torch.autograd.grad(loss(flat, inputs, labels), flat)
    np.testing.assert_allclose(mlp.gradient(theta, x, y), gradient.numpy(), rtol=0, atol=1e-12)
    whole = torch.autograd.functional.hessian(lambda f: loss(f, inputs, labels), flat).numpy()
    np.testing.assert_allclose(nets.hessian(mlp, theta, x, y), whole, rtol=0, atol=1e-12)
    v = np.random.default_rng(0).standard_normal(mlp.dim)
    np.testing.assert_allclose(nets.hessian_vector_product(mlp, theta, x, y, v), whole @ v, rtol=0, atol=1e-12)
    each = [torch.autograd.grad(loss(flat, inputs[i : i + 1], labels[i : i + 1]), flat)[0].numpy() for i in range(len(x))]
    np.testing.assert_allclose(nets.gradient_covariance(mlp, theta, x, y), np.cov(np.array(each).T, bias=True), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda *w: nets.top_eigenpairs(*w, k=0), r"k must lie in 1 \.\. 79"),
        (lambda *w: nets.top_eigenpairs(*w, k=80), r"k must lie in 1 \.\. 79"),
        (lambda *w: nets.top_eigenpairs(*w, which="LA"), "which must be one of"),
        (lambda *w: nets.top_eigenpairs(*w, tol=0.0), "tol must be"),
        (lambda *w: nets.top_eigenpairs(*w, matrix="fisher"), "matrix must be one of"),
        (lambda *w: nets.spectral_density(*w, probes=0), "probes must be a positive"),
        (lambda *w: nets.spectral_density(*w, steps=2.5), "steps must be a positive"),
        (lambda *w: nets.trace(*w, probes=1), "probes must be an integer >= 2"),
        (lambda *w: nets.trace(*w, block="W9"), "out of"),
        (lambda *w: nets.spectral_density(*w, probes=2, steps=3).density([0.0], 0.0), "width must be"),
        (lambda *w: nets.covariance_vector_product(*w, np.ones(3)), r"shape \(79,\) or \(k, 79\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*problem((5, 6, 4, 3), "tanh", "mse"))
