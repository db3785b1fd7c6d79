"""What a run of paths is asked: its numbers, its words for results and checkpoints, its starting points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checkpoint import describe_chain, describe_process, describe_schedule, problem_digest
from ._model import MAX_STEPS, Model
from ._runner import check_count, check_first, resolve_seed, thread_count
from ._schedule import DrivenConstants
from .chains import SGDChain
from .region import Region

__all__ = ["NO_WALLS", "check_pace", "described", "digest_of", "labels_of", "run_numbers", "starts_of"]

Array = NDArray[np.float64]

NO_WALLS = (
    "walls are refused for SGD on sample losses and for Adam and Adai, which know no box; they are for a Process, for Underdamped "
    "and for SGDChain.gaussian with plain SGD or momentum"
)


def run_numbers(n: Any, seed: Any, threads: Any, first: Any) -> tuple[int, int, int, int]:
    """(trajectories, seed, threads, first trajectory), checked."""
    count = check_count("n", n)
    start = check_first(first, count, seed)
    return count, resolve_seed(seed), thread_count(threads), start


def labels_of(chain: SGDChain | None, model: Model | None, seed: int, first: int) -> tuple[float, int, dict[str, Any]]:
    """(duration of a step in the unit of the times, components of a state, what the results say of the run)."""
    if chain is not None:
        words = {"unit": "iteration", "dt": None, "method": chain.label, "lr": chain.lr, "batch": chain.batch}
        return 1.0, chain.dim, {**words, "seed": seed, "first": first}
    assert model is not None
    discrete = model.unit == "iteration"
    words = {"unit": model.unit, "dt": None if discrete else model.h, "method": model.method, "lr": model.lr, "batch": model.batch}
    return 1.0 if discrete else model.h, model.shown, {**words, "seed": seed, "first": first}


def described(chain: SGDChain | None, model: Model | None, limit: int | None) -> str:
    """The equations as words, for a checkpoint; a schedule counts up to the limit of the run."""
    if chain is not None:
        return describe_chain(chain, limit)
    assert model is not None
    settings = ", ".join(f"{name} {value!r}" for name, value in model.settings.items())
    if model.schedule is not None:
        settings += f" schedule {describe_schedule(model.schedule, limit)}"
    if model.driven is not None:
        changes = DrivenConstants(model.driven, model.h, model.constants, limit, model.moving)
        settings += f"coefficients in time #{changes.digest()}"
    return f"{model.scheme.equations}, {settings or 'no settings'}, {describe_process(model.process)}"


def digest_of(chain: SGDChain | None, model: Model | None, points: Array, **call: Any) -> str:
    """Digest of the question that a run answers."""
    if model is not None:
        how = (model.scheme.equations, sorted(model.settings.items()), type(model.driven).__name__)
        return problem_digest(how, model.process, points, **call)
    assert chain is not None
    fixed = [value for value in (chain.lr, chain.batch) if not callable(value)]
    momentum = (chain.momentum, chain.nesterov, chain.optimizer, chain.betas, chain.eps)
    words = (chain.label, chain.kind, chain.dim, chain.size, chain.sampling, chain.sigma, momentum, fixed)
    return problem_digest(words, chain.reference, points, **call)


def starts_of(points: Array, lo: int, hi: int) -> Array:
    """Starting points (hi - lo, dim) of a group of trajectories."""
    return points[lo:hi] if len(points) > 1 else np.repeat(points, hi - lo, axis=0)


def check_pace(model: Model, points: Array, region: Region) -> None:
    """Refuse a step so short that MAX_STEPS of them lead nowhere: such a run would never end.

    How far the drift and ten standard deviations of the noise lead is taken from the strongest of both within that distance: if all
    points around a start, from there inwards, are inside the region, no path comes out.
    """
    d = model.process.dim
    if model.changing or region.dim != d:
        return
    time, x, reach = MAX_STEPS * model.h, points[:4, :d], 0.0
    scales = np.concatenate([[0.0], 0.5 ** np.arange(60.0)])
    around = np.concatenate([sign * scale * np.eye(d) for scale in scales for sign in (1.0, -1.0)])
    for _ in range(100):
        with np.errstate(all="ignore"):
            near = (x[:, None] + reach * around).reshape(-1, d)
            if not (np.isfinite(near).all() and np.all(region.contains(near))):
                return
            further = _reach(model, near, points[:4, d:], time)
        if not further <= 2.0 * reach:
            reach = further
            continue
        step = "lr" if model.unit == "iteration" else "dt"
        raise ValueError(
            f"{step} = {model.h:g} is so short that {MAX_STEPS:.0e} steps lead no further than {reach:.2g} from x0 = "
            f"{x[0].tolist()}, and the surface of the region is beyond, where no run comes: take a longer {step}, or stronger noise"
        )


def _reach(model: Model, x: Array, velocities: Array, time: float) -> float:
    """How far a path comes in that time at most, with the strongest drift and noise at the points x."""
    process = model.process
    drift = float(np.max(np.linalg.norm(process.drift(x), axis=-1)))
    law = process.noise.stable
    if law is not None:
        return drift * time + float(law.scale * (1e6 * time) ** (1.0 / law.alpha))
    spread = math.sqrt(2.0 * float(np.max(np.trace(process.diffusion(x), axis1=-2, axis2=-1))) * time)
    if model.scheme.equations != "underdamped":
        return drift * time + 10.0 * spread
    rate = model.settings["friction"] / model.settings["mass"]
    return time * (float(np.max(np.abs(velocities), initial=0.0)) + rate * (drift * time + 10.0 * spread))
