"""Ensembles of paths: the same scheme, step and ensemble; fewer paths for slow peers, whose larger standard errors are shown.

Models, cases and the C program are those of `bench/speed_of_paths.py`, loops in NumPy those of `bench/reference/paths.py`. Errors
are of a known mean, with the standard error of the ensemble.
"""

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ._case import CannotDo, Peer, Problem, quick, warmed
from ._kept import kept
from .fokker_planck import PASSAGES, hand

GROUP = "paths"
UNIT = "M steps/s"
D, DT, STEPS = 0.2, 1e-3, 2000
EXIT_DT, INERT_DT = 0.01, 0.01
START = (-1.0, 0.0)
DOUBLE = "double precision"


def size() -> int:
    return 2048 if quick() else 10_240


def models() -> Any:
    import speed_of_paths

    return speed_of_paths


def estimate(values: Any, exact: float) -> tuple[float, float]:
    """Relative deviation of the mean from the exact one, and its standard error."""
    v = np.asarray(values, dtype=float).ravel()
    return abs(float(v.mean()) / exact - 1.0), float(v.std(ddof=1)) / float(np.sqrt(v.size)) / abs(exact)


def of_samples(exact: Callable[[], float]) -> Callable[[Any], tuple[float, float]]:
    return lambda values: estimate(values, exact())


# ---- what is known ---------------------------------------------------------------------------------------------------------


def mean_position(diffusion: Callable[[np.ndarray], np.ndarray], name: str, n: int = 8000, box: float = 3.5) -> float:
    """E x at t = 2 of dx = -4 x (x^2 - 1) dt + sqrt(2 D(x)) dW, Ito, from -1: fitted rates for D p, one rational exponential."""

    def make() -> np.ndarray:
        h = 2 * box / n
        x, faces = -box + h * (np.arange(n) + 0.5), -box + h * np.arange(1, n)
        z = -4 * faces * (faces * faces - 1) / diffusion(faces) * h
        z[z == 0.0] = 1e-300
        spread = diffusion(x) / h**2
        up, down = spread[:-1] * z / -np.expm1(-z), spread[1:] * z / np.expm1(z)
        p = np.zeros(n)
        right = np.searchsorted(x, START[0])  # two cells whose mean is the start
        share = (START[0] - x[right - 1]) / h
        p[right - 1], p[right] = 1 - share, share
        return np.array(float(hand().cram(up, down, p, STEPS * DT) @ x))

    return float(kept(f"mean-{name}", make))


def additive_mean() -> float:
    return mean_position(lambda x: D + 0 * x, "additive")


def tensor_mean() -> float:
    return mean_position(lambda x: 0.5 * ((0.6 + 0.1 * x * x) ** 2 + (0.08 * x) ** 2), "tensor")


def chain_trace(steps: int) -> float:
    """Trace of the covariance of the Gaussian chain after `steps` iterations from 0: a sum of powers for each direction."""
    s = models()
    h, q = np.diag(s.HESSIAN), s.LR**2 * np.diag(s.covariance()) / s.BATCH
    a2 = (1 - s.LR * h) ** 2
    return float(np.sum(q * (1 - a2**steps) / (1 - a2)))


# ---- C ---------------------------------------------------------------------------------------------------------------------


def in_c(case: str, n: int, exact: Callable[[], float]) -> Peer:
    """A case of `speed_of_paths.IN_C`, compiled here."""

    def prepare() -> Callable[[], Any]:
        import subprocess

        folder = Path(os.environ.get("FPSOLVE_PEERS_FOLDER") or tempfile.mkdtemp())
        program = models().compiled(folder)
        if program is None:
            raise RuntimeError("no C compiler: neither gcc nor cc is on the path")
        name, _, steps, dt, seed = models().IN_C[case]
        command = [str(program), name, str(n), str(steps), str(dt), str(seed)]
        return lambda: [float(v) for v in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]

    def error(words: Any) -> tuple[float, float]:
        return abs(words[0] / exact() - 1.0), words[3] / float(np.sqrt(n)) / abs(exact())

    return Peer(
        "C, by hand", None, prepare, error, "gcc -O3 -march=native -ffast-math, 256 lanes, libmvec; start of a process included"
    )


def numpy_way(run: Callable[[Any], Any], exact: Callable[[], float], note: str = "", work: float | None = None) -> Peer:
    def prepare() -> Callable[[], Any]:
        from reference import paths

        return functools.partial(run, paths)

    return Peer("NumPy, vectorised", "numpy", prepare, of_samples(exact), note, work)


def ours(case: str, start: Any, dt: float | None, steps: int, n: int, take: Callable[[np.ndarray], Any], exact: Any) -> Peer:
    def prepare() -> Callable[[], Any]:
        import fpsolve as fps

        model, t = getattr(models(), case), steps if dt is None else steps * dt
        process = models().models()[model]
        return warmed(lambda: take(np.asarray(fps.simulate(process, start, t=t, dt=dt, n=n, seed=1, threads=1).final)))

    return Peer("fpsolve", "fpsolve", prepare, of_samples(exact), DOUBLE)


# ---- JAX -------------------------------------------------------------------------------------------------------------------


def diffrax_euler(
    drift: Callable[..., Any], noise: Callable[..., Any], dim: int, dt: float, steps: int, n: int, take: Callable[[Any], Any],
) -> Callable[[], Any]:  # fmt: skip
    import diffrax
    import jax
    import jax.numpy as jnp

    start = jnp.array(START[:dim] if dim <= 2 else np.zeros(dim))

    def one(key: Any) -> Any:
        path = diffrax.UnsafeBrownianPath((dim,), key)
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(noise, path))
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, steps * dt, dt, start, max_steps=None, adjoint=diffrax.ForwardMode()
        ).ys[0]

    return jitted(jax.jit(jax.vmap(one)), n, take)


def jitted(solve: Callable[[Any], Any], n: int, take: Callable[[Any], Any]) -> Callable[[], Any]:
    """A run with keys of its own every time; compiled here."""
    import jax

    keys = iter(range(10**9))

    def run() -> np.ndarray:
        return np.asarray(take(solve(jax.random.split(jax.random.key(next(keys)), n)).block_until_ready()))

    run()
    return run


def jax_md_run(
    make: Callable[[Any], Any], steps: int, n: int, take: Callable[[Any], Any], at_rest: bool = False
) -> Callable[[], Any]:
    """`make(simulate)` returns the pair (init, apply) of jax-md; with inertia paths start at rest."""
    import jax
    import jax.numpy as jnp
    from jax_md import simulate

    init, apply = make(simulate)
    start = jnp.tile(jnp.array(START), (n, 1))
    still = {"momenta": jnp.zeros_like(start)} if at_rest else {}

    @jax.jit
    def solve(key: Any) -> Any:
        state = init(key, start, mass=1.0, **still)
        return jax.lax.fori_loop(0, steps, lambda _, s: apply(s), state).position

    keys = iter(range(10**9))

    def run() -> np.ndarray:
        return np.asarray(take(solve(jax.random.key(next(keys))).block_until_ready()))

    run()
    return run


def force(r: Any) -> Any:
    import jax.numpy as jnp

    x, y = r[..., 0], r[..., 1]
    return jnp.stack([-4 * x * (x * x - 1), -y], axis=-1)


def shift(r: Any, dr: Any, **_: Any) -> Any:
    return r + dr


# ---- torchsde and OpenMM ---------------------------------------------------------------------------------------------------


def torchsde_euler(
    drift: Callable[[Any], Any], noise: Callable[[Any], Any], kind: str, dim: int, dt: float, steps: int, n: int,
    take: Callable[[Any], Any],
) -> Callable[[], Any]:  # fmt: skip
    import torch
    import torchsde

    torch.set_num_threads(1)

    class Model(torch.nn.Module):
        noise_type, sde_type = kind, "ito"

        def f(self, t: Any, y: Any) -> Any:
            return drift(y)

        def g(self, t: Any, y: Any) -> Any:
            return noise(y)

    start = torch.zeros(n, dim, dtype=torch.float64)
    if dim <= 2:
        start[:] = torch.tensor(START[:dim], dtype=torch.float64)
    ends = torch.tensor([0.0, steps * dt], dtype=torch.float64)

    def run() -> np.ndarray:
        with torch.no_grad():
            return np.asarray(take(torchsde.sdeint(Model(), start, ends, dt=dt, method="euler")[-1].numpy()))

    return run


def openmm_run(integrator: str, dt: float, steps: int, n: int, take: Callable[[Any], Any]) -> Callable[[], Any]:
    """Particles of mass 1 u at k T = 0.2 kJ/mol, friction 1/ps: the units of the problem are nm and ps."""
    import openmm

    system = openmm.System()
    well = openmm.CustomExternalForce("(x^2 - 1)^2 + y^2/2 + z^2/2")
    for i in range(n):
        system.addParticle(1.0)
        well.addParticle(i, [])
    system.addForce(well)
    moves = getattr(openmm, integrator)(D / 0.00831446261815324, 1.0, dt)
    context = openmm.Context(system, moves, openmm.Platform.getPlatformByName("Reference"))
    start = [openmm.Vec3(*START, 0.0)] * n

    def run() -> np.ndarray:
        context.setPositions(start)
        context.setVelocities([openmm.Vec3(0.0, 0.0, 0.0)] * n)
        moves.step(steps)
        return np.asarray(take(context.getState(positions=True).getPositions(asNumpy=True)._value))

    return run


# ---- the problems ----------------------------------------------------------------------------------------------------------

MOLECULAR = "one temperature for all particles: no state-dependent or correlated noise"
NO_EXIT = "runs a fixed number of steps: no first passages"


def first(r: Any) -> Any:
    return r[:, 0]


def additive() -> Problem:
    n = size()
    slow = 1024 if quick() else 4096
    spread = float(np.sqrt(2 * D))

    def torch_drift(r: Any) -> Any:
        import torch

        x, y = r[:, 0], r[:, 1]
        return torch.stack([-4 * x * (x * x - 1), -y], dim=1)

    def torch_noise(r: Any) -> Any:
        import torch

        return torch.full_like(r, spread)

    def jax_noise(t: Any, r: Any, args: Any) -> Any:
        import jax.numpy as jnp

        return spread * jnp.eye(2)

    def diffrax_way() -> Callable[[], Any]:
        return diffrax_euler(lambda t, r, args: force(r), jax_noise, 2, DT, STEPS, n, first)

    def torch_way() -> Callable[[], Any]:
        return torchsde_euler(torch_drift, torch_noise, "diagonal", 2, DT, STEPS, slow, first)

    error = of_samples(additive_mean)
    return Problem(
        GROUP, "additive noise in a plane",
        f"U = (x^2 - 1)^2 + y^2/2, D = 0.2, from (-1, 0): {n} paths, {STEPS} Euler steps of {DT:g}; error of the mean of x.",
        UNIT, float(n * STEPS), ours("ONE", START, DT, STEPS, n, first, additive_mean),
        (
            in_c("2-D, additive noise", n, additive_mean),
            numpy_way(lambda paths: paths.additive(n, STEPS, DT, 1)[0], additive_mean),
            Peer("jax-md, brownian", "jax-md", lambda: jax_md_run(lambda s: s.brownian(force, shift, DT, D, 1.0), STEPS, n, first),
                 error, DOUBLE),
            Peer("diffrax, Euler", "diffrax", diffrax_way, error, "UnsafeBrownianPath, vmap over paths, " + DOUBLE),
            Peer("OpenMM, BrownianIntegrator", "openmm", lambda: openmm_run("BrownianIntegrator", DT, STEPS, n, first), error,
                 "a third coordinate cannot be left out; Reference platform, " + DOUBLE),
            Peer("torchsde, euler", "torchsde", torch_way, error, f"{slow} paths, {DOUBLE}", float(slow * STEPS)),
        ),
        "the density of x on 8000 cells by a rational exponential",
    )  # fmt: skip


def tensor() -> Problem:
    n = size()
    slow = 512 if quick() else 1024

    def jax_noise(t: Any, r: Any, args: Any) -> Any:
        import jax.numpy as jnp

        x, y = r
        return jnp.array([[0.6 + 0.1 * x * x, 0.08 * x], [0.08 * x, 0.4 + 0.1 * y * y]])

    def torch_drift(r: Any) -> Any:
        import torch

        x, y = r[:, 0], r[:, 1]
        return torch.stack([-4 * x * (x * x - 1), -y], dim=1)

    def torch_noise(r: Any) -> Any:
        import torch

        x, y = r[:, 0], r[:, 1]
        rows = [torch.stack([0.6 + 0.1 * x * x, 0.08 * x], dim=1), torch.stack([0.08 * x, 0.4 + 0.1 * y * y], dim=1)]
        return torch.stack(rows, dim=1)

    error = of_samples(tensor_mean)
    return Problem(
        GROUP, "a full factor B(x, y) in a plane",
        "The same landscape, dx = -grad U dt + B dW (Ito), B = [[0.6 + 0.1 x^2, 0.08 x], [0.08 x, 0.4 + 0.1 y^2]]: "
        f"{n} paths, {STEPS} Euler steps of {DT:g}; error of the mean of x.",
        UNIT, float(n * STEPS), ours("TENSOR", START, DT, STEPS, n, first, tensor_mean),
        (
            in_c("2-D, full B(x)", n, tensor_mean),
            numpy_way(lambda paths: paths.tensor(n, STEPS, DT, 1)[0], tensor_mean),
            Peer("diffrax, Euler", "diffrax", lambda: diffrax_euler(
                lambda t, r, args: force(r), jax_noise, 2, DT, STEPS, n, first), error, "UnsafeBrownianPath, vmap, " + DOUBLE),
            Peer("torchsde, euler", "torchsde", lambda: torchsde_euler(
                torch_drift, torch_noise, "general", 2, DT, STEPS, slow, first), error, f"{slow} paths", float(slow * STEPS)),
            CannotDo("jax-md", "jax-md", MOLECULAR),
            CannotDo("OpenMM", "openmm", MOLECULAR),
        ),
        "the density of x, whose law is its own, on 8000 cells by a rational exponential",
    )  # fmt: skip


def escape() -> Problem:
    n, events = (2000, 100) if quick() else (10_000, 500)
    mean = PASSAGES[D]
    error = of_samples(lambda: mean)

    def steps(paths: int) -> float:
        return paths * mean / EXIT_DT

    def our_way() -> Callable[[], Any]:
        import fpsolve as fps

        process, region = models().models()[models().EXITS], fps.Region.halfspace([1.0], 1.0)
        return warmed(lambda: fps.escape_times(process, START[:1], region, n=n, dt=EXIT_DT, seed=1, threads=1).times)

    def kramers_way() -> Callable[[], Any]:
        from kramers.solvers.simulate import first_passage_times

        return lambda: first_passage_times(
            lambda x: -4 * x * (x * x - 1), D, -1.0, n_paths=n, dt=EXIT_DT, t_max=1e5, absorbing=(None, 1.0)
        ).times  # fmt: skip

    def diffrax_way() -> Callable[[], Any]:
        import diffrax
        import jax
        import jax.numpy as jnp

        def one(key: Any) -> Any:
            path = diffrax.UnsafeBrownianPath((), key)
            noise = diffrax.ControlTerm(lambda t, x, args: jnp.sqrt(2 * D), path)
            terms = diffrax.MultiTerm(diffrax.ODETerm(lambda t, x, args: -4 * x * (x * x - 1)), noise)
            stop = diffrax.Event(lambda t, x, args, **_: x >= 1.0)
            return diffrax.diffeqsolve(
                terms, diffrax.Euler(), 0.0, jnp.inf, EXIT_DT, jnp.array(-1.0), event=stop, max_steps=None,
                adjoint=diffrax.ForwardMode(),
            ).ts[0]  # fmt: skip

        return jitted(jax.jit(jax.vmap(one)), events, np.asarray)

    return Problem(
        GROUP, "escape from a double well",
        f"U = (x^2 - 1)^2, D = 0.2: mean time from -1 to 1 of {n} paths, Euler steps of {EXIT_DT:g}; steps before exits count.",
        UNIT, steps(n), Peer("fpsolve", "fpsolve", our_way, error, "Brownian bridge; lanes are refilled"),
        (
            in_c("1-D escape with bridge, useful steps", n, lambda: mean),
            numpy_way(lambda paths: paths.escape(n, EXIT_DT, 1), lambda: mean, "Brownian bridge; arrays shrink"),
            Peer("kramers, first_passage_times", "kramers", kramers_way, error, "Brownian bridge; arrays shrink"),
            Peer("diffrax, Euler with Event", "diffrax", diffrax_way, error,
                 f"no test between steps: exits are late; waits for the last path; {events} paths", steps(events)),
            CannotDo("jax-md", "jax-md", NO_EXIT),
            CannotDo("torchsde", "torchsde", NO_EXIT),
            CannotDo("OpenMM", "openmm", NO_EXIT),
        ),
        "nested quadrature of the closed form in 25 digits",
    )  # fmt: skip


def wide() -> Problem:
    n, steps = (1024, 400) if quick() else (4096, 400)
    slow, dim = 128 if quick() else 256, 50
    trace = functools.partial(chain_trace, steps)
    error = of_samples(trace)

    def squares(x: Any) -> Any:
        return (np.asarray(x) ** 2).sum(axis=1)

    def numbers() -> tuple[np.ndarray, np.ndarray, float]:
        s = models()
        return np.diag(s.HESSIAN), np.sqrt(s.LR) * np.linalg.cholesky(s.covariance() / s.BATCH), s.LR

    def diffrax_way() -> Callable[[], Any]:
        import jax.numpy as jnp

        h, B, lr = numbers()
        H, factor = jnp.array(h), jnp.array(B)
        return diffrax_euler(lambda t, r, args: -H * r, lambda t, r, args: factor, dim, lr, steps, n, squares)

    def torch_way() -> Callable[[], Any]:
        import torch

        h, B, lr = numbers()
        H, factor = torch.tensor(h), torch.tensor(B).expand(slow, dim, dim)
        return torchsde_euler(lambda r: -H * r, lambda r: factor, "general", dim, lr, steps, slow, squares)

    def numpy_steps(paths: Any) -> Any:
        s = models()
        return squares(paths.chain(s.HESSIAN, s.covariance(), s.LR, s.BATCH, n, steps, 1))

    return Problem(
        GROUP, "50 dimensions, dense covariance",
        f"SGD in a quadratic loss, Gaussian noise of a dense covariance, d = 50, lr 0.05, batch 10, from 0: {n} paths, "
        f"{steps} steps; error of the mean of |x|^2.",
        UNIT, float(n * steps), ours("WIDE", np.zeros(dim), None, steps, n, squares, trace),
        (
            numpy_way(numpy_steps, trace, "two BLAS products per step"),
            Peer("diffrax, Euler", "diffrax", diffrax_way, error, "UnsafeBrownianPath, vmap, " + DOUBLE),
            Peer("torchsde, euler", "torchsde", torch_way, error, f"{slow} paths, {DOUBLE}", float(slow * steps)),
            CannotDo("C, by hand", None, "bench/reference/paths.c has no dense case: it would be a matrix product of BLAS"),
            CannotDo("jax-md", "jax-md", MOLECULAR),
            CannotDo("OpenMM", "openmm", MOLECULAR),
        ),
        "closed form of the linear chain",
    )  # fmt: skip


def underdamped() -> Problem:
    n, steps = size(), 2000
    error = of_samples(lambda: D)

    def square(r: Any) -> Any:
        return np.asarray(r)[:, 1] ** 2

    def diffrax_way() -> Callable[[], Any]:
        import diffrax
        import jax
        import jax.numpy as jnp

        def one(key: Any) -> Any:
            path = diffrax.UnsafeBrownianPath((2,), key, diffrax.SpaceTimeLevyArea)
            drift = diffrax.UnderdampedLangevinDriftTerm(1.0, D, lambda r, args: -force(r) / D)
            terms = diffrax.MultiTerm(drift, diffrax.UnderdampedLangevinDiffusionTerm(1.0, D, path))
            start = (jnp.array(START), jnp.zeros(2))
            return diffrax.diffeqsolve(
                terms, diffrax.ALIGN(0.01), 0.0, steps * INERT_DT, INERT_DT, start, max_steps=None, adjoint=diffrax.ForwardMode()
            ).ys[0][0]  # fmt: skip

        return jitted(jax.jit(jax.vmap(one)), n, square)

    return Problem(
        GROUP, "motion with inertia in a plane",
        f"The same landscape, friction 1, temperature 0.2, from rest at (-1, 0): {n} paths, {steps} steps of {INERT_DT:g}, BAOAB "
        "or the package's own splitting of order two; error of the mean of y^2.",
        UNIT, float(n * steps), ours("BAOAB", START, INERT_DT, steps, n, square, lambda: D),
        (
            in_c("2-D BAOAB", n, lambda: D),
            numpy_way(lambda paths: paths.baoab(n, steps, INERT_DT, 1)[1] ** 2, lambda: D),
            Peer("jax-md, nvt_langevin", "jax-md", lambda: jax_md_run(
                lambda s: s.nvt_langevin(force, shift, INERT_DT, D, 1.0), steps, n, square, True), error, "BAOAB, " + DOUBLE),
            Peer("OpenMM, LangevinMiddleIntegrator", "openmm", lambda: openmm_run(
                "LangevinMiddleIntegrator", INERT_DT, steps, n, square), error, "three coordinates; Reference platform, " + DOUBLE),
            Peer("diffrax, ALIGN", "diffrax", diffrax_way, error, "UnsafeBrownianPath, vmap, " + DOUBLE),
            CannotDo("torchsde", "torchsde", "no splitting for motion with inertia: Euler with a full matrix of noise alone"),
        ),
        "equipartition: the mean of y^2 is the temperature",
    )  # fmt: skip


def problems() -> list[Problem]:
    return [additive(), tensor(), escape(), wide(), underdamped()]
