"""How flat the loss is along a direction: e-fold widths, profiles and their parabolas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers, of_kind, positive
from ._progress import each
from ._saved import Saved
from .landscape import Landscape, Section

__all__ = ["Flatness", "Profiles", "flatness", "loss_plane", "loss_profiles"]

Array = NDArray[np.float64]

#: A bracket grows by this factor until the loss exceeds its level; of crossings closer to each other than that one may be missed.
GROWTH = 1.6


@dataclass(frozen=True, eq=False, repr=False)
class Flatness(Saved):
    r"""Widths of the valley of the loss along several directions; made by `flatness`.

    .. math:: L(w_0 + \theta^l p_i) = L(w_0 + \theta^r p_i) = e\,L(w_0), \quad F_i = \theta^r - \theta^l

    Attributes
    ----------
    left, right : ndarray, shape (k,)
        Where the loss first reaches `level` times that of the point; -inf, inf where it does not within `reach`.
    slope, curvature : ndarray, shape (k,)
        p.grad L and p.H p at the point.
    noise : ndarray, shape (k,)
        p.C p: variance over the samples of the slope of their losses. Minibatch gradients have 1/B of it.
    reach : ndarray, shape (k,)
        How far was looked on each side.
    loss : float
        L at the point.
    level : float

    Examples
    --------
    >>> one = np.ones(2)
    >>> f = Flatness(np.array([-1.0, -2.0]), np.array([1.0, np.inf]), 0 * one, one, one, 10 * one, 0.5, np.e)
    >>> f.width, f.one_sided
    (array([ 2., inf]), array([False,  True]))
    """

    left: Array
    right: Array
    slope: Array
    curvature: Array
    noise: Array
    reach: Array
    loss: float
    level: float
    KIND: ClassVar[str] = "flatness"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "left": ("direction", "length of the direction", "where the loss first reaches the level, to the left"),
        "right": ("direction", "length of the direction", "where the loss first reaches the level, to the right"),
        "slope": ("direction", "loss/length", "p . grad L"),
        "curvature": ("direction", "loss/length^2", "p . H p"),
        "noise": ("direction", "loss^2/length^2", "p . C p, per sample"),
        "reach": ("direction", "length of the direction", "how far was looked"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "width": ("direction", "length of the direction", "width of the valley at the level"),
    }
    ROWS: ClassVar[str] = "direction"
    DRAWN: ClassVar[str] = "width"

    @property
    def width(self) -> Array:
        """F_i, shape (k,); inf where a side is open."""
        return np.asarray(self.right - self.left)

    @property
    def one_sided(self) -> NDArray[np.bool_]:
        """Where the loss stays below its level on one side or on both."""
        return np.asarray(~np.isfinite(self.width))

    @property
    def parabola(self) -> Array:
        r"""H_ii F_i^2 / (8 ln(level) L_0): one for ln L a symmetric parabola, L = L_0 exp(4 ln(level) d^2/F^2)."""
        return np.asarray(self.curvature * self.width**2 / (8.0 * math.log(self.level) * self.loss))


def flatness(
    landscape: Landscape,
    directions: ArrayLike,
    *,
    level: float = math.e,
    reach: float | None = None,
    progress: bool = False,
) -> Flatness:
    """Widths of the loss along each direction, by a growing bracket and Brent's method on ln L.

    Parameters
    ----------
    landscape : Landscape
        Samples, weights and the block that moves.
    directions : array, shape (size, k)
        Columns; widths are in units of their length.
    level : float, > 1
        The loss at the ends over that at the point.
    reach : float, optional
        How far to look on each side; default: ten times the norm of the block, or 10 if that is more; in units of the direction's
        length.
    progress : bool
        Show a bar.

    Returns
    -------
    Flatness

    Raises
    ------
    ValueError
        Wrong shapes, a level not above 1, a reach not above 0, or a point whose loss is not finite and positive.

    Notes
    -----
    A drift along which the loss goes on falling has one end only: its width is inf, which fits leave out and count.
    Source: Y. Feng, Y. Tu, PNAS 118, e2015617118 (2021).

    Examples
    --------
    A linear network with mean squared loss has a parabola: L = L_0 + H d^2/2 at its minimum.

    >>> import nets
    >>> x, y = np.array([[1.0], [2.0]]), np.array([[1.0], [1.0]])
    >>> land = Landscape(nets.MLP((1, 1), loss="mse"), [0.6, 0.0], x, y, block="W1")
    >>> f = flatness(land, np.eye(1))
    >>> f.loss, float(f.curvature[0]), float(f.width[0] ** 2 * 2.5 / (8 * (np.e - 1) * 0.05))
    (0.05, 2.5, 1.0)
    """
    p = _columns(landscape, directions)
    positive("level", level, above=1.0)
    if reach is not None:
        positive("reach", reach)
    norm = max(1.0, float(np.linalg.norm(landscape.theta[landscape.index])))
    rows, loss = [], math.nan
    for j in each(range(p.shape[1]), progress, "flatness", p.shape[1]):
        line, length = landscape.section(p[:, j]), float(np.linalg.norm(p[:, j]))
        losses, slopes, curvatures = line.jets()
        loss, slope, curvature = float(losses.mean()), float(slopes.mean()), float(curvatures.mean())
        if not (math.isfinite(loss) and loss > 0.0):
            raise ValueError(f"the loss at the point must be finite and above 0, to be multiplied by {level:g}: got {loss!r}")
        first = min(_first_step(loss, slope, curvature, level), norm / length)
        far = 10.0 * norm / length if reach is None else float(reach)
        ends = [side * _crossing(line, side, loss, level, min(first, far), far) for side in (-1.0, 1.0)]
        rows.append((*ends, slope, curvature, float(slopes.var()), far))
    left, right, slope_, curvature_, noise, far_ = np.array(rows).T
    return Flatness(left, right, slope_, curvature_, noise, far_, loss, float(level))


def _first_step(loss: float, slope: float, curvature: float, level: float) -> float:
    """Four fifths of the shortest distance at which slope or curvature of ln L alone would reach the level."""
    rise = math.log(level) * loss
    with np.errstate(divide="ignore"):
        by_slope = rise / abs(slope) if slope else math.inf
        by_curvature = math.sqrt(2.0 * rise / curvature) if curvature > 0.0 else math.inf
    return 0.8 * min(by_slope, by_curvature)


def _crossing(line: Section, side: float, loss: float, level: float, first: float, reach: float) -> float:
    """Brent's method in the square of the distance, in which ln L is nearly a straight line."""
    from scipy.optimize import brentq

    known: dict[float, float] = {0.0: -math.log(level)}

    def excess(square: float) -> float:
        if square not in known:
            value = float(line.loss([side * math.sqrt(square)])[0]) / loss
            known[square] = math.log(min(max(value, 1e-300), 1e300) if not math.isnan(value) else 1e300) - math.log(level)
        return known[square]

    low, high = 0.0, first
    while excess(high * high) < 0.0:
        if high >= reach:
            return math.inf
        low, high = high, min(GROWTH * high, reach)
    return math.sqrt(brentq(excess, low * low, high * high, xtol=1e-9 * high * high, rtol=1e-9))


@dataclass(frozen=True, eq=False, repr=False)
class Profiles(Saved):
    """Losses on lines through one point; made by `loss_profiles`.

    Attributes
    ----------
    displacements : ndarray, shape (k, m)
    loss : ndarray, shape (k, m)
    center : float
        L at the point itself.

    Examples
    --------
    >>> d = np.array([[-1.0, -0.5, 0.0, 0.5, 1.0]])
    >>> Profiles(d, 0.1 * np.exp(2 * d**2), 0.1).parabola()[1].round(12)
    array([1.])
    """

    displacements: Array
    loss: Array
    center: float
    KIND: ClassVar[str] = "profiles"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "displacements": ("direction point", "length of the direction", "displacement"),
        "loss": ("direction point", "loss", "mean loss of all samples"),
    }
    ROWS: ClassVar[str] = "direction point"
    PICTURE: ClassVar[str] = "nets.plotting.plot_profiles"

    def parabola(self) -> tuple[Array, Array]:
        """Coefficients (k, 3) of d^2, d, 1 fitted to ln L by least squares, and the share R^2 of its variance that they explain."""
        if self.loss.shape[1] < 3 or not ((self.loss > 0.0) & np.isfinite(self.loss)).all():
            raise ValueError(f"a parabola of ln L needs 3 points and losses above 0: got {self.loss.shape[1]}, {self.loss.min()}")
        fits, shares = [], []
        for d, loss in zip(self.displacements, np.log(self.loss), strict=True):
            c = np.polyfit(d, loss, 2)
            fits.append(c)
            shares.append(1.0 - np.var(loss - np.polyval(c, d)) / np.var(loss) if np.ptp(loss) > 0.0 else 1.0)
        return np.array(fits), np.array(shares)


def loss_profiles(landscape: Landscape, directions: ArrayLike, displacements: ArrayLike) -> Profiles:
    """Losses along each direction; displacements (m,) for all, or (k, m) for each its own.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("digits"), nets.MLP((64, 12, 10))
    >>> land = nets.Landscape(mlp, mlp.init(0), data.x_train, data.y_train, block="W2")
    >>> loss_profiles(land, np.eye(land.size)[:, :2], [-0.1, 0.0, 0.1]).loss.shape
    (2, 3)
    """
    p = _columns(landscape, directions)
    d = numbers("displacements", displacements)
    d = np.tile(d, (p.shape[1], 1)) if d.ndim == 1 else d
    if d.ndim != 2 or len(d) != p.shape[1] or d.size == 0 or not np.isfinite(d).all():
        raise ValueError(f"displacements must be finite, of shape (m,) or ({p.shape[1]}, m), m >= 1: got shape {d.shape}")
    loss = np.array([landscape.section(p[:, j]).loss(d[j]) for j in range(p.shape[1])])
    return Profiles(d, loss, float(landscape.section(p[:, 0]).loss([0.0])[0]))


def loss_plane(landscape: Landscape, directions: ArrayLike, first: ArrayLike, second: ArrayLike) -> Array:
    """Losses on the grid w_0 + a p_1 + b p_2, array (len(first), len(second)).

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("digits"), nets.MLP((64, 12, 10))
    >>> land = nets.Landscape(mlp, mlp.init(0), data.x_train, data.y_train, block="W2")
    >>> loss_plane(land, np.eye(land.size)[:, :2], [-1.0, 0.0, 1.0], [0.0, 1.0]).shape
    (3, 2)
    """
    p = _columns(landscape, directions)
    if p.shape[1] != 2:
        raise ValueError(f"a plane has two directions: got {p.shape[1]}")
    a, b = np.meshgrid(numbers("first", first), numbers("second", second), indexing="ij")
    return landscape.section(p).loss(np.column_stack([a.ravel(), b.ravel()])).reshape(a.shape)


def _columns(landscape: Landscape, directions: ArrayLike) -> Array:
    of_kind(landscape, Landscape, "landscape", "nets.Landscape(mlp, theta, x, y, block='W2')")
    p = numbers("directions", directions)
    p = p[:, None] if p.ndim == 1 else p
    if p.ndim != 2 or len(p) != landscape.size or p.shape[1] < 1:
        raise ValueError(f"directions must be columns of {landscape.size} weights, the block that moves: got shape {p.shape}")
    lengths = np.linalg.norm(p, axis=0)
    if not (np.isfinite(lengths).all() and (lengths > 0.0).all()):
        raise ValueError(f"directions must be finite and not zero: got lengths {lengths.min():g} .. {lengths.max():g}")
    return p
