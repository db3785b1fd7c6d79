"""Processes: the three readings of the noise in 1-D and with rotating axes, shared parameters, chains."""

import numpy as np
import pytest
import sympy

import fpsolve.potentials as gallery
from fpsolve.chains import SGDChain
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process

X = np.random.default_rng(7).uniform(-1, 1, (25, 2))
TENSOR = [["0.5 + 0.2*x**2", "0.1*x*y"], ["0.1*x*y", "0.4 + 0.3*y**2"]]


def divergence_by_sympy():
    """div D from sympy's own matrices."""
    x, y = sympy.symbols("x y", real=True)
    D = sympy.Matrix([[0.5 + 0.2 * x**2, 0.1 * x * y], [0.1 * x * y, 0.4 + 0.3 * y**2]])
    div = [sum(D[i, j].diff(v) for j, v in enumerate((x, y))) for i in range(2)]
    return sympy.lambdify((x, y), div)


def test_klimontovich_adds_the_divergence():
    process = Process(gallery.quadratic(np.eye(2)), Noise.from_expression(TENSOR, "x y"), "klimontovich")
    expected = -X + np.stack(divergence_by_sympy()(*X.T), -1)
    np.testing.assert_allclose(process.drift(X), expected, atol=1e-13)


def test_stratonovich_with_the_symmetric_root():
    """Differences of scipy's matrix root are an independent way to (1/2) sum_jk B_jk d_j B_ik."""
    from scipy.linalg import sqrtm

    process = Process(gallery.quadratic(np.eye(2)), Noise.from_expression(TENSOR, "x y"), "stratonovich")
    root = lambda p: np.real(sqrtm(2 * process.diffusion(p)))  # noqa: E731
    for point in X[:8]:
        np.testing.assert_allclose(process.factor(point), root(point), rtol=1e-10, atol=1e-12)
        h, B = 1e-5, root(point)
        derivative = [(root(point + h * e) - root(point - h * e)) / (2 * h) for e in np.eye(2)]
        correction = 0.5 * sum(derivative[j] @ B[j] for j in range(2))
        np.testing.assert_allclose(process.drift(point), -point + correction, atol=1e-7)


def test_stratonovich_uses_the_given_factor():
    """A factor with rotating axes: the same D, but not the drift of the symmetric root."""
    rotating = [["cos(a*x)", "-sin(a*x)"], ["sin(a*x)", "cos(a*x)"]]
    given = Process(gallery.quadratic(np.eye(2)), Noise.from_factor(rotating, "x y", {"a": 2.0}), "stratonovich")
    np.testing.assert_allclose(given.diffusion(X), np.broadcast_to(np.eye(2) / 2, (25, 2, 2)), atol=1e-14)
    # (1/2) sum_k B_0k d_x B_ik with B_0k = (cos, -sin): (a/2)(-cos sin + sin cos) = 0 for i = 0,
    # (a/2)(cos^2 + sin^2) = a/2 for i = 1
    np.testing.assert_allclose(given.drift(X), -X + np.array([0.0, 1.0]), atol=1e-9)


def test_one_dimensional_readings():
    """D = D0 (1 + x^2): corrections D' (Klimontovich) and D'/2 (Stratonovich)."""
    x = X[:, :1]
    flat, noise = Potential.from_expression("0*x"), Noise.from_expression("0.3*(1 + x**2)")
    for name, factor in (("ito", 0.0), ("stratonovich", 0.5), ("klimontovich", 1.0)):
        np.testing.assert_allclose(Process(flat, noise, name).drift(x), factor * 0.6 * x, atol=1e-9)


def test_reversible_has_no_current():
    """b - div D = -D grad Phi exactly: the probability current of exp(-Phi) vanishes."""
    Phi = gallery.degenerate_valley("1 + x**2")
    process = Process.reversible(Phi, Noise.from_expression(TENSOR, "x y"))
    current = process.drift(X) - process.divergence(X) + np.einsum("nij,nj->ni", process.diffusion(X), Phi.grad(X))
    np.testing.assert_allclose(current, 0.0, atol=1e-13)
    np.testing.assert_allclose(process.log_density(X), -Phi(X))


def test_callables_agree_with_expressions():
    def D(x, p):
        return ((0.5 + 0.2 * x[0] ** 2, 0.1 * x[0] * x[1]), (0.1 * x[0] * x[1], 0.4 + 0.3 * x[1] ** 2))

    U = gallery.double_well(2)
    for name in ("ito", "klimontovich", "stratonovich"):
        a, b = (Process(U, noise, name) for noise in (Noise.from_function(D, 2), Noise.from_expression(TENSOR, "x y")))
        np.testing.assert_allclose(a.drift(X), b.drift(X), atol=1e-7)
        np.testing.assert_allclose(a.factor(X), b.factor(X), atol=1e-12)


def test_shared_parameters():
    U = Potential.from_expression("k*x**2/2", params={"k": 2.0})
    process = Process(U, Noise.hessian(U, 0.1))
    assert process.with_params(k=6.0).drift([1.0])[0] == -6.0
    with pytest.raises(ValueError, match="parameter k is 2 in the landscape and 3"):
        Process(U, Noise.from_expression("k", params={"k": 3.0}))


def test_linear_and_log_density():
    A, D = np.array([[1.0, 0.6], [-0.3, 0.8]]), np.array([[1.0, 0.2], [0.2, 0.5]])
    process = Process.ornstein_uhlenbeck(A, Noise.constant(D), [1.0, 2.0])
    got = process.linear
    assert got is not None
    for value, expected in zip(got, (A, [1.0, 2.0], D), strict=True):
        np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(process.drift(X), -(X - [1.0, 2.0]) @ A.T)
    assert process.log_density(X) is None
    well = Process(gallery.double_well(), Noise.isotropic(0.1))
    np.testing.assert_allclose(well.log_density([[0.0], [1.0]]), [-10.0, 0.0])
    assert well.linear is None
    quadratic = Process(gallery.quadratic(np.eye(30)), Noise.isotropic(0.1))
    assert quadratic.linear is not None and quadratic.linear[0].shape == (30, 30)


class Ensemble:
    dim, size = 2, 10

    def gradient(self, theta, indices):
        return theta - np.mean(indices)


BAD = [
    (lambda: Process(gallery.double_well(), Noise.isotropic(0.1), "anti-ito"), ValueError, "must be one of"),
    (lambda: Process("x**2", Noise.isotropic(0.1)), TypeError, "Potential"),
    (lambda: Process(gallery.double_well(), 0.1), TypeError, "Noise.isotropic"),
    (lambda: Process.from_drift(["x"], Noise.isotropic(1), variables="x y"), ValueError, "1 components for 2"),
    (lambda: Process.from_drift(lambda x, p: x[0], Noise.isotropic(1)), ValueError, "dim="),
    (lambda: Process.ornstein_uhlenbeck([[1.0, 2.0]], Noise.isotropic(1)), ValueError, "square"),
    (lambda: SGDChain(Ensemble(), lr=0.0, batch=1), ValueError, "lr"),
    (lambda: SGDChain(Ensemble(), lr=0.1, batch=11, sampling="shuffle"), ValueError, "exceeds the 10 samples"),
    (lambda: SGDChain(Ensemble(), lr=0.1, batch=1, momentum=1.0), ValueError, "momentum"),
    (lambda: SGDChain(Ensemble(), lr=0.1, batch=1, sampling="epoch"), ValueError, "shuffle"),
    (lambda: SGDChain(object(), lr=0.1, batch=1), TypeError, "ensemble needs"),
    (
        lambda: SGDChain.gaussian(gallery.quadratic([[1.0]]), Noise.covariance([[1.0]], lr=0.1), lr=0.2),
        ValueError,
        "same learning rate",
    ),
]


@pytest.mark.parametrize("make, error, text", BAD)
def test_bad_input(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_stratonovich_is_refused_where_the_root_has_a_kink():
    process = Process(gallery.double_well(), Noise.from_expression("x**2"), "stratonovich")
    with pytest.raises(ValueError, match="not differentiable at x = \\[0.0\\]"):
        process.check_diffusion([[0.5], [0.0]])
    Process(gallery.double_well(), Noise.from_factor([["x"]], "x"), "stratonovich").check_diffusion([[0.0]])


def test_drift_that_is_not_finite_is_named():
    process = Process.from_drift(["1/x"], Noise.isotropic(1.0))
    with pytest.raises(ValueError, match=r"drift is not finite at x = \[0.0\]"):
        process.check_diffusion([[1.0], [0.0]])


@pytest.mark.parametrize("tensor", [[["0.5 - 0.4*x"]], [["sqrt(0.5 - x)"]]])
def test_paths_stop_where_the_tensor_is_no_tensor(tensor):
    """D negative or NaN on the way: the factor is NaN there, not zero, so the trajectory is counted as lost."""
    process = Process(Potential.from_expression("-x"), Noise.from_expression(tensor, "x"))
    assert np.isfinite(process.factor([[0.0]])).all() and np.isnan(process.factor([[2.0]])).all()


@pytest.mark.parametrize("D", [[["1", "x"], ["x", "1"]], [["-1 + 0*x", "0"], ["0", "-1"]], [["0*x", "1"], ["1", "0"]]])
@pytest.mark.parametrize("reading", ["ito", "stratonovich"])
def test_factor_of_an_indefinite_tensor_is_nan(D, reading):
    process = Process(gallery.quadratic(np.eye(2)), Noise.from_expression(D, "x y"), reading)
    assert np.isnan(process.factor([2.0, 0.0])).any()


def test_numerical_derivatives_know_their_length():
    """A landscape that varies over 1e-6: refused with the default step, right with length=."""
    s = 1e-6

    def value(x, p):
        return p[0] ** 2 * (x[0] / p[0]) ** 4 / 4

    x = s * np.linspace(-2, 2, 9)[:, None]
    with pytest.raises(ValueError, match="length="):
        Process(Potential(value, dim=1, params={"s": s}), Noise.isotropic(s * s)).check_diffusion(x)
    U = Potential(value, dim=1, params={"s": s}, length=s)
    Process(U, Noise.isotropic(s * s)).check_diffusion(x)
    np.testing.assert_allclose(U.grad(x)[:, 0], s * (x[:, 0] / s) ** 3, atol=1e-8 * s)
    with pytest.raises(ValueError, match="positive finite"):
        Potential(value, dim=1, params={"s": s}, length=0.0)


def test_with_params_reaches_the_noise():
    U = Potential.from_expression("k*x**2/2", params={"k": 1.0})
    process = Process(U, Noise.from_expression("0.2*k", params={"k": 1.0})).with_params(k=2.0)
    assert process.noise.params == {"k": 2.0} and process.noise.diffusion([0.0])[0, 0] == process.diffusion([0.0])[0, 0] == 0.4


def test_fixed_points_and_their_stability():
    """Forced van der Pol: a saddle between two unstable foci, their eigenvalues those of the Jacobian; a centre is degenerate."""
    drift = ["x - x**3/3 + y - y**3/9", "x + 0.9"]
    found = Process.from_drift(drift, Noise.isotropic(0.5), variables="x y").fixed_points([(-4, 4), (-4, 4)])
    assert [p.kind for p in found] == ["saddle", "unstable focus", "unstable focus"]
    assert [p.index for p in found] == [1, 2, 2] and not any(p.stable for p in found)
    roots = np.sort(np.roots([-1 / 9, 0.0, 1.0, -0.9 + 0.9**3 / 3]))
    np.testing.assert_allclose(np.sort([p.x[1] for p in found]), roots, atol=1e-9)
    for p in found:
        y = p.x[1]
        np.testing.assert_allclose(p.jacobian, [[1 - 0.81, 1 - y * y / 3], [1.0, 0.0]], atol=1e-9)
    centre = Process.from_drift(["y", "-x"], Noise.isotropic(0.5), variables="x y").fixed_points([(-1, 1), (-1, 1)])
    assert [p.kind for p in centre] == ["degenerate"] and not centre[0].stable


def test_fixed_points_do_not_depend_on_the_reading_of_the_noise():
    """The drift for D -> 0: the extrema of U, although noise adds to the drift."""
    U, noise = Potential.from_expression("(x**2 - 1)**2"), Noise.from_expression("0.1 + 0.05*x")
    for process in (Process(U, noise, interpretation="klimontovich"), Process.reversible(U, noise)):
        found = process.fixed_points([(-1.5, 1.5)])
        np.testing.assert_allclose([p.x[0] for p in found], [-1.0, 1.0, 0.0], atol=1e-9)
        assert [p.stable for p in found] == [True, True, False]
