"""Problems with known stationary densities whose tensors turn and whose walls carry mass, derived with sympy."""

import numpy as np
import sympy as sy

from fokker_planck_cases import Stand

X = sy.symbols("x y z")


def stationary_process(phi, tensor, stream=None):
    """A process with stationary density exp(-phi) and the current curl(stream): drift -D grad phi + div D + J exp(phi).

    The current is tangential to a wall on which `stream` is constant.
    """
    d = tensor.shape[0]
    x = X[:d]
    divergence = [sum(sy.diff(tensor[i, j], x[j]) for j in range(d)) for i in range(d)]
    drift = [divergence[i] - sum(tensor[i, j] * sy.diff(phi, x[j]) for j in range(d)) for i in range(d)]
    if stream is not None:
        drift[0] += sy.diff(stream, x[1]) * sy.exp(phi)
        drift[1] -= sy.diff(stream, x[0]) * sy.exp(phi)

    def field(entries):
        functions = [sy.lambdify(x, e, "numpy") for e in entries]
        return lambda p: np.stack([np.broadcast_to(f(*np.moveaxis(p, -1, 0)), p.shape[:-1]) for f in functions], axis=-1)

    flat = field(list(tensor))
    density = sy.lambdify(x, sy.exp(-phi), "numpy")
    process = Stand(d, field(drift), lambda p: flat(p).reshape(*p.shape[:-1], d, d), field(divergence))
    return process, lambda p: np.broadcast_to(density(*np.moveaxis(np.asarray(p), -1, 0)), np.shape(p)[:-1])


def turning(condition):
    """A tensor whose axes and size vary over the plane."""
    x, y = X[:2]
    angle, size = sy.Rational(3, 5) * sy.sin(x) + y / 2, 1 + sy.Rational(3, 10) * sy.sin(x - y)
    R = sy.Matrix([[sy.cos(angle), -sy.sin(angle)], [sy.sin(angle), sy.cos(angle)]])
    return size * R * sy.diag(1, sy.Rational(1, condition)) * R.T


def integral(density, grid, nodes=120):
    """Integral over the box of the grid by Gauss-Legendre."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    lines = [0.5 * (hi - lo) * x + 0.5 * (hi + lo) for lo, hi, *_ in grid.axes]
    values = density(np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1))
    for lo, hi, *_ in grid.axes:
        values = np.tensordot(0.5 * (hi - lo) * w, values, axes=(0, 0))
    return float(values)
