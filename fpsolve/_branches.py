"""Text of the step loop of splitting: branches of paths run until they leave the region, fall back, or rise above a level.

A branch is a path from a given state. It ends where it has left the region (ESCAPED), where its coordinate is at or below `bottom`
(BACK), or at a number of steps (CENSORED). Where it first exceeds its highest level so far, the state is recorded, so that another
branch may start there later; without records it ends there (UP). One comparison of the coordinate with two numbers and the bound of
the Brownian bridge settle nearly all steps of all lanes; what remains is left to scalar code.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._code import Code
from ._codegen import load_module
from ._fused_escape import EscapeLayout, draw_lines, lane_lines, resolve_text, start_lines
from ._kernels.langevin import ACTIVE, CENSORED, DEADLINE, DONE, ENTRIES, ESCAPED, FAILED, FREE, LIMIT, STEP, UNFINISHED
from ._schemes import Step
from ._step_text import Fused, emit_codes, indent, put_back_function, row_at, tuple_of
from ._walls import wall_names

__all__ = ["BACK", "PLACES", "UP", "BranchLayout", "branch_kernels"]

#: Status of a branch besides those of an escape.
BACK, UP = 4, 5
#: Entries of the integer array with which the kernel keeps its place between calls, behind those of an escape.
KEEP, FULL, WORK = range(ENTRIES, ENTRIES + 3)
PLACES = ENTRIES + 3


@dataclass(frozen=True)
class BranchLayout(EscapeLayout):
    """Rows of the escape kernel and one for the highest level of the branch."""

    @property
    def peak(self) -> int:
        return self.mark + 1

    @property
    def rows(self) -> int:
        return self.mark + 2


def branch_kernels(step: Step, faces: Code, slopes: Code, level: Code, bridge: bool) -> Fused:
    """The kernel ``branches``: a queue of branches, each with its start, its highest level and its slot for records.

    `faces` and `slopes` are as in `escape_kernels`; `level` is the coordinate, larger nearer to the exit.
    """
    layout = BranchLayout(step.variables, step.draws, step.shape.stables, step.shape.m > 0, faces.n_out)
    codes = {"drift": step.drift, "factor": step.factor, "faces": faces, "slopes": slopes, "level": level}
    source, namespace, cacheable = emit_codes(codes)
    text = (
        f"{source}\nLOW = np.uint64(0xFFFFFFFF)\n\n"
        + put_back_function(step)
        + resolve_text(layout, step, faces.dim, bridge)
        + _loop_text(layout, step, faces, slopes, level, bridge)
    )
    return Fused(load_module(text, namespace, cacheable=cacheable, label=f"branches_{step.scheme.name}_{step.shape.d}d"), layout)


def _event_lines(layout: BranchLayout, levels: int) -> list[str]:
    """What happens to lane i, whose step was marked: j is its branch, `age` the steps it has made."""
    state = [row_at(layout.state + k).replace("w[", "block[") for k in range(layout.variables)]
    peak = row_at(layout.peak).replace("w[", "block[")
    return [
        "j = task[i]",
        "age = k + 1 - birth[i]",
        "kind, fraction, y = resolve(block, i, shift, h, q, r, t, walls)",
        "height = 0.0",
        f"if kind == {UNFINISHED}:",
        f"    height = level(({''.join(state[k] + ', ' for k in range(levels))}), lp)[0]",
        "    if height != height:",
        f"        kind = {FAILED}",
        "    elif height <= bottom:",
        f"        kind = {BACK}",
        f"    elif height > {peak}:",
        f"        {peak} = height",
        f"        if meta[{KEEP}] == 0:",
        f"            kind = {UP}",
        f"elif kind == {ESCAPED}:",
        "    height = np.inf",
        f"    {peak} = height",
        f"if meta[{KEEP}] != 0 and height == {peak}:",
        "    slot = slots[j]",
        "    m = counts[slot]",
        "    heights[slot, m] = height",
        "    ages[slot, m] = before[j] + age",
        *(f"    states[slot, m, {k}] = {row}" for k, row in enumerate(state)),
        "    counts[slot] = m + 1",
        "    if m + 1 == heights.shape[1]:",
        f"        meta[{FULL}] = 1",
        f"if kind != {UNFINISHED}:",
        "    status[j] = kind",
        "    steps[j] = age",
        *(f"    ends[j, {k}] = {row}" for k, row in enumerate(state)),
        *(f"    {row} = {row_at(layout.old + k).replace('w[', 'block[')}" for k, row in enumerate(state)),
        "    task[i] = -1",
        f"    freed[meta[{FREE}]] = i",
        f"    meta[{FREE}] += 1",
        f"    meta[{DONE}] += 1",
        f"    meta[{WORK}] += age",
    ]


def _loop_text(layout: BranchLayout, step: Step, faces: Code, slopes: Code, level: Code, bridge: bool) -> str:
    even, odd, every = draw_lines(layout, bridge)
    height = f"height = level({tuple_of('y', level.dim)}, lp)[0]"
    lane = lane_lines(layout, step, faces, bridge, [height], f" & (height <= {row_at(layout.peak)}) & (height > bottom)")
    peak = f"{row_at(layout.peak).replace('w[', 'block[')} = peaks[task[i]]"
    return (
        "@kernel\ndef branches(block, task, birth, freed, meta, starts, peaks, slots, before, status, steps, ends,\n"
        "             heights, states, ages, counts, bottom, until,\n"
        "             constants, drift_p, factor_p, faces_p, slopes_p, level_p):\n"
        + indent(
            [
                *step.unpack(),
                f"r = {faces.unpack_source('faces_p')}",
                f"t = {slopes.unpack_source('slopes_p')}",
                f"lp = {level.unpack_source('level_p')}",
                f"walls = ({''.join(f'{name}, ' for name in wall_names(step.shape.sides))})",
                f"while meta[{STEP}] < until and meta[{FULL}] == 0:",
                f"    k = meta[{STEP}]",
                f"    if k & 1 == 0 and meta[{FREE}] > 0:",
                *("        " + line for line in start_lines(layout, faces.dim, "task", "np.int64(1)", [peak])),
                f"    active = meta[{ACTIVE}]",
                "    if active == 0:",
                "        break",
                "    shift = np.uint64(32) if k & 1 == 0 else np.uint64(0)",
                "    if k & 1 == 0:",
                *("        " + line for line in even),
                "    else:",
                *("        " + line for line in odd),
                *("    " + line for line in every),
                "    for s in range(0, active, 64):",
                "        w = block[s:]",
                "        events = 0.0",
                "        for i in range(64):",
                *("            " + line for line in lane),
                "        if events == 0.0:",
                "            continue",
                "        for i in range(s, min(s + 64, active)):",
                f"            if {row_at(layout.mark).replace('w[', 'block[')} != 0.0 and task[i] >= 0:",
                *("                " + line for line in _event_lines(layout, level.dim)),
                f"    meta[{STEP}] = k + 1",
                f"    if k + 1 >= meta[{DEADLINE}]:",
                *("        " + line for line in _deadline_lines(layout)),
            ],
            1,
        )
    )


def _deadline_lines(layout: BranchLayout) -> list[str]:
    """Branches that have made all their steps end; the next deadline is that of the oldest of the others."""
    return [
        "earliest = 1 << 62",
        "for i in range(active):",
        f"    if task[i] >= 0 and k + 1 - birth[i] >= meta[{LIMIT}]:",
        "        j = task[i]",
        f"        status[j] = {CENSORED}",
        "        steps[j] = k + 1 - birth[i]",
        *(f"        ends[j, {n}] = {row_at(layout.state + n).replace('w[', 'block[')}" for n in range(layout.variables)),
        "        task[i] = -1",
        f"        freed[meta[{FREE}]] = i",
        f"        meta[{FREE}] += 1",
        f"        meta[{DONE}] += 1",
        f"        meta[{WORK}] += steps[j]",
        "    elif task[i] >= 0:",
        f"        earliest = min(earliest, birth[i] + meta[{LIMIT}])",
        f"meta[{DEADLINE}] = earliest",
    ]
