"""What the results in a file mean: their words, and a picture in the terminal or in a file; for `fpsolve show`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fpsolve import _terminal, io
from fpsolve._show import clean, stored_results
from fpsolve.results import Estimate, Table

__all__ = ["check_image", "draw", "in_words", "results_of"]

#: Files of this size and more are not read to be shown, unless a picture is asked for.
_LARGE = 1 << 28


def results_of(
    path: Path, reader_of: Callable[[str, Path], Callable[[Path], Any] | None], *, always: bool
) -> tuple[dict[str, Any], str]:
    """The results in a file by name; or none, and why: a file may be of any kind, damaged, or made to harm.

    Parameters
    ----------
    path : Path
    reader_of : callable
        Kind of the file and path -> its reader, None for the kinds of fpsolve itself.
    always : bool
        Also if the file is large.
    """
    if path.stat().st_size >= _LARGE and not always:
        return {}, f"the file has {path.stat().st_size / 1e6:.0f} MB; --plot reads it all the same"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = io.load_kind(path)
            loader = reader_of(kind, path)
            return ({kind: loader(path)}, "") if loader else (stored_results(path), "")
    except Exception as error:
        return {}, str(error)


def in_words(obj: object) -> str:
    """The repr of a result, which may hold texts of the file."""
    return "\n".join(clean(line, 2000) for line in repr(obj).split("\n"))


def draw(found: Mapping[str, Any], *, name: str | None, image: str | None, width: int | None, ascii: bool) -> tuple[list[str], str]:
    """Draw the result called `name`, else the first that can be drawn: to an image, else as lines for the terminal.

    Returns
    -------
    list of str, str
        What is to be printed, and why nothing was drawn.

    Raises
    ------
    ValueError, OSError
        If what was asked for cannot be drawn or written.
    """
    wanted = {key: obj for key, obj in found.items() if name in (None, key) and hasattr(obj, "plot")}
    if name is not None and not wanted:
        raise ValueError(f"{name} is a {type(found[name]).__name__}, which has no picture")
    if name is None and not image:  # a number and a table are words already
        wanted = {key: obj for key, obj in wanted.items() if not (isinstance(obj, Estimate) or type(obj) is Table)}
    problem = f"{', '.join(found)}: none of these has a picture" if image else ""
    for key, obj in wanted.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of strange numbers: what can be drawn is drawn
                lines = _drawn(obj, image, width, ascii)
        except OSError:
            raise
        except Exception as error:  # a result that has no picture in its dimension, or none at all of such numbers
            problem = f"{key} cannot be drawn: {error}"
            if name is not None:
                break
        else:
            others = ", ".join(clean(other) for other in wanted if other != key)
            note = f" (also to be drawn, with --name: {others})" if others else ""
            return [f"drawn in {image}"] if image else [clean(key) + note, *lines], ""
    if image or (name is not None and problem):
        raise ValueError(problem)
    return [], problem


def _drawn(obj: Any, image: str | None, width: int | None, ascii: bool) -> list[str]:
    ax = obj.plot()
    if image:
        _save_picture(ax, image)
        return []
    columns, rows = _terminal.size(width)
    return _terminal.draw(ax, columns, rows, unicode=not ascii and _terminal.unicode_works(sys.stdout))


def check_image(target: str) -> Path:
    """The path of an image that can be written.

    Raises
    ------
    ValueError, OSError
        If it is no image, or there is no such folder.
    """
    if Path(target).suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--plot writes .png, .pdf or .svg, got {target!r}")
    return io.check_writable(target)


def _save_picture(ax: Any, target: str) -> None:
    """Whole or not at all, in the format of the file's ending."""
    path = check_image(target)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        ax.figure.savefig(temporary, dpi=150)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
