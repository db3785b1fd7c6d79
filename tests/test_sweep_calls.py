"""Sweeps: what tells one call from another, how a point is found, and what a configuration may put on its axes."""

import sys
import threading
import time
import warnings

import numpy as np
import pytest

import fpsolve as fps
from fpsolve._fingerprint import _depends_on, describe_function
from fpsolve._units import Plan


@pytest.fixture
def out(tmp_path):
    return tmp_path / "sweep.h5"


# ---- what a call is ---------------------------------------------------------------------------------------------------------


def closing_over(thing):
    def task(x):
        return float(x) + (thing is None)

    return task


class Model:
    """A user's own object."""

    def __init__(self, rate, children=()):
        self.rate, self.children = rate, children

    def __call__(self, x):
        return self.rate * x

    def times(self, x):
        return self.rate * x


def landscape(k):
    return fps.Potential.from_expression("k*x**2/2", "x", params={"k": k})


@pytest.mark.parametrize(
    "make",
    [
        lambda c: fps.Noise.from_expression([[f"{c} + 0*x", "0"], ["0", "1"]], variables="x y"),
        lambda c: fps.Noise.isotropic(0.1 * c),
        lambda c: fps.Noise.constant(np.diag(np.r_[np.ones(58), c])),
        lambda c: fps.potentials.quadratic(c * np.eye(2)),
        lambda c: fps.Region.halfspace([1.0], c),
        lambda c: fps.Grid((0.0, c, 10)),
        lambda c: fps.Process(landscape(1.0), fps.Noise.isotropic(c)),
        lambda c: fps.Underdamped(landscape(1.0), fps.Noise.isotropic(0.1), friction=c, mass=1.0),
        lambda c: fps.Underdamped(landscape(c), fps.Noise.isotropic(0.1), friction=1.0, mass=1.0),
        lambda c: fps.SGDChain.gaussian(landscape(1.0), fps.Noise.isotropic(0.1), 0.1 * c),
        lambda c: Model(c),
        lambda c: Model(c).times,
        lambda c: Model(1.0, [Model(2.0, {"inner": Model(c)})]),
        lambda c: {"a": [(np.arange(2000.0), np.full(2000, c))]},
        lambda c: np.random.default_rng(int(1e9 * c)),
        lambda c: np.float32(c),
    ],
)
def test_what_a_task_closes_over_counts_to_the_last_bit(make):
    same, other = (describe_function(closing_over(make(c))) for c in (1.0, 1.0000001))
    assert same == describe_function(closing_over(make(1.0))) != other
    if callable(make(1.0)) and isinstance(make(1.0), (Model, type(Model(1.0).times))):
        assert describe_function(make(1.0)) == describe_function(make(1.0)) != describe_function(make(1.0000001))


def test_a_task_in_a_ring_and_a_set_of_texts_have_one_name():
    ring = Model(1.0, [])
    ring.children.append(ring)
    assert describe_function(closing_over(ring)) == describe_function(closing_over(ring))
    words = [repr(_depends_on({"ab", "cd", "ef"})), repr(_depends_on(frozenset(["ef", "cd", "ab"])))]
    assert words[0] == words[1]


def test_used_objects_are_the_same_task():
    """What they work out and keep does not count."""
    U, noise = landscape(2.0), fps.Noise.isotropic(0.3)
    process = fps.Process(U, noise)
    before = [describe_function(closing_over(thing)) for thing in (U, noise, process)]
    process.drift([1.0]), process.diffusion([1.0]), U.hess([1.0])
    fps.FokkerPlanck(process, fps.Grid((-2, 2, 20))).stationary()
    assert before == [describe_function(closing_over(thing)) for thing in (U, noise, process)]


def test_a_point_is_found_exactly_before_it_is_found_nearly(out):
    seeds = [2**60, 2**60 + 1, 2**60 + 2]
    done = fps.sweep(lambda seed: float(seed - 2**60), {"seed": seeds}, out=out)
    assert [done.result(seed=s) for s in seeds] == [0.0, 1.0, 2.0]
    plan = Plan.make({"x": [1.0, 1.0 + 1e-13, 0.1 * 3]})
    assert [plan.find({"x": x}) for x in (1.0, 1.0 + 1e-13, 0.3)] == [0, 1, 2]
    assert Plan.make([{"x": 1.0}, {"x": 1.0 + 1e-13}]).find({"x": 1.0 + 1e-13}) == 1


def test_the_first_unit_in_order_decides_what_results_are_like(tmp_path):
    """Whoever runs them: here it is the slowest."""

    def odd(x):
        time.sleep(0.05 * (x == 0))
        return {"b": 1.0} if x == 0 else {"a": np.zeros(2), "b": 1.0}

    for k, executor in enumerate((None, "threads")):
        with pytest.warns(RuntimeWarning, match="3 of 4 units failed"):
            done = fps.sweep(odd, {"x": range(4)}, out=tmp_path / f"{k}.h5", executor=executor)
        assert done.names == ("b",) and done.failed == 3


@pytest.mark.parametrize("empty", [np.zeros(0), {"a": 1.0, "b": np.zeros((2, 0))}])
def test_empty_arrays_are_failures_of_their_units(out, empty):
    with pytest.warns(RuntimeWarning, match="1 of 2 units failed.*holds nothing"):
        assert fps.sweep(lambda x: empty if x else 1.0, {"x": [0, 1]}, out=out).failed == 1


def test_a_unit_that_exits_has_failed(out):
    with pytest.warns(RuntimeWarning, match="SystemExit: 3"):
        assert fps.sweep(lambda x: sys.exit(3) if x else 1.0, {"x": [0, 1]}, out=out).failed == 1


def test_too_many_axes(out):
    with pytest.raises(ValueError, match="40 axes are too many: 24 at most"):
        fps.sweep(lambda **given: 1.0, {f"a{i}": [1] for i in range(40)}, out=out)


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_that_is_taken_away_is_noticed(out, replace):
    def task(x):
        if x == 3:
            out.unlink()
            if replace:
                out.write_text("another")
        return float(x)

    with pytest.raises(OSError, match="was replaced by another" if replace else "was deleted"):
        fps.sweep(task, {"x": range(6)}, out=out)


# ---- configurations ---------------------------------------------------------------------------------------------------------

WELL = {"potential": {"name": "double_well"}, "noise": {"D": 0.5}, "run": {"seed": 4}}
EXITS = {"name": "escape_times", "x0": [-1.0], "n": 20, "dt": 0.01}
LEFT = {"kind": "halfspace", "n": [1.0], "c": 0.0}


def test_tables_and_lists_are_values_of_axes(out):
    kinds = [{"kind": "overdamped"}, {"kind": "underdamped", "friction": 1.0}]
    config = {**WELL, "region": LEFT, "task": EXITS, "sweep": {"axes": {"process": kinds, "task.x0": [[-1.0], [-1.1]]}}}
    done = fps.sweep({**config, "run": {"seed": None}}, out=out)
    assert done.shape == (2, 2) and done.done == 4
    one, other = (done.result(**{"process": kind, "task.x0": [-1.1]}) for kind in kinds)
    assert one.n == 20 and not np.array_equal(one.times, other.times)


def test_the_seed_of_the_run_is_that_of_the_sweep(tmp_path):
    def times(seed):
        config = {**WELL, "run": {"seed": seed}, "region": LEFT, "task": EXITS, "sweep": {"axes": {"noise.D": [0.5]}}}
        done = fps.sweep(config, out=tmp_path / f"{seed}.h5")
        assert done.seed == seed
        return done.values("times")

    assert not np.array_equal(times(4), times(5))


def test_a_split_ensemble_of_a_configuration_can_be_merged(out):
    task = {**EXITS, "n": 40}
    done = fps.sweep({**WELL, "region": LEFT, "task": task}, {"noise.D": [0.5]}, paths=40, per_unit=10, out=out)
    assert len(done.result().ranges) == 1 and done.merged().n == 40


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ([{"noise.D": 0.4}, {"noise.D": -1.0}], "D"),
        ([{"process.kind": "overdamped"}, {"process.kind": "nonsense"}], "nonsense"),
        ({"run.checkpoint": ["a.h5", "b.h5"]}, "run.checkpoint cannot be an axis"),
        ({"run.out": ["a.h5", "b.h5"]}, "run.out cannot be an axis"),
    ],
)
def test_points_of_a_configuration_are_checked_before_work(out, axes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        fps.sweep({**WELL, "region": LEFT, "task": EXITS}, axes, out=out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"axes": {"noise.D": [0.5, 0.5]}}, "twice"),
        ({"axes": {"noise.D": [0.5]}, "paths": 100, "per_unit": 30}, "no multiple"),
    ],
)
def test_check_refuses_what_a_sweep_refuses(sweep, words):
    with pytest.raises(ValueError, match=words):
        fps.read_config({**WELL, "region": LEFT, "task": EXITS, "sweep": sweep}).check()


def test_another_configuration_is_refused_naming_the_key_that_differs(out):
    config = {**WELL, "region": LEFT, "task": EXITS, "sweep": {"axes": {"noise.D": [0.5]}}}
    fps.sweep(config, out=out)
    with pytest.raises(ValueError, match=r"sweep of another call: region\.c was 0\.0, is -0\.5\. It is left"):
        fps.sweep({**config, "region": {**LEFT, "c": -0.5}}, out=out)


# ---- what a unit leaves behind -------------------------------------------------------------------------------------------------


def test_what_a_unit_sets_of_numpy_and_of_warnings_stays_in_it(out):
    """A unit after one that makes NumPy raise divides by zero as it did alone, and the caller finds its own settings again."""

    def divide(x):
        found = 1.0 / np.float64(x)
        np.seterr(all="raise")
        warnings.simplefilter("error")
        return found

    with np.errstate(all="ignore"):
        filters, settings = list(warnings.filters), np.geterr()
        done = fps.sweep(divide, {"x": [2.0, 0.0]}, out=out)
        assert (warnings.filters, np.geterr()) == (filters, settings)
    assert done.values().tolist() == [0.5, np.inf]


def test_threads_of_a_sweep_end_with_it(out):
    fps.sweep(lambda x: 2.0 * x, {"x": [1.0, 2.0]}, out=out, executor="threads")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fpsolve-sweep")]


def test_a_result_reads_its_own_unit_only(out, monkeypatch):
    done = fps.sweep(lambda x: 2.0 * x, {"x": [1.0, 2.0]}, out=out)
    monkeypatch.setattr(type(done._reader), "status", None)
    assert done.result(x=2.0) == 4.0
