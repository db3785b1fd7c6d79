"""Independent, naive formulas that the tests compare with: nothing here imports the packages under test."""

import functools
import itertools

import numpy as np

# ---- stationary covariance of SGD (theory) --------------------------------------------------------------------------


def sgd_covariance_lyapunov(H, C, lr, batch, momentum):
    """Stationary covariance of the joint (w, v) map, solved as one linear system with Kronecker products; returns the w block."""
    d = len(H)
    eye = np.eye(d)
    # v' = mu v + H w + xi, w' = w - lr v'
    M = np.block([[eye - lr * H, -lr * momentum * eye], [H, momentum * eye]])
    noise_map = np.vstack([-lr * eye, eye])
    Q = noise_map @ (C / batch) @ noise_map.T
    S = np.linalg.solve(np.eye(4 * d * d) - np.kron(M, M), Q.ravel()).reshape(2 * d, 2 * d)
    return S[:d, :d]


def shuffled_sgd_covariance(H, gradients, lr, batch):
    """Reshuffled epochs by enumeration of every permutation; gradients (N, d) sum to zero; average over epoch positions 0 ... K-1.

    Stationary second moment of w <- w - lr (H w + xi) at the start of an epoch by a Kronecker solve, then every position in turn.
    """
    N, d = gradients.shape
    K = N // batch
    cross = np.zeros((K, K, d, d))
    permutations = list(itertools.permutations(range(N)))
    for order in permutations:
        xi = gradients[list(order)][: K * batch].reshape(K, batch, d).mean(axis=1)
        cross += np.einsum("si,tj->stij", xi, xi) / len(permutations)
    A = np.eye(d) - lr * H
    power = [np.linalg.matrix_power(A, m) for m in range(K + 1)]

    def noise(k):
        weights = [-lr * power[k - 1 - s] for s in range(k)]
        terms = [weights[s] @ cross[s, t] @ weights[t].T for s in range(k) for t in range(k)]
        return sum(terms, np.zeros((d, d)))

    start = np.linalg.solve(np.eye(d * d) - np.kron(power[K], power[K]), noise(K).ravel()).reshape(d, d)
    return sum(power[k] @ start @ power[k].T + noise(k) for k in range(K)) / K


def mean_first_passage_mpmath(s, diffusion, x0, b, wall):
    """Nested adaptive quadrature; s is an antiderivative of drift / D; functions take mpmath numbers; wall <= x0 < b."""
    import mpmath as mp

    with mp.workdps(20):

        def inner(y):
            return mp.quad(lambda z: mp.exp(s(z) - s(y)) / diffusion(z), [wall, y], maxdegree=5)

        return float(mp.quad(inner, [x0, b], maxdegree=5))


# ---- paths with a factor that turns (Fokker-Planck engine) ----------------------------------------------------------------


def turning_paths(interpretation, walkers, dt, steps, burn_in, seed):
    """Time averages (walkers, 5) of x, y, x^2, x y, y^2 along paths of dX = f dt + B(X) dW, written out by hand.

    f = -(x + x^3/4 - y/4, 3 y/2 - x/4 - 1/2), B = R(theta) diag(s1, s2), theta = 0.8 x + 0.3 y, s1 = 0.9 + 0.5 sin(y), s2 = 0.35.
    Stratonovich: Heun's method; Ito: Euler's; Klimontovich: Euler's with the drift div(B B^T/2) from central differences.
    """
    return _turning_walk()(interpretation == "stratonovich", interpretation == "klimontovich", walkers, dt, steps, burn_in, seed)


@functools.lru_cache
def _turning_walk():
    """The compiled loop of `turning_paths`."""
    from numba import njit

    @njit
    def factor(x, y):
        c, s, s1, s2 = np.cos(0.8 * x + 0.3 * y), np.sin(0.8 * x + 0.3 * y), 0.9 + 0.5 * np.sin(y), 0.35
        return c * s1, -s * s2, s * s1, c * s2

    @njit
    def tensor(x, y):
        a, b, c, d = factor(x, y)
        return 0.5 * (a * a + b * b), 0.5 * (a * c + b * d), 0.5 * (c * c + d * d)

    @njit
    def force(x, y, correct):
        u, v = -x - 0.25 * x**3 + 0.25 * y, -1.5 * y + 0.25 * x + 0.5
        if correct:
            e = 1e-4
            right, left, up, down = tensor(x + e, y), tensor(x - e, y), tensor(x, y + e), tensor(x, y - e)
            u += (right[0] - left[0] + up[1] - down[1]) / (2 * e)
            v += (right[1] - left[1] + up[2] - down[2]) / (2 * e)
        return u, v

    @njit
    def walk(heun, correct, walkers, dt, steps, burn_in, seed):
        np.random.seed(seed)  # noqa: NPY002 (compiled: the generators of NumPy are not available)
        out, root = np.zeros((walkers, 5)), np.sqrt(dt)
        for i in range(walkers):
            x, y = 0.0, 0.3
            for k in range(burn_in + steps):
                w, z = root * np.random.standard_normal(), root * np.random.standard_normal()  # noqa: NPY002
                u, v = force(x, y, correct)
                a, b, c, d = factor(x, y)
                if heun:
                    x1, y1 = x + u * dt + a * w + b * z, y + v * dt + c * w + d * z
                    u1, v1 = force(x1, y1, correct)
                    a1, b1, c1, d1 = factor(x1, y1)
                    u, v, a, b, c, d = (u + u1) / 2, (v + v1) / 2, (a + a1) / 2, (b + b1) / 2, (c + c1) / 2, (d + d1) / 2
                x, y = x + u * dt + a * w + b * z, y + v * dt + c * w + d * z
                if k >= burn_in:
                    out[i, 0] += x
                    out[i, 1] += y
                    out[i, 2] += x * x
                    out[i, 3] += x * y
                    out[i, 4] += y * y
        return out / steps

    return walk


def chain_exit_time(mean, std, lo, hi, x0, n=400):
    """Mean exit time from (lo, hi), in iterations, of x' = mean(x) + std(x) z: one Gauss-Legendre rule, plain linear algebra."""
    t, w = np.polynomial.legendre.leggauss(n)
    y, w = 0.5 * (lo + hi) + 0.5 * (hi - lo) * t, 0.5 * (hi - lo) * w

    def row(x):
        return np.exp(-0.5 * ((y - mean(x)) / std(x)) ** 2) / (std(x) * np.sqrt(2 * np.pi)) * w

    tau = np.linalg.solve(np.eye(n) - np.array([row(x) for x in y]), np.ones(n))
    return 1.0 + float(row(x0) @ tau)


def linear_chain_log_exit_time_mpmath(a, s, r, n, digits):
    """ln of the mean exit time from (-r, r) of x' = (1 - a) x + s z from 0, by symmetry on (0, r), in multiprecision."""
    import mpmath

    with mpmath.workdps(digits):
        nodes = _legendre_mpmath(n)
        y = [r * (1 + t) / 2 for t, _ in nodes]
        w = [r * v / 2 for _, v in nodes]
        scale = 1 / (mpmath.mpf(s) * mpmath.sqrt(2 * mpmath.pi))

        def row(x):
            m = (1 - mpmath.mpf(a)) * x
            return [
                v * scale * (mpmath.exp(-(((u - m) / s) ** 2) / 2) + mpmath.exp(-(((u + m) / s) ** 2) / 2))
                for u, v in zip(y, w, strict=True)
            ]

        matrix = mpmath.eye(n) - mpmath.matrix([row(x) for x in y])
        tau = mpmath.lu_solve(matrix, mpmath.ones(n, 1))
        return float(mpmath.log(1 + mpmath.fsum(p * q for p, q in zip(row(mpmath.mpf(0)), tau, strict=True))))


def _legendre_mpmath(n):
    """Nodes and weights of the Gauss-Legendre rule by Newton's method from the double ones."""
    import mpmath

    out = []
    for start in np.polynomial.legendre.leggauss(n)[0]:
        t = mpmath.mpf(float(start))
        for _ in range(8):
            p, before = t, mpmath.mpf(1)
            for k in range(2, n + 1):
                p, before = ((2 * k - 1) * t * p - (k - 1) * before) / k, p
            slope = n * (t * p - before) / (t * t - 1)
            t -= p / slope
        out.append((t, 2 / ((1 - t * t) * slope**2)))
    return out


# ---- adaptive optimisers with Gaussian gradient noise ----------------------------------------------------------------------


def adaptive_gaussian_paths(optimizer, H, C, start, rates, betas, eps, n, seed):
    """Weights (n, d) after len(rates) iterations on w.H w/2 with gradient noise N(0, C), as the papers write the algorithms.

    Adam: Kingma, Ba 2015, algorithm 1. Adai: Xie et al. 2022: inertia 1 - b0 v/mean(v), clipped; bias by the product of inertias.
    """
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(C)
    w = np.tile(np.asarray(start, float), (n, 1))
    m, v, product = np.zeros_like(w), np.zeros_like(w), np.ones_like(w)
    for t, lr in enumerate(rates, 1):
        g = w @ H + rng.normal(size=w.shape) @ root.T
        v = betas[1] * v + (1 - betas[1]) * g * g
        v_hat = v / (1 - betas[1] ** t)
        if optimizer == "adam":
            m = betas[0] * m + (1 - betas[0]) * g
            w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v_hat) + eps)
        else:
            inertia = np.minimum(np.maximum(1 - betas[0] * v_hat / v_hat.mean(axis=1)[:, None], 0.0), 1 - eps)
            m = inertia * m + (1 - inertia) * g
            product = product * inertia
            w = w - lr * m / (1 - product)
    return w


def torch_adam(gradient, start, lr, betas, eps, steps):
    """torch.optim.Adam's arithmetic: step lr/(1 - b1^t), denominator sqrt(v)/sqrt(1 - b2^t) + eps; one number after another."""
    w = [float(x) for x in start]
    m, v = [0.0] * len(w), [0.0] * len(w)
    for t in range(1, steps + 1):
        g = gradient(w)
        for i in range(len(w)):
            m[i] += (g[i] - m[i]) * (1 - betas[0])
            v[i] = v[i] * betas[1] + (1 - betas[1]) * g[i] * g[i]
            w[i] -= lr / (1 - betas[0] ** t) * m[i] / ((v[i] ** 0.5) / (1 - betas[1] ** t) ** 0.5 + eps)
    return w


# ---- least action at a fixed time (minimum action paths) ------------------------------------------------------------


def least_action_in_time(drift, slope, path, T, rounds=400):
    """min (1/2) int_0^T |x' - b|^2 dt over polygons with the ends of `path` (n + 1, d), for D = 1/2: midpoint rule, second order.

    A problem of least squares: Levenberg-Marquardt on the banded normal equations. `drift` (n, d) -> (n, d), `slope` -> (n, d, d).
    """
    from scipy.linalg import solveh_banded

    x, h, d = path.copy(), T / (len(path) - 1), path.shape[1]
    size, damping = np.sqrt(h / 2), 1e-3

    def residuals(x):
        return (np.diff(x, axis=0) / h - drift(0.5 * (x[1:] + x[:-1]))) * size

    r = residuals(x)
    action = np.sum(r * r)
    for _ in range(rounds):
        J = slope(0.5 * (x[1:] + x[:-1]))
        left, right = (-np.eye(d) / h - 0.5 * J) * size, (np.eye(d) / h - 0.5 * J) * size
        gradient = np.einsum("nij,ni->nj", right[:-1], r[:-1]) + np.einsum("nij,ni->nj", left[1:], r[1:])
        diagonal = np.einsum("nki,nkj->nij", right[:-1], right[:-1]) + np.einsum("nki,nkj->nij", left[1:], left[1:])
        beside = np.einsum("nki,nkj->nij", left[1:-1], right[1:-1])
        band = np.zeros((2 * d, gradient.size))
        for i in range(d):
            for j in range(i, d):
                band[2 * d - 1 - (j - i), j::d] = diagonal[:, i, j]
            for j in range(d):
                band[d - 1 - j + i, d + j :: d] = beside[:, i, j]
        pivots = band[-1].copy()
        while True:
            band[-1] = pivots * (1.0 + damping)
            trial = x.copy()
            trial[1:-1] -= solveh_banded(band, gradient.ravel()).reshape(-1, d)
            new = residuals(trial)
            if np.sum(new * new) < action or damping > 1e8:
                break
            damping *= 4.0
        gain, damping = action - np.sum(new * new), max(damping / 5.0, 1e-12)
        x, r, action = trial, new, np.sum(new * new)
        if gain < 1e-13 * action:
            break
    return x, action
