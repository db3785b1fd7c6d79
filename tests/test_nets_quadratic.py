"""nets.quadratic_volume: determinants in multiprecision, closed forms, and that every way to the eigenvalues gives the same."""

import math

import matplotlib.pyplot as plt
import mpmath
import numpy as np
import pytest

import nets
from fpsolve import FpsolveError
from nets import _output_rows, quadratic


def problem(widths, activation, loss, n, decay=0.0):
    rng = np.random.default_rng(5)
    mlp = nets.MLP(widths, activation=activation, loss=loss, weight_decay=decay)
    y = rng.random((n, widths[-1])) if loss == "mse" else rng.integers(0, widths[-1], n)
    return mlp, mlp.init(2) * 2.0, rng.standard_normal((n, widths[0])), y


# ---- known sums ---------------------------------------------------------------------------------------------------------


def test_determinant_in_multiprecision():
    """Two samples 1e-7 apart: eigenvalues over 14 digits, of which G in doubles has no more; ln det from 60 digits to 1e-6."""
    mlp, theta, x, y = problem((2, 3, 1), "tanh", "mse", 4)
    x[3] = x[2] + 1e-7
    with mpmath.workdps(60):
        w1, b1, w2 = (mpmath.matrix(mlp.unpack(theta)[name].tolist()) for name in ("W1", "b1", "W2"))
        rows = []
        for point in x:
            p = [mpmath.mpf(float(v)) for v in point]
            row = [mpmath.mpf(1)]
            for k in range(3):
                a = mpmath.tanh(p[0] * w1[0, k] + p[1] * w1[1, k] + b1[k])
                row += [a, w2[k] * (1 - a * a), w2[k] * (1 - a * a) * p[0], w2[k] * (1 - a * a) * p[1]]
            rows.append(row)
        j = mpmath.matrix(rows)
        expected = float(mpmath.log(mpmath.det(j * j.T / 4)))
    found = nets.quadratic_volume(mlp, theta, x, y)
    assert found.k == found.rank == found.limit == 4 and found.eigenvalues[-1] < 1e-13 * found.eigenvalues[0]
    assert found.value == pytest.approx(expected, abs=1e-6)


def test_eigenvalues_of_the_softmax_in_multiprecision():
    """Large outputs: 15 eigenvalues over 80 decades, where G in doubles has 16; each to 1e-11 of those from 300 digits."""
    mlp, theta, x, y = problem((2, 3, 4), "tanh", "cross_entropy", 5)
    theta = theta * np.where(np.arange(mlp.dim) < 9, 1.0, 75.0)
    with mpmath.workdps(300):
        w1, b1, w2, b2 = (mpmath.matrix(mlp.unpack(theta)[name].tolist()) for name in ("W1", "b1", "W2", "b2"))
        rows = []
        for point in x:
            q = [mpmath.mpf(float(v)) for v in point] + [mpmath.mpf(1)]
            a = [mpmath.tanh(q[0] * w1[0, k] + q[1] * w1[1, k] + b1[k]) for k in range(3)] + [mpmath.mpf(1)]
            z = [sum(a[k] * w2[k, c] for k in range(3)) + b2[c] for c in range(4)]
            p = [mpmath.exp(v) / sum(map(mpmath.exp, z)) for v in z]
            inner = [[w2[k, c] * (1 - a[k] ** 2) * v for k in range(3) for v in q] for c in range(4)]  # by W1 and b1
            mean = [sum(p[c] * inner[c][j] for c in range(4)) for j in range(9)]
            for c in range(4):  # diag sqrt p (1 - 1 p^T) J, of which the squares add up to J^T (diag p - p p^T) J
                outer = [((c == d) - p[d]) * v for d in range(4) for v in a]  # by W2 and b2
                rows.append([mpmath.sqrt(p[c]) * v for v in [u - m for u, m in zip(inner[c], mean, strict=True)] + outer])
        j = mpmath.matrix(rows)
        exact = sorted(mpmath.eigsy(j * j.T / 5, eigvals_only=True), reverse=True)[:15]
        expected = [float(mpmath.log(v)) for v in exact]
    found = nets.quadratic_volume(mlp, theta, x, y)
    assert found.rank == found.limit == 15 and expected[0] - expected[-1] > 80 * math.log(10)
    np.testing.assert_allclose(np.log(found.eigenvalues), expected, rtol=0, atol=1e-11)


def test_sum_over_all_eigenvalues_is_exact():
    """ln C + sum_c ln p_c of each sample, and the determinant of V J J^T V^T, V the outputs that add to zero: of the net W V^T."""
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy", 9)
    theta[mlp.blocks["W3"]] *= 60.0
    z = mlp.outputs(theta, x)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    v = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.sqrt([[2.0], [6.0]])
    parts, twin = mlp.unpack(theta), nets.MLP((5, 6, 4, 2), activation="tanh", loss="mse")
    weights = np.concatenate([theta[: mlp.blocks["W3"].start], (parts["W3"] @ v.T).ravel(), v @ parts["b3"]])
    rest = nets.quadratic_volume(twin, weights, x, np.zeros((9, 2)))
    found = nets.quadratic_volume(mlp, theta, x, y)
    assert p.min() < 1e-40 and rest.rank == found.rank == found.limit == 18
    assert found.value == pytest.approx(9 * math.log(3) + np.log(p).sum() + rest.value, abs=1e-9)


def test_dependent_rows_and_probabilities_that_are_no_doubles():
    """Samples twice over: rounding is known from the largest eigenvalue. exp(-800) is left out, the others keep their digits."""
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy", 5)
    once, twice = nets.quadratic_volume(mlp, theta, x, y), nets.quadratic_volume(mlp, theta, np.r_[x, x], np.r_[y, y])
    assert once.rank == twice.rank == 10 and once.floor == quadratic.TINY < 1e-25 * once.eigenvalues[0]
    assert 0.0 < twice.floor / twice.eigenvalues[0] < 1e-24
    np.testing.assert_allclose(twice.eigenvalues, once.eigenvalues, rtol=1e-11)
    pair = nets.MLP((1, 3))
    found = nets.quadratic_volume(pair, [0.0, 0.0, 0.0, 0.0, -90.0, -800.0], [[1.0]], [0])
    assert found.rank == 1 and found.value == pytest.approx(math.log(2 * 2) - 90.0, abs=1e-12)


def test_dependent_rows_that_are_short_hide_no_longer_ones():
    """(x, 1) of two samples orthogonal, one of them twice: of its rows e^-100 and e^-150 long the first is above the rest."""
    mlp, x = nets.MLP((2, 3)), np.array([[1.0, 0.0], [-1.0, 1.0], [-1.0, 1.0]])
    theta = [0.0, -50.0, -60.0, 0.0, -250.0, -360.0, 0.0, 0.0, 0.0]  # outputs (0, -50, -60) and (0, -200, -300)
    found = nets.quadratic_volume(mlp, theta, x, [0, 0, 0])
    once = math.log(3) - 50.0 - 60.0 + 2 * math.log(2 / 3)  # C prod p and |(x, 1)|^2 / N
    assert found.rank == 3 and found.limit == 6 and found.floor == pytest.approx(2 * math.exp(-200.0), rel=1e-10)
    assert found.value == pytest.approx(once + math.log(2 * 2 * 3 / 3) - 200.0, abs=1e-10)


def test_softmax_in_closed_form():
    """One sample, linear: G = (diag p - p p^T) (x) (x, 1)(x, 1)^T; the first has pseudo-determinant C prod p. p down to 1e-21."""
    mlp, x = nets.MLP((1, 4)), np.array([[1.5]])
    z = np.array([0.0, -46.0, -10.0, 2.0])
    found = nets.quadratic_volume(mlp, np.concatenate([np.zeros(4), z]), x, [3])
    log_p = z - np.log(np.exp(z).sum())
    expected = math.log(4) + log_p.sum() + 3 * math.log(1 + 1.5**2)
    assert found.k == found.limit == 3 and found.value == pytest.approx(expected, abs=1e-10)


def test_cross_entropy_goes_with_the_loss():
    """Near zero loss all of G goes with it: outputs enlarged until the loss falls e-fold by e-fold lower the sum by k each."""
    mlp, x = nets.MLP((1, 2)), np.array([[0.3], [-0.3]])
    sums, losses = [], []
    for margin in (20.0, 25.0):
        found = nets.quadratic_volume(mlp, [margin, -margin, 0.0, 0.0], x, np.array([0, 1]))
        sums.append(found.value)
        losses.append(math.log(found.loss))
    assert found.k == 2 and sums[0] - sums[1] == pytest.approx(2 * (losses[0] - losses[1]), rel=1e-4)


def test_factor_of_the_softmax():
    """S^T S = diag p - p p^T, times the weight of the sample, with any order of the probabilities and where some are zero."""
    mlp = nets.MLP((1, 5))
    z = np.array([[0.0, 1.0, 2.0, -1.0, 0.5], [9.0, -30.0, 0.0, 3.0, -900.0], [0.0, 0.0, 0.0, 0.0, 800.0]])
    t = np.array([[1.0, 0, 0, 0, 0], [0.5, 0.7, 0, 0, 0.3], [0, 0, 0, 0, 1.0]])
    s = _output_rows.output_factor(mlp, z, t)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert s.shape == (3, 4, 5)
    for q, w, found in zip(p, t.sum(axis=1), np.einsum("nrc,nrd->ncd", s, s), strict=True):
        expected = -w * np.outer(q, q)
        expected[np.diag_indices(5)] = w * q * (q * (1 - np.eye(5))).sum(axis=1)  # p (1 - p), with the sum of the others for 1 - p
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-300)


# ---- every way to the eigenvalues ---------------------------------------------------------------------------------------

WAYS = [
    ((5, 6, 4, 3), "tanh", "mse", 9),  # fewer rows than weights
    ((5, 6, 4, 3), "relu", "cross_entropy", 9),
    ((3, 4, 3), "tanh", "cross_entropy", 40),  # fewer weights than rows
    ((3, 4, 2), "relu", "mse", 40),
]


@pytest.mark.parametrize("case", WAYS)
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_ways_agree_with_the_matrix(monkeypatch, case, decay):
    where = problem(*case, decay=decay)
    values = np.linalg.eigvalsh(nets.gauss_newton(*where))[::-1] - decay
    rank = np.count_nonzero(values > 1e-12 * values[0])
    found = [nets.quadratic_volume(*where)]
    monkeypatch.setattr(quadratic, "FACTOR_NUMBERS", 2 * 79 * 79)  # triangles of some rows at a time
    monkeypatch.setattr("nets._output_rows.CHUNK_NUMBERS", 2000)
    found.append(nets.quadratic_volume(*where))
    monkeypatch.setattr(quadratic, "FACTOR_UP_TO", 0)  # the matrix of products, or G
    found.append(nets.quadratic_volume(*where))
    for volume in found:
        assert volume.rank == volume.k == rank <= volume.limit and volume.size == where[0].dim
        np.testing.assert_allclose(volume.eigenvalues - decay, values[:rank], rtol=1e-10, atol=1e-13 * values[0])
        assert volume.value == pytest.approx(np.log(values[:rank] + decay).sum(), rel=1e-9)
    assert found[0].loss == pytest.approx(where[0].loss(*where[1:]) - decay / 2 * where[1] @ where[1], rel=1e-12)
    assert 0.0 < found[0].floor < 1e-25 * values[0] < found[2].floor < 1e-12 * values[0]


@pytest.mark.parametrize("case", WAYS[:2])
def test_few_eigenvalues_of_many_by_lanczos(monkeypatch, case):
    where = problem(*case, decay=0.0)
    exact = nets.quadratic_volume(*where)
    monkeypatch.setattr(quadratic, "FACTOR_UP_TO", 0)
    monkeypatch.setattr("nets.spectrum.DENSE_UP_TO", 0)
    found = nets.quadratic_volume(*where, k=3)
    assert found.rank == found.k == 3 and found.value == pytest.approx(exact.at(3), abs=1e-8)


def test_chunks_of_rows_do_not_change_the_products(monkeypatch):
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "cross_entropy", 30)
    whole = _output_rows.gram(mlp, theta, x, mlp.targets(y))
    monkeypatch.setattr("nets._output_rows.CHUNK_NUMBERS", 1000)
    np.testing.assert_allclose(_output_rows.gram(mlp, theta, x, mlp.targets(y)), whole, rtol=0, atol=1e-13)


def test_rank_and_what_depends_on_k():
    """Samples twice over add no rank; the sums over any k; the slope is what the last eigenvalue adds."""
    mlp, theta, x, y = problem((5, 6, 4, 3), "tanh", "mse", 5)
    once, twice = nets.quadratic_volume(mlp, theta, x, y), nets.quadratic_volume(mlp, theta, np.r_[x, x], np.r_[y, y])
    assert once.rank == twice.rank == 15 and twice.limit == 30
    np.testing.assert_allclose(twice.eigenvalues, once.eigenvalues, rtol=1e-11)
    assert once.at(15) - once.at(14) == pytest.approx(once.slope, rel=1e-12)
    seven = nets.quadratic_volume(mlp, theta, x, y, k=7)
    assert seven.value == once.at(7) and seven.slope == math.log(once.eigenvalues[6]) and seven.rank == 15


def test_saved_and_drawn(tmp_path):
    volume = nets.quadratic_volume(*problem((5, 6, 4, 3), "tanh", "mse", 5), k=7)
    volume.save(tmp_path / "volume.h5")
    back = nets.load(tmp_path / "volume.h5")
    assert repr(back) == repr(volume) and np.array_equal(back.eigenvalues, volume.eigenvalues) and back.floor == volume.floor
    _, ax = plt.subplots()
    assert volume.plot(ax=ax) is ax
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), volume.at(np.arange(1, 16)))
    plt.close("all")


def test_bad_input(monkeypatch):
    where = problem((5, 6, 4, 3), "tanh", "mse", 5)
    for k in (0, 16, 2.5):
        with pytest.raises(ValueError, match=r"k must be an integer in 1 \.\. 15: got"):
            nets.quadratic_volume(*where, k=k)
    with pytest.raises(ValueError, match=r"k must be integers in 1 \.\. 15"):
        nets.quadratic_volume(*where).at([3, 16])
    mlp, theta, x, y = where
    with pytest.raises(FpsolveError, match=r"15 eigenvalues of G stand above rounding, .* k = 20 are not known, take k <= 15"):
        nets.quadratic_volume(mlp, theta, np.r_[x, x], np.r_[y, y], k=20)
    with pytest.raises(FpsolveError, match="0 eigenvalues .* no direction is curved"):
        nets.quadratic_volume(nets.MLP((1, 2)), [800.0, 0.0, 0.0, 0.0], [[1.0]], [0])
    monkeypatch.setattr(quadratic, "FACTOR_UP_TO", 0)
    monkeypatch.setattr(quadratic, "MAX_MATRIX_BYTES", 1000)
    with pytest.raises(ValueError, match="all eigenvalues of G need a matrix of 15 rows, .* take fewer samples, or k < 3"):
        nets.quadratic_volume(*where)
