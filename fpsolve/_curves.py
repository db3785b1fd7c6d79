"""Results that are curves in state space: paths of least action, limit cycles."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fpsolve._estimate import Estimate, _lines, _Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Cycle", "Path"]

Array = npt.NDArray[np.float64]


def _array(value: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    out = np.asarray(value, dtype=np.float64)
    if out.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {out.shape}")
    return out


@dataclass(frozen=True, eq=False, repr=False)
class Path(_Record):
    r"""A path of least action :math:`S = \frac14 \int (\dot x - b)^T D^{-1} (\dot x - b)\,dt`.

    Parameters
    ----------
    points : array (n, d)
        From the start to the end.
    action : Estimate
        Its `discretization_error` comes from the last refinement. ``inf`` where no noise carries the path on.
    cumulative : array (n,)
        Action from the start up to each point: the quasipotential along the path, if the start is an attractor.
    drift : array (n, d)
        b at the points, in the limit of weak noise (no noise-induced part).
    fixed_points : array (k, d)
        Zeros of the drift that the path passes or ends in, in order.
    indices : array of int (k,)
        Number of unstable directions of each: 0 where it attracts.
    method : str
    warnings : sequence of str
    solver_info : mapping of str to number or str

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

    Examples
    --------
    >>> path = Path([[0.0, 0.0], [3.0, 4.0]], Estimate(1.0), [0.0, 1.0], [[0.0, 0.0], [-3.0, 0.0]], [[0.0, 0.0]], [0])
    >>> float(path.length), path.tangents[0], path.saddles
    (5.0, array([0.6, 0.8]), array([], shape=(0, 2), dtype=float64))
    """

    points: Array
    action: Estimate
    cumulative: Array
    drift: Array
    fixed_points: Array
    indices: npt.NDArray[np.int64]
    method: str = ""
    warnings: tuple[str, ...] = ()
    solver_info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or len(points) < 2:
            raise ValueError(f"Path: points must have shape (n, d) with n >= 2, got {points.shape}")
        n, d = points.shape
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "cumulative", _array(self.cumulative, (n,), "Path: cumulative"))
        object.__setattr__(self, "drift", _array(self.drift, (n, d), "Path: drift"))
        indices = np.asarray(self.indices, dtype=np.int64).reshape(-1)
        fixed = np.asarray(self.fixed_points, dtype=np.float64).reshape(-1, d)
        object.__setattr__(self, "fixed_points", _array(fixed, (indices.size, d), "Path: fixed_points"))
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "solver_info", dict(self.solver_info))

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return int(self.points.shape[1])

    @property
    def arclength(self) -> Array:
        """Euclidean length from the start up to each point, array (n,)."""
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    @property
    def length(self) -> float:
        """Euclidean length."""
        return float(self.arclength[-1])

    @property
    def tangents(self) -> Array:
        """Unit tangents, array (n, d): one-sided at the ends and at fixed points, where a path may turn."""
        step = np.diff(self.points, axis=0)
        size = np.linalg.norm(step, axis=1, keepdims=True)
        unit = step / np.where(size > 0.0, size, 1.0)
        s = np.maximum(size, 1e-300)
        out = np.concatenate([unit[:1], (s[1:] * unit[:-1] + s[:-1] * unit[1:]) / (s[1:] + s[:-1]), unit[-1:]])
        for point in self.fixed_points:
            at = int(np.argmin(np.linalg.norm(self.points - point, axis=1)))
            out[at] = unit[min(at, len(unit) - 1)]
        length = np.linalg.norm(out, axis=1, keepdims=True)
        return np.asarray(out / np.where(length > 0.0, length, 1.0))

    @property
    def saddles(self) -> Array:
        """Fixed points on the path with stable and unstable directions, in 1-D unstable ones: array (k, d)."""
        top = self.dim if self.dim > 1 else 2
        return np.asarray(self.fixed_points[(self.indices > 0) & (self.indices < top)])

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """The path, over contours of a landscape if `potential=` is given; see `fpsolve.plotting.plot_path`."""
        from fpsolve import plotting

        return plotting.plot_path(self, ax=ax, **kwargs)

    def __repr__(self) -> str:
        names = {0: "attractor", 1: "saddle" if self.dim > 1 else "maximum"}
        passed = [
            f"{names.get(int(i), f'fixed point with {i} unstable directions')} {np.array2string(x, precision=6)}"
            for x, i in zip(self.fixed_points, self.indices, strict=True)
        ]
        head = f"Path of {len(self.points)} points in {self.dim}-D, length {self.length:.6g}"
        items = [f"action: {self.action}", f"passes: {', '.join(passed)}" if passed else "", f"method: {self.method}"]
        return _lines(head, items, self.warnings)


@dataclass(frozen=True, eq=False, repr=False)
class Cycle(_Record):
    """An attracting limit cycle of a drift.

    Parameters
    ----------
    points : array (n, d)
        Equally spaced in time; the last is one step before the first.
    period : Estimate
    multipliers : complex array (d - 1,)
        Floquet multipliers without the one of the motion along the cycle: what a deviation is multiplied with in one turn.
    method : str

    Raises
    ------
    ValueError
        If the arrays have other shapes.

    Examples
    --------
    >>> turn = np.linspace(0.0, 2.0 * np.pi, 8, endpoint=False)
    >>> Cycle(np.stack([np.cos(turn), np.sin(turn)], -1), Estimate(6.2832, unit="time"), [0.5])
    Cycle of period 6.2832 in 2-D
      largest multiplier 0.5
    """

    points: Array
    period: Estimate
    multipliers: npt.NDArray[np.complex128]
    method: str = ""

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or len(points) < 8 or points.shape[1] < 2:
            raise ValueError(f"Cycle: points must have shape (n, d) with n >= 8 and d >= 2, got {points.shape}")
        multipliers = np.asarray(self.multipliers, dtype=np.complex128)
        if multipliers.shape != (points.shape[1] - 1,):
            raise ValueError(f"Cycle: multipliers must have shape {(points.shape[1] - 1,)}, got {multipliers.shape}")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "multipliers", multipliers)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return int(self.points.shape[1])

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """The closed curve; see `fpsolve.plotting.plot_path`."""
        from fpsolve import plotting

        return plotting.plot_path(self, ax=ax, **kwargs)

    def __repr__(self) -> str:
        largest = np.abs(self.multipliers).max()
        head = f"Cycle of period {self.period.value:.6g} in {self.dim}-D"
        return _lines(head, [f"largest multiplier {largest:.4g}", f"method: {self.method}" if self.method else ""])
