"""The balanced part of the drift: manufactured stationary densities with a current, and what happens where none can be found."""

import numpy as np
import pytest

from fpsolve import _balance
from fpsolve.fokker_planck import FokkerPlanck
from fpsolve.grid import Grid


class Manufactured:
    """Stationary density exp(-Phi) by construction: Ito drift -D grad Phi + div D + (1/p) rot(rho p), any Phi, D, rho.

    Derivatives are sympy's, so nothing of the scheme enters the truth.
    """

    dim = 2

    def __init__(self, phi, rho, angle, condition, size):
        import sympy

        x, y = sympy.symbols("x y")
        phi, rho, angle = (sympy.sympify(text, locals={"x": x, "y": y}) for text in (phi, rho, angle))
        c, s, e = sympy.cos(angle), sympy.sin(angle), sympy.Float(1.0 / condition)
        D = sympy.Float(size) * sympy.Matrix([[c * c + e * s * s, (1 - e) * c * s], [(1 - e) * c * s, s * s + e * c * c]])
        div = sympy.Matrix([sympy.diff(D[k, 0], x) + sympy.diff(D[k, 1], y) for k in range(2)])
        grad = sympy.Matrix([sympy.diff(phi, x), sympy.diff(phi, y)])
        turn = sympy.Matrix([sympy.diff(rho, y) - rho * grad[1], rho * grad[0] - sympy.diff(rho, x)])
        self._parts = [sympy.lambdify((x, y), list(part), "numpy") for part in (-D * grad + div + turn, D, div)]
        self._phi = sympy.lambdify((x, y), phi, "numpy")

    def _evaluate(self, part, x, shape):
        values = self._parts[part](x[..., 0], x[..., 1])
        return np.stack([np.broadcast_to(v, x.shape[:-1]) for v in values], -1).reshape(*x.shape[:-1], *shape)

    def drift(self, x):
        return self._evaluate(0, x, (2,))

    def diffusion(self, x):
        return self._evaluate(1, x, (2, 2))

    def divergence(self, x):
        return self._evaluate(2, x, (2,))

    def log_density(self, x):
        return None

    def density(self, x):
        return np.exp(-self._phi(x[..., 0], x[..., 1]))


def errors(process, axes, sizes):
    out = []
    for n in sizes:
        grid = Grid(*((lo, hi, n) for lo, hi in axes))
        exact = process.density(grid.points()) * grid.cell_volumes.ravel()
        out.append(float(np.abs(FokkerPlanck(process, grid).stationary().cell_mass.ravel() - exact / exact.sum()).sum()))
    return np.array(out)


def orders(values):
    return np.log2(values[:-1] / values[1:])


WELLS = ("(x**2-1)**2 + 0.5*y**2 + 0.3*x*y", "0.4 + 0.3*sin(x)*cos(y)", "0.5 + 0.4*sin(x + y/2)")
RING = ("(x**2+y**2-1)**2", "0.2 + exp(-(x**2+y**2)/2)", "0.5")
QUARTIC = ("x**4/4 + y**2/2 + x*y/4", "0.5 + 0.3*sin(2*x)", "0.5")


@pytest.mark.parametrize(
    ("what", "condition", "size", "axes", "limits"),
    [
        # without the stationary solve: 3.9e-3, 8.3e-4, 3.9e-4, 3.1e-3 in the last place of each row
        (WELLS, 4.0, 0.5, ((-3, 3), (-7, 7)), (2.5e-2, 5e-3)),
        (RING, 4.0, 0.3, ((-2.6, 2.6), (-2.6, 2.6)), (8e-3, 5e-5)),
        (QUARTIC, 4.0, 1.0, ((-3, 3), (-6, 6)), (4e-4, 2e-5)),
        (QUARTIC, 20.0, 1.0, ((-3, 3), (-6, 6)), (4e-3, 4e-4)),
    ],
)
def test_manufactured_densities_with_a_current(what, condition, size, axes, limits):
    found = errors(Manufactured(*what, condition, size), axes, (48, 96, 192))
    assert np.all(orders(found) >= 1.9), found
    assert np.all(found[1:] < limits), found


@pytest.mark.slow
@pytest.mark.parametrize(("what", "axes"), [(WELLS, ((-3, 3), (-7, 7))), (QUARTIC, ((-3, 3), (-6, 6)))])
def test_order_holds_beyond_the_size_of_the_reference_grid(what, axes):
    """The gradient comes from 128 cells per axis at most; its error is multiplied by the squared cell width."""
    found = errors(Manufactured(*what, 4.0, 0.5), axes, (96, 192, 384))
    assert np.all(orders(found) >= 1.9), found


def test_gradient_of_a_periodic_density():
    process = Manufactured("sin(x) + cos(y)*sin(x)/2", "0.3*cos(x)*sin(y)", "0.5 + 0.3*sin(x)", 4.0, 1.0)
    out = []
    for n in (24, 48, 96):
        grid = Grid((0, 2 * np.pi, n), (0, 2 * np.pi, n), boundary="periodic")
        exact = process.density(grid.points())
        p = FokkerPlanck(process, grid).stationary().cell_mass.ravel()
        out.append(np.abs(p - exact / exact.sum()).sum())
    assert np.all(orders(np.array(out)) >= 1.9), out


@pytest.mark.parametrize(("condition", "angle"), [(3.0, "1.2"), (10.0, "1.2"), (10.0, "0.5 + 0.4*sin(x + y)"), (100.0, "0.5")])
def test_mass_at_reflecting_walls_with_a_rotated_tensor(condition, angle):
    """Density exp(-Phi) without a current, high at the walls: shorter offsets next to them must not move it."""
    process, out = Manufactured("sin(x) + y*cos(x) + y**2/2 - y/3", "0*x", angle, condition, 1.0), []
    for n in (24, 48, 96):
        grid = Grid((0, 2 * np.pi, n), (0, 3, n // 2), boundary=["periodic", "reflecting"])
        exact = process.density(grid.points())
        p = FokkerPlanck(process, grid).stationary().cell_mass.ravel()
        out.append(np.abs(p - exact / exact.sum()).sum())
    assert np.all(orders(np.array(out)) >= 1.9), out
    assert out[-1] < 2e-4, out


def test_decay_with_one_reflecting_and_one_absorbing_wall():
    """D constant at an angle, x periodic: a density of y alone decays as D_yy (pi/2)^2, the reflecting wall at 0."""

    class Flat:
        dim = 2
        drift = divergence = staticmethod(lambda x: np.zeros(x.shape))
        diffusion = staticmethod(lambda x: np.broadcast_to(np.array([[0.6, 0.3], [0.3, 0.4]]), (*x.shape[:-1], 2, 2)))
        log_density = staticmethod(lambda x: None)

    out = []
    for n in (16, 32, 64):
        grid = Grid((0, 1, n), (0, 1, n), boundary=["periodic", ("reflecting", "absorbing")])
        start = lambda x: np.cos(0.5 * np.pi * x[:, 1])  # noqa: E731
        out.append(abs(FokkerPlanck(Flat(), grid).evolve(start, 0.5, rtol=1e-9).mass - np.exp(-0.4 * (np.pi / 2) ** 2 * 0.5)))
    assert np.all(orders(np.array(out)) >= 1.9), out


def test_what_a_wall_cuts_off_is_carried_along_it(monkeypatch):
    """Decay rate with absorbing walls in x and reflecting ones in y, the tensor at an angle.

    Without the edges along the walls the scheme is consistent there to first order: its Richardson limit is the reference.
    """
    from fokker_planck_cases import Stand, tensor
    from fpsolve._kernels import selling

    def rate(n):
        process = Stand(2, lambda x: np.zeros(x.shape), lambda x: np.broadcast_to(tensor(3.0, 0.5), (*x.shape[:-1], 2, 2)))
        fp = FokkerPlanck(process, Grid((0, 1, n), (0, 1, n), boundary=["absorbing", "reflecting"]))
        p = fp.evolve(lambda x: np.sin(np.pi * x[:, 0]), [0.5, 0.6], rtol=1e-9)
        return np.log(p[0].mass / p[1].mass) / 0.1

    found = [rate(n) for n in (16, 32, 64)]
    monkeypatch.setattr(selling, "wall_weights", lambda *args: None)
    plain = [rate(n) for n in (32, 64, 128)]
    limit = 2 * plain[2] - plain[1]
    assert abs(plain[1] / limit - 1) > 1e-3  # else the test shows nothing
    np.testing.assert_allclose(found, limit, rtol=1e-3)
    np.testing.assert_allclose(found[1:], limit, rtol=2e-4)


def test_nothing_is_solved_for_linear_or_resolved_drift(monkeypatch):
    from fokker_planck_cases import ou

    def refuse(*args):
        raise AssertionError("a stationary solve was made")

    monkeypatch.setattr(_balance, "solved_gradient", refuse)
    FokkerPlanck(ou(100.0), Grid((-5, 5, 64), (-5, 5, 64)))
    weak = Manufactured("x**2/200 + y**2/300 + x*y/500 + x**4/20000", "0.01", "0.5", 2.0, 1.0)
    FokkerPlanck(weak, Grid((-1, 1, 40), (-1, 1, 40)))
    with pytest.raises(AssertionError, match="solve was made"):
        FokkerPlanck(Manufactured(*RING, 4.0, 0.3), Grid((-2, 2, 30), (-2, 2, 30)))


def test_the_closure_stands_in_where_there_is_no_stationary_density(monkeypatch):
    process, grid = Manufactured(*RING, 4.0, 0.3), Grid((-2, 2, 40), (-2, 2, 40))
    better = FokkerPlanck(process, grid).generator

    def fail(*args, **kwargs):
        raise ValueError("several closed classes")

    monkeypatch.setattr(_balance._markov, "stationary", fail)
    plain = FokkerPlanck(process, grid).generator
    assert abs(plain - better).max() > 0.0
    rates = plain.tocoo()
    assert np.all(rates.data[rates.row != rates.col] >= 0.0)


def test_assembly_is_deterministic_and_independent_of_absorbing_sides_inside():
    process = Manufactured(*RING, 4.0, 0.3)
    axes = ((-2, 2, 40), (-2, 2, 40))
    one, two = FokkerPlanck(process, Grid(*axes)).generator, FokkerPlanck(process, Grid(*axes)).generator
    assert np.array_equal(one.data, two.data)
    walls = FokkerPlanck(process, Grid(*axes, boundary="absorbing"))
    inner = np.arange(1600).reshape(40, 40)[8:-8, 8:-8].ravel()
    np.testing.assert_allclose(walls.generator[inner].toarray(), one[inner].toarray(), atol=1e-9)
