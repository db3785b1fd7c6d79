"""The package as a user meets it: what importing loads, which names exist, what the metadata promises."""

import ast
import configparser
import importlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from places import PACKAGES, ROOT, folder, relative

import fpsolve

HEAVY = {"numpy", "numba", "llvmlite", "scipy", "sympy", "h5py", "matplotlib", "tqdm"}
Runner = Callable[..., subprocess.CompletedProcess[str]]


def loaded_by(run_python: Runner, statement: str) -> set[str]:
    code = f"import sys, json\n{statement}\nprint('\\n' + json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    ["import fpsolve", "import nets", "import fpsolve.cli; fpsolve.cli.main(['--help'])", "import fpsolve; dir(fpsolve)"],
)
def test_importing_loads_no_dependency(run_python: Runner, statement: str) -> None:
    assert not loaded_by(run_python, statement) & HEAVY


@pytest.mark.parametrize("name", ["Estimate", "Grid", "Potential", "Process", "io"])
def test_posing_a_problem_does_not_load_the_compiler(run_python: Runner, name: str) -> None:
    assert not loaded_by(run_python, f"import fpsolve; fpsolve.{name}") & {"numba", "sympy", "matplotlib"}


@pytest.mark.parametrize("name", fpsolve.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(fpsolve, name)
    if name != "__version__":
        assert value.__doc__ and len(value.__doc__) > 40, f"fpsolve.{name} has no docstring"


def test_dir_and_all_agree_and_type_checkers_see_the_same() -> None:
    assert dir(fpsolve) == sorted(fpsolve.__all__)
    tree = ast.parse((folder("fpsolve") / "__init__.py").read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    seen = {
        alias.name: (node.module or "").removeprefix("fpsolve").lstrip(".")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fpsolve")
        for alias in node.names
    }
    declared = {**fpsolve._HOME, **dict.fromkeys(fpsolve._SUBMODULES, "")}
    assert seen == declared
    assert set(declared) | {"__version__"} == set(fpsolve.__all__)


@pytest.mark.parametrize(("wrong", "right"), [("FokerPlanck", "FokkerPlanck"), ("potential", "Potential"), ("simulat", "simulate")])
def test_unknown_name_names_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(AttributeError, match=rf"no attribute '{wrong}'; did you mean fpsolve\.{right}\?"):
        getattr(fpsolve, wrong)


def test_unknown_name_without_a_neighbour() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'qqqqqq'; dir\(fpsolve\)"):
        fpsolve.qqqqqq  # noqa: B018
    assert not hasattr(fpsolve, "__wrapped__")


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_packages_are_all_declared_and_exist(setup_cfg: configparser.ConfigParser) -> None:
    declared = set(lines(setup_cfg["options"]["packages"]))
    assert lines(setup_cfg["options"]["package_dir"]) == ["fpsolve_validation = bench/validate"]
    names = {relative(p.parent) for top in ("fpsolve", "nets", "bench/validate") for p in folder(top).rglob("__init__.py")}
    assert {PACKAGES.get(name, name.replace("/", ".")) for name in names} == declared


def test_data_files_are_packaged(setup_cfg: configparser.ConfigParser) -> None:
    for package in ("fpsolve", "nets"):
        patterns = lines(setup_cfg["options.package_data"][package])
        others = [p for p in folder(package).iterdir() if p.is_file() and p.suffix not in {".py", ".pyc", ".nbi", ".nbc"}]
        assert others
        for path in others:
            assert any(path.match(pattern) for pattern in patterns), f"{path.name} is not in package_data of {package}"


def test_entry_point_and_version(setup_cfg: configparser.ConfigParser) -> None:
    (script,) = lines(setup_cfg["options.entry_points"]["console_scripts"])
    name, target = (part.strip() for part in script.split("="))
    module, function = target.split(":")
    assert name == "fpsolve"
    assert callable(getattr(importlib.import_module(module), function))
    assert setup_cfg["metadata"]["version"] == "attr: fpsolve.__version__"
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {fpsolve.__version__}\n" in cff


def test_metadata_has_one_home() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "project" not in config, "a [project] table makes setuptools ignore setup.cfg"


def test_core_dependencies_are_what_is_imported(setup_cfg: configparser.ConfigParser) -> None:
    """Every package imported by the library is a declared dependency or an extra, or comes with one (numba, matplotlib)."""
    sections = [setup_cfg["options"]["install_requires"], *setup_cfg["options.extras_require"].values()]
    names = {line.split(">=")[0].split("[")[0] for text in sections for line in lines(text)} | {"llvmlite", "mpl_toolkits", "PIL"}
    own = {"fpsolve", "nets", "fpsolve_validation"}
    for path in [p for top in ("fpsolve", "nets", "bench/validate") for p in folder(top).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            tops = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            tops += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {t.split(".")[0] for t in tops} - own - set(sys.stdlib_module_names):
                assert top in names, f"{path.name} imports {top}, which setup.cfg does not declare"


def test_the_sdist_is_the_repository() -> None:
    """MANIFEST.in has every folder, and every file at the top by name or pattern; `make release-check` compares the contents."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = done.stdout.split("\0")[:-1]
    rules = [line.split() for line in lines((ROOT / "MANIFEST.in").read_text(encoding="utf-8"))]
    grafted = {folder for kind, *folders in rules if kind == "graft" for folder in folders}
    patterns = [pattern for kind, *names in rules if kind == "include" for pattern in names]
    for name in tracked:
        top, _, rest = name.partition("/")
        assert top in grafted if rest else any(Path(top).match(p) for p in patterns), f"{name} is not in MANIFEST.in"
