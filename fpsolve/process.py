"""Stochastic processes: a landscape (or drift) plus a noise model, posed once for all engines.

The Ito equation is dX = b(X) dt + B(X) dW with B B^T = 2 D, and the density obeys dp/dt = -d_i(b_i p) + d_i d_j(D_ij p).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import numbers
from ._code import AffineCode, Code, DerivedCode, ExpressionCode, JacobianCode, TableCode
from ._drift_terms import cholesky_factor, divergence, modified_codes, product, stratonovich_drift, sum_of, symmetric_factor
from ._function_code import FunctionCode
from ._roots import FixedPoint, fixed_points
from ._tensors import MAX_EMITTED, DiagonalCode, LineTableCode, LowRankCode, LowRankFactorCode, check_knots
from .expressions import split_names
from .noise import Noise, check_diagonal, check_tensor
from .potentials import Potential, check_params, check_points, update_params

__all__ = ["Process", "Underdamped"]

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
        if noise.stable is not None and (interpretation != "ito" or phi is not None):
            what = "Process.reversible" if phi is not None else f"interpretation={interpretation!r}"
            raise ValueError(
                f"{what} is for Gaussian noise; Levy noise is additive, and its equation dX = b dt + dL needs no reading: use "
                "Process(U, noise) or Process.from_drift(b, noise)"
            )
        self.dim, self.interpretation, self.potential, self._phi = force.dim, interpretation, potential, phi
        self.noise = noise.resolve(self.dim)
        self.params = _merge(params, self.noise.params)
        assert self.noise.diffusion_code is not None
        self.diffusion_code = self.noise.diffusion_code
        given = self.noise.factor_code
        wide = self.dim > MAX_EMITTED or isinstance(self.noise.diffusion_code, LineTableCode)
        if interpretation == "stratonovich" and wide and not self.noise.is_constant:
            raise ValueError(
                "Stratonovich noise that depends on x needs the derivatives of a factor, which tables have not at their knots and "
                f"which are not taken above {MAX_EMITTED} dimensions; give the Ito drift with interpretation='ito'"
            )
        if given is not None:
            self.factor_code = given
        elif interpretation == "stratonovich":
            self.factor_code = symmetric_factor(self.noise)
        else:
            self.factor_code = cholesky_factor(self.noise)
        terms = [(sign, force)]
        if phi is not None:
            terms = [(-1.0, product(self.diffusion_code, force)), (1.0, divergence(self.diffusion_code))]
        elif not self.noise.is_constant and interpretation == "klimontovich":
            terms.append((1.0, divergence(self.diffusion_code)))
        elif not self.noise.is_constant and interpretation == "stratonovich":
            terms.append((1.0, stratonovich_drift(self.factor_code)))
        self._force = (sign, force)
        self.drift_code = sum_of(terms)
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
                raise ValueError(
                    f"the drift has {len(texts)} components for {len(names)} variables ({' '.join(names)}); give one for each"
                )
            force = ExpressionCode.from_texts(texts, names, tuple(checked))
        return cls.__new__(cls)._set(1.0, force, checked, noise, interpretation)

    @classmethod
    def tabulated(cls, x: ArrayLike, drift: ArrayLike, noise: Noise) -> Process:
        """A process on a line whose drift is measured at equally spaced points: linear between them, constant beyond.

        Parameters
        ----------
        x, drift : array (n,)
        noise : Noise
            Measured too: ``Noise.covariance(C[:, None, None], lr, batch, axes=[x])``.

        Raises
        ------
        ValueError
            If the points are not equally spaced and rising, or the shapes or values do not fit.

        Examples
        --------
        >>> Process.tabulated([0.0, 1.0, 2.0], [1.0, 0.0, -3.0], Noise.isotropic(0.1)).drift([1.5])
        array([-1.5])
        """
        nodes, values = numbers("x", x), numbers("drift", drift)
        check_knots(nodes, 0)
        if values.shape != nodes.shape or not np.all(np.isfinite(values)):
            raise ValueError(f"the drift must be finite at each of the {nodes.size} points, got shape {values.shape}")
        return cls.__new__(cls)._set(1.0, TableCode(values[:, None], [nodes]), {}, noise, "ito")

    @classmethod
    def ornstein_uhlenbeck(cls, A: ArrayLike, noise: Noise, center: ArrayLike | None = None) -> Process:
        """Linear drift -A (x - center) with any square matrix A, in any dimension.

        Examples
        --------
        >>> Process.ornstein_uhlenbeck([[1.0, 0.6], [-0.3, 0.8]], Noise.isotropic(1.0)).drift([1.0, 0.0])
        array([-1. ,  0.3])
        """
        matrix = np.atleast_2d(numbers("A", A))
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.all(np.isfinite(matrix)):
            raise ValueError(f"A must be a finite square matrix, got shape {np.shape(A)}")
        c = np.zeros(len(matrix)) if center is None else numbers("center", center)
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

    @classmethod
    def modified(cls, chain: Any, *, noise_correction: bool = True) -> Process:
        r"""The modified equation of second order of a Gaussian :class:`SGDChain` (time = lr times iterations).

        With b = -grad U, J its Jacobian and D the chain's diffusion tensor, the diffusion whose moments after a step lr agree
        with the chain's to one more order than those of :class:`Process`:

        .. math:: b' = b - \frac{lr}{2}(J b + D:\nabla\nabla b), \qquad
            D' = D - \frac{lr}{2}\left(J D + D J^T + b\cdot\nabla D + D:\nabla\nabla D\right).

        The first term of b' is the modified loss U + (lr/4) abs(grad U)^2 of Li, Tai & E, who leave D as it is. As D is itself of
        order lr, theirs is an equation of second order too, but its stationary covariance is wrong by a *relative* lr H, as the
        plain one; the correction of D makes that (lr H)^2. Terms of order lr D^2 in third derivatives of the density, which no
        diffusion has, are left out.

        Heavy ball: linear processes only, where from the slow root of r^2 - (1 + mu - lr H) r + mu = 0 and the exact
        covariance of the chain

        .. math:: A' = \frac{H}{1-\mu} + \frac{lr (1+\mu)}{2 (1-\mu)^3} H^2, \qquad
            D' = \frac{D}{(1-\mu)^2} + \frac{lr (1+\mu^2)}{2 (1+\mu) (1-\mu)^4} (H D + D H).

        Parameters
        ----------
        chain : SGDChain
        noise_correction : bool
            False: the equation as Li, Tai & E write it, with D unchanged and without the term D : grad grad b.

        Raises
        ------
        TypeError, ValueError
            For anything but Gaussian chains; Nesterov; momentum on a landscape that is not quadratic.

        References
        ----------
        Q. Li, C. Tai, W. E, ICML 2017 (arXiv:1511.06251); N. Kovachki, A. Stuart, JMLR 22, 17 (2021), for momentum.

        Examples
        --------
        >>> import fpsolve as fps
        >>> U = fps.potentials.quadratic([[2.0]])
        >>> chain = fps.SGDChain.gaussian(U, Noise.covariance([[1.0]], lr=0.1), lr=0.1)
        >>> Process.modified(chain).drift([1.0]), Process.modified(chain).diffusion([1.0])
        (array([-2.2]), array([[0.06]]))
        """
        if getattr(chain, "kind", None) != "gaussian":
            raise TypeError(
                "the modified equation belongs to a chain with Gaussian noise; for an ensemble make it with "
                f"SGDChain.gaussian(ensemble.loss, ensemble.noise(lr, batch), lr), got {chain!r}"
            )
        if chain.process is None:
            raise ValueError(f"{chain!r} has no modified equation: it takes a constant learning rate and batch size, and plain SGD")
        base, h, mu = chain.process, chain.lr, chain.momentum
        if mu and (base.linear is None or chain.nesterov):
            raise ValueError(
                "with momentum the modified equation is known for heavy ball on a quadratic landscape with constant noise only"
            )
        if base.linear is not None:
            A, center, D = base.linear
            drift = A / (1 - mu) + h * (1 + mu) / (2 * (1 - mu) ** 3) * A @ A
            spread = h * (1 + mu * mu) / (2 * (1 + mu) * (1 - mu) ** 4) if noise_correction else 0.0
            corrected = D / (1 - mu) ** 2 + spread * (A @ D + D @ A.T)
            return cls.ornstein_uhlenbeck(drift, Noise.constant(corrected), center)
        drift_code, diffusion_code = modified_codes(base, h, noise_correction)
        noise = Noise(f"modified {base.noise.name}", base.dim, diffusion_code, params=base.params)
        return cls.__new__(cls)._set(1.0, drift_code, base.params, noise, "ito")

    # ---- fields -----------------------------------------------------------------------------------------------------

    @property
    def unscaled(self) -> Process:
        """The process before its noise was multiplied by a number (see `Driven`); most are their own."""
        return self

    @property
    def noise_dim(self) -> int:
        """Number of independent Wiener processes (columns of B)."""
        return self.factor_code.n_out // self.dim

    @property
    def stratonovich_code(self) -> Code:
        """The drift of the same process written with a Stratonovich noise: `b - (1/2) sum_jk B_jk d_j B_.k`."""
        if self.noise.is_constant:
            return self.drift_code
        if self.interpretation == "stratonovich" and self._phi is None:
            return sum_of([self._force])
        return sum_of([(1.0, self.drift_code), (-1.0, stratonovich_drift(self.factor_code))])

    @property
    def weak_drift_code(self) -> Code:
        """The drift without what the noise adds to it: b in the limit D -> 0, which large deviations know.

        -grad U in every reading; -D grad Phi of a reversible process.
        """
        if self._phi is not None:
            return sum_of([(-1.0, product(self.diffusion_code, self._force[1]))])
        return sum_of([self._force])

    @property
    def is_gradient_isotropic(self) -> bool:
        """Drift -grad U and D a constant multiple of the identity: Boltzmann holds with temperature D."""
        return self.potential is not None and self.isotropic_diffusion is not None

    @property
    def isotropic_diffusion(self) -> float | None:
        """The number D where the tensor is D times the identity everywhere, else None."""
        if isinstance(tensor := self.noise.diffusion_code, LowRankCode):
            return tensor.uniform
        m = self.noise.matrix
        if m is None or not np.array_equal(m, m[0, 0] * np.eye(self.dim)):
            return None
        return float(m[0, 0])

    @property
    def linear(self) -> tuple[Array, Array, Array] | None:
        """(A, center, D) where the drift is -A (x - center) and D is constant, else None."""
        matrix = self.noise.matrix if self.is_linear else None
        if matrix is None:
            return None
        sign, force = self._force
        assert isinstance(force, AffineCode)
        return -sign * force.matrix, force.center, matrix

    @property
    def is_linear(self) -> bool:
        """Whether the drift is -A (x - center) with a matrix A and D is constant; forms no matrix."""
        return isinstance(self._force[1], AffineCode) and self.noise.is_constant and self._phi is None

    def drift(self, x: ArrayLike) -> Array:
        """Ito drift b at points (..., dim), corrections included."""
        return self.drift_code.evaluate(check_points(x, self.dim), self.params)

    def diffusion(self, x: ArrayLike) -> Array:
        """D at points (..., dim): shape (..., dim, dim)."""
        return self._tensor(self.diffusion_code, x, self.dim)

    def factor(self, x: ArrayLike) -> Array:
        """The factor B of the paths engine, B B^T = 2 D: shape (..., dim, noise_dim)."""
        return self._tensor(self.factor_code, x, self.noise_dim)

    def kick(self, x: Array, normals: Array) -> Array:
        """B(x) z at points (n, dim) for normals (n, noise_dim); no matrix is formed where the noise has parts."""
        factor = self.factor_code
        if isinstance(factor, LowRankFactorCode):
            r = factor.rank
            part = np.sqrt(2.0) * normals[:, :r] @ factor.tensor.F.T
            return np.asarray(part + factor.diagonal * normals[:, r:] if factor.diagonal.size else part)
        if isinstance(factor, DiagonalCode):
            return np.asarray(np.sqrt(2.0 * factor.diagonal(x, self.params)) * normals)
        return np.asarray(np.einsum("nij,nj->ni", self.factor(x), normals))

    def divergence(self, x: ArrayLike) -> Array:
        """sum_j d D_ij / d x_j at points (..., dim)."""
        points = check_points(x, self.dim)
        if self.noise.is_constant:
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

    def fixed_points(self, box: Sequence[Sequence[float]], *, starts: int = 2000, tol: float = 1e-10) -> list[FixedPoint]:
        """Points inside a box where the drift vanishes, with their stability, by Newton's method from many starts.

        The drift is the one for D -> 0, without what a reading of the noise adds to it: for a gradient system these are
        the critical points of U.

        Parameters
        ----------
        box : sequence of (lo, hi), one per axis
        starts : int
            Number of starting points, spread evenly. More find more; nothing proves that all were found.
        tol : float
            Accepted size of the last Newton step, relative to the box.

        Returns
        -------
        list of FixedPoint
            Attractors first: x, jacobian, eigenvalues, index (the number of unstable directions), stable, kind, degenerate.

        Raises
        ------
        ValueError
            If the box is not made of `dim` finite pairs with lo < hi, or `starts` is no whole number >= 1.

        Examples
        --------
        >>> drift = ["x - x**3 - 10*x*y**2", "-(1 + x**2)*y"]
        >>> Process.from_drift(drift, Noise.isotropic(0.5), variables="x y").fixed_points([(-2, 2), (-1, 1)])
        [<stable node at [-1.  0.]>, <stable node at [1. 0.]>, <saddle at [0. 0.]>]
        """
        return fixed_points(self, box, starts, tol)

    def check_diffusion(self, x: ArrayLike) -> None:
        """Raise ValueError if D is unusable at one of the points (n, dim).

        D must be finite, symmetric and positive semi-definite; the drift must be finite. The Stratonovich reading of a bare
        varying tensor needs a differentiable root, so there D must be positive definite.
        """
        points = check_points(x, self.dim).reshape(-1, self.dim)
        tensor = self.noise.diffusion_code
        if isinstance(tensor, DiagonalCode):
            check_diagonal(tensor.diagonal(points, self.params), points)
        elif self.noise.stable is None and not isinstance(tensor, (LowRankCode, LineTableCode)):  # those are checked when made
            check_tensor(self.diffusion(points), points)
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
        if self.interpretation == "stratonovich" and self.noise.factor_code is None and not self.noise.is_constant:
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
        if self.noise.is_constant and self.noise.params and set(values) & set(self.noise.params):
            raise ValueError("a constant noise tensor was computed from these parameters; make the noise anew")
        if not self.noise.is_constant and self.noise.params:
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
        if isinstance(noise, Noise) and noise.stable is not None:
            raise ValueError("Underdamped needs Gaussian noise, which has a temperature; Levy noise drives a Process")
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
