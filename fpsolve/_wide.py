"""Text of the wide kernels: models of many dimensions advance in panels of 64 lanes, a row of a panel per number of the state.

Drift and noise are panel functions (:mod:`fpsolve._rows`, :mod:`fpsolve._wide_noise`), and a scheme is a short program of them and
of arithmetic on whole vectors. What a lane computes depends on its trajectory only; normals are drawn and used in the order of the
fused kernels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._codegen import load_module
from ._kernels.langevin import BASE, CENSORED, DONE, ESCAPED, FAILED, LIMIT, NEXT, SEED, STEP, STOP, STRIDE
from ._kernels.rng import LANES
from ._rows import Rows
from ._step_text import indent
from ._wide_noise import NoiseRows

__all__ = ["PROGRAMS", "Wide", "WideLayout", "wide_escape", "wide_paths"]

Array = NDArray[np.float64]

#: Schemes as programs: x, v, y are the state, drift and noise take a position, constants are by name.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "euler": ("b = drift(x)", "n = noise(x)", "x += h*b + root*n"),
    "tamed": ("b = drift(x)", "n = noise(x)", "tame b", "x += h*b + root*n"),
    "heun": ("b = drift(x)", "n = noise(x)", "u = x + h*b + root*n", "f = drift(u)", "x += 0.5*h*(b + f) + root*n"),
    "sra15": (
        "b = drift(x)", "n = noise(x)", "o = noise(x)", "u = x + 0.75*(h*b + root*(n + o*0.57735026918962576451))", "f = drift(u)",
        "x += h*(b + 2.0*f)/3.0 + root*n",
    ),
    "heavy_ball": ("b = drift(x)", "n = noise(x)", "v = mu*v - b - inverse_root*n", "x -= h*v"),
    "nesterov": ("b = drift(x)", "n = noise(x)", "v = mu*v - b - inverse_root*n", "x += h*b + root*n - h*mu*v"),
    "baoab": (
        "b = drift(x)", "v += kick*b", "x += half*v", "n = noise(x)", "v = decay*v + spread*n", "x += half*v", "b = drift(x)",
        "v += kick*b",
    ),
    "obabo": (
        "b = drift(x)", "n = noise(x)", "v = half_decay*v + half_spread*n + kick*b", "x += h*v", "b = drift(x)", "n = noise(x)",
        "v = half_decay*(v + kick*b) + half_spread*n",
    ),
    "gjf": (
        "b = drift(x)", "n = noise(x)", "u = y + kick*b + push*n", "x += length*u", "v = root_b*u", "b = drift(x)",
        "y = a*u + kick*b + push*n",
    ),
}  # fmt: skip
PROGRAMS |= {"weak2": PROGRAMS["heun"], "milstein": PROGRAMS["euler"]}  # they are, for additive noise
#: Schemes that need additive noise here.
ADDITIVE = ("heun", "weak2", "milstein", "sra15")
#: Steps on which a crossing is less likely than exp(-NEVER) are not looked at.
NEVER = 37.0


@dataclass(frozen=True)
class WideLayout:
    """Where things are in a panel, in rows of 64 lanes."""

    d: int
    variables: int
    normals: int  # per step
    vectors: tuple[str, ...]
    scratch: int
    extra: tuple[tuple[str, int], ...] = ()  # more named rows, for first passage

    @property
    def height(self) -> int:
        return self.at("t") + self.scratch + 1

    def at(self, name: str) -> int:
        """First row of what is called `name`."""
        D, row = -(-self.d // 4) * 4, self.variables
        for vector in self.vectors:
            if vector == name:
                return row
            row += D
        z = row
        row += self.normals * (1 + self.normals % 2) + 4
        for other, rows in self.extra:
            if other == name:
                return row
            row += rows
        return {"z": z, "t": row}[name]


@dataclass(frozen=True)
class Wide:
    """A generated module, its layout, and the packed parameters: drift and noise, then faces and slopes."""

    module: Any
    layout: WideLayout
    arguments: tuple[Array, ...]
    faces: int = 0


def _vectors(program: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in "bfnou" if any(re.search(rf"\b{name}\b", line) for line in program))


def _names(layout: WideLayout) -> list[str]:
    """Slices of the panel by name."""
    copies = layout.variables // layout.d
    lines = [f"{name} = panel[{64 * layout.d * k}:]" for k, name in enumerate("xvy"[:copies])]
    named = [*layout.vectors, "z", *(name for name, _ in layout.extra), "t"]
    return [*lines, *(f"{name} = panel[{64 * layout.at(name)}:]" for name in named)]


def _draw(m: int) -> list[str]:
    """Normals of step k into z; an odd number of them for two steps at once."""
    body = [
        f"for j in range(0, {m + m % 2 * m}, 2):",
        f"    fill_normals(words, np.int64({4 * LANES}), 64)",
        "    for i in range(64):",
    ]
    body += [f"        z[j*64 + i] = words[{4 * LANES} + i]", f"        z[(j + 1)*64 + i] = words[{5 * LANES} + i]"]
    if m % 2 == 0:
        return body
    return [
        "if k & 1 == 0:",
        *("    " + line for line in body),
        "else:",
        f"    for i in range({64 * m}):",
        f"        z[i] = z[{64 * m} + i]",
    ]


def _step(program: tuple[str, ...], d: int, m: int) -> list[str]:
    lines, drawn = [], 0
    for line in program:
        if line.startswith("tame"):
            lines += ["for i in range(64):", "    t[i] = 0.0", f"for k1 in range({d}):", "    for i in range(64):"]
            lines += ["        t[i] += b[k1*64 + i]*b[k1*64 + i]", f"for k1 in range({d}):", "    for i in range(64):"]
            lines += ["        b[k1*64 + i] /= 1.0 + h*sqrt(t[i])"]
        elif call := re.fullmatch(r"(\w) = (drift|noise)\((\w)\)", line):
            target, kind, at = call.groups()
            rows = f"z[{64 * m * drawn}:], {target}" if kind == "noise" else target
            drawn += kind == "noise"
            lines.append(f"{kind}_rows({at}, {kind}_p, {rows}, t)")
        else:
            lines += [f"for i in range({64 * d}):", "    " + re.sub(r"\b([xvybfnou])\b", r"\1[i]", line)]
    return lines


def _constants(names: tuple[str, ...], scheduled: bool) -> str:
    row = "k - first, " if scheduled else ""
    return f"{', '.join(names)}, = {', '.join(f'constants[{row}{i}]' for i in range(len(names)))},"


def _looped(source: str) -> str:
    """Loops around those over lanes (i) stay loops in machine code: written out they take many times as long to compile."""
    return re.sub(
        r"for (?!i\b)(\w+) in range\((0, )?(\d+)(, 4)?\):",
        lambda m: m[0] if int(m[3]) <= 4 else f"for {m[1]} in range({m[2] or ''}opaque({m[3]}){m[4] or ''}):",
        source,
    )


def _load(pieces: list[Rows | NoiseRows], text: str, label: str) -> Any:
    namespace = {key: value for piece in pieces for key, value in piece.namespace.items()}
    source = _looped("\n".join([*(piece.source for piece in pieces), text]))
    return load_module(source, namespace, cacheable=all(piece.cacheable for piece in pieces), label=label)


def wide_paths(
    name: str, d: int, variables: int, drift: Rows, noise: NoiseRows, constants: Mapping[str, float], scheduled: bool
) -> Wide:
    """The kernel ``advance(words, panels, first, last, constants, drift_p, noise_p)`` of a scheme."""
    program, m = PROGRAMS[name], noise.count
    M = m * sum("noise" in line for line in program)
    layout = WideLayout(d, variables, M, _vectors(program), max(drift.scratch, noise.scratch, 1))
    head = ["panel = panels[block]", "words = w[block*64:]", *_names(layout)]
    loop = [*([_constants(tuple(constants), True)] if scheduled else []), *_draw(M), *_step(program, d, m)]
    text = (
        "@kernel\ndef advance(w, panels, first, last, constants, drift_p, noise_p):\n"
        + indent([] if scheduled else [_constants(tuple(constants), False)], 1)
        + "    for block in range(panels.shape[0]):\n"
        + indent(head, 2)
        + "        for k in range(first, last):\n"
        + indent(loop, 3)
    )
    return Wide(_load([drift, noise], text, f"wide_{name}_{d}d"), layout, (drift.params, noise.params))


# ---- first passage --------------------------------------------------------------------------------------------------

#: Own entries of the integer array with which the kernel keeps its place between calls.
FRESH, START = 1, 4


def wide_escape(
    name: str, d: int, variables: int, drift: Rows, noise: NoiseRows, constants: Mapping[str, float], scheduled: bool,
    faces: Rows, slopes: Rows, count: int, dim: int, bridge: bool,
) -> Wide:  # fmt: skip
    """The kernel ``escape`` of one panel: first time at which one of `count` faces is >= 0; lanes are refilled from a queue.

    As the fused kernel, but that a step is looked at only where 2 g0 g1 is below 37 times a bound of the variance of g: all that is
    left out is less likely than 1e-16. `dim` is the dimension of the region: d, or all variables.
    """
    program, m = PROGRAMS[name], noise.count
    M, D, F = m * sum("noise" in line for line in program), -(-d // 4) * 4, count
    extra = [("g0", F), ("g1", F), ("bad", 1), ("mark", 1)]
    if bridge:
        extra += [
            ("old", d),
            ("slope", F * d),
            ("q", F),
            ("size", 1),
            ("image", m + 4),
            ("exits", d),
            ("jump", D),
            ("along", D),
            ("best", 4),
        ]
    scratch = max(drift.scratch, noise.scratch, faces.scratch, slopes.scratch, 1)
    layout = WideLayout(d, variables, M, _vectors(program), scratch, tuple(extra))
    step = [*([_constants(tuple(constants), True)] if scheduled else []), *_draw(M), *_step(program, d, m)]
    lines = [
        f"if meta[{NEXT}] < meta[{STOP}] and k & 1 == 0:",
        *("    " + line for line in _refill(variables)),
        f"if meta[{FRESH}] == 1:",
        "    faces_rows(x, faces_p, g0, t)",
        f"    meta[{FRESH}] = 0",
        "else:",
        f"    for i in range({64 * F}):",
        "        g0[i] = g1[i]",
        *([f"for i in range({64 * d}):", "    old[i] = x[i]"] if bridge else []),
        *step,
        "faces_rows(x, faces_p, g1, t)",
        "for i in range(64):",
        "    bad[i] = 0.0",
        f"for k1 in range({variables}):",
        "    for i in range(64):",
        "        bad[i] += 0.0*panel[k1*64 + i]",
        *_marks(F, d, bridge),
        *(["if near > 0:", *("    " + line for line in _bridge(F, d, m, dim))] if bridge else []),
        *_ends(dim),
    ]
    text = (
        f"FAILED, ESCAPED, CENSORED = {FAILED}, {ESCAPED}, {CENSORED}\n\n@kernel\n"
        "def escape(words, panel, index, birth, meta, starts, constants, drift_p, noise_p, faces_p, slopes_p, clock,\n"
        "           times, status, points, until):\n"
        + indent([*_names(layout), *([f"first = meta[{STEP}]"] if scheduled else [_constants(tuple(constants), False)])], 1)
        + f"    while meta[{STEP}] < until and meta[{DONE}] < meta[{STOP}] - meta[{START}]:\n        k = meta[{STEP}]\n"
        + indent(lines, 2)
        + f"        meta[{STEP}] = k + 1\n"
    )
    pieces: list[Rows | NoiseRows] = [drift, noise, faces, slopes]
    arguments = (drift.params, noise.params, faces.params, slopes.params)
    return Wide(_load(pieces, text, f"wide_escape_{name}_{d}d"), layout, arguments, F)


def _refill(variables: int) -> list[str]:
    """Free lanes take the next trajectories."""
    return [
        "for i in range(64):",
        f"    if index[i] < 0 and meta[{NEXT}] < meta[{STOP}]:",
        f"        index[i] = meta[{NEXT}]",
        "        birth[i] = k",
        f"        seed_lane(words, i, meta[{SEED}], meta[{BASE}] + index[i])",
        f"        row = index[i]*meta[{STRIDE}]",
        f"        for j1 in range({variables}):",
        "            panel[j1*64 + i] = starts[row, j1]",
        f"        meta[{NEXT}] += 1",
        f"        meta[{FRESH}] = 1",
    ]


def _marks(F: int, d: int, bridge: bool) -> list[str]:
    """mark: 0 goes on, 1 outside or perhaps crossed, 3 not finite."""
    lines = []
    if bridge:
        lines = ["slopes_rows(old, slopes_p, slope, t)", "bound_rows(old, noise_p, size, t)"]
        lines += [f"for i in range({64 * F}):", "    q[i] = 0.0", f"for f1 in range({F}):", f"    for k1 in range({d}):"]
        lines += [
            "        for i in range(64):",
            f"            q[f1*64 + i] += slope[(f1*{d} + k1)*64 + i]*slope[(f1*{d} + k1)*64 + i]",
        ]
    test = "not g1[f1*64 + i] < 0.0"
    if bridge:
        test += f" or 2.0*g0[f1*64 + i]*g1[f1*64 + i] <= {NEVER}*root*root*size[i]*q[f1*64 + i]"
    return [
        *lines,
        "near = 0",
        "for i in range(64):",
        "    mark[i] = 0.0",
        "    if index[i] < 0:",
        "        continue",
        "    if bad[i] != 0.0:",
        "        mark[i] = 3.0",
        "        continue",
        f"    for f1 in range({F}):",
        f"        if {test}:",
        "            mark[i] = 1.0",
        "            near += 1",
    ]


def _bridge(F: int, d: int, m: int, dim: int) -> list[str]:
    """Which of the marked lanes crossed, when (best) and through which face (best[64 + i]); then their exit points in exits."""
    decide = [
        f"for f1 in range({F}):",
        f"    across_rows(old, noise_p, slope[f1*{64 * d}:], image, t)",
        "    for i in range(64):",
        "        q[f1*64 + i] = 0.0",
        f"    for k1 in range({m}):",
        "        for i in range(64):",
        "            q[f1*64 + i] += root*root*image[k1*64 + i]*image[k1*64 + i]",
        "met = 0",
        "for i in range(64):",
        "    if mark[i] != 1.0:",
        "        continue",
        "    keep = 1.0",
        f"    for f1 in range({F}):",
        "        at = f1*64 + i",
        "        p1 = 1.0 if not g1[at] < 0.0 else exp(-2.0*g0[at]*g1[at]/q[at]) if q[at] > 0.0 else 0.0",
        "        keep *= 1.0 - p1",
        "    if lane_uniform(words, i) > 1.0 - keep:",
        "        mark[i] = 0.0",
        "        continue",
        "    best[i], best[64 + i] = 2.0, -1.0",
        f"    for f1 in range({F}):  # which faces were met, given that one was at least; the earliest counts",
        "        at = f1*64 + i",
        "        p1 = 1.0 if not g1[at] < 0.0 else exp(-2.0*g0[at]*g1[at]/q[at]) if q[at] > 0.0 else 0.0",
        "        rest = 1.0",
        f"        for f2 in range(f1, {F}):",
        "            at2 = f2*64 + i",
        "            p2 = 1.0 if not g1[at2] < 0.0 else exp(-2.0*g0[at2]*g1[at2]/q[at2]) if q[at2] > 0.0 else 0.0",
        "            rest *= 1.0 - p2",
        "        chance = p1 if best[64 + i] >= 0.0 else p1/(1.0 - rest) if p1 > 0.0 else 0.0",
        f"        if lane_uniform(words, i) <= chance or (f1 == {F - 1} and best[64 + i] < 0.0):",
        "            z0, z1 = lane_normals(words, i)",
        "            fraction = bridge_fraction(-g0[at], abs(g1[at]), q[at], z0, lane_uniform(words, i))",
        "            if fraction < best[i]:",
        "                best[i], best[64 + i] = fraction, f1",
        *("    " + line for line in _fresh(m)),
        "    met += 1",
    ]
    along = [
        f"for k1 in range({d}):",
        "    for i in range(64):",
        f"        exits[k1*64 + i] = slope[(int(best[64 + i])*{d} + k1)*64 + i] if mark[i] == 1.0 else 0.0",
        "across_rows(old, noise_p, exits, image, t)",
        "noise_rows(old, noise_p, image, along, t)",
        "for i in range(64):",
        "    best[192 + i] = 1.0",
        "    if mark[i] != 1.0:",
        "        best[i] = 0.0",
        "    elif not q[int(best[64 + i])*64 + i] > 0.0:  # no noise across: D n = 0 is no direction, n is",
        f"        for k1 in range({d}):",
        "            along[k1*64 + i] = exits[k1*64 + i]",
    ]
    place = _places(d)
    if F > 1:
        place = ["for attempt in range(100):", *("    " + line for line in [*place, *_corner(F, m)])]
    finish = [
        "for i in range(64):",
        "    if mark[i] == 1.0:",
        "        status[index[i]] = ESCAPED",
        "        times[index[i]] = (k - birth[i] + best[i])*clock",
        f"        for k1 in range({dim}):",
        "            points[index[i], k1] = exits[k1*64 + i]",
        "        index[i] = -1",
        "        mark[i] = 0.0",
        f"        meta[{DONE}] += 1",
    ]
    return [*decide, "if met > 0:", *("    " + line for line in [*along, *place, *finish])]


def _places(d: int) -> list[str]:
    """Exit points of the marked lanes: the bridge at the time of the crossing, moved along D n onto the surface."""
    return [
        "noise_rows(old, noise_p, z, jump, t)",
        f"for k1 in range({d}):",
        "    for i in range(64):",
        "        at = k1*64 + i",
        "        wide = best[192 + i]*root*sqrt(best[i]*max(1.0 - best[i], 0.0))",
        "        exits[at] = old[at] + best[192 + i]*best[i]*(x[at] - old[at]) + wide*jump[at]",
        "for turn in range(30):",
        "    faces_rows(exits, faces_p, q, t)",
        "    slopes_rows(exits, slopes_p, slope, t)",
        "    moving = 0",
        "    for i in range(64):",
        "        if mark[i] != 1.0 or turn > 0 and best[128 + i] == 0.0:",
        "            continue",
        "        face, rise, scale = int(best[64 + i]), 0.0, 0.0",
        f"        for k1 in range({d}):",
        f"            rise += along[k1*64 + i]*slope[(face*{d} + k1)*64 + i]",
        "            scale += abs(exits[k1*64 + i]*along[k1*64 + i])",
        "        gap = q[face*64 + i]",
        "        move = gap/rise",
        "        best[128 + i] = 0.0",
        "        if not is_finite(move):",
        "            continue",
        f"        for k1 in range({d}):",
        "            exits[k1*64 + i] -= move*along[k1*64 + i]",
        "        if abs(gap) > 1e-14*(abs(rise) + scale):",
        "            best[128 + i] = 1.0",
        "            moving += 1",
        "    if moving == 0:",
        "        break",
    ]


def _corner(F: int, m: int) -> list[str]:
    """A point beyond a face that was not met before is drawn again, nearer to where the step began; the others stay."""
    return [
        "faces_rows(exits, faces_p, q, t)",
        "again = 0",
        "for i in range(64):",
        "    if mark[i] != 1.0:",
        "        continue",
        "    beyond = False",
        f"    for f1 in range({F}):",
        "        beyond |= f1 != int(best[64 + i]) and q[f1*64 + i] > 0.0",
        "    if not beyond:",
        "        continue",
        "    best[192 + i] *= 0.95",
        "    again += 1",
        *("    " + line for line in _fresh(m)),
        "if again == 0:",
        "    break",
    ]


def _fresh(m: int) -> list[str]:
    """New normals for the exit point of lane i."""
    return [
        f"for j1 in range(0, {m}, 2):",
        "    z0, z1 = lane_normals(words, i)",
        "    z[j1*64 + i] = z0",
        f"    if j1 + 1 < {m}:",
        "        z[(j1 + 1)*64 + i] = z1",
    ]


def _ends(dim: int) -> list[str]:
    """Lanes that are outside without a bridge, that failed, or that were watched long enough."""
    return [
        "for i in range(64):",
        "    if index[i] < 0:",
        "        continue",
        "    if mark[i] != 0.0:",
        "        status[index[i]] = ESCAPED if mark[i] == 1.0 else FAILED",
        "        times[index[i]] = (k + 1 - birth[i])*clock",
        f"        for k1 in range({dim}):",
        "            points[index[i], k1] = panel[k1*64 + i]",
        f"    elif k + 1 - birth[i] >= meta[{LIMIT}]:",
        "        status[index[i]] = CENSORED",
        "        times[index[i]] = (k + 1 - birth[i])*clock",
        "    else:",
        "        continue",
        "    index[i] = -1",
        f"    meta[{DONE}] += 1",
    ]
