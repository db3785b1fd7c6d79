"""Schemes: orders measured through the kernels, exact moments at finite step, the right limit, refusals.

Strong orders: the normals that a trajectory consumes are known (``stream_normals``), so the exact solution along the same Brownian
path is known where it depends on W(T) alone. ``z_test`` asserts |z| < 4: a correct code fails one such test in 15 800.
"""

import math

import numpy as np
import pytest
import scipy.linalg
from path_cases import z_test

import fpsolve as fps
from fpsolve import _linear, _model
from fpsolve._kernels.rng import stream_normals
from fpsolve._schemes import noise_class

A = 0.4


def multiplicative(gains):
    """dX_i = A X_i dt + X_i sum_k gains[i][k] dW_k, whose solution depends on W(T) only."""
    names = "x y"[: 2 * len(gains) - 1].split()
    B = [[f"{g}*{name}" for g in row] for name, row in zip(names, gains, strict=True)]
    drift = [f"{A}*{name}" for name in names]
    return fps.Process.from_drift(drift, fps.Noise.from_factor(B, variables=names), variables=names)


GAINS = {"scalar": [[0.8]], "diagonal": [[0.8, 0.0], [0.0, 0.6]], "commutative": [[0.7, 0.3], [0.4, -0.6]]}


def strong_error(method, gains, steps, n=4000, draws=None):
    """E |X_T - exact| at T = 1, the exact solution along the kernel's own Brownian path."""
    d, m = np.shape(gains)
    draws = draws or m
    x = fps.simulate(multiplicative(gains), [1.0] * d, t=1.0, dt=1 / steps, n=n, method=method, seed=3).final
    z = stream_normals(3, 0, n, -(-steps * draws // 2))[:, : steps * draws].reshape(n, steps, draws)[:, :, :m]
    W = z.sum(axis=1) / math.sqrt(steps)
    G = np.array(gains)
    exact = np.exp(A - 0.5 * (G**2).sum(axis=1) + W @ G.T)
    return np.abs(x - exact).mean()


@pytest.mark.parametrize(
    ("method", "kind", "order"),
    [
        ("euler", "scalar", 0.5), ("milstein", "scalar", 1.0), ("heun", "scalar", 1.0), ("tamed", "scalar", 0.5),
        ("milstein", "diagonal", 1.0), ("euler", "commutative", 0.5), ("milstein", "commutative", 1.0),
        ("heun", "commutative", 1.0),
    ],
)  # fmt: skip
def test_strong_order(method, kind, order):
    """Slope between h = 1/32 and 1/512 within 0.12 of the order (2000 to 4000 paths: the slope's standard error is about 0.01)."""
    coarse, fine = (strong_error(method, GAINS[kind], steps) for steps in (32, 512))
    assert math.log(coarse / fine, 16) == pytest.approx(order, abs=0.12)


def strong_error_linear(method, steps):
    """Root mean square error of dX = -X dt + dW at T = 1 by Gaussian algebra; the Brownian path is the kernels'.

    With J = int exp(s - h) dW over a step: E J dW = 1 - exp(-h), E J^2 = (1 - exp(-2 h))/2, and for the second normal
    z' = sqrt 12 (I_10 - h dW/2)/h^1.5, I_10 = int_0^h W ds: E J I_10 = 1 - exp(-h) - h exp(-h) reversed in time, that is
    int (h - s) exp(s - h) ds.
    """
    h = 1.0 / steps
    scheme = _model.SCHEMES[method]
    M, N = scheme.affine(np.eye(1), np.eye(1), scheme.constants(h, {}))
    M, N, decay = M[0, 0], N[0], math.exp(-h)
    with_dW = -math.expm1(-h)
    with_I = 1.0 - decay - h * decay
    cross = [with_dW / math.sqrt(h), math.sqrt(12.0) * (with_I - 0.5 * h * with_dW) / h**1.5][: len(N)]
    JJ = -0.5 * math.expm1(-2.0 * h)
    total = 0.0
    for k in range(steps):
        u, v = M**k, decay**k
        total += u * u * float(N @ N) - 2.0 * u * v * float(N @ cross) + v * v * JJ
    return math.sqrt(total)


@pytest.mark.parametrize(("method", "order"), [("euler", 1.0), ("heun", 1.0), ("weak2", 1.0), ("sra15", 2.0)])
def test_strong_order_with_additive_noise_and_linear_drift(method, order):
    """SRA1 gains half an order where the drift is linear: what it leaves out of a step then has mean zero and size h^2.5."""
    coarse, fine = strong_error_linear(method, 16), strong_error_linear(method, 64)
    assert math.log(coarse / fine, 4) == pytest.approx(order, abs=0.06)


def refined_error(method, steps, n=600, parts=64):
    """E |X_T - reference| for dX = (X - X^3) dt + 0.7 dW, T = 1: a NumPy trapezoid on 64 parts of each step.

    The fine Brownian path is drawn conditionally on the dW and int W of each step that the kernel's two normals stand for.
    """
    h = 1.0 / steps
    process = fps.Process.from_drift("x - x**3", fps.Noise.from_factor([[0.7]]))
    x = fps.simulate(process, [0.5], t=1.0, dt=h, n=n, method=method, seed=6).final[:, 0]
    z = stream_normals(6, 0, n, steps).reshape(n, steps, 2)
    target = np.stack([math.sqrt(h) * z[..., 0], 0.5 * h**1.5 * (z[..., 0] + z[..., 1] / math.sqrt(3.0))], axis=-1)
    weight = np.stack([np.ones(parts), h * (1.0 - (np.arange(parts) + 0.5) / parts)])
    gain = weight.T @ np.linalg.inv(weight @ weight.T)
    rng, y, d = np.random.default_rng(0), np.full(n, 0.5), h / parts
    for k in range(steps):
        w = math.sqrt(d) * rng.standard_normal((n, parts))
        w += (target[:, k] - w @ weight.T) @ gain.T
        for j in range(parts):
            guess = y + d * (y - y**3) + 0.7 * w[:, j]
            y = y + 0.5 * d * (y - y**3 + guess - guess**3) + 0.7 * w[:, j]
    return np.abs(x - y).mean()


def test_strong_order_three_halves_with_a_nonlinear_drift():
    """Between h = 1/8 and 1/32; the reference, of order 1 at h/64, is at least ten times closer than the scheme."""
    assert math.log(refined_error("sra15", 8) / refined_error("sra15", 32), 4) == pytest.approx(1.5, abs=0.2)


@pytest.mark.parametrize("method", ["heun", "weak2", "sra15"])
def test_affine_steps_are_those_of_the_kernels(method):
    """Matrix and fused kernels path by path in 9-D, to rounding: what the test above uses is what runs."""
    process = fps.Process.ornstein_uhlenbeck(np.diag(np.linspace(0.5, 2, 9)), fps.Noise.isotropic(0.3), center=np.arange(9.0))
    kwargs = {"t": 0.9, "dt": 0.1, "n": 70, "seed": 2, "save": [0.3, 0.9], "method": method}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_linear, "MAX_TRANSFORMED", 0)  # in the sparsest basis the law is the same, the paths are others
        matrix = fps.simulate(process, np.ones(9), **kwargs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_model, "MAX_UNROLLED_LINEAR", 100)
        fused = fps.simulate(process, np.ones(9), **kwargs)
    np.testing.assert_allclose(matrix.states, fused.states, rtol=1e-12, atol=1e-12)


# ---- weak order and the right limit: bilinear noise that does not commute, exact moments from a linear equation -----------

DRIFT = np.array([[-0.6, 0.4], [-0.3, -0.5]])
G = (np.array([[0.5, 0.6], [0.1, -0.4]]), np.array([[0.1, -0.7], [0.6, 0.3]]))
START = np.array([1.0, 0.5])


def bilinear(interpretation="ito"):
    def linear(row):
        return f"{row[0]}*x + {row[1]}*y"

    B = [[linear(g[i]) for g in G] for i in range(2)]
    noise = fps.Noise.from_factor(B, variables="x y")
    return fps.Process.from_drift([linear(r) for r in DRIFT], noise, variables="x y", interpretation=interpretation)


def second_moments(interpretation="ito", t=1.0):
    """E X X^T: with drift matrix L, d/dt S = L S + S L^T + sum_k G_k S G_k^T."""
    L = DRIFT + (0.5 * sum(g @ g for g in G) if interpretation == "stratonovich" else 0.0)
    eye = np.eye(2)
    flow = np.kron(L, eye) + np.kron(eye, L) + sum(np.kron(g, g) for g in G)
    return (scipy.linalg.expm(t * flow) @ np.outer(START, START).ravel()).reshape(2, 2)


def moment_error(method, steps, interpretation="ito", n=4_000_000):
    """(Error of E x^2 at T = 1, its standard error)."""
    x = fps.simulate(bilinear(interpretation), START, t=1.0, dt=1 / steps, n=n, method=method, seed=9).final
    square = x[:, 0] ** 2
    return square.mean() - second_moments(interpretation)[0, 0], square.std() / math.sqrt(n)


def test_the_noise_is_general():
    assert noise_class(bilinear(), START[None]) == "general"
    kinds = {kind: noise_class(multiplicative(gains), np.ones((1, len(gains)))) for kind, gains in GAINS.items()}
    assert kinds == {kind: kind for kind in GAINS}
    numeric = fps.Process(fps.potentials.double_well(2), fps.Noise.from_expression([["0.1+x**2", "0"], ["0", "0.2+y**2"]], "x y"))
    assert noise_class(numeric, np.array([[0.3, 0.4]])) == "diagonal"
    full = fps.Noise.from_expression([["0.2+0.05*x**2", "0.02*x*y"], ["0.02*x*y", "0.1+0.05*y**2"]], "x y")
    assert noise_class(fps.Process(fps.potentials.double_well(2), full), np.array([[0.3, 0.4]])) == "general"


@pytest.mark.parametrize(
    ("method", "order", "steps"), [("euler", 1, (8, 16)), ("tamed", 1, (8, 16)), ("heun", 1, (4, 8)), ("weak2", 2, (2, 4))]
)
def test_weak_order_with_noise_that_does_not_commute(method, order, steps):
    """Halving h divides the error of E x^2 by 2^order, within four standard errors and 25 % for the next order."""
    (coarse, a), (fine, b) = (moment_error(method, k) for k in steps)
    assert abs(coarse) > 10 * a, "the coarse error must be seen"
    ratio = coarse / fine
    assert abs(ratio - 2**order) < 0.25 * 2**order + 4 * abs(ratio) * math.hypot(a / coarse, b / fine), ratio


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich"])
@pytest.mark.parametrize("method", ["euler", "heun", "weak2", "tamed"])
def test_every_scheme_converges_to_the_right_limit(method, interpretation):
    """E X at h = 1/64 within 4 standard errors and 2 % of exp(L), where the two readings differ by more than 10 %."""
    spin = 0.5 * sum(g @ g for g in G)
    means = {"ito": scipy.linalg.expm(DRIFT) @ START, "stratonovich": scipy.linalg.expm(DRIFT + spin) @ START}
    exact, size = means[interpretation], np.linalg.norm(means["ito"])
    assert np.linalg.norm(means["ito"] - means["stratonovich"]) > 0.1 * size
    n = 200_000
    x = fps.simulate(bilinear(interpretation), START, t=1.0, dt=1 / 64, n=n, method=method, seed=9).final
    assert np.all(np.abs(x.mean(axis=0) - exact) < 4 * x.std(axis=0) / math.sqrt(n) + 0.02 * size)


def test_milstein_has_exact_moments_at_finite_step():
    """dX = a X dt + s X dW: E X = (1 + a h)^k, E X^2 = ((1 + a h)^2 + s^2 h + s^4 h^2/2)^k; h = 0.25."""
    s, h, k, n = 0.8, 0.25, 4, 400_000
    x = fps.simulate(multiplicative([[s]]), [1.0], t=1.0, dt=h, n=n, method="milstein", seed=4).final[:, 0]
    z_test(x.mean(), (1 + A * h) ** k, x.std() / math.sqrt(n))
    second = ((1 + A * h) ** 2 + s * s * h + 0.5 * s**4 * h * h) ** k
    z_test((x**2).mean(), second, (x**2).std() / math.sqrt(n))


def test_tamed_euler_survives_a_steep_drift():
    """dX = -X^5 dt + dW/2 from 10 at dt = 0.1: Euler overshoots and diverges; the tamed steps go home."""
    steep = fps.Process(fps.Potential.from_expression("x**6/6"), fps.Noise.isotropic(0.125))
    with pytest.raises(fps.FpsolveError, match="halve dt"):
        fps.simulate(steep, [10.0], t=20.0, dt=0.1, n=100, seed=1)
    x = fps.simulate(steep, [10.0], t=20.0, dt=0.1, n=1000, method="tamed", seed=1).final
    assert np.abs(x).max() < 3.0


def test_escape_with_other_schemes_agrees_with_quadrature():
    """Mean exit time of a double well with D(x) out of (-inf, 1): bridge with every scheme, 4 standard errors and 3 % for dt."""
    process = fps.Process(fps.potentials.double_well(), fps.Noise.from_factor([["0.8 + 0.1*x"]], variables="x"))
    exact = fps.theory.mean_first_passage_1d(process, -1.0, 1.0).value
    for method in ("milstein", "heun", "weak2", "tamed"):
        mean = fps.escape_times(process, [-1.0], fps.Region.halfspace([1.0], 1.0), n=2000, dt=0.01, method=method, seed=2).mean()
        assert abs(mean.value - exact) < 4 * mean.stderr + 0.03 * exact


def test_refusals_name_a_way_out():
    kwargs = {"t": 1.0, "dt": 0.1, "n": 2}
    with pytest.raises(ValueError, match="milstein needs scalar, diagonal or commutative noise, and this B.x. is general; use"):
        fps.simulate(bilinear(), START, method="milstein", **kwargs)
    with pytest.raises(ValueError, match="sra15 needs additive noise.*milstein, weak2 or euler"):
        fps.simulate(multiplicative([[0.5]]), [1.0], method="sra15", **kwargs)
    with pytest.raises(ValueError, match="sra15 needs additive noise.*weak2, heun or euler"):
        fps.escape_times(bilinear(), START, fps.Region.ball([0.0, 0.0], 2.0), n=2, dt=0.1, method="sra15")
    with pytest.raises(ValueError, match=r"unknown method 'rk4'.*euler, milstein.*fpsolve\.schemes"):
        fps.simulate(bilinear(), START, method="rk4", **kwargs)
    chain = fps.SGDChain.gaussian(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.1), lr=0.1)
    with pytest.raises(ValueError, match="its own method"):
        fps.simulate(chain, [0.0], t=10, n=2, method="heun")


def test_the_table_lists_what_simulate_takes():
    table = fps.schemes()
    names = ["euler", "milstein", "heun", "weak2", "sra15", "tamed", "baoab", "obabo", "gjf"]
    assert table.column("method") == names
    assert set(table.column("equations")) == {"overdamped", "underdamped"}
