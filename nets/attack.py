"""Good and bad minima of one loss: networks led astray by wrongly labelled samples, then trained on the clean ones alone."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._checks import boolean, integer, of_kind, positive
from ._progress import each
from ._saved import Saved, load
from .data import Data, fingerprint
from .minimum import check_search, find_minimum
from .mlp import MLP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Attack", "attack", "poison"]

Array = NDArray[np.float64]

#: Arguments of `find_minimum` that are handed on.
OPTIONS = ("lr", "batch", "momentum", "sampling", "max_evaluations")
KINDS = ("wrong", "negated", "random")
#: Without `attack_loss`: this many times the loss at which all runs stop.
ATTACK_LOSS = 10.0
#: What has a row for each run.
COLUMNS = (
    "size", "seed", "accuracy", "loss", "attacked_accuracy", "attacked_loss", "poisoned_loss", "gradient_norm", "evaluations",
    "theta",
)  # fmt: skip
#: Passes over clean and poisoned samples after which the attack ends.
ATTACK_EVALUATIONS = 5000.0


def poison(data: Data, n: int, *, kind: str = "wrong", seed: int = 0) -> Data:
    """Add n training samples with false labels; their inputs come from the spare samples, which are nowhere else.

    Parameters
    ----------
    data : Data
        With labels, and at least n spare samples: ``nets.load_data("disc", n=10_000).subset(80)`` has 80 to train on, 2000 to test,
        and 7920 to spare.
    n : int, >= 1
    kind : {"wrong", "negated", "random"}
        "wrong": one of the other classes, each as likely. "negated": always the next class, after the last the first, so that a
        network can learn the lie; of two classes the other, as "wrong". "random": any class, each as likely, the right one too.
    seed : int
        Of the choice of samples and labels.

    Returns
    -------
    Data
        The poisoned samples behind the `clean` others: ``poisoned.subset(poisoned.clean)`` is rid of them.

    Raises
    ------
    ValueError, TypeError
        An unknown kind, real targets, fewer spare samples than n.

    Notes
    -----
    L. Wu, Z. Zhu, W. E, Towards understanding generalization of deep learning: perspective of loss landscapes (2017),
    arXiv:1706.10239.

    Examples
    --------
    >>> import nets
    >>> data = nets.load_data("disc", n=1000).subset(80)
    >>> nets.poison(data, 20)
    Data('disc', 100 training (20 of them poisoned) and 200 test samples of dimension 2, 2 classes)
    """
    _check_poison(data, kind)
    integer(
        f"n, up to the {len(data.x_spare)} spare samples of {data!r} (load more and take a subset of them),",
        n,
        1,
        len(data.x_spare),
    )
    rng = np.random.default_rng(integer("seed", seed, 0))
    order = rng.permutation(len(data.x_spare))
    taken, kept = order[:n], np.sort(order[n:])
    classes, true = data.n_classes, data.y_spare[taken]
    shift = {"wrong": rng.integers(1, classes, n), "negated": np.ones(n, np.int64), "random": rng.integers(0, classes, n)}[kind]
    return replace(
        data,
        x_train=np.concatenate([data.x_train, data.x_spare[taken]]),
        y_train=np.concatenate([data.y_train, (true + shift) % classes]),
        x_spare=data.x_spare[kept],
        y_spare=data.y_spare[kept],
    )


def _check_poison(data: Data, kind: str) -> None:
    of_kind(data, Data, "data", "nets.load_data(...), or nets.Data of your own arrays")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}: got {kind!r}")
    if data.n_classes < 2:
        raise ValueError(f"false labels need labels of at least 2 classes: got {data!r}")


@dataclass(frozen=True, eq=False)
class Attack(Saved):
    """Minima of one clean loss, reached from sets with more and fewer false labels; made by `attack`. One row for each run.

    Attributes
    ----------
    size, seed : ndarray of int, shape (runs,)
        Poisoned samples, and the seed of initial weights, poison and batches.
    accuracy : ndarray, shape (runs,)
        Share of the test samples that the network at `theta` gets right.
    loss : ndarray, shape (runs,)
        Of the clean samples at `theta`: the same for all.
    attacked_accuracy, attacked_loss, poisoned_loss : ndarray, shape (runs,)
        Where the attack ended: test accuracy, loss of the clean samples, loss of clean and poisoned ones; without poison those of
        the initial weights.
    gradient_norm : ndarray, shape (runs,)
        Length of the gradient of `loss`.
    evaluations : ndarray, shape (runs,)
        Gradients of single samples that were taken, over the number of clean ones.
    theta : ndarray, shape (runs, P)
    method, kind : str
    settings : str
        Hash of network, data and settings, by which a file is known again.
    lost : ndarray of int, shape (k, 2)
        Size and seed of the runs that did not reach the loss: ``attack(..., strict=False)`` leaves them out of all above.
    reasons : tuple of str
        Why, of each.

    Examples
    --------
    >>> import nets
    >>> one = np.ones(3)
    >>> table = nets.Attack(np.array([0, 0, 40]), np.arange(3), np.array([0.9, 0.8, 0.6]), *7 * [one], "gd", "wrong", "")
    >>> table.of_size(0), round(table.gap, 3)
    (array([0.9, 0.8]), 0.2)
    """

    size: NDArray[np.int64]
    seed: NDArray[np.int64]
    accuracy: Array
    loss: Array
    attacked_accuracy: Array
    attacked_loss: Array
    poisoned_loss: Array
    gradient_norm: Array
    evaluations: Array
    theta: Array
    method: str
    kind: str
    settings: str
    lost: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    reasons: tuple[str, ...] = ()
    KIND: ClassVar[str] = "attack"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "size": ("run", "1", "poisoned samples"),
        "seed": ("run", "1", "seed"),
        "accuracy": ("run", "1", "test accuracy"),
        "loss": ("run", "loss", "loss of the clean samples"),
        "attacked_accuracy": ("run", "1", "test accuracy before the clean samples were trained on alone"),
        "attacked_loss": ("run", "loss", "loss of the clean samples before they were trained on alone"),
        "poisoned_loss": ("run", "loss", "loss of clean and poisoned samples, then"),
        "gradient_norm": ("run", "loss/weight", "length of the gradient"),
        "evaluations": ("run", "1", "gradients of samples over the number of clean samples"),
        "theta": ("run parameter", "weight", "parameters"),
        "lost": ("lost_run column", "1", "size and seed of runs that did not reach the loss"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {"gap": ("", "", "lowest accuracy without poison minus highest with it")}
    ROWS: ClassVar[str] = "run"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lost", np.asarray(self.lost, dtype=np.int64).reshape(-1, 2))
        object.__setattr__(self, "reasons", tuple(str(reason) for reason in self.reasons))

    def __repr__(self) -> str:
        sizes = {int(n): len(self.of_size(n)) for n in np.unique(self.size)}
        runs = ", ".join(f"{count} of {n} poisoned samples: accuracy {self.of_size(n).mean():.3f}" for n, count in sizes.items())
        return f"Attack({self.method}, {self.kind}, {runs}{f', {len(self.lost)} lost' if len(self.lost) else ''})"

    def of_size(self, size: int) -> Array:
        """Test accuracies of the runs with so many poisoned samples."""
        return np.asarray(self.accuracy[self.size == size])

    @property
    def gap(self) -> float:
        """Lowest test accuracy without poison minus the highest with it: above 0 where the two do not overlap."""
        without, attacked = self.of_size(0), self.accuracy[self.size > 0]
        if not (len(without) and len(attacked)):
            raise ValueError(f"the gap needs runs with and without poison: got the sizes {np.unique(self.size).tolist()}")
        return float(without.min() - attacked.max())

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Test accuracy of every run against the number of poisoned samples, means joined; `options` go to ``Axes.plot``.

        The label says how many runs were lost.
        """
        from ._pictures import axes

        ax, sizes = axes(ax), np.unique(self.size)
        label = f"{self.method}, {len(self.lost)} lost" if len(self.lost) else self.method
        (points,) = ax.plot(self.size, self.accuracy, **{"marker": "o", "markersize": 3, "linestyle": "", "alpha": 0.6, **options})
        ax.plot(sizes, [self.of_size(int(n)).mean() for n in sizes], color=points.get_color(), label=label)
        ax.set(xlabel="poisoned samples", ylabel="test accuracy")
        ax.legend(frameon=False)
        return ax


def attack(
    mlp: MLP,
    data: Data,
    sizes: Sequence[int],
    *,
    seeds: Sequence[int],
    loss: float,
    method: str = "l-bfgs",
    kind: str = "wrong",
    attack_loss: float | None = None,
    attack_evaluations: float = ATTACK_EVALUATIONS,
    strict: bool = True,
    threads: int = 1,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **options: Any,
) -> Attack:
    """Minima of one clean loss, good and bad: trained on clean and poisoned samples first, then on clean ones alone.

    For every size and seed: initial weights ``mlp.init(seed)``; with poison (`poison`) a minimum of all samples, at `attack_loss`;
    from there, or without poison from the initial weights, a minimum of the clean samples, at exactly `loss` (`find_minimum`).

    Parameters
    ----------
    mlp : MLP
    data : Data
        Clean, with labels, test samples, and spare ones for the poison.
    sizes : sequence of int
        Numbers of poisoned samples; 0 for the networks that were never attacked.
    seeds : sequence of int
    loss : float, > 0
        Of the clean samples, where every run stops.
    method : {"sgd", "gd", "l-bfgs"}
        With the arguments of `find_minimum` that go with it: lr, batch, momentum, sampling, max_evaluations.
    kind : {"wrong", "negated", "random"}
        As of `poison`.
    attack_loss : float, > 0
        Loss of clean and poisoned samples at which the attack ends; default: ten times `loss`. Doubled for a run in which the clean
        samples alone would then have a loss below `loss` already, until they have not: nothing goes uphill.
    attack_evaluations : float
        The attack ends after so many passes over clean and poisoned samples, too, at whatever loss: not every network can learn
        all false labels by heart. `poisoned_loss` tells how far it got.
    strict : bool
        True: the first run that does not reach `loss` ends all with an error. False: such runs are left out of the rows, and
        listed in `Attack.lost`; look at them, for what is left is a selection.
    threads : int
        Runs at a time.
    out : path, optional
        HDF5 file, written after every run. Runs with the same settings that it holds already, lost ones too, are not done again.
    progress : bool
        Show a bar of runs.
    **options
        See `method`.

    Returns
    -------
    Attack
        The runs in the order of `sizes`, for each that of `seeds`.

    Raises
    ------
    ValueError, TypeError
        Bad arguments, too few spare samples, a file of other settings. Before any work.
    OSError
        `out` cannot be written.
    fpsolve.FpsolveError
        A run did not reach its loss, and `strict`, or none did; `out` holds those that were finished.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("disc", n=1000).subset(80), nets.MLP((2, 40, 1), activation="tanh", loss="mse")
    >>> table = nets.attack(mlp, data, [0, 60], seeds=[0, 1], loss=1e-3, attack_evaluations=1000)
    >>> bool(table.gap > 0.1), table.loss.round(9).tolist()
    (True, [0.001, 0.001, 0.001, 0.001])
    """
    from fpsolve import FpsolveError

    jobs = [(n, s) for n in _whole("sizes", sizes) for s in _whole("seeds", seeds)]
    attack_loss = ATTACK_LOSS * positive("loss", loss) if attack_loss is None else positive("attack_loss", attack_loss)
    positive("attack_evaluations", attack_evaluations)
    integer("threads", threads, 1)
    boolean("strict", strict)
    boolean("progress", progress)
    _check(mlp, data, max(n for n, _ in jobs), loss, method, kind, options)
    key = _key(mlp, data, loss, method, kind, attack_loss, attack_evaluations, sorted(options.items()))
    ends = {"loss": attack_loss, "max_evaluations": attack_evaluations, "strict": False}
    table = _Table(key, method, kind, out)
    if strict:
        table.refuse_lost(jobs)
    waiting = [job for job in jobs if job not in table.rows and job not in table.lost]

    def carry_out(job: tuple[int, int]) -> None:
        try:
            table.add(job, _run(mlp, data, *job, kind, {"method": method, **options}, loss, ends))
        except FpsolveError as error:
            table.lose(job, str(error))
            if strict:
                table.refuse_lost([job])

    pool = ThreadPoolExecutor(threads)
    try:
        for _ in each(pool.map(carry_out, waiting), progress, "attack", len(waiting)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return table.of(jobs)


def _whole(name: str, values: Sequence[int]) -> list[int]:
    listed = list(values) if isinstance(values, Iterable) else []
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"{name} must be different integers >= 0, at least one: got {values!r}")
    return [integer(f"each of {name}", value, 0) for value in listed]


def _check(mlp: MLP, data: Data, largest: int, loss: float, method: str, kind: str, options: dict[str, Any]) -> None:
    """All that can be wrong, before the first run."""
    of_kind(mlp, MLP, "mlp", "nets.MLP((64, 20, 10))")
    _check_poison(data, kind)
    if data.clean < data.size or not len(data.x_test):
        raise ValueError(f"data must be clean, and have test samples, on which the accuracy is taken: got {data!r}")
    if unknown := set(options) - set(OPTIONS):
        raise TypeError(f"attack got unknown arguments {sorted(unknown)}: beside its own it takes {', '.join(OPTIONS)}")
    if largest:
        poison(data, largest, kind=kind)
    mlp.check_samples(data.x_test, data.y_test)
    check_search(mlp, mlp.init(0), data.x_train, data.y_train, loss=loss, method=method, **options)


def _key(mlp: MLP, data: Data, *settings: Any) -> str:
    """Hash of all on which a run depends but for its size and seed."""
    sets = [fingerprint(getattr(data, f"x_{part}"), getattr(data, f"y_{part}")) for part in ("train", "test", "spare")]
    return hashlib.sha256(repr((mlp.spec, sets, settings)).encode()).hexdigest()[:16]


def _run(
    mlp: MLP, data: Data, size: int, seed: int, kind: str, options: dict[str, Any], loss: float, ends: dict[str, Any]
) -> dict[str, Any]:
    """One row of the table; `ends` says where the attack does."""
    clean, start, evaluations = (data.x_train, data.y_train), mlp.init(seed), 0.0
    attacked_loss = poisoned_loss = mlp.loss(start, *clean)
    options = {**options, "seed": seed}
    if size:
        poisoned, level = poison(data, size, kind=kind, seed=seed), ends["loss"]
        while True:
            found = find_minimum(mlp, start, poisoned.x_train, poisoned.y_train, **{**options, **ends, "loss": level})
            evaluations += found.evaluations * poisoned.size / data.size
            if (attacked_loss := mlp.loss(found.theta, *clean)) > loss:
                break
            level = 2.0 * found.loss  # from there the clean samples alone would be left nothing to go down
        start, poisoned_loss = found.theta, found.loss
    last = find_minimum(mlp, start, *clean, loss=loss, **options)
    return {
        "size": size,
        "seed": seed,
        "accuracy": 1.0 - mlp.error(last.theta, data.x_test, data.y_test),
        "loss": last.loss,
        "attacked_accuracy": 1.0 - mlp.error(start, data.x_test, data.y_test),
        "attacked_loss": attacked_loss,
        "poisoned_loss": poisoned_loss,
        "gradient_norm": last.gradient_norm,
        "evaluations": evaluations + last.evaluations,
        "theta": last.theta,
    }


class _Table:
    """The runs done, in memory and in the file."""

    def __init__(self, key: str, method: str, kind: str, out: str | os.PathLike[str] | None) -> None:
        from fpsolve import io

        self.facts: dict[str, Any] = {"method": method, "kind": kind, "settings": key}
        self.rows: dict[tuple[int, int], dict[str, Any]] = {}
        self.lost: dict[tuple[int, int], str] = {}
        self.lock = threading.Lock()
        self.path = None if out is None else io.check_writable(out)
        if self.path is None or not self.path.exists():
            return
        before = load(self.path)
        if not isinstance(before, Attack) or before.settings != key:
            raise ValueError(
                f"{self.path} holds no attack with these settings (network, data, loss, attack_loss, method, kind, options): give "
                "them as they were, or another name for out"
            )
        for i, job in enumerate(zip(before.size.tolist(), before.seed.tolist(), strict=True)):
            self.rows[job] = {name: getattr(before, name)[i] for name in COLUMNS}
        self.lost = dict(zip(map(tuple, before.lost.tolist()), before.reasons, strict=True))

    def add(self, job: tuple[int, int], row: dict[str, Any]) -> None:
        """One more run."""
        with self.lock:
            self.rows[job] = row
            self.write()

    def lose(self, job: tuple[int, int], reason: str) -> None:
        """One that did not reach the loss."""
        with self.lock:
            self.lost[job] = reason
            self.write()

    def write(self) -> None:
        """All that is known, unless every run so far was lost."""
        if self.path is not None and self.rows:
            self.of([*self.rows, *self.lost]).save(self.path)

    def refuse_lost(self, jobs: list[tuple[int, int]]) -> None:
        """FpsolveError with the first of those runs that was lost."""
        from fpsolve import FpsolveError

        for size, seed in (job for job in jobs if job in self.lost):
            raise FpsolveError(
                f"with {size} poisoned samples and seed {seed}: {self.lost[size, seed]}; strict=False leaves such runs out, and "
                "counts them"
            )

    def of(self, jobs: list[tuple[int, int]]) -> Attack:
        """Those runs as a result."""
        done, lost = ([job for job in jobs if job in which] for which in (self.rows, self.lost))
        if not done:
            self.refuse_lost(lost)
        columns: dict[str, Any] = {name: np.array([self.rows[job][name] for job in done]) for name in COLUMNS}
        return Attack(**columns, **self.facts, lost=np.array(lost), reasons=tuple(self.lost[job] for job in lost))
