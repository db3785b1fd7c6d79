"""A question in a file: TOML with one table per noun, checked whole before any work, and stored with the result.

The keys of a table are the keywords of the Python function that its `kind` or `name` stands for, with its defaults. What is not
understood is an error that names the nearest; expressions pass the whitelisted parser; paths lie below the folder of the run.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ._config_keys import nearest, plain
from ._config_tables import (
    Form,
    Objects,
    Task,
    confined,
    converted,
    find_task,
    form_of,
    named,
    required,
    resolve_table,
)
from ._shown import Quantity, Shown
from .chains import SGDChain
from .grid import Region
from .process import Underdamped

__all__ = ["Config", "read_config"]

_NOUNS = ("potential", "ensemble", "noise", "process", "grid", "solver", "region", "regions")
_COMMON = ("task", "run", "sweep")
#: Tables that need not be written: what they say by default is what most mean.
_IMPLIED = ("process", "solver")
_MAX_BYTES = 16 << 20
_PATHS_ENGINE = ("simulate", "escape_times", "multilevel_splitting")


def _run_table(
    seed: int | None = None, out: str | None = None, threads: int | None = None, checkpoint: str | None = None,
    checkpoint_every: float = 60.0,
) -> None:  # fmt: skip
    """The keys of [run]."""


def _sweep_table(
    axes: Mapping[str, Any], replicates: int = 1, seed: int | None = None, paths: int | None = None, per_unit: int | None = None,
    out: str | None = None,
) -> None:  # fmt: skip
    """The keys of [sweep]."""


def _range(start: float, stop: float, num: int, scale: str = "linear") -> None:
    """The keys of a range of values of an axis."""


def read_config(source: str | os.PathLike[str] | Mapping[str, Any]) -> Config:
    """Read a configuration: a TOML file, a result file that stores one, or a dict of tables.

    Parameters
    ----------
    source : path or dict
        A file of TOML, or an HDF5 file written by ``fpsolve run``. A dict has the tables as dicts; None means a default.

    Returns
    -------
    Config

    Raises
    ------
    FileNotFoundError, OSError
        If the file cannot be read.
    ValueError, TypeError
        For TOML that is not valid (line and column are named), tables and keys that are not known (the nearest is named), missing
        keys, values of a wrong type, tables that the task does not use, and paths that lead out of the folder.

    Examples
    --------
    >>> config = read_config({
    ...     "potential": {"expression": "(x**2 - 1)**2"},
    ...     "noise": {"D": 0.5},
    ...     "grid": {"axes": [[-2.5, 2.5, 100]]},
    ...     "task": {"name": "stationary"},
    ... })
    >>> config
    Config('stationary', process 'overdamped')
    >>> config.run().mass
    1.000
    >>> read_config({**config.as_dict(), "nose": {"D": 0.5}})
    Traceback (most recent call last):
    ...
    ValueError: config: unknown table [nose]; did you mean 'noise'?
    """
    if isinstance(source, Mapping):
        return _config(plain(source, "config:"), "config", axes=True)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a config is the path of a TOML file or a dict of tables, got {type(source).__name__}: {source!r}")
    where = os.fspath(source)
    return _config(plain(_read(Path(where).expanduser(), where), f"{where}:"), where, axes=True)


def _read(path: Path, where: str) -> dict[str, Any]:
    """The tables in a file."""
    if not path.exists():
        raise FileNotFoundError(f"the config {where} does not exist")
    if not path.is_file():
        raise ValueError(f"the config {where} is not a file")
    with open(path, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if data.startswith(b"\x89HDF"):
        return _stored(path, where)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"{where} is larger than {_MAX_BYTES >> 20} MB, which no config is")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not a text file in UTF-8: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is not valid TOML: {error}") from None


def _stored(path: Path, where: str) -> dict[str, Any]:
    """The tables stored in a result file, whose arrays are not read."""
    import h5py

    from ._tree import read_dataset
    from .io import _check_schema, _open

    try:
        with _open(path) as file:
            _check_schema(file)
            here = isinstance(file.get("config", getlink=True), h5py.HardLink) and isinstance(file["config"], h5py.Dataset)
            text = read_dataset(file["config"]) if here else None
        tables = json.loads(text) if isinstance(text, str) else None
    except MemoryError:
        raise
    except Exception as error:  # the file may come from anywhere; HDF5 raises what it likes
        raise ValueError(f"the config stored in {where} cannot be read: {error}") from error
    if text is None:
        raise ValueError(f"{where} stores no config: it was not written by `fpsolve run`")
    if not isinstance(tables, dict):
        raise ValueError(f"the config stored in {where} cannot be read: it is no table")
    return tables


@dataclass(frozen=True)
class Config(Shown):
    """A question that was read and understood: tables with every key filled in. Made by :func:`read_config`.

    It does not change, compares equal to a config of the same resolved tables, and can be pickled.

    Attributes
    ----------
    source : str
        The file, in front of messages.
    task : str
        Name of the task.
    axes : dict of str to list
        Dotted keys of [sweep.axes] and their values.
    sweep : dict
        The other keys of [sweep]: replicates, seed, paths, per_unit, out.

    Examples
    --------
    >>> config = read_config({"noise": {"D": 0.5}, "potential": {"name": "double_well"}, "task": {
    ...     "name": "kramers_rate", "minimum": [-1.0], "saddle": [0.0]}, "sweep": {"axes": {"noise.D": [0.1, 0.2]}}})
    >>> config.axes
    {'noise.D': [0.1, 0.2]}
    >>> config.replaced({"noise.D": 0.2}).run().value        # sqrt(8 * 4)/(2 pi) exp(-1/0.2)
    0.00607
    >>> config.replaced({"noise.d": 0.1})
    Traceback (most recent call last):
    ...
    ValueError: config: [noise] unknown key 'd' of 'isotropic'; did you mean 'D'?
    """

    _resolved: str
    _given: str = field(compare=False)
    source: str = field(compare=False, default="config")

    def as_dict(self) -> dict[str, Any]:
        """The resolved tables: plain dicts, lists, numbers and texts, every default filled in; `read_config` takes it back."""
        tables: dict[str, Any] = json.loads(self._resolved)
        return tables

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.as_dict()["task"]["name"])

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Dotted keys and the values that they take in a sweep; empty without [sweep.axes]."""
        return dict(self.as_dict().get("sweep", {}).get("axes", {}))

    @property
    def sweep(self) -> dict[str, Any]:
        """The keys of [sweep] besides the axes, with their defaults."""
        table = self.as_dict().get("sweep") or resolve_table(Form(_sweep_table), {"axes": {}})
        return {name: value for name, value in table.items() if name != "axes"}

    def takes(self, keyword: str) -> bool:
        """Whether the task has this keyword: "seed" of those that draw random numbers, "n" of those that take a number of paths.

        Examples
        --------
        >>> config = read_config({"task": {"name": "ou_covariance", "A": [[1.0]], "D": [[0.5]]}})
        >>> config.takes("seed")
        False
        """
        return keyword in self._task.parameters

    @functools.cached_property
    def _task(self) -> Task:
        tables = self.as_dict()
        return find_task(tables["task"]["name"], tables.get("process", {}).get("kind", ""))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_task"}

    def _quantities(self) -> dict[str, Quantity]:
        """Every key with its value."""
        keys = {f"{table}.{key}": value for table, part in self.as_dict().items() for key, value in part.items()}
        return {key: Quantity(value) for key, value in keys.items()}

    def __repr__(self) -> str:
        tables = self.as_dict()
        process = f", process {tables['process']['kind']!r}" if "process" in tables else ""
        axes = f", axes {' x '.join(f'{key} ({len(values)})' for key, values in self.axes.items())}" if self.axes else ""
        source = "" if self.source == "config" else f"{self.source!r}, "
        return f"Config({source}{self.task!r}{process}{axes})"

    def replaced(self, values: Mapping[str, Any]) -> Config:
        """The same question with other values.

        Parameters
        ----------
        values : dict
            Dotted keys and values: ``"noise.D"``, ``"potential.params.k"``, ``"task.x0.1"`` (an entry of a list), or a whole table,
            ``"process"``.

        Raises
        ------
        ValueError, TypeError
            As of `read_config`; keys that are not known name the nearest.
        """
        tables, resolved = json.loads(self._given), self.as_dict()
        if not isinstance(values, Mapping):
            raise TypeError(f"values must be a dict of dotted keys, got {type(values).__name__}: {values!r}")
        for key, value in values.items():
            _set(tables, resolved, key, plain(value, f"{self.source}: {key}"), self.source)
        again = any(str(key).partition(".")[0] == "sweep" for key in values)
        return _config(tables, self.source, axes=again)

    # ---- work -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Make every object and hold them against each other, without doing the work; of a sweep with every value of every axis.

        Raises
        ------
        ValueError, TypeError, FpsolveError
            As the objects and the task raise them, with file and table in front.
        """
        cells = _cells(self)
        if cells:
            from ._units import Plan, as_values

            with named(f"{self.source}: [sweep]"):
                Plan.make(as_values(self.axes)[0], **{k: v for k, v in self.sweep.items() if k != "out"})
            for cell in cells:
                cell._check()
        else:
            self._check()

    def _check(self) -> None:
        tables = self.as_dict()
        task = self._task
        where = f"{self.source}: [task]"
        if task.plugin is not None:
            with named(f"{self.source}:"):
                task.plugin.check(tables)
            return
        objects = Objects(tables, self.source)
        for table in _made_tables(tables):
            objects(table)
        with named(where):
            _agree(task, objects, tables)

    def run(
        self, *, seed: int | None = None, first: int | None = None, n: int | None = None, progress: bool = False
    ) -> Any:  # fmt: skip
        """Do what is asked and return the library's result, the same bits as the call in Python.

        Parameters
        ----------
        seed : int, optional
            Instead of that of [run], for tasks that take one.
        first, n : int, optional
            Trajectories first ... first + n - 1 of the run, for tasks that take these keywords.
        progress : bool
            Show progress bars.

        Returns
        -------
        A result of fpsolve, an array or a tuple of these; of tasks of other packages a dict.

        Raises
        ------
        ValueError, TypeError
            For what `check` refuses, and arguments that the task does not take.
        FpsolveError
            If the computation failed.
        """
        task, tables = self._task, self.as_dict()
        run = tables["run"]
        extra: dict[str, Any] = {}
        for name, value in (("first", first), ("n", n)):
            if value is not None and name not in task.parameters:
                raise ValueError(f"{self.source}: [task] {task.name} does not take {name}: it runs no numbered paths")
            extra |= {} if value is None else {name: value}
        extra |= {"seed": run["seed"] if seed is None else seed, "threads": run["threads"], "progress": progress}
        if run["checkpoint"] is not None:
            extra |= {"checkpoint": run["checkpoint"], "checkpoint_every": run["checkpoint_every"]}
        if task.plugin is not None:
            with named(f"{self.source}:"):
                return task.plugin.run(tables, **{k: v for k, v in extra.items() if k in task.parameters})
        objects = Objects(tables, self.source)
        given = {**_arguments(task, objects, tables), **{k: v for k, v in extra.items() if k in task.parameters}}
        function = getattr(objects.solver, task.name) if task.method else task.form.function
        with named(f"{self.source}: [task] {task.name}:"):
            return function(**given)

    def save(self, path: str | os.PathLike[str], result: Any, *, overwrite: bool = True, **params: Any) -> None:
        """Save a result with the resolved config beside it, so that ``read_config(path)`` asks the same question again.

        Parameters
        ----------
        path : path
            The HDF5 file; :func:`fpsolve.load` reads the result.
        result
            What `run` returned.
        overwrite : bool
            If False, an existing file is an error.
        **params
            What the provenance shall remember besides, such as the wall time.

        Raises
        ------
        TypeError, ValueError, OSError
            As of :func:`fpsolve.save`.
        """
        from . import io
        from ._tree import _kind_of

        kind = _kind_of(result)
        if isinstance(result, Mapping):
            tree: dict[str, Any] = dict(result)
        elif isinstance(result, tuple):
            tree = {f"result_{i}": part for i, part in enumerate(result)}
        else:
            tree = {kind or "result": result}
        attrs = {} if kind is None else {"kind": kind}
        record = io.provenance(task=self.task, **params)
        tables = self.as_dict()
        tables["run"] |= {"out": None, "checkpoint": None}  # the files of this run: asking again shall not overwrite them
        io.save_tree(path, {**tree, "config": json.dumps(tables)}, attrs, record=record, overwrite=overwrite)


# ---- reading ------------------------------------------------------------------------------------------------------------


def _config(given: dict[str, Any], where: str, *, axes: bool) -> Config:
    """The config of plain tables; with `axes` every value of every axis is tried."""
    given = copy.deepcopy(given)
    expanded = _axes(given, where)
    resolved = _resolve(given, where)
    config = Config(json.dumps(resolved), json.dumps(given), where)
    if axes and expanded:
        _cells(config)
    return config


def _cells(config: Config) -> list[Config]:
    """Cells of a sweep in which every value of every axis is met once: the first values of all axes, then one of them changed."""
    axes = config.axes
    if not axes:
        return []
    first = {key: values[0] for key, values in axes.items()}
    others = [{**first, key: value} for key, values in axes.items() for value in values[1:]]
    parts = [
        {name: table for name, table in json.loads(text).items() if name != "sweep"} for text in (config._resolved, config._given)
    ]
    one = Config(json.dumps(parts[0]), json.dumps(parts[1]), config.source)  # long axes need not be read again for every cell
    return [one.replaced(cell) for cell in (first, *others)]


def _resolve(given: dict[str, Any], where: str) -> dict[str, Any]:
    """All tables with all keys, in a fixed order."""
    for name, table in given.items():
        if not isinstance(table, dict):
            raise TypeError(f"{where}: {name} stands outside of the tables; put it into one of {_brackets((*_NOUNS, *_COMMON))}")
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
            tables["sweep"] = sweep = resolve_table(Form(_sweep_table), given["sweep"])
            _check_counts(sweep, {"replicates": 1, "paths": 1, "per_unit": 1, "seed": 0})
            if sweep["out"] is not None:
                confined("out", sweep["out"])
    return tables


def _brackets(names: Sequence[str]) -> str:
    return ", ".join(f"[{name}]" for name in names)


def _known_tables(given: Mapping[str, Any], where: str) -> None:
    """Refuse a table that no task of fpsolve has, unless the task is another package's, which knows its own."""
    known = [*_NOUNS, *_COMMON]
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
    return {noun: tables[noun] for noun in _NOUNS if noun in tables}


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


# ---- dotted keys and axes -----------------------------------------------------------------------------------------------


def _set(tables: dict[str, Any], resolved: Mapping[str, Any], key: Any, value: Any, where: str) -> None:
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


def _axes(given: dict[str, Any], where: str) -> dict[str, list[Any]]:
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
            _set(given, {}, key, values[0], where)
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


# ---- objects and arguments ----------------------------------------------------------------------------------------------


def _made_tables(tables: Mapping[str, Any]) -> list[str]:
    """The tables that stand for objects, as `Objects` calls them."""
    plain_ones = [noun for noun in _NOUNS if noun in tables and noun not in ("solver", "regions")]
    return [*plain_ones, *(f"regions.{name}" for name in tables.get("regions", {}))]


def _arguments(task: Task, objects: Objects, tables: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of the task's function."""
    asked = {name: converted(name, value) for name, value in tables["task"].items() if name != "name"}
    keys = task.form.values
    written = {name: objects("grid") if value == "grid" and "grid" in keys[name].kinds else value for name, value in asked.items()}
    return {**objects.given(task.form), **written}


def _agree(task: Task, objects: Objects, tables: Mapping[str, Any]) -> None:
    """Hold the objects against each other as the task would, before it works."""
    asked = _arguments(task, objects, tables)
    process = objects("process") if "process" in tables else None
    if process is not None:
        dims = {process.dim, 2 * process.dim} if isinstance(process, Underdamped) else {process.dim}
        for name in (t for t in _made_tables(tables) if t.startswith("region")):
            if objects(name).dim not in dims:
                raise ValueError(f"[{name}] is {objects(name).dim}-D, the process {process.dim}-D")
    if task.method:
        regions = [value for value in asked.values() if isinstance(value, Region)]
        _agree_on_grid(process, objects("grid"), tables["solver"], regions, asked)
    elif task.name in _PATHS_ENGINE:
        _agree_on_paths(process, asked)
    if task.name == "multilevel_splitting":
        from ._splitting import _options

        _options(asked["n"], asked["runs"], asked["kill"], asked["inner"])


def _agree_on_grid(
    process: Any, grid: Any, options: Mapping[str, Any], regions: Sequence[Region], asked: Mapping[str, Any]
) -> None:  # fmt: skip
    from ._start import initial_density

    if isinstance(process, SGDChain):
        from .kernel_operator import _check

        _check(process, grid, options["nodes"])
    else:
        from ._exits import start_inside
        from ._phase_space import over_velocities, phase_space
        from .fokker_planck import _check_arguments

        space = phase_space(process)
        _check_arguments(space, grid, options["scheme"], options["max_offset"], options["order"])
        for region in (over_velocities(space, region) for region in regions):
            region.mask(grid)
            if asked.get("at") is not None:
                start_inside(region, asked["at"], grid)
    if "rho0" in asked:
        initial_density(asked["rho0"], grid)


def _agree_on_paths(process: Any, asked: Mapping[str, Any]) -> None:
    from ._model import initial_states, make_model, step_count
    from ._passage import check_inside
    from ._runner import check_count, starting_points

    count = check_count("n", asked["n"])
    if isinstance(process, SGDChain) and not process.fused:
        if asked["dt"] is not None:
            raise ValueError("dt is refused for a chain: its time is the iteration count")
        clock, unit, points = 1.0, "iteration", starting_points(asked["x0"], count, process.dim, 0)
    else:
        model = make_model(process, asked["dt"], asked["method"], asked["walls"])
        clock, unit, points = model.h, model.unit, initial_states(asked["x0"], count, model, 0)
    if "t" in asked:
        step_count(asked["t"], clock, unit)
    if "region" in asked:
        check_inside(points[:, : asked["region"].dim], asked["region"], asked["region"].dim)
