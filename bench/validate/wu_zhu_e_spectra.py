"""Hessians of good and bad minima: a bulk at zero in both, few large eigenvalues, a small negative part; the bad ones' are larger.

All networks of `wu-zhu-e-toy`: 161 weights, 80 samples, loss 2e-5. H = G + (H - G), G positive semidefinite of rank 80 at most,
and d = |H - G|_2 no larger than the bound of `nets.curvature_bound`, which goes with the root of the loss. So by Weyl's inequality
no eigenvalue is below -d, and half of them at least lie within d of zero: that is tested at every network. d is small against
the largest eigenvalue.

Bands, written down before the first run: the two inequalities up to 1e-12 of the largest eigenvalue (rounding); the negative
part below 1 % of the largest eigenvalue; at most a quarter of the eigenvalues above 1 % of the largest, in the median; the largest
eigenvalue of the attacked networks, geometric mean over that of the others, between 1 and e^3 (their traces: e in the
specification's table).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import nets

from . import Check
from ._follow_ups import check, figure, save
from ._wu_zhu_e import GROUP, SAMPLES, SHARED, SIZES, DataSet, network, toy

__all__ = ["CLAIM", "GROUP", "NAME", "SHARED", "STANDING", "run"]

NAME = "wu-zhu-e-spectra"
CLAIM = "Hessians of good and bad minima have a bulk at zero, few large eigenvalues and a small negative part; bad ones are larger."
STANDING = "stated by the paper"
EQUATION = "lambda_min(H) >= -|H - G|_2"

Array = NDArray[np.float64]


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """All eigenvalues of H at every network; figure wu-zhu-e-spectra.png."""
    sets = toy(quick, progress)
    spectra = [np.array([np.linalg.eigvalsh(nets.hessian(network(), w, *s.samples)) for w in s.table.theta]) for s in sets]
    _picture(sets, spectra, out)
    every = np.concatenate(spectra)
    apart = np.array([bound.difference for s in sets for bound in s.bounds])
    limits = np.array([bound.bound for s in sets for bound in s.bounds])
    least, largest = every[:, 0], every[:, -1]
    within = (np.abs(every) <= (apart + 1e-12 * largest)[:, None]).mean(axis=1)
    growth = np.array([s.contrast(np.log(values[:, -1])) for s, values in zip(sets, spectra, strict=True)])
    n, half = f"{len(every)} networks", 1.0 - SAMPLES / every.shape[1]
    return [
        check(f"(least eigenvalue + |H - G|) / largest, least of {n}", ((least + apart) / largest).min(), 0.0, -1e-12, 1.0,
              "Weyl: G >= 0"),
        check("|H - G| over its bound, largest", (apart / limits).max(), 1.0, 0.0, 1.0, "root of the loss"),
        check("-least eigenvalue over the largest, largest", (-least / largest).max(), 0.0, 0.0, 0.01, "small negative part"),
        check("share of eigenvalues within |H - G| of zero, least", within.min(), half, half, 1.0, "rank of G, Weyl"),
        check("eigenvalues above 1 % of the largest, median", np.median((every > 0.01 * largest[:, None]).sum(axis=1)), 20, 1, 40,
              "outliers"),
        check("ln of the largest eigenvalue, attacked - others", growth.mean(), 1.0, 0.0, 3.0, "tr H of the specification's table",
              float(growth.std(ddof=1)) / math.sqrt(len(growth))),
    ]  # fmt: skip


def _picture(sets: Sequence[DataSet], spectra: Sequence[Array], out: Path) -> None:
    """Eigenvalues in order for the networks of the first data set, and how many of all there are of which size."""
    made, (left, middle, right) = figure(3)
    for size, colour in ((SIZES[0], "C0"), (SIZES[-1], "C3")):
        label = f"{size} false labels"
        rows, number = spectra[0][sets[0].table.size == size][:, ::-1], np.arange(1, spectra[0].shape[1] + 1)
        for i, row in enumerate(rows):
            left.semilogy(number, np.where(row > 0.0, row, np.nan), color=colour, lw=1, label=None if i else label)
            left.semilogy(number, np.where(row < 0.0, -row, np.nan), color=colour, lw=0.6, ls=":")
        chosen = np.concatenate([values[s.table.size == size] for s, values in zip(sets, spectra, strict=True)])
        middle.hist(np.log10(np.abs(chosen).ravel() + 1e-16), bins=60, histtype="step", color=colour, label=label, density=True)
        right.hist(np.log10(np.maximum(-chosen[:, 0], 1e-16) / chosen[:, -1]), bins=15, histtype="step", color=colour, label=label)
    left.set(xlabel="number", ylabel="eigenvalue of H (dotted: -eigenvalue)", ylim=(1e-9, None))
    left.legend(frameon=False)
    middle.set(xlabel="lg |eigenvalue|", ylabel="density")
    right.set(xlabel="lg(-least / largest)", ylabel="networks")
    save(made, out, NAME)
