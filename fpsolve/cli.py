"""The command line: ``fpsolve demo | run | sweep | status | validate | show | env``.

Exit codes: 0 done, 1 a check or a computation failed, 2 wrong usage or input, 130 interrupted. Whatever a subcommand needs is
imported inside it, so that ``fpsolve --help`` loads nothing but argparse.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fpsolve import __version__

if TYPE_CHECKING:
    from fpsolve.config import Config

__all__ = ["main"]

_EXAMPLES = """\
examples:
  fpsolve demo                       train a network on real digits, predict the variance of its weights, compare
  fpsolve demo --data mnist --quick  the same on an MNIST subset (IDX files under $FPSOLVE_DATA/mnist), shorter run
  fpsolve run config.toml --out a.h5 do what a configuration asks, and store it with the result
  fpsolve run a.h5 --set noise.D=0.2 the same question again, with another value
  fpsolve validate --list            which claims of the theory can be checked
  fpsolve validate --quick           check all of them; exit code 1 if one fails
  fpsolve sweep config.toml --jobs 4 run a configuration over its axes, 4 units at a time; goes on with what is stored
  fpsolve status sweep.h5            how far a sweep is
  fpsolve show demo/run.h5           what is in a result file
  fpsolve env                        versions, processor, threads, cache folder

environment:
  FPSOLVE_DATA       folder of data sets (mnist/ with the IDX files)
  FPSOLVE_CACHE_DIR  folder of compiled kernels (default: the user's cache folder)
"""
_PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "h5py", "matplotlib", "sympy", "tqdm")
_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help text or the usage error
        return int(stop.code or 0)
    try:
        code = int(args.command(args))
        sys.stdout.flush()  # a reader that has gone is noticed here, not at exit
        return code
    except KeyboardInterrupt:
        print("fpsolve: interrupted", file=sys.stderr)
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

    if not isinstance(error, (ValueError, TypeError, OSError, ImportError, FpsolveError)):
        raise error
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"fpsolve: error: {text}", file=sys.stderr)
    return 1 if isinstance(error, FpsolveError) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fpsolve",
        description="Stochastic gradient descent as a stochastic process: theory, Fokker-Planck and paths, checked "
        "against each other and against real networks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fpsolve {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="from a real network's SGD noise to a checked prediction")
    demo.add_argument("--data", default="digits", choices=("digits", "mnist"), help="data set (default: %(default)s)")
    demo.add_argument("--out", default="demo", metavar="DIR", help="folder for figures and run.h5 (default: %(default)s)")
    demo.add_argument("--quick", action="store_true", help="a shorter run with larger error bars")
    demo.add_argument("--seed", type=_seed, default=0, help="seed of every random number (default: %(default)s)")
    demo.add_argument("--no-progress", action="store_true", help="no progress bars")
    demo.set_defaults(command=_demo)

    run = commands.add_parser("run", help="do what a configuration asks")
    run.add_argument(
        "config", metavar="CONFIG", help="a TOML file (docs/configs.md), or a result file that stores its configuration"
    )
    run.add_argument("--out", metavar="FILE", help="HDF5 file of the result (default: what [run] out says, else none)")
    run.add_argument("--seed", type=_seed, help="seed of every random number (default: what [run] seed says, else drawn)")
    run.add_argument(
        "--set", type=_setting, action="append", default=[], metavar="KEY=VALUE", help="another value, e.g. noise.D=0.2"
    )
    run.add_argument("--check", action="store_true", help="read it and make every object, but do not run")
    run.add_argument("--no-progress", action="store_true", help="no progress bars")
    run.set_defaults(command=_run)

    validate = commands.add_parser("validate", help="check claims of the theory against simulation")
    validate.add_argument("names", nargs="*", metavar="NAME", help="claims or groups of claims (default: all)")
    length = validate.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="fewer samples, every claim (the default)")
    length.add_argument("--full", action="store_true", help="full sample sizes")
    validate.add_argument("--list", action="store_true", help="list the claims and stop")
    validate.add_argument("--report", metavar="FILE", help="make report.html once more from a validation.json, and stop")
    validate.add_argument("--out", default="validation", metavar="DIR", help="folder for report.html, validation.json and figures")
    validate.add_argument(
        "--jobs", type=_jobs, metavar="N", help="claims to run at a time, each in its own process; the numbers are the same for "
        "any N (default: the usable cores, 4 at most; 1: in this process, with the claims' own progress bars)"
    )  # fmt: skip
    validate.add_argument("--no-progress", action="store_true", help="no progress bars")
    validate.set_defaults(command=_validate)

    sweep = commands.add_parser("sweep", help="run a configuration over its axes")
    sweep.add_argument("config", metavar="CONFIG", help="a TOML file with [sweep.axes]")
    sweep.add_argument(
        "--out", metavar="FILE", help="HDF5 file (default: what [sweep] out says, else sweep.h5); one that exists goes on"
    )
    where = sweep.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=_jobs, metavar="N", help="units at a time, each in its own process (default: 1, in this process)"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, e.g. tcp://host:8786")
    sweep.add_argument("--no-progress", action="store_true", help="no progress bar")
    sweep.set_defaults(command=_sweep)

    status = commands.add_parser("status", help="how far a sweep is")
    status.add_argument("file", metavar="FILE", help="the HDF5 file of a sweep, also while it is written")
    status.set_defaults(command=_status)

    show = commands.add_parser("show", help="what is in a result file")
    show.add_argument("file", metavar="FILE", help="an HDF5 file written by fpsolve or nets")
    show.set_defaults(command=_show)

    env = commands.add_parser("env", help="versions, processor, threads, cache folder")
    env.set_defaults(command=_env)
    return parser


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed; give an integer >= 0, e.g. 0")
    return value


def _setting(text: str) -> tuple[str, object]:
    """KEY=VALUE: the value as TOML has it; a bare word is a text."""
    import tomllib

    key, equals, value = text.partition("=")
    if not (equals and key.strip() and value.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, e.g. noise.D=0.2")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = {"value": value.strip()} if value.strip().replace("-", "_").replace(".", "_").isidentifier() else {}
    if list(parsed) != ["value"]:
        raise argparse.ArgumentTypeError(f"{value!r} is not a value; write it as in TOML, e.g. 0.2, [0.0, 1.0] or 'a text'")
    return key.strip(), parsed["value"]


def _jobs(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of jobs; give an integer >= 1, e.g. 2")
    return int(text)


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
    config.check()
    start = time.perf_counter()
    result = config.run(progress=not args.no_progress)
    seconds = time.perf_counter() - start
    print(_summary(result))
    if out is not None:
        config.save(out, result, wall_time=seconds, seed=config.as_dict()["run"]["seed"])
        print(f"saved in {out}")
    if getattr(result, "partial", False) or (isinstance(result, dict) and result.get("complete") is False):
        raise KeyboardInterrupt  # what was done until then is shown and saved
    return 0


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


def _validate(args: argparse.Namespace) -> int:
    try:
        import fpsolve_validation as validation
    except ModuleNotFoundError as error:
        if error.name != "fpsolve_validation":
            raise
        raise ImportError(
            "the validation package is not installed; install fpsolve with pip (from a checkout: pip install -e .)"
        ) from None
    if args.report is not None:
        if args.names:
            raise ValueError(f"--report makes the page of all claims in the record; leave out {' '.join(args.names)}")
        return validation.remake(Path(args.report))
    claims = validation.select(validation.discover(), args.names)
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
    executor = args.scheduler or (args.jobs if args.jobs and args.jobs > 1 else None)
    out = args.out or config.sweep["out"] or "sweep.h5"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = sweep(config, executor=executor, out=out, progress=not args.no_progress)
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"fpsolve: warning: {text}", file=sys.stderr)
    print(f"{done!r} in {out}")
    return 1 if done.failed else 0


def _status(args: argparse.Namespace) -> int:
    from fpsolve._sweep import describe_sweep

    print("\n".join(describe_sweep(args.file)))
    return 0


def _show(args: argparse.Namespace) -> int:
    from fpsolve._show import describe_file

    for line in describe_file(args.file):
        print(line)
    return 0


def _env(args: argparse.Namespace) -> int:
    rows = list(_environment())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


def _environment() -> Iterable[tuple[str, str]]:
    """Name and value of everything that decides speed and bit patterns."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    yield "fpsolve", f"{__version__} ({Path(__file__).parent})"
    yield "python", f"{platform.python_version()} ({sys.executable})"
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"
    yield "system", platform.platform()
    yield from _processor()
    for name in _THREAD_VARIABLES:
        yield name, os.environ.get(name, "not set")
    from fpsolve._codegen import cache_folder

    yield "kernel cache", str(cache_folder())
    data = os.environ.get("FPSOLVE_DATA")
    found = "" if data is None or Path(data).is_dir() else " (no such folder)"
    yield "FPSOLVE_DATA", f"{data}{found}" if data else "not set"


def _processor() -> Iterable[tuple[str, str]]:
    from llvmlite import binding

    features = sorted(name for name, on in binding.get_host_cpu_features().items() if on)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "processor", f"{binding.get_host_cpu_name()}, {usable} of {os.cpu_count()} cores usable"
    yield "features", " ".join(features)
