"""Keys of a table in a configuration are the keywords of a function: their names, types and defaults are read from its signature.

Nothing here knows a noun or a task. An annotation becomes the alternatives that a value from a file may be; what no file can hold
(a function, a landscape, an open file) is left out, or stands for an object made from another table.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["REQUIRED", "Key", "check_value", "keys_of", "nearest", "plain", "shown"]

#: Default of a key that must be given.
REQUIRED: Any = inspect.Parameter.empty
#: Classes made from tables, and the table.
OBJECTS = {
    "Potential": "potential", "Noise": "noise", "Process": "process", "SGDChain": "process", "Underdamped": "process",
    "Driven": "process", "Ensemble": "ensemble", "Grid": "grid", "Region": "region",
}  # fmt: skip
#: What is meant where an annotation says Any, by the name of the parameter.
MEANT = {
    "process": "Process", "chain": "SGDChain", "U": "Potential", "ensemble": "Ensemble", "x0": "ArrayLike", "lr": "ArrayLike",
    "batch": "int | Sequence[int]", "rho0": "Sequence[Any]", "start": "Sequence[Any]", "C": "float | Sequence[Any]",
    "along": "int | ArrayLike",
}  # fmt: skip
#: Depth of lists and tables, and numbers in a table, that are read.
MAX_DEPTH, MAX_VALUES = 12, 1_000_000

_PLAIN = {
    "float": "a number", "int": "an integer", "bool": "true or false", "str": "a text", "array": "a number or a list of numbers",
    "plain": "a value", "grid": "the text 'grid' (the table [grid])",
}  # fmt: skip
_WORDS = {"None": "None", "ArrayLike": "array", "Array": "array", "float": "float", "int": "int", "bool": "bool", "str": "str",
          "Schedule": "array"}  # fmt: skip

#: One alternative: a word of _PLAIN or "None", or ("list" | "map", alternatives), ("words", texts), ("object", table).
Kind = Any


class Key:
    """A key of a table: what its value may be, and what it is if it is not given.

    `table` is the table of the object that a parameter takes instead of a value, "" for values.
    """

    def __init__(self, kinds: tuple[Kind, ...], default: Any, table: str = "", several: bool = False) -> None:
        self.kinds, self.default, self.table, self.several = kinds, default, table, several

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED


def nearest(word: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message about an unknown word: the nearest known one, or all of them.

    Examples
    --------
    >>> nearest("nose", ["noise", "grid"]), nearest("qqq", ["noise", "grid"])
    ("; did you mean 'noise'?", '; known are grid, noise')
    """
    names = sorted(known)
    folded = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(word).lower(), folded, n=1, cutoff=cutoff)
    return f"; did you mean {folded[near[0]]!r}?" if near else f"; known are {', '.join(names) or 'none'}"


def shown(value: object) -> str:
    """A value in a message: its type and its text, cut."""
    text = repr(value)
    return f"{type(value).__name__}: {text if len(text) <= 60 else text[:57] + '...'}"


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """A copy made of texts, booleans, integers of 64 bits, floats that are numbers, lists, and dicts with texts as names.

    Raises
    ------
    TypeError, ValueError
        For anything else, a NaN among it, and nesting deeper than MAX_DEPTH; `where` and the dotted place are named.

    Examples
    --------
    >>> plain({"D": np.float64(0.1), "x0": (1, 2)}, "config:")
    {'D': 0.1, 'x0': [1, 2]}
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"{where} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{where} is an integer of more than 64 bits; write it as a float, e.g. 1e30")
        return int(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError(f"{where} is nan; give a number")
        return float(value)
    if isinstance(value, Mapping):
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise TypeError(f"{where} has a name that is no text, {shown(wrong[0])}")
        return {str(name): plain(item, f"{where}{'.' if depth else ' '}{name}", depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > MAX_VALUES:
            raise ValueError(f"{where} is a list of {len(value)} values; at most {MAX_VALUES} are read")
        return [plain(item, where, depth + 1) for item in value]
    raise TypeError(f"{where} must be a number, a text, true or false, a list or a table, got {shown(value)}")


# ---- signatures ---------------------------------------------------------------------------------------------------------


@functools.cache
def keys_of(function: Callable[..., Any], hidden: frozenset[str] = frozenset()) -> Mapping[str, Key]:
    """The keys that the parameters of a function make, in their order; `hidden` ones are none.

    A parameter that takes an object has the table of that object; one that nothing in a file can give is left out if it has a
    default.

    Examples
    --------
    >>> def f(process: "Process", x0: "ArrayLike", *, n: "int" = 3, save: "os.PathLike[str] | None" = None): ...
    >>> {name: (key.table, key.kinds, key.required) for name, key in keys_of(f).items()}
    {'process': ('process', (), True), 'x0': ('', ('array',), True), 'n': ('', ('int',), False)}
    """
    keys: dict[str, Key] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in hidden or name in ("self", "cls") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        text = _text(parameter.annotation)
        if "PathLike" in text:  # a file is named in [run], or by the user
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            text = f"Sequence[{text}]"
        elif text == "Any":
            text = MEANT.get(name, text)
        kinds = _kinds(ast.parse(text, mode="eval").body)
        default = parameter.default
        if default is None and "None" not in kinds:
            kinds = (*kinds, "None")
        key = _key(kinds, default)
        if key is not None:
            keys[name] = key
    return keys


def _key(kinds: tuple[Kind, ...], default: Any) -> Key | None:
    values = tuple(k for k in kinds if _can_be_written(k))
    objects = [k for k in kinds if isinstance(k, tuple) and k[0] == "object"]
    several = [k for k in kinds if isinstance(k, tuple) and k[0] == "list" and k[1] == (("object", "region"),)]
    if several:
        return Key((), default, "regions", several=True)
    if set(values) <= {"None"}:
        return Key((), default, objects[0][1]) if objects else None if default is not REQUIRED else Key((), default, "?")
    if ("object", "grid") in kinds:
        values = ("grid", *values)
    if isinstance(default, tuple):
        default = list(default)
    return Key(values, default)


def _can_be_written(kind: Kind) -> bool:
    if kind in ("?", "any"):
        return False
    return not isinstance(kind, tuple) or (kind[0] != "object" and (kind[0] == "words" or any(map(_can_be_written, kind[1]))))


def _text(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    if annotation is REQUIRED:
        return "Any"
    if annotation == ArrayLike:
        return "ArrayLike"
    if annotation == ArrayLike | None:
        return "ArrayLike | None"
    return annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else repr(annotation)


def _kinds(node: ast.AST) -> tuple[Kind, ...]:
    """The alternatives of an annotation."""
    if isinstance(node, ast.BinOp):
        return (*_kinds(node.left), *_kinds(node.right))
    if isinstance(node, ast.Constant):
        return ("None",) if node.value is None else _kinds(ast.parse(str(node.value), mode="eval").body)
    if isinstance(node, ast.Subscript):
        name, inner = _last(node.value), node.slice
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if name == "Literal":
            return (("words", tuple(p.value for p in parts if isinstance(p, ast.Constant))),)
        if name in ("Sequence", "list", "tuple", "Mapping", "dict"):
            table = name in ("Mapping", "dict")
            of = tuple(k for p in (parts[1:] if table else parts) for k in _kinds(p))
            return (("map" if table else "list", tuple("plain" if k == "any" else k for k in of)),)
        return ("?",)
    word = _last(node)
    if word in OBJECTS:
        return (("object", OBJECTS[word]),)
    return ("any",) if word == "Any" else (_WORDS.get(word, "?"),)


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


# ---- values -------------------------------------------------------------------------------------------------------------


def check_value(name: str, value: Any, kinds: Sequence[Kind]) -> None:
    """Refuse a value that is none of the alternatives.

    Raises
    ------
    TypeError, ValueError
        With the name, what it must be, and what it is; of a text the nearest one that is known.

    Examples
    --------
    >>> check_value("exit", "sadle", [("words", ("beyond", "saddle"))])
    Traceback (most recent call last):
    ...
    ValueError: exit = 'sadle' is not known; did you mean 'saddle'?
    """
    if any(_fits(value, kind) for kind in kinds):
        return
    words = [word for kind in kinds if isinstance(kind, tuple) and kind[0] == "words" for word in kind[1]]
    if words and isinstance(value, str):
        raise ValueError(f"{name} = {value!r} is not known{nearest(value, words)}")
    raise TypeError(f"{name} must be {_described(kinds)}, got {shown(value)}")


def _fits(value: Any, kind: Kind) -> bool:
    if isinstance(kind, tuple):
        if kind[0] == "words":
            return value in kind[1] if isinstance(value, str) else False
        if kind[0] == "object":
            return False
        inside = value.values() if isinstance(value, dict) else value
        right = dict if kind[0] == "map" else list
        return isinstance(value, right) and all(any(_fits(v, k) for k in kind[1]) for v in inside)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    checks: dict[str, Callable[[], bool]] = {
        "None": lambda: value is None,
        "float": lambda: number,
        "int": lambda: number and isinstance(value, int),
        "bool": lambda: isinstance(value, bool),
        "str": lambda: isinstance(value, str),
        "array": lambda: _shape(value) is not None,
        "plain": lambda: not isinstance(value, dict) and value is not None,
        "grid": lambda: value == "grid",
    }
    return kind in checks and checks[kind]()


def _shape(value: Any) -> tuple[int, ...] | None:
    """Shape of nested lists of numbers, None if they are none."""
    if isinstance(value, list):
        shapes = {_shape(item) for item in value}
        first = shapes.pop() if len(shapes) == 1 else None
        return () if not value else None if first is None else (len(value), *first)
    return () if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _described(kinds: Iterable[Kind]) -> str:
    """The alternatives in words."""
    words: list[str] = []
    for kind in kinds:
        if kind == "None" or not _can_be_written(kind):
            continue
        if not isinstance(kind, tuple):
            words.append(_PLAIN[kind])
        elif kind[0] == "words":
            words.append("one of " + ", ".join(map(repr, kind[1])))
        else:
            words.append(f"a {'table' if kind[0] == 'map' else 'list'} of {_many(kind[1])}")
    return " or ".join(dict.fromkeys(words)) or "left out"


def _many(kinds: Iterable[Kind]) -> str:
    plural = {"float": "numbers", "int": "integers", "bool": "true or false", "str": "texts", "array": "numbers", "plain": "values"}
    words = [plural.get(k, "") if not isinstance(k, tuple) else f"lists of {_many(k[1])}" for k in kinds if _can_be_written(k)]
    return " or ".join(dict.fromkeys(w for w in words if w))
