"""Committors, reactive currents and rates against quadrature, separable problems and reversed chains, with measured orders."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

import fpsolve
from fokker_planck_cases import orders
from fpsolve import theory
from fpsolve._committor import Reversed
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Current, Field

WELL = Potential.from_expression("(x**2-1)**2")
A1, B1 = Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0)
A2, B2 = Region.halfspace([1.0, 0.0], -1.0), Region.halfspace([-1.0, 0.0], -1.0)


def committor_quadrature(x, D, tilt=0.0):
    """q(x) = int_{-1}^{x} exp(U/D) / int_{-1}^{1} exp(U/D) for U = (x^2-1)^2 + tilt x; 40 Gauss nodes on 400 panels."""
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def integral(lo, hi):
        edges = np.linspace(lo, hi, 401)
        half = 0.5 * np.diff(edges)[:, None]
        y = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * nodes
        return np.sum(half * weights * np.exp(((y**2 - 1) ** 2 + tilt * y - 1) / D))

    return np.array([integral(-1.0, v) for v in np.atleast_1d(x)]) / integral(-1.0, 1.0)


# ---- committor ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("D", [0.2, 0.01])
@pytest.mark.parametrize("known", [True, False])
def test_committor_of_the_double_well(D, known):
    """Relative accuracy of values down to exp(-90) at barrier/D = 100; `known` False hides the density from the solver."""
    process = Process(WELL, Noise.isotropic(D)) if known else Process.from_drift("-4*x*(x**2-1)", Noise.isotropic(D))
    errors = []
    for n in (300, 600, 1200):
        q = FokkerPlanck(process, Grid((-1.5, 1.5, n))).committor(A1, B1)
        x = q.grid.centers[0]
        between = np.abs(x) < 0.95
        exact = committor_quadrature(x[between], D)
        errors.append(np.abs(q.values[between] / exact - 1).max())
        assert np.all(q.values[x < -1] == 0.0) and np.all(q.values[x > 1] == 1.0)
    assert np.all(orders(errors) >= 1.9), errors
    assert errors[-1] < 3e-3
    if D == 0.01:
        assert exact.min() < 1e-35
    assert isinstance(q, Field)


def test_committor_of_a_plane_process_is_that_of_the_line():
    """U = (x^2-1)^2 + y^2/2 at barrier/D = 100: 2-D values equal the 1-D ones to rounding, relative."""
    plane = Process(Potential.from_expression("(x**2-1)**2 + y**2/2", variables="x y"), Noise.isotropic(0.01))
    q = FokkerPlanck(plane, Grid((-1.5, 1.5, 90), (-0.7, 0.7, 21))).committor(A2, B2)
    line = FokkerPlanck(Process(WELL, Noise.isotropic(0.01)), Grid((-1.5, 1.5, 90))).committor(A1, B1)
    inside = line.values > 0
    np.testing.assert_allclose(q.values[inside], np.broadcast_to(line.values[inside, None], (inside.sum(), 21)), rtol=1e-10)


def test_committor_and_its_complement():
    plane = Process(Potential.from_expression("(x**2-1)**2 + y**2", variables="x y"), Noise.constant([[0.3, 0.1], [0.1, 0.2]]))
    fp = FokkerPlanck(plane, Grid((-2, 2, 60), (-1.5, 1.5, 50)))
    a, b = Region.ball([-1.0, 0.1], 0.4), Region.ball([1.0, -0.2], 0.3)
    np.testing.assert_allclose(fp.committor(a, b).values + fp.committor(b, a).values, 1.0, rtol=1e-12)


def test_committor_between_circles():
    """Brownian motion between |x| = 0.5 and |x| = 1.5: ln(r/0.5)/ln 3, second order with curved surfaces."""
    flat = Process(Potential.from_expression("0*x + 0*y", variables="x y"), Noise.isotropic(1.0))
    a, b = Region.ball([0.0, 0.0], 0.5), Region.from_expression("1.5 - sqrt(x**2 + y**2)", variables="x y")
    errors = []
    for n in (40, 80, 160):
        q = FokkerPlanck(flat, Grid((-1.7, 1.7, n), (-1.65, 1.7, n))).committor(a, b)
        r = np.hypot(*q.grid.points().T).reshape(n, n)
        errors.append(np.abs(q.values - np.clip(np.log(r / 0.5) / np.log(3), 0, 1)).max())
    assert orders(errors).mean() >= 1.8, errors
    assert errors[-1] < 5e-4


def split(surface, plane, variables):
    """What lies outside `surface` in two parts, either side of `plane`."""
    return tuple(Region.from_expression(f"max({surface}, {sign}({plane}))", variables=variables) for sign in ("", "-"))


def test_exit_split_of_a_disc():
    """Left through x < c or x > c, both parts of one circle: the harmonic measure, by Poisson's integral."""
    flat = Process(Potential.from_expression("0*x + 0*y", variables="x y"), Noise.isotropic(1.0))
    fp = FokkerPlanck(flat, Grid((-1.3, 1.3, 100), (-1.3, 1.3, 101)))
    points = np.array([[0.0, 0.0], [0.4, 0.0], [-0.3, 0.5], [0.2, -0.6]])
    for c in (0.0, 0.37):
        left, right = split("1 - sqrt(x**2 + y**2)", f"x - {c}", "x y")

        def poisson(x, y, c=c):
            r, t = math.hypot(x, y), math.atan2(y, x)
            kernel = lambda s: (1 - r * r) / (1 - 2 * r * math.cos(s - t) + r * r)  # noqa: E731
            return integrate.quad(kernel, -math.acos(c), math.acos(c))[0] / (2 * math.pi)

        np.testing.assert_allclose(fp.committor(left, right).at(points), [poisson(*p) for p in points], atol=5e-4)


@pytest.mark.parametrize("full", [False, True])
def test_values_converge_with_second_order_where_two_parts_of_a_surface_meet(full):
    """From the centre of a disc, cut at any place in any direction; with a full tensor a disc in the coordinates of the noise.

    The part of a surface known only at the ends of edges would be off by up to half a cell: h/(2 pi), and not steadily.
    """
    factor = np.array([[1.0, 0.0], [0.7, 0.5]]) if full else np.eye(2)
    process = Process.from_drift(["0*x", "0*y"], Noise.constant(factor @ factor.T / 2), variables="x y")
    back = np.linalg.inv(factor).tolist()
    u, v = (f"({row[0]!r}*x + ({row[1]!r})*y)" for row in back)
    half = 1.3 * np.abs(factor).sum(axis=1)
    for n in (40, 80, 160):
        fp = FokkerPlanck(process, Grid(*[(-w, w, n) for w in half]))
        errors = []
        for c, angle in ((-0.61, 0.3), (-0.2, 1.9), (0.37, 0.0), (0.55, 4.4), (0.13, 2.7), (-0.44, 5.5)):
            a, b = split(f"1 - {u}**2 - {v}**2", f"{math.cos(angle)!r}*{u} + ({math.sin(angle)!r})*{v} - ({c!r})", "x y")
            errors.append(fp.committor(a, b).at([[0.0, 0.0]])[0] - math.acos(c) / math.pi)
        h = 2.6 / n
        assert np.sqrt(np.mean(np.square(errors))) < (0.6 if full else 0.25) * h**2, n


def test_exit_split_of_a_ball():
    """Through the cap above a plane, from the centre: its part of the sphere, to the same fraction of h^2 as in the plane."""
    flat = Process.from_drift(["0*x", "0*y", "0*z"], Noise.isotropic(0.5), variables="x y z")
    fp = FokkerPlanck(flat, Grid(*[(-1.3, 1.3, 28)] * 3))
    for plane, c in (("z", 0.2), ("0.6*x - 0.8*z", -0.37)):
        below, above = split("1 - x**2 - y**2 - z**2", f"{plane} - ({c})", "x y z")
        assert abs(fp.committor(below, above).at([[0.0, 0.0, 0.0]])[0] - (1 - c) / 2) < 0.25 * (2.6 / 28) ** 2


def test_exit_split_of_a_cylinder():
    """In space, with a line along the third axis where the regions meet: as in the plane."""
    flat = Process.from_drift(["0*x", "0*y", "0*z"], Noise.isotropic(0.5), variables="x y z")
    n = 48
    sides = ["reflecting", "reflecting", "periodic"]
    fp = FokkerPlanck(flat, Grid((-1.2, 1.2, n), (-1.2, 1.2, n), (0, 1, 6), boundary=sides))
    for c in (-0.37, 0.55):
        left, right = split("1 - x**2 - y**2 + 0*z", f"x - ({c})", "x y z")
        assert abs(fp.committor(left, right).at([[0.0, 0.0, 0.3]])[0] - math.acos(c) / math.pi) < 0.4 * (2.4 / n) ** 2


def test_parts_that_meet_beside_the_seam_of_a_periodic_axis():
    """A channel 0 < y < 1 whose upper wall is the target for |x - c| < 1/2, with period 2: the part does not depend on c."""
    process = Process.from_drift(["0*x", "0*y"], Noise.isotropic(1.0), variables="x y")
    fp = FokkerPlanck(process, Grid((0, 2, 80), (-0.2, 1.2, 56), boundary=["periodic", "reflecting"]))
    found = []
    for c in (1.0, 0.5, 0.0):  # whole numbers of cells; the last target lies across the seam, the middle one ends there
        inside = f"{'-' if c == 0.0 else ''}(abs(x - 1) - 1/2)" if c != 0.5 else "abs(x - 1/2) - 1/2"
        a = Region.from_expression(f"min(y, max(1 - y, -({inside})))", variables="x y")
        b = Region.from_expression(f"max(1 - y, {inside})", variables="x y")
        found.append(fp.committor(a, b).at([[c, 0.5]])[0])
    # sum over the Fourier modes of the target: 1/4 + sum over odd k of 2 sin(k pi/2)/(k pi) sinh(k pi y)/sinh(k pi), y = 1/2
    k = np.arange(1, 60)
    modes = 2 * np.sin(k * np.pi / 2) / (k * np.pi) * np.sinh(k * np.pi / 2) / np.sinh(k * np.pi)
    np.testing.assert_allclose(found, 0.25 + modes.sum(), atol=5e-4)


def test_parts_that_meet_beside_a_reflecting_side_with_functions_of_any_size():
    """Through the end x = 1/2 of a channel 0 < y < 1 below y = c; g_a ends at y = 0 where the grid ends, g_b is far larger."""
    process = Process.from_drift(["0*x", "0*y"], Noise.isotropic(1.0), variables="x y")
    n = 40
    fp = FokkerPlanck(process, Grid((-0.75, 0.75, 60), (0.0, 1.0, n)))
    points = np.array([[0.0, 0.5], [0.25, 0.125], [0.25, 0.625]])
    k = np.arange(1, 100)
    for c in (0.23, 0.66, 0.9 / n):
        a = Region.from_expression(f"max(1/2 - x, log(y) - log({c}))", variables="x y")
        b = Region.from_expression(f"min(max(1/2 - x, 1000*({c} - y)), x + 1/2)", variables="x y")
        modes = 2 * np.sin(k * np.pi * c) / (k * np.pi) / np.sinh(k * np.pi)  # all of the other end, x = -1/2, is b
        exact = [c * (x + 0.5) + np.sum(modes * np.cos(k * np.pi * y) * np.sinh(k * np.pi * (x + 0.5))) for x, y in points]
        np.testing.assert_allclose(1.0 - fp.committor(a, b).at(points), exact, atol=0.6 / n**2)


def test_exit_split_at_the_ends_of_the_grid():
    """Both regions are sides of the box: q = (1 - exp(-v x/D))/(1 - exp(-v/D)) on (0, 1), whatever the boundary says."""
    v, D = 1.0, 0.3
    process = Process.from_drift("1.0", Noise.isotropic(D))
    low, high = Region.halfspace([1.0], 0.05), Region.halfspace([-1.0], -0.95)
    fp = FokkerPlanck(process, Grid((0, 1, 400), boundary=("absorbing", "reflecting")))
    x = np.array([0.3, 0.5, 0.8])
    exact = (1 - np.exp(-v * (x - 0.05) / D)) / (1 - np.exp(-v * 0.9 / D))
    np.testing.assert_allclose(fp.committor(low, high).at(x[:, None]), exact, rtol=1e-4)


def test_absorbing_sides_reach_neither():
    """b is a block in a square with one absorbing side: committors of both orders no longer add up to one, but stay below it."""
    flat = Process(Potential.from_expression("0*x + 0*y", variables="x y"), Noise.isotropic(1.0))
    fp = FokkerPlanck(flat, Grid((-2, 2, 40), (0, 1, 20), boundary=["reflecting", ("absorbing", "reflecting")]))
    total = fp.committor(A2, B2).values + fp.committor(B2, A2).values
    # P(not absorbed before |x| = 1) = sum over modes k_m of cosh(k x)/cosh(k) sin(k y) 2/(k), k = (m + 1/2) pi
    k = (np.arange(200) + 0.5) * np.pi
    x, y = 0.05, fp.grid.centers[1][12]
    ratio = (np.exp(k * (x - 1)) + np.exp(-k * (x + 1))) / (1 + np.exp(-2 * k))
    exact = np.sum(2 / k * ratio * np.sin(k * y))
    assert abs(total[20, 12] - exact) < 2e-3


def test_components_of_one_sublevel_set():
    U = Potential.from_expression("(x**2-1)**2 + y**2", variables="x y")
    fp = FokkerPlanck(Process(U, Noise.isotropic(0.1)), Grid((-2, 2, 60), (-1.5, 1.5, 51)))
    left, right = (Region.sublevel(U, 0.3, containing=[s, 0.0]) for s in (-1.0, 1.0))
    q = fp.committor(left, right)
    assert q.values[15, 25] == 0.0
    assert q.values[44, 25] == 1.0
    np.testing.assert_allclose(q.values + q.values[::-1], 1.0, atol=1e-9)


# ---- rate and current ---------------------------------------------------------------------------------------------------


def rate_quadrature(D):
    """nu = D/(Z int exp(U/D)) and rho_a = int (1 - q) p by symmetry 1/2 for the symmetric well."""
    Z = integrate.quad(lambda x: np.exp(-((x * x - 1) ** 2) / D), -2, 2, epsabs=1e-14, limit=400)[0]
    barrier = integrate.quad(lambda x: np.exp(((x * x - 1) ** 2 - 1) / D), -1, 1, epsabs=1e-14, limit=400)[0]
    return D / (Z * barrier) * np.exp(-1 / D) / 0.5


def test_components_that_are_apart_by_a_cell_or_across_a_seam():
    """One function for both: q is linear between them, at the middle of one cell and on both sides of the seam."""
    process = Process.from_drift("0*x", Noise.isotropic(0.5))
    outside = Potential.from_expression("-abs(x)")
    a, b = (Region.sublevel(outside, -0.06, containing=[x]) for x in (-0.9, 0.9))
    assert abs(FokkerPlanck(process, Grid((-1, 1, 21))).committor(a, b).at([[0.0]])[0] - 0.5) < 1e-12
    fp = FokkerPlanck(process, Grid((0, 1, 40), boundary="periodic"))
    x = fp.grid.centers[0]
    for top in (0.05, 0.0, 0.3):
        wells, w = Potential.from_expression(f"cos(4*pi*(x - {top}))"), 0.06
        a, b = (Region.sublevel(wells, math.cos(4 * np.pi * w), containing=[(top + s) % 1]) for s in (0.25, 0.75))
        d = (x - top + 0.5) % 1 - 0.5
        between = np.abs(d) < w
        np.testing.assert_allclose(fp.committor(a, b).values[between], ((w - d) / (2 * w))[between], atol=1e-9)


@pytest.mark.parametrize("D", [0.2, 0.01])
def test_reactive_rate_of_the_double_well(D):
    process, errors = Process(WELL, Noise.isotropic(D)), []
    for n in (250, 500, 1000):
        rate = FokkerPlanck(process, Grid((-2, 2, n))).reactive_rate(A1, B1)
        errors.append(abs(rate.value / rate_quadrature(D) - 1))
        assert abs(rate.value - rate_quadrature(D)) < 3 * rate.discretization_error
    assert np.all(orders(errors) >= 1.9), errors
    assert errors[-1] < 1e-3
    if D < 0.1:
        assert abs(rate.log_value - theory.kramers_rate(process, [-1.0], [0.0]).log_value) < 1.5 * D


def test_reactive_rate_in_the_plane_at_a_high_barrier():
    plane = Process(Potential.from_expression("(x**2-1)**2 + y**2/2", variables="x y"), Noise.isotropic(0.01))
    flat = FokkerPlanck(plane, Grid((-1.8, 1.8, 120), (-0.8, 0.8, 24))).reactive_rate(A2, B2)
    line = FokkerPlanck(Process(WELL, Noise.isotropic(0.01)), Grid((-1.8, 1.8, 120))).reactive_rate(A1, B1)
    assert abs(flat.log_value - line.log_value) < 1e-8
    assert line.log_value < -95


def test_reactive_current_of_the_double_well():
    """In 1-D it is constant between the regions and equal to the flux."""
    D = 0.1
    fp = FokkerPlanck(Process(WELL, Noise.isotropic(D)), Grid((-2, 2, 800)))
    current = fp.reactive_current(A1, B1)
    x = fp.grid.centers[0]
    inner = np.abs(x) < 0.98
    np.testing.assert_allclose(current.values[inner, 0], 0.5 * rate_quadrature(D), rtol=1e-3)
    assert np.all(current.values[np.abs(x) > 1.01] == 0.0)
    assert isinstance(current, Current)
    assert current.solver_info["flux"] == pytest.approx(0.5 * rate_quadrature(D), rel=1e-3)


def test_reversed_process_of_a_linear_one():
    """The reversal of dX = -A X dt has the drift (A - 2 D S^-1) x."""
    import scipy.linalg as la

    A, D = np.array([[1.0, 0.6], [-0.3, 0.8]]), np.array([[1.0, 0.2], [0.2, 0.5]])
    S = la.solve_continuous_lyapunov(A, 2 * D)
    process, grid = Process.ornstein_uhlenbeck(A, Noise.constant(D)), Grid((-3, 3, 60), (-3, 3, 50))
    x = grid.points()
    back = Reversed(process, grid, -0.5 * np.einsum("ni,ij,nj->n", x, la.inv(S), x))
    np.testing.assert_allclose(back.drift(x), x @ (A - 2 * D @ la.inv(S)).T, atol=1e-10)


def test_transitions_of_a_process_that_is_not_reversible():
    """Rotation (-y, x) added to a gradient system of radial symmetry leaves p, q(r), q^-(r) and the flux as they were.

    nu = 2 pi D / (Z int exp(U/D)/r dr) between r = 0.5 and r = 1.5 with U = r^2/2.
    """
    D = 0.5
    Z = 2 * np.pi * D
    barrier = integrate.quad(lambda r: np.exp(r * r / (2 * D)) / r, 0.5, 1.5)[0]
    nu = 2 * np.pi * D / (Z * barrier)
    q = lambda r: integrate.quad(lambda s: np.exp(s * s / (2 * D)) / s, 0.5, r)[0] / barrier  # noqa: E731
    last_in_a = integrate.quad(lambda r: 2 * np.pi * r * np.exp(-r * r / (2 * D)) / Z * (1 - q(max(r, 0.5))), 0, 1.5, points=[0.5])[
        0
    ]
    process = Process.from_drift(["-x - 2*y", "-y + 2*x"], Noise.isotropic(D), variables="x y")
    a, b = Region.ball([0.0, 0.0], 0.5), Region.from_expression("1.5 - sqrt(x**2 + y**2)", variables="x y")
    errors = []
    for n in (50, 100):
        fp = FokkerPlanck(process, Grid((-4, 4, n), (-4, 4, n)))
        rate = fp.reactive_rate(a, b)
        errors.append(abs(rate.value * last_in_a / nu - 1))
    assert errors[-1] < 1e-2, errors
    assert orders(errors)[0] > 1.5, errors
    current = fp.reactive_current(a, b)
    x = np.array([1.0, 0.0])
    radial = nu / (2 * np.pi)
    assert abs(current.at(x)[0] / radial - 1) < 2e-2
    # around: q q^- times the stationary circulation 2 r p
    around = q(1.0) * (1 - q(1.0)) * 2.0 * np.exp(-1 / (2 * D)) / Z
    assert abs(current.at(x)[1] / around - 1) < 2e-2


def test_saves_and_plots(tmp_path):
    fp = FokkerPlanck(Process(WELL, Noise.isotropic(0.2)), Grid((-2, 2, 80)))
    for result in (fp.committor(A1, B1), fp.reactive_current(A1, B1)):
        fpsolve.save(tmp_path / "r.h5", result)
        assert fpsolve.load(tmp_path / "r.h5") == result
        assert result.plot().get_xlabel() == "$x$"


def test_refusals():
    fp = FokkerPlanck(Process(WELL, Noise.isotropic(0.2)), Grid((-2, 2, 80)))
    with pytest.raises(ValueError, match="overlap"):
        fp.committor(A1, Region.halfspace([1.0], 0.0))
    with pytest.raises(ValueError, match="no cell lies between"):
        fp.committor(Region.halfspace([1.0], 0.0), Region.halfspace([-1.0], 0.0))
    with pytest.raises(TypeError, match="b must be a Region"):
        fp.committor(A1, 1.0)
    with pytest.raises(ValueError, match="another component"):
        fp.committor(Region.sublevel(WELL, 0.3, containing=[-1.0]), Region.halfspace([-1.0], -1.5))
    with pytest.raises(ValueError, match="absorbing"):
        FokkerPlanck(fp.process, Grid((-2, 2, 80), boundary="absorbing")).reactive_rate(A1, B1)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.0, 3.0), st.sampled_from(["reflecting", "periodic"]))
def test_committors_of_random_fields_are_probabilities(seed, log_condition, boundary):
    """Any tensor and drift: values in [0, 1], complementary, 0 and 1 on the regions."""
    rng = np.random.default_rng(seed)
    t, u, v = rng.uniform(-2, 2, 3).tolist()
    small = 10.0**-log_condition
    turn = f"({t!r} + sin({u!r}*x + y))"
    a, b, c = (f"cos({turn})**2 + {small!r}*sin({turn})**2", f"(1 - {small!r})*sin({turn})*cos({turn})",
               f"sin({turn})**2 + {small!r}*cos({turn})**2")  # fmt: skip
    noise = Noise.from_expression([[a, b], [b, c]], variables="x y")
    process = Process.from_drift([f"{v!r}*y - x", "sin(3*x)"], noise, variables="x y")
    fp = FokkerPlanck(process, Grid((-2, 2, 26), (-1, 1, 18), boundary=["reflecting", boundary]))
    first, second = Region.ball([-1.1, 0.1], 0.5), Region.ball([1.0, -0.2], 0.4)
    q, r = fp.committor(first, second), fp.committor(second, first)
    assert np.all((q.values >= 0.0) & (q.values <= 1.0))
    np.testing.assert_allclose(q.values + r.values, 1.0, atol=1e-10)
    assert np.all(q.values[first.mask(fp.grid)] == 0.0)
    assert np.all(q.values[second.mask(fp.grid)] == 1.0)


def test_transitions_on_a_ring_with_a_current():
    """Constant drift v on a ring of length one, p = 1: both arcs between two intervals by hand, q^- from the reversed drift."""
    v, D, arc = 0.8, 0.25, 0.3
    process = Process.from_drift("0.8", Noise.isotropic(D))
    a = Region.from_expression("min(abs(x), abs(x - 1)) - 0.1", variables="x")
    b = Region.ball([0.5], 0.1)

    def flux(drift):
        """From a (at 0) to b (at `arc`) along one arc, in the direction from a to b: constant in x, taken at the middle."""
        k, x = drift / D, 0.5 * arc
        q = -np.expm1(-k * x) / -np.expm1(-k * arc)
        slope = k * np.exp(-k * x) / -np.expm1(-k * arc)
        back = 1 - np.expm1(k * x) / np.expm1(k * arc)
        back_slope = -k * np.exp(k * x) / np.expm1(k * arc)
        return drift * q * back + D * (back * slope - q * back_slope)

    nu = flux(v) + flux(-v)
    for n in (60, 240):  # exponential fitting is exact for a constant drift
        current = FokkerPlanck(process, Grid((0, 1, n), boundary="periodic")).reactive_current(a, b)
        assert current.solver_info["flux"] == pytest.approx(nu, rel=1e-12)
    np.testing.assert_allclose(current.at([[0.25], [0.75]])[:, 0], [flux(v), -flux(-v)], rtol=5e-3)
