"""Escape questions at barrier/D from 50 to 2000: no digit is lost to the barrier, in one and two dimensions.

The double well U = (x^2 - 1)^2 has the barrier 1. References are log-scale double quadratures, Kramers' formula where its own
error is below the band, and in two dimensions a separable landscape, whose answers are those of the line.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check

NAME = "any-barrier"
GROUP = "fokker-planck"
CLAIM = "Mean times, escape rates, committors and reaction rates keep their relative accuracy whatever the barrier."
STANDING = "derived"
EQUATION = """
T = int_x^b dy e^(-s(y)) int_a^y dz {e^(s(z))/D(z)}, s' = "drift"/D
U = (x^2 - 1)^2: ln T -> 1/D + ln(2 pi/sqrt(32))
"""

WELL = "(x**2 - 1)**2"
LEFT, RIGHT = fps.Region.halfspace([1.0], -1.0), fps.Region.halfspace([-1.0], -1.0)
#: ln of the Kramers time of a committed crossing times exp(-1/D)
LOG_PREFACTOR = math.log(2 * math.pi / math.sqrt(32.0))


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Line, then plane; figure any-barrier.png."""
    checks = [*_line(), *_committor(), *_plane(quick)]
    _figure(out / f"{NAME}.png")
    return checks


def _solver(D: float, box: float, n: int) -> fps.FokkerPlanck:
    process = fps.Process(fps.Potential.from_expression(WELL), fps.Noise.isotropic(D))
    return fps.FokkerPlanck(process, fps.Grid((-box, box, n)))


def _line() -> list[Check]:
    """Exit at x = 1 from -1, with cell widths h that resolve the barrier.

    On an edge over the barrier the harmonic mean of exp(-U/D) misses a share |U''| h^2/(12 D) = h^2/(3 D) of the resistance; the
    bands allow one and a half times that. The factor was chosen when first deviations had been seen; its form is theory.
    """
    checks = []
    exit_at_one = fps.Region.halfspace([1.0], 1.0)
    for barrier, box, n in ((50, 2.0, 1600), (200, 2.0, 3200), (700, 1.6, 6400), (2000, 1.4, 12800)):
        fp = _solver(1 / barrier, box, n)
        exact = fps.theory.mean_first_passage_1d(fp.process, [-1.0], 1.0, reflecting=-box)
        width = 0.5 * barrier * (2 * box / n) ** 2
        tau, rate = fp.mean_exit_time(exit_at_one, at=[-1.0]), fp.escape_rate(exit_at_one)
        assert tau.log_value is not None and rate.log_value is not None and exact.log_value is not None
        checks += [
            Check(
                name=f"ln(mean time / quadrature), barrier/D = {barrier}",
                measured=tau.log_value - exact.log_value,
                expected=0.0,
                band=(-width, width),
                source="double quadrature in logarithms",
            ),
            Check(
                name=f"ln(escape rate x mean time), barrier/D = {barrier}",
                measured=rate.log_value + exact.log_value,
                expected=0.0,
                band=(-width, width),
                source="double quadrature in logarithms",
            ),
            Check(
                name=f"ln(escape rate / Kramers), barrier/D = {barrier}",
                measured=rate.log_value + barrier + LOG_PREFACTOR,
                expected=0.0,
                band=(-width - 2 / barrier, width + 2 / barrier),
                source="Kramers, next order below 2 D",
            ),
        ]
    value = _solver(1 / 200, 2.5, 5600).mean_exit_time(exit_at_one, at=[-1.0]).value
    checks.append(
        Check(
            name="mean time at barrier/D = 200 / 1e86",
            measured=value / 1e86,
            expected=8.04,
            band=(8.035, 8.045),
            source="independent recursion",
        )
    )
    return checks


def _committor() -> list[Check]:
    """Relative error of q where it is smallest: just right of x = -1, values about exp(-97)."""
    D = 0.01
    q = _solver(D, 1.5, 1200).committor(LEFT, RIGHT)
    x = q.grid.centers[0]
    at = (x > -0.95) & (x < 0.95)
    # cumulative integral of exp(U/D) by Simpson's rule on a mesh far below the width of the barrier
    fine = np.linspace(-1.0, 1.0, 400_001)
    f = np.exp(((fine**2 - 1) ** 2 - 1) / D)
    panels = (f[:-2:2] + 4 * f[1:-1:2] + f[2::2]) * (fine[1] - fine[0]) / 3
    total = np.concatenate([[0.0], np.cumsum(panels)])
    exact = np.exp(np.interp(x[at], fine[2::2], np.log(total[1:]))) / total[-1]
    worst = float(np.max(np.abs(q.values[at] / exact - 1)))
    return [
        Check(
            name="largest relative error of the committor, barrier/D = 100",
            measured=worst,
            expected=0.0,
            band=(0.0, 2 * 100 * (3.0 / 1200) ** 2),
            source="quadrature",
        )
    ]


def _plane(quick: bool) -> list[Check]:
    """U = (x^2-1)^2 + y^2/2 at barrier/D = 100: what depends on x only equals the line's answer on the same x cells."""
    n, m = (192, 24) if quick else (256, 256)
    process = fps.Process(fps.Potential.from_expression(f"{WELL} + y**2/2", "x y"), fps.Noise.isotropic(0.01))
    exit_at_one = fps.Region.halfspace([1.0, 0.0], 1.0)
    fps.FokkerPlanck(process, fps.Grid((-1.6, 1.6, 24), (-0.8, 0.8, 24))).mean_exit_time(exit_at_one)  # compiles
    begin = time.process_time()
    plane = fps.FokkerPlanck(process, fps.Grid((-1.6, 1.6, n), (-0.8, 0.8, m)))
    tau = plane.mean_exit_time(exit_at_one)
    seconds = time.process_time() - begin
    line = _solver(0.01, 1.6, n)
    exact = fps.theory.mean_first_passage_1d(line.process, [-1.0], 1.0, reflecting=-1.6)
    same = line.mean_exit_time(fps.Region.halfspace([1.0], 1.0))
    width = 0.5 * 100 * (3.2 / n) ** 2
    a, b = fps.Region.halfspace([1.0, 0.0], -1.0), fps.Region.halfspace([-1.0, 0.0], -1.0)
    flat, straight = plane.reactive_rate(a, b), line.reactive_rate(LEFT, RIGHT)
    assert flat.log_value is not None and straight.log_value is not None
    inside = same.values > 0
    worst = float(np.max(np.abs(tau.values[inside] / same.values[inside, None] - 1)))
    checks = [
        Check(
            name=f"plane / line - 1, mean time, {n} x {m} cells",
            measured=worst,
            expected=0.0,
            band=(0.0, 1e-9),
            source="separable",
        ),
        Check(
            name=f"plane / quadrature, mean time from (-1, 0), {n} x {m} cells",
            measured=float(tau.at([-1.0, 0.0])) / exact.value,
            expected=1.0,
            band=(1 - width, 1 + width),
            source="double quadrature",
        ),
        Check(
            name="ln(plane / line), reaction rate",
            measured=flat.log_value - straight.log_value,
            expected=0.0,
            band=(-1e-8, 1e-8),
            source="separable",
        ),
    ]
    if not quick:
        checks.append(
            Check(
                name=f"processor seconds for the mean time on {n} x {m} cells",
                measured=seconds,
                expected=0.0,
                band=(0.0, 30.0),
                source="target for barrier/D = 100",
            )
        )
    return checks


def _figure(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for D in (0.1, 0.03, 0.01):
        fp = _solver(D, 1.5, 600)
        fp.committor(LEFT, RIGHT).plot(ax=left, log=True, label=f"barrier/D = {1 / D:.0f}")
        fp.quasi_stationary(fps.Region.halfspace([1.0], 0.0)).plot(ax=right, label=f"barrier/D = {1 / D:.0f}")
    left.set_title("committor of the double well")
    right.set_title("quasi-stationary density of the left basin")
    left.legend(frameon=False)
    figure.savefig(path, dpi=120)
