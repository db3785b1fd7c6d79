"""What is in an HDF5 result file: schema, tree with shapes, units and small values, provenance; as lines of text, or as a dict.

The file may come from anywhere: links are not followed, control characters are escaped, long texts are cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import h5py

from fpsolve._tree import _kind_of, is_elsewhere
from fpsolve.io import _open, load

__all__ = ["clean", "describe_file", "entries_of_file", "stored_results"]

_WIDTH = 30
_LIMIT = 200
_MAX_DEPTH, _MAX_LINES = 32, 20_000
_MAX_VALUE = 1 << 20  # bytes of a scalar that is read
_MAX_LEVEL = 4  # of dicts that are looked through for results


def describe_file(path: str | Path) -> list[str]:
    """Describe an HDF5 file without reading its large arrays.

    Parameters
    ----------
    path
        Any HDF5 file; those of fpsolve have schema, units and provenance to show.

    Returns
    -------
    list of str
        Lines of text.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not HDF5 or damaged.

    Examples
    --------
    >>> import fpsolve, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fpsolve.save(f"{folder}/rate.h5", fpsolve.Estimate(0.25, stderr=0.01, unit="1/time"))
    ...     lines = describe_file(f"{folder}/rate.h5")
    >>> [line.split() for line in lines if "stderr" in line]
    [['stderr', 'scalar', 'float64', '=', '0.01', '[1/time]', 'statistical', 'standard', 'error']]
    """
    found = entries_of_file(path)
    lines = [f"{found['file']}  ({found['bytes'] / 1e6:.3g} MB)"]
    lines += [f"  {key}: {value}" for key, value in found["attributes"].items()]
    for entry in found["entries"]:
        lines += _lines(entry)
    return lines


def entries_of_file(path: str | Path) -> dict[str, Any]:
    """The same as a dict of plain values: file, bytes, attributes, entries (path, type, shape, dtype, units, value, ...).

    Raises
    ------
    FileNotFoundError, ValueError
        As of `describe_file`.
    """
    try:
        with _open(path) as file:
            try:
                attributes = {clean(key): clean(value) for key, value in file.attrs.items()}
                entries: list[dict[str, Any]] = []
                _walk(file, "", entries)
            except Exception as error:
                raise ValueError(f"{path} cannot be shown: {error}") from error
    except RuntimeError as error:  # raised by HDF5 when a damaged file is closed
        raise ValueError(f"{path} cannot be shown, it is damaged: {error}") from error
    return {"file": clean(path), "bytes": Path(path).expanduser().stat().st_size, "attributes": attributes, "entries": entries}


def stored_results(path: str | PathLike[str]) -> dict[str, Any]:
    """The results of fpsolve in a file by name: the one it was made for, or those in the dict that it holds.

    Raises
    ------
    FileNotFoundError, ValueError
        As of `fpsolve.load`.

    Examples
    --------
    >>> import fpsolve, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fpsolve.save(f"{folder}/a.h5", {"exit": {"rate": fpsolve.Estimate(0.25)}, "D": 0.1})
    ...     stored_results(f"{folder}/a.h5")
    {'exit/rate': Estimate(0.25)}
    """
    found = load(path)
    return dict(_results(found, "", 0)) if isinstance(found, dict) else {_kind_of(found) or type(found).__name__.lower(): found}


def _results(tree: dict[str, Any], prefix: str, level: int) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and level < _MAX_LEVEL:
            yield from _results(value, f"{prefix}{name}/", level + 1)
        elif _kind_of(value) is not None:
            yield prefix + name, value


def _walk(group: h5py.Group, prefix: str, entries: list[dict[str, Any]]) -> None:
    for name in sorted(group):
        if len(entries) > _MAX_LINES:
            raise ValueError(f"it has more than {_MAX_LINES} entries, or loops of links")
        link = group.get(name, getlink=True)
        item = group[name] if isinstance(link, h5py.HardLink) else None
        entry: dict[str, Any] = {"path": prefix + clean(name), "level": prefix.count("/") + 1, "name": clean(name)}
        entries.append(entry)
        if item is None:
            entry["type"] = type(link).__name__
        elif isinstance(item, h5py.Dataset):
            entry.update(_dataset(item))
        elif not isinstance(item, h5py.Group):
            entry["type"] = type(item).__name__
        elif entry["level"] > _MAX_DEPTH:  # hard links can make a group its own member
            entry.update(type="group", cut=True)
        else:
            entry.update(type="group", kind=clean(item.attrs.get("kind", "")))
            _walk(item, f"{prefix}{entry['name'].replace('/', '')}/", entries)


def _dataset(item: h5py.Dataset) -> dict[str, Any]:
    if is_elsewhere(item):
        return {"type": "elsewhere"}
    entry: dict[str, Any] = {"type": "array", "shape": list(item.shape or ()), "dtype": clean(item.dtype)}
    if item.shape == () and item.dtype.itemsize <= _MAX_VALUE:
        value = item[()]
        if item.dtype.kind in "OS":
            return {**entry, "type": "text", "value": _text(value)}
        entry["value"] = clean(value)
    for key in ("units", "long_name"):
        entry[key] = clean(item.attrs.get(key, ""))
    return entry


def _text(value: Any) -> Any:
    """A text; of a JSON object its entries."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    try:
        record: Any = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    return {clean(key): clean(entry) for key, entry in record.items()} if isinstance(record, dict) else clean(text)


def _lines(entry: dict[str, Any]) -> list[str]:
    """An entry as lines of the list; a JSON object is spread over several."""
    indent = "  " * entry["level"]
    head = f"{indent}{entry['name']:<{max(_WIDTH - len(indent), 1)}}"
    kind = entry["type"]
    if kind == "group":
        note = "  (deeper levels not shown)" if entry.get("cut") else f"  ({entry['kind']})" if entry["kind"] else ""
        return [f"{indent}{entry['name']}/{note}"]
    if kind == "elsewhere":
        return [f"{head} (in another file, not followed)"]
    if kind == "text":
        value = entry["value"]
        spread = isinstance(value, dict)
        return [head.rstrip(), *(f"{indent}  {k}: {v}" for k, v in value.items())] if spread else [f"{head} {value}"]
    if kind != "array":
        return [f"{indent}{entry['name']}  ({kind}, not followed)"]
    shape = " x ".join(map(str, entry["shape"])) or "scalar"
    line = f"{head} {shape:<14} {entry['dtype']:<8}"
    line += f" = {entry['value']}" if "value" in entry else ""
    return [line + (f" [{entry['units']}]" if entry["units"] else "") + (f" {entry['long_name']}" if entry["long_name"] else "")]


def clean(value: object, limit: int = _LIMIT) -> str:
    """Text that cannot drive a terminal, cut after `limit` characters.

    Examples
    --------
    >>> clean(b"red\\x1b[31m")
    'red\\\\x1b[31m'
    """
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text)} characters)"
