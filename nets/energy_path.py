"""A path of least loss between two minima, its barrier, and SGD along it as a process on a line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._along_path import curvatures_across, measured, rate_over_the_top
from ._checks import boolean, integer, numbers, of_kind, positive
from ._losses import Evaluate, loss_of_landscape, loss_of_network
from ._progress import bar
from ._saved import Saved
from ._string import Curve, Relaxed, across, relax
from ._threads import single_threaded_blas
from .mlp import MLP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpsolve import Estimate, Potential, Process

__all__ = ["EnergyPath", "minimum_energy_path", "landscape_path"]

Array = NDArray[np.float64]

#: Losses are measured at so many points of each segment between images.
SAMPLES = 8
#: The search on the plane across the top: steps at most, and length of the first as part of the distance of images.
MOST_ON_PLANE, FIRST_STEP = 500, 0.1
#: A top counts if it stands above its surroundings by this part of the range of losses on the path.
PROMINENCE = 1e-3


@dataclass(frozen=True, eq=False)
class EnergyPath(Saved):
    r"""A path between two points of a landscape, made by `minimum_energy_path` and `landscape_path`.

    Attributes
    ----------
    images : ndarray, shape (n, P)
        At equal distances; the path is the cubic spline through them.
    residual : ndarray, shape (n,)
        Length of the gradient across the path, 0 where the path is one of least loss; at the ends, which stay, too.
    s, loss, slope : ndarray, shape (m,)
        Length of the path from the first end on, the losses on it, and their derivatives by s.
    straight : ndarray, shape (m,)
        Losses on the straight line between the ends, at the same parts of its length.
    drop : float
        By how much the plane across the path through its highest point goes lower than that, as far as a search by L-BFGS finds.
    coarse_top : float
        Highest loss of the path with half as many segments; nan without one.
    steps, evaluations : int
        Evaluations are losses and gradients of single points.
    history : ndarray
        Largest residual before each step.
    converged : bool
        It is below the tolerance.

    Examples
    --------
    >>> import fpsolve as fps, nets
    >>> path = nets.landscape_path(fps.potentials.double_well(2), [-1.0, 0.0], [1.0, 0.0])
    >>> path.barriers.round(6), round(path.length, 6), len(path.tops)
    (array([1., 1.]), 2.0, 1)
    """

    images: Array
    residual: Array
    s: Array
    loss: Array
    slope: Array
    straight: Array
    drop: float
    coarse_top: float
    steps: int
    evaluations: int
    history: Array
    converged: bool
    KIND: ClassVar[str] = "energy path"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "images": ("image parameter", "weight", "points of the path"),
        "residual": ("image", "loss/weight", "gradient across the path"),
        "s": ("point", "weight", "length of the path from the first end"),
        "loss": ("point", "loss", "loss on the path"),
        "slope": ("point", "loss/weight", "its derivative along the path"),
        "straight": ("point", "loss", "loss on the straight line between the ends"),
        "history": ("step", "loss/weight", "largest gradient across the path"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "barriers": ("end", "loss", "highest loss above that of each end"),
        "error": ("", "loss", "by how much the barriers may be lower"),
        "length": ("", "weight", "length of the path"),
    }
    ALONG: ClassVar[dict[str, str]] = {"point": "s"}
    ROWS: ClassVar[str] = "point"

    def __repr__(self) -> str:
        return (
            f"EnergyPath({len(self.images)} images, length {self.length:.4g}, "
            f"barriers {self.barriers[0]:.4g} and {self.barriers[1]:.4g} "
            f"(upper bounds; nearby at most {self.error:.2g} lower), "
            f"{'converged' if self.converged else 'not converged'} after {self.steps} steps)"
        )

    @property
    def length(self) -> float:
        """Of the path."""
        return float(self.s[-1])

    @cached_property
    def top(self) -> tuple[float, float]:
        """Place s and loss of the highest point: of the cubic Hermite interpolant of the losses and slopes measured."""
        return _highest(self.s, self.loss, self.slope)

    @property
    def barriers(self) -> Array:
        """Highest loss on the path above that of the first end and above that of the last."""
        return np.array([self.top[1] - self.loss[0], self.top[1] - self.loss[-1]])

    @property
    def error(self) -> float:
        """By how much the barriers of the best path may be lower: interpolation, and `drop`; none is below the higher end.

        The losses of a path bound the barrier from above. From below it is bounded by the lowest point of the plane that all paths
        must cross; `drop` knows of the part of it only that is connected with this path. Where minima are degenerate, the plane
        goes down to the losses of the ends: then the error is the barrier itself, and nothing but the bound is known.
        """
        half = _highest(self.s[::2], self.loss[::2], self.slope[::2])[1]
        room = self.top[1] - max(float(self.loss[0]), float(self.loss[-1]))
        return float(min(abs(half - self.top[1]) + self.drop, room))

    @property
    def change(self) -> float:
        """Change of the highest loss when the number of segments was doubled."""
        return self.top[1] - self.coarse_top

    @property
    def tops(self) -> Array:
        """Places s of the maxima between the ends that stand out: candidates for saddles."""
        from scipy.signal import find_peaks

        peaks, _ = find_peaks(self.loss, prominence=max(PROMINENCE * float(np.ptp(self.loss)), 1e-300))
        return np.asarray(self.s[peaks])

    def at(self, s: ArrayLike) -> tuple[Array, Array]:
        """Points and unit tangents of the path, (m, P), at lengths s (m,)."""
        where = np.atleast_1d(numbers("s", s))
        if where.ndim != 1 or not (np.all(where >= 0.0) and np.all(where <= self.length * (1.0 + 1e-12))):
            raise ValueError(f"s must be lengths from 0 to {self.length:g}: got {s!r}")
        return self._curve(where)

    @cached_property
    def _curve(self) -> Curve:
        return Curve(self.images)

    def process(self, mlp: MLP, x: ArrayLike, y: ArrayLike, *, lr: float, batch: int) -> Process:
        r"""SGD along the path as a process of s, in time lr x iterations.

        .. math:: ds = -\frac{dL}{ds}\,dt + \sqrt{2 D(s)}\, dW, \qquad D(s) = \frac{\eta}{2B}\, t^T C\, t

        with the unit tangent t; t^T C t is the variance of the samples' derivatives along it, batches drawn with replacement (Ito).
        Left out is all that happens across the path: the drift by its curvature, and how its width changes, by which rates
        over the top are wider or narrower passes: for white noise a factor sqrt(det_a/det_top) of the curvatures, `escape_rate`.
        Measured at so many points that the integral of `|dL/ds|/D`, the scale of ln(time), is settled to one per cent.

        Parameters
        ----------
        mlp, x, y
            Those that the path was made with.
        lr, batch : float, int

        Returns
        -------
        fpsolve.Process
            On [0, length], constant drift and noise beyond; for ``theory.mean_first_passage_1d``, `FokkerPlanck`, `escape_times`.

        Examples
        --------
        >>> import nets, numpy as np
        >>> mlp, x = nets.MLP((1, 1), loss="mse"), np.array([[1.0], [2.0]])
        >>> path = nets.minimum_energy_path(mlp, [1.0, 0.0], [3.0, 0.0], x, 2.0 * x, max_steps=0)
        >>> path.process(mlp, x, 2.0 * x, lr=0.1, batch=1).diffusion([0.0])       # derivatives (w - 2) x^2: 1 and 4 in size
        array([[0.1125]])
        """
        from fpsolve import Noise, Process

        self._check(mlp)
        samples, rule = mlp.check_samples(x, y), Noise.covariance(np.ones((1, 1)), lr=lr, batch=batch)
        s, slope, variance = measured(self, mlp, *samples, float(rule.diffusion(np.zeros(1))[0, 0]))
        return Process.tabulated(s, -slope, Noise.covariance(variance[:, None, None], lr=lr, batch=batch, axes=[s]))

    def escape_rate(
        self, mlp: MLP, x: ArrayLike, y: ArrayLike, *, lr: float, batch: int, end: Literal["first", "last"] = "first"
    ) -> Estimate:
        r"""Rate at which SGD leaves the valley of one end over the highest point of the path, and what that rests on.

        .. math:: k = \frac{1}{4\, T} \sqrt{\frac{\det H_\perp(\text{valley})}{\det H_\perp(\text{top})}}

        T is the mean time from the lowest place before the top to the top, of `process` with a wall at that place: exact for any
        drift and D(s) on the line. The other half of the valley is not on the path, and taken for as wide; half of the arrivals at
        the top turn back: hence 4.
        The determinants are of the curvatures across the path, which is Kramers' factor for noise that is alike in all directions,
        as that of SGD hardly ever is: see the conditions. Where the loss does not curve up in all directions across (more weights
        than samples), there is no factor, and the rate is that on the line.

        Parameters
        ----------
        mlp, x, y, lr, batch
            As of `process`.
        end : {"first", "last"}
            Which valley.

        Returns
        -------
        fpsolve.Estimate
            In 1/time, time = lr x iterations (``per_iteration()``). `log_value` is always set; `assumptions` are tested.

        Raises
        ------
        ValueError
            Bad arguments; noise that vanishes on the way, as at zero loss: no finite time; a path without a top between its ends.

        Examples
        --------
        A bump, which one unit can climb or descend. On the way the noise is a twentieth of that of all directions, so that SGD has
        better ways than along the gradient:

        >>> import nets, numpy as np
        >>> mlp = nets.MLP((1, 1, 1), activation="tanh", loss="mse", weight_decay=0.02)
        >>> x = np.linspace(-1.5, 1.5, 12)[:, None]
        >>> y = np.where(np.abs(x) < 0.6, 1.0, -1.0) + 0.05 * x
        >>> starts, how = ([w, 1.2, 0.5, -0.6] for w in (1.0, -1.0)), {"loss": 1e-9, "method": "l-bfgs", "strict": False}
        >>> up, down = (nets.find_minimum(mlp, start, x, y, **how).theta for start in starts)
        >>> path = nets.minimum_energy_path(mlp, up, down, x, y)
        >>> rate = path.escape_rate(mlp, x, y, lr=0.05, batch=1, end="last")
        >>> round(rate.log_value, 1), [a.name for a in rate.failed]
        (-22.3, ['D changes little along the path', 'noise is alike in all directions'])
        """
        self._check(mlp)
        if end not in ("first", "last"):
            raise ValueError(f"end must be 'first' or 'last': got {end!r}")
        if self.top[0] in (0.0, self.length):
            top = "last" if self.top[0] else "first"
            raise ValueError(f"the highest point of the path is its {top} end: there is no barrier between the ends to leave over")
        return rate_over_the_top(self, mlp, *mlp.check_samples(x, y), lr, batch, end == "last")

    def widths(self, mlp: MLP, x: ArrayLike, y: ArrayLike) -> Array:
        """Curvatures of the loss across the path, rising, (3, P - 1): at the first end, at the highest point, at the last end.

        With isotropic noise, and all of them positive, the rate over the top in all directions is that along the path times
        ``exp(0.5 * (np.log(w[0]).sum() - np.log(w[1]).sum()))``.
        """
        self._check(mlp)
        samples = mlp.check_samples(x, y)
        return np.array([curvatures_across(self, place, mlp, *samples) for place in (0.0, self.top[0], self.length)])

    def _check(self, mlp: MLP) -> None:
        of_kind(mlp, MLP, "mlp", "the one that the path was made with")
        if mlp.dim != self.images.shape[1]:
            raise ValueError(f"the path is one of {self.images.shape[1]} weights: got a network of {mlp.dim}")

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Loss against length along the path, its images, and dashed the straight line; `options` go to ``Axes.plot``."""
        from ._pictures import axes

        ax = axes(ax)
        (line,) = ax.plot(self.s, self.loss, **{"label": "path", **options})
        nodes = self._curve.nodes
        ax.plot(nodes, np.interp(nodes, self.s, self.loss), "o", markersize=3, color=line.get_color())
        ax.plot(self.s, self.straight, "--", linewidth=1, color="0.5", label="straight line")
        scale = "log" if min(self.loss.min(), self.straight.min()) > 0.0 else "linear"
        ax.set(xlabel="length $s$ along the path", ylabel="loss", yscale=scale)
        ax.legend(frameon=False)
        return ax


def minimum_energy_path(
    mlp: MLP,
    a: ArrayLike,
    b: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    images: int = 17,
    initial: ArrayLike | None = None,
    tolerance: float = 1e-3,
    max_steps: int = 200,
    progress: bool = False,
) -> EnergyPath:
    r"""A path of least loss between two networks: where it is not at rest, the gradient of the loss runs along it.

    .. math:: \nabla L(\theta(s)) - (\nabla L \cdot t)\, t = 0, \qquad t = \theta'(s), \quad |t| = 1

    Its highest point is the saddle that gradient descent and weak noise of equal strength in all directions must pass (of the paths
    around it). The loss of any path is an upper bound of the lowest barrier. First with half as many segments, then with all.

    Parameters
    ----------
    mlp : MLP
    a, b : array, shape (P,)
        The ends, which stay; they need not be minima, nor of one loss.
    x, y : array
        The samples.
    images : int, odd, >= 5
        Points of the path, both ends among them.
    initial : array, shape (k, P), optional
        Points from a to b to start from; default: the straight line.
    tolerance : float
        Largest gradient across the path in the end, as part of the largest gradient on the path at first.
    max_steps : int
        Of each of the two relaxations; 0 leaves the initial path. Not to converge is no error: see `EnergyPath.converged` and
        `EnergyPath.error`.
    progress : bool
        Show a bar of steps.

    Returns
    -------
    EnergyPath

    Raises
    ------
    ValueError, TypeError
        Bad arguments, equal ends, losses that are not finite on the initial path. Before any work.
    fpsolve.FpsolveError
        The loss became infinite on the way.

    Notes
    -----
    The simplified string method: images flow downhill for a while, by stabilised Runge-Kutta steps, and are put at equal distances
    again. A nudged elastic band has the same path; it needs springs, and its force is not a gradient: with 33 images between
    networks of 161 weights it blew up under FIRE with the improved tangent, as this did not. Directions that the loss hardly
    depends on converge slowly, and networks with more weights than samples have many: images go on sinking apart from each
    other, and the curve between them rises again. Where the tolerance is not reached, the path is the one whose highest loss
    (between images, too) was lowest: an upper bound of the barrier.

    W. E, W. Ren, E. Vanden-Eijnden, J. Chem. Phys. 126, 164103 (2007). G. Henkelman, H. Jonsson, J. Chem. Phys. 113, 9978 (2000).
    Between networks: F. Draxler et al., ICML 2018 (arXiv:1803.00885); T. Garipov et al., NeurIPS 2018 (arXiv:1802.10026).

    Examples
    --------
    Two linear networks of the same outputs, w2 w1 = 1: the straight line between them passes the zero network, the path need not.

    >>> import nets
    >>> mlp, x = nets.MLP((1, 1, 1), loss="mse"), [[1.0], [2.0]]
    >>> path = nets.minimum_energy_path(mlp, [0.5, 0.0, 2.0, 0.0], [2.0, 0.0, 0.5, 0.0], x, x)
    >>> bool(path.barriers.max() < 0.01 * path.straight.max())
    True
    """
    evaluate, (start, stop) = loss_of_network(mlp, x, y, a=a, b=b)
    with single_threaded_blas():
        return _relaxed_path(evaluate, start, stop, images, initial, tolerance, max_steps, progress)


def landscape_path(
    potential: Potential,
    a: ArrayLike,
    b: ArrayLike,
    *,
    images: int = 17,
    initial: ArrayLike | None = None,
    tolerance: float = 1e-3,
    max_steps: int = 200,
    progress: bool = False,
) -> EnergyPath:
    """A path of least loss between two points of any landscape; arguments and result as of `minimum_energy_path`.

    Examples
    --------
    Half around a ring of equal losses there is no barrier:

    >>> import fpsolve as fps, numpy as np
    >>> bent = np.array([[-1.0, 0.0], [0.0, 0.5], [1.0, 0.0]])
    >>> path = landscape_path(fps.potentials.ring(), [-1.0, 0.0], [1.0, 0.0], initial=bent)
    >>> round(path.length / np.pi, 3), bool(path.barriers.max() < 1e-4)
    (1.0, True)
    """
    evaluate, (start, stop) = loss_of_landscape(potential, a=a, b=b)
    return _relaxed_path(evaluate, start, stop, images, initial, tolerance, max_steps, progress)


def _relaxed_path(
    evaluate: Evaluate,
    a: Array,
    b: Array,
    images: int,
    initial: ArrayLike | None,
    tolerance: float,
    max_steps: int,
    progress: bool,
) -> EnergyPath:
    from fpsolve import FpsolveError

    start = _check(a, b, images, initial, tolerance, max_steps, progress)
    loss, gradient = evaluate(start)
    if not (np.isfinite(loss).all() and np.isfinite(gradient).all()):
        raise ValueError("the loss and its gradient must be finite on the initial path; give initial=... that avoids such places")
    limit = tolerance * float(np.linalg.norm(gradient, axis=1).max())
    coarse, highest, found = start[::2], math.nan, []
    with bar(progress, "path", 2 * max_steps) as show, np.errstate(over="ignore", invalid="ignore"):
        for n in ((images + 1) // 2, images):
            curve = Curve(coarse)
            points = np.concatenate([a[None], curve(np.linspace(0.0, curve.length, n)[1:-1])[0], b[None]])
            found.append(relax(evaluate, points, tolerance=limit, max_steps=max_steps, show=show))
            coarse = found[-1].images
            if not (np.isfinite(coarse).all() and np.isfinite(found[-1].history[-1])):
                raise FpsolveError(
                    f"the loss became infinite after {found[-1].steps} steps; try more images, or another initial path"
                )
            if n < images:
                highest = _highest(*_profile(evaluate, coarse)[:3])[1]
    return _result(evaluate, found, highest)


def _check(a: Array, b: Array, images: int, initial: ArrayLike | None, tolerance: float, max_steps: int, progress: bool) -> Array:
    """The initial path (images, P), all arguments checked."""
    integer("images, the points of the path,", images, 5)
    if images % 2 == 0:
        raise ValueError(f"images must be odd, for the path is relaxed with half as many segments first: got {images!r}")
    positive("tolerance", tolerance)
    integer("max_steps", max_steps, 0)
    boolean("progress", progress)
    apart = float(np.linalg.norm(b - a))
    if apart <= 1e-12 * max(float(np.linalg.norm(a)), float(np.linalg.norm(b))):
        raise ValueError(f"a and b must be different points: they are {apart:.3g} apart")
    if initial is None:
        return np.asarray(a + np.linspace(0.0, 1.0, images)[:, None] * (b - a))
    path = numbers("initial", initial).copy()
    if path.ndim != 2 or path.shape[1] != len(a) or len(path) < 3 or not np.isfinite(path).all():
        raise ValueError(f"initial must be finite points of shape (k, {len(a)}) with k >= 3: got shape {path.shape}")
    path[0], path[-1] = a, b
    if not np.linalg.norm(np.diff(path, axis=0), axis=1).min() > 1e-9 * apart:
        raise ValueError("initial must not have the same point twice in a row")
    curve = Curve(path)
    return np.concatenate([a[None], curve(np.linspace(0.0, curve.length, images)[1:-1])[0], b[None]])


def _profile(evaluate: Evaluate, images: Array) -> tuple[Array, Array, Array, Array]:
    """Lengths, losses, slopes and gradients across, on a path."""
    curve = Curve(images)
    s = np.linspace(0.0, curve.length, SAMPLES * (len(images) - 1) + 1)
    points, tangents = curve(s)
    loss, gradient = evaluate(points)
    return s, loss, (gradient * tangents).sum(axis=1), across(gradient, tangents)


def _highest(s: Array, loss: Array, slope: Array) -> tuple[float, float]:
    """The highest point of the cubic Hermite interpolant."""
    h, rise = np.diff(s), np.diff(loss)
    a, b = slope[:-1] * h, slope[1:] * h
    # on a segment, u from 0 to 1: loss + a u + (3 rise - 2 a - b) u^2 + (a + b - 2 rise) u^3
    c, d = 3.0 * rise - 2.0 * a - b, a + b - 2.0 * rise
    i = int(np.argmax(loss))
    best, place = float(loss[i]), float(s[i])
    for j in (k for k in (i - 1, i) if 0 <= k < len(h)):
        for u in np.roots([3.0 * d[j], 2.0 * c[j], a[j]]):
            if abs(u.imag) < 1e-12 and 0.0 < u.real < 1.0:
                value = float(loss[j] + u.real * (a[j] + u.real * (c[j] + u.real * d[j])))
                best, place = max((best, place), (value, float(s[j] + u.real * h[j])))
    return place, best


def _result(evaluate: Evaluate, found: list[Relaxed], highest: float) -> EnergyPath:
    last = found[-1]
    s, loss, slope, _ = _profile(evaluate, last.images)
    curve = Curve(last.images)
    ends = last.images[[0, -1]]
    top = curve(np.array([_highest(s, loss, slope)[0]]))
    drop, searched = _drop(evaluate, *top, max(loss[0], loss[-1]), FIRST_STEP * curve.length / (len(last.images) - 1))
    gradient, tangent = evaluate(last.images)[1], curve(curve.nodes)[1]
    return EnergyPath(
        images=last.images,
        residual=np.linalg.norm(across(gradient, tangent), axis=1),
        s=s,
        loss=loss,
        slope=slope,
        straight=evaluate(ends[0] + (s / s[-1])[:, None] * (ends[1] - ends[0]))[0],
        drop=drop,
        coarse_top=highest,
        steps=sum(r.steps for r in found),
        evaluations=sum(r.evaluations for r in found) + searched,
        history=np.concatenate([r.history for r in found]),
        converged=last.converged,
    )


def _drop(evaluate: Evaluate, point: Array, tangent: Array, floor: float, step: float) -> tuple[float, int]:
    """What the lowest point on the plane across the path has less than `point`, and evaluations; below `floor` the search ends.

    A path that goes the same way crosses the plane, so that none is lower than the lowest point of it. L-BFGS, whose first step is
    of length `step` at most.
    """
    from scipy.optimize import minimize

    count, lowest = 0, math.inf

    def on_plane(z: Array) -> tuple[float, Array]:
        nonlocal count, lowest
        count += 1
        (loss,), gradient = evaluate(point + step * across(z[None], tangent))
        if not (math.isfinite(loss) and np.isfinite(gradient).all()):
            return 1e300, np.zeros_like(z)
        lowest = min(lowest, float(loss))
        return float(loss), step * across(gradient, tangent)[0]

    def stop(_: Array) -> None:
        if lowest <= floor:
            raise StopIteration

    zero = np.zeros(point.shape[1])
    top, slope = on_plane(zero)
    options = {"maxcor": 20, "maxiter": MOST_ON_PLANE, "ftol": 1e-15, "gtol": 1e-10 * float(np.abs(slope).max()), "maxls": 40}
    minimize(on_plane, zero, jac=True, method="L-BFGS-B", callback=stop, options=options)
    return max(top - lowest, 0.0), count
