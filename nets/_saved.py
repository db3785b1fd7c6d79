"""Results of `nets` in HDF5 files: one group of fields, named after the kind of result."""

from __future__ import annotations

import importlib
import os
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from fpsolve.results import Result

__all__ = ["Saved", "load"]

#: kind in the file -> where its class is.
KINDS = {
    "eigenpairs": ("spectrum", "Eigenpairs"),
    "spectral density": ("spectrum", "SpectralDensity"),
    "pca": ("pca", "PCA"),
    "window": ("window", "Window"),
    "random walk": ("window", "RandomWalk"),
    "flatness": ("flatness", "Flatness"),
    "profiles": ("flatness", "Profiles"),
    "batch minima": ("minibatch", "BatchMinima"),
    "inverse relation": ("relation", "InverseRelation"),
    "power law": ("power_laws", "PowerLaw"),
    "noise against curvature": ("superlinear", "NoiseCurvature"),
    "quadratic volume": ("quadratic", "QuadraticVolume"),
    "curvature bound": ("complexity", "CurvatureBound"),
    "two-layer bound": ("complexity", "TwoLayerBound"),
    "rescaled trace": ("rescaling", "RescaledTrace"),
    "retention": ("continual", "Retention"),
    "volume": ("volume", "Volume"),
    "basin return": ("basin", "BasinReturn"),
    "minimum": ("minimum", "Minimum"),
    "attack": ("attack", "Attack"),
    "energy path": ("energy_path", "EnergyPath"),
}


class Saved(Result):
    """A dataclass of arrays and plain values that `nets.load` reads back."""

    KIND: ClassVar[str]

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write to HDF5 (whole or not at all); `nets.load` reads it."""
        from fpsolve import io

        tree, words = self._tree(), self._words(self.KIND)
        io.save_tree(path, {self.KIND: tree}, {"kind": self.KIND}, overwrite=overwrite, describe=words)

    def _tree(self) -> dict[str, Any]:
        """The fields that are kept; a result within a result is a group within a group."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("saved", True)}  # type: ignore[arg-type]
        return {name: value._tree() if isinstance(value, Saved) else value for name, value in named.items() if value is not None}

    def _words(self, group: str) -> dict[str, tuple[str, str, str]]:
        words = {f"{group}/{name}": text for name, text in self.DESCRIBE.items() if getattr(self, name) is not None}
        for f in fields(self):  # type: ignore[arg-type]
            part = getattr(self, f.name)
            words.update(part._words(f"{group}/{f.name}") if isinstance(part, Saved) else {})
        return words

    @classmethod
    def _from_tree(cls, tree: dict[str, Any]) -> Self:
        if not isinstance(tree, dict):
            raise ValueError(f"{cls.KIND} should be a group, got {type(tree).__name__}")
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        values = {key: value for key, value in tree.items() if key in known}
        check_fields(cls, values, {name: words[0] for name, words in cls.DESCRIBE.items() if words[0]})
        return cls(**values)


#: Annotation of a field -> what it may be in a file, and in words.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "float": ((float, int, np.floating, np.integer), "a number"),
    "int": ((int, np.integer), "an integer"),
    "str": ((str,), "text"),
    "bool": ((bool, np.bool_), "True or False"),
}


def check_fields(cls: Any, values: Mapping[str, Any], axes: Mapping[str, str]) -> None:
    """ValueError unless the fields of a dataclass, as a file has them, are of their kind, and axes of one name equally long.

    Parameters
    ----------
    cls : dataclass
    values : mapping
    axes : mapping
        Array -> the names of its axes, separated by blanks.
    """
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING and f.name not in values]
    if missing:
        raise ValueError(f"a {cls.__name__} misses {', '.join(missing)}")
    for f in fields(cls):
        kinds, words = _TYPES.get(str(f.type).removesuffix(" | None"), ((), ""))
        value = values.get(f.name)
        flag = isinstance(value, (bool, np.bool_)) and bool not in kinds
        if kinds and value is not None and (flag or not isinstance(value, kinds)):
            raise ValueError(f"{f.name} must be {words}, got {reprlib.repr(value)}")
    sizes: dict[str, int] = {}
    for name, words in axes.items():
        value = values.get(name)
        if value is None:
            continue
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf" or value.ndim != len(words.split()):
            raise ValueError(f"{name} must be an array of {len(words.split())} axes ({words}), got {reprlib.repr(value)}")
        for axis, size in zip(words.split(), value.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ValueError(f"{name} has the shape {value.shape}, but the axis {axis} has {sizes[axis]} entries elsewhere")


def load(path: str | os.PathLike[str]) -> Any:
    """Read a result of `nets` from its HDF5 file: a run, statistics, or anything with a method `save`.

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
    with io.reading(path, f" as {kind}") as file:
        return cls._from_tree(io.read_group(io.member(file, kind)))
