"""Text, figures and file of the demo."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import fpsolve as fps

from .demo import FLAT, LEADING, MIN_EFFECTIVE, Report
from .run import Run


def text(report: Report) -> str:
    """The report as it appears in the terminal."""
    return "\n\n".join([str(prediction_table(report)), str(engine_table(report)), str(control_table(report)), _summary(report)])


def prediction_table(report: Report) -> fps.Table:
    """Measured against predicted variance in the leading directions."""
    m, (theory, error) = report.measured, report.theory
    rows = [
        (
            i + 1,
            f"{report.eigenvalues[i]:.4f}",
            f"{m.value[i]:.4e}",
            f"{m.stderr[i] / m.value[i]:.2%}",
            f"{m.effective[i]:.0f}",
            f"{theory[i]:.4e}",
            f"{error[i] / theory[i]:.2%}",
            f"{report.ratio[i]:.4f}",
            f"{report.z[i]:+.2f}",
            report.verdicts[i],
        )
        for i in range(LEADING)
    ]
    columns = ("direction", "curvature", "measured", "error", "n_eff", "theory", "error", "ratio", "z", "verdict")
    return fps.Table(
        "Variance of the real weights against the exact discrete-time theory",
        columns,
        tuple(rows),
        notes=(
            "measured: every step of the long run, errors by blocks of time; theory: H S + S H - lr H S H = lr C/B",
            "with H and C averaged along the pilot run, errors by jackknife over its snapshots",
            f"DIFFERS: |z| > {report.critical_z:.2f} (false alarm in one of {LEADING}: 1 %), or significantly beyond 5 %;",
            f"undecided: fewer than {MIN_EFFECTIVE} effective samples, or an error above a third of the 5 %",
        ),
    )


def engine_table(report: Report) -> fps.Table:
    """The engines against the theory: they share H and C, so they check each other, not the network."""
    theory, lr, rows = report.theory[0], report.settings.lr, []
    for i in range(LEADING):
        x = lr * report.tensors.hessian[i, i]
        factor, refined = 1.0 - x / 2, (1.0 - x / 2) / (1.0 - x / 8)
        cells = [f"{v[i] / theory[i]:.4f}" if np.isfinite(v[i]) else "-" for v, _ in report.engines.values()]
        rows.append((i + 1, cells[0], cells[1], f"{refined:.4f}", cells[2], f"{factor:.4f}"))
    columns = ("direction", "chain", "Langevin (dt = lr/4)", "expected", "Fokker-Planck", "expected: 1 - lr*curvature/2")
    error = np.sqrt(2.0 / report.settings.paths)
    return fps.Table(
        "The same H and C in the three engines, as ratio to the theory",
        columns,
        tuple(rows),
        notes=(
            f"chain and Langevin from {report.settings.paths} paths: standard error {error:.2%}",
            "the predictions share H and C: they check each other; the network alone checks H and C",
        ),
    )


def control_table(report: Report) -> fps.Table:
    """Shuffled epochs: white noise fails, zero-sum noise predicts."""
    rows = []
    for i in range(LEADING, LEADING + FLAT):
        white, value = report.theory[0][i], report.control.value[i]
        rows.append(
            (
                i + 1,
                f"{report.eigenvalues[i]:.4f}",
                f"{value:.4e}",
                f"{report.control.stderr[i] / value:.2%}",
                f"{value / white:.4f}",
                f"{report.control_theory[0][i] / white:.4f}",
                f"{report.control_ratio[i]:.4f}",
            )
        )
    columns = ("direction", "curvature", "measured", "error", "measured/white", "zero-sum/white", "measured/zero-sum")
    return fps.Table(
        "Control: the same job with shuffled epochs, in flat directions",
        columns,
        tuple(rows),
        notes=(
            "zero-sum: batches of one epoch sum to the full gradient, so their noise cancels in flat directions;",
            "first order: gradients that change within the epoch are left out",
        ),
    )


def _summary(report: Report) -> str:
    d = report.dissipation
    words = {True: "held", False: "FAILED", None: "undecided"}
    lines = [
        f"Yaida: <theta.grad L> = {d.left.value:.5e} +- {d.left.stderr:.1e}, "
        f"(lr/2)<|g|^2> = {d.right.value:.5e} +- {d.right.stderr:.1e}, "
        f"z = {d.z:+.2f}; halves of the run: largest |z| {np.max(np.abs(report.measured.halves[:LEADING])):.2f}",
        f"largest deviation {np.max(np.abs(report.ratio[:LEADING] - 1)):.1%}, largest |z| {np.max(np.abs(report.z[:LEADING])):.2f}",
        *(f"{words[held]:<10} {sentence}" for sentence, held in report.checks.items()),
    ]
    if None in report.checks.values():
        lines.append("undecided: too few samples for a verdict; run longer")
    return "\n".join(lines)


def figures(report: Report, runs: dict[str, Run], folder: Path) -> list[Path]:
    """training.png, densities.png, variances.png"""
    from matplotlib.figure import Figure

    made = []
    for name, draw, size in (
        ("training", _training, (9.6, 3.4)),
        ("densities", _densities, (5.6, 4.8)),
        ("variances", _variances, (9.6, 4.0)),
    ):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, report, runs)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=120)
        made.append(path)
    return made


def _training(figure: Any, report: Report, runs: dict[str, Run]) -> None:
    left, right = figure.subplots(1, 2)
    for name, label in (("first", "training"), ("burn-in", "burn-in"), ("pilot", "pilot run"), ("long", "long run")):
        losses = runs[name].losses
        shown = losses["step"] > 0  # a logarithmic axis has no zero
        left.plot(losses["step"][shown], losses["train_loss"][shown], lw=0.7, label=label)
        right.plot(losses["step"][shown], losses["train_error"][shown], lw=0.7)
    left.set(xscale="log", yscale="log", xlabel="iteration", ylabel="loss, weight decay included", title="loss")
    right.set(xscale="log", yscale="log", xlabel="iteration", ylabel="training error", title="fraction misclassified")
    left.legend(frameon=False, fontsize="small")


def _densities(figure: Any, report: Report, runs: dict[str, Run]) -> None:
    ax, y, (x1, x2) = figure.subplots(), runs["long"].projections["value"], report.density.grid.centers
    window = [(0.6 * x[0], 0.6 * x[-1]) for x in (x1, x2)]  # the grid reaches six standard deviations
    ax.hist2d(y[:, 0], y[:, 1], bins=72, range=window, density=True, cmap="Blues")
    levels = report.density.values.max() * np.exp(-0.5 * np.array([3.0, 2.0, 1.0]) ** 2)
    ax.contour(x1, x2, report.density.values.T, levels=levels, colors="C3", linewidths=1.2)
    ax.set(xlim=window[0], ylim=window[1], xlabel="$y_1$ (stiffest direction)", ylabel="$y_2$")
    ax.set_title("network (blue), Fokker-Planck at 1, 2, 3 sigma", fontsize="medium")


def _variances(figure: Any, report: Report, runs: dict[str, Run]) -> None:
    left, right = figure.subplots(1, 2)
    lead = slice(0, LEADING)
    predictions = {
        "discrete theory": report.theory[0][lead],
        "Gaussian chain": report.engines["chain"][0],
        "continuous time (OU)": report.theory[0][lead] * (1.0 - 0.5 * report.settings.lr * report.eigenvalues[lead]),
    }
    fps.plotting.plot_comparison(report.measured.value[lead], predictions, errors=report.measured.stderr[lead], ratio=True, ax=left)
    left.set_title("20 leading directions, with replacement")
    white = report.theory[0]
    right.errorbar(
        report.eigenvalues, report.control.value / white, report.control.stderr / white, fmt=".", label="shuffled epochs, measured"
    )
    right.plot(report.eigenvalues, report.control_theory[0] / white, "-", label="zero-sum noise, predicted")
    right.errorbar(
        report.eigenvalues,
        report.measured.value / white,
        report.measured.stderr / white,
        fmt=".",
        label="with replacement, measured",
    )
    right.axhline(1.0, color="0.6", lw=0.8)
    right.set(xscale="log", yscale="log", xlabel="curvature", ylabel="variance / white-noise prediction", title="the control")
    right.legend(frameon=False, fontsize="small")


def save(report: Report, runs: dict[str, Run], path: Path, seconds: float) -> Path:
    """One HDF5 file with settings, tensors, measurements and predictions; see `fps.io.load_tree`."""
    s, run = report.settings, runs["long"]
    tree = {
        "settings": {k: v for k, v in dataclasses.asdict(s).items() if v is not None},
        "directions": {"basis": report.tensors.basis, "eigenvalues": report.eigenvalues, "center": run.moments["center"]},
        "tensors": {
            "hessian": report.tensors.hessian,
            "covariance": report.tensors.covariance,
            "snapshots": len(report.tensors.hessians),
        },
        "measured": dataclasses.asdict(report.measured)
        | {
            "covariance": run.moments["covariance"],
            "projections": run.projections["value"],
            "projection_steps": run.projections["step"],
        },
        "weights": {"value": run.weights["value"], "step": run.weights["step"]},
        "losses": {name: dict(r.losses) for name, r in runs.items()},
        "theory": {"value": report.theory[0], "stderr": report.theory[1]},
        "engines": {name: {"value": v, "stderr": e} for name, (v, e) in report.engines.items()},
        "fokker_planck_density": report.density,
        "control": dataclasses.asdict(report.control)
        | {"theory": report.control_theory[0], "theory_stderr": report.control_theory[1]},
        "verdict": {"ratio": report.ratio, "z": report.z, "words": report.verdicts, "passed": report.passed},
    }
    fps.io.save_tree(
        path,
        tree,
        {"kind": "demo"},
        record=fps.io.provenance(seed=s.seed, wall_time=seconds, **{k: v for k, v in dataclasses.asdict(s).items() if k != "seed"}),
    )
    return path
