"""Regions of one connected component for processes that jump: landing in another component of g < 0 counts as leaving."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ._code import DerivedCode, TableCode
from .region import Region

__all__ = ["component", "component_for_jumps", "inside"]

Array = NDArray[np.float64]

#: For each axis the ends of its period, or None.
Turns = Sequence[tuple[float, float] | None]

#: Points in which a component is searched for: in 1-D, and per axis in 2-D.
_POINTS, _SIDE = 1 << 15, 600
_HALVINGS = 60


def component(region: Region, low: Array, high: Array, turns: Turns = ()) -> Region:
    """The component of `region` around its point `containing`, as far as the box low, high shows it, as a region of its own.

    In 1-D an interval, open where it reaches the end of the box. In 2-D g is raised to +1 nearer to another component of a
    600 x 600 lattice than to this one, and outside the box where this one does not reach its sides; so the surface of this one is
    still that of g. Along an axis with a period (`turns`) the box is that period, and what meets at its ends is joined.

    Examples
    --------
    >>> from fpsolve.potentials import double_well
    >>> left = Region.sublevel(double_well(), 0.5, containing=[-1.0])
    >>> component(left, np.array([-3.0]), np.array([3.0])).contains([[-1.0], [1.0]]).tolist()
    [True, False]
    """
    assert region.containing is not None
    point = region.containing.copy()
    low, high = _box(np.minimum(low, point), np.maximum(high, point), turns)
    for i, turn in enumerate(turns):
        if turn is not None:
            point[i] = turn[0] + (point[i] - turn[0]) % (turn[1] - turn[0])
    if region.dim == 1 and not any(turns):
        return _interval(region, float(low[0]), float(high[0]))
    return _patch(region, point, low, high, turns)


def component_for_jumps(region: Region, starts: Array, step: float, turns: Turns = ()) -> Region:
    """`component` in a box found by doubling until it holds the whole component, or is a few hundred steps wide.

    Parameters
    ----------
    region : Region
        With a point `containing`.
    starts : array (n, d)
        Points of the component that the box must hold.
    step : float
        Length of a typical jump; what is closer together than a jump must be told apart.
    turns : sequence, optional
        For each axis the ends of its period, or None.

    Warns
    -----
    RuntimeWarning
        In more than two dimensions, where components are not told apart.
    """
    assert region.containing is not None
    if region.dim > 2:
        text = (
            f"{region!r} in {region.dim}-D: a jump into another component is not noticed as an exit; give a region that has "
            "one component only"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=4)
        return region
    points = np.vstack([starts, region.containing[None]])
    low, high = points.min(axis=0), points.max(axis=0)
    margin, limit = 16.0 * step, (1e6 if region.dim == 1 else 300.0) * step
    while True:
        out = component(region, low - margin, high + margin, turns)
        if margin > limit or _closed(out, low - margin, high + margin, turns):
            return out
        margin *= 2.0


def _box(low: Array, high: Array, turns: Turns) -> tuple[Array, Array]:
    """The box, with the period along the axes that have one."""
    ends = [turn or (a, b) for turn, a, b in zip(turns or [None] * len(low), low.tolist(), high.tolist(), strict=True)]
    return np.array([a for a, _ in ends]), np.array([b for _, b in ends])


def _closed(region: Region, low: Array, high: Array, turns: Turns) -> bool:
    """Whether no point on the sides of the box is inside; an axis with a period has no sides."""
    low, high = _box(low, high, turns)
    sides = [i for i in range(region.dim) if not turns or turns[i] is None]
    s = np.linspace(0.0, 1.0, 4 * _SIDE if region.dim == 2 else 1)[:, None]
    for i in sides:
        for end in (low[i], high[i]):
            points = low + s * (high - low)
            points[:, i] = end
            if np.any(inside(region, points)):
                return False
    return True


def inside(region: Region, points: Array) -> NDArray[np.bool_]:
    """g < 0 at points (..., d); False where g is NaN."""
    with np.errstate(all="ignore"):
        return np.asarray(region.code.evaluate(points, region.params)[..., 0] < 0.0)


def _interval(region: Region, low: float, high: float) -> Region:
    assert region.containing is not None
    point, ends = float(region.containing[0]), []
    for far in (low, high):
        x = np.linspace(point, far, _POINTS)
        out = np.flatnonzero(~inside(region, x[:, None]))
        if not out.size:
            ends.append(np.copysign(np.inf, far - point) if far != point else far)
            continue
        a, b = float(x[out[0] - 1]), float(x[out[0]])
        for _ in range(_HALVINGS):
            middle = 0.5 * (a + b)
            a, b = (middle, b) if inside(region, np.array([middle])) else (a, middle)
        ends.append(b)
    return Region.box([ends[0]], [ends[1]])


def _patch(region: Region, point: Array, low: Array, high: Array, turns: Turns) -> Region:
    """The component around `point` on a lattice in the box."""
    from scipy import ndimage

    side = _SIDE if region.dim == 2 else _POINTS
    axes = [np.linspace(a, b, side) for a, b in zip(low, high, strict=True)]
    within = inside(region, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    turning = [i for i, turn in enumerate(turns) if turn is not None]
    labels, count = _joined_at_the_seams(ndimage.label(within)[0], turning)
    step = (high - low) / (side - 1)
    distance, nearest = ndimage.distance_transform_edt(~within, sampling=step, return_indices=True)
    at = tuple(np.clip(np.rint((point - low) / step).astype(int), 0, side - 1))
    own = labels[tuple(index[at] for index in nearest)]
    if distance[at] > 2.0 * float(np.hypot.reduce(step)):
        raise ValueError(
            f"{region!r}: the component is too small to be told from others in the box {low.tolist()} to "
            f"{high.tolist()}; give it as a "
            "region of its own, a ball or a box, in place of containing="
        )
    edge = np.zeros(labels.shape, bool)
    for axis in set(range(region.dim)) - set(turning):
        np.moveaxis(edge, axis, 0)[[0, -1]] = True
    open_ended = bool(np.any(labels[edge] == own))
    if count == 1 and (open_ended or not edge.any()):
        return region
    table = np.where(labels[tuple(nearest)] == own, -1.0, 1.0)
    if not open_ended:
        table[edge] = 1.0  # what lies beyond the box belongs to others
    code = DerivedCode([region.code, TableCode(table, axes)], 1, ["fmax(c0[0], c1[0])"])
    return Region(code, region.params, name=region.name)


def _joined_at_the_seams(labels: NDArray[np.int32], turning: Sequence[int]) -> tuple[NDArray[np.int32], int]:
    """(labels, their number) with one label for what meets at the ends of a periodic axis; 0 stays 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    total = int(labels.max()) + 1
    pairs = [np.stack([labels.take(0, axis).ravel(), labels.take(-1, axis).ravel()]) for axis in turning]
    a, b = np.concatenate([np.empty((2, 0), int), *pairs], axis=1)
    both = (a > 0) & (b > 0)
    count, names = connected_components(coo_array((np.ones(both.sum()), (a[both], b[both])), (total, total)), directed=False)
    return np.asarray(names[labels], np.int32), count - 1
