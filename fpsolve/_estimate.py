"""A number with its errors and assumptions, and what all result records share."""

import dataclasses
import math
import numbers
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from fpsolve._result import Result
from fpsolve._shown import Description, Shown, _with_error

__all__ = ["Assumption", "Estimate"]

Array = npt.NDArray[np.float64]

_UNIT = re.compile(r"(1/)?(time|iteration)(?:\^([2-9]|[1-9][0-9]))?")


def _float(name: str, value: Any) -> float:
    """One real number, also as an array of one; as text, complex, or beyond 1.8e308 it is refused."""
    try:
        if isinstance(value, (str, bytes)) or np.iscomplexobj(value) or (isinstance(value, np.ma.MaskedArray) and value.mask.any()):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}: {reprlib.repr(value)}") from None
    except OverflowError:
        raise ValueError(f"{name} must be below 1.8e308, got an integer of {len(hex(value))} hexadecimal digits") from None


def _parse_unit(unit: str) -> tuple[str, int]:
    """("time" or "iteration", power): "1/time^2" is ("time", -2); ("", 0) for no unit.

    Raises
    ------
    ValueError
        For anything else.
    """
    found = _UNIT.fullmatch(unit) if isinstance(unit, str) else None
    if found is None and unit != "":
        raise ValueError(
            "unit must be '', 'time', '1/time', 'iteration', '1/iteration', or a power of these up to 99 such as 'time^2' "
            f"or '1/iteration^2', got {unit!r}"
        )
    return (found[2], (-1 if found[1] else 1) * int(found[3] or 1)) if found else ("", 0)


def _same(a: object, b: object) -> bool:
    """Equality that looks inside arrays, dicts and sequences, compares numbers by value and takes NaN as equal to NaN."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        floating = a.dtype.kind in "fc" and b.dtype.kind in "fc"
        return a.dtype.kind == b.dtype.kind and bool(np.array_equal(a, b, equal_nan=floating))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(_same(u, v) for u, v in zip(a, b, strict=True))
    truths = [isinstance(v, (bool, np.bool_)) for v in (a, b)]
    if any(truths):
        return all(truths) and bool(a == b)
    if isinstance(a, numbers.Number) and isinstance(b, numbers.Number):
        return bool(a == b) or bool(a != a and b != b)
    return bool(a == b)


def _plain(value: Any) -> Any:
    """NumPy scalars, also inside dicts, tuples and lists, become Python's: what is saved comes back as it was."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return type(value)(_plain(v) for v in value) if type(value) in (tuple, list) else value


class _Record(Result):
    """A result that is kept in files: equality by content, and saving."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        names = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        return all(_same(getattr(self, n), getattr(other, n)) for n in names)

    def save(self, path: str | PathLike[str], *, overwrite: bool = True) -> None:
        """Write the result to an HDF5 file; `fpsolve.load` reads it back equal. See `fpsolve.io.save`."""
        from fpsolve import io

        io.save(path, self, overwrite=overwrite)


@dataclass(frozen=True)
class Assumption(Shown):
    """One condition that a number rests on, and whether it holds in the case at hand.

    Parameters
    ----------
    name : str
        The condition, in words.
    status : {"held", "failed", "unknown"}
        The outcome of the test; "unknown" if it could not be tested.
    detail : str
        What was compared with what.

    Raises
    ------
    ValueError
        If `status` is none of the three.

    Examples
    --------
    >>> Assumption("barrier / D >= 6", "failed", "2.5")
    Assumption(name='barrier / D >= 6', status='failed', detail='2.5')
    """

    name: str
    status: Literal["held", "failed", "unknown"]
    detail: str = ""

    def __post_init__(self) -> None:
        if self.status not in ("held", "failed", "unknown"):
            raise ValueError(f"status of an Assumption must be 'held', 'failed' or 'unknown', got {self.status!r}")

    def __str__(self) -> str:
        return f"{self.name}: {self.status}" + (f" ({self.detail})" if self.detail else "")


def _scaled(x: float, factor: float) -> float:
    return x if x == 0.0 or math.isinf(x) else x * factor


def _power(x: float, k: int) -> float:
    """x**k, inf where that overflows."""
    return _exp(k * math.log(x)) if abs(k * math.log(x)) > 700.0 else x**k


def _exp(x: float) -> float:
    """exp(x), inf where that overflows."""
    return math.exp(x) if x < 709.78 else math.inf


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(_Record):
    """A number with its errors, unit and assumptions.

    Parameters
    ----------
    value : float
        The number; ``inf`` or ``0.0`` where it leaves the range of a double, then `log_value` has it.
    stderr : float
        Statistical standard error, 0 for a deterministic number.
    discretization_error : float
        Error of grid, step or quadrature, as found from a second one.
    interval : (float, float), optional
        95 % interval, where a better one than value +- 1.96 error is known.
    log_value : float, optional
        Natural logarithm of the number.
    unit : {"", "time", "1/time", "iteration", "1/iteration"} or a power of these
        SDE time is lr x iterations. Powers are written "time^2" (a variance), "1/time^2", up to 99.
    assumptions : sequence of Assumption
        What the number rests on.
    lr : float, optional
        Learning rate that joins time and iterations.
    method : str
        How it was obtained.
    batch : float, optional
        Batch size of the noise it belongs to.

    Raises
    ------
    ValueError
        For an unknown unit, a negative error, an interval whose ends are reversed, or lr or batch <= 0.

    Examples
    --------
    >>> tau = Estimate(12.0, stderr=0.3, discretization_error=0.4, unit="time", lr=0.1)
    >>> round(tau.error, 12)
    0.5
    >>> tau.per_iteration()
    Estimate(120.0 +- 5.0 iteration)
    """

    value: float
    stderr: float = 0.0
    discretization_error: float = 0.0
    interval: tuple[float, float] | None = None
    log_value: float | None = None
    unit: str = ""
    assumptions: tuple[Assumption, ...] = ()
    lr: float | None = None
    method: str = ""
    batch: float | None = None
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        "value": ("", "{unit}", "the number"),
        "stderr": ("", "{unit}", "statistical standard error"),
        "discretization_error": ("", "{unit}", "error of grid, step or quadrature"),
        "interval": ("bound", "{unit}", "95 % interval"),
        "log_value": ("", "", "natural logarithm of the number"),
    }

    def __post_init__(self) -> None:
        for name in ("value", "stderr", "discretization_error"):
            object.__setattr__(self, name, _float(name, getattr(self, name)))
        for name in ("log_value", "lr", "batch"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _float(name, getattr(self, name)))
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        _parse_unit(self.unit)
        for name in ("stderr", "discretization_error"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        for name in ("lr", "batch"):
            if getattr(self, name) is not None and not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if self.interval is not None:
            try:
                low, high = self.interval
            except (TypeError, ValueError):
                raise ValueError(f"interval must be (low, high), got {self.interval!r}") from None
            low, high = _float("interval", low), _float("interval", high)
            if low > high:
                raise ValueError(f"interval must be (low, high) with low <= high, got ({low}, {high})")
            object.__setattr__(self, "interval", (low, high))

    @property
    def error(self) -> float:
        """sqrt(stderr^2 + discretization_error^2)."""
        return math.hypot(self.stderr, self.discretization_error)

    @property
    def failed(self) -> tuple[Assumption, ...]:
        """The assumptions that failed."""
        return tuple(a for a in self.assumptions if a.status == "failed")

    def __float__(self) -> float:
        return self.value

    def per_iteration(self, lr: float | None = None) -> "Estimate":
        """The same in iterations: tau[iterations] = tau[time] / lr, rate[1/iteration] = lr x rate[1/time], powers likewise.

        Raises
        ------
        ValueError
            Without a learning rate, with one that contradicts the stored one, or for a number without unit.
        """
        return self._convert("iteration", lr, "per_iteration")

    def per_time(self, lr: float | None = None) -> "Estimate":
        """The same in SDE time (lr x iterations); the inverse of `per_iteration`, with the same errors."""
        return self._convert("time", lr, "per_time")

    def _convert(self, target: str, lr: float | None, name: str) -> "Estimate":
        base, power = _parse_unit(self.unit)
        if not base:
            raise ValueError(f"{name}: this Estimate is dimensionless; only times and rates convert")
        lr = None if lr is None else _float("lr", lr)
        if lr is not None and self.lr is not None and not math.isclose(lr, self.lr, rel_tol=1e-12):
            raise ValueError(f"{name}: lr={lr} contradicts the learning rate lr={self.lr} this Estimate carries")
        lr = self.lr if lr is None else lr
        if base == target:
            return dataclasses.replace(self, lr=lr)
        if lr is None:
            raise ValueError(f"{name}: no learning rate is stored with this Estimate; pass lr=...")
        if not (lr > 0.0 and math.isfinite(lr)):
            raise ValueError(f"{name}: lr must be finite and > 0, got {lr}")
        unit = self.unit.replace(base, target)
        power = power if target == "time" else -power  # time = lr x iterations
        factor, log_value = _power(lr, power), self.log_value
        if log_value is None and 0.0 < self.value < math.inf:
            log_value = math.log(self.value)
        value, log_value = _scaled(self.value, factor), None if log_value is None else log_value + power * math.log(lr)
        outside = value == 0.0 or math.isinf(value)
        if self.log_value is not None and outside and log_value is not None:
            value = _exp(log_value)  # it may fit now
        return dataclasses.replace(
            self,
            value=value,
            stderr=_scaled(self.stderr, factor),
            unit=unit,
            lr=lr,
            discretization_error=_scaled(self.discretization_error, factor),
            interval=self.interval and (_scaled(self.interval[0], factor), _scaled(self.interval[1], factor)),
            log_value=log_value if self.log_value is not None or outside else None,
        )

    def __repr__(self) -> str:
        if self.log_value is not None and (math.isinf(self.value) or self.value == 0.0):
            number = f"exp({self.log_value:.10g})"
        else:
            number = _with_error(self.value, self.error)
        text = f"{number} {self.unit}".rstrip()
        if self.interval is not None:
            text += f", 95 % [{self.interval[0]:.6g}, {self.interval[1]:.6g}]"
        if self.method:
            text += f", {self.method}"
        failed = [a.name for a in self.failed]
        if failed:
            text += ", FAILED: " + "; ".join(failed)
        return f"Estimate({text})"


def _run_text(method: str, dt: float | None, seed: int | None) -> str:
    parts = [f"method {method}" if method else "", "" if dt is None else f"dt {dt:.6g}", "" if seed is None else f"seed {seed}"]
    return ", ".join(p for p in parts if p)
