"""Nested dicts of arrays, scalars, text and result records in HDF5 groups: the codec behind `fpsolve.io`."""

import dataclasses
import json
import math
import reprlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import h5py
import numpy as np

from fpsolve import results

__all__ = ["describe_arrays", "member", "read_dataset", "read_group", "write_group"]

_MAX_DEPTH, _MAX_NODES = 32, 100_000
_COMPRESS_FROM = 2048  # elements; below, compression costs more than it saves
_CHUNK_BYTES = 1 << 20
_MAX_INFLATE = 1200  # deflate cannot exceed a ratio of 1032
_MAX_CHUNK = 1 << 28  # bytes; a chunk is inflated whole, however little of it is asked for
_LARGE, _MAX_RATIO = 1 << 30, 100  # together the arrays of a file may be this large, or so many times the file
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}


# ---- kinds of results ---------------------------------------------------------------------------------------------


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


@lru_cache(maxsize=1)
def _kinds() -> dict[str, type]:
    """kind in the file -> class; every record class of fpsolve.results takes part."""
    named: list[type] = [getattr(results, name) for name in results.__all__]
    classes = [c for c in named if dataclasses.is_dataclass(c)]
    return {"escape" if c is results.EscapeTimes else _snake(c.__name__): c for c in classes}


def _describe(dataset: h5py.Dataset, about: results.Quantity) -> None:
    for attr, text in (("dims", " ".join(about.dims)), ("units", about.units), ("long_name", about.meaning)):
        _set_text(dataset, attr, text)


def _attach_scales(group: h5py.Group, obj: Any) -> None:
    """Cell centres as HDF5 dimension scales, so that netCDF-4 readers find the coordinates."""
    values = group["values"] if "values" in group else group["right"]
    first = values.ndim - obj.grid.dim if hasattr(obj, "times") or hasattr(obj, "right") else 0
    for axis, centers in enumerate(obj.grid.centers):
        scale = group.create_dataset(f"x{axis}", data=np.asarray(centers, dtype=np.float64))
        scale.make_scale(f"x{axis}")
        _set_text(scale, "type", "scale")
        values.dims[first + axis].attach_scale(scale)
    if first and "times" in group:
        group["times"].make_scale("time")
        values.dims[0].attach_scale(group["times"])


def describe_arrays(group: h5py.Group, words: Mapping[str, tuple[str, str, str]]) -> None:
    """Write what arrays are: attributes ``dims``, ``units``, ``long_name``, and HDF5 dimension scales.

    Every axis becomes a dimension: a scale in the group of the array under the name of the axis. An array of one axis with the
    name of its axis is the scale of its neighbours; where there is none, an empty one is written, as netCDF-4 does.

    Parameters
    ----------
    group : h5py.Group
    words : dict of str to (str, str, str)
        Path of an array below `group` -> names of its axes (separated by blanks), units, long name.

    Raises
    ------
    ValueError
        If an array has another number of axes than names.
    """
    for path, (dims, units, long_name) in words.items():
        dataset, names = group[path], dims.split()
        if len(names) != dataset.ndim:
            raise ValueError(f"{dataset.name} has {dataset.ndim} axes, but {len(names)} names: {dims!r}")
        for attr, text in (("dims", dims), ("units", units), ("long_name", long_name)):
            _set_text(dataset, attr, text)
    # scales first: those with values of their own, then empty ones
    for path, (dims, _, _) in words.items():
        if dims == group[path].name.rsplit("/", 1)[-1]:
            group[path].make_scale(dims)
    for path, (dims, _, _) in words.items():
        dataset = group[path]
        for axis, name in enumerate(dims.split()):
            scale = _scale(dataset.parent, name, dataset.shape[axis], dataset.maxshape[axis])
            if scale != dataset:
                dataset.dims[axis].attach_scale(scale)


def _scale(group: h5py.Group, name: str, size: int, largest: int | None) -> h5py.Dataset:
    """The dimension `name` of a group; made without values where there is none."""
    if name not in group:
        scale = group.create_dataset(name, shape=(size,), maxshape=(largest,), dtype="u1", chunks=True if largest is None else None)
        scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{size:10d}")
        _set_text(scale, "type", "scale")
    return group[name]


def _record_fields(kind: str, obj: Any) -> dict[str, Any]:
    """The fields of a record that are not None, by their names."""
    fields = {}
    for item in dataclasses.fields(obj):
        value = getattr(obj, item.name)
        if value is None:
            continue
        if item.name == "assumptions":
            value = _Json([dataclasses.asdict(a) for a in value])
        elif kind in ("table", "escape_report") and item.name == "rows":
            value = _Json([list(row) for row in value])
        fields[item.name] = value
    return fields


def _write_record(group: h5py.Group, kind: str, obj: Any) -> None:
    _set_text(group, "kind", kind)
    for name, value in _record_fields(kind, obj).items():
        _write_node(group, name, value, depth=1)
        if name in obj.DESCRIBE:
            _describe(group[name], obj._describe(name, group[name].ndim))
    if hasattr(obj, "grid"):
        _attach_scales(group, obj)


def _read_record(cls: type, values: dict[str, Any]) -> Any:
    names = {f.name: f for f in dataclasses.fields(cls)}
    missing = [
        n
        for n, f in names.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and n not in values
    ]
    if missing:
        raise ValueError(f"a {cls.__name__} misses {missing}")
    values = {n: v for n, v in values.items() if n in names}
    for name, value in values.items():
        _check_kind(cls.__name__, name, str(names[name].type), value)
    if "assumptions" in values:
        values["assumptions"] = tuple(results.Assumption(**a) for a in values["assumptions"])
    return cls(**values)


#: Beginning of the annotation of a field -> what is read for it.
_KINDS: dict[str, tuple[Any, str]] = {
    "<class 'str'>": (str, "text"),
    "<class 'bool'>": (bool, "True or False"),
    "<class 'int'>": (int, "an integer"),
    "<class 'float'>": ((int, float), "a number"),
    "int | None": (int, "an integer"),
    "float | None": ((int, float), "a number"),
    "collections.abc.Mapping": (Mapping, "a group"),
    "numpy.ndarray": ((np.ndarray, list), "an array"),
    "tuple[str": (list, "a list of texts"),
}


def _check_kind(record: str, name: str, annotation: str, value: Any) -> None:
    for start, (kind, words) in _KINDS.items():
        if annotation.startswith(start) and not isinstance(value, kind):
            raise ValueError(f"{name} of a {record} should be {words}, got {reprlib.repr(value)}")


def _grid_fields(grid: Any) -> dict[str, Any]:
    """A node for each axis of the grid."""
    nodes = {}
    for i, (axis, sides) in enumerate(zip(grid.axes, grid.boundary, strict=True)):
        low, high, n = axis[:3]
        node = {
            "low": float(low),
            "high": float(high),
            "n": int(n),
            "boundary": list(sides),
            "centers": np.asarray(grid.centers[i]),
        }
        if len(axis) > 3:
            node["edges"] = np.asarray(grid.edges[i])
            if isinstance(axis[3], tuple) and axis[3][0] != "nodes":  # a callable is kept as the edges and centres it made
                node["mapping"], node["mapping_parameters"] = axis[3][0], np.array(axis[3][1:])
        nodes[f"axis{i}"] = node
    return nodes


def _write_grid(group: h5py.Group, grid: Any) -> None:
    _set_text(group, "kind", "grid")
    for name, node in _grid_fields(grid).items():
        _write_node(group, name, node, depth=1)


def _read_grid(values: dict[str, Any]) -> Any:
    from fpsolve.grid import Grid

    axes = [values[f"axis{i}"] for i in range(len(values))]
    return Grid(*map(_read_axis, axes), boundary=[tuple(a["boundary"]) for a in axes])


def _read_axis(a: dict[str, Any]) -> tuple[Any, ...]:
    axis = (a["low"], a["high"], a["n"])
    if "mapping" in a:
        return (*axis, (a["mapping"], *np.asarray(a["mapping_parameters"]).tolist()))
    if "edges" in a:
        nodes = np.empty(2 * int(a["n"]) + 1)
        nodes[::2], nodes[1::2] = a["edges"], a["centers"]
        return (*axis, ("nodes", tuple(nodes.tolist())))
    return axis


# ---- trees --------------------------------------------------------------------------------------------------------


class _Json:
    """Marks a list to be written as JSON text."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _text_data(text: str) -> np.ndarray:
    """A fixed-length UTF-8 scalar; HDF5 has no strings of length 0."""
    raw = text.encode("utf-8")
    return np.array(raw, dtype=h5py.string_dtype("utf-8", max(len(raw), 1)))


def _set_text(target: Any, name: str, text: str) -> None:
    target.attrs.create(name, _text_data(text))


def _text_attr(target: Any, name: str, default: str = "") -> str:
    value = target.attrs.get(name, default)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise ValueError(f"attribute {name!r} of {target.name} is not text")
    return str(value)


def _write_text(group: h5py.Group, name: str, text: str, kind: str) -> None:
    if "\0" in text and kind == "str":  # NUL ends a fixed-length string: take the JSON escape
        text, kind = json.dumps(text), "json"
    try:
        group.create_dataset(name, data=_text_data(text))
    except UnicodeEncodeError as error:
        raise ValueError(f"{group.name}/{name}: the text cannot be written as UTF-8: {error}") from error
    _set_text(group[name], "type", kind)


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Halve the leading axes until a chunk is at most 1 MiB."""
    chunk, axis = list(shape), 0
    while math.prod(chunk) * itemsize > _CHUNK_BYTES:
        axis = next(i for i, n in enumerate(chunk) if n > 1)
        chunk[axis] = -(-chunk[axis] // 2)
    return tuple(chunk)


def _write_array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "U":
        raw = np.char.encode(array, "utf-8")
        length = max(raw.dtype.itemsize, 1)
        group.create_dataset(name, data=raw.astype(f"S{length}").astype(h5py.string_dtype("utf-8", length)))
        _set_text(group[name], "type", "text array")
        return
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"{group.name}/{name}: arrays of dtype {array.dtype} are not saved; use numbers, booleans or fixed-length text"
        )
    large = array.size >= _COMPRESS_FROM and array.dtype.kind in "biuf"
    options = (
        {"compression": "gzip", "compression_opts": 1, "shuffle": True, "chunks": _chunks(array.shape, array.dtype.itemsize)}
        if large
        else {}
    )
    group.create_dataset(name, data=array, **options)


def _write_sequence(group: h5py.Group, name: str, value: Any) -> None:
    if value and all(isinstance(v, str) for v in value) and not any("\0" in v for v in value):
        _write_array(group, name, np.array(value, dtype=np.str_))
        _set_text(group[name], "type", "strings")
        return
    if not value or not all(isinstance(v, (str, bool, int, float, type(None))) for v in value):
        array = np.asarray(value)
        if array.size and array.dtype.kind in "biufc":
            _write_array(group, name, array)
            return
    elif all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value):
        _write_array(group, name, np.asarray(value))
        return
    try:
        _write_text(group, name, json.dumps(value), "json")
    except TypeError as error:
        raise TypeError(f"{group.name}/{name}: a list of these cannot be saved: {error}") from error


_SCALARS: tuple[tuple[Any, str, Any], ...] = (
    (bool, "bool", np.bool_),
    (int, "int", np.int64),
    (float, "float", np.float64),
    (complex, "complex", np.complex128),
)


def _write_scalar(group: h5py.Group, name: str, value: Any) -> bool:
    if isinstance(value, np.generic):
        value = value.item()
    for python, tag, numpy in _SCALARS:
        if isinstance(value, python):
            if python is int and not -(2**63) <= value < 2**63:
                _write_text(group, name, json.dumps(value), "json")
            else:
                group.create_dataset(name, data=numpy(value))
                _set_text(group[name], "type", tag)
            return True
    return False


def _write_node(group: h5py.Group, name: Any, value: Any, depth: int) -> None:
    if not isinstance(name, str):
        raise TypeError(f"names in a tree must be str, got {name!r}")
    if not name or name == "." or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} cannot be a name in an HDF5 file: it must not be empty, '.', or contain '/' or NUL")
    if depth > _MAX_DEPTH:
        raise ValueError(f"the tree is deeper than {_MAX_DEPTH} levels at {group.name}")
    kind = _kind_of(value)
    if kind is not None:
        write = _write_grid if kind == "grid" else lambda g, v: _write_record(g, kind, v)
        write(group.create_group(name), value)
    elif isinstance(value, Mapping):
        write_group(group.create_group(name), value, depth=depth + 1)
    elif isinstance(value, _Json):
        _write_text(group, name, json.dumps(value.value), "json")
    elif isinstance(value, str):
        _write_text(group, name, value, "str")
    elif value is None:
        group.create_dataset(name, data=h5py.Empty("f8"))
        _set_text(group[name], "type", "none")
    elif isinstance(value, (list, tuple)):
        _write_sequence(group, name, value)
    elif isinstance(value, np.ndarray):
        _write_array(group, name, value)
    elif not _write_scalar(group, name, value):
        raise TypeError(
            f"{group.name}/{name}: {type(value).__name__} cannot be saved; use arrays, numbers, text, None, "
            "lists, dicts or results of fpsolve"
        )


def _kind_of(value: Any) -> str | None:
    for kind, cls in _kinds().items():
        if type(value) is cls:
            return kind
    if type(value).__module__ == "fpsolve.grid" and type(value).__name__ == "Grid":
        return "grid"
    return None


def write_group(group: h5py.Group, tree: Mapping[str, Any], *, depth: int = 0) -> None:
    """Write a nested dict of arrays, scalars, strings, None, lists and results into an open HDF5 group.

    Raises
    ------
    TypeError, ValueError
        For a value or a name that the schema does not know.
    """
    for name, value in tree.items():
        _write_node(group, name, value, depth)


@dataclasses.dataclass
class _Budget:
    """What has been read of a file so far."""

    nodes: int = 0
    size: int = 0
    seen: set[Any] = dataclasses.field(default_factory=set)

    def count(self, node: Any) -> None:
        """Each object once: a second hard link multiplies what is read, or makes a group its own member."""
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise ValueError(f"more than {_MAX_NODES} objects")
        address = h5py.h5o.get_info(node.id)
        if (address.fileno, address.addr) in self.seen:
            raise ValueError(f"{node.name} is there twice (nested in itself, or hard links), which no file of fpsolve is")
        self.seen.add((address.fileno, address.addr))
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            self.size += node.size * node.dtype.itemsize
            if self.size > max(_LARGE, _MAX_RATIO * node.file.id.get_filesize()):
                raise ValueError(
                    f"its arrays claim {self.size / 1e9:.3g} GB or more, {_MAX_RATIO} times the file: no honest file does"
                )


def read_group(group: h5py.Group) -> dict[str, Any]:
    """Read what `write_group` wrote; links to elsewhere, object types and impossible sizes are refused (ValueError)."""
    return _read_members(group, 0, _Budget())


def member(group: h5py.Group, name: str, kind: type | tuple[type, ...] = (h5py.Group, h5py.Dataset)) -> Any:
    """A member of a group, neither linked from elsewhere nor of a kind, type or size that fpsolve does not write; not read yet.

    Raises
    ------
    ValueError
        If there is none, or one that is refused.
    """
    link = group.get(name, getlink=True)
    if link is None:
        raise ValueError(f"{group.name} has no {name}")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{group.name}/{name} is a soft or external link; links are refused")
    node = group[name]
    if not isinstance(node, kind):
        what = {h5py.Group: "group", h5py.Dataset: "dataset"}
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise ValueError(f"{group.name}/{name} is no {' or '.join(what[k] for k in kinds)}")
    if isinstance(node, h5py.Dataset) and node.shape is not None:
        _check_dataset(node)
    return node


def is_elsewhere(node: h5py.Dataset) -> bool:
    """Whether the values are in another file."""
    return bool(node.external or node.is_virtual)


def _check_dataset(node: h5py.Dataset) -> None:
    if node.dtype.kind not in "biufcS":
        raise ValueError(f"{node.name} has the data type {node.dtype}; only numbers, booleans and fixed-length text are read")
    if is_elsewhere(node):
        raise ValueError(f"{node.name} keeps its data in another file; that is refused")
    packing = node.id.get_create_plist()
    unknown = {packing.get_filter(i)[0] for i in range(packing.get_nfilters())} - _FILTERS
    if unknown:  # HDF5 looks for such a filter in a library, which it would load
        raise ValueError(f"{node.name} is packed by the filters {sorted(unknown)}; known are gzip, shuffle, fletcher32 and lzf")
    size, stored = node.size * node.dtype.itemsize, node.id.get_storage_size()
    if size > _CHUNK_BYTES and size > _MAX_INFLATE * stored:
        raise ValueError(f"{node.name} claims {size} bytes but stores {stored}: no honest file does")
    chunk = math.prod(node.chunks or ()) * node.dtype.itemsize
    if chunk > max(_MAX_CHUNK, size):
        raise ValueError(f"{node.name} of {size} bytes claims chunks of {chunk} bytes: no honest file does")


def _read_members(group: h5py.Group, depth: int, budget: _Budget) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"groups are nested deeper than {_MAX_DEPTH} levels")
    tree = {}
    for name in group:
        node = member(group, name)
        budget.count(node)
        if isinstance(node, h5py.Group):
            tree[name] = _read_object(node, depth + 1, budget)
        elif _text_attr(node, "type") != "scale":
            tree[name] = read_dataset(node)
    return tree


def _read_object(group: h5py.Group, depth: int, budget: _Budget) -> Any:
    values = _read_members(group, depth, budget)
    kind = _text_attr(group, "kind")
    if not kind:
        return values
    if kind == "grid":
        return _read_grid(values)
    classes = _kinds()
    if kind not in classes:
        raise ValueError(f"{group.name} holds a {kind!r}, which this version of fpsolve does not know")
    return _read_record(classes[kind], values)


def read_dataset(node: h5py.Dataset) -> Any:
    """The value of a dataset that `member` has let pass, as it was written."""
    tag = _text_attr(node, "type")
    if node.shape is None:
        return None
    is_text = node.dtype.kind == "S"
    scalar = tag in ("str", "json", *(name for _, name, _ in _SCALARS))
    if (tag in ("str", "json", "strings", "text array")) != is_text or (scalar and node.shape != ()):
        raise ValueError(f"{node.name} is marked {tag or 'an array'!r}, but holds {node.dtype} of shape {node.shape}")
    data = node[()]
    if tag in ("str", "json"):
        text = bytes(data).decode("utf-8")
        return text if tag == "str" else json.loads(text)
    if node.dtype.kind == "S":
        decoded = np.char.decode(np.asarray(data), "utf-8")
        return [str(s) for s in decoded] if tag == "strings" else decoded
    for python, name, _ in _SCALARS:
        if tag == name:
            return python(data)
    return data if isinstance(data, np.ndarray) else np.asarray(data, dtype=node.dtype)  # keeps the byte order
