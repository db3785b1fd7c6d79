"""SGD on random shifts in a valley: variance across, drift and diffusion along, time to the flat end, and two traps.

Chain w <- w - lr (grad L + H xi): <y^2> = lr sigma^2 lambda/(2 - lr lambda); force -(lr sigma^2/4) lambda lambda'; diffusion
D_x = (lr sigma^2)^2 lambda'^2 lambda/16, with independent noises for x and y 5/16; 1/e time to the flattest point of
lambda = l0 + k x^2/2 n* = 2 (2 - lr l0)/(lr^2 sigma^2 k l0). Exact shifts move at lr sigma^2 k/2 per step instead.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import fpsolve as fps

from . import Check
from ._yang import GROUP as GROUP
from ._yang import PAPER, Array, shifts, within

NAME = "yang-tang-tu-relaxation"
CLAIM = "SGD on random shifts reaches the flat end in 2 (2 - lr l0)/(lr^2 sigma^2 k l0) steps, the faster the stronger the noise."
STANDING = "derived"
EQUATION = """
<y^2> = lr sigma^2 lambda/(2 - lr lambda), D_x = (lr sigma^2)^2 lambda'^2 lambda/16
n^* = 2 (2 - lr l_0)/(lr^2 sigma^2 k l_0)
"""

#: lr and sigma of the times n*, k = 0.2, l0 = 1.
PAIRS = ((0.05, 0.3), (0.05, 0.6), (0.05, 1.0), (0.1, 0.3), (0.1, 0.6), (0.1, 1.0), (0.2, 0.3), (0.2, 0.6), (0.2, 1.0))
K = 0.2


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Asked for: <y^2> 2 %, D_x 8 %, n* 5 %, exponents 0.05, exact shifts 10 %; written down before the run.

    More replicas of the fast pairs after a first run, the bands as they were: 400 of lr = 0.2, sigma = 1 gave 416 +- 10 of 450; the
    second order in the noise, lr sigma^2 k = 0.04, makes it 437. The check of second order came after that run as well.
    The factor 2 - lr l0 makes the exponent of n* itself in lr -2.06 over lr = 0.05 to 0.2; -2 is that of n*/(2 - lr l0).
    Figure yang-tang-tu-relaxation.png.
    """
    times = np.array([_time(i, quick, progress) for i in range(len(PAIRS))])
    theory = np.array([_theory(*pair) for pair in PAIRS])
    checks = [*_across(quick, progress), *_along(quick, progress)]
    for (lr, sigma), (found, error), expected in zip(PAIRS, times, theory, strict=True):
        checks.append(within(f"lr {lr:g}, sigma {sigma:g}: n*", found, expected, 0.05, "adiabatic elimination", error))
    second = np.array([_second(*pair) for pair in PAIRS])
    checks.append(within("n* over that of second order, mean of the pairs", float((times[:, 0] / second).mean()), 1.0, 0.015,
                         "drift of second order", float(np.sqrt(((times[:, 1] / second) ** 2).sum())) / len(PAIRS)))  # fmt: skip
    rows = np.log([[*pair, 1.0] for pair in PAIRS])
    rows[:, 2] = 1.0
    lr = np.array([pair[0] for pair in PAIRS])
    for what, values, ends in (
        ("n*/(2 - lr l0)", times[:, 0] / (2.0 - lr), (-2.0, -2.0)),
        ("n*", times[:, 0], tuple(_fit(rows, theory))),
    ):
        for name, slope, end in zip(("lr", "sigma"), _fit(rows, values), ends, strict=False):
            checks.append(Check(name=f"{what}: exponent of {name}", measured=float(slope), expected=float(end),
                                band=(end - 0.05, end + 0.05), source="adiabatic elimination"))  # fmt: skip
    checks += _exact(quick, progress)
    _figure(times, theory, out / f"{NAME}.png")
    return checks


def _fit(rows: Array, values: Array) -> Array:
    return np.asarray(np.linalg.lstsq(rows, np.log(values), rcond=None)[0])


def _theory(lr: float, sigma: float) -> float:
    return 2.0 * (2.0 - lr) / (lr**2 * sigma**2 * K)


def _second(lr: float, sigma: float) -> float:
    """1/e time from the drift of second order between 0.1 and 0.3."""
    found = fps.theory.effective_loss(shifts(f"1 + {K}*x**2/2", sigma, lr), (-0.6, 0.6), n=241)
    x = np.linspace(0.3 / math.e, 0.3, 101)
    return float(np.trapezoid(-1.0 / np.interp(x, found.x, found.drift), x)) / lr


def _time(i: int, quick: bool, progress: bool) -> tuple[float, float]:
    """1/e time of <x> from x = 0.3, from its decay over the time that is expected, and its standard error."""
    lr, sigma = PAIRS[i]
    chain, steps = shifts(f"1 + {K}*x**2/2", sigma, lr), round(_theory(lr, sigma))
    n = min(round((3.5e7 if quick else 2e8) / steps), 8000)
    x = fps.simulate(chain, [0.3, 0.0], t=steps, n=n, seed=100 + i, progress=progress).final[:, 0]
    decay = -math.log(x.mean() / 0.3)
    return steps / decay, steps / decay**2 * float(x.std() / x.mean()) / math.sqrt(x.size)


def _across(quick: bool, progress: bool) -> list[Check]:
    """<y^2> at small and large lr lambda, twenty times 200 steps apart or more; the standard error is 0.4 % (quick)."""
    checks = []
    for k, (lr, sigma, curvature) in enumerate(((0.1, 0.5, 1.0), (0.2, 0.5, 4.0), (0.3, 0.3, 5.0))):
        chain = shifts(f"{curvature} + 0.01*x", sigma, lr)
        n = 6000 if quick else 60_000
        paths = fps.simulate(chain, [0.0, 0.0], t=1000, n=n, save=np.arange(50, 1001, 50), seed=200 + k, progress=progress)
        assert paths.states is not None
        expected = lr * sigma**2 * curvature / (2.0 - lr * curvature)
        found = float((paths.states[..., 1] ** 2).mean())
        error = expected * math.sqrt(2.0 / (20 * n))
        checks.append(
            within(f"lr lambda {lr * curvature:g}: <y^2>", found, expected, 0.02, "lr sigma^2 lambda/(2 - lr lambda)", error)
        )
    return checks


def _along(quick: bool, progress: bool) -> list[Check]:
    """lambda = 1 + 0.1 x, lr = 0.02, sigma = 0.5: drift and variance of X = x - (lambda'/4 lambda) y^2 over 2000 steps.

    The noises of one step are correlated; in the trap C_xy is left out. n = 40 000: standard error 0.7 % of D_x.
    """
    lr, sigma, n, steps = 0.02, 0.5, (40_000 if quick else 200_000), 2000
    eps, U = lr * sigma**2, fps.potentials.degenerate_valley("1 + 0.1*x")
    c = eps / 2.0
    rows = [[f"{c}*(0.1*y)**2", "0"], ["0", f"{c}*((1 + 0.1*x)**2 + (0.1*y)**2)"]]
    apart = fps.SGDChain.gaussian(U, fps.Noise.from_expression(rows, variables="x y"), lr)
    checks = []
    variance = eps / (2.0 - lr)
    for k, (name, chain, factor) in enumerate(
        (("correlated", shifts("1 + 0.1*x", sigma, lr), 1.0), ("independent (trap)", apart, 5.0))
    ):
        start = np.stack([np.zeros(n), math.sqrt(variance) * np.random.default_rng(7 + k).normal(size=n)], axis=1)
        end = fps.simulate(chain, start, t=steps, n=n, seed=300 + k, progress=progress).final
        moved = _slow(end) - _slow(start)
        diffusion = float(moved.var()) / (2.0 * lr * steps)
        expected = factor * eps**2 * 0.01 / 16.0
        error = expected * math.sqrt(2.0 / n)
        source = f"{factor:g}/16 (lr sigma^2)^2 lambda'^2 lambda"
        checks.append(within(f"{name} noises: D_x", diffusion, expected, 0.08, source, error))
        theory = fps.theory.effective_loss(chain, (-0.2, 0.2))
        own = float(np.interp(0.0, theory.x, theory.spread))
        checks.append(
            within(f"{name} noises: D_x with lr lambda", diffusion, own, 4.0 * math.sqrt(2.0 / n) + 0.01, "effective_loss", error)
        )
        drift = float(moved.mean()) / (lr * steps)
        checks.append(within(f"{name} noises: drift", drift, -eps * 0.1 / 4.0, 0.03, "-(lr sigma^2/4) lambda lambda'",
                             float(moved.std()) / math.sqrt(n) / (lr * steps)))  # fmt: skip
    return checks


def _slow(w: Array) -> Array:
    return np.asarray(w[:, 0] - 0.1 / (4.0 * (1.0 + 0.1 * w[:, 0])) * w[:, 1] ** 2)


def _exact(quick: bool, progress: bool) -> list[Check]:
    """lr = 0.1, sigma = 0.3, k = 0.5: exact shifts, asked for to 10 %; with the force of the linearised ones added to 3 %."""
    lr, sigma, k = 0.1, 0.3, 0.5
    U = fps.potentials.degenerate_valley(f"1 + {k}*x**2/2")
    fast, slow = lr * sigma**2 * k / 2.0, lr**2 * sigma**2 * k / (2.0 * (2.0 - lr))
    n, steps = (2000 if quick else 20_000), 420
    x = fps.simulate(fps.SGDChain.random_shift(U, sigma, lr), [0.3, 0.0], t=steps, n=n, seed=400, progress=progress).final[:, 0]
    rate = -math.log(x.mean() / 0.3) / steps
    error = float(x.std() / x.mean()) / math.sqrt(n) / steps
    m = 400 if quick else 2000
    z = fps.simulate(shifts(f"1 + {k}*x**2/2", sigma, lr), [0.3, 0.0], t=8000, n=m, seed=401, progress=progress).final[:, 0]
    linear, spread = -math.log(z.mean() / 0.3) / 8000, float(z.std() / z.mean()) / math.sqrt(m) / 8000
    return [
        within("exact shifts: rate per step", rate, fast, 0.1, "lr sigma^2 k/2, force of (sigma^2/2) tr H", error),
        within(
            "exact shifts: rate with the noise-induced part", rate, fast + slow, 4.0 * error / rate + 0.03, "sum of both", error
        ),
        within("linearised shifts: rate per step", linear, slow, 0.05, "1/n*", spread),
        Check(
            name="exact / linearised (trap)",
            measured=rate / linear,
            stderr=rate / linear * math.hypot(error / rate, spread / linear),
            expected=20.0,
            band=(16.0, 24.0),
            source=PAPER + ", re-derived",
        ),
    ]


def _figure(times: Array, theory: Array, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    ax = figure.subplots()
    for k, lr in enumerate((0.05, 0.1, 0.2)):
        rows = [i for i, pair in enumerate(PAIRS) if pair[0] == lr]
        sigmas = [PAIRS[i][1] for i in rows]
        ax.errorbar(sigmas, times[rows, 0], 2.0 * times[rows, 1], fmt="o", color=f"C{k}", label=f"lr {lr:g}")
        ax.plot(sigmas, theory[rows], color=f"C{k}")
    ax.set(xscale="log", yscale="log", xlabel="sigma", ylabel="n*", title="steps to the flat end: chain (points), theory (lines)")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=120)
