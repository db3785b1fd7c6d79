"""Linear steps y' = M y + N z of the matrix kernel, in a basis in which few entries are left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._schedule import ScheduledConstants

__all__ = ["MAX_TRANSFORMED", "LinearSchedule", "LinearStep"]

Array = NDArray[np.float64]

#: Linear steps of more variables stay in their own basis: a Schur form costs 25 v^3 operations.
MAX_TRANSFORMED = 512
#: Memory for the steps of a schedule that are kept.
STEP_BYTES = 1 << 26


@dataclass(frozen=True)
class LinearStep:
    """y' = M y + N z in an orthonormal basis, y = Q w, in which few entries are left: w' = T w + R z.

    A symmetric M becomes diagonal, any other M triangular (real Schur form); N becomes a triangular R with the same R R^T where
    that has fewer entries than Q^T N. So a step takes half or a quarter of the multiply-adds of the dense product, and the
    transformation is orthogonal: nothing is ill-conditioned.
    """

    matrix: Array  # (T | R), zero padded to multiples of four
    spans: NDArray[np.int64]  # for each four rows: first and last column of what is not zero in T, and in R
    basis: Array  # Q (v, v)
    noises: int

    @classmethod
    def of(cls, step: Array, noise: Array) -> LinearStep:
        basis = np.eye(len(step))
        if len(step) <= MAX_TRANSFORMED:
            step, noise, basis = _sparsest(step, noise)
        return cls.packed(step, noise, basis)

    @classmethod
    def packed(cls, step: Array, noise: Array, basis: Array) -> LinearStep:
        v, m = noise.shape
        rows, columns = -(-v // 4) * 4, -(-m // 4) * 4
        matrix = np.zeros((rows, rows + columns))
        matrix[:v, :v], matrix[:v, rows : rows + m] = step, noise
        return cls(matrix, np.hstack([_spans(matrix[:, :rows]), rows + _spans(matrix[:, rows:])]), basis, m)


def _sparsest(step: Array, noise: Array) -> tuple[Array, Array, Array]:
    """(T, R, Q) of a step y' = M y + N z."""
    from scipy import linalg

    T, Q = step, np.eye(len(step))
    if np.array_equal(step, step.T):
        values, Q = np.linalg.eigh(step) if np.any(step - np.diag(np.diag(step))) else (np.diag(step), Q)
        T = np.diag(values)
    elif np.any(np.tril(step, -1)):
        T, Q = linalg.schur(step, output="real")
    R = Q.T @ noise
    triangular = linalg.rq(R, mode="economic")[0] if R.shape[1] <= len(R) else linalg.rq(R)[0]
    triangular[np.abs(triangular) < 1e-15 * np.abs(triangular).max()] = 0.0  # rounding, where R R^T is diagonal
    return (T, R, Q) if np.count_nonzero(R) <= np.count_nonzero(triangular) else (T, triangular, Q)


def _spans(matrix: Array) -> NDArray[np.int64]:
    """(rows/4, 2): first and last column, in multiples of four, of the nonzero entries of each four rows."""
    used = np.any(matrix.reshape(len(matrix) // 4, 4, -1, 4) != 0.0, axis=(1, 3))
    first, last = np.argmax(used, axis=1), used.shape[1] - np.argmax(used[:, ::-1], axis=1)
    return np.asarray(4 * np.stack([first, np.where(used.any(axis=1), last, first)], axis=1), np.int64)


class LinearSchedule:
    """Steps whose constants change with the iteration, in one basis for all: that in which A of the drift -A x is triangular.

    ``affine(A, B, constants)`` gives M and N of the scheme.
    """

    def __init__(self, affine: Callable[..., tuple[Array, Array]], A: Array, B: Array, schedule: ScheduledConstants) -> None:
        copies = len(affine(A, B, dict(zip(schedule.names, schedule.template, strict=True)))[0]) // len(A)
        basis = np.eye(len(A))
        self.A, self.B = A, B
        if copies * len(A) <= MAX_TRANSFORMED:
            self.A, self.B, basis = _sparsest(A, B)
        self.affine, self.schedule, self.basis = affine, schedule, np.asarray(np.kron(np.eye(copies), basis), float)
        self._steps: dict[tuple[float, ...], LinearStep] = {}

    def at(self, k: int) -> tuple[LinearStep, int]:
        """The step of iteration k, and the number of iterations from k on that are known to have the same."""
        rows = self.schedule.rows(k)
        values = tuple(rows[0].tolist())
        step = self._steps.get(values)
        if step is None:
            M, N = self.affine(self.A, self.B, dict(zip(self.schedule.names, values, strict=True)))
            step = LinearStep.packed(M, N, self.basis)
            if len(self._steps) * step.matrix.nbytes < STEP_BYTES:  # every block of trajectories comes by
                self._steps[values] = step
        if len(rows) == 1 or np.any(rows[1] != rows[0]):
            return step, 1
        other = np.any(rows != rows[0], axis=1)
        return step, int(np.argmax(other)) if other.any() else len(rows)
