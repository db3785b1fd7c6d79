"""Mueller-Brown with noise that depends on the place: PDE, paths and splitting of one escape.

The tensor is full, turns from place to place and belongs to no detailed balance. The deepest minimum is left through a plane beyond
the saddle, at three strengths of the noise: the PDE on a grid (with its own error), paths with a small step and the Brownian
bridge, splitting, which needs no waiting. The levels of splitting are a committor on a coarse grid at one strength: they decide
about its error, not about its mean; with the distance from the plane, the first choice, one check failed, for the way is
curved. The exponent of the three times against the minimum action.

About half a minute of one core after compilation; the full run two minutes.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check

NAME = "xie-three-ways"
GROUP = "xie"
CLAIM = "PDE, paths and splitting agree on an escape in the plane with noise that depends on the place, and so does the exponent."
STANDING = "derived"
EQUATION = """
ln T ~ S, S = "inf" {1/4} int (x' - b)^T D^-1 (x' - b) dt
"""

U = fps.potentials.mueller_brown()
MINIMUM, SADDLE = [-0.558224, 1.441726], [-0.822001, 0.624313]
TENSOR = [["D*(1 + 0.3*x**2)", "0.3*D*x*y"], ["0.3*D*x*y", "D*(1 + 0.25*y**2)"]]
#: Left beyond the saddle, half way down to the next minimum (-0.05, 0.467).
REGION = fps.Region.halfspace([0.76, -0.65], -0.69)
STRENGTHS = (16.0, 12.0, 8.0)
#: Time step, quick and full; the stiffest curvature is about 4000.
STEP = {True: 2e-5, False: 1e-5}
#: Paths are followed where that is affordable.
FOLLOWED = 2


def process(D: float) -> fps.Process:
    return fps.Process(U, fps.Noise.from_expression(TENSOR, variables="x y", params={"D": D}))


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Bands: 4 errors of both sides, and 4 % for the step (dt h/2 at the stiffest curvature 4000); written down before the run."""
    cells, checks, rows = 120 if quick else 240, [], []
    grid = fps.Grid((-1.7, 0.4, cells), (-0.1, 2.1, cells))
    coarse = fps.FokkerPlanck(process(12.0), fps.Grid((-1.7, 0.4, 80), (-0.1, 2.1, 80)))
    levels = coarse.committor(fps.Region.ball(MINIMUM, 0.15), fps.Region.halfspace([-0.76, 0.65], 0.69))
    for i, D in enumerate(STRENGTHS):
        pde = fps.FokkerPlanck(process(D), grid).mean_exit_time(REGION, at=MINIMUM)
        n = 400 if quick else 2000
        split = fps.multilevel_splitting(
            process(D), MINIMUM, REGION, n=n, dt=STEP[quick], coordinate=levels, seed=10 + i, progress=progress
        ).mean_time()
        checks.append(_agree(f"D = {D:g}: splitting / PDE", split, pde))
        paths = None
        if i < FOLLOWED:
            paths = fps.escape_times(process(D), MINIMUM, REGION, n=n, dt=STEP[quick], seed=20 + i, progress=progress).mean()
            checks.append(_agree(f"D = {D:g}: paths / PDE", paths, pde))
            checks.append(_agree(f"D = {D:g}: splitting / paths", split, paths))
        rows.append((D, pde.value, split.value, split.stderr, math.nan if paths is None else paths.value))
    action = fps.minimum_action_path(process(1.0), MINIMUM, SADDLE, rtol=1e-4)
    D, T = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    slope = float((math.log(T[-1]) - math.log(T[0])) / (1.0 / D[-1] - 1.0 / D[0]))
    # ln T = S/D + ln A (1 + c D): the prefactor of weak noise changes the slope by c D^2, c of the order of 1/S
    width = 0.1 * action.action.value
    checks.append(Check(name="PDE: slope of ln T over 1/D", measured=slope, expected=action.action.value,
                        band=(action.action.value - width, action.action.value + width), source="minimum action"))  # fmt: skip
    _figure(rows, action, out / f"{NAME}.png")
    return checks


def _agree(name: str, e: fps.Estimate, other: fps.Estimate) -> Check:
    relative = math.hypot(e.error / e.value, other.error / other.value)
    width = 4.0 * relative + 0.04  # not halved for the full run
    return Check(name=name, measured=e.value / other.value, stderr=relative, expected=1.0, band=(1.0 - width, 1.0 + width),
                 source="the other method")  # fmt: skip


def _figure(rows: list[tuple[float, float, float, float, float]], path: fps.Path, out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    path.plot(ax=left, potential=U)
    left.set(title="minimum action path")
    D, pde, split, error, paths = np.array(rows).T
    right.plot(1.0 / D, pde, "k-", lw=0.9, label="PDE")
    right.errorbar(1.0 / D, split, 2.0 * error, fmt="o", ms=4, label="splitting")
    right.plot(1.0 / D, paths, "s", ms=8, mfc="none", label="paths")
    right.set(yscale="log", xlabel="1/D", ylabel="mean exit time", title="one escape, three ways")
    right.legend(frameon=False)
    figure.savefig(out, dpi=120)
