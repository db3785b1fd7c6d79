"""Pictures of results. Every function takes ``ax=None``, draws, and returns the Axes.

Without an Axes a new Figure is made that pyplot does not know: nothing pops up, nothing has to be closed, and
``ax.figure.savefig("name.png")`` writes it. rcParams stay as they are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fpsolve._pictures import axes, need, plot_current, plot_density, plot_field, state_names
from fpsolve.results import (
    Autocorrelation,
    Cycle,
    EffectiveLoss,
    EscapeReport,
    EscapeStatistics,
    EscapeTimes,
    Estimate,
    ExitTimeDistribution,
    Occupation,
    Path,
    PhaseDiagram,
    Result,
    SelectionReport,
    Spectrum,
    SurvivalCurve,
    Trajectories,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_autocorrelation",
    "plot_comparison",
    "plot_current",
    "plot_density",
    "plot_effective_loss",
    "plot_escape_report",
    "plot_escape_times",
    "plot_exit_times",
    "plot_field",
    "plot_occupation",
    "plot_path",
    "plot_phase_diagram",
    "plot_result",
    "plot_selection_report",
    "plot_spectrum",
    "plot_survival",
    "plot_trajectories",
]

#: Points of a line up to which each is marked, and lines up to which an array of two axes is drawn.
_POINTS, _LINES = 60, 12


def plot_spectrum(spectrum: Spectrum, *, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
    """Draw the eigenvalues in the complex plane, with bars of their errors where those are known and finite.

    Parameters
    ----------
    spectrum : Spectrum
    ax : Axes, optional
    **kwargs
        For `Axes.plot`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        For something else than a Spectrum.

    Examples
    --------
    >>> import fpsolve as fps
    >>> one = np.ones((1, 20))
    >>> plot_spectrum(fps.Spectrum([0.0], one, one, [0.0], fps.Grid((-1.0, 1.0, 20)))).get_xlabel()[:2]
    'Re'
    """
    need(spectrum, (Spectrum,), "plot_spectrum")
    ax = axes(ax)
    at, bars = spectrum.eigenvalues, np.where(np.isfinite(spectrum.eigenvalue_errors), spectrum.eigenvalue_errors, 0.0)
    ax.axhline(0.0, color="0.7", linewidth=0.6)
    ax.errorbar(at.real, at.imag, xerr=bars, yerr=np.where(at.imag == 0.0, 0.0, bars), fmt="none", ecolor="0.5", elinewidth=0.8)
    ax.plot(at.real, at.imag, **{"marker": "o", "linestyle": "", **kwargs})
    if len(spectrum) and not at.imag.any():  # else the scale would be one of nothing
        ax.set_ylim(*(0.5 * max(1e-300, float(np.abs(at.real).max())) * np.array([-1.0, 1.0])))
    ax.set(xlabel=rf"Re $\mu$ [{spectrum.unit}]", ylabel=rf"Im $\mu$ [{spectrum.unit}]")
    return ax


def plot_exit_times(law: ExitTimeDistribution, *, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
    """Draw the survival probability on a logarithmic axis, on a linear one where nearly all survive (0.8 and more).

    Parameters
    ----------
    law : ExitTimeDistribution
    ax : Axes, optional
    **kwargs
        For `Axes.plot`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        For something else than an ExitTimeDistribution.

    Examples
    --------
    >>> import fpsolve as fps
    >>> t = np.linspace(0.0, 1.0, 5)
    >>> plot_exit_times(fps.ExitTimeDistribution(t, np.exp(-t), np.exp(-t), 0 * t)).get_yscale()
    'log'
    """
    need(law, (ExitTimeDistribution,), "plot_exit_times")
    ax = axes(ax)
    shown = law.survival > 0.0
    ax.plot(law.times[shown], law.survival[shown], **kwargs)
    few = bool(shown.any()) and float(law.survival[shown].min()) >= 0.8  # less than a tenth of a decade has no ticks
    ax.set(yscale="linear" if few else "log", xlabel=f"$t$ [{law.unit}]", ylabel=r"$P(\tau > t)$")
    return ax


def plot_escape_times(
    escapes: EscapeTimes | EscapeStatistics, *, ax: "Axes | None" = None, fit: bool = True, **kwargs: Any
) -> "Axes":
    """Draw the survival probability (Kaplan-Meier) on a logarithmic axis, and exp(-rate t).

    Parameters
    ----------
    escapes : EscapeTimes or EscapeStatistics
    ax : Axes, optional
    fit : bool
        Draw the exponential with the maximum-likelihood rate.
    **kwargs
        For `Axes.step`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        For something else than these.

    Examples
    --------
    >>> import fpsolve as fps
    >>> escapes = fps.EscapeTimes([1.0, 2.0, 4.0], [False, False, True], np.zeros((3, 1)), t_max=4.0)
    >>> plot_escape_times(escapes).get_yscale()
    'log'
    """
    need(escapes, (EscapeTimes, EscapeStatistics), "plot_escape_times")
    ax = axes(ax)
    curve = escapes.survival()
    shown = curve.survival > 0.0
    last = escapes.watched_until
    times, survival = curve.times[shown], curve.survival[shown]
    if times[-1] < last and curve.survival[-1] > 0.0:  # the curve goes on to the end of the watch
        times, survival = np.append(times, last), np.append(survival, survival[-1])
    ax.step(times, survival, where="post", **{"label": f"{escapes.n_events} escapes", **kwargs})
    if fit and escapes.n_events:
        rate = escapes.rate()
        grid = np.linspace(0.0, last, 200)
        ax.plot(grid, np.exp(-rate.value * grid), "k--", linewidth=1.0, label=f"$e^{{-kt}}$, $k$ = {rate.value:.4g} {rate.unit}")
        ax.set_ylim(bottom=0.3 / max(escapes.n, 1))
    ax.set(yscale="log", xlabel=f"$t$ [{escapes.unit}]", ylabel=r"$P(\tau > t)$")
    ax.legend()
    return ax


def plot_survival(curve: SurvivalCurve, *, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
    """Draw a survival curve as steps on a logarithmic axis, with a band of its pointwise 95 % intervals.

    Parameters
    ----------
    curve : SurvivalCurve
    ax : Axes, optional
    **kwargs
        For `Axes.step`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        For something else than a SurvivalCurve.

    Examples
    --------
    >>> import fpsolve as fps
    >>> escapes = fps.EscapeTimes([1.0, 2.0, 4.0], [False, False, True], np.zeros((3, 1)), t_max=4.0)
    >>> plot_survival(escapes.survival()).get_yscale()
    'log'
    """
    need(curve, (SurvivalCurve,), "plot_survival")
    ax = axes(ax)
    shown = curve.survival > 0.0
    order = np.flatnonzero(shown)[np.argsort(curve.times[shown], kind="stable")]
    (line,) = ax.step(curve.times[order], curve.survival[order], where="post", **kwargs)
    ax.fill_between(curve.times[order], curve.low[order], curve.high[order], step="post", alpha=0.25, color=line.get_color())
    ax.set(yscale="log", xlabel=f"$t$ [{curve.unit}]", ylabel=r"$P(\tau > t)$")
    return ax


def plot_autocorrelation(result: Autocorrelation, *, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
    """Draw C(s)/C(0) of each component against the lag, with a band of one standard error of C(s).

    Parameters
    ----------
    result : Autocorrelation
    ax : Axes, optional
    **kwargs
        For `Axes.plot`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        For something else than an Autocorrelation.

    Examples
    --------
    >>> C = 0.5 ** np.arange(9.0)[:, None, None]
    >>> len(plot_autocorrelation(Autocorrelation(np.arange(9.0), C, 0 * C, C[None, :, :, 0], [0.0], [0])).lines)
    2
    """
    need(result, (Autocorrelation,), "plot_autocorrelation")
    ax = axes(ax)
    for i, axis in enumerate(result.axes.tolist()):
        scale = result.values[0, i, i]
        curve, error = result.values[:, i, i] / scale, result.stderr[:, i, i] / scale
        (line,) = ax.plot(result.times, curve, **{"label": f"$x_{axis}$", **kwargs})
        ax.fill_between(result.times, curve - error, curve + error, alpha=0.25, color=line.get_color())
    ax.axhline(0.0, color="0.6", lw=0.8)
    ax.set(xlabel=f"$s$ [{result.unit}]", ylabel=r"$C(s)/C(0)$")
    ax.legend()
    return ax


def plot_occupation(result: Occupation, *, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
    """Draw the fraction of time in each region as a bar with its standard error.

    Parameters
    ----------
    result : Occupation
    ax : Axes, optional
    **kwargs
        For `Axes.bar`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        For something else than an Occupation.

    Examples
    --------
    >>> seen = Occupation([[40, 60]] * 2, [[4, 4]] * 2, [[45, 55]] * 2, [[[0, 2], [1, 0]]] * 2, 0.5, 100, ("left", "right"))
    >>> len(plot_occupation(seen).patches)
    2
    """
    need(result, (Occupation,), "plot_occupation")
    ax = axes(ax)
    shares = [result.fraction(i) for i in range(len(result.names))]
    errors = [e.stderr if np.isfinite(e.stderr) else 0.0 for e in shares]
    places = np.arange(len(shares))
    ax.bar(places, [e.value for e in shares], yerr=errors, **{"capsize": 4, **kwargs})
    ax.set_xticks(places, list(result.names))
    ax.set(ylabel="fraction of time")
    return ax


def plot_path(
    path: Path | Cycle,
    *,
    potential: Any = None,
    ax: "Axes | None" = None,
    components: Sequence[int] = (0, 1),
    labels: Sequence[str] | None = None,
    **kwargs: Any,
) -> "Axes":
    """Draw a path of least action or a cycle in the plane of two components; in 1-D the action against x.

    Fixed points are dots where they attract and crosses elsewhere; the start is a square.

    Parameters
    ----------
    path : Path or Cycle
    potential : Potential, optional
        A landscape in 2-D, drawn as contours below the path.
    ax : Axes, optional
    components : (int, int)
        Of a state with two or more dimensions.
    labels : sequence of str, optional
        Names of the drawn components.
    **kwargs
        For `Axes.plot`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        For something else than a Path or Cycle, components that do not exist, or a potential of another dimension.

    Examples
    --------
    >>> import fpsolve as fps
    >>> corner = Path([[0.0, 0.0], [1.0, 1.0]], fps.Estimate(1.0), [0.0, 1.0], np.zeros((2, 2)), [[0.0, 0.0]], [0])
    >>> plot_path(corner, labels=["a", "b"]).get_xlabel()
    'a'
    """
    need(path, (Path, Cycle), "plot_path")
    d = path.dim
    if d > 1 and (len(components) != 2 or not set(components) <= set(range(d)) or components[0] == components[1]):
        raise ValueError(f"plot_path: components must be two different numbers below {d}, got {list(components)}")
    if potential is not None and (d != 2 or potential.dim != 2):
        raise ValueError(f"plot_path: contours need a path and a potential in 2-D, got {d} and {potential.dim} dimensions")
    ax = axes(ax)
    shown = [0] if d == 1 else list(components)
    names = state_names(labels, len(shown)) if labels is not None else [state_names(None, d)[c] for c in shown]
    if isinstance(path, Cycle):
        at = np.concatenate([path.points, path.points[:1]])[:, shown]
        fixed, indices = np.empty((0, 2)), np.empty(0, np.int64)
    else:
        at, fixed, indices = path.points[:, shown], path.fixed_points[:, shown], path.indices
    if d == 1:
        assert isinstance(path, Path)
        ax.plot(at[:, 0], path.cumulative, **kwargs)
        ax.set(xlabel=names[0], ylabel="action")
        return ax
    if potential is not None:
        _contours(ax, potential, at, shown)
    ax.plot(at[:, 0], at[:, 1], **{"linewidth": 1.6, "color": "C3", **kwargs})
    if isinstance(path, Path):
        ax.plot(*at[0], "s", color="k", markersize=4.0)
    for marker, stable in (("o", True), ("X", False)):
        ax.plot(*fixed[(indices == 0) == stable].T, marker, color="k", markersize=6.0)
    ax.set(xlabel=names[0], ylabel=names[1])
    return ax


def _contours(ax: "Axes", potential: Any, at: npt.NDArray[np.float64], shown: list[int]) -> None:
    """Contours of a landscape around a curve, up to somewhat above what it climbs; of a flat one, over a third of the box."""
    low, high = at.min(axis=0), at.max(axis=0)
    margin = 0.35 * max(float((high - low).max()), 1e-300)
    x, y = (np.linspace(a - margin, b + margin, 161) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), -1)[..., np.argsort(shown)]
    values, climbed = potential(grid), potential(at[:, np.argsort(shown)])
    bottom = min(float(values[np.isfinite(values)].min()), float(climbed.min()))
    top = float(climbed.max()) + 0.5 * (float(climbed.max()) - bottom)
    third = float(np.nanquantile(values, 1.0 / 3.0))
    top = third if top < bottom + 1e-3 * (third - bottom) else top
    ax.contour(x, y, values.T, levels=np.linspace(bottom, max(top, bottom + 1e-12), 21), cmap="viridis", linewidths=0.6)


def plot_trajectories(
    trajectories: Trajectories,
    *,
    ax: "Axes | None" = None,
    count: int = 20,
    components: Sequence[int] = (0, 1),
    labels: Sequence[str] | None = None,
    **kwargs: Any,
) -> "Axes":
    """Draw paths: against time in 1-D, in the plane of two components otherwise; final states where no path was recorded.

    Parameters
    ----------
    trajectories : Trajectories
    ax : Axes, optional
    count : int
        At most this many paths.
    components : (int, int)
        Of a state with two or more dimensions.
    labels : sequence of str, optional
        Names of the drawn components.
    **kwargs
        For `Axes.plot`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        For something else than Trajectories, or components that do not exist.

    Examples
    --------
    >>> import fpsolve as fps
    >>> plot_trajectories(fps.Trajectories(np.zeros((5, 2)), [1.0])).get_xlabel()
    '$x_{1}$'
    """
    need(trajectories, (Trajectories,), "plot_trajectories")
    dim, states = trajectories.dim, trajectories.states
    if dim > 1 and (len(components) != 2 or not all(0 <= c < dim for c in components)):
        raise ValueError(f"components must be two of 0 ... {dim - 1}, got {tuple(components)}")
    ax = axes(ax)
    if dim == 1:
        name = state_names(labels, 1)[0]
        if states is None:
            ax.hist(trajectories.final[np.isfinite(trajectories.final)], bins="auto", density=True, histtype="step", **kwargs)
            ax.set(xlabel=name, ylabel=f"$p({name.strip('$')})$")
        else:
            ax.plot(trajectories.times, states[:, :count, 0], **{"linewidth": 0.7, **kwargs})
            ax.set(xlabel=f"$t$ [{trajectories.unit}]", ylabel=name)
        return ax
    i, j = components
    names = state_names(labels, 2) if labels is not None else [f"$x_{{{c + 1}}}$" for c in components]
    if states is None:
        ax.plot(trajectories.final[:, i], trajectories.final[:, j], **{"marker": ".", "linestyle": "", "markersize": 2.0, **kwargs})
    else:
        ax.plot(states[:, :count, i], states[:, :count, j], **{"linewidth": 0.7, **kwargs})
    ax.set(xlabel=names[0], ylabel=names[1])
    return ax


def plot_comparison(
    measured: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    *,
    errors: npt.ArrayLike | None = None,
    ratio: bool = False,
    ax: "Axes | None" = None,
    quantity: str = r"variance $\langle w_k^2 \rangle$",
) -> "Axes":
    """Draw predicted against measured numbers, one per direction, with error bars on the measured ones.

    Parameters
    ----------
    measured : array (n,)
    predictions : dict of name to array (n,)
    errors : array (n,), optional
        Standard errors of the measured numbers.
    ratio : bool
        Draw predictions divided by the measured numbers; the bars are then the relative errors around 1.
    ax : Axes, optional
    quantity : str
        What is compared.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the lengths differ, or an error is negative.

    Examples
    --------
    >>> ax = plot_comparison([1.0, 0.5], {"theory": [1.1, 0.48]}, errors=[0.1, 0.05], ratio=True)
    >>> ax.get_ylabel()
    'predicted / measured'
    """
    y = np.asarray(measured, dtype=np.float64)
    e = np.zeros_like(y) if errors is None else np.asarray(errors, dtype=np.float64)
    lines = {name: np.asarray(p, dtype=np.float64) for name, p in predictions.items()}
    if y.ndim != 1 or e.shape != y.shape or any(p.shape != y.shape for p in lines.values()):
        raise ValueError(
            f"plot_comparison: measured, errors and predictions must all have one shape (n,), got {y.shape}, {e.shape}, "
            f"{[p.shape for p in lines.values()]}"
        )
    if np.any(e < 0.0):
        raise ValueError(f"plot_comparison: negative error {e.min()}; standard errors are >= 0")
    ax = axes(ax)
    k = np.arange(1, y.size + 1)
    scale = y if ratio else np.ones_like(y)
    ax.errorbar(k, y / scale, yerr=e / np.abs(scale), fmt="ko", markersize=4.0, capsize=2.0, label="measured")
    for marker, (name, p) in zip("sd^vx+*<>" * (1 + len(lines) // 9), lines.items(), strict=False):
        ax.plot(k, p / scale, marker=marker, markersize=4.0, linewidth=0.8, alpha=0.8, label=name)
    ax.set(xlabel="direction $k$", ylabel="predicted / measured" if ratio else quantity)
    if not ratio and np.all(y > 0.0):
        ax.set_yscale("log")
    ax.legend()
    return ax


def plot_escape_report(report: EscapeReport, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the answers of a report on one axis of log10(mean time); the range of the SGD formula is a bar, the reference a line.

    Hollow points have a failed assumption of their own.

    Parameters
    ----------
    report : EscapeReport
    ax : Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> from fpsolve.results import EscapeReport, Estimate
    >>> answers = {"equation": Estimate(1e6, unit="time"), "paths": Estimate(9e5, stderr=5e4, unit="time")}
    >>> ax = plot_escape_report(EscapeReport("Escape", ["answer"], [["equation"], ["paths"]], estimates=answers, reference="paths"))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['equation', 'paths']
    """
    ax = axes(ax)
    ten = np.log(10.0)
    times = {name: e for name, e in report.estimates.items() if e.unit}
    ends = [name for name in times if name.startswith("SGD formula") and ", over " not in name]
    rest = [name for name in times if not name.startswith("SGD formula")]
    rows = (["SGD formula, s in [0, 1]"] if ends else []) + rest
    for y, name in enumerate(rows):
        if ends and y == 0:
            low, high = sorted(report.log_time(n) / ten for n in ends)
            ax.barh(y, high - low, left=low, height=0.3, color="C3", alpha=0.6)
            continue
        log, e = report.log_time(name) / ten, times[name]
        if not np.isfinite(log):
            ax.annotate("never", (1.0, y), xycoords=("axes fraction", "data"), ha="right", va="center", color="C3")
            continue
        width = 1.96 * e.error / e.value / ten if 0.0 < e.value < np.inf else 0.0
        color, face = "k" if name == report.reference else "C0", {"markerfacecolor": "none"} if e.failed else {}
        ax.errorbar(log, y, xerr=width, fmt="o", color=color, markersize=5.0, capsize=3.0, **face)  # type: ignore[arg-type]
    if report.reference:
        ax.axvline(report.log_time(report.reference) / ten, color="0.6", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    unit = next((e.unit for e in times.values()), "time")
    ax.set(xlabel=f"log10 of the mean time ({unit})", title=report.title.split(":")[0])
    return ax


def plot_effective_loss(effective: EffectiveLoss, *, potential: Any = None, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
    """Draw the effective loss of a slow coordinate over the loss on the floor, with its least point.

    Parameters
    ----------
    effective : EffectiveLoss
    potential : Potential, optional
        A landscape in 2-D: its contours are drawn instead, with the curved floor in colours of the effective loss.
    ax : Axes, optional
    **kwargs
        For `Axes.plot`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        For something else than an EffectiveLoss, or a potential where the floor is no curve in the plane.

    Examples
    --------
    >>> import fpsolve as fps
    >>> valley = fps.Process(fps.potentials.degenerate_valley("1 + x**2"), fps.Noise.isotropic(0.01))
    >>> ax = plot_effective_loss(fps.theory.effective_loss(valley, (-1.0, 1.0)))
    >>> [line.get_label() for line in ax.lines]
    ['effective loss U', 'floor $L_0$', 'least point']
    """
    need(effective, (EffectiveLoss,), "plot_effective_loss")
    if potential is not None and (effective.points is None or effective.points.shape[1] != 2 or potential.dim != 2):
        raise ValueError("plot_effective_loss: contours need a potential in 2-D and an effective loss along a curved floor in it")
    ax = axes(ax)
    if potential is not None:
        return _floor(ax, effective, potential, kwargs)
    ax.plot(effective.x, effective.loss, **{"label": "effective loss U", **kwargs})
    ax.plot(effective.x, effective.floor - effective.floor.min(), "--", color="0.5", label="floor $L_0$")
    low = effective.minimum.value
    ax.plot(low, np.interp(low, effective.x, effective.loss), "ko", markersize=5.0, label="least point")
    name = "slow coordinate $x$" if effective.points is None else "length along the floor"
    ax.set(xlabel=name, ylabel="loss above its least value")
    ax.legend()
    return ax


def _floor(ax: "Axes", effective: EffectiveLoss, potential: Any, kwargs: dict[str, Any]) -> "Axes":
    """A curved floor over contours of its landscape."""
    assert effective.points is not None and effective.place is not None
    _contours(ax, potential, effective.points, [0, 1])
    x, y = effective.points.T
    line = ax.scatter(x, y, **{"c": effective.loss, "s": 6.0, "cmap": "plasma", **kwargs})
    ax.figure.colorbar(line, ax=ax, label="effective loss U")
    ax.plot(*effective.place, "ko", markersize=6.0, label="least point")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    ax.legend()
    return ax


def plot_phase_diagram(diagram: PhaseDiagram, *, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
    """Draw the share of replicas that left over learning rate and noise, the critical line, and the bounds of theory.

    Parameters
    ----------
    diagram : PhaseDiagram
    ax : Axes, optional
    **kwargs
        For `Axes.pcolormesh`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        For something else than a PhaseDiagram.

    Examples
    --------
    >>> import fpsolve as fps
    >>> diagram = fps.PhaseDiagram([1.0, 2.0, 3.0], [0.05, 0.1], [[0.0, 0.0], [0.2, 0.6], [1.0, 1.0]], np.ones((3, 2)), 10)
    >>> [line.get_label() for line in plot_phase_diagram(diagram).lines]
    ['half of them leave']
    """
    need(diagram, (PhaseDiagram,), "plot_phase_diagram")
    ax = axes(ax)
    options: dict[str, Any] = {"cmap": "Greys", "vmin": 0.0, "vmax": 1.0, "shading": "nearest"}
    mesh = ax.pcolormesh(diagram.lr, diagram.sigma, diagram.escaped, **{**options, **kwargs})
    figure = ax.figure
    figure.colorbar(mesh, ax=ax, label="share that leaves")
    ax.plot(diagram.lr, diagram.critical(), "o-", color="C3", label="half of them leave")
    rates = np.geomspace(diagram.lr[0], diagram.lr[-1], 100)
    for style, (name, e) in zip((":", "--"), diagram.bounds.items(), strict=False):
        if np.isfinite(e.value):
            ax.plot(rates, np.sqrt(e.value / rates), style, color="C0", label=f"{name}: lr $\\sigma^2$ = {e.value:.3g}")
    ax.set(xlabel="learning rate", ylabel=r"noise $\sigma$", ylim=(diagram.sigma[0], diagram.sigma[-1]))
    ax.legend()
    return ax


def plot_selection_report(report: SelectionReport, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the densities of the slow coordinate of all answers, and the effective loss on a second axis.

    Parameters
    ----------
    report : SelectionReport
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        For something else than a SelectionReport with an effective loss.

    Examples
    --------
    >>> import fpsolve as fps
    >>> valley = fps.Process(fps.potentials.degenerate_valley("1 + x**2"), fps.Noise.isotropic(0.01))
    >>> found = fps.theory.effective_loss(valley, (-1.0, 1.0))
    >>> report = SelectionReport("Valley", ["answer"], [], effective=found, densities={"theory": found.density()})
    >>> [line.get_label() for line in plot_selection_report(report).lines[:1]]
    ['theory']
    """
    need(report, (SelectionReport,), "plot_selection_report")
    if report.effective is None:
        raise TypeError("plot_selection_report needs a report with an effective loss")
    ax = axes(ax)
    for name, values in report.densities.items():
        dark = name == report.reference
        ax.plot(report.effective.x, values, color="k" if dark else None, linewidth=1.8 if dark else 1.2, label=name)
    ax.axvline(report.effective.minimum.value, color="0.6", linewidth=0.8, linestyle=":")
    ax.set(xlabel="slow coordinate $x$", ylabel="density", title=report.title.split(":")[0])
    other = ax.twinx()
    other.plot(report.effective.x, report.effective.loss, "--", color="0.6")
    other.set_ylabel("effective loss (dashed)")
    if report.densities:
        ax.legend()
    return ax


def plot_result(result: Result, *, ax: "Axes | None" = None, quantity: str = "", **kwargs: Any) -> "Axes":
    """Draw one quantity of any result: an array along its axis with its errors, or numbers with theirs.

    Parameters
    ----------
    result : Result
    ax : Axes, optional
    quantity : str, optional
        A name among the variables of ``result.to_xarray()`` with one axis, or two of which the second has up to 12 entries: a line
        for each. Default: what the class says, else the first along the rows of its table; where there is none, the numbers.
    **kwargs
        For `Axes.errorbar`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        For something that is no result, a quantity that is not there or has more axes, a result of which nothing can be drawn.

    Examples
    --------
    >>> import fpsolve as fps
    >>> plot_result(fps.Estimate(2.0, stderr=0.1, unit="time")).get_xlabel()
    'time'
    """
    need(result, (Result,), "plot_result")
    variables, coords, _ = result._labelled()
    rows = result._axes_of_rows()
    lines = {name: v for name, v in variables.items() if _drawable(v, rows)}
    if quantity and quantity not in lines:
        raise ValueError(f"plot_result: no line can be drawn of {quantity!r}; there are {', '.join(lines) or 'none'}")
    spread = set(result.ERRORS.values())
    along_rows = [name for name, v in lines.items() if name not in spread and (not rows or v[0][0] in rows)]
    name = quantity or (result.DRAWN if result.DRAWN in lines else next(iter(along_rows), ""))
    if not name or (isinstance(result, Estimate) and not quantity):
        return _plot_numbers(result, variables, axes(ax), kwargs)
    dims, values, about = lines[name]
    along = np.asarray(coords[dims[0]][1]) if dims[0] in coords else np.arange(len(values))
    place = np.arange(len(along)) if along.dtype.kind == "U" else along
    table = np.asarray(values).reshape(len(place), -1)
    errors = variables[result.ERRORS[name]][1] if result.ERRORS.get(name) in variables else np.zeros(table.shape)
    bars = np.nan_to_num(np.asarray(errors, float).reshape(table.shape), posinf=0.0)
    ax = axes(ax)
    for k in range(table.shape[1]):
        style = {"marker": "." if len(place) <= _POINTS else "", "label": f"{dims[-1]} {k}" if len(dims) > 1 else None, **kwargs}
        ax.errorbar(place, table[:, k], bars[:, k] if bars.any() else None, **style)
    if along.dtype.kind == "U":
        ax.set_xticks(place, list(along))
    unit = about.get("units", "")
    ax.set(xlabel=dims[0], ylabel=f"{name} [{unit}]" if unit not in ("", "1") else name)
    if len(dims) > 1:
        ax.legend()
    return ax


def _drawable(variable: Any, rows: Sequence[str]) -> bool:
    """Whether an array of real numbers is a line, or some."""
    dims, values, *_ = variable
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or not array.size:
        return False
    return len(dims) == 1 or (len(dims) == 2 and dims[0] in rows and array.shape[1] <= _LINES)


def _plot_numbers(result: Result, variables: Mapping[str, Any], ax: "Axes", kwargs: Mapping[str, Any]) -> "Axes":
    """The numbers of a result that have the unit of the first, each with its error."""
    if isinstance(result, Estimate):
        found = [(result.method or "value", result.value, result.error, result.unit)]
    else:
        single = {n: v for n, v in variables.items() if not v[0] and not n.endswith("_error") and np.isrealobj(v[1])}
        errors = {n: float(variables[f"{n}_error"][1]) if f"{n}_error" in variables else 0.0 for n in single}
        found = [(n, float(v[1]), errors[n], v[2].get("units", "")) for n, v in single.items()]
    found = [one for one in found if one[3] == found[0][3] and math.isfinite(one[1])]
    if not found:
        kind = type(result).__name__
        raise ValueError(f"plot_result: nothing in this {kind} is finite and lies along one axis; choose from its to_xarray()")
    place = np.arange(len(found))
    spread = [e if math.isfinite(e) else 0.0 for _, _, e, _ in found]
    ax.errorbar([v for _, v, _, _ in found], place, xerr=spread, **{"fmt": "o", "capsize": 3, **kwargs})
    ax.set_yticks(place, [name for name, *_ in found])
    ax.set(xlabel=found[0][3] or "value", ylim=(len(found) - 0.5, -0.5))
    return ax
