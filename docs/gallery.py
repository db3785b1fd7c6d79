"""The gallery: scripts of docs/gallery become pages of the site, with their pictures and what they print.

A script is a docstring (its first line is the title), code, and cells of Markdown that begin with ``# %%``. It leaves its
figures open and ends with ``plt.show()``, so that it is run by hand like any other. ``python docs/gallery.py [FOLDER]`` writes
the pages without Sphinx.

docs/gallery.md lists the scripts by links that lead to the source on a code host; `listed` makes them links to the pages, with
a picture.
"""

import ast
import contextlib
import io
import os
import re
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parent
SCRIPTS = DOCS / "gallery"
#: Where the site has the pages, relative to `DOCS`.
MADE = "gallery/generated"

_ENTRY = re.compile(r"^\[([^\]]+)\]\(gallery/(plot_\w+)\.py\)\.? *(.*(?:\n(?!\n|\[).+)*)", re.M)


def run(script: Path, save: Callable[[int], object]) -> str:
    """Run a script in an empty folder, hand the number of each figure that stays open to `save`, return what it has printed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    show, printed = plt.show, io.StringIO()
    plt.show = lambda *args, **kwargs: None
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            runpy.run_path(str(script), run_name="__main__")
        for number in plt.get_fignums():
            plt.figure(number)
            save(number)
    finally:
        plt.show = show
        plt.close("all")
    return printed.getvalue()


def cells(source: str) -> list[tuple[str, str]]:
    """The parts of a script in their order, ("text", Markdown) or ("code", Python); the docstring, with its title, is first."""
    title, _, text = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    found = [("text", f"# {title.rstrip('.')}\n\n{text.strip()}")]
    body = source.split('"""', 2)[2].strip()
    for part in re.split(r"^# %%\n", body, flags=re.M):
        words = re.match(r"(?:#.*\n)*", part)[0]  # type: ignore[index]
        code = part[len(words) :].strip()
        if words:
            found.append(("text", re.sub(r"^# ?", "", words, flags=re.M).strip()))
        if code:
            found.append(("code", code))
    return found


def page(script: Path, folder: Path) -> None:
    """Write the page of one script, and its pictures, to a folder."""
    import matplotlib.pyplot as plt

    pictures: list[str] = []

    def save(number: int) -> None:
        pictures.append(f"{script.stem}_{number}.png" if pictures else f"{script.stem}.png")
        plt.savefig(folder / pictures[-1], dpi=100, bbox_inches="tight")

    printed = run(script, save)
    head, *rest = cells(script.read_text(encoding="utf-8"))
    lines = [head[1], *(f"![{head[1].splitlines()[0].lstrip('# ')}]({name})" for name in pictures)]
    lines += [text if kind == "text" else f"```python\n{text}\n```" for kind, text in rest]
    if printed:
        lines += ["It prints", f"```text\n{printed}```"]
    (folder / f"{script.stem}.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def build(folder: Path) -> None:
    """Write the pages of all scripts to a folder."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for script in sorted(SCRIPTS.glob("plot_*.py")):
        page(script, folder)


def listed(text: str) -> str:
    """The text of docs/gallery.md for the site: entries are a picture, a link to a page, words; and a hidden table of contents."""
    names = [name for _, name, _ in _ENTRY.findall(text)]
    shown = _ENTRY.sub(rf"[![\1]({MADE}/\2.png){{.thumbnail}}]({MADE}/\2.md) [\1]({MADE}/\2.md). \3", text)
    pages = "\n".join(f"{MADE}/{name}" for name in names)
    return f"{shown}\n\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/gallery"))
