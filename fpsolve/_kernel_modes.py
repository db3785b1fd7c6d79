"""Leading eigenvalues and eigenfunctions of a transition kernel; a part of `TransitionKernel`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._kernel_base import KernelSolver
from .errors import FpsolveError
from .results import Spectrum

__all__ = ["KernelModes"]

Complex = NDArray[np.complex128]

#: Eigenvalues of the kernel below this are rounding; a second rate below this share of an iteration means several basins.
_SMALLEST, _SLOW = 1e-9, 1e-9


class KernelModes(KernelSolver):
    """The spectrum of the kernel on the whole grid."""

    def spectrum(self, k: int) -> Spectrum:
        r"""The k slowest modes of the kernel: :math:`\int k(x, y) r(y) dy = e^{\mu} r(x)` and its adjoint.

        Parameters
        ----------
        k : int
            Number of modes, the stationary one (mu = 0) included where mass is conserved; a complex pair is not cut.

        Returns
        -------
        Spectrum
            mu per iteration: correlations of mode j decay like exp(mu_j n). An eigenvalue exp(mu) < 0, a mode that changes sign in
            every iteration, has Im mu = pi. Fewer modes than asked for where the others decay by more than 1e9 in an iteration.

        Raises
        ------
        ValueError
            If k is not between 1 and a quarter of the nodes.
        FpsolveError
            If the iteration does not converge.

        Notes
        -----
        ARPACK on the full matrix; the stationary mode is exact. Rates below 1e-9 (several basins) are rounding, and warned of:
        `escape_rate` of one basin keeps its digits.

        Examples
        --------
        >>> from fpsolve import Grid, Noise, Potential, SGDChain, TransitionKernel
        >>> chain = SGDChain.gaussian(Potential.from_expression("x**2/2"), Noise.isotropic(0.5), lr=0.5)
        >>> TransitionKernel(chain, Grid((-6, 6, 60))).spectrum(4).rates.round(3)        # (1 - lr)^j: j ln 2
        array([0.   , 0.693, 1.386, 2.079])
        """
        system, grid = self._system(None), self.grid
        n, conserved = len(system.total), not any("absorbing" in sides for sides in grid.boundary)
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= n // 4:
            raise ValueError(f"k must be an integer from 1 to {n // 4} (a quarter of the nodes), got {k!r}")
        values, right = _leading(system.P, min(int(k) + 3, n - 2))
        others, left = _leading(system.P.T, min(int(k) + 6, n - 2))
        keep = int(np.sum(np.abs(values[: int(k)]) > _SMALLEST))
        if 0 < keep < values.size and values[keep - 1].imag and np.isclose(values[keep - 1], values[keep].conj(), rtol=1e-6):
            keep += 1
        values, right = values[:keep], right[:, :keep]
        left = _paired(values, right, others, left)
        mass = np.abs(system.chain.stationary()) if conserved else system.nodes.weights / system.nodes.weights.sum()
        if conserved:
            values[0], right[:, 0], left[:, 0] = 1.0, 1.0, mass
        norm = np.sqrt(mass @ np.abs(right) ** 2)
        right, left = right / norm, left * norm
        residuals = np.linalg.norm(system.P @ right - right * values, axis=0) / np.linalg.norm(right, axis=0)
        points = grid.points()
        at = np.concatenate([system.rows(points[i : i + 256])[0] @ right for i in range(0, len(points), 256)]) / values
        density = [system.density(v.real, points) + 1j * system.density(v.imag, points) for v in (left / values).T]
        notes = []
        if keep > 1 and abs(1.0 - abs(values[1])) < _SLOW:
            rate = abs(1.0 - abs(values[1]))
            notes.append(f"the second rate, {rate:.2g} per iteration, is rounding: several basins hardly exchange; "
                         "ask escape_rate of one of them")  # fmt: skip
        shape = (keep, *grid.shape)
        return Spectrum(np.log(values), at.T.reshape(shape), np.array(density).reshape(shape), residuals, grid,
                        method=f"{self.method}, leading modes", warnings=tuple(notes), unit="1/iteration")  # fmt: skip


def _leading(P: NDArray[np.float64], count: int) -> tuple[Complex, Complex]:
    """The eigenvalues of largest modulus with right eigenvectors, largest first; of a pair that with Im > 0 first."""
    from scipy.sparse.linalg import ArpackError, eigs

    try:
        values, vectors = eigs(P, k=count, which="LM", v0=np.cos(np.arange(P.shape[0], dtype=float)) + 1.5)
    except ArpackError as error:
        raise FpsolveError(f"the eigenvalues of the kernel did not converge: {error}; ask for fewer modes") from error
    order = np.lexsort((-values.imag, -np.round(np.abs(values), 9)))
    return values[order], vectors[:, order]


def _paired(values: Complex, right: Complex, others: Complex, left: Complex) -> Complex:
    """Left eigenvectors of the same eigenvalues, scaled and mixed so that sum l_j r_k = delta_jk."""
    free, chosen = list(range(others.size)), []
    for value in values:
        chosen.append(min(free, key=lambda i: abs(others[i] - value)))
        free.remove(chosen[-1])
    some = left[:, chosen]
    # different eigenvalues are orthogonal but for rounding: only equal ones may mix
    overlap = np.where(np.abs(values[:, None] - values) < 1e-6 * np.abs(values), some.T @ right, 0.0)
    return np.asarray(np.linalg.solve(overlap, some.T).T)
