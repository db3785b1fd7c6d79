"""Walls of a box for paths: what `walls=` may be, and the text that puts a state back into the box.

A step that ends beyond a reflecting wall x_i = c is mirrored. For a diffusion that is done along the conormal D n, the direction in
which the no-flux condition of the Fokker-Planck equation reflects: y - 2 (y_i - c) D e_i/D_ii, with D at the point of the wall that
lies on this line (symmetrised Euler, weak order 1: Bossy, Gobet, Talay 2004). Without noise across the wall, for Levy noise and for
chains the coordinate is folded; momenta and velocities change their sign. A periodic coordinate is wrapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import Grid

__all__ = [
    "Sides", "Walls", "clip_lines", "fold_lines", "make_walls", "outside_source", "put_back_text", "wall_names", "wrap_lines",
]  # fmt: skip

Array = NDArray[np.float64]
#: Per axis the kinds of the low and the high side: "reflecting", "periodic" or None.
Sides = tuple[tuple[str | None, str | None], ...]

KINDS = ("reflecting", "periodic")


@dataclass(frozen=True)
class Walls:
    """A box [low, high] with the kind of each side; sides without a wall are at infinity."""

    low: Array
    high: Array
    sides: Sides

    @property
    def constants(self) -> dict[str, float]:
        """The positions by the names that the text of the kernels uses."""
        values = {f"low{i}": float(v) for i, v in enumerate(self.low)} | {f"high{i}": float(v) for i, v in enumerate(self.high)}
        return {name: values[name] for name in wall_names(self.sides)}

    @property
    def turns(self) -> list[tuple[float, float] | None]:
        """For each axis the ends of its period, or None."""
        rows = zip(self.low.tolist(), self.high.tolist(), self.sides, strict=True)
        return [(lo, hi) if kinds[0] == "periodic" else None for lo, hi, kinds in rows]

    def check(self, points: Array) -> None:
        """Starting points (n, d) must be in the box."""
        out = ((points < self.low) | (points > self.high)).any(axis=1)
        if out.any():
            i = int(np.argmax(out))
            box = ", ".join(f"[{a:g}, {b:g}]" for a, b in zip(self.low, self.high, strict=True))
            raise ValueError(f"x0 = {points[i].tolist()} is outside the walls {box}; start inside")


def make_walls(walls: Any, dim: int) -> Walls | None:
    """Check `walls`: None, a Grid (its box and boundary), or one entry per axis, None or (lo, hi, kind)."""
    if walls is None:
        return None
    form = f"a Grid, or one entry for each of the {dim} axes: None, or (lo, hi, kind) with kind 'reflecting' or 'periodic'"
    if isinstance(walls, Grid):
        entries: list[Any] = [(a[0], a[1], kind) for a, kind in zip(walls.axes, walls.boundary, strict=True)]
    elif isinstance(walls, Sequence) and not isinstance(walls, str):
        entries = list(walls)
    else:
        raise TypeError(f"walls must be {form}; got {walls!r}")
    if len(entries) != dim:
        raise ValueError(f"walls must have {dim} axes, got {len(entries)}: {form}")
    low, high = np.full(dim, -np.inf), np.full(dim, np.inf)
    sides: list[tuple[str | None, str | None]] = []
    for i, entry in enumerate(entries):
        if entry is None:
            sides.append((None, None))
            continue
        if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != 3:
            raise ValueError(f"walls[{i}] must be None or (lo, hi, kind), got {entry!r}")
        if not all(isinstance(end, (int, float, np.integer, np.floating)) for end in entry[:2]):
            raise TypeError(f"walls[{i}] must be (lo, hi, kind) with numbers lo < hi, got {entry!r}")
        low[i], high[i] = float(entry[0]), float(entry[1])
        if not low[i] < high[i]:
            raise ValueError(f"walls[{i}] must have lo < hi, got {entry!r}")
        sides.append(_kinds(entry[2], i, (low[i], high[i])))
    return Walls(low, high, tuple(sides)) if any(s != (None, None) for s in sides) else None


def _kinds(entry: Any, i: int, ends: tuple[float, float]) -> tuple[str | None, str | None]:
    pair = (entry, entry) if isinstance(entry, str) or entry is None else tuple(entry)
    if len(pair) != 2:
        raise ValueError(f"walls[{i}]: the kind must be one name or a pair (low side, high side), got {entry!r}")
    if "absorbing" in pair:
        raise ValueError(
            f"walls[{i}] has an absorbing side, and walls keep paths in: where paths end is said by the region of escape_times; "
            "give that side None there (e.g. walls=[(lo, hi, ('reflecting', None))]) and a region that ends at it"
        )
    for kind in pair:
        if kind is not None and kind not in KINDS:
            nearest = get_close_matches(str(kind), KINDS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"walls[{i}]: unknown kind {kind!r}; did you mean {nearest!r}? There are reflecting, periodic and None"
            )
    if pair.count("periodic") == 1:
        raise ValueError(f"walls[{i}] is periodic on one side only: {pair!r}; both sides must be periodic")
    out = []
    for kind, at in zip(pair, ends, strict=True):
        if kind == "periodic" and not math.isfinite(at):
            raise ValueError(f"walls[{i}] is periodic, so both ends must be finite, got {ends}")
        out.append(kind if math.isfinite(at) else None)
    return out[0], out[1]


# ---- text -----------------------------------------------------------------------------------------------------------


def wall_names(sides: Sides) -> list[str]:
    """Names of the positions that the text uses: low0, high0, ..."""
    return [f"{word}{i}" for i, pair in enumerate(sides) for word, kind in zip(("low", "high"), pair, strict=True) if kind]


def outside_source(sides: Sides, names: Sequence[str]) -> str:
    """Source of: the state whose coordinates are `names` is beyond a wall, or NaN."""
    tests = [f"(low{i} <= {names[i]})" for i, pair in enumerate(sides) if pair[0]]
    tests += [f"({names[i]} <= high{i})" for i, pair in enumerate(sides) if pair[1]]
    return f"not ({' & '.join(tests)})"


def wrap_lines(sides: Sides, name: str) -> list[str]:
    """Lines that wrap the periodic coordinates of name0, name1, ..."""
    return [f"{name}{i} = wrap({name}{i}, low{i}, high{i})" for i, pair in enumerate(sides) if pair[0] == "periodic"]


def clip_lines(sides: Sides, name: str) -> list[str]:
    """Lines that move name0, name1, ... to the nearest point of the box."""
    lines = []
    for i, (low, high) in enumerate(sides):
        lines += [f"{name}{i} = max({name}{i}, low{i})"] if low else []
        lines += [f"{name}{i} = min({name}{i}, high{i})"] if high else []
    return lines


def fold_lines(sides: Sides, name: str, momenta: Callable[[int], Sequence[str]]) -> list[str]:
    """Lines without branches that put each coordinate name0, name1, ... back by itself; momenta(i) turn around with it."""
    lines = wrap_lines(sides, name)
    for i, (low, high) in enumerate(sides):
        if "reflecting" in (low, high):
            function = "fold" if low and high else "fold_low" if low else "fold_high"
            ends = ", ".join(wall_names(sides[i : i + 1])).replace("0", str(i))
            lines.append(f"{name}{i}, turn = {function}({name}{i}, {ends})")
            lines += [f"{v} = turn*{v}" for v in momenta(i)]
    return lines


def put_back_text(sides: Sides, variables: int, noises: int, conormal: bool) -> str:
    """The function ``put_back(y, walls, q)``: the state y, whose first coordinates were beyond a wall, back in the box.

    `noises` are the columns of the factor, of which D = B B^T/2 is made; variables beyond the coordinates are momenta.
    """
    d, names = len(sides), wall_names(sides)
    y = "(" + "".join(f"y{i}, " for i in range(variables)) + ")"
    if conormal:
        lines = _conormal_lines(sides, noises, y)
    else:
        lines = [*fold_lines(sides, "y", lambda i: [f"y{c}" for c in range(d + i, variables, d)]), f"return {y}"]
    finite = " and ".join(f"is_finite(y{i})" for i in range(d))
    head = [f"{y} = y", f"({''.join(n + ', ' for n in names)}) = walls", f"if not ({finite}):", f"    return {y}"]
    return "@part\ndef put_back(y, walls, q):\n" + "".join(f"    {line}\n" for line in [*head, *lines]) + "\n"


def _conormal_lines(sides: Sides, m: int, y: str) -> list[str]:
    """Mirror at the wall that is passed furthest, along D n, until the state is inside; in a corner that may take some turns."""
    d = len(sides)
    lines = ["for turn in range(100):", *("    " + line for line in wrap_lines(sides, "y"))]
    lines += ["    worst, axis, gap, wall = 0.0, -1, 0.0, 0.0"]
    for i, pair in enumerate(sides):
        for word, sign, kind in zip(("low", "high"), ("", "-"), pair, strict=True):
            if kind == "reflecting":
                lines += [
                    f"    if {sign}({word}{i} - y{i}) > worst:",
                    f"        worst, axis, gap, wall = {sign}({word}{i} - y{i}), {i}, {word}{i} - y{i}, {word}{i}",
                ]
    lines += ["    if axis < 0:", f"        return {y}"]
    for i, pair in enumerate(sides):
        if "reflecting" not in pair:
            continue
        rest = [j for j in range(d) if j != i]
        lines += [
            f"    if axis == {i}:",
            *(f"        e{j} = y{j}" for j in rest),
            f"        e{i} = wall",
            "        for again in range(2):  # the direction at the nearest point, then at the one that lies along it",
            f"            c = factor(({''.join(f'e{j}, ' for j in range(d))}), q)",
            f"            across = {_product(i, i, m)}",
            *(f"            t{j} = ({_product(j, i, m)})/across if across > 0.0 else 0.0" for j in rest),
            *(f"            e{j} = y{j} + gap*t{j}" for j in rest),
            *(f"        y{j} += 2.0*gap*t{j}" for j in rest),
            f"        y{i} = 2.0*wall - y{i}",
        ]
    return [*lines, *clip_lines(sides, "y"), f"return {y}"]


def _product(j: int, i: int, m: int) -> str:
    """Source of 2 D_ji."""
    return " + ".join(f"c[{j * m + k}]*c[{i * m + k}]" for k in range(m))
