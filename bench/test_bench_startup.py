"""Start-up in a fresh process, beside the interpreter alone: `import fpsolve` and `fpsolve --help` load no dependency."""

import subprocess
import sys
from pathlib import Path

import pytest

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
