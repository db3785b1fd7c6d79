"""Paths whose coefficients depend on time: laws in closed form, the Fokker-Planck engine, exits, every kernel, bits, refusals.

The coefficients of a step are those of its middle. z is a difference in statistical errors; z < 4 for a Gaussian number has a false
alarm of 6e-5.
"""

import math

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import fpsolve as fps
from fpsolve._codegen import loaded_modules


def trap(D=0.25):
    return fps.Process(fps.Potential.from_expression("k*(x - c)**2/2", params={"k": 1.0, "c": 0.0}), fps.Noise.isotropic(D))


def stiffness(t):
    return 1.0 + 0.5 * math.cos(3.0 * t)


def center(t):
    return math.sin(2.0 * t)


def level(t):
    return 1.0 + 0.5 * math.sin(t)


def moving(D=0.25):
    return fps.Driven(trap(D), params=lambda t: {"c": center(t), "k": stiffness(t)}, noise=level)


def moments(t):
    """Mean and variance of `moving` from the point 1, by the quadrature of their equations."""

    def slope(s, y):
        return [-stiffness(s) * (y[0] - center(s)), -2.0 * stiffness(s) * y[1] + 0.5 * level(s)]

    return solve_ivp(slope, (0, t), [1.0, 0.0], rtol=1e-11, atol=1e-12).y[:, -1]


def z_scores(x, mean, variance):
    """Of the mean and the variance of Gaussian numbers."""
    return (x.mean() - mean) / math.sqrt(variance / x.size), (np.mean((x - mean) ** 2) / variance - 1) / math.sqrt(2 / x.size)


@pytest.mark.parametrize("method", ["heun", "weak2", "sra15"])
def test_moments_of_a_moving_trap(method):
    """Rate, centre and noise move; dt = 0.02 with an error dt^2, a tenth of a statistical one. z < 4: 4e-4 in all."""
    x = fps.simulate(moving(), [1.0], t=1.5, dt=0.02, n=40000, method=method, seed=3).final[:, 0]
    assert np.abs(z_scores(x, *moments(1.5))).max() < 4.0


@pytest.mark.parametrize("method", ["euler", "milstein"])
def test_euler_is_its_own_recursion_with_the_coefficients_of_the_middle(method):
    """dt = 0.1, where the left ends of the steps would be ten errors away: mean and variance by hand. z < 4: 2.5e-4."""
    h, steps, mean, variance = 0.1, 5, 1.0, 0.0
    left = 1.0
    for k in range(steps):
        t = (k + 0.5) * h
        mean = mean - h * stiffness(t) * (mean - center(t))
        variance = (1.0 - h * stiffness(t)) ** 2 * variance + 2.0 * h * 0.25 * level(t)
        left = left - h * stiffness(k * h) * (left - center(k * h))
    x = fps.simulate(moving(), [1.0], t=0.5, dt=h, n=40000, method=method, seed=4).final[:, 0]
    assert np.abs(z_scores(x, mean, variance)).max() < 4.0
    assert abs(x.mean() - left) > 10.0 * math.sqrt(variance / x.size)


def test_orders_in_the_step():
    """Without noise the means are all there is: first order for euler, second for the others."""
    exact = moments(1.5)[0]
    for method, order in (("euler", 1.0), ("heun", 2.0), ("weak2", 2.0), ("sra15", 2.0)):
        errors = [
            abs(fps.simulate(moving(0.0), [1.0], t=1.5, dt=1.5 / n, n=1, method=method, seed=1).final[0, 0] - exact)
            for n in (30, 60, 120)
        ]
        orders = np.log2(np.array(errors[:-1]) / errors[1:])
        assert np.all(np.abs(orders - order) < 0.15), (method, errors)


@pytest.mark.parametrize("reading", ["ito", "stratonovich", "klimontovich", "reversible"])
def test_readings_against_the_fokker_planck_engine(reading):
    """Noise of state and time: what D adds to the drift is multiplied too. Mean and variance of 40000 paths, z < 4.5: 6e-5 in all.

    Both errors in the step and of the grid are below a fifth of a statistical error (measured by halving).
    """
    U, noise = fps.Potential.from_expression("(x**2 - a)**2/4", params={"a": 1.0}), fps.Noise.from_expression("0.2*(1 + x**2/2)")
    process = fps.Process.reversible(U, noise) if reading == "reversible" else fps.Process(U, noise, reading)
    driven = fps.Driven(process, params=lambda t: {"a": 1.0 + t}, noise=lambda t: 1.0 + 3.0 * t)
    grid = fps.Grid((-4.0, 4.0, 400))
    p = fps.FokkerPlanck(driven, grid).evolve(("gaussian", [0.5], [[0.04]]), 0.8, rtol=1e-4)
    n = 40000
    x = fps.simulate(driven, lambda rng, n: 0.5 + 0.2 * rng.normal(size=(n, 1)), t=0.8, dt=0.01, n=n, method="weak2", seed=7).final[
        :, 0
    ]
    mean, variance = p.mean()[0], p.covariance()[0, 0]
    assert abs(x.mean() - mean) < 4.5 * math.sqrt(variance / n)
    squares = (x - mean) ** 2
    assert abs(squares.mean() - variance) < 4.5 * squares.std() / math.sqrt(n)


def test_a_plane_whose_drift_and_tensor_turn():
    """D linear in x and a linear drift: mean and covariance obey closed equations. Five moments, 40000 paths, z < 4.5: 4e-5."""
    tensor = [["0.3 + 0.05*s*x", "0.1*s"], ["0.1*s", "0.3"]]
    noise = fps.Noise.from_expression(tensor, "x y", params={"s": 0.0})
    process = fps.Process.from_drift(["-x + w*y", "-w*x - y"], noise, variables="x y", params={"w": 0.0})
    driven = fps.Driven(process, params=lambda t: {"w": 2 * t, "s": math.sin(3 * t)}, noise=lambda t: 1 / (1 + t))

    def slope(t, y):
        w, s, mean, S = 2 * t, math.sin(3 * t), y[:2], y[2:].reshape(2, 2)
        A = np.array([[-1.0, w], [-w, -1.0]])
        D = np.array([[0.3 + 0.05 * s * mean[0], 0.1 * s], [0.1 * s, 0.3]]) / (1 + t)
        return np.concatenate([A @ mean, (A @ S + S @ A.T + 2 * D).ravel()])

    start = np.array([0.8, 0.0])
    y = solve_ivp(slope, (0, 1.0), np.concatenate([start, np.zeros(4)]), rtol=1e-11, atol=1e-12).y[:, -1]
    n, mean, S = 40000, y[:2], y[2:].reshape(2, 2)
    for method, dt in (("weak2", 0.02), ("euler", 0.002)):
        x = fps.simulate(driven, start, t=1.0, dt=dt, n=n, method=method, seed=5).final
        assert np.all(np.abs(x.mean(axis=0) - mean) < 4.5 * np.sqrt(np.diag(S) / n))
        products = np.einsum("ni,nj->nij", x - mean, x - mean)
        assert np.all(np.abs(products.mean(axis=0) - S) < 4.5 * products.std(axis=0) / math.sqrt(n))


def test_python_functions_and_tables():
    """A compiled landscape and a tabulated tensor (its packed table is an array): the same paths as from expressions."""
    U = fps.Potential(
        lambda x, p: 0.5 * p[0] * (x[0] - p[1]) ** 2, lambda x, p: (p[0] * (x[0] - p[1]),), dim=1, params={"k": 1.0, "c": 0.0}
    )
    args = {"x0": [1.0], "t": 1.5, "dt": 0.05, "n": 300, "seed": 2}
    plain = fps.simulate(moving(), **args).final
    for process in (fps.Process(U, fps.Noise.isotropic(0.25)), fps.Process(U, fps.Noise.from_expression("0.25"))):
        driven = fps.Driven(process, params=lambda t: {"c": center(t), "k": stiffness(t)}, noise=level)
        assert np.allclose(fps.simulate(driven, **args).final, plain, atol=1e-12)


def test_what_never_changes_is_the_process_bit_for_bit():
    """simulate, with every statistic, and escape_times; `at` gives a process that the paths engine scales too."""
    process, region = trap(), fps.Region.ball([0.0], 1.2)
    same = fps.Driven(process, params=lambda t: {"k": 1.0, "c": 0.0}, noise=lambda t: 1.0)
    for save in ("final", "moments"):
        common = {"x0": [0.5], "t": 5.0, "dt": 0.05, "n": 300, "seed": 1, "save": save}
        a, b = fps.simulate(process, **common), fps.simulate(same, **common)
        assert np.array_equal(a.final, b.final) and np.array_equal(np.asarray(a.covariance), np.asarray(b.covariance))
    a, b = (fps.escape_times(c, [0.5], region, n=300, dt=0.05, t_max=20.0, seed=1) for c in (process, same))
    assert np.array_equal(np.sort(a.times), np.sort(b.times))
    frozen, twice = fps.Driven(process, noise=lambda t: 2.0).at(1.0), trap(0.5)
    common = {"x0": [0.5], "t": 5.0, "dt": 0.05, "n": 300, "seed": 1}
    assert np.allclose(fps.simulate(frozen, **common).final, fps.simulate(twice, **common).final, atol=1e-12)


def test_exits_under_a_change_of_time():
    """Brownian motion in an interval with D r(t), r = 1 + t: the integral of r up to the exit has the law of the exit at D.

    Exact mean 1 and variance 2/3 for D = 1/2 and the unit interval (the bridge leaves an error of order dt, below 0.004, half of an
    error of 10000 paths). z < 4 for the mean: 6e-5.
    """
    flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
    out = fps.escape_times(
        fps.Driven(flat, noise=lambda t: 1.0 + t), [0.0], fps.Region.box([-1.0], [1.0]), n=10000, dt=0.005, seed=2
    )
    clock = out.times + 0.5 * out.times**2
    assert abs(clock.mean() - 1.0) < 4.0 * math.sqrt(2.0 / 3.0 / 10000)
    assert not out.censored.any()


def variance_of(rate, D, r, t):
    return 2.0 * D * quad(lambda s: r(s) * math.exp(-2.0 * rate * (t - s)), 0.0, t, epsabs=1e-13)[0]


@pytest.mark.parametrize("dim", [10, 24])
def test_noise_that_moves_in_many_dimensions(dim):
    """Linear processes through the matrix kernel: the sum of all variances has a relative error sqrt(2/(n dim)); z < 4, 6e-5."""
    A, n = np.diag(np.linspace(0.5, 1.5, dim)), 4000
    driven = fps.Driven(fps.Process.ornstein_uhlenbeck(A, fps.Noise.isotropic(0.3)), noise=level)
    x = fps.simulate(driven, np.zeros(dim), t=1.0, dt=0.02, n=n, method="heun", seed=6).final
    exact = np.array([variance_of(a, 0.3, level, 1.0) for a in np.diag(A)])
    assert abs(np.mean(x**2 / exact) - 1.0) < 4.0 * math.sqrt(2.0 / (n * dim))


def test_wide_kernels_scale_the_noise_and_the_bridge():
    """20-D through the wide kernels: Gaussian variance, and exits of one coordinate under the change of time; z < 4, 2e-4."""
    dim, n = 20, 3000
    text = " + ".join(f"0*x{i}" for i in range(dim))
    names = " ".join(f"x{i}" for i in range(dim))
    U = fps.Potential.from_expression(text, variables=names)
    driven = fps.Driven(fps.Process(U, fps.Noise.isotropic(0.5)), noise=lambda t: 1.0 + t)
    x = fps.simulate(driven, np.zeros(dim), t=1.0, dt=0.1, n=n, seed=6).final
    assert abs(np.mean(x**2) / 1.5 - 1.0) < 4.0 * math.sqrt(2.0 / (n * dim))
    low, high = np.full(dim, -1e6), np.full(dim, 1e6)
    low[3], high[3] = -1.0, 1.0
    out = fps.escape_times(driven, np.zeros(dim), fps.Region.box(low, high), n=n, dt=0.02, seed=2)
    clock = out.times + 0.5 * out.times**2
    assert abs(clock.mean() - 1.0) < 4.0 * math.sqrt(2.0 / 3.0 / n)
    frozen = fps.simulate(driven.at(1.0), np.zeros(dim), t=1.0, dt=0.1, n=n, seed=6).final
    assert abs(np.mean(frozen**2) / 2.0 - 1.0) < 4.0 * math.sqrt(2.0 / (n * dim))


def test_a_new_schedule_compiles_nothing():
    args = {"x0": [1.0], "t": 0.5, "dt": 0.05, "n": 10, "seed": 2}
    fps.simulate(moving(), **args)
    before = len(loaded_modules())
    other = fps.Driven(trap(), params=lambda t: {"c": t, "k": 2.0 if t < 0.2 else 1.0}, noise=lambda t: 3.0)
    fps.simulate(other, **args)
    assert len(loaded_modules()) == before


def test_a_schedule_of_sgd_follows_the_clock_of_the_process():
    """Driven.from_chain: variance of a quadratic by quadrature with r(t); later times are refused at once. z < 4: 1.3e-4."""
    noise = fps.Noise.covariance([[2.0]], lr=0.02, batch=2)
    chain = fps.SGDChain.gaussian(fps.Potential.from_expression("x**2/2"), noise, lr=lambda k: 0.02 / (1 + 0.01 * k))
    driven = fps.Driven.from_chain(chain, 200)
    t = 2.0
    x = fps.simulate(driven, [0.0], t=t, dt=0.01, n=20000, method="heun", seed=8).final[:, 0]
    r = np.vectorize(lambda s: driven.at(s).diffusion([0.0])[0, 0] / 0.01)
    s = np.linspace(0.0, t, 4001)
    variance = 2 * 0.01 * np.trapezoid(r(s) * np.exp(-2 * (t - s)), s)
    assert np.abs(z_scores(x, 0.0, variance)).max() < 4.0
    with pytest.raises(ValueError, match="200 iterations"):
        fps.simulate(driven, [0.0], t=4.0, dt=0.0125, n=10, seed=1)


def test_checkpoints_know_the_schedule(tmp_path):
    file = tmp_path / "run.h5"
    args = {"x0": [1.0], "t": 0.5, "dt": 0.05, "n": 10, "seed": 2, "checkpoint": file}
    first = fps.simulate(moving(), **args).final
    assert np.array_equal(fps.simulate(moving(), **args).final, first)
    with pytest.raises(ValueError, match="another call"):
        fps.simulate(fps.Driven(trap(), noise=level), **args)
    with pytest.raises(ValueError, match="another call"):
        fps.simulate(
            fps.Driven(trap(), params=lambda t: {"c": center(t), "k": stiffness(t)}, noise=lambda t: level(t) + 1e-12), **args
        )


def test_refusals():
    common = {"x0": [1.0], "t": 1.0, "dt": 0.05, "n": 10, "seed": 2}
    with pytest.raises(ValueError, match="schedule"):
        fps.simulate(moving(), **common, precision="single")
    with pytest.raises(ValueError, match="dt is missing"):
        fps.simulate(moving(), [1.0], t=1.0, n=10)
    broken = fps.Driven(trap(), noise=lambda t: 1.0 if abs(t - 0.6) > 0.1 else math.nan)
    with pytest.raises(ValueError, match=r"t = 0\.525"):
        fps.simulate(broken, **common)
    text, names = " + ".join(f"a*x{i}**4" for i in range(18)), " ".join(f"x{i}" for i in range(18))
    wide = fps.Process(fps.Potential.from_expression(text, variables=names, params={"a": 1.0}), fps.Noise.isotropic(0.5))
    with pytest.raises(ValueError, match="16 dimensions"):
        fps.simulate(fps.Driven(wide, params=lambda t: {"a": t}), np.zeros(18), t=1.0, dt=0.05, n=10)
    spread = fps.Noise.diagonal([f"1 + x{i}**2" for i in range(18)], variables=names)
    with pytest.raises(ValueError, match="free of D"):
        fps.Driven(fps.Process(wide.potential, spread, "klimontovich"), noise=lambda t: 1.0)
