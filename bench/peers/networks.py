"""Problems of this group."""

from ._case import Problem


def problems() -> list[Problem]:
    return []


def __getattr__(name: str) -> list[Problem]:
    if name == "PROBLEMS":
        return problems()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
