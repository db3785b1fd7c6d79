"""Stochastic gradient descent as a process in discrete time: the algorithm itself, whose clock is the iteration count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_memory, numbers
from .noise import Noise
from .potentials import Potential
from .process import Process

__all__ = ["SGDChain"]

SAMPLINGS = ("replace", "without", "shuffle")
#: (betas, eps) of the adaptive optimisers: Kingma & Ba 2015, Xie et al. 2022.
DEFAULTS = {"sgd": ((0.0, 0.0), 0.0), "adam": ((0.9, 0.999), 1e-8), "adai": ((0.1, 0.99), 1e-3)}


class SGDChain:
    r"""Stochastic gradient descent itself, as a Markov chain; its time is the iteration count.

    With g the mean gradient of the batch, in PyTorch's conventions without dampening:

    ===================  ===========================================================================================
    plain, heavy ball    v <- mu v + g,  theta <- theta - lr v
    Nesterov             v <- mu v + g,  theta <- theta - lr (g + mu v)
    ``"adam"``           m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2, both divided by 1 - b^t,
                         theta <- theta - lr m/(sqrt(v) + eps)
    ``"adai"``           v as for Adam; b1 = clip(b0 v/mean(v), 0, 1 - eps) subtracted from 1, one per weight;
                         m <- b1 m + (1 - b1) g, divided by one minus the product of all b1; theta <- theta - lr m
    ===================  ===========================================================================================

    Parameters
    ----------
    ensemble : Ensemble or object
        Has ``dim``, ``size`` and ``gradient(theta, indices)``: the mean gradient of the sample losses with these indices;
        optionally ``gradients(thetas, indices)`` for many trajectories at once, as :class:`Ensemble` has.
    lr : float, callable k -> float, or array
        Learning rate; a schedule gives it for iteration k = 0, 1, ... (an array keeps its last value beyond its end).
    batch : int, callable k -> int, or array
        Batch size, at most ``ensemble.size`` unless drawn with replacement.
    momentum : float
        mu in [0, 1); for ``optimizer="sgd"``.
    sampling : {"replace", "without", "shuffle"}
        Independent draws with replacement; batches of distinct samples, one batch independent of the next; or reshuffled epochs
        in which each sample comes once (a last partial batch is dropped).
    nesterov : bool
        Look ahead by the momentum.
    optimizer : {"sgd", "adam", "adai"}
    betas : (float, float), optional
        (b1, b2) of Adam, default (0.9, 0.999); (b0, b2) of Adai, default (0.1, 0.99).
    eps : float, optional
        Default 1e-8 for Adam, 1e-3 for Adai.

    Raises
    ------
    TypeError, ValueError
        For unusable input; a schedule's values are checked when they are used, arrays at once.

    References
    ----------
    D. Kingma, J. Ba, Adam (2015); Z. Xie et al., Adaptive Inertia, ICML 2022 (arXiv:2006.15815).

    Examples
    --------
    >>> U = Potential.from_expression("h*x**2/2", params={"h": 2.0})
    >>> SGDChain.gaussian(U, Noise.covariance([[1.0]], lr=0.1, batch=10), lr=0.1)
    SGDChain(gaussian, dim=1, lr=0.1, momentum=0)
    """

    unit = "iteration"
    ensemble: Any
    landscape: Potential | None
    sigma: float
    batch: int | None
    sampling: str
    _lr: Callable[[int], Any] | None
    _batch: Callable[[int], Any] | None
    _process: Process | None
    at: tuple[float, float]  # learning rate and batch size of the reference

    def __init__(
        self, ensemble: Any, lr: Any, batch: Any, momentum: float = 0.0, sampling: str = "replace", *, nesterov: bool = False,
        optimizer: str = "sgd", betas: Sequence[float] | None = None, eps: float | None = None,
    ) -> None:  # fmt: skip
        for name in ("dim", "size", "gradient"):
            if not hasattr(ensemble, name):
                raise TypeError(
                    f"an ensemble needs dim, size and gradient(theta, indices); {type(ensemble).__name__} has no {name}"
                )
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(map(repr, SAMPLINGS))}, got {sampling!r}")
        self._set("ensemble", int(ensemble.dim), lr, momentum, nesterov)
        self.ensemble, self.size, self.sampling = ensemble, int(ensemble.size), sampling
        self._set_batch(batch)
        self._set_optimizer(optimizer, betas, eps)

    def _set(self, kind: str, dim: int, lr: Any, momentum: float, nesterov: bool = False) -> SGDChain:
        _in_range("momentum", momentum, 0.0, 1.0)
        if nesterov and not momentum:
            raise ValueError("nesterov=True needs momentum > 0: without momentum it is plain SGD")
        self.kind, self.dim, self.momentum, self.nesterov = kind, dim, float(momentum), bool(nesterov)
        self._lr = lr if callable(lr) else None
        if self._lr is None and np.ndim(lr) == 1:
            rates = numbers("lr", lr, "a number, a function or an array of numbers").tolist()
            table = [_learning_rate(value, k) for k, value in enumerate(rates)]
            self._lr = _table("lr", table)
        self.lr: float | None = _learning_rate(lr, None) if self._lr is None else None
        self.ensemble, self.landscape, self.sigma, self._process, self.at = None, None, 0.0, None, (1.0, 1.0)
        self.batch, self._batch, self.size, self.sampling = None, None, 0, "replace"
        self.optimizer, (self.betas, self.eps) = "sgd", DEFAULTS["sgd"]
        return self

    def _set_batch(self, batch: Any) -> None:
        self._batch = batch if callable(batch) else None
        if self._batch is None and np.ndim(batch) == 1:
            self._batch = _table("batch", [self._size_of(value, k) for k, value in enumerate(np.asarray(batch).tolist())])
        self.batch = self._size_of(batch, None) if self._batch is None else None

    def _size_of(self, batch: Any, k: int | None) -> int:
        where = "" if k is None else f" at iteration {k}"
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or not 1 <= batch < 2**53:
            raise ValueError(f"batch must be a positive integer below 2^53, got {batch!r}{where}")
        if self.sampling != "replace" and batch > self.size:
            raise ValueError(
                f"batch {batch} exceeds the {self.size} samples{where}; draw with sampling='replace' or take a smaller batch"
            )
        return int(batch)

    def _set_optimizer(self, optimizer: str, betas: Sequence[float] | None, eps: float | None) -> None:
        if not isinstance(optimizer, str) or optimizer not in DEFAULTS:
            raise ValueError(f"optimizer must be one of {', '.join(map(repr, DEFAULTS))}, got {optimizer!r}")
        if optimizer == "sgd" and (betas is not None or eps is not None):
            raise ValueError("betas and eps belong to optimizer='adam' or 'adai'; the momentum of SGD is momentum=")
        if optimizer != "sgd" and self.momentum:
            raise ValueError(f"momentum={self.momentum:g} belongs to optimizer='sgd'; {optimizer} has its own: betas=")
        default, small = DEFAULTS[optimizer]
        pair = default if betas is None else tuple(betas) if isinstance(betas, Iterable) else ()
        if len(pair) != 2:
            raise ValueError(f"betas must be two numbers, got {betas!r}, e.g. {default}")
        _in_range("betas[0]", pair[0], 0.0, np.inf if optimizer == "adai" else 1.0)
        _in_range("betas[1]", pair[1], 0.0, 1.0)
        self.eps = small if eps is None else _in_range("eps", eps, 0.0, 1.0)
        self.optimizer, self.betas = optimizer, (float(pair[0]), float(pair[1]))

    @classmethod
    def gaussian(
        cls, U: Potential, noise: Noise, lr: Any, momentum: float = 0.0, *, batch: Any = None, nesterov: bool = False,
        optimizer: str = "sgd", betas: Sequence[float] | None = None, eps: float | None = None,
    ) -> SGDChain:  # fmt: skip
        r"""The chain with Gaussian gradient noise: step covariance 2 lr D(x) (= lr^2 C/batch).

        The covariance C of the gradients does not depend on the learning rate. With schedules the noise D(x) is that of a
        reference, lr_0 and B_0, and the gradient of iteration k is

        .. math:: g_k = \nabla U + \xi_k, \qquad \operatorname{cov} \xi_k = \frac{C}{B_k} = \frac{2 D(x)}{lr_0}\,\frac{B_0}{B_k},

        so that a plain step has the covariance :math:`lr_k^2 C/B_k`. The reference is what the noise was made for
        (``noise.lr``, ``noise.batch``); where it does not say, the schedule at iteration 0.

        Parameters
        ----------
        U : Potential
        noise : Noise
        lr : float, callable k -> float, or array
            As for sample losses. A constant must be the ``noise.lr`` that the noise was made for, if it was made for one.
        momentum : float
        batch : int, callable k -> int, or array, optional
            Batch size; a constant must be ``noise.batch``, if the noise has one. Default: that.
        nesterov, optimizer, betas, eps
            As for sample losses; Adam and Adai run in NumPy, plain SGD and momentum in the fused kernels.

        Raises
        ------
        TypeError, ValueError
            For unusable input, or if the noise was made for another learning rate or batch size.

        Examples
        --------
        Adding noise of variance (lr_k^2) C/B_k to (1 - lr_k h)^2 times the variance before, h = 2:

        >>> import fpsolve as fps
        >>> U = Potential.from_expression("x**2")
        >>> chain = SGDChain.gaussian(U, Noise.covariance([[1.0]], lr=0.4, batch=2), lr=[0.4, 0.1], batch=[2, 8])
        >>> paths = fps.simulate(chain, [0.0], t=2, n=20000, save="moments", seed=1)
        >>> exact = 0.8**2 * 0.4**2 / 2 + 0.1**2 / 8
        >>> bool(abs(paths.covariance[0, 0] / exact - 1) < 0.04)
        True
        """
        _landscape(U)
        if not isinstance(noise, Noise):
            raise TypeError(f"noise must be a Noise (e.g. Noise.covariance(C, lr, batch)), got {type(noise).__name__}: {noise!r}")
        chain = cls.__new__(cls)._set("gaussian", U.dim, lr, momentum, nesterov)
        if batch is not None:
            chain._set_batch(batch)
        chain._set_optimizer(optimizer, betas, eps)
        if chain.lr is not None and noise.lr is not None and not np.isclose(noise.lr, chain.lr, rtol=1e-12):
            raise ValueError(
                f"the noise was made for lr={noise.lr:g}, the chain has lr={chain.lr:g}; make both with the same learning rate"
            )
        if chain.batch is not None and noise.batch is not None and noise.batch != chain.batch:
            raise ValueError(
                f"the noise was made for batch={noise.batch:g}, the chain has batch={chain.batch}; make both with the same"
            )
        if noise.stable is not None:
            raise ValueError("a Gaussian chain needs Gaussian noise; for Levy noise simulate Process(U, noise) with dt = lr")
        chain._process = Process(U, noise)
        if batch is None:
            chain.batch = None if noise.batch is None else int(noise.batch)
        chain.at = (noise.lr or chain.lr_at(0)), float(noise.batch or chain.batch_at(0) or 1)
        return chain

    @classmethod
    def random_shift(
        cls, U: Potential, sigma: float, lr: Any, batch: Any = 1, momentum: float = 0.0, *, nesterov: bool = False
    ) -> SGDChain:
        r"""Minibatch losses that are randomly shifted copies of U, **exact**: :math:`f(x) = U(x + \xi)`, xi ~ N(0, sigma^2).

        The mean loss is then not U but U smoothed, :math:`U + (\sigma^2/2) \operatorname{tr} H + ...`, whose force towards flat
        regions is of first order in the learning rate. The *linearised* ensemble, :math:`f(x) = U(x) + \xi\cdot\nabla U(x)`, has
        mean loss U exactly and gradient covariance :math:`\sigma^2 H^2`: it is
        ``SGDChain.gaussian(U, Noise.shifted_minima(U, sigma, lr), lr)`` (batch 1; sigma/sqrt(batch) for larger ones). In a valley
        the exact one moves along the floor at rate lr sigma^2 k/2 instead of order lr^2 sigma^2. On a quadratic they agree.

        Examples
        --------
        >>> SGDChain.random_shift(Potential.from_expression("x**2"), sigma=0.5, lr=0.1)
        SGDChain(shift, dim=1, lr=0.1, momentum=0, batch=1, sigma=0.5)
        """
        _landscape(U)
        chain = cls.__new__(cls)._set("shift", U.dim, lr, momentum, nesterov)
        chain.landscape, chain.sigma = U, _in_range("sigma", sigma, 0.0, np.inf)
        chain._set_batch(batch)
        return chain

    # ---- what the engines ask -----------------------------------------------------------------------------------------

    def lr_at(self, k: int) -> float:
        """Learning rate of iteration k = 0, 1, ..."""
        if self._lr is None:
            assert self.lr is not None
            return self.lr
        return _learning_rate(self._lr(k), k)

    def batch_at(self, k: int) -> int | None:
        """Batch size of iteration k = 0, 1, ...; None for a Gaussian chain that was not told one."""
        if self._batch is None:
            return self.batch
        return self._size_of(self._batch(k), k)

    def rates(self, first: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(learning rates, ratios) of iterations first ... stop - 1 of a Gaussian chain.

        The ratio sqrt((lr_k/lr_0)(B_0/B_k)) is that of the noise of the step to the one of a constant chain at lr_k. Fewer
        iterations come back where a schedule fails on the way: it may end where the run does. At the first one the error is raised.
        """
        for name, k in (("first", first), ("stop", stop)):
            if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 0:
                raise ValueError(f"{name} must be an iteration, a whole number >= 0, got {k!r}")
        check_memory(4 * (stop - first), f"the rates of {stop - first} iterations", "ask for fewer")
        rates, sizes = [], []
        for k in range(first, stop):
            try:
                pair = self.lr_at(k), self.at[1] if self._batch is None else self.batch_at(k)
            except Exception:
                if k == first:
                    raise
                break
            rates.append(pair[0])
            sizes.append(pair[1])
        lr = np.array(rates, float)
        return lr, np.sqrt(lr / self.at[0] * (self.at[1] / np.array(sizes, float)))

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate or the batch size changes."""
        return self._lr is not None or self._batch is not None

    @property
    def fused(self) -> bool:
        """Whether the chain runs in the fused kernels: Gaussian noise, no adaptive optimiser, a landscape that can be compiled."""
        landscape = None if self.reference is None else self.reference.potential
        return landscape is not None and landscape.value_code.fusable and self.optimizer == "sgd"

    @property
    def reference(self) -> Process | None:
        """Of a Gaussian chain the process that it was made from: grad U, and D at the reference learning rate and batch size."""
        return self._process if self.kind == "gaussian" else None

    @property
    def process(self) -> Process | None:
        """The stochastic differential equation with the chain's mean and covariance per step (time = lr times iterations).

        For a Gaussian chain the one it was made from. For an :class:`Ensemble` of expressions: drift -grad L, D = lr C(theta)/(2
        batch), times (N - batch)/(N - 1) for ``sampling="without"``. None where no such equation is known: other ensembles,
        shuffled epochs, schedules, adaptive optimisers. Momentum does not enter.
        """
        if self.scheduled or self.optimizer != "sgd":
            return None
        if self._process is None and self.kind == "ensemble" and self.sampling != "shuffle":
            loss = getattr(self.ensemble, "loss", None)
            if isinstance(loss, Potential) and hasattr(self.ensemble, "noise") and self.lr is not None and self.batch is not None:
                self._process = Process(loss, self.ensemble.noise(self.lr, self.batch, self.sampling))
        return self._process

    @property
    def label(self) -> str:
        """Name of the algorithm, for results."""
        text = {"sgd": "SGD", "adam": "Adam", "adai": "Adai"}[self.optimizer]
        text += {"gaussian": ", Gaussian", "shift": ", random shift"}.get(self.kind, f", {self.sampling}")
        text += ", Nesterov" if self.nesterov else ", heavy ball" if self.momentum else ""
        return text + (", scheduled" if self.scheduled else "")

    def __repr__(self) -> str:
        marks = f", momentum={self.momentum:g}" if self.optimizer == "sgd" else f", {self.optimizer}, betas={self.betas}"
        marks += ", nesterov" if self.nesterov else ""
        size = "scheduled" if self._batch is not None else self.batch
        if self.kind == "ensemble":
            marks += f", batch={size}, sampling={self.sampling}"
        elif self.kind == "shift":
            marks += f", batch={size}, sigma={self.sigma:g}"
        elif self._batch is not None:
            marks += f", batch={size}"
        rate = "scheduled" if self.lr is None else f"{self.lr:g}"
        return f"SGDChain({self.kind}, dim={self.dim}, lr={rate}{marks})"


def _landscape(U: Any) -> None:
    if not isinstance(U, Potential):
        raise TypeError(f"the landscape must be a Potential, got {type(U).__name__}: {U!r}")


def _in_range(name: str, value: Any, low: float, high: float) -> float:
    ok = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool) and np.isfinite(value)
    if not ok or value < low or value >= high:
        raise ValueError(f"{name} must be a finite number in [{low:g}, {high:g}), got {value!r}")
    return float(value)


def _learning_rate(value: Any, k: int | None) -> float:
    ok = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool) and np.isfinite(value) and value > 0
    if not ok:
        where = "" if k is None else f" at iteration {k}"
        raise ValueError(f"lr must be a finite number in (0, inf), got {value!r}{where}")
    return float(value)


def _table(name: str, values: ArrayLike) -> Callable[[int], Any]:
    table = np.asarray(values)
    if not table.size:
        raise ValueError(f"{name}: a schedule needs at least one value")
    return lambda k: table[min(k, len(table) - 1)].item()
