"""Second moments of SGD whose minibatch losses differ in curvature as well as in slope: exact recursions in discrete time."""

import math

import numpy as np
import numpy.typing as npt

from fpsolve._covariance import _check_sgd

from ._checks import is_finite, numbers

__all__ = ["mode_second_moment", "second_moments"]

Array = npt.NDArray[np.float64]


def mode_second_moment(
    curvature: npt.ArrayLike,
    gradient_noise: npt.ArrayLike,
    hessian_noise: npt.ArrayLike,
    lr: float,
    steps: float = math.inf,
    *,
    start: npt.ArrayLike = 0.0,
) -> Array:
    r"""Second moment of one mode of SGD in a fluctuating landscape, at any learning rate.

    .. math:: w_{n+1} = w_n - \eta\,[(l + h_n)\, w_n + \xi_n], \qquad
              \Pi_{n+1} = \left[(1 - \eta l)^2 + \eta^2 v_H\right] \Pi_n + \eta^2 v_G

    with h of variance v_H and xi of variance v_G, both of mean zero, independent of each other and from step to step, of any law.
    The mode is **confined** if 2 l > eta (l^2 + v_H), then

    .. math:: \Pi^* = \frac{\eta\, v_G}{2 l - \eta l^2 - \eta v_H} ;

    at equality **diffusive**, Pi = eta^2 v_G n; else Pi **grows** exponentially, also at positive curvature l < eta v_H/2.
    Langevin's equation with the same drift and noise has neither eta l^2, which is the square of the mean step, nor the edge at
    2/eta.

    Parameters
    ----------
    curvature, gradient_noise, hessian_noise : array
        l, v_G >= 0 and v_H >= 0 of the minibatch gradient (per sample, over the batch size), per mode.
    lr : float
    steps : int or inf
        n; `inf` for the limit, `inf` itself where the mode is not confined and anything drives it.
    start : array
        Pi_0 >= 0.

    Returns
    -------
    ndarray
        In the shape of the arrays together; exact but for rounding. In many dimensions: `second_moments`.

    Raises
    ------
    ValueError
        For negative variances, values that are not finite, or steps that are no whole number.

    References
    ----------
    D. Ignashin et al., "Why SGD is not Brownian motion", arXiv:2605.22644: a discrete master equation; the recursion is derived
    here.

    Examples
    --------
    >>> mode_second_moment([1.0, 0.0], 1.0, [0.5, 0.0], 0.1).round(4), mode_second_moment(0.0, 1.0, 0.0, 0.1, 400)
    (array([0.0541,    inf]), array(4.))
    """
    given = {"curvature": curvature, "gradient_noise": gradient_noise, "hessian_noise": hessian_noise, "start": start}
    l, g, h, p = np.broadcast_arrays(*(numbers(name, value) for name, value in given.items()))
    _check_sgd(lr, 1, 0.0, "replace", None)
    if not all(np.isfinite(v).all() for v in (l, g, h, p)):
        wrong = [name for name, v in zip(given, (l, g, h, p), strict=True) if not np.isfinite(v).all()]
        raise ValueError(f"curvature, gradient_noise, hessian_noise and start must be finite, {' and '.join(wrong)} is not")
    for name, value in (("gradient_noise", g), ("hessian_noise", h), ("start", p)):
        if (value < 0.0).any():
            raise ValueError(f"{name} must be >= 0 (a variance): got {float(value.min()):g}")
    n = _steps(steps)
    loss = lr * (2.0 * l - lr * (l * l + h))  # 1 - the factor of the recursion, without cancellation
    kick = lr * lr * g
    if math.isinf(n):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(loss > 0.0, kick / loss, np.where((kick > 0.0) | ((p > 0.0) & (loss < 0.0)), np.inf, p))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        power = np.where(loss < 1.0, np.expm1(n * np.log1p(-np.minimum(loss, 1.0))), -1.0 if n else 0.0)  # factor^n - 1
        total = np.where(loss == 0.0, n, -power / loss)
        return np.asarray((1.0 + power) * p + kick * np.where(kick > 0.0, total, 0.0))


def second_moments(
    hessians: npt.ArrayLike,
    gradients: npt.ArrayLike,
    lr: float,
    batch: int = 1,
    *,
    steps: float = math.inf,
    start: npt.ArrayLike | None = None,
) -> tuple[Array, Array]:
    r"""Exact mean and second moment of SGD on quadratic sample losses, each with its own Hessian; batches with replacement.

    With :math:`\nabla f_k(w) = h_k w + g_k`, means H and g over the N samples, and deviations marked by delta,

    .. math:: m' = (1 - \eta H)\, m - \eta g, \qquad M' = E[u u^T]
              + \frac{\eta^2}{B} \left\langle \delta h M \delta h + \delta h\, m\, \delta g^T + \delta g\, m^T \delta h
              + \delta g\, \delta g^T \right\rangle

    with u = (1 - eta H) w - eta g the step of the mean loss, E[u u^T] in terms of m and M, and the brackets a mean over the
    samples: nothing is expanded in eta, and no entry of the tensor of fluctuations is left out. `mode_second_moment` is the case
    of one dimension with h and g independent. Linear regression has h = x x^T and g = x (x.w0 - y) about w0.

    Parameters
    ----------
    hessians : array (N, d, d)
        Symmetric Hessians of the sample losses.
    gradients : array (N, d)
        Gradients of the sample losses at w = 0.
    lr : float
    batch : int
    steps : int or inf
        `inf`: the stationary moments.
    start : array (d,), optional
        Where SGD starts, w = start; default 0.

    Returns
    -------
    (ndarray (d,), ndarray (d, d))
        E[w] and E[w w^T] after `steps` steps. The covariance is the difference M - m m^T.

    Raises
    ------
    ValueError
        For shapes that do not fit, Hessians that are not symmetric; or, with ``steps=inf``, if the second moment grows: its factor
        per step is named. Above 30 dimensions: the step is a matrix of d^4 entries.

    References
    ----------
    As of `mode_second_moment`.

    Examples
    --------
    Two curvatures 1 -+ 0.5 and two slopes -+1, independent: v_H = 0.25, v_G = 1.

    >>> h, g = [[[0.5]], [[1.5]], [[0.5]], [[1.5]]], [[1.0], [1.0], [-1.0], [-1.0]]
    >>> second_moments(h, g, 0.1)[1], mode_second_moment(1.0, 1.0, 0.25, 0.1)
    (array([[0.05333333]]), array(0.05333333))
    """
    h, g = numbers("hessians", hessians), numbers("gradients", gradients)
    if h.ndim != 3 or h.shape[1] != h.shape[2] or g.shape != h.shape[:2] or not len(h):
        raise ValueError(f"hessians must be (N, d, d) and gradients (N, d) of the same N and d: got {h.shape} and {g.shape}")
    if not (np.isfinite(h).all() and np.isfinite(g).all()):
        bad = int(np.sum(~(np.isfinite(h).all(axis=(1, 2)) & np.isfinite(g).all(axis=1))))
        raise ValueError(f"hessians and gradients must be finite: {bad} of {len(h)} samples are not; leave them out")
    gap = float(np.abs(h - h.transpose(0, 2, 1)).max())
    if gap > 1e-8 * float(np.abs(h).max()):
        raise ValueError(
            f"every sample's Hessian must be symmetric; one and its transpose differ by {gap:.3g}; use (h + h.transpose(0, 2, 1))/2"
        )
    _check_sgd(lr, batch, 0.0, "replace", None)
    n, d = _steps(steps), h.shape[1]
    if d > 30:
        raise ValueError(f"second_moments makes a matrix of d^4 = {d}^4 numbers; project on at most 30 directions (Q^T h Q, Q^T g)")
    m = np.zeros(d) if start is None else numbers("start", start)
    if m.shape != (d,) or not np.isfinite(m).all():
        raise ValueError(f"start must be {d} finite numbers, got {start!r}")
    step = _affine(h, g, lr, int(batch))
    state = np.concatenate([m, np.outer(m, m).ravel(), [1.0]])
    if math.isinf(n):
        growth = float(np.abs(np.linalg.eigvals(step[:-1, :-1])).max())
        if growth >= 1.0:
            raise ValueError(
                f"second_moments: the second moment grows by the factor {growth:.6g} per step, so nothing is stationary; take a "
                "smaller lr, a larger batch, or a number of steps"
            )
        state[:-1] = np.linalg.solve(np.eye(d + d * d) - step[:-1, :-1], step[:-1, -1])
    else:
        state = np.linalg.matrix_power(step, int(n)) @ state
    M = state[d:-1].reshape(d, d)
    return state[:d], np.asarray(0.5 * (M + M.T))


def _affine(h: Array, g: Array, lr: float, batch: int) -> Array:
    """One step of (m, M, 1) as a matrix."""
    d = h.shape[1]
    H, G = h.mean(axis=0), g.mean(axis=0)
    dh, dg = (h - H).reshape(len(h), -1), g - G
    tensor = (dh.T @ dh / len(h)).reshape(d, d, d, d)  # <dh_ia dh_jb> at (i, a, j, b)
    mixed = (dh.T @ dg / len(h)).reshape(d, d, d)  # <dh_ia dg_j>
    one = np.eye(d) - lr * H
    out = np.zeros((d + d * d + 1,) * 2)
    out[:d, :d], out[:d, -1], out[-1, -1] = one, -lr * G, 1.0
    rest = out[d:-1]
    second = np.kron(one, one).reshape((d,) * 4) + lr**2 / batch * tensor.transpose(0, 2, 1, 3)  # (i, j, a, b)
    rest[:, d:-1] = second.reshape(d * d, d * d)
    drift = np.einsum("ia,j->ija", -lr * one, G) + np.einsum("ja,i->ija", -lr * one, G)
    drift += lr**2 / batch * (mixed.transpose(0, 2, 1) + mixed.transpose(2, 0, 1))
    rest[:, :d] = drift.reshape(d * d, d)
    rest[:, -1] = (lr**2 * (np.outer(G, G) + dg.T @ dg / (len(h) * batch))).ravel()
    return out


def _steps(steps: float) -> float:
    if isinstance(steps, bool) or not isinstance(steps, (int, float, np.integer, np.floating)) or not steps >= 0:
        raise ValueError(f"steps must be a whole number >= 0, or inf: got {steps!r}")
    if steps != math.inf and (not is_finite(steps) or steps != int(steps)):
        raise ValueError(f"steps must be a whole number >= 0 below 1e308, or inf: got {steps!r}")
    return float(steps)
