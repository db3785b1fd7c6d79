"""Real networks for fpsolve: data, MLPs, instrumented SGD, curvature, noise, and the bridge to a stochastic process.

Everything is imported on first use (PEP 562): ``import nets`` loads neither numba, h5py nor matplotlib.

Examples
--------
>>> import nets
>>> data = nets.load_data("digits")
>>> mlp = nets.MLP((64, 12, 10), activation="tanh", weight_decay=0.01)
>>> run = nets.train(mlp, data, lr=0.05, batch=20, steps=200, seed=0, sampling="replace")
>>> run.step
200
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import plotting as plotting
    from ._saved import load as load
    from .attack import Attack as Attack
    from .attack import attack as attack
    from .attack import poison as poison
    from .basin import BasinReturn as BasinReturn
    from .basin import basin_return as basin_return
    from .basin import landscape_return as landscape_return
    from .bridge import bridge as bridge
    from .complexity import CurvatureBound as CurvatureBound
    from .complexity import TwoLayerBound as TwoLayerBound
    from .complexity import curvature_bound as curvature_bound
    from .complexity import input_gradient as input_gradient
    from .complexity import two_layer_bound as two_layer_bound
    from .continual import Constraint as Constraint
    from .continual import Retention as Retention
    from .continual import ewc as ewc
    from .continual import fisher_diagonal as fisher_diagonal
    from .continual import ldc as ldc
    from .continual import only_labels as only_labels
    from .continual import second_task as second_task
    from .curvature import gauss_newton as gauss_newton
    from .curvature import gradient_covariance as gradient_covariance
    from .curvature import hessian as hessian
    from .data import Data as Data
    from .data import load_data as load_data
    from .energy_path import EnergyPath as EnergyPath
    from .energy_path import landscape_path as landscape_path
    from .energy_path import minimum_energy_path as minimum_energy_path
    from .flatness import Flatness as Flatness
    from .flatness import Profiles as Profiles
    from .flatness import flatness as flatness
    from .flatness import loss_plane as loss_plane
    from .flatness import loss_profiles as loss_profiles
    from .landscape import Landscape as Landscape
    from .landscape import Section as Section
    from .linear_modes import window_variance as window_variance
    from .measure import FluctuationDissipation as FluctuationDissipation
    from .measure import fluctuation_dissipation as fluctuation_dissipation
    from .measure import measure as measure
    from .minibatch import BatchMinima as BatchMinima
    from .minibatch import active_temperature as active_temperature
    from .minibatch import minibatch_minima as minibatch_minima
    from .minimum import Minimum as Minimum
    from .minimum import find_minimum as find_minimum
    from .mlp import MLP as MLP
    from .parameters import Parameters as Parameters
    from .pca import PCA as PCA
    from .pca import pca as pca
    from .power_laws import PowerLaw as PowerLaw
    from .power_laws import over_blocks as over_blocks
    from .power_laws import over_seeds as over_seeds
    from .power_laws import power_law as power_law
    from .products import covariance_vector_product as covariance_vector_product
    from .products import hessian_vector_product as hessian_vector_product
    from .quadratic import QuadraticVolume as QuadraticVolume
    from .quadratic import quadratic_volume as quadratic_volume
    from .record import Record as Record
    from .relation import InverseRelation as InverseRelation
    from .relation import inverse_relation as inverse_relation
    from .rescaling import RescaledTrace as RescaledTrace
    from .rescaling import rescaled_trace as rescaled_trace
    from .run import Run as Run
    from .run import load_run as load_run
    from .series import autocorrelation as autocorrelation
    from .series import effective_sample_size as effective_sample_size
    from .series import integrated_autocorrelation_time as integrated_autocorrelation_time
    from .series import mean_estimate as mean_estimate
    from .series import variance_estimate as variance_estimate
    from .spectrum import Eigenpairs as Eigenpairs
    from .spectrum import SpectralDensity as SpectralDensity
    from .spectrum import spectral_density as spectral_density
    from .spectrum import top_eigenpairs as top_eigenpairs
    from .spectrum import trace as trace
    from .stats import Stats as Stats
    from .stats import from_arrays as from_arrays
    from .stats import load_stats as load_stats
    from .superlinear import NoiseCurvature as NoiseCurvature
    from .superlinear import noise_against_curvature as noise_against_curvature
    from .torch_model import TorchModel as TorchModel
    from .torch_recorder import TorchRecorder as TorchRecorder
    from .torch_recorder import torch_data as torch_data
    from .train import train as train
    from .train import train_many as train_many
    from .volume import Volume as Volume
    from .volume import landscape_volume as landscape_volume
    from .volume import sublevel_volume as sublevel_volume
    from .window import RandomWalk as RandomWalk
    from .window import Window as Window
    from .window import analyse_window as analyse_window
    from .window import correlation_time as correlation_time
    from .window import random_walk as random_walk

_HOME = {
    "Attack": "attack",
    "attack": "attack",
    "poison": "attack",
    "EnergyPath": "energy_path",
    "minimum_energy_path": "energy_path",
    "landscape_path": "energy_path",
    "bridge": "bridge",
    "CurvatureBound": "complexity",
    "TwoLayerBound": "complexity",
    "curvature_bound": "complexity",
    "input_gradient": "complexity",
    "two_layer_bound": "complexity",
    "Constraint": "continual",
    "Retention": "continual",
    "ewc": "continual",
    "fisher_diagonal": "continual",
    "ldc": "continual",
    "only_labels": "continual",
    "second_task": "continual",
    "gauss_newton": "curvature",
    "gradient_covariance": "curvature",
    "hessian": "curvature",
    "Data": "data",
    "load_data": "data",
    "FluctuationDissipation": "measure",
    "fluctuation_dissipation": "measure",
    "MLP": "mlp",
    "Parameters": "parameters",
    "PCA": "pca",
    "pca": "pca",
    "covariance_vector_product": "products",
    "hessian_vector_product": "products",
    "QuadraticVolume": "quadratic",
    "quadratic_volume": "quadratic",
    "Record": "record",
    "RescaledTrace": "rescaling",
    "rescaled_trace": "rescaling",
    "Run": "run",
    "load_run": "run",
    "autocorrelation": "series",
    "effective_sample_size": "series",
    "integrated_autocorrelation_time": "series",
    "mean_estimate": "series",
    "variance_estimate": "series",
    "Eigenpairs": "spectrum",
    "SpectralDensity": "spectrum",
    "load": "_saved",
    "spectral_density": "spectrum",
    "top_eigenpairs": "spectrum",
    "trace": "spectrum",
    "Stats": "stats",
    "from_arrays": "stats",
    "load_stats": "stats",
    "measure": "measure",
    "Flatness": "flatness",
    "Profiles": "flatness",
    "flatness": "flatness",
    "loss_plane": "flatness",
    "loss_profiles": "flatness",
    "Landscape": "landscape",
    "Section": "landscape",
    "window_variance": "linear_modes",
    "BatchMinima": "minibatch",
    "active_temperature": "minibatch",
    "minibatch_minima": "minibatch",
    "Minimum": "minimum",
    "find_minimum": "minimum",
    "PowerLaw": "power_laws",
    "over_blocks": "power_laws",
    "over_seeds": "power_laws",
    "power_law": "power_laws",
    "InverseRelation": "relation",
    "inverse_relation": "relation",
    "RandomWalk": "window",
    "Window": "window",
    "analyse_window": "window",
    "correlation_time": "window",
    "random_walk": "window",
    "NoiseCurvature": "superlinear",
    "noise_against_curvature": "superlinear",
    "BasinReturn": "basin",
    "basin_return": "basin",
    "landscape_return": "basin",
    "Volume": "volume",
    "landscape_volume": "volume",
    "sublevel_volume": "volume",
    "TorchModel": "torch_model",
    "TorchRecorder": "torch_recorder",
    "torch_data": "torch_recorder",
    "train": "train",
    "train_many": "train",
}
_MODULES = {"demo", "plotting", *_HOME.values()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    message = f"module {__name__!r} has no attribute {name!r}"
    if not name.startswith("_"):
        from difflib import get_close_matches

        folded = {public.lower(): public for public in __all__}
        nearest = get_close_matches(name.lower(), folded, n=1)
        message += f"; did you mean nets.{folded[nearest[0]]}?" if nearest else "; dir(nets) lists what it has"
    raise AttributeError(message)


class _Package(ModuleType):
    """Keeps ``nets.train``, ``nets.measure``, ... functions when the modules of these names are loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
