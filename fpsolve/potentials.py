"""Loss landscapes: value, gradient and Hessian, from an expression or from Python functions, and a gallery of known ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import is_finite, is_number, numbers
from ._code import Code, ExpressionCode, JacobianCode, QuadraticCode
from ._evaluated import EvaluatedCode
from ._function_code import FunctionCode
from ._roots import FLAT, check_box, find_zeros
from ._shown import Shown
from .expressions import split_names

__all__ = [
    "CriticalPoint",
    "Potential",
    "degenerate_valley",
    "double_well",
    "mueller_brown",
    "product",
    "quadratic",
    "ring",
    "styblinski_tang",
    "two_valleys",
]

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class CriticalPoint(Shown):
    """A point where the gradient vanishes; `index` counts the negative Hessian eigenvalues (0: minimum, 1: saddle).

    Where an eigenvalue vanishes the point is `degenerate`: the Hessian does not tell what it is.
    """

    x: Array
    value: float
    hessian: Array
    index: int
    degenerate: bool = False

    @property
    def kind(self) -> str:
        """'minimum', 'saddle' (index one), 'maximum', 'saddle of index k', or 'degenerate'."""
        if self.degenerate:
            return "degenerate"
        if self.index == 0:
            return "minimum"
        if self.index == len(self.x):
            return "maximum"
        return "saddle" if self.index == 1 else f"saddle of index {self.index}"

    def __repr__(self) -> str:
        return f"<{self.kind} at {np.array2string(self.x, precision=6)}, value {self.value:.6g}>"


class Potential:
    r"""A landscape U(x) in `dim` dimensions with value, gradient and Hessian.

    Parameters
    ----------
    value : callable
        ``value(x, p) -> float``; x is indexable with `dim` entries, p holds the values of `params` in order. It is compiled
        with Numba: scalar arithmetic and functions of `math`.
    grad : callable, optional
        ``grad(x, p) -> dim numbers``. Missing: central differences of `value`, marked in the repr.
    hess : callable, optional
        ``hess(x, p) -> dim rows``. Missing: central differences of the gradient.
    dim : int
        Number of coordinates.
    params : mapping, optional
        Parameter names and values.
    length : float
        Distance over which the landscape varies. Missing derivatives are central differences with a step of
        6e-6 max(length, abs(x)) (3e-4 for second differences).

    Raises
    ------
    TypeError
        If a function does not take (x, p), returns the wrong number of values or cannot be compiled.

    See Also
    --------
    Potential.from_expression : from text; gradient and Hessian come for free and exactly.

    Examples
    --------
    >>> def value(x, p):
    ...     return (x[0]**2 - 1.0)**2 + 0.5*p[0]*x[1]**2
    >>> U = Potential(value, dim=2, params={"k": 2.0})
    >>> U([0.0, 1.0])
    2.0
    >>> U
    Potential(value, dim=2, k=2, numerical gradient and Hessian)
    """

    def __init__(
        self,
        value: Callable[..., Any],
        grad: Callable[..., Any] | None = None,
        hess: Callable[..., Any] | None = None,
        *,
        dim: int,
        params: Mapping[str, float] | None = None,
        length: float = 1.0,
    ) -> None:
        if not isinstance(dim, (int, np.integer)) or dim < 1:
            raise ValueError(f"dim must be a positive integer, got {dim!r}")
        checked = check_params(params)
        value_code = FunctionCode(value, int(dim), 1, checked, "value", length)
        grad_code = FunctionCode(grad, int(dim), int(dim), checked, "grad", length) if grad is not None else value_code.jacobian()
        hess_code = FunctionCode(hess, int(dim), int(dim) ** 2, checked, "hess") if hess is not None else None
        self._set(value_code, grad_code, hess_code, checked, getattr(value, "__name__", "value"))

    def _set(self, value: Code, grad: Code, hess: Code | None, params: Mapping[str, float], name: str) -> Potential:
        self.value_code, self.grad_code, self._hess_code = value, grad, hess
        self.dim, self.params, self.name = value.dim, dict(params), name
        return self

    @property
    def hess_code(self) -> Code:
        """The Hessian row by row; of an expression it is derived when it is first asked for: d^2 derivatives."""
        if self._hess_code is None:
            self._hess_code = self.grad_code.jacobian()
        return self._hess_code

    @classmethod
    def from_codes(cls, value: Code, params: Mapping[str, float], name: str) -> Potential:
        """A potential from the code of its value alone; the code knows its derivatives."""
        grad = value.jacobian()
        return cls.__new__(cls)._set(value, grad, None, params, name)

    @classmethod
    def from_arrays(cls, value: Callable[..., Any], grad: Callable[..., Any] | None = None, *, dim: int) -> Potential:
        """A landscape that Python functions evaluate on many points at once, say a network's loss over all its samples.

        For regions, critical points, and chains with Gaussian noise or sample losses, which advance all trajectories together.
        Paths in continuous time and rare events are compiled, and refuse it.

        Parameters
        ----------
        value : callable
            Points (n, dim) to (n,).
        grad : callable, optional
            Points (n, dim) to (n, dim). Missing: central differences.
        dim : int

        Raises
        ------
        TypeError, ValueError
            If these are no functions, or when they return other shapes.

        Examples
        --------
        >>> U = Potential.from_arrays(lambda x: (x**2).sum(axis=1), lambda x: 2 * x, dim=20)
        >>> U(np.ones(20)), U.grad(np.ones(20))[:2]
        (20.0, array([2., 2.]))
        """
        if not isinstance(dim, (int, np.integer)) or dim < 1:
            raise ValueError(f"dim must be a positive integer, got {dim!r}")
        code = EvaluatedCode(value, int(dim), 1, grad)
        return cls.__new__(cls)._set(code, code.jacobian(), None, {}, getattr(value, "__name__", "value"))

    @classmethod
    def from_expression(
        cls, text: str, variables: str | Sequence[str] = "x", params: Mapping[str, float] | None = None
    ) -> Potential:
        """A landscape from text; gradient and Hessian are derived symbolically.

        Parameters
        ----------
        text : str
            For example ``"(x**2 - 1)**2 + k*y**2/2"``; see :func:`fpsolve.expressions.parse` for what is allowed.
        variables : str or sequence of str
            The coordinates, in order.
        params : mapping, optional
            Parameter names and values; change them later with :meth:`with_params` at no cost.

        Raises
        ------
        ValueError
            If the text uses anything but declared names, numbers and the listed functions.

        Examples
        --------
        >>> U = Potential.from_expression("(x**2 - 1)**2 + k*y**2/2", variables="x y", params={"k": 1.0})
        >>> U.grad([2.0, 3.0])
        array([24.,  3.])
        >>> U.with_params(k=4.0).hess([1.0, 0.0])
        array([[8., 0.],
               [0., 4.]])
        """
        names, checked = split_names(variables), check_params(params)
        if shared := set(names) & set(checked):
            raise ValueError(f"{sorted(shared)} are both variables and parameters; rename one")
        return cls.from_codes(ExpressionCode.from_texts([text], names, tuple(checked)), checked, str(text))

    def _points(self, x: ArrayLike) -> Array:
        return check_points(x, self.dim)

    def __call__(self, x: ArrayLike) -> Any:
        """U at points of shape (..., dim): a float for one point, else an array of shape (...)."""
        values = self.value_code.evaluate(self._points(x), self.params)[..., 0]
        return float(values) if values.ndim == 0 else values

    def grad(self, x: ArrayLike) -> Array:
        """Gradient at points of shape (..., dim), with the same shape."""
        return self.grad_code.evaluate(self._points(x), self.params)

    def hess(self, x: ArrayLike) -> Array:
        """Hessian at points of shape (..., dim): shape (..., dim, dim), symmetrised."""
        h = self.hess_code.evaluate(self._points(x), self.params)
        h = h.reshape(*h.shape[:-1], self.dim, self.dim)
        return np.asarray(0.5 * h + 0.5 * np.swapaxes(h, -1, -2))

    def with_params(self, **values: float) -> Potential:
        """The same landscape with other parameter values; nothing is compiled anew.

        Raises
        ------
        ValueError
            For a name that is not a parameter.
        """
        params = update_params(self.params, values)
        return type(self).__new__(type(self))._set(self.value_code, self.grad_code, self._hess_code, params, self.name)

    def critical_points(self, box: Sequence[Sequence[float]], *, starts: int = 2000, tol: float = 1e-10) -> list[CriticalPoint]:
        """Minima, saddles and maxima inside a box, by Newton's method from many starts.

        Parameters
        ----------
        box : sequence of (lo, hi), one per axis
        starts : int
            Number of starting points, spread evenly. More find more; nothing proves that all were found.
        tol : float
            Accepted size of the last Newton step, relative to the box.

        Returns
        -------
        list of CriticalPoint
            Sorted by value. Where the Hessian is singular they are marked `degenerate`; of a line or surface of such points
            a few are kept.

        Raises
        ------
        ValueError
            If the box is not made of `dim` finite pairs with lo < hi, or `starts` is no whole number >= 1.

        Examples
        --------
        >>> double_well().critical_points([(-2, 2)])
        [<minimum at [-1.], value 0>, <minimum at [1.], value 0>, <maximum at [0.], value 1>]
        >>> Potential.from_expression("x**3").critical_points([(-1, 1)])[0].kind
        'degenerate'
        """
        found: list[CriticalPoint] = []
        for x, hessian, flat in find_zeros(self.grad, self.hess, check_box(box, self.dim), starts, tol):
            values = np.linalg.eigvalsh(hessian)
            index = int(np.sum(values < -FLAT * np.abs(values).max()))
            found.append(CriticalPoint(x, float(self(x)), hessian, index, flat))
        return sorted(found, key=lambda c: (round(c.value, 12), tuple(c.x)))

    def __repr__(self) -> str:
        marks = "".join(f", {k}={v:g}" for k, v in self.params.items())
        if isinstance(self.grad_code, JacobianCode):
            marks += ", numerical gradient and Hessian"
        elif isinstance(self.hess_code, JacobianCode):
            marks += ", numerical Hessian"
        return f"Potential({self.name}, dim={self.dim}{marks})"


def check_params(params: Mapping[str, float] | None) -> dict[str, float]:
    """Parameter names must be plain names, values finite numbers."""
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping of names to numbers, got {type(params).__name__}: {params!r}")
    params = dict(params or {})
    split_names(list(params), "params")
    for name, value in params.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)) or not is_finite(value):
            raise ValueError(f"parameter {name} must be a finite number, got {value!r}")
    return {name: float(value) for name, value in params.items()}


def update_params(params: Mapping[str, float], values: Mapping[str, float]) -> dict[str, float]:
    """`params` with some values replaced; unknown names are refused."""
    if unknown := set(values) - set(params):
        raise ValueError(f"unknown parameters {sorted(unknown)}; known are {sorted(params) or 'none'}")
    return {**params, **check_params(values)}


def check_points(x: ArrayLike, dim: int) -> Array:
    """Points as float array of shape (..., dim); for dim = 1 a bare number is one point."""
    points = numbers("x", x)
    if dim == 1 and points.ndim == 0:
        points = points[None]
    if points.ndim == 0 or points.shape[-1] != dim:
        raise ValueError(f"points must have shape (..., {dim}), got {points.shape}; 1-D states have shape (..., 1)")
    return points


# ---- gallery ----------------------------------------------------------------------------------------------------------


def double_well(dim: int = 1, k: float = 1.0) -> Potential:
    """(x^2 - 1)^2 + (k/2) (y^2 + ...): minima at x = -1 and 1, barrier 1 at x = 0; `dim` coordinates.

    Examples
    --------
    >>> double_well(2).critical_points([(-2, 2), (-1, 1)])[-1]
    <saddle at [0. 0.], value 1>
    """
    names = _names(dim)
    well = "(x**2 - 1)**2" + "".join(f" + k*{name}**2/2" for name in names[1:])
    return Potential.from_expression(well, names, {"k": k} if dim > 1 else None)


def styblinski_tang(dim: int = 1) -> Potential:
    """Sum over coordinates of (x^4 - 16 x^2 + 5 x)/2: minima near -2.9035 and 2.7468, barrier at 0.1567 (Xie et al. 2020).

    Examples
    --------
    >>> styblinski_tang().critical_points([(-4, 4)])[0]
    <minimum at [-2.903534], value -39.1662>
    """
    names = _names(dim)
    return Potential.from_expression(" + ".join(f"({n}**4 - 16*{n}**2 + 5*{n})/2" for n in names), names)


def degenerate_valley(
    lam: str | Sequence[str] = "1 + 4*x**2", floor: str = "0", params: Mapping[str, float] | None = None
) -> Potential:
    """sum_i lambda_i(x) y_i^2/2 + L_0(x): a valley along x with curvatures `lam` and floor loss `floor`, expressions in x.

    The model of Yang, Tang & Tu (2022), with flatness F(x) = lambda(x)^(-1/2). A sequence of m expressions makes one slow
    coordinate x and m fast ones: y; y, z; above that x2, ..., x{m+1}.

    Raises
    ------
    ValueError
        If an expression uses anything but x and the parameters.

    Examples
    --------
    >>> degenerate_valley("1 + x**2").hess([1.0, 0.0])
    array([[0., 0.],
           [0., 2.]])
    >>> degenerate_valley(["1 + x**2", "2", "3 + x"]).hess([1.0, 0.0, 0.0, 0.0]).diagonal()
    array([0., 2., 2., 4.])
    """
    curvatures = [lam] if isinstance(lam, str) else list(lam) if isinstance(lam, Sequence) else []
    if not curvatures:
        raise ValueError(f"lam must be an expression in x, or a sequence of at least one: got {lam!r}")
    checked = check_params(params)
    names = _names(len(curvatures) + 1)
    for text in (*curvatures, floor):  # on their own first: an unbalanced parenthesis must not pair up with ours
        ExpressionCode.from_texts([text], ["x"], tuple(checked))
    bowls = "".join(f"({text})*{name}**2/2 + " for text, name in zip(curvatures, names[1:], strict=True))
    return Potential.from_expression(f"{bowls}({floor})", names, checked)


def product(dim: int = 2, target: float = 1.0) -> Potential:
    """(x_1 x_2 ... x_d - c)^2, a linear network of width one and depth d fitted to one number c: a surface of equally good minima.

    In the plane the curvature across the hyperbola x y = c is 2 (x^2 + y^2): the flattest minima are at abs(x) = abs(y).

    Raises
    ------
    ValueError
        For dim < 2, or a target that is not finite and > 0.

    Examples
    --------
    >>> U = product(target=4.0)
    >>> [float(np.trace(U.hess([x, 4.0 / x]))) for x in (1.0, 2.0)]
    [34.0, 16.0]
    """
    names = _names(dim)
    if dim < 2:
        raise ValueError(f"a product needs at least two factors, got dim={dim!r}; its minima are then points")
    checked = check_params({"c": target})
    if checked["c"] <= 0.0:
        raise ValueError(f"target must be > 0, got {target!r}")
    return Potential.from_expression(f"({'*'.join(names)} - c)**2", names, checked)


def ring(radius: float = 1.0, k: float = 1.0) -> Potential:
    """k (r - R)^2/2 in the plane, smooth at the origin as k (r^2 - R^2)^2/(8 R^2): a circle of equally good minima.

    Raises
    ------
    ValueError
        If a number is not finite and > 0.

    Examples
    --------
    >>> ring().hess([1.0, 0.0])
    array([[1., 0.],
           [0., 0.]])
    """
    for name, value in (("radius", radius), ("k", k)):
        if not (np.isfinite(value) and value > 0.0):
            raise ValueError(f"{name} must be finite and > 0, got {value!r}")
    return Potential.from_expression("k*(x**2 + y**2 - R**2)**2/(8*R**2)", "x y", {"R": radius, "k": k})


def two_valleys(sharp: float = 4.0, flat: float = 1.0, barrier: float = 1.0, rounding: float = 0.05) -> Potential:
    r"""Two valleys of equal depth on a line, of curvatures `sharp` (x < 0) and `flat` (x > 0), with a barrier of height E at x = 0.

    .. math:: U = \frac{V_s + V_f}{2} - \sqrt{\frac{(V_s - V_f)^2}{4} + \rho^2}, \qquad V_k = \frac{l_k}{2} (x - x_k)^2,
              \quad x_{s,f} = \mp \sqrt{2 (E + \rho)/l_{s,f}}

    The lower of two parabolas, its cusp rounded over the energy rho = `rounding`; U = E at x = 0 exactly, depths are 0 and
    curvatures l_k up to (rho/E)^2. The parameters sharp, flat, barrier and rounding may change with time: see `Driven`, and
    `theory.freezing_time`.

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> two_valleys(barrier=0.5, rounding=0.01).critical_points([(-2, 2)])
    [<minimum at [-0.504946], value -8.71e-05>, <minimum at [1.009922], value -2.18e-05>, <maximum at [0.002356], value 0.500577>]
    """
    params = check_params({"sharp": sharp, "flat": flat, "barrier": barrier, "rounding": rounding})
    for name, value in params.items():
        if not value > 0.0:
            raise ValueError(f"{name} must be > 0, got {value:g}")
    left, right = (f"({k}*(x {sign} sqrt(2*(barrier + rounding)/{k}))**2/2)" for k, sign in (("sharp", "+"), ("flat", "-")))
    return Potential.from_expression(f"({left} + {right})/2 - sqrt(({left} - {right})**2/4 + rounding**2)", "x", params)


def mueller_brown(scale: float = 1.0) -> Potential:
    """The Mueller-Brown surface (Mueller & Brown, Theor. Chim. Acta 53, 75, 1979) times `scale`: three minima, two saddles.

    Examples
    --------
    >>> [c.kind for c in mueller_brown().critical_points([(-1.5, 1.2), (-0.2, 2.0)])]
    ['minimum', 'minimum', 'minimum', 'saddle', 'saddle']
    """
    rows = [
        (-200, -1, 0, -10, 1, 0),
        (-100, -1, 0, -10, 0, 0.5),
        (-170, -6.5, 11, -6.5, -0.5, 1.5),
        (15, 0.7, 0.6, 0.7, -1, 1),
    ]
    terms = [f"({A})*exp(({a})*(x - ({X}))**2 + ({b})*(x - ({X}))*(y - ({Y})) + ({c})*(y - ({Y}))**2)" for A, a, b, c, X, Y in rows]
    return Potential.from_expression(f"scale*({' + '.join(terms)})", "x y", {"scale": scale})


def quadratic(H: ArrayLike, center: ArrayLike | None = None, floor: float = 0.0) -> Potential:
    """(x - c)^T H (x - c)/2 + floor for a symmetric matrix H of any size (a number in 1-D).

    Raises
    ------
    ValueError
        If H is not a finite symmetric matrix, or `center` does not fit it.

    Examples
    --------
    >>> quadratic([[2.0, 0.0], [0.0, 1.0]])([1.0, 2.0])
    3.0
    """
    matrix = np.atleast_2d(numbers("H", H))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.all(np.isfinite(matrix)):
        raise ValueError(f"H must be a finite square matrix, got shape {np.shape(H)}")
    if np.max(np.abs(matrix - matrix.T)) > 1e-10 * np.max(np.abs(matrix)):
        raise ValueError(f"H must be symmetric; the largest difference is {np.max(np.abs(matrix - matrix.T)):.3g}. Use (H + H.T)/2")
    c = np.zeros(len(matrix)) if center is None else numbers("center", center)
    if c.shape != (len(matrix),) or not np.all(np.isfinite(c)):
        raise ValueError(f"center must be {len(matrix)} finite numbers, got {center!r}")
    if not (is_number(floor) and is_finite(floor)):
        raise ValueError(f"floor must be a finite number, got {floor!r}")
    symmetric = 0.5 * matrix + 0.5 * matrix.T
    return Potential.from_codes(QuadraticCode(symmetric, c, floor), {}, "quadratic")


def _names(dim: int) -> list[str]:
    if not isinstance(dim, (int, np.integer)) or not 1 <= dim <= 64:
        raise ValueError(f"dim must be an integer from 1 to 64, got {dim!r}")
    return list("xyz"[:dim]) if dim <= 3 else ["x", *(f"x{i}" for i in range(2, dim + 1))]
