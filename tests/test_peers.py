"""The comparison with other packages: its runner, its command line, and that the page shows what the record has."""

import json
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fpsolve as fps

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "bench"))

from peers import _command, _page, _run, _worker  # noqa: E402
from peers._case import CannotDo, Peer  # noqa: E402
from peers.fokker_planck import PASSAGES, well  # noqa: E402

#: What the groups compare with, by the names that are imported.
PEERS = (
    "pde", "fipy", "fplanck", "kramers", "diffrax", "jax", "jax_md", "torchsde", "torch", "openmm", "backpack", "curvlinops",
    "sklearn",
)  # fmt: skip
TOYS = """
import os
from pathlib import Path

from peers._case import CannotDo, Peer, Problem

LOG = Path(__file__).with_name("log")


def way(name, act, package=None, error=lambda answer: abs(answer - 2.0)):
    def run():
        with LOG.open("a") as log:
            log.write(name[0])
        return act()
    return Peer(name, package, lambda: run, error, "a note")


def absent():
    import no_such_module


def loud():
    print("this is no answer")
    return 2.25


def died():
    os.write(2, b"Fatal: the last words\\n")
    os._exit(3)


def problems():
    peers = (
        way("b, prints", loud),
        way("c, estimate", lambda: 2.5, error=lambda answer: (0.25, 0.5)),
        way("d, raises", lambda: 1 / 0),
        way("e, dies", died),
        way("f, is not installed", lambda: 2.0, "no-such-package"),
        Peer("g, imports in vain", None, absent, float),
        CannotDo("h", "numpy", "for a reason"),
    )
    ours = way("a", lambda: 2.0, "fpsolve")
    return [
        Problem("paths", "toy", "What is 1 + 1?", "M steps/s", 1e6, ours, peers, "counting"),
        Problem("paths", "slow toy", "How long?", "ms", None, way("z", lambda: __import__("time").sleep(60)), (), "none"),
    ]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the module of the toys is, and their log."""
    return tmp_path_factory.mktemp("toys")


@pytest.fixture(scope="module")
def toys(folder):
    (folder / "toy_problems.py").write_text(TOYS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.syspath_prepend(folder)
        yield import_module("toy_problems").problems()
    del sys.modules["toy_problems"]


def run(problem, rounds, timeout):
    return _run.suite([("toy_problems", problem)], rounds=rounds, timeout=timeout, quick=True, tell=lambda line: None)


@pytest.fixture(scope="module")
def record(toys):
    return run(toys[0], 2, 120.0)


def test_whatever_happens_to_a_peer_is_a_row(record, folder):
    ways = {way["name"][0]: way for way in record["problems"][0]["ways"]}
    states = {name: way["status"] for name, way in ways.items()}
    assert states == dict(zip("abcdefgh", ["ok"] * 3 + ["failed", "crashed", "missing", "missing", "cannot"], strict=True))
    assert ways["d"]["reason"] == "ZeroDivisionError: division by zero"
    assert "exit code 3: Fatal: the last words" in ways["e"]["reason"]
    assert "pip install no-such-package" in ways["f"]["reason"]
    assert "no_such_module" in ways["g"]["reason"]
    assert ways["a"]["name"] == f"a {fps.__version__}"
    assert ways["h"]["name"] == f"h {np.__version__}"
    assert (ways["b"]["error"], ways["b"]["stderr"]) == (0.25, None)
    assert (ways["c"]["error"], ways["c"]["stderr"]) == (0.25, 0.5)
    assert all(way["peak_mb"] > 1 and way["prepare"]["wall"] >= 0 for name, way in ways.items() if name in "abc")
    calls = (folder / "log").read_text()
    assert calls[:5] == "abcde"  # the first calls
    rounds = "".join(c for i, c in enumerate(calls[5:]) if i == 0 or c != calls[4 + i])
    assert rounds == "abcabc"  # then in turn


def test_a_record_says_where_it_comes_from(record):
    origin = record["provenance"]
    assert record["version"] == fps.__version__ == origin["versions"]["fpsolve"]
    assert origin["versions"]["no-such-package"] is None
    assert origin["parameters"]["threads"] == 1
    assert len(origin["parameters"]["load_average_before"]) == 3
    assert not {"host", "argv"} & set(origin)
    assert json.loads(json.dumps(record)) == record


def test_a_problem_measured_again_says_so(record):
    other = {**record["problems"][0], "name": "other"}
    later = {**record["provenance"], "created": "2999-01-01T00:00:00+00:00"}
    new = {"provenance": later, "problems": [{**other, "question": "What is 2 + 2?"}]}
    whole = _command.renewed({**record, "problems": [record["problems"][0], other]}, new)
    assert whole["problems"][0] == record["problems"][0] and whole["provenance"] == record["provenance"]
    assert whole["problems"][1]["question"] == "What is 2 + 2?"
    assert "Apart from it, other:" in _page.origin(whole) and "2999-01-01" in _page.origin(whole)


def test_a_peer_that_gives_no_answer_in_time_is_ended(toys):
    problem = run(toys[1], 1, 1.5)["problems"][0]
    assert problem["ways"][0]["status"] == "timed out"
    assert problem["ways"][0]["reason"] == "gave no answer within 1.5 s"


def test_table_and_figure_of_a_record(record, tmp_path):
    found = _page.rows(record)
    assert [one[0] for one in found] == ["paths: toy"] + [""] * 7
    names, speeds = [one[1] for one in found], [one[2] for one in found]
    assert names[0] == f"**a {fps.__version__}**"
    assert set(speeds[3:]) == {"failed", "crashed", "not installed", "cannot"}
    ways = record["problems"][0]["ways"]
    assert speeds[0] == f"{1.0 / _page.cpu_per_call(ways[0]):.3g} M steps/s"
    assert any("25 ± 50 %" in one[4] for one in found)
    assert any(one[4] == "2.5e-01" for one in found)
    assert "**a" not in _page.text_table(record)
    assert "What is 1 + 1?" in _page.markdown(record)
    _page.figure(record, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="nothing to draw"):
        _page.figure({**record, "problems": []}, tmp_path / "none.png")


def test_versions_stand_behind_the_first_word():
    assert _run.named("SciPy, quad of quad", "1.0") == "SciPy 1.0, quad of quad"
    assert _run.named("py-pde", "1.0") == "py-pde 1.0"
    assert _run.named("C, by hand", None) == "C, by hand"


def test_a_round_is_long_enough_to_be_timed():
    calls = []
    found = _worker.a_round(lambda: calls.append(1))
    assert found["calls"] == len(calls) > 100
    assert found["wall"] * found["calls"] >= _worker.ROUND


def test_problems_are_listed_without_the_peers():
    """In a process where none of them can be imported."""
    code = f"""
        import sys
        sys.path.insert(0, {str(ROOT / "bench")!r})
        sys.modules.update(dict.fromkeys({PEERS!r}))
        from peers._command import GROUPS, main
        from importlib import import_module
        for name, module in GROUPS.items():
            found = import_module(module).problems()
            assert found and {{p.group for p in found}} == {{name}}, name
            assert len({{p.name for p in found}}) == len(found), name
        sys.exit(main(["--list"]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "py-pde" in done.stdout
    assert "(cannot: " in done.stdout


def test_every_problem_says_what_it_asks():
    for _, problem in _command.chosen(None, None):
        assert problem.question.endswith("."), problem.name
        assert problem.reference, problem.name
        assert (problem.work is None) == (problem.unit == "ms"), problem.name
        assert problem.ours.package == "fpsolve", problem.name
        for way in problem.peers:
            assert isinstance(way, Peer | CannotDo), problem.name
            assert not isinstance(way, CannotDo) or len(way.reason) > 10, way.name


@pytest.mark.parametrize("arguments, message", [
    (["--rounds", "0"], "'0' is not a whole number above 0"),
    (["--rounds", "many"], "'many' is not a whole number"),
    (["--timeout", "-1"], "'-1' is not a number above 0"),
    (["--timeout", "nan"], "'nan' is not a number above 0"),
    (["--group", "games"], "invalid choice: 'games'"),
    (["--list", "--problem", "chess"], "no problem has 'chess' in its name; there are: "),
])  # fmt: skip
def test_wrong_usage_is_told(arguments, message, capsys):
    assert _command.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_problems_are_chosen_by_group_and_name():
    assert {p.group for _, p in _command.chosen("paths", None)} == {"paths"}
    assert [p.name for _, p in _command.chosen(None, "PASSAGE time, d = 0.05")] == ["mean first-passage time, D = 0.05"]


def test_a_page_needs_its_record_and_its_place(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no place\n")
    with pytest.raises(ValueError, match="cannot be read"):
        _command.make_page(tmp_path / "none.json", page, tmp_path / "none.png")
    with pytest.raises(ValueError, match="has no place for the table"):
        _command.make_page(_command.record_of(_command.RESULTS), page, tmp_path / "none.png")
    assert page.read_text() == "no place\n"
    assert not (tmp_path / "none.png").exists()


def test_the_page_shows_the_record():
    found = json.loads(_command.record_of(_command.RESULTS).read_text(encoding="utf-8"))
    text = _command.PAGE.read_text(encoding="utf-8")
    assert _page.with_table(text, found) == text, "python bench/peers --page"
    assert _command.FIGURE.exists()
    groups = {problem["group"] for problem in found["problems"]}
    assert groups == set(_command.GROUPS)


@pytest.mark.parametrize("D", PASSAGES)
def test_passage_times(D):
    """The double integral again, by Gauss-Legendre on panels of 1/400, the inner one as a running sum."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(-2.5, 1.0, 1401)
    h = edges[1] - edges[0]
    y = edges[:-1, None] + 0.5 * h * (nodes + 1)
    # The inner integral up to a node: whole panels below it, and its own in part.
    whole = np.concatenate([[0.0], np.cumsum(np.exp(-well(y) / D) @ weights * 0.5 * h)])[:-1, None]
    part = y - edges[:-1, None]
    z = edges[:-1, None, None] + 0.5 * part[..., None] * (nodes + 1)
    inner = whole + np.exp(-well(z) / D) @ weights * 0.5 * part
    right = edges[:-1] > -1.0 - 0.5 * h
    outer = (np.exp(well(y[right]) / D) * inner[right]) @ weights * 0.5 * h
    assert outer.sum() / D == pytest.approx(PASSAGES[D], rel=1e-12)
