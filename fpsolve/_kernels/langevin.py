"""Scalar pieces of first passage (Brownian bridge), of walls, the queue of lanes, the blocked product of the linear Euler step.

The fused step loops themselves are generated text (see :mod:`fpsolve._fused_escape`); they inline the functions of this file.
"""

import math

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from .._jit import inline, part
from .rng import LANES, seed_lane

__all__ = [
    "accumulate", "bridge_fraction", "close_ranks", "end_late", "fold", "fold_high", "fold_low", "is_finite", "opaque",
    "start_lanes", "wrap",
]  # fmt: skip

#: Entries of the integer array with which an escape kernel keeps its place between calls; ACTIVE, FREE and DEADLINE are its own.
STEP, ACTIVE, NEXT, STOP, FREE, LIMIT, STRIDE, SEED, DEADLINE, DONE, BASE = range(11)
#: Number of these entries.
ENTRIES = 11
#: Status of a trajectory.
UNFINISHED, ESCAPED, CENSORED, FAILED = 0, 1, 2, 3

if config.DISABLE_JIT:

    def opaque(count):  # type: ignore[no-untyped-def]
        """The number itself."""
        return count

else:

    @intrinsic
    def opaque(typingctx, count):  # type: ignore[no-untyped-def]
        """A count below 2^28 that the compiler cannot see, so that it keeps the loop around the lanes a loop.

        With a constant it writes every turn of a loop over coordinates out, twice, which takes many times as long to compile and
        gains nothing. The bound lets it see that indices are nonnegative and do not overflow.
        """

        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            word = ir.IntType(64)
            same = builder.asm(ir.FunctionType(word, [word]), "", "=r,0", [args[0]], side_effect=False)
            return builder.and_(same, ir.Constant(word, (1 << 28) - 1))

        return types.int64(types.int64), generate


@inline
def is_finite(value):
    """True unless the number is infinite or NaN."""
    return abs(value) <= 1.7976931348623157e308


@inline
def wrap(y, low, high):
    """The number of [low, high] that differs from y by a multiple of the period; no branch, NaN and infinity give NaN."""
    span = high - low
    moved = min(max(y - span * np.floor((y - low) / span), low), high) + 0.0 * y
    return y if (low <= y) & (y <= high) else moved


@inline
def fold(y, low, high):
    """(y mirrored at both walls as often as it takes, -1 if that is an odd number of times); no branch, NaN stays NaN."""
    span = high - low
    k = np.floor((y - low) / span)
    odd = k - 2.0 * np.floor(0.5 * k)
    rest = min(max(y - low - k * span, 0.0), span)
    moved = low + (rest if odd == 0.0 else span - rest) + 0.0 * y
    inside = (low <= y) & (y <= high)
    return y if inside else moved, 1.0 if inside else 1.0 - 2.0 * odd


@inline
def fold_low(y, low):
    """(y mirrored at a wall below it, -1 if it was)."""
    return 2.0 * low - y if y < low else y, -1.0 if y < low else 1.0


@inline
def fold_high(y, high):
    """(y mirrored at a wall above it, -1 if it was)."""
    return 2.0 * high - y if y > high else y, -1.0 if y > high else 1.0


@inline
def bridge_fraction(start, end, variance, normal, uniform):
    """Fraction of the step at which a Brownian path, known to cross, first meets the level.

    ``start`` > 0 is the distance to the level at the beginning, ``end`` >= 0 at the end (on either side), ``variance`` that of
    the step along the normal. With s the fraction, v = s / (1 - s) is inverse Gaussian with mean start/end and shape
    start**2/variance; sampled after Michael, Schucany & Haas (1976) from a standard normal and a uniform number, written with
    the reciprocal of the mean so that end = 0 (a Levy variable) needs no case of its own.

    Without noise, ``variance`` = 0, it is the crossing of the straight line between the ends.

    The two roots of the defining quadratic are v and mean**2/v; v is the smaller one, picked with probability
    mean/(mean + v).
    """
    shape = start * start / variance
    inverse_mean = end / start
    if not shape < 1e300:  # no noise across, or hardly any: a straight line
        return 1.0 / (1.0 + inverse_mean)
    y = normal * normal
    # v = 2 shape / (2 shape/mean + y + sqrt(y (4 shape/mean + y))) has no cancellation and is finite for 1/mean = 0
    a = shape * inverse_mean
    v = 2.0 * shape / (2.0 * a + y + math.sqrt(y * (4.0 * a + y)))
    if uniform * (1.0 + v * inverse_mean) > 1.0:
        m = v * inverse_mean * inverse_mean  # 1 / (mean**2 / v)
        return 1.0 / (1.0 + m)
    return 1.0 / (1.0 + 1.0 / v)  # also for v = 0 and v = inf


@inline
def accumulate(y, x, matrix, row, first, last):
    """Add matrix[row : row + 4, first:last] times the rows x to the four rows y; rows hold 64 lanes.

    Sixteen multiply-adds per twelve loads and stores of SIMD vectors; ``first`` and ``last`` are multiples of 4 (zero padded),
    and the rows are taken as slices so that every index is plainly nonnegative, without which nothing would be vectorised.
    """
    for k in range(first, last, 4):
        a00, a01, a02, a03 = matrix[row, k], matrix[row, k + 1], matrix[row, k + 2], matrix[row, k + 3]
        a10, a11, a12, a13 = matrix[row + 1, k], matrix[row + 1, k + 1], matrix[row + 1, k + 2], matrix[row + 1, k + 3]
        a20, a21, a22, a23 = matrix[row + 2, k], matrix[row + 2, k + 1], matrix[row + 2, k + 2], matrix[row + 2, k + 3]
        a30, a31, a32, a33 = matrix[row + 3, k], matrix[row + 3, k + 1], matrix[row + 3, k + 2], matrix[row + 3, k + 3]
        z = x[64 * k :]
        for i in range(64):
            z0, z1, z2, z3 = z[i], z[64 + i], z[128 + i], z[192 + i]
            y[i] += a00 * z0 + a01 * z1 + a02 * z2 + a03 * z3
            y[64 + i] += a10 * z0 + a11 * z1 + a12 * z2 + a13 * z3
            y[128 + i] += a20 * z0 + a21 * z1 + a22 * z2 + a23 * z3
            y[192 + i] += a30 * z0 + a31 * z1 + a32 * z2 + a33 * z3


@part
def start_lanes(w, index, birth, freed, meta, starts, stride, base, variables):
    """Give free lanes the next trajectories of the queue; their numbers stay in ``freed``, from meta[FREE] on.

    Trajectory j begins at starts[j stride] with the stream base + j; the ``variables`` of the state follow the generator's words.
    """
    while meta[FREE] > 0 and meta[NEXT] < meta[STOP]:
        meta[FREE] -= 1
        i, j = freed[meta[FREE]], meta[NEXT]
        index[i], birth[i] = j, meta[STEP]
        seed_lane(w, i, meta[SEED], base + j)
        for k in range(variables):
            w[(4 + k) * LANES + i] = starts[j * stride, k]
        meta[NEXT] += 1
        meta[ACTIVE] = max(meta[ACTIVE], i + 1)
        meta[DEADLINE] = min(meta[DEADLINE], birth[i] + meta[LIMIT])


@part
def close_ranks(w, index, birth, meta, rows):
    """If lanes are free still, the queue is empty: the last lanes, all ``rows`` of them, move into the first free ones."""
    if meta[FREE] == 0:
        return
    i = 0
    while True:
        while meta[ACTIVE] > 0 and index[meta[ACTIVE] - 1] < 0:
            meta[ACTIVE] -= 1
        while i < meta[ACTIVE] and index[i] >= 0:
            i += 1
        if i >= meta[ACTIVE]:
            break
        last = meta[ACTIVE] - 1
        for row in range(rows):
            w[row * LANES + i] = w[row * LANES + last]
        index[i], birth[i], index[last] = index[last], birth[last], -1
    meta[FREE] = 0


@part
def end_late(index, birth, freed, meta, status, times, clock, now):
    """Trajectories that were watched for meta[LIMIT] steps end; the next deadline is that of the oldest of the others."""
    earliest = 1 << 62
    for i in range(meta[ACTIVE]):
        if index[i] >= 0 and now - birth[i] >= meta[LIMIT]:
            status[index[i]] = CENSORED
            times[index[i]] = (now - birth[i]) * clock
            index[i] = -1
            freed[meta[FREE]] = i
            meta[FREE] += 1
            meta[DONE] += 1
        elif index[i] >= 0:
            earliest = min(earliest, birth[i] + meta[LIMIT])
    meta[DEADLINE] = earliest
