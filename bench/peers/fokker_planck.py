"""Densities and mean first-passage times. Problems, references and ways by hand are those of `bench/speed_of_fokker_planck.py`."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._case import CannotDo, Peer, Problem, quick, warmed
from ._kept import kept

GROUP = "Fokker-Planck"


def hand() -> Any:
    """The other benchmark: it takes SciPy and Numba, which no list of problems needs."""
    import speed_of_fokker_planck

    return speed_of_fokker_planck


def by_hand(name: str, package: str, run: Callable[[Any], Any], error: Callable[[Any], float], note: str = "") -> Peer:
    """A way that the other benchmark has."""
    return Peer(name, package, lambda: warmed(functools.partial(run, hand())), error, note)


def l1(exact: Callable[[], np.ndarray]) -> Callable[[Any], float]:
    """L1 distance to the exact density, both normalised to one."""

    def error(answer: Any) -> float:
        p, right = np.asarray(getattr(answer, "values", answer)), exact()
        return float(np.abs(p / p.sum() - right / right.sum()).sum())

    return error


def fplanck_model(box: float, n: int, potential: Callable[..., np.ndarray], D: float, dim: int = 1) -> Any:
    """Temperature in kelvin and drag one, so that k T is D; the version on the index asks NumPy for a name that 2.0 has dropped."""
    if not hasattr(np, "product"):
        vars(np)["product"] = np.prod
    import fplanck
    from scipy import constants

    width = 2 * box / n
    return fplanck.fokker_planck(
        temperature=D / constants.k, drag=1.0, extent=dim * [2 * box - 1e-9], resolution=width, potential=potential
    )


# ---- a line ----------------------------------------------------------------------------------------------------------------

CELLS = 1000
WELL_D, WELL_BOX, WELL_START, WELL_WIDTH, WELL_TIME = 0.1, 2.5, 0.3, 0.05, 10.0


def well(x: Any) -> Any:
    return (x * x - 1) ** 2


def centres(box: float, n: int) -> np.ndarray:
    return np.asarray(-box + 2 * box / n * (np.arange(n) + 0.5))


def line() -> np.ndarray:
    def make() -> np.ndarray:
        p = hand().extrapolated(hand().one_shot, 16_000)
        while p.size > CELLS:
            p = hand().on_coarser(p)
        return np.asarray(p)

    return kept("line", make)


def start_on_line(x: np.ndarray) -> np.ndarray:
    p = np.exp(-((x - WELL_START) ** 2) / (2 * WELL_WIDTH**2))
    return np.asarray(p / (p.sum() * (2 * WELL_BOX / x.size)))


def py_pde_line() -> Callable[[], Any]:
    import pde

    grid = pde.CartesianGrid([[-WELL_BOX, WELL_BOX]], CELLS)
    x = grid.axes_coords[0]
    slope = pde.VectorField(grid, [4 * x * (x * x - 1)])
    equation = pde.PDE(
        {"p": f"divergence(a * p + {WELL_D} * gradient(p))"}, consts={"a": slope},
        bc_ops={"p:divergence": {"normal_value": 0}, "p:gradient": {"derivative": 0}},
    )  # fmt: skip
    start = pde.ScalarField(grid, start_on_line(x))
    solver = pde.EulerSolver(equation, adaptive=False)
    step = solver.make_stepper(start, dt=5e-5)  # compiled here, once

    def run() -> np.ndarray:
        state = start.copy()
        step(state, 0.0, WELL_TIME)
        return np.asarray(state.data)

    return run


def fipy_line() -> Callable[[], Any]:
    import fipy
    from fipy.solvers.scipy import LinearLUSolver

    mesh = fipy.Grid1D(nx=CELLS, dx=2 * WELL_BOX / CELLS) + ((-WELL_BOX,),)
    x = mesh.faceCenters[0].value
    drift = np.where(mesh.exteriorFaces.value, 0.0, -4 * x * (x * x - 1))  # no flux through the walls
    start = start_on_line(mesh.cellCenters[0].value)
    # The default tolerance takes the last step for the solution.
    solver = LinearLUSolver(tolerance=1e-14)

    def run() -> np.ndarray:
        p = fipy.CellVariable(mesh=mesh, value=start)
        flow = fipy.FaceVariable(mesh=mesh, rank=1, value=drift[None])
        equation = fipy.TransientTerm() + fipy.ExponentialConvectionTerm(coeff=flow) == fipy.DiffusionTerm(coeff=WELL_D)
        for _ in range(200):
            equation.solve(var=p, dt=WELL_TIME / 200, solver=solver)
        return np.asarray(p.value)

    return run


def fplanck_line() -> Callable[[], Any]:
    fplanck_model(WELL_BOX, 8, well, WELL_D)
    return lambda: fplanck_model(WELL_BOX, CELLS, well, WELL_D).propagate(start_on_line, WELL_TIME)


def kramers_line() -> Callable[[], Any]:
    from kramers.solvers.fokker_planck import solve

    def run() -> np.ndarray:
        out = solve(
            lambda x: -4 * x * (x * x - 1), WELL_D, (-WELL_BOX, WELL_BOX), left="reflecting", right="reflecting", t_end=WELL_TIME,
            p0=start_on_line, n_cells=CELLS, dt=0.1, richardson=False, n_snapshots=2,
        )  # fmt: skip
        return np.asarray(out.density[-1])

    return run


def on_a_line() -> Problem:
    error = l1(line)
    ours = by_hand("fpsolve", "fpsolve", lambda s: s.well(CELLS).evolve(
        ("gaussian", [WELL_START], [[WELL_WIDTH**2]]), WELL_TIME, rtol=1e-3), error, "generator, then one exponential")  # fmt: skip
    return Problem(
        GROUP, "double well on a line, to t = 10",
        "U = (x^2 - 1)^2, D = 0.1, from a Gaussian at 0.3 of width 0.05, 1000 cells of [-2.5, 2.5], reflecting; assembly included.",
        "ms", None, ours,
        (
            by_hand("SciPy, CRAM-14", "scipy", lambda s: s.one_shot(CELLS), error, "fitted rates, seven complex systems"),
            by_hand("SciPy, TR-BDF2", "scipy", lambda s: s.tr_bdf2_line(CELLS, 1e-3), error, "the same rates, adaptive steps"),
            Peer("kramers", "kramers", kramers_line, error, "Scharfetter-Gummel, TR-BDF2 with steps of 0.1"),
            Peer("FiPy, exponential term", "fipy", fipy_line, error, "backward Euler, 200 steps, LU with tolerance 1e-14"),
            Peer("fplanck", "fplanck", fplanck_line, error, "expm_multiply of its matrix; numpy.product put back"),
            Peer("py-pde, divergence form", "py-pde", py_pde_line, error, "Euler, steps of 5e-5: twice that is unstable"),
        ),
        "rational exponentials on 16 000 and 32 000 cells, extrapolated",
    )  # fmt: skip


def stationary_line() -> Problem:
    def exact() -> np.ndarray:
        return np.asarray(np.exp(-well(centres(WELL_BOX, CELLS)) / WELL_D))

    error = l1(exact)

    def scipy_way(s: Any) -> np.ndarray:
        import scipy.sparse as sp
        from scipy.sparse.linalg import spsolve

        _, up, down = s.fitted_rates(well, WELL_D, WELL_BOX, CELLS)
        G = sp.diags([up, -(np.append(up, 0) + np.append(0, down)), down], [-1, 0, 1]).tolil()
        G[CELLS // 2] = 1.0
        right = np.zeros(CELLS)
        right[CELLS // 2] = 1.0
        return np.asarray(spsolve(G.tocsc(), right))

    def fipy_way() -> Callable[[], Any]:
        import fipy
        from fipy.solvers.scipy import LinearLUSolver

        mesh = fipy.Grid1D(nx=CELLS, dx=2 * WELL_BOX / CELLS) + ((-WELL_BOX,),)
        x = mesh.faceCenters[0].value
        drift = np.where(mesh.exteriorFaces.value, 0.0, -4 * x * (x * x - 1))

        def run() -> np.ndarray:
            p = fipy.CellVariable(mesh=mesh, value=1.0)
            flow = fipy.FaceVariable(mesh=mesh, rank=1, value=drift[None])
            equation = fipy.TransientTerm() + fipy.ExponentialConvectionTerm(coeff=flow) == fipy.DiffusionTerm(coeff=WELL_D)
            for _ in range(3):
                equation.solve(var=p, dt=1e12, solver=LinearLUSolver(tolerance=1e-14))
            return np.asarray(p.value)

        return run

    def fplanck_way() -> Callable[[], Any]:
        fplanck_model(WELL_BOX, 8, well, WELL_D)
        return lambda: fplanck_model(WELL_BOX, CELLS, well, WELL_D).steady_state()

    ours = by_hand("fpsolve", "fpsolve", lambda s: s.well(CELLS).stationary(), error, "elimination without subtractions")
    return Problem(
        GROUP, "stationary density on a line",
        "U = (x^2 - 1)^2, D = 0.1, 1000 cells of [-2.5, 2.5], reflecting; assembly included.",
        "ms", None, ours,
        (
            by_hand("SciPy, spsolve", "scipy", scipy_way, error, "the Scharfetter-Gummel matrix, one row replaced by the mass"),
            Peer("fplanck", "fplanck", fplanck_way, error, "eigs; numpy.product put back"),
            Peer("FiPy, exponential term", "fipy", fipy_way, error, "three steps of 1e12, LU with tolerance 1e-14"),
            CannotDo("py-pde", "py-pde", "only by marching: it solves Laplace's and Poisson's equations alone"),
            CannotDo("kramers", "kramers", "answers passages, not stationary densities"),
        ),
        "exp(-U/D)",
    )  # fmt: skip


# ---- mean first-passage times ----------------------------------------------------------------------------------------------

#: From -1 to 1 with a reflecting wall at -2.5: (1/D) int_{-1}^1 exp(U(y)/D) int_{-2.5}^y exp(-U(z)/D) dz dy, by nested quadrature
#: in 25 digits (mpmath); tests/test_peers.py has them again by another rule.
PASSAGES = {
    0.2: 182.41767298558065, 0.1: 25527.091364292445, 0.05: 549661100.35207161, 0.02: 5.8030217143280012e21,
}  # fmt: skip
LEFT, START, TARGET, PASSAGE_CELLS = -2.5, -1.0, 1.0, 1400


def relative(exact: float) -> Callable[[Any], float]:
    return lambda answer: abs(float(answer) - exact) / exact


def fitted_passage(D: float, n: int = PASSAGE_CELLS) -> tuple[Any, np.ndarray]:
    """Matrix of the fitted rates with an absorbing end, a sparse one, and the centres."""
    import scipy.sparse as sp

    h = (TARGET - LEFT) / n
    x = LEFT + h * (np.arange(n) + 0.5)
    z = np.diff(well(x)) / D
    z[z == 0.0] = 1e-300
    up, down = (D / h**2) * z / np.expm1(z), (D / h**2) * z / -np.expm1(-z)
    end = (well(TARGET) - well(x[-1])) / D
    leave = (2 * D / h**2) * end / math.expm1(end)
    return sp.diags([down, -(np.append(up, leave) + np.append(0, down)), up], [-1, 0, 1]).tocsc(), x


def passage(D: float) -> Problem:
    exact = PASSAGES[D]
    error = relative(exact)

    def grid_way() -> Callable[[], Any]:
        import fpsolve as fps

        process, region = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(D)), fps.Region.halfspace([1.0], TARGET)
        grid = fps.Grid((LEFT, TARGET, PASSAGE_CELLS))
        return warmed(lambda: fps.FokkerPlanck(process, grid).mean_exit_time(region).at([START]))

    def theory_way() -> Callable[[], Any]:
        import fpsolve as fps

        process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(D))
        return warmed(lambda: fps.theory.mean_first_passage_1d(process, START, TARGET, reflecting=LEFT).value)

    def kramers_way() -> Callable[[], Any]:
        from kramers.solvers.quadrature import FirstPassage1D

        return lambda: FirstPassage1D(
            lambda x: well(x) / D, D=D, domain=(LEFT, TARGET), left="reflecting", right="absorbing"
        ).mean_time(START).value  # fmt: skip

    def quad_way() -> Callable[[], Any]:
        from scipy.integrate import quad

        def inner(y: float) -> float:
            return float(quad(lambda z: math.exp(-well(z) / D), LEFT, y, epsabs=0.0, epsrel=1e-12, limit=200)[0])

        return lambda: quad(lambda y: math.exp(well(y) / D) * inner(y), START, TARGET, epsabs=0.0, epsrel=1e-11, limit=200)[0] / D

    def lu_way() -> Callable[[], Any]:
        from scipy.sparse.linalg import splu

        def run() -> float:
            Q, x = fitted_passage(D)
            return float(np.interp(START, x, splu(Q).solve(-np.ones(x.size))))

        return run

    def fipy_way() -> Callable[[], Any]:
        import fipy
        from fipy.solvers.scipy import LinearLUSolver

        mesh = fipy.Grid1D(nx=PASSAGE_CELLS, dx=(TARGET - LEFT) / PASSAGE_CELLS) + ((LEFT,),)
        x, faces = mesh.cellCenters[0].value, mesh.faceCenters[0].value

        def run() -> float:
            T = fipy.CellVariable(mesh=mesh, value=0.0)
            T.constrain(0.0, mesh.facesRight)
            weight = fipy.FaceVariable(mesh=mesh, value=D * np.exp(-well(faces) / D))
            source = fipy.CellVariable(mesh=mesh, value=np.exp(-well(x) / D))
            (fipy.DiffusionTerm(coeff=weight) + source).solve(var=T, solver=LinearLUSolver(tolerance=1e-14))
            return float(np.interp(START, x, T.value))

        return run

    def fplanck_way() -> Callable[[], Any]:
        from scipy.sparse.linalg import eigs

        fplanck_model(WELL_BOX, 8, well, D)

        def run() -> float:
            matrix = fplanck_model(WELL_BOX, CELLS, well, D).master_matrix
            values = np.sort(np.abs(eigs(matrix, k=2, sigma=0, which="LM", return_eigenvectors=False).real))
            return float(2 / values[1])

        return run

    return Problem(
        GROUP, f"mean first-passage time, D = {D:g}",
        f"U = (x^2 - 1)^2, D = {D:g}: mean time from -1 to 1, wall at -2.5 (T = {exact:.6g}); {PASSAGE_CELLS} cells.",
        "ms", None,
        Peer("fpsolve, grid", "fpsolve", grid_way, error, "every start at once; elimination without subtractions"),
        (
            Peer("fpsolve, quadrature", "fpsolve", theory_way, error, "theory.mean_first_passage_1d"),
            Peer("kramers", "kramers", kramers_way, error, "quadrature in logarithms, 1-D"),
            Peer("SciPy, quad of quad", "scipy", quad_way, error, "1-D"),
            Peer("SciPy, sparse LU", "scipy", lu_way, error, "the Scharfetter-Gummel matrix; loses all digits without a word"),
            Peer("FiPy, symmetric form", "fipy", fipy_way, error, "adjoint equation written by the user, U at exact faces"),
            Peer("fplanck, eigs of its matrix", "fplanck", fplanck_way, error, "2 / lambda_1, an approximation for high barriers"),
            CannotDo("py-pde", "py-pde", "no solver of the adjoint equation: Laplace's and Poisson's alone"),
        ),
        "nested quadrature of the closed form in 25 digits",
    )  # fmt: skip


# ---- a plane ---------------------------------------------------------------------------------------------------------------

BOX, CENTRE, WIDTH = 2.0, (0.5, 0.8), 0.2
NOT_FULL = "diffusion is diagonal: no tensor with off-diagonal entries"


def plane(n: int) -> np.ndarray:
    """From as many and twice as many cells; for 256^2 cells in a full run from the finer pair."""
    if quick() or n > 256:
        return kept(f"plane-{n}", lambda: hand().extrapolated(lambda m: hand().chebyshev(m, 200), n))
    return np.asarray(hand().on_coarser(plane(2 * n)))


def py_pde_plane(n: int) -> Callable[[], Any]:
    import pde

    grid = pde.CartesianGrid([[-BOX, BOX], [-BOX, BOX]], n)
    x, y = grid.axes_coords
    bx, by, a, b, c = hand().fields(x[:, None], y[None, :])
    h = 2 * BOX / n
    # div(D p) by differences of the entries, in the package's own divergence of D grad p + (div D - drift) p
    slopes = [np.gradient(v, h, h, edge_order=2) for v in (a, b, c)]
    velocity = pde.VectorField(grid, [slopes[0][0] + slopes[1][1] - bx, slopes[1][0] + slopes[2][1] - by])
    tensor = pde.Tensor2Field(grid, [[a, b], [b, c]])
    equation = pde.PDE(
        {"p": "divergence(a * p + dot(D, gradient(p)))"}, consts={"a": velocity, "D": tensor},
        bc_ops={"p:divergence": {"normal_value": 0}, "p:gradient": {"derivative": 0}},
    )  # fmt: skip
    start = pde.ScalarField(grid, hand().start(n))
    solver = pde.EulerSolver(equation, adaptive=False)
    # What Euler bears: some h^2 / D for differences over two cells, and 2 D / v^2 for central ones of the drift.
    largest = min(0.8 * h * h / float(a.max() + c.max()), 7e-4)
    step = solver.make_stepper(start, dt=1.0 / math.ceil(1.0 / largest))

    def run() -> np.ndarray:
        state = start.copy()
        step(state, 0.0, 1.0)
        return np.asarray(state.data)

    return run


def fipy_plane(n: int, steps: int) -> Callable[[], Any]:
    import fipy
    from fipy.solvers.scipy import LinearBicgstabSolver

    h = 2 * BOX / n
    mesh = fipy.Grid2D(nx=n, ny=n, dx=h, dy=h) + ((-BOX,), (-BOX,))
    x, y = (np.asarray(v) for v in mesh.faceCenters.value)
    bx, by, a, b, c = hand().fields(x, y)
    e = 1e-5
    dx = [(u - v) / (2 * e) for u, v in zip(hand().fields(x + e, y)[2:], hand().fields(x - e, y)[2:], strict=True)]
    dy = [(u - v) / (2 * e) for u, v in zip(hand().fields(x, y + e)[2:], hand().fields(x, y - e)[2:], strict=True)]
    inside = ~mesh.exteriorFaces.value
    drift = np.array([bx - dx[0] - dy[1], by - dx[1] - dy[2]]) * inside
    tensor = np.array([[a, b], [b, c]]) * inside
    start = hand().start(n).ravel(order="F")

    def run() -> np.ndarray:
        p = fipy.CellVariable(mesh=mesh, value=start)
        flow = fipy.FaceVariable(mesh=mesh, rank=1, value=drift)
        spread = fipy.FaceVariable(mesh=mesh, rank=2, value=tensor)
        equation = fipy.TransientTerm() + fipy.ExponentialConvectionTerm(coeff=flow) == fipy.DiffusionTerm(coeff=[spread])
        solver = LinearBicgstabSolver(tolerance=1e-8)
        for _ in range(steps):
            equation.solve(var=p, dt=1.0 / steps, solver=solver)
        return np.asarray(p.value).reshape((n, n), order="F")

    return run


def on_a_plane(n: int) -> Problem:
    error = l1(functools.partial(plane, n))
    # It compiles for a minute per equation: not for a quick run.
    py_pde = Peer("py-pde, divergence form", "py-pde", functools.partial(py_pde_plane, n), error, "Euler; compiles anew")
    ours = by_hand("fpsolve", "fpsolve", lambda s: s.valley(n).evolve(
        ("gaussian", list(CENTRE), WIDTH**2 * np.eye(2)), 1.0, rtol=1e-3), error, "nonnegative rates for any tensor")  # fmt: skip
    return Problem(
        GROUP, f"anisotropic valley, {n}^2 cells, to t = 1",
        "Full tensor D(x, y) of Ito noise in a valley: drift -grad(0.5 lam(y) x^2), lam = 1 + 3 exp(-2 y^2), D_xx = 0.05 lam, "
        "D_yy = 0.02 + 0.01 x^2, D_xy = 0.3 sqrt(D_xx D_yy), [-2, 2]^2 reflecting, from a Gaussian at (0.5, 0.8) of width 0.2.",
        "ms", None, ours,
        (
            by_hand("SciPy, splu Crank-Nicolson", "scipy", lambda s: s.crank_nicolson(n, 40), error, "nine points, 40 steps"),
            by_hand("Numba, Runge-Kutta-Chebyshev", "numba", lambda s: s.chebyshev(n, 100), error, "nine points, 100 steps"),
            *(() if quick() else (py_pde,)),
            Peer("FiPy, tensor term", "fipy", functools.partial(fipy_plane, n, 20), error, "20 steps; first order"),
            CannotDo("fplanck", "fplanck", NOT_FULL),
            CannotDo("kramers", "kramers", "one dimension only"),
        ),
        "Runge-Kutta-Chebyshev, extrapolated from " + ("as many and twice as many cells" if quick() else "512^2 and 1024^2 cells"),
    )  # fmt: skip


def stationary_plane(n: int) -> Problem:
    error = l1(lambda: kept(f"stationary-{n}", lambda: hand().extrapolated(hand().pinned, n)))
    ours = by_hand("fpsolve", "fpsolve", lambda s: s.valley(n).stationary(), error, "sparse elimination without subtractions")
    marching = "only by marching in time: no steady solver for this equation"
    return Problem(
        GROUP, f"stationary density of the valley, {n}^2 cells", "The anisotropic valley with its full tensor; assembly included.",
        "ms", None, ours,
        (
            by_hand("SciPy, splu", "scipy", lambda s: s.pinned(n), error, "one equation left out; fails at high barriers"),
            CannotDo("py-pde", "py-pde", marching),
            CannotDo("FiPy", "fipy", marching + "; its cross terms lag by a sweep"),
            CannotDo("fplanck", "fplanck", NOT_FULL),
            CannotDo("kramers", "kramers", "one dimension only"),
        ),
        "the same differences with splu on as many and twice as many cells, extrapolated",
    )  # fmt: skip


# ---- space -----------------------------------------------------------------------------------------------------------------


def expm_in_space(n: int) -> Callable[[], Any]:
    import scipy.sparse as sp
    from scipy.sparse.linalg import expm_multiply

    s = hand()

    def run() -> np.ndarray:
        one, G = sp.identity(n, format="csr"), 0
        for axis, potential in enumerate(s.STEEP):
            _, up, down = s.fitted_rates(potential, s.STEEP_D, s.STEEP_BOX, n)
            L = sp.diags([up, -(np.append(up, 0) + np.append(0, down)), down], [-1, 0, 1]).tocsr()
            factors = [L if k == axis else one for k in range(3)]
            G = G + sp.kron(sp.kron(factors[0], factors[1]), factors[2], format="csr")
        p = np.einsum("i,j,k", *s.steep_starts(n)).ravel()
        return np.asarray(expm_multiply(G, p)).reshape(n, n, n)

    return run


def fplanck_space(n: int) -> Callable[[], Any]:
    s = hand()

    def potential(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.asarray(well(x) + y * y + z * z / 2)

    def start(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.asarray(
            np.exp(-sum((v - c) ** 2 for v, c in zip((x, y, z), s.STEEP_START, strict=True)) / (2 * s.STEEP_WIDTH**2))
        )

    fplanck_model(s.STEEP_BOX, 4, potential, s.STEEP_D, 3)
    return lambda: fplanck_model(s.STEEP_BOX, n, potential, s.STEEP_D, 3).propagate(start, 1.0)


def fipy_space(n: int) -> Callable[[], Any]:
    import fipy
    from fipy.solvers.scipy import LinearBicgstabSolver

    s = hand()
    h = 2 * s.STEEP_BOX / n
    mesh = fipy.Grid3D(nx=n, ny=n, nz=n, dx=h, dy=h, dz=h) + 3 * ((-s.STEEP_BOX,),)
    x, y, z = (np.asarray(v) for v in mesh.faceCenters.value)
    drift = np.array([-4 * x * (x * x - 1), -2 * y, -z]) * ~mesh.exteriorFaces.value
    start = np.einsum("i,j,k", *s.steep_starts(n)).ravel(order="F")

    def run() -> np.ndarray:
        p = fipy.CellVariable(mesh=mesh, value=start)
        flow = fipy.FaceVariable(mesh=mesh, rank=1, value=drift)
        equation = fipy.TransientTerm() + fipy.ExponentialConvectionTerm(coeff=flow) == fipy.DiffusionTerm(coeff=s.STEEP_D)
        for _ in range(20):
            equation.solve(var=p, dt=0.05, solver=LinearBicgstabSolver(tolerance=1e-8))
        return np.asarray(p.value).reshape((n, n, n), order="F")

    return run


def in_space(n: int) -> Problem:
    error = l1(lambda: kept(f"space-{n}", lambda: hand().exact_steep(n)))
    steps = round(248 * n / 64)
    theirs = (
        CannotDo(
            "fplanck", "fplanck", "its rates exp(-dU/2D) are millions at the walls of cells this wide: no answer within minutes"
        )
        if quick()
        else Peer("fplanck", "fplanck", functools.partial(fplanck_space, n), error, "rates exp(-dU/2D); numpy.product put back")
    )
    ours = by_hand("fpsolve", "fpsolve", lambda s: s.steep(n).evolve(
        ("gaussian", s.STEEP_START, s.STEEP_WIDTH**2 * np.eye(3)), 1.0, rtol=1e-3), error)  # fmt: skip
    return Problem(
        GROUP, f"in space, {n}^3 cells, to t = 1",
        "U = (x^2 - 1)^2 + y^2 + z^2/2, D = 0.1, [-2, 2]^3 reflecting, from a Gaussian at (0.5, 0.8, -0.5) of width 0.2.",
        "ms", None, ours,
        (
            by_hand("Numba, Runge-Kutta", "numba", lambda s: s.runge_kutta(n, steps), error, f"fitted rates, {steps} steps"),
            Peer("SciPy, expm_multiply", "scipy", functools.partial(expm_in_space, n), error, "Scharfetter-Gummel, Kronecker sums"),
            Peer("FiPy, exponential term", "fipy", functools.partial(fipy_space, n), error, "backward Euler, 20 steps, BiCGStab"),
            theirs,
            CannotDo("py-pde", "py-pde", "central differences are unstable where a cell's drift is 15 times its diffusion"),
            CannotDo("kramers", "kramers", "one dimension only"),
        ),
        "product of exponentials of each axis on 16 times as many cells",
    )  # fmt: skip


def problems() -> list[Problem]:
    sizes = (128,) if quick() else (256, 512)
    passages = (0.2, 0.02) if quick() else tuple(PASSAGES)
    return [
        on_a_line(), stationary_line(), *map(passage, passages), *map(on_a_plane, sizes), stationary_plane(128 if quick() else 256),
        in_space(32 if quick() else 64),
    ]  # fmt: skip
