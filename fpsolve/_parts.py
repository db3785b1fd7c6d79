"""Parts of an ensemble: which trajectories of which seed a result holds, and whether results belong together."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["check_same", "join_ranges", "ranges_of"]

Ranges = npt.NDArray[np.int64]


def ranges_of(seed: int | None, first: int, n: int) -> Ranges:
    """(1, 3): seed, first trajectory and their number; (0, 3) where the seed is not known."""
    return np.array([] if seed is None else [[seed, first, n]], np.int64).reshape(-1, 3)


def join_ranges(name: str, several: Iterable[Ranges]) -> Ranges:
    """All ranges (k, 3) of seed, first and number, in order; those that follow each other are one.

    Raises
    ------
    ValueError
        If a trajectory is in two of them: it would count twice.
    """
    joined: list[list[int]] = []
    for seed, first, n in sorted(row for ranges in several for row in ranges.tolist()):
        last = joined[-1] if joined else [-1, 0, 0]
        end = last[1] + last[2]
        if seed == last[0] and first < end:
            raise ValueError(
                f"{name}: trajectories {first} ... {min(end, first + n) - 1} of seed {seed} are in two of the parts and would "
                "count twice; give each part a first= of its own, or a seed"
            )
        if seed == last[0] and first == end:
            last[2] += n
        else:
            joined.append([seed, first, n])
    return np.array(joined, np.int64).reshape(-1, 3)


def check_same(name: str, parts: Sequence[Any], fields: Sequence[str]) -> None:
    """Refuse parts that differ in one of the fields.

    Raises
    ------
    TypeError, ValueError
        For something else than records of one kind, none at all, or a field that differs.
    """
    if not parts:
        raise ValueError(f"{name}: there is nothing to merge; give one part at least")
    one = parts[0]
    for part in parts:
        if type(part) is not type(one):
            raise TypeError(f"{name}: {type(one).__name__} is merged with its like, got {type(part).__name__}")
        for field in fields:
            a, b = getattr(one, field), getattr(part, field)
            if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
                if not np.array_equal(a, b):
                    raise ValueError(f"{name}: the parts have different {field}: {_short(a)} and {_short(b)}")
            elif a != b:
                what = (
                    "answer different questions (process, start, region or options)" if field == "problem" else f"differ in {field}"
                )
                raise ValueError(f"{name}: the parts {what}: {a!r} and {b!r}")


def _short(value: Any) -> str:
    return np.array2string(np.asarray(value), threshold=6, edgeitems=2, precision=6).replace("\n", "")
