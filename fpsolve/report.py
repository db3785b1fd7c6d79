"""Numbers from independent sources side by side."""

import math
from collections.abc import Sequence

from fpsolve._estimate import _parse_unit
from fpsolve.results import Estimate, Table

from ._checks import is_finite, is_number

__all__ = ["compare"]


def compare(
    *estimates: Estimate | float, names: Sequence[str] | None = None, title: str = "Comparison", lr: float | None = None
) -> Table:
    """Put estimates of one quantity side by side; the first is the reference.

    ratio = value / first value. z = (value - first) / sqrt(sum of both squared errors), empty where neither has an error.
    Everything is converted to the unit of the first.

    Parameters
    ----------
    *estimates : Estimate or float
        A bare number is exact and has the unit of the first Estimate.
    names : sequence of str, optional
        Default: the methods.
    title : str
    lr : float, optional
        Learning rate for conversions between time and iterations, where the estimates carry none.

    Returns
    -------
    Table
        Columns name, value, stderr, disc. error, unit, ratio, z, assumptions.

    Raises
    ------
    ValueError
        Without estimates; if `names` has another length; if units cannot be converted; if learning rates or batch sizes differ.
    TypeError
        For something that is neither an Estimate nor a number.

    Examples
    --------
    >>> paths = Estimate(10.3, stderr=0.2, unit="time", lr=0.1, method="paths")
    >>> chain = Estimate(99.0, stderr=3.0, unit="iteration", lr=0.1, method="chain")
    >>> print(compare(paths, chain))
    Comparison
    name   value  stderr  disc. error  unit    ratio        z  assumptions
    -----  -----  ------  -----------  ----  -------  -------  -----------
    paths   10.3     0.2            0  time        1           none
    chain    9.9     0.3            0  time  0.96117  -1.1094  none
    """
    if not estimates:
        raise ValueError("compare needs at least one estimate")
    if names is not None and len(names) != len(estimates):
        raise ValueError(f"compare: {len(names)} names for {len(estimates)} estimates; give one for each")
    if lr is not None and not (is_number(lr) and is_finite(lr) and lr > 0.0):
        raise ValueError(f"compare: lr must be a finite number > 0, got {lr!r}")
    items = _wrap(estimates)
    labels = list(names) if names is not None else [e.method or f"estimate {i + 1}" for i, e in enumerate(items)]
    rates = [(label, e.lr) for label, e in zip(labels, items, strict=True)] + [("the argument lr", lr)]
    rate = _common("learning rate", rates)
    _common("batch size", [(label, e.batch) for label, e in zip(labels, items, strict=True)])
    items = [_to_unit(e, items[0].unit, rate) for e in items]
    rows = [
        (
            label,
            _value(e),
            e.stderr,
            e.discretization_error,
            e.unit,
            _ratio(e, items[0]),
            None if e is items[0] else _z(e, items[0]),
            _verdict(e),
        )
        for label, e in zip(labels, items, strict=True)
    ]
    notes = [f"{label}: {a}" for label, e in zip(labels, items, strict=True) for a in e.assumptions if a.status != "held"]
    return Table(title, ("name", "value", "stderr", "disc. error", "unit", "ratio", "z", "assumptions"), tuple(rows), tuple(notes))


def _wrap(estimates: Sequence[Estimate | float]) -> list[Estimate]:
    unit = next((e.unit for e in estimates if isinstance(e, Estimate)), "")
    items = []
    for e in estimates:
        if isinstance(e, bool) or not isinstance(e, (Estimate, int, float)):
            raise TypeError(f"compare takes Estimates and numbers, got {type(e).__name__}")
        items.append(e if isinstance(e, Estimate) else Estimate(e, unit=unit, method="given"))
    return items


def _common(what: str, values: Sequence[tuple[str, float | None]]) -> float | None:
    """The one value that all who have one share; None if nobody has."""
    known = [(label, value) for label, value in values if value is not None]
    for label, value in known[1:]:
        if not math.isclose(value, known[0][1], rel_tol=1e-12):
            raise ValueError(
                f"compare: different {what}s: {known[0][0]!r} belongs to {what} {known[0][1]:g}, {label!r} to {value:g}; "
                "compare like with like"
            )
    return known[0][1] if known else None


def _to_unit(e: Estimate, unit: str, lr: float | None) -> Estimate:
    if e.unit == unit:
        return e
    (_, power), (target, wanted) = _parse_unit(e.unit), _parse_unit(unit)
    if power == wanted:  # and the bases differ
        if e.lr is None and lr is None:
            raise ValueError(f"compare: {e.unit!r} converts to {unit!r} only with a learning rate; pass lr=...")
        convert = e.per_iteration if target == "iteration" else e.per_time
        return convert(lr if e.lr is None else None)
    raise ValueError(
        f"compare: {e.unit or 'a dimensionless number'!r} cannot be compared with {unit or 'a dimensionless number'!r}; "
        "times go with times, rates with rates"
    )


def _beyond_doubles(e: Estimate) -> bool:
    return e.log_value is not None and (e.value == 0.0 or math.isinf(e.value))


def _value(e: Estimate) -> float | str:
    return f"exp({e.log_value:.6g})" if _beyond_doubles(e) else e.value


def _log(e: Estimate) -> float | None:
    if e.log_value is not None:
        return e.log_value
    return math.log(e.value) if 0.0 < e.value < math.inf else None


def _ratio(e: Estimate, first: Estimate) -> float | None:
    if _beyond_doubles(e) or _beyond_doubles(first):
        a, b = _log(e), _log(first)
        if a is None or b is None:
            return None
        return math.exp(a - b) if a - b < 709.0 else math.inf
    return e.value / first.value if first.value != 0.0 else None


def _z(e: Estimate, first: Estimate) -> float | None:
    error = math.hypot(e.error, first.error)
    difference = e.value - first.value
    return difference / error if error > 0.0 and math.isfinite(difference) else None


def _verdict(e: Estimate) -> str:
    if not e.assumptions:
        return "none"
    counts = {s: sum(a.status == s for a in e.assumptions) for s in ("held", "failed", "unknown")}
    text = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
    return text + (": " + "; ".join(a.name for a in e.failed) if e.failed else "")
