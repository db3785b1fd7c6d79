"""The Fokker-Planck engine against closed forms, quadrature and series: measured orders, guarantees on random input."""

import numpy as np
import pytest
import scipy.linalg as la
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.sparse.csgraph import connected_components

from fpsolve._kernels import selling, stencil
from fpsolve._refine import richardson
from fpsolve.chains import SGDChain
from fpsolve.fokker_planck import FokkerPlanck, _gaussian_mass
from fpsolve.grid import Grid, Region
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process
from fpsolve.results import Density, DensitySeries, Estimate, Field

A = np.array([[1.0, 0.6], [-0.3, 0.8]])


def tensor(condition, angle):
    c, s = np.cos(angle), np.sin(angle)
    R = np.array([[c, -s], [s, c]])
    return R @ np.diag([1.0, 1.0 / condition]) @ R.T


def ou(condition=4.0):
    return Process.ornstein_uhlenbeck(A, Noise.constant(tensor(condition, 0.5)))


def gaussian(points, mean, cov):
    y = points - mean
    norm = np.sqrt(la.det(2 * np.pi * np.atleast_2d(cov)))
    return np.exp(-0.5 * np.einsum("ni,ij,nj->n", y, la.inv(np.atleast_2d(cov)), y)) / norm


def l1(density, exact):
    return float(np.sum(np.abs(density.values.ravel() - exact) * density.grid.cell_volumes.ravel()))


def orders(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def moments(fp, cells):
    """Drift (m, d) and second moment (m, d, d) of the jumps out of some cells."""
    Q, x = fp.generator, fp.grid.points()
    first, second = [], []
    for i in cells:
        row = slice(Q.indptr[i], Q.indptr[i + 1])
        jump, rate = x[Q.indices[row]] - x[i], Q.data[row]
        first.append(rate @ jump)
        second.append(np.einsum("k,ki,kj->ij", rate, jump, jump))
    return np.array(first), np.array(second)


class Stand:
    """A process given by its fields alone: no closed forms to lean on."""

    def __init__(self, dim, drift, diffusion, divergence=None, log_density=None):
        self.dim, self.drift, self.diffusion = dim, drift, diffusion
        self.divergence = divergence or (lambda x: np.zeros(x.shape))
        self.log_density = log_density or (lambda x: None)

    def check_derivatives(self, x):
        """Its fields are given, none is differentiated."""


# ---- decomposition ------------------------------------------------------------------------------------------------------


def decompose(D, h=(1.0, 1.0), cap=10**4):
    """Weights and offsets of one cell of a huge periodic grid."""
    offsets, weights = np.zeros((1, 3, 2), np.int64), np.zeros((1, 3))
    clipped, free = np.zeros(1), np.zeros(1)
    periodic = np.full((2, 2), 2, np.int64)
    selling.decompose(D[None], np.array([h]), np.array([10**5, 10**5]), periodic, cap, offsets, weights, clipped, free)
    return offsets[0], weights[0], clipped[0]


@settings(max_examples=300)
@given(st.floats(0.0, 4.0), st.floats(0.0, np.pi), st.floats(0.2, 5.0), st.floats(-6.0, 6.0))
def test_selling_weights_are_nonnegative_and_reproduce_the_tensor(log_condition, angle, stretch, log_size):
    D = 10.0**log_size * tensor(10.0**log_condition, angle)
    D = 0.5 * (D + D.T)
    h = np.array([1.0, stretch])
    offsets, weights, clipped = decompose(D, h)
    assert np.all(weights >= 0.0)
    assert clipped == 0.0
    e = offsets * h
    np.testing.assert_allclose(np.einsum("k,ki,kj->ij", weights, e, e), D, rtol=0, atol=1e-12 * np.abs(D).max())


@settings(max_examples=100)
@given(st.floats(0.0, 4.0), st.floats(0.0, np.pi), st.integers(1, 16))
def test_capped_offsets_only_add_diffusion(log_condition, angle, cap):
    D = tensor(10.0**log_condition, angle)
    D = 0.5 * (D + D.T)
    offsets, weights, clipped = decompose(D, cap=cap)
    assert np.abs(offsets).max() <= cap
    assert np.all(weights >= 0.0)
    added = np.linalg.eigvalsh(np.einsum("k,ki,kj->ij", weights, offsets, offsets) - D)
    assert added[0] >= -1e-12
    np.testing.assert_allclose(added[-1], clipped, atol=1e-12)


def smoothed(D, scale=1.0):
    """Smooth weights (n, 4) and offsets of tensors (n, 2, 2), each on its own on a huge periodic grid."""
    n, shape, periodic = len(D), np.array([10**5, 10**5]), np.full((2, 2), 2, np.int64)
    offsets, weights = np.zeros((n, 4, 2), np.int64), np.zeros((n, 4))
    three, w = np.zeros((n, 3, 2), np.int64), np.zeros((n, 3))
    selling.decompose(D, np.ones((n, 2)), shape, periodic, 10**4, three, w, np.zeros(n), np.zeros(n))
    offsets[:, :3], weights[:, :3] = three, w
    selling.smooth_switches(shape, periodic, 10**4, scale, offsets, weights)
    return offsets, weights


@settings(max_examples=200)
@given(st.floats(0.0, 4.0), st.floats(0.0, np.pi), st.floats(-6.0, 6.0), st.floats(1e-6, 1.0))
def test_smooth_weights_are_nonnegative_and_reproduce_the_tensor(log_condition, angle, log_size, scale):
    D = 10.0**log_size * tensor(10.0**log_condition, angle)
    D = 0.5 * (D + D.T)
    offsets, weights = smoothed(D[None], scale)
    assert np.all(weights >= 0.0)
    np.testing.assert_allclose(
        np.einsum("k,ki,kj->ij", weights[0], offsets[0], offsets[0]), D, rtol=0, atol=1e-12 * np.abs(D).max()
    )


@pytest.mark.parametrize("condition", [3.0, 30.0, 300.0])
def test_smooth_weights_are_twice_differentiable(condition):
    """Along a full turn of the tensor: second differences over the squared step stay, where those of Selling's weights double."""

    def largest(steps, smooth):
        angle = np.linspace(0.0, np.pi, steps + 1)[:-1]
        D = np.stack([tensor(condition, v) for v in angle])
        D = 0.5 * (D + D.transpose(0, 2, 1))
        offsets, weights = smoothed(D) if smooth else smoothed(D, 1e-300)
        weight = {}
        for k in range(4):
            for i in np.flatnonzero(weights[:, k] > 0.0):
                weight.setdefault(tuple(offsets[i, k]), np.zeros(steps))[i] += weights[i, k]
        bend = [np.abs(np.roll(w, 1) - 2 * w + np.roll(w, -1)).max() for w in weight.values()]
        return max(bend) * (steps / np.pi) ** 2

    fine, finer = largest(5_000, True), largest(10_000, True)
    assert 0.98 < finer / fine < 1.02
    assert largest(10_000, False) / largest(5_000, False) > 1.7


def test_one_set_of_offsets_is_left_alone():
    """Isotropic, diagonal and constant tensors, and those that stay on one side of a switch: three offsets per cell, or two."""
    square = Grid((-1, 1, 20), (-1, 1, 20))

    def used(entries):
        noise = Noise.from_expression(entries, variables="x y")
        return FokkerPlanck(Process(Potential.from_expression("x**2 + y**2", "x y"), noise), square)._stencil

    for entries in ([["1 + x**2", "0"], ["0", "1 + x**2"]], [["1 + x**2", "0"], ["0", "2 + sin(y)"]]):
        stencil_of = used(entries)
        assert np.all(np.abs(stencil_of.offsets[stencil_of.weights > 0.0]).sum(axis=1) == 1)  # the axes
    for entries in ([["1", "0.4"], ["0.4", "0.3"]], [["1 + x**2", "0.3 + 0.2*sin(y)"], ["0.3 + 0.2*sin(y)", "1"]]):
        assert used(entries).weights.shape[1] == 3
    assert used([["1", "0.3*x"], ["0.3*x", "1"]]).weights.shape[1] == 4


@pytest.mark.parametrize(("entry", "size"), [("e", 1.0), ("-e", 1.0), ("e*sin(3*x + y)", 0.01)])
def test_a_small_mixed_term_changes_little(entry, size):
    """Stationary densities move by O(D_xy), where the split of the drift is limited, and where D_xy changes its sign."""
    noise = Noise.from_expression([["0.02", entry], [entry, "0.05"]], variables="x y", params={"e": 0.0})
    process = Process.from_drift(["s*(-x + 2*y)", "s*(-y - 2*x + sin(x))"], noise, variables="x y", params={"s": size})
    mass = {}
    for e in (0.0, 1e-14, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6):
        fp = FokkerPlanck(process.with_params(e=e), Grid((-2, 2, 24), (-2, 2, 24)))
        assert (np.abs(fp._stencil.rest).max() > 0.0) == (size == 1.0)  # the split is limited somewhere
        mass[e] = fp.stationary().cell_mass
        # relative to the smaller diagonal entry, times what an edge that is less than 1/20 of D is heard more than its part
        assert np.abs(mass[e] - mass[0.0]).sum() <= 20 * e / 0.02 + 1e-11, e
    assert np.abs(mass[1e-6] - mass[0.0]).sum() > 1e-9  # the term is there


def test_a_rounded_mixed_term_changes_nothing():
    """D_xy tends to zero: the same split of the drift to O(D_xy), for D_xy of 1e-16 (rounding) to 1e-6."""
    rng = np.random.default_rng(0)
    periodic, shape, m = np.full((2, 2), 2, np.int64), np.array([10**5, 10**5]), 5000
    a, c = 10 ** rng.uniform(-2, 2, (2, m))
    g, u = (rng.normal(size=(m, 2)) * 10 ** rng.uniform(-1, 1.5, (m, 1)) for _ in range(2))

    def rest(b):
        offsets, weights, free = np.zeros((m, 3, 2), np.int64), np.zeros((m, 3)), np.zeros((m, 2))
        D = np.array([[a, b], [b, c]]).transpose(2, 0, 1).copy()
        selling.decompose(D, np.ones((m, 2)), shape, periodic, 16, offsets, weights, np.zeros(m), np.zeros(m))
        out = np.zeros((m, 2))
        stencil.edge_drift(u, g, offsets, weights, free, np.ones((m, 3)), out)
        return out

    straight = rest(np.zeros(m))
    assert np.abs(straight).max() > 0.0  # the split is put to the test
    for tiny in 10.0 ** np.arange(-17, -5):
        for sign in (-1.0, 1.0):
            # an edge that is the part t of D has a say of t/SMALL_PART = 20 t; t is below 2 tiny
            left = rest(sign * tiny * np.minimum(a, c)) - straight
            assert np.abs(left).max() <= (1e-12 + 100 * tiny) * np.abs(u).max(), (tiny, np.abs(left).max())


@given(st.floats(-700, 700))
def test_bernoulli(z):
    import mpmath

    exact = mpmath.mpf(z) / mpmath.expm1(z) if z else mpmath.mpf(1)
    assert abs(stencil.bernoulli(z) / exact - 1) < 1e-13


# ---- generator ----------------------------------------------------------------------------------------------------------


def random_field(seed, log_condition, n=24):
    """Smooth random tensor and drift fields with the given condition number at every point."""
    rng = np.random.default_rng(seed)
    a, b, c, d = rng.normal(size=(4, 2))
    size = 10.0 ** rng.uniform(-2, 2)

    def diffusion(x):
        angle = 3.0 * np.sin(x @ a) + x @ b
        u = np.stack([np.cos(angle), np.sin(angle)], -1)
        v = np.stack([-np.sin(angle), np.cos(angle)], -1)
        out = u[..., :, None] * u[..., None, :] + 10.0**-log_condition * v[..., :, None] * v[..., None, :]
        return 0.5 * (out + np.swapaxes(out, -1, -2))

    def drift(x):
        return size * np.stack([np.sin(x @ c), np.cos(x @ d)], -1)

    return Stand(2, drift, diffusion)


SIDES = st.sampled_from(["reflecting", "absorbing", "periodic", ("reflecting", "absorbing")])


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.0, 4.0), SIDES, SIDES)
def test_generator_is_a_connected_markov_generator(seed, log_condition, first, second):
    grid = Grid((-1.0, 1.0, 24), (-1.5, 1.0, 19), boundary=[first, second])
    fp = FokkerPlanck(random_field(seed, log_condition), grid)
    Q = fp.generator
    off = Q.tocoo()
    rates = off.data[off.row != off.col]
    assert np.all(rates >= 0.0)
    assert np.all(np.isfinite(rates))
    scale = np.abs(Q.diagonal())
    np.testing.assert_allclose(np.asarray(Q.sum(axis=1)).ravel() + fp.kill, 0.0, atol=1e-12 * scale.max())
    assert connected_components(Q, connection="strong")[0] == 1
    assert np.any(fp.kill > 0) == any("absorbing" in pair for pair in grid.boundary)


def test_no_isolated_cell_at_walls_with_wide_offsets():
    fp = FokkerPlanck(ou(1000.0), Grid((-5, 5, 40), (-5, 5, 40)))
    assert np.abs(fp._stencil.offsets).max() > 4  # else the test shows nothing
    assert connected_components(fp.generator, connection="strong")[0] == 1
    # what the shorter edges add is recorded at the walls and nothing is added by them inside
    clipped = fp._stencil.clipped.reshape(40, 40)
    assert clipped[0].max() > 0.0
    assert clipped[16:24, 16:24].max() == 0.0


def all_moments(Q, x):
    """Drift (n, 2) and second moments 00, 01, 11 (n, 3) of the jumps out of every cell."""
    Q = Q.tocoo()
    jump, n = x[Q.col] - x[Q.row], len(x)
    first = [np.bincount(Q.row, Q.data * jump[:, k], n) for k in range(2)]
    second = [np.bincount(Q.row, Q.data * jump[:, a] * jump[:, b], n) for a, b in ((0, 0), (0, 1), (1, 1))]
    return np.stack(first, 1), np.stack(second, 1)


def moment_errors(Q, process, grid, cells):
    """Largest error of drift and second moments over some cells, and largest integral of it with a smooth function over all cells.

    Everything is weighted by a smooth window that vanishes at abs(x_k) = 1.5: the walls of the box (at 2) do not matter, and no
    outermost cell moves as the cells shrink.
    """
    x = grid.points()
    window = np.prod(np.maximum(0.0, 1.0 - (x / 1.5) ** 2) ** 3, axis=1)
    first, second = all_moments(Q, x)
    D = process.diffusion(x)
    out = []
    for error in (first - process.drift(x), second - 2.0 * np.stack([D[:, 0, 0], D[:, 0, 1], D[:, 1, 1]], 1)):
        weighted = error * window[:, None]
        trials = np.stack([np.ones(len(x)), np.sin(2 * x[:, 0] + x[:, 1]), np.cos(x[:, 0] - 2 * x[:, 1])])
        weak = np.abs(trials @ weighted * grid.cell_volumes.ravel()[0]).max()
        out.append([np.abs(weighted[cells]).max(), weak])
    return np.array(out)  # (drift, second moments) x (largest, weak)


def general_process():
    def diffusion(x):
        a, c = 1.0 + 0.3 * np.sin(x[..., 0]), 0.5 + 0.2 * np.cos(x[..., 1])
        b = 0.3 + 0.1 * np.sin(x[..., 0] + x[..., 1])
        return np.stack([np.stack([a, b], -1), np.stack([b, c], -1)], -2)

    def divergence(x):
        mixed = 0.1 * np.cos(x[..., 0] + x[..., 1])
        return np.stack([0.3 * np.cos(x[..., 0]) + mixed, mixed - 0.2 * np.sin(x[..., 1])], -1)

    def drift(x):
        return np.stack([x[..., 1] - x[..., 0], -np.sin(x[..., 0]) - 0.5 * x[..., 1]], -1)

    return Stand(2, drift, diffusion, divergence)


def reversible_process():
    Phi = Potential.from_expression("x**2/2 + y**2 + x*y/2 + sin(x)", variables="x y")
    noise = Noise.from_expression([["1.2 + 0.4*sin(x)", "0.3*cos(y)"], ["0.3*cos(y)", "0.8 + 0.3*cos(x)"]], variables="x y")
    return Process.reversible(Phi, noise)


def stratonovich_process():
    """D_xy changes its sign inside, where the offset (1, 1) gives way to (1, -1)."""
    factor = Noise.from_factor([["1 + 0.2*sin(x)", "0.3*cos(x + y)"], ["0.2*sin(y)", "0.9 + 0.2*cos(y)"]], variables="x y")
    return Process(Potential.from_expression("x**2/2 + y**2/2 + x*y/4", variables="x y"), factor, "stratonovich")


@pytest.mark.parametrize("make", [general_process, reversible_process, stratonovich_process])
def test_moments_are_consistent_under_refinement(make):
    """Sums of Q_ij (x_j - x_i) and Q_ij (x_j - x_i)(x_j - x_i)^T tend to b and 2 D, off-diagonal included, to second order.

    In every cell, those beside which the decomposition switches its offsets too, and weakly (integrated with smooth functions).
    """
    process, errors = make(), []
    for n in (60, 120, 240):
        fp = FokkerPlanck(process, Grid((-2, 2, n), (-2, 2, n)))
        errors.append(moment_errors(fp.generator, process, fp.grid, np.ones(fp.grid.size, bool)))
    errors = np.array(errors)
    measured = np.log2(errors[:-1] / errors[1:])
    assert np.all(measured >= 1.9), (measured, errors)
    assert np.all(errors[-1] < 1e-3), errors[-1]


def five_point_upwind(process, grid):
    """The usual positive scheme: upwind drift, D_xx and D_yy, no mixed term."""
    x, (h0, h1) = grid.points(), (grid.widths[0][0], grid.widths[1][0])
    D, b, index = process.diffusion(x), process.drift(x), np.arange(grid.size).reshape(grid.shape)
    rows, cols, rates = [], [], []
    for axis, h in enumerate((h0, h1)):
        for sign in (1, -1):
            rate = D[:, axis, axis] / h**2 + np.maximum(sign * b[:, axis], 0.0) / h
            there = np.roll(index, -sign, axis).ravel()
            inside = np.abs(x[there, axis] - x[:, axis]) < 1.5 * h
            rows.append(index.ravel()[inside])
            cols.append(there[inside])
            rates.append(rate[inside])
    return sp.csr_matrix((np.concatenate(rates), (np.concatenate(rows), np.concatenate(cols))), shape=(grid.size, grid.size))


@pytest.mark.parametrize("make", [general_process, reversible_process, stratonovich_process])
def test_a_scheme_that_drops_the_mixed_term_fails_the_check_of_moments(make):
    process, errors = make(), []
    for n in (60, 120):
        grid = Grid((-2, 2, n), (-2, 2, n))
        errors.append(moment_errors(five_point_upwind(process, grid), process, grid, np.ones(grid.size, bool)))
    drift, second = np.swapaxes(np.array(errors), 0, 1)
    assert np.all(drift < 1e-12)  # upwind rates have the right mean jump
    assert np.all(second[1] > 0.05)
    assert np.all(np.log2(second[0] / second[1]) < 0.5)


@pytest.mark.parametrize("boundary", ["reflecting", "periodic"])
def test_detailed_balance_on_every_edge(boundary):
    Phi = Potential.from_expression("3*cos(x) + 2*sin(y)*cos(x)", variables="x y")
    noise = Noise.from_expression([["1.2 + sin(x)", "0.3*cos(y)"], ["0.3*cos(y)", "0.8 + 0.4*cos(x)"]], variables="x y")
    process = Process.reversible(Phi, noise)
    fp = FokkerPlanck(process, Grid((0, 2 * np.pi, 30), (0, 2 * np.pi, 36), boundary=boundary))
    pi = np.exp(-Phi(fp.grid.points()))
    flow = fp.generator.tocoo()
    forward = pi[flow.row] * flow.data
    back = fp.generator.T.tocsr()[flow.row, flow.col].A1 * pi[flow.col]
    np.testing.assert_allclose(forward, back, rtol=1e-12)
    p = fp.stationary()
    np.testing.assert_allclose(p.cell_mass.ravel(), pi / pi.sum(), rtol=1e-11)


def test_boltzmann_for_constant_isotropic_noise_at_a_high_barrier():
    U = Potential.from_expression("(x**2 - 1)**2 + 0.2*x")
    fp = FokkerPlanck(Process(U, Noise.isotropic(0.005)), Grid((-2, 2, 400)))
    p = fp.stationary()
    exact = np.exp(-(U(fp.grid.points()) - U(fp.grid.points()).min()) / 0.005)
    exact /= exact.sum()
    keep = exact > 1e-250
    np.testing.assert_allclose(p.cell_mass[keep], exact[keep], rtol=1e-10)


def test_assembly_does_not_need_a_positive_definite_tensor():
    """Noise along one diagonal only, and none at all: rates stay nonnegative and the drift is upwind."""
    one = Stand(2, lambda x: np.stack([x[..., 1], -x[..., 0] - x[..., 1]], -1),
                lambda x: np.broadcast_to(np.array([[0.0, 0.0], [0.0, 0.3]]), (*x.shape[:-1], 2, 2)))  # fmt: skip
    none = Stand(2, one.drift, lambda x: np.zeros((*x.shape[:-1], 2, 2)))
    for process in (one, none):
        fp = FokkerPlanck(process, Grid((-3, 3, 31), (-3, 3, 31)))
        off = fp.generator.tocoo()
        assert np.all(off.data[off.row != off.col] >= 0.0)
        x = fp.grid.points()
        cells = np.flatnonzero(np.all(np.abs(x) < 2.0, axis=1))
        first, _ = moments(fp, cells)
        assert np.abs(first - one.drift(x[cells])).max() < 0.2
        assert fp.added_diffusion.max() <= 0.5 * 3.0 * (6 / 31) * 2.01


# ---- stationary ---------------------------------------------------------------------------------------------------------


def test_order_of_the_stationary_density_of_an_irreversible_process():
    process, errors = ou(4.0), []
    S = la.solve_continuous_lyapunov(A, 2 * tensor(4.0, 0.5))
    for n in (48, 96, 192):
        p = FokkerPlanck(process, Grid((-5, 5, n), (-5, 5, n))).stationary()
        assert p.values.min() >= 0.0
        assert abs(p.mass - 1.0) < 1e-12
        errors.append(l1(p, gaussian(p.grid.points(), np.zeros(2), S)))
    assert np.all(orders(errors) >= 1.9), errors
    assert errors[-1] < 1e-4


@pytest.mark.slow
def test_strongly_anisotropic_noise_of_an_irreversible_process():
    S = la.solve_continuous_lyapunov(A, 2 * tensor(100.0, 0.5))
    p = FokkerPlanck(ou(100.0), Grid((-5, 5, 192), (-5, 5, 192))).stationary()
    assert l1(p, gaussian(p.grid.points(), np.zeros(2), S)) < 2e-3


@pytest.mark.slow
def test_condition_number_1000_to_768_cells():
    """The order is reached late (cells must resolve D^-1 b), and the change from half as many cells bounds the error at every size.

    On 384^2 to 768^2 cells the error still falls faster than h^2. The last step takes minutes and 9 GB.
    """
    S = la.solve_continuous_lyapunov(A, 2 * tensor(1000.0, 0.5))
    errors, mass, variance = [], None, []
    for n in (48, 96, 192, 384, 768):
        fp = FokkerPlanck(ou(1000.0), Grid((-5, 5, n), (-5, 5, n)))
        p = fp.stationary()
        errors.append(l1(p, gaussian(p.grid.points(), np.zeros(2), S)))
        variance.append(p.covariance()[0, 0])
        if mass is not None:
            change = np.abs(p.cell_mass.reshape(n // 2, 2, n // 2, 2).sum(axis=(1, 3)) - mass).sum()
            assert change > errors[-1], (n, change, errors[-1])
            assert abs(variance[-1] - variance[-2]) > abs(variance[-1] - S[0, 0]), (n, variance)
        if len(variance) > 2:  # what `estimate(confirm=True)` reports
            reported = richardson([Estimate(v) for v in variance[:-4:-1]], 2.0)
            assert abs(reported.value - S[0, 0]) < reported.discretization_error, (n, variance)
        mass = p.cell_mass
    assert np.all(np.diff(errors) < 0.0), errors
    assert orders(errors)[-1] >= 1.9, errors
    assert errors[-1] < 3e-3, errors


def curl_process(condition, scale=1.0):
    """Density exp(-Phi), Phi = x^4/4 + y^2/2 + xy/4, with the divergence-free current J (rho p)' of a varying rho(x)."""
    D = tensor(condition, 0.5)

    def grad(x):
        return np.stack([x[..., 0] ** 3 + 0.25 * x[..., 1], x[..., 1] + 0.25 * x[..., 0]], -1)

    def drift(x):
        g, rho, slope = grad(x), 0.5 + 0.3 * np.sin(2 * x[..., 0]), 0.6 * np.cos(2 * x[..., 0])
        return -g @ D + scale * np.stack([-rho * g[..., 1], rho * g[..., 0] - slope], -1)

    process = Stand(2, drift, lambda x: np.broadcast_to(D, (*x.shape[:-1], 2, 2)))
    return process, lambda x: np.exp(-(x[..., 0] ** 4) / 4 - x[..., 1] ** 2 / 2 - 0.25 * x[..., 0] * x[..., 1])


@pytest.mark.parametrize(("condition", "limit"), [(1.0, 1e-3), (4.0, 1e-3), (20.0, 5e-3)])
def test_order_with_a_nonlinear_drift_that_is_no_gradient(condition, limit):
    process, density = curl_process(condition)
    errors = []
    for n in (48, 96, 192):
        grid = Grid((-3, 3, n), (-6, 6, n))
        exact = density(grid.points())
        p = FokkerPlanck(process, grid).stationary()
        errors.append(l1(p, exact / (exact.sum() * grid.cell_volumes[0, 0])))
    assert orders(errors).mean() >= 1.9, errors
    assert errors[-1] < limit, errors


def test_multiplicative_noise_in_one_dimension_in_ito_sense():
    """Ito density with drift b and D(x): p = exp(int b/D)/D, here b = -x, D = 1 + x^2, so p ~ (1 + x^2)^(-3/2)."""
    process = Process.from_drift("-x", Noise.from_expression("1 + x**2"))
    errors = []
    for n in (100, 200, 400):
        p = FokkerPlanck(process, Grid((-4, 4, n))).stationary()
        exact = (1 + p.grid.centers[0] ** 2) ** -1.5
        errors.append(l1(p, exact / integrate.quad(lambda x: (1 + x * x) ** -1.5, -4, 4)[0]))
    assert np.all(orders(errors) >= 1.9), errors


def test_tilted_washboard_on_a_circle():
    """Periodic drift f - U': p(x) ~ exp(-V/D) int_x^{x+L} exp(V/D), V = U - f x, by quadrature."""
    D, f = 0.3, 0.7
    process = Process.from_drift("f + 0.8*sin(x)", Noise.isotropic(D), params={"f": f})
    errors = []
    for n in (32, 64, 128):
        p = FokkerPlanck(process, Grid((0, 2 * np.pi, n), boundary="periodic")).stationary()

        def V(x):
            return 0.8 * np.cos(x) - f * x

        def inner(x):
            return integrate.quad(lambda y: np.exp((V(y) - V(x)) / D), x, x + 2 * np.pi, epsabs=1e-13)[0]

        norm = integrate.quad(inner, 0, 2 * np.pi, epsabs=1e-11)[0]
        errors.append(l1(p, np.array([inner(x) for x in p.grid.centers[0]]) / norm))
    assert np.all(orders(errors) >= 1.9), errors
    assert errors[-1] < 1e-3


def test_constant_drift_on_a_torus_leaves_the_uniform_density():
    process = Process.from_drift(["1", "0.3"], Noise.constant(tensor(30.0, 0.4)), variables="x y")
    fp = FokkerPlanck(process, Grid((0, 1, 20), (0, 2, 24), boundary="periodic"))
    np.testing.assert_allclose(fp.stationary().values, 0.5, rtol=1e-10)


def test_stationary_warnings_and_refusals():
    flat = Process(Potential.from_expression("0*x"), Noise.isotropic(1.0))
    p = FokkerPlanck(flat, Grid((0, 1, 20))).stationary()
    assert any("reflecting low wall of axis 0 holds 5.0%" in w for w in p.warnings)
    with pytest.raises(ValueError, match="no stationary density"):
        FokkerPlanck(flat, Grid((0, 1, 20), boundary=("reflecting", "absorbing"))).stationary()
    coarse = FokkerPlanck(Process(Potential.from_expression("20*sin(10*x)"), Noise.isotropic(0.1)), Grid((0, 1, 20))).stationary()
    assert any("too coarse for the noise" in w for w in coarse.warnings)


def test_a_wrong_answer_on_a_coarse_grid_is_not_silent():
    """At condition number 1000 these cells are far too wide (L1 error about 0.5); where they resolve, nothing is said."""
    coarse = FokkerPlanck(ou(1000.0), Grid((-5, 5, 64), (-5, 5, 64))).stationary()
    assert any("too coarse for the noise" in w for w in coarse.warnings)
    assert FokkerPlanck(ou(4.0), Grid((-5, 5, 64), (-5, 5, 64))).stationary().warnings == ()


# ---- evolution ----------------------------------------------------------------------------------------------------------


def test_transient_of_the_irreversible_process():
    D, mean0, cov0, t = tensor(4.0, 0.5), np.array([1.5, -1.0]), np.diag([0.3, 0.2]), 0.7
    S = la.solve_continuous_lyapunov(A, 2 * D)
    E = la.expm(-A * t)
    exact_mean, exact_cov = E @ mean0, S + E @ (cov0 - S) @ E.T
    errors = []
    for n in (40, 80, 160):
        p = FokkerPlanck(ou(4.0), Grid((-5, 5, n), (-5, 5, n))).evolve(("gaussian", mean0, cov0), t, rtol=1e-8)
        assert abs(p.mass - 1) < 1e-12
        errors.append(l1(p, gaussian(p.grid.points(), exact_mean, exact_cov)))
    assert np.all(orders(errors) >= 1.8), errors
    assert orders(errors)[-1] >= 1.9, errors


def test_evolve_conserves_mass_and_sign():
    fp = FokkerPlanck(random_field(3, 2.0), Grid((-1, 1, 32), (-1, 1, 32)))
    rho0 = np.zeros((32, 32))
    rho0[5, 7] = 1.0 / fp.grid.cell_volumes[5, 7]
    series = fp.evolve(rho0, [0.0, 0.01, 0.1, 1.0], method="positive")
    assert isinstance(series, DensitySeries)
    np.testing.assert_allclose(series[0].values, rho0)
    for p in series:
        assert abs(p.mass - 1.0) < 1e-12
        assert p.values.min() >= 0.0
    default = fp.evolve(rho0, 0.01, rtol=1e-6)
    assert isinstance(default, Density)
    assert abs(default.mass - 1.0) < 1e-12
    assert default.negative_mass >= -1e-5
    assert np.abs(default.cell_mass - series[1].cell_mass).sum() < 1e-3


def test_initial_densities_agree():
    fp = FokkerPlanck(ou(), Grid((-5, 5, 40), (-5, 5, 40)))
    first = fp.evolve(("gaussian", [1.0, 0.0], 0.5 * np.eye(2)), 0.3)
    start = gaussian(fp.grid.points(), np.array([1.0, 0.0]), 0.5 * np.eye(2))
    tripled = fp.evolve(lambda x: 3.0 * gaussian(x, np.array([1.0, 0.0]), 0.5 * np.eye(2)), 0.3)
    np.testing.assert_allclose(tripled.values, first.values, rtol=1e-9)
    array = start.reshape(40, 40) / (start.sum() * fp.grid.cell_volumes[0, 0])
    np.testing.assert_allclose(fp.evolve(array, 0.3).values, first.values, rtol=1e-9)
    np.testing.assert_allclose(fp.evolve(Density(array, fp.grid), 0.3).values, first.values, rtol=1e-9)


def test_survival_between_absorbing_walls_against_the_series():
    """D p'' on (0, 1) from a Gaussian start: survival is a sine series; second order in the cell width."""
    D, t, m, s = 0.4, 0.15, 0.4, 0.08
    k = np.arange(1, 60, 2) * np.pi
    c = 2 * np.exp(-0.5 * (k * s) ** 2) * np.sin(k * m)  # the Gaussian's mass beyond the walls is 3e-7
    exact = np.sum(c * 2 / k * np.exp(-D * k**2 * t))
    process, errors = Process(Potential.from_expression("0*x"), Noise.isotropic(D)), []
    for n in (25, 50, 100):
        p = FokkerPlanck(process, Grid((0, 1, n), boundary="absorbing")).evolve(("gaussian", [m], [[s**2]]), t, rtol=1e-9)
        errors.append(abs(p.mass - exact))
    assert np.all(orders(errors) >= 1.9), errors


def test_absorbing_square_with_a_rotated_tensor():
    """Wide offsets cross the walls at any angle: slowest decay rate under refinement, second order."""
    process, rates = Stand(2, lambda x: np.zeros(x.shape), lambda x: np.broadcast_to(tensor(10.0, 0.5), (*x.shape[:-1], 2, 2))), []
    for n in (16, 32, 64, 128):
        fp = FokkerPlanck(process, Grid((0, 1, n), (0, 1, n), boundary="absorbing"))
        p = fp.evolve(lambda x: np.prod(np.sin(np.pi * x), axis=1), [0.5, 0.6], rtol=1e-8)
        rates.append(np.log(p[0].mass / p[1].mass) / 0.1)
    steps = np.abs(np.diff(rates))
    assert np.all(orders(steps) >= 1.7), rates


# ---- exit times ---------------------------------------------------------------------------------------------------------


def double_well_time(D):
    """(1/D) int_{-1}^{1} exp(U/D) int_{-2.5}^{y} exp(-U/D), by Gauss-Legendre panels in exact arithmetic of exponents."""
    x, w = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(-2.5, 1.0, 2101)  # -1 is an edge
    mid, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    nodes = mid[:, None] + half[:, None] * x
    U = (nodes**2 - 1) ** 2
    panel = np.sum(half[:, None] * w * np.exp(-U / D), axis=1)
    before = np.concatenate([[0.0], np.cumsum(panel)])[:-1]
    part = np.empty_like(nodes)
    for j in range(20):
        h = 0.5 * (nodes[:, j] - edges[:-1])
        inner = edges[:-1, None] + h[:, None] * (1 + x)
        part[:, j] = np.sum(h[:, None] * w * np.exp(-((inner**2 - 1) ** 2) / D), axis=1)
    outer = np.where(nodes > -1.0, np.exp((np.where(nodes > -1.0, U, 0.0) - 1) / D) * (before[:, None] + part), 0.0)
    return float(np.sum(half[:, None] * w * outer) / D * np.exp(1 / D))


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
    quadrant = _gaussian_mass(np.zeros(2), np.array([[1.0, 0.6], [0.6, 1.0]]), Grid((0, 30, 8), (0, 30, 8)))
    np.testing.assert_allclose(quadrant, 0.25 + np.arcsin(0.6) / (2 * np.pi), rtol=1e-10)
    assert _gaussian_mass(np.array([50.0, 0.0]), np.eye(2), Grid((-3, 3, 8), (-3, 3, 8))) == 0.0


# ---- bad input ----------------------------------------------------------------------------------------------------------


def flat(x):
    return np.zeros(x.shape)


def test_bad_tensors_name_the_point():
    grid = Grid((0, 1, 4), (0, 1, 4))

    def skew(x):
        D = np.broadcast_to(np.eye(2), (*x.shape[:-1], 2, 2)).copy()
        D[..., 0, 1] = np.where(x[..., 0] > 0.8, 0.5, 0.0)
        return D

    with pytest.raises(ValueError, match=r"not symmetric at x = \[0\.875"):
        FokkerPlanck(Stand(2, flat, skew), grid)

    def indefinite(x):
        D = np.broadcast_to(np.eye(2), (*x.shape[:-1], 2, 2)).copy()
        D[..., 0, 1] = D[..., 1, 0] = np.where(x[..., 1] > 0.8, 1.5, 0.0)
        return D

    with pytest.raises(ValueError, match=r"not positive semi-definite at x = .*0\.875.*eigenvalue -0\.5"):
        FokkerPlanck(Stand(2, flat, indefinite), grid)


def test_bad_fields_name_the_point():
    grid, eye = Grid((-1, 1, 4)), lambda x: np.ones((*x.shape, 1))
    with pytest.raises(ValueError, match=r"drift is not finite at the grid point x = \[-0\.75\]"):
        FokkerPlanck(Stand(1, lambda x: np.where(x < -0.5, np.nan, x), eye), grid)
    with pytest.raises(ValueError, match=r"drift has shape \(4,\)"):
        FokkerPlanck(Stand(1, lambda x: x[:, 0], eye), grid)
    with pytest.raises(ValueError, match="log density is not finite"):
        FokkerPlanck(Stand(1, flat, eye, log_density=lambda x: np.where(x[:, 0] > 0, x[:, 0], -np.inf)), grid)


def test_bad_arguments():
    process, grid = Process(Potential.from_expression("x**2"), Noise.isotropic(1.0)), Grid((-1, 1, 8))
    with pytest.raises(ValueError, match="scheme must be"):
        FokkerPlanck(process, grid, scheme="central")
    with pytest.raises(ValueError, match="process is 1-D, the grid is 2-D"):
        FokkerPlanck(process, Grid((-1, 1, 8), (-1, 1, 8)))
    with pytest.raises(TypeError, match="needs a Grid"):
        FokkerPlanck(process, (-1, 1, 8))
    with pytest.raises(TypeError, match="needs a Process"):
        FokkerPlanck(SGDChain.gaussian(process.potential, process.noise, 0.1), grid)
    with pytest.raises(ValueError, match="max_offset"):
        FokkerPlanck(process, grid, max_offset=0)
    with pytest.raises(ValueError, match="1-D and 2-D"):
        FokkerPlanck(Stand(3, flat, flat), Grid((0, 1, 2), (0, 1, 2), (0, 1, 2)))


@pytest.mark.parametrize(
    ("rho0", "match"),
    [
        (np.ones(5), r"shape \(8,\)"),
        (-np.ones(8), "finite and >= 0"),
        (np.zeros(8), "no mass"),
        (("gauss", 0.0, 1.0), "gaussian"),
        (("gaussian", [0.0, 1.0], [[1.0]]), "mean of shape"),
        (("gaussian", [0.0], [[-1.0]]), "positive definite"),
        (lambda x: x, "must return 8 values"),
        (Density(np.ones(4), Grid((0, 1, 4))), "rho0 lives on"),
    ],
)
def test_bad_initial_densities(rho0, match):
    fp = FokkerPlanck(Process(Potential.from_expression("x**2"), Noise.isotropic(1.0)), Grid((-1, 1, 8)))
    with pytest.raises(ValueError, match=match):
        fp.evolve(rho0, 1.0)


def test_bad_times_and_regions():
    fp = FokkerPlanck(Process(Potential.from_expression("x**2"), Noise.isotropic(1.0)), Grid((-1, 1, 8)))
    start = ("gaussian", [0.0], [[1.0]])
    for t in (-1.0, np.nan, [1.0, 0.5], []):
        with pytest.raises(ValueError, match="t must be"):
            fp.evolve(start, t)
    with pytest.raises(ValueError, match="rtol"):
        fp.evolve(start, 1.0, rtol=0.0)
    with pytest.raises(ValueError, match="method"):
        fp.evolve(start, 1.0, method="exact")
    with pytest.raises(ValueError, match="nothing can leave"):
        fp.mean_exit_time(Region.ball([0.0], 3.0))
    with pytest.raises(ValueError, match="no cell centre"):
        fp.mean_exit_time(Region.ball([5.0], 0.1))
    with pytest.raises(ValueError, match="not inside"):
        fp.mean_exit_time(Region.ball([0.0], 0.5), at=[0.9])
    with pytest.raises(TypeError, match="Region"):
        fp.mean_exit_time(lambda x: x)


def test_a_cap_that_matters_is_reported():
    fp = FokkerPlanck(ou(1000.0), Grid((-5, 5, 40), (-5, 5, 40)), max_offset=2)
    assert any("longest offset allowed" in w for w in fp.warnings)
    assert "warning" in repr(fp)
    assert FokkerPlanck(ou(1000.0), Grid((-5, 5, 40), (-5, 5, 40))).warnings == ()


def test_diffusion_added_where_the_mass_is_warns():
    """By the cap everywhere; by the walls only once they hold visible mass; never where offsets of one cell suffice."""

    def notes(condition, n, half, **options):
        p = FokkerPlanck(ou(condition), Grid((-half, half, n), (-half, half, n)), **options).stationary()
        return [w for w in p.warnings if "eigenvalue (see added_diffusion)" in w]

    (cap,) = notes(100.0, 48, 5, max_offset=2)
    assert "100.0% of the mass offsets capped at 2 change" in cap
    assert "raise max_offset" in cap
    (wall,) = notes(100.0, 48, 2)
    assert "next to reflecting walls" in wall
    assert "enlarge the box" in wall
    assert notes(100.0, 48, 5) == []
    assert notes(4.0, 48, 2) == []


# ---- several basins -----------------------------------------------------------------------------------------------------


def basin_notes(process, grid):
    return [w for w in FokkerPlanck(process, grid).stationary().warnings if "several basins" in w]


def double_well(D, dim=1):
    text, names = ("(x**2 - 1)**2", "x") if dim == 1 else ("(x**2 - 1)**2 + y**2", "x y")
    return Process(Potential.from_expression(text, variables=names), Noise.isotropic(D))


#: The last one is for barriers up to 50 D: cells wider than the wells, sqrt(D/8), change the barrier itself.
WELL_GRIDS = [Grid((-2, 2, 400)), Grid((-2, 2, 160)), Grid((-2, 2, 160), (-1, 1, 60)), Grid((-2, 2, 60), (-1, 1, 40))]


@pytest.mark.parametrize("grid", WELL_GRIDS, ids=repr)
@pytest.mark.parametrize("inverse", [5, 10, 25, 50, 200])
def test_basins_that_hardly_exchange_warn_with_the_time_it_takes(grid, inverse):
    """Barrier/D of 5 and 10 in silence; from 25 the relaxation time against 1/(2 k), k = sqrt(8 * 4) exp(-barrier/D)/(2 pi)."""
    notes = basin_notes(double_well(1.0 / inverse, grid.dim), grid)
    if inverse <= 10:
        assert notes == []
        return
    (text,) = notes
    if inverse > 50 and grid.shape[0] == 60:
        return
    ratio = float(text.split("times of about ")[1].split(";")[0]) * 2 * np.sqrt(32) * np.exp(-inverse) / (2 * np.pi)
    assert 0.5 < ratio < 2.0, (text, ratio)
    assert "50.0% of the mass" in text
    assert "quasi-stationary density" in text
    assert "escape rate" in text


def test_basins_beyond_the_range_of_doubles_and_three_of_them():
    for grid in (Grid((-2, 2, 400)), Grid((-2, 2, 64), (-0.5, 0.5, 24))):
        assert "more than 1e240" in basin_notes(double_well(0.001, grid.dim), grid)[0]
    three = Process(Potential.from_expression("1 + cos(3*x)"), Noise.isotropic(0.05))
    (text,) = basin_notes(three, Grid((0, 2 * np.pi, 180), boundary="periodic"))
    assert "66.7% of the mass" in text


def test_slow_is_not_several_basins():
    """Time scales apart by 1e12, a walk without drift, a steep well and strong anisotropy have no barrier."""
    slow = Process(Potential.from_expression("1e6*x**2 + 1e-6*y**2", variables="x y"), Noise.isotropic(1.0))
    assert basin_notes(slow, Grid((-0.004, 0.004, 64), (-4000, 4000, 64))) == []
    flat = Process(Potential.from_expression("0*x"), Noise.isotropic(1e-6))
    assert basin_notes(flat, Grid((0, 1, 2000))) == []
    steep = Process(Potential.from_expression("1e4*x**2"), Noise.isotropic(1.0))
    assert basin_notes(steep, Grid((-4, 4, 1000))) == []
    assert basin_notes(ou(1000.0), Grid((-5, 5, 80), (-5, 5, 80))) == []
    # a second well that holds no visible mass is none of the density's
    tilted = Process(Potential.from_expression("(x**2 - 1)**2 + 0.2*x"), Noise.isotropic(0.02))
    assert basin_notes(tilted, Grid((-2, 2, 400))) == []
