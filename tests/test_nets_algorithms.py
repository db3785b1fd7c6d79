"""nets.train: Adam, schedules, single precision, several seeds; each against NumPy, and to the bit where that is promised."""

import threading

import h5py
import numpy as np
import pytest
from nets_cases import spiral_net

import nets
from fpsolve import FpsolveError
from nets import _kernels as K

N = 100


def reference(mlp, data, lr, batch, steps, *, seed, replace=False, momentum=0.0, adam=None):
    """The update rules written out, with the batches of the generator; lr and batch are functions of the iteration."""
    theta, v, q = mlp.init(seed), np.zeros(mlp.dim), np.zeros(mlp.dim)
    rng = np.empty(4, dtype=np.uint64)
    K.seed_rng(np.uint64(seed), rng)
    perm, cursor, path = np.arange(N), np.array([N, 0]), []
    for k in range(steps):
        index = np.empty(batch(k), dtype=np.int64)
        K.draw(rng, perm, cursor, replace, index)
        g = mlp.gradient(theta, data.x_train[index], data.y_train[index])
        if adam is None:
            v = momentum * v + g
            theta = theta - lr(k) * v
        else:
            b1, b2, eps = adam
            v, q = b1 * v + (1 - b1) * g, b2 * q + (1 - b2) * g * g
            theta = theta - lr(k) * (v / (1 - b1 ** (k + 1))) / (np.sqrt(q / (1 - b2 ** (k + 1))) + eps)
        path.append(theta)
    return np.array(path)


def decaying(k):
    return 0.1 / (1 + k / 20)


def growing(k):
    return 5 + k // 15


ALGORITHMS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "adam": {"optimizer": "adam", "lr": 0.01},
    "adam, own constants": {"optimizer": "adam", "lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3},
    "lr scheduled": {"lr": decaying},
    "lr and batch scheduled": {"lr": decaying, "batch": growing, "momentum": 0.5},
    "adam scheduled": {"lr": lambda k: 0.1 * decaying(k), "batch": growing, "optimizer": "adam"},
}


def written_out(options):
    lr, batch = options.get("lr", 0.1), options.get("batch", 7)
    adam = (*options.get("betas", (0.9, 0.999)), options.get("eps", 1e-8)) if "optimizer" in options else None
    return (
        lr if callable(lr) else lambda k: lr,
        batch if callable(batch) else lambda k: batch,
        {"momentum": options.get("momentum", 0.0), "adam": adam},
    )


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("sampling", ["shuffle", "replace"])
def test_steps_equal_numpy(name, sampling):
    """60 steps; every step recorded. Single precision: 60 roundings of 6e-8 times weights of size 1, grown by at most 100."""
    mlp, data = spiral_net(weight_decay=0.01)
    options = {"lr": 0.1, "batch": 7, **ALGORITHMS[name]}
    lr, batch, rest = written_out(options)
    expected = reference(mlp, data, lr, batch, 60, seed=5, replace=sampling == "replace", **rest)
    record = nets.Record(weights="all", weights_every=1)
    for precision, dtype, tolerance in (("double", np.float64, 1e-11), ("single", np.float32, 60 * 6e-8 * 100)):
        run = nets.train(mlp, data, steps=60, seed=5, sampling=sampling, precision=precision, record=record, **options)
        assert run.weights["value"].dtype == run.state["theta"].dtype == dtype and run.theta.dtype == np.float64
        np.testing.assert_allclose(run.weights["value"], expected, rtol=0, atol=tolerance)
    assert np.abs(run.theta - expected[-1]).max() > 1e-9  # single precision is single


@pytest.mark.parametrize("name", ALGORITHMS)
def test_recorded_velocity_is_the_change(name):
    """velocity_norm2 is |change of theta / lr|^2, gradient_norm2 that of the minibatch gradient with decay; sums over all steps."""
    mlp, data = spiral_net(weight_decay=0.05)
    options = {"lr": 0.1, "batch": 7, **ALGORITHMS[name]}
    lr, batch, rest = written_out(options)
    record = nets.Record(weights="all", weights_every=1, losses_every=24, blocks=6)
    run = nets.train(mlp, data, steps=48, seed=1, record=record, **options)
    path = np.r_[mlp.init(1)[None], reference(mlp, data, lr, batch, 48, seed=1, **rest)]
    v = np.diff(path, axis=0) / np.array([lr(k) for k in range(48)])[:, None]
    np.testing.assert_allclose(run.blocks["velocity_norm2"], (v * v).sum(1).reshape(6, 8).mean(1), rtol=1e-8)
    np.testing.assert_allclose(run.mean_weights, path[:-1].mean(axis=0), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("precision", ["double", "single"])
def test_resume_gives_the_same_bits(tmp_path, name, precision):
    """Split in the middle of an epoch, through a file: not one bit of the state differs."""
    mlp, data = spiral_net(weight_decay=1e-3)
    options = {"lr": 0.1, "batch": 9, "seed": 4, "precision": precision, **ALGORITHMS[name]}
    whole = nets.train(mlp, data, steps=75, **options, record=nets.Record(weights=None))
    nets.train(mlp, data, steps=38, **options, out=tmp_path / "a.h5")
    schedules = {key: value for key, value in options.items() if callable(value)}
    record = nets.Record(center=np.zeros(32), basis=np.eye(32), weights_every=3)
    second = nets.train(mlp, data, resume=tmp_path / "a.h5", steps=37, record=record, out=tmp_path / "b.h5", **schedules)
    for key, array in whole.state.items():
        assert np.array_equal(second.state[key], array) and second.state[key].dtype == array.dtype, key
    assert (second.optimizer, second.precision, second.betas, second.eps) == (whole.optimizer, precision, whole.betas, whole.eps)
    if schedules:
        missing = next(iter(schedules))
        with pytest.raises(ValueError, match=f"{missing} of the run was a schedule"):
            nets.train(mlp, data, resume=second, steps=5, **{k: v for k, v in schedules.items() if k != missing})


def test_schedules_are_one_concept(tmp_path):
    """Array or function, the same bits as the chain's own values; what was used is in the run, as lengths of constancy."""
    import fpsolve as fps

    mlp, data = spiral_net()
    rates, sizes = [0.2, 0.2, 0.1, 0.05], [5, 10]
    chain = fps.SGDChain(mlp.ensemble(data), rates, sizes, sampling="shuffle")
    table = nets.train(mlp, data, lr=rates, batch=sizes, steps=40, seed=1, out=tmp_path / "run.h5")
    named = nets.train(mlp, data, lr=chain.lr_at, batch=chain.batch_at, steps=40, seed=1)
    assert (table.theta == named.theta).all() and table.lr is None and table.batch is None
    for run in (table, named, nets.load_run(tmp_path / "run.h5")):
        assert run.schedule["step"].tolist() == [1, 2, 3, 4]
        assert run.schedule["lr"].tolist() == [0.2, 0.2, 0.1, 0.05] and run.schedule["batch"].tolist() == [5, 10, 10, 10]
    assert "lr scheduled, batch scheduled" in repr(table)
    constant = nets.train(mlp, data, lr=0.1, batch=10, steps=40, seed=1)
    same = nets.train(mlp, data, lr=lambda k: 0.1, batch=[10], steps=40, seed=1)
    assert (constant.theta == same.theta).all()
    with pytest.raises(ValueError, match="no schedule series was recorded"):
        _ = constant.schedule
    pieces = nets.train(mlp, data, lr=lambda k: 0.1, batch=[10], steps=40, seed=1, record=nets.Record(losses_every=3))
    assert pieces.schedule["step"].tolist() == [1]
    with pytest.raises(ValueError, match="constant learning rate"):
        nets.fluctuation_dissipation(table)


def test_single_precision_learns_as_well():
    """Digits: the same loss after 10 epochs from the same batches to 1 %, though the weights differ by far more than rounding."""
    data, mlp = nets.load_data("digits"), nets.MLP((64, 32, 10))
    runs = [nets.train(mlp, data, lr=0.2, batch=20, epochs=10, seed=0, precision=p) for p in ("double", "single")]
    losses = [run.losses["train_loss"][-1] for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=0.01) and losses[0] < 0.15
    assert 1e-7 < np.abs(runs[0].theta - runs[1].theta).max() < 1e-2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_moments_never_become_denormal(dtype):
    """A weight without gradient halves its moments at every step: they end at 0, and are no denormal numbers on the way."""
    smallest, steps = np.finfo(dtype).tiny, 1500
    constants = np.array([0.5, 0.5, 0.5, 1e-8, 0.0, 1e8 * smallest], dtype=dtype)
    theta, first, second, grad = np.zeros(3, dtype), np.full(3, 0.7, dtype), np.full(3, 0.4, dtype), np.zeros(3, dtype)
    velocity, seen = first.copy(), []
    for t in range(1, steps + 1):
        K._sgd(theta, velocity, grad, dtype(0.1), constants)
        K._adam(theta, first, second, grad, dtype(0.1), constants, t)
        seen.append(np.r_[velocity, first, second])
    seen = np.abs(seen)
    assert not ((seen > 0) & (seen < smallest)).any() and (seen[-1] == 0).all() and (seen[20] > 0).all()
    assert dtype(0.7) * dtype(0.5) ** dtype(np.log2(1 / smallest) + 10) > 0  # halving alone would pass through denormal numbers


# ---- several seeds ------------------------------------------------------------------------------------------------------


def test_many_seeds_are_the_single_runs(tmp_path):
    mlp, data = spiral_net()
    options = {"lr": 0.01, "batch": 10, "steps": 150, "optimizer": "adam", "precision": "single"}
    runs = nets.train_many(mlp, data, seeds=[5, 2, 9], threads=2, out=tmp_path / "run.h5", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-2.h5", "run-5.h5", "run-9.h5"]
    for seed, run in zip([5, 2, 9], runs, strict=True):
        alone = nets.train(mlp, data, seed=seed, **options)
        assert run.seed == seed and np.array_equal(run.theta, alone.theta)
        assert np.array_equal(run.losses["train_loss"], alone.losses["train_loss"])
        assert np.array_equal(nets.load(tmp_path / f"run-{seed}.h5").weights["value"], alone.weights["value"])


def test_many_seeds_report_together():
    mlp, data = spiral_net()
    calls, lock = [], threading.Lock()

    def seen(done, total):
        with lock:
            calls.append((done, total))

    nets.train_many(mlp, data, seeds=range(3), lr=0.1, batch=10, steps=100, record=nets.Record(losses_every=50), progress=seen)
    assert [done for done, _ in calls] == [50, 100, 150, 200, 250, 300] and {total for _, total in calls} == {300}


def test_one_failure_stops_the_others(tmp_path):
    """Weights that overflow for one seed only: the error comes out, and no run goes on to its 10^9 steps."""
    data, mlp, wild = nets.load_data("teacher", n=100), nets.MLP((8, 1), loss="mse"), []

    def lr(k):
        me = threading.current_thread()
        if me is not threading.main_thread() and not wild:
            wild.append(me)
        return 100.0 if me in wild else 1e-3

    record = nets.Record(weights=None, losses_every=10**6)
    with pytest.raises(FpsolveError, match="diverged"):
        nets.train_many(mlp, data, seeds=[0, 1], threads=2, lr=lr, batch=10, steps=10**9, record=record, out=tmp_path / "run.h5")
    assert len(wild) == 1
    (left,) = tmp_path.iterdir()  # of the run that was stopped; nothing of the one that failed
    assert not nets.load_run(left).complete


def test_a_stop_from_outside_keeps_every_run():
    """A progress function that raises KeyboardInterrupt: all runs come back with what was done, and go on to the same bits."""
    mlp, data = spiral_net()

    def stop(done, total):
        if done >= 300:
            raise KeyboardInterrupt

    record = nets.Record(losses_every=50)
    runs = nets.train_many(mlp, data, seeds=[0, 1], threads=2, lr=0.1, batch=10, steps=5000, record=record, progress=stop)
    assert not any(run.complete for run in runs) and sum(run.step for run in runs) < 1000
    for seed, run in enumerate(runs):
        rest = nets.train(mlp, data, resume=run, steps=1000 - run.step)
        assert np.array_equal(rest.theta, nets.train(mlp, data, lr=0.1, batch=10, steps=1000, seed=seed).theta)


# ---- files of earlier versions, errors ----------------------------------------------------------------------------------


def test_older_files_are_read(tmp_path):
    """A file without the members that came with Adam and single precision is a run of plain SGD in double precision."""
    mlp, data = spiral_net()
    nets.train(mlp, data, lr=0.1, batch=10, steps=30, seed=2, out=tmp_path / "run.h5")
    with h5py.File(tmp_path / "run.h5", "a") as file:
        for name in ("training/optimizer", "training/precision", "state/second"):
            del file[name]
    run = nets.load_run(tmp_path / "run.h5")
    assert (run.optimizer, run.precision, run.betas) == ("sgd", "double", None)
    rest = nets.train(mlp, data, resume=run, steps=20)
    assert (rest.theta == nets.train(mlp, data, lr=0.1, batch=10, steps=50, seed=2).theta).all()


def fails(k):
    raise RuntimeError("no rate")


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"optimizer": "adai"}, ValueError, "optimizer must be one of"),
        ({"precision": "half"}, ValueError, "precision must be one of"),
        ({"optimizer": "adam", "momentum": 0.9}, ValueError, "belongs to optimizer='sgd'"),
        ({"betas": (0.9, 0.99)}, ValueError, "betas and eps belong to"),
        ({"optimizer": "adam", "betas": (0.9, 1.0)}, ValueError, r"betas\[1\]"),
        ({"lr": [0.1, -0.1]}, ValueError, "lr must be .* at iteration 1"),
        ({"lr": lambda k: 0.1 if k < 9 else 0.0}, ValueError, "got 0.0 at iteration 9"),
        ({"lr": fails}, RuntimeError, "no rate"),
        ({"batch": [10, 101]}, ValueError, "batch 101 exceeds the 100 samples at iteration 1"),
        ({"batch": [10, 20], "steps": None, "epochs": 2}, ValueError, "give steps instead of epochs"),
    ],
)
def test_bad_input(options, error, message):
    mlp, data = spiral_net()
    with pytest.raises(error, match=message):
        nets.train(mlp, data, **({"lr": 0.1, "batch": 10, "steps": 10} | options))


def test_bad_resume_and_many():
    mlp, data = spiral_net()
    run = nets.train(mlp, data, lr=0.1, batch=10, steps=10)
    for options in ({"optimizer": "adam"}, {"precision": "single"}):
        with pytest.raises(ValueError, match="theta0=run.theta"):
            nets.train(mlp, data, resume=run, steps=1, **options)
    for seeds in ([], [1, 1]):
        with pytest.raises(ValueError, match="different integers"):
            nets.train_many(mlp, data, seeds=seeds, lr=0.1, batch=10, steps=10)
    with pytest.raises(ValueError, match="threads must be"):
        nets.train_many(mlp, data, seeds=[1], threads=0, lr=0.1, batch=10, steps=10)
    with pytest.raises(TypeError, match="takes seeds, not seed"):
        nets.train_many(mlp, data, seeds=[1], seed=2, lr=0.1, batch=10, steps=10)
