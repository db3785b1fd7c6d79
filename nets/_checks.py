"""Checks of arguments: what is wrong, the value given, what is accepted. What numbers are is that of fpsolve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsolve._checks import is_finite, is_number
from fpsolve._checks import numbers as _numbers

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
    if not (is_number(value) and is_finite(value) and value > above):
        raise ValueError(f"{name} must be finite and above {above:g}{what and f', {what}'}: got {value!r}")
    return float(value)


def numbers(name: str, value: Any) -> NDArray[np.float64]:
    """`value` as an array of floats; TypeError for what is no real number, ValueError for masked entries and too large ones."""
    return _numbers(name, value, "an array of real numbers")


def boolean(name: str, value: Any) -> None:
    """TypeError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False: got {value!r}")
