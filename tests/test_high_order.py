"""The high-order scheme against closed forms, quadrature and manufactured problems; measured orders; what it refuses."""

import numpy as np
import pytest
import sympy as sy
from high_order_cases import X, integral, stationary_process, turning
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsolve as fps
from fokker_planck_cases import A, gaussian, l1, ou, tensor
from fpsolve import FokkerPlanck, FpsolveError, Grid, Noise, Potential, Process, Region, theory
from fpsolve._operators import Operators

x, y, z = X
INTERVAL = Region.box([-1.0], [1.0])


def rates(errors, cells):
    """Measured orders between successive grids."""
    errors, cells = np.array(errors), np.array(cells, float)
    return np.log(errors[:-1] / errors[1:]) / np.log(cells[1:] / cells[:-1])


def brownian(D=0.5):
    return Process.from_drift("0*x", Noise.isotropic(D))


def linear(D=1.0):
    return Process(Potential.from_expression("x**2/2"), Noise.isotropic(D))


# ---- stationary densities ---------------------------------------------------------------------------------------------------


#: Orders of the scheme and the least to be measured; the fourth, where everything is the same but the stencils, in long runs.
ORDERS = [pytest.param(4, 3.7, marks=pytest.mark.slow), (6, 5.5)]


@pytest.mark.parametrize(("condition", "target"), [(4, 1e-5), (100, 5e-5), (1000, 1e-4)])
def test_irreversible_linear_process_on_192_by_192_cells(condition, target):
    fp = FokkerPlanck(ou(condition), Grid((-5, 5, 192), (-5, 5, 192)), "high-order")
    p, S = fp.stationary(), theory.ou_covariance(A, tensor(condition, 0.5))
    assert l1(p, gaussian(p.grid.points(), np.zeros(2), S)) < target
    assert abs(p.mass - 1.0) < 1e-12 and -1e-12 < p.negative_mass <= 0.0
    np.testing.assert_allclose(p.covariance(), S, rtol=1e-6)


PHI = sy.sin(x) + y**2 / 3 + x * y / 5
STREAM = sy.Rational(1, 20) * (1 - x**2) * (4 - y**2)


@pytest.mark.parametrize(
    ("order", "least", "cells"), [pytest.param(4, 3.7, (24, 36, 54), marks=pytest.mark.slow), (6, 5.5, (24, 36, 54, 81))]
)
@pytest.mark.parametrize("stream", [None, STREAM], ids=["reversible", "irreversible"])
def test_order_with_turning_axes_and_walls_that_carry_mass(order, least, cells, stream):
    process, density = stationary_process(PHI, turning(4), stream)
    errors = []
    for n in cells:
        grid = Grid((-1, 1, n), (-2, 2, n))
        p = FokkerPlanck(process, grid, "high-order", order=order).stationary()
        assert abs(p.mass - 1.0) < 1e-12 and p.negative_mass == 0.0
        errors.append(l1(p, density(grid.points()) / integral(density, grid)))
    assert rates(errors, cells)[-1] > least and np.mean(rates(errors, cells)) > least - 0.2


@pytest.mark.parametrize(("order", "least"), ORDERS)
@pytest.mark.parametrize("mapping", [None, ("tanh", 1.2), ("sinh", 0.3, 0.8)], ids=["uniform", "tanh", "sinh"])
def test_order_on_the_line_with_state_dependent_noise_and_walls_that_carry_mass(order, least, mapping):
    phi, D = sy.sin(3 * x) + x**2 / 2, sy.Matrix([[1 + sy.cos(2 * x) / 2]])
    process, density = stationary_process(phi, D)
    errors, cells = [], (32, 48, 72, 108)
    for n in cells:
        grid = Grid((-1.5, 2.0, n) if mapping is None else (-1.5, 2.0, n, mapping))
        p = FokkerPlanck(process, grid, "high-order", order=order).stationary()
        assert abs(p.mass - 1.0) < 1e-12
        errors.append(l1(p, density(grid.points()) / integral(density, grid)))
    assert np.mean(rates(errors, cells)) > least


@pytest.mark.parametrize(("order", "least"), ORDERS)
def test_order_with_turning_axes_on_graded_axes(order, least):
    process, density = stationary_process(PHI, turning(4), STREAM)
    errors, cells = [], (24, 36, 54, 81)
    for n in cells:
        grid = Grid((-1, 1, n, ("tanh", 1.0)), (-2, 2, n, lambda s: s + 0.1 * np.sin(2 * np.pi * s)))
        p = FokkerPlanck(process, grid, "high-order", order=order).stationary()
        assert abs(p.mass - 1.0) < 1e-12
        errors.append(l1(p, density(grid.points()) / integral(density, grid)))
    assert np.mean(rates(errors, cells)) > least


@pytest.mark.parametrize(("order", "least"), ORDERS)
def test_order_with_two_periodic_axes(order, least):
    process, density = stationary_process(sy.sin(x) + sy.cos(y - x) / 2, periodic_tensor(), sy.sin(x + 2 * y) / 10)
    errors, cells = [], (24, 36, 54)
    for n in cells:
        grid = Grid((0, 2 * np.pi, n), (0, 2 * np.pi, n), boundary="periodic")
        p = FokkerPlanck(process, grid, "high-order", order=order).stationary()
        errors.append(l1(p, density(grid.points()) / integral(density, grid)))
    assert rates(errors, cells)[-1] > least


def periodic_tensor():
    R = sy.Matrix([[sy.cos(sy.sin(x)), -sy.sin(sy.sin(x))], [sy.sin(sy.sin(x)), sy.cos(sy.sin(x))]])
    return (1 + sy.cos(y) / 4) * R * sy.diag(1, sy.Rational(1, 3)) * R.T


def test_three_dimensions():
    drift = np.array([[1.0, 0.5, 0.0], [-0.5, 1.2, 0.3], [0.0, 0.2, 0.9]])
    D = np.array([[1.0, 0.3, 0.1], [0.3, 0.8, -0.2], [0.1, -0.2, 0.7]])
    process, S = Process.ornstein_uhlenbeck(drift, Noise.constant(D)), theory.ou_covariance(drift, D)
    errors, cells = [], (14, 20)
    for n in cells:
        p = FokkerPlanck(process, Grid(*[(-4.5, 4.5, n)] * 3), "high-order").stationary()
        assert abs(p.mass - 1.0) < 1e-12
        errors.append(l1(p, gaussian(p.grid.points(), np.zeros(3), S)))
    assert errors[-1] < 0.02 and rates(errors, cells)[-1] > 4.0
    import scipy.linalg as la

    centre = np.array([0.5, -0.4, 0.3])
    fp = FokkerPlanck(process, Grid(*[(-4.5, 4.5, 20)] * 3), "high-order")
    later = fp.evolve(lambda q: np.exp(-0.5 * np.sum((q - centre) ** 2, axis=1) / 0.7), 0.5, rtol=1e-5)
    assert abs(later.mass - 1.0) < 1e-12
    np.testing.assert_allclose(later.mean(), la.expm(-0.5 * drift) @ centre, atol=2e-3)


@pytest.mark.slow
def test_order_in_three_dimensions():
    drift = np.diag([1.0, 1.2, 0.8]) + 0.3 * np.triu(np.ones((3, 3)), 1)
    D = np.array([[1.0, 0.3, 0], [0.3, 0.8, -0.2], [0, -0.2, 0.7]])
    process, S = Process.ornstein_uhlenbeck(drift, Noise.constant(D)), theory.ou_covariance(drift, D)
    errors, cells = [], (16, 20, 26)
    for n in cells:
        p = FokkerPlanck(process, Grid(*[(-5.0, 5.0, n)] * 3), "high-order").stationary()
        errors.append(l1(p, gaussian(p.grid.points(), np.zeros(3), S)))
    assert rates(errors, cells)[-1] > 5.0


# ---- evolution --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "least"), ORDERS)
def test_order_of_transients_on_the_line(order, least):
    errors, cells = [], (48, 72, 108)
    variance = 1.0 - 0.75 * np.exp(-2.0)
    for n in cells:
        grid = Grid((-7, 7, n))
        p = FokkerPlanck(linear(), grid, "high-order", order=order).evolve(("gaussian", [1.0], [[0.25]]), 1.0, rtol=1e-10)
        errors.append(l1(p, gaussian(grid.points(), np.exp([-1.0]), variance)))
    assert rates(errors, cells)[-1] > least


@pytest.mark.parametrize(("order", "least"), ORDERS)
def test_order_of_transients_in_the_plane(order, least):
    import scipy.linalg as la

    t, start, D = 0.6, np.array([[0.6, 0.1], [0.1, 0.5]]), tensor(4, 0.5)
    S, G = theory.ou_covariance(A, D), la.expm(-A * 0.6)
    mean, cov = G @ [1.0, -0.5], S + G @ (start - S) @ G.T
    errors, cells = [], (36, 54, 72)
    for n in cells:
        grid = Grid((-5, 5, n), (-5, 5, n))
        p = FokkerPlanck(ou(4), grid, "high-order", order=order).evolve(("gaussian", [1.0, -0.5], start), t, rtol=1e-9)
        assert abs(p.mass - 1.0) < 1e-12
        errors.append(l1(p, gaussian(grid.points(), mean, cov)))
    assert rates(errors, cells)[-1] > least


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["reflecting", "periodic"]), st.sampled_from([None, ("tanh", 1.0)]), st.integers(0, 10**6))
def test_mass_is_conserved_whatever_the_walls(side, mapping, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=2), rng.normal(size=2)
    process, _ = stationary_process(sy.sin(float(a[0]) * x) + sy.cos(float(a[1]) * y), turning(3))
    axis = (-1.0, 1.0, 18) if mapping is None or side == "periodic" else (-1.0, 1.0, 18, mapping)
    fp = FokkerPlanck(process, Grid(axis, (-1.5, 1.0, 16), boundary=[side, "reflecting"]), "high-order")
    series = fp.evolve(lambda p: 1.0 + 0.5 * np.sin(p @ b), [0.1, 10.0], rtol=1e-8)
    assert all(abs(p.mass - 1.0) < 1e-12 for p in series)
    assert np.abs(fp.operators.forward.sum(axis=0)).max() < 1e-11 * np.abs(fp.operators.forward.diagonal()).max()


# ---- stability --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [pytest.param(4, marks=pytest.mark.slow), 6])
@pytest.mark.parametrize("sides", ["reflecting", "absorbing", ("reflecting", "absorbing")], ids=str)
def test_no_growing_modes_where_cells_resolve_the_noise(order, sides):
    """Spectra of both matrices with turning tensors; the exponent per cell is below 4."""
    for condition in (1, 4, 10):
        for strength in (0.0, 1.0, -1.0):
            stream = strength * sy.sin(2 * y) * sy.cos(x) / 4
            process, _ = stationary_process(strength * (x**2 + y**2 / 2), turning(condition), stream)
            grid = Grid((-1, 1, 16), (-1, 1, 16), boundary=[sides, sides])
            problem = Operators(process, grid, order, (slice(0, 16), slice(0, 16)), grid.boundary)
            assert problem.exponent.max() < 4.0
            for matrix in (problem.forward, problem.backward):
                values = np.linalg.eigvals(matrix.toarray())
                assert values.real.max() < 1e-10 * np.abs(values).max()


@pytest.mark.parametrize("condition", [100, 1000])
def test_no_growing_modes_where_walls_are_far_too_coarse(condition):
    fp = FokkerPlanck(ou(condition), Grid((-5, 5, 32), (-5, 5, 32)), "high-order")
    assert fp.exponent.max() > 100.0 and fp.added_diffusion.max() > 0.0
    values = np.linalg.eigvals(fp.operators.forward.toarray())
    assert values.real.max() < 1e-10 * np.abs(values).max()


@pytest.mark.parametrize("condition", [100, 1000])
def test_evolution_over_long_times_where_walls_are_far_too_coarse(condition):
    import scipy.linalg as la

    fp, S = (
        FokkerPlanck(ou(condition), Grid((-5, 5, 64), (-5, 5, 64)), "high-order"),
        theory.ou_covariance(A, tensor(condition, 0.5)),
    )
    early, late = fp.evolve(("gaussian", [1.0, -0.5], 0.3 * np.eye(2)), [0.5, 100.0], rtol=1e-6)
    G = la.expm(-0.5 * A)
    assert l1(early, gaussian(fp.grid.points(), G @ [1.0, -0.5], S + G @ (0.3 * np.eye(2) - S) @ G.T)) < 1e-3
    assert abs(late.mass - 1.0) < 1e-12
    assert np.abs(late.cell_mass - fp.stationary().cell_mass).sum() < 1e-5


def test_no_noise_in_one_direction():
    """Position and velocity: D = diag(0, 1), stationary density exp(-(x^2 + v^2)/2); smooth, so the order is kept."""
    process = Process.from_drift(["v", "-x-v"], Noise.constant(np.diag([0.0, 1.0])), variables="x v")
    errors, cells = [], (48, 72, 96)
    for n in cells:
        p = FokkerPlanck(process, Grid((-6, 6, n), (-6, 6, n)), "high-order").stationary()
        errors.append(l1(p, gaussian(p.grid.points(), np.zeros(2), np.eye(2))))
    assert rates(errors, cells)[-1] > 5.0 and errors[-1] < 1e-6


# ---- currents, spectra, observables -----------------------------------------------------------------------------------------


def test_tilted_washboard_current():
    """J = 2 pi-periodic drift f - U' against the double integral of Stratonovich's formula."""
    force, D = 0.7, 0.4
    process = Process.from_drift(f"{force} + sin(x)", Noise.isotropic(D))
    s = np.linspace(0.0, 2.0 * np.pi, 4001)
    V = np.cos(s) - force * s  # drift = -V'
    from scipy.integrate import cumulative_simpson, simpson

    inner = cumulative_simpson(np.exp(V / D), x=s, initial=0.0)
    total = inner[-1]
    shift = np.exp(V[-1] / D) / np.exp(V[0] / D)
    right = total - inner + inner * shift  # int_x^(x + L) exp(V/D)
    exact = D * (1.0 - shift) / simpson(np.exp(-V / D) * right, x=s)
    errors, cells = [], (45, 68, 100)
    for n in cells:
        fp = FokkerPlanck(process, Grid((0.0, 2.0 * np.pi, n), boundary="periodic"), "high-order")
        current = fp.current()
        errors.append(np.abs(current.values - exact).max())
        assert np.abs(current.divergence).max() < 1e-12
    assert rates(errors, cells)[-1] > 5.5 and errors[-1] < 1e-5 * abs(exact)


def test_current_and_entropy_of_an_irreversible_process_with_turning_axes():
    process, density = stationary_process(PHI, turning(4), STREAM)
    exact_current = [sy.lambdify((x, y), e, "numpy") for e in (sy.diff(STREAM, y), -sy.diff(STREAM, x))]
    errors, cells = [], (24, 36, 54)
    for n in cells:
        grid = Grid((-1, 1, n), (-2, 2, n))
        current = FokkerPlanck(process, grid, "high-order").current()
        points = grid.points()
        exact = np.stack([f(*points.T) for f in exact_current], axis=-1) / integral(density, grid)
        errors.append(np.abs(current.values.reshape(-1, 2) - exact).mean())
    assert rates(errors, cells)[-1] > 4.5
    S = theory.ou_covariance(A, 0.5 * np.eye(2))
    fp = FokkerPlanck(Process.ornstein_uhlenbeck(A, Noise.isotropic(0.5)), Grid((-5, 5, 64), (-5, 5, 64)), "high-order")
    produced = fp.entropy_production()
    assert abs(produced.value - np.trace(A @ S @ A.T) / 0.5 + np.trace(A)) < min(1e-5, produced.discretization_error)


def test_spectrum():
    modes = FokkerPlanck(linear(), Grid((-8, 8, 96)), "high-order").spectrum(5)
    assert np.all(np.abs(modes.rates - np.arange(5)) <= np.maximum(modes.eigenvalue_errors, 1e-9))
    assert np.abs(modes.rates - np.arange(5)).max() < 1e-5
    fp = FokkerPlanck(ou(4), Grid((-5, 5, 48), (-5, 5, 48)), "high-order")
    slow = fp.spectrum(3)
    exact = -np.linalg.eigvals(A)
    assert np.abs(np.sort_complex(slow.eigenvalues[1:]) - np.sort_complex(exact)).max() < 1e-4
    weights = fp._volumes
    gram = np.einsum("jab,kab,ab->jk", slow.left, slow.right, weights)
    np.testing.assert_allclose(gram, np.eye(3), atol=1e-5)


def test_spectrum_of_a_killed_process():
    fp = FokkerPlanck(brownian(), Grid((-1, 1, 72), boundary="absorbing"), "high-order")
    modes, k = fp.spectrum(4), np.arange(1, 5)
    np.testing.assert_allclose(modes.eigenvalues.real, -(k**2) * np.pi**2 / 8, rtol=1e-5)
    shape = np.cos(np.pi * fp.grid.centers[0] / 2)
    for function in (modes.left[0].real, modes.right[0].real):
        np.testing.assert_allclose(function / np.abs(function).max(), shape / shape.max(), atol=1e-7)


def test_expectations_forward_and_backward():
    fp = FokkerPlanck(linear(), Grid((-8, 8, 96)), "high-order")
    mean = fp.expectation(lambda p: p[:, 0], 1.0, ("gaussian", [2.0], [[0.25]]))
    assert abs(mean.value - 2.0 * np.exp(-1.0)) < max(1e-8, mean.discretization_error)
    u = fp.backward(lambda p: np.cos(p[:, 0]), 0.5)
    v = 1.0 - np.exp(-1.0)
    exact = np.exp(-v / 2) * np.cos(fp.grid.centers[0] * np.exp(-0.5))
    inner = np.abs(fp.grid.centers[0]) < 5.0
    assert np.abs(u.values - exact)[inner].max() < 1e-6


# ---- exits ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "least"), ORDERS)
def test_order_of_the_escape_rate_from_an_interval(order, least):
    errors, cells = [], ((36, 54, 81) if order == 4 else (16, 24, 36))
    for n in cells:
        rate = FokkerPlanck(brownian(), Grid((-1, 1, n)), "high-order", order=order)._slowest(INTERVAL)[2]
        errors.append(abs(np.exp(rate) - np.pi**2 / 8))
    assert rates(errors, cells)[-1] > least
    rate = FokkerPlanck(brownian(), Grid((-1, 1, 40)), "high-order", order=order).escape_rate(INTERVAL)
    assert abs(rate.value - np.pi**2 / 8) < rate.discretization_error < 1e-3


def test_exit_times_of_brownian_motion():
    fp = FokkerPlanck(brownian(), Grid((-1.5, 1.5, 60)), "high-order")
    tau = fp.mean_exit_time(INTERVAL)
    centers = fp.grid.centers[0]
    np.testing.assert_allclose(tau.values, np.maximum(1.0 - centers**2, 0.0), atol=1e-11)
    first, second = fp.exit_time_moments(INTERVAL)
    inside = first.mask
    np.testing.assert_allclose(second.values[inside], ((5 - 6 * centers**2 + centers**4) / 3)[inside], atol=1e-11)
    assert fp.exit_time_variance(INTERVAL, at=[0.0]).value == pytest.approx(2 / 3, abs=1e-10)
    assert fp.mean_exit_time(INTERVAL, at=[0.31]).value == pytest.approx(1 - 0.31**2, abs=1e-10)
    p = fp.quasi_stationary(INTERVAL)
    assert abs(p.mass - 1.0) < 1e-12
    assert np.abs(p.values - np.where(inside, np.pi / 4 * np.cos(np.pi * centers / 2), 0.0)).max() < 1e-6


def test_distribution_of_exit_times_from_a_density():
    """From the quasi-stationary density the exit time is exponential."""
    fp, times, rate = FokkerPlanck(brownian(), Grid((-1.5, 1.5, 60)), "high-order"), [0.0, 0.3, 2.0], np.pi**2 / 8
    x = fp.grid.centers[0]
    values = np.where(np.abs(x) < 1.0, np.pi / 4 * np.cos(np.pi * x / 2), 0.0)
    out = fp.exit_time_distribution(INTERVAL, values, times, rtol=1e-10)
    np.testing.assert_allclose(out.survival, np.exp(-rate * np.array(times)), rtol=1e-6)
    np.testing.assert_allclose(out.density, rate * np.exp(-rate * np.array(times)), rtol=1e-5)
    with pytest.raises(ValueError, match="smooth start"):
        fp.exit_time_distribution(INTERVAL, [0.0], times)


@pytest.mark.parametrize(("order", "least"), ORDERS)
@pytest.mark.parametrize("mapping", [None, ("sinh", 0.0, 0.5)], ids=["uniform", "graded"])
def test_order_of_an_exit_time_with_a_reflecting_wall(order, least, mapping):
    process = Process(fps.potentials.double_well(), Noise.isotropic(0.3))
    exact = theory.mean_first_passage_1d(process, -1.0, 1.0, reflecting=-2.0).value
    errors, cells = [], (72, 108, 160)
    for n in cells:
        grid = Grid((-2.0, 1.0, n) if mapping is None else (-2.0, 1.0, n, mapping), boundary=("reflecting", "absorbing"))
        tau = FokkerPlanck(process, grid, "high-order", order=order).mean_exit_time(Region.halfspace([1.0], 1.0), at=[-1.0])
        errors.append(abs(tau.value - exact))
        assert errors[-1] < tau.discretization_error
    assert np.mean(rates(errors, cells)) > least


def test_forward_and_backward_matrices_agree_where_a_turned_tensor_meets_a_reflecting_wall():
    """The mean over a start rho of the mean exit time is minus the mass of K^-1 rho: two discretisations of one number."""
    process, _ = stationary_process(sy.sin(x) + y**2 / 3, periodic_tensor(), sy.sin(x) * y / 5)
    errors, cells = [], (36, 54, 81)
    for n in cells:
        grid = Grid((0, 2 * np.pi, n), (-2, 2, n), boundary=["periodic", ("reflecting", "absorbing")])
        fp = FokkerPlanck(process, grid, "high-order")
        tau = fp.mean_exit_time(Region.halfspace([0.0, 1.0], 2.0))
        start = np.exp(np.sin(grid.points()[:, 0]) - grid.points()[:, 1] ** 2) * fp.operators.weights
        from scipy.sparse.linalg import spsolve

        spent = -spsolve(fp.operators.forward.tocsc(), start).sum()
        errors.append(abs(tau.values.ravel() @ start - spent) / spent)
    assert rates(errors, cells)[-1] > 4.5 and errors[-1] < 2e-6


def test_committor_against_quadrature():
    process = Process(fps.potentials.double_well(), Noise.isotropic(0.3))
    a, b = Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0)
    errors, cells = [], (40, 60, 88)
    for n in cells:
        q = FokkerPlanck(process, Grid((-2, 2, n)), "high-order").committor(a, b)
        s, w = np.polynomial.legendre.leggauss(60)

        def weight(top, s=s, w=w):
            nodes = -1.0 + (top + 1.0) / 2.0 * (s + 1.0)
            return (top + 1.0) / 2.0 * w @ np.exp((nodes**2 - 1.0) ** 2 / 0.3)

        exact = np.array([np.clip(weight(v) / weight(1.0), 0.0, 1.0) if abs(v) < 1 else float(v > 0) for v in q.grid.centers[0]])
        errors.append(np.abs(q.values - exact).max())
    assert rates(errors, cells)[-1] > 5.0
    flat = FokkerPlanck(Process.from_drift(["0*x", "0*y"], Noise.constant(tensor(3, 0.0)), variables="x y"),
                        Grid((-2, 2, 40), (0, 1, 16)), "high-order")  # fmt: skip
    q = flat.committor(Region.halfspace([1.0, 0.0], -1.0), Region.halfspace([-1.0, 0.0], -1.0))
    np.testing.assert_allclose(q.values[:, 3], np.clip((q.grid.centers[0] + 1) / 2, 0, 1), atol=1e-10)
    turned = FokkerPlanck(Process.from_drift(["0*x", "0*y"], Noise.constant(tensor(4, 0.5)), variables="x y"),
                          Grid((-2, 2, 40), (0, 1, 16), boundary=["reflecting", "periodic"]), "high-order")  # fmt: skip
    q = turned.committor(Region.halfspace([1.0, 0.0], -1.0), Region.halfspace([-1.0, 0.0], -1.0))
    np.testing.assert_allclose(q.values[:, 5], np.clip((q.grid.centers[0] + 1) / 2, 0, 1), atol=1e-10)


# ---- what it says and refuses -----------------------------------------------------------------------------------------------


def test_cells_that_do_not_resolve_the_density_are_reported():
    fp = FokkerPlanck(ou(100), Grid((-5, 5, 24), (-5, 5, 24)), "high-order")
    p = fp.stationary()
    assert p.negative_mass < -1e-3
    assert any("negative" in w for w in p.warnings) and any("cell to cell" in w for w in p.warnings)
    assert any(a.status == "failed" for a in fp.entropy_production().assumptions)
    assert FokkerPlanck(ou(4), Grid((-5, 5, 64), (-5, 5, 64)), "high-order").stationary().warnings == ()


def test_barriers_beyond_double_precision_name_the_monotone_scheme():
    process = Process(fps.potentials.double_well(), Noise.isotropic(0.02))
    fp = FokkerPlanck(process, Grid((-2, 2, 200)), "high-order")
    with pytest.raises(FpsolveError, match="monotone"):
        fp.stationary()
    with pytest.raises(FpsolveError, match="monotone"):
        fp.mean_exit_time(Region.halfspace([1.0], 1.0))
    with pytest.raises(FpsolveError, match="monotone"):
        fp.escape_rate(Region.halfspace([1.0], 1.0))


def test_a_moderate_barrier_between_unequal_basins():
    U = Potential.from_expression("(x**2-1)**2 + x/10")
    process, grid = Process(U, Noise.isotropic(0.1)), Grid((-2, 2, 320))
    p = FokkerPlanck(process, grid, "high-order").stationary()

    def density(points):
        return np.exp(-U(points) / 0.1)

    assert l1(p, density(grid.points()) / integral(density, grid, 400)) < 1e-6
    assert abs(p.solver_info["moved by rounding"]) < 1e-6


def test_auto_does_not_take_the_far_worse_scheme():
    """Random irreversible linear processes on coarse grids: the density chosen is within ten times the error of the better one, or
    as good as 1 %, and the choice says what was compared. Some are beyond the limits of a resolved density."""
    compared = 0
    for seed in (0, 3, 7, 23, 58, 64, 87, 95):
        rng = np.random.default_rng(1000 + seed)
        condition = 10 ** rng.uniform(0.0, 2.5)
        axes = np.linalg.qr(rng.normal(size=(2, 2)))[0]
        D = axes @ np.diag([1.0, 1.0 / condition]) @ axes.T
        A = rng.normal(size=(2, 2))
        A += np.eye(2) * (0.3 - min(0.0, np.linalg.eigvals(A).real.min()))
        S, n = fps.theory.ou_covariance(A, D), int(rng.integers(24, 56))
        process = Process.ornstein_uhlenbeck(A, Noise.constant(0.5 * (D + D.T)))
        grid = Grid(*[(-7.0 * s, 7.0 * s, n) for s in np.sqrt(np.diag(S))])
        exact, errors = gaussian(grid.points(), np.zeros(2), S).reshape(grid.shape), {}
        for scheme in ("monotone", "high-order"):
            p = FokkerPlanck(process, grid, scheme).stationary()
            errors[scheme] = float(np.sum(np.abs(p.values - exact) * grid.cell_volumes))
        chosen = FokkerPlanck(process, grid, "auto")
        assert errors[chosen.scheme] < max(10.0 * min(errors.values()), 1e-2), (seed, errors, chosen.choice)
        compared += "the monotone density is" in chosen.choice
    assert compared >= 2


def test_auto_chooses_by_measurement_and_says_so():
    fine = FokkerPlanck(ou(4), Grid((-5, 5, 64), (-5, 5, 64)), "auto")
    assert fine.scheme == "high-order" and "cell to cell" in fine.choice and "chosen" in repr(fine)
    coarse = FokkerPlanck(ou(100), Grid((-5, 5, 24), (-5, 5, 24)), "auto")
    assert coarse.scheme == "monotone" and "negative" in coarse.choice and "chosen" in repr(coarse)
    assert coarse.stationary().values.min() >= 0.0 and coarse.refine().scheme == "monotone"
    steep = FokkerPlanck(Process(fps.potentials.double_well(), Noise.isotropic(0.02)), Grid((-2, 2, 200)), "auto")
    assert steep.scheme == "monotone" and "rounding" in steep.choice
    tiny = FokkerPlanck(linear(), Grid((-4, 4, 8)), "auto")
    assert tiny.scheme == "monotone" and "cells" in tiny.choice
    with pytest.raises(ValueError, match="order must be 4 or 6"):
        FokkerPlanck(linear(), Grid((-4, 4, 40)), "auto", order=5)
    lossy = FokkerPlanck(brownian(), Grid((-1, 1, 40), boundary="absorbing"), "auto")
    assert lossy.scheme == "high-order"


def test_regions_that_cut_cells_and_other_questions_are_refused():
    fp = FokkerPlanck(Process.from_drift(["0*x", "0*y"], Noise.isotropic(1.0), variables="x y"), Grid((-2, 2, 32), (-2, 2, 32)),
                      "high-order")  # fmt: skip
    for region in (Region.ball([0.0, 0.0], 1.0), Region.halfspace([1.0, 0.0], 0.93), Region.halfspace([1.0, 1.0], 1.0)):
        with pytest.raises(ValueError, match="monotone"):
            fp.mean_exit_time(region)
    with pytest.raises(ValueError, match="nothing can leave"):
        fp.mean_exit_time(Region.ball([0.0, 0.0], 9.0))
    box = Region.box([-1.0, -1.0], [1.0, 1.0])
    start = ("gaussian", [0, 0], np.eye(2))
    questions = [
        lambda: fp.exit_time_distribution(box, [0.0, 0.0], [1.0]),
        lambda: fp.reactive_rate(box, box),
        lambda: fp.reactive_current(box, box),
        lambda: fp.evolve(start, 1.0, method="positive"),
    ]
    for question in questions:
        with pytest.raises(ValueError, match="monotone"):
            question()
    with pytest.raises(ValueError, match="not inside"):
        fp.mean_exit_time(box, at=[1.5, 0.0])


@pytest.mark.parametrize(
    ("options", "text"),
    [({"order": 5}, "order must be 4 or 6"), ({"order": True}, "order must be 4 or 6"), ({"max_offset": 0}, "max_offset")],
)
def test_bad_options(options, text):
    with pytest.raises(ValueError, match=text):
        FokkerPlanck(linear(), Grid((-4, 4, 40)), "high-order", **options)


def test_bad_input():
    with pytest.raises(ValueError, match="order belongs"):
        FokkerPlanck(linear(), Grid((-4, 4, 40)), order=6)
    with pytest.raises(ValueError, match="scheme must be one of"):
        FokkerPlanck(linear(), Grid((-4, 4, 40)), "spectral")
    with pytest.raises(ValueError, match="at least 14 cells"):
        FokkerPlanck(linear(), Grid((-4, 4, 12)), "high-order")
    with pytest.raises(ValueError, match="absorbing"):
        FokkerPlanck(linear(), Grid((-4, 4, 40), boundary="absorbing"), "high-order").stationary()


def test_results_are_saved_and_drawn(tmp_path):
    fp = FokkerPlanck(linear(), Grid((-4, 4, 40)), "high-order")
    p, series = fp.stationary(), fp.evolve(("gaussian", [1.0], [[0.5]]), [0.1, 0.2])
    for k, result in enumerate((p, series, fp.current(), fp.spectrum(2))):
        path = tmp_path / f"{k}.h5"
        result.save(path)
        assert fps.load(path) == result
    assert series[0].weights is not None and series[0].mass == pytest.approx(1.0, abs=1e-13)
    import matplotlib

    matplotlib.use("Agg")
    assert p.plot() is not None
    plane = FokkerPlanck(ou(4), Grid((-4, 4, 20), (-3, 3, 16)), "high-order").stationary()
    assert plane.marginal(0).mass == pytest.approx(1.0, abs=1e-12)
    assert "high-order scheme (order 6)" in repr(p)


def test_orders_are_confirmed_by_three_grids():
    process, density = stationary_process(sy.sin(3 * x) + x**2 / 2, sy.Matrix([[1 + sy.cos(2 * x) / 2]]))
    fp = FokkerPlanck(process, Grid((-1.5, 2.0, 288)), "high-order", order=4)
    exact = integral(lambda p: p[..., 0] * density(p), fp.grid) / integral(density, fp.grid)
    mean = fp.estimate(lambda f: f.stationary().mean()[0], confirm=True)
    assert mean.assumptions[0].name == "order 4 on three grids"
    assert abs(mean.value - exact) < mean.discretization_error < 1e-6


def test_absurd_sizes_and_unknown_options_are_refused_at_once():
    process = Process.from_drift(["-x", "-y", "-z"], Noise.constant(np.eye(3)), variables="x y z")
    with pytest.raises(ValueError, match=r"the high-order scheme on 1000 x 900 x 950 cells need .* GB.*monotone"):
        FokkerPlanck(process, Grid((-4, 4, 1000), (-4, 4, 900), (-4, 4, 950)), "high-order")
    for scheme in ("high-order", "auto"):
        with pytest.raises(TypeError, match="FokkerPlanck has no option 'ordr'; known are max_offset and order"):
            FokkerPlanck(linear(), Grid((-4, 4, 40)), scheme, ordr=4)
