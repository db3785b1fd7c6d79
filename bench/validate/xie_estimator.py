"""The estimator of escape rates, (N - 2)/sum t with the interval 1 +- 1.96/sqrt(N): its bias and coverage at N = 100.

Waiting times of the chain of Styblinski-Tang with noise 0.6 |f''| at lr = 0.01 (1600 iterations), against the eigenvalue of its
kernel. They must be exponential for it. The exact values for exponential times: E(N - 2)/sum t = (N - 2)/(N - 1) of the rate, and
the coverage of the interval from the gamma law.

Three seconds of one core after compilation, the full run eight.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

import fpsolve as fps

from . import Check

NAME = "xie-estimator"
GROUP = "xie"
CLAIM = "Escape times are exponential, and the rate estimated from 100 of them is unbiased to 1.5 % with an interval of 94 %."
STANDING = "derived"
EQUATION = "r = (N - 2)/{sum_i t_i} (1 +- 1.96/sqrt(N))"

Array = NDArray[np.float64]

N, START = 100, -2.903534


def coverage() -> float:
    """P(|g - 1| <= 1.96/sqrt(N)) ... of g = (N - 2)/sum t over the rate: the interval g (1 +- 1.96/sqrt(N)) holds 1."""
    half = 1.96 / math.sqrt(N)
    # g (1 - half) < 1 < g (1 + half), sum of N exponential times s = (N - 2)/g
    return float(gamma.cdf((N - 2) * (1.0 + half), N) - gamma.cdf((N - 2) * (1.0 - half), N))


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Bands: those asked for (bias 0.015, coverage 0.92 to 0.96, cv 15 %), 3 errors of sampling added to the bias.

    With 2000 sets the coverage of the gamma law, 0.940, is 3.8 standard errors from either end.
    """
    sets = 2000 if quick else 10_000
    chain = fps.SGDChain.gaussian(fps.potentials.styblinski_tang(), fps.Noise.from_expression("0.6*abs(6*x**2 - 16)"), 0.01)
    saddle = fps.Region.halfspace([1.0], 0.156731)
    kernel = fps.TransitionKernel(chain, fps.Grid((-8.0, 0.2, 240)))
    rate = kernel.escape_rate(saddle).value
    times = fps.escape_times(chain, [START], saddle, n=sets * N, seed=123, progress=progress).times
    found = (N - 2) / times.reshape(sets, N).sum(axis=1) / rate
    half = 1.96 / math.sqrt(N)
    held = float(np.mean((found * (1.0 - half) < 1.0) & (found * (1.0 + half) > 1.0)))
    exact, error = coverage(), math.sqrt(0.94 * 0.06 / sets)
    bias, spread = float(found.mean()) - 1.0, float(found.std(ddof=1)) / math.sqrt(sets)
    checks = [
        Check(name=f"N = {N}, {sets} sets: relative bias of the rate", measured=bias, stderr=spread, expected=-1.0 / (N - 1),
              band=(-0.015 - 3.0 * spread, 0.015), source="(N - 2)/(N - 1) - 1 for exponential times"),
        Check(name=f"N = {N}, {sets} sets: coverage of 1 +- 1.96/sqrt(N)", measured=held, stderr=error, expected=exact,
              band=(0.92, 0.96), source="gamma law"),
        Check(name="standard deviation over mean of the waiting times", measured=float(times.std() / times.mean()), expected=1.0,
              band=(0.85, 1.15), source="exponential law"),
    ]  # fmt: skip
    for share in (0.5, 0.9):
        q = -math.log(1.0 - share) / rate
        after = float(np.mean(times <= q))
        width = 4.0 * math.sqrt(share * (1.0 - share) / times.size) + 2e-3  # and the start: settling, 5 of 1600 iterations
        checks.append(Check(name=f"share that has left at the {share:g} quantile", measured=after, expected=share,
                            band=(share - width, share + width), source="exponential law at the kernel's rate"))  # fmt: skip
    _figure(found, times, rate, out / f"{NAME}.png")
    return checks


def _figure(found: Array, times: Array, rate: float, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    order = np.sort(times)[:: max(1, times.size // 2000)]
    left.plot(order * rate, 1.0 - np.arange(order.size) / order.size, label="paths")
    left.plot(order * rate, np.exp(-order * rate), "k:", label="exponential")
    left.set(yscale="log", ylim=(1e-3, 1.0), xlim=(0.0, 7.0), xlabel="time times the kernel's rate", title="still inside")
    right.hist(found, 40, density=True, color="0.8")
    s = np.linspace(0.6, 1.5, 200)
    right.plot(s, gamma.pdf((N - 2) / s, N) * (N - 2) / s**2, "k-", lw=0.9, label="gamma law")
    right.set(xlabel="estimated / exact rate", title=f"{found.size} estimates from {N} escapes")
    for ax in (left, right):
        ax.legend(frameon=False)
    figure.savefig(path, dpi=120)
