"""What the tests of configurations share: one double well on a line; every task as tables and in Python; a file."""

import dataclasses
import functools

import numpy as np

import fpsolve as fps
from fpsolve import theory

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

STAT = asked("stationary", {**WELL, **GRID})
COMMIT = asked("committor", {**WELL, **GRID, **ENDS})

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
