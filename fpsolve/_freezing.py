"""Two valleys whose barrier or curvature changes with time: rates, occupation, and the time at which switching freezes."""

import math
import reprlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from fpsolve._escape_laws import _positive
from fpsolve.errors import FpsolveError
from fpsolve.results import Assumption, Estimate

from ._checks import numbers

__all__ = ["escape_odds", "freezing_law", "freezing_time", "last_switch", "occupation", "valley_rate"]

Array = npt.NDArray[np.float64]
Rate = Callable[[Array], npt.ArrayLike]

#: Nodes per panel, and how many panels may be asked for.
_NODES, _PANELS = 16, 20_000
_X, _W = np.polynomial.legendre.leggauss(_NODES)


def valley_rate(
    curvature: npt.ArrayLike, barrier: npt.ArrayLike, noise: npt.ArrayLike, attempt: npt.ArrayLike = 1.0
) -> npt.NDArray[np.float64]:
    r"""Rate of leaving a valley of curvature l over a barrier E, where the noise is that of the valley, D = Delta l.

    .. math:: r = \omega\, l\, e^{-E/(\Delta l)}, \qquad
              \frac{r_s}{r_f} = \frac{P_f}{P_s} = \frac{l_s}{l_f} \exp\left[ \frac{E}{\Delta} \Big( \frac1{l_f} - \frac1{l_s}
              \Big) \right]

    Gradient noise that grows with the curvature empties the sharp valley, at equal depth. For the two parabolas of
    `potentials.two_valleys`, D = Delta l_k on the side of valley k, and E >> Delta l, both valleys have the attempt rate
    :math:`\omega = \sqrt{E/(\pi \Delta)}/(\sqrt{l_s} + \sqrt{l_f})` (derived: time to reach the cusp, times the share of paths that
    go on to the other side).

    Parameters
    ----------
    curvature, barrier, noise, attempt : array
        l > 0, E >= 0, Delta > 0, omega > 0.

    Returns
    -------
    ndarray
        In 1/time, in the shape of the arrays together.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> valley_rate([4.0, 1.0], 0.5, 0.1, 0.05).round(6)
    array([0.057301, 0.000337])
    """
    given = {"curvature": curvature, "barrier": barrier, "noise": noise, "attempt": attempt}
    arrays = np.broadcast_arrays(*(numbers(name, value) for name, value in given.items()))
    for name, value, low in zip(("curvature", "barrier", "noise", "attempt"), arrays, (True, False, True, True), strict=True):
        good = np.isfinite(value) & ((value > 0.0) if low else (value >= 0.0))
        if not good.all():
            worst = float(value[~good].ravel()[0])
            raise ValueError(f"{name} must be finite and {'> 0' if low else '>= 0'}: got {worst:g}")
    l, e, d, w = arrays
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # a barrier beyond any noise: no rate
        return np.asarray(w * l * np.exp(-np.where(e > 0.0, e / (d * l), 0.0)))


def escape_odds(out_of_a: Estimate, out_of_b: Estimate) -> Estimate:
    r"""P(a) / P(b): how much more often a process that goes to and fro between two valleys is in a than in b.

    .. math:: \frac{P_a}{P_b} = \frac{\tau_{ab}}{\tau_{ba}} = \frac{\gamma_{ba}}{\gamma_{ab}}, \qquad
              P_a = \frac{\tau_{ab}}{\tau_{ab} + \tau_{ba}}

    from any two mean times or rates of committed crossings: laws, quadrature, kernels, splitting, paths.

    Parameters
    ----------
    out_of_a, out_of_b : Estimate
        Time or rate of going from a to b, and from b to a; both in time or both in iterations.

    Returns
    -------
    Estimate
        Dimensionless; `log_value` is always set. Statistical errors add in squares, the others as they are; the assumptions are
        those of both.

    Raises
    ------
    TypeError, ValueError
        For something else than an Estimate, for numbers that are no positive times or rates, units or learning rates that differ.

    References
    ----------
    H. A. Kramers, Physica 7, 284 (1940): two states that exchange at constant rates. For isotropic noise and Kramers' rates it is
    `basin_odds`.

    Examples
    --------
    >>> escape_odds(Estimate(30.0, unit="time"), Estimate(0.1, unit="1/time")).value         # 30 against 10
    3.0
    """
    both, logs = (out_of_a, out_of_b), []
    for name, e in zip(("out_of_a", "out_of_b"), both, strict=True):
        if not isinstance(e, Estimate):
            raise TypeError(f"escape_odds: {name} must be an Estimate of a time or a rate, got {type(e).__name__}: {e!r}")
        if e.unit.removeprefix("1/") not in ("time", "iteration"):
            raise ValueError(f"escape_odds: {name} must be a time or a rate, got the unit {e.unit!r}")
        log = e.log_value if e.log_value is not None else math.log(e.value) if e.value > 0.0 else -math.inf
        if not math.isfinite(log):
            raise ValueError(f"escape_odds: {name} must be finite and > 0, got {e!r}")
        logs.append(-log if e.unit.startswith("1/") else log)
    if len({e.unit.removeprefix("1/") for e in both}) > 1:
        raise ValueError(
            f"escape_odds: both in time or both in iterations, got {[e.unit for e in both]}; convert with .per_iteration()"
        )
    rates = [e.lr for e in both if e.lr is not None]
    if len(rates) == 2 and not math.isclose(*rates, rel_tol=1e-12):
        raise ValueError(f"escape_odds: both at one learning rate, got {rates}")
    log_odds = logs[0] - logs[1]
    value = math.exp(log_odds) if log_odds < 709.0 else math.inf

    def relative(kind: str) -> list[float]:
        return [getattr(e, kind) / e.value if 0.0 < e.value < math.inf else 0.0 for e in both]

    finite = value if math.isfinite(value) else 0.0
    alone = Assumption(
        "the two valleys exchange with each other alone", "unknown", "a third one, or other ways out, change the odds"
    )
    return Estimate(
        value,
        stderr=finite * math.hypot(*relative("stderr")),
        discretization_error=finite * sum(relative("discretization_error")),
        log_value=log_odds,
        lr=rates[0] if rates else None,
        assumptions=tuple(dict.fromkeys((alone, *out_of_a.assumptions, *out_of_b.assumptions))),
        method="ratio of two escape times",
    )


def occupation(leave: Rate, enter: Rate, times: npt.ArrayLike, start: float = 0.0) -> Array:
    r"""Probability P of the flat valley at given times, when both rates change with time.

    .. math:: \dot P = r_s(t)\,(1 - P) - r_f(t)\, P

    Quasi-static, where the rates are fast against their own change: P = r_s/(r_s + r_f).

    Parameters
    ----------
    leave, enter : callable, array of times -> array of rates
        r_s out of the sharp valley and r_f back into it, in 1/time, >= 0.
    times : array
        Increasing; the process starts at the first.
    start : float
        P at the first time, in [0, 1].

    Returns
    -------
    ndarray
        P at `times`.

    Raises
    ------
    ValueError
        For times that do not increase, a start outside [0, 1], rates that are negative or not finite.
    FpsolveError
        If the equation cannot be integrated.

    Examples
    --------
    >>> occupation(lambda t: 0.3 + 0 * t, lambda t: 0.1 + 0 * t, [0.0, 1.0, 100.0]).round(6)      # 0.75 (1 - exp(-0.4 t))
    array([0.     , 0.24726, 0.75   ])
    """
    from scipy.integrate import solve_ivp

    t = _times(times)
    if not 0.0 <= start <= 1.0:
        raise ValueError(f"start must be a probability in [0, 1], got {start!r}")
    _rate(leave, t, "leave")
    _rate(enter, t, "enter")

    def slope(s: float, p: Array) -> Array:
        at = np.array([s])
        r, back = _rate(leave, at, "leave"), _rate(enter, at, "enter")
        return np.asarray(r * (1.0 - p) - back * p)

    done = solve_ivp(slope, (t[0], t[-1]), [float(start)], method="LSODA", t_eval=t, rtol=1e-10, atol=1e-13)
    if not done.success:
        raise FpsolveError(f"occupation: {done.message} (rates that jump or grow without bound? give times closer to each other)")
    return np.asarray(np.clip(done.y[0], 0.0, 1.0))


def freezing_time(rate: Rate, scale: float, *, t0: float = 0.0, expected: float = 1.0) -> Estimate:
    r"""Time after which a valley is left once more on average, if it is always refilled: int_{t*}^inf r dt = 1.

    .. math:: \int_{t^*}^\infty r(t)\, dt = 1

    A path that is in the valley at t* leaves it again with probability 1 - 1/e. Where both valleys have this rate, exp(-int_t^inf
    r) is the distribution function of the time of the last switch, and t* the mode of its density for exponentially falling rates
    (Gumbel's law). Where the rates differ, `last_switch` has the law, and each valley has a t* of its own.

    Parameters
    ----------
    rate : callable, array of times -> array of rates
        r, in 1/time, >= 0; it must fall fast enough for the integral to exist.
    scale : float
        A time over which the rate changes appreciably: the integral goes in panels a quarter as long.
    t0 : float
        When the process starts.
    expected : float
        Another number than one on the right.

    Returns
    -------
    Estimate
        In time; t0 with a failed assumption if the integral from t0 on is below `expected`: frozen from the start.
        `discretization_error` is the change from panels of half the length.

    Raises
    ------
    ValueError
        For rates that are negative or not finite, or a scale or number that is not positive.
    FpsolveError
        If the integral does not converge.

    Examples
    --------
    A barrier that grows as t/tau, tau = 1000, curvature 4, noise 0.1: tau Delta l ln(omega tau Delta l^2)

    >>> freezing_time(lambda t: valley_rate(4.0, t / 1000, 0.1, 0.05), 400.0).value
    1752.8
    """
    scale, expected = _positive(scale=scale, expected=expected)
    coarse, total, tail = _freezing(rate, 0.25 * scale, t0, expected)
    fine, *_ = _freezing(rate, 0.125 * scale, t0, expected)
    begun = Assumption(
        "the process has not frozen before it starts", "held" if total > expected else "failed", f"{total:.4g} from t0"
    )
    ends = Assumption("the integral converges", "held", f"last panels {tail:.2g} of it")
    rounding = 8.0 * np.finfo(float).eps * abs(fine)
    return Estimate(
        fine,
        discretization_error=abs(fine - coarse) + rounding,
        unit="time",
        assumptions=(begun, ends),
        method="quadrature of the rate",
    )


def freezing_law(
    kind: Literal["growing-barrier", "flattening"],
    curvature: float,
    noise: npt.ArrayLike,
    attempt: float,
    tau: float,
    barrier: float | None = None,
) -> Array:
    r"""Freezing times in closed form, with a constant attempt rate omega l.

    Growing barrier, E = t/tau at constant curvature:

    .. math:: t^* = \tau \Delta l \ln(\omega \tau \Delta l^2)

    Flattening landscape, l e^{-t/tau} in the exponent at constant E:

    .. math:: t^* = \tau \ln \frac{y\, \Delta\, l}{E}, \qquad E_1(y) = \frac{1}{\omega\, l\, \tau}, \qquad
              \frac{dt^*}{d \ln \Delta} = \tau \ \text{exactly}

    with the exponential integral E_1: every doubling of the noise delays freezing by tau ln 2. Zero where these are negative:
    frozen from the start. An attempt rate that falls with the curvature lowers the slope, to about tau (1 - 1/(y + 2)); take
    `freezing_time`.

    Parameters
    ----------
    kind : {"growing-barrier", "flattening"}
    curvature : float
        l of the valley (at t = 0).
    noise : array
        Delta > 0, D = Delta l.
    attempt : float
        omega.
    tau : float
    barrier : float
        E, for "flattening".

    Returns
    -------
    ndarray
        In time, in the shape of `noise`.

    Raises
    ------
    ValueError
        For an unknown kind, numbers that are not positive, or a barrier where there is none.

    References
    ----------
    N. Yang et al., arXiv:2601.10962, for the two laws (as summarised by others); the formulas are derived here.

    Examples
    --------
    >>> freezing_law("growing-barrier", 4.0, [0.02, 0.1], 0.05, 1000.0).round(1)
    array([ 221.8, 1752.8])
    >>> freezing_law("flattening", 4.0, [0.05, 0.1, 0.2], 0.05, 1000.0, barrier=0.5).round()
    array([ 411., 1104., 1797.])
    """
    from scipy.optimize import brentq
    from scipy.special import exp1

    if kind not in ("growing-barrier", "flattening"):
        raise ValueError(f"kind must be 'growing-barrier' or 'flattening', got {kind!r}")
    l, w, tau = _positive(curvature=curvature, attempt=attempt, tau=tau)
    d = numbers("noise", noise)
    if not (np.isfinite(d) & (d > 0.0)).all():
        raise ValueError(f"noise must be finite and > 0, got {noise!r}")
    if kind == "growing-barrier":
        if barrier is not None:
            raise ValueError("barrier= belongs to kind='flattening'; here it is t/tau")
        return np.maximum(tau * d * l * np.log(w * tau * d * l * l), 0.0)
    if barrier is None:
        raise ValueError("kind='flattening' needs barrier=, the height E")
    (e,) = _positive(barrier=barrier)
    target = 1.0 / (w * l * tau)
    if not 1e-300 < target < 700.0:
        if target >= 700.0:  # y below exp(-700): frozen from the start unless Delta l/E is as large
            return np.zeros_like(d)
        raise ValueError(
            f"attempt * curvature * tau = {1.0 / target if target else math.inf:g} is out of range; it must be < 1e300"
        )
    # in ln y, where the function bends little; E_1(y) < exp(-y)/y, and > -ln(y) - 0.5772
    y = math.exp(brentq(lambda u: math.log(exp1(math.exp(u))) - math.log(target), -target - 2.0, math.log(700.0), xtol=1e-14))
    return np.maximum(tau * np.log(y * d * l / e), 0.0)


def last_switch(leave: Rate, enter: Rate, times: npt.ArrayLike, scale: float, *, start: float = 0.0) -> Array:
    r"""Distribution function of the time of the last switch between two valleys, started at the first of the times.

    .. math:: P(T \le t) = P_s(t)\, e^{-\int_t^\infty r_s} + P_f(t)\, e^{-\int_t^\infty r_f}

    At the first time it is the probability of no switch at all.

    Parameters
    ----------
    leave, enter, times, start
        As in `occupation`.
    scale : float
        As in `freezing_time`.

    Returns
    -------
    ndarray
        At `times`, not decreasing.

    Raises
    ------
    ValueError, FpsolveError
        As in `occupation` and `freezing_time`.

    Examples
    --------
    Two equal valleys: exp(-int r) = exp(-0.5 exp(-t)), of a path that starts anywhere.

    >>> last_switch(lambda t: 0.5 * np.exp(-t), lambda t: 0.5 * np.exp(-t), [0.0, 1.0, 4.0], 1.0).round(6)
    array([0.606531, 0.831986, 0.990884])
    """
    t = _times(times)
    (scale,) = _positive(scale=scale)
    p = occupation(leave, enter, t, start)
    left, right = (_remaining(rate, t, 0.125 * scale, name) for rate, name in ((leave, "leave"), (enter, "enter")))
    return np.asarray((1.0 - p) * np.exp(-left) + p * np.exp(-right))


# ---- integrals of a rate to infinity --------------------------------------------------------------------------------------


def _panels(rate: Rate, length: float, t0: float, name: str) -> tuple[Array, Array, float]:
    """(starts of panels and the end, integral from each to infinity, share of the last panels)."""
    parts: list[Array] = []
    total, count = 0.0, 0
    while count < _PANELS:
        starts = t0 + length * np.arange(count, count + 64)
        values = _rate(rate, (starts[:, None] + 0.5 * length * (1.0 + _X)).ravel(), name).reshape(-1, _NODES)
        parts.append(0.5 * length * values @ _W)
        total, count = total + float(parts[-1].sum()), count + 64
        tail = float(parts[-1].sum())
        if tail <= 1e-13 * total and tail < 1e-13:
            pieces = np.concatenate(parts)
            left: Array = np.append(np.cumsum(pieces[::-1])[::-1], 0.0)
            edges: Array = t0 + length * np.arange(count + 1, dtype=np.float64)
            return edges, left, tail / total if total else 0.0
    raise FpsolveError(
        f"the integral of the rate does not converge within {_PANELS} panels of {length:.3g}: a rate that does not fall never "
        "freezes; if it does fall, give a larger scale"
    )


def _freezing(rate: Rate, length: float, t0: float, expected: float) -> tuple[float, float, float]:
    """(t*, the integral from t0, share of the last panels)."""
    from scipy.optimize import brentq

    edges, left, tail = _panels(rate, length, t0, "rate")
    if left[0] <= expected:
        return t0, float(left[0]), tail
    k = int(np.searchsorted(-left, -expected, side="right")) - 1  # left[k] > expected >= left[k + 1]

    def excess(t: float) -> float:
        width = edges[k + 1] - t
        values = _rate(rate, t + 0.5 * width * (1.0 + _X), "rate")
        return float(left[k + 1] + 0.5 * width * values @ _W - expected)

    return float(brentq(excess, edges[k], edges[k + 1], xtol=1e-13 * max(abs(edges[k + 1]), length))), float(left[0]), tail


def _remaining(rate: Rate, times: Array, length: float, name: str) -> Array:
    """int_t^inf of the rate at each time."""
    edges, left, _ = _panels(rate, length, float(times[0]), name)
    k = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(edges) - 2)
    width = np.maximum(edges[k + 1] - times, 0.0)
    nodes = times[:, None] + 0.5 * width[:, None] * (1.0 + _X)
    inside = 0.5 * width * (_rate(rate, nodes.ravel(), name).reshape(-1, _NODES) @ _W)
    return np.asarray(np.where(times > edges[-1], 0.0, left[k + 1] + inside))


def _rate(rate: Rate, t: Array, name: str) -> Array:
    if not callable(rate):
        raise TypeError(f"{name} must be a function of an array of times, got {type(rate).__name__}: {rate!r}")
    values = numbers(name, rate(t), "a function that returns rates")
    if values.shape != t.shape:
        raise ValueError(
            f"{name} must map an array of times to an array of rates of the same shape: got {values.shape} for {t.shape}"
        )
    bad = ~(np.isfinite(values) & (values >= 0.0))
    if bad.any():
        raise ValueError(f"{name} must be finite and >= 0: got {float(values[bad][0]):g} at t = {float(t[bad][0]):g}")
    return values


def _times(times: npt.ArrayLike) -> Array:
    t = numbers("times", times)
    if t.ndim != 1 or len(t) < 2 or not np.isfinite(t).all() or not (np.diff(t) > 0.0).all():
        raise ValueError(f"times must be at least two finite increasing numbers, got {reprlib.repr(times)}")
    return t
