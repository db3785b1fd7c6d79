"""Sweeps: a task over axes of parameters, seeds and ranges of trajectories, on any executor, into a file that survives faults."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import io
from ._calls import Call, ConfigCall, Outcome, as_values
from ._columns import ONLY
from ._executors import Crew, carry_out, hire
from ._lock import locked, writer_of
from ._result import Result
from ._shown import Quantity
from ._sweep_file import DONE, FAILED, MISSING, Reader, Writer
from ._units import Plan, Value, each_missing
from .errors import FpsolveError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Sweep", "describe_sweep", "sweep"]

logger = logging.getLogger(__name__)


def sweep(
    task: Any,
    axes: Any = None,
    *,
    replicates: int | None = None,
    seed: int | None = None,
    paths: int | None = None,
    per_unit: int | None = None,
    executor: Any = None,
    out: str | os.PathLike[str] = "sweep.h5",
    retries: int = 2,
    progress: bool = False,
) -> Sweep:
    """Run a task at every point of a grid or a list of parameters, and keep every result in a file as soon as it is there.

    The same call goes on with the file of one that was killed, interrupted, or ran out of disk: what is stored is not computed
    again. Results are the same bits with every executor, in whatever order the units come back, on one kind of machine; which
    kinds took part is recorded, and reported if there were several. See the page on sweeps of the documentation.

    Parameters
    ----------
    task : callable, path, dict or Config
        A function ``task(**parameters)``. If it takes `seed`, it gets that of the unit, a hash of `seed`, the replicate and the
        parameters; with `paths` it gets the range of trajectories as ``first`` and ``n``. It returns a number, an array, a result
        of fpsolve, or a dict of these, the same kind and shapes at every point. Or a configuration (a TOML file, its tables as a
        dict, or a `Config`), whose entries the parameters replace: ``{"noise.D": [0.1, 0.2]}``.
    axes : dict, or list of dict
        Values for each name: all combinations are run. Or a list of points, each a dict of all names. Values are numbers, truths or
        texts. Default: the axes of the configuration; for a function a single point.
    replicates : int, optional
        How often each point is run, each time with another seed. Default: what the configuration says, else 1.
    seed : int, optional
        Seed of the sweep. Default: what the configuration says, else 0.
    paths, per_unit : int, optional
        Split one ensemble of `paths` trajectories into units of `per_unit`, for every point; their seed is the same, and
        `Sweep.merged` puts their results together. Default for `per_unit`: the largest divisor of `paths` up to a million.
    executor : optional
        None: in this process. ``"threads"`` or ``"processes"``: as many as there are cores; a number: so many processes. Any
        executor of `concurrent.futures`. A Dask client, cluster, or the address of a scheduler (``"tcp://host:8786"``).
    out : path
        The HDF5 file.
    retries : int
        How often a unit whose worker died is given to another one. One that raised an exception is tried again by the next call.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Sweep
        Reads the file. Units that failed are NaN in it, with their errors in `Sweep.errors`, and a RuntimeWarning tells of them.

    Raises
    ------
    ValueError, TypeError
        Bad arguments, a file of another call, or one that another process writes to: before any work.
    OSError
        If the file cannot be written, or does not fit on the disk; what was stored before stays.
    FpsolveError
        If every unit failed, or the workers are lost; what was stored before stays.

    Examples
    --------
    >>> import fpsolve as fps, tempfile, os
    >>> def escape(D):
    ...     well = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(D))
    ...     return fps.theory.kramers_rate(well, minimum=[-1.0], saddle=[0.0])
    >>> folder = tempfile.TemporaryDirectory()
    >>> rates = fps.sweep(escape, {"D": [0.1, 0.2]}, out=os.path.join(folder.name, "rates.h5"))
    >>> rates
    Sweep(D: 2; 2 of 2 units done)
    >>> bool(rates.values()[0] < rates.values()[1])
    True
    >>> folder.cleanup()
    """
    target = io.check_writable(out)
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries must be an integer >= 0, got {retries!r}")
    asked = {"replicates": replicates, "seed": seed, "paths": paths, "per_unit": per_unit}
    config = None if callable(task) else _config(task)
    if config is not None:
        asked = {name: config.sweep[name] if value is None else value for name, value in asked.items()}
        if asked["seed"] is None:
            asked["seed"] = config.as_dict().get("run", {}).get("seed")
        axes, encoded = as_values(config.axes if axes is None else axes)
    plan = Plan.make(axes, **asked)
    call = Call.make(task, plan) if config is None else ConfigCall.make(config, plan, encoded)
    with hire(executor, call) as crew, locked(target):
        writer = Writer(target, plan, {**call.words, **plan.as_words()})
        try:
            if writer.count(DONE) < plan.size:
                _run(crew(), call, plan, writer, retries, progress)
        finally:
            writer.close()
    found = Sweep(target)
    _report(found)
    return found


def _config(task: Any) -> Any:
    if not isinstance(task, (str, os.PathLike, Mapping)) and type(task).__name__ != "Config":
        raise TypeError(f"task must be a function, or a configuration (a TOML file or a dict), got {type(task).__name__}: {task!r}")
    from .config import Config, read_config

    return task if isinstance(task, Config) else read_config(task)


def _run(crew: Crew, call: Call | ConfigCall, plan: Plan, writer: Writer, retries: int, progress: bool) -> None:
    with _bar(writer, crew, progress) as tick:

        def store(index: int, outcome: Outcome, attempts: int) -> None:
            error = writer.store(index, outcome, attempts)
            if error:
                logger.info("sweep: unit %d (%s) failed: %s", index, plan.parameters(plan.point(index)), error)
            tick(bool(error))

        try:
            todo = each_missing(writer.finished, plan.size)
            carry_out(crew, call, todo, plan.unit, store, retries, lambda: writer.layout is not None)
        except FpsolveError as error:
            raise FpsolveError(
                f"{error}; {writer.count(DONE)} of {plan.size} units are stored in {writer.path}: the same call goes on from there"
            ) from error


@contextmanager
def _bar(writer: Writer, crew: Crew, progress: bool) -> Iterator[Any]:
    if not progress:
        yield lambda failed: None
        return
    from tqdm.auto import tqdm

    # disable=None: no bar where the output is a file or a pipe
    with tqdm(total=writer.plan.size, initial=writer.count(DONE), desc="sweep", unit="unit", disable=None, smoothing=0.05) as bar:
        if crew.link:
            bar.write(f"dashboard of the cluster: {crew.link}")

        failed = 0

        def tick(error: bool) -> None:
            nonlocal failed
            failed += error
            notes = [crew.note(), f"{failed} failed" if failed else ""]
            bar.set_postfix_str(", ".join(n for n in notes if n), refresh=False)
            bar.update()

        yield tick


def _report(found: Sweep) -> None:
    """Warn of what the caller must know, or raise if there is nothing to return."""
    if found.failed:
        parameters, error = found.errors(1)[0]
        text = f"{found.failed} of {found.size} units failed; the first: {_words(parameters)}: {error}"
        if found.failed == found.size:
            raise FpsolveError(f"{text}. They are tried again by the same call; {found.path}")
        warnings.warn(f"{text}. The same call tries them again", RuntimeWarning, stacklevel=3)
    machines = found.machines
    if len(machines) > 1:
        warnings.warn(f"{_different(machines)}; equal bits are promised on one kind only", RuntimeWarning, stacklevel=3)


def _different(machines: Sequence[Mapping[str, str]]) -> str:
    names = [n for n in {k: 0 for m in machines for k in m} if len({m.get(n) for m in machines}) > 1]
    parts = [f"{n}: {', '.join(sorted({str(m.get(n)) for m in machines}))}" for n in names]
    return f"the units were run by {len(machines)} kinds of machines ({'; '.join(parts)})"


def _words(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "the only point"


# ---- the result -----------------------------------------------------------------------------------------------------------


class Sweep(Result):
    """The results of a sweep, read from its file when they are asked for; also while the sweep goes on.

    Parameters
    ----------
    path : path
        A file that `fpsolve.sweep` wrote.

    Attributes
    ----------
    axes : dict of str to tuple
        Values of each parameter; of a list of points one value for each point.
    dims : tuple of str
        Names of the axes of `values`: those of the parameters (or "point"), then "replicate" and "range" where there are several.
    shape : tuple of int
    size : int
        Number of units.
    parameters : sequence of dict
        Of every point.
    seed : int
    names : tuple of str
        What `values` can be asked for.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not that of a sweep.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._reader = Reader(path)
        self.path = self._reader.path

    @property
    def _plan(self) -> Plan:
        return self._reader.places().plan

    @property
    def axes(self) -> dict[str, tuple[Value, ...]]:
        return dict(self._plan.axes)

    @property
    def _kept(self) -> list[int]:
        """Axes of the table of units that are shown: those of one replicate or one range are not."""
        shape, depth = self._plan.shape, len(self._plan.grid)
        return [i for i, n in enumerate(shape) if i < depth or n > 1]

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(self._plan.dims[i] for i in self._kept)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._plan.shape[i] for i in self._kept)

    @property
    def size(self) -> int:
        return self._plan.size

    @property
    def seed(self) -> int:
        return self._plan.seed

    @property
    def parameters(self) -> Sequence[dict[str, Value]]:
        return _Points(self._plan)

    @property
    def names(self) -> tuple[str, ...]:
        layout = self._reader.places().layout
        return () if layout is None else tuple(layout.columns)

    def _count(self, status: int) -> int:
        return int(np.count_nonzero(self._reader.status() == status))

    @property
    def done(self) -> int:
        """Units whose result is stored."""
        return self._count(DONE)

    @property
    def failed(self) -> int:
        """Units that raised an exception, or whose worker died too often."""
        return self._count(FAILED)

    @property
    def missing(self) -> int:
        """Units that nothing is known of yet."""
        return self._count(MISSING)

    def errors(self, most: int = 100) -> list[tuple[dict[str, Value], str]]:
        """Parameters and messages of the first units that failed."""
        found = np.flatnonzero(self._reader.status() == FAILED)[:most]
        return [(self._plan.parameters(self._plan.point(int(i))), self._reader.text("units/error", int(i))) for i in found]

    @property
    def machines(self) -> list[dict[str, str]]:
        """The kinds of machines that units were run on: processor and versions."""
        return [json.loads(text) for text in self._reader.machines() if text]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Run time of every unit, NaN where it is missing; the shape is that of the sweep."""
        done = self._reader.status() != MISSING
        return np.where(done, self._reader.column("units/seconds"), np.nan).reshape(self.shape)

    def _name(self, name: str | None) -> str:
        if not self.names:
            raise ValueError(f"{self.path} holds no result yet: no unit is done (failed: {self.failed}; see errors())")
        if name is None:
            name = ONLY if ONLY in self.names or len(self.names) > 1 else self.names[0]
            if name not in self.names:
                raise ValueError(f"name one of the results: {', '.join(self.names)}")
        if name not in self.names:
            raise KeyError(f"the units have no {name!r}; they have {', '.join(self.names)}")
        return name

    def values(self, name: str | None = None) -> NDArray[Any]:
        """One number or array of every unit: shape of the sweep, then its own.

        Units that are missing or failed are NaN; then integers and truths come as floats.

        Parameters
        ----------
        name : str, optional
            One of `names`; default: "value", or the only one there is.

        Raises
        ------
        KeyError, ValueError
            If there is no such result, or none at all yet.
        """
        name = self._name(name)
        good = self._reader.status() == DONE
        data = self._reader.column(f"results/{name}")
        data = data.astype(data.dtype if good.all() or data.dtype.kind in "fc" else np.float64)
        if not good.all():
            data[~good] = np.nan
        return data.reshape((*self.shape, *data.shape[1:]))

    def mean(self, name: str | None = None) -> NDArray[Any]:
        """Mean over replicates and ranges, of those that are done; NaN where none is."""
        return self._moments(name)[0]

    def stderr(self, name: str | None = None) -> NDArray[np.float64]:
        """Standard error of `mean`, from the scatter of replicates and ranges; NaN where fewer than two are done."""
        return self._moments(name)[1]

    def _moments(self, name: str | None) -> tuple[NDArray[Any], NDArray[np.float64]]:
        name, grid = self._name(name), self._plan.grid
        good = (self._reader.status() == DONE).reshape(self._plan.points, -1)
        data = self._reader.column(f"results/{name}")
        data = data.astype(np.result_type(data.dtype, np.float64)).reshape(*good.shape, *data.shape[1:])
        mask = good.reshape(*good.shape, *[1] * (data.ndim - 2))
        count = good.sum(axis=1).reshape(-1, *[1] * (data.ndim - 2)).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(mask, data, 0.0).sum(axis=1) / count
            square = (np.where(mask, np.abs(data - mean[:, None]), 0.0) ** 2).sum(axis=1)
            error = np.sqrt(square / (count - 1.0) / count)
        error = np.where(count > 1.0, error, np.nan)
        shape = (*grid, *data.shape[2:])
        return mean.reshape(shape), error.reshape(shape)

    def _indices(self, parameters: Mapping[str, Any]) -> range:
        """The units of a point, replicate by replicate."""
        each = self._plan.replicates * self._plan.ranges
        point = self._plan.find(parameters)
        return range(point * each, (point + 1) * each)

    def result(self, *, replicate: int = 0, number: int = 0, **parameters: Any) -> Any:
        """What the task returned at a point.

        Parameters
        ----------
        replicate, number : int
            Which replicate, and which range of trajectories.
        **parameters
            The point; axes of one value may be left out. Names with dots: ``result(**{"noise.D": 0.1})``.

        Raises
        ------
        KeyError
            If there is no such unit: names the values there are.
        ValueError
            If it is missing or failed: says why.
        """
        for name, value, count in (("replicate", replicate, self._plan.replicates), ("number", number, self._plan.ranges)):
            if not 0 <= value < count:
                raise KeyError(f"{name}={value} does not exist: there are {count}")
        return self._value(self._indices(parameters)[replicate * self._plan.ranges + number])

    def _value(self, index: int) -> Any:
        state = self._reader.state(index)
        if state != DONE:
            what = (
                f"failed: {self._reader.text('units/error', index)}" if state == FAILED else "is missing; the same call computes it"
            )
            raise ValueError(f"the unit at {_words(self._plan.parameters(self._plan.point(index)))} {what}")
        return self._reader.value(index)

    def merged(self, **parameters: Any) -> Any:
        """The results of all ranges and replicates of a point, put together in their order by the method ``merge`` of the result.

        One unit at a time is in memory; the bits do not depend on the order in which the units were finished.

        Raises
        ------
        KeyError, ValueError
            As in `result`.
        TypeError
            If results of this kind cannot be merged.
        """
        total = None
        for index in self._indices(parameters):
            one = self._value(index)
            if total is None:
                if not hasattr(one, "merge"):
                    raise TypeError(f"{type(one).__name__} has no method merge: let the task return statistics that can be merged")
                total = one
            else:
                total = total.merge(one)
        return total

    def _labelled(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """All numbers and arrays, along the axes of the sweep."""
        variables = {}
        for name in self.names:
            data = self.values(name)
            own = [f"{name}_{i}" for i in range(data.ndim - len(self.shape))]
            variables[name] = ([*self.dims, *own], data)
        along = {n: (("point",) if self._plan.listed else (n,), list(v)) for n, v in self._plan.axes.items()}
        return variables, along, {"seed": self.seed}

    def _rows(self) -> str:
        return " ".join(self.dims)

    def _quantities(self) -> dict[str, Quantity]:
        """How far it is, its axes, and what there is of every unit."""
        state = self._reader.status()
        counts = {name: int(np.count_nonzero(state == s)) for name, s in (("done", DONE), ("failed", FAILED), ("missing", MISSING))}
        shown = {**counts, "results": self.names, "seed": self.seed, "path": str(self.path)}
        return {**{name: Quantity(values) for name, values in self.axes.items()}, **{k: Quantity(v) for k, v in shown.items()}}

    def plot(  # type: ignore[override]  # the name of a result comes first
        self, name: str | None = None, *, ax: Axes | None = None, **kwargs: Any
    ) -> Axes:
        """Draw the means of a number: over one axis of several values a line with error bars, over two a map.

        Parameters
        ----------
        name : str, optional
            As in `values`.
        ax : Axes, optional
        **kwargs
            For `Axes.errorbar` or `Axes.pcolormesh`.

        Raises
        ------
        ValueError
            If it is an array, or the points are a list or have another number of axes.
        """
        from ._pictures import axes

        name, plan = self._name(name), self._plan
        long = [n for n, values in plan.axes.items() if len(values) > 1]
        mean, error = (part.squeeze() for part in self._moments(name))
        if (plan.listed and len(plan.axes) > 1) or len(long) not in (1, 2) or mean.ndim != len(long):
            raise ValueError(
                f"a picture needs a number over one or two axes of several values; {name!r} has the shape {mean.shape}, and the "
                f"axes of several values are {', '.join(long) or 'none'}: draw what you choose of values({name!r})"
            )
        ax, ticks = axes(ax), [plan.axes[n] for n in long]
        places = [np.arange(len(t)) if any(isinstance(v, (str, bool)) for v in t) else np.array(t, float) for t in ticks]
        if len(long) == 1:
            order = np.argsort(places[0])
            options = {"fmt": "o-", "capsize": 2, **kwargs}
            ax.errorbar(places[0][order], mean[order], None if np.isnan(error).all() else error[order], **options)
            ax.set(xlabel=long[0], ylabel=name)
        else:
            first, second = (np.argsort(p) for p in places)
            mesh = ax.pcolormesh(
                places[0][first], places[1][second], mean[np.ix_(first, second)].T, **{"shading": "nearest", **kwargs}
            )
            ax.figure.colorbar(mesh, ax=ax, label=name)
            ax.set(xlabel=long[0], ylabel=long[1])
        for axis, place, tick in zip((ax.xaxis, ax.yaxis), places, ticks, strict=False):
            if place.dtype.kind == "i":
                axis.set_ticks(place, [str(t) for t in tick])
        return ax

    def __repr__(self) -> str:
        plan = self._plan
        sizes = (
            [f"{n}: {len(v)}" for n, v in plan.axes.items()]
            if not plan.listed
            else [f"{plan.points} points of {', '.join(plan.axes)}"]
        )
        sizes += [f"{plan.replicates} replicates"] if plan.replicates > 1 else []
        sizes += [f"{plan.paths} paths in {plan.ranges} units"] if plan.paths else []
        state = self._reader.status()
        failed = int(np.count_nonzero(state == FAILED))
        text = f"{int(np.count_nonzero(state == DONE))} of {plan.size} units done"
        return f"Sweep({', '.join(sizes) or 'one point'}; {text}{f', {failed} failed' if failed else ''})"


class _Points(Sequence[dict[str, Value]]):
    """The parameters of every point, made when they are asked for."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __len__(self) -> int:
        return self._plan.points

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self._plan.parameters(k) for k in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"there is no point {i}: points are 0 ... {len(self) - 1}")
        return self._plan.parameters(i % len(self))


def describe_sweep(path: str | os.PathLike[str]) -> list[str]:
    """How far a sweep is, as lines of text; checksums are not looked at, so that this is quick."""
    reader = Reader(path)
    plan, state = reader.places().plan, reader.quick_status()
    done, failed = (int(np.count_nonzero(state == s)) for s in (DONE, FAILED))
    writer = writer_of(reader.path)
    sizes = " x ".join(f"{n} {size}" for n, size in zip(plan.dims, plan.shape, strict=True) if size > 1) or "one point"
    lines = [f"{reader.path}", f"task      {reader.places().call.get('task', '')[:100]}", f"units     {plan.size} ({sizes})"]
    lines.append(f"done      {done} ({100 * done / plan.size:.1f} %), failed {failed}, missing {plan.size - done - failed}")
    lines.append(f"writer    {writer or 'none'}")
    ended = reader.column("units/finished")[state != MISSING]
    if len(ended):
        seconds = reader.column("units/seconds")[state == DONE]
        took = (
            f"{np.mean(seconds):.3g} s each on average, {seconds.sum() / 3600:.3g} hours in all" if len(seconds) else "none is done"
        )
        lines.append(f"run time  {took}")
        latest = np.sort(ended)[-100:]
        if len(latest) > 1 and latest[-1] > latest[0]:
            rate = (len(latest) - 1) / (latest[-1] - latest[0])
            left = f", {_duration((plan.size - done) / rate)} to go" if writer and done < plan.size else ""
            lines.append(f"rate      {rate:.3g} units/s, of the last {len(latest)}{left}")
        lines.append(f"last      {_duration(max(0.0, time.time() - float(latest[-1])))} ago")
    machines = [json.loads(text) for text in reader.machines() if text]
    lines += [f"machine   {', '.join(f'{k} {v}' for k, v in m.items() if k != 'features')}" for m in machines]
    if len(machines) > 1:
        lines.append(f"warning   {_different(machines)}")
    if failed:
        times = reader.column("units/finished")
        last = max(np.flatnonzero(state == FAILED).tolist(), key=lambda i: times[i])
        lines.append(f"error     {_words(plan.parameters(plan.point(last)))}: {reader.text('units/error', last)}")
    return lines


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown time"
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
