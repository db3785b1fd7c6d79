"""How much weight space has low loss around a minimum: by Monte Carlo, beside the quadratic estimate of the same number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import boolean, integer, numbers, positive
from ._ladder import Chains, Family, bennett, pilot, run_ladder
from ._losses import Evaluate, loss_of_landscape, loss_of_network
from ._progress import bar
from ._quadratic import log_boltzmann, log_sublevel, matched_beta
from ._saved import Saved
from ._settings import resolve_seed
from ._threads import single_threaded_blas
from .mlp import MLP

if TYPE_CHECKING:
    from fpsolve import Estimate, Potential

__all__ = ["Volume", "landscape_volume", "sublevel_volume"]

Array = NDArray[np.float64]

#: Modes softer than this, in units of beta width^2, are left to the flat directions of the sampler's model.
SOFT = 1e-3
#: Replicas whose walkers are apart by more in the distance from theta have not settled (`_mixing`; 1: nothing tells them apart).
MIXED = 1.2


@dataclass(frozen=True, eq=False, repr=False)
class Volume(Saved):
    r"""Measure of a neighbourhood of low loss against its width, made by `sublevel_volume` and `landscape_volume`.

    Attributes
    ----------
    widths : ndarray, shape (n,)
        Standard deviations s of the Gaussian around theta, increasing; the last is the one asked for (inf: Lebesgue measure).
    values, errors : ndarray, shape (n,)
        ln of the measure at each width, and its standard error from the replicas.
    model : ndarray, shape (n,)
        The same of the quadratic bowl with the eigenvalues below: closed form, no sampling.
    replica_values : ndarray, shape (replicas,)
        At the last width, the answer of every replica: jackknife pseudo-values, whose scatter is the error.
    drift, drift_error : float
        Second half of the sweeps minus first half, at the last width: not settled if far from 0.
    level : float
        The sublevel set, or nan (a Boltzmann factor instead).
    beta : float
        Inverse temperature: of the Boltzmann factor, or of the sampling below the level.
    origin : float
        Loss at theta.
    eigenvalues, slopes : ndarray
        Of the curvature, none below 0, largest first; and the gradient along its eigenvectors.
    negative : float
        The lowest eigenvalue that was given; below 0 it was taken for 0 in `model`.
    loss : ndarray, shape (n,)
        Mean of L - L(theta) over the sampled distribution.
    distance : ndarray, shape (n,)
        Root of the mean squared distance from theta in it.
    mixing : ndarray, shape (n,)
        Split R-hat of the squared distance: 1 where all halves of replicas saw the same, above 1.2 where they need more sweeps.
    swaps, acceptance, angle : ndarray, shape (n,)
        Exchanges with the width below, accepted trajectories, and their step (a quarter turn, pi/2, for a quadratic bowl).
    evaluations : int
        Losses with gradients computed.
    sweeps : int
    seed : int

    Examples
    --------
    >>> import fpsolve as fps
    >>> bowl = fps.Potential.from_arrays(lambda x: 0.5 * (x**2).sum(axis=1), lambda x: x, dim=3)
    >>> v = landscape_volume(bowl, np.zeros(3), np.eye(3), beta=3.0, width=1.0, sweeps=20, seed=0)
    >>> v.log_measure, round(float(v.model[-1]), 4)
    (Estimate(-2.079441542, 95 % [-2.07944, -2.07944], Boltzmann factor, 8 replicas of 20 sweeps), -2.0794)
    """

    widths: Array
    values: Array
    errors: Array
    model: Array
    replica_values: Array
    drift: float
    drift_error: float
    level: float
    beta: float
    origin: float
    eigenvalues: Array
    slopes: Array
    negative: float
    loss: Array
    distance: Array
    mixing: Array
    swaps: Array
    acceptance: Array
    angle: Array
    evaluations: int
    sweeps: int
    seed: int
    KIND: ClassVar[str] = "volume"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "widths": ("width", "weight", "standard deviation of the Gaussian"),
        "values": ("width", "", "ln of the measure"),
        "errors": ("width", "", "standard error of ln of the measure"),
        "model": ("width", "", "ln of the measure of the quadratic bowl"),
        "replica_values": ("replica", "", "ln of the measure by each replica"),
        "eigenvalues": ("mode", "loss/weight^2", "eigenvalues of the curvature, largest first"),
        "slopes": ("mode", "loss/weight", "gradient along the eigenvectors"),
        "loss": ("width", "loss", "mean loss above that of the minimum"),
        "distance": ("width", "weight", "root mean square distance from the minimum"),
        "mixing": ("width", "", "split R-hat of the squared distance"),
        "swaps": ("width", "", "accepted exchanges with the width below"),
        "acceptance": ("width", "", "accepted trajectories"),
        "angle": ("width", "rad", "step of the trajectories"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "log_measure": ("", "", "ln of the measure at the last width"),
        "anharmonic": ("", "", "the same less that of the quadratic bowl"),
        "settled": ("", "", "whether halves and replicas agree"),
    }
    ALONG: ClassVar[dict[str, str]] = {"width": "widths"}
    ROWS: ClassVar[str] = "width"
    ERRORS: ClassVar[dict[str, str]] = {"values": "errors"}
    PICTURE: ClassVar[str] = "nets.plotting.plot_volume"

    @property
    def log_measure(self) -> Estimate:
        """ln of the measure at the last width; 95 % interval by Student's distribution over the replicas."""
        return self._estimate(0.0, "ln of the measure")

    @property
    def anharmonic(self) -> Estimate:
        """ln of the measure minus that of the quadratic bowl, at the last width."""
        return self._estimate(float(self.model[-1]), "ln of the ratio to the quadratic bowl")

    @property
    def settled(self) -> bool:
        """Whether the halves of the run agree within three of their errors, and the replicas in how far they reach."""
        return self._steady and self._mixed

    @property
    def _steady(self) -> bool:
        return abs(self.drift) <= 3.0 * self.drift_error + 1e-9

    @property
    def _mixed(self) -> bool:
        return bool(self.mixing.max() <= MIXED)

    def _estimate(self, minus: float, name: str) -> Estimate:
        from scipy.stats import t

        from fpsolve import Assumption, Estimate

        value, error, n = float(self.values[-1]) - minus, float(self.errors[-1]), len(self.replica_values)
        half = float(t.ppf(0.975, n - 1)) * error
        kind = "Boltzmann factor" if math.isnan(self.level) else "sublevel set"
        status = tuple(
            Assumption(name, "held" if held else "failed", what)
            for name, held, what in (
                ("halves of the run agree", self._steady, f"{self.drift:.3g} +- {self.drift_error:.2g}"),
                ("replicas reach equally far", self._mixed, f"R-hat {self.mixing.max():.3g}, at most {MIXED}"),
            )
        )
        method = f"{kind}, {n} replicas of {self.sweeps} sweeps"
        return Estimate(value, stderr=error, interval=(value - half, value + half), assumptions=status, method=method)


def sublevel_volume(
    mlp: MLP,
    theta: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    level: float | None = None,
    beta: float | None = None,
    width: float,
    curvature: ArrayLike | None = None,
    replicas: int = 8,
    sweeps: int = 60,
    leaps: int = 20,
    seed: int | None = None,
    progress: bool = False,
) -> Volume:
    r"""ln of the Gaussian measure of the weights of low loss around theta, beside its quadratic estimate.

    With d Gaussian, of standard deviation `width` in each direction, one of

    .. math:: V(\epsilon) = P\left[\theta + d \in C_\epsilon\right], \qquad
              Z(\beta) = E\left[e^{-\beta (L(\theta + d) - L(\theta))}\right]

    where C is the part of {L <= level} connected with theta. The quadratic estimate of ln Z is
    :math:`-\frac12 \sum_i \ln(1 + \beta s^2 \lambda_i)`: modes with :math:`\lambda \ll 1/(\beta s^2)` do not count, so that no
    number of modes has to be chosen; that of ln V is the measure of the ellipsoid. What differs is anharmonicity alone.

    Parameters
    ----------
    mlp : MLP
    theta : array, shape (P,)
        A minimum.
    x, y : arrays
        The samples.
    level : float
        Above the loss at theta.
    beta : float
        Instead of `level`: the Boltzmann factor, over all weights and not a connected part of them.
    width : float
        s, in units of the weights; inf: Lebesgue measure, for bounded sets with a positive definite curvature.
    curvature : array, shape (P, P), optional
        Of the quadratic bowl, default the Hessian; negative eigenvalues count as 0. The sampler's speed depends on it, not
        its answer.
    replicas : int
        Independent runs, whose scatter is the error.
    sweeps : int
        Trajectories of each walker that count, after as many to settle.
    leaps : int
        Steps of a trajectory, at most.
    seed : int, optional
    progress : bool
        Show a bar.

    Returns
    -------
    Volume
        The measure at a ladder of widths up to `width`.

    Raises
    ------
    ValueError
        Wrong shapes or ranges, a level below the loss at theta, not exactly one of level and beta.
    FpsolveError
        Widths that do not overlap: the loss is too far from quadratic for so many replicas.

    Notes
    -----
    Thermodynamic integration over a harmonic restraint of strength 1/s^2 (D. Frenkel, A. J. C. Ladd, J. Chem. Phys. 81, 3188, 1984;
    basin volumes: S. Martiniani et al., Phys. Rev. E 93, 012906, 2016), in the coordinates that make the quadratic bowl a standard
    normal. There the restraint costs nothing where the loss is quadratic: all widths and exchanges between them are exact and the
    sampling error of Z is zero; sampling pays for anharmonicity only. Ratios of neighbours by Bennett's method (J. Comput. Phys.
    22, 245, 1976), sampling by Hamiltonian trajectories that treat the bowl exactly. Below a level trajectories are refused at the
    wall, and V follows from the sampled Boltzmann distribution by the weights exp(beta L).

    The error is that of the jackknife over the replicas, which all start near theta: where a valley bends within the width, walkers
    need many trajectories along it, and with too few of them the value is too low. For a shell of radius 3 in 5 dimensions, 0.2
    thick, a width of 0.3 is measured to 0.06; one of 1 comes out 0.4 too low by 60 sweeps, 0.05 by 960. The halves of the run agree
    there; the replicas do not, in how far from theta they are. `Volume.settled` takes both: it is False for 35 of 40 seeds at a
    width of 1, and for 2 of 40 at 0.3; take more `sweeps` then. (Split R-hat: A. Gelman et al., Bayesian Data Analysis, 3rd ed.,
    2013, section 11.4.) Parts of the set that no walker reached are missing from value and error.

    Examples
    --------
    >>> import nets
    >>> mlp, rng = nets.MLP((2, 4, 1), activation="tanh", loss="mse"), np.random.default_rng(0)
    >>> x, theta = rng.standard_normal((6, 2)), mlp.init(0)
    >>> y = mlp.outputs(theta, x)  # loss 0 at theta
    >>> v = sublevel_volume(mlp, theta, x, y, beta=100.0, width=0.3, sweeps=10, seed=1)
    >>> bool(abs(v.anharmonic.value) < 1.0 < abs(v.log_measure.value))
    True
    """
    evaluate, (at,) = loss_of_network(mlp, x, y, theta=theta)
    if curvature is None:
        from .curvature import hessian

        curvature = hessian(mlp, at, x, y)
    return _volume(evaluate, at, curvature, _options(level, beta, width, replicas, sweeps, leaps, seed, progress))


def landscape_volume(
    potential: Potential,
    theta: ArrayLike,
    curvature: ArrayLike | None = None,
    *,
    level: float | None = None,
    beta: float | None = None,
    width: float,
    replicas: int = 8,
    sweeps: int = 60,
    leaps: int = 20,
    seed: int | None = None,
    progress: bool = False,
) -> Volume:
    """`sublevel_volume` of any landscape; `curvature` is by default its Hessian at theta.

    Examples
    --------
    The volume of an ellipsoid, 4 pi/3 times its half-axes sqrt(2 level/lambda):

    >>> import fpsolve as fps
    >>> h = np.array([1.0, 4.0, 100.0])
    >>> bowl = fps.Potential.from_arrays(lambda x: 0.5 * (x**2 @ h), lambda x: x * h, dim=3)
    >>> v = landscape_volume(bowl, np.zeros(3), np.diag(h), level=0.5, width=np.inf, seed=0)
    >>> exact = np.log(4.0 * np.pi / 3.0 / 20.0)
    >>> abs(v.log_measure.value - exact) < 5.0 * v.log_measure.stderr < 0.5
    True
    """
    evaluate, (at,) = loss_of_landscape(potential, theta=theta)
    curvature = potential.hess(at) if curvature is None else curvature
    return _volume(evaluate, at, curvature, _options(level, beta, width, replicas, sweeps, leaps, seed, progress))


def _options(*values: Any) -> dict[str, Any]:
    return dict(zip(("level", "beta", "width", "replicas", "sweeps", "leaps", "seed", "progress"), values, strict=True))


# ---- the measurement ----------------------------------------------------------------------------------------------------


def _volume(evaluate: Evaluate, theta: Array, curvature: ArrayLike, options: dict[str, Any]) -> Volume:
    level, beta, width, seed = (options[name] for name in ("level", "beta", "width", "seed"))
    replicas, sweeps = integer("replicas", options["replicas"], 2), integer("sweeps", options["sweeps"], 8)
    leaps = integer("leaps", options["leaps"], 1)
    boolean("progress", options["progress"])
    seed = resolve_seed(seed)
    lebesgue = width == math.inf
    if not lebesgue:
        positive("width", width)
    values, vectors, negative = _spectrum(curvature, len(theta), lebesgue)
    loss, gradient = evaluate(theta[None])
    origin = float(loss[0])
    if not (math.isfinite(origin) and np.isfinite(gradient).all()):
        raise ValueError(f"the loss and its gradient must be finite at theta: got loss {origin!r}")
    beta, level = _temperature(level, beta, origin, values, width)
    spent = [0]

    def counted(points: Array) -> tuple[Array, Array]:
        spent[0] += len(points)
        return evaluate(points)

    family = _family(counted, theta, origin, beta, level, values, vectors, width)
    ladder_seed, *streams = np.random.SeedSequence(seed).spawn(1 + replicas)
    with single_threaded_blas():
        with bar(options["progress"], "widths", None) as tick:
            rungs = pilot(family, float(width), leaps, np.random.default_rng(ladder_seed), tick)
        settings: dict[str, Any] = {"replicas": replicas, "sweeps": sweeps, "leaps": leaps, "seeds": streams}
        with bar(options["progress"], "sweeps", 2 * sweeps) as tick:
            chains = run_ladder(family, rungs, tick=tick, **settings)
    widths = rungs.widths
    slopes = gradient[0] @ vectors
    walled = math.isfinite(level)
    quadratic = [
        log_sublevel(values, slopes, float(s), level - origin) if walled else log_boltzmann(values, slopes, float(s), beta)
        for s in widths
    ]
    base = _model_integrals(family, widths)
    measured, errors, alone = _combine(chains, base, beta if walled else 0.0)
    drift, drift_error = _drift(chains, base, beta if walled else 0.0)
    return Volume(
        widths, measured, errors, np.array(quadratic), alone, drift, drift_error, float(level) if walled else math.nan, float(beta),
        origin, values, slopes, negative, chains.loss.mean(axis=(0, 2)), np.sqrt(chains.square.mean(axis=(0, 2))),
        _mixing(chains.square), chains.swaps, chains.acceptance, chains.angle, spent[0], sweeps, seed,
    )  # fmt: skip


def _spectrum(curvature: ArrayLike, dim: int, lebesgue: bool) -> tuple[Array, Array, float]:
    h = numbers("curvature", curvature)
    if h.shape != (dim, dim) or not np.isfinite(h).all():
        raise ValueError(f"curvature must be finite, of shape ({dim}, {dim}): got shape {h.shape}")
    if np.abs(h - h.T).max(initial=0.0) > 1e-8 * np.abs(h).max(initial=0.0):
        raise ValueError(
            f"curvature must be symmetric: entries differ from their mirror images by {np.abs(h - h.T).max():g}; use (H + H.T) / 2"
        )
    values, vectors = np.linalg.eigh(0.5 * (h + h.T))
    if lebesgue and not values[0] > 0.0:
        raise ValueError(
            f"the Lebesgue measure needs a positive definite curvature: got an eigenvalue {values[0]:g}; give a finite width"
        )
    return np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1]), float(values[0])


def _temperature(level: Any, beta: Any, origin: float, values: Array, width: float) -> tuple[float, float]:
    if (level is None) == (beta is None):
        raise ValueError(f"give either level or beta: got level={level!r}, beta={beta!r}")
    if beta is not None:
        return positive("beta", beta), math.inf
    level = positive("level", level, origin, "the loss at theta")
    return matched_beta(values, float(width), level - origin), level


def _family(
    evaluate: Evaluate, theta: Array, origin: float, beta: float, level: float, values: Array, vectors: Array, width: float
) -> Family:
    stiff = values * beta * width**2 > SOFT
    return Family(evaluate, theta, origin, beta, level, values[stiff], np.ascontiguousarray(vectors[:, stiff]))


def _model_integrals(family: Family, widths: Array) -> Array:
    """ln of the integral of the sampler's model at each width; for an infinite one the Lebesgue integral."""
    zero = np.zeros(len(family.values))
    return np.array([log_boltzmann(family.values, zero, float(s), family.beta) for s in widths])


def _combine(chains: Chains, base: Array, beta: float) -> tuple[Array, Array, Array]:
    """ln of the measure at each width, jackknife errors, and the last one's value from each replica alone."""
    replicas = len(chains.loss)
    every = np.arange(replicas)
    total = _logs(chains, base, beta, every)
    left = np.array([_logs(chains, base, beta, every[every != m]) for m in every])
    error = np.sqrt((replicas - 1) * np.mean((left - left.mean(axis=0)) ** 2, axis=0))
    alone = replicas * total[-1] - (replicas - 1) * left[:, -1]  # pseudo-values: free of the bias of order 1/replicas
    return total, error, alone


def _logs(chains: Chains, base: Array, beta: float, rows: NDArray[np.intp]) -> Array:
    """ln of the measure at each width from some of the replicas."""
    ratios = [bennett(f[rows], b[rows]) for f, b in zip(chains.forward, chains.backward, strict=True)]
    result = base + np.cumsum(ratios)
    if beta:
        from scipy.special import logsumexp

        weights = beta * chains.loss[rows]
        result = result + logsumexp(weights, axis=(0, 2)) - math.log(weights.shape[0] * weights.shape[2])
    return np.asarray(result)


def _halves(chains: Chains) -> tuple[Chains, Chains]:
    """The first and the second half of the sweeps."""

    def part(a: Array, second: bool) -> Array:
        middle = a.shape[-1] // 2
        return np.asarray(a[..., middle:] if second else a[..., :middle])

    first, second = (
        replace(chains, forward=[part(f, s) for f in chains.forward], backward=[part(b, s) for b in chains.backward],
                loss=part(chains.loss, s))
        for s in (False, True)
    )  # fmt: skip
    return first, second


def _mixing(samples: Array) -> Array:
    r"""Split R-hat of (replicas, widths, sweeps) at each width, each replica cut in two runs of n sweeps.

    .. math:: \hat R^2 = \frac{n - 1}{n} + \frac{\text{variance of the runs' means}}{\text{mean variance within runs}}

    Examples
    --------
    >>> _mixing(np.array([[[0.0, 2.0, 0.0, 2.0]], [[4.0, 6.0, 4.0, 6.0]]])) ** 2  # 1/2 + (16/3)/2
    array([3.16666667])
    """
    n = samples.shape[2] // 2
    runs = np.concatenate([samples[:, :, :n], samples[:, :, n : 2 * n]])
    within = np.maximum(runs.var(axis=2, ddof=1).mean(axis=0), 1e-300)
    return np.asarray(np.sqrt((n - 1.0) / n + runs.mean(axis=2).var(axis=0, ddof=1) / within))


def _drift(chains: Chains, base: Array, beta: float) -> tuple[float, float]:
    """Second half minus first half of the sweeps at the last width, and the jackknife error of that."""
    from fpsolve import FpsolveError

    first, second = _halves(chains)
    every = np.arange(len(chains.loss))

    def change(rows: NDArray[np.intp]) -> float:
        return float(_logs(second, base, beta, rows)[-1] - _logs(first, base, beta, rows)[-1])

    try:
        left = np.array([change(every[every != m]) for m in every])
    except FpsolveError:  # too few sweeps for halves of them to overlap: not settled
        return math.nan, math.nan
    return change(every), float(np.sqrt((len(every) - 1) * np.mean((left - left.mean()) ** 2)))
