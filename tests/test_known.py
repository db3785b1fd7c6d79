"""What sympy has found out is kept: known expressions need no sympy and give the same numbers; nothing stale gets in."""

import json
import pickle

import numpy as np
import pytest

import fpsolve as fps
from fpsolve import _known
from fpsolve._code import ExpressionCode

POSED = """
import json, sys
import fpsolve as fps
U = fps.Potential.from_expression("(x**2 - 1)**2 + k*y**2/2 + 0.1*sin(x*y)", "x y", {"k": 1.5})
noise = fps.Noise.from_expression([["0.2*(1 + x**2/4)", "0.08*x"], ["0.08*x", 0.3]], "x y")
process, at = fps.Process(U, noise), [0.4, -0.3]
region = fps.Region.from_expression("max(x - 1, y**2 - k)", "x y", {"k": 4.0})
strat = fps.Process(U, fps.Noise.from_factor([["1 + x**2"], ["y"]], variables="x y"), interpretation="stratonovich")
numbers = [*U.hess(at).ravel(), *process.drift(at), *process.divergence(at), *noise.diffusion(at).ravel(), *strat.drift(at),
           float(region.g(at))]
print(json.dumps({"sympy": "sympy" in sys.modules, "numbers": [float(v) for v in numbers]}))
"""


@pytest.fixture
def empty(monkeypatch, tmp_path):
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_known_expressions_need_no_sympy(run_python, tmp_path) -> None:
    first, second = (run_python("-c", POSED, FPSOLVE_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    one, two = json.loads(first.stdout), json.loads(second.stdout)
    assert one["sympy"] and not two["sympy"]
    assert one["numbers"] == two["numbers"]
    never = json.loads(run_python("-c", POSED, FPSOLVE_CACHE_DIR=str(tmp_path), FPSOLVE_NUMBA_CACHE="0").stdout)
    assert never["sympy"] and never["numbers"] == one["numbers"]


def test_paths_of_known_models_need_no_sympy(run_python) -> None:
    """Neither simulate nor escape_times asks for more than is kept, sides of a box included."""
    code = """
import sys, fpsolve as fps
flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
fps.simulate(flat, [0.0], t=1.0, dt=0.1, n=4, seed=1, threads=1)
out = fps.escape_times(flat, [0.0], fps.Region.box([-1.0], [1.0]), n=4, dt=0.1, seed=1, threads=1)
print(out.side_names, {"sympy", "h5py"} & set(sys.modules))
"""
    run_python("-c", code)
    assert run_python("-c", code).stdout.strip() == "('x0 = -1', 'x0 = 1') set()"


def test_what_is_refused_is_refused_always(empty) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="attribute access"):
            fps.Potential.from_expression("x.real")
        with pytest.raises(ValueError, match="D must be symmetric"):
            fps.Noise.from_expression([["1", "x"], ["y", "1"]], "x y")
        with pytest.raises(TypeError, match="must be text or a real number"):
            fps.Potential.from_expression(None)


def test_names_and_their_order_are_part_of_a_fact(empty) -> None:
    one, two = ExpressionCode.from_texts(["x - 2*y"], "xy", ()), ExpressionCode.from_texts(["x - 2*y"], "yx", ())
    third = ExpressionCode.from_texts(["x - 2*y"], "x", ("y",))
    for _ in range(2):
        assert one.evaluate([3.0, 1.0]) == 1.0 and two.evaluate([3.0, 1.0]) == -5.0
        assert third.evaluate([3.0], {"y": 1.0}) == 1.0 and third.names == ("y",)


def test_a_damaged_fact_is_found_again(empty) -> None:
    expected = fps.Potential.from_expression("x**3 + x").grad([2.0])
    files = list(empty.rglob("*.json"))
    assert files
    for path in files:
        path.write_text("{half a")
    assert np.array_equal(fps.Potential.from_expression("x**3 + x").grad([2.0]), expected) and expected == 13.0
    assert all(json.loads(path.read_text()) is not None for path in files)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(monkeypatch, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(tmp_path / "file"))
    assert fps.Potential.from_expression("x**3 + x").grad([2.0]) == 13.0


def test_a_new_version_forgets(empty, monkeypatch) -> None:
    before = _known.name_of("parse", ["x"])
    monkeypatch.setattr(_known, "_versions", lambda: "another")
    assert _known.name_of("parse", ["x"]) != before


def test_lazy_expressions_travel(empty) -> None:
    code = pickle.loads(pickle.dumps(fps.Potential.from_expression("x**2*y", "x y").hess_code))
    assert code.evaluate([1.0, 3.0]).tolist() == [6.0, 2.0, 2.0, 0.0]
    assert [str(e) for e in code.expressions] == ["2*y", "2*x", "2*x", "0"]
