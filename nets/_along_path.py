"""SGD along a path between minima: its measured noise, finely enough sampled, and the rate over the top with its conditions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .curvature import hessian
from .landscape import Landscape
from .mlp import MLP

if TYPE_CHECKING:
    from fpsolve import Assumption, Estimate, Process

    from .energy_path import EnergyPath

__all__ = ["curvatures_across", "measured", "rate_over_the_top"]

Array = NDArray[np.float64]

#: Points are doubled until the integral of |dL/ds| / D along the path changes by less than this part or this number, so many times.
RELATIVE, ABSOLUTE, DOUBLINGS = 0.01, 0.1, 6
#: Nodes in a segment for that integral, of functions that are linear there.
NODES = 16
#: A curvature across below this part of the largest is rounding: no width follows from it.
FLAT = 1e-9
#: What the conditions call high, small, and alike.
HIGH, SMALL, ALIKE = 6.0, 0.1, 0.5


def measured(path: EnergyPath, mlp: MLP, x: Any, y: Any, scale: float) -> tuple[Array, Array, Array]:
    """Places on the path, the loss's slope there, and the variance of the samples' slopes; D is `scale` times the latter.

    Between places the variance counts as linear. It may dip by decades between images, where the loss nearly vanishes, and ln of an
    escape time is an integral over its inverse: so places are added until that settles.
    """
    s = path.s
    slope, variance = _slopes(path, s, mlp, x, y)
    known = _exponent(s, slope, scale * variance)
    for _ in range(DOUBLINGS):
        between = 0.5 * (s[1:] + s[:-1])
        more = _slopes(path, between, mlp, x, y)
        at = np.arange(1, len(s))
        slope, variance = np.insert(slope, at, more[0]), np.insert(variance, at, more[1])
        s = np.insert(s, at, between)
        before, known = known, _exponent(s, slope, scale * variance)
        if not abs(known - before) > max(RELATIVE * known, ABSOLUTE):  # inf - inf, where D vanishes, will not settle either
            break
    return np.linspace(0.0, path.length, len(s)), slope, variance


def _slopes(path: EnergyPath, s: Array, mlp: MLP, x: Any, y: Any) -> tuple[Array, Array]:
    """Mean and variance over the samples of the derivatives of their losses along the path."""
    jets = (Landscape(mlp, p, x, y).section(t).jets(0.0)[1] for p, t in zip(*path.at(s), strict=True))
    mean, variance = np.array([(slopes.mean(), slopes.var()) for slopes in jets]).T
    return mean, variance


def _exponent(s: Array, slope: Array, diffusion: Array) -> float:
    """Integral of |slope| / D, both linear between the places."""
    u, weights = np.polynomial.legendre.leggauss(NODES)
    u = 0.5 * (u + 1.0)
    parts = [(1.0 - u) * f[:-1, None] + u * f[1:, None] for f in (slope, diffusion)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(0.5 * (np.abs(parts[0]) / parts[1] @ weights) @ np.diff(s))


def curvatures_across(path: EnergyPath, s: float, mlp: MLP, x: Any, y: Any) -> Array:
    """Curvatures of the loss across the path at one place, rising."""
    (point,), (tangent,) = path.at(s)
    basis = np.linalg.svd(tangent[None])[2][1:]  # rows across the tangent
    return np.asarray(np.linalg.eigvalsh(basis @ hessian(mlp, point, x, y) @ basis.T))


def rate_over_the_top(path: EnergyPath, mlp: MLP, x: Any, y: Any, lr: float, batch: int, last: bool) -> Estimate:
    """See `EnergyPath.escape_rate`."""
    process = path.process(mlp, x, y, lr=lr, batch=batch)
    top = path.top[0]
    rows = np.flatnonzero(path.s >= top if last else path.s <= top)
    bottom = float(path.s[rows[int(np.argmin(path.loss[rows]))]])
    widths = [curvatures_across(path, place, mlp, x, y) for place in (bottom, top)]
    noise = [_anisotropy(path, place, mlp, x, y) for place in (bottom, top)]
    found = over_the_top(process, bottom, top, *widths)
    ends = process.diffusion(np.array([[bottom], [top]]))[:, 0, 0]
    more = (
        _condition("noise is alike in all directions", all(ALIKE <= q <= 1.0 / ALIKE for q in noise),
                   f"t C t over the mean variance of a direction {noise[0]:.3g} in the valley, {noise[1]:.3g} at the top"),
        _condition("the path is one of least loss", path.error <= ends[1], f"barrier at most {path.error / ends[1]:.3g} D lower"),
        _condition("no other top nearly as high", _others(path, ends[1]) == 0, f"{len(path.tops)} on the path"),
        _condition("lr times the largest curvature is small", lr * widths[0][-1] <= SMALL, f"{lr * widths[0][-1]:.3g}"),
        _condition("the valley ends the path", bottom == path.s[-1 if last else 0], f"lowest loss at s = {bottom:.4g}"),
    )  # fmt: skip
    return replace(found, assumptions=(*found.assumptions, *more), lr=lr, batch=batch)


def over_the_top(process: Process, bottom: float, top: float, low: Array, high: Array) -> Estimate:
    """Rate of committed crossings: half a valley on the line, two crossings for one that stays, and the widths across."""
    import fpsolve as fps

    time = fps.theory.mean_first_passage_1d(process, bottom, top, reflecting=bottom)
    log_time = math.log(time.value) if time.log_value is None else time.log_value
    flat = [int(np.count_nonzero(w <= FLAT * w[-1])) if len(w) else 0 for w in (low, high)]
    factor = 0.5 * float(np.log(low).sum() - np.log(high).sum()) if not any(flat) else 0.0
    log_rate = factor - log_time - math.log(4.0)
    s = np.linspace(bottom, top, 4097)
    D = process.diffusion(s[:, None])[:, 0, 0]
    rise = -process.drift(s[:, None])[:, 0] / D
    height = float(np.sum(0.5 * (rise[1:] + rise[:-1]) * np.diff(s)))
    conditions = (
        _condition("height of ln p on the path >= 6", height >= HIGH, f"{height:.4g}"),
        _condition("D changes little along the path", D.min() >= ALIKE * D.max(), f"least over largest {D.min() / D.max():.3g}"),
        _condition("the loss curves up in all directions across", not any(flat),
                   f"factor exp({factor:.4g})" if not any(flat) else
                   f"{flat[0]} directions of the valley and {flat[1]} at the top do not: no factor for the width"),
    )  # fmt: skip
    value = math.exp(log_rate) if log_rate < 700.0 else math.inf
    error = value * time.discretization_error / time.value if 0.0 < time.value < math.inf else 0.0
    return fps.Estimate(
        value,
        discretization_error=error,
        log_value=log_rate,
        unit="1/time",
        assumptions=conditions,
        method="along the path, Kramers across",
    )


def _condition(name: str, ok: Any, detail: str) -> Assumption:
    from fpsolve import Assumption

    status: Literal["held", "failed"] = "held" if ok else "failed"
    return Assumption(name, status, detail)


def _anisotropy(path: EnergyPath, s: float, mlp: MLP, x: Any, y: Any) -> float:
    """t C t over tr C / P: 1 for noise that is alike in all directions."""
    (point,), _ = path.at(s)
    total, square, mean = 0.0, 0, np.zeros(mlp.dim)
    for g in mlp.iter_per_sample_gradients(point, x, y):
        total, square, mean = total + float(np.square(g).sum()), square + len(g), mean + g.sum(axis=0)
    trace = total / square - float(np.square(mean / square).sum())
    return float(_slopes(path, np.array([s]), mlp, x, y)[1][0]) / (trace / mlp.dim) if trace > 0.0 else math.nan


def _others(path: EnergyPath, near: float) -> int:
    """Further maxima of the path that are lower than its top by less than `near`."""
    place, loss = path.top
    return sum(abs(s - place) > path.s[1] and loss - float(np.interp(s, path.s, path.loss)) < near for s in path.tops)
