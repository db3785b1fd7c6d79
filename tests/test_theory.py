"""Closed forms against independent algebra, mpmath, enumeration and direct simulation."""

import math

import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import quad

import fpsolve as fps
import references
from fpsolve import theory


def double_well(D):
    return fps.Process(fps.Potential.from_expression("(x**2 - 1)**2"), fps.Noise.isotropic(D))


def spd(rng, d, low=0.2):
    A = rng.normal(size=(d, d))
    return A @ A.T / d + low * np.eye(d)


# ---- boltzmann ------------------------------------------------------------------------------------------------------


def test_boltzmann_1d_closed_form_and_quadrature_agree():
    grid = fps.Grid((-2.0, 2.0, 300))
    gradient = theory.boltzmann(double_well(0.1), grid)
    drift = fps.Process.from_drift(["-4*x*(x**2 - 1)"], fps.Noise.isotropic(0.1), variables="x")
    assert drift.log_density(np.zeros(1)) is None
    quadrature = theory.boltzmann(drift, grid)
    assert gradient.mass == pytest.approx(1.0, abs=1e-14)
    np.testing.assert_allclose(quadrature.values, gradient.values, rtol=1e-11)


def test_boltzmann_multiplicative_noise_against_beta_prime_law():
    # dX = -X dt + sqrt(2 (1 + X^2)) dW (Ito): p ~ (1 + x^2)^(-3/2), since drift / D = -x / (1 + x^2)
    process = fps.Process(fps.Potential.from_expression("x**2/2"), fps.Noise.from_expression([["1 + x**2"]], variables="x"))
    grid = fps.Grid((-50.0, 50.0, 4000))
    expected = (1 + grid.centers[0] ** 2) ** -1.5
    expected /= np.dot(expected, grid.widths[0])
    np.testing.assert_allclose(theory.boltzmann(process, grid).values, expected, rtol=1e-11)


def test_boltzmann_reversible_2d_full_tensor():
    Phi = fps.Potential.from_expression("x**2 + x*y + y**2 + x**4/4", variables="x y")
    noise = fps.Noise.from_expression([["1 + x**2", "0.3*x"], ["0.3*x", "1"]], variables="x y")
    density = theory.boltzmann(fps.Process.reversible(Phi, noise), fps.Grid((-4, 4, 120), (-6, 6, 130)))
    x, y = np.meshgrid(*density.grid.centers, indexing="ij")
    weights = np.exp(-(x**2 + x * y + y**2 + x**4 / 4))
    np.testing.assert_allclose(density.values, weights / (weights * density.grid.cell_volumes).sum(), rtol=1e-12)


def test_boltzmann_linear_reversible_matches_ou_covariance():
    D = np.array([[1.0, 0.4], [0.4, 0.5]])
    A = D @ np.array([[2.0, 0.3], [0.3, 1.0]])  # A D symmetric: detailed balance although A is not
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D), center=[0.5, -0.5])
    density = theory.boltzmann(process, fps.Grid((-6, 7, 150), (-8, 7, 150)))
    np.testing.assert_allclose(density.covariance(), theory.ou_covariance(A, D), atol=1e-10)
    np.testing.assert_allclose(density.mean(), [0.5, -0.5], atol=1e-10)


def test_boltzmann_refuses_with_the_reason():
    grid2 = fps.Grid((-3, 3, 10), (-3, 3, 10))
    cycle = fps.Process.ornstein_uhlenbeck([[1.0, 0.6], [-0.3, 0.8]], fps.Noise.isotropic(1.0))
    with pytest.raises(ValueError, match="not in detailed balance"):
        theory.boltzmann(cycle, grid2)
    with pytest.raises(ValueError, match="absorbing"):
        theory.boltzmann(double_well(0.1), fps.Grid((-2, 2, 10), boundary="absorbing"))
    with pytest.raises(ValueError, match="dimension"):
        theory.boltzmann(double_well(0.1), grid2)
    washboard = fps.Process.from_drift(["0.5 - sin(x)"], fps.Noise.isotropic(0.3), variables="x")
    with pytest.raises(ValueError, match="current flows"):
        theory.boltzmann(washboard, fps.Grid((-math.pi, math.pi, 50), boundary="periodic"))
    flat = fps.Process.from_drift(["-sin(x)"], fps.Noise.isotropic(0.3), variables="x")
    ring = theory.boltzmann(flat, fps.Grid((-math.pi, math.pi, 50), boundary="periodic"))
    assert ring.mean()[0] == pytest.approx(0.0, abs=1e-12)
    dead = fps.Process(fps.Potential.from_expression("x**2/2"), fps.Noise.from_expression([["x**2"]], variables="x"))
    with pytest.raises(ValueError, match=r"must be finite and > 0.*D\(0\)"):
        theory.boltzmann(dead, fps.Grid((-1.0, 1.0, 10)))


# ---- Kramers --------------------------------------------------------------------------------------------------------


def test_kramers_2d_prefactor():
    # spec C1: U = (x^2-1)^2/4 + (1 + a exp(-4 x^2)) y^2 / 2; Hessians diag(2, 1 + a exp(-4)) and diag(-1, 1 + a)
    for a in (0.0, 3.0):
        U = fps.Potential.from_expression("(x**2-1)**2/4 + (1 + a*exp(-4*x**2))*y**2/2", variables="x y", params={"a": a})
        rate = theory.kramers_rate(fps.Process(U, fps.Noise.isotropic(0.025)), [-0.95, 0.05], [0.03, -0.02])
        expected = 1 / (2 * math.pi) * math.sqrt(2 * (1 + a * math.exp(-4)) / (1 + a)) * math.exp(-0.25 / 0.025)
        assert rate.value == pytest.approx(expected, rel=1e-9)
        assert rate.log_value == pytest.approx(math.log(expected), abs=1e-9)
        assert rate.unit == "1/time" and not rate.failed


def test_kramers_reversible_anisotropic_is_langers_formula():
    # x = T y maps constant D = T T^T to isotropic noise 1 in y, where Eyring-Kramers holds with det(T^T H T)
    U = fps.Potential.from_expression("8*(x**2-1)**2 + 10*(y - x/2)**2", variables="x y")
    D = np.array([[0.5, 0.3], [0.3, 1.5]])
    rate = theory.kramers_rate(fps.Process.reversible(U, fps.Noise.constant(D)), [-1, -0.5], [0, 0])
    T = np.linalg.cholesky(D)

    def hess(x):
        return np.array([[96 * x**2 - 32 + 5, -10], [-10, 20]])

    at_a, at_s = T.T @ hess(-1.0) @ T, T.T @ hess(0.0) @ T
    growth = -np.linalg.eigvalsh(at_s)[0]
    expected = growth / (2 * math.pi) * math.sqrt(np.linalg.det(at_a) / -np.linalg.det(at_s)) * math.exp(-8)
    assert rate.value == pytest.approx(expected, rel=1e-9)


def test_kramers_is_the_limit_of_the_exact_time_with_first_order_correction():
    # exact MFPT to the far minimum / Kramers -> 1 + c D: halving D halves the gap, also with D(x) in 1-D
    for text in ("e", "e*(1 + x**2/2)"):
        gaps = []
        for e in (0.04, 0.02, 0.01):
            noise = fps.Noise.from_expression([[text]], variables="x", params={"e": e})
            process = fps.Process(fps.Potential.from_expression("(x**2 - 1)**2"), noise)
            time = theory.mean_first_passage_1d(process, -1.0, 1.0)
            gaps.append(math.expm1(time.log_value + theory.kramers_rate(process, -1.0, 0.0).log_value))
        orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
        assert np.all(np.abs(orders - 1.0) < 0.1), (text, gaps)


def test_kramers_at_the_saddle_is_twice():
    process = double_well(0.03)
    beyond, saddle = (theory.kramers_rate(process, -1.0, 0.0, exit=e) for e in ("beyond", "saddle"))
    assert saddle.value == pytest.approx(2 * beyond.value, rel=1e-14)
    exact = theory.mean_first_passage_1d(process, -1.0, 0.0)
    assert exact.value * saddle.value == pytest.approx(1.0, abs=0.03)


def test_kramers_styblinski_tang_ratios():
    # spec A2.1: exact shallow -> deep time / Kramers = 1.030, 1.048, 1.069 at barrier / D = 12.61, 8.41, 6.31 (D = 2, 3, 4)
    U = fps.Potential.from_expression("(x**4 - 16*x**2 + 5*x)/2")
    for D, expected in ((2.0, 1.030), (3.0, 1.048), (4.0, 1.069)):
        process = fps.Process(U, fps.Noise.isotropic(D))
        rate = theory.kramers_rate(process, 2.7, 0.2)
        time = theory.mean_first_passage_1d(process, 2.746803, -2.903534)
        assert time.value * rate.value == pytest.approx(expected, abs=6e-4)


def test_kramers_underflow_keeps_the_logarithm():
    rate = theory.kramers_rate(double_well(1e-3), -1.0, 0.0)
    assert rate.value == 0.0
    assert rate.log_value == pytest.approx(math.log(math.sqrt(8.0) / math.pi) - 1000.0, rel=1e-12)


def test_kramers_assumptions_are_tested():
    low = {a.name: a.status for a in theory.kramers_rate(double_well(0.5), -1.0, 0.0).assumptions}
    assert low["barrier / D >= 6"] == "failed"
    assert low["quadratic within one standard deviation of the minimum"] == "failed"
    good = {a.name: a.status for a in theory.kramers_rate(double_well(0.02), -1.0, 0.0).assumptions}
    assert "failed" not in good.values()
    # the saddle between wells 1 and 2 does not join the third one
    three = fps.Potential.from_expression("cos(2*x) + 0.001*x**2")
    process = fps.Process(three, fps.Noise.isotropic(0.1))
    wrong = theory.kramers_rate(process, -math.pi / 2 - math.pi, 0.0)
    assert any("steepest descent" in a.name for a in wrong.failed)


@pytest.mark.parametrize(
    "minimum, saddle, text",
    [
        ([0.5], [0.0], "no critical point"),
        ([-1.0], [1.0], "index one"),
        ([0.0], [-1.0], "not a minimum"),
        ([1.0], [1.0], "same point"),
        ([1.0, 2.0], [0.0], "shape"),
        ([math.nan], [0.0], "finite"),
    ],
)
def test_kramers_refuses(minimum, saddle, text):
    with pytest.raises(ValueError, match=text):
        theory.kramers_rate(double_well(0.1), minimum, saddle)


def test_kramers_refuses_without_detailed_balance():
    U = fps.Potential.from_expression("(x**2-1)**2 + y**2", variables="x y")
    with pytest.raises(ValueError, match="detailed balance"):
        theory.kramers_rate(fps.Process(U, fps.Noise.constant([[1, 0], [0, 2]])), [-1, 0], [0, 0])
    with pytest.raises(ValueError, match="exit"):
        theory.kramers_rate(double_well(0.1), -1.0, 0.0, exit="out")


# ---- mean first passage ---------------------------------------------------------------------------------------------

REFERENCE = {0.2: 182.41767298558, 0.1: 25527.091364292, 0.05: 549661100.35207, 0.03: 3.3661233752279e14, 0.02: 5.803021714328e21}


@pytest.mark.parametrize("D, expected", REFERENCE.items())
def test_passage_reference_values(D, expected):
    """Values of U = (x^2-1)^2, -1 -> 1, wall at -2.5, found elsewhere with nested adaptive quadrature."""
    time = theory.mean_first_passage_1d(double_well(D), -1.0, 1.0, reflecting=-2.5)
    assert time.value == pytest.approx(expected, rel=1e-12)
    assert abs(time.value - expected) < 100 * time.discretization_error


def test_passage_against_mpmath_with_state_dependent_noise():
    # drift = D(x) (-8 x^3 + 6 x), so s = -2 x^4 + 3 x^2 exactly while D varies by a factor of three
    drift = "(0.4 + 0.2*sin(2*x))*(-8*x**3 + 6*x)"
    process = fps.Process.from_drift([drift], fps.Noise.from_expression([["0.4 + 0.2*sin(2*x)"]], variables="x"), variables="x")
    time = theory.mean_first_passage_1d(process, -0.9, 0.7, reflecting=-1.5)
    expected = references.mean_first_passage_mpmath(
        lambda x: -2 * x**4 + 3 * x**2,
        lambda x: mp.mpf("0.4") + mp.mpf("0.2") * mp.sin(2 * x),
        mp.mpf("-0.9"),
        mp.mpf("0.7"),
        mp.mpf("-1.5"),
    )
    assert time.value == pytest.approx(expected, rel=1e-12)


def test_passage_brownian_closed_forms():
    brownian = fps.Process(fps.Potential.from_expression("0*x"), fps.Noise.isotropic(0.5))
    time = theory.mean_first_passage_1d(brownian, 0.25, -1.0, reflecting=2.0)  # leftwards
    assert time.value == pytest.approx(((3.0) ** 2 - (1.75) ** 2) / (2 * 0.5), rel=1e-13)
    with pytest.raises(ValueError, match="infinite"):
        theory.mean_first_passage_1d(brownian, 0.0, 1.0)


def test_passage_natural_boundary_ornstein_uhlenbeck():
    # 0 -> b for dX = -X dt + sqrt(2) dW: T = sqrt(pi/2) int_0^b exp(y^2/2) (1 + erf(y/sqrt 2)) dy
    ou = fps.Process(fps.Potential.from_expression("x**2/2"), fps.Noise.isotropic(1.0))
    for b in (0.5, 2.0, 6.0):
        expected = mp.sqrt(mp.pi / 2) * mp.quad(lambda y: mp.exp(y**2 / 2) * (1 + mp.erf(y / mp.sqrt(2))), [0, b])
        assert theory.mean_first_passage_1d(ou, 0.0, b).value == pytest.approx(float(expected), rel=1e-12)
        assert theory.mean_first_passage_1d(ou, 0.0, -b).value == pytest.approx(float(expected), rel=1e-12)


def on_a_line(U, D):
    return fps.Process(fps.Potential.from_expression(U), fps.Noise.from_expression([[D]], variables="x"))


@pytest.mark.parametrize(
    ("U", "D", "s"),
    [
        ("0*x", "1 + x**4", lambda u: 0),
        ("0*x", "1 + x**2", lambda u: 0),
        ("-x**2/4", "1 + x**2", lambda u: math.log(1 + u**2) / 4),  # driven away, and still it comes back in time
        ("4*log(1 + x**2)/2", "1 + 0*x", lambda u: -2 * math.log(1 + u**2)),
    ],
)
def test_passage_where_the_tail_is_algebraic(U, D, s):
    """Nothing but strong noise far out, or a weak force, brings the path back: the tail of the inner integral is a power."""
    process = on_a_line(U, D)

    def inner(y):
        return math.exp(-s(y)) * quad(lambda z: math.exp(s(z)) / eval(D, {"x": z}), -math.inf, y, epsrel=1e-10)[0]

    expected = quad(inner, 0.0, 1.0, epsrel=1e-10)[0]
    assert theory.mean_first_passage_1d(process, 0.0, 1.0).value == pytest.approx(expected, rel=1e-8)


def test_passage_with_the_noise_of_data():
    """C of data noise grows like x^4: D far out is 1e13 times that at the exit, and no zero."""
    text = "0.02*((6*x**2 - 16)**2 + 12*(6*x**2 - 16) + 60 + 72*x**2)"
    process = on_a_line("(x**4 - 16*x**2 + 5*x)/2 + 3*x**2", text)
    far = theory.mean_first_passage_1d(process, -2.3519, 0.2532, reflecting=-1000.0).value
    assert theory.mean_first_passage_1d(process, -2.3519, 0.2532).value == pytest.approx(far, rel=1e-9)
    # noise that vanishes between the samples is found beside its neighbours, however large D is elsewhere
    hidden = on_a_line("x**2", "(x - 0.1234567)**2*(1 + x**4)")
    with pytest.raises(ValueError, match=r"D\(0.123457\)"):
        theory.mean_first_passage_1d(hidden, 0.0, 1.0, reflecting=-300.0)


def test_passage_sees_another_well_behind_a_barrier_beyond_exp_60():
    """The integral over the deeper well behind, exp(417), was cut off at the barrier before it: exp(118)."""
    process = fps.Process(
        fps.Potential.from_expression("4*x**2*(x**2 - 1)**2 - 1.5*exp(-20*(x + 1)**2)"), fps.Noise.isotropic(0.005)
    )
    walled = theory.mean_first_passage_1d(process, 0.0, 1.0, reflecting=-2.0).log_value
    assert walled == pytest.approx(416.914, abs=1e-2)  # 1.5 + 16/27 over D, and prefactors, by the same rule with a wall
    assert theory.mean_first_passage_1d(process, 0.0, 1.0).log_value == pytest.approx(walled, rel=1e-12)


@pytest.mark.parametrize(
    ("U", "D", "words"),
    [
        ("x", "1 + 0*x", "carries the path away for good"),
        ("-0.75*x**2", "1 + x**2", "carries the path away for good"),
        ("0*x", "sqrt(1 + x**2)", "nothing brings the path back in time"),
        ("0*x", "(1 + x**2)**0.55", "too slowly to be cut off"),
    ],
)
def test_passage_says_why_it_has_no_end(U, D, words):
    with pytest.raises(ValueError, match=words):
        theory.mean_first_passage_1d(on_a_line(U, D), 0.0, 1.0)


def test_passage_huge_barriers():
    at_200 = theory.mean_first_passage_1d(double_well(0.005), -1.0, 1.0)
    assert at_200.value == pytest.approx(8.04e86, rel=5e-3)
    at_2000 = theory.mean_first_passage_1d(double_well(1 / 2000), -1.0, 1.0)
    assert at_2000.value == math.inf
    # Laplace with its first correction, tau = (2 pi / sqrt(32)) e^{1/D} (1 + c D), c from two larger D
    gap = {
        n: math.expm1(
            theory.mean_first_passage_1d(double_well(1 / n), -1.0, 1.0).log_value - n - math.log(2 * math.pi / math.sqrt(32))
        )
        * n
        for n in (500, 1000, 2000)
    }
    assert gap[2000] == pytest.approx(2 * gap[1000] - gap[500], rel=2e-3)
    assert gap[1000] == pytest.approx(gap[500], rel=1e-2)


def test_passage_refuses():
    process = double_well(0.1)
    with pytest.raises(ValueError, match="other side"):
        theory.mean_first_passage_1d(process, -1.0, 1.0, reflecting=0.0)
    plane = fps.Process(fps.Potential.from_expression("x**2+y**2", variables="x y"), fps.Noise.isotropic(1))
    with pytest.raises(ValueError, match="dimension"):
        theory.mean_first_passage_1d(plane, 0, 1)
    dead = fps.Process(fps.Potential.from_expression("x**2"), fps.Noise.from_expression([["(x-0.25)**2"]], variables="x"))
    with pytest.raises(ValueError, match=r"D\(0.25\)"):
        theory.mean_first_passage_1d(dead, 0.0, 1.0, reflecting=-3.0)
    assert theory.mean_first_passage_1d(process, 0.3, 0.3).value == 0.0


# ---- covariances ----------------------------------------------------------------------------------------------------


def test_ou_covariance_solves_its_equation():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(5, 5)) + 4 * np.eye(5)
    D = spd(rng, 5)
    S = theory.ou_covariance(A, D)
    np.testing.assert_allclose(A @ S + S @ A.T, 2 * D, atol=1e-13)
    with pytest.raises(ValueError, match="eigenvalue"):
        theory.ou_covariance([[0.0, 1.0], [-1.0, 0.0]], np.eye(2))
    with pytest.raises(ValueError, match="positive semi-definite"):
        theory.ou_covariance(np.eye(2), np.diag([1.0, -1.0]))


def test_discrete_covariance_scalar_closed_form():
    # spec C3: Var = lr (1 + mu) c / (h (1 - mu) (2 (1 + mu) - lr h))
    for lr, h, c, mu in ((0.1, 2.0, 3.0, 0.0), (0.3, 5.0, 0.7, 0.9), (1.5, 2.0, 1.0, 0.6)):
        S = theory.discrete_covariance([[h]], [[c]], lr, momentum=mu)
        assert S[0, 0] == pytest.approx(lr * (1 + mu) * c / (h * (1 - mu) * (2 * (1 + mu) - lr * h)), rel=1e-13)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
def test_discrete_covariance_against_joint_lyapunov(momentum):
    rng = np.random.default_rng(2)
    for lr in (0.01, 0.4):
        H, C = spd(rng, 4), spd(rng, 4, 0.0)
        S = theory.discrete_covariance(H, C, lr, 7, momentum)
        np.testing.assert_allclose(S, references.sgd_covariance_lyapunov(H, C, lr, 7, momentum), rtol=1e-9, atol=1e-14)


def test_discrete_covariance_matrix_equations():
    rng = np.random.default_rng(3)
    H, C, lr = spd(rng, 6), spd(rng, 6), 0.2
    S = theory.discrete_covariance(H, C, lr, 5)
    np.testing.assert_allclose(H @ S + S @ H - lr * H @ S @ H, lr / 5 * C, atol=1e-14)
    small = theory.discrete_covariance(H, C, 1e-7)
    np.testing.assert_allclose(small, theory.ou_covariance(H, 1e-7 * C / 2), rtol=1e-6, atol=1e-13)  # lr -> 0


@pytest.mark.parametrize("N, B", [(4, 2), (6, 2), (6, 1), (7, 2), (5, 5), (7, 3)])
def test_shuffled_epochs_against_all_permutations(N, B):
    rng = np.random.default_rng(N * 10 + B)
    g = rng.normal(size=(N, 3))
    g -= g.mean(axis=0)
    H, C = spd(rng, 3), g.T @ g / N
    assert np.abs(H @ C - C @ H).max() > 0.01
    for lr in (0.02, 0.3, 1.2 / np.linalg.eigvalsh(H)[-1]):
        S = theory.discrete_covariance(H, C, lr, B, sampling="shuffle", size=N)
        np.testing.assert_allclose(S, references.shuffled_sgd_covariance(H, g, lr, B), rtol=1e-9, atol=1e-15)


def test_shuffled_epochs_by_direct_simulation():
    """Three directions of 4000 independent runs: z of each second moment; |z| < 4 has false-alarm rate 2e-4 in all."""
    rng = np.random.default_rng(5)
    N, B, lr, runs = 24, 4, 0.3, 4000
    g = rng.normal(size=(N, 3)) * [1.0, 2.0, 0.5]
    g -= g.mean(axis=0)
    H = np.diag([0.02, 0.6, 3.0])
    w, total = np.zeros((runs, 3)), np.zeros((runs, 3))
    epochs, burn = 40, 150  # the flat direction relaxes in 1 / (2 lr lambda K) = 14 epochs
    for epoch in range(burn + epochs):
        order = rng.permuted(np.tile(np.arange(N), (runs, 1)), axis=1)
        for k in range(N // B):
            total += w**2 / (epochs * N // B) * (epoch >= burn)
            w = w - lr * (w @ H + g[order[:, k * B : (k + 1) * B]].mean(axis=1))
    expected = np.diag(theory.discrete_covariance(H, g.T @ g / N, lr, B, sampling="shuffle", size=N))
    z = (total.mean(axis=0) - expected) / (total.std(axis=0) / math.sqrt(runs))
    assert np.abs(z).max() < 4.0
    white = np.diag(theory.discrete_covariance(H, g.T @ g / N, lr, B))
    assert white[0] / expected[0] > 20  # what white noise would predict is far off


def test_shuffled_epochs_flat_limit_and_mpmath_digits():
    N, B, lr, c = 1000, 10, 0.05, 2.0
    K = N // B
    for lam in (1e-9, 1e-7, 1e-5):
        S = theory.discrete_covariance([[lam]], [[c]], lr, B, sampling="shuffle", size=N)[0, 0]
        assert S == pytest.approx(lr**2 * c * K / (6 * B), rel=2e-3 + lr * lam * K)
    lam = 1e-7
    with mp.workdps(60):
        a, alpha, beta = 1 - mp.mpf(lr) * mp.mpf(lam), mp.mpf(N - B) / (B * (N - 1)), -mp.mpf(1) / (N - 1)

        def noise(k):
            squares, one = (1 - a ** (2 * k)) / (1 - a**2), (1 - a**k) / (1 - a)
            return mp.mpf(lr) ** 2 * c * ((alpha - beta) * squares + beta * one**2)

        start = noise(K) / (1 - a ** (2 * K))
        expected = sum(a ** (2 * k) * start + noise(k) for k in range(K)) / K
    S = theory.discrete_covariance([[lam]], [[c]], lr, B, sampling="shuffle", size=N)[0, 0]
    assert S == pytest.approx(float(expected), rel=1e-12)


def test_shuffle_with_one_step_per_epoch_is_white():
    H, C = np.diag([0.5, 2.0]), np.array([[1.0, 0.3], [0.3, 2.0]])
    S = theory.discrete_covariance(H, C, 0.3, 60, sampling="shuffle", size=100)  # one batch per epoch, 40 samples dropped
    white = theory.discrete_covariance(H, C, 0.3, 60) * (100 - 60) / (100 - 1)
    np.testing.assert_allclose(S, white, rtol=1e-13)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"lr": 1.0}, "eigenvalue 3"),
        ({"H": [[1.0, 0.0], [0.0, -0.1]]}, "eigenvalue -0.1"),
        ({"H": [[1.0, 0.5], [0.0, 1.0]]}, "symmetric"),
        ({"C": np.eye(3)}, "same shape"),
        ({"C": np.diag([1.0, -1.0])}, "semi-definite"),
        ({"lr": 0.0}, "lr"),
        ({"batch": 0}, "batch"),
        ({"momentum": 1.0}, "momentum"),
        ({"sampling": "shuffle"}, "size"),
        ({"sampling": "epoch"}, "sampling"),
        ({"sampling": "shuffle", "size": 10, "momentum": 0.5}, "momentum"),
        ({"H": [[np.nan, 0], [0, 1.0]]}, "not finite"),
    ],
)
def test_discrete_covariance_refuses(change, text):
    arguments = {"H": np.diag([1.0, 3.0]), "C": np.eye(2), "lr": 0.1, **change}
    with pytest.raises(ValueError, match=text):
        theory.discrete_covariance(**arguments)
