"""Second moments of SGD in a fluctuating landscape: enumeration of all batches, direct iteration, other formulas, SGD itself."""

import itertools
import math

import numpy as np
import pytest

import fpsolve as fps
from fpsolve import theory


def sample_losses(seed, N=3, d=2):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(N, d, d))
    return h + h.transpose(0, 2, 1) + 3.0 * np.eye(d), rng.normal(size=(N, d))


@pytest.mark.parametrize("batch", [1, 2])
def test_every_batch_that_can_be_drawn(batch):
    """All N^(B n) histories of three steps, without any formula; h and g are correlated, the mean slope is not 0."""
    h, g = sample_losses(1)
    lr, start = 0.1, np.array([0.3, -0.2])
    states = [start]
    for _ in range(3):
        drawn = itertools.product(range(len(h)), repeat=batch)
        steps = [(h[list(i)].mean(axis=0), g[list(i)].mean(axis=0)) for i in drawn]
        states = [w - lr * (a @ w + b) for w in states for a, b in steps]
    w = np.array(states)
    m, M = theory.second_moments(h, g, lr, batch, steps=3, start=start)
    np.testing.assert_allclose(m, w.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(M, w.T @ w / len(w), rtol=1e-12)


def test_stationary_moments_are_the_limit_and_a_fixed_point():
    h, g = sample_losses(2, N=6, d=3)
    m, M = theory.second_moments(h, g, 0.05, 2)
    late = theory.second_moments(h, g, 0.05, 2, steps=4000)
    np.testing.assert_allclose(m, late[0], rtol=1e-9)
    np.testing.assert_allclose(M, late[1], rtol=1e-9)
    np.testing.assert_allclose(h.mean(axis=0) @ m, -g.mean(axis=0), atol=1e-12)


def test_constant_curvature_is_the_discrete_lyapunov_equation():
    h, g = sample_losses(3, N=8, d=3)
    h[:] = h.mean(axis=0)
    g -= g.mean(axis=0)
    C = g.T @ g / len(g)
    _, M = theory.second_moments(h, g, 0.05, 4)
    np.testing.assert_allclose(M, theory.discrete_covariance(h[0], C, 0.05, 4), rtol=1e-10)


def test_the_mode_formula_is_the_tensor_in_one_dimension():
    l, v_h, v_g, lr = 0.7, 0.4, 2.0, 0.2
    pairs = list(itertools.product((-1.0, 1.0), repeat=2))  # independent signs
    h = np.array([[[l + s * math.sqrt(v_h)]] for s, _ in pairs])
    g = np.array([[s * math.sqrt(v_g)] for _, s in pairs])
    for steps in (0, 1, 7, math.inf):
        for batch in (1, 3):
            _, M = theory.second_moments(h, g, lr, batch, steps=steps)
            assert theory.mode_second_moment(l, v_g / batch, v_h / batch, lr, steps) == pytest.approx(M[0, 0], rel=1e-12)


@pytest.mark.parametrize("l, v_h", [(1.0, 0.5), (0.1, 0.5), (0.0, 0.5), (0.0, 0.0), (-0.2, 0.1), (15.0, 0.0), (21.0, 0.0)])
def test_the_closed_form_is_the_recursion(l, v_h):
    lr, v_g, start, p = 0.1, 1.0, 0.25, 0.25
    for n in range(1, 31):
        p = ((1 - lr * l) ** 2 + lr**2 * v_h) * p + lr**2 * v_g
        assert theory.mode_second_moment(l, v_g, v_h, lr, n, start=start) == pytest.approx(p, rel=1e-11)


def test_confined_diffusive_and_growing_modes():
    """The numbers of the specification, and the edges: 2 l = eta (l^2 + v_H)."""
    lr = 0.1
    limits = theory.mode_second_moment([1.0, 0.1, 0.0, 0.02], 1.0, 0.5, lr)
    np.testing.assert_allclose(limits[:2], [0.1 / (2 - 0.1 - 0.05), 0.1 / (0.2 - 0.001 - 0.05)], rtol=1e-12)
    assert np.isinf(limits[2:]).all()  # 0.02 < eta v_H/2 = 0.025: growth at positive curvature
    np.testing.assert_allclose(theory.mode_second_moment(0.0, 1.0, 0.0, lr, [400][0]), lr**2 * 400, rtol=1e-12)
    edge = lr * 0.5 / 2 * (1 + lr**2 * 0.5 / 4)  # l with 2 l = eta (l^2 + v_H), to second order
    below, above = (theory.mode_second_moment(edge * f, 1.0, 0.5, lr) for f in (0.999, 1.001))
    assert math.isinf(below) and math.isfinite(above)
    # growth: ln Pi rises by ln(1 + eta^2 v_H) per step in a flat direction
    late = theory.mode_second_moment(0.0, 1.0, 0.5, lr, np.float64(4000)), theory.mode_second_moment(0.0, 1.0, 0.5, lr, 4001)
    assert late[1] / late[0] == pytest.approx(1 + lr**2 * 0.5, rel=1e-6)
    assert theory.mode_second_moment(0.0, 0.0, 0.0, lr, start=0.3) == 0.3


def test_second_order_in_the_step_is_what_the_square_of_the_mean_step_adds():
    """The equation with D = (eta/2)(g g^T + C) has the exact second moment; that with (eta/2) C is low by about eta l/2."""
    lr, l, v_g, v_h = 0.1, 1.0, 1.0, 0.5
    grid = fps.Grid((-3.0, 3.0, 1200))
    exact = float(theory.mode_second_moment(l, v_g, v_h, lr))
    found = []
    for square in (1.0, 0.0):
        noise = fps.Noise.from_expression([[f"{lr / 2}*({v_g} + ({v_h} + {square * l * l})*x**2)"]], variables="x")
        process = fps.Process(fps.Potential.from_expression(f"{l}*x**2/2"), noise)
        found.append(theory.boltzmann(process, grid).covariance()[0, 0])
    assert found[0] == pytest.approx(exact, rel=1e-4)
    assert found[1] == pytest.approx(lr * v_g / (2 * l - lr * v_h), rel=1e-4)
    assert exact / found[1] - 1 > 0.05


def test_linear_regression_by_sgd_itself():
    """x = (x1, x2) with correlated inputs and label noise; 4 standard errors in each of 3 numbers at 8000 runs."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(40, 2)) @ np.array([[1.0, 0.4], [0.0, 0.6]])
    y = x @ [1.0, -2.0] + 0.5 * rng.normal(size=40)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    h, g = x[:, :, None] * x[:, None, :], x * (x @ best - y)[:, None]

    def gradients(w, i):
        return np.einsum("nbj,nb->nj", x[i], np.einsum("nbj,nj->nb", x[i], w) - y[i]) / i.shape[1]

    ensemble = fps.Ensemble.from_function(gradients, dim=2, size=40)
    lr, n, steps = 0.3, 8000, 60
    paths = fps.simulate(fps.SGDChain(ensemble, lr, 2), best, t=steps, n=n, seed=3)
    w = paths.final - best
    _, M = theory.second_moments(h, g, lr, 2, steps=steps)
    products = np.stack([w[:, 0] ** 2, w[:, 0] * w[:, 1], w[:, 1] ** 2])
    error = products.std(axis=1) / math.sqrt(n)
    z = (products.mean(axis=1) - [M[0, 0], M[0, 1], M[1, 1]]) / error
    assert np.abs(z).max() < 4.0
    frozen = theory.discrete_covariance(x.T @ x / 40, g.T @ g / 40, lr, 2)  # C at the minimum, no fluctuating Hessian
    assert abs(products.mean(axis=1)[0] - frozen[0, 0]) > 6 * error[0]


def test_bad_input():
    h, g = sample_losses(1)
    with pytest.raises(ValueError, match=r"\(N, d, d\)"):
        theory.second_moments(h, g[:, :1], 0.1)
    with pytest.raises(ValueError, match="symmetric"):
        theory.second_moments(h + np.array([[0.0, 1.0], [0.0, 0.0]]), g, 0.1)
    with pytest.raises(ValueError, match="grows by the factor"):
        theory.second_moments(h, g, 5.0)
    with pytest.raises(ValueError, match="at most 30"):
        theory.second_moments(np.zeros((2, 31, 31)), np.zeros((2, 31)), 0.1)
    with pytest.raises(ValueError, match="start"):
        theory.second_moments(h, g, 0.1, start=[1.0])
    with pytest.raises(ValueError, match="whole number"):
        theory.second_moments(h, g, 0.1, steps=2.5)
    with pytest.raises(ValueError, match="finite"):
        theory.second_moments(h * math.nan, g, 0.1)
    with pytest.raises(ValueError, match="hessian_noise"):
        theory.mode_second_moment(1.0, 1.0, -1.0, 0.1)
    with pytest.raises(ValueError, match="finite"):
        theory.mode_second_moment(math.inf, 1.0, 0.0, 0.1)
    with pytest.raises(ValueError, match="lr"):
        theory.mode_second_moment(1.0, 1.0, 0.0, 0.0)
