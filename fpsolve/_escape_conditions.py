"""What escape formulas need, tested: along the most probable path, at the saddles, and where the region ends."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ._escape_case import LOW, Case, Flow, Way
from .noise import Noise
from .results import Assumption, Path

__all__ = ["ENDS", "OF_STEPS", "conditions", "frozen_noise", "is_white"]

Array = NDArray[np.float64]

#: What counts as a high barrier, small, nearly constant and not far below.
BARRIER, SMALL, CONSTANT, FAR_BELOW = 6.0, 0.1, 0.5, 0.1
#: Index of the stable law above which tails count as Gaussian ones.
GAUSSIAN = 1.8
#: In standard deviations of the density across a saddle: how far off it the region of first arrivals may end (8 % of the time), and
#: how far beyond it that of crossings must reach (from there one path in six comes back).
NEAR, BEYOND = 0.1, 1.0
#: Names of conditions that the conclusion asks for: where the region ends, and what the equation needs to stand for the chain.
ENDS = "the region ends where the laws do"
KICK, CURVATURE, TAILS = (
    "one step's noise is small against the valley", "lr times the largest curvature is small", "gradient noise has Gaussian tails",
)  # fmt: skip
OF_STEPS = (KICK, CURVATURE, TAILS)
_OF_ADAM = "Adam divides by the size of the noise: see the formula's own assumptions"


def conditions(case: Case, path: Path | None) -> tuple[Assumption, ...]:
    """When an escape formula is good, tested along the most probable path (a straight line where none is known)."""
    x = case.a + np.linspace(0.0, 1.0, 401)[:, None] * (case.s - case.a)
    tangents = np.broadcast_to((case.s - case.a) / np.linalg.norm(case.s - case.a), x.shape)
    if path is not None and path.dim > 1:
        x, tangents = path.points, path.tangents
    D = np.einsum("ni,nij,nj->n", tangents, case.process.diffusion(x), tangents)
    kick = math.sqrt(2.0 * (case.lr or 0.0) * float(D.max()))
    if case.chain is not None:
        D = D / (1.0 - case.chain.momentum)  # the temperature of heavy ball
    ends, lowest = D[[0, -1]], float(D.min())
    place = ", ".join(f"{v:.4g}" for v in x[int(np.argmin(D))])
    spread = lowest / float(D.max()) if D.max() > 0.0 else 0.0
    share = lowest / float(ends.min()) if ends.min() > 0.0 else 0.0
    width = float(np.linalg.norm(case.s - case.a))
    values = np.linalg.eigvalsh(case.process.diffusion(x))
    everywhere = Assumption("noise acts in every direction", _status(bool(values[:, 0].min() > 1e-10 * values.max())),
                            f"eigenvalues of D on the path {values[:, 0].min():.3g} to {values.max():.3g}")  # fmt: skip
    return (
        *((everywhere,) if case.process.dim > 1 else ()),
        _barrier(case, ends),
        Assumption("D changes little between minimum and saddle", _status(spread >= CONSTANT), f"least over largest {spread:.3g}"),
        Assumption(
            "D is nowhere on the path far below its values at the ends", _status(share >= FAR_BELOW),
            f"falls to {share:.3g} of the smaller one, at ({place})",
        ),
        _kick(case, kick, width),
        _tails(case),
        Assumption("noise is left at the minimum", _status(float(ends[0]) > 0.0), f"D = {ends[0]:.4g}"),
        _step(case),
        _ends(case),
        _alone(case),
    )  # fmt: skip


def _ends(case: Case) -> Assumption:
    """Whether the region is left at every saddle, or beyond it with little chance of coming back, as `exit` says."""
    if case.adaptive:
        return Assumption(ENDS, "unknown", _OF_ADAM)
    flow, drag = Flow(case.process), 1.0 if case.chain is None else 1.0 - case.chain.momentum
    found = []
    for way in case.ways:
        e = way.down[0] - way.s
        e = e / np.linalg.norm(e)
        D = float(e @ case.process.diffusion(way.s) @ e) / drag
        width = max(math.sqrt(D / flow.outward(way.s)[0]), 1e-6 * float(np.linalg.norm(way.s - case.a)))
        found.append(_arrival(case, way, NEAR * width * e) if case.exit == "saddle" else _crossing(case, way, width))
    return next((a for a in found if a.status == "failed"), found[0])


def _arrival(case: Case, way: Way, off: Array) -> Assumption:
    before, after = (bool(case.region.contains(way.s + sign * off)) for sign in (-1.0, 1.0))
    where = "at" if before and not after else "beyond" if before else "before"
    return Assumption(ENDS, _status(where == "at"), f"{where} the saddle [{_numbers(way.s)}]; exit='saddle' is the arrival there")


def _crossing(case: Case, way: Way, width: float) -> Assumption:
    points = np.vstack([way.s, way.down, *([] if way.target is None else [way.target])])
    outside = ~case.region.contains(points)
    if not outside.any():
        return Assumption(ENDS, "failed", f"the way down from the saddle [{_numbers(way.s)}] stays inside it")
    k = int(np.argmax(outside))
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    between = points[k - 1] + np.linspace(0.0, 1.0, 1025)[:, None] * (points[k] - points[k - 1])
    share = float(np.argmax(~case.region.contains(between))) / 1024.0
    far = (float(lengths[: k - 1].sum()) + share * float(lengths[k - 1])) / width
    return Assumption(ENDS, _status(far >= BEYOND), f"{far:.3g} standard deviations beyond the saddle [{_numbers(way.s)}]")


def _numbers(x: Array) -> str:
    return ", ".join(f"{v:.4g}" for v in x[:4]) + (", ..." if x.size > 4 else "")


def _alone(case: Case) -> Assumption:
    name, counted = "no other saddle is nearly as low", len(case.ways)
    if case.lower is None:
        more = f", besides the {counted} that are counted" if counted > 1 else ""
        return Assumption(name, "unknown", f"not looked for: give box={more}")
    if counted > 1:
        return Assumption(name, "held", f"all {counted} in the box are counted")
    cure = "; saddle='all' adds their rates" if case.lower else ""
    return Assumption(name, _status(case.lower == 0), f"{case.lower} others within a tenth of the barrier or {LOW:g} D{cure}")


def _status(ok: bool) -> Literal["held", "failed"]:
    return "held" if ok else "failed"


def _barrier(case: Case, ends: Array) -> Assumption:
    name = "barrier / D >= 6 at minimum and saddle"
    if case.U is None:
        return Assumption(name, "unknown", "the drift has no potential; see the quasi-potential")
    height = float(case.U(case.s) - case.U(case.a))
    if case.adaptive:
        return Assumption(name, "unknown", _OF_ADAM)
    if not ends.min() > 0.0:
        return Assumption(name, "unknown", f"D vanishes at an end, the barrier is {height:.4g}")
    return Assumption(name, _status(height >= BARRIER * ends.max()), f"{height / ends[0]:.4g} and {height / ends[1]:.4g}")


def _kick(case: Case, kick: float, width: float) -> Assumption:
    if case.lr is None:
        return Assumption(KICK, "held", "no learning rate: the equation has no steps")
    if case.adaptive:
        return Assumption(KICK, "unknown", _OF_ADAM)
    return Assumption(KICK, _status(kick <= SMALL * width), f"{kick:.3g} against {width:.3g}")


def _step(case: Case) -> Assumption:
    name = CURVATURE
    if case.adaptive:
        return Assumption(name, "unknown", _OF_ADAM)
    if case.lr is None:
        return Assumption(name, "held", "no learning rate: the equation has no steps")
    size = case.lr * float(np.abs(np.linalg.eigvals(Flow(case.process).slope(case.a))).max())
    return Assumption(name, _status(size <= SMALL), f"{size:.3g}")


def _tails(case: Case) -> Assumption:
    """The index of a stable law from block sums of one component of the samples' gradients (2 for Gaussian tails)."""
    name = TAILS
    ensemble = None if case.chain is None else case.chain.ensemble
    if ensemble is None:
        return Assumption(name, "held", "the noise model is Gaussian; that of data needs gradients of single samples")
    e = (case.s - case.a) / np.linalg.norm(case.s - case.a)
    g = np.asarray(ensemble.sample_gradients(case.a)) @ e
    block = max(2, int(math.sqrt(g.size)))
    g = np.random.default_rng(0).permutation(g - g.mean())[: g.size // block * block]
    sums = np.abs(g.reshape(-1, block).sum(axis=1))
    g, sums = np.abs(g[g != 0.0]), sums[sums > 0.0]
    if g.size < 1000 or not sums.size:
        return Assumption(name, "unknown", f"{g.size} samples are too few")
    logs, log_sums = np.log(g), np.log(sums)
    inverse = float(log_sums.mean() - logs.mean()) / math.log(block)
    error = math.sqrt(log_sums.var() / log_sums.size + logs.var() / logs.size) / math.log(block)
    index, most = (min(2.0, 1.0 / v) if v > 0.5 else 2.0 for v in (inverse, inverse - 2.0 * error))
    verdict: Literal["held", "failed", "unknown"] = "held" if index >= GAUSSIAN else "failed" if most < GAUSSIAN else "unknown"
    return Assumption(name, verdict, f"index of a stable law across the saddle {index:.3g}, at most {most:.3g}")


def frozen_noise(case: Case, s: Array) -> Noise:
    """Isotropic noise with the D of the minimum along the way to s, as the law of white noise takes it."""
    e = (s - case.a) / np.linalg.norm(s - case.a)
    return Noise.isotropic(float(e @ case.process.diffusion(case.a) @ e))


def is_white(case: Case, s: Array) -> Assumption:
    """Whether that noise is the one there is: in every direction, all along the way, within a factor two."""
    values = np.linalg.eigvalsh(case.process.diffusion(case.a + np.linspace(0.0, 1.0, 401)[:, None] * (s - case.a)))
    low, high = float(values.min()), float(values.max())
    return Assumption(
        "the noise is white and isotropic", _status(low >= CONSTANT * high), f"eigenvalues of D {low:.3g} to {high:.3g}"
    )
