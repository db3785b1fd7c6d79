"""Noise against curvature: brute force over samples, ensembles whose exponent is known, files."""

import numpy as np
import pytest

import nets

DATA = nets.load_data("digits").subset(120, 10)


@pytest.fixture(scope="module", params=[("relu", "cross_entropy", 0.0), ("tanh", "mse", 0.02)], ids=["relu", "tanh"])
def trained(request):
    activation, loss, decay = request.param
    mlp = nets.MLP((64, 7, 6, 10), activation=activation, loss=loss, weight_decay=decay)
    run = nets.train(mlp, DATA, lr=0.05, batch=20, epochs=5, record=nets.Record(weights=None))
    return mlp, run.theta


@pytest.mark.parametrize("block", ["W1", "W2", "W3"])
def test_against_the_hessians_of_single_samples(trained, block):
    """h_p from nets.hessian of one sample each, C from per-sample gradients; weight decay is in neither."""
    mlp, theta = trained
    plain = nets.MLP(**{**mlp.spec, "weight_decay": 0.0})
    x, y = DATA.x_train, DATA.y_train
    found = nets.noise_against_curvature(mlp, theta, x, y, block=block, k=20)
    single = [nets.hessian(plain, theta, x[i : i + 1], y[i : i + 1], block=block) for i in range(len(x))]
    values, vectors = np.linalg.eigh(np.mean(single, axis=0))
    values, V = values[::-1][:20], vectors[:, ::-1][:, :20]
    np.testing.assert_allclose(found.curvature, values, atol=1e-10 * values[0])
    squared = np.mean([((h @ V) ** 2).sum(axis=0) for h in single], axis=0)
    C = np.cov(plain.per_sample_gradients(theta, x, y, block=block), rowvar=False, bias=True)
    noise = np.einsum("ij,ij->j", V, C @ V)
    # the last layer under mse has every eigenvalue ten times over: only sums over its eigenvectors mean something
    groups = (2, 10) if (block, mlp.loss_name) == ("W3", "mse") else (20, 1)
    for mine, theirs in ((found.squared, squared), (found.noise, noise)):
        np.testing.assert_allclose(mine.reshape(groups).sum(axis=1), theirs.reshape(groups).sum(axis=1), rtol=1e-6)
    H = np.mean(single, axis=0)
    expected = np.linalg.norm(C @ H - H @ C) / np.linalg.norm(C) / np.linalg.norm(H)
    assert found.commutator == pytest.approx(expected, rel=1e-8)
    assert (found.squared >= found.curvature**2 * (1 - 1e-9)).all()  # Jensen: gamma = 2 is the lower bound of E[h^2]


def test_large_blocks_take_lanczos(trained, monkeypatch):
    mlp, theta = trained
    whole = nets.noise_against_curvature(mlp, theta, DATA.x_train, DATA.y_train, block="W1", k=6)
    monkeypatch.setattr("nets.superlinear.DENSE_UP_TO", 10)
    monkeypatch.setattr("nets.spectrum.DENSE_UP_TO", 10)
    few = nets.noise_against_curvature(mlp, theta, DATA.x_train, DATA.y_train, block="W1", k=6)
    np.testing.assert_allclose(few.curvature, whole.curvature, rtol=1e-6)
    np.testing.assert_allclose(few.noise, whole.noise, rtol=1e-4)
    assert np.isnan(few.commutator)


def test_a_random_rotation_has_the_commutator_of_unrelated_matrices():
    """sqrt(2/d) for matrices of low rank in d dimensions; here rank 8 of 900 and 5 seeds."""
    from nets.superlinear import _commutators

    rng = np.random.default_rng(100)
    V = np.linalg.qr(rng.normal(size=(900, 8)))[0]
    values = np.geomspace(1.0, 0.3, 8)
    H, C = V * values @ V.T, V * values**1.5 @ V.T
    for seed in range(5):
        whole, turned, inside, turned_within = _commutators(C, H, values, V, np.random.default_rng(seed))
        assert whole < 1e-12 and inside < 1e-12
        assert turned == pytest.approx(np.sqrt(2 / 900), rel=0.25)
        assert 0.03 < turned_within < 0.8  # H is not far from a multiple of one within its range


def test_file_and_bad_input(trained, tmp_path):
    mlp, theta = trained
    found = nets.noise_against_curvature(mlp, theta, DATA.x_train, DATA.y_train, block="W2", k=10)
    found.save(tmp_path / "found.h5")
    back = nets.load(tmp_path / "found.h5")
    np.testing.assert_array_equal(back.noise, found.noise)
    assert back.block == "W2" and back.turned == found.turned
    assert back.against_curvature().exponent == found.against_curvature().exponent
    assert back.against_squares(0.1).points <= back.against_squares(1e-6).points
    for bad in ({"block": "b1"}, {"block": "W9"}, {"k": 2}, {"k": 43}, {"k": True}):
        with pytest.raises(ValueError, match=r"block must be|k must lie"):
            nets.noise_against_curvature(mlp, theta, DATA.x_train, DATA.y_train, **{"block": "W2", "k": 10, **bad})
