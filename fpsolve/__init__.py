"""Stochastic gradient descent as a stochastic process.

A loss landscape (:class:`Potential`) and a noise model (:class:`Noise`) make a :class:`Process`. The same process goes to
three engines that know nothing of each other: a Fokker-Planck solver on a grid (:class:`FokkerPlanck`), a path simulator
(:func:`simulate`, :func:`escape_times`, :func:`multilevel_splitting`) and closed forms (:mod:`fpsolve.theory`). Their answers are
compared with error bars.

Importing fpsolve loads none of its dependencies; each name is imported when it is first used.

Examples
--------
>>> import fpsolve as fps
>>> "FokkerPlanck" in dir(fps)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from fpsolve import io as io
    from fpsolve import plotting as plotting
    from fpsolve import potentials as potentials
    from fpsolve import results as results
    from fpsolve import theory as theory
    from fpsolve._sweep import Sweep as Sweep
    from fpsolve._sweep import sweep as sweep
    from fpsolve.chains import SGDChain as SGDChain
    from fpsolve.config import Config as Config
    from fpsolve.config import read_config as read_config
    from fpsolve.driven import Driven as Driven
    from fpsolve.errors import FpsolveError as FpsolveError
    from fpsolve.fokker_planck import FokkerPlanck as FokkerPlanck
    from fpsolve.grid import Grid as Grid
    from fpsolve.io import load as load
    from fpsolve.io import save as save
    from fpsolve.kernel_operator import TransitionKernel as TransitionKernel
    from fpsolve.langevin import escape_times as escape_times
    from fpsolve.langevin import schemes as schemes
    from fpsolve.langevin import simulate as simulate
    from fpsolve.noise import Noise as Noise
    from fpsolve.potentials import Potential as Potential
    from fpsolve.process import Process as Process
    from fpsolve.process import Underdamped as Underdamped
    from fpsolve.rare import limit_cycle as limit_cycle
    from fpsolve.rare import minimum_action_path as minimum_action_path
    from fpsolve.rare import multilevel_splitting as multilevel_splitting
    from fpsolve.rare import quasipotential as quasipotential
    from fpsolve.region import Region as Region
    from fpsolve.report import compare as compare
    from fpsolve.results import Assumption as Assumption
    from fpsolve.results import Autocorrelation as Autocorrelation
    from fpsolve.results import Current as Current
    from fpsolve.results import Cycle as Cycle
    from fpsolve.results import Density as Density
    from fpsolve.results import DensitySeries as DensitySeries
    from fpsolve.results import EffectiveLoss as EffectiveLoss
    from fpsolve.results import EscapeReport as EscapeReport
    from fpsolve.results import EscapeStatistics as EscapeStatistics
    from fpsolve.results import EscapeTimes as EscapeTimes
    from fpsolve.results import Estimate as Estimate
    from fpsolve.results import ExitTimeDistribution as ExitTimeDistribution
    from fpsolve.results import Field as Field
    from fpsolve.results import Occupation as Occupation
    from fpsolve.results import Path as Path
    from fpsolve.results import PathStatistics as PathStatistics
    from fpsolve.results import PhaseDiagram as PhaseDiagram
    from fpsolve.results import SelectionReport as SelectionReport
    from fpsolve.results import Spectrum as Spectrum
    from fpsolve.results import SplittingEstimate as SplittingEstimate
    from fpsolve.results import SurvivalCurve as SurvivalCurve
    from fpsolve.results import Table as Table
    from fpsolve.results import Trajectories as Trajectories
    from fpsolve.samples import Ensemble as Ensemble
    from fpsolve.selection import phase_diagram as phase_diagram
    from fpsolve.selection import selection_report as selection_report
    from fpsolve.verdict import escape_report as escape_report

__version__ = "0.1.0"

#: Where each public name is defined; the imports above say the same to type checkers (a test compares the two).
_HOME = {
    "FpsolveError": "errors",
    "Potential": "potentials",
    "Noise": "noise",
    "Process": "process",
    "SGDChain": "chains",
    "Driven": "driven",
    "Config": "config",
    "read_config": "config",
    "Ensemble": "samples",
    "Underdamped": "process",
    "Grid": "grid",
    "Region": "region",
    "FokkerPlanck": "fokker_planck",
    "TransitionKernel": "kernel_operator",
    "schemes": "langevin",
    "simulate": "langevin",
    "escape_times": "langevin",
    "limit_cycle": "rare",
    "minimum_action_path": "rare",
    "multilevel_splitting": "rare",
    "quasipotential": "rare",
    "compare": "report",
    "escape_report": "verdict",
    "phase_diagram": "selection",
    "selection_report": "selection",
    "Sweep": "_sweep",
    "sweep": "_sweep",
    "save": "io",
    "load": "io",
    "Assumption": "results",
    "Autocorrelation": "results",
    "Current": "results",
    "Cycle": "results",
    "Density": "results",
    "DensitySeries": "results",
    "EffectiveLoss": "results",
    "EscapeReport": "results",
    "EscapeStatistics": "results",
    "EscapeTimes": "results",
    "Estimate": "results",
    "ExitTimeDistribution": "results",
    "Field": "results",
    "Occupation": "results",
    "Path": "results",
    "PathStatistics": "results",
    "PhaseDiagram": "results",
    "SelectionReport": "results",
    "Spectrum": "results",
    "SplittingEstimate": "results",
    "SurvivalCurve": "results",
    "Table": "results",
    "Trajectories": "results",
}
_SUBMODULES = ("io", "plotting", "potentials", "results", "theory")

__all__ = [
    "Assumption",
    "Autocorrelation",
    "Config",
    "Current",
    "Cycle",
    "Density",
    "DensitySeries",
    "Driven",
    "EffectiveLoss",
    "Ensemble",
    "EscapeReport",
    "EscapeStatistics",
    "EscapeTimes",
    "Estimate",
    "ExitTimeDistribution",
    "Field",
    "FokkerPlanck",
    "FpsolveError",
    "Grid",
    "Noise",
    "Occupation",
    "Path",
    "PathStatistics",
    "PhaseDiagram",
    "Potential",
    "Process",
    "Region",
    "SGDChain",
    "SelectionReport",
    "Spectrum",
    "SplittingEstimate",
    "SurvivalCurve",
    "Sweep",
    "Table",
    "Trajectories",
    "TransitionKernel",
    "Underdamped",
    "__version__",
    "compare",
    "escape_report",
    "escape_times",
    "io",
    "limit_cycle",
    "load",
    "minimum_action_path",
    "multilevel_splitting",
    "phase_diagram",
    "plotting",
    "potentials",
    "quasipotential",
    "read_config",
    "results",
    "save",
    "schemes",
    "selection_report",
    "simulate",
    "sweep",
    "theory",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562); an unknown one raises AttributeError and names the nearest."""
    from importlib import import_module

    if name in _SUBMODULES:
        return import_module(f"fpsolve.{name}")
    if name in _HOME:
        module: ModuleType = import_module(f"fpsolve.{_HOME[name]}")
        value = globals()[name] = getattr(module, name)
        return value
    message = f"module 'fpsolve' has no attribute {name!r}"
    if not name.startswith("_"):
        from difflib import get_close_matches

        folded = {public.lower(): public for public in __all__}
        nearest = get_close_matches(name.lower(), folded, n=1)
        message += f"; did you mean fpsolve.{folded[nearest[0]]}?" if nearest else "; dir(fpsolve) lists what it has"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
