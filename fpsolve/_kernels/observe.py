"""Loops of the observers that see samples of many trajectories: products at many lags, and passages between regions."""

from .._jit import kernel, ordered_kernel

__all__ = ["correlate", "pass_regions"]


@ordered_kernel
def add_products(flat, x, y, step, size, count, out, width):
    """Add flat[x + i] flat[y + i] to out[i] for `count` samples that lie `step` apart in a ring of `size` numbers, in their order.

    Four samples per load and store of the sums where none of them is at the end of the ring.
    """
    s = 0
    while s < count:
        if s + 4 <= count and x + 3 * step < size and y + 3 * step < size:
            x0, x1, x2, x3 = flat[x:], flat[x + step :], flat[x + 2 * step :], flat[x + 3 * step :]
            y0, y1, y2, y3 = flat[y:], flat[y + step :], flat[y + 2 * step :], flat[y + 3 * step :]
            for i in range(width):
                out[i] = (((out[i] + x0[i] * y0[i]) + x1[i] * y1[i]) + x2[i] * y2[i]) + x3[i] * y3[i]
            s, x, y = s + 4, x + 4 * step, y + 4 * step
        else:
            x0, y0 = flat[x:], flat[y:]
            for i in range(width):
                out[i] += x0[i] * y0[i]
            s, x, y = s + 1, x + step, y + step
        if x >= size:
            x -= size
        if y >= size:
            y -= size


@ordered_kernel
def add_values(flat, x, step, size, count, out, width):
    """Add flat[x + i] to out[i] for `count` samples, as `add_products`."""
    for _ in range(count):
        x0 = flat[x:]
        for i in range(width):
            out[i] += x0[i]
        x += step
        if x >= size:
            x -= size


@ordered_kernel
def correlate(ring, first, last, lags, sums, late, early):
    """Add the samples first ... last - 1 to the sums of x_p(t) x_q(t - lag), x_p(t) and x_q(t - lag).

    Sample s is row s % R of ring (R, d, lanes); only t from the longest lag on count. Lanes are a multiple of 64. The sum of a
    lane runs over samples in their order, however they are handed over.
    """
    rows, d, lanes = ring.shape
    flat, step, size = ring.reshape(-1), d * lanes, rows * d * lanes
    begin = max(first, lags[lags.size - 1])
    count = last - begin
    for panel in range(0, lanes, 256):
        width = min(256, lanes - panel)
        now = begin % rows * step + panel
        for p in range(d):
            add_values(flat, now + p * lanes, step, size, count, late[p, panel:], width)
        for k in range(lags.size):
            before = (begin - lags[k]) % rows * step + panel
            for q in range(d):
                add_values(flat, before + q * lanes, step, size, count, early[k, q, panel:], width)
                for p in range(d):
                    add_products(flat, now + p * lanes, before + q * lanes, step, size, count, sums[k, p, q, panel:], width)


@kernel
def pass_regions(labels, here, last, inside, exits, after, switches):
    """Follow lanes through labels (T, lanes), -1 for no region; `here` is the label before, `last` the region they come from."""
    for t in range(labels.shape[0]):
        for i in range(labels.shape[1]):
            new, old, origin = labels[t, i], here[i], last[i]
            if origin >= 0:
                after[origin, i] += 1
            if old >= 0 and new != old:
                exits[old, i] += 1
            if new >= 0:
                inside[new, i] += 1
                if origin >= 0 and new != origin:
                    switches[origin, new, i] += 1
                last[i] = new
            here[i] = new
