"""The same bits from kernels that were compiled in this process, loaded from disk, or compiled in another order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cache_cases
import llvmlite.binding as llvm
import pytest
from numba import float64
from numba.core.dispatcher import Dispatcher

import fpsolve as fps
from fpsolve import _jit
from fpsolve._codegen import loaded_modules

ROOT = Path(__file__).parent.parent


def test_a_kernel_runs_its_own_copy_of_a_part():
    """The copy that a kernel takes of a part is changed on the way: the kernel must run that one, whatever is compiled besides.

    With Numba's own libraries it would run the unchanged part here, and its copy in a process that loads it from disk.
    """

    @_jit.part_uncached
    def less(x):
        return x - 1.0

    @_jit.kernel_uncached
    def twice(x):
        return 2.0 * less(x)

    less.compile((float64,))
    library = less.overloads[(float64,)].library
    text = str(library._get_module_for_linking())
    assert text.count("-1.000000e+00") == 1  # LLVM adds what is subtracted
    changed = text.replace("-1.000000e+00", "-3.000000e+00")
    lines = [line.replace(" #", " noinline #", 1) if line.startswith("define") else line for line in changed.splitlines()]
    changed = "\n".join(lines)
    library._shared_module = llvm.parse_assembly(changed)
    assert "noinline" in changed
    assert twice(10.0) == 14.0


def test_no_function_of_a_kernel_can_be_replaced():
    """In all kernels that are in use here, compiled or loaded, what Numba made is internal or the entry itself."""
    process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.4))
    fps.escape_times(process, [0.0], fps.Region.box([-0.9], [0.8]), n=10, dt=0.01, seed=1)
    seen = 0
    for module in loaded_modules():
        for value in vars(module).values():
            if not isinstance(value, Dispatcher):
                continue
            for compiled in value.overloads.values():
                shared = compiled.library._get_module_for_linking()
                own = {f.name for f in shared.functions if not f.is_declaration and f.linkage.name != "internal"}
                others = {name for name in own if name.startswith("_ZN") and value.py_func.__name__.strip("<>") not in name}
                assert not others, value
                seen += 1
    assert seen > 0


# ---- the whole matrix -----------------------------------------------------------------------------------------------


def hashes(folder, names, threads=1, **environment):
    env = {**os.environ, "NUMBA_CACHE_DIR": f"{folder}/numba", "FPSOLVE_CACHE_DIR": f"{folder}/fpsolve", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(cache_cases.__file__)), str(threads), *names]
    done = subprocess.run(command, cwd=ROOT, env=env | environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_elimination_in_a_process_that_compiles_and_in_one_that_loads(tmp_path):
    """The case in which they differed by 1e-14, before kernels ran their own copies."""
    compiled = hashes(tmp_path, ["elimination"])
    assert len(compiled["elimination"]) == 1
    assert hashes(tmp_path, ["elimination"]) == compiled


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Hashes of all cases, each from a process of its own with an empty cache; and that cache."""
    folder = tmp_path_factory.mktemp("caches")
    return folder, {name: hashes(folder / name, [name])[name] for name in cache_cases.CASES}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_loaded_kernels_give_the_bits_of_compiled_ones(compiled, threads):
    folder, expected = compiled
    assert {name: hashes(folder / name, [name], threads)[name] for name in cache_cases.CASES} == expected


@pytest.mark.slow
@pytest.mark.parametrize("backwards", [False, True])
def test_the_order_of_compilation_changes_no_bit(compiled, tmp_path, backwards):
    """All cases in one process with an empty cache, which then holds kernels for many models and types; and loaded from that."""
    names = list(cache_cases.CASES)[:: -1 if backwards else 1]
    assert hashes(tmp_path, names) == compiled[1]
    assert hashes(tmp_path, names[::-1], threads=2) == compiled[1]


@pytest.mark.slow
def test_no_cache_changes_no_bit(compiled, tmp_path):
    assert hashes(tmp_path, list(cache_cases.CASES), FPSOLVE_NUMBA_CACHE="0") == compiled[1]
