"""Runs the ways of a problem in turn, each in its own process with one thread, and records every round.

A package that is not installed, an exception, a process that dies and one that does not answer in time are rows with a reason.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ._case import CannotDo, Peer, Problem

BENCH = Path(__file__).parent.parent
#: Threads are one, said to every library in its own words; the worker is confined to one processor besides.
ONE_THREAD = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS",
         "OPENMM_CPU_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "1",
    "FIPY_SOLVERS": "scipy",
    "MPLBACKEND": "Agg",
}  # fmt: skip
#: Rounds of a way stop when they have taken so many seconds of the clock, for all problems and for the small ones; a first call as
#: long as that is its only round.
ENOUGH, QUICK_ENOUGH = 15.0, 2.0


class Ended(Exception):
    """A worker gave no answer: how it ended, and the reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Worker:
    """The process of one way. `ask` sends a line, `answer` waits for one."""

    def __init__(self, module: str, problem: str, way: int, timeout: float, folder: Path, quick: bool) -> None:
        self.timeout, self.log = timeout, tempfile.TemporaryFile()
        path = os.pathsep.join([str(BENCH), str(BENCH.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        more = {"PYTHONPATH": path, "FPSOLVE_PEERS_FOLDER": str(folder), "FPSOLVE_PEERS_QUICK": str(int(quick))}
        command = [sys.executable, "-m", "peers._worker", module, problem, str(way)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True,
            env={**os.environ, **ONE_THREAD, **more},
        )  # fmt: skip
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def answer(self, event: str, patience: float = 1.0) -> dict[str, Any]:
        try:
            line = self.lines.get(timeout=patience * self.timeout)
        except queue.Empty:
            raise Ended("timed out", f"gave no answer within {self.timeout:g} s") from None
        if line is None:
            raise Ended("crashed", self._last_words())
        said = json.loads(line)
        kind = said.pop("event")
        if kind != event:
            raise Ended(kind, said["reason"])
        return dict(said)

    def ask(self) -> dict[str, Any]:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # then the answer tells
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self.answer("round")

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        said = [line for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"ended with {how}" + (f": {said[-1].strip()[:200]}" if said else "")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(timeout=10.0)
        for end in (self.process.stdin, self.process.stdout, self.log):
            with contextlib.suppress(BrokenPipeError):
                assert end
                end.close()


def version_of(package: str | None) -> str | None:
    """The installed version, None where there is none; fpsolve may lie on the path uninstalled."""
    if package == "fpsolve":
        import fpsolve

        return str(fpsolve.__version__)
    with contextlib.suppress(metadata.PackageNotFoundError):
        return package and metadata.version(package)
    return None


def named(name: str, version: str | None) -> str:
    """The name with the version behind its first word: "fipy, LU" becomes "fipy 4.0, LU"."""
    if version is None:
        return name
    head, *rest = name.split(" ", 1)
    word = head.rstrip(",;:")
    return " ".join([f"{word} {version}{head[len(word) :]}", *rest])


def measure(
    module: str, problem: Problem, rounds: int, timeout: float, folder: Path, quick: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """All ways of a problem, in turn: a record of plain numbers and words."""
    ways: Sequence[Peer | CannotDo] = (problem.ours, *problem.peers)
    enough = QUICK_ENOUGH if quick else ENOUGH
    records: list[dict[str, Any]] = []
    workers: dict[int, Worker] = {}
    try:
        for i, way in enumerate(ways):
            version = version_of(way.package)
            record: dict[str, Any] = {"name": named(way.name, version), "package": way.package, "version": version, "ours": i == 0}
            records.append(record)
            if isinstance(way, CannotDo):
                record.update(status="cannot", reason=way.reason)
                continue
            record.update(status="ok", note=way.note, work=problem.work if way.work is None else way.work, rounds=[])
            if way.package is not None and version is None:
                record.update(status="missing", reason=f"{way.package} is not installed: pip install {way.package}")
                continue
            workers[i] = Worker(module, problem.name, i, timeout, folder, quick)
            _attempt(record, workers, i, lambda worker, record=record: _begin(worker, record, enough))
            tell(f"  {record['name']}: {_words(record)}")
        for _ in range(rounds):
            for i in list(workers):
                record = records[i]
                spent = sum(one["wall"] * one["calls"] for one in record["rounds"])
                if spent < enough:
                    _attempt(record, workers, i, lambda worker, record=record: record["rounds"].append(worker.ask()))
    finally:
        for worker in workers.values():
            worker.close()
    facts = {key: getattr(problem, key) for key in ("group", "name", "question", "unit", "work", "reference")}
    return {**facts, "ways": records}


def _begin(worker: Worker, record: dict[str, Any], enough: float) -> None:
    record["prepare"] = worker.answer("prepared")
    record["first"] = worker.answer("called")
    record["peak_mb"] = record["first"].pop("peak_mb")
    record.update(worker.answer("judged", 5.0))  # the reference may be computed first, which is no fault of the peer
    if record["first"]["wall"] >= enough:
        record["rounds"].append({**record["first"], "calls": 1})


def _attempt(record: dict[str, Any], workers: dict[int, Worker], i: int, act: Callable[[Worker], None]) -> None:
    try:
        act(workers[i])
    except Ended as end:
        record.update(status=end.status, reason=end.reason)
        workers.pop(i).close()


def _words(record: dict[str, Any]) -> str:
    if record["status"] != "ok":
        return f"{record['status']}: {record['reason']}"
    return f"prepared in {record['prepare']['wall']:.2f} s, first call {record['first']['wall']:.3g} s, error {record['error']:.2g}"


def suite(
    chosen: Sequence[tuple[str, Problem]], *, rounds: int, timeout: float, quick: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The record of a run: where it comes from, and every problem with all its rounds."""
    import fpsolve as fps

    begin, load = time.perf_counter(), os.getloadavg()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for module, problem in chosen:
            tell(f"{problem.group}: {problem.name}")
            found.append(measure(module, problem, rounds, timeout, Path(folder), quick, tell))
    origin = fps.io.provenance(
        rounds=rounds, timeout=timeout, quick=quick, threads=1, environment=ONE_THREAD, load_average_before=list(load),
        load_average_after=list(os.getloadavg()), seconds=round(time.perf_counter() - begin, 1),
    )  # fmt: skip
    packages = sorted({way["package"] for problem in found for way in problem["ways"] if way["package"]})
    origin["versions"].update({package: version_of(package) for package in packages})
    for private in ("host", "argv"):
        origin.pop(private)
    return {"schema": "fpsolve peers 1", "version": fps.__version__, "provenance": origin, "problems": found}
