"""A user's program with types, for `make types` alone: mypy with `strict` finds nothing wrong in it, and the types are these.

Nothing here is run: what it computes is tested elsewhere.
"""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import fpsolve as fps
import nets


def equation(D: float) -> fps.Estimate:
    """A landscape and a noise, put to the equation."""
    landscape = fps.Potential.from_expression("(x**2 - 1)**2 + k*y**2/2", variables="x y", params={"k": 1.0})
    process = fps.Process(landscape, fps.Noise.isotropic(D))
    solver = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, 40), (-2.0, 2.0, 40)))
    density = assert_type(solver.stationary(), fps.Density)
    assert_type(density.values, NDArray[np.float64])
    assert_type(density.at([0.0, 0.0]), NDArray[np.float64])
    left, right = fps.Region.ball([-1.0, 0.0], 0.2), fps.Region.ball([1.0, 0.0], 0.2)
    assert_type(solver.committor(left, right), fps.Field)
    assert_type(solver.mean_exit_time(left).plot(), Axes)
    assert_type(solver.mean_exit_time(left, at=[-1.0, 0.0]), fps.Estimate)
    assert_type(solver.evolve(density, 1.0), fps.Density)
    assert_type(solver.evolve(density, [0.5, 1.0]), fps.DensitySeries)
    assert_type(solver.refine(), fps.FokkerPlanck)
    assert_type(solver.spectrum(3), fps.Spectrum)
    return assert_type(solver.escape_rate(fps.Region.halfspace([1.0, 0.0], 0.0)), fps.Estimate)


def series(solver: fps.FokkerPlanck, start: fps.Density) -> tuple[fps.Density, fps.DensitySeries]:
    """Indexing a series gives a density, slicing a shorter series."""
    found = fps.DensitySeries(np.array([0.0, 1.0]), np.stack([start.values, start.values]), start.grid)
    return assert_type(found[-1], fps.Density), assert_type(found[:1], fps.DensitySeries)


def paths(process: fps.Process) -> float:
    """An ensemble of paths."""
    well = fps.Region.halfspace([1.0], 0.0)
    out = assert_type(fps.escape_times(process, [-1.0], well, n=100, dt=0.01, seed=1), fps.EscapeTimes)
    tau = assert_type(out.mean(), fps.Estimate)
    some = assert_type(fps.simulate(process, [-1.0], t=1.0, dt=0.01, n=10, seed=1), fps.Trajectories)
    some.plot(ax=out.plot())
    assert_type(fps.multilevel_splitting(process, [-1.0], well, n=100, dt=0.01, seed=1), fps.SplittingEstimate)
    assert_type(fps.compare(tau, out.rate()), fps.Table)
    assert_type(fps.minimum_action_path(process, [-1.0], [1.0]), fps.Path)
    low, high = tau.interval if tau.interval is not None else (tau.value, tau.value)
    return tau.error + high - low


def reports(process: fps.Process, folder: Path) -> str:
    """Results side by side, kept and read."""
    report = assert_type(fps.escape_report(process, [-1.0], [0.0]), fps.EscapeReport)
    report.save(folder / "report.h5")
    again: Any = fps.load(folder / "report.h5")
    assert isinstance(again, fps.EscapeReport)
    held = [a.status == "held" for a in again.assumptions]
    return report.conclusion if all(held) else report.to_markdown()


def network() -> fps.Process:
    """A network, trained and measured."""
    data, mlp = nets.load_data("digits"), nets.MLP((64, 10, 10), activation="tanh")
    run = assert_type(nets.train(mlp, data, lr=0.1, batch=10, epochs=2, record=nets.Record(weights="W2")), nets.Run)
    assert_type(run.theta, NDArray[np.float64])
    assert_type(nets.pca(run), nets.PCA).plot()
    assert_type(nets.top_eigenpairs(mlp, run.theta, data.x_train, data.y_train, k=3).values, NDArray[np.float64])
    return assert_type(nets.bridge(nets.measure(run, data, block="W2"), directions=2), fps.Process)
