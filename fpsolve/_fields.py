"""Results on a grid: densities, series of densities, fields."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from fpsolve import _interpolate

if TYPE_CHECKING:
    from fpsolve.grid import Grid


from fpsolve._estimate import _plain, _Record
from fpsolve._shown import Description, Quantity, _lines

from ._checks import numbers

__all__ = ["Density", "DensitySeries", "Field"]

Array = npt.NDArray[np.float64]


def _shape(grid: Any, name: str) -> tuple[int, ...]:
    """That of the grid, which must be one."""
    if not hasattr(grid, "cell_volumes"):
        raise TypeError(f"{name}: grid must be a Grid, got {type(grid).__name__}")
    return tuple(grid.shape)


def _grid_values(values: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    array = numbers(f"{name}: values", values)
    if array.shape != tuple(shape):
        raise ValueError(f"{name}: values have shape {array.shape}, the grid needs {tuple(shape)}")
    return array


def _mask(mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """A boolean array of the grid's shape; None means everywhere."""
    if mask is None:
        return np.ones(shape, dtype=np.bool_)
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"Field: mask must be boolean (True where the field was solved for), got dtype {array.dtype}")
    if array.shape != tuple(shape):
        raise ValueError(f"Field: mask has shape {array.shape}, the grid needs {tuple(shape)}")
    if not array.any():
        raise ValueError("Field: mask leaves no cell; a field needs one cell at least where it is defined")
    return array


def _cells(grid: "Grid", points: Array) -> tuple[npt.NDArray[np.intp], ...]:
    """Indices of the cells that hold points (..., d); periodic axes wrap, points beyond a wall get the last cell."""
    out = []
    for k, (edges, sides) in enumerate(zip(grid.edges, grid.boundary, strict=True)):
        low, length = edges[0], edges[-1] - edges[0]
        x = low + np.mod(points[..., k] - low, length) if "periodic" in sides else points[..., k]
        out.append(np.clip(np.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2))
    return tuple(out)


def _grid_text(grid: "Grid") -> str:
    cells = " x ".join(str(n) for n in grid.shape)
    box = " x ".join(f"[{e[0]:.4g}, {e[-1]:.4g}]" for e in grid.edges)
    return f"{cells} cells of {box}"


@dataclass(frozen=True, eq=False, repr=False)
class Density(_Record):
    r"""A probability density on a grid.

    Parameters
    ----------
    values : array of grid.shape
        Point values p(x_i) at the cell centres. The mass of cell i is p(x_i) times its volume, so integrals are midpoint sums.
    grid : Grid
        Where it lives.
    time : float, optional
        When; None for a stationary density.
    method : str
        How it was obtained.
    warnings : sequence of str
        What the reader should know before trusting it.
    solver_info : mapping of str to number or str
        Residuals, steps, times of the solver.
    unit : {"time", "iteration"}
        What `time` counts.
    weights : array of grid.shape, optional
        What takes the place of the volumes in all integrals: the weights of a quadrature of higher order, which differ from the
        volumes next to walls. A product over the axes.

    Raises
    ------
    ValueError
        If `values` or `weights` does not have the shape of the grid, or there is no such unit.

    Examples
    --------
    >>> from fpsolve.grid import Grid
    >>> grid = Grid((-6.0, 6.0, 120))
    >>> p = Density(np.exp(-grid.centers[0]**2 / 2) / np.sqrt(2 * np.pi), grid)
    >>> bool(abs(p.mass - 1) < 1e-8), bool(abs(p.covariance()[0, 0] - 1) < 1e-6)
    (True, True)
    """

    values: Array
    grid: "Grid"
    time: float | None = None
    method: str = ""
    warnings: tuple[str, ...] = ()
    solver_info: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "time"
    weights: Array | None = None
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "values": ("x*", "1/volume", "probability density at the cell centres"),
        "weights": ("x*", "volume", "weights of the cells in integrals"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {
        "mass": ("", "", "sum of the cell masses"),
        "negative_mass": ("", "", "sum of the negative cell masses"),
        "mean": ("component", "", "mean position"),
    }
    ROWS: ClassVar[str] = "x*"
    MAIN: ClassVar[str] = "values"
    MAIN_NAME: ClassVar[str] = "density"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_density"

    def __post_init__(self) -> None:
        _clock(self.unit, "Density")
        object.__setattr__(self, "values", _grid_values(self.values, _shape(self.grid, "Density"), "Density"))
        if self.weights is not None:
            object.__setattr__(self, "weights", _grid_values(self.weights, _shape(self.grid, "Density"), "Density.weights"))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "solver_info", _plain(self.solver_info))

    @property
    def cell_mass(self) -> Array:
        """Probability of every cell, p(x_i) V_i, or p(x_i) times its weight in the quadrature; shape of the grid."""
        return self.values * (self.grid.cell_volumes if self.weights is None else self.weights)

    @property
    def mass(self) -> float:
        """Sum of the cell masses."""
        return float(math.fsum(self.cell_mass.ravel()))

    @property
    def negative_mass(self) -> float:
        """Sum of the negative cell masses, as a number <= 0."""
        return float(np.minimum(self.cell_mass, 0.0).sum())

    def mean(self) -> Array:
        """E[x], a sum over the cells, normalised by the mass; shape (d,)."""
        mass, weights = self.mass, self.cell_mass
        others = [tuple(k for k in range(self.grid.dim) if k != axis) for axis in range(self.grid.dim)]
        return np.array([np.dot(self.grid.centers[a], weights.sum(axis=o)) for a, o in enumerate(others)]) / mass

    def covariance(self) -> Array:
        """E[(x - mean)(x - mean)^T], a sum over the cells, normalised by the mass; shape (d, d)."""
        mean, weights = self.mean(), self.cell_mass.ravel()
        centred = self.grid.points() - mean
        return np.asarray((centred * weights[:, None]).T @ centred / self.mass)

    def marginal(self, axis: int) -> "Density":
        """The density of coordinate `axis` alone: the others integrated out; a Density on a 1-D grid."""
        dim = self.grid.dim
        if not -dim <= axis < dim:
            raise ValueError(f"marginal: axis {axis} does not exist in {dim} dimensions; axes are 0 ... {dim - 1}")
        axis %= dim
        line = type(self.grid)(self.grid.axes[axis], boundary=[self.grid.boundary[axis]])
        others = tuple(k for k in range(dim) if k != axis)
        mass, weights = self.cell_mass.sum(axis=others), None
        if self.weights is not None:
            weights = self.weights.sum(axis=others) / math.prod(self.grid.edges[k][-1] - self.grid.edges[k][0] for k in others)
        volumes = line.cell_volumes if weights is None else weights
        return Density(mass / volumes, line, self.time, self.method, self.warnings, unit=self.unit, weights=weights)

    def at(self, points: npt.ArrayLike) -> Array:
        """Multilinear interpolation at points (..., d) -> (...), second order; 0 outside the grid, periodic axes wrap.

        In the half cell next to a wall the line through the last two centres is continued, but not below zero.
        """
        return _interpolate.multilinear(self.grid, self.values, points, outside=0.0, nonnegative=True)

    def __repr__(self) -> str:
        head = f"Density on {_grid_text(self.grid)}" + ("" if self.time is None else f" at {self.unit} {self.time:.6g}")
        items = [
            f"method: {self.method}" if self.method else "",
            f"mass {self.mass:.12g}, negative mass {self.negative_mass:.3g}, max {self.values.max():.6g}",
            "mean [" + ", ".join(f"{m:.6g}" for m in self.mean()) + "]" if self.mass > 0 else "",
            _info_text(self.solver_info),
        ]
        return _lines(head, items, self.warnings)


def _clock(unit: str, kind: str) -> None:
    if unit not in ("time", "iteration"):
        raise ValueError(f"{kind}: unit must be 'time' or 'iteration', got {unit!r}")


def _info_text(info: Mapping[str, Any]) -> str:
    shown = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in info.items()]
    return "solver: " + ", ".join(shown) if shown else ""


@dataclass(frozen=True, eq=False, repr=False)
class DensitySeries(_Record):
    """Densities at several times on one grid; indexing gives a `Density`, slicing a shorter series.

    Parameters
    ----------
    times : array (nt,)
    values : array of shape (nt,) + grid.shape
        Point values at the cell centres.
    grid : Grid
    method : str
    warnings : sequence of str
    solver_info : mapping
    unit : {"time", "iteration"}
        What `times` count.
    weights : array of grid.shape, optional
        As in `Density`.

    Examples
    --------
    >>> from fpsolve.grid import Grid
    >>> grid = Grid((0.0, 1.0, 4))
    >>> series = DensitySeries([0.0, 1.0], np.ones((2, 4)), grid)
    >>> len(series), series[-1].time
    (2, 1.0)
    """

    times: Array
    values: Array
    grid: "Grid"
    method: str = ""
    warnings: tuple[str, ...] = ()
    solver_info: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "time"
    weights: Array | None = None
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "times": ("time", "{unit}", "times"),
        "values": ("time x*", "1/volume", "probability density at the cell centres"),
        "weights": ("x*", "volume", "weights of the cells in integrals"),
    }
    ALONG: ClassVar[Mapping[str, str]] = {"time": "times"}
    ROWS: ClassVar[str] = "time x*"
    MAIN: ClassVar[str] = "values"
    MAIN_NAME: ClassVar[str] = "density"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_density"

    def __post_init__(self) -> None:
        _clock(self.unit, "DensitySeries")
        if self.weights is not None:
            object.__setattr__(
                self, "weights", _grid_values(self.weights, _shape(self.grid, "DensitySeries"), "DensitySeries.weights")
            )
        times = numbers("times", self.times)
        if times.ndim != 1:
            raise ValueError(f"DensitySeries: times must have shape (nt,), got {times.shape}")
        object.__setattr__(self, "times", times)
        shape = (times.size, *_shape(self.grid, "DensitySeries"))
        object.__setattr__(self, "values", _grid_values(self.values, shape, "DensitySeries"))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "solver_info", _plain(self.solver_info))

    def __len__(self) -> int:
        return int(self.times.size)

    @overload
    def __getitem__(self, index: slice) -> "DensitySeries": ...
    @overload
    def __getitem__(self, index: int) -> Density: ...
    def __getitem__(self, index: int | slice) -> "Density | DensitySeries":
        if isinstance(index, slice):
            return dataclasses.replace(self, times=self.times[index], values=self.values[index])
        return Density(
            self.values[index],
            self.grid,
            time=float(self.times[index]),
            method=self.method,
            warnings=self.warnings,
            solver_info=self.solver_info,
            unit=self.unit,
            weights=self.weights,
        )

    def __iter__(self) -> Iterator[Density]:
        return (self[i] for i in range(len(self)))

    def at(self, t: float) -> "Density":
        """The density at a time between the first and the last, by the polynomial through the four nearest times.

        Of fourth order in the distance of the times where the density is smooth in time (with three or two times: of third or
        second); mass is conserved. For an answer with an error ask `evolve` for that time.

        Raises
        ------
        ValueError
            If `t` is not between the first and the last time.

        Examples
        --------
        >>> from fpsolve.grid import Grid
        >>> series = DensitySeries([0.0, 1.0, 2.0], np.array([[1.0, 1.0], [1.5, 0.5], [1.0, 1.0]]), Grid((0.0, 1.0, 2)))
        >>> series.at(0.5).values                                          # 1 + t - t^2/2 at 1/2
        array([1.375, 0.625])
        """
        times = self.times
        if not (len(self) and times[0] <= t <= times[-1]):
            span = f"{times[0]:g} to {times[-1]:g}" if len(self) else "no times"
            raise ValueError(f"the series covers {span}, got t = {t!r}; ask evolve for other times")
        count = min(4, len(self))
        first = int(np.clip(np.searchsorted(times, t) - count // 2, 0, len(self) - count))
        near = times[first : first + count]
        gaps = near[:, None] - near[None, :] + np.eye(count)
        factors = np.where(np.eye(count, dtype=bool), 1.0, (t - near)[None, :] / gaps).prod(axis=1)
        values = np.tensordot(factors, self.values[first : first + count], 1)
        method = f"{self.method}, interpolated in time" if self.method else "interpolated in time"
        return dataclasses.replace(self[first], values=values, time=float(t), method=method)

    def __repr__(self) -> str:
        span = f"{self.times[0]:.6g} ... {self.times[-1]:.6g}" if len(self) else "none"
        masses = [p.mass for p in self]
        mass = f"mass {min(masses):.12g} ... {max(masses):.12g}" if masses else ""
        negative = f"largest negative mass {min(p.negative_mass for p in self):.3g}" if masses else ""
        items = [f"method: {self.method}" if self.method else "", mass, negative, _info_text(self.solver_info)]
        return _lines(f"DensitySeries of {len(self)} {self.unit}s ({span}) on {_grid_text(self.grid)}", items, self.warnings)


@dataclass(frozen=True, eq=False, repr=False)
class Field(_Record):
    """A function on a grid, such as the mean exit time as a function of the start.

    Parameters
    ----------
    values : array of grid.shape
        Point values at the cell centres; ``inf`` where the answer is infinite.
    grid : Grid
    name : str
        What it is.
    unit : str
    warnings : sequence of str
    method : str
    solver_info : mapping of str to number or str
    mask : boolean array of grid.shape, optional
        True in the cells where it was solved for, everywhere by default. Elsewhere `values` are set by definition: an exit time
        is 0 outside its region, a committor 0 and 1 on its two. They belong in no average and no colour scale;
        ``field.values[field.mask]`` is without them.

    Raises
    ------
    ValueError
        If `values` or `mask` does not have the shape of the grid, or no cell is left.
    TypeError
        If `mask` is not boolean.

    Examples
    --------
    >>> from fpsolve.grid import Grid
    >>> grid = Grid((0.0, 1.0, 10))
    >>> float(Field(2 * grid.centers[0], grid, name="twice x").at([0.33]))
    0.66
    >>> tau = Field([0.0, 3.0, 5.0, 0.0], Grid((0.0, 1.0, 4)), name="exit time", mask=[False, True, True, False])
    >>> float(tau.values[tau.mask].mean()), float(tau.at([0.1])), float(tau.at([0.1], fill=np.nan))
    (4.0, 0.0, nan)
    """

    values: Array
    grid: "Grid"
    name: str = ""
    unit: str = ""
    warnings: tuple[str, ...] = ()
    method: str = ""
    solver_info: Mapping[str, Any] = field(default_factory=dict)
    mask: npt.NDArray[np.bool_] = None  # type: ignore[assignment]  # always an array after __post_init__
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "values": ("x*", "{unit}", "{name}"),
        "mask": ("x*", "", "cells where it was solved for; elsewhere values are set by definition"),
    }
    ROWS: ClassVar[str] = "x*"
    MAIN: ClassVar[str] = "values"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_field"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _grid_values(self.values, _shape(self.grid, "Field"), "Field"))
        object.__setattr__(self, "mask", _mask(self.mask, self.grid.shape))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "solver_info", _plain(self.solver_info))

    def at(self, points: npt.ArrayLike, *, fill: float | None = None) -> Array:
        """Multilinear interpolation at points (..., d) -> (...); NaN outside the grid, periodic axes wrap.

        Cells outside the mask count with the values they have by definition; with `fill`, points in such cells give that number.

        Of second order in the cell width where the field is smooth. Within one cell of the surface of a region it is of first
        order: the surface lies somewhere between a centre inside and one outside, whose value is that of the outside.
        """
        out = _interpolate.multilinear(self.grid, self.values, points, outside=math.nan)
        if self.mask.all():
            return out
        x = np.asarray(points, dtype=np.float64)
        solved = np.isnan(out) | self.mask[_cells(self.grid, x[None] if x.ndim == 0 else x)]
        # a line continued to a wall must not leave the range of the values, as with a negative exit time
        return np.where(solved, out, np.clip(out, self.values.min(), self.values.max()) if fill is None else fill)

    def _quantities(self) -> dict[str, Quantity]:
        """The values with NaN outside the mask."""
        found = super()._quantities()
        found["values"] = found["values"]._replace(value=np.where(self.mask, self.values, np.nan))
        return found

    def __repr__(self) -> str:
        solved = self.values[self.mask]
        finite = solved[np.isfinite(solved)]
        span = f"{finite.min():.6g} ... {finite.max():.6g} {self.unit}".rstrip() if finite.size else "no finite value"
        missing, outside = solved.size - finite.size, self.values.size - solved.size
        items = [
            f"method: {self.method}" if self.method else "",
            f"values {span}" + (f" in {solved.size} cells, {outside} set by definition" if outside else ""),
            f"{missing} cells not finite" if missing else "",
            _info_text(self.solver_info),
        ]
        return _lines(f"Field {self.name!r} on {_grid_text(self.grid)}", items, self.warnings)
