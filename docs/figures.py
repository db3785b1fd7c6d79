"""Draw the figures of the tutorials anew: ``python docs/figures.py [PAGE ...]`` runs the Python blocks of pages in docs/figures.

A page draws what it shows, so that a figure is made by the code beside it. (demo_*.png are the figures of ``fpsolve demo``.)
"""

import contextlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def draw(page: Path) -> None:
    """Run the blocks of one page in an empty folder and keep its figures; not without a package that it needs."""
    text = page.read_text(encoding="utf-8")
    for package in re.findall(r"^<!-- needs: (\w+) -->$", text, re.M):
        if importlib.util.find_spec(package) is None:
            print(f"{page.name} is left out: it needs {package}", file=sys.stderr)
            return
    code = "".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(compile(code, str(page), "exec"), {"__name__": "__main__"})
        for figure in Path(folder).glob("*.png"):
            shutil.copy(figure, DOCS / "figures")


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "Agg"
    pages = [Path(name).resolve() for name in sys.argv[1:]] or sorted((DOCS / "tutorials").glob("*.md"))
    for page in pages:
        draw(page)
