"""Checkpoints of path runs: one HDF5 file that holds what is done and what is under way, and in the end the result.

The file is written under a temporary name, flushed and renamed (`fpsolve.io.save_tree`), so that a run that is killed at any moment
leaves the one before. It names the call that it belongs to; a file of another call is refused, and never written over.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._code import Code, CombinedCode, DerivedCode, ExpressionCode
from ._evaluated import EvaluatedCode
from ._function_code import FunctionCode
from .chains import SGDChain
from .grid import Grid
from .noise import Noise
from .potentials import Potential
from .process import Process, Underdamped
from .region import Region

__all__ = [
    "Checkpoint", "describe_arguments", "describe_chain", "describe_code", "describe_process", "describe_schedule",
    "problem_digest",
]  # fmt: skip

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
Units = dict[tuple[int, int], dict[str, Any]]

#: Temporary files older than this (seconds) were left behind by a killed process.
STALE = 3600.0


class Checkpoint:
    """The file of one run, from the first look at it to the result.

    Attributes
    ----------
    every : float
        Seconds between two writes.
    units : dict
        The units of work that were under way in the file, by their range of trajectories.
    result : object
        The result, if the run of the file came to its end.
    """

    def __init__(self, path: Path, every: float, function: str) -> None:
        self.path, self.every, self.function = path, every, function
        self.call: dict[str, str] = {}
        self.units: Units = {}
        self.result: Any = None
        self._old: dict[str, Any] | None = None
        self._done: dict[str, NDArray[Any]] = {}
        self._arrays: Callable[[], dict[str, NDArray[Any]]] = dict
        self._lock: Any = contextlib.nullcontext()
        self._last = time.monotonic()

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None, every: Any, function: str) -> Checkpoint | None:
        """Look at the file before any work; None without one.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            If it holds something else than a checkpoint, or `every` is not a number > 0.
        """
        if isinstance(every, bool) or not isinstance(every, (int, float, np.integer, np.floating)):
            raise TypeError(f"checkpoint_every must be a number of seconds, got {type(every).__name__}: {every!r}")
        if not (math.isfinite(every) and every > 0.0):
            raise ValueError(f"checkpoint_every must be a finite number of seconds > 0, got {every!r}")
        if path is None:
            return None
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be the name of a file, got {type(path).__name__}: {path!r}")
        from . import io  # h5py: not for runs without a file

        self = cls(io.check_writable(path), float(every), function)
        for left in self.path.parent.glob(f".{self.path.name[:100]}.*.tmp"):
            with contextlib.suppress(OSError):  # another process may have been quicker
                if time.time() - left.stat().st_mtime > STALE:
                    left.unlink()
        if self.path.exists():
            self._read()
        return self

    def _read(self) -> None:
        from . import io

        advice = "it is left as it is: give checkpoint= another name, or delete it"
        try:
            tree = io.load_tree(self.path)
        except ValueError as error:
            raise ValueError(f"the checkpoint cannot be used: {error}; {advice}") from error
        head = tree.get("checkpoint")
        if not isinstance(head, dict) or not isinstance(head.get("call"), dict):
            raise ValueError(f"{self.path} is not a checkpoint, it holds {', '.join(sorted(tree)) or 'nothing'}; {advice}")
        try:
            if head["complete"]:
                self.result = tree[head["kind"]]
            else:
                self._done = dict(tree["done"])
                self.units = {(u["lo"], u["hi"]): u["state"] for u in tree.get("units", {}).values()}
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is not a whole checkpoint ({error} is missing); {advice}") from error
        self._old = head["call"]

    @property
    def seed(self) -> int | None:
        """The seed of the run in the file: a call that names none goes on with it."""
        return None if self._old is None else int(self._old.get("seed", "0"))

    def match(self, call: Mapping[str, str]) -> Any:
        """Compare the call with that of the file; returns the result if the file has it.

        Raises
        ------
        ValueError
            If the file is that of another call: says in what they differ.
        """
        self.call = {"function": self.function, **call, **_versions()}
        if self._old is not None and self._old != self.call:
            names = [n for n in {**self.call, **self._old} if self.call.get(n) != self._old.get(n)]
            changes = "; ".join(f"{n} was {self._old.get(n, 'missing')}, is {self.call.get(n, 'missing')}" for n in names)
            raise ValueError(
                f"{self.path} is the checkpoint of another call: {changes}. It is left as it is: repeat that call, give "
                "checkpoint= another name, or delete the file"
            )
        return self.result

    def attach(self, arrays: Callable[[], dict[str, NDArray[Any]]], lock: Any) -> None:
        """Fill the arrays of a run from the file, and read them from now on; ``finished`` says which trajectories are done."""
        self._arrays, self._lock, self._last = arrays, lock, time.monotonic()
        for name, array in arrays().items() if self._done else ():
            found = self._done.get(name)
            if not isinstance(found, np.ndarray) or found.shape != array.shape or found.dtype != array.dtype:
                raise ValueError(f"{self.path} is not a whole checkpoint: done/{name} is missing or has another shape")
            array[...] = found
        self._done = {}

    def untouched(self, n: int) -> list[tuple[int, int]]:
        """Ranges of trajectories that are neither done nor under way."""
        open_ = ~self._arrays()["finished"]
        for lo, hi in self.units:
            open_[lo:hi] = False
        ends = np.flatnonzero(np.diff(np.concatenate([[False], open_, [False]]).astype(np.int8)))
        return [(int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=True)]

    def progress(self, per_trajectory: float) -> float:
        """How much of the work is done, if a trajectory is so much."""
        return float(self._arrays()["finished"].sum()) * per_trajectory + sum(float(u["done"]) for u in self.units.values())

    def write_if_due(self, units: Units) -> None:
        if time.monotonic() - self._last >= self.every:
            self.write(units)

    def write(self, units: Units) -> None:
        """Write what is done and `units`, the states of what is under way, taken before this call."""
        with self._lock:
            done = {name: array.copy() for name, array in self._arrays().items()}
        finished = done["finished"]
        under_way = {
            f"{lo}-{hi}": {"lo": lo, "hi": hi, "state": state} for (lo, hi), state in units.items() if not finished[lo:hi].all()
        }
        self._save({"checkpoint": self._head(False), "done": done, "units": under_way}, "checkpoint")
        self._last = time.monotonic()

    def finish(self, result: Any) -> None:
        """The result takes the place of the states; `fpsolve.load` gives it back."""
        from ._tree import _kind_of

        kind = _kind_of(result)
        assert kind is not None
        self._save({"checkpoint": {**self._head(True), "kind": kind}, kind: result}, kind)

    def _head(self, complete: bool) -> dict[str, Any]:
        return {"call": self.call, "complete": complete}

    def _save(self, tree: dict[str, Any], kind: str) -> None:
        from . import io

        try:
            io.save_tree(self.path, tree, {"kind": kind})
            logger.debug("wrote the checkpoint %s", self.path)
        except OSError as error:  # a full disk: the run is worth more than its checkpoint
            message = f"the checkpoint could not be written ({error}); the run goes on, and the file is that of before"
            logger.warning(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)


# ---- what a run depends on, as words --------------------------------------------------------------------------------


def _versions() -> dict[str, str]:
    """What decides the bits besides the call."""
    import fpsolve

    from . import io
    from ._codegen import _environment_digest

    packages = {name: str(io._version(name)) for name in ("numpy", "numba", "llvmlite")}
    return {"fpsolve": fpsolve.__version__, **packages, "kernels and processor": _environment_digest()[:16]}


def _digest(*parts: Any) -> str:
    """Of arrays, bytes and text."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.tobytes() if isinstance(part, np.ndarray) else part if isinstance(part, bytes) else str(part).encode()
        digest.update(f"{getattr(part, 'shape', '')}{len(data)}:".encode() + data)
    return digest.hexdigest()[:16]


def describe_arguments(**arguments: Any) -> dict[str, str]:
    """Arguments as text: numbers and short words as they are, arrays and objects by what they hold."""
    return {name: _words(value) for name, value in arguments.items()}


def _words(value: Any) -> str:
    if isinstance(value, Region):
        where = () if value.containing is None else (value.containing,)
        return f"{value.name} #{_digest(*_source(value.code, value.params, 'g'), *where)}"
    if isinstance(value, Grid):
        return f"grid {value.shape} #{_digest(value.boundary, *value.edges)}"
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value, float)
        return repr(array.tolist()) if array.size <= 16 else f"array {array.shape} #{_digest(array)}"
    if isinstance(value, (list, tuple)):
        if all(isinstance(v, (int, float, np.generic)) for v in value):
            return _words(np.array(value, float))
        return "[" + ", ".join(_words(v) for v in value) + "]"
    return repr(float(value)) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else repr(value)


def _functions(namespace: Mapping[str, Any]) -> list[bytes]:
    """Bytecode of the user's Python functions that a code calls."""
    found = [getattr(getattr(f, "py_func", f), "__code__", None) for _, f in sorted(namespace.items())]
    return [code.co_code + repr([c for c in code.co_consts if not hasattr(c, "co_code")]).encode() for code in found if code]


def _somewhere(dim: int, count: int) -> Array:
    """Points near and further from the origin, always the same."""
    return np.asarray(np.random.default_rng(0).standard_normal((count, dim)) * np.geomspace(0.1, 3.0, count)[:, None])


def describe_process(process: Process) -> str:
    """The process by the source and the parameters of its codes, and by what they give at some points.

    The source of a linear process of many dimensions would be long; its matrices stand for it.
    """
    if process.dim > 16:
        return (
            f"{process.dim}-D #{_digest(*_long(process.drift_code, process.params), *_long(process.factor_code, process.params))}"
        )
    parts: list[Any] = [repr(process.noise.stable)] if process.noise.stable is not None else []
    for code in (process.drift_code, process.factor_code):
        parts += _source(code, process.params)
    points = _somewhere(process.dim, 16)
    with np.errstate(all="ignore"):
        parts += [code.evaluate(points, process.params) for code in (process.drift_code, process.factor_code)]
    return f"{process.dim}-D #{_digest(*parts)}"


def _source(code: Code, params: Mapping[str, float], name: str = "f", called: bool = True) -> list[Any]:
    """A code by its source and parameters; where a part of it is evaluated on arrays, by what it is made of."""
    if not code.fusable:
        return _long(code, params, called)
    source, functions = code.emit(name)
    return [source, code.pack(params), *_functions(functions)]


def _long(code: Code, params: Mapping[str, float], called: bool = True) -> list[Any]:
    """A code of many dimensions: what it is made of, and what it gives at some points where its values are not too many.

    Functions of the user are not called unless `called`.
    """
    parts: list[Any] = [type(code).__name__]
    if isinstance(code, (FunctionCode, EvaluatedCode)):
        parts += _functions({"f": code.dispatcher if isinstance(code, FunctionCode) else code.function})
    if isinstance(code, CombinedCode):
        parts.append([scale for scale, _ in code.terms])
    if isinstance(code, DerivedCode):
        parts.append((code.outputs, code.lines))
    formed = "values" if code.parts or hasattr(code, "F") else ""  # a matrix that was formed from the parts on request
    numbers = [value for name, value in sorted(vars(code).items()) if isinstance(value, np.ndarray) and name != formed]
    parts += [np.ascontiguousarray(value) for value in numbers]
    parts += [part for child in code.parts for part in _long(child, params, called)]
    users = isinstance(code, (FunctionCode, EvaluatedCode))
    if not parts[1:] or users or isinstance(code, ExpressionCode):
        parts += [np.array([params[name] for name in code.names])]
        with np.errstate(all="ignore"):
            parts += [code.evaluate(_somewhere(code.dim, 4), params)] if called or not users else []
    return parts


def problem_digest(words: Sequence[Any], process: Process | None, points: Array, **call: Any) -> str:
    """What tells one question from another: words, source and parameters of the process, a common start, and options.

    It is made for every run, so it takes some microseconds and calls no function of the user: what a schedule, moving coefficients
    or an ensemble of Python give is not looked at.
    """
    parts: list[Any] = [repr(words), *sorted(describe_arguments(x0=points if len(points) == 1 else "individual", **call).items())]
    if process is not None:
        parts.append(repr(process.noise.stable))
        for code in (process.drift_code, process.factor_code):
            long = process.dim > 16
            parts += _long(code, process.params, called=False) if long else _source(code, process.params, called=False)
    return f"#{_digest(*parts)}"


def describe_code(code: Code, params: Mapping[str, float]) -> str:
    """Any code by what it is made of, its parameters, and what it gives at some points."""
    with np.errstate(all="ignore"):
        values = code.evaluate(_somewhere(code.dim, 16), params)
    return f"#{_digest(*_long(code, params), sorted(params.items()), values)}"


def describe_schedule(chain: SGDChain, limit: int | None) -> str:
    """Digest of learning rates and batch sizes at the first 4096 iterations and at some later ones, up to the limit of the run.

    A schedule may fail at iterations that the run does not reach; what it says before counts.
    """
    last = 10**6 if limit is None else limit - 1
    later = np.geomspace(4096, max(4096, last), 1000).astype(np.int64)
    pairs: list[tuple[float, int | None]] = []
    for k in np.unique(np.concatenate([np.arange(4096), later])).tolist() if chain.scheduled else [0]:
        try:
            if k <= last:
                pairs.append((chain.lr_at(k), chain.batch_at(k)))
        except Exception:
            if limit is not None or not k:
                raise
            break
    return f"#{_digest(pairs, chain.at)}"


def describe_chain(chain: SGDChain, limit: int | None = None) -> str:
    """SGD that runs in NumPy by its settings, its schedules at some iterations, and gradients at some points."""
    settings = (
        chain.kind, chain.dim, chain.size, chain.sampling, chain.momentum, chain.nesterov, chain.optimizer, chain.betas, chain.eps,
        chain.sigma, describe_schedule(chain, limit),
    )  # fmt: skip
    if chain.kind == "gaussian":
        assert chain.reference is not None
        return f"{chain.label} in {chain.dim}-D #{_digest(settings, describe_process(chain.reference))}"
    some = _somewhere(chain.dim, 4)
    if chain.kind == "shift":
        assert chain.landscape is not None
        slopes = np.asarray(chain.landscape.grad(some), float)
    else:
        indices = [np.arange(min(chain.size, chain.batch_at(0) or 1)), np.arange(chain.size - 1, -1, -max(1, chain.size // 64))]
        slopes = np.array([[chain.ensemble.gradient(x, i) for i in indices] for x in some], float)
    return f"{chain.label} in {chain.dim}-D #{_digest(settings, np.ascontiguousarray(slopes))}"


def describe(thing: Any) -> str | None:
    """A landscape, noise, process, chain, region or grid by what it is made of; None for anything else."""
    if isinstance(thing, (Region, Grid)):
        return _words(thing)
    if isinstance(thing, Process):
        return f"{describe_process(thing)} {thing.interpretation}"
    if isinstance(thing, Underdamped):
        return f"{thing.friction!r} {thing.mass!r} {describe_process(thing.field)}"
    if isinstance(thing, SGDChain):
        return describe_chain(thing)
    if isinstance(thing, Potential):
        return describe_code(thing.value_code, thing.params)
    if isinstance(thing, Noise):
        known = thing if thing.dim is not None else thing.resolve(1)
        codes = [describe_code(code, known.params) for code in (known.diffusion_code, known.factor_code) if code is not None]
        return f"{thing.dim} {thing.stable!r} {thing.lr!r} {thing.batch!r} {codes}"
    return None
