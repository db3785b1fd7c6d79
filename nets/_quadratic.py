"""Gaussian and Lebesgue measures of quadratic bowls, in closed form or by one integral."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_boltzmann", "log_sublevel", "matched_beta"]

Array = NDArray[np.float64]

#: Nodes of the contour integral on each side of the saddle point, and how far below its top the integrand is left off.
NODES, DEPTH = 4000, 1e-17


def log_boltzmann(values: Array, slopes: Array, width: float, beta: float) -> float:
    r"""ln of the Gaussian mean of exp(-beta (g.d + d.H d/2)), d of standard deviation `width` in each direction.

    .. math:: -\frac12 \sum_i \ln(1 + \beta s^2 \lambda_i) + \frac12 \sum_i \frac{\beta^2 s^2 g_i^2}{1 + \beta s^2 \lambda_i}

    With an infinite width the Lebesgue integral. `values` >= 0 (then > 0) and `slopes` are the components along the eigenvectors.

    Examples
    --------
    >>> log_boltzmann(np.array([3.0]), np.zeros(1), 1.0, 1.0) == -math.log(2.0)
    True
    """
    if math.isinf(width):
        return float(0.5 * np.log(2.0 * math.pi / (beta * values)).sum() + 0.5 * beta * (np.square(slopes) / values).sum())
    growth = 1.0 + beta * width**2 * values
    return float(-0.5 * np.log(growth).sum() + 0.5 * (beta * width) ** 2 * (np.square(slopes) / growth).sum())


def log_sublevel(values: Array, slopes: Array, width: float, rise: float) -> float:
    r"""ln of the Gaussian measure of {g.d + d.H d/2 <= rise}; with an infinite width ln of the volume of this ellipsoid.

    The inverse Laplace transform in the level of `log_boltzmann`, K(t), along a hyperbola through the saddle point of its integrand
    on the real axis, by the trapezoidal rule, which converges exponentially:

    .. math:: V = \frac{1}{2\pi i} \int e^{K(t) + t \epsilon} \frac{dt}{t}

    Examples
    --------
    A ball of three dimensions, by its chi-squared distribution:

    >>> from scipy.stats import chi2
    >>> bool(abs(log_sublevel(np.ones(3), np.zeros(3), 1.0, 0.5) - np.log(chi2(3).cdf(1.0))) < 1e-12)
    True
    """
    from scipy.optimize import brentq
    from scipy.special import gammaln

    if math.isinf(width):
        n, rise = len(values), rise + 0.5 * float((np.square(slopes) / values).sum())
        return float(0.5 * n * math.log(2.0 * math.pi * rise) - gammaln(0.5 * n + 1.0) - 0.5 * np.log(values).sum())
    q, a = width**2 * values, (width * slopes) ** 2

    def exponent(t: NDArray[Any]) -> NDArray[Any]:  # K(t) + t rise - ln t
        out: NDArray[Any] = t * rise - np.log(t)
        for start in range(0, len(q), 64):  # bounded memory
            growth = 1.0 + t[..., None] * q[start : start + 64]
            out = out + (-0.5 * np.log(growth) + 0.5 * t[..., None] ** 2 * a[start : start + 64] / growth).sum(axis=-1)
        return out

    def slope(log_t: float) -> float:  # t times the derivative of the exponent, increasing
        t = math.exp(log_t)
        growth = 1.0 + t * q
        return float(t * rise - 1.0 - 0.5 * (t * q / growth).sum() + (t**2 * a / growth - 0.5 * t**3 * a * q / growth**2).sum())

    low = high = -math.log(rise)
    while slope(low) > 0.0:
        low -= 5.0
    while slope(high) < 0.0:
        high += 5.0
    saddle = math.exp(brentq(slope, low, high, xtol=1e-12)) if high > low else math.exp(low)
    top = float(exponent(np.array([saddle]))[0])

    def integrand(u: Array) -> NDArray[Any]:
        bend = np.sqrt(1.0 + u * u)
        t = saddle * (1.0 + 1j * u - 0.7 * (bend - 1.0))
        slope = saddle * (1j - 0.7 * u / bend)
        return np.exp(exponent(t) - top) * slope / 1j  # type: ignore[no-any-return]

    reach = 1.0
    while abs(integrand(np.array([reach]))[0]) > DEPTH * saddle and reach < 1e4:
        reach *= 1.3
    u = np.linspace(-reach, reach, 2 * NODES + 1)
    total = float(integrand(u).real.sum()) * (u[1] - u[0]) / (2.0 * math.pi)
    return top + math.log(total)


def matched_beta(values: Array, width: float, rise: float, spread: float = 1.0) -> float:
    """beta at which the mean of the quadratic bowl's energy, plus so many of its standard deviations, is `rise`."""
    from scipy.optimize import brentq

    inverse = 0.0 if math.isinf(width) else width**-2

    def excess(log_beta: float) -> float:
        beta = math.exp(log_beta)
        share = values / (inverse + beta * values)  # beta times the energy of a mode is half its square normal times beta share
        return float(0.5 * share.sum() + spread * math.sqrt(0.5 * np.square(share).sum())) - rise

    low = -math.log(2.0 * rise)  # a bowl that hardly reaches the level within the width
    if excess(low) <= 0.0:
        return math.exp(low)
    high = low + 2.0
    while excess(high) > 0.0:
        high += 2.0
    return math.exp(brentq(excess, low, high))
