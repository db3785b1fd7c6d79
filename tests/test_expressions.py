"""The parser refuses everything outside its whitelist, and the printed source computes what the text says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpsolve.expressions import parse, split_names, to_source
from fpsolve.potentials import Potential

NAMES = ["x", "y", "k", "lambda", "E", "I", "S", "N", "beta", "gamma"]

REFUSED = [
    "x.__class__", "().__class__.__bases__", "__import__('os')", "open('f')", "eval('x')", "x if x else y", "[x]", "(x, y)",
    "{x: y}", "(lambda: 1)()", "x and y", "x < y", "x[0]", "'text'", "True", "1j", "x := 2", "f(x)", "sin(x, y)", "sin()", "max(x)",
    "sin(x=1)", "sin(*[x])", "x // y", "x % y", "x @ y", "x ^ 2", "~x", "not x", "__name__", "_x", "x y", "", "x +", "1/0",
    "log(0)",
    "sqrt(-1)", "9**9**9", "x**1000", "1e999", "10**400", "nan", "inf", "oo", "zoo", "x; y", "x\ny", "(" * 500 + "x" + ")" * 500,
    "x" * 30000, "-" * 3000 + "x", "sin", "pi()",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    with pytest.raises(ValueError):
        parse(text, ["x", "y"])


@pytest.mark.parametrize("value", [None, [1], b"x", object(), True])
def test_only_text_and_numbers(value):
    with pytest.raises((TypeError, ValueError)):
        parse(value, ["x"])


def test_undeclared_name_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'gamma'"):
        parse("gama*x", ["x", "gamma"])


def test_names_of_sympy_and_python_are_ordinary():
    value = run("E*I + S*N*beta - gamma/lambda + x", {n: float(i + 2) for i, n in enumerate(NAMES)})
    v = {n: float(i + 2) for i, n in enumerate(NAMES)}
    expected = v["E"] * v["I"] + v["S"] * v["N"] * v["beta"] - v["gamma"] / v["lambda"] + v["x"]
    assert value == pytest.approx(expected, rel=1e-15)
    U = Potential.from_expression("lambda*x**2/2 + E*I*S*N*beta*gamma", "x", dict.fromkeys(NAMES[3:], 1.0))
    assert U.with_params(**{"lambda": 3.0})([2.0]) == 7.0


@pytest.mark.parametrize("names", ["x x", "1x", "_x", "x-y", "sin", "x.y", "", "if"])
def test_bad_names(names):
    with pytest.raises(ValueError):
        split_names(names)


def run(text, values):
    names = list(values)
    namespace = {f: getattr(math, f) for f in "sin cos tan asin acos atan atan2 sinh cosh tanh exp log sqrt fabs".split()}
    namespace |= {"fmax": max, "fmin": min, "sign": lambda v: (v > 0) - (v < 0)}
    exec(to_source("f", [parse(text, names)], names, []), namespace)
    return namespace["f"](tuple(values.values()), ())[0]


@st.composite
def expressions(draw, depth=3):
    """Random text, and the same arithmetic as a Python function of (x, y)."""
    if depth == 0 or draw(st.booleans()):
        kind = draw(st.sampled_from(["x", "y", "number"]))
        if kind == "number":
            number = draw(st.sampled_from([0.5, 1, 2, 3, 0.1, 7, 1.25]))
            return str(number), lambda x, y: float(number)
        return kind, (lambda x, y: x) if kind == "x" else (lambda x, y: y)
    left, f = draw(expressions(depth=depth - 1))
    operator = draw(st.sampled_from(["+", "-", "*", "/", "**", "neg", "sin", "exp", "abs", "max"]))
    if operator in ("+", "-", "*", "/", "max"):
        right, g = draw(expressions(depth=depth - 1))
        return {
            "+": (f"({left}) + ({right})", lambda x, y: f(x, y) + g(x, y)),
            "-": (f"({left}) - ({right})", lambda x, y: f(x, y) - g(x, y)),
            "*": (f"({left})*({right})", lambda x, y: f(x, y) * g(x, y)),
            "/": (f"({left})/(1 + ({right})**2)", lambda x, y: f(x, y) / (1 + g(x, y) ** 2)),
            "max": (f"max({left}, {right})", lambda x, y: max(f(x, y), g(x, y))),
        }[operator]
    n = draw(st.sampled_from([2, 3, -2, 5]))
    return {
        "**": (f"(2 + abs({left}))**{n}", lambda x, y: (2 + abs(f(x, y))) ** n),
        "neg": (f"-({left})", lambda x, y: -f(x, y)),
        "sin": (f"sin({left})", lambda x, y: math.sin(f(x, y))),
        "exp": (f"exp(-abs({left}))", lambda x, y: math.exp(-abs(f(x, y)))),
        "abs": (f"abs({left})", lambda x, y: abs(f(x, y))),
    }[operator]


@settings(max_examples=150, deadline=None)
@given(expressions(), st.floats(-2, 2), st.floats(-2, 2))
def test_source_computes_the_text(pair, x, y):
    text, function = pair
    expected = function(x, y)
    scale = max(1.0, abs(expected))
    assert run(text, {"x": x, "y": y}) == pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)


def test_derivatives_of_kinks():
    U = Potential.from_expression("abs(x) + max(x, 2)", "x")
    np.testing.assert_array_equal(U.grad([[-1.0], [1.0], [3.0]])[:, 0], [-1.0, 1.0, 2.0])
    np.testing.assert_array_equal(U.hess([[-1.0], [1.0], [3.0]])[:, 0, 0], [0.0, 0.0, 0.0])
