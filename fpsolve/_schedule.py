"""Constants of the kernels that change from iteration to iteration: the schedules of Gaussian chains."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .chains import SGDChain

__all__ = ["ScheduledConstants"]

Array = NDArray[np.float64]

#: Iterations whose constants are made at once, and blocks that are kept: all threads and chunks go through the same ones.
BLOCK, KEPT = 4096, 256


class ScheduledConstants:
    """One row of constants per iteration: those of a constant chain at lr_k, its noise multiplied by the chain's ratio.

    Parameters
    ----------
    chain : SGDChain
    template : mapping of str to float
        The constants of the kernel by name; "h", "root" and "inverse_root" are replaced.
    limit : int or None
        Iterations of the run: a schedule is not asked beyond.
    """

    def __init__(self, chain: SGDChain, template: Mapping[str, float], limit: int | None) -> None:
        self.chain, self.names, self.template, self.limit = chain, list(template), np.array(list(template.values())), limit
        self._blocks: dict[int, Array] = {}
        self._lock = threading.Lock()

    def rows(self, k: int) -> Array:
        """Constants (iterations, names) of iterations k, k + 1, ...; at least one row."""
        number, at = divmod(k, BLOCK)
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                while len(self._blocks) >= KEPT:
                    self._blocks.pop(next(iter(self._blocks)))
                stop = (number + 1) * BLOCK
                block = self._blocks[number] = self._make(number * BLOCK, stop if self.limit is None else min(stop, self.limit))
        return block[at:] if at < len(block) else self._make(k, k + 1)  # a schedule failed there: asked again, it says why

    def _make(self, first: int, stop: int) -> Array:
        rates, ratios = self.chain.rates(first, stop)
        rows = np.tile(self.template, (len(rates), 1))
        values = {"h": rates, "root": np.sqrt(rates) * ratios, "inverse_root": 1.0 / np.sqrt(rates) * ratios}
        for name, column in values.items():
            if name in self.names:
                rows[:, self.names.index(name)] = column
        return rows
