"""What a run leaves in its folder: ``validation.json`` as soon as a claim is done, and ``report.html`` made of it."""

from __future__ import annotations

import inspect
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import fpsolve as fps

from . import Claim, Outcome
from ._groups import GROUPS
from ._page import page

__all__ = ["Report", "remake", "summary"]

RECORD, PAGE = "validation.json", "report.html"
#: The page, which has all pictures in it, is made anew as often as this many times what it takes.
SELDOM = 50.0


class Report:
    """The record of one run, on disk from the start; after a run that ended early it has the claims that were done.

    So has the page, but for the last seconds before a kill, which leaves no time to write it: `remake` makes it of the record.

    Parameters
    ----------
    out
        Folder, which exists. Figures and texts that claims leave there are theirs by name.
    claims
        All that will be run, in the order of the report.
    quick, jobs
        As in `run`.
    """

    def __init__(self, out: Path, claims: Sequence[Claim], *, quick: bool, jobs: int) -> None:
        self.out, self.claims, self.done = out, claims, dict[str, dict[str, Any]]()
        self.before = self._files()
        made = fps.io.provenance(claims=[claim.NAME for claim in claims], quick=quick)
        self.head = {"quick": quick, "jobs": jobs, "provenance": made}
        self.due = 0.0  # when the page may be made again
        self.write()

    def add(self, outcome: Outcome) -> None:
        """Write down what came of a claim."""
        name = outcome.claim.NAME
        mine = sorted(
            file for file, changed in self._files().items() if changed != self.before.get(file) and self._owner(file) == name
        )
        self.done[name] = _claim(outcome) | {
            "figures": [file for file in mine if file.endswith(".png")],
            "texts": [file for file in mine if file.endswith(".txt")],
        }
        self.write()

    def write(self, now: bool = False) -> None:
        """Both files, each whole or not at all; the page if it is due, or `now`, or if this is the last claim."""
        claims = [self.done[claim.NAME] for claim in self.claims if claim.NAME in self.done]
        pending = [claim.NAME for claim in self.claims if claim.NAME not in self.done]
        groups = dict.fromkeys(claim.GROUP for claim in self.claims)
        record = {
            "finished": not pending,
            "passed": not pending and all(claim["passed"] for claim in claims),
            "pending": pending,
            **self.head,
            "groups": {name: GROUPS[name].record() for name in groups if name in GROUPS},
            "claims": claims,
        }
        _write(self.out / RECORD, json.dumps(record, indent=1, allow_nan=False))
        begun = time.monotonic()
        if now or not pending or begun >= self.due:
            _write(self.out / PAGE, page(record, self.out))
            self.due = time.monotonic() + SELDOM * (time.monotonic() - begun)

    def _files(self) -> dict[str, int]:
        """Files that may be a claim's, and when they were written: what an earlier run has left is no part of this one."""
        return {path.name: path.stat().st_mtime_ns for path in self.out.iterdir() if path.suffix in (".png", ".txt")}

    def _owner(self, file: str) -> str:
        """The claim with the longest name that the file's begins with: `a-b.png` is not that of `a` if there is an `a-b`."""
        stem = file.rsplit(".", 1)[0]
        return max((c.NAME for c in self.claims if stem == c.NAME or stem.startswith(f"{c.NAME}-")), key=len, default="")


def remake(record: Path) -> tuple[Path, bool]:
    """The page once more from the record and the figures beside it; its path, and whether the run had finished and passed.

    Raises
    ------
    ValueError
        If the file is no record of a run.
    OSError
        If it cannot be read, or the page not be written.
    """
    record = record / RECORD if record.is_dir() else record
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        text = page(found, record.parent)
    except _WRONG as problem:
        raise _no_record(record, problem) from None
    target = record.with_name(PAGE)
    _write(target, text)
    return target, bool(found["finished"] and found["passed"])


#: What reading something else than a record may raise.
_WRONG = (KeyError, TypeError, AttributeError, ValueError, RecursionError)


def _no_record(record: Path, problem: Exception) -> ValueError:
    return ValueError(f"{record} is not the record of a validation run ({problem!r}); give a {RECORD}, or its folder")


def summary(record: Path) -> fps.Table:
    """Which claims of a recorded run passed.

    Raises
    ------
    ValueError
        If the file is no record of a run.
    OSError
        If it cannot be read.
    """
    record = record / RECORD if record.is_dir() else record
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        rows = [
            (
                f"{claim['group']}/{claim['name']}",
                "passed" if claim["passed"] else "FAILED",
                f"{sum(bool(check['passed']) for check in claim['checks'])} of {len(claim['checks'])}",
                float(claim["seconds"]),
                str(claim["error"]),
            )
            for claim in found["claims"]
        ]
        pending = [str(name) for name in found["pending"]]
        words = "quick" if found["quick"] else "full"
    except _WRONG as problem:
        raise _no_record(record, problem) from None
    passed = sum(row[1] == "passed" for row in rows)
    notes = [f"{passed} of {len(rows)} claims passed ({words} run)"]
    notes += [f"not run: {', '.join(pending)}"] if pending else []
    return fps.Table("validation", ("claim", "verdict", "checks", "seconds", "error"), rows, notes=tuple(notes))


def _claim(outcome: Outcome) -> dict[str, Any]:
    """A claim as plain JSON (infinite ends of bands as text)."""
    claim = outcome.claim
    return {
        "name": claim.NAME,
        "group": claim.GROUP,
        "claim": claim.CLAIM,
        "standing": claim.STANDING,
        "equation": getattr(claim, "EQUATION", "").strip(),
        "about": (inspect.getdoc(claim) or "") if isinstance(claim, ModuleType) else "",
        "passed": outcome.passed,
        "error": outcome.error,
        "seconds": round(outcome.seconds, 3),
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
            for c in outcome.checks
        ],
    }


def _number(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".tmp")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
