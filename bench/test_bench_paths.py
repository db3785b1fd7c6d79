"""Path ensembles beside vectorised NumPy: particle-steps of the same Euler scheme on the same problem, one core."""

import numpy as np
import pytest
from reference import paths as by_hand

import fpsolve as fps

N, STEPS, DT = 10_000, 1000, 1e-3


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
        run = lambda: (by_hand.root if tensor else by_hand.additive)(N, STEPS, DT, 1)  # noqa: E731
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["million_particle_steps_per_s"] = round(N * STEPS / benchmark.stats.stats.median / 1e6, 1)


OVERDAMPED = [m for m in fps.schemes().column("method") if m not in ("baoab", "obabo", "gjf")]


@pytest.mark.parametrize("way", [*OVERDAMPED, "numpy, euler"])
def test_schemes(benchmark, way):
    """Every scheme for first-order equations on the same additive noise, which all of them take."""
    benchmark.group = f"2-D, isotropic D, every scheme, {N} paths x {STEPS} steps"
    model = process(False)
    run = lambda: fps.simulate(model, [-1.0, 0.0], t=STEPS * DT, dt=DT, n=N, seed=1, threads=1, method=way)  # noqa: E731
    benchmark.pedantic((lambda: by_hand.additive(N, STEPS, DT, 1)) if "numpy" in way else run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["million_particle_steps_per_s"] = round(N * STEPS / benchmark.stats.stats.median / 1e6, 1)


@pytest.mark.parametrize("way", ["baoab", "obabo", "gjf", "numpy, baoab"])
def test_schemes_with_inertia(benchmark, way):
    benchmark.group = f"2-D with inertia, isotropic D, {N} paths x {STEPS} steps"
    model = fps.Underdamped(fps.potentials.double_well(2), fps.Noise.isotropic(0.2), friction=1.0)
    run = lambda: fps.simulate(model, [-1.0, 0.0], t=STEPS * 0.01, dt=0.01, n=N, seed=1, threads=1, method=way)  # noqa: E731
    benchmark.pedantic((lambda: by_hand.baoab(N, STEPS, 0.01, 1)) if "numpy" in way else run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["million_particle_steps_per_s"] = round(N * STEPS / benchmark.stats.stats.median / 1e6, 1)


@pytest.mark.parametrize("way", ["fpsolve", "fpsolve, isotropic", "numpy"])
def test_stable_noise(benchmark, way):
    benchmark.group = f"2-D Euler, alpha-stable noise, alpha = 1.5, {N} paths x {STEPS} steps"
    model = fps.Process(fps.potentials.quadratic(np.eye(2)), fps.Noise.levy(1.5, 0.5, isotropic="isotropic" in way))
    run = lambda: fps.simulate(model, [0.0, 0.0], t=STEPS * DT, dt=DT, n=N, seed=1, threads=1)  # noqa: E731
    benchmark.pedantic((lambda: by_hand.stable(N, STEPS, DT, 1)) if way == "numpy" else run, rounds=3, warmup_rounds=1)
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
        run = lambda: by_hand.escape(1000, 0.01, 1)  # noqa: E731
    result = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    steps = float(np.sum(getattr(result, "times", result))) / 0.01
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
        run = lambda: by_hand.chain(H, C, 0.05, 10, n, steps, 1)  # noqa: E731

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["million_particle_steps_per_s"] = round(n * steps / benchmark.stats.stats.median / 1e6, 2)
