"""Settings of the documentation site, which `make docs` builds from the Markdown pages as they are.

Sphinx's source folder is the root of the repository, so that a relative link leads to the same place on a code host and in the
site. The contents in the sidebar are those of docs/index.md: see `contents`. Nothing is fetched, neither by the build nor by the
pages: formulas are written as MathML.
"""

from __future__ import annotations

import posixpath
import re
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HOME = "docs/index"
GALLERY = "docs/gallery"

project = author = "fpsolve"
project_copyright = "fpsolve developers"
release = version = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)[0]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
root_doc = HOME
include_patterns = ["*.md", "docs/**"]
exclude_patterns = [".*", "bench", "build", "dist", "fpsolve", "nets", "tests", "**/__pycache__", "docs/_static", "docs/_templates"]
templates_path = [str(ROOT / "docs" / "_templates")]
nitpicky = True

myst_enable_extensions = ["attrs_inline", "dollarmath"]
myst_heading_anchors = 4

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"fpsolve {release}"
html_additional_pages = {"index": "start.html"}  # the folder's own index.html leads to the first page
html_math_renderer = "mathml"
html_copy_source = False

default_role = "literal"
autodoc_typehints = "none"  # the docstrings say it in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # _templates/autosummary/class.rst shows them
# A file each for nets.PCA and nets.pca, also where file names ignore case.
autosummary_filename_map = {name: f"{name}-class" for name in ("fpsolve.Sweep", "nets.Attack", "nets.Flatness", "nets.PCA")}


def contents(index: str) -> list[tuple[str, dict[str, str]]]:
    """The table of contents: each section of docs/index.md with its pages and their titles; an entry is a link that begins a line.

    Pages are named from the root of the repository, without suffix.
    """
    sections = []
    for section in re.split(r"^## ", index, flags=re.M)[1:]:
        links = re.findall(r"^\[([^\]]*)\]\(([^)#]+)\.(?:md|rst)\)", section, re.M)
        if links:
            pages = {posixpath.normpath(posixpath.join(posixpath.dirname(HOME), link)): title for title, link in links}
            sections.append((section.splitlines()[0], pages))
    return sections


def _draw_gallery(app: Any) -> None:
    gallery = runpy.run_path(str(ROOT / f"{GALLERY}.py"))
    gallery["build"](ROOT / "docs" / gallery["MADE"])


def _add_contents(app: Any, page: str, source: list[str]) -> None:
    if page == GALLERY:
        source[0] = runpy.run_path(str(ROOT / f"{GALLERY}.py"))["listed"](source[0])
    if page == HOME:
        for heading, pages in contents(source[0]):
            entries = "\n".join(f"{title} </{page}>" for page, title in pages.items())
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{entries}\n```\n"


def plain(formula: str) -> str:
    """TeX as docutils understands it: without sizes of brackets, which MathML makes as large as what they hold, and with braces
    around single characters of fractions, which it would read as numbers of two digits."""
    sized = re.sub(r"\\[bB]igg?[lrm]?(?![A-Za-z])", "", formula)
    return re.sub(r"\\([td]?frac) *([A-Za-z0-9]) *([A-Za-z0-9])", r"\\\1{\2}{\3}", sized)


def _formula(translator: Any, node: Any) -> None:
    from docutils import nodes
    from docutils.utils.math.latex2mathml import tex2mathml

    block = isinstance(node, nodes.math_block)
    written = tex2mathml(plain(node.astext()), as_block=block)
    translator.body.append(f'<div class="math">{written}</div>' if block else written)
    raise nodes.SkipNode


def setup(app: Any) -> None:
    app.connect("builder-inited", _draw_gallery)
    app.connect("source-read", _add_contents)
    app.add_html_math_renderer("mathml", inline_renderers=(_formula, None), block_renderers=(_formula, None))
