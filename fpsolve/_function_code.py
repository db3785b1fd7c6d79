"""Codes of a user's Python functions, compiled by Numba."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import is_finite, is_number
from ._code import MAX_TUPLE, Code

__all__ = ["FunctionCode"]

Array = NDArray[np.float64]


class FunctionCode(Code):
    """A user's Python function fn(x, p), compiled by Numba: x and p are indexable, the value a number, a row or rows.

    Raises
    ------
    TypeError
        If it does not take (x, p), returns the wrong number of values, or uses something Numba cannot compile; the message
        quotes the line and shows a form that works.
    """

    cacheable = False

    def __init__(
        self, fn: Callable[..., Any], dim: int, n_out: int, params: Mapping[str, float], what: str, length: float = 1.0
    ) -> None:
        if not (is_number(length) and is_finite(length) and length > 0.0):
            raise ValueError(f"length must be a positive finite number, the distance over which {what} varies; got {length!r}")
        self.length = float(length)
        self.fn, self.dim, self.n_out, self.names, self.what = getattr(fn, "py_func", fn), dim, n_out, tuple(params), what
        self.layout = self._probe(params)
        self.dispatcher = _compile_user(self.fn, dim, len(self.names), what)

    def _label(self) -> str:
        code = getattr(self.fn, "__code__", None)
        where = f" (line {code.co_firstlineno} of {code.co_filename})" if code else ""
        return f"{self.what} {getattr(self.fn, '__name__', repr(self.fn))!r}{where}"

    def _probe(self, params: Mapping[str, float]) -> tuple[int, ...]:
        if not callable(self.fn):
            raise TypeError(f"{self.what}: expected a function fn(x, p), got {type(self.fn).__name__}: {self.fn!r}")
        try:
            inspect.signature(self.fn).bind((), ())
        except TypeError:
            raise TypeError(f"{self._label()} must take exactly two arguments (x, p): position and parameters") from None
        error: Exception | None = None
        for at in (0.37, -0.61, 1.3):
            try:
                x = (at,) * self.dim if self.dim <= MAX_TUPLE else np.full(self.dim, at)
                shape: tuple[int, ...] = np.shape(self.fn(x, tuple(float(v) for v in params.values())))
            except Exception as caught:  # a user's code may raise anything; it is reported below
                error = caught
                continue
            if math.prod(shape) != self.n_out:
                raise TypeError(
                    f"{self._label()} returned {math.prod(shape)} numbers of shape {shape}; {self.n_out} are needed in {self.dim}-D"
                )
            return shape
        raise TypeError(f"{self._label()} fails at x = {at}: {type(error).__name__}: {error}")

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        if self.layout == ():
            values = "r"
        elif len(self.layout) == 1:
            values = ", ".join(f"r[{i}]" for i in range(self.n_out))
        else:
            values = ", ".join(f"r[{i}][{j}]" for i in range(self.layout[0]) for j in range(self.layout[1]))
        return f"{inline}\ndef {name}(x, p):\n    r = {name}_user(x, p)\n    return ({values},)\n", {
            f"{name}_user": self.dispatcher
        }

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        x = np.asarray(x, float)
        points = np.ascontiguousarray(x.reshape(-1, self.dim))
        out = np.empty((len(points), self.n_out))
        _loop_over_points(self)(points, self.pack(params or {}), out)
        return out.reshape(*x.shape[:-1], self.n_out)


@functools.lru_cache(maxsize=256)
def _compile_user(fn: Callable[..., Any], dim: int, n_params: int, what: str) -> Any:
    """Compile once per process and check at once, so that the error comes before any work."""
    import numba

    from ._jit import inline_uncached

    dispatcher = inline_uncached(fn)
    x = numba.types.UniTuple(numba.float64, dim) if dim <= MAX_TUPLE else numba.float64[::1]
    signature = (x, numba.types.UniTuple(numba.float64, n_params))
    try:
        dispatcher.compile(signature)
    except Exception as error:  # Numba's errors have no common base class
        raise TypeError(_explain(fn, what, str(error))) from None
    return dispatcher


def _explain(fn: Callable[..., Any], what: str, message: str) -> str:
    name = getattr(fn, "__name__", repr(fn))
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    first = next((line for line in lines if not line.startswith("Failed in")), "")
    place = next((line for line in lines if line.startswith("File ") and "numba" not in line), "")
    marked = lines.index("^") - 1 if "^" in lines else None
    quoted = f"\n    {lines[marked]}" if marked is not None else ""
    return (
        f"{what} {name!r} cannot be compiled by Numba: {first} {place}{quoted}\n"
        "Write it with scalar arithmetic, x[0], x[1], ..., p[0], ... and the functions of the math module, for example\n"
        "    def value(x, p):\n        return (x[0]**2 - 1.0)**2 + 0.5*p[0]*x[1]**2\n"
        "    def grad(x, p):\n        return 4.0*x[0]*(x[0]**2 - 1.0), p[0]*x[1]"
    )


def _loop_over_points(code: FunctionCode) -> Any:
    return _compiled_loop(code.dispatcher, code.dim, code.n_out, len(code.names), code.layout)


@functools.lru_cache(maxsize=256)
def _compiled_loop(dispatcher: Any, dim: int, n_out: int, n_params: int, layout: tuple[int, ...]) -> Any:
    from ._jit import kernel_uncached

    x = f"({''.join(f'points[k, {i}], ' for i in range(dim))})" if dim <= MAX_TUPLE else "points[k]"
    p = "".join(f"packed[{i}], " for i in range(n_params))
    if layout == ():
        stores = ["out[k, 0] = r"]
    elif n_out > 64:
        at, value = ("i", "r[i]") if len(layout) == 1 else (f"i*{layout[1]} + j", "r[i][j]")
        inner = [f"out[k, {at}] = {value}"]
        inner = inner if len(layout) == 1 else [f"for j in range({layout[1]}):", f"    {inner[0]}"]
        stores = [f"for i in range({layout[0]}):", *("    " + line for line in inner)]
    elif len(layout) == 1:
        stores = [f"out[k, {i}] = r[{i}]" for i in range(n_out)]
    else:
        stores = [f"out[k, {i * layout[1] + j}] = r[{i}][{j}]" for i in range(layout[0]) for j in range(layout[1])]
    body = "".join(f"        {line}\n" for line in [f"r = user({x}, ({p}))", *stores])
    namespace = {"user": dispatcher}
    exec(f"def loop(points, packed, out):\n    for k in range(points.shape[0]):\n{body}", namespace)
    return kernel_uncached(namespace["loop"])
