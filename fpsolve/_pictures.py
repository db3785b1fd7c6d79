"""Pictures of what lives on a grid: densities, fields, currents. `fpsolve.plotting` has them all."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fpsolve.results import Current, Density, DensitySeries, Field

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpsolve.grid import Grid

__all__ = ["axes", "need", "plot_current", "plot_density", "plot_field", "state_names"]

Array = npt.NDArray[np.float64]

#: Ticks and margins of a logarithmic axis overflow beyond.
_LARGEST_LOG = 1e220
#: Part of the largest current below which streamlines would follow rounding errors.
_VISIBLE = 1e-3
#: Most characters in a line of a label.
_LABEL = 34
#: Most entries of a legend of densities at many times.
_LEGEND = 7
#: Part of the largest magnitude from which the lesser of two signs deserves a colour of its own.
_SIGNED = 0.2


def axes(ax: "Axes | None") -> "Axes":
    """The Axes given, or those of a new Figure that pyplot does not know."""
    if ax is not None:
        from matplotlib.axes import Axes

        if not isinstance(ax, Axes):
            advice = "; of several subplots give one, as axes[0]" if isinstance(ax, np.ndarray) else ", e.g. fig.add_subplot()"
            raise TypeError(f"ax must be an Axes of matplotlib{advice}: got {type(ax).__name__}")
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(5.2, 4.0), layout="compressed").add_subplot()


def need(obj: object, types: tuple[type, ...], name: str) -> None:
    """Refuse other results than those a picture is for."""
    if not isinstance(obj, types):
        raise TypeError(f"{name} draws a {' or '.join(t.__name__ for t in types)}, got {type(obj).__name__}")


def state_names(labels: Sequence[str] | None, dim: int) -> list[str]:
    """Names of the coordinates of a state, as given or x, x_1, x_2, ..."""
    if labels is None:
        return ["$x$"] if dim == 1 else [f"$x_{{{i + 1}}}$" for i in range(dim)]
    if len(labels) != dim:
        raise ValueError(f"labels must have one name for each of {dim} dimensions, got {list(labels)}")
    return list(labels)


def _begin(
    result: Any, types: tuple[type, ...], what: str, labels: Sequence[str] | None, ax: "Axes | None",
    plane: tuple[int, int] | None, at: float | None,
) -> "tuple[Any, list[str], Axes]":  # fmt: skip
    """Checks of a result on a grid; the result in the plane to be drawn, the names of its coordinates, and Axes to draw on."""
    need(result, types, what)
    dim = result.grid.dim
    names = state_names(labels, dim)
    if dim > 3:
        raise ValueError(f"{what}: a grid of dimension {dim} cannot be drawn; take a marginal or a slice of 1 to 3 dimensions")
    if dim < 3:
        if plane is not None or at is not None:
            raise ValueError(f"{what}: plane and at choose a picture of three dimensions, the grid has {dim}")
        return result, names, axes(ax)
    shown = (0, 1) if plane is None else tuple(plane)
    if len(shown) != 2 or not set(shown) < {0, 1, 2} or shown[0] == shown[1]:
        raise ValueError(f"{what}: plane must be two different axes out of 0, 1, 2, for example (0, 2), got {plane!r}")
    ax = axes(ax)
    flat, title = _planar(result[-1] if isinstance(result, DensitySeries) else result, shown, at, what, names)
    ax.set_title(title)
    return flat, [names[k] for k in shown], ax


def _planar(result: Any, plane: tuple[int, int], at: float | None, what: str, names: Sequence[str]) -> tuple[Any, str]:
    """A result in space on a plane: the marginal of a density, else the layer of cells that holds `at` (default: the middle)."""
    from fpsolve.grid import Grid

    grid = result.grid
    across = 3 - sum(plane)
    low, high = (float(v) for v in grid.edges[across][[0, -1]])
    if at is not None and not low <= at <= high:
        raise ValueError(f"{what}: at = {at!r} is outside the box, which reaches from {low:g} to {high:g} along axis {across}")
    boundary: list[Any] = [grid.boundary[k] for k in plane]
    small = Grid(*[grid.axes[k] for k in plane], boundary=boundary)
    turned = plane[0] > plane[1]
    time = "" if getattr(result, "time", None) is None else f", $t$ = {result.time:.4g}"
    if isinstance(result, Density) and at is None:
        mass = result.cell_mass.sum(axis=across)
        return Density((mass.T if turned else mass) / small.cell_volumes, small), f"all {names[across]}{time}"
    layer = int(np.argmin(np.abs(grid.centers[across] - (0.5 * (low + high) if at is None else at))))
    title = f"{names[across]} = {float(grid.centers[across][layer]):.4g}{time}"

    def cut(values: Any) -> Any:
        out = np.take(values, layer, axis=across)
        return np.swapaxes(out, 0, 1) if turned else out

    if isinstance(result, Density):
        return Density(cut(result.values), small), title
    if isinstance(result, Current):
        return Current(cut(result.values)[..., list(plane)], small, cut(result.divergence), name=result.name), title
    return Field(cut(result.values), small, name=result.name, unit=result.unit, mask=cut(result.mask)), title


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
    plane: tuple[int, int] | None = None,
    at: float | None = None,
    **kwargs: Any,
) -> "Axes":
    """Draw a density: a line in 1-D, a colour map with contours in 2-D, in 3-D its marginal or a slice in a plane.

    Parameters
    ----------
    density : Density or DensitySeries
        Of a series, 1-D draws every time and 2-D the last.
    ax : Axes, optional
    contours : sequence of float
        2-D: each contour encloses this fraction of the probability.
    labels : sequence of str, optional
        Names of the axes.
    plane : (int, int), optional
        3-D: the two axes to draw, default (0, 1).
    at : float, optional
        3-D: draw the slice where the third coordinate has this value. Default: the marginal, integrated over the third.
    **kwargs
        For `Axes.plot` (1-D) or `Axes.pcolormesh` (2-D, 3-D).

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        For something that is not a density, has more than three dimensions, or whose labels, plane or slice do not fit.

    Examples
    --------
    >>> import fpsolve as fps
    >>> grid = fps.Grid((-1.0, 1.0, 20))
    >>> plot_density(fps.Density(np.full(20, 0.5), grid)).get_xlabel()
    '$x$'
    """
    density, names, ax = _begin(density, (Density, DensitySeries), "plot_density", labels, ax, plane, at)
    grid = density.grid
    if grid.dim == 1:
        _lines(ax, grid, list(density) if isinstance(density, DensitySeries) else [density], kwargs)
        ax.set(xlabel=names[0], ylabel=f"$p({names[0].strip('$')})$", xlim=grid.edges[0][[0, -1]])
        return ax
    one = density[-1] if isinstance(density, DensitySeries) else density
    _map(ax, grid, one.values, r"$p$", kwargs)
    levels = _mass_levels(one, contours) if len(contours) else np.array([])
    if levels.size and levels[-1] > one.values.min():
        ax.contour(*grid.centers, one.values.T, levels=levels, colors="white", linewidths=0.8)
    _plane(ax, grid, names)
    if one.time is not None:
        ax.set_title(_moment(one))
    return ax


def _moment(one: Density) -> str:
    """When it is: t = 2, or iteration 2."""
    return f"{'$t$ =' if one.unit == 'time' else one.unit} {one.time:.4g}"


def _lines(ax: "Axes", grid: "Grid", many: Sequence[Density], kwargs: Mapping[str, Any]) -> None:
    """One line per density; the colours of several go with time, and a legend names them, of many a few."""
    import matplotlib

    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(many)))
    named = np.unique(np.linspace(0, len(many) - 1, _LEGEND).round().astype(int)) if len(many) > _LEGEND else range(len(many))
    for k, one in enumerate(many):
        style: dict[str, Any] = {"color": shades[k]} if len(many) > 1 else {}
        if one.time is not None and k in named:
            style["label"] = _moment(one)
        ax.plot(grid.centers[0], one.values, **{**style, **kwargs})
    if len(many) > 1:
        ax.legend()


def plot_field(
    field: Field,
    *,
    ax: "Axes | None" = None,
    log: bool | None = None,
    contours: int = 8,
    labels: Sequence[str] | None = None,
    plane: tuple[int, int] | None = None,
    at: float | None = None,
    **kwargs: Any,
) -> "Axes":
    """Draw a field: a line in 1-D, a colour map with contours in 2-D, in 3-D of a slice.

    Values of both signs have a scale that is white at zero. Cells outside the mask and infinite values stay blank, on a logarithmic
    scale also zeros and values above 1e220. Where the values set by definition differ, as the 0 and 1 of a committor on its two
    regions, those regions are drawn in flat greys with a legend.

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
    plane, at : optional
        3-D: the two axes to draw, default (0, 1), and the value of the third coordinate, default the middle of the box.
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
    field, names, ax = _begin(field, (Field,), "plot_field", labels, ax, plane, at)
    grid = field.grid
    # a longer line would not fit beside the picture
    label = textwrap.fill((field.name or "value") + (f" [{_unit(field.unit)}]" if field.unit else ""), _LABEL)
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
    lines, signed = "white", _signed(values)
    if signed and not {"cmap", "norm", "vmin", "vmax"} & kwargs.keys():
        lines, kwargs = "0.25", {"cmap": "RdBu_r", "vmin": -signed, "vmax": signed, **kwargs}
    _map(ax, grid, values, label, kwargs)
    if contours and values.count() and values.min() < values.max():
        from matplotlib.ticker import LogLocator, MaxNLocator

        locator = LogLocator(numticks=contours + 1) if log else MaxNLocator(contours)
        ax.contour(*grid.centers, values.T, locator=locator, colors=lines, linewidths=0.8)
    _given(ax, field)
    _plane(ax, grid, names)
    return ax


def _signed(values: "np.ma.MaskedArray") -> float:
    """Largest magnitude of values of both signs, 0 where one sign prevails."""
    if not values.count():
        return 0.0
    low, high = -float(values.min()), float(values.max())
    return max(low, high) if min(low, high) > _SIGNED * max(low, high) else 0.0


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
    current: Current, *, ax: "Axes | None" = None, density: float = 1.0, labels: Sequence[str] | None = None,
    plane: tuple[int, int] | None = None, at: float | None = None, **kwargs: Any,
) -> "Axes":  # fmt: skip
    """Draw a current: a line in 1-D, streamlines over a colour map of the magnitude in 2-D, of a slice in 3-D.

    Streamlines end where the current is below a thousandth of its largest value.

    Parameters
    ----------
    current : Current
    ax : Axes, optional
    density : float
        2-D: of the streamlines.
    labels : sequence of str, optional
    plane, at : optional
        3-D: the two axes to draw, default (0, 1), and the value of the third coordinate, default the middle of the box; the
        component across the plane is left out.
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
    current, names, ax = _begin(current, (Current,), "plot_current", labels, ax, plane, at)
    grid = current.grid
    if grid.dim == 1:
        ax.plot(grid.centers[0], current.values[:, 0], **kwargs)
        ax.axhline(0.0, color="0.7", linewidth=0.6)  # keeps a constant current from a scale of its rounding errors
        ax.set(xlabel=names[0], ylabel=f"{current.name} [1/time]", xlim=grid.edges[0][[0, -1]])
        return ax
    _map(ax, grid, current.magnitude, f"|{current.name}| [1/(time length)]", kwargs)
    if current.largest > 0.0:
        # streamplot wants equal steps to rounding and looks at rows as y
        x, y = (np.linspace(c[0], c[-1], max(2, min(c.size, 100))) for c in grid.centers)
        flow = current.at(np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)) / current.largest
        still = np.sqrt(np.sum(flow**2, axis=-1)) < _VISIBLE
        u, v = (np.ma.masked_where(still, flow[..., k]).T for k in (0, 1))
        ax.streamplot(x, y, u, v, color="white", linewidth=0.7, arrowsize=0.7, density=density)
    _plane(ax, grid, names)
    return ax
