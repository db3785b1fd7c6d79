"""Sweeps on a Dask cluster of two worker processes: the bits of a serial run, whatever happens to the workers."""

import logging
import os
import signal
import threading
import time

import dask
import distributed
import h5py
import numpy as np
import pytest
import sweep_tasks as tasks

import fpsolve as fps


def two_workers():
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
    )  # a port that is free: another cluster may be running


@pytest.fixture(scope="module")
def cluster():
    with two_workers() as cluster:
        yield cluster


def test_same_bits_as_a_serial_run(cluster, tmp_path):
    axes = {"a": [1, 2.5, 4], "k": [10.0, 20.0]}
    alone = fps.sweep(tasks.wave, axes, replicates=4, out=tmp_path / "alone.h5")
    other = fps.sweep(tasks.wave, axes, replicates=4, out=tmp_path / "dask.h5", executor=cluster.scheduler_address)
    for name in alone.names:
        assert alone.values(name).tobytes() == other.values(name).tobytes()
    assert other.machines == alone.machines

    one = fps.sweep(tasks.escape, {"D": [0.3, 0.5]}, out=tmp_path / "escape.h5", executor=cluster)
    assert one.result(D=0.5) == fps.sweep(tasks.escape, {"D": [0.5]}, out=tmp_path / "escape-alone.h5").result()


def when_ten_are_done(out, act):
    def watch():
        while not out.exists() or fps.load(out).done < 10:
            time.sleep(0.02)
        act()

    return threading.Thread(target=watch)


def test_a_worker_that_is_killed_costs_nothing_but_time(cluster, tmp_path):
    """And a function of the notebook, which cannot be imported, is sent along."""

    def slow(a, seed):
        time.sleep(0.02)
        return np.random.default_rng(seed).normal(size=4)

    out = tmp_path / "sweep.h5"

    with distributed.Client(cluster, set_as_default=False) as client:
        killed = next(iter(client.run(os.getpid).values()))
        thread = when_ten_are_done(out, lambda: os.kill(killed, signal.SIGKILL))
        thread.start()
        done = fps.sweep(slow, {"a": range(100)}, out=out, executor=client)
        thread.join()
        assert killed not in client.run(os.getpid).values()
    assert done.done == 100
    assert np.array_equal(done.values(), fps.sweep(tasks.draw, {"a": range(100)}, out=tmp_path / "alone.h5").values())


@pytest.mark.slow
def test_a_scheduler_that_is_lost_and_started_again(tmp_path):
    def slow(a):
        time.sleep(0.05)
        return float(a)

    out, words = (
        tmp_path / "sweep.h5",
        r"the connection to the Dask scheduler is lost .*; \d+ of 200 units are stored in .*: the same",
    )
    with two_workers() as one:
        when_ten_are_done(out, lambda: one.loop.add_callback(one.scheduler.close)).start()
        with pytest.raises(fps.FpsolveError, match=words):
            fps.sweep(slow, {"a": range(200)}, out=out, executor=one.scheduler_address)
    with h5py.File(out) as file:
        before = file["units/finished"][()].ravel()
    assert 0 < np.count_nonzero(before) < 200
    with two_workers() as two:
        done = fps.sweep(slow, {"a": range(200)}, out=out, executor=two)
    assert done.values().tolist() == list(range(200))
    with h5py.File(out) as file:
        after = file["units/finished"][()].ravel()
    assert np.array_equal(after[before > 0], before[before > 0])


def test_an_address_where_nobody_listens(tmp_path):
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        with pytest.raises(OSError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
            fps.sweep(tasks.double, {"a": [1]}, out=tmp_path / "sweep.h5", executor="tcp://127.0.0.1:9")
    with pytest.raises(TypeError, match="executor must be"):
        fps.sweep(tasks.double, {"a": [1]}, out=tmp_path / "other.h5", executor=object())
