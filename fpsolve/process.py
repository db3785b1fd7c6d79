"""Stochastic processes: a landscape (or drift) plus a noise model, posed once for all engines.

The Ito equation is dX = b(X) dt + B(X) dW with B B^T = 2 D, and the density obeys dp/dt = -d_i(b_i p) + d_i d_j(D_ij p).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._code import AffineCode, Code, ConstantCode, DerivedCode, ExpressionCode, FunctionCode, JacobianCode
from .expressions import parse, split_names
from .noise import Noise, check_tensor
from .potentials import Potential, check_params, check_points, update_params

__all__ = ["Process", "SGDChain", "Underdamped"]

Array = NDArray[np.float64]

INTERPRETATIONS = ("ito", "stratonovich", "klimontovich")


class Process:
    r"""An overdamped diffusion with drift -grad U and noise D(x).

    ============================  =============================================================================
    interpretation                Ito drift b
    ============================  =============================================================================
    ``"ito"`` (default)           :math:`-\nabla U` (what SGD is: the noise is drawn before the move)
    ``"stratonovich"``            :math:`-\nabla U + \frac12 \sum_{jk} B_{jk}\,\partial_j B_{\cdot k}`, needs a factor B
    ``"klimontovich"``            :math:`-\nabla U + \nabla\cdot D`
    ============================  =============================================================================

    Parameters
    ----------
    U : Potential
    noise : Noise
    interpretation : {"ito", "stratonovich", "klimontovich"}
        Stratonovich uses the factor given by :meth:`Noise.from_factor`, else the symmetric root sqrt(2 D); where that root
        is not differentiable it is refused.

    Raises
    ------
    ValueError
        If dimensions or shared parameters disagree, or the interpretation is unknown.

    Examples
    --------
    >>> from fpsolve.potentials import double_well
    >>> process = Process(double_well(), Noise.from_expression("0.1*(1 + x**2)"), interpretation="klimontovich")
    >>> process.drift([1.0]), process.diffusion([1.0])
    (array([0.2]), array([[0.2]]))
    """

    potential: Potential | None
    noise: Noise
    interpretation: str
    drift_code: Code
    diffusion_code: Code
    factor_code: Code

    def __init__(self, U: Potential, noise: Noise, interpretation: str = "ito") -> None:
        if not isinstance(U, Potential):
            raise TypeError(f"the landscape must be a Potential, got {type(U).__name__}; for a drift use Process.from_drift")
        self._set(-1.0, U.grad_code, U.params, noise, interpretation, potential=U)

    def _set(
        self, sign: float, force: Code, params: Mapping[str, float], noise: Noise, interpretation: str, *,
        potential: Potential | None = None, phi: Potential | None = None,
    ) -> Process:  # fmt: skip
        if interpretation not in INTERPRETATIONS:
            raise ValueError(f"interpretation must be one of {', '.join(INTERPRETATIONS)}, got {interpretation!r}")
        if not isinstance(noise, Noise):
            raise TypeError(f"noise must be a Noise (e.g. Noise.isotropic(0.1)), got {type(noise).__name__}: {noise!r}")
        self.dim, self.interpretation, self.potential, self._phi = force.dim, interpretation, potential, phi
        self.noise = noise.resolve(self.dim)
        self.params = _merge(params, self.noise.params)
        assert self.noise.diffusion_code is not None
        self.diffusion_code = self.noise.diffusion_code
        given = self.noise.factor_code
        if given is not None:
            self.factor_code = given
        elif interpretation == "stratonovich":
            self.factor_code = symmetric_factor(self.noise)
        else:
            self.factor_code = cholesky_factor(self.noise)
        terms = [(sign, force)]
        if phi is not None:
            terms = [(-1.0, _product(self.diffusion_code, force)), (1.0, divergence(self.diffusion_code))]
        elif self.noise.matrix is None and interpretation == "klimontovich":
            terms.append((1.0, divergence(self.diffusion_code)))
        elif self.noise.matrix is None and interpretation == "stratonovich":
            terms.append((1.0, _stratonovich_drift(self.factor_code)))
        self._force = (sign, force)
        self.drift_code = _sum(terms)
        return self

    @classmethod
    def from_drift(
        cls, drift: Sequence[str] | str | Any, noise: Noise, variables: str | Sequence[str] | None = None,
        params: Mapping[str, float] | None = None, *, dim: int | None = None, interpretation: str = "ito",
    ) -> Process:  # fmt: skip
        """A process whose drift is not a gradient: expressions, or a function ``drift(x, p) -> dim numbers``.

        Examples
        --------
        >>> cycle = Process.from_drift(["x - x**3/3 + y", "-x"], Noise.isotropic(0.1), variables="x y")
        >>> cycle.drift([1.0, 0.0])
        array([ 0.66666667, -1.        ])
        """
        checked = check_params(params)
        if callable(drift):
            if dim is None:
                raise ValueError("from_drift of a function needs dim=")
            force: Code = FunctionCode(drift, dim, dim, checked, "drift")
        else:
            names = split_names("x" if variables is None else variables)
            texts = [drift] if isinstance(drift, (str, int, float)) else list(drift)
            if len(texts) != len(names):
                raise ValueError(f"the drift has {len(texts)} components for {len(names)} variables ({' '.join(names)})")
            force = ExpressionCode([parse(t, [*names, *checked]) for t in texts], names, tuple(checked))
        return cls.__new__(cls)._set(1.0, force, checked, noise, interpretation)

    @classmethod
    def ornstein_uhlenbeck(cls, A: ArrayLike, noise: Noise, center: ArrayLike | None = None) -> Process:
        """Linear drift -A (x - center) with any square matrix A, in any dimension.

        Examples
        --------
        >>> Process.ornstein_uhlenbeck([[1.0, 0.6], [-0.3, 0.8]], Noise.isotropic(1.0)).drift([1.0, 0.0])
        array([-1. ,  0.3])
        """
        matrix = np.atleast_2d(np.asarray(A, float))
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.all(np.isfinite(matrix)):
            raise ValueError(f"A must be a finite square matrix, got shape {np.shape(A)}")
        c = np.zeros(len(matrix)) if center is None else np.asarray(center, float)
        if c.shape != (len(matrix),) or not np.all(np.isfinite(c)):
            raise ValueError(f"center must be {len(matrix)} finite numbers, got {center!r}")
        return cls.__new__(cls)._set(-1.0, AffineCode(matrix, c), {}, noise, "ito")

    @classmethod
    def reversible(cls, Phi: Potential, noise: Noise) -> Process:
        """Ito drift -D grad Phi + div D: detailed balance with stationary density exp(-Phi), for any D(x).

        Examples
        --------
        >>> Phi = Potential.from_expression("x**2/2")
        >>> Process.reversible(Phi, Noise.from_expression("1 + x**2")).drift([1.0])
        array([0.])
        """
        if not isinstance(Phi, Potential):
            raise TypeError(f"Phi must be a Potential, got {type(Phi).__name__}")
        return cls.__new__(cls)._set(-1.0, Phi.grad_code, Phi.params, noise, "ito", phi=Phi)

    # ---- fields -----------------------------------------------------------------------------------------------------

    @property
    def noise_dim(self) -> int:
        """Number of independent Wiener processes (columns of B)."""
        return self.factor_code.n_out // self.dim

    @property
    def stratonovich_code(self) -> Code:
        """The drift of the same process written with a Stratonovich noise: b - (1/2) sum_jk B_jk d_j B_.k."""
        if self.noise.matrix is not None:
            return self.drift_code
        if self.interpretation == "stratonovich" and self._phi is None:
            return _sum([self._force])
        return _sum([(1.0, self.drift_code), (-1.0, _stratonovich_drift(self.factor_code))])

    @property
    def is_gradient_isotropic(self) -> bool:
        """Drift -grad U and D a constant multiple of the identity: Boltzmann holds with temperature D."""
        return self.potential is not None and self.isotropic_diffusion is not None

    @property
    def isotropic_diffusion(self) -> float | None:
        """The number D where the tensor is D times the identity everywhere, else None."""
        m = self.noise.matrix
        if m is None or not np.array_equal(m, m[0, 0] * np.eye(self.dim)):
            return None
        return float(m[0, 0])

    @property
    def linear(self) -> tuple[Array, Array, Array] | None:
        """(A, center, D) where the drift is -A (x - center) and D is constant, else None."""
        sign, force = self._force
        if not isinstance(force, AffineCode) or self.noise.matrix is None or self._phi is not None:
            return None
        return -sign * force.matrix, force.center, self.noise.matrix

    def drift(self, x: ArrayLike) -> Array:
        """Ito drift b at points (..., dim), corrections included."""
        return self.drift_code.evaluate(check_points(x, self.dim), self.params)

    def diffusion(self, x: ArrayLike) -> Array:
        """D at points (..., dim): shape (..., dim, dim)."""
        return self._tensor(self.diffusion_code, x, self.dim)

    def factor(self, x: ArrayLike) -> Array:
        """The factor B of the paths engine, B B^T = 2 D: shape (..., dim, noise_dim)."""
        return self._tensor(self.factor_code, x, self.noise_dim)

    def divergence(self, x: ArrayLike) -> Array:
        """sum_j d D_ij / d x_j at points (..., dim)."""
        points = check_points(x, self.dim)
        if self.noise.matrix is not None:
            return np.zeros(points.shape)
        return divergence(self.diffusion_code).evaluate(points, self.params)

    def _tensor(self, code: Code, x: ArrayLike, columns: int) -> Array:
        points = check_points(x, self.dim)
        return code.evaluate(points, self.params).reshape(*points.shape[:-1], self.dim, columns)

    def log_density(self, x: ArrayLike) -> Array | None:
        """Logarithm of the unnormalised stationary density where detailed balance gives it in closed form, else None."""
        points = check_points(x, self.dim)
        if self._phi is not None:
            return -self._phi.value_code.evaluate(points, self.params)[..., 0]
        D = self.isotropic_diffusion
        if self.potential is None or D is None or D == 0.0:
            return None
        return -self.potential.value_code.evaluate(points, self.params)[..., 0] / D

    def check_diffusion(self, x: ArrayLike) -> None:
        """Raise ValueError if D is unusable at one of the points (n, dim).

        D must be finite, symmetric and positive semi-definite; the drift must be finite. The Stratonovich reading of a bare
        varying tensor needs a differentiable root, so there D must be positive definite.
        """
        points = check_points(x, self.dim).reshape(-1, self.dim)
        D = self.diffusion(points)
        check_tensor(D, points)
        self.check_derivatives(points)
        drift = self.drift(points)
        if np.any(bad := ~np.isfinite(drift).all(-1)):
            i = int(np.argmax(bad))
            raise ValueError(
                f"the drift is not finite at x = {points[i].tolist()}: {drift[i].tolist()}; "
                "restrict the grid or the start to where it is defined"
            )

    def check_derivatives(self, x: ArrayLike) -> None:
        """Raise ValueError if a derivative that the drift needs cannot be trusted at one of the points (n, dim).

        That is where the root of a tensor that Stratonovich noise differentiates is singular, and where a numerical derivative
        depends on its step because the function varies over less than it.
        """
        points = check_points(x, self.dim).reshape(-1, self.dim)
        if self.interpretation == "stratonovich" and self.noise.factor_code is None and self.noise.matrix is None:
            D = self.diffusion(points)
            lowest = np.linalg.eigvalsh(D)[:, 0]
            if np.any(bad := lowest <= 1e-12 * np.abs(D).max()):
                raise ValueError(
                    f"sqrt(2 D) is not differentiable at x = {points[np.argmax(bad)].tolist()}, where D has the eigenvalue "
                    f"{lowest[np.argmax(bad)]:.3g}; for Stratonovich noise give the factor itself with Noise.from_factor"
                )
        for code in _walk(self.drift_code):
            if isinstance(code, JacobianCode) and (error := code.step_error(points, self.params)) > 1e-2:
                raise ValueError(
                    f"a numerical derivative changes by {error:.1%} when its step "
                    f"({code.step * code.length:.1g} near the origin) shrinks eightfold: the function varies "
                    f"over less than length = {code.length:g}. Give the derivative itself, write the function"
                    " as an expression, or pass length= (the distance over which it varies)"
                )

    def with_params(self, **values: float) -> Process:
        """The same process with other parameter values; nothing is compiled anew."""
        process = type(self).__new__(type(self))
        process.__dict__.update(self.__dict__, params=update_params(self.params, values))
        if self.noise.matrix is not None and self.noise.params and set(values) & set(self.noise.params):
            raise ValueError("a constant noise tensor was computed from these parameters; make the noise anew")
        if self.noise.matrix is None and self.noise.params:
            process.noise = self.noise.with_params(**_select(process.params, self.noise.params))
        if self.potential is not None:
            process.potential = self.potential.with_params(**_select(process.params, self.potential.params))
        return process

    def __repr__(self) -> str:
        if self._phi is not None:
            what = f"reversible {self._phi}"
        else:
            what = repr(self.potential) if self.potential is not None else f"drift in {self.dim}-D"
        return f"Process({what}, {self.noise}, {self.interpretation})"


def _walk(code: Code) -> Iterator[Code]:
    yield code
    for part in code.parts:
        yield from _walk(part)


def _select(params: Mapping[str, float], names: Mapping[str, float]) -> dict[str, float]:
    return {name: params[name] for name in names}


def _merge(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """A parameter of the same name in landscape and noise is one parameter; two values for it are an error."""
    for name in set(first) & set(second):
        if first[name] != second[name]:
            raise ValueError(
                f"parameter {name} is {first[name]:g} in the landscape and {second[name]:g} in the noise; "
                "rename one or make them equal"
            )
    return {**first, **second}


def _sum(terms: Sequence[tuple[float, Code]]) -> Code:
    if all(isinstance(code, ExpressionCode) for _, code in terms):  # one expression: sympy simplifies common terms
        codes = [code for _, code in terms if isinstance(code, ExpressionCode)]
        if len({code.variables for code in codes}) == 1:
            signs = [int(sign) if sign == int(sign) else sign for sign, _ in terms]
            sums = [sum(s * code.expressions[i] for s, code in zip(signs, codes, strict=True)) for i in range(codes[0].n_out)]
            return ExpressionCode(sums, codes[0].variables, tuple(dict.fromkeys(n for c in codes for n in c.names)))
    sign, code = terms[0]
    return code if len(terms) == 1 and sign == 1.0 else DerivedCode.combine(terms)


def _product(D: Code, g: Code) -> Code:
    """D(x) g(x)."""
    d = g.dim
    return DerivedCode([D, g], d, [" + ".join(f"c0[{i * d + j}]*c1[{j}]" for j in range(d)) for i in range(d)])


def divergence(D: Code) -> Code:
    """sum_j d D_ij/d x_j."""
    d = D.dim
    if isinstance(D, ExpressionCode):
        j = D.jacobian()
        return ExpressionCode([sum(j.expressions[(i * d + k) * d + k] for k in range(d)) for i in range(d)], D.variables, D.names)
    return DerivedCode([D.jacobian()], d, [" + ".join(f"c0[{(i * d + k) * d + k}]" for k in range(d)) for i in range(d)])


def _stratonovich_drift(B: Code) -> Code:
    """(1/2) sum_jk B_jk d_j B_ik."""
    d = B.dim
    m = B.n_out // d
    outputs = [" + ".join(f"0.5*c0[{j * m + k}]*c1[{(i * m + k) * d + j}]" for j in range(d) for k in range(m)) for i in range(d)]
    return DerivedCode([B, B.jacobian()], d, outputs)


def cholesky_factor(noise: Noise) -> Code:
    """Lower-triangular B with B B^T = 2 D; zero columns where D is singular, so that semi-definite tensors are exact."""
    assert noise.diffusion_code is not None and noise.dim is not None
    d = noise.dim
    if noise.matrix is not None:
        return ConstantCode(root_of(2.0 * noise.matrix), d)
    if d > 8:
        raise ValueError(
            f"a varying diffusion tensor in {d}-D needs a factor: use Noise.from_factor (tensors are factored up to 8-D)"
        )
    lines = []
    for j in range(d):
        squares = "".join(f" - b{j}_{k}*b{j}_{k}" for k in range(j))
        lines.append(f"b{j}_{j} = positive_sqrt(2.0*c0[{j * d + j}]{squares}, c0[{j * d + j}])")
        for i in range(j + 1, d):
            products = "".join(f" - b{i}_{k}*b{j}_{k}" for k in range(j))
            lines.append(f"b{i}_{j} = ratio(2.0*c0[{i * d + j}]{products}, b{j}_{j}, 1e-7*fabs(c0[{i * d + i}]))")
    outputs = [f"b{i}_{j}" if j <= i else "0.0" for i in range(d) for j in range(d)]
    return DerivedCode([noise.diffusion_code], d * d, outputs, lines)


def symmetric_factor(noise: Noise) -> Code:
    """The symmetric root sqrt(2 D), which the Stratonovich reading of a bare tensor means."""
    assert noise.diffusion_code is not None and noise.dim is not None
    d = noise.dim
    if noise.matrix is not None:
        return ConstantCode(root_of(2.0 * noise.matrix), d)
    if d == 1:
        return DerivedCode([noise.diffusion_code], 1, ["positive_sqrt(2.0*c0[0], c0[0])"])
    if d == 2:  # (M + sqrt(det M))/sqrt(tr M + 2 sqrt(det M)) with M = 2 D
        lines = [
            "r = 2.0*positive_sqrt(c0[0]*c0[3] - c0[1]*c0[2], c0[0]*c0[3])",
            "t = positive_sqrt(c0[0] + c0[3], c0[0] + c0[3])",
            "s = ratio(1.0, sqrt(2.0*(t*t + r)), 1.0)",
        ]
        outputs = ["s*(2.0*c0[0] + r)", "s*2.0*c0[1]", "s*2.0*c0[2]", "s*(2.0*c0[3] + r)"]
        return DerivedCode([noise.diffusion_code], 4, outputs, lines)
    raise ValueError(
        f"Stratonovich noise in {d}-D needs the factor B: use Noise.from_factor (roots of tensors are taken up to 2-D)"
    )


def root_of(M: Array) -> Array:
    """Symmetric root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(M)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


class Underdamped:
    r"""Motion with inertia in phase space (x, v), whose limit of large friction is an overdamped process.

    .. math:: dx = v\,dt, \qquad m\,dv = -(\nabla U + g\,v)\,dt + \sqrt2\,B_f(x)\,dW, \qquad B_f B_f^T = g^2 D(x).

    D is the diffusion tensor of the overdamped limit dx = -grad U/g dt + sqrt(2 D) dW. With D = T/g times the identity the
    stationary density is exp(-(U + m v^2/2)/T). The noise does not depend on v, so Ito and Stratonovich agree.

    Parameters
    ----------
    U : Potential
    noise : Noise
        The overdamped tensor D(x), or a factor B(x) with B B^T = 2 D.
    friction, mass : float
        Both > 0.

    Raises
    ------
    TypeError, ValueError
        If friction or mass is not a positive number, or landscape and noise do not fit.

    Examples
    --------
    >>> from fpsolve.potentials import double_well
    >>> inertial = Underdamped(double_well(), Noise.isotropic(0.2), friction=0.5, mass=2.0)
    >>> inertial
    Underdamped(Potential((x**2 - 1)**2, dim=1), Noise(isotropic, D=0.2), friction=0.5, mass=2)
    >>> inertial.dim, inertial.overdamped.drift([0.5])
    (1, array([3.]))
    """

    def __init__(self, U: Potential, noise: Noise, friction: float, mass: float = 1.0) -> None:
        for name, value in (("friction", friction), ("mass", mass)):
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise TypeError(f"{name} must be a number, got {type(value).__name__}: {value!r}")
            if not (np.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be a finite number > 0, got {value!r}; without inertia use Process")
        self.friction, self.mass = float(friction), float(mass)
        #: Force -grad U and the tensor D, as a process; its time is not that of the motion.
        self.field = Process(U, noise)

    @property
    def dim(self) -> int:
        """Number of coordinates; a state has twice as many numbers."""
        return self.field.dim

    @property
    def potential(self) -> Potential:
        """The landscape U."""
        assert self.field.potential is not None
        return self.field.potential

    @property
    def noise(self) -> Noise:
        """The noise of the overdamped limit."""
        return self.field.noise

    @property
    def params(self) -> dict[str, float]:
        """Parameters of landscape and noise."""
        return self.field.params

    @property
    def overdamped(self) -> Process:
        """The limit of large friction: drift -grad U/g and diffusion D, read as Ito."""
        force = DerivedCode.combine([(-1.0 / self.friction, self.potential.grad_code)])
        return Process.__new__(Process)._set(1.0, force, self.potential.params, self.noise, "ito")

    def with_params(self, **values: float) -> Underdamped:
        """The same motion with other parameter values; nothing is compiled anew."""
        other = Underdamped.__new__(Underdamped)
        other.__dict__.update(self.__dict__, field=self.field.with_params(**values))
        return other

    def __repr__(self) -> str:
        return f"Underdamped({self.potential}, {self.noise}, friction={self.friction:g}, mass={self.mass:g})"


class SGDChain:
    """Stochastic gradient descent itself, as a Markov chain; its time is the iteration count.

    theta <- theta - lr g_B(theta), with heavy ball v <- momentum v + g_B, theta <- theta - lr v (PyTorch's form, no dampening).

    Parameters
    ----------
    ensemble : object
        Has ``dim``, ``size`` and ``gradient(theta, indices)``: the mean gradient of the sample losses with these indices.
    lr : float
    batch : int
        Batch size, at most ``ensemble.size`` unless drawn with replacement.
    momentum : float
        In [0, 1).
    sampling : {"replace", "shuffle"}
        Independent draws with replacement, or reshuffled epochs without replacement (last partial batch dropped).

    Examples
    --------
    >>> U = Potential.from_expression("h*x**2/2", params={"h": 2.0})
    >>> SGDChain.gaussian(U, Noise.covariance([[1.0]], lr=0.1, batch=10), lr=0.1)
    SGDChain(gaussian, dim=1, lr=0.1, momentum=0)
    """

    unit = "iteration"
    ensemble: Any
    process: Process | None
    batch: int | None
    sampling: str

    def __init__(self, ensemble: Any, lr: float, batch: int, momentum: float = 0.0, sampling: str = "replace") -> None:
        for name in ("dim", "size", "gradient"):
            if not hasattr(ensemble, name):
                raise TypeError(
                    f"an ensemble needs dim, size and gradient(theta, indices); {type(ensemble).__name__} has no {name}"
                )
        if sampling not in ("replace", "shuffle"):
            raise ValueError(f"sampling must be 'replace' or 'shuffle', got {sampling!r}")
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
            raise ValueError(f"batch must be a positive integer, got {batch!r}")
        if sampling == "shuffle" and batch > ensemble.size:
            raise ValueError(
                f"batch {batch} exceeds the {ensemble.size} samples; draw with sampling='replace' or take a smaller batch"
            )
        self._set("ensemble", int(ensemble.dim), lr, momentum)
        self.ensemble, self.batch, self.sampling = ensemble, int(batch), sampling

    def _set(self, kind: str, dim: int, lr: float, momentum: float) -> SGDChain:
        for name, value, top in (("lr", lr, np.inf), ("momentum", momentum, 1.0)):
            ok = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool) and np.isfinite(value)
            if not ok or value < 0 or value >= top or (name == "lr" and value == 0):
                raise ValueError(f"{name} must be a finite number in {'(0, inf)' if name == 'lr' else '[0, 1)'}, got {value!r}")
        self.kind, self.dim, self.lr, self.momentum = kind, dim, float(lr), float(momentum)
        self.ensemble, self.process, self.batch, self.sampling = None, None, None, "replace"
        return self

    @classmethod
    def gaussian(cls, U: Potential, noise: Noise, lr: float, momentum: float = 0.0) -> SGDChain:
        """The chain with Gaussian gradient noise: step covariance 2 lr D(x) (= lr^2 C/batch).

        Raises
        ------
        ValueError
            If the noise was made for another learning rate.
        """
        chain = cls.__new__(cls)._set("gaussian", U.dim, lr, momentum)
        if noise.lr is not None and not np.isclose(noise.lr, chain.lr, rtol=1e-12):
            raise ValueError(
                f"the noise was made for lr={noise.lr:g}, the chain has lr={chain.lr:g}; make both with the same learning rate"
            )
        chain.process = Process(U, noise)
        chain.batch = None if noise.batch is None else int(noise.batch)
        return chain

    def __repr__(self) -> str:
        marks = f", batch={self.batch}, sampling={self.sampling}" if self.kind == "ensemble" else ""
        return f"SGDChain({self.kind}, dim={self.dim}, lr={self.lr:g}, momentum={self.momentum:g}{marks})"
