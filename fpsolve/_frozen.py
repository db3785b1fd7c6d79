"""Coefficients of a driven process at the times that a step asks for, where they jump, and what a step of any method gives."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["Coefficients", "Frozen", "Step", "find_jumps"]

Array = NDArray[np.float64]
Coefficients = Callable[[float], tuple[sp.csr_matrix, Array]]

#: Pieces of the time in which jumps of the coefficients are looked for.
_PIECES = 2048
#: Generators that are kept: a step that is tried again, and the next one, need some of them.
_KEPT = 6
#: By how much of the whole time a limit from the left comes before a jump, which is known to four times that.
_LEFT = 2.0**-52


class Frozen:
    """Generators at single times; the last few are kept.

    Parameters
    ----------
    coefficients : callable
        Time to off-diagonal rates and killing rates.
    jumps : sequence of float
        Times at which they jump; their values there are those from the right.
    end : float
        Last time that is asked for, itself from the left.

    Examples
    --------
    >>> frozen = Frozen(lambda t: (sp.csr_matrix([[0, 1.0 + (t >= 0.5)], [1.0, 0]]), np.zeros(2)), [0.5], 1.0)
    >>> float(frozen.at(0.5)[0][0, 1]), float(frozen.before(0.5)[0][0, 1]), frozen.assemblies
    (2.0, 1.0, 2)
    """

    def __init__(self, coefficients: Coefficients, jumps: Sequence[float], end: float) -> None:
        self.coefficients, self.ends, self.left = coefficients, {*jumps, end}, _LEFT * end
        self.assemblies = 0
        self._kept: OrderedDict[float, tuple[sp.csr_matrix, Array]] = OrderedDict()

    def at(self, t: float) -> tuple[sp.csr_matrix, Array]:
        """Rates and killing rates at time t, from the right where they jump."""
        if t not in self._kept:
            self.assemblies += 1
            self._kept[t] = self.coefficients(t)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[t]

    def before(self, t: float) -> tuple[sp.csr_matrix, Array]:
        """The same from the left."""
        return self.at(t - self.left if t in self.ends else t)


@dataclass
class Step:
    """Masses after a step, what they miss, and what it cost.

    Attributes
    ----------
    masses, defect : array (n,)
        The defect, signed, is what the step adds to what the masses miss, to leading order in its length.
    inner : float
        What else they miss, in L1.
    cost : float
        In the seconds of `_costs`.
    carried : callable
        What the masses missed before the step (n,), to what is left of it.
    between : callable
        From a time inside the step and the vectors that are missed before and after it: masses then, and an estimate of the L1 norm
        of what these miss beyond the larger of the two.
    dear : float
        Cost of a time inside the step.
    """

    masses: Array
    defect: Array
    inner: float
    cost: float
    carried: Callable[[Array], Array]
    between: Callable[[float, Array, Array], tuple[Array, float]]
    dear: float = 0.0

    @property
    def error(self) -> float:
        """L1 norm of what the step adds."""
        return float(np.abs(self.defect).sum()) + self.inner


def find_jumps(values: Callable[[float], Mapping[str, float]], end: float) -> list[float]:
    """Times in (0, end) at which one of the values jumps: a change that stays in ever smaller pieces of the time.

    Two thousand pieces are looked at, so that a pulse shorter than that may be missed.

    Examples
    --------
    >>> find_jumps(lambda t: {"a": float(t > 0.5), "b": t}, 1.0)
    [0.5]
    """

    def at(t: float) -> Array:
        return np.array(list(values(t).values()))

    def split(a: float, b: float, low: Array, high: Array, depth: int) -> list[float]:
        """The jumps between a and b: halves are followed as long as a change stays more than half of what it was."""
        change = np.abs(high - low)
        if not np.any(change > 1e-9 * scale):
            return []
        middle = 0.5 * (a + b)
        if depth == 0 or not a < middle < b:
            return [b]
        value = at(middle)
        out = []
        for x, y, left, right in ((a, middle, low, value), (middle, b, value, high)):
            if np.any((np.abs(right - left) > 0.75 * change) & (change > 1e-9 * scale)):
                out += split(x, y, left, right, depth - 1)
        return out

    grid = np.linspace(0.0, end, _PIECES + 1)
    table = [at(t) for t in grid.tolist()]
    scale = np.abs(np.array(table)).max(axis=0)
    found = [split(a, b, low, high, 44) for a, b, low, high in zip(grid, grid[1:], table, table[1:], strict=False)]
    return sorted({float(t) for some in found for t in some if t < end})
