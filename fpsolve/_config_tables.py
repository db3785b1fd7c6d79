"""Which tables a configuration has: for every noun its constructors, for every task its function and the objects that this takes.

A noun's `kind` (of a landscape: `name`) chooses a constructor, whose keywords are the keys. Resolved tables hold every key with its
value; objects are made from resolved tables. Tasks of other packages are found by the entry-point group ``fpsolve.tasks``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath, PureWindowsPath
from typing import Any

from . import potentials
from ._config_keys import REQUIRED, Key, check_value, keys_of, nearest
from .chains import SGDChain
from .errors import FpsolveError
from .grid import Grid
from .noise import Noise
from .process import Process, Underdamped
from .region import Region
from .samples import Ensemble

__all__ = ["Form", "Objects", "Task", "confined", "find_task", "form_of", "known_tasks", "named", "resolve_table"]

#: Keywords of the run, not of the question: they stand in [run], or are the caller's.
OF_THE_RUN = frozenset(
    {"seed", "threads", "progress", "checkpoint", "checkpoint_every", "chunk", "first", "out", "overwrite", "resume", "record"}
)
#: Of these a constructor needs the dimension only for functions of Python.
_FOR_FUNCTIONS = frozenset({"dim", "noise_dim"})

_NOISES: dict[str, Callable[..., Any]] = {
    "isotropic": Noise.isotropic, "constant": Noise.constant, "low_rank": Noise.low_rank, "diagonal": Noise.diagonal,
    "expression": Noise.from_expression, "factor": Noise.from_factor, "hessian": Noise.hessian,
    "shifted_minima": Noise.shifted_minima, "covariance": Noise.covariance, "levy": Noise.levy,
}  # fmt: skip
_PROCESSES: dict[str, Callable[..., Any]] = {
    "overdamped": Process, "underdamped": Underdamped, "drift": Process.from_drift, "reversible": Process.reversible,
    "ornstein_uhlenbeck": Process.ornstein_uhlenbeck, "tabulated": Process.tabulated, "chain": SGDChain.gaussian,
    "random_shift": SGDChain.random_shift, "ensemble": SGDChain,
}  # fmt: skip
_REGIONS: dict[str, Callable[..., Any]] = {
    "ball": Region.ball, "box": Region.box, "halfspace": Region.halfspace, "sublevel": Region.sublevel,
    "expression": Region.from_expression,
}  # fmt: skip
_CHAINS = ("chain", "random_shift", "ensemble")
#: Kind of a noun whose table does not say.
_USUAL = {"noise": "isotropic", "process": "overdamped"}
#: Functions of the library; methods of the solvers; those of `theory` are all that a file can pose.
_FUNCTIONS = (
    "simulate", "escape_times", "multilevel_splitting", "limit_cycle", "minimum_action_path", "quasipotential", "escape_report",
    "selection_report", "phase_diagram",
)  # fmt: skip
_METHODS = (
    "stationary", "evolve", "spectrum", "current", "entropy_production", "detailed_balance", "mean_exit_time", "exit_time_variance",
    "exit_time_moments", "exit_time_distribution", "escape_rate", "quasi_stationary", "committor", "reactive_current",
    "reactive_rate",
)  # fmt: skip
_GROUP = "fpsolve.tasks"


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Put `where` in front of what goes wrong inside: file and table."""
    try:
        yield
    except FpsolveError as error:
        raise FpsolveError(f"{where} {error}") from error
    except TypeError as error:
        raise TypeError(f"{where} {error}") from error
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{where} {error}") from error


def confined(name: str, path: Any) -> None:
    """Refuse a path that leads out of the folder in which it is used, or is no name of an HDF5 file, which might be anything else.

    Another place is for the user to name, not for a file.

    Examples
    --------
    >>> confined("out", "results/run.h5")
    >>> confined("out", "../run.h5")
    Traceback (most recent call last):
    ...
    ValueError: out = '../run.h5' leads out of the folder; a configuration names files below it, e.g. 'run.h5'
    """
    if not isinstance(path, str):
        raise TypeError(f"{name} must be the path of a file, got {type(path).__name__}: {path!r}")
    parts = PurePath(path)
    windows = PureWindowsPath(path)
    outside = parts.is_absolute() or windows.drive or windows.root or ".." in (*parts.parts, *windows.parts)
    if outside or path.startswith("~"):
        raise ValueError(f"{name} = {path!r} leads out of the folder; a configuration names files below it, e.g. 'run.h5'")
    if parts.suffix not in (".h5", ".hdf5") or not path.isprintable():
        raise ValueError(f"{name} = {path!r} is not the name of an HDF5 file; give one that ends in .h5, e.g. 'run.h5'")


# ---- nouns --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """A constructor and the keys of its table; `choice` is the key that chose it, with its value ("" for none)."""

    function: Callable[..., Any]
    choice: tuple[str, str] = ("", "")
    hidden: frozenset[str] = frozenset()
    #: Key in the table for a parameter of another name.
    spelled: tuple[tuple[str, str], ...] = ()
    #: The constructors of all kinds, where `choice` is one of them.
    kinds: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    @functools.cached_property
    def keys(self) -> dict[str, Key]:
        """Keys of the table, by their names in the table."""
        spelled = dict(self.spelled)
        return {spelled.get(name, name): key for name, key in keys_of(self.function, self.hidden).items()}

    @property
    def values(self) -> dict[str, Key]:
        """Keys that are values."""
        return {name: key for name, key in self.keys.items() if not key.table}

    @property
    def tables(self) -> dict[str, Key]:
        """Parameters that are objects of other tables."""
        return {name: key for name, key in self.keys.items() if key.table}

    def made(self, table: Mapping[str, Any], objects: Mapping[str, Any]) -> Any:
        """What the constructor makes of a resolved table and of objects by parameter."""
        back = {key: name for name, key in self.spelled}
        given = {back.get(k, k): converted(back.get(k, k), v) for k, v in table.items() if k != self.choice[0]}
        axes = given.pop("axes", ()) if self.function is Grid else ()
        return self.function(*axes, **given, **{back.get(k, k): v for k, v in objects.items()})


def converted(name: str, value: Any) -> Any:
    """A value as Python has it, where files can only write lists."""
    if name in ("rho0", "start") and isinstance(value, list) and value and isinstance(value[0], str):
        return tuple(value)
    if (
        name == "C"
        and isinstance(value, list)
        and len(value) == 2
        and _depth(value[0]) >= 2
        and _depth(value[1]) < _depth(value[0])
    ):
        return tuple(value)
    if name == "walls" and isinstance(value, list):
        return [None if axis == [] else [_sides(part) for part in axis] if isinstance(axis, list) else axis for axis in value]
    return value


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else 0


def _sides(part: Any) -> Any:
    return tuple(None if side == "none" else side for side in part) if isinstance(part, list) else part


def form_of(noun: str, table: Mapping[str, Any], process_kind: str = "") -> Form:
    """The constructor that a table of a noun chooses.

    Raises
    ------
    ValueError, TypeError
        If it chooses none, or one that is not known (the nearest is named).
    """
    if noun == "potential":
        return _landscape(table)
    if noun == "ensemble":
        return Form(Ensemble.from_expression, spelled=(("text", "expression"),))
    if noun == "grid":
        return Form(Grid)
    if noun == "solver":
        function, _ = _solver(process_kind in _CHAINS)
        return Form(function, hidden=frozenset({"process", "chain", "grid"}))
    forms = {"noise": _NOISES, "process": _PROCESSES, "region": _REGIONS}[noun]
    kind = table.get("kind", _USUAL.get(noun))
    if kind is None:
        raise ValueError(f"kind is missing; it is one of {', '.join(forms)}")
    if not isinstance(kind, str) or kind not in forms:
        raise ValueError(f"kind = {kind!r} is not known{nearest(kind, forms)}")
    return _form_of_kind(forms, kind)


def _form_of_kind(forms: Mapping[str, Callable[..., Any]], kind: str) -> Form:
    spelled = (("text", "expression"),) if forms is _REGIONS and kind == "expression" else ()
    hidden = _FOR_FUNCTIONS if kind in ("diagonal", "factor", "drift") else frozenset()
    return Form(forms[kind], ("kind", kind), hidden, spelled, forms)


@functools.cache
def _gallery() -> dict[str, Callable[..., Any]]:
    """The landscapes of `potentials`, by name."""
    found = {name: getattr(potentials, name) for name in potentials.__all__}
    return {name: f for name, f in found.items() if getattr(f, "__annotations__", {}).get("return") == "Potential"}


def _landscape(table: Mapping[str, Any]) -> Form:
    name = table.get("name")
    if (name is None) == ("expression" not in table):
        have = "both" if name is not None else "neither"
        raise ValueError(f"give an expression or the name of a landscape, not {have}; names are {', '.join(_gallery())}")
    if name is None:
        return Form(potentials.Potential.from_expression, spelled=(("text", "expression"),))
    if not isinstance(name, str) or name not in _gallery():
        raise ValueError(f"name = {name!r} is not known{nearest(name, _gallery())}")
    return Form(_gallery()[name], ("name", name))


def _solver(chain: bool) -> tuple[Callable[..., Any], type]:
    if chain:
        from .kernel_operator import TransitionKernel

        return TransitionKernel.__init__, TransitionKernel
    from .fokker_planck import FokkerPlanck

    return FokkerPlanck.__init__, FokkerPlanck


def resolve_table(form: Form, table: Mapping[str, Any], elsewhere: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The table with every key, checked.

    `elsewhere` says of further words where they belong.

    Raises
    ------
    ValueError, TypeError
        For an unknown key (the nearest is named), a key that is missing, or a value of a wrong type.
    """
    choice, kind = form.choice
    keys = form.values
    for word in table:
        if word == choice or word in keys:
            continue
        if word in form.tables:
            raise ValueError(f"{word} is not a key here: it is made from the table [{form.tables[word].table}]")
        if elsewhere and word in elsewhere:
            raise ValueError(f"{word} is not a key here: {elsewhere[word]}")
        of = f" of {kind!r}" if choice else ""
        ending = _of_another_kind(word, form) or nearest(word, [*keys, *([choice] if choice else [])])
        raise ValueError(f"unknown key {word!r}{of}{ending}")
    out: dict[str, Any] = {choice: kind} if choice else {}
    for word, key in keys.items():
        value = table.get(word)
        if value is None and key.required:
            of = f", which {kind!r} needs" if choice else ""
            raise ValueError(f"the key {word!r} is missing{of}")
        out[word] = key.default if value is None else value
        if value is not None:
            try:
                check_value(word, value, key.kinds)
            except TypeError as error:
                text = isinstance(value, str) and "expression" in form.kinds
                raise TypeError(f"{error}{_of_another_kind('expression', form) if text else ''}") from None
    return out


def _of_another_kind(word: str, form: Form) -> str:
    """The end of a message about a key that is the name of another kind, or one of its keys; empty if it is neither."""
    kinds = {kind: _form_of_kind(form.kinds, kind).values for kind in form.kinds if kind != form.choice[1]}
    if word in kinds:
        return f"; {word!r} is a kind of its own, with the keys {', '.join(kinds[word]) or 'none'}: write kind = {word!r}"
    found = [kind for kind, keys in kinds.items() if word in keys]
    return f"; it is a key of kind = {' or '.join(map(repr, found))}" if found else ""


# ---- tasks --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What is asked: a function of the library, a method of a solver, or a task of another package (`plugin`)."""

    name: str
    form: Form
    method: bool = False
    plugin: Any = None

    @functools.cached_property
    def parameters(self) -> frozenset[str]:
        """Names of all parameters of the function, those of the run among them."""
        import inspect

        if self.plugin is not None:
            return frozenset(inspect.signature(self.plugin.run).parameters) - {"tables"}
        return frozenset(inspect.signature(self.form.function).parameters)


@functools.cache
def _theory() -> dict[str, Callable[..., Any]]:
    """The closed forms that tables can pose, those with the name of another task under "theory." and their name."""
    from . import theory

    out = {}
    for name in theory.__all__:
        keys = keys_of(getattr(theory, name))
        if all(key.table != "?" for key in keys.values()):
            out[f"theory.{name}" if name in _METHODS or name in _FUNCTIONS else name] = getattr(theory, name)
    return out


def _plugins() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=_GROUP)}


def known_tasks() -> tuple[str, ...]:
    """Names of all tasks, those of installed packages included."""
    return tuple(sorted({*_FUNCTIONS, *_METHODS, *_theory(), *_plugins()}))


def find_task(name: Any, process_kind: str) -> Task:
    """The task of a name.

    Raises
    ------
    ValueError, TypeError
        If there is none (the nearest is named), or processes of this kind have no such question.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be the name of a task, got {type(name).__name__}: {name!r}")
    choice = ("name", name)
    if name in _METHODS:
        _, solver = _solver(process_kind in _CHAINS)
        if not hasattr(solver, name):
            raise ValueError(f"name = {name!r} is not a question to a {solver.__name__}, which chains have; use a process in time")
        return Task(name, Form(getattr(solver, name), choice, OF_THE_RUN), method=True)
    if name in _FUNCTIONS:
        import fpsolve

        hidden = OF_THE_RUN | ({"save"} if name == "phase_diagram" else set())
        return Task(name, Form(getattr(fpsolve, name), choice, frozenset(hidden)))
    if name in _theory():
        return Task(name, Form(_theory()[name], choice, OF_THE_RUN))
    plugins = _plugins()
    if name in plugins:
        plugin = plugins[name].load()
        return Task(name, Form(plugin.options, choice, OF_THE_RUN), plugin=plugin)
    raise ValueError(f"name = {name!r} is not a known task{nearest(name, known_tasks())}")


# ---- objects ------------------------------------------------------------------------------------------------------------


class Objects:
    """What the resolved tables stand for; each object is made once, when it is first asked for.

    Parameters
    ----------
    tables : mapping
        Resolved tables.
    where : str
        File, in front of messages.
    """

    def __init__(self, tables: Mapping[str, Any], where: str) -> None:
        self.tables, self.where = tables, where
        self._made: dict[str, Any] = {}
        self.kind = tables.get("process", {}).get("kind", "")

    def __call__(self, table: str) -> Any:
        """The object of a table: "potential", "regions.a", ..."""
        if table not in self._made:
            self._made[table] = self._make(table)
        return self._made[table]

    def _make(self, table: str) -> Any:
        noun, _, name = table.partition(".")
        if table == "regions":
            return [self(f"regions.{word}") for word in self.tables["regions"]]
        content = self.tables[noun][name] if name else self.tables[noun]
        form = form_of("region" if noun == "regions" else noun, content, self.kind)
        given = self.given(form)
        with named(f"{self.where}: [{table}]"):
            return form.made(content, given)

    def given(self, form: Form) -> dict[str, Any]:
        """The objects that a constructor or a task takes, by parameter; optional ones only where their table is there."""
        out = {}
        for parameter, key in form.tables.items():
            table = table_for(parameter, key)
            if table.partition(".")[0] in self.tables:
                out[parameter] = self(table)
        return out

    @functools.cached_property
    def solver(self) -> Any:
        """The Fokker-Planck equation, or the transition kernel of a chain, on the grid."""
        process, grid = self("process"), self("grid")
        _, solver = _solver(isinstance(process, SGDChain))
        with named(f"{self.where}: [solver]"):
            return solver(process, grid, **self.tables["solver"])


def table_for(parameter: str, key: Key) -> str:
    """The table of a parameter: two regions of one question have tables of their own, [regions.a] and [regions.b]."""
    return f"regions.{parameter}" if key.table == "region" and parameter != "region" else key.table


def required(form: Form) -> Iterator[tuple[str, bool]]:
    """(table, whether it must be there) of the objects that a constructor takes."""
    for parameter, key in form.tables.items():
        yield table_for(parameter, key), key.default is REQUIRED
