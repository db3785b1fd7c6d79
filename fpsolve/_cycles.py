"""Attractors of a drift: where a path without noise settles, limit cycles with their period and multipliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import FpsolveError
from .results import Cycle, Estimate

if TYPE_CHECKING:
    from .process import Process

__all__ = ["limit_cycle"]

Array = NDArray[np.float64]

#: Points of a cycle, and turns of the longest transient in units of the slowest scale of the Jacobian met.
POINTS, CHUNKS = 512, 40


class _Flow:
    """The deterministic flow of a process, with its derivative."""

    def __init__(self, process: Process) -> None:
        self.process, self.dim = process, process.dim
        self.code = process.weak_drift_code
        self.slope_code = self.code.jacobian()

    def drift(self, x: Array) -> Array:
        return self.code.evaluate(x, self.process.params)

    def slope(self, x: Array) -> Array:
        return self.slope_code.evaluate(x, self.process.params).reshape(self.dim, self.dim)

    def run(self, x: Array, t: float, rtol: float = 1e-11, **options: object) -> object:
        """Solution from x over the time t; FpsolveError if it runs away."""
        from scipy.integrate import solve_ivp

        size = 1e-12 * (1.0 + np.abs(x[: self.dim]).max())
        with np.errstate(all="ignore"):
            out = solve_ivp(lambda _, y: self.drift(y), (0.0, t), x, method="DOP853", rtol=rtol, atol=size, **options)
        if not out.success or not np.all(np.isfinite(out.y)) or np.abs(out.y).max() > 1e8 * (1.0 + np.abs(x).max()):
            raise FpsolveError(f"limit_cycle: the drift carries the path away to {out.y[:, -1].tolist()}; start elsewhere")
        return out

    def with_derivative(self, x: Array, t: float, rtol: float) -> tuple[Array, Array]:
        """End of the path from x after the time t, and its derivative by x."""
        from scipy.integrate import solve_ivp

        d = self.dim

        def both(_: float, y: Array) -> Array:
            return np.concatenate([self.drift(y[:d]), (self.slope(y[:d]) @ y[d:].reshape(d, d)).ravel()])

        start = np.concatenate([x, np.eye(d).ravel()])
        out = solve_ivp(both, (0.0, t), start, method="DOP853", rtol=rtol, atol=rtol * (1.0 + np.abs(x).max()) * 1e-2)
        return out.y[:d, -1], out.y[d:, -1].reshape(d, d)


def limit_cycle(process: Process, x0: ArrayLike, *, t_max: float | None = None) -> Cycle:
    r"""The attracting limit cycle that the drift reaches from x0.

    The path without noise, dx/dt = b(x), is followed until it comes back to itself; then x and the period T are refined by
    Newton's method on :math:`\varphi_T(x) = x`, with the derivative of the flow integrated beside it. Its eigenvalues are
    the Floquet multipliers.

    Parameters
    ----------
    process : Process
        Of two or more dimensions. The drift is the one for D -> 0.
    x0 : array (d,)
        Any point in the basin of the cycle.
    t_max : float, optional
        Longest transient; default 4000 divided by the largest rate of the Jacobian at x0.

    Returns
    -------
    Cycle

    Raises
    ------
    TypeError, ValueError
        For something that is no process, a line, or a start of another shape.
    FpsolveError
        If the path runs away, settles in a fixed point, or does not come back to itself in `t_max`.

    Examples
    --------
    >>> import fpsolve as fps
    >>> drift = ["x - y - x*(x**2 + y**2)", "x + y - y*(x**2 + y**2)"]        # the circle of radius one, in the time 2 pi
    >>> cycle = limit_cycle(fps.Process.from_drift(drift, fps.Noise.isotropic(0.1), variables="x y"), [0.5, 0.0])
    >>> round(cycle.period.value, 8), float(round(abs(cycle.multipliers[0]) * 1e6, 4))  # exp(-4 pi) = 3.4873e-6
    (6.28318531, 3.4873)
    """
    from .process import Process

    if not isinstance(process, Process):
        raise TypeError(f"limit_cycle takes a Process, got {type(process).__name__}")
    x = np.asarray(x0, float)
    if process.dim < 2 or x.shape != (process.dim,) or not np.isfinite(x).all():
        raise ValueError(f"limit_cycle needs {max(process.dim, 2)} finite numbers as start, got {x0!r} in {process.dim}-D")
    flow = _Flow(process)
    rate = float(np.abs(np.linalg.eigvals(flow.slope(x))).max())
    total = t_max if t_max is not None else 4000.0 / max(rate, 1e-12)
    if not (np.isfinite(total) and total > 0.0):
        raise ValueError(f"t_max must be a finite number > 0, got {t_max!r}")
    x, period = _transient(flow, x, total)
    x, period, monodromy, error = _newton(flow, x, period)
    values = np.linalg.eigvals(monodromy).astype(complex)
    multipliers = np.delete(values, int(np.argmin(np.abs(values - 1.0))))
    if np.abs(multipliers).max() >= 1.0:
        raise FpsolveError(
            f"limit_cycle: the closed path of period {period:.6g} does not attract, multipliers "
            f"{np.array2string(multipliers, precision=4)}; start closer to one that does"
        )
    times = np.linspace(0.0, period, POINTS, endpoint=False)
    points = flow.run(x, period, t_eval=times).y.T  # type: ignore[attr-defined]
    return Cycle(points, Estimate(period, discretization_error=error, unit="time"), multipliers, "Newton's method on one turn")


def _transient(flow: _Flow, x: Array, total: float) -> tuple[Array, float]:
    """Follow the path until it crosses a plane twice at nearly the same place; a point of it and the time between."""
    chunk = total / CHUNKS
    for _ in range(CHUNKS):
        x = flow.run(x, chunk, rtol=1e-8).y[:, -1]  # type: ignore[attr-defined]
        b = flow.drift(x)
        size = np.linalg.norm(b)
        if size <= 1e-9 * np.abs(flow.slope(x)).max() * (1.0 + np.abs(x).max()):
            raise FpsolveError(f"limit_cycle: from there the drift leads into the fixed point {x.tolist()}; start elsewhere")

        def plane(_: float, y: Array, x: Array = x, b: Array = b) -> float:
            return float((y - x) @ b)

        plane.direction = 1.0  # type: ignore[attr-defined]
        out = flow.run(x, chunk, rtol=1e-8, events=plane)
        extent = np.linalg.norm(np.ptp(out.y, axis=1))  # type: ignore[attr-defined]
        for t, y in zip(out.t_events[0], out.y_events[0], strict=True):  # type: ignore[attr-defined]
            if t * size > 1e-3 * extent and np.linalg.norm(y - x) < 0.02 * extent:
                return x, float(t)
    raise FpsolveError(
        f"limit_cycle: the path does not come back to itself within the time {total:.4g}; it may be chaotic or slow: start closer "
        "to the cycle, or give a longer t_max"
    )


def _newton(flow: _Flow, x: Array, period: float) -> tuple[Array, float, Array, float]:
    """Point and period of the closed path, the derivative of one turn, the size of the last correction of the period."""
    d = flow.dim
    extent = period * np.linalg.norm(flow.drift(x))
    for i in range(12):
        end, M = flow.with_derivative(x, period, 1e-8 if i < 2 else 1e-12)
        matrix = np.zeros((d + 1, d + 1))
        matrix[:d, :d], matrix[:d, d], matrix[d, :d] = M - np.eye(d), flow.drift(end), flow.drift(x)
        step = np.linalg.lstsq(matrix, np.append(x - end, 0.0), rcond=None)[0]
        x, period = x + step[:d], period + float(step[d])
        if not period > 0.0 or not np.isfinite(step).all():
            break
        if i > 2 and np.linalg.norm(step[:d]) < 1e-10 * extent:
            return x, period, M, abs(float(step[d])) + 1e-11 * period
    raise FpsolveError("limit_cycle: Newton's method for the closed path did not converge; start closer to the cycle")
