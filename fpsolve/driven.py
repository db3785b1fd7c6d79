"""Processes whose coefficients change with time: moving landscapes, and learning rates and batch sizes that follow a schedule."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_memory, is_finite, is_number
from ._code import MAX_TUPLE, Code, ConstantCode, DerivedCode
from .chains import SGDChain
from .potentials import check_points, update_params
from .process import Process

__all__ = ["LEVEL", "Driven"]

Array = NDArray[np.float64]

#: The parameter that holds r in the codes of a process whose noise is scaled; no expression can name it.
LEVEL = "noise level"


class Driven:
    r"""A process with parameters p(t) and noise r(t) D: dX = b(X; p(t)) dt + sqrt(r(t)) B(X; p(t)) dW in the reading of `process`.

    Parameters
    ----------
    process : Process
        Any process; expressions and functions with parameters (``params=``) can move with time.
    params : callable t -> mapping of str to float, optional
        Values of some or all parameters of the process at time t.
    noise : callable t -> float, optional
        r(t) >= 0, by which D is multiplied, and with it what D adds to the drift in readings other than Ito.

    Raises
    ------
    TypeError, ValueError
        If `process` is not a Process with Gaussian noise, a function is not callable or fails at t = 0, gives unknown
        parameters, or values that are not finite; at other times when they are asked for.

    Examples
    --------
    A trap that moves, and its process at the time 2:

    >>> from fpsolve import Noise, Potential
    >>> trap = Process(Potential.from_expression("k*(x - c)**2/2", params={"k": 1.0, "c": 0.0}), Noise.isotropic(0.5))
    >>> moving = Driven(trap, params=lambda t: {"c": 0.1 * t}, noise=lambda t: 1 + t)
    >>> moving.at(2.0).drift([0.0]), moving.at(2.0).diffusion([0.0])
    (array([0.2]), array([[1.5]]))
    """

    def __init__(
        self,
        process: Process,
        params: Callable[[float], Mapping[str, float]] | None = None,
        noise: Callable[[float], float] | None = None,
    ) -> None:
        if not isinstance(process, Process):
            raise TypeError(f"Driven needs a Process, got {type(process).__name__}: {process!r}")
        if process.noise.stable is not None:
            raise ValueError("Driven is for Gaussian noise; Levy noise has no Fokker-Planck equation of second order")
        for name, value in (("params", params), ("noise", noise)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be a function of the time, got {type(value).__name__}: {value!r}")
        if params is None and noise is None:
            raise ValueError("nothing changes with time: give params=, noise= or both, or use the process itself")
        self.process, self.params, self.noise = process, params, noise
        self.at(0.0)

    @classmethod
    def from_chain(cls, chain: SGDChain, iterations: int) -> Driven:
        r"""The diffusion of a Gaussian :class:`SGDChain` with a schedule: time t = lr_0 + ... + lr_(k-1) at iteration k,

        .. math:: dX = -\nabla U dt + \sqrt{2 D(x) r}\, dW, \qquad r(t) = \frac{lr_k}{lr_0}\frac{B_0}{B_k},

        interpolated linearly between the middles of the iterations.

        Parameters
        ----------
        chain : SGDChain
            ``SGDChain.gaussian`` without momentum and adaptive optimiser; the same object runs in :func:`simulate`.
        iterations : int
            How many iterations the schedule is read for; :attr:`end` is their time. Later times are refused.

        Examples
        --------
        >>> from fpsolve import Noise, Potential
        >>> U = Potential.from_expression("x**2/2")
        >>> chain = SGDChain.gaussian(U, Noise.covariance([[1.0]], lr=0.1), lr=lambda k: 0.1 / (1 + 0.01 * k))
        >>> Driven.from_chain(chain, 1000).at(0.0).diffusion([0.0])          # lr_0 C/2
        array([[0.05]])
        """
        if not isinstance(chain, SGDChain) or chain.reference is None or not chain.fused or chain.momentum:
            raise TypeError(f"from_chain needs an SGDChain.gaussian without momentum, whose diffusion is known; got {chain!r}")
        if isinstance(iterations, bool) or not isinstance(iterations, (int, np.integer)) or iterations < 1:
            raise ValueError(f"iterations must be an integer >= 1, got {iterations!r}")
        check_memory(4 * int(iterations), f"the rates of {iterations} iterations", "take fewer iterations")
        rates, ratios = chain.rates(0, int(iterations))
        if len(rates) < iterations:
            chain.rates(len(rates), len(rates) + 1)  # raises what the schedule raises there
        ends = np.cumsum(rates)
        middles, factors = ends - 0.5 * rates, ratios**2

        def noise(t: float) -> float:
            if t > ends[-1] * (1 + 1e-12):
                raise ValueError(f"the schedule was read up to the time {ends[-1]:g} ({iterations} iterations), asked at t = {t:g}")
            return float(np.interp(t, middles, factors))

        out = cls(chain.reference, noise=noise)
        out.end = float(ends[-1])
        return out

    #: Time up to which the coefficients are known.
    end: float = math.inf

    @property
    def dim(self) -> int:
        return self.process.dim

    def values(self, t: float) -> dict[str, float]:
        """The parameters at time t, checked; with `noise` also r(t), under the name `LEVEL`."""
        if not (is_number(t) and is_finite(t)):
            raise ValueError(f"t must be a finite time, got {t!r}")
        t, out = float(t), self.process.params
        if self.params is not None:
            values = _called("params", self.params, t)
            if not isinstance(values, Mapping):
                raise TypeError(f"params must return a mapping of names to numbers, got {type(values).__name__} at t = {t:g}")
            if self.process.noise.is_constant and not self.process.noise.params.keys().isdisjoint(values):
                self.process.with_params(**values)  # says why not
            found = {name: _number(f"params()[{name!r}]", value, t) for name, value in values.items()}
            known = found.keys() <= out.keys() and all(map(math.isfinite, found.values()))
            out = {**out, **found} if known else update_params(out, found)  # which says what is wrong
        if self.noise is None:
            return out
        factor = _number("noise", _called("noise", self.noise, t), t)
        if not (math.isfinite(factor) and factor >= 0.0):
            raise ValueError(f"noise must be a finite number >= 0, got {factor!r} at t = {t:g}")
        return {**out, LEVEL: factor}

    def at(self, t: float) -> Process:
        """The process with its coefficients frozen at time t; nothing is compiled anew."""
        values = self.values(t)
        factor = values.pop(LEVEL) if self.noise is not None else None
        changed = {name: value for name, value in values.items() if value != self.process.params[name]}
        process = self.process.with_params(**changed) if changed else self.process
        return process if factor is None else _Scaled.of(process, factor)

    def __repr__(self) -> str:
        names = [name for name, value in (("params(t)", self.params), ("noise(t)", self.noise)) if value is not None]
        return f"Driven({self.process!r}, {', '.join(names)})"


def _called(name: str, function: Callable[[float], Any], t: float) -> Any:
    """A function of the user at a time, its failure in words; what it refuses itself is passed on."""
    try:
        return function(t)
    except (ArithmeticError, LookupError) as error:
        raise ValueError(
            f"{name} failed at t = {t:g}: {type(error).__name__}: {error}; it is asked at every time from 0 on"
        ) from error


def _number(name: str, value: Any, t: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: {value!r} at t = {t:g}") from None


class LevelCode(Code):
    """r, as a code: one number that is a parameter."""

    n_out, names = 1, (LEVEL,)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        return f"{inline}\ndef {name}(x, p):\n    return (p[0],)\n", {}

    def jacobian(self) -> ConstantCode:
        return ConstantCode(np.zeros(self.dim), self.dim)


class ScaledCode(DerivedCode):
    """A code times `scale`, which names r as c1[0]."""

    def __init__(self, code: Code, scale: str) -> None:
        super().__init__([code, LevelCode(code.dim)], code.n_out, [f"{scale}*c0[{i}]" for i in range(code.n_out)])
        self.scale = scale

    def jacobian(self) -> Code:
        return _times(self.children[0].jacobian(), self.scale)


@functools.lru_cache(maxsize=256)
def _times(code: Code, scale: str) -> ScaledCode:
    return ScaledCode(code, scale)


@functools.lru_cache(maxsize=256)
def _between(drift: Code, sign: float, force: Code) -> DerivedCode:
    """sign F + r (b - sign F): what D adds to the drift is multiplied with it."""
    outputs = [f"{sign!r}*c1[{i}] + c2[0]*(c0[{i}] - {sign!r}*c1[{i}])" for i in range(drift.n_out)]
    return DerivedCode([drift, force, LevelCode(drift.dim)], drift.n_out, outputs)


class _Scaled(Process):
    """A process whose D is multiplied by a number."""

    scale: float
    _bare: Process

    @property
    def unscaled(self) -> Process:
        return self._bare

    def with_params(self, **values: float) -> Process:
        return _Scaled.of(self._bare.with_params(**values), self.scale)

    @classmethod
    def of(cls, process: Process, scale: float) -> _Scaled:
        out = cls.__new__(cls)
        out.__dict__.update(process.__dict__, scale=scale, _bare=process, params={**process.params, LEVEL: scale})
        if process.dim > MAX_TUPLE:  # the paths engine multiplies the increments of the noise
            if process._phi is not None or not (process.interpretation == "ito" or process.noise.is_constant):
                raise ValueError(
                    f"above {MAX_TUPLE} dimensions noise= is for processes whose drift is free of D: with interpretation='ito', or "
                    "with a constant tensor"
                )
            return out
        sign, force = process._force
        if process._phi is not None:
            out.drift_code = _times(process.drift_code, "c1[0]")
        elif process.interpretation != "ito" and not process.noise.is_constant:
            out.drift_code = _between(process.drift_code, sign, force)
        out.diffusion_code = _times(process.diffusion_code, "c1[0]")
        out.factor_code = _times(process.factor_code, "sqrt(c1[0])")
        return out

    @property
    def isotropic_diffusion(self) -> float | None:
        value = super().isotropic_diffusion
        return None if value is None else self.scale * value

    @property
    def linear(self) -> tuple[Array, Array, Array] | None:
        found = super().linear
        return None if found is None else (found[0], found[1], self.scale * found[2])

    def drift(self, x: ArrayLike) -> Array:
        """The part of the drift that is made of D is multiplied with it."""
        total = self._bare.drift(x)
        if self._phi is not None:
            return self.scale * total
        if self.interpretation == "ito" or self.noise.is_constant:
            return total
        sign, force = self._force
        bare = sign * force.evaluate(check_points(x, self.dim), self.params)
        return np.asarray(bare + self.scale * (total - bare))

    def diffusion(self, x: ArrayLike) -> Array:
        return self.scale * self._bare.diffusion(x)

    def factor(self, x: ArrayLike) -> Array:
        return math.sqrt(self.scale) * self._bare.factor(x)

    def divergence(self, x: ArrayLike) -> Array:
        return self.scale * self._bare.divergence(x)

    def kick(self, x: Array, normals: Array) -> Array:
        return math.sqrt(self.scale) * self._bare.kick(x, normals)
