"""Actions against closed forms, quadrature and least squares in time; orders measured; what is refused."""

import math

import numpy as np
import pytest
import sympy
from scipy import integrate
from scipy.linalg import solve_continuous_lyapunov
from scipy.spatial import cKDTree

import fpsolve as fps
import references
from fpsolve import _geometric as geometric

HALF = fps.Noise.isotropic(0.5)


def maier_stein(beta, noise=HALF):
    drift = ["x - x**3 - beta*x*y**2", "-(1 + x**2)*y"]
    return fps.Process.from_drift(drift, noise, variables="x y", params={"beta": beta})


def van_der_pol():
    return fps.Process.from_drift(["x - x**3/3 + y - y**3/9", "x + 0.9"], HALF, variables="x y")


def status(estimate, word):
    return next(a.status for a in estimate.assumptions if word in a.name)


# ---- linear systems -------------------------------------------------------------------------------------------------


def lyapunov(A, D, x):
    """x^T Sigma^-1 x / 2 with A Sigma + Sigma A^T = 2 D."""
    return 0.5 * x @ np.linalg.solve(solve_continuous_lyapunov(A, 2 * D), x)


LINEAR = {
    "shear": (np.diag([1.0, 3.0]), 0.5 * np.array([[2.0, 1.2], [1.2, 4.0]]), np.array([1.0, 1.0])),
    "spiral": (np.array([[1.0, 2.0], [-2.0, 1.0]]), 0.5 * np.eye(2), np.array([1.0, 0.0])),
    "fast spiral": (np.array([[1.0, 8.0], [-6.0, 0.5]]), np.diag([0.3, 1.0]), np.array([0.5, -1.0])),
    "unequal scales": (np.diag([1.0, 3.0]), np.array([[1e-8, 3e-5], [3e-5, 1.0]]), np.array([1e-4, 0.5])),
}


#: Values in use elsewhere, for A S + S A^T = a = 2 D.
PUBLISHED = {"shear": 0.9248555, "spiral": 1.0}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "fast spiral" else n for n in LINEAR])
def test_linear_systems_have_the_exact_quasipotential(name):
    A, D, x = LINEAR[name]
    action = fps.minimum_action_path(fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D)), np.zeros(2), x).action
    exact = lyapunov(A, D, x)
    assert action.value == pytest.approx(exact, rel=2e-5)
    assert action.value == pytest.approx(PUBLISHED.get(name, exact), rel=2e-5)
    assert abs(action.value - exact) <= 2.0 * action.discretization_error + 1e-9 * exact
    assert status(action, "settles") == "held" and status(action, "positive") == "held"


def test_what_does_not_settle_says_so():
    """Ten digits of a spiral are beyond 64 elements; the error that is stated still covers the true one."""
    A, D, x = LINEAR["spiral"]
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
    path = fps.minimum_action_path(process, np.zeros(2), x, rtol=1e-10, max_elements=64)
    assert status(path.action, "settles") == "failed" and "settles" in path.warnings[0]
    assert abs(path.action.value - 1.0) <= path.action.discretization_error < 1e-5


def random_linear(d, rng):
    S, K, D = (rng.normal(size=(d, d)) for _ in range(3))
    A = S @ S.T / d + 0.3 * np.eye(d) + 0.5 * (K - K.T)
    return A, D @ D.T / d + 0.2 * np.eye(d), rng.normal(size=d)


@pytest.mark.parametrize("d", [3, pytest.param(8, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)])
def test_linear_systems_in_more_dimensions(d):
    A, D, x = random_linear(d, np.random.default_rng(d))
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
    action = fps.minimum_action_path(process, np.zeros(d), x, rtol=1e-4).action
    exact = lyapunov(A, D, x)
    assert action.value == pytest.approx(exact, rel=3e-4)
    assert abs(action.value - exact) <= 3.0 * action.discretization_error


def actions(process, a, b, ends, sizes):
    dynamics = geometric.Dynamics(process, np.zeros(2), np.eye(2))
    out, curve = [], a + np.linspace(0.0, 1.0, 400)[:, None] * (np.asarray(b) - a)
    for n in sizes:
        basis = geometric.Basis(n, ends)
        segment = geometric.least(dynamics, basis, basis.through(curve), rtol=1e-12)
        curve = segment.at(basis.fine)[0]
        out.append(segment.action)
    return np.array(out)


def test_the_order_is_six_where_the_path_is_smooth():
    """Cubic splines have slopes of order three, and the error of a minimum is their square. Reference: 128 elements."""
    found = actions(maier_stein(10.0), [-0.8, 0.1], [-0.2, 0.5], (False, False), [16, 32, 64, 128])
    excess = found[:-1] - found[-1]
    assert np.all(excess > 0.0)  # a real curve has more action than the least
    orders = np.log2(excess[:-1] / excess[1:])
    assert np.all(orders > 5.5) and np.all(orders < 6.6), orders


@pytest.mark.parametrize("name", ["shear", "spiral"])
def test_the_order_holds_nearly_where_a_path_leaves_a_fixed_point(name):
    """A path that leaves along a power of its length, or in a spiral without end: five at least, as measured before the test."""
    A, D, x = LINEAR[name]
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
    excess = actions(process, np.zeros(2), x, (True, False), [8, 16, 32]) / lyapunov(A, D, x) - 1.0
    assert np.all(excess > 0.0)
    orders = np.log2(excess[:-1] / excess[1:])
    assert np.all(orders > 4.5), orders


def test_the_gradient_is_exact():
    """Against central differences, with a tensor that varies and a drift that is no gradient."""
    noise = fps.Noise.from_expression([["1 + x**2", "0.3*y"], ["0.3*y", "0.5 + y**2"]], variables="x y")
    process = fps.Process.from_drift(["x - x**3 - 2*x*y**2", "-(1 + x**2)*y + 0.2*x"], noise, variables="x y")
    dynamics = geometric.Dynamics(process, np.array([0.1, -0.2]), np.array([[1.0, 0.4], [0.0, 0.7]]))
    rng = np.random.default_rng(0)
    y, v = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    part = geometric.density(dynamics, y, v)
    h = 1e-5
    for i, unit in enumerate(np.eye(2) * h):
        along_x = geometric.density(dynamics, y + unit, v).value - geometric.density(dynamics, y - unit, v).value
        along_v = geometric.density(dynamics, y, v + unit).value - geometric.density(dynamics, y, v - unit).value
        np.testing.assert_allclose(part.along_x[:, i], along_x / (2 * h), rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(part.along_v[:, i], along_v / (2 * h), rtol=1e-7, atol=1e-8)


# ---- gradient systems and detailed balance --------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3])
def test_double_well_is_barrier_over_D(d):
    process = fps.Process(fps.potentials.double_well(d), fps.Noise.isotropic(0.1))
    a, b = np.zeros(d), np.zeros(d)
    a[0], b[0] = -1.0, 1.0
    path = fps.minimum_action_path(process, a, b)
    assert path.action.value == pytest.approx(10.0, rel=1e-6)
    np.testing.assert_allclose(path.saddles, np.zeros((1, d)), atol=1e-6)
    assert list(path.indices) == [0, 1, 0]
    np.testing.assert_allclose(path.drift[[0, -1]], 0.0, atol=1e-6)
    assert path.cumulative[0] == 0.0 and path.cumulative[-1] == pytest.approx(path.action.value)


def test_mueller_brown_climbs_two_saddles():
    """From the deepest minimum to the second: both barriers over D, through the minimum between."""
    U = fps.potentials.mueller_brown()
    points = U.critical_points([(-1.5, 1.2), (-0.2, 2.0)])
    deep, second, between = (c for c in points if c.kind == "minimum")
    low, high = (c for c in points if c.kind == "saddle")
    path = fps.minimum_action_path(fps.Process(U, fps.Noise.isotropic(10.0)), deep.x, second.x)
    assert path.action.value == pytest.approx((high.value - deep.value + low.value - between.value) / 10.0, rel=1e-4)
    np.testing.assert_allclose(path.saddles, [high.x, low.x], atol=1e-6)
    assert list(path.indices) == [0, 1, 0, 1, 0]
    uphill = np.einsum("ni,ni->n", path.tangents[5:20], -path.drift[5:20]) / np.linalg.norm(path.drift[5:20], axis=1)
    assert np.all(uphill > 0.99)  # time-reversed descent


REVERSIBLE = fps.Potential.from_expression("4*(x**2 - 1)**2 + 3*(y - 0.4*x**2)**2", "x y")
TENSOR = [["0.4 + 0.3*x**2", "0.2*sin(x + y)"], ["0.2*sin(x + y)", "0.6 + 0.2*cos(y)"]]


def test_reversible_processes_climb_phi_whatever_the_tensor():
    process = fps.Process.reversible(REVERSIBLE, fps.Noise.from_expression(TENSOR, variables="x y"))
    path = fps.minimum_action_path(process, [-1.0, 0.4], [0.0, 0.0])
    assert path.action.value == pytest.approx(4.0, rel=1e-5)  # Phi(0, 0) - Phi(-1, 0.4)


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich", "klimontovich"])
def test_the_reading_of_the_noise_does_not_enter(interpretation):
    """What noise adds to the drift is of the order of D: on a line the exponent is int U'/D in every reading."""
    U = fps.Potential.from_expression("(x**2 - 1)**2")
    noise = fps.Noise.from_factor([["sqrt(0.2*(1 + x**2))"]], variables="x")
    process = fps.Process(U, noise, interpretation=interpretation)
    exact, _ = integrate.quad(lambda x: 4 * x * (x * x - 1) / (0.1 * (1 + x * x)), -1.0, 0.0, epsabs=1e-12)
    path = fps.minimum_action_path(process, -1.0, 1.0)
    assert path.action.value == pytest.approx(exact, rel=1e-9)
    assert path.saddles.shape == (1, 1) and abs(path.saddles[0, 0]) < 1e-9


def test_nonlinear_coordinates_leave_the_action_alone():
    """A linear system in (x, y + x^2): drift without a potential, full tensor that varies; the action stays x^T Sigma^-1 x / 2."""
    A, D, x = LINEAR["shear"]
    A = A + np.array([[0.0, 1.5], [-1.5, 0.0]])
    u, w = "x", "(y - x**2)"
    b = [f"-({A[i, 0]})*{u} - ({A[i, 1]})*{w}" for i in range(2)]
    drift = [b[0], f"2*x*({b[0]}) + ({b[1]})"]
    mixed = f"2*x*{D[0, 0]} + {D[0, 1]}"
    tensor = [[str(D[0, 0]), mixed], [mixed, f"4*x**2*{D[0, 0]} + 4*x*{D[0, 1]} + {D[1, 1]}"]]
    process = fps.Process.from_drift(drift, fps.Noise.from_expression(tensor, variables="x y"), variables="x y")
    action = fps.minimum_action_path(process, [0.0, 0.0], [x[0], x[1] + x[0] ** 2]).action
    assert action.value == pytest.approx(lyapunov(A, D, x), rel=1e-5)


ROWS = [(-200, -1, 0, -10, 1, 0), (-100, -1, 0, -10, 0, 0.5), (-170, -6.5, 11, -6.5, -0.5, 1.5), (15, 0.7, 0.6, 0.7, -1, 1)]
LANDSCAPES = {
    "double well": "(x**2 - 1)**2 + y**2/2",
    "Mueller-Brown": " + ".join(
        f"({A})*exp(({a})*(x - ({X}))**2 + ({b})*(x - ({X}))*(y - ({Y})) + ({c})*(y - ({Y}))**2)" for A, a, b, c, X, Y in ROWS
    ),
}


def rotated(text, strength, D):
    """-grad U and a field along the contours of U: V stays U/D, as (D grad V + b) . grad V = 0, but the path is another."""
    U = fps.Potential.from_expression(text, "x y")
    x, y = sympy.symbols("x y")
    value = sympy.sympify(text)
    ux, uy = sympy.diff(value, x), sympy.diff(value, y)
    drift = [str(-ux - strength * uy), str(-uy + strength * ux)]
    return U, fps.Process.from_drift(drift, fps.Noise.isotropic(D), variables="x y")


def test_rotation_along_the_contours_leaves_the_barrier():
    U, process = rotated(LANDSCAPES["double well"], 2.0, 0.1)
    path = fps.minimum_action_path(process, [-1.0, 0.0], [1.0, 0.0])
    assert path.action.value == pytest.approx(10.0, rel=2e-5)
    np.testing.assert_allclose(path.saddles, [[0.0, 0.0]], atol=1e-6)
    assert np.abs(path.points[:, 1]).max() > 0.1  # the gradient path has y = 0
    value = fps.quasipotential(process, [-1.0, 0.0], [-0.6, 0.8]).value
    assert value == pytest.approx(U([-0.6, 0.8]) / 0.1, rel=2e-5)


@pytest.mark.slow
def test_rotation_on_mueller_brown_leaves_its_barriers():
    U, process = rotated(LANDSCAPES["Mueller-Brown"], 1.0, 10.0)
    points = U.critical_points([(-1.5, 1.2), (-0.2, 2.0)])
    deep, second, between = (c for c in points if c.kind == "minimum")
    low, high = (c for c in points if c.kind == "saddle")
    for a, b, climbed in (
        (deep, high, high.value - deep.value),
        (second, low, low.value - second.value),
        (deep, second, high.value - deep.value + low.value - between.value),
    ):
        assert fps.minimum_action_path(process, a.x, b.x).action.value == pytest.approx(climbed / 10.0, rel=2e-5)


def test_curvature_noise_in_the_plane_has_the_exponent_of_the_line():
    """D = 0.05 sqrt(H^2 + 1/4): the axis y = 0 is the way; its integrand has narrow peaks at the inflections, as no barrier has."""
    U = fps.potentials.double_well(2)
    path = fps.minimum_action_path(fps.Process(U, fps.Noise.hessian(U, scale=0.05, floor=0.5)), [-1.0, 0.0], [1.0, 0.0])
    inflection = -math.sqrt(1.0 / 3.0)
    exact, _ = integrate.quad(
        lambda x: 4 * x * (x * x - 1) / (0.05 * math.hypot(12 * x * x - 4, 0.5)), -1.0, 0.0, points=[inflection], limit=200
    )
    assert path.action.value == pytest.approx(exact, rel=1e-4)
    assert list(path.indices) == [0, 1, 0]


def test_downhill_costs_nothing_and_up_and_down_what_the_climb_costs():
    process = fps.Process(fps.potentials.double_well(2), fps.Noise.isotropic(0.1))
    down = fps.minimum_action_path(process, [0.3, 0.5], [1.0, 0.0])
    assert 0.0 <= down.action.value < 1e-6 and status(down.action, "settles") == "held"
    up = fps.minimum_action_path(process, [1.0, 0.0], [1.5, 1.0])
    assert up.action.value == pytest.approx((1.25**2 + 0.5) / 0.1, rel=1e-5)


# ---- Maier and Stein ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_maier_stein_on_the_axis_is_one_half(beta):
    path = fps.minimum_action_path(maier_stein(beta), [-1.0, 0.0], [1.0, 0.0])
    assert path.action.value == pytest.approx(0.5, rel=1e-8)
    np.testing.assert_allclose(path.saddles, [[0.0, 0.0]], atol=1e-9)
    assert np.abs(path.points[:, 1]).max() < 1e-4


def test_maier_stein_leaves_the_axis_above_four():
    """beta = 10 against least squares in time, of second order and extrapolated; T = 24 is long: both ends are left slowly."""

    def drift(q):
        x, y = q.T
        return np.stack([x - x**3 - 10 * x * y**2, -(1 + x**2) * y], -1)

    def slope(q):
        x, y = q.T
        return np.stack([np.stack([1 - 3 * x**2 - 10 * y**2, -20 * x * y], -1), np.stack([-2 * x * y, -(1 + x**2)], -1)], -2)

    path = fps.minimum_action_path(maier_stein(10.0), [-1.0, 0.0], [0.0, 0.0])
    u = np.linspace(0.0, 1.0, 1001)
    start, found = np.stack([u - 1.0, 0.8 * u * (1 - u)], -1), []
    for n in (1000, 2000):
        v = np.linspace(0.0, 1.0, n + 1)
        start = np.stack([np.interp(v, np.linspace(0.0, 1.0, len(start)), column) for column in start.T], -1)
        start, action = references.least_action_in_time(drift, slope, start, 24.0)
        found.append(action)
    extrapolated = found[1] + (found[1] - found[0]) / 3.0
    assert path.action.value == pytest.approx(extrapolated, rel=1e-5)
    assert path.action.value < 0.4 < np.abs(path.points[:, 1]).max() + 0.3
    distance = cKDTree(start).query(path.points)[0]
    assert (
        np.abs(path.points[:, 1]).max() > 0.1 and min(distance.max(), cKDTree(start * [1, -1]).query(path.points)[0].max()) < 0.02
    )


def test_a_guess_decides_which_minimum_is_found():
    """Above beta = 4 the axis is a curve of stationary action, 1/2, from which a straight guess does not move."""
    straight = fps.minimum_action_path(maier_stein(10.0), [-1.0, 0.0], [0.0, 0.0], initial=[[-1.0, 0.0], [0.0, 0.0]])
    bent = fps.minimum_action_path(maier_stein(10.0), [-1.0, 0.0], [0.0, 0.0], initial=[[-1.0, 0.0], [-0.5, -0.3], [0.0, 0.0]])
    assert straight.action.value == pytest.approx(0.5, rel=1e-6)
    assert bent.action.value < 0.35 and bent.points[:, 1].min() < -0.1
    assert "one initial curve" in next(a.detail for a in straight.action.assumptions if a.status == "unknown")


# ---- cycles ---------------------------------------------------------------------------------------------------------


def test_the_cycle_of_the_forced_van_der_pol_oscillator():
    """Period 5.7966 and the fixed point (-0.9, 0.6942); the multiplier is exp of the divergence along the cycle."""
    process = van_der_pol()
    cycle = fps.limit_cycle(process, [2.0, 0.0])
    assert cycle.period.value == pytest.approx(5.7966, abs=5e-5)
    assert any(np.allclose(p.x, [-0.9, 0.6942], atol=5e-5) for p in process.fixed_points([(-4, 4), (-4, 4)]))
    x, y = cycle.points.T
    divergence = cycle.period.value * np.mean(1 - x**2)  # the trapezoidal rule on a circle
    assert abs(cycle.multipliers[0]) == pytest.approx(math.exp(divergence), rel=1e-8)


@pytest.mark.slow
def test_van_der_pol_from_the_cycle_to_the_fixed_point():
    """Against least squares in time over 5 turns and 16 time units more, extrapolated from two steps."""
    process = van_der_pol()
    cycle = fps.limit_cycle(process, [2.0, 0.0])
    target = next(p.x for p in process.fixed_points([(-4, 4), (-4, 4)]) if p.kind == "saddle")
    action = fps.minimum_action_path(process, cycle, target).action

    def drift(q):
        x, y = q.T
        return np.stack([x - x**3 / 3 + y - y**3 / 9, x + 0.9], -1)

    def slope(q):
        x, y = q.T
        return np.stack([np.stack([1 - x**2, 1 - y**2 / 3], -1), np.stack([np.ones_like(x), np.zeros_like(x)], -1)], -2)

    T0, turns, tail = cycle.period.value, 5, 16.0
    T = turns * T0 + tail
    lowest = np.inf
    for phase in (0, 128, 256, 384):
        loop = np.roll(cycle.points, -phase, axis=0)
        t = np.linspace(0.0, T, 2001)
        closed = np.concatenate([np.tile(loop, (turns, 1)), loop[:1]])
        clock = np.linspace(0.0, turns * T0, len(closed))
        path = np.stack([np.interp(t, clock, column) for column in closed.T], -1)
        late = t > turns * T0
        path[late] = loop[0] + ((t[late] - turns * T0) / tail)[:, None] * (target - loop[0])
        found = []
        for n in (2000, 4000, 8000):
            path = np.stack([np.interp(np.linspace(0, T, n + 1), np.linspace(0, T, len(path)), column) for column in path.T], -1)
            path, value = references.least_action_in_time(drift, slope, path, T)
            found.append(value)
        lowest = min(lowest, found[2] + (found[2] - found[1]) / 3.0)
    assert action.value == pytest.approx(lowest, rel=1e-4)
    assert action.discretization_error < 1e-4 * action.value


def test_leaving_a_round_cycle_has_a_closed_form():
    """r' = r - r^3 + noise, turning: V(r) = (r^4/4 - r^2/2 + 1/4)/D at every angle; at the centre 1/(4 D)."""
    drift = ["x*(1 - x**2 - y**2) - 2*y", "y*(1 - x**2 - y**2) + 2*x"]
    process = fps.Process.from_drift(drift, fps.Noise.isotropic(0.25), variables="x y")
    cycle = fps.limit_cycle(process, [1.5, 0.0])
    assert cycle.period.value == pytest.approx(math.pi, rel=1e-9)
    assert abs(cycle.multipliers[0]) == pytest.approx(math.exp(-2.0 * math.pi), rel=1e-6)
    inner, outer = fps.quasipotential(process, cycle, [[0.5, 0.0], [0.0, 1.4]], rtol=1e-4)
    assert inner.value == pytest.approx((0.5**4 / 4 - 0.5**2 / 2 + 0.25) / 0.25, rel=3e-4)
    assert outer.value == pytest.approx((1.4**4 / 4 - 1.4**2 / 2 + 0.25) / 0.25, rel=3e-4)


# ---- where D vanishes -----------------------------------------------------------------------------------------------

XIE = {10.0: 2.857, 3.0: 5.195, 1.0: 7.419, 0.3: 9.866, 0.1: 12.10, 0.01: 16.78, 0.001: 21.46}


def styblinski_tang(floor, scale=1.0):
    U = fps.potentials.styblinski_tang()
    deep, _, top = U.critical_points([(-4, 4)])
    return fps.Process(U, fps.Noise.hessian(U, scale=scale, floor=floor)), deep.x, top.x


@pytest.mark.parametrize("floor", XIE)
def test_regularised_curvature_noise(floor):
    """D = sqrt(f''^2 + floor^2): quadrature of f'/D, and the coefficients of the study of Xie et al.'s formula."""
    process, a, b = styblinski_tang(floor)
    exact, _ = integrate.quad(
        lambda x: (2 * x**3 - 16 * x + 2.5) / math.hypot(6 * x**2 - 16, floor), a[0], b[0], points=[-1.632993161855452], limit=400
    )
    action = fps.minimum_action_path(process, a, b).action
    assert action.value == pytest.approx(exact, rel=1e-6)
    assert action.value == pytest.approx(XIE[floor], abs=6e-3 if floor < 0.3 else 6e-4)


@pytest.mark.parametrize("scale", [0.1, 0.8, 6.0])
def test_bare_curvature_noise_is_impermeable(scale):
    """D = 0 at the inflection, where the drift points back: no path at any noise."""
    process, a, b = styblinski_tang(0.0, scale)
    path = fps.minimum_action_path(process, a, b)
    assert math.isinf(path.action.value)
    assert status(path.action, "permeable") == "failed"
    assert "impermeable: D = 0 on the path with inward drift" in path.warnings[0] and "-1.63299" in path.warnings[0]
    before = path.points[:, 0] < -1.7
    assert np.all(np.isfinite(path.cumulative[before])) and np.all(np.isinf(path.cumulative[~before][-50:]))


def test_downhill_through_a_zero_of_the_noise_costs_nothing():
    process, a, b = styblinski_tang(0.0)
    assert fps.minimum_action_path(process, b, a).action.value == 0.0


def test_a_minimum_without_noise_is_never_left():
    """D ~ x^2 at a minimum, as where all samples are fitted: int x/x^2 diverges; D ~ sqrt|x| there lets paths go."""
    U = fps.Potential.from_expression("x**2/2")
    closed = fps.minimum_action_path(fps.Process(U, fps.Noise.from_expression("x**2")), 0.0, 1.0)
    assert math.isinf(closed.action.value)
    drained = fps.minimum_action_path(fps.Process(U, fps.Noise.from_expression("sqrt(abs(x - 0.5))")), 0.0, 1.0)
    exact = 2.0 * math.sqrt(0.5)  # int_0^1 x/|x - 1/2|^(1/2) dx: the odd part cancels
    assert drained.action.value == pytest.approx(exact, rel=1e-4)


def test_a_wall_without_noise_in_the_plane():
    noise = fps.Noise.from_expression([["(x + 0.5)**2", "0"], ["0", "1"]], variables="x y")
    process = fps.Process(fps.Potential.from_expression("(x**2 - 1)**2 + y**2", "x y"), noise)
    path = fps.minimum_action_path(process, [-1.0, 0.0], [0.0, 0.0])
    assert math.isinf(path.action.value) and status(path.action, "permeable") == "failed"
    assert "impermeable" in path.warnings[0]


# ---- quasipotential, files, pictures, refusals ----------------------------------------------------------------------


def test_quasipotential_on_a_line_and_at_the_attractor():
    process = fps.Process(fps.Potential.from_expression("(x**2 - 1)**2"), fps.Noise.isotropic(0.2))
    values = fps.quasipotential(process, [-1.0], [[-1.0], [-1.5], [0.0], [1.0]])
    exact = [0.0, 1.25**2 / 0.2, 5.0, 5.0]
    assert [v.value for v in values] == pytest.approx(exact, rel=1e-9)


def test_paths_and_cycles_come_back_from_files_and_are_drawn(tmp_path):
    process = maier_stein(10.0)
    path = fps.minimum_action_path(process, [-1.0, 0.0], [0.0, 0.0])
    cycle = fps.limit_cycle(van_der_pol(), [2.0, 0.0])
    for name, result in (("path", path), ("cycle", cycle)):
        result.save(tmp_path / f"{name}.h5")
        assert fps.load(tmp_path / f"{name}.h5") == result
    ax = path.plot(potential=fps.potentials.double_well(2))
    assert ax.get_xlabel() == "$x_{1}$" and len(ax.collections) > 0
    ax.figure.savefig(tmp_path / "path.png", dpi=40)
    cycle.plot(ax=ax)
    line = fps.minimum_action_path(fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.1)), -1.0, 1.0)
    assert line.plot().get_ylabel() == "action"
    with pytest.raises(ValueError, match="components"):
        path.plot(components=(0, 2))
    with pytest.raises(ValueError, match="contours need"):
        line.plot(potential=fps.potentials.double_well())
    assert "saddle" in repr(path) and "Cycle of period 5.79662" in repr(cycle)


OU = fps.Process.ornstein_uhlenbeck(np.eye(2), HALF)
TURN = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
ROUND = fps.Cycle(np.stack([np.cos(TURN), np.sin(TURN)], -1), fps.Estimate(1.0, unit="time"), [0.5])
ROUND_3D = fps.Cycle(np.stack([np.cos(TURN), np.sin(TURN), TURN], -1), fps.Estimate(1.0, unit="time"), [0.5, 0.5])
REFUSED = [
    (lambda: fps.minimum_action_path("no", [0, 0], [1, 1]), TypeError, "takes a Process"),
    (
        lambda: fps.minimum_action_path(fps.Underdamped(fps.potentials.double_well(), HALF, 1.0), [0, 0], [1, 1]),
        TypeError,
        "overdamped",
    ),
    (lambda: fps.minimum_action_path(OU, [0, 0], [0, 0]), ValueError, "same point"),
    (lambda: fps.minimum_action_path(OU, [0, 0, 0], [1, 1]), ValueError, "a must be 2 finite numbers"),
    (lambda: fps.minimum_action_path(OU, [0, 0], [1, np.nan]), ValueError, "b must be 2 finite numbers"),
    (lambda: fps.minimum_action_path(OU, [0, 0], "x"), TypeError, "b must be 2 numbers"),
    (lambda: fps.minimum_action_path(OU, [0, 0], [1, 1], rtol=0.0), ValueError, "rtol"),
    (lambda: fps.minimum_action_path(OU, [0, 0], [1, 1], max_elements=8), ValueError, "max_elements"),
    (lambda: fps.minimum_action_path(OU, [0, 0], [1, 1], initial=[[0, 0, 0]]), ValueError, "initial must be"),
    (
        lambda: fps.minimum_action_path(
            fps.Process.ornstein_uhlenbeck(np.eye(2), fps.Noise.constant(np.diag([1.0, 0.0]))), [0, 0], [1, 1]
        ),
        ValueError,
        "positive definite",
    ),
    (
        lambda: fps.minimum_action_path(fps.Process(fps.potentials.double_well(), fps.Noise.levy(1.5, 0.1)), -1, 1),
        ValueError,
        "Levy",
    ),
    (lambda: fps.minimum_action_path(OU, ROUND_3D, [1, 1]), ValueError, "the cycle has 3 coordinates"),
    (lambda: fps.minimum_action_path(OU, ROUND, [1, 1], initial=[[0, 0], [1, 1]]), ValueError, "initial belongs to"),
    (lambda: fps.quasipotential(OU, [0.5, 0.0], [1, 1]), ValueError, "must be a fixed point"),
    (lambda: fps.quasipotential(maier_stein(1.0), [0.0, 0.0], [1, 1]), ValueError, "does not attract"),
    (lambda: fps.quasipotential(OU, [0.0, 0.0], [1, 1, 1]), ValueError, "points must be"),
    (lambda: fps.quasipotential(OU, [0.0, 0.0], "x"), TypeError, "points must be one point"),
    (lambda: fps.limit_cycle(OU, [1.0, 0.0]), fps.FpsolveError, "leads into the fixed point"),
    (lambda: fps.limit_cycle(OU, [1.0]), ValueError, "finite numbers as start"),
    (lambda: fps.limit_cycle("no", [1.0, 0.0]), TypeError, "takes a Process"),
    (
        lambda: fps.limit_cycle(fps.Process.from_drift(["x", "y"], HALF, variables="x y"), [1.0, 0.0]),
        fps.FpsolveError,
        "carries the path away",
    ),
]


@pytest.mark.parametrize("call, error, words", REFUSED)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()
