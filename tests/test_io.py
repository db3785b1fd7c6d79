"""HDF5: everything comes back equal, nothing half-written stays, nothing strange is read."""

import json
import math
import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fpsolve as fps
from fpsolve import io
from fpsolve._estimate import _same

GRID = fps.Grid((-1.0, 2.0, 5), (0.0, 0.3, 4), boundary=["periodic", ("absorbing", "reflecting")])
VALUES = np.arange(20.0).reshape(5, 4)
DENSITY = fps.Density(
    VALUES, GRID, time=0.3, method="m", warnings=["w1", "zweitens: µ"], solver_info={"residual": 1e-14, "n": 3, "x": None}
)
ESTIMATE = fps.Estimate(1.5, 0.1, 0.2, (1.0, 2.0), 0.4, "1/time", [fps.Assumption("a", "failed", "b < c")], 0.05, "paths", 20)
EXAMPLES = {
    "estimate": ESTIMATE,
    "variance": fps.Estimate(1.5, interval=(1.0, 2.0), unit="iteration^2", lr=0.05),
    "bare estimate": fps.Estimate(math.inf, log_value=2000.1),
    "density": DENSITY,
    "series": fps.DensitySeries([0.0, 1.0], np.stack([VALUES, VALUES + 1]), GRID),
    "field": fps.Field(np.where(VALUES > 3, np.inf, VALUES), GRID, name="mean exit time", unit="time", mask=VALUES > 1),
    "trajectories": fps.Trajectories(
        np.ones((3, 2)),
        [1.0, 2.0],
        states=np.zeros((2, 3, 2)),
        mean=np.ones((2, 2)),
        covariance=np.eye(2),
        histogram=DENSITY,
        dt=0.1,
        seed=2**62,
        status={"ok": 2, "not_finite": 1},
        partial=True,
        lr=0.1,
        batch=20,
    ),
    "escape": fps.EscapeTimes(
        [1.0, 2.0, np.nan], [False, True, False], np.full((3, 2), np.nan), t_max=2.0, seed=None, n_failed=1, lr=0.1, batch=20
    ),
    "table": fps.Table("t", ["name", "x"], [["a", 1], ["b", None], ["c", 0.1], ["d", True], ["e", math.nan]], notes=["n\0", ""]),
    "path": fps.Path(
        np.eye(3)[:, :2],
        fps.Estimate(math.inf, assumptions=[fps.Assumption("permeable", "failed", "D = 0")]),
        [0.0, 1.0, math.inf],
        np.ones((3, 2)),
        [[0.0, 0.0]],
        [1],
        "splines",
        ["a warning"],
        {"elements": 32},
    ),
    "cycle": fps.Cycle(np.random.default_rng(0).normal(size=(9, 3)), fps.Estimate(2.0, unit="time"), [0.5 + 0.1j, 0.5 - 0.1j]),
    "grid": GRID,
    "empty": fps.Table("", [], []),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_results_come_back_equal(tmp_path, name):
    obj, path = EXAMPLES[name], tmp_path / "a.h5"
    fps.save(path, obj)
    back = fps.load(path)
    assert type(back) is type(obj) and back == obj
    if name not in ("grid", "empty", "table", "bare estimate"):
        assert all(type(getattr(back, n)) is type(getattr(obj, n)) for n in obj.__dataclass_fields__)


def test_computed_results_come_back_equal(tmp_path):
    """What the engines really put into their records, not only what the examples above do."""
    process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.2))
    fp = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, 40)))
    series = fp.evolve(("gaussian", [0.0], [[0.1]]), t=[0.1, 0.2])
    ball = fps.Region.ball([-1.0], 0.5)
    found = {
        "series": series, "density": series[-1], "stationary": fp.stationary(),
        "paths": fps.simulate(process, [0.0], t=0.1, dt=0.05, n=9, save="histogram", bins=4, ranges=[(-2, 2)], seed=1),
        "escapes": fps.escape_times(process, [-1.0], ball, n=9, dt=0.05, seed=1),
    }  # fmt: skip
    fps.save(tmp_path / "all.h5", found)
    back = fps.load(tmp_path / "all.h5")
    for name, obj in found.items():
        assert back[name] == obj, name
        obj.save(tmp_path / f"{name}.h5")
        assert fps.load(tmp_path / f"{name}.h5") == obj


def test_fields_written_without_a_mask_are_defined_everywhere(tmp_path):
    field = EXAMPLES["field"]
    fps.save(tmp_path / "old.h5", field)
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        del file["field/mask"]
    back = fps.load(tmp_path / "old.h5")
    assert back.mask.dtype == bool and back.mask.shape == GRID.shape and back.mask.all()
    assert np.array_equal(back.values, field.values)


def test_results_inside_a_tree(tmp_path):
    tree = {"predictions": {"theory": ESTIMATE, "pde": DENSITY}, "grid": GRID, "lr": 0.1, "names": ["a", "b"]}
    fps.save(tmp_path / "t.h5", tree)
    assert _same(fps.load(tmp_path / "t.h5"), tree)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda n: n not in (".", "provenance")
)
ARRAYS = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_, np.complex128, np.dtype(">f8")]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"])),
    ARRAYS,
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=3),
    st.complex_numbers(),
)
TREES = st.dictionaries(
    NAMES, st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8), max_size=4
)


@settings(max_examples=80)
@given(tree=TREES)
def test_any_tree_comes_back(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("io") / "tree.h5"
    io.save_tree(path, tree)
    back = io.load_tree(path)
    assert _same(back, tree)

    def types(t):
        return {k: types(v) if isinstance(v, dict) else (type(v), getattr(v, "dtype", None)) for k, v in t.items()}

    assert types(back) == types(tree)


@settings(max_examples=40)
@given(value=st.floats(), stderr=st.floats(0, allow_nan=False), log_value=st.none() | st.floats(), method=st.text(max_size=20))
def test_any_estimate_comes_back(tmp_path_factory, value, stderr, log_value, method):
    try:
        method.encode()
    except UnicodeEncodeError:
        method = ""
    obj, path = fps.Estimate(value, stderr, log_value=log_value, method=method), tmp_path_factory.mktemp("io") / "e.h5"
    obj.save(path)
    assert fps.load(path) == obj


def test_large_arrays_are_compressed_and_exact(tmp_path):
    x = np.linspace(0, 1, 300_000).reshape(100, 3000)
    io.save_tree(tmp_path / "x.h5", {"x": x, "text": np.array(["ä", "bcd"]), "list": [1, 2.5]})
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"].compression == "gzip" and file["x"].shuffle
        assert 1e5 <= np.prod(file["x"].chunks) * 8 <= 2**20
    back = io.load_tree(tmp_path / "x.h5")
    assert np.array_equal(back["x"], x) and back["text"].tolist() == ["ä", "bcd"] and back["list"].tolist() == [1.0, 2.5]


def test_schema_as_seen_by_plain_h5py(tmp_path):
    fps.save(tmp_path / "d.h5", DENSITY, record=io.provenance(seed=3, wall_time=1.5))
    with h5py.File(tmp_path / "d.h5") as file:
        assert file.attrs["schema"] in ("fpsolve", b"fpsolve") and file.attrs["schema_version"] in ("1.0", b"1.0")
        assert {"created", "creator", "kind"} <= set(file.attrs)
        values = file["density/values"]
        assert np.array_equal(values[()], VALUES)
        text = {
            k: v.decode() if isinstance(v, bytes) else str(v)
            for k, v in values.attrs.items()
            if k in ("dims", "units", "long_name")
        }
        assert text["dims"] == "x0 x1" and "density" in text["long_name"] and text["units"]
        assert np.array_equal(values.dims[1][0][()], GRID.centers[1])  # dimension scales, as netCDF-4 readers want them
        record = json.loads(file["provenance/0"][()])
        assert record["parameters"] == {"seed": 3, "wall_time": 1.5} and {"numpy", "numba", "h5py", "python"} <= set(
            record["versions"]
        )

        def no_objects(name, node):
            if isinstance(node, h5py.Dataset):
                assert node.dtype.kind != "O", name

        file.visititems(no_objects)
    assert io.load_provenance(tmp_path / "d.h5")[0]["parameters"]["seed"] == 3


# ---- writing: whole or not at all -----------------------------------------------------------------------------------


def test_failed_save_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "a.h5"
    fps.save(path, {"x": 1})
    for bad in (
        {"x": 2, "y": object()},
        {"x": 2, "y": np.array([object()])},
        {"a/b": 1},
        {"": 1},
        {3: 1},
        {"provenance": 1},
        {"y": {"z": {1, 2}}},
        {"t": "\ud800"},
        {"when": np.array(["2020"], dtype="M8[D]")},
    ):
        with pytest.raises((TypeError, ValueError)):
            fps.save(path, bad)
    assert fps.load(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.h5"]


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        fps.save(tmp_path / "a.h5", {"x": 1})
    assert os.listdir(tmp_path) == []


def test_unwritable_paths_are_refused_before_work(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="does not exist; create it"):
        fps.save(tmp_path / "no" / "a.h5", ESTIMATE)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        io.check_writable(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        io.check_writable(tmp_path / "file" / "a.h5")
    with pytest.raises(FileExistsError, match="overwrite"):
        io.check_writable(tmp_path / "file", overwrite=False)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(PermissionError, match="cannot write in the folder"):
        io.check_writable(tmp_path / "a.h5")
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_save_says_what_it_takes(tmp_path):
    with pytest.raises(TypeError, match="cannot save a set"):
        fps.save(tmp_path / "a.h5", {1, 2})
    with pytest.raises(ValueError, match="written by the file itself"):
        io.save_tree(tmp_path / "a.h5", {}, {"schema": "x"})


# ---- reading what others wrote --------------------------------------------------------------------------------------


def strange(path, change):
    fps.save(path, DENSITY)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def set_attr(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


STRANGE = {
    "newer": (set_attr("schema_version", "2.0"), "newer"),
    "no version": (set_attr("schema_version", "new"), "not a version"),
    "other schema": (set_attr("schema", "h5md"), "not written by fpsolve"),
    "unknown kind": (lambda f: f["density"].attrs.__setitem__("kind", "wavelet"), "does not know"),
    "missing values": (lambda f: f["density"].__delitem__("values"), "misses"),
    "missing group": (lambda f: f.__delitem__("density"), "should hold"),
    "wrong shape": (
        lambda f: (f["density"].__delitem__("values"), f["density"].create_dataset("values", data=np.ones(3))),
        "shape",
    ),
    "external link": (lambda f: f.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")), "link"),
    "soft link": (lambda f: f.__setitem__("x", h5py.SoftLink("/density")), "link"),
    "endless group": (lambda f: f["density"].__setitem__("again", f["density"]), "deeper|nested"),
    "objects": (lambda f: f.create_dataset("x", data=["a"], dtype=h5py.string_dtype()), "data type"),
    "absurd size": (lambda f: f.create_dataset("x", shape=(10**9, 10**3), chunks=(1000, 1000), dtype="f8"), "claims"),
    "external storage": (
        lambda f: f.create_dataset("x", shape=(10,), dtype="u1", external=[("/etc/passwd", 0, 10)]),
        "another file",
    ),
    "bad json": (lambda f: (f.__delitem__("provenance/0"), io._write_text(f["provenance"], "0", "{", "json")), "cannot be read"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_files_are_refused(tmp_path, name):
    change, text = STRANGE[name]
    path = strange(tmp_path / "a.h5", change)
    with pytest.raises(ValueError, match=text) as caught:
        fps.load(path)
    assert "a.h5" in str(caught.value)


def test_virtual_datasets_are_refused(tmp_path):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", shape=(4,))
    with pytest.raises(ValueError, match="another file"):
        fps.load(strange(tmp_path / "a.h5", lambda f: f.create_virtual_dataset("x", layout)))


def test_not_hdf5_and_missing(tmp_path):
    (tmp_path / "a.h5").write_text("hello")
    with pytest.raises(ValueError, match="not a readable HDF5"):
        fps.load(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="not a file"):
        fps.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fps.load(tmp_path / "b.h5")


def test_damaged_files_never_load_wrongly(tmp_path):
    """Cut and overwritten copies: a ValueError or, where the damage hit nothing that is read, the same content."""
    path = tmp_path / "a.h5"
    fps.save(path, DENSITY)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(60):
        data = bytearray(whole)
        if trial % 2:
            del data[int(rng.integers(1, len(data))) :]
        else:
            at = int(rng.integers(0, min(2048, len(data) - 64)))
            data[at : at + 64] = bytes(64)
        path.write_bytes(data)
        try:
            back = fps.load(path)
        except ValueError:
            continue
        assert back.values.shape == (5, 4)


def test_provenance_survives_odd_parameters():
    record = io.provenance(f=np.float64(1), a=np.arange(3), big=np.zeros(10**5), s={1, 2}, n=None)
    text = json.dumps(record)
    assert json.loads(text)["parameters"]["a"] == [0, 1, 2]


@pytest.mark.parametrize("kept", ["loose", "packed", "detached", "second tree", "second tree, packed"])
def test_the_commit_of_any_working_copy_is_found(kept, tmp_path, monkeypatch):
    commit, git = "0123456789abcdef0123456789abcdef01234567", tmp_path / "copy" / ".git"
    main = tmp_path / "main" / ".git" if "second" in kept else git
    head = main / "worktrees" / "copy" if "second" in kept else git
    (main / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "copy" / "fpsolve").mkdir(parents=True)
    if "second" in kept:
        head.mkdir(parents=True)
        git.write_text(f"gitdir: {head}\n")
        (head / "commondir").write_text("../..\n")
    (head / "HEAD").write_text(f"{commit}\n" if kept == "detached" else "ref: refs/heads/topic\n")
    if "packed" in kept:
        (main / "packed-refs").write_text(
            f"# pack-refs with: peeled\n{commit[::-1]} refs/heads/other-topic\n{commit} refs/heads/topic\n"
        )
    else:
        (main / "refs" / "heads" / "topic").write_text(f"{commit}\n")
    monkeypatch.setattr(io, "__file__", str(tmp_path / "copy" / "fpsolve" / "io.py"))
    assert io.provenance()["git_commit"] == commit
    (head / "HEAD").write_text("ref: refs/heads/unborn\n")
    assert io.provenance()["git_commit"] is None
