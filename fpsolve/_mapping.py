"""Maps of a uniform coordinate s in [0, 1] to an axis [lo, hi]: cells of equal size in s, graded in x."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["check", "half_nodes", "position", "text"]

Array = NDArray[np.float64]

_FORMS = "('sinh', x0, width), ('tanh', strength), ('nodes', 2 n + 1 numbers) or a callable from [0, 1] to [0, 1]"


def check(mapping: Any, lo: float, hi: float, n: int, k: int) -> Any:
    """The mapping in its stored form, or an error that names the axis."""
    if callable(mapping):
        out = mapping
    elif isinstance(mapping, (tuple, list)) and len(mapping) > 0 and isinstance(mapping[0], str):
        out = _named(mapping, k)
    else:
        raise TypeError(f"axis {k}: the mapping must be {_FORMS}, got {mapping!r}")
    if not callable(out) and out[0] == "nodes" and len(out[1]) != 2 * n + 1:
        raise ValueError(f"axis {k}: nodes are the edges and centres in turn, {2 * n + 1} numbers for {n} cells, got {len(out[1])}")
    x = half_nodes(out, lo, hi, n)
    if not np.all(np.isfinite(x)) or not np.all(np.diff(x) > 0.0):
        bad = int(np.argmin(np.where(np.isfinite(np.diff(x)), np.diff(x), -np.inf)))
        raise ValueError(f"axis {k}: the mapping must increase from cell to cell, but goes from {x[bad]:g} to {x[bad + 1]:g}")
    return out


def _named(mapping: Any, k: int) -> tuple[Any, ...]:
    name, values = mapping[0], mapping[1:]
    if name == "nodes" and len(values) == 1:
        return ("nodes", tuple(float(v) for v in values[0]))
    wanted = {"sinh": 2, "tanh": 1}.get(name)
    if wanted != len(values):
        raise ValueError(f"axis {k}: the mapping must be {_FORMS}, got {mapping!r}")
    numbers = tuple(float(v) for v in values)
    if not all(map(math.isfinite, numbers)) or numbers[-1] <= 0.0:
        what = "width" if name == "sinh" else "strength"
        raise ValueError(f"axis {k}: the {what} of a {name} mapping must be > 0 and finite, got {mapping!r}")
    return (name, *numbers)


def half_nodes(mapping: Any, lo: float, hi: float, n: int) -> Array:
    """Edges and centres in turn, 2 n + 1 increasing numbers from lo to hi."""
    if isinstance(mapping, tuple) and mapping[0] == "nodes" and len(mapping[1]) == 2 * n + 1:
        x = np.array(mapping[1])
    else:
        x = position(mapping, lo, hi, np.arange(2 * n + 1) / (2 * n))
    x[0], x[-1] = lo, hi
    return x


def position(mapping: Any, lo: float, hi: float, s: ArrayLike) -> Array:
    """x at the coordinate s in [0, 1]; beyond, the axis repeats."""
    at = np.asarray(s, float)
    turns = np.where((at < 0.0) | (at > 1.0), np.floor(at), 0.0)
    at = at - turns
    if mapping is None:
        x = lo + (hi - lo) * at
    elif callable(mapping):
        x = lo + (hi - lo) * _called(mapping, at)
    elif mapping[0] == "sinh":
        x0, width = mapping[1:]
        first, last = math.asinh((lo - x0) / width), math.asinh((hi - x0) / width)
        x = x0 + width * np.sinh(first + (last - first) * at)
    elif mapping[0] == "tanh":
        x = 0.5 * (lo + hi) + 0.5 * (hi - lo) * np.tanh(mapping[1] * (2.0 * at - 1.0)) / math.tanh(mapping[1])
    else:
        from scipy.interpolate import CubicSpline

        x = CubicSpline(np.linspace(0.0, 1.0, len(mapping[1])), mapping[1])(at)
    return np.asarray(x + turns * (hi - lo))


def _called(mapping: Any, s: Array) -> Array:
    ends = np.asarray(mapping(np.array([0.0, 1.0])), float)
    if ends.shape != (2,) or not np.allclose(ends, [0.0, 1.0], rtol=0.0, atol=1e-9):
        raise ValueError(f"a mapping must take an array of s in [0, 1] to as many numbers, 0 to 0 and 1 to 1; "
                         f"at [0, 1] it gave {ends.tolist()}")  # fmt: skip
    return np.asarray(mapping(s.ravel()), float).reshape(s.shape)


def text(mapping: Any) -> str:
    """How the mapping appears in the repr of a grid."""
    if callable(mapping):
        return getattr(mapping, "__name__", type(mapping).__name__)
    if mapping[0] == "nodes":
        return f"('nodes', [{len(mapping[1])} numbers])"
    return "(" + ", ".join([repr(mapping[0]), *(f"{v:g}" for v in mapping[1:])]) + ")"
