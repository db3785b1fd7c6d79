"""Autocorrelation and occupation taken while paths run, against closed forms, quadrature and counts by hand.

Statistical bounds: |z| < 4.5 with fixed seeds; a test of m numbers raises a false alarm with probability below 7e-6 m.
"""

import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate, linalg

import fpsolve as fps

Z = 4.5


def rotating():
    """An Ornstein-Uhlenbeck process with a current: (A, D, process), drift -A x."""
    A, D = np.array([[1.0, 1.5], [-1.5, 0.7]]), np.array([[0.5, 0.1], [0.1, 0.3]])
    return A, D, fps.Process.from_drift(["-x - 1.5*y", "1.5*x - 0.7*y"], fps.Noise.constant(D), "x y")


def double_well(D):
    return fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(D))


def blocks(C, S, chosen):
    return np.array([(np.linalg.matrix_power(C, k) @ S)[np.ix_(chosen, chosen)] for k in range(0, 61, 3)])


# ---- autocorrelation ------------------------------------------------------------------------------------------------


def test_autocovariance_of_an_irreversible_euler_chain_is_exact():
    """C(k) = M^k S, M = 1 - A dt, S = M S M^T + 2 D dt: 244 numbers, none symmetric in the lag."""
    A, D, process = rotating()
    dt = 0.05
    M = np.eye(2) - A * dt
    S = linalg.solve_discrete_lyapunov(M, 2 * D * dt)
    out = fps.simulate(process, [3.0, 0.0], t=60, dt=dt, n=2000, seed=1, save="autocorrelation", lags=3.0, t_burn=10)
    found = out.autocorrelation
    exact = np.array([np.linalg.matrix_power(M, k) @ S for k in range(61)])
    assert found.times == pytest.approx(np.arange(61) * dt)
    z = (found.values - exact) / found.stderr
    assert np.abs(z).max() < Z
    assert np.all(found.stderr < 0.004)
    asymmetry = np.abs(found.values[:, 0, 1] - found.values[:, 1, 0]).max()
    assert asymmetry > 50 * found.stderr.max()  # the current is seen
    assert found.mean == pytest.approx([0.0, 0.0], abs=0.02)
    assert out.mean is None


def test_errors_are_those_of_repeated_runs():
    """Standard errors and the scatter of 60 runs agree within the scatter of a variance of 59 degrees of freedom (z = 4.5)."""
    _, _, process = rotating()
    runs = [
        fps.simulate(process, [0.0, 0.0], t=10, dt=0.1, n=64, seed=s, save="autocorrelation", lags=1.0, t_burn=5).autocorrelation
        for s in range(60)
    ]
    scatter = np.std([r.values for r in runs], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([r.stderr**2 for r in runs], axis=0))
    assert np.abs(np.log(scatter / claimed)).max() < Z / math.sqrt(2 * 59)
    taus = [r.integrated_time(window=2.0) for r in runs]
    ratio = np.std([t.value for t in taus], ddof=1) / math.sqrt(np.mean([t.stderr**2 for t in taus]))
    assert abs(math.log(ratio)) < 1.5 * Z / math.sqrt(2 * 59)  # tau is not quite normal


def test_integrated_time_of_an_autoregression():
    """x' = r x + noise: (1 + r)/(1 - r)/2 steps, of which a window of 8 tau loses at most 4 in ten thousand."""
    well = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.5))
    for dt in (0.1, 0.5):
        r = 1.0 - dt
        found = fps.simulate(
            well, [0.0], t=2000 * dt, dt=dt, n=1000, seed=2, save="autocorrelation", lags=120 * dt, t_burn=100 * dt
        )
        tau = found.autocorrelation.integrated_time(window=8.0)
        exact = 0.5 * (1 + r) / (1 - r) * dt
        assert abs(tau.value - exact) < Z * tau.stderr + tau.discretization_error
        assert tau.stderr < 0.02 * exact
        assert tau.assumptions[0].status == "held"
    short = fps.simulate(well, [0.0], t=20.0, dt=0.1, n=50, seed=2, save="autocorrelation", lags=2.0).autocorrelation
    assert short.integrated_time().failed[0].name == "the lags reach 6 tau"


def test_chosen_lags_every_and_far_from_the_origin():
    """Single lags agree with all of them; a mean of 1e6 standard deviations costs no digits that matter."""
    _, _, process = rotating()
    options = {"t": 20, "dt": 0.05, "n": 300, "seed": 4, "save": "autocorrelation", "every": 2, "t_burn": 2.0}
    every = fps.simulate(process, [0.0, 0.0], **options, lags=2.0).autocorrelation
    some = fps.simulate(process, [0.0, 0.0], **options, lags=[0.31, 2.0], axes=[1]).autocorrelation
    assert some.times.tolist() == [0.0, pytest.approx(0.3), 2.0]
    assert some.values[:, 0, 0] == pytest.approx(every.values[[0, 3, 20], 1, 1], rel=1e-12)
    far = fps.Process.from_drift("1000000 - x", fps.Noise.isotropic(0.5))
    near = fps.Process.from_drift("-x", fps.Noise.isotropic(0.5))
    options = {"t": 20, "dt": 0.0625, "n": 300, "seed": 4, "save": "autocorrelation", "lags": 2.0, "t_burn": 2.0}
    a, b = fps.simulate(far, [1e6], **options).autocorrelation, fps.simulate(near, [0.0], **options).autocorrelation
    assert a.values == pytest.approx(b.values, abs=1e-8)  # positions are rounded to 1e-10


def test_matrix_kernel_underdamped_and_chain():
    """Closed forms for the other engines: M^k S again, by the matrix kernel (chosen axes), BAOAB, and heavy ball."""
    H, dt = np.diag(np.linspace(0.5, 2.0, 12)) + 0.05, 0.1
    linear = fps.Process(fps.potentials.quadratic(H), fps.Noise.isotropic(0.3))
    found = fps.simulate(
        linear, np.zeros(12), t=40, dt=dt, n=600, seed=5, save="autocorrelation", lags=6.0, every=3, axes=[0, 7], t_burn=10
    )
    M = np.eye(12) - H * dt
    exact = blocks(M, linalg.solve_discrete_lyapunov(M, 0.6 * dt * np.eye(12)), [0, 7])
    z = (found.autocorrelation.values - exact) / found.autocorrelation.stderr
    assert found.autocorrelation.axes.tolist() == [0, 7]
    assert np.abs(z).max() < Z

    inertial = fps.Underdamped(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.5), friction=1.0)
    found = fps.simulate(inertial, [0.0], t=60, dt=0.1, n=2000, seed=6, save="autocorrelation", lags=6.0, every=3, t_burn=20)
    h, c = 0.1, math.exp(-0.1)
    B, A, O = np.array([[1, 0], [-h / 2, 1]]), np.array([[1, h / 2], [0, 1]]), np.diag([1.0, c])
    step, kick = B @ A @ O @ A @ B, B @ A @ np.array([0.0, math.sqrt(0.5 * (1 - c * c))])
    exact = blocks(step, linalg.solve_discrete_lyapunov(step, np.outer(kick, kick)), [0, 1])
    z = (found.autocorrelation.values - exact) / found.autocorrelation.stderr
    assert np.abs(z).max() < Z

    lr, mu = 0.1, 0.8
    U = fps.potentials.quadratic([[1.0]])
    ball = fps.SGDChain.gaussian(U, fps.Noise.covariance([[1.0]], lr, 4), lr, momentum=mu)
    found = fps.simulate(ball, [0.0], t=3000, n=1000, seed=7, save="autocorrelation", lags=60, every=3, t_burn=300)
    # v' = mu v + theta + noise, theta' = theta - lr v'
    step = np.array([[1 - lr, -lr * mu], [1.0, mu]])
    S = linalg.solve_discrete_lyapunov(step, np.outer([-lr, 1.0], [-lr, 1.0]) / 4)
    exact = blocks(step, S, [0])
    z = (found.autocorrelation.values - exact) / found.autocorrelation.stderr
    assert np.abs(z).max() < Z
    assert found.autocorrelation.unit == "iteration"


def test_sgd_on_sample_losses():
    """theta' = (1 - lr) theta + lr mean of B draws: C(k) = (1 - lr)^k lr/(2 - lr) var/B."""
    a = np.random.default_rng(0).standard_normal(50)
    chain = fps.SGDChain(fps.Ensemble.from_expression("(x - a)**2/2", "x", {"a": a}), lr=0.2, batch=5)
    options = {"t": 400, "n": 600, "seed": 8, "save": "autocorrelation", "lags": 15, "t_burn": 50}
    found = fps.simulate(chain, [0.0], **options).autocorrelation
    exact = 0.8 ** np.arange(16) * 0.2 / 1.8 * a.var() / 5
    assert np.abs((found.values[:, 0, 0] - exact) / found.stderr[:, 0, 0]).max() < Z


# ---- occupation -----------------------------------------------------------------------------------------------------


def test_occupation_is_boltzmanns():
    """A scheme of weak order 2 at a small step; quadrature of exp(-U/D) over three overlapping regions, first one first."""
    D, U = 0.4, fps.potentials.double_well()
    regions = [fps.Region.halfspace([1.0], -0.5), fps.Region.box([-1.0], [0.2]), fps.Region.halfspace([-1.0], -1.0)]
    out = fps.simulate(
        double_well(D),
        [-1.0],
        t=300,
        dt=0.01,
        n=1000,
        seed=1,
        save="occupation",
        regions=regions,
        every=4,
        t_burn=20,
        method="weak2",
    ).occupation
    weight = lambda a, b: integrate.quad(lambda x: math.exp(-float(U(np.array([x]))) / D), a, b)[0]  # noqa: E731
    whole = weight(-5, 5)
    for i, (a, b) in enumerate(((-5.0, -0.5), (-0.5, 0.2), (1.0, 5.0))):
        share = out.fraction(i)
        assert abs(share.value - weight(a, b) / whole) < Z * share.stderr
        assert share.stderr < 0.004
    assert out.fraction(0).unit == ""


def test_switching_time_is_the_passage_between_the_cores():
    """Of a path that comes from the other core. Samples at steps miss crossings: each core is 0.5826 sqrt(2 D dt) further off.

    Broadie, Glasserman & Kou (1997). Both directions, and the sum of rates over 2 = 1/passage; z = 4.5.
    """
    D, dt = 0.4, 0.005
    cores = [fps.Region.halfspace([1.0], -1.0), fps.Region.halfspace([-1.0], -1.0)]
    out = fps.simulate(double_well(D), [-1.0], t=200, dt=dt, n=1500, seed=3, save="occupation", regions=cores).occupation
    shift = 0.5826 * math.sqrt(2 * D * dt)
    exact = fps.theory.mean_first_passage_1d(double_well(D), -1 - shift, 1 + shift).value
    for a, b in ((0, 1), (1, 0)):
        tau = out.switching_time(a, b)
        assert abs(tau.value - exact) < Z * tau.stderr
        assert tau.stderr < 0.015 * exact
        assert out.switching_rate(a).value == pytest.approx(1 / tau.value, rel=1e-12)


def test_every_count_is_that_of_the_recorded_states():
    """The same path, kept in full and labelled by hand in Python."""
    out = fps.simulate(double_well(0.6), [-1.0], t=30, dt=0.02, n=20, seed=5, save=np.arange(1, 1501) * 0.02)
    regions = [fps.Region.halfspace([1.0], -0.6), fps.Region.box([-0.2], [0.2]), fps.Region.halfspace([-1.0], -0.6)]
    for burn, every in ((0.0, 1), (1.0, 3)):
        found = fps.simulate(
            double_well(0.6), [-1.0], t=30, dt=0.02, n=20, seed=5, save="occupation", regions=regions, t_burn=burn, every=every
        ).occupation
        first = round(burn / 0.02)
        for i in range(20):
            path = np.concatenate([[-1.0], out.states[:, i, 0]])[first::every]
            path = path[: (1500 - first) // every + 1]
            labels = np.where(path < -0.6, 0, np.where(np.abs(path) < 0.2, 1, np.where(path > 0.6, 2, -1)))
            origin, switches, after = -1, np.zeros((3, 3), int), np.zeros(3, int)
            for k, label in enumerate(labels.tolist()):
                if k > 0 and origin >= 0:
                    after[origin] += 1
                if label >= 0:
                    switches[origin, label] += origin >= 0 and label != origin
                    origin = label
            assert found.inside[i].tolist() == [int(np.sum(labels[1:] == r)) for r in range(3)]
            assert found.exits[i].tolist() == [int(np.sum((labels[:-1] == r) & (labels[1:] != r))) for r in range(3)]
            assert found.after[i].tolist() == after.tolist()
            assert np.array_equal(found.switches[i], switches)
        assert found.samples == len(path) - 1


def test_dwell_time_of_independent_samples():
    """Euler with dt = 1/lambda forgets its state in one step: a stay in a region of probability p lasts 1/(1 - p) steps."""
    well = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.5))
    region = fps.Region.box([-1.0], [0.5])
    out = fps.simulate(well, [0.0], t=2000.0, dt=1.0, n=300, seed=9, save="occupation", regions=[region], t_burn=10.0).occupation
    p = 0.5 * (math.erf(0.5 / math.sqrt(2)) + math.erf(1 / math.sqrt(2)))
    dwell, share = out.dwell_time(0), out.fraction(0)
    assert abs(dwell.value - 1 / (1 - p)) < Z * dwell.stderr
    assert dwell.stderr < 0.01
    assert abs(share.value - p) < Z * share.stderr


def test_switches_that_are_not_exponential_are_noticed():
    """Regions that touch: a path at the border switches in bursts, and the counts of trajectories scatter too much.

    Counts drawn from Poisson's law pass (|z| < 4: false alarm 6e-5), with the rate and its error.
    """
    sides = [fps.Region.halfspace([1.0], 0.0), fps.Region.halfspace([-1.0], 0.0)]
    out = fps.simulate(double_well(0.3), [-1.0], t=100, dt=0.01, n=300, seed=3, save="occupation", regions=sides).occupation
    assert out.switching_rate(0, 1).failed[0].name == "exponential switching times"
    k = np.random.default_rng(1).poisson(2.5, 1000)
    zero = np.zeros((1000, 2), int)
    switches = np.zeros((1000, 2, 2), int)
    switches[:, 0, 1] = k
    rate = fps.Occupation(zero, zero, zero + 500, switches, 0.01, 1000, ("a", "b")).switching_rate(0)
    assert rate.assumptions[0].status == "held"
    assert rate.value == pytest.approx(k.sum() / 5000, rel=1e-12)
    assert rate.stderr == pytest.approx(math.sqrt(k.sum()) / 5000, rel=1e-12)


def test_occupation_of_the_other_engines():
    """Boltzmann's share of a ball in velocity and position, of a half-space by the matrix kernel, and of SGD's weights."""
    inertial = fps.Underdamped(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.5), friction=1.0)
    disc, band = fps.Region.ball([0.0, 0.0], 1.0), fps.Region.box([-0.5], [0.5])
    for region, p in ((disc, 1 - math.exp(-1.0)), (band, math.erf(0.5))):
        out = fps.simulate(
            inertial, [0.0], t=100, dt=0.05, n=1000, seed=2, save="occupation", regions=[region], every=10, t_burn=10
        )
        share = out.occupation.fraction(0)
        assert abs(share.value - p) < Z * share.stderr + 0.0003  # velocities are 1 - h^2/8 too slow
    linear = fps.Process(fps.potentials.quadratic(np.eye(10)), fps.Noise.isotropic(0.5))
    half = fps.Region.halfspace([0.0] * 9 + [1.0], 0.3)
    out = fps.simulate(linear, np.zeros(10), t=60, dt=0.1, n=500, seed=2, save="occupation", regions=[half], every=5, t_burn=10)
    share = out.occupation.fraction(0)
    assert abs(share.value - 0.5 * (1 + math.erf(0.3 / math.sqrt(2 * 0.5 / 0.95)))) < Z * share.stderr
    a = np.array([-1.0, 1.0])
    chain = fps.SGDChain(fps.Ensemble.from_expression("(x - a)**2/2", "x", {"a": a}), lr=0.5, batch=1)
    out = fps.simulate(
        chain, [0.0], t=600, n=400, seed=2, save="occupation", regions=[fps.Region.halfspace([1.0], -0.5)], t_burn=50
    )
    share = out.occupation.fraction(0)  # theta' = (theta + a)/2 with signs a is uniform in (-1, 1)
    assert abs(share.value - 0.25) < Z * share.stderr
    assert share.stderr < 0.003


# ---- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["autocorrelation", "occupation"])
def test_threads_and_chunks_do_not_matter_and_files_are_equal(kind, tmp_path):
    more = {"lags": 1.0, "t_burn": 1.0} if kind == "autocorrelation" else {"regions": [fps.Region.halfspace([1.0], 0.0)]}
    options = {"t": 5.0, "dt": 0.01, "n": 1500, "seed": 3, "save": kind, **more}
    one = fps.simulate(double_well(0.4), [-1.0], **options, threads=1)
    for threads, size in ((2, None), (1, 100), (2, 1111)):
        assert fps.simulate(double_well(0.4), [-1.0], **options, threads=threads, chunk=size) == one
    one.save(tmp_path / "paths.h5")
    getattr(one, kind).save(tmp_path / "part.h5")
    assert fps.load(tmp_path / "paths.h5") == one
    assert fps.load(tmp_path / "part.h5") == getattr(one, kind)
    assert kind in repr(one)
    assert getattr(one, kind).plot().get_ylabel()


@pytest.mark.parametrize("kind", ["autocorrelation", "occupation"])
def test_failed_trajectories_are_left_out(kind):
    """x' = x^3 blows up from one start and never from 0: the statistics are those of the others."""
    process = fps.Process.from_drift("x**3 - x", fps.Noise.isotropic(1e-4))
    starts = np.zeros((400, 1))
    starts[::40] = 3.0
    more = {"lags": 1.0} if kind == "autocorrelation" else {"regions": [fps.Region.box([-0.01], [0.01])]}
    options = {"t": 10.0, "dt": 0.01, "n": 400, "seed": 3, "save": kind, "t_burn": 5.0, **more}
    with pytest.warns(RuntimeWarning, match="10 of 400 trajectories became non-finite"):
        out = fps.simulate(process, starts, **options)
    if kind == "autocorrelation":
        found = out.autocorrelation
        assert np.isfinite(found.values).all()
        assert abs(found.values[0, 0, 0] - 1e-4 / (1 - 0.005)) < Z * found.stderr[0, 0, 0] + 3e-8
    else:
        assert out.occupation.n == 390
        assert 0.6 < out.occupation.fraction(0).value < 0.75


def test_bad_options_are_refused_before_any_work():
    run = lambda **more: fps.simulate(double_well(0.4), [-1.0], **{"t": 1.0, "dt": 0.01, "n": 5, **more})  # noqa: E731
    left = fps.Region.halfspace([1.0], 0.0)
    for more, message in (
        ({"save": "autocorrelation"}, "needs lags"),
        ({"save": "autocorrelation", "lags": 1.0}, "below t - t_burn = 1, got 1"),
        ({"save": "autocorrelation", "lags": 0.0}, "must be >= every"),
        ({"save": "autocorrelation", "lags": [0.1, -0.1]}, "list of times >= 0"),
        ({"save": "autocorrelation", "lags": 0.1, "axes": [1]}, r"coordinates in 0\.\.0"),
        ({"save": "moments", "lags": 0.1}, "lags belongs to save='autocorrelation'"),
        ({"regions": [left]}, "regions belongs to save='occupation'"),
        ({"save": "occupation"}, "needs regions"),
        ({"save": "occupation", "regions": []}, "needs regions"),
        ({"save": "occupation", "regions": [fps.Region.ball([0.0, 0.0], 1.0)]}, "is 2-D, the state 1-D"),
        ({"save": "occupation", "regions": [left], "axes": [0]}, "axes to that or to save='autocorrelation'"),
        ({"save": "correlation"}, "save must be one of"),
        ({"save": "autocorrelation", "lags": 900.0, "t": 1000.0, "n": 10**6}, "choose components with axes="),
    ):
        with pytest.raises(ValueError, match=message):
            run(**more)
    with pytest.raises(TypeError, match="must be Regions"):
        run(save="occupation", regions=["left"])
    component = fps.Region.sublevel(fps.potentials.double_well(), 0.5, containing=[-1.0])
    with pytest.raises(ValueError, match="single points cannot be tested"):
        run(save="occupation", regions=[component])


def test_questions_without_an_answer():
    seen = fps.Occupation([[10, 0]], [[0, 0]], [[10, 0]], [[[0, 0], [0, 0]]], 0.1, 10, ("a", "b"))
    assert seen.fraction(0).stderr == math.inf
    with pytest.raises(ValueError, match="no exit from region 0"):
        seen.dwell_time(0)
    with pytest.raises(ValueError, match=r"no switch from region 0 was seen; a lower bound is .* = 0\.27"):
        seen.switching_time(0)  # total time 1: 1/3.69
    with pytest.raises(ValueError, match="no path was seen in region 1"):
        seen.switching_rate(1, 0)
    for wrong in ((0, 0), (0, 2), (-1, 0)):
        with pytest.raises(ValueError, match="region"):
            seen.switching_rate(*wrong)
    one = fps.Autocorrelation([0.0, 1.0], [[[2.0]], [[0.0]]], np.full((2, 1, 1), np.nan), np.empty((0, 2, 1)), [0.0], [0])
    assert one.integrated_time(window=1.0).stderr == math.inf
    for more in ({"component": 1}, {"window": 0.0}):
        with pytest.raises(ValueError, match="integrated_time"):
            one.integrated_time(**more)


def test_intervals_of_few_trajectories_cover():
    """Three trajectories: 95 % intervals of tau (100 runs) and of a fraction (300 triples) cover.

    value +- 1.96 stderr does in 81 %. Each share is asserted within 4 standard deviations.
    """
    well = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.5))
    common = {"t": 100.0, "dt": 0.1, "t_burn": 5.0, "threads": 1}
    runs = (fps.simulate(well, [0.0], save="autocorrelation", lags=7.0, every=2, n=3, seed=i, **common) for i in range(100))
    taus = [r.autocorrelation.integrated_time() for r in runs]
    right = fps.Region.halfspace([-1.0], 0.0)
    all_ = fps.simulate(well, [0.0], save="occupation", regions=[right], n=900, seed=1, **common).occupation
    names = ("inside", "exits", "after", "switches")

    def part(lo, hi):
        return dataclasses.replace(all_, **{name: getattr(all_, name)[lo:hi] for name in names}).fraction(0)

    shares = [part(i, i + 3) for i in range(0, 900, 3)]
    for found, exact in ((taus, 0.1 * 1.81 / 0.19), (shares, 0.5)):
        covered = np.mean([e.interval[0] < exact < e.interval[1] for e in found])
        assert covered > 0.95 - 4 * math.sqrt(0.95 * 0.05 / len(found)), covered
    assert part(0, 1).interval is None
