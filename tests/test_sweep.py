"""Sweeps: which units there are, what they are given, what of their results is stored and found again, and by whom they are run."""

import functools
import hashlib
import json
import math
import subprocess
import sys
import threading
import types
from concurrent.futures import Future, ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import sweep_tasks as tasks
from hypothesis import given
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve import cli
from fpsolve._columns import NOTES, Layout, fit, lay_out, put_together, take_apart
from fpsolve._fingerprint import describe_function
from fpsolve._units import Plan, unit_seed

AXES = {"a": [1, 2.5, 4], "k": [10.0, 20.0]}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "sweep.h5"


def seed_of(root, replicate, **parameters):
    """The hash that the documentation of `unit_seed` states, put together anew."""
    text = ",".join(f'"{name}":{parameters[name]!r}' for name in sorted(parameters))
    digest = hashlib.blake2b(f"fpsolve sweep {root} {replicate} {{{text}}}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") // 2


# ---- the function, whatever is imported first ---------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["import fpsolve._sweep", "import fpsolve._executors", "import fpsolve.cli", "fpsolve.Sweep"])
def test_sweep_is_the_function(first):
    code = f"import fpsolve; {first}; import types; assert isinstance(fpsolve.sweep, types.FunctionType)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---- the results --------------------------------------------------------------------------------------------------------


def test_every_unit_gets_its_parameters_and_its_seed(out):
    done = fps.sweep(tasks.wave, AXES, replicates=2, seed=7, out=out)
    assert (done.size, done.done, done.failed, done.missing, done.seed) == (12, 12, 0, 0, 7)
    assert done.dims == ("a", "k", "replicate") and done.shape == (3, 2, 2)
    for i, a in enumerate(AXES["a"]):
        for j, k in enumerate(AXES["k"]):
            for r in range(2):
                expected = np.random.default_rng(seed_of(7, r, a=float(a), k=k)).normal(size=3)
                assert np.array_equal(done.values("noise")[i, j, r], expected)
                one = done.result(a=a, k=k, replicate=r)
                assert one["product"] == a * k and one["name"] == f"a = {a}" and np.array_equal(one["noise"], expected)
    assert done.values("product").tolist() == [[[a * k] * 2 for k in AXES["k"]] for a in AXES["a"]]
    noise = done.values("noise")
    assert np.allclose(done.mean("noise"), noise.mean(axis=2), rtol=1e-14)
    assert np.allclose(done.stderr("noise"), noise.std(axis=2, ddof=1) / math.sqrt(2), rtol=1e-14)
    assert list(done.parameters)[:3] == [{"a": 1, "k": 10.0}, {"a": 1, "k": 20.0}, {"a": 2.5, "k": 10.0}]
    assert "a: 3, k: 2, 2 replicates; 12 of 12" in repr(done)


def test_a_unit_does_not_depend_on_the_rest_of_the_sweep(out, tmp_path):
    few = fps.sweep(tasks.draw, {"a": [2]}, out=out)
    many = fps.sweep(tasks.draw, [{"a": 3}, {"a": 2.0}], out=tmp_path / "many.h5", replicates=2)
    assert np.array_equal(few.result(), many.result(a=2))


@pytest.mark.parametrize("executor", ["threads", "own", 2])
def test_same_bits_by_any_executor(executor, out, tmp_path):
    alone = fps.sweep(tasks.wave, AXES, replicates=2, out=tmp_path / "alone.h5")
    with ThreadPoolExecutor(3) as pool:
        other = fps.sweep(tasks.wave, AXES, replicates=2, out=out, executor=pool if executor == "own" else executor)
    for name in alone.names:
        assert alone.values(name).tobytes() == other.values(name).tobytes()
    assert alone.result(a=1, k=10).keys() == other.result(a=1, k=10).keys()


def test_the_order_of_completion_does_not_matter(out, tmp_path):
    class Backwards(ThreadPoolExecutor):
        """Runs what it was given in the reverse order, as soon as there is enough."""

        def __init__(self):
            super().__init__(1)
            self.held, self._max_workers, self.timer = [], 4, None

        def submit(self, function, /, *args):
            future = Future()
            self.held.append((future, function, args))
            if self.timer is None:
                self.timer = threading.Timer(0.05, self.flush)
                self.timer.start()
            return future

        def flush(self):
            self.timer = None
            held, self.held = self.held, []
            for future, function, args in reversed(held):
                future.set_result(function(*args))

    alone = fps.sweep(tasks.wave, AXES, replicates=2, out=tmp_path / "alone.h5")
    other = fps.sweep(tasks.wave, AXES, replicates=2, out=out, executor=Backwards())
    for name in alone.names:
        assert alone.values(name).tobytes() == other.values(name).tobytes()


def test_an_engine_gives_the_same_bits_by_itself_and_in_a_sweep(out):
    done = fps.sweep(tasks.escape, {"D": [0.2, 0.4]}, out=out, executor="threads")
    assert done.result(D=0.4) == tasks.escape(0.4, seed_of(0, 0, D=0.4))
    assert done.names == ("discretization_error", "dt", "stderr", "value") or "value" in done.names
    assert done.values()[1] == done.result(D=0.4).value


def test_a_file_of_a_sweep_is_loaded_and_read_by_anyone(out):
    done = fps.sweep(tasks.wave, AXES, out=out)
    loaded = fps.load(out)
    assert isinstance(loaded, fps.Sweep)
    assert np.array_equal(loaded.values("noise"), done.values("noise"))
    assert fps.io.load_kind(out) == "sweep" and fps.io.load_provenance(out)[0]["parameters"]["task"].startswith(
        "sweep_tasks.wave #"
    )
    with h5py.File(out) as file:
        assert file["results/noise"].shape == (3, 2, 1, 1, 3)
        assert file["results/noise"].attrs["dims"].decode() == "a k replicate range noise_0"
        assert file["results/noise"].dims[0]["a"][:].tolist() == [1, 2.5, 4]
        assert np.array_equal(file["results/product"][:, :, 0, 0], done.values("product"))
        assert (file["units/status"][()] == 1).all()
    tree = fps.io.load_tree(out)
    assert np.array_equal(tree["results"]["noise"][:, :, 0, 0], done.values("noise"))


def test_numbers_of_every_type_come_back_from_the_file(out):
    def types(a):
        parts = (np.bool_, np.int8, np.uint64, np.float32, np.float64, np.complex64, np.complex128)
        return {t.__name__: np.arange(3).astype(t) * t(a) for t in parts} | {"truth": a > 1, "complex": complex(a, 1)}

    done = fps.sweep(types, {"a": [1, 2]}, out=out)
    for a in (1, 2):
        for name, expected in types(a).items():
            found, shown = done.result(a=a)[name], done.values(name)[a - 1]
            assert np.asarray(expected).dtype == shown.dtype and np.array_equal(found, expected) and np.array_equal(shown, expected)


def test_a_list_of_points(out):
    done = fps.sweep(tasks.wave, [{"a": 1, "k": 5}, {"k": 7, "a": 2}], out=out)
    assert done.dims == ("point",) and done.values("product").tolist() == [5, 14]
    assert done.result(a=2)["product"] == 14
    assert done.axes == {"a": (1, 2), "k": (5, 7)}
    with pytest.raises(KeyError, match="0 points of the sweep have a=3"):
        done.result(a=3)


def test_a_single_point_and_no_parameters(out):
    def once(seed):
        return seed % 2

    done = fps.sweep(once, replicates=5, out=out)
    assert done.values().tolist() == [seed_of(0, r) % 2 for r in range(5)]
    assert done.shape == (5,) and done.mean().shape == ()


def test_the_seed_as_an_axis_is_passed_as_it_is(out):
    done = fps.sweep(tasks.draw, {"a": [1], "seed": [3, 4]}, out=out)
    assert np.array_equal(done.result(seed=4), np.random.default_rng(4).normal(size=4))


def test_what_is_missing_is_nan(out):
    def odd(a):
        if a == 2:
            raise ArithmeticError("no")
        return {"whole": np.int64(a), "pair": np.array([a, a + 0.5])}

    with pytest.warns(RuntimeWarning, match=r"1 of 3 units failed; the first: a=2: ArithmeticError: no"):
        done = fps.sweep(odd, {"a": [1, 2, 3]}, out=out)
    assert np.array_equal(done.values("whole"), [1, np.nan, 3], equal_nan=True)
    assert np.array_equal(done.values("pair"), [[1, 1.5], [np.nan] * 2, [3, 3.5]], equal_nan=True)
    assert np.array_equal(done.mean("whole"), [1, np.nan, 3], equal_nan=True)
    assert done.errors() == [({"a": 2}, "ArithmeticError: no")]
    with pytest.raises(ValueError, match="the unit at a=2 failed: ArithmeticError: no"):
        done.result(a=2)


def test_result_names_what_there_is(out):
    done = fps.sweep(tasks.wave, AXES, out=out)
    assert done.result(a=np.float64(2.5), k=20 * (1 + 1e-15))["product"] == 50
    cases = {
        r"a=3 is not on its axis: 1, 2.5, 4": {"a": 3, "k": 10},
        "k is missing: one of 10.0, 20.0": {"a": 1},
        "no axis 'b'; it has a, k": {"a": 1, "k": 10, "b": 1},
        "replicate=1 does not exist: there are 1": {"a": 1, "k": 10, "replicate": 1},
    }
    for words, wrong in cases.items():
        with pytest.raises(KeyError, match=words):
            done.result(**wrong)
    with pytest.raises(KeyError, match="no 'value'; they have noise, product"):
        done.values("value")


# ---- ensembles split over units ------------------------------------------------------------------------------------------


class Sum:
    """Not commutative in its last bits: the order of a fold shows."""

    def __init__(self, total):
        self.total = total

    def merge(self, other):
        return Sum(self.total + other.total)


def test_ranges_of_one_ensemble_share_the_seed_and_are_merged_in_order(out, monkeypatch):
    def part(D, seed, first, n):
        return {"first": first, "n": n, "half": float(seed % 1000), "share": D / (1 + first)}

    done = fps.sweep(part, {"D": [0.1, 0.3]}, paths=1e3, per_unit=100, out=out, executor="threads")
    assert done.dims == ("D", "range") and done.shape == (2, 10)
    assert done.values("first")[1].tolist() == list(range(0, 1000, 100)) and (done.values("n") == 100).all()
    assert (done.values("half") == [[seed_of(0, 0, D=D) % 1000] for D in (0.1, 0.3)]).all()
    assert done.result(D=0.3, number=4)["first"] == 400
    with pytest.raises(TypeError, match="dict has no method merge"):
        done.merged(D=0.3)
    value = done._reader.value
    monkeypatch.setattr(done._reader, "value", lambda i: Sum(value(i)["share"]))
    expected = 0.0
    for first in range(0, 1000, 100):
        expected = expected + 0.3 / (1 + first) if first else 0.3
    assert done.merged(D=0.3).total == expected


def test_an_ensemble_of_escape_paths_in_parts(out, tmp_path):
    """Counts are those of one call for all paths, sums agree to rounding; the same bits in any order."""
    done = fps.sweep(tasks.escapes, {"D": [0.4]}, paths=600, per_unit=100, out=out)
    other = fps.sweep(tasks.escapes, {"D": [0.4]}, paths=600, per_unit=100, out=tmp_path / "threads.h5", executor="threads")
    total = done.merged()
    assert total == other.merged() and len(total.ranges) == 1
    whole = tasks.escapes(0.4, seed_of(0, 0, D=0.4), 0, 600)
    assert np.array_equal(total.counts, whole.counts) and (total.n, total.n_events) == (600, 600)
    assert total.mean().value == pytest.approx(whole.mean().value, rel=1e-13)
    assert total.mean().stderr == pytest.approx(whole.mean().stderr, rel=1e-10)


def test_how_an_ensemble_is_split():
    assert Plan.make(None, paths=10**9).ranges == 1000
    assert Plan.make(None, paths=2_500_000).per_unit == 625_000
    assert Plan.make(None, paths=500).ranges == 1
    with pytest.raises(ValueError, match="no multiple of per_unit=300: all ranges must be alike; e.g. per_unit=250"):
        Plan.make(None, paths=1000, per_unit=300)
    with pytest.raises(ValueError, match="only be split into ranges of 1: choose a rounder number"):
        Plan.make(None, paths=15_485_863)  # a prime


# ---- bad input, before any work -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "error", "words"),
    [
        ({"a": 3}, TypeError, "axis 'a' must be a list or an array, got int: 3"),
        ({"a": "xy"}, TypeError, "axis 'a' must be a list or an array, got str: 'xy'"),
        ({"a": []}, ValueError, "axis 'a' has no values"),
        ({"a": [1, 2, 1.0]}, ValueError, "axis 'a' has the value 1.0 twice; use replicates="),
        ({"a": [None]}, TypeError, "must be numbers, truths or texts, got NoneType"),
        ({"a": [[1, 2]]}, TypeError, "must be numbers, truths or texts, got list"),
        ({"a": [math.nan]}, ValueError, "the value nan, which cannot be looked up"),
        ({"range": [1]}, ValueError, "'range' cannot be the name of an axis"),
        ({"a b": [1]}, ValueError, "'a b' cannot be the name of an axis"),
        ({"b": [1]}, TypeError, r"double\(a\) takes no 'b'"),
        ({}, TypeError, r"double\(a\) needs 'a', which is no axis of the sweep"),
        ([], ValueError, "axes is an empty list"),
        ([{"a": 1}, {"b": 1}], ValueError, r"point 1 has the names \['b'\]"),
        ([{"a": 1}, {"a": 1.0}], ValueError, "point 1, .* is there twice"),
        ([3], TypeError, "number 0 is int: 3"),
        (3, TypeError, "axes must be a dict of names and values, or a list of dicts, got int"),
    ],
)
def test_bad_axes(axes, error, words, out):
    with pytest.raises(error, match=words):
        fps.sweep(tasks.double, axes, out=out)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"replicates": 0}, ValueError, "replicates must be >= 1, got 0"),
        ({"replicates": 2.5}, TypeError, "replicates must be a whole number"),
        ({"replicates": 2}, ValueError, r"replicates=2 would all be the same: double\(a\) takes no seed"),
        ({"paths": 10}, TypeError, r"double\(a\) takes no 'first' \(paths= splits an ensemble"),
        ({"per_unit": 10}, ValueError, "per_unit=10 splits an ensemble of paths"),
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"retries": -1}, ValueError, "retries must be an integer >= 0, got -1"),
        ({"executor": "cluster"}, TypeError, "executor must be None, 'threads', 'processes'.*got str: 'cluster'"),
        ({"executor": 0}, ValueError, "number of processes must be >= 1, got 0"),
        ({"out": "/no/such/folder/x.h5"}, FileNotFoundError, "the folder /no/such/folder does not exist"),
    ],
)
def test_bad_options(options, error, words, out):
    with pytest.raises(error, match=words):
        fps.sweep(tasks.double, {"a": [1]}, **{"out": out, **options})
    assert not list(out.parent.iterdir())


def test_processes_need_a_task_that_can_be_sent(out):
    with pytest.raises(ValueError, match="cannot be sent to other processes .*: define it at the top of a module"):
        fps.sweep(lambda a: a, {"a": [1]}, executor=2, out=out)
    with pytest.raises(TypeError, match="task must be a function, or a configuration .* got int: 3"):
        fps.sweep(3, {"a": [1]}, out=out)


# ---- columns -------------------------------------------------------------------------------------------------------------


def stored(value, first=None):
    """What comes back of a value, where the first result was another one."""
    layout = Layout.from_json(lay_out(take_apart(value if first is None else first)).as_json())
    rows, notes = fit(layout, take_apart(value))
    columns = {
        name: np.frombuffer(row, dtype).reshape(shape)
        for (name, (dtype, shape)), row in zip(layout.columns.items(), rows, strict=True)
    }
    return put_together(layout, columns, notes.decode())


NUMBERS = st.one_of(
    st.floats(), st.booleans(), st.complex_numbers(), st.integers(-(2**53), 2**53),
    st.integers(-(2**63), 2**63 - 1).map(np.int64), st.none(), st.text(max_size=20), st.lists(st.floats(), max_size=3),
)  # fmt: skip


@given(
    st.dictionaries(
        st.text("abc/._", min_size=1, max_size=3).map(lambda s: "x" + s.replace("/", "")), NUMBERS, min_size=1, max_size=5
    )
)
def test_dicts_come_back(value):
    back = stored({"deep": value, "n": 1.0})["deep"]
    assert back.keys() == value.keys()
    for name, part in value.items():
        assert np.array_equal(np.asarray(back[name]), np.asarray(part), equal_nan=isinstance(part, (float, complex, list)))


def test_records_come_back():
    wide = fps.Estimate(1.0, stderr=0.5, interval=(0.0, 2.0), log_value=0.0, lr=0.1, unit="time")
    bare = fps.Estimate(2.0, assumptions=[fps.Assumption("it holds", "held", "0.1 < 1")])
    assert stored(wide) == wide and stored(bare) == bare
    assert stored(bare, first=wide) == bare  # interval and log_value of the first are columns
    with pytest.raises(ValueError, match="'interval', which the first result"):
        stored(wide, first=bare)
    assert stored({"deep": {"er": wide}})["deep"]["er"] == wide
    grid = fps.Grid((-2.0, 2.0, 4), (0.0, 1.0, 3), boundary=["absorbing", "periodic"])
    density = fps.Density(np.arange(12.0).reshape(4, 3), grid, warnings=("a wall is near",))
    assert stored(density) == density


@pytest.mark.parametrize(
    ("first", "value", "words"),
    [
        (np.zeros(3), np.zeros(4), r"'value' has shape \(4,\), but \(3,\) in the first result"),
        (np.array([1]), np.array([2.5]), "'value' is of float64, which does not fit into int64"),
        (1.0, 1.5 + 1e-3j, "'value' is of complex128, which does not fit into float64"),
        (True, 2.0, "'value' is of float64, which does not fit into bool"),
        (1.0, {"x": 1.0}, "of another kind than the first result of the sweep: dict, not number"),
        ({"x": np.zeros(2)}, {"y": 1.0}, "it has 'y', which the first result of the sweep does not have"),
        ({"x": 1.0}, {"x": 1.0, "y": np.zeros(2)}, "it has 'y', which the first result"),
        ({"x": 1.0, "y": 2.0}, {"x": 1.0}, "its 'y' is no array of float64"),
        ({"x": 1.0}, {"x": "text"}, "its 'x' is no array of float64"),
        ({"x": True}, {"x": None}, "its 'x' is no array of bool"),
        ({"x": 1.0}, {"x": {"y": 1.0}}, "at 'x': dict, not nothing of the kind"),
        ({"x": 1.0}, {f"{i}": "text" * 20 for i in range(60)} | {"x": 1.0}, f"; {NOTES} are kept for each unit"),
    ],
)
def test_values_that_do_not_fit(first, value, words):
    with pytest.raises(ValueError, match=words):
        stored(value, first=first)


@pytest.mark.parametrize("value", [None, "text", object(), [1, "a"], {"x": object()}, {"x": {1: 2}}, {}])
def test_values_that_are_none(value):
    with pytest.raises((TypeError, ValueError), match="must return|cannot be stored|cannot be a name|empty dict"):
        take_apart(value)


def test_numbers_that_fit_and_texts_that_are_cut():
    assert stored(3, first=0.5) == 3.0
    assert stored(7.0, first=np.int64(1)) == 7
    assert stored({"x": None}, first={"x": 1.0}) == {"x": None}
    assert stored({"x": 2.0}, first={"x": None}) == {"x": 2.0}
    cut = stored({"x": 1.0, "story": "long " * 1000})["story"]
    assert cut.startswith("long long") and cut.endswith(" ... (cut)")


@given(
    st.dictionaries(st.text("abcd", min_size=1), st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False)), max_size=4)
)
def test_seeds_are_those_of_the_numbers(parameters):
    spec = {name: float(value) + 0.0 for name, value in parameters.items()}
    if all(math.isfinite(v) for v in spec.values()):
        assert unit_seed(5, 2, parameters) == seed_of(5, 2, **spec)


def test_what_makes_a_task_another_one():
    def make(c, d=1):
        def task(a, b=d):
            return a * b * c

        return task

    names = [describe_function(f) for f in (make(1), make(2), make(1, 2), functools.partial(make(1), b=3))]
    assert len(set(names)) == 4 and describe_function(make(1)) == names[0]
    assert describe_function(lambda a: a + 1) != describe_function(lambda a: a + 2)


# ---- configurations ---------------------------------------------------------------------------------------------------------


class Config:
    """What a sweep asks of a configuration."""

    def __init__(self, tables):
        self.tables = tables
        self.axes, self.task = tables["sweep"]["axes"], "task"
        self.sweep = {"replicates": 2, "seed": 4, "paths": None, "per_unit": None, "out": None}

    def as_dict(self):
        return json.loads(json.dumps(self.tables))

    def takes(self, keyword):
        return keyword == "seed"

    def replaced(self, values):
        assert set(values) <= {"noise.D"}, values
        return Config({**self.tables, "noise": {"D": values.get("noise.D")}})

    def _check(self):
        pass

    def run(self, *, seed):
        return self.tables["noise"]["D"], fps.Estimate(seed % 100)


def test_a_configuration_over_its_axes(out, monkeypatch):
    module = types.ModuleType("fpsolve.config")
    module.Config, module.read_config = Config, lambda tables: Config({"sweep": {"axes": {}}, **tables})
    monkeypatch.setitem(sys.modules, "fpsolve.config", module)
    config = Config({"noise": {"D": 1.0}, "run": {"checkpoint": None}, "sweep": {"axes": {"noise.D": [0.1, 0.2]}}})
    done = fps.sweep(config, out=out)
    assert done.dims == ("noise.D", "replicate") and done.seed == 4
    assert done.values("result_0").tolist() == [[0.1] * 2, [0.2] * 2]
    seed = seed_of(4, 1, **{"noise.D": 0.2})
    assert done.result(replicate=1, **{"noise.D": 0.2})["result_1"] == fps.Estimate(seed % 100)
    config.tables["run"]["checkpoint"] = "x.h5"
    with pytest.raises(ValueError, match="checkpoint is the file of one run"):
        fps.sweep(config, out=out)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "well.toml").write_text(
        '[potential]\nname = "double_well"\n[noise]\nD = 1.0\n[task]\nname = "kramers_rate"\nminimum = [-1.0]\nsaddle = [0.0]\n'
        '[sweep]\nout = "rates.h5"\n[sweep.axes]\n"noise.D" = [0.1, 0.2]\n'
    )
    for _ in range(2):  # the second time nothing is left to be done
        assert cli.main(["sweep", "well.toml"]) == 0
        assert capsys.readouterr().out == "Sweep(noise.D: 2; 2 of 2 units done) in rates.h5\n"
    for D in (0.1, 0.2):  # sqrt(U''(-1) |U''(0)|)/(2 pi) exp(-1/D)
        assert fps.load("rates.h5").result(**{"noise.D": D}).value == pytest.approx(
            math.sqrt(32) / (2 * math.pi) * math.exp(-1 / D)
        )
    assert cli.main(["status", "rates.h5"]) == 0
    text = capsys.readouterr().out
    assert "done      2 (100.0 %), failed 0, missing 0" in text and "writer    none" in text and "processor" in text
    assert cli.main(["show", "rates.h5"]) == 0
    assert "results/" in capsys.readouterr().out

    assert cli.main(["sweep", "well.toml", "--scheduler", "host"]) == 2
    assert "'host' is not the address of a scheduler" in capsys.readouterr().err
    assert cli.main(["sweep", "well.toml", "--out", "well.toml"]) == 2
    assert "delete the file" in capsys.readouterr().err
    assert cli.main(["status", "well.toml"]) == 2
    assert cli.main(["sweep", "none.toml"]) == 2
    assert cli.main(["sweep", "well.toml", "--jobs", "0"]) == 2
    (tmp_path / "bad.toml").write_text((tmp_path / "well.toml").read_text().replace("[0.1, 0.2]", "[0.1, -0.2]"))
    assert cli.main(["sweep", "bad.toml", "--out", "bad.h5"]) == 2
    assert "[noise] D must be a finite number >= 0, got -0.2" in capsys.readouterr().err and not (tmp_path / "bad.h5").exists()

    monkeypatch.setattr("fpsolve._calls._run_config", lambda tables, parameters: 1 / (parameters["noise.D"] - 0.2))
    assert cli.main(["sweep", "well.toml", "--out", "one.h5"]) == 1
    told = capsys.readouterr()
    assert "fpsolve: warning: 1 of 2 units failed; the first: noise.D=0.2: ZeroDivisionError" in told.err
    assert told.out == "Sweep(noise.D: 2; 1 of 2 units done, 1 failed) in one.h5\n"


# ---- pictures and tables ---------------------------------------------------------------------------------------------------


def test_pictures(out, tmp_path):
    line = fps.sweep(tasks.draw, {"a": [3, 1, 2]}, replicates=3, out=out)
    with pytest.raises(ValueError, match=r"'value' has the shape \(3, 4\)"):
        line.plot()
    done = fps.sweep(tasks.wave, {"a": [3, 1, 2], "k": [5]}, replicates=3, out=tmp_path / "line.h5")
    drawn = done.plot("product").lines[0]
    assert drawn.get_xydata().tolist() == [[1, 5], [2, 10], [3, 15]]
    done = fps.sweep(tasks.wave, {"a": [2, 1], "k": [5, 7, 9]}, out=tmp_path / "map.h5")
    mesh = done.plot("product").collections[0]
    assert mesh.get_array().tolist() == [[5, 10], [7, 14], [9, 18]]


def test_xarray_is_optional(out, monkeypatch):
    done = fps.sweep(tasks.wave, AXES, out=out)
    calls = []
    fake = types.SimpleNamespace(Dataset=lambda variables, coords, attrs: calls.append((variables, coords)))
    monkeypatch.setitem(sys.modules, "xarray", fake)
    done.to_xarray()
    variables, coords = calls[0]
    assert variables["noise"][0] == ["a", "k", "noise_0"] and np.array_equal(variables["noise"][1], done.values("noise"))
    assert coords == {"a": (("a",), [1, 2.5, 4]), "k": (("k",), [10.0, 20.0])}
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match="pip install xarray"):
        done.to_xarray()


def test_progress_counts_the_units(out, updates):
    fps.sweep(tasks.double, {"a": [1, 2, 3]}, out=out, progress=True)
    assert updates == [1, 1, 1]
    fps.sweep(tasks.double, {"a": [1, 2, 3]}, out=out, progress=True)
    assert updates == [1, 1, 1]
