"""Reversible processes: balanced on every edge where the density is known, to second order where only drift and tensor are given.

The bands are those of the specification: 1e-12 on every edge, order 1.9 otherwise.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import scipy.sparse as sp

import fpsolve as fps

from . import Check

NAME = "detailed-balance"
GROUP = "fokker-planck"
CLAIM = "Reversible processes are in detailed balance: exactly where the density is known, to second order where it is not."
STANDING = "derived"
EQUATION = "pi_i Q_ij = pi_j Q_ji, pi ~ e^(-Phi)"

PHI = "cos(x) + 0.7*sin(y)*cos(x) + 0.3*sin(2*x - y)"
#: eigenvalues 1 and 1/4, turned by 0.5 + 0.4 sin(x - y)
TURN = "(0.5 + 0.4*sin(x - y))"
TENSOR = [
    [f"cos{TURN}**2 + sin{TURN}**2/4", f"0.75*sin{TURN}*cos{TURN}"],
    [f"0.75*sin{TURN}*cos{TURN}", f"sin{TURN}**2 + cos{TURN}**2/4"],
]


def _solver(known: bool, n: int) -> fps.FokkerPlanck:
    Phi, noise = fps.Potential.from_expression(PHI, "x y"), fps.Noise.from_expression(TENSOR, "x y")
    if known:
        process = fps.Process.reversible(Phi, noise)
    else:
        gx, gy = "(-sin(x) - 0.7*sin(y)*sin(x) + 0.6*cos(2*x - y))", "(0.7*cos(y)*cos(x) - 0.3*cos(2*x - y))"
        force = [f"-({a})*{gx} - ({b})*{gy}" for a, b in TENSOR]
        process = fps.Process.from_drift(force, noise, variables="x y", interpretation="klimontovich")  # adds div D
    return fps.FokkerPlanck(process, fps.Grid((0, 2 * math.pi, n), (0, 2 * math.pi, n), boundary="periodic"))


def _edges(fp: fps.FokkerPlanck, pi: np.ndarray) -> float:
    flow = (sp.diags(pi) @ (fp.generator - sp.diags(fp.generator.diagonal()))).tocsr()
    return float(abs(flow - flow.T).multiply(flow.maximum(flow.T).power(-1.0)).max())


def _errors(n: int) -> tuple[float, float]:
    """L1 error of the density, and the net current relative to one component of what it is the difference of."""
    fp = _solver(False, n)
    p, pi = fp.stationary(), np.exp(-fps.Potential.from_expression(PHI, "x y")(fp.grid.points()))
    moved = np.abs(fp.process.drift(fp.grid.points())) * p.values.reshape(-1, 1)
    current = np.abs(fp.current(p).values).sum() / moved.sum()
    return float(np.abs(p.cell_mass.ravel() - pi / pi.sum()).sum()), float(current)


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Edges of the known process, orders of the hidden one; figure detailed-balance.png."""
    n = 64 if quick else 192
    fp = _solver(True, n)
    pi = np.exp(-fps.Potential.from_expression(PHI, "x y")(fp.grid.points()))
    coarse, fine = _errors(n // 2), _errors(n)
    names = ("density", "net current")
    _figure(_solver(False, n), out / f"{NAME}.png")
    return [
        Check(name="known: largest relative net flux of an edge", measured=_edges(fp, pi), expected=0.0, band=(0.0, 1e-12),
              source="exp(-Phi)"),
        *(
            Check(name=f"hidden: order of the {name}, {n} x {n} cells", measured=math.log2(a / b), expected=2.0,
                  band=(1.9, math.inf), source="exp(-Phi)")
            for name, a, b in zip(names, coarse, fine, strict=True)
        ),
    ]  # fmt: skip


def _figure(fp: fps.FokkerPlanck, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    fp.stationary().plot(ax=figure.add_subplot())
    figure.savefig(path, dpi=120)
