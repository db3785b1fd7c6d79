"""Independent, naive formulas that the tests compare with: nothing here imports the packages under test."""

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
