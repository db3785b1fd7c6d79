"""One escape question posed once: where from, over which saddle, out of which region; and what the formulas need, tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._roots import check_box, newton
from .chains import SGDChain
from .grid import Region
from .noise import Noise
from .potentials import Potential
from .process import Process
from .results import Assumption, Path

__all__ = ["Case", "conditions", "pose"]

Array = NDArray[np.float64]
Box = tuple[tuple[float, float], ...]

#: What counts as a high barrier, small, nearly constant and not far below.
BARRIER, SMALL, CONSTANT, FAR_BELOW = 6.0, 0.1, 0.5, 0.1
#: Index of the stable law above which tails count as Gaussian ones.
GAUSSIAN = 1.8
#: Grids end where the density has fallen by exp(-FALL) from the minimum.
FALL = 30.0


@dataclass(frozen=True)
class Case:
    """An escape from the minimum a over the saddle s: the equation, the algorithm if there is one, and where it ends.

    `target` is the attractor beyond, `end` the place of the exit on a line; `lower` counts other saddles of a that are as low as s
    (None: not looked for).
    """

    process: Process
    chain: SGDChain | None
    lr: float | None
    batch: float | None
    a: Array
    s: Array
    target: Array | None
    exit: Literal["beyond", "saddle"]
    region: Region
    end: float | None
    box: Box
    lower: int | None

    @property
    def U(self) -> Potential | None:
        """The loss."""
        return self.process.potential

    @property
    def inertial(self) -> bool:
        """Whether the algorithm keeps more state than the weights, so that the equation of `process` is not its limit."""
        return self.chain is not None and (self.chain.momentum > 0.0 or self.chain.optimizer != "sgd")


class _Flow:
    """The drift for weak noise, its zeros, and where it leads from a saddle."""

    def __init__(self, process: Process) -> None:
        self.process, self.dim = process, process.dim
        self.code, self.jacobian = process.weak_drift_code, process.weak_drift_code.jacobian()

    def drift(self, x: Array) -> Array:
        return np.asarray(self.code.evaluate(x, self.process.params))

    def slope(self, x: Array) -> Array:
        return np.asarray(self.jacobian.evaluate(x, self.process.params).reshape(*x.shape[:-1], self.dim, self.dim))

    def zero(self, guess: Array, scale: float, unstable: int, name: str) -> Array:
        """The zero of the drift near a guess, with the right number of unstable directions."""
        (x,), (size,) = newton(self.drift, self.slope, guess[None], np.full(self.dim, scale))
        if not (size < 1e-8 and np.linalg.norm(x - guess) <= scale / 3.0):
            raise ValueError(f"{name}: the drift has no zero within {scale / 3.0:.3g} of {guess.tolist()}; give a better guess, or "
                             "box= to have one looked for")  # fmt: skip
        if (found := int(np.sum(np.linalg.eigvals(self.slope(x)).real > 0.0))) != unstable:
            raise ValueError(f"{name}: the drift at {x.tolist()} has {found} unstable directions, must have {unstable}")
        return np.asarray(x)

    def outward(self, s: Array) -> tuple[float, Array]:
        """Growth rate and direction at a saddle."""
        values, vectors = np.linalg.eig(self.slope(s))
        k = int(np.argmax(values.real))
        e = vectors[:, k].real
        return float(values[k].real), e / np.linalg.norm(e)

    def descend(self, s: Array, direction: Array, rate: float, scale: float) -> Array:
        """The way down from beside a saddle, (n, dim): along the drift until it has come to rest or gone far away."""
        from scipy.integrate import solve_ivp

        def far(_: float, x: Array) -> float:
            return 100.0 * scale - float(np.linalg.norm(x - s))

        far.terminal = True  # type: ignore[attr-defined]
        run = solve_ivp(lambda _, x: self.drift(x[None])[0], (0.0, 200.0 / rate), s + 1e-4 * scale * direction, method="LSODA",
                        rtol=1e-7, atol=1e-9 * scale, events=far)  # fmt: skip
        return np.asarray(run.y.T)


def pose(
    given: Process | SGDChain, minimum: ArrayLike, saddle: ArrayLike | None, exit: Literal["beyond", "saddle"],
    region: Region | None, box: Sequence[Sequence[float]] | None, lr: float | None, batch: float | None,
) -> Case:  # fmt: skip
    """Check the arguments, find the critical points, choose region and box."""
    if exit not in ("beyond", "saddle"):
        raise ValueError(f"escape_report: exit must be 'beyond' or 'saddle', got {exit!r}")
    process, chain, lr, batch = _engines(given, lr, batch)
    flow, guess = _Flow(process), _point(minimum, process.dim, "minimum")
    if box is None and saddle is None:
        raise ValueError("escape_report: give saddle= (a guess), or box= to have critical points looked for in it")
    if box is not None:
        scale = float(np.ptp(check_box(box, process.dim), axis=1).max()) / 4.0
    else:
        scale = float(np.linalg.norm(_point(saddle, process.dim, "saddle") - guess))
    if not scale > 0.0:
        raise ValueError(f"escape_report: minimum and saddle are the same point {guess.tolist()}")
    a = flow.zero(guess, scale, 0, "escape_report: minimum")
    if saddle is not None:
        s = flow.zero(_point(saddle, process.dim, "saddle"), scale, 1, "escape_report: saddle")
        sides, lower = _sides(flow, a, s), None
    else:
        assert box is not None
        s, sides, lower = _lowest_saddle(flow, a, box)
    down, target = sides
    end = None
    if region is None:
        region, end = _default_region(a, s, down, target, exit)
    if not isinstance(region, Region) or region.dim != process.dim:
        raise ValueError(f"escape_report: region must be a Region in {process.dim}-D, got {region!r}")
    if not region.contains(a):
        raise ValueError(f"escape_report: the minimum {a.tolist()} is not inside {region!r}")
    if not region.contains(s) and exit == "beyond":
        raise ValueError(f"escape_report: the saddle {s.tolist()} is not inside {region!r}; for first arrivals take exit='saddle'")
    limits = _limits(process, chain, a, np.vstack([a, s] if target is None else [a, s, target, down]), box)
    return Case(process, chain, lr, batch, a, s, target, exit, region, end, limits, lower)


def _engines(given: Any, lr: float | None, batch: float | None) -> tuple[Process, SGDChain | None, float | None, float | None]:
    """The equation and the algorithm of a process with a learning rate, or of a chain."""
    for name, value in (("lr", lr), ("batch", batch)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not value > 0):
            raise ValueError(f"escape_report: {name} must be a number > 0, got {value!r}")
    if isinstance(given, SGDChain):
        if lr is not None or batch is not None:
            raise ValueError("escape_report: lr and batch are those of the chain; leave them out")
        process = given.process or given.reference
        if process is None or given.lr is None:
            raise ValueError(f"escape_report: {given!r} has no loss and noise tensor known as formulas, or changes its step; "
                             "give SGDChain.gaussian(U, noise, lr) or a chain on Ensemble.from_expression")  # fmt: skip
        return process, given, given.lr, given.batch if given.batch is not None else process.noise.batch
    if not isinstance(given, Process):
        raise TypeError(f"escape_report takes a Process or an SGDChain, got {type(given).__name__}")
    if given.noise.stable is not None:
        raise ValueError("escape_report: with Levy noise a path leaves by one jump; see theory.levy_exit_rate and escape_times")
    for name, mine, own in (("lr", lr, given.noise.lr), ("batch", batch, given.noise.batch)):
        if mine is not None and own is not None and not math.isclose(mine, own, rel_tol=1e-12):
            raise ValueError(f"escape_report: {name}={mine:g}, but the noise was made with {name}={own:g}")
    lr, batch = given.noise.lr if lr is None else float(lr), given.noise.batch if batch is None else float(batch)
    chain = None
    if lr is not None and given.potential is not None and (given.interpretation == "ito" or given.noise.is_constant):
        chain = SGDChain.gaussian(given.potential, given.noise, lr)
    return given, chain, lr, batch


def _point(x: ArrayLike | None, dim: int, name: str) -> Array:
    try:
        point = np.atleast_1d(np.asarray(x, float))
    except (TypeError, ValueError):
        raise TypeError(f"escape_report: {name} must be {dim} numbers, got {x!r}") from None
    if point.shape != (dim,) or not np.isfinite(point).all():
        raise ValueError(f"escape_report: {name} must be {dim} finite numbers, got {x!r}")
    return point


# ---- critical points ------------------------------------------------------------------------------------------------


def _sides(flow: _Flow, a: Array, s: Array) -> tuple[Array, Array | None]:
    """The way down on the far side of a saddle of a, and the attractor it ends in (None: it runs away)."""
    rate, e = flow.outward(s)
    scale = float(np.linalg.norm(s - a))
    ways = [flow.descend(s, sign * e, rate, scale) for sign in (1.0, -1.0)]
    home = [bool(np.linalg.norm(way[-1] - a) < 1e-2 * scale) for way in ways]
    if sum(home) != 1:
        what = "both sides lead" if all(home) else "neither side leads"
        raise ValueError(f"escape_report: {what} from the saddle {s.tolist()} down to the minimum {a.tolist()}; it is not the "
                         "saddle of an escape from there. Give another one, or box= to have it looked for")  # fmt: skip
    way = ways[home.index(False)]
    try:
        return way, flow.zero(way[-1], scale, 0, "target")
    except ValueError:
        return way, None


def _lowest_saddle(flow: _Flow, a: Array, box: Sequence[Sequence[float]]) -> tuple[Array, tuple[Array, Array | None], int]:
    """The lowest saddle of the minimum a in the box, what is beyond, and how many others of a are nearly as low."""
    found = []
    for point in flow.process.fixed_points(box):
        if point.index == 1 and not point.degenerate:
            try:
                found.append((point.x, _sides(flow, a, point.x)))
            except ValueError:
                continue
    if not found:
        raise ValueError(f"escape_report: no saddle in the box {[tuple(b) for b in box]} leads out of the minimum {a.tolist()}; "
                         "take a larger box")  # fmt: skip
    U = flow.process.potential
    if U is None and len(found) > 1:
        places = [x.tolist() for x, _ in found]
        raise ValueError(f"escape_report: the drift is no gradient and {len(found)} saddles lead out, {places}; say which: saddle=")
    if U is None:
        return (*found[0], 0)
    heights = np.array([float(U(x)) for x, _ in found])
    k = int(np.argmin(heights))
    barrier = heights[k] - float(U(a))
    return (*found[k], int(np.sum(heights <= heights[k] + 0.1 * barrier)) - 1)


# ---- where it ends --------------------------------------------------------------------------------------------------


def _default_region(
    a: Array, s: Array, down: Array, target: Array | None, exit: Literal["beyond", "saddle"]
) -> tuple[Region, float | None]:
    """A half-space through the saddle ("saddle"), or far enough beyond that a path there does not come back ("beyond")."""
    if exit == "beyond" and target is None:
        raise ValueError("escape_report: beyond the saddle the drift leads to no attractor; give region=, or exit='saddle'")
    e = down[0] - s
    e = e / np.linalg.norm(e)
    if exit == "saddle":
        return Region.halfspace(e, float(e @ s)), float(s[0]) if s.size == 1 else None
    assert target is not None
    if s.size == 1:
        return Region.halfspace(e, float(e @ target)), float(target[0])
    height = down @ e
    if e @ a < e @ s and np.all(np.diff(height) > -1e-6 * abs(float(height[-1] - height[0]))):
        return Region.halfspace(e, 0.5 * float(e @ (s + target))), None
    names = [f"x{i}" for i in range(s.size)]
    squares = " + ".join(f"({n} - c{i})**2" for i, n in enumerate(names))
    params = {f"c{i}": float(c) for i, c in enumerate(target)} | {"r": 0.3 * float(np.linalg.norm(target - s))}
    return Region.from_expression(f"r - sqrt({squares})", variables=names, params=params), None


def _limits(process: Process, chain: SGDChain | None, a: Array, points: Array, box: Sequence[Sequence[float]] | None) -> Box:
    """The box of the grids: the given one, or that of all points, and where the density around them has fallen."""
    if box is not None:
        return tuple((float(lo), float(hi)) for lo, hi in box)
    scale = float(np.linalg.norm(np.ptp(points, axis=0)))
    low, high = points.min(axis=0), points.max(axis=0)
    lr = 0.0 if chain is None or chain.lr is None else chain.lr
    limits = []
    for i in range(a.size):
        e = np.eye(a.size)[i]
        limits.append((float(min(low[i], a[i] - _reach(process, a, -e, scale, lr), low[i] - 0.05 * scale)),
                       float(max(high[i], a[i] + _reach(process, a, e, scale, lr), high[i] + 0.05 * scale))))  # fmt: skip
    return tuple(limits)


def _reach(process: Process, a: Array, e: Array, scale: float, lr: float) -> float:
    """How far from a the integral of the drift over D comes to FALL, and a long jump more; not where jumps overshoot far."""
    t = np.linspace(0.0, 5.0 * scale, 501)[1:]
    x = a + t[:, None] * e
    with np.errstate(all="ignore"):
        back = -np.asarray(process.drift(x)) @ e
        D = np.einsum("i,nij,j->n", e, process.diffusion(x), e)
        fall = np.cumsum(np.maximum(back, 0.0) / np.maximum(D, 1e-12 * np.nanmax(D))) * (t[1] - t[0])
    stop = (fall > FALL) | ~np.isfinite(fall) | (lr * back > 4.0 * t)
    k = int(np.argmax(stop)) if stop.any() else t.size - 1
    return float(t[k] + 4.0 * math.sqrt(2.0 * lr * D[k])) if math.isfinite(D[k]) and lr * back[k] < 4.0 * t[k] else float(t[k])


# ---- what the formulas need -----------------------------------------------------------------------------------------


def conditions(case: Case, path: Path | None) -> tuple[Assumption, ...]:
    """When an escape formula is good, tested along the most probable path (a straight line where none is known)."""
    x = case.a + np.linspace(0.0, 1.0, 401)[:, None] * (case.s - case.a)
    tangents = np.broadcast_to((case.s - case.a) / np.linalg.norm(case.s - case.a), x.shape)
    if path is not None and path.dim > 1:
        x, tangents = path.points, path.tangents
    D = np.einsum("ni,nij,nj->n", tangents, case.process.diffusion(x), tangents)
    kick = math.sqrt(2.0 * (case.lr or 0.0) * float(D.max()))
    if case.chain is not None:
        D = D / (1.0 - case.chain.momentum)  # the temperature of heavy ball
    ends, lowest = D[[0, -1]], float(D.min())
    place = ", ".join(f"{v:.4g}" for v in x[int(np.argmin(D))])
    spread = lowest / float(D.max()) if D.max() > 0.0 else 0.0
    share = lowest / float(ends.min()) if ends.min() > 0.0 else 0.0
    width = float(np.linalg.norm(case.s - case.a))
    return (
        _barrier(case, ends),
        Assumption("D changes little between minimum and saddle", _status(spread >= CONSTANT), f"least over largest {spread:.3g}"),
        Assumption(
            "D is nowhere on the path far below its values at the ends", _status(share >= FAR_BELOW),
            f"falls to {share:.3g} of the smaller one, at ({place})",
        ),
        Assumption(
            "one step's noise is small against the valley", _status(kick <= SMALL * width),
            f"{kick:.3g} against {width:.3g}" if case.lr else "no learning rate: the equation has no steps",
        ),
        _tails(case),
        Assumption("noise is left at the minimum", _status(float(ends[0]) > 0.0), f"D = {ends[0]:.4g}"),
        _step(case),
        Assumption(
            "no other saddle is nearly as low", "unknown" if case.lower is None else _status(case.lower == 0),
            "not looked for: give box=" if case.lower is None else f"{case.lower} others within a tenth of the barrier",
        ),
    )  # fmt: skip


def _status(ok: bool) -> Literal["held", "failed"]:
    return "held" if ok else "failed"


def _barrier(case: Case, ends: Array) -> Assumption:
    name = "barrier / D >= 6 at minimum and saddle"
    if case.U is None:
        return Assumption(name, "unknown", "the drift has no potential; see the quasi-potential")
    height = float(case.U(case.s) - case.U(case.a))
    if case.chain is not None and case.chain.optimizer == "adam":
        return Assumption(name, "unknown", "Adam divides by the size of the noise: see the formula's own assumptions")
    if not ends.min() > 0.0:
        return Assumption(name, "unknown", f"D vanishes at an end, the barrier is {height:.4g}")
    return Assumption(name, _status(height >= BARRIER * ends.max()), f"{height / ends[0]:.4g} and {height / ends[1]:.4g}")


def _step(case: Case) -> Assumption:
    name = "lr times the largest curvature is small"
    if case.lr is None:
        return Assumption(name, "held", "no learning rate: the equation has no steps")
    size = case.lr * float(np.abs(np.linalg.eigvals(_Flow(case.process).slope(case.a))).max())
    return Assumption(name, _status(size <= SMALL), f"{size:.3g}")


def _tails(case: Case) -> Assumption:
    """The index of a stable law from block sums of one component of the samples' gradients (2 for Gaussian tails)."""
    name = "gradient noise has Gaussian tails"
    ensemble = None if case.chain is None else case.chain.ensemble
    if ensemble is None:
        return Assumption(name, "held", "the noise model is Gaussian; that of data needs gradients of single samples")
    e = (case.s - case.a) / np.linalg.norm(case.s - case.a)
    g = np.asarray(ensemble.sample_gradients(case.a)) @ e
    block = max(2, int(math.sqrt(g.size)))
    g = np.random.default_rng(0).permutation(g - g.mean())[: g.size // block * block]
    sums = np.abs(g.reshape(-1, block).sum(axis=1))
    g, sums = np.abs(g[g != 0.0]), sums[sums > 0.0]
    if g.size < 1000 or not sums.size:
        return Assumption(name, "unknown", f"{g.size} samples are too few")
    logs, log_sums = np.log(g), np.log(sums)
    inverse = float(log_sums.mean() - logs.mean()) / math.log(block)
    error = math.sqrt(log_sums.var() / log_sums.size + logs.var() / logs.size) / math.log(block)
    index, most = (min(2.0, 1.0 / v) if v > 0.5 else 2.0 for v in (inverse, inverse - 2.0 * error))
    verdict: Literal["held", "failed", "unknown"] = "held" if index >= GAUSSIAN else "failed" if most < GAUSSIAN else "unknown"
    return Assumption(name, verdict, f"index of a stable law across the saddle {index:.3g}, at most {most:.3g}")


def frozen_noise(case: Case) -> Noise | None:
    """Isotropic noise with the D of the minimum along the way out, as the law of white noise takes it; None where it is that."""
    if case.process.isotropic_diffusion is not None:
        return None
    e = (case.s - case.a) / np.linalg.norm(case.s - case.a)
    return Noise.isotropic(float(e @ case.process.diffusion(case.a) @ e))
