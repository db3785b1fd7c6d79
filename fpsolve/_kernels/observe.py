"""Loops of the observers that see samples of many trajectories: products at many lags, and passages between regions."""

from .._jit import kernel, ordered_kernel

__all__ = ["correlate", "pass_regions"]


@ordered_kernel
def add_products(ring, begin, last, lag, p, q, panel, product):
    """Add x_p(t) x_q(t - lag) for t = begin ... last - 1 to 64 lanes, four samples per load and store of the sums."""
    rows = ring.shape[0]
    s = begin
    while s + 4 <= last:
        x0, y0 = ring[s % rows, p, panel : panel + 64], ring[(s - lag) % rows, q, panel : panel + 64]
        x1, y1 = ring[(s + 1) % rows, p, panel : panel + 64], ring[(s + 1 - lag) % rows, q, panel : panel + 64]
        x2, y2 = ring[(s + 2) % rows, p, panel : panel + 64], ring[(s + 2 - lag) % rows, q, panel : panel + 64]
        x3, y3 = ring[(s + 3) % rows, p, panel : panel + 64], ring[(s + 3 - lag) % rows, q, panel : panel + 64]
        for i in range(64):
            product[i] = (((product[i] + x0[i] * y0[i]) + x1[i] * y1[i]) + x2[i] * y2[i]) + x3[i] * y3[i]
        s += 4
    while s < last:
        x0, y0 = ring[s % rows, p, panel : panel + 64], ring[(s - lag) % rows, q, panel : panel + 64]
        for i in range(64):
            product[i] += x0[i] * y0[i]
        s += 1


@ordered_kernel
def correlate(ring, first, last, lags, sums, late, early):
    """Add the samples first ... last - 1 to the sums of x_p(t) x_q(t - lag), x_p(t) and x_q(t - lag).

    Sample s is row s % R of ring (R, d, lanes); only t from the longest lag on count. Lanes are a multiple of 64. The sum of a
    lane runs over samples in their order, however they are handed over.
    """
    rows, d, lanes = ring.shape
    begin = max(first, lags[lags.size - 1])
    for panel in range(0, lanes, 64):
        for p in range(d):
            total = late[p, panel : panel + 64]
            for s in range(begin, last):
                x = ring[s % rows, p, panel : panel + 64]
                for i in range(64):
                    total[i] += x[i]
        for k in range(lags.size):
            for q in range(d):
                total = early[k, q, panel : panel + 64]
                for s in range(begin, last):
                    y = ring[(s - lags[k]) % rows, q, panel : panel + 64]
                    for i in range(64):
                        total[i] += y[i]
                for p in range(d):
                    product = sums[k, p, q, panel : panel + 64]
                    add_products(ring, begin, last, lags[k], p, q, panel, product)


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
