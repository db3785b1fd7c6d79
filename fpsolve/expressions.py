"""User text becomes sympy expressions, and those become straight-line scalar code; text is never evaluated as Python.

A *code* (:class:`fpsolve._code.Code`) is a function (x, p) -> numbers that the engines either evaluate on arrays or inline into
a compiled loop. This module owns the first step: the whitelisted parser, and the printer from sympy to scalar source.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._checks import is_finite

__all__ = ["FUNCTIONS", "parse", "split_names", "statements"]

#: Functions that an expression may call, with their number of arguments (None: two or more).
FUNCTIONS: dict[str, int | None] = {
    "sin": 1, "cos": 1, "tan": 1, "asin": 1, "acos": 1, "atan": 1, "atan2": 2,
    "sinh": 1, "cosh": 1, "tanh": 1, "exp": 1, "log": 1, "sqrt": 1, "abs": 1, "sign": 1, "min": None, "max": None,
}  # fmt: skip
MAX_LENGTH = 20_000
MAX_DEPTH = 100
#: Functions and powers with varying exponent within each other: the terms of a second derivative grow with the square.
MAX_NESTED = 32
MAX_EXPONENT = 64
#: Arguments of min and max, and factors of a product: a second derivative looks at all pairs of them.
MAX_ARGUMENTS, MAX_FACTORS = 64, 40

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


def split_names(names: str | Iterable[str], what: str = "variables") -> tuple[str, ...]:
    """Split declared names and check them: ``"x y"``, ``"x, y"`` or an iterable of strings.

    Raises
    ------
    ValueError
        If a name is not a plain identifier (letters, digits, underscores; no leading underscore), is repeated, or is the
        name of a function of the expression language.

    Examples
    --------
    >>> split_names("x, y")
    ('x', 'y')
    """
    if not isinstance(names, Iterable):
        raise TypeError(f"{what} must be names, 'x y' or a list of them, got {type(names).__name__}: {names!r}")
    parts = tuple(re.split(r"[\s,]+", names.strip())) if isinstance(names, str) else tuple(names)
    for name in parts:
        if not isinstance(name, str) or not _NAME.match(name):
            raise ValueError(
                f"{what}: {name!r} is not a usable name; use letters, digits and underscores, starting with a letter, e.g. 'x y'"
            )
        if name in FUNCTIONS:
            raise ValueError(f"{what}: {name!r} is a function of the expression language; choose another name")
        if name in {"and", "or", "not", "if", "else", "is", "in"}:
            raise ValueError(f"{what}: {name!r} is an operator word; choose another name")
    if len(set(parts)) != len(parts):
        raise ValueError(f"{what}: {' '.join(parts)!r} repeats a name")
    return parts


def parse(text: str | float, names: Sequence[str]) -> Any:
    """Parse an arithmetic expression in declared names into a sympy expression with real symbols.

    Allowed are numbers, the declared names, ``+ - * / **``, parentheses and the functions of `FUNCTIONS`; ``pi`` is known
    unless it is declared. Everything else is refused: attribute access, subscripts, calls outside the list, strings, comparisons.

    Parameters
    ----------
    text : str or float
        The expression; a plain number is accepted too.
    names : sequence of str
        Variables and parameters. Names such as ``beta``, ``E``, ``I``, ``S``, ``N`` or ``lambda`` are ordinary names here.

    Returns
    -------
    sympy.Expr

    Raises
    ------
    TypeError
        If `text` is neither text nor a real number.
    ValueError
        If anything outside the whitelist occurs; an undeclared name is answered with the nearest declared one.

    Examples
    --------
    >>> parse("(x**2 - 1)**2 + lambda*y**2/2", ["x", "y", "lambda"])
    lambda*y**2/2 + (x**2 - 1)**2
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return _number(text, str(text))
    if not isinstance(text, str):
        raise TypeError(f"an expression must be text or a real number, got {type(text).__name__}: {text!r}")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expression of {len(text)} characters; at most {MAX_LENGTH} are accepted")
    source, aliases = _hide_keywords(text.strip(), names)
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        hint = "; write powers as **" if "^" in text else ""
        raise ValueError(f"cannot read the expression {_shorten(text)!r}: {_reason(error)}{hint}") from None
    walker = _Walker(names, aliases, text)
    expression = walker.walk(tree.body, 0)
    for number in sorted((n for n in expression.atoms() if n.is_number), key=str):  # products of constants come together here
        walker.constant(number)
    return expression


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg} near character {error.offset}" if error.offset else str(error.msg)
    return "nested too deeply" if isinstance(error, (RecursionError, MemoryError)) else str(error)


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _hide_keywords(text: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Python keywords that are declared names (lambda, ...) get an alias that no user name can equal."""
    aliases = {f"_{name}": name for name in names if keyword.iskeyword(name)}
    for alias, name in aliases.items():
        text = re.sub(rf"(?<![\w.]){name}(?!\w)", alias, text)
    return text, aliases


def _number(value: float, text: str) -> Any:
    import sympy

    if not is_finite(value):
        raise ValueError(f"the number {text} is not finite; write numbers below 1e308")
    return sympy.Integer(value) if isinstance(value, int) and abs(value) < 2**53 else sympy.Float(float(value), 17)


def _real(number: Any) -> float | None:
    """A constant of sympy as a float; None where it is not a finite real number."""
    try:
        value = float(number)
    except (TypeError, ValueError, OverflowError):  # complex, infinities with a direction, too large
        return None
    return value if math.isfinite(value) else None


class _Walker:
    """Turns whitelisted syntax nodes into sympy; knows nothing of Python objects."""

    def __init__(self, names: Sequence[str], aliases: Mapping[str, str], text: str) -> None:
        import sympy

        self.symbols = {name: sympy.Symbol(name, real=True) for name in names}
        self.aliases = aliases
        self.text = text
        self.nested = 0

    def refuse(self, what: str) -> ValueError:
        return ValueError(
            f"{what} in the expression {_shorten(self.text)!r}; allowed are numbers, declared names, + - * / **, "
            f"and {', '.join(sorted(FUNCTIONS))}"
        )

    def walk(self, node: ast.AST, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.refuse(f"nesting deeper than {MAX_DEPTH}")
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
                raise self.refuse(f"the constant {node.value!r}")
            if isinstance(node.value, int) and node.value.bit_length() > 1023:
                raise self.refuse("an integer too large for a float")
            return _number(node.value, str(node.value))
        if isinstance(node, ast.Name):
            return self.name(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
            operand = self.walk(node.operand, depth + 1)
            return -operand if isinstance(node.op, ast.USub) else operand
        if isinstance(node, (ast.BinOp, ast.Call)):
            inner = isinstance(node, ast.Call) or isinstance(node.op, ast.Pow)
            self.nested += inner
            if self.nested > MAX_NESTED:
                raise self.refuse(f"more than {MAX_NESTED} functions and powers within each other")
            value = self.call(node, depth) if isinstance(node, ast.Call) else self.binary(node, depth)
            self.nested -= inner
            return value
        raise self.refuse(_DESCRIPTIONS.get(type(node).__name__, f"the construct {type(node).__name__}"))

    def constant(self, number: Any) -> float:
        """Its value as a float."""
        value = _real(number)
        if value is None:
            raise self.refuse(f"the constant {_shorten(str(number))}, which is not a finite real number (below 1.8e308),")
        return value

    def name(self, name: str) -> Any:
        import sympy

        name = self.aliases.get(name, name)
        if name in self.symbols:
            return self.symbols[name]
        if name == "pi":
            return sympy.pi
        if name in FUNCTIONS:
            raise self.refuse(f"the function {name!r} without arguments")
        near = difflib.get_close_matches(name, [*self.symbols, "pi"], 1, 0.4)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        declared = " ".join(self.symbols) or "(none)"
        raise ValueError(
            f"undeclared name {name!r} in the expression {_shorten(self.text)!r}{hint} Declared names: {declared}. "
            "Declare it in variables= or params="
        )

    def binary(self, node: ast.BinOp, depth: int) -> Any:
        operators = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
        symbol = operators.get(type(node.op))
        if symbol is None:
            hint = " (write powers as **)" if isinstance(node.op, ast.BitXor) else ""
            raise self.refuse(f"the operator {type(node.op).__name__}{hint}")
        if symbol in "+-":
            return self.sum(node, depth)
        left, right = self.walk(node.left, depth + 1), self.walk(node.right, depth + 1)
        if symbol == "**":
            return self.power(left, right)
        if symbol == "/" and right.is_zero:
            raise self.refuse("a division by zero")
        value = left * right if symbol == "*" else left / right
        if value.is_number:
            self.constant(value)
        if value.is_Mul and len(value.args) > MAX_FACTORS:
            raise self.refuse(f"a product of more than {MAX_FACTORS} factors")
        return value

    def sum(self, node: ast.BinOp, depth: int) -> Any:
        """a + b - c ...: a sum of many terms is a deep tree, but no deep expression."""
        import sympy

        terms: list[Any] = []
        rest: ast.AST = node
        while isinstance(rest, ast.BinOp) and isinstance(rest.op, (ast.Add, ast.Sub)):
            term = self.walk(rest.right, depth + 1)
            terms.append(-term if isinstance(rest.op, ast.Sub) else term)
            rest = rest.left
        return sympy.Add(self.walk(rest, depth + 1), *reversed(terms))

    def power(self, base: Any, exponent: Any) -> Any:
        """Constant powers are taken in floating point: exact integers could grow without bound."""
        import sympy

        if base.is_number and exponent.is_number:
            try:
                value = float(base) ** float(exponent)
            except (OverflowError, ZeroDivisionError, TypeError):
                value = math.inf
            if isinstance(value, complex) or not math.isfinite(value):
                raise self.refuse(f"the constant power {base}**{exponent}, which is not a finite real number,")
            return (
                sympy.Integer(int(value))
                if base.is_Integer and exponent.is_Integer and abs(value) < 2**53 and value == int(value)
                else sympy.Float(value, 17)
            )
        if exponent.is_number and abs(float(exponent)) > MAX_EXPONENT:
            raise self.refuse(f"the exponent {exponent} (at most {MAX_EXPONENT} in size)")
        if base.is_number and float(base) <= 0.0:
            raise self.refuse(f"the power {base}**({_shorten(str(exponent))}), which is no smooth real function,")
        return base**exponent

    def call(self, node: ast.Call, depth: int) -> Any:
        import sympy

        if not isinstance(node.func, ast.Name) or node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.refuse("a call that is not function(argument, ...)")
        name = node.func.id
        if name not in FUNCTIONS or name in self.symbols:
            near = difflib.get_close_matches(name, FUNCTIONS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self.refuse(f"a call of {name!r}, which is not a known function{hint},")
        count = FUNCTIONS[name]
        if len(node.args) != count if count is not None else len(node.args) < 2:
            raise self.refuse(f"{name} with {len(node.args)} arguments")
        if len(node.args) > MAX_ARGUMENTS:
            raise self.refuse(f"{name} with {len(node.args)} arguments (at most {MAX_ARGUMENTS})")
        arguments = [self.walk(argument, depth + 1) for argument in node.args]
        if all(argument.is_number for argument in arguments):
            return self.number_of(name, arguments)
        from ._kinks import absolute, maximum, minimum, signum

        kinks = {"abs": absolute, "sign": signum, "min": minimum, "max": maximum}
        return (kinks.get(name) or getattr(sympy, name))(*arguments)

    def number_of(self, name: str, arguments: Sequence[Any]) -> Any:
        """A function of constants: exact where the value is rational, else in floating point."""
        import sympy

        values = [self.constant(argument) for argument in arguments]
        if name in ("min", "max"):
            return arguments[values.index((min if name == "min" else max)(values))]
        try:
            value = (
                abs(values[0])
                if name == "abs"
                else math.copysign(values[0] != 0.0, values[0])
                if name == "sign"
                else getattr(math, name)(*values)
            )
        except (ValueError, OverflowError):
            value = math.nan
        exact = None if not math.isfinite(value) else (sympy.Abs if name == "abs" else getattr(sympy, name))(*arguments)
        if exact is None or exact.is_finite is False or exact.is_real is False:
            raise self.refuse(f"{name}({', '.join(map(str, arguments))}), which is not a finite real number,")
        return exact if exact.is_Rational or exact.is_NumberSymbol else sympy.Float(value, 17)


_DESCRIPTIONS = {
    "Attribute": "attribute access",
    "Subscript": "a subscript",
    "Compare": "a comparison",
    "BoolOp": "a logical operator",
    "IfExp": "a conditional",
    "Lambda": "a lambda (declare the name to use it as a variable)",
    "List": "a list",
    "Tuple": "a tuple",
    "Dict": "a dictionary",
    "JoinedStr": "a string",
    "NamedExpr": "an assignment",
    "ListComp": "a comprehension",
    "GeneratorExp": "a comprehension",
    "Await": "await",
}


def to_source(name: str, expressions: Sequence[Any], variables: Sequence[str], params: Sequence[str]) -> str:
    """Source of ``name(x, p)`` that returns the tuple of `expressions`: common subexpressions once, straight-line, scalar.

    Only printed sympy numbers and names made here (x0, p0, t0) enter the text, whatever the user wrote.

    Examples
    --------
    >>> x = parse("x**2 + k", ["x", "k"])
    >>> print(to_source("f", [x], ["x"], ["k"]))
    def f(x, p):
        x0 = x[0]
        p0 = p[0]
        return (p0 + x0*x0,)
    <BLANKLINE>
    """
    used, temporaries, values = _statements(expressions, variables, params)
    lines = [f"def {name}(x, p):"]
    for letter, count in (("x", len(variables)), ("p", len(params))):
        lines += [f"    {letter}{i} = {letter}[{i}]" for i in range(count) if f"{letter}{i}" in used]
    lines += [f"    {symbol} = {value}" for symbol, value in temporaries]
    lines.append(f"    return ({', '.join(values)}{',' if len(values) == 1 else ''})")
    return "\n".join(lines) + "\n"


def statements(
    expressions: Sequence[Any], variables: Sequence[str], params: Sequence[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """The text of `to_source` in pieces: temporaries (t0, text), ... in their order, and the outputs, in x0, ... and p0, ..."""
    return _statements(expressions, variables, params)[1:]


def _statements(
    expressions: Sequence[Any], variables: Sequence[str], params: Sequence[str]
) -> tuple[set[str], list[tuple[str, str]], list[str]]:
    import sympy

    rename = {sympy.Symbol(v, real=True): sympy.Symbol(f"x{i}") for i, v in enumerate(variables)}
    rename |= {sympy.Symbol(k, real=True): sympy.Symbol(f"p{i}") for i, k in enumerate(params)}
    # A delta function is the derivative of a kink: zero almost everywhere, and a lattice of floats never meets it in law.
    plain = [
        sympy.sympify(e, strict=True).replace(sympy.DiracDelta, lambda *_: sympy.Integer(0)).xreplace(rename) for e in expressions
    ]
    temporaries, outputs = sympy.cse(plain, symbols=(sympy.Symbol(f"t{i}") for i in range(10**6)), order="none")
    used = {str(s) for e in plain for s in e.free_symbols}
    printer = _printer()
    return used, [(str(s), printer.doprint(value)) for s, value in temporaries], [printer.doprint(value) for value in outputs]


#: Function of sympy -> its name in scalar source, or how it is written there.
_PRINTED = {name: name for name in FUNCTIONS if name not in ("abs", "min", "max")} | {
    "Abs": "fabs", "fabs": "fabs", "sgn": "sign", "fmax": "fmax", "fmin": "fmin", "step": "(0.5 + 0.5*sign({}))"
}  # fmt: skip


def _printer() -> Any:
    from sympy.printing.str import StrPrinter

    class ScalarPrinter(StrPrinter):  # type: ignore[misc]
        """Prints real arithmetic that both NumPy arrays and Numba scalars understand."""

        def _print(self, expr: Any, **settings: Any) -> str:
            """Constants as numbers; what is neither that nor in the list has no place in a formula."""
            if expr.is_number:
                value = _real(expr)
                if value is None:
                    raise ValueError(
                        f"the expression or its derivative holds {_shorten(str(expr))}, which is no finite real number"
                    )
                return repr(value)
            if not (expr.is_Symbol or expr.is_Add or expr.is_Mul or expr.is_Pow or expr.func.__name__ in _PRINTED):
                raise ValueError(f"no scalar code for {_shorten(str(expr))} in the expression or its derivative")
            return str(super()._print(expr, **settings))

        def _print_Mul(self, expr: Any) -> str:
            """Numerator and denominator by hand: StrPrinter's way assumes exact integers."""
            from sympy import Mul, fraction

            numerator, denominator = fraction(expr, exact=True)
            if denominator != 1 and not denominator.is_number:
                return f"{self.factor(numerator)}/{self.factor(denominator, strict=True)}"
            return "*".join(self.factor(a) for a in Mul.make_args(expr))

        def factor(self, expr: Any, strict: bool = False) -> str:
            text = self.doprint(expr)
            atom = expr.is_Symbol or (expr.is_number and not text.startswith("-")) or (expr.is_Function and not strict)
            return text if atom else f"({text})"

        def _print_Pow(self, expr: Any, rational: bool = False) -> str:
            base, exponent = expr.as_base_exp() if not expr.is_Pow else expr.args
            if exponent == -1:
                return f"1.0/{self.factor(base, strict=True)}"
            if exponent.is_number and exponent.is_negative:
                return f"1.0/({self.doprint(base**-exponent)})"
            if exponent.is_Integer and int(exponent) <= 4:
                return "*".join([self.factor(base, strict=True)] * int(exponent))
            if float(exponent) == 0.5 if exponent.is_number else False:
                return f"sqrt({self.doprint(base)})"
            power = str(int(exponent)) if exponent.is_Integer else f"({self.doprint(exponent)})"
            return f"{self.factor(base, strict=True)}**{power}"

        def _print_Function(self, expr: Any) -> str:
            name = _PRINTED[expr.func.__name__]
            arguments = ", ".join(self.doprint(a) for a in expr.args)
            return name.format(arguments) if "{" in name else f"{name}({arguments})"

        _print_Abs = _print_sign = _print_exp = _print_Function

    return ScalarPrinter()
