"""nets.train: sampling, the step loop against NumPy, same bits on resume, records, files that are whole or absent."""

import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
from nets_cases import spiral_net
from scipy import stats as st

import nets
from fpsolve import FpsolveError
from nets import _kernels as K
from nets import _store, record


def fresh_rng(seed):
    rng = np.empty(4, dtype=np.uint64)
    K.seed_rng(np.uint64(seed), rng)
    return rng


# ---- random numbers and batches -----------------------------------------------------------------------------------------


def test_generator_is_xoshiro256plusplus():
    """Known answers of the published generator for the state 1, 2, 3, 4, and a plain-integer version of both generators."""
    rng = np.array([1, 2, 3, 4], dtype=np.uint64)
    assert [int(K.next_u64(rng)) for _ in range(4)] == [41943041, 58720359, 3588806011781223, 3591011842654386]
    mask, z, words = 2**64 - 1, 42, []
    for _ in range(4):  # SplitMix64 (Steele, Lea, Flood 2014)
        z = (z + 0x9E3779B97F4A7C15) & mask
        w = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        w = ((w ^ (w >> 27)) * 0x94D049BB133111EB) & mask
        words.append(w ^ (w >> 31))
    assert fresh_rng(42).tolist() == words


def test_bounded_integers_are_uniform():
    """chi-square over 7 and 1000 values; rejected for a true generator with probability 1e-6 (fixed seed)."""
    for n in (7, 1000):
        rng = fresh_rng(n)
        counts = np.bincount([K.below(rng, n) for _ in range(50 * n if n > 100 else 7000)], minlength=n)
        assert len(counts) == n and st.chisquare(counts).pvalue > 1e-6


def test_all_orders_are_equally_likely():
    """Fisher-Yates on 4 items: 24 orders, 24 000 shuffles, chi-square; false alarm 1e-6."""
    rng, perm, counts = fresh_rng(1), np.arange(4), dict.fromkeys(itertools.permutations(range(4)), 0)
    for _ in range(24_000):
        K.shuffle(rng, perm)
        counts[tuple(perm.tolist())] += 1
    assert st.chisquare(list(counts.values())).pvalue > 1e-6


def test_shuffled_epochs_are_partitions():
    rng, perm, cursor, index = fresh_rng(3), np.arange(23), np.array([23, 0]), np.empty(5, dtype=np.int64)
    orders = []
    for _ in range(10):
        epoch = []
        for _ in range(4):  # 4 full batches; 3 samples are dropped
            K.draw(rng, perm, cursor, False, index)
            epoch += index.tolist()
        assert len(set(epoch)) == 20 and set(epoch) <= set(range(23))
        orders.append(tuple(epoch))
    assert len(set(orders)) == 10


@pytest.mark.parametrize("replace", [True, False])
def test_noise_of_the_batch_means(replace):
    """Variance of a batch mean: C/B with replacement, C/B (N-B)/(N-1) without; two batches of an epoch: covariance 0, -C/(N-1).

    40 000 epochs of N = 12 in batches of 4; |z| < 4 fails for a right sampler with probability 6e-5 each (fixed seed).
    """
    n, b, epochs = 12, 4, 40_000
    g = np.random.default_rng(0).standard_normal(n)
    c = g.var()
    rng, perm, cursor, index = fresh_rng(8), np.arange(n), np.array([n, 0]), np.empty(b, dtype=np.int64)
    means = np.empty((epochs, 2))
    for e in range(epochs):
        for k in range(3):
            K.draw(rng, perm, cursor, replace, index)
            if k < 2:
                means[e, k] = g[index].mean() - g.mean()
    variance = c / b if replace else c / b * (n - b) / (n - 1)
    covariance = 0.0 if replace else -c / (n - 1)
    for sample, expected in ((means[:, 0] ** 2, variance), (means[:, 0] * means[:, 1], covariance)):
        assert abs(sample.mean() - expected) < 4 * sample.std() / np.sqrt(epochs)


# ---- the step loop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["shuffle", "replace"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_equal_numpy(sampling, momentum):
    """60 steps against the update written in NumPy with the same batches."""
    mlp, data = spiral_net(weight_decay=0.01)
    run = nets.train(mlp, data, lr=0.1, batch=7, steps=60, seed=5, sampling=sampling, momentum=momentum)
    theta, v = mlp.init(5), np.zeros(mlp.dim)
    rng, perm, cursor, index = fresh_rng(5), np.arange(100), np.array([100, 0]), np.empty(7, dtype=np.int64)
    for _ in range(60):
        K.draw(rng, perm, cursor, sampling == "replace", index)
        v = momentum * v + mlp.gradient(theta, data.x_train[index], data.y_train[index])
        theta = theta - 0.1 * v
    np.testing.assert_allclose(run.theta, theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_recorded_numbers_are_what_they_say(momentum):
    """Every record of 48 steps against a recomputation from the full trajectory."""
    mlp, data = spiral_net(weight_decay=0.05)
    rng = np.random.default_rng(0)
    center, basis = rng.standard_normal(mlp.dim), rng.standard_normal((mlp.dim, 3))
    plan = nets.Record(
        weights="all",
        weights_every=1,
        losses_every=8,
        test=True,
        center=center,
        basis=basis,
        moments_every=2,
        projections_every=4,
        blocks=6,
    )
    run = nets.train(mlp, data, lr=0.2, batch=10, steps=48, seed=1, momentum=momentum, record=plan)
    after = run.weights["value"]
    assert run.weights["step"].tolist() == list(range(1, 49)) and (after[-1] == run.theta).all()
    before = np.r_[mlp.init(1)[None], after[:-1]]
    np.testing.assert_allclose(run.mean_weights, before.mean(axis=0), rtol=0, atol=1e-14)
    v = (before - after) / 0.2
    g = v - momentum * np.r_[np.zeros((1, mlp.dim)), v[:-1]]
    for name, values in (
        ("velocity_norm2", (v * v).sum(1)),
        ("gradient_norm2", (g * g).sum(1)),
        ("dot_gradient", ((before - center) * g).sum(1)),
    ):
        np.testing.assert_allclose(run.blocks[name], values.reshape(6, 8).mean(axis=1), rtol=1e-10, atol=1e-13)
    assert run.blocks["edges"].tolist() == list(range(0, 49, 8))
    y = (after[1::2] - center) @ basis
    np.testing.assert_allclose(run.moments["mean"], y.mean(axis=0), atol=1e-13)
    np.testing.assert_allclose(run.moments["covariance"], np.cov(y.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(run.moments["block_mean"], y.reshape(6, 4, 3).mean(axis=1), atol=1e-13)
    np.testing.assert_allclose(run.moments["block_square"], (y**2).reshape(6, 4, 3).mean(axis=1), atol=1e-12)
    assert run.moments["count"] == 24 and run.projections["step"].tolist() == list(range(4, 49, 4))
    np.testing.assert_allclose(run.projections["value"], y[1::2], atol=1e-13)
    losses, at = run.losses, np.r_[before[:1], after[7::8]]
    assert losses["step"].tolist() == list(range(0, 49, 8))
    for i, theta in enumerate(at):
        gradient = mlp.gradient(theta, data.x_train, data.y_train)
        assert losses["train_loss"][i] == pytest.approx(mlp.loss(theta, data.x_train, data.y_train), rel=1e-13)
        assert losses["train_error"][i] == mlp.error(theta, data.x_train, data.y_train)
        assert losses["test_loss"][i] == pytest.approx(mlp.loss(theta, data.x_test, data.y_test), rel=1e-13)
        assert losses["dot_gradient"][i] == pytest.approx((theta - center) @ gradient, rel=1e-10)
        assert losses["gradient_norm2"][i] == pytest.approx(gradient @ gradient, rel=1e-10)


def test_odd_schedules(monkeypatch):
    """Strides that share no divisor with each other, the chunks or the blocks; tiny buffers."""
    monkeypatch.setattr(record, "ROW_BYTES", 7 * 8 * 32)
    mlp, data = spiral_net()
    first = nets.train(mlp, data, lr=0.1, batch=10, steps=11, seed=2)
    full = nets.train(mlp, data, resume=first, steps=101, record=nets.Record(weights_every=1)).weights
    plan = nets.Record(
        weights=("b2", "W1"),
        weights_every=7,
        center=np.zeros(32),
        basis=np.eye(32)[:, 3:5],
        moments_every=3,
        projections_every=15,
        losses_every=13,
        blocks=9,
    )
    run = nets.train(mlp, data, resume=first, steps=101, record=plan)
    index = mlp.block_index(("b2", "W1"))
    assert (run.tree["weights"]["index"] == index).all()
    assert run.weights["step"].tolist() == [s for s in range(12, 113) if s % 7 == 0]
    assert (run.weights["value"] == full["value"][full["step"] % 7 == 0][:, index]).all()
    y = full["value"][:, 3:5]
    assert (run.projections["value"] == y[full["step"] % 15 == 0]).all()
    np.testing.assert_allclose(run.moments["mean"], y[full["step"] % 3 == 0].mean(axis=0), atol=1e-13)
    assert run.losses["step"].tolist() == [s for s in range(12, 113) if s % 13 == 0]
    assert run.moments["block_count"].sum() == run.moments["count"] == sum(s % 3 == 0 for s in range(12, 113))


@pytest.mark.parametrize("sampling", ["shuffle", "replace"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_resume_gives_the_same_bits(tmp_path, sampling, momentum):
    """Split in the middle of an epoch, through a file, with another record: not one bit differs."""
    mlp, data = spiral_net(weight_decay=1e-3)
    options = {"lr": 0.1, "batch": 9, "seed": 4, "sampling": sampling, "momentum": momentum}
    whole = nets.train(mlp, data, steps=75, **options, record=nets.Record(sums=False, weights=None))
    nets.train(mlp, data, steps=38, **options, out=tmp_path / "a.h5")
    second = nets.train(
        mlp,
        data,
        resume=tmp_path / "a.h5",
        steps=37,
        record=nets.Record(center=np.zeros(32), basis=np.eye(32), weights_every=3),
        out=tmp_path / "b.h5",
    )
    for name in ("theta", "velocity", "rng", "perm", "cursor"):
        assert (second.state[name] == whole.state[name]).all(), name
    assert (second.first_step, second.step, second.seed) == (38, 75, 4)


def test_threads_and_seeds():
    mlp, data = spiral_net()
    results = {}

    def work(name, seed):
        results[name] = nets.train(mlp, data, lr=0.1, batch=10, steps=300, seed=seed)

    threads = [threading.Thread(target=work, args=a) for a in (("a", 1), ("b", 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work("again", 1)
    assert (results["a"].theta == results["again"].theta).all() and not (results["a"].theta == results["b"].theta).all()
    unseeded = nets.train(mlp, data, lr=0.1, batch=10, steps=5, seed=None)
    assert (nets.train(mlp, data, lr=0.1, batch=10, steps=5, seed=unseeded.seed).theta == unseeded.theta).all()


def test_training_learns_the_digits():
    """Under 2 % of the training digits wrong after 30 epochs (a linear classifier starts at 90 %); test error under 8 %."""
    data = nets.load_data("digits")
    run = nets.train(nets.MLP((64, 32, 10)), data, lr=0.2, batch=20, epochs=30, seed=0, record=nets.Record(test=True))
    assert run.step == 30 * (1438 // 20)
    assert run.losses["train_error"][-1] < 0.02 and run.losses["test_error"][-1] < 0.08 and run.losses["train_error"][0] > 0.7


@pytest.mark.skipif("FPSOLVE_DATA" not in os.environ, reason="FPSOLVE_DATA is not set")
def test_first_mnist_epoch():
    """Reference run (784-50-50-10, lr 0.1, B 50, pixels/255): loss 0.218, error 6.3 % after epoch 1; one seed, so +- 15 %."""
    mlp, data = nets.MLP((784, 50, 50, 10)), nets.load_data("mnist")
    run = nets.train(mlp, data, lr=0.1, batch=50, epochs=1, seed=0, record=nets.Record(weights="W2", losses_every=1200))
    assert run.step == 1200
    assert run.losses["train_loss"][-1] == pytest.approx(0.218, rel=0.15)
    assert run.losses["train_error"][-1] == pytest.approx(0.063, rel=0.15)
    dead = data.x_train.max(axis=0) == 0.0  # inputs that are never on: their weights get no gradient
    first, last = mlp.unpack(mlp.init(0))["W1"], mlp.unpack(run.theta)["W1"]
    assert dead.sum() == 67 and (first[dead] == last[dead]).all() and not (first[~dead] == last[~dead]).all(axis=1).any()


# ---- files --------------------------------------------------------------------------------------------------------------


def test_file_round_trip_and_plain_h5py(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["nets.train"], "SEGMENT_BYTES", 20_000)  # several segments
    mlp, data = spiral_net(weight_decay=0.01)
    plan = nets.Record(weights_every=1, center=np.zeros(32), basis=np.eye(32)[:, :5], losses_every=50)
    kept = nets.train(mlp, data, lr=0.1, batch=10, steps=700, seed=0, record=plan)
    nets.train(mlp, data, lr=0.1, batch=10, steps=700, seed=0, record=plan, out=tmp_path / "run.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.h5"]
    run = nets.load_run(tmp_path / "run.h5")
    assert repr(run) == repr(kept) and run.mlp == mlp and run.complete
    for group in ("losses", "weights", "projections"):
        for name, array in getattr(kept, group).items():
            assert np.array_equal(getattr(run, group)[name], array), (group, name)
    for name, array in kept.moments.items():
        assert np.array_equal(run.moments[name], array), name
    assert np.array_equal(run.mean_weights, kept.mean_weights) and np.array_equal(
        run.projection_series(2), kept.projection_series(2)
    )
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["weights/value"].shape == (700, 32) and file["training/lr"][()] == 0.1
        assert b'"seed": 0' in file["provenance/0"][()] and b'"numba"' in file["provenance/0"][()]


def test_killed_run_is_recovered(tmp_path):
    """SIGKILL in the middle: the segments written so far give the state of an undisturbed run of that many steps."""
    code = (
        f"import nets, nets.train; import sys; sys.modules['nets.train'].SEGMENT_SECONDS = 0.05\n"
        f"mlp, data = nets.MLP((2, 6, 2), activation='tanh'), nets.load_data('spiral', n=125)\n"
        f"nets.train(mlp, data, lr=0.1, batch=10, steps=10**9, seed=3, "
        f"record=nets.Record(losses_every=500, weights_every=10**7), out={str(tmp_path / 'run.h5')!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.time() + 60
        while len(list(tmp_path.glob("run.h5.parts/*.h5"))) < 3:
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    mlp, data = spiral_net()
    with pytest.raises(FileExistsError, match="interrupted run"):
        nets.train(mlp, data, lr=0.1, batch=10, steps=1, out=tmp_path / "run.h5")
    run = nets.load_run(tmp_path / "run.h5")
    assert not run.complete and run.step >= 1500 and [p.name for p in tmp_path.iterdir()] == ["run.h5"]
    assert run.losses["step"].tolist() == list(range(0, run.step + 1, 500))
    assert (nets.train(mlp, data, lr=0.1, batch=10, steps=run.step, seed=3).theta == run.theta).all()


def test_interrupt_keeps_what_was_done(tmp_path):
    mlp, data = spiral_net()

    def stop(done, total):
        if done == 200:
            signal.raise_signal(signal.SIGINT)

    run = nets.train(
        mlp,
        data,
        lr=0.1,
        batch=10,
        steps=1000,
        seed=3,
        record=nets.Record(losses_every=100),
        progress=stop,
        out=tmp_path / "run.h5",
    )
    assert not run.complete and run.step == 200 and run.blocks["steps"].sum() == 200
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    rest = nets.train(mlp, data, resume=run, steps=800)
    assert (rest.theta == nets.train(mlp, data, lr=0.1, batch=10, steps=1000, seed=3).theta).all()


def test_interrupts_reach_tests_in_the_background():
    """A shell without job control starts background jobs with SIGINT ignored, which every process inherits: conftest undoes it."""
    look = "import runpy, signal; runpy.run_path('conftest.py'); print(signal.getsignal(signal.SIGINT).__name__)"
    command = ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, look]
    root = os.path.dirname(os.path.dirname(__file__))
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "default_int_handler"


def test_divergence_is_reported_and_leaves_nothing(tmp_path):
    data = nets.load_data("teacher", n=100)
    mlp = nets.MLP((8, 1), loss="mse")
    with pytest.raises(FpsolveError, match=r"non-finite at step \d+ \(lr=100.*Try a smaller lr \(say 25\)"):
        nets.train(mlp, data, lr=100.0, batch=10, steps=10_000, out=tmp_path / "run.h5")
    assert list(tmp_path.iterdir()) == []


def test_damaged_files(tmp_path):
    mlp, data = spiral_net()
    path = tmp_path / "run.h5"
    nets.train(mlp, data, lr=0.1, batch=10, steps=50, out=path)
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"not a file", b""):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match="cannot be read as a training run"):
            nets.load_run(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = "9.0"
    with pytest.raises(ValueError, match="newer than"):
        nets.load_run(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="not written by fpsolve"):
        nets.load_run(path)
    folder = tmp_path / "gone.h5.parts"
    folder.mkdir()
    with pytest.raises(ValueError, match="no complete segment"):
        nets.load_run(tmp_path / "gone.h5")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_repr_names_the_momentum():
    mlp, data = spiral_net()
    plain, heavy = (nets.train(mlp, data, lr=0.1, batch=10, steps=5, momentum=m) for m in (0.0, 0.9))
    assert "momentum" not in repr(plain) and "batch=10, momentum=0.9)" in repr(heavy)


def test_progress(capsys, monkeypatch):
    mlp, data = spiral_net()
    calls = []
    nets.train(
        mlp,
        data,
        lr=0.1,
        batch=10,
        steps=100,
        record=nets.Record(losses_every=50),
        progress=lambda a, b: calls.append((a, b)),
    )
    assert calls == [(50, 100), (100, 100)]
    nets.train(mlp, data, lr=0.1, batch=10, steps=100, progress=True)
    assert capsys.readouterr().err == ""  # not a terminal
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    nets.train(mlp, data, lr=0.1, batch=10, steps=20000, record=nets.Record(losses_every=10), progress=True)
    text = screen.getvalue()
    assert "loss" in text and "error" in text and "20.0k/20.0k" in text
    assert text.count("\r") < 200  # of 2000 losses: drawn as time passes, not at each of them


def test_blas_threads_are_restored():
    from fpsolve import _threads

    if not _threads._controls():
        pytest.skip("no OpenBLAS found")
    counts = [get() for get, _ in _threads._controls()]
    with _threads.single_threaded_blas():
        with _threads.single_threaded_blas():
            assert {get() for get, _ in _threads._controls()} == {1}
        assert {get() for get, _ in _threads._controls()} == {1}
    assert [get() for get, _ in _threads._controls()] == counts


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"lr": 0.0}, ValueError, "lr must be finite and > 0"),
        ({"lr": np.nan}, ValueError, "lr must be finite"),
        ({"lr": None}, ValueError, "needs lr"),
        ({"batch": 0}, ValueError, "batch must be a positive integer"),
        ({"batch": 101}, ValueError, "at most 100"),
        ({"sampling": "random"}, ValueError, "sampling must be one of"),
        ({"momentum": 1.0}, ValueError, "momentum"),
        ({"steps": None}, ValueError, "exactly one of epochs and steps"),
        ({"epochs": 3}, ValueError, "exactly one of epochs and steps"),
        ({"steps": 0}, ValueError, "steps must be a positive"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"theta0": np.zeros(3)}, ValueError, r"shape \(32,\)"),
        ({"theta0": np.full(32, np.nan)}, ValueError, "32 non-finite"),
        ({"record": nets.Record(weights="W7")}, ValueError, "blocks must be"),
        ({"record": nets.Record(center=np.zeros(5), basis=np.zeros((32, 2)))}, ValueError, r"shape \(32,\)"),
        ({"record": nets.Record(weights_every=1, max_bytes=1000)}, ValueError, "change weights_every"),
        ({"out": "/nowhere/at/all/run.h5"}, FileNotFoundError, "does not exist"),
    ],
)
def test_bad_input(options, error, message):
    mlp, data = spiral_net()
    with pytest.raises(error, match=message):
        nets.train(mlp, data, **({"lr": 0.1, "batch": 10, "steps": 10} | options))


def test_bad_record_and_resume(tmp_path):
    with pytest.raises(ValueError, match="both center and basis"):
        nets.Record(center=np.zeros(3))
    with pytest.raises(ValueError, match="multiple of moments_every"):
        nets.Record(moments_every=4, projections_every=6)
    with pytest.raises(ValueError, match="blocks must be a positive integer"):
        nets.Record(blocks=0)
    mlp, data = spiral_net()
    run = nets.train(mlp, data, lr=0.1, batch=10, steps=10, record=nets.Record(weights=None, sums=False))
    with pytest.raises(ValueError, match="exclude each other"):
        nets.train(mlp, data, resume=run, steps=1, theta0=np.zeros(32))
    with pytest.raises(ValueError, match="other training data"):
        nets.train(mlp, data.subset(90), resume=run, steps=1)
    with pytest.raises(ValueError, match="the run trained"):
        nets.train(nets.MLP((2, 2)), data, resume=run, steps=1)
    for attribute, setting in (
        ("weights", "weights"),
        ("projections", "basis"),
        ("moments", "basis"),
        ("mean_weights", "sums=True"),
    ):
        with pytest.raises(ValueError, match=setting):
            getattr(run, attribute)
    (tmp_path / "run.h5").write_bytes(b"")
    with pytest.raises(FileExistsError):
        nets.train(mlp, data, lr=0.1, batch=10, steps=1, out=tmp_path / "run.h5", overwrite=False)
    assert _store.parts_folder(tmp_path / "run.h5").exists() is False
