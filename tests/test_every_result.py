"""Every result prints, shows itself in notebooks, becomes an xarray Dataset and a data frame, and is drawn."""

import copy
import dataclasses
import html.parser
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from result_cases import CASES, HOSTILE, INPUTS, LINE, SPACE, TIME

import fpsolve as fps
import nets
from fpsolve.results import Result

NAMES = [cls.__name__ for cls in CASES]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of every kind, by its name."""
    return {cls.__name__: make(tmp_path_factory.mktemp("results")) for cls, (make, _) in CASES.items()}


# ---- none is left out ------------------------------------------------------------------------------------------------------


def public_classes() -> set[type]:
    """All classes among the public names of both packages and of their public modules."""
    modules = [fps, nets, *(importlib.import_module(f"fpsolve.{name}") for name in fps._SUBMODULES)]
    modules += [importlib.import_module(f"nets.{m.name}") for m in pkgutil.iter_modules(nets.__path__) if m.name[0] != "_"]
    found = {getattr(module, name) for module in modules for name in getattr(module, "__all__", ())}
    return {thing for thing in found if isinstance(thing, type)}


def unlisted(classes: set[type]) -> set[type]:
    """Classes that look like results, dataclasses or things that can be saved, but are not in the table of cases."""
    look = {c for c in classes if (dataclasses.is_dataclass(c) or hasattr(c, "save")) and c not in INPUTS}
    return {c for c in look if not issubclass(c, Result) or c not in CASES} - {fps.results.Result}


#: Intermediate records of the demo, which hands out tables and figures.
OF_THE_DEMO = {"Settings", "Report", "Tensors", "Variances"}


def test_every_public_result_is_here() -> None:
    assert {c.__name__ for c in unlisted(public_classes())} <= OF_THE_DEMO


def test_a_new_result_without_them_is_noticed() -> None:
    new = dataclasses.make_dataclass("New", [("values", np.ndarray)])
    assert unlisted({new, fps.Density}) == {new}


@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_described(name: str, results: dict[str, Any]) -> None:
    """Every array among the fields says what its axes and units are, and has as many axes."""
    one = results[name]
    held = {n: q for n, q in one._quantities().items() if isinstance(q.value, np.ndarray)}
    for field, quantity in held.items():
        assert len(quantity.dims) == quantity.value.ndim, f"{name}.{field} has {quantity.value.ndim} axes, but {quantity.dims}"
        assert quantity.meaning or isinstance(one, fps.Table), f"{name}.{field} says not what it is"


# ---- text ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_repr_has_the_answer(name: str, results: dict[str, Any]) -> None:
    text, words = repr(results[name]), next(words for cls, (_, words) in CASES.items() if cls.__name__ == name)
    assert all(word in text for word in words), text
    assert len(text.splitlines()) <= 12 and all(len(line) < 320 for line in text.splitlines()), text


class Balanced(html.parser.HTMLParser):
    """Notes the tags, and fails where one is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []
        self.rows: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs), attrs
        colours = re.findall(r"(?:^|;)(?:color|background)\s*:([^;]*)", dict(attrs).get("style") or "")
        assert set(colours) <= {"inherit", "none"}, "colours are those of the page, light or dark"
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += int(dict(attrs).get("colspan") or 1)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_html_is_a_small_table(name: str, results: dict[str, Any]) -> None:
    page = results[name]._repr_html_()
    reader = Balanced()
    reader.feed(page)
    reader.close()
    assert not reader.open and set(reader.seen) <= {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "br"}
    assert len(set(reader.rows)) == 1 and len(reader.rows) > 1, "rows have one length"
    assert HOSTILE not in page and "<script" not in page
    if HOSTILE[:20] in repr(results[name]):
        assert "<script>" in "".join(reader.text), "escaped, not lost"
    assert len(page) < 20_000


def test_a_table_shows_its_own_rows() -> None:
    page = fps.Table("T", ["a", "b"], [["x", 1.23456789]], notes=["seed 1"])._repr_html_()
    assert re.search(r"<td[^>]*>x</td><td[^>]*right[^>]*>1.2346</td>", page) and "seed 1" in page


def test_shown_beside_results(tmp_path: Path) -> None:
    config = fps.read_config(
        {
            "potential": {"name": "double_well"},
            "noise": {"D": 0.5},
            "task": {"name": "kramers_rate", "minimum": [-1.0], "saddle": [0.0]},
        }
    )
    for thing, text in (
        (config, "noise.D"),
        (fps.Assumption("small noise", "failed", "D = 2"), "small noise"),
        (fps.potentials.quadratic([[1.0]]).critical_points([(-1.0, 1.0)])[0], "minimum"),
    ):
        assert text in thing._repr_html_()


# ---- arrays and tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_to_xarray(name: str, results: dict[str, Any]) -> None:
    xarray = pytest.importorskip("xarray")
    one = results[name]
    data = one.to_xarray()
    variables, _, _ = one._labelled()
    if isinstance(data, xarray.DataArray):
        data, variables = data.rename(one.MAIN).to_dataset(), {one.MAIN: variables[one.MAIN]}
    assert variables and set(variables) == set(data.data_vars)
    for key, quantity in one._quantities().items():
        if key in data and isinstance(quantity.value, np.ndarray):
            np.testing.assert_array_equal(data[key].values, quantity.value)
            assert data[key].attrs.get("units", "") == quantity.units
            assert data[key].attrs.get("long_name", "") == quantity.meaning


@pytest.mark.parametrize("name", ["Density", "DensitySeries", "Field", "EscapeTimes", "SurvivalCurve", "PhaseDiagram", "Volume"])
def test_to_netcdf_and_back(name: str, results: dict[str, Any], tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    data = results[name].to_xarray()
    if isinstance(data, xarray.DataArray):
        data = data.rename("values").to_dataset()
    data.to_netcdf(tmp_path / "one.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "one.nc", engine="h5netcdf") as again:
        xarray.testing.assert_equal(again, data)
        assert {v: again[v].attrs.get("units") for v in again.data_vars} == {v: data[v].attrs.get("units") for v in data.data_vars}


def test_a_file_and_xarray_say_the_same(tmp_path: Path, results: dict[str, Any]) -> None:
    h5py = pytest.importorskip("h5py")
    law = results["ExitTimeDistribution"]
    law.save(tmp_path / "law.h5")
    variables, _, _ = law._labelled()
    with h5py.File(tmp_path / "law.h5") as file:
        group = next(v for v in file.values() if isinstance(v, h5py.Group) and "survival" in v)
        for name, (dims, values, about) in variables.items():
            np.testing.assert_array_equal(group[name][()], values)
            assert group[name].attrs["dims"].decode().split() == list(dims)
            assert group[name].attrs["units"].decode() == about.get("units", "")
            assert group[name].attrs["long_name"].decode() == about["long_name"]


def test_coordinates_are_those_of_the_result(results: dict[str, Any]) -> None:
    for name, axis, values in (
        ("Density", "x1", results["Density"].grid.centers[1]),
        ("DensitySeries", "time", [0.0, 0.5, 1.0]),
        ("PhaseDiagram", "lr", [0.1, 0.2, 0.4]),
        ("Occupation", "region", [HOSTILE, "right"]),
        ("Sweep", "noise.D", [0.1, 0.2, 0.4]),
        ("Run", "step", [10, 20]),
        ("Volume", "width", [0.5, 1.0, 2.0]),
        ("SelectionReport", "x", np.linspace(-1.0, 1.0, 5)),
    ):
        assert list(results[name]._labelled()[1][axis][1]) == list(values), name


def test_errors_are_variables_of_their_own(results: dict[str, Any]) -> None:
    for name, variable, error, expected in (
        ("EscapeTimes", "mean", "mean_error", escapes_error()),
        ("Path", "action", "action_error", 0.1),
        ("FluctuationDissipation", "left", "left_error", 0.01),
        ("EscapeReport", "estimates_value", "estimates_error", [0.5]),
        ("Estimate", "value", "stderr", 0.3),
    ):
        variables = results[name]._labelled()[0]
        assert variable in variables, name
        np.testing.assert_allclose(variables[error][1], expected, rtol=1e-12)
    assert results["Spectrum"].ERRORS["eigenvalues"] in results["Spectrum"]._labelled()[0]


def escapes_error() -> float:
    """T/k/sqrt(k) with total time 12 and three escapes."""
    return 12.0 / 3.0 / np.sqrt(3.0)


@pytest.mark.parametrize(
    "name, columns, rows",
    [
        ("Density", ["x0", "x1", "density"], 12),
        ("DensitySeries", ["time", "x0", "density"], 12),
        ("Field", ["x0", HOSTILE, "mask"], 4),
        ("EscapeTimes", ["time", "censored", "exit_0", "exit_1"], 4),
        ("EscapeStatistics", ["counts", "after", "until"], 4),
        ("SurvivalCurve", ["time", "survival", "low", "high", "at_risk"], 3),
        ("Trajectories", ["final_0", "final_1"], 3),
        ("Occupation", [f"inside_{HOSTILE}", "inside_right"], 2),
        ("PhaseDiagram", ["sigma", "lr", "critical", "escaped", "order"], 6),
        ("Table", ["method", "rate", "error"], 2),
        ("Sweep", ["noise.D", "value"], 3),
        ("Estimate", ["value", "stderr", "discretization_error", "unit", "method"], 1),
        ("TwoLayerBound", ["bound", "sharp", "gradient", "norm"], 1),
        ("FluctuationDissipation", ["z", "ratio", "left", "left_error"], 1),
        ("Run", ["step", "train_loss", "train_error"], 2),
        ("Window", ["shares", "variances", "tau"], 4),
        ("Attack", ["size", "seed", "accuracy", "theta_0"], 3),
    ],
)
def test_to_dataframe_has_the_columns(name: str, columns: list[str], rows: int, results: dict[str, Any]) -> None:
    found = results[name]
    table, _ = (dict(zip(found.columns, zip(*found.rows, strict=True), strict=True)), "") if name == "Table" else found._columns()
    assert [c for c in columns if c not in table] == []
    assert {len(column) for column in table.values()} == {rows}


@pytest.mark.parametrize("name", NAMES)
def test_to_dataframe(name: str, results: dict[str, Any]) -> None:
    pytest.importorskip("pandas")
    frame = results[name].to_dataframe()
    assert len(frame) and len(frame.columns)
    if name not in ("Table", "EscapeReport", "SelectionReport"):
        columns, index = results[name]._columns()
        assert list(frame.columns) == list(columns) and (frame.index.name or "") == index


def test_rows_of_a_field_are_its_cells() -> None:
    grid = fps.Grid((0.0, 1.0, 2), (0.0, 3.0, 3))
    columns, _ = fps.Field(np.arange(6.0).reshape(2, 3), grid, name="f")._columns()
    assert columns["x0"].tolist() == [0.25] * 3 + [0.75] * 3 and columns["x1"].tolist() == [0.5, 1.5, 2.5] * 2
    assert columns["f"].tolist() == [0, 1, 2, 3, 4, 5]


# ---- pictures ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_plot_draws_on_what_it_is_given(name: str, results: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    one = results[name]
    plt.close("all")
    current = plt.figure()
    ax = Figure().subplots()
    drawn = one.plot(ax=ax)
    assert drawn is ax and ax.has_data()
    assert plt.get_fignums() == [current.number] and plt.gcf() is current and not current.axes
    new = copy.copy(one).plot()
    assert isinstance(new, Axes) and new is not ax and plt.get_fignums() == [current.number]
    plt.close("all")


def test_plot_of_a_field_in_space_is_a_layer_and_in_more_dimensions_refused() -> None:
    ax = fps.Density(np.ones(SPACE.shape), SPACE).plot(plane=(0, 2))
    assert ax.get_xlabel() == "$x_{1}$" and ax.get_ylabel() == "$x_{3}$"
    ax = fps.Field(np.ones(SPACE.shape), SPACE, name="f").plot(at=0.9)
    assert "0.875" in ax.get_title()


def test_plot_result_draws_what_it_is_asked_for(results: dict[str, Any]) -> None:
    ax = fps.plotting.plot_result(results["EffectiveLoss"], quantity="variance")
    assert ax.get_xlabel() == "x" and ax.get_ylabel() == "variance"
    line = fps.plotting.plot_result(results["Eigenpairs"], quantity="values")
    assert line.get_ylabel() == "values [loss/weight^2]"
    points = fps.plotting.plot_result(TIME).containers[0]
    assert points.lines[0].get_xdata().tolist() == [12.0]
    with pytest.raises(ValueError, match="no line can be drawn of 'nothing'; there are .*floor"):
        fps.plotting.plot_result(results["EffectiveLoss"], quantity="nothing")
    between = fps.plotting.plot_result(fps.Estimate(2.0, stderr=0.1, unit="time", interval=(1.8, 2.3), method="mean"))
    assert between.get_xlabel() == "time" and between.get_yticklabels()[0].get_text() == "mean"
    with pytest.raises(ValueError, match="nothing in this Estimate is finite"):
        fps.plotting.plot_result(fps.Estimate(np.inf))
    with pytest.raises(TypeError, match=r"of several subplots give one, as axes\[0\]: got ndarray"):
        TIME.plot(ax=Figure().subplots(1, 2))
    with pytest.raises(TypeError, match="draws a Result, got Grid"):
        fps.plotting.plot_result(LINE)
