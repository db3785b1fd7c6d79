"""What is shown of a record: the table as text and Markdown, the figure, and the page of the documentation made of both."""

import math
import statistics
from pathlib import Path
from typing import Any

#: What stands between these lines of a page is the table.
BEGIN, END = "<!-- begin: made by python bench/peers --page -->", "<!-- end -->"
COLUMNS = ("problem", "way", "speed", "times fpsolve", "error", "ready, s", "MB", "remark")


def cpu_per_call(way: dict[str, Any]) -> float:
    """Median seconds of the processor of a call; nan without rounds."""
    return max(statistics.median(one["cpu"] for one in way["rounds"]), 1e-9) if way.get("rounds") else math.nan


def cost(way: dict[str, Any]) -> float:
    """Seconds of the processor for a call, or for one step where the problem counts steps."""
    return cpu_per_call(way) / (way["work"] or 1.0)


def per_second(problem: dict[str, Any], way: dict[str, Any]) -> float:
    """Steps per second of the processor, in the thousands or millions that the unit begins with."""
    return {"k": 1e-3, "M": 1e-6}[problem["unit"][0]] / cost(way)


def speed(problem: dict[str, Any], way: dict[str, Any]) -> str:
    if problem["work"] is None:
        return f"{1e3 * cost(way):.3g} ms"
    return f"{per_second(problem, way):.3g} {problem['unit']}"


def error(way: dict[str, Any]) -> str:
    if way["stderr"] is None:
        return f"{way['error']:.1e}"
    return f"{100 * way['error']:.2g} ± {100 * way['stderr']:.2g} %"


def row(problem: dict[str, Any], way: dict[str, Any]) -> tuple[str, ...]:
    ours = problem["ways"][0]
    name = f"**{way['name']}**" if way["ours"] else way["name"]
    if way["status"] != "ok":
        word = {"cannot": "cannot", "missing": "not installed"}.get(way["status"], way["status"])
        return "", name, word, "", "", "", "", way["reason"]
    ratio = cost(way) / cost(ours) if ours["status"] == "ok" else math.nan
    return (
        "", name, speed(problem, way), "" if way["ours"] or math.isnan(ratio) else f"{ratio:.3g}", error(way),
        f"{way['prepare']['wall']:.3g}", f"{way['peak_mb']:.0f}", way["note"],
    )  # fmt: skip


def in_order(problem: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours, then the others from the quickest on, then those without an answer."""
    others = problem["ways"][1:]
    done = sorted((way for way in others if way["status"] == "ok"), key=cost)
    return [problem["ways"][0], *done, *(way for way in others if way["status"] != "ok")]


def rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    found = []
    for problem in record["problems"]:
        for i, way in enumerate(in_order(problem)):
            found.append((f"{problem['group']}: {problem['name']}" if i == 0 else "", *row(problem, way)[1:]))
    return found


def origin(record: dict[str, Any]) -> str:
    """The run in one line: when, where, how; and what was measured apart from it."""
    version = record["version"]
    apart = [one for one in record["problems"] if "provenance" in one]
    again = [f" Apart from it, {one['name']}: {run_in_words(version, one['provenance'])}" for one in apart]
    return run_in_words(version, record["provenance"]) + "".join(again)


def run_in_words(version: str, at: dict[str, Any]) -> str:
    settings, commit = at["parameters"], (at["git_commit"] or "unknown")[:10]
    load = " and ".join(f"{settings[f'load_average_{when}'][0]:.1f}" for when in ("before", "after"))
    size = "small problems (--quick), " if settings["quick"] else ""
    return (
        f"fpsolve {version}, {at['created'][:10]}, commit {commit}; {at['cpu']}, one thread; {size}medians of up to "
        f"{settings['rounds']} alternating rounds of processor time; load average {load} before and after; "
        f"{settings['seconds']:.0f} s in all."
    )


def text_table(record: dict[str, Any]) -> str:
    import fpsolve as fps

    plain = [tuple(cell.replace("**", "") for cell in one) for one in rows(record)]
    return str(fps.Table("fpsolve and its peers", COLUMNS, plain, notes=(origin(record),)))


def markdown(record: dict[str, Any]) -> str:
    """The table, and under it the problems in words."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    table = [line(COLUMNS), line(("---",) * 2 + ("---:",) * 5 + ("---",)), *map(line, rows(record))]
    words = []
    for problem in record["problems"]:
        words += ["", f"**{problem['group']}: {problem['name']}.** {problem['question']} Reference: {problem['reference']}."]
    return "\n".join([origin(record), "", *table, *words])


def with_table(page: str, record: dict[str, Any]) -> str:
    """The page with the table of the record in its place."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page has no place for the table: it needs the lines {BEGIN!r} and {END!r}, once each")
    return page[: page.index(BEGIN) + len(BEGIN)] + "\n\n" + markdown(record) + "\n\n" + page[page.index(END) :]


# ---- the figure -------------------------------------------------------------------------------------------------------------


def family(way: dict[str, Any]) -> str:
    """The first word of the name: ways of one package share a colour."""
    return str(way["name"].split()[0].rstrip(",;:"))


def figure(record: dict[str, Any], path: Path) -> None:
    """A panel per problem: seconds of the processor against the error, or rates where steps are counted."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    problems = [p for p in record["problems"] if any(way["status"] == "ok" for way in p["ways"])]
    if not problems:
        raise ValueError("no problem of this record has an answer: there is nothing to draw")
    names = sorted({family(way) for p in problems for way in p["ways"] if way["status"] == "ok"} - {"fpsolve"})
    palette = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8c564b", "#7f7f7f", "#bcbd22", "#9467bd", "#d62728"]
    colours = {name: palette[i % len(palette)] for i, name in enumerate(names)} | {"fpsolve": "black"}
    columns = min(3, len(problems))
    tall = math.ceil(len(problems) / columns)
    drawing = Figure(figsize=(4.4 * columns, 3.5 * tall), layout="constrained")
    FigureCanvasAgg(drawing)
    for k, problem in enumerate(problems):
        ax = drawing.add_subplot(tall, columns, k + 1)
        ax.set_title(f"{problem['group']}: {problem['name']}", fontsize=8)
        done = [way for way in in_order(problem) if way["status"] == "ok"]
        draw = _rates if problem["work"] is not None else _errors
        draw(ax, problem, done, [colours[family(way)] for way in done])
        ax.tick_params(labelsize=7)
    drawing.savefig(path, dpi=110)


def short(way: dict[str, Any]) -> str:
    """The name without the version."""
    return str(way["name"].replace(f" {way['version']}", "", 1))


def _errors(ax: Any, problem: dict[str, Any], ways: list[dict[str, Any]], colours: list[str]) -> None:
    """An error above ten is drawn at ten, one below 1e-16 there."""
    from matplotlib.ticker import NullFormatter

    x = [min(max(abs(way["error"]), 1e-16), 10.0) for way in ways]
    y = [cost(way) for way in ways]
    for i, (way, colour) in enumerate(zip(ways, colours, strict=True)):
        marker = "*" if way["ours"] else "os^vDPXp"[i % 8]
        ax.plot(x[i], y[i], marker, color=colour, ms=11 if way["ours"] else 6, label=short(way), ls="")
    for values, scale, limits in ((x, ax.set_xscale, ax.set_xlim), (y, ax.set_yscale, ax.set_ylim)):
        scale("log")
        limits(10.0 ** (math.floor(math.log10(min(values) * 0.7))), 10.0 ** (math.ceil(math.log10(max(values) * 1.4))))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("relative error", fontsize=7)
    ax.set_ylabel("processor seconds", fontsize=7)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=2, frameon=False)


def _rates(ax: Any, problem: dict[str, Any], ways: list[dict[str, Any]], colours: list[str]) -> None:
    values = [per_second(problem, way) for way in ways]
    left = min(values) / 3
    ax.barh(range(len(ways)), values, color=colours, height=0.36)
    ax.set_xscale("log")
    ax.set_xlim(left, max(values) * 3)
    for place, value, way in zip(range(len(ways)), values, ways, strict=True):
        ax.text(left * 1.05, place - 0.22, f"{short(way)}: {value:.3g}  ({error(way)})", va="bottom", fontsize=7)
    ax.set_yticks([])
    ax.set_ylim(len(ways) - 0.5, -0.8)
    ax.set_xlabel(f"{problem['unit']}, per second of the processor (error)", fontsize=7)
