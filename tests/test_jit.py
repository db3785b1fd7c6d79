"""Compiled kernels on disk: several processes may fill one cache."""

from __future__ import annotations

import subprocess
import sys

from fpsolve import _jit

SAVES = """
import sys
from fpsolve._jit import _SavedInTurn

folder, me = sys.argv[1:]
for i in range(100):
    _SavedInTurn(folder, "kernel", "stamp").save((me, i), f"code of {me} for {i}")
"""


def test_kernels_saved_by_several_processes_keep_their_types(tmp_path):
    """With Numba's own class nearly every entry is lost or stands for the code of another process."""
    saving = [subprocess.Popen([sys.executable, "-c", SAVES, str(tmp_path), me]) for me in "ab"]
    assert [process.wait(120) for process in saving] == [0, 0]
    index = _jit._SavedInTurn(str(tmp_path), "kernel", "stamp")
    assert all(index.load((me, i)) == f"code of {me} for {i}" for me in "ab" for i in range(100))


def test_every_cached_kernel_is_saved_in_turn():
    def twice(x):
        return 2.0 * x

    assert _jit.kernel(twice)._cache._cache_file.__class__ is _jit._SavedInTurn
    assert _jit.part(boundscheck=True)(twice)._cache._cache_file.__class__ is _jit._SavedInTurn
    assert not hasattr(_jit.kernel_uncached(twice)._cache, "_cache_file")
    assert _jit.kernel(twice)(1.5) == 3.0
