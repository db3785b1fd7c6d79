"""No detailed balance: the current that circulates in the valley, its sign, size and entropy; paths with and without anisotropy.

To leading order J_y = 0 and J_x = -(lambda'/2)(1 - 1/kappa)(y^2 - Delta/lambda) P, whose integral over y is zero; the entropy
production is Delta (kappa - 1)^2/(2 kappa) <lambda'^2/lambda^2>. The joint density is exp(-L/Delta) for kappa = 1, flat along the
floor; for kappa > 1 it is F^(kappa - 1) there.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check
from ._yang import GROUP as GROUP
from ._yang import Array, below, cells, constant, lam, plane, within

NAME = "yang-tang-tu-balance"
CLAIM = "With anisotropic noise a current circulates across the floor of the valley; without it there is none, and no bias."
STANDING = "derived"
EQUATION = """
J_x = -{lambda'/2} (1 - 1/kappa) (y^2 - Delta/lambda) P
sigma = {Delta (kappa - 1)^2/(2 kappa)} <lambda'^2/lambda^2>
"""

KAPPA, DELTA = 5.0, 0.01


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """The current within 10 % (the validity number is 0.03, the derivatives of P add as much); paths: 4 errors and 0.03.

    0.03 is for the step. Figure yang-tang-tu-balance.png.
    """
    nx, ny = cells(quick)
    solver, density = plane(KAPPA, DELTA, "0", nx, ny)
    x, y = density.grid.centers
    J = solver.current(density)
    law = _law(x, y, density.values)
    inner = np.abs(x) < 1.5  # at the ends the walls stop it
    found, expected = J.values[inner][..., 0], law[inner]
    slope = float((found * expected).sum() / (expected**2).sum())
    signs = float(np.abs(found)[np.sign(found) == np.sign(expected)].sum() / np.abs(found).sum())
    net = np.abs(found.sum(axis=1)).max() / np.abs(found).sum(axis=1).max()
    checks = [
        within("J_x over -(lambda'/2)(1 - 1/kappa)(y^2 - Delta/lambda) P", slope, 1.0, 0.1, "leading order"),
        Check(name="share of |J_x| with this sign", measured=signs, expected=1.0, band=(0.98, 1.0), source="leading order"),
        Check(name="correlation of J_x with the formula", measured=float(np.corrcoef(found.ravel(), expected.ravel())[0, 1]),
              expected=1.0, band=(0.99, 1.0), source="leading order"),
        below("|int J_x dy| / int |J_x| dy, largest", float(net), 1e-9, "no flux through the ends"),
    ]  # fmt: skip
    weight = density.marginal(0).cell_mass
    entropy = DELTA * (KAPPA - 1.0) ** 2 / (2.0 * KAPPA) * float(np.sum(weight * (8.0 * x / lam(x)) ** 2))
    checks.append(within("entropy production", solver.entropy_production().value, entropy, 0.1, "leading order"))
    still, at_rest = plane(1.0, DELTA, "0", nx, ny)
    zero = float(still.current(at_rest).solver_info["largest net flux relative"])
    checks.append(below("kappa 1: largest net flux, relative", zero, 1e-9, "detailed balance"))
    ratios = [_paths(kappa, k, quick, progress) for k, kappa in enumerate((1.0, 10.0))]
    for kappa, (ratio, error, exact) in zip((1.0, 10.0), ratios, strict=True):
        width = 4.0 * error + 0.03
        checks.append(Check(name=f"paths, kappa {kappa:g}: ln of flat over sharp", measured=ratio, stderr=error,
                            expected=exact, band=(exact - width, exact + width), source="equation"))  # fmt: skip
    checks.append(Check(name="paths: bias of kappa 10 beyond kappa 1, in errors",
                        measured=(ratios[1][0] - ratios[0][0]) / math.hypot(ratios[0][1], ratios[1][1]), stderr=1.0,
                        expected=math.inf, band=(10.0, math.inf), source="F^(kappa - 1)"))  # fmt: skip
    _figure(x, y, J.values[..., 0], law, out / f"{NAME}.png")
    return checks


def _law(x: Array, y: Array, p: Array) -> Array:
    return np.asarray(-4.0 * x[:, None] * (1.0 - 1.0 / KAPPA) * (y[None, :] ** 2 - DELTA / lam(x)[:, None]) * p)


def _paths(kappa: float, k: int, quick: bool, progress: bool) -> tuple[float, float, float]:
    """ln of the time at |x| < 0.2 over that at 0.4 < |x| < 0.6, with |y| < 0.05; paths, standard error, and the equation."""
    n, times = (1500 if quick else 15_000), np.linspace(150.0, 450.0, 31)
    walls = [(-1.0, 1.0, "reflecting"), None]
    paths = fps.simulate(
        constant(kappa, 0.05), [0.0, 0.0], t=450.0, dt=0.01, n=n, walls=walls, save=times, seed=30 + k, progress=progress
    )
    assert paths.states is not None
    x, floor = np.abs(paths.states[..., 0]), np.abs(paths.states[..., 1]) < 0.05
    flat, sharp = (x < 0.2) & floor, (x > 0.4) & (x < 0.6) & floor
    a, b = flat.mean(axis=0), sharp.mean(axis=0)
    ratio = math.log(a.mean() / b.mean())
    error = float(np.std(a / a.mean() - b / b.mean())) / math.sqrt(n)
    grid = fps.Grid((-1.0, 1.0, 100), (-1.35, 1.35, 108))
    p = fps.FokkerPlanck(constant(kappa, 0.05), grid).stationary().cell_mass
    u, strip = np.abs(grid.centers[0]), np.abs(grid.centers[1]) < 0.05
    exact = math.log(p[u < 0.2][:, strip].sum() / p[(u > 0.4) & (u < 0.6)][:, strip].sum())
    return ratio, error, exact


def _figure(x: Array, y: Array, found: Array, law: Array, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 3.6), layout="constrained")
    *maps, last = figure.subplots(1, 3)
    times = np.linspace(0.0, 200.0, 401)[1:]
    for k, kappa in enumerate((1.0, 10.0)):
        walls = [(-1.0, 1.0, "reflecting"), None]
        paths = fps.simulate(constant(kappa, 0.05), [0.8, 0.0], t=200.0, dt=0.01, n=2, walls=walls, save=times, seed=40 + k)
        assert paths.states is not None
        last.plot(times, paths.states[..., 0], color=f"C{k}", lw=0.7, label=[f"kappa {kappa:g}", None])
    last.set(xlabel="time", ylabel="x", title="two paths each, Delta 0.05")
    last.legend(frameon=False)
    top = float(np.abs(law).max())
    for ax, values, title in zip(maps, (found, law), ("equation", "leading order"), strict=True):
        mesh = ax.pcolormesh(x, y, values.T, cmap="RdBu_r", vmin=-top, vmax=top)
        ax.set(xlabel="x", ylabel="y", ylim=(-0.35, 0.35), title=f"J_x, {title}: kappa 5, Delta 0.01")
    figure.colorbar(mesh, ax=maps)
    figure.savefig(path, dpi=120)
