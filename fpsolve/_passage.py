"""First-passage runs: the smooth pieces of a region, and the escape kernel driven over a queue of trajectories."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._code import Code, DerivedCode, ExpressionCode
from ._fused import (
    ACTIVE,
    CENSORED,
    DEADLINE,
    DONE,
    ESCAPED,
    FAILED,
    FREE,
    LIMIT,
    NEXT,
    SEED,
    STEP,
    STOP,
    STRIDE,
    UNFINISHED,
    Fused,
)
from ._kernels.rng import LANES
from ._runner import Control, aligned
from .expressions import parse

__all__ = ["Passage", "surface_codes"]

Array = NDArray[np.float64]

#: Kernel calls aim at this many lane steps (some tenths of a second), so that Ctrl-C and progress are prompt.
LANE_STEPS_PER_CALL = 1 << 25


class _PieceCode(ExpressionCode):
    """Expressions in x0... and p0... whose parameter values are those of another code."""

    def __init__(self, expressions: Any, parent: Code) -> None:
        variables = [f"x{i}" for i in range(parent.dim)]
        super().__init__(expressions, variables, [f"p{i}" for i in range(parent.n_params)])
        self.parent = parent

    def pack(self, params: Mapping[str, float]) -> Array:
        values = self.parent.pack(params)
        return np.array([values[int(name[1:])] for name in self.names])

    def jacobian(self) -> ExpressionCode:
        plain = super().jacobian()
        return _PieceCode(plain.expressions, self.parent)


def surface_codes(code: Code) -> tuple[Code, Code]:
    """(faces, slopes): smooth functions whose maximum is g, and their derivatives.

    A box is the maximum of its faces, each of which is a plane with a test of its own; where g is one expression it is one face.
    Derivatives are symbolic where the region or its landscape has them, else central differences.
    """
    import sympy

    formula = getattr(code, "formula", None)
    if formula is not None:
        text = re.sub(r"\b([xp])\[(\d+)\]", r"\1\2", formula).replace("fmax(", "max(").replace("fabs(", "abs(")
        names = [f"x{i}" for i in range(code.dim)] + [f"p{i}" for i in range(code.n_params)]
        expression = parse(text, names)
        pieces = expression.args if isinstance(expression, sympy.Max) else (expression,)
        faces: ExpressionCode = _PieceCode(sorted(pieces, key=str), code)
        return faces, faces.jacobian()
    if isinstance(code, ExpressionCode):
        expression = code.expressions[0]
        pieces = expression.args if isinstance(expression, sympy.Max) else (expression,)
        faces = ExpressionCode(sorted(pieces, key=str), code.variables, code.names)
        return faces, faces.jacobian()
    if isinstance(code, DerivedCode) and code.outputs == ("c0[0] - c1[0]",) and not code.lines:
        return code, code.children[0].jacobian()  # U(x) - level
    return code, code.jacobian()


@dataclass
class Passage:
    """One escape run: the kernel, its constant arguments, and the results by trajectory."""

    fused: Fused
    arguments: tuple[Array, ...]  # constants and packed parameters
    clock: float  # duration of a step in the unit of the times
    x0: Array  # (1 or n, state variables)
    limit: int  # steps after which a trajectory is censored
    seed: int
    times: Array
    status: NDArray[np.int8]
    points: Array

    def work(self, lo: int, hi: int, control: Control) -> None:
        """Run trajectories [lo, hi) to their ends, or until the run is stopped: those under way are then censored."""
        index, birth = np.full(LANES, -1), np.zeros(LANES, np.int64)
        freed = np.arange(LANES)[::-1].copy()  # a stack: the first trajectory takes lane 0
        meta = np.zeros(10, np.int64)
        meta[[NEXT, STOP, FREE, LIMIT, SEED]] = lo, hi, LANES, self.limit, self.seed
        meta[STRIDE] = 0 if len(self.x0) == 1 else 1
        meta[DEADLINE] = 1 << 62
        w = aligned(1, self.fused.layout.rows * LANES)[0]  # type: ignore[attr-defined]
        slots = (self.times, self.status, self.points)
        before = 0
        while meta[DONE] < hi - lo and not control.stopped:
            until = int(meta[STEP]) + LANE_STEPS_PER_CALL // LANES
            self.fused.module.escape(w, index, birth, freed, meta, self.x0, *self.arguments, self.clock, *slots, until)
            control.add(int(meta[DONE]) - before)
            before = int(meta[DONE])
        for lane in range(int(meta[ACTIVE])):
            if index[lane] >= 0:
                self.status[index[lane]] = CENSORED
                self.times[index[lane]] = (meta[STEP] - birth[lane]) * self.clock

    def collect(self, t_max: float | None) -> tuple[Array, NDArray[np.bool_], Array, int]:
        """(times, censored, exit points, number failed) of the trajectories that were started."""
        started = self.status != UNFINISHED
        times, status, points = self.times[started], self.status[started], self.points[started]
        if t_max is not None:  # the last step may reach beyond the watch
            late = (status == ESCAPED) & (times > t_max)
            status[late] = CENSORED
            times[status == CENSORED] = np.minimum(times[status == CENSORED], t_max)
        times[status == FAILED] = np.nan
        points[status != ESCAPED] = np.nan
        return times, status == CENSORED, points, int(np.sum(status == FAILED))
