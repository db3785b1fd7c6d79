"""Coefficients that depend on time: moments in closed form, order in time, schedules of SGD, and what is refused."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.integrate import solve_ivp

import fpsolve as fps
from fpsolve import _follow, _frozen, _markov
from fpsolve._trbdf2 import TrBdf2


def trap(D=0.25):
    return fps.Process(fps.Potential.from_expression("k*(x - c)**2/2", params={"k": 1.0, "c": 0.0}), fps.Noise.isotropic(D))


def moving():
    """A trap that moves and breathes, with noise that changes: Gaussian at all times."""
    return fps.Driven(
        trap(), params=lambda t: {"c": np.sin(2 * t), "k": 1 + 0.5 * np.cos(3 * t)}, noise=lambda t: 1 + 0.5 * np.sin(t)
    )


def moments(t):
    """Mean and variance of `moving` from N(1, 0.1), from their equations."""

    def slope(t, y):
        k, c, D = 1 + 0.5 * np.cos(3 * t), np.sin(2 * t), 0.25 * (1 + 0.5 * np.sin(t))
        return [-k * (y[0] - c), -2 * k * y[1] + 2 * D]

    return solve_ivp(slope, (0, t), [1.0, 0.1], rtol=1e-11, atol=1e-12).y[:, -1]


@pytest.mark.parametrize("method", [None, "chebyshev", "positive", "tr-bdf2"])
def test_moments_of_a_moving_trap(method):
    """Both moments to second order in the cell width, at times inside the steps too; mass to 1e-12."""
    errors = []
    for n in (100, 200):
        fp = fps.FokkerPlanck(moving(), fps.Grid((-4, 4, n)))
        series = fp.evolve(("gaussian", [1.0], [[0.1]]), [0.0, 0.77, 1.5], rtol=1e-4, method=method)
        assert all(abs(p.mass - 1.0) < 1e-12 for p in series)
        found = [np.append(p.mean(), p.covariance()) for p in series[1:]]
        errors.append(max(np.abs(a - moments(t)).max() for a, t in zip(found, (0.77, 1.5), strict=True)))
        if method == "positive":
            assert series.values.min() >= 0.0
    assert errors[1] < 1e-3 and 1.7 < np.log2(errors[0] / errors[1]) < 2.4, errors
    assert ("exponential midpoint" in series.solver_info["method"]) == (method != "tr-bdf2")


def test_second_order_in_time_and_the_error_is_covered():
    """Equal steps of the exponential midpoint rule against a solution with a hundredth of the tolerance on the same grid."""
    fp = fps.FokkerPlanck(moving(), fps.Grid((-4, 4, 80)))
    start = np.exp(-((fp.grid.centers[0] - 1.0) ** 2) / 0.2)
    start /= start.sum()
    exact, _ = _follow.evolve_driven(fp._frozen, start, np.array([1.0]), rtol=1e-6, method=None, shape=(80,))
    errors = []
    for steps in (4, 8, 16):
        p = start
        for k in range(steps):
            rates, kill = fp._frozen((k + 0.5) / steps)
            p = _markov.evolve(rates, kill, p, [1.0 / steps], rtol=1e-10, method="uniformisation")[0][0]
        errors.append(np.abs(p - exact[0]).sum())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) < 0.15), orders
    for rtol in (1e-2, 1e-3):
        p, info = _follow.evolve_driven(fp._frozen, start, np.array([0.4, 1.0]), rtol=rtol, method=None, shape=(80,))
        assert np.abs(p[1] - exact[0]).sum() < info["error"][1] <= rtol


def cases():
    well = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.3))
    yield moving(), fps.Grid((-4, 4, 60)), 1.0, 4.0
    yield fps.Driven(well, noise=lambda t: 1 / (1 + t)), fps.Grid((-2.5, 2.5, 60)), 0.5, 10.0
    yield fps.Driven(trap(), params=lambda t: {"c": t, "k": 1 + t}), fps.Grid((-4, 4, 60)), 0.0, 2.0
    yield fps.Driven(trap(), params=lambda t: {"c": np.sin(12 * t)}), fps.Grid((-4, 4, 60)), 0.0, 1.5
    yield fps.Driven(trap(), params=lambda t: {"c": 1.0 + t if 0.5 < t < 0.6 else 0.0}), fps.Grid((-4, 4, 60)), 1.0, 1.0


def exact_masses(fp, p0, times):
    """Masses at `times` by SciPy's Radau, piece by piece between the jumps of the coefficients."""
    driven, out, now, p = fp.driven, [], 0.0, p0
    for later in sorted({*_frozen.find_jumps(driven.values, times[-1]), *times}):

        def matrix(t, now=now, later=later):
            rates, kill = fp._frozen(min(max(t, now), later - 1e-13))
            return (rates - sp.diags(np.asarray(rates.sum(axis=1)).ravel() + kill)).T.toarray()

        p = solve_ivp(lambda t, y: matrix(t) @ y, (now, later), p, "Radau", rtol=1e-7, atol=1e-10, jac=lambda t, y: matrix(t)).y[
            :, -1
        ]
        now = later
        if later in times:
            out.append(p)
    return np.array(out)


@pytest.mark.parametrize("case", range(5))
def test_the_stated_error_is_that_of_the_solution(case):
    """Against Radau: never below the true error, at the end at most 3 times it (sums of defects: 4 to 40), whatever the method."""
    driven, grid, start, end = list(cases())[case]
    fp, x = fps.FokkerPlanck(driven, grid), grid.centers[0]
    p0, times = np.exp(-((x - start) ** 2) / 0.1), np.array([0.3, 0.77, 1.0]) * end
    p0 /= p0.sum()
    exact = exact_masses(fp, p0, times)
    for method, rtol in ((None, 1e-2), (None, 1e-3), ("magnus", 1e-3), ("tr-bdf2", 1e-2), ("tr-bdf2", 1e-3)):
        p, info = _follow.evolve_driven(fp._frozen, p0, times, rtol=rtol, method=method, shape=grid.shape, values=driven.values)
        true = np.abs(p - exact).sum(axis=1)
        assert np.all(true <= info["error"] + 1e-8) and np.all(info["error"] <= 1.1 * rtol), (method, rtol, true, info["error"])
        assert info["error"][-1] <= 3.0 * true[-1], (method, rtol, info["error"] / true)
        assert np.all(2.0 * np.maximum(-p, 0.0).sum(axis=1) <= info["error"])
        assert np.abs(p.sum(axis=1) - 1.0).max() < 1e-12


def test_steps_end_where_coefficients_jump():
    """A staircase is a product of exponentials, one per stair; a pulse of a hundredth is found; smooth ones have no jumps."""
    stairs = fps.Driven(trap(), noise=lambda t: 1.0 / (1 + int(t / 0.37)))
    assert np.allclose(_frozen.find_jumps(stairs.values, 2.0), 0.37 * np.arange(1, 6), atol=1e-12)
    fp = fps.FokkerPlanck(stairs, fps.Grid((-4, 4, 60)))
    p = fp.evolve(("gaussian", [1.0], [[0.1]]), 2.0, rtol=1e-6)
    mass = fp.evolve(("gaussian", [1.0], [[0.1]]), 0.0).cell_mass
    for k in range(6):
        rates, kill = fp._frozen(0.37 * (k + 0.5))
        mass = _markov.evolve(rates, kill, np.maximum(mass, 0.0), [min(2.0, 0.37 * (k + 1)) - 0.37 * k], rtol=1e-10)[0][0]
    assert np.abs(p.cell_mass - mass).sum() < 1e-6 and p.solver_info["steps"] < 15
    pulse = fps.Driven(trap(), params=lambda t: {"c": float(0.5 < t < 0.51), "k": 1 + t})
    assert np.allclose(_frozen.find_jumps(pulse.values, 1.0), [0.5, 0.51], atol=1e-12)
    for smooth in (moving(), fps.Driven(trap(), noise=lambda t: 1 + np.tanh(300 * (t - 0.4)))):
        assert _frozen.find_jumps(smooth.values, 1.0) == []


def equal_steps(fp, p, end, steps):
    """TR-BDF2 in so many equal steps: masses, and the last step."""
    method = TrBdf2(_frozen.Frozen(fp._frozen, [], end), fp.grid.shape, 1.0, 1e-3)
    times = np.linspace(0.0, end, steps + 1)
    for now, later in zip(times, times[1:], strict=False):
        last = method.step(p, now, later, 1.0)
        p = last.masses
    return p, last


def test_tr_bdf2_is_of_second_order_and_knows_what_it_misses():
    """Smooth start; the embedded defect is the local error to leading order, the Hermite polynomial between is of fourth order."""
    fp = fps.FokkerPlanck(moving(), fps.Grid((-4, 4, 60)))
    p0 = np.exp(-((fp.grid.centers[0] - 0.3) ** 2) / 0.5)
    p0 /= p0.sum()
    exact = exact_masses(fp, p0, [1.0])[0]
    errors = [np.abs(equal_steps(fp, p0, 1.0, steps)[0] - exact).sum() for steps in (20, 40, 80)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) < 0.1), orders
    local, between = [], []
    for h in (0.04, 0.02):
        p, last = equal_steps(fp, p0, h, 1)
        middle, end = exact_masses(fp, p0, [0.5 * h, h])
        local.append(np.abs(end - p - last.defect).sum() / np.abs(end - p).sum())
        zero = np.zeros(p.size)
        # what is left when the error of the end, whose polynomial is known, is taken off
        between.append(np.abs(last.between(0.5 * h, zero, zero)[0] - middle).sum())
    assert local[1] < 0.05 and between[0] > 5.0 * between[1], (local, between)


def test_tr_bdf2_damps_what_is_stiff():
    """One step of a thousand times the slowest relaxation, from a single cell, ends near the stationary law: L-stable."""
    fp = fps.FokkerPlanck(fps.Driven(trap(), noise=lambda t: 1.0), fps.Grid((-4, 4, 60)))
    p0 = np.zeros(60)
    p0[10] = 1.0
    p, _ = equal_steps(fp, p0, 1000.0, 1)
    assert np.abs(p - fp.stationary().cell_mass).sum() < 0.02 and abs(p.sum() - 1.0) < 1e-12


def test_the_cheaper_method_is_chosen():
    """Narrow starts and staircases go by exponentials, smooth slow driving on fine cells by TR-BDF2, space by exponentials."""
    fine = fps.FokkerPlanck(moving(), fps.Grid((-4, 4, 400)))
    info = fine.evolve(("gaussian", [1.0], [[0.1]]), 2.0, rtol=1e-3).solver_info
    named = {
        name: fine.evolve(("gaussian", [1.0], [[0.1]]), 2.0, rtol=1e-3, method=name).solver_info for name in ("magnus", "tr-bdf2")
    }
    assert "TR-BDF2" in info["method"] and named["tr-bdf2"]["method"] == "TR-BDF2" and "TR-BDF2" not in named["magnus"]["method"]
    assert named["magnus"]["steps"] < info["steps"] <= 1.1 * named["tr-bdf2"]["steps"]
    stairs = fps.Driven(trap(), noise=lambda t: 1.0 / (1 + int(t / 0.37)))
    info = fps.FokkerPlanck(stairs, fps.Grid((-4, 4, 400))).evolve(("gaussian", [1.0], [[0.001]]), 2.0, rtol=1e-3).solver_info
    assert "TR-BDF2" not in info["method"]
    U = fps.Potential.from_expression("(x - c)**2/2 + y**2/2 + z**2/2", "x y z", params={"c": 0.0})
    space = fps.Driven(fps.Process(U, fps.Noise.isotropic(0.5)), params=lambda t: {"c": np.sin(t)})
    start = ("gaussian", [0.5, 0.0, 0.0], 0.3 * np.eye(3))
    info = fps.FokkerPlanck(space, fps.Grid((-4, 4, 20), (-4, 4, 20), (-4, 4, 20))).evolve(start, 0.5, rtol=1e-2).solver_info
    assert "TR-BDF2" not in info["method"]


def test_tr_bdf2_steps_end_where_coefficients_jump():
    """Against Radau stair by stair, also with a jump at the very end, whose side the last step must not see."""
    stairs = fps.Driven(trap(), params=lambda t: {"c": float(t >= 0.5)}, noise=lambda t: 1.0 + 3.0 * (t >= 1.0))
    fp = fps.FokkerPlanck(stairs, fps.Grid((-4, 4, 60)))
    p0 = np.exp(-(fp.grid.centers[0] ** 2) / 0.5)
    p0 /= p0.sum()
    p, info = _follow.evolve_driven(
        fp._frozen, p0, np.array([0.5, 1.0]), rtol=1e-3, method="tr-bdf2", shape=(60,), values=stairs.values
    )
    true = np.abs(p - exact_masses(fp, p0, [0.5, 1.0])).sum(axis=1)
    assert np.all(true <= info["error"]) and info["error"][-1] < 3.0 * true[-1] and info["steps"] < 60


def test_absorbing_sides_and_planes_with_tr_bdf2():
    """What is left agrees with the exponentials; negative parts stay below half of the stated error."""
    U = fps.Potential.from_expression("(x - c)**2/2 + y**2/2 + x*y/4", "x y", params={"c": 0.0})
    tilted = fps.Driven(fps.Process(U, fps.Noise.isotropic(0.4)), params=lambda t: {"c": 1.5 * np.sin(t)})
    fp = fps.FokkerPlanck(tilted, fps.Grid((-3, 2, 24), (-3, 3, 24), boundary=[("reflecting", "absorbing"), "reflecting"]))
    start = ("gaussian", [0.0, 0.0], 0.2 * np.eye(2))
    p, q = (fp.evolve(start, 1.0, rtol=rtol, method=m) for rtol, m in ((1e-3, "tr-bdf2"), (1e-4, "magnus")))
    assert 0.5 < q.mass < 0.99 and np.abs(p.cell_mass - q.cell_mass).sum() < p.solver_info["error"][0] + 1e-4 < 1.2e-3
    assert p.negative_mass <= 0.5 * p.solver_info["error"][0]
    with pytest.raises(ValueError, match="Driven"):
        fps.FokkerPlanck(tilted.at(0.0), fp.grid).evolve(start, 1.0, method="tr-bdf2")


def test_a_common_factor_of_drift_and_noise_is_a_change_of_time():
    """Generator r(t) G: the density is that of G at the integral of r, in a plane with a current and state-dependent noise."""

    def drift(s):
        return [f"{s}*(-x - 2*y)", f"{s}*(2*x - y)"]

    tensor = [["0.4 + 0.1*x**2", "0.1"], ["0.1", "0.3"]]
    base = fps.Process.from_drift(drift("1"), fps.Noise.from_expression(tensor, "x y"), variables="x y")
    scaled = fps.Process.from_drift(drift("r"), fps.Noise.from_expression(tensor, "x y"), variables="x y", params={"r": 1.0})
    driven = fps.Driven(scaled, params=lambda t: {"r": 1 + t}, noise=lambda t: 1 + t)
    grid, start = fps.Grid((-3, 3, 24), (-3, 3, 24)), ("gaussian", [1.0, 0.0], 0.2 * np.eye(2))
    p = fps.FokkerPlanck(driven, grid).evolve(start, 0.6, rtol=1e-4)
    other = fps.FokkerPlanck(base, grid).evolve(start, 0.6 + 0.18, rtol=1e-8)
    assert np.abs(p.cell_mass - other.cell_mass).sum() < 1e-4


def test_a_schedule_of_sgd_against_its_own_chain():
    """lr falls to a third, the batch doubles: variances of the diffusion and of the chain that simulate runs, by its recursion."""
    h, C, lr0 = 1.0, 2.0, 0.02
    lr, batch = (lambda k: lr0 / (1 + 0.01 * k)), (lambda k: 2 if k < 50 else 4)
    chain = fps.SGDChain.gaussian(
        fps.Potential.from_expression("x**2/2"), fps.Noise.covariance([[C]], lr=lr0, batch=2), lr=lr, batch=batch
    )
    driven = fps.Driven.from_chain(chain, 200)
    grid = fps.Grid((-1.5, 1.5, 300))
    p = fps.FokkerPlanck(driven, grid).evolve(("gaussian", [0.5], [[0.01]]), driven.end, rtol=1e-3)
    mean, variance = 0.5, 0.01
    for k in range(200):
        mean, variance = (1 - lr(k) * h) * mean, (1 - lr(k) * h) ** 2 * variance + lr(k) ** 2 * C / batch(k)
    # the diffusion differs from the chain by a relative lr h/2 per relaxation time: 1 % and 2 % here
    assert p.mean()[0] == pytest.approx(mean, rel=0.04)
    assert p.covariance()[0, 0] == pytest.approx(variance, rel=0.04)
    assert driven.at(0.0).diffusion([0.0])[0, 0] == pytest.approx(lr0 * C / (2 * 2), rel=1e-12)
    with pytest.raises(ValueError, match="200 iterations"):
        driven.at(2 * driven.end)


def test_readings_other_than_ito_scale_with_the_noise():
    """Stratonovich, Klimontovich and reversible processes at twice the noise (roots are differentiated numerically)."""
    noise, twice = fps.Noise.from_expression("0.1 + 0.05*x**2"), fps.Noise.from_expression("0.2 + 0.1*x**2")
    U, x = fps.Potential.from_expression("x**4/4"), np.linspace(-2, 2, 9)[:, None]
    for reading in ("ito", "stratonovich", "klimontovich"):
        a, b = fps.Driven(fps.Process(U, noise, reading), noise=lambda t: 2.0).at(1.0), fps.Process(U, twice, reading)
        for name in ("drift", "diffusion", "divergence", "factor"):
            assert np.allclose(getattr(a, name)(x), getattr(b, name)(x), rtol=1e-8, atol=1e-9), (reading, name)
    a, b = fps.Driven(fps.Process.reversible(U, noise), noise=lambda t: 2.0).at(1.0), fps.Process.reversible(U, twice)
    assert np.allclose(a.drift(x), b.drift(x)) and np.allclose(a.log_density(x), b.log_density(x))
    flat = fps.Driven(trap(0.25), noise=lambda t: 3.0).at(0.0)
    assert flat.isotropic_diffusion == 0.75 and np.allclose(flat.log_density(x), -(x[:, 0] ** 2) / 2 / 0.75)


def test_everything_else_is_for_the_frozen_process():
    """Stationary density at time 0 and, with at(), at another time; the solver on another grid is driven too."""
    fp = fps.FokkerPlanck(moving(), fps.Grid((-4, 4, 128)))
    assert fp.stationary().mean()[0] == pytest.approx(0.0, abs=1e-10)
    later = fps.FokkerPlanck(moving().at(0.5), fps.Grid((-4, 4, 128)))
    assert later.stationary().mean()[0] == pytest.approx(np.sin(1.0), abs=1e-4)
    assert fp.refine().driven is fp.driven


def test_refusals():
    process = trap()
    for wrong, error, match in (
        (lambda: fps.Driven("x"), TypeError, "needs a Process"),
        (lambda: fps.Driven(process), ValueError, "nothing changes"),
        (lambda: fps.Driven(process, params={"k": 1.0}), TypeError, "function of the time"),
        (lambda: fps.Driven(process, params=lambda t: {"q": t}), ValueError, "unknown parameters"),
        (lambda: fps.Driven(process, params=lambda t: 1.0), TypeError, "mapping"),
        (lambda: fps.Driven(process, noise=lambda t: -1.0), ValueError, ">= 0"),
        (lambda: fps.Driven.from_chain(process, 10), TypeError, "SGDChain.gaussian"),
    ):
        with pytest.raises(error, match=match):
            wrong()
    jumping = fps.Driven(process, noise=lambda t: 1.0 if t < 0.5 else np.nan)
    with pytest.raises(ValueError, match="t = 0"):
        fps.FokkerPlanck(jumping, fps.Grid((-4, 4, 50))).evolve(("gaussian", [0.0], [[0.1]]), 1.0)


@pytest.mark.parametrize(
    "options, kind, said",
    [
        ({"noise": lambda t: 1.0 / t}, ValueError, "noise failed at t = 0: ZeroDivisionError"),
        ({"noise": lambda t: None}, TypeError, "noise must be a number, got NoneType"),
        ({"params": lambda t: {"k": "a"}}, TypeError, "must be a number, got str: 'a' at t = 0"),
        ({"params": lambda t: {"k": np.ones(2)}}, TypeError, "must be a number, got ndarray"),
        ({"params": lambda t: {"k": [1.0, 2.0][int(t) + 2]}}, ValueError, "params failed at t = 0: IndexError"),
    ],
)
def test_what_a_function_of_time_does_wrong_is_said_in_words(options, kind, said):
    trap = fps.Process(fps.Potential.from_expression("k*x**2/2", params={"k": 1.0}), fps.Noise.isotropic(0.5))
    with pytest.raises(kind, match=re.escape(said)):
        fps.Driven(trap, **options)


def test_tolerances_below_rounding_are_refused_before_any_work():
    trap = fps.Process(fps.Potential.from_expression("x**2/2"), fps.Noise.isotropic(0.5))
    fp = fps.FokkerPlanck(fps.Driven(trap, noise=lambda t: 1.0 + t), fps.Grid((-4, 4, 40)))
    with pytest.raises(ValueError, match=r"rtol must lie in \[1e-11, 1\), got 1e-16"):
        fp.evolve(("gaussian", [0.0], [[0.3]]), 1.0, rtol=1e-16)
