"""The valley and its ensemble of minibatch losses: linearised shifts, exact shifts, and the same noise measured from samples.

L^mu(w) = L(w) + xi . grad L(w), xi ~ N(0, sigma^2): the mean loss is L, the gradient covariance sigma^2 H^2 with its off-diagonal
part. Exact shifts L(w + xi) have another mean, L + (sigma^2/2) tr H to leading order.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check
from ._yang import GROUP as GROUP
from ._yang import LAM, PAPER, Array, within

NAME = "yang-tang-tu-landscape"
CLAIM = (
    "Random shifts of a loss have the gradient covariance sigma^2 H^2, the mean L if linearised and L + sigma^2 tr H/2 if exact."
)
STANDING = "derived"
EQUATION = """
L^mu(w) = L(w) + xi * grad L(w): C = sigma^2 H^2
<L(w + xi)> = L + {sigma^2/2} tr H + ...
"""

POINT = np.array([0.6, 0.4])
SIGMA, LR = 0.05, 0.1


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Sampled entries: 4 standard errors (7 numbers, a false alarm in 5e-4). Figure yang-tang-tu-landscape.png."""
    n = 100_000 if quick else 1_000_000
    U = fps.potentials.degenerate_valley(LAM)
    H, grad = U.hess(POINT), U.grad(POINT)
    checks = []
    chains = {
        "linearised": fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, SIGMA, LR), LR),
        "exact": fps.SGDChain.random_shift(U, SIGMA, LR),
    }
    expected = {"linearised": grad, "exact": grad + 0.5 * SIGMA**2 * 8.0 * POINT}
    for k, (name, chain) in enumerate(chains.items()):
        steps = fps.simulate(chain, POINT, t=1, n=n, seed=10 + k, progress=progress).final
        g = (POINT - steps) / LR
        error = g.std(axis=0) / math.sqrt(n)
        z = (g.mean(axis=0) - expected[name]) / error
        worst = float(np.abs(z).max())
        checks.append(Check(name=f"{name}: mean gradient, largest |z|", measured=worst, expected=0.0, band=(0.0, 4.0),
                            source="grad L" if name == "linearised" else "grad (L + sigma^2 tr H/2)"))  # fmt: skip
        if name == "linearised":
            C, exact = np.cov(g.T), SIGMA**2 * H @ H
            spread = np.sqrt((exact**2 + np.outer(np.diag(exact), np.diag(exact))) / n)
            z = (C - exact) / spread
            for i, j, what in ((0, 0, "xx"), (1, 1, "yy"), (0, 1, "xy")):
                checks.append(Check(name=f"linearised: C_{what}, z", measured=float(z[i, j]), stderr=1.0, expected=0.0,
                                    band=(-4.0, 4.0), source="sigma^2 H^2, from the words of " + PAPER))  # fmt: skip
    checks += _measured()
    _figure(U, out / f"{NAME}.png")
    return checks


def _measured() -> list[Check]:
    """The same ensemble as 400 samples with data: its measured covariance is H cov H, and goes through the theory as a table."""
    rng = np.random.default_rng(5)
    data = rng.normal(size=(400, 2))
    data = (data - data.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(data.T, bias=True))).T * SIGMA
    text = f"({LAM})*y**2/2 + a*4*x*y**2 + b*({LAM})*y"
    losses = fps.Ensemble.from_expression(text, "x y", data={"a": data[:, 0], "b": data[:, 1]})
    H = fps.potentials.degenerate_valley(LAM).hess(POINT)
    off = float(np.abs(losses.covariance(POINT) - SIGMA**2 * H @ H).max() / np.abs(SIGMA**2 * H @ H).max())
    first = Check(name="samples: covariance measured - sigma^2 H^2, relative", measured=off, expected=0.0, band=(0.0, 1e-9),
                  source="samples with exactly this covariance of their shifts")  # fmt: skip
    nodes = np.linspace(-1.5, 1.5, 61), np.linspace(-0.5, 0.5, 41)
    points = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
    table = np.array([[losses.covariance(p) for p in row] for row in points])
    U = fps.potentials.degenerate_valley(LAM)
    chain = fps.SGDChain.gaussian(U, fps.Noise.covariance(table, lr=LR, axes=nodes), LR)
    x = np.linspace(-1.0, 1.0, 41)
    found = fps.theory.effective_loss(chain, x)
    exact = fps.theory.effective_loss(fps.SGDChain.gaussian(U, fps.Noise.shifted_minima(U, SIGMA, LR), LR), x)
    # linear interpolation between nodes 0.05 and 0.025 apart: h^2/8 (lambda^2)'' of the covariance
    off = float(np.abs(found.force - exact.force).max() / np.abs(exact.force).max())
    return [first, within("samples: effective force of the measured table, largest error + 1", 1.0 + off, 1.0, 0.03, "closed form")]


def _figure(U: fps.Potential, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    x, y = np.linspace(-2.0, 2.0, 161), np.linspace(-0.6, 0.6, 121)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    axes[0].contour(x, y, U(grid).T, levels=np.geomspace(1e-3, 2.0, 14), linewidths=0.7)
    axes[0].plot(x, 0.0 * x, "k--", lw=0.8)
    axes[0].set(xlabel="x", ylabel="y", title=f"L = ({LAM}) y^2/2")
    rng = np.random.default_rng(1)
    for shift in rng.normal(scale=0.1, size=(12, 2)):
        axes[1].plot(y, _minibatch(U, y, shift), color="C0", lw=0.6)
    axes[1].plot(y, U(np.stack([np.full_like(y, 1.0), y], axis=-1)), "k", lw=1.8)
    axes[1].set(xlabel="y at x = 1", title="minibatch losses L + xi . grad L and their mean")
    figure.savefig(path, dpi=120)


def _minibatch(U: fps.Potential, y: Array, shift: Array) -> Array:
    at = np.stack([np.full_like(y, 1.0), y], axis=-1)
    return np.asarray(U(at) + U.grad(at) @ shift)
