"""Other parameters, grids, starts and times compile nothing anew in the Fokker-Planck engine."""

import importlib
import pkgutil

import numpy as np
import pytest
from numba.core import event
from numba.core.dispatcher import Dispatcher

import fpsolve as fps
from fpsolve import _code, _kernels


def specialisations():
    """Compiled versions of every kernel, those loaded from disk included, and the texts made into NumPy functions."""
    found = {}
    for module in pkgutil.iter_modules(_kernels.__path__):
        for name, value in vars(importlib.import_module(f"fpsolve._kernels.{module.name}")).items():
            if isinstance(value, Dispatcher):
                found[module.name, name] = len(value.overloads)
    return found, _code._numpy_function.cache_info().misses


def line(a, D, n, box):
    potential = fps.Potential.from_expression("x**4/4 - x**2/2 + a*x", params={"a": 0.0}).with_params(a=a)
    return fps.FokkerPlanck(fps.Process(potential, fps.Noise.isotropic(D)), fps.Grid((-box, box, n)))


def plane(a, D, n, box):
    drift = ["x - x**3 + a*y", "-y - a*x"]
    tensor = [["s*(1 + x**2/4)", "s*0.3*sin(x + y)"], ["s*0.3*sin(x + y)", "s*(1 + y**2/5)"]]
    noise = fps.Noise.from_expression(tensor, "x y", params={"s": 1.0})
    process = fps.Process.from_drift(drift, noise, variables="x y", params={"a": 0.0}).with_params(a=a, s=D)
    return fps.FokkerPlanck(process, fps.Grid((-box, box, n), (-box, box + 0.5, n + 3)))


def ask(fp, t):
    """A density, its future by each method, an exit time and a committor."""
    d = fp.grid.dim
    start = ("gaussian", [0.3] * d, 0.05 * np.eye(d))
    left, right = (fps.Region.ball([x] + [0.0] * (d - 1), 0.4) for x in (-1.0, 1.0))
    fp.stationary()
    for method in ("chebyshev", "rational", "positive"):
        fp.evolve(start, [0.5 * t, t], rtol=1e-4, method=method)
    fp.mean_exit_time(right)
    fp.committor(left, right)


@pytest.mark.parametrize("make", [line, plane])
def test_nothing_is_compiled_for_other_parameters_or_grids(make):
    ask(make(0.3, 0.2, 24, 2.0), 0.5)
    before = specialisations()
    with event.install_recorder("numba:compile") as recorder:
        ask(make(0.1, 0.35, 31, 2.5), 0.8)
        driven = fps.Driven(make(0.1, 0.35, 8, 2.0).process, params=lambda t: {"a": 0.1 * t})
        fps.FokkerPlanck(driven, make(0.1, 0.35, 20, 2.0).grid).evolve(lambda x: np.exp(-np.sum(x**2, -1)), 0.3, rtol=1e-2)
    assert specialisations() == before
    assert not recorder.buffer
