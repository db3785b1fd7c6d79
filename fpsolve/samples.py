"""Ensembles of sample losses f(theta, x): what minibatch SGD draws from."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import is_finite, is_number, numbers
from ._code import Code, DerivedCode, ExpressionCode
from .expressions import parse, split_names
from .noise import Noise
from .potentials import Potential, check_params, check_points

__all__ = ["Ensemble"]

Array = NDArray[np.float64]

#: Numbers held at once where losses are evaluated on points times samples.
CHUNK = 1 << 20


class SampleMeanCode(Code):
    """Mean over the samples of an expression in the weights and in the columns of the data."""

    array_params = True

    def __init__(self, child: ExpressionCode, data: Array) -> None:
        self.child, self.data, self.names = child, data, child.names
        self.dim, self.n_out = child.dim - data.shape[1], child.n_out

    def pack(self, params: Mapping[str, float]) -> Array:
        return np.concatenate([self.child.pack(params), [len(self.data)], self.data.ravel()])

    @property
    def n_params(self) -> int:
        return self.child.n_params + 1 + self.data.size

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        source, extra = self.child.emit(f"{name}_0", inline)
        k, c = self.child.n_params, self.data.shape[1]
        weights = "".join(f"x[{i}], " for i in range(self.dim))
        columns = "".join(f"p[{k + 1 + j} + {c}*s], " for j in range(c))
        lines = [inline, f"def {name}(x, p):", f"    q = ({''.join(f'p[{i}], ' for i in range(k))})", f"    n = int(p[{k}])"]
        lines += [f"    a{i} = 0.0" for i in range(self.n_out)]
        lines += ["    for s in range(n):", f"        v = {name}_0(({weights}{columns}), q)"]
        lines += [f"        a{i} += v[{i}]" for i in range(self.n_out)]
        return "\n".join([source, *lines, f"    return ({''.join(f'a{i}/n, ' for i in range(self.n_out))})", ""]), extra

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        points = np.asarray(x, float).reshape(-1, self.dim)
        out = np.empty((len(points), self.n_out))
        step = max(1, CHUNK // (len(self.data) * (self.child.dim + self.n_out)))
        for lo in range(0, len(points), step):
            out[lo : lo + step] = self.samples(points[lo : lo + step, None], self.data, params).mean(axis=1)
        return out.reshape(*np.shape(x)[:-1], self.n_out)

    def samples(self, x: Array, data: Array, params: Mapping[str, float] | None) -> Array:
        """Outputs of single samples: weights (..., dim) and data (..., columns) broadcast against each other."""
        shape = np.broadcast_shapes(x.shape[:-1], data.shape[:-1])
        parts = [np.broadcast_to(a, (*shape, a.shape[-1])) for a in (x, data)]
        return self.child.evaluate(np.concatenate(parts, axis=-1), params)

    def jacobian(self) -> SampleMeanCode:
        """Derivatives by the weights only."""
        import sympy

        symbols = [sympy.Symbol(v, real=True) for v in self.child.variables[: self.dim]]
        outputs = [e.diff(s) for e in self.child.expressions for s in symbols]
        return self.of(outputs)

    def of(self, expressions: Sequence[Any]) -> SampleMeanCode:
        """The mean of other expressions over the same samples."""
        return SampleMeanCode(ExpressionCode(expressions, self.child.variables, self.child.names), self.data)


class Ensemble:
    r"""N sample losses :math:`f_s(\theta)`, with mean loss L and per-sample gradient covariance C.

    .. math:: L = \frac1N \sum_s f_s, \qquad C = \frac1N \sum_s (\nabla f_s - \nabla L)(\nabla f_s - \nabla L)^T .

    Made by :meth:`from_expression`, whose derivatives are symbolic, or by :meth:`from_function`. Any other object with ``dim``,
    ``size`` and ``gradient(theta, indices)`` serves an :class:`SGDChain` as well; with ``gradients(thetas, indices)``, arrays
    (n, dim) and (n, batch) to (n, dim), all trajectories advance together.

    Attributes
    ----------
    dim, size : int
        Number of weights, and of samples N.
    loss : Potential or None
        L with gradient and Hessian; None for Python functions.

    Examples
    --------
    >>> fit = Ensemble.from_expression("(theta*x - y)**2/2", "theta", {"x": [1.0, 2.0], "y": [1.0, 3.0]})
    >>> fit.loss([1.0]), fit.gradient([1.0], [1]), fit.covariance([1.0])
    (0.25, array([-2.]), array([[1.]]))
    """

    dim: int
    size: int
    loss: Potential | None
    name: str
    params: dict[str, float]
    _gradient: SampleMeanCode
    _function: Callable[[Array, NDArray[np.int64]], ArrayLike]

    @classmethod
    def from_expression(
        cls,
        text: str,
        variables: str | Sequence[str],
        data: Mapping[str, ArrayLike],
        params: Mapping[str, float] | None = None,
    ) -> Ensemble:
        """Sample losses from text in the weights `variables`, the columns of `data` and the parameters.

        Parameters
        ----------
        text : str
            For example ``"(theta*x - y)**2/2"``; see :func:`fpsolve.expressions.parse` for what is allowed.
        variables : str or sequence of str
            The weights, in order.
        data : mapping of str to array (N,)
            One finite number per sample and column.
        params : mapping, optional

        Raises
        ------
        ValueError
            If columns differ in length or are not finite, or a name has two meanings.
        """
        names, checked = split_names(variables), check_params(params)
        columns = split_names(list(data), "data")
        if shared := (set(names) & set(checked)) | (set(columns) & ({*names, *checked})):
            raise ValueError(f"{sorted(shared)} have two meanings among variables, data and params; rename one")
        arrays = {name: np.asarray(data[name], float) for name in columns}
        shapes = {name: a.shape for name, a in arrays.items()}
        if not arrays or len(set(shapes.values())) != 1 or any(a.ndim != 1 or a.size == 0 for a in arrays.values()):
            raise ValueError(f"data must hold at least one column, all 1-D of one length N >= 1; got shapes {shapes}")
        for name, a in arrays.items():
            if not np.isfinite(a).all():
                i = int(np.argmin(np.isfinite(a)))
                raise ValueError(f"data[{name!r}] is not finite: sample {i} is {a[i]}; drop such samples")
        expression = parse(text, [*names, *columns, *checked])
        child = ExpressionCode([expression], [*names, *columns], tuple(checked))
        value = SampleMeanCode(child, np.ascontiguousarray(np.column_stack(list(arrays.values()))))
        self = cls.__new__(cls)
        self.dim, self.size, self.params, self.name = len(names), len(value.data), checked, str(text)
        self.loss = Potential.from_codes(value, checked, f"mean of {text}")
        self._gradient = value.jacobian()
        return self

    @classmethod
    def from_function(cls, gradients: Callable[[Array, NDArray[np.int64]], ArrayLike], *, dim: int, size: int) -> Ensemble:
        """Sample losses known by a Python function ``gradients(thetas, indices)``: (n, dim), (n, batch) to mean gradients (n, dim).

        Examples
        --------
        >>> centres = np.array([[0.0], [1.0], [5.0]])
        >>> wells = Ensemble.from_function(lambda theta, i: theta - centres[i].mean(axis=1), dim=1, size=3)
        >>> wells.gradient([0.0], [0, 2])
        array([-2.5])
        """
        for name, number in (("dim", dim), ("size", size)):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
                raise ValueError(f"{name} must be a positive integer, got {number!r}")
        if not callable(gradients):
            raise TypeError(f"gradients must be a function (thetas, indices) -> (n, dim), got {type(gradients).__name__}")
        self = cls.__new__(cls)
        self.dim, self.size, self.params, self.name = int(dim), int(size), {}, getattr(gradients, "__name__", "function")
        self.loss, self._function = None, gradients
        return self

    @property
    def gradient_code(self) -> SampleMeanCode | None:
        """The mean gradient as a code, its samples and parameters with it; None for Python functions."""
        return None if self.loss is None else self._gradient

    def gradients(self, thetas: ArrayLike, indices: ArrayLike) -> Array:
        """Mean gradients at weights (n, dim) over the samples indices (n, batch), repeats allowed: shape (n, dim)."""
        points, chosen = check_points(thetas, self.dim), np.asarray(indices)
        wrong = chosen.dtype.kind not in "iu" or not chosen.size or chosen.min() < 0 or chosen.max() >= self.size
        if wrong or chosen.ndim != 2 or points.ndim != 2 or len(chosen) not in (1, len(points)):
            raise ValueError(
                f"indices must be samples 0 .. {self.size - 1}, shape (n, batch) for weights of shape (n, {self.dim}): got "
                f"{reprlib.repr(indices)} for weights of shape {points.shape}"
            )
        chosen = chosen.astype(np.int64, copy=False)
        if self.loss is None:
            return np.asarray(self._function(points, chosen), float)
        data = self._gradient.data[chosen]
        return np.asarray(self._gradient.samples(points[:, None], data, self.params).mean(axis=1))

    def gradient(self, theta: ArrayLike, indices: ArrayLike) -> Array:
        """Mean gradient at one point (dim,) over the samples indices (batch,)."""
        return np.asarray(self.gradients(numbers("theta", theta)[None], np.asarray(indices)[None])[0])

    def sample_gradients(self, theta: ArrayLike) -> Array:
        """Gradients of all samples at one point: shape (size, dim)."""
        point = check_points(theta, self.dim).reshape(1, self.dim)
        return self.gradients(np.repeat(point, self.size, axis=0), np.arange(self.size)[:, None])

    def covariance(self, theta: ArrayLike) -> Array:
        """C at one point, centred and divided by N: shape (dim, dim)."""
        g = self.sample_gradients(theta)
        g = g - g.mean(axis=0)
        return np.asarray(g.T @ g / self.size)

    def hessian(self, theta: ArrayLike) -> Array:
        """Hessian of the mean loss at points (..., dim)."""
        return self._known().hess(theta)

    def _known(self) -> Potential:
        if self.loss is None:
            raise ValueError(
                "this ensemble was made from a Python function of gradients: its loss, Hessian and noise tensor are not known "
                "as formulas; use Ensemble.from_expression"
            )
        return self.loss

    def noise(self, lr: float, batch: int, sampling: str = "replace") -> Noise:
        r"""SGD noise at a learning rate and batch size: :math:`D(\theta) = lr\,C(\theta)/(2\,batch)`.

        Times (N - batch)/(N - 1) for ``sampling="without"``, the variance of a batch of distinct samples. Shuffled epochs have the
        same variance per batch, but their noise sums to zero over an epoch, which no white noise does: they are refused.

        Examples
        --------
        >>> fit = Ensemble.from_expression("(theta - y)**2/2", "theta", {"y": [0.0, 2.0, 4.0]})
        >>> fit.noise(0.3, 2, "without").diffusion([0.0])
        array([[0.1]])
        """
        U = self._known()
        if not (is_number(lr) and is_finite(lr) and lr > 0.0):
            raise ValueError(f"lr must be a finite number > 0, got {lr!r}")
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or not 1 <= batch < 2**63:
            raise ValueError(f"batch must be a whole number >= 1, got {batch!r}")
        if sampling not in ("replace", "without", "shuffle"):
            raise ValueError(f"sampling must be 'replace' or 'without', got {sampling!r}")
        if sampling == "without" and batch > self.size:
            raise ValueError(f"batch = {batch} distinct samples cannot be drawn from {self.size}")
        if sampling == "shuffle":
            raise ValueError("noise of shuffled epochs is not white: it sums to zero over each epoch; no process has it")
        d, size = self.dim, self.size
        g = self._gradient.child.expressions
        second = self._gradient.of([g[i] * g[j] for i in range(d) for j in range(d)])
        factor = 1.0 if sampling == "replace" else (size - batch) / max(1, size - 1)
        scale = lr * factor / (2.0 * batch)
        outputs = [f"{scale!r}*(c0[{i * d + j}] - c1[{i}]*c1[{j}])" for i in range(d) for j in range(d)]
        code = DerivedCode([second, self._gradient], d * d, outputs)
        return Noise("ensemble", d, code, params=U.params, lr=float(lr), batch=int(batch))

    def __repr__(self) -> str:
        return f"Ensemble({self.name}, dim={self.dim}, size={self.size}{''.join(f', {k}={v:g}' for k, v in self.params.items())})"
