"""Every plot draws what the result holds, on the axes it was given, and leaves pyplot and rcParams alone."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

import fpsolve as fps
from fpsolve import _pictures, plotting

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
    levels = _pictures._mass_levels(BIVARIATE, (0.5, 0.9))
    # the superlevel set of mass q of a bivariate normal is p >= (1 - q) / (2 pi)
    np.testing.assert_allclose(levels, [0.1 / (2 * np.pi), 0.5 / (2 * np.pi)], rtol=0.02)


def test_lines_carry_the_data():
    ax = SERIES.plot()
    assert len(ax.lines) == 2 and np.array_equal(ax.lines[0].get_ydata(), NORMAL.values)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["$t$ = 0.5", "$t$ = 1"]
    assert len(PATHS.plot(count=7).lines) == 7
    mesh = FIELD.plot(log=True).collections[0]
    assert np.ma.count_masked(mesh.get_array()) == np.isinf(FIELD.values).sum()


def test_many_times_have_colours_in_order_and_a_short_legend():
    times = np.arange(1.0, 41.0)
    ax = fps.DensitySeries(times, np.tile(NORMAL.values, (40, 1)), LINE).plot()
    assert len(ax.lines) == 40
    named = [t.get_text() for t in ax.get_legend().get_texts()]
    assert len(named) <= 7 and named[0] == "$t$ = 1" and named[-1] == "$t$ = 40"
    green = [line.get_color()[1] for line in ax.lines]  # grows along viridis
    assert np.all(np.diff(green) > 0.0)
    assert len({line.get_color() for line in SERIES.plot(color="k").lines}) == 1


def test_values_of_both_signs_are_white_at_zero_and_others_are_not():
    x = PLANE.points()[:, 0].reshape(PLANE.shape)
    mesh = fps.Field(x, PLANE, name="a very long name of a field that does not fit in one line").plot().collections[0]
    assert mesh.get_cmap().name == "RdBu_r" and mesh.get_clim() == (-np.abs(x).max(), np.abs(x).max())
    assert np.allclose(mesh.to_rgba(np.array([0.0]))[0, :3], 1.0, atol=0.05)
    assert "\n" in mesh.colorbar.ax.get_ylabel()
    for values, kwargs in ((x + 5.0, {}), (x + 4.0, {}), (x, {"cmap": "viridis"})):
        assert fps.Field(values, PLANE).plot(**kwargs).collections[0].get_cmap().name == "viridis"


def test_a_spectrum_has_bars_of_its_errors_and_a_scale_of_its_own():
    one = np.ones((3, *LINE.shape))
    spectrum = fps.Spectrum([0.0, -1.0, -2.0], one, one, np.zeros(3), LINE, eigenvalue_errors=[0.0, 0.25, np.inf])
    ax = spectrum.plot()
    segments = [s for c in ax.collections for s in c.get_segments()]
    assert any(np.allclose(s, [[-1.25, 0.0], [-0.75, 0.0]]) for s in segments)
    assert ax.get_ylim() == (-1.0, 1.0)
    assert np.array_equal(ax.lines[-1].get_xdata(), [0.0, -1.0, -2.0])


def test_fields_are_blank_outside_their_region_and_have_contours():
    """The mean exit time from the unit disc, (1 - r^2)/4 at D = 1: no colour outside, and every contour is a circle."""
    grid = fps.Grid((-1.5, 1.5, 90), (-1.5, 1.5, 80))
    r2 = np.sum(grid.points() ** 2, axis=1).reshape(grid.shape)
    field = fps.Field(np.where(r2 < 1.0, (1.0 - r2) / 4, 0.0), grid, name="mean exit time", unit="time", mask=r2 < 1.0)
    mesh, lines = field.plot().collections
    assert np.array_equal(np.ma.getmaskarray(mesh.get_array()), (r2 >= 1.0).T)
    drawn = 0
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        if len(path.vertices) and 0.0 < level < 0.25:
            drawn += 1
            np.testing.assert_allclose((1.0 - np.sum(path.vertices**2, axis=1)) / 4, level, atol=2e-3)
    assert drawn >= 3
    assert len(field.plot(contours=0).collections) == 1 and len(field.plot(log=True).collections) == 2
    assert not np.ma.getmaskarray(fps.Field(np.zeros(grid.shape), grid, unit="time").plot().collections[0].get_array()).any()


def test_regions_of_a_committor_are_flat_and_the_rest_is_drawn():
    """q = (x + 1)/2 between two half-lines: blank line on the regions, one grey band for each; in 2-D one grey mesh for each."""
    x = LINE.centers[0]
    between = np.abs(x) < 1.0
    line = fps.Field(np.clip((x + 1) / 2, 0, 1), LINE, name="committor", mask=between)
    ax = line.plot()
    assert np.array_equal(np.isnan(ax.lines[0].get_ydata()), ~between)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["committor = 0", "committor = 1"]
    bands = sorted((p.get_x(), p.get_x() + p.get_width()) for p in ax.patches)
    np.testing.assert_allclose(bands, [(-4.0, -1.0), (1.0, 4.0)], atol=1e-12)
    x = PLANE.points()[:, 0].reshape(PLANE.shape)
    plane = fps.Field(np.clip((x + 1) / 2, 0, 1), PLANE, name="committor", mask=np.abs(x) < 1.0)
    drawn = [np.ma.getmaskarray(c.get_array()) for c in plane.plot(contours=0).collections]
    for mesh, shown in zip(drawn, (np.abs(x) < 1.0, x <= -1.0, x >= 1.0), strict=True):
        assert np.array_equal(~mesh, shown.T)


def test_times_over_a_barrier_are_drawn_on_a_logarithmic_scale():
    """The exit time of Brownian motion is mild; one over a barrier, here exp(20 (1 - x)), spans decades. Both can be overruled."""
    grid = fps.Grid((0.0, 1.0, 50))
    x = grid.centers[0]
    steep, mild = (fps.Field(v, grid, name="mean exit time", unit="time") for v in (np.exp(20 * (1 - x)), 1 - x**2))
    assert (steep.plot().get_yscale(), mild.plot().get_yscale()) == ("log", "linear")
    assert (steep.plot(log=False).get_yscale(), mild.plot(log=True).get_yscale()) == ("linear", "log")
    assert fps.Field(steep.values, grid, name="no time").plot().get_yscale() == "linear"
    nothing = fps.Field(np.full(50, np.inf), grid, unit="time")
    assert nothing.plot(log=True).get_yscale() == "linear"


def test_values_near_the_end_of_doubles_are_drawn(tmp_path):
    grid = fps.Grid((0.0, 1.0, 50))
    values = np.exp(np.minimum(1200.0 * (1 - grid.centers[0]), 709.0))
    ax = fps.Field(values, grid, unit="time").plot()
    ax.figure.savefig(tmp_path / "a.png")  # margins and ticks at 1e308 overflow with a warning, here an error
    assert np.array_equal(np.isnan(ax.lines[0].get_ydata()), values > 1e220)


def test_a_constant_current_is_not_shown_on_the_scale_of_its_rounding_errors():
    current = fps.Current(0.03 * (1 + 1e-14 * np.arange(200.0))[:, None], LINE, np.zeros(200))
    low, high = current.plot().get_ylim()
    assert low <= 0.0 and high >= 0.03


def test_streamlines_do_not_follow_rounding_errors():
    """A current to the right in the strip |x2| < 1 and 1e-9 of it elsewhere: all lines lie in the strip (and one drawn cell)."""
    y = PLANE.points()[:, 1].reshape(PLANE.shape)
    values = np.stack([np.where(np.abs(y) < 1, 1.0, 1e-9), np.zeros(PLANE.shape)], axis=-1)
    lines = fps.Current(values, PLANE, np.zeros(PLANE.shape)).plot().collections[1]
    heights = np.concatenate([p.vertices[:, 1] for p in lines.get_paths()])
    assert heights.size and np.abs(heights).max() < 1 + PLANE.widths[1].max()


@pytest.mark.parametrize("rate, scale", [(1.0, "log"), (1e-7, "linear")])
def test_survival_of_nearly_all_has_a_linear_axis(rate, scale):
    t = np.linspace(0.0, 3.0, 50)
    law = fps.ExitTimeDistribution(t, np.exp(-rate * t), rate * np.exp(-rate * t), 0 * t)
    assert law.plot().get_yscale() == scale


def test_lengths_are_to_scale_and_graded_cells_lie_where_they_are():
    assert BIVARIATE.plot().get_aspect() == 1.0
    flat = fps.Grid((0.0, 10.0, 5), (0.0, 1.0, 4))
    assert fps.Field(np.ones(flat.shape), flat).plot().get_aspect() == "auto"
    graded = fps.Grid((-5.0, 5.0, 8, ("sinh", 0.0, 0.5)), (-4.0, 4.0, 6))
    corners = fps.Field(np.ones(graded.shape), graded).plot().collections[0].get_coordinates()
    np.testing.assert_array_equal(corners[0, :, 0], graded.edges[0])


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
    with pytest.raises(ValueError, match="dimension 4"):
        fps.Field(np.ones((3, 3, 3, 3)), fps.Grid(*[(0, 1, 3)] * 4)).plot()
