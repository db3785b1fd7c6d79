"""The record of a training loop of PyTorch, in the file of `nets.train`: one call for each step."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ._checks import integer, of_kind
from ._store import SEGMENT_BYTES, SEGMENT_SECONDS, Store, check_free
from .data import Data, fingerprint
from .record import Record, Recorder
from .run import Run, from_tree, load_run
from .torch_model import TorchModel, chosen_parameters, flat, import_torch

__all__ = ["TorchRecorder", "torch_data"]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

#: A run that goes on starts where the one before ended, to this fraction of its largest weight.
SAME = 1e-6


def torch_data(train: Any, test: Any = None, *, name: str | None = None) -> Data:
    """The samples of a DataLoader, or of a data set, of PyTorch as a `nets.Data`, in the order of the data set.

    Nothing random is drawn, and the loader's own order of batches does not change. All samples are held in memory, in double
    precision.

    Parameters
    ----------
    train, test : torch.utils.data.DataLoader or Dataset
        Of pairs (input, target). `test` may be left out.
    name : str, optional
        Default: the class of the data set.

    Returns
    -------
    Data

    Raises
    ------
    ImportError, TypeError, ValueError
        torch is not there; no data set of known length; samples that are no pairs of one tensor each, or that differ each time they
        are asked for (random augmentation), so that there is no fixed loss of all samples.

    Examples
    --------
    >>> import nets, torch
    >>> inputs, labels = torch.randn(100, 1, 8, 8), torch.arange(100) % 10
    >>> torch_data(torch.utils.data.TensorDataset(inputs, labels), name="noise")
    Data('noise', 100 training and 0 test samples of dimension 64, 10 classes)
    """
    x, y = _samples(train, "train")
    x_test, y_test = (x[:0], y[:0]) if test is None else _samples(test, "test")
    return Data(x, y, x_test, y_test, name or type(getattr(train, "dataset", train)).__name__)


def _samples(source: Any, name: str) -> tuple[Array, NDArray[Any]]:
    torch = import_torch()
    loader = isinstance(source, torch.utils.data.DataLoader)
    dataset = source.dataset if loader else source
    if isinstance(dataset, torch.utils.data.IterableDataset) or not (
        hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    ):
        raise TypeError(f"{name} must be a DataLoader or a data set with a length and items: got {type(source).__name__}")
    if not len(dataset):
        raise ValueError(f"{name} holds no samples")
    own = torch.Generator().manual_seed(0)
    collate = {"collate_fn": source.collate_fn} if loader and source.batch_size is not None else {}
    with torch.random.fork_rng():
        whole = torch.utils.data.DataLoader(dataset, batch_size=min(512, len(dataset)), generator=own, **collate)
        pieces = [_pair(batch, name) for batch in whole]
        again = _pair(next(iter(whole)), name)
    if not (np.array_equal(again[0], pieces[0][0]) and np.array_equal(again[1], pieces[0][1])):
        raise ValueError(
            f"{name} gives other samples each time it is asked (random augmentation?): the loss of all samples needs fixed ones; "
            "pass a data set without the random transforms, and train on the other"
        )
    return np.concatenate([x for x, _ in pieces]), np.concatenate([y for _, y in pieces])


def _pair(batch: Any, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    torch = import_torch()
    if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not all(isinstance(part, torch.Tensor) for part in batch):
        raise TypeError(f"{name} must give pairs (input, target) of one tensor each: got {type(batch).__name__}")
    x, y = (part.detach().cpu() for part in batch)
    x = x.to(torch.float64).numpy()
    return x.reshape(len(x), -1) if x.ndim < 2 else x, (y.to(torch.float64) if y.is_floating_point() else y).numpy()


class TorchRecorder:
    """Records a training loop of PyTorch as `nets.train` records its own: the same file, the same `Run`.

    Nothing about the loop changes but one line, ``recorder.step(loss)`` after ``optimizer.step()`` and before the gradients are
    set to zero again. The learning rate is read from the optimizer at each step, so that a scheduler may change it: call it after
    ``recorder.step``. The trajectory is the same, bit for bit, with and without the recorder.

    Parameters
    ----------
    module : torch.nn.Module
        As it is trained; its parameters are copied after each step.
    loss : callable
        loss(outputs, targets), the mean over the batch.
    optimizer : torch.optim.Optimizer
        With one learning rate, momentum and weight decay for all its groups that hold recorded parameters; momentum and weight
        decay are read at the start. Its weight decay is part of the loss (not that of AdamW).
    loader : DataLoader or Data
        What it is trained on. Of a DataLoader batch size and sampling are read; with a `nets.Data` they must be given.
    steps : int
        How many are to come, as ``epochs * len(loader)``: by it the records are spread and their size is known. Fewer make an
        interrupted run; more are not recorded, with a warning.
    test : DataLoader, Dataset, optional
        Its loss and error are recorded as well. (Those of a `nets.Data` with ``Record(test=True)``.)
    record : Record, optional
        What to record; default ``Record(test=test is not None)``. Blocks are parameter names. For large networks
        ``Record(weights=...)`` keeps some of them, ``Record(weights=None, center=..., basis=...)`` projections on a few, say
        random, directions. A record above ``max_bytes`` is refused before the first step.
    out : path, optional
        HDF5 file, written in segments while the run goes on: a killed process loses what came after the last one.
    overwrite : bool
        If False, an existing `out` is an error.
    parameters, evaluation
        As of `TorchModel`.
    batch, sampling
        Where the loader does not say them.
    seed : int, optional
        To be stored with the run; default: that of torch's generator.
    resume : Run or path, optional
        The run that goes on: steps are counted from its end. Restore module and optimizer from your own checkpoint first.

    Attributes
    ----------
    model : TorchModel
        The module with its weights at the start. What is not recorded, other parameters and running averages, follows the module:
        losses have it as it is at their step, the run as it is at the end.
    data : Data
        The samples.
    nbytes : int
        What the series of this record will take at most.
    run : Run
        After the ``with`` block.

    Raises
    ------
    ImportError, TypeError, ValueError, OSError
        Bad arguments, before any work: a loader without a fixed batch size or of unknown sampling, several learning rates,
        layers that need ``evaluation=True``, a record that would be too large, a file that cannot be written.

    Notes
    -----
    A step that the optimizer passes over, as under a GradScaler whose gradients overflow, is not counted.

    Losses of all samples are those of the copy in double precision and in evaluation mode; they are the expensive part, of which
    ``Record(losses_every=...)`` decides. Each step costs two copies of the parameters and one transfer of four numbers.

    Examples
    --------
    >>> import nets, torch
    >>> digits, _ = nets.load_data("digits"), torch.manual_seed(0)
    >>> samples = torch.utils.data.TensorDataset(torch.tensor(digits.x_train).float(), torch.tensor(digits.y_train))
    >>> loader = torch.utils.data.DataLoader(samples, batch_size=50, shuffle=True, drop_last=True)
    >>> net, loss = torch.nn.Linear(64, 10), torch.nn.CrossEntropyLoss()
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> with nets.TorchRecorder(net, loss, optimizer, loader, steps=2 * len(loader)) as recorder:
    ...     for epoch in range(2):
    ...         for x, y in loader:
    ...             optimizer.zero_grad()
    ...             batch_loss = loss(net(x), y)
    ...             batch_loss.backward()
    ...             optimizer.step()
    ...             recorder.step(batch_loss)
    >>> recorder.run
    Run('TensorDataset', TorchModel(Linear, 2 blocks, 650 weights), steps 1-56, shuffle, lr=0.1, batch=50, single)
    >>> nets.pca(recorder.run, block="bias").variances.shape
    (10,)
    """

    def __init__(
        self,
        module: Any,
        loss: Any,
        optimizer: Any,
        loader: Any,
        *,
        steps: int,
        test: Any = None,
        record: Record | None = None,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = True,
        parameters: Any = None,
        evaluation: bool = False,
        batch: int | None = None,
        sampling: str | None = None,
        seed: int | None = None,
        resume: Run | str | os.PathLike[str] | None = None,
    ) -> None:
        torch = import_torch()
        integer("steps", steps, 1, 2**53)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer must be one of torch.optim: got {type(optimizer).__name__}")
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module: got {type(module).__name__}")
        chosen = chosen_parameters(module, parameters)
        self._module, self._optimizer, self._values = module, optimizer, list(chosen.values())
        self._check_covered(chosen)
        how = _algorithm(optimizer, self._groups())
        batch, sampling = _batches(loader, batch, sampling)
        self.model = TorchModel(module, loss, weight_decay=how["decay"], parameters=parameters, evaluation=evaluation)
        self.data = loader if isinstance(loader, Data) else torch_data(loader, test)
        x, y = self.model.check_samples(self.data.x_train, self.data.y_train)
        self._train = (x, y, y)
        if record is not None:
            of_kind(record, Record, "record", "nets.Record(weights='fc.weight', ...)")
        record = Record(test=test is not None) if record is None else record
        tested = self.model.check_samples(self.data.x_test, self.data.y_test) if record.test and len(self.data.x_test) else None
        self._test = None if tested is None else (*tested, tested[1])
        before = load_run(resume) if isinstance(resume, (str, os.PathLike)) else resume
        start = self.model.theta
        first = 0 if before is None else self._first_step(before, start)
        single = all(value.dtype != torch.float64 for value in self._values)
        dtype = np.float32 if single else np.float64
        origin = start if record.center is None else np.array(record.center, dtype=np.float64)
        self._recorder = Recorder(self.model, record, first, int(steps), origin, dtype)
        self.nbytes = self._recorder.nbytes
        if seed is None:
            seed = torch.initial_seed() % 2**63
        self._facts: dict[str, Any] = {
            "lr": how["lr"], "batch": batch, "sampling": sampling, "momentum": how["momentum"],
            "seed": integer("seed", seed, 0, 2**63 - 1), "optimizer": how["optimizer"],
            "precision": "single" if single else "double", **how["constants"], "data_name": self.data.name,
            "data_hash": fingerprint(x, y), "n_samples": self.data.size, "first_step": first,
        }  # fmt: skip
        self._lr, self._decay = how["lr"], how["decay"]
        self._constants: list[tuple[Any, ...]] | None = self._constants_now()
        self._plain = how["optimizer"] == "sgd" and how["momentum"] == 0.0
        self._eps = max(float(torch.finfo(value.dtype).eps) for value in self._values)
        self._step, self._passed_over = first, False
        self._run: Run | None = None
        self._started = self._saved = time.perf_counter()
        self._out, self._overwrite = None if out is None else check_free(out, overwrite), overwrite
        self._store: Store | None = None
        logger.info("recording %d steps of %r: at most %.1f MB of series", steps, self.model, 1e-6 * self.nbytes)

    def _check_covered(self, chosen: dict[str, Any]) -> None:
        known = {id(value) for group in self._optimizer.param_groups for value in group["params"]}
        left = [name for name, value in chosen.items() if id(value) not in known]
        if left:
            raise ValueError(f"the optimizer does not move {left}: give parameters= the names of those that it does")

    def _groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups that hold recorded parameters."""
        recorded = {id(value) for value in self._values}
        return [g for g in self._optimizer.param_groups if any(id(value) in recorded for value in g["params"])]

    def _constants_now(self) -> list[tuple[Any, ...]]:
        return [tuple(group.get(name) for name in ("momentum", "betas", "weight_decay")) for group in self._groups()]

    def _first_step(self, before: Run, start: Array) -> int:
        of_kind(before, Run, "resume", "of nets.TorchRecorder, or the path of its file")
        if getattr(before.mlp, "shapes", None) != self.model.shapes:
            raise ValueError(f"resume: the run was of {before.mlp!r}, not of {self.model!r}")
        gap = float(np.abs(before.theta - start).max())
        if gap > SAME * max(1.0, float(np.abs(before.theta).max())):
            raise ValueError(
                f"resume: the weights of the module differ from those at the end of the run by up to {gap:.3g}: restore module and "
                "optimizer from your checkpoint first, or write the weights with TorchModel.write(run.theta, module)"
            )
        return before.step

    # ---- the loop -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._last = self._vector()
        self._moved = 0.0 * self._last
        self._origin = import_torch().from_numpy(self._recorder.ref).to(self._last.device)
        self._none = 0.0 * self._last[:1]
        self._sum = 0.0 * self._last  # of theta - origin over the chunk, on the device
        if self._out is not None:
            self._store = Store(self._out, self._overwrite)
        if self._step == 0:
            self._evaluate(0)
        self._open_chunk()
        return self

    def _vector(self) -> Any:
        """The parameters as they are, a new vector in double precision."""
        torch = import_torch()
        return flat([value.to(torch.float64) for value in self._values])

    def _numpy(self, vector: Any) -> Array:
        return np.asarray(vector.cpu().numpy())

    def _open_chunk(self) -> None:
        r = self._recorder
        self._chunk = self._step
        self._stop = r.next_stop(self._step) if self._step < r.first + r.steps else self._step
        self._rows = r.room(self._step, self._stop)
        self._row = 0
        self._scalars = np.empty((self._stop - self._step, 4))

    def step(self, loss: Any) -> None:
        """Note the step that the optimizer has just done; `loss` is that of its minibatch, a tensor of one number or a float.

        Raises
        ------
        ValueError
            There are no gradients (they were set to zero too early), or `loss` is not one number.
        fpsolve.FpsolveError
            Loss, gradient or weights are not finite any more; what was recorded before is kept.
        """
        from fpsolve import FpsolveError

        r, torch = self._recorder, import_torch()
        if not hasattr(self, "_last"):
            raise RuntimeError("record inside of a with block: with nets.TorchRecorder(...) as recorder: ...")
        if self._step >= r.first + r.steps:
            warnings.warn(f"recorder.step was called more than steps = {r.steps} times; the rest is not recorded", stacklevel=2)
            return
        value = loss.detach() if isinstance(loss, torch.Tensor) else torch.as_tensor(loss)
        if value.numel() != 1:
            raise ValueError(f"recorder.step takes the mean loss of the minibatch, one number: got shape {tuple(value.shape)}")
        lr = _learning_rate(self._groups())
        before, after = self._last, self._vector()
        gradient = self._gradient(before)
        moved = (before - after) / lr if lr else 0.0 * before
        offset = before - self._origin if r.sums else None
        dot = offset @ gradient if offset is not None else torch.zeros((), dtype=before.dtype, device=before.device)
        size, gap = before @ before, moved - gradient if self._plain else self._none
        loss_of_all = value.to(before).reshape(()) + 0.5 * self._decay * size
        numbers, checks = np.split(
            torch.stack([loss_of_all, dot, gradient @ gradient, moved @ moved, size, gap @ gap]).cpu().numpy(), [4]
        )
        if not np.isfinite(numbers[2]) and torch.equal(after, before):
            self._pass_over()
            return
        self._note_lr(lr)
        if not np.isfinite(numbers).all():
            raise FpsolveError(
                f"training diverged: loss, gradient or weights became non-finite at step {self._step + 1} (lr={self._lr:g}). Try a "
                f"smaller lr (say {self._lr / 4:g}), or check the scale of the inputs; what was recorded before is kept"
            )
        self._check_plain(numbers[2], *checks)
        if offset is not None:
            self._sum += offset
        self._last, self._moved = after, moved
        self._scalars[self._step - self._chunk] = numbers
        self._step += 1
        if r.row_every and self._step % r.row_every == 0:
            self._rows[self._row] = self._numpy(after[r.row_lo : r.row_hi])
            self._row += 1
        if self._step == self._stop or time.perf_counter() - self._saved > SEGMENT_SECONDS:
            self._close_chunk()

    def _pass_over(self) -> None:
        """A step that the optimizer did not do is none."""
        if not self._passed_over:
            self._passed_over = True
            warnings.warn(
                f"after step {self._step} the gradient was not finite and no weight moved, as where a GradScaler passes over a "
                "step: such steps are not counted, so that the run ends with fewer than were announced",
                stacklevel=3,
            )

    def _gradient(self, before: Any) -> Any:
        """The gradient of the step, weight decay included where it is part of the loss."""
        torch = import_torch()
        if all(value.grad is None for value in self._values):
            raise ValueError("there are no gradients: call recorder.step(loss) after optimizer.step() and before zero_grad()")
        each = [torch.zeros_like(value) if value.grad is None else value.grad for value in self._values]
        gradient = flat([g.to(torch.float64) for g in each])
        if not self._decay:
            return gradient
        if any(value.grad is None for value in self._values):  # these the optimizer passes over, their weight decay too
            before = before * flat(
                [torch.full_like(g, value.grad is not None) for g, value in zip(each, self._values, strict=True)]
            )
        return gradient + self._decay * before

    def _check_plain(self, gradient2: float, size2: float, gap2: float) -> None:
        """Warn, once, if a step of plain SGD is not lr times the gradient, to rounding: the call is in the wrong place."""
        if not self._plain or not self._lr:
            return
        rounding = 4.0 * self._eps * math.sqrt(size2) / self._lr
        if math.sqrt(gap2) > rounding + (1e-3 + 16.0 * self._eps) * math.sqrt(gradient2):
            self._plain = False
            warnings.warn(
                f"step {self._step + 1} was not lr = {self._lr:g} times the gradient, as steps of SGD are; what is recorded of "
                "gradients and learning rate is not what moved the weights: call recorder.step(loss) once after each "
                "optimizer.step(), before the scheduler's step, and change neither weights nor gradients between",
                stacklevel=3,
            )

    def _note_lr(self, lr: float) -> None:
        """Learning rate of the step; where it changes, the run becomes a scheduled one."""
        constants = self._constants_now()
        if self._constants is not None and constants != self._constants:
            self._constants = None  # it is said once
            self._plain = False
            warnings.warn(
                f"momentum or weight decay changed before step {self._step + 1}; the run states those of its start (a scheduler "
                "can be told: cycle_momentum=False)",
                stacklevel=3,
            )
        if lr != self._lr:
            r, batch = self._recorder, np.array([self._facts["batch"]])
            if self._facts["lr"] is not None:
                if self._step > r.first:
                    r.add_schedule(r.first, np.array([self._lr]), batch)
                self._facts["lr"] = None
            r.add_schedule(self._step, np.array([lr]), batch)
            self._lr = lr

    def _evaluate(self, step: int) -> None:
        self.model.follow(self._module)
        self._recorder.add_loss(step, self._numpy(self._last), self._train, self._test)

    def _close_chunk(self) -> None:
        """Digest what came since the last time, and write a segment if it is time for one."""
        r = self._recorder
        if self._step > self._chunk:
            r.acc += self._numpy(self._sum)
            self._sum.zero_()
            r.add(self._chunk, self._step, self._rows[: self._row], self._scalars[: self._step - self._chunk])
            if self._step % r.losses_every == 0:
                self._evaluate(self._step)
        if self._store and (r.pending_bytes > SEGMENT_BYTES or time.perf_counter() - self._saved > SEGMENT_SECONDS):
            self._store.write(r.take_series(), self._tree(False))
        if time.perf_counter() - self._saved > SEGMENT_SECONDS:
            self._saved = time.perf_counter()
        self._open_chunk()

    def _tree(self, complete: bool) -> dict[str, Any]:
        """All of the run but its series."""
        theta: NDArray[Any] = self._numpy(self._last).astype(self._recorder.dtype)
        state = {"theta": theta, "velocity": self._moment(theta, "momentum_buffer", "exp_avg")}
        adam = self._facts["optimizer"] == "adam"
        state["second"] = self._moment(theta, "exp_avg_sq") if adam else theta[:0].copy()
        wall = time.perf_counter() - self._started
        return self._recorder.tree(self._step, complete, self._facts, state, wall)

    def _moment(self, theta: NDArray[Any], *names: str) -> NDArray[Any]:
        """What the optimizer keeps beside the parameters: zero where it keeps nothing yet, the last step / lr if it never does."""
        torch, parts = import_torch(), []
        kept_by_all = [self._optimizer.state.get(value, {}) for value in self._values]
        if not any(name in kept for kept in kept_by_all for name in names):
            return self._numpy(self._moved).astype(theta.dtype)
        for value, kept in zip(self._values, kept_by_all, strict=True):
            found = next((kept[name] for name in names if isinstance(kept.get(name), torch.Tensor)), None)
            parts.append(torch.zeros_like(value) if found is None else found.reshape(value.shape))
        return self._numpy(flat([part.to(torch.float64) for part in parts])).astype(theta.dtype)

    # ---- the end --------------------------------------------------------------------------------------------------------

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        r, store = self._recorder, self._store
        try:
            if self._step > self._chunk:
                self._close_chunk()
            complete = self._step == r.first + r.steps
            if not complete:
                logger.warning("ended after step %d of %d; what was recorded so far is kept", self._step, r.first + r.steps)
            self.model.follow(self._module)
            tree = self._tree(complete)
            series = r.take_series()
            if store is not None:
                store.write(series, tree)
                store.close()
                self._run = load_run(store.path, model=self.model)
                return
        except BaseException:
            if store is not None:
                store.leave()
            raise
        for group, arrays in series.items():
            tree[group] = {**tree.get(group, {}), **arrays}
        self._run = from_tree(tree, None, tree.pop("record"), self.model)

    @property
    def run(self) -> Run:
        """What was recorded; after the ``with`` block."""
        if self._run is None:
            raise RuntimeError("the run is there after the with block")
        return self._run


# ---- what the loop says of itself -----------------------------------------------------------------------------------------


def _learning_rate(groups: list[dict[str, Any]]) -> float:
    """That of all groups, or ValueError; a schedule may begin and end at 0."""
    rates = sorted({float(group.get("lr", math.nan)) for group in groups})
    if len(rates) != 1 or not (math.isfinite(rates[0]) and rates[0] >= 0.0):
        raise ValueError(
            f"the optimizer must have one finite learning rate, 0 or above, for all its groups: got {rates}; record the parameters "
            "of one group alone with parameters="
        )
    return rates[0]


def _algorithm(optimizer: Any, groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Name and constants of the optimizer, as a run states them."""
    torch = import_torch()
    decays = sorted({float(group.get("weight_decay", 0.0)) for group in groups})
    decoupled = isinstance(optimizer, torch.optim.AdamW) or any(group.get("decoupled_weight_decay") for group in groups)
    if len(decays) > 1 and not decoupled:
        raise ValueError(
            f"the optimizer must have one weight decay for all its groups, as it is part of the loss: got {decays}; record the "
            "groups alone with parameters=, or add your penalty to the loss"
        )
    plain: dict[str, Any] = {
        "lr": _learning_rate(groups),
        "decay": 0.0 if decoupled else decays[0],
        "momentum": 0.0,
        "constants": {},
    }
    group = groups[0]
    if type(optimizer) is torch.optim.SGD:
        odd = [name for name in ("nesterov", "dampening", "maximize") if any(g.get(name) for g in groups)]
        momenta = sorted({float(g["momentum"]) for g in groups})
        if len(momenta) > 1:
            raise ValueError(f"the optimizer must have one momentum for all its groups: got {momenta}")
        return {**plain, "momentum": momenta[0], "optimizer": f"sgd ({', '.join(odd)})" if odd else "sgd"}
    if type(optimizer) is torch.optim.Adam and not decoupled and not group.get("amsgrad"):
        constants = {"betas": tuple(float(b) for b in group["betas"]), "eps": float(group["eps"])}
        return {**plain, "optimizer": "adam", "constants": constants}
    return {**plain, "optimizer": type(optimizer).__name__.lower()}


def _batches(loader: Any, batch: int | None, sampling: str | None) -> tuple[int, str]:
    """Batch size and sampling, of the loader or as given."""
    torch = import_torch()
    data = torch.utils.data
    if isinstance(loader, Data):
        if batch is None or sampling is None:
            raise ValueError("with a nets.Data the recorder must be told batch= and sampling= ('shuffle' or 'replace')")
    elif not isinstance(loader, data.DataLoader):
        raise TypeError(f"loader must be a torch.utils.data.DataLoader or a nets.Data: got {type(loader).__name__}")
    elif batch is None:
        size = loader.batch_size
        if size is None or type(loader.batch_sampler) is not data.BatchSampler:
            raise ValueError("the loader has no fixed batch size (a batch sampler of its own): give batch=")
        drawn = len(loader.sampler)
        if drawn % size and not loader.drop_last:
            raise ValueError(
                f"the loader's batches are not all of one size: of {size} samples, the last one of {drawn % size}. Use "
                f"DataLoader(..., drop_last=True), or pass batch={size} to have it recorded as if they were"
            )
        batch = size
    if sampling is None:
        kind = type(loader.sampler)
        if kind is not data.RandomSampler:
            raise ValueError(
                f"the loader draws its samples with {kind.__name__}, whose noise is not known: use shuffle=True, or "
                "RandomSampler(dataset, replacement=True), or pass sampling='shuffle' or 'replace' for what comes nearest"
            )
        sampling = "replace" if loader.sampler.replacement else "shuffle"
        held, drawn = len(loader.dataset), len(loader.sampler)
        if sampling == "shuffle" and drawn % held:
            raise ValueError(
                f"the loader draws {drawn} of {held} samples without replacement, whose noise is not known: leave num_samples out, "
                "or pass sampling='shuffle' or 'replace' for what comes nearest"
            )
    if sampling not in ("shuffle", "replace"):
        raise ValueError(f"sampling must be 'shuffle' or 'replace': got {sampling!r}")
    return integer("batch", batch, 1), sampling
