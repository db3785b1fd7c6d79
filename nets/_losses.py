"""The loss that is asked about: that of a network over its samples, or a landscape; checked, with points of its space.

Both become one function from points (n, P) to losses (n,) and gradients (n, P), which is all that the methods know of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers, of_kind
from .mlp import MLP

if TYPE_CHECKING:
    from fpsolve import Potential

__all__ = ["Evaluate", "loss_of_landscape", "loss_of_network", "network_loss"]

Array = NDArray[np.float64]
Evaluate = Callable[[Array], tuple[Array, Array]]


def loss_of_network(mlp: MLP, x: ArrayLike, y: ArrayLike, **points: ArrayLike) -> tuple[Evaluate, list[Array]]:
    """Loss over the samples, and the named weight vectors."""
    of_kind(mlp, MLP, "mlp", "nets.MLP((64, 20, 10))")
    samples = mlp.check_samples(x, y)
    return network_loss(mlp, *samples), [mlp.check_point(value, name) for name, value in points.items()]


def loss_of_landscape(potential: Potential, **points: ArrayLike) -> tuple[Evaluate, list[Array]]:
    """The landscape itself, and the named points."""
    from fpsolve import Potential

    if not isinstance(potential, Potential):
        raise TypeError(f"potential must be a fpsolve.Potential: got {type(potential).__name__}")
    found = []
    for name, value in points.items():
        point = np.ascontiguousarray(np.atleast_1d(numbers(name, value)))
        if point.shape != (potential.dim,) or not np.isfinite(point).all():
            raise ValueError(f"{name} must be finite, of shape ({potential.dim},): got shape {point.shape}")
        found.append(point)
    return lambda at: (np.asarray(potential(at)), np.asarray(potential.grad(at))), found


def network_loss(mlp: MLP, x: Array, t: Array) -> Evaluate:
    """Losses over all samples, weight decay included, and their gradients, of many networks."""
    from ._kernels import losses_and_gradients

    net = mlp.kernel_args()

    def evaluate(points: Array) -> tuple[Array, Array]:
        losses, gradients = np.empty(len(points)), np.empty(points.shape)
        losses_and_gradients(net, np.ascontiguousarray(points), x, t, losses, gradients)
        return losses, gradients

    return evaluate
