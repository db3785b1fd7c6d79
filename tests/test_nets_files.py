"""The file of a run: described arrays, other readers, and SIGKILL at any moment."""

import random
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from nets_cases import spiral_net

import nets
from nets import _store


@pytest.fixture
def everything(tmp_path):
    """A run that recorded all there is: weights, losses of both sets, projections, schedules, Adam."""
    mlp, data = spiral_net(weight_decay=0.01)
    record = nets.Record(weights_every=1, center=np.zeros(32), basis=np.eye(32)[:, :5], losses_every=50, test=True)
    run = nets.train(
        mlp, data, lr=[0.02, 0.01], batch=[10, 5], steps=300, seed=0, optimizer="adam", record=record, out=tmp_path / "run.h5"
    )
    return run, tmp_path / "run.h5"


def datasets(group):
    for name, node in group.items():
        if isinstance(node, h5py.Group):
            yield from datasets(node)
        elif node.shape is not None and node.ndim and node.attrs.get("type", b"") != b"scale":
            yield name, node


def test_every_array_is_described(everything):
    """Axes, units, long name, and a dimension scale on each axis, of every array of every file that nets writes."""
    _, path = everything
    mlp, data = spiral_net()
    theta, where = mlp.init(0), (data.x_train, data.y_train)
    others = (
        nets.measure(mlp, data, theta=theta, lr=0.1, batch=10),
        nets.top_eigenpairs(mlp, theta, *where, k=3),
        nets.spectral_density(mlp, theta, *where, probes=2, steps=6),
        nets.pca(nets.load_run(path)),
    )
    paths = [path]
    for i, result in enumerate(others):
        paths.append(path.with_name(f"{i}.h5"))
        result.save(paths[-1])
    seen = 0
    for each in paths:
        with h5py.File(each) as file:
            assert file.attrs["schema_version"] == b"1.0" and "provenance/0" in file
            for _, node in datasets(file):
                names = node.attrs["dims"].decode().split()
                assert len(names) == node.ndim == len(set(names)) and node.attrs["units"] and node.attrs["long_name"], node.name
                for axis, name in enumerate(names):
                    scale = node if node.is_scale else node.dims[axis][0]
                    assert scale.name.rsplit("/", 1)[-1] == name and len(scale) == node.shape[axis], (node.name, name)
                seen += 1
    assert seen > 50


def test_scales_hold_the_steps(everything):
    run, path = everything
    with h5py.File(path) as file:
        assert np.array_equal(file["weights/value"].dims[0][0][()], run.weights["step"])
        assert np.array_equal(file["loss/test_error"].dims[0]["step"][()], run.losses["step"])


def test_xarray_reads_it(everything):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    run, path = everything
    with xarray.open_dataset(path, group="weights", engine="h5netcdf") as file:
        assert file["value"].dims == ("step", "weight") and np.array_equal(file["value"].sel(step=17), run.weights["value"][16])
        assert file["value"].attrs["units"] == "weight"


def test_h5dump_reads_it(everything):
    if shutil.which("h5dump") is None:
        pytest.skip("h5dump is not installed")
    _, path = everything
    shown = subprocess.run(["h5dump", "-a", "/loss/train_loss/units", str(path)], capture_output=True, text=True, check=True)
    assert '"loss"' in shown.stdout


def test_newer_versions_are_refused(everything):
    _, path = everything
    nets.pca(nets.load_run(path)).save(path.with_name("pca.h5"))
    for each in (path, path.with_name("pca.h5")):
        with h5py.File(each, "a") as file:
            file.attrs["schema_version"] = np.bytes_("2.0")
        with pytest.raises(ValueError, match=r"schema version 2.0 is newer than 1.0.*update fpsolve"):
            nets.load(each)


# ---- killed at any moment -----------------------------------------------------------------------------------------------

CODE = """
import sys, nets, nets._store, nets.train
sys.modules["nets.train"].SEGMENT_SECONDS = 0.0
mlp, data = nets.MLP((2, 6, 2), activation="tanh"), nets.load_data("spiral", n=125)
print("ready", flush=True)
seed = 0
while True:  # short runs: most of the time goes into segments and joining
    nets.train(mlp, data, lr=0.1, batch=10, steps=200, seed=seed, out=sys.argv[1],
               record=nets.Record(losses_every=25, weights_every=10))
    seed += 1
"""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, kills):
    """Runs follow each other into one file; SIGKILL at random moments. Whatever is left is a whole run or the start of one.

    The steps at hand must be those of an undisturbed run of the same seed, record by record, and a new run can be started.
    """
    mlp, data = spiral_net()
    path, truth, outcomes, chance = tmp_path / "run.h5", {}, [], random.Random(5)
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", CODE, str(path)])
        try:
            deadline = time.time() + 300
            while not path.exists():  # the first run: imports and compilation
                assert process.poll() is None and time.time() < deadline
                time.sleep(0.01)
            time.sleep(0.5 * chance.random())
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        run = nets.load_run(path)
        outcomes.append(run.complete)
        if run.seed not in truth:
            record = nets.Record(losses_every=25, weights_every=10)
            truth[run.seed] = nets.train(mlp, data, lr=0.1, batch=10, steps=200, seed=run.seed, record=record)
        whole = truth[run.seed]
        assert run.step % 25 == 0 and run.losses["step"].tolist() == list(range(0, run.step + 1, 25))
        if run.step:
            assert np.array_equal(run.weights["value"], whole.weights["value"][: run.step // 10])
        assert np.array_equal(run.losses["train_loss"], whole.losses["train_loss"][: 1 + run.step // 25])
        rest = run if run.step == 200 else nets.train(mlp, data, resume=run, steps=200 - run.step)
        assert np.array_equal(rest.theta, whole.theta)
        assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]  # load_run cleared up
        path.unlink()
    assert kills < 20 or outcomes.count(False) >= 5  # the moments were not all between two runs


def make_segments(path, steps=200):
    """A run of five segments whose process ended before it joined them."""
    mlp, data = spiral_net()
    sys.modules["nets.train"].SEGMENT_SECONDS = 0.0
    try:
        nets.train(
            mlp, data, lr=0.1, batch=10, steps=steps, seed=1, out=path, record=nets.Record(losses_every=40, weights_every=10)
        )
    finally:
        sys.modules["nets.train"].SEGMENT_SECONDS = _store.SEGMENT_SECONDS


@pytest.fixture
def unjoined(tmp_path, monkeypatch):
    path, join, stores = tmp_path / "run.h5", _store._join, []

    def stop(target, folder, name):
        stores.append((target, folder, name))
        raise KeyboardInterrupt

    monkeypatch.setattr(_store, "_join", stop)
    with pytest.raises(KeyboardInterrupt):
        make_segments(path)
    monkeypatch.undo()
    assert join is _store._join and len(list(_store.parts_folder(path).glob("*.h5"))) >= 5
    return path


def test_killed_between_joining_and_removing(unjoined):
    """The joined file beside its segments, or some of them: the file counts, and the rest is cleared away."""
    folder = _store.parts_folder(unjoined)
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    run = nets.load_run(unjoined)
    assert run.complete and not folder.exists()
    shutil.copytree(copy, folder)
    for file in sorted(folder.glob("*.h5"))[:3]:
        file.unlink()
    assert np.array_equal(nets.load(unjoined).weights["value"], run.weights["value"]) and not folder.exists()
    shutil.copytree(copy, folder)
    make_segments(unjoined)  # a new run may follow at once
    assert not folder.exists()
    unjoined.unlink()
    shutil.copytree(copy, folder)
    (folder / "000001.h5").unlink()
    with pytest.raises(ValueError, match="lacks some of its segments"):
        nets.load_run(unjoined)


def test_an_older_file_does_not_hide_a_killed_run(unjoined):
    """overwrite=True, killed: what is at hand is the start of the new run, not the old file."""
    mlp, data = spiral_net()
    folder = _store.parts_folder(unjoined)
    folder.rename(folder.with_name("later"))
    nets.train(mlp, data, lr=0.1, batch=10, steps=7, seed=9, out=unjoined)
    folder.with_name("later").rename(folder)
    assert nets.load_run(unjoined).seed == 1


def test_a_run_that_goes_on_is_left_alone(tmp_path):
    mlp, data = spiral_net()
    path = tmp_path / "run.h5"

    def look(done, total):
        if done == 100:
            command = [sys.executable, "-c", f"import nets; nets.load_run({str(path)!r})"]
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            assert said.returncode and "is being written by a run that goes on" in said.stderr

    run = nets.train(mlp, data, lr=0.1, batch=10, steps=200, out=path, record=nets.Record(losses_every=100), progress=look)
    assert run.complete and [p.name for p in tmp_path.iterdir()] == ["run.h5"]


def test_an_error_on_the_way_keeps_what_was_written(tmp_path, monkeypatch):
    """A progress function that fails, a disk that is full: the segments before are read, and the run goes on to the same bits."""
    monkeypatch.setattr(sys.modules["nets.train"], "SEGMENT_SECONDS", 0.0)
    mlp, data = spiral_net()
    whole = nets.train(mlp, data, lr=0.1, batch=10, steps=400, seed=3)
    options = {"lr": 0.1, "batch": 10, "steps": 400, "seed": 3, "record": nets.Record(losses_every=50)}

    def fails(done, total):
        if done == 200:
            raise RuntimeError("no screen")

    with pytest.raises(RuntimeError, match="no screen"):
        nets.train(mlp, data, out=tmp_path / "a.h5", progress=fails, **options)
    write = _store.Store.write

    def full(self, *args):
        if self.count == 3:
            raise OSError(28, "No space left on device")
        write(self, *args)

    monkeypatch.setattr(_store.Store, "write", full)
    with pytest.raises(OSError, match="No space left"):
        nets.train(mlp, data, out=tmp_path / "b.h5", **options)
    for name in ("a.h5", "b.h5"):
        run = nets.load_run(tmp_path / name)
        assert not run.complete and run.step == 150 and run.losses["step"].tolist() == [0, 50, 100, 150]
        assert (nets.train(mlp, data, resume=run, steps=250).theta == whole.theta).all()


def test_two_runs_do_not_write_to_one_file(tmp_path):
    """While a run goes on, before and after its first segment, another one is refused, whether or not the file exists already."""
    mlp, data = spiral_net()
    path, said = tmp_path / "run.h5", []

    def look(done, total):
        if done < total:
            with pytest.raises(FileExistsError, match="is being written by a run that goes on"):
                nets.train(mlp, data, lr=0.1, batch=10, steps=5, seed=8, out=path)
            said.append(done)

    for seed in (1, 2):  # the second time beside the file of the first
        options = {"seed": seed, "out": path, "record": nets.Record(losses_every=50), "progress": look}
        run = nets.train(mlp, data, lr=0.1, batch=10, steps=200, **options)
        assert run.seed == seed and run.losses["step"].tolist() == [0, 50, 100, 150, 200]
    assert said == [50, 100, 150] * 2


def test_a_run_killed_before_its_first_segment_leaves_no_obstacle(tmp_path):
    mlp, data = spiral_net()
    folder = _store.parts_folder(tmp_path / "run.h5")
    folder.mkdir()
    (folder / "owner").write_text("a" * 32)
    (folder / ".000000.h5.0123456789ab.tmp").write_bytes(b"half")
    assert nets.train(mlp, data, lr=0.1, batch=10, steps=5, out=tmp_path / "run.h5").complete and not folder.exists()
    folder.mkdir()
    (folder / "notes.txt").write_text("not ours")
    with pytest.raises(FileExistsError, match="holds notes.txt, which is no part of a run"):
        nets.train(mlp, data, lr=0.1, batch=10, steps=5, out=tmp_path / "run.h5")
    assert nets.load_run(tmp_path / "run.h5").complete
    assert (folder / "notes.txt").exists()


def test_many_seeds_check_every_file_before_any_run(tmp_path):
    mlp, data = spiral_net()
    (tmp_path / "run-3.h5").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"run-3.h5 exists"):
        nets.train_many(mlp, data, seeds=[1, 2, 3], threads=1, lr=0.1, batch=10, steps=5, out=tmp_path / "run.h5", overwrite=False)
    assert [file.name for file in tmp_path.iterdir()] == ["run-3.h5"]
