"""What a result depends on, as text: the function that is called with all that it holds, and the machine."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import BuiltinFunctionType, CodeType, ModuleType
from typing import Any

import numpy as np

__all__ = ["describe_function", "machine"]


def describe_function(function: Any) -> str:
    """The name of a function and a hash of its code, its defaults and what it closes over; not of what it calls.

    Examples
    --------
    >>> describe_function(describe_function).split(" #")[0]
    'fpsolve._fingerprint.describe_function'
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
