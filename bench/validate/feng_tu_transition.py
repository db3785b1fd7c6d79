"""The transition from fast learning to exploration, located in three ways.

In exploration the training error is zero and the loss of separated data falls as a power of time, t^-1 for a linear classifier
and a little faster for deeper networks (Soudry et al. 2018, Lyu & Li 2020); just before, it falls fastest. So the steepest fall
on logarithmic axes and the first epoch with error zero must lie close to each other, and the exponent of the late fall between
-2.2 and -1 (reference run: -1.9 from epoch 40 to 60, -1.5 from 60 to 100). The loss of an epoch fluctuates, so slopes are taken
over a factor of 1.5 in time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import nets

from . import Check
from ._feng_tu import SEEDS, axes, check, panel, prepare, reference
from ._feng_tu import SHARED as SHARED

NAME = "feng-tu-transition"
GROUP = "feng-tu"
CLAIM = "Learning ends in a collapse of the loss where the training error becomes zero; then the loss falls slowly, as a power."
STANDING = "derived"
EQUATION = "L ~ t^-a, 1 <= a <= 2.2"

Array = NDArray[np.float64]


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Three seeds; figure feng-tu-transition-a.png."""
    runs = [m.losses for m in prepare([reference(quick, seed) for seed in SEEDS], progress)]
    zero, steepest, slope, late_fall = np.array([_located(losses) for losses in runs]).T
    epoch, loss, error = (runs[0][name] for name in ("epoch", "train_loss", "train_error"))
    ax = axes()
    ax.loglog(epoch[1:], loss[1:], "-", label="training loss")
    ax.loglog(epoch[1:], error[1:], "-", label="training error")
    ax.axvline(zero[0], color="0.5", ls="--", label="error zero from here on")
    ax.axvline(steepest[0], color="0.5", ls=":", label="steepest fall")
    ax.set(xlabel="epoch")
    ax.legend(frameon=False)
    panel(out, NAME, "a", ax, "fast learning and exploration")
    bands = [
        ("epoch of the steepest fall / first epoch with error zero", steepest / zero, 1.0, 0.5, 2.0),
        ("steepest slope - late slope of ln L over ln t", slope - late_fall, -3.0, -np.inf, -0.3),
        ("exponent of the late fall of the loss", late_fall, -1.5, -2.2, -1.0),
    ]
    return [
        check(f"{name} (mean of 3 seeds)", y.mean(), expected, low, high, "derived", y.std(ddof=1) / len(y) ** 0.5)
        for name, y, expected, low, high in bands
    ]


def _located(losses: dict[str, Array]) -> tuple[float, float, float, float]:
    """First epoch from which on the error is zero, epoch of the steepest fall, its slope, exponent of the late fall."""
    epoch, loss, error = losses["epoch"], losses["train_loss"], losses["train_error"]
    wrong = np.flatnonzero(error > 0)
    zero = float(epoch[min(int(wrong[-1]) + 1, len(epoch) - 1)])
    ends = np.flatnonzero((epoch >= 3) & (epoch * 1.5 <= epoch[-1]))
    slope = np.array([np.log(np.interp(1.5 * epoch[k], epoch, loss) / loss[k]) / np.log(1.5) for k in ends])
    late = epoch >= 1.3 * zero
    late_fall = nets.power_law(epoch[late], loss[late]).exponent if late.sum() > 3 else np.nan
    return zero, float(epoch[ends[slope.argmin()]] * 1.5**0.5), float(slope.min()), late_fall
