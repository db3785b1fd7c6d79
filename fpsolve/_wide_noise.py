"""Panel functions of the noise: B z, its transpose, and a bound of its size, for tensors of many dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._code import Code, ConstantCode
from ._rows import _line, padded, rows_of
from ._tensors import DiagonalCode, LineFactorCode, LowRankFactorCode

__all__ = ["NoiseRows", "noise_rows"]

Array = NDArray[np.float64]

#: Entries of a factor B(x) that is neither diagonal nor a table.
MAX_ENTRIES = 4096


@dataclass
class NoiseRows:
    """Text of ``noise_rows(x, p, z, out, t)`` = B z, ``across_rows(x, p, g, out, t)`` = B^T g and ``bound_rows(x, p, out, t)``.

    The bound is one of the largest eigenvalue of 2 D = B B^T, per lane. `out` of the first two has a multiple of four rows.
    """

    source: str
    params: Array
    count: int  # normals per step
    scratch: int
    namespace: dict[str, Any] = field(default_factory=dict)
    cacheable: bool = True


def noise_rows(factor: Code, params: Mapping[str, float]) -> NoiseRows:
    """The noise of a factor B.

    Raises
    ------
    ValueError
        If it has no form for many dimensions.
    """
    if isinstance(factor, LowRankFactorCode):
        return _constant(np.sqrt(2.0) * factor.tensor.F, factor.diagonal)
    if isinstance(factor, ConstantCode):
        return _constant(factor.values.reshape(factor.dim, -1), np.zeros(0))
    if isinstance(factor, LineFactorCode):
        return _table(factor)
    if isinstance(factor, DiagonalCode):
        return _diagonal(factor, params)
    if factor.n_out > MAX_ENTRIES:
        raise ValueError(
            f"a factor B(x) of {factor.dim} x {factor.n_out // factor.dim} entries that all depend on x is not simulated (at most "
            f"{MAX_ENTRIES} entries); in many dimensions use Noise.diagonal, Noise.low_rank, or Noise.covariance with along="
        )
    return _general(factor, params)


def _write(name: str, arguments: str, body: list[str]) -> str:
    return "\n".join(["@part", f"def {name}({arguments}):", *("    " + line for line in body), "", ""])


def _zero(target: str, rows: int) -> list[str]:
    return [f"for i in range({64 * rows}):", f"    {target}[i] = 0.0"]


def _product(matrix: str, rows: int, columns: int, source: str, target: str, first: str = "0") -> list[str]:
    """target += matrix source, for rows of the matrix from `first` on."""
    return [
        f"for r in range(0, {rows}, 4):",
        f"    accumulate({target}[r*64:], {source}, {matrix}, {first} + r, np.int64(0), opaque({columns}))",
    ]


def _constant(F: Array, diagonal: Array) -> NoiseRows:
    """z has the columns of F first; rows of z behind them meet zero columns of the padded matrix."""
    d, r = F.shape
    D, R = -(-d // 4) * 4, -(-r // 4) * 4
    top = float(np.linalg.eigvalsh(F.T @ F if r <= d else F @ F.T)[-1]) if r else 0.0
    values = np.concatenate([padded(F).ravel(), padded(F.T).ravel(), diagonal, [top + (diagonal**2).max(initial=0.0)]])
    matrices = [f"F = p[:{D * R}].reshape(({D}, {R}))", f"T = p[{D * R}:{2 * D * R}].reshape(({R}, {D}))"] if r else []
    forward, back = [*matrices], [*matrices]
    if r:
        forward += _zero("out", D) + _product("F", D, R, "z", "out")
        back += [
            f"for i in range({64 * d}):",
            "    t[i] = g[i]",
            f"for i in range({64 * d}, {64 * D}):",
            "    t[i] = 0.0",
            *_zero("out", R),
            *_product("T", R, D, "t", "out"),
        ]
    if diagonal.size:
        for body, add, target, source in ((forward, r > 0, "k*64", f"({r} + k)*64"), (back, False, f"({r} + k)*64", "k*64")):
            body += [f"for k in range({d}):", f"    c = p[{2 * D * R} + k]", "    for i in range(64):"]
            which = "z" if body is forward else "g"
            body += [f"        out[{target} + i] {'+=' if add else '='} c*{which}[{source} + i]"]
    bound = ["for i in range(64):", f"    out[i] = p[{2 * D * R + diagonal.size}]"]
    return _together(forward, back, bound, values, r + diagonal.size, D)


def _together(forward: list[str], back: list[str], bound: list[str], values: Array, count: int, scratch: int) -> NoiseRows:
    source = _write("noise_rows", "x, p, z, out, t", forward) + _write("across_rows", "x, p, g, out, t", back)
    return NoiseRows(source + _write("bound_rows", "x, p, out, t", bound), values, count, scratch)


def _table(factor: LineFactorCode) -> NoiseRows:
    """Knot after knot, with the lanes weighted by the root of its share; the knots that no lane is near are passed over."""
    tensor, d, n, r = factor.tensor, factor.dim, len(factor.knots), factor.rank
    D, R = -(-d // 4) * 4, -(-r // 4) * 4
    F = np.sqrt(2.0) * tensor.F
    head = d + 2
    at = [head, head + n * D * R, head + 2 * n * D * R]
    blocks = [np.concatenate([padded(m).ravel() for m in part]) for part in (F, np.swapaxes(F, 1, 2))] if r else []
    values = np.concatenate(
        [tensor.direction, [tensor.knots[0], tensor.step], *blocks, 2.0 * tensor.diagonal.ravel(), [2.0 * tensor.top]]
    )
    place = [
        *_line(d, "p", "t"),
        "for i in range(64):",
        f"    s = clamp((t[i] - p[{d}])/p[{d + 1}], 0.0, {n - 1}.0)",
        f"    t[i] = min(int(s), {n - 2})",
        "    t[64 + i] = s - t[i]",
    ]
    share = [
        f"for knot in range({n}):",
        "    some = 0.0",
        "    for i in range(64):",
        "        a = (1.0 - t[64 + i]) if t[i] == knot else t[64 + i] if t[i] + 1.0 == knot else 0.0",
        "        t[128 + i] = sqrt(a)",
        "        some += a",
        "    if some == 0.0:",
        "        continue",
        f"    half = (knot & 1)*{64 * r}",
    ]
    y = "t[192:]"
    forward, back = [*place], [*place]
    if r:
        forward += [f"F = p[{at[0]}:{at[1]}].reshape(({n * D}, {R}))", *_zero("out", D), *_zero(y, R), *share]
        forward += [f"    for k in range({r}):", "        for i in range(64):"]
        forward += ["            t[192 + k*64 + i] = t[128 + i]*z[half + k*64 + i]"]
        forward += ["    " + line for line in _product("F", D, R, y, "out", f"knot*{D}")]
        back += [f"T = p[{at[1]}:{at[2]}].reshape(({n * R}, {D}))", *_zero("out", 2 * r), *share]
        back += [
            f"    for k in range({d}):",
            "        for i in range(64):",
            "            t[192 + k*64 + i] = t[128 + i]*g[k*64 + i]",
        ]
        back += [f"    for i in range({64 * d}, {64 * D}):", "        t[192 + i] = 0.0"]
        back += ["    " + line for line in [f"y = t[{192 + 64 * D}:]", *_zero("y", R), *_product("T", R, D, y, "y", f"knot*{R}")]]
        back += [f"    for i in range({64 * r}):", "        out[half + i] += y[i]"]
    if factor.has_diagonal:
        root = f"sqrt((1.0 - t[64 + i])*p[{at[2]} + {d}*int(t[i]) + k] + t[64 + i]*p[{at[2] + d} + {d}*int(t[i]) + k])"
        loop = [f"for k in range({d}):", "    for i in range(64):"]
        forward += [*loop, f"        out[k*64 + i] {'+=' if r else '='} {root}*z[({2 * r} + k)*64 + i]"]
        back += [*loop, f"        out[({2 * r} + k)*64 + i] = {root}*g[k*64 + i]"]
    bound = ["for i in range(64):", f"    out[i] = p[{values.size - 1}]"]
    return _together(forward, back, bound, values, factor.noise_dim, 3 + D + 2 * R)


def _diagonal(factor: DiagonalCode, params: Mapping[str, float]) -> NoiseRows:
    d, child = factor.dim, rows_of(factor.child, "diagonal_rows", params)
    roots = [f"diagonal_rows(x, p, out, t[{64 * d}:])", f"for i in range({64 * d}):"]
    forward = [*roots, "    out[i] = positive_sqrt(2.0*out[i], out[i])*z[i]"]
    back = [*roots, "    out[i] = positive_sqrt(2.0*out[i], out[i])*g[i]"]
    bound = [f"diagonal_rows(x, p, t, t[{64 * d}:])", *_zero("out", 1), f"for k in range({d}):", "    for i in range(64):"]
    bound += ["        out[i] = max(out[i], 2.0*t[k*64 + i])"]
    made = _together(forward, back, bound, child.params, d, d + child.scratch)
    made.source = child.source + "\n" + made.source
    made.namespace, made.cacheable = child.namespace, child.cacheable
    return made


def _general(factor: Code, params: Mapping[str, float]) -> NoiseRows:
    d, child = factor.dim, rows_of(factor, "factor_rows", params)
    m, size = factor.n_out // d, 64 * factor.n_out
    values = [f"factor_rows(x, p, t, t[{size}:])"]
    loops = [f"for k in range({d}):", f"    for j in range({m}):", "        for i in range(64):"]
    forward = [*values, *_zero("out", d), *loops, f"            out[k*64 + i] += t[(k*{m} + j)*64 + i]*z[j*64 + i]"]
    back = [*values, *_zero("out", m), *loops, f"            out[j*64 + i] += t[(k*{m} + j)*64 + i]*g[k*64 + i]"]
    bound = [*values, *_zero("out", 1), *loops, f"            out[i] += t[(k*{m} + j)*64 + i]*t[(k*{m} + j)*64 + i]"]
    made = _together(forward, back, bound, child.params, m, factor.n_out + child.scratch)
    made.source = child.source + "\n" + made.source
    made.namespace, made.cacheable = child.namespace, child.cacheable
    return made
