"""What is asked of arguments everywhere: that they are numbers, and that what they ask for fits into memory."""

from __future__ import annotations

import math
import os
import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_memory", "is_finite", "is_number", "numbers"]


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
    if isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise ValueError(f"{name} has masked entries, for which there is no number; fill them, or leave them out")
    try:
        array = np.asarray(value)
        if array.dtype.kind in "cmMSUV" or (array.dtype.kind == "O" and any(v is None for v in array.ravel())):
            raise TypeError
        return np.asarray(array, float)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {what}, got {type(value).__name__}: {reprlib.repr(value)}") from None
    except OverflowError:
        raise ValueError(f"{name} must be {what} within the range of floats (below 1.8e308), got {reprlib.repr(value)}") from None


def is_number(value: Any) -> bool:
    """Whether it is one real number: of Python or NumPy, neither a truth value nor an array.

    Examples
    --------
    >>> is_number(1), is_number(np.float32(0.5)), is_number(True), is_number("1"), is_number(np.ones(1))
    (True, True, False, False, False)
    """
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a number is finite as a float: not infinite, not NaN, and no integer beyond 1.8e308.

    Examples
    --------
    >>> is_finite(10**308), is_finite(10**400)
    (True, False)
    """
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


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
        raise ValueError(f"{what} need {_giga(count * 8)} GB, more than the memory of this machine; {cure}")


def _giga(count: int) -> str:
    """In units of 1e9; integers may be larger than any float."""
    return f"{count / 1e9:.3g}" if count < 10**300 else f"10^{len(str(count)[:9999]) - 10}"


def _memory() -> int:
    """Bytes of memory that the machine has; where it does not say, what can be addressed."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 47
