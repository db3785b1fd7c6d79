"""nets.data: packaged digits, IDX files, errors before any work."""

import gzip
import hashlib
import http.server
import io
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import nets
from nets.data import MNIST_FILES, MNIST_SHA256, read_idx


def idx_bytes(array):
    """IDX file written from its definition."""
    codes = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
    head = bytes([0, 0, codes[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder with 6 + 4 images of 3 x 2 pixels, two files raw and two gzipped."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    arrays = {}
    for key, name in MNIST_FILES.items():
        n = 6 if "train" in key else 4
        arrays[key] = rng.integers(0, 256, (n, 3, 2) if key[0] == "x" else n).astype(np.uint8)
        if key[0] == "y":
            arrays[key] %= 10
        blob = idx_bytes(arrays[key])
        if key[0] == "x":
            (folder / name).write_bytes(blob)
        else:
            (folder / (name + ".gz")).write_bytes(gzip.compress(blob))
    monkeypatch.setenv("FPSOLVE_DATA", str(tmp_path))
    return folder, arrays


def test_import_is_lazy():
    code = (
        "import sys, nets; bad = {'numba', 'h5py', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules); "
        "assert not bad, bad; import nets.train, nets.measure, nets.bridge; "
        "assert all(callable(f) for f in (nets.train, nets.measure, nets.bridge))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_resolve():
    for name in nets.__all__:
        assert getattr(nets, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nets.nothing


def test_digits_facts():
    """Counts and sums of the UCI test set as published (names file: 178 182 177 183 181 182 181 179 174 180)."""
    data = nets.load_data("digits", split="all")
    assert data.x_train.shape == (1797, 64) and data.x_train.dtype == np.float64
    assert np.bincount(data.y_train).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.x_train.min() == 0.0 and data.x_train.max() == 1.0
    assert set(np.unique(data.x_train * 16)) == set(range(17))


def test_digits_are_the_file_that_scikit_learn_ships():
    """SHA-256 of sklearn/datasets/data/digits.csv.gz unpacked, as in the wheel of scikit-learn 1.9.1."""
    text = gzip.decompress((Path(nets.__file__).parent / "digits.csv.gz").read_bytes())
    assert hashlib.sha256(text).hexdigest() == "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
    table = np.loadtxt(io.StringIO(text.decode()), delimiter=",")
    data = nets.load_data("digits", split="all")
    assert (data.x_train * 16 == table[:, :64]).all() and (data.y_train == table[:, 64]).all()


def test_digits_split_is_fixed_and_disjoint():
    whole, data = nets.load_data("digits", split="all"), nets.load_data("digits")
    assert (data.size, len(data.x_test)) == (1438, 359)
    test = np.arange(1797) % 5 == 4
    assert (data.x_test == whole.x_train[test]).all() and (data.x_train == whole.x_train[~test]).all()
    assert data.subset(10, 5).x_train.shape == (10, 64) and nets.load_data("digits", n=7).size == 7


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_idx_types(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "raw").write_bytes(idx_bytes(array))
    (tmp_path / "packed").write_bytes(gzip.compress(idx_bytes(array)))
    for name in ("raw", "packed"):
        assert (read_idx(tmp_path / name) == array).all()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda b: b[:-1], "holds 5"),
        (lambda b: b + b"x", "holds 7"),
        (lambda b: b[:6], "cut short inside its header"),
        (lambda b: b"\1" + b[1:], "not an IDX file"),
        (lambda b: b"", "starts with nothing"),
        (lambda b: gzip.compress(b)[:-12], "damaged gzip"),
        (lambda b: gzip.compress(b)[:12] + b"\xff\xff\xff" + gzip.compress(b)[15:], "damaged gzip"),
    ],
)
def test_corrupt_idx(tmp_path, damage, message):
    path = tmp_path / "file"
    path.write_bytes(damage(idx_bytes(np.arange(6, dtype=np.uint8))))
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_mnist_from_generated_files(small_mnist):
    _, arrays = small_mnist
    data = nets.load_data("mnist")
    assert (data.x_train == arrays["x_train"].reshape(6, 6) / 255.0).all()
    assert (data.y_test == arrays["y_test"]).all() and data.n_classes == 10
    assert nets.load_data("mnist", n=2).size == 2


def test_mnist_errors(small_mnist, monkeypatch):
    folder, arrays = small_mnist
    with pytest.raises(ValueError, match="n must be at most 6"):
        nets.load_data("mnist", n=7)
    with pytest.raises(ValueError, match="published split"):
        nets.load_data("mnist", split="all")
    (folder / MNIST_FILES["x_test"]).write_bytes(idx_bytes(arrays["x_train"]))
    with pytest.raises(ValueError, match="do not belong together"):
        nets.load_data("mnist")
    (folder / MNIST_FILES["x_test"]).unlink()
    monkeypatch.setitem(sys.modules, "pooch", None)  # as if it were not installed
    with pytest.raises(FileNotFoundError, match=r"t10k-images-idx3-ubyte.*get them from.*fpsolve\[data\]"):
        nets.load_data("mnist")
    monkeypatch.delenv("FPSOLVE_DATA")
    with pytest.raises(FileNotFoundError, match="install pooch.*set the environment variable FPSOLVE_DATA"):
        nets.load_data("mnist")


@pytest.fixture
def server(small_mnist, monkeypatch):
    """A web server on this machine with the small files, gzipped; the true checksums are replaced by theirs."""
    pytest.importorskip("pooch")
    folder, arrays = small_mnist
    files = {name: idx_bytes(arrays[key]) for key, name in MNIST_FILES.items()}
    served, asked = {f"/{name}.gz": gzip.compress(blob) for name, blob in files.items()}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if self.path in served else 404)
            self.end_headers()
            self.wfile.write(served.get(self.path, b""))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr("nets.data.MNIST_HOME", f"http://127.0.0.1:{running.server_port}/")
        monkeypatch.setattr("nets.data.MNIST_SHA256", {name: hashlib.sha256(blob).hexdigest() for name, blob in files.items()})
        for path in folder.iterdir():
            path.unlink()
        yield folder, arrays, served, asked
        running.shutdown()


def test_mnist_is_downloaded_once(server, monkeypatch, tmp_path):
    folder, arrays, _, asked = server
    for _ in range(2):
        data = nets.load_data("mnist")
        assert (data.x_train == arrays["x_train"].reshape(6, 6) / 255.0).all() and (data.y_test == arrays["y_test"]).all()
    assert sorted(asked) == sorted(f"/{name}.gz" for name in MNIST_FILES.values())
    (folder / f"{MNIST_FILES['y_test']}.gz").unlink()
    nets.load_data("mnist")
    assert len(asked) == 5  # what was missing, and nothing else
    monkeypatch.delenv("FPSOLVE_DATA")  # without the variable: the user's cache
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    assert nets.load_data("mnist").size == 6 and (tmp_path / "cache" / "fpsolve" / "mnist").is_dir()


def test_what_is_not_mnist_is_not_kept(server):
    folder, _, served, _ = server
    path = f"/{MNIST_FILES['x_train']}.gz"
    good = served[path]
    for bad, message in ((gzip.compress(gzip.decompress(good)[:-1] + b"x"), "SHA-256 unpacked"), (good[:-9], "damaged gzip")):
        served[path] = bad
        with pytest.raises(ValueError, match=message):
            nets.load_data("mnist")
        assert not (folder / path[1:]).exists()
    del served[path]
    with pytest.raises(FileNotFoundError, match="could not be downloaded.*404.*FPSOLVE_DATA"):
        nets.load_data("mnist")
    served[path] = good
    assert nets.load_data("mnist").size == 6


def test_a_server_that_does_not_answer(small_mnist, monkeypatch):
    pytest.importorskip("pooch")
    (small_mnist[0] / MNIST_FILES["x_test"]).unlink()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr("nets.data.MNIST_HOME", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte.gz could not be downloaded"):
            nets.load_data("mnist")


@pytest.mark.skipif("FPSOLVE_DATA" not in os.environ, reason="FPSOLVE_DATA is not set")
def test_checksums_are_those_of_the_published_files():
    """SHA-256 as stored, and the MD5 of the unpacked files that every other reader of MNIST quotes."""
    md5 = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    folder = Path(os.environ["FPSOLVE_DATA"]) / "mnist"
    for name in MNIST_FILES.values():
        path = folder / name
        blob = path.read_bytes() if path.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
        assert hashlib.sha256(blob).hexdigest() == MNIST_SHA256[name] and hashlib.md5(blob).hexdigest() == md5[name]


@pytest.mark.skipif("FPSOLVE_DATA" not in os.environ, reason="FPSOLVE_DATA is not set")
def test_mnist_facts():
    """The genuine files: mean, spread, label counts, dead pixels."""
    data = nets.load_data("mnist")
    assert data.x_train.shape == (60000, 784) and data.x_test.shape == (10000, 784)
    assert abs(data.x_train.mean() - 0.1306604763) < 1e-10 and abs(data.x_train.std() - 0.3081078039) < 1e-10
    assert round(100 * float((data.x_train > 0).mean()), 2) == 19.12
    assert int((data.x_train.max(axis=0) > 0).sum()) == 717
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(data.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_synthetic_sets_depend_on_the_seed_only():
    for name in ("spiral", "teacher"):
        a, b, c = (nets.load_data(name, n=50, seed=s) for s in (1, 1, 2))
        assert (a.x_train == b.x_train).all() and not (a.x_train == c.x_train).all()
        assert len(a.x_train) + len(a.x_test) == 50


def test_spiral_needs_a_curved_boundary():
    """A straight line cannot separate the arms: least squares on (1, x) errs on more than a quarter of the samples."""
    data = nets.load_data("spiral", split="all")
    design = np.c_[np.ones(data.size), data.x_train]
    fit = design @ np.linalg.lstsq(design, 2.0 * data.y_train - 1.0, rcond=None)[0]
    assert np.mean((fit > 0) != data.y_train) > 0.25


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: nets.load_data("digit"), ValueError, "did you mean 'digits'"),
        (lambda: nets.load_data("qqqq"), ValueError, "known are digits, disc, mnist"),
        (lambda: nets.load_data(3), TypeError, "a string"),
        (lambda: nets.load_data("digits", split="half"), ValueError, "'standard' or 'all'"),
        (lambda: nets.load_data("digits", n=0), ValueError, "positive integer"),
        (lambda: nets.load_data("digits").subset(2000), ValueError, r"1 \.\. 1438"),
        (
            lambda: nets.Data(np.ones((3, 2)), np.zeros(2, int), np.ones((0, 2)), np.zeros(0, int), "a", 2),
            ValueError,
            "one row per target",
        ),
        (
            lambda: nets.Data(np.full((3, 2), np.nan), np.zeros(3, int), np.ones((0, 2)), np.zeros(0, int), "a", 2),
            ValueError,
            "non-finite",
        ),
        (
            lambda: nets.Data(np.ones((3, 2)), np.full(3, 5), np.ones((0, 2)), np.zeros(0, int), "a", 2),
            ValueError,
            "got 5",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
