"""Learning one task after another: constraints along flat directions of the first task against elastic weight consolidation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import integer, numbers, of_kind, positive
from ._saved import Saved
from .data import Data
from .flatness import Flatness
from .mlp import CHUNK_NUMBERS, MLP, softmax

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Constraint", "Retention", "ewc", "fisher_diagonal", "ldc", "only_labels", "second_task"]

Array = NDArray[np.float64]


def only_labels(data: Data, labels: Sequence[int]) -> Data:
    """The samples of a few classes, renumbered 0, 1, ...: tasks that share one output layer.

    Raises
    ------
    ValueError
        Repeated labels, labels that the data lack, real targets, or poisoned samples.

    Examples
    --------
    >>> import nets
    >>> task = only_labels(nets.load_data("digits"), (2, 3))
    >>> task.n_classes, sorted(set(task.y_train.tolist()))
    (2, [0, 1])
    """
    of_kind(data, Data, "data", "nets.load_data(...), or nets.Data of your own arrays")
    wanted = np.asarray(labels)
    if wanted.ndim != 1 or not wanted.size or not np.issubdtype(wanted.dtype, np.integer):
        raise ValueError(f"labels must be a sequence of integers, at least one: got {labels!r}")
    if not data.n_classes or len(set(wanted.tolist())) < len(wanted) or not np.isin(wanted, data.y_train).all():
        raise ValueError(f"labels must be different classes of {data.name!r}, 0 .. {data.n_classes - 1}: got {labels!r}")
    number = np.full(data.n_classes, -1, dtype=np.int64)
    number[wanted] = np.arange(len(wanted))
    if data.clean < data.size:
        raise ValueError(f"classes must be picked before nets.poison adds samples with the labels of others: got {data!r}")
    train, test, spare = (number[y] >= 0 for y in (data.y_train, data.y_test, data.y_spare))
    return replace(
        data,
        x_train=data.x_train[train],
        y_train=number[data.y_train[train]],
        x_test=data.x_test[test],
        y_test=number[data.y_test[test]],
        x_spare=data.x_spare[spare],
        y_spare=number[data.y_spare[spare]],
        clean=-1,
        n_classes=len(wanted),
        name=f"{data.name} {','.join(str(k) for k in wanted)}",
    )


def fisher_diagonal(mlp: MLP, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str = "W2", labels: str = "data") -> Array:
    r"""Diagonal of the Fisher information of a block: the mean over samples of the **squared gradients of single samples**.

    .. math:: f_j = \frac1N \sum_n \Big( \frac{\partial \ell_n}{\partial w_j} \Big)^2 \quad\text{or}\quad
              f_j = \frac1N \sum_n \sum_k p_k(x_n) \Big( \frac{\partial \ell(x_n, k)}{\partial w_j} \Big)^2

    Squaring the gradient of a batch of B instead gives about 1/B of it near a minimum, a common error: signs cancel first.

    Parameters
    ----------
    mlp, theta, x, y
        As in `gradient_covariance`.
    block : str
        One block, "W1", "b1", ...
    labels : {"data", "model"}
        "data": the labels of the samples ("empirical Fisher"). "model": the expectation over labels drawn from the network's own
        probabilities (the Fisher information proper), summed over the classes without sampling; cross-entropy only.

    Returns
    -------
    ndarray, shape (size,)
        Weight decay is not in it.

    Raises
    ------
    ValueError
        Unknown block or labels, or "model" without cross-entropy.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("digits"), nets.MLP((64, 12, 10))
    >>> f = fisher_diagonal(mlp, mlp.init(0), data.x_train, data.y_train, block="W2")
    >>> g = mlp.per_sample_gradients(mlp.init(0), data.x_train, data.y_train, block="W2")
    >>> bool(np.allclose(f, (g**2).mean(axis=0)))
    True
    """
    if labels not in ("data", "model"):
        raise ValueError(f"labels must be 'data' or 'model': got {labels!r}")
    if labels == "model" and mlp.loss_name != "cross_entropy":
        raise ValueError(f"labels can be drawn from a network with cross-entropy only: this one has {mlp.loss_name!r}")
    of_kind(mlp, MLP, "mlp", "nets.MLP((2, 4, 2), ...)")
    if len(mlp.block_names(block)) != 1:
        raise ValueError(f"the Fisher information is that of one block out of {list(mlp.blocks)}: got {block!r}")
    theta, (x, t) = mlp.check_point(theta), mlp.check_samples(x, y)
    (name,) = mlp.block_names(block)
    size, k = len(mlp.block_index(name)), int(name[1:])
    total = np.zeros(size)
    rows = max(1, CHUNK_NUMBERS // (8 * sum(mlp.widths)))
    for i in range(0, len(x), rows):
        a = mlp.forward(theta, x[i : i + rows])
        if labels == "data":
            cases = [(np.ones(len(a[0])), t[i : i + rows])]
        else:
            p = softmax(a[-1])
            cases = [(p[:, c], np.eye(mlp.widths[-1])[np.full(len(p), c)]) for c in range(mlp.widths[-1])]
        for weight, target in cases:
            squares = mlp.backward(theta, a, target)[k - 1] ** 2 * weight[:, None]
            total += (a[k - 1] ** 2).T.dot(squares).ravel() if name[0] == "W" else squares.sum(axis=0)
    return np.asarray(total / len(x))


@dataclass(frozen=True, eq=False)
class Constraint:
    r"""A penalty on leaving the weights w_1 of the first task, of which the first N_c terms are used.

    .. math:: \lambda \sum_{i \leq N_c} s_i \left[ (w - w_1) \cdot p_i \right]^2

    Attributes
    ----------
    name : str
    strengths : ndarray, shape (k,)
        s_i >= 0.
    size : int
        Number of weights of the block.
    directions : ndarray, shape (size, k), or None
        Orthonormal columns p_i; None: single weights.
    axes : ndarray of int, shape (k,), or None
        Which weights, if `directions` is None.
    """

    name: str
    strengths: Array
    size: int
    directions: Array | None = None
    axes: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        if (self.directions is None) == (self.axes is None):
            raise ValueError("a constraint has either directions or axes")
        s, k = np.asarray(self.strengths, dtype=np.float64), len(np.atleast_1d(self.strengths))
        if s.ndim != 1 or not np.isfinite(s).all() or (s < 0.0).any():
            raise ValueError(f"the strengths of a constraint must be a vector, finite and not negative: got shape {s.shape}")
        if self.directions is not None:
            p = np.asarray(self.directions)
            if p.shape != (self.size, k) or np.abs(p.T @ p - np.eye(k)).max() > 1e-8:
                raise ValueError(
                    f"directions must be {k} orthonormal columns of {self.size} weights: got shape {p.shape}; use numpy.linalg.qr"
                )
        elif self.axes is not None:
            axes = np.asarray(self.axes)
            if axes.shape != (k,) or len(np.unique(axes)) < k or axes.min() < 0 or axes.max() >= self.size:
                raise ValueError(f"axes must be {k} different numbers in 0 .. {self.size - 1}: got {self.axes!r}")

    def displacements(self, moved: Array) -> Array:
        """(w - w_1).p_i of displacements (m, size), array (m, k)."""
        return np.asarray(moved[:, self.axes] if self.directions is None else moved @ self.directions)

    def step(self, moved: Array, shrink: Array) -> None:
        """Take the components i of displacements (m, size) down by the factors 1 - shrink (m, k), in place."""
        if self.directions is None:
            moved[:, self.axes] *= 1.0 - shrink
        else:
            moved -= (self.displacements(moved) * shrink) @ self.directions.T


def ldc(flatness: Flatness, directions: ArrayLike) -> Constraint:
    """Landscape-dependent constraints: s_i = 1/F_i^2 along the components of the first task, in their order.

    A component open on one side, as the drift of late training is, counts with twice its finite end: leaving the loss of the first
    task that way is what must be prevented. One open on both sides is not constrained. The penalty is the squared displacement in
    units of the flatness; it acts where 2 lr lambda steps is about F^2. Source: Feng & Tu (2021), figure 4, whose factor could not
    be recovered: scan lambda.

    Parameters
    ----------
    flatness : Flatness
        Of the first task's loss at w_1, along `directions`.
    directions : array, shape (size, k)
        Orthonormal columns.

    Returns
    -------
    Constraint

    Raises
    ------
    ValueError
        Columns that are not orthonormal, or not those of the flatness.

    Examples
    --------
    >>> one = np.ones(2)
    >>> flat = Flatness(np.array([-1.0, -2.0]), np.array([1.0, np.inf]), one, one, one, one, 0.1, np.e)
    >>> ldc(flat, np.eye(2)).strengths
    array([0.25  , 0.0625])
    """
    of_kind(flatness, Flatness, "flatness", "of nets.flatness along the directions")
    p = numbers("directions", directions)
    width = np.where(flatness.one_sided, 2.0 * np.minimum(-flatness.left, flatness.right), flatness.width)
    if p.ndim != 2 or p.shape[1] != len(width):
        raise ValueError(f"directions must be {len(width)} orthonormal columns, those of the flatness: got shape {p.shape}")
    return Constraint("LDC", width**-2.0, len(p), directions=np.ascontiguousarray(p))


def ewc(fisher: ArrayLike) -> Constraint:
    """Elastic weight consolidation: s_j = f_j/2 on single weights, those of the largest Fisher information first.

    Source: J. Kirkpatrick et al., PNAS 114, 3521 (2017).

    Parameters
    ----------
    fisher : array, shape (size,)
        As `fisher_diagonal` gives it.

    Returns
    -------
    Constraint

    Raises
    ------
    ValueError
        Not a vector of finite numbers >= 0.

    Examples
    --------
    >>> penalty = ewc([0.2, 0.6, 0.4])
    >>> penalty.axes, penalty.strengths
    (array([1, 2, 0]), array([0.3, 0.2, 0.1]))
    """
    f = numbers("fisher", fisher)
    if f.ndim != 1 or not np.isfinite(f).all() or (f < 0.0).any():
        raise ValueError(f"the Fisher information must be a vector of finite numbers >= 0: got shape {f.shape}")
    order = np.argsort(-f, kind="stable")
    return Constraint("EWC", 0.5 * f[order], len(f), axes=order)


@dataclass(frozen=True, eq=False, repr=False)
class Retention(Saved):
    """What is left of the first task after the second, for many penalties; made by `second_task`.

    Attributes
    ----------
    name : str
    strengths_lambda : ndarray, shape (m,)
        The lambda of each run.
    counts : ndarray of int, shape (m,)
        The N_c of each run.
    first_error, second_error : ndarray, shape (m,)
        Test errors on both tasks after the second.
    before : float
        Test error on the first task before the second.
    displacements : ndarray, shape (m, k)
        \\|(w - w_1).p_i\\| at the end.

    Examples
    --------
    >>> first, second = np.array([0.4, 0.2, 0.0]), np.array([0.0, 0.1, 0.4])
    >>> r = Retention("LDC", np.array([1.0, 1.0, 9.0]), np.array([1, 5, 5]), first, second, 0.0, np.zeros((3, 1)))
    >>> r.overall, r.pareto().tolist(), r.enough(0.15)
    (array([0.4, 0.3, 0.4]), [2, 1, 0], 1)
    """

    name: str
    strengths_lambda: Array
    counts: NDArray[np.int64]
    first_error: Array
    second_error: Array
    before: float
    displacements: Array
    KIND: ClassVar[str] = "retention"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "strengths_lambda": ("run", "1", "lambda"),
        "counts": ("run", "1", "number of constraints"),
        "first_error": ("run", "1", "test error on the first task"),
        "second_error": ("run", "1", "test error on the second task"),
        "displacements": ("run direction", "weight", "displacement at the end"),
    }
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "overall": ("run", "1", "sum of both errors"),
        "best": ("", "", "run with the least sum"),
    }
    ROWS: ClassVar[str] = "run"

    @property
    def overall(self) -> Array:
        """Sum of both errors, shape (m,)."""
        return np.asarray(self.first_error + self.second_error)

    @property
    def best(self) -> int:
        """The run with the least sum."""
        return int(self.overall.argmin())

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Test error on the second task against that on the first, the best runs joined; `options` go to ``Axes.plot``."""
        from ._pictures import axes

        ax, front = axes(ax), self.pareto()
        style = {"marker": "o", "markersize": 3, "linestyle": "", "alpha": 0.6, "label": self.name, **options}
        (points,) = ax.plot(self.first_error, self.second_error, **style)
        ax.plot(self.first_error[front], self.second_error[front], color=points.get_color())
        ax.set(xlabel="error on the first task", ylabel="error on the second task")
        ax.legend(frameon=False)
        return ax

    def pareto(self) -> NDArray[np.intp]:
        """Runs that no other beats in one error without losing in the other, in order of the first error."""
        order = np.lexsort((self.second_error, self.first_error))
        keep, lowest = [], math.inf
        for k in order:
            if self.second_error[k] < lowest:
                keep.append(k)
                lowest = self.second_error[k]
        return np.array(keep, dtype=np.intp)

    def enough(self, tolerance: float = 0.03) -> int:
        """Least N_c at which some lambda comes within `tolerance` of the best sum."""
        return int(self.counts[self.overall <= self.overall.min() + tolerance].min())


def second_task(
    mlp: MLP,
    first: Data,
    second: Data,
    theta: ArrayLike,
    constraint: Constraint,
    lambdas: ArrayLike,
    counts: ArrayLike,
    *,
    block: str = "W2",
    lr: float,
    batch: int,
    epochs: int,
    seed: int | None = 0,
) -> Retention:
    r"""Train one weight matrix on a second task under penalties of every lambda with every N_c, side by side.

    A step of SGD on the second task's loss, on the same minibatches for all, then the proximal step of the penalty, stable at any
    strength (an explicit one is not beyond lr lambda s = 1):

    .. math:: w \leftarrow w - \eta \nabla L_2^\mu(w), \qquad q_i \leftarrow \frac{q_i}{1 + 2 \eta \lambda s_i}, \quad i \leq N_c,
              \qquad q_i = (w - w_1) \cdot p_i

    Parameters
    ----------
    mlp : MLP
    first, second : Data
        The tasks, with the same outputs (`only_labels`).
    theta : array, shape (P,)
        All weights after the first task; those outside `block` stay.
    constraint : Constraint
        `ldc` or `ewc`.
    lambdas : array, shape (a,)
        >= 0; 0 is the unconstrained run.
    counts : array of int, shape (b,)
        In 1 .. k.
    block : str
        A weight matrix.
    lr, batch, epochs, seed
        Of the SGD; shuffled epochs, the last partial batch dropped.

    Returns
    -------
    Retention
        a b runs, lambda varying slowest.

    Raises
    ------
    ValueError
        Bad settings, or a constraint of another size.
    fpsolve.FpsolveError
        Weights became non-finite.

    Examples
    --------
    >>> import nets
    >>> digits = nets.load_data("digits")
    >>> one, two = nets.only_labels(digits, (0, 1)), nets.only_labels(digits, (2, 3))
    >>> mlp = nets.MLP((64, 12, 8, 2))
    >>> run = nets.train(mlp, one, lr=0.1, batch=20, epochs=30)
    >>> penalty = nets.ewc(nets.fisher_diagonal(mlp, run.theta, one.x_train, one.y_train))
    >>> kept = nets.second_task(mlp, one, two, run.theta, penalty, [0.0, 1e9], [96], lr=0.1, batch=20, epochs=20)
    >>> bool(kept.first_error[0] > 0.2 > kept.first_error[1])
    True
    """
    of_kind(constraint, Constraint, "constraint", "of nets.ldc or nets.ewc")
    strengths, number = _grid(constraint, lambdas, counts)
    of_kind(mlp, MLP, "mlp", "nets.MLP((2, 4, 2), ...)")
    theta = mlp.check_point(theta)
    part = mlp.blocks.get(block, slice(0, 0))
    if block[:1] != "W" or part.stop - part.start != constraint.size:
        raise ValueError(f"block must be a weight matrix of {constraint.size} weights, as the constraint has: got {block!r}")
    for name, task in (("first", first), ("second", second)):
        of_kind(task, Data, name, "of nets.only_labels")
        mlp.check_samples(task.x_train[:1], task.y_train[:1])
        if not task.n_classes or not len(task.x_test):
            raise ValueError(f"{name} must have labels and test samples, on which its error is taken: got {task!r}")
        mlp.targets(task.y_test)
    integer("batch, up to the samples of the second task,", batch, 1, second.size)
    integer("epochs", epochs, 1)
    positive("lr", lr)
    layer, rng = _Layer(mlp, theta, int(block[1:])), np.random.default_rng(seed)
    inputs, targets = layer.inputs(second.x_train), mlp.targets(second.y_train)
    used = 2.0 * lr * strengths[:, None] * constraint.strengths * (np.arange(len(constraint.strengths)) < number[:, None])
    shrink = used / (1.0 + used)
    anchor = theta[part]
    moved = np.zeros((len(strengths), len(anchor)))
    for _ in range(epochs):
        order = rng.permutation(second.size)
        for i in range(0, second.size - batch + 1, batch):
            chosen = order[i : i + batch]
            moved -= lr * layer.gradients(anchor + moved, inputs[chosen], targets[chosen])
            constraint.step(moved, shrink)
    if not np.isfinite(moved).all():
        from fpsolve import FpsolveError

        raise FpsolveError(f"the weights became non-finite on the second task: try a smaller lr (say {lr / 4:g})")
    ends = anchor + moved
    return Retention(
        constraint.name,
        strengths,
        number,
        layer.errors(ends, layer.inputs(first.x_test), first.y_test),
        layer.errors(ends, layer.inputs(second.x_test), second.y_test),
        mlp.error(theta, first.x_test, first.y_test),
        np.abs(constraint.displacements(moved)),
    )


def _grid(constraint: Constraint, lambdas: ArrayLike, counts: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    a, b, most = numbers("lambdas", lambdas), np.asarray(counts), len(constraint.strengths)
    if a.ndim != 1 or not len(a) or not (np.isfinite(a).all() and (a >= 0.0).all()):
        raise ValueError(f"lambdas must be finite numbers >= 0: got {lambdas!r}")
    if b.ndim != 1 or not len(b) or not np.issubdtype(b.dtype, np.integer) or b.min() < 1 or b.max() > most:
        raise ValueError(f"counts must be integers in 1 .. {most}, the terms of the constraint: got {counts!r}")
    return np.repeat(a, len(b)), np.tile(b.astype(np.int64), len(a))


class _Layer:
    """One weight matrix in many copies, everything before and after it fixed."""

    def __init__(self, mlp: MLP, theta: Array, layer: int) -> None:
        self.mlp, self.theta, self.layer, self.parts = mlp, theta, layer, mlp.unpack(theta)
        self.shape = mlp.widths[layer - 1], mlp.widths[layer]

    def inputs(self, x: Array) -> Array:
        """Activations that enter the layer."""
        return self.mlp.forward(self.theta, np.asarray(x, dtype=np.float64))[self.layer - 1]

    def _forward(self, copies: Array, inputs: Array) -> list[Array]:
        """Activations from the layer on, each (copies * samples, width)."""
        mlp = self.mlp
        z = np.matmul(inputs, copies.reshape(-1, *self.shape)).reshape(-1, self.shape[1])
        z += self.parts[f"b{self.layer}"]
        out: list[Array] = []
        for k in range(self.layer, mlp.n_layers + 1):
            if k > self.layer:
                z = out[-1] @ self.parts[f"W{k}"] + self.parts[f"b{k}"]
            if k < mlp.n_layers:
                z = np.tanh(z, out=z) if mlp.activation == "tanh" else np.maximum(z, 0.0, out=z)
            out.append(z)
        return out

    def gradients(self, copies: Array, inputs: Array, targets: Array) -> Array:
        """Gradient of the minibatch loss of every copy (m, size), weight decay included."""
        mlp, a, m = self.mlp, self._forward(copies, inputs), len(copies)
        t = np.tile(targets, (m, 1))
        delta = a[-1] - t if mlp.loss_name == "mse" else softmax(a[-1]) * t.sum(axis=1, keepdims=True) - t
        for k in range(mlp.n_layers, self.layer, -1):
            delta = (delta @ self.parts[f"W{k}"].T) * mlp.slope(a[k - 1 - self.layer])
        g = np.matmul(inputs.T, delta.reshape(m, len(inputs), -1)).reshape(m, -1)
        return np.asarray(g / len(inputs) + mlp.weight_decay * copies)

    def errors(self, copies: Array, inputs: Array, labels: NDArray[np.int64]) -> Array:
        """Fraction of misclassified samples of every copy."""
        return np.array([float(np.mean(self.mlp.classes(self._forward(c[None], inputs)[-1]) != labels)) for c in copies])
