"""The objects of a configuration held against each other as its task would, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._config_resolve import NOUNS
from ._config_tables import Objects, Task, converted
from .chains import SGDChain
from .process import Underdamped
from .region import Region

__all__ = ["agree", "arguments", "made_tables"]

_PATHS_ENGINE = ("simulate", "escape_times", "multilevel_splitting")


def made_tables(tables: Mapping[str, Any]) -> list[str]:
    """The tables that stand for objects, as `Objects` calls them."""
    plain_ones = [noun for noun in NOUNS if noun in tables and noun not in ("solver", "regions")]
    return [*plain_ones, *(f"regions.{name}" for name in tables.get("regions", {}))]


def arguments(task: Task, objects: Objects, tables: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of the task's function."""
    asked = {name: converted(name, value) for name, value in tables["task"].items() if name != "name"}
    keys = task.form.values
    written = {name: objects("grid") if value == "grid" and "grid" in keys[name].kinds else value for name, value in asked.items()}
    return {**objects.given(task.form), **written}


def agree(task: Task, objects: Objects, tables: Mapping[str, Any]) -> None:
    """Hold the objects against each other as the task would, before it works."""
    asked = arguments(task, objects, tables)
    process = objects("process") if "process" in tables else None
    if process is not None:
        dims = {process.dim, 2 * process.dim} if isinstance(process, Underdamped) else {process.dim}
        for name in (t for t in made_tables(tables) if t.startswith("region")):
            if objects(name).dim not in dims:
                raise ValueError(f"[{name}] is {objects(name).dim}-D, the process {process.dim}-D")
    if task.method:
        regions = [value for value in asked.values() if isinstance(value, Region)]
        _agree_on_grid(process, objects("grid"), tables["solver"], regions, asked)
    elif task.name in _PATHS_ENGINE:
        _agree_on_paths(process, asked)
    if task.name == "multilevel_splitting":
        from ._splitting import _options

        _options(asked["n"], asked["runs"], asked["kill"], asked["inner"])


def _agree_on_grid(
    process: Any, grid: Any, options: Mapping[str, Any], regions: Sequence[Region], asked: Mapping[str, Any]
) -> None:  # fmt: skip
    from ._start import initial_density

    if isinstance(process, SGDChain):
        from .kernel_operator import _check

        _check(process, grid, options["nodes"])
    else:
        from ._exits import start_inside
        from ._phase_space import over_velocities, phase_space
        from .fokker_planck import _check_arguments

        space = phase_space(process)
        _check_arguments(space, grid, options["scheme"], options["max_offset"], options["order"])
        for region in (over_velocities(space, region) for region in regions):
            region.mask(grid)
            if asked.get("at") is not None:
                start_inside(region, asked["at"], grid)
    if "rho0" in asked:
        initial_density(asked["rho0"], grid)


def _agree_on_paths(process: Any, asked: Mapping[str, Any]) -> None:
    from ._model import initial_states, make_model, step_count
    from ._passage import check_inside
    from ._runner import check_count, starting_points

    count = check_count("n", asked["n"])
    if isinstance(process, SGDChain) and not process.fused:
        if asked["dt"] is not None:
            raise ValueError("dt is refused for a chain: its time is the iteration count")
        clock, unit, points = 1.0, "iteration", starting_points(asked["x0"], count, process.dim, 0)
    else:
        model = make_model(process, asked["dt"], asked["method"], asked["walls"])
        clock, unit, points = model.h, model.unit, initial_states(asked["x0"], count, model, 0)
    if "t" in asked:
        step_count(asked["t"], clock, unit)
    if "region" in asked:
        check_inside(points[:, : asked["region"].dim], asked["region"], asked["region"].dim)
