"""What is asked of arguments everywhere: that they are numbers, and that what they ask for fits into memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_memory", "numbers"]


def numbers(name: str, value: Any, what: str = "numbers") -> NDArray[np.float64]:
    """`value` as an array of floats; what is none is named.

    Raises
    ------
    TypeError
        If it is not made of numbers.

    Examples
    --------
    >>> numbers("t", "soon", "a time")
    Traceback (most recent call last):
    ...
    TypeError: t must be a time, got str: 'soon'
    """
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {what}, got {type(value).__name__}: {value!r}") from None


def check_memory(count: int, what: str, cure: str) -> None:
    """Refuse arrays of `count` numbers of 64 bits if they exceed the memory of the machine, before any work.

    Raises
    ------
    ValueError
        With `what` was asked for, and the `cure`.

    Examples
    --------
    >>> check_memory(10**15, "the final states of 1e15 trajectories", "run fewer")
    Traceback (most recent call last):
    ...
    ValueError: the final states of 1e15 trajectories need 8e+06 GB, more than the memory of this machine; run fewer
    """
    if count * 8 > _memory():
        raise ValueError(f"{what} need {count * 8 / 1e9:.3g} GB, more than the memory of this machine; {cure}")


def _memory() -> int:
    """Bytes of memory that the machine has; where it does not say, what can be addressed."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 47
