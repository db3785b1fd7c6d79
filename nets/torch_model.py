"""A PyTorch module and its loss, with what the functions of nets ask of a network. PyTorch is imported on first use."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import boolean, numbers, positive
from .mlp import CHUNK_NUMBERS
from .parameters import Model

__all__ = ["TorchModel", "TorchProducts", "import_torch"]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

#: Samples that go through the module at once.
ROWS = 512
#: Vectors multiplied at once.
VECTORS = 64
#: Two ways to a loss agree to this fraction of it.
TOLERANCE = 1e-6


def import_torch() -> Any:
    """The package torch, or ImportError that names the extra."""
    try:
        import torch
    except ImportError:
        raise ImportError("networks of PyTorch need the package torch: pip install 'fpsolve[torch]'") from None
    return torch


class TorchModel(Model):
    r"""A PyTorch module and its loss as a function of one flat vector of parameters.

    .. math:: L(\theta) = \frac{1}{N} \sum_n \ell(f_\theta(x_n), t_n) + \frac{\lambda}{2} |\theta|^2

    It is a copy, in double precision and in evaluation mode, on the device of the module: training goes on undisturbed, and what is
    measured is not rounded to 32 bits. Wherever a function of nets says that it takes one, it stands in the place of an `MLP`.

    Parameters
    ----------
    module : torch.nn.Module
    loss : callable
        loss(outputs, targets) -> the **mean** over the batch, a tensor of one number, as ``torch.nn.CrossEntropyLoss()``; tried
        when first used. Labels come as int64, real targets in double precision.
    weight_decay : float
        The :math:`\lambda` above, on all of the parameters chosen: `weight_decay` of ``torch.optim.SGD``.
    parameters : sequence of str, optional
        Names out of ``module.named_parameters()``; default: all that require a gradient. The others stay as they are, as do
        buffers.
    evaluation : bool
        Needed for modules with layers that compute something else while they are trained: say True to measure the module in
        evaluation mode, batch norm with its running averages, held fixed, and without dropout. The gradients of SGD are then
        others than those measured: with batch norm they depend on the other samples of the batch, and dropout adds noise of its
        own.

    Attributes
    ----------
    dim : int
        Number of weights P.
    blocks : dict of str to slice
        Parameter name -> where it is in theta, in its own order of axes (Linear: outputs, inputs).
    theta : ndarray, shape (P,)
        The parameters as they were in `module`.
    fallback : dict of str to str
        Of "gradients", "products" and "lines" those that are taken one at a time, as torch cannot do many at once for this module,
        and why.

    Raises
    ------
    ImportError
        torch is not installed.
    TypeError, ValueError
        No module, no such parameter, layers that need ``evaluation=True``, parameters that are not real floating-point numbers.

    Examples
    --------
    >>> import nets, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 12), torch.nn.Tanh(), torch.nn.Linear(12, 10))
    >>> model = nets.TorchModel(net, torch.nn.CrossEntropyLoss(), weight_decay=0.01)
    >>> model
    TorchModel(Sequential, 4 blocks, 910 weights)
    >>> data = nets.load_data("digits")
    >>> nets.measure(model, data, lr=0.1, batch=20, block="2.bias")
    Stats('digits', 10 weights, hessian, covariance, lr=0.1, batch=20, replace)
    """

    def __init__(
        self,
        module: Any,
        loss: Callable[[Any, Any], Any],
        *,
        weight_decay: float = 0.0,
        parameters: Sequence[str] | None = None,
        evaluation: bool = False,
    ) -> None:
        torch = import_torch()
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module: got {type(module).__name__}")
        if not callable(loss):
            raise TypeError(f"loss must be a function of (outputs, targets), as torch.nn.CrossEntropyLoss(): got {loss!r}")
        if weight_decay != 0.0:
            positive("weight_decay", weight_decay)
        boolean("evaluation", evaluation)
        changing = [f"{type(layer).__name__} {name!r}".strip() for name, layer in module.named_modules() if _changes(layer)]
        if changing and not evaluation:
            raise ValueError(
                f"{', '.join(changing)}: computes something else in training than in evaluation, where alone a sample has a loss "
                "of its own; evaluation=True measures the module in evaluation mode (running averages held fixed, no dropout), "
                "which is not quite what SGD sees"
            )
        chosen = chosen_parameters(module, parameters)
        super().__init__({name: tuple(value.shape) for name, value in chosen.items()}, weight_decay=weight_decay)
        first = next(iter(chosen.values()))
        self.device = first.device
        self.module = copy.deepcopy(module).to(torch.float64).eval()
        self.module.requires_grad_(False)
        self.loss = copy.deepcopy(loss).to(torch.float64) if isinstance(loss, torch.nn.Module) else loss
        self.fallback: dict[str, str] = {}
        self._theta = flat(list(chosen.values())).to(torch.float64).cpu().numpy()
        self._tried: tuple[Any, ...] | None = None

    @property
    def theta(self) -> Array:
        """The parameters as they were in the module, shape (P,)."""
        return np.array(self._theta)

    @property
    def spec(self) -> dict[str, Any]:
        """What of it goes into a file: names and shapes of the parameters, the module and the loss in words."""
        return {**super().spec, "module": repr(self.module), "loss": repr(self.loss)}

    def __repr__(self) -> str:
        return f"TorchModel({type(self.module).__name__}, {len(self.blocks)} blocks, {self.dim} weights)"

    def write(self, theta: ArrayLike, module: Any) -> None:
        """Put a vector of parameters into `module`, in its precision."""
        torch, parts, own = import_torch(), self.unpack(theta), dict(module.named_parameters())
        with torch.no_grad():
            for name, value in parts.items():
                own[name].copy_(torch.from_numpy(value))

    def follow(self, module: Any) -> None:
        """Take from `module`, the one this was made of, what is not in theta: the parameters that were not chosen, and buffers."""
        torch, rest = import_torch(), {**dict(module.named_parameters()), **dict(module.named_buffers())}
        own = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        with torch.no_grad():
            for name, value in own.items():
                if name not in self.blocks:
                    value.copy_(rest[name])

    def check_samples(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, NDArray[Any]]:
        """Inputs (n, ...) as float64 and targets (n,) int64 or (n, ...) float64; module and loss are tried on the first."""
        x, y = np.ascontiguousarray(numbers("x", x)), np.asarray(y)
        y = np.ascontiguousarray(y, dtype=np.int64) if y.dtype.kind in "iub" else np.ascontiguousarray(numbers("y", y))
        if x.ndim < 2 or len(x) != len(y) or not len(x):
            raise ValueError(f"x must have shape (n, ...) and y (n, ...), n >= 1: got {x.shape} and {y.shape}")
        for name, array in (("x", x), ("y", y)):
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite: got {np.count_nonzero(~np.isfinite(array))} non-finite numbers")
        key = (x.shape[1:], y.shape[1:], y.dtype)
        if self._tried != key:
            self._try_loss(x, y)
            self._tried = key
        return x, y

    def _try_loss(self, x: Array, y: NDArray[Any]) -> None:
        """The loss of a few samples must be one number, and the mean of what each has alone."""
        torch = import_torch()
        tried = np.arange(min(3, len(x)))
        if y.dtype.kind == "i" and y.ndim == 1:  # one of every class, which may have weights of their own
            tried = np.union1d(tried, np.unique(y, return_index=True)[1][:100])
        (xs, ys), parts = self._tensors(x[tried], y[tried]), self._parts(self._vector(self._theta))
        with torch.no_grad():
            try:
                outputs = self._forward(parts, xs)
            except (RuntimeError, TypeError) as error:
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"the module does not take inputs of shape {tuple(xs.shape)} in double precision: {reason}; it must convert "
                    "them itself where it needs others (x.long() for an embedding, x.reshape(...) for images)"
                ) from error
            whole = self.loss(outputs, ys)
            if not isinstance(whole, torch.Tensor) or whole.numel() != 1:
                got = f"a tensor of shape {tuple(whole.shape)}" if isinstance(whole, torch.Tensor) else type(whole).__name__
                raise ValueError(f"loss must return one number, the mean over the batch (reduction='mean'): got {got}")
            if not isinstance(outputs, torch.Tensor) or len(outputs) != len(xs):
                raise ValueError(f"the module must return one tensor with a row for each sample: got {_what(outputs)}")
            alone = torch.cat([self._forward(parts, xs[i : i + 1]) for i in range(len(xs))])
            if not torch.allclose(alone, outputs, rtol=TOLERANCE, atol=TOLERANCE * float(outputs.abs().max())):
                raise ValueError(
                    "what the module returns for a sample depends on the other samples of the batch (a mean over the batch?), so "
                    "that no sample has a loss of its own"
                )
            each = [float(self.loss(outputs[i : i + 1], ys[i : i + 1])) for i in range(len(xs))]
        mean, scale = math.fsum(each) / len(each), max(map(abs, each), default=0.0)
        if not math.isfinite(float(whole)):
            raise ValueError(f"the loss of the first samples is {float(whole)}: check the scale of the inputs and the weights")
        if abs(float(whole) - mean) > TOLERANCE * max(scale, 1e-300):
            sums = abs(float(whole) - math.fsum(each)) <= TOLERANCE * len(each) * max(scale, 1e-300)
            raise ValueError(
                f"the loss of {len(each)} samples is {float(whole):.6g}, the mean of their own {mean:.6g}"
                + ("; it adds them up: use reduction='mean'" if sums else "; weights of classes or samples have no place in a mean")
            )

    # ---- tensors --------------------------------------------------------------------------------------------------------

    def _vector(self, theta: ArrayLike) -> Any:
        return import_torch().from_numpy(np.array(theta, dtype=np.float64)).to(self.device)

    def _tensors(self, x: Array, y: NDArray[Any]) -> tuple[Any, Any]:
        torch = import_torch()
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device), torch.from_numpy(np.ascontiguousarray(y)).to(self.device)

    def _parts(self, vector: Any) -> dict[str, Any]:
        return {name: vector[part].reshape(self.shapes[name]) for name, part in self.blocks.items()}

    def _forward(self, parts: dict[str, Any], x: Any) -> Any:
        return import_torch().func.functional_call(self.module, parts, (x,))

    def _one(self, vector: Any, x: Any, y: Any) -> Any:
        """Loss of one sample."""
        return self.loss(self._forward(self._parts(vector), x[None]), y[None]).reshape(())

    def _each(self, vector: Any, x: Any, y: Any) -> Any:
        """Losses (n,) of samples that go through the module together."""
        outputs = self._forward(self._parts(vector), x)
        return import_torch().func.vmap(lambda o, t: self.loss(o[None], t[None]).reshape(()))(outputs, y)

    def _chunks(self, x: Array, y: NDArray[Any], rows: int) -> Iterator[tuple[Any, Any]]:
        for i in range(0, len(x), rows):
            yield self._tensors(x[i : i + rows], y[i : i + rows])

    def many(self, kind: str, fast: Callable[[], Any], slow: Callable[[], Any]) -> Any:
        """`fast()`, or, once torch has said that it cannot transform this module so, `slow()`; why is kept and logged."""
        if kind in self.fallback:
            return slow()
        try:
            return fast()
        except (RuntimeError, NotImplementedError, ValueError) as error:  # what torch.func raises for what it cannot do
            if "out of memory" in str(error):
                raise
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        result = slow()  # which says what is wrong with the module, if that was it
        self.fallback[kind] = reason
        logger.warning("%r: %s are taken one at a time, as torch.func says %s", self, kind, reason)
        return result

    # ---- losses and gradients -------------------------------------------------------------------------------------------

    def outputs(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """What the module returns, shape (n, ...)."""
        torch, parts = import_torch(), self._parts(self._vector(self.check_theta(theta)))
        x = np.ascontiguousarray(numbers("x", x))
        with torch.no_grad():
            each = [self._forward(parts, self._tensors(x[i : i + ROWS], x[:0])[0]).cpu().numpy() for i in range(0, len(x), ROWS)]
        return np.concatenate(each)

    def loss_and_gradient(self, theta: ArrayLike, x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
        """Mean loss over the samples with weight decay, and its gradient, shape (P,)."""
        loss, _, gradient = self.evaluate(self.check_theta(theta), *self.check_samples(x, y))
        return loss, gradient

    def evaluate(self, theta: Array, x: Array, y: NDArray[Any]) -> tuple[float, float, Array]:
        """Mean loss with weight decay, fraction misclassified (NaN unless there are labels and a row of scores), gradient."""
        torch, vector = import_torch(), self._vector(theta).requires_grad_()
        total, wrong, gradient = 0.0, 0, torch.zeros_like(vector)
        labels = y.dtype.kind == "i" and y.ndim == 1
        for xs, ys in self._chunks(x, y, ROWS):
            outputs = self._forward(self._parts(vector), xs)
            loss = self.loss(outputs, ys) * len(xs)
            gradient += torch.autograd.grad(loss, vector)[0]
            total += float(loss.detach())
            labels = labels and outputs.ndim == 2 and outputs.shape[1] > 1
            wrong += int((outputs.argmax(dim=1) != ys).sum()) if labels else 0
        decay = self.weight_decay
        mean = gradient.cpu().numpy() / len(x) + decay * theta
        return total / len(x) + 0.5 * decay * float(theta @ theta), wrong / len(x) if labels else math.nan, mean

    def iter_per_sample_gradients(
        self, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str | Sequence[str] | None = None, chunk: int | None = None
    ) -> Iterator[Array]:
        """Per-sample gradients in chunks of rows, each with weight_decay * theta, so that their mean is the gradient."""
        torch = import_torch()
        theta, (x, y), index = self.check_theta(theta), self.check_samples(x, y), self.block_index(block)
        vector, at = self._vector(theta), torch.from_numpy(index).to(self.device)
        rows = max(1, min(ROWS if chunk is None else chunk, CHUNK_NUMBERS // self.dim))
        for xs, ys in self._chunks(x, y, rows):
            fast, slow = partial(self._gradients, vector, xs, ys), partial(self._loop, vector, xs, ys)
            g = self.many("gradients", fast, slow)
            yield g[:, at].cpu().numpy() + self.weight_decay * theta[index]

    def _gradients(self, vector: Any, x: Any, y: Any) -> Any:
        func = import_torch().func
        return func.vmap(func.grad(self._one), in_dims=(None, 0, 0))(vector, x, y)

    def _loop(self, vector: Any, x: Any, y: Any) -> Any:
        torch, vector = import_torch(), vector.clone().requires_grad_()
        return torch.stack([torch.autograd.grad(self._one(vector, a, b), vector)[0] for a, b in zip(x, y, strict=True)])

    def per_sample_gradients(
        self, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str | Sequence[str] | None = None
    ) -> Array:
        """All per-sample gradients, shape (n, size of the block)."""
        return np.concatenate(list(self.iter_per_sample_gradients(theta, x, y, block=block)))

    def products(
        self, theta: ArrayLike, x: ArrayLike, y: ArrayLike, block: str | Sequence[str] | None = None, matrix: str = "hessian"
    ) -> TorchProducts:
        """Products of Hessian, Gauss-Newton matrix, their difference, or covariance with vectors."""
        return TorchProducts(self, self.check_point(theta), *self.check_samples(x, y), block, matrix)

    # ---- losses of all samples along lines ------------------------------------------------------------------------------

    def sample_losses_at(self, theta: Array, x: Array, y: NDArray[Any], cols: Any, moves: Array, c: Array) -> Array:
        """Losses (n,) of the samples `cols`, without weight decay, at theta + sum_j c_j moves_j; c is (k,), or (k, n)."""
        torch, (xs, ys) = import_torch(), self._tensors(x[cols], y[cols])
        with torch.no_grad():
            if c.ndim == 1:
                vector = self._vector(theta + c @ moves)
                points = vector.expand(len(xs), -1)
                fast, slow = partial(self._each, vector, xs, ys), partial(self._each_of, points, xs, ys)
                return np.asarray(self.many("lines", fast, slow).cpu().numpy())
            out, start, ways = np.empty(len(xs)), self._vector(theta), self._vector(moves)
            rows = max(1, min(ROWS, CHUNK_NUMBERS // self.dim))
            for i in range(0, len(xs), rows):
                part = slice(i, i + rows)
                points = start + self._vector(c[:, part].T) @ ways
                here = points, xs[part], ys[part]
                out[part] = (
                    self.many("lines", partial(torch.func.vmap(self._one), *here), partial(self._each_of, *here)).cpu().numpy()
                )
            return out

    def _each_of(self, points: Any, x: Any, y: Any) -> Any:
        return import_torch().stack([self._one(p, a, b) for p, a, b in zip(points, x, y, strict=True)])

    def sample_jets_at(self, theta: Array, x: Array, y: NDArray[Any], cols: Any, move: Array, d: float) -> Array:
        """Loss, slope, curvature (3, n) of the samples `cols` along a line, without weight decay, at theta + d move."""
        torch, (xs, ys) = import_torch(), self._tensors(x[cols], y[cols])
        start, way = self._vector(theta + d * move), self._vector(move)

        def forward() -> Any:
            one, zero = torch.ones((), dtype=start.dtype, device=start.device), torch.zeros_like(start[0])

            def slopes(at: Any) -> Any:
                return torch.func.jvp(lambda e: self._each(start + e * way, xs, ys), (at,), (one,))

            (loss, slope), (_, curvature) = torch.func.jvp(slopes, (zero,), (one,))
            return torch.stack([loss, slope, curvature])

        def one_by_one() -> Any:
            rows = []
            for a, b in zip(xs, ys, strict=True):
                e = torch.zeros_like(start[0]).requires_grad_()
                loss = self._one(start + e * way, a, b)
                (slope,) = torch.autograd.grad(loss, e, create_graph=True)
                bent = torch.autograd.grad(slope, e, allow_unused=True)[0] if slope.requires_grad else None
                rows.append(torch.stack([loss.detach(), slope.detach(), torch.zeros_like(start[0]) if bent is None else bent]))
            return torch.stack(rows, dim=1)

        return np.asarray(self.many("lines", forward, one_by_one).detach().cpu().numpy())


class TorchProducts:
    """Products of a matrix of second derivatives, or of the covariance of the gradients, with vectors; as `nets.products.Products`.

    H v is the derivative of the gradient along v, and G v goes along v to the outputs, through the second derivatives of the
    loss, and back. C v sums over per-sample gradients, which are made anew, a chunk at a time.
    """

    def __init__(
        self, model: TorchModel, theta: Array, x: Array, y: NDArray[Any], block: str | Sequence[str] | None, matrix: str
    ) -> None:
        self.mlp, self.theta, self.x, self.y, self.matrix, self.block = model, theta, x, y, matrix, block
        self.index, self.count = model.block_index(block), 0

    @property
    def size(self) -> int:
        """Number of weights in the block."""
        return len(self.index)

    def __call__(self, v: ArrayLike) -> Array:
        """The products with one vector, shape (size,), or with the rows of an array (k, size)."""
        v = numbers("v", v)
        if v.ndim not in (1, 2) or v.shape[-1] != self.size or not np.isfinite(v).all():
            raise ValueError(f"v must be finite, of shape ({self.size},) or (k, {self.size}): got shape {v.shape}")
        rows = np.atleast_2d(v)
        self.count += len(rows)
        if self.matrix == "covariance":
            return self._covariance(rows).reshape(v.shape)
        full = np.zeros((len(rows), self.mlp.dim))
        full[:, self.index] = rows
        total = np.zeros_like(full)
        if self.matrix in ("hessian", "residual"):
            total += self._sum(full, self._hessian, self._hessian_slow)
        if self.matrix in ("gauss-newton", "residual"):
            sign = -1.0 if self.matrix == "residual" else 1.0
            total += sign * self._sum(full, self._gauss_newton, self._gauss_newton_slow)
        result = total[:, self.index] / len(self.x)
        if self.matrix != "residual":
            result += self.mlp.weight_decay * rows
        return np.asarray(result.reshape(v.shape))

    def _covariance(self, rows: Array) -> Array:
        total, mean, shift = np.zeros_like(rows), np.zeros(self.size), np.zeros(len(rows))
        for g in self.mlp.iter_per_sample_gradients(self.theta, self.x, self.y, block=self.block):
            along = g @ rows.T
            total += along.T @ g
            mean += g.sum(axis=0)
            shift += along.sum(axis=0)
        n = len(self.x)
        return np.asarray(total / n - np.outer(shift / n, mean / n))

    def _sum(self, full: Array, fast: Callable[..., Any], slow: Callable[..., Any]) -> Array:
        """Sums over the samples of products with the rows, all of them with a chunk of samples at a time."""
        model, out = self.mlp, np.zeros_like(full)
        vector = model._vector(self.theta)
        for i in range(0, len(full), VECTORS):
            v = model._vector(full[i : i + VECTORS])
            for x, y in model._chunks(self.x, self.y, ROWS):
                part = model.many("products", partial(fast, vector, v, x, y), partial(slow, vector, v, x, y))
                out[i : i + VECTORS] += part.detach().cpu().numpy()
        return out

    def _total(self, vector: Any, x: Any, y: Any) -> Any:
        return self.mlp.loss(self.mlp._forward(self.mlp._parts(vector), x), y).reshape(()) * len(x)

    def _hessian(self, vector: Any, v: Any, x: Any, y: Any) -> Any:
        torch, vector = import_torch(), vector.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self._total(vector, x, y), vector, create_graph=True)
        if not slope.requires_grad:  # a loss that is linear in the weights
            return torch.zeros_like(v)
        return torch.autograd.grad(slope, vector, v, is_grads_batched=True)[0]

    def _hessian_slow(self, vector: Any, v: Any, x: Any, y: Any) -> Any:
        torch, vector = import_torch(), vector.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self._total(vector, x, y), vector, create_graph=True)
        if not slope.requires_grad:
            return torch.zeros_like(v)
        return torch.stack([torch.autograd.grad(slope @ w, vector, retain_graph=True)[0] for w in v])

    def _gauss_newton(self, vector: Any, v: Any, x: Any, y: Any) -> Any:
        func, model = import_torch().func, self.mlp

        def outputs(p: Any) -> Any:
            return model._forward(model._parts(p), x)

        z, back = func.vjp(outputs, vector)
        slope = func.grad(lambda o: model.loss(o, y).reshape(()) * len(x))

        def one(w: Any) -> Any:
            moved = func.jvp(outputs, (vector,), (w,))[1]
            return back(func.jvp(slope, (z,), (moved,))[1])[0]

        return func.vmap(one)(v)

    def _gauss_newton_slow(self, vector: Any, v: Any, x: Any, y: Any) -> Any:
        torch, model, vector = import_torch(), self.mlp, vector.clone().requires_grad_()
        z = model._forward(model._parts(vector), x)
        dummy = torch.zeros_like(z, requires_grad=True)  # J w is the derivative of J^T u by u along w
        (down,) = torch.autograd.grad(z, vector, dummy, create_graph=True)
        o = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model.loss(o, y).reshape(()) * len(x), o, create_graph=True)
        rows = []
        for w in v:
            (moved,) = torch.autograd.grad(down, dummy, w, retain_graph=True)
            (bent,) = torch.autograd.grad(slope, o, moved, retain_graph=True)
            rows.append(torch.autograd.grad(z, vector, bent, retain_graph=True)[0])
        return torch.stack(rows)


def chosen_parameters(module: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """Parameters by name, in the module's order; ValueError for unknown names and numbers that are not real."""
    there = dict(module.named_parameters())
    if names is None:
        chosen = {name: value for name, value in there.items() if value.requires_grad}
    else:
        wanted = [names] if isinstance(names, str) else list(names)
        if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(there):
            raise ValueError(f"parameters must be different names out of {list(there)}: got {names!r}")
        chosen = {name: value for name, value in there.items() if name in wanted}
    if not chosen:
        raise ValueError(f"the module has no parameter that requires a gradient: it has {list(there)}")
    odd = [name for name, value in chosen.items() if not value.is_floating_point() or not value.numel()]
    if odd:
        raise ValueError(f"parameters must be real floating-point numbers, at least one: {odd} are not")
    bad = [name for name, value in chosen.items() if not bool(value.isfinite().all())]
    if bad:
        raise ValueError(f"parameters must be finite: {bad} are not")
    return chosen


def flat(parameters: Sequence[Any]) -> Any:
    """Tensors side by side in one vector, detached."""
    return import_torch().cat([p.detach().reshape(-1) for p in parameters])


def _changes(layer: Any) -> bool:
    """Whether a layer computes something else in training than in evaluation."""
    nn = import_torch().nn
    if isinstance(layer, nn.modules.batchnorm._NormBase):  # instance norm keeps no averages unless asked to
        return isinstance(layer, nn.modules.batchnorm._BatchNorm) or bool(layer.track_running_stats)
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return bool(layer.p > 0.0)
    dropout = getattr(layer, "dropout", 0.0)  # RNNs, attention
    return isinstance(dropout, float) and dropout > 0.0


def _what(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
