"""A finished (or interrupted) training run: parameters, final state, and everything recorded."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsolve.results import Quantity, Result

from ._checks import integer, of_kind
from ._saved import check_fields
from .data import Data, fingerprint
from .mlp import MLP, check_network
from .parameters import Model, Parameters

__all__ = ["Run", "load_run"]

Array = NDArray[np.float64]

#: Read from the file only when asked for.
_LAZY = ("weights/value", "projections/value")


@dataclass(frozen=True, eq=False)
class Run(Result):
    """Result of `nets.train`; all of it is in the HDF5 file `path` under the names given here, readable with plain h5py.

    Attributes
    ----------
    mlp : MLP, TorchModel or Parameters
        /model: widths, activation, loss, weight_decay. Of a run of PyTorch the `TorchModel` it was recorded with; read from a file
        without `model`, the `Parameters` alone: names and shapes.
    lr : float or None
        None if it was a schedule, see `schedule`; so is `batch`.
    batch : int or None
    momentum : float
    optimizer, precision : str
    betas, eps
        Of Adam; None for SGD.
    seed, n_samples : int
    sampling, data_name, data_hash : str
    first_step, step : int
        The run covers the steps first_step + 1 .. step, counted from the start of training.
    complete : bool
        False if it was interrupted.
    wall_time : float
        Seconds. All from `lr` on: /training.
    state : dict
        /state: theta (P,), velocity (P,), second (P or 0,), rng (4,), perm (N,), cursor (2,): what continues the run bit for bit.
    tree : mapping
        The groups loss, weights, projections, moments, blocks, mean, schedule; see the properties.
    path : Path or None
    provenance : dict

    Examples
    --------
    >>> import nets
    >>> mlp, data = nets.MLP((2, 8, 2), activation="tanh"), nets.load_data("spiral")
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=5, seed=1)
    >>> run
    Run('spiral', MLP((2, 8, 2), activation='tanh', loss='cross_entropy', weight_decay=0.0), steps 1-400, shuffle, lr=0.1, batch=10)
    >>> run.losses["step"][-1], run.theta.shape
    (np.int64(400), (42,))
    """

    mlp: Parameters
    lr: float | None
    batch: int | None
    sampling: str
    momentum: float
    seed: int
    data_name: str
    data_hash: str
    n_samples: int
    first_step: int
    step: int
    complete: bool
    wall_time: float
    state: Mapping[str, NDArray[Any]] = field(repr=False)
    tree: Mapping[str, Any] = field(repr=False)
    path: Path | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    optimizer: str = "sgd"
    betas: tuple[float, float] | None = None
    eps: float | None = None
    precision: str = "double"
    ROWS: ClassVar[str] = "step"
    DRAWN: ClassVar[str] = "train_loss"

    def __repr__(self) -> str:
        marks = [self.sampling] + ([self.optimizer] if self.optimizer != "sgd" else [])
        marks.append("lr scheduled" if self.lr is None else f"lr={self.lr:g}")
        marks.append("batch scheduled" if self.batch is None else f"batch={self.batch}")
        marks += [f"momentum={self.momentum:g}"] if self.momentum else []
        marks += ["single"] if self.precision == "single" else []
        marks += [] if self.complete else ["interrupted"]
        return f"Run({self.data_name!r}, {self.mlp!r}, steps {self.first_step + 1}-{self.step}, {', '.join(marks)})"

    def _quantities(self) -> dict[str, Quantity]:
        """Settings, and the series of losses; nothing is read from the file."""
        names = ("data_name", "n_samples", "first_step", "step", "complete", "sampling", "lr", "batch", "momentum", "optimizer")
        found = {name: Quantity(getattr(self, name)) for name in (*names, "precision", "seed") if getattr(self, name) is not None}
        found["model"] = Quantity(repr(self.mlp))
        found["wall_time"] = Quantity(self.wall_time, units="s", meaning="time that training took")
        series = {name: values for name, values in self.tree.get("loss", {}).items() if name != "step"}
        units = {"dot_gradient": "loss", "gradient_norm2": "loss^2/weight^2"}
        for name, values in series.items():
            unit = "loss" if name.endswith("loss") else units.get(name, "1")
            found[name] = Quantity(np.asarray(values), ("step",), unit, name.replace("_", " "))
        return found

    def _along(self, axis: str) -> Quantity | None:
        return Quantity(np.asarray(self.losses["step"]), units="iteration") if axis == "step" else None

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` of the series of losses, and of the weights and projections recorded (read from the file)."""
        data = super().to_xarray()
        for group, axis in (("weights", "weight"), ("projections", "direction")):
            if group in self.tree:
                series = self._series(group, group)
                data[group] = ((f"{group}_step", axis), series["value"], {"units": "weight"})
                data = data.assign_coords({f"{group}_step": series["step"]})
        return data

    @property
    def theta(self) -> Array:
        """Final parameters, shape (P,), in double precision."""
        return np.asarray(self.state["theta"], dtype=np.float64)

    def constants(self, purpose: str) -> tuple[float, int]:
        """Learning rate and batch size, where `purpose` needs plain SGD at constant ones.

        Raises
        ------
        ValueError
            If the run was scheduled, or used Adam.
        """
        if self.lr is None or self.batch is None or self.optimizer != "sgd":
            raise ValueError(f"{purpose} needs SGD at a constant learning rate and batch size: got {self!r}")
        return self.lr, self.batch

    def check_data(self, data: Data) -> None:
        """ValueError unless `data` has the training samples of the run."""
        of_kind(data, Data, "data", "what the run was trained on")
        check_network(self.mlp)
        assert isinstance(self.mlp, (MLP, Model))
        if self.data_hash != fingerprint(*self.mlp.check_samples(data.x_train, data.y_train)):
            raise ValueError(
                f"the run used other training data ({self.data_name!r}, {self.n_samples} samples, hash {self.data_hash}) than "
                f"given ({data.name!r}, {data.size} samples)"
            )

    @property
    def mean_weights(self) -> Array:
        """Mean over all steps of the parameters before the step, shape (P,)."""
        if "mean" not in self.tree:
            raise ValueError("the mean weights were not accumulated: train with record=nets.Record(sums=True)")
        return np.asarray(self.tree["mean"]["theta"])

    @property
    def losses(self) -> Mapping[str, Array]:
        """Series step, train_loss, train_error, dot_gradient = (theta - origin).grad L, gradient_norm2 (test_loss, test_error)."""
        return self._series("loss", "losses_every")

    @property
    def weights(self) -> Mapping[str, Array]:
        """Series step (n,), value (n, size); `index` gives the positions of the columns in theta."""
        return self._series("weights", "weights")

    @property
    def projections(self) -> Mapping[str, Array]:
        """Series step (n,), value (n, k) of y = basis^T (theta - center)."""
        return self._series("projections", "basis and center")

    @property
    def moments(self) -> Mapping[str, Any]:
        """Of the projections: count, mean (k,), covariance (k, k), center, basis; block_count, block_mean, block_square."""
        if "moments" not in self.tree:
            raise ValueError("no projections were recorded: train with record=nets.Record(center=..., basis=...)")
        return dict(self.tree["moments"])

    @property
    def blocks(self) -> Mapping[str, Array]:
        """Means over stretches of time, (n,): steps, minibatch_loss, dot_gradient, gradient_norm2, velocity_norm2; edges."""
        return dict(self.tree["blocks"])

    @property
    def schedule(self) -> Mapping[str, Array]:
        """Of a scheduled run, where they change: step (the first with the value), lr, batch."""
        return self._series("schedule", "lr or batch to a schedule instead of what is")

    @property
    def origin(self) -> Array:
        """Origin c of (theta - c).grad L."""
        return np.asarray(self.tree["origin"])

    def _stored(self, group: str, setting: str) -> Mapping[str, Any]:
        stored: Mapping[str, Any] = self.tree.get(group, {})
        if "step" not in stored:
            raise ValueError(
                f"no {group} series was recorded in steps {self.first_step + 1}-{self.step}: set {setting} in nets.Record"
            )
        return stored

    def _series(self, group: str, setting: str) -> dict[str, Array]:
        stored = self._stored(group, setting)
        series = dict(stored)
        if "value" not in series and f"{group}/value" in _LAZY and self.path is not None:
            with self._open() as file:
                series["value"] = _value(file, group)[()]
        return series

    @property
    def weights_index(self) -> NDArray[np.intp]:
        """Positions in theta of the columns of the recorded weights."""
        return np.asarray(self._stored("weights", "weights")["index"])

    def weight_columns(self, block: str | Sequence[str] | None = None) -> slice | NDArray[np.intp]:
        """Columns of the recorded weights that hold `block`, in its order; a slice where they are neighbours."""
        recorded = self.weights_index
        if block is None:
            return slice(0, len(recorded))
        place = np.full(self.mlp.dim, -1, dtype=np.intp)
        place[recorded] = np.arange(len(recorded))
        columns = place[self.mlp.block_index(block)]
        if (columns < 0).any():
            raise ValueError(f"block {block!r} was not recorded (all of it): train with record=nets.Record(weights={block!r})")
        neighbours = bool((np.diff(columns) == 1).all())
        return slice(int(columns[0]), int(columns[-1]) + 1) if neighbours else columns

    def weight_steps(self, window: tuple[int, int] | None = None) -> NDArray[np.int64]:
        """Steps of the recorded weights; with `window`, those in window[0] + 1 .. window[1]."""
        steps = np.asarray(self._stored("weights", "weights")["step"])
        return steps[self._range(window)]

    def _range(self, window: tuple[int, int] | None) -> slice:
        steps = np.asarray(self._stored("weights", "weights")["step"])
        if window is None:
            return slice(0, len(steps))
        try:
            low, high = (integer("window", end, 0) for end in window)
        except (TypeError, ValueError):
            raise ValueError(
                f"window must be two steps (first, last), for the records of first + 1 .. last: got {window!r}"
            ) from None
        part = slice(int(np.searchsorted(steps, low, side="right")), int(np.searchsorted(steps, high, side="right")))
        if part.start >= part.stop:
            raise ValueError(
                f"no weights were recorded in the steps {low + 1} .. {high}: the records are of {steps[0]} .. {steps[-1]}"
            )
        return part

    def iter_weights(
        self, *, block: str | Sequence[str] | None = None, window: tuple[int, int] | None = None, rows: int = 500
    ) -> Iterator[tuple[NDArray[np.int64], Array]]:
        """Recorded weights in pieces of at most `rows`: pairs steps (n,), values (n, size); from a file, read piece by piece.

        Examples
        --------
        >>> import nets
        >>> mlp, data = nets.MLP((2, 8, 2), activation="tanh"), nets.load_data("spiral")
        >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=1, record=nets.Record(weights_every=1))
        >>> [(int(step[-1]), value.shape) for step, value in run.iter_weights(block="W2", window=(20, 70), rows=40)]
        [(60, (40, 16)), (70, (10, 16))]
        """
        columns, part = self.weight_columns(block), self._range(window)
        stored = self._stored("weights", "weights")
        with nullcontext(stored) if "value" in stored else self._open() as source:
            values = source["value"] if "value" in stored else _value(source, "weights")
            for i in range(part.start, part.stop, rows):
                stop = min(i + rows, part.stop)
                piece = values[i:stop, columns] if isinstance(columns, slice) else values[i:stop][:, columns]
                yield np.asarray(stored["step"][i:stop]), np.asarray(piece)

    def _open(self) -> Any:
        from fpsolve import io

        assert self.path is not None
        return io.reading(self.path, " as a training run")

    def projection_series(self, column: int) -> Array:
        """Series of one projection, shape (n,); from a file, that column alone is read."""
        stored = self.tree.get("projections", {})
        if "value" in stored or self.path is None:
            return np.asarray(self.projections["value"][:, column])
        with self._open() as file:
            return np.asarray(_value(file, "projections")[:, column])


def _value(file: Any, name: str) -> Any:
    """The rows of a series, not read yet."""
    from fpsolve import io

    group = _group(file, name)
    _series_of(group)
    return io.member(group, "value")


def from_tree(tree: dict[str, Any], path: Path | None, provenance: Mapping[str, Any], network: Model | None = None) -> Run:
    """Run of a tree as it is stored."""
    model, facts, state = tree["model"], tree["training"], tree["state"]
    mlp: Parameters
    if "widths" in model or "parameters" not in model:
        mlp = MLP(
            tuple(int(w) for w in np.atleast_1d(model["widths"])),
            activation=model["activation"],
            loss=model["loss"],
            weight_decay=model["weight_decay"],
        )
    else:
        mlp = Parameters.from_spec(model)
    if network is not None:
        mlp = _same_network(mlp, network)
    rest = {name: value for name, value in tree.items() if name not in ("model", "training", "state")}
    _check_state(state, mlp, facts)
    if facts.get("betas") is not None:
        facts = {**facts, "betas": tuple(float(beta) for beta in facts["betas"])}
    check_fields(Run, {"mlp": mlp, "state": state, "tree": rest, **facts}, {})
    return Run(mlp=mlp, state=state, tree=rest, path=path, provenance=provenance, **facts)


def _same_network(stored: Parameters, given: Model) -> Model:
    """`given`, if it has the blocks that the file has."""
    if not isinstance(given, Model):
        raise TypeError(f"model must be the network of the run, a nets.TorchModel: got {type(given).__name__}")
    if isinstance(stored, MLP) or given.shapes != stored.shapes or given.weight_decay != stored.weight_decay:
        of = repr(stored) if isinstance(stored, MLP) else f"{stored.shapes} with weight_decay={stored.weight_decay:g}"
        raise ValueError(f"the run is of {of}, not of {given.shapes} with weight_decay={given.weight_decay:g}")
    return given


def _check_state(state: Mapping[str, Any], mlp: Parameters, facts: Mapping[str, Any]) -> None:
    """What a resumed run hands to compiled code, which checks no index, is of the right shape and range."""
    n, p = integer("n_samples", facts["n_samples"], 1), mlp.dim
    if np.shape(state["theta"]) != (p,):
        raise ValueError(f"theta has shape {np.shape(state['theta'])}, but {mlp!r} has {p} parameters")
    number = "f4" if facts.get("precision") == "single" else "f8"
    second = p if facts.get("optimizer") == "adam" else 0
    sizes = {"theta": p, "velocity": p, "second": second, "rng": 4, "perm": n, "cursor": 2}
    if not isinstance(mlp, MLP):  # its generator and order of samples are those of another package
        sizes = {"theta": p, "velocity": p, "second": second}
    kinds = {"rng": "u8", "perm": "i8", "cursor": "i8"}
    for name, size in sizes.items():
        array, kind = state.get(name, np.empty(0, number)), np.dtype(kinds.get(name, number))
        if not isinstance(array, np.ndarray) or array.shape != (size,) or array.dtype != kind:
            raise ValueError(f"state/{name} must be {size} numbers of type {kind}, got {reprlib.repr(array)}")
    if not isinstance(mlp, MLP):
        return
    perm, (place, done) = state["perm"], state["cursor"]
    if not np.array_equal(np.sort(perm), np.arange(n)) or not 0 <= place <= n or done != facts["step"]:
        raise ValueError(f"state/perm and state/cursor must be an order of {n} samples, a place in it, and the steps done")


def load_run(path: str | os.PathLike[str], *, model: Model | None = None) -> Run:
    """Read a training run from its HDF5 file; large series are read when asked for.

    If the run was killed, its segments in ``<path>.parts`` are first joined into `path`.

    Parameters
    ----------
    path : path
    model : TorchModel, optional
        The network of a run of PyTorch, which no file can hold: what is measured on the run needs it, what is recorded does not.

    Raises
    ------
    FileNotFoundError
        If neither the file nor segments of it exist.
    ValueError
        If it is damaged, holds something else, was written by a newer major version, or is still being written; or is of another
        network than `model`.

    Examples
    --------
    >>> load_run("nowhere.h5")
    Traceback (most recent call last):
    FileNotFoundError: nowhere.h5 does not exist
    """
    from fpsolve import io

    from ._store import settle

    target = Path(os.path.expanduser(os.fspath(path)))
    settle(target)
    with io.reading(target, " as a training run") as file:
        missing = {"model", "training", "state", "origin", "provenance"} - set(file)
        if missing:
            raise ValueError(f"{', '.join(sorted(missing))} missing")
        tree: dict[str, Any] = {}
        for name in ("model", "training", "state", "loss", "blocks", "mean", "moments", "schedule"):
            if name in file:
                tree[name] = io.read_group(_group(file, name))
        for name in ("weights", "projections"):
            if name in file:
                tree[name] = _series_of(_group(file, name))
        tree["origin"] = io.read_dataset(io.member(file, "origin"))
        return from_tree(tree, target, io.read_group(_group(file, "provenance"))["0"], model)


def _group(file: Any, name: str) -> Any:
    import h5py

    from fpsolve import io

    return io.member(file, name, h5py.Group)


def _series_of(group: Any) -> dict[str, Any]:
    """The small members of a series, whose rows stay in the file but must fit them."""
    from fpsolve import io

    small = {key: io.read_dataset(io.member(group, key)) for key in ("step", "index") if key in group}
    if "value" in group and "step" in small:
        shape, steps = np.shape(io.member(group, "value")), np.shape(small["step"])
        if len(shape) != 2 or shape[:1] != steps or ("index" in small and shape[1:] != np.shape(small["index"])):
            raise ValueError(f"{group.name}/value has the shape {shape}, which does not fit {steps} steps")
    return small
