"""A progress bar for questions whose solvers lie deep: who asks shows it, who works counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["each", "shown", "tick"]

T = TypeVar("T")

_bar: ContextVar[Any] = ContextVar("the bar that is shown", default=None)


@contextmanager
def shown(label: str, unit: str, progress: bool) -> Iterator[None]:
    """A bar on the terminal during the block, if wanted. How many units there will be is not known: it shows their number and rate.

    Examples
    --------
    >>> with shown("spectrum", "solve", False):
    ...     tick()
    """
    if not progress:
        yield
        return
    from tqdm.auto import tqdm

    # disable=None: no bar where the output is a file or a pipe, but one in a notebook
    with tqdm(desc=label, unit=unit, disable=None) as bar:
        token = _bar.set(bar)
        try:
            yield
        finally:
            _bar.reset(token)


def tick() -> None:
    """One unit of work is done."""
    bar = _bar.get()
    if bar is not None:
        bar.update()


def each(items: Sequence[T], label: str, unit: str, progress: bool, name: Callable[[T], str] | None = None) -> Iterator[T]:
    """The items one by one, with a bar if wanted, that gives the name of the one under way.

    Examples
    --------
    >>> list(each([1, 2], "report", "part", False))
    [1, 2]
    """
    if not progress:
        yield from items
        return
    from tqdm.auto import tqdm

    with tqdm(total=len(items), desc=label, unit=unit, disable=None) as bar:
        for item in items:
            if name is not None:
                bar.set_postfix_str(name(item))
            yield item
            bar.update()
