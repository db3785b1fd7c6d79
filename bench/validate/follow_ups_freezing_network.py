"""Freezing of networks: the loss falls below 0.1 later, in SDE time, the larger lr/B; and the end state is then flatter.

The runs of the grid of learning rate x batch size x seeds, 27 in quick and 45 in full, with matched initial weights. The
specification asks for the freezing *step* to rise with lr/B. At a fixed learning rate it does. Across learning rates a step is no
unit of time: with ten times the rate the loss falls ten times faster in steps. So the clock is rate x steps over the whole grid,
and steps at each rate; the latter is the mean of three rank correlations.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import Check
from ._follow_ups import GROUP, check, figure, save
from ._grid import RATES, geometric_mean, grid, rank_correlation
from ._grid import SHARED as SHARED

__all__ = ["CLAIM", "GROUP", "NAME", "SHARED", "STANDING", "run"]

NAME = "follow-ups-freezing-network"
CLAIM = "Networks with larger lr/B freeze later, in rate x steps and in steps at a given rate, and end in flatter states."
STANDING = "derived"


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Rank correlations with lr/B; figure follow-ups-freezing-network.png."""
    cells = grid(quick)
    made, (left, right) = figure(2)
    checks = []
    rank, error, (low, high) = rank_correlation(cells, lambda c: c.frozen * c.lr)
    name = f"rank correlation of freezing time (rate x steps) with lr/B, {len(cells)} runs"
    checks.append(check(name, rank, 1.0, 0.8, 1.0, f"95 % over seeds [{low:.2f}, {high:.2f}]", error))
    each = [rank_correlation([c for c in cells if c.lr == lr], lambda c: c.frozen) for lr in RATES]
    lows, highs = (min(e[2][0] for e in each), max(e[2][1] for e in each))
    source = f"95 % over seeds, of single rates [{lows:.2f}, {highs:.2f}]"
    error = float(np.sqrt(np.sum([e[1] ** 2 for e in each]))) / len(each)
    checks.append(
        check("the same of freezing step, mean over the rates", np.mean([e[0] for e in each]), 1.0, 0.8, 1.0, source, error)
    )
    rank, error, (low, high) = rank_correlation(cells, lambda c: geometric_mean(c.end))
    name = "rank correlation of final sharpness (ten eigenvalues) with lr/B"
    checks.append(check(name, rank, -1.0, -1.0, -0.8, f"95 % over seeds [{low:.2f}, {high:.2f}]", error))
    for lr in RATES:
        own = [c for c in cells if c.lr == lr]
        left.loglog([c.noise for c in own], [c.frozen * lr for c in own], "o", ms=4, mfc="none", label=f"lr {lr:g}")
        right.loglog([c.frozen * lr for c in own], [geometric_mean(c.end) for c in own], "o", ms=4, mfc="none", label=f"lr {lr:g}")
    left.set(xlabel="lr/B", ylabel="freezing time, rate x steps", title="first loss below 0.1")
    right.set(xlabel="freezing time, rate x steps", ylabel="geometric mean of ten eigenvalues", title="end state")
    left.legend(frameon=False)
    save(made, out, NAME)
    return checks
