"""Results of `nets` in HDF5 files: one group of fields, named after the kind of result."""

from __future__ import annotations

import importlib
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

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


class Saved:
    """A dataclass of arrays and plain values that `nets.load` reads back."""

    KIND: ClassVar[str]
    #: Field -> names of the axes, units, long name.
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]]

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
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in tree.items() if key in known})


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
    return cls._from_tree(io.load_tree(path)[kind])
