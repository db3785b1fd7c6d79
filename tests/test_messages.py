"""Messages say what is wrong, the value, and what to try: those that once lacked one of these."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fpsolve as fps
import nets

U = fps.potentials.double_well()
WELL = fps.Process(U, fps.Noise.isotropic(0.2))
NAN = float("nan")
LOST = fps.EscapeTimes([NAN, NAN], [True, True], np.zeros((2, 1)))

CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "minimum and saddle": (lambda: fps.theory.kramers_rate(WELL, [0.0], [0.0]), r"same point \[0.*critical_points\(box\)"),
    "order of the two": (lambda: fps.theory.kramers_rate(WELL, [0.0], [-1.0]), r"not a minimum.*critical_points\(box\)"),
    "two equal minima": (lambda: fps.theory.basin_odds(U, [-1.0], [-1.0], lr=0.1, batch=1, variance=1.0), "two different ones"),
    "matrix": (lambda: fps.theory.ou_covariance(np.eye(2), [[1.0, 0.5], [0.0, 1.0]]), r"differ by 0.5; use \(D \+ D.T\)/2"),
    "marginal": (lambda: fps.Density(np.ones((2, 2)), fps.Grid((0, 1, 2), (0, 1, 2))).marginal(2), r"axis 2 .*0 \.\.\. 1"),
    "negative time": (
        lambda: fps.EscapeTimes([-1.0, NAN], [False] * 2, np.zeros((2, 1))),
        r"negative time -1.0; times must be >= 0",
    ),
    "all failed": (LOST.survival, "all trajectories failed; shorten dt"),
    "sides": (
        lambda: fps.EscapeTimes([1.0], [False], [[0.0]], sides=[3], side_names=("a", "b")),
        r"-1 \.\.\. 1.*got shape \(1,\) and \[3\]",
    ),
    "nothing to merge": (lambda: fps.EscapeStatistics.merged([]), "give one part at least"),
    "names": (lambda: fps.compare(fps.Estimate(1.0), names=["a", "b"]), "2 names for 1 estimates; give one for each"),
    "units": (lambda: fps.compare(fps.Estimate(1.0, unit="time"), fps.Estimate(1.0, unit="1/time")), "rates with rates"),
    "components": (
        lambda: fps.Process.from_drift(["-x"], fps.Noise.isotropic(0.1), variables="x y"),
        r"1 components for 2 variables \(x y\); give one for each",
    ),
    "absorbing": (lambda: fps.theory.boltzmann(WELL, fps.Grid((-2, 2, 9), boundary="absorbing")), "make it reflecting"),
    "knots": (
        lambda: fps.Noise.covariance(np.ones((3, 1, 1)), lr=0.1, batch=1, axes=[[0.0, 1.0, 3.0]]),
        r"equally spaced.*got \[0\.0, 1\.0, 3\.0\]",
    ),
    "samples": (
        lambda: fps.theory.second_moments(np.full((2, 1, 1), NAN), np.ones((2, 1)), 0.1),
        "2 of 2 samples are not; leave them out",
    ),
    "unknown name": (lambda: nets.pcaa, r"did you mean nets\.PCA\?|did you mean nets\.pca\?"),
    "series": (lambda: nets.mean_estimate([1.0, NAN, 2.0, 3.0]), "1 of 4"),
    "curvature of modes": (lambda: nets.window_variance([30.0], 1.0, 0.1, 10), r"curvatures 30 \.\. 30 for 2/lr = 20"),
    "inputs": (
        lambda: nets.Data(np.array([[NAN]]), np.zeros(1, int), np.ones((1, 1)), np.zeros(1, int), "d"),
        "1 non-finite numbers; drop or fill",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_message(name: str) -> None:
    call, words = CASES[name]
    with pytest.raises((ValueError, TypeError, AttributeError), match=words):
        call()
