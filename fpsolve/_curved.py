r"""Valleys whose floor is a curve: the slow coordinate is arc length, its law the projection onto the curve of minima.

The floor is where the drift b has no component off the slow eigenvector of its Jacobian J, gamma(s) with s the arc length.
Let theta(x) be the arc length at which the flow of b started at x ends. On the floor its gradient is the left slow eigenvector l,
l . gamma' = 1, and its second derivative T follows from theta(x + h b(x)) = theta(x), h the learning rate (h -> 0: the flow),

    T gamma' = dl/ds,    J^T T + T J + h J^T T J = -l . d^2 b/dx^2   on the fast directions, those with l . z = 0,

so that to leading order in the noise Ito's formula for theta(X) is a process on the curve (J, D, b at gamma(s))

    drift  l . b + tr(T D),    diffusion  D_s = l . D l.

Where D_s vanishes on the floor the diffusion is the average of v . D v, v = l + T (1 + h J) z, over the Gaussian z with
J S + S J^T + h J S J^T = -2 D, and h tr(T D T D) from the curvature of theta within a step.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fpsolve._escape_laws import _status
from fpsolve._valley import _CENTRAL, _SMALL, _Case, _integral, _lyapunov, _minimum, _points, _slope, _trace
from fpsolve.results import Assumption, EffectiveLoss, Estimate

__all__ = ["along_floor"]

Array = npt.NDArray[np.float64]

#: Largest turn of one step along the floor, change of the softest curvature, steps in one direction, halvings of a step.
_TURN, _RATIO, _STEPS, _HALVINGS = 0.1, 1.5, 3000, 20
#: Steps of differences over the length of the curve, and over its least radius.
_STEP, _BEND = 1e-3, 0.01
#: Midpoints are put between the points of the trace so many times; the curve is then an interpolation of fifth degree.
_REFINED = 3
#: Weights of the second difference of fourth order at 0, 1, 2 steps.
_SECOND = (-5 / 2, 4 / 3, -1 / 12)


def along_floor(case: _Case, x: npt.ArrayLike | None, floor: npt.ArrayLike, n: int) -> EffectiveLoss:
    """The effective loss along the curve of minima through a point near it; without a range the curve must close."""
    curve = _trace_floor(case, floor, None if x is None else _points(x, n))
    points = np.linspace(0.0, curve.length, int(_points((0.0, 1.0), n).size)) if x is None else _points(x, n)
    at = _expand(curve, points)
    if curve.closed:
        at.close()
    loss = -_integral(points, at.pull)
    even = float(np.ptp(loss)) <= 1e-8 * float(at.normal.max())  # no place is better than another
    minimum, inside = (float(points[0]), False) if even else _least(curve, points, at.pull, loss)

    def pull(s: float) -> float:
        return float(_expand(curve, np.array([s])).pull[0])

    inner = np.array([-math.inf, math.inf]) if curve.closed else points
    rate = 0.0 if even else -_slope(pull, minimum, curve.h, inner)
    law = _density(curve, points, at, minimum, rate)
    assumptions = _assumptions(curve, points, at, rate, inside)
    unit: dict[str, Any] = {"lr": case.lr or None, "method": "projection onto the floor", "assumptions": assumptions}
    weight = np.exp(law) if np.all(np.isfinite(law)) else None
    across = np.asarray(np.linalg.eigvalsh(at.S)[:, ::-1], float)
    mean = np.interp(minimum, points, at.flatness) if weight is None else np.trapezoid(weight * at.flatness, points)
    potential = case.process.potential
    return EffectiveLoss(
        x=points, floor=-_integral(points, at.tilt) if potential is None else potential(at.q), loss=loss - loss.min(),
        force=at.force, drift=at.force, diffusion=at.diffusion, spread=at.diffusion, variance=across,
        flatness=at.flatness, anisotropy=at.anisotropy, validity=at.validity, log_density=law, corrected=law,
        minimum=Estimate(minimum, discretization_error=1e-9 * float(points[-1] - points[0]), **unit),
        relaxation=Estimate(1.0 / rate if rate > 0.0 else math.inf, unit="time", **unit),
        order=Estimate(float(mean) / float(at.flatness.max()), **unit),
        bounds=_bounds(case, at), assumptions=assumptions, lr=case.lr or None, points=at.q, closed=curve.closed,
    )  # fmt: skip


# ---- the curve --------------------------------------------------------------------------------------------------------


@dataclass
class _Frame:
    """Points on the floor with the slow eigenvectors there."""

    q: Array  # (n, d)
    left: Array  # (n, d), left . right = 1
    right: Array  # (n, d), of length 1
    slow: Array  # (n,) slow eigenvalue
    fast: npt.NDArray[np.complex128]  # (n, d - 1) curvatures across
    J: Array  # (n, d, d)

    def softest(self, lr: float) -> Array:
        """Least relaxation rate across: > 0 where the floor attracts."""
        return np.asarray((self.fast.real - 0.5 * lr * np.abs(self.fast) ** 2).min(axis=1))


@dataclass
class _Curve:
    case: _Case
    spline: Any
    length: float
    closed: bool
    h: float  # step of differences along the curve, and across

    def frame(self, s: Array) -> tuple[_Frame, Array]:
        """The floor at arc lengths (n,), and its tangents."""
        u = np.mod(s, self.length) if self.closed else s
        tangent = self.spline(u, 1)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        frame = _onto(self.case, self.spline(u), tangent)
        if frame is None:
            raise _lost(self.case, self.spline(u)[0], None)
        _check(self.case, frame)
        frame.left /= np.einsum("ni,ni->n", frame.left, tangent)[:, None]
        return frame, tangent


def _frame(case: _Case, q: Array, guide: Array | None) -> _Frame | None:
    """Eigenvectors at points (n, d): the slow one is that along `guide`, or that of the smallest eigenvalue."""
    J, every = case.jacobian(q), np.arange(len(q))
    w, V = np.linalg.eig(J)
    k = np.abs(w).argmin(axis=1) if guide is None else np.abs(np.einsum("nij,ni->nj", V, guide)).argmax(axis=1)
    slow, right = w[every, k], V[every, :, k]
    other, U = np.linalg.eig(np.swapaxes(J, 1, 2))
    left = U[every, :, np.abs(other - slow[:, None]).argmin(axis=1)]
    if np.any(np.abs(np.imag(slow)) > 0.0):
        return None
    right, left = right.real.copy(), left.real.copy()
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    if guide is not None:
        right *= np.where(np.einsum("ni,ni->n", right, guide) < 0.0, -1.0, 1.0)[:, None]
    overlap = np.einsum("ni,ni->n", left, right)
    if np.any(np.abs(overlap) < 1e-6):
        return None
    fast = -w[np.arange(w.shape[1]) != k[:, None]].reshape(len(q), -1).astype(complex)
    return _Frame(q, left / overlap[:, None], right, slow.real, fast, J)


def _onto(case: _Case, q: Array, guide: Array | None) -> _Frame | None:
    """Newton's iteration in the fast directions until the drift has no component there; None where it fails."""
    size = 1.0 + float(np.abs(q).max())
    for _ in range(60):
        frame = _frame(case, q, guide)
        if frame is None:
            return None
        b = case.process.drift(q)
        off = b - np.einsum("ni,ni,nj->nj", frame.left, b, frame.right)
        # the slow direction is given a curvature of its own, so that the matrix is regular
        shift = np.abs(frame.J).max(axis=(1, 2))[:, None, None] * frame.right[:, :, None] * frame.left[:, None, :]
        try:
            step = np.linalg.solve(frame.J - shift, -off[..., None])[..., 0]
        except np.linalg.LinAlgError:
            return None
        q = q + step
        if not np.all(np.isfinite(q)) or np.abs(q).max() > 1e3 * size:
            return None
        if np.abs(step).max() <= 1e-13 * size:
            return _frame(case, q, guide)
    return None


def _lost(case: _Case, point: Array, frame: _Frame | None, why: str = "it ends or branches there") -> ValueError:
    curvature = "" if frame is None else f"; the least curvature across it is {frame.fast.real.min():.3g}"
    return ValueError(f"effective_loss: the floor cannot be followed beyond {np.round(point, 4).tolist()}: {why}{curvature}; "
                      "take a shorter range of x")  # fmt: skip


def _check(case: _Case, frame: _Frame) -> None:
    soft = frame.softest(case.lr)
    if np.all(soft > 0.0):
        return
    i = int(np.argmin(soft))
    limit = f" and below 2/lr = {2.0 / case.lr:.4g}" if case.lr else ""
    raise ValueError(
        f"effective_loss: at {np.round(frame.q[i], 4).tolist()} the floor does not attract: the curvatures across it are "
        f"{np.round(frame.fast[i].real, 6).tolist()}, and each must be > 0{limit}; narrow the range of x, or lower lr"
    )


def _start(case: _Case, floor: npt.ArrayLike) -> _Frame:
    guess = np.asarray(floor, float)
    if guess.shape != (case.process.dim,) or not np.all(np.isfinite(guess)):
        raise ValueError(f"floor must be a point of {case.process.dim} finite numbers near the floor, got {floor!r}")
    first = _reach(case, guess)
    _check(case, first)
    if float(first.softest(case.lr)[0]) < 2.0 * abs(float(first.slow[0])):
        raise ValueError(
            f"effective_loss: at {np.round(first.q[0], 4).tolist()} no single direction is slow: the curvatures are "
            f"{-first.slow[0]:.4g} and {np.round(first.fast[0].real, 4).tolist()}; give a point on a floor that is a curve"
        )
    largest = int(np.abs(first.right[0]).argmax())
    sign = math.copysign(1.0, first.right[0, largest])
    first.right, first.left = sign * first.right, sign * first.left
    return first


def _reach(case: _Case, guess: Array) -> _Frame:
    """The floor from a guess: at once where a direction is clearly slow, else after the drift has carried it some way."""
    from scipy.integrate import solve_ivp

    found, q = None, guess
    for _ in range(20):
        frame = _onto(case, q[None], None)
        if frame is not None and float(frame.softest(case.lr)[0]) > 0.0:
            found = frame
            if abs(float(frame.slow[0])) < _SMALL * float(frame.softest(case.lr)[0]):
                return frame
        size = float(np.abs(case.jacobian(q[None])).max())
        moved = solve_ivp(lambda _, state: case.process.drift(state), (0.0, 3.0 / max(size, 1e-300)), q, method="LSODA")
        if not np.all(np.isfinite(moved.y[:, -1])):
            break
        q = moved.y[:, -1]
    frame = found if found is not None else _onto(case, guess[None], None)
    if frame is None:
        raise ValueError(f"effective_loss: no floor near {guess.tolist()}, or more than one slow direction; give another point")
    return frame


def _trace_floor(case: _Case, floor: npt.ArrayLike, x: Array | None) -> _Curve:
    """The floor through the start as a curve over its arc length, zero at the start."""
    first = _start(case, floor)
    margin = 0.0 if x is None else 0.02 * float(x[-1] - x[0])
    step = 0.01 * (1.0 + float(np.abs(first.q).max()))
    nodes, closed = _follow(case, first, 1.0, math.inf if x is None else float(x[-1]) + margin, step)
    before: list[Array] = []
    if x is not None:
        if not closed:
            before, closed = _follow(case, first, -1.0, margin - float(x[0]), step)
        if closed:
            raise ValueError("effective_loss: the floor closes within the range of x; leave x out for the whole of it, or take a "
                             "shorter range")  # fmt: skip
    points = np.array([*before[:0:-1], *nodes, *(nodes[:1] if closed else [])])
    for _ in range(_REFINED):
        middle = _onto(case, 0.5 * (points[1:] + points[:-1]), np.diff(points, axis=0))
        if middle is None:
            raise _lost(case, points[0], None)
        both = np.empty((2 * len(points) - 1, points.shape[1]))
        both[::2], both[1::2] = points, middle.q
        points = both
    spline, knots = _by_arc(points, (max(len(before), 1) - 1) * 2**_REFINED, closed)
    length = float(knots[-1] - knots[0]) if x is None else float(x[-1] - x[0])
    bend = float(np.linalg.norm(spline(knots, 2), axis=1).max())
    return _Curve(case, spline, length, closed, min(_STEP * length, _BEND / bend if bend > 0.0 else math.inf))


def _follow(case: _Case, first: _Frame, sign: float, reach: float, step: float) -> tuple[list[Array], bool]:
    """Points from the start on, past a length, or until the curve closes."""
    start, q, t = first.q[0], first.q[0], sign * first.right[0]
    points, soft, length, away, ahead = [q], float(first.softest(case.lr)[0]), 0.0, False, t
    frame: _Frame | None = first
    least = step * 2.0**-_HALVINGS
    while length < reach:
        new = _onto(case, (q + step * t)[None], t[None])
        good = new is not None and _near(new, q + step * t, step, t, soft, case.lr)
        if not good:
            frame, step = new if new is not None else frame, 0.5 * step
            if step < least:
                raise _lost(case, q, frame)
            continue
        assert new is not None
        gap = new.q[0] - start
        distance = float(np.linalg.norm(gap))
        if away and distance <= 2.0 * step and float(gap @ ahead) >= 0.0 and float(new.right[0] @ ahead) > 0.5:
            return (points if float(np.linalg.norm(q - start)) > 0.01 * step else points[:-1]), True
        away = away or distance > 3.0 * step
        length += float(np.linalg.norm(new.q[0] - q))
        turn = float(np.linalg.norm(new.right[0] - t))
        q, t, soft = new.q[0], new.right[0], float(new.softest(case.lr)[0])
        points.append(q)
        if len(points) > _STEPS or np.abs(q).max() > 1e4 * (1.0 + np.abs(start).max() + (reach if math.isfinite(reach) else 0.0)):
            hint = "it does not close; give a range of x" if math.isinf(reach) else "too many steps"
            raise _lost(case, q, new, hint)
        step *= 1.5 if turn < 0.5 * _TURN else 1.0
        if math.isfinite(reach):
            step = min(step, 0.05 * reach)
    return points, False


def _near(new: _Frame, predicted: Array, step: float, t: Array, soft: float, lr: float) -> bool:
    """Whether a step has landed where the curve went: little turned, little beside, curvatures across of the same size."""
    found = float(new.softest(lr)[0])
    beside = float(np.linalg.norm(new.q[0] - predicted))
    turned = float(np.linalg.norm(new.right[0] - t))
    return turned <= _TURN and beside <= 0.2 * step and soft / _RATIO < found < soft * _RATIO


def _by_arc(points: Array, origin: int, closed: bool) -> tuple[Any, Array]:
    """Interpolation of fifth degree over arc length, zero at the point `origin`."""
    from scipy.interpolate import make_interp_spline

    u = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    ends = "periodic" if closed else None
    first = make_interp_spline(u, points, k=5, bc_type=ends)
    roots, weights = np.polynomial.legendre.leggauss(5)
    half = 0.5 * np.diff(u)
    inside = (u[:-1] + half)[:, None] + half[:, None] * roots
    s = np.concatenate([[0.0], np.cumsum((np.linalg.norm(first(inside, 1), axis=-1) @ weights) * half)])
    s -= s[origin]
    return make_interp_spline(s, points, k=5, bc_type=ends), s


# ---- what the noise does on it ----------------------------------------------------------------------------------------


@dataclass
class _Local:
    """The process on the curve at every s."""

    q: Array
    force: Array  # Ito drift of s
    pull: Array  # force - dD_s/ds: what the density per length goes down
    tilt: Array  # l . b
    level: Array  # D_s on the floor
    diffusion: Array  # D_s, or where it vanishes its next order
    growth: Array  # next order of the diffusion
    bare: Array  # part of it that is the growth of D off the floor
    normal: Array  # mean of D across
    S: Array  # (n, m, m) covariance across
    J: Array  # (n, m, m) curvatures across
    slow: Array  # slow eigenvalue
    skew: Array  # angle between slow eigenvector and floor
    beyond: Array  # how far the restoring force at one standard deviation is from linear

    @property
    def flatness(self) -> Array:
        return np.asarray(np.linalg.det(self.J).clip(1e-300) ** -0.5)

    @property
    def anisotropy(self) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(self.normal / np.maximum(self.level + self.bare, 0.0))

    @property
    def validity(self) -> Array:
        return np.asarray(np.abs(self.growth) / (self.level if self.level.min() > 1e-9 * self.normal.max() else self.normal))

    def close(self) -> None:
        """The last point is the first."""
        for value in vars(self).values():
            value[-1] = value[0]


def _expand(curve: _Curve, s: Array) -> _Local:
    case, h, n = curve.case, curve.h, s.size
    offsets = np.array([0.0, *(j for j, _ in _CENTRAL)])
    frames, tangents = curve.frame((s + h * offsets[:, None]).ravel())
    left, d = frames.left, case.process.dim
    D = case.process.diffusion(frames.q)
    levels = np.einsum("ni,nij,nj->n", left, D, left).reshape(-1, n)
    by_arc = left.reshape(-1, n, d)
    slope = sum(weight / h * by_arc[i + 1] for i, (_, weight) in enumerate(_CENTRAL))
    steeper = sum(weight / h * levels[i + 1] for i, (_, weight) in enumerate(_CENTRAL))
    q, left, D, J, tangent = frames.q[:n], left[:n], D[:n], frames.J[:n], tangents[:n]
    W = np.swapaxes(np.linalg.svd(left[:, None, :])[2][:, 1:], 1, 2)  # fast directions, orthonormal, l . W = 0
    dual = np.swapaxes(W - left[:, :, None] * np.einsum("ni,nik->nk", tangent, W)[:, None, :], 1, 2)
    inner = -np.swapaxes(W, 1, 2) @ J @ W
    across = dual @ D @ np.swapaxes(dual, 1, 2)
    T = _lyapunov(inner, _bent(case, q, left, W, h), case.lr, transposed=True)
    S = _lyapunov(inner, 2.0 * across, case.lr)
    along = np.einsum("ni,nik->nk", np.asarray(slope), W)  # gamma' . T W
    push = np.einsum("ni,ni->n", left, case.process.drift(q))
    mixed = np.einsum("nk,nki,nij,nj->n", along, dual, D, left)
    force = push + np.einsum("ni,ni->n", np.asarray(slope), tangent) * levels[0] + 2.0 * mixed + _trace(T, across)
    # covectors T W (1 + h J), in the coordinates of the plane
    turning = (along[:, :, None] * left[:, None, :] + T @ dual).swapaxes(1, 2) @ (np.eye(d - 1) - case.lr * inner)
    growth, bare = _growth(case, q, left, W, S, turning, h)
    growth = growth + case.lr * _trace(T @ across, T @ across)
    level = levels[0]
    normal = np.einsum("nii->n", across) / (d - 1)
    empty = bool(level.max() <= 1e-9 * float(normal.max()))
    skew = np.linalg.norm(frames.right[:n] - tangent, axis=1)
    return _Local(q, force, force if empty else force - steeper, push, level, growth if empty else level, growth, bare, normal, S,
                  inner, frames.slow[:n], skew, _beyond(case, q, W, dual, inner, S))  # fmt: skip


def _bent(case: _Case, q: Array, left: Array, W: Array, h: float) -> Array:
    """l . d^2 b/dx^2 on the fast directions."""
    out = np.zeros((len(q), W.shape[2], W.shape[2]))
    for k in range(W.shape[2]):
        for j, weight in _CENTRAL:
            out[:, :, k] += weight / h * np.einsum("ni,nij,njm->nm", left, case.jacobian(q + j * h * W[:, :, k]), W)
    return 0.5 * (out + np.swapaxes(out, 1, 2))


def _growth(case: _Case, q: Array, left: Array, W: Array, S: Array, turning: Array, h: float) -> tuple[Array, Array]:
    """Average of v . D v, v = l + T (1 + h J) z, less its value on the floor; and the same for v = l."""
    values, vectors = np.linalg.eigh(S)
    total, bare = np.zeros(len(q)), np.zeros(len(q))
    for k in range(W.shape[2]):
        z, turned = (np.einsum("nij,nj->ni", A, vectors[:, :, k]) for A in (W, turning))
        for j in (-2, -1, 0, 1, 2):
            D, v = case.process.diffusion(q + j * h * z), left + j * h * turned
            weight = 0.5 * values[:, k] * _SECOND[abs(j)] / h**2
            total += weight * np.einsum("ni,nij,nj->n", v, D, v)
            bare += weight * np.einsum("ni,nij,nj->n", left, D, left)
    return total, bare


def _beyond(case: _Case, q: Array, W: Array, dual: Array, inner: Array, S: Array) -> Array:
    values, vectors = np.linalg.eigh(S)
    worst = np.zeros(len(q))
    for k in range(W.shape[2]):
        z = np.sqrt(values[:, k].clip(0.0))[:, None] * vectors[:, :, k]
        linear = (inner @ z[..., None])[..., 0]
        size = np.linalg.norm(linear, axis=1)
        for sign in (1.0, -1.0):
            there = case.process.drift(q + sign * np.einsum("nij,nj->ni", W, z))
            off = np.linalg.norm(np.einsum("nkj,nj->nk", dual, there) + sign * linear, axis=1)
            worst = np.maximum(worst, off / np.where(size > 0.0, size, 1.0))
    return worst


# ---- where it goes ----------------------------------------------------------------------------------------------------


def _least(curve: _Curve, x: Array, pull: Array, loss: Array) -> tuple[float, bool]:
    """Least point of the effective loss; a closed curve is cut where the loss is largest."""

    def exact(s: float) -> float:
        return float(_expand(curve, np.array([s])).pull[0])

    if not curve.closed:
        return _minimum(x, pull, exact)
    top = int(np.argmax(loss[:-1]))
    found, inside = _minimum(x + x[top], np.roll(pull[:-1], -top)[np.arange(x.size) % (x.size - 1)], exact)
    return float(np.mod(found, curve.length)), inside


def _density(curve: _Curve, x: Array, at: _Local, minimum: float, rate: float) -> Array:
    """ln of the density per length: no flux through the ends, or one that is the same all around; NaN where not resolved."""
    D = at.diffusion
    narrow = rate > 0.0 and float(np.interp(minimum, x, D)) / rate < (2.0 * float(np.diff(x).max())) ** 2
    if narrow or np.any(D <= 0.0):
        return np.full(x.size, np.nan)
    rise = _integral(x, at.force / D)
    log = rise - np.log(D)
    if curve.closed and abs(float(rise[-1])) > 1e-9:
        # p = (1/D) e^r [int_s^L e^-r + e^-r(L) int_0^s e^-r], all terms positive
        steps = np.logaddexp(-rise[1:], -rise[:-1]) + np.log(0.5 * np.diff(x))
        up, down = (np.concatenate([[-np.inf], np.logaddexp.accumulate(part)]) for part in (steps, steps[::-1]))
        log = log + np.logaddexp(down[::-1], up - float(rise[-1]))
    log = log - log.max()
    return np.asarray(log - math.log(float(np.trapezoid(np.exp(log), x))))


def _bounds(case: _Case, at: _Local) -> dict[str, Estimate]:
    """As for a straight floor, where D is larger across than along; the second moment needs the second order and is left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        grows = (at.bare > 1e-9 * at.normal) & (at.normal > at.level)
        factors = np.where(grows, (at.normal - at.level) / at.bare, np.inf)
    word = "theory-derived, not a published number"
    out = {"anisotropy": Estimate(max(float(factors.min()), 0.0), method=f"kappa = 1 somewhere in the range; {word}")}
    if case.lr:
        stiffest = float(np.abs(np.linalg.eigvals(at.J)).max())
        out["step"] = Estimate(2.0 / (case.lr * stiffest), lr=case.lr, method="lr times the largest curvature = 2")
    return out


def _assumptions(curve: _Curve, x: Array, at: _Local, rate: float, inside: bool) -> tuple[Assumption, ...]:
    softest = float(np.linalg.eigvals(at.J).real.min())
    pace = max(rate, float(np.abs(at.slow).max()))
    width = np.sqrt(np.linalg.eigvalsh(at.S)[:, -1].clip(0.0))
    bend = np.linalg.norm(curve.spline(np.mod(x, curve.length) if curve.closed else x, 2), axis=1)
    bent, worst, push, skew = (float(v.max()) for v in (width * bend, at.validity, at.beyond, at.skew))
    pair = f"rate {pace:.3g}, fast ones from {softest:.3g}"
    where = f"length {curve.length:.4g}, closed" if curve.closed else f"[{x[0]:.4g}, {x[-1]:.4g}]"
    out = [
        Assumption("the slow direction runs along the floor", _status(skew <= _SMALL), f"angle {skew:.3g}"),
        Assumption("the slow coordinate is slow", _status(pace <= _SMALL * softest), pair),
        Assumption("the floor is straight across its fluctuations", _status(bent <= _SMALL), f"width times curvature {bent:.3g}"),
        Assumption("fluctuations of the force are small", _status(worst <= _SMALL), f"{worst:.3g} of the noise along the valley"),
        Assumption("the valley is parabolic across its fluctuations", _status(push <= _SMALL), f"force off by {push:.3g}"),
        Assumption("the minimum of the effective loss is inside the range", _status(inside), where),
    ]  # fmt: skip
    if curve.case.lr:
        ends = float(np.linalg.eigvals(at.J).real.max()) * curve.case.lr
        out.append(Assumption("lr times the largest curvature < 2", "held", f"{ends:.3g}"))
    return tuple(out)
