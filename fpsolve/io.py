"""HDF5 files: results, grids and plain trees of arrays, written whole or not at all, read without trusting the file.

Layout (schema 1.0), readable with plain h5py::

    /                attrs: schema="fpsolve", schema_version="1.0", created (ISO-8601 UTC), creator="fpsolve 0.1.0"
    /provenance/0    JSON text: versions, machine, command line, parameters, seed, wall time; further records append 1, 2, ...
    /<kind>/...      one group per result (attr "kind": density, field, escape, estimate, table, grid, ...)

Arrays are datasets with attrs ``dims``, ``units``, ``long_name`` where known; scalars and strings are scalar datasets whose attr
``type`` says what they were in Python. Centres of a grid are dimension scales of the values. Strings are fixed-length
UTF-8; nothing is pickled, and no object data types are written or read.
"""

import datetime
import json
import logging
import os
import platform
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fpsolve._tree import (
    _kind_of,
    _kinds,
    _set_text,
    _text_attr,
    _write_text,
    describe_arrays,
    member,
    read_dataset,
    read_group,
    write_group,
)

__all__ = [
    "SCHEMA_VERSION",
    "check_writable",
    "describe_arrays",
    "load",
    "load_kind",
    "load_provenance",
    "load_tree",
    "member",
    "provenance",
    "read_dataset",
    "read_group",
    "reading",
    "save",
    "save_tree",
    "write_group",
]

logger = logging.getLogger(__name__)

#: Version written; a file with a larger first number is refused.
SCHEMA_VERSION = "1.0"


_RESERVED = "provenance"


def check_writable(path: str | PathLike[str], *, overwrite: bool = True) -> Path:
    """Make sure that a file can be written at `path`, before any work is done; returns the absolute path.

    Raises
    ------
    FileNotFoundError
        If its directory does not exist.
    IsADirectoryError, NotADirectoryError
        If `path` is a directory, or something above it is not.
    PermissionError, OSError
        If the directory refuses new files.
    FileExistsError
        If the file exists and `overwrite` is False.

    Examples
    --------
    >>> check_writable("/no/such/folder/run.h5")
    Traceback (most recent call last):
    FileNotFoundError: cannot write /no/such/folder/run.h5: the folder /no/such/folder does not exist; create it first
    """
    target = Path(os.path.expanduser(os.fspath(path))).resolve()
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder; name a file in it")
    if not target.parent.exists():
        raise FileNotFoundError(f"cannot write {target}: the folder {target.parent} does not exist; create it first")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"cannot write {target}: {target.parent} is not a folder")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=True or choose another name")
    probe = _temporary(target)
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        raise type(error)(error.errno, f"cannot write in the folder {target.parent}: {error.strerror}") from error
    probe.unlink()
    return target


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex[:12]}.tmp")


def _git_commit() -> str | None:
    """Commit of the working copy this package lies in, if it is one."""
    git = Path(__file__).resolve().parent.parent / ".git"
    try:
        if git.is_file():  # a second working tree: the file says where its folder is
            git = git.parent / git.read_text().split(":", 1)[1].strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        shared = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        if (shared / head[5:]).exists():
            return (shared / head[5:]).read_text().strip()
        lines = (shared / "packed-refs").read_text().splitlines()  # where references are kept once there are many
        return next((line.split()[0] for line in lines if line.endswith(f" {head[5:]}")), None)
    except (OSError, IndexError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def provenance(**params: Any) -> dict[str, Any]:
    """Where a result comes from: versions, machine, command line, time; keyword arguments are added under "parameters".

    Parameters
    ----------
    **params
        What the caller wants remembered (seed, lr, wall_time, ...); whatever JSON cannot hold is stored as its repr.

    Returns
    -------
    dict
        Plain numbers, strings, lists and dicts.

    Examples
    --------
    >>> record = provenance(seed=3, lr=0.1)
    >>> record["parameters"], sorted(record["versions"])[:2]
    ({'seed': 3, 'lr': 0.1}, ['fpsolve', 'h5py'])
    """
    import fpsolve

    packages = ("numpy", "scipy", "numba", "llvmlite", "h5py")
    versions = {"fpsolve": fpsolve.__version__, "python": platform.python_version(), **{p: _version(p) for p in packages}}
    return {
        "created": _now(),
        "versions": versions,
        "git_commit": _git_commit(),
        "argv": list(sys.argv),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "parameters": {k: _jsonable(v) for k, v in params.items()},
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "biuf" and value.size <= 1000 else repr(value)
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    return value if isinstance(value, (str, bool, int, float, type(None))) else repr(value)


def _write_file(target: Path, fill: Callable[[h5py.File], None], record: Mapping[str, Any] | None) -> None:
    """Write beside the target, flush to the disk, then rename: a reader sees the old file or the new one, never half."""
    import fpsolve

    temporary = _temporary(target)
    try:
        with h5py.File(temporary, "x") as file:
            for name, text in (
                ("schema", "fpsolve"),
                ("schema_version", SCHEMA_VERSION),
                ("created", _now()),
                ("creator", f"fpsolve {fpsolve.__version__}"),
            ):
                _set_text(file, name, text)
            fill(file)
            story = file.create_group(_RESERVED)
            _write_text(story, "0", json.dumps(provenance() if record is None else _jsonable(record)), "json")
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    logger.debug("wrote %s", target)


def save_tree(
    path: str | PathLike[str],
    tree: Mapping[str, Any],
    attrs: Mapping[str, str] | None = None,
    *,
    record: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    describe: Mapping[str, tuple[str, str, str]] | None = None,
) -> None:
    """Write a nested dict to an HDF5 file, whole or not at all.

    Parameters
    ----------
    path : path
        The file; its folder must exist.
    tree : dict
        Values are arrays of numbers, booleans or text, int, float, bool, complex, str, None, lists of those, dicts, and results or
        grids of fpsolve. Lists of numbers come back as arrays, tuples as lists; "provenance" is reserved at the top.
    attrs : dict of str to str
        Further attributes of the file.
    record : dict, optional
        Provenance record, normally ``provenance(seed=..., ...)``; default ``provenance()``.
    overwrite : bool
        If False, an existing file is an error.
    describe : dict of str to (str, str, str), optional
        Path of an array in the tree -> names of its axes (separated by blanks), units, long name; see `describe_arrays`.

    Raises
    ------
    TypeError, ValueError
        For a value or a name that cannot be saved; nothing is written then.
    OSError
        See `check_writable`.

    Examples
    --------
    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "tree.h5")
    >>> save_tree(path, {"weights": np.eye(2), "run": {"lr": 0.1, "name": "digits"}})
    >>> load_tree(path)["run"]
    {'lr': 0.1, 'name': 'digits'}
    """
    if not isinstance(tree, Mapping):
        raise TypeError(f"save_tree: tree must be a dict, got {type(tree).__name__}")
    for what, given in (("attrs", attrs), ("describe", describe)):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"save_tree: {what} must be a dict, got {type(given).__name__}")
    if _RESERVED in tree:
        raise ValueError(f"save_tree: the name {_RESERVED!r} is taken by the file itself; pass record=...")
    reserved = {"schema", "schema_version", "created", "creator"} & set(attrs or {})
    if reserved:
        raise ValueError(f"save_tree: attributes {sorted(reserved)} are written by the file itself")
    target = check_writable(path, overwrite=overwrite)

    def fill(file: h5py.File) -> None:
        for name, text in (attrs or {}).items():
            _set_text(file, name, str(text))
        write_group(file, tree)
        describe_arrays(file, describe or {})

    _write_file(target, fill, record)


def save(path: str | PathLike[str], obj: Any, *, overwrite: bool = True, record: Mapping[str, Any] | None = None) -> None:
    """Save a result, a grid, or a dict of results, arrays and plain parameters; `load` gives it back equal.

    Parameters
    ----------
    path : path
        The HDF5 file; written under a temporary name in the same folder and renamed, so that no half-written file remains.
    obj : a result (Estimate, Density, Field, Spectrum, ...), Grid or dict
    overwrite : bool
        If False, an existing file is an error.
    record : dict, optional
        Provenance record, normally ``fpsolve.io.provenance(seed=..., ...)``.

    Raises
    ------
    TypeError, ValueError
        For something that cannot be saved.
    OSError
        If the path cannot be written (see `check_writable`).

    Examples
    --------
    >>> import tempfile, os
    >>> from fpsolve import Estimate
    >>> path = os.path.join(tempfile.mkdtemp(), "tau.h5")
    >>> save(path, Estimate(2.5, stderr=0.1, unit="time"))
    >>> load(path)
    Estimate(2.50 +- 0.10 time)
    """
    if isinstance(obj, Mapping):
        save_tree(path, obj, record=record, overwrite=overwrite)
        return
    kind = _kind_of(obj)
    if kind is None:
        raise TypeError(f"save: cannot save a {type(obj).__name__}; it takes {', '.join([*_kinds(), 'grid'])} or a dict")
    save_tree(path, {kind: obj}, {"kind": kind}, record=record, overwrite=overwrite)


def _open(path: str | PathLike[str], what: str = "") -> h5py.File:
    target = Path(os.path.expanduser(os.fspath(path)))
    if not target.exists():
        raise FileNotFoundError(f"{target} does not exist")
    if not target.is_file():
        raise ValueError(f"{target} is not a file")
    try:
        return h5py.File(target, "r")
    except PermissionError:
        raise
    except OSError as error:
        subject = f"{target} cannot be read{what}: it" if what else target
        raise ValueError(f"{subject} is not a readable HDF5 file (damaged, cut short, or something else): {error}") from error


def _check_schema(file: h5py.File) -> None:
    if _text_attr(file, "schema") != "fpsolve":
        raise ValueError("it was not written by fpsolve (attribute schema is missing)")
    version = _text_attr(file, "schema_version")
    try:
        major = int(version.split(".")[0])
    except ValueError:
        raise ValueError(f"its schema_version {version!r} is not a version") from None
    if major > int(SCHEMA_VERSION.split(".")[0]):
        raise ValueError(f"its schema version {version} is newer than {SCHEMA_VERSION}, which this fpsolve reads: update fpsolve")


@contextmanager
def reading(path: str | PathLike[str], what: str = "") -> Iterator[h5py.File]:
    """A file of fpsolve, open for reading; whatever turns out to be wrong inside it becomes one ValueError that names the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        As of `load`.
    """
    try:
        with _open(path, what) as file:
            try:
                _check_schema(file)
                yield file
            except MemoryError:
                raise
            except Exception as error:
                reason = f"{error} is missing" if type(error) is KeyError else error
                raise ValueError(f"{os.fspath(path)} cannot be read{what}: {reason}") from error
    except RuntimeError as error:  # raised by HDF5 when a damaged file is closed
        raise ValueError(f"{os.fspath(path)} cannot be read{what}: {error}") from error


def _load(path: str | PathLike[str]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Kind, content and provenance."""
    with reading(path) as file:
        tree = read_group(file)
        return _text_attr(file, "kind"), tree, tree.pop(_RESERVED, {})


def load(path: str | PathLike[str]) -> Any:
    """Read what `save` or `save_tree` wrote: the saved object, or the whole tree for files of any other kind.

    The file of a `sweep` gives a `Sweep`, which reads it when it is asked.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not an fpsolve file, is damaged, has a newer major version, or links to other files.

    Examples
    --------
    >>> load("/no/such/file.h5")
    Traceback (most recent call last):
    FileNotFoundError: /no/such/file.h5 does not exist
    """
    if load_kind(path) == "sweep":
        from fpsolve._sweep import Sweep

        return Sweep(path)
    kind, tree, _ = _load(path)
    if kind not in (*_kinds(), "grid"):
        return tree
    if kind not in tree:
        raise ValueError(f"{os.fspath(path)} cannot be read: it should hold a {kind}, but has {sorted(tree)}")
    return tree[kind]


def load_kind(path: str | PathLike[str]) -> str:
    """The attribute `kind` of a file, "" if it has none; errors as in `load`."""
    with reading(path) as file:
        return _text_attr(file, "kind")


def load_tree(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the whole file as a nested dict, without the provenance; errors as in `load`."""
    return _load(path)[1]


def load_provenance(path: str | PathLike[str]) -> list[dict[str, Any]]:
    """The provenance records of a file, oldest first; errors as in `load`."""
    story = _load(path)[2]
    if not (isinstance(story, dict) and story and all(isinstance(record, dict) for record in story.values())):
        raise ValueError(f"{os.fspath(path)} cannot be read: its provenance is missing, or not made of JSON objects")
    return [story[name] for name in sorted(story, key=lambda n: (len(n), n))]
