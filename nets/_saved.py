"""Results of the analysis of runs in HDF5: one group with the fields of the result, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np

__all__ = ["Saved"]


class Saved:
    """A dataclass of arrays and numbers that goes to HDF5 with `save` and comes back with `load`."""

    kind: ClassVar[str]

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write to HDF5 (whole or not at all): one group with a data set for every attribute."""
        from fpsolve import io

        io.save_tree(path, {self.kind: _tree(self)}, {"kind": self.kind}, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            No such file; damaged, something else, or from a newer major version.
        """
        from fpsolve import io

        tree = io.load_tree(path)
        if cls.kind not in tree:
            raise ValueError(f"{os.fspath(path)} holds no {cls.kind} (groups {sorted(tree)})")
        return cls._from_tree(tree[cls.kind])

    @classmethod
    def _from_tree(cls, tree: Mapping[str, Any]) -> Self:
        return cls(**{f.name: tree[f.name] for f in fields(cls)})  # type: ignore[arg-type]


def _tree(result: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for f in fields(result):
        value = getattr(result, f.name)
        tree[f.name] = _tree(value) if isinstance(value, Saved) else np.asarray(value) if isinstance(value, tuple) else value
    return tree
