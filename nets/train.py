"""Stochastic gradient descent, instrumented: one compiled step loop, everything recorded on the way."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._store import SEGMENT_BYTES, SEGMENT_SECONDS, Store
from ._threads import single_threaded_blas
from .data import Data
from .mlp import MLP
from .record import Record, Recorder
from .run import Run, from_tree, load_run

__all__ = ["train"]

logger = logging.getLogger(__name__)

SAMPLING = ("shuffle", "replace")


def train(
    mlp: MLP,
    data: Data,
    *,
    lr: float | None = None,
    batch: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    seed: int | None = 0,
    sampling: str | None = None,
    momentum: float | None = None,
    theta0: ArrayLike | None = None,
    record: Record | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = True,
    resume: Run | str | os.PathLike[str] | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> Run:
    r"""Train a network by SGD on the training samples of `data`.

    .. math:: v \leftarrow \mu v + g_B(\theta), \quad \theta \leftarrow \theta - \eta v, \quad
              g_B = \frac{1}{B} \sum_{n \in B} \nabla \ell_n + \lambda \theta

    Parameters
    ----------
    mlp : MLP
    data : Data
    lr : float, > 0
        Learning rate :math:`\eta` per step (no schedule).
    batch : int
        Batch size B.
    epochs, steps : int
        How long: exactly one of the two. An epoch has floor(N / B) steps.
    seed : int or None
        Of the initial weights and of the batches. None draws one, which is stored in the run.
    sampling : {"shuffle", "replace"}
        "shuffle" (default): every epoch in a new random order, without replacement, the last partial batch dropped.
        "replace": indices independent and uniform, so that the noise of different steps is independent.
    momentum : float, 0 <= momentum < 1
        :math:`\mu` above (no dampening).
    theta0 : array, shape (P,), optional
        Initial parameters; default ``mlp.init(seed)``.
    record : Record, optional
        What to record; default ``Record()``.
    out : path, optional
        HDF5 file. Written in segments during the run, so memory is bounded and a killed run can be recovered (`load_run`).
    overwrite : bool
        If False, an existing `out` is an error.
    resume : Run or path, optional
        Go on where that run ended, with the same bits as one undisturbed run. Arguments left out are those of that run.
    progress : bool or callable
        True: a bar with loss and error, where the output is a terminal; or a function of (steps done, steps to do).

    Returns
    -------
    Run
        Interrupted with Ctrl-C, it holds what was done (``run.complete`` is False).

    Raises
    ------
    ValueError, TypeError
        Bad arguments; a record that would be too large.
    OSError
        `out` cannot be written. All before any work.
    fpsolve.FpsolveError
        The loss became non-finite; nothing is left in `out`.

    Notes
    -----
    Runs are bit-reproducible for one CPU type and one set of library versions, whatever is recorded. BLAS runs with one
    thread meanwhile; the step loop releases the GIL, so several runs go side by side in threads.

    Examples
    --------
    >>> import nets
    >>> data = nets.load_data("digits")
    >>> mlp = nets.MLP((64, 12, 10), activation="tanh")
    >>> first = nets.train(mlp, data, lr=0.1, batch=20, epochs=3, seed=0)
    >>> run = nets.train(mlp, data, resume=first, epochs=2)
    >>> bool((run.theta == nets.train(mlp, data, lr=0.1, batch=20, epochs=5, seed=0).theta).all())
    True
    """
    before = load_run(resume) if isinstance(resume, (str, os.PathLike)) else resume
    x, t = mlp.check_samples(data.x_train, data.y_train)
    facts = _settings(before, lr, batch, sampling, momentum, seed, theta0, len(x))
    steps = _duration(epochs, steps, len(x), facts["batch"])
    facts["data_name"], facts["data_hash"], facts["n_samples"] = data.name, _fingerprint(x, t), len(x)
    if before is not None:
        _check_same(before, mlp, facts)
    state = _initial_state(mlp, before, facts["seed"], theta0, len(x))
    first, record = int(state["cursor"][1]), Record() if record is None else record
    ref = state["theta"].copy() if record.center is None else np.asarray(record.center, dtype=np.float64).copy()
    recorder = Recorder(mlp, record, first, steps, ref)
    facts["first_step"] = first
    job = _Job(mlp, data, x, t, state, recorder, facts)
    store = job.store = None if out is None else Store(out, overwrite)
    try:
        with single_threaded_blas(), _held_interrupts() as interrupted:
            tree = job.run(progress, interrupted)
        if store is not None:
            store.close()
            return load_run(store.path)
        record_ = tree.pop("record")
        return from_tree(tree, None, record_)
    except BaseException:
        if store is not None:
            store.discard()
        raise


# ---- arguments ----------------------------------------------------------------------------------------------------------


def _settings(
    before: Run | None,
    lr: float | None,
    batch: int | None,
    sampling: str | None,
    momentum: float | None,
    seed: int | None,
    theta0: ArrayLike | None,
    n: int,
) -> dict[str, Any]:
    if before is not None:
        lr, batch = before.lr if lr is None else lr, before.batch if batch is None else batch
        sampling, momentum = sampling or before.sampling, before.momentum if momentum is None else momentum
        if theta0 is not None:
            raise ValueError("theta0 and resume exclude each other: a resumed run starts from the weights it ended with")
        seed = before.seed
    if lr is None or batch is None:
        raise ValueError("train needs lr (learning rate) and batch (batch size)")
    lr, momentum, sampling = float(lr), float(momentum or 0.0), sampling or "shuffle"
    if not (math.isfinite(lr) and lr > 0.0):
        raise ValueError(f"lr must be finite and > 0: got {lr!r}")
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise ValueError(f"batch must be a positive integer: got {batch!r}")
    if sampling not in SAMPLING:
        raise ValueError(f"sampling must be one of {SAMPLING}: got {sampling!r}")
    if sampling == "shuffle" and batch > n:
        raise ValueError(f"batch must be at most {n}, the number of training samples, with sampling='shuffle': got {batch}")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must lie in [0, 1): got {momentum!r}")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be None or an integer in 0 .. 2**63 - 1: got {seed!r}")
    return {"lr": lr, "batch": int(batch), "sampling": sampling, "momentum": momentum, "seed": int(seed)}


def _duration(epochs: int | None, steps: int | None, n: int, batch: int) -> int:
    if (epochs is None) == (steps is None):
        raise ValueError(f"give exactly one of epochs and steps: got epochs={epochs!r}, steps={steps!r}")
    name, value = ("epochs", epochs) if steps is None else ("steps", steps)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer: got {value!r}")
    if name == "epochs" and batch > n:
        raise ValueError(f"an epoch of {n} samples has no full batch of {batch}: give steps instead of epochs")
    return int(value) if name == "steps" else int(value) * (n // batch)


def _fingerprint(x: NDArray[Any], t: NDArray[Any]) -> str:
    digest = hashlib.sha256(repr((x.shape, t.shape)).encode())
    digest.update(x.tobytes())
    digest.update(t.tobytes())
    return digest.hexdigest()[:16]


def _check_same(before: Run, mlp: MLP, facts: dict[str, Any]) -> None:
    if before.mlp != mlp:
        raise ValueError(f"resume: the run trained {before.mlp!r}, not {mlp!r}")
    if before.data_hash != facts["data_hash"]:
        raise ValueError(
            f"resume: the run used other training data ({before.data_name!r}, {before.n_samples} samples, hash "
            f"{before.data_hash}) than given ({facts['data_name']!r}, {facts['n_samples']} samples, hash "
            f"{facts['data_hash']})"
        )


def _initial_state(mlp: MLP, before: Run | None, seed: int, theta0: ArrayLike | None, n: int) -> dict[str, NDArray[Any]]:
    if before is not None:
        return {name: np.array(before.state[name]) for name in ("theta", "velocity", "rng", "perm", "cursor")}
    from ._kernels import seed_rng

    theta = mlp.init(seed) if theta0 is None else mlp.check_theta(theta0).copy()
    if not np.isfinite(theta).all():
        raise ValueError(f"theta0 must be finite: got {np.count_nonzero(~np.isfinite(theta))} non-finite numbers")
    rng = np.empty(4, dtype=np.uint64)
    seed_rng(np.uint64(seed), rng)
    return {
        "theta": theta,
        "velocity": np.zeros_like(theta),
        "rng": rng,
        "perm": np.arange(n, dtype=np.int64),
        "cursor": np.array([n, 0], dtype=np.int64),
    }


# ---- the run ------------------------------------------------------------------------------------------------------------


class _Job:
    """One training run: kernel calls between stops, digestion of what they return."""

    def __init__(
        self,
        mlp: MLP,
        data: Data,
        x: NDArray[Any],
        t: NDArray[Any],
        state: dict[str, NDArray[Any]],
        recorder: Recorder,
        facts: dict[str, Any],
    ) -> None:
        self.mlp, self.x, self.t, self.state, self.recorder, self.facts = (
            mlp,
            x,
            t,
            state,
            recorder,
            facts,
        )
        self.samples = (x, t, data.y_train)
        self.test = None
        if recorder.record.test and len(data.x_test):
            self.test = (*mlp.check_samples(data.x_test, data.y_test), data.y_test)
        self.store: Store | None = None
        self.started = time.perf_counter()

    def run(self, progress: bool | Callable[[int, int], None], interrupted: threading.Event) -> dict[str, Any]:
        """All steps; returns the tree of the run (without series if they went to the store)."""
        r = self.recorder
        step, end = r.first, r.first + r.steps
        saved = time.perf_counter()
        with _bar(progress, r.steps) as show:
            try:
                if step == 0:
                    r.add_loss(0, self.state["theta"], self.samples, self.test)
                while step < end and not interrupted.is_set():
                    stop = r.next_stop(step)
                    self._advance(step, stop)
                    step = stop
                    if step % r.losses_every == 0:
                        show(step - r.first, *r.add_loss(step, self.state["theta"], self.samples, self.test))
                    else:
                        show(step - r.first, None, None)
                    if self.store and (r.pending_bytes > SEGMENT_BYTES or time.perf_counter() - saved > SEGMENT_SECONDS):
                        self.store.write(r.take_series(), self._small(step, False))
                        saved = time.perf_counter()
            except KeyboardInterrupt:  # from the progress function
                interrupted.set()
        complete = step == end
        if not complete:
            logger.warning("interrupted after step %d of %d; what was recorded so far is kept", step, end)
        small = self._small(step, complete)
        if self.store is not None:
            self.store.write(r.take_series(), small)
            return small
        for group, arrays in r.take_series().items():
            small[group] = {**small.get(group, {}), **arrays}
        return small

    def _advance(self, step: int, stop: int) -> None:
        from fpsolve import FpsolveError

        from ._kernels import OK, Out, Plan, State, sgd_steps

        r, f = self.recorder, self.facts
        rows = np.empty((r.rows_between(step, stop), r.row_hi - r.row_lo))
        scalars = np.empty((stop - step, 4))
        plan = Plan(
            f["lr"],
            f["momentum"],
            f["batch"],
            f["sampling"] == "replace",
            stop - step,
            r.row_every,
            r.row_lo,
            r.row_hi,
            r.sums,
        )
        state = State(**self.state)
        status, done, _ = sgd_steps(self.mlp.kernel_args(), state, self.x, self.t, plan, Out(r.ref, r.acc, rows, scalars))
        if status != OK:
            raise FpsolveError(
                f"training diverged: the loss of the minibatch became non-finite at step {step + done + 1} ("
                f"lr={f['lr']:g}, batch={f['batch']}, momentum={f['momentum']:g}). "
                f"Try a smaller lr (say {f['lr'] / 4:g}), or check the scale of the inputs "
                f"(largest |x| is {np.abs(self.x).max():.3g})"
            )
        r.add(step, stop, rows, scalars)

    def _small(self, step: int, complete: bool) -> dict[str, Any]:
        """All but the series: parameters, state, sums."""
        from fpsolve import io

        spec, r = self.mlp.spec, self.recorder
        wall = time.perf_counter() - self.started
        tree: dict[str, Any] = {
            "model": {**spec, "widths": np.array(spec["widths"])},
            "training": {**self.facts, "step": step, "complete": complete, "wall_time": wall},
        }
        tree["state"] = {name: array.copy() for name, array in self.state.items()}
        tree.update(r.summary(step))
        if len(r.index):
            tree["weights"] = {"index": r.index}
        tree["record"] = io.provenance(**self.facts, **spec, steps=r.steps, wall_time=wall)
        return tree


@contextmanager
def _held_interrupts() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of breaking off between two things that belong together (main thread only)."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _bar(progress: bool | Callable[[int, int], None], total: int) -> Any:
    """Context manager yielding show(done, loss, error)."""
    if progress is False:
        return nullcontext(lambda done, loss, error: None)
    if callable(progress):
        return nullcontext(lambda done, loss, error: progress(done, total))
    return _TqdmBar(total)


class _TqdmBar:
    def __init__(self, total: int) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=total, unit="step", unit_scale=True, disable=None)  # None: no bar in files and pipes

    def __enter__(self) -> Callable[[int, float | None, float | None], None]:
        return self.show

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

    def show(self, done: int, loss: float | None, error: float | None) -> None:
        if loss is not None:
            self.bar.set_postfix_str(
                f"loss {loss:.4g}" + ("" if error is None or math.isnan(error) else f", error {100 * error:.2f} %"),
                refresh=False,  # update() draws as often as is useful
            )
        self.bar.update(done - self.bar.n)
