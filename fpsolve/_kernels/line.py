"""One term of the rational series of a nearest-neighbour chain in one call (arrays in, arrays out)."""

from .._jit import kernel

__all__ = ["term"]


@kernel
def term(down, up, d, g, first, transposed, old, older, c, total, new):
    """new = T_j from T_(j-1) = old and T_(j-2) = older, total += c new; returns the sum of |new|.

    With X = (I - g G)^-1 and exit rates d: new = 2 (2 X old - old) - older, or 2 X old - old for the first term. The solves are
    those of `elimination.tridiagonal_solve` and of its transpose.
    """
    n = old.size
    last = 0.0
    if transposed:
        for i in range(n):
            part = 1.0 / d[i]
            last = old[i] / g * part + (up[i - 1] * part * last if i > 0 else 0.0)
            new[i] = last
        last = 0.0
        for i in range(n - 1, -1, -1):
            last = new[i] + (down[i + 1] / d[i] * last if i < n - 1 else 0.0)
            new[i] = last
    else:
        for i in range(n):
            part = 1.0 / d[i]
            last = old[i] / g * part + down[i] * part * last
            new[i] = last
        last = 0.0
        for i in range(n - 1, -1, -1):
            last = new[i] + up[i] / d[i] * last
            new[i] = last
    size = 0.0
    for i in range(n):
        value = 2.0 * new[i] - old[i]
        if not first:
            value = 2.0 * value - older[i]
        new[i] = value
        total[i] += c * value
        size += abs(value)
    return size
