"""How much a network varies over its inputs, and inequalities between that, the Hessian and the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import of_kind
from ._output_rows import passes
from ._sample_norms import hessian_norms
from ._saved import Saved
from ._threads import single_threaded_blas
from .mlp import MLP
from .spectrum import top_eigenpairs, trace

if TYPE_CHECKING:
    from fpsolve import Estimate

__all__ = [
    "CurvatureBound",
    "TwoLayerBound",
    "curvature_bound",
    "input_gradient",
    "two_layer_bound",
]

Array = NDArray[np.float64]


def input_gradient(mlp: MLP, theta: ArrayLike, x: ArrayLike) -> Estimate:
    r"""Mean square of the gradient of the outputs by the inputs: how much the network varies from input to input.

    .. math:: \frac1N \sum_n |\nabla_x f(x_n)|^2, \qquad |\nabla_x f|^2 = \sum_{c,i} (\partial z_c / \partial x_i)^2

    Parameters
    ----------
    mlp, theta
        The outputs are those before any softmax.
    x : array, shape (N, inputs)
        Of test samples for the mean over inputs in general, of training samples for `two_layer_bound`.

    Returns
    -------
    fpsolve.Estimate
        Its standard error is that of a mean over N independent inputs of their distribution (0 for one input).

    Raises
    ------
    ValueError
        Wrong shapes, numbers that are not finite.

    Examples
    --------
    A linear map has the same gradient everywhere:

    >>> float(input_gradient(MLP((2, 1), loss="mse"), [3.0, 4.0, 1.0], [[0.0, 1.0], [2.0, 2.0]]).value)
    25.0
    """
    from fpsolve import Estimate

    each = _input_squares(mlp, theta, x)
    error = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else 0.0
    return Estimate(float(each.mean()), stderr=error, method="mean over the inputs")


def _input_squares(mlp: MLP, theta: ArrayLike, x: ArrayLike) -> Array:
    """|grad_x f|^2 of each sample; W_1 enters by the products of its columns only."""
    of_kind(mlp, MLP, "mlp", "nets.MLP((64, 20, 10))")
    weights = mlp.check_point(theta)
    inputs, _ = mlp.check_samples(x, np.zeros((len(np.atleast_1d(x)), mlp.widths[-1])))
    first = mlp.unpack(weights)["W1"]
    products = first.T @ first
    with single_threaded_blas():
        parts = [np.einsum("ncj,ncj->n", rows[0] @ products, rows[0]) for _, rows in passes(mlp, weights, inputs, None)]
    return np.asarray(np.maximum(np.concatenate(parts), 0.0))


# ---- bounds -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class TwoLayerBound(Saved):
    r"""Both sides of `mean |grad_x f|^2 <= |W_1|^2 tr G / (1 + min |x|^2)`; made by `two_layer_bound`.

    Attributes
    ----------
    gradient : float
        Left side, the mean over the training samples.
    norm : float
        Spectral norm of W_1.
    smallest : float
        Smallest `|x|^2`.
    trace : float
        tr G, without weight decay.
    first_trace : float
        Its part of the first layer, W_1 and b_1: what the inequality needs.
    hessian_trace : float
        tr H, without weight decay: tr G at zero loss, and for relu.

    Examples
    --------
    >>> bound = TwoLayerBound(1.0, 2.0, 1.0, 3.0, 2.0, 3.0)
    >>> bound.bound, bound.sharp
    (6.0, 4.0)
    """

    gradient: float
    norm: float
    smallest: float
    trace: float
    first_trace: float
    hessian_trace: float
    KIND: ClassVar[str] = "two-layer bound"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "gradient": ("", "", "left side, the mean over the samples"),
        "norm": ("", "", "spectral norm of W_1"),
        "smallest": ("", "", "smallest |x|^2"),
        "trace": ("", "", "tr G, without weight decay"),
        "first_trace": ("", "", "its part of the first layer"),
        "hessian_trace": ("", "", "tr H, without weight decay"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "bound": ("", "", "right side"),
        "sharp": ("", "", "right side with the trace of the first layer alone"),
    }

    @property
    def bound(self) -> float:
        """Right side."""
        return self.norm**2 * self.trace / (1.0 + self.smallest)

    @property
    def sharp(self) -> float:
        """The same with the trace of the first layer alone."""
        return self.norm**2 * self.first_trace / (1.0 + self.smallest)


def two_layer_bound(mlp: MLP, theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> TwoLayerBound:
    r"""Flat minima with bounded weights are simple functions: the mean square gradient by the inputs against the trace of G.

    .. math:: \frac1N \sum_n |\nabla_x f(x_n)|^2 \le \frac{|W_1|_2^2\, \mathrm{tr}\, G}{1 + \min_n |x_n|^2}

    Parameters
    ----------
    mlp : MLP
        Loss "mse", any activation, any number of outputs.
    theta, x, y
        As in `nets.hessian`.

    Returns
    -------
    TwoLayerBound

    Raises
    ------
    ValueError
        Wrong shapes; a loss other than "mse".

    Notes
    -----
    The Jacobian by the inputs is :math:`K_n W_1^T` with :math:`K_n = \partial z_L / \partial z_1`, of Frobenius norm at most
    :math:`|W_1|_2 |K_n|_F`; the part of tr G of W_1 and b_1 is :math:`\langle (1 + |x_n|^2) |K_n|_F^2 \rangle`. So the inequality
    holds with tr G, at any weights, for any number of layers and of outputs (Frobenius norm). With tr H in place of tr G it holds
    for relu, where they are equal, and at zero loss; for tanh at a finite loss tr H can be anything, below zero too. For
    "cross_entropy" G has the softmax's second derivatives inside, which vanish with the loss, and there is no such bound; an MLP
    with loss="mse" and the same weights has it.

    L. Wu, Z. Zhu, W. E, arXiv:1706.10239, for two layers.

    Examples
    --------
    >>> mlp, x = MLP((1, 1), loss="mse"), [[1.0], [3.0]]
    >>> found = two_layer_bound(mlp, [2.0, 0.0], x, [[2.0], [6.0]])
    >>> found.gradient, found.bound, found.sharp
    (4.0, 12.0, 12.0)
    """
    _only_mse(mlp, "the bound on the gradient by the inputs")
    plain, weights, (inputs, t) = MLP(**{**mlp.spec, "weight_decay": 0.0}), mlp.check_point(theta), mlp.check_samples(x, y)
    return TwoLayerBound(
        gradient=float(_input_squares(mlp, weights, inputs).mean()),
        norm=float(np.linalg.norm(mlp.unpack(weights)["W1"], 2)),
        smallest=float(np.einsum("ni,ni->n", inputs, inputs).min()),
        trace=float(trace(plain, weights, inputs, t, matrix="gauss-newton").value),
        first_trace=float(trace(plain, weights, inputs, t, matrix="gauss-newton", block=("W1", "b1")).value),
        hessian_trace=float(trace(plain, weights, inputs, t).value),
    )


@dataclass(frozen=True, eq=False, repr=False)
class CurvatureBound(Saved):
    r"""Both sides of :math:`|H - G|_2 \le \sqrt{2L} \sqrt{\langle |\nabla^2 f_n|_2^2 \rangle}`; made by `curvature_bound`.

    Attributes
    ----------
    difference : float
        `|H - G|_2`.
    residuals : ndarray, shape (N,)
        `|r_n| = |z_n - t_n|`.
    norms : ndarray, shape (N,)
        Spectral norm of the second derivatives by all weights of the output along the residual.

    Examples
    --------
    >>> bound = CurvatureBound(1.0, np.array([1.0, 0.0]), np.array([2.0, 4.0]))
    >>> bound.loss, bound.bound ** 2, bound.sharp
    (0.25, 5.0, 1.0)
    """

    difference: float
    residuals: Array = field(repr=False)
    norms: Array = field(repr=False)
    KIND: ClassVar[str] = "curvature bound"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "difference": ("", "loss/weight^2", "norm of H - G, the left side"),
        "residuals": ("sample", "1", "norm of outputs minus targets"),
        "norms": ("sample", "1/weight^2", "norm of the second derivatives of the output along the residual"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "bound": ("", "loss/weight^2", "right side"),
        "sharp": ("", "loss/weight^2", "mean of the products, between the two sides"),
        "loss": ("", "loss", "loss without weight decay"),
    }
    ROWS: ClassVar[str] = "sample"

    @property
    def loss(self) -> float:
        """`L = < |r|^2 > / 2`, without weight decay."""
        return 0.5 * float(np.mean(self.residuals**2))

    @property
    def bound(self) -> float:
        """Right side."""
        return math.sqrt(2.0 * self.loss * float(np.mean(self.norms**2)))

    @property
    def sharp(self) -> float:
        """`< |r_n| |Hess f_n| >`, which lies between the two sides."""
        return float(np.mean(self.residuals * self.norms))


def curvature_bound(mlp: MLP, theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> CurvatureBound:
    r"""How far the Hessian of the "mse" loss can be from the Gauss-Newton matrix: as far as the root of the loss.

    .. math:: |H - G|_2 = \Big| \frac1N \sum_n \sum_c r_{nc} \nabla^2_\theta f_c(x_n) \Big|_2
              \le \frac1N \sum_n |r_n|\, |\nabla^2_\theta f_n|_2
              \le \sqrt{2 L} \sqrt{\frac1N \sum_n |\nabla^2_\theta f_n|_2^2}

    with :math:`r_n = z_n - t_n`, :math:`2L = \langle |r|^2 \rangle`, and :math:`f_n = (r_n / |r_n|) \cdot z(x_n)`, the output along
    the residual: for one output, the output, but for its sign. It implies the weaker inequalities with the largest norm over all
    unit directions of the outputs, or with :math:`\sum_c |\nabla^2 f_c|_2^2`, in place of :math:`|\nabla^2 f_n|_2^2`.

    Parameters
    ----------
    mlp : MLP
        Loss "mse".
    theta, x, y
        As in `nets.hessian`.

    Returns
    -------
    CurvatureBound

    Raises
    ------
    ValueError
        Wrong shapes; a loss other than "mse".
    fpsolve.FpsolveError
        Lanczos did not converge.

    Notes
    -----
    `|H - G|` is the eigenvalue of largest magnitude of the residual part itself, no difference of two matrices. The norms of all
    samples are exact up to 200 numbers that can have second derivatives (units of the first layer, and the weights above them),
    and otherwise come from 60 Lanczos steps for each, from below, so that an inequality which holds with them holds. By how much:
    less than 1e-9 on 784-50-50-10 (relu and tanh) and 64-32-10 (relu); up to 0.006 of one norm and 0.001 of the root of their mean
    square on two layers of 120 to 400 tanh units, whose curvatures crowd.

    Examples
    --------
    Of a x + b no second derivative is there; of one tanh unit it is:

    >>> curvature_bound(MLP((1, 1), loss="mse"), [0.3, 0.1], [[1.0], [3.0]], [[0.0], [1.0]]).bound
    0.0
    >>> mlp = MLP((1, 1, 1), activation="tanh", loss="mse")
    >>> found = curvature_bound(mlp, [0.5, 0.0, 1.0, 0.0], [[1.0], [3.0]], [[0.0], [1.0]])
    >>> found.difference <= found.sharp <= found.bound
    True
    """
    _only_mse(mlp, "the bound on H - G")
    weights, (inputs, t) = mlp.check_point(theta), mlp.check_samples(x, y)
    r = mlp.outputs(weights, inputs) - t
    lengths = np.linalg.norm(r, axis=1)
    u = np.where(lengths[:, None] > 0.0, r / np.where(lengths > 0.0, lengths, 1.0)[:, None], np.eye(r.shape[1])[0])
    with single_threaded_blas():
        norms = hessian_norms(mlp, weights, inputs, u)
    if mlp.n_layers == 1:
        return CurvatureBound(0.0, lengths, norms)
    top = top_eigenpairs(mlp, weights, inputs, t, k=1, matrix="residual", which="magnitude")
    return CurvatureBound(float(np.abs(top.values[0])), lengths, norms)


def _only_mse(mlp: MLP, what: str) -> None:
    of_kind(mlp, MLP, "mlp", "nets.MLP((64, 20, 10))")
    if mlp.loss_name != "mse":
        raise ValueError(
            f"{what} is one for loss='mse': got loss={mlp.loss_name!r}; an MLP with loss='mse' takes the same weights "
            "(and labels as one-hot targets)"
        )
