"""Settings that must stand before Numba is imported; for the tests, the docstring examples and the benchmarks alike.

Numba's disk cache does not notice an edit in a file that a kernel calls into, so the caches lie in a folder whose name is a hash of
everything that takes part in compiled code.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parent


def _key() -> str:
    sources = [*ROOT.glob("fpsolve/**/*.py"), *ROOT.glob("nets/_kernels*.py")]
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(sources):
        if "_kernels" in path.parts or path.stem in {"_jit", "_code", "_codegen", "_kernels", "expressions"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


_CACHE = ROOT / "build" / "test-cache" / _key()
os.environ["NUMBA_CACHE_DIR"] = str(_CACHE / "numba")
os.environ["FPSOLVE_CACHE_DIR"] = str(_CACHE / "fpsolve")
os.environ["MPLBACKEND"] = "Agg"

# A shell starts its background jobs with Ctrl-C ignored, and so would be every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
