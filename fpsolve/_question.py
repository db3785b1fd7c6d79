"""What a run of paths is asked: its numbers, its words for results and checkpoints, its starting points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checkpoint import describe_chain, describe_process, describe_schedule, problem_digest
from ._model import Model
from ._runner import check_count, check_first, resolve_seed, thread_count
from ._schedule import DrivenConstants
from .chains import SGDChain

__all__ = ["NO_WALLS", "described", "digest_of", "labels_of", "run_numbers", "starts_of"]

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
