"""Stationary covariances of linear dynamics: the Ornstein-Uhlenbeck process and SGD at a finite learning rate."""

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ._checks import is_finite, is_number, numbers

if TYPE_CHECKING:
    pass


__all__ = ["discrete_covariance", "ou_covariance"]

Array = npt.NDArray[np.float64]


def _square(matrix: npt.ArrayLike, name: str) -> Array:
    array = np.atleast_2d(numbers(name, matrix))
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} has {int(np.sum(~np.isfinite(array)))} entries that are not finite")
    return array


def _symmetric(matrix: npt.ArrayLike, name: str, *, psd: bool = False) -> Array:
    array = _square(matrix, name)
    gap = float(np.abs(array - array.T).max())
    if gap > 1e-8 * float(np.abs(array).max()):
        raise ValueError(
            f"{name} must be symmetric; {name} and its transpose differ by {gap:.3g}; use ({name} + {name}.T)/2 "
            "if that is what you mean"
        )
    array = 0.5 * array + 0.5 * array.T
    if psd:
        lowest = float(np.linalg.eigvalsh(array)[0])
        if lowest < -1e-8 * float(np.abs(array).max()):
            raise ValueError(f"{name} must be positive semi-definite; it has the eigenvalue {lowest:.6g}")
    return array


def _same_size(first: Array, second: Array, names: str) -> None:
    if first.shape != second.shape:
        raise ValueError(f"{names} must have the same shape, got {first.shape} and {second.shape}")


def ou_covariance(A: npt.ArrayLike, D: npt.ArrayLike) -> Array:
    r"""Stationary covariance S of dX = -A X dt + B dW with B B^T = 2 D: A S + S A^T = 2 D.

    Parameters
    ----------
    A : array (d, d)
        Any matrix whose eigenvalues have positive real parts; symmetric or not.
    D : array (d, d)
        Symmetric, positive semi-definite.

    Returns
    -------
    array (d, d)
        In continuous time. `discrete_covariance` is exact at a finite learning rate.

    Raises
    ------
    ValueError
        If A is not stable (the eigenvalue is named), D is not symmetric positive semi-definite, or shapes differ.

    References
    ----------
    C. Gardiner, Stochastic Methods (4th ed., 2009), sec. 4.4.6; S. Mandt, M. Hoffman, D. Blei, JMLR 18, 134 (2017).

    Examples
    --------
    >>> ou_covariance([[2.0]], [[1.0]])
    array([[0.5]])
    """
    from scipy.linalg import solve_continuous_lyapunov

    A, D = _square(A, "A"), _symmetric(D, "D", psd=True)
    _same_size(A, D, "A and D")
    eigenvalues = np.linalg.eigvals(A)
    worst = eigenvalues[np.argmin(eigenvalues.real)]
    if worst.real <= 0.0:
        raise ValueError(
            f"ou_covariance: A has the eigenvalue {worst:.6g}; all must have positive real parts, else nothing is stationary"
        )
    S = solve_continuous_lyapunov(A, 2.0 * D)
    return np.asarray(0.5 * (S + S.T))


def discrete_covariance(
    H: npt.ArrayLike,
    C: npt.ArrayLike,
    lr: float,
    batch: int = 1,
    momentum: float = 0.0,
    *,
    sampling: Literal["replace", "shuffle"] = "replace",
    size: int | None = None,
) -> Array:
    r"""Exact stationary covariance S of SGD on a quadratic loss at a finite learning rate.

    The iteration is v <- mu v + H w + xi, w <- w - lr v (PyTorch's convention; mu = 0 is plain SGD). With replacement the noise is
    white with covariance C / batch, and without momentum

    .. math:: H S + S H - \mathrm{lr}\, H S H = \frac{\mathrm{lr}}{B} C .

    In the eigenbasis of H, with x_i = lr lambda_i, momentum gives

    .. math:: S_{ij} = \frac{\mathrm{lr}^2 C_{ij}}{B}\,
        \frac{1 - \mu^2}{(1+\mu)(1-\mu)^2 (x_i + x_j) - (1+\mu^2) x_i x_j + \mu (x_i^2 + x_j^2)} .

    With reshuffled epochs of K = floor(N / B) steps without replacement the noise of one epoch has E[xi_s xi_t^T] =
    C (N - B) / (B (N - 1)) for s = t and -C / (N - 1) for s != t, exactly (sampling from a finite population), and
    epochs are independent. S is then the average over the K positions within the epoch. In flat directions (lr lambda K << 1)
    it tends to lr^2 C K / (6 B), where white noise gives lr C / (2 B lambda).

    Parameters
    ----------
    H : array (d, d)
        Hessian, symmetric positive definite.
    C : array (d, d)
        Covariance of the per-sample gradient at the minimum, normalised by N; need not commute with H.
    lr : float
    batch : int
    momentum : float
        mu, 0 <= mu < 1.
    sampling : {"replace", "shuffle"}
    size : int, optional
        Number of samples N; needed for "shuffle". Where batch does not divide it, the rest of the epoch is dropped.

    Returns
    -------
    array (d, d)

    Raises
    ------
    ValueError
        If H is not symmetric or has an eigenvalue outside 0 < lr lambda < 2 (1 + mu); C is not symmetric positive semi-definite;
        shapes differ; lr, batch, momentum or size are out of range; momentum with "shuffle".

    References
    ----------
    S. Mandt, M. Hoffman, D. Blei, JMLR 18, 134 (2017), for momentum; sampling without replacement from a finite
    population: W. G. Cochran, Sampling Techniques (3rd ed., 1977), ch. 2.

    Examples
    --------
    >>> discrete_covariance([[2.0]], [[3.0]], lr=0.1, batch=5)          # lr c / (B lambda (2 - lr lambda))
    array([[0.01666667]])
    """
    H, C = _symmetric(H, "H"), _symmetric(C, "C", psd=True)
    _same_size(H, C, "H and C")
    _check_sgd(lr, batch, momentum, sampling, size)
    eigenvalues, V = np.linalg.eigh(H)
    limit = 2.0 * (1.0 + momentum)
    bad = ~((eigenvalues > 0.0) & (lr * eigenvalues < limit))
    if bad.any():
        worst = float(eigenvalues[bad][-1])
        cure = (
            f"take lr < {limit / worst:.4g}"
            if worst > 0.0
            else "project the direction out: nothing brings the weights back along it"
        )
        raise ValueError(
            f"discrete_covariance: SGD is not stable along the eigenvalue {worst:.6g} of H: lr * lambda = {lr * worst:.6g} must "
            f"lie in (0, {limit:g}); {cure}"
        )
    x, noise = lr * eigenvalues, lr**2 * (V.T @ C @ V)
    if sampling == "shuffle":
        assert size is not None
        S = noise * _epoch_factor(x, int(batch), int(size))
    else:
        mu, total, product = momentum, x[:, None] + x, x[:, None] * x
        squares = x[:, None] ** 2 + x**2
        S = noise / batch * (1.0 - mu**2) / ((1.0 + mu) * (1.0 - mu) ** 2 * total - (1.0 + mu**2) * product + mu * squares)
    S = V @ S @ V.T
    return np.asarray(0.5 * (S + S.T))


def _check_sgd(lr: float, batch: int, momentum: float, sampling: str, size: int | None) -> None:
    if not (is_number(lr) and lr > 0.0 and is_finite(lr)):
        raise ValueError(f"lr must be finite and > 0, got {lr!r}")
    if not (is_number(batch) and batch >= 1 and is_finite(batch) and batch == int(batch)):
        raise ValueError(f"batch must be an integer >= 1, got {batch!r}")
    if not (is_number(momentum) and 0.0 <= momentum < 1.0):
        raise ValueError(f"momentum must lie in [0, 1), got {momentum!r}")
    if sampling not in ("replace", "shuffle"):
        raise ValueError(f"sampling must be 'replace' or 'shuffle', got {sampling!r}")
    if size is not None and not (is_number(size) and is_finite(size) and size == int(size) >= 1):
        raise ValueError(f"size must be a number of samples >= 1, got {size!r}")
    if sampling == "shuffle":
        if size is None or size != int(size) or size < max(batch, 2):
            raise ValueError(
                f"sampling='shuffle' needs size, the number of samples, an integer >= max(batch, 2) = {max(batch, 2)}; got {size}"
            )
        if momentum != 0.0:
            raise ValueError(f"sampling='shuffle' is solved for momentum 0 only, got {momentum}")


def _epoch_factor(x: Array, batch: int, size: int) -> Array:
    """F_ij with S_ij = lr^2 C_ij F_ij, averaged over the positions 0 ... K-1 of a reshuffled epoch; a_i = 1 - x_i.

    The noise of the first k steps of an epoch enters with weights a^m, m < k. For exchangeable noise with variance alpha and
    covariance beta = -1 / (N - 1) the sum over m, n splits into two terms without cancellation: the spread of the weights times
    (alpha - beta) = N / (B (N - 1)), and their sums times (N - B k) / (B k (N - 1)), which is 0 at the end of a full epoch. The
    weights themselves are kept as a^m - 1 = expm1(m log1p(-x)), so that flat directions lose no digits.
    """
    K = size // batch
    spread = size / (batch * (size - 1.0))
    sum_e, sum_ee = np.zeros_like(x), np.zeros((x.size, x.size))
    Q, total_Q, power_sum = np.zeros_like(sum_ee), np.zeros_like(sum_ee), np.zeros_like(sum_ee)
    a = 1.0 - x
    with np.errstate(divide="ignore", invalid="ignore"):
        log_a = np.where(x < 1.0, np.log1p(-np.minimum(x, 1.0)), 0.0)
    for k in range(1, K + 1):
        m = k - 1
        total_Q += Q
        power_sum += np.outer(a**m, a**m)
        e = np.where(x < 1.0, np.expm1(m * log_a), a**m - 1.0)
        sum_e, sum_ee = sum_e + e, sum_ee + np.outer(e, e)
        g = k + sum_e
        Q = spread * (sum_ee - np.outer(sum_e, sum_e) / k) + (size - batch * k) / (batch * k * (size - 1.0)) * np.outer(g, g)
    ratio = np.outer(a, a) ** K
    both = (x[:, None] < 1.0) & (x < 1.0)
    loss = np.where(both, -np.expm1(K * (log_a[:, None] + log_a)), 1.0 - ratio)
    return np.asarray((power_sum * (Q / loss) + total_Q) / K)
