"""Codes over panels: text of compiled functions that act on 64 lanes at once, for models of many dimensions.

A panel function ``f(x, p, out, t)`` takes the state as rows of 64 lanes (x[k*64 + i] is coordinate k of lane i), packed
parameters p, and scratch rows t. Expressions become loops over the lanes, cut into functions of some dozen statements, so that the
time to compile them grows with the number of statements and not faster; what a later piece needs lies in scratch rows. Matrices are
blocked products. Python functions get the points one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._code import AffineCode, Code, CombinedCode, ConstantCode, DerivedCode, ExpressionCode, JacobianCode, QuadraticCode
from ._function_code import FunctionCode
from ._tensors import LineSlopeCode
from .expressions import statements

__all__ = ["MAX_EXPRESSION_SIZE", "Rows", "padded", "rows_of"]

Array = NDArray[np.float64]

#: Statements per compiled piece of an expression.
PIECE = 24
#: Characters of scalar text beyond which expressions are refused: some minutes of compilation.
MAX_EXPRESSION_SIZE = 200_000


@dataclass
class Rows:
    """A panel function: its text, what the text needs, how many scratch rows, and its parameters."""

    source: str
    params: Array
    scratch: int = 0
    namespace: dict[str, Any] = field(default_factory=dict)
    cacheable: bool = True


def padded(matrix: Array) -> Array:
    """A matrix with rows and columns filled up with zeros to multiples of four."""
    out = np.zeros(tuple(-(-n // 4) * 4 for n in matrix.shape))
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out


def _function(name: str, body: list[str]) -> str:
    return "\n".join(["@part", f"def {name}(x, p, out, t):", *("    " + line for line in body), "", ""])


def rows_of(code: Code, name: str, params: Mapping[str, float]) -> Rows:
    """The panel function `name` of a code.

    Raises
    ------
    ValueError
        For a code that has none, or an expression too large to be compiled in reasonable time.
    """
    for kind, make in _MAKERS.items():
        if isinstance(code, kind):
            return make(code, name, params)
    raise ValueError(
        f"{type(code).__name__} has no form for many dimensions: write the function as an expression, a matrix, or a Python "
        "function that loops over x"
    )


def _expression(code: Any, name: str, params: Mapping[str, float]) -> Rows:
    temporaries, outputs = statements(code.expressions, code.variables, code.names)
    lines = [(symbol, text) for symbol, text in temporaries] + [(f"out{k}", text) for k, text in enumerate(outputs)]
    size = sum(len(text) for _, text in lines)
    if size > MAX_EXPRESSION_SIZE:
        raise ValueError(
            f"the expressions of this model have {size} characters in {code.dim} dimensions; at most {MAX_EXPRESSION_SIZE} are "
            "compiled, which takes minutes. Give it as Python functions that loop over x: Potential(value, grad, dim=...)"
        )
    pieces = [lines[k : k + PIECE] for k in range(0, len(lines), PIECE)]
    made = {symbol: number for number, piece in enumerate(pieces) for symbol, _ in piece}
    crossing: dict[str, int] = {}
    texts, calls = [], []
    for number, piece in enumerate(pieces):
        for _, text in piece:
            for symbol in re.findall(r"\bt\d+\b", text):
                if made[symbol] < number:
                    crossing.setdefault(symbol, len(crossing))
    for number, piece in enumerate(pieces):
        used = set(re.findall(r"\b[xpt]\d+\b", " ".join(text for _, text in piece)))
        body = [f"{s} = p[{s[1:]}]" for s in sorted(used) if s[0] == "p"] + ["for i in range(64):"]
        body += [f"    {s} = x[{64 * int(s[1:])} + i]" for s in sorted(used) if s[0] == "x"]
        body += [f"    {s} = t[{64 * crossing[s]} + i]" for s in sorted(used) if s[0] == "t" and made[s] < number]
        for symbol, text in piece:
            if symbol.startswith("out"):
                body.append(f"    out[{64 * int(symbol[3:])} + i] = {text}")
            else:
                body.append(f"    {symbol} = {text}")
                body += [f"    t[{64 * crossing[symbol]} + i] = {symbol}"] if symbol in crossing else []
        texts.append(_function(name if len(pieces) == 1 else f"{name}_{number}", body))
        calls.append(f"{name}_{number}(x, p, out, t)")
    texts += [] if len(pieces) == 1 else [_function(name, calls)]
    return Rows("\n".join(texts), np.append(code.pack(params), 0.0), len(crossing))


def _user(code: Any, name: str, params: Mapping[str, float]) -> Rows:
    d, n = code.dim, code.n_out
    point = "t[0:D]" if d > 16 else f"({''.join(f't[{k}], ' for k in range(d))})"
    store = {0: ["out[i] = r"], 1: [f"for k in range({n}):", "    out[k*64 + i] = r[k]"]}.get(len(code.layout))
    if store is None:
        rows, columns = code.layout
        store = [f"for k in range({rows}):", f"    for j in range({columns}):", f"        out[(k*{columns} + j)*64 + i] = r[k][j]"]
    body = [
        f"q = ({''.join(f'p[{k}], ' for k in range(len(code.names)))})",
        "for i in range(64):",
        f"    for k in range({d}):",
        "        t[k] = x[k*64 + i]",
        f"    r = {name}_user({point.replace('D', str(d))}, q)",
        *("    " + line for line in store),
    ]
    return Rows(
        _function(name, body), np.append(code.pack(params), 0.0), -(-d // 64), {f"{name}_user": code.dispatcher}, cacheable=False
    )


def _constant(code: Any, name: str, params: Mapping[str, float]) -> Rows:
    body = [f"for k in range({code.n_out}):", "    for i in range(64):", "        out[k*64 + i] = p[k]"]
    return Rows(_function(name, body), np.append(code.values, 0.0))


def _shift(d: int, at: int) -> list[str]:
    """Rows t = x - c, with c behind `at` numbers of p."""
    return [f"for k in range({d}):", f"    c = p[{at} + k]", "    for i in range(64):", "        t[k*64 + i] = x[k*64 + i] - c"]


def _affine(code: AffineCode, name: str, params: Mapping[str, float]) -> Rows:
    """M (x - c): one multiplication per coordinate where M is diagonal, else a blocked product."""
    d = code.dim
    diagonal = np.diag(code.matrix)
    if code.n_out == d and np.count_nonzero(code.matrix) == np.count_nonzero(diagonal):
        body = [f"for k in range({d}):", f"    a, c = p[k], p[{d} + k]", "    for i in range(64):"]
        return Rows(_function(name, [*body, "        out[k*64 + i] = a*(x[k*64 + i] - c)"]), np.append(diagonal, code.center))
    matrix = padded(code.matrix)
    rows, columns = matrix.shape
    body = [
        *_shift(d, matrix.size),
        f"for i in range({64 * d}, {64 * columns}):",
        "    t[i] = 0.0",
        f"y = t[{64 * columns}:]",
        f"for i in range({64 * rows}):",
        "    y[i] = 0.0",
        f"matrix = p[:{matrix.size}].reshape(({rows}, {columns}))",
        f"for r in range(0, {rows}, 4):",
        f"    accumulate(y[r*64:], t, matrix, r, np.int64(0), opaque({columns}))",
        f"for i in range({64 * code.n_out}):",
        "    out[i] = y[i]",
    ]
    return Rows(_function(name, body), np.concatenate([matrix.ravel(), code.center]), columns + rows)


def _quadratic(code: QuadraticCode, name: str, params: Mapping[str, float]) -> Rows:
    d, slope = code.dim, rows_of(code.gradient, f"{name}_gradient", params)
    n = slope.params.size
    body = [
        f"{name}_gradient(x, p, t, t[{64 * d}:])",
        "for i in range(64):",
        f"    out[i] = p[{n}]",
        f"for k in range({d}):",
        f"    c = p[{n + 1} + k]",
        "    for i in range(64):",
        "        out[i] += 0.5*t[k*64 + i]*(x[k*64 + i] - c)",
    ]
    values = np.concatenate([slope.params, [code.floor], code.gradient.center])
    return Rows(slope.source + "\n" + _function(name, body), values, d + slope.scratch, slope.namespace, slope.cacheable)


def _combined(code: CombinedCode, name: str, params: Mapping[str, float]) -> Rows:
    n = code.n_out
    parts = [rows_of(child, f"{name}_{k}", params) for k, (_, child) in enumerate(code.terms)]
    body, at = [f"for i in range({64 * n}):", "    out[i] = 0.0"], 0
    for k, (scale, _) in enumerate(code.terms):
        body += [f"{name}_{k}(x, p[{at}:], t, t[{64 * n}:])", f"for i in range({64 * n}):", f"    out[i] += {scale!r}*t[i]"]
        at += parts[k].params.size
    return _joined(parts, _function(name, body), n)


def _joined(parts: list[Rows], text: str, scratch: int) -> Rows:
    namespace = {key: value for part in parts for key, value in part.namespace.items()}
    values = np.concatenate([part.params for part in parts])
    source = "\n".join([*(part.source for part in parts), text])
    return Rows(source, values, scratch + max(part.scratch for part in parts), namespace, all(part.cacheable for part in parts))


def _derived(code: DerivedCode, name: str, params: Mapping[str, float]) -> Rows:
    """Arithmetic on the outputs of other codes without intermediate lines; U(x) - level is the common case."""
    if code.lines or sum(child.n_out for child in code.children) > 4096:
        raise ValueError(f"a tensor of {code.n_out} entries that is computed from another one has no form for many dimensions")
    parts = [rows_of(child, f"{name}_{k}", params) for k, child in enumerate(code.children)]
    first, at, body, total = [], 0, [], sum(child.n_out for child in code.children)
    offset = 0
    for k, child in enumerate(code.children):
        body.append(f"{name}_{k}(x, p[{at}:], t[{64 * offset}:], t[{64 * total}:])")
        first.append(offset)
        at, offset = at + parts[k].params.size, offset + child.n_out

    def row(match: re.Match[str]) -> str:
        return f"t[{64 * (first[int(match[1])] + int(match[2]))} + i]"

    for k, output in enumerate(code.outputs):
        text = re.sub(r"c(\d+)\[(\d+)\]", row, output)
        body += ["for i in range(64):", f"    out[{64 * k} + i] = {text}"]
    return _joined(parts, _function(name, body), total)


def _jacobian(code: JacobianCode, name: str, params: Mapping[str, float]) -> Rows:
    """Central differences, coordinate by coordinate."""
    child, d, n = rows_of(code.child, f"{name}_0", params), code.dim, code.child.n_out
    up, down, width, rest = 64 * d, 64 * (d + n), 64 * (d + 2 * n), 64 * (d + 2 * n + 1)
    body = [
        f"for i in range({64 * d}):",
        "    t[i] = x[i]",
        f"for j in range({d}):",
        "    for i in range(64):",
        f"        t[{width} + i] = {code.step!r}*fmax({code.length!r}, fabs(x[j*64 + i]))",
        f"        t[j*64 + i] = x[j*64 + i] + t[{width} + i]",
        f"    {name}_0(t, p, t[{up}:], t[{rest}:])",
        "    for i in range(64):",
        f"        t[j*64 + i] = x[j*64 + i] - t[{width} + i]",
        f"    {name}_0(t, p, t[{down}:], t[{rest}:])",
        f"    for k in range({n}):",
        "        for i in range(64):",
        f"            out[(k*{d} + j)*64 + i] = (t[{up} + k*64 + i] - t[{down} + k*64 + i])/(2.0*t[{width} + i])",
        "    for i in range(64):",
        "        t[j*64 + i] = x[j*64 + i]",
    ]
    return _joined([child], _function(name, body), d + 2 * n + 1)


def _slope(code: LineSlopeCode, name: str, params: Mapping[str, float]) -> Rows:
    d, n = code.dim, len(code.knots)
    body = [
        *_line(d, "p", "t"),
        f"low, step = p[{d}], p[{d + 1}]",
        "for i in range(64):",
        "    s = (t[i] - low)/step",
        f"    t[64 + i] = 1.0 if (s > 0.0) & (s < {n - 1}.0) else 0.0",
        f"    t[i] = min(int(clamp(s, 0.0, {n - 1}.0)), {n - 2})",
        f"for k in range({d}):",
        "    for i in range(64):",
        f"        out[k*64 + i] = t[64 + i]*p[{d + 2} + {d}*int(t[i]) + k]",
    ]
    return Rows(_function(name, body), code.pack({}), 2)


def _line(d: int, u: str, target: str) -> list[str]:
    """Row target = u.x; coordinates that do not enter cost nothing."""
    return [
        "for i in range(64):",
        f"    {target}[i] = 0.0",
        f"for k in range({d}):",
        f"    if {u}[k] != 0.0:",
        "        for i in range(64):",
        f"            {target}[i] += {u}[k]*x[k*64 + i]",
    ]


_MAKERS: dict[type[Code], Callable[[Any, str, Mapping[str, float]], Rows]] = {
    ExpressionCode: _expression,
    FunctionCode: _user,
    ConstantCode: _constant,
    AffineCode: _affine,
    QuadraticCode: _quadratic,
    CombinedCode: _combined,
    DerivedCode: _derived,
    JacobianCode: _jacobian,
    LineSlopeCode: _slope,
}
