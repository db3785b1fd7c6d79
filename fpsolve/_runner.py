"""What every path run needs: the seed, the starting points, the work split over threads, progress and Ctrl-C.

Kernels are serial and release the GIL; threads run them on chunks of trajectories. A chunk's result depends on the trajectories
in it and on nothing else, and is stored by trajectory index: the bits do not depend on threads or chunks.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._checks import numbers
from ._kernels.rng import LANES
from ._threads import usable_cores

__all__ = [
    "Control",
    "Limit",
    "Saver",
    "aligned",
    "check_count",
    "check_first",
    "make_chunks",
    "resolve_seed",
    "run_chunks",
    "starting_points",
    "thread_count",
    "time_limit",
]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

#: Distinguishes the stream of a starting-point sampler from those of SGD on sample losses, [seed, trajectory]: hence three words.
SAMPLER_STREAM = 0x5EED
#: Starting points that a sampler draws from one stream; parts of an ensemble that begin at multiples of it suit any sampler.
SAMPLER_BLOCK = 1 << 20


class Saver(Protocol):
    """What a run asks of a checkpoint."""

    every: float
    units: dict[tuple[int, int], dict[str, Any]]

    def untouched(self, n: int) -> list[tuple[int, int]]: ...

    def write_if_due(self, units: dict[tuple[int, int], dict[str, Any]]) -> None: ...

    def write(self, units: dict[tuple[int, int], dict[str, Any]]) -> None: ...


class Control:
    """Shared by the workers of one run: a stop flag, a progress counter, and the largest number of steps any of them has made.

    With a checkpoint also the last states that the units of work handed in, under the trajectories that they are of.
    """

    def __init__(self, saver: Saver | None = None) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.done = 0.0
        self.steps = 0
        self._every = math.inf if saver is None else saver.every / 4  # a file is at most 5/4 intervals behind
        self._units = {} if saver is None else dict(saver.units)
        self._kept: dict[tuple[int, int], float] = {}

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def add(self, amount: float) -> None:
        with self._lock:
            self.done += amount

    def reach(self, steps: int) -> None:
        with self._lock:
            self.steps = max(self.steps, steps)

    def resume(self, lo: int, hi: int) -> dict[str, Any] | None:
        """The state in which an earlier run left trajectories lo ... hi - 1, if it did."""
        self._kept[lo, hi] = time.monotonic()
        return self._units.get((lo, hi))

    def keep(self, lo: int, hi: int, state: Callable[[], dict[str, Any]]) -> None:
        """Offered between kernel calls: `state` is taken if the last one is old, or the run ends here."""
        if math.isfinite(self._every) and (self.stopped or time.monotonic() - self._kept[lo, hi] >= self._every):
            self._units[lo, hi] = state()
            self._kept[lo, hi] = time.monotonic()

    def drop(self, lo: int, hi: int) -> None:
        """The results of trajectories lo ... hi - 1 are in place; their state is not needed any more."""
        self._units.pop((lo, hi), None)

    def units(self) -> dict[tuple[int, int], dict[str, Any]]:
        return dict(self._units)


def resolve_seed(seed: int | None) -> int:
    """The seed itself, or a fresh one from the operating system, which the result records.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer in [0, 2**63).
    """
    if seed is None:
        return secrets.randbits(63)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an integer or None, got {type(seed).__name__}: {seed!r}")
    if not 0 <= int(seed) < 2**63:
        raise ValueError(f"seed must be in [0, 2**63), got {seed}")
    return int(seed)


def check_count(name: str, value: Any, low: int = 1) -> int:
    """A positive integer option."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}: {value!r}")
    if value < low:
        raise ValueError(f"{name} must be >= {low}, got {value}")
    return int(value)


def check_first(first: Any, n: int, seed: int | None) -> int:
    """Number of the first trajectory, which belongs to a seed.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer in [0, 2**63 - n], or is above 0 without a seed.
    """
    count = check_count("first", first, 0)
    if count and count + n > 2**63:
        raise ValueError(f"first must be in [0, 2**63 - n], got {count} for n = {n}")
    if count and seed is None:
        raise ValueError(f"first = {count} is a trajectory of the ensemble of a seed: give seed= too, the same for all parts")
    return count


def thread_count(threads: int | None) -> int:
    """Threads asked for, by default the number of cores this computation may use."""
    if threads is not None:
        return check_count("threads", threads)
    return usable_cores()


def starting_points(x0: Any, n: int, dim: int, seed: int, first: int = 0) -> Array:
    """Starting points as (1, dim) if common to all trajectories, else (n, dim), the rows of trajectories first, first + 1, ...

    Raises
    ------
    ValueError
        If the shape is neither (dim,) nor (n, dim), or a number is not finite.
    """
    if callable(x0):
        points = _drawn(x0, n, dim, seed, first)
    else:
        points = numbers("x0", x0, f"an array of shape ({dim},) or ({n}, {dim}), or a sampler (rng, n) -> ({n}, {dim})")
        if points.ndim == 0 and dim == 1:
            points = points[None]
        if points.shape == (dim,):
            points = points[None]
        elif points.shape != (n, dim):
            hint = "; a list of 1-D starting points has shape (n, 1): pass x0[:, None]" if dim == 1 else ""
            raise ValueError(
                f"x0 must have shape ({dim},) or ({n}, {dim}), or be a sampler (rng, n) -> (n, {dim}); "
                f"got shape {points.shape}{hint}"
            )
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"x0 is not finite: trajectory {i} starts at {points[i].tolist()}")
    return np.ascontiguousarray(points)


def _drawn(sampler: Callable[..., Any], n: int, dim: int, seed: int, first: int) -> Array:
    """Rows first ... first + n - 1 of an ensemble whose starts are drawn in blocks, each from a stream of its own.

    A call asks for the rows from the beginning of the block on, as one for the whole ensemble does, and keeps the last of them.
    """
    rows, end = [], first + n
    for block in range(first // SAMPLER_BLOCK, -(-end // SAMPLER_BLOCK)):
        low = block * SAMPLER_BLOCK
        skipped, count = max(first - low, 0), min(end - low, SAMPLER_BLOCK)
        drawn = _draw(sampler, count, dim, seed, block)
        if skipped and not np.array_equal(_draw(sampler, skipped, dim, seed, block), drawn[:skipped], equal_nan=True):
            raise ValueError(
                f"the rows of the sampler x0(rng, n) depend on how many are asked for, so that trajectory {first} cannot have its "
                f"start of the whole ensemble: begin parts at multiples of {SAMPLER_BLOCK}, draw row after row (one call of rng), "
                "or pass the starts of this part as an array"
            )
        rows.append(drawn[skipped:])
    return rows[0] if len(rows) == 1 else np.vstack(rows)


def _draw(sampler: Callable[..., Any], n: int, dim: int, seed: int, block: int) -> Array:
    """The first n rows of a block of starts."""
    words = [seed, SAMPLER_STREAM, 1]
    # a long seed has two words, so that the number of the block is the fifth in any case; none for the first block
    words += [0] * (seed < 1 << 32) * (block > 0) + [block + 1] * (block > 0)
    points = numbers(
        "what the sampler x0(rng, n) returns", sampler(np.random.default_rng(words), n), f"an array of shape ({n}, {dim})"
    )
    if points.shape != (n, dim):
        raise ValueError(f"the sampler x0(rng, n) returned shape {points.shape}; it must be ({n}, {dim})")
    return points


def make_chunks(
    n: int, threads: int, chunk: int | None, largest: int, align: int = 1, saver: Saver | None = None
) -> list[tuple[int, int]]:
    """Ranges [lo, hi) of trajectories; by default equal shares of whole blocks, none above `largest`.

    Of a run that goes on, first the units that were under way, then what was not begun.
    """
    if chunk is not None:
        size = check_count("chunk", chunk)
    else:
        size = min(largest, -(-n // threads))
        size = -(-size // LANES) * LANES
    size = -(-size // align) * align
    if saver is None:
        return [(lo, min(lo + size, n)) for lo in range(0, n, size)]
    return sorted(saver.units) + [(lo, min(lo + size, b)) for a, b in saver.untouched(n) for lo in range(a, b, size)]


@dataclass
class Limit:
    """When the runs of a block end as by Ctrl-C, by the monotonic clock, and whether Ctrl-C itself ended one of them."""

    end: float = math.inf
    interrupted: bool = False


_limit: ContextVar[Limit | None] = ContextVar("the innermost limit", default=None)


@contextmanager
def time_limit(seconds: float) -> Iterator[Limit]:
    """Runs that are under way after so many seconds end as by Ctrl-C: what is done is returned, marked partial."""
    outer = _limit.get()
    limit = Limit(min(math.inf if outer is None else outer.end, time.monotonic() + seconds))
    token = _limit.set(limit)
    try:
        yield limit
    finally:
        _limit.reset(token)
        if outer is not None:
            outer.interrupted |= limit.interrupted


def aligned(rows: int, columns: int, dtype: Any = np.float64) -> NDArray[Any]:
    """Zeros (rows, columns) that start at a multiple of 64 bytes: unaligned SIMD loads would straddle cache lines."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(rows * columns + 64 // size, dtype)
    offset = -(raw.ctypes.data // size) % (64 // size)
    return raw[offset : offset + rows * columns].reshape(rows, columns)


def run_chunks(
    work: Callable[[int, int, Control], None], chunks: Sequence[tuple[int, int]], threads: int, *,
    total: float, progress: bool, label: str, unit: str = "step", watch: Callable[[Control], str] | None = None,
    saver: Saver | None = None, done: float = 0.0,
) -> bool:  # fmt: skip
    """Run ``work(lo, hi, control)`` for every chunk on a pool of threads; True if Ctrl-C or `time_limit` ended it early.

    Workers look at ``control.stopped`` between kernel calls and then return, leaving what they finished in place. `watch` is called
    about ten times per second in the thread of the caller; what it returns is shown behind the bar, whose pieces are `unit`;
    `done` of them were done before. `saver` is the checkpoint that is written meanwhile, and at the end unless the run came to it.
    """
    control = Control(saver)
    control.add(done)
    interrupted, gate, limit = False, threading.Event(), _limit.get() or Limit()

    def begin(lo: int, hi: int) -> None:
        gate.wait()  # the pool does not wait for a thread whose start Ctrl-C interrupted: it must have no work yet
        if not control.stopped:
            work(lo, hi, control)

    try:
        with _bar(total, label, unit, progress) as bar, ThreadPoolExecutor(max(1, min(threads, len(chunks)))) as pool:
            pending: set[Future[None]] = set()
            try:
                for lo, hi in chunks:
                    pending.add(pool.submit(begin, lo, hi))
                gate.set()
                while pending:
                    finished, pending = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
                    if watch is not None:
                        bar.set_postfix_str(watch(control), refresh=False)
                    bar.n = int(control.done)
                    bar.refresh()
                    for future in finished:
                        future.result()
                    if saver is not None:
                        saver.write_if_due(control.units())
                    if pending and time.monotonic() > limit.end:
                        interrupted = True
                        break
            except KeyboardInterrupt:
                interrupted = limit.interrupted = True
                logger.warning("%s: interrupted; what is done is returned, marked partial", label)
            finally:
                control.stop()
                gate.set()
                for future in pending:
                    future.cancel()
    except BaseException:
        if saver is not None:  # the workers have handed in how far they came
            saver.write(control.units())
        raise
    if saver is not None and interrupted:
        saver.write(control.units())
    return interrupted


class _NoBar:
    """Stands where no progress is shown."""

    n = 0

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def refresh(self) -> None:
        pass

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        pass


def _bar(total: float, label: str, unit: str, progress: bool) -> Any:
    if not progress:
        return _NoBar()
    from tqdm.auto import tqdm

    # disable=None: no bar where the output is a file or a pipe, but one in a notebook
    return tqdm(total=int(total), desc=label, unit=unit, unit_scale=unit == "step", disable=None)
