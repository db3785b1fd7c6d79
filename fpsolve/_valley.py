"""Adiabatic elimination: the loss that the slow coordinate of a valley descends when SGD noise shakes the fast ones.

Coordinates x (slow, one) and z = y - y_0(x) (fast, any number) around the floor b_y(x, y_0) = 0. With J = -d b_y/dy there, z is
Gaussian at fixed x with J S + S J^T - h J S J^T = 2 <D_yy>, h the learning rate (0: continuous time). With Q = d^2 b_x/dy^2 the
force fluctuates by f = (z Q z - tr Q S)/2, and phi = (z R z - tr R S)/2, J^T R + R J - h J^T R J = Q, is what it adds up to while
z forgets. To second order in the noise (projection on x; brackets are averages over z)

    drift     <b_x> + <b_x phi_x> + 2 <D_xy . grad phi_x> + <D_xx><phi_xx>
    diffusion <D_xx> + <f phi> - h <f^2>/2 + 2 <D_xy . M^T grad phi> + 2 <D_xx><phi_x>,    M = 1 - h J.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fpsolve._checks import numbers
from fpsolve._escape_laws import _positive, _status
from fpsolve.results import Assumption, EffectiveLoss, Estimate

if TYPE_CHECKING:
    from fpsolve.process import Process

__all__ = ["effective_loss", "slow_process"]

Array = npt.NDArray[np.float64]

#: What the verdicts call small; steps of differences across the valley, in standard deviations there.
_SMALL, _STEP = 0.1, 0.1
#: Weights of the central difference of fourth order at -2, -1, 1, 2 steps.
_CENTRAL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


def effective_loss(
    process: Any, x: npt.ArrayLike | None = None, *, lr: float | None = None, slow: int = 0, fast: npt.ArrayLike | None = None,
    floor: npt.ArrayLike | None = None, n: int = 801,
) -> EffectiveLoss:  # fmt: skip
    r"""Eliminate the fast coordinates of a valley: the effective loss, force and diffusion of the slow one.

    For a valley :math:`L = \lambda(x) y^2/2 + L_0(x)` whose noise makes y fluctuate with variance S(x),

    .. math:: U(x) = L_0(x) + \tfrac12 \int^x \lambda'(u)\, S(u)\, du .

    With constant noise of strength D_yy = Delta, S = Delta/lambda and :math:`U = L_0 - \Delta \ln F`, F = lambda^(-1/2) the
    flatness; with shifted minima, D = (lr sigma^2/2) H^2, :math:`U = L_0 + (lr\, \sigma^2/8) \lambda^2`. The slow coordinate goes
    to the minimum of U, however small the noise along the valley is; that noise decides how sharply (kappa = D_yy/D_xx):
    :math:`p(x) \propto \exp(-\kappa U/\Delta)`. All is found from the process by expansion around the floor, to first order
    (`force`, `diffusion`, `loss`, `log_density`) and to second order in the noise (`drift`, `spread`, `corrected`), where the
    force that fluctuates with y and the correlation of the two noises add to the diffusion.

    Parameters
    ----------
    process : Process or SGDChain
        With a Gaussian chain its learning rate enters: S is that of the chain, and a slope of lr lambda >= 2 is refused.
    x : (lo, hi) or array
        Range of the slow coordinate, with reflecting ends, or increasing points. With `floor` it is arc length from that point, in
        the direction in which the coordinate that changes most grows; without x such a floor must be a closed curve.
    lr : float, optional
        Learning rate of a Process that stands for a Gaussian chain.
    slow : int
        Axis of the slow coordinate; the floor must run along it.
    fast : array (d - 1,), optional
        Guess of the other coordinates on the floor; default zero.
    floor : array (d,), optional
        A point near a floor that is a curve, which is followed from there: a ring, the factors of a product, a tilted or bent
        valley, flat or nearly so. Drift and diffusion along it are of leading order, in arc length; see `EffectiveLoss.points`.
    n : int
        Points, for a range or a closed floor.

    Returns
    -------
    EffectiveLoss

    Raises
    ------
    TypeError, ValueError
        For another kind of chain, one dimension, a range that is none, no floor near the guess, directions that are not stable, or
        a floor that ends or branches within the range.

    References
    ----------
    N. Yang, C. Tang, Y. Tu, arXiv:2206.01246 (Eqs. 7 and 11, for constant noise, as others report them: re-derived). The second
    order is derived in the source by projection, see G. Pavliotis and A. Stuart, Multiscale Methods (2008), ch. 11. Curves of
    minima: G. Katzenberger, Ann. Probab. 19, 1587 (1991); I. Fatkullin, G. Kovacic, E. Vanden-Eijnden, Commun. Math. Sci. 8, 439
    (2010); Z. Li, T. Wang, S. Arora, ICLR 2022. The formulas are derived in the source.

    Examples
    --------
    >>> import fpsolve as fps
    >>> valley = fps.potentials.degenerate_valley("1 + 4*x**2", "0.02*(x - 1)**2")
    >>> effective = effective_loss(fps.Process(valley, fps.Noise.diagonal([0.01, 0.05])), (-2.0, 2.0))
    >>> x = effective.minimum.value                 # L_0' = 0.05 F'/F, far from the lowest point of the floor, 1
    >>> round(x, 4), abs(0.04*(x - 1) + 0.05*4*x/(1 + 4*x**2)) < 1e-9
    (0.1853, True)

    Two factors of one number: from (2, 0.5) noise of shape H balances them.

    >>> factors = fps.potentials.product()
    >>> process = fps.Process(factors, fps.Noise.shifted_minima(factors, 0.2, 0.02))
    >>> effective_loss(process, (-2.5, 0.5), floor=[2.0, 0.5]).place.round(6)
    array([1., 1.])
    """
    case = _pose(process, lr, slow, fast)
    if floor is not None:
        if slow != 0 or fast is not None:
            raise ValueError("effective_loss: floor= is a point of all coordinates; leave slow and fast out")
        from fpsolve._curved import along_floor

        return along_floor(case, x, floor, n)
    if x is None:
        raise ValueError("effective_loss needs a range x, or floor=, a point on a floor that closes")
    points = _points(x, n)
    at = _expand(case, points)
    second = _second_order(case, points, at)
    force = _force(case, points)
    minimum, inside = _minimum(points, at.force, force)
    slope = _slope(force, minimum, 1e-3 * float(points[-1] - points[0]), points)
    loss = -_integral(points, at.force)
    rate = -slope
    law, corrected = _densities(points, at, second, minimum, rate)
    unit: dict[str, Any] = {"lr": case.lr or None, "method": "adiabatic elimination"}
    validity = np.maximum(second.fluctuating, at.growth)
    assumptions = _assumptions(case, points, at, validity, rate, inside, loss)
    return EffectiveLoss(
        x=points, floor=case.floor(points, at), loss=loss - loss.min(), force=at.force, drift=second.drift,
        diffusion=second.leading, spread=second.spread, variance=np.einsum("nii->ni", at.S), flatness=at.flatness,
        anisotropy=at.anisotropy,
        validity=validity, log_density=law, corrected=corrected,
        minimum=Estimate(minimum, discretization_error=1e-9 * (points[-1] - points[0]), assumptions=assumptions, **unit),
        relaxation=Estimate(1.0 / rate if rate > 0.0 else math.inf, unit="time", assumptions=assumptions, **unit),
        order=_order(points, at, law, corrected, minimum, assumptions, unit),
        bounds=_bounds(case, points, at, minimum, inside),
        assumptions=assumptions, lr=case.lr or None,
    )  # fmt: skip


def slow_process(effective: EffectiveLoss, *, leading: bool = False) -> "Process":
    """The slow coordinate as a process on a line, for every engine: its drift and diffusion at second or leading order.

    Linear between the points of `effective`, constant beyond.

    Parameters
    ----------
    effective : EffectiveLoss
        With equally spaced points.
    leading : bool

    Returns
    -------
    Process

    Raises
    ------
    TypeError, ValueError
        For something else, unequally spaced points, or a diffusion that is negative somewhere: the noise is too strong.

    Examples
    --------
    >>> import fpsolve as fps
    >>> valley = fps.Process(fps.potentials.degenerate_valley(), fps.Noise.diagonal([0.002, 0.01]))
    >>> line = slow_process(effective_loss(valley, (-2.0, 2.0)), leading=True)
    >>> line.dim, line.diffusion([1.0])
    (1, array([[0.002]]))
    """
    from fpsolve._code import TableCode
    from fpsolve.noise import Noise
    from fpsolve.process import Process

    if not isinstance(effective, EffectiveLoss):
        raise TypeError(f"slow_process takes an EffectiveLoss, got {type(effective).__name__}")
    steps = np.diff(effective.x)
    if np.ptp(steps) > 1e-9 * steps.max():
        raise ValueError("slow_process needs equally spaced points; give effective_loss a range (lo, hi)")
    drift, spread = (effective.force, effective.diffusion) if leading else (effective.drift, effective.spread)
    if np.any(spread < 0.0):
        raise ValueError(
            f"slow_process: the diffusion of second order is negative at x = {effective.x[int(np.argmin(spread))]:.4g}; the noise "
            "is too strong for the expansion"
        )
    noise = Noise("effective", 1, TableCode(spread[:, None], [effective.x]))
    return Process.tabulated(effective.x, drift, noise)


# ---- the question -----------------------------------------------------------------------------------------------------


@dataclass
class _Case:
    process: "Process"
    lr: float
    slow: int
    others: Array
    guess: Array

    def states(self, x: Array, y: Array) -> Array:
        out = np.empty((*x.shape, self.process.dim))
        out[..., self.slow], out[..., self.others] = x, y
        return out

    def jacobian(self, states: Array) -> Array:
        """d b_i/d x_j at every state."""
        process = self.process
        if process.potential is not None and process.interpretation == "ito":
            return -process.potential.hess(states)
        values = process.drift_code.jacobian().evaluate(states, process.params)
        return np.asarray(values.reshape(*states.shape, process.dim))

    def floor(self, x: Array, at: "_Local") -> Array:
        """L_0: the loss on the floor; for a drift without potential what the force there integrates to."""
        if self.process.potential is not None:
            return np.asarray(self.process.potential(self.states(x, at.y)))
        return -_integral(x, self.process.drift(self.states(x, at.y))[:, self.slow])


def on_floor(process: "Process", x: Array) -> Array:
    """States (n, d) on the floor along the first axis, found from the other coordinates zero."""
    others: Any = np.arange(1, process.dim)
    case = _Case(process, 0.0, 0, others, np.zeros(others.size))
    return case.states(x, _floor(case, x))


def _pose(process: Any, lr: float | None, slow: int, fast: npt.ArrayLike | None) -> _Case:
    chain = process if hasattr(process, "momentum") else None
    if chain is not None:
        if chain.process is None or chain.scheduled or chain.momentum or chain.optimizer != "sgd":
            raise ValueError(
                "effective_loss needs plain SGD at one learning rate with a known covariance (SGDChain.gaussian), got "
                f"{chain!r}; of exact random shifts the mean loss is another one"
            )
        if lr is not None and lr != chain.lr:
            raise ValueError(f"lr must be that of the chain, {chain.lr:g}, or left out; got {lr!r}")
        process, lr = chain.process, chain.lr
    if not hasattr(process, "drift_code"):
        raise TypeError(f"effective_loss takes a Process or a Gaussian SGDChain, got {type(process).__name__}")
    if process.dim < 2:
        raise ValueError("effective_loss needs a slow coordinate and at least one fast one; this process has dimension 1")
    if process.noise.stable is not None:
        raise ValueError("effective_loss needs Gaussian noise; Levy noise has no variance across the valley")
    if isinstance(slow, bool) or not isinstance(slow, (int, np.integer)) or not 0 <= slow < process.dim:
        raise ValueError(f"slow must be an axis from 0 to {process.dim - 1}, got {slow!r}")
    others = np.delete(np.arange(process.dim), slow)
    guess = np.zeros(others.size) if fast is None else np.atleast_1d(numbers("fast", fast))
    if guess.shape != others.shape or not np.all(np.isfinite(guess)):
        raise ValueError(f"fast must be {others.size} finite numbers, got {fast!r}")
    step = lr if lr is not None else process.noise.lr if chain is not None else None
    return _Case(process, 0.0 if step is None else _positive(lr=step)[0], int(slow), others, guess)


def _points(x: npt.ArrayLike, n: int) -> Array:
    points = numbers("x", x)
    if points.shape == (2,):
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 16:
            raise ValueError(f"n must be an integer >= 16, got {n!r}")
        points = np.linspace(points[0], points[1], int(n)) if points[0] < points[1] else points
    if points.ndim != 1 or points.size < 16 or not np.all(np.isfinite(points)) or np.any(np.diff(points) <= 0.0):
        raise ValueError(f"x must be a range (lo, hi) with lo < hi, or at least 16 increasing numbers, got {x!r}")
    return points


# ---- around the floor -------------------------------------------------------------------------------------------------


@dataclass
class _Local:
    """Averages over the fast coordinates at every x."""

    y: Array  # floor (n, m)
    J: Array  # (n, m, m)
    S: Array  # covariance of the fast coordinates, also without the growth of D away from the floor
    force: Array  # <b_x>
    level: Array  # D_xx on the floor
    bare: Array  # <D_xx>
    normal: Array  # mean of the diagonal of D_yy on the floor
    tilt: Array  # |dy_0/dx| and |d b_x/dy|/J: how far the floor is from the axis
    shared: float  # largest share of the noise along the floor that is also noise across it, on the floor
    finite: npt.NDArray[np.bool_]  # where the variance is finite

    @property
    def flatness(self) -> Array:
        """F = det(J)^(-1/2)."""
        return np.asarray(np.linalg.det(self.J).clip(1e-300) ** -0.5)

    @property
    def anisotropy(self) -> Array:
        """D across over D along the valley."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.normal / self.bare)

    @property
    def growth(self) -> Array:
        """What fluctuations across the valley add to the noise along it, over the noise across it."""
        added = self.bare - self.level
        return np.asarray(np.divide(added, self.normal, out=np.zeros_like(added), where=self.normal > 0.0))


def _floor(case: _Case, x: Array) -> Array:
    """Fast coordinates on the floor, by Newton's iteration."""
    y = np.broadcast_to(case.guess, (x.size, case.others.size)).copy()
    for _ in range(60):
        states = case.states(x, y)
        push = case.process.drift(states)[:, case.others]
        J = -case.jacobian(states)[:, case.others[:, None], case.others]
        try:
            step = np.linalg.solve(J, push[..., None])[..., 0]
        except np.linalg.LinAlgError:
            i = int(np.argmin(np.abs(np.linalg.det(J))))
            raise ValueError(
                f"effective_loss: the curvature across the valley vanishes at x = {x[i]:.4g}, where nothing holds the fast "
                "coordinates; narrow the range of x, or name a point of the floor with floor= if it is a curve"
            ) from None
        y = y + step
        if not np.all(np.isfinite(y)):
            break
        if np.abs(step).max() <= 1e-12 * max(1.0, float(np.abs(y).max())):
            return y
    raise ValueError(f"effective_loss: no floor near the fast coordinates {case.guess.tolist()} for x in [{x[0]:g}, {x[-1]:g}]; "
                     "give a guess with fast=, or a range where the valley exists")  # fmt: skip


def _lyapunov(J: Array, D: Array, lr: float, *, transposed: bool = False) -> Array:
    """J S + S J^T - lr J S J^T = D, or with `transposed` the same for J^T."""
    w, V = np.linalg.eig(J)
    if transposed:
        V = np.swapaxes(np.linalg.inv(V), -1, -2)
    inverse = np.linalg.inv(V)
    inner = inverse @ D @ np.swapaxes(inverse, -1, -2)
    inner = inner / (w[:, :, None] + w[:, None, :] - lr * w[:, :, None] * w[:, None, :])
    return np.asarray((V @ inner @ np.swapaxes(V, -1, -2)).real)


def _check_stable(x: Array, J: Array, lr: float) -> None:
    w = np.linalg.eigvals(J)
    slack = 2.0 * w.real - lr * np.abs(w) ** 2
    if np.all(slack > 0.0):
        return
    i = int(np.argmin(slack.min(axis=1)))
    raise ValueError(
        f"effective_loss: at x = {x[i]:.4g} the fast directions are not stable: their curvatures are {np.round(w[i], 6).tolist()}, "
        f"and each must be > 0"
        + (f" and below 2/lr = {2.0 / lr:.4g}" if lr else "")
        + "; narrow the range of x, "
        + ("or lower lr" if lr else "or give a guess of the floor with fast=")
    )


def _expand(case: _Case, x: Array, *, amplitude: bool = True) -> _Local:
    """The averages at first order; with `amplitude` the variance is that of noise that grows with y (to the order y^2)."""
    y = _floor(case, x)
    states, slow, rest = case.states(x, y), case.slow, case.others
    jacobian = case.jacobian(states)
    J, across = -jacobian[:, rest[:, None], rest], jacobian[:, rest, slow]
    _check_stable(x, J, case.lr)
    D = case.process.diffusion(states)
    S = first = _lyapunov(J, 2.0 * D[:, rest[:, None], rest], case.lr)
    finite = np.ones(x.size, bool)
    averaged = D
    for _ in range(200 if amplitude else 0):
        averaged = _averaged(case.process.diffusion, case, x, y, S, D)
        new = _lyapunov(J, 2.0 * averaged[:, rest[:, None], rest], case.lr)
        finite = np.einsum("nii->n", new) <= 50.0 * np.einsum("nii->n", first) + 1e-300
        new = np.where(finite[:, None, None], new, first)
        done = np.abs(new - S).max() <= 1e-13 * np.abs(S).max()
        S = new
        if done:
            break
    averaged = _averaged(case.process.diffusion, case, x, y, S, D)
    force = _averaged(case.process.drift, case, x, y, S, case.process.drift(states))[:, slow]
    inverse = np.linalg.inv(J)
    tilt = np.maximum(np.abs((inverse @ across[..., None])[..., 0]).max(axis=1),
                      np.abs((jacobian[:, slow, rest][:, None, :] @ inverse)[:, 0]).max(axis=1))  # fmt: skip
    return _Local(y, J, S, force, D[:, slow, slow], averaged[:, slow, slow],
                  np.einsum("nii->n", D[:, rest[:, None], rest]) / rest.size, tilt, _shared(D, slow, rest), finite)  # fmt: skip


def _shared(D: Array, slow: int, rest: Any) -> float:
    """Largest squared correlation of the noise along the floor with that across it."""
    cross = D[:, slow, rest]
    explained = np.einsum("ni,nij,nj->n", cross, np.linalg.pinv(D[:, rest[:, None], rest]), cross)
    level = D[:, slow, slow]
    return float(np.max(np.divide(explained, level, out=np.zeros_like(level), where=level > 0.0)))


def _averaged(function: Callable[[Array], Array], case: _Case, x: Array, y: Array, S: Array, middle: Array) -> Array:
    """Average over z ~ N(0, S), exact to the order z^3 (and for the pure fourth powers along the axes of S)."""
    values, vectors = np.linalg.eigh(S)
    out = middle.copy()
    for i in range(values.shape[1]):
        shift = np.sqrt(3.0 * np.maximum(values[:, i], 0.0))[:, None] * vectors[:, :, i]
        ends = function(case.states(x, y + shift)) + function(case.states(x, y - shift))
        out += (ends - 2.0 * middle) / 6.0
    return np.asarray(out)


def _force(case: _Case, points: Array) -> Callable[[float], float]:
    def force(u: float) -> float:
        return float(_expand(case, np.array([u])).force[0])

    return force


def _integral(x: Array, values: Array) -> Array:
    from scipy.interpolate import CubicSpline

    return np.asarray(CubicSpline(x, values).antiderivative()(x))


def _derivative(x: Array, values: Array, order: int = 1) -> Array:
    from scipy.interpolate import CubicSpline

    return np.asarray(CubicSpline(x, values).derivative(order)(x))


# ---- second order -----------------------------------------------------------------------------------------------------


@dataclass
class _Second:
    drift: Array
    spread: Array
    leading: Array  # diffusion at the first order at which it does not vanish
    fluctuating: Array  # <f phi> over D_xx on the floor, where there is noise on it


def _second_order(case: _Case, x: Array, at: _Local) -> _Second:
    """Drift and diffusion to second order in the noise, see the top of this module."""
    slow, rest = case.slow, case.others
    m = rest.size
    Q, E = np.zeros((x.size, m, m)), np.zeros((x.size, m, m))
    # the scale of y is that of its fluctuations, whatever the unit of x; wide enough for rounding where these are tiny
    steps = np.maximum(_STEP * np.sqrt(np.einsum("nii->ni", at.S).clip(0.0)), 1e-5 * np.abs(at.y))
    steps = np.where(steps > 0.0, steps, 1e-3 * float(x[-1] - x[0]))
    for k in range(m):
        h = steps[:, k, None]
        for j, weight in _CENTRAL:
            y = at.y.copy()
            y[:, k] += j * steps[:, k]
            states = case.states(x, y)
            Q[:, :, k] += weight / h * case.jacobian(states)[:, slow, rest]
            E[:, :, k] += weight / h * case.process.diffusion(states)[:, slow, rest]
    Q = 0.5 * (Q + np.swapaxes(Q, 1, 2))
    R = _lyapunov(at.J, Q, case.lr, transposed=True)
    M = np.eye(m) - case.lr * at.J
    S, dS, dR = at.S, _derivative(x, at.S), _derivative(x, R)
    phi_x = -0.5 * _trace(R, dS)
    phi_xx = -0.5 * (2.0 * _trace(dR, dS) + _trace(R, _derivative(x, at.S, 2)))
    drift = at.force * (1.0 + phi_x) + 0.5 * _trace(Q @ S, dR @ S) + at.bare * phi_xx + 2.0 * _trace(E @ S, dR)
    f_phi = 0.5 * _trace(Q @ S, R @ S) - 0.25 * case.lr * _trace(Q @ S, Q @ S)
    spread = at.bare + f_phi + 2.0 * _trace(E @ S, np.swapaxes(M, 1, 2) @ R) + 2.0 * at.bare * phi_x
    floor_noise = bool(np.all(at.level > 1e-9 * np.abs(at.normal).max()))
    leading = at.level if floor_noise else spread
    fluctuating = f_phi / at.level if floor_noise else np.zeros_like(f_phi)
    return _Second(drift, spread, leading, fluctuating)


def _trace(A: Array, B: Array) -> Array:
    return np.asarray(np.einsum("nij,nji->n", A, B))


# ---- where it goes ----------------------------------------------------------------------------------------------------


def _minimum(x: Array, force: Array, exact: Callable[[float], float]) -> tuple[float, bool]:
    """The minimum of the effective loss, by a root of the force; an end of the range if it falls beyond."""
    from scipy.optimize import brentq

    loss = -_integral(x, force)
    i = int(np.argmin(loss))
    if (i == 0 and force[0] < 0.0) or (i == x.size - 1 and force[-1] > 0.0):
        return float(x[i]), False
    low, high = max(i - 1, 0), min(i + 1, x.size - 1)
    if not exact(float(x[low])) * exact(float(x[high])) < 0.0:
        return float(x[i]), bool(np.ptp(loss) > 0.0)
    return float(brentq(exact, float(x[low]), float(x[high]), xtol=1e-13, rtol=1e-13)), True


def _slope(force: Callable[[float], float], at: float, h: float, x: Array) -> float:
    centre = min(max(at, float(x[0]) + 2.0 * h), float(x[-1]) - 2.0 * h)
    return sum(weight * force(centre + j * h) for j, weight in _CENTRAL) / h


def _densities(x: Array, at: _Local, second: _Second, minimum: float, rate: float) -> tuple[Array, Array]:
    """ln p of the slow coordinate at both orders, normalised on the range; NaN where the points do not resolve it."""
    nothing = np.full(x.size, np.nan)
    noise, push = (float(np.interp(minimum, x, values)) for values in (second.leading, at.force))
    width = math.sqrt(max(noise, 0.0) / rate) if rate > 0.0 else math.inf
    if minimum in (x[0], x[-1]) and push != 0.0:  # against an end it falls as exp(-|force| distance/D)
        width = min(width, max(noise, 0.0) / abs(push))
    if width < 2.0 * float(np.diff(x).max()):
        return nothing, nothing
    out = []
    for force, diffusion in ((at.force, second.leading), (second.drift, second.spread)):
        if np.any(diffusion <= 0.0):
            out.append(nothing)
            continue
        log = _integral(x, force / diffusion) - np.log(diffusion)
        log -= log.max()
        out.append(log - math.log(float(np.trapezoid(np.exp(log), x))))
    return out[0], out[1]


def _order(
    x: Array, at: _Local, law: Array, corrected: Array, minimum: float, assumptions: tuple[Assumption, ...], unit: dict[str, Any]
) -> Estimate:
    """<F> over the largest F: 1 at the flat end."""
    top = float(at.flatness.max())
    if np.all(np.isnan(law)):
        return Estimate(float(np.interp(minimum, x, at.flatness)) / top, assumptions=assumptions, **unit)
    first, second = (float(np.trapezoid(np.exp(log) * at.flatness, x)) / top for log in (law, corrected))
    value = second if math.isfinite(second) else first
    return Estimate(value, discretization_error=abs(value - first), assumptions=assumptions, **unit)


# ---- how much noise ---------------------------------------------------------------------------------------------------


def _bounds(case: _Case, x: Array, at: _Local, minimum: float, inside: bool) -> dict[str, Estimate]:
    """How many times stronger the noise tensor could be (the learning rate, for "step"); below 1 the noise is beyond the bound.

    At leading order in the noise and in continuous time. kappa = D_yy/D_xx = 1: the noise along the valley is D_xx on the floor and
    a part that grows with the variance across, as the square of the strength; where nothing grows, or kappa is below 1 on the floor
    already, strength does not bring kappa to 1. Second moment: around a minimum x* inside the range the mean comes back at a rate
    r, and the diffusion (a/2)(x - x*)^2 feeds <(x - x*)^2>, which grows if a > 2 r.
    """
    slow = _Case(case.process, 0.0, case.slow, case.others, case.guess)
    still = _expand(slow, x, amplitude=False)
    growth, excess = still.bare - still.level, still.normal - still.level
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where((growth > 1e-9 * still.normal) & (excess > 0.0), excess / growth, np.inf)
    bend = float(np.interp(minimum, x, _derivative(x, _second_order(slow, x, still).spread - still.level, 2)))
    own = max(float(np.interp(minimum, x, _derivative(x, case.floor(x, at), 2))), 0.0)
    rate = -float(np.interp(minimum, x, _derivative(x, still.force))) - own
    moment = math.inf if bend <= 0.0 or not inside else max(0.0, (rate + math.sqrt(max(rate**2 + 2.0 * bend * own, 0.0))) / bend)
    word = "theory-derived, not a published number"
    bounds = {
        "anisotropy": Estimate(max(float(factors.min()), 0.0), method=f"kappa = 1 somewhere in the range; {word}"),
        "second moment": Estimate(moment, method=f"<(x - x*)^2> grows at the selected minimum; {word}"),
    }
    if case.lr:
        stiffest = float(np.abs(np.linalg.eigvals(at.J)).max())
        bounds["step"] = Estimate(2.0 / (case.lr * stiffest), lr=case.lr, method="lr times the largest curvature = 2")
    return bounds


def _assumptions(
    case: _Case, x: Array, at: _Local, validity: Array, rate: float, inside: bool, loss: Array
) -> tuple[Assumption, ...]:
    worst, tilt = float(validity.max()), float(at.tilt.max())
    lows = local_minima(x, loss)
    softest = float(np.linalg.eigvals(at.J).real.min())
    push = _curving(case, x, at)
    ends = float(np.linalg.eigvals(at.J).real.max()) * case.lr
    broken = "" if at.finite.all() else f"not at x = {x[~at.finite][0]:.4g}: the noise grows faster than it relaxes"
    pace = f"rate {rate:.3g}, fast ones from {softest:.3g}"
    out = [
        Assumption("the floor runs along the slow axis", _status(tilt <= _SMALL), f"slope {tilt:.3g}"),
        Assumption("the slow coordinate is slow", _status(rate <= _SMALL * softest), pace),
        Assumption("fluctuations of the force are small", _status(worst <= _SMALL), f"{worst:.3g} of the noise along the valley"),
        Assumption("the valley is parabolic across its fluctuations", _status(push <= _SMALL), f"force off by {push:.3g}"),
        Assumption("the minimum of the effective loss is inside the range", _status(inside), f"[{x[0]:.4g}, {x[-1]:.4g}]"),
        Assumption("the variance across the valley is finite", _status(not broken), broken),
        Assumption("the noises along and across the floor are independent on it", _status(at.shared <= _SMALL),
                   f"{at.shared:.3g} of the noise along the floor is that across; the second order leaves it out"),
        Assumption("the effective loss has one minimum in the range", _status(len(lows) <= 1),
                   "at x = " + ", ".join(f"{low:.4g}" for low in lows)),
    ]  # fmt: skip
    if case.lr:
        out.append(Assumption("lr times the largest curvature < 2", "held", f"{ends:.3g}"))
    return tuple(out)


def local_minima(x: Array, loss: Array) -> list[float]:
    """Local minima of the effective loss at the points, also at the ends; one that rounding makes does not count."""
    from scipy.signal import find_peaks

    top, spread = float(loss.max()), float(np.ptp(loss))
    walls = np.pad(-loss, 1, constant_values=-top - 2.0 * spread)
    peaks, _ = find_peaks(walls, prominence=1e-6 * spread)
    return [float(x[i - 1]) for i in peaks] if spread > 0.0 else []


def _curving(case: _Case, x: Array, at: _Local) -> float:
    """How far the restoring force at one standard deviation is from linear."""
    values, vectors = np.linalg.eigh(at.S)
    worst = 0.0
    for i in range(values.shape[1]):
        shift = np.sqrt(np.maximum(values[:, i], 0.0))[:, None] * vectors[:, :, i]
        linear = np.linalg.norm((at.J @ shift[..., None])[..., 0], axis=1)
        for sign in (1.0, -1.0):
            push = case.process.drift(case.states(x, at.y + sign * shift))[:, case.others]
            off = np.linalg.norm(push + sign * (at.J @ shift[..., None])[..., 0], axis=1)
            worst = max(worst, float(np.max(off / np.where(linear > 0.0, linear, 1.0))))
    return worst
