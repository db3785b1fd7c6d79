"""Multilevel splitting against quadrature and Fokker-Planck at barrier/D = 10, 20, 40, and its cost.

1. A double well on the line, left beyond its saddle: mean first passage by quadrature.
2. A double well with a tilted valley and a full tensor in the plane: escape rate of the Fokker-Planck engine.
3. The same with a drift that is no gradient.
4. The Gaussian chain of 1. at learning rate 0.1: 3e-13 per iteration by the transition kernel.

Every case is repeated with independent seeds: how often the 95 % interval holds the exact rate, and whether the mean of the
estimates is right. One such rate takes seconds; a path waits 1e12 steps and more.

The quick run takes half a minute of one core, the full one four minutes.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps

from . import Check

NAME = "xie-splitting"
GROUP = "xie"
CLAIM = "Splitting gives escape rates without bias at any rarity, inside its own interval, at a cost that grows with the logarithm."
STANDING = "derived"
EQUATION = '1/lambda = (1/p - 1) E[T "| back"] + E[T "| out"]'

Array = NDArray[np.float64]

RATIOS = (10, 20, 40)
CASES = ("line", "plane, gradient", "plane, no gradient")
TENSOR = np.array([[1.0, 0.5], [0.5, 1.5]])
DT = 0.02
#: Paths per run; relative standard errors are then about sqrt(-ln p/(10 n)), 11 to 20 %.
PATHS = 100


def problem(case: str, ratio: float) -> tuple[fps.Process, list[float], fps.Region]:
    """Process, start and region; the barrier is 1/4 without the swirl."""
    D = 0.25 / ratio
    if case == "line":
        U = fps.Potential.from_expression("(x**2 - 1)**2/4")
        return fps.Process(U, fps.Noise.isotropic(D)), [-1.0], fps.Region.halfspace([1.0], 0.5)
    noise, region = fps.Noise.constant(D * TENSOR), fps.Region.halfspace([1.0, 0.0], 0.3)
    if case == "plane, gradient":
        U = fps.Potential.from_expression("(x**2 - 1)**2/4 + (y - 0.3*x)**2", "x y")
        return fps.Process(U, noise), [-1.0, -0.3], region
    drift = ["-(x**3 - x) + 0.6*(y - 0.3*x) + 0.4*y", "-2*(y - 0.3*x) - 0.4*(x**3 - x)"]
    return fps.Process.from_drift(drift, noise, variables="x y"), [-1.0, -0.3], region


def exact(case: str, ratio: float, cells: int) -> tuple[float, float]:
    """The rate and its relative error."""
    process, x0, region = problem(case, ratio)
    if case == "line":
        return 1.0 / fps.theory.mean_first_passage_1d(process, x0[0], 0.5).value, 0.0
    rate = fps.FokkerPlanck(process, fps.Grid((-1.7, 0.3, cells), (-1.1, 0.6, cells))).escape_rate(region)
    return rate.value, rate.discretization_error / rate.value


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Figure xie-splitting.png. Bands were written down before the run, but that of the cost (values seen in trials).

    The chain had learning rate 0.2 and fewer paths at first: it passed with an error of 28 %, too wide a band to show much.
    """
    repeats, cells = (6, 160) if quick else (50, 300)
    checks, rows, held = [], [], 0
    for i, case in enumerate(CASES):
        for ratio in RATIOS:
            expected, error = exact(case, ratio, cells)
            seeds = range(1000 * i + 100 * ratio, 1000 * i + 100 * ratio + repeats)
            process, x0, region = problem(case, ratio)
            found = [fps.multilevel_splitting(process, x0, region, n=PATHS, dt=DT, seed=s, progress=progress) for s in seeds]
            inside = sum(e.interval is not None and e.interval[0] < expected < e.interval[1] for e in found)
            held += inside
            checks.append(_mean(f"{case}, barrier/D {ratio}", found, expected, error))
            if not quick:
                # asked for: 90 % of 50; intervals of exactly 95 % fall short of it in 3.8 % of such checks
                checks.append(Check(name=f"{case}, barrier/D {ratio}: intervals that hold the rate", measured=inside / repeats,
                                    expected=0.95, band=(0.9, 1.0), source="nominal coverage"))  # fmt: skip
            cost = float(np.mean([e.steps_per_decade for e in found]))
            rows.append((i, ratio, expected, float(np.mean([e.value for e in found])), _stderr(found), cost))
    total = repeats * len(CASES) * len(RATIOS)
    # binomial law: intervals of exactly 95 % are below 0.85 of 54 in 4e-3, below 0.9 of 450 in 1e-5 of the cases
    checks.append(
        Check(
            name=f"{total} intervals: share that holds the rate",
            measured=held / total,
            stderr=math.sqrt(0.95 * 0.05 / total),
            expected=0.95,
            band=(0.85 if quick else 0.9, 1.0),
            source="nominal coverage",
        )
    )
    checks += [_chain(progress), *_costs(rows)]
    _figure(rows, out / f"{NAME}.png")
    return checks


def _stderr(found: list[fps.SplittingEstimate]) -> float:
    """Standard error of the mean of independent estimates, from the errors that they state."""
    return math.sqrt(sum(e.stderr**2 for e in found)) / len(found)


def _mean(name: str, found: list[fps.SplittingEstimate], expected: float, error: float) -> Check:
    """Four standard errors (the 10 runs of each repeat give 54 or 450 degrees of freedom), the error of the PDE, and 2 % for dt.

    The Euler step moves time scales by a relative dt U''/2 <= 2 dt; the bridge removes the error of order sqrt(dt).
    """
    relative = _stderr(found) / expected
    width = 4.0 * relative + error + DT
    return Check(
        name=f"{name}: mean of {len(found)} / exact",
        measured=float(np.mean([e.value for e in found])) / expected,
        stderr=relative,
        expected=1.0,
        band=(1.0 - width, 1.0 + width),
        source="double quadrature" if name.startswith("line") else "Fokker-Planck engine",
    )


def _chain(progress: bool) -> Check:
    chain = fps.SGDChain.gaussian(fps.Potential.from_expression("(x**2 - 1)**2/4"), fps.Noise.isotropic(0.01), 0.1)
    region = fps.Region.halfspace([1.0], 0.2)
    rate = fps.TransitionKernel(chain, fps.Grid((-1.9, 0.6, 140))).escape_rate(region)
    found = fps.multilevel_splitting(chain, [-1.0], region, n=1000, runs=20, seed=77, progress=progress)
    relative = found.stderr / rate.value
    # five standard errors with 19 degrees of freedom: a false alarm in 8e-5 of the cases
    return Check(name=f"chain, {rate.value:.2g} per iteration: splitting / kernel", measured=found.value / rate.value,
                 stderr=relative, expected=1.0, band=(1 - 5 * relative, 1 + 5 * relative), source="transition kernel")  # fmt: skip


def _costs(rows: list[tuple[int, float, float, float, float, float]]) -> list[Check]:
    """Steps per factor of ten: constant but for branches that grow longer with the logarithm, and settling, which is shared."""
    checks = []
    for i, case in enumerate(CASES):
        cost = {ratio: c for k, ratio, *_, c in rows if k == i}
        checks.append(
            Check(
                name=f"{case}: steps per decade of rarity at barrier/D 40 over those at 10",
                measured=cost[40] / cost[10],
                expected=1.0,
                band=(0.2, 2.0),
                source="cost linear in the logarithm",
            )
        )
    return checks


def _figure(rows: list[tuple[int, float, float, float, float, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, case in enumerate(CASES):
        data: Array = np.array([row[1:] for row in rows if row[0] == i])
        left.errorbar(data[:, 0], data[:, 2], 2 * data[:, 3], fmt="o", ms=4, color=f"C{i}", label=case)
        left.plot(data[:, 0], data[:, 1], "-", lw=0.8, color=f"C{i}")
        right.plot(data[:, 0], data[:, 4], "s-", ms=4, color=f"C{i}", label=case)
    left.set(yscale="log", xlabel="barrier / D", ylabel="escape rate", title="points: splitting; lines: quadrature, PDE")
    right.set(xlabel="barrier / D", ylabel="steps per factor of ten", title=f"cost of 10 runs of {PATHS} paths")
    right.set_ylim(bottom=0.0)
    left.legend(frameon=False)
    figure.savefig(path, dpi=120)
