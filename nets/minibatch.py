"""The landscapes of single minibatches along a direction: where their minima lie, how curved they are, how hot the noise is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import integer, numbers, of_kind, positive
from ._saved import Saved
from .flatness import _columns
from .landscape import Landscape, Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BatchMinima", "active_temperature", "minibatch_minima"]

Array = NDArray[np.float64]

#: Points on each side of the first search for a minimum.
POINTS = 24
#: Steps of golden section: the bracket shrinks by 0.618 with each.
GOLDEN_STEPS = 40


@dataclass(frozen=True, eq=False, repr=False)
class BatchMinima(Saved):
    r"""Minibatch losses on a line, as random parabolas :math:`L^\mu = L_0^\mu + M^\mu (d - \theta^\mu)^2 / 2`.

    Attributes
    ----------
    position : ndarray, shape (n,)
        theta^mu: where the loss of each minibatch is lowest for \|d\| <= `cap`.
    curvature : ndarray, shape (n,)
        M^mu: second derivative at d = 0.
    slope : ndarray, shape (n,)
        First derivative at d = 0.
    capped : ndarray of bool, shape (n,)
        Minima at the ends of the range: the loss of that minibatch falls on beyond.
    cap : float
    batch : int

    Examples
    --------
    >>> at, slope = np.array([0.1, -0.1, 3.0]), np.array([-0.2, 0.2, 0.0])
    >>> m = BatchMinima(at, np.full(3, 2.0), slope, np.array([False, False, True]), 3.0, 5)
    >>> m.spread, m.stiffness, int(m.capped.sum())
    (0.01, 2.0, 1)
    """

    position: Array
    curvature: Array
    slope: Array
    capped: NDArray[np.bool_]
    cap: float
    batch: int
    KIND: ClassVar[str] = "batch minima"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "position": ("minibatch", "length of the direction", "where the minibatch loss is lowest"),
        "curvature": ("minibatch", "loss/length^2", "second derivative at 0"),
        "slope": ("minibatch", "loss/length", "first derivative at 0"),
        "capped": ("minibatch", "1", "minimum at the end of the range"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "spread": ("", "length^2", "variance of the positions of the minima"),
        "stiffness": ("", "loss/length^2", "mean curvature"),
        "force": ("", "loss^2/length^2", "variance of the slopes"),
    }
    ROWS: ClassVar[str] = "minibatch"

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Histogram of the positions of the minima, those at the cap left out; `options` go to ``Axes.hist``."""
        from ._pictures import axes

        ax = axes(ax)
        ax.hist(self.position[~self.capped], **{"bins": 40, **options})
        ax.set(xlabel="position of the minimum", ylabel="minibatches")
        return ax

    @property
    def spread(self) -> float:
        """Variance of the positions of the minima; those at the cap are left out. NaN where all are."""
        return float(np.var(self.position[~self.capped])) if not self.capped.all() else math.nan

    @property
    def stiffness(self) -> float:
        """Mean curvature M^(0)."""
        return float(self.curvature.mean())

    @property
    def force(self) -> float:
        """Variance of the slopes at 0; independent parabolas have stiffness^2 spread."""
        return float(np.var(self.slope))


def minibatch_minima(
    landscape: Landscape, direction: ArrayLike, *, batch: int, cap: float, n: int = 200, seed: int | None = 0
) -> BatchMinima:
    """Minima and curvatures of the losses of n random minibatches along one direction.

    The lowest of 49 points within the cap, then golden section between its neighbours; all minibatches side by side.

    Parameters
    ----------
    landscape : Landscape
    direction : array, shape (size,)
    batch : int
        Samples per minibatch, drawn without repeats.
    cap : float, > 0
        Minima are looked for at \\|d\\| <= cap, e.g. three widths.
    n : int
    seed : int or None

    Returns
    -------
    BatchMinima

    Raises
    ------
    ValueError
        Wrong shapes, or a batch, cap or n out of range.

    Examples
    --------
    >>> import nets
    >>> x, y = np.array([[1.0], [1.0]]), np.array([[1.0], [-1.0]])
    >>> land = Landscape(nets.MLP((1, 1), loss="mse"), [0.0, 0.0], x, y, block="W1")
    >>> minima = minibatch_minima(land, [1.0], batch=1, cap=3.0, n=50)
    >>> sorted(set(minima.position.round(6).tolist())), minima.stiffness
    ([-1.0, 1.0], 1.0)
    """
    p = _columns(landscape, direction)
    if p.shape[1] != 1:
        raise ValueError(f"minima are looked for along one direction: got {p.shape[1]}")
    integer("batch, up to the number of samples,", batch, 1, landscape.samples)
    positive("cap", cap)
    integer("n", n, 2)
    if n > 10_000_000:
        raise ValueError(f"n must be at most 10 million minima: got {n}")
    rng = np.random.default_rng(seed)
    chosen = np.array([rng.choice(landscape.samples, batch, replace=False) for _ in range(n)])
    line = landscape.section(p)
    _, slope, curvature = line.jets()
    grid = cap * np.arange(-POINTS, POINTS + 1) / POINTS
    coarse = np.array([line.batch_losses(chosen, np.full(n, d)) for d in grid])
    best = coarse.argmin(axis=0)
    capped = (best == 0) | (best == len(grid) - 1)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    position = np.where(capped, grid[best], _golden(line, chosen, low, high))
    return BatchMinima(position, curvature[chosen].mean(axis=1), slope[chosen].mean(axis=1), capped, float(cap), int(batch))


def _golden(line: Section, chosen: NDArray[np.intp], low: Array, high: Array) -> Array:
    ratio = 0.5 * (math.sqrt(5.0) - 1.0)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = line.batch_losses(chosen, left), line.batch_losses(chosen, right)
    for _ in range(GOLDEN_STEPS):
        down = at_left < at_right  # the minimum lies in (low, right)
        low, high = np.where(down, low, left), np.where(down, right, high)
        new = np.where(down, high - ratio * (high - low), low + ratio * (high - low))
        value = line.batch_losses(chosen, new)
        left, right = np.where(down, new, right), np.where(down, left, new)
        at_left, at_right = np.where(down, value, at_right), np.where(down, at_left, value)
    return np.asarray(0.5 * (low + high))


def active_temperature(
    landscape: Landscape,
    directions: ArrayLike,
    displacements: ArrayLike = 0.0,
    *,
    lr: float,
    batch: int,
    sampling: str = "shuffle",
) -> Array:
    r"""Active temperature on lines: half the learning rate times the mean square of the slope of the minibatch noise.

    .. math:: T_i(d) = \frac{\eta}{2} \left\langle \left[ \frac{\partial}{\partial d}
              (L^\mu - L)(w_0 + d p_i) \right]^2 \right\rangle_\mu = \frac{\eta}{2B} f\, p_i^T C(w_0 + d p_i)\, p_i

    The mean over minibatches is exact: f = 1 with replacement, (N - B)/(N - 1) without. It is the D_ii of the process that
    `nets.bridge` makes, at every point of the line. Source: Y. Feng, Y. Tu, PNAS 118, e2015617118 (2021).

    Parameters
    ----------
    landscape : Landscape
    directions : array, shape (size, k)
    displacements : float, or array of shape (m,) or (k, m)
    lr, batch, sampling
        Of the SGD.

    Returns
    -------
    ndarray, shape (k, m)

    Raises
    ------
    ValueError
        Wrong shapes or settings.

    Examples
    --------
    >>> import nets
    >>> x, y = np.array([[1.0], [1.0]]), np.array([[1.0], [-1.0]])
    >>> land = Landscape(nets.MLP((1, 1), loss="mse"), [0.0, 0.0], x, y, block="W1")
    >>> active_temperature(land, [1.0], [0.0, 2.0], lr=0.1, batch=1, sampling="replace")
    array([[0.05, 0.05]])
    """
    from .stats import _check_settings

    of_kind(landscape, Landscape, "landscape", "nets.Landscape(mlp, theta, x, y)")
    _check_settings(lr, batch, sampling, 0.0, landscape.samples)
    p = _columns(landscape, directions)
    d = np.atleast_1d(numbers("displacements", displacements))
    d = np.tile(d, (p.shape[1], 1)) if d.ndim == 1 else d
    if d.ndim != 2 or len(d) != p.shape[1] or not np.isfinite(d).all():
        raise ValueError(f"displacements must be finite, of shape (m,) or ({p.shape[1]}, m): got {d.shape}")
    size = landscape.samples
    factor = 1.0 if sampling == "replace" else (size - batch) / max(size - 1, 1)
    noise = [[landscape.section(column).jets(point)[1].var() for point in row] for column, row in zip(p.T, d, strict=True)]
    return np.asarray(0.5 * lr / batch * factor * np.array(noise))
