"""Results that are curves: paths of least action, limit cycles, effective losses of a slow coordinate and their phase diagram."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fpsolve._estimate import Assumption, Estimate, _Record
from fpsolve._shown import Description, _lines, _with_error

if TYPE_CHECKING:
    pass

__all__ = ["Cycle", "EffectiveLoss", "Path", "PhaseDiagram"]

Array = npt.NDArray[np.float64]


def _array(value: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    out = np.asarray(value, dtype=np.float64)
    if out.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {out.shape}")
    return out


@dataclass(frozen=True, eq=False, repr=False)
class Path(_Record):
    r"""A path of least action :math:`S = \frac14 \int (\dot x - b)^T D^{-1} (\dot x - b)\,dt`.

    Parameters
    ----------
    points : array (n, d)
        From the start to the end.
    action : Estimate
        Its `discretization_error` comes from the last refinement. ``inf`` where no noise carries the path on.
    cumulative : array (n,)
        Action from the start up to each point: the quasipotential along the path, if the start is an attractor.
    drift : array (n, d)
        b at the points, in the limit of weak noise (no noise-induced part).
    fixed_points : array (k, d)
        Zeros of the drift that the path passes or ends in, in order.
    indices : array of int (k,)
        Number of unstable directions of each: 0 where it attracts.
    method : str
    warnings : sequence of str
    solver_info : mapping of str to number or str

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

    Examples
    --------
    >>> path = Path([[0.0, 0.0], [3.0, 4.0]], Estimate(1.0), [0.0, 1.0], [[0.0, 0.0], [-3.0, 0.0]], [[0.0, 0.0]], [0])
    >>> float(path.length), path.tangents[0], path.saddles
    (5.0, array([0.6, 0.8]), array([], shape=(0, 2), dtype=float64))
    """

    points: Array
    action: Estimate
    cumulative: Array
    drift: Array
    fixed_points: Array
    indices: npt.NDArray[np.int64]
    method: str = ""
    warnings: tuple[str, ...] = ()
    solver_info: Mapping[str, Any] = field(default_factory=dict)
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "points": ("point component", "", "points of the path"),
        "cumulative": ("point", "", "action from the start up to the point"),
        "drift": ("point component", "", "drift in the limit of weak noise"),
        "fixed_points": ("fixed_point component", "", "zeros of the drift that the path passes"),
        "indices": ("fixed_point", "", "number of unstable directions of each"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {
        "length": ("", "", "Euclidean length"),
        "arclength": ("point", "", "length from the start"),
    }
    ROWS: ClassVar[str] = "point"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_path"

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or len(points) < 2:
            raise ValueError(f"Path: points must have shape (n, d) with n >= 2, got {points.shape}")
        n, d = points.shape
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "cumulative", _array(self.cumulative, (n,), "Path: cumulative"))
        object.__setattr__(self, "drift", _array(self.drift, (n, d), "Path: drift"))
        indices = np.asarray(self.indices, dtype=np.int64).reshape(-1)
        fixed = np.asarray(self.fixed_points, dtype=np.float64).reshape(-1, d)
        object.__setattr__(self, "fixed_points", _array(fixed, (indices.size, d), "Path: fixed_points"))
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "solver_info", dict(self.solver_info))

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return int(self.points.shape[1])

    @property
    def arclength(self) -> Array:
        """Euclidean length from the start up to each point, array (n,)."""
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    @property
    def length(self) -> float:
        """Euclidean length."""
        return float(self.arclength[-1])

    @property
    def tangents(self) -> Array:
        """Unit tangents, array (n, d): one-sided at the ends and at fixed points, where a path may turn."""
        step = np.diff(self.points, axis=0)
        size = np.linalg.norm(step, axis=1, keepdims=True)
        unit = step / np.where(size > 0.0, size, 1.0)
        s = np.maximum(size, 1e-300)
        out = np.concatenate([unit[:1], (s[1:] * unit[:-1] + s[:-1] * unit[1:]) / (s[1:] + s[:-1]), unit[-1:]])
        for point in self.fixed_points:
            at = int(np.argmin(np.linalg.norm(self.points - point, axis=1)))
            out[at] = unit[min(at, len(unit) - 1)]
        length = np.linalg.norm(out, axis=1, keepdims=True)
        return np.asarray(out / np.where(length > 0.0, length, 1.0))

    @property
    def saddles(self) -> Array:
        """Fixed points on the path with stable and unstable directions, in 1-D unstable ones: array (k, d)."""
        top = self.dim if self.dim > 1 else 2
        return np.asarray(self.fixed_points[(self.indices > 0) & (self.indices < top)])

    def __repr__(self) -> str:
        names = {0: "attractor", 1: "saddle" if self.dim > 1 else "maximum"}
        passed = [
            f"{names.get(int(i), f'fixed point with {i} unstable directions')} {np.array2string(x, precision=6)}"
            for x, i in zip(self.fixed_points, self.indices, strict=True)
        ]
        head = f"Path of {len(self.points)} points in {self.dim}-D, length {self.length:.6g}"
        items = [f"action: {self.action}", f"passes: {', '.join(passed)}" if passed else "", f"method: {self.method}"]
        return _lines(head, items, self.warnings)


@dataclass(frozen=True, eq=False, repr=False)
class Cycle(_Record):
    """An attracting limit cycle of a drift.

    Parameters
    ----------
    points : array (n, d)
        Equally spaced in time; the last is one step before the first.
    period : Estimate
    multipliers : complex array (d - 1,)
        Floquet multipliers without the one of the motion along the cycle: what a deviation is multiplied with in one turn.
    method : str

    Raises
    ------
    ValueError
        If the arrays have other shapes.

    Examples
    --------
    >>> turn = np.linspace(0.0, 2.0 * np.pi, 8, endpoint=False)
    >>> Cycle(np.stack([np.cos(turn), np.sin(turn)], -1), Estimate(6.2832, unit="time"), [0.5])
    Cycle of period 6.2832 time in 2-D
      largest multiplier 0.5
    """

    points: Array
    period: Estimate
    multipliers: npt.NDArray[np.complex128]
    method: str = ""
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "points": ("point component", "", "points of the cycle, equally spaced in time"),
        "multipliers": ("direction", "", "Floquet multipliers across the cycle"),
    }
    ROWS: ClassVar[str] = "point"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_path"

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or len(points) < 8 or points.shape[1] < 2:
            raise ValueError(f"Cycle: points must have shape (n, d) with n >= 8 and d >= 2, got {points.shape}")
        multipliers = np.asarray(self.multipliers, dtype=np.complex128)
        if multipliers.shape != (points.shape[1] - 1,):
            raise ValueError(f"Cycle: multipliers must have shape {(points.shape[1] - 1,)}, got {multipliers.shape}")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "multipliers", multipliers)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return int(self.points.shape[1])

    def __repr__(self) -> str:
        largest = np.abs(self.multipliers).max()
        period = f"{_with_error(self.period.value, self.period.error)} {self.period.unit}".rstrip()
        head = f"Cycle of period {period} in {self.dim}-D"
        return _lines(head, [f"largest multiplier {largest:.4g}", f"method: {self.method}" if self.method else ""])


@dataclass(frozen=True, eq=False, repr=False)
class EffectiveLoss(_Record):
    r"""What the slow coordinate of a valley sees once the fast ones are averaged out; made by `theory.effective_loss`.

    Parameters
    ----------
    x : array (n,)
        The slow coordinate; m fast ones are averaged over.
    floor : array (n,)
        L_0: the loss on the floor of the valley.
    loss : array (n,)
        Effective loss U, zero at its least point; -dU/dx is the mean force. ``loss - floor`` is what the noise adds.
    force, diffusion : array (n,)
        Mean force and diffusion along the valley, to leading order in the noise.
    drift, spread : array (n,)
        The same to second order.
    variance : array (n, m)
        Of the fast coordinates.
    flatness : array (n,)
        F, one over the root of the determinant of the fast curvatures.
    anisotropy : array (n,)
        kappa: noise across over noise along the valley, averaged.
    validity : array (n,)
        What the fluctuations of y add to the noise along the valley, relative; the first order needs it small.
    log_density, corrected : array (n,)
        ln p(x) between reflecting ends, at both orders; NaN where it is a peak narrower than two distances of the points, as
        where the noise along the valley vanishes at the minimum.
    minimum : Estimate
        Where the effective loss is least.
    relaxation : Estimate
        1/e time of the mean near it, in time; ``.per_iteration()`` divides by lr.
    order : Estimate
        <F> over the largest F, at second order; its error is the change from the first.
    bounds : mapping of str to Estimate
        How many times stronger the noise could be until kappa = 1 ("anisotropy") and until the second moment grows ("second
        moment"), and how many times larger the learning rate until the chain is unstable ("step"). Below 1: beyond the bound.
    assumptions : sequence of Assumption
    lr : float, optional
    points : array (n, d), optional
        Of a curved floor in the state space; x is then its arc length, densities are per length, everything is of leading order
        (`drift`, `spread` and `corrected` repeat it), -dU/dx is the force less the slope of the diffusion, so that the density
        peaks where U is least, and `variance` holds the principal variances across.
    closed : bool
        Whether the floor is a closed curve: the last point is the first, and nothing reflects. A current may run around it: the
        density has it, and U then does not come back to its value.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

    Examples
    --------
    >>> import fpsolve as fps
    >>> valley = fps.Process(fps.potentials.degenerate_valley("1 + x**2"), fps.Noise.isotropic(0.01))
    >>> effective = fps.theory.effective_loss(valley, (-1.0, 1.0))
    >>> bool(np.allclose(effective.loss, 0.005 * np.log1p(effective.x**2), atol=1e-9))             # -Delta ln F
    True
    """

    x: Array
    floor: Array
    loss: Array
    force: Array
    drift: Array
    diffusion: Array
    spread: Array
    variance: Array
    flatness: Array
    anisotropy: Array
    validity: Array
    log_density: Array
    corrected: Array
    minimum: Estimate
    relaxation: Estimate
    order: Estimate
    bounds: Mapping[str, Estimate] = field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()
    lr: float | None = None
    points: Array | None = None
    closed: bool = False
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "x": ("x", "", "the slow coordinate"),
        "floor": ("x", "", "loss on the floor of the valley"),
        "loss": ("x", "", "effective loss"),
        "force": ("x", "", "mean force to leading order"),
        "drift": ("x", "", "mean force to second order"),
        "diffusion": ("x", "", "diffusion along the valley to leading order"),
        "spread": ("x", "", "diffusion along the valley to second order"),
        "variance": ("x fast", "", "variances of the fast coordinates"),
        "flatness": ("x", "", "one over the root of the determinant of the fast curvatures"),
        "anisotropy": ("x", "", "noise across over noise along the valley"),
        "validity": ("x", "", "what the fluctuations across add to the noise along the valley, relative"),
        "log_density": ("x", "", "ln of the density to leading order"),
        "corrected": ("x", "", "ln of the density to second order"),
        "points": ("x component", "", "points of a curved floor"),
    }
    ALONG: ClassVar[Mapping[str, str]] = {"x": "x"}
    ROWS: ClassVar[str] = "x"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_effective_loss"

    def __post_init__(self) -> None:
        x = np.asarray(self.x, dtype=np.float64)
        if x.ndim != 1:
            raise ValueError(f"EffectiveLoss: x must have shape (n,), got {x.shape}")
        object.__setattr__(self, "x", x)
        names = "floor loss force drift diffusion spread flatness anisotropy validity log_density corrected"
        for name in names.split():
            object.__setattr__(self, name, _array(getattr(self, name), x.shape, f"EffectiveLoss: {name}"))
        variance = np.asarray(self.variance, dtype=np.float64)
        object.__setattr__(self, "variance", _array(variance, (x.size, variance.shape[-1]), "EffectiveLoss: variance"))
        if self.points is not None:
            points = np.asarray(self.points, dtype=np.float64)
            object.__setattr__(self, "points", _array(points, (x.size, points.shape[-1]), "EffectiveLoss: points"))
        object.__setattr__(self, "bounds", dict(self.bounds))
        object.__setattr__(self, "assumptions", tuple(self.assumptions))

    @property
    def place(self) -> Array | None:
        """State on a curved floor where the effective loss is least, array (d,); None for a floor along an axis."""
        if self.points is None:
            return None
        near = np.abs(self.x - self.minimum.value).argsort()[:5]
        lengths = (self.x[near] - self.minimum.value) / float(np.ptp(self.x[near]))
        return np.asarray(np.linalg.solve(np.vander(lengths, increasing=True), self.points[near])[0])

    @property
    def failed(self) -> tuple[Assumption, ...]:
        """The conditions that do not hold."""
        return tuple(a for a in self.assumptions if a.status == "failed")

    @property
    def beyond(self) -> bool:
        """Whether the noise is beyond one of the bounds."""
        return any(e.value < 1.0 for e in self.bounds.values())

    def density(self, *, leading: bool = False) -> Array:
        """p(x) at the points, to second order or to leading order.

        Raises
        ------
        ValueError
            Where it is a peak that the points do not resolve, or the noise is too strong for the expansion.
        """
        log = self.log_density if leading else self.corrected
        if not np.all(np.isfinite(log)):
            raise ValueError(
                "EffectiveLoss.density: the points do not resolve it, all paths end near the minimum "
                f"{self.minimum.value:.6g}; take a narrower range of x (if the noise vanishes there, it is a point)"
            )
        return np.asarray(np.exp(log))

    def __repr__(self) -> str:
        place = "" if self.place is None else f" along the floor: {np.round(self.place, 4).tolist()}"
        head = f"EffectiveLoss(x in [{self.x[0]:.4g}, {self.x[-1]:.4g}], minimum at {self.minimum.value:.5g}{place})"
        bounds = [f"{name}: noise could be {e.value:.3g} times stronger" for name, e in self.bounds.items() if name != "step"]
        order = f"relaxation {self.relaxation!r}", f"<F>/F_max {self.order.value:.4g}"
        return _lines(head, [*order, *bounds, *(str(a) for a in self.failed)])


@dataclass(frozen=True, eq=False, repr=False)
class PhaseDiagram(_Record):
    """Where SGD in a valley stays, by noise and learning rate; made by `fpsolve.phase_diagram`.

    Parameters
    ----------
    sigma, lr : array (ns,), (nl,)
        Increasing.
    escaped : array (ns, nl)
        Share of the replicas that left; NaN where nothing was run yet.
    order : array (ns, nl)
        <F>/F_max over those that stayed; NaN where none did.
    n : int
        Replicas per point.
    bounds : mapping of str to Estimate
        Of theory: lr sigma^2 where kappa = 1 ("anisotropy") and where the second moment grows ("second moment").
    settings : mapping of str to str or number
        What was asked for.
    seed : int, optional

    Raises
    ------
    ValueError
        If the shapes do not fit each other.

    Examples
    --------
    >>> diagram = PhaseDiagram([1.0, 2.0], [0.1], [[0.0], [1.0]], [[0.9], [np.nan]], 10)
    >>> diagram.critical()
    array([1.5])
    """

    sigma: Array
    lr: Array
    escaped: Array
    order: Array
    n: int
    bounds: Mapping[str, Estimate] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "sigma": ("sigma", "", "noise"),
        "lr": ("lr", "", "learning rate"),
        "escaped": ("sigma lr", "", "share of the replicas that left"),
        "order": ("sigma lr", "", "<F>/F_max over those that stayed"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {
        "critical": ("lr", "", "noise at which half of the replicas leave"),
        "exponent": ("", "", "slope of ln(critical noise) over ln(learning rate)"),
    }
    ALONG: ClassVar[Mapping[str, str]] = {"sigma": "sigma", "lr": "lr"}
    ROWS: ClassVar[str] = "sigma lr"
    PICTURE: ClassVar[str] = "fpsolve.plotting.plot_phase_diagram"

    def __post_init__(self) -> None:
        for name in ("sigma", "lr"):
            value = np.asarray(getattr(self, name), dtype=np.float64).reshape(-1)
            object.__setattr__(self, name, value)
        for name in ("escaped", "order"):
            object.__setattr__(self, name, _array(getattr(self, name), (self.sigma.size, self.lr.size), f"PhaseDiagram: {name}"))
        object.__setattr__(self, "bounds", dict(self.bounds))
        object.__setattr__(self, "settings", dict(self.settings))

    def critical(self, share: float = 0.5) -> Array:
        """Noise at which a share of the replicas leaves, for every learning rate: array (nl,), NaN where it is outside the range.

        Linear between the neighbouring points, at the first crossing from below.
        """
        out = np.full(self.lr.size, np.nan)
        for j, column in enumerate(self.escaped.T):
            over = np.flatnonzero((column[1:] >= share) & (column[:-1] < share))
            if over.size:
                i = int(over[0])
                part = (share - column[i]) / (column[i + 1] - column[i])
                out[j] = self.sigma[i] + part * (self.sigma[i + 1] - self.sigma[i])
        return out

    def exponent(self) -> float:
        """d ln sigma_c/d ln lr, by least squares over the learning rates that have a critical noise; NaN below two of them."""
        critical = self.critical()
        known = np.isfinite(critical)
        if known.sum() < 2:
            return float("nan")
        return float(np.polyfit(np.log(self.lr[known]), np.log(critical[known]), 1)[0])

    def __repr__(self) -> str:
        pairs = ", ".join(f"{c:.4g} at lr {r:.4g}" for c, r in zip(self.critical(), self.lr, strict=True))
        return f"PhaseDiagram({self.sigma.size} x {self.lr.size} points of {self.n} replicas; critical sigma {pairs})"
