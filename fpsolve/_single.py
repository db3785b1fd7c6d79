"""Text of kernels in single precision, made from that of double precision, and what cannot be run in it.

Generated source has floating-point literals and names only; integers appear in indices and exponents. Numba computes in the widest
type that it meets, so one float64 literal would widen a whole expression: every literal becomes ``f32(literal)``, and nothing else
changes. Parameters and constants come as float32 arrays, states and normals from float32 blocks.

To see what the rounding costs there is a third kind of text, "twin": that of double precision, fed with the normals of single
precision. Its paths and those of single precision differ by rounding only.
"""

from __future__ import annotations

import ast

import numpy as np
from numpy.typing import NDArray

from ._code import HELPERS, PREAMBLE, Code, ExpressionCode, JacobianCode, TableCode
from ._function_code import FunctionCode

__all__ = ["PRECISIONS", "check_codes", "narrow", "narrowed", "single_source", "twin_imports"]

PRECISIONS = ("double", "single")

#: First lines of a module in single precision; normals are drawn under the name that the text has for them.
SINGLE_IMPORTS = """\
import numpy as np
from fpsolve._jit import inline, kernel, part
from fpsolve._kernels.rng32 import fill_normals32 as fill_normals
"""
#: The double-precision name is imported with others; this line, which comes later, takes its place.
TWIN_IMPORTS = "from fpsolve._kernels.rng32 import fill_widened as fill_normals\n"
#: What the helpers forgive as rounding: some hundred units in the last place, and the square root of that for ratios.
FORGIVEN, WIDER = "1e-5", "1e4*"


class _Narrow(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if type(node.value) is not float:
            return node
        return ast.Call(ast.Name("f32", ast.Load()), [node], [])


def narrow(text: str) -> str:
    """The source with each floating-point literal wrapped into ``f32``."""
    return ast.unparse(ast.fix_missing_locations(_Narrow().visit(ast.parse(text)))) + "\n"


def single_source(body: str) -> str:
    """A whole module in single precision from the generated text `body`."""
    helpers = HELPERS.format(inline="@inline", forgiven=FORGIVEN, wider=WIDER)
    return f"{SINGLE_IMPORTS}{PREAMBLE}\nf32 = np.float32\nnan = f32(nan)\n\n{narrow(helpers + body)}"


def twin_imports() -> str:
    """The line that makes a double-precision module draw the normals of single precision."""
    return TWIN_IMPORTS


def narrowed(values: NDArray[np.float64], what: str, tiny: bool = False) -> NDArray[np.float32]:
    """The values in single precision; with `tiny`, small ones may become zero.

    Raises
    ------
    ValueError
        If one of them is too large or too small for it.
    """
    with np.errstate(all="ignore"):
        out = values.astype(np.float32)
    small = (np.abs(out) < np.finfo(np.float32).tiny) & (values != 0.0) & (not tiny)
    lost = np.isfinite(values) & (small | ~np.isfinite(out))
    if lost.any():
        raise ValueError(
            f"{what}: {float(values[lost][0])!r} does not fit into single precision, whose numbers have sizes from 1.2e-38 to "
            "3.4e38; change the units, or use precision='double'"
        )
    return out


def check_codes(codes: tuple[Code, ...]) -> None:
    """Refuse codes that cannot be narrowed.

    Raises
    ------
    ValueError
        For Python functions, tables, derivatives by differences, and constants out of range.
    """
    for code in codes:
        check_codes(code.parts)
        reason = ""
        if isinstance(code, FunctionCode):
            reason = "the process calls a Python function, which is compiled as it is: write it as an expression"
        elif isinstance(code, TableCode):
            reason = "the process has a tabulated part, whose interpolation needs the digits of double precision"
        elif isinstance(code, JacobianCode):
            reason = "a derivative of the process is taken by differences, in which single precision leaves two digits"
        if reason:
            raise ValueError(f"precision='single' is refused: {reason}; use precision='double'")
        if isinstance(code, ExpressionCode):
            numbers = {float(v) for e in code.expressions for v in e.atoms() if v.is_number and v.is_real and v.is_finite}
            narrowed(np.array(sorted(numbers)), "a constant of the process")
