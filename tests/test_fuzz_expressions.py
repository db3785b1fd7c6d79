"""Text that is no formula, or one that nobody would write: refused with ValueError or TypeError, or computed rightly, and soon."""

import math
import random

import mpmath
import numpy as np
import pytest
from fuzzing import FACTOR, failures, outcome

import fpsolve as fps
from fpsolve.expressions import FUNCTIONS

POINTS = np.array([[0.3, 0.4], [1.0, -2.0], [0.0, 0.0]])
K = 1.5
LEAVES = ["x", "y", "k", "x", "y", "2", "3", "0.5", "pi", "1e-3", "7", "100"]
STRANGE = [
    "0", "1", "-1", "1e308", "1e-308", "5e-324", "1e999", "1e-400", "9**9**9", "nan", "inf", "1j", "0x10", "1_000", "10**400",
    "-0.0", "007", "x0", "z", "_x", "__import__", "lambda", "x.y", "x[0]", "'a'", "True", "None", "...", "\u03b1", "x\u0301",
    "\uff11", "\u0661", "\u2212", "\x00", "\u202e",
]  # fmt: skip
SIGNS = "+ - * / ** % // @ ^ << < == , := and if else ; # \\ ( ) ( )".split() + [" ", "\n"]


def formula(rng: random.Random, depth: int, strange: float = 0.0) -> str:
    """Random arithmetic; a share of its leaves is strange."""
    if depth == 0 or rng.random() < 0.1:
        return rng.choice(STRANGE if rng.random() < strange else LEAVES)
    if rng.random() < 0.65:
        sign = rng.choice(SIGNS) if rng.random() < strange / 5 else rng.choice("+-*/*")
        sign = "**" if rng.random() < 0.15 else sign
        return f"({formula(rng, depth - 1, strange)}){sign}({formula(rng, depth - 1, strange)})"
    name = rng.choice(sorted(FUNCTIONS))
    count = FUNCTIONS[name] or rng.randint(2, 4)
    return f"{name}({','.join(formula(rng, depth - 1, strange) for _ in range(count))})"


def soup(rng: random.Random) -> str:
    """Tokens in any order."""
    return "".join(rng.choice([*LEAVES, *STRANGE, *SIGNS, *FUNCTIONS]) for _ in range(rng.randint(1, 40)))


def characters(rng: random.Random) -> str:
    """Any of Unicode, lone surrogates as well."""
    return "".join(chr(rng.randint(0, rng.choice([127, 0x2FFF, 0x10FFFF]))) for _ in range(rng.randint(0, 60)))


def ordered(choose):
    """min or max of real numbers; ValueError for others."""

    def function(*arguments):
        if any(v != v or isinstance(v, (complex, mpmath.mpc)) for v in arguments):
            raise ValueError
        return choose(arguments)

    return function


def value_of(text: str, x: float, y: float, precise: bool) -> float:
    """The text as Python computes it, with NumPy or with 40 digits; NaN where it has no real value."""
    names: dict[str, object] = {
        "min": ordered(min),
        "max": ordered(max),
        "abs": abs,
        "x": np.float64(x),
        "y": np.float64(y),
        "k": np.float64(K),
        "pi": np.pi,
    }
    for name in set(FUNCTIONS) - set(names):
        names[name] = getattr(mpmath if precise else np, name.replace("a", "arc", 1) if name[0] == "a" and not precise else name)
    try:
        with mpmath.workdps(40), np.errstate(all="ignore", over="raise"):  # 40 digits of exp(exp(30)) take for ever
            if precise:
                names |= {"x": mpmath.mpf(x), "y": mpmath.mpf(y), "k": mpmath.mpf(K), "pi": mpmath.pi}
            return float(eval(text, {"__builtins__": {}}, names))
    except (ArithmeticError, AttributeError, TypeError, ValueError):  # complex numbers have no order, and atan2 fails
        return math.nan


def evaluate(text: str) -> None:
    """The value, right where it is well conditioned, and both derivatives, of the right shapes."""
    U = fps.Potential.from_expression(text, "x y", {"k": K})
    with np.errstate(all="ignore"):
        values, slopes, curvatures = U(POINTS), U.grad(POINTS), U.hess(POINTS)
    assert values.shape == (3,) and slopes.shape == (3, 2) and curvatures.shape == (3, 2, 2)
    for (x, y), value in zip(POINTS[:2], values[:2], strict=True):  # at 0 an exact form may differ: x*x/x is x
        rough = value_of(text, x, y, False)
        precise = value_of(text, x, y, True) if math.isfinite(rough) else math.nan
        if abs(precise) < 1e30:
            assert abs(value - precise) <= 1e-7 * max(1.0, abs(precise)) + 100.0 * abs(rough - precise), (value, precise)


def everywhere(text: str) -> None:
    """The other ways in for text; tensors are looked at, so that what is not positive semi-definite is refused, not met later."""
    for way in (
        lambda: fps.Noise.from_expression([[text, "0"], ["0", "1"]], variables="x y", params={"k": K}),
        lambda: fps.Noise.from_factor([[text], ["y"]], variables="x y", params={"k": K}),
        lambda: fps.Noise.diagonal([text, "1"], variables="x y", params={"k": K}),
        lambda: fps.Process.from_drift([text, "-y"], fps.Noise.isotropic(0.1), variables="x y", params={"k": K}).drift(POINTS),
        lambda: fps.Region.from_expression(text, "x y", {"k": K}),
        lambda: fps.Ensemble.from_expression(text, "x", {"y": [0.1, 0.2]}),
    ):  # fmt: skip
        with np.errstate(all="ignore"):
            outcome(way)


@pytest.mark.parametrize("kind, n", [("formula", 90), ("strange", 90), ("soup", 60), ("characters", 60)])
def test_random_text(kind, n):
    rng = random.Random(f"{kind} {FACTOR}")
    make = {
        "formula": lambda: formula(rng, rng.randint(1, 5)), "strange": lambda: formula(rng, rng.randint(1, 4), 0.2),
        "soup": lambda: soup(rng), "characters": lambda: characters(rng),
    }[kind]  # fmt: skip
    texts = [make() for _ in range(n * FACTOR)]
    wrong = failures({f"{text!r}": lambda text=text: evaluate(text) for text in texts})
    wrong += failures({f"{text!r}": lambda text=text: everywhere(text) for text in texts[::5]})
    assert not wrong, "\n".join(wrong)


HARD = {
    "ten thousand brackets": "(" * 10_000 + "x" + ")" * 10_000,
    "a million characters": "x" * 10**6,
    "many terms": "+".join(f"sin(x*{i})" for i in range(100)),
    "many factors": "*".join(f"(x-{i})" for i in range(30)),
    "too many factors": "*".join(f"(x-{i})" for i in range(300)),
    "tower of powers": "x**" * 60 + "2",
    "signs": "-" * 19_000 + "x",
    "nested functions": "sin(" * 33 + "x" + ")" * 33,
    "nested constants": "exp(" * 30 + "1" + ")" * 30,
    "nested powers": "((((((x+1)**64)**64)**64)**64)**64)**64",
    "max of many": "max(" + ",".join(f"sin(x*{i})+y" for i in range(40)) + ")",
    "max of too many": "max(" + ",".join(f"x+{i}" for i in range(2000)) + ")",
    "max in max": "min(max(x,y)," * 20 + "y" + ")" * 20,
    "power of power": "exp(x)**exp(y)**exp(x)",
    "tan of tan": "tan(tan(tan(tan(tan(x)))))",
}


@pytest.mark.parametrize("name", HARD)
def test_large_text_ends_soon(name):
    wrong = failures({name: lambda: evaluate(HARD[name])}, seconds=20.0)
    assert not wrong, wrong


# ---- found by these tests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["x*(pi + 1)", "x/(pi + 1)", "x*(sqrt(2) + 1)", "(x - 1)*(y + 2)/(exp(0.5) + atan(7))", "(pi + 1)**x"]
)
def test_sums_of_constants_keep_their_brackets(text):
    """They were printed without: x*(pi + 1) was computed as x + pi."""
    x, y = POINTS[1]
    assert fps.Potential.from_expression(text, "x y")([x, y]) == pytest.approx(value_of(text, x, y, True), rel=1e-14)


@pytest.mark.parametrize(
    "text",
    ["1e308*10*x", "(1e308*x)**2", "x/5e-324", "sinh(1e3)", "1e308 + 1e308", "0.0**x", "(-1)**x", "exp(exp(10))", "1/5e-324"],
)
def test_constants_that_are_no_finite_real_numbers(text):
    """They were found when the first value was asked for, as NameError."""
    with pytest.raises(ValueError, match="no smooth real function|not a finite real number"):
        fps.Potential.from_expression(text, "x")


@pytest.mark.parametrize(
    "text, slope",
    [
        ("abs(log(x))", -2.0),
        ("sign(x**x)*x", 1.0),
        ("log(abs(log(x)))", -2.0 / math.log(2.0)),
        ("max(x**x, 2*x)", 2.0),
        ("abs(x**y)", 0.0),
    ],
)
def test_kinks_of_what_is_real_or_no_number(text, slope):
    """Their derivatives held real and imaginary parts, and were no code."""
    U = fps.Potential.from_expression(text, "x", {"y": 0.0})
    assert U.grad([0.5])[0] == pytest.approx(slope, rel=1e-12) and np.isfinite(U.hess([0.5])).all()


def test_maximum_of_many():
    """It took minutes: all pairs were compared by algebra, again and again."""
    U = fps.Potential.from_expression("max(" + ",".join(f"{i}*x - {i * i}" for i in range(60)) + ")", "x")
    x = np.array([[0.0], [10.6], [200.0]])
    assert U(x).tolist() == [max(i * v - i * i for i in range(60)) for v in x[:, 0]]
    assert U.grad(x)[:, 0].tolist() == [0.0, 5.0, 59.0]
