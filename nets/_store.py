"""The file of a training run: small segments while it runs, one HDF5 file at the end.

Each segment in ``<out>.parts/`` is written whole or not at all (fpsolve.io.save_tree) and holds the series recorded since the one
before, the state, and the sums so far. So a run killed at any moment loses at most what came after its last segment, and
`nets.load_run` joins the rest. When the run ends, the segments are joined into ``<out>`` (again whole or not at all) and removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fpsolve import io

__all__ = ["Store", "join", "parts_folder"]

#: Dataset -> units, long name; losses are in nats (cross-entropy) or squared target units (mse).
DESCRIBE = {
    "step": ("iteration", "iterations done"),
    "value": ("", "recorded values, one row per record"),
    "train_loss": ("loss", "training loss, weight decay included"),
    "test_loss": ("loss", "test loss, weight decay included"),
    "train_error": ("1", "fraction of training samples misclassified"),
    "test_error": ("1", "fraction of test samples misclassified"),
    "dot_gradient": ("loss", "(theta - origin) . grad L of the training set"),
    "gradient_norm2": ("loss^2/weight^2", "|grad L|^2 of the training set"),
}
#: A segment is written when the series waiting take more than this (bytes), or when `SEGMENT_SECONDS` have passed.
SEGMENT_BYTES = 16_000_000
SEGMENT_SECONDS = 30.0


def parts_folder(path: Path) -> Path:
    """Folder of the segments of the run `path`."""
    return path.with_name(path.name + ".parts")


class Store:
    """Writes the segments of one run, and joins them."""

    def __init__(self, path: str | os.PathLike[str], overwrite: bool) -> None:
        self.path = io.check_writable(path, overwrite=overwrite)
        self.folder = parts_folder(self.path)
        self.count = 0
        if self.folder.exists():
            raise FileExistsError(
                f"{self.folder} holds an interrupted run: recover it with nets.load_run({str(self.path)!r}), or "
                "delete that folder, or choose another name for out"
            )
        self.folder.mkdir()

    def write(self, series: Mapping[str, Any], small: Mapping[str, Any]) -> None:
        """Write the next segment; the small things of the one before are superseded by `small`."""
        io.save_tree(
            self.folder / f"{self.count:06d}.h5",
            {"series": series, "small": small},
            {"kind": "training segment"},
            record=small["record"],
        )
        self.count += 1

    def close(self) -> None:
        """Join the segments into the final file."""
        join(self.path, self.folder)

    def discard(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder, ignore_errors=True)


def join(path: Path, folder: Path) -> None:
    """Join the segments in `folder` into the run file `path`, then remove them; memory: one segment at a time."""
    import h5py

    files = sorted(folder.glob("[0-9]*.h5"))
    if not files:
        raise ValueError(f"{folder} holds no complete segment: the run was interrupted before its first one; delete the folder")
    small = io.load_tree(files[-1])["small"]
    record = small.pop("record")
    temporary = folder / "joined.tmp"
    temporary.unlink(missing_ok=True)
    io.save_tree(temporary, small, {"kind": "training run"}, record=record)
    with h5py.File(temporary, "a") as target:
        for file in files:
            for group, arrays in io.load_tree(file)["series"].items():
                for name, array in arrays.items():
                    _append(target.require_group(group), name, np.asarray(array))
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    shutil.rmtree(folder)


def _append(group: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    if name not in group:
        row = max(1, array.itemsize * int(np.prod(array.shape[1:])))
        chunk = (min(max(1, (1 << 19) // row), max(1, len(array))), *array.shape[1:])
        data = group.create_dataset(
            name, shape=(0, *array.shape[1:]), maxshape=(None, *array.shape[1:]), chunks=chunk, dtype=array.dtype
        )
        units, long_name = DESCRIBE.get(name, ("", name.replace("_", " ")))
        words = {"dims": "record" + " component" * (array.ndim - 1), "units": units, "long_name": long_name}
        for attr, text in words.items():
            data.attrs.create(attr, np.bytes_(text))  # fixed length: every HDF5 reader knows it
    data = group[name]
    start = len(data)
    data.resize(start + len(array), axis=0)
    data[start:] = array
