"""Measurements on a network or a run: curvature and noise at the mean weights, and Yaida's fluctuation-dissipation relation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsolve.results import Result

from ._checks import of_kind
from .curvature import gradient_covariance, hessian
from .data import Data
from .mlp import MLP, check_network
from .parameters import Model
from .run import Run
from .series import mean_estimate
from .stats import Stats

if TYPE_CHECKING:
    from fpsolve import Estimate

__all__ = ["FluctuationDissipation", "fluctuation_dissipation", "measure"]

Array = NDArray[np.float64]


def measure(
    source: Run | MLP | Model,
    data: Data,
    *,
    theta: ArrayLike | None = None,
    block: str | Sequence[str] | None = None,
    lr: float | None = None,
    batch: int | None = None,
    sampling: str | None = None,
    momentum: float | None = None,
) -> Stats:
    """Exact Hessian and centred per-sample gradient covariance over the training samples.

    Parameters
    ----------
    source : Run, MLP or TorchModel
        A run brings lr, batch, sampling and momentum along; with a network, `theta`, `lr` and `batch` must be given (of a
        `TorchModel`, `theta` is by default that of the module).
    data : Data
        The training data (of a run: the same; this is checked).
    theta : array, shape (P,), optional
        Where; default: the run's mean weights.
    block : str or sequence of str, optional
        Restrict to these blocks; default: all weights.
    lr, batch, sampling, momentum
        Override what the run says.

    Returns
    -------
    Stats

    Raises
    ------
    ValueError
        Missing or unfit arguments; other data than the run's.

    Examples
    --------
    >>> import nets
    >>> data = nets.load_data("spiral")
    >>> run = nets.train(nets.MLP((2, 8, 2), activation="tanh", weight_decay=0.01), data, lr=0.1, batch=10, steps=100, seed=0)
    >>> stats = nets.measure(run, data)
    >>> stats
    Stats('spiral', 42 weights, hessian, covariance, lr=0.1, batch=10, shuffle)
    """
    from fpsolve import io

    mlp: Any
    if isinstance(source, Run):
        mlp = source.mlp
        check_network(mlp)
        source.check_data(data)
        theta = source.mean_weights if theta is None else theta
        lr, batch = source.lr if lr is None else lr, source.batch if batch is None else batch
        sampling, momentum = sampling or source.sampling, source.momentum if momentum is None else momentum
    elif isinstance(source, (MLP, Model)):
        mlp = source
        theta = mlp.theta if isinstance(mlp, Model) and theta is None else theta
        of_kind(data, Data, "data", "nets.load_data(...), or nets.Data of your own arrays")
    else:
        raise TypeError(f"measure takes a Run, an MLP or a TorchModel: got {type(source).__name__}")
    if theta is None or lr is None or batch is None:
        raise ValueError("measuring an MLP needs theta, lr and batch; a run with a schedule needs those that change")
    point, where = mlp.check_theta(theta), (data.x_train, data.y_train)
    facts: dict[str, Any] = {"lr": lr, "batch": batch, "sampling": sampling or "replace", "momentum": momentum or 0.0}
    return Stats(
        point[mlp.block_index(block)],
        hessian(mlp, point, *where, block=block),
        gradient_covariance(mlp, point, *where, block=block),
        **facts,
        n_samples=data.size,
        name=data.name,
        provenance=io.provenance(**facts, **mlp.spec, data=data.name, block=block),
    )


@dataclass(frozen=True, repr=False)
class FluctuationDissipation(Result):
    """Both sides of Yaida's relation, see `nets.fluctuation_dissipation`.

    Attributes
    ----------
    left : Estimate
        <(theta - c) . grad L> with the gradient of the whole training set.
    left_minibatch : Estimate or None
        <(theta - c) . g_B> with the minibatch gradients of the steps themselves.
    right : Estimate
        `(lr/2) (1 + mu) <|v|^2>`; for mu = 0, v = g_B.
    difference : Estimate
        left - right.
    difference_minibatch : Estimate or None
        left_minibatch - right (mu = 0 only).
    drift : Estimate or None
        Mean of `|theta - c|^2` over the second half minus that over the first, in units of the mean step noise
        `lr^2 <|g_B|^2>` (mu = 0 only).
    """

    left: Estimate
    left_minibatch: Estimate | None
    right: Estimate
    difference: Estimate
    difference_minibatch: Estimate | None
    drift: Estimate | None
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "z": ("", "1", "difference over its standard error"),
        "ratio": ("", "1", "left over right"),
    }

    @property
    def z(self) -> float:
        """difference / its standard error."""
        return self.difference.value / self.difference.stderr if self.difference.stderr else math.inf

    @property
    def ratio(self) -> float:
        """left / right."""
        return self.left.value / self.right.value

    @property
    def z_drift(self) -> float:
        """drift / its standard error."""
        return self.drift.value / self.drift.stderr if self.drift is not None and self.drift.stderr else math.nan


def fluctuation_dissipation(run: Run) -> FluctuationDissipation:
    r"""Test of stationarity and of white minibatch noise: Yaida's first fluctuation-dissipation relation.

    .. math:: \langle (\theta - c) \cdot \nabla L \rangle = \frac{\eta}{2} (1 + \mu) \langle |v|^2 \rangle

    for any fixed c (here: the origin of the record), v the velocity after the step, v = g_B without momentum.

    Parameters
    ----------
    run : Run
        Recorded with ``Record(sums=True)`` and at least 8 loss evaluations (`losses_every`).

    Returns
    -------
    FluctuationDissipation

    Raises
    ------
    ValueError
        If the run lacks these sums.

    Notes
    -----
    Derivation (S. Yaida, arXiv:1810.00004): let G = <theta.g_B>, X = <theta.v>, V = `<|v|^2>`. Stationarity of `|theta|^2`
    and theta.v, and the update give 2 <theta.v'> = eta V, X = <theta.v'> - eta V, <theta.v'> = mu X + G; hence
    G = (eta/2)(1 + mu) V, exactly at any learning rate. Batches drawn with replacement are independent of theta, so
    G = <theta . grad L>.

    Two different things are tested. With the *minibatch* gradients the difference telescopes to
    `(|theta_first - c|^2 - |theta_last - c|^2)/(2 eta T)` for any sampling whatever: it says only whether the weights still
    drift, and its error is that of this boundary term. With the *full* gradient the relation needs independent batches as
    well: for shuffled epochs, whose noise is anti-correlated, it fails (left < right) although the run is
    stationary. Errors: integrated autocorrelation of the series (left), of the block means (right).

    Examples
    --------
    >>> import nets
    >>> data = nets.load_data("teacher")
    >>> mlp = nets.MLP((8, 1), loss="mse", weight_decay=0.1)
    >>> start = nets.train(mlp, data, lr=0.1, batch=5, steps=1000, sampling="replace")
    >>> run = nets.train(mlp, data, resume=start, steps=40000, record=nets.Record(losses_every=40))
    >>> abs(nets.fluctuation_dissipation(run).z) < 4
    True
    """
    from fpsolve import Estimate

    of_kind(run, Run, "run", "as nets.train returns it; of arrays, compare nets.mean_estimate of early and late weights")
    blocks, mu = run.blocks, run.momentum
    if "dot_gradient" not in blocks or len(blocks["steps"]) < 8:
        raise ValueError(
            "the sums of the fluctuation-dissipation relation were not recorded over at least 8 blocks: train with "
            "record=nets.Record(sums=True)"
        )
    series = run.losses["dot_gradient"][run.losses["step"] > run.first_step]
    if len(series) < 8:
        raise ValueError(
            f"only {len(series)} full gradients were recorded, at least 8 are needed: lower losses_every in nets.Record"
        )
    factor = 0.5 * run.constants("the fluctuation-dissipation relation")[0] * (1.0 + mu)
    noise = mean_estimate(blocks["velocity_norm2"])
    right = Estimate(factor * noise.value, stderr=factor * noise.stderr, method="(lr/2)(1 + mu) <|v|^2>, every step")
    left = mean_estimate(series)
    difference = Estimate(left.value - right.value, stderr=math.hypot(left.stderr, right.stderr), method="full gradient")
    if mu:
        every = mean_estimate(blocks["dot_gradient"])
        return FluctuationDissipation(left, every, right, difference, None, None)
    return FluctuationDissipation(left, mean_estimate(blocks["dot_gradient"]), right, difference, *_telescope(run))


def _telescope(run: Run) -> tuple[Estimate, Estimate]:
    """Difference of the minibatch sides (the boundary term), and drift of |theta - c|^2 between the halves; mu = 0."""
    from fpsolve import Estimate

    b, (lr, _) = run.blocks, run.constants("the fluctuation-dissipation relation")
    steps, total = b["steps"], int(b["steps"].sum())
    # |theta - c|^2 at the block edges, up to a constant: theta' = theta - lr g
    change = steps * (lr * lr * b["gradient_norm2"] - 2.0 * lr * b["dot_gradient"])
    radius2 = np.r_[0.0, np.cumsum(change)]
    spread = float(radius2.std())
    difference = Estimate(
        -float(radius2[-1]) / (2.0 * lr * total),
        stderr=math.sqrt(2.0) * spread / (2.0 * lr * total),
        method="boundary term of |theta - c|^2",
    )
    half, at = len(radius2) // 2, np.arange(len(radius2))
    first, second = float(radius2[:half].mean()), float(radius2[-half:].mean())
    rest = radius2 - np.polyval(np.polyfit(at, radius2, 1), at)  # a trend must not hide itself in the error
    error = math.sqrt(2.0) * mean_estimate(rest).stderr * math.sqrt(len(rest) / half)
    unit = lr * lr * float(np.average(b["gradient_norm2"], weights=steps))
    return difference, Estimate((second - first) / unit, stderr=error / unit, method="halves of the run")
