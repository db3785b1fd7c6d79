"""A question in a file: TOML with one table per noun, checked whole before any work, and stored with the result.

The keys of a table are the keywords of the Python function that its `kind` or `name` stands for, with its defaults. What is not
understood is an error that names the nearest; expressions pass the whitelisted parser; paths lie below the folder of the run.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._config_agree import agree, arguments, made_tables
from ._config_keys import plain
from ._config_resolve import expand_axes, resolve, set_key, sweep_table
from ._config_tables import Form, Objects, Task, find_task, named, resolve_table
from ._shown import Quantity, Shown

__all__ = ["Config", "read_config"]

_MAX_BYTES = 16 << 20


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
        table = self.as_dict().get("sweep") or resolve_table(Form(sweep_table), {"axes": {}})
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
            set_key(tables, resolved, key, plain(value, f"{self.source}: {key}"), self.source)
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
            from ._calls import as_values
            from ._units import Plan

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
        for table in made_tables(tables):
            objects(table)
        with named(where):
            agree(task, objects, tables)

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
        given = {**arguments(task, objects, tables), **{k: v for k, v in extra.items() if k in task.parameters}}
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
    expanded = expand_axes(given, where)
    resolved = resolve(given, where)
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
