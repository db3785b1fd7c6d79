"""Minimum action paths and quasipotentials: which curves to start from, where to part them, when they are good enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers
from ._geometric import Basis, Dynamics, Segment, climb, density, least, panel_actions
from ._line import DIVERGES, IMPERMEABLE, NO_NOISE, POSITIVE, action_on_a_line, growth, lowest_place
from ._roots import is_degenerate, newton
from .errors import FpsolveError
from .process import Process
from .results import Assumption, Cycle, Estimate, Path

__all__ = ["minimum_action_path", "quasipotential"]

Array = NDArray[np.float64]

#: Elements of the first curves, and of each turn around a cycle.
FIRST, PER_TURN = 32, 64
#: Turns around a cycle before the path leaves it: at first, and at most.
TURNS, MOST_TURNS = 2, 16
#: Height of the bent initial curves over the straight one, as part of its length.
BENDS = (0.35, -0.35)
#: A drift below this part of the largest on the curve vanishes.
STILL = 1e-5
#: What parting a curve at a fixed point may add to the action, as part of it: on coarse curves, and on refined ones.
SLACK = (3e-3, 1e-4)
#: Actions below this part of int |x'||b| are rounding.
NOTHING = 1e-9

METHOD = "geometric action, cubic splines"


@dataclass
class _Chain:
    """Curves joined at fixed points, with the actions of one resolution earlier."""

    segments: list[Segment]
    changes: list[float]

    @property
    def action(self) -> float:
        return sum(s.action for s in self.segments)


def minimum_action_path(
    process: Process,
    a: ArrayLike | Cycle,
    b: ArrayLike,
    *,
    initial: ArrayLike | None = None,
    rtol: float = 1e-5,
    max_elements: int = 1024,
) -> Path:
    r"""The most probable path from a to b for weak noise, and its action.

    .. math:: S = \inf_{T,\,x} \frac14 \int_0^T (\dot x - b)^T D^{-1} (\dot x - b)\,dt
                = \inf_x \frac12 \int \left(|x'|_a |b|_a - \langle x', b\rangle_a\right) du , \qquad a = D^{-1},

    so that ln(mean time) grows like S when D is small. b is the drift for D -> 0 (-grad U; -D grad Phi of a reversible
    process), D the tensor as it is. The second form knows no time and is minimised over cubic splines (see `Notes`).

    Parameters
    ----------
    process : Process
        Of any dimension, with any drift and D(x) positive definite where the path goes.
    a : array (d,) or Cycle
        Start: a point (normally an attractor), or a cycle of :func:`limit_cycle`, which may be left anywhere.
    b : array (d,)
        End.
    initial : array (k, d), optional
        A curve from a to b to start from (its ends are moved there). Default: the straight line and bent ones, of which the one
        that ends lowest is kept.
    rtol : float
        Elements are doubled until the action changes by less than this part of itself.
    max_elements : int
        Most elements of a curve between two fixed points.

    Returns
    -------
    Path
        `action` with its `discretization_error` and assumptions; points, drift, tangents; the fixed points passed.

    Raises
    ------
    TypeError, ValueError
        For a process without D (Levy noise) or with D singular everywhere, phase space, chains, wrong shapes, equal ends.
    FpsolveError
        If no curve of finite action was found although D does not vanish on it.

    Notes
    -----
    A curve is parted where it meets a zero of the drift, for there it may turn. Each piece is a cubic spline whose control
    points move across it; the integral is of order six where the pieces are smooth. The minimum is a local one: curves of lower
    action elsewhere cannot be excluded, which the assumptions say; `initial` tries others. Where D vanishes and the drift points
    back, no noise carries the path on: the action is infinite and the assumption "permeable" has failed.

    References
    ----------
    M. Heymann, E. Vanden-Eijnden, Comm. Pure Appl. Math. 61, 1052 (2008); T. Kikuchi et al., Phys. Rev. Research 2, 033208 (2020).

    Examples
    --------
    >>> import fpsolve as fps
    >>> process = fps.Process.from_drift(["x - x**3 - x*y**2", "-(1 + x**2)*y"], fps.Noise.isotropic(0.5), variables="x y")
    >>> path = minimum_action_path(process, [-1.0, 0.0], [0.0, 0.0])       # Maier & Stein, beta = 1: exactly 1/2
    >>> round(path.action.value, 6), path.saddles
    (0.5, array([[0., 0.]]))
    """
    _check_process(process, "minimum_action_path")
    _check_numbers(rtol, max_elements)
    end = _point(b, process.dim, "b")
    if isinstance(a, Cycle):
        if a.dim != process.dim or process.dim < 2:
            raise ValueError(f"the cycle has {a.dim} coordinates, the process {process.dim}")
        if initial is not None:
            raise ValueError("initial belongs to a path from a point; a cycle is left wherever it costs least")
        return _from_cycle(process, a, end, rtol, max_elements)
    start = _point(a, process.dim, "a")
    size = np.abs(np.stack([start, end])).max()
    if np.abs(end - start).max() <= 1e-12 * size:
        raise ValueError(f"a and b are the same point {start.tolist()}; the action of staying there is 0")
    guess = None if initial is None else _curve(initial, start, end)
    if process.dim == 1:
        return action_on_a_line(process, float(start[0]), float(end[0]), min(rtol, 1e-8))
    dynamics = _dynamics(process, start, end)
    corners = dynamics.from_state(np.stack([start, end]))
    curves = _bent(corners) if guess is None else [dynamics.from_state(guess)]
    chain = _first(dynamics, curves, FIRST)
    if _noise_along(dynamics, chain).name != IMPERMEABLE:
        chain = _improve(dynamics, chain, rtol, max_elements)
    return _result(dynamics, chain, rtol, len(curves), {})


def quasipotential(
    process: Process, attractor: ArrayLike | Cycle, points: ArrayLike, *, rtol: float = 1e-5, max_elements: int = 1024
) -> Estimate | tuple[Estimate, ...]:
    r"""V(x), the least action that leads from an attractor to x: the stationary density near it is :math:`e^{-V}` for weak noise.

    On a line the integral of -b/D; else one minimum action path for each point.

    Parameters
    ----------
    process : Process
    attractor : array (d,) or Cycle
        A stable fixed point of the drift, or a cycle of :func:`limit_cycle`.
    points : array (d,) or (n, d)
    rtol, max_elements
        As in :func:`minimum_action_path`.

    Returns
    -------
    Estimate, or a tuple of n
        With errors and assumptions as in :func:`minimum_action_path`.

    Raises
    ------
    TypeError, ValueError
        As in :func:`minimum_action_path`, and for a point that does not attract.
    FpsolveError
        As in :func:`minimum_action_path`.

    Examples
    --------
    >>> import fpsolve as fps
    >>> process = fps.Process.ornstein_uhlenbeck([[1.0, 2.0], [-2.0, 1.0]], fps.Noise.isotropic(0.5))
    >>> round(quasipotential(process, [0.0, 0.0], [1.0, 0.0]).value, 5)        # x^T Sigma^-1 x / 2 with Sigma = 1/2
    1.0
    """
    _check_process(process, "quasipotential")
    _check_numbers(rtol, max_elements)
    try:
        ends = numbers("points", points)
    except (TypeError, ValueError):
        raise TypeError(f"points must be one point or an array of points, got {type(points).__name__}: {points!r}") from None
    if ends.ndim not in (1, 2) or ends.shape[-1] != process.dim or not np.isfinite(ends).all():
        raise ValueError(f"points must be finite, of shape ({process.dim},) or (n, {process.dim}), got {ends.shape}")
    rows = np.atleast_2d(ends)
    start = attractor if isinstance(attractor, Cycle) else _attracting(process, _point(attractor, process.dim, "attractor"), rows)
    found = []
    for end in rows:
        if not isinstance(start, Cycle) and np.array_equal(end, start):
            found.append(Estimate(0.0, method="the attractor itself"))
            continue
        found.append(minimum_action_path(process, start, end, rtol=rtol, max_elements=max_elements).action)
    return found[0] if ends.ndim == 1 else tuple(found)


# ---- arguments ----------------------------------------------------------------------------------------------------


def _check_process(process: Any, name: str) -> None:
    if not isinstance(process, Process):
        hint = "; for a chain take its process for weak noise, chain.process" if hasattr(process, "process") else ""
        if hasattr(process, "overdamped"):
            hint = "; in phase space noise acts on v alone: take process.overdamped, or for D = T/g the barrier over T"
        raise TypeError(f"{name} takes a Process, got {type(process).__name__}{hint}")
    if process.noise.stable is not None:
        raise ValueError(f"{name} needs Gaussian noise: Levy noise jumps over barriers, whose height then does not matter")


def _check_numbers(rtol: float, max_elements: int) -> None:
    if isinstance(rtol, bool) or not isinstance(rtol, (int, float, np.floating)) or not 1e-10 <= rtol <= 0.1:
        raise ValueError(f"rtol must be a number from 1e-10 to 0.1, got {rtol!r}")
    if isinstance(max_elements, bool) or not isinstance(max_elements, (int, np.integer)) or max_elements < 2 * FIRST:
        raise ValueError(f"max_elements must be a whole number >= {2 * FIRST}, got {max_elements!r}")


def _point(value: Any, dim: int, name: str) -> Array:
    try:
        point = np.atleast_1d(numbers(name, value))
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {dim} numbers, got {type(value).__name__}: {value!r}") from None
    if point.shape != (dim,) or not np.isfinite(point).all():
        raise ValueError(f"{name} must be {dim} finite numbers, got {value!r}")
    return point


def _curve(initial: ArrayLike, start: Array, end: Array) -> Array:
    curve = numbers("initial", initial).copy()
    if curve.ndim != 2 or curve.shape[1] != start.size or len(curve) < 2 or not np.isfinite(curve).all():
        raise ValueError(f"initial must be finite points of shape (k, {start.size}) with k >= 2, got shape {curve.shape}")
    curve[0], curve[-1] = start, end
    return curve


def _attracting(process: Process, x: Array, ends: Array) -> Array:
    """The stable fixed point next to x; ValueError if there is none."""
    code, slope = process.weak_drift_code, process.weak_drift_code.jacobian()
    d = process.dim

    def jacobian(y: Array) -> Array:
        return slope.evaluate(y, process.params).reshape(-1, d, d)

    reach = np.abs(ends - x).max() + 1e-300
    root, step = newton(lambda y: code.evaluate(y, process.params), jacobian, x[None], np.full(d, reach))
    values = np.linalg.eigvals(jacobian(root)[0])
    known = "process.fixed_points(box) lists them with their stability"
    if not (step[0] < 1e-8 and np.abs(root[0] - x).max() < 1e-2 * reach):
        size = np.linalg.norm(code.evaluate(x, process.params))
        raise ValueError(f"the attractor must be a fixed point of the drift, but |b| = {size:.4g} at {x.tolist()}; {known}")
    if values.real.max() > 0.0 or is_degenerate(values, 0.0):
        raise ValueError(
            f"the fixed point {root[0].tolist()} does not attract (eigenvalues {np.array2string(values, precision=4)}); {known}. "
            "From other points than attractors use minimum_action_path"
        )
    return x if np.abs(root[0] - x).max() < 1e-9 * reach else root[0]


# ---- curves -------------------------------------------------------------------------------------------------------


def _dynamics(process: Process, start: Array, end: Array) -> Dynamics:
    """Drift and tensor in coordinates in which the mean of D between the ends is one."""
    line = start + np.linspace(0.0, 1.0, 33)[:, None] * (end - start)
    process.check_diffusion(line)
    values, vectors = np.linalg.eigh(process.diffusion(line).mean(axis=0))
    if values[0] <= 1e-12 * values[-1]:
        raise ValueError(
            f"D must be positive definite, but its mean between the ends has the eigenvalue {values[0]:.3g} along "
            f"{np.array2string(vectors[:, 0], precision=3)}: without noise in some direction most ends cannot be reached; "
            "add a floor to D"
        )
    return Dynamics(process, start, vectors * np.sqrt(values))


def _bent(corners: Array) -> list[Array]:
    """The straight line between two points, and lines bent to both sides in up to three directions across."""
    u = np.linspace(0.0, 1.0, 513)[:, None]
    straight = corners[0] + u * (corners[1] - corners[0])
    along = corners[1] - corners[0]
    length = float(np.linalg.norm(along))
    _, _, rows = np.linalg.svd(along[None])
    across = [bend * length * row for row in rows[1:4] for bend in BENDS]
    return [straight, *(straight + 4.0 * u * (1.0 - u) * shift for shift in across)]


def _is_still(dynamics: Dynamics, y: Array, curve: Array) -> bool:
    return bool(np.linalg.norm(dynamics.drift(y[None])) <= STILL * np.linalg.norm(dynamics.drift(curve), axis=1).max())


def _settle(dynamics: Dynamics, n: int, curve: Array, rtol: float, scale: float = 0.0) -> Segment:
    """The curve of least action near a polygon."""
    basis = Basis(n, (_is_still(dynamics, curve[0], curve), _is_still(dynamics, curve[-1], curve)))
    return least(dynamics, basis, basis.through(curve), rtol=rtol, scale=scale)


def _first(dynamics: Dynamics, curves: list[Array], n: int) -> _Chain:
    """The lowest of the curves reached from these."""
    found = [s for s in (_settle(dynamics, n, curve, 1e-4) for curve in curves) if np.isfinite(s.action)]
    if not found:
        raise FpsolveError("minimum_action_path: drift or D are not finite along any of the initial curves; give initial=...")
    best = min(found, key=lambda s: s.action)
    return _Chain([best], [np.inf])


def _part(dynamics: Dynamics, chain: _Chain, slack: float) -> _Chain:
    """Part the curves where they come close to a zero of the drift, wherever that raises the action by less than `slack`."""
    segments: list[Segment] = []
    changes: list[float] = []
    waiting = list(zip(chain.segments, chain.changes, strict=True))
    while waiting:
        segment, change = waiting.pop(0)
        halves = _cut(dynamics, segment, chain.action, slack) if len(segments) + len(waiting) < 16 else None
        if halves is None:
            segments.append(segment)
            changes.append(change)
        else:
            waiting = [(halves[0], np.inf), (halves[1], np.inf), *waiting]
    return _Chain(segments, changes)


def _join(dynamics: Dynamics, chain: _Chain) -> _Chain:
    """Join curves again where a curve that does not meet the fixed point between them has a lower action."""
    i = 0
    while i + 1 < len(chain.segments):
        pair = chain.segments[i : i + 2]
        first, second = (s.at(s.basis.fine)[0] for s in pair)
        root = second[0]
        reach = 0.03 * float(np.linalg.norm(np.ptp(np.concatenate([first, second]), axis=0)))
        before = first[(np.linalg.norm(first - root, axis=1) > reach) | (np.arange(len(first)) == 0)]
        after = second[(np.linalg.norm(second - root, axis=1) > reach) | (np.arange(len(second)) == len(second) - 1)]
        n = max(FIRST, max(s.basis.n for s in pair) // 2)
        whole = _settle(dynamics, n, np.concatenate([before, after]), 1e-5, chain.action)
        if whole.action < sum(s.action for s in pair) - SLACK[1] * chain.action:
            chain.segments[i : i + 2], chain.changes[i : i + 2] = [whole], [np.inf]
        else:
            i += 1
    return chain


def _improve(dynamics: Dynamics, chain: _Chain, rtol: float, max_elements: int) -> _Chain:
    """Part the curves at fixed points, refine them, and look again at what was decided on coarse curves."""
    chain = _refine(dynamics, _part(dynamics, chain, SLACK[0]), rtol, max_elements)
    again = _part(dynamics, _join(dynamics, chain), SLACK[1])
    return _refine(dynamics, again, rtol, max_elements)


def _cut(dynamics: Dynamics, segment: Segment, scale: float, slack: float) -> tuple[Segment, Segment] | None:
    """Two curves through the fixed point that this one all but passes, or None."""
    curve = segment.at(segment.basis.fine)[0]
    size = np.linalg.norm(dynamics.drift(curve), axis=1)
    low = np.flatnonzero((size[1:-1] < size[:-2]) & (size[1:-1] <= size[2:])) + 1
    length = float(np.linalg.norm(np.ptp(curve, axis=0)))
    ends = curve[[0, -1]]
    for i in low[np.argsort(size[low])]:
        root, step = newton(dynamics.drift, dynamics.slope, curve[i : i + 1], np.full(dynamics.dim, length), 20)
        distance = np.linalg.norm(curve - root, axis=1)
        nearest = int(np.argmin(distance))
        far_from_ends = np.linalg.norm(ends - root, axis=1).min() > 1e-3 * length
        if not (step[0] < 1e-8 and distance[nearest] < 0.05 * length and far_from_ends):
            continue
        radius = max(distance[nearest], 1e-3 * length)
        before = curve[:nearest][distance[:nearest] > radius]
        after = curve[nearest + 1 :][distance[nearest + 1 :] > radius]
        n = max(FIRST, segment.basis.n // 2)
        halves = [
            _settle(dynamics, n, np.concatenate([before, root]), 1e-4, scale),
            _settle(dynamics, n, np.concatenate([root, after]), 1e-4, scale),
        ]
        if sum(h.action for h in halves) <= segment.action + slack * scale:
            return halves[0], halves[1]
    return None


def _enough(dynamics: Dynamics, chain: _Chain, rtol: float) -> float:
    """A change of the action that is small: `rtol` of it, or of what climbing as far would cost where it all but vanishes."""
    return rtol * chain.action + NOTHING * sum(climb(dynamics, s) for s in chain.segments)


def _refine(dynamics: Dynamics, chain: _Chain, rtol: float, max_elements: int) -> _Chain:
    """Double the elements of each curve until its action settles."""
    enough = _enough(dynamics, chain, rtol) / len(chain.segments)
    for i, segment in enumerate(chain.segments):
        while chain.changes[i] > enough and 2 * segment.basis.n <= max_elements:
            curve = segment.at(segment.basis.fine)[0]
            finer = _settle(dynamics, 2 * segment.basis.n, curve, 0.01 * rtol, chain.action)
            chain.changes[i] = abs(segment.action - finer.action)
            segment = chain.segments[i] = finer
    return chain


def _from_cycle(process: Process, cycle: Cycle, end: Array, rtol: float, max_elements: int) -> Path:
    """Turns around the cycle are added until they lower the action no more; it is left where that costs least."""
    dynamics = _dynamics(process, cycle.points.mean(axis=0), end)
    loop, target = dynamics.from_state(cycle.points), dynamics.from_state(end[None])
    curves = []
    for phase in range(0, len(loop), len(loop) // 4):
        turned = np.roll(loop, -phase, axis=0)
        away = turned[0] + np.linspace(0.0, 1.0, 129)[:, None] * (target - turned[0])
        curves.append(np.concatenate([np.tile(turned, (TURNS, 1)), away]))
    chain = _first(dynamics, curves, PER_TURN * (TURNS + 1))
    most = max(max_elements, 4 * PER_TURN * (MOST_TURNS + 1))
    chain = _refine(dynamics, _part(dynamics, chain, SLACK[0]), rtol, most)
    turns, gain = TURNS, np.inf
    while turns < MOST_TURNS and gain > 0.3 * rtol * chain.action:
        first, turns = chain.segments[0], turns + 1
        curve = first.at(first.basis.fine)[0]
        start = int(np.argmin(np.linalg.norm(loop - curve[0], axis=1)))
        longer = np.concatenate([np.roll(loop, -start, axis=0), curve])
        n = round(first.basis.n * (turns + 1) / turns)
        new = _settle(dynamics, n, longer, 0.01 * rtol)
        gain = first.action - new.action
        if gain > 0.0:
            chain.segments[0] = new
    return _result(dynamics, chain, rtol, len(curves), {"turns": turns}, abs(gain))


# ---- results ------------------------------------------------------------------------------------------------------


def _result(dynamics: Dynamics, chain: _Chain, rtol: float, starts: int, info: dict[str, Any], extra: float = 0.0) -> Path:
    """Points, cumulative action, fixed points and the estimate with its assumptions."""
    points, cumulative, offset = [], [], 0.0
    for k, segment in enumerate(chain.segments):
        skip = 1 if k else 0
        points.append(segment.at(np.linspace(0.0, 1.0, segment.basis.n + 1))[0][skip:])
        sums = np.cumsum(panel_actions(dynamics, segment))
        cumulative.append(np.concatenate([[offset], offset + sums])[skip:])
        offset += float(sums[-1])
    curve = np.concatenate(points)
    noise = _noise_along(dynamics, chain)
    action, error = offset, float(sum(chain.changes)) + extra
    if noise.name == IMPERMEABLE:
        action, error = np.inf, 0.0
    settled = "held" if error <= 2.0 * _enough(dynamics, chain, rtol) else "failed"
    elements = sum(s.basis.n for s in chain.segments)
    lowest = f"lowest of {starts} initial curves" if starts > 1 else "one initial curve"
    notes = [noise, Assumption("no path of lower action elsewhere", "unknown", lowest)]
    if np.isfinite(action):
        notes.append(Assumption(f"the action settles to {rtol:g} of itself", settled, f"{elements} elements"))  # type: ignore[arg-type]
    fixed = _fixed_points(dynamics, chain)
    iterations = sum(s.iterations for s in chain.segments)
    return Path(
        dynamics.to_state(curve),
        Estimate(action, discretization_error=error, assumptions=tuple(notes), method=METHOD),
        np.concatenate(cumulative),
        dynamics.drift(curve) @ dynamics.W.T,
        dynamics.to_state(fixed),
        [_unstable(dynamics, y) for y in fixed],  # type: ignore[arg-type]
        METHOD,
        tuple(str(note) for note in notes if note.status == "failed"),
        {"elements": elements, "initial curves": starts, "iterations": iterations, **info},
    )


def _fixed_points(dynamics: Dynamics, chain: _Chain) -> Array:
    """Ends of the curves in which the drift vanishes, in order."""
    first = [chain.segments[0].control[0]] if chain.segments[0].basis.ends[0] else []
    rest = [s.control[-1] for s in chain.segments if s.basis.ends[1]]
    return np.array([*first, *rest]).reshape(-1, dynamics.dim)


def _unstable(dynamics: Dynamics, y: Array) -> int:
    return int(np.sum(np.linalg.eigvals(dynamics.slope(y[None])[0]).real > 0.0))


def _noise_along(dynamics: Dynamics, chain: _Chain) -> Assumption:
    """Whether D stays positive definite; where it does not, whether the action along the curve is finite."""
    lowest = np.inf
    for segment in chain.segments:
        smallest, integrand = _along(dynamics, segment)
        u = np.linspace(0.0, 1.0, 32 * segment.basis.n + 1)
        D = smallest(u)
        lowest = min(lowest, float(D.min()))
        if dynamics.process.noise.is_constant:
            continue
        padded = np.concatenate([[np.inf], D, [np.inf]])
        dips = np.flatnonzero((D < 1e-2 * D.max()) & (D < padded[:-2]) & (D <= padded[2:]))
        for i in dips[np.argsort(D[dips])][:4]:
            at = lowest_place(smallest, float(u[max(i - 1, 0)]), float(u[min(i + 1, len(u) - 1)]))
            if float(smallest(np.array([at]))[0]) > NO_NOISE:
                continue
            where = np.array2string(dynamics.to_state(segment.at(np.array([at]))[0])[0], precision=5)
            if growth(integrand, at, 1.0) >= DIVERGES:
                return Assumption(IMPERMEABLE, "failed", f"impermeable: D = 0 on the path with inward drift at {where}")
            return Assumption(POSITIVE, "failed", f"D is singular at {where}, where the action stays finite")
    return Assumption(POSITIVE, "held", f"its smallest eigenvalue falls to {lowest:.3g} of the mean")


def _along(dynamics: Dynamics, segment: Segment) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Smallest eigenvalue of the tensor, and action per unit of u, as functions of u."""

    def smallest(u: Array) -> Array:
        return np.asarray(np.linalg.eigvalsh(dynamics.tensor(segment.at(u)[0]))[:, 0])

    def integrand(u: Array) -> Array:
        y, v = segment.at(np.clip(u, 0.0, 1.0))
        return density(dynamics, y, v).value

    return smallest, integrand
