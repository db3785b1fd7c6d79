"""Gradient covariance against Hessian: where C = H holds, where only its shape does, and why a correlation decides nothing.

1. Logistic regression, well specified: at the minimum C = H up to sampling (Fisher's identity). With a quadratic term left out of
   the model it still nearly holds. Far from the minimum, at minus three times the true weights, the elements are correlated just as
   well, and C is three times H: a correlation is no test, the slope is. There both matrices are integrals over one variable.
2. Linear regression with residual variance s^2 has C = s^2 H, not H.
3. A network on digits, all weights. Before training its outputs are nearly uniform, which makes the means of |p - y|^2 and
   of 1 - |p|^2 equal: tr C = tr H up to the mean gradient and the fluctuation of the outputs, so that with cross-entropy random
   weights do not break C ~ H. After training the shape in H's eigenbasis holds and the factor does not: the gradients of the
   samples vanish with the loss.

Bands: regressions from the sampling error of N samples (elements of C have relative errors sqrt(2/N) and less) and from reference
values of another program; the network's from a reference run on MNIST (slope 0.99 to 1.14, factor falling from 0.8 to 0.004).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import fpsolve as fps
import nets

from . import Check

NAME = "xie-noise"
GROUP = "xie"
CLAIM = "Near a minimum the covariance of the gradients has the shape of the Hessian; C = H holds for well-specified models only."
STANDING = "stated by the paper"
EQUATION = 'C = H "(well specified)", C = s^2 H "(linear regression)"'

Array = NDArray[np.float64]

DIMENSION, RESIDUAL, FAR = 10, 0.25, 3.0
SOURCE = "reference values of another program"


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Figure xie-noise.png: elements of C over those of H in H's eigenbasis."""
    size = 20_000 if quick else 200_000
    exact, omitted, linear = (_regression(kind, size) for kind in ("logistic", "omitted", "linear"))
    pairs = {
        "logistic, minimum": _matrices(exact, _minimum(exact)),
        "logistic, term left out": _matrices(omitted, _minimum(omitted)),
        "logistic, far away": _matrices(exact, -FAR * _truth()),
        "linear": _matrices(linear, _minimum(linear)),
    }
    trained, random = _network(quick, progress)
    _figure({**pairs, "network, trained": trained, "network, random": random}, out / f"{NAME}.png")
    return [*_regressions(pairs), *_networks(trained, random)]


def _truth() -> Array:
    return np.random.default_rng(7).standard_normal(DIMENSION) / np.sqrt(DIMENSION)


def _regression(kind: str, size: int) -> fps.Ensemble:
    """Sample losses of a regression on normal inputs (fixed seed), labels +-1 or real targets."""
    rng, w = np.random.default_rng(8), _truth()
    x = rng.standard_normal((size, DIMENSION))
    weights, columns = [f"w{i}" for i in range(DIMENSION)], {f"x{i}": x[:, i] for i in range(DIMENSION)}
    z = " + ".join(f"w{i}*x{i}" for i in range(DIMENSION))
    if kind == "linear":
        target = x @ w + np.sqrt(RESIDUAL) * rng.standard_normal(size)
        return fps.Ensemble.from_expression(f"({z} - y)**2/2", weights, {**columns, "y": target})
    odds = x @ w + (0.5 * (x[:, 0] ** 2 - 1.0) if kind == "omitted" else 0.0)
    label = np.where(rng.random(size) < 1.0 / (1.0 + np.exp(-odds)), 1.0, -1.0)
    return fps.Ensemble.from_expression(f"log(1 + exp(-y*({z})))", weights, {**columns, "y": label})


def _minimum(fit: fps.Ensemble) -> Array:
    U = fit.loss
    assert U is not None
    return np.asarray(minimize(lambda w: float(U(w)), np.zeros(fit.dim), jac=U.grad, method="BFGS", options={"gtol": 1e-8}).x)


def _matrices(fit: fps.Ensemble, at: Array) -> tuple[Array, Array]:
    return fit.covariance(at), np.asarray(fit.hessian(at))


def _elements(C: Array, H: Array) -> tuple[Array, Array]:
    """Elements of both in the eigenbasis of H, each pair once."""
    Q, upper = np.linalg.eigh(H)[1], np.triu_indices(len(H))
    return (Q.T @ C @ Q)[upper], (Q.T @ H @ Q)[upper]


def _line(C: Array, H: Array) -> tuple[float, float]:
    """Slope of the elements of C over those of H, and their correlation."""
    c, h = _elements(C, H)
    return float(np.polyfit(h, c, 1)[0]), float(np.corrcoef(c, h)[0, 1])


def _regressions(pairs: dict[str, tuple[Array, Array]]) -> list[Check]:
    C, H = pairs["logistic, minimum"]
    slope, r = _line(C, H)
    left, r_left = _line(*pairs["logistic, term left out"])
    away, r_away = _line(*pairs["logistic, far away"])
    expected = _far_slope()
    linear = _line(*pairs["linear"])[0]
    rows = [
        ("logistic: slope of C over H", slope, 1.0, 0.97, 1.03),
        ("logistic: correlation of their elements", r, 1.0, 0.99, 1.0),
        ("logistic: |C - H|/|H|", float(np.linalg.norm(C - H) / np.linalg.norm(H)), 0.0, 0.0, 0.05),
        ("term left out: slope", left, 1.0, 0.9, 1.1),
        ("term left out: correlation", r_left, 1.0, 0.99, 1.0),
        ("far from the minimum: slope (by quadrature)", away, expected, 0.95 * expected, 1.05 * expected),
        ("far from the minimum: correlation, which shows nothing", r_away, 1.0, 0.8, 1.0),
        (f"linear, residual variance {RESIDUAL:g}: slope", linear, RESIDUAL, 0.95 * RESIDUAL, 1.05 * RESIDUAL),
    ]
    return [Check(name=n, measured=m, expected=e, band=(a, b), source=SOURCE) for n, m, e, a, b in rows]


def _network(quick: bool, progress: bool) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """(C, H) of all weights of a network on digits: trained until its error is long zero, and before any training."""
    data, mlp = nets.load_data("digits"), nets.MLP((64, 10, 10) if quick else (64, 20, 20, 10), activation="tanh")
    run = nets.train(mlp, data, lr=0.1, batch=20, epochs=200, seed=0, record=nets.Record(test=False), progress=progress)
    x, y = data.x_train, data.y_train
    trained, random = (
        (nets.gradient_covariance(mlp, theta, x, y), nets.hessian(mlp, theta, x, y)) for theta in (run.theta, mlp.init(1))
    )
    return trained, random


def _far_slope() -> float:
    """Slope of the elements at -FAR w for normal inputs: they depend on z = w.x only, whose law is normal with variance |w|^2."""
    scale = float(np.linalg.norm(_truth()))
    u, weight = np.polynomial.hermite_e.hermegauss(200)
    weight = weight / weight.sum()
    p, q = 1.0 / (1.0 + np.exp(-scale * u)), 1.0 / (1.0 + np.exp(FAR * scale * u))  # of the labels, and of the model
    residual, square, bend = q - p, p * (1.0 - q) ** 2 + (1.0 - p) * q**2, q * (1.0 - q)
    across = weight @ square, weight @ bend
    along = weight @ (square * u * u) - (weight @ (residual * u)) ** 2, weight @ (bend * u * u)
    c, h = (np.concatenate([[b], np.full(DIMENSION - 1, a), np.zeros(DIMENSION * (DIMENSION - 1) // 2)])
            for a, b in zip(across, along, strict=True))  # fmt: skip
    return float(np.polyfit(h, c, 1)[0])


def _networks(trained: tuple[Array, Array], random: tuple[Array, Array]) -> list[Check]:
    checks = []
    for name, (C, H), factor in (("trained", trained, (0.0, 0.1)), ("random weights", random, (0.7, 1.3))):
        h, Q = np.linalg.eigh(H)
        c, top = np.einsum("ij,ij->j", Q, C @ Q)[::-1][:50], h[::-1][:50]
        fit = nets.power_law(top, c)
        if name == "trained":
            checks += [
                Check(name="network, trained: exponent of C over H, 50 eigenvectors of H", measured=fit.exponent, expected=1.0,
                      band=(0.85, 1.3), source="reference run on MNIST"),
                Check(name="network, trained: correlation of logs", measured=fit.correlation, expected=1.0, band=(0.95, 1.0),
                      source="reference run on MNIST"),
            ]  # fmt: skip
        ratio, of = float(np.trace(C) / np.trace(H)), "uniform outputs" if name != "trained" else "C falls with the loss"
        checks.append(Check(name=f"network, {name}: tr C/tr H", measured=ratio, expected=0.0 if name == "trained" else 1.0,
                            band=factor, source=of))  # fmt: skip
    return checks


def _figure(pairs: dict[str, tuple[Array, Array]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 6.2), layout="constrained")
    for ax, (name, (C, H)) in zip(figure.subplots(2, 3).flat, pairs.items(), strict=True):
        c, h = _elements(C, H)
        ax.plot(h, c, ".", ms=3)
        ends = np.array([h.min(), h.max()])
        ax.plot(ends, ends, color="0.5", lw=0.8, label="C = H")
        ax.set(title=name, xlabel="element of H", ylabel="element of C")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)
