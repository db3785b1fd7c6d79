"""The jump probabilities of `transition` in numbers with an unlimited exponent, for jumps of more than 37 standard deviations.

Everything is summed from logarithms, which know no underflow. `total` are the row sums in doubles, by which rows are divided.
"""

import math

import numpy as np

from fpsolve._jit import inline, kernel
from fpsolve._kernels.wide import LOG_RADIX, _add

__all__ = ["wide_density", "wide_line_mass"]

LOG_NORM = -0.5 * math.log(2.0 * math.pi)


@inline
def _add_log(M, E, i, j, log):
    """Add exp(log) to a wide matrix entry."""
    k = math.floor(log / LOG_RADIX + 0.5)
    M[i, j], E[i, j] = _add(M[i, j], np.int64(E[i, j]), math.exp(log - k * LOG_RADIX), np.int64(k))


@inline
def _log_tail(x):
    """ln of the mass of a standard normal beyond x >= 0; beyond 35 by the asymptotic series, to 4e-13."""
    if x < 35.0:
        return math.log(0.5 * math.erfc(x * math.sqrt(0.5)))
    r = 1.0 / (x * x)
    return LOG_NORM - 0.5 * x * x - math.log(x) + math.log1p(-r * (1.0 - 3.0 * r * (1.0 - 5.0 * r * (1.0 - 7.0 * r))))


@inline
def _log_between(a, b):
    """ln of the mass of a standard normal in (a, b), a < b."""
    if b <= 0.0:
        a, b = -b, -a
    if a >= 0.0:
        low = _log_tail(a)
        return low + math.log1p(-math.exp(_log_tail(b) - low)) if b < np.inf else low
    return math.log1p(-0.5 * (math.erfc(-a * math.sqrt(0.5)) + math.erfc(b * math.sqrt(0.5))))


@kernel
def wide_density(mean, cov, points, weights, column, total, M, E):
    """M, E[i, column[k]] += weights[k] N(points[k]; mean[i], cov[i]) / total[i], in one or two dimensions."""
    plane = mean.shape[1] == 2
    for i in range(mean.shape[0]):
        std = math.sqrt(cov[i, 0, 0])
        slope, rest = 0.0, 1.0
        scale = LOG_NORM - math.log(std) - math.log(total[i])
        if plane:
            slope = cov[i, 0, 1] / cov[i, 0, 0]
            rest = math.sqrt(cov[i, 1, 1] - slope * cov[i, 0, 1])
            scale += LOG_NORM - math.log(rest)
        for k in range(points.shape[0]):
            d = points[k, 0] - mean[i, 0]
            u = d / std
            r = u * u
            if plane:
                v = (points[k, 1] - mean[i, 1] - slope * d) / rest
                r += v * v
            if weights[k] > 0.0:
                _add_log(M, E, i, column[k], scale + math.log(weights[k]) - 0.5 * r)


@kernel
def wide_line_mass(mean, cov, axis, at, weight, low, high, total, M, E):
    """M, E[i, last] += mass of N(mean[i], cov[i]) on all lines / total[i], as `line_mass_1d` and `line_mass_2d`."""
    last = M.shape[1] - 1
    plane = mean.shape[1] == 2
    for i in range(mean.shape[0]):
        for k in range(at.size):
            if not (weight[k] > 0.0 and high[k] > low[k]):
                continue
            a = axis[k]
            middle, rest, log = mean[i, a], math.sqrt(cov[i, a, a]), math.log(weight[k]) - math.log(total[i])
            if plane:
                o = 1 - a
                std = math.sqrt(cov[i, o, o])
                d = at[k] - mean[i, o]
                slope = cov[i, 0, 1] / cov[i, o, o]
                rest = math.sqrt(cov[i, a, a] - slope * cov[i, 0, 1])
                middle += slope * d
                log += LOG_NORM - math.log(std) - 0.5 * (d / std) * (d / std)
            inner = _log_between((low[k] - middle) / rest, (high[k] - middle) / rest)
            if inner > -np.inf:
                _add_log(M, E, i, last, log + inner)
