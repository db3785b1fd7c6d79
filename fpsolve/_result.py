"""What all results can do: become an xarray Dataset or a pandas DataFrame, be drawn, beside what `_shown` has.

Everything here follows from the fields of a result and one description of the arrays among them, which its file has as well.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fpsolve._shown import _FEW, Quantity, Shown, _cut, _lines, _words, is_estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Result"]

_WIDE = 64  # columns that one array may fill in a table of rows
_REPR = 8  # lines of a repr that nobody wrote


def _require(module: str, purpose: str) -> Any:
    """Import an optional package, or say what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = ", or `pip install 'fpsolve[xarray]'`, which brings xarray and pandas" if module in ("xarray", "pandas") else ""
        raise ImportError(
            f"{purpose} needs the package {module!r}, which is not installed: install it with `pip install {module}`{extra}"
        ) from error


def _names(along: Any) -> list[str] | None:
    """Names along an axis; None where numbers stand there."""
    array = np.asarray(along)
    return [str(name) for name in array] if array.dtype.kind == "U" else None


class Result(Shown):
    """Base of all results: what they share beside their own methods.

    A subclass is a dataclass whose class attributes say what its arrays are.

    Attributes
    ----------
    DESCRIBE : mapping of str to (str, str, str)
        Field -> names of its axes, separated by blanks ("x*": those of the grid), units, meaning; {unit} and {name} are filled from
        the result. A file of the result says the same.
    DERIVED : mapping of str to (str, str, str)
        Likewise of properties, and of methods without arguments, that belong to the answer.
    ALONG : mapping of str to str
        Axis -> the field with the values, or the names, that stand along it.
    ROWS : str
        Axes whose entries are the rows of a table.
    ERRORS : mapping of str to str
        Field -> that with its standard errors.
    MAIN, MAIN_NAME : str
        Field that is the result, the others being about it: `to_xarray` is then a DataArray of it, under that name.
    PICTURE : str
        Function that draws it, as a dotted name; it takes the result and ``ax``.
    DRAWN : str
        What `fpsolve.plotting.plot_result` draws of it, if nothing else is asked for.

    Examples
    --------
    >>> import fpsolve as fps
    >>> isinstance(fps.Estimate(1.0, stderr=0.1), fps.results.Result)
    True
    """

    ALONG: ClassVar[Mapping[str, str]] = {}
    ROWS: ClassVar[str] = ""
    ERRORS: ClassVar[Mapping[str, str]] = {}
    MAIN: ClassVar[str] = ""
    MAIN_NAME: ClassVar[str] = ""
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
            columns: dict[str, Any] = {}
            for name, (dims, values, *_) in variables.items():
                flat = np.asarray(values).ravel().tolist()
                if len(dims) < 2 and len(flat) <= _FEW:
                    columns.update({f"{name}_{i}" if dims else name: [value] for i, value in enumerate(flat)})
            return {**columns, **{name: [value] for name, value in attrs.items()}}, ""
        sizes = {axis: size for dims, values, *_ in variables.values() for axis, size in zip(dims, np.shape(values), strict=True)}
        rows = tuple(axis for axis in rows if axis in sizes)
        shape = tuple(sizes[axis] for axis in rows)
        counted = {} if len(rows) == 1 else {axis: ((axis,), np.arange(n)) for axis, n in zip(rows, shape, strict=True)}
        columns = {}
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
