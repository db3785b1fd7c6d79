"""Checkpoints: a run that is interrupted or killed and then repeated gives the bits of one that was left alone."""

import _thread
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from path_cases import double_well

import fpsolve as fps
from fpsolve._runner import Control

ROOT = Path(__file__).parent.parent
LEFT, RIGHT = fps.Region.halfspace([1.0], -0.8), fps.Region.halfspace([-1.0], -0.8)


def inertial():
    return fps.Underdamped(fps.potentials.double_well(), fps.Noise.isotropic(0.4), friction=1.0)


def linear():
    """Twelve coupled variables: the matrix kernel, with an odd number of noises."""
    H = np.diag(np.arange(1.0, 12.0)) + 0.1
    return fps.Process(fps.potentials.quadratic(H), fps.Noise.constant(0.1 * np.eye(11) + 0.02))


def scheduled(dim=1):
    """A learning rate and a batch size that change at every iteration: the fused kernel, or the matrix kernel."""
    U = fps.potentials.double_well() if dim == 1 else fps.potentials.quadratic(np.diag(np.arange(1.0, dim + 1)) + 0.1)
    noise = fps.Noise.covariance(8.0 * np.eye(dim) + 0.1, 0.1)
    return fps.SGDChain.gaussian(U, noise, lambda k: 0.07 + 0.03 * np.sin(k), 0.5, batch=lambda k: 1 + k % 3)


def chain(**options):
    data = {"a": np.random.default_rng(5).standard_normal(40)}
    ensemble = fps.Ensemble.from_expression("(x - a)**2/2", "x", data)
    return fps.SGDChain(ensemble, **{"lr": 0.1, "batch": 4, **options})


def gaussian_adam():
    noise = fps.Noise.covariance([[1.0, 0.2], [0.2, 0.5]], 0.01)
    return fps.SGDChain.gaussian(fps.potentials.quadratic([[2.0, 0.3], [0.3, 1.0]]), noise, 0.01, optimizer="adam")


@pytest.fixture
def interrupt(monkeypatch):
    """Make kernel calls short, and press Ctrl-C in the next run after so many of them."""
    monkeypatch.setattr("fpsolve._paths.LANE_STEPS_PER_CALL", 1 << 13)
    monkeypatch.setattr("fpsolve._blocks.LANE_STEPS_PER_CALL", 1 << 13)
    monkeypatch.setattr("fpsolve._passage.LANE_STEPS_PER_CALL", 1 << 13)
    original = Control.add
    state = {"count": itertools.count(), "stop": 0}

    def add(self, amount):
        original(self, amount)
        if state["stop"] and next(state["count"]) == state["stop"]:
            _thread.interrupt_main()
            deadline = time.monotonic() + 20.0
            while not self.stopped:
                assert time.monotonic() < deadline
                time.sleep(0.001)

    def after(calls):
        state["count"], state["stop"] = itertools.count(), calls

    monkeypatch.setattr(Control, "add", add)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    yield after
    signal.signal(signal.SIGINT, before)


SIMULATIONS = {
    "final": (double_well, {"x0": [-1.0], "dt": 0.01, "t": 4.0}),
    "moments": (double_well, {"x0": [-1.0], "dt": 0.01, "t": 4.0, "save": "moments", "t_burn": 1.0, "every": 3}),
    "histogram": (
        double_well,
        {"x0": [-1.0], "dt": 0.01, "t": 4.0, "save": "histogram", "t_burn": 1.0, "bins": 20, "ranges": ((-2, 2),)},
    ),
    "times": (double_well, {"x0": [-1.0], "dt": 0.01, "t": 4.0, "save": [0.0, 0.5, 1.7, 4.0]}),
    "autocorrelation": (double_well, {"x0": [-1.0], "dt": 0.01, "t": 4.0, "save": "autocorrelation", "lags": 0.4, "every": 2}),
    "occupation": (double_well, {"x0": [-1.0], "dt": 0.01, "t": 4.0, "save": "occupation", "regions": [LEFT, RIGHT]}),
    "inertial": (inertial, {"x0": [-1.0], "dt": 0.05, "t": 20.0, "save": "autocorrelation", "lags": [0.5, 1.0], "t_burn": 2.0}),
    "linear moments": (linear, {"x0": np.zeros(11), "dt": 0.01, "t": 1.0, "save": "moments", "t_burn": 0.5}),
    "linear times": (linear, {"x0": np.zeros(11), "dt": 0.01, "t": 1.0, "save": [0.2, 0.9]}),
    "linear correlation": (
        linear,
        {"x0": np.zeros(11), "dt": 0.01, "t": 1.0, "save": "autocorrelation", "lags": 0.1, "axes": [0, 3], "t_burn": 0.2},
    ),
    "scheduled moments": (scheduled, {"x0": [-1.0], "t": 400, "save": "moments", "t_burn": 100}),
    "scheduled matrix": (lambda: scheduled(11), {"x0": np.zeros(11), "t": 100, "save": "moments", "t_burn": 10}),
    "adam": (gaussian_adam, {"x0": [0.5, 0.0], "t": 1000, "save": "moments", "t_burn": 100}),
    "chain moments": (chain, {"x0": [0.0], "t": 1000, "save": "moments", "t_burn": 100}),
    "chain correlation": (chain, {"x0": [0.0], "t": 1000, "save": "autocorrelation", "lags": 20, "t_burn": 100}),
    "chain occupation": (
        lambda: chain(sampling="shuffle", optimizer="adam"),
        {"x0": [0.0], "t": 1000, "save": "occupation", "regions": [fps.Region.ball([0.0], 0.2)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIMULATIONS)
def test_interrupted_and_resumed_simulation(name, tmp_path, interrupt):
    make, options = SIMULATIONS[name]
    process, path = make(), tmp_path / "run.h5"
    options = {**options, "n": 700, "seed": 11}
    undisturbed = fps.simulate(process, **options, threads=1)
    assert not undisturbed.partial
    for calls, threads, size in ((3, 1, 300), (4, 2, 100), (5, 1, None)):
        interrupt(calls)
        part = fps.simulate(process, **options, checkpoint=path, threads=threads, chunk=size)
        assert part.partial
        assert part.status["interrupted"] > 0
        kept = fps.io.load_tree(path)
        assert not kept["checkpoint"]["complete"]
        assert kept["units"] or kept["done"]["finished"].any()
    interrupt(0)
    resumed = fps.simulate(process, **options, checkpoint=path, threads=2, chunk=200)
    assert resumed == undisturbed
    assert fps.load(path) == undisturbed


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (double_well, {"x0": [-1.0], "region": fps.Region.halfspace([1.0], 1.0), "dt": 0.01}),
        (double_well, {"x0": [-1.0], "region": fps.Region.halfspace([1.0], 1.0), "dt": 0.01, "t_max": 5.0}),
        (inertial, {"x0": [-1.0], "region": fps.Region.halfspace([1.0], 1.0), "dt": 0.05}),
        (scheduled, {"x0": [-1.0], "region": fps.Region.halfspace([1.0], 0.9)}),
        (chain, {"x0": [0.0], "region": fps.Region.ball([0.0], 0.5)}),
        (chain, {"x0": [0.0], "region": fps.Region.ball([0.0], 0.5), "t_max": 100}),
    ],
    ids=["bridge", "censored", "inertial", "scheduled", "chain", "chain censored"],
)
def test_interrupted_and_resumed_escapes(make, options, tmp_path, interrupt):
    process, path = make(), tmp_path / "run.h5"
    options = {**options, "n": 3000, "seed": 12}
    undisturbed = fps.escape_times(process, **options, threads=1)
    for calls, threads, size in ((2, 1, 2500), (3, 2, 1000)):
        interrupt(calls)
        part = fps.escape_times(process, **options, checkpoint=path, threads=threads, chunk=size)
        assert part.partial
        assert len(part.times) < 3000 or part.censored.sum() > undisturbed.censored.sum()
    interrupt(0)
    assert fps.escape_times(process, **options, checkpoint=path, threads=2, chunk=600) == undisturbed
    assert fps.load(path) == undisturbed


def test_states_are_resumed_in_mid_run(tmp_path, interrupt):
    """Few trajectories and many steps: no unit of work is finished when the run is interrupted, and yet the steps are kept."""
    process, path = double_well(), tmp_path / "run.h5"
    options = {"x0": [-1.0], "t": 20.0, "dt": 0.01, "n": 5, "seed": 3}
    interrupt(40)
    assert fps.simulate(process, **options, checkpoint=path).partial
    kept = fps.io.load_tree(path)
    assert not kept["done"]["finished"].any()
    assert kept["units"]["0-5"]["state"]["now"] == 40 * 32  # 2^13 lane steps of a block of 256 lanes
    interrupt(0)
    made = []
    original = Control.add
    Control.add = lambda self, amount: (made.append(amount), original(self, amount))[1]
    try:
        resumed = fps.simulate(process, **options, checkpoint=path)
    finally:
        Control.add = original
    assert made[0] == 5 * 40 * 32  # what the progress bar starts with
    assert sum(made) == 5 * 2000
    assert resumed == fps.simulate(process, **options)


def test_a_finished_file_returns_at_once(tmp_path, monkeypatch):
    process, path = double_well(), tmp_path / "run.h5"
    first = fps.simulate(process, [-1.0], t=1.0, dt=0.01, n=500, checkpoint=path)  # the seed is drawn
    monkeypatch.setattr("fpsolve.langevin.run_chunks", None)
    again = fps.simulate(process, [-1.0], t=1.0, dt=0.01, n=500, checkpoint=str(path))
    assert again == first
    assert again.seed == first.seed


OTHERS = {
    "process": {"process": fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.41))},
    "x0": {"x0": [-1.1]},
    "t": {"t": 2.0},
    "dt": {"dt": 0.02},
    "n": {"n": 501},
    "method": {"method": "heun"},
    "save": {"save": "moments"},
    "seed": {"seed": 8},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_call_is_refused(name, tmp_path):
    path = tmp_path / "run.h5"
    call = {"process": double_well(), "x0": [-1.0], "t": 1.0, "dt": 0.01, "n": 500, "seed": 7, "checkpoint": path}
    fps.simulate(**call)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"checkpoint of another call: {name} was .*, is "):
        fps.simulate(**{**call, **OTHERS[name]})
    assert path.read_bytes() == before
    assert fps.simulate(**call, threads=1, chunk=77, checkpoint_every=5.0).n == 500


def test_other_differences_are_seen(tmp_path):
    """Region, schedule, Python functions, ensemble data, versions."""
    path = tmp_path / "a.h5"
    fps.escape_times(double_well(), [-1.0], LEFT.ball([-1.0], 0.5), n=50, dt=0.01, seed=1, checkpoint=path)
    with pytest.raises(ValueError, match="region was"):
        fps.escape_times(double_well(), [-1.0], LEFT.ball([-1.0], 0.6), n=50, dt=0.01, seed=1, checkpoint=path)
    with pytest.raises(ValueError, match="function was escape_times, is simulate"):
        fps.simulate(double_well(), [-1.0], t=1.0, dt=0.01, n=50, seed=1, checkpoint=path)
    path = tmp_path / "b.h5"
    fps.simulate(chain(), [0.0], t=20, n=20, seed=1, checkpoint=path)
    with pytest.raises(ValueError, match="process was"):
        fps.simulate(chain(lr=lambda k: 0.1 if k < 1000 else 0.05), [0.0], t=20, n=20, seed=1, checkpoint=path)
    other = fps.Ensemble.from_expression("(x - a)**2/2", "x", {"a": np.random.default_rng(6).standard_normal(40)})
    with pytest.raises(ValueError, match="process was"):
        fps.simulate(fps.SGDChain(other, lr=0.1, batch=4), [0.0], t=20, n=20, seed=1, checkpoint=path)
    with h5py.File(path, "a") as file:
        del file["checkpoint/call/numpy"]
        file["checkpoint/call"].create_dataset("numpy", data=np.array(b"1.0", dtype=h5py.string_dtype("utf-8", 3)))
        file["checkpoint/call/numpy"].attrs["type"] = "str"
    with pytest.raises(ValueError, match="numpy was 1.0, is "):
        fps.simulate(chain(), [0.0], t=20, n=20, seed=1, checkpoint=path)


def test_damaged_and_foreign_files_are_refused_and_left_alone(tmp_path, interrupt):
    process, path = double_well(), tmp_path / "run.h5"
    call = {"x0": [-1.0], "t": 4.0, "dt": 0.01, "n": 500, "seed": 7, "checkpoint": path}
    interrupt(3)
    assert fps.simulate(process, **call).partial
    interrupt(0)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:20], b"", b"not HDF5 at all" * 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checkpoint cannot be used.*left as it is"):
            fps.simulate(process, **call)
        assert path.read_bytes() == damaged
    fps.save(path, fps.Estimate(1.0))
    with pytest.raises(ValueError, match="is not a checkpoint, it holds estimate"):
        fps.simulate(process, **call)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["done/final"]
    with pytest.raises(ValueError, match="done/final is missing"):
        fps.simulate(process, **call)
    path.write_bytes(whole)
    assert not fps.simulate(process, **call).partial


def test_a_folder_that_cannot_be_written_is_an_error_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr("fpsolve.langevin.run_chunks", None)
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        fps.simulate(double_well(), [-1.0], t=1.0, dt=0.01, n=5, checkpoint=tmp_path / "missing" / "run.h5")
    with pytest.raises(IsADirectoryError):
        fps.escape_times(double_well(), [-1.0], RIGHT.ball([-1.0], 0.5), dt=0.01, n=5, checkpoint=tmp_path)
    for wrong, error in ((0.0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("60", TypeError)):
        with pytest.raises(error, match="checkpoint_every"):
            fps.simulate(double_well(), [-1.0], t=1.0, dt=0.01, n=5, checkpoint=tmp_path / "run.h5", checkpoint_every=wrong)
    with pytest.raises(TypeError, match="name of a file"):
        fps.simulate(double_well(), [-1.0], t=1.0, dt=0.01, n=5, checkpoint=3)


def test_a_full_disk_does_not_end_the_run(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fpsolve.io.save_tree", full)
    with pytest.warns(RuntimeWarning, match="could not be written .*No space left"):
        out = fps.simulate(double_well(), [-1.0], t=1.0, dt=0.01, n=50, seed=1, checkpoint=tmp_path / "run.h5")
    assert out == fps.simulate(double_well(), [-1.0], t=1.0, dt=0.01, n=50, seed=1)


def test_an_error_on_the_way_keeps_what_was_done(tmp_path):
    """The user's gradient fails in the third group of trajectories; the first two are in the file."""

    class Faulty:
        dim, size, calls = 600, 10, 0  # groups of 27 trajectories

        def gradient(self, theta, indices):
            return theta

        def gradients(self, thetas, indices):
            self.calls += 1
            if self.calls > 2 * 64 + 10 and self.broken:
                raise RuntimeError("no more data")
            return thetas

    faulty, path = Faulty(), tmp_path / "run.h5"
    sgd = fps.SGDChain(faulty, lr=0.1, batch=2)
    faulty.broken = True
    with pytest.raises(RuntimeError, match="no more data"):
        fps.simulate(sgd, np.ones(600), t=64, n=100, seed=1, checkpoint=path)
    assert fps.io.load_tree(path)["done"]["finished"].sum() == 2 * 27
    faulty.broken = False
    assert fps.simulate(sgd, np.ones(600), t=64, n=100, seed=1, checkpoint=path) == fps.simulate(
        sgd, np.ones(600), t=64, n=100, seed=1
    )


SCRIPT = """
import sys
import fpsolve as fps
process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.2))
path, kind, threads, chunk, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[6])
more = {"checkpoint": path or None, "checkpoint_every": 0.02, "threads": threads, "chunk": chunk, "seed": 21, "dt": 0.01}
if kind == "escape":
    out = fps.escape_times(process, [-1.0], fps.Region.halfspace([1.0], 1.0), n=1500 * size, **more)
else:
    out = fps.simulate(process, [-1.0], t=600.0 * size, n=600, save="autocorrelation", lags=1.0, every=5, **more)
out.save(sys.argv[5])
"""


def killed_and_resumed(kind: str, kills: int, size: int, tmp_path: Path) -> None:
    """Kill the run at random moments after each first write of the file, then let it end."""
    rng = random.Random(kind)
    path = tmp_path / "run.h5"

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SCRIPT, *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL)

    assert start("", kind, "1", "1000", "alone.h5", str(size)).wait(100) == 0
    killed = 0
    while killed < kills:
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = start(str(path), kind, str(rng.choice([1, 2])), str(rng.choice([200, 500, 1000])), "out.h5", str(size))
        deadline = time.monotonic() + 60.0
        while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        if process.wait(10) == 0:
            break  # it had come to its end
        killed += 1
        fps.load(path)  # readable at any moment
    assert killed >= (kills + 1) // 2
    assert start(str(path), kind, "2", "300", "out.h5", str(size)).wait(100) == 0
    assert fps.load(tmp_path / "out.h5") == fps.load(tmp_path / "alone.h5") == fps.load(path)


def test_killed_and_resumed(tmp_path):
    killed_and_resumed("simulate", 1, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["escape", "simulate"])
def test_killed_many_times(kind, tmp_path):
    killed_and_resumed(kind, 12, 8, tmp_path)
