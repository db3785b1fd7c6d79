"""Variance against flatness of the principal components of a run: the inverse relation, its exponent, and its noise budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsolve.results import Quantity

from ._checks import integer, of_kind
from ._saved import Saved
from .flatness import Flatness, flatness
from .landscape import Landscape
from .mlp import check_network
from .power_laws import PowerLaw, over_blocks, power_law
from .run import Run
from .window import Window, analyse_window

if TYPE_CHECKING:
    from .data import Data

__all__ = ["InverseRelation", "inverse_relation"]

Array = NDArray[np.float64]

#: Directions measured by default: all up to the first of these, then evenly spaced in the logarithm, so many in all.
EVERY_UP_TO, DIRECTIONS = 40, 100


@dataclass(frozen=True, eq=False, repr=False)
class InverseRelation(Saved):
    r"""Variances, flatness and noise of principal components in one window; made by `inverse_relation`.

    .. math:: \sigma_i^2 \propto F_i^{-\psi}, \qquad T_i(0) = \frac{\eta}{2B} f\, p_i^T C p_i, \quad \sigma_i^2 \sim \eta T_i \tau_i

    Attributes
    ----------
    window : Window
    flatness : Flatness
    numbers : ndarray of int, shape (m,)
        Which components were measured, counted from 1 as in the paper.

    Examples
    --------
    >>> import nets
    >>> mlp, data = nets.MLP((2, 8, 2), activation="tanh"), nets.load_data("spiral")
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=20, record=nets.Record(weights="W2", weights_every=1))
    >>> relation = nets.inverse_relation(run, data, block="W2")
    >>> relation.numbers[:3], relation.variances.shape
    (array([1, 2, 3]), (16,))
    """

    window: Window
    flatness: Flatness
    numbers: NDArray[np.int64]
    KIND: ClassVar[str] = "inverse relation"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {"numbers": ("direction", "1", "number of the component, from 1")}
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {
        "variances": ("direction", "weight^2", "variances of the components"),
        "tau": ("direction", "iteration", "correlation times of the components"),
        "temperatures": ("direction", "loss", "active temperatures at the centre"),
        "budget": ("direction", "1", "variance over lr T tau"),
    }
    ALONG: ClassVar[dict[str, str]] = {"direction": "numbers"}
    ROWS: ClassVar[str] = "direction"
    PICTURE: ClassVar[str] = "nets.plotting.plot_relation"

    @property
    def variances(self) -> Array:
        """sigma_i^2 of the components measured, shape (m,)."""
        return np.asarray(self.window.variances[self.numbers - 1])

    @property
    def tau(self) -> Array:
        """Their correlation times in steps, shape (m,)."""
        return np.asarray(self.window.tau[self.numbers - 1])

    @property
    def temperatures(self) -> Array:
        """T_i(0), shape (m,); of SGD, with or without momentum."""
        w = self.window
        if w.optimizer != "sgd":
            raise ValueError(f"the active temperature is that of SGD: this run used {w.optimizer!r}")
        factor = 1.0 if w.sampling == "replace" else (w.n_samples - w.batch) / (w.n_samples - 1)
        return np.asarray(0.5 * w.lr / w.batch * factor * self.flatness.noise)

    @property
    def budget(self) -> Array:
        """sigma_i^2 / (lr T_i tau_i), shape (m,): one for a white-noise OU process with tau its relaxation time."""
        return np.asarray(self.variances / (self.window.lr * self.temperatures * self.tau))

    def _quantities(self) -> dict[str, Quantity]:
        """With the widths, and the components that they belong to."""
        width = Quantity(self.flatness.width, ("direction",), "length of the direction", "flatness of the components")
        return {**super()._quantities(), "width": width}

    def between(self, first: int, last: int) -> NDArray[np.bool_]:
        """Which of the components measured have numbers first .. last."""
        return np.asarray((self.numbers >= first) & (self.numbers <= last))

    def psi(self, first: int = 2, last: int | None = None) -> PowerLaw:
        """sigma_i^2 against F_i over the components first .. last; its exponent is **minus** the paper's psi.

        The interval is a jackknife over stretches of the window with the directions held fixed: it lacks what differs from run to
        run. For that use `over_seeds`.
        """
        chosen = self.between(first, int(self.numbers.max()) if last is None else last)
        if chosen.sum() < 3:
            raise ValueError(
                f"psi needs at least 3 components measured in first .. last = {first} .. {last}: got {int(chosen.sum())} of "
                f"{self.numbers.min()} .. {self.numbers.max()}"
            )
        width, index = self.flatness.width[chosen], self.numbers[chosen] - 1
        fits = []
        for stretch in range(len(self.window.block_mean)):
            fits.append(power_law(width, self.window.variances_without(stretch)[index]))
        return over_blocks(power_law(width, self.window.variances[index]), fits)

    @classmethod
    def _from_tree(cls, tree: dict[str, Any]) -> Self:
        parts = Window._from_tree(tree["window"]), Flatness._from_tree(tree["flatness"])
        numbers = np.asarray(tree["numbers"], dtype=np.int64)
        if numbers.ndim != 1 or (numbers < 1).any() or len(parts[1].left) <= numbers.max(initial=0) - 1:
            raise ValueError(f"numbers must be those of directions, from 1 on, got {numbers!r}")
        return cls(*parts, numbers)


def inverse_relation(
    run: Run,
    data: Data,
    *,
    block: str | Sequence[str] = "W2",
    window: tuple[int, int] | Window | None = None,
    numbers: ArrayLike | None = None,
    last: int = 1000,
    progress: bool = False,
) -> InverseRelation:
    """Principal components of a window, and the flatness of the training loss along them at the mean weights of the window.

    Parameters
    ----------
    run : Run
        With the weights of `block` recorded, best at every step; ``Record(sums=True)`` for the mean of the other blocks.
    data : Data
        What it was trained on.
    block : str or sequence of str
    window : (int, int) or Window, optional
        Steps, or a window already analysed; default: all records.
    numbers : sequence of int, optional
        Components, counted from 1. Default: the first 40, then evenly spaced in the logarithm up to `last`, about 100 in all.
    last : int
        Largest number by default; never more than there are.
    progress : bool

    Returns
    -------
    InverseRelation

    Raises
    ------
    ValueError
        Data of another run, a window of another block, or one before the end of a run that recorded this block only (the other
        blocks are then not known); numbers out of range, or what `analyse_window` and `flatness` refuse.

    Notes
    -----
    Source: Y. Feng, Y. Tu, "The inverse variance-flatness relation in stochastic gradient descent is critical for finding flat
    minima", PNAS 118, e2015617118 (2021). Never quote psi without the range of the fit: early windows have the opposite sign for
    the leading components.
    """
    of_kind(run, Run, "run", "of nets.train")
    network: Any = run.mlp
    check_network(network)
    run.check_data(data)
    parts = window if isinstance(window, Window) else analyse_window(run, block, window=window)
    _check_window(run, block, parts)
    chosen = _numbers(numbers, min(last, len(parts.variances)), len(parts.variances))
    land = Landscape(network, parts.center, data.x_train, data.y_train, block=block)
    return InverseRelation(parts, flatness(land, parts.directions[:, chosen - 1], progress=progress), chosen)


def _check_window(run: Run, block: str | Sequence[str], window: Window) -> None:
    """Whether displacements from its centre make sense for the loss as a function of the block."""
    if not np.array_equal(window.index, run.mlp.block_index(block)):
        names = tuple(window.block.split("+"))
        own = names if names[1:] else names[0]
        raise ValueError(f"the window is one of block {own!r}, not of {block!r}: pass block={own!r}")
    if not window.centred:
        raise ValueError(
            f"the window ends at step {window.last}, the run at {run.step}, and only {window.block!r} was recorded: the other "
            "blocks are not known at that time, and those at the end belong to another network. Record all blocks, or let the "
            "window be the end of a run (train in pieces, resume=...)"
        )


def _numbers(numbers: ArrayLike | None, last: int, most: int) -> NDArray[np.int64]:
    if numbers is None:
        integer("last", last, 1)
        rest = np.geomspace(EVERY_UP_TO, last, DIRECTIONS - EVERY_UP_TO) if last > EVERY_UP_TO else np.zeros(0)
        return np.union1d(np.arange(1, min(EVERY_UP_TO, last) + 1), rest.round().astype(np.int64))
    chosen = np.asarray(numbers)
    if (
        chosen.ndim != 1
        or not np.issubdtype(chosen.dtype, np.integer)
        or not len(chosen)
        or chosen.min() < 1
        or chosen.max() > most
    ):
        raise ValueError(f"numbers must be integers in 1 .. {most}, counted from 1: got {numbers!r}")
    return chosen.astype(np.int64)
