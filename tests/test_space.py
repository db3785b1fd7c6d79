"""The Fokker-Planck engine in three dimensions: generator, stationary laws, exits, transients, and the solvers chosen by size."""

import logging
import math

import numpy as np
import pytest
import scipy.linalg as la
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.sparse.csgraph import connected_components

from fokker_planck_cases import SIDES, Stand, gaussian, l1, orders
from fpsolve import _elimination, _explicit, _iterative, _markov, _space
from fpsolve import _generator as gen
from fpsolve._kernels import selling3
from fpsolve.errors import FpsolveError
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.plotting import plot_current, plot_density, plot_field
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Current, Density, Field

A = np.array([[1.0, 0.6, 0.2], [-0.3, 0.8, 0.1], [0.1, -0.4, 1.2]])


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q


def tensor(condition, seed=1, middle=0.5):
    q = rotation(seed)
    D = q @ np.diag([1.0, condition**-middle, 1.0 / condition]) @ q.T
    return 0.5 * (D + D.T)


def ou(condition, n, seed=1):
    D = tensor(condition, seed)
    fp = FokkerPlanck(Process.ornstein_uhlenbeck(A, Noise.constant(D)), Grid(*[(-5.0, 5.0, n)] * 3))
    return fp, la.solve_continuous_lyapunov(A, 2 * D), D


@pytest.fixture
def iterate(monkeypatch):
    """Chains of more than 1000 states in space are solved by iteration, on few blocks."""
    monkeypatch.setattr(_elimination, "ELIMINATED", 1000)
    monkeypatch.setattr(_iterative, "_BLOCKS", 800)


# ---- generator ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.0, 4.0), st.floats(0.0, 1.0), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0))
def test_selling_splits_any_tensor_into_nonnegative_weights(seed, log_condition, middle, first, second):
    """sum w e e^T = D; with a cap it is more, at most by what is reported."""
    D, h = tensor(10.0**log_condition, seed, middle), np.array([1.0, 10.0**first, 10.0**second])
    shape, sides = np.array([2000, 2000, 2000]), np.full((3, 2), 2)
    for cap in (900, 4):
        offsets, weights, clipped, free = np.zeros((1, 6, 3), np.int16), np.zeros((1, 6)), np.zeros(1), np.zeros(1)
        selling3.decompose(D[None], h[None], shape, sides, cap, offsets, weights, clipped, free)
        e = offsets[0] * h
        more = np.einsum("k,ki,kj->ij", weights[0], e, e) - D
        assert np.all(weights >= 0.0) and np.abs(offsets).max() <= cap
        assert np.linalg.eigvalsh(more)[0] > -1e-11 and np.linalg.eigvalsh(more)[-1] <= clipped[0] + 1e-11
        assert clipped[0] == free[0] and (cap == 4 or clipped[0] == 0.0)


def smooth_weights(tensors, reference, cap=900):
    """Offsets (n, 12, 3) and smooth weights (n, 12) of tensors in cells of width one, by the kernels."""
    n, sides = len(tensors), np.full((3, 2), 2)
    offsets, weights, clipped, free = np.zeros((n, 12, 3), np.int16), np.zeros((n, 12)), np.zeros(n), np.zeros(n)
    near, own = np.zeros((n, 6, 3), np.int16), np.zeros((n, 6))
    shape = np.array([2000, 2000, 2000])
    selling3.decompose(tensors, np.ones((n, 3)), shape, sides, cap, near, own, clipped, free)
    offsets[:, :6], weights[:, :6] = near, own
    selling3.smooth_switches(
        tensors, np.ones((n, 3)), shape, sides, cap, reference[np.triu_indices(3)], 0.5, clipped, offsets, weights
    )
    return offsets, weights


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.0, 3.0), st.floats(0.0, 1.0), st.floats(0.0, 3.0))
def test_smooth_weights_are_nonnegative_and_add_up(seed, log_condition, middle, other):
    """Whatever the tensor and the tensor that the means lead away from; scales do not matter."""
    D, reference = tensor(10.0**log_condition, seed, middle), 7.0 * tensor(10.0**other, seed + 1, 0.3)
    offsets, weights = smooth_weights(D[None], reference)
    assert np.all(weights >= 0.0)
    np.testing.assert_allclose(np.einsum("k,ki,kj->ij", weights[0], offsets[0] * 1.0, offsets[0] * 1.0), D, atol=1e-12)
    _, scaled = smooth_weights(5.0 * D[None], 0.1 * reference)
    np.testing.assert_allclose(np.sort(scaled), 5.0 * np.sort(weights), atol=1e-12)


def test_smooth_weights_have_no_kinks():
    """Along a line of tensors through several sets of offsets: slopes jump with Selling's weights, and do not with their means."""
    s = np.linspace(0.0, 1.0, 4001)
    q = rotation(5)
    u = np.cos(3.0 * s)[:, None] * q[0] + np.sin(3.0 * s)[:, None] * q[1]
    tensors = 0.75 * u[:, :, None] * u[:, None, :] + 0.25 * np.eye(3)
    reference = tensor(3.0, 8)
    jumps = []
    for smooth in (False, True):
        offsets, weights = smooth_weights(tensors, reference)
        if not smooth:
            offsets, weights = np.zeros((s.size, 6, 3), np.int16), np.zeros((s.size, 6))
            sides, none = np.full((3, 2), 2), np.zeros(s.size)
            selling3.decompose(
                tensors, np.ones((s.size, 3)), np.array([2000, 2000, 2000]), sides, 900, offsets, weights, none, none
            )
        vectors = {tuple(e) for e in offsets[weights > 0.0].tolist()}
        assert len(vectors) > 8  # several sets
        w = np.array([np.where(np.all(offsets == e, axis=2), weights, 0.0).sum(axis=1) for e in vectors])
        jumps.append(np.abs(np.diff(w, 2, axis=1)).max() / (s[1] - s[0]))
    assert jumps[0] > 0.5 > 0.05 > jumps[1], jumps


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.0, 4.0), st.floats(0.0, 1.0), st.tuples(*[st.integers(2, 9)] * 3), st.floats(-1.0, 1.0),
       st.floats(-2.0, 2.0), SIDES, SIDES, SIDES)  # fmt: skip
@example(1, 4.0, 0.5, (9, 9, 9), 0.0, 2.0, "reflecting", "reflecting", "reflecting")
@example(3, 4.0, 0.0, (2, 9, 2), 1.0, 1.0, "reflecting", "periodic", "reflecting")
@example(7, 4.0, 1.0, (5, 4, 3), -1.0, 2.0, "reflecting", "reflecting", "periodic")
def test_markov_generator_at_any_condition_rotation_and_shape(seed, log_condition, middle, shape, log_shape, log_drift, a, b, c):
    D, size = tensor(10.0**log_condition, seed, middle), 10.0**log_drift
    process = Stand(3, lambda x: size * np.stack([x[..., 1], x[..., 2], -x[..., 0]], -1),
                    lambda x: np.broadcast_to(D, (*x.shape[:-1], 3, 3)))  # fmt: skip
    grid = Grid((-1.0, 1.0, shape[0]), (-1.0, -1.0 + 10.0**log_shape, shape[1]), (-1.0, 1.0, shape[2]), boundary=[a, b, c])
    fp = FokkerPlanck(process, grid)
    off = (fp.generator - sp.diags(fp.generator.diagonal())).tocsr()
    assert np.all(off.data >= 0.0) and np.all(np.isfinite(off.data)) and np.all(fp.kill >= 0.0)
    rows = np.asarray(off.sum(axis=1)).ravel() + fp.kill + fp.generator.diagonal()
    assert np.all(np.abs(rows) <= 3e-13 * np.abs(fp.generator.diagonal()))
    off.eliminate_zeros()
    if "absorbing" not in str([a, b, c]):  # between absorbing walls cells may be joined by their losses only
        assert connected_components(off, connection="strong")[0] == 1


def turning(condition, seed=5):
    """A tensor whose axes turn from place to place, its divergence by closed form, and a drift."""
    q = rotation(seed)

    def parts(x):
        t = 0.4 + 0.35 * np.sin(x[..., 0] - 0.5 * x[..., 1] + 0.7 * x[..., 2])
        slope = 0.35 * np.cos(x[..., 0] - 0.5 * x[..., 1] + 0.7 * x[..., 2])[..., None] * np.array([1.0, -0.5, 0.7])
        u = np.cos(t)[..., None] * q[0] + np.sin(t)[..., None] * q[1]
        v = -np.sin(t)[..., None] * q[0] + np.cos(t)[..., None] * q[1]
        return u, v, slope

    def diffusion(x):
        u, _, _ = parts(x)
        return (1 - 1 / condition) * u[..., :, None] * u[..., None, :] + np.eye(3) / condition

    def divergence(x):  # (div u) u + (u.grad) u with u' = v
        u, v, slope = parts(x)
        return (1 - 1 / condition) * (np.sum(v * slope, -1)[..., None] * u + np.sum(u * slope, -1)[..., None] * v)

    def drift(x):
        return np.stack([x[..., 1] - x[..., 0], -np.sin(x[..., 0]) - 0.5 * x[..., 1], 0.3 * x[..., 0] - x[..., 2]], -1)

    return drift, diffusion, divergence


def seven_point_upwind(grid, drift, diffusion):
    """The scheme that the test of consistency must refuse: D without its off-diagonal part."""
    x, cells = grid.points(), np.arange(grid.size).reshape(grid.shape)
    parts = []
    for axis in range(3):
        low, high = np.moveaxis(cells, axis, 0)[:-1].ravel(), np.moveaxis(cells, axis, 0)[1:].ravel()
        h = grid.widths[axis][0]
        for start, end, sign in ((low, high, 1.0), (high, low, -1.0)):
            rate = diffusion(x)[start, axis, axis] / h**2 + np.maximum(sign * drift(x)[start, axis], 0.0) / h
            parts.append(sp.coo_matrix((rate, (start, end)), shape=(grid.size, grid.size)))
    return sum(parts).tocsr()


def moment_errors(generator, grid, drift, diffusion):
    """Defects of both moments of the rates inside: largest, and averaged against a smooth function."""
    x, rates = grid.points(), (generator - sp.diags(generator.diagonal())).tocoo()
    keep = np.all(np.abs(x) < 1.0, axis=1)
    smooth = (np.maximum(1.0 - x**2, 0.0) ** 3).prod(axis=1) * np.exp(x[:, 0] - 0.5 * x[:, 1])
    step = x[rates.col] - x[rates.row]
    first = np.stack([np.bincount(rates.row, rates.data * step[:, k], len(x)) for k in range(3)], -1) - drift(x)
    second = np.array([np.bincount(rates.row, rates.data * step[:, k] * step[:, l], len(x)) for k in range(3) for l in range(3)]).T
    second -= 2 * diffusion(x).reshape(-1, 9)
    return np.array([[np.abs(e[keep]).max(), np.abs(smooth @ e).max() / smooth.sum()] for e in (first, second)])


def test_consistency_of_both_moments_and_that_the_test_has_teeth(monkeypatch):
    """Against smooth functions of second order. Weights with kinks where offsets change lose an order in single cells."""
    drift, diffusion, divergence = turning(4.0)
    process, errors, wrong, kinks = Stand(3, drift, diffusion, divergence), [], [], []
    for n in (20, 40):
        grid = Grid(*[(-2.0, 2.0, n)] * 3)
        errors.append(moment_errors(FokkerPlanck(process, grid).generator, grid, drift, diffusion))
        with monkeypatch.context() as patch:
            patch.setattr(_space, "_smoothed", lambda *args: args[5:7])
            kinks.append(moment_errors(FokkerPlanck(process, grid).generator, grid, drift, diffusion))
        wrong.append(moment_errors(seven_point_upwind(grid, drift, diffusion), grid, drift, diffusion))
    assert np.all(np.log2(errors[0] / errors[1])[:, 1] >= 1.8), errors
    assert np.all(np.log2(errors[0] / errors[1])[:, 0] >= [1.3, 1.8]), errors  # the worst cell
    assert np.log2(kinks[0] / kinks[1])[0, 0] < 1.1, kinks
    assert errors[1][1, 1] < 0.01 < 0.1 < wrong[1][1, 1]  # what a scheme without D_xy misses does not go away
    assert np.log2(wrong[0] / wrong[1])[1, 1] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "most", "kinks", "order"), [(4.0, [0.074, 0.026, 0.009], 0.026, 1.4), (30.0, [1.3, 0.76, 0.48], 0.57, 0.65)]
)
def test_single_cells_on_finer_grids(condition, most, kinks, order, monkeypatch):
    """First moments of the worst cell with smooth weights, and with Selling's own on the last grid."""
    drift, diffusion, divergence = turning(condition)
    process, grids = Stand(3, drift, diffusion, divergence), [Grid(*[(-2.0, 2.0, n)] * 3) for n in (16, 32, 64)]
    errors = [moment_errors(FokkerPlanck(process, grid).generator, grid, drift, diffusion)[0, 0] for grid in grids]
    assert np.all(np.array(errors) <= most), errors
    assert np.log2(errors[1] / errors[2]) >= order, errors
    monkeypatch.setattr(_space, "_smoothed", lambda *args: args[5:7])
    assert moment_errors(FokkerPlanck(process, grids[2]).generator, grids[2], drift, diffusion)[0, 0] > kinks


@pytest.mark.parametrize("axes", [[(-2.0, 2.0, 14)] * 3, [(-2.0, 2.0, 12), (-2.0, 2.0, 10, "centre"), (-1.5, 2.0, 9)]])
def test_reversible_processes_are_balanced_on_every_edge(axes):
    axes = [(*axis[:3], lambda s: s - 0.12 * np.sin(2 * np.pi * s) / np.pi) if len(axis) == 4 else axis for axis in axes]
    entries = [["1+x**2/4", "0.3*sin(y)", "0.2*z"], ["0.3*sin(y)", "0.6", "0.1*x"], ["0.2*z", "0.1*x", "0.8"]]
    noise = Noise.from_expression(entries, "x y z")
    Phi = Potential.from_expression("(x**2-1)**2 + y**2/2 + x*y/3 + z**2/2 + y*z/4", "x y z")
    grid = Grid(*axes)
    fp = FokkerPlanck(Process.reversible(Phi, noise), grid)
    pi = np.exp(-Phi(grid.points())) * grid.cell_volumes.ravel()
    flow = (sp.diags(pi) @ (fp.generator - sp.diags(fp.generator.diagonal()))).tocsr()
    back = flow.T.tocsr()
    assert abs(flow - back).max() <= 1e-12 * abs(flow).max()
    edges = flow.tocoo()
    assert np.abs(np.asarray(back[edges.row, edges.col]).ravel() / edges.data - 1.0).max() < 1e-12
    p = fp.stationary()
    assert np.abs(p.cell_mass.ravel() - pi / pi.sum()).sum() < 1e-12


# ---- stationary laws --------------------------------------------------------------------------------------------------------


def test_order_of_the_stationary_density_of_an_irreversible_process():
    errors = []
    for n in (16, 20, 24):
        fp, S, _ = ou(2.0, n)
        p = fp.stationary()
        assert p.values.min() >= 0.0 and abs(p.mass - 1.0) < 1e-12
        errors.append(l1(p, gaussian(fp.grid.points(), 0.0, S)))
    assert np.all(np.diff(np.log(errors)) / np.diff(np.log([1 / 16, 1 / 20, 1 / 24])) >= 1.9), errors
    assert errors[-1] < 3e-3


@pytest.mark.slow
@pytest.mark.parametrize("condition", [4.0, 20.0])
def test_order_on_finer_grids(condition):
    errors = []
    for n in (32, 48, 64):
        fp, S, _ = ou(condition, n)
        errors.append(l1(fp.stationary(), gaussian(fp.grid.points(), 0.0, S)))
    measured = np.diff(np.log(errors)) / np.diff(np.log([1 / 32, 1 / 48, 1 / 64]))
    assert np.all(measured >= 1.9), (errors, measured)


def nonlinear(condition, n):
    """Drift -(D + R) grad Phi + div R with an antisymmetric R(x): exp(-Phi) is stationary, and no process knows it."""
    D = [[repr(float(v)) for v in row] for row in tensor(condition)]
    slope = ["(x**3 + y/4)", "(y + x/4 + z/5)", "(z + y/5)"]
    b = [" ".join(f"- ({D[i][j]})*{slope[j]}" for j in range(3)) for i in range(3)]
    rho = "(0.5 + 0.3*sin(2*x))"
    b = [f"{b[0]} + {rho}*{slope[1]} - 0.3*{slope[2]}", f"{b[1]} - {rho}*{slope[0]} + 0.6*cos(2*x)", f"{b[2]} + 0.3*{slope[0]}"]
    process = Process.from_drift(b, Noise.constant(tensor(condition)), variables="x y z")
    grid = Grid((-3.0, 3.0, n), (-5.0, 5.0, n), (-5.0, 5.0, n))
    x, y, z = grid.points().T
    exact = np.exp(-(x**4) / 4 - y**2 / 2 - z**2 / 2 - x * y / 4 - y * z / 5)
    return l1(FokkerPlanck(process, grid).stationary(), exact / (exact.sum() * grid.cell_volumes[0, 0, 0]))


@pytest.mark.parametrize("condition", [pytest.param(1.0, marks=pytest.mark.slow), 4.0])
def test_order_with_nonlinear_drift_that_is_no_gradient(condition):
    errors = [nonlinear(condition, n) for n in (14, 22)]
    assert orders(errors)[0] / np.log2(22 / 14) >= 1.9, errors


def beside_walls(condition, n):
    """A flow without sources, tangential to reflecting walls on all sides, through a tensor that leans on them: p = 1."""
    D, k = tensor(condition), np.pi * np.array([1.0, -0.7, 0.5])

    def drift(x):
        s, c = np.moveaxis(np.sin(np.pi * x), -1, 0), np.moveaxis(np.cos(np.pi * x), -1, 0)
        return np.stack([k[2] * s[0] * c[1] - k[1] * s[0] * c[2], k[0] * s[1] * c[2] - k[2] * c[0] * s[1],
                         k[1] * c[0] * s[2] - k[0] * c[1] * s[2]], -1)  # fmt: skip

    fp = FokkerPlanck(Stand(3, drift, lambda x: np.broadcast_to(D, (*x.shape[:-1], 3, 3))), Grid(*[(0.0, 1.0, n)] * 3))
    return np.abs(fp.stationary().values - 1.0)


@pytest.mark.parametrize("condition", [pytest.param(2.0, marks=pytest.mark.slow), 8.0])
def test_order_beside_reflecting_walls_that_carry_mass(condition, monkeypatch):
    """What a wall cuts off flows along it; without that the error is of first order."""
    errors = [beside_walls(condition, n).mean() for n in (8, 16)]
    assert orders(errors)[0] >= 1.9, errors
    monkeypatch.setattr(selling3, "wall_edges", lambda *args: False)
    wrong = [beside_walls(condition, n).mean() for n in (8, 16)]
    assert orders(wrong)[0] < 1.5 and wrong[-1] > 2.0 * errors[-1], wrong


def test_current_and_entropy_production_of_an_irreversible_process():
    fp, S, D = ou(2.0, 24)
    x = fp.grid.points()
    push = -A + D @ la.inv(S)
    exact = np.einsum("ij,nj->ni", push, x) * gaussian(x, 0.0, S)[:, None]
    current = fp.current().values.reshape(-1, 3)
    assert np.abs(current - exact).max() < 0.03 * np.abs(exact).max()
    rate = fp.entropy_production()
    closed = float(np.trace(push.T @ la.solve(D, push) @ S))
    assert abs(rate.value - closed) <= rate.discretization_error and abs(rate.value - closed) < 0.03 * closed
    assert fp.detailed_balance().value > 0.1


# ---- exits ------------------------------------------------------------------------------------------------------------------


def test_exit_from_an_ellipsoid_is_exact():
    """Without drift tau = (1 - x.M x)/(2 tr(D M)) for constant D: quadratic, so the cut edges make no error at all."""
    D, M = tensor(5.0), np.diag([1.0, 1.4, 0.8])
    region = Region.from_expression("x**2 + 1.4*y**2 + 0.8*z**2 - 1", "x y z")
    process = Process.from_drift(["0*x", "0*y", "0*z"], Noise.constant(D), variables="x y z")
    fp = FokkerPlanck(process, Grid((-1.2, 1.25, 15), (-1.1, 1.2, 14), (-1.3, 1.3, 16)))
    x = fp.grid.points()
    exact = np.maximum(1.0 - np.einsum("ni,ij,nj->n", x, M, x), 0.0) / (2.0 * np.trace(D @ M))
    assert np.abs(fp.mean_exit_time(region).values.ravel() - exact).max() < 1e-12


def radial_time(D):
    """Exit from the unit ball with dX = X dt + sqrt(2 D) dW by the radial integral."""
    r = np.linspace(0.0, 1.0, 4001)
    inner = integrate.cumulative_simpson(r**2 * np.exp(r**2 / (2 * D)), x=r, initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = np.where(r > 0, inner * np.exp(-(r**2) / (2 * D)) / (D * r**2), 0.0)
    total = integrate.cumulative_simpson(f, x=r, initial=0.0)
    return lambda s: np.interp(s, r, total[-1] - total)


def test_order_of_the_exit_time_from_a_ball_with_drift(iterate):
    process, exact, errors = Process.from_drift(["x", "y", "z"], Noise.isotropic(0.3), variables="x y z"), radial_time(0.3), []
    for n in (20, 40):
        grid = Grid((-1.2, 1.3, n), (-1.15, 1.3, n), (-1.25, 1.2, n))
        tau = FokkerPlanck(process, grid).mean_exit_time(Region.ball([0.0, 0.0, 0.0], 1.0))
        r = np.sqrt(np.sum(grid.points() ** 2, axis=1))
        errors.append(np.abs(tau.values.ravel() - np.where(r < 1.0, exact(np.minimum(r, 1.0)), 0.0)).max())
    assert orders(errors)[0] >= 1.9 and errors[-1] < 0.02, errors


def test_separable_exit_times_are_those_of_the_line():
    """U = (x^2 - 1)^2 + (y^2 + z^2)/2 leaves through x = 0; the other coordinates do not matter."""
    U = Potential.from_expression("(x**2-1)**2 + y**2/2 + z**2/2", "x y z")
    fp = FokkerPlanck(Process(U, Noise.isotropic(0.1)), Grid((-2.0, 0.5, 50), (-2.0, 2.0, 8), (-2.0, 2.0, 8)))
    tau = fp.mean_exit_time(Region.halfspace([1.0, 0.0, 0.0], 0.0), at=[-1.0, 0.1, -0.2])
    inner = lambda y: integrate.quad(lambda s: math.exp(-((s * s - 1) ** 2) / 0.1), -2.0, y)[0]  # noqa: E731
    exact = integrate.quad(lambda y: math.exp((y * y - 1) ** 2 / 0.1) * inner(y) / 0.1, -1.0, 0.0)[0]
    assert abs(tau.value - exact) <= tau.discretization_error and abs(tau.value / exact - 1.0) < 0.02, (tau, exact)


def test_ball_moments_rate_distribution_and_committor():
    """Brownian motion in the unit ball: rate pi^2 D, E[T^2] = 7/(180 D^2) from the centre, the theta series; committor in 1/r."""
    D, region = 0.5, Region.ball([0.0, 0.0, 0.0], 1.0)
    process = Process.from_drift(["0*x", "0*y", "0*z"], Noise.isotropic(D), variables="x y z")
    fp = FokkerPlanck(process, Grid(*[(-1.1, 1.1, 22)] * 3))
    rate = fp.escape_rate(region)
    assert abs(rate.value - np.pi**2 * D) <= rate.discretization_error and abs(rate.value / (np.pi**2 * D) - 1.0) < 0.01
    second = fp.exit_time_moments(region, 2)[1].at([0.0, 0.0, 0.0])
    assert abs(second / (7.0 / (180.0 * D**2)) - 1.0) < 0.02
    t = np.array([0.1, 0.2, 0.4])
    k = np.arange(1, 40)[:, None]
    series = 2.0 * np.sum((-1.0) ** (k + 1) * np.exp(-((k * np.pi) ** 2) * D * t), axis=0)
    assert np.abs(fp.exit_time_distribution(region, [0.0, 0.0, 0.0], t).survival - series).max() < 0.01
    outer = Region.from_expression("1 - sqrt(x**2 + y**2 + z**2)", "x y z")
    q = fp.committor(Region.ball([0.0, 0.0, 0.0], 0.5), outer)
    r = np.sqrt(np.sum(fp.grid.points() ** 2, axis=1))
    assert np.abs(q.values.ravel() - np.clip(2.0 - 1.0 / np.maximum(r, 0.5), 0.0, 1.0)).max() < 0.03


def test_a_landscape_of_one_coordinate_has_the_answers_of_the_line():
    """(x^2 - 1)^2 with free y and z: flux, rate and committor are those of the same cells in 1-D, to rounding."""
    text, D, ends = "(x**2-1)**2", 0.25, (-2.0, 2.0, 24)
    line = FokkerPlanck(Process(Potential.from_expression(text), Noise.isotropic(D)), Grid(ends))
    U = Potential.from_expression(f"{text} + y**2/2 + z**2/2", "x y z")
    space = FokkerPlanck(Process(U, Noise.isotropic(D)), Grid(ends, (-2.0, 2.0, 5), (-2.0, 2.0, 6)))

    def answers(fp, n):
        left, right = Region.halfspace(n, -0.8), Region.halfspace([-c for c in n], -0.8)
        flux = fp.reactive_current(left, right).solver_info["flux"]
        return np.array([flux, fp.reactive_rate(left, right).value, fp.escape_rate(Region.halfspace(n, 0.1)).value])

    assert np.abs(answers(space, [1.0, 0.0, 0.0]) / answers(line, [1.0]) - 1.0).max() < 1e-9
    assert space.detailed_balance().value < 1e-6


def test_sides_of_the_box():
    """Absorbing cube: rate 3 pi^2 D/L^2. Periodic box with a constant drift and a full tensor: flat, the current is the drift."""
    still = Process.from_drift(["0*x", "0*y", "0*z"], Noise.isotropic(0.5), variables="x y z")
    wrong = []
    for n in (8, 16):
        rates = FokkerPlanck(still, Grid(*[(0.0, 1.0, n)] * 3, boundary="absorbing")).spectrum(1).rates
        wrong.append(abs(rates[0] - 1.5 * np.pi**2))
    assert orders(wrong)[0] >= 1.9
    pushed = Process.from_drift(["1+0*x", "1/2+0*y", "0*z"], Noise.constant(tensor(4.0)), variables="x y z")
    fp = FokkerPlanck(pushed, Grid((0.0, 1.0, 8), (0.0, 1.0, 9), (0.0, 1.0, 10), boundary="periodic"))
    assert np.ptp(fp.stationary().values) < 1e-12
    assert np.abs(fp.current().values - [1.0, 0.5, 0.0]).max() < 1e-11


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_about_any_axis_is_seen_as_such(axis):
    """dx = (-x + Omega x) dt + noise: curl 2, derivative of norm sqrt(2 + 3)."""
    turn = np.zeros((3, 3))
    j, k = [i for i in range(3) if i != axis]
    turn[j, k], turn[k, j] = 1.0, -1.0
    fp = FokkerPlanck(Process.ornstein_uhlenbeck(np.eye(3) + turn, Noise.isotropic(1.0)), Grid(*[(-4.0, 4.0, 10)] * 3))
    assert abs(fp.detailed_balance().value - 2.0 / math.sqrt(5.0)) < 1e-6


# ---- time -------------------------------------------------------------------------------------------------------------------


def moved(D, S, t, mean, cov):
    E = la.expm(-A * t)
    return E @ mean, S + E @ (cov - S) @ E.T


def test_order_of_transients_mass_and_sign():
    mean, cov, errors = np.array([1.0, -0.5, 0.5]), 0.36 * np.eye(3), []
    for n in (16, 24):
        fp, S, D = ou(2.0, n)
        p = fp.evolve(("gaussian", mean, cov), 1.0, rtol=1e-7, method="chebyshev")
        assert p.solver_info["method"] == "chebyshev" and abs(p.mass - 1.0) < 1e-12
        assert -np.minimum(p.cell_mass, 0.0).sum() <= 1e-7
        errors.append(l1(p, gaussian(fp.grid.points(), *moved(D, S, 1.0, mean, cov))))
    assert orders(errors)[0] / np.log2(1.5) >= 1.9, errors
    positive = fp.evolve(("gaussian", mean, cov), [0.5, 1.0], rtol=1e-4, method="positive")
    assert positive[-1].values.min() >= 0.0 and abs(positive[-1].mass - 1.0) < 1e-12
    assert float(np.abs(positive[-1].cell_mass - p.cell_mass).sum()) < 1e-4


def test_expectations_forward_and_backward():
    fp, S, D = ou(1.0, 20)
    mean, cov = np.array([1.0, 0.2, -0.4]), 0.4 * np.eye(3)
    m, C = moved(D, S, 0.7, mean, cov)
    value = fp.expectation(lambda x: x[:, 0] * x[:, 1], 0.7, ("gaussian", mean, cov))
    assert abs(value.value - (m[0] * m[1] + C[0, 1])) <= value.discretization_error
    u = fp.backward(lambda x: x[:, 0], 0.7)
    assert np.abs(u.at([[0.5, 0.3, -0.2]]) - (la.expm(-A * 0.7) @ [0.5, 0.3, -0.2])[0]) < 0.01


def test_spectrum_of_a_linear_process():
    """Eigenvalues are sums of those of the drift, here the slowest alone: to second order, and within the errors stated."""
    exact, wrong = -np.array([0.0, *sorted(la.eigvals(A), key=lambda v: (v.real, -v.imag))]), []
    for n in (14, 20):
        found = ou(1.0, n)[0].spectrum(4)
        near = np.abs(found.eigenvalues[:, None] - exact).min(axis=1)
        assert len(found) == 4 and np.all(near <= found.eigenvalue_errors + 1e-12)
        wrong.append(near.max())
    assert orders(wrong)[0] / np.log2(20 / 14) >= 1.9, wrong


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(-2.0, 2.0), st.floats(-9.0, -2.0), st.booleans())
def test_chebyshev_series_against_the_matrix_exponential(seed, log_time, log_tolerance, cyclic):
    """Random chains, reversible or not, killed or not: the error is within the tolerance and within its estimate."""
    rng = np.random.default_rng(seed)
    n = 30
    Q = rng.uniform(size=(n, n)) ** 4
    Q = np.triu(Q, 1) + np.triu(Q, 1).T + (5.0 * np.roll(np.eye(n), 1, axis=1) if cyclic else 0.0)
    kill = np.where(rng.uniform(size=n) < 0.1, rng.uniform(size=n), 0.0)
    rates, p, t, tolerance = sp.csr_matrix(Q - np.diag(np.diag(Q))), rng.dirichlet(np.ones(n)), 10.0**log_time, 10.0**log_tolerance
    G = rates.toarray() - np.diag(np.asarray(rates.sum(axis=1)).ravel() + kill)
    masses, error = _explicit.Chebyshev(rates, kill).series(p, np.array([t]), tolerance)
    found, exact = masses[0], p @ la.expm(t * G)
    wrong = np.abs(found - exact).sum()
    assert wrong <= tolerance and wrong <= error[0] + 1e-12
    if not kill.any():
        assert abs(found.sum() - 1.0) < 1e-12


# ---- large chains -----------------------------------------------------------------------------------------------------------


def test_iteration_agrees_with_elimination(iterate):
    fp, _, _ = ou(4.0, 18)
    p = _markov.stationary(fp.generator, shape=fp.grid.shape)
    region, a, b = (
        Region.ball([0.0, 0.0, 0.0], 2.5),
        Region.halfspace([1.0, 0.2, 0.0], -1.5),
        Region.halfspace([-1.0, 0.0, 0.3], -1.5),
    )

    def answers():
        return fp.mean_exit_time(region).values, fp.committor(a, b).values, fp.quasi_stationary(region).values

    iterated = answers()
    info = fp.mean_exit_time(region).solver_info
    assert info["solver"] == "iteration" and 0.0 <= info["solver error"] < 1e-6
    _elimination.ELIMINATED = 10**6  # the fixture puts it back
    exact = _markov.stationary(fp.generator, shape=fp.grid.shape)
    assert np.abs(p / exact - 1.0).max() < 1e-8  # every entry, down to 1e-40 of the largest
    assert exact.min() < 1e-20 * exact.max()
    for one, other, scale in zip(iterated, answers(), (1e-8, 1e-8, 1e-6), strict=True):
        assert np.abs(one - other).max() < scale * np.abs(other).max()


@pytest.mark.parametrize("killed", [False, True])
def test_spectrum_of_a_chain_too_large_to_factorise(iterate, killed):
    """Modes of the exponential against those of the resolvent: eigenvalues, a complex pair among them, and both functions."""
    drift = Process.ornstein_uhlenbeck(np.array([[1.0, 0.6, 0.2], [-0.3, 0.8, 0.1], [0.1, -0.4, 1.2]]), Noise.isotropic(0.5))
    grid = Grid(*[(-3.0, 3.0, 12)] * 3, boundary="absorbing" if killed else "reflecting")
    fp = FokkerPlanck(drift, grid)
    found = fp.spectrum(3)
    _elimination.ELIMINATED = 10**6
    other = FokkerPlanck(drift, grid).spectrum(3)
    assert found.eigenvalues.size == other.eigenvalues.size and np.abs(other.eigenvalues.imag).max() > 0.1
    partner = [int(np.argmin(np.abs(other.eigenvalues - v))) for v in found.eigenvalues]
    assert np.abs(found.eigenvalues - other.eigenvalues[partner]).max() < 1e-6
    for k, j in enumerate(partner):
        a, b = found.right[k].ravel(), other.right[j].ravel()
        assert abs(abs(a.conj() @ b) / np.linalg.norm(a) / np.linalg.norm(b) - 1.0) < 1e-6
    centre, radius = found.solver_info["centre"], found.solver_info["radius"]
    nearer = np.abs(other.eigenvalues[0 if killed else 1 :] - centre) < (1.0 - 1e-9) * radius
    assert nearer.any() and all(np.abs(found.eigenvalues - v).min() < 1e-6 for v in other.eigenvalues[0 if killed else 1 :][nearer])


def test_errors_of_solutions_by_iteration_are_in_the_estimates(iterate, monkeypatch):
    """Solved badly on purpose: what is added to the errors covers what the values have changed by; elimination adds nothing."""
    fp, region, x0 = ou(1.0, 18)[0], Region.ball([0.0, 0.0, 0.0], 4.5), [0.3, 0.0, 0.0]

    def asked():
        return (
            fp.escape_rate(region),
            fp.exit_time_variance(region, at=x0),
            fp.estimate(lambda f: float(f.mean_exit_time(region).at(x0))),
        )

    good = asked()
    monkeypatch.setattr(_iterative, "_AIM", 1e-3)
    monkeypatch.setattr(_iterative, "_ACCEPTED", 1e-1)
    for bad, exact in zip(asked(), good, strict=True):
        added = bad.discretization_error - exact.discretization_error
        assert abs(bad.value - exact.value) <= added + 0.01 * exact.discretization_error + 1e-12, (bad, exact)
        assert added > 1e-6 * exact.value
    with _elimination.solver_errors() as seen:
        _elimination.ELIMINATED = 10**6
        fp.escape_rate(region)
    assert seen == [0.0]


def test_high_barriers_of_large_chains_are_right_or_refused(iterate):
    """Barrier/D = 60: the stationary law keeps every entry, an exit time of 1e26 is beyond a residual in doubles and is refused."""
    U = Potential.from_expression("(x**2-1)**2 + x/10 + y**2/2 + z**2/2", "x y z")
    fp = FokkerPlanck(Process(U, Noise.isotropic(1.0 / 60.0)), Grid((-1.6, 1.6, 40), (-0.7, 0.7, 9), (-0.7, 0.7, 9)))
    exact = np.exp(-60.0 * (U(fp.grid.points()) - U([[-1.0, 0.0, 0.0]])))
    p = _markov.stationary(fp.generator, shape=fp.grid.shape)
    assert np.abs(p / (exact / exact.sum()) - 1.0).max() < 1e-6
    with pytest.raises(FpsolveError, match="use fewer cells"):
        fp.mean_exit_time(Region.halfspace([1.0, 0.0, 0.0], 0.9))
    _elimination.ELIMINATED = 10**6
    assert np.log10(fp.mean_exit_time(Region.halfspace([1.0, 0.0, 0.0], 0.9)).at([-1.0, 0.0, 0.0])) > 20


def test_gmres_finds_what_a_direct_solver_finds():
    rng = np.random.default_rng(4)
    M = np.eye(60) + 0.3 * rng.normal(size=(60, 60)) / np.sqrt(60)
    b = rng.normal(size=60)
    x, size, steps = _iterative.gmres(lambda v: M @ v, lambda v: v, b, np.zeros(60), 1e-11)
    assert np.abs(x - np.linalg.solve(M, b)).max() < 1e-10 and size <= 1e-11 and steps < 60


def test_iterated_solutions_of_both_signs_and_many_parts(iterate):
    """Shifted chains with isolated states, as at exits: any right-hand side, forward and transposed, against SciPy."""
    fp, _, _ = ou(2.0, 12)
    rates = gen.clean_rates(fp.generator)
    keep = np.ones(fp.grid.size)
    keep[::7] = 0.0
    rates = (sp.diags(keep) @ rates @ sp.diags(keep)).tocsr()
    rates.eliminate_zeros()
    kill = 0.2 + (1.0 - keep)
    core = _elimination.engine(rates, kill, lambda: gen.coordinates(rates, fp.grid.shape))
    assert isinstance(core, _iterative.Iterative)
    b = np.random.default_rng(0).normal(size=fp.grid.size)
    dense = sp.csc_matrix(sp.diags(np.asarray(rates.sum(axis=1)).ravel() + kill) - rates)
    for transposed, matrix in ((False, dense), (True, dense.T.tocsc())):
        x = sp.linalg.spsolve(matrix, b)
        assert np.abs(core.plain_solve(b, transposed) - x).max() < 1e-7 * np.abs(x).max()


def test_how_large_chains_are_solved_is_logged(iterate, caplog):
    fp, _, _ = ou(1.0, 12)
    with caplog.at_level(logging.DEBUG, "fpsolve._iterative"):
        _markov.stationary(fp.generator, shape=fp.grid.shape)
    assert any("the law changed by" in r.message for r in caplog.records)


# ---- pictures ---------------------------------------------------------------------------------------------------------------


def test_pictures_in_space_are_marginals_and_slices():
    grid = Grid((0.0, 1.0, 4), (0.0, 2.0, 5), (-3.0, 3.0, 6))
    values = np.random.default_rng(0).uniform(size=grid.shape)
    p = Density(values / (values * grid.cell_volumes).sum(), grid)

    def shown(ax):
        return np.asarray(ax.collections[0].get_array()).reshape(ax.collections[0].get_array().shape)

    marginal = plot_density(p, contours=())
    assert np.allclose(shown(marginal), (p.values.sum(axis=2) * 1.0).T) and marginal.get_xlabel() == "$x_{1}$"
    turned = plot_density(p, plane=(2, 0), at=0.5, contours=(), labels=["a", "b", "c"])
    assert np.allclose(shown(turned), p.values[:, 1, :]) and turned.get_title() == "b = 0.6"
    assert (turned.get_xlabel(), turned.get_ylabel()) == ("c", "a")
    field = plot_field(Field(values, grid, name="f"), plane=(1, 2), at=0.9, contours=0)
    assert np.allclose(shown(field), values[3].T)
    flow = np.random.default_rng(1).normal(size=(*grid.shape, 3))
    current = plot_current(Current(flow, grid, np.zeros(grid.shape)), plane=(0, 2), at=0.1)
    assert np.allclose(shown(current), np.sqrt(flow[:, 0, :, 0] ** 2 + flow[:, 0, :, 2] ** 2).T)
    with pytest.raises(ValueError, match="outside the box"):
        plot_density(p, at=4.0)
    with pytest.raises(ValueError, match="two different axes"):
        plot_density(p, plane=(1, 1))
    with pytest.raises(ValueError, match="three dimensions"):
        plot_density(Density([1.0, 1.0], Grid((0.0, 1.0, 2))), plane=(0, 1))


def test_the_iteration_for_a_stationary_density_counts_its_rounds(iterate, updates):
    shown, plain = ou(1.0, 12)[0].stationary(progress=True), ou(1.0, 12)[0]
    count = len(updates)
    assert count > 1 and np.array_equal(shown.values, plain.stationary().values) and len(updates) == count
