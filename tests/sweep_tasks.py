"""Tasks of the sweeps under test, where worker processes can import them."""

import os
import signal
import time
from pathlib import Path

import numpy as np


def wave(a, k, seed):
    """An array, a number and a text."""
    return {"noise": np.random.default_rng(seed).normal(size=3), "product": a * k, "name": f"a = {a}"}


def double(a):
    return 2.0 * a


def product(a, b, c):
    return float(a * b * c)


def draw(a, seed):
    return np.random.default_rng(seed).normal(size=4)


def logged(a, log, pause, seed):
    """A line in the log for each time that it is run."""
    time.sleep(pause)
    with open(log, "ab") as file:
        file.write(b"%d\n" % a)
    return np.random.default_rng(seed).normal(size=4)


def picky(a, allowed):
    """Fails where a > 2, unless a file is there."""
    if a > 2 and not Path(allowed).exists():
        raise RuntimeError(f"{a} is too much")
    return a


def deadly(a, folder):
    """Ends its process at a = 0 once, and from then on at a = 3, unless a file is there."""
    died = Path(folder, "died")
    if a == 0 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if a == 3 and not Path(folder, "allowed").exists():
        while not died.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return a


def escape_paths(D, seed, first, n):
    import fpsolve as fps

    well = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(D))
    return fps.escape_times(well, [-1.0], fps.Region.halfspace([1.0], 0.0), first=first, n=n, dt=0.02, seed=seed)


def escape(D, seed):
    return escape_paths(D, seed, 0, 64).mean()


def escapes(D, seed, first, n):
    return escape_paths(D, seed, first, n).statistics()
