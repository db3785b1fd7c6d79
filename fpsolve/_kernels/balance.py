"""The split of a drift into D g and a rest, in one to three dimensions (arrays in, arrays out).

`unbalanced` is what g leaves of the drift, `defect` how far g is from the gradient of a stationary log density, `blend` takes a
better g where it leaves no more drift to one-sided differences; `slopes` are differences of a field, `semidefinite` is for tensors.
"""

import math

import numpy as np

from .._jit import inline, kernel
from .selling import PERIODIC

__all__ = ["blend", "definite", "defect", "semidefinite", "slopes", "unbalanced"]

#: Part of the drift below which what g leaves of it is rounding.
NOTHING = 1e-14


@kernel
def semidefinite(diffusion):
    """Whether all tensors (n, 2, 2) are symmetric and positive semi-definite up to rounding."""
    for i in range(diffusion.shape[0]):
        a, b, c = diffusion[i, 0, 0], diffusion[i, 0, 1], diffusion[i, 1, 1]
        lowest = 0.5 * (a + c - math.sqrt((a - c) ** 2 + 4.0 * b * b))
        if b != diffusion[i, 1, 0] or not lowest >= -1e-13 * (abs(a) + abs(c)):
            return False
    return True


@kernel
def definite(diffusion):
    """Whether no tensor (n, 2, 2) is singular."""
    for i in range(diffusion.shape[0]):
        a, b, c = diffusion[i, 0, 0], diffusion[i, 0, 1], diffusion[i, 1, 1]
        if not a * c - b * b > 1e-14 * a * c:
            return False
    return True


@inline
def _neighbours(axis, i, stride, shape, sides, up, down, part):
    """Steps to the cells above and below along an axis, and one over their distance, one-sided at walls."""
    j, s, m = i // stride[axis] % shape[axis], stride[axis], shape[axis]
    up[axis], down[axis] = s, -s
    if j == m - 1:
        up[axis] = -(m - 1) * s if sides[axis, 1] == PERIODIC else 0
    if j == 0:
        down[axis] = (m - 1) * s if sides[axis, 0] == PERIODIC else 0
    part[axis] = 1.0 / ((up[axis] != 0) + (down[axis] != 0))


@kernel
def slopes(field, shape, sides, out):
    """out (n, d, d): derivative of component i of a field (n, d) along axis j per cell, central, one-sided at walls."""
    n, d = field.shape
    up, down, part = np.zeros(d, np.int64), np.zeros(d, np.int64), np.zeros(d)
    stride = np.ones(d, np.int64)
    for axis in range(d - 2, -1, -1):
        stride[axis] = stride[axis + 1] * shape[axis + 1]
    m = shape[d - 1]
    for i in range(n):
        first = i % m
        if first <= 1 or first == m - 1:  # along a line only the last axis changes, at its ends
            for axis in range(d):
                _neighbours(axis, i, stride, shape, sides, up, down, part)
        for k in range(d):
            for axis in range(d):
                out[i, k, axis] = (field[i + up[axis], k] - field[i + down[axis], k]) * part[axis]


@kernel
def unbalanced(diffusion, drift, gradient, spacing, volume, out, steps):
    """What D g leaves of the drift, per cell and times the volume, to out (n, d), and g per cell to steps (n, d).

    Rounding is no drift: against the noise, where rates fall below 1e-16 of their counterparts, it would rule them.
    """
    n, d = drift.shape
    for i in range(n):
        for k in range(d):
            left, size = drift[i, k], abs(drift[i, k])
            for m in range(d):
                left -= diffusion[i, k, m] * gradient[i, m]
                size += abs(diffusion[i, k, m]) * abs(gradient[i, m])
            out[i, k] = left * volume[i] / spacing[i, k] if abs(left) > NOTHING * size else 0.0
            steps[i, k] = gradient[i, k] * spacing[i, k]


@kernel
def blend(diffusion, drift, spacing, volume, excess, rest, better, rest_of_better, gradient):
    """Replace g, in place, by a better one where that leaves no more drift without an edge, and less and less where it leaves more.

    Returns the cells of the latter kind. `excess`: the share of the unbalanced drift that makes an end of it.
    """
    n, d = drift.shape
    mixed, count = np.empty(n, np.int64), 0
    for i in range(n):
        more, size, part = 0.0, 0.0, 1.0
        for k in range(d):
            more += abs(rest_of_better[i, k]) - abs(rest[i, k])
            left = drift[i, k]
            for m in range(d):
                left -= diffusion[i, k, m] * better[i, m]
            size += abs(left * volume[i] / spacing[i, k])
        if more > 0.0:
            part = 1.0 - min(1.0, more / (excess * size) if size > 0.0 else more)
        if part < 1.0:
            mixed[count] = i
            count += 1
        for k in range(d):
            gradient[i, k] += part * (better[i, k] - gradient[i, k])
    return mixed[:count].copy()


@kernel
def defect(diffusion, drift, gradient, spacing, shape, sides):
    """Largest of |h_i h_j curl_ij g| and |div u + u.g| / sum_i D_ii/h_i^2, u = a - D g, over the cells not next to a wall."""
    n, d = drift.shape
    u = np.empty((n, d))
    for i in range(n):
        for k in range(d):
            u[i, k] = drift[i, k]
            for m in range(d):
                u[i, k] -= diffusion[i, k, m] * gradient[i, m]
    worst = 0.0
    above, below, stride = np.zeros(d, np.int64), np.zeros(d, np.int64), np.ones(d, np.int64)
    for axis in range(d - 2, -1, -1):
        stride[axis] = stride[axis + 1] * shape[axis + 1]
    for i in range(n):
        inner = True
        for axis in range(d):
            j, m = i // stride[axis] % shape[axis], shape[axis]
            above[axis] = i + stride[axis] if j < m - 1 else i - (m - 1) * stride[axis]
            below[axis] = i - stride[axis] if j > 0 else i + (m - 1) * stride[axis]
            inner = inner and ((0 < j < m - 1) or sides[axis, 0] == PERIODIC)
        if not inner:
            continue
        source, noise = 0.0, 0.0
        for k in range(d):
            source += 0.5 * (u[above[k], k] - u[below[k], k]) / spacing[i, k] + u[i, k] * gradient[i, k]
            noise += diffusion[i, k, k] / spacing[i, k] ** 2
            for m in range(k):
                curl = 0.5 * (gradient[above[m], k] - gradient[below[m], k]) * spacing[i, k]
                curl -= 0.5 * (gradient[above[k], m] - gradient[below[k], m]) * spacing[i, m]
                worst = max(worst, abs(curl))
        worst = max(worst, abs(source) / noise)
    return worst
