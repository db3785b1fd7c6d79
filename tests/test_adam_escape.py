"""Escape under Adam: its power of the sharpness is that of the learning rate; the chains beside SGD in the claim on MNIST."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

import fpsolve as fps
import nets


@pytest.mark.parametrize("k", [4, 16])
def test_adam_on_a_sharper_loss_is_adam_at_a_higher_rate(k: int) -> None:
    """L(sqrt(k) x) at lr and L at sqrt(k) lr: bit for bit, for sqrt(k) is a power of two."""
    data = np.random.default_rng(3).normal(size=500)

    def exits(r: float, lr: float) -> np.ndarray:
        def gradients(theta: np.ndarray, indices: np.ndarray) -> np.ndarray:
            y = r * theta - data[indices].reshape(len(theta), -1)
            return np.asarray((r * (4.0 * y**3 - 8.0 * y)).mean(axis=1, keepdims=True))

        chain = fps.SGDChain(fps.Ensemble.from_function(gradients, dim=1, size=500), lr, 2, optimizer="adam", eps=0.0)
        times: np.ndarray = fps.escape_times(chain, [-1.0 / r], fps.Region.halfspace([1.0], 1.0 / r), n=50, seed=1).times
        return times

    r = math.sqrt(k)
    assert np.array_equal(exits(r, 0.2 / r), exits(1.0, 0.2))
    assert not np.array_equal(exits(r, 0.2 / r), exits(1.0, 0.2 * r))


def test_chains_beside_sgd_have_its_mean_and_covariance(validation) -> None:
    from fpsolve_validation import xie_mnist as claim

    data = nets.only_labels(nets.load_data("digits"), (1, 3, 8))
    mlp = nets.MLP((64, 2, 3), activation="tanh", weight_decay=0.1)
    x, t = mlp.check_samples(data.x_train[:20], data.y_train[:20])
    theta = mlp.init(1) * 1.1
    g = mlp.per_sample_gradients(theta, x, t)
    # weighted sums of sample gradients, against the gradients themselves; weight decay is in each of them
    weights = np.random.default_rng(0).normal(size=(3, 20))
    weights += (1.0 - weights.sum(axis=1, keepdims=True)) / 20
    found = claim.weighted_gradients(mlp, np.repeat(theta[None], 3, 0), x, t, weights)
    assert np.abs(found - weights @ g).max() < 1e-11 * np.abs(g).max()
    # a parabola for each sample: at small displacements its gradients are those of the samples
    H = nets.hessian(mlp, theta, x, data.y_train[:20])
    own = claim.parabolas(SimpleNamespace(ensemble=SimpleNamespace(mlp=mlp, x=x, t=t, size=20), minimum=theta, H=H))
    step = 1e-4 * np.random.default_rng(1).normal(size=(20, len(theta)))
    samples = np.arange(20)[:, None]
    heavy = own.index >= 0
    exact = np.array([mlp.per_sample_gradients(theta + s, x[i : i + 1], t[i : i + 1])[0] for i, s in enumerate(step)])
    error = np.abs(own.gradients(step, samples) + g.mean(axis=0) - exact).max(axis=1)
    assert heavy.sum() == claim.HEAVY and error[heavy].max() < 1e-6
    # all samples together: the Hessian of the mean loss
    whole = own.gradients(step, np.repeat(np.arange(20)[None], 20, 0))
    assert np.allclose(whole, step @ H, rtol=0, atol=1e-9)
