"""Text of the fused step loops: a model's scalar code, a scheme and an observer in one loop over lanes.

A block is one flat buffer (float64; float32 in single precision) of ``LANES`` trajectories in structure-of-arrays layout: the
generator's four words, the state variables, the normals of the step, then what the observer keeps, each ``LANES`` numbers long at
a constant offset. The loop over lanes is innermost, with a constant trip count, so that it becomes SIMD code wherever the model is
straight-line arithmetic; the normals have a loop of their own, which is SIMD code always. What a lane computes depends on its
trajectory only.

Normals come in pairs. With an odd number m of noises, the 2 m normals of two steps are drawn together at every even step of the
trajectory, so that a pair never leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._code import Code
from ._codegen import load_module
from ._kernels.langevin import ACTIVE, BASE, DEADLINE, DONE, ESCAPED, FAILED, FREE, STEP, STRIDE, UNFINISHED
from ._kernels.rng import LANES
from ._schemes import Shape, Step
from ._walls import clip_lines, outside_source, put_back_text, wall_names, wrap_lines

__all__ = ["PANEL", "Fused", "Layout", "escape_kernels", "linear_kernels", "path_kernels"]

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


def _indent(lines: Sequence[str], depth: int) -> str:
    return "".join("    " * depth + line + "\n" for line in lines)


def _tuple(prefix: str, count: int) -> str:
    return "(" + "".join(f"{prefix}{i}, " for i in range(count)) + ")"


def _row(row: int, lane: str = "i") -> str:
    return f"w[{row * LANES} + {lane}]"


def _emit(named: dict[str, Code]) -> tuple[str, dict[str, Any], bool]:
    sources: list[str] = []
    namespace: dict[str, Any] = {}
    for name, code in named.items():
        source, extra = code.emit(name)
        sources.append(source)
        namespace |= extra
    return "\n".join(sources), namespace, all(code.cacheable for code in named.values())


def _step_lines(layout: Layout, step: Step) -> list[str]:
    """One lane, one step: the new state in y0, y1, ..."""
    return [
        *(f"x{i} = {_row(layout.state + i)}" for i in range(layout.variables)),
        *(f"z{k} = {_row(layout.normals + k)}" for k in range(layout.noises)),
        *(f"j{k} = {_row(layout.stable + k)}" for k in range(layout.stables)),
        *step.lines(),
    ]


def _normal_lines(layout: Layout, lanes: int) -> list[str]:
    """Statements that put the step's normals in place; k is the step of the trajectory (its parity is what matters)."""
    m = layout.noises
    pairs = m if m % 2 else m // 2
    return [f"fill_normals(w, np.int64({(layout.normals + 2 * j) * LANES}), {lanes})" for j in range(pairs)]


def _stable_lines(layout: Layout, lanes: int) -> list[str]:
    """Statements that draw the stable variates of the step; each takes two words of its trajectory."""
    fill = "fill_spread" if layout.spread else "fill_stable"
    return [f"{fill}(w, np.int64({(layout.stable + j) * LANES}), {lanes}, alpha)" for j in range(layout.stables)]


def _copy_lines(layout: Layout) -> list[str]:
    m = layout.noises
    return [f"{_row(layout.normals + k)} = {_row(layout.normals + m + k)}" for k in range(m)]


def _put_back_function(step: Step) -> str:
    return put_back_text(step.shape.sides, step.variables, step.shape.m, step.conormal) if step.put_back else ""


def _put_back_call(step: Step, name: str) -> str:
    walls = "".join(f"{wall}, " for wall in wall_names(step.shape.sides))
    return f"put_back({_tuple(name, step.variables)}, ({walls}), q)"


def _put_back_lines(layout: Layout, step: Step) -> list[str]:
    """States beyond a wall are put back. They are few: sixteen lanes at a time are looked at in SIMD code, mostly left alone."""
    rows = [_row(layout.state + i).replace("w[", "u[") for i in range(layout.variables)]
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
        f"                y = {_put_back_call(step, 'y')}",
        *(f"                {row} = y[{i}]" for i, row in enumerate(rows)),
    ]


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
    source, namespace, cacheable = _emit({"drift": step.drift, "factor": step.factor})
    lines = _step_lines(layout, step)
    store = [f"{_row(layout.state + i)} = y{i}" for i in range(layout.variables)]
    normals = _indent(_normal_lines(layout, LANES), 3)
    if layout.noises % 2:
        copy = _indent([f"for i in range({LANES}):"], 4) + _indent(_copy_lines(layout), 5)
        normals = f"            if k & 1 == 0:\n{_indent(_normal_lines(layout, LANES), 4)}            else:\n{copy}"
    normals += _indent(_stable_lines(layout, LANES), 3)
    loop = f"{normals}            for i in range({LANES}):\n{_indent([*lines, *store], 4)}"
    if step.put_back:
        loop += _indent(_put_back_lines(layout, step), 3)

    def kernel(name: str, arguments: str, setup: Sequence[str], observer: str) -> str:
        return (
            f"@kernel\ndef {name}(blocks, first, last, constants, drift_p, factor_p{arguments}):\n"
            f"{_indent([*step.unpack(), *setup], 1)}"
            f"    for block in range(blocks.shape[0]):\n        w = blocks[block]\n"
            f"        for k in range(first, last):\n{_indent(step.unpack_step(), 3)}{loop}{observer}\n\n"
        )

    text = source + "\n" + _put_back_function(step)
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
    lines = [f"u{i} = {_row(layout.state + i)} - {_row(shift + i)}" for i in range(v)]
    lines += [f"{_row(total + i)} += u{i}" for i in range(v)]
    pairs = [(i, j) for i in range(v) for j in range(i + 1)]
    lines += [f"{_row(products + n)} += u{i}*u{j}" for n, (i, j) in enumerate(pairs)]
    head = ["if (k + 1 - start) % every == 0:", f"    for i in range({LANES}):"]
    return _indent(head, 3) + _indent(lines, 5)


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
    return _indent(lines, 3)


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
    lines = [f"s{a} = ({_row(layout.state + axis)} - low[{a}])*scale[{a}]" for a, axis in enumerate(axes)]
    for a in (a for a, wrap in enumerate(wraps) if wrap):
        n = f"counts.shape[{a}]"
        lines += [f"s{a} = s{a} - {n}*np.floor(s{a}/{n})", f"s{a} = 0.0 if s{a} == {n} else s{a}"]
    lines += [f"s{a} = find_cell(s{a}, edges[{a}], counts.shape[{a}])" for a, bent in enumerate(graded) if bent]
    return (
        _indent(
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


# ---- first passage --------------------------------------------------------------------------------------------------


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
    source, namespace, cacheable = _emit({"drift": step.drift, "factor": step.factor, "faces": faces, "slopes": slopes})
    text = f"{source}\nLOW = np.uint64(0xFFFFFFFF)\n\n" + _put_back_function(step) + _resolve_text(layout, step, faces.dim, bridge)
    text += _escape_text(layout, step, faces, slopes, bridge)
    return Fused(load_module(text, namespace, cacheable=cacheable, label=f"escape_{step.scheme.name}_{step.shape.d}d"), layout)


def _start_lines(layout: EscapeLayout, dim: int, index: str, stride: str, more: Sequence[str] = ()) -> list[str]:
    """Free lanes take the next trajectories, whose distances g are put in place; then no free lane is among those in use."""

    def row(number: int) -> str:
        return _row(number).replace("w[", "block[")

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
    v, F, sides, shown = layout.variables, layout.faces, step.shape.sides, _tuple("y", dim)
    names = ", ".join(wall_names(sides))
    beyond = {name: " or ".join(f"not {name}[{f}] < 0.0" for f in range(F)) for name in ("gw", "g2")}
    periodic = [i for i, pair in enumerate(sides) if pair[0] == "periodic"]
    back = [
        *(f"{_row(layout.state + i)} = z[{i}]" for i in range(v)),
        f"g2 = faces(({''.join(f'z[{i}], ' for i in range(dim))}), r)",
        *(f"{_row(layout.g + f)} = g2[{f}]" for f in range(F)),
    ]
    lines = [f"({names},) = walls", f"if {outside_source(sides, [f'y{i}' for i in range(v)])}:"]
    inner = [f"z = {_put_back_call(step, 'y')}", *back]
    if not bridge:
        inner += [*wrap_lines(sides, "y"), f"gw = faces({shown}, r)", f"if {beyond['gw']}:", f"    return {ESCAPED}, 1.0, {shown}"]
        inner += [f"y{i} = z[{i}]" for i in range(v)]
        return [*lines, *("    " + line for line in inner)]
    inner += [*(f"e{i} = y{i}" for i in range(v)), *clip_lines(sides, "e")]
    inner += [f"gw = faces({_tuple('e', dim)}, r)", f"met = {beyond['gw']}", f"g2 = faces({shown}, r)"]
    inner += [f"if met and not ({beyond['g2']}):", f"    return {ESCAPED}, 1.0, {_tuple('e', dim)}"]
    for i in periodic:  # the seam is met from both sides, and a bridge to its other side would go round
        inner += [
            f"if not met and not ((low{i} <= y{i}) & (y{i} <= high{i})):",
            f"    e{i} = low{i} + high{i} - e{i}",
            f"    gw = faces({_tuple('e', dim)}, r)",
            f"    if {beyond['gw']}:",
            f"        return {ESCAPED}, 1.0, {_tuple('e', dim)}",
        ]
    inner += ["if not met:", *(f"    y{i} = z[{i}]" for i in range(v))]
    if periodic:
        far = " or ".join(f"abs(y{i} - x{i}) > 0.5*(high{i} - low{i})" for i in periodic)
        inner += [f"    if {far}:", f"        g2 = faces({shown}, r)", f"        if {beyond['g2']}:"]
        inner += [f"            return {ESCAPED}, 1.0, {shown}", f"        return {UNFINISHED}, 1.0, {shown}"]
    return [*lines, *("    " + line for line in inner)]


def _resolve_text(layout: EscapeLayout, step: Step, dim: int, bridge: bool) -> str:
    """Scalar function ``resolve``: (status, fraction of the step, exit point) of a lane whose step was marked."""
    v, F, d = layout.variables, layout.faces, step.shape.d
    ends = [f"x{i} = {_row(layout.old + i)}" for i in range(v)] + [f"y{i} = {_row(layout.state + i)}" for i in range(v)]
    failed = " or ".join(f"not is_finite(y{i})" for i in range(v))
    lines = [
        *ends,
        f"if {failed}:",
        f"    return {FAILED}, 1.0, {_tuple('y', dim)}",
        *(_wall_lines(layout, step, dim, bridge) if step.put_back else []),
        f"g1 = faces({_tuple('y', dim)}, r)",
    ]
    if not bridge:
        beyond = " or ".join(f"not g1[{f}] < 0.0" for f in range(F))
        end = _tuple("y", dim)
        lines += [f"if {beyond}:", f"    return {ESCAPED}, 1.0, {end}", f"return {UNFINISHED}, 1.0, {end}"]
        return "@part\ndef resolve(w, i, shift, h, q, r, t, walls):\n" + _indent(lines, 1) + "\n"
    lines += [
        f"g0 = faces({_tuple('x', dim)}, r)",
        f"t0 = slopes({_tuple('x', dim)}, t)",
        f"c = factor({_tuple('x', d)}, q)",
    ]
    for f in range(F):
        lines += _variance_lines(step.shape, f, "t0")
        lines.append(f"e{f} = 1.0 if not g1[{f}] < 0.0 else exp(-2.0*g0[{f}]*g1[{f}]/s{f}) if s{f} > 0.0 else 0.0")
    lines += [
        "keep = " + "*".join(f"(1.0 - e{f})" for f in range(F)),
        f"u = (float((as_bits({_row(layout.word)}) >> shift) & LOW) + lane_uniform(w, i))*{2.0**-32!r}",
        "if u > 1.0 - keep:",
        f"    return {UNFINISHED}, 1.0, {_tuple('y', dim)}",
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
    return f"@part\ndef resolve(w, i, shift, h, q, r, t, walls):\n{_indent(lines, 1)}\n"


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
        f"    g1 = faces({_tuple('e', dim)}, r)",
        f"    gap = {' + '.join(f'g1[{f}]*(face == {f})' for f in range(F))}",
        f"    t1 = slopes({_tuple('e', dim)}, t)",
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
            f"    g1 = faces({_tuple('e', dim)}, r)",
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
        walls += [*("    " + line for line in clip_lines(sides, "w")), f"    gw = faces({_tuple('w', dim)}, r)"]
        walls += [f"    if {free}:", f"        return {UNFINISHED}, 1.0, {_tuple('y', dim)}"]
    walls += wrap_lines(step.shape.sides, "e")
    return [*pick, *cross, *along, "pull = best", wide, *attempt, *walls, f"return {ESCAPED}, best, {_tuple('e', dim)}"]


def _escape_text(layout: EscapeLayout, step: Step, faces: Code, slopes: Code, bridge: bool) -> str:
    dim, v, m, F = faces.dim, layout.variables, layout.noises, layout.faces
    lane = [*_step_lines(layout, step), f"g = faces({_tuple('y', dim)}, r)"]
    if bridge:
        lane += [
            f"t0 = slopes({_tuple('x', dim)}, t)",
            f"bound = crossing_threshold((as_bits({_row(layout.word)}) >> shift) & LOW) + {_log_count(F)!r}",
        ]
        for f in range(F):
            lane += _variance_lines(step.shape, f, "t0")
        clear = " & ".join(f"(2.0*{_row(layout.g + f)}*g[{f}] > bound*s{f} + bad)" for f in range(F))
    else:
        clear = " & ".join(f"(g[{f}] + bad < 0.0)" for f in range(F))
    # g may be blind to a variable that blew up: 0 * inf and 0 * NaN are NaN, which fails every comparison
    inside = f" & ({outside_source(step.shape.sides, [f'y{i}' for i in range(v)])[4:]})" if step.put_back else ""
    lane.append(f"bad = 0.0*({' + '.join(f'y{i}' for i in range(v))})")
    lane += [
        f"event = 0.0 if {clear}{inside} else 1.0",
        f"{_row(layout.mark)} = event",
        "events += event",
        *(f"{_row(layout.old + i)} = x{i}" for i in range(v)),
        *(f"{_row(layout.state + i)} = y{i}" for i in range(v)),
        *(f"{_row(layout.g + f)} = g[{f}]" for f in range(F)),
    ]
    panels = ["for s in range(0, active, 64):", "    w = block[s:]"]
    pieces = [f"    fill_words(w, np.int64({layout.word * LANES}), 64)"] if bridge else []
    fills = ["    " + line for line in _normal_lines(layout, PANEL)]
    even = [*panels, *pieces, *fills] if m % 2 else [*panels, *pieces] if pieces else ["pass"]
    odd = [*panels, "    for i in range(64):", *("        " + line for line in _copy_lines(layout))] if m % 2 else ["pass"]
    every = [] if m % 2 else fills
    every += ["    " + line for line in _stable_lines(layout, PANEL)]
    every = [*panels, *every] if every else []
    walls = [f"walls = ({''.join(f'{name}, ' for name in wall_names(step.shape.sides))})"]
    per_step = [*step.unpack_step(), *walls] if step.scheduled else []
    return (
        "@kernel\ndef escape(block, index, birth, freed, meta, starts, constants, drift_p, factor_p, faces_p, slopes_p, clock,\n"
        "           times, status, points, until):\n"
        + _indent(
            [
                *step.unpack(),
                f"r = {faces.unpack_source('faces_p')}",
                f"t = {slopes.unpack_source('slopes_p')}",
                *([f"first = meta[{STEP}]"] if step.scheduled else walls),
                f"while meta[{STEP}] < until:",
                f"    k = meta[{STEP}]",
                *("    " + line for line in per_step),
                f"    if k & 1 == 0 and meta[{FREE}] > 0:",
                *("        " + line for line in _start_lines(layout, dim, "index", f"meta[{STRIDE}]")),
                f"    active = meta[{ACTIVE}]",
                "    if active == 0:",
                "        break",
                "    shift = np.uint64(32) if k & 1 == 0 else np.uint64(0)",
                "    if k & 1 == 0:",
                *("        " + line for line in even),
                "    else:",
                *("        " + line for line in odd),
                *("    " + line for line in every),
                *("    " + line for line in panels),
                "        events = 0.0",
                "        for i in range(64):",
                *("            " + line for line in lane),
                "        if events == 0.0:",
                "            continue",
                "        for i in range(s, min(s + 64, active)):",
                f"            if {_row(layout.mark).replace('w[', 'block[')} != 0.0 and index[i] >= 0:",
                "                kind, fraction, y = resolve(block, i, shift, h, q, r, t, walls)",
                f"                if kind != {UNFINISHED}:",
                "                    status[index[i]] = kind",
                "                    times[index[i]] = (k - birth[i] + fraction)*clock",
                *_store_points(dim),
                *(
                    f"                    {_row(layout.state + j)} = {_row(layout.old + j)}".replace("w[", "block[")
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
