"""The integrators: one table of schemes, each with its order, the noise it is valid for, and the lines that advance one lane.

The lines are scalar source without branches, so that a loop over lanes is SIMD code. They are given x0, x1, ... (old state, all
variables), z0, z1, ... (standard normals of the step), j0, j1, ... (stable variates, where the noise is Levy), the functions
``drift(x, p)`` and ``factor(x, q)`` (B row by row, for Milstein followed by its Jacobian), and the constants by name; they set
y0, y1, ... (new state). Other names must not be those of the kernels (w, i, k, p, q, r, t, s, g and t0, a0, a1, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._code import Code, ConstantCode, DerivedCode, ExpressionCode
from ._walls import Sides, fold_lines
from .process import Process

__all__ = ["CLASSES", "SCHEMES", "Scheme", "Shape", "Step", "factor_with_slopes", "noise_class", "zero_outputs"]

Array = NDArray[np.float64]

#: Classes of noise, each a special case of all that follow it.
CLASSES = ("additive", "scalar", "diagonal", "commutative", "general")


@dataclass(frozen=True)
class Shape:
    """What the lines of a scheme are written for: d coordinates, m normals, the class of the noise, entries of B that are zero.

    Levy noise has ``stables`` variates: d with no normals, or one that multiplies d normals (isotropic). ``sides`` are the walls.
    """

    d: int
    m: int
    kind: str
    zeros: frozenset[int] = frozenset()
    stables: int = 0
    sides: Sides = ()

    def fold(self, name: str, momenta: str) -> list[str]:
        """Lines that mirror the position name0, ... at the walls, and with it the velocities; for motion with inertia."""
        return fold_lines(self.sides, name, lambda i: [f"{v}{i}" for v in momenta])

    def entry(self, name: str, i: int, k: int) -> str | None:
        """Source of B_ik in the tuple `name`; None where it is zero everywhere."""
        at = i * self.m + k
        return None if at in self.zeros else f"{name}[{at}]"

    def times(self, name: str, i: int, normal: str = "z", first: int = 0) -> str:
        """Source of sum_k B_ik z_(first + k)."""
        terms = [f"{e}*{normal}{first + k}" for k in range(self.m) if (e := self.entry(name, i, k))]
        return " + ".join(terms) or "0.0"

    def kick(self, i: int) -> str:
        """Source of the noise of coordinate i in one step, over ``root``."""
        if self.stables:
            return f"j0*z{i}" if self.m else f"j{i}"
        return self.times("c", i)


def point(prefix: str, d: int) -> str:
    """Source of the tuple of d numbers prefix0, prefix1, ..."""
    return "(" + "".join(f"{prefix}{i}, " for i in range(d)) + ")"


@dataclass(frozen=True)
class Scheme:
    """One integrator.

    ``write(shape)`` gives its lines and ``constants(h, settings)`` the numbers that they use by name, fixed for a run ("h" is one).
    ``draws(shape)`` is the number of normals per step. A state has ``copies`` variables per coordinate, of which the first
    ``shown`` enter the results. ``affine(A, B, constants)`` is the step y = M x + N z for the drift -A x and constant B, for the
    matrix kernel. Orders are those for the widest noise it takes; ``additive`` those for additive noise. ``levy``: takes Levy noise
    as well.
    """

    name: str
    title: str
    equations: str
    write: Callable[[Shape], list[str]]
    constants: Callable[[float, Mapping[str, float]], dict[str, float]]
    noise: str = "general"
    calculus: str = "Ito"
    strong: str = ""
    weak: str = ""
    additive: str = ""
    source: str = ""
    draws: Callable[[Shape], int] = lambda shape: shape.m
    copies: int = 1
    shown: int = 1
    affine: Callable[[Array, Array, Mapping[str, float]], tuple[Array, Array]] | None = None
    levy: bool = False


@dataclass(frozen=True)
class Step:
    """A scheme put together with a model: all that the texts of the kernels need."""

    scheme: Scheme
    drift: Code
    factor: Code
    shape: Shape
    constants: Mapping[str, float]
    conormal: bool = False
    scheduled: bool = False  # the constants are rows, one per step
    moving: tuple[str, ...] = ()  # parameters that follow the constants in their rows

    @property
    def put_back(self) -> bool:
        """Whether states are put back behind walls after the step; with inertia the scheme does it where a position moves."""
        return any(map(any, self.shape.sides)) and self.scheme.equations != "underdamped"

    @property
    def variables(self) -> int:
        """Numbers of a state."""
        return self.scheme.copies * self.shape.d

    @property
    def draws(self) -> int:
        """Normals per step."""
        return self.scheme.draws(self.shape)

    @property
    def values(self) -> Array:
        """The constants as the kernels take them."""
        return np.array(list(self.constants.values()))

    def unpack(self) -> list[str]:
        """Lines that give the constants and parameters of a kernel their names."""
        return [
            *([] if self.scheduled else self._named("")),
            *self._parameters("p", self.drift, "drift_p"),
            *self._parameters("q", self.factor, "factor_p"),
        ]

    def unpack_step(self) -> list[str]:
        """Lines at the start of step k of a call that begins with step ``first``."""
        if not self.scheduled:
            return []
        return [
            *self._named("k - first, "),
            *self._changes("p", self.drift, "drift_p"),
            *self._changes("q", self.factor, "factor_p"),
        ]

    def _parameters(self, name: str, code: Code, packed: str) -> list[str]:
        """Parameters at the start of a call; an array in which some will change is a copy."""
        copied = code.array_params and self._places(code)
        return [f"{name} = {packed}.copy()" if copied else f"{name} = {code.unpack_source(packed)}"]

    def _changes(self, name: str, code: Code, packed: str) -> list[str]:
        """Parameters of step k."""
        at = {i: f"constants[k - first, {len(self.constants) + j}]" for i, j in self._places(code).items()}
        if not at:
            return []
        if code.array_params:
            return [f"{name}[{i}] = {source}" for i, source in at.items()]
        return [f"{name} = ({''.join(at.get(i, f'{packed}[{i}]') + ', ' for i in range(code.n_params))})"]

    def _places(self, code: Code) -> dict[int, int]:
        """Which entries of a code's packed parameters are which moving ones."""
        places: dict[int, int] = {}
        still = dict.fromkeys(code.names, 0.0)
        for j, name in enumerate(self.moving):
            if name in code.names:
                found = np.flatnonzero(np.isnan(code.pack({**still, name: math.nan})) & ~np.isnan(code.pack(still)))
                places |= dict.fromkeys(found.tolist(), j)
        return places

    def _named(self, row: str) -> list[str]:
        """The constants by name: dt and what follows from it, then the walls."""
        return [f"{', '.join(self.constants)} = {', '.join(f'constants[{row}{i}]' for i in range(len(self.constants)))}"]

    def lines(self) -> list[str]:
        """Lines from x and z to y."""
        return self.scheme.write(self.shape)


# ---- what a model is ------------------------------------------------------------------------------------------------


def zero_outputs(code: Code) -> set[int]:
    """Outputs that are zero whatever x and p are: their products are left out of the text."""
    if isinstance(code, ConstantCode):
        return {i for i, v in enumerate(code.values) if v == 0.0}
    if isinstance(code, ExpressionCode):
        return set(code.zeros)
    if isinstance(code, DerivedCode):
        return {i for i, o in enumerate(code.outputs) if o == "0.0"}
    return set()


def factor_with_slopes(factor: Code) -> Code:
    """B followed by its Jacobian: output d m + (i m + k) d + j is the derivative of B_ik along j."""
    slopes = factor.jacobian()
    if isinstance(factor, ExpressionCode) and isinstance(slopes, ExpressionCode):
        names = tuple(dict.fromkeys((*factor.names, *slopes.names)))
        return ExpressionCode([*factor.expressions, *slopes.expressions], factor.variables, names)
    zeros = zero_outputs(factor)
    outputs = ["0.0" if i in zeros else f"c0[{i}]" for i in range(factor.n_out)]
    return DerivedCode([factor, slopes], factor.n_out + slopes.n_out, outputs + [f"c1[{i}]" for i in range(slopes.n_out)])


def noise_class(process: Process, points: Array) -> str:
    """The narrowest of CLASSES that the factor is of; where it is no expression, by its values around the points (n, d)."""
    process = process.unscaled
    factor, d, m = process.factor_code, process.dim, process.noise_dim
    if process.noise.is_constant or (isinstance(factor, ExpressionCode) and factor.is_constant):
        return "additive"
    if m == 1:
        return "scalar"
    rng = np.random.default_rng(0)
    some = np.repeat(points[:: max(1, len(points) // 16)][:16], 8, axis=0)
    spread = factor.length * np.repeat([[0.0], [0.01], [0.3], [1.0]], 2, axis=0)
    near = some + np.tile(spread, (len(some) // 8, 1)) * rng.normal(size=some.shape)
    slopes = factor.jacobian()
    B = factor.evaluate(near, process.params).reshape(len(near), d, m)
    G = slopes.evaluate(near, process.params).reshape(len(near), d, m, d)
    usable = np.isfinite(B).all((1, 2)) & np.isfinite(G).all((1, 2, 3))
    B, G = B[usable], G[usable]
    level = max(1e-9, 100.0 * slopes.noise_level) * max(1.0, np.abs(G).max(initial=0.0))
    if d == m:
        own = np.zeros((d, m, d), bool)
        own[range(d), range(d), range(d)] = True
        off = ~np.eye(d, dtype=bool)
        if np.all(B[:, off] == 0.0) and np.all(np.abs(G[:, ~own]) <= level):
            return "diagonal"
    along = np.einsum("nlj,nikl->nijk", B, G)  # (L^j b^k)_i
    gap = np.abs(along - np.swapaxes(along, 2, 3))
    if np.any(gap > level * max(1.0, np.abs(B).max(initial=0.0))):
        return "general"
    if isinstance(factor, ExpressionCode) and not _commutes(factor, d, m):
        return "general"
    return "commutative"


def _commutes(factor: ExpressionCode, d: int, m: int) -> bool:
    """Whether L^j b^k = L^k b^j identically; True where sympy cannot tell what the values have shown."""
    slopes = factor.jacobian().expressions
    B = factor.expressions
    for j in range(m):
        for k in range(j):
            for i in range(d):
                gap = sum(B[n * m + j] * slopes[(i * m + k) * d + n] - B[n * m + k] * slopes[(i * m + j) * d + n] for n in range(d))
                if gap != 0 and gap.equals(0) is False:
                    return False
    return True


# ---- overdamped -----------------------------------------------------------------------------------------------------


def _start(s: Shape) -> list[str]:
    """b and c: drift and factor at the old state."""
    x = point("x", s.d)
    return [f"b = drift({x}, p)", *([] if s.stables else [f"c = factor({x}, q)"])]


def _euler(s: Shape) -> list[str]:
    noise = [f"n{i} = {s.kick(i)}" for i in range(s.d)]
    return [*_start(s), *noise, *(f"y{i} = x{i} + h*b[{i}] + root*n{i}" for i in range(s.d))]


def _heavy_ball(s: Shape) -> list[str]:
    """v <- mu v + g, w <- w - lr v with g = -b - B z/sqrt(lr), so that mu = 0 is the Euler step with dt = lr."""
    d = s.d
    lines = [*_start(s), *(f"n{i} = {s.times('c', i)}" for i in range(d))]
    lines += [f"y{d + i} = mu*x{d + i} - b[{i}] - inverse_root*n{i}" for i in range(d)]
    return lines + [f"y{i} = x{i} - h*y{d + i}" for i in range(d)]


def _nesterov(s: Shape) -> list[str]:
    """v <- mu v + g, w <- w - lr (g + mu v)."""
    d = s.d
    lines = _heavy_ball(s)[:-d]
    return lines + [f"y{i} = x{i} + h*b[{i}] + root*n{i} - h*mu*y{d + i}" for i in range(d)]


def _milstein(s: Shape) -> list[str]:
    """Euler + (1/2) sum_jk L^j b^k (dW^j dW^k - delta_jk h); needs the Jacobian behind B, and L^j b^k = L^k b^j."""
    d, m = s.d, s.m
    if s.kind == "additive":
        return _euler(s)
    lines = [*_start(s), *(f"n{i} = {s.times('c', i)}" for i in range(d))]
    lines += [f"r{j}{k} = {'' if j == k else '2.0*'}z{j}*z{k}{' - 1.0' if j == k else ''}" for j in range(m) for k in range(j + 1)]
    for i in range(d):
        pairs = [(k, k) for k in range(m)] if s.kind == "diagonal" else [(j, k) for j in range(m) for k in range(j + 1)]
        if s.kind == "diagonal":
            pairs = [(i, i)]
        terms = []
        for j, k in pairs:
            along = [f"{e}*c[{d * m + (i * m + k) * d + n}]" for n in range(d) if (e := s.entry("c", n, j))]
            if along:
                terms.append(f"({' + '.join(along)})*r{j}{k}")
        lines.append(f"m{i} = {' + '.join(terms) or '0.0'}")
    return [*lines, *(f"y{i} = x{i} + h*b[{i}] + root*n{i} + 0.5*h*m{i}" for i in range(d))]


def _heun(s: Shape) -> list[str]:
    """Predictor and corrector with the Stratonovich drift."""
    d = s.d
    lines = [*_start(s), *(f"n{i} = root*({s.times('c', i)})" for i in range(d))]
    lines += [f"u{i} = x{i} + h*b[{i}] + n{i}" for i in range(d)]
    lines.append(f"f = drift({point('u', d)}, p)")
    if s.kind == "additive":
        return [*lines, *(f"y{i} = x{i} + 0.5*h*(b[{i}] + f[{i}]) + n{i}" for i in range(d))]
    lines.append(f"e = factor({point('u', d)}, q)")
    return [*lines, *(f"y{i} = x{i} + 0.5*h*(b[{i}] + f[{i}]) + 0.5*(n{i} + root*({s.times('e', i)}))" for i in range(d))]


def _platen(s: Shape) -> list[str]:
    """Platen's explicit scheme of weak order 2 (Kloeden and Platen 1992, 15.1.3); signs of normals are its two-point variables."""
    d, m = s.d, s.m
    if s.kind == "additive":
        return _heun(s)
    lines = [*_start(s), *(f"u{i} = x{i} + h*b[{i}] + root*({s.times('c', i)})" for i in range(d))]
    lines.append(f"f = drift({point('u', d)}, p)")
    cross = m > 1 and s.kind in ("commutative", "general")
    for k in range(m):
        for sign, letter in (("+", "up"), ("-", "dn")):
            moved = [f"{sign} root*{e}" if (e := s.entry("c", i, k)) else "" for i in range(d)]
            lines += [f"o{i} = x{i} + h*b[{i}] {moved[i]}" for i in range(d)]
            lines.append(f"{letter}{k} = factor({point('o', d)}, q)")
            if cross:
                lines += [f"o{i} = x{i} {moved[i]}" for i in range(d)]
                lines.append(f"{letter}x{k} = factor({point('o', d)}, q)")
    extra = iter(range(m, m + m * (m - 1) // 2))
    if cross:
        for r in range(m):
            for j in range(r):  # V_rj = +-h for j < r, V_jr = -V_rj; here in units of h
                lines += [f"v{r}_{j} = z{r}*z{j} + (1.0 if z{e} > 0.0 else -1.0)" for e in (next(extra),)]
                lines.append(f"v{j}_{r} = 2.0*z{r}*z{j} - v{r}_{j}")
    for i in range(d):
        terms = []
        for k in range(m):
            if i * m + k in s.zeros:
                continue
            at = i * m + k
            terms.append(f"(up{k}[{at}] + dn{k}[{at}] + 2.0*c[{at}])*z{k} + (up{k}[{at}] - dn{k}[{at}])*(z{k}*z{k} - 1.0)")
            for r in range(m) if cross else ():
                if r != k:
                    terms.append(f"(upx{r}[{at}] + dnx{r}[{at}] - 2.0*c[{at}])*z{k} + (upx{r}[{at}] - dnx{r}[{at}])*v{r}_{k}")
        lines.append(f"y{i} = x{i} + 0.5*h*(b[{i}] + f[{i}]) + 0.25*root*({' + '.join(terms) or '0.0'})")
    return lines


def _platen_draws(s: Shape) -> int:
    return s.m + (s.m * (s.m - 1) // 2 if s.kind in ("commutative", "general") else 0)


def _sra(s: Shape) -> list[str]:
    """Roessler's SRA1: stages at x and x + 3/4 h b + 3/2 B I_10/h, with I_10/h = (root/2)(z + z'/sqrt 3)."""
    d, m = s.d, s.m
    lines = [*_start(s), *(f"w{k} = z{k} + z{m + k}*0.57735026918962576451" for k in range(m))]
    lines += [f"u{i} = x{i} + 0.75*(h*b[{i}] + root*({s.times('c', i, 'w')}))" for i in range(d)]
    lines.append(f"f = drift({point('u', d)}, p)")
    return [*lines, *(f"y{i} = x{i} + h*(b[{i}] + 2.0*f[{i}])/3.0 + root*({s.times('c', i)})" for i in range(d))]


def _tamed(s: Shape) -> list[str]:
    size = " + ".join(f"b[{i}]*b[{i}]" for i in range(s.d))
    lines = [*_start(s), f"a = h/(1.0 + h*sqrt({size}))"]
    return [*lines, *(f"y{i} = x{i} + a*b[{i}] + root*({s.kick(i)})" for i in range(s.d))]


def _sde_constants(h: float, settings: Mapping[str, float]) -> dict[str, float]:
    if alpha := settings.get("alpha"):
        return {"h": h, "root": settings["scale"] * h ** (1.0 / alpha), "alpha": alpha}
    return {"h": h, "root": math.sqrt(h)}


def _chain_constants(h: float, settings: Mapping[str, float]) -> dict[str, float]:
    return {"h": h, "root": math.sqrt(h), "inverse_root": 1.0 / math.sqrt(h), "mu": settings["momentum"]}


def _euler_affine(A: Array, B: Array, c: Mapping[str, float]) -> tuple[Array, Array]:
    return np.eye(len(A)) - c["h"] * A, c["root"] * B


def _heun_affine(A: Array, B: Array, c: Mapping[str, float]) -> tuple[Array, Array]:
    eye, hA = np.eye(len(A)), c["h"] * A
    return eye - hA + 0.5 * hA @ hA, c["root"] * (eye - 0.5 * hA) @ B


def _sra_affine(A: Array, B: Array, c: Mapping[str, float]) -> tuple[Array, Array]:
    eye, hA, root = np.eye(len(A)), c["h"] * A, c["root"]
    return eye - hA + 0.5 * hA @ hA, root * np.hstack([(eye - 0.5 * hA) @ B, -0.5 / math.sqrt(3.0) * hA @ B])


def _heavy_ball_affine(A: Array, B: Array, c: Mapping[str, float]) -> tuple[Array, Array]:
    h, mu, eye = c["h"], c["mu"], np.eye(len(A))
    noise = B * c["inverse_root"]
    return np.block([[eye - h * A, -h * mu * eye], [A, mu * eye]]), np.vstack([h * noise, -noise])


def _nesterov_affine(A: Array, B: Array, c: Mapping[str, float]) -> tuple[Array, Array]:
    h, mu, eye = c["h"], c["mu"], np.eye(len(A))
    noise = B * c["inverse_root"]
    M = np.block([[eye - h * (1.0 + mu) * A, -h * mu * mu * eye], [A, mu * eye]])
    return M, np.vstack([h * (1.0 + mu) * noise, -noise])


# ---- underdamped: dx = v dt, m dv = -(grad U + g v) dt + g B dW ---------------------------------------------------------


def _underdamped_constants(h: float, settings: Mapping[str, float]) -> dict[str, float]:
    """kick = h/(2 m); decay = exp(-g h/m) and the noise that keeps m v^2 = g D; the same for half a step."""
    g, m = settings["friction"], settings["mass"]
    rate = g / m

    def spread(t: float) -> float:
        return rate * math.sqrt(-math.expm1(-2.0 * rate * t) / (2.0 * rate))

    return {
        "h": h, "half": 0.5 * h, "kick": 0.5 * h / m, "decay": math.exp(-rate * h), "spread": spread(h),
        "half_decay": math.exp(-0.5 * rate * h), "half_spread": spread(0.5 * h),
    }  # fmt: skip


def _gjf_constants(h: float, settings: Mapping[str, float]) -> dict[str, float]:
    """b = 1/(1 + g h/(2 m)), a = (1 - g h/(2 m)) b; the noise beta/(2 m) of half a kick has the factor g sqrt(h)/(2 m)."""
    g, m = settings["friction"], settings["mass"]
    b = 1.0 / (1.0 + 0.5 * g * h / m)
    return {
        "h": h, "kick": 0.5 * h / m, "push": 0.5 * g * math.sqrt(h) / m, "length": b * h,
        "a": (1.0 - 0.5 * g * h / m) * b, "root_b": math.sqrt(b),
    }  # fmt: skip


def _baoab(s: Shape) -> list[str]:
    d = s.d
    return [
        f"b = drift({point('x', d)}, p)",
        *(f"u{i} = x{d + i} + kick*b[{i}]" for i in range(d)),
        *(f"o{i} = x{i} + half*u{i}" for i in range(d)),
        *s.fold("o", "u"),
        f"c = factor({point('o', d)}, q)",
        *(f"u{i} = decay*u{i} + spread*({s.times('c', i)})" for i in range(d)),
        *(f"y{i} = o{i} + half*u{i}" for i in range(d)),
        *s.fold("y", "u"),
        f"f = drift({point('y', d)}, p)",
        *(f"y{d + i} = u{i} + kick*f[{i}]" for i in range(d)),
    ]


def _obabo(s: Shape) -> list[str]:
    d, m = s.d, s.m
    return [
        *_start(s),
        *(f"u{i} = half_decay*x{d + i} + half_spread*({s.times('c', i)}) + kick*b[{i}]" for i in range(d)),
        *(f"y{i} = x{i} + h*u{i}" for i in range(d)),
        *s.fold("y", "u"),
        f"f = drift({point('y', d)}, p)",
        f"e = factor({point('y', d)}, q)",
        *(f"y{d + i} = half_decay*(u{i} + kick*f[{i}]) + half_spread*({s.times('e', i, 'z', m)})" for i in range(d)),
    ]


def _gjf(s: Shape) -> list[str]:
    """State (x, half-step velocity, velocity at the step): the half-step velocity (x' - x)/(sqrt(b) h) is the one shown."""
    d = s.d
    return [
        *_start(s),
        *(f"n{i} = push*({s.times('c', i)})" for i in range(d)),
        *(f"u{i} = x{2 * d + i} + kick*b[{i}] + n{i}" for i in range(d)),
        *(f"y{i} = x{i} + length*u{i}" for i in range(d)),
        *s.fold("y", "un"),
        *(f"y{d + i} = root_b*u{i}" for i in range(d)),
        f"f = drift({point('y', d)}, p)",
        *(f"y{2 * d + i} = a*u{i} + kick*f[{i}] + n{i}" for i in range(d)),
    ]


def _underdamped_affine(order: str) -> Callable[[Array, Array, Mapping[str, float]], tuple[Array, Array]]:
    """The product of the linear maps of a splitting, e.g. "BAOAB" (letters from first to last)."""

    def affine(A: Array, B: Array, c: Mapping[str, float]) -> tuple[Array, Array]:
        d, m = B.shape
        eye, zero = np.eye(d), np.zeros((d, d))
        halves = order.count("O") == 2
        decay, spread = (c["half_decay"], c["half_spread"]) if halves else (c["decay"], c["spread"])
        length = c["h"] if order.count("A") == 1 else c["half"]
        maps = {
            "A": np.block([[eye, length * eye], [zero, eye]]),
            "B": np.block([[eye, zero], [-c["kick"] * A, eye]]),
            "O": np.block([[eye, zero], [zero, decay * eye]]),
        }
        M, N, seen = np.eye(2 * d), np.zeros((2 * d, m * order.count("O"))), 0
        for letter in order:
            M, N = maps[letter] @ M, maps[letter] @ N
            if letter == "O":
                N[d:, seen * m : (seen + 1) * m] += spread * B
                seen += 1
        return M, N

    return affine


def _gjf_affine(A: Array, B: Array, c: Mapping[str, float]) -> tuple[Array, Array]:
    d = len(A)
    eye, zero = np.eye(d), np.zeros((d, d))
    U, n = np.hstack([-c["kick"] * A, zero, eye]), c["push"] * B  # the velocity u between the kicks
    X = np.hstack([eye, zero, zero]) + c["length"] * U
    noise = [c["length"] * n, c["root_b"] * n, c["a"] * n + n - c["kick"] * c["length"] * A @ n]
    return np.vstack([X, c["root_b"] * U, c["a"] * U - c["kick"] * A @ X]), np.vstack(noise)


#: All schemes by the name of `method`; "heavy_ball" and "nesterov" belong to chains and are chosen by their momentum.
SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "euler", "Euler-Maruyama", "overdamped", _euler, _sde_constants, strong="1/2", weak="1", additive="1 / 1",
            source="Kloeden, Platen 1992, ch. 9", affine=_euler_affine, levy=True,
        ),
        Scheme(
            "milstein", "Milstein", "overdamped", _milstein, _sde_constants, noise="commutative", strong="1", weak="1",
            additive="1 / 1", source="Kloeden, Platen 1992, 10.3", affine=_euler_affine,
        ),
        Scheme(
            "heun", "stochastic Heun", "overdamped", _heun, _sde_constants, calculus="Stratonovich", strong="1/2 (1 commutative)",
            weak="1", additive="1 / 2", source="Kloeden, Platen 1992, 15.1; Ruemelin 1982", affine=_heun_affine,
        ),
        Scheme(
            "weak2", "Platen, explicit weak order 2", "overdamped", _platen, _sde_constants, strong="1/2", weak="2",
            additive="1 / 2", source="Kloeden, Platen 1992, (15.1.3)", draws=_platen_draws, affine=_heun_affine,
        ),
        Scheme(
            "sra15", "Roessler SRA1", "overdamped", _sra, _sde_constants, noise="additive", strong="3/2", weak="2",
            additive="3/2 / 2", source="Roessler, SIAM J. Numer. Anal. 48 (2010) 922", draws=lambda s: 2 * s.m,
            affine=_sra_affine,
        ),
        Scheme(
            "tamed", "tamed Euler, for drifts that grow faster than x", "overdamped", _tamed, _sde_constants, strong="1/2",
            weak="1", additive="1 / 1", source="Hutzenthaler, Jentzen, Kloeden, Ann. Appl. Probab. 22 (2012) 1611",
            levy=True,
        ),
        Scheme(
            "baoab", "splitting BAOAB", "underdamped", _baoab, _underdamped_constants, strong="-", weak="2", additive="- / 2",
            source="Leimkuhler, Matthews 2013", copies=2, shown=2, affine=_underdamped_affine("BAOAB"),
        ),
        Scheme(
            "obabo", "splitting OBABO", "underdamped", _obabo, _underdamped_constants, strong="-", weak="2", additive="- / 2",
            source="Bussi, Parrinello 2007", draws=lambda s: 2 * s.m, copies=2, shown=2, affine=_underdamped_affine("OBABO"),
        ),
        Scheme(
            "gjf", "Gronbech-Jensen, Farago, half-step velocity", "underdamped", _gjf, _gjf_constants, strong="-", weak="1",
            additive="- / 2", source="Mol. Phys. 111 (2013) 983; Jensen, Gronbech-Jensen 2019", copies=3, shown=2,
            affine=_gjf_affine,
        ),
        Scheme(
            "heavy_ball", "the chain itself", "chain", _heavy_ball, _chain_constants, strong="exact", weak="exact",
            additive="exact", source="Polyak 1964", copies=2, affine=_heavy_ball_affine,
        ),
        Scheme(
            "nesterov", "the chain itself", "chain", _nesterov, _chain_constants, strong="exact", weak="exact",
            additive="exact", source="Nesterov 1983", copies=2, affine=_nesterov_affine,
        ),
    )
}  # fmt: skip
