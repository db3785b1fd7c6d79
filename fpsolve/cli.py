"""The command line: ``fpsolve demo | run | sweep | status | validate | show | warm | env | completion``.

Exit codes: 0 done, 1 a check or a computation failed, 2 wrong usage or input, 130 interrupted. Whatever a subcommand needs is
imported inside it, so that ``fpsolve --help`` loads nothing but argparse.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpsolve._arguments import WARM, parser, subcommands

if TYPE_CHECKING:
    from fpsolve._warm import Warmed
    from fpsolve.config import Config

__all__ = ["main"]

#: What Ctrl-C leaves, and how to go on.
_AFTER_INTERRUPT = {
    "demo": "nothing is saved before the end: start it again",
    "run": "nothing is saved",
    "validate": "claims that were done are in the report; name the others to run them",
    "sweep": "the same command goes on with the units that are missing",
    "warm": "what was compiled stays: the same command goes on",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv
        Arguments without the program's name; the process's own by default.

    Returns
    -------
    int
        0 done, 1 a check or a computation failed, 2 wrong usage or input, 130 interrupted.

    Examples
    --------
    >>> main(["--version"])
    fpsolve 0.1.0
    0
    """
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help text or the usage error
        return int(stop.code or 0)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # in a pipe or a log, too, a line is seen when it is written
        if sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode gets the names of letters it lacks
    try:
        code = int(_COMMANDS[args.command](args))
        if sys.stdout is not None:  # None if it was closed
            sys.stdout.flush()  # a reader that has gone is noticed here, not at exit
        return code
    except KeyboardInterrupt as stop:
        words = str(stop) or _AFTER_INTERRUPT.get(args.command, "")
        print(f"fpsolve: interrupted{words and '; '}{words}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe (head, less) has gone: not an error, but nothing more can be printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if args.debug:
            raise
        return _report(error)


def _report(error: Exception) -> int:
    """Print an expected error as one line and return its exit code; let any other one through with its traceback."""
    from fpsolve.errors import FpsolveError

    if isinstance(error, MemoryError):
        print(f"fpsolve: error: memory is short{f' ({error})' if str(error) else ''}: ask for less", file=sys.stderr)
        return 1
    if not isinstance(error, (ValueError, TypeError, OSError, ImportError, FpsolveError)):
        raise error
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"fpsolve: error: {text}", file=sys.stderr)
    return 1 if isinstance(error, FpsolveError) else 2


def _print_json(value: object) -> None:
    """One object; numbers that JSON does not have are texts."""
    print(json.dumps(_finite(value), indent=1, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value if not isinstance(value, float) or abs(value) < float("inf") else str(value)


# ---- demo, run, validate, sweep, status ------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> int:
    from nets.demo import main as demo

    progress = not args.no_progress
    return demo(data=args.data, out=args.out, quick=args.quick, progress=progress, seed=args.seed)


def _run(args: argparse.Namespace) -> int:
    import time
    from dataclasses import replace

    from fpsolve.config import read_config

    config = read_config(args.config)
    if args.set:
        config = config.replaced(dict(args.set))
    if args.check:
        config.check()
        print(f"{config!r} is in order")
        return 0
    chosen = dict(args.set)
    if left := [key for key in config.axes if key not in chosen]:
        every = f"run all of it with `fpsolve sweep {args.config}`, or choose a value of each with --set"
        raise ValueError(f"{args.config} has axes ({', '.join(left)}): {every}")
    if config.axes:  # one cell of a sweep
        cell = read_config({name: table for name, table in config.as_dict().items() if name != "sweep"})
        config = replace(cell, source=config.source)
    config = _seeded(config, args.seed)
    out = config.as_dict()["run"]["out"] if args.out is None else args.out
    if out is not None:
        from fpsolve.io import check_writable

        out = check_writable(out)
        if out.exists() and out.suffix.lower() == ".toml":
            raise ValueError(f"--out {out} is a configuration, which a result would replace; name another file, e.g. {out.stem}.h5")
    config.check()
    start = time.perf_counter()
    result = config.run(progress=not args.no_progress)
    seconds = time.perf_counter() - start
    print(_summary(result))
    if out is not None:
        config.save(out, result, wall_time=seconds, seed=config.as_dict()["run"]["seed"])
        print(f"saved in {out}")
    if getattr(result, "partial", False) or (isinstance(result, dict) and result.get("complete") is False):
        raise KeyboardInterrupt(_how_to_go_on(config, out))  # what was done until then is shown and saved
    return 0


def _how_to_go_on(config: Config, out: object) -> str:
    checkpoint = config.as_dict()["run"]["checkpoint"]
    if checkpoint is not None:
        return f"the same command goes on from {checkpoint}"
    return f"what was done until then is in {out}" if out is not None else "what was done until then is shown, and not saved"


def _seeded(config: Config, seed: int | None) -> Config:
    """With the seed that was asked for, or a fresh one where the task draws and none is given: what is stored runs again alike."""
    if seed is None and config.takes("seed") and config.as_dict()["run"]["seed"] is None:
        from secrets import randbits

        seed = randbits(31)
    return config if seed is None else config.replaced({"run.seed": seed})


def _summary(result: object) -> str:
    """A result in words; the numbers that a task of another package returns line by line, its lists side by side."""
    if isinstance(result, dict):
        from fpsolve.results import Table

        lists = {name: value for name, value in result.items() if isinstance(value, list)}
        numbers = {name: value for name, value in result.items() if name not in lists}
        width = max((len(name) for name in numbers), default=0)
        lines = [f"{name:<{width}}  {value}" for name, value in numbers.items()]
        if lists:
            lines.append(str(Table("", tuple(lists), tuple(zip(*lists.values(), strict=False)))))
        return "\n".join(lines)
    return "\n".join(str(part) for part in result) if isinstance(result, tuple) else str(result)


def _validation() -> Any:
    try:
        import fpsolve_validation as validation
    except ModuleNotFoundError as error:
        if error.name != "fpsolve_validation":
            raise
        raise ImportError(
            "the validation package is not installed; install fpsolve with pip (from a checkout: pip install -e .)"
        ) from None
    return validation


def _validate(args: argparse.Namespace) -> int:
    if args.json and not args.list:
        raise ValueError("--json goes with --list; the record of a run is validation.json in the folder --out")
    validation = _validation()
    if args.report is not None:
        if args.names:
            raise ValueError(f"--report makes the page of all claims in the record; leave out {' '.join(args.names)}")
        return validation.remake(Path(args.report))
    claims = validation.select(validation.discover(), args.names)
    if args.list and args.json:
        named = ("NAME", "GROUP", "STANDING", "CLAIM")
        _print_json([{name.lower(): getattr(claim, name) for name in named} for claim in claims])
        return 0
    if args.list:
        print(validation.listing(claims))
        return 0
    options = {"quick": not args.full, "progress": not args.no_progress, "jobs": args.jobs}
    return validation.run(claims, out=Path(args.out), **options)


def _sweep(args: argparse.Namespace) -> int:
    import warnings

    from fpsolve._sweep import sweep
    from fpsolve.config import read_config

    config = read_config(args.config)
    if args.scheduler is not None and "://" not in args.scheduler:
        raise ValueError(f"{args.scheduler!r} is not the address of a scheduler, e.g. tcp://host:8786")
    if not config.axes and config.sweep["replicates"] == 1 and config.sweep["paths"] is None:
        advice = f"`fpsolve run {args.config}` asks it once; [sweep.axes] names values to vary, e.g. 'noise.D' = [0.1, 0.2]"
        raise ValueError(f"{args.config} has nothing to sweep over, neither axes nor replicates nor paths: {advice}")
    executor = args.scheduler or (args.jobs if args.jobs and args.jobs > 1 else None)
    out = args.out or config.sweep["out"] or "sweep.h5"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = sweep(config, seed=args.seed, executor=executor, out=out, progress=not args.no_progress)
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"fpsolve: warning: {text}", file=sys.stderr)
    print(f"{done!r} in {out}")
    return 1 if done.failed else 0


def _status(args: argparse.Namespace) -> int:
    from fpsolve._sweep import Sweep, describe_sweep

    if not args.json:
        print("\n".join(describe_sweep(args.file)))
        return 0
    found = Sweep(args.file)
    counts = {"size": found.size, "done": found.done, "failed": found.failed, "missing": found.missing}
    errors = [{"parameters": parameters, "error": error} for parameters, error in found.errors()]
    _print_json({"file": found.path, **counts, "dims": found.dims, "shape": found.shape, "axes": found.axes, "errors": errors})
    return 0


# ---- show --------------------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace) -> int:
    from fpsolve._show import clean, describe_file, entries_of_file
    from fpsolve._view import check_image, draw, in_words, results_of

    path = Path(args.file).expanduser()
    if path.is_dir() or path.suffix == ".json":
        return _show_validation(path, args)
    if args.brief and (args.plot or args.name):
        raise ValueError("--brief reads no result: leave out --plot and --name")
    if args.plot:
        check_image(args.plot)
    listed = entries_of_file(path) if args.json else describe_file(path)
    always = args.plot is not None or args.name is not None
    found, why = ({}, "") if args.brief else results_of(path, _of_nets, always=always)
    if (args.plot or args.name) and not found:
        raise ValueError(f"{path} has no result that could be drawn{f': {why}' if why else ''}")
    if args.name is not None and args.name not in found:
        raise ValueError(f"{path} has no result called {args.name!r}; it has {', '.join(map(clean, found))}")
    if args.json:
        objects = [{"name": name, "type": type(obj).__name__, "text": in_words(obj)} for name, obj in found.items()]
        _print_json({**listed, "objects": objects, "note": why})  # type: ignore[dict-item]
    else:
        print("\n".join(listed))
        for name, obj in found.items():
            print(f"\n{clean(name)}: {in_words(obj)}")
        if why:
            print(f"\nnot read as a result: {clean(why, 1000)}")
    if args.plot or not args.json:
        lines, why = draw(found, name=args.name, image=args.plot, width=args.width, ascii=args.ascii)
        text = "\n".join(["", *lines]) if lines else f"\nno picture: {clean(why, 1000)}" if why else ""
        print(text.lstrip("\n") if args.plot else text, file=sys.stderr if args.json else sys.stdout)
    return 0


def _show_validation(path: Path, args: argparse.Namespace) -> int:
    """The record of a run of `fpsolve validate`: a table of its claims."""
    if args.plot or args.name:
        raise ValueError(
            f"{path} is the record of a validation run, which has no picture; its figures are in report.html beside it"
        )
    table = _validation().summary(path)
    if args.json:
        _print_json({"file": str(path), "claims": [dict(zip(table.columns, row, strict=True)) for row in table.rows]})
    else:
        from fpsolve._show import clean

        print("\n".join(clean(line, 1000) for line in str(table).splitlines()))
    return 0


def _of_nets(kind: str, path: Path) -> Callable[[Path], Any] | None:
    """The reader of a kind that `nets` writes."""
    import nets
    from nets._saved import KINDS
    from nets._store import parts_folder

    if kind not in ("training run", "stats", *KINDS):
        return None
    if parts_folder(path).is_dir():  # reading would join them: to show changes nothing
        raise ValueError(f"a run writes it, or was killed: {parts_folder(path)} has its segments, which nets.load_run joins")
    return nets.load


# ---- warm --------------------------------------------------------------------------------------------------------------


def _warm(args: argparse.Namespace) -> int:
    from difflib import get_close_matches

    for name in args.names:
        if name not in WARM:
            near = get_close_matches(name, WARM, n=1)
            raise ValueError(
                f"no part is called {name!r}; {f'did you mean {near[0]!r}?' if near else 'known are: ' + ', '.join(WARM)}"
            )
    names = [name for name in WARM if not args.names or name in args.names]
    if args.list:
        _print_json({name: WARM[name] for name in names}) if args.json else print(_aligned((n, WARM[n]) for n in names))
        return 0
    from fpsolve._warm import cache_size, check_cache

    folders = check_cache()
    before = cache_size(list(folders.values()))
    parts = list(_warmed(names, args.jobs, progress=not args.no_progress and not args.json, quiet=args.json))
    kernels, size = cache_size(list(folders.values()))
    if args.json:
        rows = [{"name": p.name, "seconds": p.seconds, "compiled": p.compiled} for p in parts]
        _print_json({"parts": rows, "kernels": kernels, "bytes": size, "folders": {k: str(v) for k, v in folders.items()}})
        return 0
    compiled, seconds = sum(p.compiled for p in parts), sum(p.seconds for p in parts)
    news = f"{compiled} compilations in {seconds:.0f} s" if compiled else f"nothing to compile ({seconds:.1f} s)"
    print(f"{news}; the cache has {kernels} in {size / 1e6:.1f} MB, {max(0, size - before[1]) / 1e6:.1f} MB of them new")
    print(_aligned((f"  {name}", str(folder)) for name, folder in folders.items()))
    return 0


def _warmed(names: Sequence[str], jobs: int, *, progress: bool, quiet: bool) -> Iterable[Warmed]:
    from fpsolve._progress import each

    done: Iterator[Warmed] = _side_by_side(names, jobs) if jobs > 1 and len(names) > 1 else map(warm_part, names)
    for _ in each(names, "warm", "part", progress):
        part = next(done)
        if not quiet:
            _above_the_bar(f"{part.name:<18} {part.seconds:6.1f} s  {part.compiled:4d} compiled  {WARM[part.name]}")
        yield part


def _above_the_bar(line: str) -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode():
        print(line, flush=True)


def warm_part(name: str) -> Warmed:
    """Compile what belongs to a part of `fpsolve warm`."""
    from fpsolve._warm import PARTS, compiled_by

    return compiled_by(name, _network if name == "network" else PARTS[name])


def _network() -> None:
    import nets

    data = nets.load_data("spiral", n=40)
    for activation in ("tanh", "relu"):
        mlp = nets.MLP((2, 4, 2), activation=activation)
        for sampling in ("replace", "shuffle"):
            run = nets.train(mlp, data, lr=0.1, batch=10, steps=40, seed=0, sampling=sampling)
        nets.hessian(mlp, run.theta, data.x_train, data.y_train)
        nets.gradient_covariance(mlp, run.theta, data.x_train, data.y_train)


def _side_by_side(names: Sequence[str], jobs: int) -> Iterator[Warmed]:
    """Each part in a process of its own, `jobs` at a time; they end with this one, whatever ends it."""
    import subprocess
    from concurrent.futures import ThreadPoolExecutor

    from fpsolve._warm import Warmed

    started: list[subprocess.Popen[str]] = []

    def work(name: str) -> Warmed:
        command = [sys.executable, "-m", "fpsolve", "warm", name, "--json"]
        # a session of its own: Ctrl-C is for this process, which ends the others
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True))
        out, problem = started[-1].communicate()
        if started[-1].returncode:
            raise OSError(f"compiling {name} failed: {problem.strip()}")
        return Warmed(**json.loads(out)["parts"][0])

    pool = ThreadPoolExecutor(jobs)
    try:
        yield from pool.map(work, names)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in started:
            process.kill()


# ---- env, completion ---------------------------------------------------------------------------------------------------


def _env(args: argparse.Namespace) -> int:
    rows = list(_environment())
    if args.json:
        _print_json(dict(rows))
    else:
        print(_aligned(rows))
    return 0


def _aligned(rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _environment() -> Iterable[tuple[str, str]]:
    from fpsolve._environment import environment

    return environment()


def _completion(args: argparse.Namespace) -> int:
    from fpsolve._completion import script

    whole = parser()
    try:
        claims = _validation().names()
    except ImportError:  # without it nothing can be validated, but the rest completes
        claims = []
    print(script(args.shell, whole, subcommands(whole), claims), end="")
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "demo": _demo,
    "run": _run,
    "validate": _validate,
    "sweep": _sweep,
    "status": _status,
    "show": _show,
    "warm": _warm,
    "env": _env,
    "completion": _completion,
}
