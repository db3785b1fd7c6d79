"""Random streams for arithmetic in single precision: 32-bit words, so that twice as many lanes fit into a SIMD register.

Every trajectory owns one xoshiro128++ generator. Its four words are two outputs of the SplitMix64 that numbers the trajectories
of a seed (as in ``rng``), so no two trajectories of one seed share a start. Normals come in pairs by Box-Muller from two words:

* radius: u = (k + 1/2)/2^32 with k the word, so that the tails reach 6.7 standard deviations (beyond: 2e-11);
* angle: 23 bits in [-pi/4, pi/4), one bit the sign of the cosine, one bit swaps the two.

Logarithm and sine are polynomials (coefficients of fdlibm and Cephes; 1 to 2 ulp). A block is one flat float32 buffer, ``LANES``
numbers per variable, the words at its front as bit patterns.

References: Blackman & Vigna, ACM TOMS 47 (2021) 36; Steele, Lea & Flood, OOPSLA 2014; fdlibm (Sun); Cephes (S. Moshier).
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .._jit import inline, kernel
from .rng import GOLDEN, LANES, U1, as_bits, as_float, splitmix64, stream_key

__all__ = ["fill_normals32", "fill_widened", "seed_blocks32", "stream_normals32", "xoshiro128_outputs"]

ONE_BITS = np.uint32(0x3F800000)
SIGN_BIT = np.uint32(0x80000000)
MANTISSA = np.uint32(0x007FFFFF)
#: Added before the exponent is split off, so that the mantissa lands in [sqrt(1/2), sqrt(2)).
SQRT_HALF_SHIFT = np.uint32(0x3F800000 - 0x3F3504F3)
SQRT_HALF_BITS = np.uint32(0x3F3504F3)
V1, V2, V7, V9, V11, V21, V23, V25, V30 = (np.uint32(k) for k in (1, 2, 7, 9, 11, 21, 23, 25, 30))
U32 = np.uint64(32)
# Numba widens the sum, shift or mask of two uint32 to uint64: every such result is narrowed at once
f32, u32 = np.float32, np.uint32
NONE = u32(0)
ZERO, HALF, ONE, TWO, THREE_HALVES = f32(0.0), f32(0.5), f32(1.0), f32(2.0), f32(1.5)
MINUS_TWO, LN2, HALF_PI = f32(-2.0), f32(0.6931471805599453), f32(1.5707963267948966)
STEP32, HALF_STEP32 = f32(2.0**-32), f32(2.0**-33)
LOG = tuple(f32(v) for v in (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841))
SIN = tuple(f32(v) for v in (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4))
COS = tuple(f32(v) for v in (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5))


if config.DISABLE_JIT:  # the kernels' Python source must run too (coverage, debugging)

    def as_float32(bits):  # type: ignore[no-untyped-def]
        """Reinterpret 32 bits as a float32."""
        return np.uint32(bits).view(np.float32)

    def as_bits32(value):  # type: ignore[no-untyped-def]
        """Reinterpret a float32 as 32 bits."""
        return np.float32(value).view(np.uint32)

else:

    @intrinsic
    def as_float32(typingctx, value):  # type: ignore[no-untyped-def]
        """Reinterpret 32 bits as a float32."""
        return types.float32(types.uint32), lambda context, builder, sig, args: builder.bitcast(args[0], ir.FloatType())

    @intrinsic
    def as_bits32(typingctx, value):  # type: ignore[no-untyped-def]
        """Reinterpret a float32 as 32 bits."""
        return types.uint32(types.float32), lambda context, builder, sig, args: builder.bitcast(args[0], ir.IntType(32))


@inline
def next_words32(s0, s1, s2, s3):
    """One step of xoshiro128++: the output and the four new words."""
    out = u32(s0 + s3)
    out = u32(u32(u32(out << V7) | u32(out >> V25)) + s0)
    t = u32(s1 << V9)
    s2 = u32(s2 ^ s0)
    s3 = u32(s3 ^ s1)
    s1 = u32(s1 ^ s2)
    s0 = u32(s0 ^ s3)
    s2 = u32(s2 ^ t)
    s3 = u32(u32(s3 << V11) | u32(s3 >> V21))
    return out, s0, s1, s2, s3


@inline
def log_unit32(u):
    """Natural logarithm of a normal positive float32, free of calls and branches."""
    shifted = u32(as_bits32(u) + SQRT_HALF_SHIFT)
    exponent = f32(np.int32(np.int32(u32(shifted >> V23)) - np.int32(127)))
    f = as_float32(u32(u32(shifted & MANTISSA) + SQRT_HALF_BITS)) - ONE
    s = f / (TWO + f)
    z = s * s
    w = z * z
    half = HALF * f * f
    return exponent * LN2 + (f - (half - s * (half + (w * (LOG[1] + w * LOG[3]) + z * (LOG[0] + w * LOG[2])))))


@inline
def normal_pair32(bits_radius, bits_angle):
    """Two independent standard normals from two 32-bit words (Box-Muller)."""
    radius = np.sqrt(MINUS_TWO * log_unit32(f32(bits_radius) * STEP32 + HALF_STEP32))
    t = (as_float32(u32(u32(u32(bits_angle << V2) >> V9) | ONE_BITS)) - THREE_HALVES) * HALF_PI
    z = t * t
    sine = t + t * z * (SIN[0] + z * (SIN[1] + z * SIN[2]))
    cosine = ONE - HALF * z + z * z * (COS[0] + z * (COS[1] + z * COS[2]))
    cosine = as_float32(u32(as_bits32(cosine) ^ u32(bits_angle & SIGN_BIT)))
    swap = u32(u32(bits_angle >> V30) & V1) != NONE
    return radius * (sine if swap else cosine), radius * (cosine if swap else sine)


@inline
def fill_normals32(w, out, count):
    """Draw a pair of normals for each of the first ``count`` lanes into w[out + lane] and w[out + LANES + lane]."""
    for i in range(count):
        s0 = as_bits32(w[i])
        s1 = as_bits32(w[LANES + i])
        s2 = as_bits32(w[2 * LANES + i])
        s3 = as_bits32(w[3 * LANES + i])
        a, s0, s1, s2, s3 = next_words32(s0, s1, s2, s3)
        b, s0, s1, s2, s3 = next_words32(s0, s1, s2, s3)
        first, second = normal_pair32(a, b)
        w[out + i] = first
        w[out + LANES + i] = second
        w[i] = as_float32(s0)
        w[LANES + i] = as_float32(s1)
        w[2 * LANES + i] = as_float32(s2)
        w[3 * LANES + i] = as_float32(s3)


@inline
def fill_widened(w, out, count):
    """The normals of `fill_normals32` in a float64 buffer, whose four words are held by the lower halves of 64-bit patterns."""
    for i in range(count):
        s0 = u32(as_bits(w[i]))
        s1 = u32(as_bits(w[LANES + i]))
        s2 = u32(as_bits(w[2 * LANES + i]))
        s3 = u32(as_bits(w[3 * LANES + i]))
        a, s0, s1, s2, s3 = next_words32(s0, s1, s2, s3)
        b, s0, s1, s2, s3 = next_words32(s0, s1, s2, s3)
        first, second = normal_pair32(a, b)
        w[out + i] = float(first)
        w[out + LANES + i] = float(second)
        w[i] = as_float(np.uint64(s0))
        w[LANES + i] = as_float(np.uint64(s1))
        w[2 * LANES + i] = as_float(np.uint64(s2))
        w[3 * LANES + i] = as_float(np.uint64(s3))


@kernel
def seed_blocks32(blocks, seed, first):
    """Seed every lane of blocks (nb, row) of float32: lane i of block b gets trajectory first + b LANES + i."""
    for b in range(blocks.shape[0]):
        w = blocks[b]
        for i in range(LANES):
            start = splitmix64(stream_key(np.uint64(seed)) + (np.uint64(first + b * LANES + i) + U1) * GOLDEN)
            one = splitmix64(start + GOLDEN)
            two = splitmix64(start + GOLDEN + GOLDEN)
            w[i] = as_float32(np.uint32(one >> U32))
            w[LANES + i] = as_float32(np.uint32(one))
            w[2 * LANES + i] = as_float32(np.uint32(two >> U32))
            w[3 * LANES + i] = as_float32(np.uint32(two))


@kernel
def stream_normals32(seed, first, n, pairs):
    """The first ``2 pairs`` single-precision normals of trajectories first ... first + n - 1, as an array (n, 2 pairs)."""
    out = np.empty((n, 2 * pairs), np.float32)
    blocks = np.empty((1, 6 * LANES), np.float32)
    w = blocks[0]
    for start in range(0, n, LANES):
        seed_blocks32(blocks, seed, first + start)
        for j in range(pairs):
            fill_normals32(w, 4 * LANES, LANES)
            for i in range(min(LANES, n - start)):
                out[start + i, 2 * j] = w[4 * LANES + i]
                out[start + i, 2 * j + 1] = w[5 * LANES + i]
    return out


@kernel
def xoshiro128_outputs(words, n):
    """The next ``n`` outputs of xoshiro128++ from four words (uint32)."""
    out = np.empty(n, np.uint32)
    s0, s1, s2, s3 = words[0], words[1], words[2], words[3]
    for k in range(n):
        out[k], s0, s1, s2, s3 = next_words32(s0, s1, s2, s3)
    return out
