"""Multilevel splitting against ruin probabilities, quadrature, Fokker-Planck, transition kernels and direct simulation."""

import _thread
import math
import signal
import time

import numpy as np
import pytest
from path_cases import z_test
from scipy import integrate

import fpsolve as fps
from fpsolve import _splitting
from fpsolve._branches import BACK, UP
from fpsolve._branching import Ended, Records
from fpsolve._kernels.langevin import CENSORED, ESCAPED
from fpsolve._population import Loops, Run, _levels, _Streams, split
from fpsolve._rare_results import log_normal_half
from fpsolve._runner import Control
from fpsolve._splitting import _assemble, _Problem

WELL = fps.Potential.from_expression("(x**2 - 1)**2/4")  # barrier 1/4 at 0
BEYOND = fps.Region.halfspace([1.0], 0.5)
PLANE = fps.Region.halfspace([1.0, 0.0], 0.3)
FULL = np.array([[1.0, 0.5], [0.5, 1.5]])


def well(ratio):
    return fps.Process(WELL, fps.Noise.isotropic(0.25 / ratio))


def agrees(estimate, expected, error=0.0, limit=5.0):
    """|t| < 5 of the logarithm; with 20 runs a correct code fails one such number in 12 000 (Student's law)."""
    t = (estimate.log_rate - math.log(expected)) / math.hypot(estimate.stderr / estimate.value, error)
    assert abs(t) < limit, f"t = {t:.2f}, ratio {math.exp(estimate.log_rate) / expected:.4f}"


# ---- unbiased, with levels that many paths share --------------------------------------------------------------------


class Walk:
    """A random walk on the integers, up with probability `up`; outside from `top` on; its levels are looked up in a table."""

    variables = 1

    def __init__(self, seed, up, top, levels):
        self.rng, self.up, self.top, self.table = np.random.default_rng(seed), up, top, np.asarray(levels, float)

    def level(self, states):
        return self.table[np.clip(states[..., 0], 0, self.top).astype(int)]

    def run(self, starts, base, control, *, peaks, bottom=-np.inf, limit=None, records=None, slots=None):
        n, x, k = len(starts), np.array(starts[:, 0]), 0
        status, steps, ends = np.zeros(n, np.int8), np.zeros(n, np.int64), np.array(starts)
        peaks, going = np.array(peaks, float), np.arange(n)
        before = np.zeros(n, np.int64) if records is None else records.last_ages[slots]
        while len(going):
            k += 1
            x[going] = np.maximum(x[going] + np.where(self.rng.random(len(going)) < self.up, 1.0, -1.0), 0.0)
            out, level = x[going] >= self.top, self.level(x[going][:, None])
            level[out] = np.inf
            back, up = level <= bottom, level > peaks[going]
            if records is not None:
                higher = up & ~back
                who = going[higher]
                records.add(slots[who], level[higher], x[who][:, None], before[who] + k)
                peaks[who] = level[higher]
            found = np.where(out, ESCAPED, np.where(back, BACK, np.where(up & (records is None), UP, 0)))
            found[(found == 0) & (k == limit)] = CENSORED
            done = going[found != 0]
            status[done], steps[done], ends[done, 0] = found[found != 0], k, x[done]
            going = going[found == 0]
        return Ended(status, steps, ends)


#: Levels of the places 0, 1, ...: the place itself; one that goes up and down; one that is flat over many places.
TABLES = {
    "place": range(11),
    "wrong order": [0, 3, 2, 5, 4, 1, 6, 9, 8, 7, 10],
    "flat": [0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3],
}


@pytest.mark.parametrize(("name", "kill", "top"), [("place", 2, 10), ("wrong order", 10, 10), ("flat", 4, 10), ("place", 10, 4)])
def test_probabilities_are_unbiased(name, kill, top):
    """Ruin of a gambler: from 1 to `top` before 0 at r = q/p per step, (1 - r)/(1 - r^top); many paths always share a level.

    200 runs of 20 paths; |z| < 4 fails a correct code once in 16 000 (the mean of 200 is nearly normal).
    """
    up, n = 0.35, 20
    r = (1 - up) / up
    exact = (1 - r) / (1 - r**top)
    walk = Walk(7, up, top, TABLES[name])
    found = []
    for i in range(200):
        rng, streams = np.random.default_rng([3, i]), _Streams(walk, 0, Control())
        records = Records(n, 1)
        one, everyone = np.ones((n, 1)), np.arange(n)
        records.begin(everyone, walk.level(one), one, np.zeros(n, np.int64))
        streams.run(one, peaks=walk.level(one), bottom=0.0, records=records, slots=everyone)
        found.append(math.exp(_levels(streams, records, Loops(one, 0, (0.0, 0.0), n, kill, 0), rng)))
    found = np.array(found)
    z_test(found.mean(), exact, found.std(ddof=1) / math.sqrt(found.size))


def test_loop_times_of_a_walk():
    """Hill's relation with all its parts: the mean time from 0 (a wall) to 6, sum of 1/(pi) weights of a birth-death chain.

    With A = {0} every loop begins alike, so that it is exact: 1/rate = sum_j sum_{i <= j} pi_i / (pi_j up_j).
    """
    up, top = 0.35, 6
    weight = np.cumprod([1.0, *([up / (1 - up)] * (top - 1))])  # up from 0 too with `up`, else it stays there
    exact = sum(weight[: j + 1].sum() / (weight[j] * up) for j in range(top))
    start, walk = np.zeros((1, 1)), Walk(11, up, top, range(top + 1))
    loops = Loops(start, 4, (0.0, 0.0), 60, 6, 5)
    runs = [run for i in range(60) if (run := split(walk, loops, i, Control())) is not None]
    p = np.exp([run.log_probability for run in runs])
    r = (1 - up) / up
    z_test(p.mean(), (1 - r) / (1 - r**top), p.std(ddof=1) / math.sqrt(p.size))
    problem = _Problem(walk, start, 1, "place", "iteration", 1.0, {"scheme": "walk"}, False, False)
    rate = _assemble(problem, loops, runs, False)
    assert rate.stderr < 0.05 * rate.value
    z_test(rate.value * exact, 1.0, rate.stderr * exact)


def test_interval_of_log_normal_numbers():
    """Cox's interval at 10 numbers of spread 0.6 holds the mean in 94.7 % of 4000 cases; 93 to 96.5 % has a false alarm of 1e-5."""
    rng = np.random.default_rng(5)
    logs = rng.normal(-0.18, 0.6, (4000, 10))
    share = np.mean([abs(math.log(np.exp(row).mean())) <= log_normal_half(row) for row in logs])
    assert 0.93 < share < 0.965


# ---- one dimension --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [10, 20, 40])
def test_against_quadrature(ratio):
    """Mean first passage beyond the saddle. The error of dt = 0.01 is below 1 %, the sampling error 7 to 15 %."""
    exact = fps.theory.mean_first_passage_1d(well(ratio), -1.0, 0.5).value
    rate = fps.multilevel_splitting(well(ratio), [-1.0], BEYOND, n=100, runs=20, dt=0.01, seed=ratio, threads=1)
    agrees(rate, 1.0 / exact, 0.01)
    assert rate.unit == "1/time"
    assert not rate.failed
    assert rate.value == pytest.approx(1.0 / rate.mean_time().value)
    assert rate.interval[0] < rate.value < rate.interval[1]


def test_a_low_barrier_sharply():
    """Barrier 6 D with a sampling error of 3 %: loop times and probability at once; the step, 0.01, is worth less than 1 %."""
    exact = fps.theory.mean_first_passage_1d(well(6), -1.0, 0.5).value
    rate = fps.multilevel_splitting(well(6), [-1.0], BEYOND, n=400, runs=20, dt=0.01, seed=2, threads=1)
    assert rate.stderr < 0.04 * rate.value
    agrees(rate, 1.0 / exact, 0.01)


@pytest.mark.parametrize(
    "coordinate",
    ["distance", "potential", "x", "expression", pytest.param("function", marks=pytest.mark.slow), "committor",
     pytest.param("flat", marks=pytest.mark.slow)],
)  # fmt: skip
def test_any_coordinate(coordinate):
    """What the coordinate is changes the spread only."""

    def place(x, p):
        return x[0] ** 3

    def flat(x, p):
        return math.floor(8.0 * x[0]) / 8.0

    given = {"expression": fps.Potential.from_expression("exp(2*x)"), "function": place, "flat": flat}
    if coordinate == "committor":
        fp = fps.FokkerPlanck(well(10), fps.Grid((-2.5, 1.0, 200)))
        given["committor"] = fp.committor(fps.Region.halfspace([1.0], -0.9), fps.Region.halfspace([-1.0], -0.5))
    exact = fps.theory.mean_first_passage_1d(well(10), -1.0, 0.2).value
    region = fps.Region.halfspace([1.0], 0.2)
    rate = fps.multilevel_splitting(well(10), [-1.0], region, n=60, runs=20, dt=0.02, seed=3, threads=1,
                                    coordinate=given.get(coordinate, coordinate))  # fmt: skip
    agrees(rate, 1.0 / exact, 0.02)


def test_reflecting_wall():
    """Half a parabola: a wall at its minimum, left at barrier/D = 10; with the symmetrised step the error is O(dt)."""
    process = fps.Process(fps.Potential.from_expression("x**2/2"), fps.Noise.isotropic(0.05))
    exact = fps.theory.mean_first_passage_1d(process, 0.1, 1.0, reflecting=0.0).value
    rate = fps.multilevel_splitting(process, [0.1], fps.Region.halfspace([1.0], 1.0), n=100, runs=20, dt=0.01, seed=5, threads=1,
                                    walls=[(0.0, 5.0, "reflecting")])  # fmt: skip
    agrees(rate, 1.0 / exact, 0.01)


def test_without_the_bridge_the_exit_is_late():
    """Discrete monitoring moves the surface out by 0.5826 sqrt(2 D dt) (Siegmund); relative error of that rule O(dt)."""
    D, dt = 0.025, 0.04
    late = -0.1 + 0.5826 * math.sqrt(2 * D * dt)
    process, region = fps.Process(WELL, fps.Noise.isotropic(D)), fps.Region.halfspace([1.0], -0.1)
    exact = fps.theory.mean_first_passage_1d(process, -1.0, late).value
    there = fps.theory.mean_first_passage_1d(process, -1.0, -0.1).value
    how = {"n": 200, "runs": 20, "dt": dt, "seed": 4, "threads": 1}
    plain = fps.multilevel_splitting(process, [-1.0], region, correction=None, **how)
    bridge = fps.multilevel_splitting(process, [-1.0], region, **how)
    agrees(plain, 1.0 / exact, 2 * dt)
    agrees(bridge, 1.0 / there, 2 * dt)
    assert exact / there > 1.1


def test_step_error():
    """A drift so steep that dt shows: the difference to 2 dt is the stated error, and covers the error against quadrature."""
    exact = fps.theory.mean_first_passage_1d(well(10), -1.0, 0.5).value
    rate = fps.multilevel_splitting(well(10), [-1.0], BEYOND, n=200, dt=0.1, seed=6, step_error=True, threads=1)
    assert rate.discretization_error > 0.0
    assert abs(rate.value * exact - 1.0) < 4.0 * rate.error / rate.value


# ---- the plane, inertia, chains -------------------------------------------------------------------------------------


def tilted(swirl, ratio):
    """A double well with a tilted valley; with `swirl` the drift is no gradient. Full tensor in both."""
    noise = fps.Noise.constant(0.25 / ratio * FULL)
    if swirl:
        drift = ["-(x**3 - x) + 0.6*(y - 0.3*x) + 0.4*y", "-2*(y - 0.3*x) - 0.4*(x**3 - x)"]
        return fps.Process.from_drift(drift, noise, variables="x y")
    return fps.Process(fps.Potential.from_expression("(x**2 - 1)**2/4 + (y - 0.3*x)**2", "x y"), noise)


@pytest.mark.parametrize("swirl", [False, True], ids=["gradient", "not a gradient"])
@pytest.mark.parametrize("ratio", [pytest.param(10, marks=pytest.mark.slow), 20, pytest.param(40, marks=pytest.mark.slow)])
def test_against_fokker_planck_in_the_plane(swirl, ratio):
    process = tilted(swirl, ratio)
    cells = {10: 80, 20: 120, 40: 240}[ratio]
    exact = fps.FokkerPlanck(process, fps.Grid((-1.7, 0.3, cells), (-1.1, 0.6, cells))).escape_rate(PLANE)
    rate = fps.multilevel_splitting(process, [-1.0, -0.3], PLANE, n=100, runs=20, dt=0.02, seed=8, threads=1)
    agrees(rate, exact.value, math.hypot(0.02, exact.discretization_error / exact.value))


def test_inertia_against_direct_simulation():
    """Barrier 4 T, with the same scheme and step: nothing but sampling errors. p is about 0.03."""
    U = fps.Potential.from_expression("x**4/4 - x**2/2")
    process = fps.Underdamped(U, fps.Noise.isotropic(0.0625), friction=1.0)
    region = fps.Region.halfspace([1.0], 0.5)
    direct = fps.escape_times(process, [-1.0], region, n=2000, dt=0.05, seed=2, threads=1).rate()
    rate = fps.multilevel_splitting(process, [-1.0], region, n=100, runs=20, dt=0.05, seed=2, threads=1)
    # a path from x0 first settles: the mean exit time is longer or shorter by less than one loop, p of itself
    agrees(rate, direct.value, math.hypot(direct.stderr / direct.value, rate.probability().value))


@pytest.mark.parametrize(
    "shape", ["halfspace", pytest.param("ball", marks=pytest.mark.slow), pytest.param("chain", marks=pytest.mark.slow)]
)
def test_many_dimensions(shape):
    """20 coordinates: x0 alone leaves a half-space, as on the line; |x| of a ball is a process on the line of its own.

    The radius r has the drift -r + 19 D/r. 6 runs: |t| < 9 fails a correct code in 3e-4 (Student's law).
    """
    D, d = 0.1, 20
    radial = fps.Process.from_drift(f"-x + {(d - 1) * D}/x", fps.Noise.isotropic(D))
    line = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(D))
    how = {"n": 60, "runs": 6, "kill": 0.3, "seed": 4, "threads": 1}
    process = fps.Process(fps.potentials.quadratic(np.eye(d)), fps.Noise.isotropic(D))
    plane = fps.Region.halfspace(np.eye(d)[0], 1.2)
    if shape == "halfspace":
        exact = fps.theory.mean_first_passage_1d(line, 0.0, 1.2).value
        rate = fps.multilevel_splitting(process, np.zeros(d), plane, dt=0.1, **how)
        agrees(rate, 1.0 / exact, 0.1, limit=9.0)
    elif shape == "ball":
        exact = fps.theory.mean_first_passage_1d(radial, 1.4, 2.5, reflecting=0.05).value
        rate = fps.multilevel_splitting(process, np.zeros(d), fps.Region.ball(np.zeros(d), 2.5), dt=0.05, **how)
        agrees(rate, 1.0 / exact, 0.05, limit=9.0)
    else:
        chain, short = (fps.SGDChain.gaussian(fps.potentials.quadratic(np.eye(k)), fps.Noise.isotropic(D), 0.1) for k in (d, 1))
        exact = fps.TransitionKernel(short, fps.Grid((-2.5, 1.5, 200))).escape_rate(fps.Region.halfspace([1.0], 1.2))
        rate = fps.multilevel_splitting(chain, np.zeros(d), plane, **how)
        agrees(rate, exact.value, exact.discretization_error / exact.value, limit=9.0)
    assert rate.probability().value < 0.01


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_gaussian_chain(momentum):
    """1e-12 per iteration against the transition kernel; with momentum against direct simulation at a lower barrier."""
    D = 0.02 if momentum else 0.01
    chain = fps.SGDChain.gaussian(WELL, fps.Noise.isotropic(D), 0.2, momentum=momentum)
    left = fps.Region.halfspace([1.0], 0.2)
    rate = fps.multilevel_splitting(chain, [-1.0], left, n=200, runs=20, seed=5, threads=1)
    assert rate.unit == "1/iteration"
    if momentum:
        direct = fps.escape_times(chain, [-1.0], left, n=1000, seed=5, threads=1).rate()
        agrees(rate, direct.value, math.hypot(direct.stderr / direct.value, rate.probability().value))
    else:
        exact = fps.TransitionKernel(chain, fps.Grid((-1.9, 0.6, 140))).escape_rate(left)
        agrees(rate, exact.value, exact.discretization_error / exact.value)
        assert 1e-13 < rate.value < 1e-11


@pytest.mark.parametrize("momentum", [0.0, pytest.param(0.4, marks=pytest.mark.slow)])
def test_chain_on_samples(momentum):
    """Random shifts of a quadratic loss are a Gaussian chain: theta' = (1 - lr h) theta + lr h sigma z/sqrt(B).

    6 runs: |t| < 9 fails a correct code in 3e-4 (Student's law).
    """
    h, sigma, lr, batch = 1.0, 0.5, 0.1, 2
    chain = fps.SGDChain.random_shift(fps.potentials.quadratic([[h]]), sigma, lr, batch, momentum=momentum)
    twin = fps.SGDChain.gaussian(fps.potentials.quadratic([[h]]), fps.Noise.isotropic(lr * h**2 * sigma**2 / (2 * batch)), lr,
                                 momentum=momentum)  # fmt: skip
    region = fps.Region.ball([0.0], 0.45)
    rate = fps.multilevel_splitting(chain, [0.0], region, n=60, runs=6, kill=0.3, seed=9, threads=1)
    other = fps.multilevel_splitting(twin, [0.0], region, n=200, runs=20, seed=10, threads=1)
    agrees(rate, other.value, other.stderr / other.value, limit=9.0)
    if not momentum:
        exact = fps.TransitionKernel(twin, fps.Grid((-0.5, 0.5, 120))).escape_rate(region)
        assert exact.value < 1e-5
        agrees(rate, exact.value, exact.discretization_error / exact.value, limit=9.0)
        agrees(other, exact.value, exact.discretization_error / exact.value)


def test_chain_on_an_ensemble():
    """Sample losses (theta - a_i)^2/2: batches of two from five points, against direct simulation; |t| < 8 fails in 1e-4."""
    points = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    ensemble = fps.Ensemble.from_expression("(t - a)**2/2", variables="t", data={"a": points})
    chain = fps.SGDChain(ensemble, lr=0.3, batch=2)
    region = fps.Region.ball([0.0], 1.3)
    direct = fps.escape_times(chain, [0.0], region, n=1000, seed=3).rate()
    rate = fps.multilevel_splitting(chain, [0.0], region, n=60, runs=8, kill=0.3, seed=3, threads=1)
    agrees(rate, direct.value, math.hypot(direct.stderr / direct.value, rate.probability().value), limit=8.0)


@pytest.mark.slow
@pytest.mark.parametrize("swirl", [None, False, True], ids=["line", "gradient", "not a gradient"])
@pytest.mark.parametrize("ratio", [10, 20, 40])
def test_coverage(swirl, ratio):
    """At least 45 of 50 intervals hold the exact rate; 95 % intervals fail that in 3.8 % of such tests (binomial law)."""
    if swirl is None:
        process, x0, region = well(ratio), [-1.0], BEYOND
        exact = 1.0 / fps.theory.mean_first_passage_1d(process, -1.0, 0.5).value
    else:
        process, x0, region = tilted(swirl, ratio), [-1.0, -0.3], PLANE
        fp = fps.FokkerPlanck(process, fps.Grid((-1.7, 0.3, 300), (-1.1, 0.6, 300)))
        exact = fp.escape_rate(region).value
    held = 0
    for seed in range(50):
        low, high = fps.multilevel_splitting(process, x0, region, n=100, dt=0.02, seed=seed, threads=1).interval
        held += low < exact < high
    assert held >= 45


def test_coverage_of_a_few():
    """At least 15 of 20 intervals of small runs: 95 % intervals fail that in 3e-4 of such tests, 70 % intervals in half of them."""
    exact = 1.0 / fps.theory.mean_first_passage_1d(well(10), -1.0, 0.2).value
    region = fps.Region.halfspace([1.0], 0.2)
    held = 0
    for seed in range(20):
        low, high = fps.multilevel_splitting(well(10), [-1.0], region, n=20, dt=0.05, kill=0.2, seed=seed, threads=1).interval
        held += low < exact < high
    assert held >= 15


# ---- runs -----------------------------------------------------------------------------------------------------------


QUICK = {"n": 40, "runs": 4, "dt": 0.02, "seed": 12}


def test_bits_do_not_depend_on_threads(monkeypatch):
    one = fps.multilevel_splitting(well(10), [-1.0], BEYOND, threads=1, **QUICK)
    monkeypatch.setattr("fpsolve._branching.STEPS_PER_CALL", 50)
    two = fps.multilevel_splitting(well(10), [-1.0], BEYOND, threads=2, **QUICK)
    assert one == two
    assert one != fps.multilevel_splitting(well(10), [-1.0], BEYOND, threads=1, **(QUICK | {"seed": 13}))


def test_records_grow(monkeypatch):
    """Room for records is found on the way: the bits are the same from whatever room the arrays begin with."""
    plain = fps.multilevel_splitting(well(10), [-1.0], BEYOND, threads=1, **QUICK)
    monkeypatch.setattr("fpsolve._branching.FIRST_RECORDS", 2)
    assert fps.multilevel_splitting(well(10), [-1.0], BEYOND, threads=1, **QUICK) == plain


def test_saved_and_loaded(tmp_path):
    rate = fps.multilevel_splitting(well(10), [-1.0], BEYOND, threads=1, **QUICK)
    fps.save(tmp_path / "rate.h5", rate)
    assert fps.load(tmp_path / "rate.h5") == rate


def test_interrupted_runs_are_an_estimate(monkeypatch):
    """After Ctrl-C the finished runs make the estimate; each is what it is in a whole run."""
    original, count = Control.add, iter(range(10_000))

    def add(self, amount):
        original(self, amount)
        if amount == 1 and next(count) == 4:
            _thread.interrupt_main()
            deadline = time.monotonic() + 20.0
            while not self.stopped:
                assert time.monotonic() < deadline
                time.sleep(0.001)

    how = QUICK | {"runs": 8}
    whole = fps.multilevel_splitting(well(10), [-1.0], BEYOND, threads=1, **how)
    monkeypatch.setattr(Control, "add", add)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    try:
        part = fps.multilevel_splitting(well(10), [-1.0], BEYOND, threads=1, **how)
    finally:
        signal.signal(signal.SIGINT, before)
    assert part.partial
    assert not whole.partial
    assert 3 <= part.runs < 8
    assert np.array_equal(part.log_probabilities, whole.log_probabilities[: part.runs])


def test_beyond_the_range_of_doubles():
    """Three runs with probabilities e^-800 and their like, and loops of 50 steps of 0.1: all by logarithms."""
    logs = [-800.0, -800.0 + math.log(2.0), -800.0 + math.log(3.0)]
    start = np.zeros((1, 1))
    problem = _Problem(Walk(3, 0.2, 5, range(6)), start, 1, "place", "time", 0.1, {"scheme": "walk"}, False, False)
    runs = [Run(log_p, 50.0, 30.0, (50.0, 50.0), 10) for log_p in logs]
    rate = _assemble(problem, Loops(start, 4, (0.0, 0.0), 60, 6, 5), runs, False)
    assert rate.value == 0.0
    assert rate.log_rate == pytest.approx(-800.0 + math.log(2.0) - math.log(5.0), rel=1e-14)
    assert rate.mean_time().value == math.inf
    assert rate.mean_time().log_value == -rate.log_rate
    assert rate.probability().log_value == pytest.approx(-800.0 + math.log(2.0), rel=1e-14)
    assert "exp(-800.9" in repr(rate)


def test_a_run_that_dies_out():
    """One step of drift is 3.4 standard deviations of the noise: no copy climbs, and the error says so."""
    with pytest.raises(fps.FpsolveError, match="died out.*shorten dt"):
        fps.multilevel_splitting(well(800), [-1.0], fps.Region.halfspace([1.0], 0.0), n=20, runs=3, dt=0.05, seed=1, threads=1)


BAD = {
    "no dt": ({"dt": None}, ValueError, "dt is missing"),
    "n": ({"n": 3}, ValueError, "n must be >= 20"),
    "n text": ({"n": "many"}, TypeError, "n must be an integer"),
    "runs": ({"runs": 2}, ValueError, "runs must be >= 3"),
    "kill": ({"kill": 0.9}, ValueError, "kill must be the share"),
    "inner": ({"inner": (1.0, 0.0)}, ValueError, "two levels"),
    "x0": ({"x0": [2.0]}, ValueError, "is not inside"),
    "two points": ({"x0": [[-1.0], [-0.9]]}, ValueError, "one point"),
    "sampler": ({"x0": lambda rng, n: np.zeros((n, 1))}, TypeError, "one point"),
    "region": ({"region": 1.0}, TypeError, "must be a Region"),
    "dimension": ({"region": PLANE}, ValueError, "2-D, the process 1-D"),
    "coordinate": ({"coordinate": 3.0}, TypeError, "coordinate must be one of"),
    "coordinate 2-D": ({"coordinate": fps.Potential.from_expression("x + y", "x y")}, ValueError, "the coordinate is 2-D"),
    "coordinate text": ({"coordinate": "xx"}, ValueError, "xx"),
    "coordinate nan": ({"coordinate": "log(x)"}, ValueError, "must be a number wherever paths go"),
    "method": ({"method": "eular"}, ValueError, "unknown method"),
    "seed": ({"seed": -1}, ValueError, "seed must be in"),
    "levy": ({"process": fps.Process(WELL, fps.Noise.levy(1.5, 0.1))}, ValueError, "one large jump"),
    "endless": ({"region": fps.Region.box([-math.inf], [math.inf])}, ValueError, "can never be left"),
    "common exit": ({"process": fps.Process(WELL, fps.Noise.isotropic(5.0))}, ValueError, "not rare"),
    "flat": ({"process": fps.Process.from_drift("0*x", fps.Noise.isotropic(1e-9))}, fps.FpsolveError, "have not settled"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, monkeypatch):
    monkeypatch.setattr("fpsolve._population.LAST_LOOK", 1 << 12)
    change, error, words = BAD[name]
    how = {"process": well(10), "x0": [-1.0], "region": BEYOND, **QUICK, "threads": 1} | change
    with pytest.raises(error, match=words):
        fps.multilevel_splitting(how.pop("process"), how.pop("x0"), how.pop("region"), **how)


def test_bad_chains():
    ensemble = fps.Ensemble.from_expression("(t - a)**2/2", variables="t", data={"a": np.arange(4.0) - 1.5})
    region = fps.Region.ball([0.0], 1.5)
    cases = [
        (fps.SGDChain(ensemble, 0.1, 2, sampling="shuffle"), "no Markov chain"),
        (fps.SGDChain(ensemble, lambda k: 0.1, 2), "no escape rate"),
        (fps.SGDChain(ensemble, 0.1, 2, optimizer="adam"), "counts its iterations"),
    ]
    for chain, words in cases:
        with pytest.raises(ValueError, match=words):
            fps.multilevel_splitting(chain, [0.0], region, n=20, seed=1)
    with pytest.raises(ValueError, match="dt"):
        fps.multilevel_splitting(fps.SGDChain(ensemble, 0.1, 2), [0.0], region, n=20, dt=0.1, seed=1)


def test_a_path_that_is_held_is_told_of(monkeypatch):
    """Another, deeper basin inside the region, reached on the way: the run warns instead of hanging silently; then Ctrl-C."""
    original = _splitting._patience

    def patience(settle):
        watch = original(settle)

        def look(control):
            watch(control)
            if control.steps > 20 * settle:
                raise KeyboardInterrupt
            return ""

        return look

    monkeypatch.setattr(_splitting, "LONG", 20)
    monkeypatch.setattr(_splitting, "_patience", patience)
    process = fps.Process(fps.Potential.from_expression("(x**2 - 1)**2/4 - 0.2*x"), fps.Noise.isotropic(0.02))
    with pytest.warns(RuntimeWarning, match="another basin"), pytest.raises(fps.FpsolveError, match="interrupted"):
        fps.multilevel_splitting(process, [-0.88], fps.Region.halfspace([1.0], 3.0), n=20, dt=0.02, seed=1, threads=1)


def test_quasi_stationary_loops_in_one_dimension():
    """The mean loop time by quadrature: E[s -> a] + E[a -> s] of a diffusion whose ends are met exactly, dt -> 0.

    Discrete loops overshoot by O(sqrt(dt)) at both levels, which lengthens them: within 10 % at dt = 0.001, overshoot included by
    moving the levels apart by 0.5826 sqrt(2 D dt) each.
    """
    D, dt = 0.025, 0.001
    a, s = -1.1, -0.8
    shift = 0.5826 * math.sqrt(2 * D * dt)
    process = fps.Process(WELL, fps.Noise.isotropic(D))
    rate = fps.multilevel_splitting(process, [-1.0], fps.Region.halfspace([1.0], 0.2), n=50, runs=8, dt=dt, seed=2, threads=1,
                                    coordinate="x", inner=(a, s))  # fmt: skip

    def density(x):
        return math.exp(-((x * x - 1) ** 2) / 4 / D)

    def up(u):  # from a to s: what lies below u
        return integrate.quad(density, -2.5, u)[0] / density(u)

    def down(u):  # from s to a, the wall at 0: what lies between u and the saddle
        return integrate.quad(density, u, 0.0)[0] / density(u)

    low, high = a - shift, s + shift
    exact = (integrate.quad(up, low, high)[0] + integrate.quad(down, low, high)[0]) / D
    measured = rate.loop_steps * dt
    assert measured.mean() == pytest.approx(exact, rel=0.02, abs=4 * measured.std(ddof=1) / math.sqrt(8))


# ---- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_error", [False, True])
def test_checkpoint_of_an_interrupted_run(tmp_path, monkeypatch, step_error):
    """Ctrl-C after some runs, and again: the bits of a call that was left alone; then the file has the result."""
    how = QUICK | {"runs": 6, "step_error": step_error, "threads": 1}
    whole = fps.multilevel_splitting(well(10), [-1.0], BEYOND, **how)
    path, original = tmp_path / "rate.h5", Control.add
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    made = []

    def stop_after(calls):
        count = iter(range(10_000))

        def add(self, amount):
            original(self, amount)
            made.append(amount)
            if amount == 1 and next(count) == calls:
                _thread.interrupt_main()
                deadline = time.monotonic() + 20.0
                while not self.stopped:
                    assert time.monotonic() < deadline
                    time.sleep(0.001)

        monkeypatch.setattr(Control, "add", add)

    try:
        stop_after(1)
        with pytest.raises(fps.FpsolveError, match="interrupted after 2 finished runs"):
            fps.multilevel_splitting(well(10), [-1.0], BEYOND, checkpoint=path, **how)
        stop_after(1)
        part = fps.multilevel_splitting(well(10), [-1.0], BEYOND, checkpoint=path, **how)
        assert part.partial
        assert np.array_equal(part.log_probabilities, whole.log_probabilities[: part.runs])
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(Control, "add", original)
    assert fps.multilevel_splitting(well(10), [-1.0], BEYOND, checkpoint=path, **how) == whole
    assert fps.load(path) == whole
    with monkeypatch.context() as patch:
        patch.setattr(_splitting, "pilot", None)  # nothing is run any more
        again = fps.multilevel_splitting(well(10), [-1.0], BEYOND, checkpoint=path, **{**how, "seed": None})
    assert again == whole


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"n": 80}, "n was"),
        ({"dt": 0.01}, "dt was"),
        ({"seed": 1}, "seed was"),
        ({"coordinate": "potential"}, "coordinate was"),
        ({"process": well(11)}, "process was"),
        ({"region": fps.Region.halfspace([1.0], 0.4)}, "region was"),
    ],
)
def test_checkpoint_of_another_call_is_refused(tmp_path, change, word):
    path = tmp_path / "rate.h5"
    given = {"process": well(10), "x0": [-1.0], "region": BEYOND, "checkpoint": path, "threads": 1, **QUICK, "runs": 3}
    fps.multilevel_splitting(**given)
    with pytest.raises(ValueError, match=word):
        fps.multilevel_splitting(**{**given, **change})
