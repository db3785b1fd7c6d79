"""The exponent of the inverse relation for other batch sizes, learning rates and samplings; earlier windows; C against H.

Bands. Full runs: psi between 3.0 and 5.0 over i = 2-1000 (reference 3.9 to 4.2 at B = 50; other settings and windows of fewer
steps gave 3.4 to 4.8). Quick runs at B = 25 and 50: 3.0 to 4.6, from one seed each on another subset; at B = 100 and 200 the
windows have 400 and 200 records only, and short windows raise psi (4 to 6 for one or two epochs): 2.5 to 6. The early window,
epochs 5-14 of the quick and 11-20 of the full run, before the error is zero: psi of the leading components negative, as drift and
slow diffusion fill the flat directions first. C against H: slope 0.9 to 1.2 in the full run (reference 0.99 to 1.06); up to 1.4
where the error has just reached zero. Momentum 0.9: the memory of ten steps smooths the time courses of late components, so no
exponent near 4 can be asked for; psi is that of linear modes with the H and C of the window and the same momentum and shuffling,
within 0.6. Adam (whose first moments have the same memory): the claim of the abstract only, that the relation is inverse, psi
above 1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import fpsolve as fps
import nets

from . import Check
from ._feng_tu import (
    SEEDS,
    SOURCE,
    Setting,
    algorithms,
    axes,
    check,
    measured,
    modes_psi,
    panel,
    prepare,
    reference,
    settings,
    spectrum,
)

NAME = "feng-tu-table"
GROUP = "feng-tu"
CLAIM = "The inverse relation holds for every batch size and learning rate late in training; early windows have the opposite sign."
STANDING = "stated by the paper"


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """One seed of each setting; table feng-tu-table.txt, figures feng-tu-table-a.png and -b.png."""
    rows, checks, ax = [], [], axes()
    base = reference(quick)
    drawn, early = replace(base, sampling="replace"), replace(base, last_epoch=14 if quick else 20)
    chosen = [base, *settings(quick), drawn, *algorithms(quick)]
    prepare([*chosen, early], progress)
    for setting in chosen:
        m = measured(setting, progress)
        most = min(400 if quick else 1000, m.window.records // 2)
        fit = m.relation.psi(2, most)
        low, high = fit.interval
        loss = m.relation.flatness.loss
        rows.append((setting.name, f"{loss:.2e}", -fit.exponent, f"{-high:.2f} .. {-low:.2f}", f"2-{most}", fit.correlation))
        name = f"{setting.name}: psi over i = 2-{most}"
        if setting.momentum:
            values, vectors, Cv = spectrum(setting)
            predicted = modes_psi(values, np.einsum("ij,ij->j", vectors, Cv), setting, m.window, most)
            checks.append(check(name, -fit.exponent, predicted, predicted - 0.6, predicted + 0.6, "linear modes"))
        else:
            checks.append(check(name, -fit.exponent, 4.0, *_band(setting, quick), SOURCE))
        nets.plotting.plot_relation(m.relation, last=most, ax=ax, label=setting.name)
    panel(out, NAME, "a", ax, "variance against flatness")
    table = fps.Table("psi of each setting", ("setting", "loss", "psi", "95 % within the run", "i", "corr"), rows)
    (out / f"{NAME}.txt").write_text(str(table) + "\n", encoding="utf-8")
    relation = measured(early, progress).relation
    checks.append(check("early window: psi over i = 2-20", -relation.psi(2, 20).exponent, -3.5, -8.0, -0.5, "reference run"))
    spread = measured(drawn, progress).window.needed(0.9) / measured(base, progress).window.needed(0.9)
    checks.append(check("n for 90 % without PC1, with replacement over shuffled", spread, 0.43, 0.2, 0.9, "reference run"))
    return [*checks, *_noise(quick, progress, out)]


def _band(setting: Setting, quick: bool) -> tuple[float, float]:
    if setting.optimizer == "adam":
        return 1.0, np.inf
    if not quick:
        return 3.0, 5.0
    return (3.0, 4.6) if setting.batch <= 50 else (2.5, 6.0)


def _noise(quick: bool, progress: bool, out: Path) -> list[Check]:
    """C against H in the eigenbasis of H, at the mean weights of the window of the reference run; the mean over three seeds."""
    slopes, ranks, mixed = [], [], []
    chosen = [reference(quick, seed) for seed in SEEDS]
    prepare(chosen, progress)
    for setting in chosen:
        values, vectors, Cv = spectrum(setting)
        inside = vectors.T @ Cv  # C in the eigenbasis of H
        h, c = values[::-1][:300], np.diag(inside)[::-1][:300]
        fit = nets.power_law(h, c)
        slopes.append(fit.exponent)
        ranks.append(fit.rank)
        commutator = inside * (values - values[:, None])
        mixed.append(np.linalg.norm(commutator) / (np.linalg.norm(inside) * np.linalg.norm(values)))
    ax = nets.plotting.plot_power_law(h, c, label="$C$ over $H$")
    ax.set(xlabel=r"$H_{ii}$", ylabel=r"$C_{ii}$", title="")
    panel(out, NAME, "b", ax, "noise against curvature in the eigenbasis of H")
    high = 1.4 if quick else 1.2
    return [
        check("C over H in H's eigenbasis, i <= 300: exponent", np.mean(slopes), 1.0, 0.9, high, "C ~ H"),
        check("C over H in H's eigenbasis, i <= 300: rank correlation", min(ranks), 1.0, 0.95, 1.0, "C ~ H"),
        check("|CH - HC|/(|C| |H|)", max(mixed), 0.0, 0.0, 0.1, "C and H commute"),
    ]
