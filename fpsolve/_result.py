"""What all results can do: print, show themselves in a notebook, become an xarray Dataset or a pandas DataFrame, be drawn.

Everything here follows from the fields of a result and one description of the arrays among them, which its file has as well.
"""

import dataclasses
import html
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Description", "Quantity", "Result", "Shown", "html_table"]

#: Names of the axes, separated by blanks ("x*": those of the grid); units; meaning. {unit} and {name} are filled from the result.
Description = tuple[str, str, str]

_TEXT = 240  # characters of a value in a table
_FEW = 6  # numbers that are shown one by one
_WIDE = 64  # columns that one array may fill in a table of rows
_REPR = 8  # lines of a repr that nobody wrote
_CELL = "text-align:"


def _require(module: str, purpose: str) -> Any:
    """Import an optional package, or say what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = ", or `pip install 'fpsolve[xarray]'`, which brings xarray and pandas" if module in ("xarray", "pandas") else ""
        raise ImportError(
            f"{purpose} needs the package {module!r}, which is not installed: install it with `pip install {module}`{extra}"
        ) from error


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
    return isinstance(value, Result) and hasattr(value, "discretization_error")


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
    if isinstance(value, Shown) and not isinstance(value, Result):
        return str(value)
    text = value if isinstance(value, str) else repr(value) if isinstance(value, Shown) else str(value)
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


def _names(along: Any) -> list[str] | None:
    """Names along an axis; None where numbers stand there."""
    array = np.asarray(along)
    return [str(name) for name in array] if array.dtype.kind == "U" else None


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

    #: What the arrays and numbers among the fields are; a file of the result says the same.
    DESCRIBE: ClassVar[Mapping[str, Description]] = {}
    #: Likewise of properties, and methods without arguments, that belong to the answer.
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


class Result(Shown):
    """Base of all results: what they share beside their own methods.

    A subclass is a dataclass, or has `_quantities`; the class attributes below say what its arrays are.

    Examples
    --------
    >>> import fpsolve as fps
    >>> isinstance(fps.Estimate(1.0, stderr=0.1), fps.results.Result)
    True
    """

    #: Axis -> the array, or the names, that stand along it.
    ALONG: ClassVar[Mapping[str, str]] = {}
    #: Axes of a table: one row for every entry, or every pair of entries.
    ROWS: ClassVar[str] = ""
    #: Array -> that of its standard errors.
    ERRORS: ClassVar[Mapping[str, str]] = {}
    #: Array that is the result, the others being about it: `to_xarray` is then a DataArray of it.
    MAIN: ClassVar[str] = ""
    MAIN_NAME: ClassVar[str] = ""
    #: Function that draws it, and what `fpsolve.plotting.plot_result` draws of it.
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_result"
    DRAWN: ClassVar[str] = ""

    def __repr__(self) -> str:
        items = []
        for name, q in self._quantities().items():
            text = _words(q.value)
            if text and not isinstance(q.value, Result | Mapping) or is_estimate(q.value):
                items.append(f"{name} {_cut(text)} {'' if q.units == '1' or is_estimate(q.value) else q.units}".rstrip())
        return _lines(type(self).__name__, items[:_REPR])

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """Draw it on `ax`, or on a figure of its own, and return the Axes.

        The function that ``PICTURE`` names does it, `fpsolve.plotting.plot_result` where a class has none of its own: there it says
        what is drawn, and which `kwargs` there are.
        """
        module, _, name = self.PICTURE.rpartition(".")
        axes: Axes = getattr(importlib.import_module(module), name)(self, ax=ax, **kwargs)
        return axes

    # ---- labelled arrays ------------------------------------------------------------------------------------------------

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` of arrays and numbers, or a DataArray where one array is the result.

        Axes have their names and coordinates, variables their ``units`` and ``long_name``; errors are variables of their own; words
        and settings are attributes.

        Raises
        ------
        ImportError
            If xarray is not installed.
        """
        xarray = _require("xarray", f"{type(self).__name__}.to_xarray")
        variables, coords, attrs = self._labelled()
        if self.MAIN:
            dims, values, about = variables[self.MAIN]
            coords = {name: c for name, c in coords.items() if name in dims}
            kept = [key for key in ("method", "time", "warnings") if key in attrs]
            return xarray.DataArray(
                values, dims=dims, coords=coords, name=self._main_name(), attrs={**about, **{k: attrs[k] for k in kept}}
            )
        return xarray.Dataset(variables, coords=coords, attrs=attrs)

    def _main_name(self) -> str:
        return str(getattr(self, "name", "") or self.MAIN_NAME or type(self).__name__.lower())

    def _labelled(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Variables, coordinates and attributes of a Dataset; needs no xarray."""
        variables: dict[str, Any] = {}
        attrs: dict[str, Any] = {}
        coords: dict[str, Any] = {}
        for name, q in self._quantities().items():
            value, about = q.value, {k: v for k, v in (("units", q.units), ("long_name", q.meaning)) if v}
            if is_estimate(value):
                variables[name] = ((), value.value, about)
                variables[f"{name}_error"] = ((), value.error, {**about, "long_name": f"error of {name}"})
            elif isinstance(value, Mapping) and value and all(map(is_estimate, value.values())):
                coords[name] = ((name,), list(value))
                units = {e.unit for e in value.values()}
                about = {"units": units.pop()} if len(units) == 1 else {}
                variables[f"{name}_value"] = ((name,), [e.value for e in value.values()], about)
                variables[f"{name}_error"] = ((name,), [e.error for e in value.values()], about)
            elif isinstance(value, (bool, np.bool_)):
                attrs[name] = _words(value)
            elif q.dims or (isinstance(value, (int, float, complex, np.number)) and (about or name in self.DERIVED)):
                if np.ndim(value) == len(q.dims):
                    variables[name] = (self._axes(q.dims), np.asarray(value), about)
            elif isinstance(value, (str, int, float)) and value != "":
                attrs[name] = value
            elif isinstance(value, (tuple, list, Mapping)) and value:
                attrs[name] = _words(value)
        for axis in dict.fromkeys(axis for dims, *_ in variables.values() for axis in dims):
            along = self._along(axis)
            if along is not None:
                about = {k: v for k, v in (("units", along.units), ("long_name", along.meaning)) if v}
                coords[axis] = ((axis,), along.value, about)
        for name in self.ALONG.values():  # a coordinate is no variable beside
            variables.pop(name, None)
        return variables, coords, attrs

    @staticmethod
    def _axes(dims: Sequence[str]) -> tuple[str, ...]:
        """The second of two axes of one name is the other one."""
        names: list[str] = []
        for axis in dims:
            while axis in names:
                axis = f"other_{axis}"
            names.append(axis)
        return tuple(names)

    def _along(self, axis: str) -> Quantity | None:
        """What stands along an axis: cell centres, times, names; None where it is only counted."""
        grid = getattr(self, "grid", None)
        if grid is not None and axis[:1] == "x" and axis[1:].isdigit():
            return Quantity(np.asarray(grid.centers[int(axis[1:])]))
        name = self.ALONG.get(axis.removeprefix("other_"), "")
        value = getattr(self, name, None) if name else None
        return None if value is None or not len(value) else self._describe(name)._replace(value=np.asarray(value))

    # ---- tables ---------------------------------------------------------------------------------------------------------

    def to_dataframe(self) -> Any:
        """A `pandas.DataFrame`: one row per entry of the axes in ``ROWS``, or one row of numbers where a result has no axes.

        An array with further axes has a column for each entry of these, such as ``final_0``, ``final_1``, if they are not more than
        64; `to_xarray` has all.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pandas = _require("pandas", f"{type(self).__name__}.to_dataframe")
        columns, index = self._columns()
        frame = pandas.DataFrame(columns)
        frame.index.name = index or None
        return frame

    def _rows(self) -> str:
        """The axes of a table, here where they depend on what there is."""
        return self.ROWS

    def _columns(self) -> tuple[dict[str, Any], str]:
        """Columns of a table by their names, and the axis that its rows are counted along, if any; needs no pandas."""
        rows = self._axes_of_rows()
        variables, coords, attrs = self._labelled()
        if not rows:
            numbers = {name: [v[1].item() if isinstance(v[1], np.ndarray) else v[1]] for name, v in variables.items() if not v[0]}
            return {**numbers, **{name: [value] for name, value in attrs.items()}}, ""
        sizes = {axis: size for dims, values, *_ in variables.values() for axis, size in zip(dims, np.shape(values), strict=True)}
        rows = tuple(axis for axis in rows if axis in sizes)
        shape = tuple(sizes[axis] for axis in rows)
        counted = {} if len(rows) == 1 else {axis: ((axis,), np.arange(n)) for axis, n in zip(rows, shape, strict=True)}
        columns: dict[str, Any] = {}
        for name, (dims, values, *_) in {**counted, **coords, **variables}.items():
            if any(axis in rows for axis in dims):
                label = self._main_name() if name == self.MAIN else name
                columns.update(self._spread(label, dims, np.asarray(values), dict(zip(rows, shape, strict=True)), coords))
        return columns, rows[0] if len(rows) == 1 and rows[0] not in columns else ""

    @staticmethod
    def _spread(
        name: str, dims: Sequence[str], values: np.ndarray, rows: Mapping[str, int], coords: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The columns that one array fills."""
        own = [axis for axis in rows if axis in dims]
        others = [axis for axis in dims if axis not in rows]
        moved = values.transpose([dims.index(axis) for axis in (*own, *others)])
        rest = moved.shape[len(own) :]
        if math.prod(rest) > _WIDE:
            return {}
        full = moved.reshape(*(n if axis in own else 1 for axis, n in rows.items()), *rest)
        full = np.broadcast_to(full, (*rows.values(), *rest)).reshape(-1, *rest)
        names = [_names(coords[axis][1]) if axis in coords else None for axis in others]
        return {
            "_".join([name, *(known[k] if known else str(k) for known, k in zip(names, index, strict=True))]): full[:, *index]
            for index in np.ndindex(*rest)
        }

    def _axes_of_rows(self) -> tuple[str, ...]:
        """Axes of a table by their names, those of the grid one by one."""
        words: list[str] = []
        for word in self._rows().split():
            words += [f"x{i}" for i in range(self.grid.dim)] if word == "x*" else [word]  # type: ignore[attr-defined]
        return tuple(words)
