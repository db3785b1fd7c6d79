"""Ensembles in parts: trajectories first ... first + n - 1 have the bits that they have in one call for all."""

import numpy as np
import pytest
from path_cases import FULL, WELL, Quadratic, double_well
from wide_cases import low_rank, wells

import fpsolve as fps
from fpsolve._kernels.rng import stream_normals
from fpsolve._runner import SAMPLER_BLOCK
from fpsolve._sgd import stream_entropy

N = 700
#: Whole blocks of lanes would hide a lane that knows its place: the parts begin and end inside them, and one is a single path.
CUTS = (0, 130, 131, N)


def linear(dim=11):
    H = np.diag(np.arange(1.0, dim + 1.0)) + 0.1
    return fps.Process(fps.potentials.quadratic(H), fps.Noise.constant(0.1 * np.eye(dim) + 0.02))


def scheduled():
    U, noise = fps.potentials.double_well(), fps.Noise.covariance([[8.1]], 0.1)
    return fps.SGDChain.gaussian(U, noise, lambda k: 0.07 + 0.03 * np.sin(k), 0.5, batch=lambda k: 1 + k % 3)


def samples(**options):
    ensemble = fps.Ensemble.from_expression("(x - a)**2/2", "x", {"a": np.random.default_rng(5).standard_normal(40)})
    return fps.SGDChain(ensemble, **{"lr": 0.1, "batch": 4, **options})


def levy():
    return fps.Process(fps.potentials.quadratic(np.diag([1.0, 2.0, 3.0])), fps.Noise.levy(1.3, 0.5, isotropic=True))


def wide():
    return fps.Process(wells(18), fps.Noise.low_rank(*low_rank(18)))


def rows(dim):
    """Individual starts for all trajectories, cut by the test."""
    return 0.1 * np.random.default_rng(1).standard_normal((N, dim))


def normal(dim):
    return lambda rng, n: 0.1 * rng.standard_normal((n, dim))


def parts(run, x0, **options):
    """Results of the parts between the cuts; of individual starts each gets its own."""
    own = isinstance(x0, np.ndarray) and x0.ndim == 2
    return [run(x0[a:b] if own else x0, first=a, n=b - a, **options) for a, b in zip(CUTS, CUTS[1:], strict=False)]


SIMULATIONS = {
    "one dimension": (double_well, rows(1), {"t": 0.5, "dt": 0.01, "save": [0.1, 0.5]}),
    "full tensor": (lambda: fps.Process(WELL, FULL), normal(2), {"t": 0.3, "dt": 0.01}),
    "three dimensions of jumps": (levy, [0.0] * 3, {"t": 1.0, "dt": 0.05}),
    "inertia": (lambda: fps.Underdamped(fps.potentials.double_well(), fps.Noise.isotropic(0.4), friction=1.0), normal(1),
                {"t": 2.0, "dt": 0.05}),
    "single precision": (double_well, rows(1), {"t": 1.0, "dt": 0.01, "precision": "single"}),
    "walls": (double_well, normal(1), {"t": 1.0, "dt": 0.01, "walls": [(-0.3, 0.4, "reflecting")]}),
    "driven": (lambda: fps.Driven(double_well(), noise=lambda t: 1.0 + t), [0.1], {"t": 0.5, "dt": 0.01}),
    "matrix": (linear, rows(11), {"t": 0.3, "dt": 0.01, "save": [0.1, 0.3]}),
    "matrix, common start": (linear, np.full(11, 0.3), {"t": 0.3, "dt": 0.01}),
    "wide": (wide, rows(18), {"t": 0.2, "dt": 0.01}),
    "Gaussian chain with a schedule": (scheduled, [-1.0], {"t": 100}),
    "sample losses": (samples, normal(1), {"t": 100}),
    "shuffled epochs": (lambda: samples(sampling="shuffle", momentum=0.5), rows(1), {"t": 60}),
    "Adam": (lambda: samples(optimizer="adam"), [0.1], {"t": 60}),
    "random shifts": (lambda: fps.SGDChain.random_shift(fps.potentials.double_well(), 0.3, 0.05, 2), [0.5], {"t": 60}),
    "gradients of Python": (lambda: fps.SGDChain(Quadratic(), 0.1, 3), rows(1), {"t": 30}),
}  # fmt: skip

INTERVAL = fps.Region.box([-0.9], [0.8])
ESCAPES = {
    "bridge": (double_well, rows(1), INTERVAL, {"dt": 0.01}),
    "censored": (double_well, [0.0], INTERVAL, {"dt": 0.01, "t_max": 0.4}),
    "full tensor": (lambda: fps.Process(WELL, FULL), normal(2), fps.Region.ball([0.0, 0.0], 0.7), {"dt": 0.01}),
    "jumps": (levy, [0.0] * 3, fps.Region.ball([0.0] * 3, 1.0), {"dt": 0.05}),
    "inertia": (lambda: fps.Underdamped(fps.potentials.double_well(), fps.Noise.isotropic(0.4), friction=1.0), [0.0], INTERVAL,
                {"dt": 0.05}),
    "wide": (wide, rows(18), fps.Region.ball(np.zeros(18), 2.0), {"dt": 0.01, "t_max": 0.15}),
    "Gaussian chain with a schedule": (scheduled, [-1.0], fps.Region.halfspace([1.0], 0.5), {"t_max": 300}),
    "sample losses": (samples, normal(1), fps.Region.ball([0.0], 0.5), {"t_max": 100}),
}  # fmt: skip


@pytest.mark.parametrize("name", SIMULATIONS)
def test_parts_of_a_simulation_are_slices_of_one_call(name):
    make, x0, options = SIMULATIONS[name]
    process, options = make(), {"seed": 21, **options}

    def run(start, **more):
        return fps.simulate(process, start, **options, **more)

    whole = run(x0, n=N)
    for k, part in enumerate(parts(run, x0)):
        some = slice(CUTS[k], CUTS[k + 1])
        assert part.first == CUTS[k]
        np.testing.assert_array_equal(part.final, whole.final[some])
        if whole.states is not None:
            np.testing.assert_array_equal(part.states, whole.states[:, some])
    assert len(np.unique(whole.final, axis=0)) == N


@pytest.mark.parametrize("name", ESCAPES)
def test_parts_of_first_passages_are_slices_of_one_call(name):
    make, x0, region, options = ESCAPES[name]
    process, options = make(), {"seed": 22, **options}

    def run(start, **more):
        return fps.escape_times(process, start, region, **options, **more)

    whole = run(x0, n=N)
    for k, part in enumerate(parts(run, x0)):
        some = slice(CUTS[k], CUTS[k + 1])
        for field in ("times", "censored", "exit_points", "sides"):
            np.testing.assert_array_equal(getattr(part, field), getattr(whole, field)[some], err_msg=field)
    assert whole.n_events > 100


def test_a_checkpoint_belongs_to_its_part(tmp_path):
    call = {"process": double_well(), "x0": [0.0], "t": 0.5, "dt": 0.01, "n": 300, "seed": 3}
    path = tmp_path / "part.h5"
    part = fps.simulate(**call, first=1000, checkpoint=path)
    assert fps.simulate(**call, first=1000, checkpoint=path) == part == fps.load(path)
    with pytest.raises(ValueError, match="first was 1000"):
        fps.simulate(**call, checkpoint=path)
    out = fps.escape_times(double_well(), [0.0], INTERVAL, dt=0.01, n=300, seed=3, first=7, checkpoint=tmp_path / "escape.h5")
    assert out.first == fps.load(tmp_path / "escape.h5").first == 7


@pytest.mark.parametrize("first", [2**32 - 2, 2**40, 2**63 - 300])
def test_large_numbers_have_streams_of_their_own(first):
    """One Euler step of Brownian motion is the first normal number of the stream; a chain draws from NumPy's generator."""
    flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
    got = fps.simulate(flat, [0.0], t=1.0, dt=1.0, n=300, seed=9, first=first).final[:, 0]
    np.testing.assert_allclose(got, stream_normals(9, first, 300, 1)[:, 0], rtol=1e-14)
    whole = fps.simulate(samples(), [0.0], t=5, n=5, seed=9, first=first).final
    parts = [fps.simulate(samples(), [0.0], t=5, n=1, seed=9, first=first + k).final for k in range(5)]
    np.testing.assert_array_equal(whole, np.vstack(parts))
    words = [tuple(np.random.SeedSequence(stream_entropy(s, i)).generate_state(4)) for s in (9, 9 + 2**32, 2**62)
             for i in (0, 1, 3, 2**32, 2**32 + 1, 3 * 2**32, 2**63 - 1)]  # fmt: skip
    assert len(set(words)) == len(words)


# ---- samplers -------------------------------------------------------------------------------------------------------


def starts(sampler, n, first, seed=4):
    flat = fps.Process.from_drift("0*x", fps.Noise.isotropic(0.5))
    return fps.simulate(flat, sampler, t=1.0, dt=1.0, n=n, seed=seed, first=first, save=[0.0]).states[0, :, 0]


@pytest.mark.parametrize("seed", [4, 2**40 + 4])
def test_a_sampler_draws_blocks_and_the_first_is_as_ever(seed, monkeypatch):
    monkeypatch.setattr("fpsolve._runner.SAMPLER_BLOCK", 100)
    whole = starts(normal(1), 350, 0, seed)
    np.testing.assert_array_equal(whole[:100, None], normal(1)(np.random.default_rng([seed, 0x5EED, 1]), 100))
    assert len(set(whole)) == 350
    for a, b in ((0, 100), (99, 101), (120, 350), (200, 300), (349, 350)):
        np.testing.assert_array_equal(starts(normal(1), b - a, a, seed), whole[a:b])


def test_a_sampler_that_needs_to_know_how_many(monkeypatch):
    """Rows of a stratified sampler depend on n: whole blocks are right for any sampler, a part that begins inside is refused."""
    monkeypatch.setattr("fpsolve._runner.SAMPLER_BLOCK", 100)

    def strata(rng, n):
        return ((rng.permutation(n) + rng.random(n)) / n)[:, None]

    whole = starts(strata, 300, 0)
    np.testing.assert_array_equal(np.append(starts(strata, 100, 0), starts(strata, 200, 100)), whole)
    with pytest.raises(ValueError, match=r"trajectory 150 cannot have its start.*multiples of 100"):
        starts(strata, 100, 150)
    assert SAMPLER_BLOCK == 1 << 20


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "error", "match"),
    [
        (-1, ValueError, "first must be >= 0, got -1"),
        (1.5, TypeError, "first must be an integer"),
        (True, TypeError, "first must be an integer"),
        (2**63 - 9, ValueError, r"first must be in \[0, 2\*\*63 - n\]"),
    ],
)
def test_impossible_numbers(first, error, match):
    with pytest.raises(error, match=match):
        fps.simulate(double_well(), [0.0], t=1.0, dt=0.1, n=10, seed=1, first=first)
    with pytest.raises(error, match=match):
        fps.escape_times(double_well(), [0.0], INTERVAL, dt=0.1, n=10, seed=1, first=first)


def test_a_part_needs_the_seed_of_the_ensemble():
    with pytest.raises(ValueError, match="first = 5 is a trajectory of the ensemble of a seed: give seed="):
        fps.simulate(double_well(), [0.0], t=1.0, dt=0.1, n=10, first=5)
