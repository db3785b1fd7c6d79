"""Codes of functions that can only be evaluated on arrays of points: losses over too many samples to be compiled into a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._code import Code

__all__ = ["EvaluatedCode"]

Array = NDArray[np.float64]


class EvaluatedCode(Code):
    """Values at points (n, dim) from a Python function, (n,) or (n, n_out), and from another one its derivative, if known."""

    fusable, cacheable = False, False

    def __init__(
        self, function: Callable[[Array], Any], dim: int, n_out: int, slopes: Callable[[Array], Any] | None = None
    ) -> None:
        if not callable(function):
            raise TypeError(f"expected a function of points (n, {dim}), got {type(function).__name__}: {function!r}")
        self.function, self.dim, self.n_out, self.slopes = function, dim, n_out, slopes

    def evaluate(self, x: Any, params: Any = None) -> Array:
        points = np.asarray(x, float)
        flat = np.ascontiguousarray(points.reshape(-1, self.dim))
        values = np.asarray(self.function(flat), float)
        expected = {(len(flat), self.n_out), (len(flat),) if self.n_out == 1 else (len(flat), self.n_out)}
        if values.shape not in expected:
            name = getattr(self.function, "__name__", repr(self.function))
            raise ValueError(f"{name} returned shape {values.shape} for points {flat.shape}; it must be one of {sorted(expected)}")
        return values.reshape(*points.shape[:-1], self.n_out)

    def jacobian(self) -> Code:
        return super().jacobian() if self.slopes is None else EvaluatedCode(self.slopes, self.dim, self.n_out * self.dim)

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        raise ValueError(
            "this landscape is evaluated on arrays of points, not compiled into a loop: simulate SGDChain(ensemble, lr, batch) or "
            "SGDChain.gaussian(U, noise, lr) rather than a Process in continuous time, or write Potential(value, grad, dim=...)"
        )
