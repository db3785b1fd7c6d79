"""What `fpsolve run` can ask of the claims: ``[task] name = "claim"`` checks one and returns what was measured.

Found by the entry-point group ``fpsolve.tasks``, like `nets.tasks`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import Claim, discover, select

__all__ = ["ClaimTask", "claim"]


def _options(claim: str, quick: bool = True) -> None:
    """The keys of [task]."""


class ClaimTask:
    """One claim of the theory, checked against simulation: ``claim = "double-well"``, ``quick = true``."""

    tables: Mapping[str, tuple[Callable[..., Any], frozenset[str]]] = {}
    optional = ()
    options = staticmethod(_options)

    @staticmethod
    def _claim(tables: Mapping[str, Any]) -> Claim:
        name, claims = tables["task"]["claim"], discover()
        try:
            chosen = select(claims, [name])
        except ValueError as error:
            raise ValueError(f"[task] claim: {error}") from None
        found = [one for one in chosen if name == one.NAME]
        if not found:
            members = ", ".join(one.NAME for one in chosen)
            raise ValueError(f"[task] claim = {name!r} is a group; name one of its claims: {members}")
        return found[0]

    def check(self, tables: Mapping[str, Any]) -> None:
        """There is such a claim."""
        self._claim(tables)

    def run(self, tables: Mapping[str, Any], *, progress: bool = False) -> dict[str, Any]:
        """Check the claim; its figures are not kept.

        Returns
        -------
        dict
            claim, passed and failed (numbers of checks), and in the order of the checks their names, measured, stderr, expected,
            low and high.
        """
        claim = self._claim(tables)
        with tempfile.TemporaryDirectory() as folder:
            checks = claim.run(tables["task"]["quick"], Path(folder), progress)
        passed = sum(check.passed for check in checks)
        return {
            "claim": claim.NAME,
            "passed": passed,
            "failed": len(checks) - passed,
            "checks": [check.name for check in checks],
            "measured": [float(check.measured) for check in checks],
            "stderr": [float(check.stderr) for check in checks],
            "expected": [float(check.expected) for check in checks],
            "low": [float(check.band[0]) for check in checks],
            "high": [float(check.band[1]) for check in checks],
        }


#: Found by fpsolve.
claim = ClaimTask()
