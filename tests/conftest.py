"""Fixtures of the test suite; the environment that must stand before Numba is imported is set in ../conftest.py."""

import configparser
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from places import ROOT, folder

# Compilation makes first examples slow, and a run must be repeatable: no deadline, examples from a fixed seed.
settings.register_profile("fpsolve", deadline=None, derandomize=True, database=None)
settings.load_profile("fpsolve")


def _provide_validation() -> None:
    """Make bench/validate importable as fpsolve_validation where the project is not installed."""
    if importlib.util.find_spec("fpsolve_validation") is None:
        home = folder("bench/validate")
        spec = importlib.util.spec_from_file_location(
            "fpsolve_validation", home / "__init__.py", submodule_search_locations=[str(home)]
        )
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


@pytest.fixture
def validation():
    """The package of validation claims."""
    _provide_validation()
    return importlib.import_module("fpsolve_validation")


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks of setup.cfg, also where the project is not installed."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [line.split(" = ") for line in parser["options.entry_points"]["fpsolve.tasks"].strip().splitlines()]
    points = [importlib.metadata.EntryPoint(name, target, "fpsolve.tasks") for name, target in lines]
    found = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **how: points if how == {"group": "fpsolve.tasks"} else found(**how)
    )


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Write a text into a file of the test's folder."""

    def write(text: str, name: str = "config.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """By how much progress bars were moved, update by update."""
    import tqdm.auto

    seen: list[int] = []

    class Bar(tqdm.auto.tqdm):
        def update(self, n=1):
            seen.append(n)
            return super().update(n)

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    return seen


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a fresh Python process in the project's folder; returns the finished process with its output as text."""

    def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        command = [sys.executable, *args]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)

    return run
