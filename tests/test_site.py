"""The documentation site without building it: every page has a place, every name a reference, every figure a page.

`make docs` builds the site and takes a warning for an error; what is here needs no Sphinx.
"""

import importlib
import re
import runpy
from pathlib import Path

import pytest
from test_docs import LINK, PAGES, ROOT, prose

import fpsolve

DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "reference").glob("*.rst"))


@pytest.fixture(scope="module")
def settings() -> dict:
    """The names of docs/conf.py, which imports nothing but the standard library."""
    return runpy.run_path(str(DOCS / "conf.py"))


def named(text: str) -> set[str]:
    """Full names of all entries of the `autosummary` lists of a page."""
    found, module = set(), ""
    for line in text.splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif re.fullmatch(r" {3}[A-Za-z_][\w.]*", line):
            found.add(f"{module}.{line.strip()}")
    return found


def test_every_page_is_in_the_contents_once(settings: dict) -> None:
    listed = [page for _, pages in settings["contents"]((DOCS / "index.md").read_text(encoding="utf-8")) for page in pages]
    others = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *REFERENCE]
    there = [path.relative_to(ROOT).with_suffix("").as_posix() for path in [*PAGES, *others]]
    assert sorted([settings["root_doc"], *listed]) == sorted(there)


def test_every_public_name_has_a_reference() -> None:
    documented = set().union(*(named(path.read_text(encoding="utf-8")) for path in REFERENCE))
    modules = ["fpsolve", "nets", *(f"fpsolve.{name}" for name in fpsolve._SUBMODULES)]
    missing = []
    for module in modules:
        for name in importlib.import_module(module).__all__:
            homes = {f"{module}.{name}", f"fpsolve.{name}"}  # results are documented as fpsolve.Density, ...
            is_module = f"{module}.{name}" in modules and (DOCS / "reference" / f"{name}.rst").exists()
            if not homes & documented and not is_module and name != "__version__":
                missing.append(f"{module}.{name}")
    assert not missing, "in no page of docs/reference"


def test_every_reference_exists() -> None:
    for path in REFERENCE:
        for full in named(path.read_text(encoding="utf-8")):
            module, _, name = full.rpartition(".")
            assert hasattr(importlib.import_module(module), name), f"{path.name} lists {full}"


def test_every_figure_is_shown() -> None:
    shown = {(page.parent / target).resolve() for page in PAGES for target in LINK.findall(prose(page)) if target.endswith(".png")}
    assert {path.resolve() for path in (DOCS / "figures").iterdir()} == shown


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_of_the_other_pages_lead_somewhere(name: str) -> None:
    for target in LINK.findall(prose(ROOT / name)):
        assert re.match(r"\w+:", target) or (ROOT / target.partition("#")[0]).exists(), f"{name} links to {target}"


def test_the_entry_to_cite_is_that_of_the_citation_file() -> None:
    page = (DOCS / "how-to-cite.md").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version = {{{fpsolve.__version__}}}" in page
    for field in re.findall(r'^ *(?:- )?title: "?(.*?)"?$', citation, re.M):
        assert field in page, f"how-to-cite.md lacks {field}"
    for year, number in re.findall(r"^    year: (\d+)\n(?:    journal: .*\n)?    (?:notes|doi): (.*)$", citation, re.M):
        assert re.search(rf"{year}, \S*{re.escape(number.removeprefix('arXiv:'))}", page), f"how-to-cite.md lacks {number}"


def test_the_gallery_lists_every_script_and_becomes_links_to_pages(settings: dict) -> None:
    gallery = runpy.run_path(str(DOCS / "gallery.py"))
    written = (DOCS / "gallery.md").read_text(encoding="utf-8")
    shown = gallery["listed"](written)
    for script in sorted((DOCS / "gallery").glob("*.py")):
        title = gallery["cells"](script.read_text(encoding="utf-8"))[0][1].splitlines()[0].removeprefix("# ")
        assert f"[{title}](gallery/{script.name}). " in written
        assert f"[{title}](gallery/generated/{script.stem}.md). " in shown
        assert f"\ngallery/generated/{script.stem}\n" in shown  # in the table of contents
    assert written.count("](gallery/") == len(list((DOCS / "gallery").glob("*.py"))) and "plot_" in shown
    assert ".py)" not in shown


def test_a_script_of_the_gallery_becomes_a_page(tmp_path: Path) -> None:
    script = tmp_path / "plot_line.py"
    script.write_text(
        '"""A line.\n\nSome words.\n"""\n\nimport matplotlib.pyplot as plt\n\nprint("seen")\n# %%\n# More *words*,\n# and\n\n'
        "plt.plot([1, 2])\nplt.figure()\nplt.show()\n"
    )
    runpy.run_path(str(DOCS / "gallery.py"))["page"](script, tmp_path)
    assert (tmp_path / "plot_line.md").read_text() == (
        "# A line\n\nSome words.\n\n![A line](plot_line.png)\n\n![A line](plot_line_2.png)\n\n"
        '```python\nimport matplotlib.pyplot as plt\n\nprint("seen")\n```\n\nMore *words*,\nand\n\n'
        "```python\nplt.plot([1, 2])\nplt.figure()\nplt.show()\n```\n\nIt prints\n\n```text\nseen\n```\n"
    )
    assert (tmp_path / "plot_line.png").stat().st_size > 1000 and (tmp_path / "plot_line_2.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted((DOCS / "gallery").glob("*.py")), ids=lambda p: p.stem)
def test_scripts_of_the_gallery_run_and_draw(script: Path) -> None:
    drawn: list[int] = []
    runpy.run_path(str(DOCS / "gallery.py"))["run"](script, drawn.append)
    assert drawn


def test_formulas_are_written_as_the_site_reads_them(settings: dict) -> None:
    assert (
        settings["plain"](r"\tfrac12 \big( x + \frac1N \Bigr) \frac{a}{b} \bigcup")
        == r"\tfrac{1}{2} ( x + \frac{1}{N} ) \frac{a}{b} \bigcup"
    )


def test_contents_follow_the_index(settings: dict) -> None:
    index = """# Title

[no](entry.md)

## One

[A](a.md). Words and a [link](b.md).

## None

words

## Two

[B](../B.md).
[C](x/c.rst)
"""
    assert settings["contents"](index) == [("One", {"docs/a": "A"}), ("Two", {"B": "B", "docs/x/c": "C"})]


def test_figures_are_drawn_by_the_blocks_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text('# A page\n\n```python\nname = "made"\n```\n\n```text\nnone\n```\n\n```python\nopen(name, "w").close()\n```\n')
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(DOCS / "figures.py"))["draw"](page)
    assert (tmp_path / "made").exists()
