"""One escape question posed once: where from, over which saddles, out of which region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._roots import check_box, newton
from .chains import SGDChain
from .potentials import Potential
from .process import Process
from .region import Region

__all__ = ["LOW", "Case", "Flow", "Way", "pose"]

Array = NDArray[np.float64]
Box = tuple[tuple[float, float], ...]

#: Grids end where the density has fallen by exp(-FALL) from the minimum.
FALL = 30.0


#: A saddle counts as low as another one if the density there is above exp(-LOW) of that at the other one.
LOW = 3.0


@dataclass(frozen=True)
class Way:
    """Over the saddle s: the way down beyond it (n, dim), and the attractor that it ends in (None: it runs away)."""

    s: Array
    down: Array
    target: Array | None


@dataclass(frozen=True)
class Case:
    """An escape from the minimum a over one saddle or several: the equation, the algorithm if there is one, and where it ends.

    The first of the `ways` is the one that the conditions are tested on; `end` is the place of the exit on a line with one way;
    `lower` counts other saddles of a, not among the ways, that are as low as the first one (None: not looked for).
    """

    process: Process
    chain: SGDChain | None
    lr: float | None
    batch: float | None
    a: Array
    ways: tuple[Way, ...]
    exit: Literal["beyond", "saddle"]
    region: Region
    end: float | None
    box: Box
    lower: int | None

    @property
    def s(self) -> Array:
        """The saddle of the first way."""
        return self.ways[0].s

    @property
    def U(self) -> Potential | None:
        """The loss."""
        return self.process.potential

    @property
    def inertial(self) -> bool:
        """Whether the algorithm keeps more state than the weights, so that the equation of `process` is not its limit."""
        return self.chain is not None and (self.chain.momentum > 0.0 or self.chain.optimizer != "sgd")

    @property
    def adaptive(self) -> bool:
        """Whether the algorithm is Adam."""
        return self.chain is not None and self.chain.optimizer == "adam"


class Flow:
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
    given: Process | SGDChain, minimum: ArrayLike, saddle: ArrayLike | str | None, exit: Literal["beyond", "saddle"],
    region: Region | None, box: Sequence[Sequence[float]] | None, lr: float | None, batch: float | None,
) -> Case:  # fmt: skip
    """Check the arguments, find the critical points, choose region and box."""
    if exit not in ("beyond", "saddle"):
        raise ValueError(f"escape_report: exit must be 'beyond' or 'saddle', got {exit!r}")
    process, chain, lr, batch = _engines(given, lr, batch)
    flow, guess = Flow(process), _point(minimum, process.dim, "minimum")
    guesses = _guesses(saddle, process.dim)
    if box is None and guesses is None:
        raise ValueError("escape_report: give saddle= (a guess), or box= to have critical points looked for in it")
    if box is not None:
        scale = float(np.ptp(check_box(box, process.dim), axis=1).max()) / 4.0
    else:
        assert guesses is not None
        scale = float(np.linalg.norm(guesses - guess, axis=1).min())
    if not scale > 0.0:
        raise ValueError(f"escape_report: minimum and saddle are the same point {guess.tolist()}")
    a = flow.zero(guess, scale, 0, "escape_report: minimum")
    if box is not None and not all(lo < x < hi for x, (lo, hi) in zip(a, box, strict=True)):
        raise ValueError(f"escape_report: the minimum {a.tolist()} is not inside box={[tuple(b) for b in box]}, that of the grids; "
                         "take a larger one")  # fmt: skip
    lower = None
    if guesses is not None:
        ways = _given_ways(flow, a, guesses, scale)
    else:
        assert box is not None
        ways, lower = _ways_in_box(flow, a, box, every=isinstance(saddle, str))
    end = None
    if region is None:
        region, end = _default_region(a, ways, exit)
    if not isinstance(region, Region) or region.dim != process.dim:
        raise ValueError(f"escape_report: region must be a Region in {process.dim}-D, got {region!r}")
    if not region.contains(a):
        raise ValueError(f"escape_report: the minimum {a.tolist()} is not inside {region!r}")
    for way in ways if exit == "beyond" else ():
        if not region.contains(way.s):
            raise ValueError(f"escape_report: the saddle {way.s.tolist()} is not inside {region!r}; for first arrivals take "
                             "exit='saddle'")  # fmt: skip
    places = [a, *(way.s for way in ways), *(x for way in ways if way.target is not None for x in (way.target, *way.down))]
    limits = _limits(process, chain, a, np.array(places), box, np.vstack([_until_left(region, way) for way in ways]))
    return Case(process, chain, lr, batch, a, tuple(ways), exit, region, end, limits, lower)


def _guesses(saddle: ArrayLike | str | None, dim: int) -> Array | None:
    """Guesses of saddles (k, dim); None where they are looked for in a box."""
    if saddle is None:
        return None
    if isinstance(saddle, str):
        if saddle != "all":
            raise ValueError(f"escape_report: saddle must be a point, several points or 'all', got {saddle!r}")
        return None
    try:
        points = np.asarray(saddle, float)
    except (TypeError, ValueError):
        points = None
    if points is None or points.ndim < 2:
        return _point(saddle, dim, "saddle")[None]
    if points.ndim != 2 or points.shape[1] != dim or not len(points) or not np.isfinite(points).all():
        raise ValueError(f"escape_report: several saddles are finite numbers of shape (k, {dim}), got shape {points.shape}")
    return points


def _engines(given: Any, lr: float | None, batch: float | None) -> tuple[Process, SGDChain | None, float | None, float | None]:
    """The equation and the algorithm of a process with a learning rate, or of a chain."""
    for name, value in (("lr", lr), ("batch", batch)):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < math.inf
        ):
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


def _way(flow: Flow, a: Array, s: Array) -> Way:
    """Down from a saddle of a on its far side; ValueError if it is none of a."""
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
        return Way(s, way, flow.zero(way[-1], scale, 0, "target"))
    except ValueError:
        return Way(s, way, None)


def _by_height(flow: Flow, ways: list[Way]) -> list[Way]:
    """The lowest saddle first, where there is a loss."""
    U = flow.process.potential
    return ways if U is None else sorted(ways, key=lambda way: float(U(way.s)))


def _given_ways(flow: Flow, a: Array, guesses: Array, scale: float) -> list[Way]:
    saddles = [flow.zero(guess, scale, 1, "escape_report: saddle") for guess in guesses]
    for i, s in enumerate(saddles):
        if any(np.linalg.norm(s - other) < 1e-6 * scale for other in saddles[:i]):
            raise ValueError(f"escape_report: two of the guesses lead to one saddle, {s.tolist()}; name each once")
    return _by_height(flow, [_way(flow, a, s) for s in saddles])


def _ways_in_box(flow: Flow, a: Array, box: Sequence[Sequence[float]], every: bool) -> tuple[list[Way], int]:
    """The lowest saddle of the minimum a in the box, and how many others are nearly as low; or every one, and none besides."""
    found = []
    for point in flow.process.fixed_points(box):
        if point.index == 1 and not point.degenerate:
            try:
                found.append(_way(flow, a, point.x))
            except ValueError:
                continue
    if not found:
        raise ValueError(f"escape_report: no saddle in the box {[tuple(b) for b in box]} leads out of the minimum {a.tolist()}; "
                         "take a larger box")  # fmt: skip
    U = flow.process.potential
    if every:
        return _by_height(flow, found), 0
    if U is None and len(found) > 1:
        places = [way.s.tolist() for way in found]
        raise ValueError(f"escape_report: the drift is no gradient and {len(found)} saddles lead out, {places}; say "
                         "which: saddle=, or take saddle='all'")  # fmt: skip
    if U is None:
        return found, 0
    found = _by_height(flow, found)
    heights = np.array([float(U(way.s)) for way in found])
    e = found[0].down[0] - found[0].s
    D = float(e @ flow.process.diffusion(found[0].s) @ e / (e @ e))
    return found[:1], int(np.sum(heights <= heights[0] + max(0.1 * (heights[0] - float(U(a))), LOW * D))) - 1


# ---- where it ends --------------------------------------------------------------------------------------------------


def _default_region(a: Array, ways: Sequence[Way], exit: Literal["beyond", "saddle"]) -> tuple[Region, float | None]:
    """Half-spaces through the saddles ("saddle"), or far enough beyond that a path there does not come back ("beyond").

    Of several ways whichever comes first ends it.
    """
    lost = [way.s.tolist() for way in ways if way.target is None]
    if exit == "beyond" and lost:
        raise ValueError(f"escape_report: beyond the saddle {lost[0]} the drift leads to no attractor; give region=, or "
                         "exit='saddle'")  # fmt: skip
    if a.size == 1:
        return _on_a_line(float(a[0]), ways, exit)
    pieces = [_plane(a, way, exit) for way in ways]
    if len(ways) == 1 and pieces[0] is not None:
        return Region.halfspace(*pieces[0]), None
    names = [f"x{i}" for i in range(a.size)]
    texts: list[str] = []
    params: dict[str, float] = {}
    for k, (way, piece) in enumerate(zip(ways, pieces, strict=True)):
        others = [other.s for other in ways if other is not way]
        if piece is not None and all(piece[0] @ s < piece[1] for s in others):
            texts.append(" + ".join(f"n{k}_{i}*{n}" for i, n in enumerate(names)) + f" - c{k}")
            params |= {f"n{k}_{i}": float(v) for i, v in enumerate(piece[0])} | {f"c{k}": piece[1]}
        elif exit == "saddle":
            raise ValueError(f"escape_report: the plane through the saddle {way.s.tolist()} cuts off another one of {len(ways)}; "
                             "give region=, or take exit='beyond'")  # fmt: skip
        else:  # all but a ball around where it leads
            assert way.target is not None
            texts.append(f"r{k} - sqrt(" + " + ".join(f"({n} - c{k}_{i})**2" for i, n in enumerate(names)) + ")")
            params |= {f"c{k}_{i}": float(v) for i, v in enumerate(way.target)}
            params[f"r{k}"] = 0.3 * float(np.linalg.norm(way.target - way.s))
    text = texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"
    return Region.from_expression(text, variables=names, params=params), None


def _on_a_line(a: float, ways: Sequence[Way], exit: Literal["beyond", "saddle"]) -> tuple[Region, float | None]:
    ends = sorted(float((way.s if exit == "saddle" or way.target is None else way.target)[0]) for way in ways)
    if len(ends) == 1:
        side = math.copysign(1.0, ends[0] - a)
        return Region.halfspace([side], side * ends[0]), ends[0]
    if len(ends) > 2 or not ends[0] < a < ends[1]:
        raise ValueError(f"escape_report: on a line two saddles lie on the two sides of the minimum {a:g}; got ways to {ends}")
    return Region.box([ends[0]], [ends[1]]), None


def _plane(a: Array, way: Way, exit: Literal["beyond", "saddle"]) -> tuple[Array, float] | None:
    """Normal and offset of the plane that ends it; None where the way down bends back."""
    e = way.down[0] - way.s
    e = e / np.linalg.norm(e)
    if exit == "saddle":
        return e, float(e @ way.s)
    assert way.target is not None
    height = way.down @ e
    if e @ a < e @ way.s and np.all(np.diff(height) > -1e-6 * abs(float(height[-1] - height[0]))):
        return e, 0.5 * float(e @ (way.s + way.target))
    return None


def _until_left(region: Region, way: Way) -> Array:
    """From the saddle down to the first point outside the region; the saddle alone if it is left elsewhere."""
    points = np.vstack([way.s, way.down, *([] if way.target is None else [way.target])])
    outside = ~region.contains(points)
    return np.asarray(points[: int(np.argmax(outside)) + 1])


def _limits(
    process: Process, chain: SGDChain | None, a: Array, points: Array, box: Sequence[Sequence[float]] | None, left: Array
) -> Box:
    """The box of the grids: the given one, or that of all points, and where the density around them has fallen.

    A given one is made larger if the ways out leave the region behind its sides, which would hold them back.
    """
    if box is not None:
        pad = 0.01 * float(np.linalg.norm(np.ptp(np.vstack([a, left]), axis=0)))
        return tuple(
            (float(lo) if lo < low else float(low) - pad, float(hi) if hi > high else float(high) + pad)
            for (lo, hi), low, high in zip(box, left.min(axis=0), left.max(axis=0), strict=True)
        )
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
