"""Text of the fused step loops of ensembles: a model's scalar code, a scheme and an observer in one loop over lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._codegen import load_module
from ._kernels.rng import LANES
from ._schemes import Step
from ._step_text import (
    Fused,
    Layout,
    copy_lines,
    emit_codes,
    indent,
    normal_lines,
    put_back_function,
    put_back_lines,
    row_at,
    stable_lines,
    step_lines,
)  # fmt: skip

__all__ = ["linear_kernels", "path_kernels"]


def path_kernels(
    step: Step, axes: Sequence[int] = (), wraps: Sequence[bool] = (), graded: Sequence[bool] = (), arithmetic: str = "double"
) -> Fused:
    """Kernels that advance blocks of trajectories: ``advance``, ``advance_moments``, ``advance_record``, ``advance_histogram``.

    All take (blocks (nb, row), first step, last step, constants, drift parameters, factor parameters), a schedule's constants as
    rows from the first step on; the observers take
    ``every`` and what they fill. ``axes`` are the coordinates of the histogram, ``wraps`` says which of them are periodic,
    ``graded`` which have cells of different widths. The text is the same for every ``arithmetic``.
    """
    layout = Layout(step.variables, step.draws, step.shape.stables, step.shape.m > 0)
    source, namespace, cacheable = emit_codes({"drift": step.drift, "factor": step.factor})
    lines = step_lines(layout, step)
    store = [f"{row_at(layout.state + i)} = y{i}" for i in range(layout.variables)]
    normals = indent(normal_lines(layout, LANES), 3)
    if layout.noises % 2:
        copy = indent([f"for i in range({LANES}):"], 4) + indent(copy_lines(layout), 5)
        normals = f"            if k & 1 == 0:\n{indent(normal_lines(layout, LANES), 4)}            else:\n{copy}"
    normals += indent(stable_lines(layout, LANES), 3)
    loop = f"{normals}            for i in range({LANES}):\n{indent([*lines, *store], 4)}"
    if step.put_back:
        loop += indent(put_back_lines(layout, step), 3)

    def kernel(name: str, arguments: str, setup: Sequence[str], observer: str) -> str:
        return (
            f"@kernel\ndef {name}(blocks, first, last, constants, drift_p, factor_p{arguments}):\n"
            f"{indent([*step.unpack(), *setup], 1)}"
            f"    for block in range(blocks.shape[0]):\n        w = blocks[block]\n"
            f"        for k in range(first, last):\n{indent(step.unpack_step(), 3)}{loop}{observer}\n\n"
        )

    text = source + "\n" + put_back_function(step)
    text += kernel("advance", "", (), "")
    text += kernel("advance_moments", ", start, every", (), _moments_text(layout))
    text += kernel("advance_record", ", start, every, components, out", (), _record_text(layout))
    if axes:
        if any(graded):
            text = FIND_CELL + text
        text += kernel(
            "advance_histogram",
            ", start, every, valid, counts, low, scale, edges",
            (),
            _histogram_text(layout, axes, wraps, graded),
        )
    label = f"{step.scheme.name}_{step.shape.d}d" + ("" if arithmetic == "double" else f"_{arithmetic}")
    return Fused(load_module(text, namespace, cacheable=cacheable, label=label, arithmetic=arithmetic), layout, arithmetic)


def _moments_text(layout: Layout) -> str:
    """Sums of (x - shift) and their products; the shift is the lane's state at the start, so nothing cancels."""
    v = layout.variables
    shift, total, products, _ = layout.moments
    lines = [f"u{i} = {row_at(layout.state + i)} - {row_at(shift + i)}" for i in range(v)]
    lines += [f"{row_at(total + i)} += u{i}" for i in range(v)]
    pairs = [(i, j) for i in range(v) for j in range(i + 1)]
    lines += [f"{row_at(products + n)} += u{i}*u{j}" for n, (i, j) in enumerate(pairs)]
    head = ["if (k + 1 - start) % every == 0:", f"    for i in range({LANES}):"]
    return indent(head, 3) + indent(lines, 5)


def _record_text(layout: Layout) -> str:
    """Some components of every sample go to out (sample, component, lane)."""
    lines = [
        "if (k + 1 - start) % every == 0:",
        "    row = (k + 1 - start)//every - (first - start)//every - 1",
        "    for j in range(components.size):",
        f"        at = ({layout.state} + components[j])*{LANES}",
        f"        for i in range({LANES}):",
        f"            out[row, j, block*{LANES} + i] = w[at + i]",
    ]
    return indent(lines, 3)


#: The cell of a position s, counted in mean cell widths from the low wall, on a graded axis; outside is unchanged.
FIND_CELL = """
@inline
def find_cell(s, edges, n):
    if not (0.0 <= s and s < n):
        return s
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        if s < edges[middle]:
            high = middle
        else:
            low = middle
    return float(low)

"""


def _histogram_text(layout: Layout, axes: Sequence[int], wraps: Sequence[bool], graded: Sequence[bool]) -> str:
    """Cell numbers s; states outside the range are not counted. Periodic ones are wrapped: a tiny negative s may round to n."""
    row = layout.extra
    inside = " and ".join(f"0.0 <= s{a} and s{a} < counts.shape[{a}]" for a in range(len(axes)))
    lines = [f"s{a} = ({row_at(layout.state + axis)} - low[{a}])*scale[{a}]" for a, axis in enumerate(axes)]
    for a in (a for a, wrap in enumerate(wraps) if wrap):
        n = f"counts.shape[{a}]"
        lines += [f"s{a} = s{a} - {n}*np.floor(s{a}/{n})", f"s{a} = 0.0 if s{a} == {n} else s{a}"]
    lines += [f"s{a} = find_cell(s{a}, edges[{a}], counts.shape[{a}])" for a, bent in enumerate(graded) if bent]
    return (
        indent(
            [
                "if (k + 1 - start) % every == 0:",
                f"    for i in range(min({LANES}, valid - block*{LANES})):",
                *("        " + line for line in lines),
                f"        if {inside}:",
                "            counts[" + ", ".join(f"int(s{a})" for a in range(len(axes))) + "] += 1",
            ],
            3,
        )
        if row
        else ""
    )


# ---- linear processes of any dimension ------------------------------------------------------------------------------


LINEAR = f"""
@kernel
def advance_linear(w, panels, first, last, matrix, m, spans):
    # w: generator words and one pair of normals of a block; panels (4, rows*64): states, noises, zero padding, new states.
    # spans: for each four rows of the matrix, where its nonzero columns begin and end among the states and among the noises
    rows = matrix.shape[0]
    for k in range(first, last):
        for panel in range(panels.shape[0]):
            v = panels[panel]
            u = w[panel*64:]
            out = v.size - rows*64
            if m % 2 == 0 or k & 1 == 0:
                for j in range(0, m + m % 2 * m, 2):
                    fill_normals(u, np.int64({4 * LANES}), 64)
                    for i in range(64):
                        v[(rows + j)*64 + i] = u[{4 * LANES} + i]
                        v[(rows + j + 1)*64 + i] = u[{5 * LANES} + i]
            else:
                for i in range(m*64):
                    v[rows*64 + i] = v[(rows + m)*64 + i]
            for i in range(rows*64):
                v[out + i] = 0.0
            for r in range(0, rows, 4):
                j = r // 4
                accumulate(v[out + r*64:], v, matrix, r, spans[j, 0], spans[j, 1])
                accumulate(v[out + r*64:], v, matrix, r, spans[j, 2], spans[j, 3])
            for i in range(rows*64):
                v[i] = v[out + i]
"""


def linear_kernels() -> Any:
    """The kernel of linear processes; it holds no model, the matrix is an argument."""
    return load_module(LINEAR, {}, cacheable=True, label="linear")
