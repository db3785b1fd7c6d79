"""Checks of arguments: what is wrong, the value given, what is accepted."""

from __future__ import annotations

import math
import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["boolean", "integer", "is_finite", "numbers", "of_kind", "positive"]


def of_kind(value: Any, kind: type, name: str, hint: str) -> None:
    """TypeError unless `value` is of that class of nets; `hint` says where one comes from."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a nets.{kind.__name__} ({hint}): got {type(value).__name__}")


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """ValueError unless `value` is an integer in low .. high."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low or (high is not None and value > high):
        wanted = "a positive integer" if (low, high) == (1, None) else f"an integer >= {low}"
        raise ValueError(f"{name} must be {wanted if high is None else f'an integer in {low} .. {high}'}: got {value!r}")
    return int(value)


def positive(name: str, value: Any, above: float = 0.0, what: str = "") -> float:
    """ValueError unless `value` is a finite number above `above`, which is `what`."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not (number and is_finite(value) and value > above):
        raise ValueError(f"{name} must be finite and above {above:g}{what and f', {what}'}: got {value!r}")
    return float(value)


def is_finite(value: Any) -> bool:
    """Whether a number is finite as a float: not infinite, not NaN, and no integer beyond 1.8e308."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def numbers(name: str, value: Any) -> NDArray[np.float64]:
    """`value` as an array of floats; TypeError for what is no real number, ValueError for masked entries and too large ones."""
    if isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise ValueError(f"{name} has masked entries, for which there is no number; fill them, or leave them out")
    try:
        array = np.asarray(value)
        if array.dtype.kind in "cmMSUV" or (array.dtype.kind == "O" and any(v is None for v in array.ravel())):
            raise TypeError
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of real numbers: got {type(value).__name__}, {reprlib.repr(value)}") from None
    except OverflowError:
        raise ValueError(f"{name} must be numbers within the range of floats (below 1.8e308): got {reprlib.repr(value)}") from None


def boolean(name: str, value: Any) -> None:
    """TypeError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False: got {value!r}")
