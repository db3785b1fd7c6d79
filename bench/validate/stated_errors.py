"""Does the error that an Estimate states cover the true one? Numbers with closed forms, on several grids, coarse ones included.

From two grids the error is the whole change, from three with a confirmed order Richardson's. Every check is a quotient, true error
over stated error: at most one is what a stated error promises. The linear process of condition 1000 has cells that do not resolve
its noise: there an assumption of the Estimate must fail as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

import fpsolve as fps

from . import Check
from ._linear_process import A, linear, tensor

NAME = "stated-errors"
GROUP = "fokker-planck"
CLAIM = "The discretisation error that an answer of the Fokker-Planck engine states covers the true one, on coarse grids as well."
STANDING = "derived"
EQUATION = '|"answer" - "true value"| <= "stated error"'

Array = NDArray[np.float64]
Question = Callable[[fps.FokkerPlanck], Any]

#: What the box (-5, 5)^2 takes from the linear process, relative: six standard deviations. No grid inside can know of it.
BOX = 1e-7


def covariance(fp: fps.FokkerPlanck) -> Array:
    return np.asarray(fp.stationary().covariance())


def cases() -> Iterator[tuple[str, tuple[int, ...], Callable[[int], fps.FokkerPlanck], Question, Array]]:
    """Name, numbers of cells per axis, engine, question, exact answer."""
    flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
    interval = fps.Region.box([-1.0], [1.0])

    def line(n: int) -> fps.FokkerPlanck:
        return fps.FokkerPlanck(flat, fps.Grid((-1.23, 1.27, n)))

    sizes = (25, 50, 100, 200, 400)
    yield "interval: rate", sizes, line, lambda f: f.escape_rate(interval), np.array(math.pi**2 / 8)
    yield "interval: variance", sizes, line, lambda f: f.exit_time_variance(interval, at=[0.0]), np.array(2 / 3)
    well = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.1))
    exact = fps.theory.mean_first_passage_1d(well, [-1.0], 1.0, reflecting=-2.5)

    def double(n: int) -> fps.FokkerPlanck:
        return fps.FokkerPlanck(well, fps.Grid((-2.5, 1.5, n)))

    right = fps.Region.halfspace([1.0], 1.0)
    yield "double well: exit time", (40, 80, 160, 320), double, lambda f: f.mean_exit_time(right, at=[-1.0]), np.array(exact.value)
    plane = fps.Process(fps.Potential.from_expression("0*x + 0*y", "x y"), fps.Noise.isotropic(0.5))
    disc = fps.Region.ball([0.0, 0.0], 1.0)

    def square(n: int) -> fps.FokkerPlanck:
        return fps.FokkerPlanck(plane, fps.Grid((-1.1, 1.1, n), (-1.13, 1.1, n)))

    yield "disc: rate", (24, 48, 96), square, lambda f: f.escape_rate(disc), np.array(0.5 * special.jn_zeros(0, 1)[0] ** 2)
    for condition, grids in ((4.0, (24, 48, 96, 192)), (100.0, (48, 96, 192))):
        S = fps.theory.ou_covariance(A, tensor(condition))
        D = tensor(condition)
        production = float(np.trace((A - D @ np.linalg.inv(S)).T @ np.linalg.inv(D) @ (A - D @ np.linalg.inv(S)) @ S))
        name = f"linear process, condition {condition:g}"

        def engine(n: int, condition: float = condition) -> fps.FokkerPlanck:
            return linear(condition, n)

        yield f"{name}: covariance", grids, engine, covariance, S
        yield f"{name}: entropy production", grids, engine, lambda f: f.entropy_production(), np.array(production)


def quotients(fp: fps.FokkerPlanck, question: Question, exact: Array, confirm: bool) -> tuple[float, list[fps.Estimate]]:
    """Largest true over stated error of the entries."""
    answer = fp.estimate(question, confirm=confirm)
    entries = [answer] if isinstance(answer, fps.Estimate) else [e for row in answer for e in row]
    box = BOX * float(np.max(np.abs(exact)))
    pairs = zip(entries, np.ravel(exact), strict=True)
    return max(abs(e.value - x) / (e.discretization_error + box) for e, x in pairs), entries


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Largest quotient of every case over its grids; then condition 1000; figure stated-errors.png."""
    checks, curves = [], []
    for name, sizes, engine, question, exact in cases():
        for confirm in (False, True):
            found = [quotients(engine(n), question, exact, confirm)[0] for n in sizes[: 3 if quick else None]]
            curves.append((f"{name}{', three grids' if confirm else ''}", sizes[: len(found)], found))
            checks.append(_covered(f"{name}, {'three' if confirm else 'two'} grids", max(found)))
    thin = fps.theory.ou_covariance(A, tensor(1000.0))
    for n in (64, 128) if quick else (64, 96, 128, 192, 256):
        quotient, entries = quotients(linear(1000.0, n), covariance, thin, False)
        checks.append(_covered(f"condition 1000, {n}^2 cells: covariance", quotient))
        said = min(sum("resolve" in a.name for a in e.failed) for e in entries)
        checks.append(
            Check(
                name=f"condition 1000, {n}^2 cells: assumptions that fail",
                measured=float(said),
                expected=1.0,
                band=(1.0, 1.0),
                source="the cells resolve the noise",
            )
        )
    _figure(curves, out / f"{NAME}.png")
    return checks


def _covered(name: str, quotient: float) -> Check:
    return Check(name=name, measured=quotient, expected=1 / 3, band=(0.0, 1.0), source="true over stated error")


def _figure(curves: list[tuple[str, tuple[int, ...], list[float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    ax = figure.subplots()
    for i, (name, sizes, found) in enumerate(curves):
        ax.loglog(sizes, found, "o-" if i % 2 == 0 else "x--", color=f"C{i // 2}", ms=4, label=None if i % 2 else name)
    ax.axhline(1.0, color="0.4", lw=0.8)
    ax.set(xlabel="cells per axis", ylabel="true / stated error", title="solid: two grids, dashed: three grids")
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
