"""Minima of one common loss: SGD, full-batch gradient descent and L-BFGS, stopped where the loss of all samples is as asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import boolean, integer, of_kind, positive
from ._saved import Saved
from ._settings import Settings, initial_state, settings
from ._threads import single_threaded_blas
from .mlp import MLP, Ensemble

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["METHODS", "Minimum", "check_search", "find_minimum"]

Array = NDArray[np.float64]

#: Passes over the samples.
MAX_EVALUATIONS = 100_000.0
METHODS = ("sgd", "gd", "l-bfgs")
#: Steps of gradient descent between two looks at the loss.
BLOCK = 32
#: After such a block without a rise the learning rate grows by this factor; a block with a rise is repeated with half of it.
GROWTH, SHRINK = 1.1, 0.5
#: So many halvings without a block that does not raise the loss: what is left of the steps is rounding.
REFUSALS = 50
#: L-BFGS begins anew where its line search failed, if the loss fell by this share since the last beginning.
PROGRESS = 1e-3
#: Pairs of steps and changes of the gradient that L-BFGS keeps.
MEMORY = 20


@dataclass(frozen=True, eq=False)
class Minimum(Saved):
    """Weights at which the loss of all samples has a given value; made by `find_minimum`.

    Attributes
    ----------
    theta : ndarray, shape (P,)
    loss : float
        Weight decay included.
    gradient_norm : float
        Length of the gradient of the loss there.
    method : str
    steps : int
        Of the optimiser, the shortened last one included.
    evaluations : float
        Gradients of single samples that were taken, over their number N: passes over the samples.
    history : ndarray, shape (k, 2)
        Evaluations so far and loss, from the start on, wherever the loss of all samples was looked at.

    Examples
    --------
    >>> found = Minimum(np.zeros(2), 0.1, 0.0, "gd", 2, 2.0, np.array([[0.0, 0.4], [2.0, 0.1]]))
    >>> found
    Minimum(loss 0.1, |gradient| 0, gd, 2 steps, 2 evaluations)
    """

    theta: Array
    loss: float
    gradient_norm: float
    method: str
    steps: int
    evaluations: float
    history: Array
    KIND: ClassVar[str] = "minimum"
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {
        "loss": ("", "loss", "loss of all samples"),
        "gradient_norm": ("", "loss/weight", "length of its gradient"),
        "theta": ("parameter", "weight", "parameters"),
        "history": ("look column", "1, loss", "passes over the samples, loss of all samples"),
    }
    ROWS: ClassVar[str] = "look"

    def __repr__(self) -> str:
        return (
            f"Minimum(loss {self.loss:.6g}, |gradient| {self.gradient_norm:.3g}, {self.method}, {self.steps} steps, "
            f"{self.evaluations:g} evaluations)"
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Loss against passes over the samples; `options` go to ``Axes.semilogy``."""
        from ._pictures import axes

        ax = axes(ax)
        ax.semilogy(*self.history.T, **{"label": self.method, **options})
        ax.set(xlabel="passes over the samples", ylabel="loss of all samples")
        return ax


def find_minimum(
    mlp: MLP,
    theta: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    loss: float,
    method: str = "sgd",
    lr: float | None = None,
    batch: int | None = None,
    momentum: float | None = None,
    sampling: str | None = None,
    seed: int | None = 0,
    max_evaluations: float = MAX_EVALUATIONS,
    strict: bool = True,
    progress: bool = False,
) -> Minimum:
    r"""Go down from `theta` until the loss of all samples **is** `loss`: to compare minima, all must have the same.

    The last step, from :math:`\theta_k` with a loss above to :math:`\theta_{k+1}` with one not above, is shortened by root finding:

    .. math:: \theta = \theta_k + s\,(\theta_{k+1} - \theta_k), \quad 0 < s \le 1, \qquad L(\theta) = \text{loss}

    to a relative 1e-9.

    Parameters
    ----------
    mlp : MLP
    theta : array, shape (P,)
        The start.
    x, y : array
        The samples.
    loss : float, > 0
        Of all samples, weight decay included; below that of the start.
    method : {"sgd", "gd", "l-bfgs"}
        "sgd": the steps of `nets.train`; the loss is looked at after every epoch, and after every step of the epoch in which it
        got there. "gd": gradient descent with all samples in every step. "l-bfgs": SciPy's L-BFGS-B without bounds.
    lr : float
        Learning rate, "sgd" and "gd". "gd" without: one that grows until a step raises the loss, which is taken back, and is halved
        then; so no step raises the loss.
    batch : int
        "sgd".
    momentum : float
        "sgd", "gd" with a learning rate of its own; default 0.
    sampling : {"shuffle", "replace"}
        "sgd", as in `nets.train`.
    seed : int or None
        Of the batches.
    max_evaluations : float
        Give up after that many passes over the samples.
    strict : bool
        False: where the loss is not reached, return what was.
    progress : bool
        Show a bar of these passes.

    Returns
    -------
    Minimum

    Raises
    ------
    ValueError, TypeError
        Bad arguments, arguments that the method has no use for, or a start whose loss is not above `loss`. Before any work.
    fpsolve.FpsolveError
        The loss is not reached, and `strict`: it says which one was. Weights became non-finite.

    Examples
    --------
    Linear regression y = 2x has the loss 5 w^2 / 4 of the distance w to it; that of one step of length 1/10 is known.

    >>> import nets
    >>> mlp, x = nets.MLP((1, 1), loss="mse"), np.array([[1.0], [2.0]])
    >>> found = nets.find_minimum(mlp, [0.0, 0.0], x, 2.0 * x, loss=1e-8, method="l-bfgs")
    >>> found.theta.round(3), found.loss
    (array([2., 0.]), 1e-08)
    """
    boolean("strict", strict)
    boolean("progress", progress)
    x, t, start, how = check_search(
        mlp, theta, x, y, loss=loss, method=method, lr=lr, batch=batch, momentum=momentum, sampling=sampling, seed=seed,
        max_evaluations=max_evaluations,
    )  # fmt: skip
    with single_threaded_blas():
        problem = _Problem(mlp, x, t)
        first = problem.loss(start)
        if not first > loss:
            raise ValueError(
                f"the loss of the start, {first:.6g}, must be above the loss to stop at: got loss={loss!r}; nothing goes uphill, "
                "so ask for a smaller one, or begin elsewhere"
            )
        with _bar(progress, max_evaluations) as show:
            log = _Log(loss, max_evaluations, len(x), method, show)
            log.look(start, first)
            try:
                walk = _lbfgs(problem, start, log) if how is None else _descend(problem, start, log, how, adaptive=lr is None)
            except _OutOfReach as end:
                return problem.give_up(log, str(end), strict)
            return problem.stop(*walk, log)


def check_search(
    mlp: MLP,
    theta: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    loss: float,
    method: str,
    lr: float | None = None,
    batch: int | None = None,
    momentum: float | None = None,
    sampling: str | None = None,
    seed: int | None = 0,
    max_evaluations: float = MAX_EVALUATIONS,
) -> tuple[Array, Array, Array, Settings | None]:
    """Inputs, targets, start and settings of the step loop (None for L-BFGS, which has none), all arguments checked."""
    of_kind(mlp, MLP, "mlp", "nets.MLP((64, 20, 10))")
    x, t = mlp.check_samples(x, y)
    start = mlp.check_point(theta).copy()
    positive("loss", loss)
    positive("max_evaluations", max_evaluations)
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}: got {method!r}")
    given = {"lr": lr, "batch": batch, "momentum": momentum, "sampling": sampling}
    useless = {"sgd": (), "gd": ("batch", "sampling"), "l-bfgs": tuple(given)}[method]
    if wrong := [name for name in useless if given[name] is not None]:
        raise ValueError(f"method={method!r} has no use for {', '.join(wrong)}: leave it out")
    if method == "l-bfgs":
        return x, t, start, None
    if lr is not None:
        positive("lr", lr)
    if method == "gd":
        if lr is None and momentum is not None:
            raise ValueError(f"momentum={momentum!r} needs a learning rate: give lr; without, no step may raise the loss")
        given.update(batch=len(x), lr=1.0 if lr is None else lr)
    elif lr is None or batch is None:
        raise ValueError("method='sgd' needs lr (learning rate) and batch (batch size)")
    else:
        integer("batch, up to the number of samples,", batch, 1, len(x))
    ensemble = Ensemble(mlp, x, t)
    return x, t, start, settings(None, ensemble, **given, optimizer=None, betas=None, eps=None, precision=None, seed=seed)  # type: ignore[arg-type]


class _Log:
    """How far the search has come, and when it must end."""

    def __init__(self, level: float, limit: float, size: int, method: str, show: Callable[[float, float], None]) -> None:
        self.level, self.limit, self.size, self.method, self.show = level, limit, size, method, show
        self.samples, self.steps = 0, 0
        self.history: list[tuple[float, float]] = []

    @property
    def evaluations(self) -> float:
        """Passes over the samples so far."""
        return self.samples / self.size

    def look(self, theta: Array, loss: float) -> bool:
        """Write down the loss; whether the search may end here."""
        self.history.append((self.evaluations, loss))
        self.theta = theta.copy()
        self.show(self.evaluations, loss)
        if loss <= self.level:
            return True
        self.check(True)
        return False

    def check(self, well: bool, why: str = ", whose steps no longer lower it") -> None:
        """End the search where it cannot go on."""
        if not well:
            raise _OutOfReach(why)
        if self.evaluations >= self.limit:
            raise _OutOfReach(f" in max_evaluations={self.limit:g} passes over the samples")


class _OutOfReach(Exception):
    """The loss is not reached, and why."""


class _Problem:
    """Loss and gradient of all samples, compiled."""

    def __init__(self, mlp: MLP, x: Array, t: Array) -> None:
        self.mlp, self.x, self.t, self.net = mlp, x, t, mlp.kernel_args()
        work = len(x) * sum(mlp.widths[1:])
        self.act, self.delta = np.empty(work), np.empty(work)

    def loss(self, theta: Array) -> float:
        """Weight decay included."""
        from ._kernels import mean_loss

        return float(mean_loss(self.net, theta, self.x, self.t, self.act)) + self._decay(theta)

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """The same, and its gradient."""
        from ._kernels import minibatch_gradient

        gradient = np.empty_like(theta)
        value = float(minibatch_gradient(self.net, theta, self.x, self.t, self.act, self.delta, gradient))
        gradient += self.mlp.weight_decay * theta
        return value + self._decay(theta), gradient

    def _decay(self, theta: Array) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # of weights that blow up, which the loss tells
            return 0.5 * self.mlp.weight_decay * float(theta @ theta) if self.mlp.weight_decay else 0.0

    def give_up(self, log: _Log, why: str, strict: bool) -> Minimum:
        """What was reached, if that will do."""
        from fpsolve import FpsolveError

        if strict:
            losses = [loss for _, loss in log.history]
            raise FpsolveError(
                f"the loss {log.level:g} was not reached by method={log.method!r}{why}: it is {losses[-1]:.6g}, the lowest was "
                f"{min(losses):.6g}; ask for a larger loss, or change lr, method, max_evaluations or the network"
            )
        return self.at(log.theta, log)

    def at(self, theta: Array, log: _Log) -> Minimum:
        """The result there."""
        loss, gradient = self.value_and_gradient(theta)
        log.history[-1] = (log.evaluations, loss)
        norm = float(np.linalg.norm(gradient))
        return Minimum(theta, loss, norm, log.method, log.steps, log.evaluations, np.array(log.history))

    def stop(self, before: Array, after: Array, log: _Log) -> Minimum:
        """Where on the line between them the loss is that asked for."""
        from scipy.optimize import brentq

        step = after - before

        def excess(s: float) -> float:
            return self.loss(before + s * step) / log.level - 1.0

        end = excess(1.0)
        s = 1.0 if end >= 0.0 else brentq(excess, 0.0, 1.0, xtol=1e-15, rtol=1e-14)
        return self.at(before + s * step, log)


# ---- the ways down: each returns the last two points, the loss above the level at the first and not above it at the second -------


def _descend(problem: _Problem, start: Array, log: _Log, how: Settings, *, adaptive: bool) -> tuple[Array, Array]:
    """Steps of SGD, or of gradient descent, which is SGD with one batch."""
    from fpsolve import FpsolveError

    size = int(how.chain.batch or 1)
    walk = _Walk(problem, start, how)
    block = BLOCK if size == log.size else log.size // size
    lr = _first_rate(problem, start, log) if adaptive else float(how.chain.lr or 0.0)
    refused = 0
    while True:
        before, samples = walk.copy(), log.samples
        losses = walk.advance(block, lr)
        after = problem.loss(walk.theta)
        log.samples += block * size
        if adaptive and not (np.diff(losses, append=after) <= 0.0).all():  # NaN is a rise, too
            walk.restore(before)
            lr, refused = lr * SHRINK, refused + 1
            log.check(refused < REFUSALS)
            continue
        if not math.isfinite(after):
            raise FpsolveError(f"method={log.method!r} diverged after {log.steps} steps: lr={lr:g} is too large, try {lr / 4:g}")
        if log.look(walk.theta, after):
            log.samples = samples  # the same steps again, one by one
            return _last_step(problem, walk, before, block, lr, log)
        log.steps += block
        if adaptive:
            log.check(after < losses[0])
            lr, refused = lr * GROWTH, 0


def _first_rate(problem: _Problem, start: Array, log: _Log) -> float:
    """The first of 1, 1/2, 1/4, ... with which a step of gradient descent does not raise the loss."""
    value, gradient = problem.value_and_gradient(start)
    log.samples += log.size
    lr = 1.0
    while not problem.loss(start - lr * gradient) <= value:
        lr *= SHRINK
    return lr


def _last_step(
    problem: _Problem, walk: _Walk, before: dict[str, NDArray[Any]], block: int, lr: float, log: _Log
) -> tuple[Array, Array]:
    walk.restore(before)
    for _ in range(block):
        last = walk.theta.copy()
        log.samples += int(walk.how.chain.batch or 1)
        log.steps += 1
        walk.advance(1, lr)
        if problem.loss(walk.theta) <= log.level:
            break
    return last, walk.theta


class _Walk:
    """The compiled step loop of `nets.train`, without any record."""

    def __init__(self, problem: _Problem, start: Array, how: Settings) -> None:
        self.problem, self.how = problem, how
        self.state = initial_state(problem.mlp, None, how, start, len(problem.x))
        self.constants = how.constants(problem.mlp.weight_decay)

    @property
    def theta(self) -> Array:
        """Where it is."""
        return self.state["theta"]

    def copy(self) -> dict[str, NDArray[Any]]:
        """With which `restore` comes back here, batches to come included."""
        return {name: array.copy() for name, array in self.state.items()}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go back."""
        self.state = {name: array.copy() for name, array in state.items()}

    def advance(self, steps: int, lr: float) -> Array:
        """So many steps; returns the loss of each batch before its step, not finite from the first on that was not."""
        from ._kernels import SGD, Out, Plan, State, train_steps

        chain, nothing = self.how.chain, np.empty((0, 0))
        batch = np.full(steps, chain.batch, dtype=np.int64)
        plan = Plan(np.full(steps, lr), batch, SGD, self.constants, self.how.sampling == "replace", 0, 0, 0, False)
        scalars = np.full((steps, 4), math.nan)
        out = Out(np.empty(0), np.empty(0), nothing, scalars)
        train_steps(self.problem.net, State(**self.state), self.problem.x, self.problem.t, plan, out)
        return scalars[:, 0]


def _lbfgs(problem: _Problem, start: Array, log: _Log) -> tuple[Array, Array]:
    """SciPy's L-BFGS-B; where its line search gives up it begins anew from there, as long as that brings the loss down."""
    from scipy.optimize import OptimizeResult, minimize

    points = [start, start]

    def value_and_gradient(theta: Array) -> tuple[float, Array]:
        log.samples += log.size
        return problem.value_and_gradient(theta)

    def callback(intermediate_result: OptimizeResult) -> None:
        points[:] = points[1], np.array(intermediate_result.x)
        log.steps += 1
        if log.look(points[1], float(intermediate_result.fun)):
            raise StopIteration

    options = {"maxcor": MEMORY, "ftol": 0.0, "gtol": 0.0, "maxls": 50, "maxiter": 2**31 - 1, "maxfun": 2**31 - 1}
    while True:
        known = log.history[-1][1]
        result = minimize(value_and_gradient, points[1], jac=True, method="L-BFGS-B", callback=callback, options=options)
        if log.history[-1][1] <= log.level:
            return points[0], points[1]
        log.check(log.history[-1][1] < (1.0 - PROGRESS) * known, f", which ended: {str(result.message).lower()}")


@contextmanager
def _bar(progress: bool, limit: float) -> Iterator[Callable[[float, float], None]]:
    """Yield show(evaluations, loss)."""
    if not progress:
        yield lambda done, loss: None
        return
    from tqdm import tqdm

    with tqdm(total=limit, unit="pass", unit_scale=True, disable=None, leave=False) as bar:  # None: no bar in files and pipes

        def show(done: float, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            bar.update(done - bar.n)

        yield show
