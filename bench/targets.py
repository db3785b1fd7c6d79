"""What fpsolve set out to reach beside what it reaches, in one table: docs/benchmarks.md.

Every section is one of the scripts beside this file, run in a process of its own; the rows that it writes are kept in a record of
this version with the commit, the processor and the load of the machine, and the page is made of the record. Times against packaged
peers are those of the record of `python bench/peers`, in which both sides have run in turn too. Measure on a machine that does
nothing else.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _rows import OURS, Row, load, times_as_fast
from _targets import CLAIMS, DENSITIES, FIGURES, NETWORKS, PATHS, STARTUP, TARGETS, WHAT, Reference, Target

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS, PAGE, PEERS = BENCH / "results", ROOT / "docs" / "benchmarks.md", BENCH / "peers" / "results"
BEGIN, END = "<!-- begin: made by python bench/targets.py --page -->", "<!-- end -->"
SCHEMA = "fpsolve targets 1"

EXAMPLES = """\
examples:
  python bench/targets.py                        every section but the figures: some 20 minutes; record and page
  python bench/targets.py feng-tu --full         all figures of a paper, quick and in full: 35 minutes
  python bench/targets.py paths networks         these sections anew, the others stay as they are in the record
  python bench/targets.py --rounds 1 --out trial.json   to see that it runs; the page is left alone
  python bench/targets.py --page                 the page from the record
  python bench/targets.py --list                 targets and sections"""


# ---- running ----------------------------------------------------------------------------------------------------------------


def script(name: str, rounds: int) -> Callable[[int | None, bool], list[Row]]:
    """The rows of a script beside this one, with its own number of rounds unless another is asked for."""

    def run(asked: int | None, full: bool) -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.json"
            call(str(BENCH / name), str(asked or rounds), "--json", str(path))
            return load(path)

    return run


def call(*words: str) -> None:
    """This Python with these words; what it prints is shown on standard error."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, *words], stdout=2, env={**os.environ, "PYTHONPATH": paths})
    if done.returncode:
        raise RuntimeError(f"`python {' '.join(words)}` ended with exit code {done.returncode}; what it said is above")


def validated(*words: str) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of the clock, and the claims of a run of `fpsolve validate` that passed."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        call("-m", "fpsolve", "validate", *words, "--no-progress", "--out", folder)
        seconds = time.perf_counter() - begin
        claims: list[dict[str, Any]] = json.loads((Path(folder) / "validation.json").read_text(encoding="utf-8"))["claims"]
        return seconds, claims


def checks(asked: int | None, full: bool) -> list[Row]:
    """Numbers of claims; one run is one round."""
    wanted, found = {target.case: target.unit for target in TARGETS if target.part == CLAIMS}, []
    for claim in validated("any-barrier", "high-order", "--full", "--jobs", "1")[1]:
        for check in claim["checks"]:
            case = f"{claim['name']}: {check['name']}"
            if case in wanted:
                found.append(Row(case, OURS, wanted[case], (float(check["measured"]),)))
    return found


def figures(asked: int | None, full: bool) -> list[Row]:
    return [
        Row(f"{FIGURES}, {size}", OURS, "s", (validated(FIGURES, f"--{size}")[0],))
        for size in ("quick", "full")[: 2 if full else 1]
    ]


SECTIONS: dict[str, Callable[[int | None, bool], list[Row]]] = {
    PATHS: script("speed_of_paths.py", 9),
    DENSITIES: script("speed_of_fokker_planck.py", 3),
    NETWORKS: script("speed_of_networks.py", 5),
    STARTUP: script("first_call.py", 5),
    CLAIMS: checks,
    FIGURES: figures,
}


def measured(name: str, rounds: int | None, full: bool) -> dict[str, Any]:
    """A section of the record."""
    import fpsolve as fps

    begin, before = time.perf_counter(), os.getloadavg()
    rows = SECTIONS[name](rounds, full)
    origin = fps.io.provenance(load_average_before=list(before), load_average_after=list(os.getloadavg()),
                               seconds=round(time.perf_counter() - begin, 1))  # fmt: skip
    for private in ("host", "argv"):
        origin.pop(private)
    return {"provenance": origin, "rows": [asdict(row) for row in rows]}


# ---- judging ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """A target, its row, and (reference, ratio or None, ratio needed) of each reference; None is not measured."""

    target: Target
    ratios: tuple[tuple[Reference, float | None, float], ...]
    values: dict[str, float]
    ours: Row | None

    @property
    def number(self) -> float | None:
        return None if self.ours is None else self.ours.median

    @property
    def accurate(self) -> bool:
        """Whether the answer is as good as the target asks for, where it asks for something."""
        error = None if self.ours is None else self.ours.error
        return self.target.error is None or (error is not None and error < self.target.error)

    @property
    def met(self) -> bool | None:
        """Whether the number reaches the target."""
        if self.number is None:
            return None
        return self.number <= self.target.limit if self.target.most else self.number >= self.target.limit

    @property
    def holds(self) -> bool | None:
        """Whether every ratio that was measured reaches what the table implies; None without one."""
        known = [ratio >= needed for _, ratio, needed in self.ratios if ratio is not None]
        return all(known) if known else None

    @property
    def verdict(self) -> str:
        """The ratio decides where there is one: it depends on the machine less than the number."""
        if self.number is None:
            return "not run"
        return "reached" if self.accurate and (self.met if self.holds is None else self.holds) else "short"


def rows_of(section: dict[str, Any]) -> dict[tuple[str, str], Row]:
    rows = [Row(**{**row, "rounds": tuple(row["rounds"]), "seconds": tuple(row["seconds"])}) for row in section["rows"]]
    return {(row.case, row.way): row for row in rows}


def judged(record: dict[str, Any]) -> list[Outcome]:
    """All targets in the order of the list."""
    found, packaged = [], (record.get("peers") or {"ratios": {}})["ratios"]
    for target in TARGETS:
        rows = rows_of(record["sections"][target.part]) if target.part in record["sections"] else {}
        ours = rows.get((target.case, OURS))
        ratios = []
        for reference in target.references:
            if reference.problem:
                ratio = packaged.get(key(target, reference))
            else:
                other = rows.get((target.case, reference.way))
                ratio = times_as_fast(ours, other) if ours and other else None
            ratios.append((reference, ratio, target.needed(reference)))
        values = {} if ours is None else beside(ours, rows)
        found.append(Outcome(target, tuple(ratios), values, ours))
    return found


def beside(ours: Row, rows: dict[tuple[str, str], Row]) -> dict[str, float]:
    """What the words of a bound may name: times of other ways, and of other cases, over ours; numbers of other ways."""
    values = {}
    for (case, way), row in rows.items():
        name = way if case == ours.case else case if way == OURS else None
        if name is not None and row is not ours:
            values[f"number of {name}"] = row.median
            if row.unit in ("1", "times"):
                values[name] = row.median
            elif row.unit == ours.unit and len(row.rounds) == len(ours.rounds):
                values[name] = times_as_fast(ours, row)
    return values


def among_peers(peers: dict[str, Any], part: str, reference: Reference) -> float | None:
    """Processor time of the quickest way of a package over ours, for as many steps, in the record of the peers."""
    for problem in peers["problems"]:
        if problem["group"] == part and reference.problem.lower() in problem["name"].lower():
            costs: dict[bool, list[float]] = {True: [], False: []}
            for way in problem["ways"]:
                if way["status"] == "ok" and way["rounds"] and (way["ours"] or way["package"] == reference.way):
                    costs[way["ours"]].append(statistics.median(one["cpu"] for one in way["rounds"]) / (way["work"] or 1.0))
            return min(costs[False]) / min(costs[True]) if costs[False] and costs[True] else None
    return None


def from_peers(path: Path) -> dict[str, Any] | None:
    """What the record of the peers, if there is one, says of the packaged references: part of our own record from then on."""
    try:
        peers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if peers["provenance"]["parameters"]["quick"]:  # of small problems, which no target is about
            return {"provenance": peers["provenance"], "ratios": {}}
        ratios = {
            key(target, reference): among_peers(peers, target.part, reference)
            for target in TARGETS
            for reference in target.references
            if reference.problem
        }
        return {"provenance": peers["provenance"], "ratios": ratios}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"{path} is not a record of the peers ({problem!r}): `python bench/peers` makes it") from None


def key(target: Target, reference: Reference) -> str:
    return f"{target.case} / {reference.name}"


# ---- the page ---------------------------------------------------------------------------------------------------------------


def shown(value: float, unit: str) -> str:
    if unit == "error":
        return f"{value:.1e}"
    if unit == "s":
        return f"{1e3 * value:.3g} ms" if value < 0.1 else f"{value:.3g} s" if value < 100 else f"{value:.0f} s"
    if unit == "steps/s":
        return f"{value:.0f} /s"
    return f"{value:.3g}" if unit == "times" else f"{value:.3g} {unit}"


def limit(target: Target) -> str:
    return f"{'≤' if target.most else '≥'} {shown(target.limit, target.unit)}"


def as_number(outcome: Outcome) -> str:
    ours = outcome.ours
    if ours is None:
        return ""
    words = [shown(ours.median, ours.unit if ours.unit != "1" else outcome.target.unit)]
    if ours.unit == "s" and ours.seconds:
        words.append(f"of the processor {shown(statistics.median(ours.seconds), 's')}")
    if ours.error is not None:
        words.append(f"error {ours.error:.1e}")
    return ", ".join(words)


def times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def as_ratio(outcome: Outcome) -> str:
    return "; ".join(
        f"{reference.name}: {'not run' if ratio is None else times(ratio)} (≥ {times(needed)})"
        for reference, ratio, needed in outcome.ratios
    )


def bound_in_words(outcome: Outcome) -> str:
    """The bound, and where the number or a ratio is short, why; what was not measured is a dash."""

    class Known(dict[str, float]):
        def __missing__(self, name: str) -> "Dash":
            return Dash()

    words = [outcome.target.bound]
    if outcome.met is False or outcome.holds is False:
        words.append("; ".join([f"**Short:** {outcome.target.short}", *quicker_than_in_the_table(outcome)]))
    return ". ".join(text.format_map(Known(outcome.values)) for text in words)


def quicker_than_in_the_table(outcome: Outcome) -> list[str]:
    """References whose ratio is short because they are a tenth quicker here, or more, than where the table was made."""
    found = []
    for reference, ratio, needed in outcome.ratios:
        if reference.table is None or ratio is None or ratio >= needed or outcome.number is None:
            continue
        here = outcome.number * ratio if outcome.target.most else outcome.number / ratio
        if max(here / reference.table, reference.table / here) > 1.1 and (here < reference.table) is outcome.target.most:
            unit = outcome.target.unit
            found.append(f"{reference.name}: {shown(here, unit)} here, {shown(reference.table, unit)} in the table")
    return found


class Dash:
    """What stands for a number that there is none of, in any format."""

    def __format__(self, form: str) -> str:
        return "–"


def origin_of(name: str, section: dict[str, Any]) -> str:
    at = section["provenance"]
    more, versions = at["parameters"], at["versions"]
    loads = " and ".join(f"{more[f'load_average_{when}'][0]:.1f}" for when in ("before", "after"))
    packages = ", ".join(f"{package} {versions[package]}" for package in ("python", "numpy", "scipy", "numba"))
    rounds = max(len(row["rounds"]) for row in section["rows"])
    commit, what = (at["git_commit"] or "unknown")[:10], f"{WHAT[name][1][0].upper()}{WHAT[name][1][1:]}"
    return (
        f"{what}. {at['created'][:10]}, commit {commit}, {at['cpu']}, {at['cpu_count']} processors, load average {loads} before "
        f"and after; {packages}; medians of {rounds} round{'s' if rounds > 1 else ''}, {more['seconds']:.0f} s in all."
    )


def markdown(record: dict[str, Any]) -> str:
    outcomes, peers = judged(record), record.get("peers")
    lines = [summary(outcomes), ""]
    if peers is not None:
        at = peers["provenance"]
        loads = [at["parameters"][f"load_average_{when}"][0] for when in ("before", "after")]
        run = f"`python bench/peers` of {at['created'][:10]}, load average {loads[0]:.1f} before and {loads[1]:.1f} after"
        used = f"Ratios to packaged peers are those of {run}; both sides ran in turn there."
        lines += [used if peers["ratios"] else f"No ratios to packaged peers: {run}, had small problems only.", ""]
    for name in SECTIONS:
        mine = [outcome for outcome in outcomes if outcome.target.part == name]
        lines += [f"## {WHAT[name][0]}", ""]
        lines += [origin_of(name, record["sections"][name]) if name in record["sections"] else "Not run.", ""]
        lines += ["| job | target | measured | times as fast as (needed) | |", "|---|---|---|---|---|"]
        for one in mine:
            lines.append(f"| {one.target.job} | {limit(one.target)} | {as_number(one)} | {as_ratio(one)} | {one.verdict} |")
        lines += ["", "What bounds it:", ""]
        lines += [f"- {one.target.job}: {bound_in_words(one)}." for one in mine] + [""]
    return "\n".join(lines).rstrip("\n")


def summary(outcomes: list[Outcome]) -> str:
    count = {word: sum(one.verdict == word for one in outcomes) for word in ("reached", "short", "not run")}
    only = sum(one.verdict == "reached" and one.met is False for one in outcomes)
    return (
        f"{len(outcomes)} targets: {count['reached']} reached, {only} of them by their ratio alone; {count['short']} short; "
        f"{count['not run']} not run."
    )


def with_tables(page: str, record: dict[str, Any]) -> str:
    """The page with the tables of the record in their place."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page has no place for the tables: it needs the lines {BEGIN!r} and {END!r}, once each")
    return page[: page.index(BEGIN) + len(BEGIN)] + "\n\n" + markdown(record) + "\n\n" + page[page.index(END) :]


# ---- the command ------------------------------------------------------------------------------------------------------------


def record_of(folder: Path) -> Path:
    import fpsolve as fps

    return folder / f"{fps.__version__}.json"


def read(path: Path, missing: bool = False) -> dict[str, Any]:
    """A record of targets; with `missing`, an empty one where there is none."""
    if missing and not path.exists():
        return {"schema": SCHEMA, "sections": {}}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(f"{path} cannot be read ({problem}): `python bench/targets.py` makes it") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a record of targets: its schema is not {SCHEMA!r}")
    return found


def write(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def parser() -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(
        "python bench/targets.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    own.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all but {FIGURES}; the others stay)"
    )
    own.add_argument("--rounds", type=int, metavar="N", help="rounds of every script, 1 to 999 (default: its own)")
    own.add_argument("--full", action="store_true", help=f"{FIGURES} in full, too")
    own.add_argument("--out", type=Path, metavar="FILE", help="the record (default: that of this version; then the page is made)")
    own.add_argument("--page", action="store_true", help="make the page from the record, run nothing")
    own.add_argument("--list", action="store_true", help="list the targets, run nothing")
    return own


def check(options: argparse.Namespace) -> list[str]:
    """The sections to run; whatever is wrong is told before any work."""
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        raise ValueError(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if options.rounds is not None and not 1 <= options.rounds <= 999:
        raise ValueError(f"--rounds must lie in 1 .. 999: got {options.rounds}")
    if (options.page or options.list) and options.sections:
        raise ValueError("--page and --list run nothing: leave the sections out")
    chosen = options.sections or [name for name in SECTIONS if name != FIGURES]
    if options.full and FIGURES not in chosen:
        raise ValueError(f"--full is for the section {FIGURES}: name it")
    if options.out is not None and not options.out.absolute().parent.is_dir():
        raise ValueError(f"the folder of {options.out} does not exist; create it first")
    return list(dict.fromkeys(chosen))


def make_page(record: dict[str, Any]) -> None:
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), record), encoding="utf-8")


def run(options: argparse.Namespace) -> int:
    chosen = check(options)
    if options.list:
        for target in TARGETS:
            beside = ", ".join(f"{reference.name} {times(target.needed(reference))}" for reference in target.references)
            print(f"{target.part}: {target.job}: {limit(target)}" + (f"; times as fast as {beside}" if beside else ""))
        return 0
    path = options.out or record_of(RESULTS)
    record = read(path, missing=not options.page)
    record["peers"] = from_peers(record_of(PEERS)) or record.get("peers")
    if options.page:
        write(path, record)
        make_page(record)
        return 0
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        record["sections"][name] = measured(name, options.rounds, options.full)
        write(path, record)
        if options.out is None:
            make_page(record)
    outcomes = judged(record)
    for one in outcomes:
        words = f"{one.target.part}: {one.target.job}: {as_number(one) or '-'} ({limit(one.target)})"
        print("; ".join(filter(None, (f"{one.verdict:8} {words}", as_ratio(one)))))
    print(f"{summary(outcomes)} Record: {path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, whatever was reached; 1 a script failed; 2 wrong usage or input."""
    try:
        return run(parser().parse_args(argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    except (ValueError, OSError) as problem:
        print(f"python bench/targets.py: {problem}", file=sys.stderr)
        return 2
    except RuntimeError as problem:
        print(f"python bench/targets.py: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("python bench/targets.py: interrupted; the sections that were done are in the record", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
