"""Runs whose bits must not depend on where their machine code comes from; as a program it prints a hash of each.

``python cache_cases.py THREADS CASE ...``: the cases in this order, as JSON.
"""

import dataclasses
import hashlib
import json
import sys

import numpy as np
import scipy.sparse as sp

import fpsolve as fps
import nets
from fpsolve._elimination import Multifrontal

WELL = fps.Potential.from_expression("(x**2-1)**2 + k*y**2/2", variables="x y", params={"k": 1.0})
FULL = fps.Noise.from_expression([["0.2+0.05*x**2", "0.02*x*y"], ["0.02*x*y", "0.1+0.05*y**2"]], variables="x y")
DOUBLE = fps.potentials.double_well()


def neighbours(d):
    """Quartic wells with a coupling of neighbours."""
    text = " + ".join(f"(q{i}**2 - 1)**2/4 + 0.1*q{i}*q{(i + 1) % d}" for i in range(d))
    return fps.Potential.from_expression(text, [f"q{i}" for i in range(d)])


def mixing(d, seed=3):
    return np.random.default_rng(seed).normal(size=(d, d)) / np.sqrt(d)


def samples():
    rng = np.random.default_rng(5)
    data = {"u": rng.standard_normal(40), "v": rng.standard_normal(40)}
    return fps.Ensemble.from_expression("(a*tanh(b*u) - v)**2/2 + 0.05*(a**2 + b**2)", "a b", data)


def full_tensor(threads):
    process = fps.Process(WELL, FULL)
    run = {"t": 2.0, "dt": 0.01, "n": 600, "seed": 3, "threads": threads}
    region = fps.Region.ball([0.0, 0.0], 0.9)
    yield fps.simulate(process, [0.1, 0.2], save="moments", t_burn=1.0, **run)
    yield fps.escape_times(process, [0.1, 0.2], region, n=600, dt=0.01, seed=3, threads=threads)


def box(threads):
    process = fps.Process(DOUBLE, fps.Noise.isotropic(0.4))
    yield fps.escape_times(process, [0.0], fps.Region.box([-0.9], [0.8]), n=600, dt=0.01, seed=3, threads=threads)


def corner(threads):
    """Two faces and a wall: the exit point is drawn again where it lies beyond the other face."""
    process = fps.Process(WELL, FULL)
    region = fps.Region.box([-2.0, -0.5], [0.5, 0.5])
    walls = [(-1.5, 3.0, ("reflecting", None)), None]
    yield fps.escape_times(process, [0.0, 0.0], region, n=600, dt=0.01, seed=3, threads=threads, walls=walls)


def inertia(threads):
    process = fps.Underdamped(WELL, FULL, friction=1.0)
    yield fps.simulate(process, [0.1, 0.2], t=5.0, dt=0.05, n=600, seed=3, threads=threads, save="moments", t_burn=1.0)
    region = fps.Region.halfspace([1.0, 0.0], 0.9)
    yield fps.escape_times(process, [0.1, 0.2], region, n=600, dt=0.05, seed=3, threads=threads)


def weak2(threads):
    yield fps.simulate(fps.Process(WELL, FULL), [0.1, 0.2], t=2.0, dt=0.02, n=600, seed=3, threads=threads, method="weak2")


def matrix(threads):
    process = fps.Process.ornstein_uhlenbeck(np.diag(np.linspace(0.5, 2, 11)) + 0.1 * mixing(11), fps.Noise.isotropic(0.3))
    yield fps.simulate(process, np.ones(11), t=1.0, dt=0.01, n=600, seed=1, save="moments", t_burn=0.5, threads=threads)


def wide_dense(threads):
    G = mixing(18)
    process = fps.Process(neighbours(18), fps.Noise.constant(G @ G.T))
    yield fps.simulate(process, np.zeros(18), t=1.0, dt=0.01, n=300, seed=3, threads=threads)


def wide_escape(threads):
    process = fps.Process(neighbours(18), fps.Noise.low_rank(0.4 * mixing(18)[:, :3], np.full(18, 0.2)))
    region = fps.Region.ball(np.zeros(18), 2.0)
    yield fps.escape_times(process, np.zeros(18), region, n=300, dt=0.01, seed=3, threads=threads)


def wide_box(threads):
    G = mixing(18)
    process = fps.Process(neighbours(18), fps.Noise.constant(G @ G.T))
    region = fps.Region.box([-1.0] * 18, [1.0] * 18)
    yield fps.escape_times(process, np.zeros(18), region, n=300, dt=0.01, seed=3, threads=threads)


def wide_diagonal(threads):
    noise = fps.Noise.diagonal([f"0.1*(1 + q{(i + 1) % 18}**2)" for i in range(18)], [f"q{i}" for i in range(18)])
    yield fps.simulate(fps.Process(neighbours(18), noise), np.zeros(18), t=1.0, dt=0.01, n=300, seed=3, threads=threads)


def chain(threads):
    run = {"n": 200, "seed": 3, "threads": threads}
    for how in ({}, {"sampling": "shuffle", "momentum": 0.5}, {"optimizer": "adam"}):
        yield fps.simulate(fps.SGDChain(samples(), 0.1, 4, **how), [0.5, 0.5], t=200, **run)
    yield fps.escape_times(fps.SGDChain(samples(), 0.1, 4), [0.5, 0.5], fps.Region.ball([0.5, 0.5], 0.3), t_max=500, **run)


def gaussian_chain(threads):
    chosen = fps.SGDChain.gaussian(WELL, fps.Noise.covariance([[1.0, 0.2], [0.2, 0.5]], 0.05), 0.05, momentum=0.5)
    yield fps.simulate(chosen, [0.1, 0.2], t=200, n=600, seed=3, threads=threads)


def levy(threads):
    for isotropic in (False, True):
        process = fps.Process(fps.potentials.quadratic(np.diag([1.0, 2.0])), fps.Noise.levy(1.3, 0.5, isotropic=isotropic))
        yield fps.simulate(process, [0.0] * 2, t=2.0, dt=0.05, n=600, seed=3, threads=threads)
        region = fps.Region.ball([0.0] * 2, 1.0)
        yield fps.escape_times(process, [0.0] * 2, region, dt=0.05, n=600, seed=3, threads=threads)


def single(threads):
    process = fps.Process(WELL, FULL)
    yield fps.simulate(process, [0.1, 0.2], t=2.0, dt=0.01, n=600, seed=3, threads=threads, precision="single")


def splitting(threads):
    process, region = fps.Process(WELL, fps.Noise.isotropic(0.15)), fps.Region.halfspace([1.0, 0.0], 0.5)
    yield fps.multilevel_splitting(process, [-1.0, 0.0], region, n=64, dt=0.02, seed=1, threads=threads)


def wide_splitting(threads):
    process = fps.Process(fps.potentials.quadratic(np.eye(20)), fps.Noise.isotropic(0.1))
    region = fps.Region.halfspace(np.eye(20)[0], 1.2)
    yield fps.multilevel_splitting(process, np.zeros(20), region, n=32, dt=0.1, seed=1, threads=threads)


def elimination(threads):
    """The fronts of a sparse elimination, three compiled functions deep: the case that differed first."""
    n, rng = 24, np.random.default_rng(1)
    i = np.arange(n * n).reshape(n, n)
    pairs = np.hstack([np.stack([a.ravel(), b.ravel()]) for a, b in ((i[1:], i[:-1]), (i[:, 1:], i[:, :-1]))])
    rows, cols = np.hstack([pairs, pairs[::-1]])
    rates = sp.csr_matrix((rng.random(rows.size) + 0.1, (rows, cols)), shape=(n * n, n * n))
    solver = Multifrontal(rates, np.full(n * n, 0.01), np.stack(np.divmod(np.arange(n * n), n), axis=1))
    yield solver.plain_solve(rng.random(n * n), False)


def fokker_planck(threads):
    fp = fps.FokkerPlanck(fps.Process(WELL, FULL), fps.Grid((-2, 2, 40), (-2, 2, 30)))
    yield fp.stationary()
    for method in (None, "positive", "chebyshev", "rational"):
        yield fp.evolve(("gaussian", [-1.0, 0.0], 0.05 * np.eye(2)), [0.5, 1.0], method=method)
    yield fp.mean_exit_time(fps.Region.ball([0.0, 0.0], 1.2))
    yield fp.committor(fps.Region.ball([-1.0, 0.0], 0.3), fps.Region.ball([1.0, 0.0], 0.3))


def one_dimension(threads):
    fp = fps.FokkerPlanck(fps.Process(DOUBLE, fps.Noise.isotropic(0.2)), fps.Grid((-2, 2, 200)))
    yield fp.stationary()
    yield fp.mean_exit_time(fps.Region.halfspace([1.0], 0.0))
    yield fp.spectrum(4)


def kernel_operator(threads):
    chosen = fps.SGDChain.gaussian(DOUBLE, fps.Noise.covariance([[1.0]], 0.05), 0.05)
    kernel = fps.TransitionKernel(chosen, fps.Grid((-2, 2, 150)))
    yield kernel.stationary()
    yield kernel.mean_exit_time(fps.Region.halfspace([1.0], 0.0))


def action(threads):
    drift = ["x - x**3 - 2*x*y**2", "-(1 + x**2)*y"]
    process = fps.Process.from_drift(drift, fps.Noise.isotropic(0.1), variables="x y")
    yield fps.minimum_action_path(process, [-1.0, 0.0], [1.0, 0.0])


def network(threads):
    data = nets.load_data("digits")
    for activation, sampling, momentum in (("tanh", "shuffle", 0.0), ("relu", "replace", 0.9)):
        mlp = nets.MLP((64, 12, 10), activation=activation)
        yield nets.train(mlp, data, lr=0.1, batch=20, epochs=2, seed=3, sampling=sampling, momentum=momentum).theta


CASES = {
    f.__name__: f
    for f in (
        full_tensor, box, corner, inertia, weak2, matrix, wide_dense, wide_escape, wide_box, wide_diagonal, chain, gaussian_chain,
        levy, single, splitting, wide_splitting, elimination,
        fokker_planck, one_dimension, kernel_operator, action, network,
    )
}  # fmt: skip


def content(value):
    """All bits of a result."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return b"".join(f.name.encode() + content(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare)
    if isinstance(value, np.ndarray):
        return str((value.dtype, value.shape)).encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, dict):
        return b"".join(str(k).encode() + content(v) for k, v in sorted(value.items()) if "seconds" not in str(k))
    if isinstance(value, (list, tuple)):
        return b"".join(content(v) for v in value)
    if isinstance(value, float):
        return float(value).hex().encode()
    plain = isinstance(value, (str, int, bool, complex, np.generic, type(None)))
    return repr(value).encode() if plain else type(value).__name__.encode()


def digests(names, threads):
    found = {}
    for name in names:
        found[name] = [hashlib.sha256(content(result)).hexdigest()[:16] for result in CASES[name](threads)]
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(digests(sys.argv[2:] or list(CASES), int(sys.argv[1]))))
