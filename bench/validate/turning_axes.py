"""Noise whose axes turn from place to place, read three ways: stationary moments of the density against paths.

In one dimension a factor and its tensor say the same; in two they do not: B(x) and B(x) R(x) with a rotation R(x) have one tensor
and different Stratonovich drifts. Here the axes of B turn with 0.8 x + 0.3 y, the drift is no gradient, and each reading has its
own stationary density. Paths know none of the formulas by which the Fokker-Planck engine turns a reading into an Ito drift for its
cells: Heun's scheme is that of Stratonovich's calculus, Euler's that of Ito's.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps

from . import Check

NAME = "turning-axes"
GROUP = "fokker-planck"
CLAIM = "With a factor B(x) whose axes turn, each reading of the noise has its own density, and paths and cells agree on each."
STANDING = "derived"
EQUATION = "B B^T = B R (B R)^T = 2 D, R(x)^T R(x) = 1"

Array = NDArray[np.float64]

TURN = "(0.8*x + 0.3*y)"
FACTOR = [
    [f"cos{TURN}*(0.9 + 0.5*sin(y))", f"-0.35*sin{TURN}"],
    [f"sin{TURN}*(0.9 + 0.5*sin(y))", f"0.35*cos{TURN}"],
]
FORCE = ["-x - x**3/4 + y/4", "-3*y/2 + x/4 + 1/2"]
READINGS = {"ito": "euler", "stratonovich": "heun", "klimontovich": "heun"}
MOMENTS = ("x", "y", "x^2", "x y", "y^2")
DT = 0.01


def moments(x: Array, y: Array) -> Array:
    """The five moments of every point (5, n)."""
    return np.array([x, y, x * x, x * y, y * y])


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Five moments by three readings, and how far apart the readings are; figure turning-axes.png."""
    n, cells = (40_000, 96) if quick else (640_000, 192)
    checks, engine, paths = [], {}, {}
    for i, (reading, method) in enumerate(READINGS.items()):
        noise = fps.Noise.from_factor(FACTOR, variables="x y")
        process = fps.Process.from_drift(FORCE, noise, variables="x y", interpretation=reading)
        fp = fps.FokkerPlanck(process, fps.Grid((-4, 4, cells), (-3.5, 4, cells)))
        answers = fp.estimate(lambda f: moments(*f.grid.points().T) @ f.stationary().cell_mass.ravel())
        # the slowest rate is about 1: at t = 14 the start is forgotten to 1e-6
        final = fps.simulate(process, [0.0, 0.0], t=14.0, dt=DT, n=n, method=method, seed=600 + i, progress=progress).final
        sample = moments(*final.T)
        engine[reading], paths[reading] = answers, (sample.mean(axis=1), sample.std(axis=1) / math.sqrt(n))
        for k, name in enumerate(MOMENTS):
            error = paths[reading][1][k]
            # 4.5 standard errors (15 checks: 1e-4 altogether), the stated error of the cells, and for Euler the weak error
            # rate x dt/2 of moments below 0.7 with rates below 2; Heun's is of the same size where the noise does not commute
            band = 4.5 * error + answers[k].discretization_error + DT
            value = answers[k].value
            checks.append(
                Check(
                    name=f"{reading}: E {name} of paths",
                    measured=float(paths[reading][0][k]),
                    stderr=float(error),
                    expected=value,
                    band=(value - band, value + band),
                    source="Fokker-Planck engine",
                )
            )
    checks += _apart(paths)
    _figure(engine, paths, out / f"{NAME}.png")
    return checks


def _apart(paths: dict[str, tuple[Array, Array]]) -> list[Check]:
    """The comparison tells the readings apart: some moment differs by three bands at least."""
    checks = []
    names = list(paths)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            bands = 4.5 * np.hypot(paths[a][1], paths[b][1]) + DT
            gap = float(np.max(np.abs(paths[a][0] - paths[b][0]) / bands))
            checks.append(
                Check(name=f"{a} and {b} apart, in bands", measured=gap, expected=math.inf, band=(3.0, math.inf), source="paths")
            )
    return checks


def _figure(engine: dict[str, tuple[fps.Estimate, ...]], paths: dict[str, tuple[Array, Array]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    ax = figure.subplots()
    k = np.arange(len(MOMENTS))
    for i, reading in enumerate(READINGS):
        at = k + 0.2 * (i - 1)
        ax.bar(at, [e.value for e in engine[reading]], 0.18, color=f"C{i}", alpha=0.4, label=f"{reading}, cells")
        ax.errorbar(at, paths[reading][0], 4 * paths[reading][1], fmt=".", color=f"C{i}", label="paths" if i == 0 else None)
    ax.set_xticks(k, [f"E {m}" for m in MOMENTS])
    ax.set(ylabel="stationary moment", title="one factor B(x), three readings")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=120)
