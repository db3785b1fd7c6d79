"""What holds for every process and grid: nonnegative rates, exact mass, connected cells, detailed balance, positivity."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

import fpsolve as fps

from . import Check

NAME = "generator-guarantees"
GROUP = "fokker-planck"
CLAIM = "The discrete operator is a connected Markov generator for any tensor, in detailed balance where the process is."
STANDING = "derived"


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Tensors up to condition number 1e4 at many angles, then a reversible process and a sharp start; figure of the latter."""
    return [*_tensors(8 if quick else 24), _balance(), *_evolution(out / f"{NAME}.png")]


# All bands are numbers of the specification (>= 0, rounding, one class, 1e-12, rtol), none comes from a run.


def _exact(name: str, measured: float, limit: float, source: str) -> Check:
    return Check(name=name, measured=measured, expected=0.0, band=(0.0, limit), source=source)


def _tensors(angles: int) -> list[Check]:
    """Worst case over angles, condition numbers and boundaries of a tensor that also turns from cell to cell."""
    negative, row_sum, parts = 0.0, 0.0, 0
    for condition in (1.0, 1e2, 1e4):
        for k in range(angles):
            turn = f"({math.pi * k / angles!r} + 0.3*sin(2*x - y))"
            small = f"{1 / condition!r}"
            a = f"cos({turn})**2 + {small}*sin({turn})**2"
            b = f"(1 - {small})*sin({turn})*cos({turn})"
            c = f"sin({turn})**2 + {small}*cos({turn})**2"
            noise = fps.Noise.from_expression([[a, b], [b, c]], "x y")
            process = fps.Process.from_drift(["y - x", "-x - y + sin(3*x)"], noise, variables="x y")
            boundary = [("reflecting", "absorbing"), "periodic"] if k % 2 else "reflecting"
            fp = fps.FokkerPlanck(process, fps.Grid((-1, 1, 24), (-1.5, 1.0, 21), boundary=boundary))
            off = fp.generator - sp.diags(fp.generator.diagonal())
            scale = float(np.abs(fp.generator.diagonal()).max())
            negative = max(negative, float(-off.data.min(initial=0.0)) / scale)
            row_sum = max(row_sum, float(np.abs(np.asarray(fp.generator.sum(axis=1)).ravel() + fp.kill).max()) / scale)
            parts = max(parts, int(connected_components(fp.generator, connection="strong")[0]))
    return [
        _exact("largest negative rate over the largest rate", negative, 0.0, "definition"),
        _exact("largest row sum over the largest rate", row_sum, 1e-12, "definition"),
        Check(name="communicating classes", measured=parts, expected=1, band=(1, 1), source="graph search"),
    ]


def _balance() -> Check:
    Phi = fps.Potential.from_expression("3*cos(x) + 2*sin(y)*cos(x)", "x y")
    noise = fps.Noise.from_expression([["1.2 + sin(x)", "0.3*cos(y)"], ["0.3*cos(y)", "0.8 + 0.4*cos(x)"]], "x y")
    grid = fps.Grid((0, 2 * math.pi, 40), (0, 2 * math.pi, 36), boundary=["periodic", "reflecting"])
    fp = fps.FokkerPlanck(fps.Process.reversible(Phi, noise), grid)
    pi = np.exp(-Phi(grid.points()))
    flow = (sp.diags(pi) @ (fp.generator - sp.diags(fp.generator.diagonal()))).tocsr()
    gap = abs(flow - flow.T)
    size = flow.maximum(flow.T)
    ratio = gap.multiply(size.power(-1.0))
    return _exact("detailed balance: largest relative net flux of an edge", float(ratio.max()), 1e-12, "exp(-Phi)")


def _evolution(picture: Path) -> list[Check]:
    """All mass in one cell of an irreversible process with condition number 100."""
    c, s = math.cos(0.5), math.sin(0.5)
    R = np.array([[c, -s], [s, c]])
    noise = fps.Noise.constant(R @ np.diag([1.0, 0.01]) @ R.T)
    process = fps.Process.ornstein_uhlenbeck([[1.0, 0.6], [-0.3, 0.8]], noise)
    fp = fps.FokkerPlanck(process, fps.Grid((-4, 4, 64), (-4, 4, 64)))
    start = np.zeros(fp.grid.shape)
    start[45, 20] = 1.0 / fp.grid.cell_volumes[45, 20]
    times = [0.001, 0.03, 1.0]
    positive = fp.evolve(start, times, method="positive")
    default = fp.evolve(start, times, rtol=1e-6)
    stationary = fp.stationary()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    positive.plot(ax=figure.add_subplot())
    figure.savefig(picture, dpi=120)
    drift = max(abs(p.mass - 1.0) for series in (positive, default) for p in series)
    return [
        _exact("mass lost or gained by evolve", drift, 1e-12, "conservation"),
        _exact("negative mass, method 'positive'", max(-p.negative_mass for p in positive), 1e-15, "positivity"),
        _exact("negative mass, default at rtol 1e-6", max(-p.negative_mass for p in default), 1e-6, "rtol"),
        _exact("negative mass of the stationary density", -stationary.negative_mass, 0.0, "positivity"),
    ]
