"""Multilayer perceptrons over one flat parameter vector: loss, gradient, per-sample gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import integer, is_finite, numbers, of_kind
from .data import Data
from .parameters import Model, Parameters

if TYPE_CHECKING:
    from fpsolve import Potential

__all__ = ["MLP", "Ensemble", "check_network"]

Array = NDArray[np.float64]

ACTIVATIONS = ("relu", "tanh")
LOSSES = ("cross_entropy", "mse")
#: Work arrays of chunked loops stay below about this many numbers (64 MB).
CHUNK_NUMBERS = 8_000_000


class MLP(Parameters):
    r"""A fully connected network with biases, and its loss as a function of the flat vector of all parameters.

    .. math:: z_l = a_{l-1} W_l + b_l, \quad a_l = f(z_l), \quad a_0 = x, \quad \text{output } z_L

    .. math:: L(\theta) = \frac{1}{N} \sum_n \ell(z_L(x_n), t_n) + \frac{\lambda}{2} |\theta|^2

    with :math:`\ell = -\sum_k t_k \ln \mathrm{softmax}(z)_k` ("cross_entropy", natural logarithm) or
    :math:`\ell = \frac{1}{2} |z - t|^2` ("mse": the sum over the outputs, and a factor 1/2); t is one-hot for class labels.
    A network with **one** output tells two classes apart by the sign of z: the labels 0 and 1 are its targets -1 and +1.
    The weight decay acts on **all** parameters, biases too, so that the minimum is isolated (softmax is
    invariant under a common shift of its biases, and relu networks under rescaling).

    Parameters
    ----------
    widths : sequence of int
        (inputs, hidden ..., outputs), at least two.
    activation : {"relu", "tanh"}
        Of the hidden layers; the derivative of relu at 0 is 0.
    loss : {"cross_entropy", "mse"}
    weight_decay : float, >= 0
        The :math:`\lambda` above.

    Attributes
    ----------
    dim : int
        Number of parameters P.
    blocks : dict of str to slice
        "W1", "b1", "W2", ... -> position in theta. W_l has shape (fan_in, fan_out), stored row by row, followed by b_l.
    loss_name : str
        The `loss` argument.

    Raises
    ------
    ValueError, TypeError
        For widths, activation, loss or weight decay out of range.

    Examples
    --------
    >>> mlp = MLP((64, 12, 10), activation="tanh", weight_decay=0.01)
    >>> mlp.dim, mlp.blocks["b1"]
    (910, slice(768, 780, None))
    >>> theta = mlp.init(seed=0)
    >>> mlp.unpack(theta)["W2"].shape
    (12, 10)
    """

    def __init__(
        self, widths: Sequence[int], *, activation: str = "relu", loss: str = "cross_entropy", weight_decay: float = 0.0
    ) -> None:
        layers: tuple[Any, ...] = tuple(widths) if np.ndim(widths) else (widths,)
        if len(layers) < 2 or not all(isinstance(w, (int, np.integer)) and not isinstance(w, bool) and w >= 1 for w in layers):
            raise ValueError(f"widths are at least two positive integers (inputs, hidden ..., outputs): got {widths}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}: got {activation!r}")
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {LOSSES}: got {loss!r}")
        if not (isinstance(weight_decay, (int, float, np.number)) and is_finite(weight_decay) and weight_decay >= 0.0):
            raise ValueError(f"weight_decay must be finite and >= 0: got {weight_decay!r}")
        if loss == "cross_entropy" and widths[-1] == 1:
            raise ValueError(
                "cross_entropy needs at least 2 outputs (its softmax over 1 output is constant): got widths "
                f"{widths}; use 2 outputs, or loss='mse'"
            )
        self.widths = tuple(int(w) for w in widths)
        self.activation = activation
        self.loss_name = loss
        shapes: dict[str, tuple[int, ...]] = {}
        for k, (rows, cols) in enumerate(zip(self.widths[:-1], self.widths[1:], strict=True), start=1):
            shapes[f"W{k}"], shapes[f"b{k}"] = (rows, cols), (cols,)
        super().__init__(shapes, weight_decay=weight_decay)

    # ---- bookkeeping ----------------------------------------------------------------------------------------------------

    @property
    def n_layers(self) -> int:
        """Number of weight layers L."""
        return len(self.widths) - 1

    @property
    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "widths": self.widths,
            "activation": self.activation,
            "loss": self.loss_name,
            "weight_decay": self.weight_decay,
        }

    def __repr__(self) -> str:
        return f"MLP({self.widths}, activation={self.activation!r}, loss={self.loss_name!r}, weight_decay={self.weight_decay!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MLP) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(tuple(self.spec.items()))

    def kernel_args(self) -> Any:
        """The network as the compiled kernels take it."""
        from ._kernels import Net

        return Net(
            np.array(self.widths, dtype=np.int64),
            ACTIVATIONS.index(self.activation),
            LOSSES.index(self.loss_name),
            self.weight_decay,
        )

    def check_samples(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Inputs (n, d), targets (n, outputs) (as of `targets`) as float64, or ValueError."""
        x = np.ascontiguousarray(numbers("x", x))
        if x.ndim != 2 or x.shape[1] != self.widths[0] or len(x) == 0:
            raise ValueError(f"x must have shape (n, {self.widths[0]}) with n >= 1, the inputs of {self!r}: got {x.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            total = x.sum()  # makes no copy
        if not np.isfinite(total) and not np.isfinite(x).all():
            raise ValueError(f"x must be finite: got {np.count_nonzero(~np.isfinite(x))} non-finite numbers")
        return x, self.targets(y, len(x))

    def targets(self, y: ArrayLike, n: int | None = None) -> Array:
        """Targets of shape (n, outputs): class labels become one-hot rows, or -1 and +1 for one output; floats stay as they are."""
        y, outputs = np.asarray(y), self.widths[-1]
        n = len(y) if n is None else n
        if np.issubdtype(y.dtype, np.integer) and y.ndim == 1:
            classes = max(outputs, 2)
            if len(y) != n or (n and not (y.min() >= 0 and y.max() < classes)):
                raise ValueError(
                    f"y must be {n} labels in 0 .. {classes - 1} (the outputs of {self!r}): got {len(y)} in {y.min()} .. {y.max()}"
                )
            if outputs == 1:
                return 2.0 * y[:, None] - 1.0
            t = np.zeros((n, outputs))
            t[np.arange(n), y] = 1.0
            return t
        if y.shape != (n, outputs):
            raise ValueError(f"y must be {n} integer labels or have shape ({n}, {outputs}): got dtype {y.dtype}, shape {y.shape}")
        if not np.isfinite(y).all() or (self.loss_name == "cross_entropy" and y.size and y.min() < 0.0):
            raise ValueError(f"targets must be finite, with cross-entropy not negative: got {y.min()} .. {y.max()}")
        return np.ascontiguousarray(y, dtype=np.float64)

    def init(self, seed: int | None = None, *, scheme: str = "uniform") -> Array:
        """Random initial parameters.

        Parameters
        ----------
        seed : int or None
        scheme : {"uniform", "he"}
            "uniform": weights and biases uniform in +- 1/sqrt(fan_in). "he": weights normal with variance 2/fan_in, biases 0.

        Returns
        -------
        ndarray, shape (dim,)
        """
        if scheme not in ("uniform", "he"):
            raise ValueError(f"scheme must be 'uniform' or 'he': got {scheme!r}")
        if seed is not None:
            integer("seed", seed, 0)
        rng = np.random.default_rng(seed)
        parts = []
        for rows, cols in zip(self.widths[:-1], self.widths[1:], strict=True):
            if scheme == "uniform":
                parts.append(rng.uniform(-1.0, 1.0, (rows + 1) * cols) / math.sqrt(rows))
            else:
                parts += [rng.standard_normal(rows * cols) * math.sqrt(2.0 / rows), np.zeros(cols)]
        return np.concatenate(parts)

    # ---- passes ---------------------------------------------------------------------------------------------------------

    def forward(self, theta: Array, x: Array) -> list[Array]:
        """Activations [x, a_1, ..., a_{L-1}, z_L] of the layers; the last is the output before softmax."""
        parts, a = self.unpack(theta), [x]
        for k in range(1, self.n_layers + 1):
            z = a[-1] @ parts[f"W{k}"]
            z += parts[f"b{k}"]
            if k < self.n_layers:
                z = np.tanh(z, out=z) if self.activation == "tanh" else np.maximum(z, 0.0, out=z)
            a.append(z)
        return a

    def slope(self, a: Array) -> Array:
        """f'(z) written with a = f(z)."""
        return 1.0 - a * a if self.activation == "tanh" else (a > 0.0).astype(np.float64)

    def backward(self, theta: Array, activations: list[Array], t: Array) -> list[Array]:
        """[d l_n / d z_1, ..., d l_n / d z_L] of each sample, arrays of shape (n, width)."""
        parts, z = self.unpack(theta), activations[-1]
        delta = [z - t if self.loss_name == "mse" else softmax(z) * t.sum(axis=1, keepdims=True) - t]
        for k in range(self.n_layers, 1, -1):
            d = delta[0] @ parts[f"W{k}"].T
            d *= self.slope(activations[k - 1])
            delta.insert(0, d)
        return delta

    def sample_losses(self, z: Array, t: Array) -> Array:
        """Loss of each sample from the outputs z, without weight decay."""
        if self.loss_name == "mse":
            return np.asarray(0.5 * ((z - t) ** 2).sum(axis=1))
        top = z.max(axis=1, keepdims=True)
        log_norm = np.log(np.exp(z - top).sum(axis=1)) + top[:, 0]
        return np.asarray(t.sum(axis=1) * log_norm - (t * z).sum(axis=1))

    def outputs(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Outputs z_L of shape (n, outputs), before any softmax."""
        theta, x = self.check_theta(theta), np.ascontiguousarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.widths[0] or len(x) == 0:
            raise ValueError(f"x must have shape (n, {self.widths[0]}) with n >= 1, the inputs of {self!r}: got {x.shape}")
        rows = self.chunk_rows()
        return np.concatenate([self.forward(theta, x[i : i + rows])[-1] for i in range(0, len(x), rows)])

    def predict(self, theta: ArrayLike, x: ArrayLike) -> NDArray[np.intp]:
        """Class of each row of x: that with the largest output, or, of one output, 1 where it is positive."""
        return self.classes(self.outputs(theta, x))

    def classes(self, z: Array) -> NDArray[np.intp]:
        """The same from the outputs z, shape (n, outputs)."""
        return np.asarray(z.argmax(axis=1) if z.shape[1] > 1 else (z[:, 0] > 0.0).astype(np.intp))

    def error(self, theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> float:
        """Fraction of misclassified samples; `y` are integer labels."""
        y = np.asarray(y)
        if not np.issubdtype(y.dtype, np.integer):
            raise ValueError("the classification error needs integer labels: for real targets look at the loss")
        if y.shape != np.shape(x)[:1]:
            raise ValueError(f"y must be one label for each row of x: got shapes {y.shape} and {np.shape(x)}")
        return float(np.mean(self.predict(theta, x) != y)) if len(y) else math.nan

    def loss(self, theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> float:
        """Mean loss over the samples plus `weight_decay/2 |theta|^2`."""
        theta, (x, t) = self.check_theta(theta), self.check_samples(x, y)
        rows = self.chunk_rows()
        total = math.fsum(
            float(self.sample_losses(self.forward(theta, x[i : i + rows])[-1], t[i : i + rows]).sum())
            for i in range(0, len(x), rows)
        )
        return total / len(x) + 0.5 * self.weight_decay * float(theta @ theta)

    def loss_and_gradient(self, theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
        """Loss as `loss`, and its gradient, shape (dim,); chunked, so memory does not grow with the number of samples."""
        theta, (x, t) = self.check_theta(theta), self.check_samples(x, y)
        rows, total, gradient = self.chunk_rows(), 0.0, np.zeros(self.dim)
        parts = self.unpack(gradient)
        for i in range(0, len(x), rows):
            a = self.forward(theta, x[i : i + rows])
            total += float(self.sample_losses(a[-1], t[i : i + rows]).sum())
            for k, d in enumerate(self.backward(theta, a, t[i : i + rows]), start=1):
                parts[f"W{k}"] += a[k - 1].T @ d
                parts[f"b{k}"] += d.sum(axis=0)
        gradient /= len(x)
        gradient += self.weight_decay * theta
        return total / len(x) + 0.5 * self.weight_decay * float(theta @ theta), gradient

    def gradient(self, theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> Array:
        """Gradient of the loss, weight decay included, shape (dim,)."""
        return self.loss_and_gradient(theta, x, y)[1]

    def iter_per_sample_gradients(
        self,
        theta: ArrayLike,
        x: ArrayLike,
        y: ArrayLike,
        *,
        block: str | Sequence[str] | None = None,
        chunk: int | None = None,
    ) -> Iterator[Array]:
        """Per-sample gradients in chunks of rows: arrays of shape (<= chunk, size of the block).

        Each includes weight_decay * theta, so that their mean is `gradient`.
        """
        theta, (x, t) = self.check_theta(theta), self.check_samples(x, y)
        names, index = self.block_names(block), self.block_index(block)
        rows = max(1, CHUNK_NUMBERS // max(len(index), 4 * sum(self.widths))) if chunk is None else chunk
        for i in range(0, len(x), rows):
            a = self.forward(theta, x[i : i + rows])
            delta = self.backward(theta, a, t[i : i + rows])
            g, at = np.empty((len(a[0]), len(index))), 0
            for name in names:
                k, size = int(name[1:]), self.blocks[name].stop - self.blocks[name].start
                if name[0] == "W":
                    np.multiply(
                        a[k - 1][:, :, None],
                        delta[k - 1][:, None, :],
                        out=g[:, at : at + size].reshape(len(g), self.widths[k - 1], self.widths[k], copy=False),
                    )
                else:
                    g[:, at : at + size] = delta[k - 1]
                at += size
            if self.weight_decay:
                g += self.weight_decay * theta[index]
            yield g

    def per_sample_gradients(
        self, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str | Sequence[str] | None = None
    ) -> Array:
        """All per-sample gradients, shape (n, size of the block); see `iter_per_sample_gradients`, which needs no such memory."""
        return np.concatenate(list(self.iter_per_sample_gradients(theta, x, y, block=block)))

    def chunk_rows(self) -> int:
        """Samples per chunk of the forward and backward passes."""
        return max(1, CHUNK_NUMBERS // (4 * sum(self.widths)))

    def ensemble(self, data: Data) -> Ensemble:
        """The minibatch losses of the training samples, as `fpsolve.SGDChain` takes them."""
        of_kind(data, Data, "data", "nets.load_data(...), or nets.Data of your own arrays")
        x, t = self.check_samples(data.x_train, data.y_train)
        return Ensemble(self, x, t)


def check_network(mlp: Any, hint: str = "nets.MLP((64, 20, 10))") -> None:
    """TypeError unless `mlp` is a network of nets, or one of another package that finds its own derivatives."""
    if isinstance(mlp, Parameters) and not isinstance(mlp, (MLP, Model)):
        raise TypeError("the file of this run does not hold the network itself: give it with nets.load_run(path, model=...)")
    if not isinstance(mlp, Model):
        of_kind(mlp, MLP, "mlp", hint)


def softmax(z: Array) -> Array:
    """Row-wise softmax, without overflow."""
    p: Array = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Minibatch losses of a network over its samples: mean per-sample loss plus weight decay.

    Attributes
    ----------
    mlp : MLP
    x, t : ndarray, shapes (size, inputs) and (size, outputs)

    Examples
    --------
    >>> import nets, numpy as np
    >>> ensemble = nets.MLP((64, 10)).ensemble(nets.load_data("digits"))
    >>> ensemble.dim, ensemble.size
    (650, 1438)
    >>> ensemble.gradient(np.zeros(650), np.arange(20)).shape
    (650,)
    """

    mlp: MLP
    x: Array
    t: Array

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.mlp.dim

    @property
    def size(self) -> int:
        """Number of samples N."""
        return len(self.x)

    @cached_property
    def loss(self) -> Potential:
        """The mean loss over all samples as a landscape.

        For regions, ``fpsolve.Region.sublevel(ensemble.loss, level)``, and Gaussian chains,
        ``fpsolve.SGDChain.gaussian(ensemble.loss, noise, lr)``; paths in continuous time cannot be compiled from it.
        """
        from fpsolve import Potential

        from ._kernels import mean_losses

        net, everything = self.mlp.kernel_args(), np.arange(self.size)

        def loss(thetas: Array) -> Array:
            out = np.empty(len(thetas))
            mean_losses(net, thetas, self.x, self.t, out)
            return out

        def gradient(thetas: Array) -> Array:
            return self.gradients(thetas, np.broadcast_to(everything, (len(thetas), self.size)))

        return Potential.from_arrays(loss, gradient, dim=self.dim)

    def gradient(self, theta: ArrayLike, indices: ArrayLike) -> Array:
        """Mean gradient over the samples `indices` (repeats allowed) plus weight decay, shape (dim,)."""
        return np.asarray(self.gradients(self.mlp.check_theta(theta)[None], np.atleast_2d(indices))[0])

    def gradients(self, thetas: ArrayLike, indices: ArrayLike) -> Array:
        """The same for many weight vectors (n, dim) and their batches (n, batch), shape (n, dim)."""
        from ._kernels import mean_gradients

        points, index = np.ascontiguousarray(thetas, dtype=np.float64), np.asarray(indices)
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ValueError(f"weights must have shape (n, {self.dim}): got {points.shape}")
        whole = np.issubdtype(index.dtype, np.integer)
        fits = index.ndim == 2 and len(index) == len(points) and index.size > 0
        if not (whole and fits and index.min() >= 0 and index.max() < self.size):
            raise ValueError(f"indices must be {len(points)} non-empty rows of integers in 0 .. {self.size - 1}: got {indices!r}")
        out = np.empty_like(points)
        mean_gradients(self.mlp.kernel_args(), points, self.x, self.t, np.ascontiguousarray(index, dtype=np.int64), out)
        return out
