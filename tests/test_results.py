"""Records: conversions, exact intervals and their coverage, moments, interpolation order, printing."""

import math

import numpy as np
import pytest
from scipy import stats

import fpsolve as fps
from fpsolve._estimate import _same
from fpsolve._shown import _with_error


def gaussian(n=160, boundary="reflecting"):
    grid = fps.Grid((-6.0, 8.0, n), (-5.0, 5.0, n), boundary=boundary)
    S, mean = np.array([[1.0, 0.4], [0.4, 0.5]]), np.array([1.0, -0.25])
    p = stats.multivariate_normal(mean, S).pdf(grid.points()).reshape(grid.shape)
    return fps.Density(p, grid), mean, S


# ---- Estimate -------------------------------------------------------------------------------------------------------


def test_conversion_of_times_and_rates():
    tau = fps.Estimate(
        12.0, stderr=0.3, discretization_error=0.4, interval=(11.0, 13.5), log_value=math.log(12.0), unit="time", lr=0.1
    )
    steps = tau.per_iteration()
    assert (steps.value, steps.unit) == (pytest.approx(120.0), "iteration")
    assert steps.error == pytest.approx(5.0)
    assert steps.interval == pytest.approx((110.0, 135.0))
    assert steps.log_value == pytest.approx(math.log(120.0))
    rate = fps.Estimate(0.5, stderr=0.1, unit="1/time").per_iteration(0.02)
    assert (rate.value, rate.stderr, rate.unit, rate.lr) == (pytest.approx(0.01), pytest.approx(0.002), "1/iteration", 0.02)
    back = rate.per_time()
    assert back.value == pytest.approx(0.5) and back.unit == "1/time"
    assert steps.per_iteration() == steps  # already there


def test_powers_of_time_convert_with_powers_of_lr():
    """Var[n] = Var[lr n] / lr^2: with lr = 1/8 every factor is a power of two, so the conversions are exact."""
    variance = fps.Estimate(3.0, stderr=0.5, discretization_error=0.25, interval=(2.0, 4.0), unit="time^2", lr=0.125)
    steps = variance.per_iteration()
    assert (steps.value, steps.stderr, steps.discretization_error) == (192.0, 32.0, 16.0)
    assert (steps.interval, steps.unit) == ((128.0, 256.0), "iteration^2")
    assert steps.per_time() == variance and "192 +- 36 iteration^2" in repr(steps)
    assert fps.Estimate(1.0, unit="1/time^3", lr=0.5).per_iteration() == fps.Estimate(0.125, unit="1/iteration^3", lr=0.5)
    twelfth = fps.Estimate(1.0, unit="time^12").per_iteration(1e-30)
    assert twelfth.value == math.inf and twelfth.log_value == pytest.approx(360 * math.log(10.0))
    assert twelfth.unit == "iteration^12" and twelfth.per_time().value == pytest.approx(1.0)


@pytest.mark.parametrize(
    "unit", ["time^1", "time^0", "time^-1", "time^2.5", "time^100", "time2", "1/time^", "^2", " time", "second^2", 2]
)
def test_other_units_are_refused(unit):
    with pytest.raises(ValueError, match="unit must be"):
        fps.Estimate(1.0, unit=unit)


def test_conversion_refuses():
    with pytest.raises(ValueError, match="pass lr"):
        fps.Estimate(1.0, unit="time").per_iteration()
    with pytest.raises(ValueError, match="dimensionless"):
        fps.Estimate(1.0).per_time(0.1)
    with pytest.raises(ValueError, match="contradicts"):
        fps.Estimate(1.0, unit="time", lr=0.1).per_iteration(0.2)
    with pytest.raises(ValueError, match="> 0"):
        fps.Estimate(1.0, unit="time").per_iteration(-0.2)


def test_conversion_keeps_numbers_beyond_doubles():
    huge = fps.Estimate(math.inf, log_value=711.0, unit="iteration", lr=1e-3)
    assert huge.per_time().value == pytest.approx(math.exp(711.0 - math.log(1e3)))
    grown = fps.Estimate(1e300, unit="time", lr=1e-20).per_iteration()
    assert grown.value == math.inf
    assert grown.log_value == pytest.approx(320 * math.log(10.0))
    assert "exp(736.8" in repr(grown)


@pytest.mark.parametrize(
    "bad, text",
    [({"unit": "seconds"}, "unit"), ({"stderr": -1.0}, "stderr"), ({"interval": (2, 1)}, "interval"), ({"lr": 0.0}, "lr")],
)
def test_estimate_refuses(bad, text):
    with pytest.raises(ValueError, match=text):
        fps.Estimate(1.0, **bad)


def test_assumption():
    with pytest.raises(ValueError, match="status"):
        fps.Assumption("x", "maybe")
    e = fps.Estimate(1.0, assumptions=[fps.Assumption("a", "held"), fps.Assumption("b", "failed", "2 < 6")])
    assert [a.name for a in e.failed] == ["b"] and "FAILED: b" in repr(e)
    with pytest.raises(AttributeError):
        e.value = 2.0


# ---- densities and fields -------------------------------------------------------------------------------------------


def test_density_moments_against_closed_form():
    density, mean, S = gaussian()
    assert density.mass == pytest.approx(1.0, abs=1e-6)  # the box cuts 5 to 7 standard deviations
    np.testing.assert_allclose(density.mean(), mean, atol=1e-5)
    np.testing.assert_allclose(density.covariance(), S, atol=1e-4)
    assert density.negative_mass == 0.0
    lower = fps.Density(density.values - 1e-4, density.grid)
    assert lower.negative_mass < -1e-3


def test_marginal_is_the_gaussian_of_one_coordinate():
    density, mean, S = gaussian()
    for axis in (0, 1, -1):
        line = density.marginal(axis)
        expected = stats.norm(mean[axis], math.sqrt(S[axis, axis])).pdf(line.grid.centers[0])
        np.testing.assert_allclose(line.values, expected, atol=2e-6)
    with pytest.raises(ValueError, match="axis 2"):
        density.marginal(2)


def test_interpolation_is_second_order_everywhere():
    rng = np.random.default_rng(0)
    points = rng.uniform([0.0, -1.0], [2.0, 1.0], size=(4000, 2))  # half cells at the walls included

    def f(x):
        return np.sin(2 * x[..., 0]) * np.exp(x[..., 1])

    errors = []
    for n in (20, 40, 80):
        grid = fps.Grid((0.0, 2.0, n), (-1.0, 1.0, n + 1))
        field = fps.Field(f(grid.points()).reshape(grid.shape), grid)
        errors.append(np.abs(field.at(points) - f(points)).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(orders > 1.8), (errors, orders)


def test_interpolation_periodic_outside_and_shapes():
    grid = fps.Grid((0.0, 2 * np.pi, 200), boundary="periodic")
    field = fps.Field(np.cos(grid.centers[0]), grid)
    x = np.linspace(-7, 14, 301)
    np.testing.assert_allclose(field.at(x[:, None]), np.cos(x), atol=2e-4)
    walls = fps.Grid((0.0, 1.0, 10))
    assert np.isnan(fps.Field(np.ones(10), walls).at([1.01]))
    density = fps.Density(np.ones(10), walls)
    assert density.at([1.01]) == 0.0 and density.at([1.0]) == pytest.approx(1.0)
    assert density.at(np.full((2, 3, 1), 0.5)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"x\[:, None\]"):
        density.at([0.1, 0.2])
    steep = fps.Density(np.exp(-8.0 * np.arange(10)), walls)
    assert steep.at([1.0]) == 0.0  # continued line would be negative


def test_interpolation_with_infinite_neighbours():
    grid = fps.Grid((0.0, 1.0, 4))
    field = fps.Field([np.inf, np.inf, 2.0, 1.0], grid)
    assert field.at([0.625]) == 2.0 and field.at([0.8]) == pytest.approx(1.3)
    assert field.at([0.5]) == np.inf
    assert "2 cells not finite" in repr(field)


def test_mask_of_a_field():
    """The exit time (1 - x^2)/2 of an interval: zeros outside are no values of it, but count in the interpolation."""
    grid = fps.Grid((-2.0, 2.0, 80))
    x = grid.centers[0]
    inside = np.abs(x) < 1.0
    tau = fps.Field(np.where(inside, (1 - x**2) / 2, 0.0), grid, name="mean exit time", unit="time", mask=inside)
    np.testing.assert_allclose(tau.values[tau.mask].mean(), 1 / 3, rtol=1e-3)  # int_0^1 (1 - x^2)/2
    first = (1 - 0.975**2) / 2
    assert f"values {first:.6g} ... {(1 - 0.025**2) / 2:.6g} time in 40 cells, 40 set by definition" in repr(tau)
    points = np.array([[-1.5], [0.0], [1.2], [3.0]])
    np.testing.assert_allclose(tau.at(points)[:3], [0.0, 0.5, 0.0], atol=1e-3)
    filled = tau.at(points, fill=-7.0)
    assert filled[0] == filled[2] == -7.0 and abs(filled[1] - 0.5) < 1e-3 and np.isnan(filled[3])
    assert tau.at(1.5, fill=math.inf) == math.inf
    assert tau != fps.Field(tau.values, grid, name=tau.name, unit="time")
    whole = fps.Field(x, grid)
    assert whole.mask.shape == (80,) and whole.mask.all() and whole == fps.Field(x, grid, mask=np.ones(80, bool))
    np.testing.assert_array_equal(whole.at(points, fill=5.0), whole.at(points))
    ring = fps.Grid((0.0, 1.0, 10), boundary="periodic")
    half = fps.Field(np.ones(10), ring, mask=ring.centers[0] < 0.5)
    np.testing.assert_array_equal(half.at([[0.2], [1.2], [-0.9], [0.8], [-0.2]], fill=0.0), [1, 1, 1, 0, 0])


@pytest.mark.parametrize(
    "mask, kind, text",
    [
        (np.ones(3, bool), ValueError, r"mask has shape \(3,\)"),
        (np.zeros(4, bool), ValueError, "no cell"),
        ([1, 1, 0, 0], TypeError, "boolean"),
    ],
)
def test_mask_refuses(mask, kind, text):
    with pytest.raises(kind, match=text):
        fps.Field(np.ones(4), fps.Grid((0.0, 1.0, 4)), mask=mask)


def test_a_mask_becomes_missing_data_in_xarray(monkeypatch):
    calls = {}
    fake = type("xarray", (), {"DataArray": staticmethod(lambda values, **kwargs: calls.update(values=values, **kwargs))})
    monkeypatch.setitem(__import__("sys").modules, "xarray", fake)
    fps.Field([0.0, 2.0, 3.0], fps.Grid((0.0, 1.0, 3)), unit="time", mask=[False, True, True]).to_xarray()
    np.testing.assert_array_equal(calls["values"], [np.nan, 2.0, 3.0])
    assert calls["attrs"] == {"units": "time"}


def test_density_refuses_wrong_shape_and_series_gives_densities():
    grid = fps.Grid((0.0, 1.0, 4), (0.0, 1.0, 3))
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(4, 3\)"):
        fps.Density(np.ones((3, 4)), grid)
    series = fps.DensitySeries([0.0, 0.5, 1.0], np.ones((3, 4, 3)) * np.arange(1, 4)[:, None, None], grid, method="m")
    assert [p.time for p in series] == [0.0, 0.5, 1.0]
    assert series[1] == fps.Density(2 * np.ones((4, 3)), grid, time=0.5, method="m")
    assert len(series[1:]) == 2
    with pytest.raises(ValueError, match="nt"):
        fps.DensitySeries(1.0, np.ones((1, 4, 3)), grid)


def test_equality_looks_into_arrays():
    grid = fps.Grid((0.0, 1.0, 4))
    a, b = fps.Density([1, 2, 3, np.nan], grid), fps.Density([1, 2, 3, np.nan], grid)
    assert a == b
    assert a != fps.Density([1, 2, 4, np.nan], grid) and a != fps.Field([1, 2, 3, np.nan], grid)
    assert fps.Density(np.ones(4), grid, solver_info={"n": 1}) != fps.Density(np.ones(4), grid, solver_info={"n": 2})
    first = fps.Density(np.ones(4), grid, solver_info={"r": np.float64(0.5), "n": np.int64(3), "list": [np.float32(2.0), None]})
    assert first == fps.Density(np.ones(4), grid, solver_info={"r": 0.5, "n": 3, "list": [2.0, None]})
    assert type(first.solver_info["r"]) is float and type(first.solver_info["list"][0]) is float
    assert _same(np.float64(math.nan), math.nan) and _same(np.int64(1), 1.0) and not _same(1, True) and not _same(0.0, None)


# ---- escape times ---------------------------------------------------------------------------------------------------


def escapes(times, t_max=math.inf, **options):
    times = np.asarray(times, float)
    return fps.EscapeTimes(np.minimum(times, t_max), times > t_max, np.zeros((times.size, 1)), t_max=t_max, **options)


def test_rate_interval_is_the_chi_square_one():
    times = np.array([0.5, 1.0, 2.5, 4.0])
    rate = escapes(times, lr=0.1).rate()
    low, high = stats.chi2(8).ppf([0.025, 0.975]) / (2 * times.sum())
    assert rate.value == 0.5 and rate.interval == pytest.approx((low, high)) and rate.unit == "1/time"
    assert rate.per_iteration().value == pytest.approx(0.05)
    cut = escapes(times, 2.0).rate()  # two events in total time 5.5
    assert cut.value == pytest.approx(2 / 5.5)
    assert cut.interval == pytest.approx((stats.chi2(4).ppf(0.025) / 11, stats.chi2(6).ppf(0.975) / 11))


def test_rate_interval_coverage():
    """4000 repeats: coverage of the exact interval is binomial around 0.95; |z| < 4 has a false-alarm rate of 6e-5."""
    rng = np.random.default_rng(11)
    hits = censored_hits = 0
    for _ in range(4000):
        times = rng.exponential(2.0, size=8)
        low, high = escapes(times).rate().interval
        hits += low < 0.5 < high
        low, high = escapes(times, 2.0).rate().interval
        censored_hits += low < 0.5 < high
    sd = math.sqrt(4000 * 0.95 * 0.05)
    assert abs(hits - 3800) < 4 * sd
    assert censored_hits > 3800 - 4 * sd  # conservative


def test_mean_plain_and_censored():
    rng = np.random.default_rng(3)
    times = rng.exponential(3.0, size=4000)
    plain = escapes(times).mean()
    assert plain.value == pytest.approx(times.mean(), rel=1e-14) and plain.stderr == pytest.approx(
        times.std(ddof=1) / math.sqrt(4000)
    )
    cut = escapes(times, 1.5).mean()
    assert abs(cut.value - 3.0) < 4 * cut.stderr  # false-alarm rate 6e-5
    assert cut.assumptions[0].name == "exponential waiting times" and cut.assumptions[0].status == "held"
    assert np.minimum(times, 1.5).mean() < 1.3  # the naive mean is far off
    with pytest.raises(ValueError, match="no escape"):
        escapes([2.0, 3.0], 1.0).mean()


def test_exponential_assumption_is_tested():
    rng = np.random.default_rng(4)
    assert escapes(rng.exponential(size=2000)).rate().assumptions[0].status == "held"
    assert escapes(1 + rng.exponential(size=2000)).rate().assumptions[0].status == "failed"
    assert escapes(1 + rng.exponential(size=2000), 2.0).rate().assumptions[0].status == "failed"
    assert escapes(rng.exponential(size=10)).rate().assumptions[0].status == "unknown"
    assert escapes(np.ones(30)).rate().assumptions[0].status == "unknown"


@pytest.mark.parametrize("n, t_max", [(50, 3.0), (100, 0.4)])
def test_departure_is_standard_normal_for_exponential_times(n, t_max):
    """2000 repeats: mean 0 +- 1/sqrt(2000), variance 1 +- sqrt(2/2000); |z| < 4 plus the next order of 1/sqrt(n) as margin."""
    rng = np.random.default_rng(12)
    scores = np.array([escapes(rng.exponential(size=n), t_max)._departure() for _ in range(2000)])
    assert abs(scores.mean()) < 4 / math.sqrt(2000) + 0.05
    assert abs(scores.var() - 1.0) < 4 * math.sqrt(2 / 2000) + 0.05


@pytest.mark.parametrize("n", [5, 20, 100])
def test_mean_interval_covers_as_often_as_it_says(n):
    """4000 repeats of exponential times: hits are binomial around 0.95; |z| < 4 has a false-alarm rate of 6e-5.

    For uniform times on (0, 2), which are not exponential, the interval may cover more often, and for large n does not.
    """
    rng = np.random.default_rng(13)
    sd = math.sqrt(4000 * 0.95 * 0.05)
    hits = sum(low < 2.0 < high for low, high in (escapes(t).mean().interval for t in rng.exponential(2.0, (4000, n))))
    assert abs(hits - 3800) < 4 * sd
    found = [escapes(t).mean() for t in rng.uniform(0.0, 2.0, (4000, n))]
    hits = sum(e.interval[0] < 1.0 < e.interval[1] for e in found)
    assert hits > 3800 - 4 * sd and (n < 100 or hits < 3800 + 4 * sd)


def test_times_of_a_process_name_the_step_bias():
    e = escapes([1.0, 2.0, 4.0], dt=0.01, correction="bridge", batch=np.int64(20))
    for number in (e.mean(), e.rate()):
        assert [(a.name, a.status, a.detail) for a in number.assumptions][1:] == [
            ("time-step bias O(dt) below the statistical error", "unknown", "repeat with dt = 0.005")
        ]
        assert number.batch == 20.0
    assert "O(sqrt(dt))" in escapes([1.0, 2.0], dt=0.01).mean().assumptions[-1].name
    assert len(escapes([1.0, 2.0], unit="iteration").mean().assumptions) == 1
    assert "unknown" in fps.compare(e.mean()).column("assumptions")[0]


def test_failed_trajectories_enter_nothing():
    e = fps.EscapeTimes([1.0, np.nan, 3.0], [False] * 3, np.zeros((3, 2)), n_failed=1)
    assert e.n_events == 2 and e.mean().value == 2.0 and e.rate().value == 0.5
    assert "1 trajectories failed" in repr(e)
    with pytest.raises(ValueError, match="negative"):
        fps.EscapeTimes([-1.0], [False], np.zeros((1, 1)))
    with pytest.raises(ValueError, match="agree"):
        fps.EscapeTimes([1.0], [False, True], np.zeros((1, 1)))
    with pytest.raises(ValueError, match="total observed time is 0"):
        fps.EscapeTimes([], [], np.zeros((0, 1))).rate()


# ---- trajectories, tables, optional packages ------------------------------------------------------------------------


def test_trajectories_shapes_and_repr():
    t = fps.Trajectories(np.zeros((3, 2)), [0.5, 1.0], states=np.zeros((2, 3, 2)), status={"ok": 2, "not_finite": 1}, seed=4)
    assert (t.n, t.dim) == (3, 2) and "1 not_finite" in repr(t) and "seed 4" in repr(t)
    with pytest.raises(ValueError, match="states"):
        fps.Trajectories(np.zeros((3, 2)), [1.0], states=np.zeros((2, 3, 2)))
    with pytest.raises(ValueError, match="final"):
        fps.Trajectories(np.zeros(3), [1.0])


def test_table():
    table = fps.Table("T", ["a", "b"], [["x|y", np.float64(1.23456789)], ["z", None]], notes=["n"])
    lines = str(table).splitlines()
    assert lines[0] == "T" and lines[3].endswith("1.2346") and lines[-1] == "n"
    assert "x\\|y" in table.to_markdown() and "---:" in table.to_markdown()
    assert table.column("b") == [1.23456789, None]
    with pytest.raises(ValueError, match="column"):
        table.column("c")
    with pytest.raises(ValueError, match="2 cells|1 cells"):
        fps.Table("T", ["a", "b"], [[1]])


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    density, _, _ = gaussian(4)
    for call, name in (
        (density.to_xarray, "xarray"),
        (fps.Table("t", ["a"], []).to_dataframe, "pandas"),
        (escapes([1.0]).to_dataframe, "pandas"),
        (fps.Trajectories(np.zeros((1, 1)), [1.0]).to_xarray, "xarray"),
    ):
        with pytest.raises(ImportError, match=f"pip install {name}"):
            call()


@pytest.mark.parametrize(
    "value, error, text",
    [
        (12.3456, 0.56, "12.35 +- 0.56"),
        (1.0, 0.0, "1"),
        (0.0, math.inf, "0 +- inf"),
        (1234567.0, 4321.0, "1234567 +- 4321"),
        (5e-9, 3e-10, "5.00e-09 +- 3.0e-10"),
    ],
)
def test_number_with_error(value, error, text):
    assert _with_error(value, error) == text


def test_repr_reports():
    density, _, _ = gaussian(40)
    text = repr(
        fps.Density(density.values, density.grid, method="elimination", warnings=["coarse"], solver_info={"residual": 1e-15})
    )
    for part in ("40 x 40 cells", "elimination", "mass", "negative mass", "warning: coarse", "residual 1e-15"):
        assert part in text


# ---- survival -------------------------------------------------------------------------------------------------------


def test_survival_is_the_product_limit_by_hand():
    """Escapes at 1, 3 (twice), 4; censored at 2 and 4: S = 5/6, 5/6 * 2/4, that * 1/2, Greenwood sums by hand."""
    e = fps.EscapeTimes([1.0, 3.0, 3.0, 4.0, 2.0, 4.0], [False] * 4 + [True] * 2, np.zeros((6, 1)))
    curve = e.survival()
    s = np.array([1.0, 5 / 6, 5 / 12, 5 / 24])
    np.testing.assert_allclose(curve.survival, s, rtol=1e-14)
    assert curve.at_risk.tolist() == [6, 6, 4, 2]
    v = np.cumsum([1 / (6 * 5), 2 / (4 * 2), 1 / (2 * 1)])
    c = 1.959963984540054 * np.sqrt(v) / np.log(s[1:])
    np.testing.assert_allclose(curve.low[1:], s[1:] ** np.exp(-c), rtol=1e-12)
    np.testing.assert_allclose(curve.high[1:], s[1:] ** np.exp(c), rtol=1e-12)
    assert (curve.low[0], curve.high[0]) == (pytest.approx(0.025 ** (1 / 6)), 1.0)
    at = e.survival([0.5, 1.0, 2.9, 4.0, 4.1])
    np.testing.assert_allclose(at.survival, [1.0, 5 / 6, 5 / 6, 5 / 24, np.nan], rtol=1e-14)


def test_survival_without_censoring_is_the_empirical_one():
    t = np.random.default_rng(1).exponential(size=300)
    curve = escapes(t).survival()
    np.testing.assert_allclose(curve.survival[1:], 1.0 - np.arange(1, 301) / 300, atol=1e-12)
    assert curve.low[-1] == 0.0 and curve.high[-1] == curve.high[-2] and escapes(t).survival([99.0]).survival[0] == 0.0


def test_survival_intervals_cover():
    """100 exponential times, some censored at random: 95 % intervals at three times cover in 95 +- 1.5 % of 4000 samples
    (4.4 standard errors of the count; the method itself is asymptotic).
    """
    rng = np.random.default_rng(5)
    t = np.array([0.2, 0.7, 1.2])
    hits = np.zeros(3)
    for _ in range(4000):
        times, ends = rng.exponential(size=100), rng.uniform(0.5, 4.0, 100)
        c = fps.EscapeTimes(np.minimum(times, ends), times > ends, np.zeros((100, 1))).survival(t)
        hits += (c.low <= np.exp(-t)) & (np.exp(-t) <= c.high)
    assert np.all(np.abs(hits / 4000 - 0.95) < 0.015), hits


def test_survival_and_sides_refuse(tmp_path):
    e = escapes([1.0, 2.0])
    with pytest.raises(ValueError, match="finite numbers >= 0"):
        e.survival([-1.0])
    with pytest.raises(ValueError, match="no path was observed"):
        escapes([np.nan]).survival()
    with pytest.raises(ValueError, match="sides recorded: False"):
        e.exit_probabilities()
    with pytest.raises(ValueError, match="one name per side"):
        fps.EscapeTimes([1.0], [False], [[0.0]], sides=[1], side_names=("a",))
    with pytest.raises(ValueError, match="one shape"):
        fps.SurvivalCurve([0.0], [1.0, 1.0], [1.0], [1.0], [1])
    whole = fps.EscapeTimes([1.0, 2.0], [False, True], np.zeros((2, 1)), sides=[0, -1], side_names=("x0 = 1",))
    for name, thing in (("e", whole), ("c", whole.survival())):
        fps.save(tmp_path / f"{name}.h5", thing)
        assert fps.load(tmp_path / f"{name}.h5") == thing
