"""The table of targets: its rules, its command line, that the page shows the record; and what networks are compared with."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import nets

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "bench"))

import _rows  # noqa: E402
import first_call  # noqa: E402
import speed_of_networks as networks  # noqa: E402
import speed_of_paths  # noqa: E402
import targets  # noqa: E402
from _rows import OURS, Row, times_as_fast  # noqa: E402
from _targets import TARGETS, Reference, Target  # noqa: E402

#: Ways that are there only where their package is installed.
OPTIONAL = ("torch", "scikit-learn")


@pytest.fixture(scope="module")
def record():
    return targets.read(targets.record_of(targets.RESULTS))


def section(*rows):
    """A section of a record."""
    parameters = {"load_average_before": [0.5, 0, 0], "load_average_after": [1.5, 0, 0], "seconds": 3.0}
    versions = dict.fromkeys(("python", "numpy", "scipy", "numba"), "1.0")
    origin = {"created": "2026-01-01T00:00:00", "git_commit": "0123456789abcdef", "cpu": "a processor", "cpu_count": 2}
    return {"provenance": {**origin, "parameters": parameters, "versions": versions}, "rows": [vars(row) for row in rows]}


def outcome_of(target, *rows, peers=None):
    """What is made of one target's rows."""
    targets_before, targets.TARGETS = targets.TARGETS, (target,)
    try:
        return targets.judged({"sections": {target.part: section(*rows)}, "peers": peers})[0]
    finally:
        targets.TARGETS = targets_before


def test_the_page_shows_the_record(record):
    page = targets.PAGE.read_text(encoding="utf-8")
    assert targets.with_tables(page, record) == page, "python bench/targets.py --page"


def test_every_target_has_a_row_and_a_bound(record):
    page = targets.PAGE.read_text(encoding="utf-8")
    assert len({(target.part, target.job) for target in TARGETS}) == len(TARGETS)
    for one in targets.judged(record):
        assert f"| {one.target.job} | {targets.limit(one.target)} |" in page
        assert f"- {one.target.job}: {one.target.bound.split('{')[0]}" in page
        if "short" in (one.verdict, {False: "short"}.get(one.met)):
            assert one.target.short, f"{one.target.job} falls short for no reason"


def test_every_section_of_the_record_has_what_the_targets_ask_for(record):
    for target in TARGETS:
        if target.part not in record["sections"] or target.case == "feng-tu, full":
            continue
        rows = targets.rows_of(record["sections"][target.part])
        assert (target.case, OURS) in rows, target.case
        for reference in target.references:
            if not reference.problem and not reference.way.startswith(OPTIONAL):
                assert (target.case, reference.way) in rows, reference
    assert set(record["sections"]) <= set(targets.SECTIONS) == {target.part for target in TARGETS}


def test_cases_of_the_scripts_have_these_names():
    started = {f"{name}, {caches} caches" for name in first_call.CASES for caches in ("empty", "filled")}
    assert {target.case for target in TARGETS if target.part == targets.STARTUP} <= started
    asked = {target.case for target in TARGETS if target.part == targets.PATHS}
    assert asked <= {speed_of_paths.ONE, speed_of_paths.TENSOR, speed_of_paths.EXITS, speed_of_paths.BAOAB, speed_of_paths.WIDE,
                     speed_of_paths.GAIN}  # fmt: skip


def test_packaged_references_are_among_the_peers():
    from peers import networks as of_networks
    from peers import paths as of_paths

    problems = {"paths": of_paths.problems(), "networks": of_networks.problems()}
    for target in TARGETS:
        for reference in target.references:
            if reference.problem:
                found = [p for p in problems[target.part] if reference.problem.lower() in p.name.lower()]
                assert len(found) == 1, (reference, [p.name for p in found])
                assert reference.way in {way.package for way in found[0].peers}, reference


@pytest.mark.parametrize(
    ("job", "needed"),
    [
        ("line, 1000 cells, narrow start to `t = 10`", (0.25, 8.5)),  # 0.5 and 17 ms beside 2 ms
        ("the same at `512^2`", (1.44, 0.96)),  # 3.6 and 2.4 s beside 2.5 s
        ("2-D double well, additive noise, Euler", (0.85, 19.0, 380 / 14)),
        ("training, batch 50, double, `W2` recorded", (3600 / 1941, 3600 / 2770)),
        ("principal components of 12 000 x 2500", (4.6 / 3.5,)),
    ],
)
def test_ratios_that_the_tables_imply(job, needed):
    target = next(target for target in TARGETS if target.job == job)
    assert [target.needed(reference) for reference in target.references] == pytest.approx(needed, rel=1e-12)


QUICK = Target("paths", "a job", "case", 2.0, "s", "memory, {other:.0%} of it", "the reason", (Reference("other", "other", 3.0),))


@pytest.mark.parametrize(
    ("ours", "other", "met", "holds", "verdict"),
    [
        ((1.0, 2.0, 1.5), (3.0, 4.0, 3.0), True, True, "reached"),
        ((3.0, 4.0, 5.0), (6.0, 6.0, 7.5), False, True, "reached"),  # 2, 1.5 and 1.5 times as fast; 1.5 is needed
        ((1.0, 1.0, 1.0), (1.4, 1.4, 9.0), True, False, "short"),
        ((3.0, 3.0, 3.0), None, False, None, "short"),
        ((1.0, 1.0, 1.0), None, True, None, "reached"),
        (None, (1.0, 1.0, 1.0), None, None, "not run"),
    ],
)
def test_verdicts(ours, other, met, holds, verdict):
    rows = [Row("case", way, "s", values) for way, values in ((OURS, ours), ("other", other)) if values]
    one = outcome_of(QUICK, *rows)
    assert (one.met, one.holds, one.verdict) == (met, holds, verdict)
    words = targets.bound_in_words(one)
    assert ("**Short:** the reason" in words) is (met is False or holds is False)
    assert ("% of it" in words) is bool(ours and other)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (1.2, ["other: 1.2 s here, 3 s in the table"]),  # 1.2 times as fast where 1.5 is needed, for the other is quicker here
        (2.9, []),  # at 2 s it is we who are slow
        (6.0, []),
    ],
)
def test_a_reference_that_is_quicker_here_than_in_the_table_is_told(other, words):
    ours = 1.0 if other < 2 else 2.0
    one = outcome_of(QUICK, Row("case", OURS, "s", (ours,) * 3), Row("case", "other", "s", (other,) * 3))
    assert targets.quicker_than_in_the_table(one) == words
    rate = Target("paths", "a job", "case", 2.0, "M/s", "memory", "the reason", (Reference("other", "other", 1.0),))
    one = outcome_of(rate, Row("case", OURS, "M/s", (2.0,) * 3), Row("case", "other", "M/s", (1.0 / other * 2.0,) * 3))
    assert (targets.quicker_than_in_the_table(one) != []) is (other < 1.8)


def test_an_answer_that_is_too_wrong_is_short():
    target = Target("paths", "a job", "case", 2.0, "s", "memory", "the reason", (), error=1e-3)
    for error, verdict in ((9e-4, "reached"), (1e-3, "short"), (None, "short")):
        assert outcome_of(target, Row("case", OURS, "s", (1.0,), (), error)).verdict == verdict


def test_ratios_of_rates_and_of_processor_time():
    fast, slow = Row("c", OURS, "M/s", (6.0, 8.0, 10.0)), Row("c", "C", "M/s", (3.0, 2.0, 5.0))
    assert times_as_fast(fast, slow) == 2.0
    used = Row("c", OURS, "M/s", (6.0,), (1.0,)), Row("c", "C", "M/s", (3.0,), (1.5,))
    assert times_as_fast(*used) == 1.5  # of the processor, where both are known
    assert times_as_fast(Row("c", OURS, "s", (2.0, 1.0)), Row("c", "x", "s", (5.0, 3.5))) == 3.0


def test_a_package_is_judged_by_its_quickest_way_and_by_steps():
    def way(ours, package, cpu, work=None, status="ok"):
        return {"ours": ours, "package": package, "status": status, "work": work, "rounds": [{"cpu": c} for c in cpu]}

    ways = [
        way(True, None, (4.0, 8.0, 6.0), 400), way(False, "jax", (3.0, 3.0), 100), way(False, "jax", (9.0,), 100),
        way(False, "torch", (1.0,), 100, "failed"),
    ]  # fmt: skip
    peers = {"problems": [{"group": "paths", "name": "Additive noise", "ways": ways}]}
    assert targets.among_peers(peers, "paths", Reference("JAX", "jax", 1.0, problem="additive")) == 2.0
    assert targets.among_peers(peers, "paths", Reference("torch", "torch", 1.0, problem="additive")) is None
    assert targets.among_peers(peers, "networks", Reference("JAX", "jax", 1.0, problem="additive")) is None


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = [Row("a", OURS, "s", (1.0, 2.0), (0.5, 0.25), 1e-3), Row("b", "C", "M/s", (3.0,))]
    _rows.save(tmp_path / "rows.json", rows)
    assert _rows.load(tmp_path / "rows.json") == rows


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Records, page and sections of this test alone: two sections that take no time."""
    calls = []

    def quick(rounds, full):
        calls.append(rounds)
        return [Row(target.case, OURS, "s", (1.0,) * (rounds or 3)) for target in TARGETS if target.part == targets.STARTUP]

    def broken(rounds, full):
        raise RuntimeError("`python x` ended with exit code 3; what it said is above")

    monkeypatch.setattr(targets, "SECTIONS", {**targets.SECTIONS, targets.STARTUP: quick, targets.PATHS: broken})
    monkeypatch.setattr(targets, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(targets, "PEERS", tmp_path / "none")
    monkeypatch.setattr(targets, "PAGE", tmp_path / "page.md")
    targets.PAGE.write_text(f"# Page\n\n{targets.BEGIN}\n{targets.END}\n")
    return calls


def test_a_section_is_measured_kept_and_shown(elsewhere, capsys, tmp_path):
    assert targets.main([targets.STARTUP, "--rounds", "2"]) == 0
    found = targets.read(targets.record_of(tmp_path / "results"))
    assert elsewhere == [2] and list(found["sections"]) == [targets.STARTUP]
    assert {"git_commit", "cpu", "versions", "parameters"} <= set(found["sections"][targets.STARTUP]["provenance"])
    assert "host" not in found["sections"][targets.STARTUP]["provenance"]
    page = targets.PAGE.read_text()
    assert targets.with_tables(page, found) == page and "Not run." in page and "medians of 2 rounds" in page
    assert "not run" in capsys.readouterr().out
    assert targets.main([targets.PATHS]) == 1  # the record stays as it was
    assert "exit code 3" in capsys.readouterr().err and targets.read(targets.record_of(tmp_path / "results")) == found
    targets.PAGE.write_text(f"{targets.BEGIN}\n{targets.END}\n")
    assert targets.main(["--page"]) == 0 and "medians of 2 rounds" in targets.PAGE.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["path"], r"no section 'path'; there are paths"),
        (["start-up", "--rounds", "0"], "--rounds must lie in 1 .. 999: got 0"),
        (["start-up", "--rounds", "many"], "invalid int value: 'many'"),
        (["start-up", "--page"], "run nothing"),
        (["start-up", "--full"], "--full is for the section feng-tu"),
        (["start-up", "--out", "/no/such/folder/x.json"], "the folder of /no/such/folder/x.json does not exist"),
        (["--page"], "cannot be read"),
        (["--nonsense"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_told_before_any_work(elsewhere, capsys, words, said):
    assert targets.main(words) == 2
    assert said in capsys.readouterr().err and not elsewhere


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be read"), ("[]", "schema"), ('{"schema": "fpsolve targets 9"}', "schema")]
)
def test_a_file_that_is_no_record_is_refused(elsewhere, tmp_path, capsys, text, said):
    path = tmp_path / "other.json"
    path.write_text(text)
    assert targets.main([targets.STARTUP, "--out", str(path)]) == 2
    assert said in capsys.readouterr().err and path.read_text() == text and not elsewhere


def test_a_record_of_peers_that_is_none_is_refused(elsewhere, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    targets.record_of(tmp_path / "none").write_text(json.dumps({"schema": "else"}))
    assert targets.main([targets.STARTUP]) == 2
    assert "is not a record of the peers" in capsys.readouterr().err and not elsewhere


def test_small_problems_of_the_peers_judge_nothing(tmp_path):
    origin = {"created": "2026-01-01", "parameters": {"quick": True, "load_average_before": [1.0], "load_average_after": [2.0]}}
    path = tmp_path / "peers.json"
    path.write_text(json.dumps({"provenance": origin, "problems": []}))
    found = targets.from_peers(path)
    assert found is not None and found["ratios"] == {}
    assert "had small problems only" in targets.markdown({"sections": {}, "peers": found})
    origin["parameters"]["quick"] = False
    path.write_text(json.dumps({"provenance": origin, "problems": []}))
    found = targets.from_peers(path)
    assert found is not None and set(found["ratios"].values()) == {None}
    assert "both sides ran in turn" in targets.markdown({"sections": {}, "peers": found})


def test_a_page_without_a_place_is_refused(record):
    with pytest.raises(ValueError, match="once each"):
        targets.with_tables("# Page\n", record)


@pytest.mark.parametrize("words", [["0"], ["1000"], ["-1"], ["two"], ["2", "3"]])
def test_scripts_refuse_a_wrong_number_of_rounds(words, capsys):
    with pytest.raises(SystemExit) as stop:
        _rows.arguments("A script.", 3).parse_args(words)
    assert stop.value.code == 2 and "usage" in capsys.readouterr().err


# ---- what networks are compared with ----------------------------------------------------------------------------------------


def images(n, seed=0):
    """Random numbers of the shape of MNIST."""
    rng = np.random.default_rng(seed)
    return rng.random((n, 784)) * (rng.random((n, 784)) < 0.2), rng.integers(0, 10, n)


def test_gradients_written_by_hand_are_differences_of_the_loss():
    """In extended precision: central differences with 1e-6 err by their own 1e-12 as long as no relu changes side."""
    x, y = images(7)
    parts = {name: a.astype(np.longdouble) for name, a in networks.MLP.unpack(networks.MLP.init(1)).items()}

    def loss():
        a = x.astype(np.longdouble)
        for k in (1, 2, 3):
            a = a @ parts[f"W{k}"] + parts[f"b{k}"]
            a = np.maximum(a, 0) if k < 3 else a
        return np.mean(np.log(np.exp(a).sum(1)) - a[np.arange(len(y)), y])

    gradients, rng, h = networks.by_hand(parts, x.astype(np.longdouble), y), np.random.default_rng(2), np.longdouble(1e-6)
    for name, array in parts.items():
        for i in rng.choice(array.size, 3, replace=False):
            place = np.unravel_index(i, array.shape)
            kept, ends = array[place], []
            for sign in (1, -1):
                array[place] = kept + sign * h
                ends.append(loss())
            array[place] = kept
            assert abs((ends[0] - ends[1]) / (2 * h) - gradients[name][place]) < 1e-9


def test_the_references_of_covariance_and_curvature():
    """Gradients of samples are those of batches of one; columns of the Hessian of W2 alone are symmetric among themselves."""
    from peers import networks as peers

    x, y = images(6)
    theta, some = networks.MLP.init(3), np.array([0, 777, 1203, 2499])
    rows = peers.per_sample(theta, x, y, some)
    where = networks.MLP.blocks["W2"]
    for i in range(len(x)):
        exact = peers.gradient(theta, x[i : i + 1], y[i : i + 1])[where][some]
        assert rows[i] == pytest.approx(exact, rel=1e-12, abs=1e-15)
    H = np.stack([peers.along(theta, x, y, peers.unit(theta.size, where.start + i))[where.start + some] for i in some])
    assert H == pytest.approx(H.T, abs=1e-7 * np.abs(H).max())


def test_a_kink_within_the_step_is_no_curvature():
    """Biases at which a unit of the first sample is just on: products with the Hessian are those beside the kink."""
    from peers import networks as peers

    x, y = images(6)
    theta, b1, v = networks.MLP.init(3), networks.MLP.blocks["b1"], np.random.default_rng(0).standard_normal(networks.MLP.dim)
    theta[b1.start] -= (x[0] @ networks.MLP.unpack(theta)["W1"] + networks.MLP.unpack(theta)["b1"])[0] - 1e-12
    at_kink = peers.along(theta, x, y, v)
    theta[b1.start] += 1e-4
    beside = peers.along(theta, x, y, v)
    assert np.abs(at_kink - beside).max() < 1e-2 * np.abs(beside).max()  # differences across the kink: 5e4


@pytest.mark.parametrize(("precision", "rtol"), [("double", 1e-13), ("single", 1e-5)])
def test_every_way_of_training_takes_the_same_batches(precision, rtol):
    """Two epochs of three batches; `nets.train` beside the steps written out."""
    x, y = images(160)
    job = networks.Training(nets.Data(x, y, x[:5], y[:5], "random", n_classes=10), precision)
    ours, plain = job.ours(6), job.by_numpy(6)()
    assert ours.dtype == plain.dtype and ours.shape == (6, 2500)
    assert ours == pytest.approx(plain, rel=rtol, abs=rtol)
    assert sorted(job.batches(3).ravel()) == sorted(set(job.batches(3).ravel()))
