"""compare: ratios, z, conversions and refusals."""

import math

import numpy as np
import pytest

import fpsolve as fps


def test_values_ratio_and_z():
    table = fps.compare(
        fps.Estimate(10.0, 0.3, 0.4, unit="time", method="pde"),
        fps.Estimate(11.5, 1.2, unit="time", method="paths"),
        9.5,
        names=["pde", "paths", "exact"],
    )
    assert table.columns == ("name", "value", "stderr", "disc. error", "unit", "ratio", "z", "assumptions")
    assert table.column("ratio") == pytest.approx([1.0, 1.15, 0.95])
    assert table.column("z")[0] is None
    assert table.column("z")[1:] == pytest.approx([1.5 / 1.3, -0.5 / 0.5])  # errors 0.5 and 1.2
    assert table.column("disc. error")[0] == 0.4


def test_units_are_converted_to_the_first():
    rate = fps.Estimate(0.02, 0.001, unit="1/iteration", lr=0.1)
    sde = fps.Estimate(0.21, 0.01, unit="1/time", method="sde")
    table = fps.compare(rate, sde)
    assert table.column("value") == pytest.approx([0.02, 0.021]) and set(table.column("unit")) == {"1/iteration"}
    assert fps.compare(sde, rate).column("value") == pytest.approx([0.21, 0.2])
    assert fps.compare(sde, fps.Estimate(0.02, unit="1/iteration"), lr=0.1).column("value") == pytest.approx([0.21, 0.2])


def test_powers_are_converted_too():
    paths = fps.Estimate(3.0, 0.5, unit="time^2")
    chain = fps.Estimate(200.0, 10.0, unit="iteration^2", lr=0.125)
    table = fps.compare(paths, chain)
    assert table.column("value") == [3.0, 3.125] and table.column("unit") == ["time^2", "time^2"]  # 200/64
    assert fps.compare(chain, paths).column("value") == [200.0, 192.0]
    for other in (fps.Estimate(1.0, unit="time"), fps.Estimate(1.0, unit="1/iteration^2", lr=0.1), fps.Estimate(1.0)):
        with pytest.raises(ValueError, match="cannot be compared"):
            fps.compare(paths, other)
    with pytest.raises(ValueError, match="'iteration\\^2' converts to 'time\\^2' only with a learning rate"):
        fps.compare(paths, fps.Estimate(1.0, unit="iteration^2"))


def test_refuses_what_cannot_be_compared():
    time = fps.Estimate(1.0, unit="time")
    with pytest.raises(ValueError, match="learning rate"):
        fps.compare(time, fps.Estimate(1.0, unit="iteration"))
    with pytest.raises(ValueError, match="different learning rates"):
        fps.compare(fps.Estimate(1.0, unit="time", lr=0.1), fps.Estimate(1.0, unit="iteration", lr=0.2))
    with pytest.raises(ValueError, match="'theory' belongs to batch size 10, 'paths' to 20"):
        fps.compare(fps.Estimate(1.0, batch=10, lr=0.1), fps.Estimate(1.0, batch=20, lr=0.1), names=["theory", "paths"])
    with pytest.raises(ValueError, match="learning rate 0.1, 'the argument lr' to 0.2"):
        fps.compare(fps.Estimate(1.0, lr=0.1), lr=0.2)
    fps.compare(fps.Estimate(1.0, batch=10), fps.Estimate(1.0, batch=np.int64(10)), fps.Estimate(1.0))
    for other in (fps.Estimate(1.0), fps.Estimate(1.0, unit="1/time"), fps.Estimate(1.0, unit="1/iteration", lr=0.1)):
        with pytest.raises(ValueError, match="cannot be compared"):
            fps.compare(time, other)
    with pytest.raises(ValueError, match="names"):
        fps.compare(time, names=["a", "b"])
    with pytest.raises(ValueError, match="at least one"):
        fps.compare()
    with pytest.raises(TypeError, match="str"):
        fps.compare("1.0")


def test_assumptions_are_reported():
    e = fps.Estimate(
        1.0,
        assumptions=[
            fps.Assumption("barrier / D >= 6", "failed", "2.5"),
            fps.Assumption("a", "held"),
            fps.Assumption("u", "unknown"),
        ],
        method="kramers",
    )
    table = fps.compare(e)
    assert table.column("assumptions") == ["1 held, 1 failed, 1 unknown: barrier / D >= 6"]
    assert table.notes == ("kramers: barrier / D >= 6: failed (2.5)", "kramers: u: unknown")


def test_numbers_beyond_doubles_are_compared_by_logarithm():
    a, b = fps.Estimate(math.inf, log_value=2000.0, unit="time"), fps.Estimate(math.inf, log_value=2000.1, unit="time")
    table = fps.compare(a, b)
    assert table.column("ratio") == pytest.approx([1.0, math.exp(0.1)])
    assert table.column("value")[0] == "exp(2000)" and table.column("z") == [None, None]


def test_theory_against_quadrature_end_to_end():
    process = fps.Process(fps.Potential.from_expression("(x**2-1)**2"), fps.Noise.isotropic(0.02))
    rate = fps.theory.kramers_rate(process, -1.0, 0.0)
    time = fps.theory.mean_first_passage_1d(process, -1.0, 1.0)
    inverse = fps.Estimate(1 / time.value, discretization_error=time.error / time.value**2, unit="1/time", method="quadrature")
    # U = (x^2-1)^2: formula / exact is 0.9924 at D = 0.02 for times, so 1.0077 for rates
    assert fps.compare(rate, inverse).column("ratio")[1] == pytest.approx(0.9924, abs=1e-4)
