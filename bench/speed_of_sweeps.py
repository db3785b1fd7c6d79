"""What a unit of a sweep costs besides its own work, and what a second worker gains.

    python bench/speed_of_sweeps.py [ROUNDS]

Rounds go through all cases in turn, so that what else the machine does hits all of them alike; the tables have the best round and
the median. Workers are started before the clock is. Units that do nothing have the time per unit: wall time, and processor time of
the process that hands them out, which bounds the units per second of a cluster of any size. Weak scaling gives each worker the same
number of units of a fifth of a second: twice the wall time of one worker over that of two. Where other programs have a share in the
cores, that says more of them than of the sweep; so there is also the share of the time that workers spend in units, two to one, and
the gain of two plain processes that know nothing of sweeps.
"""

import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np

import fpsolve as fps
from fpsolve import _executors
from fpsolve._calls import Call, run_unit
from fpsolve._sweep_file import Writer
from fpsolve._units import Plan

SHORT, LONG = 1000, 20
ONE_BY_ONE = "Dask, without bundles"
PLAIN = "two plain processes, wall time"
SPAWN = multiprocessing.get_context("spawn")


def nothing(a):
    return float(a)


def estimate(a):
    """A typical result: a number with errors, and what it rests on."""
    held = [fps.Assumption(f"condition number {i} of the formula", "held", f"{a} is large enough") for i in range(6)]
    return fps.Estimate(a, stderr=0.1, log_value=0.0, unit="time", method="a formula", assumptions=held)


def spin(a):
    """A fifth of a second of plain arithmetic on this processor."""
    total = 0.0
    for i in range(2_500_000):
        total += i * 1e-9
    return total + a


def timed(work):
    """Wall and processor time of this process."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


def sweep(task, n, folder, executor):
    path = folder / "sweep.h5"
    path.unlink(missing_ok=True)
    return timed(lambda: fps.sweep(task, {"a": range(n)}, out=path, executor=executor))


def scaled(pair, folder):
    """Gain of a second worker: in wall time, and without what the units themselves became slower."""
    walls, busy = [], []
    for k, executor in enumerate(pair, 1):
        walls.append(sweep(spin, LONG * k, folder, executor)[0])
        busy.append(float(fps.load(folder / "sweep.h5").seconds.sum()) / walls[-1])
    return 2 * walls[0] / walls[1], busy[1] / busy[0]


def plain(pool, n):
    """Wall time of the same work without a sweep."""
    return timed(lambda: list(pool.map(spin, range(n))))[0]


def crews(stack):
    """Name to (executor with one worker, executor with two), all of them warm."""
    from distributed import Client, LocalCluster

    found = {}
    pools = [ProcessPoolExecutor(k, mp_context=SPAWN) for k in (1, 2)]
    found["process pool"] = pools
    clients = []
    for k in (1, 2):
        cluster = LocalCluster(n_workers=k, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.ERROR)
        clients.append(Client(cluster))
        stack += [clients[-1], cluster]
    found["Dask"] = clients
    stack += pools
    return found


def sizes():
    """Bytes that go to a worker and back, and to the file, for a number and for an Estimate."""
    for name, task in (("a number", nothing), ("an Estimate", estimate)):
        plan = Plan.make({"a": range(100), "b": range(100), "c": range(32)})
        call, unit = Call(task, False, False), plan.unit(7)
        outcome = run_unit(Call(lambda a, b, c, task=task: task(float(a)), False, False), unit, True)
        with tempfile.TemporaryDirectory() as folder:
            writer = Writer(Path(folder) / "x.h5", plan, {})
            writer.store(7, outcome, 1)
            writer.close()
            total = (Path(folder) / "x.h5").stat().st_size / plan.size
        there, back = (len(bytes(ForkingPickler.dumps(part))) for part in ((call, unit), outcome))
        print(f"{name:<14} {there} bytes to the worker, {back} back, {total:.0f} in the file for each unit")


def syncs(folder):
    """Seconds that the disk takes to write down what it holds back, once per second of a run."""
    plan, took = Plan.make({"a": range(20_000)}), []
    writer = Writer(folder / "sync.h5", plan, {})
    outcome = run_unit(Call(nothing, False, False), plan.unit(1), True)
    for i in range(5):
        for index in range(1000 * i, 1000 * i + 1000):
            writer._last = time.monotonic()
            writer.store(index, outcome, 1)
        start = time.perf_counter()
        writer.sync()
        took.append(time.perf_counter() - start)
    writer.close()
    return took


def main(rounds: int) -> None:
    stack = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = crews(stack)
        cases = {"this process": None, "process pool, 2": found["process pool"][1], "Dask, 2 workers": found["Dask"][1]}
        cases[ONE_BY_ONE] = found["Dask"][1]
        for executor in cases.values():
            sweep(nothing, 20, folder, executor)
        for pair in found.values():
            for executor in pair:
                sweep(spin, 2, folder, executor)
        idle = {case: [] for case in cases}
        scaling = {name: [] for name in (*(f"{case}, {what}" for case in found for what in ("wall time", "time in units")), PLAIN)}
        for _ in range(rounds):
            for case, executor in cases.items():
                _executors._BUNDLE = 1 if case == ONE_BY_ONE else 32
                idle[case].append([1e3 * t / SHORT for t in sweep(nothing, SHORT, folder, executor)])
            for case, pair in found.items():
                gain, busy = scaled(pair, folder)
                scaling[f"{case}, wall time"].append(gain)
                scaling[f"{case}, time in units"].append(busy)
            one, two = (plain(found["process pool"][k], LONG * (k + 1)) for k in range(2))
            scaling[PLAIN].append(2 * one / two)
        print(f"load of the machine {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores, {rounds} rounds\n")
        print(f"{'units that do nothing':<22} {'wall ms':>16} {'processor ms':>18}   best (median) per unit")
        for case, times in idle.items():
            wall, used = np.array(times).T
            print(
                f"{case:<22} {wall.min():8.3f} ({statistics.median(wall):.3f}) {used.min():10.3f} ({statistics.median(used):.3f})"
            )
        print(f"\n{'weak scaling 1 -> 2':<32} {'best':>8} {'median':>8}")
        for case, gains in scaling.items():
            print(f"{case:<32} {max(gains):8.2f} {statistics.median(gains):8.2f}")
        print()
        sizes()
        print(f"flush to the disk: {1e3 * statistics.median(syncs(folder)):.1f} ms (median), of 1000 units")
    for thing in stack:
        (thing.shutdown if isinstance(thing, ProcessPoolExecutor) else thing.close)()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
