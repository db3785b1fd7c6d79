"""Alpha-stable variates, two 64-bit words each, in loops over lanes that are SIMD code like those of the normals.

Symmetric: Chambers, Mallows & Stuck. With Phi uniform in (-pi/2, pi/2) and W exponential,

    X = sin(alpha Phi)/cos(Phi)^(1/alpha) * (cos((1 - alpha) Phi)/W)^((1 - alpha)/alpha)

has the characteristic function exp(-|k|^alpha). Isotropic: X = sqrt(2 S) G with normal G and the positive stable S of index
a = alpha/2, E exp(-s S) = exp(-s^a); after Kanter, with Theta uniform in (0, pi),

    S = sin(a Theta)/sin(Theta)^(1/a) * (sin((1 - a) Theta)/W)^((1 - a)/a).

Both are exact for any 0 < alpha < 2, alpha = 1 included. The angles are counted from the end where the variate is large, so that
the tails are right to the smallest uniform number, 2**-53; all sines are of angles in [0, pi/2].

References: Chambers, Mallows, Stuck, JASA 71 (1976) 340; Kanter, Ann. Probab. 3 (1975) 697.
"""

import numpy as np

from .._jit import inline, kernel
from .rng import LANES, as_bits, as_float, log_unit, next_words

__all__ = [
    "exp_bounded", "fill_spread", "fill_stable", "sine_quarter", "spread_root", "stable_of_words", "stable_symmetric",
]  # fmt: skip

ONE_BITS = np.uint64(0x3FF0000000000000)
SIGN_BIT = np.uint64(0x8000000000000000)
U2, U12, U52, BIAS = np.uint64(2), np.uint64(12), np.uint64(52), np.uint64(1023)
#: Added to a number below 2**51 this leaves it, rounded to an integer, in the lowest bits of the sum.
ROUND = 6755399441055744.0


@inline
def unit_between(bits):
    """Uniform number in (0, 1), an odd multiple of 2**-53: neither it nor one minus it is zero. Takes the top 52 bits."""
    return as_float((bits >> U12) | ONE_BITS) - 0.99999999999999988898


@inline
def exp_bounded(x):
    """Exponential to about 1e-14 relative, of x cut to [-700, 700]; no call, no branch."""
    x = min(max(x, -700.0), 700.0)
    k = np.floor(x * 1.4426950408889634074 + 0.5)
    r = x - k * 6.93147180369123816490e-01 - k * 1.90821492927058770002e-10
    tail = 2.7557319223985893e-06 + r * (2.755731922398589e-07 + r * (2.505210838544172e-08 + r * 2.08767569878681e-09))
    tail = 1.3888888888888889e-03 + r * (1.984126984126984e-04 + r * (2.48015873015873e-05 + r * tail))
    tail = 0.5 + r * (1.6666666666666666e-01 + r * (4.1666666666666664e-02 + r * (8.333333333333333e-03 + r * tail)))
    return (1.0 + r * (1.0 + r * tail)) * as_float((as_bits(k + ROUND) + BIAS) << U52)


@inline
def sine_quarter(t):
    """sin(pi t/2) for t in [0, 1], to some units of the last place (Taylor polynomial of degree 21)."""
    z = t * t
    tail = -6.6880351098114672325e-10 + z * (
        6.0669357311061956671e-12 + z * (-4.3770654673137422772e-14 + z * 2.5714228928604738662e-16)
    )
    tail = 1.6044118478735982187e-4 + z * (-3.5988432352120853405e-6 + z * (5.6921729219679268118e-8 + z * tail))
    tail = 7.9692626246167045121e-2 + z * (-4.6817541353186881007e-3 + z * tail)
    return t * (1.5707963267948966192 + z * (-6.4596409750624625366e-1 + z * tail))


@inline
def stable_symmetric(bits_radius, bits_angle, alpha):
    """One variate with the characteristic function exp(-abs(k)**alpha), 0 < alpha < 2."""
    w = -log_unit(unit_between(bits_radius))
    u = unit_between(bits_angle << U2)  # abs(Phi) = pi/2 (1 - u)
    beta = abs(1.0 - alpha)
    top = min(alpha * (1.0 - u), (2.0 - alpha) + alpha * u)  # sin(alpha Phi), by reflection where alpha Phi > pi/2
    inside = log_unit(sine_quarter((1.0 - beta) + beta * u) / w)
    size = sine_quarter(top) * exp_bounded((((1.0 - alpha) * inside) - log_unit(sine_quarter(u))) / alpha)
    return as_float(as_bits(size) ^ (bits_angle & SIGN_BIT))


@inline
def spread_root(bits_radius, bits_angle, alpha):
    """sqrt(2 S) with S positive stable of index alpha/2: times a vector of normals it is isotropic, exp(-abs(k)**alpha)."""
    w = -log_unit(unit_between(bits_radius))
    u = unit_between(bits_angle)  # Theta = pi (1 - u): S is large where u is small
    top = min(alpha * (1.0 - u), (2.0 - alpha) + alpha * u)
    side = min((2.0 - alpha) * (1.0 - u), alpha + (2.0 - alpha) * u)
    inside = log_unit(sine_quarter(side) / w)
    power = ((2.0 - alpha) * inside - 2.0 * log_unit(sine_quarter(2.0 * min(u, 1.0 - u)))) / alpha
    return np.sqrt(2.0 * sine_quarter(top)) * exp_bounded(0.5 * power)


@inline
def fill_stable(w, out, count, alpha):
    """Draw a symmetric variate for each of the first ``count`` lanes into w[out + lane]; see ``fill_normals``."""
    for i in range(count):
        s0, s1, s2, s3 = as_bits(w[i]), as_bits(w[LANES + i]), as_bits(w[2 * LANES + i]), as_bits(w[3 * LANES + i])
        a, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
        b, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
        w[out + i] = stable_symmetric(a, b, alpha)
        w[i], w[LANES + i], w[2 * LANES + i], w[3 * LANES + i] = as_float(s0), as_float(s1), as_float(s2), as_float(s3)


@inline
def fill_spread(w, out, count, alpha):
    """Draw a ``spread_root`` for each of the first ``count`` lanes into w[out + lane]; see ``fill_normals``."""
    for i in range(count):
        s0, s1, s2, s3 = as_bits(w[i]), as_bits(w[LANES + i]), as_bits(w[2 * LANES + i]), as_bits(w[3 * LANES + i])
        a, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
        b, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
        w[out + i] = spread_root(a, b, alpha)
        w[i], w[LANES + i], w[2 * LANES + i], w[3 * LANES + i] = as_float(s0), as_float(s1), as_float(s2), as_float(s3)


@kernel
def stable_of_words(words, alpha, spread):
    """The variates of given pairs of words (n, 2), for tests of the formulas."""
    out = np.empty(len(words))
    for i in range(len(words)):
        a, b = words[i, 0], words[i, 1]
        out[i] = spread_root(a, b, alpha) if spread else stable_symmetric(a, b, alpha)
    return out
