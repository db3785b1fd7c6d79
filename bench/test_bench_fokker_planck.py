"""The Fokker-Planck engine beside SciPy's sparse tools applied to the same generator."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import splu
from speed_of_fokker_planck import central_matrix, valley

import fpsolve as fps
from fpsolve._fronts import Fronts


@pytest.mark.parametrize("way", ["fpsolve", "numpy, nine points"])
@pytest.mark.parametrize("n", [128, 256])
def test_assembly(benchmark, way, n):
    """Beside central differences, which need no decomposition of the tensor and are no Markov generator."""
    benchmark.group = f"generator assembly, full tensor, {n}^2"
    run = (lambda: valley(n).generator) if way == "fpsolve" else (lambda: central_matrix(n))
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("way", ["fpsolve", "scipy"])
@pytest.mark.parametrize("n", [128, 256])
def test_stationary(benchmark, way, n):
    benchmark.group = f"stationary density, full tensor, {n}^2 (assembly excluded)"
    fp = valley(n)
    Q = fp.generator

    def pin_one_state():
        A = Q.T.tocsc()[1:, 1:]
        p = np.append(
            1.0,
            splu(A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}).solve(
                -Q.T.tocsc()[1:, 0].toarray()[:, 0]
            ),
        )
        return p / p.sum()

    run = fp.stationary if way == "fpsolve" else pin_one_state
    result = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    mass = result.cell_mass.ravel() if way == "fpsolve" else result
    benchmark.extra_info["smallest_mass"] = float(mass.min())


@pytest.mark.parametrize("way", ["fpsolve", "scipy Crank-Nicolson"])
def test_evolve(benchmark, way):
    n = 128
    benchmark.group = f"evolve to t = 1, full tensor, {n}^2, Gaussian start (assembly excluded)"
    fp = valley(n)
    start = ("gaussian", [0.5, 0.8], 0.04 * np.eye(2))
    Q = fp.generator.T.tocsc()
    x, y = fp.grid.centers
    mass = np.exp(-((x[:, None] - 0.5) ** 2 + (y - 0.8) ** 2) / 0.08).ravel()
    mass /= mass.sum()

    def crank_nicolson(steps=40):
        identity = sp.identity(n * n, format="csc")
        lu = splu(identity - 0.5 / steps * Q, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        p, explicit = mass, identity + 0.5 / steps * Q
        for _ in range(steps):
            p = lu.solve(explicit @ p)
        return p

    run = (lambda: fp.evolve(start, 1.0, rtol=1e-3)) if way == "fpsolve" else crank_nicolson
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("way", ["fpsolve", "scipy"])
def test_exit_time(benchmark, way):
    n = 192
    benchmark.group = f"mean exit time over a barrier, {n}^2"
    process = fps.Process(fps.potentials.double_well(2), fps.Noise.isotropic(0.1))
    fp = fps.FokkerPlanck(process, fps.Grid((-2, 2, n), (-2, 2, n)))
    region = fps.Region.halfspace([1.0, 0.0], 1.0)
    inside = (fp.grid.points()[:, 0] < 1.0).nonzero()[0]
    A = -fp.generator[inside][:, inside].tocsc()

    def sparse_lu():
        return splu(A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}).solve(
            np.ones(len(inside))
        )

    run = (lambda: fp.mean_exit_time(region)) if way == "fpsolve" else sparse_lu
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


def turned(n):
    """An irreversible linear process of condition 20 with the high-order scheme."""
    c, s = np.cos(0.5), np.sin(0.5)
    R = np.array([[c, -s], [s, c]])
    D = R @ np.diag([1.0, 0.05]) @ R.T
    process = fps.Process.ornstein_uhlenbeck([[1.0, 0.6], [-0.3, 0.8]], fps.Noise.constant(0.5 * (D + D.T)))
    return fps.FokkerPlanck(process, fps.Grid((-5, 5, n), (-5, 5, n)), "high-order")


@pytest.mark.parametrize("n", [128, 256])
def test_high_order_assembly(benchmark, n):
    benchmark.group = f"high-order matrix, full tensor, {n}^2"
    benchmark.pedantic(lambda: turned(n).operators.forward, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("way", ["fpsolve", "scipy"])
@pytest.mark.parametrize("n", [96, 192])
def test_high_order_factorisation(benchmark, way, n):
    """One resolvent of the high-order matrix: order, factors, one solution."""
    benchmark.group = f"high-order resolvent, full tensor, {n}^2 (assembly excluded)"
    matrix = (sp.identity(n * n) - 0.1 * turned(n).operators.forward).tocsr()
    coords, rhs = np.stack(np.unravel_index(np.arange(n * n), (n, n)), axis=1), np.ones(n * n)

    def fronts():
        return Fronts(matrix, coords).factorise(matrix).solve(rhs)

    def scipy_lu():
        lu = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options={"SymmetricMode": True})
        return lu.solve(rhs)

    result = benchmark.pedantic(fronts if way == "fpsolve" else scipy_lu, rounds=3, warmup_rounds=1)
    benchmark.extra_info["residual"] = float(np.abs(matrix @ result - rhs).max())
