"""Complexity measures and their inequalities: closed forms, explicit Jacobians and their differences, cases of equality."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets_cases import outputs
from scipy.optimize import minimize

import nets
from nets import _sample_norms, rescaling


def by_weights(mlp, theta, x):
    return np.stack([outputs(mlp, theta + 1e-30j * e, x).imag / 1e-30 for e in np.eye(mlp.dim)], axis=-1)


def by_inputs(mlp, theta, x):
    return np.stack([outputs(mlp, theta, x + 1e-30j * e).imag / 1e-30 for e in np.eye(x.shape[1])], axis=-1)


def second_by_weights(mlp, theta, x, h=1e-4):
    """Hess z_c of each sample, (n, c, P, P), by differences of the Jacobians, extrapolated: errors of some 1e-10."""

    def difference(step):
        return np.stack([by_weights(mlp, theta + step * e, x) - by_weights(mlp, theta - step * e, x) for e in np.eye(mlp.dim)]) / (
            2 * step
        )

    return ((4 * difference(h) - difference(2 * h)) / 3).transpose(1, 2, 3, 0)


def problem(widths, activation, n=9, seed=0, scale=2.0, loss="mse"):
    rng = np.random.default_rng(seed)
    mlp = nets.MLP(widths, activation=activation, loss=loss, weight_decay=0.03)
    x = rng.standard_normal((n, widths[0]))
    y = rng.standard_normal((n, widths[-1])) if loss == "mse" else rng.integers(0, widths[-1], n)
    return mlp, mlp.init(seed) * scale, x, y


random_nets = st.builds(
    problem,
    st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple),
    st.sampled_from(["tanh", "relu"]),
    st.integers(1, 6),
    st.integers(0, 1000),
    st.sampled_from([0.1, 1.0, 5.0]),
)

NETS = [
    ((3, 5, 1), "tanh"),
    ((3, 5, 1), "relu"),
    ((2, 4, 3), "tanh"),
    ((3, 4, 3, 2), "relu"),
    ((3, 4, 3, 2), "tanh"),
    ((3, 2), "tanh"),
]


# ---- gradient by the inputs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", NETS)
def test_input_gradient(monkeypatch, case):
    mlp, theta, x, _ = problem(*case)
    each = (by_inputs(mlp, theta, x) ** 2).sum(axis=(1, 2))
    for numbers in (8_000_000, 100):
        monkeypatch.setattr("nets._output_rows.CHUNK_NUMBERS", numbers)
        found = nets.input_gradient(mlp, theta, x)
        assert found.value == pytest.approx(each.mean(), rel=1e-12)
        assert found.stderr == pytest.approx(each.std(ddof=1) / 3.0, rel=1e-10, abs=1e-15 * found.value)
    assert nets.input_gradient(mlp, theta, x[:1]).stderr == 0.0


# ---- the bound on it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", NETS)
def test_sides_of_the_two_layer_bound(case):
    where = mlp, theta, x, y = problem(*case)
    found, j = nets.two_layer_bound(*where), by_weights(mlp, theta, x)
    first = mlp.block_index(("W1", "b1"))
    assert found.trace == pytest.approx((j**2).sum() / len(x), rel=1e-12)
    assert found.first_trace == pytest.approx((j[:, :, first] ** 2).sum() / len(x), rel=1e-12)
    assert found.norm == pytest.approx(np.linalg.norm(theta[mlp.blocks["W1"]].reshape(x.shape[1], -1), 2), rel=1e-12)
    assert found.smallest == pytest.approx((x**2).sum(axis=1).min(), rel=1e-12)
    residual = np.einsum("nc,ncaa->", outputs(mlp, theta, x) - y, second_by_weights(mlp, theta, x)) / len(x)
    assert found.hessian_trace == pytest.approx(found.trace + residual, abs=1e-7)
    if mlp.activation == "relu":
        assert found.hessian_trace == pytest.approx(found.trace, rel=1e-13)
    assert found.bound == pytest.approx(found.norm**2 * found.trace / (1 + found.smallest), rel=1e-14)


@settings(max_examples=60)
@given(random_nets)
def test_two_layer_bound_holds(where):
    found = nets.two_layer_bound(*where)
    assert found.gradient <= found.sharp * (1 + 1e-12) and found.sharp <= found.bound * (1 + 1e-12)


def test_two_layer_bound_is_reached():
    """One hidden unit and inputs of one length: no inequality of the proof loses anything."""
    mlp, theta, x, y = problem((3, 1, 2), "tanh")
    found = nets.two_layer_bound(mlp, theta, x / np.linalg.norm(x, axis=1)[:, None], y)
    assert found.gradient == pytest.approx(found.sharp, rel=1e-13)


def test_the_trace_of_the_hessian_does_not_bound_tanh_nets_off_the_minimum():
    """Targets far on the side where tanh bends down: tr H < 0 while the gradient by the inputs is not. Hence tr G."""
    mlp = nets.MLP((1, 1, 1), activation="tanh", loss="mse")
    found = nets.two_layer_bound(mlp, [1.0, 0.5, 1.0, 0.0], [[0.3], [0.5]], [[-9.0], [-9.0]])
    assert found.hessian_trace < 0.0 < found.gradient <= found.sharp


# ---- H - G --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", NETS)
def test_sides_of_the_curvature_bound(monkeypatch, case):
    where = mlp, theta, x, y = problem(*case)
    r = outputs(mlp, theta, x) - y
    along = np.einsum("nc,ncab->nab", r / np.linalg.norm(r, axis=1)[:, None], second_by_weights(mlp, theta, x))
    expected = np.linalg.norm(along, 2, axis=(1, 2))
    exact = nets.hessian(*where) - nets.gauss_newton(*where)
    for numbers in (4_000_000, 200):  # all samples side by side, or one by one
        monkeypatch.setattr(_sample_norms, "LANCZOS_NUMBERS", numbers)
        found = nets.curvature_bound(*where)
        np.testing.assert_allclose(found.norms, expected, rtol=1e-7, atol=1e-7)
        assert found.difference == pytest.approx(np.linalg.norm(exact, 2), rel=1e-9, abs=1e-14)
    assert found.loss == pytest.approx(mlp.loss(theta, x, y) - 0.015 * theta @ theta, rel=1e-12)
    assert found.bound == pytest.approx(math.sqrt(np.mean((r**2).sum(axis=1)) * np.mean(found.norms**2)), rel=1e-12)
    assert found.difference <= found.sharp <= found.bound and (found.bound > 0.1 or mlp.n_layers == 1)
    # weaker inequalities: each output's own norm
    each = np.linalg.norm(second_by_weights(mlp, theta, x), 2, axis=(2, 3))
    assert (found.norms <= np.sqrt((each**2).sum(axis=1)) + 1e-7).all()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_norms_of_two_layers_in_closed_form(activation):
    """Unit k bends in the plane of its weight out and of (x, 1): [[a f'' s^2, f' s], [f' s, 0]], s = |(x, 1)|; units are apart."""
    mlp, theta, x, _ = problem((4, 60, 1), activation, n=20)  # 121 numbers: exhausted
    parts = mlp.unpack(theta)
    z, s = x @ parts["W1"] + parts["b1"], np.sqrt(1 + (x**2).sum(axis=1))[:, None]
    slope, bend = (z > 0, 0.0 * z) if activation == "relu" else (1 - np.tanh(z) ** 2, -2 * np.tanh(z) * (1 - np.tanh(z) ** 2))
    alpha, beta = parts["W2"][:, 0] * bend * s**2, slope * s
    expected = (0.5 * (np.abs(alpha) + np.sqrt(alpha**2 + 4 * beta**2))).max(axis=1)
    got = _sample_norms.hessian_norms(mlp, theta, x, np.ones((20, 1)))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_norms_by_few_lanczos_steps():
    """Of 1240 numbers, 60 steps (the default) against 150: from below, and within the 1e-9 that the documentation says."""
    mlp, theta, x, _ = problem((30, 30, 30, 9), "tanh", n=12)
    u = np.eye(9)[np.arange(12) % 9]
    few, many = (_sample_norms.hessian_norms(mlp, theta, x, u, steps) for steps in (None, 150))
    assert (few <= many * (1 + 1e-12)).all() and (few > many * (1 - 1e-9)).all()
    with_ten = _sample_norms.hessian_norms(mlp, theta, x, u, 10)
    assert (with_ten < many * (1 - 1e-6)).any()


@settings(max_examples=60)
@given(random_nets)
def test_curvature_bound_holds(where):
    found = nets.curvature_bound(*where)
    assert found.difference <= found.sharp * (1 + 1e-9) + 1e-13 and found.sharp <= found.bound * (1 + 1e-12) + 1e-13


@pytest.mark.parametrize("case", NETS)
def test_curvature_bound_is_reached_by_one_sample(case):
    found = nets.curvature_bound(*problem(*case, n=1))
    assert found.difference == pytest.approx(found.bound, rel=1e-9, abs=1e-14)


def test_residual_part_goes_with_the_root_of_the_loss():
    """Targets moved towards the outputs by a factor: H - G is linear in it, down to losses where H - G by subtraction is noise."""
    mlp, theta, x, y = problem((3, 4, 3, 2), "tanh")
    z = mlp.outputs(theta, x)
    far, near = (nets.curvature_bound(mlp, theta, x, z + c * (y - z)) for c in (1.0, 1e-9))
    assert near.loss == pytest.approx(1e-18 * far.loss, rel=1e-5)
    assert near.difference == pytest.approx(1e-9 * far.difference, rel=1e-5)  # z + c (y - z) is rounded at 1e-16
    assert nets.curvature_bound(mlp, theta, x, z).bound == 0.0


def test_large_nets_go_through_lanczos(monkeypatch):
    monkeypatch.setattr("nets.spectrum.DENSE_UP_TO", 0)
    where = problem((10, 12, 9, 1), "tanh", n=30)
    exact = np.linalg.norm(nets.hessian(*where) - nets.gauss_newton(*where), 2)
    assert nets.curvature_bound(*where).difference == pytest.approx(exact, rel=1e-9)


# ---- rescaling ----------------------------------------------------------------------------------------------------------

RELU = [((3, 5, 1), "mse"), ((3, 5, 2), "cross_entropy"), ((3, 4, 3, 2), "mse"), ((3, 4, 3, 4, 2), "cross_entropy")]


@pytest.mark.parametrize("widths, loss", RELU)
def test_rescaling_changes_nothing(widths, loss):
    mlp, theta, x, y = problem(widths, "relu", n=30, loss=loss)
    plain = nets.MLP(widths, loss=loss)
    found, rng = nets.rescaled_trace(mlp, theta, x, y), np.random.default_rng(1)
    assert found.trace == pytest.approx(nets.trace(plain, theta, x, y).value, rel=1e-12)
    assert found.value == pytest.approx(nets.trace(plain, found.theta, x, y).value, rel=1e-9) and found.value < 0.99 * found.trace
    np.testing.assert_allclose(mlp.outputs(found.theta, x), mlp.outputs(theta, x), rtol=0, atol=1e-12)
    for _ in range(5):
        scales = np.exp(2.0 * rng.standard_normal(len(found.scales)))
        other = rescaling._rescaled(mlp, theta, scales)
        np.testing.assert_allclose(mlp.outputs(other, x), mlp.outputs(theta, x), rtol=0, atol=1e-12)
        again = nets.rescaled_trace(mlp, other, x, y)
        assert again.value == pytest.approx(found.value, rel=1e-9) and again.trace > found.value
        seen = found.scales != 1.0  # units that can be scaled away keep the scale they came with
        np.testing.assert_allclose((again.scales * scales)[seen], found.scales[seen], rtol=1e-3)


@pytest.mark.parametrize("widths, loss", RELU)
def test_smallest_trace_by_another_minimiser(widths, loss):
    """BFGS on the trace of the rescaled network itself, by differences, in 5 to 11 logarithms."""
    mlp, theta, x, y = problem(widths, "relu", n=30, loss=loss)
    plain = nets.MLP(widths, loss=loss)
    found = nets.rescaled_trace(mlp, theta, x, y)

    def value(u):
        return nets.trace(plain, rescaling._rescaled(mlp, theta, np.exp(u)), x, y).value

    best = minimize(value, np.zeros(len(found.scales)), method="BFGS", options={"gtol": 1e-6})
    assert found.value == pytest.approx(best.fun, rel=1e-8)


def test_two_layers_in_closed_form():
    mlp, theta, x, y = problem((3, 5, 2), "relu", n=30)
    square = (by_weights(mlp, theta, x) ** 2).sum(axis=1).mean(axis=0)
    parts = mlp.unpack(square)
    into, out = parts["W1"].sum(axis=0) + parts["b1"], parts["W2"].sum(axis=1)
    expected = 2.0 * np.sqrt(into * out).sum() + parts["b2"].sum()
    assert nets.rescaled_trace(mlp, theta, x, y).value == pytest.approx(expected, rel=1e-13)


def test_units_that_can_be_scaled_away():
    """A dead unit, a unit without weights out, and one before it: their terms count as zero, and those of all units may."""
    mlp, theta, x, y = problem((3, 4, 3, 2), "relu", n=30)
    parts = mlp.unpack(theta)
    parts["W1"][:, 0], parts["b1"][0] = 0.0, -1.0
    parts["W3"][1] = 0.0
    parts["W2"][3, [0, 2]] = 0.0  # unit 3 of the first layer is seen by unit 1 of the second alone
    found = nets.rescaled_trace(mlp, theta, x, y)
    keep1, keep2 = [1, 2], [0, 2]
    small = nets.MLP((3, 2, 2, 2), loss="mse")
    less = [parts["W1"][:, keep1], parts["b1"][keep1], parts["W2"][np.ix_(keep1, keep2)], parts["b2"][keep2], parts["W3"][keep2]]
    smaller = nets.rescaled_trace(small, np.concatenate([p.ravel() for p in [*less, parts["b3"]]]), x, y)
    assert found.value == pytest.approx(smaller.value, rel=1e-9) and (found.scales[[0, 3, 5]] == 1.0).all()
    assert nets.rescaled_trace(mlp, np.zeros(mlp.dim), x, y).value == pytest.approx(2.0, rel=1e-14)  # the two biases


# ---- files and refusals -------------------------------------------------------------------------------------------------


def test_saved(tmp_path):
    where = problem((3, 4, 3, 2), "relu")
    for result in (nets.two_layer_bound(*where), nets.curvature_bound(*where), nets.rescaled_trace(*where)):
        result.save(tmp_path / "result.h5")
        back = nets.load(tmp_path / "result.h5")
        assert repr(back) == repr(result)
        for name in result.DESCRIBE:
            assert np.array_equal(getattr(back, name), getattr(result, name)), name


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda m, t, x, y: nets.two_layer_bound(nets.MLP((3, 4, 2)), t, x, [0] * 9),
            "one for loss='mse': got loss='cross_entropy'",
        ),
        (
            lambda m, t, x, y: nets.curvature_bound(nets.MLP((3, 4, 2)), t, x, [0] * 9),
            "one for loss='mse': got loss='cross_entropy'",
        ),
        (lambda m, t, x, y: nets.rescaled_trace(m, t, x, y), "only relu networks .*: got activation='tanh'"),
        (lambda m, t, x, y: nets.input_gradient(m, t, x[:, :2]), r"x must have shape \(n, 3\)"),
        (lambda m, t, x, y: nets.input_gradient(m, t[:-1], x), "theta must have shape"),
        (lambda m, t, x, y: nets.input_gradient(m, t, 3.0), r"x must have shape \(n, 3\)"),
        (lambda m, t, x, y: nets.curvature_bound(m, t, x * np.nan, y), "x must be finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*problem((3, 4, 2), "tanh"))


@pytest.mark.parametrize("wrong", [None, "mlp", nets.MLP])
def test_what_is_no_network(wrong):
    for call in (nets.two_layer_bound, nets.curvature_bound, nets.rescaled_trace, nets.gauss_newton, nets.hessian):
        with pytest.raises(TypeError, match=r"mlp must be a nets\.MLP"):
            call(wrong, np.zeros(3), np.zeros((2, 1)), np.zeros((2, 1)))
    with pytest.raises(TypeError, match=r"mlp must be a nets\.MLP"):
        nets.input_gradient(wrong, np.zeros(3), np.zeros((2, 1)))
