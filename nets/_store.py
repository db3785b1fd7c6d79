"""The file of a training run: small segments while it runs, one HDF5 file at the end.

Each segment in ``<out>.parts/`` is written whole or not at all (fpsolve.io.save_tree) and holds the series recorded since the one
before, the state, and the sums so far. So a run killed at any moment loses at most what came after its last segment, and
`nets.load_run` joins the rest. When the run ends, the segments are joined into ``<out>`` (again whole or not at all) and removed.

The file ``owner`` in that folder is locked by the process that writes, as long as it lives, and names the run, as the attribute
``run`` of the joined file does: what is left of a run whose file is complete is told from a run that was killed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fpsolve import io

__all__ = ["Store", "check_free", "parts_folder", "settle"]

#: Array -> its axes, units, long name; losses are in nats (cross-entropy) or squared target units (mse).
DESCRIBE = {
    "model/widths": ("layer", "1", "width of each layer, inputs first"),
    "training/betas": ("moment", "1", "decay of the first and of the second moment of Adam"),
    "state/theta": ("parameter", "weight", "parameters at the end"),
    "state/velocity": ("parameter", "loss/weight", "momentum of SGD, or first moment of Adam"),
    "state/second": ("second_moment", "loss^2/weight^2", "second moment of Adam; empty for SGD"),
    "state/rng": ("word", "1", "state of the random number generator"),
    "state/perm": ("sample", "1", "order of the samples in the present epoch"),
    "state/cursor": ("counter", "1", "position within the epoch, steps done"),
    "loss/step": ("step", "iteration", "iterations done"),
    "loss/train_loss": ("step", "loss", "training loss, weight decay included"),
    "loss/test_loss": ("step", "loss", "test loss, weight decay included"),
    "loss/train_error": ("step", "1", "fraction of training samples misclassified"),
    "loss/test_error": ("step", "1", "fraction of test samples misclassified"),
    "loss/dot_gradient": ("step", "loss", "(theta - origin) . grad L of the training set"),
    "loss/gradient_norm2": ("step", "loss^2/weight^2", "|grad L|^2 of the training set"),
    "weights/step": ("step", "iteration", "iterations done"),
    "weights/value": ("step weight", "weight", "recorded weights, one row per record"),
    "weights/index": ("weight", "1", "position in theta of each recorded weight"),
    "projections/step": ("step", "iteration", "iterations done"),
    "projections/value": ("step direction", "weight", "y = basis^T (theta - center), one row per record"),
    "schedule/step": ("step", "iteration", "first step with these values"),
    "schedule/lr": ("step", "weight^2/loss", "learning rate"),
    "schedule/batch": ("step", "1", "batch size"),
    "mean/theta": ("parameter", "weight", "mean of the parameters over all steps"),
    "moments/center": ("parameter", "weight", "origin of the projections"),
    "moments/basis": ("parameter direction", "1", "directions of the projections as columns"),
    "moments/mean": ("direction", "weight", "mean of the projections"),
    "moments/covariance": ("direction other_direction", "weight^2", "covariance of the projections"),
    "moments/block_count": ("block", "1", "records in each stretch of time"),
    "moments/block_mean": ("block direction", "weight", "mean of the projections over each stretch of time"),
    "moments/block_square": ("block direction", "weight^2", "mean square of the projections over each stretch of time"),
    "blocks/edges": ("edge", "iteration", "steps at which the stretches of time begin and end"),
    "blocks/steps": ("block", "iteration", "steps in each stretch of time"),
    "blocks/minibatch_loss": ("block", "loss", "mean loss of the minibatches"),
    "blocks/dot_gradient": ("block", "loss", "mean of (theta - origin) . minibatch gradient"),
    "blocks/gradient_norm2": ("block", "loss^2/weight^2", "mean of |minibatch gradient|^2"),
    "blocks/velocity_norm2": ("block", "loss^2/weight^2", "mean of |change of theta / lr|^2"),
    "origin": ("parameter", "weight", "origin of dot_gradient"),
}
#: A segment is written when the series waiting take more than this (bytes), or when `SEGMENT_SECONDS` have passed.
SEGMENT_BYTES = 16_000_000
SEGMENT_SECONDS = 30.0


def parts_folder(path: Path) -> Path:
    """Folder of the segments of the run `path`."""
    return path.with_name(path.name + ".parts")


def check_free(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Make sure that a run can be written to `path`, before any work is done; returns the absolute path.

    Segments beside it that have been joined, or a folder that holds none, are no obstacle.

    Raises
    ------
    OSError
        As of `fpsolve.io.check_writable`; or another run writes there, or was interrupted and can be recovered.
    """
    target = io.check_writable(path, overwrite=overwrite)
    folder = parts_folder(target)
    if not folder.exists():
        return target
    with _claimed(folder, FileExistsError):
        foreign = sorted(file.name for file in folder.iterdir() if not _ours(file))
        if foreign:
            raise FileExistsError(f"{folder} holds {foreign[0]}, which is no part of a run: choose another name for out")
        if _leftover(target, folder) or not any(folder.glob("[0-9]*.h5")):
            return target
    raise FileExistsError(
        f"{folder} holds an interrupted run: recover it with nets.load_run({str(target)!r}), or delete that folder, or choose "
        "another name for out"
    )


class Store:
    """Writes the segments of one run, and joins them."""

    def __init__(self, path: str | os.PathLike[str], overwrite: bool) -> None:
        self.path = check_free(path, overwrite)
        self.folder, self.name = parts_folder(self.path), uuid.uuid4().hex
        self.count = 0
        if self.folder.exists():
            _remove(self.folder)
        self.folder.mkdir()
        self.owner = open(self.folder / "owner", "x", encoding="ascii")  # stays open: it carries the lock
        if not _lock(self.owner):
            raise FileExistsError(_alive(self.folder))
        self.owner.write(self.name)
        self.owner.flush()

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
        _join(self.path, self.folder, self.name)
        self.owner.close()

    def leave(self) -> None:
        """Leave the segments for `settle`, if there are any."""
        if self.count:
            self.owner.close()
        else:
            self.discard()

    def discard(self) -> None:
        """Leave nothing behind."""
        self.owner.close()
        _remove(self.folder)


def settle(path: Path) -> None:
    """Deal with what a killed run left beside `path`: join its segments, or remove them if they have been joined.

    Raises
    ------
    ValueError
        The process that writes them is alive, or the segments are not complete.
    """
    folder = parts_folder(path)
    if not folder.is_dir():
        return
    with _claimed(folder):
        if _leftover(path, folder):
            _remove(folder)
        else:
            _join(path, folder, _owner(folder))


def _join(path: Path, folder: Path, name: str) -> None:
    """Join the segments in `folder` into the run file `path`, then remove them; memory: one segment at a time."""
    import h5py

    files = sorted(folder.glob("[0-9]*.h5"))
    if not files:
        raise ValueError(f"{folder} holds no complete segment: the run was interrupted before its first one; delete the folder")
    if [file.stem for file in files] != [f"{i:06d}" for i in range(len(files))]:
        raise ValueError(f"{folder} lacks some of its segments: it holds {', '.join(file.name for file in files)}")
    with io.reading(files[-1], " as the last segment of a run"):
        small = dict(io.load_tree(files[-1])["small"])
        record = small.pop("record")
    temporary = folder / "joined.tmp"
    temporary.unlink(missing_ok=True)
    io.save_tree(temporary, small, {"kind": "training run", "run": name}, record=record)
    with h5py.File(temporary, "a") as target:
        for file in files:
            with io.reading(file, " as a segment of a run"):
                for group, arrays in io.load_tree(file)["series"].items():
                    for key, array in arrays.items():
                        _append(target.require_group(group), key, np.asarray(array))
        io.describe_arrays(target, {key: words for key, words in DESCRIBE.items() if key in target})
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    _remove(folder)


def _append(group: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    if name not in group:
        row = max(1, array.itemsize * int(np.prod(array.shape[1:])))
        chunk = (min(max(1, (1 << 19) // row), max(1, len(array))), *array.shape[1:])
        group.create_dataset(name, shape=(0, *array.shape[1:]), maxshape=(None, *array.shape[1:]), chunks=chunk, dtype=array.dtype)
    data = group[name]
    start = len(data)
    data.resize(start + len(array), axis=0)
    data[start:] = array


# ---- whose segments they are --------------------------------------------------------------------------------------------


def _lock(file: Any) -> bool:
    """Lock an open file until it is closed, or its process dies; False if another process holds it."""
    try:
        import fcntl
    except ImportError:  # not POSIX: a running writer cannot be told from a dead one
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _claimed(folder: Path, error: type[Exception] = ValueError) -> Iterator[None]:
    """The folder of a run whose process has ended, ours for now; `error` if it goes on."""
    owner = folder / "owner"
    if not owner.exists():  # killed before it was written, or while the folder was being removed
        yield
        return
    with open(owner, encoding="ascii") as file:
        if not _lock(file):
            raise error(_alive(folder))
        yield


def _alive(folder: Path) -> str:
    return f"{folder} is being written by a run that goes on: wait until it has ended, or choose another name"


def _owner(folder: Path) -> str:
    owner = folder / "owner"
    return owner.read_text(encoding="ascii") if owner.exists() else ""


def _leftover(path: Path, folder: Path) -> bool:
    """Whether the segments have been joined into `path` already, or there are none beside a complete file."""
    import h5py

    if not path.exists():
        return False
    if not any(folder.glob("[0-9]*.h5")):
        return True
    try:
        with h5py.File(path, "r") as file:
            return bytes(file.attrs.get("run", b"")).decode("ascii") == _owner(folder)
    except (OSError, ValueError):
        return False


def _ours(file: Path) -> bool:
    """Whether a file in the folder of the segments is one that a run made."""
    return file.name == "owner" or file.suffix == ".tmp" or (file.suffix == ".h5" and file.stem.isdigit())


def _remove(folder: Path) -> None:
    """Remove the segments, the name of their run last; what else somebody put there stays."""
    for file in sorted(filter(_ours, folder.iterdir()), key=lambda file: file.name == "owner"):
        file.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
