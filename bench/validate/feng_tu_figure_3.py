"""Figure 3 of Feng and Tu: the ensemble of minibatch losses along the components.

Random parabolas of curvature M and minima of variance s^2 have slopes of variance M^2 s^2 at the mean minimum. Bands: curvature
as F^-2 (the definition of flatness), widened by the anharmonicity; the others from one seed on another subset, where s^2 ~ F^1.6
to 1.8 and the ratio to the true variance of the slopes was 1.8 to 3.4: curvature and minimum of a minibatch are anticorrelated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nets

from . import Check
from ._feng_tu import SHARED as SHARED
from ._feng_tu import check, landscape, measured, panel, reference

NAME = "feng-tu-figure-3"
GROUP = "feng-tu"
CLAIM = "Along flatter components minibatch losses are less curved and their minima scatter more; their force is weaker."
STANDING = "stated by the paper"
EQUATION = "var(g) = M^2 s^2, M ~ F^-2"

NUMBERS = (5, 7, 10, 14, 20, 30, 42, 60, 85, 120, 180)


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """One seed, components 5 to 180; figures feng-tu-figure-3-a.png to -c.png."""
    setting = reference(quick)
    m, land = measured(setting, progress), landscape(setting)
    number = np.array(NUMBERS)
    p = m.window.directions[:, number - 1]
    f = nets.flatness(land, p)
    count = 150 if quick else 300
    minima = [nets.minibatch_minima(land, p[:, k], batch=50, cap=3.0 * w, n=count, seed=k) for k, w in enumerate(f.width)]
    stiffness, spread = np.array([b.stiffness for b in minima]), np.array([b.spread for b in minima])
    force, capped = np.array([b.force for b in minima]), np.array([b.capped.mean() for b in minima])
    product = stiffness**2 * spread
    fits = {
        "3b: exponent of the curvature M over F": (stiffness, -2.0, (-2.3, -1.6)),
        "3c: exponent of the spread s^2 of the minima over F": (spread, 2.0, (1.2, 2.4)),
        "3d: exponent of M^2 s^2 over F": (product, -2.0, (-2.7, -1.4)),
    }
    checks = [check(name, nets.power_law(f.width, y).exponent, e, *band, "derived") for name, (y, e, band) in fits.items()]
    checks += [
        check("3d: M^2 s^2 / variance of the slopes, median", float(np.median(product / force)), 1.0, 1.0, 5.0, "derived"),
        # a minibatch without a minimum within three widths is one whose loss only falls: rare where many samples see the direction
        check("3: share of minibatches with the minimum at the cap, mean", float(capped.mean()), 0.0, 0.0, 0.3, "derived"),
    ]
    for letter, y, name in (("a", stiffness, "$M$"), ("b", spread, r"$\tilde\sigma^2$"), ("c", product, r"$M^2 \tilde\sigma^2$")):
        ax = nets.plotting.plot_power_law(f.width, y, label=name)
        ax.set(xlabel="flatness $F_i$", ylabel=name)
        panel(out, NAME, letter, ax, "minibatch losses along components")
    return checks
