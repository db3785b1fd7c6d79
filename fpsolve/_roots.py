"""Zeros of a vector field in a box: Newton's method from many starts, what was found twice removed; fixed points of a drift."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ._checks import is_finite, is_number, numbers

if TYPE_CHECKING:
    from .process import Process

__all__ = ["FixedPoint", "check_box", "find_zeros", "fixed_points", "is_degenerate"]

Array = NDArray[np.float64]
Field = Callable[[Array], Array]

#: Zeros closer than this part of the box are one; degenerate ones may lie dense on a line: of those a few are kept.
APART, APART_DEGENERATE = 1e-6, 0.1
#: An eigenvalue below this part of the largest is taken as zero.
FLAT = 1e-6


def check_box(box: Sequence[Sequence[float]], dim: int) -> Array:
    """The box as array (dim, 2); ValueError for anything but finite pairs lo < hi."""
    try:
        bounds = numbers("box", box)
    except (TypeError, ValueError):
        bounds = np.empty(0)
    if bounds.shape != (dim, 2) or not np.all(np.isfinite(bounds)) or np.any(bounds[:, 0] >= bounds[:, 1]):
        raise ValueError(f"box must hold {dim} finite pairs (lo, hi) with lo < hi, got {box!r}")
    return bounds


def check_starts(starts: int) -> int:
    """At least one start."""
    if isinstance(starts, bool) or not isinstance(starts, (int, np.integer)) or starts < 1:
        raise ValueError(f"starts must be a whole number >= 1, got {starts!r}")
    return int(starts)


def spread(bounds: Array, count: int) -> Array:
    """`count` points that fill a box evenly in any dimension: a Kronecker sequence with the generalised golden ratio."""
    d = len(bounds)
    ratio = 1.5
    for _ in range(60):  # the root of r^(d+1) = r + 1
        ratio = (1.0 + ratio) ** (1.0 / (d + 1))
    step = ratio ** -np.arange(1.0, d + 1)
    unit = (0.5 + np.arange(count)[:, None] * step) % 1.0
    return np.asarray(bounds[:, 0] + unit * (bounds[:, 1] - bounds[:, 0]))


def newton(field: Field, slope: Field, x: Array, width: Array, iterations: int = 80) -> tuple[Array, Array]:
    """Damped Newton for all starts (n, d) at once; points, and the size of the last step relative to `width`."""
    size = np.full(len(x), np.inf)
    d = x.shape[1]
    with np.errstate(all="ignore"):
        for _ in range(iterations):
            f, J = field(x), slope(x)
            good = np.asarray(np.isfinite(f).all(-1) & np.isfinite(J).all((-1, -2)))
            J = np.where(good[:, None, None], J, np.eye(d))
            scale = np.abs(J).max((-1, -2))[:, None, None] + 1e-300
            step = np.where(good[:, None], -np.linalg.solve(J + 1e-14 * scale * np.eye(d), f[..., None])[..., 0], np.nan)
            size = np.max(np.abs(step) / width, -1)
            x = x + step * np.minimum(1.0, 0.1 / np.maximum(size, 1e-300))[:, None]
            if not np.any(size > 1e-14):  # NaN compares false
                break
    return x, size


def is_degenerate(eigenvalues: Array, typical: float) -> bool:
    """Whether an eigenvalue vanishes beside the largest one, or all beside `typical`."""
    size = np.abs(eigenvalues)
    return bool(size.min() <= FLAT * max(size.max(), FLAT * typical))


def find_zeros(field: Field, slope: Field, bounds: Array, starts: int, tol: float) -> list[tuple[Array, Array, bool]]:
    """Zeros of `field` in the box: point, Jacobian there, whether it is degenerate.

    Of zeros that form a line or a surface a few are kept.
    """
    if not (is_number(tol) and is_finite(tol) and tol > 0.0):
        raise ValueError(f"tol must be a finite number > 0, got {tol!r}")
    lo, width = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
    x = spread(bounds, check_starts(starts))
    with np.errstate(all="ignore"):
        sizes = np.abs(slope(x)).max((-1, -2))
    typical = float(np.median(sizes[np.isfinite(sizes)])) if np.isfinite(sizes).any() else 0.0
    x, step = newton(field, slope, x, width)
    inside = np.all((x >= lo) & (x <= lo + width), -1) & np.isfinite(step) & (step < tol)
    found: list[tuple[Array, Array, bool]] = []
    for point in np.asarray(x)[inside]:
        distance = [np.max(np.abs(point - other) / width) for other, _, _ in found]
        if any(apart < APART for apart in distance):
            continue
        J = slope(point[None])[0]
        flat = is_degenerate(np.linalg.eigvals(J), typical)
        if flat and any(apart < APART_DEGENERATE and other[2] for apart, other in zip(distance, found, strict=True)):
            continue
        found.append((np.where(np.abs(point) < 1e-14 * width, 0.0, point), J, flat))
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPoint:
    """A point where the drift vanishes; `index` counts the eigenvalues of its Jacobian with a positive real part.

    A `degenerate` one has an eigenvalue with a vanishing real part: linearisation does not tell whether it is stable.
    """

    x: Array
    jacobian: Array
    eigenvalues: NDArray[np.complex128]
    index: int
    degenerate: bool = False

    @property
    def stable(self) -> bool:
        """Whether it attracts."""
        return self.index == 0 and not self.degenerate

    @property
    def kind(self) -> str:
        """'stable node', 'stable focus', 'saddle', 'unstable node', 'unstable focus' or 'degenerate'."""
        if self.degenerate:
            return "degenerate"
        if 0 < self.index < len(self.x):
            return "saddle" if self.index == 1 else f"saddle of index {self.index}"
        turns = np.any(np.abs(self.eigenvalues.imag) > 1e-12 * np.abs(self.eigenvalues).max())
        return f"{'unstable' if self.index else 'stable'} {'focus' if turns else 'node'}"

    def __repr__(self) -> str:
        return f"<{self.kind} at {np.array2string(self.x, precision=6)}>"


def fixed_points(process: Process, box: Sequence[Sequence[float]], starts: int, tol: float) -> list[FixedPoint]:
    """See `Process.fixed_points`."""
    bounds = check_box(box, process.dim)
    code = process.weak_drift_code
    jacobian = code.jacobian()

    def slope(x: Array) -> Array:
        return jacobian.evaluate(x, process.params).reshape(*x.shape[:-1], process.dim, process.dim)

    found = []
    for x, J, flat in find_zeros(lambda x: code.evaluate(x, process.params), slope, bounds, starts, tol):
        values = np.linalg.eigvals(J).astype(complex)
        largest = np.abs(values).max()
        centre = bool(np.abs(values.real).min() <= FLAT * largest)
        found.append(FixedPoint(x, J, values, int(np.sum(values.real > FLAT * largest)), flat or centre))
    return sorted(found, key=lambda point: (point.index, tuple(np.round(point.x, 9))))
