"""Curves of least geometric action between two points: cubic splines, exact gradients, L-BFGS across the curve.

The action S = (1/4) int (x' - b)^T a (x' - b) dt, a = D^-1, least over all ways of running through a curve, is

    S = (1/2) int (|x'|_a |b|_a - <x', b>_a) du                                                       (Heymann & Vanden-Eijnden)

whatever the parameter u. A curve is a clamped cubic spline in u with n elements; the integral takes 4 Gauss nodes on each, so
what is minimised is, but for the quadrature, the action of a real curve: an upper bound, with an error of order 6 in 1/n where
the curve is smooth. Where a curve ends in a fixed point of the drift it may be a power of its length or a spiral without end;
there the length goes as the cube of u, so that elements shrink towards it.

Moving along the curve changes nothing, so control points move in the planes across it only. The convex part of the second
variation, a banded matrix, is the metric for L-BFGS: its steps do not depend on n. After each run the speed is set right again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.linalg import LinAlgError, cholesky_banded, solve_banded
from scipy.optimize import minimize
from scipy.special import betainc

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from .process import Process

__all__ = ["Basis", "Dynamics", "Segment", "climb", "density", "least", "panel_actions"]

Array = NDArray[np.float64]

DEGREE = 3
NODES = 4
#: Power of u with which the length grows from a fixed point.
GRADING = 3.0
#: L-BFGS iterations before the speed along the curve is set right again, and how often that is done.
ITERATIONS, ROUNDS = 300, 20
#: Part of an element by which sites may be off the length that they should have.
OFF = 0.3


class Dynamics:
    """Drift, its Jacobian and the inverse tensor in coordinates y = W^-1 (x - center), in which D is about one."""

    def __init__(self, process: Process, center: Array, W: Array) -> None:
        self.process, self.center, self.W, self.inverse = process, center, W, np.linalg.inv(W)
        self.dim = process.dim
        self.drift_code = process.weak_drift_code
        self.slope_code = self.drift_code.jacobian()
        self.tensor_slope = None if process.noise.is_constant else process.diffusion_code.jacobian()

    def to_state(self, y: Array) -> Array:
        """States x of points y (n, d)."""
        return np.asarray(self.center + y @ self.W.T)

    def from_state(self, x: Array) -> Array:
        """Points y of states x (n, d)."""
        return np.asarray((x - self.center) @ self.inverse.T)

    def drift(self, y: Array) -> Array:
        """W^-1 b at points (n, d)."""
        return np.asarray(self.drift_code.evaluate(self.to_state(y), self.process.params) @ self.inverse.T)

    def slope(self, y: Array) -> Array:
        """Jacobian of `drift` at points (n, d): (n, d, d)."""
        J = self.slope_code.evaluate(self.to_state(y), self.process.params).reshape(-1, self.dim, self.dim)
        return np.asarray(self.inverse @ J @ self.W)

    def tensor(self, y: Array) -> Array:
        """W^-1 D W^-T at points (n, d): (n, d, d)."""
        return np.asarray(self.inverse @ self.process.diffusion(self.to_state(y)) @ self.inverse.T)

    def tensor_gradient(self, y: Array) -> Array | None:
        """Derivatives of `tensor` along axis i in [..., i]; None for a constant one."""
        if self.tensor_slope is None:
            return None
        d = self.dim
        raw = self.tensor_slope.evaluate(self.to_state(y), self.process.params).reshape(-1, d, d, d)
        return np.asarray(np.einsum("aj,njki,bk,ic->nabc", self.inverse, raw, self.inverse, self.W, optimize=True))


@dataclass
class _Density:
    """Integrand of the action at points, its derivatives along position and velocity, and the convex parts of the second ones."""

    value: Array
    along_x: Array
    along_v: Array
    curvature_v: Array | None = None
    curvature_x: Array | None = None


def _inverse(D: Array) -> Array:
    """D^-1; a singular tensor keeps 1e-13 of its trace, so that the action there is large and not undefined."""
    d = D.shape[-1]
    floor = 1e-13 * np.trace(D, axis1=-2, axis2=-1)[:, None, None] / d + 1e-200
    return np.linalg.inv(D + floor * np.eye(d))


def density(dynamics: Dynamics, y: Array, v: Array, *, second: bool = False) -> _Density:
    """Integrand (1/2)(|v||b| - <v, b>) in the norm of D^-1, with exact derivatives."""
    b, J, a = dynamics.drift(y), dynamics.slope(y), _inverse(dynamics.tensor(y))
    w, z = np.einsum("nij,nj->ni", a, v), np.einsum("nij,nj->ni", a, b)
    size_v = np.sqrt(np.maximum(np.einsum("ni,ni->n", v, w), 1e-200))
    size_b = np.sqrt(np.maximum(np.einsum("ni,ni->n", b, z), 1e-200))
    ratio = (size_b / size_v)[:, None]
    along_v, along_b = 0.5 * (ratio * w - z), 0.5 * (z / ratio - w)
    along_x = np.einsum("nij,ni->nj", J, along_b)
    slope = dynamics.tensor_gradient(y)
    if slope is not None:  # da/dx = -a (dD/dx) a
        pairs = 0.25 * (ratio[..., None] * w[:, :, None] * w[:, None, :] + z[:, :, None] * z[:, None, :] / ratio[..., None])
        along_x = along_x - np.einsum("njk,njki->ni", pairs - 0.5 * w[:, :, None] * z[:, None, :], slope)
    out = _Density(0.5 * (size_v * size_b - np.einsum("ni,ni->n", v, z)), along_x, along_v)
    if second:
        across_v = a - w[:, :, None] * w[:, None, :] / (size_v**2)[:, None, None]
        across_b = a - z[:, :, None] * z[:, None, :] / (size_b**2)[:, None, None]
        out.curvature_v = 0.5 * ratio[..., None] * across_v
        out.curvature_x = np.einsum("nji,njk,nkl->nil", J, 0.5 / ratio[..., None] * across_b, J, optimize=True)
    return out


class Basis:
    """Clamped cubic B-splines on n equal elements of [0, 1], and how the length of the curve is to grow with u.

    `ends` says which ends are fixed points of the drift: from those the length grows as u^3.
    """

    def __init__(self, n: int, ends: tuple[bool, bool]) -> None:
        self.n, self.ends, self.size = n, ends, n + DEGREE
        self.knots = np.concatenate([np.zeros(DEGREE), np.linspace(0.0, 1.0, n + 1), np.ones(DEGREE)])
        node, weight = np.polynomial.legendre.leggauss(NODES)
        self.u = ((np.arange(n)[:, None] + 0.5 * (node + 1.0)) / n).ravel()
        self.weights = np.tile(0.5 * weight / n, n)
        self.values, self.slopes = self.matrices(self.u)
        self.sites = np.array([self.knots[i + 1 : i + DEGREE + 1].mean() for i in range(self.size)])
        at_sites, self.site_slopes = self.matrices(self.sites)
        self.interpolate = np.linalg.inv(at_sites.toarray())
        self.fine = np.linspace(0.0, 1.0, 16 * n + 1)
        self.at_fine = self.matrices(self.fine)[0]
        first = np.arange(n)[:, None]  # element e holds the functions e ... e + 3
        rows = np.arange(n * NODES).reshape(n, NODES)
        take = (rows[:, :, None], (first + np.arange(DEGREE + 1))[:, None, :])
        self.local_values = np.asarray(self.values.toarray()[take])
        self.local_slopes = np.asarray(self.slopes.toarray()[take])

    def matrices(self, u: Array) -> tuple[csr_array, csr_array]:
        """Sparse matrices from control points to values and derivatives at u."""
        from scipy.sparse import csr_array, diags_array

        values = csr_array(BSpline.design_matrix(u, self.knots, DEGREE))
        lower = csr_array(BSpline.design_matrix(u, self.knots[1:-1], DEGREE - 1))
        step = DEGREE / (self.knots[DEGREE + 1 : -1] - self.knots[1 : -DEGREE - 1])
        difference = diags_array([-step, step], offsets=[0, 1], shape=(self.size - 1, self.size))
        return values, csr_array(lower @ difference)

    def length_share(self, u: Array) -> Array:
        """Share of the length that lies before u."""
        start, end = (GRADING if fixed else 1.0 for fixed in self.ends)
        return np.asarray(betainc(start, end, u))

    def through(self, points: Array) -> Array:
        """Control points (n + 3, d) of the spline through a polygon (k, d), with the lengths as they should be."""
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        keep = np.concatenate([[True], np.diff(length) > 1e-14 * length[-1]])
        wanted = self.length_share(self.sites) * length[-1]
        sampled = np.stack([np.interp(wanted, length[keep], column[keep]) for column in points.T], -1)
        return np.asarray(self.interpolate @ sampled)

    def even(self, control: Array) -> Array:
        """The same curve, its length again as `length_share` says; unchanged where no site is off by a third of an element.

        Interpolation moves the curve a little, so that it is done no more often than needed.
        """
        points = self.at_fine @ control
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        u = np.interp(self.length_share(self.sites) * length[-1], length, self.fine)
        if np.abs(u - self.sites).max() * self.n < OFF:
            return control
        out = self.interpolate @ BSpline(self.knots, control, DEGREE)(u)
        out[0], out[-1] = control[0], control[-1]
        return np.asarray(out)


@dataclass
class Segment:
    """A curve: its basis, control points, and its action by a rule four times as fine as the one that was minimised.

    A coarse rule can be cheated: a curve may hide from its nodes what it costs.
    """

    basis: Basis
    control: Array
    action: float
    iterations: int = 0

    def at(self, u: Array) -> tuple[Array, Array]:
        """Points and derivatives at u."""
        spline = BSpline(self.basis.knots, self.control, DEGREE)
        return np.asarray(spline(u)), np.asarray(spline.derivative()(u))


def _planes(tangents: Array) -> Array:
    """Orthonormal columns across each tangent (m, d): (m, d, d - 1), by Householder's reflection."""
    d = tangents.shape[1]
    v = tangents / np.linalg.norm(tangents, axis=1, keepdims=True)
    v[:, 0] += np.where(v[:, 0] >= 0.0, 1.0, -1.0)
    reflect = np.eye(d) - 2.0 * v[:, :, None] * v[:, None, :] / np.einsum("ni,ni->n", v, v)[:, None, None]
    return np.asarray(reflect[:, :, 1:])


class _Metric:
    """Cholesky factor of the banded convex part of the second variation across the curve."""

    def __init__(self, basis: Basis, parts: _Density, planes: Array) -> None:
        m, d, k = planes.shape
        assert parts.curvature_v is not None and parts.curvature_x is not None
        weights = basis.weights.reshape(basis.n, NODES)
        shape = (basis.n, NODES, d, d)
        local = np.zeros((basis.n, DEGREE + 1, DEGREE + 1, d, d))
        for functions, curvature in ((basis.local_slopes, parts.curvature_v), (basis.local_values, parts.curvature_x)):
            scaled = (functions * weights[:, :, None]).transpose(0, 2, 1)
            product = scaled[:, :, None, :] * functions.transpose(0, 2, 1)[:, None, :, :]
            local += (product.reshape(basis.n, -1, NODES) @ curvature.reshape(shape).reshape(basis.n, NODES, -1)).reshape(
                local.shape
            )
        self.width = (DEGREE + 1) * k - 1
        self.shape = (m, k)
        band = np.zeros((self.width + 1, m * k))
        for offset in range(min(DEGREE + 1, m)):
            blocks = np.zeros((basis.size, d, d))
            for row in range(DEGREE + 1 - offset):
                blocks[row : row + basis.n] += local[:, row, row + offset]
            inner = blocks[1 : m + 1 - offset]
            across = np.einsum("nax,nab,nby->nxy", planes[: m - offset], inner, planes[offset:], optimize=True)
            for x in range(k):
                for y in range(k):
                    if offset * k + y - x >= 0:
                        band[offset * k + y - x, x : (m - offset) * k : k] = across[:, x, y]
        largest = band[0].max()
        for shift in (1e-10, 1e-6, 1e-2):  # rounding may spoil a form that is flat in some direction
            try:
                shifted = band.copy()
                shifted[0] += shift * largest
                self.lower = cholesky_banded(shifted, lower=True)
                break
            except LinAlgError:
                continue
        else:
            self.lower = np.zeros_like(band)
            self.lower[0] = np.sqrt(largest)
        self.upper = np.zeros_like(self.lower)
        for row in range(self.width + 1):
            self.upper[self.width - row, row:] = self.lower[row, : m * k - row]

    def move(self, z: Array) -> Array:
        """Displacements (m, d - 1) of the unknowns z."""
        return np.asarray(solve_banded((0, self.width), self.upper, z, check_finite=False)).reshape(self.shape)

    def pull(self, gradient: Array) -> Array:
        """Derivatives along z of derivatives along displacements."""
        return np.asarray(solve_banded((self.width, 0), self.lower, gradient.ravel(), check_finite=False))


def panel_actions(dynamics: Dynamics, segment: Segment) -> Array:
    """Action of every element, each in four parts."""
    node, weight = np.polynomial.legendre.leggauss(NODES)
    parts = 4 * segment.basis.n
    y, v = segment.at(((np.arange(parts)[:, None] + 0.5 * (node + 1.0)) / parts).ravel())
    value = density(dynamics, y, v).value.reshape(segment.basis.n, 4, NODES)
    return np.asarray(np.sum(value * (0.5 * weight / parts), axis=(1, 2)))


def climb(dynamics: Dynamics, segment: Segment) -> float:
    """int |x'||b| along a curve, the action of climbing it against the drift."""
    basis = segment.basis
    y, v = basis.values @ segment.control, basis.slopes @ segment.control
    a, b = _inverse(dynamics.tensor(y)), dynamics.drift(y)
    sizes = np.einsum("ni,nij,nj->n", v, a, v) * np.einsum("ni,nij,nj->n", b, a, b)
    return float(basis.weights @ np.sqrt(np.maximum(sizes, 0.0)))


def least(dynamics: Dynamics, basis: Basis, control: Array, *, rtol: float, scale: float = 0.0) -> Segment:
    """Minimise the action over splines with the two ends of `control`.

    Stops when a round lowers the action by less than `rtol` times itself plus `scale`.
    """
    count, best, idle = 0, Segment(basis, control, np.inf), 0
    for _ in range(ROUNDS):
        control = basis.even(control)
        control, action, steps = _across(dynamics, basis, control, rtol)
        count += steps
        gain = best.action - action
        if gain > 0.0:
            best = Segment(basis, control, action)
        idle = 0 if gain > rtol * (abs(action) + scale) else idle + 1
        if idle == (1 if abs(gain) <= rtol * (abs(action) + scale) else 2) or not np.isfinite(action):
            break
    best.iterations, best.action = count, float(np.sum(panel_actions(dynamics, best)))
    return best


def _across(dynamics: Dynamics, basis: Basis, control: Array, rtol: float) -> tuple[Array, float, int]:
    """One run of L-BFGS over displacements in the planes across the curve; control points, action, iterations."""
    values, slopes, weights = basis.values, basis.slopes, basis.weights
    planes = _planes((basis.site_slopes @ control)[1:-1])
    start = density(dynamics, values @ control, slopes @ control, second=True)
    first = float(weights @ start.value)
    metric = _Metric(basis, start, planes)

    def moved(z: Array) -> Array:
        out = control.copy()
        out[1:-1] += np.einsum("iax,ix->ia", planes, metric.move(z))
        return out

    def objective(z: Array) -> tuple[float, Array]:
        trial = moved(z)
        with np.errstate(all="ignore"):
            part = density(dynamics, values @ trial, slopes @ trial)
            action = float(weights @ part.value)
            gradient = values.T @ (weights[:, None] * part.along_x) + slopes.T @ (weights[:, None] * part.along_v)
            pulled = metric.pull(np.einsum("iax,ia->ix", planes, gradient[1:-1]))
        if not (np.isfinite(action) and np.isfinite(pulled).all()):  # the line search then takes a shorter step
            return 1e3 * (1.0 + abs(first)), np.zeros_like(z)
        return action, pulled

    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "maxcor": 20, "ftol": 1e-3 * rtol, "gtol": 0.0}
    found = minimize(objective, np.zeros(planes.shape[0] * planes.shape[2]), jac=True, method="L-BFGS-B", options=options)
    return moved(found.x), float(found.fun), int(found.nit)
