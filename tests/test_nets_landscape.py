"""Losses on lines, widths, minibatch minima: against the network's own loss, finite differences, closed forms of parabolas."""

import math

import numpy as np
import pytest

import nets

RNG = np.random.default_rng(5)


def linear_problem(n=60, d=4, decay=0.0):
    """Linear regression at its minimum: x, y, network, weights, Hessian of W1."""
    x, y = RNG.normal(size=(n, d)), RNG.normal(size=(n, 1))
    mlp = nets.MLP((d, 1), loss="mse", weight_decay=decay)
    full = np.column_stack([x, np.ones(n)])
    H = full.T @ full / n + decay * np.eye(d + 1)
    theta = np.linalg.solve(H, full.T @ y[:, 0] / n)
    return x, y, mlp, theta, H[:d, :d]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("block", ["W1", "W2", ("W2", "b3"), None])
def test_sections_are_the_loss_of_the_network(activation, loss, block):
    mlp = nets.MLP((5, 7, 6, 3), activation=activation, loss=loss, weight_decay=0.3)
    x, y, theta = RNG.normal(size=(2100, 5)), RNG.integers(0, 3, 2100), RNG.normal(size=mlp.dim)
    land = nets.Landscape(mlp, theta, x, y, block=block)
    p = RNG.normal(size=(land.size, 2)) / math.sqrt(land.size)
    points = np.array([[0.0, 0.0], [0.7, -0.4], [-2.0, 1.5]])
    moved = np.tile(theta, (3, 1))
    moved[:, land.index] += points @ p.T
    expected = [mlp.loss(w, x, y) for w in moved]
    plane = land.section(p)
    np.testing.assert_allclose(plane.loss(points), expected, rtol=1e-12)
    single = plane.sample_losses(points)
    np.testing.assert_allclose(single.mean(axis=1), expected, rtol=1e-12)
    np.testing.assert_allclose(single[1, :3], [mlp.loss(moved[1], x[i : i + 1], y[i : i + 1]) for i in range(3)], rtol=1e-12)
    line, batches, d = land.section(p[:, 0]), RNG.integers(0, 2100, (700, 9)), RNG.normal(size=700)
    each = np.array([theta] * 2)
    each[:, land.index] += d[[0, 699], None] * p[:, 0]
    wanted = [mlp.loss(w, x[b], y[b]) for w, b in zip(each, batches[[0, 699]], strict=True)]
    np.testing.assert_allclose(line.batch_losses(batches, d)[[0, 699]], wanted, rtol=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("block", ["W1", "b2", ("W1", "W3"), None])
def test_slopes_and_curvatures_of_samples(loss, block):
    """Against p.gradient, p.H p of the whole-network functions, and central differences off the origin (tanh: smooth)."""
    mlp = nets.MLP((5, 7, 6, 3), activation="tanh", loss=loss, weight_decay=0.2)
    x, y, theta = RNG.normal(size=(40, 5)), RNG.integers(0, 3, 40), RNG.normal(size=mlp.dim)
    land = nets.Landscape(mlp, theta, x, y, block=block)
    p = RNG.normal(size=land.size)
    p /= np.linalg.norm(p)
    line, full = land.section(p), np.zeros(mlp.dim)
    full[land.index] = p
    losses, slopes, curvatures = line.jets()
    np.testing.assert_allclose(slopes, mlp.per_sample_gradients(theta, x, y) @ full, rtol=1e-9, atol=1e-12)
    assert curvatures.mean() == pytest.approx(full @ nets.hessian_vector_product(mlp, theta, x, y, full), rel=1e-10)
    at, h = 0.3, 1e-4
    low, mid, high = line.sample_losses([at - h, at, at + h])
    losses, slopes, curvatures = line.jets(at)
    np.testing.assert_allclose(losses, mid, rtol=1e-13)
    np.testing.assert_allclose(slopes, (high - low) / (2 * h), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(curvatures, (high - 2 * mid + low) / h**2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.4])
def test_widths_of_a_parabola(decay):
    """At the minimum L = L_0 + h d^2/2: F = 2 sqrt(2 (e - 1) L_0/h), with weight decay in both."""
    x, y, mlp, theta, H = linear_problem(decay=decay)
    land = nets.Landscape(mlp, theta, x, y, block="W1")
    p = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    f = nets.flatness(land, p)
    h, base = np.diag(p.T @ H @ p), mlp.loss(theta, x, y)
    np.testing.assert_allclose(f.width, 2 * np.sqrt(2 * (math.e - 1) * base / h), rtol=1e-8)
    np.testing.assert_allclose(f.left, -f.right, rtol=1e-8)
    np.testing.assert_allclose(f.curvature, h, rtol=1e-12)
    assert f.loss == pytest.approx(base, rel=1e-14) and not f.one_sided.any()
    gradients = mlp.per_sample_gradients(theta, x, y, block="W1") @ p
    np.testing.assert_allclose(f.noise, gradients.var(axis=0), rtol=1e-12)
    np.testing.assert_allclose(nets.flatness(land, p, level=2.0).width, 2 * np.sqrt(2 * base / h), rtol=1e-8)
    np.testing.assert_allclose(nets.flatness(land, 0.1 * p).width, 10 * f.width, rtol=1e-8)


def test_off_the_minimum_the_ends_are_the_roots():
    """L = L_0 + g d + h d^2/2 with g != 0: the roots of the quadratic equation."""
    x, y, mlp, theta, H = linear_problem()
    theta = theta + 0.3
    land = nets.Landscape(mlp, theta, x, y, block="W1")
    f = nets.flatness(land, np.eye(4)[:, :1])
    g, h, base = mlp.gradient(theta, x, y)[0], H[0, 0], mlp.loss(theta, x, y)
    roots = np.sort(np.roots([h / 2, g, -(math.e - 1) * base]))
    np.testing.assert_allclose([f.left[0], f.right[0]], roots, rtol=1e-8)


def test_open_sides_are_infinite_and_far_ends_are_found():
    """One separable sample, two classes: along the weight the loss ln(1 + exp(-d)) falls for ever on one side."""
    mlp = nets.MLP((1, 2))
    x, y = np.array([[1.0]]), np.array([0])
    land = nets.Landscape(mlp, np.zeros(4), x, y, block="W1")
    f = nets.flatness(land, np.array([[1.0], [0.0]]), reach=50.0)
    assert f.right[0] == np.inf and f.one_sided[0] and f.width[0] == np.inf
    # ln(1 + exp(d)) = e ln 2
    assert f.left[0] == pytest.approx(-math.log(math.expm1(math.e * math.log(2))), rel=1e-8)
    assert nets.flatness(land, np.array([[1.0], [0.0]]), reach=1.0).left[0] == -np.inf
    flat = nets.flatness(land, np.array([[1.0], [1.0]]))  # a common shift of both outputs changes nothing
    assert flat.width[0] == np.inf and flat.curvature[0] == 0.0


def test_profiles_and_planes():
    x, y, mlp, theta, H = linear_problem()
    land = nets.Landscape(mlp, theta, x, y, block="W1")
    d, p = np.linspace(-1, 1, 21), np.eye(4)[:, :2]
    base = mlp.loss(theta, x, y)
    profiles = nets.loss_profiles(land, p, d)
    np.testing.assert_allclose(profiles.loss, base + 0.5 * np.diag(H)[:2, None] * d**2, rtol=1e-12)
    plane = nets.loss_plane(land, p, d, d[:5])
    a, b = d[:, None], d[None, :5]
    np.testing.assert_allclose(plane, base + 0.5 * (H[0, 0] * a**2 + H[1, 1] * b**2) + H[0, 1] * a * b, rtol=1e-12)


def test_minima_of_minibatches_of_a_linear_network():
    """L^mu = sum (y - x w)^2/2B on a line: minimum -g/h and curvature h of each batch, known exactly; the cap is counted."""
    x, y, mlp, theta, _ = linear_problem(n=200)
    land = nets.Landscape(mlp, theta, x, y, block="W1")
    minima = nets.minibatch_minima(land, np.eye(4)[:, 0], batch=10, cap=3.0, n=100, seed=2)
    rng = np.random.default_rng(2)
    batches = np.array([rng.choice(200, 10, replace=False) for _ in range(100)])
    h = (x[batches, 0] ** 2).mean(axis=1)
    g = np.array([mlp.gradient(theta, x[b], y[b])[0] for b in batches])
    free = np.abs(g / h) < 3.0 * (1 - 1 / 24)
    np.testing.assert_allclose(minima.curvature, h, rtol=1e-12)
    np.testing.assert_allclose(minima.slope, g, rtol=1e-10)
    np.testing.assert_allclose(minima.position[free], (-g / h)[free], atol=1e-6)
    tight = nets.minibatch_minima(land, np.eye(4)[:, 0], batch=10, cap=0.1, n=100, seed=2)
    assert (tight.capped == (np.abs(g / h) > 0.1)).mean() > 0.9 and 0 < tight.capped.sum() < 100
    assert np.abs(tight.position).max() <= 0.1 * (1 + 1e-12)


@pytest.mark.parametrize("sampling", ["replace", "shuffle"])
def test_active_temperature_is_the_exact_mean_over_minibatches(sampling):
    """All pairs of 7 samples, enumerated."""
    mlp = nets.MLP((3, 4, 2), activation="tanh")
    x, y, theta = RNG.normal(size=(7, 3)), RNG.integers(0, 2, 7), RNG.normal(size=mlp.dim)
    land = nets.Landscape(mlp, theta, x, y, block="W2")
    p = RNG.normal(size=(8, 2))
    measured = nets.active_temperature(land, p, [0.0, 0.4], lr=0.3, batch=2, sampling=sampling)
    for k, d in enumerate((0.0, 0.4)):
        moved = theta.copy()
        moved[land.index] += d * p[:, 1]
        g = mlp.per_sample_gradients(moved, x, y, block="W2") @ p[:, 1]
        pairs = [(a + b) / 2 for i, a in enumerate(g) for j, b in enumerate(g) if sampling == "replace" or i != j]
        assert measured[1, k] == pytest.approx(0.15 * np.var(pairs), rel=1e-10)


def test_bad_input_is_refused_before_any_work():
    x, y, mlp, theta, _ = linear_problem()
    land = nets.Landscape(mlp, theta, x, y, block="W1")
    with pytest.raises(ValueError, match="columns of 4 weights"):
        nets.flatness(land, np.eye(5))
    with pytest.raises(ValueError, match="finite and not zero"):
        nets.flatness(land, np.zeros((4, 1)))
    with pytest.raises(ValueError, match="level must be"):
        nets.flatness(land, np.eye(4), level=1.0)
    with pytest.raises(ValueError, match="reach must be"):
        nets.flatness(land, np.eye(4), reach=-1.0)
    with pytest.raises(ValueError, match="theta must be finite"):
        nets.Landscape(mlp, np.full(5, np.nan), x, y)
    with pytest.raises(ValueError, match="lines"):
        land.section(np.eye(4)[:, :2]).jets()
    with pytest.raises(ValueError, match="1 .. 60"):
        nets.minibatch_minima(land, np.eye(4)[:, 0], batch=61, cap=1.0)
    exact = nets.Landscape(mlp, np.zeros(5), x, np.zeros((60, 1)), block="W1")
    with pytest.raises(ValueError, match="finite and above 0, to be multiplied"):
        nets.flatness(exact, np.eye(4))
