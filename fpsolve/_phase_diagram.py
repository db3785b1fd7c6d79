"""`phase_diagram`: where SGD on randomly shifted losses stays in a valley, and where it is lost."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import theory
from ._checks import numbers
from ._progress import each
from ._runner import resolve_seed
from ._valley import on_floor
from .chains import SGDChain
from .errors import FpsolveError
from .io import load
from .langevin import simulate
from .noise import Noise
from .potentials import Potential
from .process import Process
from .results import Assumption, Estimate, PhaseDiagram

__all__ = ["phase_diagram"]

Array = NDArray[np.float64]


def phase_diagram(
    U: Potential,
    sigma: ArrayLike,
    lr: ArrayLike,
    start: ArrayLike,
    x: Sequence[float],
    *,
    ensemble: Literal["linearised", "exact"] = "linearised",
    radius: float = 20.0,
    t: float = 200.0,
    n: int = 400,
    seed: int | None = None,
    save: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> PhaseDiagram:
    """Where SGD on randomly shifted losses stays in a valley, and where it is lost, over noise and learning rate.

    Parameters
    ----------
    U : Potential
        A valley along the first coordinate.
    sigma, lr : arrays
        Strengths of the shifts and learning rates, increasing; every pair is run.
    start : array (d,)
    x : (lo, hi)
        Range of the slow coordinate, for the largest flatness and the bounds of theory.
    ensemble : {"linearised", "exact"}
        The noise of Yang, Tang & Tu, C = sigma^2 H^2, or shifts of the loss as they are (:meth:`SGDChain.random_shift`).
    radius : float
        A replica has left when it ends farther from the origin, or is no number any more.
    t : float
        Time of every run; t/lr iterations.
    n : int
        Replicas per point.
    seed : int, optional
    save : path, optional
        File written after every point; the same call goes on where the file ends.
    threads : int, optional
        Replicas of a point run in parallel; does not change the result.
    progress : bool

    Returns
    -------
    PhaseDiagram

    Raises
    ------
    TypeError, ValueError
        For unusable input, or a file of another call.

    Examples
    --------
    >>> import fpsolve as fps
    >>> valley = fps.potentials.degenerate_valley("1 + x**2")
    >>> diagram = fps.phase_diagram(valley, [0.5, 4.0], [0.1], [1.0, 0.0], (-20.0, 20.0), n=40, t=100.0, seed=1, threads=1)
    >>> diagram.escaped[:, 0]
    array([0., 1.])
    """
    if not isinstance(U, Potential):
        raise TypeError(f"phase_diagram: the landscape must be a Potential, got {type(U).__name__}")
    sigmas, rates, x0 = _increasing("sigma", sigma), _increasing("lr", lr), np.atleast_1d(np.asarray(start, float))
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n must be an integer >= 1, got {n!r}")
    if not float(radius) > 0.0:
        raise ValueError(f"radius must be > 0, got {radius!r}")
    if ensemble not in ("linearised", "exact"):
        raise ValueError(f"ensemble must be 'linearised' or 'exact', got {ensemble!r}")
    if x0.shape != (U.dim,) or not np.all(np.isfinite(x0)) or not float(np.linalg.norm(x0)) < radius:
        raise ValueError(f"start must be {U.dim} finite numbers within the radius {radius:g}, got {start!r}")
    if not (math.isfinite(t) and t > float(rates[-1])):
        raise ValueError(f"t must be finite and above the largest learning rate {rates[-1]:g}, got {t!r}")
    settings: dict[str, Any] = {
        "landscape": repr(U), "ensemble": ensemble, "radius": float(radius), "t": float(t), "start": str(x0.tolist()),
        "x": str([float(v) for v in x]),
    }  # fmt: skip
    bounds, flat, floor = _bounds(U, x)
    diagram = _begun(save, sigmas, rates, n, settings, seed)
    if diagram is None:
        nothing = np.full((sigmas.size, rates.size), np.nan)
        diagram = PhaseDiagram(sigmas, rates, nothing, nothing.copy(), n, bounds, settings, resolve_seed(seed))
    todo = [(i, j) for i, j in np.ndindex(sigmas.size, rates.size) if math.isnan(diagram.escaped[i, j])]
    assert diagram.seed is not None
    for i, j in each(todo, "phase_diagram", "point", progress):
        s, h = float(sigmas[i]), float(rates[j])
        chain = (
            SGDChain.gaussian(U, Noise.shifted_minima(U, s, h), h) if ensemble == "linearised" else SGDChain.random_shift(U, s, h)
        )
        own = (diagram.seed + i * rates.size + j) % 2**63
        final = _final(chain, x0, round(t / h), n, own, threads)
        stayed = np.isfinite(final).all(axis=1) & (np.linalg.norm(final, axis=1) < radius)
        diagram.escaped[i, j] = 1.0 - float(stayed.mean())
        if stayed.any():
            diagram.order[i, j] = float(_flatness(U, floor, final[stayed, 0]).mean()) / flat
        if save is not None:
            diagram.save(save)
    return diagram


def _increasing(name: str, values: ArrayLike) -> Array:
    out = np.atleast_1d(numbers(name, values))
    if out.ndim != 1 or not out.size or not np.all(np.isfinite(out)) or out[0] <= 0.0 or np.any(np.diff(out) <= 0.0):
        raise ValueError(f"{name} must be increasing numbers > 0, got {values!r}")
    return out


def _final(chain: SGDChain, x0: Array, steps: int, n: int, seed: int, threads: int | None) -> Array:
    """Last states; where every replica is lost there are none."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # replicas that become infinite are what is counted
        try:
            return simulate(chain, x0, t=steps, n=n, seed=seed, threads=threads).final
        except FpsolveError:
            return np.full((n, x0.size), np.nan)


def _flatness(U: Potential, floor: Array, x: Array) -> Array:
    """F on the floor above the slow coordinates x; `floor` are states on it, beyond which it goes on straight."""
    points = np.stack([x, *(np.interp(x, floor[:, 0], column) for column in floor.T[1:])], axis=-1)
    return np.asarray(np.linalg.det(U.hess(points)[:, 1:, 1:]).clip(1e-300) ** -0.5)


def _bounds(U: Potential, x: Sequence[float]) -> tuple[dict[str, Estimate], float, Array]:
    """lr sigma^2 at the two criteria, the largest flatness of the range, and states on the floor."""
    process = Process(U, Noise.shifted_minima(U, 1.0, 1e-6))
    effective = theory.effective_loss(process, x)
    small = Assumption("lr times the curvature is small", "unknown", "the bounds are those of continuous time")
    bounds = {name: Estimate(1e-6 * e.value, method=e.method, assumptions=(small,)) for name, e in effective.bounds.items()}
    return bounds, float(effective.flatness.max()), on_floor(process, effective.x)


def _begun(
    save: str | os.PathLike[str] | None, sigma: Array, lr: Array, n: int, settings: dict[str, Any], seed: int | None
) -> PhaseDiagram | None:
    """What is done already, if the file belongs to this call."""
    if save is None or not os.path.exists(save):
        return None
    found = load(save)
    same = isinstance(found, PhaseDiagram) and np.array_equal(found.sigma, sigma) and np.array_equal(found.lr, lr)
    if not same or found.n != n or dict(found.settings) != settings or (seed is not None and found.seed != seed):
        raise ValueError(f"{os.fspath(save)} holds something else than the beginning of this phase diagram; give another file")
    return PhaseDiagram(
        found.sigma, found.lr, found.escaped.copy(), found.order.copy(), found.n, found.bounds, found.settings, found.seed
    )
