"""The linear process that claims about the Fokker-Planck engine share: with a current, and a tensor that turns against the grid."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg as la

import fpsolve as fps

A = np.array([[1.0, 0.6], [-0.3, 0.8]])


def tensor(condition: float) -> np.ndarray:
    """Axes at 0.5 to those of the grid."""
    c, s = math.cos(0.5), math.sin(0.5)
    R = np.array([[c, -s], [s, c]])
    return np.asarray(R @ np.diag([1.0, 1.0 / condition]) @ R.T)


def linear(condition: float, n: int, scheme: str = "monotone", order: int | None = None) -> fps.FokkerPlanck:
    """On n x n cells of (-5, 5)^2."""
    process = fps.Process.ornstein_uhlenbeck(A, fps.Noise.constant(tensor(condition)))
    return fps.FokkerPlanck(process, fps.Grid((-5, 5, n), (-5, 5, n)), scheme, order=order)


def gaussian(x: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Density at points (n, 2)."""
    y = x - mean
    return np.asarray(np.exp(-0.5 * np.einsum("ni,ij,nj->n", y, la.inv(cov), y)) / math.sqrt(la.det(2 * np.pi * cov)))
