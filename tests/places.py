"""Where the tests find the project's files: the repository's beside them, the packages' where Python imports them from.

In a checkout these are one tree; where an installed wheel is tested the packages lie elsewhere.
"""

import functools
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {"fpsolve": "fpsolve", "nets": "nets", "bench/validate": "fpsolve_validation"}


@functools.cache
def folder(name: str) -> Path:
    """A folder of the repository by its name there; that of a package is the one that is imported."""
    spec = importlib.util.find_spec(PACKAGES[name]) if name in PACKAGES else None
    return ROOT / name if spec is None or spec.origin is None else Path(spec.origin).parent


def relative(path: Path) -> str:
    """What a file is called in the repository."""
    home = next((name for name in PACKAGES if path.is_relative_to(folder(name))), "")
    return (Path(home) / path.relative_to(folder(home))).as_posix()
