"""The transition kernel of a chain against closed forms, other quadratures, multiprecision arithmetic and Monte Carlo.

Monte Carlo checks use |z| < 4: a false alarm in 6e-5 of the cases, for one fixed seed each.
"""

import math

import numpy as np
import pytest

import fpsolve as fps
from fpsolve import Grid, Noise, Potential, Region, SGDChain, TransitionKernel
from fpsolve._cells import pieces
from fpsolve._kernels import transition
from tests import references

WELL = Potential.from_expression("(x**2 - 1)**2/4")


def linear(a: float, s: float) -> SGDChain:
    """x' = (1 - a) x + s z."""
    return SGDChain.gaussian(Potential.from_expression("x**2/2"), Noise.isotropic(s * s / (2 * a)), lr=a)


def walk(s: float, dim: int = 1) -> SGDChain:
    """x' = x + s z."""
    text, names = ("0*x", "x") if dim == 1 else ("0*x + 0*y", "x y")
    return SGDChain.gaussian(Potential.from_expression(text, names), Noise.isotropic(0.5 * s * s / 0.1), lr=0.1)


def line(lo: float, hi: float) -> Region:
    return Region.box([lo], [hi])


# ---- stationary law and evolution -------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.05, 0.5, 1.0, 1.7])
def test_linear_chain_has_the_discrete_variance(a: float) -> None:
    """s^2/(1 - (1 - a)^2) at any learning rate, where the equation in continuous time says s^2/(2 a)."""
    variance = 0.3**2 / (1 - (1 - a) ** 2)
    kernel = TransitionKernel(linear(a, 0.3), Grid((-9 * math.sqrt(variance), 9 * math.sqrt(variance), 120)))
    p = kernel.stationary()
    assert p.covariance()[0, 0] == pytest.approx(variance, rel=1e-9)
    assert p.values == pytest.approx(
        np.exp(-(p.grid.centers[0] ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance), abs=1e-9
    )
    assert p.mass == pytest.approx(1.0, abs=1e-13) and p.warnings == ()


def test_plane_has_the_discrete_covariance() -> None:
    """Full Hessian and full noise, against the linear equation for the covariance."""
    H, D, lr = np.array([[1.0, 0.3], [0.3, 0.7]]), np.array([[0.3, 0.1], [0.1, 0.2]]), 0.5
    exact = references.sgd_covariance_lyapunov(H, 2 * D / lr, lr, 1, 0.0)
    kernel = TransitionKernel(SGDChain.gaussian(fps.potentials.quadratic(H), Noise.constant(D), lr), Grid((-5, 5, 24), (-5, 5, 24)))
    assert kernel.stationary().covariance() == pytest.approx(exact, abs=1e-10)


def test_evolution_of_a_linear_chain() -> None:
    a, s = 0.2, 0.4
    kernel = TransitionKernel(linear(a, s), Grid((-6, 6, 100)))
    series = kernel.evolve(("gaussian", [2.0], [[0.25]]), [0, 1, 7, 5000])
    for k, p in zip((0, 1, 7, 5000), series, strict=True):
        r = (1 - a) ** k
        assert p.mean()[0] == pytest.approx(2.0 * r, abs=1e-7)
        assert p.covariance()[0, 0] == pytest.approx(0.25 * r * r + s * s * (1 - r * r) / (1 - (1 - a) ** 2), abs=1e-7)
    # an array or a callable of the same start gives the same
    start = series[0]
    for rho0 in (start, start.values, lambda x: np.exp(-2 * (x[:, 0] - 2.0) ** 2)):
        assert kernel.evolve(rho0, 3).mean()[0] == pytest.approx(2.0 * (1 - a) ** 3, abs=2e-3)


def test_absorbing_sides_take_mass_and_periodic_ones_none() -> None:
    chain = walk(0.2)
    lost = TransitionKernel(chain, Grid((-1, 1, 40), boundary="absorbing"))
    masses = [p.mass for p in lost.evolve(("gaussian", [0.0], [[0.01]]), list(range(0, 400, 1)))]
    # the sum of the survival probabilities is the mean exit time; the start is the same in both
    tau = lost.mean_exit_time(line(-9.0, 9.0))
    start = lost.evolve(("gaussian", [0.0], [[0.01]]), 0)
    assert math.fsum(masses) == pytest.approx(float(np.sum(tau.values * start.cell_mass)), rel=2e-4)
    with pytest.raises(ValueError, match="no stationary density"):
        lost.stationary()
    ring = TransitionKernel(chain, Grid((0, 1, 20), boundary="periodic"))
    assert ring.stationary().values == pytest.approx(1.0, abs=1e-6)
    assert ring.evolve(("gaussian", [0.5], [[0.01]]), 3).mass == pytest.approx(1.0, abs=1e-12)
    # a wrapped normal: exp(-2 pi^2 k s^2) is left of the first harmonic after k iterations
    p = ring.evolve(lambda x: 1 + 0.5 * np.cos(2 * np.pi * x[:, 0]), 2)
    assert p.values == pytest.approx(1 + 0.5 * math.exp(-4 * math.pi**2 * 0.04) * np.cos(2 * np.pi * p.grid.centers[0]), abs=1e-5)


def test_reflecting_sides_fold_back_and_say_so() -> None:
    """A random walk between reflecting walls is uniform; cos(pi x) decays like exp(-pi^2 s^2/2) an iteration."""
    kernel = TransitionKernel(walk(0.3), Grid((0, 1, 10)))
    p = kernel.stationary()
    assert p.values == pytest.approx(1.0, abs=1e-9)
    # the integral over x in (0, 1) of Phi(-x/s), once for each wall
    z = 1 / 0.3
    share = 0.3 * (z * 0.5 * math.erfc(z / math.sqrt(2)) + (1 - math.exp(-z * z / 2)) / math.sqrt(2 * math.pi))
    assert p.solver_info["folded back per iteration"] == pytest.approx(2 * share, rel=1e-6)
    assert "reflecting sides fold back" in p.warnings[0]
    p = kernel.evolve(lambda x: 1 + 0.5 * np.cos(np.pi * x[:, 0]), 3)
    assert p.values == pytest.approx(1 + 0.5 * math.exp(-3 * math.pi**2 * 0.09 / 2) * np.cos(np.pi * p.grid.centers[0]), abs=1e-6)


# ---- exit times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "box"), [(40, (-1.0, 1.0)), (37, (-1.3, 1.45))])
def test_exit_time_against_another_quadrature(cells: int, box: tuple[float, float]) -> None:
    """Double well and noise that depends on the state; surfaces on cell edges and inside cells."""
    lr, drift = 0.3, (lambda x: x - 0.3 * (x**3 - x))
    chain = SGDChain.gaussian(WELL, Noise.from_expression([["0.05 + 0.1*x**2"]], variables="x"), lr)
    kernel = TransitionKernel(chain, Grid((*box, cells)))
    exact = references.chain_exit_time(drift, lambda x: np.sqrt(2 * lr * (0.05 + 0.1 * x**2)), -1.0, 1.0, 0.2)
    tau = kernel.mean_exit_time(line(-1.0, 1.0), at=[0.2])
    assert tau.value == pytest.approx(exact, rel=1e-8)
    assert abs(tau.value - exact) <= tau.discretization_error + 1e-11 * exact
    assert tau.unit == "iteration" and tau.assumptions == () and tau.per_time().value == pytest.approx(lr * tau.value, rel=1e-12)
    field = kernel.mean_exit_time(line(-1.0, 1.0))
    assert float(field.at([0.2])) == pytest.approx(exact, rel=2e-3) and field.unit == "iteration"
    assert np.array_equal(field.mask, np.abs(kernel.grid.centers[0]) < 1) and np.all(field.values[~field.mask] == 0.0)


@pytest.mark.parametrize("s", [0.1, 0.05])
def test_random_walk_oversteps(s: float) -> None:
    """s^2 E T = E(1 + R)^2 with the overshoot R: E R = -zeta(1/2)/sqrt(2 pi) s = 0.5826 s, Var R = s^2/4 (Siegmund)."""
    import mpmath

    beta = -float(mpmath.zeta(0.5)) / math.sqrt(2 * math.pi)
    tau = TransitionKernel(walk(s), Grid((-1, 1, 60))).mean_exit_time(line(-1.0, 1.0), at=[0.0])
    assert tau.value * s * s == pytest.approx((1 + beta * s) ** 2 + s * s / 4, rel=1e-7)


def test_small_learning_rates_lead_to_the_equation_in_continuous_time() -> None:
    """The error is of order sqrt(lr), and of order lr once the surface is moved out by 0.5826 of a step."""
    U = Potential.from_expression("(x**2 - 1)**2/4")
    region, plain, moved = line(-3.0, 0.0), [], []
    for lr in (0.1, 0.025, 0.00625):
        kernel = TransitionKernel(SGDChain.gaussian(U, Noise.isotropic(0.1), lr), Grid((-3.0, 0.0, 90)))
        tau = kernel.mean_exit_time(region, at=[-1.0]).value * lr
        process = fps.Process(U, Noise.isotropic(0.1))
        exact = fps.theory.mean_first_passage_1d(process, [-1.0], 0.0).value
        beyond = fps.theory.mean_first_passage_1d(process, [-1.0], 0.5825971579390106 * math.sqrt(0.2 * lr)).value
        plain.append(abs(tau / exact - 1))
        moved.append(abs(tau / beyond - 1))
    order = [math.log(e[0] / e[1]) / math.log(4) for e in (plain[1:], moved[1:])]
    assert 0.4 < order[0] < 0.65 and 0.8 < order[1] < 1.3, (plain, moved)
    assert moved[-1] < 0.1 * plain[-1]


def test_high_barrier_keeps_relative_accuracy() -> None:
    """exp(63) iterations: plain elimination in doubles loses every digit; against multiprecision arithmetic."""
    a, s = 0.5, 1.0
    r = 11 * s / math.sqrt(1 - (1 - a) ** 2)
    exact = references.linear_chain_log_exit_time_mpmath(a, s, r, 60, 70)
    kernel = TransitionKernel(linear(a, s), Grid((-r, r, 60)))
    tau = kernel.mean_exit_time(line(-r, r), at=[0.0])
    assert tau.log_value == pytest.approx(exact, abs=1e-12)
    # the escape rate belongs to the same barrier
    assert kernel.escape_rate(line(-r, r)).log_value == pytest.approx(-exact, abs=1e-9)


@pytest.mark.slow
def test_barrier_of_200() -> None:
    a, s = 0.5, 1.0
    r = 20 * s / math.sqrt(1 - (1 - a) ** 2)
    exact = references.linear_chain_log_exit_time_mpmath(a, s, r, 170, 230)
    tau = TransitionKernel(linear(a, s), Grid((-r, r, 80))).mean_exit_time(line(-r, r), at=[0.0])
    assert exact > 200 and tau.log_value == pytest.approx(exact, abs=1e-11)


def test_beyond_doubles_the_logarithm_remains() -> None:
    """At m = 45 standard deviations, exp(1016), the last jump takes 39 of its own: below the smallest double.

    ln tau - m^2/2 - ln m = c + O(1/m^2), found where doubles still hold (m = 24 and 30), gives the value beyond.
    """

    def log_tau(m: float, cells: int) -> float:
        r = m / math.sqrt(0.75)
        tau = TransitionKernel(linear(0.5, 1.0), Grid((-r, r, cells))).mean_exit_time(line(-r, r), at=[0.0])
        assert not tau.failed and len(tau.assumptions) == (m > 37) and tau.log_value is not None
        assert (tau.value == math.inf) == (m > 37) and (tau.discretization_error == math.inf) == (m > 37)
        return tau.log_value

    rest = {m: log_tau(m, 4 * m) - m * m / 2 - math.log(m) for m in (24, 30)}
    slope = (rest[24] - rest[30]) / (1 / 24**2 - 1 / 30**2)
    for m in (45, 90):
        expected = m * m / 2 + math.log(m) + rest[30] + slope * (1 / m**2 - 1 / 30**2)
        assert log_tau(m, 3 * m) == pytest.approx(expected, abs=2e-5)


def test_wide_entries_are_the_plain_ones_where_both_exist() -> None:
    noise = Noise.constant([[0.2, 0.1], [0.1, 0.3]])
    plane = SGDChain.gaussian(Potential.from_expression("x**2 + y**2/2", "x y"), noise, lr=0.3)
    for chain, grid, region in (
        (plane, Grid((-1, 1, 6), (-1, 1, 6)), Region.ball([0.1, 0.0], 0.8)),
        (SGDChain.gaussian(WELL, Noise.isotropic(0.1), lr=0.3), Grid((-2, 2, 20)), line(-1.5, 0.3)),
    ):
        system = TransitionKernel(chain, grid)._system(region)
        m, e = system._wide_front()
        assert m * 2.0 ** (512.0 * e) == pytest.approx(
            np.column_stack([system.P, system.targets.sum(axis=1)]), rel=1e-11, abs=1e-290
        )


def test_escape_rate_is_what_paths_show() -> None:
    chain = SGDChain.gaussian(WELL, Noise.isotropic(0.08), lr=0.4)
    region, kernel = line(-4.0, 0.0), TransitionKernel(chain, Grid((-4.0, 0.5, 150)))
    rate = kernel.escape_rate(region)
    nu = kernel.quasi_stationary(region)
    tau = kernel.mean_exit_time(region)
    assert nu.mass == pytest.approx(1.0, abs=1e-12)
    assert nu.solver_info["escape rate"] == rate.value and rate.unit == "1/iteration"
    assert nu.solver_info["decay rate -ln rho"] == pytest.approx(-math.log1p(-rate.value), rel=1e-12)
    # the inverse of the mean exit time from the quasi-stationary law
    assert 1 / float(np.sum(tau.values * nu.cell_mass)) == pytest.approx(rate.value, rel=2e-3)
    # memoryless from there: draw starts from the law, compare the mean with 4 standard errors
    rng = np.random.default_rng(5)
    cells = rng.choice(nu.grid.size, size=40_000, p=nu.cell_mass / nu.cell_mass.sum())
    x0 = nu.grid.centers[0][cells] + nu.grid.widths[0][cells] * (rng.random(cells.size) - 0.5)
    x0 = np.minimum(x0, -1e-9)[:, None]
    mean = fps.escape_times(chain, x0, region, n=x0.shape[0], seed=6, threads=1).mean()
    assert abs(mean.value - 1 / rate.value) < 4 * mean.stderr + 2e-3 / rate.value


def test_committor() -> None:
    """Between two half-lines a walk is a martingale: the chance is that of the interval longer by the mean overshoots."""
    s = 0.1
    kernel = TransitionKernel(walk(s), Grid((-2.5, 2.5, 100)))
    q = kernel.committor(Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0))
    wide = 1 + 0.5825971579390106 * s
    x = kernel.grid.centers[0]
    inner = np.abs(x) < 0.5  # the overshoot has its limit law five steps away from the surface
    assert q.values[inner] == pytest.approx(0.5 + x[inner] / (2 * wide), abs=1e-6)
    assert np.all(q.values[x < -1] == 0) and np.all(q.values[x > 1] == 1)


def test_spectrum_of_linear_chains() -> None:
    """(1 - a)^j on the line, all products of two factors in the plane; eigenfunctions are Hermite polynomials."""
    for a in (0.3, 1.4):
        modes = TransitionKernel(linear(a, 0.5), Grid((-7, 7, 80))).spectrum(5)
        assert np.exp(modes.eigenvalues) == pytest.approx((1 - a) ** np.arange(5), abs=1e-9)
        assert modes.unit == "1/iteration" and modes.residuals.max() < 1e-10
    x, variance = modes.grid.centers[0], 0.25 / (1 - 0.4**2)
    first = modes.right[1].real * np.sign(modes.right[1].real[-1])
    assert first == pytest.approx(x / math.sqrt(variance), abs=1e-6)
    overlap = modes.left.real @ (modes.right.real * modes.grid.widths[0]).T
    assert overlap == pytest.approx(np.eye(5), abs=1e-6)
    plane = SGDChain.gaussian(Potential.from_expression("(x**2 + 0.5*y**2)/2", "x y"), Noise.isotropic(0.3), lr=0.4)
    modes = TransitionKernel(plane, Grid((-4, 4, 20), (-5, 5, 24))).spectrum(5)
    exact = sorted((0.6**i * 0.8**j for i in range(4) for j in range(5)), reverse=True)[:5]
    assert np.exp(modes.eigenvalues) == pytest.approx(exact, abs=1e-6)
    # equal eigenvalues
    round_ = SGDChain.gaussian(fps.potentials.quadratic([[1.0, 0.0], [0.0, 1.0]]), Noise.constant([[0.3, 0.0], [0.0, 0.3]]), lr=0.5)
    assert np.abs(np.exp(TransitionKernel(round_, Grid((-4, 4, 20), (-4, 4, 20))).spectrum(3).eigenvalues)) == pytest.approx(
        [1, 0.5, 0.5], abs=1e-7
    )


# ---- the plane ------------------------------------------------------------------------------------------------------------


def test_strip_in_the_plane_is_the_line() -> None:
    plane = SGDChain.gaussian(Potential.from_expression("(x**2 - 1)**2/4 + y**2/2", "x y"), Noise.isotropic(0.1), lr=0.5)
    flat = TransitionKernel(SGDChain.gaussian(WELL, Noise.isotropic(0.1), lr=0.5), Grid((-2.4, 2.4, 60)))
    kernel = TransitionKernel(plane, Grid((-2.4, 2.4, 30), (-2.2, 2.2, 20)))
    strip = Region.halfspace([1.0, 0.0], 0.13)
    assert kernel.mean_exit_time(strip, at=[-1.0, 0.4]).value == pytest.approx(
        flat.mean_exit_time(line(-3.0, 0.13), at=[-1.0]).value, rel=1e-5
    )
    p, one = kernel.stationary(), flat.stationary()
    assert p.marginal(0).values == pytest.approx(np.interp(kernel.grid.centers[0], flat.grid.centers[0], one.values), abs=5e-3)
    assert p.covariance()[1, 1] == pytest.approx(2 * 0.5 * 0.1 / (1 - 0.25), rel=1e-5)
    assert abs(p.covariance()[0, 1]) < 1e-9


@pytest.mark.parametrize(("angle", "band"), [(0.0, 2e-5), (0.3, 1e-4), (math.pi / 4, 2e-3)])
def test_half_plane_at_an_angle_behind_a_high_barrier(angle: float, band: float) -> None:
    """Isotropic: the direction does not matter, so the line has the answer, exp(20.7) iterations. Bands set after measuring."""
    a, s = 0.4, 0.4
    std = s / math.sqrt(1 - (1 - a) ** 2)
    c = 6 * std
    exact = TransitionKernel(linear(a, s), Grid((-7 * std, c, 120))).mean_exit_time(line(-99.0, c), at=[0.0])
    plane = SGDChain.gaussian(Potential.from_expression("(x**2 + y**2)/2", "x y"), Noise.isotropic(s * s / (2 * a)), lr=a)
    kernel = TransitionKernel(plane, Grid((-7 * std, 7 * std, 24), (-7 * std, 7 * std, 24)))
    tau = kernel.mean_exit_time(Region.halfspace([math.cos(angle), math.sin(angle)], c), at=[0.0, 0.0])
    assert exact.log_value > 20 and tau.log_value == pytest.approx(exact.log_value, abs=band)
    assert abs(tau.value / exact.value - 1) < 3 * tau.discretization_error / tau.value


def test_disc_against_paths_with_noise_that_depends_on_the_state() -> None:
    noise = Noise.from_expression([["0.2 + 0.1*y**2", "0.05*x*y"], ["0.05*x*y", "0.15 + 0.1*x**2"]], variables="x y")
    chain = SGDChain.gaussian(Potential.from_expression("(x**2 + 2*y**2 + x*y)/2", "x y"), noise, lr=0.4)
    disc, x0 = Region.ball([0.1, 0.0], 1.3), [0.3, -0.2]
    tau = TransitionKernel(chain, Grid((-1.3, 1.5, 18), (-1.4, 1.4, 18))).mean_exit_time(disc, at=x0)
    mean = fps.escape_times(chain, x0, disc, n=40_000, seed=8, threads=1).mean()
    assert abs(mean.value - tau.value) < 4 * math.hypot(mean.stderr, tau.discretization_error)
    assert tau.discretization_error < 1e-4 * tau.value


def test_order_of_convergence_in_a_disc() -> None:
    """Two nodes per axis: errors fall at least like the third power of the cell width; against four nodes per axis."""
    chain, disc = walk(0.5, dim=2), Region.ball([0.0, 0.0], 1.0)

    def tau(n: int, nodes: int = 2) -> float:
        grid = Grid((-1.03, 1.0, n), (-1.0, 1.07, n))
        return float(TransitionKernel(chain, grid, nodes=nodes).mean_exit_time(disc, at=[0.1, 0.2]).value)

    exact = tau(12, 4)
    errors = [abs(tau(n) - exact) for n in (6, 24)]
    assert math.log(errors[0] / errors[1]) / math.log(4) > 3.0, errors
    assert errors[1] < 1e-6 * exact


@pytest.mark.parametrize(
    "region", [Region.ball([0.1, 0.05], 0.8), Region.box([-0.7, -0.33], [0.61, 0.72]), Region.halfspace([1.0, 0.3], 0.2)]
)
def test_rows_sum_to_one(region: Region) -> None:
    noise = Noise.constant([[0.2, 0.1], [0.1, 0.3]])
    chain = SGDChain.gaussian(Potential.from_expression("x**2 + y**2/2", "x y"), noise, lr=0.3)
    for boundary in ("reflecting", "absorbing", ["periodic", "reflecting"]):
        system = TransitionKernel(chain, Grid((-1, 1, 9), (-1, 1, 9), boundary=boundary))._system(region)
        assert np.all(system.P >= 0) and np.all(system.targets >= 0)
        assert np.abs(system.P.sum(axis=1) + system.targets.sum(axis=1) - 1).max() < 1e-13
        assert np.abs(system.total - 1).max() < 2e-3  # before scaling: the quadrature at steps of 1.5 cells and cut cells


def test_pieces_of_cells() -> None:
    """Areas and second moments of a disc and of a tilted square, whose corners fall anywhere."""
    edges = (np.linspace(-1.1, 1.2, 12), np.linspace(-1.2, 1.1, 11))
    nodes, lines = pieces(lambda x: np.hypot(x[..., 0], x[..., 1]) - 0.9, edges, 4)
    assert nodes.weights.sum() == pytest.approx(math.pi * 0.81, rel=1e-7)
    assert nodes.weights @ nodes.points[:, 0] ** 2 == pytest.approx(math.pi * 0.9**4 / 4, rel=1e-7)
    assert lines.weight @ (lines.high - lines.low) == pytest.approx(math.pi * 0.81, rel=1e-7)
    box, _ = pieces(lambda x: np.max(np.abs(x - 0.123) - [0.5, 0.7], axis=-1), edges, 2)
    assert box.weights.sum() == pytest.approx(4 * 0.5 * 0.7, rel=1e-9)
    whole, _ = pieces(lambda x: -np.ones(x.shape[:-1]), edges, 2)
    assert whole.weights.sum() == pytest.approx(2.3 * 2.3, rel=1e-12)


def test_kernels_against_scipy() -> None:
    """Mass of a rectangle and of an interval; far tails keep their digits."""
    from scipy.stats import multivariate_normal, norm

    mean, cov = np.array([[0.3, -0.2]]), np.array([[[0.5, 0.2], [0.2, 0.4]]])
    nodes, lines = pieces(lambda x: -np.ones(x.shape[:-1]), (np.linspace(-0.5, 1.0, 6), np.linspace(-1.0, 0.8, 7)), 5)
    law = multivariate_normal(mean[0], cov[0])
    corners = [(1.0, 0.8, 1), (-0.5, 0.8, -1), (1.0, -1.0, -1), (-0.5, -1.0, 1)]
    exact = sum(sign * law.cdf([x, y]) for x, y, sign in corners)
    mass, density, short, tails = np.zeros(1), np.zeros((1, 1)), np.zeros(1), np.zeros((1, 1))
    transition.line_mass_2d(mean, cov, lines.axis, lines.at, lines.weight, lines.low, lines.high, mass)
    transition.density_2d(mean, cov, nodes.points[:3], np.ones(3), np.zeros(3, np.int64), density)
    transition.line_mass_1d(mean[:, :1], cov[:, :1, :1], np.array([20.0]), np.array([np.inf]), short)
    transition.density_1d(mean[:, :1], cov[:, :1, :1], np.array([[2.0]]), np.ones(1), np.zeros(1, np.int64), tails)
    assert mass[0] == pytest.approx(exact, rel=1e-7)  # of the quadrature in scipy
    assert density[0, 0] == pytest.approx(law.pdf(nodes.points[:3]).sum(), rel=1e-12)
    assert short[0] == pytest.approx(norm.sf(19.7 / math.sqrt(0.5)), rel=1e-10)
    assert tails[0, 0] == pytest.approx(norm.pdf(1.7, scale=math.sqrt(0.5)), rel=1e-12)


# ---- components -------------------------------------------------------------------------------------------------------------


def test_landing_in_another_component_is_an_exit() -> None:
    """Two wells 0.4 apart, jumps of 0.8: with `containing` most exits are jumps across, for the kernel and for paths."""
    chain = SGDChain.gaussian(WELL, Noise.isotropic(0.8), lr=0.4)
    one, both = (Region.sublevel(WELL, 0.23, containing=c) for c in ([-1.0], None))
    kernel = TransitionKernel(chain, Grid((-2.0, 2.0, 80)))
    edge = math.sqrt(1 - math.sqrt(0.92)), math.sqrt(1 + math.sqrt(0.92))
    exact = references.chain_exit_time(lambda x: x - 0.4 * (x**3 - x), lambda x: 0.8 + 0 * x, -edge[1], -edge[0], -1.0)
    tau = [kernel.mean_exit_time(r, at=[-1.0]).value for r in (one, both)]
    assert tau[0] == pytest.approx(exact, rel=1e-9) and tau[1] > 1.2 * tau[0]
    for region, expected in zip((one, both), tau, strict=True):
        mean = fps.escape_times(chain, [-1.0], region, n=20_000, seed=9, threads=1).mean()
        assert abs(mean.value - expected) < 4 * mean.stderr


def test_components_in_the_plane() -> None:
    U = Potential.from_expression("(x**2 - 1)**2/4 + y**2/2", "x y")
    chain = SGDChain.gaussian(U, Noise.isotropic(0.5), lr=0.4)
    one, both = (Region.sublevel(U, 0.245, containing=c) for c in ([-1.0, 0.0], None))
    kernel = TransitionKernel(chain, Grid((-1.5, 1.5, 30), (-0.7, 0.7, 14)))
    tau = [kernel.mean_exit_time(r, at=[-1.0, 0.0]) for r in (one, both)]
    assert tau[1].value > 1.02 * tau[0].value  # eight standard errors of the paths
    for region, expected in zip((one, both), tau, strict=True):
        mean = fps.escape_times(chain, [-1.0, 0.0], region, n=100_000, seed=10, threads=1).mean()
        assert abs(mean.value - expected.value) < 4 * math.hypot(mean.stderr, expected.discretization_error)


def test_components_in_more_dimensions_are_not_told_apart() -> None:
    U = Potential.from_expression("(x**2 - 1)**2/4 + y**2 + z**2", "x y z")
    chain = SGDChain.gaussian(U, Noise.isotropic(0.5), lr=0.4)
    with pytest.warns(RuntimeWarning, match="jump into another component"):
        fps.escape_times(chain, [-1.0, 0.0, 0.0], Region.sublevel(U, 0.2, containing=[-1.0, 0.0, 0.0]), n=10, seed=1)


# ---- what the user is told -----------------------------------------------------------------------------------------------


def test_coarse_cells_are_reported() -> None:
    chain = linear(0.01, 0.02)
    kernel = TransitionKernel(chain, Grid((-1, 1, 20)))
    # 0.4 of a cell of 0.1, squared, over 2 lr, less D
    assert kernel.added_diffusion == pytest.approx((0.04**2 - 0.02**2) / 0.02, rel=1e-12)
    assert "too coarse for the step noise" in kernel.stationary().warnings[0]
    assert "raised to what the cells resolve" in repr(kernel)
    assert "too coarse" in kernel.mean_exit_time(line(-0.5, 0.5), at=[0.0]).assumptions[0].detail
    fine = kernel.refine().refine().refine()
    assert fine.grid.shape == (160,) and not fine.added_diffusion.any() and fine.stationary().warnings == ()


def test_estimate_of_any_scalar() -> None:
    kernel = TransitionKernel(linear(0.5, 0.6), Grid((-5, 5, 18)))
    answer = kernel.estimate(lambda k: k.stationary().at([0.0]), unit="")
    exact = math.sqrt(0.75) / (0.6 * math.sqrt(2 * math.pi))
    assert isinstance(answer, fps.Estimate) and 0 < answer.discretization_error < 0.05
    assert abs(answer.value - exact) < 0.05


def test_refusals() -> None:
    well, grid = SGDChain.gaussian(WELL, Noise.isotropic(0.1), lr=0.1), Grid((-2, 2, 40))
    heavy = SGDChain.gaussian(WELL, Noise.isotropic(0.1), lr=0.1, momentum=0.5)
    samples = SGDChain(fps.Ensemble.from_expression("(t - x)**2/2", "t", {"x": np.arange(4.0)}), 0.1, 2)
    for chain, where, error, text in (
        (heavy, grid, ValueError, "momentum=0.5"),
        (samples, grid, ValueError, "SGDChain.gaussian"),
        (well, Grid((-1, 1, 9), (-1, 1, 9)), ValueError, "1-D, the grid is 2-D"),
        (fps.Process(WELL, Noise.isotropic(0.1)), grid, TypeError, "FokkerPlanck"),
        (well, "grid", TypeError, "needs a Grid"),
        (SGDChain.gaussian(WELL, Noise.isotropic(0.0), lr=0.1), grid, ValueError, "no noise"),
    ):
        with pytest.raises(error, match=text):
            TransitionKernel(chain, where)
    with pytest.raises(ValueError, match="nodes must be an integer from 1 to 5"):
        TransitionKernel(well, grid, nodes=9)
    kernel = TransitionKernel(well, grid)
    with pytest.raises(ValueError, match="not inside"):
        kernel.mean_exit_time(line(-0.5, 0.5), at=[0.7])
    with pytest.raises(ValueError, match="no cell centre"):
        kernel.mean_exit_time(line(5.0, 6.0))
    with pytest.raises(TypeError, match="must be a Region"):
        kernel.escape_rate("left")
    with pytest.raises(ValueError, match="nothing can leave"):
        kernel.escape_rate(line(-9.0, 9.0))
    with pytest.raises(ValueError, match="overlap"):
        kernel.committor(line(-1.0, 0.5), line(0.0, 1.0))
    with pytest.raises(TypeError, match="iteration count"):
        kernel.evolve(("gaussian", [0.0], [[0.1]]), 0.5)
    with pytest.raises(ValueError, match=r"nodes .* GB"):
        TransitionKernel(well, Grid((-2, 2, 3000))).stationary()
    wild = SGDChain.gaussian(Potential.from_expression("x**4"), Noise.isotropic(0.1), lr=1.0)
    with pytest.raises(ValueError, match="box lengths beyond reflecting"):
        TransitionKernel(wild, Grid((-3, 3, 40))).stationary()


def test_answers_save_and_load(tmp_path) -> None:
    kernel = TransitionKernel(SGDChain.gaussian(WELL, Noise.isotropic(0.1), lr=0.3), Grid((-2, 2, 40)))
    left = line(-2.5, 0.0)
    answers = [kernel.stationary(), kernel.evolve(("gaussian", [-1.0], [[0.05]]), [1, 2]), kernel.mean_exit_time(left),
               kernel.mean_exit_time(left, at=[-1.0]), kernel.escape_rate(left), kernel.quasi_stationary(left),
               kernel.committor(line(-2.0, -0.9), line(0.9, 2.0)), kernel.spectrum(3)]  # fmt: skip
    for k, answer in enumerate(answers):
        fps.save(tmp_path / f"{k}.h5", answer)
        assert fps.load(tmp_path / f"{k}.h5") == answer
    assert "SGDChain(gaussian" in repr(kernel) and "160 nodes" in repr(kernel)


def test_densities_of_a_chain_count_iterations(tmp_path):
    chain = fps.SGDChain.gaussian(fps.Potential.from_expression("x**2/2"), fps.Noise.isotropic(0.5), lr=0.5)
    kernel = fps.TransitionKernel(chain, fps.Grid((-6, 6, 60)))
    series = kernel.evolve(("gaussian", [1.0], [[0.25]]), [1, 3])
    assert series.unit == series[1].unit == series[1].marginal(0).unit == "iteration"
    assert "2 iterations (1 ... 3)" in repr(series) and "at iteration 3" in repr(series[1])
    assert [t.get_text() for t in series.plot().get_legend().get_texts()] == ["iteration 1", "iteration 3"]
    fps.save(tmp_path / "p.h5", series[1])
    assert fps.load(tmp_path / "p.h5").unit == "iteration"
    same = fps.FokkerPlanck(chain.process, kernel.grid).evolve(("gaussian", [1.0], [[0.25]]), [1.0, 3.0])
    assert "2 times (1 ... 3)" in repr(same) and "at time 3" in repr(same[1])
    with pytest.raises(ValueError, match="unit must be"):
        fps.Density(series[1].values, kernel.grid, unit="years")


def test_a_narrow_place_on_the_way_is_told_of() -> None:
    """Noise falls by a thousand around x = -1/2, where the chain is hardly ever, but all its ways out lead through."""
    noise = Noise.from_expression("0.15*((x + 0.5)**2 + 1e-4)")
    chain = SGDChain.gaussian(Potential.from_expression("(x**2 - 1)**2"), noise, lr=0.01)
    out = fps.Region.halfspace([1.0], 0.0)
    logs = []
    for cells, known in ((100, False), (300, True)):
        kernel = TransitionKernel(chain, Grid((-1.6, 1.6, cells)))
        for e in (kernel.mean_exit_time(out, at=[-1.0]), kernel.escape_rate(out)):
            assert [a.name for a in e.failed] == ([] if known else ["the logarithm is known to 0.25"])
            assert (e.error < 0.1 * e.value) is known
            logs.append(abs(e.log_value))
    # on 100 cells both are wrong by a factor exp(132), and say that the factor between two grids is one of that kind
    assert logs[2] - logs[0] > 100.0 and logs[3] - logs[1] > 100.0


def test_beyond_doubles_the_logarithm_says_how_well_it_is_known() -> None:
    """Barrier/D = 800: 150 cells do not resolve the jumps, 225 and 300 do; for weaker noise no grid of these does."""
    U, out = Potential.from_expression("(x**2 - 1)**2"), fps.Region.halfspace([1.0], 0.0)
    for D, known in ((1.25e-3, True), (1e-5, False)):
        kernel = TransitionKernel(SGDChain.gaussian(U, Noise.isotropic(D), lr=0.01), Grid((-1.6, 0.4, 300)))
        for e in (kernel.mean_exit_time(out, at=[-1.0]), kernel.escape_rate(out)):
            assert e.value in (0.0, math.inf) and e.error == (0.0 if known and e.value == 0.0 else math.inf)
            assert [a.status for a in e.assumptions if a.name.startswith("the logarithm")] == ["held" if known else "failed"]
