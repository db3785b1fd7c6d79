"""Laws for leaving a region: a ball or a level of the loss in a quadratic valley, an interval under jumps."""

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from fpsolve._covariance import _symmetric, ou_covariance
from fpsolve._detailed_balance import _check_process, _state
from fpsolve._escape_laws import _BARRIER, _SMALL, _number, _positive, _status, _temperature
from fpsolve.results import Assumption, Estimate

if TYPE_CHECKING:
    from fpsolve.process import Process

__all__ = ["levy_exit_rate", "quadratic_exit_exponent"]

Array = npt.NDArray[np.float64]


def quadratic_exit_exponent(
    H: npt.ArrayLike,
    C: npt.ArrayLike,
    *,
    lr: float,
    batch: float,
    radius: float | None = None,
    threshold: float | None = None,
    form: Literal["exact", "published"] = "exact",
) -> Estimate:
    r"""Exponent E of the time exp(E) in which SGD leaves a ball, or a level of the loss, in a quadratic valley x^T H x / 2.

    With the stationary covariance S of dx = -H x dt + sqrt(2 D) dW, D = lr C / 2B, the quasi-potential is x^T S^-1 x / 2, and

    .. math:: E = \frac{r^2}{2 \lambda_{max}(S)} \quad\text{(ball)}, \qquad
              E = \frac{\Delta L}{\lambda_{max}(H^{1/2} S H^{1/2})} \quad\text{(loss)} .

    C = H gives (B/lr) r^2, whatever H, and 2 B dL / (lr H_max): exit through the sharpest direction. C = identity gives
    (B/lr) r^2 H_min.

    Parameters
    ----------
    H, C : array (d, d)
        Hessian, positive definite, and covariance of one sample's gradient.
    lr, batch : float
    radius, threshold : float
        One of them: radius r of a ball, or rise dL of the loss.
    form : {"exact", "published"}
        "published": (2B/lr) r^2 sqrt(H_min) of Ibayashi and Imaizumi for C = H. Their action has C^(-1/2) where Freidlin and
        Wentzell have C^-1, and lacks the factor 1/2 of the quadratic form: the assumption about it is marked failed.

    Returns
    -------
    Estimate
        The exponent, dimensionless; prefactors are not included.

    Raises
    ------
    ValueError
        If H is not positive definite, C not positive semi-definite, or not exactly one of radius and threshold is given.

    References
    ----------
    M. Freidlin, A. Wentzell, Random Perturbations of Dynamical Systems; H. Ibayashi, M. Imaizumi, arXiv:2111.04004.

    Examples
    --------
    >>> H = [[4.0, 0.0], [0.0, 1.0]]
    >>> quadratic_exit_exponent(H, H, lr=0.1, batch=2, radius=0.5).value              # (B / lr) r^2
    5.0
    >>> quadratic_exit_exponent(H, H, lr=0.1, batch=2, threshold=0.5).value           # 2 B dL / (lr H_max)
    5.0
    """
    H, C = _symmetric(H, "H", psd=True), _symmetric(C, "C", psd=True)
    lr, batch = _positive(lr=lr, batch=batch)
    if (radius is None) == (threshold is None):
        raise ValueError(f"quadratic_exit_exponent: give one of radius and threshold, got {radius!r} and {threshold!r}")
    if form not in ("exact", "published"):
        raise ValueError(f"quadratic_exit_exponent: form must be 'exact' or 'published', got {form!r}")
    values, vectors = np.linalg.eigh(H)
    if not values[0] > 0.0:
        raise ValueError(f"quadratic_exit_exponent: H must be positive definite; its least eigenvalue is {values[0]:.6g}")
    step = lr * float(values[-1])
    small = Assumption("lr times the largest curvature is small", _status(step <= _SMALL), f"{step:.3g}")
    if form == "published":
        if radius is None or not np.allclose(C, H, rtol=1e-10, atol=0.0):
            raise ValueError("quadratic_exit_exponent: the published form is of a ball (radius=...) and of C = H")
        exponent = 2.0 * batch / lr * _positive(radius=radius)[0] ** 2 * math.sqrt(float(values[0]))
        wrong = Assumption("the action is that of Freidlin and Wentzell", "failed", "C^(-1/2) in place of C^-1, and no factor 1/2")
        return Estimate(
            exponent,
            lr=lr,
            batch=batch,
            assumptions=(wrong, _deep(exponent), small, _QUADRATIC),
            method="Ibayashi-Imaizumi, as published",
        )
    if C.shape != H.shape:
        raise ValueError(f"quadratic_exit_exponent: H and C must have the same shape, got {H.shape} and {C.shape}")
    if not np.trace(C) > 0.0:
        raise ValueError("quadratic_exit_exponent: C is zero: without noise nothing leaves")
    _temperature(lr, batch)
    S = ou_covariance(H, lr / (2.0 * batch) * C)
    if radius is not None:
        exponent = _positive(radius=radius)[0] ** 2 / (2.0 * float(np.linalg.eigvalsh(S)[-1]))
    else:
        assert threshold is not None
        root = vectors * np.sqrt(values)
        exponent = _positive(threshold=threshold)[0] / float(np.linalg.eigvalsh(root.T @ S @ root)[-1])
    return Estimate(
        exponent,
        lr=lr,
        batch=batch,
        assumptions=(_deep(exponent), small, _QUADRATIC),
        method="quasi-potential of a quadratic valley",
    )


_QUADRATIC = Assumption("H and C are the same all the way to the boundary", "unknown", "needs the loss and the noise there")


def _deep(exponent: float) -> Assumption:
    return Assumption("exponent >= 6", _status(exponent >= _BARRIER), f"{exponent:.4g}")


def levy_exit_rate(process: "Process", minimum: npt.ArrayLike, low: float, high: float) -> Estimate:
    r"""Rate at which small alpha-stable noise leaves (low, high) around a minimum: by one jump, whatever the barrier's height.

    .. math:: \gamma = \frac{c_\alpha \varepsilon^\alpha}{\alpha} \left[ (x_0 - low)^{-\alpha} + (high - x_0)^{-\alpha} \right],
              \qquad c_\alpha = \frac{\Gamma(1 + \alpha) \sin(\pi \alpha / 2)}{\pi} .

    Parameters
    ----------
    process : Process
        One-dimensional, with `Noise.levy(alpha, scale)`, alpha < 2.
    minimum : float
        Guess of the minimum x0; the stable zero of the drift near it is taken.
    low, high : float
        Ends of the interval.

    Returns
    -------
    Estimate
        In 1/time, to leading order in the noise.

    Raises
    ------
    ValueError
        For other noise, another dimension, or a minimum outside the interval.

    References
    ----------
    P. Imkeller, I. Pavlyukevich, Stoch. Proc. Appl. 116, 611 (2006).

    Examples
    --------
    >>> import fpsolve as fps
    >>> process = fps.Process(fps.Potential.from_expression("x**2/2"), fps.Noise.levy(1.5, 0.1))
    >>> round(levy_exit_rate(process, 0.0, -1.0, 1.0).value, 4)
    0.0126
    """
    from scipy.optimize import brentq

    _check_process(process, "levy_exit_rate")
    low, high = _number(low, "levy_exit_rate: low"), _number(high, "levy_exit_rate: high")
    stable = getattr(process.noise, "stable", None)
    if process.dim != 1 or stable is None:
        raise ValueError(f"levy_exit_rate needs a one-dimensional process with Noise.levy(alpha, scale), got {process!r}")
    alpha, scale = float(stable.alpha), float(stable.scale)
    guess = float(_state(minimum, 1, "minimum")[0])
    if not (math.isfinite(low) and math.isfinite(high) and low < guess < high):
        raise ValueError(f"levy_exit_rate: the minimum must lie inside the interval, got low = {low!r}, {guess!r}, high = {high!r}")

    def drift(u: float) -> float:
        return float(process.drift([u])[0])

    reach = 1e-3 * (high - low)
    while not (drift(guess - reach) > 0.0 > drift(guess + reach)):
        reach *= 1.5
        if guess - reach <= low or guess + reach >= high:
            raise ValueError(f"levy_exit_rate: the drift does not point to a minimum near {guess:.6g} within ({low:g}, {high:g})")
    x = float(brentq(drift, guess - reach, guess + reach))
    c = math.gamma(1.0 + alpha) * math.sin(0.5 * math.pi * alpha) / math.pi
    rate = c * scale**alpha / alpha * ((x - low) ** -alpha + (high - x) ** -alpha)
    if not rate > 0.0:
        raise ValueError(
            f"levy_exit_rate: the rate out of ({low:g}, {high:g}) is below the smallest float; take a narrower "
            "interval or a larger scale"
        )
    h = 1e-4 * (high - low)
    relax = 2.0 * h / (drift(x - h) - drift(x + h))
    return Estimate(
        rate,
        log_value=math.log(rate),
        unit="1/time",
        assumptions=(
            Assumption(
                "the valley relaxes between jumps", _status(rate * relax <= 0.02), f"rate times relaxation time {rate * relax:.3g}"
            ),
            Assumption(
                "the drift points to the minimum all over the interval",
                _status(_points_inward(process, x, low, high)),
                f"({low:g}, {high:g})",
            ),
        ),
        method=f"one jump of alpha-stable noise (alpha = {alpha:g})",
    )


def _points_inward(process: "Process", x: float, low: float, high: float) -> bool:
    u = np.linspace(low, high, 401)[1:-1, None]
    away = np.abs(u[:, 0] - x) > 2e-3 * (high - low)
    return bool(np.all((np.asarray(process.drift(u))[:, 0] * np.sign(x - u[:, 0]))[away] > 0.0))
