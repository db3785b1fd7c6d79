"""Graded axes: geometry, the guarantees of the generator, measured orders, and results that live on such grids."""

import numpy as np
import pytest
import scipy.linalg as la
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

import fpsolve as fps
from fokker_planck_cases import SIDES, A, Stand, gaussian, l1, orders, ou, random_field, tensor
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process

SINH = ("sinh", 0.3, 0.8)


def power(s):
    """A map that is smooth, increasing and not symmetric."""
    return s + 0.12 * np.sin(np.pi * s) ** 2 * np.cos(np.pi * s + 0.4)


def wave(s):
    return s + 0.1 * np.sin(2 * np.pi * s) / (2 * np.pi) * 4


# ---- geometry -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", [SINH, ("tanh", 1.5), power])
def test_cells_fill_the_box_and_follow_the_map(mapping):
    grid = Grid((-2.0, 3.0, 40, mapping), (0.0, 1.0, 5))
    np.testing.assert_allclose(grid.cell_volumes.sum(), 5.0, rtol=1e-13)
    assert grid.edges[0][0] == -2.0
    assert grid.edges[0][-1] == 3.0
    assert np.all(grid.edges[0][:-1] < grid.centers[0])
    assert np.all(grid.centers[0] < grid.edges[0][1:])
    for i, x in enumerate(grid.centers[0]):
        assert grid.index([x, 0.5]) == (i, 2)
    # twice the cells: every other edge is an old edge, every other one an old centre
    fine = Grid((-2.0, 3.0, 80, mapping), (0.0, 1.0, 5))
    np.testing.assert_allclose(fine.edges[0][::2], grid.edges[0], atol=1e-12)
    np.testing.assert_allclose(fine.edges[0][1::2], grid.centers[0], atol=1e-12)
    assert fine.coarsen() == Grid((-2.0, 3.0, 40, mapping), (0.0, 1.0, 2))
    assert not grid.uniform


def test_where_the_cells_are_small():
    sinh, tanh = Grid((-2.0, 3.0, 41, SINH)), Grid((-2.0, 3.0, 41, ("tanh", 2.0)))
    assert abs(sinh.centers[0][np.argmin(sinh.widths[0])] - 0.3) < sinh.widths[0].min()
    assert np.argmax(tanh.widths[0]) == 20
    np.testing.assert_allclose(tanh.widths[0], tanh.widths[0][::-1])
    # dx/ds of a sinh axis is proportional to sqrt(width^2 + (x - x0)^2)
    local = sinh.widths[0] / np.sqrt(0.8**2 + (sinh.centers[0] - 0.3) ** 2)
    np.testing.assert_allclose(local, local[0], rtol=2e-3)


def test_equality_and_repr():
    grid = Grid((-2, 3, 12, power))
    nodes = np.empty(25)
    nodes[::2], nodes[1::2] = grid.edges[0], grid.centers[0]
    again = Grid((-2, 3, 12, ("nodes", nodes)))
    assert again == grid
    assert hash(again) == hash(grid)
    assert Grid((-2, 3, 12)) != grid
    assert Grid((-2, 3, 12, SINH)) != grid
    assert repr(Grid((-2, 3, 12, SINH))) == "Grid((-2, 3, 12, ('sinh', 0.3, 0.8)), boundary='reflecting')"
    assert "power" in repr(grid)
    np.testing.assert_allclose(again.coarsen().edges[0], grid.coarsen().edges[0], atol=1e-12)
    named = Grid((-2, 3, 12, SINH))
    assert eval(repr(named)) == named


@pytest.mark.parametrize(
    ("mapping", "error", "match"),
    [
        ("sinh", TypeError, "mapping must be"),
        (3, TypeError, "mapping must be"),
        (("sinh", 0.0), ValueError, "mapping must be"),
        (("cosh", 0.0, 1.0), ValueError, "mapping must be"),
        (("sinh", 0.0, -1.0), ValueError, "width of a sinh mapping must be > 0"),
        (("tanh", 0.0), ValueError, "strength"),
        (("nodes", [0.0, 0.5, 1.0]), ValueError, "9 numbers for 4 cells, got 3"),
        (("nodes", [0, 1, 2, 1.5, 3, 4, 5, 6, 7]), ValueError, "must increase"),
        (lambda s: 10 * s**3 - 15 * s**2 + 6 * s, ValueError, "must increase"),
        (lambda s: 2 * s, ValueError, "0 to 0 and 1 to 1"),
    ],
)
def test_bad_mappings(mapping, error, match):
    with pytest.raises(error, match=match):
        Grid((0.0, 7.0, 4, mapping))


def test_a_periodic_axis_needs_a_map_that_closes():
    Grid((0.0, 1.0, 40, wave), boundary="periodic")
    with pytest.raises(ValueError, match="same slope at both ends"):
        Grid((0.0, 1.0, 40, ("sinh", 0.1, 0.1)), boundary="periodic")


# ---- generator ----------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.0, 4.0), SIDES, SIDES)
def test_rates_are_nonnegative_and_conserve_mass(seed, log_condition, first, second):
    maps = [wave if s == "periodic" else m for s, m in ((first, ("sinh", -0.2, 0.3)), (second, ("tanh", 1.0)))]
    grid = Grid((-1.0, 1.0, 24, maps[0]), (-1.5, 1.0, 19, maps[1]), boundary=[first, second])
    fp = FokkerPlanck(random_field(seed, log_condition), grid)
    off = fp.generator.tocoo()
    assert np.all(off.data[off.row != off.col] >= 0.0)
    scale = np.abs(fp.generator.diagonal()).max()
    np.testing.assert_allclose(np.asarray(fp.generator.sum(axis=1)).ravel() + fp.kill, 0.0, atol=1e-12 * scale)


def test_detailed_balance_with_cell_masses():
    Phi = Potential.from_expression("3*cos(x) + 2*sin(y)*cos(x)", variables="x y")
    noise = Noise.from_expression([["1.2 + sin(x)", "0.3*cos(y)"], ["0.3*cos(y)", "0.8 + 0.4*cos(x)"]], variables="x y")
    grid = Grid((0, 6, 30, ("sinh", 2.0, 1.0)), (0, 6, 36, power))
    fp = FokkerPlanck(Process.reversible(Phi, noise), grid)
    pi = np.exp(-Phi(grid.points())) * grid.cell_volumes.ravel()
    flow = fp.generator.tocoo()
    back = fp.generator.T.tocsr()[flow.row, flow.col].A1 * pi[flow.col]
    np.testing.assert_allclose(pi[flow.row] * flow.data, back, rtol=1e-12)
    np.testing.assert_allclose(fp.stationary().cell_mass.ravel(), pi / pi.sum(), rtol=1e-11)


# ---- orders -------------------------------------------------------------------------------------------------------------


def test_multiplicative_noise_in_one_dimension():
    """Drift -x, D = 1 + x^2 in Ito's sense: p ~ (1 + x^2)^(-3/2)."""
    process = Process.from_drift("-x", Noise.from_expression("1 + x**2"))
    norm = integrate.quad(lambda x: (1 + x * x) ** -1.5, -40, 40, points=[0])[0]
    for mapping in (("sinh", 0.0, 1.0), power):
        errors = []
        for n in (100, 200, 400):
            p = FokkerPlanck(process, Grid((-40, 40, n, mapping))).stationary()
            errors.append(l1(p, (1 + p.grid.centers[0] ** 2) ** -1.5 / norm))
        assert np.all(orders(errors) >= 1.9), errors


def test_a_narrow_density_in_a_wide_box():
    """Standard deviation 0.1 in a box of length 80: 100 graded cells against 400 equal ones, which see one cell or two."""
    process, errors = Process.from_drift("-x", Noise.isotropic(0.01)), []
    for axis in ((-40, 40, 100, ("sinh", 0.0, 0.3)), (-40, 40, 400)):
        p = FokkerPlanck(process, Grid(axis)).stationary()
        errors.append(abs(float(p.covariance()[0, 0]) / 0.01 - 1))
    assert errors[0] < 0.02 < errors[1], errors


@pytest.mark.parametrize("known", [True, False])
def test_exit_time_of_a_double_well(known):
    from fokker_planck_cases import double_well_time

    process = Process(Potential.from_expression("(x**2-1)**2"), Noise.isotropic(0.05))
    if not known:
        process = Process.from_drift("-4*x*(x**2-1)", Noise.isotropic(0.05))
    errors = []
    for n in (200, 400, 800):
        tau = FokkerPlanck(process, Grid((-2.5, 2.5, n, ("sinh", 0.1, 1.0)))).mean_exit_time(
            Region.halfspace([1.0], 1.0), at=[-1.0]
        )
        errors.append(abs(tau.value / double_well_time(0.05) - 1))
        assert abs(tau.value / double_well_time(0.05) - 1) < 2 * tau.discretization_error / tau.value
    assert np.all(orders(errors) >= 1.9), errors


@pytest.mark.parametrize("condition", [4.0, 20.0])
def test_stationary_density_in_two_dimensions(condition):
    S, errors = la.solve_continuous_lyapunov(A, 2 * tensor(condition, 0.5)), []
    for n in (48, 96, 192):
        grid = Grid((-5, 5, n, ("sinh", 0.0, 3.0)), (-5, 5, n, power))
        p = FokkerPlanck(ou(condition), grid).stationary()
        assert abs(p.mass - 1) < 1e-12
        errors.append(l1(p, gaussian(grid.points(), np.zeros(2), S)))
    assert np.all(orders(errors) >= 1.9), errors
    assert errors[-1] < 1e-2


def test_transient_in_two_dimensions():
    D, mean0, cov0, t = tensor(4.0, 0.5), np.array([1.5, -1.0]), np.diag([0.3, 0.2]), 0.7
    S = la.solve_continuous_lyapunov(A, 2 * D)
    E = la.expm(-A * t)
    exact, errors = (E @ mean0, S + E @ (cov0 - S) @ E.T), []
    for n in (40, 80, 160):
        grid = Grid((-5, 5, n, ("sinh", 0.5, 3.0)), (-5, 5, n, power))
        p = FokkerPlanck(ou(4.0), grid).evolve(("gaussian", mean0, cov0), t, rtol=1e-8)
        errors.append(l1(p, gaussian(grid.points(), *exact)))
    assert orders(errors)[-1] >= 1.9, errors


def test_exit_from_a_disc_with_state_dependent_noise():
    """D = (1 + r^2) I, drift k r e_r: (1 + r^2)(tau'' + tau'/r) + k r tau' = -1, tau(1) = 0, integrated by quadrature."""
    k, mid = -1.0, np.array([0.05, -0.1])
    noise = Noise.from_expression([["1 + (x-0.05)**2 + (y+0.1)**2", "0"], ["0", "1 + (x-0.05)**2 + (y+0.1)**2"]], variables="x y")
    process = Process.from_drift([f"{k}*(x-0.05)", f"{k}*(y+0.1)"], noise, variables="x y")

    def slope(r):  # r (1 + r^2)^(k/2) tau' = - int_0^r s (1 + s^2)^(k/2 - 1) ds = -((1 + r^2)^(k/2) - 1)/k
        return -((1 + r * r) ** (k / 2) - 1) / k / (r * (1 + r * r) ** (k / 2)) if r else 0.0

    errors = []
    for n in (31, 62, 124):
        grid = Grid((-1.3, 1.3, n, ("sinh", 0.2, 1.5)), (-1.25, 1.3, n, power))
        tau = FokkerPlanck(process, grid).mean_exit_time(Region.ball(mid, 1.0)).values.ravel()
        r = np.linalg.norm(grid.points() - mid, axis=1)
        exact = np.array([-integrate.quad(slope, v, 1)[0] if v < 1 else 0.0 for v in r])
        errors.append(np.abs(tau - exact).max())
    assert np.all(orders(errors) >= 1.8), errors
    assert orders(errors).mean() >= 1.9, errors


def test_survival_between_absorbing_walls():
    D, t, m, s = 0.4, 0.15, 0.4, 0.08
    k = np.arange(1, 60, 2) * np.pi
    exact = np.sum(2 * np.exp(-0.5 * (k * s) ** 2) * np.sin(k * m) * 2 / k * np.exp(-D * k**2 * t))
    process, errors = Process(Potential.from_expression("0*x"), Noise.isotropic(D)), []
    for n in (25, 50, 100):
        fp = FokkerPlanck(process, Grid((0, 1, n, ("tanh", 1.0)), boundary="absorbing"))
        errors.append(abs(fp.evolve(("gaussian", [m], [[s**2]]), t, rtol=1e-9).mass - exact))
    assert np.all(orders(errors) >= 1.9), errors


def test_tilted_washboard_on_a_graded_circle():
    D, f, errors = 0.3, 0.7, []
    process = Process.from_drift("f + 0.8*sin(x)", Noise.isotropic(D), params={"f": f})
    weight = lambda y, x: np.exp((0.8 * np.cos(y) - f * y - 0.8 * np.cos(x) + f * x) / D)  # noqa: E731
    inner = lambda x: integrate.quad(weight, x, x + 2 * np.pi, args=(x,), epsabs=1e-13)[0]  # noqa: E731
    norm = integrate.quad(inner, 0, 2 * np.pi, epsabs=1e-11)[0]
    for n in (32, 64, 128):
        p = FokkerPlanck(process, Grid((0, 2 * np.pi, n, wave), boundary="periodic")).stationary()
        errors.append(l1(p, np.array([inner(x) for x in p.grid.centers[0]]) / norm))
    assert np.all(orders(errors) >= 1.9), errors


def test_constant_density_on_a_graded_torus():
    flat = Stand(2, lambda x: np.zeros(x.shape), lambda x: np.broadcast_to(tensor(30.0, 0.4), (*x.shape[:-1], 2, 2)))
    p = FokkerPlanck(flat, Grid((0, 1, 20, wave), (0, 2, 24, wave), boundary="periodic")).stationary()
    np.testing.assert_allclose(p.values, 0.5, rtol=1e-10)


# ---- results ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", [SINH, ("tanh", 1.5), power])
def test_files_give_the_grid_back(tmp_path, mapping):
    grid = Grid((-2.0, 3.0, 40, mapping), (0.0, 1.0, 6), boundary=["reflecting", "absorbing"])
    density = fps.Density(np.ones(grid.shape), grid)
    fps.save(tmp_path / "a.h5", density)
    back = fps.load(tmp_path / "a.h5")
    assert back == density
    assert back.grid == grid
    np.testing.assert_allclose(back.grid.coarsen().edges[0], grid.coarsen().edges[0], atol=1e-6)


def test_marginal_moments_and_interpolation():
    cov = np.array([[0.5, 0.2], [0.2, 0.4]])
    grid = Grid((-5, 5, 200, ("sinh", 0.3, 2.0)), (-5, 5, 150, power))
    p = fps.Density(gaussian(grid.points(), np.zeros(2), cov).reshape(grid.shape), grid)
    for axis in (0, 1):
        line = p.marginal(axis)
        np.testing.assert_array_equal(line.grid.edges[0], grid.edges[axis])
        np.testing.assert_allclose(line.values, gaussian(line.grid.points(), np.zeros(1), cov[axis : axis + 1, axis]), atol=1e-3)
    np.testing.assert_allclose(p.covariance(), cov, atol=1e-3)
    x = np.array([[0.21, -0.4], [1.0, 1.1]])
    np.testing.assert_allclose(p.at(x), gaussian(x, np.zeros(2), cov), atol=2e-3)


def test_pictures_use_the_edges():
    import matplotlib

    matplotlib.use("Agg")
    grid = Grid((-2.0, 3.0, 20, SINH), (0.0, 1.0, 6))
    ax = fps.Density(np.arange(120.0).reshape(grid.shape), grid).plot()
    np.testing.assert_allclose(ax.collections[0].get_coordinates()[0, :, 0], grid.edges[0])
