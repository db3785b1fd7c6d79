"""Statistics of parts of an ensemble, merged: those of the whole, exactly where they count and to rounding where they add."""

import dataclasses
import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from path_cases import double_well

import fpsolve as fps

INTERVAL = fps.Region.box([-0.9], [0.8])
CUTS = (0, 130, 131, 500, 700)


def in_parts(run, cuts=CUTS, **how):
    return [run(first=a, n=b - a).statistics(**how) for a, b in zip(cuts, cuts[1:], strict=False)]


def escapes(times, end=None, **more):
    times = np.asarray(times, float)
    censored = np.zeros(times.size, bool) if end is None else times > end
    return fps.EscapeTimes(
        np.minimum(times, math.inf if end is None else end), censored, np.full((times.size, 1), np.nan), t_max=end, **more
    )


def agree(merged, whole):
    """Estimates equal to rounding, with the same words about what they rest on."""
    assert (merged.unit, merged.method, merged.assumptions) == (whole.unit, whole.method, whole.assumptions)
    np.testing.assert_allclose(
        [merged.value, merged.stderr, *merged.interval], [whole.value, whole.stderr, *whole.interval], rtol=1e-12
    )


# ---- first passage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t_max", [None, 0.4])
def test_merged_escapes_are_those_of_the_whole(t_max):
    run = functools.partial(fps.escape_times, double_well(), [0.0], INTERVAL, dt=0.01, seed=5, t_max=t_max)
    whole, merged = run(n=700), fps.EscapeStatistics.merged(in_parts(run))
    assert (merged.n, merged.n_events, merged.n_censored, merged.n_failed) == (700, whole.n_events, whole.censored.sum(), 0)
    assert merged.ranges.tolist() == [[5, 0, 700]]
    np.testing.assert_array_equal(merged.counts, whole.statistics().counts)
    seen = whole.times[~whole.censored]
    assert (merged.shortest, merged.longest) == (seen.min(), seen.max())
    np.testing.assert_allclose(merged.exposure, math.fsum(whole.times), rtol=1e-14)
    np.testing.assert_allclose(merged.event_squares / (seen.size - 1), seen.var(ddof=1), rtol=1e-12)
    agree(merged.rate(), whole.rate())
    agree(merged.mean(), whole.mean())
    for side, share in whole.exit_probabilities().items():
        assert merged.exit_probabilities()[side] == share
    curve = merged.survival()
    exact = whole.survival(curve.times)
    for name in ("survival", "low", "high", "at_risk"):
        np.testing.assert_allclose(getattr(curve, name), getattr(exact, name), rtol=1e-12)
    assert curve.times[-1] >= whole.times.max()


@pytest.mark.parametrize("end", [None, 0.7, 1e-9])
def test_estimates_of_statistics_are_those_of_the_times(end):
    """Exponential times (z of their test small), and none escaped."""
    whole = escapes(np.random.default_rng(3).exponential(size=400), end, seed=2, dt=0.1)
    merged = whole.statistics()
    agree(merged.rate(), whole.rate())
    if end != 1e-9:
        agree(merged.mean(), whole.mean())
        assert merged.rate().assumptions[0].status == "held"
        return
    assert merged.n_events == 0 and math.isnan(merged.longest)
    assert merged.survival().low[0] == 0.025 ** (1 / 400)
    with pytest.raises(ValueError, match="no escape among 400"):
        merged.mean()


def test_times_that_hardly_differ_keep_their_spread():
    """A relative spread of 1e-9 is lost in a sum of squares; by the squared deviations it survives the merge."""
    rng = np.random.default_rng(4)
    times = 1.0 + 1e-9 * rng.standard_normal(3000)
    parts = [escapes(t, seed=1, first=1000 * k).statistics() for k, t in enumerate(times.reshape(3, 1000))]
    merged = fps.EscapeStatistics.merged(parts)
    assert merged.mean().stderr == pytest.approx(times.std(ddof=1) / math.sqrt(3000), rel=1e-6)


def test_failed_paths_and_sides_are_counted():
    times = [1.0, math.nan, 2.0, 3.0]
    sides = [0, -1, 1, 1]
    one = fps.EscapeTimes(times, [False] * 4, np.zeros((4, 1)), seed=1, n_failed=1, sides=sides, side_names=("a", "b"))
    two = dataclasses.replace(one, first=4).statistics()
    both = one.statistics().merge(two)
    assert (both.n, both.n_events, both.n_failed) == (8, 6, 2)
    assert both.side_counts.tolist() == [2, 4]
    assert both.exit_probabilities()["b"].value == 2 / 3
    assert "2 trajectories failed" in repr(both)


WAITS = st.lists(st.floats(1e-12, 1e12), max_size=8)


@settings(max_examples=60, deadline=None)
@given(WAITS, WAITS, WAITS, st.one_of(st.none(), st.floats(1e-6, 1e6)))
def test_merging_is_associative(a, b, c, end):
    """Counts exactly; sums to rounding, of the size of their largest terms."""
    parts, first = [], 0
    for times in (a, b, c):
        parts.append(escapes(times, end, seed=1, first=first).statistics(bins=3))
        first += len(times)
    left, right = parts[0].merge(parts[1]).merge(parts[2]), parts[0].merge(parts[1].merge(parts[2]))
    once = fps.EscapeStatistics.merged(parts)
    direct = escapes(a + b + c, end, seed=1).statistics(bins=3)
    size = float(np.square(direct.longest)) * max(1, direct.n_events) if direct.n_events else 1.0
    for other in (left, right, once):
        for name in ("n", "n_events", "n_censored"):
            assert getattr(other, name) == getattr(direct, name)
        np.testing.assert_array_equal(other.counts, direct.counts)
        np.testing.assert_array_equal(other.ranges, direct.ranges)
        np.testing.assert_array_equal([other.shortest, other.longest], [direct.shortest, direct.longest])
        np.testing.assert_allclose(other.exposure, direct.exposure, rtol=1e-14)
        np.testing.assert_allclose(other.event_mean, direct.event_mean, rtol=1e-14)
        np.testing.assert_allclose(other.event_squares, direct.event_squares, rtol=1e-12, atol=1e-14 * size)
        scale = [np.abs(direct.log_sums[0]) + 200.0, *(1e3 * direct.exposure + 1e-9,) * 2]
        assert np.all(np.abs(other.log_sums - direct.log_sums) <= 1e-13 * np.array(scale))


def test_other_questions_are_not_merged():
    run = functools.partial(fps.escape_times, dt=0.01, n=20, seed=1)
    one = run(double_well(), [0.0], INTERVAL).statistics()
    others = {
        "answer different questions": [
            run(double_well(), [0.1], INTERVAL, first=20).statistics(),
            run(double_well(), [0.0], fps.Region.halfspace([1.0], 0.7), first=20).statistics(),
            run(fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.5)), [0.0], INTERVAL, first=20).statistics(),
        ],
        "differ in side_names": [dataclasses.replace(one, side_names=("a", "b"))],
        "differ in t_max": [run(double_well(), [0.0], INTERVAL, first=20, t_max=3.0).statistics()],
        "differ in dt": [run(double_well(), [0.0], INTERVAL, first=20, dt=0.02).statistics()],
        "different edges": [run(double_well(), [0.0], INTERVAL, first=20).statistics(bins=[1.0, 2.0])],
        "differ in unit": [dataclasses.replace(one, unit="iteration")],
        r"trajectories 19 \.\.\. 19 of seed 1 are in two": [run(double_well(), [0.0], INTERVAL, first=19).statistics()],
    }  # fmt: skip
    for message, several in others.items():
        for other in several:
            with pytest.raises(ValueError, match=message):
                one.merge(other)
    assert one.merge(run(double_well(), [0.0], INTERVAL, first=20).statistics()).n == 40
    assert one.merge(run(double_well(), [0.0], INTERVAL, seed=2).statistics()).ranges.tolist() == [[1, 0, 20], [2, 0, 20]]
    with pytest.raises(TypeError, match="merged with its like"):
        fps.EscapeStatistics.merged([one, 3])
    with pytest.raises(ValueError, match="nothing to merge"):
        fps.EscapeStatistics.merged([])


@pytest.mark.parametrize(
    ("bins", "error"), [(0, ValueError), (2000, ValueError), ([2.0, 1.0], ValueError), ([0.0, 1.0], ValueError), ("a", TypeError)]
)
def test_impossible_bins(bins, error):
    with pytest.raises(error, match="bins"):
        escapes([1.0]).statistics(bins=bins)


def test_interrupted_runs_have_no_statistics():
    with pytest.raises(ValueError, match="interrupted"):
        escapes([1.0], partial=True).statistics()
    with pytest.raises(ValueError, match="other times than t_max"):
        fps.EscapeTimes([1.0], [True], np.zeros((1, 1))).statistics()
    with pytest.raises(ValueError, match="interrupted"):
        fps.Trajectories(np.zeros((1, 1)), [1.0], partial=True).statistics()


def test_statistics_are_saved_and_drawn(tmp_path):
    one = escapes([1.0, 2.0, 5.0], 4.0, seed=3, first=7, sides=[0, 0, -1], side_names=("g = 0",)).statistics(bins=4)
    one.save(tmp_path / "one.h5")
    assert fps.load(tmp_path / "one.h5") == one
    axes = one.plot()
    assert axes.get_yscale() == "log" and "2 escapes" in axes.get_legend().get_texts()[0].get_text()
    assert axes.lines[0].get_xdata()[-1] == 4.0


# ---- moments and histograms -----------------------------------------------------------------------------------------

RUNS = {
    "final": {},
    "averages": {"save": "moments", "t_burn": 0.5},
    "records": {"save": [0.3, 1.0]},
    "histogram": {"save": "histogram", "bins": 20, "ranges": ((-2, 2),), "t_burn": 0.5},
    "histogram of the ensemble": {"save": "histogram", "bins": 20, "ranges": ((-0.5, 2),)},
}


@pytest.mark.parametrize("name", RUNS)
def test_merged_moments_and_histograms_are_those_of_the_whole(name, tmp_path):
    run = functools.partial(fps.simulate, double_well(), [0.1], t=1.0, dt=0.01, seed=6, **RUNS[name])
    whole, merged = run(n=700), fps.PathStatistics.merged(in_parts(run))
    assert (merged.n, merged.n_ok, merged.ranges.tolist()) == (700, 700, [[6, 0, 700]])
    if "histogram" in name:
        assert merged.histogram == whole.histogram
    else:
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-12)
        assert (merged.within is None) == (name != "averages")
    merged.save(tmp_path / "one.h5")
    assert fps.load(tmp_path / "one.h5") == merged
    assert "seed 6: 0 ... 699" in repr(merged)


def test_averages_of_panels_are_merged():
    """Second moments of a linear process are kept per block of 256 paths; the parts cut the blocks."""
    process = fps.Process.ornstein_uhlenbeck(np.diag(np.linspace(0.5, 2, 11)), fps.Noise.isotropic(0.3))
    run = functools.partial(fps.simulate, process, np.ones(11), t=0.25, dt=0.01, save="moments", t_burn=0.1, seed=1)
    whole, merged = run(n=600), fps.PathStatistics.merged(in_parts(run, (0, 100, 101, 600)))
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-12, atol=1e-14)


NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_merging_of_moments_is_associative(a, b, c):
    def of(values, first):
        cov = [[float(np.var(values, ddof=1)) if len(values) > 1 else 0.0]]
        final = np.array(values)[:, None]
        return fps.Trajectories(final, [1.0], mean=[np.mean(values)], covariance=cov, seed=1, first=first).statistics()

    parts = [of(a, 0), of(b, len(a)), of(c, len(a) + len(b))]
    size = max(map(abs, a + b + c))
    direct = of(a + b + c, 0)
    for other in (
        parts[0].merge(parts[1]).merge(parts[2]),
        parts[0].merge(parts[1].merge(parts[2])),
        fps.PathStatistics.merged(parts),
    ):
        assert other.n == direct.n and other.ranges.tolist() == direct.ranges.tolist()
        np.testing.assert_allclose(other.mean, direct.mean, rtol=1e-13, atol=1e-14 * size)
        np.testing.assert_allclose(other.covariance, direct.covariance, rtol=1e-12, atol=1e-13 * size**2)


def test_other_paths_are_not_merged():
    run = functools.partial(fps.simulate, double_well(), [0.1], t=1.0, dt=0.01, seed=6, n=20)
    one = run().statistics()
    with pytest.raises(ValueError, match="answer different questions"):
        one.merge(run(first=20, save="moments").statistics())
    with pytest.raises(ValueError, match="answer different questions"):
        one.merge(fps.simulate(double_well(), [0.2], t=1.0, dt=0.01, seed=6, n=20, first=20).statistics())
    with pytest.raises(ValueError, match="different times"):
        one.merge(dataclasses.replace(one, times=[2.0]))
    with pytest.raises(ValueError, match="in two of the parts"):
        one.merge(one)
    with pytest.raises(ValueError, match="autocorrelations and occupations are not merged"):
        run(save="autocorrelation", lags=0.2).statistics()


@pytest.mark.slow
def test_ten_million_paths_in_the_memory_of_a_part():
    """Brownian motion up to a wall, 40 parts: the memory of one part, and the law, which is exact with the bridge at any step."""
    import tracemalloc

    flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
    run = functools.partial(fps.escape_times, flat, [0.0], fps.Region.halfspace([1.0], 1.0), dt=0.5, seed=1, t_max=1.0)
    size, total = 250_000, None
    tracemalloc.start()
    for first in range(0, 40 * size, size):
        part = run(n=size, first=first).statistics()
        total = part if total is None else total.merge(part)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total.n == 10_000_000 and total.ranges.tolist() == [[1, 0, 10_000_000]]
    assert peak < 30 * 8 * size  # all times would be 40
    found, exact = total.survival().survival[-1], math.erf(1.0 / math.sqrt(2.0))
    assert found == pytest.approx(total.n_censored / total.n, rel=1e-12)
    assert abs(found - exact) < 4.0 * math.sqrt(exact * (1.0 - exact) / total.n)
