"""How a number gets its discretisation error: the same question on coarser grids (Richardson's method)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from . import _markov
from ._checks import is_finite, is_number
from ._discretize import Stencil
from ._elimination import ELIMINATED, solver_errors
from ._notes import doubtful, unresolved
from .errors import FpsolveError
from .grid import Grid
from .results import Assumption, Estimate

__all__ = ["Solver", "richardson", "step_error"]

Array = NDArray[np.float64]

#: How far the order measured on three grids may lie from the expected one to count as confirmed.
_ORDER_BAND = 0.3
#: Cells up to which a scheme of high order is asked as well where the cells do not resolve the noise.
_ASKED = 2**18
#: The assumption that fails where the cells are too coarse for the noise, or change it.
_RESOLVED = "the cells resolve the noise"


def _relative(numbers: Sequence[Estimate]) -> tuple[list[float], bool]:
    """Values, or values over the first one where all carry a logarithm (then nothing overflows), and which."""
    logs = [e.log_value for e in numbers]
    if all(v is not None and math.isfinite(v) for v in logs):
        return [math.exp(min(v - logs[0], 700.0)) for v in logs], True  # type: ignore[operator]
    return [e.value for e in numbers], False


def step_error(
    first: float, second: float | None, ratio: float, order: float = 2.0, *, resolved: bool = True
) -> tuple[float, float, bool]:
    """Error of the finest of two or three values, the measured order, and whether that confirms the expected one.

    Parameters
    ----------
    first, second : floats
        v1 - v0 and v2 - v1 of values v0, v1, v2, finest first; `second` is None with two grids.
    ratio : float
        Of neighbouring cell widths, > 1.
    order : float
        Expected order of convergence p.
    resolved : bool
        Whether the cells resolve the problem; an order measured with cells that do not is chance, and never confirmed.

    Returns
    -------
    error : float
        Two grids: the whole change |first|, divided by ratio - 1 where that is below one: a bound for an order of one and more
        (where no more than p = 1 is expected, by ratio^(p - 0.3) - 1).
        Three grids whose measured order q = log(second/first)/log(ratio) is within 0.3 of p: |first|/(ratio^(p - 0.3) - 1), what is
        left of a geometric series of changes at the lower end of the accepted orders: q itself may agree with p by chance. With q
        below one the same with q, at least 1/2, which is more than the whole change.
        Else the whole change. Always at least what the two coarser of three grids say, |second|/(ratio^p (ratio^p - 1)): the two
        finer ones may agree by chance.
    measured : float
        q, NaN where it is not known.
    confirmed : bool

    Examples
    --------
    >>> step_error(0.03, None, 2.0)[0], round(step_error(0.03, 0.12, 2.0)[0], 4), step_error(0.03, 0.06, 2.0)[0]
    (0.03, 0.0133, 0.03)
    """
    whole = abs(first) / min(ratio ** min(1.0, order - _ORDER_BAND) - 1.0, 1.0)
    if second is None:
        return whole, math.nan, False
    measured = math.log(second / first) / math.log(ratio) if first * second > 0.0 else math.nan
    confirmed = resolved and abs(measured - order) <= _ORDER_BAND
    if confirmed:
        whole = abs(first) / (ratio ** (order - _ORDER_BAND) - 1.0)
    elif measured < 1.0:
        whole = abs(first) / (ratio ** max(measured, 0.5) - 1.0)
    return max(whole, abs(second) / (ratio**order * (ratio**order - 1.0))), measured, confirmed


def richardson(
    numbers: Sequence[Estimate],
    ratio: float,
    *,
    order: float = 2.0,
    coarse: Sequence[str] = (),
    resolved: bool = True,
    other: Estimate | None = None,
) -> Estimate:
    r"""One number from two or three grids, finest first, each `ratio` times coarser than the one before.

    From two grids the value is the finest one and its error the whole change |v1 - v0|: no order is known. With a third grid the
    order is measured, :math:`\log((v_2 - v_1)/(v_1 - v_0)) / \log(ratio)`. Within 0.3 of the expected one it is confirmed, the
    value is extrapolated, :math:`v_0 - (v_1 - v_0)/(ratio^{order} - 1)`, and its error is the larger of the difference to the same
    from the two coarser grids, and of the change of the correction were the order 0.3 less. Else the value stays that of the
    finest grid, with the error of `step_error`.

    Parameters
    ----------
    numbers : two or three Estimates
        Where all carry `log_value`, everything is done with ratios.
    ratio : float
        Of the cell widths; where it is not above 1 the grids are the same, and the error is inf.
    order : float
        Expected order of convergence.
    coarse : sequence of str
        Why the cells of the finest grid do not resolve the problem, if so. Then no order is confirmed, and an assumption fails.
    resolved : bool
        Whether the cells of the coarser grids resolve it. If not, an order that they show is chance, and does not count either.
    other : Estimate, optional
        The same from another scheme on the finest grid, where its cells or the next do not resolve the problem: there the change
        between grids may be small by chance, or because both are equally wrong. The distance is added to the error.

    Returns
    -------
    Estimate
        The first one with `discretization_error`; with three numbers, an assumption says what was measured, and where it held the
        value is the extrapolated one. The method says from how many grids.

    Examples
    --------
    >>> numbers = [Estimate(1 + 0.01 * 4**k) for k in range(3)]
    >>> richardson(numbers[:2], 2.0)
    Estimate(1.010 +- 0.030, two grids)
    >>> result = richardson(numbers, 2.0)
    >>> round(result.value, 12), result.assumptions[0].status
    (1.0, 'held')
    """
    fine = _from_grids(numbers[0], len(numbers))
    if coarse and not any(a.name == _RESOLVED for a in fine.assumptions):
        fine = dataclasses.replace(fine, assumptions=(*fine.assumptions, Assumption(_RESOLVED, "failed", "; ".join(coarse))))
    v, scaled = _relative(numbers)
    size = abs(fine.value) if scaled else 1.0
    if not all(map(math.isfinite, v)) or not math.isfinite(size) or not ratio > 1.0:
        # beyond doubles only the logarithm is left
        return dataclasses.replace(fine, discretization_error=math.inf)
    first, second = v[1] - v[0], v[2] - v[1] if len(v) > 2 else None
    error, measured, confirmed = step_error(first, second, ratio, order, resolved=resolved and not coarse)
    if other is not None:
        apart = _relative([numbers[0], other])[0]
        error += abs(apart[1] - apart[0])
    if second is None:
        return dataclasses.replace(fine, discretization_error=size * error)
    detail = f"measured {measured:.2f}" if math.isfinite(measured) else "the steps change sign"
    if not resolved and not coarse:
        detail += ", on coarser cells that do not resolve the noise"
    checked = Assumption(f"order {order:g} on three grids", "held" if confirmed else "failed", detail)
    kept = (*fine.assumptions, checked)
    if not confirmed:
        return dataclasses.replace(fine, discretization_error=size * error, assumptions=kept)
    gain = ratio**order - 1.0
    best, other = v[0] - first / gain, v[1] - second / gain
    # both extrapolations may agree by chance, on surfaces that cut the cells of each grid differently above all
    error = size * max(abs(best - other), abs(first) * (1.0 / (ratio ** (order - _ORDER_BAND) - 1.0) - 1.0 / gain))
    kept = (*fine.assumptions, dataclasses.replace(checked, detail=f"{detail}, the value is extrapolated"))
    if not scaled:
        return dataclasses.replace(fine, value=best, discretization_error=error, assumptions=kept)
    log_value = fine.log_value + math.log(best) if best > 0.0 and fine.log_value is not None else fine.log_value
    return dataclasses.replace(fine, value=fine.value * best, log_value=log_value, discretization_error=error, assumptions=kept)


def _from_grids(number: Estimate, count: int) -> Estimate:
    """The number whose method ends in how many grids it is from."""
    text = {2: "two grids", 3: "three grids"}[count]
    method = number.method.removesuffix("two grids").removesuffix(", ")
    return dataclasses.replace(number, method=f"{method}, {text}" if method else text)


class Solver:
    """What every question needs of the Fokker-Planck solver, and refinement. `FokkerPlanck` inherits from this."""

    process: Any
    grid: Grid
    scheme: str
    max_offset: int
    generator: sp.csr_matrix
    kill: Array
    exponent: Array
    warnings: tuple[str, ...]
    _stencil: Stencil
    _posed: Any
    #: Order of the scheme in the cell width.
    order: int = 2

    if TYPE_CHECKING:

        @property
        def method(self) -> str: ...

        def stationary(self) -> Any: ...

        def evolve(self, rho0: Any, t: Any, rtol: float = 1e-6, method: str | None = None) -> Any: ...

        def _phi_at(self, points: Array) -> Array: ...

        def _values(self, mass: Array) -> Array: ...

    def _on(self, grid: Grid, process: Any = None) -> Any:
        """The same solver on another grid, or for another process."""
        make: Any = type(self)
        return make(self._posed if process is None else process, grid, self.scheme, max_offset=self.max_offset)

    @property
    def _backward_matrix(self) -> sp.csr_matrix:
        """What acts on observables; here the transpose of what acts on masses."""
        return self.generator

    @property
    def _volumes(self) -> Array:
        """Masses over point values, of grid.shape."""
        return self.grid.cell_volumes

    @functools.cached_property
    def _half(self) -> Any:
        """The solver on half as many cells per axis."""
        return self._on(self.grid.coarsen())

    @functools.cached_property
    def _of_high_order(self) -> Any:
        """The solver of high order on the same cells."""
        make: Any = type(self)
        return make(self._posed, self.grid, "high-order")

    def refine(self) -> Self:
        """The same solver on twice as many cells per axis.

        Returns
        -------
        FokkerPlanck

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process
        >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
        >>> FokkerPlanck(process, Grid((-6, 6, 40))).refine().grid.shape
        (80,)
        """
        finer: Self = self._on(self.grid._resized(tuple(2 * n for n in self.grid.shape)))
        return finer

    def estimate(
        self, question: Callable[[Any], Any], *, confirm: bool = False, order: float | None = None, unit: str | None = None
    ) -> Any:
        """The answer to a question with its discretisation error from a second grid, or from three grids with the order checked.

        Parameters
        ----------
        question : callable
            Takes a FokkerPlanck and returns a number or an Estimate, or an array or tuple of these; it is asked on this grid and on
            the grid with half as many cells per axis (and a quarter with `confirm`). Its shape must not depend on the grid.
        confirm : bool
            Measure the order on three grids. Where it is within 0.3 of `order`, and the cells of all three grids resolve the noise
            where the mass of the stationary density is, the value is extrapolated, else it is that of this grid; an assumption of
            the Estimate says which, and what was measured. Without, the value is that of this grid, and its error the whole change
            from half as many cells: three times the error where the order is two. Where the cells of one of these two grids do not
            resolve the noise the distance to the answer of the scheme of high order on this grid is added, up to 512 x 512 cells:
            there the change alone may understate the error many times.
        order : float, optional
            Expected order of convergence in the cell width; by default the scheme's: 2 if monotone, 1 in phase space.
        unit : str, optional
            Of plain numbers; Estimates bring theirs.

        Returns
        -------
        Estimate, or a (nested) tuple of Estimates of the shape of the answer

        Raises
        ------
        TypeError
            If `question` is not callable or returns something else than numbers or Estimates.
        ValueError
            If the shape of the answer differs between the grids, a grid is too coarse, or what the question raises on one.

        Notes
        -----
        L. F. Richardson, Phil. Trans. R. Soc. A 210, 307 (1911).

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process
        >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
        >>> fp = FokkerPlanck(process, Grid((-8, 8, 160)))
        >>> start = ("gaussian", [2.0], [[0.25]])
        >>> mean = fp.estimate(lambda f: f.evolve(start, 1.0, rtol=1e-9).mean(), confirm=True)
        >>> mean[0].assumptions[0].status, bool(abs(mean[0].value - 2 * np.exp(-1)) < 1e-5)
        ('held', True)
        """
        if not callable(question):
            raise TypeError(f"question must be a function of a FokkerPlanck, got {type(question).__name__}: {question!r}")
        if order is not None and not (is_number(order) and is_finite(order)):
            raise ValueError(f"order must be a finite number > 0, got {order!r}")
        expected = float(self.order if order is None else order)
        if not expected > 0.0:
            raise ValueError(f"order must be > 0, got {order!r}")
        solvers = [self, self._half]
        if confirm:
            if min(self.grid.shape) < 8:
                raise ValueError(f"three grids need at least 8 cells per axis, got {self.grid.shape}")
            solvers.append(self._half._half)
        ratio, coarse, grids = _ratio(self.grid, solvers[1].grid), self._coarse_note, len(solvers)
        resolved = not any(solver._coarse_note for solver in solvers)
        doubted = bool(coarse or self._half._coarse_note)  # the change between these two is the error stated
        with solver_errors() as seen:
            answers = [self._estimates(question(solver), unit or "") for solver in solvers]
            if doubted and self.scheme == "monotone" and self.grid.size <= _ASKED:
                with contextlib.suppress(ValueError, FpsolveError):  # a scheme of high order refuses some problems
                    answers.append(self._estimates(question(self._of_high_order), unit or ""))

        def combine(numbers: Sequence[Estimate]) -> Estimate:
            other = numbers[grids] if len(numbers) > grids else None
            return richardson(numbers[:grids], ratio, order=expected, coarse=coarse, resolved=resolved, other=other)

        return _with_solver(_together(answers, combine), max(*seen, self._stationary_error))

    #: Bound of the error of the stationary masses, where they come from an iteration.
    _stationary_error: float = 0.0

    @functools.cached_property
    def _stationary_mass(self) -> Array:
        """Stationary masses of the cells; many questions start from them.

        Of a large chain in space that is in detailed balance on every edge they are known, exp(-Phi) times the volume.
        """
        if self.grid.dim == 3 and self._stencil.use_phi and self.grid.size > ELIMINATED and not np.any(self.kill > 0.0):
            if connected_components(self.generator, connection="strong")[0] == 1:
                mass = np.exp(self._stencil.phi.min() - self._stencil.phi) * self.grid.cell_volumes.ravel()
                return np.asarray(mass / mass.sum())
        with solver_errors() as seen:
            mass = _markov.stationary(self.generator, shape=self.grid.shape)
        self._stationary_error = max(seen)
        return mass

    @functools.cached_property
    def _coarse_note(self) -> list[str]:
        """Why the cells do not resolve the noise where the stationary mass is; nothing where there is no such mass."""
        if np.any(self.kill > 0.0) or not doubtful(self).any():
            return []
        try:
            return unresolved(self, self._stationary_mass)
        except ValueError:
            return []

    @functools.cached_property
    def _clock(self) -> dict[str, Any]:
        """Learning rate and batch size of the noise, which join time and iterations; keywords of an Estimate."""
        noise = getattr(self.process, "noise", None)
        return {name: getattr(noise, name, None) for name in ("lr", "batch")}

    def _estimates(self, answer: Any, unit: str) -> Any:
        """Estimates of the numbers of an answer, in tuples of its shape."""
        if isinstance(answer, Estimate):
            return answer
        if isinstance(answer, (tuple, list)) or (isinstance(answer, np.ndarray) and answer.ndim > 0):
            return tuple(self._estimates(entry, unit) for entry in answer)
        if isinstance(answer, bool) or not isinstance(answer, (int, float, np.integer, np.floating)):
            raise TypeError("the question must return a number or an Estimate, or an array or tuple of these, "
                            f"got {type(answer).__name__}: {answer!r}")  # fmt: skip
        return Estimate(float(answer), unit=unit, method=self.method, **self._clock)

    def _two_grids(
        self, question: Callable[[Any], Any], unit: str, label: str, *, log: bool = False, coarse: Sequence[str] = (),
        solver: float = 0.0, amplified: float = 1.0,
    ) -> Any:  # fmt: skip
        """Estimate of a number (or of its logarithm), or a tuple of such, with the error from half as many cells; inf where
        those cannot tell. `coarse`: why the cells do not resolve the noise, a failed assumption. Errors of solutions by
        iteration, of the question and (`solver`) from before it, are added, times `amplified` where solutions are subtracted."""

        def wrap(number: Any) -> Any:
            if isinstance(number, tuple):
                return tuple(wrap(entry) for entry in number)
            value = number if not log else math.exp(number) if number < 709.7 else math.inf
            return Estimate(value, log_value=number if log else None, unit=unit, method=f"{self.method}, {label}", **self._clock)

        with solver_errors() as seen:
            fine = wrap(question(self))
        try:
            second, ratio = wrap(question(self._half)), _ratio(self.grid, self._half.grid)
        except (ValueError, FpsolveError):
            second, ratio = fine, 1.0
        out = _together([fine, second], lambda numbers: richardson(numbers, ratio, order=self.order, coarse=coarse))
        return _with_solver(out, amplified * max(*seen, solver, self._stationary_error))


def _together(answers: Sequence[Any], combine: Callable[[list[Estimate]], Estimate]) -> Any:
    """The Estimates at the same place of every answer combined into one; answers are Estimates or nested tuples of one shape."""
    if all(isinstance(answer, Estimate) for answer in answers):
        return combine(list(answers))
    sizes = [len(answer) if isinstance(answer, tuple) else 0 for answer in answers]
    if len(set(sizes)) > 1 or any(isinstance(answer, Estimate) for answer in answers):
        raise ValueError(f"the answer must have the same shape on every grid, got lengths {sizes}; ask for numbers, not for "
                         "values on the cells")  # fmt: skip
    return tuple(_together(entries, combine) for entries in zip(*answers, strict=True))


def _with_solver(answer: Any, relative: float) -> Any:
    """The Estimates with the errors of solutions by iteration, of which up to three enter a number, added to those of the cells."""
    if relative == 0.0:
        return answer
    if isinstance(answer, tuple):
        return tuple(_with_solver(entry, relative) for entry in answer)
    return dataclasses.replace(answer, discretization_error=answer.discretization_error + 3.0 * relative * abs(answer.value))


def _ratio(fine: Grid, coarse: Grid) -> float:
    return min(n / m for n, m in zip(fine.shape, coarse.shape, strict=True))
