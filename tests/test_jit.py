"""Compiled kernels on disk: several processes may fill one cache."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

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


def test_ctrl_c_while_code_is_handed_over_is_not_lost(monkeypatch):
    """Raised inside of LLVM's call back it would be printed and forgotten, and Numba would miss the code."""

    def handed_over(library, yes):
        library.__dict__["_compiled"] = yes
        if yes:
            signal.raise_signal(signal.SIGINT)

    compiled = property(lambda library: library.__dict__["_compiled"], handed_over)
    monkeypatch.setattr(_jit._SelfContained, "_compiled", compiled, raising=False)
    before = signal.getsignal(signal.SIGINT)

    @_jit.kernel_uncached
    def thrice(x):
        return 3.0 * x

    with pytest.raises(KeyboardInterrupt):
        thrice(1.5)
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    assert thrice(1.5) == 4.5
