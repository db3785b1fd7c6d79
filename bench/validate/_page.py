"""The record of a validation run as one page of HTML that needs nothing else: no script, no font, no picture from elsewhere.

The page is a tree of elements, so that whatever text a claim, an error or a path has is text on the page as well.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

from ._bands import digits, picture, room
from ._elements import cut, embedded
from ._elements import element as _e
from ._formula import mathml
from ._style import CSS

__all__ = ["page"]

_LEGEND = (
    "A check has passed if the measured value lies in its band, ends included. ± is a standard error; numbers without it are "
    "deterministic. How a band was found is said with each claim: most are derived, some were set after a first run.",
    "Room is the distance of the measured value from the nearer end of its band, in widths of the band: 50 % is its middle, 0 % "
    "its end, and below that the check has failed. Where theory puts the value at one end, or the band is open, only the other "
    "end counts, and 100 % is as expected. In the picture the bar is the band, the dot what was measured, with its error, the "
    "dashed line what was expected.",
    "The expected values have one of three standings:",
)
_STANDINGS = {
    "stated by the paper": "it is written in the source that is cited, and implemented as written",
    "derived": "it follows from what is said here, and is compared with an independent method",
    "recalled": "general knowledge of the literature, not compared with the text of the source; tested all the same",
}
_COLUMNS = ("Check", "Verdict", "Measured", "Expected", "Band", "Room", "Source")


def page(record: Mapping[str, Any], folder: Path) -> str:
    """The page of a record, as `validation.json` has it, with the figures in the folder."""
    claims = record["claims"]
    groups = list(dict.fromkeys(claim["group"] for claim in claims))
    folded = len(claims) > 10  # else there is little to scroll past
    body = _e(
        "body",
        _head(record),
        _contents(groups, claims, record),
        _e("main", *(_group(name, record, folder, folded) for name in groups), _legend(), _provenance(record)),
    )
    head = _e(
        "head",
        _e("meta", charset="utf-8"),
        _e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _e("meta", name="color-scheme", content="light dark"),
        _e("title", "fpsolve: " + _verdict(record)[0]),
        _e("style", CSS),
    )
    return "<!DOCTYPE html>\n" + tostring(_e("html", head, body, lang="en"), encoding="unicode", method="html") + "\n"


# ---- parts of the page -------------------------------------------------------------------------------------------------


def _verdict(record: Mapping[str, Any]) -> tuple[str, bool]:
    """The whole run in one line, and whether it is good."""
    claims, pending = record["claims"], record.get("pending", [])
    failed = sum(not claim["passed"] for claim in claims)
    checks = sum(len(claim["checks"]) for claim in claims)
    done = f"{_count(len(claims), 'claim')}, {_count(checks, 'check')}"
    verdict = f"{failed} failed" if failed else "all passed" if claims else "none done"
    missing = f"; unfinished: {_count(len(pending), 'claim')} not run" if pending else ""
    return f"{done}: {verdict}{missing}", not failed and not pending


def _head(record: Mapping[str, Any]) -> Element:
    text, good = _verdict(record)
    made = record["provenance"]
    size = "quick run, fewer samples" if record["quick"] else "full run"
    commit = (made.get("git_commit") or "not known")[:12]
    failed = [claim["name"] for claim in record["claims"] if not claim["passed"]]
    return _e(
        "header",
        _e("h1", "Validation of fpsolve"),
        _e("p", _sign(good), " ", text, class_=f"total {'good' if good else 'bad'}"),
        _list("Failed: ", failed) if failed else None,
        _e("p", "Not run: ", ", ".join(record["pending"]), ".") if record.get("pending") else None,
        _e(
            "p",
            "Theory against simulation: each claim is a statement about the theory of stochastic gradient descent, checked by "
            "numbers that must lie in bands. ",
            _e("a", "How to read it", href="#legend"),
            ".",
        ),
        _e("p", f"{size} · {_when(made)} · fpsolve {made['versions']['fpsolve']} · commit {commit}", class_="soft"),
    )


def _contents(groups: Sequence[str], claims: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Element:
    made = list[Element]()
    for group in groups:
        own = [claim for claim in claims if claim["group"] == group]
        passed, seconds = sum(claim["passed"] for claim in own), sum(claim["seconds"] for claim in own)
        title = record.get("groups", {}).get(group, {}).get("title", group)
        made.append(
            _e(
                "dt",
                _e("a", title, href=f"#group-{group}"),
                " ",
                _e("span", f"{passed} of {len(own)} passed", class_="good" if passed == len(own) else "bad"),
                _e("span", f", {_time(seconds)}", class_="soft"),
            )
        )
        links = [_e("li", _sign(claim["passed"]), " ", _e("a", claim["name"], href=f"#claim-{claim['name']}")) for claim in own]
        made.append(_e("dd", _e("ul", *links)))
    return _e("nav", _e("h2", "Claims"), _e("dl", *made), aria_label="Claims")


def _group(name: str, record: Mapping[str, Any], folder: Path, folded: bool) -> Element:
    about = record.get("groups", {}).get(name, {})
    papers = [
        _e("li", text, ", ", _e("a", f"arXiv:{number}", href=f"https://arxiv.org/abs/{number}"))
        for text, number in about.get("papers", [])
    ]
    own = [claim for claim in record["claims"] if claim["group"] == name]
    return _e(
        "section",
        _e("h2", about.get("title", name)),
        _e("p", about["says"]) if about.get("says") else None,
        _e("ul", *papers) if papers else None,
        _e(
            "p",
            "In the documentation: ",
            _e("code", about["page"]),
            ". To repeat: ",
            _e("code", f"fpsolve validate {name}"),
            class_="soft",
        )
        if about.get("page")
        else None,
        *(_claim(claim, folder, folded) for claim in own),
        id=f"group-{name}",
    )


def _claim(claim: Mapping[str, Any], folder: Path, folded: bool) -> Element:
    name, checks, good = claim["name"], claim["checks"], claim["passed"]
    passed = sum(check["passed"] for check in checks)
    rooms = [(room(check), check["name"]) for check in checks if not math.isnan(room(check))]
    summary = f"{passed} of {_count(len(checks), 'check')} passed"
    nearest = f"; least room {_percent(min(rooms)[0])}: {min(rooms)[1]}" if rooms else ""
    lines = [line for line in claim.get("equation", "").splitlines() if line.strip()]
    about = claim.get("about", "")
    return _e(
        "section",
        _e("h3", _e("a", name, href=f"#claim-{name}"), _verdict_of(good)),
        _e("p", claim["claim"]),
        _e("p", f"{claim['standing'].capitalize()} · {_time(claim['seconds'])}", class_="soft"),
        *(_e("div", *mathml(line), class_="formula", **_scrolled("equation")) for line in lines),
        _e("pre", cut(claim["error"]), class_="bad") if claim["error"] else None,
        _e("details", _e("summary", summary + nearest), _table(checks), **({} if folded and good else {"open": "open"}))
        if checks
        else None,
        *(_figure(claim, file, folder) for file in claim.get("figures", [])),
        *(_text(file, folder) for file in claim.get("texts", [])),
        _e("details", _e("summary", "How it is done, and where the bands are from"), _e("pre", about)) if about else None,
        class_="claim" if good else "claim failed",
        id=f"claim-{name}",
    )


def _table(checks: Sequence[Mapping[str, Any]]) -> Element:
    """Roles are given because a table loses its own where the style makes blocks of its rows."""
    names = _e("tr", *(_e("th", column, scope="col", role="columnheader") for column in _COLUMNS), role="row")
    head, body = _e("thead", names, role="rowgroup"), _e("tbody", *map(_row, checks), role="rowgroup")
    return _e("div", _e("table", head, body, role="table", class_="checks"), class_="table", **_scrolled("checks"))


def _row(check: Mapping[str, Any]) -> Element:
    stderr, left, places = float(check["stderr"]), room(check), digits(check)
    measured = _number(check["measured"], places) + (f" ± {_number(stderr, 2)}" if stderr else "")
    low, high = (_number(end, places) for end in check["band"])
    cells = (
        ("number", _verdict_of(check["passed"])),
        ("number", measured),
        ("number", _number(check["expected"], places)),
        ("", f"{low} … {high}"),
        ("", _e("span", _e("b", "–" if math.isnan(left) else _percent(left)), picture(check), class_="room")),
        ("source", check["source"]),
    )
    return _e(
        "tr",
        _e("th", check["name"], scope="row", role="rowheader"),
        *(
            _e("td", cell, class_=kind, role="cell", data_label=label)
            for label, (kind, cell) in zip(_COLUMNS[1:], cells, strict=True)
        ),
        role="row",
        class_="" if check["passed"] else "failed",
    )


def _figure(claim: Mapping[str, Any], file: str, folder: Path) -> Element:
    try:
        path = folder / file
        data, width, height = embedded(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, SyntaxError) as problem:  # a broken PNG is a SyntaxError
        return _e("p", f"Figure {file} cannot be shown: {problem}", class_="bad")
    about = (claim.get("about") or claim["claim"]).split("\n\n")[0].replace("\n", " ")
    image = _e("img", src=data, width=str(width), height=str(height), alt=f"Figure {file}: {about}", decoding="async")
    shape = "figure wide" if width > 1.6 * height else "figure"  # panels side by side are not squeezed into a phone
    return _e("figure", _e("div", image, class_=shape, **_scrolled("figure")), _e("figcaption", file))


def _text(file: str, folder: Path) -> Element:
    try:
        text = (folder / file).read_text(encoding="utf-8", errors="replace")
    except OSError as problem:
        text = str(problem)
    return _e("details", _e("summary", f"Table {file}"), _e("pre", cut(text), class_="wide", **_scrolled(file)))


def _legend() -> Element:
    return _e(
        "section",
        _e("h2", "How to read it"),
        *(_e("p", text) for text in _LEGEND),
        _e("dl", *(part for name, text in _STANDINGS.items() for part in (_e("dt", name.capitalize()), _e("dd", text + ".")))),
        id="legend",
    )


def _provenance(record: Mapping[str, Any]) -> Element:
    made = record["provenance"]
    rows = (
        ("Started", _when(made)),
        ("Command", _command(made.get("argv") or [])),
        ("Commit", made.get("git_commit") or "not known"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in made["versions"].items())),
        ("Machine", f"{made.get('cpu') or 'processor not known'}, {made.get('cpu_count')} cores; {made.get('platform')}"),
        ("Claims at a time", record.get("jobs")),
        ("Time of all claims", _time(sum(claim["seconds"] for claim in record["claims"]))),
        ("Seeds", "constants in the source of each claim"),
    )
    body = [_e("tr", _e("th", name, scope="row"), _e("td", str(value))) for name, value in rows if value not in (None, "")]
    return _e(
        "section",
        _e("h2", "Provenance"),
        _e("table", _e("tbody", *body), class_="facts"),
        _e("p", "All numbers of this page are in ", _e("code", "validation.json"), " beside it, from which ",
           _e("code", "fpsolve validate --report validation.json"), " makes it again."),
        id="provenance",
    )  # fmt: skip


# ---- pieces ------------------------------------------------------------------------------------------------------------


def _list(start: str, names: Sequence[str]) -> Element:
    links = [_e("a", name, href=f"#claim-{name}") for name in names]
    return _e("p", start, *(part for link in links for part in (link, ", " if link is not links[-1] else ".")))


def _sign(good: bool) -> Element:
    """A mark that is read aloud as well."""
    return _e("span", "✓" if good else "✗", class_="good" if good else "bad", role="img", aria_label="passed" if good else "failed")


def _verdict_of(good: bool) -> Element:
    return _e("span", "✓ passed" if good else "✗ FAILED", class_="good" if good else "bad")


def _scrolled(name: str) -> dict[str, str]:
    """Attributes of what may have to be scrolled: the keyboard must be able to go there."""
    return {"tabindex": "0", "role": "group", "aria_label": name}


def _number(value: float | str, digits: int) -> str:
    return f"{float(value):.{digits}g}".replace("inf", "∞").replace("-", "−")


def _percent(value: float) -> str:
    if value > 1.005:
        return "over 100 %"
    return "far outside" if value <= -10.0 else f"{100.0 * value:.0f} %".replace("-", "−")


def _when(made: Mapping[str, Any]) -> str:
    """The start of the run, as people write it."""
    return str(made.get("created", "")).replace("T", " ").replace("+00:00", " UTC")


def _command(argv: Sequence[str]) -> str:
    """The command line without the folder that the program is in."""
    program = Path(argv[0]).name if argv else ""
    return shlex.join(["fpsolve" if program == "__main__.py" else program, *argv[1:]])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60.0 else f"{int(seconds) // 60} min {int(seconds) % 60} s"
