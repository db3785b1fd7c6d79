"""Progress bars: none in files and pipes, and nothing left behind on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["bar", "each"]

T = TypeVar("T")


@contextmanager
def bar(progress: bool, label: str, total: int | None) -> Iterator[Callable[[], Any]]:
    """What to call after each step of the work."""
    if not progress:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, disable=None, leave=False) as shown:  # None: no bar in files and pipes
        yield shown.update


def each(items: Iterable[T], progress: bool, label: str, total: int) -> Iterator[T]:
    """The items one by one, counted as they are done."""
    with bar(progress, label, total) as done:
        for item in items:
            yield item
            done()
