"""Results of paths watched in time: autocorrelation functions, and where the paths were and how they moved between regions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    pass


from fpsolve._estimate import Assumption, Estimate, _Record
from fpsolve._shown import Description, _lines, _with_error

from ._checks import is_finite

__all__ = ["Autocorrelation", "Occupation"]

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def _student(value: float, stderr: float, count: int, further: float = 0.0) -> tuple[float, float] | None:
    """95 % interval of a mean over `count` independent parts; `further` is the error that more of them would not lessen."""
    from scipy.special import stdtrit

    if count < 2:
        return None
    half = math.hypot(float(stdtrit(count - 1, 0.975)) * stderr, 1.96 * further)
    return value - half, value + half


@dataclass(frozen=True, eq=False, repr=False)
class Autocorrelation(_Record):
    r"""Autocovariance function of the state, C(s) = <x(t + s) x(t)^T> - <x> <x>^T, averaged over time and trajectories.

    For s < 0 it is C(-s)^T. Without detailed balance C(s) is not symmetric.

    Parameters
    ----------
    times : array (nt,)
        The lags s; the first is 0.
    values : array (nt, d, d)
        C(s), corrected for the mean being estimated.
    stderr : array (nt, d, d)
        Standard errors from groups of independent trajectories (jackknife); NaN for a single group.
    left_out : array (g, nt, d)
        The diagonal of C(s) without the trajectories of one group, for each group: errors of what is made of C come from it.
    mean : array (d,)
    axes : array (d,) of int
        The components of the state that were watched.
    unit : {"time", "iteration"}
    lr, batch : float, optional
        Learning rate and batch size of the noise.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or the lags do not increase from 0.

    Examples
    --------
    >>> C = 0.5 ** np.arange(60.0)[:, None, None]
    >>> round(Autocorrelation(np.arange(60.0), C, 0 * C, np.stack([C[:, 0]] * 2), [0.0], [0]).integrated_time(window=30.0).value, 6)
    1.5
    """

    times: Array
    values: Array
    stderr: Array
    left_out: Array
    mean: Array
    axes: Counts
    unit: str = "time"
    lr: float | None = None
    batch: float | None = None
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "times": ("lag", "{unit}", "lags"),
        "values": ("lag component component", "", "autocovariance C(s) = <x(t + s) x(t)^T> - <x> <x>^T"),
        "stderr": ("lag component component", "", "standard errors"),
        "left_out": ("group lag component", "", "diagonal of C(s) without one group of trajectories"),
        "mean": ("component", "", "mean state"),
        "axes": ("component", "", "components of the state that were watched"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {
        "integrated_time": ("", "", "integrated correlation time of the first component"),
    }
    ALONG: ClassVar[Mapping[str, str]] = {"lag": "times", "component": "axes"}
    ROWS: ClassVar[str] = "lag"
    ERRORS: ClassVar[Mapping[str, str]] = {"values": "stderr"}
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_autocorrelation"

    def __post_init__(self) -> None:
        for name in ("times", "values", "stderr", "left_out", "mean"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "axes", np.asarray(self.axes, dtype=np.int64))
        object.__setattr__(self, "batch", None if self.batch is None else float(self.batch))
        d, nt = self.axes.size, self.times.size
        if self.values.shape != (nt, d, d) or self.stderr.shape != (nt, d, d) or self.left_out.shape[1:] != (nt, d):
            raise ValueError(
                f"Autocorrelation: values and stderr must have shape {(nt, d, d)} and left_out {('g', nt, d)}, got "
                f"{self.values.shape}, {self.stderr.shape}, {self.left_out.shape}"
            )
        if nt == 0 or self.times[0] != 0.0 or np.any(np.diff(self.times) <= 0.0):
            raise ValueError(f"Autocorrelation: the lags must increase from 0, got {self.times[:5].tolist()}")

    def integrated_time(self, component: int = 0, window: float = 6.0) -> Estimate:
        r"""Integrated correlation time of one component, tau = int_0^infinity C(s)/C(0) ds.

        The trapezoidal sum over the lags; for all multiples of a step it is (1/2 + sum_k rho_k) step, (1 + r)/(1 - r)/2 steps for
        rho_k = r^k. The mean over a time T has the variance 2 tau C(0)/T. The sum ends at the smallest lag W with
        W >= `window` tau(W), found on the whole data; an exponential decay loses exp(-`window`) of tau by it, which is given as the
        discretization error. Errors are those of a jackknife over groups of trajectories, and the interval is Student's for their
        number, which matters for few trajectories.

        Parameters
        ----------
        component : int
            Place in `axes`.
        window : float, > 0

        Raises
        ------
        ValueError
            For a component that is not there, or a window that is not a positive number.

        References
        ----------
        A. D. Sokal, in Functional Integration (1997) 131, sec. 3.
        """
        if isinstance(component, bool) or not isinstance(component, (int, np.integer)) or not 0 <= component < self.axes.size:
            raise ValueError(f"integrated_time: component must be an integer in 0..{self.axes.size - 1}, got {component!r}")
        if not (is_finite(window) and window > 0.0):
            raise ValueError(f"integrated_time: window must be a finite number > 0, got {window}")
        curve = self.values[:, component, component]
        running = self._integrals(curve)
        enough = np.flatnonzero(self.times >= window * running)
        enough = enough[enough > 0]
        end = int(enough[0]) if enough.size else self.times.size - 1
        others = self._integrals(self.left_out[:, :, component])[:, end]
        g = len(others)
        stderr = math.sqrt((g - 1) / g * float(np.sum((others - others.mean()) ** 2))) if g > 1 else math.nan
        value = float(running[end])
        detail = f"W = {self.times[end]:.4g} = {self.times[end] / value:.3g} tau" if value else "tau = 0"
        found = Assumption(f"the lags reach {window:g} tau", "held" if enough.size else "failed", detail)
        return Estimate(
            value,
            stderr=math.inf if math.isnan(stderr) else stderr,
            discretization_error=abs(value) * math.exp(-window),
            interval=_student(value, stderr, g, abs(value) * math.exp(-window)),
            unit=self.unit,
            assumptions=(found,),
            lr=self.lr,
            method="integrated autocorrelation",
            batch=self.batch,
        )

    def _integrals(self, curves: Array) -> Array:
        """Running trapezoidal sums of C(s)/C(0) along the last axis."""
        rho = curves / curves[..., :1]
        steps = 0.5 * (rho[..., 1:] + rho[..., :-1]) * np.diff(self.times)
        return np.concatenate([np.zeros_like(rho[..., :1]), np.cumsum(steps, axis=-1)], axis=-1)

    def __repr__(self) -> str:
        taus = [(int(a), self.integrated_time(i)) for i, a in enumerate(self.axes[:8])]
        items = [f"x{a}: integrated time {_with_error(tau.value, tau.error)} {self.unit}" for a, tau in taus]
        return _lines(f"Autocorrelation of {self.axes.size} components at {self.times.size} lags up to {self.times[-1]:.6g}", items)


@dataclass(frozen=True, eq=False, repr=False)
class Occupation(_Record):
    r"""Where paths were, and how they moved between regions, from samples at constant intervals.

    A path is *in* region a at a sample if it is the first of the regions that holds the point. It *comes from* a if a is the region
    that it was in last (core-set milestoning). A switch from a to b is counted when a path that comes from a is seen in b.

    Parameters
    ----------
    inside : array (n, m) of int
        Samples of each trajectory in each of m regions.
    exits : array (n, m) of int
        How often it was in the region at one sample and not at the next.
    after : array (n, m) of int
        Intervals at whose beginning it came from the region.
    switches : array (n, m, m) of int
        Switches from the first to the second region.
    interval : float
        Time between samples.
    samples : int
        Samples of each trajectory.
    names : tuple of str
        Of the regions.
    unit : {"time", "iteration"}
    lr, batch : float, optional
        Learning rate and batch size of the noise.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.

    Examples
    --------
    >>> seen = Occupation([[40, 60]] * 2, [[4, 4]] * 2, [[45, 55]] * 2, [[[0, 2], [1, 0]]] * 2, 0.5, 100, ("left", "right"))
    >>> seen.fraction(0).value, seen.dwell_time(0).value, seen.switching_time(0, 1).value
    (0.4, 5.0, 11.25)
    """

    inside: Counts
    exits: Counts
    after: Counts
    switches: Counts
    interval: float
    samples: int
    names: tuple[str, ...]
    unit: str = "time"
    lr: float | None = None
    batch: float | None = None
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "inside": ("trajectory region", "", "samples in the region"),
        "exits": ("trajectory region", "", "times the region was left between two samples"),
        "after": ("trajectory region", "", "intervals at whose beginning the path came from the region"),
        "switches": ("trajectory region region", "", "switches from the first to the second region"),
        "interval": ("", "{unit}", "time between samples"),
    }
    ALONG: ClassVar[Mapping[str, str]] = {"region": "names"}
    ROWS: ClassVar[str] = "trajectory"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_occupation"

    def __post_init__(self) -> None:
        for name in ("inside", "exits", "after", "switches"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        object.__setattr__(self, "names", tuple(str(v) for v in self.names))
        object.__setattr__(self, "interval", float(self.interval))
        object.__setattr__(self, "samples", int(self.samples))
        object.__setattr__(self, "batch", None if self.batch is None else float(self.batch))
        shape = (len(self.inside), len(self.names))
        shapes = [getattr(self, name).shape for name in ("inside", "exits", "after", "switches")]
        if shapes != [shape, shape, shape, (*shape, shape[1])]:
            raise ValueError(
                f"Occupation: inside, exits, after must have shape {shape} and switches {(*shape, shape[1])}, got {shapes}"
            )

    @property
    def n(self) -> int:
        """Number of trajectories."""
        return int(self.inside.shape[0])

    @property
    def counts(self) -> Counts:
        """Switches from region i to region j, of all trajectories; shape (m, m)."""
        return np.asarray(self.switches.sum(axis=0))

    def _region(self, *numbers: int) -> None:
        for i in numbers:
            if isinstance(i, bool) or not isinstance(i, (int, np.integer)) or not 0 <= i < len(self.names):
                raise ValueError(f"Occupation: region must be an integer in 0..{len(self.names) - 1}, got {i!r}")

    def _estimate(self, value: float, stderr: float, unit: str, method: str, **more: Any) -> Estimate:
        return Estimate(value, stderr=stderr, unit=unit, method=method, lr=self.lr, batch=self.batch, **more)

    def fraction(self, region: int) -> Estimate:
        """Fraction of the time spent in the region; the error is that of independent trajectories (inf for a single one)."""
        self._region(region)
        each = self.inside[:, region] / self.samples
        stderr = float(each.std(ddof=1)) / math.sqrt(self.n) if self.n > 1 else math.inf
        value = float(each.mean())
        return self._estimate(value, stderr, "", "time fraction", interval=_student(value, stderr, self.n))

    def dwell_time(self, region: int) -> Estimate:
        """Mean time from entering the region to leaving it: time inside over number of exits, stays cut off at the end included.

        Exits between samples that are undone at the next sample are not seen. For a diffusion, whose paths cross a surface
        infinitely often, the number shrinks with the square root of the interval: it belongs to the interval. The error is that of
        a ratio of sums over independent trajectories.

        Raises
        ------
        ValueError
            For no such region, or if no exit was seen.
        """
        self._region(region)
        stayed, left = self.inside[:, region].astype(float), self.exits[:, region].astype(float)
        total = left.sum()
        if total == 0.0:
            raise ValueError(f"dwell_time: no exit from region {region} was seen; run longer")
        ratio = float(stayed.sum() / total)
        stderr = self._ratio_error(stayed, left, ratio)
        value, error = ratio * self.interval, stderr * self.interval
        return self._estimate(value, error, self.unit, "time inside / exits", interval=_student(value, error, self.n))

    def _ratio_error(self, top: Array, bottom: Array, ratio: float) -> float:
        if self.n < 2:
            return math.inf
        return math.sqrt(self.n / (self.n - 1) * float(np.sum((top - ratio * bottom) ** 2))) / float(bottom.sum())

    def _exposure(self, a: int, b: int | None, name: str) -> tuple[Counts, Array]:
        """Switches and time at risk of each trajectory."""
        self._region(a, *(() if b is None else (b,)))
        if a == b:
            raise ValueError(f"{name}: a switch joins two different regions, got {a} and {b}")
        events = self.switches[:, a].sum(axis=1) if b is None else self.switches[:, a, b]
        time = self.after[:, a] * self.interval
        if not time.sum() > 0.0:
            raise ValueError(
                f"{name}: no path was seen in region {a}, so nothing is known of leaving it; start paths in it, or run longer"
            )
        return np.asarray(events, np.int64), np.asarray(time, np.float64)

    def switching_rate(self, a: int, b: int | None = None) -> Estimate:
        """Rate of switches from region `a` to `b` (None: to any other): switches over the time in which paths came from `a`.

        The maximum-likelihood rate for exponential waiting times, whatever the end of the watch cuts off. With k switches in
        total time T the 95 % interval is [chi2(0.025; 2k), chi2(0.975; 2k + 2)] / 2T. The assumption that this rests on is tested
        from 20 trajectories on: the counts k_i of trajectories with times T_i have (k_i - rate T_i)^2 equal to k_i on average.
        With one other region 1/rate is the mean time from the entrance of a path coming from there to the next switch, for any
        law of the waiting times.

        Raises
        ------
        ValueError
            For no such region, or if no path was ever in `a`.
        """
        from scipy.special import gammaincinv

        events, time = self._exposure(a, b, "switching_rate")
        k, total = int(events.sum()), math.fsum(time)
        low = float(gammaincinv(k, 0.025)) / total if k else 0.0
        value = k / total
        return self._estimate(
            value,
            value / math.sqrt(k) if k else math.inf,
            f"1/{self.unit}",
            "switches / total time",
            interval=(low, float(gammaincinv(k + 1, 0.975)) / total),
            assumptions=(self._poisson(events, time, value),),
        )

    def _poisson(self, events: Counts, time: Array, rate: float) -> Assumption:
        name = "exponential switching times"
        if self.n < 20 or events.sum() < 20:
            return Assumption(name, "unknown", f"needs >= 20 trajectories and switches: {self.n}, {int(events.sum())}")
        excess = (events - rate * time) ** 2 - events
        spread = float(excess.std(ddof=1))
        z = float(excess.mean()) * math.sqrt(self.n) / spread if spread > 0.0 else 0.0
        return Assumption(name, "held" if abs(z) < 4.0 else "failed", f"spread of counts over trajectories: z = {z:+.1f}")

    def switching_time(self, a: int, b: int | None = None) -> Estimate:
        """Mean time to a switch, 1 / `switching_rate`, with the interval inverted; errors as there, and if no switch was seen."""
        rate = self.switching_rate(a, b)
        if not rate.value > 0.0 or rate.interval is None:
            raise ValueError(
                f"switching_time: no switch from region {a} was seen; a lower bound is 1 / switching_rate().interval[1] = "
                f"{1.0 / rate.interval[1] if rate.interval else math.nan:.6g}"
            )
        low, high = rate.interval
        value = 1.0 / rate.value
        return self._estimate(
            value,
            value * rate.stderr / rate.value,
            self.unit,
            "total time / switches",
            interval=(1.0 / high, 1.0 / low),
            assumptions=rate.assumptions,
        )

    def __repr__(self) -> str:
        items = []
        for i, name in enumerate(self.names):
            share = self.fraction(i)
            to = ", ".join(f"{int(c)} to {j}" for j, c in enumerate(self.counts[i]) if j != i)
            items.append(f"{i} {name}: {_with_error(share.value, share.error)} of the time, switches {to or 'none'}")
        return _lines(f"Occupation of {len(self.names)} regions by {self.n} trajectories, {self.samples} samples each", items)
