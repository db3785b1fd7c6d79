"""Sweeps under faults: kills, full disks, damaged rows, second writers, interrupts, workers that die."""

import collections
import contextlib
import errno
import functools
import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import sweep_tasks as tasks

import fpsolve as fps
from fpsolve import _lock, _sweep_file, cli
from fpsolve._sweep import describe_sweep

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "sweep.h5"


def results(path):
    """The bytes of everything that the units returned."""
    with h5py.File(path) as file:
        found = {name: file["results"][name][()].tobytes() for name in file["results"]}
        return {**found, "status": file["units/status"][()].tobytes(), "plan": file["plan"][()]}


def stored(path):
    """Units that are stored, as plain h5py sees them: the file must open."""
    with h5py.File(path) as file:
        return set(np.flatnonzero(file["units/status"][()].ravel() == 1).tolist())


def runs(log):
    return collections.Counter(int(line) for line in log.read_text().split()) if log.exists() else collections.Counter()


def run_logged(out, log, n, pause, executor):
    fps.sweep(functools.partial(tasks.logged, log=str(log), pause=pause), {"a": range(n)}, out=out, executor=executor)


def killed_again_and_again(out, log, n, pause, executor, kills, delays):
    """Kill the run so many times, each time looking at the file; returns by how many runs units were computed twice.

    Delays count from the first unit that is run, or, if they are negative, from the start of the process.
    """
    done = 0
    while done < kills:
        before, runs_before = (stored(out) if out.exists() else set()), runs(log)
        process = multiprocessing.get_context("spawn" if executor else "fork").Process(
            target=run_logged, args=(out, log, n, pause, executor)
        )
        process.start()
        delay = next(delays)
        end = time.monotonic() + 60
        while delay > 0.0 and process.is_alive() and not runs(log) - runs_before and time.monotonic() < end:
            time.sleep(0.01)  # it is at work
        process.join(abs(delay))
        if process.exitcode == 0:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        process.close()
        done += 1
        again = runs(log) - runs_before
        assert not before & set(again), "a unit that was stored was computed again"
        if out.exists():
            assert stored(out) >= before, "a unit was lost"
            fps.load(out)
    run_logged(out, log, n, pause, executor)
    assert done == kills, "the run came to its end before it was killed so often"
    return sum(runs(log).values()) - n


def test_a_killed_sweep_goes_on(tmp_path, out):
    """Serial runs: one unit is under way at a kill, and one more may have been finished and not yet stored."""
    log, delays = tmp_path / "log", random.Random(1)
    spare = killed_again_and_again(out, log, 120, 0.01, None, 8, iter(lambda: delays.uniform(-0.1, 0.15), None))
    assert spare <= 8
    run_logged(tmp_path / "undisturbed.h5", tmp_path / "log2", 120, 0.0, None)
    mine, other = results(out), results(tmp_path / "undisturbed.h5")
    assert mine["value"] == other["value"] and mine["status"] == other["status"]
    left = [p.name for p in tmp_path.iterdir() if p.suffix in (".lock", ".tmp") and p.stat().st_size]
    assert not left, "of killed writers"


@pytest.mark.slow
def test_fifty_kills_of_a_sweep_on_two_processes(tmp_path, out):
    """Two units are under way at a kill, and of each worker one more may have been finished and not yet stored."""
    log, delays = tmp_path / "log", random.Random(2)
    spare = killed_again_and_again(out, log, 1500, 0.02, 2, 50, iter(lambda: delays.uniform(-1.0, 0.5), None))
    assert spare <= 4 * 50
    run_logged(tmp_path / "undisturbed.h5", tmp_path / "log2", 1500, 0.0, None)
    assert results(out)["value"] == results(tmp_path / "undisturbed.h5")["value"]


def test_the_plan_is_in_the_file_before_the_first_result(out):
    def look(a):
        with h5py.File(out) as file:
            assert file["axes/a"][:].tolist() == [5] and "results" not in file
        return [line for line in describe_sweep(out) if "0 (0.0 %)" in line] != []

    assert fps.sweep(look, {"a": [5]}, out=out).values().tolist() == [True]


def test_what_is_stored_is_not_computed_again_and_failures_are(tmp_path, out):
    axes = {"a": [1, 2, 3, 4], "allowed": [str(tmp_path / "allowed")]}
    with pytest.warns(RuntimeWarning, match="2 of 4 units failed; the first: a=3, allowed=.*: RuntimeError: 3 is too much"):
        first = fps.sweep(tasks.picky, axes, out=out)
    assert np.array_equal(first.values()[:, 0], [1, 2, np.nan, np.nan], equal_nan=True)
    seconds = first.seconds
    (tmp_path / "allowed").touch()
    second = fps.sweep(tasks.picky, axes, out=out)
    assert second.values()[:, 0].tolist() == [1, 2, 3, 4] and second.failed == 0
    assert np.array_equal(second.seconds[:2], seconds[:2])
    with h5py.File(out) as file:
        assert file["units/attempts"][:, 0, 0, 0].tolist() == [1, 1, 2, 2]
        assert not any(file["units/error"][()].ravel())


def test_if_everything_fails_it_is_an_error_and_goes_on(tmp_path, out):
    axes = {"a": [3, 4], "allowed": [str(tmp_path / "allowed")]}
    with pytest.raises(fps.FpsolveError, match="2 of 2 units failed; the first: a=3.* tried again by the same call"):
        fps.sweep(tasks.picky, axes, out=out)
    assert fps.load(out).failed == 2
    (tmp_path / "allowed").touch()  # only now the file gets a place for results
    assert fps.sweep(tasks.picky, axes, out=out).values()[:, 0].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"axes": {"a": [1, 3]}}, r"axis a was \[1, 2\], is \[1, 3\]"),
        ({"axes": {"a": [1.0, 2]}}, r"axis a was \[1, 2\], is \[1.0, 2\]"),
        (
            {"task": tasks.double, "replicates": 1},
            "task was sweep_tasks.draw #.*, is sweep_tasks.double #.*; replicates was 2, is 1",
        ),
    ],
)
def test_the_file_of_another_call_is_refused_and_left_alone(change, words, out):
    call = {"task": tasks.draw, "axes": {"a": [1, 2]}, "replicates": 2, "out": out}
    fps.sweep(**call)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=f"is the sweep of another call: {words}. It is left as it is"):
        fps.sweep(**{**call, **change})
    assert out.read_bytes() == before


def test_other_files_are_refused_and_left_alone(out):
    for content in (b"", b"a text that is no sweep", None):
        fps.save(out, {"a": 1.0}) if content is None else out.write_bytes(content)
        before = out.read_bytes()
        with pytest.raises(ValueError, match="sweep.h5 .*delete the file"):
            fps.sweep(tasks.double, {"a": [1]}, out=out)
        assert out.read_bytes() == before


def test_a_damaged_row_is_missing_and_computed_again(out):
    done = fps.sweep(tasks.draw, {"a": range(10)}, out=out)
    values, row = done.values(), done._reader.places().columns["results/value"]
    with open(out, "r+b") as file:
        file.seek(row.offset + 3 * row.size + 5)
        file.write(b"\x17")
    loaded = fps.load(out)
    assert (loaded.done, loaded.missing) == (9, 1) and np.isnan(loaded.values()[3]).all()
    with pytest.raises(ValueError, match="the unit at a=3 is missing; the same call computes it"):
        loaded.result(a=3)
    assert np.array_equal(fps.sweep(tasks.draw, {"a": range(10)}, out=out).values(), values)


def test_a_file_that_is_cut_short_or_scrambled_is_an_error_not_a_crash(out):
    fps.sweep(tasks.draw, {"a": range(10)}, out=out)
    whole = out.read_bytes()
    rng = random.Random(3)
    for _ in range(60):
        data = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randrange(20) if data else 0):
            data[rng.randrange(min(len(data), 6000))] = rng.randrange(256)
        out.write_bytes(data)
        with contextlib.suppress(ValueError):
            loaded = fps.load(out)
            if isinstance(loaded, fps.Sweep):
                assert loaded.done <= loaded.size


def test_links_and_strange_columns_are_refused(out, tmp_path):
    fps.sweep(tasks.draw, {"a": range(10)}, out=out)
    whole = out.read_bytes()

    def linked(file):
        with h5py.File(tmp_path / "other.h5", "w") as other:
            other["x"] = file["results/value"][()]
        del file["results/value"]
        file["results/value"] = h5py.ExternalLink("other.h5", "x")

    def packed(file):
        data = file["results/value"][()]
        del file["results/value"]
        file.create_dataset("results/value", data=data, compression="gzip")

    def large(file):
        text = json.loads(file["plan"][()])
        del file["plan"]
        file["plan"] = np.bytes_(json.dumps({**text, "replicates": 10**15}))

    def other(file):
        del file["units/status"]
        file["units/status"] = np.zeros((10, 1, 1), np.int64)

    cases = {
        linked: "links are refused",
        packed: "in one piece",
        large: "which is not that of the sweep",
        other: "is of int64, not",
    }
    for spoil, words in cases.items():
        out.write_bytes(whole)
        with h5py.File(out, "r+") as file:
            spoil(file)
        with pytest.raises(ValueError, match=words):
            fps.load(out)


# ---- disks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_in_mid_run(error, out, monkeypatch):
    write, count = os.pwrite, iter(range(10**9))

    def limited(handle, data, offset):
        if next(count) == 100:
            write(handle, bytes(data)[:3], offset)  # a part of it still fits
        if next(count) > 100:
            raise OSError(error, os.strerror(error))
        return write(handle, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", limited)
        with pytest.raises(
            OSError, match=r"cannot write to .*sweep.h5: .* of 50 units are stored; the same call goes on"
        ) as caught:
            fps.sweep(tasks.draw, {"a": range(50)}, out=out, executor="threads")
    assert caught.value.errno == error
    half = fps.load(out)
    assert 0 < half.done < 50
    before = half.values()[~np.isnan(half.values()).any(axis=1)]
    done = fps.sweep(tasks.draw, {"a": range(50)}, out=out)
    assert done.done == 50 and {v.tobytes() for v in before} <= {v.tobytes() for v in done.values()}


def test_a_sweep_that_cannot_fit_is_refused_before_work(out, monkeypatch):
    usage = type("usage", (), {"free": 10_000})
    monkeypatch.setattr(_sweep_file.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"the sweep needs .* GB in .* \(1000 units of 264 bytes\), but 1e-05 GB are free") as caught:
        fps.sweep(tasks.double, {"a": range(1000)}, out=out)
    assert caught.value.errno == errno.ENOSPC and not list(out.parent.iterdir())


def test_room_for_the_rest_is_asked_for_when_a_sweep_goes_on(out, monkeypatch):
    def large(a):
        return np.full(10_000, 1.0 / a)

    with pytest.warns(RuntimeWarning, match="1 of 50 units failed"):  # of 4 MB, the row of the unit that failed is zeros
        fps.sweep(large, {"a": range(50)}, out=out)
    offset, size = fps.load(out)._reader.places().columns["results/value"].offset, out.stat().st_size
    os.truncate(out, offset)  # as if the results had not been written yet
    os.truncate(out, size)
    monkeypatch.setattr(_sweep_file.shutil, "disk_usage", lambda path: type("usage", (), {"free": 1_000_000}))
    with pytest.raises(OSError, match=r"will need 0.00\d+ GB more, but 0.001 GB are free: make room, and repeat the call"):
        fps.sweep(large, {"a": range(50)}, out=out)


def test_a_limit_on_the_size_of_files(tmp_path):
    """The structure of the file does not fit: nothing is left behind."""
    code = (
        "import resource, sweep_tasks, fpsolve as fps, os\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: fps.sweep(sweep_tasks.double, {'a': range(1000)}, out='x.h5')\n"
        "except OSError as error: print(error, os.listdir())\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "cannot make" in done.stdout and "[]" in done.stdout, done.stdout + done.stderr


def test_a_file_that_cannot_be_written(out, monkeypatch):
    fps.sweep(tasks.double, {"a": [1, 2]}, out=out)
    opened = os.open

    def read_only(path, flags, *rest, **more):
        if flags & os.O_RDWR and str(path).endswith("sweep.h5"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match="cannot write to .*sweep.h5: Read-only file system"):
        fps.sweep(tasks.double, {"a": [1, 2]}, out=out)
    assert fps.load(out).values().tolist() == [2, 4]


# ---- two at a time --------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_readers_are_not(out):
    refused = []

    def meddle(a):
        if a == 2:
            with pytest.raises(
                ValueError, match=f"is being written by process {os.getpid()} on .*: wait until it has ended"
            ) as error:
                fps.sweep(tasks.double, {"a": [1]}, out=out)
            refused.append(str(error.value))
            assert fps.load(out).done == 2
            with h5py.File(out) as file:
                assert file["results/value"].shape == (4, 1, 1)
            assert any(line.startswith(f"writer    process {os.getpid()}") for line in describe_sweep(out))
        return float(a)

    assert fps.sweep(meddle, {"a": range(4)}, out=out).values().tolist() == [0, 1, 2, 3]
    assert len(refused) == 1 and "writer    none" in describe_sweep(out)
    assert [p.name for p in out.parent.iterdir()] == ["sweep.h5"]


def test_the_lock_of_another_process_and_of_a_dead_one(out):
    ready, stop = FORK.Event(), FORK.Event()

    def hold():
        with _lock.locked(out):
            ready.set()
            stop.wait(60)

    process = FORK.Process(target=hold)
    process.start()
    assert ready.wait(30)
    with pytest.raises(ValueError, match=f"is being written by process {process.pid} on"):
        fps.sweep(tasks.double, {"a": [1]}, out=out)
    process.kill()
    process.join()
    assert fps.sweep(tasks.double, {"a": [1]}, out=out).done == 1


# ---- interrupts ---------------------------------------------------------------------------------------------------------------


def interrupt_when(condition):
    def watch():
        while not condition():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.parametrize("executor", [None, "threads"])
def test_ctrl_c_keeps_what_is_done(executor, tmp_path, out):
    log = tmp_path / "log"
    interrupt_when(lambda: sum(runs(log).values()) >= 5)
    with pytest.raises(KeyboardInterrupt):
        run_logged(out, log, 200, 0.02, executor)
    done = fps.load(out).done
    assert 3 <= done < 100 and sum(runs(log).values()) - done <= 1


def test_a_run_that_ctrl_c_ended_early_is_not_taken_for_a_result(out, tmp_path):
    """The engines return what they have at Ctrl-C; a unit must not be stored with it."""
    started = tmp_path / "started"

    def swallow(a):
        if a == 1:
            started.touch()
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(30)
        return a

    interrupt_when(started.exists)
    with pytest.raises(KeyboardInterrupt):
        fps.sweep(swallow, {"a": [0, 1, 2]}, out=out)
    assert fps.load(out).values()[0] == 0 and fps.load(out).missing == 2


def test_ctrl_c_on_the_command_line(out, monkeypatch, capsys):
    monkeypatch.setattr("fpsolve._sweep.describe_sweep", lambda path: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert cli.main(["status", str(out)]) == 130


# ---- workers --------------------------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_costs_only_time_and_one_that_always_does_is_a_failure(tmp_path, out):
    """Unit 0 ends its process once, unit 3 whenever it is run; whoever runs beside them is not blamed."""
    axes = {"a": range(8), "folder": [str(tmp_path)]}
    with pytest.warns(
        RuntimeWarning, match=r"1 of 8 units failed; the first: a=3, .*the worker that ran the unit died \(attempts: 2\)"
    ):
        done = fps.sweep(tasks.deadly, axes, executor=2, out=out, retries=1)
    assert (tmp_path / "died").exists() and (done.done, done.failed) == (7, 1)
    (tmp_path / "allowed").touch()
    assert fps.sweep(tasks.deadly, axes, out=out).values()[:, 0].tolist() == list(range(8))
    with h5py.File(out) as file:
        assert file["units/attempts"][3].item() == 3 and file["units/attempts"][0].item() == 2


def test_a_broken_executor_of_the_caller_is_an_error_that_says_how_to_go_on(tmp_path, out):
    axes = {"a": [1, 2, 3, 4, 5], "folder": [str(tmp_path)]}
    (tmp_path / "died").touch()
    with ProcessPoolExecutor(1, mp_context=FORK) as pool:
        with pytest.raises(fps.FpsolveError, match=r"the executor is broken.*of 5 units are stored in .*: the same call goes on"):
            fps.sweep(tasks.deadly, axes, executor=pool, out=out)
    assert fps.load(out).done == 2


def test_several_kinds_of_machines_are_told(out, monkeypatch):
    kinds = itertools.cycle([{"processor": "fast", "numpy": "2.4"}, {"processor": "slow", "numpy": "2.4"}])
    monkeypatch.setattr("fpsolve._calls.machine", lambda: json.dumps(next(kinds)))
    with pytest.warns(
        RuntimeWarning, match=r"run by 2 kinds of machines \(processor: fast, slow\); equal bits are promised on one"
    ):
        done = fps.sweep(tasks.double, {"a": range(4)}, out=out)
    assert done.machines == [{"processor": "fast", "numpy": "2.4"}, {"processor": "slow", "numpy": "2.4"}]
    with h5py.File(out) as file:
        assert file["units/machine"][:, 0, 0].tolist() == [0, 1, 0, 1]
    assert any(line.startswith("warning   the units were run by 2 kinds") for line in describe_sweep(out))


# ---- size ---------------------------------------------------------------------------------------------------------------------


GROWTH = """
import resource, sys, time
import sweep_tasks, fpsolve as fps
fps.sweep(sweep_tasks.product, {"a": range(3), "b": range(3), "c": range(3)}, out="small.h5").done
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
n = int(sys.argv[1])
done = fps.sweep(sweep_tasks.product, {"a": range(n), "b": range(n), "c": range(10)}, out="large.h5")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start, done.done)
"""


@pytest.mark.parametrize("n", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_memory_and_time_of_many_units(n, tmp_path):
    """1e5 units in the long test: at most 20 MB more than 27 units take, and two milliseconds of processor time each."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", GROWTH, str(n)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    kilobytes, seconds, count = map(float, done.stdout.split())
    assert count == 10 * n**2 and kilobytes < 20_000 and seconds < 2e-3 * count
