"""SGD near a minimum without detailed balance: A = (D + Q) S^-1, the energy phi of Boltzmann's law, and entropy production.

Random stable matrices in five dimensions; SGD with H and C that commute and that do not; in the plane the Fokker-Planck engine,
which knows nothing of the formulas. Of dX = -A X dt + noise, S solves A S + S A^T = 2 D.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps

from . import Check
from ._follow_ups import GROUP, check, figure, save

__all__ = ["CLAIM", "GROUP", "NAME", "STANDING", "run"]

NAME = "follow-ups-decomposition"
CLAIM = "Drift = (D + Q) S^-1 with Q antisymmetric; Q = 0 only where H and C commute; Boltzmann's law holds in phi = x S^-1 x/2."
STANDING = "derived"
EQUATION = """
A = (D + Q) S^-1, Q = -Q^T, A S + S A^T = 2 D
p ~ e^(-phi), phi = x^T S^-1 x/2
"""

Array = NDArray[np.float64]

A = np.array([[1.0, 0.8], [-0.6, 0.7]])
D = np.array([[0.3, 0.1], [0.1, 0.2]])


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Algebra to 1e-10, the engine within twice the whole change from half as many cells; figure follow-ups-decomposition.png."""
    return [*_algebra(20 if quick else 200), *_engine(out)]


def _algebra(count: int) -> list[Check]:
    rng, worst = np.random.default_rng(1), np.zeros(5)
    for _ in range(count):
        B, P, W = rng.normal(size=(3, 5, 5))
        drift, noise = P @ P.T + 0.1 * np.eye(5) + W - W.T, B @ B.T + 0.1 * np.eye(5)  # stable: its symmetric part is positive
        S, Q = fps.theory.ou_covariance(drift, noise), fps.theory.rotation(drift, noise)
        values, vectors = np.linalg.eigh(S)
        product = values * np.einsum("ji,jk,ki->i", vectors, np.linalg.inv(S), vectors)
        sigma = fps.theory.entropy_production(drift, noise)
        V, h, c = np.linalg.qr(B)[0], rng.uniform(0.1, 2.0, 5), rng.uniform(0.1, 2.0, 5)
        commuting = fps.theory.rotation(V * h @ V.T, V * c @ V.T)
        found = (
            np.abs(drift @ S - noise + (drift @ S - noise).T).max(),
            np.abs((noise + Q) @ np.linalg.inv(S) - drift).max(),
            np.abs(product - 1.0).max(),
            sigma.discretization_error / sigma.value,
            np.abs(commuting).max(),
        )
        worst = np.maximum(worst, found)
    names = (
        "|Q + Q^T|",
        "|A - (D + Q) S^-1|",
        "|variance x curvature of phi - 1|",
        "entropy production: two closed forms, relative",
    )
    made = [check(f"largest {name}, {count} cases", w, 0.0, 0.0, 1e-10, "algebra") for name, w in zip(names, worst, strict=False)]
    return [*made, check("H C = C H: largest |Q|", worst[4], 0.0, 0.0, 1e-12, "algebra")]


def _engine(out: Path) -> list[Check]:
    """SGD with H and C that do not commute has the entropy production of the engine; with C = H none."""
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(D))
    exact, checks = fps.theory.entropy_production(A, D).value, []
    found = {}
    for scheme, sizes in (("monotone", (64, 128)), ("high-order", (48, 64))):
        for cells in sizes:
            fp = fps.FokkerPlanck(process, fps.Grid((-5, 5, cells), (-5, 5, cells)), scheme=scheme)
            found[scheme, cells] = fp.entropy_production().value
        coarse, fine = (found[scheme, cells] for cells in sizes)
        limit = 2.0 * abs(fine - coarse)  # second order, or more: what is left is less than the last change
        checks.append(
            check(
                f"entropy production, {scheme}, {sizes[1]}^2 cells",
                fine,
                exact,
                exact - limit,
                exact + limit,
                "tr(D^-1 Q S^-1 Q^T)",
            )
        )
    checks.append(check("high-order: relative error", abs(fine / exact - 1.0), 0.0, 0.0, 1e-5, "tr(D^-1 Q S^-1 Q^T)"))
    lr, batch = 0.1, 10
    H, C = np.array([[2.0, 0.0], [0.0, 0.5]]), np.array([[1.0, 0.8], [0.8, 1.5]])
    turning = fps.theory.entropy_production(H, lr / (2 * batch) * C).value
    balanced = fps.theory.entropy_production(H, lr / (2 * batch) * H).value
    # the rate has no lr in it: D scales S and Q alike
    checks.append(
        check(
            "SGD, H C != C H: entropy production at lr / at 10 lr",
            turning / fps.theory.entropy_production(H, C).value,
            1.0,
            1 - 1e-10,
            1 + 1e-10,
            "algebra",
        )
    )
    # in the plane Q = q J with q = C_12 (a - b)/(a + b) and J S^-1 J^T = S/det S, for H = diag(a, b)
    a, b = np.diag(H)
    S = np.array([[C[0, 0] / a, 2 * C[0, 1] / (a + b)], [2 * C[0, 1] / (a + b), C[1, 1] / b]])
    other = (C[1, 1] * S[0, 0] + C[0, 0] * S[1, 1] - 2 * C[0, 1] * S[0, 1]) / np.linalg.det(C) / np.linalg.det(S)
    other *= (C[0, 1] * (a - b) / (a + b)) ** 2
    name = "SGD, H C != C H: entropy production"
    checks.append(check(name, turning, other, other - 1e-10, other + 1e-10, "closed form in the plane"))
    checks.append(check("SGD, C = H: entropy production", balanced, 0.0, 0.0, 1e-12, "detailed balance"))
    _figure(process, out)
    return checks


def _figure(process: fps.Process, out: Path) -> None:
    made, (left, right) = figure(2)
    fp = fps.FokkerPlanck(process, fps.Grid((-2, 2, 40), (-2, 2, 40)))
    S, Q = fps.theory.ou_covariance(A, D), fps.theory.rotation(A, D)
    x, y = np.meshgrid(*fp.grid.centers, indexing="ij")
    points = fp.grid.points()
    phi = 0.5 * np.einsum("ni,ij,nj->n", points, np.linalg.inv(S), points).reshape(x.shape)
    exact = (-(points @ np.linalg.inv(S)) @ Q.T * np.exp(-phi.ravel())[:, None]).reshape(*x.shape, 2)
    current = fp.current().values
    for ax, field, title in ((left, current, "current of the Fokker-Planck engine"), (right, exact, "-Q S^-1 x exp(-phi)")):
        ax.contour(x, y, phi, levels=8, linewidths=0.7, colors="0.6")
        ax.quiver(x[::3, ::3], y[::3, ::3], field[::3, ::3, 0], field[::3, ::3, 1])
        ax.set(xlabel="x", ylabel="y", title=title, aspect="equal")
    save(made, out, NAME)
