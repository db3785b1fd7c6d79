"""Results of ensembles of paths: trajectories and first-passage times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fpsolve.region import Region

from fpsolve._checks import numbers
from fpsolve._correlations import Autocorrelation, Occupation
from fpsolve._escape_statistics import EscapeStatistics, SurvivalCurve, statistics_of
from fpsolve._estimate import Estimate, _plain, _Record, _run_text
from fpsolve._fields import Density
from fpsolve._path_statistics import PathStatistics, path_statistics_of
from fpsolve._shown import Description, _lines, _with_error
from fpsolve._waiting import Waiting, WaitingSums, kaplan_meier, share_of, weibull_score

__all__ = ["EscapeTimes", "Trajectories"]

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
    first : int
        Number of the first trajectory in the ensemble of the seed.
    within : array (d, d), optional
        Of averages over time: the mean covariance in time of a path, a part of `covariance`.
    problem : str
        Digest of what was asked for, but for n, seed, first and individual starts: what `statistics` of results may be merged.

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
    first: int = 0
    within: Array | None = None
    problem: str = ""
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "final": ("trajectory component", "", "last state of every trajectory"),
        "times": ("time", "{unit}", "times of the records"),
        "states": ("time trajectory component", "", "recorded states"),
        "mean": ("component", "", "ensemble mean"),
        "covariance": ("component component", "", "ensemble covariance"),
        "within": ("component component", "", "mean covariance in time of a path"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {"n": ("", "", "trajectories")}
    ALONG: ClassVar[Mapping[str, str]] = {"time": "times"}
    ROWS: ClassVar[str] = "trajectory"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_trajectories"

    def __post_init__(self) -> None:
        for name in ("final", "times", "states", "mean", "covariance", "within"):
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

    def statistics(self) -> PathStatistics:
        """Moments and histogram alone, which can be merged with those of other parts of the ensemble.

        Raises
        ------
        ValueError
            If the run was interrupted, or for save="autocorrelation" or "occupation".

        Examples
        --------
        >>> Trajectories(np.zeros((3, 1)), [1.0], mean=[0.0], covariance=[[0.0]], seed=7).statistics().ranges.tolist()
        [[7, 0, 3]]
        """
        return path_statistics_of(self)

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


def _risk_table(times: Array, censored: npt.NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Times of escapes, escapes at each, and paths still watched just before each; a tie with a censoring counts as before it."""
    at, deaths = np.unique(times[~censored], return_counts=True)
    risk = times.size - np.searchsorted(np.sort(times), at, side="left")
    return at, deaths.astype(np.float64), risk.astype(np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class EscapeTimes(Waiting, _Record):
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
    first : int
        Number of the first trajectory in the ensemble of the seed.
    problem : str
        Digest of what was asked for, but for n, seed, first and individual starts: what `statistics` of results may be merged.

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
    first: int = 0
    problem: str = ""
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "times": ("trajectory", "{unit}", "first-passage time, or end of the watch"),
        "censored": ("trajectory", "", "no escape was seen"),
        "exit_points": ("trajectory component", "", "where the path left the region"),
        "sides": ("trajectory", "", "side the path left through, -1 for none"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {
        "mean": ("", "", "mean time of escape"),
        "rate": ("", "", "rate of escape"),
        "n": ("", "", "trajectories"),
        "n_events": ("", "", "escapes seen"),
    }
    ROWS: ClassVar[str] = "trajectory"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_escape_times"

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
            raise ValueError(
                f"EscapeTimes: negative time {np.nanmin(times)}; times must be >= 0, or NaN where the trajectory failed"
            )
        if self.unit not in ("time", "iteration"):
            raise ValueError(f"EscapeTimes: unit must be 'time' or 'iteration', got {self.unit!r}")
        sides = None if self.sides is None else np.asarray(self.sides, dtype=np.int64)
        names = tuple(str(v) for v in self.side_names)
        if sides is not None and (sides.shape != times.shape or np.any(sides < -1) or np.any(sides >= len(names))):
            raise ValueError(
                f"EscapeTimes: sides must have shape {times.shape} and be -1 ... {len(names) - 1}, one name per side; got shape "
                f"{sides.shape} and {sorted(set(sides.ravel().tolist()))[:8]}"
            )
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

    @property
    def watched_until(self) -> float:
        """The longest time for which a path was watched."""
        return float(np.nanmax(self.times))

    def _observed(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        good = np.isfinite(self.times)
        return self.times[good], self.censored[good]

    def _sums(self) -> WaitingSums:
        times, censored = self._observed()
        k = int(np.sum(~censored))
        whole = k == times.size > 0
        mean, deviation = (float(times.mean()), float(times.std(ddof=1)) if k > 1 else 0.0) if whole else (math.nan, math.nan)
        return WaitingSums(times.size, k, math.fsum(times), mean, deviation)

    def _log_sums(self) -> tuple[float, float, float]:
        """Sums of log t over the escapes, of t log t and of t (log t)^2 over all paths."""
        times, censored = self._observed()
        logs = np.log(np.maximum(times, 1e-300))
        return float(np.sum(logs[~censored])), float(np.sum(times * logs)), float(np.sum(times * logs**2))

    def _nothing(self) -> str:
        return "the run was interrupted before any path had moved; run it again" if self.partial else super()._nothing()

    def exit_probabilities(self, parts: "Mapping[str, Region] | None" = None) -> dict[str, Estimate]:
        """Probability of leaving through each side or part of the surface, with exact (Clopper-Pearson) 95 % intervals.

        They are of the escapes seen: with censoring, of leaving this way given that the path leaves in time.

        Parameters
        ----------
        parts : mapping of name to Region, optional
            Where an exit point counts for that name. They may overlap, and need not hold all of the surface. Default: the faces
            of a box; any other region has one side, its whole surface.

        Raises
        ------
        TypeError, ValueError
            If parts are no regions of this dimension, the sides are not recorded, or no escape was seen.

        References
        ----------
        C. J. Clopper, E. S. Pearson, Biometrika 26 (1934) 404.

        Examples
        --------
        >>> import fpsolve as fps
        >>> flat = fps.Process.from_drift(["0*x", "0*y"], fps.Noise.isotropic(0.5), variables="x y")
        >>> out = fps.escape_times(flat, [0.0, 0.0], fps.Region.ball([0.0, 0.0], 1.0), n=2000, dt=0.01, seed=1, threads=1)
        >>> right = out.exit_probabilities({"x > 0": fps.Region.halfspace([-1.0, 0.0], 0.0)})["x > 0"]  # exact: 1/2
        >>> bool(abs(right.value - 0.5) < 4 * right.stderr)
        True
        """
        from fpsolve.region import Region

        if parts is None:
            return super().exit_probabilities()
        points = self.exit_points[np.isfinite(self.exit_points).all(axis=1)]
        for name, part in parts.items():
            if not isinstance(part, Region):
                raise TypeError(f"parts[{name!r}] must be a Region, as Region.halfspace([-1, 0], 0): got {type(part).__name__}")
            if part.dim != self.exit_points.shape[1]:
                raise ValueError(f"parts[{name!r}] has dimension {part.dim}, the exit points have {self.exit_points.shape[1]}")
        if not len(points):
            raise ValueError("EscapeTimes.exit_probabilities: no escape was seen; raise t_max")
        return {name: share_of(int(np.sum(part.contains(points))), len(points)) for name, part in parts.items()}

    def _side_counts(self) -> list[int] | None:
        return None if self.sides is None else [int(np.sum(self.sides == i)) for i in range(len(self.side_names))]

    def _departure(self) -> float:
        """Without censoring sqrt(n) (cv - 1) with the coefficient of variation cv, else `weibull_score`."""
        sums = self._sums()
        if not sums.censored:
            return (sums.deviation / sums.mean - 1.0) * math.sqrt(sums.n)
        return weibull_score(sums.events, sums.total, self._log_sums())

    def statistics(self, bins: "int | npt.ArrayLike" = 10) -> EscapeStatistics:
        """What the estimates need, in a few numbers that can be merged with those of other parts of the ensemble.

        Parameters
        ----------
        bins : int or array
            Bins per decade of time from 1e-15 to 1e15, or increasing edges; parts that are to be merged must have the same.

        Raises
        ------
        ValueError
            If the run was interrupted: which trajectories it holds is then not a range.

        Examples
        --------
        >>> e = EscapeTimes([1.0, 2.0, 3.0], [False] * 3, np.zeros((3, 1)), seed=1)
        >>> e.statistics().mean() == e.mean()
        True
        """
        if self.partial:
            raise ValueError(
                "EscapeTimes.statistics: the run was interrupted, so that the trajectories here are no range of the ensemble; "
                "run it to its end (checkpoint= goes on where it stopped)"
            )
        return statistics_of(self, self._log_sums(), bins)

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
            raise ValueError("EscapeTimes.survival: no path was observed, all trajectories failed; shorten dt")
        at, deaths, risk = _risk_table(observed, censored)
        query = np.concatenate([[0.0], at]) if t is None else np.atleast_1d(numbers("t", t, "a time or an array of times"))
        if query.ndim != 1 or not np.all(np.isfinite(query)) or np.any(query < 0.0):
            raise ValueError(f"EscapeTimes.survival: t must be finite numbers >= 0, got {t!r}")
        curve, low, high = kaplan_meier(deaths, risk, observed.size)
        step = np.searchsorted(at, query, side="right")
        ordered = np.sort(observed)
        at_risk = observed.size - np.searchsorted(ordered, query, side="left")
        unknown = (query > ordered[-1]) & (curve[step] > 0.0)
        s, lower, upper = (np.where(unknown, np.nan, v[step]) for v in (curve, low, high))
        none = (step == 0) & ~unknown  # no escape yet: the bound of those still watched
        lower[none] = 0.025 ** (1.0 / np.maximum(at_risk[none], 1))
        return SurvivalCurve(query, s, lower, upper, at_risk, unit=self.unit, method="Kaplan-Meier, Greenwood (log-log)")

    def _columns(self) -> tuple[dict[str, Any], str]:
        """time, censored, exit_0, exit_1, ..., side."""
        columns, index = super()._columns()
        short = {"times": "time", "sides": "side"}
        return {short.get(n, n).replace("exit_points", "exit"): c for n, c in columns.items()}, index

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
