"""Regions of one connected component for processes that jump: landing in another component of g < 0 counts as leaving."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from ._code import DerivedCode, TableCode
from .grid import Region

__all__ = ["component", "component_for_jumps"]

Array = NDArray[np.float64]

#: Points in which a component is searched for: in 1-D, and per axis in 2-D.
_POINTS, _SIDE = 1 << 15, 600
_HALVINGS = 60


def component(region: Region, low: Array, high: Array) -> Region:
    """The component of `region` around its point `containing`, as far as the box low, high shows it, as a region of its own.

    In 1-D an interval, open where it reaches the end of the box. In 2-D g is raised to +1 nearer to another component of a
    600 x 600 lattice than to this one, and outside the box where this one does not reach its sides; so the surface of this one is
    still that of g.

    Examples
    --------
    >>> from fpsolve.potentials import double_well
    >>> left = Region.sublevel(double_well(), 0.5, containing=[-1.0])
    >>> component(left, np.array([-3.0]), np.array([3.0])).contains([[-1.0], [1.0]]).tolist()
    [True, False]
    """
    assert region.containing is not None
    low, high = np.minimum(low, region.containing), np.maximum(high, region.containing)
    return _interval(region, float(low[0]), float(high[0])) if region.dim == 1 else _patch(region, low, high)


def component_for_jumps(region: Region, starts: Array, step: float) -> Region:
    """`component` in a box found by doubling until it holds the whole component, or is a few hundred steps wide.

    Parameters
    ----------
    region : Region
        With a point `containing`.
    starts : array (n, d)
        Points of the component that the box must hold.
    step : float
        Length of a typical jump; what is closer together than a jump must be told apart.

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
        out = component(region, low - margin, high + margin)
        if margin > limit or _closed(out, low - margin, high + margin):
            return out
        margin *= 2.0


def _closed(region: Region, low: Array, high: Array) -> bool:
    """Whether no point on the sides of the box is inside."""
    if region.dim == 1:
        return not np.any(_inside(region, np.stack([low, high])))
    s = np.linspace(0.0, 1.0, 4 * _SIDE)
    sides = [np.stack([low[0] + s * (high[0] - low[0]), np.full(s.size, y)], axis=1) for y in (low[1], high[1])]
    sides += [np.stack([np.full(s.size, x), low[1] + s * (high[1] - low[1])], axis=1) for x in (low[0], high[0])]
    return not np.any(_inside(region, np.concatenate(sides)))


def _inside(region: Region, points: Array) -> NDArray[np.bool_]:
    """g < 0 at points (..., d); False where g is NaN."""
    with np.errstate(all="ignore"):
        return np.asarray(region.code.evaluate(points, region.params)[..., 0] < 0.0)


def _interval(region: Region, low: float, high: float) -> Region:
    assert region.containing is not None
    point, ends = float(region.containing[0]), []
    for far in (low, high):
        x = np.linspace(point, far, _POINTS)
        out = np.flatnonzero(~_inside(region, x[:, None]))
        if not out.size:
            ends.append(np.copysign(np.inf, far - point) if far != point else far)
            continue
        a, b = float(x[out[0] - 1]), float(x[out[0]])
        for _ in range(_HALVINGS):
            middle = 0.5 * (a + b)
            a, b = (middle, b) if _inside(region, np.array([middle])) else (a, middle)
        ends.append(b)
    return Region.box([ends[0]], [ends[1]])


def _patch(region: Region, low: Array, high: Array) -> Region:
    from scipy import ndimage

    assert region.containing is not None
    axes = [np.linspace(a, b, _SIDE) for a, b in zip(low, high, strict=True)]
    inside = _inside(region, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    labels, count = ndimage.label(inside)
    step = (high - low) / (_SIDE - 1)
    distance, nearest = ndimage.distance_transform_edt(~inside, sampling=step, return_indices=True)
    at = tuple(np.clip(np.rint((region.containing - low) / step).astype(int), 0, _SIDE - 1))
    own = labels[tuple(index[at] for index in nearest)]
    if distance[at] > 2.0 * float(np.hypot(*step)):
        raise ValueError(
            f"{region!r}: the component is too small to be told from others in the box {low.tolist()} to {high.tolist()}"
        )
    edge = np.ones(labels.shape, bool)
    edge[1:-1, 1:-1] = False
    open_ended = bool(np.any(labels[edge] == own))
    if count == 1 and open_ended:
        return region
    table = np.where(labels[tuple(nearest)] == own, -1.0, 1.0)
    if not open_ended:
        table[edge] = 1.0  # what lies beyond the box belongs to others
    code = DerivedCode([region.code, TableCode(table, axes)], 1, ["fmax(c0[0], c1[0])"])
    return Region(code, region.params, name=region.name)
