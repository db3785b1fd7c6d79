"""Where psi = 4 can come from: exponents of the inverse relation of linear modes with noise C = c H^g.

A mode of curvature h and noise c h^g is watched for ten epochs of K = 50 steps. Flat modes (lr h T < 0.3 for independent batches,
lr h K < 0.3 for shuffled ones, whose noise sums to zero over an epoch) have psi = 2 g; stiff modes under independent batches psi
= 2 (g - 1): nothing at all for g = 1. So psi = 4 needs noise that grows as the square of the curvature, or directions that are
not those of H.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import nets

from . import Check
from ._feng_tu import axes, check, panel

NAME = "feng-tu-origin"
GROUP = "feng-tu"
CLAIM = "A linear mode with C = c H^g has psi = 2 g where it is flat and 2 (g - 1) where it is stiff; shuffling keeps the first."
STANDING = "derived"
EQUATION = 'C = c H^g: psi = 2 g "where flat", 2 (g - 1) "where stiff"'

Array = NDArray[np.float64]

LR, K, EPOCHS = 0.1, 50, 10
STEPS = K * EPOCHS


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Exact theory, then Gaussian modes simulated by their recursion; figures feng-tu-origin-a.png and -b.png."""
    n = 400 if quick else 4000
    checks, rng = [], np.random.default_rng(3)
    for letter, sampling in (("a", "replace"), ("b", "shuffle")):
        ax = axes()
        for g in (1.0, 1.5, 2.0):
            h = np.geomspace(1e-4, 2.0, 60)
            theory = nets.window_variance(h, h**g, LR, STEPS, sampling=sampling, epoch=K)
            found = simulated(h, g, sampling, n, rng)
            # the modes that are flat: lr h T < 0.3, which is lr h K < 0.03
            flat = LR * h * STEPS < 0.3
            fit = nets.power_law(h[flat] ** -0.5, found[flat])
            # |psi - 2 g| < 0.25: the leading correction of the window to the slope at lr h T = 0.3, and the scatter of n windows
            name, psi = f"{sampling}, g = {g:g}", -fit.exponent
            checks.append(check(f"{name}: psi of flat modes", psi, 2 * g, 2 * g - 0.25, 2 * g + 0.25, "2 g"))
            # variances of n windows of which some have one degree of freedom: sqrt(2/n) each; 60 modes, 4.5 standard errors
            worst = float(np.max(np.abs(found / theory - 1.0)))
            limit = 4.5 * (2.0 / n) ** 0.5
            checks.append(check(f"{name}: largest |simulated/exact - 1|", worst, 0.0, 0.0, limit, "window_variance"))
            ax.loglog(h**-0.5, found, "o", ms=3, mfc="none")
            ax.loglog(h**-0.5, theory, "-", lw=1.0, label=f"g = {g:g}")
        ax.set(xlabel=r"$h^{-1/2} \propto F$", ylabel=r"$\sigma^2$")
        ax.legend(frameon=False)
        panel(out, NAME, letter, ax, f"linear modes, {sampling}: lines exact, circles simulated")
    for g in (1.0, 1.5, 2.0):  # lr h T from 50 to 500 at a learning rate that keeps lr h small
        h = np.geomspace(1.0, 10.0, 20)
        fit = nets.power_law(h**-0.5, nets.window_variance(h, h**g, 0.001, 50_000))
        # the share tau/T of the variance that is in the mean of the window, 2/(lr h T), and lr h/2 tilt the slope by < 0.1
        expected = 2 * (g - 1)
        checks.append(
            check(f"stiff, independent, g = {g:g}: psi", -fit.exponent, expected, expected - 0.1, expected + 0.1, "2 (g - 1)")
        )
    return checks


def simulated(h: Array, g: float, sampling: str, n: int, rng: np.random.Generator) -> Array:
    """Mean over n windows of the variance of y' = (1 - lr h) y - lr xi within the window, started in the stationary law.

    The stationary start is reached by a run-up: exactly drawn for independent noise; for shuffled epochs 6 relaxation times or 40
    epochs, after which a mode that still remembers its start is so flat that the start does not show within a window.
    """
    from scipy.signal import lfilter

    result = np.empty(len(h))
    for k, curvature in enumerate(h):
        a, run_up = 1.0 - LR * curvature, 0
        if sampling == "shuffle":
            run_up = K * int(min(40, np.ceil(6.0 / (LR * curvature) / K)))
        noise = rng.standard_normal((n, run_up + STEPS)) * curvature ** (g / 2)
        start = rng.standard_normal((n, 1)) * LR * curvature ** (g / 2) / np.sqrt(1.0 - a * a)
        if sampling == "shuffle":
            epochs = noise.reshape(n, -1, K)
            epochs -= epochs.mean(axis=2, keepdims=True)
            noise *= np.sqrt(K / (K - 1))
            start = np.zeros((n, 1))
        y, _ = lfilter([-LR], [1.0, -a], noise, axis=1, zi=a * start)
        result[k] = y[:, run_up:].var(axis=1).mean()
    return result
