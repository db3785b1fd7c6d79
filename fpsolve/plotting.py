"""Pictures of results. Every function takes ``ax=None``, draws, and returns the Axes.

Without an Axes a new Figure is made that pyplot does not know: nothing pops up, nothing has to be closed, and
``ax.figure.savefig("name.png")`` writes it. rcParams stay as they are.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fpsolve.results import (
    Current,
    Density,
    DensitySeries,
    EscapeTimes,
    ExitTimeDistribution,
    Field,
    Spectrum,
    SurvivalCurve,
    Trajectories,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpsolve.grid import Grid

__all__ = [
    "plot_comparison",
    "plot_current",
    "plot_density",
    "plot_escape_times",
    "plot_exit_times",
    "plot_field",
    "plot_spectrum",
    "plot_survival",
    "plot_trajectories",
]

Array = npt.NDArray[np.float64]

#: Ticks and margins of a logarithmic axis overflow beyond.
_LARGEST_LOG = 1e220
#: Part of the largest current below which streamlines would follow rounding errors.
_VISIBLE = 1e-3


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(5.2, 4.0), layout="compressed").add_subplot()


def _need(obj: object, types: tuple[type, ...], name: str) -> None:
    if not isinstance(obj, types):
        raise TypeError(f"{name} draws a {' or '.join(t.__name__ for t in types)}, got {type(obj).__name__}")


def _names(labels: Sequence[str] | None, dim: int) -> list[str]:
    if labels is None:
        return ["$x$"] if dim == 1 else [f"$x_{{{i + 1}}}$" for i in range(dim)]
    if len(labels) != dim:
        raise ValueError(f"labels must have one name for each of {dim} dimensions, got {list(labels)}")
    return list(labels)


def _drawable(grid: "Grid", what: str) -> None:
    if grid.dim > 2:
        raise ValueError(f"{what}: a grid of dimension {grid.dim} cannot be drawn; take a marginal or a slice of 1 or 2 dimensions")


def _map(ax: "Axes", grid: "Grid", values: "Array | np.ma.MaskedArray", label: str, kwargs: Mapping[str, Any]) -> None:
    style = {"cmap": "viridis", "rasterized": True, **kwargs}
    image = ax.pcolormesh(grid.edges[0], grid.edges[1], np.ma.masked_invalid(values.T), **style)
    ax.figure.colorbar(image, ax=ax, label=label)


def _mass_levels(density: Density, fractions: Sequence[float]) -> Array:
    """Density values whose superlevel sets hold the given fractions of the mass (highest-density regions)."""
    values, mass = density.values.ravel(), np.maximum(density.cell_mass.ravel(), 0.0)
    order = np.argsort(values)[::-1]
    cumulative = np.cumsum(mass[order]) / mass.sum()
    index = np.minimum(np.searchsorted(cumulative, np.sort(fractions)[::-1]), values.size - 1)
    return np.unique(values[order][index])


def plot_density(
    density: Density | DensitySeries,
    *,
    ax: "Axes | None" = None,
    contours: Sequence[float] = (0.5, 0.9, 0.99),
    labels: Sequence[str] | None = None,
    **kwargs: Any,
) -> "Axes":
    """Draw a density: a line in 1-D, a colour map with contours in 2-D.

    Parameters
    ----------
    density : Density or DensitySeries
        Of a series, 1-D draws every time and 2-D the last.
    ax : Axes, optional
    contours : sequence of float
        2-D: each contour encloses this fraction of the probability.
    labels : sequence of str, optional
        Names of the axes.
    **kwargs
        For `Axes.plot` (1-D) or `Axes.pcolormesh` (2-D).

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        For something that is not a density, has more than two dimensions, or whose labels do not fit.

    Examples
    --------
    >>> import fpsolve as fps
    >>> grid = fps.Grid((-1.0, 1.0, 20))
    >>> plot_density(fps.Density(np.full(20, 0.5), grid)).get_xlabel()
    '$x$'
    """
    _need(density, (Density, DensitySeries), "plot_density")
    grid = density.grid
    _drawable(grid, "plot_density")
    names = _names(labels, grid.dim)
    ax = _axes(ax)
    if grid.dim == 1:
        many = list(density) if isinstance(density, DensitySeries) else [density]
        for one in many:
            text = {} if one.time is None else {"label": f"$t$ = {one.time:.4g}"}
            ax.plot(grid.centers[0], one.values, **{**text, **kwargs})
        if len(many) > 1:
            ax.legend()
        ax.set(xlabel=names[0], ylabel=f"$p({names[0].strip('$')})$", xlim=grid.edges[0][[0, -1]])
        return ax
    one = density[-1] if isinstance(density, DensitySeries) else density
    _map(ax, grid, one.values, r"$p$", kwargs)
    levels = _mass_levels(one, contours) if len(contours) else np.array([])
    if levels.size and levels[-1] > one.values.min():
        ax.contour(*grid.centers, one.values.T, levels=levels, colors="white", linewidths=0.8)
    _plane(ax, grid, names)
    if one.time is not None:
        ax.set_title(f"$t$ = {one.time:.4g}")
    return ax


def plot_field(
    field: Field,
    *,
    ax: "Axes | None" = None,
    log: bool | None = None,
    contours: int = 8,
    labels: Sequence[str] | None = None,
    **kwargs: Any,
) -> "Axes":
    """Draw a field: a line in 1-D, a colour map with contours in 2-D.

    Cells outside the mask and infinite values stay blank, on a logarithmic scale also zeros and values above 1e220. Where the
    values set by definition differ, as the 0 and 1 of a committor on its two regions, those regions are drawn in flat greys with a
    legend.

    Parameters
    ----------
    field : Field
    ax : Axes, optional
    log : bool, optional
        Logarithmic values. Default: for times of which a twentieth of the cells is below a thousandth of the largest, as over a
        barrier.
    contours : int
        2-D: about so many contour lines at round values; 0 for none.
    labels : sequence of str, optional
    **kwargs
        For `Axes.plot` (1-D) or `Axes.pcolormesh` (2-D).

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        As `plot_density`.

    Examples
    --------
    >>> import fpsolve as fps
    >>> grid = fps.Grid((-1.0, 1.0, 20))
    >>> plot_field(fps.Field(grid.centers[0], grid, name="committor")).get_ylabel()
    'committor'
    """
    _need(field, (Field,), "plot_field")
    grid = field.grid
    _drawable(grid, "plot_field")
    names = _names(labels, grid.dim)
    ax = _axes(ax)
    label = (field.name or "value") + (f" [{_unit(field.unit)}]" if field.unit else "")
    log = _spans_decades(field) if log is None else log
    hidden = ~field.mask | ~np.isfinite(field.values)
    if log:
        hidden |= (field.values <= 0.0) | (field.values > _LARGEST_LOG)
    values = np.ma.masked_where(hidden, field.values)
    if grid.dim == 1:
        ax.plot(grid.centers[0], values.filled(np.nan), **kwargs)
        ax.set(xlabel=names[0], ylabel=label, xlim=grid.edges[0][[0, -1]], yscale="log" if log and values.count() else "linear")
        _given(ax, field)
        return ax
    if log and values.count():
        from matplotlib.colors import LogNorm

        kwargs = {"norm": LogNorm(), **kwargs}
    _map(ax, grid, values, label, kwargs)
    if contours and values.count() and values.min() < values.max():
        from matplotlib.ticker import LogLocator, MaxNLocator

        locator = LogLocator(numticks=contours + 1) if log else MaxNLocator(contours)
        ax.contour(*grid.centers, values.T, locator=locator, colors="white", linewidths=0.8)
    _given(ax, field)
    _plane(ax, grid, names)
    return ax


def _unit(unit: str) -> str:
    """time^12 with a raised exponent."""
    base, hat, power = unit.partition("^")
    return f"{base}$^{{{power}}}$" if hat else unit


def _spans_decades(field: Field) -> bool:
    """Whether a field of times covers so many decades that a linear scale would show its largest values only."""
    values = field.values[field.mask & np.isfinite(field.values)]
    values = values[values > 0.0]
    return bool(field.unit and values.size and np.quantile(values, 0.05) < 1e-3 * values.max())


def _given(ax: "Axes", field: Field) -> None:
    """Flat greys where values are set by definition, if they differ; where all are alike nothing is drawn."""
    given = np.unique(field.values[~field.mask])
    if not 1 < given.size <= 4:
        return
    from matplotlib.patches import Patch

    edges, greys, patches = field.grid.edges, np.linspace(0.85, 0.45, given.size), []
    for value, grey in zip(given, greys, strict=True):
        here = ~field.mask & (field.values == value)
        if field.grid.dim == 1:
            steps = np.flatnonzero(np.diff(np.concatenate([[0], here.astype(int), [0]])))
            for first, last in zip(steps[::2], steps[1::2], strict=True):
                ax.axvspan(edges[0][first], edges[0][last], color=str(grey), linewidth=0.0, zorder=0)
        else:
            flat = np.ma.masked_where(~here, np.ones(field.grid.shape)).T
            ax.pcolormesh(edges[0], edges[1], flat, cmap=_flat(grey), vmin=0.0, vmax=1.0, rasterized=True)
        patches.append(Patch(color=str(grey), label=f"{field.name or 'value'} = {value:g}"))
    ax.legend(handles=patches, fontsize="small")


def _flat(grey: float) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([str(grey)])


def _plane(ax: "Axes", grid: "Grid", names: Sequence[str]) -> None:
    """Names and the whole box; lengths to scale unless one side is more than three times the other."""
    spans = [float(e[-1] - e[0]) for e in grid.edges]
    ax.set(xlabel=names[0], ylabel=names[1], xlim=grid.edges[0][[0, -1]], ylim=grid.edges[1][[0, -1]])
    if max(spans) <= 3.0 * min(spans):
        ax.set_aspect("equal")


def plot_current(
    current: Current, *, ax: "Axes | None" = None, density: float = 1.0, labels: Sequence[str] | None = None, **kwargs: Any
) -> "Axes":
    """Draw a current: a line in 1-D, streamlines over a colour map of the magnitude in 2-D.

    Streamlines end where the current is below a thousandth of its largest value.

    Parameters
    ----------
    current : Current
    ax : Axes, optional
    density : float
        2-D: of the streamlines.
    labels : sequence of str, optional
    **kwargs
        For `Axes.plot` (1-D) or `Axes.pcolormesh` (2-D).

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        As `plot_density`.

    Examples
    --------
    >>> import fpsolve as fps
    >>> grid = fps.Grid((-1.0, 1.0, 20))
    >>> plot_current(fps.Current(np.ones((20, 1)), grid, np.zeros(20))).get_ylabel()
    'probability current [1/time]'
    """
    _need(current, (Current,), "plot_current")
    grid = current.grid
    _drawable(grid, "plot_current")
    names = _names(labels, grid.dim)
    ax = _axes(ax)
    if grid.dim == 1:
        ax.plot(grid.centers[0], current.values[:, 0], **kwargs)
        ax.axhline(0.0, color="0.7", linewidth=0.6)  # keeps a constant current from a scale of its rounding errors
        ax.set(xlabel=names[0], ylabel=f"{current.name} [1/time]", xlim=grid.edges[0][[0, -1]])
        return ax
    _map(ax, grid, current.magnitude, f"|{current.name}|", kwargs)
    if current.largest > 0.0:
        # streamplot wants equal steps to rounding and looks at rows as y
        x, y = (np.linspace(c[0], c[-1], max(2, min(c.size, 100))) for c in grid.centers)
        at = current.at(np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)) / current.largest
        still = np.sqrt(np.sum(at**2, axis=-1)) < _VISIBLE
        u, v = (np.ma.masked_where(still, at[..., k]).T for k in (0, 1))
        ax.streamplot(x, y, u, v, color="white", linewidth=0.7, arrowsize=0.7, density=density)
    _plane(ax, grid, names)
    return ax


def plot_spectrum(spectrum: Spectrum, *, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
    """Draw the eigenvalues in the complex plane.

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
    _need(spectrum, (Spectrum,), "plot_spectrum")
    ax = _axes(ax)
    ax.plot(spectrum.eigenvalues.real, spectrum.eigenvalues.imag, **{"marker": "o", "linestyle": "", **kwargs})
    ax.axhline(0.0, color="0.7", linewidth=0.6)
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
    _need(law, (ExitTimeDistribution,), "plot_exit_times")
    ax = _axes(ax)
    shown = law.survival > 0.0
    ax.plot(law.times[shown], law.survival[shown], **kwargs)
    few = bool(shown.any()) and float(law.survival[shown].min()) >= 0.8  # less than a tenth of a decade has no ticks
    ax.set(yscale="linear" if few else "log", xlabel=f"$t$ [{law.unit}]", ylabel=r"$P(\tau > t)$")
    return ax


def plot_escape_times(escapes: EscapeTimes, *, ax: "Axes | None" = None, fit: bool = True, **kwargs: Any) -> "Axes":
    """Draw the survival probability (Kaplan-Meier) on a logarithmic axis, and exp(-rate t).

    Parameters
    ----------
    escapes : EscapeTimes
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
        For something else than EscapeTimes.

    Examples
    --------
    >>> import fpsolve as fps
    >>> escapes = fps.EscapeTimes([1.0, 2.0, 4.0], [False, False, True], np.zeros((3, 1)), t_max=4.0)
    >>> plot_escape_times(escapes).get_yscale()
    'log'
    """
    _need(escapes, (EscapeTimes,), "plot_escape_times")
    ax = _axes(ax)
    curve = escapes.survival()
    shown = curve.survival > 0.0
    last = float(np.nanmax(escapes.times))
    times, survival = curve.times[shown], curve.survival[shown]
    if escapes.censored.any():  # the curve goes on to the end of the watch
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
    _need(curve, (SurvivalCurve,), "plot_survival")
    ax = _axes(ax)
    shown = curve.survival > 0.0
    order = np.flatnonzero(shown)[np.argsort(curve.times[shown], kind="stable")]
    (line,) = ax.step(curve.times[order], curve.survival[order], where="post", **kwargs)
    ax.fill_between(curve.times[order], curve.low[order], curve.high[order], step="post", alpha=0.25, color=line.get_color())
    ax.set(yscale="log", xlabel=f"$t$ [{curve.unit}]", ylabel=r"$P(\tau > t)$")
    return ax


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
    _need(trajectories, (Trajectories,), "plot_trajectories")
    dim, states = trajectories.dim, trajectories.states
    if dim > 1 and (len(components) != 2 or not all(0 <= c < dim for c in components)):
        raise ValueError(f"components must be two of 0 ... {dim - 1}, got {tuple(components)}")
    ax = _axes(ax)
    if dim == 1:
        name = _names(labels, 1)[0]
        if states is None:
            ax.hist(trajectories.final[np.isfinite(trajectories.final)], bins="auto", density=True, histtype="step", **kwargs)
            ax.set(xlabel=name, ylabel=f"$p({name.strip('$')})$")
        else:
            ax.plot(trajectories.times, states[:, :count, 0], **{"linewidth": 0.7, **kwargs})
            ax.set(xlabel=f"$t$ [{trajectories.unit}]", ylabel=name)
        return ax
    i, j = components
    names = _names(labels, 2) if labels is not None else [f"$x_{{{c + 1}}}$" for c in components]
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
        raise ValueError(f"plot_comparison: negative error {e.min()}")
    ax = _axes(ax)
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
