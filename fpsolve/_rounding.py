"""Single precision: what it is refused for, and what its rounding does to the numbers of a run.

Every run in single precision is followed by a measurement: 256 of its paths are integrated twice with the same normals, in
single and in double precision. While the two paths of a pair stay together, which noise makes most dissipative systems do, the
mean of their differences has a tiny error, and the effect of rounding on means and variances is known far below the statistical
error of the run. Where pairs come apart (positive Lyapunov exponent) only means can be compared, and 256 paths may not suffice:
then the verdict is "unknown". What is not seen: off-diagonal covariances, tails, and the normals, which both paths share.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray

from ._fused import path_kernels
from ._model import Model
from ._paths import FusedRun, Plan, Records
from ._runner import run_chunks
from ._schemes import Step
from ._single import PRECISIONS, check_codes, narrowed
from ._step_text import Fused
from .results import Assumption, Estimate

__all__ = ["check_precision", "measure_rounding", "single_arguments", "warn_of_rounding"]

Array = NDArray[np.float64]

#: Pairs of paths: one block.
PAIRS = 256
#: Recorded times that are looked at, at most.
TIMES = 64
#: What rounding may be, in statistical errors, and how many of its own errors it must be away from that.
LIMIT, SIGMAS = 0.5, 3.0
#: Name of the assumption.
SMALL = f"rounding below {LIMIT:g} statistical errors"


def check_precision(precision: object, model: Model | None) -> bool:
    """Whether the run is one in single precision; `model` is None for SGD on sample losses.

    Raises
    ------
    ValueError
        For another word, and where single precision is refused.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be 'double' or 'single', got {precision!r}")
    if precision == "double":
        return False
    reason = ""
    if model is None:
        reason = "SGD on sample losses computes in NumPy, in double precision"
    elif model.process.noise.stable is not None:
        reason = "Levy noise makes jumps of all sizes, which need the range and the digits of double precision"
    elif model.walls is not None:
        reason = "walls put states back by differences that need the digits of double precision"
    elif model.changing:
        reason = "the constants of a schedule are kept in double precision"
    elif model.is_matrix:
        reason = "linear processes above 8 dimensions run as a matrix product in double precision"
    elif model.is_wide:
        reason = "models of more than 16 dimensions run in double precision"
    if reason:
        raise ValueError(f"precision='single' is refused: {reason}; use precision='double'")
    assert model is not None
    check_codes((model.process.drift_code, model.process.factor_code))
    return True


def single_arguments(model: Model, step: Step, points: Array) -> tuple[NDArray[np.float32], ...]:
    """Constants and parameters in single precision; the starting points must fit into it too."""
    check_codes((step.drift, step.factor))  # those of the scheme: derivatives of the factor
    narrowed(points, "x0", tiny=True)
    names = ("a number that follows from dt", "a parameter of the drift", "a parameter of the noise")
    return tuple(narrowed(values, name) for values, name in zip(model.arguments(step), names, strict=True))


def measure_rounding(
    model: Model, step: Step, fused: Fused, points: Array, plan: Plan, n: int, seed: int, first: int = 0
) -> Estimate | None:
    """The largest effect of rounding on a mean or a variance, in statistical errors of a run of `n` paths.

    Parameters
    ----------
    model, step, fused, points, plan, seed, first
        Of the run, `fused` in single precision. Individual starting points are thinned or repeated.

    Returns
    -------
    Estimate or None
        None if Ctrl-C came. The value is ``|mean difference|`` over the statistical error, of that mean or variance for which it
        is least known to be small, ``stderr`` the error of this.
    """
    if len(points) > 1:
        points = points[np.linspace(0, len(points) - 1, PAIRS).round().astype(int)]
    if plan.start is not None:
        short = Plan(plan.steps, start=plan.start, every=plan.every)
    else:
        stops = sorted({s for s in plan.stops if s > 0} or {plan.steps})
        chosen = np.unique(np.linspace(0, len(stops) - 1, min(len(stops), TIMES)).round().astype(int))
        short = Plan(plan.steps, tuple(stops[i] for i in chosen))
    found = []
    for kernels, arguments in (
        (fused, single_arguments(model, step, points)),
        (path_kernels(step, arithmetic="twin"), model.arguments(step)),
    ):
        records = Records(PAIRS, model.shown, short)
        run = FusedRun(kernels, arguments, points, model.shown, seed, short, records, first=first)
        run.prepare(PAIRS)
        if run_chunks(run.work, [(0, PAIRS)], 1, total=float(PAIRS) * plan.steps, progress=False, label="rounding"):
            return None
        found.append(_firsts_and_seconds(records))
    return _verdict(found[0], found[1], n)


def _firsts_and_seconds(records: Records) -> tuple[Array, Array]:
    """Per time, path and component: the state and zero, or its mean over time and its variance in time."""
    if records.states is not None:
        return records.states, np.zeros_like(records.states)
    assert records.means is not None and records.squares is not None
    d = records.means.shape[1]
    return records.means[None], records.squares[None, :, [i * (i + 3) // 2 for i in range(d)]]


def _verdict(single: tuple[Array, Array], double: tuple[Array, Array], n: int) -> Estimate:
    """Compare means and variances (about the common mean) of pairs of paths."""
    method = f"{PAIRS} pairs of paths in single and double precision with the same normals"
    finite = [np.isfinite(first + second).all(axis=(0, 2)) for first, second in (single, double)]
    apart, good = int(np.sum(finite[0] != finite[1])), finite[0] & finite[1]
    if apart:
        detail = f"{apart} of {PAIRS} paths became non-finite in one precision only"
        return Estimate(math.inf, assumptions=(Assumption(SMALL, "failed", detail),), method=method)
    if good.sum() < 2:
        return Estimate(math.nan, assumptions=(Assumption(SMALL, "unknown", "the paths became non-finite"),), method=method)
    center = double[0][:, good].mean(axis=1, keepdims=True)
    a, b = (
        np.stack([first[:, good], second[:, good] + (first[:, good] - center) ** 2]) for first, second in (single, double)
    )  # (mean or variance, time, path, component)
    m = int(good.sum())
    shift, doubt = np.abs((a - b).mean(axis=2)), (a - b).std(axis=2, ddof=1) / math.sqrt(m)
    error = b.std(axis=2, ddof=1) / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        size, width = (np.where(part == 0.0, 0.0, part / error) for part in (shift, doubt))
        least = np.where(np.isinf(size), np.inf, size - SIGMAS * width)
    bad = bool(least.max() > LIMIT)
    worst = np.unravel_index(np.argmax(least if bad else size + SIGMAS * width), size.shape)
    held = size[worst] + SIGMAS * width[worst] < LIMIT
    what = f"{('mean', 'variance')[worst[0]]} of component {worst[2]}"
    number, its_error = float(size[worst]), float(width[worst])
    assumption = Assumption(SMALL, "failed" if bad else "held" if held else "unknown", what)
    return Estimate(number, its_error if math.isfinite(its_error) else 0.0, assumptions=(assumption,), method=method)


def warn_of_rounding(rounding: Estimate | None, n: int) -> None:
    """Say so where rounding is not shown to be small."""
    if rounding is None or rounding.assumptions[0].status == "held":
        return
    found = rounding.assumptions[0]
    size = f"{rounding.value:.2g} +- {rounding.stderr:.1g} statistical errors of {n} paths ({found.detail})"
    if found.status == "failed":
        text = f"rounding in single precision is not small: {size}; use precision='double', or coordinates around the origin"
    else:
        text = (
            f"rounding in single precision is not shown to be small: {size}: the paths of single and double precision come apart, "
            "so that 256 pairs do not suffice; compare with precision='double'"
        )
    warnings.warn(text, RuntimeWarning, stacklevel=3)
