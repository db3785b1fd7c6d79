"""Settings that must stand before Numba is imported; for the tests, the docstring examples and the benchmarks alike.

Numba's disk cache does not notice an edit in a file that a kernel calls into, so the caches lie in a folder whose name is a hash of
everything that takes part in compiled code.
"""

import collections
import gc
import hashlib
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent


def _key() -> str:
    # Of the packages that will be imported, which an installed wheel has elsewhere than here.
    fpsolve, nets = (Path(importlib.util.find_spec(name).origin).parent for name in ("fpsolve", "nets"))
    sources = [*fpsolve.glob("**/*.py"), *nets.glob("_kernels*.py")]
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(sources):
        if "_kernels" in path.parts or path.stem in {"_jit", "_code", "_codegen", "_kernels", "expressions"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


_CACHE = ROOT / "build" / "test-cache" / _key()
os.environ["NUMBA_CACHE_DIR"] = str(_CACHE / "numba")
os.environ["FPSOLVE_CACHE_DIR"] = str(_CACHE / "fpsolve")
os.environ["MPLBACKEND"] = "Agg"

# Workers side by side share the cores. With a BLAS thread on every core in each of them they wait for each other: the spectrum of
# 128 x 128 cells takes more than twice the processor time.
if _WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _WORKERS)))

# A compilation makes so many lasting objects that Python's default, to look for garbage after every 700 more, takes a tenth of it.
gc.set_threshold(100_000)

# A shell starts its background jobs with Ctrl-C ignored, and so would be every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Files that begin a parallel run: they compile the most, and nothing in common, so that no kernel is compiled by two processes.
FIRST = ("test_questions.py", "test_wide.py")


#: Modules whose examples need a package that no test does without saying so.
NEED_TORCH = ("torch_model.py", "torch_recorder.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Then the files with the most tests come first, so that none that takes long is left for the end."""
    if importlib.util.find_spec("torch") is None:
        items[:] = [item for item in items if item.path.name not in NEED_TORCH]
    sizes = collections.Counter(item.path for item in items)
    items.sort(key=lambda item: (FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST), -sizes[item.path]))
