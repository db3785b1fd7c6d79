"""Evolution by a Chebyshev series in the generator: accuracy, its estimate, cost, and when it is chosen."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp

import fpsolve as fps
from fpsolve import _explicit, _markov
from fpsolve._kernels import chebyshev


def rotating(n, omega, noise=0.5):
    """Linear drift that turns at `omega`, eigenvalues -1 +- i omega."""
    process = fps.Process.ornstein_uhlenbeck([[1.0, omega], [-omega, 1.0]], fps.Noise.isotropic(noise))
    return fps.FokkerPlanck(process, fps.Grid((-4, 4, n), (-4, 4, n)))


@pytest.mark.parametrize("transposed", [False, True])
def test_diagonals_hold_the_matrix(transposed):
    """Short diagonals of 1 + c (Q - out) times a vector, against SciPy, for a size that is no multiple of the block."""
    n = 2 * chebyshev.BLOCK + 37
    rng = np.random.default_rng(1)
    rates, out_rates, scale = sp.random(n, n, 0.02, "csr", rng=rng), rng.random(n), 0.7
    block_ptr = chebyshev.count_diagonals(rates.indptr, rates.indices, transposed)
    parts = block_ptr, np.empty(block_ptr[-1], np.int64), np.zeros((block_ptr[-1], chebyshev.BLOCK))
    chebyshev.fill_diagonals(rates.indptr, rates.indices, rates.data, out_rates, scale, transposed, *parts)
    pad = int(np.abs(parts[1]).max())
    old, out = np.zeros((2, n + 2 * pad))
    old[pad : pad + n] = rng.normal(size=n)
    size = chebyshev.recur(*parts, pad, n, 2.0, old, -1.0, old, out)
    matrix = sp.identity(n) + scale * (rates - sp.diags(out_rates))
    expected = 2.0 * ((matrix.T if transposed else matrix) @ old[pad : pad + n]) - old[pad : pad + n]
    assert np.abs(out[pad : pad + n] - expected).max() < 1e-13
    assert size == pytest.approx(np.abs(expected).sum(), rel=1e-12)
    assert not out[:pad].any() and not out[pad + n :].any()


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-10])
@pytest.mark.parametrize("omega", [0.0, 3.0, 30.0])
def test_series_against_the_matrix_exponential(rtol, omega):
    """With and without rotation and killing; the estimate covers the error, and the mass is kept to 1e-12."""
    fp = rotating(20, omega)
    start = np.zeros(400)
    start[5 * 20 + 7] = 1.0
    for kill in (None, np.where(np.arange(400) % 20 > 15, 2.0, 0.0)):
        G = fp.generator.toarray() - np.diag(np.zeros(400) if kill is None else kill)
        times = [0.0, 0.2, 0.7, 2.0]
        masses, info = _markov.evolve(fp.generator, kill, start, times, rtol=rtol, method="chebyshev")
        for t, p, estimate in zip(times, masses, info["error"], strict=True):
            error = np.abs(p - start @ scipy.linalg.expm(t * G)).sum()
            assert error <= min(rtol, estimate + 1e-13)
        if kill is None:
            assert np.abs(masses.sum(axis=1) - 1.0).max() < 1e-12
        assert info["negative"] <= rtol


def test_expectations_backward():
    """exp(t G) f with the matrix not transposed, f of both signs."""
    fp = rotating(16, 5.0)
    f = np.random.default_rng(0).normal(size=256)
    series = _explicit.Chebyshev(_markov.gen.clean_rates(fp.generator), fp.kill, transposed=False)
    values, errors = series.series(f, np.array([0.5]), 1e-9)
    assert np.abs(values[0] - scipy.linalg.expm(0.5 * fp.generator.toarray()) @ f).sum() < min(1e-9, errors[0])


def test_cost_is_the_square_root_of_the_time_and_one_sweep_serves_all_times():
    """Products with the generator against sqrt(rho t log(4/rtol)) for a reversible chain; 200 times cost as many as one."""
    process = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.5))
    fp = fps.FokkerPlanck(process, fps.Grid((-4, 4, 300)))
    start = np.zeros(300)
    start[120] = 1.0
    counts = []
    for t in (0.1, 1.6):
        _, one = _markov.evolve(fp.generator, None, start, [t], rtol=1e-6, method="chebyshev")
        many, info = _markov.evolve(fp.generator, None, start, np.linspace(t / 200, t, 200), rtol=1e-6, method="chebyshev")
        rho = 2.0 * np.abs(fp.generator.diagonal()).max()
        assert one["products"] < 1.3 * _explicit.products(rho * t, 1e-6)
        assert info["products"] == one["products"] and info["steps"] == 1
        counts.append(one["products"])
        other, _ = _markov.evolve(fp.generator, None, start, [t / 2], rtol=1e-9, method="rational")
        assert np.abs(many[99] - other[0]).sum() < 1e-6
    assert 3.0 < counts[1] / counts[0] < 4.2


def test_a_fast_rotation_is_stable():
    """Eigenvalues -k (1 +- 30 i), far off the real axis: against elimination."""
    fp = rotating(48, 30.0, noise=0.25)
    start = ("gaussian", [1.5, 0.0], 0.1 * np.eye(2))
    p = fp.evolve(start, 0.5, rtol=1e-4, method="chebyshev")
    other = fp.evolve(start, 0.5, rtol=1e-7, method="rational")
    assert np.abs(p.cell_mass - other.cell_mass).sum() < 1e-4
    assert p.negative_mass < 1e-4 and abs(p.mass - 1.0) < 1e-12


def test_the_method_is_chosen_by_cost():
    """A plane for a short time: products; for a long time, or a line: one factorisation. All agree."""
    fp = rotating(64, 0.5)
    start = ("gaussian", [1.0, 0.5], 0.1 * np.eye(2))
    short, long = fp.evolve(start, 4.0, rtol=1e-3), fp.evolve(start, 1e5, rtol=1e-3)
    assert short.solver_info["method"] == "chebyshev" and long.solver_info["method"] == "rational"
    well = fps.FokkerPlanck(fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.1)), fps.Grid((-2.5, 2.5, 1000)))
    assert well.evolve(("gaussian", [0.3], [[0.0025]]), 10.0, rtol=1e-3).solver_info["method"] == "rational"
    other = fp.evolve(start, 4.0, rtol=1e-8, method="rational")
    assert np.abs(short.cell_mass - other.cell_mass).sum() < 1e-3
    with pytest.raises(ValueError, match="chebyshev"):
        fp.evolve(start, 0.5, method="euler")


def test_interpolation_of_a_series_is_of_fourth_order():
    """Between the times of a series of an Ornstein-Uhlenbeck density, whose moments are known; mass is kept."""
    process = fps.Process(fps.potentials.quadratic([[1.0]]), fps.Noise.isotropic(0.5))
    fp = fps.FokkerPlanck(process, fps.Grid((-5, 5, 200)))
    start = ("gaussian", [1.0], [[0.3]])
    exact = fp.evolve(start, 0.55, rtol=1e-10)
    errors = []
    for gap in (0.2, 0.1):
        series = fp.evolve(start, 0.55 + gap * np.arange(-2.5, 3.0), rtol=1e-10)
        p = series.at(0.55)
        assert abs(p.mass - 1.0) < 1e-12 and p.time == 0.55
        errors.append(np.abs(p.cell_mass - exact.cell_mass).sum())
    assert 3.8 < np.log2(errors[0] / errors[1]) < 4.2, errors
    assert np.abs(series.at(series.times[2]).values - series.values[2]).max() < 1e-14
    with pytest.raises(ValueError, match="covers"):
        series.at(2.0)
