"""What a benchmark measured, as rows that another program can read: the `--json FILE` of the scripts in this folder."""

import argparse
import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

OURS = "fpsolve"


@dataclass(frozen=True)
class Row:
    """One way of doing one case: a number for every round, in the order of the rounds.

    `rounds` are in `unit`; where that is not a time, `seconds` are those of the processor in the same rounds, from which ratios
    are made if both sides have them. `error` is that of the answer, where there is something to compare it with.
    """

    case: str
    way: str
    unit: str
    rounds: tuple[float, ...]
    seconds: tuple[float, ...] = ()
    error: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def times_as_fast(ours: Row, other: Row) -> float:
    """Median over the rounds of how many times as fast the first is: seconds of the other over its own, or rates the other way."""
    if ours.unit == other.unit == "s":
        pairs = zip(other.rounds, ours.rounds, strict=True)
    elif ours.seconds and other.seconds:
        pairs = zip(other.seconds, ours.seconds, strict=True)
    else:
        pairs = zip(ours.rounds, other.rounds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """A command line with the number of rounds and a file for the rows."""

    def number(text: str) -> int:
        if not text.isdecimal() or not 0 < int(text) < 1000:
            raise argparse.ArgumentTypeError(f"the number of rounds is a whole number from 1 to 999, not {text!r}")
        return int(text)

    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=number, default=rounds, help="how often every case is run (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    return parser


def save(path: Path | None, rows: Iterable[Row]) -> None:
    """Write the rows, if there is a file to write them to."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> list[Row]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{**row, "rounds": tuple(row["rounds"]), "seconds": tuple(row["seconds"])}) for row in found]
