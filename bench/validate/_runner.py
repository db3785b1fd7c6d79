"""Claims one after another in this process, or side by side in worker processes.

Workers are plain processes with a pipe each: where one worker of an executor dies, the executor ends all others too, and does not
say whose work it was.
"""

from __future__ import annotations

import faulthandler
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

from nets._threads import single_threaded_blas

from . import Check, Claim, Outcome

#: Each compiles before it computes, and records of up to a gigabyte are held in some full runs.
MOST = 4

_LOG = logging.getLogger(__package__)
_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads of this process hold


@dataclass(frozen=True)
class Answer:
    """What a claim's run came to."""

    checks: Sequence[Check] = ()
    error: str = ""
    details: str = ""  # of the error: where it was raised
    seconds: float = 0.0


def default_jobs() -> int:
    """As many as there are cores that may be used, four at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST)


def units(claims: Sequence[Claim]) -> list[list[Claim]]:
    """What a worker runs in one go: the claims of the same SHARED, else one claim. Those of most claims come first.

    How long a claim will take nobody knows, but what cannot be divided must not be begun last.
    """
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(getattr(claim, "SHARED", claim.NAME), []).append(claim)
    return sorted(found.values(), key=len, reverse=True)


def outcomes(
    claims: Sequence[Claim], *, jobs: int, quick: bool, out: Path, progress: bool, show: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run the claims, show every outcome as soon as it is there, return all in the order of the claims.

    Claims that are no modules exist in this process only, and are run in it.
    """
    together = units(claims)
    jobs = min(jobs, len(together)) if all(isinstance(claim, ModuleType) for claim in claims) else 1
    found: dict[str, Outcome] = {}

    def finish(claim: Claim, answer: Answer) -> None:
        if answer.details:
            _LOG.error("claim %s ended with an error\n%s", claim.NAME, answer.details)
        found[claim.NAME] = Outcome(claim, answer.checks, answer.error, answer.seconds)
        show(found[claim.NAME])

    if jobs == 1:
        for claim in claims:
            finish(claim, _attempt(claim.run, quick, out, progress))
    else:
        _side_by_side(deque(together), jobs, (quick, out), progress, finish)
    return [found[claim.NAME] for claim in claims]


def _attempt(run: Callable[[bool, Path, bool], list[Check]], quick: bool, out: Path, progress: bool) -> Answer:
    """The same in this process and in a worker; products of matrices may depend on the number of threads in their last bits."""
    start = time.perf_counter()
    checks, error, details = list[Check](), "", ""
    try:
        with single_threaded_blas():
            checks = run(quick, out, progress)
    except Exception as problem:  # one broken claim must not hide the verdict on the others
        error, details = f"{type(problem).__name__}: {problem}", traceback.format_exc()
    if not checks and not error:
        error = "the claim made no check"
    return Answer(checks, error, details, time.perf_counter() - start)


# ---- workers -------------------------------------------------------------------------------------------------------


class _Worker:
    """A process that runs claims one after another, and those it has been given: the first is under way."""

    def __init__(self, claims: Sequence[Claim], settings: tuple[bool, Path]) -> None:
        self.pipe, end = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(end,), daemon=True)
        with _deaf():
            self.process.start()
        end.close()  # the worker has the only other end: if it dies, the pipe says so
        self.begin(claims, settings)

    def begin(self, claims: Sequence[Claim], settings: tuple[bool, Path]) -> None:
        """Send the first of the claims."""
        self.given, self.begun = deque(claims), time.perf_counter()
        with suppress(OSError):  # a process that is no more: its answer will be that it died
            self.pipe.send((self.given[0].__name__, *settings))  # type: ignore[attr-defined]

    def answer(self) -> Answer:
        """What came of it, or how the process died; the claim is no longer among those given."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(10.0)
            self.end()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            error = f"the process that ran the claim died ({how}{'; memory may be short: try fewer jobs' * (how == 'SIGKILL')})"
            return Answer((), error, error, time.perf_counter() - self.begun)

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _side_by_side(
    waiting: deque[list[Claim]],
    jobs: int,
    settings: tuple[bool, Path],
    progress: bool,
    finish: Callable[[Claim, Answer], None],
) -> None:
    """Run the units on `jobs` workers. Whatever ends this function ends the workers."""
    from tqdm.auto import tqdm

    workers: list[_Worker] = []
    # disable=None: no bar where the output is a file or a pipe
    with tqdm(total=sum(map(len, waiting)), desc="claims", unit="claim", disable=None if progress else True) as bar:
        try:
            while waiting or workers:
                while waiting and len(workers) < jobs:
                    workers.append(_Worker(waiting.popleft(), settings))
                bar.set_postfix_str(", ".join(worker.given[0].NAME for worker in workers))
                ready = connection.wait([worker.pipe for worker in workers], timeout=1.0)
                for worker in [w for w in workers if w.pipe in ready]:
                    answer, claim = worker.answer(), worker.given.popleft()
                    rest = list(worker.given)
                    if worker.pipe.closed:
                        workers.remove(worker)
                        waiting.extendleft([rest] if rest else [])
                    elif rest or waiting:
                        worker.begin(rest or waiting.popleft(), settings)
                    else:
                        workers.remove(worker)
                        worker.end()
                    with tqdm.external_write_mode():
                        finish(claim, answer)
                    bar.update()
        finally:
            for worker in workers:
                worker.end()


@contextmanager
def _deaf() -> Iterator[None]:
    """A process started in the block never hears of Ctrl-C, which a terminal sends to all: this one ends it."""
    resource_tracker.ensure_running()  # comes with the first process, and before Python 3.12 lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Any) -> None:
    """A worker: run the claims whose modules are named until no more come."""
    from tqdm import tqdm

    faulthandler.enable()  # a crash in compiled code says where
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which would outlive a worker that is killed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError):
        while True:
            name, quick, out = pipe.recv()
            answer = _attempt(lambda *given, name=name: importlib.import_module(name).run(*given), quick, out, False)
            sys.stdout.flush()  # with its last answer the process is ended
            pipe.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
