"""Published laws for the escape of SGD over a saddle, each with the assumptions it needs, tested for the case at hand.

C is the covariance of one sample's gradient; a batch of B has D = lr C / (2 B). Times are SDE time, lr x iterations.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fpsolve._detailed_balance import _exp, _point, _state
from fpsolve._roots import newton
from fpsolve.results import Assumption, Estimate

from ._checks import is_finite

if TYPE_CHECKING:
    from fpsolve.noise import Noise
    from fpsolve.potentials import Potential

__all__ = ["basin_odds", "power_law_rate", "sgd_escape_time", "total_rate"]

Array = npt.NDArray[np.float64]

#: What the verdicts call small, large, aligned and nearly constant.
_BARRIER, _SMALL, _ALIGNED, _CONSTANT = 6.0, 0.1, 0.9, 0.5


def _status(ok: bool) -> Literal["held", "failed"]:
    return "held" if ok else "failed"


def _positive(**values: Any) -> list[float]:
    """Numbers that must be finite and positive."""
    out = []
    for name, value in values.items():
        number = _number(value, name)
        if not (math.isfinite(number) and number > 0.0):
            raise ValueError(f"{name} must be finite and > 0, got {value!r}")
        out.append(number)
    return out


def _temperature(lr: float, batch: float) -> float:
    """lr / (2 batch), within the range of floats."""
    value = lr / (2.0 * batch)
    if not 0.0 < value < math.inf:
        raise ValueError(f"lr / (2 batch) must be within the range of floats, got lr = {lr:g} and batch = {batch:g}")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: {value!r}")
    return float(value) if is_finite(value) or isinstance(value, (float, np.floating)) else math.copysign(math.inf, value > 0 or -1)


def _check_loss(U: Any, what: str) -> None:
    from fpsolve.potentials import Potential

    if not isinstance(U, Potential):
        hint = ": give its potential, process.potential" if hasattr(U, "drift") else ""
        raise TypeError(f"{what} takes a Potential, the loss, got {type(U).__name__}{hint}")


def _critical_point(U: "Potential", guess: Array, scale: float, what: str) -> Array:
    """Newton's iteration from the guess; refused if it wanders off by a third of the scale."""
    (x,), (size,) = newton(U.grad, U.hess, guess[None], np.full(U.dim, scale))
    if size < 1e-10 and np.linalg.norm(x - guess) <= scale / 3.0:
        return np.asarray(x)
    raise ValueError(
        f"{what}: there is no critical point within {scale / 3.0:.3g} of the guess {_point(guess)}; "
        "U.critical_points(box) lists minima and saddles"
    )


class _Pass:
    """A minimum and an index-one saddle of U, refined by Newton's iteration, and the directions of escape at both."""

    def __init__(self, U: "Potential", minimum: npt.ArrayLike, saddle: npt.ArrayLike, what: str) -> None:
        _check_loss(U, what)
        self.U, self.what = U, what
        a, s = _state(minimum, U.dim, "minimum"), _state(saddle, U.dim, "saddle")
        self.scale = float(np.linalg.norm(s - a))
        if self.scale == 0.0:
            raise ValueError(
                f"{what}: minimum and saddle are the same point {_point(a)}; U.critical_points(box) lists minima and saddles"
            )
        self.a = _critical_point(U, a, self.scale, f"{what}: minimum")
        self.s = _critical_point(U, s, self.scale, f"{what}: saddle")
        self.at_a, self.e_a = np.linalg.eigh(U.hess(self.a))
        self.at_s, self.e_s = np.linalg.eigh(U.hess(self.s))
        if self.at_a[0] <= 0.0:
            raise ValueError(f"{what}: {_point(self.a)} is not a minimum; its Hessian has the eigenvalues {_point(self.at_a)}")
        if int(np.sum(self.at_s < 0.0)) != 1 or np.any(self.at_s == 0.0):
            raise ValueError(f"{what}: {_point(self.s)} is not a saddle of index one; eigenvalues {_point(self.at_s)}")
        self.barrier = float(U(self.s) - U(self.a))
        if self.barrier <= 0.0:
            raise ValueError(
                f"{what}: the saddle {_point(self.s)} is not above the minimum: barrier {self.barrier:.6g}, must be > 0"
            )
        chord = (self.s - self.a) / np.linalg.norm(self.s - self.a)
        along = np.abs(self.e_a.T @ chord)
        k = int(np.argmax(along))
        self.cosines = float(along[k]), float(abs(self.e_s[:, 0] @ chord))
        self.chord, self.h_a, self.h_s = chord, float(self.at_a[k]), -float(self.at_s[0])

    def line(self, n: int = 401) -> Array:
        """Points from the minimum to the saddle."""
        return np.asarray(self.a + np.linspace(0.0, 1.0, n)[:, None] * (self.s - self.a))

    def straight(self) -> Assumption:
        detail = f"|cos| with the nearest eigenvector {self.cosines[0]:.3g} at the minimum, {self.cosines[1]:.3g} at the saddle"
        return Assumption("the path is straight along eigenvectors of the Hessian", _status(min(self.cosines) >= _ALIGNED), detail)


def sgd_escape_time(
    U: "Potential",
    minimum: npt.ArrayLike,
    saddle: npt.ArrayLike,
    *,
    lr: float,
    batch: float,
    s: float = 0.5,
    boundary: Literal["other-minimum", "saddle"] = "other-minimum",
    optimizer: Literal["sgd", "momentum", "adam", "adai"] = "sgd",
    momentum: float = 0.9,
    noise: "Noise | None" = None,
) -> Estimate:
    r"""Escape time of SGD whose gradient noise has the covariance of the Hessian, after Xie, Sato and Sugiyama.

    .. math:: \tau = \frac{2\pi}{|H_{be}|} \exp\left\{ \frac{2 B \Delta L}{\eta}
              \left[ \frac{s}{H_{ae}} + \frac{1 - s}{|H_{be}|} \right] \right\},

    with D frozen at eta H_ae / 2B on the part s of the climb and at eta \|H_be\| / 2B on the rest. Heavy ball multiplies the
    exponent by 1 - momentum; Adam has 2 sqrt(B) dL / eta and square roots of the curvatures. The assumptions that come with the
    number say where it cannot be trusted: between a minimum and a saddle the Hessian along the path passes zero, there the noise of
    the model vanishes, and no s makes up for it.

    Parameters
    ----------
    U : Potential
        The loss L.
    minimum, saddle : array (d,)
        Guesses; refined by Newton's iteration.
    lr, batch : float
        Learning rate eta and batch size B.
    s : float
        Path parameter in [0, 1]; not known in advance. Take both ends for the range of the formula.
    boundary : {"other-minimum", "saddle"}
        "other-minimum": committed crossings. "saddle": first arrival at the valley's boundary, half that time.
    optimizer : {"sgd", "momentum", "adam", "adai"}
        "momentum": heavy ball without dampening. Adai escapes like SGD.
    momentum : float
        In [0, 1), for "momentum" only.
    noise : Noise, optional
        The true noise, made with this lr and batch: the assumptions on C are then tested with it instead of C = H.

    Returns
    -------
    Estimate
        In SDE time (`per_iteration` divides by lr); `log_value` is always set.

    Raises
    ------
    ValueError
        If the points are no minimum and index-one saddle, or a number is out of range.

    References
    ----------
    Z. Xie, I. Sato, M. Sugiyama, arXiv:2002.03495 (formula: stated); Z. Xie et al., arXiv:2006.15815 (exponents of momentum and
    Adam: stated; their prefactors: recalled. For heavy ball it is multiplied by 1 - momentum here, as Kramers' rate demands. Adam
    on L(sqrt(k) x) at lr is Adam on L at sqrt(k) lr, step by step; the recalled prefactor, 1/(k lr) per iteration, does not depend
    on sqrt(k) lr alone and cannot be right: an assumption says so).

    Examples
    --------
    >>> import fpsolve as fps
    >>> U = fps.potentials.styblinski_tang()
    >>> low, high = (sgd_escape_time(U, [-2.9], [0.15], lr=0.05, batch=1, s=s).log_value for s in (1.0, 0.0))
    >>> round(low, 2), round(high, 2)             # 2 B dL / eta times [1.138, 2.483], and the prefactor
    (44.6, 98.4)
    """
    at = _Pass(U, minimum, saddle, "sgd_escape_time")
    lr, batch = _positive(lr=lr, batch=batch)
    _temperature(lr, batch)
    s, momentum = _number(s, "sgd_escape_time: s"), _number(momentum, "sgd_escape_time: momentum")
    if not 0.0 <= s <= 1.0:
        raise ValueError(f"sgd_escape_time: the path parameter s must lie in [0, 1], got {s!r}")
    if boundary not in ("other-minimum", "saddle"):
        raise ValueError(f"sgd_escape_time: boundary must be 'other-minimum' or 'saddle', got {boundary!r}")
    if optimizer not in ("sgd", "momentum", "adam", "adai"):
        raise ValueError(f"sgd_escape_time: optimizer must be 'sgd', 'momentum', 'adam' or 'adai', got {optimizer!r}")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"sgd_escape_time: momentum must be in [0, 1), got {momentum!r}")
    _check_noise(noise, U.dim, lr, batch)
    power, drag, strength = (0.5, 1.0, math.sqrt(batch)) if optimizer == "adam" else (1.0, 1.0, batch)
    log_prefactor = math.log(2.0 * math.pi / at.h_s)
    if optimizer == "momentum":
        drag = 1.0 - momentum
        # mass lr and friction 1 - momentum
        log_prefactor = math.log(math.pi * drag / at.h_s * (1.0 + math.sqrt(1.0 + 4.0 * lr * at.h_s / drag**2)))
    elif optimizer == "adam":
        log_prefactor += 0.25 * float(np.sum(np.log(np.abs(at.at_s))) - np.sum(np.log(at.at_a)))
    climb = s / at.h_a**power + (1.0 - s) / at.h_s**power
    log_time = log_prefactor + 2.0 * drag * strength * at.barrier / lr * climb
    if boundary == "saddle":
        log_time -= math.log(2.0)
    ends = [2.0 * drag * strength * at.barrier / (lr * h**power) for h in (at.h_a, at.h_s)]
    return Estimate(
        _exp(log_time),
        log_value=log_time,
        unit="time",
        lr=lr,
        batch=batch,
        assumptions=_sgd_assumptions(at, lr, batch, s, ends, noise, optimizer == "adam")
        + (_ADAM_PREFACTOR if optimizer == "adam" else ()),
        method=f"Xie-Sato-Sugiyama ({optimizer}, s = {s:g}, boundary {boundary!r})",
    )


#: Not a matter of the case at hand: Adam's steps do not know the size of the gradient.
_ADAM_PREFACTOR = (
    Assumption(
        "prefactor scales as Adam's steps do",
        "failed",
        "on L(sqrt(k) x) at lr the iterations must be those of L(x) at sqrt(k) lr; the recalled prefactor is too small by sqrt(k)",
    ),
)


def _check_noise(noise: "Noise | None", dim: int, lr: float, batch: float) -> None:
    if noise is None:
        return
    from fpsolve.noise import Noise

    if not isinstance(noise, Noise):
        raise TypeError(f"sgd_escape_time: noise must be a Noise or None, got {type(noise).__name__}: {noise!r}")
    if noise.dim not in (None, dim):
        raise ValueError(f"sgd_escape_time: the noise has dimension {noise.dim}, the loss {dim}")
    for name, mine, theirs in (("lr", lr, noise.lr), ("batch", batch, noise.batch)):
        if theirs is not None and not math.isclose(mine, theirs, rel_tol=1e-12):
            raise ValueError(
                f"sgd_escape_time: {name}={mine:g}, but the noise was made with {name}={theirs:g}; compare like with like"
            )


def _sgd_assumptions(
    at: _Pass, lr: float, batch: float, s: float, ends: Sequence[float], noise: "Noise | None", adaptive: bool
) -> tuple[Assumption, ...]:
    """The validity list: barrier, path, noise on the path, size of a step, tails, noise left at the minimum."""
    path = at.line()
    if noise is None:
        along = np.einsum("i,nij,j->n", at.chord, at.U.hess(path), at.chord) * lr / (2.0 * batch)
        what, equal = "lr H / 2B", Assumption("covariance of the gradient noise is the Hessian", "unknown", "no noise was given")
    else:
        from fpsolve.process import Process

        along = np.einsum("i,nij,j->n", at.chord, Process(at.U, noise).diffusion(path), at.chord)
        model = lr / (2.0 * batch) * np.array([at.h_a, at.h_s])
        ratio = along[[0, -1]] / model
        equal = Assumption(
            "covariance of the gradient noise is the Hessian",
            _status(bool(np.all(np.abs(ratio - 1.0) < _SMALL))),
            f"C / |H| along the path is {ratio[0]:.3g} at the minimum, {ratio[1]:.3g} at the saddle",
        )
        what = "D"
    crossing = bool(along.min() < 0.0 < along.max())
    at_ends = np.abs(along[[0, -1]])
    lowest = 0.0 if crossing else float(np.abs(along).min())
    share = lowest / float(at_ends.min()) if at_ends.min() > 0.0 else 0.0
    spread = float(at_ends.min() / at_ends.max()) if at_ends.max() > 0.0 else 0.0
    kick, stiff = math.sqrt(2.0 * lr * float(at_ends[0])), lr * float(at.at_a[-1])
    if adaptive:  # a step is lr over the root of C/B, whatever the noise: that makes kicks of lr
        kick, stiff = lr, stiff * lr / kick if kick > 0.0 else math.inf
    return (
        Assumption("barrier / D >= 6 at both ends", _status(min(ends) >= _BARRIER), f"{ends[0]:.4g} and {ends[1]:.4g}"),
        Assumption(
            "D changes little between minimum and saddle",
            _status(spread >= _CONSTANT and share >= _CONSTANT),
            f"least over largest of {what} at the ends {spread:.3g}",
        ),
        Assumption(
            "D does not fall along the path",
            _status(share >= _CONSTANT),
            f"{what} falls to {share:.3g} of its smaller end value" + ("; it vanishes at an inflection" if crossing else ""),
        ),
        Assumption(
            "one step's noise is small against the valley", _status(kick <= _SMALL * at.scale), f"{kick:.3g} against {at.scale:.3g}"
        ),
        Assumption(
            "lr times the largest curvature is small",
            _status(stiff <= _SMALL),
            f"{stiff:.3g}" + (", of Adam with v = C / B" if adaptive else ""),
        ),
        at.straight(),
        equal,
        Assumption("path parameter s", "unknown", f"s = {s:g}; 0 and 1 are the ends of the formula's range"),
        Assumption("gradient noise has Gaussian tails", "unknown", "needs the gradients of single samples"),
        Assumption(
            "noise is left at the minimum",
            "unknown" if noise is None else _status(float(at_ends[0]) > 0.0),
            "a minimum that fits every sample has none, and no escape",
        ),
    )


def total_rate(*rates: Estimate) -> Estimate:
    """Rate of escape over several independent saddles: the sum, gamma = sum over p of gamma_p.

    Parameters
    ----------
    *rates : Estimate
        All of one unit that is a rate.

    Returns
    -------
    Estimate
        Statistical errors add in squares, the others as they are; the assumptions are those of all.

    Raises
    ------
    TypeError, ValueError
        Without rates, for something else than an Estimate, or for units that differ.

    Examples
    --------
    >>> total_rate(Estimate(0.25, unit="1/time"), Estimate(0.5, unit="1/time"))
    Estimate(0.75 1/time, sum of 2 paths)
    """
    if not rates:
        raise ValueError("total_rate needs at least one rate")
    for r in rates:
        if not isinstance(r, Estimate):
            raise TypeError(f"total_rate takes Estimates, got {type(r).__name__}: {r!r}")
        if r.unit != rates[0].unit or r.unit not in ("1/time", "1/iteration"):
            raise ValueError(f"total_rate adds rates of one unit, '1/time' or '1/iteration', got {[q.unit for q in rates]}")
        if r.lr is not None and rates[0].lr is not None and not math.isclose(r.lr, rates[0].lr, rel_tol=1e-12):
            raise ValueError(f"total_rate adds rates of one learning rate, got {[q.lr for q in rates]}")
    logs = [r.log_value if r.log_value is not None else (math.log(r.value) if r.value > 0.0 else -math.inf) for r in rates]
    log_value = float(np.logaddexp.reduce(logs))
    return Estimate(
        math.fsum(r.value for r in rates),
        stderr=math.sqrt(math.fsum(r.stderr**2 for r in rates)),
        discretization_error=math.fsum(r.discretization_error for r in rates),
        log_value=log_value if math.isfinite(log_value) and any(r.log_value is not None for r in rates) else None,
        unit=rates[0].unit,
        lr=next((r.lr for r in rates if r.lr is not None), None),
        batch=next((r.batch for r in rates if r.batch is not None), None),
        assumptions=tuple(a for r in rates for a in r.assumptions),
        method=f"sum of {len(rates)} paths",
    )


def power_law_rate(
    U: "Potential", minimum: npt.ArrayLike, saddle: npt.ArrayLike, *, lr: float, batch: float, outliers: int = 1
) -> Estimate:
    r"""Escape rate of SGD on a squared loss, whose noise is proportional to the loss: a power of the loss barrier.

    .. math:: \kappa = \frac{|h_s|}{2\pi} \sqrt{\frac{\det H_a}{|\det H_s|}}
              \left[ \frac{L_s}{L_*} \right]^{-(B / \eta h_* + 1 - n/2)}

    with n outlier eigenvalues of the Hessian, of size h_*; only the ratio of the losses counts, not their difference.

    Parameters
    ----------
    U : Potential
        The loss, positive at the minimum.
    minimum, saddle : array (d,)
        Guesses; refined by Newton's iteration.
    lr, batch : float
    outliers : int
        n, the number of large eigenvalues.

    Returns
    -------
    Estimate
        In 1/time; `log_value` is always set.

    Raises
    ------
    ValueError
        If the loss vanishes at the minimum (then there is no noise and no escape), n > 2 (B / eta h + 1) (unstable), or a number
        is out of range.

    References
    ----------
    T. Mori, L. Ziyin, K. Liu, M. Ueda, arXiv:2105.09557 (formula: stated).

    Examples
    --------
    >>> import fpsolve as fps
    >>> U = fps.Potential.from_expression("1 + (x**2 - 1)**2")
    >>> rate = power_law_rate(U, [-1.0], [0.0], lr=0.1, batch=10)              # h = 8, |h_s| = 4, L_s / L = 2
    >>> round(rate.value * 3.141592653589793 * 2.0**13.0 / 8.0**0.5, 9)       # sqrt(32) / 2 pi 2^-(12.5 + 1/2)
    1.0
    """
    at = _Pass(U, minimum, saddle, "power_law_rate")
    lr, batch = _positive(lr=lr, batch=batch)
    if isinstance(outliers, bool) or not isinstance(outliers, (int, np.integer)) or not 1 <= outliers <= U.dim:
        raise ValueError(f"power_law_rate: outliers must be an integer from 1 to {U.dim}, got {outliers!r}")
    low, high = float(U(at.a)), float(U(at.s))
    if low <= 0.0:
        raise ValueError(
            f"power_law_rate: the loss at the minimum {_point(at.a)} is {low:.6g}; it must be > 0, for the noise "
            "is proportional to it, and without noise there is no escape"
        )
    sharpest = float(at.at_a[-1])
    exponent = batch / (lr * sharpest) + 1.0 - 0.5 * outliers
    if exponent <= 0.0:
        raise ValueError(
            f"power_law_rate: n = {outliers} outliers exceed 2 (B / (lr h) + 1) = {2.0 * (batch / (lr * sharpest) + 1.0):.4g}: "
            "no stationary density; lower lr"
        )
    determinants = float(np.sum(np.log(at.at_a)) - np.sum(np.log(np.abs(at.at_s))))
    log_rate = math.log(at.h_s / (2.0 * math.pi)) + 0.5 * determinants - exponent * math.log(high / low)
    rest = at.at_a[: U.dim - outliers]
    temperature = lr * sharpest / batch
    return Estimate(
        _exp(log_rate),
        log_value=log_rate,
        unit="1/time",
        lr=lr,
        batch=batch,
        assumptions=(
            Assumption("noise is 2 L H / B", "unknown", "needs the gradients of single samples"),
            Assumption(
                "ln(L_s / L) is large against the noise lr h / B",
                _status(math.log(high / low) >= _BARRIER * temperature),
                f"{math.log(high / low):.3g} against {temperature:.3g}",
            ),
            Assumption("lr times the largest curvature is small", _status(lr * sharpest <= _SMALL), f"{lr * sharpest:.3g}"),
            Assumption(
                "the other eigenvalues are small against the outliers",
                _status(not rest.size or rest[-1] <= _SMALL * sharpest),
                f"largest {rest[-1]:.3g} of {sharpest:.3g}" if rest.size else "there are no others",
            ),
            Assumption(
                "the outliers are of one size",
                _status(bool(at.at_a[U.dim - outliers] >= (1.0 - _SMALL) * sharpest)),
                f"{_point(at.at_a[U.dim - outliers :])}",
            ),
            at.straight(),
        ),
        method="power law of the loss (Mori et al.)",
    )


def basin_odds(U: "Potential", a: npt.ArrayLike, b: npt.ArrayLike, *, lr: float, batch: float, variance: float) -> Estimate:
    r"""P(a) / P(b): how much more often SGD with isotropic gradient noise is in the basin of the minimum a than in that of b.

    .. math:: \frac{P_a}{P_b} = \sqrt{\frac{\det H_b}{\det H_a}} \exp\left[ \frac{2 B}{\eta \sigma^2} (L_b - L_a) \right]

    Parameters
    ----------
    U : Potential
        The loss L.
    a, b : array (d,)
        Guesses of the minima; refined by Newton's iteration.
    lr, batch : float
    variance : float
        sigma^2 of one component of one sample's gradient: C = sigma^2 identity.

    Returns
    -------
    Estimate
        Dimensionless; `log_value` is always set.

    Raises
    ------
    ValueError
        If one of the points is no minimum, both are the same, or a number is out of range.

    References
    ----------
    S. Jastrzebski et al., arXiv:1711.04623; re-derived from Boltzmann's law at the temperature lr sigma^2 / 2B.

    Examples
    --------
    >>> import fpsolve as fps
    >>> U = fps.Potential.from_expression("(x**2 - 1)**2")
    >>> round(basin_odds(U, [-1.0], [1.0], lr=0.1, batch=5, variance=1.0).value, 9)
    1.0
    """
    lr, batch, variance = _positive(lr=lr, batch=batch, variance=variance)
    _check_loss(U, "basin_odds")
    x, y = _state(a, U.dim, "a"), _state(b, U.dim, "b")
    if np.array_equal(x, y):
        raise ValueError(f"basin_odds: both minima are {_point(x)}; give two different ones")
    apart = float(np.linalg.norm(x - y))
    minima = [_critical_point(U, guess, apart, f"basin_odds: {name}") for guess, name in ((x, "a"), (y, "b"))]
    spectra = np.array([np.linalg.eigvalsh(U.hess(m)) for m in minima])
    for m, values in zip(minima, spectra, strict=True):
        if not values[0] > 0.0:
            raise ValueError(f"basin_odds: {_point(m)} is not a minimum; its Hessian has the eigenvalues {_point(values)}")
    temperature = lr * variance / (2.0 * batch)
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"basin_odds: lr * variance / (2 * batch) is {temperature:g}; it must be within the range of floats")
    log_dets = np.log(spectra).sum(axis=1)
    log_value = float(0.5 * (log_dets[1] - log_dets[0]) + (U(minima[1]) - U(minima[0])) / temperature)
    sharpest, wide = lr * float(spectra.max()), np.sqrt(temperature / spectra[:, 0]) / apart
    return Estimate(
        _exp(log_value),
        log_value=log_value,
        lr=lr,
        batch=batch,
        assumptions=(
            Assumption("gradient noise is isotropic and the same everywhere", "unknown", f"C = {variance:g} identity was assumed"),
            Assumption("lr times the largest curvature is small", _status(sharpest <= _SMALL), f"{sharpest:.3g}"),
            Assumption(
                "both basins are narrow against their distance",
                _status(float(wide.max()) <= 0.25),
                f"{wide[0]:.3g} and {wide[1]:.3g}",
            ),
        ),
        method="Boltzmann odds of two quadratic basins",
    )
