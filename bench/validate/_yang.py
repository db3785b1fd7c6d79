"""What the claims on Yang, Tang and Tu share: the valley, its closed forms, the equation in the plane, checks.

Constant noise: dx = -(L_0' + lambda' y^2/2) dt + sqrt(2 Delta/kappa) dW, dy = -lambda y dt + sqrt(2 Delta) dW. F = lambda^(-1/2).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps

from . import Check

Array = NDArray[np.float64]

GROUP = "yang-tang-tu"
PAPER = "Yang, Tang and Tu, arXiv:2206.01246"
#: Curvature and near-degenerate floor of most claims, on |x| < 2.
LAM, FLOOR = "1 + 4*x**2", "0.02*(x - 1)**2"


def lam(x: Array) -> Array:
    """LAM."""
    return np.asarray(1.0 + 4.0 * np.asarray(x) ** 2)


def constant(kappa: float, delta: float, curvature: str = LAM, floor: str = "0") -> fps.Process:
    """The valley with constant anisotropic noise."""
    valley = fps.potentials.degenerate_valley(curvature, floor)
    return fps.Process(valley, fps.Noise.diagonal([delta / kappa, delta]))


def shifts(curvature: str, sigma: float, lr: float) -> fps.SGDChain:
    """SGD on linearised random shifts, C = sigma^2 H^2."""
    valley = fps.potentials.degenerate_valley(curvature)
    return fps.SGDChain.gaussian(valley, fps.Noise.shifted_minima(valley, sigma, lr), lr)


@cache
def plane(kappa: float, delta: float, floor: str, nx: int, ny: int) -> tuple[fps.FokkerPlanck, fps.Density]:
    """Equation and stationary density in the plane, solved once in a process."""
    wide = 6.0 * math.sqrt(delta)
    solver = fps.FokkerPlanck(constant(kappa, delta, floor=floor), fps.Grid((-2.0, 2.0, nx), (-wide, wide, ny)))
    return solver, solver.stationary()


@cache
def sharp(kappa: float, delta: float, floor: str, n: int) -> tuple[Array, Array]:
    """(x, masses) of the marginal by the scheme of high order, solved once in a process."""
    wide = 6.0 * math.sqrt(delta)
    grid = fps.Grid((-2.0, 2.0, n), (-wide, wide, n))
    marginal = fps.FokkerPlanck(constant(kappa, delta, floor=floor), grid, scheme="high-order").stationary().marginal(0)
    return marginal.grid.centers[0], marginal.cell_mass


def cells(quick: bool) -> tuple[int, int]:
    """Cells of the plane."""
    return (320, 200) if quick else (640, 300)


def variation(p: Array, q: Array) -> float:
    """Total variation of two lists of masses."""
    return 0.5 * float(np.abs(p / p.sum() - q / q.sum()).sum())


def within(name: str, measured: float, expected: float, relative: float, source: str, stderr: float = 0.0) -> Check:
    """A number within a relative band."""
    ends = sorted((expected * (1.0 - relative), expected * (1.0 + relative)))
    return Check(name=name, measured=measured, stderr=stderr, expected=expected, band=(ends[0], ends[1]), source=source)


def below(name: str, measured: float, limit: float, source: str, expected: float = 0.0) -> Check:
    """A number that must not exceed a limit."""
    return Check(name=name, measured=measured, expected=expected, band=(-math.inf, limit), source=source)
