"""Generated modules: written atomically, cached across processes, replaced when tampered with, in memory where they must be."""

import logging
import os
import sys

import numpy as np
import pytest
from numba import types

import fpsolve as fps
from fpsolve import _code, _codegen, _wide
from fpsolve._kernels import rng

SCRIPT = """
import json, sys, time
import fpsolve as fps
from fpsolve import _codegen
U = fps.Potential.from_expression("(x**2-1)**2 + {tag}*x", variables="x")
start = time.perf_counter()
got = fps.simulate(fps.Process(U, fps.Noise.isotropic(0.1)), [0.1], t=0.1, dt=0.01, n=3, seed=1, threads=1)
seconds = time.perf_counter() - start
module, = _codegen.loaded_modules()
stats = module.advance.stats
print(json.dumps(dict(final=got.final.ravel().tolist(), hits=sum(stats.cache_hits.values()),
                      misses=sum(stats.cache_misses.values()),
                      file=getattr(module, "__file__", None), seconds=seconds)))
"""


@pytest.fixture
def run(run_python, tmp_path):
    import json

    def go(folder=tmp_path / "cache", tag=0.25, **environment):
        environment |= {"FPSOLVE_CACHE_DIR": str(folder), "NUMBA_CACHE_DIR": ""}
        process = run_python("-c", SCRIPT.replace("{tag}", str(tag)), **environment)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1]), process.stderr

    return go


def body(tag):
    return f"@inline\ndef double(x):\n    return 2.0*x + {tag}\n\n@kernel\ndef apply(x):\n    return double(x)\n"


def test_second_process_compiles_nothing(run, tmp_path):
    first, _ = run()
    second, _ = run()
    assert (first["hits"], first["misses"]) == (0, 1)
    assert (second["hits"], second["misses"]) == (1, 0)
    assert second["final"] == first["final"]
    assert second["file"] == first["file"] and second["file"].startswith(str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob(".*.tmp"))
    other, _ = run(tag=0.5)
    assert other["file"] != first["file"]


def test_a_tampered_file_is_replaced(run, tmp_path):
    from pathlib import Path

    first, _ = run()
    path = Path(first["file"])
    text = path.read_text()
    path.write_text("raise SystemExit('not ours')\n")
    again, _ = run()
    assert again["final"] == first["final"] and path.read_text() == text


def test_an_unusable_folder_means_compiling_in_memory(monkeypatch, tmp_path, caplog):
    """A file stands where the folder should be: one warning, right results."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(blocked / "cache"))
    with caplog.at_level(logging.WARNING, logger="fpsolve._codegen"):
        modules = [_codegen.load_module(body(tag), {}, cacheable=True, label="test") for tag in (1.5, 2.5)]
    assert [m.apply(1.0) for m in modules] == [3.5, 4.5]
    assert sum("FPSOLVE_CACHE_DIR" in record.getMessage() for record in caplog.records) == 1


def test_long_compilations_and_derivatives_are_announced_once(monkeypatch, tmp_path, caplog):
    """Before they begin, and not where the folder holds the module already; short ones are not worth a word."""
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_codegen, "_modules", {})
    long = body(3.5) + "#" * _codegen.LONG
    with caplog.at_level(logging.WARNING, logger="fpsolve"):
        for text in (body(4.5), long, long):
            _codegen.load_module(text, {}, cacheable=True, label="test")
            _codegen._modules.clear()
        assert [r.getMessage().split(" takes")[0] for r in caplog.records] == ["compiling 35 kB of kernels for this model"]
        _codegen.load_module(long, {"unused": 1}, cacheable=True, label="test")
        assert caplog.records[-1].getMessage().endswith("once per process")
        caplog.clear()
        names = [f"q{i}" for i in range(20)]
        for text in ("+".join(f"{q}**4" for q in names), f"tanh({'+'.join(names)})"):
            monkeypatch.setattr(_code, "MANY_PAIRS", 100)
            fps.Potential.from_expression(text, variables=names).grad([0.1] * 20)
        assert [r.getMessage().split(" take")[0] for r in caplog.records] == ["symbolic derivatives by 20 coupled variables"]


def test_modules_are_made_once_and_named_by_their_text(monkeypatch, tmp_path):
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(tmp_path))
    one = _codegen.load_module(body(10.5), {}, cacheable=True, label="test")
    assert _codegen.load_module(body(10.5), {}, cacheable=True, label="test") is one
    other = _codegen.load_module(body(11.5), {}, cacheable=True, label="test")
    assert other is not one and (one.apply(1.0), other.apply(1.0)) == (12.5, 13.5)
    assert len(list(tmp_path.glob("fpsolve_test_*.py"))) == 2


def test_the_name_depends_on_kernel_files_and_processor(monkeypatch):
    import llvmlite.binding as llvm

    before = _codegen._environment_digest.__wrapped__()
    assert before == _codegen._environment_digest.__wrapped__()
    with monkeypatch.context() as patch:
        patch.setattr(llvm, "get_host_cpu_name", lambda: "another")
        assert _codegen._environment_digest.__wrapped__() != before
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version", "3.99")
        assert _codegen._environment_digest.__wrapped__() != before
    from pathlib import Path

    original = Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda self: original(self) + (b"#" if self.name == "rng.py" else b""))
        assert _codegen._environment_digest.__wrapped__() != before


def test_failed_write_leaves_nothing(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        _codegen.write_atomically(tmp_path / "a.py", "x = 1\n")
    assert list(tmp_path.iterdir()) == []


def test_python_callables_compile_once_per_process():
    def drift(x, p):
        return -p[0] * x[0] * x[0] * x[0]

    def simulate(k):
        process = fps.Process.from_drift(drift, fps.Noise.isotropic(0.1), dim=1, params={"k": k})
        return fps.simulate(process, [0.3], t=0.1, dt=0.01, n=5, seed=1).final

    first = simulate(1.0)
    count = len(_codegen.loaded_modules())
    other = simulate(2.0)
    assert len(_codegen.loaded_modules()) == count and not np.array_equal(first, other)
    assert not hasattr(_codegen.loaded_modules()[-1], "__file__")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(tmp_path))
    assert _codegen.cache_folder() == tmp_path
    monkeypatch.delenv("FPSOLVE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert _codegen.cache_folder() == tmp_path / "fpsolve"


def machine_code(text, name, *arguments):
    """Lines of assembly of a function of a generated text, and the function."""
    module = _codegen._in_memory(f"{_codegen.IMPORTS}{text}", {})
    function = getattr(module, name)
    function(*arguments)
    return next(iter(function.inspect_asm().values())).count("\n"), function


def test_loops_over_coordinates_stay_loops_in_machine_code():
    """The code does not grow with the dimension, nor the time to compile it; written out it is seven times as long at d = 20."""
    text = (
        "@kernel\ndef scaled(x, p, out):\n    for k in range({d}):\n        a, c = p[k], p[{d} + k]\n"
        "        for i in range(64):\n            out[k*64 + i] = a*(x[k*64 + i] - c)\n"
    )
    x, p = np.random.default_rng(1).normal(size=(2, 64 * 200))
    sizes = {}
    for d in (20, 200):
        out = np.zeros(64 * d)
        sizes[d], _ = machine_code(_wide._looped(text.format(d=d)), "scaled", x, p, out)
        y = x[: 64 * d].reshape(d, 64)
        np.testing.assert_allclose(out.reshape(d, 64), p[:d, None] * (y - p[d : 2 * d, None]), rtol=1e-14)
    assert 0.9 < sizes[20] / sizes[200] < 1.1
    assert "range(opaque(20))" in _wide._looped(text.format(d=20))


def test_draws_are_compiled_once_for_all_models():
    """Not once for each place in the buffer where a model keeps its normals."""
    for d in (1, 2):
        names = [f"x{i}" for i in range(d)]
        process = fps.Process(
            fps.Potential.from_expression(" + ".join(f"{x}**2/2" for x in names), names), fps.Noise.isotropic(0.1)
        )
        fps.simulate(process, np.zeros(d), t=0.02, dt=0.01, n=3, seed=1)
    assert all(offset == types.int64 for _, offset, _ in rng.fill_normals.signatures)
