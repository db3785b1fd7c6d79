"""theory.effective_loss along floors that are curves: closed forms, rotations of a valley, the equation, paths, refusals."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ellipe

import fpsolve as fps
from fpsolve.potentials import degenerate_valley, product, ring

#: A ring whose curvature across changes with the angle, and the shape of a noise that is not isotropic: D = delta SHAPE.
UNEVEN = "(1 + 0.5*x/sqrt(x**2 + y**2))*(sqrt(x**2 + y**2) - 1)**2/2"
SHAPE = np.array([[1.0, 0.3], [0.3, 0.4]])


def turned(texts, angle, names="xy"):
    """Expressions in x and y with both replaced by coordinates turned by an angle."""
    c, s = math.cos(angle), math.sin(angle)
    swap = {"x": f"({c!r}*x + {s!r}*y)", "y": f"(-({s!r})*x + {c!r}*y)"}
    return ["".join(swap.get(letter, letter) for letter in text) for text in texts]


def matrix(angle):
    """Columns: the turned axes."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


# ---- closed forms on x y = 1: u = x^2 - y^2 is conserved by the gradient flow ------------------------------------------


def imbalance(found):
    x, y = found.points.T
    u = x**2 - y**2
    w = np.sqrt(u**2 + 4.0)  # x^2 + y^2
    return x, y, u, w, 0.5 / np.sqrt(w), -0.25 * u / w**2.5  # ds/du and its slope


def test_constant_noise_on_a_product_by_its_conserved_quantity():
    """du = 2 (D_xx - D_yy) dt + noise 4 (x^2 D_xx - 2 x y D_xy + y^2 D_yy), in s by Ito's formula."""
    D = 0.002 * SHAPE
    found = fps.theory.effective_loss(fps.Process(product(), fps.Noise.constant(D)), (-1.5, 2.0), floor=[1.2, 1.0], n=201)
    x, y, _, _, slope, bend = imbalance(found)
    spread = 4.0 * (x**2 * D[0, 0] - 2.0 * x * y * D[0, 1] + y**2 * D[1, 1])
    force = 2.0 * slope * (D[0, 0] - D[1, 1]) + bend * spread
    np.testing.assert_allclose(x * y, 1.0, rtol=1e-13)
    np.testing.assert_allclose(found.diffusion, slope**2 * spread, rtol=1e-11)
    np.testing.assert_allclose(found.force, force, atol=1e-8 * np.abs(force).max())
    assert quad(lambda v: math.hypot(1.0, v**-2), x[0], x[-1], epsabs=1e-13)[0] == pytest.approx(3.5, abs=1e-11)
    np.testing.assert_allclose(found.variance[:, 0], _normal(x, y, D) / (2.0 * (x**2 + y**2)), rtol=1e-9)


def _normal(x, y, D):
    return (y**2 * D[0, 0] + 2.0 * x * y * D[0, 1] + x**2 * D[1, 1]) / (x**2 + y**2)


def test_shifts_balance_a_product():
    """C = sigma^2 H^2, e = lr sigma^2: drift of u -4 e w u, diffusion 8 e^2 w^3 from the fluctuations, p_u ~ w^(-3 - 1/(2e))."""
    U, eps = product(), 4e-3
    found = fps.theory.effective_loss(fps.Process(U, fps.Noise.shifted_minima(U, 0.2, 0.1)), (-1.5, 1.5), floor=[1.0, 1.0])
    _, _, u, w, slope, bend = imbalance(found)
    np.testing.assert_allclose(found.force, -4.0 * eps * w * u * slope, atol=1e-8 * np.abs(found.force).max())
    np.testing.assert_allclose(found.diffusion, 8.0 * eps**2 * w**3 * slope**2, rtol=1e-6)
    np.testing.assert_allclose(found.place, [1.0, 1.0], atol=1e-9)
    assert found.relaxation.value == pytest.approx(1.0 / (8.0 * eps), rel=1e-6)
    law = -(3.0 + 0.5 / eps) * np.log(w) - np.log(slope)
    # what Ito's formula adds to the drift of s, bend/slope times the diffusion, is one order beyond the drift
    ito = bend * 8.0 * eps**2 * w**3 / found.diffusion
    law -= np.concatenate([[0.0], np.cumsum(0.5 * (ito[1:] + ito[:-1]) * np.diff(found.x))])
    np.testing.assert_allclose(found.log_density - found.log_density.max(), law - law.max(), atol=1e-3)


def test_paths_balance_a_product():
    """Variance of u 8 lr sigma^2 by the chain: theory is of leading order, so within 5 lr sigma^2 and 4 standard errors."""
    U, lr, sigma = product(), 0.02, 0.3
    chain = fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, sigma, lr), lr)
    found = fps.theory.effective_loss(chain, (-1.0, 1.0), floor=[1.0, 1.0])
    _, _, u, _, _, _ = imbalance(found)
    p = found.density()
    theory = float(np.trapezoid(p * u**2, found.x))
    n, eps = 4000, lr * sigma**2
    final = fps.simulate(chain, [1.0, 1.0], t=round(4.0 * found.relaxation.value / lr), n=n, seed=11, threads=1).final
    square = (final[:, 0] ** 2 - final[:, 1] ** 2) ** 2
    assert theory == pytest.approx(8.0 * eps, rel=0.1)
    assert square.mean() == pytest.approx(
        theory, rel=4.0 * square.std() / square.mean() / math.sqrt(n) + 5.0 * eps + math.exp(-8.0)
    )


def test_reversible_process_with_noise_that_depends_on_the_state():
    """exp(-Phi) whatever D(x) is: p(s) ~ curvature^(-1/2), though left and right slow vectors differ; the gap falls with D."""
    gaps = []
    for eps in (2e-3, 1e-3):
        Phi = fps.Potential.from_expression("(x*y - 1)**2/eps", "x y", {"eps": eps})
        D = [["eps*(1 + x**2/4)", "eps*0.3*x"], ["eps*0.3*x", "eps*(0.5 + 0.2*sin(y) + 0.1*x**2)"]]
        noise = fps.Noise.from_expression(D, variables="x y", params={"eps": eps})
        found = fps.theory.effective_loss(fps.Process.reversible(Phi, noise), (-1.5, 1.5), floor=[1.0, 1.0], n=201)
        law = -0.5 * np.log((found.points**2).sum(axis=1))
        law -= math.log(np.trapezoid(np.exp(law), found.x))
        gaps.append(np.abs(found.log_density - law).max())
    assert gaps[0] < 2e-3 and gaps[0] / gaps[1] == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(
    ("U", "guess", "point"),
    [(product(), [0.5, 0.5], [1.0, 1.0]), (product(), [3.0, 3.0], [1.0, 1.0]), (ring(), [0.3, 0.0], [1.0, 0.0])],
)
def test_guesses_far_from_the_floor(U, guess, point):
    """By symmetry the gradient flow ends at these points; arc length counts from there."""
    found = fps.theory.effective_loss(fps.Process(U, fps.Noise.isotropic(0.01)), (-0.1, 0.1), floor=guess, n=33)
    np.testing.assert_allclose(found.points[16], point, atol=1e-9)


# ---- rotations of a straight valley -----------------------------------------------------------------------------------

LAM, FLOOR = "1 + 4*x**2", "0.002*(x - 1)**2"


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_turned_valley_with_constant_noise(angle):
    """A nearly degenerate floor, correlated noise: all as along the axis, at any angle."""
    delta = np.array([[0.002, 0.001], [0.001, 0.01]])
    axis = fps.theory.effective_loss(fps.Process(degenerate_valley(LAM, FLOOR), fps.Noise.constant(delta)), (-1.0, 1.5), n=101)
    (text,) = turned([f"({LAM})*y**2/2 + {FLOOR}"], angle)
    R = matrix(angle)
    process = fps.Process(fps.Potential.from_expression(text, "x y"), fps.Noise.constant(R @ delta @ R.T))
    sign = 1.0 if R[:, 0][np.abs(R[:, 0]).argmax()] > 0.0 else -1.0
    ends = (-1.0, 1.5) if sign > 0.0 else (-1.5, 1.0)
    found = fps.theory.effective_loss(process, ends, floor=R @ [0.0, 0.1], n=101)
    one, other = (slice(None), slice(None, None, int(sign)))
    np.testing.assert_allclose((found.points @ R)[other], np.stack([axis.x, 0.0 * axis.x], axis=-1), atol=1e-11)
    for name in ("loss", "floor", "diffusion", "variance", "flatness", "log_density"):
        np.testing.assert_allclose(getattr(found, name)[other], getattr(axis, name)[one], rtol=1e-7, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(sign * found.force[other], axis.force, atol=1e-9)
    assert sign * found.minimum.value == pytest.approx(axis.minimum.value, abs=1e-8)
    assert found.relaxation.value == pytest.approx(axis.relaxation.value, rel=1e-6)


def test_turned_valley_with_shifts_at_a_finite_learning_rate():
    """Along the axis the variance counts how the noise grows off the floor, one order beyond: the two differ by sigma^2."""
    lr, gaps = 0.4, []
    for sigma in (0.1, 0.05):
        straight = degenerate_valley("1 + 0.3*x")
        axis = fps.theory.effective_loss(
            fps.SGDChain.gaussian(straight, fps.Noise.shifted_minima(straight, sigma, lr), lr), (-1, 1), n=33
        )
        U = fps.Potential.from_expression(turned(["(1 + 0.3*x)*y**2/2"], 0.7)[0], "x y")
        chain = fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, sigma, lr), lr)
        found = fps.theory.effective_loss(chain, (-1, 1), floor=[0.0, 0.0], n=33)
        pairs = ((found.force, axis.force), (found.diffusion, axis.diffusion), (found.variance[:, 0], axis.variance[:, 0]))
        gaps.append([np.abs(a / b - 1.0).max() for a, b in pairs])
    assert np.all(np.array(gaps[0]) < 0.02)
    np.testing.assert_allclose(np.array(gaps[0]) / gaps[1], 4.0, rtol=0.1)


def test_turned_valley_in_three_dimensions():
    """Two fast directions with correlated noise, in coordinates turned in space."""
    D = np.array([[0.002, 0.0, 0.0], [0.0, 0.02, 0.01], [0.0, 0.01, 0.03]])
    axis = fps.theory.effective_loss(
        fps.Process(degenerate_valley(["1 + x**2", "3 + sin(x)"]), fps.Noise.constant(D)), (-1, 2), n=65
    )
    R = np.linalg.qr(np.array([[2.0, 1.0, 0.0], [-1.0, 3.0, 1.0], [0.5, 0.2, 1.0]]))[0]
    R[:, 0] *= np.sign(R[np.abs(R[:, 0]).argmax(), 0])
    a, b, c = ("(" + " + ".join(f"({float(R[i, k])!r})*{v}" for i, v in enumerate("uvw")) + ")" for k in range(3))
    U = fps.Potential.from_expression(f"(1 + {a}**2)*{b}**2/2 + (3 + sin({a}))*{c}**2/2", "u v w")
    found = fps.theory.effective_loss(fps.Process(U, fps.Noise.constant(R @ D @ R.T)), (-1, 2), floor=[0.0, 0.0, 0.0], n=65)
    for name in ("loss", "force", "diffusion", "flatness", "log_density"):
        np.testing.assert_allclose(getattr(found, name), getattr(axis, name), rtol=1e-7, atol=1e-9, err_msg=name)
    assert found.minimum.value == pytest.approx(axis.minimum.value, abs=1e-8)
    S = np.stack([axis.variance[:, 0], axis.variance[:, 1]], axis=1)
    np.testing.assert_allclose(found.variance.sum(axis=1), S.sum(axis=1), rtol=1e-10)


# ---- closed floors ----------------------------------------------------------------------------------------------------


def test_a_ring_is_uniform_under_any_constant_noise():
    """The projection of constant noise on a circle has the drift dD_s/ds: the density per length is the same all around."""
    found = fps.theory.effective_loss(fps.Process(ring(2.0), fps.Noise.constant(0.01 * SHAPE)), floor=[1.5, 0.3])
    assert found.closed and found.x[-1] == pytest.approx(4.0 * math.pi, rel=1e-12)
    np.testing.assert_allclose(np.hypot(*found.points.T), 2.0, rtol=1e-13)
    np.testing.assert_allclose(found.density(), 1.0 / (4.0 * math.pi), rtol=1e-6)
    x, y = found.points.T / 2.0
    np.testing.assert_allclose(found.diffusion, 0.01 * (y**2 - 0.6 * x * y + 0.4 * x**2), rtol=1e-10)
    assert "the minimum of the effective loss is inside the range" in {a.name for a in found.failed}  # no place is better


def test_boltzmann_on_an_ellipse():
    """exp(-U/D), x = 2 r cos t, y = r sin t: uniform in t, r^2 Gaussian of variance D/2; so <x^4> = 6 (1 + D/2), on the floor 6."""
    U = fps.Potential.from_expression("((x/2)**2 + y**2 - 1)**2", "x y")
    found = fps.theory.effective_loss(fps.Process(U, fps.Noise.isotropic(0.004)), floor=[2.0, 0.0])
    x, y = found.points.T
    law = np.hypot(x / 2.0, 2.0 * y) ** -1.0  # curvature^(-1/2)
    assert found.x[-1] == pytest.approx(8.0 * ellipe(0.75), rel=1e-9)
    np.testing.assert_allclose(found.density() / found.density().max(), law / law.max(), rtol=1e-6)
    assert float(np.trapezoid(found.density() * x**4, found.x)) == pytest.approx(6.0, abs=1e-5)


def test_boltzmann_in_a_bent_valley_to_first_order_in_the_noise():
    """A bowl of curvature 1 + y^2 around y = x^2/2 with a weak tilt: <x^2> by quadrature in the plane; the gap falls like D."""
    U = fps.Potential.from_expression("(1 + y**2)*(y - x**2/2)**2/2 + g*x", "x y", {"g": 0.0})
    gaps, x, roots = [], np.linspace(-1.2, 1.2, 4001), np.polynomial.hermite.hermgauss(60)
    for scale in (1.0, 0.5):
        D = 0.0025 * scale
        process = fps.Process(U.with_params(g=2e-4 * scale), fps.Noise.isotropic(D))
        found = fps.theory.effective_loss(process, (-1.2, 1.2), floor=[0.0, 0.0])
        z = math.sqrt(2.0 * D) * roots[0]
        y = x[:, None] ** 2 / 2.0 + z
        marginal = np.exp(-0.5 * (y**2) * z**2 / D) @ roots[1] * np.exp(-2e-4 * scale * x / D)
        inside = np.abs(x) < found.points[:, 0].max() * 0.999
        theory = np.interp(x, found.points[:, 0], found.density() * np.sqrt(1.0 + found.points[:, 0] ** 2))
        p, q = marginal[inside] / marginal[inside].sum(), theory[inside] / theory[inside].sum()
        gaps.append(float(np.abs(p - q).sum()))
    assert gaps[0] < 0.0025 and gaps[0] / gaps[1] == pytest.approx(2.0, rel=0.05)


def polar(delta):
    """The same process in r and the angle t, by Ito's formula."""
    (a, b), (_, k) = (delta * SHAPE).tolist()
    nn = f"({a}*cos(t)**2 + {2 * b}*sin(t)*cos(t) + {k}*sin(t)**2)"
    tt = f"({a}*sin(t)**2 - {2 * b}*sin(t)*cos(t) + {k}*cos(t)**2)"
    nt = f"(({k - a})*sin(t)*cos(t) + {b}*(cos(t)**2 - sin(t)**2))"
    noise = fps.Noise.from_expression([[nn, f"{nt}/r"], [f"{nt}/r", f"{tt}/r**2"]], variables="r t")
    drift = [f"-(1 + 0.5*cos(t))*(r - 1) + {tt}/r", f"0.25*sin(t)*(r - 1)**2/r**2 - 2*{nt}/r**2"]
    return fps.Process.from_drift(drift, noise, variables="r t")


def test_uneven_ring_against_the_equation_to_first_order_in_the_noise():
    """Curvature that changes, noise that is not isotropic, a current around: Fourier modes of the angle, the gaps fall like D."""
    modes = (np.cos, np.sin, lambda t: np.cos(2.0 * t), lambda t: np.sin(2.0 * t))
    gaps = []
    for delta in (0.01, 0.005):
        process = fps.Process(fps.Potential.from_expression(UNEVEN, "x y"), fps.Noise.constant(delta * SHAPE))
        found = fps.theory.effective_loss(process, floor=[1.0, 0.0])
        wide = 6.0 * math.sqrt(2.0 * delta)
        grid = fps.Grid((1.0 - wide, 1.0 + wide, 48), (0.0, 2.0 * math.pi, 48), boundary=["reflecting", "periodic"])
        angle = fps.FokkerPlanck(polar(delta), grid, scheme="high-order").stationary().marginal(1)
        t, mass = angle.grid.centers[0], angle.cell_mass / angle.cell_mass.sum()
        s = np.arctan2(found.points[:, 1], found.points[:, 0])
        gaps.append([np.sum(mass * g(t)) - np.trapezoid(found.density() * g(s), found.x) for g in modes])
    assert np.all(np.abs(gaps[0]) < delta * 2.0)
    np.testing.assert_allclose(np.array(gaps[0]) / gaps[1], 2.0, rtol=0.02)


def test_current_around_a_ring():
    """A force along the ring that does not come from a potential: the closed density is the null vector of its own line."""
    radial = "-(x**2 + y**2 - 1)/2"
    push = "(0.03 - 0.05*y/sqrt(x**2 + y**2))"
    process = fps.Process.from_drift(
        [f"{radial}*x - {push}*y", f"{radial}*y + {push}*x"], fps.Noise.isotropic(0.02), variables="x y"
    )
    found = fps.theory.effective_loss(process, floor=[1.0, 0.0])
    angle = np.arctan2(found.points[:, 1], found.points[:, 0])
    np.testing.assert_allclose(found.force, 0.03 - 0.05 * np.sin(angle), atol=3e-3)  # the floor bends by the square of the push
    line = fps.FokkerPlanck(
        fps.theory.slow_process(found), fps.Grid((0.0, float(found.x[-1]), 400), boundary="periodic"), scheme="high-order"
    ).stationary()
    np.testing.assert_allclose(np.interp(line.grid.centers[0], found.x, found.density()), line.values, rtol=1e-3)
    assert found.density().max() / found.density().min() > 3.0


def test_report_on_a_ring(tmp_path):
    """Theory, equation and paths in the plane: total variation by the measured order, and 4 times the sampling error."""
    process = fps.Process(fps.Potential.from_expression(UNEVEN, "x y"), fps.Noise.constant(0.01 * SHAPE))
    report = fps.selection_report(process, floor=[1.0, 0.0], seed=1, threads=1)
    assert report.reference == "equation" and "theory, second order" not in report.estimates
    assert report.distances["theory, leading order"] < 0.01  # modes of the angle differ by 0.6 delta
    sampling = next(float(note.split()[-1]) for note in report.notes if note.startswith("sampling"))
    assert report.distances["paths"] < 0.01 + 4.0 * sampling
    means = {name: e.value for name, e in report.estimates.items()}
    assert means["paths"] == pytest.approx(means["equation"], abs=0.01 + 4.0 * report.estimates["paths"].stderr)
    report.save(tmp_path / "ring.h5")
    assert fps.load(tmp_path / "ring.h5").effective == report.effective
    potential = process.potential
    assert len(report.effective.plot().lines) == 3 and len(report.effective.plot(potential=potential).lines) == 1
    with pytest.raises(ValueError, match="curved floor"):
        fps.theory.effective_loss(fps.Process(degenerate_valley(), fps.Noise.isotropic(0.1)), (-1, 1)).plot(potential=potential)


# ---- what is refused --------------------------------------------------------------------------------------------------


def along(text, *args, lr=None, **options):
    U = fps.Potential.from_expression(text, "x y") if isinstance(text, str) else text
    return fps.theory.effective_loss(fps.Process(U, fps.Noise.isotropic(0.01)), *args, lr=lr, **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: along("(x*y)**2", (-2.0, 2.0), floor=[1.0, 0.0]), "ends or branches"),
        (lambda: along("(1 - x**2)*y**2/2", (-2.0, 2.0), floor=[0.0, 0.0]), "ends or branches"),
        (lambda: along("(x*y - 1)**2", floor=[1.0, 1.0]), "does not close"),
        (lambda: along(ring(), (-1.0, 9.0), floor=[1.0, 0.0]), "closes within the range"),
        (lambda: along(product(3), (-1.0, 1.0), floor=[1.0, 1.0, 1.0]), "more than one slow direction"),
        (lambda: along("x**2 + y**2", (-1.0, 1.0), floor=[0.1, 0.1]), "no single direction"),
        (lambda: along(ring(k=30.0), floor=[1.0, 0.0], lr=0.1), "lower lr"),
        (lambda: along(ring(), floor=[1.0, 0.0, 0.0]), "2 finite numbers"),
        (lambda: along(ring(), floor=[1.0, 0.0], fast=[0.0]), "leave slow and fast out"),
        (lambda: along(ring()), "range x, or floor="),
        (lambda: fps.selection_report(fps.Process(ring(), fps.Noise.isotropic(0.01))), "range"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.slow
def test_report_in_five_dimensions_and_beyond_the_ends():
    """A straight valley in turned coordinates: distance of paths and theory within the small parameter and the sampling error."""
    R = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    axes = ["(" + " + ".join(f"({float(R[i, k])!r})*{v}" for i, v in enumerate("abcde")) + ")" for k in range(5)]
    bowls = " + ".join(f"({k + 1} + {axes[0]}**2)*{axes[k]}**2/2" for k in range(1, 5))
    process = fps.Process(fps.Potential.from_expression(bowls, list("abcde")), fps.Noise.isotropic(0.01))
    report = fps.selection_report(process, (-1.0, 1.0), floor=[0.0] * 5, lr=0.05, seed=1, threads=1)
    assert report.reference == "paths" and set(report.skipped) == {"equation"}
    sampling = next(float(note.split()[-1]) for note in report.notes if note.startswith("sampling"))
    assert report.distances["theory, leading order"] < 0.02 + 4.0 * sampling
    assert any("reach the ends" in note for note in report.notes)
