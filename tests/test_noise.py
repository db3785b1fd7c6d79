"""Diffusion tensors: every constructor against its definition, factors against their tensor, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsolve.potentials as gallery
from fpsolve.noise import Noise
from fpsolve.process import Process

X = np.random.default_rng(5).normal(size=(30, 2))
VALLEY = gallery.degenerate_valley("1 + 2*x**2")


def spectral(H, f):
    values, vectors = np.linalg.eigh(H)
    return np.einsum("...ik,...k,...jk->...ij", vectors, f(values), vectors)


def test_hessian_noise_is_the_spectral_root():
    for floor in (0.0, 0.3):
        D = Noise.hessian(VALLEY, scale=0.05, floor=floor).diffusion(X)
        expected = 0.05 * spectral(VALLEY.hess(X), lambda v, f=floor: np.sqrt(v**2 + f**2))
        np.testing.assert_allclose(D, expected, rtol=1e-9, atol=1e-12)
    U = gallery.styblinski_tang()
    np.testing.assert_allclose(
        Noise.hessian(U, 0.1).diffusion(X[:, :1])[:, 0, 0], 0.1 * np.abs(U.hess(X[:, :1])[:, 0, 0]), rtol=1e-14
    )
    H = np.random.default_rng(0).normal(size=(6, 6))
    H = H + H.T
    D = Noise.hessian(gallery.quadratic(H), 2.0, 0.5).diffusion(np.zeros(6))
    np.testing.assert_allclose(D, 2.0 * spectral(H, lambda v: np.sqrt(v**2 + 0.25)), atol=1e-12)


def test_shifted_minima():
    noise = Noise.shifted_minima(VALLEY, sigma=0.4, lr=0.05)
    H = VALLEY.hess(X)
    np.testing.assert_allclose(noise.diffusion(X), 0.05 * 0.16 / 2 * H @ H, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(Process(VALLEY, noise).factor(X), np.sqrt(0.05) * 0.4 * H, rtol=1e-12, atol=1e-14)
    constant = Noise.shifted_minima(gallery.quadratic([[2.0, 0.5], [0.5, 1.0]]), 0.4, 0.05)
    np.testing.assert_allclose(constant.matrix, 0.05 * 0.16 / 2 * np.array([[4.25, 1.5], [1.5, 1.25]]), rtol=1e-13)


def test_covariance_constant_and_tabulated():
    C = np.array([[2.0, 0.5], [0.5, 1.0]])
    noise = Noise.covariance(C, lr=0.1, batch=20)
    np.testing.assert_allclose(noise.diffusion(X), np.broadcast_to(0.1 * C / 40, (30, 2, 2)))
    assert (noise.lr, noise.batch) == (0.1, 20)
    x, y = np.linspace(-1, 1, 5), np.linspace(0, 2, 9)
    # bilinear interpolation is exact for a tensor that is linear in each coordinate
    table = (2.0 + x[:, None, None, None] * y[None, :, None, None]) * C
    tabulated = Noise.covariance(table, lr=0.2, batch=1, axes=[x, y])
    points = np.random.default_rng(1).uniform([-1, 0], [1, 2], (50, 2))
    np.testing.assert_allclose(tabulated.diffusion(points), 0.1 * (2 + points.prod(1))[:, None, None] * C, rtol=1e-12)
    np.testing.assert_allclose(tabulated.diffusion([9.0, 9.0]), 0.1 * 4 * C, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 10**6))
def test_factor_reproduces_any_semidefinite_tensor(dim, rank, seed):
    """B B^T = 2 D also for singular D, constant (symmetric root) and varying (Cholesky with zero columns)."""
    rank = min(rank, dim)
    R = np.random.default_rng(seed).normal(size=(dim, rank))
    D = R @ R.T if rank else np.zeros((dim, dim))
    U = gallery.quadratic(np.eye(dim))
    B = Process(U, Noise.constant(D)).factor(np.zeros(dim))
    np.testing.assert_allclose(B @ B.T, 2 * D, atol=1e-12 * max(1, np.abs(D).max()))


def test_factor_of_varying_tensors():
    text = [["0.5 + x**2", "0.3*x"], ["0.3*x", "0.2 + 0.1*y**2"]]
    process = Process(VALLEY, Noise.from_expression(text, "x y"))
    B = process.factor(X)
    np.testing.assert_allclose(B @ np.swapaxes(B, -1, -2), 2 * process.diffusion(X), rtol=1e-12, atol=1e-14)
    singular = Process(VALLEY, Noise.from_expression([["x**2", "x*y"], ["x*y", "y**2"]], "x y"))
    B = singular.factor(np.vstack([X, [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]]))
    points = np.vstack([X, [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    np.testing.assert_allclose(B @ np.swapaxes(B, -1, -2), 2 * singular.diffusion(points), atol=1e-7)


def test_from_factor_shapes():
    B = np.random.default_rng(2).normal(size=(2, 3))
    for noise in (Noise.from_factor(B), Noise.from_factor(B.tolist(), variables="x y")):
        assert noise.noise_dim == 3
        np.testing.assert_allclose(noise.diffusion([0.0, 0.0]), B @ B.T / 2)

    def factor(x, p):
        return ((x[0], p[0]), (0.0, x[1]))

    noise = Noise.from_factor(factor, dim=2, params={"a": 0.5})
    expected = np.array([[2.25 / 2 + 0.125, 0.5], [0.5, 2.0]])
    np.testing.assert_allclose(noise.diffusion([1.5, 2.0]), expected)


def bad_D(x, p):
    return ((1.0, x[0]), (x[0], 1.0))


BAD = [
    (lambda: Noise.constant([[1.0, 0.2], [0.1, 1.0]]), "not symmetric"),
    (lambda: Noise.constant([[1.0, 2.0], [2.0, 1.0]]), "eigenvalue -1"),
    (lambda: Noise.constant([[1.0, np.nan], [np.nan, 1.0]]), "not finite"),
    (lambda: Noise.constant([[1.0, 2.0]]), "square"),
    (lambda: Noise.isotropic(-1.0), ">= 0"),
    (lambda: Noise.isotropic(True), ">= 0"),
    (lambda: Noise.from_expression([["1", "x"], ["0", "1"]], "x y"), "symmetric"),
    (lambda: Noise.from_expression([["1"]], "x y"), "rows"),
    (lambda: Noise.from_expression([["1", "z"], ["z", "1"]], "x y"), "undeclared"),
    (lambda: Noise.covariance([[1.0]], lr=0.0), "> 0"),
    (lambda: Noise.covariance([[1.0]], lr=0.1, batch=0), "positive integer"),
    (lambda: Noise.covariance(np.ones((3, 1, 1)), lr=0.1, axes=[[0, 1, 3]]), "equally spaced"),
    (lambda: Noise.covariance(-np.ones((2, 1, 1)), lr=0.1, axes=[[0, 1]]), "x = \\[0.\\].*eigenvalue"),
    (lambda: Noise.hessian(gallery.styblinski_tang(3), 1.0), "1-D and 2-D"),
    (lambda: Noise.from_factor(lambda x, p: x), "dim="),
    (lambda: Process(VALLEY, Noise.constant([[1.0]])), "dimension 1"),
]


@pytest.mark.parametrize("make, text", BAD)
def test_bad_input(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_indefinite_tensor_names_point_and_eigenvalue():
    process = Process(VALLEY, Noise.from_function(bad_D, 2))
    process.check_diffusion([[0.5, 0.0]])
    with pytest.raises(ValueError, match=r"x = \[3\. 0\.\].*eigenvalue -2"):
        process.check_diffusion([[0.5, 0.0], [3.0, 0.0]])
