"""Compiled passes of the assembly against the same in NumPy and SciPy."""

import numpy as np
import pytest
import scipy.sparse as sp

from fpsolve import _balance, _markov
from fpsolve._discretize import frame
from fpsolve._generator import assembled, clean_rates
from fpsolve._kernels import balance, selling, triplets
from fpsolve.grid import Grid

GRIDS = {
    "walls": Grid((-1, 1, 9), (-2, 2, 7)),
    "ring": Grid((-1, 1, 6), (-2, 2, 5), boundary=["periodic", "reflecting"]),
    "graded": Grid((-1, 1, 8, ("sinh", 0.2, 0.4)), (-2, 2, 7)),
    "space": Grid((-1, 1, 5), (-2, 2, 6), (0, 1, 4), boundary=["reflecting", "periodic", "absorbing"]),
}


def fields(grid, seed=0):
    """Definite tensors, a drift and a gradient at random."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(grid.size, grid.dim, grid.dim))
    drift, gradient = rng.normal(size=(2, grid.size, grid.dim))
    D = factor @ factor.transpose(0, 2, 1) + 0.1 * np.eye(grid.dim)
    return 0.5 * (D + D.transpose(0, 2, 1)), drift, gradient


def test_triplets_become_the_generator():
    """Duplicates, rows without rates and rates in any order, against SciPy's conversion."""
    rng = np.random.default_rng(1)
    rows, cols = rng.integers(0, 40, (2, 900)).astype(np.int32)
    off = (rows != cols) & (rows != 7)
    rows, cols = rows[off], cols[off]
    rates, kill = rng.random(rows.size), rng.random(50)
    found = assembled(rows, cols, rates, kill)
    plain = sp.csr_matrix((rates, (rows, cols)), shape=(50, 50))
    expected = (plain - sp.diags(np.asarray(plain.sum(axis=1)).ravel() + kill)).tocsr()
    expected.sort_indices()
    assert rows.size + 50 > expected.nnz  # there are duplicates
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-14)


def test_rates_off_the_diagonal():
    rng = np.random.default_rng(2)
    full = sp.random(60, 60, 0.1, "csr", rng=rng)
    full.data[::5] = 0.0
    expected = full - sp.diags(full.diagonal())
    expected.eliminate_zeros()
    found = clean_rates(full)
    assert found.nnz == expected.nnz
    assert abs(found - expected).max() == 0.0
    assert not triplets.nearest(found.indptr, found.indices)
    line = sp.diags([1.0, 2.0], [-1, 1], shape=(6, 6), format="csr")
    assert triplets.nearest(line.indptr, line.indices)


@pytest.mark.parametrize("wrong", [-1.0, np.inf, np.nan])
def test_a_wrong_rate_is_named(wrong):
    full = sp.csr_matrix(np.array([[-1.0, 1.0, 0.0], [0.0, -2.0, 2.0], [1.0, 3.0, -4.0]]))
    full[2, 1] = wrong
    with pytest.raises(ValueError, match=r"Q\[2, 1\]"):
        clean_rates(full)


@pytest.mark.parametrize("name", GRIDS)
def test_what_g_leaves_of_the_drift(name):
    grid = GRIDS[name]
    D, drift, g = fields(grid)
    drift[::3] = np.einsum("nij,nj->ni", D[::3], g[::3])  # rounding is left, which is nothing
    _, _, spacing, volume = frame(grid)
    out, steps = np.empty((2, *g.shape))
    balance.unbalanced(D, drift, g, spacing, volume, out, steps)
    expected = (drift - np.einsum("nij,nj->ni", D, g)) * volume[:, None] / spacing
    expected[::3] = 0.0
    np.testing.assert_allclose(out, expected, rtol=1e-11, atol=1e-13)
    assert np.all(out[::3] == 0.0)
    np.testing.assert_allclose(steps, g * spacing, rtol=1e-15)


@pytest.mark.parametrize("name", GRIDS)
def test_slopes_are_differences(name):
    grid = GRIDS[name]
    shape, sides, _, _ = frame(grid)
    _, field, _ = fields(grid)
    out = np.empty((grid.size, grid.dim, grid.dim))
    balance.slopes(field, shape, sides, out)
    for axis, pair in enumerate(grid.boundary):
        for k in range(grid.dim):
            values = field[:, k].reshape(grid.shape)
            if pair[0] == "periodic":
                expected = 0.5 * (np.roll(values, -1, axis) - np.roll(values, 1, axis))
            else:
                expected = np.gradient(values, axis=axis)
            np.testing.assert_allclose(out[:, k, axis].reshape(grid.shape), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", GRIDS)
def test_the_defect_of_a_gradient(name):
    """Curl and source by NumPy's differences, largest over the cells not next to a wall."""
    grid = GRIDS[name]
    D, drift, g = fields(grid)
    spacing = frame(grid)[2]
    u = drift - np.einsum("nij,nj->ni", D, g)

    def slope(values, axis):
        values = values.reshape(grid.shape)
        if grid.boundary[axis][0] == "periodic":
            return 0.5 * (np.roll(values, -1, axis) - np.roll(values, 1, axis))
        return np.gradient(values, axis=axis)

    h = [spacing[:, k].reshape(grid.shape) for k in range(grid.dim)]
    source = sum(slope(u[:, k], k) / h[k] for k in range(grid.dim)) + np.sum(u * g, axis=1).reshape(grid.shape)
    noise = sum(D[:, k, k].reshape(grid.shape) / h[k] ** 2 for k in range(grid.dim))
    parts = [np.abs(source) / noise]
    for i in range(grid.dim):
        parts += [np.abs(slope(g[:, i], j) * h[i] - slope(g[:, j], i) * h[j]) for j in range(i)]
    inner = tuple(slice(None) if pair[0] == "periodic" else slice(1, -1) for pair in grid.boundary)
    expected = max(part[inner].max() for part in parts)
    np.testing.assert_allclose(_balance.defect(D, drift, g, spacing, grid), expected, rtol=1e-12)


def test_a_better_gradient_is_used_where_it_leaves_no_more():
    grid = GRIDS["walls"]
    D, drift, g = fields(grid)
    rng = np.random.default_rng(3)
    better, rest, found = rng.normal(size=(3, *g.shape))
    found[::4] = 0.0
    _, _, spacing, volume = frame(grid)
    scale = volume[:, None] / spacing
    more = np.abs(found).sum(axis=1) - np.abs(rest).sum(axis=1)
    size = 0.05 * np.abs((drift - np.einsum("nij,nj->ni", D, better)) * scale).sum(axis=1)
    part = np.where(more > 0.0, 1.0 - np.minimum(1.0, more / size), 1.0)
    blended = g.copy()
    mixed = balance.blend(D, drift, spacing, volume, 0.05, rest, better, found, blended)
    np.testing.assert_array_equal(mixed, np.flatnonzero(part < 1.0))
    assert 0 < mixed.size < grid.size
    np.testing.assert_allclose(blended, g + part[:, None] * (better - g), rtol=1e-12, atol=1e-14)


def test_tensors_are_told_apart():
    D = fields(GRIDS["walls"])[0]
    assert balance.semidefinite(D)
    assert balance.definite(D)
    D[5] = [[1.0, 2.0], [2.0, 4.0]]  # singular
    assert balance.semidefinite(D)
    assert not balance.definite(D)
    for bad in ([[1.0, 2.0], [2.0, 3.9]], [[1.0, 0.1], [0.2, 1.0]]):
        D[5] = bad
        assert not balance.semidefinite(D)


def test_the_deepest_cell():
    rng = np.random.default_rng(4)
    weights, clipped = rng.random((200, 3)), np.zeros(200)
    depth = weights.min(axis=1) / weights.sum(axis=1)
    best = int(np.argmax(depth))
    assert selling.deepest(weights, clipped) == best
    clipped[best] = 1.0
    assert selling.deepest(weights, clipped) == int(np.argmax(np.where(np.arange(200) == best, -1.0, depth)))


def test_a_second_chain_on_the_same_graph():
    """With the order of the first one kept its law is the same number by number; on another graph a new order is found."""
    rng = np.random.default_rng(5)
    n = 12
    index = np.arange(n * n).reshape(n, n)
    pairs = np.concatenate(
        [np.stack([a.ravel(), b.ravel()]) for a, b in ((index[1:], index[:-1]), (index[:, 1:], index[:, :-1]))], 1
    )
    rows, cols = np.concatenate([pairs, pairs[::-1]], axis=1)
    kept: list = []
    for k in range(3):
        if k == 2:
            rows, cols = np.append(rows, 0), np.append(cols, n * n - 1)
        Q = sp.csr_matrix((rng.random(rows.size), (rows, cols)), shape=(n * n, n * n))
        before = kept[0] if kept else None
        law = _markov.stationary(Q, shape=(n, n), kept=kept)
        np.testing.assert_array_equal(law, _markov.stationary(Q, shape=(n, n)))
        assert (before is not None and kept[0].tree is before.tree) == (k == 1)
        np.testing.assert_allclose(law @ (Q - sp.diags(np.asarray(Q.sum(axis=1)).ravel())), 0.0, atol=1e-15)
