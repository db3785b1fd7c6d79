"""Every question of the Fokker-Planck engine on every kind of grid: the answer says what it is, is drawn, comes back from a file.

What the numbers are is tested elsewhere; here each answer is checked for what a reader of it needs.
"""

import functools
import re

import numpy as np
import pytest

import fpsolve as fps

D = 0.25
WELL = fps.potentials.double_well()
TURNING = [[1.0, 0.6], [-0.3, 0.8]]


def line(*axis, boundary="reflecting"):
    return fps.FokkerPlanck(fps.Process(WELL, fps.Noise.isotropic(D)), fps.Grid(axis, boundary=boundary))


def plane(grid):
    return fps.FokkerPlanck(fps.Process.ornstein_uhlenbeck(TURNING, fps.Noise.isotropic(0.5)), grid)


def tilted(grid, drift, variables):
    return fps.FokkerPlanck(fps.Process.from_drift(drift, fps.Noise.isotropic(0.5), variables=variables), grid)


#: Solvers by grid; starts [-1] or [-1, 0], from which two cells or more lie to every surface asked for.
SOLVERS = {
    "line": lambda: line(-2.0, 2.0, 48),
    "graded line": lambda: line(-2.0, 2.0, 48, ("sinh", 0.0, 0.5)),
    "nodes line": lambda: line(-2.0, 2.0, 48, lambda u: u + 0.1 * np.sin(np.pi * u) ** 2),
    "ring": lambda: tilted(fps.Grid((-np.pi, np.pi, 48), boundary="periodic"), ["0.5 - sin(x)"], "x"),
    "graded plane": lambda: plane(fps.Grid((-4.0, 4.0, 24, ("sinh", 0.0, 1.0)), (-4.0, 4.0, 20))),
    "cylinder": lambda: tilted(
        fps.Grid((-np.pi, np.pi, 24), (-3.0, 3.0, 20), boundary=["periodic", "reflecting"]), ["0.5 - sin(x)", "-y"], "x y"
    ),
}


@functools.cache
def solver(name):
    return SOLVERS[name]()


def _regions(fp):
    """Start, a region around it, and two regions apart from each other."""
    up = np.eye(fp.grid.dim)[0]
    start = -1.0 * up
    return start, fps.Region.ball(start, 0.8), fps.Region.ball(start, 0.5), fps.Region.ball(-start, 0.5)


def _gaussian(fp):
    return ("gaussian", _regions(fp)[0], 0.3 * np.eye(fp.grid.dim))


#: The questions of the table in docs/fokker-planck.md -> the answers, a tuple.
QUESTIONS = {
    "stationary": lambda fp, x, r, a, b: (fp.stationary(),),
    "evolve": lambda fp, x, r, a, b: (fp.evolve(_gaussian(fp), 0.3), fp.evolve(_gaussian(fp), [0.1, 0.3], method="positive")),
    "current": lambda fp, x, r, a, b: (fp.current(), fp.current(fp.evolve(_gaussian(fp), 0.3))),
    "entropy_production": lambda fp, x, r, a, b: (fp.entropy_production(),),
    "detailed_balance": lambda fp, x, r, a, b: (fp.detailed_balance(),),
    "mean_exit_time": lambda fp, x, r, a, b: (fp.mean_exit_time(r), fp.mean_exit_time(r, at=x)),
    "exit_time_variance": lambda fp, x, r, a, b: (fp.exit_time_variance(r), fp.exit_time_variance(r, at=x)),
    "exit_time_moments": lambda fp, x, r, a, b: fp.exit_time_moments(r, order=3),
    "exit_time_distribution": lambda fp, x, r, a, b: (fp.exit_time_distribution(r, x, [0.1, 0.5, 1.0]),),
    "escape_rate": lambda fp, x, r, a, b: (fp.escape_rate(r),),
    "quasi_stationary": lambda fp, x, r, a, b: (fp.quasi_stationary(r),),
    "committor": lambda fp, x, r, a, b: (fp.committor(a, b),),
    "reactive_rate": lambda fp, x, r, a, b: (fp.reactive_rate(a, b),),
    "reactive_current": lambda fp, x, r, a, b: (fp.reactive_current(a, b),),
    "spectrum": lambda fp, x, r, a, b: (fp.spectrum(3), fp.spectrum(3).right_field(1)),
    "expectation": lambda fp, x, r, a, b: fp.expectation(lambda y: y[:, 0], [0.1, 0.3], _gaussian(fp)),
    "backward": lambda fp, x, r, a, b: (fp.backward(lambda y: y[:, 0], 0.3),),
    "estimate": lambda fp, x, r, a, b: (fp.estimate(lambda f: f.stationary().covariance()[0, 0]),),
}
#: Where a field is solved for: 1 in the region r, 0 outside a and b.
MASKS = {"mean_exit_time": 1, "exit_time_variance": 1, "exit_time_moments": 1, "committor": 0}


def test_every_question_of_the_page_is_asked(request):
    page = (request.config.rootpath / "docs" / "fokker-planck.md").read_text(encoding="utf-8")
    table = page[page.index("| `stationary()`") :].split("\n\n")[0]
    names = {n for row in table.splitlines() for n in re.findall(r"`(\w+)\(", row.split("|")[1])}
    methods = {n for n in dir(fps.FokkerPlanck) if not n.startswith("_") and callable(getattr(fps.FokkerPlanck, n))}
    assert set(QUESTIONS) | {"refine"} == names == methods  # refine() answers with a solver


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", SOLVERS)
def test_answers_say_what_they_are_are_drawn_and_come_back_equal(name, question, tmp_path):
    fp = solver(name)
    x, r, a, b = _regions(fp)
    for answer in QUESTIONS[question](fp, x, r, a, b):
        fps.save(tmp_path / "answer.h5", answer)
        back = fps.load(tmp_path / "answer.h5")
        assert type(back) is type(answer) and back == answer
        assert getattr(back, "warnings", ()) == getattr(answer, "warnings", ())
        assert fp.method in answer.method and fp.method in repr(answer)
        if isinstance(answer, fps.Estimate):
            assert back.assumptions == answer.assumptions and repr(back) == repr(answer)
            continue
        assert all(f"warning: {w}" in repr(answer) for w in answer.warnings)
        if hasattr(answer, "grid"):
            assert back.grid == answer.grid == fp.grid
            assert all(np.array_equal(u, v) for u, v in zip(back.grid.edges, fp.grid.edges, strict=True))
            assert repr(answer).split("\n")[0].count(" x ".join(map(str, fp.grid.shape)) + " cells") == 1
        if isinstance(answer, fps.Field):
            assert np.array_equal(back.mask, answer.mask)
            if question in MASKS:
                inside = r.mask(fp.grid) if MASKS[question] else ~(a.mask(fp.grid) | b.mask(fp.grid))
                assert np.array_equal(answer.mask, inside) and 0 < inside.sum() < inside.size
            else:
                assert answer.mask.all()
        ax = answer.plot()
        assert ax.get_xlabel() and ax.get_ylabel() and (ax.lines or ax.collections)
        if "graded" in name:
            ax.figure.draw_without_rendering()
