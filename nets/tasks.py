"""What `fpsolve run` can ask of this package: ``[task] name = "train"`` trains a network and measures it.

fpsolve finds `train` by the entry-point group ``fpsolve.tasks``. A task is an object with the functions whose keywords are the keys
of its tables, and with `check` and `run`, which take the resolved tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .data import load_data
from .measure import measure
from .mlp import MLP
from .record import Record
from .train import _prepare, _Samples
from .train import train as _train

__all__ = ["Train", "train"]

Tables = Mapping[str, Mapping[str, Any]]


def _called(table: str, function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """What the function returns; its complaints name the table."""
    try:
        return function(**options)
    except TypeError as error:
        raise TypeError(f"[{table}] {error}") from error
    except ValueError as error:
        raise ValueError(f"[{table}] {error}") from error


class Train:
    """A network trained by SGD, and numbers measured on it.

    Tables: [data] (`nets.load_data`), [network] (`nets.MLP`), [training] (`nets.train`), and if wanted [record] (`nets.Record`) and
    [measure] (`nets.measure`; exact matrices, so for networks of some thousand weights).

    Attributes
    ----------
    tables : dict
        Table -> function whose keywords are its keys, and keywords that are none.
    optional : tuple of str
        Tables that may be left out; without [measure] nothing beyond losses and errors is measured.
    """

    tables: Mapping[str, tuple[Callable[..., Any], frozenset[str]]] = {
        "data": (load_data, frozenset()),
        "network": (MLP, frozenset()),
        "training": (_train, frozenset({"seed", "progress", "overwrite"})),
        "record": (Record, frozenset()),
        "measure": (measure, frozenset()),
    }
    optional = ("record", "measure")

    @staticmethod
    def options() -> None:
        """[task] has no keys besides its name."""

    @staticmethod
    def _posed(tables: Tables) -> tuple[_Samples, dict[str, Any]]:
        mlp, data = _called("network", MLP, tables["network"]), _called("data", load_data, tables["data"])
        record = _called("record", Record, tables["record"]) if "record" in tables else None
        return _Samples(mlp, data), {**tables["training"], "record": record}

    def check(self, tables: Tables) -> None:
        """Everything that `nets.train` checks before it begins."""
        samples, options = self._posed(tables)
        _called("training", _prepare, {"samples": samples, **options, "seed": tables["run"]["seed"], "resume": None})

    def run(self, tables: Tables, *, seed: int | None, progress: bool = False) -> dict[str, Any]:
        """Train, measure, and return numbers by name.

        Returns
        -------
        dict
            steps, seed, train_loss, train_error, test_loss and test_error (where there are test samples), seconds; with [measure]
            also the trace and the largest eigenvalue of the Hessian, the trace of the gradient covariance per sample, their
            dimension, and of the noise of SGD trace(C)/batch.
        """
        samples, options = self._posed(tables)
        mlp, data = samples.mlp, samples.data
        run = _called("training", _train, {"mlp": mlp, "data": data, **options, "seed": seed, "progress": progress})
        numbers: dict[str, Any] = {"steps": run.step, "seed": run.seed, "complete": run.complete}
        for part in ("train", "test"):
            x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
            if len(x):
                numbers |= {f"{part}_loss": mlp.loss(run.theta, x, y), f"{part}_error": mlp.error(run.theta, x, y)}
        if "measure" in tables:
            stats = _called("measure", measure, {"source": run, "data": data, **tables["measure"]})
            assert stats.hessian is not None and stats.covariance is not None
            noise = float(stats.covariance.trace())
            numbers |= {
                "dim": stats.dim,
                "hessian_trace": float(stats.hessian.trace()),
                "hessian_top": float(stats.eigenvalues[0]),
                "covariance_trace": noise,
                "noise_trace": stats.noise_factor * noise / stats.batch,
            }
        return {**numbers, "seconds": run.wall_time}


#: Found by fpsolve.
train = Train()
