"""What a problem is, and a way of doing it. Peers are imported by `prepare` alone: problems can be listed without them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Peer:
    """One way of doing a problem.

    Parameters
    ----------
    name : str
        Begins with the name of the package; the runner puts the version behind that word: "py-pde (divergence form, Euler)".
    package : str or None
        Distribution whose version counts; None for NumPy by hand or C.
    prepare : callable
        Imports the peer, builds what is made once, compiles (`warmed`), all of it timed apart, and returns what is timed.
    error : callable
        Relative error of the answer; or that and its standard error, where the answer is an estimate.
    note : str
        Settings and limits, one line.
    work : float or None
        Steps per call where they are not the problem's: slow peers are given fewer.
    """

    name: str
    package: str | None
    prepare: Callable[[], Callable[[], Any]]
    error: Callable[[Any], float | tuple[float, float]]
    note: str = ""
    work: float | None = None


@dataclass(frozen=True)
class CannotDo:
    """A package that has no way of doing the problem; listed with the reason."""

    name: str
    package: str | None
    reason: str


@dataclass(frozen=True)
class Problem:
    """A question in words and numbers, the same for all.

    Parameters
    ----------
    group : str
        "Fokker-Planck", "paths" or "networks".
    name : str
        One line, unique in its group.
    question : str
        The problem in words and numbers.
    unit : str
        What is shown: "ms" for the time of a call, or a rate such as "M steps/s" in millions (k: thousands) of `work`.
    work : float or None
        Steps per call, for rates; None for times.
    ours : Peer
    peers : tuple of Peer or CannotDo
    reference : str
        Where the value that errors are taken against comes from: a closed form, quadrature, a fine grid by another method.
    """

    group: str
    name: str
    question: str
    unit: str
    work: float | None
    ours: Peer
    peers: tuple[Peer | CannotDo, ...]
    reference: str


def warmed(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same after a first call, which compiles."""
    run()
    return run


def quick() -> bool:
    """Whether the run asks for small versions of the problems: read by `problems()` of the groups."""
    return os.environ.get("FPSOLVE_PEERS_QUICK") == "1"
