"""Speed of the instrumented network on one core, beside plain NumPy, torch where there is one, and the products of the machine.

    python bench/speed_of_networks.py [ROUNDS] [--json FILE]

Every round runs every case once, in turn, so that what else the machine does hits all of them alike; times are processor seconds
of one thread, medians over the rounds with their range. A NumPy way that would take minutes is run on a part of the work, and its
time multiplied; so are the steps of others. "of gemm" is the rate of the multiplications that cannot be avoided, over that of a
square product of 1500 of the same precision in the same round. MNIST is read from FPSOLVE_DATA; without it random numbers of its
shapes are taken.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
from _rows import OURS, Row, arguments, save
from scipy.sparse.linalg import LinearOperator, eigsh

import fpsolve as fps
import nets
from nets._kernels import draw, seed_rng
from nets._threads import single_threaded_blas

BATCH, RATE, STEPS, MODES = 50, 0.1, 10_000, 20
MLP = nets.MLP((784, 50, 50, 10))


def samples() -> nets.Data:
    """MNIST, or random numbers of its shape."""
    try:
        return nets.load_data("mnist")
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        x = rng.random((70_000, 784)) * (rng.random((70_000, 784)) < 0.2)
        y = rng.integers(0, 10, 70_000)
        return nets.Data(x[:60_000], y[:60_000], x[60_000:], y[60_000:], "random", n_classes=10)


def seconds(run: Callable[[], object]) -> float:
    """Processor seconds of this thread."""
    begin = time.thread_time()
    run()
    return time.thread_time() - begin


class Training:
    """Steps of SGD with the second layer's weights recorded at each, from the same weights over the same batches in every way."""

    def __init__(self, data: nets.Data, precision: str) -> None:
        self.data, self.precision = data, precision
        self.dtype = np.dtype(np.float64 if precision == "double" else np.float32)

    def ours(self, n: int) -> np.ndarray:
        record = nets.Record(weights="W2", weights_every=1, losses_every=10**9, max_bytes=10**9)
        return nets.train(MLP, self.data, lr=RATE, batch=BATCH, steps=n, precision=self.precision, record=record).weights["value"]

    def start(self) -> dict[str, np.ndarray]:
        """The weights at first, as `nets.train` takes them."""
        return {name: array.astype(self.dtype) for name, array in MLP.unpack(MLP.init(0)).items()}

    def batches(self, n: int) -> np.ndarray:
        """The samples of the first n batches of `nets.train`, (n, BATCH)."""
        rng, order, out = np.empty(4, np.uint64), np.arange(len(self.data.x_train)), np.empty((n, BATCH), np.int64)
        seed_rng(np.uint64(0), rng)
        cursor = np.array([order.size, 0])
        for row in out:
            draw(rng, order, cursor, False, row)
        return out

    def by_numpy(self, n: int) -> Callable[[], np.ndarray]:
        """The same steps in NumPy, the weights copied at each."""
        x, y, batches = self.data.x_train.astype(self.dtype, copy=False), self.data.y_train, self.batches(n)

        def loop() -> np.ndarray:
            parts, kept = self.start(), np.empty((n, 2500), self.dtype)
            for s, i in enumerate(batches):
                gradients = by_hand(parts, x[i], y[i])
                for name, g in gradients.items():
                    parts[name] -= self.dtype.type(RATE) * g
                kept[s] = parts["W2"].ravel()
            return kept

        return loop

    def by_torch(self, n: int) -> Callable[[], np.ndarray]:
        """The same steps with torch's tensors, written by hand: no automatic derivatives, nothing allocated for them."""
        import torch

        torch.set_num_threads(1)
        x, y = torch.from_numpy(self.data.x_train.astype(self.dtype)), torch.from_numpy(self.data.y_train.astype(np.int64))
        batches, rows = torch.from_numpy(self.batches(n)), torch.arange(BATCH)

        def loop() -> np.ndarray:
            parts = {name: torch.from_numpy(array) for name, array in self.start().items()}
            kept = torch.empty((n, 2500), dtype=x.dtype)
            for s, i in enumerate(batches):
                a = [x[i]]
                for k in (1, 2, 3):
                    z = torch.addmm(parts[f"b{k}"], a[-1], parts[f"W{k}"])
                    a.append(z.relu_() if k < 3 else z)
                d = torch.softmax(a[3], 1)
                d[rows, y[i]] -= 1
                d /= BATCH
                for k in (3, 2, 1):
                    below = (d @ parts[f"W{k}"].T) * (a[k - 1] > 0) if k > 1 else d
                    parts[f"W{k}"].addmm_(a[k - 1].T, d, alpha=-RATE)
                    parts[f"b{k}"].sub_(d.sum(0), alpha=RATE)
                    d = below
                kept[s] = parts["W2"].ravel()
            return kept.numpy()

        return torch.no_grad()(loop)

    def products(self, times: int = 300) -> float:
        """Seconds of the two products of the first layer alone, 90 % of the work, as often as the steps need them."""
        rng = np.random.default_rng(0)
        x, w, d = (rng.random(shape).astype(self.dtype) for shape in ((BATCH, 784), (784, 50), (BATCH, 50)))
        out, g = np.empty((BATCH, 50), self.dtype), np.empty((784, 50), self.dtype)

        def loop() -> None:
            for _ in range(times):
                np.matmul(x, w, out=out)
                np.matmul(x.T, d, out=g)

        return seconds(loop) * STEPS / times


def by_hand(
    parts: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, active: dict[int, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Gradients of the mean cross-entropy of relu layers, written out; in the precision of what is given.

    With `active` those units let through what comes, and no others, whatever their inputs.
    """
    a, out = [x], {}
    for k in (1, 2, 3):
        z = a[-1] @ parts[f"W{k}"] + parts[f"b{k}"]
        a.append(z if k == 3 else np.maximum(z, 0) if active is None else z * active[k])
    d = np.exp(a[3] - a[3].max(1, keepdims=True))
    d /= d.sum(1, keepdims=True)
    d[np.arange(len(x)), y] -= 1
    d /= len(x)
    for k in (3, 2, 1):
        out[f"W{k}"], out[f"b{k}"] = a[k - 1].T @ d, d.sum(0)
        d = (d @ parts[f"W{k}"].T) * (a[k - 1] > 0 if active is None else active[k - 1]) if k > 1 else d
    return out


def trained(data: nets.Data) -> np.ndarray:
    """Weights after two epochs, where curvature and noise are measured."""
    quiet = nets.Record(weights=None, losses_every=10**6)
    return nets.train(MLP, data, lr=RATE, batch=BATCH, epochs=2, record=quiet).theta


def explicit_covariance(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """From the per-sample gradients themselves."""
    total, mean = np.zeros((2500, 2500)), np.zeros(2500)
    for g in MLP.iter_per_sample_gradients(theta, x, y, block="W2", chunk=1000):
        total += g.T @ g
        mean += g.sum(0)
    return total / len(x) - np.outer(mean, mean) / len(x) ** 2


def difference(theta: np.ndarray, x: np.ndarray, y: np.ndarray, v: np.ndarray) -> np.ndarray:
    """H v by central differences of the gradient."""
    h = 1e-5
    return (MLP.gradient(theta + h * v, x, y) - MLP.gradient(theta - h * v, x, y)) / (2 * h)


def recorded(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Records with the spectrum of a window of training: variances fall over nine decades along turned axes."""
    basis, _ = np.linalg.qr(rng.standard_normal((2500, 2500)))
    along = rng.standard_normal((rows, 2500)) * 0.03 * np.arange(1, 2501) ** -1.2
    return np.asarray(along @ basis.T + 0.2 * rng.standard_normal(2500))


@dataclass
class Case:
    """One job: seconds of nets and of others, 10^9 operations of the products that must be, and the steps, if it is a rate."""

    name: str
    ours: Callable[[], float]
    others: dict[str, Callable[[], float]]
    work: float
    steps: int | None = None
    precision: str = "double"
    found: dict[str, list[float]] = field(default_factory=dict)

    def row(self, way: str) -> Row:
        seconds = tuple(self.found[way])
        if self.steps is None:
            return Row(self.name, way, "s", seconds)
        return Row(self.name, way, "steps/s", tuple(self.steps / t for t in seconds), seconds)


def training(data: nets.Data) -> Iterator[Case]:
    """What is the same for any number of steps is subtracted; of the others fewer steps are run, and their time multiplied."""
    for precision in ("double", "single"):
        job = Training(data, precision)
        job.ours(20)  # compiles

        def ours(job: Training = job) -> float:
            return seconds(lambda: job.ours(STEPS + 20)) - seconds(lambda: job.ours(20))

        numpy = job.by_numpy(300)
        others = {"NumPy": lambda numpy=numpy: seconds(numpy) * STEPS / 300}
        if find_spec("torch"):
            torch = job.by_torch(1000)
            others["torch written by hand"] = lambda torch=torch: seconds(torch) * STEPS / 1000
        others["products of the first layer"] = job.products
        yield Case(f"training, {precision}, W2 recorded", ours, others, 8.74e-3 * STEPS, STEPS, precision)


def cases() -> Iterator[Case]:
    data = samples()
    theta = trained(data)
    yield from training(data)
    whole, some = (data.x_train, data.y_train), (data.x_train[:10_000], data.y_train[:10_000])
    few = (data.x_train[:3000], data.y_train[:3000])
    yield Case(
        "covariance of W2, 60 000 samples",
        lambda: seconds(lambda: nets.gradient_covariance(MLP, theta, *whole, block="W2")),
        {"NumPy, explicit gradients": lambda: 20 * seconds(lambda: explicit_covariance(theta, *few))},
        2e-9 * len(whole[0]) * 1275**2,
    )
    unit = np.zeros(MLP.dim)
    unit[MLP.blocks["W2"].start] = 1.0
    yield Case(
        "Hessian of W2, 10 000 samples",
        lambda: seconds(lambda: nets.hessian(MLP, theta, *some, block="W2")),
        {"NumPy, differences of the gradient": lambda: 2500 * seconds(lambda: difference(theta, *some, unit))},
        2e-9 * 10_000 * 1275**2,
    )
    needed = nets.top_eigenpairs(MLP, theta, *some, k=MODES).products

    def plain_modes() -> float:
        """Lanczos on differences, stopped after 4 products, times the number that are needed."""
        count = 0

        def action(v: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            if count > 4:
                raise StopIteration
            return difference(theta, *some, v.ravel())

        def run() -> None:
            try:
                eigsh(LinearOperator((MLP.dim, MLP.dim), matvec=action), k=MODES, which="LA")
            except StopIteration:
                pass

        return seconds(run) / 4 * needed

    yield Case(
        f"{MODES} eigenpairs of all {MLP.dim} weights, 10 000 samples",
        lambda: seconds(lambda: nets.top_eigenpairs(MLP, theta, *some, k=MODES)),
        {"NumPy, differences of the gradient": plain_modes},
        2 * 2e-9 * 10_000 * 784 * 50 * needed,
    )
    rows = recorded(12_000, np.random.default_rng(0))
    square = np.cov(rows.T, bias=True)
    others = {
        "NumPy, eigh of cov": lambda: seconds(lambda: np.linalg.eigh(np.cov(rows.T, bias=True))),
        "its eigh alone": lambda: seconds(lambda: np.linalg.eigh(square)),
    }
    if find_spec("sklearn"):
        from sklearn.decomposition import PCA

        others["scikit-learn, covariance_eigh"] = lambda: seconds(lambda: PCA(svd_solver="covariance_eigh").fit(rows))
    work = 1e-9 * 12_000 * 2500**2 + 1e-9 * (4 / 3 + 2) * 2500**3
    yield Case("principal components of 12 000 x 2500", lambda: seconds(lambda: nets.pca(rows)), others, work)


def main() -> None:
    options = arguments(__doc__, rounds=5).parse_args()
    square = {name: np.ones((1500, 1500), dtype) for name, dtype in (("double", np.float64), ("single", np.float32))}
    with single_threaded_blas():
        table = list(cases())
        for _ in range(options.rounds):
            for case in table:
                a = square[case.precision]
                rate = 2e-9 * 1500**3 / seconds(lambda a=a: a @ a)
                for way, run in {OURS: case.ours, **case.others}.items():
                    case.found.setdefault(way, []).append(run())
                case.found.setdefault("of gemm", []).append(case.work / case.found[OURS][-1] / rate)
    rows = [case.row(way) for case in table for way in (OURS, *case.others)]
    rows += [Row(case.name, "of gemm", "1", tuple(case.found["of gemm"])) for case in table]
    save(options.json, rows)
    lines = []
    for case in table:
        ours = case.found[OURS]
        for way in (OURS, *case.others):
            spent = case.found[way]
            ratio = None if way == OURS else statistics.median(b / a for a, b in zip(ours, spent, strict=True))
            share = 100 * statistics.median(case.found["of gemm"]) if way == OURS else None
            rate = case.steps and case.steps / statistics.median(spent)
            lines.append((case.name, way, statistics.median(spent), min(spent), max(spent), ratio, share, rate))
    columns = ("case", "way", "s", "least", "most", "of ours", "% of gemm", "steps/s")
    print(fps.Table(f"processor seconds of one thread, {options.rounds} rounds", columns, lines))


if __name__ == "__main__":
    main()
