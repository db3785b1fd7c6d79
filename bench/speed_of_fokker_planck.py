"""Processor seconds of the Fokker-Planck engine beside SciPy and Numba done right, in alternating runs.

    python bench/speed_of_fokker_planck.py [ROUNDS] [--small] [--json FILE]

Every round runs every case once, in turn, in one process with one thread; the table has medians of processor time (not of the
clock, which on a shared machine measures the others). Both columns include the
assembly and exclude compilation and the reading of expressions. Errors are L1, relative to the mass, against the central scheme
on as many and twice as many cells, extrapolated (in 1-D 16 and 32 thousand cells); in space the
process is linear and its law known. ``--small`` leaves the 512^2 and 64^3 rows out; with them comes the peak memory of a fresh
process that asks for a stationary density on 1024^2 cells.

The other side is written here: central differences (not nonnegative, but of second order) with splu and Crank-Nicolson
or with a Runge-Kutta-Chebyshev step in Numba, and in 1-D a rational approximation of the exponential (CRAM of order 14). TR-BDF2
with error control stands beside the evolutions; where coefficients depend on time both are the engine's.
"""

import functools
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import numpy as np
import scipy.sparse as sp
from _rows import OURS, Row, arguments, save
from scipy.linalg import expm, solve_banded
from scipy.sparse.linalg import splu

import fpsolve as fps

# ---- the problems -----------------------------------------------------------------------------------------------------------

BOX, CENTRE, WIDTH = 2.0, (0.5, 0.8), 0.2
WELL_D, WELL_BOX, WELL_START, WELL_WIDTH, WELL_TIME = 0.1, 2.5, 0.3, 0.05, 10.0
DRIFT = ["-(1 + 3*exp(-2*y**2))*x", "6*y*exp(-2*y**2)*x**2"]
CROSS = "0.3*sqrt(0.05*(1 + 3*exp(-2*y**2))*(0.02 + 0.01*x**2))"
TENSOR = [["0.05*(1 + 3*exp(-2*y**2))", CROSS], [CROSS, "0.02 + 0.01*x**2"]]
#: Condition 20 at an angle that turns by more than a right angle across the box: offsets change from cell to cell.
TURNING = [["0.11 + 0.09*cos(x + y)", "0.09*sin(x + y)"], ["0.09*sin(x + y)", "0.11 - 0.09*cos(x + y)"]]


@functools.cache
def process_of(tensor: str) -> fps.Process:
    """Made once: reading expressions is no part of the assembly."""
    if tensor == "well":
        return fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(WELL_D))
    if tensor == "steep":
        return fps.Process(fps.Potential.from_expression("(x**2 - 1)**2 + y**2 + z**2/2", "x y z"), fps.Noise.isotropic(STEEP_D))
    noise = fps.Noise.from_expression(TENSOR if tensor == "full" else TURNING, "x y")
    return fps.Process.from_drift(DRIFT, noise, variables="x y")


def valley(n: int, tensor: str = "full") -> fps.FokkerPlanck:
    return fps.FokkerPlanck(process_of(tensor), fps.Grid((-BOX, BOX, n), (-BOX, BOX, n)))


def well(n: int) -> fps.FokkerPlanck:
    return fps.FokkerPlanck(process_of("well"), fps.Grid((-WELL_BOX, WELL_BOX, n)))


# ---- SciPy and Numba done right ---------------------------------------------------------------------------------------------


def fields(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Drift and diffusion tensor of the valley."""
    stiff = 1 + 3 * np.exp(-2 * y * y)
    a, c = 0.05 * stiff + 0 * x, 0.02 + 0.01 * x * x + 0 * y
    return -stiff * x, 6 * y * np.exp(-2 * y * y) * x * x, a, 0.3 * np.sqrt(a * c), c


def central_planes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nine planes (9, n, n) of dp/dt = -div J by central differences at the faces, and the offsets (9,) in C order.

    J = b p - d_n(D_nn p) - d_t(D_nt p) at a face, from the two cells beside it and their neighbours along it.
    """
    h = 2 * BOX / n
    x, faces = -BOX + h * (np.arange(n) + 0.5), -BOX + h * np.arange(1, n)
    _, _, a, b, c = fields(x[:, None], x[None, :])
    out = np.zeros((3, 3, n, n))  # [di + 1, dj + 1]: what the cell (i + di, j + dj) gives to (i, j)
    for axis in range(2):
        drift = fields(*((faces[:, None], x[None, :]) if axis == 0 else (x[:, None], faces[None, :])))[axis]
        normal, planes = np.moveaxis((a, c)[axis], axis, 0), np.moveaxis(out, (axis, 2 + axis), (0, 2))
        drift, cross = np.moveaxis(drift, axis, 0), np.moveaxis(b, axis, 0)
        cells = slice(0, -1), slice(1, None)  # below and above each face
        for source, side in enumerate(cells):
            straight = (0.5 * drift + (1 - 2 * source) * normal[side] / h) / h
            for row, target in enumerate(cells):
                sign, d = 2 * row - 1, 1 + source - row
                planes[d, 1, target] += sign * straight
                for step in (-1, 1):
                    rate = -sign * step * cross[side] / (4 * h * h)
                    inner, wall = (slice(1, None), 0) if step < 0 else (slice(0, -1), n - 1)
                    moved = slice(0, -1) if step < 0 else slice(1, None)
                    planes[d, 1 + step, target, inner] += rate[:, moved]
                    planes[d, 1, target, wall] += rate[:, wall]
    return out.reshape(9, n, n), np.array([di * n + dj for di in (-1, 0, 1) for dj in (-1, 0, 1)])


def central_matrix(n: int) -> sp.csc_matrix:
    planes, offsets = central_planes(n)
    size = n * n
    diagonals = []
    for plane, k in zip(planes.reshape(9, size), offsets, strict=True):
        diagonals.append(plane[-k:] if k < 0 else plane[: size - k])
    return sp.diags(diagonals, offsets, shape=(size, size), format="csc")


def start(n: int) -> np.ndarray:
    x = -BOX + 2 * BOX / n * (np.arange(n) + 0.5)
    p = np.exp(-((x[:, None] - CENTRE[0]) ** 2 + (x[None, :] - CENTRE[1]) ** 2) / (2 * WIDTH**2))
    return p / (p.sum() * (2 * BOX / n) ** 2)


FAST = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}


def crank_nicolson(n: int, steps: int) -> np.ndarray:
    G = central_matrix(n)
    one = sp.identity(n * n, format="csc")
    lu, explicit = splu((one - 0.5 / steps * G).tocsc(), **FAST), (one + 0.5 / steps * G).tocsr()
    p = start(n).ravel()
    for _ in range(steps):
        p = lu.solve(explicit @ p)
    return p.reshape(n, n)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def apply(planes, offsets, p, out):
    size, width = out.size, 1024
    pad = (p.size - size) // 2
    for j0 in range(0, size, width):
        j1 = min(j0 + width, size)
        o = out[j0:j1]
        o[:] = 0.0
        for k in range(offsets.size):
            c, q = planes[k, j0:j1], p[pad + j0 + offsets[k] : pad + j1 + offsets[k]]
            for j in range(j1 - j0):
                o[j] += c[j] * q[j]


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def combine(a, b, c, d, e, y0, y1, y2, f0, f1, out):
    for j in range(out.size):
        out[j] = a * y0[j] + b * y1[j] + c * y2[j] + d * f1[j] + e * f0[j]


def chebyshev(n: int, steps: int) -> np.ndarray:
    planes, offsets = central_planes(n)
    return rkc(planes.reshape(9, -1), offsets, start(n).ravel(), 1.0 / steps, steps, 1.2).reshape(n, n)


def rkc(planes: np.ndarray, offsets: np.ndarray, p: np.ndarray, h: float, steps: int, more: float) -> np.ndarray:
    """Runge-Kutta-Chebyshev of second order (Sommeijer, Shampine, Verwer 1997), damping 2/13 and `more` times the stages."""
    size, pad = p.size, int(np.abs(offsets).max())
    radius = float(np.abs(planes).sum(axis=0).max())
    s = math.ceil(more * (math.sqrt(1.0 + 1.54 * h * radius) + 1))
    damping = 2.0 / 3.0
    w0 = 1 + damping / s**2
    theta = math.acosh(w0)
    T = [math.cosh(k * theta) for k in range(s + 1)]
    d1 = [k * math.sinh(k * theta) / math.sinh(theta) for k in range(s + 1)]
    d2 = [(k * k * T[k] - w0 * d1[k]) / (w0 * w0 - 1) if k > 1 else 0.0 for k in range(s + 1)]
    w1 = d1[s] / d2[s]
    b = [0.0, 0.0] + [d2[k] / d1[k] ** 2 for k in range(2, s + 1)]
    b[0] = b[1] = b[2]
    y = np.zeros(size + 2 * pad)
    y[pad : pad + size] = p
    f0, f1 = np.empty(size), np.empty(size)
    inner = slice(pad, pad + size)
    first, second, third = y.copy(), np.zeros_like(y), np.zeros_like(y)
    for _ in range(steps):
        apply(planes, offsets, y, f0)
        first[:], second[:] = y, y
        second[inner] += b[1] * w1 * h * f0
        for k in range(2, s + 1):
            mu, nu, mu1 = 2 * b[k] * w0 / b[k - 1], -b[k] / b[k - 2], 2 * b[k] * w1 / b[k - 1]
            gamma = -(1 - b[k - 1] * T[k - 1]) * mu1
            apply(planes, offsets, second, f1)
            combine(1 - mu - nu, mu, nu, mu1 * h, gamma * h, y[inner], second[inner], first[inner], f0, f1, third[inner])
            first, second, third = second, third, first
        y, second = second, y
    return y[inner].copy()


# ---- in space ---------------------------------------------------------------------------------------------------------------

SPACE, SPACE_START, SPACE_SPREAD = 5.0, np.array([1.0, 0.5, -0.5]), 0.3
A3 = np.array([[1.0, 0.6, 0.2], [-0.3, 0.8, 0.1], [0.1, -0.4, 1.2]])
#: Eigenvalues 1, 1/2 and 1/4 along turned axes; and without the turn.
TURN = np.linalg.qr(np.array([[1.0, 0.4, -0.3], [0.5, 1.0, 0.2], [-0.2, 0.6, 1.0]]))[0]
D3 = {"full": TURN @ np.diag([1.0, 0.5, 0.25]) @ TURN.T, "diagonal": np.diag([1.0, 0.5, 0.25])}


def cube(n: int, tensor: str) -> fps.FokkerPlanck:
    D = 0.5 * (D3[tensor] + D3[tensor].T)
    return fps.FokkerPlanck(fps.Process.ornstein_uhlenbeck(A3, fps.Noise.constant(D)), fps.Grid(*3 * ((-SPACE, SPACE, n),)))


def gaussian_in_space(n: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    x = np.stack(np.meshgrid(*3 * (-SPACE + 2 * SPACE / n * (np.arange(n) + 0.5),), indexing="ij"), axis=-1) - mean
    density = np.exp(-0.5 * np.einsum("...i,ij,...j->...", x, np.linalg.inv(covariance), x))
    return np.asarray(density / np.sqrt(np.linalg.det(2 * np.pi * covariance)))


def exact_in_space(n: int, tensor: str) -> np.ndarray:
    """The Gaussian at t = 1, whose walls hold no mass."""
    decay, S = expm(-A3), fps.theory.ou_covariance(A3, D3[tensor])
    return gaussian_in_space(n, decay @ SPACE_START, S + decay @ (SPACE_SPREAD * np.eye(3) - S) @ decay.T)


def linear_planes(n: int, D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `central_planes` for the linear process: up to 19 planes (m, n^3) that are not zero, and their offsets (m,)."""
    h, out = 2 * SPACE / n, np.zeros((3, 3, 3, n, n, n))
    x, faces = -SPACE + h * (np.arange(n) + 0.5), -SPACE + h * np.arange(1, n)
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        planes = np.moveaxis(out, (axis, 3 + axis), (0, 3))
        drift = -A3[axis, axis] * faces[:, None, None] - A3[axis, others[0]] * x[:, None] - A3[axis, others[1]] * x
        cells = slice(0, -1), slice(1, None)
        for source in range(2):
            for row, target in enumerate(cells):
                sign, d = 2 * row - 1, 1 + source - row
                planes[d, 1, 1, target] += sign * (0.5 * drift + (1 - 2 * source) * D[axis, axis] / h) / h
                for place, other in enumerate(others):
                    for step in (-1, 1):
                        rate = -sign * step * D[axis, other] / (4 * h * h)
                        side = np.moveaxis(planes[d, :, :, target], (place, 3 + place), (0, 2))
                        inner, wall = (slice(1, None), 0) if step < 0 else (slice(0, -1), n - 1)
                        side[1 + step, 1, inner] += rate
                        side[1, 1, wall] += rate
    offsets = np.array([(a * n + b) * n + c for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)])
    flat = out.reshape(27, -1)
    keep = flat.any(axis=1)
    return flat[keep], offsets[keep]


def chebyshev_in_space(n: int, tensor: str, steps: int) -> np.ndarray:
    p = gaussian_in_space(n, SPACE_START, SPACE_SPREAD * np.eye(3)).ravel()
    return rkc(*linear_planes(n, D3[tensor]), p, 1.0 / steps, steps, 1.2).reshape(n, n, n)


def pinned(n: int) -> np.ndarray:
    """Stationary density by splu with the equation of one cell in the middle left out."""
    G = central_matrix(n).tocsc()
    size = n * n
    keep = np.delete(np.arange(size), size // 2 + n // 2)
    inner, column = G[keep][:, keep].tocsc(), G[keep][:, [size // 2 + n // 2]].toarray()[:, 0]
    p = np.insert(splu(inner, **FAST).solve(-column), size // 2 + n // 2, 1.0)
    return (p / (p.sum() * (2 * BOX / n) ** 2)).reshape(n, n)


#: Poles and residues of the best rational approximation of order 14 of exp on the negative axis (Pusa, Nucl. Sci. Eng. 169,
#: 155 (2011)), one of each conjugate pair.
THETA = np.array([
    -8.8977731864688888199 + 16.630982619902085304j, -3.7032750494234480603 + 13.656371871483268171j,
    -0.2087586382501301251 + 10.991260561901260913j, 3.9933697105785685194 + 6.0048316422350373178j,
    5.0893450605806245066 + 3.5888240290270065102j, 5.6231425727459771248 + 1.1940690463439669766j,
    2.2697838292311127097 + 8.4617379730402214019j])  # fmt: skip
ALPHA = np.array([
    -7.1542880635890672853e-5 + 1.4361043349541300111e-4j, 9.4390253107361688779e-3 - 1.7184791958483017511e-2j,
    -3.7636003878226968717e-1 + 3.3518347029450104214e-1j, -2.3498232091082701191e1 - 5.8083591297142074004j,
    4.6933274488831293047e1 + 4.5643649768827760791e1j, -2.7875161940145646468e1 - 1.0214733999056451434e2j,
    4.8071120988325088907 - 1.3209793837428723881j])  # fmt: skip
ALPHA0 = 1.8321743782540412751e-14


def fitted_rates(potential: Callable[[np.ndarray], np.ndarray], D: float, box: float, n: int) -> tuple[np.ndarray, ...]:
    """Centres and Scharfetter-Gummel rates up and down over the faces of a line of n cells of [-box, box]."""
    h = 2 * box / n
    x = -box + h * (np.arange(n) + 0.5)
    z = np.diff(potential(x)) / D
    z = np.where(z == 0.0, 1e-300, z)
    return x, (D / h**2) * z / np.expm1(z), (D / h**2) * z / -np.expm1(-z)


def one_shot(n: int) -> np.ndarray:
    """Scharfetter-Gummel rates of the double well, CRAM of order 14: seven complex tridiagonal systems."""
    x, up, down = fitted_rates(lambda x: (x * x - 1) ** 2, WELL_D, WELL_BOX, n)
    p = np.exp(-((x - WELL_START) ** 2) / (2 * WELL_WIDTH**2))
    return cram(up, down, p / (p.sum() * 2 * WELL_BOX / n), WELL_TIME)


def cram(up: np.ndarray, down: np.ndarray, p: np.ndarray, t: float) -> np.ndarray:
    """Masses after a time t from rates over the faces of a line."""
    diagonal = -(np.append(up, 0) + np.append(0, down)) * t
    out = ALPHA0 * p
    bands = np.zeros((3, p.size), complex)
    bands[0, 1:], bands[2, :-1] = down * t, up * t
    for pole, residue in zip(THETA, ALPHA, strict=True):
        bands[1] = diagonal - pole
        out += 2 * (residue * solve_banded((1, 1), bands, p, check_finite=False)).real
    return out


#: A potential that is a sum over the axes, steep at the walls: what full coefficient arrays and Runge-Kutta steps take for it.
STEEP = (lambda x: (x * x - 1) ** 2, lambda y: y * y, lambda z: z * z / 2)
STEEP_D, STEEP_BOX, STEEP_START, STEEP_WIDTH = 0.1, 2.0, (0.5, 0.8, -0.5), 0.2


def steep(n: int) -> fps.FokkerPlanck:
    return fps.FokkerPlanck(process_of("steep"), fps.Grid(*3 * ((-STEEP_BOX, STEEP_BOX, n),)))


def steep_starts(n: int) -> list[np.ndarray]:
    x = -STEEP_BOX + 2 * STEEP_BOX / n * (np.arange(n) + 0.5)
    rows = [np.exp(-((x - c) ** 2) / (2 * STEEP_WIDTH**2)) for c in STEEP_START]
    return [row / (row.sum() * 2 * STEEP_BOX / n) for row in rows]


def runge_kutta(n: int, steps: int) -> np.ndarray:
    """Seven planes of Scharfetter-Gummel rates and the explicit midpoint rule up to t = 1."""
    planes = np.zeros((7, n, n, n))
    for axis, potential in enumerate(STEEP):
        _, up, down = fitted_rates(potential, STEEP_D, STEEP_BOX, n)
        shape = [n if k == axis else 1 for k in range(3)]
        planes[0] -= (np.append(up, 0) + np.append(0, down)).reshape(shape)
        planes[1 + 2 * axis] += np.append(0, up).reshape(shape)
        planes[2 + 2 * axis] += np.append(down, 0).reshape(shape)
    flat, offsets, pad, size = planes.reshape(7, -1), np.array([0, -n * n, n * n, -n, n, -1, 1]), n * n, n**3
    p, middle = np.zeros(size + 2 * pad), np.zeros(size + 2 * pad)
    inner, f = slice(pad, pad + size), np.empty(size)
    p[inner] = np.einsum("i,j,k", *steep_starts(n)).ravel()
    for _ in range(steps):
        apply(flat, offsets, p, f)
        middle[inner] = p[inner] + (0.5 / steps) * f
        apply(flat, offsets, middle, f)
        p[inner] += f / steps
    return p[inner].reshape(n, n, n)


def exact_steep(n: int, fine: int = 16) -> np.ndarray:
    """Product of the means over the cells of the solutions along each axis, each on `fine` times as many cells."""
    out = []
    for potential, row in zip(STEEP, steep_starts(fine * n), strict=True):
        _, up, down = fitted_rates(potential, STEEP_D, STEEP_BOX, fine * n)
        L = np.diag(up, -1) + np.diag(down, 1)
        out.append((expm(L - np.diag(L.sum(axis=0))) @ row).reshape(n, fine).mean(axis=1))
    return np.einsum("i,j,k", *out)


GAMMA = 2.0 - math.sqrt(2.0)


def tr_bdf2(
    generator: Callable[[float], Any], factorise: Callable[[Any, float], Callable[[np.ndarray], np.ndarray]], p: np.ndarray,
    end: float, rtol: float, first: float, steps_in_twos: bool,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """TR-BDF2 with the embedded error of Hosea and Shampine (Appl. Numer. Math. 20, 21 (1996)), filtered; L1 error per unit step.

    ``generator(t)`` acts on masses from the left, ``factorise(G, c)`` solves with 1 - c G. With ``steps_in_twos`` steps are powers
    of two of the first, so that a constant generator is factorised seldom. Returns masses and steps.
    """
    k, a = (-3 * GAMMA**2 + 4 * GAMMA - 2) / (12 * (2 - GAMMA)), 0.5 * GAMMA
    now, h, steps, total, kept = 0.0, first, 0, float(np.abs(p).sum()), (0.0, None)
    G0 = generator(0.0)
    f0 = G0 @ p
    while now < end * (1 - 1e-12):
        h = min(h, end - now)
        G1, G2 = generator(now + GAMMA * h), generator(now + h)
        same = G1 is G0
        if not (same and kept[0] == h):
            kept = (h, factorise(G1, a * h))
        solve = kept[1]
        middle = solve(p + a * h * f0)
        f1 = G1 @ middle
        last = solve if same else factorise(G2, a * h)
        new = last((middle / GAMMA - (1 - GAMMA) ** 2 / GAMMA * p) / (2 - GAMMA))
        f2 = G2 @ new
        defect = last(2 * k * h * (f0 / GAMMA - f1 / (GAMMA * (1 - GAMMA)) + f2 / (1 - GAMMA)))
        size = float(np.abs(defect).sum()) / (rtol * total * h / end)
        if size <= 1.0:
            p, f0, G0, now, steps = new, f2, G2, now + h, steps + 1
        factor = 0.85 / math.sqrt(max(size, 1e-8))
        if steps_in_twos:
            h *= 2.0 if factor >= 2.0 else 1.0 if size <= 1.0 else 0.5
        else:
            h *= min(3.0, max(0.2, factor))
    return p, steps


def banded(G: Any, c: float) -> Callable[[np.ndarray], np.ndarray]:
    """Solutions with 1 - c G for a tridiagonal G in diagonal form, factorised once."""
    from scipy.linalg.lapack import dgttrf, dgttrs

    lower, diagonal, upper = G.diagonal(-1), G.diagonal(), G.diagonal(1)
    dl, d, du, du2, pivots, _ = dgttrf(-c * lower, 1.0 - c * diagonal, -c * upper)
    return lambda b: dgttrs(dl, d, du, du2, pivots, b)[0]


def sparse(G: Any, c: float) -> Callable[[np.ndarray], np.ndarray]:
    lu = splu((sp.identity(G.shape[0], format="csc") - c * G).tocsc(), **FAST)
    return lambda b: np.asarray(lu.solve(b))


def tr_bdf2_line(n: int, rtol: float) -> np.ndarray:
    """The double well, from the rates of `one_shot`."""
    h = 2 * WELL_BOX / n
    x = -WELL_BOX + h * (np.arange(n) + 0.5)
    z = np.diff((x * x - 1) ** 2) / WELL_D
    z = np.where(z == 0.0, 1e-300, z)
    up, down = (WELL_D / h**2) * z / np.expm1(z), (WELL_D / h**2) * z / -np.expm1(-z)
    G = sp.diags([up, -(np.append(up, 0) + np.append(0, down)), down], [-1, 0, 1]).tocsr()
    p = np.exp(-((x - WELL_START) ** 2) / (2 * WELL_WIDTH**2))
    return tr_bdf2(lambda t: G, banded, p / (p.sum() * h), WELL_TIME, rtol, 1e-3, True)[0]


def tr_bdf2_plane(n: int, rtol: float) -> np.ndarray:
    G = central_matrix(n)
    return tr_bdf2(lambda t: G, sparse, start(n).ravel(), 1.0, rtol, 1.0 / 64, True)[0].reshape(n, n)


#: A trap that is dragged to and fro and stiffens, on cells so fine that the fastest rate is 2e5 (3e6) times the slowest.
DRAG_CELLS, DRAG_TIME, DRAG_START = (1000, 4000), 2.0, ("gaussian", [1.0], [[0.1]])


def dragged(n: int, rtol: float, method: str | None = None) -> np.ndarray:
    """Density at the end; assemblies are part of following it in time."""
    U = fps.Potential.from_expression("k*(x - c)**2/2", params={"k": 1.0, "c": 0.0})
    driven = fps.Driven(
        fps.Process(U, fps.Noise.isotropic(0.25)), params=lambda t: {"c": math.sin(2 * t), "k": 1 + t}, noise=lambda t: 1 / (1 + t)
    )
    fp = fps.FokkerPlanck(driven, fps.Grid((-4, 4, n)))
    return np.asarray(fp.evolve(DRAG_START, DRAG_TIME, rtol=rtol, method=method).values)


# ---- references -------------------------------------------------------------------------------------------------------------


def on_coarser(p: np.ndarray) -> np.ndarray:
    """Point values at the centres of cells twice as wide, by cubic interpolation along every axis."""
    for axis in range(p.ndim):
        q = np.moveaxis(p, axis, 0)
        q = np.concatenate([q[:1], q, q[-1:]])
        q = (9 * (q[1:-2:2] + q[2:-1:2]) - q[0:-3:2] - q[3::2]) / 16
        p = np.moveaxis(q, 0, axis)
    return p


def extrapolated(solve: Callable[[int], np.ndarray], n: int) -> np.ndarray:
    """Richardson from n and 2 n cells, at the centres of n cells."""
    return (4 * on_coarser(solve(2 * n)) - solve(n)) / 3


def l1(p: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(p - exact).sum() / np.abs(exact).sum())


# ---- the table --------------------------------------------------------------------------------------------------------------


MEMORY, BYTES = "stationary 1024^2, full tensor, peak memory", "the bytes of its products through NumPy's add"
ASSEMBLY = "its assembly"


@dataclass
class Case:
    """One row: what it is, the two ways, the solution, the target in seconds."""

    name: str
    ours: Callable[[], Any]
    others: dict[str, Callable[[], Any]]
    target: float
    exact: np.ndarray | None = None


def driven_line(n: int) -> Case:
    """Both methods of the engine at the tolerance where their errors are about the same, beside what it chooses; in time alone."""
    others = {
        name: functools.partial(dragged, n, 1e-3, method) for name, method in (("midpoint", "magnus"), ("TR-BDF2", "tr-bdf2"))
    }
    exact = dragged(n, 1e-5, "tr-bdf2")
    return Case(f"1-D driven, {n} cells to t = 2", functools.partial(dragged, n, 1e-3), others, math.nan, exact)


def traffic(fp: fps.FokkerPlanck, products: int) -> Callable[[], None]:
    """What bounds products with the generator: as many bytes, 8 (m + 4) per cell for m rates in a row, through NumPy's addition."""
    numbers = int(fp.generator.nnz + 4 * fp.generator.shape[0]) // 3
    a, b, out = np.ones(numbers), np.ones(numbers), np.empty(numbers)

    def run() -> None:
        for _ in range(products):
            np.add(a, b, out=out)

    return run


def in_the_plane(n: int, exact: np.ndarray, target: float) -> Case:
    gaussian = ("gaussian", list(CENTRE), WIDTH**2 * np.eye(2))
    products = valley(n).evolve(gaussian, 1.0, rtol=1e-3).solver_info["products"]
    others = {"splu Crank-Nicolson, 40 steps": lambda: crank_nicolson(n, 40), "RKC2, 100 steps": lambda: chebyshev(n, 100)}
    if n <= 256:
        others["TR-BDF2"] = lambda: tr_bdf2_plane(n, 1e-3)
    others |= {BYTES: traffic(valley(n), products), ASSEMBLY: lambda: valley(n)}
    return Case(f"2-D full tensor {n}^2 to t = 1", lambda: valley(n).evolve(gaussian, 1.0, rtol=1e-3), others, target, exact)


def in_space(n: int, tensor: str) -> list[Case]:
    gaussian, exact = ("gaussian", SPACE_START, SPACE_SPREAD * np.eye(3)), exact_in_space(n, tensor)
    others = {"RKC2, 10 steps": lambda: chebyshev_in_space(n, tensor, 10)}
    whole = Case(f"{n}^3, {tensor} tensor, to t = 1", lambda: cube(n, tensor).evolve(gaussian, 1.0, rtol=1e-3), others, 0.5, exact)
    return [whole, Case(f"assembly {n}^3, {tensor} tensor", lambda: cube(n, tensor), {}, math.nan)]


def cases(small: bool) -> list[Case]:
    line = extrapolated(one_shot, 16000)
    while line.size > 1000:
        line = on_coarser(line)
    gaussian = ("gaussian", [WELL_START], [[WELL_WIDTH**2]])
    rows = [Case("1-D double well, 1000 cells to t = 10", lambda: well(1000).evolve(gaussian, WELL_TIME, rtol=1e-3),
                 {"CRAM-14": lambda: one_shot(1000), "TR-BDF2": lambda: tr_bdf2_line(1000, 1e-3)}, 2e-3, line)]  # fmt: skip
    rows += [driven_line(n) for n in DRAG_CELLS]
    plane = extrapolated(lambda n: chebyshev(n, 200), 256 if small else 512)
    stationary = extrapolated(pinned, 128)
    at_256 = plane if small else on_coarser(plane)
    rows.append(in_the_plane(256, at_256, 0.3))
    if not small:
        rows.append(in_the_plane(512, plane, 2.5))
        splu_512 = {"splu": lambda: pinned(512)}
        rows.append(Case("stationary 512^2, full tensor", lambda: valley(512).stationary(), splu_512, 2.5))
        rows.append(Case("assembly 512^2, full tensor", lambda: valley(512), {"nine points": lambda: central_matrix(512)}, 0.3))
        rows.append(Case("assembly 512^2, turning tensor", lambda: valley(512, "turning"), {}, 0.3))
        spread = ("gaussian", STEEP_START, STEEP_WIDTH**2 * np.eye(3))
        slower = {"Runge-Kutta 2, 248 steps": lambda: runge_kutta(64, 248), ASSEMBLY: lambda: steep(64)}
        rows.append(Case("64^3, sum of potentials, to t = 1", lambda: steep(64).evolve(spread, 1.0, rtol=1e-3), slower, 0.5,
                         exact_steep(64)))  # fmt: skip
        rows += [case for tensor in ("diagonal", "full") for case in in_space(64, tensor)]
    splu_128 = {"splu": lambda: pinned(128)}
    rows.append(Case("stationary 128^2", lambda: valley(128).stationary(), splu_128, math.nan, stationary))
    return rows


def memory_of(n: int) -> float:
    """Peak memory in GB of a fresh process with one stationary density of the valley on n^2 cells."""
    code = (
        f"import resource, speed_of_fokker_planck as this; this.valley({n}).stationary(); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    return int(done.stdout.split()[-1]) / 2**20


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--small", action="store_true", help="without the rows of 512^2 and 64^3 cells")
    options = parser.parse_args()
    rows = cases(options.small)
    ways = [(case, name, run) for case in rows for name, run in ((OURS, case.ours), *case.others.items())]
    errors, seconds = {}, {}
    for case, name, run in ways:  # compilation, warm-up, errors
        answer = run()
        values = answer if isinstance(answer, np.ndarray) else getattr(answer, "values", None)
        errors[case.name, name] = None if case.exact is None or values is None else l1(values, case.exact)
        info = getattr(answer, "solver_info", {})
        if "method" in info:
            print(f"{case.name}: {info}", file=sys.stderr)
    for _ in range(options.rounds):
        for case, name, run in ways:
            repeat = 50 if "double well" in case.name else 1
            begin = time.process_time()
            for _ in range(repeat):
                run()
            seconds.setdefault((case.name, name), []).append((time.process_time() - begin) / repeat)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    lines = []
    for case, name, _ in ways:
        ratio = None if name == OURS else medians[case.name, OURS] / medians[case.name, name]
        target = case.target if name == OURS and case.target == case.target else None
        lines.append((case.name, name, 1e3 * medians[case.name, name], errors[case.name, name], ratio, target and 1e3 * target))
    found = [Row(case.name, name, "s", tuple(seconds[case.name, name]), (), errors[case.name, name]) for case, name, _ in ways]
    if not options.small:
        found.append(Row(MEMORY, OURS, "GB", (memory_of(1024),)))
        print(f"{MEMORY}: {found[-1].median:.2f} GB")
    save(options.json, found)
    columns = ("case", "way", "CPU ms", "L1 error", "fpsolve / this", "target ms")
    print(fps.Table("Fokker-Planck: assembly included, compilation excluded", columns, lines))


if __name__ == "__main__":
    main()
