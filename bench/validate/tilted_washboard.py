"""A particle on a circle driven over barriers: stationary current and density of dX = (f + 0.8 sin X) dt + sqrt(2 D) dW.

J = D (1 - exp(-f L/D)) / int int exp((V(y) - V(x))/D) dy dx, x over a period L, y from x to x + L, V = 0.8 cos x - f x.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check

NAME = "tilted-washboard"
GROUP = "fokker-planck"
CLAIM = "The current over a tilted washboard equals its quadrature to second order, from strong noise to deep wells."
STANDING = "derived"
EQUATION = """
dX = (f + 0.8 sin X) dt + sqrt(2 D) dW, V = 0.8 cos x - f x
J = D (1 - e^(-f L/D))/{int int e^((V(y) - V(x))/D) dy dx}
"""

L = 2 * math.pi


def _current(D: float, f: float, n: int) -> float:
    process = fps.Process.from_drift("f + 0.8*sin(x)", fps.Noise.isotropic(D), params={"f": f})
    return float(fps.FokkerPlanck(process, fps.Grid((0, L, n), boundary="periodic")).current().values[0, 0])


def _quadrature(D: float, f: float, n: int = 4096) -> float:
    """The double integral: trapezoidal rule over x (exponentially accurate for periodic functions), Gauss panels over y - x."""
    x = L * np.arange(n) / n
    total, nodes, weights = 0.0, *np.polynomial.legendre.leggauss(12)
    for k in range(256):
        for node, weight in zip(nodes, weights, strict=True):
            s = L * (k + 0.5 * (1 + node)) / 256
            # E over x of exp((V(x + s) - V(x))/D)
            total += weight * L / 512 * math.exp(-f * s / D) * float(np.mean(np.exp(0.8 * (np.cos(x + s) - np.cos(x)) / D)))
    return D * (1 - math.exp(-f * L / D)) / (L * total)


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Currents with noise from 1 to 0.05 and forces below and above the critical 0.8; figure tilted-washboard.png."""
    n = 128 if quick else 512
    checks, rows = [], []
    for D in (1.0, 0.3, 0.05):
        for f in (0.3, 1.0):
            exact = _quadrature(D, f, 512)
            coarse, fine = (abs(_current(D, f, cells) / exact - 1) for cells in (n // 2, n))
            rows.append((D, f, exact))
            # second order: h^2/12 times the relative curvature |V''|/D + |V'|^2/D^2 of exp(V/D), |V'| <= f + 0.8; exp(-V/D) too
            size = (L / n) ** 2 * (0.8 / D + ((0.8 + f) / D) ** 2) / 6
            checks.append(Check(name=f"relative error of the current, D = {D}, f = {f}, {n} cells", measured=fine, expected=0.0,
                                band=(0.0, size), source="double quadrature"))  # fmt: skip
            # the order is that of the specification; below 1e-9 there is rounding only
            order = math.log2(coarse / fine) if fine > 1e-9 else math.inf
            checks.append(Check(name=f"order of the current, D = {D}, f = {f}, {n} cells", measured=order, expected=2.0,
                                band=(1.9, math.inf), source="double quadrature"))  # fmt: skip
    _figure(out / f"{NAME}.png")
    return checks


def _figure(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    forces = np.linspace(0.0, 1.6, 25)
    for D in (1.0, 0.3, 0.05):
        axes.plot(forces, [_current(D, float(f), 128) for f in forces], label=f"D = {D}")
    axes.set_xlabel("force f")
    axes.set_ylabel("current")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
