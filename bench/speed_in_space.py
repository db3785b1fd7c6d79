"""Processor seconds and memory of the Fokker-Planck engine in three dimensions, one fresh process per number of cells.

    python bench/speed_in_space.py [CELLS PER AXIS ...]

The linear process of `speed_of_fokker_planck.py`, full tensor of condition 4. Every question is asked once, after the same one
on 12^3 and, where the solver is another one, 42^3 cells, which compiles it; an assembly and an evolution are the median of three.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import speed_of_fokker_planck as plane

import fpsolve as fps


def seconds(question: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        question()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def questions(n: int) -> dict[str, tuple[Callable[[], object], int]]:
    fp, start = plane.cube(n, "full"), ("gaussian", plane.SPACE_START, plane.SPACE_SPREAD * np.eye(3))
    ball = fps.Region.ball([0.0, 0.0, 0.0], 2.0)
    return {
        "assembly": (lambda: plane.cube(n, "full"), 3),
        "evolve to t = 1": (lambda: fp.evolve(start, 1.0, rtol=1e-3), 3),
        "stationary": (fp.stationary, 1),
        "exit from a ball": (lambda: fp.mean_exit_time(ball), 1),
        "spectrum of three modes": (lambda: fp.spectrum(3), 1),
    }


def row(n: int) -> None:
    for small in (12,) if n <= 40 else (12, 42):
        for question, _ in questions(small).values():
            question()
    found = [f"{name} {seconds(*how):.2f} s" for name, how in questions(n).items()]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{n}^3: {', '.join(found)}, memory {memory:.2f} GB", flush=True)


def main() -> None:
    if "--here" in sys.argv:
        row(int(sys.argv[-1]))
        return
    for n in sys.argv[1:] or ("32", "64"):
        subprocess.run([sys.executable, __file__, "--here", n], check=True)


if __name__ == "__main__":
    main()
