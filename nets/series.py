"""Error bars of correlated series: autocorrelation time, effective sample size, errors of a mean and of a variance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers

if TYPE_CHECKING:
    from fpsolve import Estimate

__all__ = [
    "autocorrelation",
    "effective_sample_size",
    "integrated_autocorrelation_time",
    "mean_estimate",
    "variance_estimate",
]

Array = NDArray[np.float64]


def autocorrelation(series: ArrayLike) -> Array:
    r"""Autocorrelation :math:`\rho_k` at all lags k = 0 .. n - 1 (biased estimate, divided by n), by FFT.

    Parameters
    ----------
    series : array, shape (n,) or (n, k)
        Columns are separate series.

    Returns
    -------
    ndarray, same shape

    Raises
    ------
    ValueError
        Fewer than 4 values, non-finite values, or a constant series.

    Examples
    --------
    >>> autocorrelation([1.0, -1.0, 1.0, -1.0]).round(2)
    array([ 1.  , -0.75,  0.5 , -0.25])
    """
    x = numbers("series", series)
    if x.ndim not in (1, 2) or len(x) < 4:
        raise ValueError(f"a series must have shape (n,) or (n, k) with n >= 4: got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"the series contains non-finite values: {np.count_nonzero(~np.isfinite(x))} of {x.size}; leave them out")
    if not np.all(np.ptp(x, axis=0) > 0.0):
        raise ValueError("the series is constant: it has no autocorrelation")
    x = x - x.mean(axis=0)
    n, size = len(x), 1 << (2 * len(x) - 1).bit_length()
    power = np.abs(np.fft.rfft(x, size, axis=0)) ** 2
    c = np.fft.irfft(power, size, axis=0)[:n]
    return np.asarray(c / c[0])


def integrated_autocorrelation_time(series: ArrayLike) -> Any:
    r"""Integrated autocorrelation time :math:`\tau = 1 + 2 \sum_{k \geq 1} \rho_k`, in samples.

    The mean of n samples has variance :math:`\sigma^2 \tau / n`; :math:`\tau = (1 + \varphi)/(1 - \varphi)` for an AR(1) series.

    Parameters
    ----------
    series : array, shape (n,) or (n, k)

    Returns
    -------
    float, or ndarray of shape (k,)

    Notes
    -----
    The sum is cut by Geyer's initial monotone sequence (Statistical Science 7, 473, 1992): sums of two neighbouring
    correlations are added as long as they are positive, and made non-increasing. tau is at least 1/n. If n is less than
    about 50 tau, the result is too small. The rule is made for correlations that do not oscillate. Where they do, as along stiff
    directions under momentum, the sum stops at the first negative pair, and the result is too large (twice where the first lobe is
    followed by one nearly as large); errors made with it are then too wide.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal(10000)
    >>> 0.9 < integrated_autocorrelation_time(x) < 1.1
    True
    """
    rho = autocorrelation(series)
    if rho.ndim == 2:
        return np.array([_geyer(rho[:, j]) for j in range(rho.shape[1])])
    return _geyer(rho)


def _geyer(rho: Array) -> float:
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0.0)
    pairs = pairs[: negative[0]] if len(negative) else pairs
    tau = -1.0 + 2.0 * float(np.minimum.accumulate(pairs).sum())
    return max(tau, 1.0 / len(rho))


def effective_sample_size(series: ArrayLike) -> Any:
    """Number of independent samples that would give the mean the same variance: n / tau, at most n.

    Examples
    --------
    >>> bool(effective_sample_size(np.repeat(np.random.default_rng(0).standard_normal(1000), 10)) < 1300)
    True
    """
    return len(np.asarray(series)) / np.maximum(integrated_autocorrelation_time(series), 1.0)


def _one_series(series: ArrayLike) -> Array:
    x = numbers("series", series)
    if x.ndim != 1:
        raise ValueError(f"an estimate is of one series, of shape (n,): got {x.shape}")
    return x


def mean_estimate(series: ArrayLike) -> Estimate:
    """Mean of a stationary series (n,) with its standard error sqrt(variance tau / n).

    Examples
    --------
    >>> mean_estimate([1.0, 3.0, 2.0, 2.0, 1.0, 3.0, 3.0, 1.0]).value
    2.0
    """
    from fpsolve import Estimate

    x = _one_series(series)
    if len(x) >= 2 and np.ptp(x) == 0.0:
        return Estimate(float(x[0]), method=f"mean of {len(x)} equal values")
    tau = max(integrated_autocorrelation_time(x), 1.0)
    return Estimate(
        float(x.mean()),
        stderr=math.sqrt(float(x.var()) * tau / len(x)),
        method=f"mean of {len(x)} values, {len(x) / tau:.0f} effective",
    )


def variance_estimate(series: ArrayLike, mean: float | None = None) -> Estimate:
    r"""Variance of a stationary series (n,) with its standard error.

    .. math:: s^2 = \frac{\overline{(x - \bar x)^2}}{1 - \tau/n}, \quad
              \mathrm{stderr}^2 = \frac{\mathrm{Var}(u)\,\tau_u}{n}, \quad u = (x - \bar x)^2

    The denominator takes out the bias that comes from estimating the mean (it is absent with a given `mean`). For a
    Gaussian AR(1) series the error is :math:`\sigma^2 \sqrt{(2/n)(1 + \varphi^2)/(1 - \varphi^2)}`; no Gaussian assumption is made.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal(10000)
    >>> estimate = variance_estimate(x)
    >>> abs(estimate.value - 1.0) < 4.0 * estimate.stderr, round(estimate.stderr, 3)
    (True, 0.014)
    """
    from fpsolve import Estimate

    x = _one_series(series)
    tau = max(integrated_autocorrelation_time(x), 1.0)
    n = len(x)
    u = (x - (x.mean() if mean is None else mean)) ** 2
    tau_u = max(integrated_autocorrelation_time(u), 1.0) if np.ptp(u) > 0.0 else 1.0
    value = float(u.mean()) / (1.0 - min(tau / n, 0.5) if mean is None else 1.0)
    return Estimate(
        value, stderr=math.sqrt(float(u.var()) * tau_u / n), method=f"variance of {n} values, {n / tau_u:.0f} effective"
    )
