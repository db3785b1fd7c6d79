"""C against H in ensembles whose samples differ in curvature: exponents 2 and 1, and what decides between them.

Samples see quadratics of curvature h_p at shifted weights, g_p = h_p (w - w_p), w_p isotropic: C = s^2 E[h_p^2], H = E[h_p]. Dense:
all samples are curved in a direction up to a random factor, gamma = 2. Bernoulli: a fixed share of the samples is, the same in all
directions, gamma = 2. Sparse: a share proportional to the mean curvature, all with one curvature, gamma = 1. C and H are those of
the samples drawn, in a basis turned at random, C in the eigenbasis of H.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import Check
from ._follow_ups import GROUP, check, figure, save, slope

__all__ = ["CLAIM", "GROUP", "NAME", "STANDING", "run"]

NAME = "follow-ups-superlinear"
CLAIM = (
    "C is proportional to E[h^2], not to H: the exponent over H is 2 where samples share curvatures, 1 where few samples have them."
)
STANDING = "derived"
EQUATION = "g_p = h_p (w - w_p), C = s^2 E[h_p^2], H = E[h_p], C ~ H^gamma"

Array = NDArray[np.float64]

D = 30
#: Mean curvatures, two decades.
MEAN = np.geomspace(1.0, 0.01, D)


def sample_curvatures(kind: str, n: int, rng: np.random.Generator) -> Array:
    """h_p along the common eigenvectors, shape (n, D), of mean MEAN."""
    if kind == "dense":
        return MEAN * rng.lognormal(-0.125, 0.5, (n, D))
    share = 0.3 if kind == "bernoulli" else 0.3 * MEAN
    return np.where(rng.random((n, D)) < share, MEAN / share, 0.0)


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Three ensembles, one draw of each or the mean of five; bands 0.03 as specified. Figure follow-ups-superlinear.png.

    The sparse ensemble has 3e-3 n samples in its flattest direction: with n = 60 000 a scatter of 9 % there and 4 % in the middle,
    which is 0.006 in the slope of 30 directions over two decades.
    """
    checks: list[Check] = []
    made, axes = figure(2)
    for kind, gamma in (("dense", 2.0), ("bernoulli", 2.0), ("sparse", 1.0)):
        found = np.array([_draw(kind, seed, axes if seed == 6 else None) for seed in ([6] if quick else range(6, 11))])
        mean, apart = found.mean(axis=0), float(found[:, 2].max())
        error = found.std(axis=0, ddof=1) / math.sqrt(len(found)) if len(found) > 1 else np.zeros(3)
        source = "s^2 E[h^2]"
        checks += [
            check(f"{kind}: exponent of C over H", mean[0], gamma, gamma - 0.03, gamma + 0.03, source, error[0]),
            check(f"{kind}: exponent of C over E[h^2]", mean[1], 1.0, 0.97, 1.03, source, error[1]),
            check(f"{kind}: commutator / that with H turned at random, largest", apart, 0.0, 0.0, 0.2, "E[h^2] and E[h] commute"),
        ]
    axes[0].set(xlabel="$H_{ii}$", ylabel="$C_{ii}$", title="exponents over H")
    axes[1].set(xlabel="$E[h^2]_{ii}$", ylabel="$C_{ii}$", title="exponents over $E[h^2]$")
    for ax in axes:
        ax.legend(frameon=False)
    save(made, out, NAME)
    return checks


def _draw(kind: str, seed: int, axes: Any) -> tuple[float, float, float]:
    """Exponents of C over H and over E[h^2], and the commutator against that with H turned at random."""
    n, rng = 60_000, np.random.default_rng(seed)
    V = np.linalg.qr(rng.normal(size=(D, D)))[0]
    h = sample_curvatures(kind, n, rng)
    g = -(h * rng.standard_normal((n, D))) @ V.T
    g -= g.mean(axis=0)
    C, H, squares = g.T @ g / n, V * h.mean(axis=0) @ V.T, (h**2).mean(axis=0)
    values, vectors = np.linalg.eigh(H)
    noise = np.einsum("ij,ij->j", vectors, C @ vectors)
    S = np.einsum("ij,ij->j", vectors, (V * squares @ V.T) @ vectors)
    R = np.linalg.qr(rng.normal(size=(D, D)))[0]
    norm = np.linalg.norm(C) * np.linalg.norm(H)
    apart, turned = (np.linalg.norm(C @ K - K @ C) / norm for K in (H, R @ H @ R.T))
    if axes is not None:
        for ax, x in zip(axes, (values, S), strict=True):
            ax.loglog(x, noise, "o", ms=4, mfc="none", label=f"{kind}, {slope(x, noise):.2f}")
    return slope(values, noise), slope(S, noise), float(apart / turned)
