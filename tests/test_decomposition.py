"""The decomposition of linear processes: against solvers of other kinds, a sum over modes, and the Fokker-Planck engine."""

import math

import mpmath as mp
import numpy as np
import pytest

import fpsolve as fps
from fpsolve import theory


def random_case(seed, d=5):
    """A stable A that is far from symmetric, and a full D."""
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(d, d))
    return rng.normal(size=(d, d)) + 4.0 * np.eye(d), B @ B.T + 0.1 * np.eye(d)


@pytest.mark.parametrize("seed", range(5))
def test_the_decomposition_holds_to_1e_10(seed):
    A, D = random_case(seed)
    Q, S = theory.rotation(A, D), theory.ou_covariance(A, D)
    assert np.array_equal(Q, -Q.T)
    np.testing.assert_allclose((D + Q) @ np.linalg.inv(S), A, atol=1e-10 * np.abs(A).max())
    # variance times curvature of phi is one in the eigenbasis
    values, vectors = np.linalg.eigh(S)
    curvature = np.einsum("ji,jk,ki->i", vectors, np.linalg.inv(S), vectors)
    np.testing.assert_allclose(values * curvature, 1.0, atol=1e-10)


def test_rotation_vanishes_exactly_where_H_and_C_commute():
    rng = np.random.default_rng(4)
    V = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    h, c = np.array([2.0, 1.0, 0.3, 0.1, 0.02]), np.array([3.0, 0.1, 1.0, 0.5, 2.0])
    H, C = V * h @ V.T, V * c @ V.T
    lr, batch = 0.1, 20
    Q = theory.rotation(H, lr / (2 * batch) * C)
    assert np.abs(Q).max() < 1e-12
    S = theory.ou_covariance(H, lr / (2 * batch) * C)
    np.testing.assert_allclose(V.T @ S @ V, np.diag(lr * c / (2 * batch * h)), atol=1e-15)
    assert theory.entropy_production(H, C).value < 1e-12
    turned = np.roll(V, 1, axis=1) * 0.6 + V * 0.8  # not orthogonal: C no longer commutes
    assert np.abs(theory.rotation(H, lr / (2 * batch) * turned * c @ turned.T)).max() > 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_entropy_production_by_high_precision_algebra(seed):
    """<v^T D^-1 v> with S from the integral of exp(-A t) 2D exp(-A^T t), summed over the modes of A in 40 digits."""
    A, D = random_case(seed, 3)
    with mp.workdps(40):
        a, d = mp.matrix(A.tolist()), mp.matrix(D.tolist())
        eigenvalues, right = mp.eig(a)
        left = mp.inverse(right)
        inner = left * (2 * d) * left.T
        S = right * mp.matrix([[inner[i, j] / (eigenvalues[i] + eigenvalues[j]) for j in range(3)] for i in range(3)]) * right.T
        v = -a + d * mp.inverse(S)
        sigma = v.T * mp.inverse(d) * v * S
        expected = float(mp.re(sum(sigma[i, i] for i in range(3))))
    found = theory.entropy_production(A, D)
    assert found.unit == "1/time"
    assert abs(found.value / expected - 1.0) < 1e-10
    assert found.discretization_error < 1e-10 * expected


def test_entropy_production_of_the_fokker_planck_engine():
    A, D = np.array([[1.0, 0.8], [-0.6, 0.7]]), np.array([[0.3, 0.1], [0.1, 0.2]])
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
    exact = theory.entropy_production(A, D)
    errors = []
    for cells in (32, 64):
        fp = fps.FokkerPlanck(process, fps.Grid((-4, 4, cells), (-4, 4, cells)))
        errors.append(abs(fp.entropy_production().value / exact.value - 1.0))
    assert errors[1] < 0.015
    assert errors[1] < 0.4 * errors[0]  # second order, 0.25, with room


def test_the_current_is_that_of_the_rotation():
    """Mean angular momentum <x dy - y dx>/dt = 2 Q_yx of an ensemble with independent samples."""
    A, D = np.array([[1.0, 0.5], [-0.5, 1.0]]), np.eye(2)
    Q, S = theory.rotation(A, D), theory.ou_covariance(A, D)
    velocity = -A @ S  # <dx/dt x^T>, the mean forward derivative; its antisymmetric part is -Q
    np.testing.assert_allclose(0.5 * (velocity - velocity.T), -Q, atol=1e-14)
    np.testing.assert_allclose(0.5 * (velocity + velocity.T), -D, atol=1e-14)


def test_directions_without_noise():
    """D singular: a chain that hands its noise on has finite S but flows along a quiet direction, at infinite cost."""
    A = np.array([[1.0, 0.0], [-1.0, 2.0]])
    assert theory.entropy_production(A, np.diag([1.0, 0.0])).value == math.inf
    with pytest.raises(ValueError, match="singular"):
        theory.entropy_production(np.eye(2), np.diag([1.0, 0.0]))
    with pytest.raises(ValueError, match="positive real parts"):
        theory.rotation([[-1.0]], [[1.0]])
    with pytest.raises(ValueError, match="symmetric"):
        theory.rotation(np.eye(2), [[1.0, 1.0], [0.0, 1.0]])
