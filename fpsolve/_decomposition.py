"""A linear stochastic process taken apart: what comes from its stationary density, and what circulates."""

import math

import numpy as np
import numpy.typing as npt

from fpsolve._covariance import _square, _symmetric, ou_covariance
from fpsolve.results import Estimate

__all__ = ["entropy_production", "rotation"]

Array = npt.NDArray[np.float64]


def rotation(A: npt.ArrayLike, D: npt.ArrayLike) -> Array:
    r"""Antisymmetric part Q of the decomposition of dX = -A X dt + B dW, B B^T = 2 D: the current that detailed balance forbids.

    .. math:: A = (D + Q)\, S^{-1}, \qquad Q = A S - D = -Q^T, \qquad A S + S A^T = 2 D .

    The stationary density is exp(-phi) with :math:`\phi = x^T S^{-1} x/2`, and the drift is -(D + Q) grad phi: phi is the energy
    for which Boltzmann's law holds, whatever the loss is. In its eigenbasis variance times curvature is one. SGD near a minimum
    has A = H and D = lr C/(2 batch) in SDE time, and Q = 0 if and only if H C = C H: then S = lr C H^-1/(2 batch), and phi
    differs from the loss only because C is no multiple of the identity.

    Parameters
    ----------
    A : array (d, d)
        Any matrix whose eigenvalues have positive real parts.
    D : array (d, d)
        Symmetric, positive semi-definite.

    Returns
    -------
    array (d, d)
        Antisymmetric to the last bit; units of D. The stationary current is Q grad p = -Q S^-1 x p.

    Raises
    ------
    ValueError
        As in `ou_covariance`.

    References
    ----------
    P. Ao, J. Phys. A 37, L25 (2004); Y. Xiong, X. Chen, D. Shi, P. Ao, arXiv:2207.04932.

    Examples
    --------
    A rotation beside an isotropic trap, S = 1:

    >>> rotation([[1.0, 0.5], [-0.5, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    array([[ 0. ,  0.5],
           [-0.5,  0. ]])
    """
    half = _square(A, "A") @ ou_covariance(A, D)
    return np.asarray(0.5 * (half - half.T))


def entropy_production(A: npt.ArrayLike, D: npt.ArrayLike) -> Estimate:
    r"""Rate at which the stationary process dX = -A X dt + B dW, B B^T = 2 D, produces entropy.

    .. math:: \sigma = \langle v^T D^{-1} v \rangle = \operatorname{tr}(D^{-1} Q S^{-1} Q^T), \qquad v = -Q\, S^{-1} x,

    with S and Q of `rotation`; v is the mean velocity at x. Zero if and only if detailed balance holds.

    Parameters
    ----------
    A, D : array (d, d)
        As in `rotation`.

    Returns
    -------
    Estimate
        In 1/time, Boltzmann's constant left out. `discretization_error` is the distance from a second expression,
        :math:`\operatorname{tr}(A^T D^{-1} A S) - \operatorname{tr} A`: rounding. `inf` where something flows along a direction
        without noise.

    Raises
    ------
    ValueError
        As in `ou_covariance`; or if the stationary covariance is singular.

    Examples
    --------
    Circling with angular velocity 0.5 at the mean square radius 2: sigma = 0.5^2 x 2.

    >>> entropy_production([[1.0, 0.5], [-0.5, 1.0]], [[1.0, 0.0], [0.0, 1.0]]).value
    0.5
    """
    A, D, S, Q = _square(A, "A"), _symmetric(D, "D", psd=True), ou_covariance(A, D), rotation(A, D)
    method = "closed form of the linear process"
    spread = np.linalg.eigvalsh(S)
    if not spread[0] > 1e-14 * spread[-1]:
        raise ValueError(
            f"entropy_production: the stationary covariance is singular (eigenvalues {spread[0]:.3g} to {spread[-1]:.3g}): some "
            "direction never moves; project it out"
        )
    values, vectors = np.linalg.eigh(D)
    quiet = values <= 1e-14 * values[-1]
    # rows of the velocity -Q S^-1 x along the axes of D, as factors of independent unit normals
    flow = vectors.T @ Q @ np.linalg.inv(np.linalg.cholesky(S)).T
    if quiet.any():
        still = np.linalg.norm(flow[quiet]) <= 1e-12 * math.sqrt(values[-1]) * np.linalg.norm(A) ** 0.5
        if not still:
            return Estimate(math.inf, unit="1/time", method=method)
    loud = ~quiet
    sigma = float(np.sum(flow[loud] ** 2 / values[loud, None]))
    if quiet.any():
        return Estimate(sigma, unit="1/time", method=method)
    other = float(np.trace(A.T @ np.linalg.solve(D, A @ S)) - np.trace(A))
    return Estimate(sigma, discretization_error=abs(sigma - other), unit="1/time", method=method)
