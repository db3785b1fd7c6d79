"""Particle-steps per second of the paths engine, beside hand-written C, in alternating runs.

    python bench/speed_of_paths.py [ROUNDS] [--json FILE]

Every round runs every case once, in turn, so that what else the machine does hits all of them alike; the table has medians over
the rounds and their range. The C program (bench/reference/paths.c) is compiled with gcc or cc where there is one. Ratios are of
processor time, which counts less of what others do; two C processes at once tell what the machine itself gains from a second one.
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _rows import OURS, Row, arguments, save
from reference.paths import compiled

import fpsolve as fps
from fpsolve._jit import kernel_uncached
from fpsolve._kernels.rng import LANES, fill_normals, seeded_words
from fpsolve._threads import single_threaded_blas

N, STEPS = 10_240, 2_000
ONE, TWO, TWICE = "2-D, additive noise", "2-D, additive noise, 2 threads", "2-D, additive noise, C, 2 processes"
TENSOR, EXITS, BAOAB = "2-D, full B(x)", "1-D escape with bridge, useful steps", "2-D BAOAB"
ROOTS, WIDE = "2-D, full D(x), B by square roots", "d = 50, dense covariance"
FLOPS, PAIRS = "d = 50, its multiply-adds as products of large matrices", "a pair of normals per step"
#: The cases that are written in C too: arguments CASE N STEPS DT SEED.
IN_C = {
    ONE: ("additive", N, STEPS, 1e-3, 1),
    TENSOR: ("tensor", N, STEPS, 1e-3, 1),
    EXITS: ("escape", 10_000, 0, 0.01, 1),
    BAOAB: ("baoab", N, STEPS, 1e-2, 1),
}
#: Cases that are also run in single precision; the time includes the measurement of the rounding.
SINGLE = ", single precision"
C, GAIN = "C", "two threads / one"
IN = f", {C}"
#: Hessian and covariance per sample of the chain in 50 dimensions, its learning rate and batch.
HESSIAN, LR, BATCH = np.diag(np.linspace(0.1, 2.0, 50)), 0.05, 10


@kernel_uncached
def draw_pairs(w, times):
    """As many pairs as the steps of a block of paths need."""
    for _ in range(times):
        fill_normals(w, 4 * LANES, LANES)


def covariance() -> np.ndarray:
    R = np.random.default_rng(0).normal(size=(50, 50)) / np.sqrt(50)
    return np.asarray(R @ R.T + 0.1 * np.eye(50))


def models() -> dict[str, Any]:
    """Name of a case to the process."""
    well, valley = fps.potentials.double_well(), fps.potentials.double_well(2)
    flat = fps.Noise.isotropic(0.2)
    factor = fps.Noise.from_factor([["0.6 + 0.1*x**2", "0.08*x"], ["0.08*x", "0.4 + 0.1*y**2"]], variables="x y")
    tensor = fps.Noise.from_expression([["0.2*(1 + x**2/4)", "0.08*x"], ["0.08*x", "0.1 + 0.1*x**2"]], "x y")
    return {
        ONE: fps.Process(valley, flat),
        TENSOR: fps.Process(valley, factor),
        ROOTS: fps.Process(valley, tensor),
        EXITS: fps.Process(well, flat),
        BAOAB: fps.Underdamped(valley, flat, friction=1.0),
        WIDE: fps.SGDChain.gaussian(fps.potentials.quadratic(HESSIAN), fps.Noise.covariance(covariance(), LR, BATCH), LR),
    }


def cases() -> dict[str, Callable[[], float]]:
    """Name to a run that returns millions of particle-steps per second."""
    model, region = models(), fps.Region.halfspace([1.0], 1.0)

    def paths(process, start, dt, threads=1, n=N, steps=STEPS, **more):
        def run() -> float:
            begin = time.perf_counter()
            fps.simulate(process, start, t=steps * dt if dt else steps, dt=dt, n=n, seed=1, threads=threads, **more)
            return n * steps / (time.perf_counter() - begin) / 1e6

        return run

    def exits() -> float:
        begin = time.perf_counter()
        out = fps.escape_times(model[EXITS], [-1.0], region, n=10_000, dt=0.01, seed=1, threads=1)
        return float(out.times.sum()) / 0.01 / (time.perf_counter() - begin) / 1e6

    block = np.zeros(6 * LANES)
    block[: 4 * LANES] = np.array([seeded_words(1, i) for i in range(LANES)], np.uint64).T.ravel().view(np.float64)

    def pairs() -> float:
        begin = time.perf_counter()
        draw_pairs(block, N // LANES * STEPS)
        return N * STEPS / (time.perf_counter() - begin) / 1e6

    square = np.ones((1500, 1500))

    def products() -> float:
        """A step is one product with a 50 x 100 matrix: (1 - lr H | B)."""
        with single_threaded_blas():
            begin = time.perf_counter()
            square @ square
        return 1500**3 / (50 * 100) / (time.perf_counter() - begin) / 1e6

    return {
        ONE: paths(model[ONE], [-1.0, 0.0], 1e-3),
        TWO: paths(model[ONE], [-1.0, 0.0], 1e-3, threads=2, n=4 * N),
        ONE + SINGLE: paths(model[ONE], [-1.0, 0.0], 1e-3, precision="single"),
        TENSOR: paths(model[TENSOR], [-1.0, 0.0], 1e-3),
        TENSOR + SINGLE: paths(model[TENSOR], [-1.0, 0.0], 1e-3, precision="single"),
        ROOTS: paths(model[ROOTS], [-1.0, 0.0], 1e-3),
        EXITS: exits,
        BAOAB: paths(model[BAOAB], [-1.0, 0.0], 1e-2),
        BAOAB + SINGLE: paths(model[BAOAB], [-1.0, 0.0], 1e-2, precision="single"),
        WIDE: paths(model[WIDE], np.zeros(50), None, n=4096, steps=400),
        FLOPS: products,
        PAIRS: pairs,
    }


def in_c(program: Path, case: str, processes: int = 1) -> Callable[[], tuple[float, float]]:
    """A run of the C program that returns (millions of steps per second, seconds of the processor)."""
    command = [str(program), *map(str, IN_C[case])]  # prints a mean, the speed, the processor's seconds, a deviation

    def run() -> tuple[float, float]:
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        found = [process.communicate()[0].split() for process in started]
        return sum(float(words[1]) for words in found), sum(float(words[2]) for words in found)

    return run


def timed(run: Callable[[], float]) -> Callable[[], tuple[float, float]]:
    """The same with the processor's seconds of this process."""

    def both() -> tuple[float, float]:
        begin = time.process_time()
        return run(), time.process_time() - begin

    return both


def as_rows(found: dict[str, list[tuple[float, float]]]) -> list[Row]:
    """The rates of every case, those in C as another way of theirs; and what a second thread, or process in C, gains."""
    rows = []
    for name, values in found.items():
        case, way = (name.removesuffix(IN), C) if name.endswith(IN) else (name, OURS)
        if name == FLOPS:
            case, way = WIDE, "multiply-adds"
        rates, seconds = zip(*values, strict=True)
        rows.append(Row(case, way, "M/s", rates, seconds))

    def gain(two: str, one: str, way: str) -> Row:
        pairs = zip(found[two], found[one], strict=True)
        return Row(GAIN, way, "1", tuple(a[0] / b[0] for a, b in pairs))

    rows.append(gain(TWO, ONE, OURS))
    if TWICE in found:
        rows.append(gain(TWICE, ONE + IN, C))
    return rows


def main() -> None:
    options = arguments(__doc__, rounds=7).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program, runs = compiled(Path(folder)), {}
        for name, case in cases().items():
            runs[name] = timed(case)
            if program and name in IN_C:
                runs[name + IN] = in_c(program, name)
        if program:
            runs[TWICE] = in_c(program, ONE, 2)
        for run in runs.values():  # compilation and warm-up
            run()
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                found[name].append(run())
    save(options.json, as_rows(found))
    rates = {name: statistics.median(rate for rate, _ in values) for name, values in found.items()}
    rows = []
    for name, values in found.items():
        wall = [rate for rate, _ in values]
        rows.append((name, *(f"{v:.4g}" for v in (rates[name], min(wall), max(wall)))))
    notes = [f"two threads / one: {rates[TWO] / rates[ONE]:.2f}"]
    for name in found:
        for mark, words in ((SINGLE, "of double"), (IN, "")):
            if name.endswith(mark):
                base = name.removesuffix(mark)
                pairs = zip(found[base], found[name], strict=True)
                ratio = statistics.median(one[1] / other[1] for one, other in pairs)
                notes.append(f"{name}: {ratio:.2f} {words}" if words else f"{base}: {1 / ratio:.2f} of hand-written C")
    if program:
        notes.append(f"two C processes / one: {rates[TWICE] / rates[ONE + IN]:.2f}")
    notes.append("ratios to C and of precisions: medians over the rounds, in processor time")
    print(fps.Table("million particle-steps per second", ("case", "median", "least", "most"), rows, notes=tuple(notes)))


if __name__ == "__main__":
    main()
