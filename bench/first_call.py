"""Seconds of the first call in a fresh process, with empty and with filled caches: imports, `--help`, paths, a density.

    python bench/first_call.py [ROUNDS] [--json FILE]

Each time is of a whole process: the interpreter, the imports, the model, the kernels, ten short paths or one density on 400 cells.
Medians over the rounds with their range; beside them the processor time of the process, which says more where others use the
machine too, and what the interpreter, NumPy and Numba take alone, and Numba with one function from its cache.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _rows import OURS, Row, arguments, save

import fpsolve as fps

MODEL = "U, D = fps.potentials.double_well(2), fps.Noise.isotropic(0.2)"
TEXT = (
    "U = fps.Potential.from_expression('(x**2 - 1)**2 + y**2/2 + k*x*y', 'x y', {'k': 0.1}); "
    "D = fps.Noise.from_expression([['0.2*(1 + x**2/4)', '0.08*x'], ['0.08*x', '0.1 + 0.1*x**2']], 'x y')"
)
PATHS = "fps.simulate(fps.Process(U, D), [-1.0, 0.0], t=1.0, dt=0.01, n=10, seed=1)"
EXITS = "fps.escape_times(fps.Process(U, D), [-1.0, 0.0], fps.Region.halfspace([1.0, 0.0], 0.0), n=10, dt=0.01, seed=1)"
DENSITY = (
    "p = fps.Process(fps.Potential.from_expression('x**4/4 - x**2/2 + 0.1*x'), fps.Noise.isotropic(0.1)); "
    "fps.FokkerPlanck(p, fps.Grid((-3, 3, 400))).stationary()"
)
HELP = "import runpy, sys; sys.argv = ['fpsolve', '--help']; runpy.run_module('fpsolve', run_name='__main__')"
NUMBA = str(Path(__file__).parent / "reference" / "numba_alone.py")
CASES = {
    "python": "",
    "python, NumPy, Numba": "import numpy, numba",
    "one cached function of Numba": f"import runpy; runpy.run_path({NUMBA!r})",
    "import fpsolve": "import fpsolve",
    "fpsolve --help": HELP,
    "simulate, built-in": f"import fpsolve as fps; {MODEL}; {PATHS}",
    "escape_times, built-in": f"import fpsolve as fps; {MODEL}; {EXITS}",
    "simulate, expression": f"import fpsolve as fps; {TEXT}; {PATHS}",
    "escape_times, expression": f"import fpsolve as fps; {TEXT}; {EXITS}",
    "stationary density, expression": f"import fpsolve as fps; {DENSITY}",
}


def seconds(code: str, folder: str) -> tuple[float, float]:
    """(wall, processor) seconds of a process that runs `code` with its caches in `folder`."""
    env = {**os.environ, "FPSOLVE_CACHE_DIR": f"{folder}/fpsolve", "NUMBA_CACHE_DIR": f"{folder}/numba"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # users have the bytecode of modules; without, every process compiles them again
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    options = arguments(__doc__, rounds=3).parse_args()
    cold: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    warm: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(options.rounds):
        for name, code in CASES.items():
            with tempfile.TemporaryDirectory() as folder:
                cold[name].append(seconds(code, folder))
                warm[name] += [seconds(code, folder) for _ in range(2)]
    rows, found = [], []
    for name in CASES:
        for kind, times in (("empty", cold[name]), ("filled", warm[name])):
            wall, cpu = zip(*times, strict=True)
            found.append(Row(f"{name}, {kind} caches", OURS, "s", wall, cpu))
            cells = [f"{v:.2f}" for v in (statistics.median(wall), min(wall), max(wall), statistics.median(cpu))]
            rows.append((name, kind, *cells))
    save(options.json, found)
    print(fps.Table("first call in a fresh process, s", ("case", "caches", "median", "least", "most", "processor"), tuple(rows)))


if __name__ == "__main__":
    main()
