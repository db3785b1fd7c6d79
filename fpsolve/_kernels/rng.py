"""Random streams that depend on (seed, trajectory index) only, and normals generated 256 lanes at a time.

Every trajectory owns one xoshiro256+ generator.  Its four words are four outputs of SplitMix64 started at the
``index``-th output of another SplitMix64 that starts at a hash of the seed; SplitMix64's output function is a bijection, so
no two trajectories of one seed share a start.  Neither lane nor block, chunk or thread enters.

Normals come in pairs by Box-Muller, r = sqrt(-2 log u), (r cos t, r sin t).  The logarithm and the sine are polynomials
(coefficients of fdlibm; about 1 ulp), so that the loop over the lanes holds no call and LLVM turns it into SIMD code.
The angle needs no reduction: 52 bits give t in [-pi/4, pi/4), one bit the sign of the cosine, one bit swaps the two.

All of a block's state lives in one flat float64 buffer at constant offsets (structure of arrays, ``LANES`` numbers per
variable): the compiler then needs no run-time check that two arrays overlap.  The generator's words are stored in it as bit
patterns.

References: Blackman & Vigna, ACM TOMS 47 (2021) 36; Steele, Lea & Flood, OOPSLA 2014; Box & Muller 1958; fdlibm (Sun).
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .._jit import inline, kernel

__all__ = [
    "LANES", "as_bits", "as_float", "crossing_threshold", "fill_normals", "fill_words", "lane_normals", "lane_uniform",
    "lane_word", "log_unit", "logarithms", "next_words", "normal_rows", "normal_pair", "seed_blocks", "seed_lane",
    "seeded_words", "splitmix64", "stream_key", "stream_normals", "stream_words", "unit_open", "xoshiro_outputs",
]  # fmt: skip

#: Trajectories advanced together; a constant, so that each loop over lanes is SIMD code without a remainder.
LANES = 256

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX1 = np.uint64(0xBF58476D1CE4E5B9)
MIX2 = np.uint64(0x94D049BB133111EB)
ONE_BITS = np.uint64(0x3FF0000000000000)
SIGN_BIT = np.uint64(0x8000000000000000)
MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
#: Bits of 2**52: or-ing a small integer into it and subtracting 2**52 converts it to float64 in two SIMD operations.
MAGIC_BITS = np.uint64(0x4330000000000000)
#: Added before the exponent is split off, so that the mantissa lands in [sqrt(1/2), sqrt(2)).
SQRT_HALF_SHIFT = np.uint64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
SQRT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)
U1, U2, U7, U11, U12, U17, U19, U27, U30, U31, U45, U52 = (np.uint64(k) for k in (1, 2, 7, 11, 12, 17, 19, 27, 30, 31, 45, 52))
LN2 = 0.6931471805599453


def _bitcast(source: types.Type, target: types.Type):  # type: ignore[no-untyped-def]
    """Make an intrinsic that reinterprets the 64 bits of a number."""
    lltype = ir.DoubleType() if target == types.float64 else ir.IntType(64)

    @intrinsic
    def cast(typingctx, value):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.bitcast(args[0], lltype)

        return target(source), generate

    return cast


if config.DISABLE_JIT:  # the kernels' Python source must run too (coverage, debugging)

    def as_float(bits):  # type: ignore[no-untyped-def]
        """Reinterpret 64 bits as a float64."""
        return np.uint64(bits).view(np.float64)

    def as_bits(value):  # type: ignore[no-untyped-def]
        """Reinterpret a float64 as 64 bits."""
        return np.float64(value).view(np.uint64)

else:
    as_float = _bitcast(types.uint64, types.float64)
    as_bits = _bitcast(types.float64, types.uint64)


@inline
def splitmix64(state):
    """Output function of SplitMix64 at the (already advanced) state: a bijection of the 64-bit integers."""
    z = (state ^ (state >> U30)) * MIX1
    z = (z ^ (z >> U27)) * MIX2
    return z ^ (z >> U31)


@inline
def stream_key(seed):
    """Hash of the seed: the state from which the starts of all its trajectories are numbered."""
    return splitmix64(np.uint64(seed) + GOLDEN)


@inline
def stream_words(seed, index):
    """Return the four xoshiro256+ words of trajectory ``index`` (both uint64)."""
    s = splitmix64(stream_key(seed) + (np.uint64(index) + U1) * GOLDEN)
    a = s + GOLDEN
    b = a + GOLDEN
    c = b + GOLDEN
    d = c + GOLDEN
    return splitmix64(a), splitmix64(b), splitmix64(c), splitmix64(d)


@inline
def next_words(s0, s1, s2, s3):
    """One step of xoshiro256+: the output and the four new words."""
    out = s0 + s3
    t = s1 << U17
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= t
    s3 = (s3 << U45) | (s3 >> U19)
    return out, s0, s1, s2, s3


@inline
def unit_open(bits):
    """Uniform number in (0, 1] with 52 bits; never zero, so that its logarithm is finite."""
    return 2.0 - as_float((bits >> U12) | ONE_BITS)


@inline
def log_unit(u):
    """Natural logarithm of a normal positive float64 (fdlibm's polynomial, about 1 ulp), free of calls and branches."""
    shifted = as_bits(u) + SQRT_HALF_SHIFT
    # integers are subtracted before the conversion: fastmath would multiply out (large - large) * LN2
    exponent = float(np.int64(shifted >> U52) - 1023)
    f = as_float((shifted & MANTISSA) + SQRT_HALF_BITS) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    t1 = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    t2 = z * (
        6.666666666666735130e-01 + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    return exponent * LN2 + (f - (half - s * (half + t1 + t2)))


@inline
def normal_pair(bits_radius, bits_angle):
    """Two independent standard normals from two 64-bit words (Box-Muller)."""
    radius = np.sqrt(-2.0 * log_unit(unit_open(bits_radius)))
    # bits 10..61 make the angle, 62 and 63 the sector; the lowest bits of xoshiro256+, which are weak, are not used
    t = (as_float(((bits_angle << U2) >> U12) | ONE_BITS) - 1.5) * 1.5707963267948966
    z = t * t
    sine = t + t * z * (
        -1.66666666666666324348e-01
        + z
        * (
            8.33333333332248946124e-03
            + z
            * (
                -1.98412698298579493134e-04
                + z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
            )
        )
    )
    cosine = (
        1.0
        - 0.5 * z
        + z
        * z
        * (
            4.16666666666666019037e-02
            + z
            * (
                -1.38888888888741095749e-03
                + z
                * (
                    2.48015872894767294178e-05
                    + z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11))
                )
            )
        )
    )
    cosine = as_float(as_bits(cosine) ^ (bits_angle & SIGN_BIT))
    swap = ((bits_angle >> np.uint64(62)) & U1) != np.uint64(0)
    first = sine if swap else cosine
    second = cosine if swap else sine
    return radius * first, radius * second


@inline
def seed_lane(w, lane, seed, index):
    """Give a lane the stream of trajectory ``index``: its words become w[lane + {0, 1, 2, 3} LANES]."""
    s0, s1, s2, s3 = stream_words(np.uint64(seed), np.uint64(index))
    w[lane] = as_float(s0)
    w[LANES + lane] = as_float(s1)
    w[2 * LANES + lane] = as_float(s2)
    w[3 * LANES + lane] = as_float(s3)


@inline
def lane_word(w, lane):
    """Next 64-bit word of one lane."""
    out, s0, s1, s2, s3 = next_words(
        as_bits(w[lane]), as_bits(w[LANES + lane]), as_bits(w[2 * LANES + lane]), as_bits(w[3 * LANES + lane])
    )
    w[lane] = as_float(s0)
    w[LANES + lane] = as_float(s1)
    w[2 * LANES + lane] = as_float(s2)
    w[3 * LANES + lane] = as_float(s3)
    return out


@inline
def lane_uniform(w, lane):
    """Next uniform number in (0, 1] of one lane."""
    return unit_open(lane_word(w, lane))


@inline
def lane_normals(w, lane):
    """Next pair of standard normals of one lane."""
    a = lane_word(w, lane)
    return normal_pair(a, lane_word(w, lane))


@inline
def fill_normals(w, out, count):
    """Draw a pair of normals for each of the first ``count`` lanes into w[out + lane] and w[out + LANES + lane].

    The words are at the front of the buffer. With ``count`` a constant multiple of 16 the whole loop is SIMD code. For other
    lanes pass a slice w[first:]: an index that the compiler cannot see to be nonnegative would cost the vectorisation.
    """
    for i in range(count):
        s0 = as_bits(w[i])
        s1 = as_bits(w[LANES + i])
        s2 = as_bits(w[2 * LANES + i])
        s3 = as_bits(w[3 * LANES + i])
        a, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
        b, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
        first, second = normal_pair(a, b)
        w[out + i] = first
        w[out + LANES + i] = second
        w[i] = as_float(s0)
        w[LANES + i] = as_float(s1)
        w[2 * LANES + i] = as_float(s2)
        w[3 * LANES + i] = as_float(s3)


@inline
def fill_words(w, out, count):
    """Draw one 64-bit word for each of the first ``count`` lanes, as a bit pattern, into w[out + lane]."""
    for i in range(count):
        word, s0, s1, s2, s3 = next_words(
            as_bits(w[i]), as_bits(w[LANES + i]), as_bits(w[2 * LANES + i]), as_bits(w[3 * LANES + i])
        )
        w[out + i] = as_float(word)
        w[i] = as_float(s0)
        w[LANES + i] = as_float(s1)
        w[2 * LANES + i] = as_float(s2)
        w[3 * LANES + i] = as_float(s3)


@inline
def crossing_threshold(half_word):
    """Smallest multiple of log 2 that is no less than -log u, where u is uniform in (r, r + 1] / 2**32 for the 32-bit r.

    A step whose crossing probability is exp(-e) with e above this number has not crossed: one comparison without a
    logarithm settles nearly all steps. For r = 0 the number exceeds any exponent that matters.
    """
    bits = as_bits(as_float(half_word | MAGIC_BITS) - 4503599627370496.0)
    return float(1055 - np.int64(bits >> U52)) * LN2


@kernel
def seed_blocks(blocks, seed, first):
    """Seed every lane of blocks (nb, row): lane i of block b gets trajectory first + b LANES + i."""
    for b in range(blocks.shape[0]):
        w = blocks[b]
        for i in range(LANES):
            seed_lane(w, i, seed, first + b * LANES + i)


@kernel
def normal_rows(w, rows):
    """Draw normals for one block: row j of ``rows`` (m, LANES) gets the j-th normal of each lane; w has 6 LANES numbers.

    An odd last row is the first of a pair whose second is dropped, so that every call starts a new pair.
    """
    for j in range(0, rows.shape[0], 2):
        fill_normals(w, 4 * LANES, LANES)
        for i in range(LANES):
            rows[j, i] = w[4 * LANES + i]
        if j + 1 < rows.shape[0]:
            for i in range(LANES):
                rows[j + 1, i] = w[5 * LANES + i]


@kernel
def stream_normals(seed, first, n, pairs):
    """The first ``2 pairs`` normals of trajectories first ... first + n - 1, as an array (n, 2 pairs).

    The same numbers that the path kernels consume; for tests and for drawing samples outside a kernel.
    """
    out = np.empty((n, 2 * pairs))
    w = np.empty(6 * LANES)
    for start in range(0, n, LANES):
        for i in range(LANES):
            seed_lane(w, i, seed, first + start + i)
        for j in range(pairs):
            fill_normals(w, 4 * LANES, LANES)
            for i in range(min(LANES, n - start)):
                out[start + i, 2 * j] = w[4 * LANES + i]
                out[start + i, 2 * j + 1] = w[5 * LANES + i]
    return out


@kernel
def seeded_words(seed, index):
    """The four xoshiro256+ words with which a trajectory starts."""
    out = np.empty(4, np.uint64)
    out[0], out[1], out[2], out[3] = stream_words(np.uint64(seed), np.uint64(index))
    return out


@kernel
def xoshiro_outputs(words, n):
    """The next ``n`` outputs of xoshiro256+ from four words (uint64)."""
    out = np.empty(n, np.uint64)
    s0, s1, s2, s3 = words[0], words[1], words[2], words[3]
    for k in range(n):
        out[k], s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
    return out


@kernel
def logarithms(u):
    """log_unit of each element, for tests of its accuracy."""
    out = np.empty(u.size)
    for i in range(u.size):
        out[i] = log_unit(u[i])
    return out
