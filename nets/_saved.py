"""Results of `nets` in HDF5 files: one group of fields, named after the kind of result."""

from __future__ import annotations

import importlib
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["Saved", "load"]

#: kind in the file -> where its class is.
KINDS = {"eigenpairs": ("spectrum", "Eigenpairs"), "spectral density": ("spectrum", "SpectralDensity"), "pca": ("pca", "PCA")}


class Saved:
    """A dataclass of arrays and plain values that `nets.load` reads back."""

    KIND: ClassVar[str]
    #: Field -> names of the axes, units, long name.
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]]

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write to HDF5 (whole or not at all); `nets.load` reads it."""
        from fpsolve import io

        tree = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("saved", True)}  # type: ignore[arg-type]
        io.save_tree(
            path,
            {self.KIND: {name: value for name, value in tree.items() if value is not None}},
            {"kind": self.KIND},
            overwrite=overwrite,
            describe={f"{self.KIND}/{name}": words for name, words in self.DESCRIBE.items() if tree.get(name) is not None},
        )


def load(path: str | os.PathLike[str]) -> Any:
    """Read a result of `nets` from its HDF5 file: a run, statistics, principal components, eigenpairs, or a spectral density.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; damaged, something else, or from a newer major version.

    Examples
    --------
    >>> load("nowhere.h5")
    Traceback (most recent call last):
    FileNotFoundError: nowhere.h5 does not exist
    """
    from fpsolve import io

    from ._store import settle
    from .run import load_run
    from .stats import load_stats

    settle(Path(os.path.expanduser(os.fspath(path))))
    kind = io.load_kind(path)
    if kind == "training run":
        return load_run(path)
    if kind == "stats":
        return load_stats(path)
    if kind not in KINDS:
        raise ValueError(f"{os.fspath(path)} holds {kind or 'no result'!r}, not one of training run, stats, {', '.join(KINDS)}")
    module, name = KINDS[kind]
    cls = getattr(importlib.import_module(f".{module}", __package__), name)
    tree, known = io.load_tree(path)[kind], {f.name for f in fields(cls)}
    return cls(**{key: value for key, value in tree.items() if key in known})
