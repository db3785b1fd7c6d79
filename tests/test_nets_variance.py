"""Measured and predicted variances of real weights: closed forms for a linear network, the demo on digits for a real one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import fpsolve as fps
import nets
from nets import demo
from nets.variance import Tensors, Variances, average_tensors, leading_directions, measured_variances

ROOT = Path(__file__).parent.parent
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
        monkeypatch.setattr("nets.spectrum.DENSE_UP_TO", limit)
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


TINY = demo.Settings(burn_in=400_000, pilot=4_000, snapshots=8, steps=20_000, control_steps=10_000, paths=200)


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


def fake_report(**changes):
    """A report whose numbers agree perfectly, except for the changes."""
    ones = np.ones(40)
    fields = {
        "settings": TINY, "eigenvalues": ones, "tensors": None, "theory": (ones, 0.001 * ones), "engines": {}, "density": None,
        "measured": Variances(ones, 0.005 * ones, 1e5 * ones, 0 * ones), "dissipation": type("D", (), {"z": 0.0})(),
        "control": Variances(0.1 * ones, 0.001 * ones, 1e4 * ones, 0 * ones), "control_theory": (0.1 * ones, 0.0001 * ones),
    } | changes  # fmt: skip
    return demo.Report(**fields)


def variances(index=None, value=1.0, error=0.005, effective=1e5, halves=0.0, base=1.0):
    v = [np.full(40, base), np.full(40, 0.005 * base), np.full(40, 1e5), np.zeros(40)]
    if index is not None:
        v[0][index], v[1][index], v[2][index], v[3][index] = value, error, effective, halves
    return Variances(*v)


def test_verdicts_of_a_perfect_report():
    report = fake_report()
    assert set(report.verdicts) == {"agrees"} and list(report.checks.values()) == [True, True, True] and report.passed


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"measured": variances(3, value=3.0, error=0.03)}, [True, False, True]),  # far off
        ({"measured": variances(3, value=1.03, error=0.005)}, [True, False, True]),  # within 5 %, but six standard errors
        ({"measured": variances(3, value=1.056, error=0.055)}, [True, None, True]),  # beyond 5 %, and within its error
        ({"measured": variances(3, effective=50)}, [True, None, True]),
        ({"measured": variances(3, halves=30.0)}, [False, True, True]),
        ({"dissipation": type("D", (), {"z": -40.0})()}, [False, True, True]),
        ({"control": variances(base=1.0)}, [True, True, False]),  # white noise where zero-sum noise is expected
        ({"control": variances(30, value=0.2, error=0.001, base=0.1)}, [True, True, False]),
        ({"control": variances(30, value=0.11, error=0.02, base=0.1)}, [True, True, None]),
    ],
)
def test_a_failure_is_never_hidden(changes, expected):
    report = fake_report(**changes)
    assert list(report.checks.values()) == expected
    assert report.passed is (False not in expected)


def test_undecided_does_not_hide_a_difference():
    measured = variances(3, value=3.0, error=0.03)
    measured.effective[5] = 50
    report = fake_report(measured=measured)
    assert {"DIFFERS", "undecided"} <= set(report.verdicts) and not report.passed


@pytest.mark.parametrize("effective", [300, 3000, 30000])
def test_false_alarms_of_the_leading_directions(effective):
    """A correct theory is called wrong in at most 1 % of reports at any number of samples: 2000 trials, limit 1 % + 4 sigma."""
    rng, wrong = np.random.default_rng(5), 0
    error = np.sqrt(2.0 / effective)
    for _ in range(2000):
        measured = variances()
        measured.value[:20] = 1.0 + error * rng.standard_normal(20)
        measured.stderr[:20] = error
        measured.effective[:20] = effective
        wrong += "DIFFERS" in fake_report(measured=measured, theory=(np.ones(40), np.zeros(40))).verdicts[:20]
    assert wrong / 2000 < 0.01 + 4 * np.sqrt(0.01 * 0.99 / 2000)


@pytest.mark.parametrize("seconds", [0.8, 1.6])
def test_interrupted_demo_publishes_nothing(tmp_path, seconds):
    """Ctrl-C in the burn-in: exit code 130 at once, and no file."""
    command = [sys.executable, "-m", "fpsolve", "demo", "--out", str(tmp_path / "demo")]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(command, cwd=ROOT, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "1/5" not in process.stdout.readline():  # in a pipe, too, lines come as they are written
        pass
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    # 130 to a shell either way: `python -m` ends by the signal itself if that came while a string was executed, as for named tuples
    assert process.returncode in (130, -signal.SIGINT)
    assert not list((tmp_path / "demo").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_demo_holds_on_the_real_network(seed):
    """All three checks; a correct theory fails with probability 1 % for the ratios and 1 % for the halves, per seed."""
    report, _ = demo.run_demo(demo.Settings.of("digits", False, seed), nets.load_data("digits"))
    assert list(report.checks.values()) == [True, True, True], report.checks
    assert np.max(np.abs(report.ratio[:20] - 1.0)) < 0.05
