"""abs, sign, min and max of real arguments in sympy, with the derivatives that hold off the kinks.

Here a function of real numbers is real or, outside its domain, not a number. sympy's own functions take log(x) and x**y for
complex: the derivative of their absolute value comes out in real and imaginary parts, or not at all. Its Max and Min compare all
pairs of arguments by algebra whenever they are rebuilt, which of fifty arguments takes minutes.
"""

from __future__ import annotations

from typing import Any

import sympy

__all__ = ["absolute", "maximum", "minimum", "pieces", "signum"]


class fabs(sympy.Function):  # type: ignore[misc]
    """|a|."""

    nargs, is_extended_nonnegative = 1, True

    def fdiff(self, argindex: int = 1) -> Any:
        return signum(self.args[0])


class sgn(sympy.Function):  # type: ignore[misc]
    """-1, 0 or 1; constant off its kink."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Any:
        return sympy.Integer(0)


class step(sympy.Function):  # type: ignore[misc]
    """0 below 0, 1 above, 1/2 between; constant off its kink."""

    nargs = 1

    @classmethod
    def eval(cls, a: Any) -> Any:
        return sympy.Heaviside(a, sympy.Rational(1, 2)) if a.is_number else None

    def fdiff(self, argindex: int = 1) -> Any:
        return sympy.Integer(0)


class fmax(sympy.Function):  # type: ignore[misc]
    """The larger one of two."""

    nargs = 2

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        return sympy.Max(a, b) if a.is_number and b.is_number else None

    def fdiff(self, argindex: int = 1) -> Any:
        a, b = self.args if argindex == 1 else reversed(self.args)
        return step(a - b)


class fmin(sympy.Function):  # type: ignore[misc]
    """The smaller one of two."""

    nargs = 2

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        return sympy.Min(a, b) if a.is_number and b.is_number else None

    def fdiff(self, argindex: int = 1) -> Any:
        a, b = self.args if argindex == 1 else reversed(self.args)
        return step(b - a)


def absolute(argument: Any) -> Any:
    """abs: sympy's where the argument is known to be real, so that abs(x)**2 is x**2."""
    return sympy.Abs(argument) if argument.is_extended_real else fabs(argument)


def signum(argument: Any) -> Any:
    """sign."""
    return sympy.sign(argument) if argument.is_number else sgn(argument)


def maximum(*arguments: Any) -> Any:
    """max of one or more."""
    return _pairs(fmax, arguments)


def minimum(*arguments: Any) -> Any:
    """min of one or more."""
    return _pairs(fmin, arguments)


def _pairs(pair: Any, arguments: tuple[Any, ...]) -> Any:
    """A balanced tree: of n arguments it is log2(n) deep."""
    different = list(dict.fromkeys(arguments))
    while len(different) > 1:
        odd = different[len(different) & ~1 :]
        different = [pair(a, b) for a, b in zip(different[::2], different[1::2], strict=False)] + odd
    return different[0]


def pieces(expression: Any) -> list[Any]:
    """What a maximum is the maximum of; another expression alone."""
    return [p for a in expression.args for p in pieces(a)] if isinstance(expression, fmax) else [expression]
