"""References that take longer than what is timed: computed once per run, by the first way that needs them, kept for the rest."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np


def kept(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What `make` returns, from the folder of the run if it is there."""
    folder = os.environ.get("FPSOLVE_PEERS_FOLDER")
    if folder is None:
        return np.asarray(make())
    path = Path(folder) / f"{name}.npy"
    if not path.exists():
        part = path.with_suffix(".part.npy")
        np.save(part, make())
        part.rename(path)
    return np.asarray(np.load(path))
