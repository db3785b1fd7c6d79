"""Path ensembles beside vectorised NumPy: particle-steps of the same Euler scheme on the same problem, one core."""

import numpy as np
import pytest

import fpsolve as fps

N, STEPS, DT = 10_000, 1000, 1e-3


def numpy_additive(seed):
    """U = (x^2 - 1)^2 + y^2/2, D = 0.2."""
    rng = np.random.Generator(np.random.SFC64(seed))
    x, y, s = np.full(N, -1.0), np.zeros(N), np.sqrt(2 * 0.2 * DT)
    for _ in range(STEPS):
        x, y = x - 4 * x * (x * x - 1) * DT + s * rng.standard_normal(N), y - y * DT + s * rng.standard_normal(N)
    return x, y


def numpy_tensor(seed):
    """The same landscape with D = [[.2 (1 + x^2/4), .08 x], [.08 x, .1 + .1 x^2]], Cholesky factor."""
    rng = np.random.Generator(np.random.SFC64(seed))
    x, y, s = np.full(N, -1.0), np.zeros(N), np.sqrt(2 * DT)
    for _ in range(STEPS):
        a = np.sqrt(0.2 * (1 + x * x / 4))
        b = 0.08 * x / a
        c = np.sqrt(0.1 + 0.1 * x * x - b * b)
        u, v = rng.standard_normal(N), rng.standard_normal(N)
        x, y = x - 4 * x * (x * x - 1) * DT + s * a * u, y - y * DT + s * (b * u + c * v)
    return x, y


def numpy_escape(seed):
    """1-D double well, D = 0.2, first passage of x = 1, arrays compacted as paths leave; no correction inside the step."""
    rng = np.random.Generator(np.random.SFC64(seed))
    x, s, steps = np.full(1000, -1.0), np.sqrt(2 * 0.2 * 0.01), 0
    while x.size:
        x = x - 4 * x * (x * x - 1) * 0.01 + s * rng.standard_normal(x.size)
        steps += x.size
        x = x[x < 1.0]
    return steps


def numpy_stable(seed, alpha=1.5):
    """2-D quadratic well, independent alpha-stable components after Chambers, Mallows and Stuck."""
    rng = np.random.Generator(np.random.SFC64(seed))
    x, s = np.zeros((2, N)), 0.5 * DT ** (1 / alpha)
    for _ in range(STEPS):
        phi, w = np.pi * (rng.random((2, N)) - 0.5), rng.standard_exponential((2, N))
        jump = np.sin(alpha * phi) / np.cos(phi) ** (1 / alpha) * (np.cos((1 - alpha) * phi) / w) ** ((1 - alpha) / alpha)
        x = x - x * DT + s * jump
    return x


def process(tensor):
    noise = fps.Noise.from_expression([["0.2*(1 + x**2/4)", "0.08*x"], ["0.08*x", "0.1 + 0.1*x**2"]], "x y")
    return fps.Process(fps.potentials.double_well(2), noise if tensor else fps.Noise.isotropic(0.2))


@pytest.mark.parametrize("way", ["fpsolve", "numpy"])
@pytest.mark.parametrize("tensor", [False, True], ids=["additive", "tensor"])
def test_particle_steps(benchmark, way, tensor):
    benchmark.group = f"2-D Euler, {'full state-dependent D' if tensor else 'isotropic D'}, {N} paths x {STEPS} steps"
    if way == "fpsolve":
        model = process(tensor)
        run = lambda: fps.simulate(model, [-1.0, 0.0], t=STEPS * DT, dt=DT, n=N, seed=1, threads=1)  # noqa: E731
    else:
        run = lambda: (numpy_tensor if tensor else numpy_additive)(1)  # noqa: E731
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["million_particle_steps_per_s"] = round(N * STEPS / benchmark.stats.stats.median / 1e6, 1)


@pytest.mark.parametrize("way", ["fpsolve", "fpsolve, isotropic", "numpy"])
def test_stable_noise(benchmark, way):
    benchmark.group = f"2-D Euler, alpha-stable noise, alpha = 1.5, {N} paths x {STEPS} steps"
    model = fps.Process(fps.potentials.quadratic(np.eye(2)), fps.Noise.levy(1.5, 0.5, isotropic="isotropic" in way))
    run = lambda: fps.simulate(model, [0.0, 0.0], t=STEPS * DT, dt=DT, n=N, seed=1, threads=1)  # noqa: E731
    benchmark.pedantic((lambda: numpy_stable(1)) if way == "numpy" else run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["million_particle_steps_per_s"] = round(N * STEPS / benchmark.stats.stats.median / 1e6, 1)


@pytest.mark.parametrize("walls", [False, True], ids=["no walls", "walls"])
@pytest.mark.parametrize("tensor", [[[0.2, 0.0], [0.0, 0.2]], [[0.2, 0.1], [0.1, 0.2]]], ids=["diagonal", "full"])
def test_walls(benchmark, walls, tensor):
    """A narrow box, whose walls hold much of the mass, beside the same process without walls."""
    benchmark.group = f"2-D Euler between reflecting walls, {N} paths x {STEPS} steps"
    model, box = fps.Process(fps.potentials.double_well(2), fps.Noise.constant(tensor)), fps.Grid((-1.2, 1.2, 2), (-0.5, 0.5, 2))
    options = {"t": STEPS * DT, "dt": DT, "n": N, "seed": 1, "threads": 1, "walls": box if walls else None}
    benchmark.pedantic(lambda: fps.simulate(model, [-1.0, 0.0], **options), rounds=3, warmup_rounds=1)
    benchmark.extra_info["million_particle_steps_per_s"] = round(N * STEPS / benchmark.stats.stats.median / 1e6, 1)


@pytest.mark.parametrize("way", ["fpsolve", "numpy"])
def test_escape(benchmark, way):
    benchmark.group = "1-D double well, D = 0.2: 1000 first passages, dt = 0.01"
    model, region = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.2)), fps.Region.halfspace([1.0], 1.0)
    if way == "fpsolve":
        run = lambda: fps.escape_times(model, [-1.0], region, n=1000, dt=0.01, seed=1, threads=1)  # noqa: E731
    else:
        run = lambda: numpy_escape(1)  # noqa: E731
    result = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    steps = result if way == "numpy" else float(np.sum(result.times)) / 0.01
    benchmark.extra_info["million_useful_steps_per_s"] = round(steps / benchmark.stats.stats.median / 1e6, 1)


@pytest.mark.parametrize("way", ["fpsolve", "numpy"])
def test_linear_chain(benchmark, way):
    d, n, steps = 50, 1000, 1000
    rng = np.random.default_rng(0)
    H = np.diag(np.linspace(0.1, 2.0, d))
    R = rng.normal(size=(d, d)) / np.sqrt(d)
    C = R @ R.T + 0.1 * np.eye(d)
    benchmark.group = f"Gaussian SGD chain, d = {d}, dense covariance, {n} paths x {steps} steps"
    if way == "fpsolve":
        chain = fps.SGDChain.gaussian(fps.potentials.quadratic(H), fps.Noise.covariance(C, 0.05, 10), 0.05)
        run = lambda: fps.simulate(chain, np.zeros(d), t=steps, n=n, seed=1, threads=1)  # noqa: E731
    else:
        factor = 0.05 * np.linalg.cholesky(C / 10)
        draw = np.random.Generator(np.random.SFC64(1))

        def run():
            x = np.zeros((n, d))
            for _ in range(steps):
                x = x - 0.05 * x @ H + draw.standard_normal((n, d)) @ factor.T
            return x

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["million_particle_steps_per_s"] = round(n * steps / benchmark.stats.stats.median / 1e6, 2)
