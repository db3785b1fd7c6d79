"""Three engines that know nothing of each other answer the same question; agreement is the evidence.

Stochastic comparisons: |z| < 4, a false alarm of 6e-5 each; seeds are fixed.
"""

import numpy as np
import pytest

import fpsolve as fps
import nets

WELL = fps.potentials.double_well()
VALLEY = fps.Potential.from_expression("(x**2 - 1)**2 + y**2/2", "x y")
TENSOR = fps.Noise.from_expression([["0.2*(1 + x**2/4)", "0.08*x"], ["0.08*x", "0.1 + 0.1*x**2 + 0.05*y**2"]], "x y")
LINE, PLANE = fps.Grid((-2.5, 2.5, 400)), fps.Grid((-2.5, 2.5, 120), (-3.5, 3.5, 84))

#: name, process, the one-dimensional process that its x coordinate follows exactly, grid, start
ESCAPES = {
    "1-D isotropic": (fps.Process(WELL, fps.Noise.isotropic(0.25)), None, LINE, [-1.0]),
    "1-D state-dependent": (fps.Process(WELL, fps.Noise.from_expression("0.25*(1 + x**2/2)")), None, LINE, [-1.0]),
    "1-D Klimontovich": (fps.Process(WELL, fps.Noise.from_expression("0.25*(1 + x**2/2)"), "klimontovich"), None, LINE, [-1.0]),
    "2-D isotropic": (
        fps.Process(VALLEY, fps.Noise.isotropic(0.25)),
        fps.Process(WELL, fps.Noise.isotropic(0.25)),
        PLANE,
        [-1.0, 0.0],
    ),
    "2-D full tensor": (
        fps.Process(VALLEY, TENSOR),
        fps.Process(WELL, fps.Noise.from_expression("0.2*(1 + x**2/4)")),
        PLANE,
        [-1.0, 0.0],
    ),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_mean_exit_times(name):
    """Quadrature, Fokker-Planck (within its own error, and 1 %), paths (bridge; dt small enough that its bias is below 0.3 %)."""
    process, along, grid, start = ESCAPES[name]
    region = fps.Region.halfspace(np.eye(len(start))[0], 1.0)
    exact = fps.theory.mean_first_passage_1d(along or process, [start[0]], 1.0, reflecting=-2.5).value
    pde = fps.FokkerPlanck(process, grid).mean_exit_time(region, at=start)
    assert abs(pde.value - exact) < min(3 * pde.discretization_error, 0.01 * exact)
    paths = fps.escape_times(process, start, region, n=4000, dt=0.002, seed=8).mean()
    assert abs(paths.value - exact) < 4 * paths.stderr


def test_kramers_is_the_low_noise_limit():
    """Exact over Kramers tends to one like a constant times D: the deviation halves with D."""
    deviations = []
    for D in (0.04, 0.02, 0.01):
        process = fps.Process(WELL, fps.Noise.isotropic(D))
        exact = fps.theory.mean_first_passage_1d(process, [-1.0], 1.0, reflecting=-2.5)
        rate = fps.theory.kramers_rate(process, [-1.0], [0.0])
        deviations.append(np.expm1(exact.log_value + rate.log_value))
    np.testing.assert_allclose(np.log2(np.array(deviations[:-1]) / deviations[1:]), 1.0, atol=0.05)


def test_transient_density_of_a_tensor():
    """Moments of an evolving density against paths, with a state-dependent tensor and a drift that is not a gradient."""
    process = fps.Process.from_drift(["-x - y", "x - y"], TENSOR, variables="x y")
    grid = fps.Grid((-3, 3, 96), (-3, 3, 96))
    density = fps.FokkerPlanck(process, grid).evolve(("gaussian", [1.0, 0.5], 0.04 * np.eye(2)), 0.7)
    n = 40_000
    paths = fps.simulate(process, lambda rng, m: [1.0, 0.5] + 0.2 * rng.standard_normal((m, 2)), t=0.7, dt=0.0025, n=n, seed=4)
    error = paths.final.std(0) / np.sqrt(n)
    assert np.all(np.abs(paths.final.mean(0) - density.mean()) < 4 * error + 2e-3)  # 2e-3: cells of 1/16 and steps of 1/400
    spread = np.cov(paths.final, rowvar=False)
    np.testing.assert_allclose(spread, density.covariance(), atol=4 * spread.max() * np.sqrt(2 / n) + 2e-3)


def test_stationary_histogram_against_boltzmann():
    """Time-averaged histogram of paths against the closed form, in 10 cells of |x|, within 1 % of the largest.

    Euler at dt = 0.001 widens a well of curvature 8 by 0.4 %; folding at x = 0 takes out the slow exchange between the wells.
    """
    process = fps.Process(WELL, fps.Noise.isotropic(0.4))
    grid = fps.Grid((-2.0, 2.0, 20))
    paths = fps.simulate(process, [0.0], t=60.0, dt=0.001, n=2000, save="histogram", bins=grid, t_burn=10.0, every=50, seed=2)
    fine = fps.theory.boltzmann(process, fps.Grid((-2.0, 2.0, 2000)))
    expected, measured = fine.cell_mass.reshape(20, 100).sum(1)[10:], paths.histogram.cell_mass
    folded = measured[10:] + measured[9::-1]
    np.testing.assert_allclose(folded / folded.sum(), expected / expected.sum(), atol=0.01 * expected.max() / expected.sum())


def test_chain_of_a_network_against_the_exact_theory():
    """SGDChain on the minibatch losses of a network (linear regression): variance of the weights, with and without replacement.

    16 replicas of 3000 iterations after 1000 of burn-in; the scatter between replicas gives the error.
    """
    data, mlp = nets.load_data("teacher"), nets.MLP((8, 1), loss="mse", weight_decay=0.2)
    stats = nets.measure(mlp, data, theta=_minimum(mlp, data), lr=0.05, batch=16)
    for sampling in ("replace", "shuffle"):
        chain = fps.SGDChain(mlp.ensemble(data), lr=0.05, batch=16, sampling=sampling)
        runs = fps.simulate(chain, stats.mean, t=4000, n=16, save=list(range(1000, 4000, 5)), seed=6)
        along = (runs.states - stats.mean) @ stats.basis(3)  # (times, replicas, directions)
        per_replica = np.mean(along**2, axis=0)
        theory = fps.theory.discrete_covariance(stats.hessian, stats.covariance, 0.05, 16, sampling=sampling, size=data.size)
        expected = np.diag(stats.basis(3).T @ theory @ stats.basis(3))
        error = per_replica.std(0, ddof=1) / np.sqrt(16)
        # 3 %: fluctuations of the sample Hessians, which the linear theory leaves out
        assert np.all(np.abs(per_replica.mean(0) - expected) < 4 * error + 0.03 * expected), (
            sampling,
            per_replica.mean(0) / expected,
        )


def _minimum(mlp, data):
    a = np.column_stack([data.x_train, np.ones(data.size)])
    y = np.asarray(data.y_train, float).reshape(-1)
    return np.linalg.solve(a.T @ a / data.size + mlp.weight_decay * np.eye(mlp.dim), a.T @ y / data.size)
