"""One way of doing one problem in a process of its own: prepared, called once, judged, then a round for every line that comes.

    python -m peers._worker MODULE PROBLEM WAY

MODULE has `problems()`, WAY counts from 0, which is ours. Answers are lines of JSON on what was standard output; what the peer
prints goes to standard error. Seconds of the processor are those of this process and of the ones that it has waited for.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

#: A round is repeated until it has lasted so many seconds: short calls are below the ticks of other work.
ROUND = 0.1


def processor_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_mb() -> float:
    """Most memory so far, of this program alone: what a process inherits from the one that started it does not count."""
    try:
        with open("/proc/self/status", encoding="utf-8") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    cpu, wall = processor_seconds(), time.perf_counter()
    answer = run()
    return answer, {"wall": time.perf_counter() - wall, "cpu": processor_seconds() - cpu}


def a_round(run: Callable[[], Any]) -> dict[str, float]:
    cpu, wall, calls = processor_seconds(), time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - wall < ROUND:
        run()
        calls += 1
    wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
    return {"wall": wall / calls, "cpu": cpu / calls, "calls": calls}


def one_processor() -> None:
    """Thread pools that no variable confines are confined here."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> None:
    module, problem, way = sys.argv[1:]
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(event: str, **values: Any) -> None:
        pipe.write(json.dumps({"event": event, **values}) + "\n")
        pipe.flush()

    one_processor()
    found = next(p for p in importlib.import_module(module).problems() if p.name == problem)
    peer = (found.ours, *found.peers)[int(way)]
    try:
        run, prepared = timed(peer.prepare)
        tell("prepared", **prepared)
        answer, called = timed(run)
        tell("called", **called, peak_mb=peak_mb())
        error = peer.error(answer)
        value, stderr = error if isinstance(error, tuple) else (error, None)
        tell("judged", error=float(value), stderr=None if stderr is None else float(stderr))
        del answer
        for _ in sys.stdin:
            tell("round", **a_round(run))
    except ImportError as problem_found:
        tell("missing", reason=str(problem_found))
    except Exception as problem_found:  # whatever a peer raises is a row of the table
        tell("failed", reason=f"{type(problem_found).__name__}: {problem_found}".splitlines()[0])


if __name__ == "__main__":
    main()
