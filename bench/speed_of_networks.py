"""Speed of the instrumented network on one core, beside plain NumPy, torch where there is one, and the products of the machine.

    python bench/speed_of_networks.py [ROUNDS]

Every round runs every case once, in turn, so that what else the machine does hits all of them alike; times are processor seconds
of one thread, medians over the rounds with their range. A NumPy way that would take minutes is run on a part of the work, and its
time multiplied ("~"). "of gemm" is the rate of the multiplications that cannot be avoided, over that of a square product of 1500
of the same precision in the same round. MNIST is read from FPSOLVE_DATA; without it random numbers of its shapes are taken.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

import nets
from nets._threads import single_threaded_blas

BATCH, STEPS, MODES = 50, 10_000, 20
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
    """Steps of SGD with the second layer's weights recorded at each; what is the same for any number of steps is subtracted."""

    def __init__(self, data: nets.Data, precision: str) -> None:
        self.data, self.precision = data, precision
        self.dtype = np.float64 if precision == "double" else np.float32
        self.steps(20)  # compiles

    def steps(self, n: int) -> None:
        record = nets.Record(weights="W2", weights_every=1, losses_every=10**9, max_bytes=10**9)
        nets.train(MLP, self.data, lr=0.1, batch=BATCH, steps=n, precision=self.precision, record=record)

    def run(self) -> float:
        return seconds(lambda: self.steps(STEPS + 20)) - seconds(lambda: self.steps(20))

    def numpy(self, steps: int = 300) -> float:
        """The same step in NumPy, the weights copied at each."""
        x, y = self.data.x_train[:5000].astype(self.dtype), self.data.y_train[:5000]
        parts = {name: array.astype(self.dtype) for name, array in MLP.unpack(MLP.init(0)).items()}
        rng, kept = np.random.default_rng(0), np.empty((steps, 2500), dtype=self.dtype)

        def loop() -> None:
            for s in range(steps):
                i = rng.integers(len(x), size=BATCH)
                a = [x[i]]
                for k in (1, 2, 3):
                    z = a[-1] @ parts[f"W{k}"] + parts[f"b{k}"]
                    a.append(np.maximum(z, 0) if k < 3 else z)
                d = np.exp(a[3] - a[3].max(1, keepdims=True))
                d /= d.sum(1, keepdims=True)
                d[np.arange(BATCH), y[i]] -= 1
                d /= BATCH
                for k in (3, 2, 1):
                    below = (d @ parts[f"W{k}"].T) * (a[k - 1] > 0) if k > 1 else d
                    parts[f"W{k}"] -= self.dtype(0.1) * (a[k - 1].T @ d)
                    parts[f"b{k}"] -= self.dtype(0.1) * d.sum(0)
                    d = below
                kept[s] = parts["W2"].ravel()

        return seconds(loop) * STEPS / steps

    def torch(self, steps: int = 1000) -> float:
        """The same step with torch's tensors, written by hand: no automatic derivatives, nothing allocated for them."""
        import torch

        torch.set_num_threads(1)
        x, y = (
            torch.from_numpy(np.asarray(self.data.x_train, dtype=self.dtype)),
            torch.from_numpy(self.data.y_train.astype(np.int64)),
        )
        parts = {name: torch.from_numpy(array.astype(self.dtype)) for name, array in MLP.unpack(MLP.init(0)).items()}
        order, rows = torch.randperm(len(x)), torch.arange(BATCH)
        kept = torch.empty((steps, 2500), dtype=x.dtype)

        def loop() -> None:
            for s in range(steps):
                i = order[s % 1000 * BATCH : (s % 1000 + 1) * BATCH]
                a = [x[i]]
                for k in (1, 2, 3):
                    z = torch.addmm(parts[f"b{k}"], a[-1], parts[f"W{k}"])
                    a.append(z.relu_() if k < 3 else z)
                d = torch.softmax(a[3], 1)
                d[rows, y[i]] -= 1
                d /= BATCH
                for k in (3, 2, 1):
                    below = (d @ parts[f"W{k}"].T) * (a[k - 1] > 0) if k > 1 else d
                    parts[f"W{k}"].addmm_(a[k - 1].T, d, alpha=-0.1)
                    parts[f"b{k}"].sub_(d.sum(0), alpha=0.1)
                    d = below
                kept[s] = parts["W2"].ravel()

        with torch.no_grad():
            return seconds(loop) * STEPS / steps

    def products(self, times: int = 300) -> float:
        """The two products of the first layer alone, 90 % of the work, as often as the steps need them."""
        rng = np.random.default_rng(0)
        x, w, d = (rng.random(shape).astype(self.dtype) for shape in ((BATCH, 784), (784, 50), (BATCH, 50)))
        out, g = np.empty((BATCH, 50), self.dtype), np.empty((784, 50), self.dtype)

        def loop() -> None:
            for _ in range(times):
                np.matmul(x, w, out=out)
                np.matmul(x.T, d, out=g)

        return seconds(loop) * STEPS / times


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


def cases() -> Iterator[tuple[str, Callable[[], float], Callable[[], float], str, float]]:
    """Name, time of nets, time of NumPy, mark of what NumPy's time is, 10^9 operations of the products that must be."""
    data = samples()
    theta = nets.train(MLP, data, lr=0.1, batch=BATCH, epochs=2, record=nets.Record(weights=None, losses_every=10**6)).theta
    for precision in ("double", "single"):
        job = Training(data, precision)
        yield f"{STEPS} steps, batch {BATCH}, {precision}, W2 recorded", job.run, job.numpy, "~", 8.74e-3 * STEPS
        if find_spec("torch"):
            yield f"    beside: torch written by hand, {precision}", job.run, job.torch, "~", 8.74e-3 * STEPS
        yield f"    beside: products of the first layer, {precision}", job.products, job.products, "", 7.84e-3 * STEPS
    whole, some = (data.x_train, data.y_train), (data.x_train[:10_000], data.y_train[:10_000])
    few = (data.x_train[:3000], data.y_train[:3000])

    def covariance() -> float:
        return seconds(lambda: nets.gradient_covariance(MLP, theta, *whole, block="W2"))

    yield (
        "covariance of W2, 60 000 samples",
        covariance,
        lambda: 20 * seconds(lambda: explicit_covariance(theta, *few)),
        "~",
        2e-9 * len(whole[0]) * 1275**2,
    )

    def block() -> float:
        return seconds(lambda: nets.hessian(MLP, theta, *some, block="W2"))

    unit = np.zeros(MLP.dim)
    unit[MLP.blocks["W2"].start] = 1.0
    yield (
        "Hessian of W2, 10 000 samples",
        block,
        lambda: 2500 * seconds(lambda: difference(theta, *some, unit)),
        "~",
        2e-9 * 10_000 * 1275**2,
    )

    needed = nets.top_eigenpairs(MLP, theta, *some, k=MODES).products

    def modes() -> float:
        return seconds(lambda: nets.top_eigenpairs(MLP, theta, *some, k=MODES))

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

    name = f"{MODES} eigenpairs of all {MLP.dim} weights, 10 000 samples, {needed} products"
    yield name, modes, plain_modes, "~", 2 * 2e-9 * 10_000 * 784 * 50 * needed
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((2500, 2500)))
    rows = (rng.standard_normal((12_000, 2500)) * 0.03 * np.arange(1, 2501) ** -1.2) @ basis.T + 0.2 * rng.standard_normal(2500)
    work = 1e-9 * 12_000 * 2500**2 + 1e-9 * (4 / 3 + 2) * 2500**3

    def components() -> float:
        return seconds(lambda: nets.pca(rows))

    name = "principal components of 12 000 x 2500"
    yield name, components, lambda: seconds(lambda: np.linalg.eigh(np.cov(rows.T, bias=True))), "", work
    try:
        from sklearn.decomposition import PCA
    except ImportError:
        return
    yield (
        "    the same, beside scikit-learn's PCA of the covariance",
        components,
        lambda: seconds(lambda: PCA(svd_solver="covariance_eigh").fit(rows)),
        "",
        work,
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    square = {name: np.ones((1500, 1500), dtype) for name, dtype in (("double", np.float64), ("single", np.float32))}
    with single_threaded_blas():
        table = list(cases())
        ours: list[list[float]] = [[] for _ in table]
        plain: list[list[float]] = [[] for _ in table]
        share: list[list[float]] = [[] for _ in table]
        for _ in range(rounds):
            for i, (name, run, numpy, _, work) in enumerate(table):
                a = square["single" if "single" in name else "double"]
                rate = 2e-9 * 1500**3 / seconds(lambda a=a: a @ a)
                ours[i].append(run())
                plain[i].append(numpy())
                share[i].append(work / ours[i][-1] / rate)
    title = f"processor seconds of one thread, {rounds} rounds"
    print(f"{title:70} {'nets':>8} {'range':>15} {'peer':>9} {'ratio':>6} {'of gemm':>8}")
    for (name, _, _, mark, _), mine, theirs, part in zip(table, ours, plain, share, strict=True):
        ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
        other = f"{mark}{statistics.median(theirs):.3g}"
        span = f"{min(mine):.3g} - {max(mine):.3g}"
        line = f"{name:70} {statistics.median(mine):8.3f} {span:>15} {other:>9} {ratio:6.1f} {100 * statistics.median(part):7.0f}%"
        print(line + (f"   {STEPS / statistics.median(mine):.0f} steps/s" if "steps" in name else ""), flush=True)


if __name__ == "__main__":
    main()
