"""Particle-steps per second of the paths engine, beside hand-written C, in alternating runs.

    python bench/speed_of_paths.py [ROUNDS]

Every round runs every case once, in turn, so that what else the machine does hits all of them alike; the table has medians over
the rounds and their range. The C program (bench/reference/double_well.c) is compiled with gcc or cc where there is one.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fpsolve as fps

N, STEPS = 10_240, 2_000
ONE, TWO, IN_C = "2-D, additive noise", "2-D, additive noise, 2 threads", "2-D, additive noise, C"
#: Cases that are also run in single precision; the time includes the measurement of the rounding.
SINGLE = ", single precision"
FLAGS = ["-O3", "-march=native", "-ffast-math", "-fopenmp-simd"]


def compiled(folder: Path) -> Path | None:
    """The C reference, or None without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    program = folder / "double_well"
    source = Path(__file__).parent / "reference" / "double_well.c"
    subprocess.run([compiler, *FLAGS, str(source), "-o", str(program), "-lm"], check=True)
    return program


def cases() -> dict[str, Callable[[], float]]:
    """Name to a run that returns millions of particle-steps per second."""
    well, valley = fps.potentials.double_well(), fps.potentials.double_well(2)
    flat = fps.Noise.isotropic(0.2)
    tensor = fps.Noise.from_expression([["0.2*(1 + x**2/4)", "0.08*x"], ["0.08*x", "0.1 + 0.1*x**2"]], "x y")
    factor = fps.Noise.from_factor([["0.6 + 0.1*x**2", "0.08*x"], ["0.08*x", "0.4 + 0.1*y**2"]], variables="x y")
    rng = np.random.default_rng(0)
    R = rng.normal(size=(50, 50)) / np.sqrt(50)
    noise = fps.Noise.covariance(R @ R.T + 0.1 * np.eye(50), 0.05, 10)
    chain = fps.SGDChain.gaussian(fps.potentials.quadratic(np.diag(np.linspace(0.1, 2.0, 50))), noise, 0.05)
    escaping, region = fps.Process(well, flat), fps.Region.halfspace([1.0], 1.0)

    def paths(process, start, dt, threads=1, n=N, steps=STEPS, **more):
        def run() -> float:
            begin = time.perf_counter()
            fps.simulate(process, start, t=steps * dt if dt else steps, dt=dt, n=n, seed=1, threads=threads, **more)
            return n * steps / (time.perf_counter() - begin) / 1e6

        return run

    def exits() -> float:
        begin = time.perf_counter()
        out = fps.escape_times(escaping, [-1.0], region, n=10_000, dt=0.01, seed=1, threads=1)
        return float(out.times.sum()) / 0.01 / (time.perf_counter() - begin) / 1e6

    return {
        ONE: paths(fps.Process(valley, flat), [-1.0, 0.0], 1e-3),
        TWO: paths(fps.Process(valley, flat), [-1.0, 0.0], 1e-3, threads=2, n=4 * N),
        ONE + SINGLE: paths(fps.Process(valley, flat), [-1.0, 0.0], 1e-3, precision="single"),
        "2-D, full B(x)": paths(fps.Process(valley, factor), [-1.0, 0.0], 1e-3),
        "2-D, full B(x)" + SINGLE: paths(fps.Process(valley, factor), [-1.0, 0.0], 1e-3, precision="single"),
        "2-D, full D(x), B by square roots": paths(fps.Process(valley, tensor), [-1.0, 0.0], 1e-3),
        "1-D escape with bridge, useful steps": exits,
        "2-D BAOAB": paths(fps.Underdamped(valley, flat, friction=1.0), [-1.0, 0.0], 1e-2),
        "2-D BAOAB" + SINGLE: paths(fps.Underdamped(valley, flat, friction=1.0), [-1.0, 0.0], 1e-2, precision="single"),
        "d = 50, dense covariance": paths(chain, np.zeros(50), None, n=4096, steps=400),
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    runs = cases()
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(Path(folder))
        if program:
            command = [str(program), str(N), str(STEPS), "0.001", "1"]  # prints the mean of x, then its speed
            runs[IN_C] = lambda: float(subprocess.run(command, capture_output=True, check=True).stdout.split()[1])
        for run in runs.values():  # compilation and warm-up
            run()
        rates: dict[str, list[float]] = {name: [] for name in runs}
        seconds: dict[str, list[float]] = {name: [] for name in runs}  # of the processor: what others do counts less
        for _ in range(rounds):
            for name, run in runs.items():
                begin = time.process_time()
                rates[name].append(run())
                seconds[name].append(time.process_time() - begin)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    rows = [(name, *(f"{v:.4g}" for v in (medians[name], min(values), max(values)))) for name, values in rates.items()]
    notes = [f"two threads / one: {medians[TWO] / medians[ONE]:.2f}"]
    for name in (name for name in medians if SINGLE in name):
        pair = [statistics.median(seconds[case]) for case in (name.removesuffix(SINGLE), name)]
        notes.append(
            f"{name}: {medians[name] / medians[name.removesuffix(SINGLE)]:.2f} of double, {pair[0] / pair[1]:.2f} in CPU time"
        )
    if IN_C in medians:
        notes.append(f"one thread / hand-written C: {medians[ONE] / medians[IN_C]:.2f}")
    print(fps.Table("million particle-steps per second", ("case", "median", "least", "most"), rows, notes=tuple(notes)))


if __name__ == "__main__":
    main()
