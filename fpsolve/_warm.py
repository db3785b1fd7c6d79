"""Kernels compiled before they are needed: small questions to every engine, whose kernels then lie in the cache folders.

What a question compiles depends on the dimension and on how a model is made, not on its numbers or its grid. Expressions of
one's own and other landscapes are compiled when they are first met.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ._known import cache_folder

__all__ = ["PARTS", "Warmed", "cache_folders", "cache_size", "check_cache", "compiled_by"]


@dataclass(frozen=True)
class Warmed:
    """What came of one part: seconds, and how many kernels were compiled; the others were there."""

    name: str
    seconds: float
    compiled: int


def cache_folders() -> dict[str, Path]:
    """Where kernels lie: those of the package, those that are generated for models, and those of the networks."""
    from numba.core import config

    from ._kernels import rng

    if config.CACHE_DIR:
        return {"package": Path(config.CACHE_DIR), "models": cache_folder()}
    folders = {"package": Path(rng.fill_normals._cache.cache_path), "models": cache_folder()}
    nets = find_spec("nets")
    return folders | ({"networks": Path(nets.origin).with_name("__pycache__")} if nets and nets.origin else {})


def cache_size(folders: Sequence[Path]) -> tuple[int, int]:
    """Number of compiled kernels below the folders, and bytes of all that is there for them."""
    found = {path for folder in folders for path in folder.rglob("*") if _belongs(path)}
    size = 0
    for path in found:
        with suppress(OSError):  # another process has replaced it
            size += path.stat().st_size
    return sum(path.suffix == ".nbc" for path in found), size


def _belongs(path: Path) -> bool:
    return path.suffix in (".nbc", ".nbi", ".json") or (path.suffix == ".py" and path.name.startswith("fpsolve_"))


def check_cache() -> dict[str, Path]:
    """The folders of the kernels, if they can be used.

    Raises
    ------
    ValueError
        If caching is switched off.
    OSError
        If a folder cannot be made or written.
    """
    if os.environ.get("FPSOLVE_NUMBA_CACHE", "1") == "0":
        raise ValueError("FPSOLVE_NUMBA_CACHE is 0: nothing is kept on disk, so there is nothing to warm; unset it")
    folders = {"models": cache_folder()}
    _try(folders["models"], "FPSOLVE_CACHE_DIR")
    try:
        folders |= cache_folders()
    except RuntimeError as error:  # Numba has found no folder to write to
        raise OSError(f"the package's kernels cannot be cached ({error}); set NUMBA_CACHE_DIR to a writable folder") from error
    _try(folders["package"], "NUMBA_CACHE_DIR")
    return folders


def _try(folder: Path, variable: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".fpsolve.", suffix=".tmp")
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(
            error.errno, f"cannot write compiled kernels to {folder} ({reason}); set {variable} to a writable folder"
        ) from error
    os.close(handle)
    os.unlink(name)


def compiled_by(name: str, work: Callable[[], object]) -> Warmed:
    """Do a piece of work; how long it took and how many kernels it compiled."""
    start = time.perf_counter()
    with _compilations() as done:
        work()
    return Warmed(name, time.perf_counter() - start, len(done))


@contextmanager
def _compilations() -> Iterator[list[Any]]:
    """Kernels that are compiled in the block; inner functions that Numba compiles on the way are counted as well."""
    from numba.core import event

    done: list[Any] = []

    class Counter(event.Listener):  # type: ignore[misc]
        def on_start(self, event: Any) -> None:
            done.append(event)

        def on_end(self, event: Any) -> None:
            pass

    logger = logging.getLogger(__package__)
    level = logger.level
    with event.install_listener("numba:compile", Counter()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small grids and few paths: nobody reads these numbers
        logger.setLevel(logging.ERROR)
        try:
            yield done
        finally:
            logger.setLevel(level)


# ---- parts -------------------------------------------------------------------------------------------------------------


def _fokker_planck(dim: int) -> None:
    """Every question of the engine, to an isotropic tensor and to one that turns."""
    from . import FokkerPlanck, Grid, Noise, Process, Region, potentials

    landscape: Any = potentials.double_well() if dim == 1 else potentials.styblinski_tang(dim)
    n, box = {1: (40, 2.0), 2: (16, 3.5), 3: (7, 3.5)}[dim]
    grid = Grid(*[(-box, box, n)] * dim)
    names = "x y z".split()[:dim]
    turned = [[f"1 + 0.3*{names[i]}**2/(1 + {names[i]}**2)" if i == j else "0.2" for j in range(dim)] for i in range(dim)]
    left, right = (Region.ball([c] + [0.0] * (dim - 1), 0.8) for c in (-1.2, 1.2))
    noises = [Noise.isotropic(1.0), Noise.from_expression(turned, variables=" ".join(names))]
    for process in (Process(landscape, noise) for noise in noises):
        fp = FokkerPlanck(process, grid)
        rho = fp.stationary()
        fp.mean_exit_time(right)
        fp.committor(left, right)
        fp.escape_rate(Region.ball([0.0] * dim, 1.5))
        if dim < 3:
            start = ("gaussian", [0.0] * dim, [[0.1 * (i == j) for j in range(dim)] for i in range(dim)])
            for method in ("chebyshev", "rational", "positive"):
                fp.evolve(start, [0.01, 0.02], rtol=1e-3, method=method)
            fp.spectrum(2)
            fp.current(rho)
            fp.entropy_production(rho)


def _chain() -> None:
    from . import Grid, Noise, Region, SGDChain, TransitionKernel, potentials

    for dim, landscape in ((1, potentials.double_well()), (2, potentials.styblinski_tang(2))):
        chain = SGDChain.gaussian(landscape, Noise.isotropic(1.0), 0.05)
        kernel = TransitionKernel(chain, Grid(*[(-3.0, 3.0, 60 if dim == 1 else 24)] * dim))
        kernel.stationary()
        inside = Region.ball([0.0] * dim, 2.0)
        kernel.mean_exit_time(inside)
        kernel.escape_rate(inside)


def _paths(dim: int) -> None:
    from . import Noise, Process, Region, SGDChain, escape_times, minimum_action_path, multilevel_splitting, potentials, simulate

    noise = Noise.isotropic(0.3)
    landscapes: list[Any] = [potentials.double_well()] if dim == 1 else [potentials.styblinski_tang(2), potentials.mueller_brown()]
    for landscape in landscapes:
        process, start = Process(landscape, noise), [-1.0] + [0.5] * (dim - 1)
        region = Region.halfspace([1.0] + [0.0] * (dim - 1), 0.0)
        for save in ("final", "moments"):
            simulate(process, start, t=0.01, dt=0.001, n=16, save=save, seed=0)
        escape_times(process, start, region, n=16, dt=0.001, t_max=0.01, seed=0)
        chain = SGDChain.gaussian(landscape, noise, 0.001)
        simulate(chain, start, t=5, n=16, seed=0)
        escape_times(chain, start, region, n=16, t_max=5, seed=0)
    if dim == 1:
        multilevel_splitting(process, start, region, n=40, dt=0.001, seed=0)
        minimum_action_path(process, [-1.0], [1.0])


#: What compiles each part; `fpsolve.cli` adds that of the networks.
PARTS: dict[str, Callable[[], None]] = {
    **{f"fokker-planck-{dim}d": partial(_fokker_planck, dim) for dim in (1, 2, 3)},
    "chain": _chain,
    **{f"paths-{dim}d": partial(_paths, dim) for dim in (1, 2)},
}
