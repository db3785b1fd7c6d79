"""The command line: exit codes, messages, and the framework of the validation claims on synthetic claims."""

import json
import logging
import math
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from fpsolve import FpsolveError, __version__, cli

Runner = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parent.parent
COMMANDS = ("demo", "run", "validate", "show", "env")


def test_help_lists_commands_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    for command in COMMANDS:
        assert f"fpsolve {command}" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"usage: fpsolve {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "COMMAND"),
        (["dmo"], "invalid choice: 'dmo'"),
        (["demo", "--data", "cifar"], "invalid choice: 'cifar'"),
        (["demo", "--seed", "-1"], "'-1' is not a seed; give an integer >= 0"),
        (["demo", "--seed", "x"], "'x' is not a seed"),
        (["show"], "FILE"),
        (["validate", "--quick", "--full"], "not allowed with"),
        (["validate", "--jobs", "0"], "'0' is not a number of jobs; give an integer >= 1"),
        (["validate", "--jobs", "two"], "'two' is not a number of jobs"),
    ],
)
def test_wrong_usage_is_code_2(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    assert message in capsys.readouterr().err


def test_module_and_version(run_python: Runner) -> None:
    done = run_python("-m", "fpsolve", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fpsolve {__version__}\n", "")
    assert run_python("-m", "fpsolve", "show", "absent.h5").returncode == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad\nvalue"), 2),
        (TypeError("bad value"), 2),
        (OSError(28, "bad value"), 2),
        (FpsolveError("bad value"), 1),
    ],
)
def test_errors_are_one_line(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_environment", lambda: fail(error))
    assert cli.main(["env"]) == code
    err = capsys.readouterr().err
    assert err.startswith("fpsolve: error: ")
    assert err.count("\n") == 1
    assert "bad value" in err
    with pytest.raises(type(error)):
        cli.main(["--debug", "env"])


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_environment", lambda: fail(KeyError("x")))
    with pytest.raises(KeyError):
        cli.main(["env"])


def test_interrupt_is_clean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_environment", lambda: fail(KeyboardInterrupt()))
    assert cli.main(["env"]) == 130
    assert capsys.readouterr().err == "fpsolve: interrupted\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "fpsolve", "env"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def fail(error: BaseException) -> None:
    raise error


def test_env_names_versions_processor_and_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setenv("FPSOLVE_DATA", str(tmp_path / "absent"))
    assert cli.main(["env"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if not line.startswith("kernel"))
    assert lines["numpy"] == np.__version__
    assert lines["h5py"] == h5py.__version__
    assert lines["fpsolve"].startswith(__version__)
    assert lines["FPSOLVE_DATA"].endswith("(no such folder)")
    assert "cores usable" in lines["processor"]
    cli.main(["env"])
    assert str(tmp_path / "kernels") in capsys.readouterr().out


@pytest.fixture
def result_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file.attrs["schema"], file.attrs["schema_version"] = "fpsolve", "1.0"
        file["provenance"] = json.dumps({"seed": 7, "numpy": "2.1"})
        data = file.create_dataset("density/values", data=np.zeros((3, 4)))
        data.attrs["units"], data.attrs["long_name"] = "1/length", "density\x1b[31m"
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
    return path


def test_show_describes_a_file(result_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", str(result_file)]) == 0
    text = capsys.readouterr().out
    for part in ("schema: fpsolve", "schema_version: 1.0", "seed: 7", "density/", "3 x 4", "float64", "[1/length]"):
        assert part in text
    assert "\x1b" not in text  # text from a file cannot drive the terminal
    assert "elsewhere  (ExternalLink, not followed)" in text


def test_show_stops_in_a_loop_of_links(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loop.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("a")
        group["b"], group["c"] = group, group
    assert cli.main(["show", str(path)]) == 2
    assert "loops of links" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not an HDF5 file", None])
def test_show_refuses_what_it_cannot_read(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.h5"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["show", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_show_survives_truncation(result_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = result_file.read_bytes()
    for size in range(0, len(data), max(len(data) // 40, 1)):
        result_file.write_bytes(data[:size])
        assert cli.main(["show", str(result_file)]) == 2
    capsys.readouterr()


# ---- validation framework ------------------------------------------------------------------------------------------


def claim(validation: types.ModuleType, name: str, measured: float, group: str = "synthetic") -> types.SimpleNamespace:
    """A claim on the mean of 1..n, which is (n + 1)/2, with the given "measurement"."""

    def run(quick: bool, out: Path, progress: bool) -> list:
        (out / f"{name}.txt").write_text("quick" if quick else "full")
        band = (5.4, math.inf)
        return [validation.Check(name="mean", measured=measured, stderr=0.1, expected=5.5, band=band, source="(n + 1)/2")]

    return types.SimpleNamespace(NAME=name, GROUP=group, CLAIM="The mean is (n + 1)/2.", STANDING="derived", run=run)


def test_passing_claims(validation, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = [claim(validation, "one", 5.5), claim(validation, "two", 5.4)]
    out = tmp_path / "deep" / "out"
    assert validation.run(claims, quick=True, out=out, progress=False) == 0
    text = capsys.readouterr().out
    assert "synthetic/one" in text
    assert "2 claims, 2 checks, all passed" in text
    record = json.loads((out / "validation.json").read_text())
    assert record["passed"] is True
    assert record["quick"] is True
    numbers = {"measured": 5.5, "stderr": 0.1, "expected": 5.5, "band": [5.4, "inf"]}
    assert record["claims"][0]["checks"][0] == {"name": "mean", **numbers, "passed": True, "source": "(n + 1)/2"}
    assert (out / "two.txt").read_text() == "quick"
    assert sorted(p.name for p in out.iterdir()) == ["one.txt", "report.html", "two.txt", "validation.json"]


@pytest.mark.parametrize("measured", [5.3, math.nan, -math.inf])
def test_a_number_outside_its_band_fails(validation, measured: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = [claim(validation, "good", 5.5), claim(validation, "bad", measured)]
    assert validation.run(claims, quick=False, out=tmp_path, progress=False) == 1
    text = capsys.readouterr().out
    assert "failed: bad" in text
    assert "FAIL" in text
    record = json.loads((tmp_path / "validation.json").read_text())
    assert [c["passed"] for c in record["claims"]] == [True, False]
    assert record["passed"] is False


def test_a_claim_that_raises_or_checks_nothing_fails_and_the_rest_runs(
    validation, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken, empty, good = (claim(validation, name, 5.5) for name in ("broken", "empty", "good"))
    broken.run = lambda quick, out, progress: fail(FpsolveError("no convergence"))
    empty.run = lambda quick, out, progress: []
    with caplog.at_level(logging.ERROR):
        assert validation.run([broken, empty, good], quick=True, out=tmp_path, progress=False) == 1
    text = capsys.readouterr().out
    assert "FpsolveError: no convergence" in text
    assert "made no check" in text
    assert "3 claims, 1 checks, failed: broken, empty" in text


def test_empty_band_and_incomplete_claim_are_refused(validation) -> None:
    with pytest.raises(ValueError, match=r"band \(2, 1\) is empty"):
        validation.Check(name="x", measured=1.0, expected=1.0, band=(2, 1))
    with pytest.raises(ValueError, match="band"):
        validation.Check(name="x", measured=1.0, expected=1.0, band=(math.nan, 1.0))
    with pytest.raises(ValueError, match="lacks CLAIM, STANDING"):
        validation.check_claim(types.SimpleNamespace(NAME="a", GROUP="b", run=None), "a")
    wrong = claim(validation, "a", 1.0)
    wrong.STANDING = "guessed"
    with pytest.raises(ValueError, match="STANDING is 'guessed'"):
        validation.check_claim(wrong, "a")


def test_selection_by_name_and_group(validation) -> None:
    claims = [claim(validation, "one", 5.5, "a"), claim(validation, "two", 5.5, "a"), claim(validation, "three", 5.5, "b")]
    names = [[c.NAME for c in validation.select(claims, wanted)] for wanted in ([], ["a"], ["three"], ["b", "one"])]
    assert names == [["one", "two", "three"], ["one", "two"], ["three"], ["one", "three"]]
    with pytest.raises(ValueError, match="no claim or group is called 'thre'; did you mean 'three'"):
        validation.select(claims, ["thre"])
    assert "The mean is (n + 1)/2." in validation.listing(claims)


def test_unwritable_output_stops_before_any_claim_runs(validation, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    ran = []
    probe = claim(validation, "probe", 5.5)
    probe.run = lambda quick, out, progress: ran.append(1)
    with pytest.raises(OSError):
        validation.run([probe], quick=True, out=blocked / "out", progress=False)
    assert not ran


def test_every_shipped_claim_is_well_formed(validation) -> None:
    claims = validation.discover()
    assert len({c.NAME for c in claims}) == len(claims)
    for found in claims:
        assert found.CLAIM.endswith(".")


def test_validate_command(validation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = [claim(validation, "good", 5.5), claim(validation, "bad", 0.0)]
    monkeypatch.setattr(validation, "discover", lambda: claims)
    out = ["--out", str(tmp_path)]
    assert cli.main(["validate", "--list"]) == 0
    assert "good" in capsys.readouterr().out
    assert cli.main(["validate", "good", "--full", *out]) == 0
    assert (tmp_path / "good.txt").read_text() == "full"
    assert cli.main(["validate", *out]) == 1
    assert cli.main(["validate", "god", *out]) == 2
    assert "did you mean 'good'" in capsys.readouterr().err
