"""Claims in worker processes: the same numbers, what shares work stays together, crashes, Ctrl-C, no process left behind."""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import places
import pytest

WAIT = 60.0  # seconds until a test gives up

CLAIM = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from fpsolve_validation import Check

NAME, GROUP, CLAIM, STANDING = __name__, "synthetic", "The sum of the squares is what it is.", "derived"
{shared}

def wait(path, seconds=60.0):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"waited for {{path.name}}"
        time.sleep(0.01)

def run(quick, out, progress):
    (out / (NAME + ".part")).write_text(str(os.getpid()))
    (out / (NAME + ".part")).rename(out / (NAME + ".pid"))
    {body}
    x = np.random.default_rng(len(NAME)).normal(size=(300, 300))
    found = float((x @ x.T @ x).sum())
    return [Check(name="sum", measured=found, expected=found, band=(-np.inf, np.inf), source="definition")]
"""


@pytest.fixture
def write(validation, tmp_path, monkeypatch):
    """Make a claim module that workers can import, with code at the start of its run and a line of its own."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "fpsolve_validation").symlink_to(places.folder("bench/validate"))  # a worker imports it by name
    monkeypatch.syspath_prepend(str(folder))

    def make(name: str, body: str = "pass", shared: str = ""):
        (folder / f"{name}.py").write_text(CLAIM.format(body=body, shared=shared and f"SHARED = {shared!r}"))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return make


def record(out: Path) -> list[dict]:
    """What validation.json says of every claim but the time."""
    claims = json.loads((out / "validation.json").read_text())["claims"]
    for claim in claims:
        assert claim.pop("seconds") >= 0.0
    return claims


def pid(out: Path, claim: str) -> int:
    return int((out / f"{claim}.pid").read_text())


def test_workers_give_the_bits_of_this_process(validation, write, tmp_path, capsys, updates):
    claims = [write("alone"), *(write(f"together_{i}", shared="work") for i in range(3)), write("another")]
    outs = tmp_path / "one", tmp_path / "many"
    for jobs, out in zip((1, 2), outs, strict=True):
        assert validation.run(claims, quick=True, out=out, progress=jobs > 1, jobs=jobs) == 0
        assert "5 claims, 5 checks, all passed" in capsys.readouterr().out
    one, many = (record(out) for out in outs)
    assert one == many
    assert [claim["name"] for claim in many] == [claim.NAME for claim in claims]
    assert {pid(outs[0], claim.NAME) for claim in claims} == {os.getpid()}
    by = {claim.NAME: pid(outs[1], claim.NAME) for claim in claims}
    assert len(set(by.values())) == 2
    assert os.getpid() not in by.values()
    assert len({by[f"together_{i}"] for i in range(3)}) == 1
    assert updates == [1] * 5  # one bar, of claims
    assert not any(running(process) for process in by.values())


def test_shipped_claims_give_the_same_bits(validation, write, tmp_path):
    chosen = validation.select(validation.discover(), ["multiplicative-noise", "tilted-washboard"])
    found = []
    for jobs in (1, 2):
        assert validation.run(chosen, quick=True, out=tmp_path / str(jobs), progress=False, jobs=jobs) == 0
        found.append(record(tmp_path / str(jobs)))
    assert found[0] == found[1]


def test_outcomes_are_shown_as_they_come_and_returned_in_order(write, tmp_path):
    runner = importlib.import_module("fpsolve_validation._runner")
    shown = []

    def show(outcome):
        shown.append(outcome.claim.NAME)
        (tmp_path / f"{outcome.claim.NAME}.shown").touch()

    claims = [write("first", 'wait(out / "last.shown")'), write("last")]
    found = runner.outcomes(claims, jobs=2, quick=True, out=tmp_path, progress=False, show=show)
    assert shown == ["last", "first"]
    assert [outcome.claim.NAME for outcome in found] == ["first", "last"]
    assert all(outcome.passed for outcome in found)


@pytest.mark.parametrize(("crash", "how"), [("SIGSEGV", "SIGSEGV"), ("SIGKILL", "fewer jobs"), ("exit", "exit code 7")])
def test_a_worker_that_dies_fails_its_claim_and_no_other(validation, write, tmp_path, capfd, caplog, crash, how):
    code = "os._exit(7)" if crash == "exit" else f"os.kill(os.getpid(), signal.{crash})"
    names = ["before", "crashes", "after"]
    claims = [write(name, code if name == "crashes" else "pass", shared="work") for name in names]
    claims.append(write("beside", 'wait(out / "after.pid")'))  # is under way while the other dies
    with caplog.at_level(logging.ERROR):
        assert validation.run(claims, quick=True, out=tmp_path, progress=False, jobs=2) == 1
    assert "4 claims, 3 checks, failed: crashes;" in capfd.readouterr().out
    assert [claim["passed"] for claim in record(tmp_path)] == [True, False, True, True]
    assert how in record(tmp_path)[1]["error"]
    assert "claim crashes ended with an error" in caplog.text
    assert pid(tmp_path, "before") == pid(tmp_path, "crashes") != pid(tmp_path, "after")


def test_an_error_in_a_worker_is_logged_here_with_its_place(validation, write, tmp_path, caplog):
    claims = [write("broken", 'raise ArithmeticError("no convergence")'), write("good")]
    with caplog.at_level(logging.ERROR):
        assert validation.run(claims, quick=True, out=tmp_path, progress=False, jobs=2) == 1
    assert record(tmp_path)[0]["error"] == "ArithmeticError: no convergence"
    assert "claim broken ended with an error" in caplog.text
    assert 'broken.py", line' in caplog.text


SCRIPT = """
import importlib, sys
import fpsolve_validation
from fpsolve import cli

if __name__ == "__main__":
    fpsolve_validation.discover = lambda: [importlib.import_module(name) for name in ("long_one", "long_two")]
    sys.exit(cli.main(["validate", "--jobs", "2", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_the_command(write, tmp_path, number):
    """Ctrl-C goes to every process of the terminal; what kills this one alone leaves the workers to end themselves."""
    names = "long_one", "long_two"
    for name in names:
        write(name, "time.sleep(600.0)")
    script, out = tmp_path / "modules" / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(out)],
        env={**os.environ, "PYTHONPATH": str(places.ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        workers = [until(lambda name=name: (out / f"{name}.pid").exists() and pid(out, name)) for name in names]
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=WAIT)
        assert process.returncode == (130 if number == signal.SIGINT else -number)
        assert errors.count("\n") == (number == signal.SIGINT)
        assert errors.startswith("fpsolve: interrupted; claims that were done are in the report" * (number == signal.SIGINT))
        until(lambda: not any(running(worker) for worker in workers))
        left = json.loads((out / "validation.json").read_text())
        assert (left["finished"], left["passed"], left["claims"], left["pending"]) == (False, False, [], list(names))
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.stderr.close()


def until(happens):
    """What `happens` returns as soon as it is true."""
    end = time.monotonic() + WAIT
    while not (found := happens()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def running(process: int) -> bool:
    """Whether a process is there and has not ended (one that nobody has waited for stays in the list)."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_units_of_shared_work_come_first(write):
    runner = importlib.import_module("fpsolve_validation._runner")
    claims = [write("a"), write("b", shared="x"), write("c"), write("d", shared="x")]
    assert [[claim.NAME for claim in unit] for unit in runner.units(claims)] == [["b", "d"], ["a"], ["c"]]
    assert 1 <= runner.default_jobs() <= min(runner.MOST, os.cpu_count())


def test_claims_that_train_the_same_networks_say_so(validation):
    claims, bound = validation.discover(), 0
    for helper, names in (("_feng_tu", ("measured", "prepare", "landscape", "modes", "spectrum")), ("_grid", ("grid",))):
        shared = importlib.import_module(f"fpsolve_validation.{helper}")
        for claim in claims:
            uses = any(getattr(claim, name, None) is getattr(shared, name) for name in names)
            assert uses == (getattr(claim, "SHARED", None) == shared.SHARED), claim.NAME
            bound += uses
    assert bound >= 9


def test_no_jobs_are_refused(validation, write, tmp_path):
    with pytest.raises(ValueError, match="jobs = 0; give the number"):
        validation.run([write("a")], quick=True, out=tmp_path / "out", progress=False, jobs=0)
    assert not (tmp_path / "out").exists()
