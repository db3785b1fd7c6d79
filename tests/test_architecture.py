"""Who may import whom, where Numba's flags and generated code may live: read from the source with `ast`."""

import ast
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import ROOT, folder, relative

#: A module may import from the layers before its own, at module level. A new module needs a place here.
# fmt: off
LAYERS: list[set[str]] = [
    {"_checks", "_shown"},
    {"_result"},
    {
        "errors", "_arguments", "_config_keys", "_estimate", "_interpolate", "_jit", "_kinks", "_known", "_lock", "_progress",
        "_quadrature", "_roots", "_terminal", "_threads",
    },
    {"_kernels", "_fields", "_correlations", "_parts", "_waiting"},
    {"_escape_statistics", "_path_statistics"},
    {"_curves", "_ensembles", "_modes", "_rare_results"},
    {"results", "expressions", "_generator"},
    {"_cells", "_code", "_elimination", "_explicit", "_fronts", "_mapping", "_stencils", "_tree"},
    {"_costs", "_columns", "_evaluated", "_function_code", "_iterative"},
    {"_dense", "_fingerprint", "_single", "_tensors", "_units", "potentials", "_transient"},
    {"_calls", "noise", "region"},
    {"_drift_terms", "_executors"},
    {"process", "grid", "samples", "_frozen"},
    {"_aligned", "_cycles", "_geometric", "_line", "_operators", "_pencil", "_walls", "_magnus", "_trbdf2"},
    {"_action", "_follow"},
    {
        "_codegen", "_components", "_rows", "_landing", "_schemes", "_markov", "chains", "io", "_pictures", "_detailed_balance",
        "_covariance",
    },
    {
        "_config_tables", "_balance", "_checkpoint", "_sweep_file", "_kernel_base", "_space", "_step_text", "_watch", "_wide_noise",
        "driven", "plotting",
    },
    {"_discretize", "_fused", "_fused_escape", "_kernel_exits", "_kernel_modes", "_runner", "_schedule", "_sgd", "_wide"},
    {"_branches", "_cuts", "_decomposition", "_escape_laws", "_inertia", "_linear", "_moments"},
    {"_exit_laws", "_freezing", "_model", "_notes", "_passage", "_paths", "_phase_space", "_valley"},
    {"_blocks", "_branching", "_curved", "_question", "_refine", "_surfaces"},
    {"_exits", "_flows", "_observe", "_rounding", "_shares", "_spectral", "_start", "_wide_run"},
    {"_committor", "_escapes", "_levels", "_population"},
    {"fokker_planck", "langevin", "theory", "_show", "_warm"},
    {"_along", "_escape_case", "_highexits", "_splitting", "kernel_operator", "report"},
    {"_escape_conditions"},
    {"_conclusion", "_highorder", "_phase_diagram", "rare"},
    {"_config_resolve", "_escape_run"},
    {"_config_agree", "selection", "verdict"},
    {"config"},
    {"_sweep"},
    {"_completion", "_environment", "_view"},
    {"cli"},
    {"__main__"},
]
# fmt: on
LAYER = {name: i for i, layer in enumerate(LAYERS) for name in layer}
#: The three engines, each with the helpers that only it may use; _codegen and _markov serve all.
# fmt: off
ENGINES = (
    {
        "fokker_planck", "_balance", "_committor", "_cuts", "_discretize", "_exits", "_flows", "_notes", "_refine", "_shares",
        "_spectral", "kernel_operator", "_cells", "_dense", "_kernel_base", "_kernel_exits", "_kernel_modes", "_landing",
        "_magnus", "_trbdf2", "_frozen", "_follow", "_phase_space", "_start", "_aligned", "_fronts", "_highexits", "_highorder",
        "_operators", "_pencil", "_space", "_stencils",
    },
    {
        "langevin", "_fused", "_schemes", "_model", "_observe", "_passage", "_paths", "_runner", "_sgd", "_walls", "_checkpoint",
        "_watch", "_schedule", "_single", "_rounding", "_linear", "_blocks", "_rows", "_surfaces", "_wide", "_wide_noise",
        "_wide_run", "rare", "_action", "_cycles", "_geometric", "_line", "_splitting", "_population", "_branching", "_branches",
        "_levels", "_escapes", "_question", "_fused_escape", "_step_text",
    },
    {
        "theory", "_quadrature", "_detailed_balance", "_covariance", "_decomposition", "_escape_laws", "_freezing", "_inertia",
        "_moments", "_valley", "_curved", "_exit_laws",
    },
)
# fmt: on
#: Intrinsics (bit casts) need llvmlite, which is a part of Numba's installation.
KERNEL_IMPORTS = {"numpy", "numba", "llvmlite", "math", "typing", "collections", "__future__"}
PUBLIC_SUBMODULES = {"io", "plotting", "potentials", "results", "theory"}
JIT_NAMES = {"njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc", "jitclass", "generated_jit"}
#: Files that compile source which this project printed itself, never a user's text.
CODE_GENERATORS = {"fpsolve/_code.py", "fpsolve/_codegen.py", "fpsolve/_function_code.py"}


def source_files(*folders: str) -> list[Path]:
    files = sorted(path for name in folders for path in folder(name).rglob("*.py"))
    assert files, f"no source under {folders}"
    return files


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def each(paths: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """The check of one file made a test of them all, which names every file that fails."""

    def decorate(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            wrong = []
            for path in paths:
                try:
                    check(path)
                except AssertionError as error:
                    wrong.append(str(error).splitlines()[0])
            assert not wrong, "\n".join(wrong)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST, package: str, *, nested: bool) -> Iterator[str]:
    """Absolute dotted names of what is imported; with `nested`, also inside functions. TYPE_CHECKING blocks never count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif is_type_checking(node):
            yield from (name for part in node.orelse for name in imports(part, package, nested=nested))
        elif nested or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports(node, package, nested=nested)


def imported_by(path: Path, *, nested: bool = False) -> list[str]:
    package = relative(path).rpartition("/")[0].replace("/", ".")
    return list(imports(parse(path), package, nested=nested))


def node_of(name: str) -> str | None:
    """The node of LAYERS that a dotted import means: "fpsolve._kernels.rng.x" -> "_kernels"; None outside fpsolve."""
    parts = name.split(".")
    if parts[0] != "fpsolve":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in LAYER else "__init__"


def node_of_file(path: Path) -> str:
    return "_kernels" if "_kernels" in path.parts else path.stem


FPSOLVE_FILES = [p for p in source_files("fpsolve") if relative(p) != "fpsolve/__init__.py"]


def test_import_reader_sees_what_it_should() -> None:
    text = """
from __future__ import annotations
import numpy as np
from . import grid
from ._jit import kernel
if TYPE_CHECKING:
    from fpsolve.process import Process
class A:
    import json
def f():
    from fpsolve.langevin import simulate
"""
    tree = ast.parse(text)
    top = ["__future__.annotations", "numpy", "fpsolve.grid", "fpsolve._jit.kernel", "json"]
    assert list(imports(tree, "fpsolve", nested=False)) == top
    assert list(imports(tree, "fpsolve", nested=True)) == [*top, "fpsolve.langevin.simulate"]
    assert list(imports(ast.parse("from .._jit import kernel"), "fpsolve._kernels", nested=False)) == ["fpsolve._jit.kernel"]


@each(FPSOLVE_FILES)
def test_layers(path: Path) -> None:
    own = node_of_file(path)
    assert own in LAYER, f"{relative(path)} has no place in LAYERS"
    for name in imported_by(path):
        other = node_of(name)
        if other in (None, own) or (other == "__init__" and own in {"cli", "report"}):
            continue
        if name.split(".")[:2] == ["fpsolve", "__version__"]:
            continue
        assert other in LAYER, f"{relative(path)} imports {name}, which has no place in LAYERS"
        assert LAYER[other] < LAYER[own], f"{relative(path)} must not import {name}: {other} is not below {own}"


@each(FPSOLVE_FILES)
def test_engines_are_independent(path: Path) -> None:
    own = node_of_file(path)
    for engine in (e for e in ENGINES if own in e):
        others = set().union(*ENGINES) - engine
        met = {node_of(name) for name in imported_by(path, nested=True)} & others
        assert not met, f"{relative(path)} must know nothing of {met}: agreement is evidence only between independent engines"


@each([p for p in FPSOLVE_FILES if "_kernels" in p.parts])
def test_kernels_import_only_numerics(path: Path) -> None:
    for name in imported_by(path, nested=True):
        if name.startswith("fpsolve"):
            assert node_of(name) in {"_jit", "_kernels"}, f"{relative(path)} imports {name}"
        else:
            assert name.split(".")[0] in KERNEL_IMPORTS, f"{relative(path)} imports {name}"


RESULTS = {
    "results", "_checks", "_correlations", "_curves", "_ensembles", "_escape_statistics", "_estimate", "_fields", "_interpolate",
    "_modes", "_parts", "_path_statistics", "_rare_results", "_result", "_shown", "_waiting",
}  # fmt: skip


@pytest.mark.parametrize("module", sorted(RESULTS))
def test_results_are_a_leaf(module: str) -> None:
    """Results need numpy, the standard library and each other, nothing else."""
    for name in imported_by(folder("fpsolve") / f"{module}.py"):
        top = name.split(".")[0]
        assert top == "numpy" or top in sys.stdlib_module_names or node_of(name) in RESULTS, f"{module} imports {name}"


@each(source_files("fpsolve", "nets"))
def test_slow_packages_are_imported_on_use(path: Path) -> None:
    """`_kinks` is made of sympy's classes: it counts as sympy."""
    packages = {"matplotlib"} if path.stem == "_kinks" else {"matplotlib", "sympy"}
    heavy = {name for name in imported_by(path) if name.split(".")[0] in packages or name.endswith("_kinks")}
    assert not heavy, f"{relative(path)} imports {heavy} at module level; import inside the function"


@each(source_files("fpsolve"))
def test_fpsolve_does_not_know_its_users(path: Path) -> None:
    users = {"nets", "fpsolve_validation"}
    nested = path.name != "cli.py"  # the command line imports them when a subcommand runs
    met = {name for name in imported_by(path, nested=nested) if name.split(".")[0] in users}
    assert not met, f"{relative(path)} imports {met}"


@each(source_files("nets", "bench/validate"))
def test_users_import_the_public_names(path: Path) -> None:
    """But for what must be one thing for all: Numba's flags, the threads of BLAS, what counts as a number, and as Axes."""
    import fpsolve

    for name in imported_by(path, nested=True):
        parts = name.split(".")
        if parts[0] != "fpsolve" or len(parts) == 1:
            continue
        shared = path.stem == parts[1] in {"_checks", "_pictures", "_threads"}
        kernel = path.stem.startswith("_kernels") and parts[1] == "_jit"
        public = parts[1] in fpsolve.__all__ and (len(parts) == 2 or parts[1] in PUBLIC_SUBMODULES)
        assert kernel or shared or public, f"{relative(path)} imports {name}, which is not public"


def test_references_are_independent() -> None:
    path = ROOT / "tests" / "references.py"
    met = {name for name in imported_by(path, nested=True) if name.split(".")[0] in {"fpsolve", "nets", "fpsolve_validation"}}
    assert not met, f"tests/references.py imports {met}: a reference must not use what it checks"


def numba_names(tree: ast.AST) -> set[str]:
    """Names taken from Numba, imported or as attributes."""
    used = {name.split(".")[-1] for name in imports(tree, "", nested=True) if name.startswith("numba.")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[0] in {"numba", "nb"}:
            used.add(node.attr)
    return used


@pytest.mark.parametrize("text", ["from numba import njit", "import numba\nf = numba.njit(g)", "@nb.jit\ndef f(): 0"])
def test_numba_names_sees_decorators(text: str) -> None:
    assert numba_names(ast.parse(text)) & JIT_NAMES


@each([p for p in source_files("fpsolve", "nets") if p.name != "_jit.py"])
def test_numba_flags_have_one_place(path: Path) -> None:
    used = numba_names(parse(path))
    assert not used & JIT_NAMES, f"{relative(path)} uses {used & JIT_NAMES}; the decorators of fpsolve._jit hold the flags"


DECORATORS = {"kernel", "lean_kernel", "ordered_kernel", "inline", "part"}


def decorators(node: ast.AST) -> set[str]:
    return {ast.unparse(d) for d in node.decorator_list} if isinstance(node, ast.FunctionDef) else set()


def called_from_python(tree: ast.AST) -> Iterator[str]:
    """Names of the functions that are called outside compiled ones."""
    for node in ast.iter_child_nodes(tree):
        if not decorators(node) & DECORATORS:
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func)
            yield from called_from_python(node)


@functools.cache
def inner() -> set[str]:
    """Functions without an entry for Python."""
    return {n.name for p in source_files("fpsolve", "nets") for n in ast.walk(parse(p)) if decorators(n) & {"inline", "part"}}


@pytest.mark.parametrize("text", ["langevin.fold(1.0)", "from ._kernels.langevin import fold\ndef f():\n    fold(1.0)"])
def test_calls_from_python_are_seen(text: str) -> None:
    assert any(name.split(".")[-1] in inner() for name in called_from_python(ast.parse(text)))


@each(source_files("fpsolve", "nets"))
def test_functions_without_an_entry_for_python_are_called_by_compiled_code(path: Path) -> None:
    """Such a call would end the process."""
    tree = parse(path)
    own = {n.name for n in ast.walk(tree) if decorators(n) & {"inline", "part"}}
    froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and "_kernels" in (n.module or "")]
    near = own | {alias.asname or alias.name for n in froms for alias in n.names}
    for name in called_from_python(tree):
        first, _, last = name.rpartition(".")
        assert last not in inner() or (first or last) not in near, f"{relative(path)} calls {name} from Python"


@each(source_files("fpsolve", "nets"))
def test_text_is_never_executed(path: Path) -> None:
    """User text is data: no eval, exec only where the text was printed by this project; sympify refuses strings."""
    tree = parse(path)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        where = f"{relative(path)}:{node.lineno}"
        name = ast.unparse(node.func).split(".")[-1]
        plain = isinstance(node.func, ast.Name)
        assert not (plain and name == "eval"), f"{where}: eval"
        assert name not in {"parse_expr", "literal_eval", "S", "lambdify"}, f"{where}: {name}"
        if plain and name in {"exec", "compile"}:
            assert relative(path) in CODE_GENERATORS, f"{where}: {name} outside the code generators"
        if name == "sympify":
            strict = any(k.arg == "strict" and getattr(k.value, "value", None) is True for k in node.keywords)
            assert strict, f"{where}: sympify without strict=True would evaluate a string"
    picklers = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
    unsafe = {name for name in imported_by(path, nested=True) if name.split(".")[0] in picklers}
    assert not unsafe, f"{relative(path)} imports {unsafe}"


def test_nothing_unfinished_and_no_local_paths() -> None:
    marks = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b|NotImplemented" + r"Error\(\)")
    paths = re.compile("(?<![A-Za-z0-9_./])/(" + "|".join(["ro" + "ot", "ho" + "me", "wo" + "rk", "Us" + "ers"]) + ")/")
    folders = ("fpsolve", "nets", "tests", "bench", "bench/validate", "docs", ".ci")
    files = [p for name in folders for p in folder(name).rglob("*") if p.suffix in {".py", ".md", ".toml", ""} and p.is_file()]
    files += [p for p in ROOT.iterdir() if p.is_file() and (p.suffix in {".md", ".cfg", ".toml", ".cff"} or p.name == "Makefile")]
    assert len(files) > 20
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not marks.search(line), f"{relative(path)}:{number}: a mark of unfinished work: {line.strip()}"
            assert not paths.search(line), f"{relative(path)}:{number}: a path of one machine: {line.strip()}"
