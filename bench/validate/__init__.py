"""Claims of the theory, each checked against simulation (installed as ``fpsolve_validation``).

A claim is a module of this package with five names::

    NAME = "double-well"            # what `fpsolve validate NAME` calls it
    GROUP = "kramers"               # the paper or topic it belongs to; `fpsolve validate GROUP` runs the whole group
    CLAIM = "Mean exit times from PDE, paths and quadrature agree."      # one sentence
    STANDING = "derived"            # "stated by the paper", "derived" or "recalled"

    def run(quick: bool, out: Path, progress: bool) -> list[Check]: ...  # figures go to `out`, named after NAME

Two more are optional. ``EQUATION``: the formula that is tested, a line or a few, written as `_formula` reads them. ``SHARED``: the
name of work that is done once in a process, such as a trained network; claims of the same SHARED run in one process, one after
another. Without it they are no less right, only slower.

The runner prints one table per claim, and writes ``validation.json`` and ``report.html``, one page with all of it: also the
docstring of the claim, and its figures (``NAME.png``, ``NAME-*.png``) and texts (``.txt``). A claim that raises, that returns no
check, or whose process dies, has failed. Names that start with an underscore are helpers, not claims.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import fpsolve as fps

__all__ = ["Check", "Claim", "Outcome", "check_claim", "discover", "listing", "names", "remake", "run", "select", "summary"]

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
    """Return `claim` if it has everything that a claim needs; ValueError says what is missing or cannot be read."""
    missing = [name for name in ("NAME", "GROUP", "CLAIM", "STANDING", "run") if not hasattr(claim, name)]
    if missing:
        raise ValueError(f"{where} is not a claim: it lacks {', '.join(missing)}")
    if claim.STANDING not in STANDINGS:  # type: ignore[attr-defined]
        raise ValueError(f"{where}: STANDING is {claim.STANDING!r}; it must be one of {STANDINGS}")  # type: ignore[attr-defined]
    from ._formula import mathml

    for line in getattr(claim, "EQUATION", "").strip().splitlines():
        mathml(line)
    return claim  # type: ignore[return-value]


def discover(path: Iterable[str] | None = None) -> list[Claim]:
    """Every claim of this package, ordered by group and name."""
    names = [info.name for info in pkgutil.iter_modules(__path__ if path is None else path)]
    claims = [check_claim(importlib.import_module(f"{__name__}.{n}"), n) for n in names if not n.startswith("_")]
    return sorted(claims, key=lambda claim: (claim.GROUP, claim.NAME))


def names() -> list[str]:
    """Names of the claims and of their groups, read from the sources: importing them all takes seconds."""
    found = set()
    for source in Path(__file__).parent.glob("*.py"):  # groups of several claims stand in their helpers
        found.update(re.findall(r'^(?:NAME|GROUP) = "([^"]+)"$', source.read_text(encoding="utf-8"), re.M))
    return sorted(found)


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
    """Run the claims, print their tables, write ``out/validation.json`` and ``out/report.html``.

    The record is written after every claim, the page from time to time and at the end, also of a run that is interrupted: what ends
    the run early leaves the claims that were done.

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
    from . import _report, _runner

    jobs = _runner.default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}; give the number of claims to run at a time, 1 or more")
    if not claims:
        raise ValueError("no claim to run; `fpsolve validate --list` shows what there is")
    out.mkdir(parents=True, exist_ok=True)
    report = _report.Report(out, claims, quick=quick, jobs=jobs)

    def show(outcome: Outcome) -> None:
        print(_table(outcome), end="\n\n", flush=True)
        report.add(outcome)

    try:
        outcomes = _runner.outcomes(claims, jobs=jobs, quick=quick, out=out, progress=progress, show=show)
    except BaseException:
        report.write(now=True)  # with the claims that were done
        raise
    failed = [outcome.claim.NAME for outcome in outcomes if not outcome.passed]
    verdict = f"failed: {', '.join(failed)}" if failed else "all passed"
    checks = sum(len(outcome.checks) for outcome in outcomes)
    print(f"{len(outcomes)} claims, {checks} checks, {verdict}; details in {out / _report.RECORD}, to read in {out / _report.PAGE}")
    return 1 if failed else 0


def remake(record: Path) -> int:
    """Make ``report.html`` once more from a ``validation.json`` (or its folder), after a change of the page or an older run.

    Returns
    -------
    int
        0 if the run had finished and every check passed, else 1.

    Raises
    ------
    ValueError
        If the file is no record of a run.
    OSError
        If it cannot be read, or the page cannot be written.
    """
    from . import _report

    target, passed = _report.remake(record)
    print(target)
    return 0 if passed else 1


def summary(record: Path) -> fps.Table:
    """Which claims of a recorded run passed: of a ``validation.json``, or the folder of one.

    Raises
    ------
    ValueError
        If the file is no record of a run.
    OSError
        If it cannot be read.
    """
    from . import _report

    return _report.summary(record)


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
