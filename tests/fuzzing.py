"""What every fuzzed call is held to, and how many cases a run has.

The default suite runs a fixed few hundred cases; ``FUZZ=10 pytest tests/test_fuzz_*.py`` ten times as many, others.
"""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fpsolve import FpsolveError

#: How many times as many cases as the default suite runs.
FACTOR = int(os.environ.get("FUZZ", "1"))
#: What bad input may end in.
DOCUMENTED = (ValueError, TypeError, OSError, FpsolveError)
#: Errors of NumPy and SciPy that are ValueErrors by class, but answer no question of the user.
UNDOCUMENTED = (np.linalg.LinAlgError, UnicodeError)


class Hang(BaseException):
    """A call took longer than it may."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises `Hang` in a call that takes too long (where signals exist)."""

    def stop(*_: Any) -> None:
        raise Hang

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(call: Callable[[], Any], seconds: float = 15.0, warned: bool = False) -> tuple[Any, Exception | None]:
    """What a call returned, or the documented exception it ended in; AssertionError for any other end.

    A RuntimeWarning is such an end, unless it is how the call tells what became of its paths (`warned`).
    """
    start = time.monotonic()
    try:
        with within(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore" if warned else "error", RuntimeWarning)
            warnings.filterwarnings("ignore", category=UserWarning)
            result = call()
    except DOCUMENTED as error:
        if isinstance(error, UNDOCUMENTED):
            raise AssertionError(f"ended in {type(error).__name__}: {error}") from error
        if not str(error).strip():
            raise AssertionError(f"{type(error).__name__} without words") from error
        return None, error
    except Hang:
        raise AssertionError(f"still running after {time.monotonic() - start:.0f} s") from None
    except Exception as error:
        raise AssertionError(f"ended in {type(error).__name__}: {error}") from error
    return result, None


def failures(cases: dict[str, Callable[[], Any]], seconds: float = 15.0) -> list[str]:
    """The cases that end in no documented way, in words."""
    wrong = []
    for name, call in cases.items():
        try:
            outcome(call, seconds)
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
    return wrong
