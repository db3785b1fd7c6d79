"""The generator of the Fokker-Planck engine: decomposition of the tensor, rates, moments, detailed balance."""

import numpy as np
import pytest
import scipy.sparse as sp
from compiled import entry
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from fokker_planck_cases import SIDES, Stand, moments, ou, random_field, tensor
from fpsolve._kernels import selling, stencil
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid
from fpsolve.noise import Noise
from fpsolve.potentials import Potential
from fpsolve.process import Process

bernoulli = entry(stencil.bernoulli)

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


@given(st.floats(-690, 690))
def test_bernoulli(z):
    import mpmath

    exact = mpmath.mpf(z) / mpmath.expm1(z) if z else mpmath.mpf(1)
    assert abs(bernoulli(z) / exact - 1) < 1e-13


def test_rates_do_not_underflow():
    assert bernoulli(1e6) == bernoulli(690.0) > 1e-298
    assert bernoulli(-1e6) == 1e6


# ---- generator ----------------------------------------------------------------------------------------------------------


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


def nonlinear_drift(D, noise=0.0):
    """A current over exp(-x^4/4 - y^2/2 - xy/4), each component off by at most `noise` of itself, at random."""
    rng = np.random.default_rng(5)

    def drift(p):
        x, y = p[..., 0], p[..., 1]
        force = np.stack([x**3 + y / 4, y + x / 4], -1)
        turn = (0.5 + 0.3 * np.sin(2 * x))[..., None] * np.stack([-force[..., 1], force[..., 0]], -1)
        out = turn - force @ D - np.stack([0 * x, 0.6 * np.cos(2 * x)], -1)
        return out * (1.0 + noise * rng.uniform(-1.0, 1.0, out.shape))

    return Stand(2, drift, lambda p: np.broadcast_to(D, (*p.shape[:-1], 2, 2)))


@pytest.mark.parametrize("condition", [20.0, 100.0])
def test_rounding_of_the_drift_decides_nothing(condition):
    """Corrections without room for nonnegative rates fade: 1e-14 of the drift makes no visible change of a rate."""
    D, grid = tensor(condition, 0.5), Grid((-3, 3, 48), (-6, 6, 48))
    plain, moved = (FokkerPlanck(nonlinear_drift(D, noise), grid).generator for noise in (0.0, 1e-14))
    assert abs(plain - moved).max() <= 1e-8 * abs(plain).max()


def test_rates_are_continuous_where_corrections_have_no_room():
    """Rates of single edges while the exponents of their ends change: the largest step halves with the step of the change."""

    def largest(steps, seed):
        # two rows of cells, one edge per column: cells 0 ... steps and those opposite
        start, end = np.random.default_rng(seed).normal(size=(2, 2, 4, 2, 2)) * 4.0
        now = start[:, None] + np.linspace(0.0, 1.0, steps + 1)[None, :, None, None, None] * (end - start)[:, None]
        now = np.ascontiguousarray(now.reshape(-1, 4, 2, 2).swapaxes(0, 1))
        n = 2 * (steps + 1)
        gradient, free = now[0, :, 0].copy(), now[1, :, 0].copy()
        room = gradient[:, :1] / np.tanh(gradient[:, :1] / 2) - np.sign(free[:, :1]) * gradient[:, :1]
        share = np.minimum(1.0, room / np.abs(free[:, :1]))  # as `edge_drift` limits them
        rows, cols, rates = np.empty(6 * n, np.int32), np.empty(6 * n, np.int32), np.empty(6 * n)
        m = stencil.fill_edges(np.array([2, steps + 1]), np.zeros((2, 2), np.int64), np.ones(n), np.tile([1, 0], (n, 1, 1)),
                               np.ones((n, 1)), gradient, free, share, now[2], now[3], np.empty(0), np.zeros((n, 2)), np.empty(0),
                               np.ones((n, 1)), rows, cols, rates, np.zeros(n), np.zeros(n))  # fmt: skip
        assert m == n
        assert np.all(rates[:m] >= 0.0)
        return np.abs(np.diff(rates[:m].reshape(-1, 2), axis=0)).max()

    for seed in range(100):
        assert largest(40_000, seed) < 0.75 * largest(20_000, seed), seed


def test_the_exponent_does_not_jump_where_an_edge_appears():
    """A mixed term of 1e-9 brings an edge across the cells with a weight as small; it counts for as little."""
    grid = Grid((-1, 1, 20), (-1, 1, 20))

    def exponent(mixed):
        D = np.array([[1.0, mixed], [mixed, 1.0]])
        process = Stand(2, lambda p: np.ones(p.shape) * [40.0, 30.0], lambda p: np.broadcast_to(D, (*p.shape[:-1], 2, 2)))
        return FokkerPlanck(process, grid).exponent

    np.testing.assert_allclose(exponent(1e-9), exponent(0.0), rtol=1e-6)
    # e . D^-1 a h of the edge along the diagonal, where it carries a good part of D
    assert exponent(0.3).max() > 1.2 * exponent(0.0).max()


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


def test_a_cap_that_matters_is_reported():
    fp = FokkerPlanck(ou(1000.0), Grid((-5, 5, 40), (-5, 5, 40)), max_offset=2)
    assert any("longest offset allowed" in w for w in fp.warnings)
    assert "warning" in repr(fp)
    assert FokkerPlanck(ou(1000.0), Grid((-5, 5, 40), (-5, 5, 40))).warnings == ()
