"""Codes: functions (x, p) -> n numbers that can be evaluated on arrays and inlined into a compiled loop.

Every landscape, noise tensor and region is made of codes. A code knows the text of a scalar function of tuples (``emit``), which
the engines join into one fused kernel, and how to evaluate itself on an array of points with NumPy (``evaluate``). Both come from
the same source text, so they cannot disagree. Parameters are run-time values: changing one compiles nothing anew.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._known import fact, name_of
from .expressions import parse, to_source

__all__ = [
    "AffineCode",
    "Code",
    "ConstantCode",
    "DerivedCode",
    "ExpressionCode",
    "JacobianCode",
    "QuadraticCode",
    "TableCode",
]

Array = NDArray[np.float64]

logger = logging.getLogger(__name__)

#: Pairs of variables in one term of a sum, over all terms, from which on derivatives take so long (some 5 s) that it is said.
MANY_PAIRS = 15_000
#: Up to this dimension a user's Python function gets x as a tuple, beyond as an array: long tuples take for ever to compile.
MAX_TUPLE = 16

#: First lines of every generated module: the names that emitted source may use.
PREAMBLE = """\
from math import acos, asin, atan, atan2, cos, cosh, exp, fabs, log, nan, sin, sinh, sqrt, tan, tanh
"""

#: Helpers of emitted source, selections instead of branches so that loops over lanes vectorise; {inline} is the decorator,
#: {forgiven} and {wider} are what is forgiven as rounding ("1e-10" and "" in double precision).
#: NaN goes through fmax and fmin, as in NumPy. A square root of what should be >= 0 forgives rounding and answers NaN to the rest,
#: so that a tensor that is not positive semi-definite stops the path instead of losing its noise silently.
HELPERS = """\
{inline}
def sign(a):
    return 1.0 * (a > 0.0) - 1.0 * (a < 0.0)

{inline}
def fmax(a, b):
    m = b if b > a else a
    return m if b == b else b

{inline}
def fmin(a, b):
    m = b if b < a else a
    return m if b == b else b

{inline}
def clamp(a, lo, hi):
    return lo if not a > lo else (hi if a > hi else a)

{inline}
def positive_sqrt(a, scale):
    r = sqrt(a if a > 0.0 else 0.0)
    return r if a >= -{forgiven} * fabs(scale) else nan

{inline}
def ratio(a, b, tolerance):
    q = a / b if b != 0.0 else 0.0
    return q if b != 0.0 or fabs(a) <= {wider}tolerance else nan
"""


def _numpy_ratio(a: Any, b: Any, tolerance: Any) -> Any:
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    zero = np.where(np.abs(a) <= tolerance, 0.0, np.nan)
    return np.divide(a, b, out=np.array(np.broadcast_to(zero, a.shape)), where=b != 0.0)


def _numpy_positive_sqrt(a: Any, scale: Any) -> Any:
    return np.where(np.asarray(a) >= -1e-10 * np.abs(scale), np.sqrt(np.maximum(a, 0.0)), np.nan)


_NUMPY: dict[str, Any] = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "atan2": np.arctan2, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "exp": np.exp, "log": np.log,
    "sqrt": np.sqrt, "fabs": np.abs, "sign": np.sign, "fmax": np.maximum, "fmin": np.minimum,
    "positive_sqrt": _numpy_positive_sqrt, "ratio": _numpy_ratio, "__builtins__": {},
}  # fmt: skip


class Code:
    """A function (x, p) -> `n_out` numbers in dimension `dim`, with parameters called `names`.

    Attributes
    ----------
    dim, n_out : int
    names : tuple of str
        Parameters read, in the order in which :meth:`pack` lays them out.
    cacheable : bool
        False if the code calls a user's Python function, which cannot be cached on disk.
    fusable : bool
        False if the code can only be evaluated on arrays, not joined into a compiled loop.
    array_params : bool
        True if p must be passed as an array (tables), else it is passed as a tuple of floats.
    noise_level : float
        Relative error of the values: rounding, or more where derivatives are taken by differences.
    length : float
        Typical length over which the function varies; numerical derivatives step by a small fraction of max(length, |x|).
    """

    dim: int
    n_out: int
    names: tuple[str, ...] = ()
    cacheable: bool = True
    fusable: bool = True
    array_params: bool = False
    noise_level: float = float(np.finfo(float).eps)
    length: float = 1.0

    @property
    def parts(self) -> tuple[Code, ...]:
        """The codes that this one is made of."""
        return ()

    def pack(self, params: Mapping[str, float]) -> Array:
        """The parameter vector p of this code, taken from a mapping of values."""
        return np.array([float(params[name]) for name in self.names])

    @property
    def n_params(self) -> int:
        return len(self.names)

    def unpack_source(self, array: str) -> str:
        """Source of the expression that turns a packed array called `array` into the argument p."""
        if self.array_params:
            return array
        return "(" + "".join(f"{array}[{i}], " for i in range(self.n_params)) + ")"

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        """Module-level source of the scalar function `name` and the objects that it needs in its namespace."""
        raise NotImplementedError

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        """Values at points `x` of shape (..., dim), as an array of shape (..., n_out)."""
        x = np.asarray(x, float)
        source, extra = self.emit("f", inline="")
        assert not extra, "a code with objects of its own evaluates itself"
        function = _numpy_function(source)
        p = self.pack(params or {})
        with np.errstate(all="ignore"):
            values = function(tuple(x[..., i] for i in range(self.dim)), p if self.array_params else tuple(p))
        return _stack(values, x.shape[:-1])

    def jacobian(self) -> Code:
        """Derivatives: ``out[i * dim + j]`` is the derivative of output i along axis j."""
        return JacobianCode(self)


def _stack(values: Sequence[Any], shape: tuple[int, ...]) -> Array:
    out = np.empty((*shape, len(values)))
    for i, value in enumerate(values):
        out[..., i] = value
    return out


@functools.lru_cache(maxsize=1024)
def _numpy_function(source: str) -> Callable[..., Any]:
    namespace = dict(_NUMPY)
    exec(compile(source, "<fpsolve>", "exec"), namespace)  # text printed by to_source and the codes below, never a user's
    return namespace["f"]  # type: ignore[no-any-return]


class ExpressionCode(Code):
    """A tuple of sympy expressions, or a function that makes them, which is not called where all that is asked is known.

    `origin` is the name of the derivation (see `_known`); without one nothing is remembered.
    """

    def __init__(
        self,
        expressions: Sequence[Any] | Callable[[], Sequence[Any]],
        variables: Sequence[str],
        names: Sequence[str],
        origin: str | None = None,
    ) -> None:
        self._given, self.variables = expressions, tuple(variables)
        self.origin = None if origin is None else name_of(origin, self.variables, tuple(names))
        self.n_out, used = fact(self.origin, "shape", self._shape)
        self.names = tuple(name for name in names if name in used)
        self.dim = len(self.variables)

    @classmethod
    def from_texts(cls, texts: Sequence[Any], variables: Sequence[str], names: Sequence[str]) -> ExpressionCode:
        """Parsed text (or numbers), see :func:`fpsolve.expressions.parse`."""
        texts, declared = tuple(texts), (*variables, *names)
        plain = all(isinstance(text, (str, int, float)) for text in texts)
        return cls(functools.partial(_parsed, texts, declared), variables, names, name_of("parse", texts) if plain else None)

    @functools.cached_property
    def expressions(self) -> tuple[Any, ...]:
        """In sympy."""
        import sympy

        given = self._given() if callable(self._given) else self._given
        return tuple(sympy.sympify(e, strict=True) for e in given)

    def _shape(self) -> tuple[int, list[str]]:
        return len(self.expressions), sorted({str(s) for e in self.expressions for s in e.free_symbols})

    @functools.cached_property
    def zeros(self) -> frozenset[int]:
        """Outputs that are zero whatever x and p are."""
        return frozenset(fact(self.origin, "zeros", lambda: [i for i, e in enumerate(self.expressions) if e.is_zero]))

    @functools.cached_property
    def _source(self) -> str:
        return str(fact(self.origin, "source", lambda: to_source("f", self.expressions, self.variables, self.names)))

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        return f"{inline}\n{self._source}".replace("def f(", f"def {name}(", 1), {}

    def slopes(self) -> list[Any]:
        """Derivatives of the expressions by the variables."""
        import sympy

        symbols = [sympy.Symbol(v, real=True) for v in self.variables]
        pairs = sum(len(t.free_symbols) ** 2 for e in self.expressions for t in sympy.Add.make_args(e))
        if pairs > MANY_PAIRS:  # the time grows with the pairs of variables that share a term
            logger.warning(
                "symbolic derivatives by %d coupled variables take about %.0f s, once per machine; a Python function with its "
                "gradient, Potential(value, grad, dim=%d), needs none", len(symbols), 3e-4 * pairs, len(symbols),
            )  # fmt: skip
        return [d for e in self.expressions for d in _derivatives(e, symbols)]

    def jacobian(self) -> ExpressionCode:
        return ExpressionCode(self.slopes, self.variables, self.names, self.derived("jacobian"))

    def derived(self, *how: Any) -> str | None:
        """Name of what is derived from these expressions; None where they have none."""
        return None if self.origin is None else name_of(*how, self.origin)

    @property
    def is_constant(self) -> bool:
        return not set(fact(self.origin, "shape", self._shape)[1]) & set(self.variables)


def _parsed(texts: Sequence[Any], declared: Sequence[str]) -> list[Any]:
    return [parse(text, declared) for text in texts]


def _derivatives(expression: Any, symbols: Sequence[Any]) -> list[Any]:
    """d/ds for each symbol s; of a sum only the terms that hold s are looked at, so that d symbols do not cost d^2 terms."""
    import sympy

    holding: dict[Any, list[Any]] = {s: [] for s in symbols}
    for term in sympy.Add.make_args(expression):
        for s in term.free_symbols & holding.keys():
            holding[s].append(term)
    return [sympy.Add(*(term.diff(s) for term in holding[s])) for s in symbols]


class ConstantCode(Code):
    """Numbers that do not depend on x; passed as parameters so that a new matrix compiles nothing."""

    def __init__(self, values: Any, dim: int) -> None:
        self.values = np.ascontiguousarray(values, float).ravel()
        self.dim, self.n_out = dim, self.values.size

    def pack(self, params: Mapping[str, float]) -> Array:
        return self.values

    @property
    def n_params(self) -> int:
        return int(self.values.size)

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        outputs = "".join(f"p[{i}], " for i in range(self.n_out))
        return f"{inline}\ndef {name}(x, p):\n    return ({outputs})\n", {}

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        return np.broadcast_to(self.values, (*np.shape(x)[:-1], self.n_out)).copy()

    def jacobian(self) -> ConstantCode:
        return ConstantCode(np.zeros(self.n_out * self.dim), self.dim)


class AffineCode(Code):
    """M (x - c): the gradient of a quadratic, in any dimension."""

    def __init__(self, matrix: Array, center: Array) -> None:
        self.matrix, self.center = np.ascontiguousarray(matrix, float), np.ascontiguousarray(center, float)
        self.n_out, self.dim = self.matrix.shape

    def pack(self, params: Mapping[str, float]) -> Array:
        return np.concatenate([self.matrix.ravel(), self.center])

    @property
    def n_params(self) -> int:
        return int(self.matrix.size + self.center.size)

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        d = self.dim
        lines = [f"    y{j} = x[{j}] - p[{self.n_out * d + j}]" for j in range(d)]
        rows = [" + ".join(f"p[{i * d + j}]*y{j}" for j in range(d)) for i in range(self.n_out)]
        return "\n".join([inline, f"def {name}(x, p):", *lines, f"    return ({''.join(r + ', ' for r in rows)})", ""]), {}

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        return np.asarray((np.asarray(x, float) - self.center) @ self.matrix.T)

    def jacobian(self) -> ConstantCode:
        return ConstantCode(self.matrix, self.dim)


class QuadraticCode(Code):
    """(x - c)^T M (x - c) / 2 + floor with symmetric M."""

    n_out = 1

    def __init__(self, matrix: Array, center: Array, floor: float = 0.0) -> None:
        self.gradient, self.floor = AffineCode(matrix, center), float(floor)
        self.dim = self.gradient.dim

    def pack(self, params: Mapping[str, float]) -> Array:
        return np.append(self.gradient.pack(params), self.floor)

    @property
    def n_params(self) -> int:
        return self.gradient.n_params + 1

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        d = self.dim
        source, _ = self.gradient.emit(f"{name}_gradient", inline)
        form = " + ".join(f"g[{i}]*(x[{i}] - p[{d * d + i}])" for i in range(d))
        body = f"    g = {name}_gradient(x, p)\n    return (p[{d * d + d}] + 0.5*({form}),)\n"
        return f"{source}\n{inline}\ndef {name}(x, p):\n{body}", {}

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        y = np.asarray(x, float) - self.gradient.center
        return np.asarray(self.floor + 0.5 * np.sum(y * (y @ self.gradient.matrix.T), -1, keepdims=True))

    def jacobian(self) -> AffineCode:
        return self.gradient


class TableCode(Code):
    """Multilinear interpolation of values given at the nodes of a regular grid in 1-D or 2-D; constant beyond the edges."""

    array_params = True

    def __init__(self, values: Array, axes: Sequence[Array]) -> None:
        self.dim = len(axes)
        self.shape = tuple(len(a) for a in axes)
        self.lo = tuple(float(a[0]) for a in axes)
        self.step = tuple(float(a[1] - a[0]) for a in axes)
        self.table = np.ascontiguousarray(values, float).reshape(*self.shape, -1)
        self.n_out = self.table.shape[-1]

    def pack(self, params: Mapping[str, float]) -> Array:
        return np.concatenate([np.array(self.lo + self.step), self.table.ravel()])

    @property
    def n_params(self) -> int:
        return 2 * self.dim + int(self.table.size)

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        lines = []
        for k, n in enumerate(self.shape):
            lines += [
                f"    s{k} = clamp((x[{k}] - p[{k}])/p[{self.dim + k}], 0.0, {n - 1}.0)",
                f"    i{k} = min(int(s{k}), {n - 2})",
                f"    w{k} = s{k} - i{k}",
            ]
        corners: list[tuple[int, ...]] = [(0,), (1,)] if self.dim == 1 else [(0, 0), (0, 1), (1, 0), (1, 1)]
        terms = []
        for corner in corners:
            weight = "*".join(f"w{k}" if bit else f"(1.0 - w{k})" for k, bit in enumerate(corner))
            index = f"(i0 + {corner[0]})" if self.dim == 1 else f"((i0 + {corner[0]})*{self.shape[1]} + i1 + {corner[1]})"
            terms.append(f"{weight}*p[{2 * self.dim} + {index}*{self.n_out} + OUT]")
        outputs = "".join(" + ".join(terms).replace("OUT", str(o)) + ", " for o in range(self.n_out))
        return "\n".join([inline, f"def {name}(x, p):", *lines, f"    return ({outputs})", ""]), {}

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        x = np.asarray(x, float)
        index, weight = [], []
        for k, n in enumerate(self.shape):
            s = np.clip(np.nan_to_num((x[..., k] - self.lo[k]) / self.step[k]), 0.0, n - 1.0)
            i = np.minimum(s.astype(int), n - 2)
            index.append(i)
            weight.append((s - i)[..., None])
        out = np.zeros((*x.shape[:-1], self.n_out))
        for corner in np.ndindex(*(2,) * self.dim):
            w = math.prod(weight[k] if bit else 1.0 - weight[k] for k, bit in enumerate(corner))
            out += w * self.table[tuple(i + bit for i, bit in zip(index, corner, strict=True))]
        return out


class DerivedCode(Code):
    """Arithmetic on the outputs c0, c1, ... of other codes, written as lines of scalar source."""

    def __init__(self, children: Sequence[Code], n_out: int, outputs: Sequence[str], lines: Sequence[str] = ()) -> None:
        self.children, self.n_out, self.dim = tuple(children), n_out, children[0].dim
        self.outputs, self.lines = tuple(outputs), tuple(lines)
        self.slope_code: Code | None = None  # the derivative, where it is known better than by differences
        self.names = tuple(dict.fromkeys(name for child in children for name in child.names))
        self.cacheable, self.fusable = all(child.cacheable for child in children), all(child.fusable for child in children)
        self.array_params = any(child.array_params for child in children)
        self.noise_level = max(child.noise_level for child in children)
        self.length = min(child.length for child in children)

    @property
    def parts(self) -> tuple[Code, ...]:
        return self.children

    def pack(self, params: Mapping[str, float]) -> Array:
        return np.concatenate([child.pack(params) for child in self.children])

    @property
    def n_params(self) -> int:
        return sum(child.n_params for child in self.children)

    def _body(self, name: str, calls: Sequence[str]) -> str:
        lines = [f"def {name}(x, p):", *(f"    c{i} = {call}" for i, call in enumerate(calls))]
        lines += [f"    {line}" for line in self.lines]
        return "\n".join([*lines, f"    return ({''.join(o + ', ' for o in self.outputs)})", ""])

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        sources: list[str] = []
        namespace: dict[str, Any] = {}
        calls: list[str] = []
        offset = 0
        for i, child in enumerate(self.children):
            source, extra = child.emit(f"{name}_{i}", inline)
            sources.append(source)
            namespace |= extra
            calls.append(f"{name}_{i}(x, p[{offset}:{offset + child.n_params}])")
            offset += child.n_params
        return "\n".join([*sources, f"{inline}\n{self._body(name, calls)}"]), namespace

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        x = np.asarray(x, float)
        values = [child.evaluate(x, params) for child in self.children]
        source = self._body("f", [f"x[{i}]" for i in range(len(values))])
        function = _numpy_function(source)
        with np.errstate(all="ignore"):
            outputs = function(tuple(tuple(np.moveaxis(v, -1, 0)) for v in values), ())
        return _stack(outputs, x.shape[:-1])

    @classmethod
    def combine(cls, terms: Sequence[tuple[float, Code]]) -> Code:
        """The sum of scaled codes with equally many outputs."""
        n_out = terms[0][1].n_out
        if n_out > 64 or terms[0][1].dim > MAX_TUPLE:
            return CombinedCode(terms)
        outputs = [" + ".join(f"{a!r}*c{k}[{i}]" for k, (a, _) in enumerate(terms)) for i in range(n_out)]
        return cls([code for _, code in terms], n_out, outputs)


class CombinedCode(Code):
    """The sum of scaled codes with equally many outputs, in many dimensions."""

    def __init__(self, terms: Sequence[tuple[float, Code]]) -> None:
        self.terms, codes = tuple(terms), [code for _, code in terms]
        self.dim, self.n_out = codes[0].dim, codes[0].n_out
        self.names = tuple(dict.fromkeys(name for code in codes for name in code.names))
        self.cacheable, self.fusable = all(code.cacheable for code in codes), all(code.fusable for code in codes)
        self.noise_level, self.length = max(code.noise_level for code in codes), min(code.length for code in codes)

    @property
    def parts(self) -> tuple[Code, ...]:
        return tuple(code for _, code in self.terms)

    def pack(self, params: Mapping[str, float]) -> Array:
        return np.concatenate([code.pack(params) for _, code in self.terms])

    @property
    def n_params(self) -> int:
        return sum(code.n_params for _, code in self.terms)

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        return np.asarray(sum(a * code.evaluate(x, params) for a, code in self.terms))


class JacobianCode(Code):
    """Central differences of a code, the fallback where no derivative was given.

    Step e^(1/3) max(length, |x|) for values of relative error e, which leaves a relative error of about e^(2/3) in the derivative
    of a function that varies over `length`.
    """

    def __init__(self, child: Code) -> None:
        self.step, self.noise_level, self.length = child.noise_level ** (1 / 3), child.noise_level ** (2 / 3), child.length
        self.child, self.dim, self.n_out = child, child.dim, child.n_out * child.dim
        self.names, self.cacheable, self.array_params = child.names, child.cacheable, child.array_params
        self.fusable = child.fusable

    @property
    def parts(self) -> tuple[Code, ...]:
        return (self.child,)

    def step_error(self, x: Array, params: Mapping[str, float]) -> float:
        """Largest change of the derivative at points (n, dim) when the step shrinks eightfold, relative to its largest value."""
        finer = JacobianCode(self.child)
        finer.step = self.step / 8.0
        coarse, fine = self.evaluate(x, params), finer.evaluate(x, params)
        change = np.abs(coarse - fine)
        finite = np.isfinite(change)
        size = np.max(np.abs(fine[finite]), initial=0.0)
        return float(np.max(change[finite], initial=0.0) / size) if size > 0.0 else 0.0

    def pack(self, params: Mapping[str, float]) -> Array:
        return self.child.pack(params)

    @property
    def n_params(self) -> int:
        return self.child.n_params

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        source, namespace = self.child.emit(f"{name}_0", inline)
        lines, d = [], self.dim
        for j in range(d):
            lines.append(f"    h{j} = {self.step!r}*fmax({self.length!r}, fabs(x[{j}]))")
            for sign, letter in (("+", "u"), ("-", "v")):
                moved = "".join(f"x[{k}] {sign} h{j}, " if k == j else f"x[{k}], " for k in range(d))
                lines.append(f"    {letter}{j} = {name}_0(({moved}), p)")
        outputs = "".join(f"(u{j}[{i}] - v{j}[{i}])/(2.0*h{j}), " for i in range(self.child.n_out) for j in range(d))
        return "\n".join([source, inline, f"def {name}(x, p):", *lines, f"    return ({outputs})", ""]), namespace

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        x = np.asarray(x, float)
        out = np.empty((*x.shape[:-1], self.child.n_out, self.dim))
        for j in range(self.dim):
            h = self.step * np.maximum(self.length, np.abs(x[..., j]))
            up, down = x.copy(), x.copy()
            up[..., j] += h
            down[..., j] -= h
            out[..., j] = (self.child.evaluate(up, params) - self.child.evaluate(down, params)) / (2.0 * h)[..., None]
        return out.reshape(*x.shape[:-1], self.n_out)
