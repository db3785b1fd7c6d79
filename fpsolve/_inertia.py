"""Escape of a motion with inertia over one saddle: Kramers-Langer at strong friction, loss of energy at weak friction."""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fpsolve._detailed_balance import _check_indices, _exp, _kramers_assumptions, _point, _QuasiPotential, _state
from fpsolve.errors import FpsolveError
from fpsolve.noise import Noise
from fpsolve.process import Process
from fpsolve.results import Assumption, Estimate

if TYPE_CHECKING:
    from fpsolve.process import Underdamped

__all__ = ["depopulation", "underdamped_rate"]

Array = npt.NDArray[np.float64]


def depopulation(loss: float) -> float:
    r"""Mel'nikov's factor for a well that loses the energy `loss` (in units of T) per oscillation at the height of the barrier.

    .. math:: \Upsilon(\Delta) = \exp \frac{1}{2\pi} \int_{-\infty}^{\infty} \frac{\ln(1 - e^{-\Delta (u^2 + 1/4)})}{u^2 + 1/4} du,

    Delta for small, 1 for large Delta.

    Examples
    --------
    >>> round(depopulation(1e-4) / 1e-4, 2), round(depopulation(60.0), 4)
    (0.99, 1.0)
    """
    from scipy.integrate import quad

    if math.isinf(loss):
        return 1.0

    # u = tan(t) / 2: du / (u^2 + 1/4) = 2 dt, u^2 + 1/4 = 1 / (4 cos^2 t)
    def integrand(t: float) -> float:
        return math.log(-math.expm1(-0.25 * loss / math.cos(t) ** 2))

    integral, _ = quad(integrand, 0.0, 0.5 * math.pi, epsabs=1e-12, epsrel=1e-10, limit=400)
    return math.exp(2.0 * integral / math.pi)


def underdamped_rate(process: "Underdamped", minimum: npt.ArrayLike, saddle: npt.ArrayLike) -> Estimate:
    """See `kramers_rate`: the rate of committed crossings of a motion with inertia in one bath of temperature T = friction D."""
    if process.overdamped.isotropic_diffusion is None:
        raise ValueError(
            "kramers_rate: motion with inertia has a temperature only where the noise is a constant multiple of the identity; "
            "use FokkerPlanck(process, grid) on (x, v), or paths"
        )
    g, m, temperature = process.friction, process.mass, process.friction * process.overdamped.isotropic_diffusion
    guess_a, guess_s = _state(minimum, process.dim, "minimum"), _state(saddle, process.dim, "saddle")
    scale = float(np.linalg.norm(guess_s - guess_a))
    if scale == 0.0:
        raise ValueError(
            f"kramers_rate: minimum and saddle are the same point {_point(guess_a)}; U.critical_points(box) "
            "lists minima and saddles"
        )
    # friction one, so that Phi = U / T; only the rate knows mass and friction
    phi = _QuasiPotential(Process(process.potential, Noise.isotropic(temperature)), scale)
    a, s = phi.critical_point(guess_a, "minimum"), phi.critical_point(guess_s, "saddle")
    barrier, barrier_error = phi.difference(a, s)
    _check_indices(phi, a, s, barrier)
    assumptions = list(_kramers_assumptions(phi, a, s, barrier))

    def log_rate(step: float) -> float:
        bend = temperature * np.linalg.eigvalsh(phi.hessian(s, step))[0]
        growth = (math.sqrt(g * g - 4.0 * m * bend) - g) / (2.0 * m)
        determinants = np.linalg.slogdet(phi.hessian(a, step))[1] - np.linalg.slogdet(phi.hessian(s, step))[1]
        return float(math.log(growth / (2.0 * math.pi)) + 0.5 * determinants - barrier)

    value = log_rate(2e-3)
    error = abs(log_rate(4e-3) - value) + barrier_error
    if process.dim == 1:
        near, far = (g / m * _action(process, s[0], a[0] - s[0], way, scale) / temperature for way in (1.0, -1.0))
        both = math.inf if math.isinf(near) or math.isinf(far) else near + far
        factor = depopulation(near) * depopulation(far) / depopulation(both)
        value += math.log(factor)
        detail = f"{near:.4g} T this side, {far:.4g} T the other; the rate is multiplied by {factor:.4g}"
        assumptions.append(Assumption("energy lost per oscillation is accounted for (Mel'nikov, Meshkov)", "held", detail))
    else:
        curvature = abs(temperature * np.linalg.eigvalsh(phi.hessian(s))[0])
        # about g / m times the action of a parabolic barrier of this height
        loss = g / m * 2.0 * math.pi * barrier * math.sqrt(m / curvature)
        status = "held" if loss > 10.0 else "failed"
        detail = f"some {loss:.3g} T; below that the rate is limited by energy, which is known on a line only"
        assumptions.append(Assumption("a path loses more than T per oscillation", status, detail))  # type: ignore[arg-type]
    return Estimate(
        _exp(value),
        discretization_error=_exp(value) * min(error, 1.0),
        log_value=value,
        unit="1/time",
        assumptions=tuple(assumptions),
        method="Kramers-Langer with inertia",
    )


def _action(process: "Underdamped", top: float, toward: float, way: float, scale: float) -> float:
    """int p dx over one oscillation at the height of the barrier, on the side of the minimum (way 1) or beyond it (way -1)."""
    from scipy.integrate import quad
    from scipy.optimize import brentq

    sign = math.copysign(1.0, toward) * way
    U = process.potential
    height = float(U([top]))

    def below(r: float) -> float:
        return height - float(U([top + sign * r]))

    reach, step = 0.0, 0.02 * scale
    while below(reach + step) > 0.0:
        reach, step = reach + step, 1.05 * step
        if reach > 1e4 * scale:
            return math.inf
    if reach == 0.0:
        raise FpsolveError(
            f"kramers_rate: U does not fall from the saddle {top:.6g} in the direction {sign:+.0f}; is it the saddle?"
        )
    end = float(brentq(below, reach, reach + step, xtol=1e-13 * scale))
    # r = end sin(t): the square root vanishes linearly at the saddle, and smoothly in t at the turning point
    momentum, _ = quad(
        lambda t: math.sqrt(max(0.0, 2.0 * process.mass * below(end * math.sin(t)))) * end * math.cos(t),
        0.0,
        0.5 * math.pi,
        epsrel=1e-9,
        limit=200,
    )
    return 2.0 * float(momentum)
