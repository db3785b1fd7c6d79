"""One term of a Chebyshev series (arrays in, arrays out)."""

from .._jit import kernel

__all__ = ["step"]


@kernel
def step(product, weight, old, total):
    """old <- 2 product - old, total += weight old, in one pass; returns the sum of |old|."""
    size = 0.0
    for i in range(old.size):
        value = 2.0 * product[i] - old[i]
        old[i] = value
        total[i] += weight * value
        size += abs(value)
    return size
