"""Variance of a linear mode of SGD inside a window: what curvature, noise and sampling alone make of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import is_finite, numbers

__all__ = ["window_variance"]

Array = NDArray[np.float64]


def window_variance(
    curvature: ArrayLike, noise: ArrayLike, lr: float, steps: int, *, sampling: str = "replace", epoch: int | None = None
) -> Array:
    r"""Expected variance, about its own mean, of a linear mode in a window of `steps` steps.

    .. math:: y_{t+1} = (1 - \eta h)\, y_t - \eta\, \xi_t, \qquad
              \sigma^2 = E\left[ \frac1T \sum_t y_t^2 - \Big( \frac1T \sum_t y_t \Big)^2 \right]

    with :math:`\langle \xi_t^2 \rangle = c`; the noise is independent ("replace"), or sums to zero over every epoch of K steps
    ("shuffle", an epoch that shows each sample once): :math:`\langle \xi_s \xi_t \rangle = -c/(K - 1)` within an epoch, 0 between.
    The mode is stationary when the window opens; with h = 0 it starts at 0, which its variance does not notice.

    The limits are where the exponents of the inverse relation come from. With C = c h^g and F ~ h^(-1/2), sigma^2 ~ F^-psi:

    ================================================= ============================== ===============
    regime                                            sigma^2                        psi
    ================================================= ============================== ===============
    stiff, independent: eta h T >> 1                  eta c / (2 h)                  2 (g - 1)
    flat, independent: eta h T << 1                   eta^2 c T / 6                  2 g
    flat, shuffled: eta h K << 1                      eta^2 c K / 6                  2 g
    ================================================= ============================== ===============

    Parameters
    ----------
    curvature : array
        h >= 0 of each mode, with eta h < 2.
    noise : array
        c: variance of the minibatch gradient (per-sample covariance over the batch size), per mode.
    lr : float
    steps : int
        T, with "shuffle" a multiple of K.
    sampling : {"replace", "shuffle"}
    epoch : int
        K; needed for "shuffle".

    Returns
    -------
    ndarray
        In the shape of `curvature` and `noise` together. Exact, but for rounding.

    Raises
    ------
    ValueError
        Unstable or negative curvatures, negative noise, or sizes that do not fit.

    Examples
    --------
    >>> window_variance([0.0, 5.0], 1.0, 0.1, 1000).round(4), round(0.01 * (1000**2 - 1) / 6000, 4), round(0.01 / (1 - 0.25), 4)
    (array([1.6667, 0.0133]), 1.6667, 0.0133)
    """
    h, c = np.broadcast_arrays(numbers("curvature", curvature), numbers("noise", noise))
    if not (is_finite(lr) and lr > 0.0):
        raise ValueError(f"lr must be finite and above 0: got {lr!r}")
    if not (np.isfinite(h).all() and np.isfinite(c).all() and (h >= 0.0).all() and (lr * h < 2.0).all() and (c >= 0.0).all()):
        raise ValueError(
            "curvatures must lie in 0 <= h < 2/lr and noise must not be negative, all finite: got curvatures "
            f"{h.min():g} .. {h.max():g} "
            f"for 2/lr = {2.0 / lr:g}, noise {c.min():g} .. {c.max():g}"
        )
    if sampling not in ("replace", "shuffle"):
        raise ValueError(f"sampling must be 'replace' or 'shuffle': got {sampling!r}")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 2:
        raise ValueError(f"steps must be an integer of at least 2: got {steps!r}")
    k = 1 if sampling == "replace" else epoch
    if k is None or isinstance(k, bool) or not isinstance(k, (int, np.integer)) or (sampling == "shuffle" and k < 2) or steps % k:
        raise ValueError(f"epoch must be an integer of at least 2 that divides steps = {steps}: got {epoch!r}")
    one = np.array([_one(float(a), lr, int(steps), int(k)) for a in 1.0 - lr * h.ravel()])
    return np.asarray(one.reshape(h.shape) * c)


def _one(a: float, lr: float, steps: int, epoch: int) -> float:
    """The variance for unit noise; `epoch` = 1 means independent noise. States are y_1 .. y_T, y_0 opens the window."""
    t = np.arange(steps)
    powers = a ** np.arange(steps + 1)
    # weights of xi_u, u = 0 .. T - 1, in y_t: -lr a^(t-1-u) for t > u; in the mean of y: -lr/T (1 + a + .. + a^(T-1-u))
    sums = np.cumsum(powers[:steps])  # sums[j] = 1 + a + .. + a^j
    in_mean = lr * sums[::-1] / steps
    squares = lr**2 * np.cumsum(powers[:steps] ** 2)  # sum of squared weights in y_(t+1)
    if epoch == 1:
        mean_square, square_mean = squares.mean(), float(in_mean @ in_mean)
        start = lr**2 / (1.0 - a * a) if a < 1.0 else 0.0
    else:
        off = 1.0 / (epoch - 1)
        # sum over the noise of one epoch of its weights j steps into it, and over a whole epoch that ended before
        inside = lr * sums[t % epoch]
        whole = lr * sums[epoch - 1] * powers[t % epoch + 1]
        past = whole**2 * _geometric(powers[epoch] ** 2, t // epoch)
        mean_square = float(np.mean((1.0 + off) * squares - off * (inside**2 + past)))
        totals = in_mean.reshape(-1, epoch).sum(axis=1)
        square_mean = float((1.0 + off) * (in_mean @ in_mean) - off * (totals @ totals))
        kick = (1.0 + off) * squares[epoch - 1] - off * (lr * sums[epoch - 1]) ** 2
        start = kick / (1.0 - a ** (2 * epoch)) if a < 1.0 else 0.0
    decay = powers[1:]
    return float(mean_square - square_mean + start * np.var(decay))


def _geometric(q: float, n: NDArray[np.int64]) -> Array:
    """1 + q + .. + q^(n - 1); 0 for n = 0."""
    return n.astype(float) if q == 1.0 else np.asarray((1.0 - q**n) / (1.0 - q))
