"""Configurations from the command line: `fpsolve run`."""

import dataclasses
import functools
import re

import pytest
from config_cases import ESCAPE, TOML, same

import fpsolve as fps
from fpsolve import _config_tables, cli, read_config

pytestmark = pytest.mark.usefixtures("entry_points")


def test_run_prints_saves_and_runs_again(written, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(written(TOML.partition("[sweep]")[0]))
    assert cli.main(["run", path, "--out", "a.h5", "--no-progress"]) == 0
    printed = capsys.readouterr().out
    assert "EscapeTimes of 64 trajectories" in printed
    assert f"saved in {tmp_path / 'a.h5'}" in printed
    assert same(fps.load("a.h5"), read_config(path).run())
    assert cli.main(["show", "a.h5"]) == 0
    assert "noise: {'kind': 'isotropic', 'D': 0.5}" in capsys.readouterr().out
    again = [
        "run",
        "a.h5",
        "--set",
        "noise.D=0.7",
        "--set",
        "task.n=16",
        "--set",
        "process.interpretation=klimontovich",
        "--seed",
        "3",
    ]
    assert cli.main([*again, "--no-progress"]) == 0
    assert "seed 3" in capsys.readouterr().out
    assert fps.load("a.h5").times.size == 64
    record = fps.io.load_provenance("a.h5")[0]["parameters"]
    assert (record["task"], record["seed"]) == ("escape_times", 7)


def test_a_drawn_seed_is_stored(written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(written(TOML.partition("[run]")[0] + "[run]\nout = 'a.h5'\n"))
    assert cli.main(["run", path, "--no-progress"]) == 0
    assert same(read_config("a.h5").run(), fps.load("a.h5"))
    assert read_config("a.h5").as_dict()["run"]["seed"] is not None
    capsys.readouterr()


def test_one_cell_of_a_sweep_is_run(written, tmp_path, capsys):
    path, cell = str(written(TOML)), ["--set", "noise.D=0.5", "--set", "potential.params.h=0.0"]
    assert cli.main(["run", path, *cell]) == 2
    assert "has axes (task.n): run all of it with `fpsolve sweep" in capsys.readouterr().err
    assert cli.main(["run", path, *cell, "--set", "task.n=12", "--out", str(tmp_path / "a.h5"), "--no-progress"]) == 0
    assert "12 trajectories" in capsys.readouterr().out
    assert read_config(tmp_path / "a.h5").axes == {}


def test_results_of_other_kinds_are_printed(written, tmp_path, capsys):
    path = str(written('[task]\nname = "second_moments"\nhessians = [[[1.0]]]\ngradients = [[1.0]]\nlr = 0.1\n'))
    assert cli.main(["run", path]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    path = str(written('[data]\nname = "spiral"\n[network]\nwidths = [2, 8, 2]\nactivation = "tanh"\n'
                       '[training]\nlr = 0.1\nbatch = 10\nsteps = 5\n[task]\nname = "train"\n'))  # fmt: skip
    assert cli.main(["run", path, "--seed", "1", "--out", str(tmp_path / "t.h5"), "--no-progress"]) == 0
    assert re.search(r"train_loss +0\.\d+", capsys.readouterr().out)
    assert fps.load(tmp_path / "t.h5")["steps"] == 5


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent.toml"], "the config absent.toml does not exist"),
        (["{}"], "has axes (noise.D, potential.params.h, task.n): run all of it with `fpsolve sweep"),
        (["{}", "--set", "noise.d=1"], "[noise] unknown key 'd' of 'isotropic'"),
        (["{}", "--set", "noise.D"], "'noise.D' is not KEY=VALUE"),
        (["{}", "--set", "noise.D=1 2"], "'1 2' is not a value"),
        (["{}", "--set", "noise.D=1\nx = 2"], "is not a value"),
        (["{}", "--seed", "-1"], "'-1' is not a seed"),
        ([], "CONFIG"),
    ],
)
def test_wrong_runs_are_code_2(args, message, written, capsys):
    path = str(written(TOML))
    assert cli.main(["run", *(arg.replace("{}", path) for arg in args)]) == 2
    assert message in capsys.readouterr().err


def test_what_an_interruption_leaves_is_saved(written, tmp_path, monkeypatch, capsys):
    half = dataclasses.replace(read_config(ESCAPE).run(), partial=True)
    monkeypatch.setattr(fps.Config, "run", lambda self, **_: half)
    path = str(written(TOML.partition("[sweep]")[0]))
    assert cli.main(["run", path, "--out", str(tmp_path / "a.h5")]) == 130
    assert fps.load(tmp_path / "a.h5").partial
    assert "interrupted" in capsys.readouterr().err


def test_check_does_not_run(written, capsys, monkeypatch):
    monkeypatch.setattr(_config_tables.Objects, "solver", property(lambda self: pytest.fail("work was done")))
    assert cli.main(["run", str(written(TOML)), "--check"]) == 0
    assert "is in order" in capsys.readouterr().out
    assert cli.main(["run", str(written(TOML)), "--check", "--set", "task.dt=-1.0"]) == 2
    assert "[task] dt must be a finite number > 0, got -1.0" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_an_error_before_work(written, capsys, monkeypatch):
    monkeypatch.setattr(fps.Config, "run", lambda self, **_: pytest.fail("work was done"))
    path = str(written(TOML.partition("[sweep]")[0]))
    assert cli.main(["run", path, "--out", "no/such/folder/a.h5"]) == 2
    assert "does not exist; create it first" in capsys.readouterr().err


def test_failed_numerics_are_code_1(written, capsys, monkeypatch):
    def failing(**_):
        raise fps.FpsolveError("all trajectories became non-finite")

    config = read_config(ESCAPE)
    assert config.task == "escape_times"
    monkeypatch.setattr(fps, "escape_times", functools.wraps(fps.escape_times)(failing))
    assert cli.main(["run", str(written(TOML.partition("[sweep]")[0])), "--no-progress"]) == 1
    assert "[task] escape_times: all trajectories became non-finite" in capsys.readouterr().err
