"""Networks: the end state is flatter where lr/B is larger, and gradient noise grows with curvature, layer by layer.

A grid of 3 learning rates x 3 batch sizes x seeds (three in quick, five in full). Flatness: 1/sqrt of the leading eigenvalue of the
Hessian of all weights. At the same SDE time, and at the same loss: sharpness falls with the loss in the late phase, and runs that
have trained longer are flatter for that reason alone. Bands are the specification's; the exponent has 0.05 on both sides of [1, 2].
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import nets

from . import Check
from ._follow_ups import check, figure, save
from ._grid import BATCHES, RATES, WIDTHS, geometric_mean, grid, rank_correlation, samples
from ._grid import SHARED as SHARED

NAME = "yang-tang-tu-network"
GROUP = "yang-tang-tu"
CLAIM = (
    "Trained networks end flatter the larger lr/B, at equal time and at equal loss; C ~ H^gamma in each layer, gamma from 1 to 2."
)
STANDING = "derived"
EQUATION = "F = lambda_max^(-1/2), C ~ H^gamma, 1 <= gamma <= 2"


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """The grid, and the layers of the runs in its middle; figure yang-tang-tu-network.png."""
    cells, checks = grid(quick), []
    made, axes = figure(2)
    for name, values in (("at equal time", [c.end for c in cells]), ("at equal loss", [c.equal for c in cells])):
        flat = {id(c): v for c, v in zip(cells, values, strict=True)}
        for what, measure in (
            ("flatness 1/sqrt(largest eigenvalue)", lambda v: v[0] ** -0.5),
            ("1/(geometric mean of ten)", lambda v: 1 / geometric_mean(v)),
        ):
            rank, error, (low, high) = rank_correlation(cells, lambda c, m=measure, f=flat: m(f[id(c)]))
            source = f"95 % over seeds [{low:.2f}, {high:.2f}]"
            checks.append(check(f"{name}: rank correlation of {what} with lr/B", rank, 1.0, 0.8, 1.0, source, error))
        axes[0].loglog([c.noise for c in cells], [geometric_mean(v) for v in values], "o", ms=4, mfc="none", label=name)
    axes[0].set(xlabel="lr/B", ylabel="geometric mean of ten eigenvalues", title="sharpness")
    axes[0].legend(frameon=False)
    checks.append(
        check(
            "training error: largest of the smallest of each run", max(c.error for c in cells), 0.0, 0.0, 0.0, "all samples right"
        )
    )
    mlp, data = nets.MLP(WIDTHS), samples()
    middle = [c for c in cells if c.lr == RATES[1] and c.batch == BATCHES[1]]
    for block in ("W2", "W3"):
        found = [nets.noise_against_curvature(mlp, c.theta, data.x_train, data.y_train, block=block) for c in middle]
        gamma = [f.against_curvature().exponent for f in found]
        error = float(np.std(gamma, ddof=1)) / math.sqrt(len(gamma))
        checks.append(
            check(f"{block}: exponent of C over H, mean of {len(gamma)} seeds", np.mean(gamma), 1.1, 0.95, 2.05, "1 to 2", error)
        )
        axes[1].loglog(found[0].curvature, found[0].noise, "o", ms=3, mfc="none", label=f"{block}, {gamma[0]:.2f}")
    axes[1].set(xlabel="$H_{ii}$", ylabel="$C_{ii}$", title="noise on eigenvectors of H")
    axes[1].legend(frameon=False)
    save(made, out, NAME)
    return checks
