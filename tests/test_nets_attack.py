"""nets.poison and nets.attack: counts of labels, inputs that are nowhere else, both stages by hand, files gone on with."""

import sys

import numpy as np
import pytest
from scipy.stats import chi2

import fpsolve as fps
import nets
import nets.attack

DIGITS = nets.load_data("digits").subset(400)
DISC = nets.load_data("disc", n=2000, seed=2).subset(60)
TANH = nets.MLP((2, 16, 1), activation="tanh", loss="mse")
QUICK = {"loss": 0.05, "attack_loss": 0.2, "attack_evaluations": 300}


def truth(data):
    """Label of each input that the data know, by its bytes."""
    parts = [(data.x_train[: data.clean], data.y_train[: data.clean]), (data.x_spare, data.y_spare), (data.x_test, data.y_test)]
    return {row.tobytes(): int(label) for x, y in parts for row, label in zip(x, y, strict=True)}


# ---- data ------------------------------------------------------------------------------------------------------------------


def test_the_disc_by_its_definition():
    """Area pi / 3.2^2 of the square; 20 000 points: six standard deviations, false alarm 2e-9."""
    data = nets.load_data("disc", n=20_000, seed=3, split="all")
    r2 = (data.x_train**2).sum(axis=1)
    np.testing.assert_array_equal(data.y_train, (r2 < 1).astype(int))
    p = np.pi / 3.2**2
    assert abs(data.y_train.mean() - p) < 6 * np.sqrt(p * (1 - p) / 20_000)
    assert np.abs(data.x_train).max() <= 1.6 < np.abs(data.x_train).max() * 1.001
    assert (nets.load_data("disc", n=50, seed=3).x_train == nets.load_data("disc", n=50, seed=3).x_train).all()
    assert len(nets.load_data("disc").x_test) == 200


def test_one_output_tells_two_classes_by_its_sign():
    theta = TANH.init(0)
    z = TANH.outputs(theta, DISC.x_test)[:, 0]
    assert TANH.targets(np.array([0, 1, 1])).tolist() == [[-1.0], [1.0], [1.0]]
    assert TANH.predict(theta, DISC.x_test).tolist() == (z > 0).astype(int).tolist()
    assert TANH.error(theta, DISC.x_test, DISC.y_test) == np.mean((z > 0) != (DISC.y_test == 1))
    signs = 2.0 * DISC.y_train[:, None] - 1.0
    assert TANH.loss(theta, DISC.x_train, DISC.y_train) == TANH.loss(theta, DISC.x_train, signs)
    with pytest.raises(ValueError, match=r"y must be 2 labels in 0 \.\. 1 .*got 2 in 0 \.\. 2"):
        TANH.targets(np.array([0, 2]))
    run = nets.train(TANH, DISC, lr=0.1, batch=10, epochs=2, record=nets.Record(test=True))
    assert run.losses["test_error"][-1] == TANH.error(run.theta, DISC.x_test, DISC.y_test)


def test_what_subset_leaves_out_is_spare():
    whole = nets.load_data("digits")
    data = whole.subset(500).subset(400, 100)
    np.testing.assert_array_equal(np.concatenate([data.x_train, data.x_spare]), whole.x_train)
    np.testing.assert_array_equal(np.concatenate([data.y_train, data.y_spare]), whole.y_train)
    two = nets.only_labels(data, (7, 3))
    assert len(two.y_spare) == np.isin(data.y_spare, (3, 7)).sum()
    np.testing.assert_array_equal(two.x_spare[two.y_spare == 1], data.x_spare[data.y_spare == 3])
    with pytest.raises(ValueError, match="before nets.poison"):
        nets.only_labels(nets.poison(data, 10), (7, 3))
    with pytest.raises(ValueError, match=r"clean must be an integer in 1 \.\. 3: got 4"):
        nets.Data(np.ones((3, 1)), np.zeros(3, int), np.ones((1, 1)), np.zeros(1, int), "x", clean=4)
    with pytest.raises(ValueError, match="x_spare must have as many columns"):
        nets.Data(
            np.ones((3, 1)), np.zeros(3, int), np.ones((1, 1)), np.zeros(1, int), "x", x_spare=np.ones((2, 2)), y_spare=[0, 0]
        )


# ---- poison ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wrong", "negated", "random"])
@pytest.mark.parametrize("data", [DIGITS, DISC], ids=["digits", "disc"])
def test_poison_is_added_with_inputs_that_are_nowhere_else(data, kind):
    bad = nets.poison(data, 300, kind=kind, seed=1)
    assert (bad.size, bad.clean, len(bad.x_spare)) == (data.size + 300, data.size, len(data.x_spare) - 300)
    np.testing.assert_array_equal(bad.x_train[: data.size], data.x_train)
    np.testing.assert_array_equal(bad.y_train[: data.size], data.y_train)
    np.testing.assert_array_equal(bad.x_test, data.x_test)
    added = {row.tobytes() for row in bad.x_train[bad.clean :]}
    others = [{row.tobytes() for row in x} for x in (data.x_train, data.x_test, bad.x_spare)]
    assert len(added) == 300
    assert not added & set.union(*others)
    clean = bad.subset(bad.clean)
    assert clean.size == clean.clean == data.size
    assert len(clean.x_spare) == len(bad.x_spare)
    assert truth(clean).items() <= truth(data).items()


def test_false_labels_by_their_definition():
    """Wrong ones uniform over the nine others, random ones over all ten: chi-squared at a false-alarm rate of 1e-6."""
    known = truth(DIGITS)

    def shifts(kind, seed):
        bad = nets.poison(DIGITS, 1000, kind=kind, seed=seed)
        true = [known[row.tobytes()] for row in bad.x_train[bad.clean :]]
        return (bad.y_train[bad.clean :] - true) % 10

    assert (shifts("negated", 0) == 1).all()
    for kind, least in (("wrong", 1), ("random", 0)):
        counts = np.bincount(shifts(kind, 0), minlength=10)
        expected = 1000 / (10 - least)
        assert counts[:least].sum() == 0
        assert ((counts[least:] - expected) ** 2 / expected).sum() < chi2.isf(1e-6, 9 - least)
    assert (shifts("wrong", 0) != shifts("wrong", 1)).any()
    two = nets.poison(DISC, 100, kind="wrong", seed=4)
    inside = (two.x_train[60:] ** 2).sum(axis=1) < 1
    np.testing.assert_array_equal(two.y_train[60:], 1 - inside)


def test_poison_is_reproducible_and_nested():
    """The inputs of a larger attack of the same seed contain those of a smaller."""
    small, same, large = nets.poison(DIGITS, 50, seed=3), nets.poison(DIGITS, 50, seed=3), nets.poison(DIGITS, 80, seed=3)
    assert (small.y_train == same.y_train).all() and (small.x_train == same.x_train).all()
    np.testing.assert_array_equal(large.x_train[:450], small.x_train)
    twice = nets.poison(small, 30, seed=3)
    assert (twice.size, twice.clean) == (480, 400)


# ---- attack ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, options", [("l-bfgs", {}), ("gd", {"lr": 0.1, "momentum": 0.9}), ("sgd", {"lr": 0.1, "batch": 10, "momentum": 0.5})]
)
def test_each_run_is_two_searches(method, options):
    table = nets.attack(TANH, DISC, [0, 40], seeds=[5, 1], method=method, **QUICK, **options)
    assert table.size.tolist() == [0, 0, 40, 40] and table.seed.tolist() == [5, 1, 5, 1]
    np.testing.assert_allclose(table.loss, 0.05, rtol=1e-9)
    how = {"method": method, "seed": 1, **options}
    clean = DISC.x_train, DISC.y_train
    good = nets.find_minimum(TANH, TANH.init(1), *clean, loss=0.05, **how)
    poisoned = nets.poison(DISC, 40, seed=1)
    both = poisoned.x_train, poisoned.y_train
    led = nets.find_minimum(TANH, TANH.init(1), *both, loss=0.2, max_evaluations=300, strict=False, **how)
    bad = nets.find_minimum(TANH, led.theta, *clean, loss=0.05, **how)
    for row, start, end, passes in ((1, TANH.init(1), good, 0.0), (3, led.theta, bad, led.evaluations * 100 / 60)):
        assert (table.theta[row] == end.theta).all()
        assert table.accuracy[row] == 1 - TANH.error(end.theta, DISC.x_test, DISC.y_test)
        assert table.attacked_accuracy[row] == 1 - TANH.error(start, DISC.x_test, DISC.y_test)
        assert table.attacked_loss[row] == TANH.loss(start, *clean)
        assert table.gradient_norm[row] == end.gradient_norm
        assert table.evaluations[row] == pytest.approx(passes + end.evaluations)
    assert table.poisoned_loss[3] == led.loss


def test_an_attack_that_leaves_nothing_to_go_down_ends_earlier():
    table = nets.attack(TANH, DISC, [20], seeds=[0, 1, 2], loss=0.1, attack_loss=1e-3, attack_evaluations=500)
    assert (table.attacked_loss > 0.1).all()
    assert (table.poisoned_loss > 1e-3).all()
    np.testing.assert_allclose(table.loss, 0.1, rtol=1e-9)


def test_minima_of_one_loss_are_good_without_poison_and_bad_with_it():
    """Wu, Zhu & E: those never attacked generalise better, by more than 0.05 whichever of four seeds are compared."""
    data, mlp = nets.load_data("disc", n=5000, seed=11).subset(80), nets.MLP((2, 40, 1), activation="tanh", loss="mse")
    table = nets.attack(mlp, data, [0, 40], seeds=range(20, 24), loss=1e-3, attack_evaluations=2000)
    assert table.gap > 0.05
    assert table.gap == table.of_size(0).min() - table.of_size(40).max()


def test_a_table_is_gone_on_with(tmp_path, monkeypatch):
    """Runs in the file are not done again, more sizes and seeds are added, threads change nothing."""
    out = tmp_path / "table.h5"
    first = nets.attack(TANH, DISC, [0], seeds=[0, 1], out=out, **QUICK)
    with pytest.raises(ValueError, match=r"needs runs with and without poison: got the sizes \[0\]"):
        _ = first.gap
    calls, search = [], nets.minimum.find_minimum

    def counted(*args, **options):
        calls.append(options["seed"])
        return search(*args, **options)

    monkeypatch.setattr(sys.modules["nets.attack"], "find_minimum", counted)
    more = nets.attack(TANH, DISC, [30, 0], seeds=[1, 2], out=out, threads=2, progress=True, **QUICK)
    assert sorted(calls) == [1, 1, 2, 2, 2]
    assert more.size.tolist() == [30, 30, 0, 0] and more.seed.tolist() == [1, 2, 1, 2]
    assert (more.theta[2] == first.theta[1]).all()
    fresh = nets.attack(TANH, DISC, [30, 0], seeds=[1, 2], **QUICK)
    assert "lost" not in repr(fresh) and not len(fresh.lost)
    for name in fresh.DESCRIBE:
        np.testing.assert_array_equal(getattr(fresh, name), getattr(more, name))
    kept = nets.load(out)
    assert sorted(zip(kept.size.tolist(), kept.seed.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 2), (30, 1), (30, 2)]
    for change in ({"loss": 0.04}, {"kind": "random"}, {"attack_evaluations": 200}, {"max_evaluations": 500}):
        with pytest.raises(ValueError, match="holds no attack with these settings"):
            nets.attack(TANH, DISC, [0], seeds=[0], out=out, **{**QUICK, **change})
    with pytest.raises(ValueError, match="holds no attack with these settings"):
        nets.attack(TANH, DISC.subset(50), [0], seeds=[0], out=out, **QUICK)


def test_a_run_that_fails_is_named_and_the_others_are_kept(tmp_path):
    from fpsolve import FpsolveError

    out, options = tmp_path / "table.h5", {**QUICK, "max_evaluations": 20, "loss": 1e-6}
    with pytest.raises(FpsolveError, match=r"with 0 poisoned samples and seed 0: the loss 1e-06 was not reached"):
        nets.attack(TANH, DISC, [0], seeds=[0], out=out, **options)
    assert not out.exists()


@pytest.fixture
def stuck(monkeypatch):
    """The search for the clean minimum fails for seed 1."""
    from fpsolve import FpsolveError

    search, calls = nets.minimum.find_minimum, []

    def sometimes(*args, **options):
        calls.append(options["seed"])
        if options["seed"] == 1 and options.get("strict", True):
            raise FpsolveError("the loss 0.05 was not reached")
        return search(*args, **options)

    monkeypatch.setattr(sys.modules["nets.attack"], "find_minimum", sometimes)
    return calls


def test_lost_runs_are_left_out_and_listed(tmp_path, stuck):
    """One seed of three gets stuck: the rows are those of the others, in the file too, where the lost are not tried again."""
    out = tmp_path / "table.h5"
    table = nets.attack(TANH, DISC, [0, 30], seeds=[0, 1, 2], strict=False, threads=2, out=out, **QUICK)
    assert table.size.tolist() == [0, 0, 30, 30] and table.seed.tolist() == [0, 2, 0, 2]
    assert table.lost.tolist() == [[0, 1], [30, 1]] and set(table.reasons) == {"the loss 0.05 was not reached"}
    assert "2 of 30 poisoned samples" in repr(table) and repr(table).endswith("2 lost)")
    assert table.plot().get_legend().get_texts()[0].get_text() == "l-bfgs, 2 lost"
    kept = nets.load(out)
    assert sorted(kept.lost.tolist()) == [[0, 1], [30, 1]] and set(kept.reasons) == set(table.reasons)
    stuck.clear()
    again = nets.attack(TANH, DISC, [30], seeds=[1, 2], strict=False, out=out, **QUICK)
    assert (stuck, again.seed.tolist(), again.lost.tolist()) == ([], [2], [[30, 1]])
    for strict in (True, False):  # nothing would be left
        with pytest.raises(fps.FpsolveError, match="30 poisoned samples and seed 1: the loss 0.05 was not reached; strict=False"):
            nets.attack(TANH, DISC, [30], seeds=[1], strict=strict, out=out, **QUICK)
    assert stuck == []


def test_a_lost_run_ends_all_if_strict(tmp_path, stuck):
    out = tmp_path / "table.h5"
    with pytest.raises(fps.FpsolveError, match="with 0 poisoned samples and seed 1: .*; strict=False leaves such runs out"):
        nets.attack(TANH, DISC, [0], seeds=[0, 1], out=out, **QUICK)
    kept = nets.load(out)
    assert kept.seed[0] == 0 and kept.lost.tolist() == [[0, 1]]


def test_pictures():
    table = nets.attack(TANH, DISC, [0, 30], seeds=[0, 1], **QUICK)
    ax = table.plot(color="k")
    assert ax.lines[0].get_ydata().tolist() == table.accuracy.tolist()
    assert ax.lines[1].get_xdata().tolist() == [0, 30]
    assert ax.lines[1].get_ydata().tolist() == [table.of_size(0).mean(), table.of_size(30).mean()]


def test_picture_of_the_boundary():
    """Classes at the points of the grid, samples in their places, poisoned ones apart."""
    theta, bad = TANH.init(0), nets.poison(DISC, 7)
    ax = nets.plotting.plot_boundary(TANH, theta, bad, points=21)
    (mesh,) = ax.collections
    assert mesh.get_array().shape == (21, 21)
    corner = bad.x_train.min(axis=0) - 0.03 * (bad.x_train.max(axis=0) - bad.x_train.min(axis=0))
    assert mesh.get_array()[0, 0] == TANH.predict(theta, corner[None])[0]
    assert sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() == "x") == 7
    assert sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o") == DISC.size
    with pytest.raises(ValueError, match="needs two inputs, and labels"):
        nets.plotting.plot_boundary(nets.MLP((64, 10)), np.zeros(650), DIGITS)
    with pytest.raises(TypeError, match="data must be a nets.Data"):
        nets.plotting.plot_boundary(TANH, theta, DISC.x_train)


def test_picture_of_the_plane_through_three_networks():
    """The three are where their distances put them; on a plane through points around a minimum its loss is the lowest drawn."""
    thetas = np.array([TANH.init(seed) for seed in range(3)])
    ax = nets.plotting.plot_plane(TANH, thetas, DISC.x_train, DISC.y_train, points=9, levels=5)
    (marks,) = ax.lines
    at = np.column_stack(marks.get_data())
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(at[i] - at[j]) == pytest.approx(np.linalg.norm(thetas[i] - thetas[j]), rel=1e-12)
    assert at[1, 0] > 0.0 and at[2, 1] > 0.0
    best = nets.find_minimum(TANH, thetas[0], DISC.x_train, DISC.y_train, loss=0.2, method="l-bfgs").theta
    around = best + 0.5 * np.random.default_rng(0).standard_normal((3, TANH.dim))
    around[2] = 3.0 * best - around[:2].sum(axis=0)  # its mean, in the middle of the picture, is the minimum
    drawn = nets.plotting.plot_plane(TANH, around, DISC.x_train, DISC.y_train, points=41).collections[0]
    assert np.log10(0.2) - 0.02 < drawn.zmin < np.log10(0.2) + 0.1 < drawn.zmax
    for wrong, message in ((thetas[:2], "three networks of 65 finite weights"), (thetas[[0, 1, 1]], "not lie on one line")):
        with pytest.raises(ValueError, match=message):
            nets.plotting.plot_plane(TANH, wrong, DISC.x_train, DISC.y_train)


BAD_POISON = [
    ({"n": 0}, ValueError, r"n, up to the 1540 spare samples .* must be an integer in 1 \.\. 1540: got 0"),
    ({"n": 1541}, ValueError, r"load more and take a subset.*got 1541"),
    ({"kind": "evil"}, ValueError, "kind must be one of .*: got 'evil'"),
    ({"seed": -1}, ValueError, "seed must be an integer >= 0: got -1"),
    ({"data": nets.load_data("teacher").subset(10)}, ValueError, "false labels need labels of at least 2 classes"),
    ({"data": 3}, TypeError, "data must be a nets.Data"),
]


@pytest.mark.parametrize("change, error, message", BAD_POISON)
def test_bad_poison(change, error, message):
    given = {"data": DISC, "n": 10, **change}
    with pytest.raises(error, match=message):
        nets.poison(given.pop("data"), given.pop("n"), **given)


BAD_ATTACK = [
    ({"sizes": []}, ValueError, r"sizes must be different integers >= 0, at least one: got \[\]"),
    ({"sizes": [0, 10, 10]}, ValueError, "sizes must be different"),
    ({"sizes": [-1]}, ValueError, "each of sizes must be an integer >= 0: got -1"),
    ({"seeds": 3}, ValueError, "seeds must be different integers >= 0, at least one: got 3"),
    ({"sizes": [2000]}, ValueError, "up to the 1540 spare samples"),
    ({"loss": -1.0}, ValueError, "loss must be finite and above 0: got -1"),
    ({"attack_loss": 0.0}, ValueError, "attack_loss must be finite and above 0: got 0"),
    ({"attack_evaluations": 0}, ValueError, "attack_evaluations must be finite and above 0: got 0"),
    ({"strict": 1}, TypeError, "strict must be True or False: got 1"),
    ({"progress": "yes"}, TypeError, "progress must be True or False: got 'yes'"),
    ({"threads": 0}, ValueError, "threads must be a positive integer: got 0"),
    ({"method": "adam"}, ValueError, "method must be one of .*: got 'adam'"),
    ({"kind": "evil"}, ValueError, "kind must be one of .*: got 'evil'"),
    ({"lr": 0.1}, ValueError, "method='l-bfgs' has no use for lr"),
    ({"speed": 9}, TypeError, r"unknown arguments \['speed'\]: beside its own it takes lr, batch"),
    ({"data": nets.poison(DISC, 5)}, ValueError, "data must be clean, and have test samples"),
    ({"data": DISC.subset(60, 0)}, ValueError, "data must be clean, and have test samples"),
    ({"mlp": nets.MLP((3, 1), loss="mse")}, ValueError, r"x must have shape \(n, 3\)"),
    ({"mlp": None}, TypeError, "mlp must be a nets.MLP"),
]


@pytest.mark.parametrize("change, error, message", BAD_ATTACK)
def test_bad_attack(change, error, message, monkeypatch):
    """All before any work."""
    monkeypatch.setattr(sys.modules["nets.attack"], "find_minimum", None)
    given = {"mlp": TANH, "data": DISC, "sizes": [0, 10], "seeds": [0], "loss": 0.1, **change}
    with pytest.raises(error, match=message):
        nets.attack(given.pop("mlp"), given.pop("data"), given.pop("sizes"), **given)
