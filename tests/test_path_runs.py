"""Runs of the paths engine: failures, bad input, Ctrl-C, progress, seeds, compilation."""

import io
import math
import os
import re
import signal
import sys
import threading

import numpy as np
import pytest
from path_cases import WELL, Quadratic, gaussian_chain

import fpsolve as fps
from fpsolve import _codegen


def test_paths_say_what_they_are_of():
    """A process with measured noise knows lr and batch, and is no chain for that."""
    U, noise = fps.potentials.quadratic([[1.0]]), fps.Noise.covariance([[1.0]], lr=0.1, batch=20)
    region = fps.Region.ball([0.0], 0.1)
    for process, kwargs, method in (
        (fps.Process(U, noise), {"dt": 0.1}, "euler"),
        (fps.SGDChain.gaussian(U, noise, lr=0.1), {}, "SGD, Gaussian"),
        (fps.SGDChain(Quadratic(), lr=0.1, batch=20), {}, "SGD, replace"),
    ):
        paths = fps.simulate(process, [0.0], t=1, n=5, seed=1, **kwargs)
        escapes = fps.escape_times(process, [0.0], region, n=5, seed=1, **kwargs)
        for result in (paths, escapes, escapes.mean(), escapes.rate().per_iteration()):
            assert (result.lr, result.batch) == (0.1, 20.0)
        assert paths.method == escapes.method == method
    other = fps.Process(U, fps.Noise.covariance([[1.0]], lr=0.1, batch=10))
    with pytest.raises(ValueError, match="batch size 20, .* to 10"):
        fps.compare(escapes.mean(), fps.escape_times(other, [0.0], region, n=5, seed=1, dt=0.1).mean(), lr=0.1)


def test_non_finite_trajectories_are_counted_and_reported():
    steep = fps.Process(fps.Potential.from_expression("x**4/4"), fps.Noise.isotropic(1e-3))
    starts = np.where(np.arange(200)[:, None] % 10 == 0, 100.0, 0.5)
    with pytest.warns(RuntimeWarning, match=r"20 of 200 .* halve dt"):
        got = fps.simulate(steep, starts, t=1.0, dt=0.01, n=200, seed=1)
    assert got.status["not_finite"] == 20 and np.isnan(got.final).sum() == 20 and np.isfinite(got.mean).all()
    with pytest.raises(fps.FpsolveError, match="halve dt"):
        fps.simulate(steep, [100.0], t=1.0, dt=0.01, n=10, seed=1)
    blind = fps.Process(fps.Potential.from_expression("x**4/4", variables="x y"), fps.Noise.isotropic(1.0))
    starts = [[100.0, 0.0]] * 5 + [[0.1, 0.0]] * 45
    with pytest.warns(RuntimeWarning, match="5 of 50"):  # g does not see x, which blows up
        out = fps.escape_times(blind, starts, fps.Region.halfspace([0.0, 1.0], 1.0), n=50, dt=0.01, seed=1)
    assert out.n_failed == 5 and out.n_events == 45


PROCESS = fps.Process(WELL, fps.Noise.isotropic(0.1))
OK = {"t": 1.0, "dt": 0.1, "n": 4}


@pytest.mark.parametrize(("change", "match"), [
    ({"dt": -0.1}, "dt"), ({"dt": None}, "dt is missing"), ({"t": 1.05}, "multiple"), ({"n": 0}, "n must"),
    ({"save": "everything"}, "save"),
    ({"save": [2.0]}, r"\[0, 1\]"), ({"method": "rk4"}, "euler"), ({"seed": -1}, "seed"), ({"t_burn": 0.5}, "t_burn"),
    ({"save": "moments", "t_burn": 1.0}, "t_burn"), ({"save": "histogram"}, "bins"), ({"threads": 0}, "threads"),
    ({"chunk": 0}, "chunk"),
    ({"save": "histogram", "bins": 5, "ranges": [(0, 1)], "axes": [2]}, "coordinates"), ({"t": math.nan}, "t must"),
])  # fmt: skip
def test_simulate_refuses(change, match):
    with pytest.raises(ValueError, match=match):
        fps.simulate(PROCESS, [0.0, 0.0], **{**OK, **change})


@pytest.mark.parametrize(("x0", "match"), [([0.0], r"\(2,\)"), ([[0.0, 0.0]] * 3, r"\(4, 2\)"), ([0.0, math.nan], "not finite"),
                                            (lambda rng, n: np.zeros(n), "sampler")])  # fmt: skip
def test_simulate_refuses_starts(x0, match):
    with pytest.raises(ValueError, match=match):
        fps.simulate(PROCESS, x0, **OK)


def test_chains_refuse_dt_and_fractions_of_iterations():
    chain = gaussian_chain(1.0, 1.0, 0.1, 1)
    with pytest.raises(ValueError, match="iteration"):
        fps.simulate(chain, [0.0], t=10, dt=0.1, n=2)
    with pytest.raises(TypeError, match="iterations"):
        fps.simulate(chain, [0.0], t=10.5, n=2)
    with pytest.raises(ValueError, match="bridge"):
        fps.escape_times(chain, [0.0], fps.Region.ball([0.0], 1.0), n=2, correction="bridge")


def test_a_tensor_that_turns_negative_is_named():
    """D = 0.1 - x is negative beyond 0.1, where the drift takes the paths: the warning says so and where."""
    process = fps.Process.from_drift("1", fps.Noise.from_expression("0.1 - x"), variables="x")
    with pytest.raises(fps.FpsolveError, match=r"halve dt.*D\(x\) became non-finite or negative.*process\.diffusion"):
        fps.simulate(process, [0.0], t=2.0, dt=0.01, n=20, seed=1)
    with pytest.raises(fps.FpsolveError, match=r"It did: .*x = \["):
        fps.simulate(process, [0.0], t=2.0, dt=0.01, n=20, seed=1, save=np.arange(1, 201) / 100)
    with pytest.raises(fps.FpsolveError, match=r"D\(x\) became non-finite or negative"):
        fps.escape_times(process, [0.0], fps.Region.box([-50.0], [50.0]), n=20, dt=0.01, seed=1)


def test_ctrl_c_returns_what_is_done():
    """Chunks done before the signal are complete, the rest is marked; for escape the paths under way are censored."""

    def interrupt(after):
        timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        return timer

    fps.simulate(PROCESS, [0.0, 0.0], t=1.0, dt=0.01, n=10, seed=1)
    timer = interrupt(0.5)
    got = fps.simulate(PROCESS, [0.0, 0.0], t=2e6, dt=0.01, n=256 * 64, seed=1, threads=1, chunk=256)
    timer.cancel()
    assert got.partial and got.status["interrupted"] > 0 and got.status["ok"] + got.status["interrupted"] == 256 * 64
    slow = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.02))
    fps.escape_times(slow, [-1.0], fps.Region.halfspace([1.0], 0.0), n=10, dt=0.01, seed=1, t_max=0.1)
    timer = interrupt(0.5)
    out = fps.escape_times(slow, [-1.0], fps.Region.halfspace([1.0], 0.0), n=10**6, dt=0.01, t_max=1e9, seed=1, threads=1)
    timer.cancel()
    assert out.partial and 0 < out.n < 10**6 and out.censored.sum() == 256
    assert np.all(out.times[out.censored] > 0)


def test_changing_parameters_compiles_nothing():
    def compilations():
        kernels = [v for m in _codegen.loaded_modules() for v in vars(m).values() if hasattr(v, "signatures")]
        return len(_codegen.loaded_modules()), sum(len(k.signatures) for k in kernels)

    def everything(k, D, radius):
        process = fps.Process(WELL.with_params(k=k), fps.Noise.isotropic(D))
        fps.simulate(process, [0.1, 0.1], t=0.1, dt=0.01, n=10, save="moments", t_burn=0.0)
        fps.escape_times(process, [0.1, 0.1], fps.Region.ball([0.0, 0.0], radius), n=10, dt=0.01)

    everything(1.0, 0.1, 0.5)
    before = compilations()
    everything(2.0, 0.2, 0.7)
    everything(3.0, 0.3, 0.8)
    assert compilations() == before


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_terminals_only(capsys, monkeypatch):
    fps.simulate(PROCESS, [0.0, 0.0], **OK, progress=True, seed=1)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    fps.simulate(PROCESS, [0.0, 0.0], **OK, progress=True, seed=1)
    assert "simulate" in screen.getvalue() and "step/s" in screen.getvalue()
    fps.simulate(PROCESS, [0.0, 0.0], **OK, seed=1)
    slow = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.003))
    fps.escape_times(slow, [-1.0], fps.Region.halfspace([1.0], 0.0), n=300, dt=0.001, t_max=2000.0, seed=1, progress=True)
    shown = [re.search(r"escape_times: .* (\d+)/300 .*path/s, time ([\d.e+]+)", line) for line in screen.getvalue().split("\r")]
    assert any(m and 0.0 < float(m[2]) < 2000.0 for m in shown)  # the bar moves while paths are on their way


def test_fresh_seeds_are_recorded_and_reproduce_the_run():
    first = fps.simulate(PROCESS, [0.0, 0.0], **OK)
    again = fps.simulate(PROCESS, [0.0, 0.0], **OK, seed=first.seed)
    assert np.array_equal(first.final, again.final)
    assert not np.array_equal(first.final, fps.simulate(PROCESS, [0.0, 0.0], **OK).final)


@pytest.mark.parametrize(("change", "match"), [
    ({"save": "moments", "t_burn": math.nan}, "t_burn = nan"), ({"save": "moments", "t_burn": "late"}, "t_burn must be a number"),
    ({"save": "autocorrelation", "lags": "long"}, "lags must be a time"), ({"save": None}, "save"),
    ({"save": "autocorrelation", "lags": 0.2, "axes": "x"}, "axes must be coordinates"),
    ({"save": "autocorrelation", "lags": 0.2, "axes": 0.5}, "axes must be different coordinates"),
    ({"save": "histogram", "bins": 5, "ranges": "all"}, "ranges must be"), ({"save": "occupation", "regions": 5}, "needs regions"),
    ({"walls": [("a", 1.0, "periodic"), None]}, r"walls\[0\] must be \(lo, hi, kind\) with numbers"),
])  # fmt: skip
def test_what_is_no_number_is_named(change, match):
    with pytest.raises((TypeError, ValueError), match=match):
        fps.simulate(PROCESS, [0.0, 0.0], **{**OK, **change})
    with pytest.raises(TypeError, match=r"x0 must be an array of shape \(2,\)"):
        fps.simulate(PROCESS, "origin", **OK)
