"""Transient freezing: two valleys, the noise of each proportional to its curvature, while the barrier grows or the valleys flatten.

Theory: rates r = omega l exp(-E/(Delta l)); freezing time t*, the integral of the rate of the sharp valley from t* on is one; two
laws in closed form. Paths: `potentials.two_valleys` with the noise D = Delta l(x), barrier or curvatures moved by `Driven`; rates
from quadrature of the exact mean first passage times in the frozen landscape, so that nothing is fitted.

What a path's last switch has to do with t*: where the valleys have similar curvatures (here 1.2 to 1) it falls near t* of the sharp
one. At 4 to 1 a path in the flat valley freezes far earlier than one in the sharp valley, which it has left by then: the last
switch has the law `theory.last_switch`, at a tenth of t*, and t* itself is what a path feels that is put into the sharp valley
at t*: it leaves once more with probability 1 - 1/e.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps

from . import Check
from ._follow_ups import GROUP, check, figure, save

__all__ = ["CLAIM", "GROUP", "NAME", "STANDING", "run"]

NAME = "follow-ups-freezing"
CLAIM = "Stronger noise freezes later: t* rises with the noise, by tau ln 2 per doubling where the landscape flattens; paths agree."
STANDING = "derived"
EQUATION = """
int_{t^*}^inf r dt = 1, r = omega l e^(-E/(Delta l))
dt^*/(d ln Delta) = tau "where the landscape flattens"
"""

Array = NDArray[np.float64]

NOISES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
TAU, OMEGA, SHARP, FLAT = 1000.0, 0.05, 4.0, 1.0
ROUNDING = 0.02

theory = fps.theory


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Laws, then paths; figure follow-ups-freezing.png."""
    made, axes = figure(3)
    checks = [*_laws(axes[0]), *_paths(quick, axes[1], progress), *_asymmetric(quick, axes[2], progress)]
    save(made, out, NAME)
    return checks


def rates(noise: float, kind: str) -> list[Callable[[Array], Array]]:
    """r_s and r_f of the two laws, with a constant attempt rate."""

    def rate(l: float) -> Callable[[Array], Array]:
        if kind == "growing-barrier":
            return lambda t: theory.valley_rate(l, t / TAU, noise, OMEGA)
        return lambda t: theory.valley_rate(l, 0.5 * np.exp(np.minimum(t / TAU, 600.0)), noise, OMEGA)

    return [rate(SHARP), rate(FLAT)]


def _laws(ax: Any) -> list[Check]:
    checks = []
    for kind, barrier in (("growing-barrier", None), ("flattening", 0.5)):
        found = np.array([theory.freezing_time(rates(d, kind)[0], max(TAU, 4 * TAU * d)).value for d in NOISES])
        law = theory.freezing_law(kind, SHARP, NOISES, OMEGA, TAU, barrier)
        moving = law > 0.0  # the weakest noise is frozen from the start where the landscape flattens
        worst = np.abs(found - law)[moving] / law[moving]
        checks.append(check(f"{kind}: t* by quadrature / law - 1, largest", worst.max(), 0.0, 0.0, 1e-9, "closed form"))
        rise = np.diff(found[moving]).min()
        checks.append(
            check(
                f"{kind}: smallest rise of t* with the noise",
                rise,
                np.diff(law[moving]).min(),
                1e-9,
                math.inf,
                "strictly increasing",
            )
        )
        ax.loglog(NOISES[moving], found[moving], "o", ms=4, mfc="none", label=kind)
        ax.loglog(NOISES[moving], law[moving], "-", lw=1.0, color="k")
    slope = np.polyfit(np.log(NOISES[moving]), found[moving], 1)[0] / TAU
    checks.append(check("flattening: dt*/d ln Delta / tau", slope, 1.0, 0.98, 1.02, "tau ln 2 per doubling"))
    least = math.inf
    for d in NOISES[1:]:  # from equal odds; times up to the end of t*
        p = theory.occupation(*rates(d, "growing-barrier"), np.linspace(0.0, 2e4 * d, 41), 0.5)
        least = min(least, float(np.diff(p).min()))
    # the tolerance of the integration is 1e-10
    checks.append(check("growing barrier: smallest step of P_f", least, 0.0, -1e-8, math.inf, "never falls"))
    # where the landscape flattens, from P_f = 0.2: what has crossed when all is frozen
    ends = []
    for d in NOISES:
        r = rates(d, "flattening")
        ends.append(float(theory.occupation(*r, np.array([0.0, 2e4]), 0.2)[1]))
    checks.append(
        check("flattening: smallest rise of the last P_f with the noise", np.diff(ends).min(), 0.0, -1e-8, math.inf, "never falls")
    )
    for d, p, expected in zip(NOISES, ends, (0.242, 0.995, 1.0), strict=False):
        checks.append(
            check(
                f"flattening, Delta = {d:g}: last P_f from 0.2", p, expected, expected - 0.001, expected + 0.001, "another program"
            )
        )
    sharp, flat = (lambda t, l=l: theory.valley_rate(l, t / 1e6, 0.1, OMEGA) for l in (SHARP, FLAT))
    p = theory.occupation(sharp, flat, [0.0, 1e5], 0.8)[1]
    expected = 0.1 / 0.1 * (1 / FLAT - 1 / SHARP) + math.log(SHARP / FLAT)
    checks.append(
        check("slow barrier: ln P_f/P_s", math.log(p / (1 - p)), expected, expected - 0.01, expected + 0.01, "quasi-static")
    )
    ax.set(xlabel=r"noise $\Delta$", ylabel="$t^*$", title="freezing times: quadrature, laws")
    ax.legend(frameon=False)
    return checks


def valleys(sharp: float, flat: float, noise: float) -> fps.Process:
    """Two valleys with D = Delta l(x): the curvature of the lower parabola, blended as the landscape is."""
    a, b = (f"({k}*(x {sign} sqrt(2*(barrier + rounding)/{k}))**2/2)" for k, sign in (("sharp", "+"), ("flat", "-")))
    share = f"({a} - {b})/(2*sqrt(({a} - {b})**2/4 + rounding**2))"
    U = fps.potentials.two_valleys(sharp, flat, 1.0, ROUNDING)
    D = fps.Noise.from_expression(f"strength*((sharp + flat)/2 - (sharp - flat)/2*{share})", params={**U.params, "strength": noise})
    return fps.Process(U, D)


def path_rates(process: fps.Process, params: Callable[[float], dict[str, float]], end: float) -> list[Callable[[Array], Array]]:
    """1/(mean first passage time to the other bottom) in the landscape frozen at 16 times, interpolated in the logarithm."""
    times = np.linspace(0.0, end, 16)
    found = np.empty((2, len(times)))
    for i, t in enumerate(times):
        frozen = process.with_params(**params(t))
        p = frozen.params
        left, right = (s * math.sqrt(2 * (p["barrier"] + ROUNDING) / p[k]) for s, k in ((-1, "sharp"), (1, "flat")))
        for j, (start, stop) in enumerate(((left, right), (right, left))):
            estimate = theory.mean_first_passage_1d(frozen, start, stop)
            found[j, i] = -estimate.log_value if estimate.log_value is not None else -math.log(estimate.value)
    from scipy.interpolate import CubicSpline

    curves = [CubicSpline(times, row) for row in found]

    def rate(curve: Any) -> Callable[[Array], Array]:
        last, fall = float(curve(end)), float(curve(end, 1))  # beyond the table the logarithm goes on in a straight line
        return lambda t: np.exp(np.where(t < end, curve(np.minimum(t, end)), last + fall * (t - end)))

    return [rate(c) for c in curves]


def last_switches(
    process: fps.Process, params: Callable[[float], dict[str, float]], end: float, dt: float, n: int, seed: int, progress: bool
) -> Array:
    """Time of the last change between the valleys of n paths: the middle of the interval in which a path came to the other half-way
    mark between the top and the bottom."""
    grid = np.linspace(0.0, end, 401)
    moving = fps.Driven(process, params=params)
    steps = round(end / dt)
    paths = fps.simulate(moving, [0.1], t=steps * dt, dt=dt, n=n, save=grid[1:], seed=seed, progress=progress)
    side, last = np.zeros(n, int), np.zeros(n)
    for k, (t, x) in enumerate(zip(paths.times, paths.states[..., 0], strict=True)):
        p = {**process.params, **params(t)}
        left, right = (s * 0.5 * math.sqrt(2 * p["barrier"] / p[k]) for s, k in ((-1, "sharp"), (1, "flat")))
        now = np.where(x < left, -1, np.where(x > right, 1, side))
        changed = (now != side) & (side != 0)
        last[changed] = 0.5 * (t + paths.times[max(k - 1, 0)])
        side = now
    return last


def _paths(quick: bool, ax: Any, progress: bool) -> list[Check]:
    """Similar valleys, 1.2 to 1. The mean last switch of n paths has an error of 0.3/sqrt(n) of itself, 2 % in quick."""
    n, tau, checks = 256 if quick else 2048, 300.0, []
    for kind, noises in (("growing barrier", (0.05, 0.1, 0.2)), ("flattening", (0.1, 0.2, 0.4))):
        means, freezing, laws = [], [], []
        for i, noise in enumerate(noises):
            process = valleys(1.2, 1.0, noise)
            params = _growing(tau) if kind == "growing barrier" else _flattening(tau)
            guess = 2.6 * tau * noise * 1.2 * 5 if kind == "growing barrier" else tau * (math.log(8 * noise * 1.2 / 0.3) + 1.5)
            r = path_rates(process, params, guess)
            scale = tau * noise if kind == "growing barrier" else 0.3 * tau
            star = theory.freezing_time(r[0], scale).value
            end = min(guess, 2.6 * star if kind == "growing barrier" else star + 2 * tau)
            found = last_switches(process, params, end, 0.004 / 1.2, n, 31 + i, progress)
            t = np.linspace(0.0, end, 600)
            law = theory.last_switch(*r, t, scale)
            mean = float(np.trapezoid(1.0 - law, t))
            means.append(found.mean()), freezing.append(star), laws.append(mean)
            name, error = f"{kind}, Delta = {noise:g}", float(found.std()) / math.sqrt(n)
            checks.append(check(f"{name}: mean last switch / t*", found.mean() / star, mean / star, 0.8, 1.2, "t*", error / star))
            # 4 standard errors, and 6 % for the step (0.004 relaxation times), 400 looks, and valleys that move meanwhile
            limit = 0.06 + 4 * error / mean
            checks.append(
                check(
                    f"{name}: mean last switch / its law",
                    found.mean() / mean,
                    1.0,
                    1 - limit,
                    1 + limit,
                    "last_switch",
                    error / mean,
                )
            )
        ax.plot(noises, means, "o", ms=5, mfc="none", label=f"{kind}: last switch of paths")
        ax.plot(noises, freezing, "k-", lw=1.0)
        ax.plot(noises, laws, "k:", lw=1.0)
        checks.append(
            check(
                f"{kind}: smallest rise of the last switch with the noise",
                np.diff(means).min(),
                np.diff(laws).min(),
                1e-9,
                math.inf,
                "t*",
            )
        )
    ax.set(
        xlabel=r"noise $\Delta$", ylabel="time", title=f"1.2 to 1, tau = {tau:g}; lines t*, dotted: law", xscale="log", yscale="log"
    )
    ax.legend(frameon=False, fontsize="small")
    return checks


def _growing(tau: float) -> Callable[[float], dict[str, float]]:
    return lambda t: {"barrier": 0.02 + t / tau}


def _flattening(tau: float) -> Callable[[float], dict[str, float]]:
    return lambda t: {"barrier": 0.3, "sharp": 1.2 * math.exp(-t / tau), "flat": math.exp(-t / tau)}


def _asymmetric(quick: bool, ax: Any, progress: bool) -> list[Check]:
    """4 to 1, growing barrier: the law of the last switch, and what t* of the sharp valley means."""
    tau, noise, n = 100.0, 0.1, 256 if quick else 2048
    process, params = valleys(SHARP, FLAT, noise), _growing(tau)
    r = path_rates(process, params, 500.0)
    star, flat = (theory.freezing_time(f, tau * noise).value for f in r)
    found = last_switches(process, params, 200.0, 0.001, n, 41, progress)
    t = np.linspace(0.0, 200.0, 800)
    law = theory.last_switch(*r, t, tau * noise)
    mean = float(np.trapezoid(1.0 - law, t))
    error = float(found.std()) / math.sqrt(n)
    ax.plot(np.sort(found), (np.arange(n) + 0.5) / n, label="paths")
    ax.plot(t, law, "k-", lw=1.0, label="last_switch")
    ax.axvline(flat, ls=":", color="k", lw=0.8)
    ax.set(
        xlabel="time of the last switch", ylabel="distribution", title=f"4 to 1; dotted: t* of the flat valley; sharp: {star:.0f}"
    )
    ax.legend(frameon=False)
    # put into the sharp valley at t*, paths leave it later with probability 1 - 1/e; the barrier grows on
    late = fps.Driven(process.with_params(**params(star)), params=lambda s: params(star + s))
    bottom = -math.sqrt(2 * (params(star)["barrier"] + ROUNDING) / SHARP)
    span = 5.0 * tau * noise * SHARP
    final = fps.simulate(late, [bottom], t=round(span / 0.001) * 0.001, dt=0.001, n=2 * n, seed=42, progress=progress).final[:, 0]
    share, p = float((final > 0.0).mean()), 1.0 - math.exp(-1.0)
    # 4 standard errors of a share, and 6 % in the integral of the rate (the step, moving valleys), which is 0.06/e of the share
    limit = 4 * math.sqrt(p * (1 - p) / (2 * n)) + 0.06 / math.e
    limits = 0.06 + 4 * error / mean
    return [
        check("4 to 1: mean last switch / its law", found.mean() / mean, 1.0, 1 - limits, 1 + limits, "last_switch", error / mean),
        check(
            "4 to 1: mean last switch / t* of the sharp valley",
            found.mean() / star,
            mean / star,
            0.0,
            0.5,
            "far earlier",
            error / star,
        ),
        check(
            "4 to 1: share of paths that leave the sharp valley after t*",
            share,
            p,
            p - limit,
            p + limit,
            "1 - 1/e",
            math.sqrt(p * (1 - p) / (2 * n)),
        ),
    ]
