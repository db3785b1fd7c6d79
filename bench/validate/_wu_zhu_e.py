"""What the claims on good and bad minima share: networks that have learnt a disc, with and without false labels before.

2-40-1 tanh, inputs uniform on [-1.6, 1.6]^2, labels +-1 inside and outside the unit circle, 80 samples, 4000 to test. L-BFGS
learns 80 clean and 0, 20, 40 or 60 wrongly labelled samples (to ten times the loss below, or 5000 passes), then the clean ones
alone until their loss, half the mean square, is 2e-5: the same for all networks. What is compared is compared within one data
set, and data sets are averaged over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nets

Array = NDArray[np.float64]

GROUP = "wu-zhu-e"
#: The networks are trained once in a process.
SHARED = "wu-zhu-e-toy"

SAMPLES, LEVEL, SIZES = 80, 2e-5, (0, 20, 40, 60)
#: Through the clean samples, after which a run is lost that has not reached the loss; the others take a few thousand.
PASSES = 30_000
#: The first data set; the trial runs had 0 .. 3.
FIRST = 100

#: What ten networks of each size gave on four other data sets, before these claims were written.
TRIAL = {
    "volume": (-0.94, -0.83, -0.83, -0.93),
    "gradient": (-0.89, -0.78, -0.74, -0.88),
    "trace": (-0.80, -0.55, -0.73, -0.71),
    "gap": (0.057, 0.038, 0.071, 0.100),
}
TRIAL_NETS = 40


def network() -> nets.MLP:
    return nets.MLP((2, 40, 1), activation="tanh", loss="mse")


def disc(seed: int) -> nets.Data:
    """80 training samples, 4000 to test, the others to spare for false labels."""
    return nets.load_data("disc", n=20_000, seed=seed).subset(SAMPLES)


@dataclass(frozen=True, eq=False)
class DataSet:
    """One data set, the networks that have learnt it, and what they are like; arrays have one row for each network."""

    data: nets.Data
    table: nets.Attack

    @property
    def samples(self) -> tuple[Array, NDArray[np.int64]]:
        return self.data.x_train, self.data.y_train

    @property
    def clean(self) -> NDArray[np.bool_]:
        """Which were never attacked."""
        return self.table.size == 0

    @cached_property
    def sums(self) -> Array:
        """Sums of ln lambda over the k = 1 .. 80 leading eigenvalues of G, (networks, 80)."""
        every = np.arange(1, SAMPLES + 1)
        return np.array([nets.quadratic_volume(network(), w, *self.samples, k=SAMPLES).at(every) for w in self.table.theta])

    @cached_property
    def traces(self) -> Array:
        """tr H."""
        return np.array([nets.trace(network(), w, *self.samples).value for w in self.table.theta])

    @cached_property
    def gradients(self) -> Array:
        """Mean |grad_x f|^2 over the test samples."""
        return np.array([nets.input_gradient(network(), w, self.data.x_test).value for w in self.table.theta])

    @cached_property
    def bounds(self) -> list[nets.CurvatureBound]:
        """|H - G| and its bound."""
        return [nets.curvature_bound(network(), w, *self.samples) for w in self.table.theta]

    def contrast(self, values: Array) -> float:
        """Mean of the attacked networks minus that of the others."""
        return float(values[~self.clean].mean() - values[self.clean].mean())


@cache
def toy(quick: bool, progress: bool) -> list[DataSet]:
    """Three data sets with two networks of each size, in full six with ten."""
    sets, seeds = (3, 2) if quick else (6, 10)
    found = []
    for seed in range(FIRST, FIRST + sets):
        data = disc(seed)
        options: dict[str, Any] = {"loss": LEVEL, "max_evaluations": PASSES, "strict": False, "progress": progress}
        found.append(DataSet(data, nets.attack(network(), data, SIZES, seeds=range(seeds), **options)))
    return found


def correlations(sets: Sequence[DataSet], values: Callable[[DataSet], Array]) -> Array:
    """Of test accuracy with `values`, within each data set."""
    return np.array([np.corrcoef(s.table.accuracy, values(s))[0, 1] for s in sets])


def average(r: Array) -> tuple[float, float]:
    """Mean correlation by Fisher's z = artanh r, and its standard error from the scatter of the data sets."""
    z = np.arctanh(r)
    mean = math.tanh(float(z.mean()))
    return mean, (1.0 - mean**2) * float(z.std(ddof=1)) / math.sqrt(len(z))


def error_of_z(trial: Sequence[float], sets: int, size: int) -> float:
    """Standard error of a mean z to be expected: 1/(n - 3) of the n networks, and what data sets differ by in the trial."""
    between = max(float(np.var(np.arctanh(trial), ddof=1)) - 1.0 / (TRIAL_NETS - 3), 0.0)
    return math.sqrt((between + 1.0 / (size - 3)) / sets)
