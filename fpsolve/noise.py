"""Noise models: the diffusion tensor D(x) or its factor B(x), with dX = b dt + B dW and D = B B^T / 2."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import is_finite, numbers
from ._code import Code, ConstantCode, DerivedCode, ExpressionCode, TableCode
from ._function_code import FunctionCode
from ._known import fact
from ._tensors import DiagonalCode, LineTableCode, LowRankCode, LowRankFactorCode, check_knots, is_pair, line_parts, low_rank_parts
from .expressions import split_names
from .potentials import Potential, check_params, update_params

__all__ = ["Noise", "Stable"]

Array = NDArray[np.float64]

#: Isotropic noise is a dense matrix up to this dimension.
MAX_DENSE = 16
#: A tensor is accepted as symmetric and positive semi-definite up to this fraction of its largest entry.
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Stable:
    """The law of a Levy noise: index alpha in (0, 2), scale, and whether it is isotropic or has independent components."""

    alpha: float
    scale: float
    isotropic: bool


class _NoTensor(Code):
    """Stands where other noise has its tensor: who asks for D is told why there is none."""

    def __init__(self, dim: int) -> None:
        self.dim, self.n_out = dim, dim * dim

    def _refuse(self) -> NoReturn:
        raise ValueError(
            "Levy noise has no diffusion tensor, its variance is infinite: only paths take it (simulate, escape_times). The "
            "Fokker-Planck engine and theory need Gaussian noise, such as Noise.isotropic"
        )

    def emit(self, name: str, inline: str = "@inline") -> tuple[str, dict[str, Any]]:
        self._refuse()

    def evaluate(self, x: Any, params: Mapping[str, float] | None = None) -> Array:
        self._refuse()

    def jacobian(self) -> Code:
        self._refuse()


class Noise:
    r"""A diffusion tensor D(x), symmetric and positive semi-definite, or a factor B(x) with :math:`D = B B^T/2`.

    Made by one of the constructors :meth:`isotropic`, :meth:`constant`, :meth:`low_rank`, :meth:`diagonal`,
    :meth:`from_expression`, :meth:`from_function`, :meth:`from_factor`, :meth:`hessian`, :meth:`shifted_minima` and
    :meth:`covariance`. :meth:`levy` has no tensor: its increments are alpha-stable.

    Attributes
    ----------
    dim : int or None
        None for isotropic noise, which fits any dimension.
    diffusion_code : Code or None
        D row by row (None for isotropic noise until :meth:`resolve`).
    factor_code : Code or None
        B row by row where a factor was given, with `noise_dim` columns.
    matrix : array or None
        The tensor, where it is constant; of low-rank noise formed when it is asked for.
    lr, batch : float or None
        Learning rate and batch size that entered, so that a mismatch with a chain is noticed.
    stable : Stable or None
        Index, scale and kind of :meth:`levy`.

    Examples
    --------
    >>> noise = Noise.from_expression([["0.1", "0"], ["0", "0.1 + a*x**2"]], variables="x y", params={"a": 0.5})
    >>> noise.diffusion([1.0, 0.0])
    array([[0.1, 0. ],
           [0. , 0.6]])
    """

    def __init__(
        self,
        name: str,
        dim: int | None,
        diffusion_code: Code | None,
        *,
        params: Mapping[str, float] | None = None,
        factor_code: Code | None = None,
        matrix: Array | None = None,
        scalar: float | None = None,
        lr: float | None = None,
        batch: float | None = None,
        stable: Stable | None = None,
    ) -> None:
        self.name, self.dim, self.params, self.stable = name, dim, dict(params or {}), stable
        self.diffusion_code, self.factor_code, self._matrix, self.scalar = diffusion_code, factor_code, matrix, scalar
        self.lr, self.batch = lr, batch

    @property
    def matrix(self) -> Array | None:
        """The tensor (d, d), where it is constant and the dimension is known."""
        if isinstance(self.diffusion_code, LowRankCode):
            return self.diffusion_code.values.reshape(self.diffusion_code.dim, -1)
        return self._matrix

    @property
    def is_constant(self) -> bool:
        """Whether the tensor is the same everywhere; forms no matrix."""
        return self._matrix is not None or isinstance(self.diffusion_code, LowRankCode)

    @property
    def noise_dim(self) -> int | None:
        """Number of independent Wiener processes: columns of the factor, `dim` where D was given."""
        if self.factor_code is not None and self.dim:
            return self.factor_code.n_out // self.dim
        return self.dim

    # ---- constructors ---------------------------------------------------------------------------------------------

    @classmethod
    def isotropic(cls, D: float) -> Noise:
        """D times the identity, in any dimension.

        Examples
        --------
        >>> Noise.isotropic(0.2)
        Noise(isotropic, D=0.2)
        """
        value = _number("D", D)
        return cls("isotropic", None, None, scalar=value)

    @classmethod
    def constant(cls, D: ArrayLike) -> Noise:
        """A constant tensor D (d, d), symmetric and positive semi-definite.

        Raises
        ------
        ValueError
            If D is not square, not finite, not symmetric, or has a negative eigenvalue (named).

        Examples
        --------
        >>> Noise.constant([[1.0, 0.3], [0.3, 0.5]]).dim
        2
        """
        matrix = _square("D", D)
        check_tensor(matrix[None], None)
        matrix = 0.5 * matrix + 0.5 * matrix.T
        return cls("constant", len(matrix), ConstantCode(matrix, len(matrix)), matrix=matrix)

    @classmethod
    def low_rank(cls, F: ArrayLike, diagonal: ArrayLike = 0.0) -> Noise:
        r"""A constant tensor :math:`D = F F^T + \operatorname{diag}(s)` with F (d, r) and s >= 0 (d,) or a number.

        In thousands of dimensions: paths never form the d x d matrix, a step costs O(d r) per particle. D may be singular.

        Raises
        ------
        ValueError
            If F is no finite (d, r) matrix, or the diagonal does not fit, is not finite, or has a negative entry (named).

        Examples
        --------
        >>> Noise.low_rank([[1.0], [2.0]], 0.5).diffusion([0.0, 0.0])
        array([[1.5, 2. ],
               [2. , 4.5]])
        """
        factors, s = low_rank_parts("Noise.low_rank", F, diagonal)
        tensor = LowRankCode(factors, s)
        return cls("low rank", tensor.dim, tensor, factor_code=LowRankFactorCode(tensor))

    @classmethod
    def diagonal(
        cls, D: Sequence[str | float] | ArrayLike | Callable[..., Any], variables: str | Sequence[str] | None = None,
        params: Mapping[str, float] | None = None, *, dim: int | None = None,
    ) -> Noise:  # fmt: skip
        """Independent noises: the d numbers D_1(x), ..., D_d(x) on the diagonal, all >= 0.

        Parameters
        ----------
        D : numbers, expressions, or callable ``D(x, p) -> d numbers``
        variables : str or sequence of str
            Needed for expressions, as many as there are.
        dim : int
            Needed for a callable. Above 16 dimensions x is an array there, and a loop over it compiles in no time.

        Raises
        ------
        ValueError
            If the numbers are negative or not finite, or there are not as many expressions as variables.

        Examples
        --------
        >>> Noise.diagonal(["0.1", "0.1 + x**2"], variables="x y").diffusion([2.0, 0.0])
        array([[0.1, 0. ],
               [0. , 4.1]])
        """
        checked = check_params(params)
        if callable(D):
            if dim is None:
                raise ValueError("Noise.diagonal of a function needs dim=")
            child: Code = FunctionCode(D, dim, dim, checked, "D")
        elif variables is not None:
            names, checked = _declare(variables, params)
            if len(D) != len(names):  # type: ignore[arg-type]
                raise ValueError(f"the diagonal has {len(D)} entries for {len(names)} variables; give one for each")  # type: ignore[arg-type]
            child = ExpressionCode.from_texts(list(D), names, tuple(checked))  # type: ignore[arg-type]
        else:
            noise = cls.low_rank(np.zeros((np.size(D), 0)), np.atleast_1d(numbers("D", D)))
            noise.name = "diagonal"
            return noise
        return cls("diagonal", child.dim, DiagonalCode(child), params=checked, factor_code=DiagonalCode(child, root=True))

    @classmethod
    def from_expression(
        cls,
        D: Sequence[Sequence[str | float]] | str,
        variables: str | Sequence[str] = "x",
        params: Mapping[str, float] | None = None,
    ) -> Noise:
        """D(x) from a matrix of expressions (in 1-D also a single one); constants broadcast.

        Raises
        ------
        ValueError
            If the matrix is not square in the number of variables, or not symmetric.

        Examples
        --------
        >>> Noise.from_expression("D0*(1 + x**2)", params={"D0": 0.1}).diffusion([2.0])
        array([[0.5]])
        """
        names, checked = _declare(variables, params)
        code = ExpressionCode.from_texts(_entries("D", D, len(names)), names, tuple(checked))
        fact(code.origin, "symmetric", lambda: _symmetric(code))
        return cls("expression", len(names), code, params=checked)

    @classmethod
    def from_function(
        cls, D: Callable[..., Any], dim: int, params: Mapping[str, float] | None = None, *, length: float = 1.0
    ) -> Noise:
        """D(x) from a Python function ``D(x, p) -> rows`` (in 1-D a number), compiled with Numba.

        `length` is the distance over which D varies: derivatives (for div D and the Stratonovich drift) are central differences
        with a step of 6e-6 max(length, abs(x)).

        Examples
        --------
        >>> def D(x, p):
        ...     return ((0.1 + x[0]**2, 0.0), (0.0, p[0]))
        >>> Noise.from_function(D, 2, {"D2": 0.3}).diffusion([1.0, 0.0])
        array([[1.1, 0. ],
               [0. , 0.3]])
        """
        checked = check_params(params)
        return cls(getattr(D, "__name__", "function"), dim, FunctionCode(D, dim, dim * dim, checked, "D", length), params=checked)

    @classmethod
    def from_factor(
        cls, B: Sequence[Sequence[str | float]] | ArrayLike | Callable[..., Any], variables: str | Sequence[str] | None = None,
        params: Mapping[str, float] | None = None, *, dim: int | None = None, noise_dim: int | None = None,
    ) -> Noise:  # fmt: skip
        """The factor B (d x m) itself: numbers, expressions, or a function ``B(x, p) -> rows``; D = B B^T / 2.

        Parameters
        ----------
        B : matrix of numbers or expressions, or callable
        variables : str or sequence of str
            Needed for expressions.
        dim, noise_dim : int
            Shape of B, needed for a callable.

        Examples
        --------
        >>> Noise.from_factor([["x"], ["y"]], variables="x y").diffusion([1.0, 2.0])
        array([[0.5, 1. ],
               [1. , 2. ]])
        """
        checked = check_params(params)
        if callable(B):
            if dim is None:
                raise ValueError("from_factor of a function needs dim= (and noise_dim= if B is not square)")
            m = dim if noise_dim is None else noise_dim
            factor: Code = FunctionCode(B, dim, dim * m, checked, "B")
        elif variables is not None:
            names, checked = _declare(variables, params)
            entries = _entries("B", B, len(names))
            dim, m = len(names), len(entries) // len(names)
            factor = ExpressionCode.from_texts(entries, names, tuple(checked))
        else:
            matrix = np.atleast_2d(numbers("B", B))
            if matrix.ndim != 2 or not np.all(np.isfinite(matrix)):
                raise ValueError(f"B must be a finite d x m matrix, got shape {np.shape(B)}")
            dim, m = matrix.shape
            factor = ConstantCode(matrix, dim)
            D = 0.5 * matrix @ matrix.T
            return cls("factor", dim, ConstantCode(D, dim), factor_code=factor, matrix=D)
        if factor.n_out != dim * m:
            raise ValueError(f"B has {factor.n_out} entries, which is not {dim} rows of equal length")
        return cls("factor", dim, _half_square(factor), params=checked, factor_code=factor)

    @classmethod
    def hessian(cls, U: Potential, scale: float, floor: float = 0.0) -> Noise:
        r"""SGD noise shaped like the Hessian, C ~ H: :math:`D = \mathrm{scale}\, V \sqrt{\Lambda^2 + \mathrm{floor}^2} V^T`.

        H = V Lambda V^T is the Hessian of `U`; `scale` is lr / (2 batch) for a covariance equal to `|H|`. In 1-D and 2-D, and in
        any dimension where H is constant. With ``floor=0`` D vanishes where an eigenvalue does, and Ito paths cannot cross there.

        Examples
        --------
        >>> U = Potential.from_expression("(x**2 - 1)**2")
        >>> Noise.hessian(U, scale=0.5).diffusion([[1.0], [0.0]])
        array([[[4.]],
        <BLANKLINE>
               [[2.]]])
        """
        _check_potential(U)
        scale, floor = _number("scale", scale), _number("floor", floor)
        name = f"hessian of {U.name}, scale={scale:g}, floor={floor:g}"
        if isinstance(U.hess_code, ConstantCode):
            values, vectors = np.linalg.eigh(U.hess(np.zeros(U.dim)))
            D = scale * (vectors * np.sqrt(values**2 + floor**2)) @ vectors.T
            return cls(name, U.dim, ConstantCode(D, U.dim), matrix=D, params=U.params)
        if U.dim > 2:
            raise ValueError(
                f"hessian noise of a landscape with varying Hessian exists in 1-D and 2-D, not in {U.dim}-D; use from_function"
            )
        constants = ConstantCode([scale, floor * floor], U.dim)
        if U.dim == 1:
            outputs, lines = ["c1[0]*sqrt(c0[0]*c0[0] + c1[1])"], []
        else:  # the root of M = H^2 + floor^2 is (M + sqrt(det M))/sqrt(tr M + 2 sqrt(det M))
            lines = [
                "h = 0.5*(c0[1] + c0[2])",
                "a = c0[0]*c0[0] + h*h + c1[1]",
                "b = h*(c0[0] + c0[3])",
                "c = c0[3]*c0[3] + h*h + c1[1]",
                "e = c0[0]*c0[3] - h*h",
                "r = sqrt(e*e + c1[1]*(a + c - c1[1]))",
                "s = ratio(c1[0], sqrt(a + c + 2.0*r), 1e300)",
            ]
            outputs = ["s*(a + r)", "s*b", "s*b", "s*(c + r)"]
        return cls(name, U.dim, DerivedCode([U.hess_code, constants], U.dim**2, outputs, lines), params=U.params)

    @classmethod
    def shifted_minima(cls, U: Potential, sigma: float, lr: float) -> Noise:
        r"""Minibatch losses that are randomly shifted copies of U, linearised: :math:`D = (lr\,\sigma^2/2) H(x)^2`.

        The factor is B = sqrt(lr) sigma H, so that the noises of the coordinates keep their correlation
        (the ensemble of Yang, Tang & Tu 2022: gradient covariance quadratic in the Hessian).

        Examples
        --------
        >>> Noise.shifted_minima(Potential.from_expression("2*x**2"), sigma=1.0, lr=0.5).diffusion([0.0])
        array([[4.]])
        """
        _check_potential(U)
        sigma, lr = _number("sigma", sigma), _number("lr", lr, positive=True)
        name, d, amplitude = f"shifted minima of {U.name}, sigma={sigma:g}", U.dim, np.sqrt(lr) * sigma
        if isinstance(U.hess_code, ConstantCode):
            B = amplitude * U.hess(np.zeros(d))
            return cls(
                name, d, ConstantCode(0.5 * B @ B, d), factor_code=ConstantCode(B, d), matrix=0.5 * B @ B, params=U.params, lr=lr
            )
        factor = DerivedCode([U.hess_code, ConstantCode([amplitude], d)], d * d, [f"c1[0]*c0[{i}]" for i in range(d * d)])
        return cls(name, d, _half_square(factor), factor_code=factor, params=U.params, lr=lr)

    @classmethod
    def covariance(cls, C: Any, lr: float, batch: int = 1, *, axes: Sequence[ArrayLike] | None = None, along: Any = None) -> Noise:
        r"""Measured SGD noise: per-sample gradient covariance C at learning rate and batch size, :math:`D = lr\,C/(2\,batch)`.

        Parameters
        ----------
        C : array (d, d), or pair (F, diagonal), or a table of them with `axes`
            Per-sample covariance. A pair F (d, r), diagonal (d,) or a number stands for F F^T + diag(diagonal): measured
            covariances have some large directions and a floor. A table is (n1, ..., nd, d, d) at the nodes of a regular grid (1-D
            and 2-D; multilinear between the nodes, constant beyond); with `along` it is (n, d, d), or a pair F (n, d, r), diagonal
            (n, d), in any dimension. Batches drawn without replacement from N samples: multiply by (N - B)/(N - 1) first.
        lr, batch : float, int
        axes : sequence of 1-D arrays
            Equally spaced node coordinates, one array per axis; with `along` one array.
        along : int or array (d,), optional
            The table is one along a line: at the values of this coordinate, or of s = u.x for a direction u; D depends on s only.

        Raises
        ------
        ValueError
            For shapes that do not fit, and covariances that are not positive semi-definite (the eigenvalue is named).

        Examples
        --------
        >>> Noise.covariance([[4.0]], lr=0.1, batch=20).diffusion([0.0])
        array([[0.01]])
        >>> valley = Noise.covariance(([[[1.0], [0.0]], [[2.0], [0.0]]], 0.5), lr=2.0, axes=[[0.0, 1.0]], along=1)
        >>> valley.diffusion([0.0, 0.5])                        # x_1 half way: F F^T + 0.5 between (1, 0) and (2, 0)
        array([[3. , 0. ],
               [0. , 0.5]])
        """
        lr = _number("lr", lr, positive=True)
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1 or not is_finite(batch):
            raise ValueError(f"batch must be a positive integer, got {batch!r}")
        scale = lr / (2.0 * batch)
        if along is not None and axes is None:
            raise ValueError("along= belongs to a table: give the knots as axes=[knots]")
        if axes is None:
            if is_pair(C, 2):
                F, s = low_rank_parts("C", *C)
                noise = cls.low_rank(np.sqrt(scale) * F, scale * s)
            else:
                noise = cls.constant(scale * _square("C", C))
            noise.name, noise.lr, noise.batch = f"covariance, lr={lr:g}, batch={batch}", lr, int(batch)
            return noise
        name = f"tabulated covariance, lr={lr:g}, batch={batch}"
        if along is not None:
            F, s, knots, direction = line_parts(C, axes, along)
            tensor = LineTableCode(np.sqrt(scale) * F, scale * s, knots, direction)
            return cls(name, tensor.dim, tensor, lr=lr, batch=int(batch))
        nodes = [numbers("axes", a) for a in axes]
        table = scale * numbers("C", C)
        _check_table(table, nodes)
        return cls(name, len(nodes), TableCode(table, nodes), lr=lr, batch=int(batch))

    @classmethod
    def levy(cls, alpha: float, scale: float, isotropic: bool = False) -> Noise:
        r"""Symmetric alpha-stable noise, in any dimension; for paths only.

        The increment over dt has the characteristic function :math:`\exp(-\mathrm{d}t\,scale^\alpha |k|^\alpha)`: of each
        component by itself, which are independent, or with `isotropic` with the norm of the vector k. The noise does not depend
        on x. For alpha = 2 this is Gaussian with :math:`D = scale^2`, the same as ``Noise.isotropic(scale**2)``, and every
        engine takes it; below 2 the variance is infinite, and from alpha = 1 on downwards the mean does not exist either.

        Parameters
        ----------
        alpha : float
            Index in (0, 2]; 1 is Cauchy's law.
        scale : float
            > 0, in units of x per time^(1/alpha).
        isotropic : bool

        Raises
        ------
        ValueError, TypeError
            For an index outside (0, 2], a scale that is not positive, or an `isotropic` that is neither True nor False.

        References
        ----------
        J. Chambers, C. Mallows, B. Stuck, JASA 71 (1976) 340; M. Kanter, Ann. Probab. 3 (1975) 697.

        Examples
        --------
        >>> Noise.levy(1.5, 0.2)
        Noise(levy, alpha=1.5, scale=0.2)
        >>> Noise.levy(2.0, 0.5).diffusion([0.0])
        array([[0.25]])
        """
        alpha, scale = _number("alpha", alpha, positive=True), _number("scale", scale, positive=True)
        if alpha > 2.0:
            raise ValueError(f"alpha must be in (0, 2], got {alpha:g}: there is no stable law beyond 2, which is Gaussian")
        if not isinstance(isotropic, (bool, np.bool_)):
            raise TypeError(f"isotropic must be True or False, got {isotropic!r}")
        if alpha == 2.0:
            return cls("levy, alpha=2", None, None, scalar=scale * scale)
        return cls("levy", None, None, stable=Stable(alpha, scale, bool(isotropic)))

    # ---- use ------------------------------------------------------------------------------------------------------

    def resolve(self, dim: int) -> Noise:
        """The same noise with a definite dimension; raises ValueError if it has another one."""
        if self.stable is not None:
            return Noise(self.name, dim, _NoTensor(dim), factor_code=ConstantCode([], dim), stable=self.stable)
        if self.scalar is not None:
            if dim > MAX_DENSE:
                tensor = LowRankCode(np.zeros((dim, 0)), np.full(dim, self.scalar))
                noise = Noise(self.name, dim, tensor, factor_code=LowRankFactorCode(tensor), scalar=self.scalar)
                noise.lr, noise.batch = self.lr, self.batch
                return noise
            matrix = self.scalar * np.eye(dim)
            return Noise(self.name, dim, ConstantCode(matrix, dim), matrix=matrix, scalar=self.scalar, lr=self.lr, batch=self.batch)
        if self.dim != dim:
            raise ValueError(
                f"the noise has dimension {self.dim}, the landscape or drift {dim}; make both for the same coordinates"
            )
        return self

    def with_params(self, **values: float) -> Noise:
        """The same noise with other parameter values; nothing is compiled anew."""
        noise = Noise.__new__(Noise)
        noise.__dict__.update(self.__dict__, params=update_params(self.params, values))
        if not noise.is_constant:
            return noise
        raise ValueError("constant noise has no parameters that can be changed; make a new one")

    def diffusion(self, x: ArrayLike) -> Array:
        """D at points of shape (..., d): shape (..., d, d)."""
        points = numbers("x", x)
        d = self.dim if self.dim is not None else (points.shape[-1] if points.ndim else 1)
        noise = self.resolve(d)
        assert noise.diffusion_code is not None
        return noise.diffusion_code.evaluate(points, self.params).reshape(*points.shape[:-1], d, d)

    def __repr__(self) -> str:
        if self.stable is not None:
            law = self.stable
            return f"Noise({self.name}, alpha={law.alpha:g}, scale={law.scale:g}{', isotropic' if law.isotropic else ''})"
        marks = f", D={self.scalar:g}" if self.scalar is not None else f", dim={self.dim}"
        if self.scalar is None and self.dim is not None and self.dim <= 3 and self.matrix is not None:
            marks += f", D={self.matrix.tolist()}"
        return f"Noise({self.name}{marks}{''.join(f', {k}={v:g}' for k, v in self.params.items())})"


def _half_square(B: Code) -> Code:
    """D = B B^T / 2."""
    d = B.dim
    m = B.n_out // d
    outputs = [" + ".join(f"0.5*c0[{i * m + k}]*c0[{j * m + k}]" for k in range(m)) for i in range(d) for j in range(d)]
    return DerivedCode([B], d * d, outputs)


def check_tensor(D: Array, x: Array | None) -> None:
    """Refuse tensors (n, d, d) that are not finite, symmetric and positive semi-definite; name the point and eigenvalue."""

    def place(i: int) -> str:
        return f" at x = {np.array2string(np.asarray(x[i]), precision=6)}" if x is not None else ""

    bad = ~np.isfinite(D).all((-1, -2))
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"the diffusion tensor is not finite{place(i)}: {D[i].tolist()}")
    size = np.abs(D).max((-1, -2))
    asymmetry = np.abs(D - np.swapaxes(D, -1, -2)).max((-1, -2))
    if np.any(bad := asymmetry > TOLERANCE * size):
        i = int(np.argmax(bad))
        raise ValueError(
            f"the diffusion tensor is not symmetric{place(i)}: {D[i].tolist()}; use (D + D.T)/2 if that is what you mean"
        )
    lowest = np.linalg.eigvalsh(D)[..., 0]
    if np.any(bad := lowest < -TOLERANCE * size):
        i = int(np.argmin(np.where(bad, lowest, np.inf)))
        raise ValueError(
            f"the diffusion tensor is not positive semi-definite{place(i)}: "
            f"eigenvalue {lowest[i]:.6g} of {D[i].tolist()}; all must be >= 0"
        )


def check_diagonal(values: Array, x: Array) -> None:
    """Refuse diagonals (n, d) that are not finite or have a negative entry; name the point."""
    bad = ~(np.isfinite(values) & (values >= 0.0))
    if bad.any():
        i, j = (int(k) for k in np.unravel_index(int(np.argmax(bad)), bad.shape))
        at = np.array2string(np.asarray(x[i]), precision=6, threshold=20)
        raise ValueError(f"the diffusion tensor is not usable at x = {at}: D_{j} = {values[i, j]:.6g}, must be finite and >= 0")


def _number(name: str, value: float, positive: bool = False) -> float:
    ok = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool) and is_finite(value)
    if not ok or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} must be a finite number {'> 0' if positive else '>= 0'}, got {value!r}")
    return float(value)


def _check_potential(U: Any) -> None:
    if not isinstance(U, Potential):
        raise TypeError(f"U must be a Potential, got {type(U).__name__}: {reprlib.repr(U)}")


def _square(name: str, matrix: ArrayLike) -> Array:
    array = np.atleast_2d(numbers(name, matrix))
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} must be a square matrix (d, d), got shape {np.shape(matrix)}")
    return array


def _declare(variables: str | Sequence[str], params: Mapping[str, float] | None) -> tuple[tuple[str, ...], dict[str, float]]:
    names, checked = split_names(variables), check_params(params)
    if shared := set(names) & set(checked):
        raise ValueError(f"{sorted(shared)} are both variables and parameters; rename one")
    return names, checked


def _entries(name: str, matrix: Any, dim: int) -> list[Any]:
    """The entries of a matrix of expressions, row by row."""
    if isinstance(matrix, (str, int, float)):
        matrix = [[matrix]]
    rows = [[row] if isinstance(row, (str, int, float)) else list(row) for row in matrix]
    if len({len(row) for row in rows}) != 1 or len(rows) != dim or (name == "D" and len(rows[0]) != dim):
        columns = dim if name == "D" else "m"
        raise ValueError(f"{name} must have {dim} rows of {columns} entries, got rows of {[len(row) for row in rows]}")
    return [entry for row in rows for entry in row]


def _symmetric(D: ExpressionCode) -> bool:
    """True; ValueError for a tensor that is not symmetric."""
    d, entries = D.dim, D.expressions
    for i in range(d):
        for j in range(i):
            one, other = entries[i * d + j], entries[j * d + i]
            if (one - other).equals(0) is False:
                raise ValueError(f"D must be symmetric: D[{i}][{j}] = {one} but D[{j}][{i}] = {other}")
    return True


def _check_table(table: Array, nodes: Sequence[Array]) -> None:
    d = len(nodes)
    if d not in (1, 2):
        raise ValueError(f"a table of covariances needs 1 or 2 axes, got {d}")
    for k, a in enumerate(nodes):
        check_knots(a, k)
    expected = (*(len(a) for a in nodes), d, d)
    if table.shape != expected:
        raise ValueError(f"tabulated C must have shape {expected} for these axes, got {table.shape}")
    mesh = np.stack(np.meshgrid(*nodes, indexing="ij"), -1)
    check_tensor(table.reshape(-1, d, d), mesh.reshape(-1, d))
