"""Measured and predicted variances of real weights: closed forms for a linear network, the demo on digits for a real one."""

import h5py
import numpy as np
import pytest

import fpsolve as fps
import nets
from nets import demo
from nets.variance import Tensors, average_tensors, leading_directions, measured_variances

RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def linear():
    """Linear regression: H does not depend on the weights, and is (x1)^T(x1)/N + decay."""
    data, mlp = nets.load_data("teacher"), nets.MLP((8, 1), loss="mse", weight_decay=0.1)
    x = np.column_stack([data.x_train, np.ones(data.size)])
    return data, mlp, x.T @ x / data.size + 0.1 * np.eye(9)


def test_leading_directions_dense_and_lanczos(linear, monkeypatch):
    data, mlp, H = linear
    expected = np.linalg.eigvalsh(H)[::-1][:4]
    for limit in (2000, 1):
        monkeypatch.setattr("nets.variance.DENSE_UP_TO", limit)
        values, vectors = leading_directions(mlp, data, mlp.init(0), 4)
        np.testing.assert_allclose(values, expected, rtol=1e-8)
        np.testing.assert_allclose(H @ vectors, vectors * values, atol=1e-6)
    with pytest.raises(ValueError, match="1 .. 9"):
        leading_directions(mlp, data, mlp.init(0), 10)


def test_average_tensors_are_the_means_over_snapshots(linear):
    data, mlp, H = linear
    run = nets.train(mlp, data, lr=0.05, batch=4, steps=400, sampling="replace", record=nets.Record(weights_every=40))
    basis = np.linalg.qr(RNG.normal(size=(9, 3)))[0]
    tensors = average_tensors(mlp, data, run, basis)
    np.testing.assert_allclose(tensors.hessian, basis.T @ H @ basis, atol=1e-12)
    expected = np.mean(
        [
            basis.T @ np.cov(mlp.per_sample_gradients(w, data.x_train, data.y_train), rowvar=False, bias=True) @ basis
            for w in run.weights["value"]
        ],
        axis=0,
    )
    np.testing.assert_allclose(tensors.covariance, expected, rtol=1e-10, atol=1e-14)


def test_jackknife_error_of_a_linear_formula():
    """For the mean itself the jackknife over blocks is the standard error of the block means, exactly."""
    C = RNG.normal(size=(100, 1, 1))
    tensors = Tensors(np.eye(1), np.ones((100, 1, 1)), C, 0.1, 1, 10)
    value, error = tensors.predict(lambda h, c: c)
    blocks = C.reshape(20, 5).mean(1)
    assert value.item() == pytest.approx(C.mean(), rel=1e-12)
    assert error.item() == pytest.approx(blocks.std(ddof=1) / np.sqrt(20), rel=1e-12)


def test_measured_variances_of_an_exactly_known_case(linear):
    """Linear regression with replacement: the chain is not Gaussian, but its second moments obey a linear equation in Sigma.

    With a_n the augmented inputs, E[g g^T] depends on Sigma; solved here as a linear system over all samples. |z| < 4
    in each of 3 directions: false alarm 2e-4.
    """
    data, mlp, H = linear
    lr, batch = 0.05, 4
    start = nets.train(mlp, data, lr=lr, batch=batch, steps=5_000, sampling="replace", seed=3)
    a = np.column_stack([data.x_train, np.ones(data.size)])
    y = np.asarray(data.y_train, float).reshape(-1)
    best = np.linalg.solve(H, a.T @ y / data.size)
    g0 = a * (a @ best - y)[:, None]  # per-sample gradients at the minimum, without the decay
    g0 -= g0.mean(0)
    outer = np.einsum("ni,nj->nij", a, a) - (H - 0.1 * np.eye(9))  # fluctuation of the sample Hessians

    M = np.eye(9) - lr * H
    multiplicative = np.einsum("nij,nkl->ikjl", outer, outer).reshape(81, 81) / data.size
    balance = np.eye(81) - np.kron(M, M) - lr**2 / batch * multiplicative
    S = np.linalg.solve(balance, lr**2 / batch * (g0.T @ g0 / data.size).ravel()).reshape(9, 9)
    basis = leading_directions(mlp, data, best, 3)[1]
    run = nets.train(mlp, data, resume=start, steps=400_000, record=nets.Record(center=best, basis=basis))
    measured = measured_variances(run)
    z = (measured.value - np.diag(basis.T @ S @ basis)) / measured.stderr
    assert np.all(np.abs(z) < 4), z
    assert np.all(measured.stderr < 0.03 * measured.value)
    assert np.all(np.abs(measured.halves) < 4)


TINY = demo.Settings(burn_in=20_000, pilot=4_000, snapshots=8, steps=20_000, control_steps=10_000, paths=200)


def test_demo_file_and_report(tmp_path, monkeypatch, capsys):
    """A run far too short says undecided, exits 0, and leaves a file that plain h5py reads."""
    monkeypatch.setattr(demo.Settings, "of", classmethod(lambda cls, data, quick, seed: TINY))
    assert demo.main(out=str(tmp_path / "demo"), progress=False) == 0
    printed = capsys.readouterr().out
    assert "undecided" in printed and "FAILED" not in printed
    with h5py.File(tmp_path / "demo" / "run.h5") as file:
        assert file["measured/value"].shape == (40,)
        assert file["directions/basis"].shape == (910, 40)
        assert "provenance" in file and file.attrs["kind"] in ("demo", b"demo")
    assert {p.name for p in (tmp_path / "demo").iterdir()} == {"run.h5", "training.png", "densities.png", "variances.png"}
    tree = fps.io.load_tree(tmp_path / "demo" / "run.h5")
    assert isinstance(tree["fokker_planck_density"], fps.Density)


@pytest.mark.parametrize("quick", [False, True])
def test_demo_settings(quick):
    settings = demo.Settings.of("digits", quick, 7)
    assert settings.seed == 7 and settings.steps == (200_000 if quick else 2_000_000)
    assert settings.burn_in == 1_000_000
    with pytest.raises(ValueError, match="'digits' and 'mnist'"):
        demo.Settings.of("cifar", quick, 0)


def test_demo_refuses_an_unwritable_folder_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        demo.main(out=str(tmp_path / "file" / "demo"), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_demo_holds_on_the_real_network(seed):
    """All three checks of the demo; a correct theory fails one of them with probability 1 % per seed, by construction."""
    report, _ = demo.run_demo(demo.Settings.of("digits", False, seed))
    assert list(report.checks.values()) == [True, True, True], report.checks
    assert np.max(np.abs(report.ratio[:20] - 1.0)) < 0.05
