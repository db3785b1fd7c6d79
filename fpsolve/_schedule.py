"""Constants of the kernels that change from step to step: schedules of Gaussian chains, coefficients that depend on time."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .chains import SGDChain
from .driven import LEVEL, Driven

__all__ = ["ChainConstants", "DrivenConstants", "ScheduledConstants"]

Array = NDArray[np.float64]

#: Iterations whose constants are made at once, and blocks that are kept: all threads and chunks go through the same ones.
BLOCK, KEPT = 4096, 256


class ScheduledConstants(ABC):
    """One row of constants per step.

    Parameters
    ----------
    template : mapping of str to float
        The constants of the kernel by name; some are replaced.
    limit : int or None
        Steps of the run: a schedule is not asked beyond.
    """

    def __init__(self, template: Mapping[str, float], limit: int | None) -> None:
        self.names, self.template, self.limit = list(template), np.array(list(template.values())), limit
        self._blocks: dict[int, Array] = {}
        self._lock = threading.Lock()

    def rows(self, k: int) -> Array:
        """Constants (steps, names) of steps k, k + 1, ...; at least one row."""
        number, at = divmod(k, BLOCK)
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                while len(self._blocks) >= KEPT:
                    self._blocks.pop(next(iter(self._blocks)))
                stop = (number + 1) * BLOCK
                block = self._blocks[number] = self._make(number * BLOCK, stop if self.limit is None else min(stop, self.limit))
        return block[at:] if at < len(block) else self._make(k, k + 1)  # a schedule failed there: asked again, it says why

    @abstractmethod
    def _make(self, first: int, stop: int) -> Array:
        """Rows of the steps from `first` to `stop`, or to where the schedule ends."""


class ChainConstants(ScheduledConstants):
    """Those of a constant chain at lr_k, its noise multiplied by the chain's ratio: "h", "root" and "inverse_root" are replaced."""

    def __init__(self, chain: SGDChain, template: Mapping[str, float], limit: int | None) -> None:
        super().__init__(template, limit)
        self.chain = chain

    def _make(self, first: int, stop: int) -> Array:
        rates, ratios = self.chain.rates(first, stop)
        rows = np.tile(self.template, (len(rates), 1))
        values = {"h": rates, "root": np.sqrt(rates) * ratios, "inverse_root": 1.0 / np.sqrt(rates) * ratios}
        for name, column in values.items():
            if name in self.names:
                rows[:, self.names.index(name)] = column
        return rows


class DrivenConstants(ScheduledConstants):
    """Those of a process in time, read in the middle of each step of length h.

    The parameters called `moving` follow the constants in a row. Without them only the noise moves, by a factor of "root".
    """

    def __init__(
        self, driven: Driven, h: float, template: Mapping[str, float], limit: int | None, moving: tuple[str, ...] = ()
    ) -> None:
        super().__init__(template, limit)
        self.driven, self.h, self.moving = driven, h, moving

    def _make(self, first: int, stop: int) -> Array:
        rows = np.empty((stop - first, len(self.names) + len(self.moving)))
        rows[:, : len(self.names)] = self.template
        root = None if self.moving or self.driven.noise is None else self.names.index("root")
        for row, k in zip(rows, range(first, stop), strict=True):
            try:
                values = self.driven.values((k + 0.5) * self.h)
            except Exception:
                if k > first:  # asked for again where it is needed: a run may end before
                    return rows[: k - first]
                raise
            row[len(self.names) :] = [values[name] for name in self.moving]
            if root is not None:
                row[root] *= values[LEVEL] ** 0.5
        return rows

    def digest(self) -> str:
        """Hash of the rows of the first 4096 steps and of some later ones, as far as the schedule is known."""
        digest = hashlib.sha256(self.rows(0).tobytes())
        last = 10**6 if self.limit is None else self.limit - 1
        for k in np.unique(np.geomspace(BLOCK, max(BLOCK, last), 1000).astype(np.int64)).tolist() if last >= BLOCK else []:
            try:
                digest.update(self._make(k, k + 1).tobytes())
            except Exception:
                if self.limit is not None:
                    raise
                break
        return digest.hexdigest()[:16]
