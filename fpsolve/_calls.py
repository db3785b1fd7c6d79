"""What a sweep calls, a function or a configuration, and how one unit of it is run."""

from __future__ import annotations

import functools
import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._columns import Parts, take_apart
from ._fingerprint import describe_function, machine
from ._threads import one_thread, single_threaded_blas
from ._units import Plan, Unit, Value

__all__ = ["Call", "ConfigCall", "Outcome", "as_values", "run_unit", "run_units"]

#: Values of axes that are tried out before work.
CHECKED = 1000


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
    with single_threaded_blas(), one_thread(alone), np.errstate():  # what a unit sets of the last is not for the next
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
