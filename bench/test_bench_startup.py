"""Start-up in a fresh process: `import fpsolve` and `fpsolve --help`, which load no dependency, beside the interpreter alone, and a
first density with empty and with filled caches beside the imports that it needs (`first_call.py` has the paths, too)."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from first_call import CASES as CALLS
from first_call import seconds

ROOT = Path(__file__).parent.parent
CASES = {"python alone": ["-c", ""], "import fpsolve": ["-c", "import fpsolve"], "fpsolve --help": ["-m", "fpsolve", "--help"]}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.benchmark(group="start-up")
def test_start_up(benchmark, case: str) -> None:
    command = [sys.executable, *CASES[case]]
    done = benchmark.pedantic(
        subprocess.run, (command,), {"cwd": ROOT, "capture_output": True, "check": True}, rounds=10, warmup_rounds=2
    )
    assert done.stderr == b""


@pytest.mark.parametrize("caches", ["empty", "filled"])
@pytest.mark.parametrize("case", ["python, NumPy, Numba", "stationary density, expression"])
def test_first_density(benchmark, case: str, caches: str, tmp_path: Path) -> None:
    """The expression is read, differentiated, compiled or loaded, and solved on 400 cells, all in the time."""
    benchmark.group = "first stationary density of an expression"
    folders = (tmp_path / str(i) for i in range(100)) if caches == "empty" else itertools.repeat(tmp_path)
    rounds, warmup = (2, 0) if caches == "empty" else (5, 1)
    benchmark.pedantic(lambda: seconds(CALLS[case], str(next(folders))), rounds=rounds, warmup_rounds=warmup)
