"""What the claims on the follow-ups share: lines of tables, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import Check

Array = NDArray[np.float64]

GROUP = "follow-ups"


def check(name: str, value: float, expected: float, low: float, high: float, source: str, stderr: float = 0.0) -> Check:
    """A line of the table."""
    return Check(name=name, measured=float(value), stderr=float(stderr), expected=float(expected), band=(low, high), source=source)


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Exponent of y over x, by least squares of the logarithms."""
    return float(np.polyfit(np.log(np.asarray(x)), np.log(np.asarray(y)), 1)[0])


def figure(columns: int) -> tuple[Any, Any]:
    """A figure with panels side by side, and its axes."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(4.6 * columns, 3.8), layout="constrained")
    return made, made.subplots(1, columns, squeeze=False)[0]


def save(made: Any, out: Path, name: str) -> None:
    """Write the figure under the name of its claim."""
    made.savefig(out / f"{name}.png", dpi=120)
