"""What follows from the answers of an escape report: rows of its table, and the sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ._escape_conditions import ENDS, OF_STEPS
from .results import Assumption, Estimate
from .theory import total_rate

__all__ = [
    "EQUATION", "EXPONENT", "FORMULA", "KERNEL", "KNOWN", "KRAMERS", "NEVER", "PATHS", "SPLITTING", "WHITE", "conclude", "inverse",
    "log_of", "power_of_ten", "relative", "row", "total_time",
]  # fmt: skip

FORMULA = ("SGD formula, s = 1", "SGD formula, s = 0")
KRAMERS, WHITE, EQUATION, KERNEL = "Eyring-Kramers", "white noise, D of the minimum", "equation", "transition kernel"
SPLITTING, PATHS, EXPONENT = "splitting", "paths", "quasi-potential (exponent)"
LAWS = (KRAMERS, WHITE)
#: Method of an infinite time of the equation, where every way was looked at.
NEVER = "never crosses"
#: A law within this factor of the reference can be trusted; a reference must be known this well, relatively.
TRUSTED, KNOWN = 2.0, 0.25


def log_of(e: Estimate) -> float:
    """Natural logarithm of an answer."""
    if e.log_value is not None:
        return e.log_value
    return math.log(e.value) if e.value > 0.0 else -math.inf


def relative(e: Estimate) -> float | None:
    """Relative error, inf if nothing is known of it; None for a number without error."""
    if math.isinf(e.error):
        return math.inf
    return e.error / e.value if 0.0 < e.value < math.inf and e.error > 0.0 else None


def power_of_ten(log: float) -> str:
    """exp(log) with three digits, also beyond doubles."""
    if math.isinf(log):
        return "inf" if log > 0 else "0"
    if abs(log) < 11.0:
        return f"{math.exp(log):.3g}"
    place = math.floor(log / math.log(10.0))
    mantissa = f"{math.exp(log - place * math.log(10.0)):.2f}"
    return f"1.00e{place + 1:+03d}" if mantissa == "10.00" else f"{mantissa}e{place:+03d}"


def inverse(e: Estimate) -> Estimate:
    """One over a rate or a time, with the same relative errors."""
    log = -log_of(e)
    value = math.exp(log) if log < 709.7 else math.inf
    parts = [x / e.value if 0.0 < e.value < math.inf else 0.0 for x in (e.stderr, e.discretization_error)]
    errors = [value * r if math.isfinite(value) else 0.0 for r in parts]
    unit = e.unit.removeprefix("1/") if e.unit.startswith("1/") else "1/" + e.unit
    return replace(e, value=value, stderr=errors[0], discretization_error=errors[1], interval=None, log_value=log, unit=unit)


def total_time(times: Sequence[Estimate]) -> Estimate:
    """The mean time over several saddles: the rates add. What all of them assume is said once."""
    if len(times) == 1:
        return times[0]
    sum_ = inverse(total_rate(*(inverse(t) for t in times)))
    return replace(sum_, assumptions=tuple(dict.fromkeys(sum_.assumptions)), method=f"{times[0].method}, {len(times)} saddles")


def row(name: str, e: Estimate, base: float | None) -> tuple[str, str, float | None, float | None, str, int]:
    """A row of the table; `base` is the logarithm of the reference."""
    failed = len(e.failed)
    if name.startswith(EXPONENT):
        return name, "", e.value, relative(e), "", failed
    log = log_of(e)
    over = "" if base is None else "1" if log == base else power_of_ten(log - base)
    return name, power_of_ten(log), log, relative(e), over, failed


def conclude(estimates: Mapping[str, Estimate], reference: str, conditions: Sequence[Assumption] = ()) -> str:
    """One sentence that follows from the numbers, and from the conditions of the case."""
    if not reference:
        return _unknown(estimates)
    base = log_of(estimates[reference])
    if math.isinf(base):
        return _never(estimates)
    logs = {name: log_of(e) - base for name, e in estimates.items() if not name.startswith(EXPONENT)}
    failed = {a.name: a for a in conditions if a.status == "failed"}
    # the laws are those of the equation, which stands for a chain under conditions of its own
    steps = () if reference == EQUATION else tuple(failed[name] for name in OF_STEPS if name in failed)
    clauses, laws = [], True
    if ENDS in failed and any(name in logs for name in (*LAWS, *FORMULA)):
        laws = False
        clauses.append(f"the laws answer another question: the region ends elsewhere ({failed[ENDS].detail})")
    for name in LAWS if laws else ():
        if name in logs:
            clauses.append(_verdict(name, logs[name], reference, (*estimates[name].failed, *steps)))
    if laws and FORMULA[0] in logs:
        clauses.append(_range(_ends_of_formula(logs), reference, (*estimates[FORMULA[0]].failed, *steps)))
    if reference != EQUATION and EQUATION in logs:
        clauses.append(_of_equation(estimates[EQUATION], logs[EQUATION], reference, steps))
    return _sentence(clauses if clauses else [f"no formula applies; the answer is that of {reference}"])


def _sentence(clauses: Sequence[str]) -> str:
    text = "; ".join(clauses)
    return text[0].upper() + text[1:] + "."


def _unknown(estimates: Mapping[str, Estimate]) -> str:
    equation = estimates.get(EQUATION)
    if equation is None or not math.isinf(log_of(equation)):
        return "Nothing here is known well enough to test the formulas: see what was left out."
    if equation.method == NEVER:
        return _sentence([f"the {EQUATION} {NEVER}", "of the algorithm nothing here is known well enough to test the formulas"])
    return (
        f"On the way that was looked at the {EQUATION} {NEVER}; whether another way is open is not known, so that nothing here can "
        "test the formulas."
    )


def _never(estimates: Mapping[str, Estimate]) -> str:
    """The equation is all there is, and nothing crosses: a finite time is wrong by any factor."""
    finite = [name for name in LAWS if name in estimates]
    if FORMULA[0] in estimates:
        finite.append("the SGD formula")
    why = next((f" ({a.detail})" for a in estimates[EQUATION].failed), "")
    clauses = [f"the {EQUATION} {NEVER}{why}"]
    if finite:
        clauses.append(f"the finite time of {' and of '.join(finite)} is wrong")
    return _sentence(clauses)


def _of_equation(e: Estimate, log: float, reference: str, steps: Sequence[Assumption]) -> str:
    """An equation that is solved badly is not compared."""
    error = relative(e) or 0.0
    if error > KNOWN:
        return f"the {EQUATION} is not known well enough to be compared" + (f" (to {error:.0%})" if error < 10.0 else "")
    if math.isinf(log):
        where = "" if e.method == NEVER else " on the way that was looked at"
        return f"the {EQUATION} {NEVER}{where}, while the answer of {reference} is finite"
    return _verdict("the " + EQUATION, log, reference, (*e.failed, *steps))


def _verdict(name: str, log: float, reference: str, failed: Sequence[Assumption]) -> str:
    if math.isinf(log):
        return f"{name} never crosses, while the answer of {reference} is finite"
    times = f"{math.exp(min(log, 700.0)):.3g} times the answer of {reference}"
    if abs(log) > math.log(TRUSTED):
        return f"{name} is wrong by a factor of {power_of_ten(abs(log))}, too {'long' if log > 0.0 else 'short'}"
    if failed:
        return f"{name} is {times}, though not for a good reason: '{failed[0].name}' failed"
    return f"{name} can be trusted here: {times}"


def _ends_of_formula(logs: Mapping[str, float]) -> list[tuple[float, float]]:
    """What the formula of SGD says at s = 1 and s = 0, over each saddle."""
    ways = [name.removeprefix(FORMULA[0]) for name in logs if name.startswith(f"{FORMULA[0]}, over ")] or [""]
    return [(logs[FORMULA[0] + way], logs[FORMULA[1] + way]) for way in ways]


def _formula_at(s: float, ends: Sequence[tuple[float, float]]) -> float:
    """ln of the time of the formula over all saddles: over each it is linear in s, and the rates add."""
    logs = [s * first + (1.0 - s) * last for first, last in ends]
    least = min(logs)
    return least - math.log(math.fsum(math.exp(least - log) for log in logs))


def _range(ends: Sequence[tuple[float, float]], reference: str, failed: Sequence[Assumption]) -> str:
    """What the formula of SGD says for s from 1 to 0; `ends` are logarithms over the reference."""
    grid = [k / 256 for k in range(257)]
    values = [_formula_at(s, ends) for s in grid]
    low, high = min(values), max(values)
    name = "the SGD formula"
    if max(abs(low), abs(high)) <= math.log(TRUSTED):
        times = f"{math.exp(low):.3g} to {math.exp(high):.3g} times the answer of {reference}"
        if failed:
            return f"{name} is {times}, though not for a good reason: '{failed[0].name}' failed"
        return f"{name} can be trusted here: {times}"
    span = f"which it does not predict: from s = 1 to 0 it spans a factor of {power_of_ten(high - low)}"
    if low <= 0.0 <= high:
        k = next(k for k in range(256) if min(values[k : k + 2]) <= 0.0 <= max(values[k : k + 2]))
        change = values[k + 1] - values[k]
        s = grid[k] - (values[k] / change / 256 if change else 0.0)
        return f"{name} holds with s = {s:.2g}, {span}"
    nearest = low if low > 0.0 else high
    factor, side = power_of_ten(abs(nearest)), "long" if nearest > 0.0 else "short"
    if abs(nearest) <= math.log(TRUSTED):
        return f"{name} is wrong by a factor of {factor}, too {side}, with s = {grid[values.index(nearest)]:.2g}, {span}"
    return f"{name} is wrong by a factor of at least {factor} for every s in [0, 1], too {side}"
