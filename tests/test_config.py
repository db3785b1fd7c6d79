"""Configurations: every task gives the bits of the call in Python, and every bad input is a clear error before any work.

All models that are compiled are the same double well on a line.
"""

import configparser
import contextlib
import copy
import dataclasses
import functools
import importlib.metadata
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve import _config_tables, cli, read_config, theory
from fpsolve._config_keys import keys_of, nearest, plain

ROOT = Path(__file__).parent.parent
TEXT = "(x**2 - 1)**2"
WELL = {"potential": {"expression": TEXT}, "noise": {"D": 0.5}}
GRID = {"grid": {"axes": [[-2.0, 2.0, 40]]}}
LEFT = {"region": {"kind": "halfspace", "n": [1.0], "c": 0.5}}
ENDS = {"regions": {"a": {"kind": "ball", "c": [-1.0], "r": 0.3}, "b": {"kind": "ball", "c": [1.0], "r": 0.3}}}
CHAIN = {**WELL, "process": {"kind": "chain", "lr": 0.1}}
ESCAPE = {**WELL, **LEFT, "task": {"name": "escape_times", "x0": [-1.0], "n": 64, "dt": 0.02}, "run": {"seed": 7}}


@functools.cache
def well():
    return fps.Potential.from_expression(TEXT)


@functools.cache
def process():
    return fps.Process(well(), fps.Noise.isotropic(0.5))


@functools.cache
def chain():
    return fps.SGDChain.gaussian(well(), fps.Noise.isotropic(0.5), lr=0.1)


def grid():
    return fps.Grid((-2.0, 2.0, 40))


def left():
    return fps.Region.halfspace([1.0], 0.5)


def ends():
    return fps.Region.ball([-1.0], 0.3), fps.Region.ball([1.0], 0.3)


@functools.cache
def fp():
    return fps.FokkerPlanck(process(), grid())


@functools.cache
def kernel():
    return fps.TransitionKernel(chain(), grid())


def same(a, b):
    """Equal in every bit, whatever the kind of result; clocks aside."""
    if dataclasses.is_dataclass(a):
        names = [f.name for f in dataclasses.fields(a) if f.name not in ("wall_time", "seconds", "solver_info")]
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (np.ndarray, float)):
        return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind in "fc")
    return a == b if type(a).__eq__ is not object.__eq__ else type(a) is type(b)


def asked(name, tables, **options):
    return {**tables, "task": {"name": name, **options}}


GAUSS = ["gaussian", [-1.0], [[0.05]]]
#: Tables, and the same question in Python.
TASKS = {
    "simulate": (
        {**asked("simulate", WELL, x0=[-1.0], t=0.4, dt=0.02, n=32, save="moments"), "run": {"seed": 3, "threads": 1}},
        lambda: fps.simulate(process(), [-1.0], t=0.4, dt=0.02, n=32, save="moments", seed=3),
    ),
    "escape_times": (ESCAPE, lambda: fps.escape_times(process(), [-1.0], left(), n=64, dt=0.02, seed=7)),
    "multilevel_splitting": (
        {**asked("multilevel_splitting", {**WELL, **LEFT}, x0=[-1.0], n=50, runs=3, dt=0.02), "run": {"seed": 1}},
        lambda: fps.multilevel_splitting(process(), [-1.0], left(), n=50, runs=3, dt=0.02, seed=1),
    ),
    "minimum_action_path": (
        asked("minimum_action_path", WELL, a=[-1.0], b=[1.0], max_elements=64),
        lambda: fps.minimum_action_path(process(), [-1.0], [1.0], max_elements=64),
    ),
    "quasipotential": (
        asked("quasipotential", WELL, attractor=[-1.0], points=[[-0.5], [0.0]]),
        lambda: fps.quasipotential(process(), [-1.0], [[-0.5], [0.0]]),
    ),
    "limit_cycle": (
        asked("limit_cycle", {"noise": {"D": 0.1}, "process": {
            "kind": "drift", "drift": ["x - y - x*(x**2 + y**2)", "x + y - y*(x**2 + y**2)"], "variables": "x y"}}, x0=[1.0, 0.0]),
        lambda: fps.limit_cycle(fps.Process.from_drift(["x - y - x*(x**2 + y**2)", "x + y - y*(x**2 + y**2)"],
                                                       fps.Noise.isotropic(0.1), "x y"), [1.0, 0.0]),
    ),
    "stationary": (asked("stationary", {**WELL, **GRID}), lambda: fp().stationary()),
    "evolve": (
        asked("evolve", {**WELL, **GRID}, rho0=GAUSS, t=[0.1, 0.2]),
        lambda: fp().evolve(("gaussian", [-1.0], [[0.05]]), [0.1, 0.2]),
    ),
    "spectrum": (asked("spectrum", {**WELL, **GRID}, k=3), lambda: fp().spectrum(3)),
    "current": (asked("current", {**WELL, **GRID}), lambda: fp().current()),
    "entropy_production": (asked("entropy_production", {**WELL, **GRID}), lambda: fp().entropy_production()),
    "detailed_balance": (asked("detailed_balance", {**WELL, **GRID}), lambda: fp().detailed_balance()),
    "mean_exit_time": (
        asked("mean_exit_time", {**WELL, **GRID, **LEFT}, at=[-1.0]), lambda: fp().mean_exit_time(left(), at=[-1.0])
    ),
    "exit_time_variance": (
        asked("exit_time_variance", {**WELL, **GRID, **LEFT}), lambda: fp().exit_time_variance(left())
    ),
    "exit_time_moments": (
        asked("exit_time_moments", {**WELL, **GRID, **LEFT}, order=3), lambda: fp().exit_time_moments(left(), 3)
    ),
    "exit_time_distribution": (
        asked("exit_time_distribution", {**WELL, **GRID, **LEFT}, start=[-1.0], t=[0.5, 1.0]),
        lambda: fp().exit_time_distribution(left(), [-1.0], [0.5, 1.0]),
    ),
    "escape_rate": (asked("escape_rate", {**WELL, **GRID, **LEFT}), lambda: fp().escape_rate(left())),
    "quasi_stationary": (asked("quasi_stationary", {**WELL, **GRID, **LEFT}), lambda: fp().quasi_stationary(left())),
    "committor": (asked("committor", {**WELL, **GRID, **ENDS}), lambda: fp().committor(*ends())),
    "reactive_current": (asked("reactive_current", {**WELL, **GRID, **ENDS}), lambda: fp().reactive_current(*ends())),
    "reactive_rate": (asked("reactive_rate", {**WELL, **GRID, **ENDS}), lambda: fp().reactive_rate(*ends())),
    "boltzmann": (asked("boltzmann", {**WELL, **GRID}), lambda: theory.boltzmann(process(), grid())),
    "kramers_rate": (
        asked("kramers_rate", WELL, minimum=[-1.0], saddle=[0.0], exit="saddle"),
        lambda: theory.kramers_rate(process(), [-1.0], [0.0], exit="saddle"),
    ),
    "levy_exit_rate": (
        asked("levy_exit_rate", {"potential": {"expression": TEXT}, "noise": {"kind": "levy", "alpha": 1.5, "scale": 0.1}},
              minimum=[-1.0], low=-2.0, high=0.0),
        lambda: theory.levy_exit_rate(fps.Process(well(), fps.Noise.levy(1.5, 0.1)), [-1.0], -2.0, 0.0),
    ),
    "mean_first_passage_1d": (
        asked("mean_first_passage_1d", WELL, x0=[-1.0], b=0.5), lambda: theory.mean_first_passage_1d(process(), [-1.0], 0.5)
    ),
    "sgd_escape_time": (
        asked("sgd_escape_time", {"potential": {"expression": TEXT}}, minimum=[-1.0], saddle=[0.0], lr=0.1, batch=4.0),
        lambda: theory.sgd_escape_time(well(), [-1.0], [0.0], lr=0.1, batch=4.0),
    ),
    "power_law_rate": (
        asked("power_law_rate", {"potential": {"expression": TEXT + " + 0.1"}}, minimum=[-1.0], saddle=[0.0], lr=0.1, batch=4),
        lambda: theory.power_law_rate(fps.Potential.from_expression(TEXT + " + 0.1"), [-1.0], [0.0], lr=0.1, batch=4),
    ),
    "basin_odds": (
        asked("basin_odds", {"potential": {"name": "two_valleys"}}, a=[-0.72], b=[1.45], lr=0.1, batch=8, variance=1.0),
        lambda: theory.basin_odds(fps.potentials.two_valleys(), [-0.72], [1.45], lr=0.1, batch=8, variance=1.0),
    ),
    "ou_covariance": (
        asked("ou_covariance", {}, A=[[1.0, 0.5], [-0.5, 1.0]], D=[[1.0, 0.0], [0.0, 2.0]]),
        lambda: theory.ou_covariance([[1.0, 0.5], [-0.5, 1.0]], [[1.0, 0.0], [0.0, 2.0]]),
    ),
    "rotation": (
        asked("rotation", {}, A=[[1.0, 0.5], [-0.5, 1.0]], D=[[1.0, 0.0], [0.0, 2.0]]),
        lambda: theory.rotation([[1.0, 0.5], [-0.5, 1.0]], [[1.0, 0.0], [0.0, 2.0]]),
    ),
    "theory.entropy_production": (
        asked("theory.entropy_production", {}, A=[[1.0, 0.5], [-0.5, 1.0]], D=[[1.0, 0.0], [0.0, 2.0]]),
        lambda: theory.entropy_production([[1.0, 0.5], [-0.5, 1.0]], [[1.0, 0.0], [0.0, 2.0]]),
    ),
    "discrete_covariance": (
        asked("discrete_covariance", {}, H=[[2.0]], C=[[1.0]], lr=0.1, batch=5, momentum=0.5),
        lambda: theory.discrete_covariance([[2.0]], [[1.0]], 0.1, 5, 0.5),
    ),
    "second_moments": (
        asked("second_moments", {}, hessians=[[[1.0]], [[3.0]]], gradients=[[1.0], [-1.0]], lr=0.1),
        lambda: theory.second_moments([[[1.0]], [[3.0]]], [[1.0], [-1.0]], 0.1),
    ),
    "mode_second_moment": (
        asked("mode_second_moment", {}, curvature=1.0, gradient_noise=0.5, hessian_noise=0.1, lr=0.1),
        lambda: theory.mode_second_moment(1.0, 0.5, 0.1, 0.1),
    ),
    "quadratic_exit_exponent": (
        asked("quadratic_exit_exponent", {}, H=[[1.0]], C=[[1.0]], lr=0.1, batch=4, radius=1.0),
        lambda: theory.quadratic_exit_exponent([[1.0]], [[1.0]], lr=0.1, batch=4, radius=1.0),
    ),
    "freezing_law": (
        asked("freezing_law", {}, kind="flattening", curvature=4.0, noise=[0.1, 0.2], attempt=1.0, tau=100.0, barrier=1.0),
        lambda: theory.freezing_law("flattening", 4.0, [0.1, 0.2], 1.0, 100.0, 1.0),
    ),
    "valley_rate": (
        asked("valley_rate", {}, curvature=[1.0, 2.0], barrier=1.0, noise=0.2), lambda: theory.valley_rate([1.0, 2.0], 1.0, 0.2)
    ),
    "effective_loss": (
        asked("effective_loss", {"potential": {"name": "degenerate_valley"}, "noise": {"D": 0.01}}, x=[-1.0, 1.0], n=21),
        lambda: theory.effective_loss(
            fps.Process(fps.potentials.degenerate_valley(), fps.Noise.isotropic(0.01)), [-1.0, 1.0], n=21
        ),
    ),
}  # fmt: skip
#: What takes long is compared by the call that is made.
FORWARDED = {
    "escape_report": asked("escape_report", {**WELL, **LEFT}, minimum=[-1.0], saddle="all", seconds=1.0),
    "selection_report": asked("selection_report", WELL, x=[-1.0, 1.0], start=0.0),
    "phase_diagram": asked("phase_diagram", {"potential": {"name": "degenerate_valley"}}, sigma=[0.1], lr=[0.1], start=[0.0, 0.0],
                           x=[-1.0, 1.0], n=10),
}  # fmt: skip
PLUGINS = {"train", "claim"}


@pytest.fixture(autouse=True)
def entry_points(monkeypatch):
    """The tasks of setup.cfg, also where the project is not installed."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [line.split(" = ") for line in parser["options.entry_points"]["fpsolve.tasks"].strip().splitlines()]
    points = [importlib.metadata.EntryPoint(name, target, "fpsolve.tasks") for name, target in lines]
    assert {point.name for point in points} == PLUGINS
    found = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **how: points if how == {"group": "fpsolve.tasks"} else found(**how)
    )


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


TOML = """
# A double well, and how long it takes to leave the left one.
[potential]
expression = "(x**2 - 1)**2 + h*x"
params = { h = 0.0 }

[noise]
D = 0.5

[region]
kind = "halfspace"
n = [1.0]
c = 0.5

[task]
name = "escape_times"
x0 = [-1.0]
n = 64
dt = 0.02

[run]
seed = 7

[sweep]
replicates = 3
paths = 1000

[sweep.axes]
noise.D = { start = 0.25, stop = 1.0, num = 3, scale = "log" }
"potential.params.h" = [0.0, 0.1]
task.n = { start = 10, stop = 30, num = 3 }
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="config.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


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


# ---- bad input ----------------------------------------------------------------------------------------------------------

STAT = asked("stationary", {**WELL, **GRID})
COMMIT = asked("committor", {**WELL, **GRID, **ENDS})
TRAIN = {"data": {"name": "spiral"}, "network": {"widths": [2, 4, 2]}, "training": {"lr": 0.1, "batch": 10, "steps": 10},
         "task": {"name": "train"}}  # fmt: skip
GONE = object()
#: Config, what is changed in it, and what the error says. `check` is needed for what only the objects know.
WRONG = [
    (ESCAPE, {"potential": GONE}, "the table [potential] is missing, which overdamped [process] needs"),
    (ESCAPE, {"noise": GONE}, "the table [noise] is missing"),
    (ESCAPE, {"region": GONE}, "the table [region] is missing, which the task escape_times needs"),
    (STAT, {"grid": GONE}, "the table [grid] is missing, which the task stationary needs"),
    (COMMIT, {"regions.b": GONE}, "the table [regions.b] is missing, which the task committor needs"),
    (ESCAPE, {"task": GONE}, "the table [task] is missing; say what is asked"),
    (ESCAPE, {"task.name": GONE}, "[task] the key 'name' is missing"),
    (ESCAPE, {"nosie": {"D": 1.0}}, "unknown table [nosie]; did you mean 'noise'?"),
    (ESCAPE, {"Potential": {}}, "unknown table [Potential]; did you mean 'potential'?"),
    (ESCAPE, {"xyzzy": {}}, "unknown table [xyzzy]; known are ensemble, grid"),
    (ESCAPE, {"seed": 3}, "seed stands outside of the tables"),
    (ESCAPE, {"noise": 0.5}, "noise stands outside of the tables"),
    (ESCAPE, {"grid": {"axes": [[0, 1, 3]]}}, "the table [grid] is not used by the task escape_times of this process (overdamped)"),
    (STAT, {"region": {"kind": "ball"}}, "the table [region] is not used by the task stationary"),
    (COMMIT, {"regions.c": {"kind": "ball"}}, "the table [regions.c] is not used by the task committor"),
    (ESCAPE, {"ensemble": {}}, "the table [ensemble] is not used"),
    (ESCAPE, {"data": {"name": "digits"}}, "unknown table [data]"),
    (ESCAPE, {"potential.expresion": "x"}, "[potential] unknown key 'expresion'; did you mean 'expression'?"),
    (ESCAPE, {"potential.expression": GONE}, "[potential] give an expression or the name of a landscape, not neither"),
    (ESCAPE, {"potential.name": "ring"}, "[potential] give an expression or the name of a landscape, not both"),
    (ESCAPE, {"potential": {"name": "dubble_well"}}, "name = 'dubble_well' is not known; did you mean 'double_well'?"),
    (ESCAPE, {"potential": {"name": "CriticalPoint"}}, "name = 'CriticalPoint' is not known"),
    (ESCAPE, {"potential": {"name": "quadratic"}}, "[potential] the key 'H' is missing, which 'quadratic' needs"),
    (ESCAPE, {"potential": {"name": "ring", "radius": -1.0}}, "[potential] radius must be finite and > 0, got -1.0"),
    (ESCAPE, {"potential": {"name": "double_well", "dim": 1.0}}, "[potential] dim must be an integer, got float: 1.0"),
    (ESCAPE, {"potential.expression": 3}, "[potential] expression must be a text, got int: 3"),
    (ESCAPE, {"potential.expression": "(x**2 - 1"}, "[potential] cannot read the expression"),
    (ESCAPE, {"potential.expression": "x^2"}, "write powers as **"),
    (ESCAPE, {"potential.expression": "x**2 + z"}, "undeclared name 'z'"),
    (ESCAPE, {"potential.expression": "__import__('os').system('id')"}, "[potential] a call that is not function(argument, ...)"),
    (ESCAPE, {"potential.expression": "open('x')"}, "[potential] a call of 'open'"),
    (ESCAPE, {"potential.expression": "x.real"}, "attribute access"),
    (ESCAPE, {"potential.params": {"h": "a"}}, "[potential] params must be a table of numbers, got dict"),
    (ESCAPE, {"potential.params": {"x": 1.0}}, "['x'] are both variables and parameters"),
    (ESCAPE, {"potential.variables": 3}, "[potential] variables must be a text or a list of texts, got int: 3"),
    (ESCAPE, {"noise.kind": "isotropc"}, "[noise] kind = 'isotropc' is not known; did you mean 'isotropic'?"),
    (ESCAPE, {"noise.kind": 3}, "[noise] kind = 3 is not known"),
    (ESCAPE, {"noise.kind": "from_function"}, "[noise] kind = 'from_function' is not known"),
    (ESCAPE, {"noise.D": GONE}, "[noise] the key 'D' is missing, which 'isotropic' needs"),
    (ESCAPE, {"noise.D": "0.5"}, "[noise] D must be a number, got str: '0.5'"),
    (ESCAPE, {"noise.D": True}, "[noise] D must be a number, got bool: True"),
    (ESCAPE, {"noise.D": [0.5]}, "[noise] D must be a number, got list: [0.5]"),
    (ESCAPE, {"noise.D": -0.5}, "[noise] D must be"),
    (ESCAPE, {"noise.D": float("nan")}, "config: noise.D is nan; give a number"),
    (ESCAPE, {"noise.d": 0.5}, "[noise] unknown key 'd' of 'isotropic'; did you mean 'D'?"),
    (ESCAPE, {"noise.U": "x"}, "[noise] unknown key 'U' of 'isotropic'"),
    (ESCAPE, {"noise": {"kind": "hessian", "scale": 0.1, "U": "x"}},
     "[noise] U is not a key here: it is made from the table [potential]"),
    (ESCAPE, {"noise": {"kind": "constant", "D": [[1.0, 2.0], [3.0]]}},
     "[noise] D must be a number or a list of numbers, got list"),
    (ESCAPE, {"noise": {"kind": "constant", "D": [[1.0, 0.0], [0.0, -1.0]]}},
     "[noise] the diffusion tensor is not positive semi-definite"),
    (ESCAPE, {"noise": {"kind": "constant", "D": [[1.0, 0.0], [0.0, 1.0]]}}, "[process] "),
    (ESCAPE, {"noise": {"kind": "levy", "alpha": 3.0, "scale": 1.0}}, "[noise] alpha"),
    (ESCAPE, {"noise": {"kind": "expression", "D": "x.__class__"}}, "[noise] attribute access"),
    (ESCAPE, {"process.kind": "chian"}, "[process] kind = 'chian' is not known; did you mean 'chain'?"),
    (ESCAPE, {"process.interpretation": "itoo"}, "[process] interpretation"),
    (ESCAPE, {"process.lr": 0.1}, "[process] unknown key 'lr' of 'overdamped'"),
    (ESCAPE, {"process": {"kind": "underdamped"}}, "[process] the key 'friction' is missing"),
    (ESCAPE, {"process": {"kind": "underdamped", "friction": -1.0}}, "[process] friction must be a finite number > 0, got -1.0"),
    (ESCAPE, {"process": {"kind": "drift", "drift": "-x", "variables": "x"}},
     "the table [potential] is not used by the task escape_times of this process (drift)"),
    (ESCAPE, {"process": {"kind": "chain", "lr": "0.1"}}, "[process] lr must be a number or a list of numbers, got str"),
    (ESCAPE, {"process": {"kind": "chain", "lr": 0.1}},
     "[task] dt = 0.02 was given, but the time of a chain is its iteration count"),
    (STAT, {"grid.axis": [[0, 1, 3]]}, "[grid] unknown key 'axis'; did you mean 'axes'?"),
    (STAT, {"grid.axes": [0, 1, 3]}, "[grid] axes must be a list of lists of values, got list"),
    (STAT, {"grid.axes": [[0, 1]]}, "[grid] axis 0 must be (lo, hi, n)"),
    (STAT, {"grid.axes": [[1.0, 0.0, 10]]}, "[grid] axis 0: lo must be less than hi"),
    (STAT, {"grid.axes": [[0.0, 1.0, 10.0]]}, "[grid] axis 0: the number of cells must be an integer"),
    (STAT, {"grid.axes": [["a", 1.0, 10]]}, "[grid] "),
    (STAT, {"grid.axes": [[0.0, 1.0, 10**13]]}, "more than the memory of this machine"),
    (STAT, {"grid.axes": [[0.0, 1.0, 10, ["sin", 1.0]]]}, "[grid] axis 0: the mapping must be"),
    (STAT, {"grid.boundary": "reflectng"}, "[grid] unknown boundary 'reflectng' of axis 0: did you mean 'reflecting'?"),
    (STAT, {"grid.axes": [[0, 1, 5], [0, 1, 5]]}, "[task] the process is 1-D, the grid is 2-D"),
    (STAT, {"solver": {"schema": "monotone"}}, "[solver] unknown key 'schema'; did you mean 'scheme'?"),
    (STAT, {"solver": {"scheme": "monoton"}}, "[task] scheme must be one of"),
    (STAT, {"solver": {"nodes": 3}}, "[solver] unknown key 'nodes'"),
    (STAT, {"task.scheme": "auto"}, "[task] scheme is not a key here: it belongs to [solver]"),
    (STAT, {"process": {"kind": "chain", "lr": 0.1, "momentum": 0.5}}, "[task] "),
    (ESCAPE, {"region.kind": GONE}, "[region] kind is missing; it is one of ball, box"),
    (ESCAPE, {"region.kind": "bal"}, "[region] kind = 'bal' is not known; did you mean 'ball'?"),
    (ESCAPE, {"region.radius": 1.0}, "[region] unknown key 'radius' of 'halfspace'"),
    (ESCAPE, {"region.n": [0.0]}, "[region] the normal of a half-space must not be zero"),
    (ESCAPE, {"region.n": [1.0, 1.0]}, "[task] [region] is 2-D, the process 1-D"),
    (ESCAPE, {"region": {"kind": "sublevel", "e": 0.5, "containing": [0.0]}},
     "[region] sublevel(0.5): the point [0.0] is not inside"),
    (COMMIT, {"regions": {}}, "the table [regions.a] is missing"),
    (COMMIT, {"regions.a": 3}, "[regions.a] must be a table, got int: 3"),
    (ESCAPE, {"task.name": "escape_time"}, "[task] name = 'escape_time' is not a known task; did you mean 'escape_times'?"),
    (ESCAPE, {"task.name": "os.system"}, "[task] name = 'os.system' is not a known task"),
    (ESCAPE, {"task.name": "freezing_time"}, "is not a known task"),
    (ESCAPE, {"task.name": 3}, "[task] name must be the name of a task, got int: 3"),
    (ESCAPE, {"task.x0": GONE}, "[task] the key 'x0' is missing, which 'escape_times' needs"),
    (ESCAPE, {"task.x0": "left"}, "[task] x0 must be a number or a list of numbers, got str: 'left'"),
    (ESCAPE, {"task.x0": [0.0, 0.0]}, "[task] x0"),
    (ESCAPE, {"task.x0": [0.6]}, "[task] x0 = [0.6] is not inside Region(halfspace([1.0], 0.5)): g = 0.1, must be < 0"),
    (ESCAPE, {"task.walls": [[-0.5, 2.0, "reflecting"]]}, "[task] "),
    (TASKS["mean_exit_time"][0], {"task.at": [0.7]}, "[task] the start [0.7] is not inside Region(halfspace([1.0], 0.5))"),
    (TASKS["mean_exit_time"][0], {"task.at": [-3.0]}, "[task] the point [-3.0] lies outside the grid"),
    (TASKS["mean_exit_time"][0], {"region.c": -4.0}, "[task] halfspace([1.0], -4) contains no cell centre"),
    (TASKS["evolve"][0], {"task.rho0": ["gausian", [0.0], [[1.0]]]}, "[task] rho0 must be a Density"),
    (TASKS["evolve"][0], {"task.rho0": [1.0, 2.0]}, "[task] rho0 must have the shape (40,) of the grid, got (2,)"),
    (ESCAPE, {"task.m": 10}, "[task] unknown key 'm' of 'escape_times'"),
    (ESCAPE, {"task.n": 10.5}, "[task] n must be an integer, got float: 10.5"),
    (ESCAPE, {"task.n": 0}, "[task] n must be >= 1, got 0"),
    (ESCAPE, {"task.n": 2**70}, "is an integer of more than 64 bits"),
    (ESCAPE, {"task.dt": -0.1}, "[task] dt must be a finite number > 0, got -0.1"),
    (ESCAPE, {"task.dt": GONE}, "[task] dt is missing"),
    (ESCAPE, {"task.method": "eular"}, "[task] unknown method 'eular'"),
    (TASKS["multilevel_splitting"][0], {"task.runs": 2}, "[task] runs must be >= 3, got 2"),
    (ESCAPE, {"task.seed": 3}, "[task] seed is not a key here: it belongs to [run]"),
    (ESCAPE, {"task.checkpoint": "a"}, "[task] checkpoint is not a key here: it belongs to [run]"),
    (ESCAPE, {"task.region": "a"}, "[task] region is not a key here: it is made from the table [region]"),
    (ESCAPE, {"task.walls": "grd"}, "[task] walls must be the text 'grid' (the table [grid]) or a list of values, got str: 'grd'"),
    (ESCAPE, {"task.walls": "grid"}, "the table [grid] is missing, which the task escape_times needs"),
    (asked("kramers_rate", WELL, minimum=[-1.0], saddle=[0.0]), {"task.exit": "beyound"},
     "[task] exit = 'beyound' is not known; did you mean 'beyond'?"),
    (asked("current", {**CHAIN, **GRID}), {}, "[task] name = 'current' is not a question to a TransitionKernel"),
    (ESCAPE, {"run.seed": -1}, "[run] seed must be >= 0, got -1"),
    (ESCAPE, {"run.seed": "x"}, "[run] seed must be an integer, got str: 'x'"),
    (ESCAPE, {"run.sed": 1}, "[run] unknown key 'sed'; did you mean 'seed'?"),
    (ESCAPE, {"run.threads": 0}, "[run] threads must be >= 1, got 0"),
    (ESCAPE, {"run.out": "../a.h5"}, "[run] out = '../a.h5' leads out of the folder"),
    (ESCAPE, {"run.out": "/etc/passwd"}, "[run] out = '/etc/passwd' leads out of the folder"),
    (ESCAPE, {"run.out": "~/a.h5"}, "[run] out = '~/a.h5' leads out of the folder"),
    (ESCAPE, {"run.out": "a/../../b"}, "leads out of the folder"),
    (ESCAPE, {"run.out": "C:\\a.h5"}, "leads out of the folder"),
    (ESCAPE, {"run.out": ""}, "[run] out = '' is not the name of an HDF5 file"),
    (ESCAPE, {"run.out": "setup.cfg"}, "[run] out = 'setup.cfg' is not the name of an HDF5 file; give one that ends in .h5"),
    (ESCAPE, {"run.out": "a\0b.h5"}, "is not the name of an HDF5 file"),
    (ESCAPE, {"run.checkpoint": "/tmp/a"}, "[run] checkpoint = '/tmp/a' leads out of the folder"),
    (STAT, {"run": {"checkpoint": "a.h5"}}, "[run] checkpoint: the task stationary keeps none"),
    (ESCAPE, {"run.checkpoint_every": 0.0}, "[run] checkpoint_every must be > 0 seconds"),
    (ESCAPE, {"sweep": {"axes": {}}}, "[sweep.axes] is empty"),
    (ESCAPE, {"sweep": {}}, "[sweep] the key 'axes' is missing"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": []}}}, "[sweep.axes] noise.D has no values"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": 0.5}}},
     "[sweep.axes] noise.D must be a list of values or {start, stop, num}, got float"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": [0.5, "a"]}}}, "[noise] D must be a number, got str: 'a'"),
    (ESCAPE, {"sweep": {"axes": {"task.dt": [0.1, 0.2], "noise.D": [0.5, 1.0, -1.0]}}}, "[noise] D must be"),
    (ESCAPE, {"sweep": {"axes": {"noise.d": [0.5]}}}, "[noise] unknown key 'd' of 'isotropic'; did you mean 'D'?"),
    (ESCAPE, {"sweep": {"axes": {"nose.D": [0.5]}}}, "unknown table [nose]; did you mean 'noise'?"),
    (ESCAPE, {"sweep": {"axes": {"noise.D.x": [0.5]}}}, "noise.D is 0.5, which has no part 'x'"),
    (ESCAPE, {"sweep": {"axes": {"task.x0.3": [0.5]}}}, "task.x0 is a list of 1 values; give 0 ... 0, not '3'"),
    (ESCAPE, {"sweep": {"axes": {"potential.params.k": [0.5]}}}, "unknown key 'params' in potential"),
    (ESCAPE, {"sweep": {"axes": {"sweep.seed": [1]}}}, "an axis is a key of another table, not of [sweep]"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.1, "stop": 1.0}}}}, "[sweep.axes] noise.D: the key 'num' is missing"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.1, "stop": 1.0, "num": 0}}}}, "num must be from 1 to 1000000, got 0"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.0, "stop": 1.0, "num": 3, "scale": "log"}}}},
     "needs start and stop > 0, got 0.0 and 1.0"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.0, "stop": 1.0, "num": 3, "scale": "lin"}}}},
     "scale = 'lin' is not known; did you mean 'linear'?"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.0, "stop": 1.0, "nun": 3}}}}, "unknown key 'nun'; did you mean 'num'?"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": [0.1]}, "replicates": 0}}, "[sweep] replicates must be >= 1, got 0"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": [0.1]}, "replicate": 2}},
     "[sweep] unknown key 'replicate'; did you mean 'replicates'?"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": [0.1]}, "out": "/x"}}, "[sweep] out = '/x' leads out of the folder"),
    (TRAIN, {"network.widths": GONE}, "[network] the key 'widths' is missing"),
    (TRAIN, {"network.activation": "reloo"}, "[network] "),
    (TRAIN, {"data.name": "spirl"}, "[data] unknown data set 'spirl'"),
    (TRAIN, {"training.lr": -1.0}, "[training] "),
    (TRAIN, {"training.steps": GONE}, "[training] give exactly one of epochs and steps"),
    (TRAIN, {"training.seed": 1}, "[training] unknown key 'seed'"),
    (TRAIN, {"training.resume": "run.h5"}, "[training] unknown key 'resume'"),
    (TRAIN, {"noise": {"D": 1.0}}, "the table [noise] is not used by the task train"),
    (TRAIN, {"netwok": {}}, "unknown table [netwok]; did you mean 'network'?"),
    (TRAIN, {"record.weights": 3}, "[record] weights must be a text or a list of texts, got int: 3"),
    ({"task": {"name": "claim"}}, {}, "[task] the key 'claim' is missing, which 'claim' needs"),
    ({"task": {"name": "claim", "claim": "brownian-exti"}}, {},
     "[task] claim: no claim or group is called 'brownian-exti'; did you mean 'brownian-exit'?"),
    ({"task": {"name": "claim", "claim": "kramers"}}, {}, "[task] claim = 'kramers' is a group; name one of its claims"),
]  # fmt: skip


def changed(tables, changes):
    tables = copy.deepcopy(tables)
    for key, value in changes.items():
        *way, last = key.split(".")
        at = tables
        for part in way:
            at = at.setdefault(part, {})
        at[last] = value
        if value is GONE:
            del at[last]
    return tables


def test_there_are_many_wrong_configs():
    assert len(WRONG) >= 60


@pytest.mark.parametrize("i", range(len(WRONG)), ids=lambda i: f"{i}-{'-'.join(WRONG[i][1]) or 'whole'}")
def test_a_wrong_config_is_a_clear_error(i, validation):
    tables, changes, message = WRONG[i]
    with pytest.raises((ValueError, TypeError)) as caught:
        read_config(changed(tables, changes)).check()
    text = str(caught.value)
    assert message in text
    assert text.startswith("config")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[noise]\nD = \n", r"config.toml is not valid TOML: .*line 2"),
        ("[noise]\nD = 1\nD = 2\n", r"is not valid TOML: .*line 3"),
        ("[noise\nD = 1", r"is not valid TOML: .*line 1"),
        ("[task]\nname = 'x'\n[noise]\nD = 1979-05-27\n", r"config.toml: noise.D must be a number, .*got date"),
        ("", r"config.toml: the table \[task\] is missing"),
        ("a = " + "[" * 2000 + "]" * 2000, r"config.toml"),
    ],
)
def test_errors_of_files_name_the_file_and_the_line(written, text, message):
    with pytest.raises((ValueError, TypeError), match=message):
        read_config(written(text))


def test_files_that_are_no_configs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the config absent.toml does not exist"):
        read_config("absent.toml")
    with pytest.raises(ValueError, match="is not a file"):
        read_config(tmp_path)
    with pytest.raises(TypeError, match="a config is the path of a TOML file or a dict"):
        read_config(3)
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a.toml is not a text file in UTF-8"):
        read_config(tmp_path / "a.toml")
    fps.save(tmp_path / "a.h5", fps.Estimate(1.0))
    with pytest.raises(ValueError, match=r"a.h5 stores no config"):
        read_config(tmp_path / "a.h5")
    (tmp_path / "c.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r"the config stored in .*c.h5 cannot be read"):
        read_config(tmp_path / "c.h5")
    for text, message in (
        ("{", "cannot be read"),
        ("[1]", "it is no table"),
        (3, "it is no table"),
        ({"a": 1}, "stores no config"),
    ):
        fps.io.save_tree(tmp_path / "b.h5", {"config": text})
        with pytest.raises(ValueError, match=message):
            read_config(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noise": 3}, "noise stands outside of the tables"),
        ({"": 3}, "'' is not a dotted key"),
        ({"noise.": 3}, "'noise.' is not a dotted key"),
        ({3: 3}, "3 is not a dotted key"),
        ({"regions.a.r": 3}, r"the table \[regions\] is not used"),
        ({"noise.D": object()}, "must be a number, a text"),
        ({"noise.D.e": 3}, "has no part 'e'"),
        ({"nois.D": 3}, r"unknown table \[nois\]; did you mean 'noise'"),
        ({"task.x0.x": 3}, "task.x0 is a list of 1 values"),
        ([("noise.D", 3)], "values must be a dict of dotted keys"),
    ],
)
def test_what_cannot_be_replaced(values, message):
    with pytest.raises((ValueError, TypeError), match=message):
        read_config(ESCAPE).replaced(values)


def test_nothing_is_executed(tmp_path):
    trap = tmp_path / "trap"
    for place in ("potential.expression", "noise.kind", "task.name", "region.kind", "task.method", "process.kind"):
        with pytest.raises((ValueError, TypeError)):
            read_config(changed(ESCAPE, {place: f"open({str(trap)!r}, 'w')"})).check()
    assert not trap.exists()


def test_no_key_takes_a_path():
    """Files stand in [run] and [sweep] only, where they are confined."""
    for name in _config_tables.known_tasks():
        task = _config_tables.find_task(name, "")
        for function, hidden in task.plugin.tables.values() if task.plugin is not None else [(task.form.function, frozenset())]:
            paths = {n for n, text in getattr(function, "__annotations__", {}).items() if "PathLike" in str(text)}
            assert not paths & set(keys_of(function, frozenset(hidden)))


WORDS = st.sampled_from(["potential", "noise", "grid", "task", "run", "sweep", "axes", "kind", "name", "D", "x0", "n", "expression",
                         "params", "region", "regions", "process", "a", "", "0", "é"])  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), WORDS,
    st.sampled_from(["chain", "drift", "isotropic", "stationary", "escape_times", "x**2", "grid", 1e300, 2**63, -1, 0]),
)  # fmt: skip
TREES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=4)), max_leaves=12
)


@settings(max_examples=150)
@given(tables=st.dictionaries(WORDS, TREES, max_size=5))
def test_any_dict_is_read_or_refused(tables):
    with contextlib.suppress(ValueError, TypeError):
        read_config(tables)


@settings(max_examples=150)
@given(
    base=st.sampled_from([ESCAPE, STAT, COMMIT, {**CHAIN, **GRID, "task": {"name": "stationary"}}]),
    place=st.sampled_from(["potential.expression", "potential.params", "noise.kind", "noise.D", "region", "region.c", "region.n",
                           "grid.axes", "grid.boundary", "task.x0", "task.n", "task.dt", "task.walls", "run.seed", "run.out",
                           "solver.scheme", "solver.order", "process", "process.kind", "sweep.axes", "regions.a.c", "task"]),
    value=TREES,
)  # fmt: skip
def test_one_wrong_place_is_refused_or_in_order(base, place, value):
    message = "config"
    try:
        config = read_config(changed(base, {place: value}))
        config.check()
    except (ValueError, TypeError) as error:
        message = str(error)
    else:
        assert read_config(config.as_dict()) == config
    assert message.startswith("config")


@pytest.mark.parametrize(("word", "known", "text"), [("d", ["D"], "; did you mean 'D'?"), ("q", [], "; known are none")])
def test_nearest(word, known, text):
    assert nearest(word, known) == text


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


# ---- command line -------------------------------------------------------------------------------------------------------


def test_run_prints_saves_and_runs_again(written, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(written(TOML.partition("[sweep]")[0]))
    assert cli.main(["run", path, "--out", "a.h5", "--no-progress"]) == 0
    printed = capsys.readouterr().out
    assert "EscapeTimes of 64 trajectories" in printed
    assert f"saved in {tmp_path / 'a.h5'}" in printed
    assert same(fps.load("a.h5"), read_config(path).run())
    assert cli.main(["show", "a.h5"]) == 0
    assert "noise: {'kind': 'isotropic', 'D': 0.5}" in capsys.readouterr().out
    again = [
        "run",
        "a.h5",
        "--set",
        "noise.D=0.7",
        "--set",
        "task.n=16",
        "--set",
        "process.interpretation=klimontovich",
        "--seed",
        "3",
    ]
    assert cli.main([*again, "--no-progress"]) == 0
    assert "seed 3" in capsys.readouterr().out
    assert fps.load("a.h5").times.size == 64
    record = fps.io.load_provenance("a.h5")[0]["parameters"]
    assert (record["task"], record["seed"]) == ("escape_times", 7)


def test_a_drawn_seed_is_stored(written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(written(TOML.partition("[run]")[0] + "[run]\nout = 'a.h5'\n"))
    assert cli.main(["run", path, "--no-progress"]) == 0
    assert same(read_config("a.h5").run(), fps.load("a.h5"))
    assert read_config("a.h5").as_dict()["run"]["seed"] is not None
    capsys.readouterr()


def test_one_cell_of_a_sweep_is_run(written, tmp_path, capsys):
    path, cell = str(written(TOML)), ["--set", "noise.D=0.5", "--set", "potential.params.h=0.0"]
    assert cli.main(["run", path, *cell]) == 2
    assert "has axes (task.n): run all of it with `fpsolve sweep" in capsys.readouterr().err
    assert cli.main(["run", path, *cell, "--set", "task.n=12", "--out", str(tmp_path / "a.h5"), "--no-progress"]) == 0
    assert "12 trajectories" in capsys.readouterr().out
    assert read_config(tmp_path / "a.h5").axes == {}


def test_results_of_other_kinds_are_printed(written, tmp_path, capsys):
    path = str(written('[task]\nname = "second_moments"\nhessians = [[[1.0]]]\ngradients = [[1.0]]\nlr = 0.1\n'))
    assert cli.main(["run", path]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    path = str(written('[data]\nname = "spiral"\n[network]\nwidths = [2, 8, 2]\nactivation = "tanh"\n'
                       '[training]\nlr = 0.1\nbatch = 10\nsteps = 5\n[task]\nname = "train"\n'))  # fmt: skip
    assert cli.main(["run", path, "--seed", "1", "--out", str(tmp_path / "t.h5"), "--no-progress"]) == 0
    assert re.search(r"train_loss +0\.\d+", capsys.readouterr().out)
    assert fps.load(tmp_path / "t.h5")["steps"] == 5


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent.toml"], "the config absent.toml does not exist"),
        (["{}"], "has axes (noise.D, potential.params.h, task.n): run all of it with `fpsolve sweep"),
        (["{}", "--set", "noise.d=1"], "[noise] unknown key 'd' of 'isotropic'"),
        (["{}", "--set", "noise.D"], "'noise.D' is not KEY=VALUE"),
        (["{}", "--set", "noise.D=1 2"], "'1 2' is not a value"),
        (["{}", "--set", "noise.D=1\nx = 2"], "is not a value"),
        (["{}", "--seed", "-1"], "'-1' is not a seed"),
        ([], "CONFIG"),
    ],
)
def test_wrong_runs_are_code_2(args, message, written, capsys):
    path = str(written(TOML))
    assert cli.main(["run", *(arg.replace("{}", path) for arg in args)]) == 2
    assert message in capsys.readouterr().err


def test_what_an_interruption_leaves_is_saved(written, tmp_path, monkeypatch, capsys):
    half = dataclasses.replace(read_config(ESCAPE).run(), partial=True)
    monkeypatch.setattr(fps.Config, "run", lambda self, **_: half)
    path = str(written(TOML.partition("[sweep]")[0]))
    assert cli.main(["run", path, "--out", str(tmp_path / "a.h5")]) == 130
    assert fps.load(tmp_path / "a.h5").partial
    assert "interrupted" in capsys.readouterr().err


def test_check_does_not_run(written, capsys, monkeypatch):
    monkeypatch.setattr(_config_tables.Objects, "solver", property(lambda self: pytest.fail("work was done")))
    assert cli.main(["run", str(written(TOML)), "--check"]) == 0
    assert "is in order" in capsys.readouterr().out
    assert cli.main(["run", str(written(TOML)), "--check", "--set", "task.dt=-1.0"]) == 2
    assert "[task] dt must be a finite number > 0, got -1.0" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_an_error_before_work(written, capsys, monkeypatch):
    monkeypatch.setattr(fps.Config, "run", lambda self, **_: pytest.fail("work was done"))
    path = str(written(TOML.partition("[sweep]")[0]))
    assert cli.main(["run", path, "--out", "no/such/folder/a.h5"]) == 2
    assert "does not exist; create it first" in capsys.readouterr().err


def test_failed_numerics_are_code_1(written, capsys, monkeypatch):
    def failing(**_):
        raise fps.FpsolveError("all trajectories became non-finite")

    config = read_config(ESCAPE)
    assert config.task == "escape_times"
    monkeypatch.setattr(fps, "escape_times", functools.wraps(fps.escape_times)(failing))
    assert cli.main(["run", str(written(TOML.partition("[sweep]")[0])), "--no-progress"]) == 1
    assert "[task] escape_times: all trajectories became non-finite" in capsys.readouterr().err
