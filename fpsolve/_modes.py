"""Results about motion: currents on a grid, eigenfunctions of a generator, distributions of exit times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fpsolve import _interpolate
from fpsolve._estimate import _Record
from fpsolve._fields import Field, _grid_text, _grid_values, _info_text
from fpsolve._shown import Description, _lines

if TYPE_CHECKING:
    from fpsolve.grid import Grid

__all__ = ["Current", "ExitTimeDistribution", "Spectrum"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Current(_Record):
    """A probability current on a grid.

    Parameters
    ----------
    values : array of shape grid.shape + (d,)
        Components at the cell centres: half of what crosses the edges of a cell times the edge vectors, over the volume.
    grid : Grid
    divergence : array of grid.shape
        Exact divergence of the discrete current: net outflow of every cell (through absorbing sides too) over its volume.
    time : float, optional
        When; None for a stationary current.
    name : str
        What flows.
    method : str
    warnings : sequence of str
    solver_info : mapping of str to number or str

    Raises
    ------
    ValueError
        If an array does not fit the grid.

    Examples
    --------
    >>> from fpsolve.grid import Grid
    >>> current = Current(np.ones((4, 1)), Grid((0.0, 1.0, 4), boundary="periodic"), np.zeros(4))
    >>> float(current.at([0.3])[0]), current.largest
    (1.0, 1.0)
    """

    values: Array
    grid: "Grid"
    divergence: Array
    time: float | None = None
    name: str = "probability current"
    method: str = ""
    warnings: tuple[str, ...] = ()
    solver_info: Mapping[str, Any] = field(default_factory=dict)
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "values": ("x* component", "1/(time area)", "{name} at the cell centres"),
        "divergence": ("x*", "1/(time volume)", "divergence of the discrete current"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {"largest": ("", "1/(time area)", "largest magnitude")}
    ROWS: ClassVar[str] = "x*"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_current"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _grid_values(self.values, (*self.grid.shape, self.grid.dim), "Current"))
        object.__setattr__(self, "divergence", _grid_values(self.divergence, self.grid.shape, "Current.divergence"))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "solver_info", dict(self.solver_info))

    @property
    def magnitude(self) -> Array:
        """Euclidean length at the cell centres, array of grid.shape."""
        return np.asarray(np.sqrt(np.sum(self.values**2, axis=-1)))

    @property
    def largest(self) -> float:
        """Largest magnitude."""
        return float(self.magnitude.max())

    def at(self, points: npt.ArrayLike) -> Array:
        """Multilinear interpolation at points (..., d) -> (..., d); NaN outside the grid, periodic axes wrap."""
        parts = [_interpolate.multilinear(self.grid, self.values[..., k], points, outside=math.nan) for k in range(self.grid.dim)]
        return np.stack(parts, axis=-1)

    def __repr__(self) -> str:
        head = f"Current {self.name!r} on {_grid_text(self.grid)}" + ("" if self.time is None else f" at time {self.time:.6g}")
        items = [
            f"method: {self.method}" if self.method else "",
            f"largest magnitude {self.largest:.6g}, largest divergence {np.abs(self.divergence).max():.3g}",
            _info_text(self.solver_info),
        ]
        return _lines(head, items, self.warnings)


def _number(v: complex, digits: int = 6) -> str:
    """A complex number, without an imaginary part of zero."""
    return f"{v.real:.{digits}g}" + (f"{v.imag:+.4g}j" if v.imag else "")


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(_Record):
    r"""Leading eigenvalues and eigenfunctions of a generator, slowest first.

    With the backward operator L = b . grad + D : hess and its adjoint, :math:`L r_k = \mu_k r_k` and
    :math:`L^\dagger \ell_k = \mu_k \ell_k`, normalised to int l_j r_k = delta_jk and `int |r_k|^2 p` = 1 (without a stationary
    density p: the plain mean of `|r|^2` over the box is 1).

    Parameters
    ----------
    eigenvalues : complex array (k,)
        Eigenvalues of the generator, real parts <= 0, the largest real part first; 0 where mass is conserved. For a chain the
        logarithms of the eigenvalues of its kernel.
    right : complex array of shape (k,) + grid.shape
        Right eigenfunctions (observables) at the cell centres.
    left : complex array of shape (k,) + grid.shape
        Left eigenfunctions (densities) at the cell centres.
    residuals : array (k,)
        `||Q r - mu r|| / ||r||`; for a chain with the kernel and its eigenvalue.
    grid : Grid
    method : str
    warnings : sequence of str
    solver_info : mapping of str to number or str
    eigenvalue_errors : array (k,), optional
        Discretisation error of every eigenvalue, as a distance in the complex plane; NaN where it is not known.
    unit : {"1/time", "1/iteration"}

    Raises
    ------
    ValueError
        If the arrays do not fit each other or the grid.

    Examples
    --------
    >>> from fpsolve.grid import Grid
    >>> one = np.ones((1, 4))
    >>> Spectrum([0.0], one, one, [0.0], Grid((0.0, 1.0, 4))).rates
    array([0.])
    """

    eigenvalues: npt.NDArray[np.complex128]
    right: npt.NDArray[np.complex128]
    left: npt.NDArray[np.complex128]
    residuals: Array
    grid: "Grid"
    method: str = ""
    warnings: tuple[str, ...] = ()
    solver_info: Mapping[str, Any] = field(default_factory=dict)
    eigenvalue_errors: Array = None  # type: ignore[assignment]
    unit: str = "1/time"
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "eigenvalues": ("mode", "{unit}", "eigenvalues of the generator"),
        "eigenvalue_errors": ("mode", "{unit}", "discretisation errors of the eigenvalues"),
        "residuals": ("mode", "{unit}", "norm of Q r - mu r over that of r"),
        "right": ("mode x*", "", "right eigenfunctions at the cell centres"),
        "left": ("mode x*", "1/volume", "left eigenfunctions at the cell centres"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {
        "rates": ("mode", "{unit}", "decay rates"),
        "frequencies": ("mode", "{unit}", "angular frequencies"),
    }
    ROWS: ClassVar[str] = "mode"
    ERRORS: ClassVar[Mapping[str, str]] = {"eigenvalues": "eigenvalue_errors"}
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_spectrum"

    def __post_init__(self) -> None:
        values = np.asarray(self.eigenvalues, dtype=np.complex128)
        if values.ndim != 1:
            raise ValueError(f"Spectrum: eigenvalues must have shape (k,), got {values.shape}")
        object.__setattr__(self, "eigenvalues", values)
        for name in ("right", "left"):
            array = np.asarray(getattr(self, name), dtype=np.complex128)
            if array.shape != (values.size, *self.grid.shape):
                raise ValueError(f"Spectrum: {name} must have shape {(values.size, *self.grid.shape)}, got {array.shape}")
            object.__setattr__(self, name, array)
        object.__setattr__(self, "residuals", _grid_values(self.residuals, values.shape, "Spectrum.residuals"))
        errors = np.full(values.shape, math.nan) if self.eigenvalue_errors is None else self.eigenvalue_errors
        object.__setattr__(self, "eigenvalue_errors", _grid_values(errors, values.shape, "Spectrum.eigenvalue_errors"))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "solver_info", dict(self.solver_info))

    def __len__(self) -> int:
        return int(self.eigenvalues.size)

    @property
    def rates(self) -> Array:
        """Decay rates -Re mu in `unit`, slowest first."""
        return np.asarray(0.0 - self.eigenvalues.real)

    @property
    def frequencies(self) -> Array:
        """Angular frequencies Im mu in `unit`."""
        return np.asarray(self.eigenvalues.imag + 0.0)

    def right_field(self, k: int, part: str = "real") -> Field:
        """Right eigenfunction k, part "real", "imag" or "abs", as a Field."""
        return self._field(self.right, k, part, "right")

    def left_field(self, k: int, part: str = "real") -> Field:
        """Left eigenfunction k, part "real", "imag" or "abs", as a Field."""
        return self._field(self.left, k, part, "left")

    def _field(self, functions: npt.NDArray[np.complex128], k: int, part: str, side: str) -> Field:
        if part not in ("real", "imag", "abs"):
            raise ValueError(f"part must be 'real', 'imag' or 'abs', got {part!r}")
        if not -len(self) <= k < len(self):
            raise ValueError(f"this Spectrum has the modes 0 ... {len(self) - 1}, got {k}")
        mode = functions[k]
        values = np.abs(mode) if part == "abs" else mode.imag if part == "imag" else mode.real
        name = f"{side} eigenfunction {k} ({part}), eigenvalue {_number(self.eigenvalues[k], 4)}"
        return Field(values, self.grid, name=name, method=self.method, warnings=self.warnings)

    def __repr__(self) -> str:
        shown = ", ".join(map(_number, self.eigenvalues[:8]))
        known = self.eigenvalue_errors if not np.isnan(self.eigenvalue_errors).all() else np.empty(0)
        items = [
            f"method: {self.method}" if self.method else "",
            f"eigenvalues {shown}" + (", ..." if len(self) > 8 else ""),
            f"errors {', '.join(f'{e:.2g}' for e in known[:8])}" + (", ..." if len(self) > 8 else "") if known.size else "",
            f"largest residual {self.residuals.max():.2g} {self.unit}" if len(self) else "",
            _info_text(self.solver_info),
        ]
        return _lines(f"Spectrum of {len(self)} modes on {_grid_text(self.grid)}", items, self.warnings)


@dataclass(frozen=True, eq=False, repr=False)
class ExitTimeDistribution(_Record):
    """Survival probability and probability density of an exit time.

    Parameters
    ----------
    times : array (nt,)
    survival : array (nt,)
        P(T > t); it starts below one where a start has mass outside the region.
    density : array (nt,)
        -dP(T > t)/dt in 1/time.
    error : array (nt,)
        Estimated error of the time integration in `survival`.
    unit : str
    start : str
        Where the paths start, in words.
    method : str
    warnings : sequence of str

    Raises
    ------
    ValueError
        If the arrays differ in length.

    Examples
    --------
    >>> t = np.linspace(0.0, 3.0, 301)
    >>> law = ExitTimeDistribution(t, np.exp(-t), np.exp(-t), np.zeros(301))
    >>> round(float(law.quantile(0.5)), 4)
    0.6931
    """

    times: Array
    survival: Array
    density: Array
    error: Array
    unit: str = "time"
    start: str = ""
    method: str = ""
    warnings: tuple[str, ...] = ()
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "times": ("time", "{unit}", "times"),
        "survival": ("time", "", "probability that the exit is later"),
        "error": ("time", "", "error of the time integration in the survival probability"),
        "density": ("time", "1/{unit}", "probability density of the exit time"),
    }
    ALONG: ClassVar[Mapping[str, str]] = {"time": "times"}
    ROWS: ClassVar[str] = "time"
    ERRORS: ClassVar[Mapping[str, str]] = {"survival": "error"}
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_exit_times"

    def __post_init__(self) -> None:
        times = np.atleast_1d(np.asarray(self.times, dtype=np.float64))
        object.__setattr__(self, "times", times)
        for name in ("survival", "density", "error"):
            object.__setattr__(self, name, _grid_values(getattr(self, name), times.shape, f"ExitTimeDistribution.{name}"))
        object.__setattr__(self, "warnings", tuple(self.warnings))

    def quantile(self, q: float) -> float:
        """Time by which a fraction q has left, log-linear between the times; ValueError where they do not reach it."""
        if not 0.0 < q < 1.0:
            raise ValueError(f"q must lie in (0, 1), got {q}")
        left = 1.0 - self.survival
        if not left[0] <= q <= left[-1]:
            raise ValueError(
                f"between the times given a fraction {left[0]:.4g} ... {left[-1]:.4g} leaves, not {q}; take other times"
            )
        keep = np.concatenate([[True], np.diff(np.maximum.accumulate(left)) > 0.0]) & (self.survival > 0.0)
        return float(np.interp(-math.log1p(-q), -np.log(self.survival[keep]), self.times[keep]))

    def __repr__(self) -> str:
        head = f"ExitTimeDistribution at {self.times.size} times"
        if self.times.size:
            head += f" ({self.times[0]:.6g} ... {self.times[-1]:.6g} {self.unit})"
        items = [
            f"method: {self.method}" if self.method else "",
            f"start: {self.start}" if self.start else "",
            f"survival {self.survival[0]:.6g} ... {self.survival[-1]:.6g}, error {self.error.max():.1g}" if self.times.size else "",
        ]
        return _lines(head, items, self.warnings)
