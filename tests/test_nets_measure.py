"""nets.series, stats, measure, bridge: closed forms of AR(1), Yaida's relation, the theory against a real network."""

import h5py
import numpy as np
import pytest
from scipy import signal

import fpsolve as fps
import nets


def ar1(phi, n, seed, columns=None):
    """Stationary Gaussian AR(1) with variance 1."""
    shape = n if columns is None else (n, columns)
    noise = np.random.default_rng(seed).standard_normal(shape)
    noise[1:] *= np.sqrt(1 - phi**2)
    return signal.lfilter([1.0], [1.0, -phi], noise, axis=0)


# ---- series -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.6, 0.95])
def test_autocorrelation_time_of_ar1(phi):
    """tau = (1 + phi)/(1 - phi): mean over 40 series within 4 standard errors plus 2 % of bias (the truncated sum)."""
    n = 50_000 if abs(phi) < 0.9 else 200_000
    tau = nets.integrated_autocorrelation_time(ar1(phi, n, 1, 40))
    expected = (1 + phi) / (1 - phi)
    assert tau.shape == (40,)
    assert abs(tau.mean() - expected) < 4 * tau.std() / np.sqrt(40) + 0.02 * expected
    np.testing.assert_allclose(nets.effective_sample_size(ar1(phi, n, 1)), n / max(tau[0], 1.0), rtol=0.3)


def test_autocorrelation_by_its_sum():
    x = np.random.default_rng(0).standard_normal(37)
    y = x - x.mean()
    expected = [sum(y[i] * y[i + k] for i in range(37 - k)) / (y @ y) for k in range(37)]
    np.testing.assert_allclose(nets.autocorrelation(x), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("phi", [0.0, 0.8, 0.97])
def test_errors_of_mean_and_variance_of_ar1(phi):
    """Reported errors against the closed forms, and the scatter of 400 series (its relative error is 1/sqrt(800))."""
    n, runs = 20_000, 400
    x = ar1(phi, n, 3, runs)
    estimates = [nets.variance_estimate(x[:, i]) for i in range(runs)]
    means = [nets.mean_estimate(x[:, i]) for i in range(runs)]
    for found, truth, exact in (
        (estimates, 1.0, np.sqrt(2 / n * (1 + phi**2) / (1 - phi**2))),
        (means, 0.0, np.sqrt((1 + phi) / (1 - phi) / n)),
    ):
        values, errors = np.array([e.value for e in found]), np.array([e.stderr for e in found])
        assert errors.mean() == pytest.approx(exact, rel=0.08)
        assert values.std() == pytest.approx(exact, rel=4 / np.sqrt(2 * runs) + 0.01)
        assert abs(values.mean() - truth) < 4 * exact / np.sqrt(runs)  # also the bias of the variance is taken out


def test_variance_of_a_short_series_is_unbiased():
    """n = 40 tau: dividing by n alone would be 2.5 % low, 9 standard errors of this test; |z| < 4 fails by chance 6e-5."""
    phi, n, runs = 0.9, 760, 4000
    x = ar1(phi, n, 5, runs)
    values = np.array([nets.variance_estimate(x[:, i]).value for i in range(runs)])
    error = values.std() / np.sqrt(runs)
    assert abs(values.mean() - 1.0) < 4 * error + 0.005  # 0.005: tau itself is estimated
    assert x.var(axis=0).mean() < 1.0 - 4 * error


def test_series_errors():
    with pytest.raises(ValueError, match="n >= 4"):
        nets.autocorrelation([1.0, 2.0])
    with pytest.raises(ValueError, match="non-finite"):
        nets.autocorrelation([1.0, 2.0, np.nan, 4.0])
    with pytest.raises(ValueError, match="constant"):
        nets.integrated_autocorrelation_time(np.ones(10))


# ---- fluctuation and dissipation ----------------------------------------------------------------------------------------


def linear_run(sampling, momentum, steps=60_000):
    data = nets.load_data("teacher", n=120, split="all")
    mlp = nets.MLP((8, 1), loss="mse", weight_decay=0.05)
    start = nets.train(mlp, data, lr=0.05, batch=4, steps=2000, seed=2, sampling=sampling, momentum=momentum)
    return nets.train(
        mlp,
        data,
        resume=start,
        steps=steps,
        record=nets.Record(losses_every=20, center=start.theta, basis=np.eye(9)[:, :1]),
    )


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_relation_holds_with_replacement(momentum):
    """Full-gradient side against noise side; |z| < 4: false alarm 6e-5 per case, fixed seed; the error must be below 2 %."""
    relation = nets.fluctuation_dissipation(linear_run("replace", momentum))
    assert abs(relation.z) < 4
    assert relation.difference.stderr < 0.02 * relation.right.value
    if not momentum:
        assert abs(relation.z_drift) < 4
        assert abs(relation.difference_minibatch.value) < 4 * relation.difference_minibatch.stderr
        assert relation.left_minibatch.value == pytest.approx(relation.right.value, rel=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_right_side_from_the_trajectory(momentum):
    """(lr/2)(1 + mu) <|v|^2> with v = (theta_before - theta_after)/lr."""
    data = nets.load_data("spiral", n=125)
    run = nets.train(
        nets.MLP((2, 5, 2)),
        data,
        lr=0.1,
        batch=5,
        steps=320,
        momentum=momentum,
        record=nets.Record(weights_every=1, losses_every=10, blocks=16),
    )
    path = np.r_[run.mlp.init(0)[None], run.weights["value"]]
    v = np.diff(path, axis=0) / 0.1
    relation = nets.fluctuation_dissipation(run)
    assert relation.right.value == pytest.approx(0.05 * (1 + momentum) * (v * v).sum(axis=1).mean(), rel=1e-10)
    if not momentum:  # the minibatch difference telescopes to the boundary term
        radius = ((path - run.origin) ** 2).sum(axis=1)
        assert relation.difference_minibatch.value == pytest.approx((radius[0] - radius[-1]) / (2 * 0.1 * 320), rel=1e-9)
        assert relation.left_minibatch.value - relation.right.value == pytest.approx(relation.difference_minibatch.value, rel=1e-9)


def test_relation_fails_for_shuffled_epochs():
    """Anti-correlated noise: left < right by far more than the error, although nothing drifts."""
    relation = nets.fluctuation_dissipation(linear_run("shuffle", 0.0))
    assert relation.z < -8 and relation.ratio < 0.97 and abs(relation.z_drift) < 4


def test_relation_fails_while_learning():
    data = nets.load_data("teacher", split="all")
    mlp = nets.MLP((8, 1), loss="mse", weight_decay=0.05)
    run = nets.train(
        mlp,
        data,
        lr=0.002,
        batch=4,
        steps=2000,
        seed=2,
        sampling="replace",
        theta0=np.full(9, 3.0),
        record=nets.Record(losses_every=20, blocks=64),
    )
    relation = nets.fluctuation_dissipation(run)
    assert abs(relation.ratio - 1) > 0.5 and abs(relation.z_drift) > 4


def test_relation_needs_its_sums():
    data = nets.load_data("spiral", n=125)
    mlp = nets.MLP((2, 5, 2))
    with pytest.raises(ValueError, match="sums=True"):
        nets.fluctuation_dissipation(nets.train(mlp, data, lr=0.1, batch=5, steps=100, record=nets.Record(sums=False)))
    with pytest.raises(ValueError, match="lower losses_every"):
        nets.fluctuation_dissipation(nets.train(mlp, data, lr=0.1, batch=5, steps=100, record=nets.Record(losses_every=50)))


# ---- statistics and bridge ----------------------------------------------------------------------------------------------


def some_stats(**options):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4, 4))
    g = rng.standard_normal((300, 4)) @ a
    return nets.from_arrays(
        **(
            {
                "weights": rng.standard_normal((50, 4)),
                "gradients": g,
                "hessian": a @ a.T + np.eye(4),
                "lr": 0.1,
                "batch": 10,
                "name": "made",
            }
            | options
        )
    ), g


def test_from_arrays():
    stats, g = some_stats()
    w = np.random.default_rng(0)
    w.standard_normal((4, 4)), w.standard_normal((300, 4))
    w = w.standard_normal((50, 4))
    np.testing.assert_allclose(stats.covariance, np.cov(g.T, bias=True), rtol=1e-12)
    assert stats.n_samples == 300 and stats.dim == 4
    stats, _ = some_stats(weights=w)
    np.testing.assert_allclose(stats.weight_covariance, np.cov(w.T, bias=True), atol=1e-14)
    np.testing.assert_allclose(stats.mean, w.mean(axis=0), atol=1e-15)
    lam, q = stats.eigenvalues, stats.eigenvectors
    assert (np.diff(lam) < 0).all() and (q[np.abs(q).argmax(axis=0), range(4)] > 0).all()
    np.testing.assert_allclose(stats.hessian @ q, q * lam, atol=1e-12)


def test_stats_round_trip(tmp_path):
    stats, _ = some_stats(sampling="shuffle")
    stats.save(tmp_path / "s.h5")
    back = nets.load_stats(tmp_path / "s.h5")
    for name in (
        "mean",
        "hessian",
        "covariance",
        "weight_covariance",
        "lr",
        "batch",
        "sampling",
        "n_samples",
        "name",
        "momentum",
    ):
        assert np.array_equal(getattr(stats, name), getattr(back, name)), name
    with h5py.File(tmp_path / "s.h5") as file:
        np.testing.assert_array_equal(file["stats/hessian"][()], stats.hessian)
    fps.io.save_tree(tmp_path / "other.h5", {"a": 1})
    with pytest.raises(ValueError, match="no statistics"):
        nets.load_stats(tmp_path / "other.h5")


def test_bridge_is_the_projected_process():
    for sampling, factor in (("replace", 1.0), ("shuffle", 290 / 299)):
        stats, _ = some_stats(sampling=sampling)
        q = stats.eigenvectors[:, :2]
        process = nets.bridge(stats, directions=2)
        y = np.array([0.3, -0.2])
        np.testing.assert_allclose(process.drift(y), -(q.T @ stats.hessian @ q) @ y, atol=1e-13)
        np.testing.assert_allclose(process.diffusion(y), factor * 0.1 / 20 * q.T @ stats.covariance @ q, rtol=1e-12)
        assert process.dim == 2
        chosen = nets.bridge(stats, directions=[3, 1])
        np.testing.assert_allclose(chosen.drift(y), -stats.eigenvalues[[3, 1]] * y, atol=1e-12)
        np.testing.assert_allclose(nets.bridge(stats, directions=q).drift(y), process.drift(y), atol=1e-13)


def test_what_bridge_advises_for_momentum_works():
    """The lines of its message, pasted: for an isotropic quadratic both give the closed form of heavy ball."""
    stats = nets.from_arrays(hessian=2.0 * np.eye(3), covariance=np.eye(3), lr=0.1, batch=10, momentum=0.9)
    with pytest.raises(ValueError, match="plain SGD") as refused:
        nets.bridge(stats)
    text = str(refused.value)
    h, c = stats.projected(2)
    names = {"fps": fps, "h": h, "c": c, "stats": stats}
    covariance = eval(text[text.index("fps.theory") : text.index(", and the chain")], names)
    lr, mu = 0.1, 0.9  # lr c/(h B) (1 + mu)/((1 - mu) (2 (1 + mu) - lr h)), variance of an AR(2) series
    expected = lr / (2.0 * 10) * (1 + mu) / ((1 - mu) * (2 * (1 + mu) - lr * 2.0))
    np.testing.assert_allclose(covariance, expected * np.eye(2), rtol=1e-9)
    chain = eval(text[text.index("fps.SGDChain") :], names)
    assert (chain.dim, chain.momentum, chain.lr, chain.batch) == (2, 0.9, 0.1, 10)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: some_stats(covariance=np.eye(4)), "not both"),
        (lambda: some_stats(hessian=np.eye(3)), "disagree about the number of weights"),
        (lambda: some_stats(hessian=np.triu(np.ones((4, 4)))), r"hessian must be symmetric: entries \[0, 1\]"),
        (lambda: some_stats(hessian=np.full((4, 4), np.nan)), "16 non-finite"),
        (lambda: some_stats(hessian=np.ones((2, 4))), r"shape \(4, 4\)"),
        (lambda: some_stats(gradients=None, covariance=np.diag([1.0, 1.0, 1.0, -1.0])), "lowest eigenvalue is -1"),
        (lambda: some_stats(gradients=np.ones(4)), r"\(N, P\)"),
        (lambda: some_stats(lr=-1.0), "lr must be"),
        (lambda: some_stats(batch=1.5), "batch must be"),
        (lambda: some_stats(sampling="none"), "sampling must be"),
        (lambda: some_stats(sampling="shuffle", batch=301), "at least batch"),
        (lambda: nets.from_arrays(lr=0.1, batch=1), "at least one of"),
        (lambda: nets.bridge(some_stats(gradients=None)[0]), "both the Hessian and"),
        (lambda: nets.bridge(some_stats(hessian=None)[0]), "both the Hessian and"),
        (lambda: nets.bridge(some_stats()[0], directions=5), r"1 \.\. 4"),
        (lambda: nets.bridge(some_stats()[0], directions=[0, 0]), "different numbers"),
        (lambda: nets.bridge(some_stats()[0], directions=np.ones((4, 2))), "orthonormal"),
        (lambda: nets.bridge(some_stats(hessian=-np.eye(4))[0]), "does not confine"),
        (lambda: nets.bridge(some_stats(momentum=0.9)[0]), r"plain SGD.*discrete_covariance\(.*momentum=0.9.*SGDChain.gaussian\("),
        (lambda: nets.bridge(some_stats(gradients=None, covariance=np.eye(4), sampling="shuffle")[0]), "n_samples"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_measure_checks_its_data():
    data = nets.load_data("spiral", n=125)
    run = nets.train(nets.MLP((2, 4, 2), activation="tanh"), data, lr=0.1, batch=5, steps=50)
    stats = nets.measure(run, data, block="W1")
    np.testing.assert_array_equal(stats.hessian, nets.hessian(run.mlp, run.mean_weights, data.x_train, data.y_train, block="W1"))
    assert (stats.lr, stats.batch, stats.sampling, stats.n_samples) == (0.1, 5, "shuffle", 100)
    with pytest.raises(ValueError, match="other training data"):
        nets.measure(run, data.subset(50))
    with pytest.raises(ValueError, match="needs theta"):
        nets.measure(run.mlp, data)
    with pytest.raises(TypeError, match="a Run, an MLP or a TorchModel"):
        nets.measure(3, data)


@pytest.mark.slow
def test_theory_predicts_the_digits_net():
    """Variance of real weights in the 10 stiffest directions: lr^2 C/B / (1 - (1 - lr lambda)^2), H and C from a pilot.

    Band 6 %: statistical errors are 0.7-1.5 %, anharmonicity and the pilot's mean 1-3 %. With shuffled epochs the same
    prediction is at least 10 % too high in all of them.
    """
    data = nets.load_data("digits", split="all")
    mlp = nets.MLP((64, 12, 10), activation="tanh", weight_decay=1e-2)
    start = nets.train(mlp, data, lr=0.05, batch=20, steps=60_000, seed=0, sampling="replace", record=nets.Record(weights=None))
    pilot = nets.train(mlp, data, resume=start, steps=150_000, record=nets.Record(weights=None))
    stats = nets.measure(pilot, data)
    basis = stats.basis(10)
    h, c = stats.projected(basis)
    theory = 0.05**2 * np.diag(c) / 20 / (1 - (1 - 0.05 * np.diag(h)) ** 2)
    for sampling, low, high in (("replace", 0.94, 1.06), ("shuffle", 0.3, 0.9)):
        run = nets.train(
            mlp,
            data,
            resume=pilot,
            sampling=sampling,
            steps=250_000,
            record=nets.Record(weights=None, center=pilot.mean_weights, basis=basis, losses_every=250),
        )
        ratio = np.diag(run.moments["covariance"]) / theory
        assert (ratio > low).all() and (ratio < high).all(), ratio
        assert (abs(nets.fluctuation_dissipation(run).z) < 4) == (sampling == "replace")
