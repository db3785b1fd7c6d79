"""Motion with inertia in a double well at friction 0.1 to 20: paths against a spectral solution of the Klein-Kramers equation.

The position basis is a sinc grid, the velocity basis Hermite polynomials. With f = exp(U/2T) sum_n phi_n(x) h_n(v) the backward
operator couples neighbouring n only,

    (L phi)_n = sqrt(n) A phi_{n-1} - sqrt(n+1) A^T phi_{n+1} - g n phi_n,     A = sqrt(T) (d/dx + U'/(2T)),

(Brinkman's hierarchy; Risken, The Fokker-Planck Equation, ch. 10). L^T = S L S with S = (-1)^n, so left modes come with the right
ones. Mass 1, temperature T, U = x^4/4 - x^2/2: wells at -1 and 1, barrier 1/4, four times T.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse import linalg as sla

import fpsolve as fps

from . import Check

NAME = "klein-kramers"
GROUP = "paths"
CLAIM = "Escape with inertia is slow at weak and at strong friction: paths follow the Klein-Kramers equation throughout."
STANDING = "derived"
EQUATION = """
(L phi)_n = sqrt(n) A phi_(n-1) - sqrt(n + 1) A^T phi_(n+1) - g n phi_n
A = sqrt(T) (d/dx + U'/(2 T)), U = x^4/4 - x^2/2
"""

Array = NDArray[np.float64]

T = 0.0625  # barrier/T = 4
FRICTIONS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0)
TIMES = (40.0, 120.0)
DT = 0.02
MODES = 60


def modes(friction: float, n: int = 160, m: int = 60, width: float = 2.6) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Slowest eigenvalues, and the weights c of E[x(t) | x = -1, v = 0] = Re sum c exp(lambda t)."""
    if friction >= 1.0:
        n = 40
    x = np.linspace(-width, width, m)  # sinc functions; exp(-U/2T) is 1e-29 at the ends
    apart = np.arange(m)[:, None] - np.arange(m)[None, :]
    derivative = np.where(apart == 0, 0.0, (-1.0) ** apart / (np.where(apart == 0, 1, apart) * (x[1] - x[0])))
    A = math.sqrt(T) * (derivative + np.diag((x**3 - x) / (2 * T)))
    up = sp.diags(np.sqrt(np.arange(1.0, n)), -1)
    L = (sp.kron(up, A) - sp.kron(up.T, A.T) - friction * sp.kron(sp.diags(np.arange(float(n))), sp.eye(m))).tocsc()
    shift = 1e-7  # next to the eigenvalue 0
    solve = sla.splu(L - shift * sp.eye(n * m, format="csc")).solve
    values, right = sla.eigs(L, k=MODES, sigma=shift, OPinv=sla.LinearOperator(L.shape, solve), v0=np.ones(n * m))
    order = np.argsort(-values.real)
    values, right = values[order], right[:, order].reshape(n, m, -1)
    left = right * ((-1.0) ** np.arange(n))[:, None, None]
    root = np.exp(-(x**4 / 4 - x**2 / 2) / (2 * T))
    overlap = np.einsum("xk,x->k", left[0], root * x) / np.einsum("nxk,nxk->k", left, right)
    hermite = np.zeros(n)  # normalised Hermite polynomials at v = 0
    hermite[0] = 1.0
    for k in range(2, n, 2):
        hermite[k] = -hermite[k - 2] * math.sqrt((k - 1) / k)
    at_start = np.sinc((-1.0 - x) / (x[1] - x[0])) @ np.einsum("nxk,n->xk", right, hermite) * math.exp(-0.25 / (2 * T))
    return values, overlap * at_start


def reference(friction: float) -> tuple[Array, float]:
    """E[x] at TIMES, and the slowest rate."""
    values, weights = modes(friction)
    if math.exp(values[-1].real * TIMES[0]) > 1e-6:
        raise fps.FpsolveError(f"{MODES} modes do not reach down to t = {TIMES[0]} at friction {friction}")
    means = np.array([float(np.sum(weights * np.exp(values * t)).real) for t in TIMES])
    return means, -float(values[1].real)


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """E[x] at two times and the rate of decay between them; figure klein-kramers.png."""
    n = 20_000 if quick else 400_000
    U = fps.Potential.from_expression("x**4/4 - x**2/2")
    checks, rows = [], []
    for i, g in enumerate(FRICTIONS):
        exact, slowest = reference(g)
        process = fps.Underdamped(U, fps.Noise.isotropic(T / g), friction=g)
        # BAOAB diffuses (u coth u) times too fast, u = g dt/2: nothing to see up to g = 5, 1.3 % at 20, where GJF is exact
        method = "baoab" if g < 10 else "gjf"
        paths = fps.simulate(process, [-1.0], t=TIMES[-1], dt=DT, n=n, method=method, save=TIMES, seed=300 + i, progress=progress)
        assert paths.states is not None
        x = paths.states[:, :, 0]
        mean, cov = x.mean(axis=1), np.cov(x) / n
        # Four standard errors, bounded before the run: E[x^2] < 1, so var x < 1 - E[x]^2. False alarms below 6e-5 a check
        for k, t in enumerate(TIMES):
            width = 4.0 * math.sqrt((1.0 - exact[k] ** 2) / n)
            checks.append(
                Check(
                    name=f"friction {g:g}: E[x] at t = {t:g}",
                    measured=float(mean[k]),
                    stderr=math.sqrt(cov[k, k]),
                    expected=float(exact[k]),
                    band=(float(exact[k]) - width, float(exact[k]) + width),
                    source="Klein-Kramers equation, spectral",
                )
            )
        span = TIMES[1] - TIMES[0]
        rate = math.log(mean[0] / mean[1]) / span
        gradient = np.array([1 / mean[0], -1 / mean[1]]) / span
        rows.append((g, slowest, math.log(exact[0] / exact[1]) / span, rate, math.sqrt(gradient @ cov @ gradient)))
    checks += _turnover(rows)
    _figure(rows, out / f"{NAME}.png")
    return checks


def _turnover(rows: list[tuple[float, float, float, float, float]]) -> list[Check]:
    """The fastest decay lies between the ends; at friction 20 the overdamped equation has the rate up to O(1/g^2)."""
    rates, errors = np.array([r[3] for r in rows]), np.array([r[4] for r in rows])
    top = int(np.argmax([r[2] for r in rows]))
    checks = []
    for end, name in ((0, "weak"), (-1, "strong")):
        z = (rates[top] - rates[end]) / math.hypot(errors[top], errors[end])
        checks.append(
            Check(
                name=f"{name} friction is slower, in standard errors",
                measured=float(z),
                expected=math.inf,
                band=(4.0, math.inf),
                source="turnover",
            )
        )
    g = FRICTIONS[-1]
    light = fps.Process(fps.Potential.from_expression("x**4/4 - x**2/2"), fps.Noise.isotropic(T))  # in the time t/g
    overdamped = float(fps.FokkerPlanck(light, fps.Grid((-2.2, 2.2, 800))).spectrum(2).rates[1]) / g
    # Kramers: sqrt(g^2/4 + w^2) - g/2 = (w^2/g)(1 - w^2/g^2 + ...), w = 1 at the saddle; the band allows for terms as large again
    checks.append(
        Check(
            name="friction 20: slowest rate / overdamped Fokker-Planck",
            measured=rows[-1][1] / overdamped,
            expected=1.0 - 1.0 / g**2,
            band=(1.0 - 2.0 / g**2, 1.0),
            source="Fokker-Planck engine",
        )
    )
    return checks


def _figure(rows: list[tuple[float, float, float, float, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    ax = figure.subplots()
    g = np.array([r[0] for r in rows])
    ax.loglog(g, [r[2] for r in rows], "-", color="0.6", label="Klein-Kramers equation")
    ax.errorbar(g, [r[3] for r in rows], [r[4] for r in rows], fmt="o", ms=4, label="paths")
    ax.set(
        xlabel="friction",
        ylabel=f"decay rate of E[x], t = {TIMES[0]:g} to {TIMES[1]:g}",
        title=f"turnover, barrier/T = {0.25 / T:g}",
    )
    ax.legend(frameon=False)
    figure.savefig(path, dpi=120)
