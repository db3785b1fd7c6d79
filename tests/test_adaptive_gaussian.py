"""Adam and Adai with Gaussian gradient noise: the published recursions, statistics against independent code, exits, refusals."""

import math

import numpy as np
import pytest

import fpsolve as fps
from references import adaptive_gaussian_paths, torch_adam

H, C = np.array([[2.0, 0.4], [0.4, 1.0]]), np.array([[1.0, 0.3], [0.3, 2.0]])
U = fps.potentials.quadratic(H)
START = [0.8, -0.6]


def test_without_noise_adam_is_the_published_recursion_and_that_of_torch():
    quiet = fps.Noise.constant(np.zeros((2, 2)))
    for betas, eps, steps in (((0.9, 0.999), 1e-8, 1), ((0.9, 0.999), 1e-8, 60), ((0.5, 0.9), 0.1, 25)):
        chain = fps.SGDChain.gaussian(U, quiet, 0.05, optimizer="adam", betas=betas, eps=eps)
        got = fps.simulate(chain, START, t=steps, n=2, seed=1).final
        expected = torch_adam(lambda w: (H @ np.array(w)).tolist(), START, 0.05, betas, eps, steps)
        np.testing.assert_allclose(got, [expected] * 2, rtol=1e-11)
    first = fps.SGDChain.gaussian(U, quiet, 0.05, optimizer="adam")
    one = fps.simulate(first, START, t=1, n=1, seed=1).final[0]
    np.testing.assert_allclose(one, START - 0.05 * np.sign(H @ START), atol=1e-8)  # m/sqrt(v) = sign(g) but for eps


@pytest.mark.parametrize("optimizer", ["adam", "adai"])
def test_without_noise_both_are_the_papers_algorithms_under_a_schedule(optimizer):
    rates = [0.05 / (1 + 0.1 * k) for k in range(30)]
    betas, eps = ((0.9, 0.99), 1e-8) if optimizer == "adam" else ((0.1, 0.99), 1e-3)
    chain = fps.SGDChain.gaussian(U, fps.Noise.constant(np.zeros((2, 2))), rates, optimizer=optimizer, betas=betas)
    expected = adaptive_gaussian_paths(optimizer, H, np.eye(2) * 1e-300, START, rates, betas, eps, 1, 0)
    np.testing.assert_allclose(fps.simulate(chain, START, t=30, n=1, seed=1).final, expected, rtol=1e-11)


@pytest.mark.parametrize("optimizer", ["adam", "adai"])
def test_law_on_a_quadratic_is_that_of_independent_code(optimizer):
    """20000 trajectories each; mean and second moments differ by z < 4.5 in five numbers: false alarm 3.4e-5 per case."""
    n, betas = 20000, (0.9, 0.99) if optimizer == "adam" else (0.1, 0.99)
    chain = fps.SGDChain.gaussian(U, fps.Noise.covariance(C, 0.05, 2), 0.05, batch=2, optimizer=optimizer, betas=betas)
    eps = 1e-8 if optimizer == "adam" else 1e-3
    got = fps.simulate(chain, START, t=60, n=n, seed=2).final
    other = adaptive_gaussian_paths(optimizer, H, C / 2, START, [0.05] * 60, betas, eps, n, 3)
    for i, j in ((0, None), (1, None), (0, 0), (0, 1), (1, 1)):
        a, b = ((x[:, i] if j is None else x[:, i] * x[:, j]) for x in (got, other))
        assert abs(a.mean() - b.mean()) < 4.5 * math.sqrt((a.var() + b.var()) / n)


def test_batch_schedule_scales_the_noise_of_the_gradient():
    """First step of Adai is SGD's, w - lr g: variance lr^2 C/B_0; the noise was given at lr 0.05, batch 2. z < 4.5: 1.4e-5."""
    n = 20000
    chain = fps.SGDChain.gaussian(U, fps.Noise.covariance(C, 0.05, 2), [0.2], batch=[8], optimizer="adai")
    x = fps.simulate(chain, START, t=1, n=n, seed=4).final
    variance = 0.2**2 * np.diag(C) / 8
    assert np.all(np.abs(x.var(axis=0) / variance - 1) < 4.5 * math.sqrt(2 / n))
    assert np.all(np.abs(x.mean(axis=0) - (START - 0.2 * H @ START)) < 4.5 * np.sqrt(variance / n))


def test_adam_forgets_the_scale_of_the_gradient_and_adai_does_not_amplify_flat_directions():
    """With eps = 0 Adam's path is the same for U and 128 U with noise of 128 times the amplitude. Without noise Adam moves along a
    flat direction as fast as along a steep one; Adai, whose moment is not divided by the root of v, in proportion to the slope."""
    lr = 0.01
    paths = []
    for s in (1.0, 128.0):
        noise = fps.Noise.covariance(s * s * C, lr)
        chain = fps.SGDChain.gaussian(fps.potentials.quadratic(s * H), noise, lr, optimizer="adam", eps=0.0)
        paths.append(fps.simulate(chain, START, t=50, n=3, seed=5).final)
    np.testing.assert_allclose(*paths, rtol=1e-9)
    steep = fps.potentials.quadratic(np.diag([1.0, 0.01]))
    quiet = fps.Noise.constant(np.zeros((2, 2)))
    moved = {
        name: 1.0 - fps.simulate(fps.SGDChain.gaussian(steep, quiet, lr, optimizer=name), [1.0, 1.0], t=20, n=1, seed=1).final[0]
        for name in ("adam", "adai")
    }
    assert moved["adam"][1] / moved["adam"][0] > 0.9
    assert moved["adai"][1] / moved["adai"][0] < 0.02


def test_a_trajectory_does_not_depend_on_the_number_of_others():
    chain = fps.SGDChain.gaussian(U, fps.Noise.covariance(C, 0.05), 0.05, optimizer="adam")
    many, few = (fps.simulate(chain, START, t=150, n=n, seed=6).final for n in (1500, 7))
    assert np.array_equal(many[:7], few)


def test_exits_are_the_first_iterations_outside_of_the_same_paths():
    chain = fps.SGDChain.gaussian(U, fps.Noise.covariance(C, 0.05), lambda k: 0.05 + 0.001 * k, optimizer="adai")
    region, n = fps.Region.halfspace([1.0, 0.0], 0.25), 300
    paths = fps.simulate(chain, [0.0, 0.0], t=40, n=n, save=list(range(1, 41)), seed=9).states[..., 0]
    out = fps.escape_times(chain, [0.0, 0.0], region, n=n, t_max=40, seed=9)
    beyond = paths >= 0.25
    left = beyond.any(axis=0)
    assert 20 < left.sum() < n and np.array_equal(out.censored, ~left)
    assert np.array_equal(out.times, np.where(left, beyond.argmax(axis=0) + 1, 40))


def test_refusals():
    noise = fps.Noise.covariance(C, 0.05)
    chain = fps.SGDChain.gaussian(U, noise, 0.05, optimizer="adam")
    assert chain.process is None and "Adam, Gaussian" in fps.simulate(chain, START, t=1, n=1, seed=1).method
    for call, text in (
        (lambda: fps.SGDChain.gaussian(U, noise, 0.05, 0.9, optimizer="adam"), "betas="),
        (lambda: fps.SGDChain.gaussian(U, noise, 0.05, optimizer="rmsprop"), "'adai'"),
        (lambda: fps.SGDChain.gaussian(U, noise, 0.05, betas=(0.9, 0.9)), "belong to"),
        (lambda: fps.simulate(chain, START, t=1, n=1, walls=fps.Grid((-1, 1, 4), (-1, 1, 4))), "Adam and Adai"),
        (lambda: fps.Process.modified(chain), "no modified equation"),
        (lambda: fps.TransitionKernel(chain, fps.Grid((-1, 1, 8), (-1, 1, 8))), "one kernel"),
        (lambda: fps.simulate(chain, START, t=1, n=1, dt=0.1), "dt is refused"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
