"""Arguments of `nets.train`: checked before any work, and turned into the constants of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import is_finite
from .mlp import MLP, Ensemble
from .run import Run

if TYPE_CHECKING:
    from fpsolve import SGDChain

__all__ = ["Settings", "duration", "initial_state", "settings"]

SAMPLING = ("shuffle", "replace")
OPTIMIZERS = ("sgd", "adam")
PRECISIONS = {"double": np.float64, "single": np.float32}

Schedule = float | Callable[[int], float] | ArrayLike


@dataclass(frozen=True)
class Settings:
    """The algorithm of one run; `chain` knows learning rate and batch size of every iteration."""

    chain: SGDChain
    sampling: str
    precision: str
    seed: int

    @property
    def dtype(self) -> type:
        """Type of the weights."""
        return PRECISIONS[self.precision]

    @property
    def facts(self) -> dict[str, Any]:
        """What is stored with the run; None stands for a schedule."""
        c = self.chain
        facts: dict[str, Any] = {"lr": c.lr, "batch": c.batch, "sampling": self.sampling, "momentum": c.momentum, "seed": self.seed}
        facts.update(optimizer=c.optimizer, precision=self.precision)
        if c.optimizer != "sgd":
            facts.update(betas=c.betas, eps=c.eps)
        return facts

    def rates(self, step: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Learning rate and batch size of the steps step + 1 .. stop."""
        c, n = self.chain, stop - step
        lr = np.full(n, c.lr) if c.lr is not None else np.array([c.lr_at(k) for k in range(step, stop)])
        batch = np.full(n, c.batch) if c.batch is not None else np.array([c.batch_at(k) for k in range(step, stop)])
        return lr, batch.astype(np.int64)

    def constants(self, decay: float) -> NDArray[Any]:
        """What the kernel takes: momentum, beta1, beta2, eps, weight decay, and the size below which a moment is set to zero."""
        c = self.chain
        return np.array([c.momentum, *c.betas, c.eps, decay, 1e8 * np.finfo(self.dtype).tiny], dtype=self.dtype)

    def check_schedules(self, first: int, steps: int) -> None:
        """Ask the schedules for the first and the last step, before any work."""
        for k in (first, first + steps - 1):
            lr = self.rates(k, k + 1)[0][0]
            if not 0.0 < self.dtype(lr) < math.inf:
                raise ValueError(f"lr = {lr:g} is no positive number of precision={self.precision!r}: use 'double'")


def settings(
    before: Run | None,
    ensemble: Ensemble,
    *,
    lr: Schedule | None,
    batch: int | Callable[[int], int] | ArrayLike | None,
    sampling: str | None,
    momentum: float | None,
    optimizer: str | None,
    betas: Sequence[float] | None,
    eps: float | None,
    precision: str | None,
    seed: int | None,
) -> Settings:
    """The settings of a new run, or of one that goes on: arguments left out are then those of the run before."""
    from fpsolve import SGDChain

    if before is not None:
        lr, batch = _resumed("lr", lr, before.lr), _resumed("batch", batch, before.batch)
        sampling, momentum = sampling or before.sampling, before.momentum if momentum is None else momentum
        for name, value, old in (("optimizer", optimizer, before.optimizer), ("precision", precision, before.precision)):
            if value not in (None, old):
                raise ValueError(
                    f"resume: the run used {name}={old!r}, not {value!r}; start anew from its weights with theta0=run.theta"
                )
        optimizer, precision, seed = before.optimizer, before.precision, before.seed
        betas, eps = before.betas if betas is None else betas, before.eps if eps is None else eps
    if lr is None or batch is None:
        raise ValueError("train needs lr (learning rate) and batch (batch size)")
    sampling, optimizer, precision = sampling or "shuffle", optimizer or "sgd", precision or "double"
    for name, value, known in (
        ("sampling", sampling, SAMPLING),
        ("optimizer", optimizer, OPTIMIZERS),
        ("precision", precision, tuple(PRECISIONS)),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}: got {value!r}")
    momentum = 0.0 if momentum is None else momentum
    if isinstance(momentum, bool) or not (isinstance(momentum, (int, float, np.number)) and 0.0 <= momentum < 1.0):
        raise ValueError(f"momentum must lie in [0, 1): got {momentum!r}")
    _check_constants(lr, batch, sampling, ensemble.size)
    chain = SGDChain(ensemble, lr, batch, float(momentum), sampling, optimizer=optimizer, betas=betas, eps=eps)
    if optimizer == "adam" and not np.asarray(chain.eps, PRECISIONS[precision]) > 0.0:
        raise ValueError(f"eps must be above 0 in precision={precision!r}, or weights without gradient become 0/0: got {eps!r}")
    return Settings(chain, sampling, precision, resolve_seed(seed))


def _resumed(name: str, value: Any, old: Any) -> Any:
    if value is None and old is None:
        raise ValueError(f"resume: {name} of the run was a schedule, which is not stored: give {name}= again")
    return old if value is None else value


def _check_constants(lr: Any, batch: Any, sampling: str, n: int) -> None:
    number = isinstance(lr, (int, float, np.integer, np.floating)) and not isinstance(lr, bool)
    if not callable(lr) and np.ndim(lr) == 0 and not (number and is_finite(lr) and lr > 0.0):
        raise ValueError(f"lr must be finite and > 0: got {lr!r}")
    if callable(batch) or np.ndim(batch) == 1:
        return
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise ValueError(f"batch must be a positive integer: got {batch!r}")
    if sampling == "shuffle" and batch > n:
        raise ValueError(f"batch must be at most {n}, the number of training samples, with sampling='shuffle': got {batch}")


def resolve_seed(seed: int | None) -> int:
    """The seed itself, or a fresh one, which the result records."""
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be None or an integer in 0 .. 2**63 - 1: got {seed!r}")
    return int(seed)


def duration(epochs: int | None, steps: int | None, n: int, batch: int | None) -> int:
    """Number of steps."""
    if (epochs is None) == (steps is None):
        raise ValueError(f"give exactly one of epochs and steps: got epochs={epochs!r}, steps={steps!r}")
    name, value = ("epochs", epochs) if steps is None else ("steps", steps)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value < 2**53:
        raise ValueError(f"{name} must be a positive integer (below 2^53): got {value!r}")
    if name == "steps":
        return int(value)
    if batch is None:
        raise ValueError("with a schedule of batch sizes an epoch has no fixed number of steps: give steps instead of epochs")
    if batch > n:
        raise ValueError(f"an epoch of {n} samples has no full batch of {batch}: give steps instead of epochs")
    return int(value) * (n // batch)


def initial_state(mlp: MLP, before: Run | None, how: Settings, theta0: ArrayLike | None, n: int) -> dict[str, NDArray[Any]]:
    """Weights, moments, generator and order of samples at the start, or where the run before ended."""
    if before is not None:
        if theta0 is not None:
            raise ValueError("theta0 and resume exclude each other: a resumed run starts from the weights it ended with")
        state = {name: np.array(before.state[name]) for name in ("theta", "velocity", "rng", "perm", "cursor")}
        state["second"] = np.array(before.state.get("second", state["theta"][:0]))
        return state
    from ._kernels import seed_rng

    theta = mlp.init(how.seed) if theta0 is None else mlp.check_point(theta0, "theta0").copy()
    limit = np.finfo(how.dtype).max
    if np.abs(theta).max() > limit:
        raise ValueError(f"theta0 must not exceed {limit:.3g}, the largest number of precision={how.precision!r}")
    theta = theta.astype(how.dtype)
    rng = np.empty(4, dtype=np.uint64)
    seed_rng(np.uint64(how.seed), rng)
    return {
        "theta": theta,
        "velocity": np.zeros_like(theta),
        "second": np.zeros_like(theta) if how.chain.optimizer == "adam" else theta[:0].copy(),
        "rng": rng,
        "perm": np.arange(n, dtype=np.int64),
        "cursor": np.array([n, 0], dtype=np.int64),
    }
