"""Units of a sweep: which there are, what each is asked, and how it is run, wherever that is.

A unit is (parameters, seed, range of trajectories). Its seed is a hash of the seed of the sweep, the replicate and the parameters,
so that a unit is the same whatever other values the axes have, and wherever and whenever it is run.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import BuiltinFunctionType, CodeType, ModuleType
from typing import Any

import numpy as np

from ._columns import Parts, take_apart
from ._threads import one_thread, single_threaded_blas

__all__ = [
    "Call",
    "ConfigCall",
    "Outcome",
    "Plan",
    "Unit",
    "Value",
    "each_missing",
    "machine",
    "run_unit",
    "run_units",
    "unit_seed",
]

Value = bool | int | float | str

#: Values of axes that are tried out before work.
CHECKED = 1000
#: Trajectories of a unit at most, unless `per_unit` says otherwise.
PER_UNIT = 1_000_000
#: Of a table in a file, with replicates, ranges, and what a unit returns.
MOST_AXES = 24
RESERVED = ("point", "replicate", "range")


# ---- which units there are ------------------------------------------------------------------------------------------------


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


# ---- what is called -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A function of the parameters; it is given `seed`, and `first` and `n`, if it takes them."""

    function: Callable[..., Any]
    seeded: bool
    split: bool

    @classmethod
    def make(cls, function: Callable[..., Any], plan: Plan) -> Call:
        """Check that the function takes what it will be given.

        Raises
        ------
        TypeError, ValueError
            If it does not, before any work.
        """
        label = getattr(function, "__qualname__", type(function).__name__)
        given = set(plan.axes)
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise TypeError(f"the parameters of {label} cannot be found out; wrap it: def task(x): return {label}(x)") from None
        kinds = signature.parameters.values()
        open_ended = any(p.kind is p.VAR_KEYWORD for p in kinds)
        names = {p.name for p in kinds if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        seeded = "seed" not in given and ("seed" in names or open_ended)
        split = plan.paths is not None
        taken = given | ({"seed"} if seeded else set()) | ({"first", "n"} if split else set())
        if split and given & {"first", "n"}:
            raise ValueError("first and n are the range of trajectories where paths= is given: they cannot be axes")
        for name in sorted(taken - names) if not open_ended else ():
            why = " (paths= splits an ensemble: the task gets first= and n=)" if name in ("first", "n") and split else ""
            raise TypeError(f"{label}{signature} takes no {name!r}{why}")
        for p in kinds:
            if p.kind is p.POSITIONAL_ONLY or (
                p.default is p.empty and p.name not in taken and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            ):
                raise TypeError(
                    f"{label}{signature} needs {p.name!r}, which is no axis of the sweep: {', '.join(plan.axes) or 'no axes'}"
                )
        if plan.replicates > 1 and not seeded:
            why = "the seed is an axis" if "seed" in given else f"{label}{signature} takes no seed"
            raise ValueError(f"replicates={plan.replicates} would all be the same: {why}")
        return cls(function, seeded, split)

    def __call__(self, unit: Unit) -> Any:
        given: dict[str, Any] = dict(unit.parameters)
        if self.seeded:
            given["seed"] = unit.seed
        if self.split:
            given.update(first=unit.first, n=unit.n)
        return self.function(**given)

    @property
    def words(self) -> dict[str, str]:
        """What tells it from another call."""
        return {"task": describe_function(self.function)}


@dataclass(frozen=True)
class ConfigCall:
    """A configuration, whose entries the parameters replace; as JSON of its tables."""

    tables: str
    seeded: bool
    split: bool
    encoded: tuple[str, ...] = ()

    @classmethod
    def make(cls, config: Any, plan: Plan, encoded: tuple[str, ...] = ()) -> ConfigCall:
        """Check that its task takes what it will be given.

        Raises
        ------
        ValueError, TypeError
            If it does not, or a value of an axis is refused; before any work.
        """
        first = plan.parameters(0)
        others = [{**first, name: value} for name, values in plan.axes.items() for value in values[1:]]
        cells = map(plan.parameters, range(min(plan.points, CHECKED))) if plan.listed else [first, *others[:CHECKED]]
        for name in ("run.out", "run.checkpoint", "run.checkpoint_every"):
            if name in first:
                raise ValueError(f"{name} cannot be an axis: units of a sweep write no files of their own")
        for cell in cells:
            config.replaced(_decoded(cell, encoded))._check()
        if plan.paths is not None and not (config.takes("first") and config.takes("n")):
            raise ValueError(f"paths= splits an ensemble of paths, but the task {config.task} does not run numbered paths")
        seeded = config.takes("seed") and "run.seed" not in plan.axes
        if plan.replicates > 1 and not seeded:
            why = "the seed is an axis" if "run.seed" in plan.axes else f"the task {config.task} draws no random numbers"
            raise ValueError(f"replicates={plan.replicates} would all be the same: {why}")
        tables = config.as_dict()
        tables.pop("sweep", None)  # the plan has it
        run = tables.get("run", {})
        if run.get("checkpoint") is not None:
            raise ValueError("[run] checkpoint is the file of one run: the units of a sweep cannot share it, and need none")
        run.update(out=None, **({"seed": None} if seeded else {}))
        return cls(json.dumps(tables), seeded, plan.paths is not None, encoded)

    def __call__(self, unit: Unit) -> Any:
        given: dict[str, Any] = {"seed": unit.seed} if self.seeded else {}
        if self.split:
            given.update(first=unit.first, n=unit.n)
        return _run_config(self.tables, _decoded(unit.parameters, self.encoded), **given)

    @property
    def words(self) -> dict[str, str]:
        """What tells it from another call, key by key."""
        tables = json.loads(self.tables)
        return {"task": f"configuration {tables.get('task', {}).get('name', '')}", **dict(_leaves("", tables))}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Dotted keys and what they say."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, part)
    else:
        yield path, json.dumps(value)


def as_values(axes: Any) -> tuple[Any, tuple[str, ...]]:
    """The axes of a configuration, whose values may be whole tables and lists: these as JSON, and the names of their axes."""
    points = axes if isinstance(axes, (list, tuple)) else None
    if points is None and not isinstance(axes, Mapping):
        return axes, ()
    pairs = [(n, v) for p in points if isinstance(p, Mapping) for n, v in p.items()] if points is not None else [
        (n, v) for n, values in axes.items() if isinstance(values, (list, tuple)) for v in values
    ]  # fmt: skip
    encoded = tuple(dict.fromkeys(n for n, v in pairs if isinstance(v, (dict, list))))
    if not encoded:
        return axes, ()
    if points is not None:
        return [{n: json.dumps(v) if n in encoded else v for n, v in p.items()} for p in points], encoded
    return {n: [json.dumps(v) for v in values] if n in encoded else values for n, values in axes.items()}, encoded


def _decoded(parameters: Mapping[str, Any], encoded: tuple[str, ...]) -> dict[str, Any]:
    return {name: json.loads(value) if name in encoded else value for name, value in parameters.items()}


def _run_config(tables: str, parameters: Mapping[str, Value], **given: Any) -> Any:
    """What the task of the configuration returns; of several results a dict, of a range of paths what can be merged."""
    found = _read_config(tables).replaced(dict(parameters)).run(**given)
    if "first" in given:
        found = found.statistics()
    return {f"result_{i}": part for i, part in enumerate(found)} if isinstance(found, tuple) else found


@functools.lru_cache(maxsize=4)
def _read_config(tables: str) -> Any:
    from .config import read_config

    return read_config(json.loads(tables))


def describe_function(function: Any) -> str:
    """The name of a function and a hash of its code, its defaults and what it closes over; not of what it calls.

    Examples
    --------
    >>> describe_function(describe_function).split(" #")[0]
    'fpsolve._units.describe_function'
    """
    digest = hashlib.sha256(_depends_on(function).encode()).hexdigest()[:16]
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or type(function).__module__}.{name} #{digest}"


def _depends_on(thing: Any, above: tuple[int, ...] = ()) -> str:
    """All that a thing holds, as text: of functions the code, of objects what they are made of, of arrays every bit."""
    if thing is None or isinstance(thing, (bool, int, float, complex, str, bytes)):
        return repr(thing)
    if id(thing) in above:
        return f"level {above.index(id(thing))}"  # a ring
    inside = (*above, id(thing))

    def named(items: Iterable[tuple[Any, Any]]) -> str:
        return str([(repr(k), _depends_on(v, inside)) for k, v in items])

    if isinstance(thing, functools.partial):
        return f"partial{[_depends_on(x, inside) for x in (thing.func, *thing.args)]}{named(sorted(thing.keywords.items()))}"
    thing = getattr(thing, "py_func", thing)  # compiled by Numba
    code = getattr(thing, "__code__", None)
    if isinstance(code, CodeType):
        cells = [_depends_on(_content(c), inside) for c in getattr(thing, "__closure__", None) or ()]
        defaults = _depends_on(list(getattr(thing, "__defaults__", None) or ()), inside)
        owner = _depends_on(thing.__self__, inside) if inspect.ismethod(thing) else ""
        return f"{_code(code)}{defaults}{named(sorted((getattr(thing, '__kwdefaults__', None) or {}).items()))}{cells}{owner}"
    if isinstance(thing, (np.ndarray, np.generic)):
        return f"{thing.dtype}{thing.shape}{hashlib.sha256(np.ascontiguousarray(thing).tobytes()).hexdigest()}"
    if isinstance(thing, (list, tuple)):
        return f"{type(thing).__name__}{[_depends_on(x, inside) for x in thing]}"
    if isinstance(thing, (set, frozenset)):
        return f"set{sorted(_depends_on(x, inside) for x in thing)}"
    if isinstance(thing, Mapping):
        return named(thing.items())
    if isinstance(thing, (type, ModuleType, BuiltinFunctionType)):
        return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', thing.__name__)}"
    if type(thing).__module__.startswith("fpsolve."):
        from ._checkpoint import describe

        found = describe(thing)
        if found is not None:
            return f"{type(thing).__qualname__} {found}"
    call = getattr(type(thing).__call__, "__code__", None) if callable(thing) else None
    return f"{type(thing).__module__}.{type(thing).__qualname__}{_code(call) if call else ''}{named(_state(thing))}"


def _state(thing: Any) -> list[tuple[str, Any]]:
    """What an object is made of, by name; without what it has worked out and keeps."""
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()) if name != "__weakref__"]
    items = {name: getattr(thing, name) for name in slots if hasattr(thing, name)} | getattr(thing, "__dict__", {})
    kept = {n for kind in type(thing).__mro__ for n, v in vars(kind).items() if isinstance(v, functools.cached_property)}
    if items:
        return sorted((name, value) for name, value in items.items() if name not in kept)
    try:
        rest = thing.__reduce_ex__(2)
    except Exception:  # a file, a lock: nothing that a result should depend on
        return []
    return [("reduced", rest)] if isinstance(rest, str) else [(str(i), part) for i, part in enumerate(rest[1:3])]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is bound later
        return None


def _code(code: CodeType) -> str:
    consts = [
        _code(c) if isinstance(c, CodeType) else repr(sorted(map(repr, c)) if isinstance(c, frozenset) else c)
        for c in code.co_consts
    ]
    return f"{code.co_code.hex()}{consts}{code.co_names}{code.co_varnames}"


# ---- running it -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What came of a unit: its parts, or how it failed; how long it took, and on what machine."""

    parts: Parts | None
    error: str
    seconds: float
    machine: str


def run_unit(call: Call | ConfigCall, unit: Unit, alone: bool) -> Outcome:
    """Run a unit; an exception in it is its outcome. With `alone` the engines use one thread: other units have the other cores."""
    where, parts, error = machine(), None, ""
    with single_threaded_blas(), one_thread(alone):
        begin = time.perf_counter()
        try:
            parts = take_apart(call(unit))
        except (Exception, SystemExit) as problem:
            error = _told(problem)
        return Outcome(parts, error, time.perf_counter() - begin, where)


def _told(problem: BaseException) -> str:
    try:
        return f"{type(problem).__name__}: {problem}"
    except Exception:  # an exception that cannot say what it is
        return type(problem).__name__


def run_units(call: Call | ConfigCall, units: Sequence[Unit], alone: bool) -> list[Outcome]:
    """Some units, one after another."""
    return [run_unit(call, unit, alone) for unit in units]


@functools.cache
def machine() -> str:
    """What the bits of a result depend on besides the unit: processor, versions, and the source of fpsolve, as JSON."""
    from llvmlite import binding

    from . import __version__

    features = ",".join(sorted(name for name, on in binding.get_host_cpu_features().items() if on))
    source = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        source.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes())
    settings = [
        os.environ[k] for k in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT", "OPENBLAS_CORETYPE") if k in os.environ
    ]
    record = {
        "processor": f"{platform.machine()} {binding.get_host_cpu_name()}",
        "features": hashlib.sha256(features.encode()).hexdigest()[:12],
        "python": platform.python_version(),
        **{name: _version(name) for name in ("numpy", "scipy", "numba", "llvmlite")},
        "fpsolve": f"{__version__} #{source.hexdigest()[:12]}",
        **({"settings": " ".join(settings)[:100]} if settings else {}),
    }
    return json.dumps(record)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def each_missing(finished: Callable[[int, int], Any], size: int, block: int = 1 << 16) -> Iterator[int]:
    """The units that are not finished, in their order, looked up block by block."""
    for lo in range(0, size, block):
        hi = min(lo + block, size)
        yield from (lo + int(i) for i in np.flatnonzero(~finished(lo, hi)))
