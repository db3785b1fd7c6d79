"""Streams in single precision: published outputs, an integer reference, accuracy of the polynomials, the law of the normals.

Statistical tests use fixed seeds; a right generator fails |z| < 4 once in 15 800, p > 1e-4 once in 10 000.
"""

import math

import numpy as np
import pytest
from scipy import stats
from test_rng import reference_words

from fpsolve._kernels import rng32
from fpsolve._kernels.rng import LANES

MASK = 2**32 - 1


def xoshiro128plusplus(words, n):
    """Blackman & Vigna's xoshiro128plusplus.c."""

    def rotl(x, k):
        return ((x << k) | (x >> (32 - k))) & MASK

    s, out = list(words), []
    for _ in range(n):
        out.append((rotl((s[0] + s[3]) & MASK, 7) + s[0]) & MASK)
        t = (s[1] << 9) & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotl(s[3], 11)
    return out


def stream(seed, index, n):
    """Words of one trajectory: the halves of two SplitMix64 outputs are the start."""
    one, two, *_ = reference_words(seed, index)
    return xoshiro128plusplus([one >> 32, one & MASK, two >> 32, two & MASK], n)


def normals(words):
    """Box-Muller in double precision from the same words."""
    a, b = np.array(words[::2], float), np.array(words[1::2], np.uint64)
    radius = np.sqrt(-2.0 * np.log((a + 0.5) / 2.0**32))
    t = (((b & np.uint64(0x3FFFFFFF)) >> np.uint64(7)).astype(float) / 2.0**23 - 0.5) * math.pi / 2
    sine, cosine = np.sin(t), np.cos(t) * np.where(b >> np.uint64(31), -1.0, 1.0)
    swap = (b >> np.uint64(30)) & np.uint64(1) == 1
    return np.stack([radius * np.where(swap, sine, cosine), radius * np.where(swap, cosine, sine)], axis=1).ravel()


def test_published_outputs():
    """From the state (1, 2, 3, 4), as in the test suite of the Rust crate rand_xoshiro."""
    published = [641, 1573767, 3222811527, 3517856514, 836907274, 4247214768, 3867114732, 1355841295, 495546011, 621204420]
    assert xoshiro128plusplus([1, 2, 3, 4], 10) == published
    assert rng32.xoshiro128_outputs(np.array([1, 2, 3, 4], np.uint32), 10).tolist() == published


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (1, 300), (2**62 + 3, 10**9)])
def test_normals_of_a_stream_in_double_precision(seed, index):
    """The same words through double precision: within 4 ulp of the radius, 6.7 at most; near u = 1 the word has 24 bits."""
    got = rng32.stream_normals32(seed, index, 1, 500)[0]
    np.testing.assert_allclose(got, normals(stream(seed, index, 1000)), rtol=0, atol=4e-6)


def test_a_stream_depends_on_seed_and_index_only():
    whole = rng32.stream_normals32(5, 0, 600, 3)
    assert np.array_equal(whole[300:], rng32.stream_normals32(5, 300, 300, 3))
    assert len(np.unique(whole[:, 0])) > 590 and not np.array_equal(whole[0], rng32.stream_normals32(6, 0, 1, 3)[0])
    assert LANES == 256


@pytest.fixture(scope="module")
def sample():
    return rng32.stream_normals32(7, 0, 40_000, 250)


def test_moments_and_law(sample):
    """2e7 normals: moments to the sixth by |z| < 4, tails beyond 3, 4, 5 by Poisson probabilities, Kolmogorov-Smirnov on 1e6."""
    z = sample.astype(float)
    n, power = z.size, np.ones_like(z)
    for k in range(1, 7):
        power *= z  # z**k takes some eighty times as long
        expected = float(math.prod(range(k - 1, 0, -2))) if k % 2 == 0 else 0.0
        spread = math.prod(range(2 * k - 1, 0, -2)) - expected**2
        assert abs(power.mean() - expected) < 4 * math.sqrt(spread / n), k
    for limit in (3, 4, 5):
        count, mean = np.count_nonzero(np.abs(z) > limit), 2 * stats.norm.sf(limit) * n
        assert stats.poisson.cdf(count, mean) > 5e-5 and stats.poisson.sf(count - 1, mean) > 5e-5, limit
    assert stats.kstest(z.ravel()[:1_000_000], "norm").pvalue > 1e-4


def test_neighbours_are_independent(sample):
    """Values and squares along a stream and across neighbouring streams."""
    for f in (sample.astype(float), (sample.astype(float) ** 2 - 1) / math.sqrt(2)):
        for lag in (1, 2, 3):
            for a, b in ((f[:, lag:], f[:, :-lag]), (f[lag:], f[:-lag])):
                assert abs(np.einsum("ij,ij->", a, b) / math.sqrt(a.size)) < 4
