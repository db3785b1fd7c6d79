"""Values that come in great numbers, all alike, as columns of fixed shape and a short text: what a unit of a sweep returns.

Numbers and arrays of numbers become columns; text, None and lists of mixed things go into notes, JSON of bounded length. Numbers
are stored whole or not at all; long texts are cut, with a mark. The first value lays the columns out, and the others must fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._tree import _grid_fields, _Json, _kind_of, _kinds, _read_grid, _read_record, _record_fields

__all__ = ["CUT", "NOTES", "Layout", "Parts", "fit", "lay_out", "put_together", "take_apart"]

#: Bytes of the notes of a value, for each result of fpsolve in it.
NOTES = 1024
#: What stands where a text was cut.
CUT = " ... (cut)"
#: Name of the column of a value that is a number or an array by itself.
ONLY = "value"
_DEEPEST, _MOST = 16, 1000


@dataclass(frozen=True)
class Parts:
    """A value taken apart: kinds of its nodes, columns and notes, each by path ("tau/value")."""

    kinds: dict[str, str]
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What the columns are: path -> (dtype, shape); kinds of nodes by path; bytes of the notes; which parts were None."""

    kinds: dict[str, str]
    columns: dict[str, tuple[str, tuple[int, ...]]]
    notes: int
    nones: tuple[str, ...] = ()

    def as_json(self) -> str:
        return json.dumps(vars(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Layout:
        given = json.loads(text)
        columns = {name: (str(np.dtype(dtype).str), tuple(map(int, shape))) for name, (dtype, shape) in given["columns"].items()}
        kinds = {str(k): str(v) for k, v in given["kinds"].items()}
        return cls(kinds, columns, int(given["notes"]), tuple(map(str, given["nones"])))

    def optional(self, name: str) -> bool:
        """Whether this part may be there in one value and not in another: the fields of results may."""
        return self.kinds[name.rpartition("/")[0]] != "dict" or name in self.nones


# ---- taking apart -------------------------------------------------------------------------------------------------------


def take_apart(value: Any) -> Parts:
    """A number, an array, a result of fpsolve, or a dict of these (also nested), as columns and notes.

    Raises
    ------
    TypeError, ValueError
        For anything else.

    Examples
    --------
    >>> parts = take_apart({"mean": 2, "counts": np.array([3, 4]), "method": "quick"})
    >>> parts.columns["mean"], parts.columns["counts"].dtype.kind, parts.notes
    (array(2.), 'i', {'method': 'quick'})
    """
    kind = "dict" if isinstance(value, Mapping) else _kind_of(value)
    if kind is None:
        column = _column(value, exact=False)
        if column is None:
            raise TypeError(
                f"a unit must return a number, an array of numbers, a result of fpsolve, or a dict of these; got {_brief(value)}"
            )
        return Parts({"": "number" if np.ndim(column) == 0 else "array"}, {ONLY: column})
    parts = Parts({})
    _gather(parts, "", value, depth=0, record=False)
    if not parts.columns and not parts.notes:
        raise ValueError("a unit returned an empty dict: nothing to store")
    if len(parts.columns) > _MOST:
        raise ValueError(f"a unit returned {len(parts.columns)} numbers and arrays by name; {_MOST} at most: put them into arrays")
    return parts


def _gather(parts: Parts, path: str, value: Any, depth: int, record: bool) -> None:
    """Put the value, found at `path`, into columns, notes and kinds; of records integers stay integers."""
    kind = "dict" if isinstance(value, Mapping) else _kind_of(value)
    if kind is not None:
        if depth > _DEEPEST:
            raise ValueError(f"dicts are nested deeper than {_DEEPEST} levels at {path!r}")
        parts.kinds[path] = kind
        whole = kind not in ("dict", "grid")
        fields = value if kind == "dict" else _grid_fields(value) if kind == "grid" else _record_fields(kind, value)
        for name, part in fields.items():
            _gather(parts, _join(path, name), part, depth + 1, record or whole or kind == "grid")
        return
    column = None if isinstance(value, _Json) else _column(value, exact=record)
    if column is not None:
        parts.columns[path] = column
        return
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        value = value.tolist()
    try:
        value = value.value if isinstance(value, _Json) else value
        parts.notes[path] = json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        raise TypeError(f"{path!r} cannot be stored: numbers, arrays of numbers and text can, this is {_brief(value)}") from None


def _join(path: str, name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or "/" in name or "\0" in name or name in (".", ".."):
        raise ValueError(f"{name!r} cannot be a name of a result: give text without '/'")
    return f"{path}/{name}" if path else name


def _column(value: Any, exact: bool) -> NDArray[Any] | None:
    """The value as a column, None if it is none. An `int` is stored as a float where that is exact, unless `exact`.

    So a task may return 0 at one place and 0.5 at another.
    """
    if isinstance(value, (list, tuple)) and value:
        try:
            value = np.asarray(value)
        except ValueError:  # ragged
            return None
    if isinstance(value, np.integer):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            return None
        return np.asarray(value, np.int64 if exact or float(value) != value else np.float64)
    if not isinstance(value, (bool, float, complex, np.ndarray, np.generic)):
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > 16:
        return None
    if array.size == 0:
        raise ValueError(f"a unit returned an array of shape {array.shape}, which holds nothing: leave it out")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def _brief(value: Any) -> str:
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return "None" if value is None else f"{type(value).__name__}: {text}"


# ---- fitting into the layout ----------------------------------------------------------------------------------------------


def lay_out(parts: Parts) -> Layout:
    """The columns that this value needs, in the order of their names."""
    columns = {name: (parts.columns[name].dtype.str, parts.columns[name].shape) for name in sorted(parts.columns)}
    nones = sorted(name for name, note in parts.notes.items() if note is None)
    plain = parts.kinds[""] in ("number", "array")
    size = 0 if plain else NOTES * max(1, sum(kind not in ("dict", "grid") for kind in parts.kinds.values()))
    return Layout(dict(sorted(parts.kinds.items())), columns, size, tuple(nones))


def fit(layout: Layout, parts: Parts) -> tuple[list[bytes], bytes]:
    """The bytes of every column, in the order of the layout, and those of the notes.

    Raises
    ------
    ValueError
        If the value has other parts than the one that the layout was made for, or loses digits in its columns.
    """
    if parts.kinds != layout.kinds:
        path = min(p for p in {**parts.kinds, **layout.kinds} if parts.kinds.get(p) != layout.kinds.get(p))
        where = f" at {path!r}" if path else ""
        kinds = (parts.kinds.get(path, "nothing of the kind"), layout.kinds.get(path, "nothing of the kind"))
        raise ValueError(f"it is of another kind than the first result of the sweep{where}: {kinds[0]}, not {kinds[1]}")
    columns, notes = dict(parts.columns), dict(parts.notes)
    for name in sorted(set(columns) - set(layout.columns)):
        if columns[name].ndim or columns[name].dtype.kind == "c" or not layout.optional(name):
            raise ValueError(f"it has {name!r}, which the first result of the sweep does not have")
        notes[name] = columns.pop(name).item()  # a number that was None then
    rows = []
    for name, (dtype, shape) in layout.columns.items():
        found = columns.get(name)
        if found is None:
            absent = notes[name] is None if name in notes else layout.optional(name)
            if np.dtype(dtype).kind not in "fc" or not absent:
                raise ValueError(f"its {name!r} is no array of {np.dtype(dtype)}, as in the first result of the sweep")
            notes[name], found = None, np.full(shape, np.nan, dtype)
        rows.append(_cast(name, found, np.dtype(dtype), shape))
    return rows, _encode(notes, layout.notes) if layout.notes else b""


def _cast(name: str, found: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    if found.shape != shape:
        raise ValueError(f"{name!r} has shape {found.shape}, but {shape} in the first result of the sweep: all must be alike")
    if found.dtype != dtype:
        with np.errstate(all="ignore"):
            cast = found.real.astype(dtype) if dtype.kind != "c" and found.dtype.kind == "c" else found.astype(dtype)
            same = np.array_equal(cast.astype(found.dtype), found, equal_nan=found.dtype.kind in "fc")
        if not same or (found.dtype.kind == "b") != (dtype.kind == "b"):
            raise ValueError(
                f"{name!r} is of {found.dtype}, which does not fit into {dtype}, that of the first result of the sweep"
            )
        found = cast
    return found.tobytes()


def _encode(notes: dict[str, Any], size: int) -> bytes:
    """JSON of at most `size` bytes; the longest texts are cut until it fits."""
    for limit in (None, 400, 200, 100, 60, 30):
        text = json.dumps(_shorten(notes, limit), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
        if len(text) <= size:
            return text
    raise ValueError(f"its texts need {len(text)} bytes even when cut; {size} are kept for each unit: return fewer")


def _shorten(value: Any, limit: int | None) -> Any:
    if isinstance(value, str) and limit is not None and len(value) > limit:
        return value[: limit - len(CUT)] + CUT
    if isinstance(value, dict):
        return {name: _shorten(part, limit) for name, part in value.items()}
    return [_shorten(part, limit) for part in value] if isinstance(value, list) else value


# ---- putting together -------------------------------------------------------------------------------------------------------


def put_together(layout: Layout, columns: Mapping[str, NDArray[Any]], notes: str) -> Any:
    """The value again, from its columns and the text of its notes."""
    if "" not in layout.kinds or layout.kinds[""] in ("number", "array"):
        return _plain(columns[ONLY])
    given = json.loads(notes) if notes else {}
    leaves = {**{name: _plain(columns[name]) for name in layout.columns}, **given}
    return _node(layout.kinds, leaves, "")


def _plain(array: NDArray[Any]) -> Any:
    return array.item() if np.ndim(array) == 0 else array


def _node(kinds: Mapping[str, str], leaves: Mapping[str, Any], path: str) -> Any:
    values: dict[str, Any] = dict(_children(kinds, leaves, path))
    kind = kinds[path]
    if kind == "dict":
        return values
    values = {name: value for name, value in values.items() if value is not None}
    return _read_grid(values) if kind == "grid" else _read_record(_kinds()[kind], values)


def _children(kinds: Mapping[str, str], leaves: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    start = f"{path}/" if path else ""
    for name, value in leaves.items():
        if name.startswith(start) and "/" not in name[len(start) :]:
            yield name[len(start) :], value
    for name in kinds:
        if name and name.startswith(start) and "/" not in name[len(start) :]:
            yield name[len(start) :], _node(kinds, leaves, name)
