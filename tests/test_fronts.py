"""The direct solver for general sparse matrices against dense linear algebra."""

import numpy as np
import pytest
import scipy.sparse as sp

from fpsolve._fronts import Fronts
from fpsolve._kernels import fronts
from fpsolve.errors import FpsolveError


def problem(shape, reach, seed):
    """A matrix without symmetry whose entries couple cells up to `reach` apart along every axis, and the cells."""
    rng = np.random.default_rng(seed)
    coords = np.stack(np.unravel_index(np.arange(int(np.prod(shape))), shape), axis=1)
    near = np.abs(coords[:, None] - coords[None]).max(axis=2) <= reach
    dense = np.where(near, rng.normal(size=near.shape), 0.0) + 0.3 * near.sum(axis=1).max() * np.eye(len(coords))
    return dense, coords


@pytest.mark.parametrize(("shape", "reach"), [((300,), 3), ((20, 22), 3), ((9, 8, 9), 2), ((5,), 2)])
def test_solutions_of_random_systems(shape, reach):
    dense, coords = problem(shape, reach, 1)
    solver = Fronts(sp.csr_matrix(dense), coords).factorise(sp.csr_matrix(dense))
    rhs = np.random.default_rng(2).normal(size=len(dense))
    scale = np.abs(np.linalg.solve(dense, rhs)).max()
    assert np.abs(solver.solve(rhs) - np.linalg.solve(dense, rhs)).max() < 1e-11 * scale
    assert np.abs(solver.solve(rhs, transposed=True) - np.linalg.solve(dense.T, rhs)).max() < 1e-11 * max(1.0, scale)
    other = sp.csr_matrix(2.0 * dense + np.eye(len(dense)))
    np.testing.assert_allclose(other @ solver.factorise(other).solve(rhs), rhs, atol=1e-11)
    assert solver.memory > 8.0 * sp.csr_matrix(dense).nnz


def test_singular_matrices_are_refused():
    empty = sp.csr_matrix((40, 40))
    with pytest.raises(FpsolveError, match="singular"):
        Fronts(empty + sp.identity(40), np.arange(40)[:, None]).factorise(empty)


def test_interpreted_kernels_agree(monkeypatch):
    dense, coords = problem((12, 11), 1, 3)
    matrix, rhs = sp.csr_matrix(dense), np.linspace(-1.0, 1.0, len(dense))
    compiled = Fronts(matrix, coords).factorise(matrix)
    expected = compiled.solve(rhs), compiled.solve(rhs, transposed=True)
    monkeypatch.setattr(fronts, "_gather", fronts._gather.py_func)
    for name in ("factorise", "solve", "solve_transposed"):
        monkeypatch.setattr(fronts, name, getattr(fronts, name).py_func)
    plain = Fronts(matrix, coords).factorise(matrix)
    np.testing.assert_allclose(plain.solve(rhs), expected[0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(plain.solve(rhs, transposed=True), expected[1], rtol=1e-9, atol=1e-11)
