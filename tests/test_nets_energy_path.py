"""nets.minimum_energy_path: known saddles and barriers, minimum action paths, closed forms; and SGD along it."""

import numpy as np
import pytest
from scipy.integrate import quad

import fpsolve as fps
import nets
from nets._along_path import over_the_top
from nets._string import Curve

DISC = nets.load_data("disc", n=1000, seed=1).subset(30)
TANH = nets.MLP((2, 6, 1), activation="tanh", loss="mse", weight_decay=1e-3)
SAMPLES = DISC.x_train, DISC.y_train
#: Minima (-1, 0) and (1, 0), a saddle of height 1 at (0, 1), which a straight line misses.
BENT = fps.Potential.from_expression("(x**2 - 1)**2 + 4*(y + x**2 - 1)**2", "x y")


def test_mueller_brown():
    """Two saddles and the minimum between them, by Newton's method on the gradient: places, heights, and the stated error."""
    U = fps.potentials.mueller_brown()
    known = U.critical_points([(-1.5, 1.2), (-0.2, 2.0)])
    minima = sorted((c for c in known if c.kind == "minimum"), key=lambda c: c.value)
    saddles = sorted((c for c in known if c.kind == "saddle"), key=lambda c: c.x[0])
    band = nets.landscape_path(U, minima[0].x, minima[1].x, images=33)
    assert len(band.tops) == 2
    for s, saddle in zip(band.tops, saddles, strict=True):
        np.testing.assert_allclose(band.at(s)[0][0], saddle.x, atol=0.02)
    excess = band.top[1] - max(c.value for c in saddles)
    assert -1e-3 < excess <= band.error + 1e-3  # of a barrier of 106: the highest point is interpolated
    np.testing.assert_allclose(band.barriers, [band.top[1] - minima[0].value, band.top[1] - minima[1].value], rtol=1e-9)
    inside = band.loss[(band.s > band.tops[0]) & (band.s < band.tops[1])].min()
    assert inside == pytest.approx(minima[2].value, abs=0.3)


@pytest.mark.parametrize("images", [9, 17, 33])
def test_a_bent_valley(images):
    band = nets.landscape_path(BENT, [-1.0, 0.0], [1.0, 0.0], images=images)
    assert band.converged or images == 9  # the spline through 9 images is not straighter than the tolerance
    assert abs(band.barriers - 1.0).max() <= band.error + 1e-3
    assert np.hypot(*(band.at(band.top[0])[0][0] - [0.0, 1.0])) < 0.05
    assert band.straight.max() == pytest.approx(5.0)
    assert len(band.tops) == 1
    assert abs(band.change) < 0.05


def test_twice_the_images_are_closer():
    """The path on which the gradient runs along it, x' = -U_x, y' = -U_y, from the saddle down: integrated apart."""
    from scipy.integrate import solve_ivp

    start = np.array([1e-3, 1.0 - 1e-6 * 16.0 / 24.0])
    flow = solve_ivp(lambda t, z: -BENT.grad(z), (0.0, 6.0), start, rtol=1e-10, atol=1e-12, dense_output=True)
    exact = flow.sol(np.linspace(0.0, 6.0, 20_000)).T
    worst = []
    for images in (9, 17, 33):
        band = nets.landscape_path(BENT, [-1.0, 0.0], [1.0, 0.0], images=images, tolerance=1e-5, max_steps=300)
        points = band.images[images // 2 + 1 : -1]
        worst.append(max(np.min(np.hypot(*(exact - p).T)) for p in points))
    assert worst[1] < 0.5 * worst[0]
    assert worst[2] < 0.5 * worst[1]


def test_against_the_minimum_action_path():
    """With white noise of strength D the action from a minimum over the saddle is the barrier over D."""
    band = nets.landscape_path(BENT, [-1.0, 0.0], [1.0, 0.0], images=33)
    path = fps.minimum_action_path(fps.Process(BENT, fps.Noise.isotropic(0.5)), [-1.0, 0.0], [1.0, 0.0])
    assert path.action.value == pytest.approx(band.barriers[0] / 0.5, rel=2e-3)
    np.testing.assert_allclose(path.saddles, band.at(band.tops)[0], atol=0.02)
    assert path.length == pytest.approx(band.length, rel=0.01)


@pytest.mark.parametrize("dim", [1, 2, 10])
def test_double_wells(dim):
    """(x_1^2 - 1)^2 + |the others|^2/2, whatever the number of the others: barrier 1."""
    U = fps.potentials.double_well(dim)
    a = np.zeros(dim)
    a[0] = 1.0
    noisy = -a + np.linspace(0, 2, 9)[:, None] * a + 0.2 * np.random.default_rng(0).standard_normal((9, dim)) * (a == 0)
    band = nets.landscape_path(U, -a, a, initial=noisy)
    assert band.converged
    np.testing.assert_allclose(band.barriers, 1.0, atol=1e-4 + band.error)
    assert band.error < 1e-3


def coupled_well(amplitude, decades):
    """2 (w_1^2 - 1)^2 + sum_i S_i (w_i - A_i (1 - w_1^2))^2/2 in 6 turned coordinates: minima w_1 = -+1, one saddle, 2 high."""
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))
    stiff, bend = np.logspace(0, decades, 5), amplitude * np.arange(1, 6) / 5.0

    def value(x):
        w = x @ q
        return 2.0 * (w[:, 0] ** 2 - 1.0) ** 2 + 0.5 * (w[:, 1:] - bend * (1.0 - w[:, :1] ** 2)) ** 2 @ stiff

    def gradient(x):
        w = x @ q
        d = (w[:, 1:] - bend * (1.0 - w[:, :1] ** 2)) * stiff
        first = 8.0 * w[:, 0] * (w[:, 0] ** 2 - 1.0) + 2.0 * w[:, 0] * (d @ bend)
        return np.column_stack([first, d]) @ q.T

    return fps.Potential.from_arrays(value, gradient, dim=6), q[:, 0]


@pytest.mark.parametrize("amplitude, decades", [(0.8, 0), (0.8, 2), (0.8, 4), (2.0, 2), (2.0, 4)])
def test_the_error_covers_what_a_path_is_too_high(amplitude, decades):
    """Also far from relaxed, where a bent valley of condition number 1e4 makes it 600 times the barrier."""
    potential, e = coupled_well(amplitude, decades)
    for images, tolerance in ((5, 1e-1), (17, 1e-1), (9, 1e-2), (33, 1e-3)):
        band = nets.landscape_path(potential, -e, e, images=images, tolerance=tolerance)
        excess = band.barriers.max() - 2.0
        assert -1e-9 <= excess <= band.error + 1e-9
        assert band.error <= 1.1 * excess + 1e-6  # the plane across the top passes the saddle, by symmetry


@pytest.mark.parametrize("images, steps", [(5, 5), (9, 20), (17, 5), (17, 200)])
def test_where_minima_are_degenerate_only_the_bound_is_known(images, steps):
    """The valley of (xy - 1)^2/2 has no barrier at all, and the error is all that was found of one."""
    valley = fps.Potential.from_arrays(
        lambda x: 0.5 * (x[:, 0] * x[:, 1] - 1.0) ** 2, lambda x: (x[:, 0] * x[:, 1] - 1.0)[:, None] * x[:, ::-1], dim=2
    )
    band = nets.landscape_path(valley, [0.25, 4.0], [4.0, 0.25], images=images, max_steps=steps)
    assert band.barriers.max() > 0.0
    assert band.error == pytest.approx(band.barriers.max(), rel=1e-6)
    assert "upper bounds; nearby at most" in repr(band)


def test_a_slope_has_no_barrier_but_its_height():
    U = fps.Potential.from_expression("x + (y - 1)**2", "x y")
    band = nets.landscape_path(U, [0.0, 1.0], [2.0, 1.0])
    assert band.barriers == pytest.approx([2.0, 0.0], abs=1e-12)
    assert (band.error, len(band.tops)) == (0.0, 0)


def test_curve_of_a_circle():
    """Lengths and unit tangents of points on half a circle."""
    angle = np.linspace(0, np.pi, 33)
    curve = Curve(np.column_stack([np.cos(angle), np.sin(angle)]))
    assert curve.length == pytest.approx(np.pi, rel=1e-5)
    points, tangents = curve(np.linspace(0, curve.length, 50))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose((points * tangents).sum(axis=1), 0.0, atol=2e-3)
    np.testing.assert_allclose(np.diff(np.unwrap(np.arctan2(points[:, 1], points[:, 0]))), np.pi / 49, rtol=1e-3)


@pytest.fixture(scope="module")
def band():
    ends = [nets.find_minimum(TANH, TANH.init(seed), *SAMPLES, loss=0.2, method="l-bfgs").theta for seed in (0, 1)]
    return nets.minimum_energy_path(TANH, *ends, *SAMPLES, images=9, max_steps=60)


def test_between_networks(band):
    """Losses and slopes are those of the networks there; the path is lower than the line, and its ends have one loss."""
    points, tangents = band.at(band.s)
    np.testing.assert_allclose(band.loss, [TANH.loss(p, *SAMPLES) for p in points], rtol=1e-10)
    np.testing.assert_allclose(
        band.slope, [t @ TANH.gradient(p, *SAMPLES) for p, t in zip(points, tangents, strict=True)], atol=1e-12
    )
    lines = band.images[0] + np.linspace(0, 1, len(band.s))[:, None] * (band.images[-1] - band.images[0])
    np.testing.assert_allclose(band.straight, [TANH.loss(p, *SAMPLES) for p in lines], rtol=1e-10)
    assert band.top[1] < 0.5 * band.straight.max()
    assert band.barriers[0] == pytest.approx(band.barriers[1], abs=1e-8)
    assert 0.0 <= band.error <= band.barriers.max()
    s = np.linspace(0.1, band.length - 0.1, 37)
    step = band.at(s + 1e-3)[0] - band.at(s - 1e-3)[0]
    np.testing.assert_allclose(step / np.linalg.norm(step, axis=1, keepdims=True), band.at(s)[1], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(step, axis=1), 2e-3, rtol=2e-3)


def test_noise_along_the_path(band):
    """D = lr t^T C t/(2 B) with the covariance as a matrix; the drift is minus the slope."""
    process = band.process(TANH, *SAMPLES, lr=0.2, batch=5)
    points, tangents = band.at(band.s)
    for i in (0, 20, 41, 64):
        C = nets.gradient_covariance(TANH, points[i], *SAMPLES)
        exact = 0.2 * tangents[i] @ C @ tangents[i] / 10.0
        assert process.diffusion([band.s[i]])[0, 0] == pytest.approx(exact, rel=1e-9)
        assert process.drift([band.s[i]])[0] == pytest.approx(-band.slope[i], abs=1e-12)


def test_noise_is_sampled_until_times_settle(band):
    """ln of a time up the path, 1838, to 1 %: against 128 points in each segment; with the 8 of the losses it is 7 % off."""
    settings, logs = {"lr": 0.01, "batch": 1}, []

    def log_time(process):
        return fps.theory.mean_first_passage_1d(process, 0.98 * band.length, 0.0, reflecting=band.length).log_value

    for points in (8, 128):
        s = np.linspace(0.0, band.length, points * 8 + 1)
        jets = [nets.Landscape(TANH, p, *SAMPLES).section(t).jets()[1] for p, t in zip(*band.at(s), strict=True)]
        noise = fps.Noise.covariance(np.array([g.var() for g in jets])[:, None, None], axes=[s], **settings)
        logs.append(log_time(fps.Process.tabulated(s, [-g.mean() for g in jets], noise)))
    assert log_time(band.process(TANH, *SAMPLES, **settings)) == pytest.approx(logs[1], rel=0.01)
    assert logs[0] < 0.95 * logs[1]


#: Two wells of different depth, the valley four times as stiff at the right end, the top between: a factor for the width.
UNEVEN = fps.Potential.from_expression("(x**2 - 1)**2 + 0.1*x + (2.5 + 1.5*x)*y**2", "x y")


@pytest.mark.parametrize("last", [False, True])
def test_rate_over_the_top_is_that_of_kramers(last):
    """White noise: the rate along the path with the factor for the width is Eyring and Kramers' in both dimensions, for D to 0.

    As half of a valley is taken for the whole, what is left goes with the root of D.
    """
    found = UNEVEN.critical_points([(-1.5, 1.5), (-1.0, 1.0)])
    left, right = sorted((c for c in found if c.kind == "minimum"), key=lambda c: c.x[0])
    (saddle,) = (c for c in found if c.kind == "saddle")
    band = nets.landscape_path(UNEVEN, left.x, right.x, images=33, tolerance=1e-6)
    bottom, start = (band.length, right) if last else (0.0, left)
    low, high = (UNEVEN.hess(c.x)[1:, 1] for c in (start, saddle))
    off = []
    for D in (0.04, 0.02):
        process = fps.Process.tabulated(band.s, -band.slope, fps.Noise.isotropic(D))
        rate = over_the_top(process, bottom, band.top[0], low, high)
        exact = fps.theory.kramers_rate(fps.Process(UNEVEN, fps.Noise.isotropic(D)), start.x, saddle.x)
        off.append(rate.log_value - exact.log_value)
        assert [a.status for a in rate.assumptions] == ["held"] * 3
    assert abs(off[1]) < 0.06 < abs(0.5 * np.log(low[0] / high[0]))
    assert abs(np.sqrt(2.0) * off[1] - off[0]) < 0.01


@pytest.fixture(scope="module")
def bump():
    """One tanh unit climbs or descends a bump: minima of losses 0.421 and 0.445, and a saddle at 0.450."""
    mlp, x = nets.MLP((1, 1, 1), activation="tanh", loss="mse", weight_decay=0.02), np.linspace(-1.5, 1.5, 12)[:, None]
    y = np.where(np.abs(x) < 0.6, 1.0, -1.0) + 0.05 * x
    how = {"loss": 1e-9, "method": "l-bfgs", "strict": False}
    ends = [nets.find_minimum(mlp, [w, 1.2, 0.5, -0.6], x, y, **how).theta for w in (1.0, -1.0)]
    return mlp, x, y, nets.minimum_energy_path(mlp, *ends, x, y)


@pytest.mark.parametrize("end", ["first", "last"])
def test_escape_rate_of_a_network(bump, end):
    """Its parts, each found another way; the conditions know what is not so."""
    mlp, x, y, path = bump
    settings = {"lr": 0.05, "batch": 2}
    found = path.escape_rate(mlp, x, y, **settings, end=end)
    bottom = path.length if end == "last" else 0.0
    process = path.process(mlp, x, y, **settings)
    time = fps.theory.mean_first_passage_1d(process, bottom, path.top[0], reflecting=bottom)
    logs, shares = [], []
    for p, t in zip(*path.at([bottom, path.top[0]]), strict=True):
        across = np.linalg.svd(t[None])[2][1:]
        logs.append(np.linalg.slogdet(across @ nets.hessian(mlp, p, x, y) @ across.T)[1])
        C = nets.gradient_covariance(mlp, p, x, y)
        shares.append(t @ C @ t / (np.trace(C) / mlp.dim))
    assert found.log_value == pytest.approx(0.5 * (logs[0] - logs[1]) - time.log_value - np.log(4.0), rel=1e-9)
    assert (found.unit, found.lr, found.batch) == ("1/time", 0.05, 2)
    status = {a.name: a for a in found.assumptions}
    white = status["noise is alike in all directions"]
    assert white.status == "failed"
    assert f"{shares[0]:.3g} in the valley, {shares[1]:.3g} at the top" in white.detail
    assert [a.name for a in found.failed] == ["D changes little along the path", white.name]
    assert "FAILED: D changes little" in repr(found)
    assert found.per_iteration().log_value == pytest.approx(found.log_value + np.log(0.05))


def test_escape_rate_where_the_loss_is_flat_across(band):
    """Without widths there is no factor: the rate is the one on the line."""
    flat = over_the_top(
        band.process(TANH, *SAMPLES, lr=0.5, batch=1), band.length, 0.9 * band.length, np.array([0.0, 1.0]), np.ones(2)
    )
    process = band.process(TANH, *SAMPLES, lr=0.5, batch=1)
    time = fps.theory.mean_first_passage_1d(process, band.length, 0.9 * band.length, reflecting=band.length)
    assert flat.log_value == pytest.approx(-time.log_value - np.log(4.0), rel=1e-12)
    (curved,) = (a for a in flat.assumptions if a.name == "the loss curves up in all directions across")
    assert curved.status == "failed" and "1 directions of the valley and 0 at the top" in curved.detail
    with pytest.raises(ValueError, match="end must be 'first' or 'last': got 'middle'"):
        band.escape_rate(TANH, *SAMPLES, lr=0.1, batch=1, end="middle")
    with pytest.raises(ValueError, match="the highest point of the path is its first end"):
        band.escape_rate(TANH, *SAMPLES, lr=0.1, batch=1)


def test_curvatures_across(band):
    """Quadratic forms on vectors across the path lie between the lowest and the highest; their sum is the trace without t H t."""
    found = band.widths(TANH, *SAMPLES)
    assert found.shape == (3, TANH.dim - 1)
    for row, s in zip(found, (0.0, band.top[0], band.length), strict=True):
        (point,), (t,) = band.at(s)
        H = nets.hessian(TANH, point, *SAMPLES)
        assert row.sum() == pytest.approx(np.trace(H) - t @ H @ t, rel=1e-9)
        P = np.eye(len(t)) - np.outer(t, t)
        assert (row**2).sum() == pytest.approx(np.sum((P @ H @ P) ** 2), rel=1e-9)


def test_times_along_a_known_line():
    """One weight w, samples y = 2 x: loss 5 (w - 2)^2/4, derivatives (w - 2) x^2. Uphill from w = 2.5 to 4, by quadrature of D."""
    mlp, x = nets.MLP((1, 1), loss="mse"), np.array([[1.0], [2.0]])
    line = nets.minimum_energy_path(mlp, [2.2, 0.0], [4.0, 0.0], x, 2.0 * x, max_steps=0, images=65)
    process = line.process(mlp, x, 2.0 * x, lr=2.0, batch=1)

    def exponent(w):  # drift/D = -(5/2)(w - 2)/((9/4)(w - 2)^2): s(w) = -(10/9) ln(w - 2)
        return -10.0 / 9.0 * np.log(w - 2.0)

    def inner(w):
        return quad(lambda z: np.exp(exponent(z)) / (2.25 * (z - 2.0) ** 2), 2.2, w, epsabs=0, epsrel=1e-10)[0]

    exact = quad(lambda w: np.exp(-exponent(w)) * inner(w), 2.5, 4.0, epsabs=0, epsrel=1e-9)[0]
    found = fps.theory.mean_first_passage_1d(process, 0.3, 1.8, reflecting=0.0)
    assert found.value == pytest.approx(exact, rel=1e-2)  # D is linear between points: off by (1.8/512/0.2)^2/4 at most
    grid = fps.FokkerPlanck(process, fps.Grid((0.0, 1.8, 720)))
    assert grid.mean_exit_time(fps.Region.halfspace([1.0], 1.79999), at=[0.3]).value == pytest.approx(exact, rel=2e-2)


def test_a_tabulated_process():
    x = np.linspace(-1.0, 1.0, 5)
    drift = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    process = fps.Process.tabulated(x, drift, fps.Noise.isotropic(0.1))
    at = np.linspace(-2.0, 2.0, 41)
    np.testing.assert_allclose(process.drift(at[:, None])[:, 0], np.interp(at, x, drift), atol=1e-14)
    for nodes, values, message in (
        ([0.0, 1.0, 3.0], drift[:3], "equally spaced"),
        (x, drift[:4], r"each of the 5 points, got shape \(4,\)"),
        (x, drift * np.nan, "drift must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            fps.Process.tabulated(nodes, values, fps.Noise.isotropic(0.1))


A, B = TANH.init(0), TANH.init(1)
BAD = [
    ({"b": A}, ValueError, "a and b must be different points: they are 0 apart"),
    ({"b": np.ones(3)}, ValueError, r"must have shape \(25,\) .*: got \(3,\)"),
    ({"a": np.full(25, np.nan)}, ValueError, "a must be finite"),
    ({"images": 8}, ValueError, "images must be odd.*: got 8"),
    ({"images": 3}, ValueError, "images, the points of the path, must be an integer >= 5: got 3"),
    ({"tolerance": 0.0}, ValueError, "tolerance must be finite and above 0: got 0"),
    ({"max_steps": -1}, ValueError, "max_steps must be an integer >= 0: got -1"),
    ({"initial": np.ones((4, 3))}, ValueError, r"initial must be finite points of shape \(k, 25\).*: got shape \(4, 3\)"),
    ({"initial": np.ones((4, 25))}, ValueError, "initial must not have the same point twice"),
    ({"mlp": 3}, TypeError, "mlp must be a nets.MLP"),
    ({"y": np.ones(3)}, ValueError, "y must be 30 integer labels"),
    ({"progress": 1}, TypeError, "progress must be True or False: got 1"),
]


@pytest.mark.parametrize("change, error, message", BAD)
def test_bad_input(change, error, message):
    given = {"mlp": TANH, "a": A, "b": B, "x": SAMPLES[0], "y": SAMPLES[1], **change}
    with pytest.raises(error, match=message):
        nets.minimum_energy_path(**given)


def test_bad_landscapes(band):
    with pytest.raises(TypeError, match=r"potential must be a fpsolve\.Potential: got int"):
        nets.landscape_path(3, [0.0], [1.0])
    with pytest.raises(ValueError, match=r"b must be finite, of shape \(2,\)"):
        nets.landscape_path(BENT, [0.0, 0.0], [1.0])
    holes = fps.Potential.from_arrays(lambda x: np.where(np.abs(x[:, 0]) < 0.1, np.inf, 1.0), lambda x: 0.0 * x, dim=2)
    with pytest.raises(ValueError, match="finite on the initial path"):
        nets.landscape_path(holes, [-1.0, 0.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="s must be lengths from 0 to"):
        band.at(-1.0)
    with pytest.raises(ValueError, match="the path is one of 25 weights: got a network of 910"):
        band.process(nets.MLP((64, 12, 10), activation="tanh"), *SAMPLES, lr=0.1, batch=1)


def test_saved_shown_and_drawn(tmp_path):
    found = nets.landscape_path(BENT, [-1.0, 0.0], [1.0, 0.0], progress=True)
    found.save(tmp_path / "band.h5")
    again = nets.load(tmp_path / "band.h5")
    assert repr(again) == repr(found)
    assert again.images.tolist() == found.images.tolist()
    assert again.barriers.tolist() == found.barriers.tolist()
    ax = found.plot(label="one")
    assert ax.lines[0].get_ydata().tolist() == found.loss.tolist()
    assert "converged after" in repr(found)
