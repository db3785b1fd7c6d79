"""Stochastic gradient descent, instrumented: one compiled step loop, everything recorded on the way."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import of_kind
from ._settings import Schedule, Settings, duration, initial_state, settings
from ._store import SEGMENT_BYTES, SEGMENT_SECONDS, Store, check_free
from ._threads import single_threaded_blas
from .data import Data, fingerprint
from .mlp import MLP, Ensemble
from .record import Record, Recorder
from .run import Run, from_tree, load_run

__all__ = ["train", "train_many"]

logger = logging.getLogger(__name__)


def train(
    mlp: MLP,
    data: Data,
    *,
    lr: Schedule | None = None,
    batch: int | Callable[[int], int] | ArrayLike | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    seed: int | None = 0,
    sampling: str | None = None,
    momentum: float | None = None,
    optimizer: str | None = None,
    betas: Sequence[float] | None = None,
    eps: float | None = None,
    precision: str | None = None,
    theta0: ArrayLike | None = None,
    record: Record | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = True,
    resume: Run | str | os.PathLike[str] | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> Run:
    r"""Train a network by SGD or Adam on the training samples of `data`.

    .. math:: g_B = \frac{1}{B} \sum_{n \in B} \nabla \ell_n + \lambda \theta

    .. math:: \text{sgd:}\quad v \leftarrow \mu v + g_B, \quad \theta \leftarrow \theta - \eta v

    .. math:: \text{adam:}\quad m \leftarrow \beta_1 m + (1 - \beta_1) g_B, \quad q \leftarrow \beta_2 q + (1 - \beta_2) g_B^2,
              \quad v = \frac{m/(1 - \beta_1^t)}{\sqrt{q/(1 - \beta_2^t)} + \epsilon}, \quad \theta \leftarrow \theta - \eta v

    Parameters
    ----------
    mlp : MLP
    data : Data
    lr : float, callable k -> float, or array
        Learning rate :math:`\eta` per step; a schedule as of `fpsolve.SGDChain`: a function of the iteration k = 0, 1, ..., counted
        from the start of training, or an array, which keeps its last value beyond its end.
    batch : int, callable k -> int, or array
        Batch size B, or its schedule.
    epochs, steps : int
        How long: exactly one of the two. An epoch has floor(N / B) steps.
    seed : int or None
        Of the initial weights and of the batches. None draws one, which is stored in the run.
    sampling : {"shuffle", "replace"}
        "shuffle" (default): every epoch in a new random order, without replacement, the last partial batch dropped.
        "replace": indices independent and uniform, so that the noise of different steps is independent.
    momentum : float, 0 <= momentum < 1
        :math:`\mu` above (no dampening), of "sgd".
    optimizer : {"sgd", "adam"}
    betas : (float, float), optional
        :math:`\beta_1, \beta_2` of Adam; default (0.9, 0.999).
    eps : float, optional
        :math:`\epsilon` of Adam; default 1e-8.
    precision : {"double", "single"}
        Of weights and arithmetic of the steps. Losses of whole sets are evaluated in double precision all the same.
    theta0 : array, shape (P,), optional
        Initial parameters; default ``mlp.init(seed)``.
    record : Record, optional
        What to record; default ``Record()``.
    out : path, optional
        HDF5 file. Written in segments during the run, so memory is bounded and a killed run can be recovered (`load_run`).
    overwrite : bool
        If False, an existing `out` is an error.
    resume : Run or path, optional
        Go on where that run ended, with the same bits as one undisturbed run. Arguments left out are those of that run; a schedule
        must be given again.
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
        The loss became non-finite; nothing is left in `out`. After any other error what was written can be recovered (`load_run`).

    Notes
    -----
    Runs are bit-reproducible for one CPU type and one set of library versions, whatever is recorded. BLAS runs with one
    thread meanwhile; the step loop releases the GIL, so several runs go side by side in threads (`nets.train_many`).
    Adam: D. Kingma, J. Ba, ICLR 2015 (arXiv:1412.6980), with weight decay as part of the gradient.

    Examples
    --------
    >>> import nets
    >>> data = nets.load_data("digits")
    >>> mlp = nets.MLP((64, 12, 10), activation="tanh")
    >>> first = nets.train(mlp, data, lr=0.1, batch=20, epochs=3, seed=0)
    >>> run = nets.train(mlp, data, resume=first, epochs=2)
    >>> bool((run.theta == nets.train(mlp, data, lr=0.1, batch=20, epochs=5, seed=0).theta).all())
    True
    >>> decaying = nets.train(mlp, data, lr=lambda k: 0.01 / (1 + k / 100), batch=20, steps=300, optimizer="adam")
    >>> decaying.lr is None, decaying.schedule["lr"][[0, 100]]
    (True, array([0.01 , 0.005]))
    """
    job = _prepare(
        _Samples(mlp, data),
        lr,
        batch,
        epochs,
        steps,
        seed,
        sampling,
        momentum,
        optimizer,
        betas,
        eps,
        precision,
        theta0,
        record,
        resume,
    )
    with single_threaded_blas(), _held_interrupts() as interrupted, _bar(progress, job.recorder.steps) as show:
        return job.carry_out(out, overwrite, show, interrupted)


def train_many(
    mlp: MLP,
    data: Data,
    *,
    seeds: Sequence[int],
    threads: int | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = True,
    progress: bool | Callable[[int, int], None] = False,
    **options: Any,
) -> list[Run]:
    """Train the same network from several seeds side by side, one run per thread.

    Parameters
    ----------
    mlp, data
        As in `nets.train`; the samples are shared.
    seeds : sequence of int
    threads : int, optional
        Runs at a time; default: as many as this process may use cores.
    out : path, optional
        The run of seed s goes to the file of this name with ``-s`` before its ending: ``run.h5`` becomes ``run-0.h5``, ...
    overwrite, progress
        As in `nets.train`; one bar, or function, for all runs together.
    **options
        All other arguments of `nets.train`, the same for every run (without `seed` and `resume`).

    Returns
    -------
    list of Run
        In the order of `seeds`, each with the bits of a run on its own. After Ctrl-C every run holds what was done.

    Raises
    ------
    ValueError, TypeError
        Bad arguments, before any work.
    OSError, fpsolve.FpsolveError
        As in `nets.train`; the other runs are stopped, and their files hold what was done.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("spiral"), nets.MLP((2, 8, 2), activation="tanh")
    >>> runs = train_many(mlp, data, seeds=[3, 4], lr=0.1, batch=10, epochs=2)
    >>> bool((runs[1].theta == nets.train(mlp, data, seed=4, lr=0.1, batch=10, epochs=2).theta).all())
    True
    """
    given_seeds, seeds = seeds, list(seeds) if isinstance(seeds, Iterable) else []
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different integers, at least one: got {given_seeds!r}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cores if threads is None else threads
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or threads < 1:
        raise ValueError(f"threads must be a positive integer: got {threads!r}")
    refused = {"seed", "resume"} & set(options)
    if refused:
        raise TypeError(f"train_many takes seeds, not {' or '.join(sorted(refused))}")
    samples, names = _Samples(mlp, data), ("lr", "batch", "epochs", "steps", "sampling", "momentum", "optimizer")
    defaults: dict[str, Any] = dict.fromkeys((*names, "betas", "eps", "precision", "theta0", "record", "resume"))
    if unknown := set(options) - set(defaults):
        raise TypeError(f"train_many got unknown arguments {sorted(unknown)}: it takes those of nets.train")
    given = {**defaults, **options}
    jobs = [_prepare(samples, seed=seed, **given) for seed in seeds]
    paths: list[Path | None] = [None] * len(seeds)
    if out is not None:
        target = Path(os.path.expanduser(os.fspath(out)))
        paths = [check_free(target.with_name(f"{target.stem}-{seed}{target.suffix}"), overwrite) for seed in seeds]
    total, done, lock = sum(job.recorder.steps for job in jobs), [0] * len(jobs), threading.Lock()
    with single_threaded_blas(), _held_interrupts() as interrupted, _bar(progress, total) as show:

        def carry_out(i: int) -> Run:
            def shown(steps: int, loss: float | None, error: float | None) -> None:
                with lock:
                    done[i] = steps
                    show(sum(done), loss, error)

            try:
                return jobs[i].carry_out(paths[i], overwrite, shown, interrupted)
            except BaseException:
                interrupted.set()  # the runs still going stop at their next loss
                raise

        with ThreadPoolExecutor(int(threads)) as pool:
            return list(pool.map(carry_out, range(len(jobs))))


# ---- preparation --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Samples:
    """The samples as the step loop takes them, made once for all runs that share them."""

    mlp: MLP
    data: Data

    def __post_init__(self) -> None:
        of_kind(self.mlp, MLP, "mlp", "nets.MLP((64, 20, 10))")
        of_kind(self.data, Data, "data", "nets.load_data(...), or nets.Data of your own arrays")

    @cached_property
    def train(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Inputs and targets, double precision."""
        return self.mlp.check_samples(self.data.x_train, self.data.y_train)

    @cached_property
    def single(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The same in single precision."""
        for name, array in zip(("x_train", "y_train"), self.train, strict=True):
            if np.abs(array).max() > np.finfo(np.float32).max:
                raise ValueError(f"{name} holds numbers too large for precision='single': scale them, or use 'double'")
        x, t = self.train
        return x.astype(np.float32), t.astype(np.float32)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the training samples."""
        return fingerprint(*self.train)


def _prepare(
    samples: _Samples,
    lr: Any,
    batch: Any,
    epochs: int | None,
    steps: int | None,
    seed: int | None,
    sampling: str | None,
    momentum: float | None,
    optimizer: str | None,
    betas: Sequence[float] | None,
    eps: float | None,
    precision: str | None,
    theta0: ArrayLike | None,
    record: Record | None,
    resume: Run | str | os.PathLike[str] | None,
) -> _Job:
    """Check everything; nothing is computed yet."""
    before = load_run(resume) if isinstance(resume, (str, os.PathLike)) else resume
    if before is not None:
        of_kind(before, Run, "resume", "as nets.train and nets.load_run return it, or the path of its file")
    if record is not None:
        of_kind(record, Record, "record", "nets.Record(weights='W2', ...)")
    mlp, (x, t) = samples.mlp, samples.train
    how = settings(
        before, Ensemble(mlp, x, t), lr=lr, batch=batch, sampling=sampling, momentum=momentum, optimizer=optimizer, betas=betas,
        eps=eps, precision=precision, seed=seed,
    )  # fmt: skip
    n_steps = duration(epochs, steps, len(x), how.chain.batch)
    facts = {**how.facts, "data_name": samples.data.name, "data_hash": samples.fingerprint, "n_samples": len(x)}
    if before is not None:
        _check_same(before, mlp, facts)
    state = initial_state(mlp, before, how, theta0, len(x))
    first, record = int(state["cursor"][1]), Record() if record is None else record
    how.check_schedules(first, n_steps)
    ref = np.array(state["theta"] if record.center is None else record.center, dtype=np.float64)
    facts["first_step"] = first
    return _Job(samples, how, state, Recorder(mlp, record, first, n_steps, ref, how.dtype), facts)


def _check_same(before: Run, mlp: MLP, facts: dict[str, Any]) -> None:
    if before.mlp != mlp:
        raise ValueError(f"resume: the run trained {before.mlp!r}, not {mlp!r}")
    if before.data_hash != facts["data_hash"]:
        raise ValueError(
            f"resume: the run used other training data ({before.data_name!r}, {before.n_samples} samples, hash "
            f"{before.data_hash}) than given ({facts['data_name']!r}, {facts['n_samples']} samples, hash "
            f"{facts['data_hash']})"
        )


# ---- the run ------------------------------------------------------------------------------------------------------------


class _Job:
    """One training run: kernel calls between stops, digestion of what they return."""

    def __init__(
        self, samples: _Samples, how: Settings, state: dict[str, NDArray[Any]], recorder: Recorder, facts: dict[str, Any]
    ) -> None:
        self.mlp, self.how, self.state, self.recorder, self.facts = samples.mlp, how, state, recorder, facts
        self.inputs = samples.train if how.precision == "double" else samples.single
        self.samples = (*samples.train, samples.data.y_train)
        self.test = None
        data = samples.data
        if recorder.record.test and len(data.x_test):
            self.test = (*self.mlp.check_samples(data.x_test, data.y_test), data.y_test)
        self.constants = how.constants(self.mlp.weight_decay)
        self.store: Store | None = None
        self.started = time.perf_counter()

    def carry_out(self, out: str | os.PathLike[str] | None, overwrite: bool, show: Any, interrupted: threading.Event) -> Run:
        """The whole run, and its file."""
        from fpsolve import FpsolveError

        self.started = time.perf_counter()
        store = self.store = None if out is None else Store(out, overwrite)
        try:
            tree = self.run(show, interrupted)
            if store is not None:
                store.close()
                return load_run(store.path)
            record = tree.pop("record")
            return from_tree(tree, None, record)
        except FpsolveError:
            if store is not None:
                store.discard()
            raise
        except BaseException:  # a full disk, a progress function or schedule that fails: hours of work are not thrown away
            if store is not None:
                store.leave()
            raise

    def run(self, show: Any, interrupted: threading.Event) -> dict[str, Any]:
        """All steps; returns the tree of the run (without series if they went to the store)."""
        r = self.recorder
        step, end = r.first, r.first + r.steps
        saved = time.perf_counter()
        try:
            if step == 0:
                self._evaluate(0)
            while step < end and not interrupted.is_set():
                stop = r.next_stop(step)
                self._advance(step, stop)
                step = stop
                if step % r.losses_every == 0:
                    show(step - r.first, *self._evaluate(step))
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

    def _evaluate(self, step: int) -> tuple[float, float]:
        return self.recorder.add_loss(step, self.state["theta"].astype(np.float64), self.samples, self.test)

    def _advance(self, step: int, stop: int) -> None:
        from fpsolve import FpsolveError

        from ._kernels import ADAM, OK, SGD, Out, Plan, State, train_steps  # type: ignore[attr-defined]  # OK is that of _jit

        r, chain = self.recorder, self.how.chain
        rows = r.room(step, stop)
        scalars = np.empty((stop - step, 4))
        lr, batch = self.how.rates(step, stop)
        if chain.scheduled:
            r.add_schedule(step, lr, batch)
        plan = Plan(
            lr.astype(self.how.dtype),
            batch,
            ADAM if chain.optimizer == "adam" else SGD,
            self.constants,
            self.how.sampling == "replace",
            r.row_every,
            r.row_lo,
            r.row_hi,
            r.sums,
        )
        state = State(**self.state)
        status, done, _ = train_steps(self.mlp.kernel_args(), state, *self.inputs, plan, Out(r.ref, r.acc, rows, scalars))
        if status != OK:
            raise FpsolveError(
                f"training diverged: the loss of the minibatch became non-finite at step {step + done + 1} ("
                f"lr={lr[done]:g}, batch={batch[done]}, momentum={chain.momentum:g}). "
                f"Try a smaller lr (say {lr[done] / 4:g}), or check the scale of the inputs "
                f"(largest |x| is {np.abs(self.inputs[0]).max():.3g})"
            )
        r.add(step, stop, rows, scalars)

    def _small(self, step: int, complete: bool) -> dict[str, Any]:
        """All but the series: parameters, state, sums."""
        return self.recorder.tree(step, complete, self.facts, self.state, time.perf_counter() - self.started)


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


@contextmanager
def _bar(progress: bool | Callable[[int, int], None], total: int) -> Iterator[Callable[[int, float | None, float | None], None]]:
    """Yield show(done, loss, error)."""
    if not (isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress must be True, False, or a function of (steps done, steps to do): got {progress!r}")
    if progress is False:
        yield lambda done, loss, error: None
    elif callable(progress):
        yield lambda done, loss, error: progress(done, total)
    else:
        from tqdm import tqdm

        with tqdm(total=total, unit="step", unit_scale=True, disable=None) as bar:  # None: no bar in files and pipes

            def show(done: int, loss: float | None, error: float | None) -> None:
                if loss is not None:
                    text = f"loss {loss:.4g}" + ("" if error is None or math.isnan(error) else f", error {100 * error:.2f} %")
                    bar.set_postfix_str(text, refresh=False)  # update() draws as often as is useful
                bar.update(done - bar.n)

            yield show
