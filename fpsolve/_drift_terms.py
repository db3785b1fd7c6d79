"""Codes that drifts and tensors are made of: sums, products, divergences, roots of a tensor."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._code import Code, ConstantCode, DerivedCode, ExpressionCode
from ._known import name_of
from ._tensors import MAX_EMITTED, DiagonalCode, LineFactorCode, LineTableCode
from .noise import Noise

if TYPE_CHECKING:
    from .process import Process

__all__ = ["cholesky_factor", "divergence", "modified_codes", "product", "stratonovich_drift", "sum_of", "symmetric_factor"]

Array = NDArray[np.float64]


def modified_codes(process: Process, h: float, noise_correction: bool) -> tuple[Code, Code]:
    """Drift and tensor of the modified equation without momentum; see Process.modified."""
    b, D, d = process.drift_code, process.diffusion_code, process.dim
    J = b.jacobian()
    parts = [b, J, D, J.jacobian()] if noise_correction else [b, J]
    outputs = []
    for i in range(d):
        terms = [f"c1[{i * d + j}]*c0[{j}]" for j in range(d)]
        if noise_correction:
            terms += [f"c2[{j * d + k}]*c3[{(i * d + j) * d + k}]" for j in range(d) for k in range(d)]
        outputs.append(f"c0[{i}] - {0.5 * h!r}*({' + '.join(terms)})")
    drift = DerivedCode(parts, d, outputs)
    if not noise_correction:
        return drift, D
    varying = not process.noise.is_constant
    tensor = []
    for i, j in ((i, j) for i in range(d) for j in range(d)):
        terms = [f"c1[{i * d + k}]*c2[{k * d + j}] + c2[{i * d + k}]*c1[{j * d + k}]" for k in range(d)]
        if varying:
            n = i * d + j
            terms += [f"c0[{k}]*c3[{n * d + k}]" for k in range(d)]
            terms += [f"c2[{k * d + m}]*c4[{(n * d + k) * d + m}]" for k in range(d) for m in range(d)]
        tensor.append(f"c2[{i * d + j}] - {0.5 * h!r}*({' + '.join(terms)})")
    slope = D.jacobian()
    return drift, DerivedCode([b, J, D, slope, slope.jacobian()] if varying else [b, J, D], d * d, tensor)


def sum_of(terms: Sequence[tuple[float, Code]]) -> Code:
    if all(isinstance(code, ExpressionCode) for _, code in terms):  # one expression: sympy simplifies common terms
        codes = [code for _, code in terms if isinstance(code, ExpressionCode)]
        if len({code.variables for code in codes}) == 1:
            signs = [int(sign) if sign == int(sign) else sign for sign, _ in terms]
            origins = [code.origin for code in codes]
            origin = None if None in origins else name_of("sum", signs, origins)
            names = tuple(dict.fromkeys(n for c in codes for n in c.names))
            return ExpressionCode(functools.partial(_added, signs, codes), codes[0].variables, names, origin)
    sign, code = terms[0]
    return code if len(terms) == 1 and sign == 1.0 else DerivedCode.combine(terms)


def _added(signs: Sequence[float], codes: Sequence[ExpressionCode]) -> list[Any]:
    return [sum(s * code.expressions[i] for s, code in zip(signs, codes, strict=True)) for i in range(codes[0].n_out)]


def product(D: Code, g: Code) -> Code:
    """D(x) g(x)."""
    d = g.dim
    return DerivedCode([D, g], d, [" + ".join(f"c0[{i * d + j}]*c1[{j}]" for j in range(d)) for i in range(d)])


def _row_sums(D: ExpressionCode) -> list[Any]:
    d, slopes = D.dim, D.slopes()
    return [sum(slopes[(i * d + k) * d + k] for k in range(d)) for i in range(d)]


def divergence(D: Code) -> Code:
    """sum_j d D_ij/d x_j."""
    d = D.dim
    if isinstance(D, LineTableCode) or (isinstance(D, DiagonalCode) and (D.is_symbolic or d > MAX_EMITTED)):
        return D.divergence()
    if isinstance(D, ExpressionCode):
        return ExpressionCode(functools.partial(_row_sums, D), D.variables, D.names, D.derived("divergence"))
    return DerivedCode([D.jacobian()], d, [" + ".join(f"c0[{(i * d + k) * d + k}]" for k in range(d)) for i in range(d)])


def stratonovich_drift(B: Code) -> Code:
    """(1/2) sum_jk B_jk d_j B_ik."""
    d = B.dim
    m = B.n_out // d
    outputs = [" + ".join(f"0.5*c0[{j * m + k}]*c1[{(i * m + k) * d + j}]" for j in range(d) for k in range(m)) for i in range(d)]
    return DerivedCode([B, B.jacobian()], d, outputs)


def cholesky_factor(noise: Noise) -> Code:
    """Lower-triangular B with B B^T = 2 D; zero columns where D is singular, so that semi-definite tensors are exact."""
    assert noise.diffusion_code is not None and noise.dim is not None
    d = noise.dim
    if noise.matrix is not None:
        return ConstantCode(root_of(2.0 * noise.matrix), d)
    if d > 8 and isinstance(noise.diffusion_code, LineTableCode):
        return LineFactorCode(noise.diffusion_code)
    if d > 8:
        raise ValueError(
            f"a varying diffusion tensor in {d}-D needs a factor: use Noise.from_factor (tensors are factored up to 8-D)"
        )
    lines = []
    for j in range(d):
        squares = "".join(f" - b{j}_{k}*b{j}_{k}" for k in range(j))
        lines.append(f"b{j}_{j} = positive_sqrt(2.0*c0[{j * d + j}]{squares}, c0[{j * d + j}])")
        for i in range(j + 1, d):
            products = "".join(f" - b{i}_{k}*b{j}_{k}" for k in range(j))
            lines.append(f"b{i}_{j} = ratio(2.0*c0[{i * d + j}]{products}, b{j}_{j}, 1e-7*fabs(c0[{i * d + i}]))")
    outputs = [f"b{i}_{j}" if j <= i else "0.0" for i in range(d) for j in range(d)]
    return DerivedCode([noise.diffusion_code], d * d, outputs, lines)


def symmetric_factor(noise: Noise) -> Code:
    """The symmetric root sqrt(2 D), which the Stratonovich reading of a bare tensor means."""
    assert noise.diffusion_code is not None and noise.dim is not None
    d = noise.dim
    if noise.matrix is not None:
        return ConstantCode(root_of(2.0 * noise.matrix), d)
    if d == 1:
        return DerivedCode([noise.diffusion_code], 1, ["positive_sqrt(2.0*c0[0], c0[0])"])
    if d == 2:  # (M + sqrt(det M))/sqrt(tr M + 2 sqrt(det M)) with M = 2 D
        lines = [
            "r = 2.0*positive_sqrt(c0[0]*c0[3] - c0[1]*c0[2], c0[0]*c0[3])",
            "t = positive_sqrt(c0[0] + c0[3], c0[0] + c0[3])",
            "s = ratio(1.0, sqrt(2.0*(t*t + r)), 1.0)",
        ]
        outputs = ["s*(2.0*c0[0] + r)", "s*2.0*c0[1]", "s*2.0*c0[2]", "s*(2.0*c0[3] + r)"]
        return DerivedCode([noise.diffusion_code], 4, outputs, lines)
    raise ValueError(
        f"Stratonovich noise in {d}-D needs the factor B: use Noise.from_factor (roots of tensors are taken up to 2-D)"
    )


def root_of(M: Array) -> Array:
    """Symmetric root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(M)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
