"""Flatness that rescaling cannot change: relu networks in the weights at which their Hessian has the smallest trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import of_kind
from ._saved import Saved
from .curvature import _layer_passes
from .mlp import MLP

__all__ = ["RescaledTrace", "rescaled_trace"]

Array = NDArray[np.float64]

#: The terms of a trace that is smallest over rescalings balance at every unit to this accuracy; the trace to its square.
BALANCE = 1e-6


@dataclass(frozen=True, eq=False)
class RescaledTrace(Saved):
    """The smallest trace of the Hessian over all rescalings of a relu network; made by `rescaled_trace`.

    Attributes
    ----------
    value : float
        The smallest trace.
    trace : float
        At the weights given.
    theta : ndarray, shape (P,)
        Weights of the same network that have it.
    scales : ndarray
        By how much the inputs of each hidden unit are multiplied, layer by layer.

    Examples
    --------
    >>> RescaledTrace(2.0, 5.0, np.zeros(4), np.ones(1))
    RescaledTrace(value=2.0, trace=5.0)
    """

    value: float
    trace: float
    theta: Array = field(repr=False)
    scales: Array = field(repr=False)
    KIND: ClassVar[str] = "rescaled trace"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "value": ("", "loss/weight^2", "smallest trace"),
        "trace": ("", "loss/weight^2", "trace at the weights given"),
        "theta": ("weight", "1", "weights at which the trace is smallest"),
        "scales": ("unit", "1", "factors of the weights into each hidden unit"),
    }


def rescaled_trace(mlp: MLP, theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> RescaledTrace:
    r"""Flatness that rescaling cannot change: the smallest trace of the Hessian over all weights that are the same relu network.

    A relu unit does not notice if the weights and the bias into it are multiplied by c > 0 and those out of it divided by c; the
    trace does. Each diagonal element goes with the inverse square of its weight's factor, so that with
    :math:`c_j = e^{u_j}` of unit j, and u = 0 for the inputs, the outputs and the 1 of the biases,

    .. math:: \mathrm{tr}(u) = \sum_{i \to j} M_{ij}\, e^{2 (u_i - u_j)}, \qquad M_{ij} = \sum_{\text{weights } i \to j} G_{ww} ,

    which is convex in u. The minimum is where at every unit the terms in and out balance. Two layers, in closed form:
    :math:`\sum_j 2 \sqrt{A_j B_j}` with A_j and B_j the traces of the weights into and out of unit j, and that of the last biases.

    Parameters
    ----------
    mlp : MLP
        Activation "relu", either loss. tr H = tr G here, at any loss. Without the weight decay, which no rescaling keeps.
    theta, x, y
        As in `nets.hessian`.

    Returns
    -------
    RescaledTrace

    Raises
    ------
    ValueError
        Wrong shapes; an activation other than relu, which rescaling does change.
    fpsolve.FpsolveError
        The minimum was not found.

    Notes
    -----
    Layer after layer is balanced in turn as in Osborne's balancing of matrices (J. ACM 7, 338, 1960), then Newton's method with a
    trust region (SciPy). Units that see nothing (dead on all samples) or are not seen can be scaled away: their terms count as
    zero, the infimum, and their scales stay 1.

    Examples
    --------
    >>> mlp, x, y = MLP((1, 1, 1), loss="mse"), [[1.0], [3.0]], [[0.0], [1.0]]
    >>> one, other = (rescaled_trace(mlp, [c * 2.0, c * 1.0, 0.5 / c, 0.3], x, y) for c in (1.0, 7.0))
    >>> abs(one.value / other.value - 1) < 1e-12, one.trace, other.trace > 1000
    (True, 31.5, True)
    """
    of_kind(mlp, MLP, "mlp", "nets.MLP((64, 20, 10))")
    if mlp.activation != "relu":
        raise ValueError(
            f"only relu networks stay the same when a unit is rescaled: got activation={mlp.activation!r}; nets.trace is what it is"
        )
    plain, weights, (inputs, t) = MLP(**{**mlp.spec, "weight_decay": 0.0}), mlp.check_point(theta), mlp.check_samples(x, y)
    matrix, fixed = _unit_traces(plain, weights, inputs, t)
    alive = _on_cycles(matrix)
    inside = matrix[np.ix_(alive, alive)]
    u = np.zeros(len(matrix))
    u[alive] = _balanced(inside, np.repeat(np.arange(mlp.n_layers), [1, *mlp.widths[1:-1]])[alive])
    smallest = fixed + float((inside * np.exp(2.0 * np.subtract.outer(u[alive], u[alive]))).sum())
    scales = np.exp(u[1:])
    return RescaledTrace(smallest, fixed + float(matrix.sum()), _rescaled(mlp, weights, scales), scales)


def _unit_traces(mlp: MLP, theta: Array, x: Array, t: Array) -> tuple[Array, float]:
    """Sums of the diagonal of G over the weights from unit to unit, unit 0 for all that is not hidden; those of the last biases."""
    starts = np.concatenate([[1], 1 + np.cumsum(mlp.widths[1:-1])]).astype(int)
    matrix, fixed = np.zeros((starts[-1], starts[-1])), 0.0
    for a, _, curvature in _layer_passes(mlp, theta, x, t, 1, "gauss-newton"):
        for layer in range(1, mlp.n_layers + 1):
            each = np.einsum("njj->nj", curvature[layer]) / len(x)
            part, bias = (a[layer - 1] ** 2).T @ each, each.sum(axis=0)
            rows = slice(0, 1) if layer == 1 else slice(starts[layer - 2], starts[layer - 1])
            part = part.sum(axis=0, keepdims=True) if layer == 1 else part
            if layer == mlp.n_layers:
                fixed += float(bias.sum()) + (float(part.sum()) if layer == 1 else 0.0)
                if layer > 1:
                    matrix[rows, 0] += part.sum(axis=1)
            else:
                cols = slice(starts[layer - 1], starts[layer])
                matrix[rows, cols] += part
                matrix[0, cols] += bias
    return matrix, fixed


def _on_cycles(matrix: Array) -> NDArray[np.intp]:
    """Unit 0, and the units that terms lead both into and out of, when those of the other units are left out."""
    alive = np.ones(len(matrix), dtype=bool)
    while True:
        inside = np.where(alive[:, None] & alive, matrix, 0.0)
        now = alive & (inside.sum(axis=0) > 0.0) & (inside.sum(axis=1) > 0.0)
        now[0] = True
        if (now == alive).all():
            return np.flatnonzero(alive)
        alive = now


def _balanced(matrix: Array, layers: NDArray[np.intp]) -> Array:
    """The u with u_0 = 0 at which sum M_ij exp(2 (u_i - u_j)) is smallest; `layers` of the units, 0 for unit 0."""
    from scipy.optimize import minimize

    from fpsolve import FpsolveError

    u, total = np.zeros(len(matrix)), float(matrix.sum())
    if len(u) == 1:
        return u

    def terms(v: Array) -> Array:
        full = np.concatenate([[0.0], v])
        return np.asarray(matrix / total * np.exp(2.0 * np.subtract.outer(full, full)))

    def jacobian(v: Array) -> Array:
        m = terms(v)
        return np.asarray(2.0 * (m.sum(axis=1) - m.sum(axis=0))[1:])

    def hessian(v: Array) -> Array:
        m = terms(v)
        return np.asarray(4.0 * (np.diag(m.sum(axis=1) + m.sum(axis=0)) - m - m.T)[1:, 1:])

    for _ in range(20):
        for layer in range(1, int(layers.max()) + 1):
            m, here = terms(u[1:]), layers == layer
            u[here] += 0.25 * np.log(m.sum(axis=0)[here] / m.sum(axis=1)[here])
    off = float(np.abs(jacobian(u[1:])).max(initial=0.0))
    if off > BALANCE**2:
        options = {"gtol": BALANCE**2}
        found = minimize(lambda v: terms(v).sum(), u[1:], jac=jacobian, hess=hessian, method="trust-exact", options=options)
        u[1:], off = found.x, float(np.abs(jacobian(found.x)).max())
    if not off <= BALANCE * float(terms(u[1:]).sum()):
        raise FpsolveError(
            f"the rescaling of smallest trace was not found: its terms balance to {off:.1g} of the trace only; "
            "prune units whose weights "
            "in or out are next to zero, nothing holds their scale"
        )
    return u


def _rescaled(mlp: MLP, theta: Array, scales: Array) -> Array:
    """The weights into each hidden unit times its scale, those out of it divided by it: the same relu network."""
    result = theta.copy()
    parts, at = mlp.unpack(result), 0
    for layer in range(1, mlp.n_layers):
        c = scales[at : at + mlp.widths[layer]]
        at += mlp.widths[layer]
        parts[f"W{layer}"] *= c
        parts[f"b{layer}"] *= c
        parts[f"W{layer + 1}"] /= c[:, None]
    return result
