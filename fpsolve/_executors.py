"""Who runs the units of a sweep: this process, threads, processes, any executor, a Dask cluster; and the one loop for them all.

A bounded number of units is under way at a time; each is stored when it comes back, in whatever order. Units whose worker died
are given out again, the last time alone, so that one that kills its worker is not mistaken for its neighbours.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from ._calls import Call, ConfigCall, Outcome, run_units
from ._threads import usable_cores
from ._units import Unit
from .errors import FpsolveError

__all__ = ["Crew", "carry_out", "hire"]

Bundle = Future[list[Outcome]]
Store = Callable[[int, Outcome, int], None]
#: Units given to a Dask cluster at least, so that one that grows with its work has a reason to.
_LEAST = 64
#: A Dask scheduler takes milliseconds for a task: shorter units are given out in bundles of so many seconds and units, at most.
_BUNDLE_SECONDS, _BUNDLE = 0.1, 32


class Crew:
    """Workers in this process: a unit is run where it is given out."""

    alone = False
    link = ""
    #: Bundles of units under way at a time, at most.
    limit = 1

    def bundle(self, seconds: float) -> int:
        """How many units of this run time to give out in one go."""
        return 1

    def submit(self, call: Call | ConfigCall, units: list[Unit]) -> Bundle:
        future: Bundle = Future()
        with _noticed_interrupts() as seen:
            outcome = run_units(call, units, self.alone)
        if seen:  # the engines end a run at Ctrl-C and return what is done: not the result of the unit
            raise KeyboardInterrupt
        future.set_result(outcome)
        return future

    def restart(self) -> None:
        """Take new workers for those that died."""

    def trouble(self) -> str:
        """Why nothing will ever come back, "" if something may."""
        return ""

    def note(self) -> str:
        """What to show behind the progress bar."""
        return ""

    def stop(self, running: list[Bundle], now: bool) -> None:
        """No more units come; with `now` those under way are given up where that is possible."""


@contextmanager
def _noticed_interrupts() -> Iterator[list[int]]:
    """Ctrl-C is put on a list, besides what it does; in the main thread, which alone hears of it."""
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield seen
        return

    def notice(number: int, frame: Any) -> None:
        seen.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


class _Hired(Crew):
    """Workers elsewhere, to whom bundles are handed; the cores are shared by the units."""

    alone = True
    pool: Any

    def submit(self, call: Call | ConfigCall, units: list[Unit]) -> Bundle:
        future: Bundle = self.pool.submit(run_units, call, units, self.alone)
        return future


class _Pool(_Hired):
    """An executor of `concurrent.futures` of the caller, or threads."""

    def __init__(self, pool: Executor, slots: int, own: bool) -> None:
        self.pool, self.limit, self.own = pool, 2 * slots, own

    def restart(self) -> None:
        raise FpsolveError("the executor is broken: one of its workers died, and it takes no more work")

    def stop(self, running: list[Bundle], now: bool) -> None:
        for future in running:
            future.cancel()
        if self.own:
            self.pool.shutdown(wait=True, cancel_futures=True)


class _Processes(_Pool):
    """Processes of our own, which can be replaced."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        super().__init__(self._begin(), slots, True)

    def _begin(self) -> ProcessPoolExecutor:
        # a fork would copy locks that other threads of this process hold
        return ProcessPoolExecutor(self.slots, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare)

    def restart(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.pool = self._begin()

    def stop(self, running: list[Bundle], now: bool) -> None:
        workers = list((getattr(self.pool, "_processes", None) or {}).values()) if now else []
        for future in running:
            future.cancel()
        for worker in workers:
            worker.kill()
        self.pool.shutdown(wait=True, cancel_futures=True)


def _prepare() -> None:
    """A worker does not hear of Ctrl-C, which a terminal sends to all, and ends with the process that began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Dask(_Hired):
    """A Dask cluster: given as a client, a cluster, or the address of a scheduler."""

    def __init__(self, given: Any) -> None:
        from distributed import Client

        self.own = not isinstance(given, Client)
        if not self.own and given.asynchronous:
            raise TypeError("the Dask client is asynchronous; give one made with asynchronous=False, or the scheduler's address")
        try:
            client: Any = Client
            self.client = client(given, set_as_default=False) if self.own else given
        except OSError as error:
            raise ConnectionError(f"no Dask scheduler answers at {given}: {error}") from error
        self.pool = self.client.get_executor(pure=False)
        self.link = str(self.client.dashboard_link or "")
        self._slots, self._asked = 0, -1.0

    @property
    def slots(self) -> int:
        """Threads of all workers, as of the last second."""
        if time.monotonic() - self._asked > 1.0:
            with suppress(Exception):  # a scheduler that is gone is noticed by its units
                self._slots = sum(self.client.nthreads().values())
            self._asked = time.monotonic()
        return self._slots

    @property
    def limit(self) -> int:  # type: ignore[override]
        return max(_LEAST, 2 * self.slots)

    def bundle(self, seconds: float) -> int:
        return int(min(_BUNDLE, max(1.0, _BUNDLE_SECONDS / max(seconds, 1e-6))))

    def trouble(self) -> str:
        status = self.client.status
        return "" if status == "running" else f"the connection to the Dask scheduler is lost ({status})"

    def note(self) -> str:
        return f"{self._slots} threads" if self._slots else "no workers yet"

    def stop(self, running: list[Bundle], now: bool) -> None:
        with suppress(Exception):  # with a scheduler that is gone nothing is left to be done
            self.pool.shutdown(wait=False)
        if self.own:
            with suppress(Exception):
                self.client.close(timeout=5)


@contextmanager
def hire(executor: Any, call: Call | ConfigCall) -> Iterator[Callable[[], Crew]]:
    """Check what was given as an executor; in the block the function that is yielded makes the crew, when there is work.

    Raises
    ------
    TypeError, ValueError
        For anything that is no executor, or a task that cannot be sent to its workers.
    """
    if executor is None:
        with warnings.catch_warnings():  # filters that a unit sets are not the caller's
            yield Crew
    elif isinstance(executor, Executor):
        slots = getattr(executor, "_max_workers", None)
        if isinstance(executor, ProcessPoolExecutor):
            _check_sendable(call)
        yield lambda: _Pool(executor, slots if isinstance(slots, int) else usable_cores(), own=False)
    elif executor == "threads":
        yield lambda: _Pool(ThreadPoolExecutor(usable_cores(), "fpsolve-sweep"), usable_cores(), own=True)
    elif executor == "processes" or (isinstance(executor, int) and not isinstance(executor, bool)):
        slots = usable_cores() if executor == "processes" else executor
        if slots < 1:
            raise ValueError(f"the number of processes must be >= 1, got {slots}")
        _check_sendable(call)
        yield lambda: _Processes(slots)
    elif (isinstance(executor, str) and "://" in executor) or hasattr(executor, "scheduler_address") or _is_client(executor):
        _need_dask()
        yield lambda: _Dask(executor)
    else:
        raise TypeError(
            "executor must be None, 'threads', 'processes', a number of processes, an executor of concurrent.futures, or a Dask "
            f"client, cluster or address such as 'tcp://host:8786'; got {type(executor).__name__}: {executor!r}"
        )


def _is_client(executor: Any) -> bool:
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(executor, distributed.Client)


def _need_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ImportError("a Dask cluster needs the package 'distributed': install it with `pip install fpsolve[dask]`") from None


def _check_sendable(call: Call | ConfigCall) -> None:
    from multiprocessing.reduction import ForkingPickler

    function = getattr(call, "function", None)
    main = sys.modules.get("__main__")
    if getattr(function, "__module__", None) == "__main__" and not hasattr(main, "__file__") and main is not None:
        raise ValueError(
            "processes cannot import a function of an interactive session: put it into a module, or use threads or Dask"
        )
    try:
        ForkingPickler.dumps(call)
    except Exception as error:
        raise ValueError(
            f"the task cannot be sent to other processes ({error}): define it at the top of a module, not as a lambda or inside a "
            "function; threads and Dask take such tasks"
        ) from error


# ---- the loop -------------------------------------------------------------------------------------------------------------


def carry_out(
    crew: Crew, call: Call | ConfigCall, todo: Iterator[int], unit: Callable[[int], Unit], store: Store, retries: int,
    laid_out: Callable[[], bool],
) -> None:  # fmt: skip
    """Run the units `todo` and store what comes of them, each as soon as it is there.

    Until the file is `laid_out`, by the first result, they are run one by one: what a result must be like is then decided by the
    order of the units, whoever runs them.

    Raises
    ------
    FpsolveError
        If the workers cannot go on.
    KeyboardInterrupt
        After Ctrl-C; what had come back by then is stored.
    """
    work = _Work(crew, call, todo, unit, store, retries, laid_out)
    try:
        work.run()
    except BaseException as problem:
        crew.stop(list(work.running), now=True)
        if isinstance(problem, (KeyboardInterrupt, FpsolveError)):
            work.take_what_is_back()
        raise
    crew.stop([], now=False)


class _Work:
    """Units that are given out, what comes back of them, and those that are to be tried again."""

    def __init__(
        self, crew: Crew, call: Call | ConfigCall, todo: Iterator[int], unit: Callable[[int], Unit], store: Store, retries: int,
        laid_out: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.crew, self.call, self.todo, self.unit = crew, call, todo, unit
        self.store, self.retries, self.laid_out = store, retries, laid_out
        self.back: queue.SimpleQueue[Bundle] = queue.SimpleQueue()
        self.running: dict[Bundle, list[int]] = {}
        self.again: deque[int] = deque()
        self.deaths: dict[int, int] = {}
        self.broken, self.barren, self.seconds = False, 0, math.inf

    def run(self) -> None:
        while True:
            self.fill()
            if self.running:
                try:
                    self.take(self.back.get(timeout=1.0))
                except queue.Empty:
                    trouble = self.crew.trouble()
                    if trouble:
                        raise FpsolveError(trouble) from None
            elif self.broken:
                self.barren += 1
                if self.barren > self.retries + 5:
                    raise FpsolveError(
                        f"the workers died {self.barren} times in a row and no unit came to its end: a script that starts "
                        "processes needs `if __name__ == '__main__':`, and memory may be short"
                    )
                self.broken = False
                self.crew.restart()
            else:
                return

    def fill(self) -> None:
        """Give out units up to the limit; one that has its last chance is given out alone."""
        while not self.broken and len(self.running) < (self.crew.limit if self.laid_out() else 1):
            last = next((i for i in self.again if self.deaths.get(i, 0) >= max(self.retries, 1)), None)
            if last is not None:
                if not self.running:
                    self.again.remove(last)
                    self.give_out([last])
                return
            size = self.crew.bundle(self.seconds) if self.laid_out() else 1
            indices = [self.again.popleft() for _ in range(min(size, len(self.again)))]
            indices += itertools.islice(self.todo, size - len(indices))
            if not indices:
                return
            self.give_out(indices)

    def give_out(self, indices: list[int]) -> None:
        try:
            future = self.crew.submit(self.call, [self.unit(index) for index in indices])
        except BrokenExecutor:
            self.again.extendleft(reversed(indices))
            self.broken = True
            return
        self.running[future] = indices
        future.add_done_callback(self.back.put)

    def take(self, future: Bundle) -> None:
        indices = self.running.pop(future)
        try:
            outcomes = future.result(timeout=0)
        except CancelledError:
            raise FpsolveError(self.crew.trouble() or "the units were cancelled from outside") from None
        except BrokenExecutor:
            self.broken = True
            for index in indices:
                self.died(index)
        except Exception as error:
            for index in indices:
                if type(error).__name__ == "KilledWorker":
                    self.died(index)
                else:
                    self.keep(index, Outcome(None, f"{type(error).__name__}: {error}", 0.0, ""))
        else:
            for index, outcome in zip(indices, outcomes, strict=True):
                self.keep(index, outcome)

    def take_what_is_back(self) -> None:
        """Store what came to its end before the crew was stopped."""
        with suppress(queue.Empty):
            while True:
                future = self.back.get_nowait()
                if future in self.running and not future.cancelled() and future.exception(timeout=0) is None:
                    self.take(future)

    def keep(self, index: int, outcome: Outcome) -> None:
        self.seconds = outcome.seconds if self.seconds == math.inf else 0.9 * self.seconds + 0.1 * outcome.seconds
        self.barren = 0
        self.store(index, outcome, self.deaths.pop(index, 0) + 1)

    def died(self, index: int) -> None:
        self.deaths[index] = self.deaths.get(index, 0) + 1
        if self.deaths[index] > self.retries:
            times = self.deaths.pop(index)
            self.store(index, Outcome(None, f"the worker that ran the unit died (attempts: {times})", 0.0, ""), times)
        else:
            self.again.append(index)
