r"""Volumes of good and bad minima: Monte Carlo against the quadratic estimate of the same measure, and basins of attraction.

Nets 2-40-1 tanh learn the inside of the unit circle from 80 samples (MSE/2, loss 2e-5), without false labels (good) and after
40 of them (attacked). Around each, with displacements d Gaussian of standard deviation s,

    ln Z(beta) = ln E exp(-beta (L - L_0)),   ln V(level) = ln P(L <= level, connected),

by `nets.sublevel_volume`, Q being the same of the quadratic bowl. Then `nets.basin_return`, and a second net, 64-32-10 tanh on
60 digits (MSE/2, loss 1e-3, attacked: 60 false labels). Spearman's coefficients have errors: 400 draws of the Monte Carlo
values from Student's distribution about what was measured (returns: binomial draws).

Bands. They were written before this claim was first run, but not before all numbers: exploratory runs of 12 other nets (6 good,
6 attacked, 40 false labels) were known, and times, not values, of trial runs with other data.

* beta = 4000, s = 0.1. Known: Spearman 1.00, |MC - Q| up to 0.25 (40 sweeps) and 0.47 (20), mean +0.08 and +0.13; lowest good
  53 nats above the highest attacked. Bands: |MC - Q| <= 1 (twice the worst), mean in -0.3 .. 0.5; no pair more than 2 nats
  apart in Q the other way round (each net may be off by one); Spearman >= 0.95 of all, and, as neighbours closer than that may
  change places, two pairs of them among 4 nets (0.6) and among 6 (0.85). At most a quarter of the runs not settled (added after
  the first run, before it was looked at; false alarms are 2 % for each run). Gap >= 10: these attacks are driven less far than
  the known ones.
* level = 0.01, s = 0.1. Known: up to 0.5 and 0.72, Spearman 1.00. Bands: 1.5; Spearman 0.8 (4 nets, one pair of neighbours
  exchanged), 0.9 (6).
* beta = 400 instead of 4000. Not known. The same band of 1, as fewer modes count. The order may change within the groups, not
  between them: then Spearman of the two orders is 0.76 -+ 0.2, band >= 0.5; so also against the accuracy (known: 0.70).
* Widths, beta = 400. Known at beta = 4000: mean 0.13 at s = 0.1, 0.7 at 0.2. Curvatures turn by O(s^2) along the flat
  directions: MC - Q ~ s^2, exponent in 1 .. 3 from 0.2 to 0.5 (in full: in a quick run, in which it was first, its error is 1),
  one nat at s in 0.15 .. 0.5, mean at 0.5 in 1 .. 15 (4 by that law, a factor of 4 for the next orders), at s = 1 (full runs)
  in 2 .. 60. At the widest s good and attacked differ by less than a quarter from Q.
* Returns, level 0.01, r = 8. Known: good 0.9 - 1, attacked 0.3 - 0.8, at r = 4 1 and 0.8 - 1. Bands: good >= 0.8, attacked in
  0.1 .. 0.95, good - attacked >= 0 (12 pushes in each group: false alarm 0.5 %), 0.1 in full. Radius of one half: known only
  that the attacked ones have theirs near 8; at level 0.05 in 5 .. 16; good >= 8. More must come back at 0.05 than at 0.01, as
  the connected part of a lower level lies in that of a higher one; ways may be missed, so the difference is >= -0.1. Spearman
  with Q and with accuracy >= 0.4 (groups apart, no order within: 0.76 -+ 0.2). At most a tenth of the pushes depend on the
  tolerance.
* Digits, beta = 1000 (beta L_0 = 1), s = 0.03. Not known. s |x| is that of the toy, ten times as many modes may count: |MC - Q|
  <= 3. Good - attacked above 0, and within 30 % of Q's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nets

from . import Check
from ._follow_ups import check, figure, save

__all__ = ["CLAIM", "GROUP", "NAME", "STANDING", "run"]

NAME = "wu-zhu-e-volume"
GROUP = "wu-zhu-e"
CLAIM = "Good minima have larger basins: Monte Carlo orders the volumes of minima as the quadratic estimate does, near the minimum."
STANDING = "derived"
EQUATION = """
ln Z(beta) = ln E e^(-beta (L - L_0))
ln V(ell) = ln P(L <= ell, "connected")
"""

Array = NDArray[np.float64]

TOY = nets.MLP((2, 40, 1), activation="tanh", loss="mse")
LOSS, FALSE = 2e-5, 40
WIDTH, BETA, SOFT_BETA, LEVEL, HIGH = 0.1, 4000.0, 400.0, 0.01, 0.05
DIGITS = nets.MLP((64, 32, 10), activation="tanh", loss="mse")
DRAWS = 400


@dataclass(frozen=True)
class Nets:
    """Minima of one loss, the good ones first; test accuracies."""

    mlp: nets.MLP
    data: nets.Data
    theta: Array
    accuracy: Array

    def few(self, n: int) -> Nets:
        """The first n good and the first n attacked ones."""
        half = len(self.theta) // 2
        rows = np.r_[:n, half : half + n]
        return Nets(self.mlp, self.data, self.theta[rows], self.accuracy[rows])

    def volume(self, i: int, **settings: Any) -> nets.Volume:
        return nets.sublevel_volume(self.mlp, self.theta[i], self.data.x_train, self.data.y_train, seed=i, **settings)

    def volumes(self, **settings: Any) -> Measured:
        every = [self.volume(i, **settings) for i in range(len(self.theta))]
        return Measured(
            *(np.array([getattr(v, name)[-1] for v in every]) for name in ("values", "errors", "model")),
            len(every[0].replica_values),
            float(np.mean([not v.settled for v in every])),
        )


@dataclass(frozen=True)
class Measured:
    """Monte Carlo values, their errors, the quadratic values of the same nets; replicas behind the errors; share not settled."""

    value: Array
    error: Array
    quadratic: Array
    replicas: int
    unsettled: float = 0.0

    @property
    def apart(self) -> Array:
        return self.value - self.quadratic

    def part(self, rows: slice) -> Measured:
        return Measured(self.value[rows], self.error[rows], self.quadratic[rows], self.replicas)

    def draws(self) -> Array:
        """Values as they may have been, (draws, nets)."""
        t = np.random.default_rng(1).standard_t(self.replicas - 1, (DRAWS, len(self.value)))
        return np.asarray(self.value + self.error * t)

    def worst(self, name: str, most: float, source: str = "quadratic value") -> Check:
        i = int(np.abs(self.apart).argmax())
        return check(
            f"{name}: largest |MC - Q| of {len(self.value)}, nats", abs(self.apart[i]), 0.0, 0.0, most, source, self.error[i]
        )

    def order(self, name: str, least: float, other: Array | None = None) -> Check:
        return ranked(name, self.value, self.draws(), self.quadratic if other is None else other, least)

    @property
    def gap(self) -> tuple[float, float]:
        """Mean of the good half minus mean of the attacked half, and its error."""
        half = len(self.value) // 2
        return (
            float(self.value[:half].mean() - self.value[half:].mean()),
            float(np.sqrt(np.square(self.error).sum()) / half),
        )


def ranked(name: str, values: Array, draws: Array, other: Array, least: float) -> Check:
    """Spearman's coefficient with the spread that the errors of one side give it."""
    from scipy.stats import spearmanr

    spread = np.array([spearmanr(row, other).statistic if np.ptp(row) > 0.0 else 0.0 for row in draws])
    low, high = np.quantile(spread, [0.025, 0.975])
    found = spearmanr(values, other).statistic if np.ptp(values) > 0.0 else 0.0
    return check(f"Spearman, {name}", found, 1.0, least, 1.0, f"95 % of the draws {low:.2f} .. {high:.2f}", float(spread.std()))


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """All parts; figure wu-zhu-e-volume.png: Monte Carlo against quadratic, what is anharmonic against width, returns."""
    made, axes = figure(3)
    toys = minima(TOY, nets.load_data("disc", n=10_000, seed=0).subset(80), FALSE, 4 if quick else 6, LOSS, progress)
    boltzmann = toys.volumes(beta=BETA, width=WIDTH, sweeps=60 if quick else 120)
    checks = [
        *_boltzmann(toys, boltzmann, axes[0], quick),
        *_levels(toys.few(2 if quick else 3), quick),
        *_widths(toys.few(1 if quick else 2), axes[1], quick),
        *_returns(toys.few(2 if quick else 3), boltzmann, axes[2], quick),
        *_digits(axes[0], quick, progress),
    ]
    axes[0].legend(frameon=False, fontsize="small")
    save(made, out, NAME)
    return checks


def minima(mlp: nets.MLP, data: nets.Data, false: int, n: int, loss: float, progress: bool) -> Nets:
    """n good ones and n attacked ones, from the same n initial weights."""
    table = nets.attack(mlp, data, [0, false], seeds=range(n), loss=loss, progress=progress)
    return Nets(mlp, data, table.theta, table.accuracy)


# ---- volumes ------------------------------------------------------------------------------------------------------------


def _boltzmann(toys: Nets, hard: Measured, ax: Any, quick: bool) -> list[Check]:
    """ln Z at s = 0.1: every net, the orders, and what another beta does to them."""
    half, name = len(hard.value) // 2, f"ln Z, beta = {BETA:g}, s = {WIDTH}"
    soft = toys.volumes(beta=SOFT_BETA, width=WIDTH, sweeps=20 if quick else 60)
    gaps = hard.quadratic[:, None] - hard.quadratic
    wrong = np.count_nonzero((gaps > 2.0) & (hard.value[:, None] < hard.value)) + 0.0
    few = 0.6 if half == 4 else 0.85
    error = float(np.sqrt(np.square(hard.error).sum()) / len(hard.error))
    gap = hard.value[:half].min() - hard.value[half:].max()
    for rows, mark, label in ((slice(half), "o", "good"), (slice(half, None), "s", "attacked")):
        part = hard.part(rows)
        ax.errorbar(part.quadratic, part.value, 2.0 * part.error, marker=mark, ls="", ms=4, mfc="none", label=label)
    ax.axline((hard.quadratic[0], hard.quadratic[0]), slope=1.0, color="0.7", lw=0.8, zorder=0)
    ax.set(xlabel="ln Z of the quadratic bowl", ylabel="ln Z by Monte Carlo")
    return [
        hard.worst(name, 1.0),
        check(f"{name}: mean MC - Q, nats", hard.apart.mean(), 0.0, -0.3, 0.5, "anharmonicity at small s", error),
        check(f"{name}: runs that have not settled, share", hard.unsettled, 0.0, 0.0, 0.25, "halves and replicas agree"),
        check(f"{name}: pairs over 2 nats apart the other way round", wrong, 0.0, 0.0, 0.0, "quadratic value"),
        hard.order(f"{name}: MC and Q", 0.95),
        hard.part(slice(half)).order(f"{half} good: MC and Q", few),
        hard.part(slice(half, None)).order(f"{half} attacked: MC and Q", few),
        hard.order(f"{name}: MC and test accuracy", 0.5, toys.accuracy),
        check(
            f"{name}: lowest good - highest attacked, nats", gap, np.nan, 10.0, np.inf, "53 in exploratory runs", hard.error.max()
        ),
        soft.worst(f"ln Z, beta = {SOFT_BETA:g}, s = {WIDTH}", 1.0),
        soft.order(f"MC at beta = {SOFT_BETA:g} and at {BETA:g}", 0.5, hard.value),
    ]


def _levels(toys: Nets, quick: bool) -> list[Check]:
    """ln V below a level; full runs: below two."""
    checks, found = [], {}
    for level in (LEVEL,) if quick else (LEVEL, HIGH):
        found[level] = toys.volumes(level=level, width=WIDTH, sweeps=24 if quick else 40)
        name = f"ln V, level = {level:g}, s = {WIDTH}"
        checks += [found[level].worst(name, 1.5), found[level].order(f"{name}: MC and Q", 0.8 if quick else 0.9)]
    if HIGH in found:
        checks.append(found[HIGH].order(f"MC at level = {HIGH:g} and at {LEVEL:g}", 0.5, found[LEVEL].value))
    return checks


def _widths(toys: Nets, ax: Any, quick: bool) -> list[Check]:
    """The anharmonic part along the ladder of widths of one run, between its rungs by interpolation in ln s."""
    half, name = len(toys.theta) // 2, f"beta = {SOFT_BETA:g}"
    places = np.array([0.1, 0.2, 0.5] if quick else [0.1, 0.2, 0.5, 1.0])
    sizes = {"sweeps": 10, "replicas": 6} if quick else {"sweeps": 16, "replicas": 8}
    fine = np.geomspace(0.05, places[-1], 400)
    at, curve, error, last = [], [], [], []
    for i in range(2 * half):
        v = toys.volume(i, beta=SOFT_BETA, width=float(places[-1]), **sizes)
        log, apart = np.log(v.widths), v.values - v.model
        at.append(np.interp(np.log(places), log, apart))
        error.append(np.interp(np.log(places), log, v.errors))
        curve.append(np.interp(np.log(fine), log, apart))
        ax.errorbar(v.widths, apart, 2.0 * v.errors, color="C0" if i < half else "C1", lw=0.8, ms=2, marker="o")
        last.append((v.values[-1], v.model[-1]))
    mean, spread = np.mean(at, axis=0), np.sqrt(np.square(error).sum(axis=0)) / len(at)
    over = np.flatnonzero(np.mean(curve, axis=0) > 1.0)
    begins = float(fine[over[0]]) if len(over) else np.inf
    power = np.log(max(mean[2], 1e-3) / max(mean[1], 1e-3)) / np.log(places[2] / places[1])
    gaps = np.mean(last[:half], axis=0) - np.mean(last[half:], axis=0)
    ax.axhline(1.0, color="0.7", lw=0.8, zorder=0)
    ax.set(xscale="log", xlabel="width s", ylabel="ln Z - quadratic, nats")
    checks = [
        check(f"{name}, s = 0.1: mean MC - Q, nats", mean[0], 0.0, -1.0, 1.0, "quadratic value", spread[0]),
        check(f"{name}, s = 0.5: mean MC - Q, nats", mean[2], 4.0, 1.0, 15.0, "s^2 from runs at s = 0.2", spread[2]),
        check(f"{name}: s where the mean MC - Q passes 1 nat", begins, 0.25, 0.15, 0.5, "s^2 from runs at s = 0.2"),
    ]
    if len(places) == 4:
        error = spread[1] / max(mean[1], 1e-3) / np.log(2.5)
        checks += [
            check(f"{name}: exponent of s, 0.2 to 0.5", power, 2.0, 1.0, 3.0, "curvatures turn by O(s^2)", error),
            check(f"{name}, s = 1: mean MC - Q, nats", mean[3], 16.0, 2.0, 60.0, "s^2, and what is next", spread[3]),
        ]
    label = f"{name}, s = {places[-1]:g}: good - attacked, MC / Q"
    return [*checks, check(label, gaps[0] / gaps[1], 1.0, 0.75, 1.25, "quadratic value", spread[-1] * 2.0 / abs(gaps[1]))]


# ---- returns ------------------------------------------------------------------------------------------------------------


def _returns(toys: Nets, boltzmann: Measured, ax: Any, quick: bool) -> list[Check]:
    """Return probabilities of pushes; radii at the higher level, where flows are shorter, and r = 8 at the lower one."""
    half, n = len(toys.theta) // 2, 6 if quick else 10
    radii = [4.0, 8.0, 11.0] if quick else [4.0, 6.0, 8.0, 11.0, 15.0]
    settings = {"n": n, "seed": 0, "max_evaluations": 4000}
    x, y = toys.data.x_train, toys.data.y_train
    scan = [nets.basin_return(TOY, w, x, y, radii=radii, level=HIGH, **settings) for w in toys.theta]
    low = [nets.basin_return(TOY, w, x, y, radii=[8.0], level=LEVEL, **settings) for w in toys.theta]
    deep, high = np.array([r.probability[0] for r in low]), np.array([r.probability for r in scan])
    good, bad = deep[:half].mean(), deep[half:].mean()
    spread = float(np.sqrt((good * (1.0 - good) + bad * (1.0 - bad)) / (half * n)))
    radius = [_half(np.array(radii), high[rows].mean(axis=0)) for rows in (slice(half), slice(half, None))]
    for rows, label in ((slice(half), "good"), (slice(half, None), "attacked")):
        _pooled(scan[rows]).plot(ax=ax, label=label)
    ax.legend(frameon=False, fontsize="small", title=f"level {HIGH:g}")
    mean, rng = high.mean(axis=1), np.random.default_rng(2)
    draws = rng.binomial(n, high, (DRAWS, *high.shape)).mean(axis=2) / n
    chosen = np.r_[:half, len(boltzmann.value) // 2 : len(boltzmann.value) // 2 + half]
    unsure = sum(int(r.changed.sum()) for r in scan + low) / (len(scan) * n * (len(radii) + 1))
    name, more = f"returned, level = {LEVEL:g}, r = 8", 0.0 if quick else 0.1
    rise = high[:, radii.index(8.0)].mean() - deep.mean()
    return [
        check(f"{name}: good", good, 1.0, 0.8, 1.0, _wilson(low[:half]), spread),
        check(f"{name}: attacked", bad, 0.6, 0.1, 0.95, _wilson(low[half:]), spread),
        check(f"{name}: good - attacked", good - bad, 0.4, more, 1.0, "exploratory runs", spread),
        check(f"returned, r = 8: level {HIGH:g} - level {LEVEL:g}", rise, np.nan, -0.1, 1.0, "parts of levels are nested", spread),
        check(f"radius of one half, level = {HIGH:g}: good", radius[0], np.nan, 8.0, np.inf, _reach(radius[0], radii)),
        check(f"radius of one half, level = {HIGH:g}: attacked", radius[1], 9.0, 5.0, 16.0, _reach(radius[1], radii)),
        ranked("returned and Q", mean, draws, boltzmann.quadratic[chosen], 0.4),
        ranked("returned and test accuracy", mean, draws, toys.accuracy, 0.4),
        check("pushes whose return depends on the tolerance, share", unsure, 0.0, 0.0, 0.1, "halved tolerance"),
    ]


def _pooled(runs: list[nets.BasinReturn]) -> nets.BasinReturn:
    """Pushes of several nets as those of one: for intervals of a group."""
    from dataclasses import replace

    return replace(runs[0], **{name: np.hstack([getattr(r, name) for r in runs]) for name in ("outcome", "end_loss", "distance")})


def _wilson(runs: list[nets.BasinReturn]) -> str:
    low, high = _pooled(runs).interval[0]
    return f"Wilson 95 % {low:.2f} .. {high:.2f}"


def _half(radii: Array, probability: Array) -> float:
    """Where the probability first goes below one half, between radii by interpolation; inf if nowhere."""
    below = np.flatnonzero(probability < 0.5)
    if not len(below):
        return float("inf")
    i = int(below[0])
    r, p = (np.r_[0.0, radii], np.r_[1.0, probability])
    return float(np.interp(0.5, [p[i + 1], p[i]], [r[i + 1], r[i]]))


def _reach(radius: float, radii: list[float]) -> str:
    return "interpolated" if np.isfinite(radius) else f"beyond {radii[-1]:g}, the last radius"


# ---- digits -------------------------------------------------------------------------------------------------------------


def _digits(ax: Any, quick: bool, progress: bool) -> list[Check]:
    """The same with 2410 weights."""
    data = nets.load_data("digits").subset(60)
    found = minima(DIGITS, data, 60, 1 if quick else 2, 1e-3, progress)
    sizes = {"sweeps": 8, "replicas": 4} if quick else {"sweeps": 30, "replicas": 8}
    v = found.volumes(beta=1000.0, width=0.03, **sizes)
    name, half = "64-32-10, digits", len(v.value) // 2
    gap, error = v.gap
    expected = float(v.quadratic[:half].mean() - v.quadratic[half:].mean())
    ax.errorbar(v.quadratic, v.value, 2.0 * v.error, marker="^", ls="", ms=4, mfc="none", label="digits")
    checks = [
        v.worst(name, 3.0),
        check(f"{name}: good - attacked, nats", gap, expected, 0.0, np.inf, "quadratic value", error),
        check(f"{name}: good - attacked, MC / Q", gap / expected, 1.0, 0.7, 1.3, "quadratic value", error / abs(expected)),
    ]
    if half > 1:
        checks.append(v.order(f"{name}: MC and Q", 0.8))
    return checks
