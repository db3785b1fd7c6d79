"""Processes and chains that the tests of the paths engine share, and their test of a number with a known error."""

import numpy as np

import fpsolve as fps

WELL = fps.Potential.from_expression("(x**2-1)**2 + k*y**2/2", variables="x y", params={"k": 1.0})
FULL = fps.Noise.from_expression([["0.2+0.05*x**2", "0.02*x*y"], ["0.02*x*y", "0.1+0.05*y**2"]], variables="x y")


def z_test(value, expected, error):
    """Assert |z| < 4: a correct code fails one such number in 15 800 (normal law)."""
    z = (value - expected) / error
    assert np.all(np.abs(z) < 4.0), f"z = {z}"


def brownian(D=0.5, dim=1):
    return fps.Process.from_drift(["0*x", "0*y"][:dim], fps.Noise.isotropic(D), variables="x y"[: 2 * dim - 1])


def gaussian_chain(h, c, lr, batch, momentum=0.0):
    U = fps.Potential.from_expression("h*x**2/2", params={"h": h})
    return fps.SGDChain.gaussian(U, fps.Noise.covariance([[c]], lr=lr, batch=batch), lr=lr, momentum=momentum)


class Quadratic:
    """Sample losses h (theta - a_i)^2/2."""

    def __init__(self, size=20, h=1.5):
        self.dim, self.size, self.h = 1, size, h
        self.a = np.random.default_rng(0).normal(size=(size, 1))

    def gradient(self, theta, indices):
        return self.h * (theta - self.a[indices].mean(axis=0))
