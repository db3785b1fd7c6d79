"""One term of a Chebyshev series of a sparse matrix (arrays in, arrays out)."""

from .._jit import kernel

__all__ = ["step"]


@kernel
def step(indptr, indices, data, now, old, weight, total):
    """old <- 2 X now - old, total += weight old, for CSR arrays of X; returns the sum of |old|."""
    size = 0.0
    for i in range(now.size):
        value = 0.0
        for q in range(indptr[i], indptr[i + 1]):
            value += data[q] * now[indices[q]]
        value = 2.0 * value - old[i]
        old[i] = value
        total[i] += weight * value
        size += abs(value)
    return size
