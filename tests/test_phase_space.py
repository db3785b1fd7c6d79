"""Motion with inertia on a grid: exact Gibbs density, parity, first order elsewhere; closed forms, a spectral method, paths."""

import importlib
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg

import fpsolve as fps

T = 0.6


def motion(text="x**4/4 - x**2/2 + x/5", friction=1.5, mass=1.3, **params):
    U = fps.Potential.from_expression(text, variables="x", params=params)
    return fps.Underdamped(U, fps.Noise.isotropic(T / friction), friction=friction, mass=mass)


def gibbs(process, grid):
    """exp(-(U + m v^2/2)/T) at the centres, of mass one."""
    x = grid.points()
    log = -(np.asarray(process.potential(x[:, :1])).ravel() + 0.5 * process.mass * x[:, 1] ** 2) / T
    p = np.exp(log - log.max()).reshape(grid.shape)
    return p / (p * grid.cell_volumes).sum()


WIDE = (-6.0, 6.0, 48)
GRIDS = {
    "uniform": fps.Grid((-2.7, 2.5, 40), WIDE),
    "odd number of velocities": fps.Grid((-2.7, 2.5, 31), (-6.0, 6.0, 41)),
    "graded": fps.Grid((-2.7, 2.5, 40, ("sinh", 0.0, 0.8)), (-6.0, 6.0, 40, ("sinh", 0.0, 2.0))),
    "walls with mass": fps.Grid((-0.5, 1.0, 16), WIDE),
}


@pytest.mark.parametrize("name", GRIDS)
def test_gibbs_density_is_stationary_to_rounding(name):
    process, grid = motion(), GRIDS[name]
    p = fps.FokkerPlanck(process, grid).stationary()
    assert np.abs(p.values - gibbs(process, grid)).max() < 1e-12 * p.values.max()


def test_gibbs_density_on_a_ring():
    process = motion("cos(x)")
    grid = fps.Grid((0.0, 2.0 * math.pi, 36), WIDE, boundary=["periodic", "reflecting"])
    p = fps.FokkerPlanck(process, grid).stationary()
    assert np.abs(p.values - gibbs(process, grid)).max() < 1e-12 * p.values.max()


@pytest.mark.parametrize("name", GRIDS)
def test_markov_generator_in_detailed_balance_with_parity(name):
    process, grid = motion(), GRIDS[name]
    Q = fps.FokkerPlanck(process, grid).generator
    off = Q - sp.diags(Q.diagonal())
    assert off.min() >= 0.0
    assert np.abs(np.asarray(Q.sum(axis=1))).max() < 1e-12 * np.abs(Q.diagonal()).max()
    mass = (gibbs(process, grid) * grid.cell_volumes).ravel()
    flow = (sp.diags(mass) @ off).tocsr()
    turned = np.arange(grid.size).reshape(grid.shape)[:, ::-1].ravel()
    back = flow.T.tocsr()[turned][:, turned]
    seen = flow > 1e-14 * flow.max()  # where a cell is steeper than 8 in H/T, without mass, simple rates stand in
    ratio = np.abs((flow - back).multiply(seen)).tocoo().data / flow.max()
    assert ratio.max(initial=0.0) < 1e-12
    # the test has teeth: with no change of sign the flow of Hamilton's equations is not balanced at all
    assert abs(flow - flow.T).max() > 0.1 * flow.max()


def test_first_moments_are_the_equations_of_motion():
    """sum_j Q_ij (x_j - x_i) tends to (v, -(U' + g v)/m) in the inner cells, first order in the cell width."""
    process, errors = motion(), []
    for n in (40, 80, 160):
        grid = fps.Grid((-2.0, 2.0, n), (-4.0, 4.0, n))
        fp = fps.FokkerPlanck(process, grid)
        points = grid.points()
        moved = np.stack(
            [fp.generator @ points[:, k] - points[:, k] * np.asarray(fp.generator.sum(axis=1)).ravel() for k in (0, 1)], -1
        )
        inner = (np.abs(points[:, 0]) < 1.5) & (np.abs(points[:, 1]) < 2.5)
        x, v = points[inner].T
        exact = np.stack([v, -(x**3 - x + 0.2 + 1.5 * v) / 1.3], axis=-1)
        errors.append(np.sqrt(np.mean((moved[inner] - exact) ** 2)))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 0.9), (errors, orders)


def oscillator(friction=0.8, mass=1.0):
    return fps.Underdamped(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(T / friction), friction=friction, mass=mass)


def test_spectrum_of_the_oscillator_to_first_order():
    """Eigenvalues are sums of the roots of m s^2 + g s + 1 = 0."""
    exact = np.roots([1.0, 0.8, 1.0])[0]
    found = []
    for n in (24, 48, 96):
        values = fps.FokkerPlanck(oscillator(), fps.Grid((-4.5, 4.5, n), (-4.5, 4.5, n))).spectrum(3).eigenvalues
        slow = values[1:3]
        found.append(slow[np.argmax(slow.imag)])
    errors = np.abs(np.array(found) - (exact.real + 1j * abs(exact.imag)))
    orders = np.log2(errors[:-1] / errors[1:])
    assert np.all(np.abs(orders - 1.0) < 0.15), orders
    extrapolated = 2.0 * found[2] - found[1]
    assert abs(extrapolated.real - exact.real) < 0.02 and abs(extrapolated.imag - abs(exact.imag)) < 0.01


@pytest.mark.parametrize("friction, mass", [(0.8, 1.0), (2.0, 1.0), (1.0, 0.3)])
def test_stated_errors_of_the_slowest_pair_cover_first_order(friction, mass):
    """The change from half as many cells is less than the error where the order is not quite one."""
    root = np.roots([mass, friction, 1.0])[0]
    side = 6.0 * math.sqrt(T / mass)
    for n in (32, 48):
        grid = fps.Grid((-6.0 * math.sqrt(T), 6.0 * math.sqrt(T), n), (-side, side, n))
        s = fps.FokkerPlanck(oscillator(friction, mass), grid).spectrum(3)
        error = abs(s.eigenvalues[1].real - root.real) + 0.0
        assert error < s.eigenvalue_errors[1] < 4.0 * error


def test_transient_of_the_oscillator():
    """The mean obeys (x, v)' = A (x, v); mass is kept and the positive method is nonnegative."""
    A = np.array([[0.0, 1.0], [-1.0, -0.8]])
    exact = scipy.linalg.expm(A * 1.5) @ [1.0, 0.5]
    means = []
    for n in (48, 96):
        fp = fps.FokkerPlanck(oscillator(), fps.Grid((-4.5, 4.5, n), (-4.5, 4.5, n)))
        p = fp.evolve(("gaussian", [1.0, 0.5], 0.1 * np.eye(2)), 1.5, method="positive")
        assert abs(p.mass - 1.0) < 1e-12 and p.values.min() >= 0.0
        means.append(p.mean())
    errors = [np.abs(mean - exact).max() for mean in means]
    assert abs(np.log2(errors[0] / errors[1]) - 1.0) < 0.2, errors
    assert np.abs(2.0 * means[1] - means[0] - exact).max() < 0.15 * errors[1]


def test_entropy_production_is_the_heat_over_the_temperature():
    """With T(x) no Gibbs density exists; in the stationary state entropy is made at the rate <g v^2/T - g/m>."""
    friction, mass = 1.0, 1.0
    U = fps.Potential.from_expression("x**2/2")
    noise = fps.Noise.from_expression([["0.5 + 0.3*tanh(x)"]], variables="x")
    process = fps.Underdamped(U, noise, friction=friction, mass=mass)
    paths = fps.simulate(process, [0.0, 0.0], t=12.0, dt=0.02, n=400_000, seed=5).final
    samples = friction * paths[:, 1] ** 2 / (0.5 + 0.3 * np.tanh(paths[:, 0])) - friction / mass
    stderr = float(samples.std() / np.sqrt(samples.size))
    fp = fps.FokkerPlanck(process, fps.Grid((-4.5, 4.5, 80), (-4.8, 4.8, 80)))
    found = fp.entropy_production()
    p = fp.stationary()
    x, v = fp.grid.points().T
    heat = p.cell_mass.ravel() @ (friction * v**2 / (0.5 + 0.3 * np.tanh(x)) - friction / mass)
    assert samples.mean() > 5.0 * stderr
    # false alarm 6e-5 for exact answers; the differences heat the system, to first order in the cell width
    assert abs(found.value - samples.mean()) < 4.0 * stderr + 2.0 * found.discretization_error
    assert abs(found.value - heat) < 2.0 * found.discretization_error
    assert fp.detailed_balance().value > 0.05


def test_no_entropy_in_equilibrium():
    fp = fps.FokkerPlanck(motion(), GRIDS["uniform"])
    assert abs(fp.entropy_production().value) < 1e-12
    balance = fp.detailed_balance()
    assert balance.value < 1e-6 and balance.assumptions[-1].status == "held"


def test_time_of_flight_without_noise():
    """U = -x, from rest at 0 to 1: sqrt(2 m). D = 0, so all of the generator is one-sided flow: first order, with much smearing."""
    process = fps.Underdamped(fps.Potential.from_expression("-x"), fps.Noise.isotropic(0.0), friction=1e-9, mass=1.0)
    errors = []
    for n in (50, 100, 200):
        grid = fps.Grid((-1.0, 1.5, n), (-2.5, 2.5, n))
        tau = fps.FokkerPlanck(process, grid).mean_exit_time(fps.Region.halfspace([1.0], 1.0), at=[0.0, 0.0])
        errors.append(abs(tau.value - math.sqrt(2.0)))
        assert errors[-1] < tau.discretization_error
    assert errors[2] < 0.02, errors


def test_specular_walls_turn_the_velocity():
    """A ball let fall on a floor without noise is back where it was after two times of fall."""
    process = fps.Underdamped(fps.Potential.from_expression("x"), fps.Noise.isotropic(0.0), friction=1e-9, mass=1.0)
    fp = fps.FokkerPlanck(process, fps.Grid((0.0, 2.0, 100), (-2.5, 2.5, 100)))
    start = ("gaussian", [1.0, 0.0], 0.003 * np.eye(2))
    fall = math.sqrt(2.0)
    down, up = fp.evolve(start, [0.5 * fall, 1.5 * fall], rtol=1e-4)
    # half way down and half way up again: x = 1 - (fall/2)^2/2 = 3/4, v = -+ fall/2
    assert abs(down.mean()[0] - 0.75) < 1e-3 and abs(down.mean()[1] + fall / 2.0) < 1e-3
    assert abs(up.mean()[0] - 0.75) < 0.03 and abs(up.mean()[1] - fall / 2.0) < 0.06  # smeared by the differences


def test_exits_of_positions_and_of_phase_space_agree():
    fp = fps.FokkerPlanck(motion(), GRIDS["uniform"])
    positions = fps.Region.halfspace([1.0], 0.8)
    both = fps.Region.halfspace([1.0, 0.0], 0.8)
    one, two = (fp.mean_exit_time(region) for region in (positions, both))
    np.testing.assert_allclose(one.values, two.values, rtol=1e-12)
    assert fp.escape_rate(positions).value == pytest.approx(fp.escape_rate(both).value, rel=1e-9)


def test_exit_time_against_paths():
    """Out of a parabola at friction 6 against BAOAB paths, extrapolated in the width; false alarm 6e-5, with 2 % left to it."""
    process = fps.Underdamped(fps.Potential.from_expression("x**2/2"), fps.Noise.isotropic(T / 6.0), friction=6.0)
    region = fps.Region.halfspace([1.0], 1.5)
    coarse, fine = (
        fps.FokkerPlanck(process, fps.Grid((-3.5, 1.7, n), (-4.0, 4.0, 24))).mean_exit_time(region).at([0.0, 0.0])
        for n in (80, 160)
    )
    paths = fps.escape_times(process, [0.0, 0.0], region, n=6000, dt=0.005, seed=3).mean()
    assert abs(2.0 * fine - coarse - paths.value) < 4.0 * paths.stderr + 0.02 * paths.value
    # the overdamped time is far off: the velocity has a boundary layer at the surface
    assert fps.theory.mean_first_passage_1d(process.overdamped, [0.0], 1.5, reflecting=-3.5).value < 0.8 * paths.value


def test_transitions_there_and_back_are_as_many():
    """Time reversal turns transitions a -> b into b -> a: the fluxes k_ab rho_a and k_ba rho_b are equal; q_ab + q_ba = 1."""
    fp = fps.FokkerPlanck(motion(), fps.Grid((-2.6, 2.4, 40), (-5.0, 5.0, 40)))
    a, b = fps.Region.halfspace([1.0], -0.9), fps.Region.halfspace([-1.0], -0.8)
    forth, back = (fp.committor(*pair) for pair in ((a, b), (b, a)))
    np.testing.assert_allclose(forth.values + back.values, 1.0, atol=1e-10)
    fluxes = [fp.reactive_current(*pair).solver_info["flux"] for pair in ((a, b), (b, a))]
    # the surface q = 1/2 passes between cells: the sums over it agree to the discretisation
    assert fluxes[0] == pytest.approx(fluxes[1], rel=0.02)
    assert not np.allclose(forth.values, forth.values[:, ::-1], atol=0.05)  # the committor knows the velocity


@pytest.mark.slow
@pytest.mark.parametrize("friction", [1.0, 5.0])
def test_kramers_turnover_against_a_spectral_method(friction, validation):
    """Slowest eigenvalue in the double well against Brinkman's hierarchy on a sinc grid: error halves with the cells."""
    reference = importlib.import_module(f"{validation.__name__}.klein_kramers")

    exact = -reference.modes(friction)[0][1].real
    U = fps.Potential.from_expression("x**4/4 - x**2/2")
    process = fps.Underdamped(U, fps.Noise.isotropic(reference.T / friction), friction=friction)
    rates = [
        -fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, n), (-1.6, 1.6, n))).spectrum(2).eigenvalues[1].real for n in (64, 128, 192)
    ]
    errors = np.array(rates) / exact - 1.0
    assert abs(math.log(errors[1] / errors[2]) / math.log(1.5) - 1.0) < 0.2, errors
    # extrapolated in 1/n
    assert abs((3.0 * rates[2] - 2.0 * rates[1]) / exact - 1.0) < 0.03


def test_high_order_in_phase_space():
    """Order six has no need of noise in every direction: eigenvalue and density of the oscillator, order 4 and more."""
    exact = np.roots([1.0, 0.8, 1.0])[0]
    errors, densities = [], []
    for n in (40, 60):
        fp = fps.FokkerPlanck(oscillator(), fps.Grid((-5.0, 5.0, n), (-5.0, 5.0, n)), scheme="high-order")
        slow = fp.spectrum(3).eigenvalues[1]
        errors.append(abs(slow.real - exact.real) + abs(abs(slow.imag) - abs(exact.imag)))
        p = fp.stationary()
        densities.append(np.sum(np.abs(p.values - gibbs(oscillator(), fp.grid)) * fp.grid.cell_volumes))
    assert np.log(errors[0] / errors[1]) / np.log(1.5) > 4.0 and errors[1] < 1e-5, errors
    assert np.log(densities[0] / densities[1]) / np.log(1.5) > 4.0 and densities[1] < 5e-5, densities


@pytest.mark.parametrize("friction", [0.8, 3.0])
def test_high_order_has_no_modes_of_its_own(friction):
    """Every eigenvalue found is a sum of roots of s^2 + g s + 1 = 0: no sawtooth along x, whose envelope drifts the other way and
    decays at sqrt(g^2/4 + c) - g/2, c = 5/3 or 11/5 (0.479 and 0.610 at g = 3)."""
    roots = np.roots([1.0, friction, 1.0]).astype(complex)
    exact = np.array([a * roots[0] + b * roots[1] for a in range(7) for b in range(7)])
    side = 6.0 * math.sqrt(T)
    for order in (4, 6):
        fp = fps.FokkerPlanck(oscillator(friction), fps.Grid((-side, side, 48), (-side, side, 48)), "high-order", order=order)
        found = fp.spectrum(4).eigenvalues
        assert np.abs(found[:, None] - exact).min(axis=1).max() < (5e-3 if order == 4 else 1e-3), found
        slowest = exact[np.argsort(-exact.real)][: found.size]
        np.testing.assert_allclose(np.sort(found.real), np.sort(slowest.real), atol=5e-3)
        backward = scipy.sparse.linalg.eigs(fp.operators.backward.tocsc(), 4, sigma=0.1, return_eigenvectors=False)
        assert np.abs(backward[:, None] - exact).min(axis=1).max() < 5e-3, backward


def test_differences_that_damp_a_sawtooth_keep_the_mass():
    """256/700 |v|/h of a sawtooth along x is lost, where no wall is near, and no mass."""
    grid = fps.Grid((-3.0, 3.0, 32), (-5.0, 5.0, 24))
    matrix = fps.FokkerPlanck(motion(), grid, "high-order").operators.forward
    assert np.abs(np.asarray(matrix.sum(axis=0))).max() < 1e-12 * np.abs(matrix.diagonal()).max()
    flat = np.zeros(grid.shape)
    flat[:, 18:20] = 1.0
    saw = np.where(np.arange(32) % 2, -1.0, 1.0)[:, None]
    moved, even = ((matrix @ p.ravel()).reshape(grid.shape)[12:20, 18:20] for p in (saw * flat, flat))
    lost = 256.0 / 700.0 * grid.centers[1][18:20] / grid.widths[0][0]
    np.testing.assert_allclose(even - saw[12:20] * moved, np.broadcast_to(lost, moved.shape), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("friction", [0.25, 1.0, 5.0])
def test_all_slow_modes_of_the_double_well_at_high_order(friction, validation):
    """The six slowest eigenvalues, not the slowest alone, against Brinkman's hierarchy on a sinc grid."""
    reference = importlib.import_module(f"{validation.__name__}.klein_kramers")
    exact = reference.modes(friction)[0]
    U = fps.Potential.from_expression("x**4/4 - x**2/2")
    process = fps.Underdamped(U, fps.Noise.isotropic(reference.T / friction), friction=friction)
    found = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, 72), (-1.6, 1.6, 72)), scheme="high-order").spectrum(6).eigenvalues
    assert np.abs(found[:, None] - exact).min(axis=1).max() < 1e-3, found
    slowest = np.sort(exact.real)[::-1][: found.size]
    np.testing.assert_allclose(np.sort(found.real)[::-1], slowest, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("friction", [0.25, 1.0, 5.0])
def test_kramers_turnover_at_high_order(friction, validation):
    """Slowest eigenvalue in the double well against Brinkman's hierarchy on a sinc grid, weak to strong friction."""
    reference = importlib.import_module(f"{validation.__name__}.klein_kramers")

    exact = -reference.modes(friction)[0][1].real
    U = fps.Potential.from_expression("x**4/4 - x**2/2")
    process = fps.Underdamped(U, fps.Noise.isotropic(reference.T / friction), friction=friction)
    errors = [
        -fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, n), (-1.6, 1.6, n)), scheme="high-order").spectrum(2).eigenvalues[1].real
        / exact
        - 1.0
        for n in (48, 96)
    ]
    assert abs(errors[1]) < 2e-5 and np.log2(abs(errors[0] / errors[1])) > 4.0, errors


def test_high_order_refuses_what_it_cannot():
    process = motion()
    grid = fps.Grid((-2.7, 2.5, 20), (-6.0, 6.0, 20))
    with pytest.raises(ValueError, match="absorbing side of positions.*monotone"):
        fps.FokkerPlanck(process, fps.Grid((-2.7, 2.5, 20), WIDE, boundary=["absorbing", "reflecting"]), scheme="high-order")
    with pytest.raises(ValueError, match="velocities cannot be periodic"):
        fps.FokkerPlanck(process, fps.Grid((-2.7, 2.5, 20), WIDE, boundary=["reflecting", "periodic"]), scheme="high-order")
    fp = fps.FokkerPlanck(process, grid, scheme="high-order")
    for question in (
        lambda: fp.mean_exit_time(fps.Region.halfspace([1.0], 0.5)),
        lambda: fp.escape_rate(fps.Region.halfspace([1.0], 0.5)),
        lambda: fp.committor(fps.Region.halfspace([1.0], -0.9), fps.Region.halfspace([-1.0], -0.8)),
        lambda: fp.exit_time_distribution(fps.Region.halfspace([1.0], 0.5), [-1.0, 0.0], [1.0]),
        fp.entropy_production,
        fp.detailed_balance,
    ):
        with pytest.raises(ValueError, match="phase space.*monotone"):
            question()


def test_what_one_sided_differences_add_is_said():
    weak = motion(friction=0.05)
    notes = fps.FokkerPlanck(weak, GRIDS["uniform"]).stationary().warnings
    assert any("one-sided differences" in note for note in notes)
    rate = fps.FokkerPlanck(weak, GRIDS["uniform"]).escape_rate(fps.Region.halfspace([1.0], 0.0))
    assert any(a.status == "failed" and "one-sided" in a.detail for a in rate.assumptions)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="symmetric about zero.*use \\(-6, 6, n\\)"):
        fps.FokkerPlanck(motion(), fps.Grid((-2, 2, 10), (-5, 6, 11)))
    with pytest.raises(ValueError, match="velocities cannot be periodic"):
        fps.FokkerPlanck(motion(), fps.Grid((-2, 2, 10), (-6, 6, 12), boundary=["reflecting", "periodic"]))
    plane = fps.Underdamped(fps.potentials.quadratic(np.eye(2)), fps.Noise.isotropic(0.5), friction=1.0)
    with pytest.raises(ValueError, match="one coordinate.*got 2"):
        fps.FokkerPlanck(plane, fps.Grid((-2, 2, 10), (-6, 6, 12)))
    with pytest.raises(ValueError, match="the process is 2-D, the grid is 1-D"):
        fps.FokkerPlanck(motion(), fps.Grid((-2, 2, 10)))
    fp = fps.FokkerPlanck(motion(), GRIDS["uniform"])
    with pytest.raises(ValueError, match="3-D"):
        fp.mean_exit_time(fps.Region.ball([0.0, 0.0, 0.0], 1.0))
    with pytest.raises(TypeError, match="a must be a Region"):
        fp.committor("left", fps.Region.halfspace([-1.0], -0.8))
