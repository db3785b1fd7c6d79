"""The high-order scheme of the Fokker-Planck engine against closed forms and quadrature: errors, orders, mass, and its refusals.

Stationary densities of the irreversible linear process dX = -A X dt + sqrt(2 D) dW, A = [[1, 0.6], [-0.3, 0.8]], D = R(0.5)
diag(1, 1/c) R(0.5)^T on [-5, 5]^2; a process with exp(-Phi) and a current along the walls, whose tensor turns and whose walls carry
mass; a Gaussian transient; Brownian motion in an interval.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import scipy.linalg as la
import sympy as sy

import fpsolve as fps

from . import Check
from ._linear_process import A, gaussian, linear, tensor

NAME = "high-order"
GROUP = "fokker-planck"
CLAIM = "The high-order scheme reaches orders four and six with turning tensors and walls that carry mass, and conserves mass."
STANDING = "derived"
EQUATION = "dX = -A X dt + sqrt(2 D) dW, A S + S A^T = 2 D"

#: From the specification, not from a run: L1 errors of the stationary density at 192 x 192 cells.
TARGETS = {4.0: 1e-5, 100.0: 5e-5, 1000.0: 1e-4}
#: Least measured orders, from the specification.
LEAST = {4: 3.7, 6: 5.5}


def distance(p: fps.Density, exact: np.ndarray) -> float:
    """L1 distance of a density to point values (n,)."""
    return float(np.sum(np.abs(p.values.ravel() - exact) * p.grid.cell_volumes.ravel()))


def turning() -> tuple[fps.Process, sy.Expr]:
    """A process with density exp(-Phi) on [-1, 1] x [-2, 2] and a current, and exp(-Phi)."""
    x, y = sy.symbols("x y")
    phi, stream = sy.sin(x) + y**2 / 3 + x * y / 5, (1 - x**2) * (4 - y**2) / 20
    angle, size = sy.Rational(3, 5) * sy.sin(x) + y / 2, 1 + sy.Rational(3, 10) * sy.sin(x - y)
    R = sy.Matrix([[sy.cos(angle), -sy.sin(angle)], [sy.sin(angle), sy.cos(angle)]])
    D = size * R * sy.diag(1, sy.Rational(1, 4)) * R.T
    drift = [sum(sy.diff(D[i, j], v) - D[i, j] * sy.diff(phi, v) for j, v in enumerate((x, y))) for i in range(2)]
    drift[0] += sy.diff(stream, y) * sy.exp(phi)
    drift[1] -= sy.diff(stream, x) * sy.exp(phi)
    noise = fps.Noise.from_expression([[str(D[i, j]) for j in range(2)] for i in range(2)], variables="x y")
    return fps.Process.from_drift([str(b) for b in drift], noise, variables="x y"), sy.exp(-phi)


def walls(cells: tuple[int, ...], order: int) -> list[float]:
    """L1 errors of the stationary density of `turning`."""
    process, formula = turning()
    density = sy.lambdify(sy.symbols("x y"), formula, "numpy")
    s, w = np.polynomial.legendre.leggauss(60)
    total = float(np.sum(np.outer(w, 2 * w) * density(s[:, None], 2 * s[None, :])))
    errors = []
    for n in cells:
        grid = fps.Grid((-1, 1, n), (-2, 2, n))
        p = fps.FokkerPlanck(process, grid, "high-order", order=order).stationary()
        errors.append(distance(p, density(*grid.points().T) / total))
    return errors


def transients(cells: tuple[int, ...], order: int) -> tuple[list[float], float]:
    """L1 errors of a Gaussian transient at condition 4, and the largest change of mass."""
    D, t, start = tensor(4.0), 0.6, np.array([[0.6, 0.1], [0.1, 0.5]])
    S, G = la.solve_continuous_lyapunov(A, 2 * D), la.expm(-0.6 * A)
    mean, cov = G @ [1.0, -0.5], S + G @ (start - S) @ G.T
    errors, moved = [], 0.0
    for n in cells:
        fp = linear(4.0, n, "high-order", order)
        p = fp.evolve(("gaussian", [1.0, -0.5], start), t, rtol=1e-9)
        errors.append(distance(p, gaussian(fp.grid.points(), mean, cov)))
        moved = max(moved, abs(p.mass - 1.0))
    return errors, moved


def _order(name: str, errors: list[float], cells: tuple[int, ...], least: float) -> Check:
    measured = math.log(errors[-2] / errors[-1]) / math.log(cells[-1] / cells[-2])
    return Check(
        name=name, measured=measured, expected=round(least + 0.4), band=(least, math.inf), source="closed form, quadrature"
    )


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Errors and orders; figure high-order.png."""
    checks = []
    # the quick run has half the cells per axis, hence 2^6 times the target
    n = 96 if quick else 192
    for condition, target in TARGETS.items():
        S = la.solve_continuous_lyapunov(A, 2 * tensor(condition))
        fp = linear(condition, n, "high-order", 6)
        measured = distance(fp.stationary(), gaussian(fp.grid.points(), np.zeros(2), S))
        checks.append(
            Check(
                name=f"L1 error, condition {condition:g}, {n} x {n} cells",
                measured=measured,
                expected=0.0,
                band=(0.0, target * (192 / n) ** 6),
                source="closed form",
            )
        )
    cells = (24, 36, 54, 81)
    found = {order: walls(cells, order) for order in LEAST}
    for order, least in LEAST.items():
        checks.append(_order(f"order {order}, turning tensor, walls that carry mass", found[order], cells, least))
        errors, moved = transients((36, 54, 72), order)
        checks.append(_order(f"order {order}, transient", errors, (36, 54, 72), least))
    checks.append(Check(name="change of mass", measured=moved, expected=0.0, band=(0.0, 1e-12), source="conservation"))
    flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
    rate = fps.FokkerPlanck(flat, fps.Grid((-1, 1, 40)), "high-order").escape_rate(fps.Region.box([-1.0], [1.0]))
    # the stated error must cover the true one
    share = abs(rate.value - math.pi**2 / 8) / rate.discretization_error
    checks.append(Check(name="escape rate: true over stated error", measured=share, expected=0.0, band=(0.0, 1.0), source="pi^2/8"))
    _figure(out / f"{NAME}.png", cells, found)
    return checks


def _figure(path: Path, cells: tuple[int, ...], found: dict[int, list[float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 4.0), layout="constrained")
    ax = figure.subplots()
    for order, errors in found.items():
        ax.loglog(cells, errors, "o-", label=f"order {order}")
        ax.loglog(cells, errors[-1] * (cells[-1] / np.array(cells, float)) ** order, "k:", linewidth=0.8)
    ax.set_xlabel("cells per axis")
    ax.set_ylabel("L1 error of the stationary density")
    ax.legend()
    figure.savefig(path, dpi=120)
