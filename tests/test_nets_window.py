"""Windows of a run: components, correlation times, the random walk beside them, power laws, and the theory of linear modes."""

import math

import h5py
import numpy as np
import pytest
from scipy import integrate, signal

import nets

RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def regression():
    """Plain SGD on linear regression, every step recorded."""
    data, mlp = nets.load_data("teacher"), nets.MLP((8, 1), loss="mse", weight_decay=0.05)
    settle = nets.train(mlp, data, lr=0.1, batch=10, steps=2000, sampling="replace", seed=1)
    record = nets.Record(weights="W1", weights_every=1, sums=True)
    return data, nets.train(mlp, data, resume=settle, steps=8000, record=record)


def test_window_of_a_run(regression):
    data, run = regression
    window = nets.analyse_window(run, "W1")
    rows = run.weights["value"]
    np.testing.assert_allclose(window.variances, np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1], rtol=1e-8)
    theta = (rows - rows.mean(0)) @ window.directions
    t = np.arange(len(rows))
    np.testing.assert_allclose(window.trend, [np.corrcoef(t, y)[0, 1] for y in theta.T], atol=1e-9)
    np.testing.assert_allclose(window.speed, np.polyfit(t, theta, 1)[0], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(window.diffusion, (np.diff(theta, axis=0) ** 2).mean(0) / 2, rtol=1e-9)
    np.testing.assert_allclose(window.center[:8], rows.mean(0), rtol=1e-10)
    assert window.center[8] == run.mean_weights[8] and window.steps == 8000
    keep = np.r_[: 800 * 3, 800 * 4 : 8000]
    np.testing.assert_allclose(window.variances_without(3), theta[keep].var(axis=0), rtol=1e-8)
    assert window.needed(0.5) == int(np.flatnonzero(np.cumsum(window.variances[1:]) >= 0.5 * window.variances[1:].sum())[0]) + 1
    part = nets.analyse_window(run, "W1", window=(4000, 6000), n_directions=2)
    assert part.records == 2000 and part.variances.shape == (2,) and part.center[8] == run.theta[8]


def test_inverse_relation_of_a_linear_network(regression, tmp_path):
    """Everything about a quadratic loss is known: widths from p.H p, temperatures from p.C p; and it comes back from a file."""
    data, run = regression
    relation = nets.inverse_relation(run, data, block="W1")
    H = nets.hessian(run.mlp, relation.window.center, data.x_train, data.y_train, block="W1")
    C = nets.gradient_covariance(run.mlp, relation.window.center, data.x_train, data.y_train, block="W1")
    p = relation.window.directions
    np.testing.assert_allclose(relation.flatness.curvature, np.diag(p.T @ H @ p), rtol=1e-9)
    np.testing.assert_allclose(relation.temperatures, 0.005 * np.diag(p.T @ C @ p), rtol=1e-9)
    np.testing.assert_allclose(relation.budget, relation.variances / (0.1 * relation.temperatures * relation.tau), rtol=1e-12)
    # white noise, stiff directions: sigma^2 = lr T tau with tau = -1/ln(1 - lr h) and the factor (1 - lr h/2) of finite steps;
    # 8000 steps of tau ~ 10 leave 400 independent values: 7 % each, and the coarse lag another few per cent
    np.testing.assert_allclose(relation.budget, 1.0, atol=0.35)
    relation.save(tmp_path / "relation.h5")
    back = nets.load(tmp_path / "relation.h5")
    np.testing.assert_array_equal(back.flatness.width, relation.flatness.width)
    np.testing.assert_array_equal(back.window.directions, p)
    assert back.psi(1, 8).exponent == relation.psi(1, 8).exponent and back.window.sampling == "replace"
    fit = relation.psi(1, 8)
    fit.save(tmp_path / "fit.h5")
    assert str(nets.load(tmp_path / "fit.h5")) == str(fit)


def test_windows_of_other_algorithms(regression):
    data, run = regression
    record = nets.Record(weights="W1", weights_every=1)
    adam = nets.train(run.mlp, data, lr=0.01, batch=10, steps=200, optimizer="adam", record=record)
    relation = nets.inverse_relation(adam, data, block="W1")
    with pytest.raises(ValueError, match="that of SGD"):
        _ = relation.temperatures
    scheduled = nets.train(run.mlp, data, lr=lambda k: 0.1 / (1 + k), batch=10, steps=200, record=record)
    with pytest.raises(ValueError, match="constant learning rate"):
        nets.analyse_window(scheduled, "W1")


def test_bad_windows_are_refused(regression):
    data, run = regression
    with pytest.raises(ValueError, match="20 records"):
        nets.analyse_window(run, "W1", window=(2000, 2010))
    with pytest.raises(ValueError, match="1 .. 8, counted from 1"):
        nets.inverse_relation(run, data, block="W1", numbers=[0, 1])
    with pytest.raises(ValueError, match="other training data"):
        nets.inverse_relation(run, data.subset(100), block="W1")


def test_a_window_is_that_of_the_data_the_block_and_the_other_layers():
    """Other samples in the same number, another block of the same shape, layers of another time: each would give wrong widths."""
    data, mlp = nets.load_data("teacher"), nets.MLP((8, 4, 4, 4, 1), loss="mse", activation="tanh")
    record = nets.Record(weights=("W2", "W3"), weights_every=1)
    run = nets.train(mlp, data, lr=0.1, batch=10, steps=100, record=record)
    with pytest.raises(ValueError, match="the run used other training data"):
        nets.inverse_relation(run, nets.load_data("teacher", seed=1))
    with pytest.raises(ValueError, match="the window is one of block 'W3', not of 'W2': pass block='W3'"):
        nets.inverse_relation(run, data, window=nets.analyse_window(run, "W3"))
    with pytest.raises(ValueError, match="ends at step 60, the run at 100, and only 'W2' was recorded"):
        nets.inverse_relation(run, data, window=(20, 60))
    with pytest.raises(ValueError, match="window must be two steps"):
        nets.analyse_window(run, "W2", window=5)
    with pytest.raises(ValueError, match=r"at least 3 components measured in first .. last = 17 .. 20: got 0 of 1 .. 16"):
        nets.inverse_relation(run, data).psi(17, 20)
    everything = nets.train(mlp, data, lr=0.1, batch=10, steps=100, record=nets.Record(weights_every=1))
    early = nets.inverse_relation(everything, data, window=(20, 60))
    weights = everything.weights["value"][20:60].mean(axis=0)
    np.testing.assert_allclose(early.window.center, weights, rtol=1e-12, atol=1e-15)
    assert early.flatness.loss == pytest.approx(mlp.loss(weights, data.x_train, data.y_train), rel=1e-12)
    assert np.abs(early.window.center - everything.theta)[mlp.blocks["W1"]].max() > 1e-4


def test_correlation_time_of_known_series():
    """AR(1): -1/ln(phi); the window is 2e5 steps, so the biased estimate is good to 3 % (five standard errors)."""
    phi = 0.9
    y = signal.lfilter([1.0], [1.0, -phi], RNG.standard_normal(200_000))
    tau = nets.correlation_time(np.column_stack([y, np.zeros(len(y))]))
    # between two lags the exponential is replaced by its chord
    k = math.floor(-1 / math.log(phi))
    chord = k + (phi**k - math.exp(-1)) / (phi**k - phi ** (k + 1))
    assert tau[0] == pytest.approx(chord, rel=0.04) and tau[1] == math.inf


def test_null_model_is_what_a_random_walk_does():
    """1500 dimensions, 400 records: eigenvalues scatter by sqrt(2/1500) = 3.7 %; 15 % is four standard errors.

    Correlation times against quadrature of the cosine itself.
    """
    walk = nets.random_walk(400, 8)
    path = np.cumsum(RNG.standard_normal((400, 1500)), axis=0)
    parts = nets.pca(path, n_directions=8)
    np.testing.assert_allclose(parts.shares[:4], walk.shares[:4], rtol=0.15)
    assert walk.shares[0] == pytest.approx(6 / math.pi**2, rel=2e-3)
    assert parts.shares[0] == pytest.approx(walk.shares[0], rel=0.06)
    np.testing.assert_allclose(nets.correlation_time(parts.projections())[:3], walk.tau[:3], rtol=0.05)
    for k in (1, 3, 8):
        u = walk.tau[k - 1] / 400
        overlap = integrate.quad(lambda s, k=k, u=u: math.cos(math.pi * k * s) * math.cos(math.pi * k * (s + u)), 0, 1 - u)[0]
        assert 2 * overlap == pytest.approx(math.exp(-1), rel=1e-8)


def test_power_laws_and_their_intervals():
    x = np.geomspace(0.1, 10, 30)
    fit = nets.power_law(np.r_[x, np.inf, 1.0, 2.0], np.r_[3 * x**-4.2, 1.0, np.nan, -1.0])
    assert fit.exponent == pytest.approx(-4.2, rel=1e-12) and fit.prefactor == pytest.approx(3, rel=1e-12)
    assert (fit.points, fit.left_out) == (30, 3) and fit.rank == pytest.approx(-1.0)
    # Student's interval of 4 exponents covers in 95 % of 2000 cases: 0.95 +- 0.02 is four standard errors
    hits = 0
    for _ in range(2000):
        exponents = 1.0 + 0.3 * RNG.standard_normal(4)
        fits = [nets.PowerLaw(e, 1.0, 1.0, 1.0, 3, 0, (1.0, 2.0)) for e in exponents]
        low, high = nets.over_seeds(fits).interval
        hits += low <= 1.0 <= high
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)
    with pytest.raises(ValueError, match="3 finite positive pairs"):
        nets.power_law([1.0, 2.0, np.inf], [1.0, 1.0, 1.0])


# ---- linear modes -------------------------------------------------------------------------------------------------------


def covariance_of_states(h, lr, steps, epoch, past):
    """Covariance matrix of y_1 .. y_T by matrix products, the noise of `past` steps before the window included."""
    n = past + steps
    u = np.arange(n)
    weights = np.where(u[None, :] < u[:, None] + 1, (1 - lr * h) ** np.maximum(u[:, None] - u[None, :], 0), 0.0) * -lr
    noise = np.eye(n)
    if epoch > 1:
        same = u[:, None] // epoch == u[None, :] // epoch
        noise = np.where(same, -1.0 / (epoch - 1), 0.0)
        np.fill_diagonal(noise, 1.0)
    return (weights @ noise @ weights.T)[past:, past:]


@pytest.mark.parametrize("h", [0.0, 0.5, 1.3, 12.0, 18.0])
@pytest.mark.parametrize("epoch", [1, 10])
def test_window_variance_against_the_full_covariance_matrix(h, epoch):
    lr, steps = 0.1, 60
    past = 0 if h == 0.0 else 400
    cov = covariance_of_states(h, lr, steps, epoch, past)
    expected = np.trace(cov) / steps - cov.mean()
    sampling = "replace" if epoch == 1 else "shuffle"
    measured = nets.window_variance(h, 2.0, lr, steps, sampling=sampling, epoch=epoch)
    assert measured == pytest.approx(2.0 * expected, rel=1e-8)


def test_limits_of_the_window_variance():
    lr, K, T = 0.1, 50, 5000
    assert nets.window_variance(5.0, 1.0, lr, T) == pytest.approx(lr / (2 * 5.0 - lr * 25.0), rel=0.01)
    assert nets.window_variance(1e-6, 1.0, lr, T) == pytest.approx(lr**2 * T / 6, rel=1e-3)
    # zero sum over an epoch: bridges of K steps, mean square alpha^2 c (K + 1)/6, of which K/2T is the variance of the mean
    flat = nets.window_variance(1e-7, 1.0, lr, T, sampling="shuffle", epoch=K)
    assert flat == pytest.approx(lr**2 * (K + 1) / 6 * (1 - K / (2 * T)), rel=1e-5)


@pytest.mark.parametrize("sampling", ["replace", "shuffle"])
@pytest.mark.parametrize("g", [1.0, 1.5, 2.0])
def test_exponents_of_flat_and_stiff_modes(sampling, g):
    """psi = 2 g where modes are flat; 2 (g - 1) where they are stiff and the noise independent."""
    lr, K, T = 0.1, 50, 500
    h = np.geomspace(1e-4, 0.3 / (lr * (T if sampling == "replace" else K)) / 10, 40)
    fit = nets.power_law(h**-0.5, nets.window_variance(h, h**g, lr, T, sampling=sampling, epoch=K))
    assert -fit.exponent == pytest.approx(2 * g, abs=0.1)
    stiff = np.geomspace(10.0, 100.0, 10)
    fit = nets.power_law(stiff**-0.5, nets.window_variance(stiff, stiff**g, 1e-3, 100_000))
    assert -fit.exponent == pytest.approx(2 * (g - 1), abs=0.1)


def test_bad_modes_are_refused():
    for bad in (
        {"curvature": -1.0},
        {"curvature": 20.0},
        {"sampling": "epoch"},
        {"sampling": "shuffle"},
        {"sampling": "shuffle", "epoch": 7},
        {"steps": 1},
        {"lr": 0.0},
        {"noise": -1.0},
    ):
        with pytest.raises(ValueError, match=r"must|divides"):
            nets.window_variance(**{"curvature": 1.0, "noise": 1.0, "lr": 0.1, "steps": 100, **bad})


def test_every_array_of_the_results_is_described(regression, tmp_path):
    """Axes, units and a long name of every array in the files, also of results within results."""
    data, run = regression
    relation = nets.inverse_relation(run, data, block="W1")
    land = nets.Landscape(run.mlp, relation.window.center, data.x_train, data.y_train, block="W1")
    p = relation.window.directions
    constraint = nets.ldc(relation.flatness, p)
    task = nets.Data(
        (data.x_train > 0) * 1.0, (data.y_train[:, 0] > 0).astype(int), data.x_test, (data.y_test[:, 0] > 0) * 1, "s", 2
    )
    line = nets.MLP((8, 2))
    single = nets.ewc(np.ones(16))
    results = [
        relation,
        nets.random_walk(100, 5),
        nets.loss_profiles(land, p, [-0.1, 0.0, 0.1]),
        nets.minibatch_minima(land, p[:, 0], batch=10, cap=1.0, n=5),
        relation.psi(1, 8),
        nets.second_task(line, task, task, line.init(0), single, [1.0], [3], block="W1", lr=0.1, batch=10, epochs=1),
    ]
    assert constraint.strengths.shape == (8,)
    count = 0
    for k, result in enumerate(results):
        result.save(tmp_path / f"{k}.h5")
        assert type(nets.load(tmp_path / f"{k}.h5")) is type(result)
        nodes = []
        with h5py.File(tmp_path / f"{k}.h5") as file:
            file.visititems(lambda name, node, nodes=nodes: nodes.append(node) if _array(node) else None)
            assert [node.name for node in nodes if not _described(node)] == []
            count += len(nodes)
    assert count > 30


def _array(node):
    return isinstance(node, h5py.Dataset) and node.ndim > 0 and node.attrs.get("type", b"") != b"scale"


def _described(node):
    return all(node.attrs.get(name) for name in ("units", "long_name")) and len(node.attrs["dims"].split()) == node.ndim
