"""Closed forms and one-dimensional quadratures: the engine that uses neither grid nor paths.

Scalars come back as `Estimate`, with the assumptions they need, each tested for the case at hand; covariances as arrays.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fpsolve import _quadrature
from fpsolve._covariance import discrete_covariance, ou_covariance
from fpsolve._decomposition import entropy_production, rotation
from fpsolve._detailed_balance import _check_process, _exp, _Line, _log_stationary, _sgd, _state, kramers_rate
from fpsolve._escape_laws import basin_odds, power_law_rate, sgd_escape_time, total_rate
from fpsolve._exit_laws import levy_exit_rate, quadratic_exit_exponent
from fpsolve._freezing import escape_odds, freezing_law, freezing_time, last_switch, occupation, valley_rate
from fpsolve._moments import mode_second_moment, second_moments
from fpsolve._valley import effective_loss, slow_process
from fpsolve.errors import FpsolveError
from fpsolve.results import Assumption, Density, Estimate

if TYPE_CHECKING:
    from fpsolve.grid import Grid
    from fpsolve.process import Process

__all__ = [
    "basin_odds",
    "boltzmann",
    "discrete_covariance",
    "effective_loss",
    "entropy_production",
    "escape_odds",
    "freezing_law",
    "freezing_time",
    "kramers_rate",
    "last_switch",
    "levy_exit_rate",
    "mean_first_passage_1d",
    "mode_second_moment",
    "occupation",
    "ou_covariance",
    "power_law_rate",
    "quadratic_exit_exponent",
    "rotation",
    "second_moments",
    "sgd_escape_time",
    "slow_process",
    "total_rate",
    "valley_rate",
]


Array = npt.NDArray[np.float64]


def boltzmann(process: "Process", grid: "Grid") -> Density:
    r"""Stationary density of a process in detailed balance, on the cells of a grid.

    exp(-U / D) for a gradient drift with constant isotropic noise, exp(-Phi) for `Process.reversible`, the Gaussian for a
    linear drift -A (x - c) with A D symmetric, and in one dimension for any drift and any D(x) > 0 without current

    .. math:: p(x) \propto \frac{1}{D(x)} \exp \int^x \frac{b(u)}{D(u)} du .

    Parameters
    ----------
    process : Process
    grid : Grid
        Walls must be reflecting, or periodic with a density that fits. The density is that of the process confined to the grid.

    Returns
    -------
    Density
        Point values at the cell centres, normalised by the midpoint sum.

    Raises
    ------
    ValueError
        If detailed balance does not hold or no closed form is known; the message says why.

    References
    ----------
    C. Gardiner, Stochastic Methods (4th ed., 2009), secs. 5.2 and 6.3.

    Examples
    --------
    >>> import fpsolve as fps
    >>> process = fps.Process(fps.Potential.from_expression("x**2/2"), fps.Noise.isotropic(0.25))
    >>> density = boltzmann(process, fps.Grid((-4.0, 4.0, 200)))
    >>> float(round(density.covariance()[0, 0], 10))
    0.25
    """
    _check_process(process, "boltzmann")
    if not hasattr(grid, "centers"):
        raise TypeError(f"boltzmann takes a Grid, got {type(grid).__name__}")
    if process.dim != grid.dim:
        raise ValueError(f"boltzmann: the process has dimension {process.dim}, the grid {grid.dim}")
    for axis, sides in enumerate(grid.boundary):
        if "absorbing" in sides:
            raise ValueError(
                f"boltzmann: axis {axis} has an absorbing side, so probability leaves and nothing is stationary; make it reflecting"
            )
    _check_periodic(process, grid)
    log_p = process.log_density(grid.points())
    method = "closed form"
    if log_p is None:
        log_p = _linear_log_density(process, grid.points())
    if log_p is None and process.dim == 1:
        log_p, _ = _log_stationary(process, grid.centers[0])
        method = "quadrature of drift / D"
    if log_p is None:
        raise ValueError(
            "boltzmann: the stationary density is known in closed form only in one dimension, for a gradient drift with "
            "constant isotropic noise, and for Process.reversible; this process is none of these and in general "
            "not in detailed balance. Use FokkerPlanck(process, grid).stationary()"
        )
    log_p = np.asarray(log_p, dtype=np.float64).reshape(grid.shape)
    if not np.all(np.isfinite(log_p)):
        raise ValueError(
            f"boltzmann: the potential is not finite at {int(np.sum(~np.isfinite(log_p)))} cell centres; move "
            "the box to where it is"
        )
    values = np.exp(log_p - log_p.max())
    return Density(values / math.fsum((values * grid.cell_volumes).ravel()), grid, method=f"boltzmann ({method})")


def _check_periodic(process: "Process", grid: "Grid") -> None:
    """On a ring the density must come back to its value: otherwise a current flows (tilted washboard)."""
    for axis, sides in enumerate(grid.boundary):
        if "periodic" not in sides:
            continue
        low, high = grid.edges[axis][0], grid.edges[axis][-1]
        ends = np.stack([grid.points()[:1], grid.points()[:1]])[:, 0]
        ends[:, axis] = low, high
        log_p = process.log_density(ends)
        if log_p is None and process.dim == 1:
            log_p, _ = _log_stationary(process, np.linspace(low, high, 65))
        if log_p is not None and abs(log_p[-1] - log_p[0]) > 1e-8 * max(1.0, float(np.max(np.abs(log_p)))):
            raise ValueError(
                f"boltzmann: axis {axis} is periodic, but ln p changes by {log_p[-1] - log_p[0]:.6g} over one period: "
                "a current flows, detailed balance does not hold. Use FokkerPlanck(process, grid).stationary()"
            )


def _linear_log_density(process: "Process", points: Array) -> Array | None:
    """-(x - c)^T D^-1 A (x - c) / 2 where A D is symmetric (detailed balance of the linear process)."""
    if process.linear is None:
        return None
    A, center, D = process.linear
    AD = A @ D
    if np.linalg.matrix_rank(D) < len(D) or np.abs(AD - AD.T).max() > 1e-12 * np.abs(AD).max():
        return None
    if np.linalg.eigvals(A).real.min() <= 0.0:
        return None
    x = points - center
    return np.asarray(-0.5 * np.einsum("...i,ij,...j->...", x, np.linalg.solve(D, A), x))


def mean_first_passage_1d(process: "Process", x0: npt.ArrayLike, b: float, reflecting: float | None = None) -> Estimate:
    r"""Exact mean time to reach b from x0 in one dimension, for any drift and any D(x) > 0.

    .. math:: T = \int_{x_0}^{b} dy\, e^{-s(y)} \int_{a}^{y} dz\, \frac{e^{s(z)}}{D(z)} ,\qquad s(x) = \int^x \frac{b(u)}{D(u)} du ,

    with the Ito drift b(u), and a the reflecting wall on the other side of x0. Integrated panel by panel with 16 Gauss-Legendre
    nodes in logarithms, so that no barrier overflows; b may lie on either side of x0.

    Parameters
    ----------
    process : Process
        One-dimensional.
    x0, b : float
        Start and exit.
    reflecting : float, optional
        Position of the wall. None: the line is unbounded there, and the path must come back by itself: driven back, or because
        strong noise far out makes it fast (D that grows faster than the distance). The integral is cut where less than exp(-60)
        of it lies beyond.

    Returns
    -------
    Estimate
        In time; `log_value` is always set for T > 0, `value` is inf beyond the range of a double. `discretization_error` is the
        change at the last doubling of the panels, or what that had to settle to if that is more; 0 where `value` is inf.

    Raises
    ------
    ValueError
        If the process is not 1-D, D is not positive, the wall is not on the far side, or nothing brings the path back.
    FpsolveError
        If the quadrature does not settle.

    References
    ----------
    C. Gardiner, Stochastic Methods (4th ed., 2009), sec. 5.5.

    Examples
    --------
    >>> import fpsolve as fps
    >>> brownian = fps.Process(fps.Potential.from_expression("0*x"), fps.Noise.isotropic(0.5))
    >>> mean_first_passage_1d(brownian, 0.0, 1.0, reflecting=-1.0).value      # ((b - a)^2 - (x0 - a)^2) / (2 D)
    3.0
    """
    _check_process(process, "mean_first_passage_1d")
    if process.dim != 1:
        raise ValueError(f"mean_first_passage_1d: the process has dimension {process.dim}; use FokkerPlanck or escape_times")
    start, end = float(_state(x0, 1, "x0")[0]), float(_state(b, 1, "b")[0])
    if start == end:
        return Estimate(0.0, unit="time", **_sgd(process), method="double quadrature")
    sign = 1.0 if end > start else -1.0
    line = _Line(process, sign)
    lower, upper = sign * start, sign * end
    if reflecting is None:
        wall = _cutoff(line, lower, upper - lower)
        what = Assumption("the path comes back from afar", "held", f"less than exp(-60) of the integral beyond {sign * wall:.6g}")
    else:
        wall = sign * float(_state(reflecting, 1, "reflecting")[0])
        if wall > lower:
            raise ValueError(
                f"mean_first_passage_1d: the reflecting wall {reflecting} must lie on the other side of x0 = {start} than b = {end}"
            )
        what = Assumption("reflecting wall", "held", f"at {sign * wall:.6g}")
    line.check(_quadrature.graded(wall, lower, upper, 2048))
    log_time, change = _quadrature.log_double_integral(line.rate, line.log_weight, wall, lower, upper)
    if not math.isfinite(log_time) or change > 1e-3:
        raise FpsolveError(
            f"mean_first_passage_1d: the quadrature did not settle (ln T = {log_time}, last change {change:.2g}); is the drift "
            "discontinuous or D nearly zero somewhere?"
        )
    value = _exp(log_time)
    rounding = 4.0 * np.finfo(float).eps * max(1.0, abs(log_time))
    error = value * (change + rounding) if math.isfinite(value) else 0.0
    return Estimate(
        value,
        discretization_error=error,
        log_value=log_time,
        unit="time",
        **_sgd(process),
        assumptions=(what,),
        method="double quadrature",
    )


#: The way out is followed so many lengths; beyond, nothing is decided. And so many in any case, for another well beyond a barrier.
_FAR, _NEAR = 1e60, 32.0


def _cutoff(line: _Line, x0: float, length: float) -> float:
    """Where what lies beyond adds less than exp(-60) to the inner integral, int exp(s) / D: growing steps away from the exit.

    The integral must converge, be it like a power of the distance, and exp(-s) must not, or the path goes away for good (Feller's
    test). Both are judged by the logarithmic slopes of the last step.
    """
    x, s, step, found = x0, 0.0, length / 16.0, 0.0
    last = highest = float(line.log_weight(np.array([x0]))[0]) + math.log(length)
    power = slope = 0.0
    while x0 - x < (_NEAR if found else _FAR) * length:
        points = x - step * np.linspace(0.0, 1.0, 9)
        try:
            change, _ = _quadrature.cumulative(line.rate, points, rtol=1e-8, depth=4)
            mass = s + change + line.log_weight(points) + np.log(np.maximum(x0 - points, length))
        except ValueError as error:
            if found:
                break
            raise ValueError(f"{error} (looking for where the path comes back; give reflecting=...)") from error
        if not np.all(np.isfinite(mass)):
            break
        grown = math.log1p(step / max(x0 - x, length))
        power, slope = (float(mass[-1]) - last) / grown, float(change[-1]) / grown
        x, s, step = x - step, s + float(change[-1]), 1.2 * step
        last, highest = float(mass[-1]), max(highest, float(mass.max()))
        if found and mass.max() >= highest - 60.0:
            found = 0.0
        if not found and last < highest - 60.0 and power < 0.0 and slope < 1.0 + 1e-6:
            found = x0 - x
    if found:
        return x0 - found
    where = f"{line.sign * x:.3g}"
    if slope > 1.0 + 1e-6:
        raise ValueError(
            f"mean_first_passage_1d: from {where} the drift carries the path away for good, so the mean time is infinite; "
            "give reflecting=..."
        )
    if power > -1e-3:
        raise ValueError(
            f"mean_first_passage_1d: nothing brings the path back in time from {where}, so the mean time is infinite; "
            "give reflecting=..."
        )
    raise ValueError(
        f"mean_first_passage_1d: up to {where} exp(s)/D falls off like distance to the power {power - 1.0:.3g} only, too slowly "
        "to be cut off; give reflecting=... and see how the time changes with it"
    )
