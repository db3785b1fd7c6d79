"""Published escape laws against roots of polynomials, quadrature, Lyapunov's equation and the Klein-Kramers spectrum."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

import fpsolve as fps
from fpsolve import theory

ST = fps.potentials.styblinski_tang()


def line(text, **params):
    return fps.Potential.from_expression(text, variables="x", params=params)


def statuses(estimate):
    return {a.name: a.status for a in estimate.assumptions}


# ---- SGD with C = H -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "low", "high"), [(-2.9, 1.138, 2.483), (2.7, 0.862, 1.591)])
def test_the_range_of_the_sgd_formula_on_styblinski_tang(start, low, high):
    # roots of 2 x^3 - 16 x + 2.5, independent of the gallery and of Newton's iteration
    roots = np.sort(np.roots([2.0, 0.0, -16.0, 2.5]).real)
    minimum, saddle = roots[0 if start < 0 else 2], roots[1]

    def loss(x):
        return 0.5 * (x**4 - 16 * x**2 + 5 * x)

    barrier, h_a, h_s = loss(saddle) - loss(minimum), 6 * minimum**2 - 16, 16 - 6 * saddle**2
    assert barrier / h_a == pytest.approx(low, abs=6e-4) and barrier / h_s == pytest.approx(high, abs=6e-4)  # the table of A2.3
    for s in (0.0, 0.3, 1.0):
        time = theory.sgd_escape_time(ST, [start], [0.1], lr=0.02, batch=3, s=s)
        expected = math.log(2 * math.pi / h_s) + 2 * 3 * barrier / 0.02 * (s / h_a + (1 - s) / h_s)
        assert time.log_value == pytest.approx(expected, rel=1e-12)
        assert time.unit == "time" and time.lr == 0.02
        half = theory.sgd_escape_time(ST, [start], [0.1], lr=0.02, batch=3, s=s, boundary="saddle")
        assert time.log_value - half.log_value == pytest.approx(math.log(2.0), abs=1e-12)


def test_the_validity_list_of_the_sgd_formula():
    found = statuses(theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.002, batch=1))
    assert found["D does not fall along the path"] == "failed"  # H passes zero at the inflection
    assert found["D changes little between minimum and saddle"] == "failed"
    assert found["barrier / D >= 6 at both ends"] == "held"
    assert found["covariance of the gradient noise is the Hessian"] == "unknown"
    # constant noise: D is the same everywhere, but C is not the Hessian
    constant = fps.Noise.covariance([[4.0]], lr=0.002, batch=1)
    found = statuses(theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.002, batch=1, noise=constant))
    assert found["D does not fall along the path"] == found["D changes little between minimum and saddle"] == "held"
    assert found["covariance of the gradient noise is the Hessian"] == "failed"
    # C = |H| made by the package: equal at both ends, and still it vanishes between them
    hessian = fps.Noise.hessian(ST, scale=0.001)
    found = statuses(theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.002, batch=1, noise=hessian))
    assert found["covariance of the gradient noise is the Hessian"] == "held"
    assert found["D does not fall along the path"] == "failed"
    assert (
        statuses(theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.5, batch=1))["one step's noise is small against the valley"]
        == "failed"
    )
    assert (
        statuses(theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.5, batch=1))["lr times the largest curvature is small"] == "failed"
    )


def test_adams_prefactor_breaks_the_scaling_of_its_steps():
    """On L(sqrt(k) x) at lr Adam repeats its steps on L at sqrt(k) lr. The exponent agrees, the prefactor lacks sqrt(k)."""
    U = fps.Potential.from_expression("(k*x**2 - 1)**2/8", variables="x", params={"k": 1.0})
    k, lr = 4.0, 0.02
    steep = theory.sgd_escape_time(U.with_params(k=k), [-1.0 / math.sqrt(k)], [0.0], lr=lr, batch=2, optimizer="adam")
    plain = theory.sgd_escape_time(U, [-1.0], [0.0], lr=lr * math.sqrt(k), batch=2, optimizer="adam")
    iterations = [e.log_value - math.log(e.lr) for e in (steep, plain)]
    assert iterations[0] - iterations[1] == pytest.approx(-0.5 * math.log(k), abs=1e-12)
    assert [a.status for a in plain.assumptions if "Adam" in a.name] == ["failed"]
    sgd = theory.sgd_escape_time(U, [-1.0], [0.0], lr=lr, batch=2)
    assert not [a for a in sgd.assumptions if "Adam" in a.name]


def test_momentum_and_adam_have_the_exponents_of_their_stationary_variance():
    # slope of the exponent = dL / T_eff with T_eff = h Var: exact stationary variances from an independent Lyapunov solution
    U, lr, batch, h = line("(x**2 - 1)**2/8"), 1e-4, 1, 1.0  # h_a = 1, |h_s| = 1/2, barrier 1/8
    sgd = theory.sgd_escape_time(U, [-1.0], [0.0], lr=lr, batch=batch, s=1.0).log_value - math.log(2 * math.pi / 0.5)
    for mu in (0.5, 0.9):
        heavy = theory.sgd_escape_time(U, [-1.0], [0.0], lr=lr, batch=batch, s=1.0, optimizer="momentum", momentum=mu)
        root = math.sqrt(1.0 + 4.0 * lr * 0.5 / (1.0 - mu) ** 2)
        exponent = heavy.log_value - math.log(math.pi * (1.0 - mu) / 0.5 * (1.0 + root))
        # x' = x - lr v', v' = mu v + h x + noise of variance h
        step = np.array([[1.0 - lr * h, -lr * mu], [h, mu]])
        kick = np.array([[lr**2, -lr], [-lr, 1.0]]) * h / batch
        variance = np.linalg.solve(np.eye(4) - np.kron(step, step), kick.ravel())[0]
        assert exponent == pytest.approx(0.125 / (h * variance), rel=1e-3)
        assert exponent == pytest.approx((1.0 - mu) * sgd, rel=1e-12)
    adam = theory.sgd_escape_time(U, [-1.0], [0.0], lr=lr, batch=4, s=1.0, optimizer="adam")
    prefactor = math.log(2 * math.pi / 0.5) + 0.25 * math.log(0.5)
    assert adam.log_value - prefactor == pytest.approx(2 * math.sqrt(4) * 0.125 / lr, rel=1e-12)
    assert theory.sgd_escape_time(U, [-1.0], [0.0], lr=lr, batch=1, s=1.0, optimizer="adai").log_value == pytest.approx(
        sgd + math.log(2 * math.pi / 0.5), rel=1e-12
    )


def test_the_formula_holds_for_constant_curvature_of_the_noise():
    # where C is the same everywhere and equal to H at the minimum, s = 1 is Kramers' law with h_a and h_s in other places
    U, lr = line("(x**2 - 1)**2/4"), 0.002
    exact = theory.mean_first_passage_1d(fps.Process(U, fps.Noise.covariance([[2.0]], lr=lr, batch=1)), -1.0, 1.0)
    formula = theory.sgd_escape_time(U, [-1.0], [0.0], lr=lr, batch=1, s=1.0)
    # Kramers: 2 pi / sqrt(h_a h_s); the formula: 2 pi / h_s
    assert formula.log_value - exact.log_value == pytest.approx(0.5 * math.log(2.0 / 1.0), abs=0.03)


def test_rates_of_several_saddles_add():
    one, two = fps.Estimate(0.0, log_value=-900.0, unit="1/time"), fps.Estimate(0.0, log_value=-901.0, unit="1/time")
    assert theory.total_rate(one, two).log_value == pytest.approx(-900.0 + math.log1p(math.exp(-1.0)), abs=1e-12)
    noisy = theory.total_rate(fps.Estimate(1.0, stderr=3.0, unit="1/time"), fps.Estimate(2.0, stderr=4.0, unit="1/time"))
    assert (noisy.value, noisy.stderr) == (3.0, 5.0)
    with pytest.raises(ValueError, match="rates of one unit"):
        theory.total_rate(one, fps.Estimate(1.0, unit="1/iteration"))
    with pytest.raises(ValueError, match="one learning rate"):
        theory.total_rate(fps.Estimate(1.0, unit="1/time", lr=0.1), fps.Estimate(1.0, unit="1/time", lr=0.2))
    with pytest.raises(TypeError, match="takes Estimates"):
        theory.total_rate(1.0)


# ---- the power law of squared losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [0.02, 0.1])
def test_power_law_is_kramers_rate_with_noise_proportional_to_the_loss(lr):
    # D = T L(x) with T = lr h / B: exp(-Phi) = L^-(1 + 1/T), so that Kramers' rate is (1 + T) times the published one
    U, batch, h = line("1 + (x**2 - 1)**2"), 5, 8.0
    T = lr * h / batch
    noise = fps.Noise.from_expression([["T*(1 + (x**2 - 1)**2)"]], variables="x", params={"T": T})
    kramers = theory.kramers_rate(fps.Process(U, noise), [-1.0], [0.0])
    law = theory.power_law_rate(U, [-1.0], [0.0], lr=lr, batch=batch)
    assert kramers.value / law.value == pytest.approx(1.0 + T, rel=1e-8)
    assert law.log_value == pytest.approx(math.log(math.sqrt(32.0) / (2 * math.pi)) - (0.5 + 1 / T) * math.log(2.0), rel=1e-12)


def test_power_law_with_outliers_and_its_refusals():
    U = fps.Potential.from_expression("1 + (x**2 - 1)**2 + 4*y**2 + z**2/1000", variables="x y z")
    rate = theory.power_law_rate(U, [-1.0, 0, 0], [0.0, 0, 0], lr=0.01, batch=1, outliers=2)
    expected = math.log(4 / (2 * math.pi)) + 0.5 * math.log(8 / 4) - (1 / 0.08 + 1 - 1) * math.log(2.0)
    assert rate.log_value == pytest.approx(expected, rel=1e-10)
    assert statuses(rate)["the other eigenvalues are small against the outliers"] == "held"
    assert statuses(rate)["the outliers are of one size"] == "held"
    with pytest.raises(ValueError, match="without noise there is no escape"):
        theory.power_law_rate(line("(x**2 - 1)**2"), [-1.0], [0.0], lr=0.1, batch=1)
    many = fps.Potential.from_expression("1 + (x**2 - 1)**2 + 4*y**2 + 4*z**2", variables="x y z")
    with pytest.raises(ValueError, match="no stationary density"):
        theory.power_law_rate(many, [-1.0, 0, 0], [0.0, 0, 0], lr=10.0, batch=1, outliers=3)


# ---- odds of basins, exits of a quadratic valley ----------------------------------------------------------------------------


def test_basin_odds_are_the_limit_of_boltzmanns_law():
    text = "(x**2 - 1)**2*(1 + x/2) + x/10"
    U, gaps = line(text), []
    for lr in (0.02, 0.01):
        odds = theory.basin_odds(U, [-1.0], [1.0], lr=lr, batch=2, variance=6.0)
        T = lr * 6.0 / 4.0
        middle = float(U.critical_points([(-0.5, 0.5)])[0].x[0])
        left = quad(lambda x, T=T: math.exp(-(float(U([x])) + 0.1) / T), -1.9, middle, limit=200)[0]
        right = quad(lambda x, T=T: math.exp(-(float(U([x])) + 0.1) / T), middle, 2.5, limit=200)[0]
        gaps.append(odds.value / (left / right) - 1.0)
    assert abs(gaps[1]) < 0.05 and gaps[1] / gaps[0] == pytest.approx(0.5, abs=0.1)  # an error of first order in T
    with pytest.raises(ValueError, match="not a minimum"):
        theory.basin_odds(U, [-1.0], [0.05], lr=0.1, batch=1, variance=1.0)


def test_exit_exponents_of_a_quadratic_valley():
    # on a line: h tau of the ball exit of an Ornstein-Uhlenbeck process, whatever h: 161.89 and 6545.8 at exponents 6 and 10
    for h in (1.0, 4.0):
        for exponent, time in ((6.0, 161.89), (10.0, 6545.8)):
            lr, batch, r = 0.01, 3, 0.7
            r = math.sqrt(exponent * lr / batch)
            process = fps.Process(fps.potentials.quadratic([[h]]), fps.Noise.covariance([[h]], lr=lr, batch=batch))
            exact = theory.mean_first_passage_1d(process, 0.0, r, reflecting=0.0)
            assert h * exact.value == pytest.approx(time, abs=0.05 if time > 1000 else 0.005)  # to the digits given
            assert theory.quadratic_exit_exponent([[h]], [[h]], lr=lr, batch=batch, radius=r).value == pytest.approx(
                exponent, rel=1e-12
            )
    # in the plane with a general C: least x^T S^-1 x / 2 on the circle and on the level, S by a naive linear system
    H, C = np.array([[3.0, 0.8], [0.8, 1.0]]), np.array([[2.0, -0.5], [-0.5, 0.7]])
    lyapunov = np.kron(H, np.eye(2)) + np.kron(np.eye(2), H)
    S = np.linalg.solve(lyapunov, (0.02 / 2 * C).ravel()).reshape(2, 2)

    def cost(angle, level):
        x = np.array([math.cos(angle), math.sin(angle)])
        x *= math.sqrt(2 * 0.3 / (x @ H @ x)) if level else 0.5
        return 0.5 * x @ np.linalg.solve(S, x)

    for level, keywords in ((False, {"radius": 0.5}), (True, {"threshold": 0.3})):
        coarse = min(np.linspace(0, math.pi, 200), key=lambda t: cost(t, level))
        least = minimize_scalar(cost, bracket=(coarse - 0.02, coarse + 0.02), args=(level,), tol=1e-12).fun
        found = theory.quadratic_exit_exponent(H, C, lr=0.02, batch=2, **keywords)
        assert found.value == pytest.approx(least, rel=1e-9)
    sharp = theory.quadratic_exit_exponent(H, H, lr=0.02, batch=2, threshold=0.3)
    assert sharp.value == pytest.approx(2 * 2 * 0.3 / (0.02 * np.linalg.eigvalsh(H)[-1]), rel=1e-12)
    published = theory.quadratic_exit_exponent(H, H, lr=0.02, batch=2, radius=0.5, form="published")
    assert published.value == pytest.approx(2 * 2 / 0.02 * 0.25 * math.sqrt(np.linalg.eigvalsh(H)[0]), rel=1e-12)
    assert [a.name for a in published.failed] == ["the action is that of Freidlin and Wentzell"]


# ---- jumps ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "scale", "expected"), [(1, 0.1, 0.0126), (1, 0.05, 0.00446), (2, 0.1, 0.00446), (2, 0.05, 0.00158)])
def test_levy_exit_rates_of_the_table(a, scale, expected):
    process = fps.Process(line("x**2/2"), fps.Noise.levy(1.5, scale))
    rate = theory.levy_exit_rate(process, 0.1, -a, a)
    assert rate.value == pytest.approx(expected, abs=5e-5)
    assert not rate.failed
    # width, not height: a steeper valley has the same rate
    steep = fps.Process(line("10*x**2"), fps.Noise.levy(1.5, scale))
    assert theory.levy_exit_rate(steep, 0.0, -a, a).value == pytest.approx(rate.value, rel=1e-9)
    # both ends count: the tail of the jump measure by quadrature
    tail = quad(lambda u: u**-2.5, 2 * a, math.inf)[0] + quad(lambda u: u**-2.5, a, math.inf)[0]
    c = math.gamma(2.5) * math.sin(0.75 * math.pi) / math.pi
    assert theory.levy_exit_rate(process, 0.0, -2 * a, a).value == pytest.approx(c * scale**1.5 * tail, rel=1e-6)


# ---- inertia ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("friction", "modes"),
    [pytest.param(0.1, 300, marks=pytest.mark.slow), pytest.param(0.5, 160, marks=pytest.mark.slow), (2.0, 160), (20.0, 160)],
)
def test_kramers_rate_with_inertia_approaches_the_spectrum(validation, monkeypatch, friction, modes):
    """Half the slowest rate of Brinkman's hierarchy; the gap of an expansion in T / barrier falls with T."""
    import importlib

    spectrum = importlib.import_module("fpsolve_validation.klein_kramers")
    gaps = []
    for T in (1 / 16, 1 / 28):
        monkeypatch.setattr(spectrum, "T", T)
        exact = -float(spectrum.modes(friction, n=modes)[0][1].real) / 2
        inertial = fps.Underdamped(line("x**4/4 - x**2/2"), fps.Noise.isotropic(T / friction), friction=friction)
        gaps.append(theory.kramers_rate(inertial, [-1.0], [0.0]).value / exact - 1.0)
    assert abs(gaps[1]) < 0.12
    assert 0.4 < gaps[1] / gaps[0] < 0.95


def test_kramers_rate_with_inertia_in_its_limits():
    U, T = line("(x**2 - 1)**2 / 4"), 0.02
    strong = theory.kramers_rate(fps.Underdamped(U, fps.Noise.isotropic(T / 300.0), friction=300.0), [-1.0], [0.0])
    overdamped = theory.kramers_rate(fps.Process(U, fps.Noise.isotropic(T)), [-1.0], [0.0])
    assert strong.value * 300.0 == pytest.approx(overdamped.value, rel=2e-5)
    # weak friction: rate of one well = g S / (m T) omega / (2 pi) exp(-dU / T); two equal wells halve it
    g = 1e-6
    action = 2 * quad(lambda x: math.sqrt(2 * (0.25 - (x**2 - 1) ** 2 / 4)), 0.0, math.sqrt(2.0))[0]
    weak = theory.kramers_rate(fps.Underdamped(U, fps.Noise.isotropic(T / g), friction=g), [-1.0], [0.0])
    assert weak.value == pytest.approx(0.5 * g * action / T * math.sqrt(2.0) / (2 * math.pi) * math.exp(-0.25 / T), rel=5e-3)
    plane = fps.Potential.from_expression("(x**2 - 1)**2/4 + y**2", variables="x y")
    rates = [
        theory.kramers_rate(fps.Underdamped(plane, fps.Noise.isotropic(T / g), friction=g), [-1.0, 0], [0, 0]) for g in (5.0, 1e-3)
    ]
    growth = (math.sqrt(25.0 + 4.0) - 5.0) / 2.0
    assert rates[0].value == pytest.approx(growth / (2 * math.pi) * math.sqrt(2.0) * math.exp(-0.25 / T), rel=1e-8)
    assert [statuses(r)["a path loses more than T per oscillation"] for r in rates] == ["held", "failed"]
    with pytest.raises(ValueError, match="surface in"):
        theory.kramers_rate(fps.Underdamped(U, fps.Noise.isotropic(1.0), friction=1.0), [-1.0], [0.0], exit="saddle")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.0, batch=1), "lr must be finite and > 0"),
        (lambda: theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.1, batch=1, s=1.5), r"s must lie in \[0, 1\]"),
        (lambda: theory.sgd_escape_time(ST, [0.1], [-2.9], lr=0.1, batch=1), "not a minimum"),
        (lambda: theory.sgd_escape_time(ST, [-2.9], [2.7], lr=0.1, batch=1), "not a saddle"),
        (lambda: theory.sgd_escape_time(ST, [-2.9], [-2.9], lr=0.1, batch=1), "same point"),
        (lambda: theory.sgd_escape_time(ST, [-2.9, 0.0], [0.1], lr=0.1, batch=1), "must have shape"),
        (lambda: theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.1, batch=1, optimizer="rmsprop"), "optimizer must be"),
        (
            lambda: theory.sgd_escape_time(
                ST, [-2.9], [0.1], lr=0.1, batch=1, noise=fps.Noise.covariance([[1.0]], lr=0.2, batch=1)
            ),
            "was made with lr=0.2",
        ),
        (lambda: theory.quadratic_exit_exponent([[1.0]], [[1.0]], lr=0.1, batch=1), "one of radius and threshold"),
        (lambda: theory.quadratic_exit_exponent([[0.0]], [[1.0]], lr=0.1, batch=1, radius=1.0), "positive definite"),
        (lambda: theory.levy_exit_rate(fps.Process(ST, fps.Noise.isotropic(1.0)), 2.7, 0.0, 4.0), "needs a one-dimensional"),
        (lambda: theory.levy_exit_rate(fps.Process(ST, fps.Noise.levy(1.5, 0.1)), 0.16, -1.0, 1.0), "does not point to a minimum"),
        (lambda: theory.levy_exit_rate(fps.Process(ST, fps.Noise.levy(1.5, 0.1)), 2.7, 3.0, 4.0), "inside the interval"),
    ],
)
def test_wrong_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: theory.sgd_escape_time("x**2", [-2.9], [0.1], lr=0.1, batch=1), "takes a Potential, the loss, got str"),
        (
            lambda: theory.sgd_escape_time(fps.Process(ST, fps.Noise.isotropic(1.0)), [-2.9], [0.1], lr=0.1, batch=1),
            "process.potential",
        ),
        (lambda: theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.1, batch=1, s=None), "s must be a number"),
        (lambda: theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.1, batch=1, momentum="a"), "momentum must be a number"),
        (lambda: theory.sgd_escape_time(ST, [-2.9], [0.1], lr=0.1, batch=1, noise="C"), "noise must be a Noise"),
        (lambda: theory.power_law_rate(None, [-2.9], [0.1], lr=0.1, batch=1), "takes a Potential"),
        (lambda: theory.basin_odds(3, [-2.9], [2.7], lr=0.1, batch=1, variance=1.0), "takes a Potential"),
        (lambda: theory.levy_exit_rate(ST, 2.7, 0.0, 4.0), r"takes a Process, got Potential: .* Process\(U, noise\)"),
        (lambda: theory.levy_exit_rate(fps.Process(ST, fps.Noise.levy(1.5, 0.1)), 2.7, "a", 4.0), "low must be a number"),
        (lambda: theory.kramers_rate(ST, [-2.9], [0.1]), "kramers_rate takes a Process"),
        (lambda: theory.kramers_rate(fps.Process(ST, fps.Noise.isotropic(1.0)), "a", [0.1]), "minimum must be numbers"),
        (lambda: theory.mean_first_passage_1d(ST, -2.9, 0.1), "mean_first_passage_1d takes a Process"),
        (
            lambda: theory.mean_first_passage_1d(fps.SGDChain.gaussian(ST, fps.Noise.isotropic(1.0), 0.1), -2.9, 0.1),
            "chain.process",
        ),
        (
            lambda: theory.mean_first_passage_1d(fps.Process(ST, fps.Noise.isotropic(1.0)), -2.9, 0.1, reflecting="w"),
            "reflecting must",
        ),
    ],
)
def test_wrong_types_are_named(call, match):
    with pytest.raises(TypeError, match=match):
        call()


def test_no_noise_and_wrong_shapes_of_a_valley():
    with pytest.raises(ValueError, match="without noise nothing leaves"):
        theory.quadratic_exit_exponent([[1.0]], [[0.0]], lr=0.1, batch=1, radius=1.0)
    with pytest.raises(ValueError, match=r"H and C must have the same shape, got \(2, 2\) and \(1, 1\)"):
        theory.quadratic_exit_exponent(np.eye(2), [[1.0]], lr=0.1, batch=1, radius=1.0)


# ---- odds of two escape times ---------------------------------------------------------------------------------------


def test_escape_odds_are_those_of_the_stationary_law():
    """D(x) = 0.1 (1 + x^2/2): masses left and right of the barrier by quadrature of exp(-int U'/D)/D, odds of two exact times."""
    from scipy.integrate import quad

    U = fps.Potential.from_expression("(x**2 - 1)**2 + 0.15*x")
    process = fps.Process(U, fps.Noise.from_expression("0.1*(1 + x**2/2)"))
    low, top, high = (p.x[0] for p in sorted(U.critical_points([(-2, 2)]), key=lambda p: p.x[0]))

    def density(x):
        # int (4 x^3 - 4 x + 0.15)/(0.1 (1 + x^2/2)) dx
        exponent = (4.0 * x**2 - 12.0 * math.log(1.0 + x**2 / 2.0) + 0.15 * math.sqrt(2.0) * math.atan(x / math.sqrt(2.0))) / 0.1
        return math.exp(-exponent) / (1.0 + x**2 / 2.0)

    left, right = quad(density, -4.0, top, epsabs=0.0)[0], quad(density, top, 4.0, epsabs=0.0)[0]
    times = [theory.mean_first_passage_1d(process, *way) for way in ((low, high), (high, low))]
    odds = theory.escape_odds(*times)
    assert odds.value == pytest.approx(left / right, rel=2e-3)  # what is left is of the order exp(-barrier/D)
    assert odds.unit == "" and odds.log_value == pytest.approx(math.log(odds.value), abs=1e-12)
    assert theory.escape_odds(*reversed(times)).value == pytest.approx(1.0 / odds.value, rel=1e-12)


def test_escape_odds_of_kramers_rates_are_basin_odds():
    """Also beyond doubles: D = lr sigma^2 / 2 B = 2.5e-4 and a difference of 0.3 in depth, exp(1200)."""
    U = fps.Potential.from_expression("(x**2 - 1)**2 + 0.15*x + 0.4*y**2*(1.2 + x)", "x y")
    for variance in (1.0, 0.01):
        process = fps.Process(U, fps.Noise.isotropic(0.05 * variance / 2.0))
        top = min((p for p in U.critical_points([(-2, 2), (-1, 1)]) if p.index == 1), key=lambda p: p.value).x
        rates = [theory.kramers_rate(process, [x, 0.0], top) for x in (-1.0, 1.0)]
        expected = theory.basin_odds(U, [-1.0, 0.0], [1.0, 0.0], lr=0.05, batch=1, variance=variance)
        assert theory.escape_odds(*rates).log_value == pytest.approx(expected.log_value, rel=1e-6)


def test_escape_odds_errors_and_refusals():
    a, b = (
        fps.Estimate(30.0, stderr=3.0, unit="time", lr=0.1),
        fps.Estimate(0.1, stderr=0.02, discretization_error=0.01, unit="1/time"),
    )
    odds = theory.escape_odds(a, b)
    assert (odds.value, odds.lr) == (pytest.approx(3.0), 0.1)
    assert odds.stderr == pytest.approx(3.0 * math.hypot(0.1, 0.2)) and odds.discretization_error == pytest.approx(0.3)
    assert [x.status for x in odds.assumptions] == ["unknown"]
    for pair, error, words in (
        ((a, 3.0), TypeError, "must be an Estimate"),
        ((a, fps.Estimate(1.0)), ValueError, "a time or a rate"),
        ((a, fps.Estimate(0.0, unit="time")), ValueError, "finite and > 0"),
        ((a, fps.Estimate(math.inf, log_value=math.inf, unit="time")), ValueError, "finite and > 0"),
        ((a, fps.Estimate(1.0, unit="1/iteration")), ValueError, "per_iteration"),
        ((a, fps.Estimate(1.0, unit="time", lr=0.2)), ValueError, "one learning rate"),
    ):
        with pytest.raises(error, match=words):
            theory.escape_odds(*pair)


def test_adam_is_tested_with_its_own_steps():
    """A step of Adam is lr times the gradient over the root of C/B: kicks of lr, and lr h/sqrt(C/B) instead of lr h."""
    k = 1e-4  # a flat valley: lr h = 8e-6, and lr h/sqrt(h/B) = 0.01 sqrt(8e-4 * 900) = 8.5e-3, 0.17 at lr = 0.2
    U = fps.Potential.from_expression("k*(x**2 - 1)**2", params={"k": k})
    for lr, expected in ((0.01, "held"), (0.2, "failed")):
        law = theory.sgd_escape_time(U, [-1.0], [0.0], lr=lr, batch=900, optimizer="adam")
        stiff, kick = (next(a for a in law.assumptions if a.name.startswith(n)) for n in ("lr times", "one step"))
        assert stiff.status == expected and float(stiff.detail.split(",")[0]) == pytest.approx(
            lr * math.sqrt(8 * k * 900), rel=2e-3
        )
        assert kick.status == expected and kick.detail.startswith(f"{lr:g} against")
    noise = fps.Noise.covariance(0.09, 0.01, 4)  # sqrt(C/B) = 0.15
    well = fps.potentials.double_well()
    law = theory.sgd_escape_time(well, [-1.0], [0.0], lr=0.01, batch=4, optimizer="adam", noise=noise)
    stiff = next(a for a in law.assumptions if a.name.startswith("lr times"))
    assert float(stiff.detail.split(",")[0]) == pytest.approx(0.01 * 8.0 / 0.15, rel=2e-3)


def test_the_quadratic_valley_says_what_it_does_not_know():
    for form in ("exact", "published"):
        law = theory.quadratic_exit_exponent(np.eye(2), np.eye(2), lr=0.1, batch=2, radius=0.5, form=form)
        found = {a.name: a.status for a in law.assumptions}
        assert found["H and C are the same all the way to the boundary"] == "unknown"
        assert found["exponent >= 6"] == ("held" if law.value >= 6.0 else "failed")
