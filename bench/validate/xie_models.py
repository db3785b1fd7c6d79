"""Escape of SGD and SGLD over a level of the loss, from the minima of a logistic regression and of a network on digits.

A convex loss has no saddle, so the boundary is L = L_min + dL. Close to the minimum the chain is a linear one, whose law of exit is
found apart: a Gaussian chain in the quadratic loss with the H and C of the minimum, with more paths. Its exponent for rare exits is
E = dL/lambda_max(H^(1/2) S H^(1/2)), 2 B dL/(lr H_max) where C = H, and it leaves along the sharpest direction. dL is chosen so
that E is 3 where escape is fastest. Compared are slopes of ln(mean time) over B, 1/lr and, for SGLD, 1/D.

Bands. Slope over the linear chain's: within 20 %, 10 % for what is neglected (the loss is no parabola, C varies, batches are no
Gaussian numbers) and three standard errors of n escapes a point. Slope over the exponent's, in time lr x iterations: between 0.5
and 1.1, since the prefactor grows with E. SGLD equilibrates in all d directions: its rate is E^(d/2) exp(-E) up to a factor
1 + O(d/E), so that the slope is dL (1 - d/2E) and not dL, with 1/E averaged over the line; with the 87 directions of the network E
is far too small for any such law, and only the linear chain is asked. Deviation over mean of the waiting times: the linear chain's
(one, where the exit is rare) up to the sampling error 1/sqrt(n). Directions: four standard errors, and 0.03. Two comparisons were
changed after a first run failed in them: over 1/lr the times were in iterations, and waiting times were compared with one, though
the network under SGLD leaves before its soft directions have equilibrated.

A network on images of MNIST, and what happens where a few samples carry the noise: `xie-mnist`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fpsolve as fps
import nets

from . import Check
from ._xie_models import Line, Model, axes, components, figure_of, minimum, network

NAME = "xie-models"
GROUP = "xie"
CLAIM = (
    "Over a level of the loss SGD leaves at the rate of the linear chain with the minimum's H and C, along the sharpest direction."
)
STANDING = "derived"
EQUATION = 'E = Delta L/lambda_max(H^(1/2) S H^(1/2)) = 2 B Delta L/(lr H_max) "for" C = H'


def threes_and_eights(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Threes against eights of the digits in five principal components, and +-1."""
    data = nets.only_labels(nets.load_data("digits"), (3, 8))
    return components(data.x_train, 5)[:size], np.where(data.y_train == data.y_train.min(), -1.0, 1.0)[:size]


def logistic(size: int) -> Model:
    """Logistic regression on them, with weight decay."""
    x, y = threes_and_eights(size)
    z, squares = (" + ".join(f"w{i}*{b}{i}" for i in range(5)) for b in "xw")
    columns = {**{f"x{i}": x[:, i] for i in range(5)}, "y": y}
    fit = fps.Ensemble.from_expression(f"log(1 + exp(-y*({z}))) + 0.01*({squares})", [f"w{i}" for i in range(5)], columns)
    assert fit.loss is not None
    at = minimum(fit.loss, np.zeros(5))
    return Model("logistic", fit, fit.loss, at, np.asarray(fit.hessian(at)), fit.covariance(at))


def digits(size: int) -> Model:
    """A tanh network on principal components of three digits; weight decay isolates the minimum.

    Small, for the time to a level of the loss falls with every direction that can fluctuate: at the same exponents 258 weights take
    ten iterations under SGD, no escape from a valley any more, and millions under white noise.
    """
    data = nets.only_labels(nets.load_data("digits"), (1, 3, 8))
    mlp = nets.MLP((10, 6, 3), activation="tanh", weight_decay=3e-3)
    return network("network", mlp, components(data.x_train, mlp.widths[0])[:size], data.y_train[:size])


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Lines over B and 1/lr of SGD and over 1/D of SGLD; figure xie-models.png."""
    n = 240 if quick else 1000
    models = [logistic(150 if quick else 280), digits(120 if quick else 400)]
    checks, lines = [], []
    for k, model in enumerate(models):
        least = float(np.linalg.eigvalsh(model.H)[0])
        checks.append(Check(name=f"{model.name}: least eigenvalue of H at the minimum", measured=least, expected=1e-3,
                            band=(1e-9, np.inf), source="weight decay"))  # fmt: skip
        for j, (axis, points) in enumerate(axes(model).items()):
            line = Line(model, axis, points, n if model.name == "logistic" else n // 2, 1000 * k + 100 * j, progress)
            checks += line.checks()
            lines.append(line)
    figure_of(lines, out / f"{NAME}.png")
    return checks
