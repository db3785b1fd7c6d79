"""Stationary densities and evolution against closed forms, quadrature and series: measured orders, warnings, bad input."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg as la
from scipy import integrate

from fokker_planck_cases import A, Stand, gaussian, l1, orders, ou, random_field, tensor
from fpsolve._refine import richardson
from fpsolve.chains import SGDChain
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Density, DensitySeries, Estimate

# ---- stationary ---------------------------------------------------------------------------------------------------------


def test_order_of_the_stationary_density_of_an_irreversible_process():
    process, errors = ou(4.0), []
    S = la.solve_continuous_lyapunov(A, 2 * tensor(4.0, 0.5))
    for n in (48, 96, 192):
        p = FokkerPlanck(process, Grid((-5, 5, n), (-5, 5, n))).stationary()
        assert p.values.min() >= 0.0
        assert abs(p.mass - 1.0) < 1e-12
        errors.append(l1(p, gaussian(p.grid.points(), np.zeros(2), S)))
    assert np.all(orders(errors) >= 1.9), errors
    assert errors[-1] < 1e-4


@pytest.mark.slow
def test_strongly_anisotropic_noise_of_an_irreversible_process():
    S = la.solve_continuous_lyapunov(A, 2 * tensor(100.0, 0.5))
    p = FokkerPlanck(ou(100.0), Grid((-5, 5, 192), (-5, 5, 192))).stationary()
    assert l1(p, gaussian(p.grid.points(), np.zeros(2), S)) < 2e-3


@pytest.mark.slow
def test_condition_number_1000_to_768_cells():
    """The order is reached late (cells must resolve D^-1 b), and the change from half as many cells bounds the error at every size.

    On 384^2 to 768^2 cells the error still falls faster than h^2. The last step takes minutes and 9 GB.
    """
    S = la.solve_continuous_lyapunov(A, 2 * tensor(1000.0, 0.5))
    errors, mass, variance = [], None, []
    for n in (48, 96, 192, 384, 768):
        fp = FokkerPlanck(ou(1000.0), Grid((-5, 5, n), (-5, 5, n)))
        p = fp.stationary()
        errors.append(l1(p, gaussian(p.grid.points(), np.zeros(2), S)))
        variance.append(p.covariance()[0, 0])
        if mass is not None:
            change = np.abs(p.cell_mass.reshape(n // 2, 2, n // 2, 2).sum(axis=(1, 3)) - mass).sum()
            assert change > errors[-1], (n, change, errors[-1])
            assert abs(variance[-1] - variance[-2]) > abs(variance[-1] - S[0, 0]), (n, variance)
        if len(variance) > 2:  # what `estimate(confirm=True)` reports
            coarse = [text for text in p.warnings if "too coarse for the noise" in text]
            reported = richardson([Estimate(v) for v in variance[:-4:-1]], 2.0, coarse=coarse)
            assert abs(reported.value - S[0, 0]) < reported.discretization_error, (n, variance)
        mass = p.cell_mass
    assert np.all(np.diff(errors) < 0.0), errors
    assert orders(errors)[-1] >= 1.9, errors
    assert errors[-1] < 3e-3, errors


def curl_process(condition, scale=1.0):
    """Density exp(-Phi), Phi = x^4/4 + y^2/2 + xy/4, with the divergence-free current J (rho p)' of a varying rho(x)."""
    D = tensor(condition, 0.5)

    def grad(x):
        return np.stack([x[..., 0] ** 3 + 0.25 * x[..., 1], x[..., 1] + 0.25 * x[..., 0]], -1)

    def drift(x):
        g, rho, slope = grad(x), 0.5 + 0.3 * np.sin(2 * x[..., 0]), 0.6 * np.cos(2 * x[..., 0])
        return -g @ D + scale * np.stack([-rho * g[..., 1], rho * g[..., 0] - slope], -1)

    process = Stand(2, drift, lambda x: np.broadcast_to(D, (*x.shape[:-1], 2, 2)))
    return process, lambda x: np.exp(-(x[..., 0] ** 4) / 4 - x[..., 1] ** 2 / 2 - 0.25 * x[..., 0] * x[..., 1])


@pytest.mark.parametrize(("condition", "limit"), [(1.0, 1e-3), (4.0, 1e-3), (20.0, 5e-3)])
def test_order_with_a_nonlinear_drift_that_is_no_gradient(condition, limit):
    process, density = curl_process(condition)
    errors = []
    for n in (48, 96, 192):
        grid = Grid((-3, 3, n), (-6, 6, n))
        exact = density(grid.points())
        p = FokkerPlanck(process, grid).stationary()
        errors.append(l1(p, exact / (exact.sum() * grid.cell_volumes[0, 0])))
    assert orders(errors).mean() >= 1.9, errors
    assert errors[-1] < limit, errors


def test_multiplicative_noise_in_one_dimension_in_ito_sense():
    """Ito density with drift b and D(x): p = exp(int b/D)/D, here b = -x, D = 1 + x^2, so p ~ (1 + x^2)^(-3/2)."""
    process = Process.from_drift("-x", Noise.from_expression("1 + x**2"))
    errors = []
    for n in (100, 200, 400):
        p = FokkerPlanck(process, Grid((-4, 4, n))).stationary()
        exact = (1 + p.grid.centers[0] ** 2) ** -1.5
        errors.append(l1(p, exact / integrate.quad(lambda x: (1 + x * x) ** -1.5, -4, 4)[0]))
    assert np.all(orders(errors) >= 1.9), errors


def test_tilted_washboard_on_a_circle():
    """Periodic drift f - U': p(x) ~ exp(-V/D) int_x^{x+L} exp(V/D), V = U - f x, by quadrature."""
    D, f = 0.3, 0.7
    process = Process.from_drift("f + 0.8*sin(x)", Noise.isotropic(D), params={"f": f})
    errors = []
    for n in (32, 64, 128):
        p = FokkerPlanck(process, Grid((0, 2 * np.pi, n), boundary="periodic")).stationary()

        def V(x):
            return 0.8 * np.cos(x) - f * x

        def inner(x):
            return integrate.quad(lambda y: np.exp((V(y) - V(x)) / D), x, x + 2 * np.pi, epsabs=1e-13)[0]

        norm = integrate.quad(inner, 0, 2 * np.pi, epsabs=1e-11)[0]
        errors.append(l1(p, np.array([inner(x) for x in p.grid.centers[0]]) / norm))
    assert np.all(orders(errors) >= 1.9), errors
    assert errors[-1] < 1e-3


def test_constant_drift_on_a_torus_leaves_the_uniform_density():
    process = Process.from_drift(["1", "0.3"], Noise.constant(tensor(30.0, 0.4)), variables="x y")
    fp = FokkerPlanck(process, Grid((0, 1, 20), (0, 2, 24), boundary="periodic"))
    np.testing.assert_allclose(fp.stationary().values, 0.5, rtol=1e-10)


def test_stationary_warnings_and_refusals():
    flat = Process(Potential.from_expression("0*x"), Noise.isotropic(1.0))
    p = FokkerPlanck(flat, Grid((0, 1, 20))).stationary()
    assert any("reflecting low wall of axis 0 holds 5.0%" in w for w in p.warnings)
    with pytest.raises(ValueError, match="no stationary density"):
        FokkerPlanck(flat, Grid((0, 1, 20), boundary=("reflecting", "absorbing"))).stationary()
    coarse = FokkerPlanck(Process(Potential.from_expression("20*sin(10*x)"), Noise.isotropic(0.1)), Grid((0, 1, 20))).stationary()
    assert any("too coarse for the noise" in w for w in coarse.warnings)


def test_a_wrong_answer_on_a_coarse_grid_is_not_silent():
    """At condition number 1000 these cells are far too wide (L1 error about 0.5); where they resolve, nothing is said."""
    coarse = FokkerPlanck(ou(1000.0), Grid((-5, 5, 64), (-5, 5, 64))).stationary()
    assert any("too coarse for the noise" in w for w in coarse.warnings)
    assert FokkerPlanck(ou(4.0), Grid((-5, 5, 64), (-5, 5, 64))).stationary().warnings == ()


# ---- evolution ----------------------------------------------------------------------------------------------------------


def test_transient_of_the_irreversible_process():
    D, mean0, cov0, t = tensor(4.0, 0.5), np.array([1.5, -1.0]), np.diag([0.3, 0.2]), 0.7
    S = la.solve_continuous_lyapunov(A, 2 * D)
    E = la.expm(-A * t)
    exact_mean, exact_cov = E @ mean0, S + E @ (cov0 - S) @ E.T
    errors = []
    for n in (40, 80, 160):
        p = FokkerPlanck(ou(4.0), Grid((-5, 5, n), (-5, 5, n))).evolve(("gaussian", mean0, cov0), t, rtol=1e-8)
        assert abs(p.mass - 1) < 1e-12
        errors.append(l1(p, gaussian(p.grid.points(), exact_mean, exact_cov)))
    assert np.all(orders(errors) >= 1.8), errors
    assert orders(errors)[-1] >= 1.9, errors


def test_evolve_conserves_mass_and_sign():
    fp = FokkerPlanck(random_field(3, 2.0), Grid((-1, 1, 32), (-1, 1, 32)))
    rho0 = np.zeros((32, 32))
    rho0[5, 7] = 1.0 / fp.grid.cell_volumes[5, 7]
    series = fp.evolve(rho0, [0.0, 0.01, 0.1, 1.0], method="positive")
    assert isinstance(series, DensitySeries)
    np.testing.assert_allclose(series[0].values, rho0)
    for p in series:
        assert abs(p.mass - 1.0) < 1e-12
        assert p.values.min() >= 0.0
    default = fp.evolve(rho0, 0.01, rtol=1e-6)
    assert isinstance(default, Density)
    assert abs(default.mass - 1.0) < 1e-12
    assert default.negative_mass >= -1e-5
    assert np.abs(default.cell_mass - series[1].cell_mass).sum() < 1e-3


def test_initial_densities_agree():
    fp = FokkerPlanck(ou(), Grid((-5, 5, 40), (-5, 5, 40)))
    first = fp.evolve(("gaussian", [1.0, 0.0], 0.5 * np.eye(2)), 0.3)
    start = gaussian(fp.grid.points(), np.array([1.0, 0.0]), 0.5 * np.eye(2))
    tripled = fp.evolve(lambda x: 3.0 * gaussian(x, np.array([1.0, 0.0]), 0.5 * np.eye(2)), 0.3)
    np.testing.assert_allclose(tripled.values, first.values, rtol=1e-9)
    array = start.reshape(40, 40) / (start.sum() * fp.grid.cell_volumes[0, 0])
    np.testing.assert_allclose(fp.evolve(array, 0.3).values, first.values, rtol=1e-9)
    np.testing.assert_allclose(fp.evolve(Density(array, fp.grid), 0.3).values, first.values, rtol=1e-9)


def test_survival_between_absorbing_walls_against_the_series():
    """D p'' on (0, 1) from a Gaussian start: survival is a sine series; second order in the cell width."""
    D, t, m, s = 0.4, 0.15, 0.4, 0.08
    k = np.arange(1, 60, 2) * np.pi
    c = 2 * np.exp(-0.5 * (k * s) ** 2) * np.sin(k * m)  # the Gaussian's mass beyond the walls is 3e-7
    exact = np.sum(c * 2 / k * np.exp(-D * k**2 * t))
    process, errors = Process(Potential.from_expression("0*x"), Noise.isotropic(D)), []
    for n in (25, 50, 100):
        p = FokkerPlanck(process, Grid((0, 1, n), boundary="absorbing")).evolve(("gaussian", [m], [[s**2]]), t, rtol=1e-9)
        errors.append(abs(p.mass - exact))
    assert np.all(orders(errors) >= 1.9), errors


def test_absorbing_square_with_a_rotated_tensor():
    """Wide offsets cross the walls at any angle: slowest decay rate under refinement, second order."""
    process, rates = Stand(2, lambda x: np.zeros(x.shape), lambda x: np.broadcast_to(tensor(10.0, 0.5), (*x.shape[:-1], 2, 2))), []
    for n in (16, 32, 64, 128):
        fp = FokkerPlanck(process, Grid((0, 1, n), (0, 1, n), boundary="absorbing"))
        p = fp.evolve(lambda x: np.prod(np.sin(np.pi * x), axis=1), [0.5, 0.6], rtol=1e-8)
        rates.append(np.log(p[0].mass / p[1].mass) / 0.1)
    steps = np.abs(np.diff(rates))
    assert np.all(orders(steps) >= 1.7), rates


# ---- bad input ----------------------------------------------------------------------------------------------------------


def flat(x):
    return np.zeros(x.shape)


def test_bad_tensors_name_the_point():
    grid = Grid((0, 1, 4), (0, 1, 4))

    def skew(x):
        D = np.broadcast_to(np.eye(2), (*x.shape[:-1], 2, 2)).copy()
        D[..., 0, 1] = np.where(x[..., 0] > 0.8, 0.5, 0.0)
        return D

    with pytest.raises(ValueError, match=r"not symmetric at x = \[0\.875"):
        FokkerPlanck(Stand(2, flat, skew), grid)

    def indefinite(x):
        D = np.broadcast_to(np.eye(2), (*x.shape[:-1], 2, 2)).copy()
        D[..., 0, 1] = D[..., 1, 0] = np.where(x[..., 1] > 0.8, 1.5, 0.0)
        return D

    with pytest.raises(ValueError, match=r"not positive semi-definite at x = .*0\.875.*eigenvalue -0\.5"):
        FokkerPlanck(Stand(2, flat, indefinite), grid)


def test_bad_fields_name_the_point():
    grid, eye = Grid((-1, 1, 4)), lambda x: np.ones((*x.shape, 1))
    with pytest.raises(ValueError, match=r"drift is not finite at the grid point x = \[-0\.75\]"):
        FokkerPlanck(Stand(1, lambda x: np.where(x < -0.5, np.nan, x), eye), grid)
    with pytest.raises(ValueError, match=r"drift has shape \(4,\)"):
        FokkerPlanck(Stand(1, lambda x: x[:, 0], eye), grid)
    with pytest.raises(ValueError, match="log density is not finite"):
        FokkerPlanck(Stand(1, flat, eye, log_density=lambda x: np.where(x[:, 0] > 0, x[:, 0], -np.inf)), grid)


def test_bad_arguments():
    process, grid = Process(Potential.from_expression("x**2"), Noise.isotropic(1.0)), Grid((-1, 1, 8))
    with pytest.raises(ValueError, match="scheme must be"):
        FokkerPlanck(process, grid, scheme="central")
    with pytest.raises(ValueError, match="process is 1-D, the grid is 2-D"):
        FokkerPlanck(process, Grid((-1, 1, 8), (-1, 1, 8)))
    with pytest.raises(TypeError, match="needs a Grid"):
        FokkerPlanck(process, (-1, 1, 8))
    with pytest.raises(TypeError, match="needs a Process"):
        FokkerPlanck(SGDChain.gaussian(process.potential, process.noise, 0.1), grid)
    with pytest.raises(ValueError, match="max_offset"):
        FokkerPlanck(process, grid, max_offset=0)
    with pytest.raises(ValueError, match="1-D to 3-D"):
        FokkerPlanck(Stand(4, flat, flat), Grid(*[(0, 1, 2)] * 4))


@pytest.mark.parametrize(
    ("rho0", "match"),
    [
        (np.ones(5), r"shape \(8,\)"),
        (-np.ones(8), "finite and >= 0"),
        (np.zeros(8), "no mass"),
        (("gauss", 0.0, 1.0), "gaussian"),
        (("gaussian", [0.0, 1.0], [[1.0]]), "mean of shape"),
        (("gaussian", [0.0], [[-1.0]]), "positive definite"),
        (lambda x: x, "must return 8 values"),
        (Density(np.ones(4), Grid((0, 1, 4))), "rho0 lives on"),
    ],
)
def test_bad_initial_densities(rho0, match):
    fp = FokkerPlanck(Process(Potential.from_expression("x**2"), Noise.isotropic(1.0)), Grid((-1, 1, 8)))
    with pytest.raises(ValueError, match=match):
        fp.evolve(rho0, 1.0)


def test_bad_times_and_regions():
    fp = FokkerPlanck(Process(Potential.from_expression("x**2"), Noise.isotropic(1.0)), Grid((-1, 1, 8)))
    start = ("gaussian", [0.0], [[1.0]])
    for t in (-1.0, np.nan, [1.0, 0.5], []):
        with pytest.raises(ValueError, match="t must be"):
            fp.evolve(start, t)
    with pytest.raises(ValueError, match="rtol"):
        fp.evolve(start, 1.0, rtol=0.0)
    with pytest.raises(ValueError, match="method"):
        fp.evolve(start, 1.0, method="exact")
    with pytest.raises(ValueError, match="nothing can leave"):
        fp.mean_exit_time(Region.ball([0.0], 3.0))
    with pytest.raises(ValueError, match="no cell centre"):
        fp.mean_exit_time(Region.ball([5.0], 0.1))
    with pytest.raises(ValueError, match="not inside"):
        fp.mean_exit_time(Region.ball([0.0], 0.5), at=[0.9])
    with pytest.raises(TypeError, match="Region"):
        fp.mean_exit_time(lambda x: x)


def test_diffusion_added_where_the_mass_is_warns():
    """By the cap everywhere; by the walls only once they hold visible mass; never where offsets of one cell suffice."""

    def notes(condition, n, half, **options):
        p = FokkerPlanck(ou(condition), Grid((-half, half, n), (-half, half, n)), **options).stationary()
        return [w for w in p.warnings if "eigenvalue (see added_diffusion)" in w]

    (cap,) = notes(100.0, 48, 5, max_offset=2)
    assert "100.0% of the mass offsets capped at 2 change" in cap
    assert "raise max_offset" in cap
    (wall,) = notes(100.0, 48, 2)
    assert "next to reflecting walls" in wall
    assert "enlarge the box" in wall
    assert notes(100.0, 48, 5) == []
    assert notes(4.0, 48, 2) == []


# ---- several basins -----------------------------------------------------------------------------------------------------


def basin_notes(process, grid):
    return [w for w in FokkerPlanck(process, grid).stationary().warnings if "several basins" in w]


def double_well(D, dim=1):
    text, names = ("(x**2 - 1)**2", "x") if dim == 1 else ("(x**2 - 1)**2 + y**2", "x y")
    return Process(Potential.from_expression(text, variables=names), Noise.isotropic(D))


#: The last one is for barriers up to 50 D: cells wider than the wells, sqrt(D/8), change the barrier itself.
WELL_GRIDS = [Grid((-2, 2, 400)), Grid((-2, 2, 160)), Grid((-2, 2, 160), (-1, 1, 60)), Grid((-2, 2, 60), (-1, 1, 40))]


@pytest.mark.parametrize("grid", WELL_GRIDS, ids=repr)
@pytest.mark.parametrize("inverse", [5, 10, 25, 50, 200])
def test_basins_that_hardly_exchange_warn_with_the_time_it_takes(grid, inverse):
    """Barrier/D of 5 and 10 in silence; from 25 the relaxation time against 1/(2 k), k = sqrt(8 * 4) exp(-barrier/D)/(2 pi)."""
    notes = basin_notes(double_well(1.0 / inverse, grid.dim), grid)
    if inverse <= 10:
        assert notes == []
        return
    (text,) = notes
    if inverse > 50 and grid.shape[0] == 60:
        return
    ratio = float(text.split("times of about ")[1].split(";")[0]) * 2 * np.sqrt(32) * np.exp(-inverse) / (2 * np.pi)
    assert 0.5 < ratio < 2.0, (text, ratio)
    assert "50.0% of the mass" in text
    assert "quasi-stationary density" in text
    assert "escape rate" in text


def test_basins_beyond_the_range_of_doubles_and_three_of_them():
    for grid in (Grid((-2, 2, 400)), Grid((-2, 2, 64), (-0.5, 0.5, 24))):
        assert "more than 1e240" in basin_notes(double_well(0.001, grid.dim), grid)[0]
    three = Process(Potential.from_expression("1 + cos(3*x)"), Noise.isotropic(0.05))
    (text,) = basin_notes(three, Grid((0, 2 * np.pi, 180), boundary="periodic"))
    assert "66.7% of the mass" in text


def test_slow_is_not_several_basins():
    """Time scales apart by 1e12, a walk without drift, a steep well and strong anisotropy have no barrier."""
    slow = Process(Potential.from_expression("1e6*x**2 + 1e-6*y**2", variables="x y"), Noise.isotropic(1.0))
    assert basin_notes(slow, Grid((-0.004, 0.004, 64), (-4000, 4000, 64))) == []
    flat = Process(Potential.from_expression("0*x"), Noise.isotropic(1e-6))
    assert basin_notes(flat, Grid((0, 1, 2000))) == []
    steep = Process(Potential.from_expression("1e4*x**2"), Noise.isotropic(1.0))
    assert basin_notes(steep, Grid((-4, 4, 1000))) == []
    assert basin_notes(ou(1000.0), Grid((-5, 5, 80), (-5, 5, 80))) == []
    # a second well that holds no visible mass is none of the density's
    tilted = Process(Potential.from_expression("(x**2 - 1)**2 + 0.2*x"), Noise.isotropic(0.02))
    assert basin_notes(tilted, Grid((-2, 2, 400))) == []


def test_rounding_of_the_split_does_not_rule_rates_against_a_steep_drift():
    """Two wells with barriers of 100 D on coarse cells: every stationary mass is the product of ratios of rates along the axes.

    What the balanced part leaves of the drift is rounding here, 1e-15 of the rates; rates against the drift are down to 1e-20.
    """
    process = Process.from_drift(["4*x - 4*x**3", "4*y - 4*y**3"], Noise.isotropic(0.01), variables="x y")
    n, m = 60, 52
    fp = FokkerPlanck(process, Grid((-1.6, 1.6, n), (-1.5, 1.6, m)))
    logs = []
    for size, stride in ((n, m), (m, 1)):
        cells = stride * np.arange(size)
        up = np.array([fp.generator[i, i + stride] for i in cells[:-1]])
        down = np.array([fp.generator[i + stride, i] for i in cells[:-1]])
        assert (np.minimum(up, down) / np.maximum(up, down)).min() < 1e-17  # where rounding would rule
        logs.append(np.concatenate([[0.0], np.cumsum(np.log(up / down))]))
    exact = logs[0][:, None] + logs[1][None, :]
    found = np.log(fp.stationary().cell_mass)
    assert found.min() < -400
    np.testing.assert_allclose(found - found.max(), exact - exact.max(), atol=1e-11)  # logarithms up to 434: rounding 1e-13


def test_several_stationary_laws_where_the_noise_vanishes_between_the_wells():
    """Hessian noise without a floor vanishes at the inflections of a double well: no path crosses them inwards."""
    well = Potential.from_expression("(x**2 - 1)**2")
    notes = {}
    for floor in (0.0, 1.0):
        process = Process(well, Noise.hessian(well, 0.1, floor=floor))
        notes[floor] = FokkerPlanck(process, Grid((-2, 2.1, 101))).stationary().warnings
    assert any("2 parts of the box" in text for text in notes[0.0])
    assert not any("D vanishes" in text for text in notes[1.0])
    plane = Potential.from_expression("(x**2 - 1)**2 + y**2 + x*y/4", "x y")
    rho = FokkerPlanck(Process(plane, Noise.hessian(plane, 0.1)), Grid((-2, 2.1, 61), (-2, 2, 60))).stationary()
    assert any("2 parts of the box" in text for text in rho.warnings)
    # one law: all leave the inner disc of a ring-shaped valley, and none comes back; a point that is left to one side
    ring = Potential.from_expression("(x**2 + y**2 - 1)**2/4", "x y")
    rho = FokkerPlanck(Process(ring, Noise.hessian(ring, 0.05)), Grid((-1.6, 1.6, 60), (-1.6, 1.6, 60))).stationary()
    assert not any("D vanishes" in text for text in rho.warnings)
    one_way = Process.from_drift("-x", Noise.from_expression("0.1*(x - 1)**2"))
    assert not any("D vanishes" in text for text in FokkerPlanck(one_way, Grid((-3, 3, 101))).stationary().warnings)


@pytest.mark.slow
def test_a_stationary_density_on_a_million_cells_within_4_gb():
    """A fresh process with a full tensor on 1024^2 cells: peak memory, mass, and the covariance of the linear process."""
    code = (
        "import re, numpy as np, fpsolve as fps\n"
        "A, D = np.array([[1.0, 0.8], [-0.6, 1.5]]), np.array([[1.0, 0.3], [0.3, 0.5]])\n"
        "process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))\n"
        "p = fps.FokkerPlanck(process, fps.Grid((-6, 6, 1024), (-6, 6, 1024))).stationary()\n"
        "S = fps.theory.ou_covariance(A, D)\n"
        "peak = re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1]\n"  # ru_maxrss starts at the parent's
        "print(int(peak) / 2**20, abs(p.mass - 1), abs(p.covariance() / S - 1).max())\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600).stdout
    gigabytes, mass, covariance = map(float, out.split())
    assert gigabytes < 4.0 and mass < 1e-10 and covariance < 1e-3
