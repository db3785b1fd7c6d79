"""Claims of the theory, each checked against simulation (installed as ``fpsolve_validation``).

A claim is a module of this package with five names::

    NAME = "double-well"            # what `fpsolve validate NAME` calls it
    GROUP = "kramers"               # the paper or topic it belongs to; `fpsolve validate GROUP` runs the whole group
    CLAIM = "Mean exit times from PDE, paths and quadrature agree."      # one sentence
    STANDING = "derived"            # "stated by the paper", "derived" or "recalled"

    def run(quick: bool, out: Path, progress: bool) -> list[Check]: ...  # figures go to `out`, named after NAME

A sixth, ``SHARED``, may name work that is done once in a process, such as a trained network: claims of the same SHARED run in one
process, one after another. Without it they are no less right, only slower.

The runner prints one table per claim and writes ``validation.json``. A claim that raises, that returns no check, or whose process
dies, has failed. Names that start with an underscore are helpers, not claims.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import fpsolve as fps

__all__ = ["Check", "Claim", "Outcome", "check_claim", "discover", "listing", "run", "select"]

STANDINGS = ("stated by the paper", "derived", "recalled")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number of a claim: passed if ``band[0] <= measured <= band[1]``; its comment says how the band was found.

    Parameters
    ----------
    name
        What is measured, with its unit.
    measured, stderr
        The value and its standard error (0 for deterministic numbers).
    expected
        What the theory says.
    band
        Closed interval that ``measured`` must lie in; either end may be infinite. NaN never passes.
    source
        Where the expected value comes from: equation, quadrature, another engine.
    """

    name: str
    measured: float
    expected: float
    band: tuple[float, float]
    stderr: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        low, high = self.band
        if not low <= high:
            raise ValueError(f"check {self.name!r}: band ({low}, {high}) is empty; give (low, high) with low <= high")

    @property
    def passed(self) -> bool:
        return bool(self.band[0] <= self.measured <= self.band[1])


class Claim(Protocol):
    """What a claim module defines."""

    NAME: str
    GROUP: str
    CLAIM: str
    STANDING: str

    def run(self, quick: bool, out: Path, progress: bool) -> list[Check]: ...


@dataclass(frozen=True)
class Outcome:
    """What came of one claim: its checks, or the error that ended it, and the wall time in seconds."""

    claim: Claim
    checks: Sequence[Check] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.error and bool(self.checks) and all(check.passed for check in self.checks)


def check_claim(claim: object, where: str) -> Claim:
    """Return `claim` if it has everything that a claim needs; ValueError says what is missing."""
    missing = [name for name in ("NAME", "GROUP", "CLAIM", "STANDING", "run") if not hasattr(claim, name)]
    if missing:
        raise ValueError(f"{where} is not a claim: it lacks {', '.join(missing)}")
    if claim.STANDING not in STANDINGS:  # type: ignore[attr-defined]
        raise ValueError(f"{where}: STANDING is {claim.STANDING!r}; it must be one of {STANDINGS}")  # type: ignore[attr-defined]
    return claim  # type: ignore[return-value]


def discover(path: Iterable[str] | None = None) -> list[Claim]:
    """Every claim of this package, ordered by group and name."""
    names = [info.name for info in pkgutil.iter_modules(__path__ if path is None else path)]
    claims = [check_claim(importlib.import_module(f"{__name__}.{n}"), n) for n in names if not n.startswith("_")]
    return sorted(claims, key=lambda claim: (claim.GROUP, claim.NAME))


def select(claims: Sequence[Claim], names: Sequence[str]) -> list[Claim]:
    """The claims called by their name or their group (all of them for no names); ValueError for an unknown name."""
    known = sorted({claim.NAME for claim in claims} | {claim.GROUP for claim in claims})
    for name in names:
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are: {', '.join(known) or 'none'}"
            raise ValueError(f"no claim or group is called {name!r}; {hint}")
    return [claim for claim in claims if not names or claim.NAME in names or claim.GROUP in names]


def listing(claims: Sequence[Claim]) -> str:
    """Group, name and sentence of every claim as text."""
    rows = [(claim.GROUP, claim.NAME, claim.STANDING, claim.CLAIM) for claim in claims]
    return str(fps.Table("claims", ("group", "name", "standing", "claim"), rows))


def run(claims: Sequence[Claim], *, quick: bool, out: Path, progress: bool, jobs: int | None = 1) -> int:
    """Run the claims, print their tables, write ``out/validation.json``.

    Parameters
    ----------
    jobs
        How many run at a time. 1: in this process, in order, each with its own progress bars. More: in as many worker processes,
        with one bar for all; tables are printed as claims end, so that nothing done waits for a longer claim, and the record keeps
        the order. None: as many as cores may be used, four at most. The numbers are the same bits. Workers are spawned: a script
        that asks for them needs the guard ``if __name__ == "__main__"``.

    Returns
    -------
    int
        0 if every check of every claim passed, else 1.

    Raises
    ------
    ValueError
        If there is no claim to run, or `jobs` is below 1.
    OSError
        If `out` cannot be written; raised before any claim runs.
    """
    from . import _runner

    jobs = _runner.default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}; give the number of claims to run at a time, 1 or more")
    if not claims:
        raise ValueError("no claim to run; `fpsolve validate --list` shows what there is")
    target = out / "validation.json"
    out.mkdir(parents=True, exist_ok=True)
    _write(target, json.dumps({"finished": False}))

    def show(outcome: Outcome) -> None:
        print(_table(outcome), end="\n\n", flush=True)

    outcomes = _runner.outcomes(claims, jobs=jobs, quick=quick, out=out, progress=progress, show=show)
    failed = [outcome.claim.NAME for outcome in outcomes if not outcome.passed]
    _write(target, json.dumps(_record(outcomes, quick), indent=1, allow_nan=False))
    verdict = f"failed: {', '.join(failed)}" if failed else "all passed"
    print(f"{len(outcomes)} claims, {sum(len(o.checks) for o in outcomes)} checks, {verdict}; details in {target}")
    return 1 if failed else 0


def _table(outcome: Outcome) -> fps.Table:
    claim = outcome.claim
    rows = [
        (c.name, f"{c.measured:.6g}", f"{c.stderr:.2g}", f"{c.expected:.6g}", f"{c.band[0]:.6g} .. {c.band[1]:.6g}",
         "pass" if c.passed else "FAIL", c.source)
        for c in outcome.checks
    ]  # fmt: skip
    notes = [f"{claim.CLAIM} ({claim.STANDING})", f"{'passed' if outcome.passed else 'FAILED'} in {outcome.seconds:.1f} s"]
    if outcome.error:
        notes.append(outcome.error)
    columns = ("check", "measured", "stderr", "expected", "band", "verdict", "source")
    return fps.Table(f"{claim.GROUP}/{claim.NAME}", columns, rows, notes=tuple(notes))


def _record(outcomes: Sequence[Outcome], quick: bool) -> dict[str, object]:
    """Everything the tables say, with provenance, as plain JSON (infinite ends of bands as text)."""
    return {
        "finished": True,
        "passed": all(outcome.passed for outcome in outcomes),
        "quick": quick,
        "provenance": fps.io.provenance(claims=[outcome.claim.NAME for outcome in outcomes], quick=quick),
        "claims": [
            {
                "name": o.claim.NAME,
                "group": o.claim.GROUP,
                "claim": o.claim.CLAIM,
                "standing": o.claim.STANDING,
                "passed": o.passed,
                "error": o.error,
                "seconds": round(o.seconds, 3),
                "checks": [
                    {
                        "name": c.name,
                        "measured": _number(c.measured),
                        "stderr": _number(c.stderr),
                        "expected": _number(c.expected),
                        "band": [_number(end) for end in c.band],
                        "passed": c.passed,
                        "source": c.source,
                    }
                    for c in o.checks
                ],
            }
            for o in outcomes
        ],
    }


def _number(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".tmp")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
