"""The commands as a user types them: examples of every --help, exit codes, Ctrl-C, warm kernels, completion in real shells."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fpsolve as fps
from fpsolve import _arguments, _environment, cli

ROOT = Path(__file__).parent.parent
WAIT = 120.0
COMMANDS = sorted(_arguments.subcommands(_arguments.parser()))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


# ---- help --------------------------------------------------------------------------------------------------------------


def help_of(*command):
    found = _arguments.parser() if not command else _arguments.subcommands(_arguments.parser())[command[0]][0]
    return found.format_help()


def examples(text):
    """The commands of the examples of a help text, without what is said about them."""
    block = text.split("\nexamples:\n")[1].split("\n\n")[0]
    lines = [line.strip() for line in block.splitlines()]
    return [re.split(r"\s{2,}", line)[0] for line in lines]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_has_examples_that_the_parser_takes_and_exit_codes(command):
    text = help_of(*([command] if command else []))
    found = examples(text)
    assert len(found) >= 2
    for line in found:
        words = shlex.split(line)
        assert words[0] == "fpsolve"
        args = _arguments.parser().parse_args(words[1:])
        assert not command or args.command == command or args.command == "show"
    for code in ("0  ", "1  ", "2  ", "130"):
        assert re.search(rf"^  {code}", text, re.M)
    assert max(map(len, text.splitlines())) <= 132


def test_every_command_is_among_the_examples_of_the_whole():
    assert {shlex.split(line)[1] for line in examples(help_of())} == set(COMMANDS) == set(cli._COMMANDS)


def test_options_mean_the_same_everywhere():
    """One name, one kind of value, and the short help of what they share."""
    seen = {}
    for one, _ in _arguments.subcommands(_arguments.parser()).values():
        for action in one._actions:
            for name in action.option_strings:
                seen.setdefault(name, set()).add((action.dest, action.nargs, getattr(action.type, "__name__", None)))
    assert all(len(kinds) == 1 for kinds in seen.values()), {k: v for k, v in seen.items() if len(v) > 1}
    assert {"--out", "--quick", "--full", "--seed", "--jobs", "--quiet", "--no-progress", "--json", "--debug", "--set"} <= set(seen)


def test_debug_counts_before_and_after_the_command(monkeypatch):
    def fail():
        raise ValueError("x")

    monkeypatch.setattr(cli, "_environment", fail)
    assert cli.main(["env"]) == 2
    for args in (["--debug", "env"], ["env", "--debug"]):
        with pytest.raises(ValueError, match="x"):
            cli.main(args)


# ---- exit codes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["warm", "paths"], "no part is called 'paths'; did you mean 'paths-"),
        (["warm", "qqq"], "known are: fokker-planck-1d"),
        (["warm", "--jobs", "0"], "'0' is not a number of jobs"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
        (["completion"], "shell"),
        (["demo", "--quick", "--full"], "not allowed with"),
        (["validate", "--json"], "--json goes with --list"),
        (["sweep", "a.toml", "--seed", "-3"], "'-3' is not a seed"),
        (["status", "absent.h5", "--json"], "absent.h5"),
        (["show", "absent.h5", "--json"], "absent.h5 does not exist"),
        (["show", "absent.json"], "absent.json"),
        (["show", "."], "there is no validation.json in ."),
        (["validate", "--report", "absent"], "absent does not exist; give the record of a validation run"),
    ],
)
def test_wrong_input_is_code_2_in_one_line(args, message, validation, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(args) == 2
    told = capsys.readouterr()
    assert message in told.err and not told.out and "Traceback" not in told.err


WELL = """
[potential]
name = "double_well"
[noise]
D = 0.25
[grid]
axes = [[-2.5, 2.5, 20]]
[task]
name = "stationary"
"""


def test_what_would_be_lost_or_is_no_sweep_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("well.toml").write_text(WELL)
    assert cli.main(["run", "well.toml", "--out", "well.toml", "-q"]) == 2
    assert "is a configuration, which a result would replace; name another file, e.g. well.h5" in capsys.readouterr().err
    assert cli.main(["sweep", "well.toml", "-q"]) == 2
    assert "nothing to sweep over, neither axes nor replicates nor paths: `fpsolve run well.toml`" in capsys.readouterr().err
    assert Path("well.toml").read_text() == WELL and os.listdir() == ["well.toml"]


def test_a_closed_output_is_no_traceback():
    """Neither where nothing can be written, nor where nobody looks."""
    closed = subprocess.run(f"{sys.executable} -m fpsolve env >&-", shell=True, env=ENVIRONMENT, capture_output=True, timeout=WAIT)
    assert closed.returncode == 0 and not closed.stderr


def test_short_memory_is_code_1(monkeypatch, capsys):
    def fail():
        raise MemoryError("3 GiB")

    monkeypatch.setattr(cli, "_environment", fail)
    assert cli.main(["env"]) == 1
    assert capsys.readouterr().err == "fpsolve: error: memory is short (3 GiB): ask for less\n"


# ---- Ctrl-C of real processes ------------------------------------------------------------------------------------------

#: Runs a command line; says when a function of the given name is under way in any thread.
WATCHED = """
import sys, threading, time
from fpsolve import cli

def watch():
    while True:
        for frame in sys._current_frames().values():
            while frame is not None:
                if frame.f_code.co_name == sys.argv[1]:
                    time.sleep(0.2)
                    print("under way", flush=True)
                    return
                frame = frame.f_back
        time.sleep(0.02)

threading.Thread(target=watch, daemon=True).start()
sys.exit(cli.main(sys.argv[2:]))
"""

ESCAPES = """
[potential]
name = "double_well"
[noise]
D = 0.05
[region]
kind = "halfspace"
n = [1.0]
c = 0.0
[task]
name = "escape_times"
x0 = [-1.0]
n = 20000
dt = 1e-6
[run]
seed = 1
"""


def interrupted(folder, function, *args):
    """Code, output and errors of a command that got Ctrl-C in that function, and what it left in the folder."""
    command = [sys.executable, "-c", WATCHED, function, *args]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, text=True, start_new_session=True, **streams)
    try:
        for line in process.stdout:
            if line == "under way\n":
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert "Traceback" not in err and not list(folder.rglob("*.tmp")), err
    return process.returncode, out, err, sorted(path.name for path in folder.iterdir())


def test_ctrl_c_in_run_saves_what_was_done(tmp_path):
    (tmp_path / "a.toml").write_text(ESCAPES)
    code, _, err, left = interrupted(tmp_path, "escape_times", "run", "a.toml", "--out", "a.h5", "-q")
    assert code == 130 and err.splitlines()[-1].startswith("fpsolve: interrupted; ")
    if "a.h5" in left:  # else no path had escaped yet, and there was nothing to save
        assert fps.load(tmp_path / "a.h5").partial and "what was done until then is in" in err
    assert set(left) <= {"a.h5", "a.toml"}


def test_ctrl_c_in_sweep_leaves_a_file_that_goes_on(tmp_path):
    (tmp_path / "a.toml").write_text(ESCAPES.replace("20000", "64") + "[sweep.axes]\n'noise.D' = [2.0, 0.05]\n")
    code, _, err, left = interrupted(tmp_path, "escape_times", "sweep", "a.toml", "--out", "a.h5", "-q")
    assert code == 130 and err.splitlines()[-1] == "fpsolve: interrupted; the same command goes on with the units that are missing"
    assert set(left) <= {"a.h5", "a.toml"} and fps.load(tmp_path / "a.h5").size == 2


def test_ctrl_c_in_demo_leaves_nothing(tmp_path):
    code, _, err, left = interrupted(tmp_path, "train", "demo", "--quick", "--out", "demo", "-q")
    assert code == 130 and err == "fpsolve: interrupted; nothing is saved before the end: start it again\n"
    assert left == ["demo"] and not list((tmp_path / "demo").iterdir())


def test_ctrl_c_in_warm_ends_its_processes(tmp_path):
    """Each part has a process, in a session of its own: they are ended by this one."""
    code, _, err, _ = interrupted(tmp_path, "_side_by_side", "warm", "chain", "paths-1d", "--jobs", "2", "-q")
    assert code == 130 and err == "fpsolve: interrupted; what was compiled stays: the same command goes on\n"
    until(lambda: not running("fpsolve warm"))


def running(words):
    """Whether a descendant of this process that was started by these words is left."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            alive = "PYTEST_CURRENT_TEST" in (path.parent / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if words in text and alive:
            found.append(text)
    return found


def until(happens):
    end = time.monotonic() + WAIT
    while not (found := happens()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


# ---- warm, env, lists --------------------------------------------------------------------------------------------------


def test_warm_compiles_once(capsys):
    """The second time everything is found; in a fresh process too, as its JSON says."""
    assert cli.main(["warm", "chain", "--quiet"]) == 0
    first = capsys.readouterr().out
    assert re.search(r"^chain +\d+\.\d s +\d+ compiled  the transition kernel", first)
    assert os.environ["FPSOLVE_CACHE_DIR"] in first and os.environ["NUMBA_CACHE_DIR"] in first
    done = subprocess.run(
        [sys.executable, "-m", "fpsolve", "warm", "chain", "--json"], env=ENVIRONMENT, capture_output=True, timeout=WAIT, check=True
    )
    record = json.loads(done.stdout)
    assert [(part["name"], part["compiled"]) for part in record["parts"]] == [("chain", 0)]
    assert record["kernels"] > 0 and record["bytes"] > 1e5 and not done.stderr


@pytest.mark.slow
def test_warm_knows_every_part(capsys):
    """All parts compile, and what they compile is found again."""
    assert cli.main(["warm", "-q"]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "fpsolve", "warm", "--json"], env=ENVIRONMENT, capture_output=True, timeout=600, check=True
    )
    assert {part["name"]: part["compiled"] for part in json.loads(done.stdout)["parts"]} == dict.fromkeys(_arguments.WARM, 0)
    capsys.readouterr()


def test_warm_says_what_it_would_do(capsys):
    assert cli.main(["warm", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(_arguments.WARM)
    assert cli.main(["warm", "--list", "--json", "chain"]) == 0
    assert json.loads(capsys.readouterr().out) == {"chain": _arguments.WARM["chain"]}


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    assert cli.main(["warm", "chain"]) == 2
    err = capsys.readouterr().err
    assert f"cannot write compiled kernels to {tmp_path / 'file' / 'kernels'}" in err and "set FPSOLVE_CACHE_DIR to a" in err
    monkeypatch.setenv("FPSOLVE_NUMBA_CACHE", "0")
    assert cli.main(["warm", "chain"]) == 2
    assert "there is nothing to warm" in capsys.readouterr().err
    assert cli.main(["env"]) == 0
    assert "switched off" in capsys.readouterr().out


def test_env_as_json_has_what_decides_speed(capsys):
    assert cli.main(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {"python", "numpy", "numba", "torch", "dask", "processor", "BLAS", "threads", "kernel cache, models", "FPSOLVE_DATA"}
    assert names <= set(found) and "kernels, " in found["kernel cache, package"]


def test_env_says_where_data_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("FPSOLVE_DATA", str(tmp_path))
    assert _environment._data() == str(tmp_path)
    monkeypatch.delenv("FPSOLVE_DATA")
    assert _environment._data().startswith("not set (")
    monkeypatch.setitem(sys.modules, "pooch", None)  # as if it were not installed
    assert "without the package pooch" in _environment._data()


def test_lists_as_json(validation, tmp_path, capsys):
    assert cli.main(["validate", "--list", "--json", "kramers"]) == 0
    claims = json.loads(capsys.readouterr().out)
    assert {claim["group"] for claim in claims} == {"kramers"} and all(claim["claim"].endswith(".") for claim in claims)
    done = fps.sweep(lambda a: a, {"a": [1.0, 2.0]}, out=tmp_path / "a.h5")
    assert cli.main(["status", str(tmp_path / "a.h5"), "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["size"], state["done"], state["axes"]) == (done.size, 2, {"a": [1.0, 2.0]})


# ---- completion --------------------------------------------------------------------------------------------------------


def test_names_of_claims_are_read_without_importing_them(validation):
    claims = validation.discover()
    assert validation.names() == sorted({c.NAME for c in claims} | {c.GROUP for c in claims})


@pytest.fixture
def scripts(tmp_path, validation):
    """The script of each shell, and a folder to complete in."""
    folder = tmp_path
    for shell in ("bash", "zsh", "fish"):
        with (folder / f"fpsolve.{shell}").open("w") as file, contextlib.redirect_stdout(file):
            assert cli.main(["completion", shell]) == 0
    (folder / "in").mkdir()
    (folder / "in" / "sub").mkdir()
    for name in ("a.h5", "b.toml", "c d.h5", "picture.png", "validation.json"):
        (folder / "in" / name).touch()
    return folder


CASES = [
    ("s", {"show", "status", "sweep"}),
    ("", set(COMMANDS)),
    ("validate kram", {"kramers"}),
    ("validate double-well wu-zhu-e-t", {"wu-zhu-e-toy"}),
    ("demo --data ", {"digits", "mnist"}),
    ("completion ", {"bash", "zsh", "fish"}),
    ("warm paths", {"paths-1d", "paths-2d"}),
    ("--debug run --se", {"--seed", "--set"}),
    ("show ", {"a.h5", "c d.h5", "validation.json", "sub"}),
    ("show a.h5 --plot pi", {"picture.png"}),
    ("sweep b", {"b.toml"}),
    ("demo --out ", {"sub"}),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(("line", "words"), CASES)
def test_bash_completes(line, words, scripts):
    typed = ["fpsolve", *line.split(" ")] if line else ["fpsolve", ""]
    code = (
        f"source ../fpsolve.bash; COMP_WORDS=({shlex.join(typed)}); COMP_CWORD={len(typed) - 1}; _fpsolve; "
        "printf '%s\\n' \"${COMPREPLY[@]}\"; complete -p fpsolve >&2"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], cwd=scripts / "in", capture_output=True, text=True, timeout=WAIT, check=True
    )
    assert set(done.stdout.splitlines()) == words
    assert "-F _fpsolve fpsolve" in done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(("line", "words"), CASES)
def test_fish_completes(line, words, scripts):
    """fish offers files of other kinds last, so what belongs must be there, and among words nothing else."""
    code = f"source ../fpsolve.fish; complete -C {shlex.quote('fpsolve ' + line)}"
    command = ["fish", "--no-config", "-c", code]
    done = subprocess.run(command, cwd=scripts / "in", capture_output=True, text=True, timeout=WAIT, check=True)
    found = {row.split("\t")[0].rstrip("/").replace("\\ ", " ") for row in done.stdout.splitlines() if row.strip()}
    assert words <= found
    assert found == words or line.startswith(("show", "sweep")) or not line.startswith(("validate", "demo --data", "completion"))


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_its_script(scripts):
    code = "autoload -Uz compinit; compinit -u -D; source ./fpsolve.zsh; print $_comps[fpsolve]"
    done = subprocess.run(["zsh", "-f", "-c", code], cwd=scripts, capture_output=True, text=True, timeout=WAIT, check=True)
    assert done.stdout == "_fpsolve\n" and not done.stderr


def test_a_command_line_starts_quickly():
    """The best of five: --help within 0.4 s of processor time, completion too; both load no dependency."""
    for args in (["--help"], ["completion", "bash"]):
        times = []
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, "-m", "fpsolve", *args], env=ENVIRONMENT, capture_output=True, timeout=WAIT, check=True)
            after = os.times()
            times.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert min(times) <= 0.4
