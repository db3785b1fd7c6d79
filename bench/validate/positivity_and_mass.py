"""Evolution from all mass in one cell, for tensors that turn from cell to cell, any accuracy and any time.

The bands are those of the specification: mass to 1e-12, "positive" nonnegative to rounding, the default negative by rtol at most.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check

NAME = "positivity-and-mass"
GROUP = "fokker-planck"
CLAIM = "Evolution conserves mass; method 'positive' is nonnegative, the default negative by no more than its tolerance."
STANDING = "derived"
EQUATION = "sum_i m_i(t) = 1, m_i(t) >= 0"

TIMES = [1e-4, 1e-2, 1.0, 1e2]


def _solver(condition: float, n: int) -> fps.FokkerPlanck:
    e, turn = repr(1 / condition), "(3*sin(x) + y)"
    a, b, c = (f"cos{turn}**2 + {e}*sin{turn}**2", f"(1 - {e})*sin{turn}*cos{turn}", f"sin{turn}**2 + {e}*cos{turn}**2")
    noise = fps.Noise.from_expression([[a, b], [b, c]], "x y")
    process = fps.Process.from_drift(["4*sin(y) - x", "-3*x + cos(2*y)"], noise, variables="x y")
    return fps.FokkerPlanck(process, fps.Grid((-1, 1, n), (-1, 1.5, n)))


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Worst cases over condition numbers up to 1e4, tolerances and times; figure positivity-and-mass.png."""
    n, lost, below, least = 24 if quick else 64, 0.0, 0.0, 0.0
    excess = dict.fromkeys((0.001, 1e-06, 1e-09), 0.0)
    for condition in (1.0, 1e2, 1e4):
        fp = _solver(condition, n)
        start = np.zeros(fp.grid.shape)
        start[n // 3, n // 2] = 1.0 / fp.grid.cell_volumes[0, 0]
        for rtol in excess:
            default, positive = fp.evolve(start, TIMES, rtol=rtol), fp.evolve(start, TIMES, rtol=rtol, method="positive")
            lost = max(lost, *(abs(float(p.cell_mass.sum()) - 1.0) for series in (default, positive) for p in series))
            below = max(below, *(-float(p.cell_mass.min()) for p in positive))
            excess[rtol] = max(excess[rtol], *(-float(p.negative_mass) for p in default))
        least = max(least, -float(fp.stationary().values.min()))
    _figure(_solver(1e2, n), out / f"{NAME}.png")
    source = "specification"
    return [
        Check(name="mass lost or gained", measured=lost, expected=0.0, band=(0.0, 1e-12), source=source),
        Check(name="negative cell mass, method 'positive'", measured=below, expected=0.0, band=(-1.0, 1e-15), source=source),
        Check(name="negative density, stationary", measured=least, expected=0.0, band=(-1.0, 0.0), source=source),
        *(
            Check(name=f"negative mass of the default, rtol {rtol:g}", measured=most, expected=0.0, band=(0.0, rtol), source=source)
            for rtol, most in excess.items()
        ),
    ]


def _figure(fp: fps.FokkerPlanck, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    fp.evolve(("gaussian", [0.3, 0.5], 0.02 * np.eye(2)), 0.05, method="positive").plot(ax=figure.add_subplot())
    figure.savefig(path, dpi=120)
