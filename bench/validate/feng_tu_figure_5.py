"""Figure 5 of Feng and Tu: the active temperature along a component, over the components, and in the course of training.

Bands: the minimum lies within 0.15 F of the centre and the exponent of T_i(0) over F between -3 and -1.5 (one seed on another
subset: -2.2 to -2.45; C ~ H alone gives -2); lowest at the centre at four times (asked for in the quick run), with the width of
the late window; T over L in the course of training between T ~ L (C ~ H) and T ~ L^2 (gradients that scale as the loss).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nets

from . import Check
from ._feng_tu import SHARED as SHARED
from ._feng_tu import SOURCE, axes, check, landscape, measured, panel, reference

NAME = "feng-tu-figure-5"
GROUP = "feng-tu"
CLAIM = "The active temperature is lowest at the centre of the valley, falls with flatness, and cools with the loss."
STANDING = "stated by the paper"
EQUATION = "T_i(d) = {lr/2} <(partial_d (L^mu - L)(w_0 + d p_i))^2>_mu"


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """One seed; figures feng-tu-figure-5-a.png to -e.png."""
    setting = reference(quick)
    m = measured(setting, progress)
    relation, land = m.relation, landscape(setting)
    options = {"lr": setting.lr, "batch": setting.batch, "sampling": setting.sampling}
    shown = (10, 30, 100)
    rows = [int(np.flatnonzero(relation.numbers == min(relation.numbers, key=lambda n, k=k: abs(n - k)))[0]) for k in shown]
    p = relation.window.directions[:, relation.numbers[rows] - 1]
    grid = relation.flatness.width[rows][:, None] * np.linspace(-0.5, 0.5, 41)
    profile = nets.active_temperature(land, p, grid, **options)
    lowest = np.abs(grid[np.arange(3), profile.argmin(axis=1)]) / relation.flatness.width[rows]
    ends = profile[:, [0, -1]].mean(axis=1) / profile[:, 20]
    keep = relation.between(2, 400) & ~relation.flatness.one_sided
    cold = nets.power_law(relation.flatness.width[keep], relation.temperatures[keep])
    tenth = relation.window.directions[:, 9]
    loss, temperature = [], []
    for theta in m.snapshots:
        at = landscape(setting, theta)
        losses, slopes, _ = at.section(tenth).jets()
        loss.append(float(losses.mean()))
        temperature.append(float(slopes.var()))
    course = nets.power_law(loss, temperature)
    # along component 10 at four times, from the first snapshot to the last
    times = np.linspace(0, len(m.snapshots) - 1, 4).astype(int)
    valley = grid[0, ::4]
    profiles = np.array([nets.active_temperature(landscape(setting, m.snapshots[k]), tenth, valley, **options)[0] for k in times])
    edges = profiles[:, [0, -1]].mean(axis=1) / profiles[:, 5]
    checks = [
        check("5a: |argmin of T_i(d)|/F_i, worst of i = 10, 30, 100", float(lowest.max()), 0.0, 0.0, 0.15, SOURCE),
        check("5a: T_i at +-F/2 over T_i(0), least", float(ends.min()), np.inf, 2.0, np.inf, "derived"),
        check("5b: rank correlation of T_i(0) and F_i, i = 2-400", cold.rank, -1.0, -1.0, -0.95, SOURCE),
        check("5b: exponent of T_i(0) over F_i", cold.exponent, -2.0, -3.0, -1.5, "C ~ H"),
        check("5d: rank correlation of T_10(0) and L in training", course.rank, 1.0, 0.95, 1.0, SOURCE),
        check("5d: exponent of T_10(0) over L", course.exponent, 1.5, 1.0, 2.0, "between C ~ H and g ~ L"),
        check("5c: T_10 at +-F/2 over T_10(0), least of four times in training", float(edges.min()), np.inf, 1.0, np.inf, SOURCE),
    ]
    panel(out, NAME, "a", nets.plotting.plot_temperature(grid, profile), "active temperature along components 10, 30, 100")
    ax = nets.plotting.plot_power_law(relation.flatness.width[keep], relation.temperatures[keep], label="$T_i(0)$")
    ax.set(xlabel="flatness $F_i$", ylabel="$T_i(0)$")
    panel(out, NAME, "b", ax, "temperature against flatness")
    ax = axes()
    ax.semilogy(m.snapshot_epochs, np.array(temperature) / max(temperature), "o-", label="$T_{10}(0)$, of its largest")
    ax.semilogy(m.snapshot_epochs, np.array(loss) / max(loss), "s-", label="$L$, of its largest")
    ax.set(xlabel="epoch")
    ax.legend(frameon=False)
    panel(out, NAME, "c", ax, "temperature and loss in training")
    ax = nets.plotting.plot_temperature(np.tile(valley, (4, 1)), profiles)
    ax.legend(ax.get_lines(), [f"epoch {m.snapshot_epochs[k]:.0f}" for k in times], frameon=False)
    panel(out, NAME, "e", ax, "active temperature along component 10 in training")
    ax = nets.plotting.plot_power_law(loss, temperature, label="$T_{10}(0)$")
    ax.set(xlabel="$L$", ylabel="$T_{10}(0)$ (variance of slopes)")
    panel(out, NAME, "d", ax, "temperature against loss")
    return checks
