"""Results as text and as tables of notebooks: numbers with errors, quantities with units and meanings, escaped HTML."""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

__all__ = ["Description", "Quantity", "Shown", "html_table", "is_estimate"]

#: Names of the axes, separated by blanks ("x*": those of the grid); units; meaning. {unit} and {name} are filled from the result.
Description = tuple[str, str, str]

_TEXT = 240  # characters of a value in a table
_FEW = 6  # numbers that are shown one by one
_CELL = "text-align:"


def _with_error(value: float, error: float) -> str:
    """'12.34 +- 0.56': two digits of the error, the value to the same place."""
    if not error > 0.0 or not math.isfinite(error) or not math.isfinite(value):
        return f"{value:.10g}" + ("" if error == 0.0 else f" +- {error:.2g}")
    place = math.floor(math.log10(error)) - 1
    size = max(abs(value), error)
    if 1e-4 <= size < 1e7 and -12 <= place:
        digits = max(-place, 0)
        return f"{value:.{digits}f} +- {error:.{digits}f}"
    digits = min(max(math.floor(math.log10(size)) - place, 1), 15)
    return f"{value:.{digits}e} +- {error:.1e}"


def _lines(head: str, items: Sequence[str], warnings: Sequence[str] = ()) -> str:
    """A head, and indented below it what is not empty."""
    return "\n".join([head, *(f"  {i}" for i in items if i), *(f"  warning: {w}" for w in warnings)])


class Quantity(NamedTuple):
    """One thing that a result holds, with the names of its axes, its units, and what it means."""

    value: Any
    dims: tuple[str, ...] = ()
    units: str = ""
    meaning: str = ""


def is_estimate(value: object) -> bool:
    """Whether it is a number with errors."""
    return isinstance(value, Shown) and hasattr(value, "discretization_error")


def _words(value: Any) -> str:
    """A value in a few words."""
    if is_estimate(value):
        text = repr(value)
        return text[text.index("(") + 1 : -1]
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.6g}"
    if isinstance(value, np.ndarray):
        return _array_words(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(v)}" for key, v in value.items())
    if isinstance(value, (tuple, list)):
        return ("; " if any(isinstance(v, (str, Shown)) for v in value) else ", ").join(map(_words, value))
    text = str(value)
    return text.splitlines()[0] if text else ""


def _array_words(array: np.ndarray) -> str:
    if array.size <= _FEW and array.ndim <= 1:
        return ", ".join(_words(v) for v in np.atleast_1d(array).tolist()) or "none"
    shape = " x ".join(map(str, array.shape)) or "0"
    if array.dtype.kind == "b":
        return f"{shape}, {int(array.sum())} true"
    if array.dtype.kind not in "iuf" or not np.isfinite(array).any():
        return f"{shape} {'complex numbers' if array.dtype.kind == 'c' else 'entries'}"
    finite = array[np.isfinite(array)]
    missing = array.size - finite.size
    return f"{shape}, {finite.min():.6g} ... {finite.max():.6g}" + (f", {missing} not finite" if missing else "")


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]} ..."


def html_table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] = (), notes: Sequence[str] = ()
) -> str:
    """A table as HTML that takes its colours from the page: no scripts, no style sheet, all text escaped.

    Parameters
    ----------
    caption : str
    columns : sequence of str
    rows : sequence of sequence of str
    right : sequence of bool
        Columns that are aligned right; default: none.
    notes : sequence of str
        Lines below.

    Examples
    --------
    >>> "<script>" in html_table("<script>", ["a"], [["1"]])
    False
    """
    sides = ["right" if r else "left" for r in right] or ["left"] * len(columns)

    def line(tag: str, cells: Sequence[str], more: str = "") -> str:
        put = (f'<{tag} style="{_CELL}{side}{more}">{html.escape(c)}</{tag}>' for c, side in zip(cells, sides, strict=True))
        return f"<tr>{''.join(put)}</tr>"

    head = line("th", columns, ";border-bottom:1px solid currentColor")
    body = "".join(line("td", row) for row in rows)
    below = "<br>".join(html.escape(note) for note in notes)
    foot = f'<tfoot><tr><td colspan="{len(columns)}" style="{_CELL}left">{below}</td></tr></tfoot>' if notes else ""
    title = f'<caption style="caption-side:top;text-align:left;color:inherit;font-weight:bold">{html.escape(caption)}</caption>'
    style = "border-collapse:collapse;color:inherit;background:none"
    return f'<table style="{style}">{title}<thead>{head}</thead><tbody>{body}</tbody>{foot}</table>'


class Shown:
    """Shows itself as a table in a notebook."""

    # What the arrays and numbers among the fields are; a file of the result says the same.
    DESCRIBE: ClassVar[Mapping[str, Description]] = {}
    # Likewise of properties, and methods without arguments, that belong to the answer.
    DERIVED: ClassVar[Mapping[str, Description]] = {}

    def _describe(self, name: str, ndim: int | None = None) -> Quantity:
        """Axes, units and meaning of a field or property; the value is left out."""
        dims, units, meaning = self.DESCRIBE.get(name) or self.DERIVED.get(name) or ("", "", "")
        words = tuple(dims.split())
        if "x*" in words:
            at = words.index("x*")
            words = (*words[:at], *(f"x{i}" for i in range(self.grid.dim)), *words[at + 1 :])  # type: ignore[attr-defined]
        if words and ndim == len(words) + 1:  # one mean or covariance per record
            words = ("time", *words)
        fill = {"unit": getattr(self, "unit", ""), "name": getattr(self, "name", "")}
        return Quantity(None, words, units.format(**fill), meaning.format(**fill))

    def _quantities(self) -> dict[str, Quantity]:
        """What follows from the fields, then the fields; left out is what is None, or cannot be had here."""
        names = [f.name for f in dataclasses.fields(self) if f.metadata.get("saved", True)]  # type: ignore[arg-type]
        found = {}
        for name in dict.fromkeys([*self.DERIVED, *names]):
            try:
                value = getattr(self, name)
                value = value() if name in self.DERIVED and callable(value) else value
            except (ValueError, ZeroDivisionError):
                continue
            if value is None or callable(value):
                continue
            about = self._describe(name, np.ndim(value) if isinstance(value, np.ndarray) else None)
            units = value.unit if is_estimate(value) else about.units
            found[name] = about._replace(value=value, units=units)
        return found

    def _repr_html_(self) -> str:
        """A table of names, values, units and meanings, for notebooks."""
        rows = []
        for name, q in self._quantities().items():
            text = _words(q.value)
            if text and not (isinstance(q.value, (tuple, Mapping)) and not q.value):
                rows.append([name, _cut(text), "" if q.units == "1" or is_estimate(q.value) else q.units, q.meaning])
        columns = ["", "value", "unit", "meaning"]
        kept = [i for i in range(4) if i < 2 or any(row[i] for row in rows)]
        return html_table(_cut(repr(self).splitlines()[0]), [columns[i] for i in kept], [[row[i] for i in kept] for row in rows])
