"""Pictures in characters: what is drawn stands where it belongs, whatever the size, the axes and the characters."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from fpsolve import _terminal
from fpsolve._terminal import draw, plain, size, unicode_works


@pytest.fixture
def ax():
    return Figure().add_subplot()


def inside(lines):
    """The inside of the frame, each row as wide as it."""
    bottom = next(i for i, line in enumerate(lines) if line.lstrip()[:1] == "└" or line.lstrip()[:2] in ("+-", "+|"))
    edge = len(lines[bottom]) - len(lines[bottom].lstrip())
    wide = len(lines[bottom]) - edge - 1
    return [line[edge + 1 :].ljust(wide) for line in lines[:bottom] if line[edge : edge + 1] in ("|", "+", "│", "┤")]


def braille(lines):
    """Dots of a picture, True where one is set."""
    codes = np.array([[ord(c) - 0x2800 if c != " " else 0 for c in row] for row in inside(lines)])
    bits = np.array([[0, 3], [1, 4], [2, 5], [6, 7]])
    return (codes[:, :, None, None] >> bits & 1).astype(bool).transpose(0, 2, 1, 3).reshape(4 * len(codes), -1)


@pytest.mark.parametrize("columns", [30, 47, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_longer_than_the_terminal(ax, columns, unicode):
    ax.plot([0.0, 1.0, 2.0], [1e-12, 3.0, -5e6], label="a curve with a long name " * 5)
    ax.set(xlabel="time " * 30, ylabel="loss", title="title " * 40)
    lines = draw(ax, columns, 12, unicode=unicode)
    assert max(map(len, lines)) <= columns
    assert sum(line.count("|" if not unicode else "│") for line in lines) >= 6


def test_a_parabola_stands_where_it_is(ax):
    """Every dot lies within one of the curve, and the curve has a dot in every column."""
    x = np.linspace(-1.0, 1.0, 500)
    ax.plot(x, x**2)
    ax.set(xlim=(-1, 1), ylim=(0, 1))
    dots = braille(draw(ax, 60, 10))
    height, width = dots.shape
    y, column = np.nonzero(dots)
    at = -1.0 + 2.0 * column / (width - 1)
    slope = np.abs(2.0 * at) * 2.0 / (width - 1)
    assert np.all(np.abs(1.0 - y / (height - 1) - at**2) <= 1.0 / (height - 1) + slope)
    assert dots.any(axis=0).all()


def test_logarithmic_axes_make_powers_straight(ax):
    x = np.geomspace(1.0, 1e4, 30)
    ax.loglog(x, x**2)
    ax.set(xlim=(1, 1e4), ylim=(1, 1e8))
    dots = braille(draw(ax, 64, 15))
    y, column = np.nonzero(dots)
    assert np.abs(1.0 - y / (dots.shape[0] - 1) - column / (dots.shape[1] - 1)).max() < 1.5 / 60
    assert any("10^4" in line for line in draw(ax, 64, 15))


def test_a_line_through_the_frame_is_clipped_not_bent(ax):
    """Its ends lie a million frames away; inside it is the diagonal."""
    ax.plot([-1e6, 1e6], [-1e6, 1e6])
    ax.set(xlim=(0, 1), ylim=(0, 1))
    dots = braille(draw(ax, 40, 10))
    y, column = np.nonzero(dots)
    assert len(y) >= 40 and np.abs(1.0 - y / 39 - column / (dots.shape[1] - 1)).max() < 2 / 39


def test_a_map_has_its_weight_where_it_is(ax):
    """A peak in the upper left; the shade of the largest values is there and nowhere else."""
    x, y = np.meshgrid(np.arange(10), np.arange(6))
    mesh = ax.pcolormesh(np.arange(11), np.arange(7), np.exp(-((x - 2) ** 2) - (y - 4.0) ** 2))
    ax.figure.colorbar(mesh, ax=ax, label="density")
    for unicode, top in ((True, "█"), (False, "@")):
        lines = draw(ax, 66, 12, unicode=unicode)
        rows = inside(lines)
        found = [(i, j) for i, row in enumerate(rows) for j, c in enumerate(row) if c == top]
        i, j = np.mean(found, axis=0)
        assert abs((i + 0.5) / 12 - (1 - 4.5 / 6)) < 0.08 and abs((j + 0.5) / len(rows[0]) - 2.5 / 10) < 0.08
        assert "density: " in lines[-1] and top in lines[-1]


def test_a_map_on_a_falling_axis_with_holes(ax):
    values = np.ma.masked_invalid([[1.0, np.nan], [0.0, 0.0]])
    ax.pcolormesh([0.0, 1.0, 2.0], [2.0, 1.0, 0.0], values)  # the first row is the upper one
    ax.set(xlim=(0, 2), ylim=(0, 2))
    rows = inside(draw(ax, 40, 8, unicode=False))
    assert rows[0].startswith("@") and not rows[0][len(rows[0]) // 2 + 12 :].strip() and not rows[-1].strip()


def test_bars_steps_error_bars_and_points_are_drawn(ax):
    ax.bar([0, 1], [3.0, 1.0], label="bars")
    ax.errorbar([0.0, 1.0], [1.0, 2.0], yerr=0.5, fmt="o", label="measured")
    ax.step([0.0, 1.0], [2.5, 2.5], label="steps")
    ax.scatter([0.5], [0.2])
    lines = draw(ax, 60, 14, unicode=False)
    marks = {c for row in inside(lines) for c in row} - {" "}
    assert len(marks) >= 5
    assert any(line.endswith("steps") for line in lines)


def test_strange_numbers_are_left_out(ax):
    ax.plot([0.0, np.nan, np.inf, 1.0], [0.0, 1.0, 2.0, -np.inf])
    ax.plot([], [])
    assert draw(ax, 40, 6)


def test_size_follows_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "60")
    assert size() == (120, 36) and size(50) == (50, 15)
    monkeypatch.setenv("LINES", "20")
    assert size() == (120, 12)
    monkeypatch.setenv("COLUMNS", "7")
    assert size()[0] == 30


@pytest.mark.parametrize(
    ("encoding", "term", "works"),
    [
        ("utf-8", "xterm-256color", True),
        ("ascii", "xterm", False),
        ("latin-1", "", False),
        ("utf-8", "dumb", False),
        ("utf-8", "", True),
    ],
)
def test_characters_are_those_of_the_stream(encoding, term, works, monkeypatch):
    monkeypatch.setenv("TERM", term)
    assert unicode_works(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) is works


def test_ticks_at_the_ends_have_their_labels(ax):
    """Whatever the last bits of the transforms are."""
    for high in (1.0, 0.7, 3.3, 1e6):
        ax.set(xlim=(0, high), ylim=(0, high), xticks=[0, high], yticks=[0, high], xticklabels="ab", yticklabels="cd")
        lines = draw(ax, 40, 6, unicode=False)
        assert lines[0].startswith("d +") and lines[5].startswith("c +") and lines[7].split() == ["a", "b"]


def test_labels_are_plain():
    assert plain(r"$D\,\partial_x p$ [1/time]") == "Dpartial_x p [1/time]"
    assert plain("\x1b[2Jx\ny") == "[2Jx y"
    assert _terminal._labels([(0.0, "first"), (0.02, "second"), (1.0, "last")], 20) == "first           last"
