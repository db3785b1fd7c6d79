"""Every plot draws what the result holds, on the axes it was given, and leaves pyplot and rcParams alone."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

import fpsolve as fps
from fpsolve import plotting

LINE = fps.Grid((-4.0, 4.0, 200))
PLANE = fps.Grid((-5.0, 5.0, 80), (-6.0, 6.0, 90))
NORMAL = fps.Density(stats.norm.pdf(LINE.centers[0]), LINE)
BIVARIATE = fps.Density(stats.multivariate_normal([0, 0], np.eye(2)).pdf(PLANE.points()).reshape(PLANE.shape), PLANE)
FIELD = fps.Field(np.where(BIVARIATE.values > 1e-6, BIVARIATE.values, np.inf), PLANE, name="mean exit time", unit="time")
TIMES = np.random.default_rng(0).exponential(2.0, 500)
ESCAPES = fps.EscapeTimes(np.minimum(TIMES, 3.0), TIMES > 3.0, np.zeros((500, 1)), t_max=3.0)
PATHS = fps.Trajectories(np.ones((30, 1)), [0.0, 1.0], states=np.ones((2, 30, 1)))
PATHS3 = fps.Trajectories(np.ones((30, 3)), [0.0, 1.0], states=np.ones((2, 30, 3)))
SERIES = fps.DensitySeries([0.5, 1.0], np.stack([NORMAL.values, NORMAL.values]), LINE)
ALL = [
    NORMAL,
    BIVARIATE,
    SERIES,
    FIELD,
    fps.Field(NORMAL.values, LINE),
    ESCAPES,
    PATHS,
    PATHS3,
    fps.Trajectories(np.eye(3), [1.0]),
    fps.Trajectories(np.arange(9.0)[:, None], [1.0]),
]


@pytest.mark.parametrize("obj", ALL, ids=lambda o: type(o).__name__)
def test_plots_on_given_axes_and_writes_a_file(obj, tmp_path):
    before = dict(mpl.rcParams)
    ax = Figure().add_subplot()
    assert obj.plot(ax=ax) is ax
    assert ax.get_xlabel() and ax.get_ylabel()
    ax.figure.savefig(tmp_path / "a.png", dpi=40)
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert obj.plot() is not ax
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported():
    code = (
        "import sys, numpy as np, fpsolve as fps;"
        "fps.Density(np.ones((4, 4)) * np.arange(1, 5), fps.Grid((0, 1, 4), (0, 1, 4))).plot();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_contours_enclose_the_stated_mass():
    levels = plotting._mass_levels(BIVARIATE, (0.5, 0.9))
    # the superlevel set of mass q of a bivariate normal is p >= (1 - q) / (2 pi)
    np.testing.assert_allclose(levels, [0.1 / (2 * np.pi), 0.5 / (2 * np.pi)], rtol=0.02)


def test_lines_carry_the_data():
    ax = SERIES.plot()
    assert len(ax.lines) == 2 and np.array_equal(ax.lines[0].get_ydata(), NORMAL.values)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["$t$ = 0.5", "$t$ = 1"]
    assert len(PATHS.plot(count=7).lines) == 7
    mesh = FIELD.plot(log=True).collections[0]
    assert np.ma.count_masked(mesh.get_array()) == np.isinf(FIELD.values).sum()


def test_fields_are_blank_outside_their_region_and_have_contours():
    """The mean exit time from the unit disc, (1 - r^2)/4 at D = 1: no colour outside, and every contour is a circle."""
    grid = fps.Grid((-1.5, 1.5, 90), (-1.5, 1.5, 80))
    r2 = np.sum(grid.points() ** 2, axis=1).reshape(grid.shape)
    field = fps.Field(np.where(r2 < 1.0, (1.0 - r2) / 4, 0.0), grid, name="mean exit time", unit="time")
    mesh, lines = field.plot().collections
    assert np.array_equal(np.ma.getmaskarray(mesh.get_array()), (r2 >= 1.0).T)
    drawn = 0
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        if len(path.vertices) and 0.0 < level < 0.25:
            drawn += 1
            np.testing.assert_allclose((1.0 - np.sum(path.vertices**2, axis=1)) / 4, level, atol=2e-3)
    assert drawn >= 3
    assert len(field.plot(contours=0).collections) == 1 and len(field.plot(log=True).collections) == 2
    assert not np.ma.getmaskarray(fps.Field(np.zeros(grid.shape), grid, unit="").plot().collections[0].get_array()).any()


def test_survival_is_kaplan_meier():
    e = fps.EscapeTimes([1.0, 2.0, 2.0, 3.0, 4.0], [False, False, True, False, True], np.zeros((5, 1)))
    times, survival = e.plot(fit=False).lines[0].get_data()
    assert times.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    np.testing.assert_allclose(survival, [1.0, 0.8, 0.6, 0.3, 0.3])  # 4/5, 3/4, 1/2
    fit = ESCAPES.plot().lines[-1]
    rate = ESCAPES.rate().value
    np.testing.assert_allclose(fit.get_ydata(), np.exp(-rate * fit.get_xdata()))
    curve = e.survival()
    ax = curve.plot()
    assert ax.lines[0].get_ydata().tolist() == curve.survival.tolist() and len(ax.collections) == 1


def test_comparison():
    ax = plotting.plot_comparison([1.0, 2.0], {"a": [1.1, 1.9], "b": [1.0, 2.2]}, errors=[0.1, 0.2])
    assert ax.get_yscale() == "log" and len(ax.get_legend().get_texts()) == 3
    ratio = plotting.plot_comparison([1.0, 2.0], {"a": [1.1, 1.9]}, errors=[0.1, 0.2], ratio=True)
    drawn = next(line for line in ratio.lines if line.get_label() == "a")
    np.testing.assert_allclose(drawn.get_ydata(), [1.1, 0.95])
    with pytest.raises(ValueError, match="one shape"):
        plotting.plot_comparison([1.0], {"a": [1.0, 2.0]})
    with pytest.raises(ValueError, match="negative error"):
        plotting.plot_comparison([1.0], {}, errors=[-1.0])


def test_refusals():
    with pytest.raises(TypeError, match="plot_density draws"):
        plotting.plot_density(FIELD)
    with pytest.raises(ValueError, match="labels"):
        BIVARIATE.plot(labels=["x"])
    with pytest.raises(ValueError, match="components"):
        PATHS3.plot(components=(0, 3))
    cube = fps.Grid((0, 1, 3), (0, 1, 3), (0, 1, 3))
    with pytest.raises(ValueError, match="dimension 3"):
        fps.Field(np.ones((3, 3, 3)), cube).plot()
