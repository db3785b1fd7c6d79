"""Text of one step of a block of trajectories: its layout, normals, the scheme's lines, walls; for all fused loops.

A block is one flat buffer (float64; float32 in single precision) of ``LANES`` trajectories in structure-of-arrays layout: the
generator's four words, the state variables, the normals of the step, then what the observer keeps, each ``LANES`` numbers long at
a constant offset. The loop over lanes is innermost, with a constant trip count, so that it becomes SIMD code wherever the model is
straight-line arithmetic; the normals have a loop of their own, which is SIMD code always. What a lane computes depends on its
trajectory only.

Normals come in pairs. With an odd number m of noises, the 2 m normals of two steps are drawn together at every even step of the
trajectory, so that a pair never leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._code import Code
from ._kernels.rng import LANES
from ._schemes import Step
from ._walls import outside_source, put_back_text, wall_names

__all__ = [
    "PANEL", "Fused", "Layout", "copy_lines", "emit_codes", "indent", "normal_lines", "put_back_call", "put_back_function",
    "put_back_lines", "row_at", "stable_lines", "step_lines", "tuple_of",
]  # fmt: skip


#: Lanes per inner loop of the escape kernel, whose number of active lanes shrinks, and of the matrix kernel.
PANEL = 64


@dataclass(frozen=True)
class Layout:
    """Offsets (in lanes) of the variables in a block's buffer."""

    variables: int  # state variables per trajectory
    noises: int
    stables: int = 0  # stable variates of a step, where the noise is Levy
    spread: bool = False  # they multiply normals

    @property
    def state(self) -> int:
        return 4

    @property
    def normals(self) -> int:
        return 4 + self.variables

    @property
    def stable(self) -> int:
        return self.normals + self.noises + self.noises % 2 * self.noises

    @property
    def extra(self) -> int:
        """First free row after the variates."""
        return self.stable + self.stables

    @property
    def moments(self) -> tuple[int, int, int, int]:
        """Rows of shift, sum and products, and the end."""
        v = self.variables
        return self.extra, self.extra + v, self.extra + 2 * v, self.extra + 2 * v + v * (v + 1) // 2


@dataclass(frozen=True)
class Fused:
    """A generated module with the layout of its blocks and the packed parameters of its codes."""

    module: Any
    layout: Layout
    arithmetic: str = "double"  # or "single", or "twin": double precision with the normals of single


def indent(lines: Sequence[str], depth: int) -> str:
    return "".join("    " * depth + line + "\n" for line in lines)


def tuple_of(prefix: str, count: int) -> str:
    return "(" + "".join(f"{prefix}{i}, " for i in range(count)) + ")"


def row_at(row: int, lane: str = "i") -> str:
    return f"w[{row * LANES} + {lane}]"


def emit_codes(named: dict[str, Code]) -> tuple[str, dict[str, Any], bool]:
    sources: list[str] = []
    namespace: dict[str, Any] = {}
    for name, code in named.items():
        source, extra = code.emit(name)
        sources.append(source)
        namespace |= extra
    return "\n".join(sources), namespace, all(code.cacheable for code in named.values())


def step_lines(layout: Layout, step: Step) -> list[str]:
    """One lane, one step: the new state in y0, y1, ..."""
    return [
        *(f"x{i} = {row_at(layout.state + i)}" for i in range(layout.variables)),
        *(f"z{k} = {row_at(layout.normals + k)}" for k in range(layout.noises)),
        *(f"j{k} = {row_at(layout.stable + k)}" for k in range(layout.stables)),
        *step.lines(),
    ]


def normal_lines(layout: Layout, lanes: int) -> list[str]:
    """Statements that put the step's normals in place; k is the step of the trajectory (its parity is what matters)."""
    m = layout.noises
    pairs = m if m % 2 else m // 2
    return [f"fill_normals(w, np.int64({(layout.normals + 2 * j) * LANES}), {lanes})" for j in range(pairs)]


def stable_lines(layout: Layout, lanes: int) -> list[str]:
    """Statements that draw the stable variates of the step; each takes two words of its trajectory."""
    fill = "fill_spread" if layout.spread else "fill_stable"
    return [f"{fill}(w, np.int64({(layout.stable + j) * LANES}), {lanes}, alpha)" for j in range(layout.stables)]


def copy_lines(layout: Layout) -> list[str]:
    m = layout.noises
    return [f"{row_at(layout.normals + k)} = {row_at(layout.normals + m + k)}" for k in range(m)]


def put_back_function(step: Step) -> str:
    return put_back_text(step.shape.sides, step.variables, step.shape.m, step.conormal) if step.put_back else ""


def put_back_call(step: Step, name: str) -> str:
    walls = "".join(f"{wall}, " for wall in wall_names(step.shape.sides))
    return f"put_back({tuple_of(name, step.variables)}, ({walls}), q)"


def put_back_lines(layout: Layout, step: Step) -> list[str]:
    """States beyond a wall are put back. They are few: sixteen lanes at a time are looked at in SIMD code, mostly left alone."""
    rows = [row_at(layout.state + i).replace("w[", "u[") for i in range(layout.variables)]
    outside = outside_source(step.shape.sides, rows)
    return [
        f"for lane in range(0, {LANES}, 16):",
        "    u = w[lane:]",
        "    beyond = 0.0",
        "    for i in range(16):",
        f"        beyond += 1.0 if {outside} else 0.0",
        "    if beyond > 0.0:",
        "        for i in range(16):",
        f"            if {outside}:",
        *(f"                y{i} = {row}" for i, row in enumerate(rows)),
        f"                y = {put_back_call(step, 'y')}",
        *(f"                {row} = y[{i}]" for i, row in enumerate(rows)),
    ]
