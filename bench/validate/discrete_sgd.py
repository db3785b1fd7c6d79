"""Stationary covariance of SGD at a finite learning rate: chains against the discrete Lyapunov equation, and what the SDE says.

On a quadratic landscape with Hessian H and gradient noise of covariance C/B the chain is linear, and its covariance solves

    S = M S M^T + lr^2 C/B,   M = 1 - lr H                (plain; with momentum the same for the pair of weights and velocities).

For sample losses (theta - a_i).H.(theta - a_i)/2 that is exact whatever the law of the a_i: C = H cov(a) H, and without replacement
C/B carries (N - B)/(N - 1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps

from . import Check

NAME = "discrete-sgd"
GROUP = "paths"
CLAIM = "At a finite learning rate SGD and heavy ball have the covariance of the discrete Lyapunov equation, not that of the SDE."
STANDING = "derived"
EQUATION = "S = M S M^T + lr^2 C/B, M = 1 - lr H"

Array = NDArray[np.float64]

H = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
C = np.array([[1.0, -0.3, 0.2], [-0.3, 0.5, 0.1], [0.2, 0.1, 0.8]])
BATCH = 4


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Gaussian chains up to three quarters of the largest stable rate, then SGD on 20 samples; figure discrete-sgd.png."""
    checks, rows = [], []
    top = float(np.linalg.eigvalsh(H)[-1])
    n = 20_000 if quick else 400_000
    for i, (share, momentum) in enumerate(((0.1, 0.0), (0.75, 0.0), (0.1, 0.9), (0.75, 0.9))):
        lr = share * 2 * (1 + momentum) / top
        noise = fps.Noise.covariance(C, lr, BATCH)
        chain = fps.SGDChain.gaussian(fps.potentials.quadratic(H), noise, lr, momentum=momentum)
        exact = fps.theory.discrete_covariance(H, C, lr, BATCH, momentum=momentum)
        slowest = lr * float(np.linalg.eigvalsh(H)[0]) if momentum == 0 else min(1 - momentum**0.5, lr * 0.4 / (1 - momentum))
        steps = int(16 / slowest)  # the start is forgotten to exp(-32) of the variance
        final = fps.simulate(chain, np.zeros(3), t=steps, n=n, seed=500 + i, progress=progress).final
        name = f"lr = {share:g} of the largest, momentum {momentum:g}"
        checks += _covariance(name, final, exact)
        # Heavy ball is dX = -grad L dt + sqrt(2 D) dW in the time lr/(1 - mu), with D = lr C/(2 B)/(1 - mu) there
        sde = fps.theory.ou_covariance(H, lr * C / (2 * BATCH) / (1 - momentum))
        rows.append((name, np.diag(np.cov(final.T)) / np.diag(exact), np.diag(sde) / np.diag(exact)))
    # plain SGD in one dimension: SDE / chain = 1 - lr h/2, a quarter at three quarters of the stable range
    h, lr = 2.0, 0.75
    ratio = float(fps.theory.ou_covariance([[h]], [[lr / 2]])[0, 0] / fps.theory.discrete_covariance([[h]], [[1.0]], lr)[0, 0])
    checks.append(
        Check(
            name="one dimension: SDE variance / chain variance",
            measured=ratio,
            expected=1 - lr * h / 2,
            band=(1 - lr * h / 2 - 1e-12, 1 - lr * h / 2 + 1e-12),
            source="1 - lr h/2",
        )
    )
    for i, sampling in enumerate(("replace", "without")):
        checks += _samples(sampling, 4_000 if quick else 40_000, 510 + i, progress)
    _figure(rows, out / f"{NAME}.png")
    return checks


def _samples(sampling: str, n: int, seed: int, progress: bool) -> list[Check]:
    """Twenty sample losses in two dimensions, exact covariance; the batch noise is not Gaussian."""
    rng = np.random.default_rng(9)
    a = rng.standard_normal((20, 2)) @ np.array([[1.0, 0.4], [0.0, 0.7]])
    a -= a.mean(axis=0)
    samples = fps.Ensemble.from_expression("(x - a)**2 + 0.5*(x - a)*(y - b) + 0.5*(y - b)**2", "x y", {"a": a[:, 0], "b": a[:, 1]})
    hessian, lr, batch = np.array([[2.0, 0.5], [0.5, 1.0]]), 0.5, 5
    cov = hessian @ np.cov(a.T, bias=True) @ hessian
    factor = 1.0 if sampling == "replace" else (20 - batch) / 19
    exact = fps.theory.discrete_covariance(hessian, cov * factor, lr, batch)
    chain = fps.SGDChain(samples, lr, batch, sampling=sampling)
    final = fps.simulate(chain, [0.0, 0.0], t=60, n=n, seed=seed, progress=progress).final
    return _covariance(f"20 samples, {sampling}", final, exact)


def _covariance(name: str, final: Array, exact: Array) -> list[Check]:
    """Entries of the sample covariance in their standard errors (Gaussian, known before the run); the largest of them.

    Six entries beyond 4.4 by chance: 6.5e-5 a check. Batch means of five samples have negative excess kurtosis: narrower still.
    """
    n = len(final)
    exact = np.asarray(exact)
    sample = np.cov(final.T)
    error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / n)
    z = np.abs(sample - exact) / error
    k, j = np.unravel_index(int(np.argmax(z)), z.shape)
    return [
        Check(
            name=f"{name}: largest |z| of the covariance",
            measured=float(z[k, j]),
            expected=0.0,
            band=(0.0, 4.4),
            source="discrete Lyapunov equation",
        )
    ]


def _figure(rows: list[tuple[str, Array, Array]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    ax = figure.subplots()
    k = np.arange(len(rows))
    for j in range(3):
        ax.plot(k + 0.12 * (j - 1), [r[1][j] for r in rows], "o", color=f"C{j}", ms=5, label=f"chain, weight {j + 1}")
        ax.plot(k + 0.12 * (j - 1), [r[2][j] for r in rows], "x", color=f"C{j}", ms=6, label=f"SDE, weight {j + 1}")
    ax.axhline(1.0, color="0.7", lw=0.8, zorder=0)
    ax.set_xticks(k, [r[0].replace(", ", ",\n") for r in rows], fontsize="small")
    ax.set(ylabel="variance / discrete Lyapunov equation", title="stationary variances of SGD at a finite learning rate")
    ax.legend(frameon=False, fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)
