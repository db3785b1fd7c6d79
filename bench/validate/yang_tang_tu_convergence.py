"""On the way to the flat end: the equation in the plane, the chain and the slow coordinate on a line, at the same times.

lambda = 1 + x^2, Delta = 0.05, kappa = 10, from x = 1.5 with y in equilibrium. Stronger noise is faster; the slowest rate of the
plane is that of the line.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check
from ._yang import GROUP as GROUP
from ._yang import Array, constant, within

NAME = "yang-tang-tu-convergence"
CLAIM = "Equation, chain and slow theory agree on the way to the flat end, and stronger noise shortens it."
STANDING = "derived"
EQUATION = "U(x) = L_0(x) + {1/2} int lambda' S dx, S = Delta/lambda"

LAM, KAPPA, LR, START = "1 + x**2", 10.0, 0.05, 1.5
TIMES = np.array([2.0, 5.0, 10.0, 20.0, 40.0])


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Second order of the line 0.02 of the start, the square of the validity 0.07 and the grids; leading order 0.1.

    Chain 4 errors + 0.02. Gaps 5 %. Figure yang-tang-tu-convergence.png.
    """
    process, n = constant(KAPPA, 0.05, LAM), 4000 if quick else 40_000
    nx, ny = (120, 90) if quick else (240, 160)
    plane = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, nx), (-1.35, 1.35, ny)))
    variance = 0.05 / (1.0 + START**2)
    series = plane.evolve(("gaussian", [START, 0.0], [[0.01, 0.0], [0.0, variance]]), TIMES)
    assert isinstance(series, fps.DensitySeries)
    found = np.array([p.mean()[0] for p in series])
    effective = fps.theory.effective_loss(process, (-2.0, 2.0))
    lines = {name: _line(effective, leading) for name, leading in (("second order", False), ("leading order", True))}
    discrete = _line(fps.theory.effective_loss(process, (-2.0, 2.0), lr=LR), False)
    assert process.potential is not None
    chain = fps.SGDChain.gaussian(process.potential, process.noise, LR)
    rng = np.random.default_rng(3)
    x0 = np.stack([START + 0.1 * rng.normal(size=n), math.sqrt(variance) * rng.normal(size=n)], axis=1)
    walls = [(-2.0, 2.0, "reflecting"), None]
    paths = fps.simulate(chain, x0, t=round(TIMES[-1] / LR), n=n, walls=walls, save=TIMES / LR, seed=600, progress=progress)
    assert paths.states is not None
    x = paths.states[..., 0]
    mean, error = x.mean(axis=1), x.std(axis=1) / math.sqrt(n)
    checks = []
    for k, t in enumerate(TIMES):
        for name, width in (("second order", 0.02), ("leading order", 0.1)):
            e = float(lines[name][k])
            checks.append(Check(name=f"t {t:g}: <x> of the plane, {name} expected", measured=float(found[k]), expected=e,
                                band=(e - width * START, e + width * START), source="theory.slow_process"))  # fmt: skip
        e, width = float(discrete[k]), 4.0 * float(error[k]) + 0.02 * START
        checks.append(Check(name=f"t {t:g}: <x> of the chain", measured=float(mean[k]), stderr=float(error[k]),
                            expected=e, band=(e - width, e + width), source="theory.slow_process"))  # fmt: skip
    gaps = []
    for delta in (0.02, 0.05):
        own = constant(KAPPA, delta, LAM)
        wide = 6.0 * math.sqrt(delta)
        grid = fps.Grid((-2.0, 2.0, nx), (-wide, wide, ny))
        gap = _gap(fps.FokkerPlanck(own, grid))
        slow = fps.theory.slow_process(fps.theory.effective_loss(own, (-2.0, 2.0)))
        checks.append(
            within(f"Delta {delta:g}: slowest rate of the plane", gap, _gap(fps.FokkerPlanck(slow, _axis())), 0.05, "line")
        )
        gaps.append(gap)
    checks.append(within("slowest rate at Delta 0.05 over 0.02", gaps[1] / gaps[0], 2.5, 0.1, "a rate of the order of Delta"))
    lines["second order, at the chain's lr"] = discrete
    _figure(found, lines, mean, error, out / f"{NAME}.png")
    return checks


def _axis() -> fps.Grid:
    return fps.Grid((-2.0, 2.0, 400))


def _gap(solver: fps.FokkerPlanck) -> float:
    return float(np.abs(solver.spectrum(2).eigenvalues[1]))


def _line(effective: fps.EffectiveLoss, leading: bool) -> Array:
    solver = fps.FokkerPlanck(fps.theory.slow_process(effective, leading=leading), _axis())
    series = solver.evolve(("gaussian", [START], [[0.01]]), TIMES)
    assert isinstance(series, fps.DensitySeries)
    return np.array([p.mean()[0] for p in series])


def _figure(found: Array, lines: dict[str, Array], mean: Array, error: Array, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.plot(TIMES, found, "k-", lw=2.0, label="equation in the plane")
    for style, (name, values) in zip(("C0--", "C1:", "C3-."), lines.items(), strict=True):
        ax.plot(TIMES, values, style, label=f"slow line, {name}")
    ax.errorbar(TIMES, mean, 2.0 * error, fmt="o", color="C3", ms=4, label=f"chain, lr {LR:g}")
    ax.set(xlabel="time", ylabel="<x>", yscale="log", title="to the flat end: kappa 10, Delta 0.05")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=120)
