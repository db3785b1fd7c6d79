"""From measured statistics to a stochastic process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ._checks import of_kind
from .stats import Stats

if TYPE_CHECKING:
    from fpsolve import Process

__all__ = ["bridge"]


def bridge(stats: Stats, directions: int | ArrayLike = 2) -> Process:
    r"""Process of the weights in a few directions: measured quadratic landscape, measured noise.

    .. math:: y = Q^T (\theta - \bar\theta), \quad dy = -Q^T H Q\, y\, dt + \sqrt{2D}\, dW, \quad D = \frac{\eta}{2B}\, f\, Q^T C Q

    in SDE time = lr x iterations. f = 1 for sampling with replacement; (N - B)/(N - 1) for shuffled epochs, the
    variance of a single batch. The anti-correlation of shuffled batches is **not** in the process: it holds where
    lr times curvature relaxes within an epoch, and overestimates the variance in flatter directions.

    Parameters
    ----------
    stats : Stats
        With Hessian and covariance, momentum 0.
    directions : int, sequence of int, or array (P, k)
        Q: the k leading eigenvectors of H, those with these numbers (0 is the stiffest), or orthonormal columns. If Q is
        not made of eigenvectors of H, the coupling to the other directions is neglected.

    Returns
    -------
    fpsolve.Process

    Raises
    ------
    ValueError
        Missing matrices, momentum, or a direction without restoring force.

    Examples
    --------
    >>> import nets, numpy as np
    >>> stats = nets.from_arrays(hessian=np.diag([2.0, 1.0, 0.5]), covariance=np.eye(3), lr=0.1, batch=10)
    >>> process = nets.bridge(stats, directions=2)
    >>> process.diffusion([0.0, 0.0])
    array([[0.005, 0.   ],
           [0.   , 0.005]])
    """
    import fpsolve as fps

    of_kind(stats, Stats, "stats", "of nets.measure or nets.from_arrays")
    if stats.momentum:
        raise ValueError(
            f"bridge describes plain SGD; the statistics are of momentum {stats.momentum:g}. With h, c = "
            "stats.projected(directions) the covariance is fps.theory.discrete_covariance(h, c * stats.noise_factor, stats.lr, "
            f"stats.batch, momentum={stats.momentum:g}), and the chain to simulate fps.SGDChain.gaussian("
            "fps.potentials.quadratic(h), fps.Noise.covariance(c * stats.noise_factor, stats.lr, stats.batch), stats.lr, "
            f"momentum={stats.momentum:g})"
        )
    h, c = stats.projected(directions)
    lowest = float(np.linalg.eigvalsh(h)[0])
    if lowest <= 0.0:
        raise ValueError(
            f"the landscape does not confine these directions: the lowest curvature among them is {lowest:.4g}; choose fewer "
            "or other directions, or train with weight decay"
        )
    return fps.Process(fps.potentials.quadratic(h), fps.Noise.covariance(c * stats.noise_factor, stats.lr, stats.batch))
