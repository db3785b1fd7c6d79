"""What a trajectory is made of: a process or a Gaussian chain, its scheme and step, checked against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import is_finite, numbers
from ._linear import MAX_TRANSFORMED
from ._runner import check_count, starting_points
from ._schedule import ChainConstants, DrivenConstants, ScheduledConstants
from ._schemes import CLASSES, SCHEMES, Scheme, Shape, Step, factor_with_slopes, noise_class, zero_outputs
from ._tensors import LineFactorCode, LowRankFactorCode
from ._walls import Walls, make_walls
from .chains import SGDChain
from .driven import LEVEL, Driven
from .process import Process, Underdamped

__all__ = ["MAX_FUSED_DIM", "Model", "affine_step", "check_start", "initial_states", "make_model", "positive", "step_count"]

Array = NDArray[np.float64]

#: Steps beyond which a run is refused; up to here a number of steps is exact in a float64.
MAX_STEPS = 1 << 53

#: Nonlinear models are unrolled into scalar code up to this dimension.
MAX_FUSED_DIM = 16
#: Linear processes above this dimension use the matrix kernel.
MAX_UNROLLED_LINEAR = 8


@dataclass(frozen=True)
class Model:
    """A process or a Gaussian chain as the kernels see it."""

    process: Process
    scheme: Scheme
    h: float
    settings: Mapping[str, float]
    unit: str
    lr: float | None
    batch: float | None
    label: str = ""
    walls: Walls | None = None
    schedule: SGDChain | None = None  # the chain, where its constants change with the iteration
    driven: Driven | None = None  # the process in time; `process` is that of the first step

    @property
    def method(self) -> str:
        return self.scheme.name if self.unit == "time" else self.label

    @property
    def is_matrix(self) -> bool:
        process = self.process
        if not (process.is_linear and self.scheme.affine is not None and self.walls is None):
            return False
        factor, d = process.unscaled.factor_code, process.dim
        parts = isinstance(factor, LowRankFactorCode) and d > (MAX_FUSED_DIM if factor.rank else MAX_TRANSFORMED)
        return d > MAX_UNROLLED_LINEAR and not parts

    @property
    def is_wide(self) -> bool:
        """Whether the model has too many dimensions to be written out as scalar code, and is no linear step."""
        d = self.process.dim
        return not self.is_matrix and (d > MAX_FUSED_DIM or isinstance(self.process.unscaled.factor_code, LineFactorCode))

    @property
    def variables(self) -> int:
        """Numbers of a state."""
        return self.scheme.copies * self.process.dim

    @property
    def shown(self) -> int:
        """Numbers of a state that enter the results: x, or (x, v)."""
        return self.scheme.shown * self.process.dim

    @property
    def changing(self) -> bool:
        """Whether the constants of the kernels change from step to step."""
        return self.schedule is not None or self.driven is not None

    @property
    def moving(self) -> tuple[str, ...]:
        """Names of the parameters that change from step to step."""
        if self.driven is None:
            return ()
        return (*(self.process.unscaled.params if self.driven.params is not None else ()), *([LEVEL] if self.driven.noise else []))

    @property
    def constants(self) -> dict[str, float]:
        """The constants of the kernels for which the process is unscaled; a number that multiplies the noise is in the root."""
        out = self.scheme.constants(self.h, self.settings)
        if self.process is not self.process.unscaled and self.driven is None:
            out["root"] *= math.sqrt(self.process.params[LEVEL])
        return out

    def step(self, points: Array) -> Step:
        """The scheme with the model's codes, after a look at the noise around the starting points (n, d)."""
        process, scheme, dim = self.process, self.scheme, self.process.dim
        sides = () if self.walls is None else self.walls.sides
        constants = scheme.constants(self.h, self.settings) | ({} if self.walls is None else self.walls.constants)
        if (law := process.noise.stable) is not None:
            shape = Shape(dim, dim if law.isotropic else 0, "stable", stables=1 if law.isotropic else dim, sides=sides)
            return Step(scheme, process.drift_code, process.factor_code, shape, constants)
        kind = noise_class(process, points) if scheme.name in ("milstein", "heun", "weak2", "sra15") else "general"
        if CLASSES.index(kind) > CLASSES.index(scheme.noise):
            fits = "additive noise" if scheme.noise == "additive" else "scalar, diagonal or commutative noise"
            other = "milstein, weak2 or euler" if kind in CLASSES[1:4] else "weak2, heun or euler"
            raise ValueError(f"{scheme.name} needs {fits}, and this B(x) is {kind}; use method {other}")
        drift = process.stratonovich_code if scheme.calculus == "Stratonovich" else process.drift_code
        factor = process.factor_code
        if scheme.name == "milstein" and kind != "additive":
            factor = factor_with_slopes(factor)
        shape = Shape(dim, process.noise_dim, kind, frozenset(zero_outputs(process.unscaled.factor_code)), sides=sides)
        conormal = (
            scheme.equations == "overdamped" and self.unit == "time" and any(_is_coupled(shape, i) for i in range(len(sides)))
        )
        return Step(scheme, drift, factor, shape, constants, conormal, self.changing, self.moving)

    def scheduled(
        self, template: Mapping[str, float], limit: int | None, moving: tuple[str, ...] = ()
    ) -> ScheduledConstants | None:
        """The constants of each step up to `limit`, where they change; `template` has the others."""
        if self.driven is not None:
            return DrivenConstants(self.driven, self.h, template, limit, moving)
        return None if self.schedule is None else ChainConstants(self.schedule, template, limit)

    def check_schedule(self, steps: int) -> None:
        """What moves must be known in the last step: the call fails before any work, and not in the middle."""
        if self.driven is not None:
            self.driven.values((steps - 0.5) * self.h)

    def arguments(self, step: Step) -> tuple[Array, ...]:
        params = self.process.params
        return step.values, step.drift.pack(params), step.factor.pack(params)


def _is_coupled(shape: Shape, i: int) -> bool:
    """Whether axis i has a reflecting wall and its noise goes together with that of another axis: D n is then not along n."""
    together = any(shape.entry("c", i, k) and shape.entry("c", j, k) for k in range(shape.m) for j in range(shape.d) if j != i)
    return "reflecting" in shape.sides[i] and together


def positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: {value!r}")
    if not (is_finite(value) and value > 0.0):
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
    return float(value)


def make_model(process: Any, dt: float | None, method: str | None, walls: Any = None) -> Model:
    """Check the process, its step, the scheme and the walls against each other."""
    kinds = {Process: "overdamped", Driven: "overdamped", Underdamped: "underdamped", SGDChain: "chain"}
    equations = next((word for kind, word in kinds.items() if isinstance(process, kind)), None)
    if equations is None:
        raise TypeError(f"expected a Process, a Driven, an Underdamped or an SGDChain, got {type(process).__name__}")
    fitting = [s.name for s in SCHEMES.values() if s.equations == equations]
    if method is not None and method not in SCHEMES:
        raise ValueError(f"unknown method {method!r}; for this process there are {', '.join(fitting)}: see fpsolve.schemes()")
    if isinstance(process, SGDChain):
        if dt is not None:
            raise ValueError(
                f"dt = {dt!r} was given, but the time of a chain is its iteration count: leave dt out (its step is "
                f"lr = {'scheduled' if process.lr is None else format(process.lr, 'g')}) and give t as a number of iterations"
            )
        if method not in (None, "euler"):
            raise ValueError(f"a chain is its own method and takes no other, got {method!r}; leave method out")
        scheme = SCHEMES["nesterov" if process.nesterov else "heavy_ball" if process.momentum else "euler"]
        assert process.reference is not None
        settings = {"momentum": process.momentum}
        box = make_walls(walls, process.dim)
        lr, batch, changing = process.lr, process.batch, process if process.scheduled else None
        return Model(process.reference, scheme, process.lr_at(0), settings, "iteration", lr, batch, process.label, box, changing)
    if dt is None:
        raise ValueError("dt is missing: give the time step, e.g. dt=0.01, well below the fastest relaxation time of the drift")
    name = method or ("baoab" if equations == "underdamped" else "euler")
    if name not in fitting:
        raise ValueError(
            f"method {name!r} is for {SCHEMES[name].equations} equations, and this process is {equations}; use {', '.join(fitting)}"
        )
    h, box = positive("dt", dt), make_walls(walls, process.dim)
    if isinstance(process, Driven):
        return Model(process.at(0.5 * h), SCHEMES[name], h, {}, "time", None, None, walls=box, driven=process)
    noise = process.noise
    if isinstance(process, Underdamped):
        settings = {"friction": process.friction, "mass": process.mass}
        return Model(process.field, SCHEMES[name], h, settings, "time", noise.lr, noise.batch, walls=box)
    if (law := noise.stable) is None:
        return Model(process, SCHEMES[name], h, {}, "time", noise.lr, noise.batch, walls=box)
    if not SCHEMES[name].levy:
        takes = ", ".join(s.name for s in SCHEMES.values() if s.levy)
        raise ValueError(f"method {name!r} is made for Gaussian noise, and this noise is {noise}; use {takes}")
    return Model(process, SCHEMES[name], h, {"alpha": law.alpha, "scale": law.scale}, "time", None, None, walls=box)


def step_count(t: Any, h: float, unit: str) -> int:
    """Number of steps in t, which must be a whole number of them."""
    if unit == "iteration":
        if (count := check_count("t (iterations)", t)) > MAX_STEPS:
            raise ValueError(f"t = {count} iterations, which no run ends: at most {MAX_STEPS}")
        return count
    total = positive("t", t)
    if total / h > MAX_STEPS:
        raise ValueError(f"t = {total:g} is {total / h:.3g} steps of dt = {h:g}, which no run ends: shorten t or lengthen dt")
    steps = round(total / h)
    if steps < 1 or abs(steps * h - total) > 1e-6 * total:
        other = total / max(1, math.ceil(total / h))
        raise ValueError(f"t = {total:g} is not a multiple of dt = {h:g}; use t = {max(1, steps) * h:.12g} or dt = {other:.12g}")
    return steps


def initial_states(x0: Any, n: int, model: Model, seed: int, first: int = 0) -> Array:
    """Starting states: velocities are zero unless x0 has them; hidden variables start as the velocities."""
    dim, shown, full = model.process.dim, model.shown, model.variables
    shape: tuple[int, ...] = ()
    if not callable(x0):
        shape = numbers("x0", x0, f"an array of shape ({dim},) or ({n}, {dim}), or a sampler (rng, n) -> ({n}, {dim})").shape
    elif shown > dim:
        shape = np.shape(x0(np.random.default_rng(seed), 1))
    given = shown if shown > dim and shape and shape[-1] == shown else dim
    points = starting_points(x0, n, given, seed, first)
    if model.walls is not None:
        model.walls.check(points[:, :dim])
    if given == dim:
        points = np.hstack([points, np.zeros((len(points), max(shown, full) - dim))])
    return np.ascontiguousarray(np.hstack([points, points[:, dim : dim + full - points.shape[1]]]))


def check_start(process: Process, points: Array) -> None:
    """Drift and D must be usable where the trajectories start (some of the points, if there are many)."""
    process.check_diffusion(points[:: max(1, len(points) // 64)])


def affine_step(model: Model) -> tuple[Array, Array, Array]:
    """(M, N, center) of the linear step y' = M y + N z, velocities included."""
    assert model.process.linear is not None and model.scheme.affine is not None
    A, center, _ = model.process.linear
    constants = model.scheme.constants(model.h, model.settings)
    M, N = model.scheme.affine(A, model.process.factor(center), constants)
    return M, N, np.append(center, np.zeros(len(M) - len(center)))
