"""Configurations: every task gives the bits of the call in Python; files, axes and values replaced; the examples of the page.

All models that are compiled are the same double well on a line.
"""

import copy
import dataclasses
import functools
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from config_cases import (
    CHAIN,
    COMMIT,
    ENDS,
    ESCAPE,
    GAUSS,
    GRID,
    LEFT,
    TASKS,
    TEXT,
    TOML,
    WELL,
    asked,
    chain,
    grid,
    kernel,
    left,
    process,
    same,
    well,
)

import fpsolve as fps
from fpsolve import _config_tables, read_config, theory
from fpsolve._config_keys import plain

ROOT = Path(__file__).parent.parent
FORWARDED = {
    "escape_report": asked("escape_report", {**WELL, **LEFT}, minimum=[-1.0], saddle="all", seconds=1.0),
    "selection_report": asked("selection_report", WELL, x=[-1.0, 1.0], start=0.0),
    "phase_diagram": asked("phase_diagram", {"potential": {"name": "degenerate_valley"}}, sigma=[0.1], lr=[0.1], start=[0.0, 0.0],
                           x=[-1.0, 1.0], n=10),
}  # fmt: skip
PLUGINS = {"train", "claim"}
pytestmark = pytest.mark.usefixtures("entry_points")


# ---- tasks --------------------------------------------------------------------------------------------------------------


def test_every_task_is_here():
    assert {*TASKS, *FORWARDED, *PLUGINS} == set(_config_tables.known_tasks())


@pytest.mark.parametrize("name", TASKS)
def test_a_task_gives_the_bits_of_the_call_in_python(name):
    tables, direct = TASKS[name]
    config = read_config(tables)
    config.check()
    assert read_config(config.as_dict()) == config
    result = config.run()
    assert same(result, direct()), result
    json.dumps(config.as_dict())


@pytest.mark.parametrize("name", FORWARDED)
def test_a_long_task_makes_the_right_call(name, monkeypatch):
    calls = []

    @functools.wraps(getattr(fps, name))
    def call(*args, **kwargs):
        calls.append((args, kwargs))
        return name

    monkeypatch.setattr(fps, name, call)
    config = read_config({**FORWARDED[name], "run": {"seed": 5, "threads": 2}})
    config.check()
    assert config.run() == name
    ((args, kwargs),) = calls
    options = {key: value for key, value in FORWARDED[name]["task"].items() if key != "name"}
    assert not args
    assert {key: kwargs[key] for key in options} == options
    assert (kwargs["seed"], kwargs["threads"], kwargs["progress"]) == (5, 2, False)
    assert repr(kwargs["U" if name == "phase_diagram" else "process"]).startswith(("Potential(", "Process("))


def test_chains_are_asked_of_their_kernel():
    found = read_config({**CHAIN, **GRID, **LEFT, "task": {"name": "escape_rate"}, "solver": {"nodes": 4}}).run()
    assert same(found, kernel().escape_rate(left()))
    assert found.unit == "1/iteration"
    moved = read_config({**CHAIN, **GRID, "task": {"name": "evolve", "rho0": GAUSS, "t": 5}}).run()
    assert same(moved, kernel().evolve(("gaussian", [-1.0], [[0.05]]), 5))
    paths = read_config({**CHAIN, **LEFT, "task": {"name": "escape_times", "x0": [-1.0], "n": 40}, "run": {"seed": 2}}).run()
    assert same(paths, fps.escape_times(chain(), [-1.0], left(), n=40, seed=2))


def test_motion_with_inertia_is_asked_in_phase_space():
    inertial = {**WELL, "process": {"kind": "underdamped", "friction": 1.0}, "grid": {"axes": [[-2.0, 2.0, 24], [-3.0, 3.0, 24]]}}
    config = read_config(asked("mean_exit_time", {**inertial, **LEFT}, at=[-1.0, 0.0]))
    config.check()
    solver = fps.FokkerPlanck(fps.Underdamped(well(), fps.Noise.isotropic(0.5), 1.0), fps.Grid((-2.0, 2.0, 24), (-3.0, 3.0, 24)))
    assert same(config.run(), solver.mean_exit_time(left(), at=[-1.0, 0.0]))
    states = {"kind": "box", "lo": [-2.0, -3.0], "hi": [0.5, 3.0]}
    read_config(asked("mean_exit_time", {**inertial, "region": states})).check()
    del inertial["grid"]
    for x0 in ([-1.0], [-1.0, 0.5]):
        read_config(asked("escape_times", {**inertial, "region": states}, x0=x0, dt=0.1, n=5)).check()


def test_the_solver_has_a_table():
    config = read_config({**WELL, **GRID, "task": {"name": "stationary"}, "solver": {"scheme": "high-order", "order": 4}})
    assert same(config.run(), fps.FokkerPlanck(process(), grid(), "high-order", order=4).stationary())


U2, GALLERY = {"potential": {"name": "double_well", "dim": 2}}, fps.potentials.double_well
DATA = {"expression": "(a*x - b)**2/2", "variables": "x", "data": {"a": [1.0, 2.0], "b": [0.5, 1.0]}}
PROCESSES = [
    ({**WELL, "process": {"interpretation": "klimontovich"}},
     lambda: fps.Process(well(), fps.Noise.isotropic(0.5), "klimontovich")),
    ({**U2, "noise": {"kind": "constant", "D": [[1.0, 0.3], [0.3, 0.5]]}},
     lambda: fps.Process(GALLERY(2), fps.Noise.constant([[1.0, 0.3], [0.3, 0.5]]))),
    ({**U2, "noise": {"kind": "low_rank", "F": [[1.0], [2.0]], "diagonal": 0.5}},
     lambda: fps.Process(GALLERY(2), fps.Noise.low_rank([[1.0], [2.0]], 0.5))),
    ({**U2, "noise": {"kind": "diagonal", "D": ["0.1", "a + x**2"], "variables": "x y", "params": {"a": 0.2}}},
     lambda: fps.Process(GALLERY(2), fps.Noise.diagonal(["0.1", "a + x**2"], "x y", {"a": 0.2}))),
    ({**U2, "noise": {"kind": "diagonal", "D": [0.1, 0.2]}}, lambda: fps.Process(GALLERY(2), fps.Noise.diagonal([0.1, 0.2]))),
    ({**U2, "noise": {"kind": "expression", "D": [["0.1", "0"], ["0", "0.1 + x**2"]], "variables": "x y"}},
     lambda: fps.Process(GALLERY(2), fps.Noise.from_expression([["0.1", "0"], ["0", "0.1 + x**2"]], "x y"))),
    ({**U2, "noise": {"kind": "factor", "B": [["1", "0"], ["x", "1"]], "variables": ["x", "y"]},
      "process": {"kind": "overdamped", "interpretation": "stratonovich"}},
     lambda: fps.Process(GALLERY(2), fps.Noise.from_factor([["1", "0"], ["x", "1"]], ["x", "y"]), "stratonovich")),
    ({**U2, "noise": {"kind": "factor", "B": [[1.0, 0.0], [0.5, 1.0]]}},
     lambda: fps.Process(GALLERY(2), fps.Noise.from_factor([[1.0, 0.0], [0.5, 1.0]]))),
    ({**U2, "noise": {"kind": "hessian", "scale": 0.1, "floor": 0.2}},
     lambda: fps.Process(GALLERY(2), fps.Noise.hessian(GALLERY(2), 0.1, 0.2))),
    ({**U2, "noise": {"kind": "shifted_minima", "sigma": 0.5, "lr": 0.1}},
     lambda: fps.Process(GALLERY(2), fps.Noise.shifted_minima(GALLERY(2), 0.5, 0.1))),
    ({**U2, "noise": {"kind": "covariance", "C": [[2.0, 0.0], [0.0, 1.0]], "lr": 0.1, "batch": 10}},
     lambda: fps.Process(GALLERY(2), fps.Noise.covariance([[2.0, 0.0], [0.0, 1.0]], 0.1, 10))),
    ({**U2, "noise": {"kind": "covariance", "C": [[[2.0], [1.0]], 0.5], "lr": 0.1}},
     lambda: fps.Process(GALLERY(2), fps.Noise.covariance(([[2.0], [1.0]], 0.5), 0.1))),
    ({**U2, "noise": {"kind": "covariance", "C": [[[[1.0], [0.0]], [[2.0], [0.0]]], [[0.5, 0.5], [1.0, 1.0]]], "lr": 0.2,
                      "axes": [[0.0, 1.0]], "along": 1}},
     lambda: fps.Process(GALLERY(2), fps.Noise.covariance(([[[1.0], [0.0]], [[2.0], [0.0]]], [[0.5, 0.5], [1.0, 1.0]]), 0.2,
                                                          axes=[[0.0, 1.0]], along=1))),
    ({**WELL, "noise": {"kind": "levy", "alpha": 1.5, "scale": 0.2}}, lambda: fps.Process(well(), fps.Noise.levy(1.5, 0.2))),
    ({"potential": {"expression": "x**2/2 + k*y**2", "variables": "x y", "params": {"k": 2.0}}, "noise": {"D": 0.1},
      "process": {"kind": "reversible"}},
     lambda: fps.Process.reversible(fps.Potential.from_expression("x**2/2 + k*y**2", "x y", {"k": 2.0}), fps.Noise.isotropic(0.1))),
    ({"noise": {"D": 0.1}, "process": {"kind": "drift", "drift": "x - x**3 + h", "variables": "x", "params": {"h": 0.1}}},
     lambda: fps.Process.from_drift("x - x**3 + h", fps.Noise.isotropic(0.1), "x", {"h": 0.1})),
    ({"noise": {"D": 0.1}, "process": {"kind": "ornstein_uhlenbeck", "A": [[1.0, 0.6], [-0.3, 0.8]], "center": [1.0, 0.0]}},
     lambda: fps.Process.ornstein_uhlenbeck([[1.0, 0.6], [-0.3, 0.8]], fps.Noise.isotropic(0.1), [1.0, 0.0])),
    ({"noise": {"D": 0.1}, "process": {"kind": "tabulated", "x": [-1.0, 0.0, 1.0, 2.0], "drift": [1.0, 0.0, -1.0, -2.0]}},
     lambda: fps.Process.tabulated([-1.0, 0.0, 1.0, 2.0], [1.0, 0.0, -1.0, -2.0], fps.Noise.isotropic(0.1))),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(PROCESSES)))
def test_every_noise_and_process_is_that_of_python(i):
    tables, direct = PROCESSES[i]
    made = _config_tables.Objects(_resolved(tables), "config")("process")
    expected = direct()
    assert repr(made) == repr(expected)
    x = np.linspace(-0.7, 0.9, 3 * expected.dim).reshape(3, expected.dim)
    assert np.array_equal(made.drift(x), expected.drift(x))
    if expected.noise.stable is None:
        assert np.array_equal(made.diffusion(x), expected.diffusion(x))


def _resolved(tables):
    """With a task that takes a process of any kind."""
    dim = 2 if tables.get("potential", {}).get("dim") == 2 or "y" in str(tables) or "[[1.0, 0.6]" in str(tables) else 1
    return read_config(asked("simulate", tables, x0=[0.0] * dim, t=1, n=1)).as_dict()


def test_the_other_processes():
    def made(tables):
        return _config_tables.Objects(_resolved(tables), "config")("process")

    inertial = made({**WELL, "process": {"kind": "underdamped", "friction": 0.5}})
    assert repr(inertial) == repr(fps.Underdamped(well(), fps.Noise.isotropic(0.5), 0.5))
    options = {"lr": [0.1, 0.05], "momentum": 0.9, "nesterov": True}
    chained = made({**WELL, "process": {"kind": "chain", **options}})
    assert repr(chained) == repr(fps.SGDChain.gaussian(well(), fps.Noise.isotropic(0.5), **options))
    adam = {"lr": 0.1, "optimizer": "adam", "betas": [0.9, 0.99], "eps": 1e-6}
    assert repr(made({**WELL, "process": {"kind": "chain", **adam}})) == repr(
        fps.SGDChain.gaussian(well(), fps.Noise.isotropic(0.5), **adam)
    )
    shifted = made({"potential": {"expression": TEXT}, "process": {"kind": "random_shift", "sigma": 0.3, "lr": 0.1, "batch": 4}})
    assert repr(shifted) == repr(fps.SGDChain.random_shift(well(), 0.3, 0.1, 4))
    sampled = made({"ensemble": DATA, "process": {"kind": "ensemble", "lr": 0.1, "batch": 1, "sampling": "shuffle"}})
    ensemble = fps.Ensemble.from_expression(DATA["expression"], "x", DATA["data"])
    assert repr(sampled) == repr(fps.SGDChain(ensemble, 0.1, 1, sampling="shuffle"))


def test_landscapes_grids_and_regions_are_those_of_python():
    gallery = {"quadratic": {"H": [[2.0, 0.0], [0.0, 1.0]], "center": [1.0, 0.0]}, "degenerate_valley": {"lam": ["1 + x**2", "2"]},
               "styblinski_tang": {"dim": 2}, "mueller_brown": {}, "product": {"target": 2.0}, "ring": {"radius": 2.0},
               "two_valleys": {"sharp": 9.0}, "double_well": {"k": 2.0}}  # fmt: skip
    assert set(gallery) == set(_config_tables._gallery())
    for name, options in gallery.items():
        form = _config_tables.form_of("potential", {"name": name, **options})
        made = form.made(_config_tables.resolve_table(form, {"name": name, **options}), {})
        assert repr(made) == repr(getattr(fps.potentials, name)(**options))
    table = {"axes": [[-2, 2, 4], [-5.0, 5.0, 6, ["sinh", 0.0, 0.5]]], "boundary": ["periodic", ["reflecting", "absorbing"]]}
    form = _config_tables.form_of("grid", table)
    axes = ((-2, 2, 4), (-5.0, 5.0, 6, ("sinh", 0.0, 0.5)))
    assert form.made(_config_tables.resolve_table(form, table), {}) == fps.Grid(*axes, boundary=table["boundary"])
    U = GALLERY(2)
    regions = [
        ({"kind": "ball", "c": [0, 0], "r": 2}, fps.Region.ball([0, 0], 2)),
        ({"kind": "box", "lo": [-1.0, -np.inf], "hi": [1.0, np.inf]}, fps.Region.box([-1.0, -np.inf], [1.0, np.inf])),
        ({"kind": "halfspace", "n": [1.0, 1.0], "c": 0.5}, fps.Region.halfspace([1.0, 1.0], 0.5)),
        ({"kind": "sublevel", "e": 0.5, "containing": [-1.0, 0.0]}, fps.Region.sublevel(U, 0.5, [-1.0, 0.0])),
        ({"kind": "expression", "expression": "x - c*y", "variables": "x y", "params": {"c": 2.0}},
         fps.Region.from_expression("x - c*y", "x y", {"c": 2.0})),
    ]  # fmt: skip
    assert {table["kind"] for table, _ in regions} == set(_config_tables._REGIONS)
    x = np.array([[0.3, -0.4], [-1.2, 0.1]])
    for table, expected in regions:
        config = read_config({**asked("mean_exit_time", {**U2, "noise": {"D": 0.1}, **GRID}), "region": table})
        made = _config_tables.Objects(config.as_dict(), "config")("region")
        assert repr(made) == repr(expected)
        assert np.array_equal(made.g(x), expected.g(x))


def test_walls_bins_and_regions_of_paths(monkeypatch):
    """The text "grid" is the table; an empty list and "none" are None; all regions go in their order."""
    calls = []

    @functools.wraps(fps.simulate)
    def call(**kwargs):
        calls.append(kwargs)

    monkeypatch.setattr(fps, "simulate", call)
    simulated = {"x0": [0.0, 0.0], "t": 1.0, "dt": 0.1, "n": 2}
    tables = {**U2, "noise": {"D": 0.1}, "grid": {"axes": [[-2, 2, 4], [-1, 1, 3]]}}
    read_config(asked("simulate", tables, **simulated, save="histogram", bins="grid", walls="grid")).run()
    assert calls[-1]["bins"] == calls[-1]["walls"] == fps.Grid((-2, 2, 4), (-1, 1, 3))
    del tables["grid"]
    walls = [[], [-1.0, 1.0, ["reflecting", "none"]]]
    named = {name: {"kind": "halfspace", "n": [1.0, 0.0], "c": c} for name, c in (("left", 0.0), ("right", 9.0))}
    read_config(asked("simulate", {**tables, "regions": named}, **simulated, save="occupation", walls=walls)).run()
    assert calls[-1]["walls"] == [None, [-1.0, 1.0, ("reflecting", None)]]
    assert [region.name for region in calls[-1]["regions"]] == ["halfspace([1.0, 0.0], 0)", "halfspace([1.0, 0.0], 9)"]


def test_training_is_that_of_python():
    nets = pytest.importorskip("nets")
    config = read_config({
        "data": {"name": "spiral"}, "network": {"widths": [2, 8, 2], "activation": "tanh"}, "measure": {"block": "W2"},
        "training": {"lr": 0.1, "batch": 10, "steps": 40}, "record": {"test": True}, "task": {"name": "train"}, "run": {"seed": 4},
    })  # fmt: skip
    config.check()
    assert config.takes("seed")
    found = config.run()
    data, mlp = nets.load_data("spiral"), nets.MLP([2, 8, 2], activation="tanh")
    run = nets.train(mlp, data, lr=0.1, batch=10, steps=40, seed=4)
    stats = nets.measure(run, data, block="W2")
    assert found["train_loss"] == mlp.loss(run.theta, data.x_train, data.y_train)
    assert found["test_error"] == mlp.error(run.theta, data.x_test, data.y_test)
    assert (found["hessian_trace"], found["dim"]) == (stats.hessian.trace(), 16)
    assert found["hessian_top"] == stats.eigenvalues[0]
    factor = (data.size - 10) / (data.size - 1)  # batches of an epoch are drawn without replacement
    assert found["noise_trace"] == pytest.approx(stats.covariance.trace() * factor / 10, rel=1e-14)
    other = config.run(seed=5)
    assert other["train_loss"] == mlp.loss(
        nets.train(mlp, data, lr=0.1, batch=10, steps=40, seed=5).theta, data.x_train, data.y_train
    )
    assert read_config(config.replaced({"training.steps": 5}).as_dict()).run()["steps"] == 5


def test_a_claim_is_run(validation, monkeypatch, tmp_path):
    from fpsolve_validation import Check, brownian_exit

    def run(quick, out, progress):
        assert (quick, out.is_dir(), progress) == (True, True, False)
        made = [(1.0, 1.1, (0.5, 1.5), 0.1), (3.0, 1.0, (0.0, np.inf), 0.0), (3.0, 1.0, (0.0, 2.0), 0.0)]
        return [
            Check(name=name, measured=value, expected=expected, band=band, stderr=stderr)
            for name, (value, expected, band, stderr) in zip("abc", made, strict=True)
        ]

    monkeypatch.setattr(brownian_exit, "run", run)
    config = read_config({"task": {"name": "claim", "claim": "brownian-exit"}})
    config.check()
    assert not config.takes("seed")
    found = config.run(seed=3)
    assert (found["passed"], found["failed"], found["measured"], found["high"]) == (2, 1, [1.0, 3.0, 3.0], [1.5, np.inf, 2.0])
    config.save(tmp_path / "claim.h5", found)
    assert fps.load(tmp_path / "claim.h5")["checks"] == ["a", "b", "c"]


# ---- configs ------------------------------------------------------------------------------------------------------------


def test_a_file_is_read(written):
    config = read_config(written(TOML))
    assert config.task == "escape_times"
    assert config.axes == {"noise.D": pytest.approx([0.25, 0.5, 1.0]), "potential.params.h": [0.0, 0.1], "task.n": [10, 20, 30]}
    assert config.sweep == {"replicates": 3, "seed": None, "paths": 1000, "per_unit": None, "out": None}
    assert config.as_dict()["task"] == {
        "name": "escape_times", "x0": [-1.0], "n": 64, "dt": 0.02, "t_max": None, "method": None, "correction": "auto",
        "walls": None,
    }  # fmt: skip
    assert "axes noise.D (3) x potential.params.h (2) x task.n (3)" in repr(config)
    config.check()


def test_configs_go_round(written):
    config = read_config(written(TOML))
    again = read_config(config.as_dict())
    assert again == config
    assert hash(again) == hash(config)
    assert again.as_dict() == config.as_dict()
    assert read_config(json.loads(json.dumps(config.as_dict()))) == config
    copied = pickle.loads(pickle.dumps(config))
    assert copied == config
    assert copied.source == config.source
    assert copied.takes("first") == config.takes("first")
    tables = config.as_dict()
    tables["noise"]["D"] = 9.0
    assert config.as_dict()["noise"]["D"] == 0.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.source = "x"  # type: ignore[misc]


def test_values_are_replaced():
    config = read_config({**ESCAPE, "potential": {"expression": "(x**2 - 1)**2 + h*x", "params": {"h": 0.0}}})
    other = config.replaced({"noise.D": 0.2, "potential.params.h": 0.1, "region.c": 0.0, "run.threads": 1, "task.x0.0": -0.9})
    tables = other.as_dict()
    assert (tables["noise"]["D"], tables["potential"]["params"]["h"], tables["region"]["c"]) == (0.2, 0.1, 0.0)
    assert (tables["run"]["threads"], tables["task"]["x0"]) == (1, [-0.9])
    assert config.as_dict()["task"]["x0"] == [-1.0]
    assert other.replaced({"noise": {"kind": "constant", "D": [[0.3]]}}).as_dict()["noise"] == {"kind": "constant", "D": [[0.3]]}
    assert config.replaced({}) == config
    fine = read_config(asked("committor", {**WELL, **GRID, **ENDS})).replaced({"grid.axes.0.2": 80, "regions.a.r": 0.5}).as_dict()
    assert (fine["grid"]["axes"], fine["regions"]["a"]["r"]) == ([[-2.0, 2.0, 80]], 0.5)


def test_another_kind_forgets_the_defaults_of_the_last():
    config = read_config(read_config(ESCAPE).as_dict())
    other = config.replaced({"process.kind": "underdamped", "process.friction": 0.5, "noise.kind": "isotropic"}).as_dict()
    assert other["process"] == {"kind": "underdamped", "friction": 0.5, "mass": 1.0}
    exits = read_config(read_config(asked("mean_exit_time", {**WELL, **GRID, **LEFT})).as_dict())
    assert exits.replaced({"task.name": "escape_rate"}).as_dict()["task"] == {"name": "escape_rate"}
    ends = read_config(read_config(COMMIT).as_dict()).replaced({"regions.a.kind": "ball"})
    assert ends == read_config(COMMIT)
    chosen = exits.replaced({"task.at": [-1.0]})
    with pytest.raises(ValueError, match=r"\[task\] unknown key 'at' of 'escape_rate'"):  # what was asked for is not dropped
        chosen.replaced({"task.name": "escape_rate"})


def test_an_axis_stands_for_its_key():
    tables = copy.deepcopy(ESCAPE) | {
        "sweep": {"axes": {"noise.D": [0.1, 0.2], "process": [{"kind": "overdamped"}, {"kind": "chain", "lr": 0.1}]}}
    }
    del tables["noise"], tables["task"]["dt"]
    config = read_config(tables)
    assert config.as_dict()["noise"] == {"kind": "isotropic", "D": 0.1}
    assert config.replaced({"process": config.axes["process"][1]}).as_dict()["process"]["lr"] == 0.1


def test_seeds_and_trajectories():
    config = read_config(ESCAPE)
    assert config.takes("seed")
    assert config.takes("n")
    assert same(config.run(n=10), fps.escape_times(process(), [-1.0], left(), n=10, dt=0.02, seed=7))
    assert same(config.run(seed=8), fps.escape_times(process(), [-1.0], left(), n=64, dt=0.02, seed=8))
    assert not same(config.run(seed=8), config.run())
    part = fps.escape_times(process(), [-1.0], left(), n=10, dt=0.02, seed=7, first=20)
    assert same(config.run(first=20, n=10), part)
    assert np.array_equal(part.times, config.run().times[20:30])
    with pytest.raises(ValueError, match=r"config: \[task\] stationary does not take n"):
        read_config(asked("stationary", {**WELL, **GRID})).run(n=3)


def test_numbers_of_numpy_are_read():
    given = {"kind": "constant", "D": np.eye(2)}
    config = read_config({**asked("ou_covariance", {}, A=np.eye(2), D=np.float64(1.0) * np.eye(2))})
    assert config.as_dict()["task"]["A"] == [[1.0, 0.0], [0.0, 1.0]]
    assert plain(given, "config:") == {"kind": "constant", "D": [[1.0, 0.0], [0.0, 1.0]]}
    assert np.array_equal(config.run(), 1.0 * np.eye(2))


def test_a_question_is_stored_with_its_answer(tmp_path):
    config = read_config({**ESCAPE, "run": {"seed": 7, "out": "a.h5"}})
    result, path = config.run(), tmp_path / "a.h5"
    config.save(path, result)
    assert same(fps.load(path), result)
    stored = read_config(path)
    assert stored == config.replaced({"run.out": None})  # running it again does not write over the file
    assert same(stored.run(), result)
    arrays = read_config(asked("second_moments", {}, hessians=[[[1.0]]], gradients=[[1.0]], lr=0.1))
    arrays.save(path, arrays.run())
    assert set(fps.load(path)) == {"config", "result_0", "result_1"}
    matrix = read_config(TASKS["ou_covariance"][0])
    matrix.save(path, matrix.run())
    assert np.array_equal(fps.load(path)["result"], matrix.run())
    assert read_config(path).as_dict()["task"]["name"] == "ou_covariance"


def test_infinite_faces_go_round(tmp_path):
    open_side = {"kind": "box", "lo": [-np.inf], "hi": [0.5]}
    config = read_config({**ESCAPE, "region": open_side})
    assert read_config(json.loads(json.dumps(config.as_dict()))) == config
    config.save(tmp_path / "a.h5", config.run())
    assert read_config(tmp_path / "a.h5").as_dict()["region"]["lo"] == [-np.inf]


# ---- the page -----------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.M | re.S)


def test_the_page_has_every_word():
    for word in (*_config_tables.known_tasks(), *_config_tables._NOISES, *_config_tables._PROCESSES, *_config_tables._REGIONS,
                 *_config_tables._gallery()):  # fmt: skip
        assert f"`{word}`" in PAGE, word


@pytest.mark.parametrize("i", range(3))
def test_an_example_of_the_page_runs(i, written):
    assert len(EXAMPLES) == 3
    config = read_config(written(EXAMPLES[i]))
    config.check()
    result = config.replaced({key: values[0] for key, values in config.axes.items()}).run()
    if i == 0:  # quadrature, with the far side of the well at -3; one run in 16 000 fails
        tilted = fps.Process(fps.Potential.from_expression("(x**2 - 1)**2 + 0.1*x"), fps.Noise.isotropic(0.4))
        exact = theory.mean_first_passage_1d(tilted, [-1.0], 0.5, reflecting=-3.0).value
        assert abs(result.mean().value - exact) < 4 * result.mean().stderr + 0.005 * exact
    elif i == 1:
        assert abs(result.at([0.0, 0.0]) - 0.5) < 1e-6  # by symmetry
    else:
        assert result["steps"] == 200
        assert result["hessian_trace"] > 0.0
