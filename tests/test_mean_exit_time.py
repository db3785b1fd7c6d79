"""Mean exit times of the Fokker-Planck engine against closed forms and quadrature, at any barrier; their errors."""

import numpy as np
import pytest
from scipy import integrate

from fokker_planck_cases import Stand, double_well_time, orders, ou, tensor
from fpsolve._start import gaussian_mass
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Estimate, Field

# ---- exit times ---------------------------------------------------------------------------------------------------------


def test_reference_for_the_double_well_agrees_with_nested_quadrature():
    D = 0.2
    inner = lambda y: integrate.quad(lambda z: np.exp(-((z * z - 1) ** 2) / D), -2.5, y)[0]  # noqa: E731
    nested = integrate.quad(lambda y: np.exp((y * y - 1) ** 2 / D) * inner(y), -1, 1)[0] / D
    np.testing.assert_allclose(double_well_time(D), nested, rtol=1e-8)
    np.testing.assert_allclose(double_well_time(D), 182.41767298558, rtol=1e-8)


@pytest.mark.parametrize("D", [0.2, 0.05, 0.02])
@pytest.mark.parametrize("known", [True, False])
def test_exit_time_of_the_double_well(D, known):
    """Barrier/D up to 50 (time 5.8e21); `known` False hides the stationary density from the solver."""
    process = Process(Potential.from_expression("(x**2-1)**2"), Noise.isotropic(D))
    if not known:
        process = Process.from_drift("-4*x*(x**2-1)", Noise.isotropic(D))
    exact, region = double_well_time(D), Region.halfspace([1.0], 1.0)
    errors = []
    for n in (350, 700, 1400):
        tau = FokkerPlanck(process, Grid((-2.5, 2.5, n))).mean_exit_time(region, at=[-1.0])
        errors.append(abs(tau.value / exact - 1))
        assert abs(tau.value - exact) < 2 * tau.discretization_error
    assert np.all(orders(errors) >= 1.9), errors
    assert errors[-1] < 2.5e-4


def test_exit_time_beyond_the_range_of_doubles():
    process = Process(Potential.from_expression("(x**2-1)**2"), Noise.isotropic(1 / 1000))
    tau = FokkerPlanck(process, Grid((-1.6, 1.6, 4000))).mean_exit_time(Region.halfspace([1.0], 1.0), at=[-1.0])
    assert tau.value == np.inf
    # Kramers for a full crossing, 2 pi/sqrt(8 * 4) exp(1/D): corrections are of the order of D
    assert abs(tau.log_value - (1000 + np.log(2 * np.pi / np.sqrt(32)))) < 5e-3


@pytest.mark.parametrize(("dim", "n"), [(1, 41), (2, 41), (2, 64)])
def test_brownian_motion_leaves_a_ball(dim, n):
    """(r^2 - x^2)/(2 d D): a quadratic, for which cut edges are exact."""
    flat = Potential.from_expression("0*x" if dim == 1 else "0*x + 0*y", variables=["x", "y"][:dim])
    process = Process(flat, Noise.isotropic(0.3))
    fp = FokkerPlanck(process, Grid(*[(-1.2, 1.3, n)] * dim))
    tau = fp.mean_exit_time(Region.ball(np.zeros(dim), 1.0))
    exact = np.maximum(0.0, (1 - np.sum(fp.grid.points() ** 2, axis=1)) / (2 * dim * 0.3))
    np.testing.assert_allclose(tau.values.ravel(), exact, atol=1e-12)
    assert isinstance(tau, Field)
    assert tau.unit == "time"


def test_order_of_the_exit_time_from_a_disc_with_drift():
    """dX = X dt + sqrt(2 D) dW leaves the unit disc: tau(r) = int_r^1 exp(-s^2/2D)/(s D) int_0^s u exp(u^2/2D) du ds."""
    D = 0.3

    def exact(r):
        return integrate.quad(lambda s: (1 - np.exp(-s * s / (2 * D))) / s if s else 0.0, r, 1)[0]

    for process in (Process.from_drift(["x", "y"], Noise.isotropic(D), variables="x y"),
                    Process(Potential.from_expression("-x**2/2 - y**2/2", variables="x y"), Noise.isotropic(D))):  # fmt: skip
        errors = []
        for n in (31, 62, 124):
            fp = FokkerPlanck(process, Grid((-1.2, 1.3, n), (-1.15, 1.3, n)))
            tau = fp.mean_exit_time(Region.ball([0.0, 0.0], 1.0)).values.ravel()
            r = np.hypot(*fp.grid.points().T)
            reference = np.array([exact(v) if v < 1 else 0.0 for v in r])
            errors.append(np.abs(tau - reference).max())
        assert np.all(orders(errors) >= 1.8), errors
        assert orders(errors).mean() >= 1.9, errors


def test_exit_through_a_tilted_line_with_a_rotated_tensor():
    """Constant drift v towards n.x = c: far from the other walls tau = (c - n.x)/(n.v), whatever the tensor."""
    normal = np.array([np.cos(0.7), np.sin(0.7)])
    drift = 1.5 * normal + 0.4 * np.array([-normal[1], normal[0]])
    process = Process.from_drift([repr(float(v)) for v in drift], Noise.constant(0.05 * tensor(10.0, 2.0)), variables="x y")
    region, errors = Region.halfspace(normal, 0.37), []
    for n in (40, 80, 160):
        fp = FokkerPlanck(process, Grid((-2, 2, n), (-2, 2, n)))
        points = np.array([[0.1, 0.1], [0.2, -0.1], [-0.1, 0.2]])
        tau = fp.mean_exit_time(region).at(points)
        errors.append(np.abs(tau - (0.37 - points @ normal) / 1.5).max())
    assert np.all(orders(errors) >= 1.5), errors  # the points lie differently in the cells of each grid
    assert errors[-1] < 1.5e-3, errors


def test_box_that_coincides_with_the_grid_is_left_through_its_sides():
    """Sides with g >= 0 are exits whatever the boundary; the square's mean exit time at its centre is a double sine series."""
    k = np.arange(1, 200, 2)
    series = 16 / np.pi**4 * np.sum((-1.0) ** ((k[:, None] - 1) // 2 + (k - 1) // 2) / (k[:, None] * k * (k[:, None] ** 2 + k**2)))
    process = Process(Potential.from_expression("0*x + 0*y", variables="x y"), Noise.isotropic(1.0))
    for boundary in ("reflecting", "absorbing"):
        errors = []
        for n in (11, 33, 99):
            fp = FokkerPlanck(process, Grid((0, 1, n), (0, 1, n), boundary=boundary))
            errors.append(abs(fp.mean_exit_time(Region.box([0, 0], [1, 1])).values[n // 2, n // 2] - series))
        assert np.all(orders(errors) / np.log2(3) >= 1.8), errors
        assert orders(errors)[-1] / np.log2(3) >= 1.9, errors


def test_sides_inside_the_region_keep_their_boundary():
    """[0, 1) with a reflecting wall at 0: (1 - x^2)/(2 D); with an absorbing wall: x (1 - x)/(2 D)."""
    process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
    region = Region.halfspace([1.0], 1.0)
    for low, exact in (("reflecting", lambda x: 1 - x * x), ("absorbing", lambda x: x * (1 - x))):
        fp = FokkerPlanck(process, Grid((0.0, 1.2, 50), boundary=(low, "reflecting")))
        x = fp.grid.centers[0]
        np.testing.assert_allclose(fp.mean_exit_time(region).values, np.where(x < 1, exact(x), 0.0), atol=1e-3)


def test_one_well_of_a_sublevel_set():
    U = Potential.from_expression("(x**2-1)**2 + y**2", variables="x y")
    fp = FokkerPlanck(Process(U, Noise.isotropic(0.2)), Grid((-2, 2, 60), (-1.5, 1.5, 60)))
    left = fp.mean_exit_time(Region.sublevel(U, 0.6, containing=[-1.0, 0.0]))
    both = fp.mean_exit_time(Region.sublevel(U, 0.6))
    assert np.all(left.values[30:] == 0.0)
    np.testing.assert_allclose(left.values[:30], both.values[:30], rtol=1e-10)
    np.testing.assert_allclose(both.values, both.values[::-1], rtol=1e-9)


def test_states_that_cannot_leave_are_infinite():
    """Noise along a periodic x only: a row that lies inside the region over its whole length is never left."""
    process = Stand(2, lambda x: np.zeros(x.shape), lambda x: np.broadcast_to(np.diag([1.0, 0.0]), (*x.shape[:-1], 2, 2)))
    fp = FokkerPlanck(process, Grid((0, 1, 10), (0, 1, 10), boundary=["periodic", "reflecting"]))
    region = Region.from_expression("1 - 4*abs(x - 0.5) - 2*y", variables="x y")
    tau = fp.mean_exit_time(region)
    y = fp.grid.centers[1]
    inside = region.mask(fp.grid)
    assert np.all(np.isinf(tau.values[:, y > 0.6][inside[:, y > 0.6]]))
    assert np.all(np.isfinite(tau.values[:, y < 0.4]))
    assert any("cannot leave" in w for w in tau.warnings)


@pytest.mark.parametrize("scheme", ["monotone", "high-order"])
@pytest.mark.parametrize("question", ["mean_exit_time", "exit_time_variance"])
def test_bad_starts_are_refused_before_any_work(scheme, question, monkeypatch):
    process = Process(Potential.from_expression("x**2 + y**2", "x y"), Noise.isotropic(0.3))
    fp, box = FokkerPlanck(process, Grid((-2, 2, 16), (-2, 2, 16)), scheme=scheme), Region.box([-1, -1], [1, 1])
    monkeypatch.setattr(fp, "_log_exit_time", None)
    monkeypatch.setattr(fp, "_log_moments", None)
    monkeypatch.setattr(fp, "_moments", None, raising=False)
    for region, at, kind, match in [
        (box, [[0, 0], [0.1, 0]], ValueError, r"one point of shape \(2,\), got shape \(2, 2\)"),
        (box, [0.0], ValueError, r"got shape \(1,\)"),
        (box, "here", TypeError, "must be a point"),
        (box, [1.5, 0.0], ValueError, "is not inside"),
        (box, [3.0, 0.0], ValueError, r"axis 0 spans \[-2, 2\]"),
        (box, [np.nan, 0.0], ValueError, "outside the grid"),
        (Region.ball([0.0], 1.0), [0.0, 0.0], ValueError, "is 1-D, the grid is 2-D"),
        (3, [0.0, 0.0], TypeError, "must be a Region"),
    ]:
        with pytest.raises(kind, match=match):
            getattr(fp, question)(region, at=at)


def test_estimate_at_a_point_covers_the_error():
    process = Process(Potential.from_expression("0*x + 0*y", variables="x y"), Noise.constant(tensor(5.0, 0.8)))
    fp = FokkerPlanck(process, Grid((-1, 1, 40), (-1, 1, 40)))
    fine = FokkerPlanck(process, Grid((-1, 1, 160), (-1, 1, 160)))
    region = Region.box([-1, -1], [1, 1])
    tau, better = fp.mean_exit_time(region, at=[0.2, -0.1]), fine.mean_exit_time(region, at=[0.2, -0.1])
    assert isinstance(tau, Estimate)
    assert tau.unit == "time"
    assert 0 < better.discretization_error < tau.discretization_error
    assert abs(tau.value - better.value) < 1.5 * tau.discretization_error
    np.testing.assert_allclose(np.exp(tau.log_value), tau.value)


def test_error_bar_covers_where_the_scheme_is_of_first_order():
    """dx = v dt, dv = -v dt + sqrt(2) dW, noise in v only: of first order in the cell width."""
    process = Process.from_drift(["y", "-y"], Noise.constant([[0.0, 0.0], [0.0, 1.0]]), variables="x y")
    region = Region.from_expression("abs(x) - 2", variables="x y")
    times = {
        n: FokkerPlanck(process, Grid((-2.5, 2.5, n), (-6, 6, n))).mean_exit_time(region, at=[0.0, 0.0]) for n in (48, 96, 192)
    }
    last, before = times[192].value, times[96].value
    limit = last + (last - before)  # first order; the change per halving falls by 1.9
    for n, tau in times.items():
        assert abs(tau.value - limit) < 1.02 * tau.discretization_error < 4 * abs(tau.value - limit), (n, tau)


@pytest.mark.parametrize("n", [50, 100, 400, 1600])
def test_diffusion_that_vanishes_between_cells_is_said(n):
    """D = 0.4 |3 x^2 - 1| with drift towards -1 at x = -1/sqrt(3): the exact time to leave through 0.8 is inf."""
    U = Potential.from_expression("(x**2-1)**2/4")
    region = Region.halfspace([1.0], 0.8)
    fp = FokkerPlanck(Process(U, Noise.hessian(U, 0.4)), Grid((-3, 3, n)))
    tau = fp.mean_exit_time(region, at=[-1.0])
    assert tau.discretization_error == np.inf
    assert [a.name for a in tau.failed if "vanishes" in a.detail] == ["D positive definite on the way"]
    assert any("-0.57735" in w and "vanishes" in w for w in fp.mean_exit_time(region).warnings)
    # a region that ends before the place, and a floor that the cells resolve
    assert not fp.mean_exit_time(Region.box([-2.0], [-0.6]), at=[-1.0]).failed
    safe = FokkerPlanck(Process(U, Noise.hessian(U, 0.4, floor=0.3)), Grid((-3, 3, n))).mean_exit_time(region, at=[-1.0])
    assert not safe.failed
    assert np.isfinite(safe.discretization_error)


def test_vanishing_diffusion_in_two_dimensions():
    """A line across which the noise vanishes bars the way; noise missing on an axis or along it does not."""
    grid, region = Grid((-2, 2, 30), (-2, 2, 30)), Region.ball([0.0, 0.0], 1.5)

    def fields(normal, null):
        def diffusion(x):
            D = np.broadcast_to(np.eye(2) - np.outer(null, null), (*x.shape[:-1], 2, 2)).copy()
            return D + np.abs(x @ normal - 0.313)[..., None, None] * np.outer(null, null)

        return Stand(2, lambda x: -x, diffusion)

    a, b = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    e, f = np.eye(2)
    for normal, null, barred in ((e, e, True), (a, a, True), (e, f, False), (a, b, False)):
        tau = FokkerPlanck(fields(normal, null), grid).mean_exit_time(region)
        assert any("vanishes" in w for w in tau.warnings) == barred, (normal, null)


def test_estimate_keeps_learning_rate_and_warnings():
    noise = Noise.covariance([[4.0]], lr=0.1, batch=20)
    process = Process(Potential.from_expression("0*x"), noise)
    tau = FokkerPlanck(process, Grid((-2, 2, 100))).mean_exit_time(Region.ball([0.0], 1.0), at=[0.0])
    assert (tau.lr, tau.batch) == (0.1, 20)
    D = 0.1 * 4.0 / (2 * 20)
    np.testing.assert_allclose(tau.per_iteration().value, 1 / (2 * D) / 0.1, rtol=1e-10)
    long = FokkerPlanck(ou(1000.0), Grid((-5, 5, 40), (-5, 5, 40)), max_offset=2)
    tau = long.mean_exit_time(Region.ball([0.0, 0.0], 2.0), at=[0.0, 0.0])
    assert set(long.warnings) <= {a.detail for a in tau.failed}


@pytest.mark.parametrize("n", [20, 21, 50])
def test_surface_at_a_periodic_seam(n):
    """The part x < 1/2 of a ring (0, 1): g jumps at the seam, so tau = x (1/2 - x)/(2 D), a quadratic."""
    process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
    for g, low in (("x - 0.5", 0.0), ("0.5 - x", 0.5)):
        fp = FokkerPlanck(process, Grid((0, 1, n), boundary="periodic"))
        x = fp.grid.centers[0] - low
        exact = np.where((x > 0) & (x < 0.5), x * (0.5 - x), 0.0)
        exact[np.abs(x - 0.5) < 1e-12] = 0.0
        np.testing.assert_allclose(fp.mean_exit_time(Region.from_expression(g)).values, exact, atol=1e-12)


def test_error_without_a_coarser_grid():
    """The start's cell is the only one in the region, and the grid with half the cells has none: (r^2 - x^2)/(2 D)."""
    process = Process(Potential.from_expression("0*x"), Noise.isotropic(0.5))
    tau = FokkerPlanck(process, Grid((-2, 2, 41))).mean_exit_time(Region.ball([0.0], 0.09), at=[0.0])
    np.testing.assert_allclose(tau.value, 0.0081, rtol=1e-10)
    assert tau.discretization_error < 1e-10
    # one cell of 41 at 0.0488, which the grid with 82 does not have
    tau = FokkerPlanck(process, Grid((-2, 2, 41))).mean_exit_time(Region.ball([0.0], 0.02), at=[0.0])
    np.testing.assert_allclose(tau.value, 0.0004, rtol=1e-10)
    assert tau.discretization_error == np.inf
    assert any("second grid" in a.name for a in tau.failed)


def test_gaussian_outside_the_box():
    process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
    fp = FokkerPlanck(process, Grid((-3, 3, 60)))
    with pytest.raises(ValueError, match="mass of the Gaussian"):
        fp.evolve(("gaussian", [50.0], [[0.01]]), 1.0)
    with pytest.raises(ValueError, match="mass of the Gaussian"):
        fp.evolve(("gaussian", [3.1], [[0.25]]), 1.0)
    for t in (0.0, 5.0):
        assert any("0.0228 of the mass" in w for w in fp.evolve(("gaussian", [1.0], [[1.0]]), t).warnings)  # 1 - Phi(2) above
        assert not any("outside the box" in w for w in fp.evolve(("gaussian", [0.0], [[0.25]]), t).warnings)
    # the quadrant of a correlated pair: 1/4 + arcsin(rho)/(2 pi), and independent factors
    quadrant = gaussian_mass(np.zeros(2), np.array([[1.0, 0.6], [0.6, 1.0]]), Grid((0, 30, 8), (0, 30, 8)))
    np.testing.assert_allclose(quadrant, 0.25 + np.arcsin(0.6) / (2 * np.pi), rtol=1e-10)
    assert gaussian_mass(np.array([50.0, 0.0]), np.eye(2), Grid((-3, 3, 8), (-3, 3, 8))) == 0.0
    # the octant of three equally correlated normals: 1/8 + 3 arcsin(rho)/(4 pi); and the third axis counts like the others
    octant = gaussian_mass(np.zeros(3), np.full((3, 3), 0.6) + 0.4 * np.eye(3), Grid(*3 * ((0, 30, 8),)))
    np.testing.assert_allclose(octant, 0.125 + 3 * np.arcsin(0.6) / (4 * np.pi), rtol=1e-10)
    space = FokkerPlanck(Process.ornstein_uhlenbeck(np.eye(3), Noise.isotropic(1.0)), Grid(*3 * ((-3, 3, 12),)))
    with pytest.raises(ValueError, match="mass of the Gaussian"):
        space.evolve(("gaussian", [0.0, 0.0, 9.0], np.eye(3)), 0.1)


def thin_exit(seed, cells):
    """Exit from (lo, hi), some cells wide, with constant drift v: (w q - (x - lo))/v, q the probability of leaving at hi."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(24, 64))
    h = 4.0 / n
    width = rng.uniform(*cells) * h
    lo = rng.uniform(-1.0, 1.0 - width)
    D = 10.0 ** rng.uniform(-1, 1)
    v = rng.uniform(-2.5, 2.5) * D / h
    s = width * rng.uniform(0.3, 0.7)
    exact = (width * np.expm1(-v * s / D) / np.expm1(-v * width / D) - s) / v
    fp = FokkerPlanck(Process.from_drift(f"{v!r} + 0*x", Noise.isotropic(D)), Grid((-2.0, 2.0, n)))
    return fp, Region.box([lo], [lo + width]), [lo + s], exact


def test_regions_a_few_cells_thick_are_flagged():
    """Errors up to half of the value were stated as less, without a word; from seven cells on nothing is off by more than 6 %.

    Of these few may miss their stated error, on surfaces that cut the cells of each grid differently (the 5 % were chosen when
    2 % had been seen)."""
    answers = []
    for seed in range(300):
        fp, region, at, exact = thin_exit(seed, (1.2, 10.0))
        try:
            answers.append((fp.mean_exit_time(region, at=at), exact))
        except ValueError:  # the centre of the cell of the start is not inside
            continue
    plain = [(tau, exact) for tau, exact in answers if "the cells resolve the region" not in [a.name for a in tau.failed]]
    assert len(answers) > 200
    assert len(plain) > 40
    assert max(abs(tau.value / exact - 1.0) for tau, exact in answers) > 0.3
    assert max(abs(tau.value / exact - 1.0) for tau, exact in plain) < 0.06
    short = [tau for tau, exact in plain if abs(tau.value - exact) > tau.discretization_error]
    assert len(short) <= 0.05 * len(plain)


@pytest.mark.parametrize(("boundary", "thin"), [("reflecting", False), ("periodic", False), ("absorbing", True)])
def test_a_region_goes_on_beyond_reflecting_and_periodic_sides(boundary, thin):
    """Two rows of cells, left through a line across them."""
    process = Process.from_drift(["0*x", "0*y"], Noise.isotropic(0.5), variables="x y")
    fp = FokkerPlanck(process, Grid((-2.0, 2.0, 80), (0.0, 0.1, 2), boundary=["reflecting", boundary]))
    tau = fp.mean_exit_time(Region.halfspace([1.0, 0.0], 1.0), at=[0.0, 0.05])
    assert ("the cells resolve the region" in [a.name for a in tau.failed]) == thin
