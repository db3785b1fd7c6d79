"""The coordinate whose levels splitting climbs: a word, an expression, a landscape, a region, a field or a function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._code import Code, QuadraticCode, TableCode
from ._function_code import FunctionCode
from .potentials import Potential
from .region import Region
from .results import Field

__all__ = ["check_level", "level_of"]

Array = NDArray[np.float64]

WORDS = ("region", "distance", "potential")


def check_level(code: Code, params: Mapping[str, float], name: str, start: Array) -> None:
    value = float(code.evaluate(start[:, : code.dim], params)[0, 0])
    if not math.isfinite(value):
        raise ValueError(f"the coordinate {name} is {value} at x0 = {start[0].tolist()}; it must be a number wherever paths go")


def level_of(given: Any, process: Any, region: Region, x0: Array, variables: int) -> tuple[Code, Mapping[str, float], str]:
    """Code, parameters and name of the coordinate."""
    dim = len(x0)
    if isinstance(given, str) and given == "region":
        return region.code, region.params, "g of the region"
    if isinstance(given, str) and given == "distance":
        return QuadraticCode(np.eye(dim), x0), {}, "distance from x0"
    if isinstance(given, str) and given == "potential":
        landscape = getattr(process, "potential", None) or getattr(process, "landscape", None)
        landscape = landscape or getattr(getattr(process, "ensemble", None), "loss", None)
        if not isinstance(landscape, Potential):
            raise ValueError(f"coordinate='potential' needs a process with one, and {process!r} has none; give a Potential")
        return landscape.value_code, landscape.params, "potential"
    if isinstance(given, str):
        names = list("xyz"[:dim]) if dim <= 3 else ["x", *(f"x{i}" for i in range(2, dim + 1))]
        given = Potential.from_expression(given, variables=names)
    if isinstance(given, Field):
        return _of_field(given, dim), {}, f"field {given.name}".rstrip()
    if isinstance(given, Potential):
        code, params, name = given.value_code, given.params, repr(given)
    elif isinstance(given, Region):
        code, params, name = given.code, given.params, f"g of {given.name}"
    elif callable(given):
        code, params, name = FunctionCode(given, dim, 1, {}, "coordinate"), {}, getattr(given, "__name__", "function")
    else:
        raise TypeError(
            f"coordinate must be one of {', '.join(map(repr, WORDS))}, an expression, a Potential, a Region, a Field or a function "
            f"(x, p) -> number, got {type(given).__name__}: {given!r}"
        )
    if code.dim not in (dim, variables):
        raise ValueError(f"the coordinate is {code.dim}-D, the process {dim}-D")
    return code, params, name


def _of_field(field: Field, dim: int) -> Code:
    """Linear interpolation between cell centres, on as many evenly spaced points as there are cells."""
    grid = field.grid
    if grid.dim != dim:
        raise ValueError(f"the coordinate is a field in {grid.dim}-D, the process is {dim}-D")
    if dim > 2:
        raise ValueError(f"a field is interpolated in 1-D and 2-D, got {dim}-D; give an expression or a function")
    if not np.all(np.isfinite(field.values)):
        raise ValueError(f"the field {field.name!r} has values that are not finite, so that it orders no levels; use a committor")
    axes = [np.linspace(c[0], c[-1], c.size) for c in grid.centers]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return TableCode(np.asarray(field.at(points)), axes)
