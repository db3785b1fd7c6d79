"""Results of ensembles of paths: trajectories and first-passage times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes


from fpsolve._checks import numbers
from fpsolve._correlations import Autocorrelation, Occupation
from fpsolve._estimate import Assumption, Estimate, _lines, _plain, _Record, _require, _with_error
from fpsolve._fields import Density

__all__ = ["EscapeTimes", "SurvivalCurve", "Trajectories"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Trajectories(_Record):
    """An ensemble of paths: final states, and what was recorded on the way.

    Parameters
    ----------
    final : array (n, d)
        Last state of every trajectory; NaN where it failed.
    times : array (nt,)
        Times of the records.
    states : array (nt, n, d), optional
        The recorded states.
    mean, covariance : array, optional
        Of the trajectories that did not fail: (d,) and (d, d) or, per record, (nt, d) and (nt, d, d).
    histogram : Density, optional
        Occupation density on a grid.
    unit : {"time", "iteration"}
    dt : float, optional
        Step; None for a chain.
    seed : int, optional
    status : mapping of str to int
        How many trajectories ended how, such as {"ok": 9963, "not_finite": 37}.
    method : str
    partial : bool
        True if the run was interrupted.
    lr, batch : float, optional
        Learning rate and batch size of the noise.
    autocorrelation : Autocorrelation, optional
    occupation : Occupation, optional
    precision : {"double", "single"}
        Of the arithmetic of the run; the numbers here are float64 in any case.
    rounding : Estimate, optional
        Of a run in single precision: the largest effect of rounding on a mean or a variance, in units of the statistical error,
        with the error of this number itself. Its assumption says whether that is shown to be small.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.

    Examples
    --------
    >>> Trajectories(np.zeros((3, 2)), [1.0], dt=0.1, seed=7, status={"ok": 3}).dim
    2
    """

    final: Array
    times: Array
    states: Array | None = None
    mean: Array | None = None
    covariance: Array | None = None
    histogram: Density | None = None
    unit: str = "time"
    dt: float | None = None
    seed: int | None = None
    status: Mapping[str, int] = field(default_factory=dict)
    method: str = ""
    partial: bool = False
    lr: float | None = None
    batch: float | None = None
    autocorrelation: Autocorrelation | None = None
    occupation: Occupation | None = None
    precision: str = "double"
    rounding: Estimate | None = None

    def __post_init__(self) -> None:
        for name in ("final", "times", "states", "mean", "covariance"):
            if getattr(self, name) is not None or name in ("final", "times"):
                object.__setattr__(self, name, numbers(name, getattr(self, name)))
        object.__setattr__(self, "status", _plain(self.status))
        object.__setattr__(self, "batch", None if self.batch is None else float(self.batch))
        if self.times.ndim != 1:
            raise ValueError(f"Trajectories: times must have shape (nt,), got {self.times.shape}")
        if self.final.ndim != 2:
            raise ValueError(f"Trajectories: final must have shape (n, d), got {self.final.shape}")
        if self.states is not None and self.states.shape != (self.times.size, *self.final.shape):
            raise ValueError(
                f"Trajectories: states must have shape {(self.times.size, *self.final.shape)}, got {self.states.shape}"
            )

    @property
    def n(self) -> int:
        """Number of trajectories."""
        return int(self.final.shape[0])

    @property
    def dim(self) -> int:
        """Dimension of the state."""
        return int(self.final.shape[1])

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """Paths against time (1-D) or in the plane; see `fpsolve.plotting.plot_trajectories`."""
        from fpsolve import plotting

        return plotting.plot_trajectories(self, ax=ax, **kwargs)

    def to_xarray(self) -> Any:
        """An xarray.Dataset of final states and, if recorded, states (needs the package xarray)."""
        xarray = _require("xarray", "Trajectories.to_xarray")
        data: dict[str, Any] = {"final": (("trajectory", "component"), self.final)}
        if self.states is not None:
            data["states"] = (("time", "trajectory", "component"), self.states)
        return xarray.Dataset(data, coords={"time": self.times}, attrs={"unit": self.unit, "method": self.method})

    def __repr__(self) -> str:
        end = f" to {self.unit} {self.times[-1]:.6g}" if self.times.size else ""
        names = ("states", "mean", "covariance", "histogram", "autocorrelation", "occupation")
        kept = [n for n in names if getattr(self, n) is not None]
        bad = {k: v for k, v in self.status.items() if k != "ok" and v}
        items = [
            _run_text(self.method, self.dt, self.seed),
            "records: " + ", ".join(["final", *kept]),
            "" if self.precision == "double" else self._rounding_text(),
            "NOT ok: " + ", ".join(f"{v} {k}" for k, v in bad.items()) if bad else "",
            "interrupted: partial" if self.partial else "",
        ]
        return _lines(f"Trajectories: {self.n} in {self.dim}-D{end}", items)

    def _rounding_text(self) -> str:
        if self.rounding is None:
            return f"{self.precision} precision, rounding not measured"
        size = f"{self.rounding.value:.2g} +- {self.rounding.stderr:.1g} statistical errors"
        return f"{self.precision} precision: rounding is {size}, " + "; ".join(map(str, self.rounding.assumptions))


def _run_text(method: str, dt: float | None, seed: int | None) -> str:
    parts = [f"method {method}" if method else "", "" if dt is None else f"dt {dt:.6g}", f"seed {seed}"]
    return ", ".join(p for p in parts if p)


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

    def __post_init__(self) -> None:
        for name in ("times", "survival", "low", "high"):
            object.__setattr__(self, name, np.atleast_1d(numbers(name, getattr(self, name))))
        object.__setattr__(self, "at_risk", np.atleast_1d(np.asarray(self.at_risk, dtype=np.int64)))
        shapes = {getattr(self, name).shape for name in ("times", "survival", "low", "high", "at_risk")}
        if len(shapes) != 1 or self.times.ndim != 1:
            raise ValueError(f"SurvivalCurve: times, survival, low, high, at_risk must have one shape (nt,), got {sorted(shapes)}")

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """Steps with their intervals on a logarithmic axis; see `fpsolve.plotting.plot_survival`."""
        from fpsolve import plotting

        return plotting.plot_survival(self, ax=ax, **kwargs)

    def __repr__(self) -> str:
        span = f" ({self.times[0]:.6g} ... {self.times[-1]:.6g} {self.unit})" if self.times.size else ""
        values = f": {self.survival[0]:.6g} ... {self.survival[-1]:.6g}" if self.times.size else ""
        return f"SurvivalCurve at {self.times.size} times{span}{values}"


def _risk_table(times: Array, censored: npt.NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Times of escapes, escapes at each, and paths still watched just before each; a tie with a censoring counts as before it."""
    at, deaths = np.unique(times[~censored], return_counts=True)
    risk = times.size - np.searchsorted(np.sort(times), at, side="left")
    return at, deaths.astype(np.float64), risk.astype(np.float64)


def _kaplan_meier(deaths: Array, risk: Array, n: int) -> tuple[Array, Array, Array]:
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


@dataclass(frozen=True, eq=False, repr=False)
class EscapeTimes(_Record):
    r"""First-passage times of n independent trajectories out of a region.

    Parameters
    ----------
    times : array (n,)
        Time of escape, or the time at which the watch ended (censored); NaN where the trajectory failed.
    censored : array (n,) of bool
        True where no escape was seen.
    exit_points : array (n, d)
        Where the path left; NaN if it did not.
    unit : {"time", "iteration"}
    dt : float, optional
        Step; None for a chain.
    seed : int, optional
    method, correction : str
        Integrator, and the treatment of crossings inside a step.
    t_max : float, optional
        The watch ended here.
    n_failed : int
        Trajectories that became non-finite; they enter no estimate.
    lr : float, optional
        Learning rate that joins time and iterations.
    partial : bool
        True if the run was interrupted.
    batch : float, optional
        Batch size of the noise.
    sides : array (n,) of int, optional
        Which side of the region the path left through, a number into `side_names`; -1 where it did not.
    side_names : tuple of str
        Equations of the sides: of a box its finite faces, else the one surface.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, a time is negative, or a side has no name.

    Examples
    --------
    >>> e = EscapeTimes([1.0, 2.0, 3.0], [False] * 3, np.zeros((3, 1)))
    >>> e.mean().value, e.rate().value
    (2.0, 0.5)
    """

    times: Array
    censored: npt.NDArray[np.bool_]
    exit_points: Array
    unit: str = "time"
    dt: float | None = None
    seed: int | None = None
    method: str = ""
    correction: str = ""
    t_max: float | None = None
    n_failed: int = 0
    lr: float | None = None
    partial: bool = False
    batch: float | None = None
    sides: npt.NDArray[np.int64] | None = None
    side_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        times = numbers("times", self.times)
        censored = np.asarray(self.censored, dtype=bool)
        points = numbers("exit_points", self.exit_points)
        if times.ndim != 1 or censored.shape != times.shape or points.ndim != 2 or points.shape[0] != times.size:
            raise ValueError(
                "EscapeTimes: times (n,), censored (n,) and exit_points (n, d) must agree, got shapes "
                f"{times.shape}, {censored.shape}, {points.shape}"
            )
        if np.any(times < 0.0):
            raise ValueError(f"EscapeTimes: negative time {times.min()}")
        if self.unit not in ("time", "iteration"):
            raise ValueError(f"EscapeTimes: unit must be 'time' or 'iteration', got {self.unit!r}")
        sides = None if self.sides is None else np.asarray(self.sides, dtype=np.int64)
        names = tuple(str(v) for v in self.side_names)
        if sides is not None and (sides.shape != times.shape or np.any(sides < -1) or np.any(sides >= len(names))):
            raise ValueError(f"EscapeTimes: sides must have shape {times.shape} and be -1 ... {len(names) - 1}, one name per side")
        batch = None if self.batch is None else float(self.batch)
        object.__setattr__(self, "sides", sides)
        object.__setattr__(self, "side_names", names)
        for name, value in (("times", times), ("censored", censored), ("exit_points", points), ("batch", batch)):
            object.__setattr__(self, name, value)

    @property
    def n(self) -> int:
        """Number of trajectories, failed ones included."""
        return int(self.times.size)

    @property
    def n_events(self) -> int:
        """Number of escapes seen."""
        return int(np.sum(~self.censored & np.isfinite(self.times)))

    def _observed(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        good = np.isfinite(self.times)
        return self.times[good], self.censored[good]

    def _watched(self, question: str) -> None:
        if not math.fsum(self._observed()[0]) > 0.0:
            why = "the run was interrupted before any path had moved; run it again" if self.partial else "no path was followed"
            raise ValueError(f"EscapeTimes.{question}: the total observed time is 0, so nothing is known: {why}")

    def _departure(self) -> float:
        """Standard score of the departure from exponential waiting times, 0 for them; normal for large numbers of escapes.

        Without censoring sqrt(n) (cv - 1) with the coefficient of variation cv. With censoring the score test of shape 1 among
        Weibull times: with u = rate t and w = log u, (sum over escapes of 1 + w, less sum of u w) over the root of its
        information k + sum u w^2 - (sum u w)^2 / k, which is right for any censoring that does not look at the path.
        """
        times, censored = self._observed()
        if not censored.any():
            cv = float(times.std(ddof=1) / times.mean())
            return (cv - 1.0) * math.sqrt(times.size)
        k = int(np.sum(~censored))
        u = np.maximum(times * (k / math.fsum(times)), 1e-300)
        w = np.log(u)
        cross = float(np.sum(u * w))
        score = k + float(np.sum(w[~censored])) - cross
        return score / math.sqrt(k + float(np.sum(u * w * w)) - cross**2 / k)

    def _exponential(self) -> Assumption:
        """Whether the waiting times are exponential: beyond 4 standard errors they are not."""
        name, k = "exponential waiting times", self.n_events
        if k < 20 or (k == self._observed()[0].size and self._observed()[0].std() == 0.0):
            return Assumption(name, "unknown", f"needs >= 20 different escapes, there are {k}")
        z = self._departure()
        test = "score test of shape 1 among Weibull times" if self.censored.any() else "coefficient of variation against 1"
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
        >>> e = EscapeTimes([5.0, 5.0], [True, True], np.full((2, 1), np.nan), t_max=5.0)
        >>> e.rate()                                   # no escape in total time 10
        Estimate(0 +- inf 1/time, 95 % [0, 0.368888], events / total time)
        """
        from scipy.special import gammaincinv

        times, censored = self._observed()
        total, k = math.fsum(times), int(np.sum(~censored))
        self._watched("rate")
        low = float(gammaincinv(k, 0.025)) / total if k else 0.0
        high = float(gammaincinv(k + bool(censored.any()), 0.975)) / total
        value = k / total
        return Estimate(
            value,
            stderr=value / math.sqrt(k) if k else math.inf,
            interval=(low, high),
            unit=f"1/{self.unit}",
            assumptions=(self._exponential(), *self._step_bias()),
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
        >>> EscapeTimes([1.0, 2.0, 3.0], [False] * 3, np.zeros((3, 1))).mean()   # 12 / chi2(0.975; 6), 12 / chi2(0.025; 6)
        Estimate(2.00 +- 0.58 time, 95 % [0.830486, 9.69819], sample mean)
        """
        times, censored = self._observed()
        self._watched("mean")
        k = int(np.sum(~censored))
        if k == 0:
            raise ValueError(
                f"EscapeTimes.mean: no escape among {times.size} trajectories; only a lower bound is known, "
                "1 / rate().interval[1]. Raise t_max or take a more likely event"
            )
        rate = self.rate()
        assert rate.interval is not None
        interval, assumptions = (1.0 / rate.interval[1], 1.0 / rate.interval[0]), rate.assumptions
        if censored.any():
            value, method = 1.0 / rate.value, "total time / events (censored)"
            stderr = value / math.sqrt(k)
        else:
            value, method = float(times.mean()), "sample mean"
            stderr = float(times.std(ddof=1) / math.sqrt(k)) if k > 1 else math.inf
            if k > 1 and abs(self._departure()) >= 2.0:
                interval, assumptions = self._student(value, stderr), self._step_bias()
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
        >>> e = EscapeTimes([1.0, 2.0], [False] * 2, [[1.0], [-1.0]], sides=[1, 0], side_names=("x0 = -1", "x0 = 1"))
        >>> e.exit_probabilities()["x0 = 1"].value
        0.5
        """
        from scipy.special import betaincinv

        n = self.n_events
        if self.sides is None or n == 0:
            raise ValueError(f"EscapeTimes.exit_probabilities: {n} escapes; sides recorded: {self.sides is not None}")
        out = {}
        for i, name in enumerate(self.side_names):
            k = int(np.sum(self.sides == i))
            p = k / n
            low = float(betaincinv(k, n - k + 1, 0.025)) if k else 0.0
            high = float(betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
            stderr = math.sqrt(max(p * (1.0 - p), 1.0 / n) / n)
            out[name] = Estimate(p, stderr=stderr, interval=(low, high), method="share of the escapes")
        return out

    def survival(self, t: npt.ArrayLike | None = None) -> "SurvivalCurve":
        r"""Probability of still being inside at time t, by Kaplan and Meier, with pointwise 95 % intervals.

        .. math:: S(t) = \prod_{t_i \le t} (1 - d_i / r_i), \qquad \mathrm{var} \log S = \sum_{t_i \le t} d_i / r_i (r_i - d_i)

        with d_i escapes at t_i among r_i paths still watched (Greenwood). The interval is that of log(-log S), which stays inside
        (0, 1). Before the first escape it is [0.025^(1/r), 1], exact for no event among r; after the last one, if no path is
        left, the upper end is the one before. Beyond the last observation the curve is unknown (NaN) unless it has reached 0.

        Parameters
        ----------
        t : array, optional
            Times; default: 0 and all times at which something escaped.

        Raises
        ------
        ValueError
            If nothing was observed, or a time is negative or not finite.

        References
        ----------
        E. L. Kaplan, P. Meier, J. Amer. Stat. Assoc. 53 (1958) 457. J. D. Kalbfleisch, R. L. Prentice, The Statistical Analysis
        of Failure Time Data (1980), ch. 1.

        Examples
        --------
        >>> EscapeTimes([1.0, 2.0, 3.0, 3.0], [False, True, False, True], np.zeros((4, 1))).survival().survival
        array([1.   , 0.75 , 0.375])
        """
        observed, censored = self._observed()
        if not observed.size:
            raise ValueError("EscapeTimes.survival: no path was observed")
        at, deaths, risk = _risk_table(observed, censored)
        query = np.concatenate([[0.0], at]) if t is None else np.atleast_1d(numbers("t", t, "a time or an array of times"))
        if query.ndim != 1 or not np.all(np.isfinite(query)) or np.any(query < 0.0):
            raise ValueError(f"EscapeTimes.survival: t must be finite numbers >= 0, got {t!r}")
        curve, low, high = _kaplan_meier(deaths, risk, observed.size)
        step = np.searchsorted(at, query, side="right")
        ordered = np.sort(observed)
        at_risk = observed.size - np.searchsorted(ordered, query, side="left")
        unknown = (query > ordered[-1]) & (curve[step] > 0.0)
        s, lower, upper = (np.where(unknown, np.nan, v[step]) for v in (curve, low, high))
        none = (step == 0) & ~unknown  # no escape yet: the bound of those still watched
        lower[none] = 0.025 ** (1.0 / np.maximum(at_risk[none], 1))
        return SurvivalCurve(query, s, lower, upper, at_risk, unit=self.unit, method="Kaplan-Meier, Greenwood (log-log)")

    def _student(self, value: float, stderr: float) -> tuple[float, float]:
        from scipy.special import stdtrit

        half = float(stdtrit(self.n_events - 1, 0.975)) * stderr
        return value - half, value + half

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """Survival curve with the exponential fit; see `fpsolve.plotting.plot_escape_times`."""
        from fpsolve import plotting

        return plotting.plot_escape_times(self, ax=ax, **kwargs)

    def to_dataframe(self) -> Any:
        """A pandas.DataFrame: time, censored, exit_0, exit_1, ... (needs the package pandas)."""
        pandas = _require("pandas", "EscapeTimes.to_dataframe")
        points = {f"exit_{i}": self.exit_points[:, i] for i in range(self.exit_points.shape[1])}
        return pandas.DataFrame({"time": self.times, "censored": self.censored, **points})

    def __repr__(self) -> str:
        k = self.n_events
        mean = self.mean() if k else None
        items = [
            _run_text(self.method, self.dt, self.seed) + (f", correction {self.correction}" if self.correction else ""),
            f"{k} escapes, {int(self.censored.sum())} censored" + ("" if self.t_max is None else f" at {self.t_max:.6g}"),
            "no escape seen" if mean is None else f"mean {_with_error(mean.value, mean.error)} {self.unit}",
            f"{self.n_failed} trajectories failed" if self.n_failed else "",
            "interrupted: partial" if self.partial else "",
        ]
        return _lines(f"EscapeTimes of {self.n} trajectories", items)
