"""Paths in single precision: exact laws at a finite step, the same bits however they are run, refusals, and the measured rounding.

Statistical tests use fixed seeds. Of a right program |z| < 4 fails once in 15 800, p > 1e-4 once in 10 000.
"""

import _thread
import itertools
import math
import warnings

import numba
import numpy as np
import pytest
from scipy import linalg, stats

import fpsolve as fps
from fpsolve import _rounding
from fpsolve._codegen import load_module
from fpsolve._fused import path_kernels
from fpsolve._kernels.rng32 import stream_normals32
from fpsolve._model import make_model
from fpsolve._runner import Control
from fpsolve._single import narrow

F32, F64 = numba.float32, numba.float64


def relaxing(center=0.0, D=0.5):
    return fps.Process(fps.potentials.quadratic([[1.0]], center=[center]), fps.Noise.isotropic(D))


def valley():
    return fps.Process(fps.potentials.double_well(2), fps.Noise.isotropic(0.4))


def tensor():
    return fps.Noise.from_expression([["0.2*(1 + x**2/4)", "0.08*x"], ["0.08*x", "0.1 + 0.1*x**2"]], "x y")


# ---- the text -------------------------------------------------------------------------------------------------------


def test_narrow_wraps_floats_and_nothing_else():
    text = "def f(x, p):\n    return (-4.0 * x[0] ** 5 + p[1] * 1e-05, x[2 * 3] if True else 'a')\n"
    expected = "def f(x, p):\n    return (-f32(4.0) * x[0] ** 5 + p[1] * f32(1e-05), x[2 * 3] if True else 'a')\n"
    assert narrow(text) == expected


FORMULAS = (
    "x**5 - 3*x/7 + sin(x)*exp(-x**2) + sqrt(1 + x**2)", "abs(x)**2.5 + sign(x) + tanh(x)/(2 + cos(x))",
    "max(x, 0.25)*min(x, 2) + log(1 + x**2)", "atan2(x, 2)*x + cosh(x)*atan(x) + 3.1*x**-3",
)  # fmt: skip


def test_expressions_compute_in_single_precision():
    """One float64 literal would give float64; and the values are those of double precision to some units in the last place."""
    code = fps.Process.from_drift(FORMULAS, fps.Noise.isotropic(1.0), "x y z w").drift_code
    source, _ = code.emit("drift", "@kernel")
    module = load_module(source, {}, cacheable=False, label="narrow", arithmetic="single")
    for x in (0.3, -1.7, 2.4):
        point = (np.float32(x),) * 4
        np.testing.assert_allclose(module.drift(point, ()), code.evaluate(np.array(point, float)), rtol=2e-6)
    assert [s.return_type for s in module.drift.nopython_signatures] == [numba.types.UniTuple(F32, 4)]


SCHEMES = {
    "euler": lambda: (fps.Process(fps.potentials.double_well(2), tensor()), "euler"),  # B by square roots of D
    "milstein": lambda: (fps.Process.from_drift("-x", fps.Noise.from_factor([["0.5 + 0.1*x**2"]], variables="x")), "milstein"),
    "weak2": lambda: (
        fps.Process(fps.potentials.double_well(2), fps.Noise.from_factor([["1", "0.1*x"], ["0.2*y", "1"]], variables="x y")),
        "weak2",
    ),
    "sra15": lambda: (valley(), "sra15"),
    "tamed": lambda: (valley(), "tamed"),
    "gjf": lambda: (fps.Underdamped(fps.potentials.double_well(), fps.Noise.isotropic(0.4), friction=1.0), "gjf"),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_no_scheme_leaves_single_precision(name):
    """Types that Numba gives to the variables of a lane: no float64 among them."""
    process, method = SCHEMES[name]()
    model = make_model(process, 0.01, method)
    points = np.full((1, model.process.dim), 0.3)
    step = model.step(points)
    lines = [f"x{i} = x[{i}]" for i in range(step.variables)] + [f"z{k} = z[{k}]" for k in range(step.draws)]
    text = "".join(code.emit(word)[0] + "\n" for word, code in (("drift", step.drift), ("factor", step.factor)))
    text += "@kernel\ndef lane(x, z, constants, drift_p, factor_p):\n"
    text += "".join(f"    {line}\n" for line in [*step.unpack(), *lines, *step.lines()])
    text += f"    return ({''.join(f'y{i}, ' for i in range(step.variables))})\n"
    module = load_module(text, {}, cacheable=False, label="lane", arithmetic="single")
    arguments = _rounding.single_arguments(model, step, points)
    module.lane(np.full(step.variables, 0.3, np.float32), np.full(step.draws, 0.5, np.float32), *arguments)
    (compiled,) = module.lane.overloads.values()
    types = compiled.type_annotation.typemap
    wide = [n for n, t in types.items() if t == F64 or (isinstance(t, numba.types.BaseTuple) and F64 in tuple(t))]
    assert len(types) > 20 and not [n for n in wide if not n.startswith("$const")], wide


def test_double_precision_has_its_old_helpers():
    from fpsolve._codegen import _source

    text = _source("", "double")
    assert "a >= -1e-10 * fabs(scale)" in text and "fabs(a) <= tolerance else" in text and "f32" not in text


# ---- laws -----------------------------------------------------------------------------------------------------------


def test_paths_are_those_of_the_stated_normals():
    """Euler in NumPy with the same normals, in double precision: what is left is rounding, and the twin kernel has none of it."""
    n, steps, h = 300, 200, 0.05
    z = stream_normals32(11, 0, n, steps // 2).astype(float)
    x, root = np.full(n, 0.7), math.sqrt(h)
    for k in range(steps):
        x = x - h * x + root * math.sqrt(2 * 0.3) * z[:, k]
    paths = fps.simulate(relaxing(D=0.3), [0.7], t=steps * h, dt=h, n=n, seed=11, precision="single")
    np.testing.assert_allclose(paths.final[:, 0], x, rtol=0, atol=2e-6)
    assert np.array_equal(paths.final, paths.final.astype(np.float32)) and not np.array_equal(paths.final[:, 0], x)

    model = make_model(relaxing(D=0.3), h, None)
    step = model.step(np.array([[0.7]]))
    plan = _rounding.Plan(steps, (steps,))
    records = _rounding.Records(n, 1, plan)
    twin = path_kernels(step, arithmetic="twin")
    _rounding.FusedRun(twin, model.arguments(step), np.array([[0.7]]), 1, 11, plan, records).work(0, n, Control())
    np.testing.assert_allclose(records.final[:, 0], x, rtol=0, atol=1e-12)


def test_variances_at_a_finite_step():
    """A rotating linear process: the covariance S of its Euler chain solves S = M S M^T + 2 D h; and its time average."""
    A, D, h, n = np.array([[1.0, 0.8], [-0.5, 0.6]]), np.array([[0.5, 0.2], [0.2, 0.4]]), 0.2, 40_000
    M = np.eye(2) - h * A
    S = linalg.solve_discrete_lyapunov(M, 2 * D * h)
    process = fps.Process.from_drift(["-x - 0.8*y", "0.5*x - 0.6*y"], fps.Noise.constant(D), "x y")
    call = {"t": 20.0, "dt": h, "n": n, "seed": 3, "precision": "single"}
    paths = fps.simulate(process, [0.0, 0.0], **call)
    assert np.all(np.abs(paths.mean) < 4 * np.sqrt(np.diag(S) / n))
    spread = np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / n)
    assert np.all(np.abs(paths.covariance - S) < 4 * spread)
    assert paths.rounding.assumptions[0].status == "held" and paths.precision == "single"
    averaged = fps.simulate(process, [0.0, 0.0], **call, save="moments", t_burn=12.0)
    assert np.all(np.abs(averaged.covariance - S) < 4 * spread)  # of many dependent samples: at most the spread of one


def test_law_and_tails():
    """600 000 values of a Gaussian chain in cells, and beyond 3 and 4 standard deviations, within their multinomial chances."""
    h, n = 0.1, 600_000
    sd = math.sqrt(0.5 / (1 - h / 2))
    edges = np.linspace(-4 * sd, 4 * sd, 61)
    paths = fps.simulate(
        relaxing(), [0.0], t=12.0, dt=h, n=n, seed=5, precision="single", save="histogram", bins=60, ranges=[(edges[0], edges[-1])]
    )
    counts = np.rint(paths.histogram.values * np.diff(edges) * n)
    chances = np.diff(stats.norm.cdf(edges / sd))
    assert stats.chi2.sf(np.sum((counts - n * chances) ** 2 / (n * chances)), len(chances)) > 1e-4
    for limit in (3.0, 4.0):
        for side in (1, -1):
            seen, mean = np.count_nonzero(side * paths.final[:, 0] > limit * sd), n * stats.norm.sf(limit)
            assert stats.poisson.cdf(seen, mean) > 5e-5 and stats.poisson.sf(seen - 1, mean) > 5e-5


def test_histogram_over_time_and_graded_cells():
    """The histogram of the samples is that of the same paths' states, counted by NumPy."""
    grid = fps.Grid((-2.5, 2.5, 40, ("sinh", 0.0, 0.5)))
    call = {"t": 3.0, "dt": 0.05, "n": 700, "seed": 4, "precision": "single"}
    seen = fps.simulate(relaxing(), [0.5], **call, save="histogram", bins=grid, t_burn=1.0, every=2).histogram
    times = 1.0 + 0.1 * np.arange(1, 21)
    states = fps.simulate(relaxing(), [0.5], **call, save=times).states
    counts = np.histogram(states, grid.edges[0])[0]
    np.testing.assert_allclose(seen.values * grid.cell_volumes * states.size, counts, atol=1e-6)


def test_long_averages_keep_their_digits(monkeypatch):
    """1e5 samples around 3: plain float32 sums of such numbers are wrong by 1e-4; these agree with double precision to 1e-6."""
    kept = []
    original = _rounding._verdict
    monkeypatch.setattr(_rounding, "_verdict", lambda a, b, n: (kept.append((a, b)), original(a, b, n))[1])
    call = {"t": 1e5 * 0.05, "dt": 0.05, "n": 256, "seed": 8, "precision": "single", "save": "moments", "t_burn": 0.0}
    paths = fps.simulate(relaxing(3.0), [3.0], **call)
    ((means, squares), (exact_means, exact_squares)) = kept[0]
    assert np.abs(means - exact_means).max() < 1e-6 and np.abs(squares / exact_squares - 1).max() < 1e-6
    assert abs(paths.rounding.value) < 0.05 and paths.rounding.assumptions[0].status == "held"
    naive = np.add.accumulate(np.full(100_000, 3.1, np.float32))[-1] / 100_000
    assert abs(naive - 3.1) > 1e-4  # that the test has teeth
    # variance of a mean over T of a process with correlation time 1, and the variance of the Euler chain
    assert abs(paths.mean[0] - 3.0) < 4 * math.sqrt(2 * 0.5 / (5000.0 * 256))
    assert abs(paths.covariance[0, 0] - 0.5 / (1 - 0.025)) < 4 * 0.5 * math.sqrt(2 * 1.1 / (5000.0 * 256))


# ---- the same bits --------------------------------------------------------------------------------------------------

SAVES = {
    "final": {},
    "states": {"save": [0.5, 2.0]},
    "moments": {"save": "moments", "t_burn": 0.3},
    "histogram": {"save": "histogram", "t_burn": 0.3, "bins": 30, "ranges": [(-2, 2)], "every": 3},
    "autocorrelation": {"save": "autocorrelation", "lags": 0.4, "axes": [0]},
    "occupation": {"save": "occupation", "regions": [fps.Region.halfspace([1.0, 0.0], -0.8)], "every": 2},
}


@pytest.fixture
def interrupt(monkeypatch):
    """Make kernel calls short, and press Ctrl-C in the next run after so many of them."""
    monkeypatch.setattr("fpsolve._paths.LANE_STEPS_PER_CALL", 1 << 13)
    monkeypatch.setattr("fpsolve._blocks.LANE_STEPS_PER_CALL", 1 << 13)
    original, state = Control.add, {"count": itertools.count(), "stop": 0}

    def add(self, amount):
        original(self, amount)
        if state["stop"] and next(state["count"]) == state["stop"]:
            _thread.interrupt_main()
            while not self.stopped:
                pass

    monkeypatch.setattr(Control, "add", add)
    return lambda calls: state.update(count=itertools.count(), stop=calls)


@pytest.mark.parametrize("name", SAVES)
def test_the_same_bits(name, tmp_path, interrupt):
    """For any threads and chunks, for fewer paths, and after Ctrl-C; three odd noises would share pairs across steps, one does."""
    process = valley() if name != "moments" else fps.Process(fps.potentials.double_well(1), fps.Noise.isotropic(0.4))
    call = {"x0": [-1.0, 0.0][: process.dim], "t": 2.0, "dt": 0.01, "seed": 7, "precision": "single", **SAVES[name]}
    whole = fps.simulate(process, n=1000, threads=1, **call)
    assert whole == fps.simulate(process, n=1000, threads=2, chunk=300, **call)
    assert np.array_equal(whole.final[:100], fps.simulate(process, n=100, **call).final)
    assert not np.array_equal(whole.final, fps.simulate(process, n=1000, **{**call, "precision": "double"}).final)
    path = tmp_path / "run.h5"
    for calls in (4, 9):
        interrupt(calls)
        part = fps.simulate(process, n=1000, **call, checkpoint=path, threads=1, chunk=600)
        assert part.partial and part.rounding is None
    interrupt(0)
    assert fps.simulate(process, n=1000, **call, checkpoint=path, threads=2) == whole == fps.load(path)
    with pytest.raises(ValueError, match="precision was 'single', is 'double'"):
        fps.simulate(process, n=1000, **{**call, "precision": "double"}, checkpoint=path)


def test_interrupted_while_the_rounding_is_measured(tmp_path, monkeypatch):
    """The paths are in the file, and the next call measures only."""
    path, call = tmp_path / "run.h5", {"t": 1.0, "dt": 0.01, "n": 600, "seed": 7, "precision": "single"}
    whole = fps.simulate(valley(), [-1.0, 0.0], **call)
    with monkeypatch.context() as patch:
        patch.setattr("fpsolve.langevin.measure_rounding", lambda *a: None)
        part = fps.simulate(valley(), [-1.0, 0.0], **call, checkpoint=path)
    assert part.partial and part.status["ok"] == 600 and "rounding not measured" in repr(part)
    made = []
    original = Control.add
    monkeypatch.setattr(Control, "add", lambda self, amount: (made.append(amount), original(self, amount))[1])
    assert fps.simulate(valley(), [-1.0, 0.0], **call, checkpoint=path) == whole
    assert made[0] == 600 * 100 and sum(made[1:]) == 2 * 256 * 100


# ---- what rounding does ---------------------------------------------------------------------------------------------


def test_a_state_far_from_the_origin_is_warned_of():
    """At 1e6 a float32 has steps of 1/16, and noise of standard deviation 0.01 moves nothing."""
    with pytest.warns(RuntimeWarning, match="rounding in single precision is not small: .* use precision='double'"):
        paths = fps.simulate(relaxing(1e6, 1e-4), [1e6], t=5.0, dt=0.01, n=2000, seed=1, precision="single")
    assert paths.covariance[0, 0] == 0.0  # instead of 1e-4
    assert paths.rounding.assumptions[0].status == "failed" and "failed" in repr(paths)
    near = fps.simulate(relaxing(1.0, 1e-4), [1.0], t=5.0, dt=0.01, n=2000, seed=1, precision="single")
    assert near.rounding.value < 0.01 and "held" in repr(near)


def test_paths_that_come_apart_are_not_called_safe():
    """Noisy Lorenz: 1e-7 grows to the size of the attractor, and 256 pairs cannot vouch for 20 000 paths."""
    lorenz = fps.Process.from_drift(["10*(y - x)", "x*(28 - z) - y", "x*y - 8*z/3"], fps.Noise.isotropic(0.01), "x y z")
    with pytest.warns(RuntimeWarning, match="not shown to be small"):
        paths = fps.simulate(lorenz, [1.0, 1.0, 20.0], t=40.0, dt=0.005, n=20_000, seed=2, precision="single")
    assert paths.rounding.assumptions[0].status == "unknown" and paths.rounding.stderr > 0.3


def synthetic(shift, spread, m=256):
    """Pairs whose differences have the mean `shift` and the standard deviation `spread` exactly, on values of variance one."""
    base = stats.norm.ppf((np.arange(m) + 0.5) / m)
    values = (base / base.std(ddof=1))[None, :, None]
    moved = values + shift + (np.where(np.arange(m) % 2, 1.0, -1.0) * math.sqrt((m - 1) / m) * spread)[None, :, None]
    center = values.mean()
    return (moved, (values - center) ** 2 - (moved - center) ** 2 + 9.0), (values, np.full((1, m, 1), 9.0))  # equal variances


@pytest.mark.parametrize(
    ("shift", "spread", "n", "verdict"),
    [(1e-3, 1e-3, 10_000, "held"), (2e-2, 1e-3, 10_000, "failed"), (1e-3, 1e-1, 10_000, "unknown"), (1e-3, 1e-1, 100, "held")],
)
def test_verdict(shift, spread, n, verdict):
    """Value shift sqrt(n), error spread sqrt(n/256), both in statistical errors."""
    found = _rounding._verdict(*synthetic(shift, spread), n)
    assert found.assumptions[0].status == verdict
    assert found.value == pytest.approx(shift * math.sqrt(n)) and found.stderr == pytest.approx(spread * math.sqrt(n / 256))


def test_verdict_without_statistics():
    """No scatter at all: any difference is too much, none is fine. Paths that fail in one precision only are too much."""
    flat = (np.ones((1, 4, 1)), np.zeros((1, 4, 1)))
    moved = (flat[0] * (1 + 1e-7), flat[1])
    assert _rounding._verdict(flat, flat, 10).assumptions[0].status == "held"
    found = _rounding._verdict(moved, flat, 10)
    assert found.value == math.inf and found.assumptions[0].status == "failed"
    broken = flat[0].copy()
    broken[0, 1] = np.nan
    assert _rounding._verdict((broken, flat[1]), flat, 10).assumptions[0].status == "failed"
    assert _rounding._verdict((broken, flat[1]), (broken, flat[1]), 10).assumptions[0].status == "held"
    nowhere = (np.full((1, 4, 1), np.nan), flat[1])
    assert _rounding._verdict(nowhere, nowhere, 10).assumptions[0].status == "unknown"


def test_individual_starts_and_inertia():
    """Points in groups, fewer and more than the 256 pairs; the states of Underdamped are (x, v)."""
    inertial = fps.Underdamped(fps.potentials.double_well(), fps.Noise.isotropic(0.4), friction=1.0)
    for n in (10, 1000):
        x0 = np.linspace(-1.0, 1.0, n)[:, None]
        paths = fps.simulate(inertial, x0, t=1.0, dt=0.01, n=n, seed=1, precision="single", save=[0.0, 0.5, 1.0])
        assert paths.rounding.assumptions[0].status == "held" and paths.states.shape == (3, n, 2)
        np.testing.assert_allclose(paths.states[0, :, 0], x0[:, 0], atol=1e-7)
    chain = fps.SGDChain.gaussian(fps.potentials.double_well(2), fps.Noise.covariance(np.eye(2), 0.05, 10), 0.05, momentum=0.9)
    assert fps.simulate(chain, [-1.0, 0.0], t=100, n=300, seed=1, precision="single").rounding.assumptions[0].status == "held"


# ---- refusals and results -------------------------------------------------------------------------------------------


def callable_process():
    return fps.Process(fps.Potential(lambda x, p: x[0] ** 2, dim=1), fps.Noise.isotropic(0.1))


def losses():
    data = {"a": np.random.default_rng(5).standard_normal(40)}
    return fps.SGDChain(fps.Ensemble.from_expression("(x - a)**2/2", "x", data), lr=0.1, batch=4)


def scheduled():
    noise = fps.Noise.covariance([[1.0]], 0.1, 1)
    return fps.SGDChain.gaussian(fps.potentials.quadratic([[1.0]]), noise, lr=lambda k: 0.1 if k < 5 else 0.05)


TABLE = fps.Noise.covariance(np.linspace(1.0, 2.0, 5).reshape(5, 1, 1), 0.1, 2, axes=[np.linspace(-2, 2, 5)])
REFUSED = {
    "Levy noise": lambda: (fps.Process(fps.potentials.double_well(), fps.Noise.levy(1.5, 0.1)), {}),
    "walls": lambda: (relaxing(), {"walls": [(-1.0, 1.0, "reflecting")]}),
    "above 8 dimensions": lambda: (fps.Process(fps.potentials.quadratic(np.eye(9)), fps.Noise.isotropic(0.1)), {}),
    "constants of a schedule": lambda: (scheduled(), {"dt": None, "t": 10}),
    "SGD on sample losses": lambda: (losses(), {"dt": None, "t": 10}),
    "Python function": lambda: (callable_process(), {}),
    "tabulated": lambda: (
        fps.Process(fps.potentials.double_well(), TABLE), {}
    ),
    "derivative": lambda: (fps.Process(fps.potentials.double_well(2), tensor(), interpretation="stratonovich"), {}),
    "does not fit": lambda: (fps.Process.from_drift("-x + 1e-60", fps.Noise.isotropic(0.1)), {}),
    "parameter of the noise: 1e-50": lambda: (relaxing(D=0.5e-100), {}),
    "x0: 1e": lambda: (relaxing(), {"x0": [1e39]}),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refusals(reason, monkeypatch):
    monkeypatch.setattr("fpsolve.langevin.run_chunks", None)
    process, more = REFUSED[reason]()
    dim = getattr(process, "dim", 1)
    with pytest.raises(ValueError, match=f"{reason}.*use precision='double'"):
        fps.simulate(process, **{"x0": np.zeros(dim), "t": 1.0, "dt": 0.1, "n": 10, "precision": "single", **more})


@pytest.mark.parametrize("word", ["half", "float32", 32, None])
def test_other_words(word):
    with pytest.raises(ValueError, match=r"precision must be 'double' or 'single', got"):
        fps.simulate(relaxing(), [0.0], t=1.0, dt=0.1, n=10, precision=word)


def test_saved_and_loaded(tmp_path):
    paths = fps.simulate(relaxing(), [0.0], t=1.0, dt=0.1, n=50, seed=1, precision="single")
    paths.save(tmp_path / "a.h5")
    again = fps.load(tmp_path / "a.h5")
    assert again == paths and again.rounding.assumptions == paths.rounding.assumptions
    double = fps.simulate(relaxing(), [0.0], t=1.0, dt=0.1, n=50, seed=1)
    assert double.precision == "double" and double.rounding is None and "precision" not in repr(double)
    assert double != paths


def test_paths_that_fail_are_left_out():
    """x' = x^3 from 0.8: some paths run away, beyond 1e38 already; the others are used."""
    process = fps.Process.from_drift("-x + x**3", fps.Noise.isotropic(0.02))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        paths = fps.simulate(process, [0.8], t=4.0, dt=0.01, n=2000, seed=3, precision="single", save="moments", t_burn=0.0)
    assert 0 < paths.status["not_finite"] < 2000 and np.isfinite(paths.mean).all() and paths.rounding is not None
