"""Power laws with their ranges and intervals: between seeds, or from blocks of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers, of_kind
from ._saved import Saved

__all__ = ["PowerLaw", "over_blocks", "over_seeds", "power_law"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowerLaw(Saved):
    """y = prefactor x^exponent, fitted to the logarithms; made by `power_law`, `over_seeds`, `over_blocks`.

    Attributes
    ----------
    exponent, prefactor : float
    correlation, rank : float
        Pearson's of the logarithms, and Spearman's of the values.
    points, left_out : int
        Pairs fitted, and those that were not finite and positive.
    fit : tuple of float
        Range of x over which was fitted.
    interval : tuple of float
        95 % of the exponent; NaN where one sample of points is all there is: their scatter about the line says nothing about
        another run.
    origin : str
        Where the interval comes from.

    Examples
    --------
    >>> print(power_law([1.0, 2.0, 4.0], [3.0, 0.75, 0.1875]))
    exponent -2.000 (3 points, x 1 to 4, correlation -1.0000)
    """

    exponent: float
    prefactor: float
    correlation: float
    rank: float
    points: int
    left_out: int
    fit: tuple[float, float]
    interval: tuple[float, float] = (math.nan, math.nan)
    origin: str = "one set of points"
    KIND: ClassVar[str] = "power law"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "exponent": ("", "1", "of x"),
        "prefactor": ("", "", "y at x = 1"),
        "correlation": ("", "1", "of the logarithms"),
        "rank": ("", "1", "Spearman's rank correlation"),
        "fit": ("end", "units of x", "range of x over which was fitted"),
        "interval": ("end", "1", "95 % interval of the exponent"),
    }

    def __post_init__(self) -> None:
        for name in ("fit", "interval"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (float(low), float(high)))

    def __repr__(self) -> str:
        return f"PowerLaw({self})"

    def __str__(self) -> str:
        low, high = self.interval
        spread = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}] 95 % {self.origin}"
        return (
            f"exponent {self.exponent:.3f}{spread} ({self.points} points, x {self.fit[0]:.3g} to {self.fit[1]:.3g}, "
            f"correlation {self.correlation:.4f})"
        )


def power_law(x: ArrayLike, y: ArrayLike) -> PowerLaw:
    """Least squares of ln y on ln x; pairs that are not finite and positive are left out and counted.

    Parameters
    ----------
    x, y : arrays, shape (n,)

    Returns
    -------
    PowerLaw
        Without an interval: see `over_seeds` and `over_blocks`.

    Raises
    ------
    ValueError
        Shapes that differ, fewer than 3 usable pairs, or all x equal.

    Examples
    --------
    >>> fit = power_law([1.0, 2.0, 4.0, np.inf], [1.0, 4.0, 16.0, 1.0])
    >>> round(fit.exponent, 12), fit.left_out
    (2.0, 1)
    """
    from scipy.stats import spearmanr

    a, b = numbers("x", x), numbers("y", y)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"x and y must be vectors of one length: got shapes {a.shape} and {b.shape}")
    good = np.isfinite(a) & np.isfinite(b) & (a > 0.0) & (b > 0.0)
    if good.sum() < 3 or np.ptp(a[good]) == 0.0:
        raise ValueError(f"a power law needs 3 finite positive pairs with different x: got {int(good.sum())} of {len(a)}")
    u, v = np.log(a[good]), np.log(b[good])
    slope, shift = np.polyfit(u, v, 1)
    flat = np.ptp(v) == 0.0
    return PowerLaw(
        float(slope),
        float(np.exp(shift)),
        0.0 if flat else float(np.corrcoef(u, v)[0, 1]),
        0.0 if flat else float(spearmanr(u, v).statistic),
        int(good.sum()),
        int((~good).sum()),
        (float(a[good].min()), float(a[good].max())),
    )


def over_seeds(fits: Sequence[PowerLaw]) -> PowerLaw:
    """Mean exponent of independent runs with Student's 95 % interval; correlations are the weakest of the runs.

    Examples
    --------
    >>> fits = [power_law([1.0, 2.0, 4.0], [1.0, 2.0**e, 4.0**e]) for e in (0.9, 1.0, 1.1)]
    >>> [round(end, 3) for end in over_seeds(fits).interval]
    [0.752, 1.248]
    """
    from scipy.stats import t as student

    if len(fits) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 runs: got {len(fits)}")
    for fit in fits:
        of_kind(fit, PowerLaw, "each of fits", "of nets.power_law or InverseRelation.psi")
    e = np.array([f.exponent for f in fits])
    half = float(student.ppf(0.975, len(e) - 1)) * float(e.std(ddof=1)) / math.sqrt(len(e))
    return _joined(fits, float(e.mean()), half, f"over {len(e)} seeds")


def over_blocks(whole: PowerLaw, without: Sequence[PowerLaw]) -> PowerLaw:
    """The fit to one run with a jackknife interval from fits that leave out one block of time each.

    It knows the fluctuations within that run only, and is too narrow where blocks are shorter than correlation times.

    Examples
    --------
    >>> fits = [power_law([1.0, 2.0, 4.0], [1.0, 2.0**e, 4.0**e]) for e in (0.9, 1.0, 1.1)]
    >>> over_blocks(fits[1], fits).origin
    'within one run, 3 blocks left out in turn'
    """
    from scipy.stats import t as student

    if len(without) < 2:
        raise ValueError(f"a jackknife needs at least 2 blocks: got {len(without)}")
    e, n = np.array([f.exponent for f in without]), len(without)
    half = float(student.ppf(0.975, n - 1)) * math.sqrt((n - 1) / n * float(np.sum((e - e.mean()) ** 2)))
    return _joined([whole], whole.exponent, half, f"within one run, {n} blocks left out in turn")


def _joined(fits: Sequence[PowerLaw], exponent: float, half: float, origin: str) -> PowerLaw:
    weakest = min(fits, key=lambda f: abs(f.correlation))
    return PowerLaw(
        exponent,
        float(np.exp(np.mean([math.log(f.prefactor) for f in fits]))),
        weakest.correlation,
        min((f.rank for f in fits), key=abs),
        min(f.points for f in fits),
        max(f.left_out for f in fits),
        (min(f.fit[0] for f in fits), max(f.fit[1] for f in fits)),
        (exponent - half, exponent + half),
        origin,
    )
