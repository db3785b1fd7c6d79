"""Regions: open sets g(x) < 0 whose exit is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import is_finite, numbers
from ._code import Code, ConstantCode, DerivedCode, ExpressionCode
from ._function_code import FunctionCode
from .expressions import split_names

if TYPE_CHECKING:
    from .grid import Grid

__all__ = ["Region"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Regions are written out as source, with all their numbers, up to this dimension.
MAX_WRITTEN = 16


class _FormulaCode(Code):
    """Scalar source in x[i] and p[i] with its own parameter values, so that another radius compiles nothing.

    `kind` is "ball" (values: center, radius), "halfspace" (normal, offset), "box" (low, high) or "". In many dimensions the kind
    stands for the source, which would be long.
    """

    n_out = 1

    def __init__(self, formula: Callable[[], str], dim: int, values: Sequence[float], kind: str = "") -> None:
        self.dim, self.values, self.kind = dim, np.array(values, float), kind
        self.formula = formula() if dim <= MAX_WRITTEN or not kind else f"{kind} in {dim}-D"

    @property
    def n_params(self) -> int:
        return int(self.values.size)

    def pack(self, params: Mapping[str, float]) -> Array:
        return self.values

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        return f"{inline}\ndef {name}(x, p):\n    return ({self.formula},)\n", {}

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        if self.dim <= MAX_WRITTEN or not self.kind:
            return super().evaluate(x, params)
        x, values, d = np.asarray(x, float), self.values, self.dim
        if self.kind == "ball":
            g = np.linalg.norm(x - values[:d], axis=-1) - values[d]
        elif self.kind == "halfspace":
            g = x @ values[:d] - values[d]
        else:
            g = np.maximum(values[:d] - x, x - values[d:]).max(axis=-1)
        return np.asarray(g[..., None])


class Region:
    """The open set of points with g(x) < 0; the process escapes at the first time at which g >= 0.

    Made by :meth:`ball`, :meth:`box`, :meth:`halfspace`, :meth:`sublevel`, :meth:`from_function` or :meth:`from_expression`.

    Attributes
    ----------
    dim : int
    code : Code
        Scalar code of g, which the paths engine joins into its step loop.
    params : dict
        Parameter values of the code.
    containing : array (dim,) or None
        If given, only the connected component around this point counts (:meth:`sublevel`).

    Examples
    --------
    >>> disc = Region.ball([0.0, 0.0], 2.0)
    >>> disc.contains([[0.0, 1.9], [0.0, 2.0]]).tolist()
    [True, False]
    """

    def __init__(
        self, code: Code, params: Mapping[str, float] | None = None, *, name: str = "region", containing: ArrayLike | None = None
    ) -> None:
        self.code, self.dim, self.name = code, code.dim, name
        self.params = dict(params or {})
        self.containing = None
        if containing is not None:
            self.containing = _point(containing, self.dim, "containing")
            if not self.contains(self.containing):
                g = float(self.g(self.containing))
                raise ValueError(f"{name}: the point {self.containing.tolist()} is not inside (g = {g:.6g}, must be < 0)")

    @classmethod
    def ball(cls, c: ArrayLike, r: float) -> Region:
        """Points closer than `r` to `c`; `g = |x - c| - r` is the signed distance. A number `c` means 1-D.

        Examples
        --------
        >>> float(Region.ball([0.0, 0.0], 2.0).g([3.0, 4.0]))
        3.0
        """
        center, radius = _point(c, None, "centre"), _finite(r, "radius")
        if radius <= 0.0:
            raise ValueError(f"radius must be > 0, got {radius:g}")
        d = center.size
        squares = " + ".join(f"(x[{i}] - p[{i}])*(x[{i}] - p[{i}])" for i in range(d))
        formula = f"sqrt({squares}) - p[{d}]" if d > 1 else "fabs(x[0] - p[0]) - p[1]"
        return cls(_FormulaCode(lambda: formula, d, [*center, radius], "ball"), name=f"ball({_brief(center)}, {radius:g})")

    @classmethod
    def box(cls, lo: ArrayLike, hi: ArrayLike) -> Region:
        """Points with lo < x < hi on every axis; g is the largest of the signed distances to the faces. Infinite faces are allowed.

        Examples
        --------
        >>> Region.box([-1.0], [1.0]).g([[0.0], [3.0]]).tolist()
        [-1.0, 2.0]
        """
        low, high = (np.atleast_1d(numbers("a corner of the box", v, "a list of numbers")) for v in (lo, hi))
        if low.shape != high.shape or low.ndim != 1 or not np.all(low < high):
            raise ValueError(f"box needs lo < hi on every axis, got lo = {low.tolist()}, hi = {high.tolist()}")
        d = low.size
        # an open side is 1e300 away: infinities would make NaN in gradients of g
        faces = [f for i in range(d) for f in (f"p[{i}] - x[{i}]", f"x[{i}] - p[{d + i}]")]
        bounds = [*np.clip(low, -1e300, 1e300), *np.clip(high, -1e300, 1e300)]
        code = _FormulaCode(lambda: functools.reduce(lambda a, b: f"fmax({a}, {b})", faces), d, bounds, "box")
        return cls(code, name=f"box({_brief(low)}, {_brief(high)})")  # fmt: skip

    @classmethod
    def halfspace(cls, n: ArrayLike, c: float) -> Region:
        """Points with n.x < c; `g = (n.x - c)/|n|` is the signed distance to the plane.

        Examples
        --------
        >>> Region.halfspace([3.0, 4.0], 5.0).contains([[0.0, 0.0], [1.0, 1.0]]).tolist()
        [True, False]
        """
        normal, offset = _point(n, None, "normal"), _finite(c, "offset")
        length = float(np.linalg.norm(normal))
        if length == 0.0:
            raise ValueError(f"the normal of a half-space must not be zero, got {normal.tolist()}")
        d = normal.size
        formula = " + ".join(f"p[{i}]*x[{i}]" for i in range(d)) + f" - p[{d}]"
        code = _FormulaCode(lambda: formula, d, [*(normal / length), offset / length], "halfspace")
        return cls(code, name=f"halfspace({_brief(normal)}, {offset:g})")

    @classmethod
    def sublevel(cls, U: Any, e: float, containing: ArrayLike | None = None) -> Region:
        """Points with U(x) < e; with `containing`, only the connected component around that point.

        On a grid the component is found by flood fill (:meth:`mask`). A continuous path from inside the component cannot leave it
        without passing g >= 0, so paths need g only.

        Examples
        --------
        >>> from fpsolve.potentials import double_well
        >>> well = Region.sublevel(double_well(), 0.5, containing=[-1.0])
        >>> well.contains([-1.0]), int(well.mask(Grid((-2.0, 2.0, 40))).sum())
        (True, 8)
        """
        if not hasattr(U, "value_code"):
            raise TypeError(f"sublevel needs a Potential, got {type(U).__name__}; for a function use Region.from_function")
        level = _finite(e, "level")
        code = DerivedCode([U.value_code, ConstantCode([level], U.dim)], 1, ["c0[0] - c1[0]"])
        code.slope_code = U.grad_code
        return cls(code, U.params, name=f"sublevel({level:g})", containing=containing)

    @classmethod
    def from_function(cls, g: Callable[..., Any], dim: int | None = None, *, params: Mapping[str, float] | None = None) -> Region:
        """The set g(x, p) < 0 for a Python function that Numba can compile; p holds the values of `params` in order.

        Without `dim` it is the smallest of 1, 2, 3 for which g finds all the coordinates it asks for: give `dim` if g does not use
        the last ones.

        Examples
        --------
        >>> def g(x, p):
        ...     return x[0]**2 + x[1]**2 - p[0]**2
        >>> Region.from_function(g, dim=2, params={"r": 2.0}).contains([1.0, 1.0])
        True
        """
        checked = _parameters(params)
        if dim is not None and (isinstance(dim, bool) or not isinstance(dim, (int, np.integer)) or dim < 1):
            raise ValueError(f"dim must be a whole number >= 1, got {dim!r}")
        dim = _coordinates_used(g, checked) if dim is None else dim
        return cls(FunctionCode(g, int(dim), 1, checked, "region"), checked, name=getattr(g, "__name__", "function"))

    @classmethod
    def from_expression(cls, text: str, variables: str | Sequence[str] = "x", params: Mapping[str, float] | None = None) -> Region:
        """The set where an expression is negative.

        Examples
        --------
        >>> Region.from_expression("x**2 + y**2 - r**2", variables="x y", params={"r": 2.0}).contains([1.0, 1.0])
        True
        """
        names = split_names(variables)
        checked = _parameters(params)
        return cls(ExpressionCode.from_texts([text], names, tuple(checked)), checked, name=str(text))

    def g(self, x: ArrayLike) -> Array:
        """g at points (..., dim) -> (...).

        Raises
        ------
        ValueError
            If the last axis of `x` is not the dimension, or g is NaN at a point.
        """
        points = numbers("x", x)
        if self.dim == 1 and points.ndim == 0:
            points = points[None]
        if points.ndim == 0 or points.shape[-1] != self.dim:
            raise ValueError(f"points must have shape (..., {self.dim}), got {points.shape}")
        values = self.code.evaluate(points, self.params)[..., 0]
        if np.isnan(values).any():
            at = points.reshape(-1, self.dim)[int(np.argmax(np.isnan(values).ravel()))]
            raise ValueError(f"{self.name}: g is NaN at x = {at.tolist()}; it must be a number everywhere on the grid")
        return np.asarray(values)

    def contains(self, x: ArrayLike) -> Any:
        """True where g(x) < 0; a bool for one point. The restriction to a component is not applied (see :meth:`mask`)."""
        inside = self.g(x) < 0.0
        return bool(inside) if inside.ndim == 0 else inside

    def mask(self, grid: Grid) -> Mask:
        """Cells whose centre is inside, array of grid.shape; with `containing` only those connected to it through cell faces.

        Raises
        ------
        ValueError
            If dimensions differ or no cell centre is inside.
        """
        from .grid import Grid

        if not isinstance(grid, Grid):
            raise TypeError(f"mask takes a Grid, got {type(grid).__name__}")
        if grid.dim != self.dim:
            raise ValueError(f"{self.name} is {self.dim}-D, the grid is {grid.dim}-D; from_function takes dim={grid.dim}, "
                             "the other constructors one entry per coordinate")  # fmt: skip
        inside: Mask = (self.g(grid.points()) < 0.0).reshape(grid.shape)
        if not inside.any():
            raise ValueError(f"{self.name} contains no cell centre of {grid!r}; use more cells or move the box")
        return inside if self.containing is None else _component(inside, grid, self.containing, self.name)

    def __repr__(self) -> str:
        params = "".join(f", {k}={v:g}" for k, v in self.params.items())
        where = "" if self.containing is None else f", containing={self.containing.tolist()}"
        return f"Region({self.name}{params}{where})"


def _component(inside: Mask, grid: Grid, point: Array, name: str) -> Mask:
    from scipy import ndimage

    labels, _ = ndimage.label(inside)
    at = labels[grid.index(point)]
    if at == 0:
        around = np.where(inside.ravel(), np.sum((grid.points() - point) ** 2, axis=1), np.inf)
        nearest = int(np.argmin(around))
        limit = float(sum(w.max() ** 2 for w in grid.widths))
        if around[nearest] > limit:
            raise ValueError(f"{name}: the component around {point.tolist()} contains no cell centre of {grid!r}; use more cells")
        at = labels.ravel()[nearest]
    members = {int(at)}
    pairs = []
    for axis, sides in enumerate(grid.boundary):
        if sides[0] == "periodic":
            low, high = np.take(labels, 0, axis).ravel(), np.take(labels, -1, axis).ravel()
            joined = (low > 0) & (high > 0)
            pairs += list(zip(low[joined].tolist(), high[joined].tolist(), strict=True))
    while True:
        more = {b for a, b in pairs if a in members} | {a for a, b in pairs if b in members}
        if more <= members:
            return np.isin(labels, list(members))
        members |= more


def _coordinates_used(g: Callable[..., Any], params: Mapping[str, float]) -> int:
    """Smallest dimension in which g(x, p) does not run out of coordinates."""
    if not callable(g):
        raise TypeError(f"region: expected a function g(x, p), got {type(g).__name__}: {g!r}")
    for dim in (1, 2, 3):
        try:
            getattr(g, "py_func", g)((0.37,) * dim, tuple(params.values()))
        except (IndexError, ValueError) as error:
            if isinstance(error, IndexError) or "unpack" in str(error):
                continue
        except Exception:  # a user's code may raise anything; FunctionCode reports it with its line
            pass
        return dim
    raise ValueError(f"region {getattr(g, '__name__', repr(g))!r}: the number of coordinates is not 1, 2 or 3; pass dim=")


def _brief(numbers: Array) -> str:
    """A list of numbers, short where there are many."""
    if numbers.size <= MAX_WRITTEN:
        return str(numbers.tolist())
    return f"[{', '.join(f'{v:g}' for v in numbers[:3])}, ... {numbers.size} numbers]"


def _finite(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)) or not is_finite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return float(value)


def _point(value: ArrayLike, dim: int | None, what: str) -> Array:
    point = np.atleast_1d(numbers(what, value, "a list of numbers"))
    if point.ndim != 1 or (dim is not None and point.size != dim) or not np.all(np.isfinite(point)):
        raise ValueError(f"{what} must be {dim if dim is not None else 'a list of'} finite numbers, got {value!r}")
    return point


def _parameters(params: Any) -> dict[str, float]:
    """Names and finite numbers."""
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping of names to numbers, got {type(params).__name__}: {params!r}")
    return {k: _finite(v, k) for k, v in (params or {}).items()}
