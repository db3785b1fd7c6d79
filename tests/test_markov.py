"""Markov linear algebra against mpmath, closed forms, products of 1-D chains and dense exponentials."""

import time

import mpmath as mp
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from scipy.integrate import cumulative_simpson

from fpsolve import _elimination, _generator, _markov, _transient
from fpsolve._kernels import dissection, wide

mp.mp.dps = 30


def bernoulli(z):
    """z / (exp(z) - 1)."""
    z = np.asarray(z, float)
    small = np.abs(z) < 1e-8
    return np.where(small, 1 - z / 2, z / np.expm1(np.where(small, 1.0, np.minimum(z, 700.0))))


def sg_chain(potential, lo, hi, n, D):
    """Centres and Scharfetter-Gummel rates of a 1-D chain with reflecting walls."""
    h = (hi - lo) / n
    x = lo + h * (np.arange(n) + 0.5)
    rise = np.diff(potential(x)) / D
    return x, sp.diags([D / h**2 * bernoulli(-rise), D / h**2 * bernoulli(rise)], [-1, 1], format="csr")


def double_well(x):
    return (x**2 - 1) ** 2


def double_well_chain(D, n):
    """Reflecting at -2.5, absorbing at the right face x = 1; h divides 1.5, so x = -1 is a face."""
    x, Q = sg_chain(double_well, -2.5, 1.0, n, D)
    h = 3.5 / n
    kill = np.zeros(n)
    kill[-1] = 2 * D / h**2 * bernoulli((double_well(1.0) - double_well(x[-1])) / D)
    return x, Q, kill


def double_well_time(D):
    """T(-1 -> 1) = (1/D) int_{-1}^{1} exp(U(y)/D) int_{-2.5}^{y} exp(-U(z)/D) dz dy by cumulative Simpson sums."""
    z = np.linspace(-2.5, 1.0, 700_001)
    inner = cumulative_simpson(np.exp(-double_well(z) / D), x=z, initial=0)
    outer = cumulative_simpson(np.where(z >= -1, np.exp(double_well(np.clip(z, -1, 1)) / D) * inner, 0.0)[300_000:], x=z[300_000:])
    return outer[-1] / D


def dense_reference(Q, kill, rhs, transposed=False, digits=400):
    """A^{-1} rhs in ``digits`` digits, A assembled in that precision."""
    n = kill.size
    with mp.workdps(digits):
        A = mp.zeros(n)
        rates = Q.toarray()
        for i in range(n):
            A[i, i] = mp.mpf(kill[i]) + mp.fsum(mp.mpf(rates[i, j]) for j in range(n) if j != i)
            for j in range(n):
                if j != i:
                    A[i, j] = -mp.mpf(rates[i, j])
        return list(mp.lu_solve(A.T if transposed else A, mp.matrix([mp.mpf(v) for v in rhs])))


def random_rates(n, rng, decades=60, density=0.2):
    """Irreducible chain (a ring inside) with log-uniform rates over ``decades`` orders of magnitude."""
    mask = rng.random((n, n)) < density
    mask[np.arange(n), (np.arange(n) + 1) % n] = True
    np.fill_diagonal(mask, False)
    return sp.csr_matrix(np.where(mask, 10.0 ** rng.uniform(-decades / 2, decades / 2, (n, n)), 0.0))


def relative_to(values, exact):
    return max(float(abs(mp.mpf(v) / e - 1)) for v, e in zip(values, exact, strict=True))


def product_chain(Qx, Qy):
    nx, ny = Qx.shape[0], Qy.shape[0]
    return (sp.kron(Qx, sp.eye(ny)) + sp.kron(sp.eye(nx), Qy)).tocsr()


def generator(Q, kill=None):
    out = np.asarray(Q.sum(axis=1)).ravel() + (0.0 if kill is None else kill)
    return Q.toarray() - np.diag(out)


# ---- elimination -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_random_m_matrices_have_entrywise_relative_accuracy(seed, monkeypatch):
    monkeypatch.setattr(_generator, "LEAF", 4)
    rng = np.random.default_rng(seed)
    n = 30
    Q = random_rates(n, rng)
    kill = np.where(rng.random(n) < 0.2, 10.0 ** rng.uniform(-30, 30, n), 0.0)
    kill[rng.integers(n)] = 1e-28
    f = _markov.factor(Q, kill)
    rhs = rng.random(n)
    assert relative_to(f.solve(rhs), dense_reference(Q, kill, rhs)) < 1e-12
    assert relative_to(f.solve_transposed(rhs), dense_reference(Q, kill, rhs, transposed=True)) < 1e-12
    logs = [mp.log(v) for v in dense_reference(Q, kill, rhs)]
    assert max(abs(float(a - b)) for a, b in zip(f.solve(rhs, log=True), logs, strict=True)) < 1e-11


@pytest.mark.parametrize("seed", range(4))
def test_random_stationary_laws_against_mpmath(seed, monkeypatch):
    monkeypatch.setattr(_generator, "LEAF", 4)
    n = 25
    Q = random_rates(n, np.random.default_rng(100 + seed))
    # pi A = 0 with pi_0 = 1: the remaining states are killed at the rate into state 0.
    inner, into = Q[1:, 1:], Q[1:, [0]].toarray().ravel()
    rest = dense_reference(inner, into, Q[[0], 1:].toarray().ravel(), transposed=True)
    weights = [mp.mpf(1), *rest]
    total = mp.fsum(weights)
    exact = [w / total for w in weights]
    pi = _markov.stationary(Q)
    assert pi.sum() == pytest.approx(1, abs=1e-14)
    seen = [(p, e) for p, e in zip(pi, exact, strict=True) if e > 1e-250]
    assert relative_to(*zip(*seen, strict=True)) < 1e-12
    logs = _markov.stationary(Q, log=True)
    assert max(abs(float(a - mp.log(e))) for a, e in zip(logs, exact, strict=True)) < 1e-11


def test_tridiagonal_and_general_engine_agree(monkeypatch):
    """Two independent codes on one chain with barrier/D = 200."""
    _, Q, kill = double_well_chain(0.005, 700)
    narrow = _markov.hitting_time(Q, kill)
    mu = _markov.factor(Q, kill).solve_transposed(np.ones(700))
    monkeypatch.setattr(_generator, "is_tridiagonal", lambda rates: False)
    f = _markov.factor(Q, kill, shape=(700,))
    assert np.max(np.abs(f.solve(np.ones(700)) / narrow - 1)) < 1e-12
    assert np.max(np.abs(f.solve_transposed(np.ones(700)) / mu - 1)) < 1e-12


def test_wide_and_plain_factors_agree_on_a_torus():
    """A 2-D torus with wrap-around and 13-point couplings: doubles against wide numbers, and the residual."""
    rng = np.random.default_rng(3)
    n = 24
    index = np.arange(n * n).reshape(n, n)
    rows, cols = [], []
    for a, b in [(1, 0), (0, 1), (1, 1), (2, 1), (1, -2), (3, -1)]:
        other = np.roll(index, (-a, -b), (0, 1))
        rows += [index.ravel(), other.ravel()]
        cols += [other.ravel(), index.ravel()]
    r, c = np.concatenate(rows), np.concatenate(cols)
    Q = sp.csr_matrix((10.0 ** rng.uniform(-4, 0, r.size), (r, c)), shape=(n * n, n * n))
    kill = np.zeros(n * n)
    kill[5] = 1e-3
    f = _markov.factor(Q, kill, shape=(n, n))
    tau = f.solve(np.ones(n * n))
    assert np.max(np.abs(np.log(tau) - f.solve(np.ones(n * n), log=True))) < 1e-12
    A = sp.diags(np.asarray(Q.sum(axis=1)).ravel() + kill) - Q
    assert np.max(np.abs(A @ tau - 1)) < 1e-9 * tau.max()
    pi = _markov.stationary(Q, shape=(n, n))
    out = np.asarray(Q.sum(axis=1)).ravel()
    assert np.max(np.abs(Q.T @ pi - out * pi) / (out * pi)) < 1e-12
    assert np.max(np.abs(_markov.stationary(Q) / pi - 1)) < 1e-12  # another order: graph distances


def test_dissection_separates_and_orders_children_first():
    n = 20
    pattern = product_chain(*(sp.diags([1.0, 1.0], [-1, 1], shape=(n, n)) for _ in range(2))).tocsr()
    coords = _generator.coordinates(pattern, (n, n))
    order, node_ptr, parent = dissection.dissect(pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64), coords, 8)
    assert sorted(order) == list(range(n * n))
    node = np.empty(n * n, int)
    for t in range(parent.size):
        node[order[node_ptr[t] : node_ptr[t + 1]]] = t
        assert parent[t] == -1 or parent[t] > t

    def ancestors(t):
        while t >= 0:
            yield t
            t = parent[t]

    coo = pattern.tocoo()
    for i, j in zip(coo.row, coo.col, strict=True):
        low, high = sorted((node[i], node[j]))
        assert high in ancestors(low)  # an edge never joins two separated parts


def test_wide_numbers_add_multiply_and_read_back():
    values = np.array([0.0, 5e-324, 1e-308, 1e-100, 1.0, 3.0, 1e100, 1.7e308])
    m, e = wide.wide_from(values)
    assert np.array_equal(wide.wide_value(m, e), values)
    total = wide.wide_sum(m[4:7], e[4:7])
    assert wide.wide_value(*total)[0] == 1e100
    assert wide.wide_log(m, e)[1] == pytest.approx(np.log(5e-324), abs=1e-12)
    assert wide.wide_log(*wide.wide_divide(*wide.wide_divide(m, e, m[3:4], e[3:4]), m[3:4], e[3:4]))[7] == pytest.approx(
        np.log(1.7e308) + 200 * np.log(10), rel=1e-15
    )


# ---- closed forms and physics -------------------------------------------------------------------------------------------


def test_birth_death_stationary_and_times():
    """pi_{i+1} / pi_i = up_i / down_{i+1}; T_0 = sum_k (sum_{j <= k} pi_j) / (pi_k up_k) by exact sums."""
    rng = np.random.default_rng(11)
    n = 60
    up, down = 10.0 ** rng.uniform(-20, 20, n - 1), 10.0 ** rng.uniform(-20, 20, n - 1)
    Q = sp.diags([down, up], [-1, 1], format="csr")
    with mp.workdps(50):
        weights = [mp.mpf(1)]
        for u, d in zip(up, down, strict=True):
            weights.append(weights[-1] * mp.mpf(u) / mp.mpf(d))
        total = mp.fsum(weights)
        logs = [mp.log(w / total) for w in weights]
        rate = mp.mpf(0.3)
        exact = mp.fsum(mp.fsum(weights[: k + 1]) / (weights[k] * (mp.mpf(up[k]) if k < n - 1 else rate)) for k in range(n))
    assert max(abs(float(a - b)) for a, b in zip(_markov.stationary(Q, log=True), logs, strict=True)) < 1e-11
    kill = np.zeros(n)
    kill[-1] = 0.3
    assert float(mp.mpf(_markov.hitting_time(Q, kill)[0]) / exact - 1) == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("D", [0.2, 0.1, 0.05, 0.03, 0.02, 0.005])
def test_double_well_times_to_second_order(D):
    """SG chain against the double quadrature: the h^2 error of exact potential differences, order >= 1.9."""
    exact = double_well_time(D)
    if D == 0.1:
        assert exact == pytest.approx(25527.091364292, rel=1e-10)
    errors = []
    for n in (700, 1400):
        x, Q, kill = double_well_chain(D, n)
        tau = _markov.hitting_time(Q, kill)
        errors.append(float(np.interp(-1.0, x, tau)) / exact - 1)
    assert abs(errors[1]) < 5e-4 * min(1.0, 0.01 / D) + 2e-5
    assert np.log2(abs(errors[0] / errors[1])) > 1.9


def test_barriers_of_700_and_2000():
    """ln T against ln of the quadrature done in logarithms (Laplace is not used)."""
    for ratio in (700.0, 2000.0):
        D = 1 / ratio
        z = np.linspace(-1.6, 1.0, 2_000_001)
        U = double_well(z)
        # both integrals factored by their largest exponential: 0 for the inner, the barrier 1 for the outer
        inner = cumulative_simpson(np.exp(-U / D), x=z, initial=0)
        outer = np.where(z >= -1, np.exp((np.minimum(U, 1.0) - 1.0) / D) * inner, 0.0)
        log_time = np.log(cumulative_simpson(outer, x=z)[-1]) + ratio - np.log(D)
        x, Q, kill = double_well_chain(D, 14_000)
        log_tau = _markov.hitting_time(Q, kill, log=True)
        assert float(np.interp(-1.0, x, log_tau)) == pytest.approx(log_time, abs=2e-3)
        tau = _markov.hitting_time(Q, kill)
        assert tau[0] == (np.inf if ratio > 709 else pytest.approx(np.exp(log_tau[0]), rel=1e-12))


@pytest.mark.parametrize("D", [0.05, 0.01, 0.001])
def test_two_dimensional_product_equals_one_dimension(D):
    """tau(x, y) = tau(x), pi(x, y) = pi(x) pi(y) on a product chain; barrier/D up to 1000 (beyond doubles)."""
    n = 48
    x, Qx = sg_chain(double_well, -2, 2, n, D)
    _, Qy = sg_chain(lambda y: y**2 / 2, -2, 2, n, D)
    Q = product_chain(Qx, Qy)
    leave = np.where(x > 1, 1.0, 0.0)
    f = _markov.factor(Q, np.repeat(leave, n), shape=(n, n))
    expected = _markov.hitting_time(Qx, leave, log=True)
    assert np.max(np.abs(f.solve(np.ones(n * n), log=True).reshape(n, n) - expected[:, None])) < 1e-11
    values = f.solve(np.ones(n * n)).reshape(n, n)
    if D == 0.001:
        assert expected[0] > 900 and np.all(np.isinf(values[0]))
    else:
        assert np.max(np.abs(values / np.exp(expected)[:, None] - 1)) < 1e-11
    log_pi = np.add.outer(_markov.stationary(Qx, log=True), _markov.stationary(Qy, log=True)).ravel()
    assert np.max(np.abs(_markov.stationary(Q, shape=(n, n), log=True) - log_pi)) < 1e-11
    pi = _markov.stationary(Q, shape=(n, n))
    seen = log_pi > -550
    assert np.max(np.abs(pi[seen] / np.exp(log_pi[seen]) - 1)) < 1e-11
    assert pi.min() >= 0 and pi.sum() == pytest.approx(1, abs=1e-13)


def test_periodic_ring_against_mpmath():
    rng = np.random.default_rng(5)
    n = 40
    i = np.arange(n)
    Q = sp.csr_matrix((10.0 ** rng.uniform(-8, 8, 2 * n), (np.tile(i, 2), np.concatenate([(i + 1) % n, (i - 1) % n]))))
    rest = dense_reference(Q[1:, 1:], Q[1:, [0]].toarray().ravel(), Q[[0], 1:].toarray().ravel(), transposed=True)
    weights = [mp.mpf(1), *rest]
    exact = [w / mp.fsum(weights) for w in weights]
    assert relative_to(_markov.stationary(Q, shape=(n,)), exact) < 1e-12


def test_exit_rate_of_the_quasi_stationary_law():
    """Left eigenvector against dense eigenvalues; at barrier/D = 100 rate * T = 1 up to exp(-barrier/D)."""
    x, Q, kill = double_well_chain(0.2, 140)
    nu, rate = _markov.quasi_stationary(Q, kill)
    eigenvalues = np.linalg.eigvals(-generator(Q, kill)).real
    assert rate == pytest.approx(eigenvalues.min(), rel=1e-8)
    assert np.max(np.abs(nu @ -generator(Q, kill) - rate * nu)) < 1e-9
    x, Q, kill = double_well_chain(0.01, 700)
    nu, rate = _markov.quasi_stationary(Q, kill)
    assert rate * (nu @ _markov.hitting_time(Q, kill)) == pytest.approx(1, rel=1e-12)


# ---- structure ----------------------------------------------------------------------------------------------------------


def test_several_closed_classes_are_refused():
    Q = sp.block_diag([sp.csr_matrix([[0, 1.0], [1.0, 0]])] * 2, format="csr")
    with pytest.raises(ValueError, match="2 closed classes"):
        _markov.stationary(Q)


def test_transient_states_get_no_mass():
    Q = sp.csr_matrix([[0, 1.0, 0], [0, 0, 3.0], [0, 1.0, 0]])
    assert np.array_equal(_markov.stationary(Q), [0, 0.25, 0.75])


def test_states_that_may_miss_the_target_get_inf():
    """0 -> 1 (trap) or 0 -> 2 (killed); 3 -> 2 only."""
    Q = sp.csr_matrix([[0, 1.0, 1.0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2.0, 0]])
    f = _markov.factor(Q, [0, 0, 4.0, 0])
    assert np.array_equal(f.solve(np.ones(4)), [np.inf, np.inf, 0.25, 0.75])
    # the time spent in state 2 is finite from everywhere
    assert np.array_equal(f.solve([0, 0, 1.0, 0]), [0.125, 0, 0.25, 0.25])
    assert np.array_equal(f.solve_transposed([1.0, 0, 0, 0]), [0.5, np.inf, 0.125, 0])
    assert np.array_equal(f.solve_transposed([0, 0, 0, 1.0]), [0, 0, 0.25, 0.5])


def test_one_state_and_no_rates():
    one = sp.csr_matrix((1, 1))
    assert _markov.stationary(one)[0] == 1
    assert _markov.hitting_time(one, [2.0])[0] == 0.5
    p, _ = _markov.evolve(one, [2.0], [1.0], [0.5])
    assert p[0, 0] == pytest.approx(np.exp(-1), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: _markov.stationary(np.eye(2)), TypeError, "scipy.sparse"),
        (lambda: _markov.stationary(sp.csr_matrix([[0, -1.0], [1, 0]])), ValueError, r"Q\[0, 1\] = .*-1"),
        (lambda: _markov.stationary(sp.csr_matrix([[0, np.nan], [1, 0]])), ValueError, "finite"),
        (lambda: _markov.stationary(sp.csr_matrix((2, 3))), ValueError, "square"),
        (lambda: _markov.factor(sp.csr_matrix([[0, 1.0], [1, 0]]), [0, -1.0]), ValueError, r"kill\[1\]"),
        (lambda: _markov.factor(sp.csr_matrix([[0, 1.0], [1, 0]]), [1.0]), ValueError, r"shape \(2,\)"),
        (lambda: _markov.factor(sp.csr_matrix([[0, 1.0], [1, 0]]), [0, 1.0], shape=(3,)), ValueError, "holds 3"),
        (lambda: _markov.hitting_time(sp.csr_matrix([[0, 1.0], [1, 0]]), [0, 0]), ValueError, "no state can be killed"),
        (lambda: _markov.factor(sp.csr_matrix([[0, 1.0], [1, 0]]), [0, 1.0]).solve([-1.0, 0]), ValueError, "split it"),
        (lambda: _markov.quasi_stationary(sp.csr_matrix((2, 2)), [0, 1.0]), ValueError, "state 0"),
        (lambda: _markov.evolve(sp.csr_matrix((2, 2)), None, [1.0, 0], [1.0], rtol=2.0), ValueError, "rtol"),
        (lambda: _markov.evolve(sp.csr_matrix((2, 2)), None, [-1.0, 0], [1.0]), ValueError, "mass0"),
        (lambda: _markov.evolve(sp.csr_matrix((2, 2)), None, [0.0, 0], [1.0]), ValueError, "zero everywhere"),
        (lambda: _markov.evolve(sp.csr_matrix((2, 2)), None, [1.0, 0], [2.0, 1.0]), ValueError, "times"),
        (lambda: _markov.evolve(sp.csr_matrix((2, 2)), None, [1.0, 0], [1.0], method="cn"), ValueError, "method"),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---- transients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("s", [0.5, 6.0, 15.0, 24.0])
def test_series_is_the_exponential_on_the_half_line(s):
    """max over z <= 0 of |sum c_j T_j(2u - 1) - exp(s z)|, u = 1 / (1 - z)."""
    z = -np.concatenate([[0.0], np.logspace(-10, 10, 4001)])
    u = 1 / (1 - z)
    value = np.polynomial.chebyshev.chebval(2 * u - 1, _transient.exponential_series(s))
    assert np.max(np.abs(value - np.exp(s * z))) < 2e-13


def test_truncated_series_converges_like_the_theory():
    """Best error of k equal real poles: 1e-9 near 20 resolvents, so at least a factor 2 per resolvent."""
    tails = [np.abs(_transient.exponential_series(0.75 * k)[k + 1 :]).sum() for k in (8, 16, 24)]
    assert tails[1] < tails[0] * 2.0**-8 and tails[2] < tails[1] * 2.0**-8


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-9])
def test_evolve_double_well_against_expm(rtol):
    x, Q = sg_chain(double_well, -2.0, 2.0, 120, 0.1)
    p0 = np.exp(-((x - 0.3) ** 2) / 0.02)
    p0 /= p0.sum()
    times = [0.05, 1.0, 20.0]
    masses, info = _markov.evolve(Q, None, p0, times, rtol=rtol)
    for t, p, estimate in zip(times, masses, info["error"], strict=True):
        error = np.abs(p - p0 @ scipy.linalg.expm(t * generator(Q))).sum()
        assert error < rtol and error < estimate + 1e-12
    assert np.max(np.abs(masses.sum(axis=1) - 1)) < 1e-12
    assert info["negative"] <= rtol


@pytest.mark.parametrize("method", ["rational", "chebyshev"])
@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
def test_evolve_irreversible_chains_against_expm(rtol, method):
    """A one-way ring (spectrum on a circle through 0) and random rates: error below rtol and below its estimate."""
    n = 80
    ring = sp.csr_matrix((np.full(n, 40.0), (np.arange(n), (np.arange(n) + 1) % n)))
    wild = random_rates(50, np.random.default_rng(2), decades=4, density=0.1)
    for Q, t in ((ring, 7.0), (wild, 30.0)):
        p0 = np.zeros(Q.shape[0])
        p0[3] = 1.0
        masses, info = _markov.evolve(Q, None, p0, [t], rtol=rtol, method=method)
        error = np.abs(masses[0] - p0 @ scipy.linalg.expm(t * generator(Q))).sum()
        assert info["method"] == method
        assert error < rtol and error < info["error"][-1] + 1e-12
        assert masses[0].sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("method", ["rational", "chebyshev"])
@pytest.mark.parametrize("seed", range(4))
def test_error_estimate_is_honest_off_the_real_axis(seed, method):
    """One-way rings of unequal rates and upwind chains: the terms left out of the series would understate the error tenfold."""
    rng = np.random.default_rng(seed)
    n = 40
    ring = sp.csr_matrix((rng.uniform(5, 50, n), (np.arange(n), (np.arange(n) + 1) % n)))
    upwind = sp.diags([np.full(n - 1, 0.5), np.full(n - 1, 30.0)], [-1, 1], format="csr")
    p0 = np.zeros(n)
    p0[rng.integers(n)] = 1.0
    for Q, t in ((ring, 27.6), (ring, 20.0), (upwind, 81.8)):
        for rtol in (1e-4, 3.7e-6):
            masses, info = _markov.evolve(Q, None, p0, [t], rtol=rtol, method=method)
            error = np.abs(masses[0] - p0 @ scipy.linalg.expm(t * generator(Q))).sum()
            assert info["method"] == method
            assert error < rtol and error < info["error"][0] + 1e-11


@pytest.mark.parametrize("method", [None, "positive"])
def test_evolve_with_killing_and_2d(method):
    n = 16
    x, Qx = sg_chain(double_well, -1.8, 1.8, n, 0.2)
    _, Qy = sg_chain(lambda y: y**2 / 2, -1.8, 1.8, n, 0.2)
    kill = np.repeat(np.where(x > 1, 3.0, 0.0), n)
    Q = product_chain(Qx, Qy)
    p0 = np.zeros(n * n)
    p0[5 * n + 4] = 1.0
    masses, info = _markov.evolve(Q, kill, p0, [0.3, 0.3, 4.0], method=method, shape=(n, n))
    for t, p in zip([0.3, 0.3, 4.0], masses, strict=True):
        assert np.abs(p - p0 @ scipy.linalg.expm(t * generator(Q, kill))).sum() < 1e-6
    assert info["error"][-1] < 1e-6
    if method == "positive":
        assert masses.min() >= 0


def test_positive_from_a_delta_short_and_long():
    """Uniformisation where it is affordable, else the rational form moved to nonnegative masses; both nonnegative."""
    n = 400
    _, Q = sg_chain(double_well, -2.0, 2.0, n, 0.02)
    p0 = np.zeros(n)
    p0[130] = 1.0
    seen = set()
    for t in (1e-3, 0.1, 30.0, 1e6):
        masses, info = _markov.evolve(Q, None, p0, [t], method="positive")
        seen.add(info["method"].split(",")[0])
        assert masses.min() >= 0 and abs(masses.sum() - 1) < 1e-12
        if t <= 30:
            error = np.abs(masses[0] - p0 @ scipy.linalg.expm(t * generator(Q))).sum()
            assert error < 1e-6 and error <= info["error"][0] + 1e-10
    assert seen == {"uniformisation", "rational"}


def test_steps_grow_once_the_oscillations_are_gone():
    """A one-way ring relaxes at 6.7 per time: from t = 3 on nothing happens, and twice the time must not cost twice the solves."""
    n, rate = 12, 50.0
    Q, start = sp.csr_matrix(rate * np.roll(np.eye(n), 1, axis=1)), np.eye(n)[0]
    solves = []
    for t in (5.0, 10.0):
        p, info = _markov.evolve(Q, None, start, [t], rtol=1e-8, method="rational")
        exact = start @ scipy.linalg.expm(t * (Q.toarray() - rate * np.eye(n)))
        assert np.abs(p[0] - exact).sum() < info["error"][0] <= 1e-8
        assert info["method"] == "rational"
        solves.append(info["solves"])
    assert solves[1] < 1.5 * solves[0], solves


def test_slow_relaxation_over_a_barrier_of_50():
    """Occupation of the left well = (1 + exp(-2 k t)) / 2 at t |G| eps > 1e5: the slow mode must survive rounding.

    k is half the rate of reaching the middle state (left or right with equal chance from there), from the quasi-stationary law.
    """
    n, half = 401, 200
    x, Q = sg_chain(double_well, -1.7, 1.7, n, 0.02)
    p0 = _markov.stationary(Q) * np.where(x < -1e-9, 1.0, 0.0)
    p0 /= p0.sum()
    _, rate = _markov.quasi_stationary(Q[:half, :half], Q[:half, [half]].toarray().ravel())
    span = 0.7 / rate
    assert span * np.asarray(Q.sum(axis=1)).max() > 1e21
    masses, info = _markov.evolve(Q, None, p0, [span], rtol=1e-8)
    assert masses[0, :half].sum() == pytest.approx((1 + np.exp(-rate * span)) / 2, abs=1e-7)
    assert abs(masses.sum() - 1) < 1e-12 and info["mass_drift"] < 1e-12


def test_zero_time_and_linearity():
    _, Q = sg_chain(double_well, -2.0, 2.0, 50, 0.1)
    a, b = np.zeros(50), np.zeros(50)
    a[4], b[40] = 1.0, 2.0
    masses, _ = _markov.evolve(Q, None, a, [0.0, 1.0])
    assert np.array_equal(masses[0], a)
    other, both = _markov.evolve(Q, None, b, [0.0, 1.0])[0], _markov.evolve(Q, None, a + b, [0.0, 1.0])[0]
    assert np.max(np.abs(masses[1] + other[1] - both[1])) < 1e-8


@pytest.mark.slow
def test_large_grids_within_seconds():
    """256^2 with nine-point couplings at barrier/D = 100; the limit of 30 s is the requirement, not the measurement."""
    n = 256
    x, Qx = sg_chain(double_well, -2, 2, n, 0.01)
    _, Qy = sg_chain(lambda y: y**2 / 2, -2, 2, n, 0.01)
    diagonal = 0.1 * (sp.kron(Qx, Qy) / max(Qx.max(), Qy.max()))
    Q = (product_chain(Qx, Qy) + diagonal).tocsr()
    leave = np.repeat(np.where(x > 1, 1.0, 0.0), n)
    start = time.perf_counter()
    tau = _markov.hitting_time(Q, leave, shape=(n, n))
    assert time.perf_counter() - start < 30
    A = sp.diags(np.asarray(Q.sum(axis=1)).ravel() + leave) - Q
    assert tau.max() > 1e42
    assert np.max(np.abs(A @ tau - 1) / (A.diagonal() * tau)) < 1e-13
    assert isinstance(_markov.factor(Q, leave, shape=(n, n))._core, _elimination.Multifrontal)


def test_positive_evolution_when_all_mass_has_left():
    """Long after everything has been absorbed rounding of either sign is left: masses are zero, and nothing divides by it."""
    n = 30
    Q = sp.diags([np.full(n - 1, 900.0), np.full(n - 1, 900.0)], [1, -1]).tocsr()
    kill = np.zeros(n)
    kill[[0, -1]] = 1800.0
    masses, info = _transient.evolve(Q, kill, np.full(n, 1 / n), [1e-2, 1e4, 1e9], method="positive")
    assert np.all(masses >= 0.0) and np.all(np.isfinite(info["error"]))
    assert masses[0].sum() > 0.5 and np.all(masses[1:].sum(axis=1) < 1e-9)
    for p in (np.full(3, -1e-20), np.array([1e-20, -3e-20, 0.0]), np.zeros(3)):  # negative total, nothing positive, nothing
        moved, negative = _transient._nonnegative(p)
        assert np.all(moved == 0.0) and negative >= 0.0
