"""Text of the fused loop of first passages: distances, the bridge, exit points, the queue of trajectories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ._code import Code
from ._codegen import load_module
from ._kernels.langevin import ACTIVE, BASE, DEADLINE, DONE, ESCAPED, FAILED, FREE, STEP, STRIDE, UNFINISHED
from ._kernels.rng import LANES
from ._schemes import Shape, Step
from ._step_text import (
    PANEL,
    Fused,
    Layout,
    copy_lines,
    emit_codes,
    indent,
    normal_lines,
    put_back_call,
    put_back_function,
    row_at,
    stable_lines,
    step_lines,
    tuple_of,
)  # fmt: skip
from ._walls import clip_lines, outside_source, wall_names, wrap_lines

__all__ = ["EscapeLayout", "draw_lines", "escape_kernels", "lane_lines", "resolve_text", "start_lines"]


@dataclass(frozen=True)
class EscapeLayout(Layout):
    """Rows of the escape kernel after those of the step: old state, values of g, a random word, and the event mark."""

    faces: int = 1

    @property
    def old(self) -> int:
        return self.extra

    @property
    def g(self) -> int:
        return self.old + self.variables

    @property
    def word(self) -> int:
        return self.g + self.faces

    @property
    def mark(self) -> int:
        return self.word + 1

    @property
    def rows(self) -> int:
        return self.mark + 1


def escape_kernels(step: Step, faces: Code, slopes: Code, bridge: bool) -> Fused:
    """The kernel ``escape``: first time at which one of the outputs of ``faces`` is >= 0, lanes refilled from a queue.

    ``slopes`` is the Jacobian of ``faces``, which may act on all state variables or on the first ``d``. With ``bridge`` a step may
    also cross and come back: given both ends, the path on the way is a Brownian bridge, which meets a plane at distances -g0
    and -g1 with probability exp(-2 g0 g1/s^2), s^2 = 2 n.D n dt (with D and the normal n = grad g taken at the start of the
    step). Each face gets its own test; one without noise across, n.D n = 0, is crossed where the straight line between the ends
    of the step crosses it. One comparison per lane and step with a bound of -log u settles nearly all steps; the
    exact decision, the time inside the step and the exit point are left to scalar code.
    """
    layout = EscapeLayout(step.variables, step.draws, step.shape.stables, step.shape.m > 0, faces.n_out)
    source, namespace, cacheable = emit_codes({"drift": step.drift, "factor": step.factor, "faces": faces, "slopes": slopes})
    text = f"{source}\nLOW = np.uint64(0xFFFFFFFF)\n\n" + put_back_function(step) + resolve_text(layout, step, faces.dim, bridge)
    text += _escape_text(layout, step, faces, slopes, bridge)
    return Fused(load_module(text, namespace, cacheable=cacheable, label=f"escape_{step.scheme.name}_{step.shape.d}d"), layout)


def start_lines(layout: EscapeLayout, dim: int, index: str, stride: str, more: Sequence[str] = ()) -> list[str]:
    """Free lanes take the next trajectories, whose distances g are put in place; then no free lane is among those in use."""

    def row(number: int) -> str:
        return row_at(number).replace("w[", "block[")

    return [
        f"waiting = meta[{FREE}]",
        f"start_lanes(block, {index}, birth, freed, meta, starts, {stride}, meta[{BASE}], np.int64({layout.variables}))",
        f"for n in range(meta[{FREE}], waiting):",
        "    i = freed[n]",
        f"    g = faces(({''.join(f'{row(layout.state + j)}, ' for j in range(dim))}), r)",
        *(f"    {row(layout.g + f)} = g[{f}]" for f in range(layout.faces)),
        *("    " + line for line in more),
        f"close_ranks(block, {index}, birth, meta, np.int64({layout.rows}))",
    ]


def _wall_lines(layout: EscapeLayout, step: Step, dim: int, bridge: bool) -> list[str]:
    """Lines of ``resolve`` for a step that ended beyond a wall; the lane gets the state that was put back.

    With the bridge the path is continuous: it has left where it met a wall at a point with g >= 0 (the crossing is then that of the
    unreflected step), else it goes on from the end that was put back. Without, the step is a jump: it has left if it lands at
    g >= 0, and a jump to g < 0 is put back.
    """
    v, F, sides, shown = layout.variables, layout.faces, step.shape.sides, tuple_of("y", dim)
    names = ", ".join(wall_names(sides))
    beyond = {name: " or ".join(f"not {name}[{f}] < 0.0" for f in range(F)) for name in ("gw", "g2")}
    periodic = [i for i, pair in enumerate(sides) if pair[0] == "periodic"]
    back = [
        *(f"{row_at(layout.state + i)} = z[{i}]" for i in range(v)),
        f"g2 = faces(({''.join(f'z[{i}], ' for i in range(dim))}), r)",
        *(f"{row_at(layout.g + f)} = g2[{f}]" for f in range(F)),
    ]
    lines = [f"({names},) = walls", f"if {outside_source(sides, [f'y{i}' for i in range(v)])}:"]
    inner = [f"z = {put_back_call(step, 'y')}", *back]
    if not bridge:
        inner += [*wrap_lines(sides, "y"), f"gw = faces({shown}, r)", f"if {beyond['gw']}:", f"    return {ESCAPED}, 1.0, {shown}"]
        inner += [f"y{i} = z[{i}]" for i in range(v)]
        return [*lines, *("    " + line for line in inner)]
    inner += [*(f"e{i} = y{i}" for i in range(v)), *clip_lines(sides, "e")]
    inner += [f"gw = faces({tuple_of('e', dim)}, r)", f"met = {beyond['gw']}", f"g2 = faces({shown}, r)"]
    inner += [f"if met and not ({beyond['g2']}):", f"    return {ESCAPED}, 1.0, {tuple_of('e', dim)}"]
    for i in periodic:  # the seam is met from both sides, and a bridge to its other side would go round
        inner += [
            f"if not met and not ((low{i} <= y{i}) & (y{i} <= high{i})):",
            f"    e{i} = low{i} + high{i} - e{i}",
            f"    gw = faces({tuple_of('e', dim)}, r)",
            f"    if {beyond['gw']}:",
            f"        return {ESCAPED}, 1.0, {tuple_of('e', dim)}",
        ]
    inner += ["if not met:", *(f"    y{i} = z[{i}]" for i in range(v))]
    if periodic:
        far = " or ".join(f"abs(y{i} - x{i}) > 0.5*(high{i} - low{i})" for i in periodic)
        inner += [f"    if {far}:", f"        g2 = faces({shown}, r)", f"        if {beyond['g2']}:"]
        inner += [f"            return {ESCAPED}, 1.0, {shown}", f"        return {UNFINISHED}, 1.0, {shown}"]
    return [*lines, *("    " + line for line in inner)]


def resolve_text(layout: EscapeLayout, step: Step, dim: int, bridge: bool) -> str:
    """Scalar function ``resolve``: (status, fraction of the step, exit point) of a lane whose step was marked."""
    v, F, d = layout.variables, layout.faces, step.shape.d
    ends = [f"x{i} = {row_at(layout.old + i)}" for i in range(v)] + [f"y{i} = {row_at(layout.state + i)}" for i in range(v)]
    failed = " or ".join(f"not is_finite(y{i})" for i in range(v))
    lines = [
        *ends,
        f"if {failed}:",
        f"    return {FAILED}, 1.0, {tuple_of('y', dim)}",
        *(_wall_lines(layout, step, dim, bridge) if step.put_back else []),
        f"g1 = faces({tuple_of('y', dim)}, r)",
    ]
    if not bridge:
        beyond = " or ".join(f"not g1[{f}] < 0.0" for f in range(F))
        end = tuple_of("y", dim)
        lines += [f"if {beyond}:", f"    return {ESCAPED}, 1.0, {end}", f"return {UNFINISHED}, 1.0, {end}"]
        return "@part\ndef resolve(w, i, shift, h, q, r, t, walls):\n" + indent(lines, 1) + "\n"
    lines += [
        f"g0 = faces({tuple_of('x', dim)}, r)",
        f"t0 = slopes({tuple_of('x', dim)}, t)",
        f"c = factor({tuple_of('x', d)}, q)",
    ]
    for f in range(F):
        lines += _variance_lines(step.shape, f, "t0")
        lines.append(f"e{f} = 1.0 if not g1[{f}] < 0.0 else exp(-2.0*g0[{f}]*g1[{f}]/s{f}) if s{f} > 0.0 else 0.0")
    lines += [
        "keep = " + "*".join(f"(1.0 - e{f})" for f in range(F)),
        f"u = (float((as_bits({row_at(layout.word)}) >> shift) & LOW) + lane_uniform(w, i))*{2.0**-32!r}",
        "if u > 1.0 - keep:",
        f"    return {UNFINISHED}, 1.0, {tuple_of('y', dim)}",
        "best = 2.0",
        "face = -1",
    ]
    for f in range(F):  # which faces were met, given that one was at least; the earliest counts
        rest = "*".join(f"(1.0 - e{j})" for j in range(f, F))
        lines += [
            f"chance = e{f} if face >= 0 else e{f}/(1.0 - {rest}) if e{f} > 0.0 else 0.0",
            "if lane_uniform(w, i) <= chance:" if f < F - 1 else "if lane_uniform(w, i) <= chance or face < 0:",
            "    z0, z1 = lane_normals(w, i)",
            f"    fraction = bridge_fraction(-g0[{f}], abs(g1[{f}]), s{f}, z0, lane_uniform(w, i))",
            "    if fraction < best:",
            f"        best, face = fraction, {f}",
        ]
    lines += _exit_lines(layout, step, dim)
    return f"@part\ndef resolve(w, i, shift, h, q, r, t, walls):\n{indent(lines, 1)}\n"


def _variance_lines(shape: Shape, f: int, slopes: str) -> list[str]:
    """s_f = h |B^T n|^2, the variance of g in one step."""
    d, m, zeros, lines = shape.d, shape.m, shape.zeros, []
    for k in range(m):
        terms = [f"{slopes}[{f * d + i}]*c[{i * m + k}]" for i in range(d) if i * m + k not in zeros]
        lines.append(f"a{k} = {' + '.join(terms) or '0.0'}")
    return [*lines, f"s{f} = h*({' + '.join(f'a{k}*a{k}' for k in range(m))})"]


def _exit_lines(layout: EscapeLayout, step: Step, dim: int) -> list[str]:
    """Exit point: the bridge at the crossing time, moved along D n onto the surface (exact for a plane, Newton else); along n
    where there is no noise across it.

    A crossing beyond a wall, which the path never passes, is none.
    """
    d, m, F = step.shape.d, step.shape.m, layout.faces
    pick = [f"n{i} = {' + '.join(f't0[{f * d + i}]*(face == {f})' for f in range(F))}" for i in range(d)]
    spread = [f"z{2 * j}, z{2 * j + 1} = lane_normals(w, i)" for j in range((m + 1) // 2)]
    cross = [f"a{k} = {' + '.join(f'n{i}*c[{i * m + k}]' for i in range(d))}" for k in range(m)]
    along = [f"w{i} = {' + '.join(f'c[{i * m + k}]*a{k}' for k in range(m))}" for i in range(d)]
    # no noise across: B^T n = 0, so that D n is no direction
    along += [
        f"still = {' + '.join(f'a{k}*a{k}' for k in range(m))} == 0.0",
        *(f"w{i} = n{i} if still else w{i}" for i in range(d)),
    ]
    noise = [f"e{i} = x{i} + pull*(y{i} - x{i}) + wide*({' + '.join(f'c[{i * m + k}]*z{k}' for k in range(m))})" for i in range(d)]
    project = [
        "for turn in range(30):",
        f"    g1 = faces({tuple_of('e', dim)}, r)",
        f"    gap = {' + '.join(f'g1[{f}]*(face == {f})' for f in range(F))}",
        f"    t1 = slopes({tuple_of('e', dim)}, t)",
        "    slope = " + " + ".join(f"w{i}*({' + '.join(f't1[{f * d + i}]*(face == {f})' for f in range(F))})" for i in range(d)),
        "    move = gap/slope",
        "    if not is_finite(move):",
        "        break",
        *(f"    e{i} -= move*w{i}" for i in range(d)),
        f"    if abs(gap) <= 1e-14*(abs(slope) + {' + '.join(f'abs(e{i}*w{i})' for i in range(d))}):",
        "        break",
    ]
    inside = " and ".join(f"(face == {f} or g1[{f}] <= 0.0)" for f in range(F))
    attempt = (
        [
            "for attempt in range(100):  # at a corner: not beyond a face that was not met before; nearer to x at each attempt",
            *("    " + line for line in [*spread, *noise, *project]),
            f"    g1 = faces({tuple_of('e', dim)}, r)",
            f"    if {inside}:",
            "        break",
            "    wide *= 0.95",
            "    pull *= 0.95",
        ]
        if F > 1
        else [*spread, *noise, *project]
    )
    wide = "wide = sqrt(h*best*(1.0 - best)) if best < 1.0 else 0.0"
    walls, sides = [], tuple((a, b) if a != "periodic" else (None, None) for a, b in step.shape.sides)
    if any(map(any, sides)):
        free = " and ".join(f"gw[{f}] < 0.0" for f in range(F))
        walls = [f"if {outside_source(sides, [f'e{i}' for i in range(d)])}:", *(f"    w{i} = e{i}" for i in range(d))]
        walls += [*("    " + line for line in clip_lines(sides, "w")), f"    gw = faces({tuple_of('w', dim)}, r)"]
        walls += [f"    if {free}:", f"        return {UNFINISHED}, 1.0, {tuple_of('y', dim)}"]
    walls += wrap_lines(step.shape.sides, "e")
    return [*pick, *cross, *along, "pull = best", wide, *attempt, *walls, f"return {ESCAPED}, best, {tuple_of('e', dim)}"]


def lane_lines(
    layout: EscapeLayout, step: Step, faces: Code, bridge: bool, more: Sequence[str] = (), calm: str = ""
) -> list[str]:  # fmt: skip
    """One step of a lane; `event` is one unless nothing can have happened in it: `calm` is what else must hold, made by `more`."""
    v, F = layout.variables, layout.faces
    lane = [*step_lines(layout, step), f"g = faces({tuple_of('y', faces.dim)}, r)"]
    if bridge:
        lane += [
            f"t0 = slopes({tuple_of('x', faces.dim)}, t)",
            f"bound = crossing_threshold((as_bits({row_at(layout.word)}) >> shift) & LOW) + {_log_count(F)!r}",
        ]
        for f in range(F):
            lane += _variance_lines(step.shape, f, "t0")
        clear = " & ".join(f"(2.0*{row_at(layout.g + f)}*g[{f}] > bound*s{f} + bad)" for f in range(F))
    else:
        clear = " & ".join(f"(g[{f}] + bad < 0.0)" for f in range(F))
    # g may be blind to a variable that blew up: 0 * inf and 0 * NaN are NaN, which fails every comparison
    inside = f" & ({outside_source(step.shape.sides, [f'y{i}' for i in range(v)])[4:]})" if step.put_back else ""
    return [
        *lane,
        f"bad = 0.0*({' + '.join(f'y{i}' for i in range(v))})",
        *more,
        f"event = 0.0 if {clear}{inside}{calm} else 1.0",
        f"{row_at(layout.mark)} = event",
        "events += event",
        *(f"{row_at(layout.old + i)} = x{i}" for i in range(v)),
        *(f"{row_at(layout.state + i)} = y{i}" for i in range(v)),
        *(f"{row_at(layout.g + f)} = g[{f}]" for f in range(F)),
    ]


def draw_lines(layout: EscapeLayout, bridge: bool) -> tuple[list[str], list[str], list[str]]:
    """Lines that draw for a step: at even steps of the queue, at odd ones, at every one."""
    m = layout.noises
    panels = ["for s in range(0, active, 64):", "    w = block[s:]"]
    pieces = [f"    fill_words(w, np.int64({layout.word * LANES}), 64)"] if bridge else []
    fills = ["    " + line for line in normal_lines(layout, PANEL)]
    even = [*panels, *pieces, *fills] if m % 2 else [*panels, *pieces] if pieces else ["pass"]
    odd = [*panels, "    for i in range(64):", *("        " + line for line in copy_lines(layout))] if m % 2 else ["pass"]
    every = [] if m % 2 else fills
    every += ["    " + line for line in stable_lines(layout, PANEL)]
    return even, odd, [*panels, *every] if every else []


def _escape_text(layout: EscapeLayout, step: Step, faces: Code, slopes: Code, bridge: bool) -> str:
    dim, v = faces.dim, layout.variables
    even, odd, every = draw_lines(layout, bridge)
    walls = [f"walls = ({''.join(f'{name}, ' for name in wall_names(step.shape.sides))})"]
    per_step = [*step.unpack_step(), *walls] if step.scheduled else []
    return (
        "@kernel\ndef escape(block, index, birth, freed, meta, starts, constants, drift_p, factor_p, faces_p, slopes_p, clock,\n"
        "           times, status, points, until):\n"
        + indent(
            [
                *step.unpack(),
                f"r = {faces.unpack_source('faces_p')}",
                f"t = {slopes.unpack_source('slopes_p')}",
                *([f"first = meta[{STEP}]"] if step.scheduled else walls),
                f"while meta[{STEP}] < until:",
                f"    k = meta[{STEP}]",
                *("    " + line for line in per_step),
                f"    if k & 1 == 0 and meta[{FREE}] > 0:",
                *("        " + line for line in start_lines(layout, dim, "index", f"meta[{STRIDE}]")),
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
                *("            " + line for line in lane_lines(layout, step, faces, bridge)),
                "        if events == 0.0:",
                "            continue",
                "        for i in range(s, min(s + 64, active)):",
                f"            if {row_at(layout.mark).replace('w[', 'block[')} != 0.0 and index[i] >= 0:",
                "                kind, fraction, y = resolve(block, i, shift, h, q, r, t, walls)",
                f"                if kind != {UNFINISHED}:",
                "                    status[index[i]] = kind",
                "                    times[index[i]] = (k - birth[i] + fraction)*clock",
                *_store_points(dim),
                *(
                    f"                    {row_at(layout.state + j)} = {row_at(layout.old + j)}".replace("w[", "block[")
                    for j in range(v)
                ),
                "                    index[i] = -1",
                f"                    freed[meta[{FREE}]] = i",
                f"                    meta[{FREE}] += 1",
                f"                    meta[{DONE}] += 1",
                f"    meta[{STEP}] = k + 1",
                f"    if k + 1 >= meta[{DEADLINE}]:",
                "        end_late(index, birth, freed, meta, status, times, clock, k + 1)",
            ],
            1,
        )
    )


def _store_points(dim: int) -> list[str]:
    return [f"                    points[index[i], {j}] = y[{j}]" for j in range(dim)]


def _log_count(faces: int) -> float:
    """Union bound: if any of F faces was crossed with total probability above u, one has more than u / F."""
    return math.log(faces)
