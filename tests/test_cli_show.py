"""`fpsolve show`: every kind of file in words and pictures, in any terminal, to a file; nothing a file says can do harm."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import test_fuzz_files
import test_io

import fpsolve as fps
import nets
from fpsolve import cli, results
from fpsolve._show import clean

ROOT = Path(__file__).parent.parent
FORMATS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


def more() -> dict[str, object]:
    """Results of the classes that `test_io.EXAMPLES` leaves out."""
    grid, t, decay = fps.Grid((-1.0, 1.0, 20)), np.linspace(0.0, 1.0, 5), 0.5 ** np.arange(9.0)[:, None, None]
    escapes = fps.EscapeTimes([1.0, 2.0, 4.0], [False, False, True], np.zeros((3, 1)), t_max=4.0)
    valley = fps.Process(fps.potentials.degenerate_valley("1 + x**2"), fps.Noise.isotropic(0.01))
    effective = fps.theory.effective_loss(valley, (-1.0, 1.0))
    answers = {"equation": fps.Estimate(2.0, unit="time"), "paths": fps.Estimate(2.1, stderr=0.1, unit="time")}
    return {
        "spectrum": fps.Spectrum([0.0], np.ones((1, 20)), np.ones((1, 20)), [0.0], grid),
        "current": results.Current(np.ones((20, 1)), grid, np.zeros(20)),
        "exits": fps.ExitTimeDistribution(t, np.exp(-t), np.exp(-t), 0 * t),
        "autocorrelation": fps.Autocorrelation(np.arange(9.0), decay, 0 * decay, decay[None, :, :, 0], [0.0], [0]),
        "occupation": fps.Occupation([[40, 60]] * 2, [[4, 4]] * 2, [[45, 55]] * 2, [[[0, 2], [1, 0]]] * 2, 0.5, 100, ("a", "b")),
        "statistics": escapes.statistics(),
        "survival": escapes.survival(),
        "moments": fps.Trajectories(np.arange(4.0)[:, None], [1.0]).statistics(),
        "splitting": fps.SplittingEstimate(0.5, unit="1/time", log_probabilities=[-2.0, -2.2], n=10, step=0.1),
        "report": fps.EscapeReport("Escape", ["answer"], [["equation"], ["paths"]], estimates=answers, reference="paths"),
        "effective": effective,
        "selection": fps.SelectionReport("V", ["answer"], [], effective=effective, densities={"theory": effective.density()}),
        "diagram": fps.PhaseDiagram([1.0, 2.0, 3.0], [0.05, 0.1], [[0.0, 0.0], [0.2, 0.6], [1.0, 1.0]], np.ones((3, 2)), 10),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    for name, obj in more().items():
        fps.save(folder / f"{name}.h5", obj)
    return test_fuzz_files.write_files(folder)


def test_no_kind_of_result_is_left_out(files):
    seen = {type(fps.load(path)).__name__ for name, path in files.items() if name not in ("run", "stats", "pca", "checkpoint")}
    assert seen >= set(results.__all__) - {"Assumption", "Quantity", "Result"}


@pytest.fixture
def shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "40")

    def show(*args, code=0):
        assert cli.main(["show", *map(str, args)]) == code
        return capsys.readouterr()

    return show


def test_every_kind_of_file_is_put_into_words(files, shown):
    """The repr of what is loaded stands in the text, of results of both packages."""
    for name, path in files.items():
        text = shown(path).out
        if name in ("tree", "checkpoint"):
            continue
        loaded = nets.load(path) if name in ("run", "stats", "pca") else fps.load(path)
        if type(loaded).__name__ in (*results.__all__, "Grid", "Run", "Stats", "PCA"):
            for line in repr(loaded).splitlines():
                assert clean(line, 2000) in text, f"{name}: {line}"
        if name in ("run", "stats", "pca"):
            assert re.search(r"└[─┬]{20}", text), name
        assert "not read as a result" not in text, name


def test_every_result_with_a_picture_is_drawn(files, shown):
    """Whatever plot() can draw stands in the terminal, within its width."""
    drawn = 0
    for name, obj in {**test_io.EXAMPLES, **more()}.items():
        if not hasattr(obj, "plot") or isinstance(obj, fps.Estimate) or type(obj) is fps.Table:
            continue
        text = shown(files[name], "--ascii").out
        try:
            obj.plot()
        except Exception:
            assert "no picture: " in text, name
            continue
        picture = text.rsplit("\n\n", 1)[1].splitlines()
        assert any(line.lstrip().startswith(("+-", "+|")) for line in picture), name
        assert max(map(len, picture)) <= 80, name
        drawn += 1
    assert drawn >= 17


def test_the_picture_follows_the_terminal_and_its_characters(files, shown, monkeypatch):
    def frame(*args):
        lines = shown(files["density"], *args).out.rsplit("\n\n", 1)[1].splitlines()[1:]
        return max(map(len, lines)), len(lines), "".join(lines)

    wide, high, text = frame()
    assert wide <= 80 and set(text) & set("⣀⠉⡇█▓░")
    monkeypatch.setenv("COLUMNS", "120")
    assert frame()[0] > 80 and frame()[1] > high
    assert frame("--width", "50")[0] <= 50
    assert frame("--ascii")[2].isascii()
    monkeypatch.setenv("TERM", "dumb")
    assert frame()[2].isascii()


def test_a_stream_without_unicode_gets_ascii(files):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "COLUMNS": "60", "TERM": "xterm"}
    command = [sys.executable, "-m", "fpsolve", "show", str(files["density"])]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0 and not done.stderr
    assert re.search(rb"\+[-|]{10}", done.stdout) and done.stdout.isascii()


@pytest.mark.parametrize("ending", FORMATS)
def test_a_picture_in_a_file(ending, files, shown, tmp_path):
    target = tmp_path / f"picture{ending}"
    assert f"drawn in {target}" in shown(files["density"], "--plot", target).out
    assert target.read_bytes().startswith(FORMATS[ending])
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_one_of_several_results_is_chosen_by_name(shown, tmp_path):
    path = tmp_path / "both.h5"
    grid = fps.Grid((-1.0, 1.0, 8))
    fps.save(path, {"a": {"rho": fps.Density(np.full(8, 0.5), grid)}, "b": fps.Field(np.arange(8.0), grid, name="rising")})
    text = shown(path).out
    assert "a/rho (also to be drawn, with --name: b)" in text and "a/rho: Density on 8 cells" in text and "b: Field" in text
    assert "rising" in shown(path, "--name", "b").out.rsplit("\n\n", 1)[1]
    assert "has no result called 'c'; it has a/rho, b" in shown(path, "--name", "c", code=2).err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--plot", "a.bmp"], "--plot writes .png, .pdf or .svg, got 'a.bmp'"),
        (["--plot", "no/such/a.png"], "does not exist; create it first"),
        (["--name", "density", "--brief"], "--brief reads no result"),
        (["--width", "29"], "'29' is not a width; give an integer from 30 to 1000"),
        (["--width", "wide"], "'wide' is not a width"),
    ],
)
def test_wrong_options_are_code_2(args, message, files, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = shown(files["density"], *args, code=2)
    assert message in told.err and not told.out
    assert not list(tmp_path.iterdir())


def test_what_has_no_picture_says_so(files, shown, tmp_path):
    text = shown(files["grid"], "--plot", tmp_path / "a.png", code=2).err
    assert "grid: none of these has a picture" in text and not (tmp_path / "a.png").exists()
    assert "is a Grid, which has no picture" in shown(files["grid"], "--name", "grid", code=2).err
    for name in ("estimate", "table", "grid"):
        assert "no picture" not in shown(files[name]).out, "what is words already needs none"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1.0
    assert "was not written by fpsolve" in shown(tmp_path / "other.h5", "--plot", "a.png", code=2).err


def test_json_is_json_with_numbers_that_it_does_not_have(files, shown, tmp_path):
    for name in ("density", "run", "estimate"):
        record = json.loads(shown(files[name], "--json").out, parse_constant=lambda c: pytest.fail(c))
        assert record["bytes"] == files[name].stat().st_size and record["objects"][0]["text"]
    entry = next(e for e in json.loads(shown(files["density"], "--json").out)["entries"] if e["path"] == "density/values")
    with h5py.File(files["density"]) as file:
        assert entry["shape"] == list(file["density/values"].shape) and entry["units"] == "1/volume"
    drawn = shown(files["density"], "--json", "--plot", tmp_path / "a.png")
    assert json.loads(drawn.out) and "drawn in" in drawn.err


def test_large_files_are_listed_only_and_brief_lists_only(files, shown, monkeypatch):
    assert "Density on" not in shown(files["density"], "--brief").out
    monkeypatch.setattr("fpsolve._view._LARGE", 1000)
    text = shown(files["density"]).out
    assert "not read as a result: the file has" in text and "Density on" not in text
    assert "Density on" in shown(files["density"], "--name", "density").out


def test_a_sweep_and_a_run_under_way(shown, tmp_path):
    done = fps.sweep(lambda a: a**2, {"a": [1.0, 2.0, 3.0]}, out=tmp_path / "s.h5")
    text = shown(tmp_path / "s.h5").out
    assert f"sweep: {done!r}" in text and "└" in text
    mlp, data = nets.MLP((2, 4, 2), activation="tanh"), nets.load_data("spiral", n=50)
    nets.train(mlp, data, lr=0.1, batch=10, steps=10, seed=0, out=tmp_path / "r.h5")
    (tmp_path / "r.h5.parts").mkdir()
    assert "r.h5.parts has its segments" in shown(tmp_path / "r.h5").out
    assert (tmp_path / "r.h5.parts").is_dir(), "to show a file changes nothing"


def test_the_record_of_a_validation_is_a_table(shown, tmp_path):
    claim = {"group": "g", "name": "one", "passed": True, "checks": [{"passed": True}], "seconds": 1.5, "error": ""}
    bad = {**claim, "name": "two\x1b[2J", "passed": False, "checks": [{"passed": True}, {"passed": False}], "error": "no"}
    record = {"claims": [claim, bad], "pending": ["three"], "quick": True}
    (tmp_path / "validation.json").write_text(json.dumps(record))
    text = shown(tmp_path).out
    assert "1 of 2 claims passed (quick run)" in text and "not run: three" in text and "1 of 2" in text and "\x1b" not in text
    assert json.loads(shown(tmp_path / "validation.json", "--json").out)["claims"][1]["verdict"] == "FAILED"
    for content in ("", "[" * 100_000, "[]", '{"claims": [1], "pending": [], "quick": 1}', "\udcff"):
        (tmp_path / "validation.json").write_bytes(content.encode("utf-8", "surrogateescape"))
        assert "is not the record of a validation run" in shown(tmp_path, code=2).err
    assert "has no picture" not in shown(tmp_path, "--plot", "a.png", code=2).out


def test_texts_of_a_file_cannot_drive_the_terminal(shown, tmp_path):
    """Units, names and notes come into repr, labels and headings."""
    path, grid = tmp_path / "x.h5", fps.Grid((-1.0, 1.0, 8))
    fps.save(path, {"a\x1b[2J": fps.Field(np.arange(8.0), grid, name="n\x1b[31m$\\frac", unit="u\x07\x9b")})
    for args in ((), ("--json",), ("--ascii",)):
        out = shown(path, *args).out
        assert not any(ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160 for c in out)


def test_a_reader_that_goes_away_is_no_error(files):
    """As in `fpsolve show f | head -1`, whose end comes before the last line."""
    command = f"{sys.executable} -m fpsolve show {files['density']} | head -1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shell = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(shell, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1
