"""Discrete SGD on Styblinski-Tang: transition kernel against simulation, sharpness against learning rate, slopes, dimensions.

1. Gaussian noise of covariance |f''|: eigenvalues of the killed kernel, paths of the chain. The rate depends on lr, not on
   lr/B only.
2. (k, lr) on L(sqrt(k) x) and (1, k lr) on L are one chain: bit for bit where sqrt(k) is a power of two, one law otherwise. With
   injected noise instead the rate of the equation is k times as large, exactly.
3. -ln(rate) over 1/lr and B for data noise f(x - xi), xi ~ N(0, 1): true SGD, its Gaussian twin by simulation and kernel, the
   equation, the formula. All are straight lines; their slopes differ by factors, and it is the slopes that are compared.
4. SGLD over 1/D: the slope is the barrier; the excess of the chain over the equation at lr = 1e-3.
5. In n dimensions the rates of the coordinates combine as 1 - (1 - rate)^n.

Six seconds of one core after compilation, the full run eleven.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

import fpsolve as fps

from . import Check

NAME = "xie-discrete-sgd"
GROUP = "xie"
CLAIM = (
    "The escape of discrete SGD is that of its transition kernel; straight lines over B, 1/lr and 1/k have slopes of no formula."
)
STANDING = "derived"
EQUATION = """
theta_(k+1) ~ N(theta_k - lr f'(theta_k), 2 lr kappa |f''(theta_k)|)
r_n = 1 - (1 - r)^n "in" n "dimensions"
"""

Array = NDArray[np.float64]

F = fps.potentials.styblinski_tang()
SADDLE = fps.Region.halfspace([1.0], 0.156731)
#: Learning rate and -ln(1 - rho) at kappa = 0.6, from another program.
LEAPS = ((0.02, 4.388), (0.01, 7.385), (0.005, 11.516))
#: The same at lr = 0.01 over kappa: a straight line over 1/kappa; and at lr = 0.0025, kappa = 0.6.
LINE = ((0.8, 6.102), (0.6, 7.384), (0.5, 8.400), (0.4, 9.917), (0.35, 10.997), (0.3, 12.433), (0.25, 14.436))
SHORT = (0.0025, 15.172)
#: Mean loss and covariance for data of variance 1; minimum and saddle.
SMOOTH, COVARIANCE = "(x**4 - 16*x**2 + 5*x)/2 + 3*x**2", "(6*x**2 - 16)**2 + 12*(6*x**2 - 16) + 60 + 72*x**2"
LOW, TOP = -2.3519, 0.2532
INVERSE = (20, 25, 30, 35, 40)
BATCHES = (1, 2, 3, 4)
#: Slopes of -ln(rate) over 1/lr at B = 1, from another program; that of true SGD with a standard error of 0.0032.
SLOPES = {"true SGD": 0.0746, "kernel": 0.0962, "equation": 0.2709}


def run(quick: bool, out: Path, progress: bool) -> list[Check]:
    """Bands were written down before the run: 3 or 4 standard errors, the per cent asked for; figure xie-discrete-sgd.png."""
    checks = [*_leaps(quick, progress), *_straight(), *_sharpness(quick), *_white(quick, progress), *_dimensions(quick)]
    rows = _over_rate(quick, progress)
    checks += [*_slopes(rows, quick), _over_sharpness(quick), *_over_batch(quick, progress)]
    _figure(rows, out / f"{NAME}.png")
    return checks


def _ratio(name: str, measured: float, expected: float, relative: float, source: str, stderr: float = 0.0) -> Check:
    band = (expected * (1.0 - relative), expected * (1.0 + relative))
    return Check(name=name, measured=measured, stderr=stderr, expected=expected, band=band, source=source)


def _minus_log(rate: fps.Estimate) -> float:
    return -rate.log_value if rate.log_value is not None else -math.log(rate.value)


def _leaps(quick: bool, progress: bool) -> list[Check]:
    """2 % was asked for the eigenvalues; the paths ask the kernel for the mean time from the minimum, 3 errors (3 in 1000)."""
    checks = []
    for i, (lr, expected) in enumerate(LEAPS):
        chain = fps.SGDChain.gaussian(F, fps.Noise.from_expression("0.6*abs(6*x**2 - 16)"), lr)
        kernel = fps.TransitionKernel(chain, fps.Grid((-8.0, 0.2, 240)))
        found = _minus_log(kernel.escape_rate(SADDLE))
        checks.append(_ratio(f"D = 0.6 |f''|, lr {lr:g}: -ln(1 - rho)", found, expected, 0.02, "another program"))
        n = (2000, 1000, 200)[i] * (1 if quick else 5)
        paths = fps.escape_times(chain, [-2.903534], SADDLE, n=n, seed=60 + i, progress=progress).mean()
        tau = kernel.mean_exit_time(SADDLE, at=[-2.903534])
        z = (paths.value - tau.value) / math.hypot(paths.stderr, tau.discretization_error)
        checks.append(Check(name=f"D = 0.6 |f''|, lr {lr:g}: (paths - kernel)/stderr", measured=z, stderr=1.0, expected=0.0,
                            band=(-3.0, 3.0), source="transition kernel"))  # fmt: skip
    return checks


def _straight() -> list[Check]:
    """2 % was asked for the eigenvalues, 1 % for the slope (3.03); the formula allows dL/H_a to dL/|H_b|, 1.138 to 2.483.

    Written after a trial had shown the values within 0.05 %.
    """
    checks, found = [], []
    for kappa, lr, cells, expected in (*((k, 0.01, 240, v) for k, v in LINE), (0.6, SHORT[0], 480, SHORT[1])):
        chain = fps.SGDChain.gaussian(F, fps.Noise.from_expression(f"{kappa}*abs(6*x**2 - 16)"), lr)
        found.append(_minus_log(fps.TransitionKernel(chain, fps.Grid((-8.0, 0.2, cells))).escape_rate(SADDLE)))
        checks.append(_ratio(f"D = {kappa} |f''|, lr {lr:g}: kernel", found[-1], expected, 0.02, "another program"))
    inverse, values = np.array([1.0 / k for k, _ in LINE]), np.array(found[:-1])
    slope, r = float(np.polyfit(inverse, values, 1)[0]), float(np.corrcoef(inverse, values)[0, 1])
    checks.append(_ratio("slope over 1/kappa, outside of the formula's 1.138 to 2.483", slope, 3.03, 0.01, "another program"))
    checks.append(Check(name="correlation over 1/kappa", measured=r, expected=1.0, band=(0.9999, 1.0),
                        source="a straight line, whatever the slope"))  # fmt: skip
    return checks


def _data(size: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=size)


def _true_sgd(r: float, lr: float, batch: int = 1) -> fps.SGDChain:
    """SGD on the losses f(r x - xi) with 20 000 data xi ~ N(0, 1), drawn with replacement."""
    data = _data(20_000, 7)

    def gradients(theta: Array, indices: NDArray[np.int64]) -> Array:
        y = r * theta - data[indices].reshape(len(theta), -1)
        return np.asarray((r * (2.0 * y**3 - 16.0 * y + 2.5)).mean(axis=1, keepdims=True))

    return fps.SGDChain(fps.Ensemble.from_function(gradients, dim=1, size=data.size), lr, batch)


def _exits(r: float, lr: float, n: int, seed: int, batch: int = 1) -> fps.EscapeTimes:
    start, top = LOW / r, fps.Region.halfspace([1.0], TOP / r)
    return fps.escape_times(_true_sgd(r, lr, batch), [start], top, n=n, seed=seed)


def _sharpness(quick: bool) -> list[Check]:
    """k = 4 and 16: not one of the counts may differ. k = 3: other seeds, Kolmogorov-Smirnov at 1e-3."""
    n, checks = 1000 if quick else 10_000, []
    for k in (4, 16):
        sharp, fast = _exits(math.sqrt(k), 0.04 / k, n, 5).times, _exits(1.0, 0.04, n, 5).times
        checks.append(Check(name=f"k = {k}: iteration counts that differ between (k, lr) and (1, k lr)",
                            measured=int(np.sum(sharp != fast)), expected=0, band=(0, 0), source="change of variable"))  # fmt: skip
    p = ks_2samp(_exits(math.sqrt(3.0), 0.04 / 3.0, n, 6).times, _exits(1.0, 0.04, n, 8).times).pvalue
    checks.append(Check(name="k = 3: p of one first-passage law (KS)", measured=float(p), expected=0.5, band=(1e-3, 1.0),
                        source="change of variable"))  # fmt: skip
    logs = []
    for r in (1.0, math.sqrt(3.0)):
        U = fps.Potential.from_expression("((r*x)**4 - 16*(r*x)**2 + 5*r*x)/2", params={"r": r})
        process = fps.Process(U, fps.Noise.isotropic(4.0))
        logs.append(fps.theory.mean_first_passage_1d(process, -2.903534 / r, 2.746803 / r).value)
    return [*checks, _ratio("injected noise: rate(k = 3)/rate(k = 1)", logs[0] / logs[1], 3.0, 1e-6, "change of variable")]


def _twin(lr: float, batch: int = 1) -> fps.SGDChain:
    U, noise = fps.Potential.from_expression(SMOOTH), fps.Noise.from_expression(f"c*({COVARIANCE})", params={"c": lr / (2 * batch)})
    return fps.SGDChain.gaussian(U, noise, lr)


def _kernel(lr: float, batch: int = 1) -> float:
    kernel = fps.TransitionKernel(_twin(lr, batch), fps.Grid((-8.0, 1.0, 240), boundary=[("absorbing", "reflecting")]))
    return _minus_log(kernel.escape_rate(fps.Region.halfspace([1.0], TOP)))


def _estimate(times: fps.EscapeTimes) -> float:
    """-ln of the rate (N - 2)/sum t."""
    return -math.log((len(times.times) - 2) / float(times.times.sum()))


def _over_rate(quick: bool, progress: bool) -> dict[str, Array]:
    """-ln(rate per iteration) over 1/lr."""
    n = 400 if quick else 4000
    top = fps.Region.halfspace([1.0], TOP)
    rows: dict[str, list[float]] = {"true SGD": [], "twin, simulated": [], "kernel": [], "equation": []}
    for i, inverse in enumerate(INVERSE):
        lr, twin = 1.0 / inverse, _twin(1.0 / inverse)
        assert twin.process is not None
        rows["true SGD"].append(_estimate(_exits(1.0, lr, n, 20 + i)))
        rows["twin, simulated"].append(_estimate(fps.escape_times(twin, [LOW], top, n=20 * n, seed=40 + i, progress=progress)))
        rows["kernel"].append(_kernel(lr))
        log = fps.theory.mean_first_passage_1d(twin.process, LOW, TOP, reflecting=-8.0).log_value
        assert log is not None
        rows["equation"].append(log - math.log(lr))
    return {name: np.array(values) for name, values in rows.items()}


def _slope(values: Array, at: tuple[int, ...] = INVERSE) -> float:
    return float(np.polyfit(at, values, 1)[0])


def _slopes(rows: dict[str, Array], quick: bool) -> list[Check]:
    """Values to 1e-2 (kernel); slopes of sampled lines have the standard error 1/sqrt(N Sxx), Sxx = 250."""
    n, x, checks = 400 if quick else 4000, np.array(INVERSE, float), []
    for i, expected in ((0, 2.0525), (1, 2.5436), (4, 3.9797)):
        checks.append(Check(name=f"kernel at 1/lr = {INVERSE[i]}: -ln(rate)", measured=float(rows["kernel"][i]), expected=expected,
                            band=(expected - 0.01, expected + 0.01), source="another program"))  # fmt: skip
    for name in ("true SGD", "kernel", "equation"):
        error = 1.0 / math.sqrt(n * 250.0) if name == "true SGD" else 0.0
        # sampled here and there: 4 joint standard errors; else the last digit
        width = 4.0 * math.hypot(error, 0.0032) if error else 2e-4
        found = _slope(rows[name])
        checks.append(Check(name=f"slope over 1/lr: {name}", measured=found, stderr=error, expected=SLOPES[name],
                            band=(SLOPES[name] - width, SLOPES[name] + width), source="another program"))  # fmt: skip
        r = float(np.corrcoef(x, rows[name])[0, 1])
        checks.append(Check(name=f"correlation over 1/lr: {name}", measured=r, expected=1.0, band=(0.99, 1.0),
                            source="a straight line, whatever the slope"))  # fmt: skip
    kernel = _slope(rows["kernel"])
    checks.append(_ratio("slope over 1/lr: twin simulated / kernel", _slope(rows["twin, simulated"]) / kernel, 1.0, 0.1, "kernel",
                         1.0 / math.sqrt(20 * n * 250.0) / kernel))  # fmt: skip
    U = fps.Potential.from_expression(SMOOTH)
    logs = [-_minus_log(fps.theory.sgd_escape_time(U, [LOW], [TOP], lr=0.04, batch=b, s=1.0)) for b in (1.0, 2.0)]
    least = (logs[1] - logs[0]) * 0.04  # 2 dL/H_a, the least slope over B/lr for any s: C = H
    checks.append(Check(name="formula with C = H: least slope / that of true SGD", measured=least / _slope(rows["true SGD"]),
                        expected=2.0 * 18.553 / 23.19 / 0.0746, band=(10.0, math.inf), source="2 dL/H_a"))  # fmt: skip
    return checks


def _over_sharpness(quick: bool) -> Check:
    """The plot over 1/k at lr = 1/20 is that over 1/lr, 20 times as steep, with seeds of its own: 4 joint standard errors."""
    n = 400 if quick else 4000
    values = [_estimate(_exits(math.sqrt(20.0 / inverse), 0.05, n, 120 + i)) for i, inverse in enumerate(INVERSE)]
    slope, expected = 20.0 * _slope(np.array(values)), 20.0 * SLOPES["true SGD"]
    error = 20.0 / math.sqrt(n * 250.0)
    width = 4.0 * math.hypot(error, 20.0 * 0.0032)
    return Check(name="true SGD: slope over 1/k at lr 0.05", measured=slope, stderr=error, expected=expected,
                 band=(expected - width, expected + width), source="another program, over 1/lr")  # fmt: skip


def _over_batch(quick: bool, progress: bool) -> list[Check]:
    """lr = 0.04: sampled values of another program with 400 runs, so four joint standard errors; its slope 0.730 likewise."""
    n = 400 if quick else 4000
    expected = (2.452, 3.271, 3.975, 4.650)
    width = 4.0 * math.sqrt(1.0 / n + 1.0 / 400.0)
    found = np.array([_estimate(_exits(1.0, 0.04, n, 80 + b, b)) for b in BATCHES])
    checks = [
        Check(name=f"true SGD, lr 0.04, B = {b}: -ln(rate)", measured=float(m), stderr=1 / math.sqrt(n), expected=e,
              band=(e - width, e + width), source="another program")
        for b, m, e in zip(BATCHES, found, expected, strict=True)
    ]  # fmt: skip
    slope, spread = _slope(found, BATCHES), width / math.sqrt(5.0)
    kernel = _slope(np.array([_kernel(0.04, b) for b in BATCHES]), BATCHES)
    checks.append(Check(name="true SGD: slope over B at lr 0.04", measured=slope, stderr=1 / math.sqrt(5 * n), expected=0.730,
                        band=(0.730 - spread, 0.730 + spread), source="another program"))  # fmt: skip
    top = fps.Region.halfspace([1.0], TOP)
    twins = [_estimate(fps.escape_times(_twin(0.04, b), [LOW], top, n=20 * n, seed=90 + b, progress=progress)) for b in BATCHES]
    checks.append(_ratio("twin: simulated slope over B / kernel", _slope(np.array(twins), BATCHES) / kernel, 1.0, 0.1, "kernel"))
    # 2 Phi/lr of the equation, eight times that of true SGD
    checks.append(Check(name="equation, 2 Phi/lr / slope of true SGD over B", measured=2 * 0.121188 / 0.04 / slope, expected=8.3,
                        band=(6.0, 11.0), source="another program"))  # fmt: skip
    return checks


def _white(quick: bool, progress: bool) -> list[Check]:
    """Slope over 1/D within 3 % of the barrier (asked for), and the chain at D = 8: 3 standard errors, 0.5 % for the kernel."""
    barrier, checks = 39.361778, []
    inverse = np.array([6.0, 8.0, 10.0, 12.0]) / barrier
    logs = [
        fps.theory.mean_first_passage_1d(fps.Process(F, fps.Noise.isotropic(1.0 / x)), -2.903534, 0.156731).log_value
        for x in inverse
    ]
    checks.append(
        _ratio("SGLD: slope of ln T over 1/D", float(np.polyfit(inverse, np.array(logs, float), 1)[0]), barrier, 0.03, "dL")
    )
    noise = fps.Noise.isotropic(8.0)
    process, chain = fps.Process(F, noise), fps.SGDChain.gaussian(F, noise, 1e-3)
    exact = fps.theory.mean_first_passage_1d(process, -2.903534, 0.156731).value
    checks.append(_ratio("SGLD, D = 8: time to the saddle", exact, 19.911, 3e-5, "another program"))
    half = 1.0 / fps.theory.kramers_rate(process, [-2.903534], [0.156731], exit="saddle").value
    checks.append(_ratio("SGLD, D = 8: half of Kramers' time", half, 18.386, 3e-5, "another program"))
    kernel = fps.TransitionKernel(chain, fps.Grid((-5.5, 0.2, 240))).mean_exit_time(SADDLE, at=[-2.903534])
    # from the quasi-stationary law, whose start is nearer to the exit than the minimum (21.406 from there)
    rate = fps.TransitionKernel(chain, fps.Grid((-5.5, 0.2, 240))).escape_rate(SADDLE).per_time()
    checks.append(_ratio("SGLD, D = 8, lr 1e-3: kernel, 1/(1 - rho)", 1.0 / rate.value, 21.299, 0.005, "another program"))
    n = 1000 if quick else 10_000
    paths = fps.escape_times(chain, [-2.903534], SADDLE, n=n, seed=99, progress=progress).mean()
    checks.append(Check(name="SGLD, D = 8, lr 1e-3: paths - kernel in standard errors",
                        measured=(paths.value - kernel.value) / paths.stderr, stderr=1.0, expected=0.0, band=(-3.0, 3.0),
                        source="transition kernel"))  # fmt: skip
    return checks


def _dimensions(quick: bool) -> list[Check]:
    """True SGD at lr = 0.02: 25 % at 300 runs was asked for, of what one dimension predicts."""
    n, data = 300 if quick else 3000, _data(200_000, 11).reshape(-1, 10)
    rates = {}
    for d in (1, 2, 5, 10):

        def gradients(theta: Array, indices: NDArray[np.int64], d: int = d) -> Array:
            y = theta - data[indices[:, 0], :d]
            return np.asarray(2.0 * y**3 - 16.0 * y + 2.5)

        chain = fps.SGDChain(fps.Ensemble.from_function(gradients, dim=d, size=len(data)), 0.02, 1)
        box = fps.Region.box([-1e3] * d, [TOP] * d)
        times = fps.escape_times(chain, [LOW] * d, box, n=n * (4 if d == 1 else 1), seed=70 + d).times
        rates[d] = (times.size - 2) / float(times.sum())
    checks = [_ratio("one dimension, lr 0.02: rate", rates[1], 0.01508, 0.25, "another program", rates[1] / math.sqrt(4 * n))]
    for d in (2, 5, 10):
        expected = 1.0 - (1.0 - rates[1]) ** d
        checks.append(_ratio(f"{d} dimensions: rate", rates[d], expected, 0.25, "1 - (1 - rate)^n", rates[d] / math.sqrt(n)))
    return checks


def _figure(rows: dict[str, Array], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.0), layout="constrained")
    ax = figure.subplots()
    for marker, (name, values) in zip("osd^", rows.items(), strict=True):
        ax.plot(INVERSE, values, marker + "-", ms=4, mfc="none", label=f"{name}: slope {_slope(values):.3f}")
    ax.set(xlabel="1/lr", ylabel="-ln(rate per iteration)", title="straight lines of four slopes (data noise, B = 1)")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=120)
