"""Elements of a page, and figures as addresses that hold the whole picture."""

from __future__ import annotations

import base64
import io
import re
from functools import lru_cache
from pathlib import Path
from xml.etree.ElementTree import Element

__all__ = ["FIGURE", "TEXT", "cut", "element", "embedded"]

#: Most bytes of a figure in the page (before base64, which adds a third), and most characters of a text file or an error.
FIGURE, TEXT = 120_000, 20_000

#: Control characters and halves of pairs, which no page may have.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(tag: str, *children: Element | str | None, **attributes: str) -> Element:
    """An element with children and text; `class_` is class, `aria_label` aria-label; what is empty is left out.

    Examples
    --------
    >>> from xml.etree.ElementTree import tostring
    >>> tostring(element("p", "a < b", element("b", "!"), " c", class_="x", id="")).decode()
    '<p class="x">a &lt; b<b>!</b> c</p>'
    """
    made = Element(tag, {k.rstrip("_").replace("_", "-"): _clean(v) for k, v in attributes.items() if v})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child and len(made):
            made[-1].tail = (made[-1].tail or "") + _clean(child)
        elif child:
            made.text = (made.text or "") + _clean(child)
    return made


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)


def cut(text: str) -> str:
    """The first TEXT characters."""
    return text if len(text) <= TEXT else f"{text[:TEXT]}\n... ({len(text) - TEXT} characters left out)"


@lru_cache(maxsize=512)
def embedded(path: Path, changed: int) -> tuple[str, int, int]:
    """A figure as a ``data:`` address, and its size in pixels; above FIGURE bytes it loses colours, then pixels.

    `changed` is when the file was written: the page is made many times in a run, and old figures are not read again.
    """
    from PIL import Image

    data = path.read_bytes()
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        width, height = image.size
        picture = image.convert("RGBA")  # reads all of it: what is broken is found here
    flat, small = Image.new("RGB", picture.size, "white"), 1.0
    flat.paste(picture, mask=picture.getchannel("A"))
    while len(data) > FIGURE:
        width, height = max(round(small * flat.width), 1), max(round(small * flat.height), 1)
        smaller, kept = flat.resize((width, height), Image.Resampling.LANCZOS), io.BytesIO()
        smaller.quantize(256, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
        data = kept.getvalue()
        small *= min((FIGURE / len(data)) ** 0.5, 0.95)
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii"), width, height
