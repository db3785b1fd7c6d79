"""One result of every public class, made from a few numbers: nothing is solved, simulated or trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fpsolve as fps
import nets

#: Text that a result may carry from a file or a user, and that must stay text.
HOSTILE = "<script>alert('a & b')</script>"

TIME = fps.Estimate(12.0, stderr=0.3, discretization_error=0.4, unit="time", method=HOSTILE)
LINE = fps.Grid((0.0, 1.0, 4))
PLANE = fps.Grid((0.0, 1.0, 4), (-1.0, 1.0, 3))
SPACE = fps.Grid((0.0, 1.0, 2), (0.0, 1.0, 3), (0.0, 1.0, 4))
T = np.array([0.0, 0.5, 1.0])
ONE = np.ones(3)


def escapes() -> fps.EscapeTimes:
    points = np.arange(8.0).reshape(4, 2)
    return fps.EscapeTimes([1.0, 2.0, 3.0, 6.0], [False] * 3 + [True], points, seed=1, t_max=6.0, method=HOSTILE)


def effective() -> fps.EffectiveLoss:
    x = np.linspace(-1.0, 1.0, 5)
    return fps.EffectiveLoss(x, *[x**2] * 6, np.ones((5, 1)), *[x**2 + 1.0] * 3, *[-(x**2)] * 2, fps.Estimate(0.0), TIME, TIME)


def sweep(folder: Path) -> fps.Sweep:
    config = fps.read_config(
        {
            "noise": {"D": 0.5},
            "potential": {"name": "double_well"},
            "task": {"name": "kramers_rate", "minimum": [-1.0], "saddle": [0.0]},
            "sweep": {"axes": {"noise.D": [0.1, 0.2, 0.4]}},
        }
    )
    return fps.sweep(config, out=folder / "sweep.h5")


def window() -> nets.Window:
    k, size, stretches = 4, 5, 2
    blocks = np.ones((stretches, k))
    return nets.Window(
        np.array([4.0, 3.0, 2.0, 1.0]), np.eye(size)[:, :k], 11.0, *[np.ones(k)] * 5, blocks, blocks, np.zeros(6),
        np.arange(size), HOSTILE, 0, 10, 2, 0.1, 5, 0.0, 50, "replace", 1,
    )  # fmt: skip


def flatness() -> nets.Flatness:
    one = np.ones(4)
    return nets.Flatness(-one, np.array([1.0, 2.0, 4.0, 8.0]), 0 * one, one, one, 10 * one, 0.5, np.e)


def run() -> nets.Run:
    mlp = nets.MLP((2, 3, 2))
    loss = {"step": np.array([10, 20]), "train_loss": np.array([0.5, 0.25]), "train_error": np.array([0.4, 0.2])}
    return nets.Run(mlp, 0.1, 5, "replace", 0.0, 1, HOSTILE, "", 50, 0, 20, True, 1.5, {"theta": np.zeros(mlp.dim)}, {"loss": loss})


#: Class -> one of its kind, given a folder; with what its repr must say.
CASES: dict[type, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    fps.Estimate: (lambda _: TIME, ("12.00 +- 0.50", "time")),
    fps.SplittingEstimate: (
        lambda _: fps.SplittingEstimate(
            0.5,
            stderr=0.02,
            unit="1/time",
            coordinate=HOSTILE,
            log_probabilities=[-2.0, -2.2, -2.1],
            loop_steps=9 * ONE,
            exit_steps=4 * ONE,
            work=1e3 * ONE,
            n=10,
            step=0.1,
        ),
        ("0.500 +- 0.020", "1/time"),
    ),
    fps.Density: (lambda _: fps.Density(0.5 * np.ones(PLANE.shape), PLANE, time=2.0, method=HOSTILE), ("mass 1", "time 2")),
    fps.DensitySeries: (lambda _: fps.DensitySeries(T, np.ones((3, 4)), LINE, method=HOSTILE), ("3 times", "mass 1")),
    fps.Field: (
        lambda _: fps.Field([0.0, 3.0, 5.0, 0.0], LINE, name=HOSTILE, unit="time", mask=[False, True, True, False]),
        ("3 ... 5 time",),
    ),
    fps.Current: (lambda _: fps.Current(np.ones((4, 3, 2)), PLANE, np.zeros((4, 3)), name=HOSTILE), ("largest magnitude 1.41421",)),
    fps.Spectrum: (
        lambda _: fps.Spectrum(
            [0.0, -1.0], np.ones((2, 4)), np.ones((2, 4)), [0.0, 1e-9], LINE, eigenvalue_errors=[0.0, 0.01], method=HOSTILE
        ),
        ("-1", "0.01", "1/time"),
    ),
    fps.ExitTimeDistribution: (
        lambda _: fps.ExitTimeDistribution(T, np.exp(-T), np.exp(-T), 1e-3 * ONE, start=HOSTILE),
        ("survival 1", "error 0.001", "time"),
    ),
    fps.Trajectories: (
        lambda _: fps.Trajectories(np.ones((3, 2)), T, states=np.ones((3, 3, 2)), method=HOSTILE, seed=7),
        ("3 in 2-D", "time 1", "seed 7"),
    ),
    fps.PathStatistics: (
        lambda _: fps.PathStatistics(3, 3, T, mean=np.ones((3, 2)), covariance=np.ones((3, 2, 2)), method=HOSTILE),
        ("3 trajectories", "mean, covariance"),
    ),
    fps.EscapeTimes: (lambda _: escapes(), ("3 escapes", "mean 4.0 +- 2.3 time")),
    fps.EscapeStatistics: (lambda _: escapes().statistics([1.5, 2.5, 6.0]), ("3 escapes", "mean 4.0 +- 2.3 time")),
    fps.SurvivalCurve: (
        lambda _: fps.SurvivalCurve(T, [1.0, 0.5, 0.2], 0.1 * ONE, ONE, [4, 3, 2], method=HOSTILE),
        ("3 times", "1 ... 0.2", "time"),
    ),
    fps.Autocorrelation: (
        lambda _: fps.Autocorrelation(
            np.arange(60.0),
            *[f * 0.5 ** np.arange(60.0)[:, None, None] for f in (1.0, 0.0)],
            np.stack([0.5 ** np.arange(60.0)[:, None]] * 2),
            [0.0],
            [0],
        ),
        ("integrated time 1.497", "time"),
    ),
    fps.Occupation: (
        lambda _: fps.Occupation(
            [[40, 60]] * 2, [[4, 4]] * 2, [[45, 55]] * 2, [[[0, 2], [1, 0]]] * 2, 0.5, 100, (HOSTILE, "right")
        ),
        ("0.4 of the time", "4 to 1"),
    ),
    fps.Path: (
        lambda _: fps.Path(
            [[0.0, 0.0], [3.0, 4.0]],
            fps.Estimate(1.0, discretization_error=0.1),
            [0.0, 1.0],
            [[0.0, 0.0], [-3.0, 0.0]],
            [[0.0, 0.0]],
            [0],
            method=HOSTILE,
        ),
        ("1.00 +- 0.10", "length 5"),
    ),
    fps.Cycle: (
        lambda _: fps.Cycle(
            np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], -1),
            fps.Estimate(6.2832, stderr=0.01, unit="time"),
            [0.5],
            method=HOSTILE,
        ),
        ("period 6.283 +- 0.010 time",),
    ),
    fps.EffectiveLoss: (lambda _: effective(), ("minimum at 0", "12.00 +- 0.50")),
    fps.PhaseDiagram: (
        lambda _: fps.PhaseDiagram(
            [1.0, 2.0], [0.1, 0.2, 0.4], [[0.0] * 3, [1.0] * 3], [[0.9] * 3, [np.nan] * 3], 10, settings={"loss": HOSTILE}
        ),
        ("2 x 3", "critical sigma 1.5"),
    ),
    fps.Table: (
        lambda _: fps.Table(HOSTILE, ["method", "rate", "error"], [["theory", 0.125, None], [HOSTILE, 0.13, 0.01]]),
        ("0.13", "0.01"),
    ),
    fps.EscapeReport: (
        lambda _: fps.EscapeReport(
            "Escape",
            ["method", "time"],
            [["paths", 12.0]],
            estimates={"paths": TIME},
            reference="paths",
            assumptions=[fps.Assumption(HOSTILE, "failed")],
            conclusion="All agree.",
        ),
        ("12", "All agree."),
    ),
    fps.SelectionReport: (
        lambda _: fps.SelectionReport(
            "Valley",
            ["answer", "<x>"],
            [[HOSTILE, 0.5]],
            effective=effective(),
            densities={"theory": np.ones(5)},
            estimates={"theory": fps.Estimate(0.5, stderr=0.1)},
            conclusion="SGD goes to x = 0.",
        ),
        ("0.5", "SGD goes to x = 0."),
    ),
    fps.Sweep: (sweep, ("noise.D: 3", "3 of 3 units done")),
    nets.Run: (lambda _: run(), ("steps 1-20", "lr=0.1")),
    nets.Stats: (
        lambda _: nets.from_arrays(hessian=np.diag([2.0, 1.0]), covariance=np.eye(2), lr=0.1, batch=10, name=HOSTILE),
        ("2 weights", "lr=0.1"),
    ),
    nets.FluctuationDissipation: (
        lambda _: nets.FluctuationDissipation(*[fps.Estimate(0.5, stderr=0.01, method=HOSTILE)] * 6),
        ("0.500 +- 0.010", "ratio 1"),
    ),
    nets.Attack: (
        lambda _: nets.Attack(
            np.array([0, 0, 40]), np.arange(3), np.array([0.9, 0.8, 0.6]), *6 * [ONE], np.ones((3, 5)), HOSTILE, "", ""
        ),
        ("2 of 0 poisoned samples: accuracy 0.850",),
    ),
    nets.BasinReturn: (
        lambda _: nets.BasinReturn(
            np.array([0.5, 1.0]),
            np.array([[0, 1, 0, 2]] * 2),
            np.zeros(2, int),
            np.zeros((2, 4)),
            np.zeros((2, 4)),
            0.1,
            1e-3,
            10.0,
            100,
            0,
        ),
        ("probability 0.75, 0.75", "interval"),
    ),
    nets.TwoLayerBound: (lambda _: nets.TwoLayerBound(1.0, 2.0, 1.0, 3.0, 2.0, 3.0), ("bound 6", "gradient 1")),
    nets.CurvatureBound: (lambda _: nets.CurvatureBound(1.0, ONE, 2.0 * ONE), ("bound", "difference 1")),
    nets.Retention: (
        lambda _: nets.Retention(HOSTILE, ONE, np.array([1, 5, 5]), np.array([0.4, 0.2, 0.0]), 0.1 * ONE, 0.0, np.zeros((3, 2))),
        ("overall 0.5, 0.3, 0.1",),
    ),
    nets.EnergyPath: (
        lambda _: nets.EnergyPath(
            np.array([[-1.0], [0.0], [1.0]]),
            0 * ONE,
            T,
            np.array([0.0, 1.0, 0.0]),
            np.array([0.0, 0.0, 0.0]),
            ONE,
            0.0,
            1.0,
            3,
            30,
            ONE,
            True,
        ),
        ("barriers 1 and 1", "at most"),
    ),
    nets.Flatness: (lambda _: flatness(), ("width 2, 3, 5, 9",)),
    nets.Profiles: (
        lambda _: nets.Profiles(np.linspace(-1.0, 1.0, 10).reshape(2, 5), np.ones((2, 5)) + 0.1 * np.arange(5), 1.0),
        ("center 1",),
    ),
    nets.BatchMinima: (
        lambda _: nets.BatchMinima(np.array([0.1, -0.1, 3.0]), 2 * ONE, 0 * ONE, np.array([False, False, True]), 3.0, 5),
        ("spread 0.01", "stiffness 2"),
    ),
    nets.Minimum: (
        lambda _: nets.Minimum(np.zeros(2), 0.1, 0.2, HOSTILE, 2, 2.0, np.array([[0.0, 0.4], [2.0, 0.1]])),
        ("loss 0.1",),
    ),
    nets.PCA: (lambda _: nets.PCA(np.zeros(3), np.array([3.0, 1.0]), np.eye(3)[:, :2], 4.0, 10, np.arange(10)), ("75 %",)),
    nets.PowerLaw: (
        lambda _: nets.PowerLaw(-2.0, 3.0, -1.0, -1.0, 3, 0, (1.0, 4.0), (-2.1, -1.9), HOSTILE),
        ("-2.000 [-2.100, -1.900]",),
    ),
    nets.QuadraticVolume: (
        lambda _: nets.QuadraticVolume(np.array([4.0, 1.0, 0.25]), 2, 3, 1e-15, 0.0, 10),
        ("1.38629", "rank 3 of 3"),
    ),
    nets.InverseRelation: (lambda _: nets.InverseRelation(window(), flatness(), np.array([1, 2, 3, 4])), ("variances 4, 3, 2, 1",)),
    nets.RescaledTrace: (lambda _: nets.RescaledTrace(2.0, 5.0, np.zeros(4), ONE), ("value=2.0", "trace=5.0")),
    nets.Eigenpairs: (
        lambda _: nets.Eigenpairs(np.array([3.0, 1.0]), np.eye(4)[:, :2], np.array([0.1, 0.2]), HOSTILE, np.arange(4), 8),
        ("3 .. 1", "residual 0.2"),
    ),
    nets.SpectralDensity: (
        lambda _: nets.SpectralDensity(
            np.array([[1.0, 2.0], [1.5, 3.0]]), 0.5 * np.ones((2, 2)), np.ones((2, 1)), np.ones((2, 1)), 10, HOSTILE, 0
        ),
        ("1 .. 3",),
    ),
    nets.NoiseCurvature: (
        lambda _: nets.NoiseCurvature(np.array([4.0, 2.0, 1.0]), np.array([4.1, 2.0, 1.0]), ONE, 0.1, 0.2, 0.1, 0.2, HOSTILE),
        ("commutator 0.1", "turned 0.2"),
    ),
    nets.Volume: (
        lambda _: nets.Volume(
            np.array([0.5, 1.0, 2.0]),
            -ONE,
            0.1 * ONE,
            -ONE,
            -ONE,
            0.0,
            0.1,
            np.nan,
            3.0,
            0.0,
            ONE,
            0 * ONE,
            0.0,
            ONE,
            ONE,
            ONE,
            ONE,
            ONE,
            ONE,
            100,
            10,
            0,
        ),
        ("-1.00 +- 0.10", "settled yes"),
    ),
    nets.Window: (lambda _: window(), ("total 11",)),
    nets.RandomWalk: (lambda _: nets.random_walk(20, 3), ("shares", "tau")),
}

#: Public dataclasses that a user makes, or that belong to a result: they need to show themselves at most.
INPUTS = {
    fps.Assumption, fps.Config, fps.Ensemble, fps.potentials.CriticalPoint, fps.results.Quantity,
    nets.Constraint, nets.Data, nets.Record, nets.Section, nets.mlp.Ensemble,
}  # fmt: skip
