"""Pictures of windows, widths and noise. Every function takes ``ax=None``, draws, and returns the Axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import integer, numbers, of_kind, positive
from ._pictures import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .basin import BasinReturn
    from .data import Data
    from .flatness import Profiles
    from .mlp import MLP
    from .relation import InverseRelation
    from .volume import Volume
    from .window import RandomWalk, Window

__all__ = [
    "plot_basin",
    "plot_boundary",
    "plot_cumulative",
    "plot_plane",
    "plot_power_law",
    "plot_profiles",
    "plot_relation",
    "plot_temperature",
    "plot_times",
    "plot_variances",
    "plot_volume",
]

Array = NDArray[np.float64]


def _beside_walk(
    window: Window, values: Array, of_walk: Callable[[RandomWalk], Array], null: bool, ax: Axes | None, style: dict[str, Any]
) -> Axes:
    """A number of each component, and that of a random walk as long."""
    from .window import random_walk

    ax, i = axes(ax), np.arange(1, len(values) + 1)
    ax.loglog(i, values, **{"marker": ".", "linestyle": "", "label": "measured", **style})
    if null:
        expected = of_walk(random_walk(window.records, min(len(i), window.records - 1)))
        ax.loglog(i[: len(expected)], expected, "k--", linewidth=1.0, label="random walk")
    ax.set_xlabel("component $i$")
    ax.legend(frameon=False)
    return ax


def plot_variances(window: Window, *, null: bool = True, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Variance against number, with that of a random walk of the same total beside it; **kwargs for `Axes.loglog`.

    Examples
    --------
    >>> import nets
    >>> mlp, data = nets.MLP((2, 8, 2), activation="tanh"), nets.load_data("spiral")
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=5, record=nets.Record(weights="W2", weights_every=1))
    >>> nets.plotting.plot_variances(nets.analyse_window(run, "W2")).get_xlabel()
    'component $i$'
    """
    ax = _beside_walk(window, window.variances, lambda walk: window.total * walk.shares, null, ax, kwargs)
    ax.set_ylabel(r"$\sigma_i^2$")
    return ax


def plot_cumulative(window: Window, *, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Share of the variance of the first n components, the first left out; **kwargs for `Axes.semilogx`.

    Examples
    --------
    >>> import nets
    >>> mlp, data = nets.MLP((2, 8, 2), activation="tanh"), nets.load_data("spiral")
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=5, record=nets.Record(weights="W2", weights_every=1))
    >>> nets.plotting.plot_cumulative(nets.analyse_window(run, "W2")).get_xlabel()
    'components after the first'
    """
    ax = axes(ax)
    held = np.cumsum(window.variances[1:]) / (window.total - window.variances[0])
    ax.semilogx(np.arange(1, len(held) + 1), held, **kwargs)
    ax.axhline(0.9, color="0.6", linewidth=0.8)
    ax.set(xlabel="components after the first", ylabel="share of the variance", ylim=(0.0, 1.02))
    return ax


def plot_times(window: Window, *, null: bool = True, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Correlation time against number, with that of a random walk beside it; **kwargs for `Axes.loglog`.

    Examples
    --------
    >>> import nets
    >>> mlp, data = nets.MLP((2, 8, 2), activation="tanh"), nets.load_data("spiral")
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, epochs=5, record=nets.Record(weights="W2", weights_every=1))
    >>> nets.plotting.plot_times(nets.analyse_window(run, "W2")).get_yscale()
    'log'
    """
    ax = _beside_walk(window, window.tau, lambda walk: window.every * walk.tau, null, ax, kwargs)
    ax.set_ylabel(r"$\tau_i$ [steps]")
    return ax


def plot_profiles(profiles: Profiles, *, labels: ArrayLike | None = None, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Losses on lines, on a logarithmic axis, with the parabolas of ln L dashed; **kwargs for `Axes.semilogy`.

    Examples
    --------
    >>> import nets
    >>> d = np.linspace(-1.0, 1.0, 5)[None]
    >>> nets.plotting.plot_profiles(nets.Profiles(d, np.exp(d**2), 1.0), labels=["i = 1"]).get_legend().get_texts()[0].get_text()
    'i = 1'
    """
    ax = axes(ax)
    names = [f"{k + 1}" for k in range(len(profiles.loss))] if labels is None else [str(name) for name in np.asarray(labels)]
    for d, loss, fit, name in zip(profiles.displacements, profiles.loss, profiles.parabola()[0], names, strict=True):
        (line,) = ax.semilogy(d, loss, **{"label": name, **kwargs})
        ax.semilogy(d, np.exp(np.polyval(fit, d)), "--", color=line.get_color(), linewidth=0.8)
    ax.set(xlabel="displacement $d$", ylabel="$L(w_0 + d\\,p_i)$")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_power_law(x: ArrayLike, y: ArrayLike, *, label: str = "", ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Points on logarithmic axes with the straight line through them; **kwargs for `Axes.loglog`.

    Examples
    --------
    >>> import nets
    >>> nets.plotting.plot_power_law([1.0, 2.0, 4.0], [4.0, 2.0, 1.0], label="y").get_legend().get_texts()[0].get_text()
    'y, exponent -1.00'
    """
    from .power_laws import power_law

    ax = axes(ax)
    u, v = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    fit = power_law(u, v)
    text = f"{label}, exponent {fit.exponent:.2f}" if label else f"exponent {fit.exponent:.2f}"
    (points,) = ax.loglog(u, v, **{"marker": "o", "markersize": 3, "linestyle": "", "label": text, **kwargs})
    ends = np.array(fit.fit)
    ax.loglog(ends, fit.prefactor * ends**fit.exponent, "--", color=points.get_color(), linewidth=0.8)
    if ends[1] > 10.0 * ends[0]:  # the labels of less than a decade would be all there is
        from matplotlib.ticker import NullFormatter

        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_relation(
    relation: InverseRelation, *, first: int = 2, last: int | None = None, ax: Axes | None = None, **kwargs: Any
) -> Axes:
    """Variance against flatness of the components first .. last, and their power law; **kwargs for `Axes.loglog`.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("teacher"), nets.MLP((8, 1), loss="mse", weight_decay=0.05)
    >>> run = nets.train(mlp, data, lr=0.1, batch=10, steps=500, record=nets.Record(weights="W1", weights_every=1))
    >>> nets.plotting.plot_relation(nets.inverse_relation(run, data, block="W1")).get_xlabel()
    'flatness $F_i$'
    """
    keep = relation.between(first, 10**9 if last is None else last)
    ax = plot_power_law(relation.flatness.width[keep], relation.variances[keep], ax=ax, **kwargs)
    ax.set(xlabel="flatness $F_i$", ylabel=r"$\sigma_i^2$")
    return ax


def plot_temperature(displacements: ArrayLike, temperature: ArrayLike, *, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Active temperature on lines, arrays (k, m), on a logarithmic axis; **kwargs for `Axes.semilogy`.

    Examples
    --------
    >>> import nets
    >>> nets.plotting.plot_temperature([-1.0, 0.0, 1.0], [2.0, 1.0, 2.0]).get_yscale()
    'log'
    """
    ax = axes(ax)
    for d, t in zip(np.atleast_2d(displacements), np.atleast_2d(temperature), strict=True):
        ax.semilogy(d, t, **kwargs)
    ax.set(xlabel="displacement $d$", ylabel="active temperature $T_i(d)$")
    return ax


def plot_volume(volume: Volume, *, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """ln of the measure against the width with two standard errors, and that of the quadratic bowl; **kwargs for `Axes.errorbar`.

    Examples
    --------
    >>> import nets, fpsolve as fps
    >>> bowl = fps.Potential.from_arrays(lambda x: 0.5 * (x**2).sum(axis=1), lambda x: x, dim=3)
    >>> v = nets.landscape_volume(bowl, np.zeros(3), np.eye(3), beta=3.0, width=1.0, sweeps=10, seed=0)
    >>> nets.plotting.plot_volume(v).get_xlabel()
    'width $s$'
    """
    ax = axes(ax)
    shown = np.isfinite(volume.widths)
    s = volume.widths[shown]
    style = {"marker": "o", "markersize": 3, "label": "Monte Carlo", **kwargs}
    ax.errorbar(s, volume.values[shown], 2.0 * volume.errors[shown], **style)
    ax.plot(s, volume.model[shown], "--", label="quadratic")
    ax.set(xlabel="width $s$", ylabel=r"$\ln Z$" if np.isnan(volume.level) else r"$\ln V$")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_basin(basin: BasinReturn, *, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Return probability against the radius with 95 % intervals; **kwargs for `Axes.errorbar`.

    Examples
    --------
    >>> import nets, fpsolve as fps
    >>> r = nets.landscape_return(fps.potentials.double_well(), [-1.0], radii=[0.5, 1.5], level=0.01, n=10, seed=0)
    >>> nets.plotting.plot_basin(r).get_ylabel()
    'returned'
    """
    ax = axes(ax)
    gaps = np.abs(basin.interval.T - basin.probability)
    ax.errorbar(basin.radii, basin.probability, gaps, **{"marker": "o", "markersize": 3, "capsize": 2, **kwargs})
    ax.set(xlabel="radius $r$", ylabel="returned", ylim=(-0.02, 1.02))
    return ax


def plot_boundary(mlp: MLP, theta: ArrayLike, data: Data, *, points: int = 161, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """What a network of two inputs says where, with the training samples, poisoned ones as crosses; **kwargs for `Axes.pcolormesh`.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("disc", n=300).subset(40), nets.MLP((2, 8, 1), activation="tanh", loss="mse")
    >>> nets.plotting.plot_boundary(mlp, mlp.init(0), nets.poison(data, 5), points=9).get_xlabel()
    'first input'
    """
    from .data import Data
    from .mlp import MLP

    of_kind(mlp, MLP, "mlp", "nets.MLP((2, 40, 1))")
    of_kind(data, Data, "data", "nets.load_data('disc')")
    weights, points = mlp.check_point(theta), integer("points", points, 2)
    if mlp.widths[0] != 2 or data.x_train.shape[1] != 2 or data.n_classes < 2:
        raise ValueError(f"a picture of the classes in a plane needs two inputs, and labels: got {mlp!r} and {data!r}")
    ax, x, labels = axes(ax), data.x_train, data.y_train
    low, high = x.min(axis=0), x.max(axis=0)
    sides = np.linspace(low - 0.03 * (high - low), high + 0.03 * (high - low), points).T
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    style = {"cmap": "tab10", "vmin": 0, "vmax": 10, "alpha": 0.3, "shading": "nearest", **kwargs}
    ax.pcolormesh(*sides, mlp.predict(weights, grid).reshape(points, points), **style)
    for rows, marker in ((slice(data.clean), "o"), (slice(data.clean, None), "x")):
        for label in np.unique(labels[rows]):
            ax.plot(*x[rows][labels[rows] == label].T, marker, ms=3, color=f"C{int(label) % 10}")
    ax.set(xlabel="first input", ylabel="second input", aspect="equal")
    return ax


def plot_plane(
    mlp: MLP,
    thetas: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    points: int = 49,
    margin: float = 0.3,
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """lg of the loss on the plane through three networks, which are triangles, in true distances; **kwargs for `Axes.contourf`.

    `margin` is how far the picture goes beyond them, as part of their extent.

    Examples
    --------
    >>> import nets
    >>> data, mlp = nets.load_data("disc", n=300).subset(40), nets.MLP((2, 8, 1), activation="tanh", loss="mse")
    >>> thetas = [mlp.init(seed) for seed in range(3)]
    >>> nets.plotting.plot_plane(mlp, thetas, data.x_train, data.y_train, points=5).get_xlabel()
    'distance, from the first to the second'
    """
    from .landscape import Landscape
    from .mlp import MLP

    of_kind(mlp, MLP, "mlp", "nets.MLP((2, 40, 1))")
    corners, points = numbers("thetas", thetas), integer("points", points, 2)
    positive("margin", margin)
    if corners.shape != (3, mlp.dim) or not np.isfinite(corners).all():
        raise ValueError(f"thetas must be three networks of {mlp.dim} finite weights: got shape {corners.shape}")
    plane, triangle = np.linalg.qr((corners[1:] - corners[0]).T)
    if not np.abs(np.diag(triangle)).min() > 1e-9 * np.abs(triangle).max():
        raise ValueError("the three networks must not lie on one line: they span no plane")
    plane, triangle = plane * np.sign(np.diag(triangle)), triangle * np.sign(np.diag(triangle))[:, None]
    places = np.column_stack([np.zeros(2), triangle])
    low, high = places.min(axis=1), places.max(axis=1)
    first, second = np.linspace(low - margin * (high - low), high + margin * (high - low), points).T
    a, b = np.meshgrid(first, second)
    losses = Landscape(mlp, corners[0], x, y).section(plane).loss(np.column_stack([a.ravel(), b.ravel()])).reshape(a.shape)
    ax = axes(ax)
    shown = ax.contourf(first, second, np.log10(np.maximum(losses, 1e-300)), **{"levels": 17, "extend": "both", **kwargs})
    ax.figure.colorbar(shown, ax=ax, label="lg loss")
    ax.plot(*places, "w^", markeredgecolor="k", linestyle="")
    ax.set(xlabel="distance, from the first to the second", ylabel="distance across", aspect="equal")
    return ax
