"""Xie, Sato and Sugiyama's test problem: critical data, laws, factors, the inflection, noise of data; no sampling.

1. Styblinski-Tang: critical points, barriers, inflections.
2. White noise: exact time over Kramers' at the barriers of the paper, the factor one half at the saddle.
3. The prefactor: with Ito noise (what SGD is) frozen at both ends it is 2 pi/H_a, not the 2 pi/|H_b| of the formula; that one
   belongs to the anti-Ito reading.
4. Noise kappa |f''|: the exponent that no s reproduces; the logarithmic divergence at the inflection; never crossed at any kappa.
5. Data noise f(theta - x): C(theta), its integral, and the formula with the true C at both ends.
6. Exit from a ball (Ibayashi and Imaizumi): the exponent is B r^2/lr whatever the curvature.
7. Eyring and Kramers in the plane, against the spectrum of the Fokker-Planck engine.

Four seconds of one core after compilation, the full run nine.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

import fpsolve as fps

from . import Check

NAME = "xie-laws"
GROUP = "xie"
CLAIM = (
    "Kramers' law holds for white noise; the SGD formula has the wrong factor and no s that gives the exponent of its own noise."
)
STANDING = "derived"
EQUATION = "tau = {2 pi/|H_b|} exp({2 B Delta L/lr} [s/H_a + (1 - s)/|H_b|])"

F = fps.potentials.styblinski_tang()
DEEP, SHALLOW, TOP = -2.903534, 2.746803, 0.156731
#: Position, value, curvature; to six decimals, from another program.
CRITICAL = {"deep minimum": (DEEP, -39.166166, 34.583059), "shallow minimum": (SHALLOW, -25.029447, 29.269553),
            "maximum": (TOP, 0.195612, -15.852612)}  # fmt: skip
#: D, exact over Kramers, and the time to the saddle over the time beyond, from another program.
WHITE = ((2.0, 1.030, 0.506), (3.0, 1.048, 0.508), (4.0, 1.069, 0.509))
#: kappa of noise in two pieces.
PIECES = (0.12, 0.08, 0.05)
#: 2 |f'|/|f'''| at the inflection of the deep well: the exponent times kappa grows by it for each factor e of the floor.
GROWTH = 2.0329
#: sigma^2 of the data; minimum, saddle, dL, C_a, C_b, integral of L'/C, and dL/C_a, dL/C_b, from another program.
DATA = (
    (0.01, -2.8985, 0.1573, 39.110, 11.94, 2.49, 220.25, 3.275, 15.68),
    (0.10, -2.8527, 0.1629, 36.884, 117.6, 23.27, 6.281, 0.3136, 1.585),
    (1.00, -2.3519, 0.2532, 18.553, 960.0, 121.1, 0.1212, 0.0193, 0.1532),
)
#: The path parameter that would give that integral, and one unit of its last digit.
NEEDED = ((-16.5, 0.1), (-3.69, 0.01), (0.24, 0.01))


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Bands were written down before the run: the last digit known, or the per cent that was asked for; figure xie-laws.png."""
    parts = [_critical(), _white(), _prefactor(), _inflection(out / f"{NAME}.png"), _data(), _ball(), _plane(quick)]
    return [check for part in parts for check in part]


def _check(name: str, measured: float, expected: float, width: float, source: str) -> Check:
    return Check(name=name, measured=measured, expected=expected, band=(expected - width, expected + width), source=source)


def _critical() -> list[Check]:
    """1e-6 was asked for; half a unit of the sixth decimal more is rounding of what is expected."""
    points, checks = F.critical_points([(-4, 4)]), []
    for name, values in CRITICAL.items():
        point = min(points, key=lambda p: abs(p.x[0] - values[0]))
        found = (point.x[0], point.value, point.hessian[0, 0])
        for what, measured, expected in zip(("place", "f", "f''"), found, values, strict=True):
            checks.append(_check(f"{name}: {what}", measured, expected, 1.5e-6, "another program, six decimals"))
    place = brentq(lambda x: float(F.hess([x])[0, 0]), -3.0, 0.0)
    return [*checks, _check("inflection of the deep well", place, -math.sqrt(8.0 / 3.0), 1e-6, "6 x^2 = 16")]


def _time(noise: fps.Noise, a: float, b: float, interpretation: str = "ito") -> float:
    """ln of the exact mean time."""
    return _log(fps.theory.mean_first_passage_1d(fps.Process(F, noise, interpretation=interpretation), a, b))


def _log(e: fps.Estimate) -> float:
    """ln of a number that has it; a missing one is no zero."""
    if e.log_value is None:
        raise ValueError(f"{e!r} has no logarithm")
    return e.log_value


def _white() -> list[Check]:
    """0.5 % was asked for."""
    checks = []
    for D, ratio, half in WHITE:
        noise = fps.Noise.isotropic(D)
        kramers = _log(fps.theory.kramers_rate(fps.Process(F, noise), [SHALLOW], [TOP]))
        beyond, saddle = _time(noise, SHALLOW, DEEP), _time(noise, SHALLOW, TOP)
        source = "another program"
        checks.append(_check(f"white noise, D = {D:g}: exact / Kramers", math.exp(beyond + kramers), ratio, 0.005 * ratio, source))
        checks.append(
            _check(f"white noise, D = {D:g}: to the saddle / beyond", math.exp(saddle - beyond), half, 0.005 * half, source)
        )
    return checks


def _prefactor() -> list[Check]:
    """D = kappa H_a up to the height s, kappa |H_b| above; 0.5 %: D changes over a width of 5e-4 here, at once in `_sharp`.

    The first expected values, 1.044, 1.028 and 1.0165 from another program, failed by 0.8 %; a trapezoidal rule for the sharp step
    (and the next order of Laplace's expansion, 1 + 0.27 kappa) took their place.

    In the anti-Ito reading the time is (2 pi/|H_b|) e^E (1 + O(1/E)): 1 to 1.08, as for the Ito one.
    """
    low, high, checks = float(F([DEEP])), float(F([TOP])), []
    Ha, Hb = CRITICAL["deep minimum"][2], -CRITICAL["maximum"][2]
    for kappa in PIECES:
        for s in (0.3, 0.5):
            c = brentq(lambda x, level=low + s * (high - low): float(F([x])) - level, DEEP, TOP)
            noise = fps.Noise.from_expression(f"{kappa}*({Hb} + {Ha - Hb}*(1 - tanh((x - ({c}))/0.0005))/2)")
            E = (high - low) / kappa * (s / Ha + (1.0 - s) / Hb)
            expected = _sharp(kappa, c, E)
            ito = math.exp(_time(noise, DEEP, SHALLOW) - E) * Ha / (2.0 * math.pi)
            checks.append(_check(f"kappa = {kappa}, s = {s}: Ito time / (2 pi/H_a) e^E", ito, expected, 0.005 * expected,
                                 "trapezoidal rule, sharp step"))  # fmt: skip
        other = math.exp(_time(noise, DEEP, SHALLOW, "klimontovich") - E) * Hb / (2.0 * math.pi)
        checks.append(Check(name=f"kappa = {kappa}: anti-Ito time / (2 pi/|H_b|) e^E", measured=other, expected=1.04,
                            band=(1.0, 1.08), source="Laplace expansion"))  # fmt: skip
    return checks


def _sharp(kappa: float, c: float, E: float) -> float:
    """Ito time over (2 pi/H_a) e^E for a noise that jumps at c: double integral by the trapezoidal rule on 40 000 points."""
    Ha, Hb = CRITICAL["deep minimum"][2], -CRITICAL["maximum"][2]
    x = np.concatenate([np.linspace(-6.0, c, 20_000), np.linspace(c, SHALLOW, 20_000)])
    D = np.repeat([kappa * Ha, kappa * Hb], 20_000)
    s = -(np.asarray(F(x[:, None])) - float(F([c]))) / D
    weight = np.exp(s - s.max()) / D
    inner = np.concatenate([[0.0], np.cumsum(0.5 * (weight[1:] + weight[:-1]) * np.diff(x))])
    on_the_way = x >= DEEP
    time = np.trapezoid((np.exp(s.min() - s) * inner)[on_the_way], x[on_the_way])
    return float(np.exp(np.log(time) + s.max() - s.min() - E)) * Ha / (2.0 * math.pi)


def _inflection(path: Path) -> list[Check]:
    """1 % was asked for the slopes."""
    checks = []
    for s, expected in ((1.0, 1.138), (0.0, 2.483)):
        logs = [_log(fps.theory.sgd_escape_time(F, [DEEP], [TOP], lr=0.02, batch=B, s=s)) for B in (1.0, 2.0)]
        checks.append(_check(f"formula, s = {s:g}: exponent over 2B/lr", (logs[1] - logs[0]) * 0.01, expected, 1e-3, "dL/H"))
    floors = np.array([1e-2, 1e-3, 1e-4])
    curves = {}
    for kappa in (0.8, 1.5, 3.0):
        logs = [_time(fps.Noise.from_expression(f"{kappa}*sqrt((6*x**2 - 16)**2 + {e * e:.17g})"), DEEP, SHALLOW) for e in floors]
        curves[kappa] = logs
        slope = (logs[2] - logs[1]) / math.log(10.0)
        checks.append(_check(f"kappa = {kappa}: d ln T/d ln(1/floor) times kappa", slope * kappa, GROWTH, 0.01 * GROWTH,
                             "2 |f'|/|f'''|"))  # fmt: skip
    flagged = 0
    for kappa in (0.3, 0.8, 1.0165, 1.5, 3.0, 6.0):
        action = fps.minimum_action_path(fps.Process(F, fps.Noise.hessian(F, scale=kappa)), DEEP, TOP).action
        flagged += math.isinf(action.value) and any("impermeable" in a.detail for a in action.failed)
    checks.append(Check(name="six kappas without floor: flagged impermeable", measured=flagged, expected=6, band=(6, 6),
                        source="Feller, Ito"))  # fmt: skip
    _figure(floors, curves, path)
    return checks


def _data() -> list[Check]:
    """One unit of the last digit that is known."""
    checks = []
    for (v, a, s, height, Ca, Cb, integral, low, high), (needed, width) in zip(DATA, NEEDED, strict=True):
        U = fps.Potential.from_expression(f"(x**4 - 16*x**2 + 5*x)/2 + 3*{v}*x**2")
        points = U.critical_points([(-4, 4)])
        minimum, top = points[0].x, next(p.x for p in points if p.index == 1)
        base, q = f"(6*x**2 - 16)*{math.sqrt(v):.17g}", v**1.5
        noise = fps.Noise.from_expression(f"({base})**2 + 12*({base})*{q:.17g} + {60 * v**3:.17g} + 72*x**2*{v * v:.17g}")
        C = noise.diffusion(np.array([minimum, top]))[:, 0, 0]
        found = fps.minimum_action_path(fps.Process(U, noise), minimum, top).action.value
        dL = float(U(top) - U(minimum))
        for what, measured, expected in (
            ("minimum", minimum[0], a), ("saddle", top[0], s), ("dL", dL, height), ("C_a", C[0], Ca), ("C_b", C[1], Cb),
            ("integral of L'/C", found, integral), ("formula, s = 1", dL / C[0], low), ("formula, s = 0", dL / C[1], high),
        ):  # fmt: skip
            digits = len(f"{expected:g}".partition(".")[2])
            checks.append(_check(f"data noise {v:g}: {what}", measured, expected, 1.01 * 10.0**-digits, "another program"))
        s = (found - dL / C[1]) / (dL / C[0] - dL / C[1])
        checks.append(_check(f"data noise {v:g}: s that the formula needs", float(s), needed, 0.5 * width, "another program"))
    return checks


def _ball() -> list[Check]:
    """h times the exact time of leaving |x| < r with C = H, for any h; half a unit of the last digit."""
    checks = []
    for E, expected in ((6.0, 161.89), (10.0, 6545.8)):
        for h in (1.0, 4.0):
            process = fps.Process(fps.potentials.quadratic([[h]]), fps.Noise.isotropic(h / (2.0 * E)))  # lr/B = 1/E, r = 1
            time = fps.theory.mean_first_passage_1d(process, 0.0, 1.0, reflecting=0.0).value
            digits = 0.005 if expected < 1000.0 else 0.05
            checks.append(_check(f"ball, B r^2/lr = {E:g}, h = {h:g}: h times the time", h * time, expected, digits, "quadrature"))
            law = fps.theory.quadratic_exit_exponent([[h]], [[h]], lr=1.0, batch=E, radius=1.0).value
            checks.append(_check(f"ball, h = {h:g}: exponent of the law", law, E, 1e-12, "B r^2/lr"))
    return checks


def _plane(quick: bool) -> list[Check]:
    """Half of the first eigenvalue over Kramers' rate with det H = 2 at the minimum; 1 % for the cells."""
    checks, cells = [], (120, 60) if quick else (240, 120)
    for a, expected in ((0.0, 0.960), (3.0, 1.038)):
        U = fps.Potential.from_expression(f"(x**2 - 1)**2/4 + (1 + {a}*exp(-4*x**2))*y**2/2", "x y")
        D = 0.025
        grid = fps.Grid((-1.9, 1.9, cells[0]), (-1.1, 1.1, cells[1]))
        found = -float(fps.FokkerPlanck(fps.Process(U, fps.Noise.isotropic(D)), grid).spectrum(2).eigenvalues[1].real) / 2.0
        # growth 1 at the saddle, det H_a = 2 times 1, det H_s = -(1 + a)
        law = math.sqrt(2.0 / (1.0 + a)) / (2.0 * math.pi) * math.exp(-0.25 / D)
        checks.append(_check(f"plane, a = {a:g}: half of the eigenvalue / Kramers", found / law, expected, 0.01, "another program"))
    return checks


def _figure(floors: np.ndarray, curves: dict[float, list[float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = np.linspace(-4.0, 3.6, 300)
    left.plot(x, F(x[:, None]), color="k", label="f")
    left.plot(x, np.abs(F.hess(x[:, None])[:, 0, 0]), color="C1", label="|f''|, the noise of the formula")
    left.axvline(-math.sqrt(8.0 / 3.0), color="C3", lw=0.8, ls=":", label="inflection: no noise, drift inwards")
    left.set(xlabel="x", ylim=(-45, 90), title="Styblinski-Tang")
    left.legend(frameon=False)
    for i, (kappa, logs) in enumerate(curves.items()):
        right.plot(1.0 / floors, np.array(logs) * kappa, "o-", color=f"C{i}", label=f"kappa = {kappa}")
        right.axhspan(39.361778 / 34.583059, 39.361778 / 15.852612, color="0.8")
    right.set(xscale="log", xlabel="1/floor under |f''|", ylabel="kappa ln T", title="no s gives it (grey: formula)")
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)
