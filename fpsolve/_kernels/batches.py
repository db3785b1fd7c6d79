"""Batches of distinct samples."""

import numpy as np

from .._jit import kernel

__all__ = ["distinct"]


@kernel
def distinct(uniform: np.ndarray, order: np.ndarray, out: np.ndarray) -> None:
    """Fill out (count, batch) with ordered samples without replacement of `order`, from uniform numbers of that shape in [0, 1).

    The first places of a Fisher-Yates shuffle: uniform whatever the order was, so what one batch leaves serves the next, and a
    batch costs as many operations as it has samples.
    """
    n = order.size
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            i = min(j + int(uniform[t, j] * (n - j)), n - 1)
            chosen = order[i]
            order[i] = order[j]
            order[j] = chosen
            out[t, j] = chosen
