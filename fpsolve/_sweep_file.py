"""The file of a sweep: HDF5 whose structure is written once, and whose rows are filled in place.

The file is made whole under a temporary name and renamed, with one row for each unit in arrays that lie in one piece on the disk.
A finished unit is written with plain writes at the places of its row: first the numbers, then their checksum, and last the byte
that says that they count. No library keeps anything of the structure in memory, so that there is no moment at which a kill, a full
disk or a lost machine leaves a file that does not open. A row counts if its byte and its checksum say so.

What a unit returns is known when the first one is done. Until then the file has no place for results; then it is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import io
from ._calls import Outcome
from ._columns import Layout, fit, put_together
from ._tree import _set_text, _text_attr, _write_text, member
from ._units import Plan

__all__ = ["DONE", "FAILED", "MISSING", "Reader", "Writer"]

MISSING, DONE, FAILED = 0, 1, 2
_ERROR, _MACHINE, _MACHINES = 240, 600, 16
#: What is kept of each unit besides its results, as (dtype, long name); `status` is written last.
_UNITS = {
    "seconds": ("<f8", "run time of the unit"),
    "finished": ("<f8", "when it was finished, seconds since 1970"),
    "attempts": ("<u2", "how often it was run"),
    "machine": ("|u1", "row of the table of machines"),
    "error": (f"|S{_ERROR}", "why the unit failed"),
    "crc": ("<u4", "CRC-32 of the row"),
    "status": ("|u1", "0 missing, 1 done, 2 failed"),
}
#: Rows whose checksums are looked at in one go, in bytes.
_BLOCK = 1 << 22
#: Seconds between two requests to the disk to write what it holds back, for the case that the power fails.
SYNC = 1.0


class Row:
    """Where one column lies in the file: row `i` takes `size` bytes at ``offset + i * size``."""

    def __init__(self, dataset: h5py.Dataset, rows: int, depth: int) -> None:
        self.dtype, self.shape = dataset.dtype, tuple(dataset.shape[depth:])
        self.size = self.dtype.itemsize * math.prod(self.shape)
        offset = dataset.id.get_offset()
        if offset is None or dataset.id.get_storage_size() != rows * self.size:
            raise ValueError(f"{dataset.name} does not lie in one piece in the file")
        self.offset = int(offset)


class _Places:
    """The columns of an open file, and the plan and the layout in it."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        io._check_schema(file)
        if _text_attr(file, "kind") != "sweep":
            raise ValueError("it is no sweep")
        self.plan = Plan.from_json(_text(_member(file, "plan")))
        self.call = {str(k): str(v) for k, v in json.loads(_text(_member(file, "call"))).items()}
        self.layout = Layout.from_json(_text(_member(file, "layout"))) if "layout" in file else None
        depth, rows = len(self.plan.shape), self.plan.size
        groups = [("units", dict.fromkeys(_UNITS)), ("results", dict.fromkeys(self.layout.columns if self.layout else ()))]
        self.columns: dict[str, Row] = {}
        for group, names in groups:
            for name in names:
                dataset = _member(file, f"{group}/{name}")
                if tuple(dataset.shape[:depth]) != self.plan.shape:
                    raise ValueError(f"{dataset.name} has the shape {dataset.shape}, which is not that of the sweep")
                self.columns[f"{group}/{name}"] = Row(dataset, rows, depth)
        for name, (dtype, shape) in self.layout.columns.items() if self.layout else ():
            column = self.columns[f"results/{name}"]
            if (column.dtype.str, column.shape) != (dtype, shape):
                raise ValueError(f"results/{name} is of {column.dtype} and shape {column.shape}, not {dtype} and {shape}")
        if self.layout is not None and self.layout.notes:
            self.columns["units/notes"] = Row(_member(file, "units/notes"), rows, depth)
        self.machines = Row(_member(file, "machines"), _MACHINES, 1)
        for name, (dtype, _) in _UNITS.items():
            if self.columns[f"units/{name}"].dtype.str != dtype:
                raise ValueError(f"units/{name} is of {self.columns[f'units/{name}'].dtype}, not {dtype}")
        size = path.stat().st_size
        if any(c.offset + rows * c.size > size for c in self.columns.values()):
            raise ValueError("it is cut short")

    @property
    def summed(self) -> list[Row]:
        """The columns under the checksum, in its order."""
        skip = ("units/crc", "units/status")
        return [self.columns[name] for name in sorted(self.columns) if name not in skip]


def _member(file: h5py.File, path: str) -> h5py.Dataset:
    """A dataset of this file by its path."""
    node: Any = file
    *groups, last = path.split("/")
    for name in groups:
        node = member(node, name, h5py.Group)
    return member(node, last, h5py.Dataset)


def _text(dataset: h5py.Dataset) -> str:
    if dataset.shape != () or dataset.dtype.kind != "S" or dataset.chunks:
        raise ValueError(f"{dataset.name} is no text")
    return bytes(dataset[()]).decode("utf-8")


def _read_at(handle: int, offset: int, size: int) -> bytes:
    data = os.pread(handle, size, offset)
    return data + bytes(size - len(data))  # what lies behind the end of the file was never written


def _checksum(index: int, parts: list[bytes]) -> int:
    value = zlib.crc32(index.to_bytes(8, "little"))
    for part in parts:
        value = zlib.crc32(part, value)
    return value


# ---- reading ------------------------------------------------------------------------------------------------------------------


class Reader:
    """Looks into a file, also while another process fills it; what was once found in order is not checked again."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.expanduser(os.fspath(path))).absolute()
        self._seen: NDArray[np.uint8] | None = None
        self._inode = -1
        self._places: _Places | None = None
        self.places()

    def places(self) -> _Places:
        """Plan, layout and columns; read again if the file was made anew."""
        try:
            inode = self.path.stat().st_ino
        except OSError:
            inode = -2  # _open says what is wrong
        if self._places is None or inode != self._inode:
            try:
                with io._open(self.path) as file:
                    self._places = _Places(self.path, file)
            except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise ValueError(f"{self.path} cannot be read as a sweep: {error}") from error
            self._inode, self._seen = inode, None
        return self._places

    @contextlib.contextmanager
    def _handle(self) -> Iterator[tuple[int, _Places]]:
        while True:
            places = self.places()
            handle = os.open(self.path, os.O_RDONLY)
            if os.fstat(handle).st_ino == self._inode:
                break
            os.close(handle)  # made anew in between
        try:
            yield handle, places
        finally:
            os.close(handle)

    def quick_status(self) -> NDArray[np.uint8]:
        """The status of every unit as it stands, checksums not looked at."""
        with self._handle() as (handle, places):
            row = places.columns["units/status"]
            return np.frombuffer(_read_at(handle, row.offset, places.plan.size), np.uint8)

    def status(self) -> NDArray[np.uint8]:
        """The status of every unit; one whose checksum is wrong is missing."""
        with self._handle() as (handle, places):
            row = places.columns["units/status"]
            found = np.frombuffer(_read_at(handle, row.offset, places.plan.size), np.uint8).copy()
            if self._seen is None or len(self._seen) != len(found):
                self._seen = np.zeros(len(found), np.uint8)
            found[found > FAILED] = MISSING
            fresh = np.flatnonzero((found != MISSING) & (self._seen == 0))
            for lo, hi in _runs(fresh, max(1, _BLOCK // sum(r.size for r in places.summed))):
                good = _verified(handle, places, lo, hi)
                found[lo:hi][~good] = MISSING
                self._seen[lo:hi][good] = 1
            return found

    def state(self, index: int) -> int:
        """The status of one unit; of no other unit anything is read."""
        with self._handle() as (handle, places):
            found = _read_at(handle, places.columns["units/status"].offset + index, 1)[0]
            return found if found in (DONE, FAILED) and _verified(handle, places, index, index + 1)[0] else MISSING

    def column(self, name: str) -> NDArray[Any]:
        """One column of all units, shape (units, ...)."""
        with self._handle() as (handle, places):
            row = places.columns[name]
            data = _read_at(handle, row.offset, places.plan.size * row.size)
            return np.frombuffer(data, row.dtype).reshape(places.plan.size, *row.shape)

    def text(self, name: str, index: int) -> str:
        with self._handle() as (handle, places):
            row = places.columns[name]
            return _read_at(handle, row.offset + index * row.size, row.size).rstrip(b"\0").decode("utf-8", "replace")

    def value(self, index: int) -> Any:
        """What a unit returned; it must be done."""
        with self._handle() as (handle, places):
            assert places.layout is not None
            columns = {}
            for name in places.layout.columns:
                row = places.columns[f"results/{name}"]
                data = _read_at(handle, row.offset + index * row.size, row.size)
                columns[name] = np.frombuffer(data, row.dtype).reshape(row.shape).copy()
        return put_together(places.layout, columns, self.text("units/notes", index) if places.layout.notes else "")

    def machines(self) -> list[str]:
        with self._handle() as (handle, places):
            data = _read_at(handle, places.machines.offset, _MACHINES * _MACHINE)
        rows = [data[i : i + _MACHINE].rstrip(b"\0").decode("utf-8", "replace") for i in range(0, len(data), _MACHINE)]
        return rows[: max((i + 1 for i, text in enumerate(rows) if text), default=0)]


def _runs(indices: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `most` that hold the indices and nothing else."""
    if len(indices):
        for part in np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1):
            for lo in range(int(part[0]), int(part[-1]) + 1, most):
                yield lo, min(lo + most, int(part[-1]) + 1)


def _verified(handle: int, places: _Places, lo: int, hi: int) -> NDArray[np.bool_]:
    """Whether the checksums of these rows are right."""
    blocks = [(r.size, _read_at(handle, r.offset + lo * r.size, (hi - lo) * r.size)) for r in places.summed]
    row = places.columns["units/crc"]
    sums = np.frombuffer(_read_at(handle, row.offset + 4 * lo, 4 * (hi - lo)), "<u4")
    found = [_checksum(lo + i, [data[i * size : (i + 1) * size] for size, data in blocks]) for i in range(hi - lo)]
    return np.asarray(sums == np.array(found, np.uint32))


# ---- writing ------------------------------------------------------------------------------------------------------------------


class Writer:
    """Makes the file or goes on with it. Only one process may have one: see `_lock.locked`."""

    def __init__(self, path: Path, plan: Plan, call: dict[str, str]) -> None:
        self.path, self.plan, self.call = path, plan, call
        self._handle, self._last, self._dirty = -1, 0.0, False
        _clear(path)
        if path.exists():
            self._resume()
        else:
            self._make(None)
            self._open()
            self.status = np.zeros(plan.size, np.uint8)

    @property
    def layout(self) -> Layout | None:
        return self.places.layout

    def count(self, status: int) -> int:
        return int(np.count_nonzero(self.status == status))

    def finished(self, lo: int, hi: int) -> NDArray[np.bool_]:
        """Of these units those that are done."""
        return np.asarray(self.status[lo:hi] == DONE)

    def _resume(self) -> None:
        advice = "It is left as it is: repeat that call, give out= another name, or delete the file"
        try:
            reader = Reader(self.path)
        except ValueError as error:
            raise ValueError(f"{error}. {advice}") from error
        old = reader.places().call
        if old != self.call:
            names = [n for n in {**self.call, **old} if self.call.get(n) != old.get(n)]
            changes = "; ".join(f"{n} was {_brief(old.get(n))}, is {_brief(self.call.get(n))}" for n in names)
            raise ValueError(f"{self.path} is the sweep of another call: {changes}. {advice}")
        self.status = reader.status()
        self._open()
        there = self.path.stat()  # what was never written takes no room yet
        need, free = there.st_size - 512 * getattr(there, "st_blocks", math.inf), shutil.disk_usage(self.path.parent).free
        if self.count(DONE) < self.plan.size and need > free:
            raise OSError(
                errno.ENOSPC,
                f"{self.path} will need {need / 1e9:.3g} GB more, but {free / 1e9:.3g} GB are free: make room, and repeat the call",
            )

    def _open(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        reader = Reader(self.path)
        self.places, self._machines = reader.places(), reader.machines()
        try:
            self._handle = os.open(self.path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise type(error)(error.errno, f"cannot write to {self.path}: {error.strerror}") from error

    def _make(self, layout: Layout | None) -> None:
        """The whole structure; of a file that is made anew, with what its units came to."""
        self._check_space(layout)
        plan = self.plan

        def fill(file: h5py.File) -> None:
            _set_text(file, "kind", "sweep")
            _write_text(file, "plan", plan.as_json(), "json")
            _write_text(file, "call", json.dumps(self.call), "json")
            if layout is not None:
                _write_text(file, "layout", layout.as_json(), "json")
            axes = file.create_group("axes")
            for name, values in plan.axes.items():
                _write_axis(axes, name, values, plan.listed)
            columns: dict[str, tuple[str, tuple[int, ...], str]]
            columns = {f"units/{name}": (dtype, (), words) for name, (dtype, words) in _UNITS.items()}
            if layout is not None:
                columns.update({f"results/{name}": (d, shape, "") for name, (d, shape) in layout.columns.items()})
                if layout.notes:
                    columns["units/notes"] = (f"|S{layout.notes}", (), "texts of the result, as JSON")
            for name, (dtype, shape, words) in columns.items():
                dataset = _reserve(file, name, plan.shape + shape, np.dtype(dtype))
                own = (f"{name.rsplit('/', 1)[-1]}_{i}" for i in range(len(shape)))
                _set_text(dataset, "dims", " ".join([*plan.dims, *own]))
                _set_text(dataset, "units", "s" if name in ("units/seconds", "units/finished") else "")
                _set_text(dataset, "long_name", words)
                for i, axis in enumerate(plan.dims if not plan.listed else ()):
                    if f"axes/{axis}" in file:
                        dataset.dims[i].attach_scale(file[f"axes/{axis}"])
            _reserve(file, "machines", (_MACHINES,), np.dtype(f"|S{_MACHINE}"))

        record = io.provenance(**self.call)
        try:
            io._write_file(self.path, fill, record) if layout is None else self._make_anew(fill, record)
        except OSError as error:
            raise OSError(error.errno, f"cannot make {self.path}: {error.strerror or error}") from error

    def _make_anew(self, fill: Any, record: dict[str, Any]) -> None:
        """Beside the file that has no results yet; the rows of units that failed go along."""
        temporary = io._temporary(self.path)
        try:
            io._write_file(temporary, fill, record)
            with io._open(temporary) as file:
                new = _Places(temporary, file)
            handle = os.open(temporary, os.O_RDWR)
            try:
                _copy(self._handle, self.places.machines, handle, new.machines, _MACHINES)
                for name in _UNITS:
                    _copy(self._handle, self.places.columns[f"units/{name}"], handle, new.columns[f"units/{name}"], self.plan.size)
                for index in np.flatnonzero(self.status == FAILED):
                    self._sign(handle, new, int(index))
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def _sign(self, handle: int, places: _Places, index: int) -> None:
        """A checksum over the columns of the file made anew."""
        parts = [_read_at(handle, row.offset + index * row.size, row.size) for row in places.summed]
        row = places.columns["units/crc"]
        _write_at(handle, row.offset + 4 * index, _checksum(index, parts).to_bytes(4, "little"))

    def _check_space(self, layout: Layout | None) -> None:
        per_unit = sum(np.dtype(dtype).itemsize for dtype, _ in _UNITS.values())
        if layout is not None:
            per_unit += sum(np.dtype(d).itemsize * math.prod(shape) for d, shape in layout.columns.values()) + layout.notes
        need, free = self.plan.size * per_unit, shutil.disk_usage(self.path.parent).free
        if need > free:
            raise OSError(
                errno.ENOSPC,
                f"the sweep needs {need / 1e9:.3g} GB in {self.path.parent} ({self.plan.size} units of {per_unit} bytes), "
                f"but {free / 1e9:.3g} GB are free: make room, or return less from each unit",
            )

    def store(self, index: int, outcome: Outcome, attempts: int) -> str:
        """Write what came of a unit; returns why it failed, "" if it did not."""
        error, columns, notes = outcome.error, None, b""
        if outcome.parts is not None and not error:
            if self.layout is None:
                from ._columns import lay_out

                self._make(lay_out(outcome.parts))
                self._open()
            assert self.layout is not None
            try:
                columns, notes = fit(self.layout, outcome.parts)
            except ValueError as problem:
                error = f"ValueError: what the unit returned cannot be stored: {problem}"
        status = FAILED if error else DONE
        before = self._row_attempts(index)
        values = {
            "units/seconds": np.float64(outcome.seconds).tobytes(),
            "units/finished": np.float64(time.time()).tobytes(),
            "units/attempts": np.uint16(min(before + attempts, 65535)).tobytes(),
            "units/machine": np.uint8(self._machine(outcome.machine)).tobytes(),
            "units/error": _cut(error, _ERROR),
        }
        if self.layout is not None:
            rows = columns or [bytes(self.places.columns[f"results/{n}"].size) for n in self.layout.columns]
            values.update({f"results/{name}": data for name, data in zip(self.layout.columns, rows, strict=True)})
            if self.layout.notes:
                values["units/notes"] = notes.ljust(self.layout.notes, b"\0")
        crc = _checksum(index, [values[name] for name in sorted(values)])
        try:
            if self.status[index] != MISSING:
                self._put("units/status", index, bytes([MISSING]))
            for name, data in values.items():
                self._put(name, index, data)
            self._put("units/crc", index, crc.to_bytes(4, "little"))
            self._put("units/status", index, bytes([status]))
        except OSError as problem:
            raise self._trouble(problem) from problem
        self.status[index], self._dirty = status, True
        self.sync(SYNC)
        return error

    def _row_attempts(self, index: int) -> int:
        if self.status[index] == MISSING:
            return 0
        row = self.places.columns["units/attempts"]
        return int.from_bytes(_read_at(self._handle, row.offset + 2 * index, 2), "little")

    def _put(self, name: str, index: int, data: bytes) -> None:
        row = self.places.columns[name]
        _write_at(self._handle, row.offset + index * row.size, data)

    def _trouble(self, problem: OSError) -> OSError:
        done = f"{self.count(DONE)} of {self.plan.size} units are stored; the same call goes on from there"
        reason = problem.strerror or str(problem)
        return type(problem)(problem.errno, f"cannot write to {self.path}: {reason}. {done}")

    def _machine(self, text: str) -> int:
        """Row of the machine in the table; 255 stands for one that is not known, or found no place."""
        if not text:
            return 255
        text = _cut(text, _MACHINE).rstrip(b"\0").decode("utf-8", "replace")
        if text not in self._machines:
            if len(self._machines) == _MACHINES:
                return 255
            row = len(self._machines)
            try:
                _write_at(self._handle, self.places.machines.offset + row * _MACHINE, _cut(text, _MACHINE))
            except OSError as problem:
                raise self._trouble(problem) from problem
            self._machines.append(text)
        return self._machines.index(text)

    @property
    def machines(self) -> list[str]:
        return list(self._machines)

    def sync(self, every: float = 0.0) -> None:
        """Ask the disk to write what it holds back, if the last time was so many seconds ago."""
        if self._dirty and time.monotonic() - self._last >= every:
            try:
                getattr(os, "fdatasync", os.fsync)(self._handle)
                here = os.stat(self.path)
            except FileNotFoundError:
                raise OSError(errno.ENOENT, f"{self.path} was deleted while the sweep was writing to it") from None
            except OSError as problem:
                raise self._trouble(problem) from problem
            if here.st_ino != os.fstat(self._handle).st_ino:
                raise OSError(errno.ESTALE, f"{self.path} was replaced by another file while the sweep was writing to it")
            self._last, self._dirty = time.monotonic(), False

    def close(self) -> None:
        if self._handle >= 0:
            try:
                self.sync()
            finally:
                os.close(self._handle)
                self._handle = -1


def _clear(path: Path) -> None:
    """Remove what writers left that were killed while they made the file."""
    name, tail = glob.escape(path.name[:100]), "[0-9a-f]" * 12 + ".tmp"
    for left in (*path.parent.glob(f".{name}.{tail}"), *path.parent.glob(f"..{name}.*.{tail}")):
        with contextlib.suppress(OSError):
            found = left.stat()
            if found.st_size or time.time() - found.st_mtime > 60.0:  # or else somebody just tries whether one can write here
                left.unlink()


def _brief(words: str | None) -> str:
    text = "missing" if words is None else words
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-40:]}"


def _cut(text: str, size: int) -> bytes:
    """UTF-8 of exactly `size` bytes, with a mark where it was cut."""
    data = text.replace("\0", " ").encode("utf-8", "replace")
    if len(data) > size:
        data = data[: size - 10].decode("utf-8", "ignore").encode() + b" ... (cut)"
    return data.ljust(size, b"\0")


def _write_at(handle: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view, offset = view[written:], offset + written


def _copy(source: int, there: Row, target: int, here: Row, rows: int) -> None:
    step = max(1, _BLOCK // there.size)
    for lo in range(0, rows, step):
        data = _read_at(source, there.offset + lo * there.size, min(step, rows - lo) * there.size)
        if data.strip(b"\0"):
            _write_at(target, here.offset + lo * here.size, data)


def _write_axis(group: h5py.Group, name: str, values: tuple[Any, ...], listed: bool) -> None:
    if all(isinstance(v, bool) for v in values):
        array = np.array(values, np.bool_)
    elif all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values) and all(
        abs(v) < 2**63 for v in values if v == v // 1
    ):
        array = np.array(values)
    else:
        raw = [str(v).encode() for v in values]
        length = max(1, *map(len, raw))
        array = np.array(raw, f"S{length}").astype(h5py.string_dtype("utf-8", length))
    dataset = group.create_dataset(name, data=array)
    if array.dtype.kind == "S":
        _set_text(dataset, "type", "text array")
    if not listed:
        dataset.make_scale(name)


def _reserve(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    """A dataset in one piece, whose place is fixed now, and on which nothing is written yet: the disk reads as zeros."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    group, _, last = name.rpartition("/")
    where = file.require_group(group) if group else file
    kind = h5py.h5t.py_create(h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype, logical=True)
    h5py.h5d.create(where.id, last.encode(), kind, h5py.h5s.create_simple(shape), properties)
    if dtype.kind == "S":
        _set_text(where[last], "type", "text array")
    return where[last]
