"""What decides speed and bit patterns: versions, processor, threads, folders; for `fpsolve env`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from fpsolve import __version__

__all__ = ["environment"]

_PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "h5py", "matplotlib", "sympy", "tqdm")
_EXTRAS = ("dask", "distributed", "xarray", "h5netcdf", "pandas", "pooch", "pyamg", "torch")
_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment() -> Iterable[tuple[str, str]]:
    """Name and value of everything that decides speed and bit patterns."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    yield "fpsolve", f"{__version__} ({Path(__file__).parent})"
    yield "python", f"{platform.python_version()} ({sys.executable})"
    for package in (*_PACKAGES, *_EXTRAS):
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, f"not installed{' (optional)' if package in _EXTRAS else ''}"
    yield "system", platform.platform()
    yield from _processor()
    yield "BLAS", _blas()
    for name in _THREAD_VARIABLES:
        yield name, os.environ.get(name, "not set")
    yield from _folders()


def _processor() -> Iterable[tuple[str, str]]:
    from llvmlite import binding

    from fpsolve._threads import usable_cores

    features = sorted(name for name, on in binding.get_host_cpu_features().items() if on)
    usable = usable_cores()
    yield "processor", f"{binding.get_host_cpu_name()}, {usable} of {os.cpu_count()} cores usable"
    yield "features", " ".join(features)
    yield "threads", f"{usable} of the engines unless told otherwise (threads of Python; no threading layer of Numba is used)"


def _blas() -> str:
    """The one that NumPy was built with."""
    import numpy

    try:
        found = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{found['name']} {found['version']} (of NumPy)"
    except (KeyError, TypeError):
        return "not known"


def _folders() -> Iterable[tuple[str, str]]:
    from fpsolve._warm import cache_folders, cache_size

    if os.environ.get("FPSOLVE_NUMBA_CACHE", "1") == "0":
        yield "kernel cache", "switched off (FPSOLVE_NUMBA_CACHE is 0)"
    else:
        try:
            for name, folder in cache_folders().items():
                kernels, size = cache_size([folder])
                yield f"kernel cache, {name}", f"{folder} ({kernels} kernels, {size / 1e6:.1f} MB)"
        except (RuntimeError, OSError) as error:
            yield "kernel cache", f"cannot be used: {error}"
    yield "FPSOLVE_DATA", _data()


def _data() -> str:
    """The folder of data sets; without one that was chosen, that of those which are fetched."""
    chosen = os.environ.get("FPSOLVE_DATA")
    if chosen:
        return chosen if Path(chosen).is_dir() else f"{chosen} (no such folder)"
    try:
        pooch: Any = import_module("pooch")
    except ImportError:
        return "not set (and without the package pooch nothing is fetched)"
    return f"not set (what is fetched lies in {pooch.os_cache('fpsolve')})"
