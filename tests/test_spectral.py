"""Spectra against Ornstein-Uhlenbeck and Dirichlet closed forms, expectations against moments and against each other."""

import numpy as np
import pytest
import scipy.linalg as la
import scipy.sparse as sp

import fpsolve
from fokker_planck_cases import orders
from fpsolve import _spectral, _transient
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Density, Estimate, Field, Spectrum

A = np.array([[1.0, 0.6], [-0.3, 0.8]])
QUADRATIC = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
WELL = Potential.from_expression("(x**2-1)**2")


# ---- spectrum -----------------------------------------------------------------------------------------------------------


def test_hermite_functions():
    """Right eigenfunctions He_k / sqrt(k!), left ones times the density, eigenvalues -k to second order."""
    errors = []
    for n in (100, 200, 400):
        s = FokkerPlanck(QUADRATIC, Grid((-7, 7, n))).spectrum(5)
        x = s.grid.centers[0]
        p = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        row = [np.abs(s.eigenvalues + np.arange(5)).max()]
        for k, c in enumerate(np.eye(5)):
            he = np.polynomial.hermite_e.hermeval(x, c) / np.sqrt([1, 1, 2, 6, 24][k])
            r, left = s.right[k].real, s.left[k].real
            sign = np.sign(np.sum(r * he * p))
            row.append(np.sqrt(np.sum((sign * r - he) ** 2 * p) * s.grid.widths[0][0]))
            row.append(np.sum(np.abs(sign * left - he * p)) * s.grid.widths[0][0])
        errors.append(row)
        assert s.residuals.max() < 1e-9
        assert s.warnings == ()
        assert np.all(np.abs(s.eigenvalues + np.arange(5)) <= s.eigenvalue_errors + 1e-9)
        assert s.eigenvalue_errors[0] == 0.0 and s.eigenvalue_errors.max() < 4 * max(row[0], 1e-3)
    errors = np.array(errors)
    assert np.all(orders(errors[:, 0]) >= 1.9), errors
    # the chain of a linear force has polynomial eigenfunctions too: what is left comes from the walls at 7
    assert errors[:, 1:].max() < 2e-4


@pytest.mark.parametrize("rotation", [0.0, 2.0])
def test_sums_of_eigenvalues_of_a_linear_process(rotation):
    """-(n1 l1 + n2 l2) with the eigenvalues l of A, complex for rotation; second order."""
    M = np.array([[1.0, 0.6 + rotation], [-0.3 - rotation, 0.8]])
    D, l = np.array([[1.0, 0.3], [0.3, 0.6]]), la.eigvals(M)
    exact = np.array([-(i * l[0] + j * l[1]) for i in range(5) for j in range(5)])
    exact = exact[np.argsort(-exact.real, kind="stable")][:6]
    errors = []
    for n in (32, 64, 128):
        s = FokkerPlanck(Process.ornstein_uhlenbeck(M, Noise.constant(D)), Grid((-5.5, 5.5, n), (-5.5, 5.5, n))).spectrum(6)
        near = np.abs(s.eigenvalues[:, None] - exact[None, :])
        errors.append(max(near.min(axis=0).max(), near.min(axis=1).max()))
        if n > 32:  # its half, cells of 0.7 for a width of 0.8, resolves nothing: the change falls short by a quarter
            assert np.all(near.min(axis=1) <= s.eigenvalue_errors + 1e-9), (near.min(axis=1), s.eigenvalue_errors)
            assert s.eigenvalue_errors.max() <= errors[-1] + errors[-2]  # modes of both grids are paired rightly
        assert s.solver_info["radius"] > 0
        assert s.residuals.max() < 1e-7
    assert np.all(orders(errors) >= 1.8), errors
    assert errors[-1] < 0.02
    if rotation:
        assert np.abs(s.frequencies).max() > 1.0


def test_left_and_right_functions_are_biorthogonal():
    M = np.array([[1.0, 2.6], [-2.3, 0.8]])
    s = FokkerPlanck(Process.ornstein_uhlenbeck(M, Noise.isotropic(0.7)), Grid((-5, 5, 40), (-5, 5, 40))).spectrum(6)
    k, volume = len(s), s.grid.cell_volumes
    gram = (s.left * volume).reshape(k, -1) @ s.right.reshape(k, -1).T
    np.testing.assert_allclose(gram, np.eye(k), atol=1e-8)
    Q = FokkerPlanck(Process.ornstein_uhlenbeck(M, Noise.isotropic(0.7)), s.grid).generator
    mass = (s.left * volume).reshape(k, -1)
    np.testing.assert_allclose(mass @ Q, s.eigenvalues[:, None] * mass, atol=1e-8 * np.abs(mass).max())


def test_complex_pairs_are_not_cut():
    M = np.array([[1.0, 2.0], [-2.0, 1.0]])
    fp = FokkerPlanck(Process.ornstein_uhlenbeck(M, Noise.isotropic(0.7)), Grid((-5, 5, 30), (-5, 5, 30)))
    assert len(fp.spectrum(1)) == 1
    for k in (2, 3):
        s = fp.spectrum(k)
        assert len(s) == 3
        assert s.eigenvalues[1] == pytest.approx(s.eigenvalues[2].conj(), rel=1e-9)


def test_spectrum_between_absorbing_walls():
    """-D (k pi / L)^2 and sines; no stationary mode."""
    D, errors = 0.4, []
    process = Process(Potential.from_expression("0*x"), Noise.isotropic(D))
    for n in (50, 100, 200):
        s = FokkerPlanck(process, Grid((0, 2, n), boundary="absorbing")).spectrum(4)
        exact = D * (np.arange(1, 5) * np.pi / 2) ** 2
        errors.append(np.abs(s.rates / exact - 1).max())
        assert np.all(np.abs(s.rates - exact) <= s.eigenvalue_errors) and np.all(s.eigenvalue_errors < 4 * errors[-1] * exact)
        sine = np.sqrt(2) * np.sin(np.pi * s.grid.centers[0] / 2)
        np.testing.assert_allclose(np.abs(s.right[0].real), sine, atol=2e-2)
    assert np.all(orders(errors) >= 1.9), errors


def test_two_basins_warn_and_agree_with_twice_the_escape():
    """Symmetric double well: the slowest nonzero rate is the sum of both committed rates; far below rounding it only warns."""
    fp = FokkerPlanck(Process(WELL, Noise.isotropic(0.06)), Grid((-2, 2, 400)))
    s = fp.spectrum(3)
    a, b = Region.halfspace([1.0], -1.0), Region.halfspace([-1.0], -1.0)
    assert s.rates[1] / (2 * fp.reactive_rate(a, b).value) == pytest.approx(1.0, rel=2e-2)
    assert any("ask for the quasi-stationary density" in w for w in s.warnings)
    deep = FokkerPlanck(Process(WELL, Noise.isotropic(0.02)), Grid((-2, 2, 400))).spectrum(3)
    assert any("several basins" in w for w in deep.warnings)
    assert deep.rates[2] == pytest.approx(4.0, rel=0.05)  # |U''| at the saddle, the slowest rate inside the basins


def test_spectrum_record(tmp_path):
    s = FokkerPlanck(QUADRATIC, Grid((-7, 7, 100))).spectrum(3)
    assert isinstance(s, Spectrum)
    fpsolve.save(tmp_path / "s.h5", s)
    assert fpsolve.load(tmp_path / "s.h5") == s
    assert isinstance(s.right_field(1), Field)
    assert s.left_field(0).values == pytest.approx(FokkerPlanck(QUADRATIC, Grid((-7, 7, 100))).stationary().values)
    assert s.plot().lines
    assert "largest residual" in repr(s)
    assert f"errors 0, {s.eigenvalue_errors[1]:.2g}" in repr(s)
    bare = Spectrum(s.eigenvalues, s.right, s.left, s.residuals, s.grid)
    assert np.isnan(bare.eigenvalue_errors).all() and "errors" not in repr(bare)
    fpsolve.save(tmp_path / "bare.h5", bare)
    assert fpsolve.load(tmp_path / "bare.h5") == bare
    with pytest.raises(ValueError, match="eigenvalue_errors"):
        Spectrum(s.eigenvalues, s.right, s.left, s.residuals, s.grid, eigenvalue_errors=[0.0])
    with pytest.raises(ValueError, match="modes 0"):
        s.right_field(3)
    with pytest.raises(ValueError, match="part must be"):
        s.right_field(0, "phase")
    with pytest.raises(ValueError, match="right must have shape"):
        Spectrum([0.0], np.ones((2, 100)), np.ones((1, 100)), [0.0], s.grid)
    for k in (0, 26, 2.5, True):
        with pytest.raises(ValueError, match="k must be"):
            FokkerPlanck(QUADRATIC, Grid((-7, 7, 100))).spectrum(k)


def test_rates_as_estimates_and_modes_that_coarse_cells_do_not_have():
    fp = FokkerPlanck(QUADRATIC, Grid((-7, 7, 200)))
    rates = fp.estimate(lambda f: f.spectrum(4).rates, confirm=True, unit="1/time")
    for k, rate in enumerate(rates[1:], 1):
        assert rate.failed == () and rate.unit == "1/time"
        # of the change from half as many cells, what the orders from 1.7 on leave open after extrapolation
        open_part = (1 / (2**1.7 - 1) - 1 / 3) * fp.spectrum(4).eigenvalue_errors[k]
        assert abs(rate.value - k) <= rate.discretization_error < 1.01 * open_part
    few = FokkerPlanck(QUADRATIC, Grid((-7, 7, 24))).spectrum(6)  # three modes on twelve cells
    assert np.isfinite(few.eigenvalue_errors[:3]).all() and np.isinf(few.eigenvalue_errors[3:]).all()


@pytest.mark.parametrize("boundary", ["reflecting", "absorbing", "periodic"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 12, 31, 33])
def test_few_cells_have_few_modes(n, boundary):
    """Against all eigenvalues of the dense matrix."""
    fp = FokkerPlanck(Process.from_drift("sin(x)", Noise.isotropic(0.6)), Grid((-np.pi, np.pi, n), boundary=boundary))
    exact = la.eigvals(fp.generator.toarray())
    for k in range(1, max(1, n // 4) + 1):
        found = fp.spectrum(k).eigenvalues
        np.testing.assert_allclose(np.sort(found.real), np.sort(exact.real)[::-1][: found.size][::-1], atol=1e-9)


# ---- expectations -------------------------------------------------------------------------------------------------------


def test_second_moments_forward_and_backward():
    """E x^2 = (m^2 + s) exp(-2t) + 1 - exp(-2t) for the Ornstein-Uhlenbeck process, from a Gaussian and from a point."""
    t, forward, back = 0.4, [], []
    for n in (80, 160, 320):
        fp = FokkerPlanck(QUADRATIC, Grid((-8, 8, n)))
        f = lambda x: x[:, 0] ** 2  # noqa: E731
        value = fp.expectation(f, t, ("gaussian", [1.5], [[0.3]]))
        exact = (1.5**2 + 0.3) * np.exp(-2 * t) + 1 - np.exp(-2 * t)
        forward.append(abs(value.value - exact))
        assert forward[-1] < 2 * value.discretization_error
        u = fp.backward(f, t)
        x = fp.grid.centers[0]
        near = np.abs(x) < 4
        back.append(np.abs(u.values - (x**2 * np.exp(-2 * t) + 1 - np.exp(-2 * t)))[near].max())
    assert np.all(orders(forward) >= 1.9), forward
    assert np.all(orders(back) >= 1.9), back
    assert isinstance(value, Estimate)
    assert isinstance(u, Field)


@pytest.mark.parametrize("boundary", ["reflecting", ["absorbing", "reflecting"], "periodic"])
def test_forward_and_backward_are_adjoint(boundary):
    """sum f_i m_i(t) = sum u_i(t) m_i(0) on an irreversible chain: two solvers of one number."""
    process = Process.ornstein_uhlenbeck(A, Noise.constant([[1.0, 0.3], [0.3, 0.5]]))
    fp = FokkerPlanck(process, Grid((-3, 3, 36), (-3, 3, 30), boundary=boundary))
    rho = fp.evolve(("gaussian", [1.0, -0.5], 0.3 * np.eye(2)), 0.0)
    f = lambda x: np.sin(x[:, 0]) * x[:, 1] - 0.3  # noqa: E731
    for t in (0.01, 2.0):
        direct = float(np.sum(fp.expectation(f, t, rho).value))
        u = fp.backward(f, t)
        assert abs(direct - np.sum(u.values * rho.cell_mass)) < 1e-7


def test_backward_of_a_constant_and_of_an_indicator():
    fp = FokkerPlanck(QUADRATIC, Grid((-6, 6, 300)))
    np.testing.assert_allclose(fp.backward(np.ones(300), 3.0).values, 1.0, rtol=1e-10)
    from scipy.stats import norm

    u = fp.backward(lambda x: (x[:, 0] > 0).astype(float), 0.5)
    x = fp.grid.centers[0]
    near = np.abs(x) < 3
    exact = norm.cdf(x * np.exp(-0.5) / np.sqrt(1 - np.exp(-1.0)))
    assert np.abs(u.values - exact)[near].max() < 1e-3


def test_backward_evolve_against_a_dense_exponential():
    rng = np.random.default_rng(2)
    n = 40
    Q = rng.random((n, n)) * (rng.random((n, n)) < 0.3) * 30.0
    np.fill_diagonal(Q, 0.0)
    kill, f = rng.random(n), rng.normal(size=n)
    G = Q - np.diag(Q.sum(axis=1) + kill)
    for t in (0.01, 0.5, 20.0):
        u, info = _transient.backward_evolve(sp.csr_matrix(Q), kill, f, t, rtol=1e-9)
        assert np.abs(u - la.expm(t * G) @ f).max() < 1e-8 * np.abs(f).sum(), info


def test_several_times_and_observables():
    fp = FokkerPlanck(QUADRATIC, Grid((-8, 8, 200)))
    x = fp.grid.centers[0]
    start = fp.evolve(("gaussian", [1.0], [[0.5]]), 0.0)
    several = fp.expectation(x, [0.5, 1.0], start)
    assert [round(e.value, 3) for e in several] == pytest.approx(np.exp([-0.5, -1.0]), abs=2e-3)
    field = fp.expectation(Field(x, fp.grid), 1.0, start.values)
    assert field.value == pytest.approx(several[1].value, rel=1e-7)
    assert field.discretization_error == pytest.approx(several[1].discretization_error, rel=1e-3)
    assert isinstance(start, Density)


def test_refusals():
    fp = FokkerPlanck(QUADRATIC, Grid((-8, 8, 20)))
    with pytest.raises(ValueError, match="t must be"):
        fp.backward(np.ones(20), -1.0)
    with pytest.raises(ValueError, match="rtol"):
        fp.backward(np.ones(20), 1.0, rtol=2.0)
    with pytest.raises(ValueError, match="f must be callable or have the shape"):
        fp.backward(np.ones(19), 1.0)
    with pytest.raises(ValueError, match="f must return 20 values"):
        fp.backward(lambda x: x, 1.0)
    with pytest.raises(ValueError, match=r"f is not finite at x = \[-7\.6\]"):
        fp.backward(lambda x: np.where(x[:, 0] < 0, np.nan, 1.0), 1.0)
    with pytest.raises(TypeError, match=r"f is text, 'x\*\*2'"):
        fp.expectation("x**2", 1.0, ("gaussian", [0.0], [[1.0]]))
    with pytest.raises(TypeError, match="rho0 is text, 'gaussian'"):
        fp.evolve("gaussian", 1.0)
    with pytest.raises(ValueError, match="f lives on"):
        fp.expectation(Field(np.ones(4), Grid((0, 1, 4))), 1.0, ("gaussian", [0.0], [[1.0]]))


def test_eigenfunctions_are_finite_where_the_density_has_negative_parts():
    right = np.array([[1.0], [0.2], [0.1]], complex)
    values, r, left = _spectral._tidy(np.array([-1.0 + 0j]), right.copy(), right.copy(), np.array([-0.5, 0.7, 0.8]))
    assert np.isfinite(r).all() and np.isfinite(left).all() and float(np.real(r.T @ left)[0, 0]) == pytest.approx(1.05)


@pytest.mark.parametrize("scheme", ["monotone", "high-order"])
def test_progress_counts_solves_on_a_terminal_and_is_silent_elsewhere(scheme, updates, capsys):
    """The bar of tqdm gets one update per solve; without a terminal nothing is printed; the answer is the same."""
    fp = FokkerPlanck(Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0)), Grid((-6, 6, 100)), scheme)
    plain = fp.spectrum(3)
    assert not updates
    shown = fp.spectrum(3, progress=True)
    assert len(updates) > 20 and np.array_equal(shown.eigenvalues, plain.eigenvalues)
    assert capsys.readouterr().err == ""
