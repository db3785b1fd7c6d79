"""What follows from waiting times: rate, mean and shares of the sides, from all times or from their sums."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpsolve._estimate import Assumption, Estimate

__all__ = ["Waiting", "WaitingSums", "kaplan_meier", "share_of", "weibull_score"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WaitingSums:
    """Of the paths that did not fail: how many, escapes among them, total time watched, mean and standard deviation (ddof 1) of the
    times of escape."""

    n: int
    events: int
    total: float
    mean: float
    deviation: float

    @property
    def censored(self) -> bool:
        return self.events < self.n


def weibull_score(events: int, total: float, logs: tuple[float, float, float]) -> float:
    """Score test of shape 1 among Weibull times: normal for exponential ones and any censoring that does not look at the path.

    With u = rate t and w = log u, (sum over escapes of 1 + w, less sum of u w) over the root of its information
    k + sum u w^2 - (sum u w)^2 / k. `logs` are the sums of log t over the escapes, of t log t and of t (log t)^2 over all paths.
    """
    rate = events / total
    shift = math.log(rate)
    cross = rate * (shift * total + logs[1])
    square = rate * (shift * shift * total + 2.0 * shift * logs[1] + logs[2])
    return (events + events * shift + logs[0] - cross) / math.sqrt(events + square - cross**2 / events)


def kaplan_meier(deaths: Array, risk: Array, n: int) -> tuple[Array, Array, Array]:
    """Curve and interval ends after 0, 1, 2, ... escape times."""
    curve = np.concatenate([[1.0], np.cumprod(1.0 - deaths / risk)])
    low, high = np.full(curve.size, 0.025 ** (1.0 / n)), np.ones(curve.size)
    left = risk > deaths
    variance = np.cumsum(np.where(left, deaths / (risk * np.where(left, risk - deaths, 1.0)), 0.0))
    inner = slice(1, 1 + int(left.sum()))  # only the last step can reach 0
    s = curve[inner]
    spread = 1.959963984540054 * np.sqrt(variance[: s.size]) / np.abs(np.log(s))
    low[inner], high[inner] = s ** np.exp(spread), s ** np.exp(-spread)
    if not left.all():
        low[-1], high[-1] = 0.0, high[-2]
    return curve, low, high


def share_of(k: int, n: int) -> Estimate:
    """k of n escapes, with the exact interval of Clopper and Pearson."""
    from scipy.special import betaincinv

    p = k / n
    low = float(betaincinv(k, n - k + 1, 0.025)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
    stderr = math.sqrt(max(p * (1.0 - p), 1.0 / n) / n)
    return Estimate(p, stderr=stderr, interval=(low, high), method="share of the escapes")


class Waiting(ABC):
    """Estimates that both `EscapeTimes` and `EscapeStatistics` give; each knows its sums."""

    unit: str
    dt: float | None
    correction: str
    lr: float | None
    batch: float | None
    side_names: tuple[str, ...]

    @abstractmethod
    def _sums(self) -> WaitingSums:
        """What follows from the times without their order."""

    @abstractmethod
    def _departure(self) -> float:
        """Standard score of the departure from exponential waiting times, 0 for them; normal for large numbers of escapes."""

    @abstractmethod
    def _side_counts(self) -> list[int] | None:
        """Escapes through each side; None if not recorded."""

    def _nothing(self) -> str:
        """Why nothing was observed."""
        return "no path was followed"

    def _watched(self, question: str) -> WaitingSums:
        sums = self._sums()
        if not sums.total > 0.0:
            name = type(self).__name__
            raise ValueError(f"{name}.{question}: the total observed time is 0, so nothing is known: {self._nothing()}")
        return sums

    def _exponential(self, sums: WaitingSums) -> Assumption:
        """Whether the waiting times are exponential: beyond 4 standard errors they are not."""
        name, k = "exponential waiting times", sums.events
        if k < 20 or (not sums.censored and sums.deviation == 0.0):
            return Assumption(name, "unknown", f"needs >= 20 different escapes, there are {k}")
        z = self._departure()
        test = "score test of shape 1 among Weibull times" if sums.censored else "coefficient of variation against 1"
        return Assumption(name, "held" if abs(z) < 4.0 else "failed", f"{test}: z = {z:+.1f}")

    def _step_bias(self) -> tuple[Assumption, ...]:
        """Times of a Process carry an error of its step, which one run cannot see; the iterations of a chain do not."""
        if self.dt is None or self.unit != "time":
            return ()
        order = "O(dt)" if self.correction else "O(sqrt(dt))"
        return (Assumption(f"time-step bias {order} below the statistical error", "unknown", f"repeat with dt = {self.dt / 2:g}"),)

    def rate(self) -> Estimate:
        r"""Escape rate: events / total observed time, the maximum-likelihood estimate for exponential waiting times.

        With k events in total time T, 2 rate T is chi-square with 2k degrees of freedom if every path was watched until it
        escaped: the 95 % interval is exact. If some were censored at a fixed time, the interval
        [chi2(0.025; 2k), chi2(0.975; 2k + 2)] / 2T covers at least 95 %.

        Raises
        ------
        ValueError
            If nothing was observed (total time 0), as after an early Ctrl-C.

        References
        ----------
        D. R. Cox, D. Oakes, Analysis of Survival Data (1984), ch. 3.

        Examples
        --------
        >>> from fpsolve import EscapeTimes
        >>> e = EscapeTimes([5.0, 5.0], [True, True], np.full((2, 1), np.nan), t_max=5.0)
        >>> e.rate()                                   # no escape in total time 10
        Estimate(0 +- inf 1/time, 95 % [0, 0.368888], events / total time)
        """
        from scipy.special import gammaincinv

        sums = self._watched("rate")
        total, k = sums.total, sums.events
        low = float(gammaincinv(k, 0.025)) / total if k else 0.0
        high = float(gammaincinv(k + sums.censored, 0.975)) / total
        value = k / total
        return Estimate(
            value,
            stderr=value / math.sqrt(k) if k else math.inf,
            interval=(low, high),
            unit=f"1/{self.unit}",
            assumptions=(self._exponential(sums), *self._step_bias()),
            lr=self.lr,
            method="events / total time",
            batch=self.batch,
        )

    def mean(self) -> Estimate:
        r"""Mean escape time.

        Without censoring the sample mean with its standard error; its 95 % interval is the exact one of exponential times,
        2 T / chi2(0.975; 2n) to 2 T / chi2(0.025; 2n) with total time T, unless their coefficient of variation is further than
        2 standard errors from 1: then it is Student's, which is right for large n only. With censoring the maximum-likelihood
        mean T / k of exponential waiting times, with the interval of `rate` inverted.

        Raises
        ------
        ValueError
            If no escape was seen: then only a lower bound is known, 1 / rate().interval[1]; or if nothing was observed.

        Examples
        --------
        >>> from fpsolve import EscapeTimes
        >>> EscapeTimes([1.0, 2.0, 3.0], [False] * 3, np.zeros((3, 1))).mean()   # 12 / chi2(0.975; 6), 12 / chi2(0.025; 6)
        Estimate(2.00 +- 0.58 time, 95 % [0.830486, 9.69819], sample mean)
        """
        from scipy.special import stdtrit

        sums = self._watched("mean")
        k = sums.events
        if k == 0:
            raise ValueError(
                f"{type(self).__name__}.mean: no escape among {sums.n} trajectories; only a lower bound is known, "
                "1 / rate().interval[1]. Raise t_max or take a more likely event"
            )
        rate = self.rate()
        assert rate.interval is not None
        interval, assumptions = (1.0 / rate.interval[1], 1.0 / rate.interval[0]), rate.assumptions
        if sums.censored:
            value, method = 1.0 / rate.value, "total time / events (censored)"
            stderr = value / math.sqrt(k)
        else:
            value, method = sums.mean, "sample mean"
            stderr = sums.deviation / math.sqrt(k) if k > 1 else math.inf
            if k > 1 and abs(self._departure()) >= 2.0:
                half = float(stdtrit(k - 1, 0.975)) * stderr
                interval, assumptions = (value - half, value + half), self._step_bias()
        return Estimate(
            value,
            stderr=stderr,
            interval=interval,
            unit=self.unit,
            lr=self.lr,
            assumptions=assumptions,
            method=method,
            batch=self.batch,
        )

    def exit_probabilities(self) -> dict[str, Estimate]:
        """Probability of leaving through each side, with exact (Clopper-Pearson) 95 % intervals.

        They are of the escapes seen: with censoring, of leaving through this side given that the path leaves in time.

        Raises
        ------
        ValueError
            If the sides are not recorded or no escape was seen.

        References
        ----------
        C. J. Clopper, E. S. Pearson, Biometrika 26 (1934) 404.

        Examples
        --------
        >>> from fpsolve import EscapeTimes
        >>> e = EscapeTimes([1.0, 2.0], [False] * 2, [[1.0], [-1.0]], sides=[1, 0], side_names=("x0 = -1", "x0 = 1"))
        >>> e.exit_probabilities()["x0 = 1"].value
        0.5
        """
        n, counts = self._sums().events, self._side_counts()
        if counts is None or n == 0:
            why = "no escape was seen; raise t_max" if n == 0 else "sides are recorded by escape_times, and none are here"
            raise ValueError(f"{type(self).__name__}.exit_probabilities: {n} escapes; sides recorded: {counts is not None}; {why}")
        return {name: share_of(k, n) for name, k in zip(self.side_names, counts, strict=True)}
