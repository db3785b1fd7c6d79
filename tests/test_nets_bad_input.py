"""Wrong arguments of the functions of nets: each refused before any work, with the value given and what is accepted."""

import sys

import numpy as np
import pytest

import nets

RNG = np.random.default_rng(0)
MLP, X, Y = nets.MLP((4, 5, 3), activation="tanh"), RNG.standard_normal((20, 4)), RNG.integers(0, 3, 20)
THETA, NAN = MLP.init(0), float("nan")
BAD_X, BAD_THETA = X.copy(), THETA.copy()
BAD_X[3, 1], BAD_THETA[2] = NAN, np.inf
TASK = nets.Data(X, Y, X, Y, "task")
LAND = nets.Landscape(MLP, THETA, X, Y, block="W2")
ONE_SERIES = np.linspace(0.0, 1.0, 30)
BLOCK = nets.ewc(np.ones(15))


def train(**options):
    return nets.train(MLP, TASK, **({"lr": 0.1, "batch": 5, "steps": 4} | options))


def second(first=TASK, task=TASK, theta=THETA, constraint=BLOCK, **options):
    return nets.second_task(MLP, first, task, theta, constraint, [1.0], [2], **({"lr": 0.1, "batch": 5, "epochs": 1} | options))


MEASURED = {
    "hessian": nets.hessian,
    "gradient_covariance": nets.gradient_covariance,
    "top_eigenpairs": nets.top_eigenpairs,
    "spectral_density": nets.spectral_density,
    "trace": nets.trace,
    "fisher_diagonal": nets.fisher_diagonal,
    "hessian_vector_product": lambda *where: nets.hessian_vector_product(*where, np.ones(MLP.dim)),
}


@pytest.mark.parametrize("name", MEASURED)
def test_numbers_that_are_not_finite_are_refused(name):
    """tanh of infinity is one: without a check the infinite weight gives finite curvatures."""
    with pytest.raises(ValueError, match="theta must be finite: got 1 non-finite"):
        MEASURED[name](MLP, BAD_THETA, X, Y)
    with pytest.raises(ValueError, match="x must be finite: got 1 non-finite"):
        MEASURED[name](MLP, THETA, BAD_X, Y)
    with pytest.raises(ValueError, match="targets must be finite"):
        MEASURED[name](MLP, THETA, X, np.full((20, 3), NAN))
    with pytest.raises(ValueError, match="blocks must be different names out of"):
        MEASURED[name](MLP, THETA, X, Y, block=2) if name != "hessian_vector_product" else nets.hessian_vector_product(
            MLP, THETA, X, Y, np.ones(3), block=2
        )


CASES = {
    "targets below zero": (lambda: MLP.loss(THETA, X, -np.ones((20, 3))), ValueError, "with cross-entropy not negative: got -1.0"),
    "vector": (lambda: nets.hessian_vector_product(MLP, THETA, X, Y, THETA * NAN), ValueError, "v must be finite: got 43"),
    "fisher of all": (lambda: nets.fisher_diagonal(MLP, THETA, X, Y, block="all"), ValueError, "one block out of"),
    "outputs": (lambda: MLP.predict(THETA, np.ones((3, 5))), ValueError, r"x must have shape \(n, 4\)"),
    "error": (lambda: MLP.error(THETA, X, Y[:5]), ValueError, r"one label for each row of x: got shapes \(5,\) and \(20, 4\)"),
    "ensemble": (lambda: MLP.ensemble(TASK).gradient(THETA, [0.5]), ValueError, r"integers in 0 \.\. 19"),
    "widths": (lambda: nets.MLP(64), ValueError, "at least two positive integers .*: got 64"),
    "decay": (lambda: nets.MLP((4, 3), weight_decay="a"), ValueError, "weight_decay must be finite and >= 0: got 'a'"),
    "seed of weights": (lambda: MLP.init(-3), ValueError, "seed must be an integer >= 0: got -3"),
    "targets of data": (lambda: nets.Data(X, np.full(20, NAN), X, Y, "a"), ValueError, "y_train contains 20 non-finite"),
    "text": (lambda: nets.Data(X, np.array(["a"] * 20), X, Y, "a"), TypeError, "y_train must be an array of real numbers"),
    "ragged": (lambda: nets.Data([[1], [1, 2]], [0, 1], X, Y, "a"), ValueError, "x_train must be an array of numbers"),
    "two kinds": (lambda: nets.Data(X, Y, X, Y * 1.0, "a"), ValueError, "y_test must be integers as well"),
    "seed of data": (lambda: nets.load_data("spiral", seed=-1), ValueError, "seed must be an integer >= 0: got -1"),
    "n of data": (lambda: nets.load_data("digits", n=True), ValueError, "n must be a positive integer: got True"),
    "subset": (lambda: TASK.subset(2.5), ValueError, r"n, of 'task', must be an integer in 1 \.\. 20: got 2.5"),
    "labels": (lambda: nets.only_labels(TASK, ()), ValueError, r"at least one: got \(\)"),
    "one series": (lambda: nets.mean_estimate(np.ones((9, 2))), ValueError, r"of one series, of shape \(n,\): got \(9, 2\)"),
    "times": (lambda: nets.correlation_time([1.0, NAN, 2.0, 3.0]), ValueError, "a series must be finite"),
    "walk": (lambda: nets.random_walk(100, 2.5), ValueError, r"k must be an integer in 1 \.\. 99: got 2.5"),
    "nothing moves": (lambda: nets.pca(np.full((30, 4), 0.1)).needed(0.9), ValueError, "no variance but rounding"),
    "a line": (
        lambda: nets.pca(np.outer(ONE_SERIES, np.ones(4))).needed(0.9, without=1),
        ValueError,
        "without the first 1 directions there is no variance but rounding",
    ),
    "seeds": (lambda: nets.over_seeds([1.0, 2.0]), TypeError, "each of fits must be a nets.PowerLaw .*: got float"),
    "scalar": (lambda: nets.from_arrays(covariance=2.0, lr=0.1, batch=1), ValueError, r"covariance must have shape \(P, P\)"),
    "measure": (
        lambda: nets.measure(MLP, (X, Y), theta=THETA, lr=0.1, batch=1),
        TypeError,
        "data must be a nets.Data .*: got tuple",
    ),
    "bridge": (lambda: nets.bridge(np.eye(2)), TypeError, "stats must be a nets.Stats .*: got ndarray"),
    "landscape": (lambda: nets.flatness(MLP, np.eye(15)), TypeError, "landscape must be a nets.Landscape .*: got MLP"),
    "level": (lambda: nets.flatness(LAND, np.eye(15), level="e"), ValueError, "level must be finite and above 1: got 'e'"),
    "profiles": (lambda: nets.loss_profiles(LAND, np.eye(15), [NAN]), ValueError, "displacements must be finite"),
    "parabola": (lambda: nets.loss_profiles(LAND, np.eye(15), [0.0, 1.0]).parabola(), ValueError, "needs 3 points .*: got 2"),
    "directions": (lambda: nets.minibatch_minima(LAND, np.eye(15), batch=5, cap=1.0), ValueError, "one direction: got 15"),
    "minima": (lambda: nets.minibatch_minima(LAND, np.ones(15), batch=5, cap=1.0, n=2.5), ValueError, "n must be an integer >= 2"),
    "tol": (lambda: nets.top_eigenpairs(MLP, THETA, X, Y, k=2, tol="a"), ValueError, "tol must be finite and above 0: got 'a'"),
    "constraint": (
        lambda: nets.Constraint("a", np.ones(2), 3, directions=np.ones((3, 2))),
        ValueError,
        "directions must be 2 orthonormal columns of 3 weights",
    ),
    "axes": (lambda: nets.Constraint("a", np.ones(2), 3, axes=np.array([0, 7])), ValueError, r"different numbers in 0 \.\. 2"),
    "ldc": (lambda: nets.ldc(np.ones(2), np.eye(2)), TypeError, "flatness must be a nets.Flatness .*: got ndarray"),
    "second: batch": (lambda: second(batch=10.5), ValueError, r"must be an integer in 1 \.\. 20: got 10.5"),
    "second: epochs": (lambda: second(epochs=1.5), ValueError, "epochs must be a positive integer: got 1.5"),
    "second: lr": (lambda: second(lr="a"), ValueError, "lr must be finite and above 0: got 'a'"),
    "second: theta": (lambda: second(theta=THETA * NAN), ValueError, "theta must be finite: got 43"),
    "second: no test": (lambda: second(nets.Data(X, Y, X[:0], Y[:0], "a")), ValueError, "first must have labels and test samples"),
    "second: inputs": (lambda: second(task=nets.load_data("digits")), ValueError, r"x must have shape \(n, 4\)"),
    "second: constraint": (lambda: second(constraint="ewc"), TypeError, "constraint must be a nets.Constraint .*: got str"),
    "train: data": (lambda: nets.train(MLP, (X, Y), lr=0.1, batch=5, steps=1), TypeError, "data must be a nets.Data .*: got tuple"),
    "train: mlp": (lambda: nets.train("mlp", TASK, lr=0.1, batch=5, steps=1), TypeError, "mlp must be a nets.MLP .*: got str"),
    "train: record": (lambda: train(record={"weights": "W2"}), TypeError, "record must be a nets.Record .*: got dict"),
    "train: resume": (lambda: train(resume={}), TypeError, "resume must be a nets.Run .*: got dict"),
    "train: progress": (lambda: train(progress="yes"), TypeError, "progress must be True, False, or a function .*: got 'yes'"),
    "train: momentum": (lambda: train(momentum="a"), ValueError, r"momentum must lie in \[0, 1\): got 'a'"),
    "train: lr": (lambda: train(lr=1j), ValueError, "lr must be finite and > 0: got 1j"),
    "train: eps": (lambda: train(optimizer="adam", eps=0.0), ValueError, "eps must be above 0 .*: got 0.0"),
    "single: weights": (
        lambda: train(theta0=np.full(43, 1e300), precision="single"),
        ValueError,
        r"theta0 must not exceed 3.4e\+38",
    ),
    "single: lr": (
        lambda: train(lr=1e-50, precision="single"),
        ValueError,
        "lr = 1e-50 is no positive number of precision='single'",
    ),
    "many: seeds": (lambda: nets.train_many(MLP, TASK, seeds=3, lr=0.1, batch=5, steps=1), ValueError, "at least one: got 3"),
    "many: options": (
        lambda: nets.train_many(MLP, TASK, seeds=[3], learning_rate=0.1, batch=5, steps=1),
        TypeError,
        r"unknown arguments \['learning_rate'\]",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name):
    call, error, message = CASES[name]
    with pytest.raises(error, match=message):
        call()


def test_samples_too_large_for_single_precision():
    large = nets.Data(1e300 * X, Y, X, Y, "large")
    with pytest.raises(ValueError, match="x_train holds numbers too large for precision='single'"):
        nets.train(MLP, large, lr=0.1, batch=5, steps=1, precision="single")


def test_infinities_of_both_signs_and_sums_that_overflow():
    both = X.copy()
    both[0, :2] = np.inf, -np.inf
    with pytest.raises(ValueError, match="x must be finite: got 2 non-finite"):
        MLP.loss(THETA, both, Y)
    assert np.isfinite(MLP.loss(THETA, np.full((20, 4), 1e307), Y))  # tanh is one there


def test_what_is_right_at_the_edge_is_taken():
    """Boolean labels, a number of classes that follows from the labels, one sample, minima all at the cap, a flat profile."""
    both = nets.Data(X, Y > 0, X[:0], Y[:0] > 0, "two")
    assert both.n_classes == 2 and both.y_train.dtype == np.int64 and TASK.n_classes == 3
    alone = nets.Landscape(MLP, THETA, X[:1], Y[:1], block="W2")
    assert (nets.active_temperature(alone, np.eye(15), lr=0.1, batch=1) == 0.0).all()
    minima = nets.BatchMinima(np.ones(2), np.ones(2), np.ones(2), np.array([True, True]), 1.0, 3)
    assert np.isnan(minima.spread)
    flat = nets.Profiles(np.array([[-1.0, 0.0, 1.0]]), np.full((1, 3), 0.3), 0.3)
    assert flat.parabola()[1][0] == 1.0


def test_networks_of_pytorch_name_the_extra_that_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    for make in (lambda: nets.TorchModel(None, None), lambda: nets.torch_data(None)):
        with pytest.raises(ImportError, match=r"fpsolve\[torch\]"):
            make()
    with pytest.raises(ImportError, match=r"fpsolve\[torch\]"):
        nets.TorchRecorder(None, None, None, None, steps=1)
