"""Processes and chains that the tests of the paths engine share, and their test of a number with a known error."""

import math

import numpy as np
from scipy import stats

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


def tilted_exit(dim, n, dt, seed):
    """Exit through n.x = 2 at constant drift and tensor, with neither along the axes: the bridge is exact at any step.

    T is inverse Gaussian for n.b = 1 and n.D n. Along u, orthogonal to n, and given T the exit point is normal with mean
    u.b T + (u.D n / n.D n)(2 - T) and variance 2 (u.D u - (u.D n)^2/n.D n) T. Kolmogorov-Smirnov tests of times and
    places, their correlation, and the spread of the places of the exits in the first step, each at the level 1e-4.
    """
    rng = np.random.default_rng(9)
    Q = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    D = Q @ np.diag(np.geomspace(1.0, 0.02, dim)) @ Q.T
    normal, u = (Q[:, [0, -1]] @ np.array([[2.0, 1.0], [1.0, -2.0]]) / math.sqrt(5.0)).T
    b = normal + 0.3 * u
    process = fps.Process.from_drift([repr(float(v)) for v in b], fps.Noise.constant(D), variables=[f"q{i}" for i in range(dim)])
    out = fps.escape_times(process, np.zeros(dim), fps.Region.halfspace(normal, 2.0), n=n, dt=dt, seed=seed)
    np.testing.assert_allclose(out.exit_points @ normal, 2.0, atol=1e-11)
    across, mixed, along = normal @ D @ normal, u @ D @ normal, u @ D @ u
    for wrong in (np.trace(D) / dim, normal**2 @ np.diag(D)):  # what a bridge without the tensor, or with its diagonal, would take
        assert abs(mixed) > 0.2 * across and wrong < 0.7 * across
    T = out.times
    shape = 2.0 / across
    assert stats.kstest(T, "invgauss", args=(2.0 / shape, 0, shape)).pvalue > 1e-4
    place = out.exit_points @ u - 0.3 * T - mixed / across * (2.0 - T)
    place /= np.sqrt(2 * (along - mixed**2 / across) * T)
    assert stats.kstest(place, "norm").pvalue > 1e-4
    early = place[dt > T]  # in the first step, where the bridge alone spreads the places
    assert early.size > 500
    z_test(np.mean(early**2), 1.0, math.sqrt(2.0 / early.size))
    assert abs(np.corrcoef(place, T)[0, 1]) < 3.9 / math.sqrt(n)


def double_well():
    return fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.4))
