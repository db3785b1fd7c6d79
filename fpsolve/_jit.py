"""The one place with Numba flags and status codes.

``fastmath`` keeps infinities and NaN meaningful (no ``nnan``/``ninf``): a trajectory that blows up must be seen to blow up.
``error_model="numpy"`` turns the ZeroDivisionError branch after every division off; without it no loop vectorises.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

try:
    import fcntl
except ImportError:  # Windows: processes save as Numba alone would
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "LEFT_GRID",
    "MAX_STEPS",
    "NOT_FINITE",
    "OK",
    "SAFE_FASTMATH",
    "inline",
    "inline_uncached",
    "kernel",
    "kernel_uncached",
    "lean_kernel",
    "ordered_kernel",
    "part",
    "part_uncached",
]

SAFE_FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}

OK, NOT_FINITE, MAX_STEPS, LEFT_GRID = 0, 1, 2, 3

_CACHE = os.environ.get("FPSOLVE_NUMBA_CACHE", "1") != "0"


class _SavedInTurn(IndexDataCacheFile):
    """Compiled kernels of one function on disk, to which one process at a time adds.

    Numba reads the index, takes the next free name for its file, and writes both, each by a rename. Two processes that save a
    function for different types at the same time take the same name, and the index may say that the file is for the types of the
    other: whoever loads it gets wrong numbers. The system drops the lock of a process that dies.
    """

    def save(self, key: Any, data: Any) -> None:
        with _locked(self._cache_path):
            super().save(key, data)


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """One process at a time in this block; not where the file system has no locks."""
    handle = os.open(folder, os.O_RDONLY) if fcntl else -1
    try:
        if handle >= 0:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


class _SelfContained(JITCodeLibrary):
    """The code of one compiled function, which calls its own copies of the functions below it.

    Numba leaves a function that it does not inline twice as machine code: by itself, and copied into each caller, where it is
    optimised once more, which may round differently. All copies have one name, and the process runs the one that came first: by
    itself where it was compiled, that of a caller where callers are loaded from disk. As internal functions of the caller, the
    copies are out of reach: the bits of a kernel are those of its file, wherever it was compiled and whatever else was.
    """

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage.name == "linkonce_odr" and function.name.startswith("_ZN"):
                function.linkage = "internal"
        super()._optimize_final_module()

    def _finalize_specific(self) -> None:
        with _interrupts_wait():
            super()._finalize_specific()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C takes effect after this block (main thread only).

    LLVM hands machine code back through Python. An interrupt raised there is printed and lost, the code with it, and what comes to
    the user some lines later is an error of Numba.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


class _OwnCode(Compiler):
    """Numba's compiler, whose functions are `_SelfContained`."""

    def _compile_core(self) -> Any:
        if self.state.library is None:
            library = self.state.targetctx.codegen().create_library(self.state.func_id.func_qualname)
            library.__class__ = _SelfContained
            library.enable_object_caching()
            self.state.library = library
        return super()._compile_core()


def _njit(function: Callable[..., Any] | None = None, /, **flags: Any) -> Any:
    """`numba.njit` with a cache that several processes may fill."""
    if function is None:
        return partial(_njit, **flags)
    compiled = numba.njit(pipeline_class=_OwnCode, **flags)(function)
    saved = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if saved is not None:  # none without `cache`
        saved.__class__ = _SavedInTurn
    return compiled


_FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": SAFE_FASTMATH, "no_cfunc_wrapper": True}
_INNER = {**_FLAGS, "no_cpython_wrapper": True}

#: A compiled loop over arrays: releases the GIL, cached on disk. Nobody takes its address, so it gets no entry for C.
kernel = partial(_njit, cache=_CACHE, **_FLAGS)
#: The same for loops over views of arrays that make no array of their own: no references are counted, see `inline`.
lean_kernel = partial(kernel, _nrt=False)
#: As `kernel`, but sums keep the order in which they are written, whatever the length of the loop.
ordered_kernel = partial(kernel, fastmath=SAFE_FASTMATH - {"reassoc"})
#: A part of kernels, called by compiled code only: without an entry for Python, which takes as long to compile as a short function.
#: A call from Python ends the process.
part = partial(_njit, cache=_CACHE, **_INNER)
#: A small `part` that LLVM must inline, so that the loop around it vectorises. It makes and returns no array, for it counts no
#: references: else Numba adds an atomic increment and decrement for every array among the arguments to every call, which made loops
#: over cells two to three times as slow.
inline = partial(part, forceinline=True, _nrt=False)
#: `kernel`, `part` and `inline` for code without a file of its own (user callables): compiled once per process.
kernel_uncached = partial(_njit, **_FLAGS)
part_uncached = partial(_njit, **_INNER)
inline_uncached = partial(part_uncached, forceinline=True)
