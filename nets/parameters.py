"""Named blocks of one flat vector of weights, and what a network of another package must be able to do."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers

if TYPE_CHECKING:
    pass

__all__ = ["Model", "Parameters"]

Array = NDArray[np.float64]


class Parameters:
    """Blocks of weights, each with a name and a shape, side by side in one vector theta.

    A run that was recorded elsewhere has these alone, as its file cannot hold the network itself; `nets.load_run(...,
    model=...)` puts it back.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        In the order of theta; each block is stored row by row.
    weight_decay : float
        The lambda of the term ``lambda/2 |theta|^2`` of the loss.

    Attributes
    ----------
    dim : int
        Number of weights P.
    blocks : dict of str to slice
        Where each block is in theta.

    Examples
    --------
    >>> parameters = Parameters({"conv.weight": (4, 1, 3, 3), "conv.bias": (4,)})
    >>> parameters.dim, parameters.blocks["conv.bias"]
    (40, slice(36, 40, None))
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], *, weight_decay: float = 0.0) -> None:
        self.shapes = {name: tuple(int(n) for n in shape) for name, shape in shapes.items()}
        self.weight_decay = float(weight_decay)
        self.blocks: dict[str, slice] = {}
        self.dim = 0
        for name, shape in self.shapes.items():
            self.blocks[name] = slice(self.dim, self.dim + math.prod(shape))
            self.dim += math.prod(shape)

    @property
    def spec(self) -> dict[str, Any]:
        """What of it goes into a file."""
        return {"parameters": json.dumps(self.shapes), "weight_decay": self.weight_decay}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Parameters:
        """Those of a file, or ValueError."""
        try:
            shapes = {str(name): tuple(int(n) for n in shape) for name, shape in json.loads(spec["parameters"]).items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"model/parameters must be the shapes of named blocks as JSON: {error!r}") from None
        if not shapes or any(n < 1 for shape in shapes.values() for n in shape):
            raise ValueError(f"model/parameters must be named blocks of at least one weight each: got {shapes}")
        return Parameters(shapes, weight_decay=spec.get("weight_decay", 0.0))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.blocks)} blocks, {self.dim} weights)"

    def unpack(self, theta: ArrayLike) -> dict[str, Array]:
        """Views of a parameter vector by name, each in its shape."""
        theta = self.check_theta(theta)
        return {name: theta[part].reshape(self.shapes[name]) for name, part in self.blocks.items()}

    def block_index(self, block: str | Sequence[str] | None) -> NDArray[np.intp]:
        """Positions in theta of a block, of several blocks in the order given, or (None or "all") of everything."""
        return np.concatenate([np.arange(self.dim)[self.blocks[name]] for name in self.block_names(block)])

    def block_names(self, block: str | Sequence[str] | None) -> list[str]:
        """Names of a block, of several blocks in the order given, or (None or "all") of all, or ValueError."""
        every = block is None or (isinstance(block, str) and block == "all")
        names: list[Any] = list(self.blocks) if every else list(block) if isinstance(block, (tuple, list)) else [block]
        if not all(isinstance(name, str) and name in self.blocks for name in names) or not names or len(set(names)) < len(names):
            raise ValueError(f"blocks must be different names out of {list(self.blocks)}, or 'all': got {block!r}")
        return names

    def check_theta(self, theta: ArrayLike) -> Array:
        """The parameter vector as a float64 array, or ValueError."""
        array = np.ascontiguousarray(numbers("theta", theta))
        if array.shape != (self.dim,):
            raise ValueError(f"theta must have shape ({self.dim},) for {self!r}: got {array.shape}")
        return array

    def check_point(self, theta: ArrayLike, name: str = "theta") -> Array:
        """The same; a point where something is measured must moreover be finite."""
        array = self.check_theta(theta)
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite: got {np.count_nonzero(~np.isfinite(array))} non-finite numbers")
        return array


class Model(Parameters, ABC):
    """A network whose derivatives come from another package: what the functions of nets ask of it in place of an `MLP`."""

    @property
    @abstractmethod
    def theta(self) -> Array:
        """The weights that it was made with."""

    @abstractmethod
    def check_samples(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, NDArray[Any]]:
        """Inputs and targets, one row per sample, or ValueError."""

    @abstractmethod
    def evaluate(self, theta: Array, x: Array, y: NDArray[Any]) -> tuple[float, float, Array]:
        """Mean loss with weight decay, classification error (NaN for real targets), and gradient."""

    @abstractmethod
    def iter_per_sample_gradients(
        self, theta: ArrayLike, x: ArrayLike, y: ArrayLike, *, block: str | Sequence[str] | None = None, chunk: int | None = None
    ) -> Iterator[Array]:
        """As of `nets.MLP`."""

    @abstractmethod
    def products(self, theta: ArrayLike, x: ArrayLike, y: ArrayLike, block: str | Sequence[str] | None, matrix: str) -> Any:
        """Products of a matrix with vectors, of the interface of `nets.products.Products`."""

    @abstractmethod
    def sample_losses_at(self, theta: Array, x: Array, y: NDArray[Any], cols: Any, moves: Array, c: Array) -> Array:
        """Losses (n,) of the samples `cols`, without weight decay, at theta + sum_j c_j moves_j; c is (k,), or (k, n)."""

    @abstractmethod
    def sample_jets_at(self, theta: Array, x: Array, y: NDArray[Any], cols: Any, move: Array, d: float) -> Array:
        """Loss, slope, curvature (3, n) of the samples `cols` along a line, without weight decay, at theta + d move."""
