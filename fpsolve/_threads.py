"""Threads of a computation: one of BLAS while small matrices are multiplied, one in all where others run beside it.

NumPy's and SciPy's wheels each bring an OpenBLAS; its thread count is set through its own C function. Where no OpenBLAS is
found (other BLAS, other system) nothing is changed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

__all__ = ["one_thread", "single_threaded_blas", "usable_cores"]

_alone: ContextVar[bool] = ContextVar("whether this computation has one core only", default=False)


def usable_cores() -> int:
    """The cores that this process may use; within `one_thread` one.

    Examples
    --------
    >>> with one_thread():
    ...     usable_cores()
    1
    """
    if _alone.get():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Within the block the engines run on one thread unless told otherwise: other computations have the other cores."""
    token = _alone.set(_alone.get() or wanted)
    try:
        yield
    finally:
        _alone.reset(token)


_NAMES = [
    (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
    for prefix in ("scipy_", "")
    for suffix in ("64_", "")
]
_lock = threading.Lock()
_users = 0
_saved: list[tuple[Callable[[int], None], int]] = []


@cache
def _controls() -> tuple[tuple[Callable[[], int], Callable[[int], None]], ...]:
    import scipy.linalg  # noqa: F401  Numba multiplies with SciPy's BLAS: it must be loaded to be found

    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = {line.split()[-1] for line in maps if "openblas" in line.rsplit("/", 1)[-1]}
    except OSError:
        return ()
    found = []
    for path in sorted(paths):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for get_name, set_name in _NAMES:
            if hasattr(library, get_name) and hasattr(library, set_name):
                get, put = getattr(library, get_name), getattr(library, set_name)
                get.restype, put.argtypes, put.restype = ctypes.c_int, [ctypes.c_int], None
                found.append((get, put))
                break
    return tuple(found)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Within the block OpenBLAS uses one thread; the count is restored when the last of several blocks ends."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _saved[:] = [(put, get()) for get, put in _controls()]
            for put, _ in _saved:
                put(1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for put, count in _saved:
                    put(count)
                _saved.clear()
