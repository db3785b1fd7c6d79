"""What sympy has found out about expressions, kept in the cache folder: a process that meets known ones does not load sympy.

Loading sympy and deriving gradients takes a third of the time of a first call. A fact is found by a hash of all that it depends
on: the text, the names, the steps of the derivation, and the versions of sympy and of the files that derive and print. Text enters
only after it has been parsed once, so what is refused is refused always. Like the generated modules beside them the files hold
source code: the folder must not be writable by others.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["cache_folder", "fact", "name_of", "write_atomically"]


def cache_folder() -> Path:
    """Folder of the generated modules: ``$FPSOLVE_CACHE_DIR``, else ``fpsolve`` in the user's cache folder."""
    chosen = os.environ.get("FPSOLVE_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fpsolve"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fpsolve" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fpsolve"


def write_atomically(path: Path, source: str) -> None:
    """Another process never sees half a file; two writers write the same text."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(source)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@functools.cache
def _versions() -> str:
    """Of all that derives and prints; sympy tells its version in a small file, without being imported."""
    found = importlib.util.find_spec("sympy")
    assert found is not None and found.origin is not None, "sympy is a dependency"
    here = Path(__file__).parent
    derive = (here / f"{name}.py" for name in ("expressions", "_kinks", "_code", "_known"))
    files = [Path(found.origin).with_name("release.py"), *derive]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def name_of(*parts: Any) -> str:
    """The name of a derivation: a hash of its parts (text, names, names of other derivations).

    Examples
    --------
    >>> name_of("parse", ["x**2"], ["x"]) == name_of("parse", ["x**2"], ["x"]) != name_of("parse", ["x**2"], ["y"])
    True
    """
    return hashlib.sha256(json.dumps([_versions(), *parts]).encode()).hexdigest()[:32]


def fact(name: str | None, what: str, find: Callable[[], Any]) -> Any:
    """`find()`, or what it returned in an earlier process; without a name it is always asked. JSON can hold it."""
    if name is None or os.environ.get("FPSOLVE_NUMBA_CACHE", "1") == "0":
        return find()
    path = cache_folder() / "expressions" / f"{name}.{what}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass
    value = find()  # outside the handler: what it refuses is no consequence of a missing file
    try:
        write_atomically(path, json.dumps(value))
    except OSError:  # the kernels beside it say so
        pass
    return value
