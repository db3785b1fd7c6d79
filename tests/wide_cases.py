"""Models of many dimensions that the tests of the wide kernels share, and their paths computed with NumPy from the same normals."""

import numpy as np

import fpsolve as fps
from fpsolve._kernels.rng import stream_normals

rng = np.random.default_rng(11)
LINE = np.linspace(-1.0, 1.0, 4)


def low_rank(d, r=3, diagonal=0.2):
    """F (d, r) and a diagonal, as covariances are measured: some large directions and a floor."""
    some = np.random.default_rng(d)
    return 0.4 * some.normal(size=(d, r)), diagonal * some.uniform(0.5, 1.5, d)


def wells(d):
    """Quartic wells with a coupling of neighbours, as an expression."""
    names = [f"q{i}" for i in range(d)]
    text = " + ".join(f"(q{i}**2 - 1)**2/4 + k*q{i}*q{(i + 1) % d}" for i in range(d))
    return fps.Potential.from_expression(text, names, {"k": 0.1})


def euler(process, x, dt, steps, n, seed):
    """Paths (n, d) of the Euler scheme from the normals of the streams, with dense factors from `Process.factor`."""
    m = process.noise_dim
    z = stream_normals(seed, 0, n, -(-m * steps // 2) + 1)
    x = np.repeat(np.asarray(x, float)[None], n, axis=0)
    for k in range(steps):
        kick = np.einsum("nij,nj->ni", process.factor(x), z[:, k * m : (k + 1) * m])
        x = x + dt * process.drift(x) + np.sqrt(dt) * kick
    return x
