"""Unusable arguments of the paths engine are refused before any work, in words that say what to do."""

import numpy as np
import pytest

import fpsolve as fps

WELL = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.2))
SIDE = fps.Region.halfspace([1.0], 1.0)
CHAIN = fps.SGDChain.gaussian(fps.potentials.double_well(), fps.Noise.isotropic(0.2), 0.1)


def simulate(process=WELL, x0=(-1.0,), **more):
    return fps.simulate(process, x0, **{"t": 1.0, "dt": 0.01, "n": 4, "seed": 1, **more})


def escape(**more):
    return fps.escape_times(WELL, [-1.0], SIDE, **{"n": 4, "dt": 0.01, "seed": 1, **more})


@pytest.mark.parametrize("call, kind, words", [
    (lambda: simulate(n=10**13), ValueError, "10000000000000 trajectories .* more than the memory"),
    (lambda: simulate(n=2**70), ValueError, "more than the memory"),
    (lambda: simulate(n=10**6, t=1e3, save=np.arange(0.01, 1e3, 0.01)), ValueError, "fewer times"),
    (lambda: escape(n=10**13), ValueError, "fewer trajectories"),
    (lambda: simulate(save="histogram", bins=10**13, ranges=[(-2, 2)]), ValueError, "fewer cells"),
    (lambda: simulate(save="histogram", bins="a", ranges=[(-2, 2)]), TypeError, "bins must be"),
    (lambda: simulate(t=1e300), ValueError, "shorten t or lengthen dt"),
    (lambda: simulate(CHAIN, t=1 << 60, dt=None), ValueError, "which no run ends"),
    (lambda: simulate(x0=[[1.0], [1.0, 2.0]]), TypeError, "x0 must be"),
    (lambda: simulate(x0=lambda rng, n: "a"), TypeError, "sampler"),
    (lambda: fps.SGDChain.gaussian("x**2", fps.Noise.isotropic(0.1), 0.1), TypeError, "must be a Potential"),
    (lambda: fps.SGDChain.gaussian(fps.potentials.double_well(), 0.1, 0.1), TypeError, "must be a Noise"),
    (lambda: fps.SGDChain.random_shift("x**2", 0.1, 0.1), TypeError, "must be a Potential"),
    (lambda: fps.SGDChain.gaussian(fps.potentials.double_well(), fps.Noise.isotropic(0.1), ["a"]), TypeError, "lr must be"),
    (lambda: fps.Region.ball("a", 1.0), TypeError, "must be a list of numbers"),
    (lambda: fps.Region.box("a", "b"), TypeError, "must be a list of numbers"),
    (lambda: fps.TransitionKernel(CHAIN, fps.Grid((-2, 2, 50))).mean_exit_time(SIDE, at="a"), TypeError, "at must be a point"),
    (lambda: fps.EscapeTimes([1.0], [False], [[1.0]]).survival("x"), TypeError, "t must be a time or an array of times"),
])  # fmt: skip
def test_refused_before_any_work(call, kind, words) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_adam_refuses_one_beta() -> None:
    fit = fps.Ensemble.from_expression("(x - y)**2", "x", {"y": [1.0, 2.0]})
    with pytest.raises(ValueError, match="two numbers, got 0.9"):
        fps.SGDChain(fit, 0.1, 1, optimizer="adam", betas=0.9)
    with pytest.raises(ValueError, match="optimizer must be one of"):
        fps.SGDChain(fit, 0.1, 1, optimizer=["adam"])


def test_a_component_is_an_integer() -> None:
    found = simulate(save="autocorrelation", lags=0.1, n=8).autocorrelation
    for component in ("x", 0.5, True):
        with pytest.raises(ValueError, match="must be an integer in 0..0"):
            found.integrated_time(component)


def test_a_watch_without_end_is_no_limit() -> None:
    """t_max beyond any number of steps is the same as none."""
    assert np.array_equal(escape(t_max=1e300).times, escape().times)


@pytest.mark.parametrize("question", ["mean", "rate"])
def test_nothing_is_known_of_a_run_that_was_stopped_at_once(question) -> None:
    nothing = fps.EscapeTimes(np.zeros(0), np.zeros(0, bool), np.zeros((0, 1)), partial=True)
    with pytest.raises(ValueError, match="interrupted before any path had moved; run it again"):
        getattr(nothing, question)()
    assert "no escape seen" in repr(nothing)
