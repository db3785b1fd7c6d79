"""Moments and histograms of ensembles of paths that are merged from parts."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fpsolve._checks import numbers
from fpsolve._estimate import _Record, _run_text
from fpsolve._fields import Density
from fpsolve._parts import check_same, join_ranges, ranges_of
from fpsolve._shown import Description, _lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpsolve._ensembles import Trajectories

__all__ = ["PathStatistics", "path_statistics_of"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class PathStatistics(_Record):
    r"""Mean, covariance and histogram of an ensemble of paths, without the paths; made by `Trajectories.statistics`.

    Parts of an ensemble (``first=`` of `fpsolve.simulate`) are merged with the weights of their paths. With n_i paths, means m_i
    and covariances S_i (of n_i - 1 degrees of freedom), m the mean of all,

    .. math:: (n - 1) S = \sum_i (n_i - 1) S_i + \sum_i n_i (m_i - m) (m_i - m)^T

    (Chan, Golub and LeVeque). The part of a covariance that is within paths (averages over time) is an average with weights n_i.
    The counts of a histogram are added.

    Parameters
    ----------
    n, n_ok : int
        Trajectories, and those that did not fail, which the moments are of.
    times : array (nt,)
        Times of the moments.
    mean, covariance : array, optional
        (d,) and (d, d) or, per record, (nt, d) and (nt, d, d).
    within : array (d, d), optional
        Of averages over time: the mean covariance in time of a path, a part of `covariance`.
    histogram : Density, optional
    ranges : array (k, 3) of int
        Seed, first trajectory and number of trajectories of each range in here; parts that overlap are not merged.
    unit, dt, method, lr, batch, precision, problem
        As in `Trajectories`. The effect of rounding in single precision is measured by each part against its own statistical error;
        against that of k equal parts it is sqrt(k) times as large.

    Raises
    ------
    ValueError
        If there are more good trajectories than trajectories.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, Amer. Stat. 37 (1983) 242.

    Examples
    --------
    >>> a = PathStatistics(2, 2, [1.0], mean=[1.0], covariance=[[2.0]])          # of 0 and 2
    >>> both = a.merge(PathStatistics(1, 1, [1.0], mean=[4.0], covariance=[[0.0]]))
    >>> both.mean, both.covariance
    (array([2.]), array([[4.]]))
    """

    n: int
    n_ok: int
    times: Array
    mean: Array | None = None
    covariance: Array | None = None
    within: Array | None = None
    histogram: Density | None = None
    ranges: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    unit: str = "time"
    dt: float | None = None
    method: str = ""
    lr: float | None = None
    batch: float | None = None
    precision: str = "double"
    problem: str = ""
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "times": ("time", "{unit}", "times of the moments"),
        "mean": ("component", "", "ensemble mean"),
        "covariance": ("component component", "", "ensemble covariance"),
        "within": ("component component", "", "mean covariance in time of a path"),
        "ranges": ("range column", "", "seed, first trajectory and number of trajectories"),
    }
    ALONG: ClassVar[Mapping[str, str]] = {"time": "times"}
    ROWS: ClassVar[str] = "time"
    DRAWN: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        for name in ("times", "mean", "covariance", "within"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, numbers(name, getattr(self, name)))
        object.__setattr__(self, "ranges", np.asarray(self.ranges, np.int64).reshape(-1, 3))
        object.__setattr__(self, "batch", None if self.batch is None else float(self.batch))
        for name in ("n", "n_ok"):
            object.__setattr__(self, name, int(getattr(self, name)))
        if not 0 <= self.n_ok <= self.n:
            raise ValueError(f"PathStatistics: {self.n_ok} of {self.n} trajectories did not fail: n_ok must be in 0 ... n")

    def merge(self, other: "PathStatistics") -> "PathStatistics":
        """Both together; see `merged`."""
        return PathStatistics.merged([self, other])

    @classmethod
    def merged(cls, parts: "Iterable[PathStatistics]") -> "PathStatistics":
        """All parts together, in the order given: counts exactly, moments to rounding.

        Raises
        ------
        TypeError, ValueError
            For no parts, other records, parts of different problems, times, steps or cells, or trajectories that are in two of
            them.

        Examples
        --------
        >>> parts = [PathStatistics(1, 1, [1.0], mean=[x], covariance=[[0.0]]) for x in (1.0, 2.0, 6.0)]
        >>> PathStatistics.merged(parts).covariance
        array([[7.]])
        """
        some = list(parts)
        check_same("PathStatistics.merged", some, ("unit", "dt", "method", "lr", "batch", "precision", "times", "problem"))
        one = some[0]
        kept = [tuple(getattr(part, name) is not None for name in ("within", "histogram")) for part in some]
        if len(set(kept)) > 1:
            raise ValueError("PathStatistics.merged: the parts hold different statistics; run all with the same save=")
        if len(some) == 1:
            return one
        ranges = join_ranges("PathStatistics.merged", (part.ranges for part in some))
        good = [part for part in some if part.n_ok and part.mean is not None]
        count = sum(part.n_ok for part in good)
        moments = _moments(good, count) if good else {"mean": None, "covariance": None, "within": None}
        return dataclasses.replace(
            one,
            n=sum(part.n for part in some),
            n_ok=sum(part.n_ok for part in some),
            histogram=None if one.histogram is None else _histogram([p.histogram for p in some if p.histogram is not None]),
            ranges=ranges,
            **moments,
        )

    def _rows(self) -> str:
        return self.ROWS if self.mean is None or self.mean.ndim > 1 else "component"

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """The histogram, if there is one; else the mean against time or component, see `fpsolve.plotting.plot_result`."""
        return super().plot(ax, **kwargs) if self.histogram is None else self.histogram.plot(ax, **kwargs)

    def __repr__(self) -> str:
        kept = [name for name in ("mean", "covariance", "histogram") if getattr(self, name) is not None]
        seeds = [f"seed {seed}: {first} ... {first + n - 1}" for seed, first, n in self.ranges[:4].tolist()]
        more = len(self.ranges) - len(seeds)
        items = [
            _run_text(self.method, self.dt, None),
            "holds " + ", ".join(kept) if kept else "",
            f"NOT ok: {self.n - self.n_ok}" if self.n_ok < self.n else "",
            "; ".join(seeds) + (f"; {more} more ranges" if more else ""),
        ]
        return _lines(f"PathStatistics of {self.n} trajectories", items)


def _sum(arrays: Iterable[Array]) -> Array:
    """Sum of arrays with one rounding per number."""
    stack = np.stack(list(arrays))
    flat = stack.reshape(len(stack), -1).T.tolist()
    return np.array([math.fsum(row) for row in flat]).reshape(stack.shape[1:])


def _moments(parts: list[PathStatistics], count: int) -> dict[str, Array | None]:
    """Mean, covariance, and the part of it within paths."""
    means, n = [np.asarray(part.mean) for part in parts], [part.n_ok for part in parts]
    mean = _sum(k * m for k, m in zip(n, means, strict=True)) / count
    within = None
    if parts[0].within is not None:
        within = _sum(k * np.asarray(part.within) for k, part in zip(n, parts, strict=True)) / count
    inner = [np.asarray(p.covariance) - (0.0 if p.within is None else p.within) for p in parts]
    apart = [m - mean for m in means]
    terms = [(k - 1) * S for k, S in zip(n, inner, strict=True)]
    terms += [k * u[..., :, None] * u[..., None, :] for k, u in zip(n, apart, strict=True)]
    between = _sum(terms) / max(1, count - 1)
    return {"mean": mean, "covariance": between if within is None else between + within, "within": within}


def _histogram(parts: list[Density]) -> Density:
    """Densities of the counts of all parts."""
    one, counts = parts[0], np.zeros(parts[0].values.shape, np.int64)
    for part in parts:
        if part.grid != one.grid:
            raise ValueError("PathStatistics.merged: the histograms have different cells; run all parts with the same bins")
        counts += np.rint(part.values * (max(1, part.solver_info["samples"]) * part.grid.cell_volumes)).astype(np.int64)
    info = {name: sum(part.solver_info[name] for part in parts) for name in ("samples", "inside")}
    return dataclasses.replace(one, values=counts / (max(1, info["samples"]) * one.grid.cell_volumes), solver_info=info)


def path_statistics_of(paths: "Trajectories") -> PathStatistics:
    """The statistics that a run kept."""
    if paths.partial:
        raise ValueError(
            "Trajectories.statistics: the run was interrupted, so that the trajectories here are no range of the ensemble; run it "
            "to its end (checkpoint= goes on where it stopped)"
        )
    if paths.autocorrelation is not None or paths.occupation is not None:
        raise ValueError(
            "Trajectories.statistics: autocorrelations and occupations are not merged; run the parts with save='moments' or "
            "'histogram', or the whole ensemble in one call"
        )
    names = ("times", "mean", "covariance", "within", "histogram", "unit", "dt", "method", "lr", "batch", "precision", "problem")
    bad = paths.status.get("not_finite", 0)
    return PathStatistics(
        paths.n, paths.n - bad, ranges=ranges_of(paths.seed, paths.first, paths.n), **{name: getattr(paths, name) for name in names}
    )
