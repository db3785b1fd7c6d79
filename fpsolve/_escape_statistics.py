"""Sums of first-passage times: all that the estimates need of an ensemble too large to keep, merged from its parts."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fpsolve._checks import numbers
from fpsolve._estimate import _Record, _run_text
from fpsolve._parts import check_same, join_ranges, ranges_of
from fpsolve._shown import Description, Quantity, _lines, _with_error
from fpsolve._waiting import Waiting, WaitingSums, kaplan_meier, weibull_score

if TYPE_CHECKING:
    from fpsolve._ensembles import EscapeTimes

__all__ = ["EscapeStatistics", "SurvivalCurve", "statistics_of", "time_edges"]

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

#: Decades that the bins of times span: the same for all parts, whatever their times are.
DECADES = (-15, 15)


@dataclass(frozen=True, eq=False, repr=False)
class SurvivalCurve(_Record):
    """Probability of not having escaped, with pointwise 95 % intervals; made by `EscapeTimes.survival`.

    Parameters
    ----------
    times : array (nt,)
    survival, low, high : array (nt,)
        The curve (a step function, right-continuous) and the ends of the intervals; NaN where nothing is known.
    at_risk : array (nt,) of int
        Paths still watched just before each time.
    unit : {"time", "iteration"}
    method : str

    Raises
    ------
    ValueError
        If the arrays differ in length.

    Examples
    --------
    >>> SurvivalCurve([0.0, 1.0], [1.0, 0.5], [0.4, 0.2], [1.0, 0.8], [4, 4])
    SurvivalCurve at 2 times (0 ... 1 time): 1 ... 0.5
    """

    times: Array
    survival: Array
    low: Array
    high: Array
    at_risk: npt.NDArray[np.int64]
    unit: str = "time"
    method: str = ""
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "times": ("time", "{unit}", "times"),
        "survival": ("time", "", "probability that the escape is later"),
        "low": ("time", "", "lower end of the 95 % interval"),
        "high": ("time", "", "upper end of the 95 % interval"),
        "at_risk": ("time", "", "paths still watched just before"),
    }
    ALONG: ClassVar[Mapping[str, str]] = {"time": "times"}
    ROWS: ClassVar[str] = "time"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_survival"

    def __post_init__(self) -> None:
        for name in ("times", "survival", "low", "high"):
            object.__setattr__(self, name, np.atleast_1d(numbers(name, getattr(self, name))))
        object.__setattr__(self, "at_risk", np.atleast_1d(np.asarray(self.at_risk, dtype=np.int64)))
        shapes = {getattr(self, name).shape for name in ("times", "survival", "low", "high", "at_risk")}
        if len(shapes) != 1 or self.times.ndim != 1:
            raise ValueError(f"SurvivalCurve: times, survival, low, high, at_risk must have one shape (nt,), got {sorted(shapes)}")

    def __repr__(self) -> str:
        span = f" ({self.times[0]:.6g} ... {self.times[-1]:.6g} {self.unit})" if self.times.size else ""
        values = f": {self.survival[0]:.6g} ... {self.survival[-1]:.6g}" if self.times.size else ""
        return f"SurvivalCurve at {self.times.size} times{span}{values}"


def time_edges(bins: Any) -> Array:
    """Increasing edges of bins in time: as given, or so many per decade, equal in the logarithm.

    Raises
    ------
    TypeError, ValueError
        For edges that are not positive, finite and increasing, or a number of bins outside 1 ... 1000.
    """
    if isinstance(bins, (int, np.integer)) and not isinstance(bins, bool):
        if not 1 <= bins <= 1000:
            raise ValueError(f"bins: 1 ... 1000 per decade of time, got {bins}")
        low, high = DECADES
        return np.asarray(10.0 ** (np.arange(low * int(bins), high * int(bins) + 1) / int(bins)))
    edges = numbers("bins", bins, "a number of bins per decade of time, or increasing edges")
    if edges.ndim != 1 or edges.size < 1 or not np.all(np.isfinite(edges)) or edges[0] <= 0.0 or np.any(np.diff(edges) <= 0.0):
        raise ValueError(f"bins: edges must be positive, finite and increasing, got {bins!r}")
    return edges


@dataclass(frozen=True, eq=False, repr=False)
class EscapeStatistics(Waiting, _Record):
    r"""Sums of first-passage times, from which the estimates of `EscapeTimes` follow; made by `EscapeTimes.statistics`.

    An ensemble that does not fit into memory, or is spread over many machines, is run in parts (``first=`` of
    `fpsolve.escape_times`), and the statistics of the parts are merged: counts exactly, sums to rounding. With k escapes in the
    total time T the rate is k / T. The spread of the times of escape is kept as mean and sum of squared deviations, not as
    :math:`\sum t^2`, whose difference to :math:`(\sum t)^2 / k` cancels, and merged by

    .. math:: m = \sum_i k_i m_i / k, \qquad M = \sum_i M_i + \sum_i k_i (m_i - m)^2

    (Chan, Golub and LeVeque); plain sums are added with one rounding for all parts. Whether the times are exponential is tested
    with sums of logarithms, and the survival curve is known at the edges of fixed bins, exactly.

    Parameters
    ----------
    n, n_events, n_censored, n_failed : int
        Trajectories; those that were seen to escape, were watched to `t_max`, and became non-finite (they enter no estimate).
    exposure : float
        Total time watched.
    event_mean, event_squares : float
        Mean of the times of escape, and sum of their squared deviations from it; NaN and 0 without one.
    shortest, longest : float
        Extremes of the times of escape; NaN without one.
    log_sums : array (3,)
        Sums of log t over the escapes, of t log t and of t (log t)^2 over all paths.
    edges : array (m,)
        Increasing times.
    counts : array (m + 1,) of int
        Escapes with edges[i - 1] < t <= edges[i]; the first and the last bin have one edge.
    side_counts : array of int, optional
        Escapes through each side.
    side_names : tuple of str
    ranges : array (k, 3) of int
        Seed, first trajectory and number of trajectories of each range in here; parts that overlap are not merged.
    unit : {"time", "iteration"}
    dt, method, correction, t_max, lr, batch, problem
        As in `EscapeTimes`.

    Raises
    ------
    ValueError
        If the counts do not fit each other.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, Amer. Stat. 37 (1983) 242.

    Examples
    --------
    >>> from fpsolve import EscapeTimes
    >>> a = EscapeTimes([1.0, 2.0], [False] * 2, np.zeros((2, 1)), seed=1).statistics()
    >>> b = EscapeTimes([6.0], [False], np.zeros((1, 1)), seed=1, first=2).statistics()
    >>> a.merge(b).mean().value, a.merge(b).ranges.tolist()
    (3.0, [[1, 0, 3]])
    """

    n: int
    n_events: int
    n_censored: int
    n_failed: int
    exposure: float
    event_mean: float
    event_squares: float
    shortest: float
    longest: float
    log_sums: Array
    edges: Array
    counts: Counts
    side_counts: Counts | None = None
    side_names: tuple[str, ...] = ()
    ranges: Counts = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    unit: str = "time"
    dt: float | None = None
    method: str = ""
    correction: str = ""
    t_max: float | None = None
    lr: float | None = None
    batch: float | None = None
    problem: str = ""
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "edges": ("edge", "{unit}", "edges of the bins"),
        "counts": ("bin", "", "escapes in each bin; the first and the last have one edge"),
        "side_counts": ("side", "", "escapes through each side"),
        "ranges": ("range column", "", "seed, first trajectory and number of trajectories"),
        "log_sums": ("sum", "", "sums of log t over the escapes, of t log t and of t (log t)^2 over all paths"),
        "exposure": ("", "{unit}", "total time watched"),
        "event_mean": ("", "{unit}", "mean of the times of escape"),
        "event_squares": ("", "{unit}^2", "sum of their squared deviations from it"),
        "shortest": ("", "{unit}", "shortest time of escape"),
        "longest": ("", "{unit}", "longest time of escape"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {"mean": ("", "", "mean time of escape"), "rate": ("", "", "rate of escape")}
    ALONG: ClassVar[Mapping[str, str]] = {"side": "side_names"}
    ROWS: ClassVar[str] = "bin"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_escape_times"

    def __post_init__(self) -> None:
        for name in ("log_sums", "edges"):
            object.__setattr__(self, name, numbers(name, getattr(self, name)))
        for name in ("counts", "ranges", "side_counts"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), np.int64))
        object.__setattr__(self, "ranges", self.ranges.reshape(-1, 3))
        object.__setattr__(self, "side_names", tuple(str(name) for name in self.side_names))
        for name in ("n", "n_events", "n_censored", "n_failed"):
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("exposure", "event_mean", "event_squares", "shortest", "longest"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.n != self.n_events + self.n_censored + self.n_failed or self.n_events != int(self.counts.sum()):
            raise ValueError(
                f"EscapeStatistics: {self.n} trajectories are not {self.n_events} escapes (in bins {int(self.counts.sum())}), "
                f"{self.n_censored} censored and {self.n_failed} failed ones"
            )
        if self.edges.ndim != 1 or self.counts.shape != (self.edges.size + 1,):
            raise ValueError(f"EscapeStatistics: {self.edges.size} edges have one bin more, got {self.counts.shape} counts")

    # ---- merging ----------------------------------------------------------------------------------------------------

    def merge(self, other: "EscapeStatistics") -> "EscapeStatistics":
        """Both together; see `merged`."""
        return EscapeStatistics.merged([self, other])

    @classmethod
    def merged(cls, parts: "Iterable[EscapeStatistics]") -> "EscapeStatistics":
        """All parts together, in the order given: counts exactly, sums to rounding.

        Raises
        ------
        TypeError, ValueError
            For no parts, other records, parts of different problems, units, steps, watches or bins, or trajectories that are in two
            of them.

        Examples
        --------
        >>> from fpsolve import EscapeTimes
        >>> times = [EscapeTimes([t], [False], np.zeros((1, 1)), seed=1, first=i) for i, t in enumerate([1.0, 2.0, 6.0])]
        >>> EscapeStatistics.merged(t.statistics() for t in times)
        EscapeStatistics of 3 trajectories
          3 escapes, 0 censored
          mean 3.0 +- 1.5 time
          seed 1: 0 ... 2
        """
        some = list(parts)
        same = ("unit", "dt", "method", "correction", "t_max", "lr", "batch", "problem", "side_names", "edges")
        check_same("EscapeStatistics.merged", some, same)
        one = some[0]
        if len(some) == 1:
            return one
        seen = [part for part in some if part.n_events]
        k = sum(part.n_events for part in seen)
        mean = math.fsum(part.n_events * part.event_mean for part in seen) / k if k else math.nan
        squares = [part.event_squares for part in seen] + [part.n_events * (part.event_mean - mean) ** 2 for part in seen]
        sided = [part.side_counts for part in some if part.side_counts is not None]
        sides = np.sum(sided, axis=0) if len(sided) == len(some) else None
        return dataclasses.replace(
            one,
            **{name: sum(getattr(part, name) for part in some) for name in ("n", "n_events", "n_censored", "n_failed")},
            exposure=math.fsum(part.exposure for part in some),
            event_mean=mean,
            event_squares=math.fsum(squares),
            shortest=min((part.shortest for part in seen), default=math.nan),
            longest=max((part.longest for part in seen), default=math.nan),
            log_sums=np.array([math.fsum(column) for column in zip(*(part.log_sums.tolist() for part in some), strict=True)]),
            counts=np.sum([part.counts for part in some], axis=0),
            side_counts=sides,
            ranges=join_ranges("EscapeStatistics.merged", (part.ranges for part in some)),
        )

    # ---- estimates --------------------------------------------------------------------------------------------------

    def _sums(self) -> WaitingSums:
        k, n = self.n_events, self.n - self.n_failed
        if k < n or k == 0:
            return WaitingSums(n, k, self.exposure, math.nan, math.nan)
        return WaitingSums(n, k, self.exposure, self.event_mean, math.sqrt(self.event_squares / (k - 1)) if k > 1 else 0.0)

    def _departure(self) -> float:
        sums = self._sums()
        if not sums.censored:
            return (sums.deviation / sums.mean - 1.0) * math.sqrt(sums.n)
        first, second, third = self.log_sums.tolist()
        return weibull_score(sums.events, sums.total, (first, second, third))

    @property
    def watched_until(self) -> float:
        """The longest time for which a path was watched."""
        return self.t_max if self.t_max is not None and self.n_censored else self.longest

    def _side_counts(self) -> list[int] | None:
        return None if self.side_counts is None else self.side_counts.tolist()

    def survival(self) -> "SurvivalCurve":
        """Probability of still being inside at the edges of the bins and at `t_max`, by Kaplan and Meier, with 95 % intervals.

        The same numbers as `EscapeTimes.survival` at these times: paths are censored at `t_max` alone, so that nothing is lost in
        the bins. From the last edge before the first escape to the first one after the last escape.

        Raises
        ------
        ValueError
            If nothing was observed.

        Examples
        --------
        >>> from fpsolve import EscapeTimes
        >>> e = EscapeTimes([1.0, 2.0, 3.0, 3.5], [False] * 3 + [True], np.zeros((4, 1)), t_max=3.5)
        >>> curve = e.statistics(bins=[0.5, 1.5, 2.5, 3.2]).survival()
        >>> curve.times, curve.survival
        (array([0. , 0.5, 1.5, 2.5, 3.2, 3.5]), array([1.  , 1.  , 0.75, 0.5 , 0.25, 0.25]))
        """
        n = self.n - self.n_failed
        if n == 0:
            raise ValueError("EscapeStatistics.survival: no path was observed, all trajectories failed; shorten dt")
        end = self.longest if self.t_max is None else self.t_max
        upper = np.append(self.edges, max(end, self.edges[-1]))
        if self.t_max is not None:
            upper = np.minimum(upper, self.t_max)
        filled = np.flatnonzero(self.counts)
        deaths = self.counts[filled].astype(np.float64)
        if not self.n_censored and deaths[-1] > 1.0:  # the interval at the end is that before the last path escaped
            filled, deaths = np.append(filled, filled[-1]), np.append(deaths, 1.0)
            deaths[-2] -= 1.0
        risk = n - (np.cumsum(deaths) - deaths)
        curve, low, high = kaplan_meier(deaths, risk, n)
        shown = np.arange(0, 0)
        if filled.size:
            last = filled[-1] if self.t_max is None else upper.size - 1
            shown = np.arange(max(0, filled[0] - 1), min(last, upper.size - 1) + 1)
        times = np.unique(np.concatenate([[0.0], upper[shown], [] if self.t_max is None else [self.t_max]]))
        step = np.searchsorted(upper[filled], times, side="right")
        at_risk = np.append(n, n - np.cumsum(deaths))[step].astype(np.int64)
        lower = np.where(step == 0, 0.025 ** (1.0 / n), low[step])
        name = "Kaplan-Meier in bins, Greenwood (log-log)"
        return SurvivalCurve(times, curve[step], lower, high[step], at_risk, unit=self.unit, method=name)

    def _quantities(self) -> dict[str, Quantity]:
        """With the ends of every bin."""
        found = super()._quantities()
        found["after"] = Quantity(np.concatenate([[0.0], self.edges]), ("bin",), self.unit, "escapes later than this")
        found["until"] = Quantity(np.concatenate([self.edges, [math.inf]]), ("bin",), self.unit, "and not later than this")
        return found

    def __repr__(self) -> str:
        mean = self.mean() if self.n_events else None
        seeds = [f"seed {seed}: {first} ... {first + n - 1}" for seed, first, n in self.ranges[:4].tolist()]
        more = len(self.ranges) - len(seeds)
        items = [
            _run_text(self.method, self.dt, None) + (f", correction {self.correction}" if self.correction else ""),
            f"{self.n_events} escapes, {self.n_censored} censored" + ("" if self.t_max is None else f" at {self.t_max:.6g}"),
            "no escape seen" if mean is None else f"mean {_with_error(mean.value, mean.error)} {self.unit}",
            f"{self.n_failed} trajectories failed" if self.n_failed else "",
            "; ".join(seeds) + (f"; {more} more ranges" if more else ""),
        ]
        return _lines(f"EscapeStatistics of {self.n} trajectories", items)


def statistics_of(escapes: "EscapeTimes", log_sums: tuple[float, float, float], bins: Any) -> EscapeStatistics:
    """The sums of times of escape."""
    edges, times = time_edges(bins), escapes.times
    found = np.isfinite(times)
    late = found & escapes.censored
    end = math.nan if escapes.t_max is None else escapes.t_max
    if late.any() and not np.allclose(times[late], end, rtol=1e-9, atol=0.0):
        raise ValueError(
            "EscapeTimes.statistics: paths were censored at other times than t_max, and sums in bins cannot say when; use "
            "EscapeTimes itself"
        )
    t = times[found & ~escapes.censored]
    mean = float(t.mean()) if t.size else math.nan
    counts = np.bincount(np.searchsorted(edges, t, side="left"), minlength=edges.size + 1)
    sides = escapes._side_counts()
    return EscapeStatistics(
        n=times.size,
        n_events=t.size,
        n_censored=int(late.sum()),
        n_failed=int(times.size - found.sum()),
        exposure=math.fsum(times[found]),
        event_mean=mean,
        event_squares=float(np.sum((t - mean) ** 2)) if t.size else 0.0,
        shortest=float(t.min()) if t.size else math.nan,
        longest=float(t.max()) if t.size else math.nan,
        log_sums=np.array(log_sums),
        edges=edges,
        counts=counts,
        side_counts=None if sides is None else np.array(sides),
        ranges=ranges_of(escapes.seed, escapes.first, times.size),
        **{
            name: getattr(escapes, name)
            for name in ("side_names", "unit", "dt", "method", "correction", "t_max", "lr", "batch", "problem")
        },
    )
