"""Flat minima are simple functions, and the Hessian is the Gauss-Newton matrix up to the root of the loss: at every network.

Inequalities, so that the largest left side over its right side must not exceed 1 at any network: those of `wu-zhu-e-toy`, random
weights (initial ones times a factor between 1/10 and 10), tanh and relu, two layers and three, two outputs.

    <|grad_x f|^2> <= |W_1|_2^2 tr G / (1 + min |x|^2)    any weights; with tr H at the trained ones, where H is G up to 1e-4 or so
    |H - G|_2 <= sqrt(2 L) sqrt(<|Hess f_n|_2^2>)           any weights
    |H|_F <= tr H <= sqrt(rank) |H|_F                       minima of loss 1e-13, rank up to the number of samples

At loss 1e-13, trained by L-BFGS on 20 to 40 samples, |H - G| over |H| must be below 1e-5; the bound foresees some 1e-7. The
rescaled trace must be the same for all rescalings of a relu network, up to 1e-9 (it is computed to 1e-12), although its trace
changes: random factors exp(normal) of every unit. Bands: these, before the first run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import nets

from . import Check
from ._follow_ups import check, figure, save
from ._wu_zhu_e import FIRST, GROUP, SHARED, disc, network, toy

__all__ = ["CLAIM", "GROUP", "NAME", "SHARED", "STANDING", "run"]

NAME = "wu-zhu-e-inequalities"
CLAIM = (
    "At every network flatness bounds how much the function varies, and the root of the loss |H - G|; the least trace is invariant."
)
STANDING = "derived"
EQUATION = """
<|grad_x f|^2> <= |W_1|_2^2 tr G/(1 + min |x|^2)
|H - G|_2 <= sqrt(2 L) sqrt(<|Hess f_n|_2^2>)
|H|_F <= tr H <= sqrt(rank) |H|_F
"""

Array = NDArray[np.float64]

WIDTHS = ((2, 40, 1), (2, 20, 20, 1), (2, 30, 2))
NEAR_ZERO = 1e-13


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Trained and random networks, minima of loss 1e-13, rescalings; figure wu-zhu-e-inequalities.png."""
    made, axes = figure(2)
    checks = [*_trained(quick, axes, progress), *_random(3 if quick else 20, axes), *_near_zero(quick), *_rescalings(quick)]
    for ax, title in zip(axes, ("mean |grad_x f|^2", "|H - G|"), strict=True):
        ends = np.array(ax.dataLim.intervalx)
        ax.loglog(ends, ends, "k:")
        ax.set(xlabel="right side", ylabel="left side", title=title)
        ax.legend(frameon=False)
    save(made, out, NAME)
    return checks


def _trained(quick: bool, axes: Array, progress: bool) -> list[Check]:
    pairs, curvature = [], []
    for s in toy(quick, progress):
        pairs += [nets.two_layer_bound(network(), w, *s.samples) for w in s.table.theta]
        curvature += s.bounds
    axes[0].loglog([p.bound for p in pairs], [p.gradient for p in pairs], "o", ms=3, label="trained")
    axes[1].loglog([b.bound for b in curvature], [b.difference for b in curvature], "o", ms=3, label="trained")
    n = f"{len(pairs)} trained networks"
    with_hessian = [p.gradient * p.trace / (p.bound * p.hessian_trace) for p in pairs]
    return [
        check(f"<|grad_x f|^2> / bound, largest of {n}", max(p.gradient / p.bound for p in pairs), 1.0, 0.0, 1.0, "with tr G"),
        check("the same with tr H", max(with_hessian), 1.0, 0.0, 1.0, "H = G up to the root of the loss"),
        check(f"|H - G| / bound, largest of {n}", max(b.difference / b.bound for b in curvature), 1.0, 0.0, 1.0,
              "Cauchy and Schwarz"),
    ]  # fmt: skip


def networks() -> Iterator[nets.MLP]:
    for widths in WIDTHS:
        for activation in ("tanh", "relu"):
            yield nets.MLP(widths, activation=activation, loss="mse")


def _random(each: int, axes: Array) -> list[Check]:
    """Initial weights times a factor."""
    data, rng, pairs, curvature = disc(FIRST), np.random.default_rng(7), [], []
    for mlp in networks():
        for seed in range(each):
            w = mlp.init(1000 + seed) * 10.0 ** rng.uniform(-1.0, 1.0)
            pairs.append(nets.two_layer_bound(mlp, w, data.x_train, data.y_train))
            curvature.append(nets.curvature_bound(mlp, w, data.x_train, data.y_train))
    axes[0].loglog([p.bound for p in pairs], [p.gradient for p in pairs], "x", ms=3, label="random")
    axes[1].loglog([b.bound for b in curvature], [b.difference for b in curvature], "x", ms=3, label="random")
    n = f"{len(pairs)} random networks"
    return [
        check(f"<|grad_x f|^2> / bound, largest of {n}", max(p.gradient / p.bound for p in pairs), 1.0, 0.0, 1.0, "with tr G"),
        check("the same with the first layer's trace", max(p.gradient / p.sharp for p in pairs), 1.0, 0.0, 1.0, "sharper"),
        check(f"|H - G| / bound, largest of {n}", max(b.difference / b.bound for b in curvature), 1.0, 0.0, 1.0,
              "Cauchy and Schwarz"),
    ]  # fmt: skip


def _near_zero(quick: bool) -> list[Check]:
    """Minima of loss 1e-13."""
    mlp, rows = network(), []
    for size in (20, 30, 40):
        for seed in range(1 if quick else 4):
            data = nets.load_data("disc", n=1000, seed=FIRST + seed).subset(size)
            found = nets.find_minimum(mlp, mlp.init(seed), data.x_train, data.y_train, loss=NEAR_ZERO, method="l-bfgs")
            H = nets.hessian(mlp, found.theta, data.x_train, data.y_train)
            G = nets.gauss_newton(mlp, found.theta, data.x_train, data.y_train)
            length, trace = float(np.linalg.norm(H)), float(np.trace(H))
            sides = nets.two_layer_bound(mlp, found.theta, data.x_train, data.y_train)
            rows.append((found.loss, np.linalg.norm(H - G, 2) / np.linalg.norm(H, 2), length / trace, trace / length / size**0.5,
                         sides.gradient * sides.trace / sides.bound / sides.hessian_trace))  # fmt: skip
    loss, apart, below, above, gradient = np.array(rows).max(axis=0)
    return [
        check(f"loss, largest of {len(rows)} minima", loss, NEAR_ZERO, 0.0, 1e-12, "find_minimum"),
        check("|H - G| / |H| there, largest", apart, 0.0, 0.0, 1e-5, "H = G at zero loss"),
        check("|H|_F / tr H there, largest", below, 1.0, 0.0, 1.0, "eigenvalues >= 0"),
        check("tr H / (sqrt(N) |H|_F) there, largest", above, 1.0, 0.0, 1.0, "rank <= N"),
        check("<|grad_x f|^2> / bound with tr H there, largest", gradient, 1.0, 0.0, 1.0, "H = G"),
    ]


def _rescalings(quick: bool) -> list[Check]:
    """Relu networks, random and trained, in other weights that are the same function."""
    data, rng = disc(FIRST), np.random.default_rng(8)
    x, y = data.x_train, data.y_train
    same, less, there, outputs, changes = [], [], [], [], []
    for mlp in (mlp for mlp in networks() if mlp.activation == "relu"):
        for seed in range(2 if quick else 10):
            w = mlp.init(seed)
            if seed % 2:
                w = nets.find_minimum(mlp, w, x, y, loss=0.05, method="l-bfgs").theta
            other = _rescaled(mlp, w, rng)
            one, two = (nets.rescaled_trace(mlp, v, x, y) for v in (w, other))
            same.append(abs(two.value / one.value - 1.0))
            less.append(max(one.value / one.trace, two.value / two.trace))
            there.append(abs(nets.trace(mlp, one.theta, x, y).value / one.value - 1.0))
            outputs.append(np.abs(mlp.outputs(other, x) - mlp.outputs(w, x)).max() / np.abs(mlp.outputs(w, x)).max())
            changes.append(abs(math.log(two.trace / one.trace)))
    n = f"{len(same)} relu networks"
    return [
        check(f"outputs after rescaling, largest change of {n}", max(outputs), 0.0, 0.0, 1e-12, "relu is homogeneous"),
        check("|ln| of tr H after over before, median", float(np.median(changes)), 1.0, 0.1, math.inf, "tr H is not invariant"),
        check("rescaled trace after over before - 1, largest", max(same), 0.0, 0.0, 1e-9, "invariant"),
        check("rescaled trace over tr H, largest", max(less), 1.0, 0.0, 1.0, "smallest of the orbit"),
        check("tr H at the weights found over the value - 1, largest", max(there), 0.0, 0.0, 1e-9, "nets.trace there"),
    ]


def _rescaled(mlp: nets.MLP, w: Array, rng: np.random.Generator) -> Array:
    """Weights into each hidden unit times exp(normal), those out of it divided by it."""
    result = w.copy()
    parts = mlp.unpack(result)  # views
    for k in range(1, mlp.n_layers):
        c = np.exp(rng.standard_normal(mlp.widths[k]))
        parts[f"W{k}"] *= c
        parts[f"b{k}"] *= c
        parts[f"W{k + 1}"] /= c[:, None]
    return result
