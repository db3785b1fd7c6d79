"""From the tables that were given to tables with every key filled in; dotted keys and axes of sweeps."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ._config_keys import nearest
from ._config_tables import Form, Task, confined, find_task, form_of, named, required, resolve_table

__all__ = ["NOUNS", "expand_axes", "resolve", "set_key", "sweep_table"]

NOUNS = ("potential", "ensemble", "noise", "process", "grid", "solver", "region", "regions")
_COMMON = ("task", "run", "sweep")
#: Tables that need not be written: what they say by default is what most mean.
_IMPLIED = ("process", "solver")


def _run_table(
    seed: int | None = None, out: str | None = None, threads: int | None = None, checkpoint: str | None = None,
    checkpoint_every: float = 60.0,
) -> None:  # fmt: skip
    """The keys of [run]."""


def sweep_table(
    axes: Mapping[str, Any], replicates: int = 1, seed: int | None = None, paths: int | None = None, per_unit: int | None = None,
    out: str | None = None,
) -> None:  # fmt: skip
    """The keys of [sweep]."""


def _range(start: float, stop: float, num: int, scale: str = "linear") -> None:
    """The keys of a range of values of an axis."""


def resolve(given: dict[str, Any], where: str) -> dict[str, Any]:
    """All tables with all keys, in a fixed order."""
    for name, table in given.items():
        if not isinstance(table, dict):
            raise TypeError(f"{where}: {name} stands outside of the tables; put it into one of {_brackets((*NOUNS, *_COMMON))}")
    _known_tables(given, where)
    if "task" not in given:
        raise ValueError(f'{where}: the table [task] is missing; say what is asked, e.g. [task] name = "stationary"')
    with named(f"{where}: [task]"):
        if given["task"].get("name") is None:
            raise ValueError("the key 'name' is missing; say what is asked, e.g. name = \"stationary\"")
        kind = given.get("process", {}).get("kind", "")
        task = find_task(given["task"]["name"], kind if isinstance(kind, str) else "")
        elsewhere = {"seed": "it belongs to [run]", "threads": "it belongs to [run]", "progress": "it is chosen by who runs it",
                     "checkpoint": "it belongs to [run]", "checkpoint_every": "it belongs to [run]", "out": "it belongs to [run]",
                     "scheme": "it belongs to [solver]"}  # fmt: skip
        asked = resolve_table(task.form, given["task"], elsewhere)
    tables = _plugin_tables(given, task, where) if task.plugin is not None else _nouns(given, task, asked, kind, where)
    _all_used(given, tables, task, where)
    tables["task"] = asked
    with named(f"{where}: [run]"):
        tables["run"] = run = resolve_table(Form(_run_table), given.get("run", {}))
        _check_run(run, task)
    if "sweep" in given:
        with named(f"{where}: [sweep]"):
            tables["sweep"] = sweep = resolve_table(Form(sweep_table), given["sweep"])
            _check_counts(sweep, {"replicates": 1, "paths": 1, "per_unit": 1, "seed": 0})
            if sweep["out"] is not None:
                confined("out", sweep["out"])
    return tables


def _brackets(names: Sequence[str]) -> str:
    return ", ".join(f"[{name}]" for name in names)


def _known_tables(given: Mapping[str, Any], where: str) -> None:
    """Refuse a table that no task of fpsolve has, unless the task is another package's, which knows its own."""
    known = [*NOUNS, *_COMMON]
    name = given.get("task", {}).get("name")
    for table in given:
        if table in known:
            continue
        with named(f"{where}: [task]"):
            task = None if name is None else find_task(name, "")
        more = [] if task is None or task.plugin is None else list(task.plugin.tables)
        if table not in more:
            raise ValueError(f"{where}: unknown table [{table}]{nearest(table, [*known, *more])}")


def _nouns(given: Mapping[str, Any], task: Task, asked: Mapping[str, Any], kind: Any, where: str) -> dict[str, Any]:
    """The tables of the objects that a task takes, and of those that these take."""
    tables: dict[str, Any] = {}

    def need(table: str, must: bool, who: str) -> None:
        noun, _, name = table.partition(".")
        if table in tables or (name and name in tables.get(noun, {})):
            return
        content = given.get(noun, {}).get(name) if name else given.get(noun, {} if must and noun in _IMPLIED else None)
        if content is None:
            if must:
                raise ValueError(f"{where}: the table [{table}] is missing, which {who} needs")
            return
        if table == "regions":
            if not content:
                raise ValueError(f"{where}: [regions] is empty; give each region a table, e.g. [regions.left]")
            for word in content:
                need(f"regions.{word}", True, who)
            return
        with named(f"{where}: [{table}]"):
            if not isinstance(content, dict):
                raise TypeError(f"must be a table, got {type(content).__name__}: {content!r}")
            form = form_of("region" if noun == "regions" else noun, content, kind if isinstance(kind, str) else "")
            resolved = resolve_table(form, content)
        if name:
            tables.setdefault(noun, {})[name] = resolved
        else:
            tables[noun] = resolved
        of = f"{form.choice[1]} [{table}]" if form.choice[0] else f"[{table}]"
        for other, needed in required(form):
            need(other, needed, of)

    who = f"the task {task.name}"
    for table, must in required(task.form):
        need(table, must, who)
    if task.method:
        for table in ("process", "grid", "solver"):
            need(table, True, who)
    if any(asked[name] == "grid" and "grid" in key.kinds for name, key in task.form.values.items()):
        need("grid", True, who)
    return {noun: tables[noun] for noun in NOUNS if noun in tables}


def _plugin_tables(given: Mapping[str, Any], task: Task, where: str) -> dict[str, Any]:
    """The tables of a task of another package: a function and its hidden keywords for each; optional ones may be left out."""
    tables: dict[str, Any] = {}
    for name, (function, hidden) in task.plugin.tables.items():
        if name not in given and name in task.plugin.optional:
            continue
        with named(f"{where}: [{name}]"):
            tables[name] = resolve_table(Form(function, hidden=frozenset(hidden)), given.get(name, {}))
    return tables


def _all_used(given: Mapping[str, Any], tables: Mapping[str, Any], task: Task, where: str) -> None:
    """Refuse tables that nothing asks for: they would be thought to matter."""
    for name, content in given.items():
        if name in _COMMON:
            continue
        spare = [name] if name not in tables else []
        if name == "regions" and not spare:
            spare = [f"regions.{word}" for word in content if word not in tables["regions"]]
        if spare:
            process = f" of this process ({tables['process']['kind']})" if "process" in tables else ""
            used = ", ".join(f"[{t}]" for t in tables) or "no tables of objects"
            raise ValueError(f"{where}: the table [{spare[0]}] is not used by the task {task.name}{process}, which takes {used}")


def _check_run(run: Mapping[str, Any], task: Task) -> None:
    _check_counts(run, {"seed": 0, "threads": 1})
    if run["out"] is not None:
        confined("out", run["out"])
    if run["checkpoint"] is not None:
        confined("checkpoint", run["checkpoint"])
        if "checkpoint" not in task.parameters:
            raise ValueError(f"checkpoint: the task {task.name} keeps none; leave it out")
    if not run["checkpoint_every"] > 0.0:
        raise ValueError(f"checkpoint_every must be > 0 seconds, got {run['checkpoint_every']!r}")


def _check_counts(table: Mapping[str, Any], lowest: Mapping[str, int]) -> None:
    for name, low in lowest.items():
        if table[name] is not None and table[name] < low:
            raise ValueError(f"{name} must be >= {low}, got {table[name]}")


def set_key(tables: dict[str, Any], resolved: Mapping[str, Any], key: Any, value: Any, where: str) -> None:
    """Put a value at a dotted key of the tables that were given; below a key of a table only what is there can be replaced."""
    if not isinstance(key, str) or not all(key.split(".")):
        raise ValueError(f"{where}: {key!r} is not a dotted key; write the table and the key, e.g. 'noise.D'")
    table, *parts = key.split(".")
    if not parts:
        tables[table] = value
        return
    names = [table, *(parts[:1] if table == "regions" and len(parts) > 1 else [])]
    first, *rest = parts[len(names) - 1 :]
    at, default = tables, resolved
    for name in names:
        at, default = at.setdefault(name, {}), default.get(name, {})
        if not isinstance(at, dict):
            raise TypeError(f"{where}: [{'.'.join(names)}] must be a table, got {type(at).__name__}: {at!r}")
    if not rest:
        if first in ("kind", "name") and at.get(first, default.get(first)) != value:
            _forget_defaults(names[0], at, tables)
        at[first] = value
        return
    if at.get(first) is None and default.get(first) is not None:
        at[first] = copy.deepcopy(default[first])
    inner: Any = at
    for i, part in enumerate([first, *rest]):
        so_far = ".".join([*names, first, *rest][: len(names) + i])
        if isinstance(inner, dict):
            if part not in inner:
                raise ValueError(f"{where}: unknown key {part!r} in {so_far}{nearest(part, inner)}")
            place: Any = part
        elif isinstance(inner, list):
            if not (part.isascii() and part.isdigit() and int(part) < len(inner)):
                raise ValueError(f"{where}: {so_far} is a list of {len(inner)} values; give 0 ... {len(inner) - 1}, not {part!r}")
            place = int(part)
        else:
            raise ValueError(f"{where}: {so_far} is {inner!r}, which has no part {part!r}")
        if i == len(rest):
            inner[place] = value
        else:
            inner = inner[place]


def _forget_defaults(noun: str, table: dict[str, Any], tables: Mapping[str, Any]) -> None:
    """Take out of a resolved table what its kind has by default: another kind has other keys."""
    with contextlib.suppress(ValueError, TypeError):
        kind = str(tables.get("process", {}).get("kind", ""))
        if noun == "task":
            keys = find_task(table.get("name"), kind).form.values
        else:
            keys = form_of("region" if noun in ("region", "regions") else noun, table, kind).values
        for name, key in keys.items():
            if not key.required and name in table and table[name] == key.default:
                del table[name]


# ---- dotted keys and axes -----------------------------------------------------------------------------------------------


def expand_axes(given: dict[str, Any], where: str) -> dict[str, list[Any]]:
    """The axes of the sweep, written out in the tables as well; a key that stands nowhere else takes their first value."""
    sweep = given.get("sweep")
    if not isinstance(sweep, dict) or not isinstance(sweep.get("axes"), dict):
        return {}
    with named(f"{where}: [sweep.axes]"):
        out = {key: _values(key, content) for key, content in _leaves(sweep["axes"], "")}
    if not out:
        raise ValueError(f'{where}: [sweep.axes] is empty; give a key and its values, e.g. "noise.D" = [0.1, 0.2]')
    for key, values in out.items():
        if key.partition(".")[0] == "sweep":
            raise ValueError(f"{where}: [sweep.axes] {key}: an axis is a key of another table, not of [sweep]")
        table, *parts = key.split(".")
        at: Any = given
        for part in (table, *parts):
            at = at.get(part) if isinstance(at, dict) else at
        if at is None:
            set_key(given, {}, key, values[0], where)
    sweep["axes"] = out
    return out


def _leaves(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys of what is no table of tables: ``noise.D = [...]`` is read by TOML as a table in a table."""
    for name, content in table.items():
        key = f"{before}{name}"
        if isinstance(content, dict) and not {"start", "stop", "num"} & content.keys() and content:
            yield from _leaves(content, f"{key}.")
        else:
            yield key, content


def _values(key: str, content: Any) -> list[Any]:
    """A list of values as it is, or those of a range."""
    if isinstance(content, list):
        if not content:
            raise ValueError(f"{key} has no values; give a list of at least one")
        return content
    if not isinstance(content, dict):
        raise TypeError(f"{key} must be a list of values or {{start, stop, num}}, got {type(content).__name__}: {content!r}")
    with named(f"{key}:"):
        table = resolve_table(Form(_range), content)
        start, stop, num, scale = (table[name] for name in ("start", "stop", "num", "scale"))
        if scale not in ("linear", "log"):
            raise ValueError(f"scale = {scale!r} is not known{nearest(scale, ['linear', 'log'])}")
        if not 1 <= num <= 1_000_000:
            raise ValueError(f"num must be from 1 to 1000000, got {num}")
        if not np.isfinite([start, stop]).all():
            raise ValueError(f"start and stop must be finite, got {start!r} and {stop!r}")
        if scale == "log" and not (start > 0.0 and stop > 0.0):
            raise ValueError(f"a logarithmic range needs start and stop > 0, got {start!r} and {stop!r}")
    whole = isinstance(start, int) and isinstance(stop, int)
    values = (np.linspace if scale == "linear" else np.geomspace)(start, stop, num).tolist()
    return [round(v) for v in values] if whole and all(abs(v - round(v)) < 1e-9 * abs(v) for v in values) else values
