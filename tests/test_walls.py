"""Reflecting and periodic walls of paths, against series, closed forms, the Fokker-Planck engine, and single steps by hand.

``z_test`` asserts |z| < 4: a correct code fails one such number in 15 800.
"""

import math

import numpy as np
import pytest
from compiled import entry
from path_cases import z_test
from scipy import integrate

import fpsolve as fps
from fpsolve._kernels import langevin

fold, fold_low, fold_high, wrap = map(entry, (langevin.fold, langevin.fold_low, langevin.fold_high, langevin.wrap))
FLAT = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
TENSOR = [[0.6, 0.35], [0.35, 0.4]]


def triangle(y, low, high):
    """y mirrored at both walls as often as it takes."""
    u = np.mod(y - low, 2 * (high - low))
    return low + np.minimum(u, 2 * (high - low) - u)


# ---- the pieces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [-7.3, -1.0, -0.2, 0.0, 0.4, 1.0, 1.7, 2.5, 1e9 + 0.3])
def test_folds(y):
    low, high = -1.0, 0.5
    at, turn = fold(y, low, high)
    assert at == pytest.approx(triangle(y, low, high), abs=1e-15 + 2e-16 * abs(y)) and low <= at <= high
    assert turn == (-1.0 if not low <= y <= high and math.floor((y - low) / (high - low)) % 2 else 1.0)
    assert fold_low(y, low) == ((-2.0 - y, -1.0) if y < low else (y, 1.0))
    assert fold_high(y, high) == ((1.0 - y, -1.0) if y > high else (y, 1.0))
    at = wrap(y, low, high)
    assert low <= at <= high and math.remainder(at - y, 1.5) == pytest.approx(0.0, abs=1e-15 + 4e-16 * abs(y))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_state_that_blew_up_is_not_put_back(bad):
    assert math.isnan(fold(bad, 0.0, 1.0)[0]) and math.isnan(wrap(bad, 0.0, 1.0))
    assert not math.isfinite(fold_low(bad, 0.0)[0]) and not math.isfinite(fold_high(bad, 0.0)[0])


def one_step(process, x0, walls, **options):
    """States after one step with and without walls; the noise is the same."""
    run = {"t": 1, "seed": 3, "n": 500, **options}
    return fps.simulate(process, x0, walls=walls, **run).final, fps.simulate(process, x0, **run).final


def test_diagonal_noise_levy_noise_and_chains_are_folded():
    walls = [(0.0, 1.0, "reflecting"), (0.0, math.inf, "reflecting")]
    U = fps.potentials.quadratic(np.diag([1.0, 2.0]))
    for process, options in (
        (fps.Process(U, fps.Noise.constant(np.diag([0.3, 0.1]))), {"dt": 1.0}),
        (fps.Process(U, fps.Noise.levy(0.8, 0.5)), {"dt": 1.0}),
        (fps.SGDChain.gaussian(U, fps.Noise.constant([[0.3, 0.1], [0.1, 0.2]]), lr=0.5), {}),
    ):
        inside, free = one_step(process, [0.9, 0.1], walls, **options)
        out = (free[:, 0] < 0) | (free[:, 0] > 1) | (free[:, 1] < 0)
        assert out.sum() > 100 and np.array_equal(inside[~out], free[~out])
        expected = np.stack([triangle(free[:, 0], 0.0, 1.0), np.abs(free[:, 1])], axis=1)
        np.testing.assert_allclose(inside, expected, rtol=1e-9, atol=1e-9 + 1e-15 * np.abs(free).max())


def test_a_full_tensor_is_mirrored_along_the_conormal():
    process = fps.Process.from_drift(["0*x", "0*y"], fps.Noise.constant(TENSOR), variables="x y")
    inside, free = one_step(process, [0.2, 0.0], [(0.0, math.inf, "reflecting"), None], dt=0.25, t=0.25)
    beyond = np.minimum(free[:, :1], 0.0)
    np.testing.assert_allclose(inside, free - 2 * beyond * [1.0, 0.35 / 0.6], atol=1e-14)
    assert (beyond < 0).sum() > 100


def test_a_varying_tensor_is_taken_where_the_line_meets_the_wall():
    """The point of the wall b with y = b - s D(b) e_1/D_11(b), s > 0: found to second order in the distance to the wall."""
    slope = "0.3 + 0.4*sin(y)"
    noise = fps.Noise.from_expression([["1", slope], [slope, "1"]], variables="x y")
    process = fps.Process.from_drift(["0*x", "0*y"], noise, variables="x y")
    errors = []
    for dt in (0.04, 0.01):
        inside, free = one_step(process, [0.0, 0.5], [(0.0, math.inf, "reflecting"), None], dt=dt, t=dt, n=4000)
        out = free[:, 0] < 0
        gap, b = -free[out, 0], free[out, 1].copy()
        for _ in range(50):
            b = free[out, 1] + gap * (0.3 + 0.4 * np.sin(b))
        exact = free[out, 1] + 2 * gap * (0.3 + 0.4 * np.sin(b))
        errors.append(np.abs(inside[out, 1] - exact).mean())
        assert np.allclose(inside[out, 0], gap)
    assert errors[0] < 0.02 and math.log(errors[0] / errors[1], 4) == pytest.approx(1.5, abs=0.2)


def test_momenta_turn_around_and_periodic_coordinates_wrap():
    U = fps.Potential.from_expression("0*x + 0*y", "x y")
    free = fps.Underdamped(U, fps.Noise.isotropic(1e-12), friction=1e-6)
    walls = [(0.0, 1.0, "reflecting"), (0.0, 2.0, "periodic")]
    for method in ("baoab", "obabo", "gjf"):  # a billiard: straight lines between the walls
        end = fps.simulate(free, [0.3, 0.5, 0.7, -1.1], t=6.0, dt=0.05, n=1, seed=1, method=method, walls=walls).final[0]
        expected = [triangle(0.3 + 0.7 * 6, 0.0, 1.0), (0.5 - 1.1 * 6) % 2.0]
        np.testing.assert_allclose(end[:2], expected, atol=1e-4)
        assert end[2:] == pytest.approx([0.7, -1.1], abs=1e-4)  # 4.5: mirrored four times
    chain = fps.SGDChain.gaussian(fps.Potential.from_expression("-x"), fps.Noise.isotropic(0.0), lr=0.1, momentum=0.9)
    x, v, expected = 0.75, 0.0, []
    for _ in range(40):
        v = 0.9 * v - 1.0
        x -= 0.1 * v
        if x > 1.0:
            x, v = 2.0 - x, -v
        expected.append(x)
    path = fps.simulate(chain, [0.75], t=40, n=1, seed=1, walls=[(-9.0, 1.0, "reflecting")], save=np.arange(1, 41)).states
    np.testing.assert_allclose(path[:, 0, 0], expected, atol=1e-12)


# ---- laws -----------------------------------------------------------------------------------------------------------


def test_brownian_motion_between_walls_has_the_cosine_series():
    """E cos(k pi X) = cos(k pi x0) exp(-k^2 pi^2 D t): folding is exact without drift, at any step."""
    x = fps.simulate(FLAT, [0.2], t=0.25, dt=0.125, n=200_000, seed=1, walls=[(0.0, 1.0, "reflecting")]).final
    k = np.arange(1, 4)
    c = np.cos(np.pi * x * k)
    z_test(c.mean(axis=0), np.cos(0.2 * np.pi * k) * np.exp(-0.125 * (k * np.pi) ** 2), c.std(axis=0) / math.sqrt(len(x)))


def test_weak_order_one_with_mass_at_the_wall():
    """Drift -1 onto a wall at 0, D = 1/2: exp(-2 x), mean 1/2. Extrapolated in dt it is right, and the order is one."""
    process = fps.Process.from_drift("-1 + 0*x", fps.Noise.isotropic(0.5))
    walls, n = [(0.0, math.inf, "reflecting")], 200_000
    bias = [fps.simulate(process, [0.3], t=8.0, dt=dt, n=n, seed=2, walls=walls).final.mean() - 0.5 for dt in (0.4, 0.2, 0.1)]
    error = 0.5 / math.sqrt(n)
    assert math.log2(bias[0] / bias[1]) == pytest.approx(1.0, abs=0.1)
    z_test((bias[0] - 6 * bias[1] + 8 * bias[2]) / 3, 0.0, error * math.sqrt(101) / 3)


def wedge_law(process, walls, dt, n=100_000, **options):
    """Means of x, y and of the mass within 0.1 of each wall of the unit square, with their errors."""
    x, y = fps.simulate(process, [0.5, 0.5], dt=dt, n=n, seed=4, walls=walls, **options).final.T
    seen = np.stack([x, y, x < 0.1, x > 0.9, y < 0.1, y > 0.9])
    return seen.mean(axis=1), seen.std(axis=1) / math.sqrt(n)


@pytest.mark.parametrize("varying", [False, True])
def test_detailed_balance_in_a_square_with_a_full_tensor(varying):
    """exp(-Phi) on the square, whatever D(x) is: so says no flux through the walls, and so say paths mirrored along D n only."""
    rows = [["0.6", "0.35*cos(2*x*y)"], ["0.35*cos(2*x*y)", "0.4 + 0.2*x"]] if varying else TENSOR
    noise = fps.Noise.from_expression(rows, variables="x y") if varying else fps.Noise.constant(TENSOR)
    process = fps.Process.reversible(fps.Potential.from_expression("2*x - y", "x y"), noise)
    grid = fps.Grid((0.0, 1.0, 10), (0.0, 1.0, 10))

    def law(a):  # exp(-a x): mean, mass below 0.1 and above 0.9
        Z = -math.expm1(-a) / a
        mean = integrate.quad(lambda x: x * math.exp(-a * x), 0, 1)[0] / Z
        return mean, -math.expm1(-0.1 * a) / a / Z, (math.exp(-0.9 * a) - math.exp(-a)) / a / Z

    (x, x0, x1), (y, y0, y1) = law(2.0), law(-1.0)
    exact = np.array([x, y, x0, x1, y0, y1])
    (coarse, _), (fine, error) = (wedge_law(process, grid, dt, t=3.0) for dt in (0.01, 0.005))
    assert np.all(np.abs(2 * fine - coarse - exact) < 4 * math.sqrt(5) * error + 1e-3), (coarse, fine, exact)


def test_plain_folding_would_be_wrong():
    """The same tensor in a chain, whose steps are folded: far from the no-flux law even at a small step, which paths have."""
    U, dt = fps.Potential.from_expression("0*x + 0*y", "x y"), 0.0025
    noise, grid = fps.Noise.constant(TENSOR), fps.Grid((0.0, 1.0, 10), (0.0, 1.0, 10))
    chain = fps.simulate(fps.SGDChain.gaussian(U, noise, lr=dt), [0.5, 0.5], t=800, n=50_000, seed=5, walls=grid).final
    paths = fps.simulate(fps.Process(U, noise), [0.5, 0.5], t=2.0, dt=dt, n=50_000, seed=5, walls=grid).final
    error = 1 / 12 / math.sqrt(50_000)
    product = [np.mean((x[:, 0] - 0.5) * (x[:, 1] - 0.5)) for x in (paths, chain)]
    z_test(product[0], 0.0, error)
    assert product[1] > 20 * error  # the density is uniform, the folded one is not


@pytest.mark.parametrize("dt", [0.02, 0.01])
def test_mean_velocity_round_a_tilted_washboard(dt):
    """v = L J, J = D (1 - exp(-f L/D))/int int exp((V(y) - V(x))/D) (Stratonovich): mean of the drift over the wrapped states."""
    D, f, L = 0.3, 0.7, 2 * np.pi
    V = lambda x: 0.8 * np.cos(x) - f * x  # noqa: E731
    inner = lambda x: integrate.quad(lambda y: np.exp((V(y) - V(x)) / D), x, x + L, epsabs=1e-12)[0]  # noqa: E731
    exact = L * D * (1 - np.exp(-f * L / D)) / integrate.quad(inner, 0, L, epsabs=1e-10)[0]
    process, n = fps.Process.from_drift("f + 0.8*sin(x)", fps.Noise.isotropic(D), params={"f": f}), 40_000
    x = fps.simulate(process, [1.0], t=16.0, dt=dt, n=n, seed=6, walls=[(0.0, L, "periodic")]).final
    assert x.min() >= 0.0 and x.max() <= L
    b = f + 0.8 * np.sin(x[:, 0])
    # the step error was a relative 0.02 dt with a million paths at dt = 0.4: below a tenth of the standard error here
    z_test(b.mean(), exact, b.std() / math.sqrt(n))


@pytest.mark.parametrize(("method", "order"), [("baoab", 2.0), ("obabo", 2.0)])
def test_inertia_keeps_its_order_at_a_wall(method, order):
    """Gravity on a reflecting floor: <x> = T/(m g) = 1/2 whatever the friction; velocities are turned where the position moves."""
    process = fps.Underdamped(fps.Potential.from_expression("x"), fps.Noise.isotropic(0.5), friction=1.0)
    walls = [(0.0, math.inf, "reflecting")]
    bias = [
        fps.simulate(process, [0.3], t=16.0, dt=dt, n=200_000, seed=7, method=method, walls=walls).final[:, 0].mean() - 0.5
        for dt in (0.8, 0.4)
    ]
    assert math.log2(bias[0] / bias[1]) == pytest.approx(order, abs=0.3), bias


# ---- exits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("region", "dt", "exact"), [
    (fps.Region.halfspace([1.0], 1.0), 0.04, 1.0 - 0.3**2),  # mirrored at 0
    (fps.Region.box([-0.05], [1.0]), 0.01, 1.0 - 0.3**2),  # the region ends just behind the wall, which is not passed
    (fps.Region.box([0.0], [1.0]), 0.04, 0.3 * 0.7),  # and at the wall: meeting it is leaving
])  # fmt: skip
def test_exit_of_brownian_motion_with_a_reflecting_side(region, dt, exact):
    out = fps.escape_times(FLAT, [0.3], region, n=60_000, dt=dt, seed=8, walls=[(0.0, 2.0, "reflecting")])
    z_test(out.times.mean(), exact, out.times.std() / math.sqrt(out.times.size))
    assert np.all(np.isin(out.exit_points.round(9), [0.0, 1.0]))


def test_exit_with_a_full_tensor_agrees_with_the_equation():
    """Unit square, exit through x = 1, the other sides reflecting along D n: mean exit time from both engines."""
    process = fps.Process(fps.Potential.from_expression("-0.5*x + y", "x y"), fps.Noise.constant(TENSOR))
    region = fps.Region.halfspace([1.0, 0.0], 1.0)
    fields = [
        fps.FokkerPlanck(process, fps.Grid((0, 1, n), (0, 1, n))).mean_exit_time(region, at=[0.3, 0.2]).value for n in (40, 80)
    ]
    grid = fps.Grid((0, 1.2, 4), (0, 1, 4))
    runs = [fps.escape_times(process, [0.3, 0.2], region, n=60_000, dt=dt, seed=9, walls=grid).mean() for dt in (0.008, 0.004)]
    error = math.hypot(2 * runs[1].stderr, runs[0].stderr)
    assert abs(2 * runs[1].value - runs[0].value - fields[1]) < 4 * error + 2 * abs(fields[1] - fields[0]), (runs, fields)


def test_exit_through_the_seam_of_a_ring():
    """phi < 0.8 on a ring of length 1: the seam is an exit, tested at the ends of steps only, so it seems 0.5826 sqrt(dt) away."""
    out = fps.escape_times(
        FLAT, [0.3], fps.Region.halfspace([1.0], 0.8), n=60_000, dt=1e-3, seed=10, walls=[(0.0, 1.0, "periodic")]
    )
    seam = 0.3 + 0.5826 * math.sqrt(1e-3)
    z_test(out.times.mean(), seam * 0.5, out.times.std() / math.sqrt(out.times.size))
    assert np.all(np.isin(out.exit_points.round(9), [0.8, 1.0]))


def test_exit_round_a_ring():
    """From 0.3 to 0.65 upwards or 0.95 downwards, through the seam: 0.35 either way, mean 0.35^2; g is seen alike in every turn."""
    region = fps.Region.from_expression("cos(2*pi*(x - 0.8)) - cos(0.3*pi)")
    out = fps.escape_times(FLAT, [0.3], region, n=20_000, dt=2e-4, seed=11, walls=[(0.0, 1.0, "periodic")])
    z_test(out.times.mean(), 0.35**2, out.times.std() / math.sqrt(out.times.size))
    z_test(np.mean(np.abs(out.exit_points - 0.65) < 1e-6), 0.5, 0.5 / math.sqrt(out.times.size))
    # a step across the seam that ends outside has its exit there
    assert np.all(out.exit_points >= 0.0) and np.mean(np.isin(out.exit_points.round(9), [0.65, 0.95])) > 0.999


def test_a_jump_to_an_exit_beyond_a_wall_is_an_exit_and_any_other_is_put_back():
    """Without bridge, as for a chain on a grid; by hand from the steps without walls and region."""
    U, lr, n = fps.potentials.quadratic([[1.0]]), 0.5, 2000
    chain = fps.SGDChain.gaussian(U, fps.Noise.isotropic(1.0), lr=lr)
    walls, region = [(-0.5, math.inf, "reflecting")], fps.Region.box([-1.5], [1.2])
    free = fps.simulate(chain, [0.1], t=1, n=n, seed=12).final[:, 0]
    out = fps.escape_times(chain, [0.1], region, n=n, t_max=1, seed=12, walls=walls)
    folded = np.where(free < -0.5, -1.0 - free, free)
    left = (free <= -1.5) | (free >= 1.2) | (folded >= 1.2)
    assert np.array_equal(~out.censored, left) and left.sum() > 200
    assert np.array_equal(out.exit_points[left, 0], free[left])


# ---- same bits, refusals --------------------------------------------------------------------------------------------


def test_same_bits_on_any_threads_and_chunks():
    noise = fps.Noise.from_expression([["0.6", "0.35*cos(x*y)"], ["0.35*cos(x*y)", "0.4"]], variables="x y")
    process = fps.Process(fps.Potential.from_expression("x - y", "x y"), noise)
    grid, run = fps.Grid((0, 1, 8), (-1, 1, 8), boundary=["reflecting", "periodic"]), {"n": 700, "dt": 0.02, "seed": 13}
    region = fps.Region.halfspace([1.0, 0.2], 0.9)
    one = fps.simulate(process, [0.3, 0.3], t=1.0, walls=grid, threads=1, save="histogram", bins=grid, t_burn=0.5, **run)
    out = fps.escape_times(process, [0.3, 0.3], region, walls=grid, threads=1, **run)
    assert one.histogram.cell_mass.sum() == pytest.approx(1.0)
    for split in ({"threads": 2}, {"threads": 2, "chunk": 100}, {"threads": 1, "chunk": 257}):
        same = fps.simulate(process, [0.3, 0.3], t=1.0, walls=grid, save="histogram", bins=grid, t_burn=0.5, **split, **run)
        assert np.array_equal(one.final, same.final) and np.array_equal(one.histogram.values, same.histogram.values)
        other = fps.escape_times(process, [0.3, 0.3], region, walls=grid, **split, **run)
        assert np.array_equal(out.times, other.times) and np.array_equal(out.exit_points, other.exit_points)


def test_walls_that_are_never_met_change_nothing():
    process = fps.Process(fps.potentials.double_well(2), fps.Noise.constant(TENSOR))
    run = {"t": 1.0, "dt": 0.01, "n": 100, "seed": 14}
    far = fps.Grid((-50, 50, 4), (-50, 50, 4))
    assert np.array_equal(fps.simulate(process, [0, 0], **run).final, fps.simulate(process, [0, 0], walls=far, **run).final)


@pytest.mark.parametrize(("walls", "match"), [
    (fps.Grid((0, 1, 4), boundary="absorbing"), "absorbing side.*region of escape_times"),
    ([(0.0, 1.0, "reflected")], "did you mean 'reflecting'"), ([(0.0, 1.0, ("periodic", None))], "periodic on one side only"),
    ([(0.0, math.inf, "periodic")], "both ends must be finite"), ([(1.0, 0.0, "reflecting")], "lo < hi"),
    ([None, None], "must have 1 axes, got 2"), ([(0.0, 1.0)], r"None or \(lo, hi, kind\)"),
    ([(0.0, 1.0, ("reflecting",) * 3)], "one name or a pair"), ([(0.3, 1.0, "reflecting")], r"x0 = \[0.2\] is outside the walls"),
])  # fmt: skip
def test_refusals(walls, match):
    with pytest.raises(ValueError, match=match):
        fps.simulate(FLAT, [0.2], t=1.0, dt=0.1, n=10, walls=walls)


def test_refusals_of_other_kinds():
    with pytest.raises(TypeError, match="walls must be a Grid"):
        fps.simulate(FLAT, [0.2], t=1.0, dt=0.1, n=10, walls="reflecting")
    data = fps.Ensemble.from_expression("(theta - x)**2/2", "theta", {"x": np.array([0.1, 0.5])})
    chain = fps.SGDChain(data, lr=0.1, batch=1)
    with pytest.raises(ValueError, match="walls are refused for SGD on sample losses"):
        fps.simulate(chain, [0.2], t=10, n=10, walls=[(0.0, 1.0, "reflecting")])
    linear = fps.Process(fps.potentials.quadratic(np.eye(17)), fps.Noise.isotropic(0.1))
    with pytest.raises(ValueError, match="walls are put around processes of up to 16 dimensions"):
        fps.simulate(linear, np.zeros(17), t=1.0, dt=0.1, n=10, walls=[(-1.0, 1.0, "reflecting")] * 17)


# ---- components across a seam ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chain", "Levy", "chain in the plane"])
@pytest.mark.parametrize("start", [0.05, 0.95])
def test_a_component_goes_on_behind_the_seam(kind, start):
    """One well around the seam of a circle: with `containing` the region is the same, so the paths are, to the last bit."""
    text, variables, walls, x0 = "-cos(2*pi*x)/(4*pi**2)", "x", [(0.0, 1.0, "periodic")], [start]
    if kind == "chain in the plane":
        text, variables, walls, x0 = text + " + y**2/2", "x y", [*walls, None], [start, 0.0]
    U = fps.Potential.from_expression(text, variables)
    levy = fps.Process(U, fps.Noise.levy(1.5, 0.05)) if kind == "Levy" else None
    process = levy or fps.SGDChain.gaussian(U, fps.Noise.isotropic(0.02), 0.1)
    regions = [fps.Region.sublevel(U, 0.0, containing=c) for c in (None, [1.01] + [0.0] * (U.dim - 1))]
    options = {"dt": 0.05} if levy else {}
    whole, one = (fps.escape_times(process, x0, r, n=300, seed=1, walls=walls, **options) for r in regions)
    assert np.array_equal(whole.times, one.times) and np.array_equal(whole.exit_points, one.exit_points)
    assert np.any(np.abs(whole.times) > whole.times.min())


def test_another_well_of_the_circle_is_still_another():
    """Two wells per turn: a start in the other one is refused, and landing there is an exit, which makes the exits earlier."""
    U = fps.Potential.from_expression("-cos(4*pi*x)/(16*pi**2)")
    walls, both, one = [(0.0, 1.0, "periodic")], *(fps.Region.sublevel(U, 0.004, containing=c) for c in (None, [0.98]))
    chain = fps.SGDChain.gaussian(U, fps.Noise.isotropic(0.2), 0.1)
    with pytest.raises(ValueError, match="cannot be shown to lie in the component"):
        fps.escape_times(chain, [0.5], one, n=10, seed=1, walls=walls)
    whole, apart = (fps.escape_times(chain, [0.01], r, n=500, seed=1, walls=walls) for r in (both, one))
    assert np.all(apart.times <= whole.times) and apart.times.mean() < 0.9 * whole.times.mean()
    landed = (apart.exit_points[:, 0] > 0.3) & (apart.exit_points[:, 0] < 0.7)  # in or next to the other well
    assert landed.mean() > 0.1
