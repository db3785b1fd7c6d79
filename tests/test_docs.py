"""The written pages tell the truth: every example runs and prints what the page shows, every link leads somewhere.

The Python blocks of one page share a namespace and run in order in an empty folder. A ``text`` block directly after a Python
block is its printed output. Words and whole numbers must agree exactly, other numbers to a relative 2e-3 or to one unit of the
last digit shown, so that processors whose last bits differ pass; white space is folded. Where a page says ``<!-- needs: torch -->``
its blocks run only with that package: those up to the next heading, or, said before the first section, all of them.

A ``console`` block has lines ``$ fpsolve ...``, each followed by what it prints; a line ``...`` stands for any lines. Those
commands run too, in the same folder, in a terminal of 80 columns; ``$ echo $?`` shows the last exit code.
"""

import contextlib
import importlib.util
import io
import re
import shlex
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from places import ROOT, folder, relative

from fpsolve.cli import main

PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "generated")]
WRITTEN = {"index", "conventions", "fokker-planck", "paths", "networks", "feng-tu", "files", "streams", "command-line"}

RTOL = 2e-3
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.M | re.S)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w])")
NEEDS = re.compile(r"^(?:<!-- needs: (?P<package>\w+) -->|(?P<level>#{1,6}) .*)$", re.M)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def blocks(text):
    """(language, code, output or None, line) of every fenced block; the output is that of the text block right after it."""
    found = list(FENCE.finditer(text))
    out = []
    for i, block in enumerate(found):
        follower = found[i + 1] if i + 1 < len(found) else None
        near = follower is not None and not text[block.end() : follower.start()].strip() and follower[1] == "text"
        out.append((block[1], block[2], follower[2] if near else None, text.count("\n", 0, block.start()) + 1))
    return out


def missing(text, line):
    """The package, not installed, that a page says it needs for the block in that line; or None."""
    words = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    found = [(words.count("\n", 0, m.start()) + 1, m["package"], m["level"]) for m in NEEDS.finditer(words)]
    sections = [at for at, _, level in found if level == "##"]
    package = None
    for at, name, _ in found:
        if at < line:
            whole = name and at < min(sections, default=line)
            package = (name, whole) if name else package if package and package[1] else None
    return package[0] if package and importlib.util.find_spec(package[0]) is None else None


def differences(shown, printed):
    """What differs between the output on the page and the one printed, in words; empty if they agree."""
    shown, printed = " ".join(shown.split()), " ".join(printed.split())
    words = [NUMBER.sub("#", t).replace(" ", "") for t in (shown, printed)]
    if words[0] != words[1]:
        return f"the page shows\n{shown}\nbut the block prints\n{printed}"
    for a, b in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True):
        if not _same_number(a, b):
            return f"{a} on the page, {b} printed, in\n{printed}"
    return ""


def _same_number(shown, printed):
    if re.fullmatch(r"[-+]?\d+", shown):
        return shown == printed
    mantissa, _, power = shown.lower().partition("e")
    unit = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
    a, b = float(shown), float(printed)
    return abs(a - b) <= max(RTOL * abs(a), 1.01 * unit)


def console(block):
    """(command, output on the page) of every command of a console block."""
    parts = re.split(r"^\$ ", block, flags=re.M)
    assert not parts[0].strip(), f"output before the first command: {parts[0]!r}"
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts[1:]]


def run_console(block, where):
    """Run the commands of a block; what they print must be what the page shows."""
    code = 0
    for command, shown in console(block):
        printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        if command == "echo $?":
            printed.write(f"{code}\n")
        else:
            words = shlex.split(command)
            assert words[0] == "fpsolve", f"{where}: {command!r} is no command of fpsolve"
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                code = main(words[1:])
        printed.seek(0)
        text = printed.read()
        rest = text.splitlines()
        for part in re.split(r"^\.\.\.\n", shown, flags=re.M):
            size = len(part.splitlines())
            found = next((i for i in range(len(rest) - size + 1) if not differences(part, "\n".join(rest[i : i + size]))), None)
            assert found is not None, f"{where}: {command}: the page shows\n{part}\nwhich is not in\n{text}"
            assert found == 0 or "...\n" in shown, f"{where}: {command} prints more than the page shows: {rest[0]}"
            rest = rest[found + size :]
        assert not rest or shown.endswith("...\n"), f"{where}: {command} prints more than the page shows: {rest[0]}"


def slug(heading):
    """The anchor of a heading, as the common Markdown renderers make it."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower())
    return plain.replace(" ", "-")


def prose(page):
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def test_all_pages_are_there():
    assert {p.stem for p in PAGES} >= WRITTEN | {"README"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix().removeprefix("docs/"))
def test_examples_run_and_print_what_the_page_shows(page, tmp_path, monkeypatch, validation):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setenv("TERM", "xterm")
    if (torch := sys.modules.get("torch")) or (
        "needs: torch" in page.read_text(encoding="utf-8") and importlib.util.find_spec("torch")
    ):
        torch = torch or importlib.import_module("torch")
        torch.set_num_threads(1)  # threads that wait for each other are slow where other tests run beside
    namespace, text, left_out = {"__name__": "__main__"}, page.read_text(encoding="utf-8"), set()
    for language, code, output, line in blocks(text):
        if language == "console":
            run_console(code, f"{page.name}:{line}")
        if language != "python":
            continue
        if package := missing(text, line):
            left_out.add(package)
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, str(page), "exec"), namespace)
        if output is None:
            assert not printed.getvalue(), f"{page.name}:{line} prints, but the page does not show what"
        else:
            problem = differences(output, printed.getvalue())
            assert not problem, f"{page.name}:{line}: {problem}"
    if left_out and len(namespace) == 1:
        pytest.skip(f"this page needs {', '.join(left_out)}")
    if page.parent.name == "tutorials":
        shown = {Path(target).name for target in LINK.findall(prose(page)) if "figures/" in target}
        assert shown == {path.name for path in tmp_path.glob("*.png")}, "a tutorial draws the figures that it shows"
        plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix().removeprefix("docs/"))
def test_every_output_follows_an_example(page):
    """A text block that no Python block owns would be an output that nothing checks."""
    found = blocks(page.read_text(encoding="utf-8"))
    owned = sum(output is not None for language, _, output, _ in found if language == "python")
    assert owned == sum(language == "text" for language, *_ in found)
    run_elsewhere = {"toml"} if page.stem == "configs" else set()  # by test_config
    assert {language for language, *_ in found} <= {"python", "text", "sh", "bash", "console", "", *run_elsewhere}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix().removeprefix("docs/"))
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(other), re.M)
            assert anchor in map(slug, headings), f"{page.name} links to {target}, but {other.name} has no such heading"


def test_the_source_map_is_complete():
    """Each module is named once in the map, and nothing else is."""
    named = re.findall(
        r"^\| `((?:fpsolve|nets)/[\w/]+\.py)` \|", (ROOT / "docs" / "source-map.md").read_text(encoding="utf-8"), re.M
    )
    there = [relative(p) for name in ("fpsolve", "nets") for p in folder(name).rglob("*.py")]
    there = [name for name in there if not name.endswith("_kernels/__init__.py")]
    assert sorted(named) == sorted(there)


def test_commands_of_the_pages_are_run(tmp_path, monkeypatch):
    """A wrong output, one that is cut short, and one that goes on are noticed."""
    monkeypatch.chdir(tmp_path)
    run_console(
        "$ fpsolve --version\nfpsolve 0.1.0\n$ fpsolve show no.h5\nfpsolve: error: no.h5 does not exist\n$ echo $?\n2\n", ""
    )
    run_console("$ fpsolve --help\n...\nexit codes:\n  0 done\n...\n", "")
    for wrong in ("fpsolve 5.1.0\n", "", "fpsolve 0.1.0\nmore\n", "...\nfpsolve 7.1.0\n"):
        with pytest.raises(AssertionError, match="--version"):
            run_console(f"$ fpsolve --version\n{wrong}", "")


def test_what_a_page_needs():
    page = "# Page\n\n## One\n\n```python\n# no heading\n```\n### JAX\n<!-- needs: no_such -->\n"
    page += "```python\n1\n```\n## Two\n```python\n2\n```\n"
    assert [missing(page, line) for *_, line in blocks(page)] == [None, "no_such", None]
    whole = page.replace("# Page\n", "# Page\n<!-- needs: no_other -->\n", 1)
    assert [missing(whole, line) for *_, line in blocks(whole)][0] == "no_other"
    assert missing(page.replace("no_such", "numpy"), 10) is None


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("tau = 1.000 (held)", "tau =  1.001  (held)", True),  # one unit of the last digit
        ("1.2340e-05", "1.2355e-05", True),  # 1.2e-3
        ("1.2340e-05", "1.2380e-05", False),  # 3.2e-3
        ("200 cells", "201 cells", False),
        ("held", "failed", False),
        ("[1.5, 2.5]", "[1.5]", False),
        ("-1.50", "1.50", False),
        ("[0. 1.]", "[ 0.  1.]", True),
    ],
)
def test_the_comparison_itself(shown, printed, same):
    assert (differences(shown, printed) == "") is same
