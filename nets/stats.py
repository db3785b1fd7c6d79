"""Statistics of SGD at a minimum, measured or brought from anywhere: mean weights, Hessian, gradient covariance."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsolve.results import Result

from ._checks import integer, is_finite, numbers

__all__ = ["Stats", "from_arrays", "load_stats"]

Array = NDArray[np.float64]

SAMPLING = ("replace", "shuffle")
#: Array -> its axes, units, long name.
DESCRIBE = {
    "mean": ("weight", "weight", "point of expansion"),
    "hessian": ("weight other_weight", "loss/weight^2", "Hessian of the loss, weight decay included"),
    "covariance": ("weight other_weight", "loss^2/weight^2", "centred covariance of the per-sample gradients"),
    "weight_covariance": ("weight other_weight", "weight^2", "covariance of the weights along the trajectory"),
    "eigenvalues": ("mode", "loss/weight^2", "eigenvalues of the Hessian, largest first"),
}
#: Asymmetry and negative eigenvalues up to this fraction of the largest entry count as rounding.
TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class Stats(Result):
    """What the theory of SGD near a minimum needs to know of a network.

    Attributes
    ----------
    mean : ndarray, shape (P,)
        Point of expansion: mean weights (of the block measured).
    hessian : ndarray, shape (P, P), or None
        H of the loss, weight decay included.
    covariance : ndarray, shape (P, P), or None
        C, centred covariance of the per-sample gradients; the minibatch noise is C/B (sampling with replacement).
    weight_covariance : ndarray, shape (P, P), or None
        Measured covariance of the weights, if a trajectory was given.
    lr, batch, momentum
        Of the SGD described.
    sampling : {"replace", "shuffle"}
    n_samples : int or None
        Number N of training samples.
    name : str
    provenance : dict

    Examples
    --------
    >>> import nets, numpy as np
    >>> stats = nets.from_arrays(hessian=np.diag([2.0, 1.0]), covariance=np.eye(2), lr=0.1, batch=10)
    >>> stats.eigenvalues
    array([2., 1.])
    """

    mean: Array
    hessian: Array | None
    covariance: Array | None
    lr: float
    batch: int
    sampling: str = "replace"
    n_samples: int | None = None
    momentum: float = 0.0
    weight_covariance: Array | None = None
    name: str = ""
    provenance: dict[str, Any] = field(default_factory=dict, repr=False, metadata={"saved": False})
    DERIVED: ClassVar[dict[str, tuple[str, str, str]]] = {"eigenvalues": DESCRIBE["eigenvalues"]}
    DESCRIBE: ClassVar[dict[str, tuple[str, str, str]]] = {k: words for k, words in DESCRIBE.items() if k != "eigenvalues"}
    DRAWN: ClassVar[str] = "eigenvalues"

    def _rows(self) -> str:
        return "weight" if self.hessian is None else "mode"

    def __post_init__(self) -> None:
        _check_settings(self.lr, self.batch, self.sampling, self.momentum, self.n_samples)
        mean = np.asarray(self.mean, dtype=np.float64)
        if mean.ndim != 1 or not np.isfinite(mean).all():
            raise ValueError(f"mean must be a finite vector: got shape {mean.shape}")
        object.__setattr__(self, "mean", mean)
        for what in ("hessian", "covariance", "weight_covariance"):
            matrix = getattr(self, what)
            if matrix is not None:
                object.__setattr__(self, what, _check_matrix(what, matrix, len(mean), positive=what != "hessian"))

    def __repr__(self) -> str:
        have = [what for what in ("hessian", "covariance", "weight_covariance") if getattr(self, what) is not None]
        name = f"{self.name!r}, " if self.name else ""
        return (
            f"Stats({name}{self.dim} weights, {', '.join(have) or 'mean only'}, lr={self.lr:g}, batch={self.batch}, "
            f"{self.sampling})"
        )

    @property
    def dim(self) -> int:
        """Number of weights P."""
        return len(self.mean)

    @property
    def noise_factor(self) -> float:
        """1 with replacement; (N - B)/(N - 1), the variance of one batch relative to C/B, without.

        Without replacement the noise is moreover anti-correlated within an epoch (its sum over a full epoch is zero), which no
        white-noise process knows: variances in flat directions come out smaller than predicted.
        """
        if self.sampling == "replace":
            return 1.0
        if self.n_samples is None:
            raise ValueError("sampling='shuffle' needs n_samples, the number N of training samples, for the factor (N - B)/(N - 1)")
        return (self.n_samples - self.batch) / (self.n_samples - 1) if self.n_samples > 1 else 0.0

    @property
    def eigenvalues(self) -> Array:
        """Eigenvalues of the Hessian, largest first, shape (P,)."""
        return self._eigen()[0]

    @property
    def eigenvectors(self) -> Array:
        """Eigenvectors of the Hessian as columns, in the order of `eigenvalues`; the largest component of each is positive."""
        return self._eigen()[1]

    def _eigen(self) -> tuple[Array, Array]:
        cached = self.__dict__.get("_spectrum")
        if cached is None:
            if self.hessian is None:
                raise ValueError("these statistics hold no Hessian: pass hessian= to from_arrays, or use nets.measure")
            values, vectors = np.linalg.eigh(self.hessian)
            values, vectors = values[::-1].copy(), vectors[:, ::-1].copy()
            top = np.abs(vectors).argmax(axis=0)
            vectors *= np.sign(vectors[top, np.arange(len(values))])
            cached = (values, vectors)
            object.__setattr__(self, "_spectrum", cached)
        return cached

    def basis(self, directions: int | ArrayLike) -> Array:
        """Directions as columns: the k leading Hessian eigenvectors, those with the given numbers, or a given (P, k) array.

        Raises
        ------
        ValueError
            Numbers out of range, or columns that are not orthonormal.
        """
        if isinstance(directions, (int, np.integer)) and not isinstance(directions, bool):
            if not 1 <= directions <= self.dim:
                raise ValueError(f"directions must lie in 1 .. {self.dim}: got {directions}")
            return np.asarray(self.eigenvectors[:, :directions])
        given = np.asarray(directions)
        if given.ndim == 1 and np.issubdtype(given.dtype, np.integer):
            if not len(given) or given.min() < 0 or given.max() >= self.dim or len(set(given.tolist())) < len(given):
                raise ValueError(f"directions must be different numbers in 0 .. {self.dim - 1}: got {given.tolist()}")
            return np.asarray(self.eigenvectors[:, given])
        q = numbers("given", given)
        if q.ndim != 2 or len(q) != self.dim:
            raise ValueError(f"directions must be a number, a list of numbers, or an array ({self.dim}, k): got shape {q.shape}")
        gap = np.abs(q.T @ q - np.eye(q.shape[1])).max()
        if not gap < 1e-8:
            raise ValueError(
                f"the columns of directions must be orthonormal: Q^T Q differs from 1 by {gap:.2g}; use numpy.linalg.qr"
            )
        return q

    def projected(self, directions: int | ArrayLike) -> tuple[Array, Array]:
        """Q^T H Q and Q^T C Q in the directions Q = `basis(directions)`, symmetric arrays (k, k)."""
        if self.hessian is None or self.covariance is None:
            raise ValueError(
                "projecting needs both the Hessian and the gradient covariance: pass hessian= and covariance= "
                "to from_arrays, or use nets.measure"
            )
        q = self.basis(directions)
        h, c = q.T @ self.hessian @ q, q.T @ self.covariance @ q
        return 0.5 * (h + h.T), 0.5 * (c + c.T)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write to HDF5 (whole or not at all); `nets.load_stats` reads it."""
        from fpsolve import io

        tree = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "provenance"}
        if self.hessian is not None:
            tree["eigenvalues"] = self.eigenvalues
        io.save_tree(
            path,
            {"stats": tree},
            {"kind": "stats"},
            overwrite=overwrite,
            record=self.provenance or io.provenance(name=self.name),
            describe={f"stats/{name}": words for name, words in DESCRIBE.items() if tree.get(name) is not None},
        )


def _check_settings(lr: float, batch: int, sampling: str, momentum: float, n_samples: int | None) -> None:
    if not (isinstance(lr, (int, float, np.floating)) and is_finite(lr) and lr > 0.0):
        raise ValueError(f"lr must be finite and > 0: got {lr!r}")
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise ValueError(f"batch must be a positive integer: got {batch!r}")
    if sampling not in SAMPLING:
        raise ValueError(f"sampling must be one of {SAMPLING}: got {sampling!r}")
    if np.ndim(momentum) or not isinstance(momentum, (int, float, np.number)) or not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must lie in [0, 1): got {momentum!r}")
    if n_samples is not None:
        integer("n_samples", n_samples, 1)
    if n_samples is not None and (n_samples < 1 or (sampling == "shuffle" and batch > n_samples)):
        raise ValueError(f"n_samples must be at least 1, and at least batch = {batch} without replacement: got {n_samples!r}")


def _check_matrix(what: str, matrix: ArrayLike, dim: int, positive: bool) -> Array:
    a = np.asarray(matrix, dtype=np.float64)
    if a.shape != (dim, dim):
        raise ValueError(f"{what} must have shape ({dim}, {dim}), as there are {dim} weights: got {a.shape}")
    if not np.isfinite(a).all():
        raise ValueError(f"{what} contains {np.count_nonzero(~np.isfinite(a))} non-finite entries")
    scale = float(np.abs(a).max())
    gap = np.abs(a - a.T)
    if gap.max() > TOLERANCE * scale:
        i, j = np.unravel_index(int(gap.argmax()), gap.shape)
        raise ValueError(
            f"{what} must be symmetric: entries [{i}, {j}] and [{j}, {i}] are {a[i, j]:.6g} and {a[j, i]:.6g}; "
            "use (A + A.T) / 2 if that is what you mean"
        )
    a = 0.5 * (a + a.T)
    if positive and scale > 0.0:
        lowest = float(np.linalg.eigvalsh(a)[0])
        if lowest < -TOLERANCE * scale * math.sqrt(dim):
            raise ValueError(
                f"{what} must be positive semi-definite: its lowest eigenvalue is {lowest:.6g} (largest entry {scale:.6g})"
            )
    return a


def from_arrays(
    *,
    weights: ArrayLike | None = None,
    gradients: ArrayLike | None = None,
    hessian: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    lr: float,
    batch: int,
    sampling: str = "replace",
    momentum: float = 0.0,
    n_samples: int | None = None,
    name: str = "",
) -> Stats:
    r"""Statistics of any network, from arrays made anywhere.

    Parameters
    ----------
    weights : array, shape (P,) or (T, P), optional
        Mean weights, or a trajectory, of which mean and covariance (divided by T) are taken. Default: zeros.
    gradients : array, shape (N, P), optional
        Per-sample gradients at the mean weights, one row per training sample;
        :math:`C = \overline{g g^T} - \bar g \bar g^T` (divided by N).
    hessian : array, shape (P, P), optional
    covariance : array, shape (P, P), optional
        C itself, instead of `gradients`. It is the covariance **per sample**: multiply that of minibatch gradients by B first.
    lr, batch, sampling, momentum
        Of the SGD that the statistics describe.
    n_samples : int, optional
        Default: the number of rows of `gradients`.

    Returns
    -------
    Stats

    Raises
    ------
    ValueError
        Shapes that do not fit, matrices that are not symmetric, finite or positive semi-definite; both gradients and covariance;
        no array at all.

    Examples
    --------
    >>> import numpy as np, nets
    >>> rng = np.random.default_rng(0)
    >>> stats = nets.from_arrays(gradients=rng.standard_normal((500, 3)), hessian=np.diag([3.0, 2.0, 1.0]), lr=0.1, batch=10)
    >>> stats
    Stats(3 weights, hessian, covariance, lr=0.1, batch=10, replace)
    """
    if gradients is not None and covariance is not None:
        raise ValueError("give gradients or covariance, not both")
    for what, a, ranks in (("weights", weights, (1, 2)), ("covariance", covariance, (2,)), ("hessian", hessian, (2,))):
        if a is not None and np.ndim(a) not in ranks:
            shapes = "(P,) or (T, P)" if what == "weights" else "(P, P)"
            raise ValueError(f"{what} must have shape {shapes}: got {np.shape(a)}")
    spread = None
    if gradients is not None:
        g = numbers("gradients", gradients)
        if g.ndim != 2 or len(g) < 2 or not np.isfinite(g).all():
            raise ValueError(f"gradients must be a finite array (N, P) with one row per sample, N >= 2: got shape {g.shape}")
        n_samples = len(g) if n_samples is None else n_samples
        g = g - g.mean(axis=0)
        covariance = g.T @ g / len(g)
    dims = {
        what: np.shape(a)[-1]
        for what, a in (("weights", weights), ("covariance", covariance), ("hessian", hessian))
        if a is not None
    }
    if not dims:
        raise ValueError("from_arrays needs at least one of weights, gradients, covariance and hessian")
    if len(set(dims.values())) > 1:
        raise ValueError(f"the arrays disagree about the number of weights: {dims} (covariance may come from gradients)")
    mean = np.zeros(next(iter(dims.values()))) if weights is None else np.asarray(weights, dtype=np.float64)
    if mean.ndim == 2:
        if len(mean) < 2 or not np.isfinite(mean).all():
            raise ValueError(f"a trajectory of weights must be finite with at least 2 rows: got shape {mean.shape}")
        centred = mean - mean.mean(axis=0)
        spread, mean = centred.T @ centred / len(mean), mean.mean(axis=0)
    return Stats(
        mean,
        None if hessian is None else np.asarray(hessian),
        None if covariance is None else np.asarray(covariance),
        lr,
        batch,
        sampling,
        n_samples,
        momentum,
        spread,
        name,
    )


def load_stats(path: str | os.PathLike[str]) -> Stats:
    """Read what `Stats.save` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; damaged, something else, or from a newer major version.

    Examples
    --------
    >>> load_stats("nowhere.h5")
    Traceback (most recent call last):
    FileNotFoundError: nowhere.h5 does not exist
    """
    from fpsolve import io

    from ._saved import check_fields

    with io.reading(path) as file:
        if "stats" not in file:
            raise ValueError(f"it holds no statistics (groups {sorted(file)})")
        known = {f.name for f in fields(Stats)} - {"provenance"}
        tree = io.read_group(io.member(file, "stats"))
        values = {name: value for name, value in tree.items() if name in known}
        check_fields(Stats, values, {name: words[0] for name, words in DESCRIBE.items() if name in known})
        stats = Stats(**values)
    return replace(stats, provenance=io.load_provenance(path)[0])
