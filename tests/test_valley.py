"""theory.effective_loss: closed forms of the valley, the exact chain, several fast directions, what is refused; the landscapes."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq

import fpsolve as fps
from fpsolve.potentials import degenerate_valley, product

OPEN = "1 + 4*x**2"


def flat(x):
    return (1.0 + 4.0 * np.asarray(x) ** 2) ** -0.5


def constant(kappa, delta, lam=OPEN, floor="0"):
    return fps.Process(degenerate_valley(lam, floor), fps.Noise.diagonal([delta / kappa, delta]))


@pytest.mark.parametrize("kappa", [1.0, 5.0, 20.0])
def test_constant_noise_gives_the_law_of_the_paper(kappa):
    """U = L_0 - Delta ln F and p ~ exp(-kappa U/Delta), by hand."""
    delta = 0.01
    found = fps.theory.effective_loss(constant(kappa, delta, floor="0.02*(x - 1)**2"), (-2.0, 2.0))
    loss = 0.02 * (found.x - 1.0) ** 2 - delta * np.log(flat(found.x))
    np.testing.assert_allclose(found.loss, loss - loss.min(), atol=1e-9)
    np.testing.assert_allclose(found.variance[:, 0], delta / (1.0 + 4.0 * found.x**2), rtol=1e-12)
    np.testing.assert_allclose(found.anisotropy, kappa, rtol=1e-12)
    log = -kappa * loss / delta
    np.testing.assert_allclose(found.log_density - found.log_density.max(), log - log.max(), atol=2e-7 * kappa)
    assert math.isclose(float(np.trapezoid(found.density(), found.x)), 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("delta", [1e-3, 0.01, 0.05, 0.4])
def test_selected_minimum_solves_the_rule(delta):
    """L_0' = Delta F'/F to 1e-6, from near argmin L_0 = 1 to near argmax F = 0, whatever kappa is."""

    def rule(x):
        return 0.04 * (x - 1.0) + delta * 4.0 * x / (1.0 + 4.0 * x**2)

    exact = brentq(rule, -1.0, 1.5, xtol=1e-14)
    for kappa in (2.0, 50.0):
        found = fps.theory.effective_loss(constant(kappa, delta, floor="0.02*(x - 1)**2"), (-2.0, 2.0)).minimum.value
        assert abs(found - exact) < 1e-6 and abs(rule(found)) < 1e-6


def test_without_anisotropy_both_orders_are_boltzmann():
    """kappa = 1: exp(-L/Delta) has the marginal F exactly, so every term of second order must cancel."""
    found = fps.theory.effective_loss(constant(1.0, 0.4, lam="2 + sin(2*x)"), (-2.0, 2.0), n=1601)
    exact = (2.0 + np.sin(2.0 * found.x)) ** -0.5
    exact /= np.trapezoid(exact, found.x)
    np.testing.assert_allclose(found.density(), exact, rtol=2e-6)
    assert found.validity.max() > 0.05  # the terms are not small one by one


def shifts(lam, sigma, lr):
    U = degenerate_valley(lam)
    return fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, sigma, lr), lr)


def test_shifted_minima_at_a_finite_learning_rate():
    """<y^2> = lr sigma^2 lambda/(2 - lr lambda), U = -(sigma^2/2)[lambda + (2/lr) ln(1 - lr lambda/2)], where lambda' is small."""
    lr, sigma = 0.4, 0.3
    found = fps.theory.effective_loss(shifts("1 + 0.01*x", sigma, lr), (-1.0, 1.0))
    lam = 1.0 + 0.01 * found.x
    np.testing.assert_allclose(found.variance[:, 0], lr * sigma**2 * lam / (2.0 - lr * lam), rtol=1e-5)
    U = -(sigma**2 / 2.0) * (lam + 2.0 / lr * np.log(1.0 - lr * lam / 2.0))
    np.testing.assert_allclose(found.loss, U - U.min(), atol=2e-5 * np.ptp(U))
    weak = fps.theory.effective_loss(shifts("1 + 0.01*x", sigma, 1e-3), (-1.0, 1.0))
    np.testing.assert_allclose(weak.loss, 1e-3 * sigma**2 / 8.0 * (lam**2 - lam.min() ** 2), atol=1e-3 * np.ptp(weak.loss))


def test_the_two_noises_of_a_shift_are_correlated():
    """D_x = (lr sigma^2)^2 lambda'^2 lambda/16; without the correlation 5/16, a fourth of the noise itself plus the force."""
    lr, sigma = 1e-3, 0.5
    U = degenerate_valley("1 + 0.1*x")
    together = fps.theory.effective_loss(fps.Process(U, fps.Noise.shifted_minima(U, sigma, lr)), (-0.5, 0.5))
    c = lr * sigma**2 / 2.0
    rows = [[f"{c}*(0.1*y)**2", "0"], ["0", f"{c}*((1 + 0.1*x)**2 + (0.1*y)**2)"]]
    apart = fps.theory.effective_loss(fps.Process(U, fps.Noise.from_expression(rows, variables="x y")), (-0.5, 0.5))
    unit = (lr * sigma**2) ** 2 * 0.01 * (1.0 + 0.1 * together.x) / 16.0
    np.testing.assert_allclose(together.spread / unit, 1.0, rtol=1e-3)
    np.testing.assert_allclose(apart.spread / unit, 5.0, rtol=1e-3)
    np.testing.assert_allclose(together.force, apart.force, rtol=1e-9)


def test_relaxation_and_bounds_of_a_shift():
    """n* = 2(2 - lr l0)/(lr^2 sigma^2 k l0); lr sigma^2 = 4/k from the second moment, 2 lambda/lambda'^2 from kappa = 1."""
    lr, sigma, k = 0.1, 0.1, 0.2
    found = fps.theory.effective_loss(shifts(f"1 + {k}*x**2/2", sigma, lr), (-1.0, 1.0))
    assert found.minimum.value == pytest.approx(0.0, abs=1e-9)
    assert found.relaxation.per_iteration().value == pytest.approx(2.0 * (2.0 - lr) / (lr**2 * sigma**2 * k), rel=1e-4)
    eps = lr * sigma**2
    # the next order is lr sigma^2 k, and 3 lr sigma^2 lambda/(8 x^2) from the fourth power of y
    assert found.bounds["second moment"].value * eps == pytest.approx(4.0 / k, rel=2 * eps * k)
    assert found.bounds["anisotropy"].value * eps == pytest.approx(2.0 * (1.0 + k / 2.0) / k**2, rel=1e-3)
    assert found.bounds["step"].value == pytest.approx(2.0 / (lr * (1.0 + k / 2.0)), rel=1e-9)
    assert not found.beyond and fps.theory.effective_loss(shifts("1 + x**2", 3.0, 0.1), (-2.0, 2.0)).beyond
    assert np.isnan(found.log_density).all() and found.order.value == pytest.approx(1.0)
    with pytest.raises(ValueError, match="do not resolve"):
        found.density()


def test_several_fast_directions_with_correlated_noise():
    """S from A S + S A = 2 D and the mean force -tr(Lambda' S)/2, both by hand; another axis may be the slow one."""
    U = degenerate_valley(["1 + x**2", "3 + sin(x)"])
    D = np.array([[0.002, 0.0, 0.0], [0.0, 0.02, 0.01], [0.0, 0.01, 0.03]])
    found = fps.theory.effective_loss(fps.Process(U, fps.Noise.constant(D)), (-1.0, 2.0))
    a, b = 1.0 + found.x**2, 3.0 + np.sin(found.x)
    np.testing.assert_allclose(found.variance, np.stack([0.02 / a, 0.03 / b], axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.force, -0.5 * (2.0 * found.x * 0.02 / a + np.cos(found.x) * 0.03 / b), atol=1e-14)
    np.testing.assert_allclose(found.flatness, (a * b) ** -0.5, rtol=1e-12)
    # <f phi> = sum_ij f_ij^2 S_ij^2/(2 (l_i + l_j)), f_i = lambda_i', with the cross term of the correlation
    across = 2.0 * 0.01 / (a + b)
    S, slopes, curvatures = {(0, 0): 0.02 / a, (1, 1): 0.03 / b, (0, 1): across}, (2.0 * found.x, np.cos(found.x)), (a, b)
    f_phi = sum(
        0.5 * slopes[i] * slopes[j] / (2.0 * curvatures[j]) * S[min(i, j), max(i, j)] ** 2 for i in range(2) for j in range(2)
    )
    np.testing.assert_allclose(found.validity, f_phi / 0.002, rtol=1e-6, atol=1e-12)
    turned = fps.Process(fps.Potential.from_expression("(1 + 4*y**2)*(x - 0.5)**2/2", "x y"), fps.Noise.diagonal([0.05, 0.01]))
    same = fps.theory.effective_loss(turned, (-2.0, 2.0), slow=1)
    np.testing.assert_allclose(same.loss, fps.theory.effective_loss(constant(5.0, 0.05), (-2.0, 2.0)).loss, atol=1e-12)


def test_second_order_is_nearer_to_the_equation():
    """kappa = 5, Delta = 0.05 against the null vector of the plane: the second order must halve the distance at least."""
    process = constant(5.0, 0.05)
    density = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, 80), (-1.4, 1.4, 80))).stationary().marginal(0)
    x, mass = density.grid.centers[0], density.cell_mass
    found = fps.theory.effective_loss(process, (-2.0, 2.0))
    distances = []
    for leading in (True, False):
        p = np.interp(x, found.x, found.density(leading=leading)) * density.grid.widths[0]
        distances.append(0.5 * float(np.abs(p / p.sum() - mass).sum()))
    assert distances[1] < 0.5 * distances[0] < 0.015


def test_conditions_fail_where_they_should():
    def failed(process, x):
        return {a.name for a in fps.theory.effective_loss(process, x).failed}

    assert failed(constant(5.0, 0.001), (-2.0, 2.0)) == set()
    assert "fluctuations of the force are small" in failed(constant(500.0, 0.02), (-2.0, 2.0))
    assert "the minimum of the effective loss is inside the range" in failed(constant(5.0, 0.001), (0.5, 2.0))
    tilted = fps.Process(fps.Potential.from_expression("(y - 0.3*x)**2/2", "x y"), fps.Noise.isotropic(0.01))
    assert "the floor runs along the slow axis" in failed(tilted, (-1.0, 1.0))
    quartic = fps.Process(fps.Potential.from_expression("y**2/2 + 9*y**4 + x**2/100", "x y"), fps.Noise.isotropic(0.01))
    assert "the valley is parabolic across its fluctuations" in failed(quartic, (-1.0, 1.0))
    assert "the variance across the valley is finite" in failed(shifts("1 + x**2", 3.0, 0.1), (-2.0, 2.0))


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_the_unit_of_the_slow_coordinate_does_not_matter(unit):
    """No parabola across, x in other units: what the fluctuating force adds is Q^2 S^2/(4 lambda), Q = -lambda'."""
    U = fps.Potential.from_expression("(1 + 4*(x/s)**2)*(cosh(3*y) - 1)/9", "x y", {"s": unit})
    found = fps.theory.effective_loss(fps.Process(U, fps.Noise.diagonal([1e-3, 0.01])), (-2.0 * unit, 2.0 * unit))
    lam, slope = 1.0 + 4.0 * (found.x / unit) ** 2, 8.0 * found.x / unit**2
    added = slope**2 * (0.01 / lam) ** 2 / (4.0 * lam)
    np.testing.assert_allclose(found.validity, added / 1e-3, rtol=1e-4, atol=1e-12)


def test_bounds_are_of_noise_that_grows():
    """Constant noise has no bound of the anisotropy, also where kappa <= 1, nor one of the second moment at an end of the range."""
    for kappa in (1.0, 0.5):
        found = fps.theory.effective_loss(constant(kappa, 0.01), (-2.0, 2.0))
        assert math.isinf(found.bounds["anisotropy"].value) and not found.beyond
    downhill = fps.theory.effective_loss(constant(5.0, 0.02, lam="exp(x)"), (-1.0, 1.0))
    assert downhill.minimum.value == -1.0 and math.isinf(downhill.bounds["second moment"].value) and not downhill.beyond


def test_a_peak_against_an_end_is_resolved_or_not_given():
    """L_0 = x falls into the end 0 as exp(-x/D): a density at D = 0.1, none at D = 1e-5, a hundredth of the points' distance."""
    wide, narrow = (
        fps.theory.effective_loss(fps.Process(degenerate_valley("1", "x"), fps.Noise.isotropic(d)), (0.0, 1.0)) for d in (0.1, 1e-5)
    )
    exact = np.exp(-wide.x / 0.1) / (0.1 * (1.0 - math.exp(-10.0)))
    np.testing.assert_allclose(wide.density(), exact, rtol=1e-4)
    with pytest.raises(ValueError, match="do not resolve"):
        narrow.density()


def test_correlated_noises_and_several_minima_are_said():
    """The equation with a correlation of 0.5: the second order is farther from it than the first, and says why."""
    D = [[0.01, 0.5 * math.sqrt(0.0005)], [0.5 * math.sqrt(0.0005), 0.05]]
    process = fps.Process(degenerate_valley(OPEN), fps.Noise.constant(D))
    marginal = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, 80), (-1.4, 1.4, 80))).stationary().marginal(0)
    found = fps.theory.effective_loss(process, (-2.0, 2.0))
    first, second = (
        0.5 * np.abs(np.interp(marginal.grid.centers[0], found.x, found.density(leading=k)) - marginal.values).sum() * 0.05
        for k in (True, False)
    )
    assert first < second and second > 0.02
    assert "the noises along and across the floor are independent on it" in {a.name for a in found.failed}
    two = fps.theory.effective_loss(constant(5.0, 0.01, floor="0.1*(x**2 - 1)**2"), (-2.0, 2.0))
    said = {a.name: a for a in two.failed}["the effective loss has one minimum in the range"]
    # 0.4 x (x^2 - 1) + 0.01 * 4 x/(1 + 4 x^2) = 0
    low = brentq(lambda x: 0.4 * (x * x - 1.0) + 0.04 / (1.0 + 4.0 * x * x), 0.5, 1.5)
    assert abs(abs(two.minimum.value) - low) < 1e-9 and said.detail == "at x = -0.99, 0.99"


def test_without_noise_there_is_the_floor():
    found = fps.theory.effective_loss(constant(5.0, 0.0, floor="x**2"), (-1.0, 2.0))
    assert abs(found.minimum.value) < 1e-9 and not found.validity.any()
    np.testing.assert_allclose(found.loss, found.x**2 - (found.x**2).min(), atol=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fps.theory.effective_loss(constant(5, 0.1, lam="x**2"), (-2.0, 2.0)), ValueError, "vanishes at x = 0"),
        (lambda: fps.theory.effective_loss(constant(5, 0.1), "ab"), TypeError, "x must be"),
        (lambda: fps.theory.effective_loss(constant(5, 0.1), (-2.0, 2.0), fast="a"), TypeError, "fast must be"),
        (
            lambda: fps.theory.effective_loss(
                fps.SGDChain.gaussian(degenerate_valley(), fps.Noise.isotropic(0.1), 0.1), (-1, 1), lr=0.2
            ),
            ValueError,
            "that of the chain, 0.1",
        ),
        (lambda: degenerate_valley([]), ValueError, "at least one"),
        (lambda: degenerate_valley(3.0), ValueError, "expression"),
        (lambda: fps.potentials.ring(-1.0), ValueError, "radius"),
        (lambda: fps.theory.effective_loss(constant(5, 0.1), (1.0, -1.0)), ValueError, "range"),
        (lambda: fps.theory.effective_loss(constant(5, 0.1, lam="x"), (-1.0, 1.0)), ValueError, "fast"),
        (lambda: fps.theory.effective_loss(constant(5, 0.1), (-2.0, 2.0), lr=1.0), ValueError, "not stable"),
        (lambda: fps.theory.effective_loss(constant(5, 0.1), (-2.0, 2.0), slow=2), ValueError, "slow"),
        (lambda: fps.theory.effective_loss(constant(5, 0.1), (-2.0, 2.0), fast=[1.0, 2.0]), ValueError, "fast"),
        (lambda: fps.theory.effective_loss(degenerate_valley(), (-2.0, 2.0)), TypeError, "Process"),
        (
            lambda: fps.theory.effective_loss(fps.SGDChain.random_shift(degenerate_valley(), 0.1, 0.1), (-1.0, 1.0)),
            ValueError,
            "exact random shifts",
        ),
        (
            lambda: fps.theory.effective_loss(fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.1)), (-1.0, 1.0)),
            ValueError,
            "dimension 1",
        ),
        (lambda: product(1), ValueError, "two factors"),
        (lambda: product(target=-1.0), ValueError, "> 0"),
        (lambda: degenerate_valley(["1", "y"]), ValueError, "y"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_saved_and_drawn(tmp_path):
    found = fps.theory.effective_loss(constant(5.0, 0.01), (-2.0, 2.0), n=64)
    found.save(tmp_path / "valley.h5")
    assert fps.load(tmp_path / "valley.h5") == found
    assert "minimum at" in repr(found) and len(found.plot().lines) == 3


def test_product_and_many_directions():
    U = product(3, target=2.0)
    assert U([1.0, 2.0, 1.0]) == 0.0
    np.testing.assert_allclose(U.hess([1.0, 2.0, 1.0]), 2.0 * np.outer([2.0, 1.0, 2.0], [2.0, 1.0, 2.0]), atol=1e-12)
    wide = degenerate_valley([f"{i + 1} + x**2" for i in range(30)])
    assert wide.dim == 31 and wide([2.0, *[1.0] * 30]) == pytest.approx(0.5 * sum(i + 5 for i in range(30)))
