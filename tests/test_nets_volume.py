"""Measures of low-loss sets: closed forms of balls, ellipsoids, slabs, shells, sheared balls, separate wells; direct sampling."""

import math

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi2, ncx2, norm

import fpsolve as fps
import nets
from fpsolve import FpsolveError
from nets import _ladder, _quadratic
from nets._losses import loss_of_landscape, network_loss

SPECTRUM = np.logspace(-4, 2, 20)


def bowl(values, seed=0):
    """A quadratic landscape with these eigenvalues, turned at random, and its Hessian."""
    n = len(values)
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    h = (q * values) @ q.T
    h = 0.5 * (h + h.T)
    return fps.Potential.from_arrays(lambda x: 0.5 * np.einsum("ni,ij,nj->n", x, h, x), lambda x: x @ h, dim=n), h


def shell(dim=5, radius=3.0):
    def value(x):
        return 0.5 * (np.linalg.norm(x, axis=1) - radius) ** 2

    def gradient(x):
        r = np.linalg.norm(x, axis=1)[:, None]
        return (r - radius) * x / r

    at = np.eye(dim)[0] * radius
    return fps.Potential.from_arrays(value, gradient, dim=dim), at, np.diag(np.eye(dim)[0])


def banana(bend=0.7, stiff=50.0):
    """A ball sheared by a map of unit Jacobian: y -> y - bend x^2 in two planes."""

    def value(x):
        u, v = x[:, :2], x[:, 2:] - bend * x[:, :2] ** 2
        return 0.5 * (u**2).sum(axis=1) + 0.5 * stiff * (v**2).sum(axis=1)

    def gradient(x):
        v = stiff * (x[:, 2:] - bend * x[:, :2] ** 2)
        return np.concatenate([x[:, :2] - 2.0 * bend * x[:, :2] * v, v], axis=1)

    return fps.Potential.from_arrays(value, gradient, dim=4), np.diag([1.0, 1.0, stiff, stiff])


# ---- quadratic bowls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 7, 160])
@pytest.mark.parametrize("rise", [1e-3, 0.5, 30.0])
def test_measure_of_a_ball(k, rise):
    got = _quadratic.log_sublevel(np.full(k, 3.0), np.zeros(k), 0.7, rise)
    mpmath.mp.dps = 30
    exact = mpmath.log(mpmath.gammainc(mpmath.mpf(k) / 2, 0, mpmath.mpf(rise) / (3 * mpmath.mpf(0.7) ** 2), regularized=True))
    assert got == pytest.approx(float(exact), abs=1e-9)


@pytest.mark.parametrize("k", [1, 6])
def test_measure_of_a_ball_off_centre(k):
    """{g.d + d^2/2 <= e} is a ball around -g: noncentral chi-squared."""
    g = np.linspace(0.2, 0.9, k)
    got = _quadratic.log_sublevel(np.ones(k), g, 0.5, 0.4)
    assert got == pytest.approx(math.log(ncx2(k, g @ g / 0.25).cdf((0.8 + g @ g) / 0.25)), abs=1e-8)


@pytest.mark.parametrize("rise", [1e-6, 1e-2, 10.0])
def test_measure_of_an_ellipsoid(rise):
    """Each eigenvalue twice: a sum of exponentials with closed distribution; flat directions do not count. Condition number 1e6."""
    mpmath.mp.dps = 120
    lam = [mpmath.mpf(10) ** (mpmath.mpf(i) * 6 / 9 - 4) for i in range(10)]
    parts = [mpmath.fprod(a / (a - b) for b in lam if b != a) * (1 - mpmath.exp(-rise / a)) for a in lam]
    values = np.array([float(a) for a in lam for _ in range(2)] + [0.0] * 7)
    assert _quadratic.log_sublevel(values, np.zeros(27), 1.0, rise) == pytest.approx(
        float(mpmath.log(mpmath.fsum(parts))), abs=1e-9
    )


def test_volume_of_an_ellipsoid():
    values = np.array([1.0, 4.0, 25.0])
    exact = math.log(4.0 * math.pi / 3.0 * 0.6**1.5 * 2.0**1.5 / 10.0)
    assert _quadratic.log_sublevel(values, np.zeros(3), math.inf, 0.6) == pytest.approx(exact, abs=1e-12)


def test_boltzmann_integrals():
    value, slope, s, beta = 2.0, 0.3, 0.6, 5.0
    exact = quad(lambda d: math.exp(-beta * (slope * d + value * d * d / 2)) * norm.pdf(d, scale=s), -6, 6, epsabs=1e-13)[0]
    bowl_ = np.array([value]), np.array([slope])
    assert _quadratic.log_boltzmann(*bowl_, s, beta) == pytest.approx(math.log(exact), abs=1e-10)
    exact = quad(lambda d: math.exp(-beta * (slope * d + value * d * d / 2)), -8, 8, epsabs=1e-13)[0]
    assert _quadratic.log_boltzmann(np.array([value]), np.array([slope]), math.inf, beta) == pytest.approx(
        math.log(exact), abs=1e-10
    )


def test_matched_temperature():
    """Mean and spread of a bowl's energy: k/(2 beta), sqrt(k/2)/beta where the width does not matter."""
    beta = _quadratic.matched_beta(np.full(8, 3.0), math.inf, 0.5)
    assert beta == pytest.approx((4.0 + 2.0) / 0.5)
    assert _quadratic.matched_beta(np.full(2, 1e-9), 1.0, 0.5) == 1.0


# ---- parts of the ladder ------------------------------------------------------------------------------------------------


def family(level=math.inf, dim=4):
    potential, h = banana()
    values, vectors = np.linalg.eigh(h)
    evaluate, (theta,) = loss_of_landscape(potential, theta=np.zeros(dim))
    return _ladder.Family(evaluate, theta, 0.0, 3.0, level, values[2:], vectors[:, 2:])


def test_slope_of_the_energy():
    f, x = family(), np.random.default_rng(0).standard_normal((3, 4))
    widths = np.array([0.5, 1.0, 2.0])
    slope, step = f.energy(x, widths)[1], 1e-5
    for i in range(4):
        e = step * np.eye(4)[i]
        rise = (f.energy(x + e, widths)[0] - f.energy(x - e, widths)[0]) / (2.0 * step)
        np.testing.assert_allclose(slope[:, i], rise, atol=1e-6 * np.abs(slope).max())


def test_recast_keeps_displacement_slope_and_measure():
    f, x = family(), np.random.default_rng(0).standard_normal((3, 4))
    a, b = np.array([0.5, 1.0, 2.0]), np.array([0.7, 0.4, 2.0])
    new, slope, work = f.recast(x, f.energy(x, a)[1], a, b)
    np.testing.assert_allclose(f.place(new, b), f.place(x, a), atol=1e-14)
    np.testing.assert_allclose(slope, f.energy(new, b)[1], atol=1e-11)
    for i in range(3):  # the matrices themselves
        ma, mb = (np.array([f.place(row[None], w[i : i + 1])[0] for row in np.eye(4)]) for w in (a, b))
        jacobian = np.linalg.slogdet(ma)[1] - np.linalg.slogdet(mb)[1]
        assert work[i] == pytest.approx(0.5 * (new[i] @ new[i] - x[i] @ x[i]) - jacobian, abs=1e-12)


def test_trajectories_are_reversible():
    """Back with the velocity turned round: the same point; a walker that meets the wall stays."""
    f, rng = family(), np.random.default_rng(3)
    x, v, widths, angle, leaps = (
        rng.standard_normal((5, 4)),
        rng.standard_normal((5, 4)),
        np.full(5, 0.5),
        np.full(5, 0.1),
        np.full(5, 7),
    )
    y = x.copy()
    phi, slope = f.energy(y, widths)
    _ladder.trajectory(f, y, phi, slope, widths, angle, leaps, v, np.full(5, 1e-300))
    np.testing.assert_allclose(phi, f.energy(y, widths)[0], atol=1e-12)
    # the velocity at the end, from the first trajectory written out
    z, w, g = x.copy(), v.copy(), f.energy(x, widths)[1]
    for _ in range(7):
        w -= 0.05 * g
        z, w = np.cos(0.1) * z + np.sin(0.1) * w, np.cos(0.1) * w - np.sin(0.1) * z
        g = f.energy(z, widths)[1]
        w -= 0.05 * g
    np.testing.assert_allclose(y, z, atol=1e-12)
    _ladder.trajectory(f, y, phi, slope, widths, angle, leaps, -w, np.full(5, 1e-300))
    np.testing.assert_allclose(y, x, atol=1e-11)
    walled = family(level=0.02)
    still = np.zeros((5, 4))
    phi, slope = walled.energy(still, widths)
    assert not _ladder.trajectory(walled, still, phi, slope, widths, np.full(5, 0.5), leaps, 9.0 * v, np.full(5, 1e-300)).any()
    assert not still.any()


def test_bennett():
    """Gaussian works with a known ratio, three standard errors and more (false alarm 6e-5); walls on one side."""
    rng, sigma, true = np.random.default_rng(0), 1.5, 2.0
    answers = [
        _ladder.bennett(
            -true + sigma**2 / 2 + sigma * rng.standard_normal(400), true + sigma**2 / 2 + sigma * rng.standard_normal(400)
        )
        for _ in range(40)
    ]
    assert abs(np.mean(answers) - true) < 4.0 * np.std(answers) / math.sqrt(39)
    # a target of one half of the other: works 0 and inf in one half each, 0 back
    assert _ladder.bennett(np.array([0.0, np.inf] * 50), np.zeros(100)) == pytest.approx(math.log(0.5), abs=1e-9)
    with pytest.raises(FpsolveError, match="do not overlap"):
        _ladder.bennett(np.full(3, np.inf), np.zeros(3))


# ---- measures -----------------------------------------------------------------------------------------------------------


def test_bowls_cost_no_sampling_error():
    potential, h = bowl(np.concatenate([SPECTRUM, np.zeros(20)]))
    v = nets.landscape_volume(potential, np.zeros(40), h, beta=1e4, width=1.0, sweeps=10, seed=0)
    exact = -0.5 * np.log1p(1e4 * SPECTRUM).sum()
    assert v.log_measure.value == pytest.approx(exact, abs=1e-7) and v.model[-1] == pytest.approx(exact, abs=1e-9)
    assert v.anharmonic.stderr < 1e-8 and v.acceptance.min() > 0.999


def close(v, exact, most):
    """Within four standard errors (false alarm below 1 % with 7 degrees of freedom), which are small enough to mean something."""
    e = v.log_measure
    assert 0.0 < e.stderr < most
    assert abs(e.value - exact) < 4.0 * e.stderr, (e, exact)


def test_ellipsoid_of_large_condition_number():
    potential, h = bowl(np.concatenate([SPECTRUM, np.zeros(20)]))
    v = nets.landscape_volume(potential, np.zeros(40), h, level=1e-3, width=1.0, seed=0, sweeps=30)
    close(v, v.model[-1], 0.4)
    wrong = nets.landscape_volume(potential, np.zeros(40), 1.5 * h, level=1e-3, width=1.0, seed=0, sweeps=20)  # the same answer
    close(wrong, v.model[-1], 0.5)


def test_slab():
    potential, h = bowl(np.array([4.0, 0.0, 0.0]), seed=2)
    v = nets.landscape_volume(potential, np.zeros(3), h, level=0.02, width=1.0, seed=1)
    close(v, math.log(2.0 * norm.cdf(0.1) - 1.0), 0.2)


def test_volume_of_a_sheared_ball():
    potential, h = banana()
    v = nets.landscape_volume(potential, np.zeros(4), h, level=0.5, width=math.inf, seed=0)
    exact = math.log(0.5 * math.pi**2 * 1.0 / 50.0)  # pi^2/2 R^4 with R^2 = 1, half-axes 1, 1, 50^-1/2 twice
    close(v, exact, 0.3)
    assert v.model[-1] == pytest.approx(exact, abs=1e-12)  # Lebesgue: shearing keeps it, and so does the quadratic bowl


def test_boltzmann_factor_of_a_shell():
    potential, at, h = shell()
    v = nets.landscape_volume(potential, at, h, beta=240.0, width=0.3, seed=5)
    density = ncx2(5, 100.0).pdf
    exact = quad(lambda r: density((r / 0.3) ** 2) * 2.0 * r / 0.09 * math.exp(-120.0 * (r - 3.0) ** 2), 2.0, 4.0, points=[3.0])[0]
    close(v, math.log(exact), 0.1)


def shell_measure(width, radius=3.0, half=0.1, dim=5):
    far = ncx2(dim, (radius / width) ** 2).cdf
    return math.log(far(((radius + half) / width) ** 2) - far(((radius - half) / width) ** 2))


def well(x):
    return (x[:, 0] ** 2 - 1.0) ** 2 / 4.0


def test_only_the_connected_part_counts():
    """Two wells below one level within the Gaussian's reach: that of theta alone; the Boltzmann factor may find both."""
    potential = fps.Potential.from_arrays(well, lambda x: np.column_stack([x[:, 0] ** 3 - x[:, 0], 0.0 * x[:, 1]]), dim=2)
    v = nets.landscape_volume(potential, [-1.0, 0.0], np.diag([2.0, 0.0]), level=0.04, width=1.0, seed=0, sweeps=120)
    near, far = math.sqrt(1.0 - 0.4), math.sqrt(1.0 + 0.4)
    close(v, math.log(norm.cdf(1.0 - near) - norm.cdf(1.0 - far)), 0.2)


@pytest.mark.parametrize(
    "name", ["ellipsoid", pytest.param("shell", marks=pytest.mark.slow), pytest.param("banana", marks=pytest.mark.slow)]
)
def test_coverage(name):
    """At least 45 of 50 intervals of 95 % hold the truth; exact intervals fail that with probability 4 %. Seeds 0 .. 49."""
    if name == "ellipsoid":
        potential, h = bowl(np.array([1.0, 10.0, 1e3, 1e6, 0.0, 0.0]))
        at, settings = np.zeros(6), {"level": 0.5, "width": 1.0, "sweeps": 16}
    elif name == "shell":
        (potential, at, h), settings = shell(), {"level": 0.005, "width": 0.3}
    else:
        potential, h = banana()
        at, settings = np.zeros(4), {"level": 0.5, "width": math.inf}
    held = []
    for seed in range(50):
        v = nets.landscape_volume(potential, at, h, seed=seed, **settings)
        low, high = v.log_measure.interval
        exact = shell_measure(0.3) if name == "shell" else v.model[-1]
        held.append(low <= exact <= high)
    assert sum(held) >= 45


def stiffening_ball(dim=6):
    """L = r^2/2 + r^4: a ball, far inside that of the bowl."""

    def value(x):
        r2 = (x**2).sum(axis=1)
        return 0.5 * r2 + r2**2

    potential = fps.Potential.from_arrays(value, lambda x: x * (1.0 + 4.0 * (x**2).sum(axis=1))[:, None], dim=dim)
    inner = (math.sqrt(1.0 + 16.0 * 2.0) - 1.0) / 4.0  # r^2 at the level 2
    return potential, np.zeros(dim), np.eye(dim), chi2(dim).logcdf(inner)


def hyperbola(level=0.02, width=0.7):
    """L = (x y - 1)^2/2, two factors with one product, and a flat direction: the part around (1, 1), by quadrature in x."""

    def value(x):
        return 0.5 * (x[:, 0] * x[:, 1] - 1.0) ** 2

    def gradient(x):
        r = x[:, 0] * x[:, 1] - 1.0
        return np.column_stack([r * x[:, 1], r * x[:, 0], 0.0 * r])

    e = math.sqrt(2.0 * level)

    def slab(x):
        low, high = (norm.cdf(((1.0 + sign * e) / x - 1.0) / width) for sign in (-1.0, 1.0))
        return norm.pdf(x, loc=1.0, scale=width) * (high - low)

    exact = math.log(quad(slab, 1e-3, 4.0, points=[0.5, 1.0], epsabs=1e-12, limit=200)[0])
    at, h = np.array([1.0, 1.0, 0.0]), np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    return fps.Potential.from_arrays(value, gradient, dim=3), at, h, exact


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stiffening ball", "hyperbola"])
def test_coverage_of_shapes_that_nothing_was_tuned_on(name):
    """As above; the typical error is smaller than what the bowl is wrong by (0.13 and 2.7, from the closed forms)."""
    potential, at, h, exact = stiffening_ball() if name == "stiffening ball" else hyperbola()
    settings = {"level": 2.0, "width": 1.0} if name == "stiffening ball" else {"level": 0.02, "width": 0.7}
    runs = [nets.landscape_volume(potential, at, h, seed=seed, **settings) for seed in range(50)]
    held = sum(v.log_measure.interval[0] <= exact <= v.log_measure.interval[1] for v in runs)
    typical = float(np.median([v.errors[-1] for v in runs]))
    assert held >= 45
    assert typical < abs(runs[0].model[-1] - exact)


def test_a_bent_valley_that_takes_too_long_is_noticed():
    """A shell of radius 3 at a width of 1 comes out low by 60 sweeps, which the halves do not tell: the replicas do, mostly.

    35 of 40 runs with other seeds: of 4 at least 2, but for 1 time in 130. At a width of 0.3 all is well (2 of 40 not).
    """
    potential, at, h = shell()
    settings = {"level": 0.005, "seed": 0}
    wide = [nets.landscape_volume(potential, at, h, **{**settings, "width": 1.0, "seed": seed}) for seed in range(4)]
    assert sum(not v.settled for v in wide) >= 2
    assert np.mean([v.values[-1] for v in wide]) < shell_measure(1.0)
    failed = next(v for v in wide if not v.settled).log_measure
    assert "failed" in [a.status for a in failed.assumptions if a.name == "replicas reach equally far"]
    narrow = nets.landscape_volume(potential, at, h, **settings, width=0.3)
    assert narrow.settled
    assert narrow.mixing.max() < 1.2 < max(v.mixing.max() for v in wide)


# ---- networks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "loss"), [("tanh", "mse"), ("relu", "cross_entropy")])
def test_losses_and_gradients_of_many_networks(activation, loss):
    mlp, rng = nets.MLP((3, 5, 4, 2), activation=activation, loss=loss, weight_decay=0.03), np.random.default_rng(0)
    x, y, thetas = rng.standard_normal((7, 3)), rng.random((7, 2)), np.array([mlp.init(i) for i in range(4)])
    values, gradients = network_loss(mlp, x, y)(thetas)
    for theta, value, gradient in zip(thetas, values, gradients, strict=True):
        exact, slope = mlp.loss_and_gradient(theta, x, y)
        assert value == pytest.approx(exact, rel=1e-13)
        np.testing.assert_allclose(gradient, slope, atol=1e-14)


def losses_in_numpy(mlp, thetas, x, t):
    """All networks at once, layer by layer; the losses and, backwards, their gradients."""
    n, layers, at, parts = len(thetas), len(mlp.widths) - 1, 0, []
    for a, b in zip(mlp.widths[:-1], mlp.widths[1:], strict=True):
        parts.append(
            (thetas[:, at : at + a * b].reshape(n, a, b), thetas[:, at + a * b : at + a * b + b], slice(at, at + a * b + b))
        )
        at += a * b + b
    acts = [np.broadcast_to(x, (n, *x.shape))]
    for k, (w, b, _) in enumerate(parts):
        z = acts[-1] @ w + b[:, None]
        acts.append(z if k == layers - 1 else np.tanh(z) if mlp.activation == "tanh" else np.maximum(z, 0.0))
    if mlp.loss_name == "mse":
        d = acts[-1] - t
        losses = 0.5 * np.square(d).sum(axis=2).mean(axis=1)
    else:
        p = np.exp(acts[-1] - acts[-1].max(axis=2, keepdims=True))
        p /= p.sum(axis=2, keepdims=True)
        losses, d = -(t * np.log(p)).sum(axis=2).mean(axis=1), p * t.sum(axis=1)[None, :, None] - t
    losses = losses + 0.5 * mlp.weight_decay * np.square(thetas).sum(axis=1)
    d, gradients = d / len(x), np.empty_like(thetas)
    for k in range(layers - 1, -1, -1):
        w, _, place = parts[k]
        gradients[:, place] = np.concatenate([(acts[k].transpose(0, 2, 1) @ d).reshape(n, -1), d.sum(axis=1)], axis=1)
        d = (d @ w.transpose(0, 2, 1)) * (1.0 - acts[k] ** 2 if mlp.activation == "tanh" else acts[k] > 0.0)
    return losses, gradients + mlp.weight_decay * thetas


@pytest.mark.parametrize(("activation", "loss"), [("tanh", "mse"), ("relu", "cross_entropy"), ("relu", "mse")])
@pytest.mark.parametrize("sizes", [(3, 5, 4, 2), (2, 40, 2)])
def test_losses_and_gradients_by_matrix_products(activation, loss, sizes):
    """The kernel of many networks against batched NumPy, 4 eps for each sum's length."""
    mlp, rng = nets.MLP(sizes, activation=activation, loss=loss, weight_decay=0.03), np.random.default_rng(1)
    x, y = rng.standard_normal((11, sizes[0])), rng.random((11, 2)) if loss == "mse" else rng.integers(0, 2, 11)
    thetas = np.array([mlp.init(i) for i in range(5)])
    exact, slopes = losses_in_numpy(mlp, thetas, x, y if loss == "mse" else np.eye(2)[y])
    values, gradients = network_loss(mlp, x, mlp.check_samples(x, y)[1])(thetas)
    np.testing.assert_allclose(values, exact, rtol=1e-13)
    np.testing.assert_allclose(gradients, slopes, rtol=1e-11, atol=1e-14)


def linear_problem():
    rng = np.random.default_rng(4)
    mlp, x = nets.MLP((3, 1), loss="mse"), rng.standard_normal((10, 3))
    y = rng.standard_normal((10, 1))
    design = np.column_stack([x, np.ones(10)])
    return mlp, np.linalg.lstsq(design, y, rcond=None)[0].ravel(), x, y, design


def test_linear_network_is_a_bowl():
    mlp, theta, x, y, design = linear_problem()
    v = nets.sublevel_volume(mlp, theta, x, y, beta=30.0, width=2.0, sweeps=10, seed=0)
    exact = -0.5 * np.log1p(30.0 * 4.0 * np.linalg.eigvalsh(design.T @ design / 10)).sum()
    assert v.log_measure.value == pytest.approx(exact, abs=1e-8)


def test_network_against_direct_sampling():
    """A small network far from quadratic: the Gaussian mean by a million independent draws."""
    rng = np.random.default_rng(2)
    mlp = nets.MLP((2, 3, 1), activation="tanh", loss="mse")
    x, theta = rng.standard_normal((8, 2)), 1.5 * mlp.init(3)
    y = mlp.outputs(theta, x)  # a minimum with loss 0
    loss = network_loss(mlp, x, y)
    for settings, weight in (
        ({"beta": 30.0}, lambda values: np.exp(-30.0 * values)),
        ({"level": 0.1}, lambda values: (values <= 0.1).astype(float)),
    ):
        v = nets.sublevel_volume(mlp, theta, x, y, width=0.6, seed=1, **settings)
        draws = np.concatenate([weight(loss(theta + 0.6 * rng.standard_normal((20_000, mlp.dim)))[0]) for _ in range(10)])
        direct, error = math.log(draws.mean()), draws.std() / draws.mean() / math.sqrt(len(draws))
        assert error < 0.02 and v.log_measure.stderr < 0.2
        assert abs(v.log_measure.value - direct) < 4.0 * math.hypot(error, v.log_measure.stderr)
        assert abs(v.model[-1] - direct) > 0.1  # the bowl is not the answer here


# ---- what comes with it -------------------------------------------------------------------------------------------------


def small(**settings):
    potential, at, h = shell()
    return nets.landscape_volume(potential, at, h, **{"beta": 50.0, "width": 0.5, "sweeps": 10, **settings})


def test_seeds_files_and_picture(tmp_path):
    v = small(seed=3)
    again, other = small(seed=3), small(seed=4)
    assert v.values[-1] == again.values[-1] and v.values[-1] != other.values[-1] and small().seed != small().seed
    v.save(tmp_path / "v.h5")
    back = nets.load(tmp_path / "v.h5")
    np.testing.assert_array_equal(back.values, v.values)
    assert back.log_measure == v.log_measure and math.isnan(back.level) and back.seed == 3
    assert v.plot().get_ylabel() == r"$\ln Z$" and small(beta=None, level=0.01, seed=0).plot().get_ylabel() == r"$\ln V$"
    assert v.replica_values.mean() == pytest.approx(v.values[-1], abs=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": None}, "either level or beta"),
        ({"level": 1.0}, "either level or beta"),
        ({"beta": -1.0}, "beta must be finite and above 0"),
        ({"beta": None, "level": 0.0}, "level must be finite and above 0"),
        ({"width": 0.0}, "width must be finite and above 0"),
        ({"width": math.inf}, "positive definite curvature: got an eigenvalue"),
        ({"replicas": 1}, "replicas must be an integer >= 2"),
        ({"sweeps": 7}, "sweeps must be an integer >= 8"),
        ({"leaps": 0}, "leaps must be a positive integer"),
        ({"seed": -1}, "seed must be None or an integer"),
        ({"beta": None, "level": True}, "level must be finite and above 0, the loss at theta: got True"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        small(**change)


def test_bad_points_and_curvatures():
    potential, at, h = shell()
    with pytest.raises(ValueError, match="theta must be finite, of shape"):
        nets.landscape_volume(potential, at[:3], h, beta=1.0, width=1.0)
    with pytest.raises(ValueError, match="curvature must be finite, of shape"):
        nets.landscape_volume(potential, at, h[:3], beta=1.0, width=1.0)
    with pytest.raises(TypeError, match="curvature must be an array of real numbers, got str"):
        nets.landscape_volume(potential, at, "h", beta=1.0, width=1.0)
    with pytest.raises(TypeError, match="theta must be an array of real numbers"):
        nets.landscape_volume(potential, at + 1j, h, beta=1.0, width=1.0)
    for wrong in (None, lambda x: x, fps.Process(fps.potentials.double_well(2), fps.Noise.isotropic(0.1)), fps.Potential):
        with pytest.raises(TypeError, match=r"potential must be a fpsolve\.Potential: got"):
            nets.landscape_volume(wrong, at, h, beta=1.0, width=1.0)
    with pytest.raises(TypeError, match=r"mlp must be a nets\.MLP"):
        nets.sublevel_volume(None, at, at, at, beta=1.0, width=1.0)
    with pytest.raises(TypeError, match="progress must be True or False: got 'no'"):
        small(progress="no")
    with pytest.raises(ValueError, match="curvature must be symmetric"):
        nets.landscape_volume(potential, at, h + np.triu(np.ones((5, 5)), 1), beta=1.0, width=1.0)
    hole = fps.Potential.from_arrays(lambda x: np.where(x[:, 0] == 0.0, 0.0, np.nan), lambda x: 0.0 * x, dim=2)
    with pytest.raises(FpsolveError, match="not quadratic around theta"):
        nets.landscape_volume(hole, np.zeros(2), np.eye(2), beta=1.0, width=1.0, seed=0)


def test_scouts_do_not_leap_into_another_part():
    """A bowl with a moat: what lies beyond the ridge is below the level too, and a hundred times as large."""
    height = 0.3

    def value(x):
        r = np.linalg.norm(x, axis=1)
        return height * np.sin(np.minimum(r, 1.0) * math.pi) ** 2

    def gradient(x):
        r = np.linalg.norm(x, axis=1)[:, None]
        slope = np.where(r < 1.0, height * math.pi * np.sin(2.0 * math.pi * r), 0.0)
        return slope * x / np.maximum(r, 1e-300)

    moat = fps.Potential.from_arrays(value, gradient, dim=3)
    v = nets.landscape_volume(moat, np.zeros(3), 2.0 * height * math.pi**2 * np.eye(3), level=0.15, width=1.0, seed=0)
    close(v, math.log(chi2(3).cdf(0.25**2)), 0.3)  # the ball of radius 1/4, of all that chi2(3).sf(0.75**2) has
