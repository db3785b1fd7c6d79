"""Minima of one loss on the disc: the worse they generalise, the smaller are their basins and the more complicated their functions.

The networks: `_wu_zhu_e`. Three data sets with 2 networks of each of 4 sizes of attack, in full six with 10. All bands were written
down before the first run of these data sets, with what is in TRIAL there known from four others. The first quick run had
3 networks of each size. A first full run, of ten data sets, ended at a run of L-BFGS that got stuck at a loss of 2e-4: such
runs are now left out, at most one in fifty of them.

Correlations of test accuracy over the n networks of a data set, averaged over D sets by Fisher's z. The specification's bands,
-0.7 for sum ln lambda over the 80 leading eigenvalues of G and -0.8 for ln <|grad_x f|^2>, stand for the true correlation: z may
fall short of their artanh by 2.33 of its standard errors to be expected, sqrt((t^2 + 1/(n - 3))/D), t^2 the variance of z over the
data sets of the trial less the sampling error there. A true correlation at the end of the band fails in 1 % of such runs. For
ln tr H nothing is stated; the band is where the trial (mean -0.71) foresees it at 98 %, with Student's t of its four sets, and
below 0 (the last after a first quick run, whose band went to 0.14).

Gap: lowest accuracy of the networks never attacked minus highest of the attacked. The specification has 0.05 of one data set;
the trial found 0.04 to 0.10, so that a set misses it by chance. The mean over the sets may fall short by 2.33 of the errors to be
expected, 0.026/sqrt(D) (1 %); and the smallest gap must be above 0, which with the trial's mean and deviation fails by chance in
0.5 % of data sets.

Table: accuracies within 0.1 of those of the specification, contrasts of attacked and other networks between half and
twice its values: its initial weights are not known. The sum is dominated by the smallest eigenvalues kept, so more than half of its
contrast must come from beyond k = 40; its correlation is negative at every k.

A text file has the table itself. Figures: accuracy against volume, gradient and trace, and the correlation against k; decision
boundaries; a plane through three minima.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps
import nets

from . import Check
from ._follow_ups import check, figure, save
from ._wu_zhu_e import GROUP, LEVEL, SAMPLES, SHARED, SIZES, TRIAL, DataSet, average, correlations, error_of_z, network, toy

__all__ = ["CLAIM", "GROUP", "NAME", "SHARED", "STANDING", "run"]

NAME = "wu-zhu-e-toy"
CLAIM = "Of minima of equal loss on the disc, those reached after false labels generalise worse, vary more and have smaller basins."
STANDING = "recalled"
EQUATION = "ln V = const - {1/2} sum_(i<=k) ln lambda_i(G)"

Array = NDArray[np.float64]

#: Means of the specification's table, by size of the attack; contrasts of ln tr H, of the sum, and of ln <|grad_x f|^2>.
ACCURACIES = {0: 0.877, 20: 0.643, 40: 0.593, 60: 0.593}
CONTRASTS = {"ln tr H": 1.0, "sum of ln lambda": 180.0, "ln <|grad_x f|^2>": 2.7}
ONE_PERCENT = 2.33
STUDENT = 4.54  # 98 %, 3 degrees of freedom
KS = (1, 5, 10, 20, 40, 60, 80)


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Table, correlations, what depends on k; three figures and a text file."""
    sets = toy(quick, progress)
    checks = [*_table(sets), *_correlations(sets), *_gaps(sets), *_volumes(sets), _plane(sets[0], out)]
    (out / f"{NAME}.txt").write_text(_ranges(sets), encoding="utf-8")
    _picture(sets, out)
    _boundaries(sets[0], out)
    return checks


def _table(sets: Sequence[DataSet]) -> list[Check]:
    losses = np.concatenate([s.table.loss for s in sets])
    lost = sum(len(s.table.lost) for s in sets)
    poisoned = max(float(s.table.poisoned_loss[~s.clean].max()) for s in sets)
    checks = [
        check("all networks: |clean loss / 2e-5 - 1|", np.abs(losses / LEVEL - 1.0).max(), 0.0, 0.0, 1e-6, "find_minimum"),
        check("runs that do not reach the loss, share", lost / (lost + len(losses)), 0.0, 0.0, 0.02, "L-BFGS gets stuck"),
        # false labels not learnt at all cost 2 each of a mean of 80 + n: 0.4 to 0.86
        check("loss of clean and false labels after the attack, worst", poisoned, 10 * LEVEL, 0.0, 0.1, "they are learnt"),
    ]
    for size, expected in ACCURACIES.items():
        means = np.array([s.table.of_size(size).mean() for s in sets])
        name = f"test accuracy, {size} false labels, mean"
        checks.append(check(name, means.mean(), expected, expected - 0.1, expected + 0.1, "specification's table", _error(means)))
    for (name, expected), values in zip(CONTRASTS.items(), (_trace, _sum, _gradient), strict=True):
        each = np.array([s.contrast(values(s)) for s in sets])
        label = f"{name}, attacked - others"
        checks.append(check(label, each.mean(), expected, expected / 2, expected * 2, "specification's table", _error(each)))
    return checks


def _correlations(sets: Sequence[DataSet]) -> list[Check]:
    size, checks = min(len(s.table.size) for s in sets), []
    for key, name, values, stated in (
        ("volume", "sum of ln lambda", _sum, 0.7),
        ("gradient", "ln <|grad_x f|^2>", _gradient, 0.8),
    ):
        r, error = average(correlations(sets, values))
        high = -math.tanh(math.atanh(stated) - ONE_PERCENT * error_of_z(TRIAL[key], len(sets), size))
        source = f"-{stated} less 2.33 errors; trial {average(np.array(TRIAL[key]))[0]:.2f}"
        checks.append(check(f"correlation of accuracy and {name}", r, -stated, -1.0, high, source, error))
    r, error = average(correlations(sets, _trace))
    trial = np.arctanh(TRIAL["trace"])
    width = STUDENT * math.sqrt(float(np.var(trial, ddof=1)) / len(trial) + error_of_z(TRIAL["trace"], len(sets), size) ** 2)
    band = [math.tanh(float(trial.mean()) + sign * width) for sign in (-1.0, 1.0)]
    band[1] = min(band[1], 0.0)
    checks.append(check("correlation of accuracy and ln tr H", r, math.tanh(trial.mean()), *band, "trial, 98 %", error))
    return checks


def _gaps(sets: Sequence[DataSet]) -> list[Check]:
    gaps, low = np.array([s.table.gap for s in sets]), 0.05 - ONE_PERCENT * float(np.std(TRIAL["gap"], ddof=1)) / len(sets) ** 0.5
    source = "0.05 less 2.33 errors; trial 0.067"
    return [
        check("gap of accuracy, mean of the data sets", gaps.mean(), 0.05, low, 1.0, source, _error(gaps)),
        check("gap of accuracy, smallest", gaps.min(), 0.05, 0.0, 1.0, "all never attacked above all attacked"),
    ]


def _volumes(sets: Sequence[DataSet]) -> list[Check]:
    """What depends on k."""
    worst = max(_at(sets, k) for k in KS)
    share = np.array([1.0 - s.contrast(s.sums[:, SAMPLES // 2 - 1]) / s.contrast(s.sums[:, -1]) for s in sets])
    return [
        check("correlation of accuracy and the sum, weakest of k = 1 .. 80", worst, -0.7, -1.0, 0.0, "sign at every k"),
        check("share of the contrast from beyond k = 40", share.mean(), 0.65, 0.5, 1.0, "smallest eigenvalues", _error(share)),
    ]


def _at(sets: Sequence[DataSet], k: int) -> float:
    """Correlation of the accuracy with the sum over k eigenvalues."""
    return average(correlations(sets, lambda s: s.sums[:, k - 1]))[0]


def _plane(first: DataSet, out: Path) -> Check:
    """Loss on the plane through two minima never attacked and one that was."""
    mlp, table = network(), first.table
    good, bad = np.flatnonzero(first.clean), np.flatnonzero(table.size == SIZES[-1])
    here, there, attacked = (table.theta[i] for i in (good[0], good[1], bad[0]))
    land = nets.Landscape(mlp, here, *first.samples)
    directions = np.column_stack([there - here, attacked - here])
    corners = nets.loss_plane(land, directions, [0.0, 1.0], [0.0, 1.0])
    made, (ax,) = figure(1)
    nets.plotting.plot_plane(mlp, [here, there, attacked], *first.samples, points=65, levels=np.linspace(-2.0, 2.0, 17), ax=ax)
    ax.set(ylabel=f"to one attacked by {SIZES[-1]}", title="clean loss through three minima")
    save(made, out, f"{NAME}-plane")
    off = np.abs(np.array([corners[0, 0], corners[1, 0], corners[0, 1]]) / LEVEL - 1.0).max()
    return check("plane through three minima: |loss there / 2e-5 - 1|", off, 0.0, 0.0, 1e-6, "find_minimum")


def _ranges(sets: Sequence[DataSet]) -> str:
    """The specification's table: lowest and highest of all networks of a size."""
    rows = []
    for size in SIZES:
        every = [np.concatenate([of(s)[s.table.size == size] for s in sets]) for of in COLUMNS.values()]
        rows.append((str(size), str(len(every[0])), *(f"{v.min():.3g} .. {v.max():.3g}" for v in every)))
    return str(fps.Table("minima of one loss", ("false labels", "networks", *COLUMNS), rows)) + "\n"


def _sum(s: DataSet) -> Array:
    return s.sums[:, -1]


def _gradient(s: DataSet) -> Array:
    return np.log(s.gradients)


def _trace(s: DataSet) -> Array:
    return np.log(s.traces)


COLUMNS = {
    "test accuracy": lambda s: s.table.accuracy,
    "tr H": lambda s: s.traces,
    "sum of ln lambda": _sum,
    "<|grad_x f|^2>": lambda s: s.gradients,
}


def _error(values: Array) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _picture(sets: Sequence[DataSet], out: Path) -> None:
    made, axes = figure(4)
    labels = {r"$\sum_{i \leq 80} \ln \lambda_i$": _sum, r"$\ln \langle |\nabla_x f|^2 \rangle$": _gradient, "ln tr H": _trace}
    for ax, (label, values) in zip(axes, labels.items(), strict=False):
        for i, size in enumerate(SIZES):
            rows = [(s.table.accuracy[s.table.size == size], values(s)[s.table.size == size]) for s in sets]
            ax.plot(*np.concatenate(rows, axis=1)[::-1], "o", ms=3, color=f"C{i}", label=f"{size} false")
        ax.set(xlabel=label, ylabel="test accuracy")
    axes[0].legend(frameon=False)
    ks = np.arange(1, SAMPLES + 1)
    for s in sets:
        axes[3].plot(ks, [np.corrcoef(s.table.accuracy, s.sums[:, k - 1])[0, 1] for k in ks], color="0.7", lw=0.8)
    axes[3].plot(ks, [_at(sets, k) for k in ks], "k")
    axes[3].set(xlabel="k", ylabel="correlation of accuracy and the sum", ylim=(-1.0, 0.2))
    save(made, out, NAME)


def _boundaries(first: DataSet, out: Path) -> None:
    """Where the networks of one initial state say inside, with what they have learnt."""
    mlp, turn = network(), np.linspace(0.0, 2.0 * np.pi, 200)
    made, axes = figure(len(SIZES))
    for ax, size in zip(axes, SIZES, strict=True):
        row = int(np.flatnonzero(first.table.size == size)[0])
        data = nets.poison(first.data, size, seed=int(first.table.seed[row])) if size else first.data
        nets.plotting.plot_boundary(mlp, first.table.theta[row], data, ax=ax)
        ax.plot(np.cos(turn), np.sin(turn), "k:", lw=0.8)
        ax.set(title=f"{size} false labels before: accuracy {first.table.accuracy[row]:.2f}")
    save(made, out, f"{NAME}-boundaries")
