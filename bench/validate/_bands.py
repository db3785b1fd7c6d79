"""Where a measured number lies in its band: as a number, as a picture, and with how many digits it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from ._elements import element

__all__ = ["digits", "picture", "room"]


def room(check: Mapping[str, Any]) -> float:
    """Distance from the measured value to the nearer end of its band, in widths of the band; below 0 outside, NaN without a width.

    An end where theory puts the value itself is no near miss: inside the band the other one counts, and 1 is as expected. Of a
    band open on one side the width is the distance of the expected value from the end.

    Examples
    --------
    >>> [room({"measured": m, "expected": 1.0, "band": [0.0, 2.0]}) for m in (1.0, 0.5, 2.5)]
    [0.5, 0.25, -0.25]
    >>> [room({"measured": m, "expected": 0.0, "band": [low, 2.0]}) for m, low in ((0.0, 0.0), (1.0, "-inf"), (-1.0, 0.0))]
    [1.0, 0.5, -0.5]
    """
    measured, expected = float(check["measured"]), float(check["expected"])
    low, high = (float(end) for end in check["band"])
    width = _width(expected, low, high)
    if not 0.0 < width < math.inf or math.isnan(measured):
        return math.nan
    if low <= measured <= high:
        return min(abs(end - measured) for end in (low, high) if math.isfinite(end) and end != expected) / width
    return -min(max(low - measured, measured - high) / width, 1e6)


def _width(expected: float, low: float, high: float) -> float:
    ends = [end for end in (low, high) if math.isfinite(end)]
    return high - low if len(ends) == 2 else abs(ends[0] - expected) if ends else math.nan


def picture(check: Mapping[str, Any]) -> Element | None:
    """The band as a bar with the measured value, its error and the expected value on it."""
    measured, stderr, expected = (float(check[key]) for key in ("measured", "stderr", "expected"))
    low, high = (float(end) for end in check["band"])
    width = _width(expected, low, high)
    if not 0.0 < width < math.inf or math.isnan(measured):
        return None

    def at(value: float) -> str:
        x = 12.0 + 70.0 * (value - low) / width if math.isfinite(low) else 82.0 - 70.0 * (high - value) / width
        return f"{min(max(x, 3.0), 97.0):.1f}"

    left, right = float(at(low)), float(at(high))
    return element(
        "svg",
        element("rect", class_="band", x=f"{left}", y="1", width=f"{right - left}", height="8"),
        element("line", class_="expected", x1=at(expected), x2=at(expected), y1="0", y2="10") if math.isfinite(expected) else None,
        element("line", class_="spread", x1=at(measured - stderr), x2=at(measured + stderr), y1="5", y2="5")
        if 0 < stderr < math.inf
        else None,
        element("circle", cx=at(measured), cy="5", r="2.6"),
        class_="room",
        viewBox="0 0 100 10",
        aria_hidden="true",
    )


def digits(check: Mapping[str, Any]) -> int:
    """So many that the ends of a narrow band differ."""
    low, high = (float(end) for end in check["band"])
    size = max(abs(low), abs(high))
    return min(max(6, math.ceil(math.log10(size / (high - low))) + 2), 15) if 0.0 < high - low < math.inf else 6
