"""What the engines return: frozen records of arrays and scalars that print themselves, plot, save and compare equal.

A leaf of the package: NumPy only at module level. ``.plot``, ``.save`` and ``.to_xarray`` import what they need when called.
Numbers carry their errors (`Estimate`), their unit and the assumptions behind them (`Assumption`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fpsolve._correlations import Autocorrelation, Occupation
from fpsolve._curves import Cycle, EffectiveLoss, Path, PhaseDiagram
from fpsolve._ensembles import EscapeTimes, Trajectories
from fpsolve._escape_statistics import EscapeStatistics, SurvivalCurve
from fpsolve._estimate import Assumption, Estimate, _plain, _Record
from fpsolve._fields import Density, DensitySeries, Field
from fpsolve._modes import Current, ExitTimeDistribution, Spectrum
from fpsolve._path_statistics import PathStatistics
from fpsolve._rare_results import SplittingEstimate
from fpsolve._result import Result, _require
from fpsolve._shown import Quantity, html_table

__all__ = [
    "Assumption",
    "Autocorrelation",
    "Current",
    "Cycle",
    "Density",
    "DensitySeries",
    "EffectiveLoss",
    "EscapeReport",
    "EscapeStatistics",
    "EscapeTimes",
    "Estimate",
    "ExitTimeDistribution",
    "Field",
    "Occupation",
    "Path",
    "PathStatistics",
    "PhaseDiagram",
    "Quantity",
    "Result",
    "SelectionReport",
    "Spectrum",
    "SplittingEstimate",
    "SurvivalCurve",
    "Table",
    "Trajectories",
]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.5g}"
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


@dataclass(frozen=True, eq=False, repr=False)
class Table(_Record):
    """Rows of numbers and words under column names; prints aligned.

    Parameters
    ----------
    title : str
    columns : sequence of str
    rows : sequence of rows
        Each as long as `columns`; cells are numbers, strings, booleans or None.
    notes : sequence of str
        Lines below the table.

    Raises
    ------
    ValueError
        If a row is not as long as `columns`.

    Examples
    --------
    >>> print(Table("Rates", ["method", "rate"], [["theory", 0.125], ["paths", 0.13]], notes=["seed 1"]))
    Rates
    method   rate
    ------  -----
    theory  0.125
    paths    0.13
    seed 1
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()
    ROWS: ClassVar[str] = "row"

    def __post_init__(self) -> None:
        if not isinstance(self.title, str):
            raise TypeError(f"Table: title must be text, got {type(self.title).__name__}: {self.title!r}")
        object.__setattr__(self, "columns", tuple(str(c) for c in self.columns))
        object.__setattr__(self, "rows", tuple(tuple(_plain(c) for c in r) for r in self.rows))
        object.__setattr__(self, "notes", tuple(str(n) for n in self.notes))
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"Table: row {i} has {len(row)} cells for {len(self.columns)} columns")

    def column(self, name: str) -> list[Any]:
        """All cells of the column `name`."""
        if name not in self.columns:
            raise ValueError(f"Table: no column {name!r}; there are {list(self.columns)}")
        return [row[self.columns.index(name)] for row in self.rows]

    def to_markdown(self) -> str:
        """The table as GitHub markdown, numbers right-aligned."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

        rule = ["---:" if right else "---" for right in self._right()]
        body = [line([_cell(c) for c in row]) for row in self.rows]
        notes = ["", *self.notes] if self.notes else []
        return "\n".join([f"**{self.title}**", "", line(self.columns), line(rule), *body, *notes])

    def to_dataframe(self) -> Any:
        """A pandas.DataFrame with the same columns (needs the package pandas)."""
        return _require("pandas", "Table.to_dataframe").DataFrame(list(self.rows), columns=list(self.columns))

    def _quantities(self) -> dict[str, Quantity]:
        """The fields that a report has beside the table, then the columns: numbers as such, words as such."""
        beside = {name: q for name, q in super()._quantities().items() if name not in ("columns", "rows")}
        return {**beside, **{name: Quantity(self._filled(name), ("row",)) for name in self.columns}}

    def _filled(self, name: str) -> Any:
        """A column as an array: NaN or nothing where a cell is empty."""
        cells = self.column(name)
        if all(c is None or _is_number(c) for c in cells):
            return np.array([math.nan if c is None else c for c in cells], dtype=np.float64)
        return np.array([_cell(c) for c in cells], dtype=np.str_)

    def _along(self, axis: str) -> Quantity | None:
        """The words of the first column, beside the rows."""
        first = self._filled(self.columns[0]) if axis == "row" and self.columns else np.zeros(0)
        return Quantity(first) if first.dtype.kind == "U" else None

    def _repr_html_(self) -> str:
        """The table with what is below it, for notebooks."""
        body = [[_cell(c) for c in row] for row in self.rows]
        return html_table(self.title, self.columns, body, self._right(), [*self.notes, *self._below()])

    def _below(self) -> list[str]:
        """Lines of a report below its table and notes."""
        return []

    def _right(self) -> list[bool]:
        """Columns whose filled cells are all numbers are aligned right."""
        filled = [[row[i] for row in self.rows if row[i] is not None] for i in range(len(self.columns))]
        return [bool(cells) and all(_is_number(c) for c in cells) for cells in filled]

    def __str__(self) -> str:
        text = [list(self.columns), *([_cell(c) for c in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in text) for i in range(len(self.columns))]
        right = self._right()

        def line(cells: Sequence[str]) -> str:
            put = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
            return "  ".join(put).rstrip()

        rule = "  ".join("-" * w for w in widths)
        return "\n".join([self.title, line(text[0]), rule, *(line(row) for row in text[1:]), *self.notes, *self._below()])

    __repr__ = __str__


@dataclass(frozen=True, eq=False, repr=False)
class EscapeReport(Table):
    """Answers to one escape question side by side, and what follows from them; made by `fpsolve.escape_report`.

    A `Table` whose rows are the answers, with these fields in addition.

    Parameters
    ----------
    estimates : mapping of str to Estimate
        The mean time of each row, all in one unit; the quasi-potential is a number without unit, the exponent of the time.
    reference : str
        The row that the others are held against; empty if nothing can serve.
    assumptions : sequence of Assumption
        What the formulas need, tested for the case at hand.
    skipped : mapping of str to str
        What could not be run, with the reason.
    conclusion : str
        One sentence that follows from the numbers.
    seed : int, optional

    Raises
    ------
    ValueError
        As `Table`, or if the reference is none of the rows.

    Examples
    --------
    >>> report = EscapeReport("Escape", ["method"], [["formula"]], estimates={"formula": Estimate(2.0, unit="time")})
    >>> report.log_ratio("formula", "formula")
    0.0
    """

    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    reference: str = ""
    assumptions: tuple[Assumption, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    conclusion: str = ""
    seed: int | None = None
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_escape_report"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "estimates", dict(self.estimates))
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        object.__setattr__(self, "skipped", dict(self.skipped))
        if self.reference and self.reference not in self.estimates:
            raise ValueError(f"EscapeReport: the reference {self.reference!r} is none of {list(self.estimates)}")

    @property
    def failed(self) -> tuple[Assumption, ...]:
        """The conditions that do not hold."""
        return tuple(a for a in self.assumptions if a.status == "failed")

    def log_time(self, name: str) -> float:
        """Natural logarithm of an answer, also where it is beyond doubles."""
        if name not in self.estimates:
            raise ValueError(f"EscapeReport: no row {name!r}; there are {list(self.estimates)}")
        e = self.estimates[name]
        if e.log_value is not None:
            return e.log_value
        return math.log(e.value) if e.value > 0.0 else -math.inf

    def log_ratio(self, name: str, other: str | None = None) -> float:
        """ln of an answer over another one; over the reference by default."""
        return self.log_time(name) - self.log_time(self.reference if other is None else other)

    def _below(self) -> list[str]:
        lines = ["", "conditions of the formulas", *(f"  {a}" for a in self.assumptions)]
        if self.skipped:
            lines += ["left out", *(f"  {name}: {reason}" for name, reason in self.skipped.items())]
        return [*lines, self.conclusion]


@dataclass(frozen=True, eq=False, repr=False)
class SelectionReport(Table):
    """Where SGD goes in a valley of minima, by theory, equation and paths side by side; made by `fpsolve.selection_report`.

    A `Table` whose rows are the answers, with these fields in addition.

    Parameters
    ----------
    effective : EffectiveLoss
        The effective loss, the conditions, the bounds of the noise.
    densities : mapping of str to array (n,)
        Density of the slow coordinate at the points ``effective.x``, of the rows that have one.
    estimates : mapping of str to Estimate
        <x> at the time of the question, of each row that has it, and "relaxation".
    distances : mapping of str to float
        Total variation between the density of a row and that of the reference.
    reference : str
        The row that the others are held against; empty if nothing can serve.
    skipped : mapping of str to str
        What could not be run, with the reason.
    conclusion : str
        One sentence that follows from the numbers.
    seed : int, optional

    Raises
    ------
    ValueError
        As `Table`, or if the reference is none of the densities and estimates.

    Examples
    --------
    >>> SelectionReport("Valley", ["answer"], [["theory"]], conclusion="SGD goes to x = 0.").conclusion
    'SGD goes to x = 0.'
    """

    effective: EffectiveLoss | None = None
    densities: Mapping[str, Any] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    distances: Mapping[str, float] = field(default_factory=dict)
    reference: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    conclusion: str = ""
    seed: int | None = None
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_selection_report"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("densities", "estimates", "distances", "skipped"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        if self.reference and self.reference not in {*self.densities, *self.estimates}:
            raise ValueError(f"SelectionReport: the reference {self.reference!r} is no row with a density or a mean")

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What the theory needs, tested for the case at hand."""
        return () if self.effective is None else self.effective.assumptions

    @property
    def failed(self) -> tuple[Assumption, ...]:
        """The conditions that do not hold."""
        return tuple(a for a in self.assumptions if a.status == "failed")

    def _below(self) -> list[str]:
        lines = ["", "conditions of the theory", *(f"  {a}" for a in self.assumptions)]
        if self.effective is not None:
            bounds = [f"  {name}: factor {e.value:.4g} left ({e.method})" for name, e in self.effective.bounds.items()]
            lines += ["bounds of the noise", *bounds]
        if self.skipped:
            lines += ["left out", *(f"  {name}: {reason}" for name, reason in self.skipped.items())]
        return [*lines, self.conclusion]
