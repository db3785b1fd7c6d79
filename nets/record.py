"""What a training run records, and the running sums behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers
from .mlp import MLP
from .parameters import Model

__all__ = ["Record"]

Array = NDArray[np.float64]

#: Rows of weights waiting to be digested never take more memory than this (bytes).
ROW_BYTES = 8_000_000
#: The sums over every step cost under 5 % up to this many parameters; beyond, they are off unless asked for.
SUMS_UP_TO = 20_000


@dataclass(frozen=True, eq=False)
class Record:
    r"""What `nets.train` records. Nothing recorded ever changes the trajectory.

    Steps are counted from the start of training (a resumed run goes on counting), and a record "every k steps" is taken after
    the steps whose number is a multiple of k.

    Attributes
    ----------
    weights : str, sequence of str, or None
        Blocks ("W1", "b1", ...; "all") whose values are kept.
    weights_every : int, optional
        Default: about 200 records, at most 20 MB.
    losses_every : int, optional
        Loss and error over the whole training set, with the full gradient's :math:`(\theta - c)\cdot\nabla L` and
        :math:`|\nabla L|^2`. Default: about 200 evaluations.
    test : bool
        Evaluate the test set on the same schedule.
    center, basis : arrays of shapes (P,) and (P, k), optional
        Projections :math:`y = Q^T(\theta - c)` with c = `center`, Q = `basis` (columns need not be orthonormal). Take c near the
        weights of the run, such as the mean of a pilot: moments about a far point lose the digits of a small variance.
    moments_every : int
        Mean and covariance of y are accumulated every that many steps.
    projections_every : int, optional
        The series of y itself is kept every that many steps (a multiple of `moments_every`). Default: at most 100 000 numbers.
    blocks : int
        Number of equal stretches of time over which sums are also kept apart (error bars, drifts).
    sums : bool, optional
        Accumulate the mean weights and the sums of the fluctuation-dissipation relation over **every** step. Default: up to
        20 000 parameters.
    max_bytes : int
        A run that would record more is refused before it starts.

    Examples
    --------
    >>> Record(weights="W2", weights_every=10).weights
    'W2'
    """

    weights: str | Sequence[str] | None = "all"
    weights_every: int | None = None
    losses_every: int | None = None
    test: bool = False
    center: ArrayLike | None = None
    basis: ArrayLike | None = None
    moments_every: int = 1
    projections_every: int | None = None
    blocks: int = 128
    sums: bool | None = None
    max_bytes: int = 200_000_000

    def __post_init__(self) -> None:
        for name in ("weights_every", "losses_every", "moments_every", "projections_every", "blocks", "max_bytes"):
            value = getattr(self, name)
            optional = name in ("weights_every", "losses_every", "projections_every")
            if not (optional and value is None) and (
                isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value < 2**53
            ):
                raise ValueError(f"Record: {name} must be a positive integer: got {value!r}")
        if (self.center is None) != (self.basis is None):
            raise ValueError("Record: projections need both center and basis: got only one of them")
        if self.projections_every is not None and self.projections_every % self.moments_every:
            raise ValueError(
                f"Record: projections_every must be a multiple of moments_every = {self.moments_every}: "
                f"got {self.projections_every}"
            )


@dataclass
class Recorder:
    """A Record resolved for one run: schedules fixed, sizes checked, sums at zero."""

    mlp: MLP | Model
    record: Record
    first: int  # steps done before this run
    steps: int  # steps of this run
    ref: Array  # origin of the sums: the record's center, else the weights at the start
    dtype: type = np.float64  # of the weights
    index: NDArray[np.intp] = field(init=False)
    nbytes: int = field(init=False)  # of all series
    center: Array = field(init=False)
    basis: Array | None = field(init=False, default=None)
    series: dict[str, dict[str, list[Array]]] = field(init=False)

    def __post_init__(self) -> None:
        r, p = self.record, self.mlp.dim
        self.index = np.zeros(0, dtype=np.intp) if r.weights is None else self.mlp.block_index(r.weights)
        self.weights_every = 0
        if len(self.index):
            room = max(1, min(200, 20_000_000 // (8 * len(self.index))))
            self.weights_every = int(r.weights_every or max(1, math.ceil(self.steps / room)))
        self.losses_every = int(r.losses_every or max(1, self.steps // 200))
        self.sums = bool(p <= SUMS_UP_TO if r.sums is None else r.sums)
        self.moments_every = self.projections_every = 0
        if r.basis is not None:
            self._projections(r)
        self.edges = self.first + np.linspace(0, self.steps, min(r.blocks, self.steps) + 1).astype(np.int64)
        self._check_size()
        every = [k for k in (self.weights_every, self.moments_every) if k]
        self.row_every = math.gcd(*every) if every else 0
        whole = self.basis is not None
        self.row_lo = 0 if whole or not len(self.index) else int(self.index.min())
        self.row_hi = p if whole else int(self.index.max()) + 1 if len(self.index) else 0
        self.plain = np.array_equal(self.index, np.arange(self.row_lo, self.row_hi))  # the rows are the weights to keep
        self.acc = np.zeros(p)
        self.scalar_sums = np.zeros((len(self.edges) - 1, 4))
        self.series = {"loss": {}, "weights": {}, "projections": {}, "schedule": {}}
        self.constants = (math.nan, 0)
        # nothing to select or to project: the kernel writes its rows where they stay
        self.direct = bool(self.plain and self.basis is None and self.weights_every)
        self.piece: NDArray[Any] | None = None
        self.filled = 0

    def _projections(self, r: Record) -> None:
        p = self.mlp.dim
        self.center, basis = numbers("center", r.center), np.ascontiguousarray(numbers("basis", r.basis))
        if self.center.shape != (p,) or basis.ndim != 2 or len(basis) != p or basis.shape[1] < 1:
            raise ValueError(f"Record: center must have shape ({p},) and basis ({p}, k): got {self.center.shape}, {basis.shape}")
        if not (np.isfinite(self.center).all() and np.isfinite(basis).all()):
            raise ValueError(
                "Record: center and basis must be finite: "
                f"got {sum(np.count_nonzero(~np.isfinite(a)) for a in (self.center, basis))} entries that are not"
            )
        k, self.basis = basis.shape[1], basis
        self.moments_every = r.moments_every
        rows = max(1, 100_000 // k)
        least = max(1, math.ceil(self.steps / rows / self.moments_every)) * self.moments_every
        self.projections_every = r.projections_every or least
        n = len(np.linspace(0, self.steps, min(r.blocks, self.steps) + 1)) - 1
        self.y_count, self.y_sum, self.y_square = np.zeros(n, dtype=np.int64), np.zeros((n, k)), np.zeros((n, k))
        self.y_outer = np.zeros((k, k))

    def _check_size(self) -> None:
        def records(every: int) -> int:
            return (self.first + self.steps) // every - self.first // every if every else 0

        k = 0 if self.basis is None else self.basis.shape[1]
        parts = {
            "weights_every": records(self.weights_every) * (len(self.index) + 1) * 8,
            "projections_every": records(self.projections_every) * (k + 1) * 8,
            "losses_every": records(self.losses_every) * 56,
            "blocks": (len(self.edges) - 1) * (5 + 2 * k) * 8,
            "basis": 8 * k * (self.mlp.dim + k),
        }
        total = self.nbytes = sum(parts.values())
        if total > self.record.max_bytes:
            name = max(parts, key=lambda key: parts[key])
            raise ValueError(
                f"Record: this run would record {total / 1e6:.0f} MB, more than max_bytes = "
                f"{self.record.max_bytes / 1e6:.0f} MB; most of it ({parts[name] / 1e6:.0f} MB) goes with {name}: "
                f"change {name}, or raise max_bytes"
            )

    # ---- while running --------------------------------------------------------------------------------------------------

    def next_stop(self, step: int) -> int:
        """First step after `step` where the kernel must return: a loss to evaluate, full buffers, or the end."""
        stop = min(self.first + self.steps, (step // self.losses_every + 1) * self.losses_every, step + 5000)
        if self.row_every:
            rows = max(1, ROW_BYTES // (8 * (self.row_hi - self.row_lo)))
            stop = min(stop, (step // self.row_every + rows) * self.row_every)
        return max(stop, step + 1)

    def rows_between(self, step: int, stop: int) -> int:
        """Rows that the kernel writes in the steps step + 1 .. stop."""
        return stop // self.row_every - step // self.row_every if self.row_every else 0

    def room(self, step: int, stop: int) -> NDArray[Any]:
        """Where the kernel writes the rows of the steps step + 1 .. stop."""
        n, width = self.rows_between(step, stop), self.row_hi - self.row_lo
        if not self.direct:
            return np.empty((n, width), dtype=self.dtype)
        if self.piece is None:  # untouched memory costs nothing
            self.piece = np.empty((self.rows_between(step, self.first + self.steps), width), dtype=self.dtype)
        return self.piece[self.filled : self.filled + n]

    def add(self, step: int, stop: int, rows: Array, scalars: Array) -> None:
        """Digest the output of the kernel for the steps step + 1 .. stop."""
        block = np.searchsorted(self.edges, np.arange(step, stop), side="right") - 1
        starts = np.flatnonzero(np.r_[True, np.diff(block) > 0])
        self.scalar_sums[block[starts]] += np.add.reduceat(scalars, starts, axis=0)
        if not len(rows):
            return
        number = (step // self.row_every + 1 + np.arange(len(rows))) * self.row_every
        if self.direct:
            self.filled += len(rows)
            self._append("weights", step=number)
        elif self.weights_every:
            keep = _multiples(number, self.weights_every)
            self._append("weights", step=number[keep], value=np.take(rows[keep], self.index - self.row_lo, axis=1))
        if self.basis is not None:
            keep = _multiples(number, self.moments_every)
            self._moments(number[keep], rows[keep])

    def _moments(self, number: NDArray[np.int64], rows: Array) -> None:
        if not len(rows) or self.basis is None:
            return
        if rows.dtype == np.float64:
            rows -= self.center  # in place: the caller has no more use for the rows
        else:
            rows = rows - self.center
        y = rows @ self.basis
        block = np.searchsorted(self.edges, number - 1, side="right") - 1
        starts = np.flatnonzero(np.r_[True, np.diff(block) > 0])
        self.y_count[block[starts]] += np.diff(np.r_[starts, len(block)])
        self.y_sum[block[starts]] += np.add.reduceat(y, starts, axis=0)
        self.y_square[block[starts]] += np.add.reduceat(y * y, starts, axis=0)
        self.y_outer += y.T @ y
        keep = _multiples(number, self.projections_every)
        self._append("projections", step=number[keep], value=y[keep].copy())

    def add_loss(
        self, step: int, theta: Array, samples: tuple[Array, Array, Array], test: tuple[Array, Array, Array] | None
    ) -> tuple[float, float]:
        """Evaluate loss, error and full gradient at `theta`; returns (loss, error)."""
        loss, error, gradient = evaluate(self.mlp, theta, *samples)
        values = {
            "step": step,
            "train_loss": loss,
            "train_error": error,
            "dot_gradient": (theta - self.ref) @ gradient,
            "gradient_norm2": gradient @ gradient,
        }
        if test is not None:
            values["test_loss"], values["test_error"], _ = evaluate(self.mlp, theta, *test)
        self._append("loss", **{name: np.array([value]) for name, value in values.items()})
        return loss, error

    def add_schedule(self, step: int, lr: Array, batch: NDArray[np.int64]) -> None:
        """Note learning rate and batch size of the steps step + 1, ... where they change."""
        last_lr, last_batch = np.r_[self.constants[0], lr[:-1]], np.r_[self.constants[1], batch[:-1]]
        new = np.flatnonzero((lr != last_lr) | (batch != last_batch))
        self._append("schedule", step=step + 1 + new, lr=lr[new], batch=batch[new])
        self.constants = (float(lr[-1]), int(batch[-1]))

    def _append(self, group: str, **arrays: NDArray[Any]) -> None:
        if len(next(iter(arrays.values()))):
            for name, array in arrays.items():
                self.series[group].setdefault(name, []).append(array)

    # ---- results --------------------------------------------------------------------------------------------------------

    def take_series(self) -> dict[str, dict[str, Array]]:
        """The series recorded since the last call, which are forgotten here."""
        taken = {g: {name: np.concatenate(parts) for name, parts in arrays.items()} for g, arrays in self.series.items() if arrays}
        if self.piece is not None and "weights" in taken:
            value = self.piece[: self.filled]
            taken["weights"]["value"] = value if 2 * self.filled > len(self.piece) else value.copy()
            self.piece, self.filled = None, 0
        self.series = {group: {} for group in self.series}
        return taken

    @property
    def pending_bytes(self) -> int:
        """Size of the series waiting to be taken."""
        waiting = 0 if self.piece is None else self.filled * self.piece.strides[0]
        return waiting + sum(array.nbytes for arrays in self.series.values() for parts in arrays.values() for array in parts)

    def summary(self, step: int) -> dict[str, Any]:
        """Sums over the steps first + 1 .. step, as a tree of arrays."""
        used = np.minimum(self.edges, step)
        used = used[: np.searchsorted(used, step) + 1]
        n = np.diff(used)
        blocks: dict[str, Any] = {"edges": used, "steps": n}
        with np.errstate(invalid="ignore"):
            means = self.scalar_sums[: len(n)] / n[:, None]
        for i, name in enumerate(("minibatch_loss", "dot_gradient", "gradient_norm2", "velocity_norm2")):
            if self.sums or name != "dot_gradient":
                blocks[name] = means[:, i]
        tree: dict[str, Any] = {"blocks": blocks, "origin": self.ref}
        if self.sums and step > self.first:
            tree["mean"] = {"count": step - self.first, "theta": self.ref + self.acc / (step - self.first)}
        if self.basis is not None:
            tree["moments"] = self._moment_tree(len(n))
        return tree

    def tree(self, step: int, complete: bool, facts: dict[str, Any], state: dict[str, NDArray[Any]], wall: float) -> dict[str, Any]:
        """All of a run but the series: parameters, state, sums."""
        from fpsolve import io

        spec = self.mlp.spec
        tree: dict[str, Any] = {
            "model": {name: np.array(value) if isinstance(value, tuple) else value for name, value in spec.items()},
            "training": {**facts, "step": step, "complete": complete, "wall_time": wall},
            "state": {name: array.copy() for name, array in state.items()},
            **self.summary(step),
        }
        if len(self.index):
            tree["weights"] = {"index": self.index}
        tree["record"] = io.provenance(**facts, **spec, steps=self.steps, wall_time=wall)
        return tree

    def _moment_tree(self, n: int) -> dict[str, Any]:
        count = int(self.y_count.sum())
        tree = {
            "center": self.center,
            "basis": self.basis,
            "every": self.moments_every,
            "count": count,
            "block_count": self.y_count[:n],
        }
        if count:
            mean = self.y_sum.sum(axis=0) / count
            tree["mean"], tree["covariance"] = mean, self.y_outer / count - np.outer(mean, mean)
            each = np.maximum(self.y_count[:n, None], 1)
            tree["block_mean"] = self.y_sum[:n] / each
            tree["block_square"] = self.y_square[:n] / each
        return tree


def _multiples(number: NDArray[np.int64], k: int) -> slice:
    """Where the equally spaced `number` (whose spacing divides k) are multiples of k; a slice, so that nothing is copied."""
    gap = int(number[1] - number[0]) if len(number) > 1 else k
    return slice(int(-number[0] % k) // gap if -number[0] % k % gap == 0 else len(number), None, max(1, k // gap))


def evaluate(mlp: MLP | Model, theta: Array, x: Array, t: Array, y: NDArray[Any]) -> tuple[float, float, Array]:
    """Loss with weight decay, classification error (NaN for real targets) and gradient in one pass."""
    if isinstance(mlp, Model):
        return mlp.evaluate(theta, x, t)
    rows, total, wrong = mlp.chunk_rows(), 0.0, 0
    labels, gradient = np.issubdtype(y.dtype, np.integer), np.zeros(mlp.dim)
    parts = mlp.unpack(gradient)
    for i in range(0, len(x), rows):
        a = mlp.forward(theta, x[i : i + rows])
        total += float(mlp.sample_losses(a[-1], t[i : i + rows]).sum())
        wrong += int((mlp.classes(a[-1]) != y[i : i + rows]).sum()) if labels else 0
        for k, d in enumerate(mlp.backward(theta, a, t[i : i + rows]), start=1):
            parts[f"W{k}"] += a[k - 1].T @ d
            parts[f"b{k}"] += d.sum(axis=0)
    gradient = gradient / len(x) + mlp.weight_decay * theta
    loss = total / len(x) + 0.5 * mlp.weight_decay * float(theta @ theta)
    return loss, wrong / len(x) if labels else math.nan, gradient
