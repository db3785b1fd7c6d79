"""What holds for every process and grid: nonnegative rates, exact mass, connected cells, detailed balance, positivity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

import fpsolve as fps

from . import Check

NAME = "generator-guarantees"
GROUP = "fokker-planck"
CLAIM = "The discrete operator is a connected Markov generator for any tensor, in detailed balance where the process is."
STANDING = "derived"
EQUATION = 'Q_ij >= 0 "for" i != j, sum_j Q_ij = -"absorption"_i, pi_i Q_ij = pi_j Q_ji "if reversible"'


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Tensors up to condition number 1e4 at many angles, moments, cap, a reversible process, a sharp start (with its figure)."""
    moments = _moments((40, 80, 160) if quick else (80, 160, 320))
    return [*_tensors(8 if quick else 24), *moments, _cap(), _entries(), _balance(), *_evolution(out / f"{NAME}.png")]


# Bands are numbers of the specification (>= 0, rounding, one class, 1e-12, rtol, order 1.9, 10 %), but for the orders of moments
# of cells: 1.8 in the mean and 1.4 in the worst cell are those of the test suite, set after a run that gave 2.0 and 1.5 to 1.9.


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


def _moment_errors(generator: Any, process: Any, grid: Any) -> list[list[float]]:
    """Deviations of sum_j Q_ij (x_j - x_i) from b and of the second moment from 2 D inside: largest, mean, against a function."""
    x, rates = grid.points(), generator.tocoo()
    keep = np.all(np.abs(x) < 1.2, axis=1)
    smooth = (np.maximum(1.44 - x**2, 0.0) ** 3).prod(axis=1) * np.exp(x[:, 0] - 0.5 * x[:, 1])
    step = x[rates.col] - x[rates.row]
    first = np.stack([np.bincount(rates.row, rates.data * step[:, k], len(x)) for k in range(2)], -1) - process.drift(x)
    second = np.stack(
        [np.bincount(rates.row, rates.data * step[:, k] * step[:, l], len(x)) for k in range(2) for l in range(2)], -1
    )
    second -= 2 * process.diffusion(x).reshape(-1, 4)
    return [[np.abs(e[keep]).max(), np.abs(e[keep]).mean(), np.abs(smooth @ e).max() / smooth.sum()] for e in (first, second)]


def _five_point_upwind(process: Any, grid: Any) -> sp.csr_matrix:
    """What must fail: upwind drift and the diagonal of D along the axes, without D_xy."""
    n, m = grid.shape
    x, cell = grid.points(), np.arange(n * m)
    b, D, (i, j) = process.drift(x), process.diffusion(x), np.unravel_index(cell, (n, m))
    Q = sp.csr_matrix((n * m, n * m))
    for di, dj, axis in ((1, 0, 0), (-1, 0, 0), (0, 1, 1), (0, -1, 1)):
        h = grid.widths[axis][0]
        inside = (i + di >= 0) & (i + di < n) & (j + dj >= 0) & (j + dj < m)
        rate = D[:, axis, axis] / h**2 + np.maximum((di + dj) * b[:, axis], 0.0) / h
        Q = Q + sp.csr_matrix((rate[inside], (cell[inside], (cell + di * m + dj)[inside])), shape=Q.shape)
    return Q


def _moments(sizes: tuple[int, ...]) -> list[Check]:
    """Orders of both moments where offsets change from cell to cell, condition 6, and of the scheme that drops D_xy."""
    turn = "(0.6 + 0.3*sin(x - y/2))"
    a, b, c = f"(1 + 5*cos{turn}**2)/6", f"5*sin{turn}*cos{turn}/6", f"(1 + 5*sin{turn}**2)/6"
    noise = fps.Noise.from_expression([[a, b], [b, c]], "x y")
    process = fps.Process.from_drift(["y - x", "-sin(x) - y/2"], noise, variables="x y")
    fitted, upwind = [], []
    for n in sizes:
        grid = fps.Grid((-2, 2, n), (-2, 2, n))
        fitted.append(_moment_errors(fps.FokkerPlanck(process, grid).generator, process, grid))
        upwind.append(_moment_errors(_five_point_upwind(process, grid), process, grid))
    doublings = len(sizes) - 1
    order = np.log2(np.array(fitted[0]) / np.array(fitted[-1])) / doublings  # moments, norms
    wrong = np.log2(np.array(upwind[0]) / np.array(upwind[-1])) / doublings

    def check(name: str, measured: float, expected: float, band: tuple[float, float]) -> Check:
        return Check(name=name, measured=float(measured), expected=expected, band=band, source="definition of b and D")

    out = []
    for k, moment in enumerate(("first", "second")):
        out.append(check(f"order of the {moment} moment, largest error of a cell", order[k, 0], 2.0, (1.4, math.inf)))
        out.append(check(f"order of the {moment} moment, mean error of the cells", order[k, 1], 2.0, (1.8, math.inf)))
        out.append(check(f"order of the {moment} moment, against a smooth function", order[k, 2], 2.0, (1.9, math.inf)))
    out.append(check("five-point upwind, which must fail: order of the second moment", wrong[1].max(), 0.0, (-0.3, 0.3)))
    dropped = 2 * np.abs(process.diffusion(grid.points()[np.all(np.abs(grid.points()) < 1.2, axis=1)])[:, 0, 1]).max()
    # the upwind drift adds less than h |b| to the diagonal
    left = upwind[-1][1][0] / dropped
    out.append(check("five-point upwind: its largest error over 2 |D_xy|", left, 1.0, (1.0 - 1e-9, 1.1)))
    return out


def _cap() -> Check:
    """Half the second moment of the rates minus D, where offsets are capped at 2, 4 and 16, against `added_diffusion`; warnings."""
    worst = 0.0
    for condition in (30.0, 1e3, 1e4):
        c, s = math.cos(0.5), math.sin(0.5)
        D = np.array(
            [[c * c + s * s / condition, c * s * (1 - 1 / condition)], [c * s * (1 - 1 / condition), s * s + c * c / condition]]
        )
        process = fps.Process.from_drift(["0*x", "0*y"], fps.Noise.constant(D), variables="x y")
        for cap in (2, 4, 16):
            grid = fps.Grid((-1, 1, 41), (-1, 1.3, 41), boundary="periodic")
            fp = fps.FokkerPlanck(process, grid, max_offset=cap)
            row, middle = fp.generator.getrow(20 * 41 + 20), grid.points()[20 * 41 + 20]
            step = grid.points()[row.indices] - middle
            added = float(np.linalg.eigvalsh(0.5 * np.einsum("k,ki,kj->ij", row.data, step, step) - D)[1])
            worst = max(worst, abs(added - float(fp.added_diffusion[20, 20])))
            if any("longest offset" in text for text in fp.warnings) != (added > 0.1 / condition):
                worst = math.inf  # a warning is missing, or a false alarm
    return _exact(
        "what capped offsets add to D: largest difference to `added_diffusion`", worst, 1e-12, "second moment of the rates"
    )


def _entries() -> Check:
    """Stationary masses of a separable process in two wells with barriers of 100 D each, against products of rates in 60 digits."""
    import mpmath as mp

    process = fps.Process.from_drift(["4*x - 4*x**3", "4*y - 4*y**3"], fps.Noise.isotropic(0.01), variables="x y")
    n, m = 60, 52
    fp = fps.FokkerPlanck(process, fps.Grid((-1.6, 1.6, n), (-1.5, 1.6, m)))
    rates = fp.generator.tolil()
    with mp.workdps(60):
        laws = []
        for size, stride in ((n, m), (m, 1)):  # the rates along an axis depend on the place on this axis only
            law = [mp.mpf(1)]
            for i in range(size - 1):
                law.append(
                    law[-1]
                    * mp.mpf(float(rates[i * stride, (i + 1) * stride]))
                    / mp.mpf(float(rates[(i + 1) * stride, i * stride]))
                )
            laws.append([entry / mp.fsum(law) for entry in law])
        mass = fp.stationary().cell_mass
        worst = max(abs(mp.mpf(float(mass[i, j])) / (laws[0][i] * laws[1][j]) - 1) for i in range(n) for j in range(m))
        name = f"stationary masses down to {mp.nstr(min(laws[0]) * min(laws[1]), 1)}: largest relative error of a cell"
    return _exact(name, float(worst), 1e-12, "mpmath, 60 digits")


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
