"""Figure 1 of Feng and Tu: principal components of the weights between the hidden layers, drift and diffusion, and the null model.

Bands of the full run: three seeds of the reference numbers on MNIST (windows 91-100), widened by what init, pixels and windows
change. Bands of the quick run: one-seed values on another subset of 4000 images, widened likewise. A pure random walk has gamma =
2 and a first share of 0.61: only what lies clearly beyond is evidence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nets

from . import Check
from ._feng_tu import SEEDS, SOURCE, Measured, axes, check, log_slope, panel, prepare, reference
from ._feng_tu import SHARED as SHARED

NAME = "feng-tu-figure-1"
GROUP = "feng-tu"
CLAIM = "Late in training one component drifts along the weights themselves; the variances of the others fall as a power of i."
STANDING = "stated by the paper"
EQUATION = "w(t) = <w> + sum_i theta_i(t) p_i, sigma_i^2 = <theta_i^2> ~ i^-gamma"


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Three seeds; figures feng-tu-figure-1-a.png to -e.png."""
    runs = prepare([reference(quick, seed) for seed in SEEDS], progress)
    windows = [m.window for m in runs]
    share = (0.8, 1.0) if quick else (0.90, 0.96)
    checks = [
        _seeds("1a: share of the variance in PC1", [w.shares[0] for w in windows], 0.94, share, "reference run"),
        _seeds("1a: variance of PC1 over PC2", [w.variances[0] / w.variances[1] for w in windows], np.inf, (5.0, np.inf)),
        _seeds("1b: n for 90 % without PC1", [w.needed(0.9) for w in windows], 35, (15, 60) if quick else (35, 48)),
        _seeds("1d: |correlation of PC1 with time|", [abs(w.trend[0]) for w in windows], 1.0, (0.98, 1.0)),
        _seeds("1d: |cos| of PC1 and the mean weights", [w.alignment for w in windows], 1.0, (0.4, 1.0) if quick else (0.8, 1.0)),
        _seeds("1d: |correlation of PC50 with time|", [abs(w.trend[49]) for w in windows], 0.0, (0.0, 0.3)),
    ]
    ranges = [(20, 200, (1.8, 3.3))] if quick else [(10, 100, (1.9, 2.3)), (100, 1000, (3.0, 3.6)), (20, 200, (2.0, 3.3))]
    for low, high, band in ranges:
        slopes = [-log_slope(np.arange(1, len(w.variances) + 1), w.variances, low, high) for w in windows]
        checks.append(_seeds(f"1a: decay exponent gamma, i = {low}-{high}", slopes, 2.5, band))
    checks += _null(windows[0])
    _figures(runs[0], out)
    return checks


def _seeds(name: str, values: list[float], expected: float, band: tuple[float, float], source: str = SOURCE) -> Check:
    """Mean over the seeds."""
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return check(f"{name} (mean of {len(values)} seeds)", float(np.mean(values)), expected, *band, source, spread)


def _null(window: nets.Window) -> list[Check]:
    """The same numbers for a random walk with as many records and weights; exact values for many more weights than records."""
    rng = np.random.default_rng(1)
    n, size = min(window.records, 2000), len(window.index)
    walk = nets.pca(np.cumsum(rng.standard_normal((n, size)), axis=0), n_directions=300)
    exact = nets.random_walk(n, 300)
    i = np.arange(1, 301)
    gamma, share = -log_slope(i, walk.variances, 20, 200), float(walk.shares[0])
    return [
        # eigenvalues scatter by sqrt(2/2500) = 3 % each; 180 of them over a decade: below 0.02, and finite size bends the tail
        check("null: gamma of a random walk, i = 20-200", gamma, 2.0, 1.9, 2.1, "random walk"),
        check("null: share of PC1 of a random walk", share, float(exact.shares[0]), 0.55, 0.67, "6/pi^2"),
        check("null: measured share of PC1 - that of the walk", float(window.shares[0]) - share, 0.33, 0.15, 0.45, "random walk"),
    ]


def _figures(m: Measured, out: Path) -> None:
    window = m.window
    panel(out, NAME, "a", nets.plotting.plot_variances(window), "variances of the components")
    panel(out, NAME, "b", nets.plotting.plot_cumulative(window), "without the first component")
    panel(out, NAME, "c", nets.plotting.plot_times(window), "correlation times")
    for letter, pair in (("d", (0, 1)), ("e", (48, 49))):
        ax = axes()
        a, b = m.courses[pair[0]], m.courses[pair[1]]
        ax.plot(a, b, lw=0.5)
        ax.set(xlabel=rf"$\theta_{{{pair[0] + 1}}}$", ylabel=rf"$\theta_{{{pair[1] + 1}}}$")
        panel(out, NAME, letter, ax, "time course in two components")
