"""Processes, fields and norms that several tests of the Fokker-Planck engine share."""

import numpy as np
import scipy.linalg as la
from hypothesis import strategies as st

from fpsolve.noise import Noise
from fpsolve.process import Process

A = np.array([[1.0, 0.6], [-0.3, 0.8]])
SIDES = st.sampled_from(["reflecting", "absorbing", "periodic", ("reflecting", "absorbing")])


def tensor(condition, angle):
    c, s = np.cos(angle), np.sin(angle)
    R = np.array([[c, -s], [s, c]])
    D = R @ np.diag([1.0, 1.0 / condition]) @ R.T
    return 0.5 * (D + D.T)


def ou(condition=4.0):
    return Process.ornstein_uhlenbeck(A, Noise.constant(tensor(condition, 0.5)))


def gaussian(points, mean, cov):
    y = points - mean
    norm = np.sqrt(la.det(2 * np.pi * np.atleast_2d(cov)))
    return np.exp(-0.5 * np.einsum("ni,ij,nj->n", y, la.inv(np.atleast_2d(cov)), y)) / norm


def l1(density, exact):
    return float(np.sum(np.abs(density.values.ravel() - exact) * density.grid.cell_volumes.ravel()))


def orders(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def moments(fp, cells):
    """Drift (m, d) and second moment (m, d, d) of the jumps out of some cells."""
    Q, x = fp.generator, fp.grid.points()
    first, second = [], []
    for i in cells:
        row = slice(Q.indptr[i], Q.indptr[i + 1])
        jump, rate = x[Q.indices[row]] - x[i], Q.data[row]
        first.append(rate @ jump)
        second.append(np.einsum("k,ki,kj->ij", rate, jump, jump))
    return np.array(first), np.array(second)


class Stand:
    """A process given by its fields alone: no closed forms to lean on."""

    def __init__(self, dim, drift, diffusion, divergence=None, log_density=None):
        self.dim, self.drift, self.diffusion = dim, drift, diffusion
        self.divergence = divergence or (lambda x: np.zeros(x.shape))
        self.log_density = log_density or (lambda x: None)

    def check_derivatives(self, x):
        """Its fields are given, none is differentiated."""


def random_field(seed, log_condition, n=24):
    """Smooth random tensor and drift fields with the given condition number at every point."""
    rng = np.random.default_rng(seed)
    a, b, c, d = rng.normal(size=(4, 2))
    size = 10.0 ** rng.uniform(-2, 2)

    def diffusion(x):
        angle = 3.0 * np.sin(x @ a) + x @ b
        u = np.stack([np.cos(angle), np.sin(angle)], -1)
        v = np.stack([-np.sin(angle), np.cos(angle)], -1)
        out = u[..., :, None] * u[..., None, :] + 10.0**-log_condition * v[..., :, None] * v[..., None, :]
        return 0.5 * (out + np.swapaxes(out, -1, -2))

    def drift(x):
        return size * np.stack([np.sin(x @ c), np.cos(x @ d)], -1)

    return Stand(2, drift, diffusion)


def double_well_time(D):
    """(1/D) int_{-1}^{1} exp(U/D) int_{-2.5}^{y} exp(-U/D), by Gauss-Legendre panels in exact arithmetic of exponents."""
    x, w = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(-2.5, 1.0, 2101)  # -1 is an edge
    mid, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    nodes = mid[:, None] + half[:, None] * x
    U = (nodes**2 - 1) ** 2
    panel = np.sum(half[:, None] * w * np.exp(-U / D), axis=1)
    before = np.concatenate([[0.0], np.cumsum(panel)])[:-1]
    part = np.empty_like(nodes)
    for j in range(20):
        h = 0.5 * (nodes[:, j] - edges[:-1])
        inner = edges[:-1, None] + h[:, None] * (1 + x)
        part[:, j] = np.sum(h[:, None] * w * np.exp(-((inner**2 - 1) ** 2) / D), axis=1)
    outer = np.where(nodes > -1.0, np.exp((np.where(nodes > -1.0, U, 0.0) - 1) / D) * (before[:, None] + part), 0.0)
    return float(np.sum(half[:, None] * w * outer) / D * np.exp(1 / D))
