"""One argument of a valid call at a time is replaced by what nobody should pass: a documented error with words, or a sane result.

`CALLS` has a valid call of each entry point that needs no compilation of its own, `ENGINES` of those that run; `BAD` what goes
into it. The default run takes a fixed sample of all pairs; ``FUZZ=20 pytest tests/test_fuzz_arguments.py`` takes nearly all.
"""

import math
import random

import numpy as np
import pytest
from fuzzing import FACTOR, outcome

import fpsolve as fps
import nets
from fpsolve import theory

WELL, ISO = fps.potentials.double_well(), fps.Noise.isotropic(0.2)
PROCESS, GRID = fps.Process(WELL, ISO), fps.Grid((-2.0, 2.0, 20))
HALF = fps.Region.halfspace([1.0], 0.5)
CHAIN = fps.SGDChain.gaussian(WELL, ISO, 0.1)
FIT = fps.Ensemble.from_expression("(x - a)**2", "x", {"a": [1.0, 2.0, 3.0]})
DENSITY, FIELD = fps.Density(np.full(20, 0.25), GRID), fps.Field(np.arange(20.0), GRID)
ESCAPES = fps.EscapeTimes([1.0, 2.0], [False, True], [[1.0], [np.nan]], t_max=2.0)
TIME, RATE = fps.Estimate(2.0, 0.1, unit="time", lr=0.1), fps.Estimate(0.5, 0.1, unit="1/time")
TWO = [[2.0, 0.0], [0.0, 1.0]]
MLP, DATA = nets.MLP((2, 4, 2), activation="tanh"), nets.load_data("spiral", n=30)
THETA, X, Y = MLP.init(0), DATA.x_train, DATA.y_train
LAND, AXES = nets.Landscape(MLP, THETA, X, Y, block="W2"), np.eye(8)
SERIES = np.random.default_rng(0).standard_normal(100)
STATS = nets.from_arrays(hessian=TWO, covariance=TWO, lr=0.1, batch=2)
WHERE = {"mlp": MLP, "theta": THETA, "x": X, "y": Y}


def decay(t):
    return np.exp(-np.asarray(t, float))


CALLS = {
    "Potential()": (lambda x: WELL(x), {"x": [[0.5]]}),
    "grad": (WELL.grad, {"x": [[0.5]]}),
    "hess": (WELL.hess, {"x": [[0.5]]}),
    "critical_points": (WELL.critical_points, {"box": [(-2, 2)], "starts": 20, "tol": 1e-10}),
    "from_expression": (fps.Potential.from_expression, {"text": "k*x**2", "variables": "x", "params": {"k": 1.0}}),
    "quadratic": (fps.potentials.quadratic, {"H": [[1.0]], "center": [0.0], "floor": 0.0}),
    "isotropic": (fps.Noise.isotropic, {"D": 0.1}),
    "constant": (fps.Noise.constant, {"D": [[0.1]]}),
    "low_rank": (fps.Noise.low_rank, {"F": [[1.0], [2.0]], "diagonal": 0.5}),
    "diagonal": (fps.Noise.diagonal, {"D": [0.1, 0.2]}),
    "N.from_expression": (fps.Noise.from_expression, {"D": "1 + x**2", "variables": "x", "params": None}),
    "N.from_factor": (fps.Noise.from_factor, {"B": [[1.0]]}),
    "N.hessian": (fps.Noise.hessian, {"U": WELL, "scale": 0.1, "floor": 0.1}),
    "shifted_minima": (fps.Noise.shifted_minima, {"U": WELL, "sigma": 1.0, "lr": 0.1}),
    "N.covariance": (fps.Noise.covariance, {"C": [[1.0]], "lr": 0.1, "batch": 2, "axes": None, "along": None}),
    "table": (fps.Noise.covariance, {"C": np.ones((3, 1, 1)), "lr": 0.1, "axes": [[0.0, 1.0, 2.0]]}),
    "levy": (fps.Noise.levy, {"alpha": 1.5, "scale": 0.1, "isotropic": False}),
    "Process": (fps.Process, {"U": WELL, "noise": ISO, "interpretation": "ito"}),
    "from_drift": (fps.Process.from_drift, {"drift": ["-x"], "noise": ISO, "variables": "x", "params": None}),
    "ornstein_uhlenbeck": (fps.Process.ornstein_uhlenbeck, {"A": [[1.0]], "noise": ISO, "center": [0.0]}),
    "tabulated": (fps.Process.tabulated, {"x": [0.0, 1.0, 2.0], "drift": [1.0, 0.0, -1.0], "noise": ISO}),
    "drift": (PROCESS.drift, {"x": [[0.5]]}),
    "Underdamped": (fps.Underdamped, {"U": WELL, "noise": ISO, "friction": 1.0, "mass": 1.0}),
    "SGDChain": (fps.SGDChain, {"ensemble": FIT, "lr": 0.1, "batch": 1, "momentum": 0.0, "sampling": "replace"}),
    "rates": (CHAIN.rates, {"first": 0, "stop": 3}),
    "Grid": (lambda low, high, n: fps.Grid((low, high, n)), {"low": -1.0, "high": 1.0, "n": 10}),
    "boundary": (lambda boundary: fps.Grid((-1, 1, 10), boundary=boundary), {"boundary": "reflecting"}),
    "index": (GRID.index, {"point": [0.5]}),
    "ball": (fps.Region.ball, {"c": [0.0], "r": 1.0}),
    "box": (fps.Region.box, {"lo": [0.0], "hi": [1.0]}),
    "sublevel": (fps.Region.sublevel, {"U": WELL, "e": 0.5, "containing": [-1.0]}),
    "R.from_expression": (fps.Region.from_expression, {"text": "x - a", "variables": "x", "params": {"a": 1.0}}),
    "contains": (HALF.contains, {"x": [0.5]}),
    "mask": (HALF.mask, {"grid": GRID}),
    "FokkerPlanck": (fps.FokkerPlanck, {"process": PROCESS, "grid": GRID, "scheme": "monotone"}),
    "boltzmann": (theory.boltzmann, {"process": PROCESS, "grid": GRID}),
    "kramers_rate": (theory.kramers_rate, {"process": PROCESS, "minimum": [-1.0], "saddle": [0.0], "exit": "beyond"}),
    "ou_covariance": (theory.ou_covariance, {"A": TWO, "D": TWO}),
    "discrete_covariance": (theory.discrete_covariance, {"H": TWO, "C": TWO, "lr": 0.1, "batch": 2, "momentum": 0.0, "size": None}),
    "sgd_escape_time": (theory.sgd_escape_time, {"U": WELL, "minimum": [-1.0], "saddle": [0.0], "lr": 0.1, "batch": 2, "s": 0.5}),
    "basin_odds": (theory.basin_odds, {"U": WELL, "a": [-1.0], "b": [1.0], "lr": 0.1, "batch": 2, "variance": 1.0}),
    "valley_rate": (theory.valley_rate, {"curvature": 1.0, "barrier": 0.1, "noise": 0.1, "attempt": 1.0}),
    "mode_second_moment": (
        theory.mode_second_moment,
        {"curvature": 1.0, "gradient_noise": 0.1, "hessian_noise": 0.1, "lr": 0.1, "steps": 10, "start": 0.0},
    ),
    "quadratic_exit": (theory.quadratic_exit_exponent, {"H": TWO, "C": TWO, "lr": 0.1, "batch": 2, "radius": 1.0}),
    "freezing_time": (theory.freezing_time, {"rate": decay, "scale": 1.0, "expected": 0.1}),
    "occupation": (theory.occupation, {"leave": decay, "enter": decay, "times": [0.1, 0.5], "start": 0.0}),
    "compare": (lambda a, b, lr: fps.compare(a, b, lr=lr), {"a": TIME, "b": 2.0, "lr": None}),
    "total_rate": (lambda a, b: theory.total_rate(a, b), {"a": RATE, "b": RATE}),
    "density.at": (DENSITY.at, {"points": [[0.5]]}),
    "field.at": (FIELD.at, {"points": [[0.5]]}),
    "marginal": (DENSITY.marginal, {"axis": 0}),
    "survival": (ESCAPES.survival, {"t": [0.1, 0.2]}),
    "per_iteration": (TIME.per_iteration, {"lr": 0.1}),
    "Estimate": (fps.Estimate, {"value": 1.0, "stderr": 0.1, "interval": (0.0, 2.0), "unit": "time", "lr": 0.1, "batch": None}),
    "Density": (fps.Density, {"values": np.ones(20), "grid": GRID}),
    "Field": (fps.Field, {"values": np.ones(20), "grid": GRID}),
    "EscapeTimes": (fps.EscapeTimes, {"times": [1.0, 2.0], "censored": [False, True], "exit_points": [[1.0], [np.nan]]}),
    "Trajectories": (fps.Trajectories, {"final": [[1.0]], "times": [0.1]}),
    "Table": (fps.Table, {"title": "t", "columns": ["a"], "rows": [[1]]}),
    "Ensemble": (fps.Ensemble.from_expression, {"text": "(x - a)**2", "variables": "x", "data": {"a": [1.0, 2.0]}}),
    "ensemble.gradient": (FIT.gradient, {"theta": [0.5], "indices": [0, 1]}),
    "ensemble.noise": (FIT.noise, {"lr": 0.1, "batch": 1, "sampling": "replace"}),
    "MLP": (nets.MLP, {"widths": (2, 3, 2), "activation": "tanh", "loss": "cross_entropy", "weight_decay": 0.01}),
    "mlp.loss": (MLP.loss, {"theta": THETA, "x": X, "y": Y}),
    "Data": (nets.Data, {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, "name": "a"}),
    "load_data": (nets.load_data, {"name": "spiral", "split": "standard", "n": 20, "seed": 0}),
    "hessian": (nets.hessian, {**WHERE, "block": "W2"}),
    "gauss_newton": (nets.gauss_newton, {**WHERE, "block": "W2"}),
    "gradient_covariance": (nets.gradient_covariance, {**WHERE, "block": "W2"}),
    "fisher_diagonal": (nets.fisher_diagonal, {**WHERE, "block": "W2", "labels": "data"}),
    "hessian_vector_product": (nets.hessian_vector_product, {**WHERE, "v": THETA}),
    "input_gradient": (nets.input_gradient, {"mlp": MLP, "theta": THETA, "x": X}),
    "from_arrays": (
        nets.from_arrays,
        {"hessian": TWO, "covariance": TWO, "lr": 0.1, "batch": 2, "momentum": 0.0, "n_samples": None},
    ),
    "gradients": (nets.from_arrays, {"gradients": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], "lr": 0.1, "batch": 2}),
    "bridge": (nets.bridge, {"stats": STATS, "directions": 2}),
    "loss_profiles": (nets.loss_profiles, {"landscape": LAND, "directions": AXES[:, :1], "displacements": [0.0, 0.1]}),
    "active_temperature": (nets.active_temperature, {"landscape": LAND, "directions": AXES[:, :1], "lr": 0.1, "batch": 5}),
    "autocorrelation": (nets.autocorrelation, {"series": SERIES}),
    "mean_estimate": (nets.mean_estimate, {"series": SERIES}),
    "pca": (nets.pca, {"source": SERIES.reshape(20, 5), "n_directions": 2}),
    "random_walk": (nets.random_walk, {"n": 20, "k": 3}),
    "power_law": (nets.power_law, {"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 2.0, 4.0, 5.0]}),
    "window_variance": (nets.window_variance, {"curvature": [1.0, 2.0], "noise": [1.0, 1.0], "lr": 0.1, "steps": 10}),
    "ewc": (nets.ewc, {"fisher": np.ones(8)}),
    "only_labels": (nets.only_labels, {"data": DATA, "labels": [0]}),
}

BAD = {
    "None": None, "True": True, "text": "a", "no text": "", "bytes": b"x", "nan": math.nan, "inf": math.inf, "-inf": -math.inf,
    "0": 0, "-1": -1, "0.5": 0.5, "tiny": 5e-324, "-0.0": -0.0, "2**70": 2**70, "-2**70": -(2**70), "10**400": 10**400, "1j": 1j,
    "[]": [], "[[]]": [[]], "[1, 2, 3]": [1, 2, 3], "[nan]": [math.nan], "[[nan]]": [[math.nan]], "[inf]": [math.inf],
    "ragged": [[1.0], [1.0, 2.0]], "object": object(), "objects": np.array([None, {}], dtype=object), "complex": np.array([1j]),
    "empty": np.zeros(0), "empty 3-D": np.zeros((3, 0, 2)), "dict": {}, "set": {1.0}, "function": lambda *_: None, "type": int,
    "date": np.datetime64("2020-01-01"), "texts": ["a", "b"], "[None]": [None], "deep": [[[[[[1.0]]]]]], "5-D": np.zeros((1,) * 5),
    "float16": np.float16(0.5), "masked": np.ma.masked_array([0.5], [True]), "range": range(3), "NUL": "a\0b",
    "text of a number": "0.5", "long": "x" * 100_000,
}  # fmt: skip
#: The engines at sizes of a few milliseconds, all of one landscape, so that each compiles one kernel. What becomes of paths that
#: blow up, of basins that hardly exchange or of coarse cells is told by warnings.
LEFT, SOLVER = fps.Region.box([-2.0], [0.2]), fps.FokkerPlanck(PROCESS, GRID)
KERNEL = fps.TransitionKernel(fps.SGDChain.gaussian(WELL, ISO, 0.05), fps.Grid((-3.0, 3.0, 40)))
RUN = {"process": PROCESS, "x0": [-1.0], "n": 4, "dt": 0.01, "seed": 1, "threads": 1, "walls": None, "method": None}
FIT_OF = {"mlp": MLP, "data": DATA, "lr": 0.1, "batch": 5, "steps": 4}
ENGINES = {
    "simulate": (fps.simulate, {**RUN, "t": 0.1, "save": "final", "first": 0, "precision": "double", "chunk": None}),
    "moments": (fps.simulate, {**RUN, "t": 0.1, "save": "moments", "t_burn": 0.05, "every": 1, "axes": None, "bins": None}),
    "escape_times": (fps.escape_times, {**RUN, "region": LEFT, "t_max": 0.5, "correction": "auto", "first": 0, "chunk": None}),
    "splitting": (
        fps.multilevel_splitting,
        {**RUN, "n": 20, "region": LEFT, "runs": 3, "coordinate": "region", "inner": None, "kill": 0.5, "correction": "auto"},
    ),
    "action": (fps.minimum_action_path, {"process": PROCESS, "a": [-1.0], "b": [0.0], "rtol": 1e-3, "max_elements": 64}),
    "stationary": (lambda process, grid: fps.FokkerPlanck(process, grid).stationary(), {"process": PROCESS, "grid": GRID}),
    "evolve": (SOLVER.evolve, {"rho0": DENSITY, "t": 0.1, "rtol": 1e-4, "method": None}),
    "mean_exit_time": (SOLVER.mean_exit_time, {"region": LEFT, "at": [-1.0]}),
    "spectrum": (SOLVER.spectrum, {"k": 2}),
    "committor": (SOLVER.committor, {"a": fps.Region.box([-2.0], [-0.5]), "b": fps.Region.box([0.5], [2.0])}),
    "kernel": (fps.TransitionKernel, {"chain": CHAIN, "grid": GRID, "nodes": None}),
    "kernel.evolve": (KERNEL.evolve, {"rho0": np.ones(40), "t": 2}),
    "kernel.mean_exit_time": (KERNEL.mean_exit_time, {"region": LEFT, "at": [-1.0]}),
    "kernel.escape_rate": (KERNEL.escape_rate, {"region": LEFT}),
    "kernel.spectrum": (KERNEL.spectrum, {"k": 2}),
    "train": (
        nets.train,
        {
            **FIT_OF,
            "seed": 0,
            "sampling": None,
            "momentum": None,
            "optimizer": None,
            "precision": None,
            "theta0": None,
            "record": None,
        },
    ),
    "train_many": (nets.train_many, {**FIT_OF, "seeds": [0, 1], "threads": 1}),
}
PAIRS = [(call, argument, bad) for call, (_, arguments) in CALLS.items() for argument in arguments for bad in BAD]
RUNS = [(call, argument, bad) for call, (_, arguments) in ENGINES.items() for argument in arguments for bad in BAD]


def attempt(call, argument, bad):
    function, arguments = {**CALLS, **ENGINES}[call]
    return outcome(lambda: repr(function(**{**arguments, argument: BAD[bad]})), seconds=20.0, warned=call in ENGINES)


def test_the_calls_are_valid():
    for name, (function, arguments) in {**CALLS, **ENGINES}.items():
        end = outcome(lambda function=function, arguments=arguments: repr(function(**arguments)), 600.0, warned=name in ENGINES)
        assert end[1] is None, f"{name}: {end[1]}"


@pytest.mark.parametrize("pairs, count", [(PAIRS, 400), (RUNS, 300)], ids=["objects", "engines"])
def test_bad_arguments(pairs, count):
    """A sample of all pairs, the same every time."""
    wrong = []
    for pair in random.Random(FACTOR).sample(pairs, min(count * FACTOR, len(pairs))):
        try:
            attempt(*pair)
        except AssertionError as error:
            wrong.append(f"{pair}: {error}")
    assert not wrong, "\n".join(wrong)


KINDS = {
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed twice": lambda a: np.flip(np.flip(a, 0).copy(), 0),
    "Fortran": np.asfortranarray,
}
ARRAYS = [
    (call, argument)
    for call, (_, arguments) in CALLS.items()
    for argument, value in arguments.items()
    if isinstance(value, (list, np.ndarray)) and np.asarray(value).dtype.kind == "f"
]


@pytest.mark.parametrize("kind", [*KINDS, "read-only", "big-endian"])
def test_how_an_array_lies_in_memory_does_not_matter(kind):
    """Strides, order, byte order and flags change no bit; nothing is written into what was passed."""
    for call, argument in ARRAYS:
        function, arguments = CALLS[call]
        plain = np.array(arguments[argument], float)
        other = KINDS[kind](plain) if kind in KINDS else plain.astype(">f8") if kind == "big-endian" else plain.copy()
        other.setflags(write=kind != "read-only")
        found = [
            np.asarray(getattr(r, "values", r), dtype=object)
            for r in (function(**{**arguments, argument: a}) for a in (plain, other))
        ]
        assert repr(found[0].tolist()).split(" at 0x")[0] == repr(found[1].tolist()).split(" at 0x")[0], (call, argument)
        assert np.array_equal(plain, np.array(arguments[argument], float), equal_nan=True), (call, argument)


# ---- found by these tests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["complex", "masked", "[None]", "date", "text of a number", "10**400"])
@pytest.mark.parametrize("call, argument", [("Potential()", "x"), ("ou_covariance", "A"), ("Density", "values"), ("mlp.loss", "x")])
def test_what_numpy_turns_into_numbers_silently(call, argument, bad):
    """Imaginary parts were dropped, masked entries read, None became NaN, dates and texts numbers; large integers overflowed."""
    function, arguments = CALLS[call]
    with pytest.raises((TypeError, ValueError), match="masked|must be|range of floats"):
        function(**{**arguments, argument: BAD[bad]})


def test_noise_of_an_ensemble_checks_what_it_is_told():
    """A negative batch made a negative tensor, and any other word for the sampling was taken for "without"."""
    for bad in (
        {"lr": -0.1},
        {"lr": math.nan},
        {"batch": -1},
        {"batch": 0},
        {"batch": 1.5},
        {"sampling": "shufle"},
        {"batch": 4, "sampling": "without"},
    ):
        with pytest.raises(ValueError, match="lr must be|batch must be|sampling must be|cannot be drawn"):
            FIT.noise(**{"lr": 0.1, "batch": 1, **bad})


@pytest.mark.parametrize("indices", [[0.5], [3], [-1], [], [math.inf], [True]])
def test_samples_that_are_not_there(indices):
    """Fractions were cut off, -1 was the last sample, no sample gave NaN."""
    with pytest.raises(ValueError, match=r"indices must be samples 0 \.\. 2"):
        FIT.gradient([0.5], indices)


def test_a_density_is_unknown_where_the_point_is():
    """It was 0 at NaN."""
    assert np.isnan(DENSITY.at([[math.nan]])).all() and np.isnan(FIELD.at([[math.nan]])).all()
    assert DENSITY.at([[1e308], [-math.inf], [0.0]]).tolist() == [0.0, 0.0, 0.25]
    ring = fps.Density(np.full(20, 0.25), fps.Grid((-2.0, 2.0, 20), boundary="periodic"))
    assert ring.at([[6.0]]).tolist() == [0.25] and np.isnan(ring.at([[math.nan]])).all()


def test_a_matrix_at_the_end_of_the_floats():
    """Its symmetric part overflowed: U was infinite away from the minimum, too."""
    assert fps.potentials.quadratic([[1e308]])([1e-150]) == pytest.approx(5e7, rel=1e-12)
    with pytest.raises(ValueError, match="floor must be a finite number"):
        fps.potentials.quadratic([[1.0]], floor=math.nan)


@pytest.mark.parametrize("first, stop", [(0, 2**70), (-(2**70), 3), (0, math.nan)])
def test_rates_of_iterations_without_end(first, stop):
    """They were all asked for, one by one."""
    with pytest.raises(ValueError, match="ask for fewer|must be an iteration"):
        CHAIN.rates(first, stop)


@pytest.mark.parametrize(
    "call, argument, words",
    [
        ("moments", "every", "at most the number of steps"),
        ("splitting", "n", "more than the memory"),
        ("splitting", "inner", "levels"),
    ],
)
def test_integers_of_runs_beyond_the_floats(call, argument, words):
    """They were multiplied by a float: an OverflowError."""
    function, arguments = ENGINES[call]
    with pytest.raises(ValueError, match=words):
        function(**{**arguments, argument: 10**400})


INERTIAL = fps.Underdamped(WELL, ISO, friction=1.0, mass=1.0)
FLAT, JUMPS = fps.Process.from_drift("0*x", fps.Noise.isotropic(1e-45)), fps.Process(WELL, fps.Noise.levy(1.5, 0.1))


@pytest.mark.parametrize(
    "process, dt", [(PROCESS, 5e-324), (PROCESS, 1e-21), (INERTIAL, 5e-324), (INERTIAL, 1e-30), (JUMPS, 1e-30), (FLAT, 0.01)]
)
@pytest.mark.parametrize("t_max", [None, 1.0])
def test_runs_without_end(process, dt, t_max):
    """Steps so short, or noise so weak, that 9e15 steps lead nowhere: the run went on for ever."""
    if t_max is not None and t_max / dt < 2**53:
        return  # censored in time
    with pytest.raises(ValueError, match="is so short that 9e\\+15 steps lead no further than"):
        fps.escape_times(process, [-1.0], LEFT, n=4, dt=dt, t_max=t_max, seed=1)


def test_slow_starts_are_no_runs_without_end():
    """Near the top of the barrier drift and noise are as good as none, but the way down is exponential."""
    x, steps = 1e-20, 0
    while x < 0.2:
        x, steps = x - 0.01 * float(WELL.grad([x])[0]), steps + 1
    still = fps.Process(WELL, fps.Noise.isotropic(1e-45))
    times = fps.escape_times(still, [1e-20], LEFT, n=2, dt=0.01, seed=1).times
    assert np.all((times > 0.01 * (steps - 1)) & (times <= 0.01 * steps)) and steps > 1000
