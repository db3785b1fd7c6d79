"""Freezing of two valleys: closed forms, other quadratures, master equations solved otherwise, and paths."""

import math

import mpmath as mp
import numpy as np
import pytest
import scipy.linalg as la

import fpsolve as fps
from fpsolve import FpsolveError, theory

NOISE = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])


def growing(noise, curvature=4.0, tau=1000.0):
    return lambda t: theory.valley_rate(curvature, t / tau, noise, 0.05)


def flattening(noise, curvature=4.0, tau=1000.0):
    return lambda t: theory.valley_rate(curvature, 0.5 * np.exp(np.minimum(t / tau, 600.0)), noise, 0.05)


def test_growing_barrier():
    """int_t^inf omega l exp(-s/(tau D l)) ds = omega l tau D l exp(-t/(tau D l))."""
    law = theory.freezing_law("growing-barrier", 4.0, NOISE, 0.05, 1000.0)
    for noise, expected in zip(NOISE, law, strict=True):
        found = theory.freezing_time(growing(noise), 4000.0 * noise)
        assert found.value == pytest.approx(expected, rel=1e-10)
        assert found.discretization_error < 1e-8 * expected
        assert not found.failed
    assert (np.diff(law) > 0).all()
    # the specification's numbers; its last, 18104, is that of an integral cut at a finite time: the law and quadrature have 20677
    np.testing.assert_allclose(law[:5], [223, 739, 1754, 4061, 9228], rtol=0.006)
    assert law[5] == pytest.approx(20676.7, rel=1e-5)


def test_flattening_landscape():
    """One more doubling of the noise adds tau ln 2, exactly; against multiprecision integration of the rate."""
    law = theory.freezing_law("flattening", 4.0, NOISE, 0.05, 1000.0, barrier=0.5)
    assert law[0] == 0.0
    np.testing.assert_allclose(np.diff(law[2:]), 1000.0 * math.log(2.0), rtol=1e-12)
    np.testing.assert_allclose(law[1:], [412, 1105, 1798, 2491, 3184], atol=2.0)
    for noise, expected in zip(NOISE[1:4], law[1:4], strict=True):
        found = theory.freezing_time(flattening(noise), 1000.0)
        assert found.value == pytest.approx(expected, rel=1e-9)
    with mp.workdps(30):
        rest = mp.quad(
            lambda t: mp.mpf("0.2") * mp.exp(-mp.mpf("0.5") / 0.4 * mp.exp(t / 1000)), [law[2], law[2] + 500, law[2] + 5000]
        )
    assert float(rest) == pytest.approx(1.0, rel=1e-9)
    frozen = theory.freezing_time(flattening(0.02), 1000.0)
    assert frozen.value == 0.0 and frozen.failed


def test_an_attempt_rate_that_falls_too_lowers_the_slope():
    """omega l(t) e^{-t/tau}: dt*/d ln Delta = tau (1 - 1/(y + 2 - ...)); by quadrature 0.72 to 0.77 of tau, not tau."""

    def time(noise):

        def decay(t):
            return np.exp(-np.minimum(t / 1000.0, 600.0))

        return theory.freezing_time(lambda t: decay(t) * flattening(noise)(t), 1000.0).value

    slope = (time(0.4) - time(0.1)) / math.log(4.0)
    assert 700.0 < slope < 800.0


def test_freezing_where_it_cannot_be():
    with pytest.raises(FpsolveError, match="does not converge"):
        theory.freezing_time(lambda t: 0.1 + 0.0 * t, 1.0)
    with pytest.raises(ValueError, match="same shape"):
        theory.freezing_time(lambda t: 0.1, 1.0)
    with pytest.raises(ValueError, match="finite and >= 0"):
        theory.freezing_time(lambda t: 1.0 - t, 1.0)
    with pytest.raises(ValueError, match="scale"):
        theory.freezing_time(growing(0.1), 0.0)


def test_occupation_is_the_matrix_exponential_at_constant_rates():
    times = np.array([0.0, 0.7, 3.0, 10.0])
    r, back, start = 0.4, 0.15, 0.9
    generator = np.array([[-r, back], [r, -back]])
    expected = [(la.expm(generator * t) @ [1 - start, start])[1] for t in times]
    found = theory.occupation(lambda t: r + 0 * t, lambda t: back + 0 * t, times, start)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_occupation_with_rates_in_time_by_quadrature():
    """P' = r - (r + b) P with r = e^-t, b = 2 e^-t: P = (1/3)(1 - exp(-3 (1 - e^-t)))."""
    times = np.linspace(0.0, 5.0, 6)
    found = theory.occupation(lambda t: np.exp(-t), lambda t: 2 * np.exp(-t), times)
    np.testing.assert_allclose(found, (1 - np.exp(-3 * (1 - np.exp(-times)))) / 3, atol=1e-9)


def test_slow_change_is_quasi_static_and_the_flat_valley_gains():
    """ln P_f/P_s = (E/Delta)(1/l_f - 1/l_s) + ln(l_s/l_f) while the rates are fast; P_f never falls under a growing barrier."""
    sharp, flat = (lambda t, l=l: theory.valley_rate(l, t / 1e6, 0.1, 0.05) for l in (4.0, 1.0))
    times = np.linspace(0.0, 1e5, 21)
    p = theory.occupation(sharp, flat, times, 0.8)
    expected = (times / 1e6 / 0.1) * (1 - 0.25) + math.log(4.0)
    np.testing.assert_allclose(np.log(p / (1 - p)), expected, atol=1e-3)
    assert (np.diff(p) > 0).all()


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_last_switch_is_the_law_of_jump_processes(start):
    """Jump times drawn by thinning, 20 000 runs; Kolmogorov's distance 1.95/sqrt(n) is met with probability 0.999."""
    rates = (lambda t: 2.0 * np.exp(-t), lambda t: 0.7 * np.exp(-0.5 * t))
    rng, n = np.random.default_rng(8), 20_000
    state, last, t = np.full(n, int(start)), np.zeros(n), np.zeros(n)
    alive = np.ones(n, bool)
    while alive.any():  # the bound 2 exceeds both rates
        t[alive] += rng.exponential(0.5, alive.sum())
        alive &= t < 40.0
        r = np.where(state == 0, rates[0](t), rates[1](t))
        jump = alive & (rng.random(n) < r / 2.0)
        last[jump], state[jump] = t[jump], 1 - state[jump]
    times = np.linspace(0.0, 20.0, 200)
    found = theory.last_switch(*rates, times, 1.0, start=start)
    empirical = np.searchsorted(np.sort(last), times, side="right") / n
    assert np.abs(found - empirical).max() < 1.95 / math.sqrt(n)
    assert (np.diff(found) > -1e-9).all()


def test_valley_rates_of_two_parabolas():
    """The attempt rate sqrt(E/(pi Delta))/(sqrt l_s + sqrt l_f), from quadrature of the exact mean first passage times."""
    sharp, flat, noise, barrier, rounding = 4.0, 1.0, 0.1, 4.0, 1e-3
    U = fps.potentials.two_valleys(sharp, flat, barrier, rounding)
    left, right = -math.sqrt(2 * barrier / sharp), math.sqrt(2 * barrier / flat)
    a, b = (f"(l{i}*(x - ({c}))**2/2)" for i, c in ((1, left), (2, right)))
    share = f"({a} - {b})/(2*sqrt(({a} - {b})**2/4 + {rounding}**2))"
    D = fps.Noise.from_expression([[f"{noise}*((l1 + l2)/2 - (l1 - l2)/2*{share})"]], "x", {"l1": sharp, "l2": flat})
    process = fps.Process(U, D)
    attempt = math.sqrt(barrier / (math.pi * noise)) / (math.sqrt(sharp) + math.sqrt(flat))
    for start, end, l in ((left, right, sharp), (right, left, flat)):
        exact = 1.0 / theory.mean_first_passage_1d(process, start, end).value
        assert theory.valley_rate(l, barrier, noise, attempt) == pytest.approx(exact, rel=1.5 * noise * l / barrier + 0.02)


def test_the_landscape_of_two_valleys():
    U = fps.potentials.two_valleys(9.0, 2.0, 0.7, 0.01)
    minima = [c for c in U.critical_points([(-3, 3)]) if c.kind == "minimum"]
    for c, l, sign in zip(sorted(minima, key=lambda c: c.x[0]), (9.0, 2.0), (-1, 1), strict=True):
        assert c.x[0] == pytest.approx(sign * math.sqrt(2 * 0.71 / l), rel=1e-3)
        assert c.hessian[0, 0] == pytest.approx(l, rel=2e-3)
        assert abs(c.value) < 2e-4
    assert U([0.0]) == pytest.approx(0.7, abs=1e-14)
    np.testing.assert_allclose(U.with_params(barrier=2.0)([0.0]), 2.0, atol=1e-14)
    with pytest.raises(ValueError, match="barrier must be > 0"):
        fps.potentials.two_valleys(barrier=0.0)


def test_bad_input():
    with pytest.raises(ValueError, match="curvature must be finite and > 0"):
        theory.valley_rate(0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="barrier must be finite and >= 0"):
        theory.valley_rate(1.0, -1.0, 1.0)
    with pytest.raises(ValueError, match="increasing"):
        theory.occupation(np.exp, np.exp, [1.0, 0.0])
    with pytest.raises(ValueError, match="probability"):
        theory.occupation(np.exp, np.exp, [0.0, 1.0], start=2.0)
    with pytest.raises(ValueError, match="kind"):
        theory.freezing_law("melting", 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="needs barrier"):
        theory.freezing_law("flattening", 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="belongs to"):
        theory.freezing_law("growing-barrier", 1.0, 1.0, 1.0, 1.0, barrier=1.0)
    with pytest.raises(ValueError, match="noise"):
        theory.freezing_law("growing-barrier", 1.0, -1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="out of range"):
        theory.freezing_law("flattening", 1.0, 1.0, 1e200, 1e200, barrier=1.0)
    with pytest.raises(TypeError, match="rate must be a function"):
        theory.freezing_time(3.0, 1.0)
    # a rate of 1e-3 for a time of one: below `expected` from the start
    assert theory.freezing_law("flattening", 1.0, 0.1, 1e-3, 1.0, barrier=1.0) == 0.0
