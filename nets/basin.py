"""How far one can be pushed from a minimum and still come back down to it: return probability against distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import boolean, integer, numbers, positive
from ._flow import AT_REST, BELOW, NOT_FINITE, flow, highest_between
from ._losses import Evaluate, loss_of_landscape, loss_of_network
from ._progress import bar
from ._saved import Saved
from ._settings import resolve_seed
from ._threads import single_threaded_blas
from .mlp import MLP

if TYPE_CHECKING:
    from fpsolve import Potential

__all__ = ["BasinReturn", "basin_return", "landscape_return"]

Array = NDArray[np.float64]

#: Outcomes of a push, in the order of `BasinReturn.counts`.
OUTCOMES = ("straight", "bent", "elsewhere", "at rest above", "unfinished")
STRAIGHT, BENT, ELSEWHERE, ABOVE, OPEN = range(5)
#: Points within a segment at which the loss is held against the level.
SPACING = 8
#: Halvings of the segment in search of a bent way below the level: pieces of 1/256 of it.
DEPTH = 8


@dataclass(frozen=True, eq=False, repr=False)
class BasinReturn(Saved):
    """Return probability against distance; made by `basin_return` and `landscape_return`.

    Attributes
    ----------
    radii : ndarray, shape (k,)
    outcome : ndarray of int, shape (k, n)
        Of each push, a position in `OUTCOMES`: came back, theta in straight sight below the level; came back, by a bent way below
        the level; fell below the level elsewhere (no such way was found); came to rest above the level; did not end in time.
    changed : ndarray of int, shape (k,)
        Pushes that came back at one of two tolerances of the integrator and not at the other: the error of discretisation.
    end_loss, distance : ndarray, shape (k, n)
        Loss where the flow was stopped, and distance from theta.
    level : float
    tolerance : float
        Error of a step in units of the radius; the second pass has half of it.
    max_time : float
    evaluations : int
    seed : int
    agreement : ndarray, shape (k, n), or None
        Share of the probe inputs with the same prediction as theta there.

    Examples
    --------
    >>> ways = np.array([[0, 1, 0, 2]])
    >>> r = BasinReturn(np.array([0.5]), ways, np.zeros(1, int), 0.0 * ways, 0.0 * ways, 0.1, 1e-3, 10.0, 100, 0)
    >>> r.returned, r.probability, r.interval.round(2)
    (array([3]), array([0.75]), array([[0.3 , 0.95]]))
    """

    radii: Array
    outcome: NDArray[np.intp]
    changed: NDArray[np.intp]
    end_loss: Array
    distance: Array
    level: float
    tolerance: float
    max_time: float
    evaluations: int
    seed: int
    agreement: Array | None = None
    KIND: ClassVar[str] = "basin return"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "radii": ("radius", "weight", "length of the push"),
        "outcome": ("radius push", "", "0 straight, 1 bent, 2 elsewhere, 3 at rest above, 4 unfinished"),
        "changed": ("radius", "", "pushes whose return depends on the tolerance"),
        "end_loss": ("radius push", "loss", "loss where the flow was stopped"),
        "distance": ("radius push", "weight", "distance from the minimum there"),
        "agreement": ("radius push", "", "share of equal predictions there"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "probability": ("radius", "", "share that came back"),
        "interval": ("radius bound", "", "its 95 % interval"),
        "returned": ("radius", "", "pushes that came back"),
    }
    ALONG: ClassVar[dict[str, str]] = {"radius": "radii"}
    ROWS: ClassVar[str] = "radius"
    PICTURE: ClassVar[str] = "nets.plotting.plot_basin"

    @property
    def counts(self) -> NDArray[np.intp]:
        """Pushes of each outcome, shape (k, 5)."""
        return np.array([np.bincount(row, minlength=len(OUTCOMES)) for row in self.outcome])

    @property
    def returned(self) -> NDArray[np.intp]:
        """Pushes that came back, shape (k,)."""
        return np.asarray((self.outcome <= BENT).sum(axis=1))

    @property
    def probability(self) -> Array:
        """Share that came back, shape (k,)."""
        return np.asarray(self.returned / self.outcome.shape[1])

    @property
    def interval(self) -> Array:
        """Wilson's 95 % interval of the probability, shape (k, 2); E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927)."""
        n, p, z = self.outcome.shape[1], self.probability, 1.959963984540054
        middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1.0 - p) / n + z * z / (4 * n * n))
        return np.asarray(np.stack([middle - half, middle + half], axis=1) / (1.0 + z * z / n)).clip(0.0, 1.0)


def basin_return(
    mlp: MLP,
    theta: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    radii: ArrayLike,
    level: float,
    n: int = 50,
    subspace: ArrayLike | None = None,
    probe: ArrayLike | None = None,
    tolerance: float = 1e-2,
    max_time: float = 1e3,
    max_evaluations: int = 10_000,
    seed: int | None = None,
    progress: bool = False,
) -> BasinReturn:
    r"""Probability that gradient flow from theta + r u, u a random direction, comes back to theta.

    At a degenerate minimum there is no point to come back to: the flow ends somewhere on a manifold of low loss. It came back if

    .. math:: \dot w = -\nabla L(w), \quad w(0) = \theta + r u

    enters the part of {L <= level} that is connected with theta. The loss never rises along the flow, so from there on it stays in
    that part, and it can be stopped. A way shows the connection: the straight segment to theta ("straight"), or its image under
    the flow ("bent"): the points of the segment flow below the level, and neighbours among them, halved where needed, are joined
    by segments below it. A continuous image without a jump is a way; where a ridge is between, neighbours fall to different sides
    however close they are. Points of a segment are checked, not its continuum; a way that neither test finds counts as not back.

    Parameters
    ----------
    mlp, theta, x, y
        Network, minimum, samples.
    radii : array, shape (k,)
        Distances r, in units of the weights.
    level : float
        Above the loss at theta.
    n : int
        Pushes for each radius; the same directions at all radii.
    subspace : array, shape (P, m), optional
        Directions are drawn from the span of these columns (orthonormalised), say some eigenvectors of the Hessian. Default: all.
    probe : array, shape (q, inputs), optional
        Inputs on which predictions at the end are compared with those at theta: the sign of one output, else the class.
    tolerance : float
        Largest error of a step of the integrator in units of r. All is done twice, at this tolerance and half of it.
    max_time, max_evaluations
        Of each flow; what is above the level then is unfinished, and counts as not back.
    seed : int, optional
    progress : bool

    Returns
    -------
    BasinReturn

    Raises
    ------
    ValueError
        Wrong shapes or ranges, or a level not above the loss at theta.

    Notes
    -----
    The flow is stiff (the curvatures of a network span six decades or more): it is integrated by the stabilised
    Runge-Kutta-Chebyshev scheme of second order; error control and curvature choose steps and stages of each walker. The
    directions of a seed are those of `numpy.random.SeedSequence(seed).spawn(n)`: push i does not depend on n.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("digits"), nets.MLP((64, 10), weight_decay=0.1)
    >>> x, y = data.x_train[:50], data.y_train[:50]
    >>> theta = np.zeros(mlp.dim)
    >>> for _ in range(300):
    ...     theta -= 0.2 * mlp.gradient(theta, x, y)
    >>> basin_return(mlp, theta, x, y, radii=[1.0], level=mlp.loss(theta, x, y) + 0.1, n=5, seed=0).probability  # convex
    array([1.])
    """
    evaluate, (at,) = loss_of_network(mlp, x, y, theta=theta)
    predict: Callable[[Array], Array] | None = None
    if probe is not None:
        asked = np.ascontiguousarray(numbers("probe", probe))
        if asked.ndim != 2 or asked.shape[1] != mlp.widths[0] or not len(asked) or not np.isfinite(asked).all():
            raise ValueError(f"probe must be finite inputs, of shape (q, {mlp.widths[0]}) with q >= 1: got shape {asked.shape}")

        def predict(w: Array) -> Array:
            z = mlp.outputs(w, asked)
            return np.asarray(z[:, 0] > 0.0 if z.shape[1] == 1 else z.argmax(axis=1))

    options = {"tolerance": tolerance, "max_time": max_time, "max_evaluations": max_evaluations, "seed": seed, "progress": progress}
    return _returns(evaluate, at, radii, level, n, subspace, predict, options)


def landscape_return(
    potential: Potential,
    theta: ArrayLike,
    *,
    radii: ArrayLike,
    level: float,
    n: int = 50,
    subspace: ArrayLike | None = None,
    tolerance: float = 1e-2,
    max_time: float = 1e3,
    max_evaluations: int = 10_000,
    seed: int | None = None,
    progress: bool = False,
) -> BasinReturn:
    """`basin_return` of any landscape.

    Examples
    --------
    The basin of the left well of (x^2 - 1)^2/4 ends at 0, and on its other side never:

    >>> import fpsolve as fps
    >>> r = landscape_return(fps.potentials.double_well(), [-1.0], radii=[0.9, 1.1], level=0.01, n=40, seed=0)
    >>> int(r.returned[0]), 5 < int(r.returned[1]) < 35
    (40, True)
    """
    evaluate, (at,) = loss_of_landscape(potential, theta=theta)
    options = {"tolerance": tolerance, "max_time": max_time, "max_evaluations": max_evaluations, "seed": seed, "progress": progress}
    return _returns(evaluate, at, radii, level, n, subspace, None, options)


def _returns(
    evaluate: Evaluate,
    theta: Array,
    radii: ArrayLike,
    level: float,
    n: int,
    subspace: ArrayLike | None,
    predict: Callable[[Array], Array] | None,
    options: dict[str, Any],
) -> BasinReturn:
    r = np.atleast_1d(numbers("radii", radii))
    boolean("progress", options["progress"])
    if r.ndim != 1 or not len(r) or not (np.isfinite(r).all() and (r > 0.0).all()):
        raise ValueError(f"radii must be finite and above 0, at least one: got {radii!r}")
    n, seed = integer("n", n, 1), options["seed"]
    for name in ("tolerance", "max_time"):
        positive(name, options[name])
    integer("max_evaluations", options["max_evaluations"], 1)
    loss = float(evaluate(theta[None])[0][0])
    level = positive("level", level, loss, "the loss at theta")
    seed = resolve_seed(seed)
    u = _directions(len(theta), n, subspace, seed)
    search = _Search(evaluate, theta, float(level), options)
    outcome, changed = np.empty((len(r), n), dtype=np.intp), np.empty(len(r), dtype=np.intp)
    end_loss, distance = np.empty((len(r), n)), np.empty((len(r), n))
    agreement = None if predict is None else np.empty((len(r), n))
    with single_threaded_blas(), bar(options["progress"], "radii", 2 * len(r)) as tick:
        for k, radius in enumerate(r):
            coarse = search.outcomes(theta + radius * u, options["tolerance"] * radius)[0]
            tick()
            outcome[k], points, end_loss[k] = search.outcomes(theta + radius * u, 0.5 * options["tolerance"] * radius)
            tick()
            changed[k] = np.count_nonzero((coarse <= BENT) != (outcome[k] <= BENT))
            distance[k] = np.linalg.norm(points - theta, axis=1)
            if agreement is not None and predict is not None:
                same = predict(theta)
                agreement[k] = [np.mean(predict(w) == same) if np.isfinite(w).all() else 0.0 for w in points]
    return BasinReturn(
        r, outcome, changed, end_loss, distance, float(level), float(options["tolerance"]), float(options["max_time"]),
        search.evaluations, seed, agreement,
    )  # fmt: skip


def _directions(dim: int, n: int, subspace: ArrayLike | None, seed: int) -> Array:
    """Unit vectors, uniform on the sphere of the subspace, (n, dim)."""
    basis = None
    if subspace is not None:
        columns = numbers("subspace", subspace)
        if columns.ndim != 2 or columns.shape[0] != dim or not 1 <= columns.shape[1] <= dim or not np.isfinite(columns).all():
            raise ValueError(f"subspace must be finite columns, of shape ({dim}, m): got shape {columns.shape}")
        basis, triangle = np.linalg.qr(columns)
        size = np.abs(np.diag(triangle))
        if not size.min() > 1e-10 * size.max():
            raise ValueError("the columns of subspace must be independent: one lies in the span of the others")
    m = dim if basis is None else basis.shape[1]
    u = np.array([np.random.default_rng(s).standard_normal(m) for s in np.random.SeedSequence(seed).spawn(n)])
    u /= np.linalg.norm(u, axis=1)[:, None]
    return u if basis is None else np.asarray(u @ basis.T)


class _Search:
    """Flows from given points, and whether they are back."""

    def __init__(self, evaluate: Evaluate, theta: Array, level: float, options: dict[str, Any]) -> None:
        self.evaluations = 0

        def counted(points: Array) -> tuple[Array, Array]:
            self.evaluations += len(points)
            return evaluate(points)

        self.evaluate, self.theta, self.level = counted, theta, level
        self.limits = {"level": level, "max_time": options["max_time"], "max_evaluations": options["max_evaluations"]}

    def outcomes(self, starts: Array, tolerance: float) -> tuple[NDArray[np.intp], Array, Array]:
        """Outcome of each start, and points and losses at which its flow was stopped."""
        run = flow(self.evaluate, starts, tolerance=tolerance, **self.limits)
        result = np.full(len(starts), OPEN, dtype=np.intp)
        result[run.status == AT_REST] = ABOVE
        result[run.status == NOT_FINITE] = OPEN
        rows = np.flatnonzero(run.status == BELOW)
        if len(rows):
            seen = highest_between(
                self.evaluate, np.broadcast_to(self.theta, (len(rows), len(self.theta))), run.points[rows], SPACING
            )
            result[rows] = np.where(seen <= self.level, STRAIGHT, ELSEWHERE)
            hidden = rows[seen > self.level]
            if len(hidden):
                result[hidden[self._bent(run.points[hidden], tolerance)]] = BENT
        return result, run.points, run.losses

    def _bent(self, ends: Array, tolerance: float) -> NDArray[np.bool_]:
        """Whether the segment from theta to each end flows down to a way without a jump."""
        ok = np.ones(len(ends), dtype=bool)
        # pieces still open: whose, where on the segment, and what these places flow to
        who, low, high = np.arange(len(ends)), np.zeros(len(ends)), np.ones(len(ends))
        from_, to = np.broadcast_to(self.theta, ends.shape).copy(), ends.copy()
        for _ in range(DEPTH):
            middle = 0.5 * (low + high)
            places = self.theta + middle[:, None] * (ends[who] - self.theta)
            run = flow(self.evaluate, places, tolerance=tolerance, **self.limits)
            ok[who[run.status != BELOW]] = False
            who, low, high = np.concatenate([who, who]), np.concatenate([low, middle]), np.concatenate([middle, high])
            from_, to = np.concatenate([from_, run.points]), np.concatenate([run.points, to])
            keep = np.flatnonzero(ok[who])
            if len(keep):
                keep = keep[highest_between(self.evaluate, from_[keep], to[keep], SPACING) > self.level]
            who, low, high, from_, to = who[keep], low[keep], high[keep], from_[keep], to[keep]
            if not len(who):
                return ok
        ok[who] = False
        return ok
