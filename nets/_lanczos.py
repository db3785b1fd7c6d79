"""Leading eigenpairs of a symmetric operator from products with vectors: Lanczos with a thick restart.

K. Wu, H. Simon, SIAM J. Matrix Anal. Appl. 22, 602 (2000). All basis vectors are kept orthogonal to rounding, and the products are
kept too, so that the residuals of the pairs found are those of the operator itself and cost no further product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["ORDERS", "lanczos"]

Array = NDArray[np.float64]

#: Which eigenvalues come first.
ORDERS: dict[str, Callable[[Array], Array]] = {
    "largest": lambda values: -values,
    "smallest": lambda values: values,
    "magnitude": lambda values: -np.abs(values),
}
#: Steps between two looks at the projected matrix.
STRIDE = 3
#: Products in all, in multiples of the size of the matrix.
MOST = 20


def lanczos(
    product: Callable[[Array], Array], size: int, k: int, which: str, tol: float, seed: int
) -> tuple[Array, Array, Array, bool]:
    """Values (k,), vectors (size, k), norms of A v - value v (k,), and whether these are below `tol` times the values.

    The basis has at most 4 k + 20 vectors, and all of the space where that is smaller. Of an eigenvalue that occurs many times some
    copies can be missed, as by any method that starts from one vector. A value of next to nothing has converged where its residual
    is rounding: some 1e-16 of the largest product seen.
    """
    most = min(size, 4 * k + 20)
    rng = np.random.default_rng(seed)
    basis, images = np.empty((most, size)), np.empty((most, size))
    inside = np.zeros((most, most))
    following = rng.standard_normal(size)
    following /= np.linalg.norm(following)
    kept, count, scale, empty = 0, 0, 0.0, 0
    while True:
        for j in range(kept, most):
            basis[j] = following
            images[j] = product(following)
            count += 1
            inside[j, : j + 1] = inside[: j + 1, j] = basis[: j + 1] @ images[j]
            scale = max(scale, float(np.linalg.norm(images[j])))
            following, beta = _orthogonal(images[j], basis[: j + 1], scale, rng)
            empty = 0 if beta > 0.0 else empty + 1
            last = j + 1 == most or (count >= MOST * size and j + 1 >= k)
            if last or j + 1 > 2 * k and (empty or (j - 2 * k) % STRIDE == 0):
                values, parts = np.linalg.eigh(inside[: j + 1, : j + 1])
                order = np.argsort(ORDERS[which](values), kind="stable")
                wanted = order[:k]
                good = beta * np.abs(parts[-1, wanted]) <= np.maximum(tol * np.abs(values[wanted]), 4e-16 * scale)
                # where the space is exhausted, k random directions in turn must have added nothing
                done = good.all() and (beta > 0.0 or empty >= k) and most < size
                if done or count >= MOST * size or j + 1 == size:
                    return *_pairs(basis[: j + 1], images[: j + 1], values[wanted], parts[:, wanted]), bool(good.all())
        keep = order[: k + (most - k) // 2]
        kept = len(keep)
        basis[:kept], images[:kept] = parts[:, keep].T @ basis, parts[:, keep].T @ images
        inside[:] = 0.0
        inside[np.arange(kept), np.arange(kept)] = values[keep]


def _orthogonal(image: Array, basis: Array, scale: float, rng: np.random.Generator) -> tuple[Array, float]:
    """The unit vector along what `image` adds to the basis, and its length; a random direction and 0 where it adds nothing."""
    rest = image - (basis @ image) @ basis
    rest -= (basis @ rest) @ basis
    beta = float(np.linalg.norm(rest))
    if beta > 1e-14 * scale:
        return rest / beta, beta
    if len(basis) == basis.shape[1]:
        return rest, 0.0
    rest = np.asarray(rng.standard_normal(basis.shape[1]))
    for _ in range(3):
        rest -= (basis @ rest) @ basis
        rest = np.asarray(rest / np.linalg.norm(rest))
    return rest, 0.0


def _pairs(basis: Array, images: Array, values: Array, parts: Array) -> tuple[Array, Array, Array]:
    vectors = parts.T @ basis
    residuals = np.linalg.norm(parts.T @ images - values[:, None] * vectors, axis=1)
    return values, np.ascontiguousarray(vectors.T), residuals
