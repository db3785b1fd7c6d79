"""nets.pca: closed forms, another method, digits kept far from the origin, windows of runs in memory and in files."""

import h5py
import numpy as np
import pytest

import nets


def records(n, variances, far=0.0, seed=0):
    """n records whose sample covariance is Q diag(variances) Q^T to rounding, around a mean of size `far`; and Q."""
    rng, p = np.random.default_rng(seed), len(variances)
    table = rng.standard_normal((n, p))
    table -= table.mean(axis=0)
    q, _ = np.linalg.qr(table)  # orthonormal columns, each of mean zero
    basis, _ = np.linalg.qr(rng.standard_normal((p, p)))
    return q * np.sqrt(n * np.asarray(variances)) @ basis.T + far * rng.standard_normal(p), basis


@pytest.mark.parametrize("n", [1700, 21])
def test_known_covariance(n):
    """Sample covariance known by construction, more records than weights (several blocks) and about as many."""
    variances = 2.0 ** -np.arange(20.0)
    table, basis = records(n, variances)
    found = nets.pca(table)
    np.testing.assert_allclose(found.variances, variances, rtol=1e-9)
    overlap = np.abs(np.sum(found.directions * basis, axis=0))
    np.testing.assert_allclose(overlap, 1.0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.mean, table.mean(axis=0), rtol=0, atol=1e-13)
    assert found.total == pytest.approx(variances.sum(), rel=1e-12) and found.n == n
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(20), rtol=0, atol=1e-12)
    assert (found.directions[np.abs(found.directions).argmax(axis=0), np.arange(20)] > 0).all()
    y = found.projections()
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.diag(variances), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.projections(3), y[:, :3], rtol=0, atol=1e-14)


@pytest.mark.parametrize("p", [30, 300])
def test_against_singular_values(p):
    """Random records: squared singular values of the centred table, on both ways (n = 200 records)."""
    table = np.random.default_rng(1).standard_normal((200, p)) * np.linspace(1, 3, p) + 5.0
    found = nets.pca(table)
    expected = np.linalg.svd(table - table.mean(axis=0), compute_uv=False)[: min(p, 199)] ** 2 / 200
    np.testing.assert_allclose(found.variances, expected, rtol=1e-11)
    assert found.directions.shape == (p, min(p, 199))
    few = nets.pca(table, n_directions=4)
    assert (few.variances == found.variances[:4]).all() and (few.directions == found.directions[:, :4]).all()
    assert few.total == found.total


def test_digits_survive_far_from_the_origin():
    """Weights of size 14 whose smallest spread is 1e-7 beside 3e-2: the sums of squares without a shift lose it altogether."""
    variances = np.geomspace(1e-3, 1e-14, 40)
    table, _ = records(3000, variances, far=14.0)
    found = nets.pca(table)
    # the records themselves are rounded: 14 eps = 3e-15 per entry, against 1e-7
    np.testing.assert_allclose(found.variances, variances, rtol=1e-4)
    naive = np.linalg.eigvalsh(table.T @ table / 3000 - np.outer(table.mean(axis=0), table.mean(axis=0)))
    assert abs(naive[0] - 1e-14) > 1e-14
    assert found.resolution < 1e-17


@pytest.mark.parametrize("n", [400, 5000])
def test_one_record_far_from_the_others_costs_no_digits_beyond_the_resolution(n):
    """A first record at 1e6 beside fluctuations of 1e-6: one direction holds it, the others but the stated rounding."""
    table = 1e-6 * np.random.default_rng(2).standard_normal((n, 8))
    table[0] = 1e6
    for rows in (table, table[::-1]):
        found = nets.pca(rows)
        assert found.variances[0] == pytest.approx(8e12 * (n - 1) / n**2, rel=1e-9)
        assert 0.0 <= found.variances[1] < 5.0 * found.resolution < 1e-3


def test_count_of_directions():
    found = nets.pca(records(100, [8.0, 4.0, 2.0, 1.0, 1.0])[0])
    np.testing.assert_allclose(found.shares, [0.5, 0.25, 0.125, 0.0625, 0.0625], rtol=1e-10)
    assert [found.needed(f) for f in (0.4, 0.5, 0.75, 0.8, 1.0)] == [1, 1, 2, 3, 5]
    assert [found.needed(f, without=1) for f in (0.5, 0.6, 1.0)] == [1, 2, 4]
    with pytest.raises(ValueError, match="raise n_directions"):
        nets.pca(records(100, [8.0, 4.0, 2.0])[0], n_directions=2).needed(0.9)
    with pytest.raises(ValueError, match="fraction must lie"):
        found.needed(0.0)


def test_windows_of_a_run(tmp_path):
    """A run in memory and in a file, a window, a block out of several, single precision: the same as of the array itself."""
    mlp, data = nets.MLP((2, 6, 2), activation="tanh"), nets.load_data("spiral", n=125)
    record = nets.Record(weights=("W2", "b1"), weights_every=2)
    options = {"lr": 0.1, "batch": 10, "steps": 1400, "seed": 0, "record": record}
    kept, stored = nets.train(mlp, data, **options), nets.train(mlp, data, **options, out=tmp_path / "run.h5")
    expected = nets.pca(kept.weights["value"][100:600, 12:])
    for run in (kept, stored, nets.load_run(tmp_path / "run.h5")):
        found = nets.pca(run, block="b1", window=(200, 1200))
        assert np.array_equal(found.directions, expected.directions) and np.array_equal(found.variances, expected.variances)
        assert (found.steps == np.arange(202, 1201, 2)).all() and (found.index == mlp.block_index("b1")).all()
        assert np.array_equal(found.projections(), expected.projections())
        assert nets.pca(run).directions.shape == (18, 18)
        mixed = nets.pca(run, block=("b1", "W2"))
        assert (mixed.index == mlp.block_index(("b1", "W2"))).all()
        np.testing.assert_allclose(mixed.mean, run.weights["value"].mean(axis=0)[np.r_[12:18, 0:12]], rtol=1e-13)
    with h5py.File(tmp_path / "run.h5") as file:
        found = nets.pca(file["weights/value"])
        np.testing.assert_allclose(found.variances, nets.pca(kept).variances, rtol=1e-12)
    single = nets.pca(kept.weights["value"].astype(np.float32))
    np.testing.assert_allclose(single.variances[:5], nets.pca(kept).variances[:5], rtol=1e-4)


def test_saved(tmp_path):
    found = nets.pca(records(100, [8.0, 4.0, 2.0])[0])
    found.save(tmp_path / "pca.h5")
    back = nets.load(tmp_path / "pca.h5")
    assert repr(back) == repr(found) and back.index is None
    for name in ("mean", "variances", "directions", "steps"):
        assert np.array_equal(getattr(back, name), getattr(found, name)), name
    with pytest.raises(ValueError, match="not at hand"):
        back.projections()


def test_memory_is_that_of_the_covariance():
    """Peak of NumPy's allocations for 4 000 and 16 000 records differs by less than a fifth of the records themselves."""
    import tracemalloc

    class Rows:
        """Records made when asked for."""

        dtype, shape = np.dtype(float), (0, 0)

        def __init__(self, n):
            self.shape = (n, 50)

        def __getitem__(self, part):
            return np.random.default_rng(part.start).standard_normal((min(part.stop, self.shape[0]) - part.start, 50))

    peaks = []
    for n in (4000, 16_000):
        tracemalloc.start()
        nets.pca(Rows(n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 12_000 * 50 * 8 / 5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda run: nets.pca(np.zeros(5)), "shape"),
        (lambda run: nets.pca(np.zeros((1, 5))), "at least 2 records"),
        (lambda run: nets.pca(np.full((9, 5), np.nan)), "45 non-finite"),
        (lambda run: nets.pca(np.zeros((9, 5)), block="W2"), "choose from a Run"),
        (lambda run: nets.pca(np.zeros((9, 5)), n_directions=6), r"1 \.\. 5"),
        (lambda run: nets.pca(run, block="W1"), "was not recorded"),
        (lambda run: nets.pca(run, window=(50, 90)), r"steps 51 \.\. 90"),
        (lambda run: nets.pca(run, block="W9"), "out of"),
    ],
)
def test_bad_input(call, message):
    mlp, data = nets.MLP((2, 6, 2), activation="tanh"), nets.load_data("spiral", n=125)
    run = nets.train(mlp, data, lr=0.1, batch=10, steps=50, record=nets.Record(weights="W2", weights_every=1))
    with pytest.raises(ValueError, match=message):
        call(run)
