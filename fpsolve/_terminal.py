"""Pictures in a terminal: the Axes that ``result.plot()`` has drawn on, in characters.

Whatever a result draws is drawn here too, for the curves, steps, bars, points and maps are read from the Axes: everything is
brought to fractions of the frame by Matplotlib's own transforms, so that logarithmic axes need no code. Curves are dots of Braille
characters, two by four in each; maps are shades. Without Unicode a character is one dot.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "plain", "size", "unicode_works"]

Array = NDArray[np.float64]

#: Dots of a Braille character, by row and column.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
#: Marks of the curves, one after another, where a character is one dot.
_MARKS = "*+o#x%@"
_SHADES = {True: " ░▒▓█", False: " .:-=+*#%@"}
#: Corner, both lines and their ticks.
_FRAME = {True: tuple("└│─┤┬"), False: tuple("+|-+|")}
#: Terminals that show no Braille characters.
_POOR = {"dumb", "linux", "vt100", "unknown"}


def size(width: int | None = None) -> tuple[int, int]:
    """Columns and rows of a picture: those of the terminal, less a few lines for the prompt; 80 where there is no terminal.

    Examples
    --------
    >>> size(60)[0]
    60
    """
    terminal = shutil.get_terminal_size()
    columns = min(max(terminal.columns, 30), 1000) if width is None else width
    return columns, max(5, min(terminal.lines - 8, round(0.3 * columns)))


def unicode_works(stream: TextIO) -> bool:
    """Whether a stream takes the characters of a picture, as far as encoding and TERM tell."""
    try:
        "⣿█└".encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return os.environ.get("TERM", "") not in _POOR


def draw(ax: Axes, columns: int, rows: int, *, unicode: bool = True) -> list[str]:
    """The content of an Axes as lines of text.

    Parameters
    ----------
    ax : Axes
    columns, rows : int
        Width of the whole, height of the frame.
    unicode : bool
        Braille characters and shades; else ASCII.

    Returns
    -------
    list of str
        None longer than `columns`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().add_subplot()
    >>> _ = ax.plot([0.0, 1.0], [0.0, 1.0])
    >>> _ = ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 1], yticks=[0, 1])
    >>> print("\\n".join(line.rstrip() for line in draw(ax, 14, 4, unicode=False)))
    1 +        ***
      |      ***
      |  ****
    0 +**
      +|---------|
       0         1
    """
    x_ticks, y_ticks = _ticks(ax, 0), _ticks(ax, 1)
    margin = min(max((len(text) for _, text in y_ticks), default=0), columns // 3)
    wide = columns - margin - 2
    cells, note = _content(ax, wide, rows, unicode)
    corner, line, flat, y_tick, x_tick = _FRAME[unicode]
    lines = [text[:columns] for text in (plain(ax.get_title()), plain(ax.get_ylabel())) if text]
    at = {round((1.0 - place) * (rows - 1)): text[:margin] for place, text in y_ticks}
    for i, row in enumerate(cells):
        lines.append(f"{at.get(i, ''):>{margin}} {y_tick if i in at else line}{row}")
    lines.append(" " * (margin + 1) + corner + _below(x_ticks, wide, flat, x_tick))
    lines.append(" " * (margin + 2) + _labels(x_ticks, wide))
    if label := plain(ax.get_xlabel())[:wide]:
        lines.append(label.center(wide).rjust(columns))
    return [text.rstrip() for text in [*lines, *(text[:columns] for text in note)]]


def plain(text: str) -> str:
    """A label without the marks of mathematics and without control characters.

    Examples
    --------
    >>> plain(r"$p(x_{1})$ [$\\mathdefault{10^{-2}}$]"), plain("a\\x1b[2J")
    ('p(x_1) [10^-2]', 'a[2J')
    """
    text = re.sub(r"\\(mathdefault|mathrm|mathbf|mathit|text|left|right|,|;|!)", "", text)
    text = re.sub(r"[${}\\]", "", text).replace("\N{MINUS SIGN}", "-")
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


# ---- axes --------------------------------------------------------------------------------------------------------------


def _ticks(ax: Axes, which: int) -> list[tuple[float, str]]:
    """Place in the frame, from 0 to 1, and label of each tick that is inside."""
    axis, limits = (ax.xaxis, ax.get_xlim()) if which == 0 else (ax.yaxis, ax.get_ylim())
    places = np.asarray(axis.get_majorticklocs(), dtype=float)
    places = places[(places >= min(limits)) & (places <= max(limits))][:200]
    points = np.column_stack([places if which == k else np.full(len(places), (ax.get_xlim(), ax.get_ylim())[k][0]) for k in (0, 1)])
    at = _fractions(ax, points, ax.transData)[:, which]
    texts = [plain(text) for text in axis.get_major_formatter().format_ticks(places.tolist())]
    return [(float(f), text) for f, text in zip(at, texts, strict=True) if abs(f - 0.5) <= 0.5 + 1e-9]


def _below(ticks: Sequence[tuple[float, str]], wide: int, flat: str, tick: str) -> str:
    places = {round(place * (wide - 1)) for place, _ in ticks}
    return "".join(tick if i in places else flat for i in range(wide))


def _labels(ticks: Sequence[tuple[float, str]], wide: int) -> str:
    """The labels of the x axis centred below their ticks; one that would touch its neighbour is left out."""
    line = ""
    for place, text in sorted(ticks):
        start = min(max(round(place * (wide - 1)) - (len(text) - 1) // 2, 0), wide - len(text))
        if start >= len(line) + bool(line) and text:
            line = line.ljust(start) + text
    return line


def _fractions(ax: Axes, points: Any, transform: Any) -> Array:
    """Points (n, 2) as fractions of the frame; not finite where they cannot be drawn."""
    points = np.ma.filled(np.ma.asarray(points, dtype=float), np.nan).reshape(-1, 2)
    with np.errstate(all="ignore"):
        return np.asarray(ax.transAxes.inverted().transform(transform.transform(points)), dtype=float)


# ---- content -----------------------------------------------------------------------------------------------------------


def _content(ax: Axes, wide: int, rows: int, unicode: bool) -> tuple[list[str], list[str]]:
    """The inside of the frame, and lines of explanation for below."""
    from matplotlib.collections import QuadMesh

    mesh = next((c for c in ax.collections if isinstance(c, QuadMesh)), None)
    if mesh is not None:
        return _map(ax, mesh, wide, rows, _SHADES[unicode])
    fine = (2, 4) if unicode else (1, 1)
    dots = np.full((rows * fine[1], wide * fine[0]), -1)
    names: dict[int, str] = {}
    for k, (label, pieces) in enumerate(_curves(ax)):
        names[k] = label
        for points, joined in pieces:
            _mark(dots, points, joined, k)
    shown = {k: plain(name) for k, name in names.items() if name not in ("", "None") and name[0] != "_" and (dots == k).any()}
    if not unicode:
        marks = np.array([*_MARKS, " "])
        body = ["".join(row) for row in marks[np.where(dots < 0, len(_MARKS), dots % len(_MARKS))]]
        return body, [f"  {_MARKS[k % len(_MARKS)]}  {name}" for k, name in shown.items()]
    blocks = (dots >= 0).reshape(rows, 4, wide, 2).transpose(0, 2, 1, 3)
    codes = (blocks * _DOTS).sum(axis=(2, 3))
    body = ["".join(chr(0x2800 + code) if code else " " for code in row) for row in codes.tolist()]
    return body, [f"  {'; '.join(shown.values())}"] if shown else []


def _map(ax: Axes, mesh: Any, wide: int, rows: int, shades: str) -> tuple[list[str], list[str]]:
    """A map: each character has the mean of nine places in it."""
    x, y = ((np.arange(3 * n) + 0.5) / (3 * n) for n in (wide, rows))
    places = np.stack(np.meshgrid(x, 1.0 - y), axis=-1).reshape(-1, 2)
    data = ax.transData.inverted().transform(ax.transAxes.transform(places)).reshape(3 * rows, 3 * wide, 2)
    edges = np.asarray(mesh.get_coordinates())
    column, outside_x = _cell(edges[0, :, 0], data[0, :, 0])
    row, outside_y = _cell(edges[:, 0, 1], data[:, 0, 1])
    values: Any = np.ma.asarray(mesh.get_array(), dtype=float).reshape(edges.shape[0] - 1, edges.shape[1] - 1)
    level: Array = np.ma.filled(np.ma.asarray(mesh.norm(values), dtype=float), np.nan)[np.ix_(row, column)]
    level[outside_y] = np.nan
    level[:, outside_x] = np.nan
    nine = level.reshape(rows, 3, wide, 3).transpose(0, 2, 1, 3).reshape(rows, wide, 9)
    there = np.isfinite(nine)
    mean = np.where(there, nine, 0.0).sum(-1) / np.maximum(there.sum(-1), 1)
    number = np.clip((mean * len(shades)).astype(int), 0, len(shades) - 1)
    body = ["".join(shades[k] for k in line) for line in number.tolist()]
    label = plain(mesh.colorbar.ax.get_ylabel() or mesh.colorbar.ax.get_xlabel()) if getattr(mesh, "colorbar", None) else ""
    low, high = (f"{float(v):.4g}" for v in (mesh.norm.vmin, mesh.norm.vmax))
    return body, [f"  {label + ': ' if label else ''}{low} '{shades}' {high}"]


def _cell(edges: Array, at: Array) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Number of the cell that holds each place, and which places are in none."""
    down = edges[0] > edges[-1]
    index = np.searchsorted(edges[::-1] if down else edges, at, side="right") - 1
    inside = np.clip(index, 0, len(edges) - 2)
    return (len(edges) - 2 - inside if down else inside), index != inside


def _curves(ax: Axes) -> Iterator[tuple[str, list[tuple[Array, bool]]]]:
    """Label and pieces of everything that is drawn: points in fractions of the frame, and whether they are joined."""
    from matplotlib.cbook import STEP_LOOKUP_MAP
    from matplotlib.collections import LineCollection, PathCollection

    ax.get_xlim(), ax.get_ylim()  # autoscaling is put off until somebody asks
    for line in ax.lines:
        x, y = line.get_data(orig=False)
        joined = str(line.get_linestyle()).lower() not in ("none", "", " ")
        if joined and line.get_drawstyle() != "default":
            x, y = STEP_LOOKUP_MAP[line.get_drawstyle()](np.asarray(x, float), np.asarray(y, float))
        yield str(line.get_label()), [(_fractions(ax, np.column_stack([x, y]), line.get_transform()), joined)]
    identity = ax.transAxes - ax.transAxes
    for patch in ax.patches:
        outlines = patch.get_path().to_polygons(patch.get_transform(), closed_only=False)
        yield str(patch.get_label()), [(_fractions(ax, outline, identity), True) for outline in outlines]
    for many in ax.collections:
        if isinstance(many, PathCollection):
            yield str(many.get_label()), [(_fractions(ax, many.get_offsets(), many.get_offset_transform()), False)]
        elif isinstance(many, LineCollection) or hasattr(many, "levels"):
            paths = [outline for path in many.get_paths() for outline in path.to_polygons(closed_only=False)]
            yield str(many.get_label()), [(_fractions(ax, path, many.get_transform()), True) for path in paths]


def _mark(dots: NDArray[np.int_], points: Array, joined: bool, k: int) -> None:
    """Set the dots of a curve (or of single points) to its number."""
    height, width = dots.shape
    if joined and len(points) > 1:
        points = _dense(points, 1.5 * max(height, width))
    with np.errstate(invalid="ignore"):
        inside = np.isfinite(points).all(-1) & (np.abs(points - 0.5) <= 0.5 + 1e-9).all(-1)
    x = np.rint(points[inside, 0] * (width - 1)).astype(int)
    y = np.rint((1.0 - points[inside, 1]) * (height - 1)).astype(int)
    dots[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] = k


def _dense(points: Array, per_frame: float) -> Array:
    """Points along a polygonal line, as close as dots are: of each piece the part that is in the frame."""
    a, b = points[:-1], points[1:]
    with np.errstate(all="ignore"):
        step = b - a
        ends = np.stack([(0.0 - a) / step, (1.0 - a) / step])
        flat = step == 0.0
        hidden = (flat & ((a < 0.0) | (a > 1.0))).any(-1)
        first = np.where(flat, 0.0, ends.min(0)).max(-1).clip(0.0, 1.0)
        last = np.where(flat, 1.0, ends.max(0)).min(-1).clip(0.0, 1.0)
        good = np.isfinite(a).all(-1) & np.isfinite(b).all(-1) & ~hidden & (first <= last)
    a, step, first, last = a[good], step[good], first[good], last[good]
    count = np.ceil(np.abs(step).max(-1, initial=0.0) * (last - first) * per_frame).astype(int) + 1
    which = np.repeat(np.arange(len(a)), count + 1)
    number = np.arange(len(which)) - np.repeat(np.cumsum(count + 1) - (count + 1), count + 1)
    t = first[which] + (last - first)[which] * number / count[which]
    dense: Array = a[which] + t[:, None] * step[which]
    return dense
