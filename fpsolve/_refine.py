"""How a number gets its discretisation error: the same question on coarser grids (Richardson's method)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ._discretize import Stencil
from .errors import FpsolveError
from .grid import Grid
from .results import Assumption, Estimate

__all__ = ["Solver", "richardson"]

Array = NDArray[np.float64]

#: How far the order measured on three grids may lie from the expected one to count as confirmed.
_ORDER_BAND = 0.3


def _relative(numbers: Sequence[Estimate]) -> tuple[list[float], bool]:
    """Values, or values over the first one where all carry a logarithm (then nothing overflows), and which."""
    logs = [e.log_value for e in numbers]
    if all(v is not None and math.isfinite(v) for v in logs):
        return [math.exp(min(v - logs[0], 700.0)) for v in logs], True  # type: ignore[operator]
    return [e.value for e in numbers], False


def richardson(numbers: Sequence[Estimate], ratio: float, *, order: float = 2.0) -> Estimate:
    r"""One number from two or three grids, finest first, each `ratio` times coarser than the one before.

    With values v0, v1 the error of v0 is :math:`|v_1 - v_0| / (ratio^{order} - 1)`. With a third value the order is measured,
    :math:`\log((v_2 - v_1)/(v_1 - v_0)) / \log(ratio)`; where it is within 0.3 of the expected one, the value is extrapolated and
    its error is the difference of the two extrapolations over ratio^order - 1, else the value stays and the error is the last step.

    Parameters
    ----------
    numbers : two or three Estimates
        Where all carry `log_value`, everything is done with ratios.
    ratio : float
        Of the cell widths, > 1.
    order : float
        Expected order of convergence.

    Returns
    -------
    Estimate
        The first one with another value and `discretization_error`; with three numbers, an assumption says what was measured.

    Examples
    --------
    >>> numbers = [Estimate(1 + 0.01 * 4**k) for k in range(3)]
    >>> result = richardson(numbers, 2.0)
    >>> round(result.value, 12), result.assumptions[0].status
    (1.0, 'held')
    """
    fine = numbers[0]
    v, scaled = _relative(numbers)
    gain = ratio**order - 1.0
    size = abs(fine.value) if scaled else 1.0
    first = v[1] - v[0]
    if not all(map(math.isfinite, v)) or not math.isfinite(size):
        # beyond doubles only the logarithm is left; its error would be |first|/gain
        return dataclasses.replace(fine, discretization_error=math.inf)
    if len(numbers) == 2:
        return dataclasses.replace(fine, discretization_error=size * abs(first) / gain)
    second = v[2] - v[1]
    measured = math.log(second / first) / math.log(ratio) if first * second > 0.0 else math.nan
    ok = abs(measured - order) <= _ORDER_BAND
    detail = f"measured {measured:.2f}" if math.isfinite(measured) else "the steps change sign"
    checked = Assumption(f"order {order:g} on three grids", "held" if ok else "failed", detail)
    kept = (*fine.assumptions, checked)
    if not ok:
        return dataclasses.replace(fine, discretization_error=size * max(abs(first), abs(first) / gain), assumptions=kept)
    best, other = v[0] - first / gain, v[1] - second / gain
    # the next order is at least one higher, so this is on the safe side
    error = size * abs(best - other) / gain
    if not scaled:
        return dataclasses.replace(fine, value=best, discretization_error=error, assumptions=kept)
    log_value = fine.log_value + math.log(best) if best > 0.0 and fine.log_value is not None else fine.log_value
    return dataclasses.replace(fine, value=fine.value * best, log_value=log_value, discretization_error=error, assumptions=kept)


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
        return make(self.process if process is None else process, grid, self.scheme, max_offset=self.max_offset)

    @functools.cached_property
    def _half(self) -> Any:
        """The solver on half as many cells per axis."""
        return self._on(self.grid.coarsen())

    def refine(self) -> Any:
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
        return self._on(self.grid._resized(tuple(2 * n for n in self.grid.shape)))

    def estimate(
        self, question: Callable[[Any], Any], *, confirm: bool = False, order: float = 2.0, unit: str | None = None
    ) -> Estimate:
        """A scalar question with its discretisation error from a second grid, or from three grids with the order checked.

        Parameters
        ----------
        question : callable
            Takes a FokkerPlanck and returns a number or an Estimate; it is asked on this grid and on the grid with half as many
            cells per axis (and a quarter with `confirm`). It must not depend on the size of the grid.
        confirm : bool
            Measure the order on three grids. Where it is confirmed the value is extrapolated, else the whole difference of
            the last two grids is the error; an assumption of the Estimate says which.
        order : float
            Expected order of convergence in the cell width.
        unit : str, optional
            Of a plain number; Estimates bring theirs.

        Returns
        -------
        Estimate

        Raises
        ------
        TypeError
            If `question` is not callable or returns something else than a number or an Estimate.
        ValueError
            If a grid would get fewer than two cells, or what the question raises on a coarser grid.

        Notes
        -----
        L. F. Richardson, Phil. Trans. R. Soc. A 210, 307 (1911).

        Examples
        --------
        >>> from fpsolve import FokkerPlanck, Grid, Noise, Potential, Process
        >>> process = Process(Potential.from_expression("x**2/2"), Noise.isotropic(1.0))
        >>> fp = FokkerPlanck(process, Grid((-8, 8, 160)))
        >>> start = ("gaussian", [2.0], [[0.25]])
        >>> mean = fp.estimate(lambda f: f.evolve(start, 1.0, rtol=1e-9).mean()[0], confirm=True)
        >>> mean.assumptions[0].status, bool(abs(mean.value - 2 * np.exp(-1)) < 1e-5)
        ('held', True)
        """
        if not callable(question):
            raise TypeError(f"question must be a function of a FokkerPlanck, got {type(question).__name__}: {question!r}")
        if not order > 0.0:
            raise ValueError(f"order must be > 0, got {order!r}")
        solvers = [self, self._half]
        if confirm:
            if min(self.grid.shape) < 8:
                raise ValueError(f"three grids need at least 8 cells per axis, got {self.grid.shape}")
            solvers.append(self._half._half)
        numbers = [_as_estimate(question(solver), unit or "", self.method) for solver in solvers]
        return richardson(numbers, _ratio(self.grid, solvers[1].grid), order=order)

    def _two_grids(self, scalar: Callable[[Any], float], unit: str, label: str, *, log: bool = False) -> Estimate:
        """Estimate of a scalar (or of its logarithm) with the error from half as many cells; inf where those cannot tell."""

        def wrap(number: float) -> Estimate:
            if not log:
                return Estimate(number, unit=unit, method=f"{self.method}, {label}, two grids")
            value = math.exp(number) if number < 709.7 else math.inf
            return Estimate(value, log_value=number, unit=unit, method=f"{self.method}, {label}, two grids")

        fine = wrap(scalar(self))
        try:
            coarse = wrap(scalar(self._half))
        except (ValueError, FpsolveError):
            return dataclasses.replace(fine, discretization_error=math.inf)
        return richardson([fine, coarse], _ratio(self.grid, self._half.grid))


def _ratio(fine: Grid, coarse: Grid) -> float:
    return min(n / m for n, m in zip(fine.shape, coarse.shape, strict=True))


def _as_estimate(answer: Any, unit: str, method: str) -> Estimate:
    if isinstance(answer, Estimate):
        return answer
    if isinstance(answer, bool) or np.ndim(answer) != 0 or not isinstance(answer, (int, float, np.number)):
        raise TypeError(f"the question must return a number or an Estimate, got {type(answer).__name__}: {answer!r}")
    return Estimate(float(np.real(answer)), unit=unit, method=method)
