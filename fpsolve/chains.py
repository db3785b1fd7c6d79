"""Stochastic gradient descent as a process in discrete time: the algorithm itself, whose clock is the iteration count."""

from __future__ import annotations

from typing import Any

import numpy as np

from .noise import Noise
from .potentials import Potential
from .process import Process

__all__ = ["SGDChain"]


class SGDChain:
    """Stochastic gradient descent itself, as a Markov chain; its time is the iteration count.

    theta <- theta - lr g_B(theta), with heavy ball v <- momentum v + g_B, theta <- theta - lr v (PyTorch's form, no dampening).

    Parameters
    ----------
    ensemble : object
        Has ``dim``, ``size`` and ``gradient(theta, indices)``: the mean gradient of the sample losses with these indices.
    lr : float
    batch : int
        Batch size, at most ``ensemble.size`` unless drawn with replacement.
    momentum : float
        In [0, 1).
    sampling : {"replace", "shuffle"}
        Independent draws with replacement, or reshuffled epochs without replacement (last partial batch dropped).

    Examples
    --------
    >>> U = Potential.from_expression("h*x**2/2", params={"h": 2.0})
    >>> SGDChain.gaussian(U, Noise.covariance([[1.0]], lr=0.1, batch=10), lr=0.1)
    SGDChain(gaussian, dim=1, lr=0.1, momentum=0)
    """

    unit = "iteration"
    ensemble: Any
    process: Process | None
    batch: int | None
    sampling: str

    def __init__(self, ensemble: Any, lr: float, batch: int, momentum: float = 0.0, sampling: str = "replace") -> None:
        for name in ("dim", "size", "gradient"):
            if not hasattr(ensemble, name):
                raise TypeError(
                    f"an ensemble needs dim, size and gradient(theta, indices); {type(ensemble).__name__} has no {name}"
                )
        if sampling not in ("replace", "shuffle"):
            raise ValueError(f"sampling must be 'replace' or 'shuffle', got {sampling!r}")
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
            raise ValueError(f"batch must be a positive integer, got {batch!r}")
        if sampling == "shuffle" and batch > ensemble.size:
            raise ValueError(
                f"batch {batch} exceeds the {ensemble.size} samples; draw with sampling='replace' or take a smaller batch"
            )
        self._set("ensemble", int(ensemble.dim), lr, momentum)
        self.ensemble, self.batch, self.sampling = ensemble, int(batch), sampling

    def _set(self, kind: str, dim: int, lr: float, momentum: float) -> SGDChain:
        for name, value, top in (("lr", lr, np.inf), ("momentum", momentum, 1.0)):
            ok = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool) and np.isfinite(value)
            if not ok or value < 0 or value >= top or (name == "lr" and value == 0):
                raise ValueError(f"{name} must be a finite number in {'(0, inf)' if name == 'lr' else '[0, 1)'}, got {value!r}")
        self.kind, self.dim, self.lr, self.momentum = kind, dim, float(lr), float(momentum)
        self.ensemble, self.process, self.batch, self.sampling = None, None, None, "replace"
        return self

    @classmethod
    def gaussian(cls, U: Potential, noise: Noise, lr: float, momentum: float = 0.0) -> SGDChain:
        """The chain with Gaussian gradient noise: step covariance 2 lr D(x) (= lr^2 C/batch).

        Raises
        ------
        ValueError
            If the noise was made for another learning rate.
        """
        chain = cls.__new__(cls)._set("gaussian", U.dim, lr, momentum)
        if noise.lr is not None and not np.isclose(noise.lr, chain.lr, rtol=1e-12):
            raise ValueError(
                f"the noise was made for lr={noise.lr:g}, the chain has lr={chain.lr:g}; make both with the same learning rate"
            )
        chain.process = Process(U, noise)
        chain.batch = None if noise.batch is None else int(noise.batch)
        return chain

    def __repr__(self) -> str:
        marks = f", batch={self.batch}, sampling={self.sampling}" if self.kind == "ensemble" else ""
        return f"SGDChain({self.kind}, dim={self.dim}, lr={self.lr:g}, momentum={self.momentum:g}{marks})"
