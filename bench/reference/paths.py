"""Step loops in vectorised NumPy for the cases of bench/reference/paths.c and a few more, and the C program itself."""

import shutil
import subprocess
from pathlib import Path

import numpy as np

FLAGS = ["-O3", "-march=native", "-ffast-math", "-fopenmp-simd"]


def compiled(folder: Path) -> Path | None:
    """The C program, or None without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    program = folder / "paths"
    source = Path(__file__).parent / "paths.c"
    subprocess.run([compiler, *FLAGS, str(source), "-o", str(program), "-lm"], check=True)
    return program


def normals(seed: int) -> np.random.Generator:
    """The quickest generator that NumPy has."""
    return np.random.Generator(np.random.SFC64(seed))


def additive(n: int, steps: int, dt: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """U = (x^2 - 1)^2 + y^2/2, D = 0.2, from (-1, 0)."""
    rng = normals(seed)
    x, y, s = np.full(n, -1.0), np.zeros(n), np.sqrt(2 * 0.2 * dt)
    for _ in range(steps):
        x, y = x - 4 * x * (x * x - 1) * dt + s * rng.standard_normal(n), y - y * dt + s * rng.standard_normal(n)
    return x, y


def tensor(n: int, steps: int, dt: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same landscape with the factor B = [[0.6 + 0.1 x^2, 0.08 x], [0.08 x, 0.4 + 0.1 y^2]]."""
    rng = normals(seed)
    x, y, s = np.full(n, -1.0), np.zeros(n), np.sqrt(dt)
    for _ in range(steps):
        u, v, cross = s * rng.standard_normal(n), s * rng.standard_normal(n), 0.08 * x
        x, y = (
            x - 4 * x * (x * x - 1) * dt + (0.6 + 0.1 * x * x) * u + cross * v,
            y - y * dt + cross * u + (0.4 + 0.1 * y * y) * v,
        )
    return x, y


def root(n: int, steps: int, dt: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same landscape with D = [[0.2 (1 + x^2/4), 0.08 x], [0.08 x, 0.1 + 0.1 x^2]], its Cholesky factor at every step."""
    rng = normals(seed)
    x, y, s = np.full(n, -1.0), np.zeros(n), np.sqrt(2 * dt)
    for _ in range(steps):
        a = np.sqrt(0.2 * (1 + x * x / 4))
        b = 0.08 * x / a
        c = np.sqrt(0.1 + 0.1 * x * x - b * b)
        u, v = rng.standard_normal(n), rng.standard_normal(n)
        x, y = x - 4 * x * (x * x - 1) * dt + s * a * u, y - y * dt + s * (b * u + c * v)
    return x, y


def escape(n: int, dt: float, seed: int) -> np.ndarray:
    """Times of first passage of x = 1 from -1, D = 0.2, with the test of the Brownian bridge; arrays shrink as paths leave."""
    rng = normals(seed)
    x, s, k, times = np.full(n, -1.0), np.sqrt(2 * 0.2 * dt), 0, []
    while x.size:
        new = x - 4 * x * (x * x - 1) * dt + s * rng.standard_normal(x.size)
        k += 1
        out = np.exp(np.minimum(0.0, -(1 - x) * (1 - new) / (0.2 * dt))) >= rng.random(x.size)
        times.append(np.full(np.count_nonzero(out), k * dt))
        x = new[~out]
    return np.concatenate(times)


def baoab(n: int, steps: int, dt: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the underdamped motion in U, friction 1, temperature 0.2, from rest at (-1, 0)."""
    rng = normals(seed)
    x, y, u, v = np.full(n, -1.0), np.zeros(n), np.zeros(n), np.zeros(n)
    c, half = np.exp(-dt), 0.5 * dt
    s = np.sqrt(0.2 * (1 - c * c))
    for _ in range(steps):
        u, v = u - half * 4 * x * (x * x - 1), v - half * y
        x, y = x + half * u, y + half * v
        u, v = c * u + s * rng.standard_normal(n), c * v + s * rng.standard_normal(n)
        x, y = x + half * u, y + half * v
        u, v = u - half * 4 * x * (x * x - 1), v - half * y
    return x, y


def stable(n: int, steps: int, dt: float, seed: int, alpha: float = 1.5) -> np.ndarray:
    """2-D quadratic well, independent alpha-stable components after Chambers, Mallows and Stuck."""
    rng = normals(seed)
    x, s = np.zeros((2, n)), 0.5 * dt ** (1 / alpha)
    for _ in range(steps):
        phi, w = np.pi * (rng.random((2, n)) - 0.5), rng.standard_exponential((2, n))
        jump = np.sin(alpha * phi) / np.cos(phi) ** (1 / alpha) * (np.cos((1 - alpha) * phi) / w) ** ((1 - alpha) / alpha)
        x = x - x * dt + s * jump
    return x


def chain(H: np.ndarray, C: np.ndarray, lr: float, batch: int, n: int, steps: int, seed: int) -> np.ndarray:
    """Gaussian SGD in a quadratic loss from 0: x <- x - lr H x + lr sqrt(C / batch) xi."""
    rng, factor = normals(seed), lr * np.linalg.cholesky(C / batch).T
    x, decay = np.zeros((n, len(H))), np.eye(len(H)) - lr * H
    for _ in range(steps):
        x = x @ decay + rng.standard_normal(x.shape) @ factor
    return x
