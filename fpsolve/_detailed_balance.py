"""Drift / D on a line, and the Eyring-Kramers rate of a process in detailed balance."""

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fpsolve import _quadrature
from fpsolve.results import Assumption, Estimate

from ._checks import numbers

if TYPE_CHECKING:
    from fpsolve.process import Process, Underdamped


__all__ = ["kramers_rate"]

Array = npt.NDArray[np.float64]

_MAX_EXP = 709.0  # exp overflows just above
#: Dips of D that are looked into.
_DIPS = 16


def _exp(x: float) -> float:
    return math.exp(x) if x < _MAX_EXP else math.inf


class _Line:
    """Drift and D of a 1-D process along a direction (+1 or -1), with D > 0 checked wherever it is evaluated."""

    def __init__(self, process: "Process", sign: float = 1.0) -> None:
        self.process, self.sign = process, sign

    def diffusion(self, u: Array) -> Array:
        D = np.asarray(self.process.diffusion((self.sign * u)[..., None]))[..., 0, 0]
        bad = ~(D > 0.0) | ~np.isfinite(D)
        if bad.any():
            where = float((self.sign * u)[bad].ravel()[0])
            raise ValueError(
                f"D(x) must be finite and > 0 on the interval, but D({where:.6g}) = {float(D[bad].ravel()[0]):.6g}: "
                "noise that vanishes cannot carry the path on; add a floor to D or shorten the interval"
            )
        return D

    def rate(self, u: Array) -> Array:
        """drift / D, the derivative of s."""
        drift = self.sign * np.asarray(self.process.drift((self.sign * u)[..., None]))[..., 0]
        if not np.all(np.isfinite(drift)):
            where = float((self.sign * u)[~np.isfinite(drift)].ravel()[0])
            raise ValueError(f"the drift is not finite at x = {where:.6g}; shorten the interval or correct the potential")
        return drift / self.diffusion(u)

    def log_weight(self, u: Array) -> Array:
        return -np.log(self.diffusion(u))

    def check(self, points: Array) -> None:
        """Refuse monotone points between which D touches zero: zoom in on the dips of its samples.

        A dip is a zero beside its neighbours, not beside D far away, which may be larger by any factor.
        """
        self.rate(points)
        D = np.pad(self.diffusion(points), 1, constant_values=np.inf)
        dips = np.flatnonzero((D[1:-1] <= D[:-2]) & (D[1:-1] <= D[2:]))
        for i in dips[np.argsort(D[dips + 1])][:_DIPS]:
            low, high = points[max(i - 1, 0)], points[min(i + 1, points.size - 1)]
            rim = float(self.diffusion(np.array([low, high])).max())
            for _ in range(10):
                u = np.linspace(low, high, 65)
                inner = self.diffusion(u)
                k = int(np.argmin(inner))
                if inner[k] < 1e-12 * rim:
                    raise ValueError(
                        f"D(x) must be finite and > 0 on the interval, but falls to D({self.sign * u[k]:.6g}) = {inner[k]:.3g}: "
                        "noise that vanishes cannot carry the path on; add a floor to D or shorten the interval"
                    )
                low, high = u[max(k - 1, 0)], u[min(k + 1, 64)]


def _log_stationary(process: "Process", x: Array) -> tuple[Array, float]:
    """Zero-current log p(x) - log p(x[0]) = int drift / D - ln D at monotone points, and the quadrature's last change."""
    line = _Line(process)
    line.check(np.linspace(min(x[0], x[-1]), max(x[0], x[-1]), 1025))
    s, change = _quadrature.cumulative(line.rate, x)
    weight = line.log_weight(x)
    if not change <= 1e-6 * max(1.0, float(np.max(np.abs(s)))):
        raise ValueError(
            f"the integral of drift / D from {x[0]:.6g} to {x[-1]:.6g} does not converge (last change {change:.2g}): "
            "D vanishes or the drift jumps in between; add a floor to D or shorten the interval"
        )
    return s + weight - weight[0], change


def _sgd(process: "Process") -> dict[str, Any]:
    """Learning rate and batch size that the noise was made for, as arguments of an Estimate."""
    noise = getattr(process, "noise", None)
    lr, batch = getattr(noise, "lr", None), getattr(noise, "batch", None)
    return {"lr": None if lr is None else float(lr), "batch": None if batch is None else int(batch)}


class _QuasiPotential:
    """Phi = -ln p of a process in detailed balance: gradient D^-1 (div D - b), Hessian by differences of the gradient."""

    def __init__(self, process: "Process", scale: float) -> None:
        self.process, self.dim, self.scale = process, process.dim, scale

    def diffusion(self, x: Array) -> Array:
        D = np.asarray(self.process.diffusion(x), dtype=np.float64)
        lowest = float(np.linalg.eigvalsh(D)[0]) if np.all(np.isfinite(D)) else math.nan
        if not lowest > 0.0:
            raise ValueError(
                f"kramers_rate: D must be positive definite at the critical points; its lowest eigenvalue at "
                f"{_point(x)} is {lowest:.6g}"
            )
        return D

    def gradient(self, x: Array) -> Array:
        force = np.asarray(self.process.divergence(x)) - np.asarray(self.process.drift(x))
        return np.asarray(np.linalg.solve(self.diffusion(x), force))

    def hessian(self, x: Array, step: float = 2e-3) -> Array:
        """Central differences of sixth order, step relative to the distance between minimum and saddle."""
        h = step * self.scale
        columns = []
        for unit in np.eye(self.dim) * h:
            f = [self.gradient(x + k * unit) - self.gradient(x - k * unit) for k in (1, 2, 3)]
            columns.append((45.0 * f[0] - 9.0 * f[1] + f[2]) / (60.0 * h))
        jacobian = np.array(columns)
        return 0.5 * (jacobian + jacobian.T)

    def difference(self, a: Array, b: Array) -> tuple[float, float]:
        """Phi(b) - Phi(a) and its quadrature error."""
        log_p = self.process.log_density(np.stack([a, b]))
        if log_p is not None:
            return float(log_p[0] - log_p[1]), 0.0
        log_p, change = _log_stationary(self.process, np.linspace(a[0], b[0], 33))
        return float(-log_p[-1]), change

    def critical_point(self, guess: Array, name: str) -> Array:
        """Newton's iteration from the guess; refused if it wanders off."""
        x, reach = guess.copy(), self.scale / 3.0
        for _ in range(60):
            try:
                step = np.linalg.solve(self.hessian(x), -self.gradient(x))
            except np.linalg.LinAlgError:
                break
            x = x + step
            if not np.all(np.isfinite(x)) or np.linalg.norm(x - guess) > reach:
                break
            if np.linalg.norm(step) < 1e-11 * self.scale:
                return x
        raise ValueError(
            f"kramers_rate: there is no critical point within {reach:.3g} of the {name} {_point(guess)} given "
            f"(a third of the distance between the two points; |grad Phi| there is "
            f"{np.linalg.norm(self.gradient(guess)):.3g}). U.critical_points(box) lists minima and saddles"
        )


def _point(x: npt.ArrayLike) -> str:
    return "[" + ", ".join(f"{v:.6g}" for v in np.ravel(x)) + "]"


def _check_process(process: Any, what: str) -> None:
    from fpsolve.process import Process

    if not isinstance(process, Process):
        hint = ": put it together with its noise, Process(U, noise)" if hasattr(process, "hess") else ""
        hint = ": take its process, chain.process" if hasattr(process, "lr") else hint
        raise TypeError(f"{what} takes a Process, got {type(process).__name__}{hint}")


def _state(x: npt.ArrayLike, dim: int, name: str) -> Array:
    try:
        state = np.atleast_1d(numbers(name, x))
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be numbers, shape ({dim},), got {type(x).__name__}: {x!r}") from None
    if state.shape != (dim,):
        raise ValueError(f"{name} must have shape ({dim},), got {state.shape}")
    if not np.all(np.isfinite(state)):
        raise ValueError(f"{name} must be finite, got {_point(state)}")
    return state


def kramers_rate(
    process: "Process | Underdamped",
    minimum: npt.ArrayLike,
    saddle: npt.ArrayLike,
    exit: Literal["beyond", "saddle"] = "beyond",
) -> Estimate:
    r"""Eyring-Kramers escape rate over one saddle, for a process in detailed balance.

    With Phi = -ln p (U / D for a gradient drift with constant isotropic noise) and the single positive eigenvalue
    lambda of -D(s) Hess Phi(s),

    .. math:: k = \frac{\lambda}{2\pi} \sqrt{\frac{\det \nabla^2\Phi(a)}{|\det \nabla^2\Phi(s)|}}\; e^{-(\Phi(s) - \Phi(a))} ,

    which for constant isotropic D is `|lambda_s| / (2 pi) sqrt(det H_a / |det H_s|) exp(-dU / D)`. In one dimension any drift and
    any D(x) > 0 are allowed: p follows from the integral of drift / D, and the formula is the Laplace expansion of
    `mean_first_passage_1d`. In several dimensions D(x) may vary only for `Process.reversible`.

    With inertia (`Underdamped`, temperature T = friction D) lambda is the growth rate `(sqrt(g^2 + 4 m |h_s|) - g) / (2 m)` of the
    motion at the saddle. On a line weak friction g is covered as well: the rate is multiplied by Y(d_a) Y(d_b) / Y(d_a + d_b), Y
    Mel'nikov's factor of the energies d T that an oscillation at the height of the barrier loses on the two sides.

    Parameters
    ----------
    process : Process or Underdamped
    minimum, saddle : array (d,)
        Positions; guesses, refined by Newton's iteration.
    exit : {"beyond", "saddle"}
        "beyond": rate of committed crossings. "saddle": rate of reaching the separatrix, twice that; not with inertia, where
        the separatrix is a surface in (x, v).

    Returns
    -------
    Estimate
        In 1/time. `log_value` is always set; `value` is 0 where it underflows. `discretization_error` is that of the Hessians
        and quadratures only; the formula itself is the leading order in 1 / barrier.

    Raises
    ------
    ValueError
        Without detailed balance in two or more dimensions; if no minimum or index-one saddle is near the guesses; if D is singular.

    References
    ----------
    H. A. Kramers, Physica 7, 284 (1940); J. S. Langer, Ann. Phys. 54, 258 (1969); A. Bovier, M. Eckhoff, V. Gayrard, M. Klein,
    J. Eur. Math. Soc. 6, 399 (2004). With inertia: V. I. Mel'nikov, S. V. Meshkov, J. Chem. Phys. 85, 1018 (1986).

    Examples
    --------
    >>> import fpsolve as fps
    >>> process = fps.Process(fps.Potential.from_expression("(x**2 - 1)**2"), fps.Noise.isotropic(0.1))
    >>> rate = kramers_rate(process, [-1.0], [0.0])
    >>> round(float(rate.value * np.pi * np.exp(10.0) / np.sqrt(8.0)), 9)     # sqrt(8 * 4) / (2 pi) exp(-1 / 0.1)
    1.0
    >>> round(kramers_rate(process, [-1.0], [0.0], exit="saddle").value / rate.value, 12)
    2.0
    """
    if exit not in ("beyond", "saddle"):
        raise ValueError(f"kramers_rate: exit must be 'beyond' or 'saddle', got {exit!r}")
    from fpsolve.process import Underdamped

    if isinstance(process, Underdamped):
        if exit == "saddle":
            raise ValueError("kramers_rate: with inertia the separatrix is a surface in (x, v), not the saddle; use exit='beyond'")
        from fpsolve._inertia import underdamped_rate

        return underdamped_rate(process, minimum, saddle)
    _check_process(process, "kramers_rate")
    guess_a, guess_s = _state(minimum, process.dim, "minimum"), _state(saddle, process.dim, "saddle")
    scale = float(np.linalg.norm(guess_s - guess_a))
    if scale == 0.0:
        raise ValueError(
            f"kramers_rate: minimum and saddle are the same point {_point(guess_a)}; U.critical_points(box) "
            "lists minima and saddles"
        )
    if process.dim > 1 and process.log_density(guess_a) is None:
        raise ValueError(
            "kramers_rate: in two or more dimensions the formula needs detailed balance: a gradient drift with constant isotropic "
            "noise, or Process.reversible. For this process the exponent is a quasi-potential; use FokkerPlanck or paths"
        )
    phi = _QuasiPotential(process, scale)
    a, s = phi.critical_point(guess_a, "minimum"), phi.critical_point(guess_s, "saddle")
    barrier, barrier_error = phi.difference(a, s)
    _check_indices(phi, a, s, barrier)
    log_rate = _log_prefactor(phi, a, s, 2e-3) - barrier
    error = abs(_log_prefactor(phi, a, s, 4e-3) - barrier - log_rate) + barrier_error
    if exit == "saddle":
        log_rate += math.log(2.0)
    value = _exp(log_rate)
    return Estimate(
        value,
        discretization_error=value * min(error, 1.0),
        log_value=log_rate,
        unit="1/time",
        **_sgd(process),
        assumptions=_kramers_assumptions(phi, a, s, barrier),
        method=f"Eyring-Kramers (exit {exit!r})",
    )


def _check_indices(phi: _QuasiPotential, a: Array, s: Array, barrier: float) -> None:
    at_a, at_s = np.linalg.eigvalsh(phi.hessian(a)), np.linalg.eigvalsh(phi.hessian(s))
    if at_a[0] <= 0.0:
        raise ValueError(
            f"kramers_rate: {_point(a)} is not a minimum of -ln p: Hessian eigenvalues {_point(at_a)}; "
            "U.critical_points(box) lists minima and saddles"
        )
    if int(np.sum(at_s < 0.0)) != 1 or np.any(at_s == 0.0):
        raise ValueError(
            f"kramers_rate: {_point(s)} is not a saddle of index one of -ln p: Hessian eigenvalues {_point(at_s)}; "
            "U.critical_points(box) lists minima and saddles"
        )
    if barrier <= 0.0:
        raise ValueError(
            f"kramers_rate: the saddle {_point(s)} is not above the minimum {_point(a)}: barrier {barrier:.6g}; "
            "it must be > 0, so give "
            "the saddle of the way out of this minimum"
        )


def _log_prefactor(phi: _QuasiPotential, a: Array, s: Array, step: float) -> float:
    """ln of lambda / (2 pi) sqrt(det H_a / |det H_s|)."""
    root = np.linalg.cholesky(phi.diffusion(s))
    hess_a, hess_s = phi.hessian(a, step), phi.hessian(s, step)
    growth = -np.linalg.eigvalsh(root.T @ hess_s @ root)[0]
    return float(math.log(growth / (2.0 * math.pi)) + 0.5 * (np.linalg.slogdet(hess_a)[1] - np.linalg.slogdet(hess_s)[1]))


def _kramers_assumptions(phi: _QuasiPotential, a: Array, s: Array, barrier: float) -> tuple[Assumption, ...]:
    def held(ok: bool) -> Literal["held", "failed"]:
        return "held" if ok else "failed"

    bends = [(x, name, _bend(phi, x)) for x, name in ((a, "minimum"), (s, "saddle"))]
    others: Literal["held", "unknown"] = "unknown" if phi.dim > 1 else "held"
    return (
        Assumption("barrier / D >= 6", held(barrier >= 6.0), f"{barrier:.4g}; next order is about {1.0 / barrier:.1g} of the rate"),
        Assumption(
            "minimum is a minimum", "held", f"{_point(a)}, eigenvalues of Hess Phi {_point(np.linalg.eigvalsh(phi.hessian(a)))}"
        ),
        Assumption(
            "saddle has index one", "held", f"{_point(s)}, eigenvalues of Hess Phi {_point(np.linalg.eigvalsh(phi.hessian(s)))}"
        ),
        *(
            Assumption(f"quadratic within one standard deviation of the {name}", held(bend < 0.25), f"deviation {bend:.2g} of Phi")
            for _, name, bend in bends
        ),
        _descent(phi, a, s),
        Assumption(
            "no other saddle as low",
            others,
            "on a line there is one barrier this way" if phi.dim == 1 else "every further saddle adds its own rate",
        ),
        Assumption("the path does not come back at once", "unknown", "the region beyond must hold it longer than it relaxes"),
    )


def _bend(phi: _QuasiPotential, x: Array) -> float:
    """Largest relative deviation of Phi from its quadratic part one standard deviation away, over both signs and all axes."""
    values, vectors = np.linalg.eigh(phi.hessian(x))
    worst = 0.0
    for value, vector in zip(values, vectors.T, strict=True):
        expected = math.copysign(0.5, value)
        for sign in (-1.0, 1.0):
            change, _ = phi.difference(x, x + sign * vector / math.sqrt(abs(value)))
            worst = max(worst, abs(change - expected) / 0.5)
    return worst


def _descent(phi: _QuasiPotential, a: Array, s: Array) -> Assumption:
    """Follow x' = -D grad Phi down both sides of the saddle: exactly one side must end in the minimum."""
    from scipy.integrate import solve_ivp

    name = "steepest descent from the saddle reaches this minimum on one side"
    root = np.linalg.cholesky(phi.diffusion(s))
    values, vectors = np.linalg.eigh(root.T @ phi.hessian(s) @ root)
    direction = root @ vectors[:, 0]
    direction /= np.linalg.norm(direction)
    slowest = float(np.linalg.eigvals(phi.diffusion(a) @ phi.hessian(a)).real.min())
    span = 30.0 / min(slowest, -float(values[0]))

    def near(_: float, x: Array) -> float:
        return float(np.linalg.norm(x - a)) - 0.02 * phi.scale

    near.terminal = True  # type: ignore[attr-defined]
    reached = []
    for sign in (-1.0, 1.0):
        start = s + sign * 1e-3 * phi.scale * direction
        try:
            run = solve_ivp(
                lambda _, x: phi.process.drift(x) - phi.process.divergence(x),
                (0.0, span),
                start,
                method="LSODA",
                events=near,
                rtol=1e-6,
                atol=1e-9 * phi.scale,
            )
        except (ValueError, FloatingPointError):
            return Assumption(name, "unknown", "the descent left the domain of the model")
        reached.append(bool(run.t_events[0].size))
    if sum(reached) == 1:
        return Assumption(name, "held")
    return Assumption(name, "failed", "both sides end there" if all(reached) else "neither side ends there")
