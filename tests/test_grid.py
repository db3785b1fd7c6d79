"""Grids and regions: geometry, sign conventions, components, and messages for bad input."""

import numpy as np
import pytest

from fpsolve.grid import Grid, Region
from fpsolve.potentials import Potential, double_well


def test_cells_fill_the_box():
    grid = Grid((-1.0, 3.0, 8), (0.0, 1.0, 5))
    assert grid.shape == (8, 5)
    assert grid.size == 40
    assert grid.points().shape == (40, 2)
    np.testing.assert_allclose(grid.cell_volumes.sum(), 4.0, rtol=1e-14)
    for k in range(2):
        np.testing.assert_allclose(np.diff(grid.edges[k]), grid.widths[k], rtol=1e-12)
        np.testing.assert_allclose(0.5 * (grid.edges[k][1:] + grid.edges[k][:-1]), grid.centers[k])
    np.testing.assert_array_equal(grid.points()[7], [grid.centers[0][1], grid.centers[1][2]])


def test_boundary_forms_and_equality():
    pair = Grid((0.0, 1.0, 4), boundary=("reflecting", "absorbing"))
    assert pair.boundary == (("reflecting", "absorbing"),)
    assert Grid((0, 1, 4), boundary=[("reflecting", "absorbing")]) == pair
    assert hash(Grid((0, 1, 4), boundary=[("reflecting", "absorbing")])) == hash(pair)
    assert Grid((0, 1, 4)) != pair
    mixed = Grid((0, 1, 4), (0, 1, 4), boundary=["periodic", ("absorbing", "reflecting")])
    assert mixed.boundary == (("periodic", "periodic"), ("absorbing", "reflecting"))
    assert mixed.coarsen().boundary == mixed.boundary
    assert eval(repr(mixed)) == mixed
    assert Grid((0, 1, 4)).__eq__(3) is NotImplemented


def test_arrays_cannot_be_changed():
    grid = Grid((0.0, 1.0, 4))
    with pytest.raises(ValueError, match="read-only"):
        grid.centers[0][0] = 3.0


def test_any_dimension_and_index():
    grid = Grid((0, 1, 2), (0, 1, 3), (0, 1, 4), boundary=["reflecting", "periodic", "absorbing"])
    assert grid.points().shape == (24, 3)
    assert grid.index([1.0, 1.1, 0.5]) == (1, 0, 2)
    with pytest.raises(ValueError, match="outside the grid: axis 0"):
        grid.index([1.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="shape"):
        grid.index([0.5])


@pytest.mark.parametrize(
    ("axis", "match"),
    [
        ((0.0, 1.0, 1), "at least 2 cells"),
        ((1.0, 0.0, 5), "lo must be less than hi"),
        ((1.0, 1.0, 5), "lo must be less than hi"),
        ((0.0, np.inf, 5), "finite"),
        ((0.0, np.nan, 5), "finite"),
        ((0.0, 1.0), r"\(lo, hi, n\)"),
        (3, r"\(lo, hi, n\)"),
    ],
)
def test_bad_axes(axis, match):
    with pytest.raises(ValueError, match=match):
        Grid(axis)


def test_bad_cell_number_type():
    with pytest.raises(TypeError, match="integer"):
        Grid((0.0, 1.0, 5.0))
    with pytest.raises(ValueError, match="at least one axis"):
        Grid()


@pytest.mark.parametrize(
    ("boundary", "match"),
    [
        ("reflectng", "did you mean 'reflecting'"),
        (["reflecting"], "1 entries for 2 axes"),
        ([("periodic", "reflecting"), "absorbing"], "one side only"),
        ([("a", "b", "c"), "absorbing"], "pair"),
    ],
)
def test_bad_boundaries(boundary, match):
    with pytest.raises(ValueError, match=match):
        Grid((0, 1, 4), (0, 1, 4), boundary=boundary)


def test_bad_boundary_type():
    with pytest.raises(TypeError, match="boundary"):
        Grid((0, 1, 4), boundary=3)


def test_region_conventions():
    x = np.random.default_rng(1).normal(size=(200, 2)) * 2
    np.testing.assert_allclose(Region.ball([1.0, 0.0], 2.0).g(x), np.hypot(x[:, 0] - 1, x[:, 1]) - 2)
    np.testing.assert_array_equal(Region.halfspace([1.0, -2.0], 0.5).contains(x), x @ [1.0, -2.0] < 0.5)
    box = Region.box([-1.0, -np.inf], [1.0, 2.0])
    np.testing.assert_array_equal(box.contains(x), (abs(x[:, 0]) < 1) & (x[:, 1] < 2))
    U = Potential.from_expression("x**2 + a*y**2", variables="x y", params={"a": 3.0})
    np.testing.assert_array_equal(Region.sublevel(U, 1.5).contains(x), U(x) < 1.5)
    np.testing.assert_array_equal(Region.sublevel(U.with_params(a=1.0), 1.5).contains(x), (x**2).sum(1) < 1.5)
    # the set is open: the surface itself is outside
    assert not Region.ball([0.0], 1.0).contains([1.0])
    assert not Region.box([0.0], [1.0]).contains([0.0])


def test_balls_of_different_radius_share_their_source():
    one, two = Region.ball([0.0, 0.0], 1.0), Region.ball([1.0, 0.5], 3.0)
    assert one.code.emit("g") == two.code.emit("g")
    assert one.code.n_out == 1


def test_sublevel_keeps_one_component():
    grid = Grid((-2.0, 2.0, 80), (-1.0, 1.0, 40))
    U = double_well(2)
    both = Region.sublevel(U, 0.5).mask(grid)
    left = Region.sublevel(U, 0.5, containing=[-1.0, 0.0]).mask(grid)
    right = Region.sublevel(U, 0.5, containing=[1.0, 0.0]).mask(grid)
    assert left.any()
    np.testing.assert_array_equal(left | right, both)
    np.testing.assert_array_equal(left[::-1], right)
    assert not (left & right).any()


def test_components_join_across_a_periodic_side():
    region = Region.from_expression("0.5 - cos(x)**2", variables="x")  # |x| < pi/4 and |x - pi| < pi/4
    args = (-np.pi, np.pi, 64)
    part = Region(region.code, containing=[3.0])
    assert part.mask(Grid(args, boundary="periodic")).sum() == 16
    assert part.mask(Grid(args)).sum() == 8


def test_a_function_tells_its_dimension():
    def line(x, p):
        return abs(x[0]) - 1.0

    def plane(x, p):
        return x[0] ** 2 + x[1] ** 2 - 1.0

    def pair(x, p):
        a, b = x
        return a * a + b * b - p[0]

    def many(x, p):
        return x[7]

    assert [Region.from_function(g).dim for g in (line, plane)] == [1, 2]
    assert Region.from_function(pair, params={"r": 2.0}).contains([1.0, 0.9])
    wide = Region.from_function(line, 2)
    assert wide.contains([[0.5, 9.0], [1.5, 0.0]]).tolist() == [True, False]
    with pytest.raises(ValueError, match="pass dim="):
        Region.from_function(many)
    with pytest.raises(ValueError, match="dim=2"):
        Region.from_function(line).mask(Grid((0, 1, 4), (0, 1, 4)))
    with pytest.raises(TypeError, match="expected a function"):
        Region.from_function("x")


def test_region_errors():
    grid = Grid((0.0, 1.0, 10))
    with pytest.raises(ValueError, match="contains no cell centre"):
        Region.ball([5.0], 0.5).mask(grid)
    with pytest.raises(ValueError, match="grid is 1-D"):
        Region.ball([0.0, 0.0], 0.5).mask(grid)
    with pytest.raises(ValueError, match="radius must be > 0"):
        Region.ball([0.0], 0.0)
    with pytest.raises(ValueError, match="lo < hi"):
        Region.box([1.0], [1.0])
    with pytest.raises(ValueError, match="not be zero"):
        Region.halfspace([0.0, 0.0], 1.0)
    with pytest.raises(ValueError, match="not inside"):
        Region.sublevel(double_well(), 0.5, containing=[0.0])
    with pytest.raises(TypeError, match="Potential"):
        Region.sublevel(lambda x: x, 0.5)
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 2\)"):
        Region.ball([0.0, 0.0], 1.0).g([1.0])
    with pytest.raises(ValueError, match="g is NaN at x = "):
        Region.from_expression("log(x)", variables="x").g([[1.0], [-1.0]])
    with pytest.raises(ValueError, match="no cell centre"):
        Region.sublevel(double_well(), 1e-4, containing=[1.0]).mask(Grid((-2.0, 2.0, 9)))
