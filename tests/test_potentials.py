"""Landscapes: derivatives against differences and closed forms, critical points against published values."""

import numpy as np
import pytest

import fpsolve.potentials as gallery
from fpsolve.potentials import Potential

LANDSCAPES = [
    gallery.double_well(),
    gallery.double_well(3, k=2.0),
    gallery.styblinski_tang(2),
    gallery.degenerate_valley("1 + a*x**2", "0.1*(x - 1)**2", {"a": 4.0}),
    gallery.ring(1.5, 2.0),
    gallery.mueller_brown(0.01),
    gallery.quadratic([[2.0, 0.5], [0.5, 1.0]], [0.3, -0.2], 1.5),
]


@pytest.mark.parametrize("U", LANDSCAPES, ids=lambda U: U.name[:20])
def test_derivatives_agree_with_differences(U):
    x = np.random.default_rng(1).uniform(-1, 1, (20, U.dim))
    h = 1e-5
    for j in range(U.dim):
        e = h * np.eye(U.dim)[j]
        scale = 1 + np.abs(U.hess(x)).max()
        np.testing.assert_allclose((U(x + e) - U(x - e)) / (2 * h), U.grad(x)[:, j], atol=1e-7 * scale)
        np.testing.assert_allclose((U.grad(x + e) - U.grad(x - e)) / (2 * h), U.hess(x)[:, :, j], atol=1e-6 * scale)


def test_callables_agree_with_the_expression():
    text = Potential.from_expression("(x**2 - 1)**2 + k*y**2/2 + sin(x*y)", "x y", {"k": 2.0})

    def value(x, p):
        return (x[0] ** 2 - 1) ** 2 + p[0] * x[1] ** 2 / 2 + np.sin(x[0] * x[1])

    def grad(x, p):
        c = np.cos(x[0] * x[1])
        return 4 * x[0] * (x[0] ** 2 - 1) + x[1] * c, p[0] * x[1] + x[0] * c

    x = np.random.default_rng(2).normal(size=(4, 5, 2))
    for U in (Potential(value, dim=2, params={"k": 2.0}), Potential(value, grad, dim=2, params={"k": 2.0})):
        np.testing.assert_allclose(U(x), text(x), rtol=1e-13)
        np.testing.assert_allclose(U.grad(x), text.grad(x), atol=1e-8)
        np.testing.assert_allclose(U.hess(x), text.hess(x), atol=1e-5)
        np.testing.assert_allclose(U.with_params(k=5.0)(x), text.with_params(k=5.0)(x), rtol=1e-13)
    assert "numerical gradient" in repr(Potential(value, dim=2, params={"k": 1.0}))


@pytest.mark.parametrize("result", ["tuple", "list", "array", "scalar"])
def test_callables_may_return_any_sequence(result):
    forms = {
        "tuple": lambda x, p: (2.0 * x[0],),
        "list": lambda x, p: [2.0 * x[0]],
        "array": lambda x, p: np.array([2.0 * x[0]]),
        "scalar": lambda x, p: 2.0 * x[0],
    }
    U = Potential(lambda x, p: x[0] ** 2, forms[result], dim=1)
    np.testing.assert_array_equal(U.grad([[1.0], [2.0]]), [[2.0], [4.0]])


def test_styblinski_tang_critical_data():
    """Published digits: minima, barrier, curvatures."""
    deep, shallow, top = gallery.styblinski_tang().critical_points([(-4, 4)])
    assert deep.x[0] == pytest.approx(-2.903534, abs=1e-6) and deep.value == pytest.approx(-39.166166, abs=1e-6)
    assert shallow.x[0] == pytest.approx(2.746803, abs=1e-6) and shallow.value == pytest.approx(-25.029447, abs=1e-6)
    assert top.x[0] == pytest.approx(0.156731, abs=1e-6) and top.value == pytest.approx(0.195612, abs=1e-6)
    curvatures = [c.hessian[0, 0] for c in (deep, shallow, top)]
    assert curvatures == pytest.approx([34.583059, 29.269553, -15.852612], abs=1e-6)
    assert [c.kind for c in (deep, shallow, top)] == ["minimum", "minimum", "maximum"]


def test_mueller_brown_minima():
    """Mueller & Brown 1979 as quoted throughout the literature: minima -146.700, -108.167, -80.768; saddles -40.665, -72.249."""
    values = [c.value for c in gallery.mueller_brown().critical_points([(-1.5, 1.2), (-0.2, 2.0)])]
    assert values == pytest.approx([-146.700, -108.167, -80.768, -72.249, -40.665], abs=1e-3)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_styblinski_tang_has_all_its_critical_points(d):
    """Every combination of the three of one coordinate; the index counts the coordinates at the maximum."""
    found = gallery.styblinski_tang(d).critical_points([(-4, 4)] * d)
    expected = np.array(np.meshgrid(*[[-2.903534, 0.156731, 2.746803]] * d)).reshape(d, -1).T
    assert len(found) == 3**d and not any(c.degenerate for c in found)
    for x in expected:
        (point,) = (c for c in found if np.allclose(c.x, x, atol=1e-5))
        assert point.index == np.sum(np.abs(x - 0.156731) < 1e-3)


def test_degenerate_points_are_marked():
    """A quartic minimum, an inflection, circles and lines of minima (a few of their points); two maxima off them are regular."""
    assert [c.kind for c in Potential.from_expression("x**4").critical_points([(-1, 1.1)])] == ["degenerate"]
    assert [c.kind for c in Potential.from_expression("x**3").critical_points([(-1, 1.1)])] == ["degenerate"]
    ring = gallery.ring().critical_points([(-2, 2), (-2, 2)])
    rest = [c for c in ring if not c.degenerate]
    assert [c.kind for c in rest] == ["maximum"] and 1 < len(ring) < 50
    assert all(abs(np.hypot(*c.x) - 1.0) < 1e-6 for c in ring if c.degenerate)
    valley = gallery.degenerate_valley().critical_points([(-2, 2), (-2, 2)])
    assert valley and all(c.degenerate and abs(c.x[1]) < 1e-9 for c in valley)


def test_many_dimensions_take_no_more_starts():
    """A quartic in 12 dimensions: a lattice would need 2^12 starts for its corners alone."""
    names = [f"x{i}" for i in range(12)]
    U = Potential.from_expression(" + ".join(f"({n}**2 + 0.1*{n}**4)" for n in names), names)
    (point,) = U.critical_points([(-1, 1)] * 12, starts=20)
    assert point.kind == "minimum" and np.abs(point.x).max() < 1e-9


def test_quadratic_in_many_dimensions():
    rng = np.random.default_rng(3)
    H = rng.normal(size=(40, 40))
    H = H @ H.T
    c = rng.normal(size=40)
    U = gallery.quadratic(H, c, 0.5)
    x = rng.normal(size=(7, 40))
    np.testing.assert_allclose(U(x), 0.5 + 0.5 * np.einsum("ni,ij,nj->n", x - c, H, x - c), rtol=1e-12)
    np.testing.assert_allclose(U.grad(x), (x - c) @ H, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(U.hess(c), H)


BAD = [
    (lambda: Potential.from_expression("x + z", "x y"), ValueError, "undeclared name 'z'"),
    (lambda: Potential.from_expression("x*k", "x k", {"k": 1}), ValueError, "both variables and parameters"),
    (lambda: Potential.from_expression("x*k", "x", {"k": np.nan}), ValueError, "finite number"),
    (lambda: Potential.from_expression("x*k", "x", {"k": 1.0}).with_params(q=2), ValueError, "unknown parameters"),
    (lambda: gallery.double_well()([1.0, 2.0]), ValueError, "shape"),
    (lambda: gallery.quadratic([[1.0, 2.0], [0.0, 1.0]]), ValueError, "symmetric"),
    (lambda: gallery.quadratic([[1.0, 2.0]]), ValueError, "square"),
    (lambda: gallery.degenerate_valley("1) + (x"), ValueError, "cannot read"),
    (lambda: gallery.styblinski_tang(0), ValueError, "dim"),
    (lambda: Potential("x**2", dim=1), TypeError, "function"),
    (lambda: Potential(lambda x: x[0], dim=1), TypeError, "two arguments"),
    (lambda: Potential(lambda x, p: (x[0], x[0]), dim=1), TypeError, "2 numbers"),
    (lambda: Potential(lambda x, p: {"a": x[0]}["b"], dim=1), TypeError, "fails at"),
    (lambda: Potential(lambda x, p: float(str(x[0])[:4]), dim=1), TypeError, "cannot be compiled"),
    (lambda: gallery.double_well().critical_points([(2, -2)]), ValueError, "lo < hi"),
    (lambda: gallery.double_well().critical_points("box"), ValueError, "lo < hi"),
    (lambda: gallery.double_well().critical_points([(-2, 2)], starts=0), ValueError, "starts must be"),
]


@pytest.mark.parametrize("make, error, text", BAD)
def test_bad_input(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_uncompilable_callable_shows_the_line_and_a_rewrite():
    def value(x, p):
        return float(str(x[0])[:4])

    with pytest.raises(TypeError) as caught:
        Potential(value, dim=1)
    message = str(caught.value)
    assert "value" in message and "return float(str(x[0])[:4])" in message and "def value(x, p):" in message


def test_from_arrays():
    """Values, derivatives and regions are those of the functions; a missing gradient is by differences; what is wrong is said."""
    H = np.array([[2.0, 0.5], [0.5, 1.0]])
    U = Potential.from_arrays(lambda x: 0.5 * np.einsum("ni,ij,nj->n", x, H, x), lambda x: x @ H, dim=2)
    points = np.array([[1.0, -2.0], [0.3, 0.4]])
    np.testing.assert_allclose(U(points), 0.5 * np.einsum("ni,ij,nj->n", points, H, points), rtol=1e-15)
    np.testing.assert_allclose(U.hess(points[0]), H, rtol=1e-7)  # central differences of the gradient: rounding 1e-16/6e-6
    differences = Potential.from_arrays(lambda x: 0.5 * np.einsum("ni,ij,nj->n", x, H, x), dim=2)
    np.testing.assert_allclose(differences.grad(points), points @ H, atol=1e-8)
    assert U.critical_points([(-1.0, 1.0), (-1.0, 1.0)])[0].index == 0
    with pytest.raises(ValueError, match="returned shape"):
        Potential.from_arrays(lambda x: x, dim=2)(points)
    with pytest.raises(TypeError, match="function of points"):
        Potential.from_arrays(3.0, dim=2)
    with pytest.raises(ValueError, match="dim must be"):
        Potential.from_arrays(np.sum, dim=0)
