"""The command line of the suite."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import _page, _run
from ._case import CannotDo, Problem

ROOT = _run.BENCH.parent
RESULTS, PAGE, FIGURE = _run.BENCH / "peers" / "results", ROOT / "docs" / "peers.md", ROOT / "docs" / "figures" / "peers.png"
GROUPS = {"Fokker-Planck": "peers.fokker_planck", "paths": "peers.paths", "networks": "peers.networks"}
#: Rounds of a run that asks for no number, of all problems and of the small ones.
ROUNDS, QUICK_ROUNDS = 5, 2

DESCRIPTION = """\
The same problems put to fpsolve and to other packages, each in a process of its own with one thread, in alternating rounds:
time, accuracy and memory side by side. A package that is not installed, fails, or cannot do a problem is a row with the reason."""
EXAMPLES = """\
examples:
  python bench/peers --list                         what there is
  python bench/peers --quick                        small versions of everything, into build/peers
  python bench/peers --group paths --rounds 3       one group
  python bench/peers --problem "double well"        problems by a part of their name
  python bench/peers                                everything: the record of this version, the page and the figure
  python bench/peers --problem eigenpairs --again   these anew, the others stay as they are in the record
  python bench/peers --page                         page and figure from the record"""


def parser() -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(
        "python bench/peers", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    own.add_argument("--list", action="store_true", help="list the problems and the ways of each, run nothing")
    own.add_argument("--page", action="store_true", help="make page and figure from the record of this version, run nothing")
    own.add_argument("--group", choices=list(GROUPS), help="problems of this group only")
    own.add_argument("--problem", metavar="TEXT", help="problems whose name has this in it, in any case of letters")
    own.add_argument("--again", action="store_true", help="the chosen problems replace those in the record of this version")
    own.add_argument("--quick", action="store_true", help="small versions of the problems")
    own.add_argument("--rounds", type=positive(int), metavar="N", help=f"rounds (default: {ROUNDS}; with --quick {QUICK_ROUNDS})")
    own.add_argument(
        "--timeout", type=positive(float), default=300.0, metavar="S", help="seconds an answer may take (default: 300)"
    )
    own.add_argument("--out", type=Path, metavar="DIR", help="folder of record, table and figure (default: build/peers; a complete "
                     "run leaves the record in bench/peers/results and makes docs/peers.md and its figure)")  # fmt: skip
    return own


def positive(kind: type) -> Any:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number above 0")
        return value

    return read


def chosen(group: str | None, text: str | None) -> list[tuple[str, Problem]]:
    """Modules and problems that are asked for."""
    modules = [GROUPS[group]] if group else list(GROUPS.values())
    found = [(module, problem) for module in modules for problem in importlib.import_module(module).problems()]
    kept = [one for one in found if text is None or text.lower() in one[1].name.lower()]
    if not kept:
        names = "; ".join(problem.name for _, problem in found) or "none"
        raise ValueError(f"no problem has {text!r} in its name; there are: {names}" if text else "there are no problems")
    return kept


def listed(problems: list[tuple[str, Problem]]) -> str:
    lines = []
    for _, problem in problems:
        lines += [f"{problem.group}: {problem.name}", f"    {problem.question}", f"    reference: {problem.reference}"]
        for way in (problem.ours, *problem.peers):
            cannot = f" (cannot: {way.reason})" if isinstance(way, CannotDo) else ""
            lines.append(f"  - {_run.named(way.name, _run.version_of(way.package))}{cannot}")
    return "\n".join(lines)


def record_of(folder: Path) -> Path:
    import fpsolve as fps

    return folder / f"{fps.__version__}.json"


def read(record: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{record} cannot be read ({error}): `python bench/peers` makes it") from error
    return found


def renewed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """A record whose problems are those of `after` where it has them, which say so."""
    new = {(one["group"], one["name"]): {**one, "provenance": after["provenance"]} for one in after["problems"]}
    return {**before, "problems": [new.get((one["group"], one["name"]), one) for one in before["problems"]]}


def make_page(record: Path, page: Path = PAGE, figure: Path = FIGURE) -> None:
    """Page and figure from a record."""
    found = read(record)
    text = _page.with_table(page.read_text(encoding="utf-8"), found)
    _page.figure(found, figure)
    page.write_text(text, encoding="utf-8")


def run(args: argparse.Namespace) -> int:
    if args.again and (args.quick or args.out):
        raise ValueError("--again belongs to the record of this version: leave --quick and --out away")
    problems = chosen(args.group, args.problem)
    before = read(record_of(RESULTS)) if args.again else None
    complete = args.again or not (args.group or args.problem or args.quick or args.out)
    out = args.out or (RESULTS if complete else ROOT / "build" / "peers")
    out.mkdir(parents=True, exist_ok=True)
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    record = _run.suite(
        problems, rounds=rounds, timeout=args.timeout, quick=args.quick, tell=lambda line: print(line, file=sys.stderr, flush=True)
    )
    target = record_of(out)
    if before is not None:
        record = renewed(before, record)
    partial = target.with_suffix(".tmp")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(target)
    print(_page.text_table(record))
    if complete:
        make_page(target)
    else:
        (out / "peers.md").write_text(_page.markdown(record) + "\n", encoding="utf-8")
        if any(way["status"] == "ok" for problem in record["problems"] for way in problem["ways"]):
            _page.figure(record, out / "peers.png")
    print(f"record: {target}", file=sys.stderr)
    return 0 if all(problem["ways"][0]["status"] == "ok" for problem in record["problems"]) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 fpsolve itself gave no answer, 2 wrong usage or input."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    os.environ["FPSOLVE_PEERS_QUICK"] = str(int(args.quick))
    try:
        if args.page:
            make_page(record_of(RESULTS))
        elif args.list:
            print(listed(chosen(args.group, args.problem)))
        else:
            return run(args)
    except (ValueError, OSError) as error:
        print(f"python bench/peers: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("python bench/peers: interrupted", file=sys.stderr)
        return 130
    return 0
