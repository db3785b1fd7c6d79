"""Integrals of exp(-energy) over ever wider Gaussians, with one independent answer from each replica.

In the coordinates in which a quadratic model of the energy is a standard normal, every width is a target exp(-phi_j(x)) N(x; 0, 1),
phi_j the energy beyond the model, and the integral is that of the model times E_N[exp(-phi_j)]. Replicas of the whole ladder of
widths are moved by Hamiltonian steps that are exact for the model and exchange states between neighbours; the ratios of neighbours
follow from the works of both directions (Bennett's acceptance ratio). The first rung is the model itself, drawn anew each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsolve import FpsolveError

from ._losses import Evaluate

__all__ = ["Chains", "Family", "Rungs", "bennett", "pilot", "run_ladder"]

Array = NDArray[np.float64]
#: Points (n, P) to values (n,) and gradients (n, P).

#: Effective share of the walkers of one width in the next, which sets how far the widths are apart.
OVERLAP = 0.5
#: Walkers, and rounds of moves at each width, that look for the widths and the steps.
SCOUTS, ROUNDS = 64, 6
MAX_WIDTHS = 200
#: Neighbouring widths stretch no direction by more, whatever the overlap of few walkers says of parts that none of them saw.
STRETCH = 1.4
#: Points at which the way between two widths is held against the level; of the model the width is any, and this part of the first.
WALL_POINTS, INNER = 3, 0.05
#: Acceptance that the steps are tuned to, and the longest step: a quarter turn of the model makes states independent.
ACCEPTANCE, QUARTER = 0.8, 0.5 * math.pi
#: The shortest step in terms of the tuned one.
SHORTEST = 1.0 / 16.0


@dataclass(frozen=True, eq=False)
class Family:
    """The targets of all widths: Gaussian around theta times exp(-beta (L - L_0)), and zero where L > level.

    The model has the curvature sum_i values_i u_i u_i^T, values > 0, u_i the columns of `vectors`; other directions are flat in it.
    """

    evaluate: Evaluate
    theta: Array
    origin: float  # L_0
    beta: float
    level: float  # inf: no wall
    values: Array
    vectors: Array

    def scales(self, widths: Array) -> tuple[Array, Array]:
        """Standard deviations of the model: along the flat directions (n,), and along the others (n, k)."""
        with np.errstate(divide="ignore"):
            bent = 1.0 / np.sqrt(1.0 / np.square(widths)[:, None] + self.beta * self.values)
        return np.where(np.isfinite(widths), widths, 0.0), bent  # an infinite width needs as many vectors as dimensions

    def stretch(self, start: float, stop: float) -> float:
        """The largest factor between the standard deviations of the model at two widths."""
        (flat, bent), (flat_, bent_) = self.scales(np.array([start])), self.scales(np.array([stop]))
        most = float((bent_ / bent).max(initial=1.0))
        return max(most, float(flat_[0] / flat[0])) if self.vectors.shape[1] < len(self.theta) else most

    def place(self, x: Array, widths: Array) -> Array:
        """Displacements from theta of standard coordinates x (n, P)."""
        flat, bent = self.scales(widths)
        return np.asarray(flat[:, None] * x + ((bent - flat[:, None]) * (x @ self.vectors)) @ self.vectors.T)

    def energy(self, x: Array, widths: Array) -> tuple[Array, Array]:
        """phi (n,), inf beyond the wall, and its gradient in x (n, P)."""
        flat, bent = self.scales(widths)
        along = x @ self.vectors
        shift = flat[:, None] * x + ((bent - flat[:, None]) * along) @ self.vectors.T
        loss, slope = self.evaluate(self.theta + shift)
        along *= bent
        phi = self.beta * (loss - self.origin - 0.5 * np.square(along) @ self.values)
        slope = slope - (along * self.values) @ self.vectors.T
        slope = self.beta * (flat[:, None] * slope + ((bent - flat[:, None]) * (slope @ self.vectors)) @ self.vectors.T)
        good = np.isfinite(loss) & (loss <= self.level) & np.isfinite(slope).all(axis=1)
        slope[~good] = 0.0
        return np.where(good, phi, math.inf), slope

    def recast(self, x: Array, slope: Array, start: Array, stop: Array) -> tuple[Array, Array, Array]:
        """The same displacements in the coordinates of another finite width: x, slope of phi, and the work.

        phi depends on the displacement only and stays as it is: the work is that of the normal density and of the Jacobian.
        """
        (flat, bent), (flat_, bent_) = self.scales(start), self.scales(stop)
        r, q = (flat / flat_)[:, None], bent / bent_
        new = r * x + ((q - r) * (x @ self.vectors)) @ self.vectors.T
        force = slope / r + ((1.0 / q - 1.0 / r) * (slope @ self.vectors)) @ self.vectors.T
        jacobian = (x.shape[1] - q.shape[1]) * np.log(r[:, 0]) + np.log(q).sum(axis=1)
        return new, force, 0.5 * (np.square(new) - np.square(x)).sum(axis=1) - jacobian

    def connected(self, x: Array, start: Array, stop: Array) -> NDArray[np.bool_]:
        """Whether the way of x from one width to another stays below the level at WALL_POINTS points within."""
        ok = np.ones(len(x), dtype=bool)
        if math.isinf(self.level):
            return ok
        for share in np.arange(1, WALL_POINTS + 1) / (WALL_POINTS + 1):
            rows = np.flatnonzero(ok)
            if not len(rows):
                break
            with np.errstate(divide="ignore"):
                inverse = (1.0 - share) / start[rows] ** 2 + share / stop[rows] ** 2
                width = 1.0 / np.sqrt(inverse)
            ok[rows] = self.evaluate(self.theta + self.place(x[rows], width))[0] <= self.level
        return ok


def trajectory(
    family: Family, x: Array, phi: Array, slope: Array, widths: Array, angle: Array, leaps: NDArray[np.intp], v: Array, u: Array
) -> NDArray[np.bool_]:
    """Move the walkers in place by a Hamiltonian trajectory; returns which were accepted.

    Kicks by -grad phi and exact rotations of (x, v) in turn. A trajectory that meets the wall at any of its points is refused: read
    backwards it has the same points, so detailed balance holds, and no move leads through the wall in one of its steps.
    """
    before = phi + 0.5 * (np.square(x).sum(axis=1) + np.square(v).sum(axis=1))
    y, energy, force, v = x.copy(), phi.copy(), slope.copy(), v.copy()
    for i in range(int(leaps.max(initial=0))):
        rows = np.flatnonzero((leaps > i) & np.isfinite(energy))
        if not len(rows):
            break
        h = angle[rows, None]
        v_, y_ = v[rows] - 0.5 * h * force[rows], y[rows]
        y[rows] = np.cos(h) * y_ + np.sin(h) * v_
        v_ = np.cos(h) * v_ - np.sin(h) * y_
        energy[rows], force[rows] = family.energy(y[rows], widths[rows])
        v[rows] = v_ - 0.5 * h * force[rows]
    after = energy + 0.5 * (np.square(y).sum(axis=1) + np.square(v).sum(axis=1))
    with np.errstate(invalid="ignore", over="ignore"):
        taken = np.asarray(np.log(u) < before - after)
    x[taken], phi[taken], slope[taken] = y[taken], energy[taken], force[taken]
    return taken


def _leaps(angle: Array, most: int) -> NDArray[np.intp]:
    """Steps that make a quarter turn, at most so many."""
    return np.clip(np.ceil(QUARTER / angle - 1e-9), 1, most).astype(np.intp)


def _spread(u: Array) -> Array:
    """Factors of the step: half of the trajectories take about the whole one, the others down to a SHORTEST part of it.

    Where the bowl has turned far from the model, the step that suits most states is unstable, and all would be refused entry.
    """
    return np.where(u < 0.5, 0.8 + 0.4 * u, SHORTEST ** (2.0 * u - 1.0))


def _tuned(angle: Array, acceptance: Array) -> Array:
    return np.clip(angle * np.exp(2.0 * (acceptance - ACCEPTANCE)), 1e-6, QUARTER)


# ---- the widths ---------------------------------------------------------------------------------------------------------


def _share(gain: Array) -> float:
    """Effective share of walkers under the weights exp(-gain)."""
    if not math.isfinite(gain.min()):
        return 0.0
    w = np.exp(gain.min() - gain)
    return float(w.sum() ** 2 / np.square(w).sum() / len(w))


@dataclass(frozen=True, eq=False)
class Rungs:
    """The widths of a ladder, how each is joined to the one below, the step at each, and scouts there (widths, SCOUTS, P)."""

    widths: Array
    fixed: NDArray[np.bool_]  # at the same displacement, else at the same standard coordinates
    angle: Array
    scouts: Array


def pilot(family: Family, width: float, leaps: int, rng: np.random.Generator, tick: Callable[[], Any]) -> Rungs:
    """Widths that overlap, from one where the model holds to `width`, each time by the way to join them that leads further.

    Raises
    ------
    FpsolveError
        If the widths cannot be made to overlap.
    """
    n, dim = SCOUTS, len(family.theta)
    x, phi, angle = rng.standard_normal((n, dim)), np.zeros(n), QUARTER
    slope = np.zeros((n, dim))
    widths: list[float] = []
    steps, scouts, joints = [], [], []
    end = width if math.isfinite(width) else 30.0 / math.sqrt(family.beta * float(family.values.min()))
    while not widths or widths[-1] < width:
        last = widths[-1] if widths else 0.0
        new, fixed = (width, False) if last and family.stretch(last, width) <= 1.001 else _next_width(family, x, phi, last, end)
        widths.append(new)
        joints.append(fixed)
        if len(widths) > MAX_WIDTHS:
            raise FpsolveError(
                f"{MAX_WIDTHS} widths do not reach from the quadratic bowl to {width:g} (they reach {new:.3g}): the loss is far "
                "from quadratic there; take a smaller width, or a higher level (smaller beta)"
            )
        here = np.full(n, new)
        if fixed:
            x, slope, gain = family.recast(x, slope, np.full(n, last), here)
        else:
            fresh, slope = _mapped(family, x, last, new)
            phi, gain = fresh, fresh - phi
        weight = np.exp(gain.min() - gain)
        pick = np.searchsorted(np.cumsum(weight) / weight.sum(), (np.arange(n) + rng.random()) / n).clip(0, n - 1)
        x, phi, slope = x[pick], phi[pick], slope[pick]
        for _ in range(ROUNDS):
            turn, steps_ = angle * _spread(rng.random(n)), np.full(n, _leaps(np.array(angle), leaps))
            v, u = rng.standard_normal((n, dim)), rng.random(n)
            taken = trajectory(family, x, phi, slope, here, turn, steps_, v, u)
            angle = float(_tuned(np.array(angle), np.array(taken.mean())))
        steps.append(angle)
        scouts.append(x.copy())
        tick()
    return Rungs(np.array(widths), np.array(joints), np.array(steps), np.array(scouts))


def _mapped(family: Family, x: Array, last: float, width: float) -> tuple[Array, Array]:
    """Energies and slopes of the same standard coordinates at another width, inf where the way there meets the wall."""
    here = np.full(len(x), width)
    phi, slope = family.energy(x, here)
    rows = np.flatnonzero(np.isfinite(phi))
    phi[rows[~family.connected(x[rows], np.full(len(rows), last or INNER * width), here[rows])]] = math.inf
    return phi, slope


def _next_width(family: Family, x: Array, phi: Array, last: float, end: float) -> tuple[float, bool]:
    """The largest width at which the walkers of the last one still overlap, and whether at fixed displacements."""
    n = len(x)

    def mapped(width: float) -> bool:
        return _share(_mapped(family, x, last, width)[0] - phi) >= OVERLAP

    def fixed(width: float) -> bool:
        return _share(family.recast(x, x, np.full(n, last), np.full(n, width))[2]) >= OVERLAP

    low = last
    if low == 0.0:
        if mapped(end):
            return end, False
        low = 0.1 * end
        while not mapped(low):
            low *= 0.1
            if low < 1e-12 * end:
                raise FpsolveError(f"the loss is not quadratic around theta down to a width of {low:.1g}: is it smooth there?")
        return _furthest(mapped, low, min(10.0 * low, end)), False
    end = _furthest(lambda width: family.stretch(last, width) <= STRETCH, low, end)
    free = _furthest(fixed, low, end)
    if free < end and mapped(free):
        return _furthest(mapped, free, end), False
    return free, True


def _furthest(overlaps: Callable[[float], bool], low: float, high: float) -> float:
    """The end of the overlap by bisection in the logarithm, `high` where it holds; above `low`."""
    if overlaps(high):
        return high
    first = low
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if overlaps(middle) else (low, middle)
    return low if low > first else high


# ---- the ladder ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Chains:
    """What the replicas of a ladder leave: works between neighbours, and the losses at every width.

    forward[j], backward[j]: works (replicas, as many) between rung j and j + 1, rung 0 the model, rung j the width j - 1.
    loss, square: L - L_0 and the squared distance from theta (replicas, widths, sweeps).
    """

    forward: list[Array]
    backward: list[Array]
    loss: Array
    square: Array
    swaps: Array
    acceptance: Array
    angle: Array


class _Streams:
    """Random numbers of each replica from a stream of its own."""

    def __init__(self, seeds: list[np.random.SeedSequence]) -> None:
        self.generators = [np.random.default_rng(s) for s in seeds]

    def normal(self, *shape: int) -> Array:
        return np.stack([g.standard_normal(shape) for g in self.generators])

    def uniform(self, *shape: int) -> Array:
        return np.stack([g.random(shape) for g in self.generators])


class _Ladder:
    """The state of all replicas: x (replicas, rungs, P), rung 0 the model."""

    def __init__(self, family: Family, rungs: Rungs, x: Array, streams: _Streams, leaps: int) -> None:
        self.family, self.widths, self.fixed, self.angle = family, rungs.widths, rungs.fixed, rungs.angle.copy()
        self.x, self.streams, self.leaps = x, streams, leaps
        self.m, self.n, self.dim = len(x), len(self.widths), x.shape[2]
        self.phi, self.slope = np.zeros((self.m, self.n + 1)), np.zeros_like(x)
        flat, slope = self.family.energy(x[:, 1:].reshape(-1, self.dim), np.tile(self.widths, self.m))
        self.phi[:, 1:], self.slope[:, 1:] = flat.reshape(self.m, self.n), slope.reshape(self.m, self.n, self.dim)

    def move(self) -> Array:
        """One trajectory of every walker; acceptance of each width."""
        m, n, dim = self.m, self.n, self.dim
        x, phi, slope = self.x[:, 1:].reshape(-1, dim), self.phi[:, 1:].reshape(-1), self.slope[:, 1:].reshape(-1, dim)
        turn = self.angle * _spread(self.streams.uniform(n))
        leaps = np.tile(_leaps(self.angle, self.leaps), m)
        v, u = self.streams.normal(n, dim).reshape(-1, dim), self.streams.uniform(n).reshape(-1)
        taken = trajectory(self.family, x, phi, slope, np.tile(self.widths, m), turn.reshape(-1), leaps, v, u)
        self.x[:, 1:], self.phi[:, 1:], self.slope[:, 1:] = x.reshape(m, n, dim), phi.reshape(m, n), slope.reshape(m, n, dim)
        self.x[:, 0] = self.streams.normal(dim)
        return np.asarray(taken.reshape(m, n).mean(axis=0))

    def swap(self, parity: int) -> tuple[NDArray[np.intp], Array, Array, Array]:
        """Offer exchanges between rungs j, j + 1 of one parity: j, works up and down (replicas, pairs), which were exchanged."""
        low = np.arange(parity, self.n, 2)
        pairs = [int(a) for a in low]
        works, swapped = np.empty((2, self.m, len(low))), np.zeros((self.m, len(low)), dtype=bool)
        u = self.streams.uniform(len(low))
        for i, a in enumerate(pairs):
            join = self._recast if self.fixed[a] else self._mapped
            up, down = join(a, a + 1), join(a + 1, a)
            forward, backward = up[3], down[3]
            works[0, :, i], works[1, :, i] = forward, backward
            rows = np.flatnonzero(np.log(u[:, i]) < -(forward + backward))
            swapped[rows, i] = True
            for here, there in ((a, down), (a + 1, up)):
                self.x[rows, here], self.phi[rows, here], self.slope[rows, here] = there[0][rows], there[1][rows], there[2][rows]
        return low, works[0], works[1], swapped

    def _width(self, rung: int) -> Array:
        return np.full(self.m, self.widths[rung - 1] if rung else INNER * self.widths[0])

    def _recast(self, here: int, there: int) -> tuple[Array, Array, Array, Array]:
        x, slope, work = self.family.recast(self.x[:, here], self.slope[:, here], self._width(here), self._width(there))
        return x, self.phi[:, here].copy(), slope, work

    def _mapped(self, here: int, there: int) -> tuple[Array, Array, Array, Array]:
        """The same standard coordinates under the other target; work inf where the way between the widths meets the wall."""
        x = self.x[:, here].copy()
        phi, slope = self.family.energy(x, self._width(there)) if there else (np.zeros(self.m), np.zeros_like(x))
        work = phi - self.phi[:, here]
        if math.isfinite(self.family.level):
            rows = np.flatnonzero(np.isfinite(work))
            work[rows[~self.family.connected(x[rows], self._width(here)[rows], self._width(there)[rows])]] = math.inf
        return x, phi, slope, work


def run_ladder(
    family: Family,
    rungs: Rungs,
    *,
    replicas: int,
    sweeps: int,
    leaps: int,
    seeds: list[np.random.SeedSequence],
    tick: Callable[[], Any],
) -> Chains:
    """Replicas of the ladder, settled by as many sweeps that also tune the steps. `tick` is called after each sweep."""
    streams = _Streams(seeds)
    n, scouts, dim = len(rungs.widths), rungs.scouts, rungs.scouts.shape[2]
    pick = (streams.uniform(n) * scouts.shape[1]).astype(np.intp)
    x = np.concatenate([streams.normal(1, dim), scouts[np.arange(n), pick]], axis=1)
    ladder = _Ladder(family, rungs, x, streams, leaps)
    settle = settling(sweeps)
    works: list[tuple[list[Array], list[Array]]] = [([], []) for _ in range(n)]
    loss, square = np.empty((replicas, n, sweeps)), np.empty((replicas, n, sweeps))
    swaps, accepted = np.zeros((2, n)), np.zeros(n)
    for k in range(settle + sweeps):
        taken = ladder.move()
        low, forward, backward, swapped = ladder.swap(k % 2)
        tick()
        if k < settle:
            ladder.angle = _tuned(ladder.angle, ACCEPTANCE + 0.25 * (taken - ACCEPTANCE))
            continue
        accepted += taken / sweeps
        swaps[0, low] += swapped.mean(axis=0)
        swaps[1, low] += 1.0
        for i, j in enumerate(low):
            works[j][0].append(forward[:, i])
            works[j][1].append(backward[:, i])
        loss[:, :, k - settle], square[:, :, k - settle] = _measured(ladder)
    return Chains(
        [np.array(f).T for f, _ in works],
        [np.array(b).T for _, b in works],
        loss,
        square,
        swaps[0] / swaps[1],
        accepted,
        ladder.angle,
    )


def settling(sweeps: int) -> int:
    """Sweeps before the ones that count: as many. All start near the middle; a third as many left a bias in bent valleys."""
    return sweeps


def _measured(ladder: _Ladder) -> tuple[Array, Array]:
    """L - L_0 and |delta|^2 of all walkers (replicas, widths), from what is known."""
    family, x = ladder.family, ladder.x[:, 1:].reshape(-1, ladder.dim)
    flat, bent = family.scales(np.tile(ladder.widths, ladder.m))
    along = x @ family.vectors
    rest = np.maximum(np.square(x).sum(axis=1) - np.square(along).sum(axis=1), 0.0)
    along *= bent
    model = 0.5 * np.square(along) @ family.values
    loss = ladder.phi[:, 1:] / family.beta + model.reshape(ladder.m, -1)
    square = np.square(flat) * rest + np.square(along).sum(axis=1)
    return loss, square.reshape(ladder.m, -1)


def bennett(forward: Array, backward: Array) -> float:
    r"""ln(Z_b/Z_a) from as many works a to b (samples of a) as b to a (samples of b); inf: beyond a wall.

    Bennett (1976): the root of :math:`\sum 1/(1 + e^{w - c}) = \sum 1/(1 + e^{w' + c})` is :math:`c = -\ln(Z_b/Z_a)`.

    Raises
    ------
    FpsolveError
        Without any finite work.

    Examples
    --------
    >>> float(bennett(np.array([2.0, 2.0]), np.array([-2.0, -2.0])))
    -2.0
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    f, b = np.ravel(forward), np.ravel(backward)
    f, b = f[np.isfinite(f)], b[np.isfinite(b)]
    if not (len(f) and len(b)):
        raise FpsolveError("two neighbouring widths do not overlap: take more sweeps, a smaller width, or a higher level")
    far = float(np.abs(f).max() + np.abs(b).max()) + 50.0
    c = brentq(lambda c: expit(c - f).sum() - expit(-c - b).sum(), -far, far, xtol=1e-10)
    return -float(c)
