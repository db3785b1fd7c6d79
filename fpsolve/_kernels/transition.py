"""Gaussian jumps: density at points, and mass on lines by differences of the complementary error function.

Row i belongs to a jump with mean m_i and covariance S_i. Everything added is >= 0, so nothing cancels and small masses keep their
relative accuracy (below 1e-308 they are zero).
"""

import math

from fpsolve._jit import inline, kernel

__all__ = ["density_1d", "density_2d", "line_mass_1d", "line_mass_2d"]

ROOT_HALF = math.sqrt(0.5)
NORM = 1.0 / math.sqrt(2.0 * math.pi)
#: Beyond this many standard deviations the density is below the range of doubles.
FAR = 39.0


@inline
def _between(a, b):
    """Mass of a standard normal in (a, b), a <= b, to relative accuracy: both ends are measured from the nearer tail."""
    if a >= 0.0:
        return 0.5 * (math.erfc(a * ROOT_HALF) - math.erfc(b * ROOT_HALF))
    if b <= 0.0:
        return 0.5 * (math.erfc(-b * ROOT_HALF) - math.erfc(-a * ROOT_HALF))
    return 1.0 - 0.5 * (math.erfc(-a * ROOT_HALF) + math.erfc(b * ROOT_HALF))


@kernel
def density_1d(mean, cov, points, weights, column, out):
    """out[i, column[k]] += weights[k] N(points[k]; mean[i], cov[i])."""
    for i in range(mean.shape[0]):
        m, std = mean[i, 0], math.sqrt(cov[i, 0, 0])
        inverse = 1.0 / std
        for k in range(points.shape[0]):
            z = (points[k, 0] - m) * inverse
            if abs(z) < FAR:
                out[i, column[k]] += weights[k] * (NORM * inverse * math.exp(-0.5 * z * z))


@kernel
def density_2d(mean, cov, points, weights, column, out):
    """The same in two dimensions."""
    for i in range(mean.shape[0]):
        m0, m1 = mean[i, 0], mean[i, 1]
        std = math.sqrt(cov[i, 0, 0])
        slope = cov[i, 0, 1] / cov[i, 0, 0]
        rest = math.sqrt(cov[i, 1, 1] - slope * cov[i, 0, 1])
        first, second = 1.0 / std, 1.0 / rest
        scale = NORM * NORM * first * second
        for k in range(points.shape[0]):
            d = points[k, 0] - m0
            u = d * first
            v = (points[k, 1] - m1 - slope * d) * second
            r = u * u + v * v
            if r < FAR * FAR:
                out[i, column[k]] += weights[k] * (scale * math.exp(-0.5 * r))


@kernel
def line_mass_1d(mean, cov, low, high, out):
    """out[i] += mass of N(mean[i], cov[i]) on the intervals (low, high)."""
    for i in range(mean.shape[0]):
        m, inverse = mean[i, 0], 1.0 / math.sqrt(cov[i, 0, 0])
        for k in range(low.size):
            out[i] += _between((low[k] - m) * inverse, (high[k] - m) * inverse)


@kernel
def line_mass_2d(mean, cov, axis, at, weight, low, high, out):
    """out[i] += sum over lines k of weight[k] (density of the other coordinate at at[k]) (mass of coordinate axis[k] then)."""
    for i in range(mean.shape[0]):
        for k in range(at.size):
            a = axis[k]
            o = 1 - a
            std = math.sqrt(cov[i, o, o])
            d = at[k] - mean[i, o]
            z = d / std
            if abs(z) < FAR:
                slope = cov[i, 0, 1] / cov[i, o, o]
                rest = math.sqrt(cov[i, a, a] - slope * cov[i, 0, 1])
                middle = mean[i, a] + slope * d
                inner = _between((low[k] - middle) / rest, (high[k] - middle) / rest)
                if inner > 0.0:
                    out[i] += weight[k] * (NORM / std * math.exp(-0.5 * z * z)) * inner
