"""The words of the command line: subcommands, options, their help with examples. Standard library only.

Options mean the same wherever they stand: ``--out`` where the result goes, ``--quick`` and ``--full`` how much is done, ``--seed``,
``--jobs`` how many processes, ``--quiet`` no progress bars, ``--json`` one JSON object instead of text, ``--debug`` the traceback.
"""

from __future__ import annotations

import argparse
from typing import Any

from fpsolve import __version__

__all__ = ["CODES", "parser", "subcommands"]

CODES = """\
exit codes:
  0    done
  1    a check failed, or the numerics did
  2    wrong usage or input: nothing was done
  130  interrupted by Ctrl-C
"""

_EXAMPLES = """\
examples:
  fpsolve demo                        train a network on real digits, predict the variance of its weights, compare
  fpsolve demo --data mnist --quick   the same on an MNIST subset (IDX files under $FPSOLVE_DATA/mnist), shorter run
  fpsolve run config.toml --out a.h5  do what a configuration asks, and store it with the result
  fpsolve run a.h5 --set noise.D=0.2  the same question again, with another value
  fpsolve validate --list             which claims of the theory can be checked
  fpsolve validate --quick            check all of them; exit code 1 if one fails
  fpsolve sweep config.toml --jobs 4  run a configuration over its axes, 4 units at a time; goes on with what is stored
  fpsolve status sweep.h5             how far a sweep is
  fpsolve show demo/run.h5            what is in a result file, and what it looks like
  fpsolve warm                        compile the kernels now, so that first calls are fast
  fpsolve env                         versions, processor, threads, folders
  fpsolve completion bash             completion of words for a shell

environment:
  FPSOLVE_DATA       folder of data sets (mnist/ with the IDX files)
  FPSOLVE_CACHE_DIR  folder of compiled kernels (default: the user's cache folder)
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose help keeps its lines, and ends with examples and exit codes."""

    def __init__(self, *, examples: str = "", **options: Any) -> None:
        lines = "".join(f"  {line.strip()}\n" for line in examples.strip().splitlines())
        given: dict[str, Any] = {"epilog": f"examples:\n{lines}\n{CODES}", "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(**given | options)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; ``command`` of what it returns is the name of the subcommand."""
    whole = _Parser(
        prog="fpsolve",
        description="Stochastic gradient descent as a stochastic process: theory, Fokker-Planck and paths, checked "
        "against each other\nand against real networks.",
        epilog=f"{_EXAMPLES}\n{CODES}",
    )
    whole.add_argument("--version", action="version", version=f"fpsolve {__version__}")
    whole.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (words, fill, examples) in _COMMANDS.items():
        one = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.", examples=examples)
        fill(one)
        # SUPPRESS: given before the subcommand it counts as well
        one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
        one.set_defaults(command=name)
    return whole


def subcommands(whole: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Name -> parser and the words that the list of commands has for it."""
    found = next(a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    return {name: (one, _COMMANDS[name][0]) for name, one in found.choices.items()}


def _given(one: Any, *names: str, files: str | None = None, **options: Any) -> None:
    """An argument whose values are files: those that end so (words separated by blanks; "/" means folders only)."""
    one.add_argument(*names, **options).files = files


def _one_of(one: Any, words: Any, text: str) -> None:
    """Any number of known words; a wrong one is refused by the command itself, which names the nearest."""
    one.add_argument("names", nargs="*", metavar="NAME", help=text).words = words


def _quiet(one: argparse.ArgumentParser) -> None:
    one.add_argument("-q", "--quiet", "--no-progress", dest="no_progress", action="store_true", help="no progress bars")


def _json(one: argparse.ArgumentParser) -> None:
    one.add_argument("--json", action="store_true", help="one JSON object on standard output, to be read by a program")


def _length(one: argparse.ArgumentParser, quick: str, full: str) -> None:
    length = one.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help=quick)
    length.add_argument("--full", action="store_true", help=full)


def _demo(one: argparse.ArgumentParser) -> None:
    one.add_argument("--data", default="digits", choices=("digits", "mnist"), help="data set (default: %(default)s)")
    _given(one, "--out", default="demo", metavar="DIR", files="/", help="folder for figures and run.h5 (default: %(default)s)")
    _length(one, "a shorter run with larger error bars", "the published length (the default)")
    one.add_argument("--seed", type=_seed, default=0, help="seed of every random number (default: %(default)s)")
    _quiet(one)


def _run(one: argparse.ArgumentParser) -> None:
    source = "a TOML file (docs/configs.md), or a result file that stores its configuration"
    _given(one, "config", metavar="CONFIG", files="toml h5", help=source)
    _given(
        one, "--out", metavar="FILE", files="h5", help="HDF5 file of the result (default: what [run] out says, else none)"
    )  # fmt: skip
    one.add_argument("--seed", type=_seed, help="seed of every random number (default: what [run] seed says, else drawn)")
    one.add_argument(
        "--set", type=_setting, action="append", default=[], metavar="KEY=VALUE", help="another value, e.g. noise.D=0.2"
    )
    one.add_argument("--check", action="store_true", help="read it and make every object, but do not run")
    _quiet(one)


def _validate(one: argparse.ArgumentParser) -> None:
    _one_of(one, "claims", "claims or groups of claims (default: all)")
    _length(one, "fewer samples, every claim (the default)", "full sample sizes")
    one.add_argument("--list", action="store_true", help="list the claims and stop")
    _given(
        one, "--report", metavar="FILE", files="json", help="make report.html once more from a validation.json, and stop"
    )  # fmt: skip
    _given(
        one, "--out", default="validation", metavar="DIR", files="/", help="folder for report.html, validation.json and figures"
    )  # fmt: skip
    one.add_argument(
        "--jobs", type=_jobs, metavar="N", help="claims to run at a time, each in its own process; the numbers are the same for "
        "any N (default: the usable cores, 4 at most; 1: in this process, with the claims' own progress bars)"
    )  # fmt: skip
    _json(one)
    _quiet(one)


def _sweep(one: argparse.ArgumentParser) -> None:
    _given(one, "config", metavar="CONFIG", files="toml", help="a TOML file with [sweep.axes]")
    words = "HDF5 file (default: what [sweep] out says, else sweep.h5); one that exists goes on"
    _given(one, "--out", metavar="FILE", files="h5", help=words)
    one.add_argument("--seed", type=_seed, help="seed of the sweep (default: what [sweep] or [run] seed says, else 0)")
    where = one.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=_jobs, metavar="N", help="units at a time, each in its own process (default: 1, in this process)"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, e.g. tcp://host:8786")
    _quiet(one)


def _status(one: argparse.ArgumentParser) -> None:
    _given(one, "file", metavar="FILE", files="h5", help="the HDF5 file of a sweep, also while it is written")
    _json(one)


def _show(one: argparse.ArgumentParser) -> None:
    _given(one, "file", metavar="FILE", files="h5 json", help="an HDF5 file written by fpsolve or nets, or a validation.json")
    one.add_argument("--name", metavar="NAME", help="of several results in the file, the one to draw (default: the first)")
    _given(one, "--plot", metavar="IMAGE", files="png pdf svg", help="draw to an image (.png, .pdf, .svg) instead of the terminal")
    one.add_argument("--brief", action="store_true", help="only the list of what is in the file: no large array is read")
    one.add_argument("--width", type=_width, metavar="N", help="columns of the drawing (default: those of the terminal)")
    one.add_argument("--ascii", action="store_true", help="draw without special characters (the default where there are none)")
    _json(one)


def _warm(one: argparse.ArgumentParser) -> None:
    _one_of(one, WARM, f"{', '.join(WARM)} (default: all)")
    one.add_argument("--list", action="store_true", help="say what would be compiled and stop")
    one.add_argument("--jobs", type=_jobs, metavar="N", default=1, help="parts at a time, each in its own process (default: 1)")
    _json(one)
    _quiet(one)


def _completion(one: argparse.ArgumentParser) -> None:
    one.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that the script is for")


#: Parts of `fpsolve warm`, and what each makes fast.
WARM = {
    "fokker-planck-1d": "densities, evolution, exit times and spectra on a line",
    "fokker-planck-2d": "the same in the plane, with tensors that turn",
    "fokker-planck-3d": "densities and exit times in space",
    "chain": "the transition kernel of SGD",
    "paths-1d": "paths, escape times and splitting in the double well",
    "paths-2d": "paths and escape times of the landscapes in the plane",
    "network": "training of a network, Hessians and gradient covariances",
}

_COMMANDS: dict[str, tuple[str, Any, str]] = {
    "demo": (
        "from a real network's SGD noise to a checked prediction",
        _demo,
        """
        fpsolve demo                              about a minute; figures and run.h5 in the folder demo
        fpsolve demo --quick --seed 1 --out tmp   shorter, with other random numbers, elsewhere
        fpsolve show demo/run.h5                  what it has measured
        """,
    ),
    "run": (
        "do what a configuration asks",
        _run,
        """
        fpsolve run config.toml --check             is it in order?
        fpsolve run config.toml --out a.h5          run it, and store the result
        fpsolve run a.h5 --set noise.D=0.2          the same question again, with another value
        fpsolve show a.h5                           look at the result
        """,
    ),
    "validate": (
        "check claims of the theory against simulation",
        _validate,
        """
        fpsolve validate --list                     which claims there are
        fpsolve validate kramers --out tmp          one group of claims
        fpsolve validate --full --jobs 2            all of them, with full samples
        fpsolve validate --report validation        the page once more
        """,
    ),
    "sweep": (
        "run a configuration over its axes",
        _sweep,
        """
        fpsolve sweep config.toml --jobs 4          4 units at a time; the same command goes on after an interruption
        fpsolve sweep config.toml --out b.h5 --seed 2
        fpsolve sweep config.toml --scheduler tcp://host:8786
        """,
    ),
    "status": (
        "how far a sweep is",
        _status,
        """
        fpsolve status sweep.h5                     also while it is written
        fpsolve status sweep.h5 --json              for a program
        """,
    ),
    "show": (
        "what is in a result file, what it means, and a picture of it",
        _show,
        """
        fpsolve show density.h5                     contents, the result in words, and a drawing
        fpsolve show density.h5 --plot density.png  the picture in a file
        fpsolve show demo/run.h5 --brief            only the list of contents
        fpsolve show well.h5 --name escape --width 60
        fpsolve show validation/validation.json     which claims passed
        """,
    ),
    "warm": (
        "compile kernels now, so that first calls are fast",
        _warm,
        """
        fpsolve warm                                everything; a second time takes seconds
        fpsolve warm paths-1d fokker-planck-1d      two parts
        fpsolve warm --list                         what the parts are
        """,
    ),
    "env": (
        "versions, processor, threads, folders",
        _json,
        """
        fpsolve env                                 what to put into a report of an error
        fpsolve env --json                          for a program
        """,
    ),
    "completion": (
        "completion of words for a shell",
        _completion,
        """
        fpsolve completion bash                     to be read by the shell: eval "$(fpsolve completion bash)" in ~/.bashrc
        fpsolve completion zsh                      eval "$(fpsolve completion zsh)" in ~/.zshrc, after compinit
        fpsolve completion fish                     into ~/.config/fish/completions/fpsolve.fish
        """,
    ),
}


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


def _width(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 30 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a width; give an integer from 30 to 1000, e.g. 80")
    return int(text)
