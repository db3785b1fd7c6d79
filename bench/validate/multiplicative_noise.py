"""State-dependent noise in the three interpretations, on the line against closed forms.

With U = x^2/2 and D = (1 + x^2)/2 the stationary density is (1 + x^2)^(-1 - s), s = 1 (Ito), 1/2 (Stratonovich), 0 (Klimontovich).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check

NAME = "multiplicative-noise"
GROUP = "fokker-planck"
CLAIM = "Multiplicative noise in the three interpretations has its own stationary law each, to second order."
STANDING = "derived"
EQUATION = 'p ~ (1 + x^2)^(-1 - s), s = 1 "(Ito)", 1/2 "(Stratonovich)", 0 "(Klimontovich)"'

POWERS = {"ito": -2.0, "stratonovich": -1.5, "klimontovich": -1.0}
BOX = (-5.0, 6.0)


def _density(name: str, n: int) -> fps.Density:
    process = fps.Process(fps.Potential.from_expression("x**2/2"), fps.Noise.from_expression("(1 + x**2)/2"), interpretation=name)
    return fps.FokkerPlanck(process, fps.Grid((*BOX, n))).stationary()


def _exact(name: str, x: np.ndarray) -> np.ndarray:
    integral = {
        "ito": lambda v: 0.5 * (v / (1 + v * v) + math.atan(v)),
        "stratonovich": lambda v: v / math.sqrt(1 + v * v),
        "klimontovich": math.atan,
    }[name]
    return np.asarray((1 + x * x) ** POWERS[name] / (integral(BOX[1]) - integral(BOX[0])))


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Order and size of the L1 error; figure multiplicative-noise.png."""
    n = 220 if quick else 880
    checks = []
    for name in POWERS:
        errors = []
        for cells in (n // 2, n):
            p = _density(name, cells)
            errors.append(float(np.sum(np.abs(p.values - _exact(name, p.grid.centers[0])) * p.grid.widths[0])))
        # order >= 1.9 is the specification; a second-order error has the size h^2 int |p''| / 12, below 4/12 h^2 here
        order = math.log2(errors[0] / errors[1])
        checks += [
            Check(
                name=f"{name}: order of the L1 error, {n} cells",
                measured=order,
                expected=2.0,
                band=(1.9, math.inf),
                source="closed form",
            ),
            Check(
                name=f"{name}: L1 error, {n} cells",
                measured=errors[1],
                expected=0.0,
                band=(0.0, 4 / 12 * (11.0 / n) ** 2),
                source="closed form",
            ),
        ]
    _figure(out / f"{NAME}.png")
    return checks


def _figure(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for name in POWERS:
        _density(name, 220).plot(ax=axes, label=name)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
