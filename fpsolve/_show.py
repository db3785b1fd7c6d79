"""What is in an HDF5 result file, as lines of text: schema, tree with shapes, units and small values, provenance.

The file may come from anywhere: links are not followed, control characters are escaped, long texts are cut.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from fpsolve._tree import is_elsewhere
from fpsolve.io import _open

__all__ = ["describe_file"]

_WIDTH = 30
_LIMIT = 200
_MAX_DEPTH, _MAX_LINES = 32, 20_000
_MAX_VALUE = 1 << 20  # bytes of a scalar that is read


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
    [['stderr', 'scalar', 'float64', '=', '0.01']]
    """
    try:
        with _open(path) as file:
            try:
                lines = [f"{_plain(path)}  ({Path(path).stat().st_size / 1e6:.3g} MB)"]
                lines += [f"  {_plain(key)}: {_plain(value)}" for key, value in file.attrs.items()]
                _walk(file, "  ", lines)
            except Exception as error:
                raise ValueError(f"{path} cannot be shown: {error}") from error
    except RuntimeError as error:  # raised by HDF5 when a damaged file is closed
        raise ValueError(f"{path} cannot be shown, it is damaged: {error}") from error
    return lines


def _walk(group: h5py.Group, indent: str, lines: list[str]) -> None:
    for name in sorted(group):
        if len(lines) > _MAX_LINES:
            raise ValueError(f"it has more than {_MAX_LINES} entries, or loops of links")
        link = group.get(name, getlink=True)
        item = group[name] if isinstance(link, h5py.HardLink) else None
        if item is None:
            lines.append(f"{indent}{_plain(name)}  ({type(link).__name__}, not followed)")
        elif isinstance(item, h5py.Dataset):
            lines += _dataset(item, name, indent)
        elif len(indent) // 2 > _MAX_DEPTH:  # hard links can make a group its own member
            lines.append(f"{indent}{_plain(name)}/  (deeper levels not shown)")
        else:
            kind = _plain(item.attrs.get("kind", ""))
            lines.append(f"{indent}{_plain(name)}/" + (f"  ({kind})" if kind else ""))
            _walk(item, indent + "  ", lines)


def _dataset(item: h5py.Dataset, name: str, indent: str) -> list[str]:
    head = f"{indent}{_plain(name):<{max(_WIDTH - len(indent), 1)}}"
    if is_elsewhere(item):
        return [f"{head} (in another file, not followed)"]
    small = item.shape == () and item.dtype.itemsize <= _MAX_VALUE
    if item.dtype.kind in "OS" and small:
        return _text(item, head, indent)
    shape = " x ".join(str(n) for n in item.shape) if item.shape else "scalar"
    line = f"{head} {shape:<14} {_plain(item.dtype):<8}"
    line += f" = {_plain(item[()])}" if small else ""
    units, long_name = (_plain(item.attrs.get(key, "")) for key in ("units", "long_name"))
    return [line + (f" [{units}]" if units else "") + (f" {long_name}" if long_name else "")]


def _text(item: h5py.Dataset, head: str, indent: str) -> list[str]:
    """A text dataset; a JSON object is spread over lines."""
    value = item[()]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    try:
        record: Any = json.loads(text)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        return [f"{head} {_plain(text)}"]
    return [head.rstrip(), *(f"{indent}  {_plain(key)}: {_plain(entry)}" for key, entry in record.items())]


def _plain(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _LIMIT else f"{text[:_LIMIT]} ... ({len(text)} characters)"
