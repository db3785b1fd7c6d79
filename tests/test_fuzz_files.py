"""Damaged and doctored HDF5 files through every reader: a ValueError or OSError with words, or what the file still says.

The random batches run in a process of their own with bounded memory, so that a crash, a hang or a bomb is seen and does not end
the test run. What no checksum guards (a changed digit in a short array) may be read; large arrays are compressed, and zlib has one.
"""

import contextlib
import io as streams
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from fuzzing import FACTOR, outcome

import fpsolve as fps
import nets
from fpsolve import io
from fpsolve._tree import _write_text
from fpsolve.cli import main

HERE = Path(__file__).parent
#: Bytes that reading any file may take, and address space of the process that reads.
MEMORY, ADDRESSES = 1 << 30, 8 << 30


# ---- honest files, and their readers -----------------------------------------------------------------------------------


def write_files(folder: Path) -> dict[str, Path]:
    """One small file of each kind: results, a grid, a tree, a run with all records, statistics, a checkpoint."""
    import test_io

    for name, obj in test_io.EXAMPLES.items():
        fps.save(folder / f"{name}.h5", obj)
    mlp, data = nets.MLP((2, 4, 2), activation="tanh"), nets.load_data("spiral", n=50)
    record = nets.Record(weights_every=1, center=np.zeros(mlp.dim), basis=np.eye(mlp.dim)[:, :2], losses_every=10, test=True)
    nets.train(mlp, data, lr=0.1, batch=10, steps=40, seed=0, record=record, out=folder / "run.h5")
    nets.from_arrays(hessian=np.diag([2.0, 1.0]), covariance=np.eye(2), lr=0.1, batch=10).save(folder / "stats.h5")
    nets.pca(nets.load_run(folder / "run.h5")).save(folder / "pca.h5")
    resume(folder / "checkpoint.h5")
    return {path.stem: path for path in sorted(folder.glob("*.h5"))}


def resume(path: Path) -> None:
    """A run of paths that goes on from its checkpoint, if there is one."""
    process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.2))
    fps.simulate(process, [0.0], t=0.1, dt=0.05, n=5, seed=1, checkpoint=path)


def train_on(path: Path) -> None:
    """A training run that goes on."""
    mlp, data = nets.MLP((2, 4, 2), activation="tanh"), nets.load_data("spiral", n=50)
    nets.train(mlp, data, resume=path, steps=10)


def look_at_run(path: Path) -> None:
    run = nets.load_run(path)
    repr(run)
    for name in ("weights", "projections", "losses", "blocks", "moments", "schedule", "origin", "mean_weights"):
        with contextlib.suppress(ValueError):
            getattr(run, name)
    with contextlib.suppress(ValueError):
        list(run.iter_weights())
        run.projection_series(0)


def show(path: Path) -> None:
    with contextlib.redirect_stdout(streams.StringIO()), contextlib.redirect_stderr(streams.StringIO()):
        assert main(["show", str(path)]) in (0, 2)


READERS = {
    "load": lambda path: repr(fps.load(path)), "load_tree": io.load_tree, "load_kind": io.load_kind,
    "load_provenance": io.load_provenance, "show": show, "resume": resume, "nets.load": lambda path: repr(nets.load(path)),
    "load_run": look_at_run, "load_stats": lambda path: repr(nets.load_stats(path)), "train": train_on,
}  # fmt: skip


# ---- what happens to them -----------------------------------------------------------------------------------------------

#: What may stand in the place of a member.
VALUES = [
    3.5, -7, 2**62, np.nan, np.zeros(0), np.zeros((2, 0, 3)), np.ones((2, 3, 4)), np.array([1 + 2j]), np.bytes_(b"abc"),
    np.array([b"abc", b"\xff\xfe"]), np.zeros(3, [("a", "f8"), ("b", "i4")]), np.zeros(2, "V8"), h5py.Empty("f8"), np.float16(1),
    np.longdouble(1), np.ones((2, 2), ">i2"),
]  # fmt: skip
JSON = ["[" * 100_000, "not json", '{"a": 1e999, "b": [NaN, Infinity]}', "9" * 5000, "[]", "{}", "null", '""']
WORDS = [
    "abc", "", 5, 2.5, np.arange(5), np.zeros(6000), b"\xff\xfe", h5py.Empty("f8"), "9" * 60_000, "grid", "density", "int", "json",
    "strings", "bool", "complex", "str", "none", "text array", "scale", "float", "2.0", "-1", "1.0.0", "1", "\u0661.0", "1e3",
    "nan.0", "training run", "stats", "pca", "checkpoint",
]  # fmt: skip


def datasets(file: h5py.File) -> list:
    """Ways to make a strange member of a name: types, sizes, places, links."""
    make = file.create_dataset
    return [
        *(lambda name, value=value: make(name, data=value) for value in VALUES),
        *(lambda name, text=text: _write_text(file, name, text, "json") for text in JSON),
        lambda name: make(name, data=["a", "b"], dtype=h5py.string_dtype()),
        lambda name: make(name, (3,), dtype=h5py.ref_dtype),
        lambda name: make(name, (3,), dtype=h5py.regionref_dtype),
        lambda name: make(name, (2,), dtype=h5py.vlen_dtype(np.int32)),
        lambda name: make(name, data=np.array([0, 1]), dtype=h5py.enum_dtype({"A": 0, "B": 1})),
        lambda name: make(name, (10**12,), chunks=(1000,), dtype="f8"),
        lambda name: make(name, (10**5, 10**5, 10**5), chunks=(10, 10, 10), dtype="f8"),
        lambda name: make(name, (3,), maxshape=(None,), chunks=(10**8,), dtype="f8", compression="gzip"),
        lambda name: make(name, (10,), dtype="S100000000", chunks=(1,)),
        lambda name: make(name, (10,), dtype="u1", external=[("/etc/passwd", 0, 10)]),
        lambda name: file.__setitem__(name, np.dtype("f8")),
        lambda name: file.__setitem__(name, h5py.SoftLink("/")),
        lambda name: file.__setitem__(name, h5py.SoftLink("/" + name)),
        lambda name: file.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/")),
        lambda name: file.__setitem__(name, h5py.ExternalLink(file.filename, "/")),
        lambda name: file.__setitem__(name, file["/"]),
        lambda name: file.create_group(name + "/a/b/../c"),
    ]  # fmt: skip


def spoil_bytes(rng: random.Random, data: bytearray) -> None:
    """A bit, some bytes, a stretch, the end, or the places of all that follows."""
    at = rng.randrange(len(data))
    kind = rng.choice(["bit", "bytes", "stretch", "cut", "insert"])
    if kind == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "bytes":
        for _ in range(rng.randint(2, 200)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == "stretch":
        length = min(rng.randrange(1, 600), len(data) - at)
        data[at : at + length] = bytes([rng.choice([0, 255])]) * length
    elif kind == "cut":
        del data[at:]
    else:
        data[at:at] = rng.randbytes(rng.randint(1, 64))


def spoil_members(rng: random.Random, path: Path) -> str:
    """One member replaced, added, removed or swapped, or an attribute changed; returns what."""
    names: list[str] = []
    with h5py.File(path, "r+") as file:
        file.visit(names.append)
        name, kind = rng.choice(names), rng.choice(["replace", "replace", "add", "attribute", "remove", "swap"])
        try:
            if kind == "swap":
                other = rng.choice(names)
                file.move(name, "between")
                file.move(other, name)
                file.move("between", other)
                return f"{name} and {other} swapped"
            if kind == "attribute":
                node = rng.choice([file, file[name]])
                key, value = rng.choice([*node.attrs, "kind", "type"]), rng.choice(WORDS)
                node.attrs[key] = value
                return f"{key} of {node.name} set to {str(value)[:20]!r}"
            if kind == "add":
                name = f"{name.rpartition('/')[0]}/{rng.choice(['..', 'a b', 'x' * 5000, 'weights', 'kind', 'step', 'state'])}"
                name = name.lstrip("/")
            else:
                del file[name]
            if kind != "remove":
                number = rng.randrange(len(datasets(file)))
                datasets(file)[number](name)
                if rng.random() < 0.3 and isinstance(file.get(name), h5py.Dataset):
                    file[name].attrs["type"] = np.bytes_(rng.choice(["int", "str", "json", "bool", "strings", "complex", "float"]))
                return f"{kind} {name[:60]} by number {number}"
            return f"{name} removed"
        except (KeyError, ValueError, OSError, TypeError, RuntimeError) as error:  # what HDF5 itself does not write
            return f"nothing changed: {error}"


def batch(files: dict[str, Path], folder: Path, seed: int, n: int) -> list[str]:
    """Spoil a file and read it in every way, n times; the ends that are none of the documented ones."""
    rng, wrong, path = random.Random(seed), [], folder / f"spoilt{seed}.h5"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for trial in range(n):
        name = rng.choice(sorted(files))
        data = bytearray(files[name].read_bytes())
        if trial % 2:
            spoil_bytes(rng, data)
        path.write_bytes(data)
        what = f"{name}, " + ("bytes" if trial % 2 else spoil_members(rng, path))
        for reader, read in READERS.items():
            print(f"seed {seed}, trial {trial}: {what}: {reader}", file=sys.stderr, flush=True)  # noqa: T201, before a crash the last
            copy = folder / f"read{seed}.h5"
            shutil.copy(path, copy)
            try:
                _, error = outcome(lambda read=read, copy=copy: read(copy), seconds=30.0)
                if isinstance(error, TypeError) and reader != "train":
                    wrong.append(f"{what}: {reader} ended in TypeError: {error}")
            except AssertionError as error:
                wrong.append(f"{what}: {reader} {error}")
    taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return wrong + ([f"{taken / 1e9:.2f} GB were taken"] if taken > MEMORY else [])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("honest"))


def test_honest_files_are_read(files):
    readers = {"run": ["nets.load", "load_run", "train"], "stats": ["nets.load", "load_stats"], "pca": ["nets.load"]}
    for name, path in files.items():
        for reader in ["load", "load_tree", "load_kind", "load_provenance", "show", *readers.get(name, [])]:
            READERS[reader](path)
    READERS["resume"](files["checkpoint"])


@pytest.mark.parametrize("seed", range(min(FACTOR, 50)))
def test_spoilt_files(files, tmp_path, seed):
    """In a process of its own: 30 files, each through all readers."""
    n = 30 * max(1, FACTOR // 50)
    command = [sys.executable, "-W", "ignore", __file__, str(next(iter(files.values())).parent), str(tmp_path), str(seed), str(n)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 + 60 * n, check=False)
    assert found.returncode == 0, f"ended with {found.returncode} at {found.stderr[-2000:]}"
    assert not found.stdout, found.stdout


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    honest = {path.stem: path for path in Path(sys.argv[1]).glob("*.h5")}
    for line in batch(honest, Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])):
        print(line)  # noqa: T201


# ---- found by these tests, or looked for by hand ------------------------------------------------------------------------


def change(files, tmp_path, name, doctor):
    path = tmp_path / f"{name}.h5"
    shutil.copy(files[name], path)
    with h5py.File(path, "r+") as file:
        doctor(file)
    return path


def replace(name, value, **options):
    def doctor(file):
        del file[name]
        file.create_dataset(name, data=value, **options)

    return doctor


RUNS = {
    "linked weights": (
        lambda f: (f.move("weights", "elsewhere"), f.__setitem__("weights", h5py.SoftLink("/elsewhere"))),
        "links are refused",
    ),
    "linked group": (lambda f: (f.__delitem__("loss"), f.__setitem__("loss", h5py.ExternalLink("/etc/passwd", "/"))), "links are"),
    "unstored weights": (
        lambda f: (f.__delitem__("weights/value"), f.create_dataset("weights/value", (40, 10**9), "f8", chunks=(1, 10**6))),
        "no honest file does",
    ),
    "other weights": (replace("weights/value", np.ones((40, 3))), "does not fit"),
    "order beyond the samples": (replace("state/perm", np.arange(40) + 10**12), "an order of 40 samples"),
    "order of others": (replace("state/perm", np.arange(39)), "state/perm must be 40 numbers"),
    "place beyond the end": (replace("state/cursor", np.array([51, 40])), "a place in it"),
    "place before the start": (replace("state/cursor", np.array([-(10**9), 40])), "a place in it"),
    "short velocity": (replace("state/velocity", np.zeros(3)), "state/velocity must be 22 numbers"),
    "text for a number": (replace("training/momentum", np.bytes_(b"a")), "momentum must be a number|is marked 'float'|holds"),
    "no step": (lambda f: f.__delitem__("training/step"), "step.* is missing|misses step"),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_doctored_runs(files, tmp_path, name):
    """A run goes on in compiled code, which follows `perm` and `cursor` wherever they lead: outside, the process ended."""
    doctor, words = RUNS[name]
    path = change(files, tmp_path, "run", doctor)
    for read in (nets.load_run, nets.load, train_on):
        with pytest.raises(ValueError, match=words):
            read(path)


def test_weights_replaced_behind_an_open_run(files, tmp_path):
    """The rows of a series are read later: the file is checked then, too."""
    path = change(files, tmp_path, "run", lambda f: None)
    run = nets.load_run(path)
    with h5py.File(path, "r+") as file:
        del file["weights/value"]
        file["weights/value"] = h5py.ExternalLink("/etc/passwd", "/")
    for read in (lambda: run.weights, lambda: list(run.iter_weights())):
        with pytest.raises(ValueError, match="links are refused"):
            read()


OTHERS = {
    "bomb": ("density", lambda f: f.create_dataset("x", (1 << 28,), "f8", chunks=(1 << 17,), compression="gzip", fillvalue=0.0)),
    "chunk": ("density", lambda f: f.create_dataset("x", (3,), "f8", maxshape=(None,), chunks=(10**8,), compression="gzip")),
    "hard links": ("density", lambda f: [f.__setitem__(f"x{i}", f["density/values"]) for i in range(9)]),
    "filter": ("density", lambda f: f.create_dataset("x", (100, 100), "i4", chunks=(50, 50), scaleoffset=4)),
    "number as text": ("estimate", lambda f: f["estimate/value"].attrs.__setitem__("type", np.bytes_(b"json"))),
    "status": ("trajectories", lambda f: replace("trajectories/status", np.ones(3))(f)),
    "story": ("density", lambda f: f.__delitem__("provenance/0")),
    "axes": ("pca", lambda f: replace("pca/variances", np.ones(99))(f)),
    "missing": ("pca", lambda f: f.__delitem__("pca/total")),
    "empty stats": ("stats", lambda f: f.__delitem__("stats/mean")),
    "no stats": ("stats", lambda f: replace("stats", 1.0)(f)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_doctored_results(files, tmp_path, name):
    """Sizes that are not stored, one array many times, unknown filters, fields of another kind, nothing where something was."""
    source, doctor = OTHERS[name]
    path = change(files, tmp_path, source, doctor)
    reader = {"pca": nets.load, "stats": nets.load_stats}.get(source, fps.load)
    reader = io.load_provenance if name == "story" else reader
    with pytest.raises(ValueError, match=path.name):
        reader(path)


def test_a_bomb_of_many_arrays(files, tmp_path, monkeypatch):
    """Each array is within what gzip can do; together they are a hundred times the file (from 1 GB on, here from 1 MB)."""

    def doctor(file):
        for i in range(6):
            file.create_dataset(f"x{i}", data=np.zeros(1 << 17), chunks=(1 << 17,), compression="gzip", compression_opts=9)

    path = change(files, tmp_path, "density", doctor)
    assert fps.load(path).values.shape == (5, 4)
    monkeypatch.setattr("fpsolve._tree._LARGE", 1 << 20)
    with pytest.raises(ValueError, match="100 times the file"):
        fps.load(path)


def test_a_listing_shows_nothing_of_other_files(files, tmp_path, capsys):
    secret = tmp_path / "secret"
    secret.write_bytes(b"password")
    path = change(files, tmp_path, "density", lambda f: f.create_dataset("x", (8,), "S1", external=[(str(secret), 0, 8)]))
    assert main(["show", str(path)]) == 0
    assert "in another file" in capsys.readouterr().out
