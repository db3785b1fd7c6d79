"""Units of a sweep: which there are, and what each is asked.

A unit is (parameters, seed, range of trajectories). Its seed is a hash of the seed of the sweep, the replicate and the parameters,
so that a unit is the same whatever other values the axes have, and wherever and whenever it is run.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Plan", "Unit", "Value", "each_missing", "unit_seed"]

Value = bool | int | float | str

#: Trajectories of a unit at most, unless `per_unit` says otherwise.
PER_UNIT = 1_000_000
#: Of a table in a file, with replicates, ranges, and what a unit returns.
MOST_AXES = 24
RESERVED = ("point", "replicate", "range")


@dataclass(frozen=True)
class Unit:
    """What one call is asked: its place in the sweep, parameters, seed and range of trajectories (None: not split)."""

    index: int
    parameters: dict[str, Value]
    seed: int
    first: int | None = None
    n: int | None = None


@dataclass(frozen=True)
class Plan:
    """All units of a sweep: the product of the axes (or a list of points), times replicates, times ranges of trajectories."""

    axes: dict[str, tuple[Value, ...]]
    listed: bool
    replicates: int
    seed: int
    paths: int | None
    per_unit: int | None

    @classmethod
    def make(
        cls, axes: Any, *, replicates: Any = None, seed: Any = None, paths: Any = None, per_unit: Any = None
    ) -> Plan:  # fmt: skip
        """Check everything that was asked; None stands for the defaults."""
        replicates, seed = 1 if replicates is None else replicates, 0 if seed is None else seed
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"seed must be an integer, got {type(seed).__name__}: {seed!r}")
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed must be in [0, 2**63), got {seed}")
        listed = isinstance(axes, (list, tuple))
        checked = _points(axes) if listed else _axes({} if axes is None else axes)
        if paths is None and per_unit is not None:
            raise ValueError(f"per_unit={per_unit} splits an ensemble of paths=... trajectories, which is missing")
        if paths is not None:
            paths = _count("paths", paths)
            per_unit = _range(paths) if per_unit is None else _count("per_unit", per_unit)
            if paths % per_unit:
                near = next(k for k in range(min(per_unit, PER_UNIT), 0, -1) if paths % k == 0)
                raise ValueError(
                    f"paths={paths} is no multiple of per_unit={per_unit}: all ranges must be alike; e.g. per_unit={near}"
                )
        return cls(checked, listed, _count("replicates", replicates), int(seed), paths, per_unit)

    @property
    def ranges(self) -> int:
        return 1 if self.paths is None or self.per_unit is None else self.paths // self.per_unit

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of points along each axis, or of points in the list."""
        if self.listed:
            return (len(next(iter(self.axes.values()))),)
        return tuple(len(values) for values in self.axes.values())

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the table of units, with all axes."""
        return (*self.grid, self.replicates, self.ranges)

    @property
    def dims(self) -> tuple[str, ...]:
        return (*(("point",) if self.listed else tuple(self.axes)), "replicate", "range")

    @property
    def points(self) -> int:
        return math.prod(self.grid)

    @property
    def size(self) -> int:
        return self.points * self.replicates * self.ranges

    def parameters(self, point: int) -> dict[str, Value]:
        """The parameters of a point by its number, the last axis the fastest."""
        if self.listed:
            return {name: values[point] for name, values in self.axes.items()}
        found = {}
        for name, values in reversed(self.axes.items()):
            point, i = divmod(point, len(values))
            found[name] = values[i]
        return dict(reversed(found.items()))

    def point(self, index: int) -> int:
        """The number of the point that a unit belongs to."""
        return index // (self.replicates * self.ranges)

    def unit(self, index: int) -> Unit:
        rest, piece = divmod(index, self.ranges)
        point, replicate = divmod(rest, self.replicates)
        parameters = self.parameters(point)
        seed = unit_seed(self.seed, replicate, parameters)
        if self.per_unit is None:
            return Unit(index, parameters, seed)
        return Unit(index, parameters, seed, piece * self.per_unit, self.per_unit)

    def find(self, parameters: Mapping[str, Any]) -> int:
        """The number of the point with these parameters, which may leave out axes of one value.

        Raises
        ------
        KeyError
            If there is none: names what is near.
        """
        unknown = sorted(set(parameters) - set(self.axes))
        if unknown:
            raise KeyError(f"the sweep has no axis {unknown[0]!r}; it has {', '.join(self.axes) or 'none'}")
        if self.listed:
            for same in (_same, _near):
                hits = [p for p in range(self.points) if all(same(self.axes[n][p], v) for n, v in parameters.items())]
                if hits:
                    break
            if len(hits) != 1:
                raise KeyError(f"{len(hits)} points of the sweep have {_words(parameters)}; give parameters that only one has")
            return hits[0]
        point = 0
        for name, values in self.axes.items():
            if name not in parameters and len(values) > 1:
                raise KeyError(f"{name} is missing: one of {_some(values)}")
            wanted = parameters.get(name, values[0])
            places = (i for same in (_same, _near) for i, value in enumerate(values) if same(value, wanted))
            place = next(places, None)
            if place is None:
                raise KeyError(f"{name}={wanted!r} is not on its axis: {_some(values)}")
            point = point * len(values) + place
        return point

    def as_words(self) -> dict[str, str]:
        """What the units depend on, as text, to compare two calls."""
        words = {name: json.dumps(values) for name, values in self.axes.items()}
        kind = "a list of points" if self.listed else "all combinations"
        axes = {"axes": f"{', '.join(self.axes) or 'none'}, {kind}", **{f"axis {n}": w for n, w in words.items()}}
        counts = {n: repr(getattr(self, n)) for n in ("replicates", "seed", "paths", "per_unit")}
        return {**axes, **counts}

    def as_json(self) -> str:
        names = ("listed", "replicates", "seed", "paths", "per_unit")
        return json.dumps({"axes": self.axes, **{name: getattr(self, name) for name in names}})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        given = json.loads(text)
        axes = given["axes"]
        if given["listed"]:
            axes = [dict(zip(axes, row, strict=True)) for row in zip(*axes.values(), strict=True)]
        return cls.make(axes, **{name: given[name] for name in _SETTINGS})


_SETTINGS = ("replicates", "seed", "paths", "per_unit")


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer)) or value != int(value):
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__}: {value!r}")
    if not 1 <= value < 2**63:
        raise ValueError(f"{name} must be >= 1, got {value}")
    return int(value)


def _range(paths: int) -> int:
    """The largest divisor of `paths` that is not above PER_UNIT."""
    size = next(k for k in range(min(paths, PER_UNIT), 0, -1) if paths % k == 0)
    if size < min(paths, PER_UNIT) // 1000:
        raise ValueError(f"paths={paths} can only be split into ranges of {size}: choose a rounder number, or per_unit=")
    return size


def _axes(axes: Any) -> dict[str, tuple[Value, ...]]:
    if not isinstance(axes, Mapping):
        raise TypeError(f"axes must be a dict of names and values, or a list of dicts, got {type(axes).__name__}: {axes!r}")
    checked = {}
    for name, values in axes.items():
        if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
            raise TypeError(f"the values of the axis {name!r} must be a list or an array, got {type(values).__name__}: {values!r}")
        given = tuple(_value(name, v) for v in values)
        if not given:
            raise ValueError(f"the axis {name!r} has no values")
        seen = set()
        for value in given:
            if _canonical(value) in seen:
                raise ValueError(f"the axis {name!r} has the value {value!r} twice; use replicates= to repeat a point")
            seen.add(_canonical(value))
        checked[_name(name)] = given
    if len(checked) > MOST_AXES:
        raise ValueError(f"{len(checked)} axes are too many: {MOST_AXES} at most; fix some values, or give a list of points")
    return checked


def _points(points: Sequence[Any]) -> dict[str, tuple[Value, ...]]:
    if not points:
        raise ValueError("axes is an empty list: give at least one point, e.g. [{'D': 0.1}]")
    seen: set[str] = set()
    for i, point in enumerate(points):
        if not isinstance(point, Mapping):
            raise TypeError(
                f"a list of axes holds points as dicts, e.g. {{'D': 0.1}}; number {i} is {type(point).__name__}: {point!r}"
            )
        if not point or set(point) != set(points[0]):
            raise ValueError(
                f"point {i} has the names {sorted(point)}, but the first one {sorted(points[0])}: they must be the same"
            )
        for name, value in point.items():
            _value(name, value)
        text = json.dumps({name: _canonical(_value(name, v)) for name, v in point.items()}, sort_keys=True)
        if text in seen:
            raise ValueError(f"point {i}, {dict(point)}, is there twice; use replicates= to repeat points")
        seen.add(text)
    return {_name(name): tuple(_value(name, point[name]) for point in points) for name in points[0]}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d][\w.\-]*", name) or name in RESERVED:
        raise ValueError(f"{name!r} cannot be the name of an axis: letters, digits, '_', '.' and '-', but none of {RESERVED}")
    return name


def _value(name: Any, value: Any) -> Value:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"values of the axis {name!r} must be numbers, truths or texts, got {type(value).__name__}: {value!r}")
    if value != value or "\0" in str(value):
        raise ValueError(f"the axis {name!r} has the value {value!r}, which cannot be looked up")
    return value


def _same(a: Value, b: Any) -> bool:
    """The same number, truth or text; tables and lists of a configuration are texts."""
    b = b.item() if isinstance(b, np.generic) else json.dumps(b) if isinstance(b, (dict, list)) else b
    if isinstance(a, (bool, str)) or isinstance(b, (bool, str)):
        return type(a) is type(b) and a == b
    return bool(a == b)


def _near(a: Value, b: Any) -> bool:
    """The same but for rounding, where no value is quite the same: 0.3 finds 0.1 * 3."""
    floats = (float, np.floating)
    return isinstance(a, floats) and isinstance(b, floats) and math.isclose(a, b, rel_tol=1e-12)


def _some(values: Sequence[Value]) -> str:
    shown = [repr(v) for v in values]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:4], "...", *shown[-2:]])


def _words(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "no parameters"


def each_missing(finished: Callable[[int, int], Any], size: int, block: int = 1 << 16) -> Iterator[int]:
    """The units that are not finished, in their order, looked up block by block."""
    for lo in range(0, size, block):
        hi = min(lo + block, size)
        yield from (lo + int(i) for i in np.flatnonzero(~finished(lo, hi)))


# ---- seeds --------------------------------------------------------------------------------------------------------------


def _canonical(value: Value) -> str:
    """As JSON; 1 and 1.0 are the same number, and so are 0.0 and -0.0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 and float(value) == value:
        value = float(value) + 0.0
    return json.dumps(value)


def unit_seed(seed: int, replicate: int, parameters: Mapping[str, Value]) -> int:
    """63 bits of the BLAKE2b hash of the seed of the sweep, the replicate, and the parameters in the order of their names.

    Examples
    --------
    >>> unit_seed(0, 0, {"D": 1}) == unit_seed(0, 0, {"D": 1.0}) != unit_seed(0, 1, {"D": 1})
    True
    """
    parts = [f"{json.dumps(name)}:{_canonical(parameters[name])}" for name in sorted(parameters)]
    text = f"fpsolve sweep {seed} {replicate} {{{','.join(parts)}}}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
