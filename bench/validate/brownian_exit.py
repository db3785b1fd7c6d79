"""Brownian motion leaves (-1, 1): the law of the exit time from paths of step 0.01, with and without the bridge.

Standard Brownian motion from 0 (D = 1/2): E T = 1, var T = 2/3, P(T > t) = sum 4 (-1)^k/((2k+1) pi) exp(-(2k+1)^2 pi^2 t/8).
With constant D and flat walls the bridge is exact at any step, but for paths that could meet both walls in one step, of probability
exp(-2/dt).
Without it an exit is seen only at the ends of steps: as if the walls stood 0.5826 sqrt(dt) further out (Chernoff 1965; Siegmund
1979; the number is -zeta(1/2)/sqrt(2 pi)), and the squared overshoot adds dt/4 to
the mean, (1 + 0.5826 sqrt(dt))^2 + dt/4 (both moments in Siegmund, Sequential Analysis 1985, ch. 10).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check

NAME = "brownian-exit"
GROUP = "paths"
CLAIM = "Exit times of paths with the bridge have the law of continuous time at any step; without it the mean is 12 % long."
STANDING = "derived"
EQUATION = """
E T = 1, var T = 2/3, P(T > t) = sum_k {4 (-1)^k/((2 k + 1) pi)} e^(-(2 k + 1)^2 pi^2 t/8)
"without the bridge" E T = (1 + 0.5826 sqrt(dt))^2 + dt/4
"""

DT = 0.01
PROBES = (0.2, 0.5, 1.0, 2.0, 4.0)


def survival(t: float) -> float:
    """P(T > t) of standard Brownian motion in (-1, 1) from 0."""
    k = np.arange(60)
    return float(np.sum(4 / math.pi * (-1.0) ** k / (2 * k + 1) * np.exp(-((2 * k + 1) ** 2) * math.pi**2 * t / 8)))


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Mean, variance, survival and sides of 2e6 exits (quick: 2e5); figure brownian-exit.png."""
    n = 200_000 if quick else 2_000_000
    flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
    interval = fps.Region.box([-1.0], [1.0])
    bridged = fps.escape_times(flat, [0.0], interval, n=n, dt=DT, seed=401, progress=progress)
    plain = fps.escape_times(flat, [0.0], interval, n=n, dt=DT, correction=None, seed=402, progress=progress)
    times = bridged.times
    # E T^k from the series: 1, 5/3, 61/15, 277/21 (Euler numbers), hence var T = 2/3 and E (T - 1)^4 = 277/21 - 4*61/15 + 6*5/3 - 3
    fourth = 277 / 21 - 4 * 61 / 15 + 6 * 5 / 3 - 3
    source, laws = "cosine series", [survival(t) for t in PROBES]
    checks = [
        _four("mean", float(times.mean()), 1.0, 2 / 3 / n, "1 - x^2"),
        _four("variance", float(times.var(ddof=1)), 2 / 3, (fourth - 4 / 9) / n, source),
        *(_four(f"P(T > {t:g})", float(np.mean(times > t)), p, p * (1 - p) / n, source) for t, p in zip(PROBES, laws, strict=True)),
        _four("exits on the right", float(np.mean(bridged.exit_points[:, 0] > 0)), 0.5, 0.25 / n, "symmetry"),
    ]
    shift = 0.5825971579390107  # -zeta(1/2)/sqrt(2 pi)
    late = (1 + shift * math.sqrt(DT)) ** 2 + DT / 4
    sd = math.sqrt(2 / 3 * 1.26 / n)  # the variance is that of continuous time, longer by about (1.12)^2
    checks.append(
        Check(
            name="without the bridge: mean",
            measured=float(plain.times.mean()),
            stderr=float(plain.times.std()) / math.sqrt(n),
            expected=late,
            band=(late - 4 * sd, late + 4 * sd),
            source="overshoot, (1 + 0.5826 sqrt(dt))^2 + dt/4",
        )
    )
    _figure(bridged, plain, out / f"{NAME}.png")
    return checks


def _four(name: str, measured: float, expected: float, variance: float, source: str) -> Check:
    """A band of four standard errors known before the run: false alarms 6e-5."""
    sd = math.sqrt(variance)
    band = (expected - 4 * sd, expected + 4 * sd)
    return Check(name=f"bridge: {name}", measured=measured, stderr=sd, expected=expected, band=band, source=source)


def _figure(bridged: fps.EscapeTimes, plain: fps.EscapeTimes, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    ax = figure.subplots()
    t = np.linspace(0.02, 6.0, 300)
    ax.semilogy(t, [survival(s) for s in t], color="0.6", lw=4, label="series")
    for times, label in ((bridged.times, "paths with bridge"), (plain.times, "paths, ends of steps only")):
        ordered = np.sort(times)
        ax.semilogy(t, 1 - np.searchsorted(ordered, t, side="right") / ordered.size, lw=1.2, label=label)
    ax.set(xlabel="t", ylabel="P(T > t)", title=f"exit from (-1, 1), dt = {DT:g}")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=120)
