"""Networks: training, noise and curvature of 784-50-50-10 on MNIST, and the principal components of recorded weights.

Our own times, the references written by hand and the data are those of `speed_of_networks.py`. The gradients that errors are taken
against are written out in NumPy there (`by_hand`) and know nothing of `nets`, nor of automatic derivatives.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import speed_of_networks as plain
from scipy.sparse.linalg import LinearOperator, eigsh, svds

import nets
from nets._threads import single_threaded_blas

from ._case import CannotDo, Peer, Problem, quick
from ._kept import kept

Array = np.ndarray[Any, np.dtype[Any]]

#: Steps after which weights are compared: later, rounding that was amplified is all that differs.
COMPARED = 100
#: Images that are trained on; a run of ours reads, checks and hashes them anew in the time that is taken, so it has more steps.
IMAGES, LONGER = 10_000, 4
#: Samples whose derivatives the automatic ways hold at a time.
CHUNK = 2000
#: Step of the differences of the gradient. So few samples change the side of a relu within it that they err by some 1e-7.
STEP = 1e-7
WEIGHTS = tuple(f"{kind}{k}" for k in (1, 2, 3) for kind in "Wb")


def at_a_minimum(samples: int) -> tuple[Array, Array, Array]:
    """Weights after two epochs, and the images and labels of the first samples."""
    data = plain.samples()
    return kept("theta", lambda: plain.trained(data)), data.x_train[:samples], data.y_train[:samples]


def one_thread(run: Callable[[], Any]) -> Callable[[], Any]:
    def confined() -> Any:
        with single_threaded_blas():
            return run()

    return confined


def gradient(theta: Array, x: Array, y: Array, active: dict[int, Array] | None = None) -> Array:
    """By hand, (P,); with `active` of the network with these units active."""
    parts = plain.by_hand(plain.MLP.unpack(theta), x, y, active)
    return np.concatenate([parts[name].ravel() for name in WEIGHTS])


def along(theta: Array, x: Array, y: Array, v: Array) -> Array:
    """H v by central differences of the gradient written by hand.

    Relu has no second derivative at its kink, and of many samples some are so near to one that a step passes it: the active units
    stay those of theta.
    """
    parts = plain.MLP.unpack(theta)
    first = x @ parts["W1"] + parts["b1"] > 0
    second = np.where(first, x @ parts["W1"] + parts["b1"], 0.0) @ parts["W2"] + parts["b2"] > 0
    h, active = STEP / np.abs(v).max(), {1: first, 2: second}
    return (gradient(theta + h * v, x, y, active) - gradient(theta - h * v, x, y, active)) / (2 * h)


def unit(size: int, i: int) -> Array:
    v = np.zeros(size)
    v[i] = 1.0
    return v


# ---- torch and JAX ----------------------------------------------------------------------------------------------------------


def torch_module(theta: Array, dtype: Any = np.float64) -> Any:
    """The network as layers of torch, whose weights are the transposed ones of nets."""
    import torch

    torch.set_num_threads(1)
    layers: list[Any] = []
    parts = {name: array.astype(dtype) for name, array in plain.MLP.unpack(theta).items()}
    for k in (1, 2, 3):
        layer = torch.nn.Linear(*plain.MLP.widths[k - 1 : k + 1])
        layer.weight = torch.nn.Parameter(torch.from_numpy(parts[f"W{k}"].T.copy()))
        layer.bias = torch.nn.Parameter(torch.from_numpy(parts[f"b{k}"]))
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_tensors(theta: Array, x: Array, y: Array) -> tuple[dict[str, Any], Any, Any]:
    """The weights by name and in the order of nets, images and labels."""
    import torch

    torch.set_num_threads(1)
    parts = {name: torch.from_numpy(np.array(plain.MLP.unpack(theta)[name])) for name in WEIGHTS}
    return parts, torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))


def torch_loss(parts: dict[str, Any], x: Any, y: Any) -> Any:
    """Mean cross-entropy, in functions of torch."""
    import torch

    for k in (1, 2):
        x = torch.relu(x @ parts[f"W{k}"] + parts[f"b{k}"])
    return torch.nn.functional.cross_entropy(x @ parts["W3"] + parts["b3"], y)


def jax_loss(parts: dict[str, Any], x: Any, y: Any) -> Any:
    import jax
    from jax import numpy as jnp

    for k in (1, 2):
        x = jax.nn.relu(x @ parts[f"W{k}"] + parts[f"b{k}"])
    logs = jax.nn.log_softmax(x @ parts["W3"] + parts["b3"])
    return -jnp.mean(jnp.take_along_axis(logs, y[..., None], axis=-1))


# ---- training ---------------------------------------------------------------------------------------------------------------


def module_training(job: plain.Training, n: int) -> Callable[[], Array]:
    import torch

    x, y = torch.from_numpy(job.data.x_train.astype(job.dtype)), torch.from_numpy(job.data.y_train.astype(np.int64))
    batches, loss = torch.from_numpy(job.batches(n)), torch.nn.CrossEntropyLoss()

    def loop() -> Array:
        model = torch_module(plain.MLP.init(0), job.dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=plain.RATE)
        found = torch.empty((n, 50, 50), dtype=x.dtype)
        for s, i in enumerate(batches):
            optimizer.zero_grad()
            loss(model(x[i]), y[i]).backward()
            optimizer.step()
            found[s] = model[2].weight.detach().T
        return np.asarray(found.reshape(n, 2500).numpy())

    return loop


def jax_training(job: plain.Training, n: int) -> Callable[[], Array]:
    import jax
    from jax import numpy as jnp

    x, y = jnp.asarray(job.data.x_train.astype(job.dtype)), jnp.asarray(job.data.y_train)
    batches = jnp.asarray(job.batches(n))
    slope = jax.grad(jax_loss)

    def step(parts: Any, i: Any) -> Any:
        down = slope(parts, x[i], y[i])
        parts = {name: parts[name] - plain.RATE * down[name] for name in parts}
        return parts, parts["W2"].ravel()

    run = jax.jit(lambda parts, batches: jax.lax.scan(step, parts, batches))
    parts = {name: jnp.asarray(array) for name, array in job.start().items()}
    assert parts["W1"].dtype == job.dtype, "JAX_ENABLE_X64=1 is needed for float64"
    run(parts, batches)[1].block_until_ready()
    return lambda: np.asarray(run(parts, batches)[1])


def sklearn_training(job: plain.Training, n: int) -> Callable[[], Array]:
    from sklearn.neural_network import MLPClassifier

    x, y, batches = job.data.x_train.astype(job.dtype), job.data.y_train, job.batches(n)

    def loop() -> Array:
        model = MLPClassifier(
            (50, 50), solver="sgd", alpha=0.0, batch_size=plain.BATCH, learning_rate_init=plain.RATE, momentum=0.0, shuffle=False
        )
        model.partial_fit(x[:10], y[:10], classes=np.arange(10))  # makes the arrays, which then get our weights
        for k, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
            W[:], b[:] = job.start()[f"W{k}"], job.start()[f"b{k}"]
        found = np.empty((n, 2500), job.dtype)
        for s, i in enumerate(batches):
            model.partial_fit(x[i], y[i])
            found[s] = model.coefs_[1].ravel()
        return found

    return loop


def training(precision: str, n: int) -> Problem:
    def job(kind: str = precision) -> plain.Training:
        data = plain.samples()
        few = nets.Data(data.x_train[:IMAGES], data.y_train[:IMAGES], data.x_test[:1000], data.y_test[:1000], "first", n_classes=10)
        return plain.Training(few, kind)

    def error(path: Array) -> float:
        return float(np.linalg.norm(path[COMPARED - 1] - exact()) / np.linalg.norm(exact()))

    def exact() -> Array:
        """W2 after the steps compared, in extended precision."""

        def make() -> Array:
            exactly = job("double")
            parts = {name: array.astype(np.longdouble) for name, array in job().start().items()}
            for i in exactly.batches(COMPARED):
                down = plain.by_hand(parts, exactly.data.x_train[i].astype(np.longdouble), exactly.data.y_train[i])
                parts = {name: parts[name] - np.longdouble(plain.RATE) * down[name] for name in parts}
            return np.asarray(parts["W2"].ravel(), np.float64)

        return kept(f"path-{precision}", make)

    def ours() -> Callable[[], Array]:
        here = job()
        here.ours(20)  # compiles
        return lambda: here.ours(LONGER * n)

    def way(name: str, package: str | None, make: Callable[[plain.Training, int], Any], note: str = "") -> Peer:
        return Peer(name, package, lambda: one_thread(make(job(), n)), error, note)

    peers = (
        way("NumPy, written by hand", None, lambda job, n: job.by_numpy(n)),
        way("torch, written by hand", "torch", lambda job, n: job.by_torch(n), "no automatic derivatives"),
        way("torch, nn.Module and optim.SGD", "torch", module_training, "tensors indexed by a permutation, no DataLoader"),
        way("jax, grad and scan", "jax", jax_training, "one compiled scan over all steps"),
        way("scikit-learn, MLPClassifier.partial_fit", "scikit-learn", sklearn_training, "a call per batch, to record W2"),
        CannotDo("backpack", "backpack-for-pytorch", "adds quantities to torch's backward pass; the steps are torch's"),
        CannotDo("curvlinops", "curvlinops-for-pytorch", "makes operators of a trained network; it does not train"),
    )
    return Problem(
        "networks", f"training, {precision} precision",
        f"Steps of SGD of 784-50-50-10 with relu and cross-entropy on {IMAGES} images of MNIST, batch {plain.BATCH}, learning rate "
        f"{plain.RATE}, the 2500 weights of W2 recorded at each step; same first weights, same batches.",
        "k steps/s", n, Peer("fpsolve (nets.train)", "fpsolve", ours, error, "setting up a run is in its time", LONGER * n), peers,
        f"W2 after {COMPARED} steps of the update written out in extended precision",
    )  # fmt: skip


# ---- the noise of the gradient ----------------------------------------------------------------------------------------------


def centred(chunks: Iterator[Array], n: int) -> Array:
    """Covariance of rows that come in chunks."""
    total, mean = np.zeros((2500, 2500)), np.zeros(2500)
    for g in chunks:
        total += g.T @ g
        mean += g.sum(0)
    return total / n - np.outer(mean, mean) / n**2


def backpack_covariance(samples: int) -> Callable[[], Array]:
    import torch
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    theta, x, y = at_a_minimum(samples)
    model = extend(torch_module(theta))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "2.weight")
    loss = extend(torch.nn.CrossEntropyLoss(reduction="sum"))
    images, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))

    def chunks() -> Iterator[Array]:
        for a in range(0, samples, CHUNK):
            with backpack(BatchGrad()):
                loss(model(images[a : a + CHUNK]), labels[a : a + CHUNK]).backward()
            yield model[2].weight.grad_batch.transpose(1, 2).reshape(-1, 2500).numpy()
            model.zero_grad()
            del model[2].weight.grad_batch

    return lambda: centred(chunks(), samples)


def torch_covariance(samples: int) -> Callable[[], Array]:
    from torch.func import grad, vmap

    theta, x, y = at_a_minimum(samples)
    parts, images, labels = torch_tensors(theta, x, y)

    def loss(W: Any, x: Any, y: Any) -> Any:
        return torch_loss({**parts, "W2": W}, x[None], y[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))

    def chunks() -> Iterator[Array]:
        for a in range(0, samples, CHUNK):
            yield each(parts["W2"], images[a : a + CHUNK], labels[a : a + CHUNK]).reshape(-1, 2500).numpy()

    return lambda: centred(chunks(), samples)


def jax_covariance(samples: int) -> Callable[[], Array]:
    import jax
    from jax import numpy as jnp

    theta, x, y = at_a_minimum(samples)
    parts = {name: jnp.asarray(array) for name, array in plain.MLP.unpack(theta).items()}
    one = jax.grad(lambda W, x, y: jax_loss({**parts, "W2": W}, x[None], y[None]))
    each = jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))

    @jax.jit
    def products(g: Any) -> Any:
        return g.T @ g, g.sum(0)

    def run() -> Array:
        total, mean = jnp.zeros((2500, 2500)), jnp.zeros(2500)
        for a in range(0, samples, CHUNK):
            g = each(parts["W2"], x[a : a + CHUNK], y[a : a + CHUNK]).reshape(-1, 2500)
            more, sums = products(g)
            total, mean = total + more, mean + sums
        return np.asarray(total / samples - jnp.outer(mean, mean) / samples**2)

    return run


def covariance(samples: int) -> Problem:
    def ours() -> Callable[[], Array]:
        theta, x, y = at_a_minimum(samples)
        return lambda: nets.gradient_covariance(plain.MLP, theta, x, y, block="W2")

    def by_numpy() -> Callable[[], Array]:
        theta, x, y = at_a_minimum(samples)
        return lambda: plain.explicit_covariance(theta, x, y)

    def error(C: Array) -> float:
        """Of 60 x 60 entries, of the largest of them."""
        some = np.random.default_rng(1).choice(2500, 60, replace=False)

        def make() -> Array:
            theta, x, y = at_a_minimum(samples)
            rows = per_sample(theta, x, y, some)
            return np.cov(rows.T, bias=True)

        exact = kept("covariance", make)
        return float(np.abs(C[np.ix_(some, some)] - exact).max() / np.abs(exact).max())

    def way(name: str, package: str, make: Callable[[int], Any], note: str = "") -> Peer:
        return Peer(name, package, lambda: one_thread(make(samples)), error, note)

    peers = (
        Peer("NumPy, gradients of the samples", None, lambda: one_thread(by_numpy()), error, "1000 samples at a time"),
        way("backpack, BatchGrad", "backpack-for-pytorch", backpack_covariance, f"{CHUNK} samples at a time, covariance by NumPy"),
        way("torch, func.vmap(grad)", "torch", torch_covariance, f"{CHUNK} samples at a time, covariance by NumPy"),
        way("jax, vmap(grad)", "jax", jax_covariance, f"{CHUNK} samples at a time"),
        CannotDo("curvlinops", "curvlinops-for-pytorch", "its empirical Fisher is not centred, and only multiplies: 2500 columns "
                 "over all samples take longer than an answer may"),
        CannotDo("scikit-learn", "scikit-learn", "gives no gradients of samples"),
    )  # fmt: skip
    return Problem(
        "networks", "covariance of the gradients",
        f"Centred covariance of the gradients of single samples with respect to W2, 2500 x 2500, over {samples} images of MNIST, "
        "after two epochs; double precision.",
        "ms", None, Peer("fpsolve (nets.gradient_covariance)", "fpsolve", ours, error), peers,
        "60 x 60 of its entries from back-propagation written out in NumPy, by the definition",
    )  # fmt: skip


def per_sample(theta: Array, x: Array, y: Array, weights: Array) -> Array:
    """Gradients of the samples with respect to some weights of W2, written out, (N, len(weights))."""
    parts = plain.MLP.unpack(theta)
    first = np.maximum(x @ parts["W1"] + parts["b1"], 0)
    second = np.maximum(first @ parts["W2"] + parts["b2"], 0)
    z = second @ parts["W3"] + parts["b3"]
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(x)), y] -= 1
    below = (p @ parts["W3"].T) * (second > 0)
    return np.asarray(first[:, weights // 50] * below[:, weights % 50])


# ---- curvature --------------------------------------------------------------------------------------------------------------


def torch_hessian(samples: int) -> Callable[[], Array]:
    from torch.func import grad, jacrev

    theta, x, y = at_a_minimum(samples)
    parts, images, labels = torch_tensors(theta, x, y)
    block = jacrev(grad(lambda W: torch_loss({**parts, "W2": W}, images, labels)), chunk_size=100)
    return lambda: block(parts["W2"]).reshape(2500, 2500).numpy()


def curvlinops_operator(theta: Array, x: Array, y: Array, block: bool) -> Any:
    """The Hessian as curvlinops' operator, in the order of the weights of nets."""
    import torch
    from curvlinops import HessianLinearOperator

    parts, images, labels = torch_tensors(theta, x, y)

    class Network(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for name, tensor in parts.items():
                self.register_parameter(name, torch.nn.Parameter(tensor))

        def forward(self, x: Any) -> Any:
            for k in (1, 2):
                x = torch.relu(x @ getattr(self, f"W{k}") + getattr(self, f"b{k}"))
            return x @ self.W3 + self.b3

    model = Network()
    chosen = [parameter for name, parameter in model.named_parameters() if not block or name == "W2"]
    return HessianLinearOperator(model, torch.nn.CrossEntropyLoss(), chosen, [(images, labels)], check_deterministic=False)


def curvlinops_hessian(samples: int) -> Callable[[], Array]:
    import torch

    operator = curvlinops_operator(*at_a_minimum(samples), block=True)
    one = torch.eye(2500, dtype=torch.float64)
    return lambda: np.concatenate([(operator @ one[:, a : a + 100]).detach().numpy() for a in range(0, 2500, 100)], axis=1)


def jax_hessian(samples: int) -> Callable[[], Array]:
    import jax
    from jax import numpy as jnp

    theta, x, y = at_a_minimum(samples)
    parts = {name: jnp.asarray(array) for name, array in plain.MLP.unpack(theta).items()}
    slope = jax.grad(lambda W: jax_loss({**parts, "W2": W.reshape(50, 50)}, jnp.asarray(x), jnp.asarray(y)))
    W = parts["W2"].ravel()
    columns = jax.jit(jax.vmap(lambda v: jax.jvp(slope, (W,), (v,))[1]))
    one = np.eye(2500)
    columns(one[:50]).block_until_ready()
    return lambda: np.concatenate([np.asarray(columns(one[a : a + 50])) for a in range(0, 2500, 50)])


def backpack_hessian(samples: int) -> Callable[[], Array]:
    """Its weights are transposed: so is each index of the matrix."""
    import torch
    from backpack import backpack, extend
    from backpack.extensions import HMP

    theta, x, y = at_a_minimum(samples)
    model, loss = extend(torch_module(theta)), extend(torch.nn.CrossEntropyLoss())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "2.weight")
    images, labels, one = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), torch.eye(2500, dtype=torch.float64)

    def run() -> Array:
        model.zero_grad()
        with backpack(HMP()):
            loss(model(images), labels).backward()
        product = model[2].weight.hmp
        columns = [product(one[a : a + 100].reshape(-1, 50, 50)).detach().numpy() for a in range(0, 2500, 100)]
        return np.concatenate(columns).reshape(50, 50, 50, 50).transpose(1, 0, 3, 2).reshape(2500, 2500)

    return run


def hessian(samples: int) -> Problem:
    def ours() -> Callable[[], Array]:
        theta, x, y = at_a_minimum(samples)
        return lambda: nets.hessian(plain.MLP, theta, x, y, block="W2")

    def error(H: Array) -> float:
        """Of ten columns, of their largest entry."""
        some = np.random.default_rng(1).choice(2500, 10, replace=False)
        where = plain.MLP.blocks["W2"]

        def make() -> Array:
            theta, x, y = at_a_minimum(samples)
            return np.stack([along(theta, x, y, unit(theta.size, where.start + i))[where] for i in some], axis=1)

        exact = kept("hessian", make)
        return float(np.abs(H[:, some] - exact).max() / np.abs(exact).max())

    def way(name: str, package: str, make: Callable[[int], Any], note: str) -> Peer:
        return Peer(name, package, lambda: one_thread(make(samples)), error, note)

    peers = (
        way("torch, func.jacrev(grad)", "torch", torch_hessian, "100 rows at a time"),
        way(
            "curvlinops, HessianLinearOperator",
            "curvlinops-for-pytorch",
            curvlinops_hessian,
            "times the identity, 100 columns at a time",
        ),
        way("jax, vmap of jvp(grad)", "jax", jax_hessian, "50 columns at a time"),
        way("backpack, HMP", "backpack-for-pytorch", backpack_hessian, "times the identity, 100 columns at a time"),
        CannotDo("scikit-learn", "scikit-learn", "gives no second derivatives"),
    )
    return Problem(
        "networks", "exact Hessian of a layer",
        f"Hessian of the mean loss over {samples} images with respect to W2, 2500 x 2500, after two epochs; double precision.",
        "ms", None, Peer("fpsolve (nets.hessian)", "fpsolve", ours, error), peers,
        "ten columns by central differences of the gradient written out in NumPy, themselves good to some 1e-7",
    )  # fmt: skip


def eigenpairs_of(operator: Any) -> Callable[[], tuple[Array, Array]]:
    """SciPy's Lanczos, at our tolerance of residuals."""

    def run() -> tuple[Array, Array]:
        values, vectors = eigsh(
            operator, k=plain.MODES, which="LA", tol=1e-6, v0=np.random.default_rng(0).standard_normal(operator.shape[0])
        )
        return values[::-1], vectors[:, ::-1]

    return run


def torch_modes(samples: int) -> Callable[[], tuple[Array, Array]]:
    """Double backward; the graph of the gradient is kept over all products."""
    import torch

    theta, x, y = at_a_minimum(samples)
    _, images, labels = torch_tensors(theta, x, y)

    def run() -> tuple[Array, Array]:
        w = torch.from_numpy(theta.copy()).requires_grad_()
        parts = {name: w[plain.MLP.blocks[name]].reshape(plain.MLP.unpack(theta)[name].shape) for name in WEIGHTS}
        (g,) = torch.autograd.grad(torch_loss(parts, images, labels), w, create_graph=True)

        def product(v: Array) -> Array:
            return np.asarray(torch.autograd.grad(g, w, torch.from_numpy(v.ravel()), retain_graph=True)[0].numpy())

        return eigenpairs_of(LinearOperator((theta.size, theta.size), matvec=product, dtype=np.float64))()

    return run


def curvlinops_modes(samples: int) -> Callable[[], tuple[Array, Array]]:
    return eigenpairs_of(curvlinops_operator(*at_a_minimum(samples), block=False).to_scipy())


def modes(samples: int) -> Problem:
    def ours() -> Callable[[], tuple[Array, Array]]:
        theta, x, y = at_a_minimum(samples)

        def run() -> tuple[Array, Array]:
            found = nets.top_eigenpairs(plain.MLP, theta, x, y, k=plain.MODES)
            return found.values, found.vectors

        return run

    def error(found: tuple[Array, Array]) -> float:
        """Largest of |H v - value v| / value."""
        theta, x, y = at_a_minimum(samples)
        values, vectors = found
        assert vectors.shape == (theta.size, plain.MODES) and (np.diff(values) <= 0).all()
        return max(float(np.linalg.norm(along(theta, x, y, v) - a * v) / a) for a, v in zip(values, vectors.T, strict=True))

    def way(name: str, package: str, make: Callable[[int], Any], note: str) -> Peer:
        return Peer(name, package, lambda: one_thread(make(samples)), error, note)

    peers = (
        way("curvlinops and SciPy's eigsh", "curvlinops-for-pytorch", curvlinops_modes, "tolerance 1e-6"),
        way("torch, double backward and SciPy's eigsh", "torch", torch_modes, "tolerance 1e-6; graph of the gradient kept"),
        CannotDo("backpack", "backpack-for-pytorch", "has products with the Hessian of a layer, not across layers"),
        CannotDo("scikit-learn", "scikit-learn", "gives no second derivatives"),
    )
    return Problem(
        "networks", f"{plain.MODES} leading eigenpairs",
        f"The {plain.MODES} largest eigenvalues, with vectors, of the Hessian of the mean loss over {samples} images with respect "
        f"to all {plain.MLP.dim} weights, after two epochs; residuals below 1e-6 of each; double precision.",
        "ms", None, Peer("fpsolve (nets.top_eigenpairs)", "fpsolve", ours, error), peers,
        "residuals with products by central differences of the gradient written out in NumPy, themselves good to some 1e-7",
    )  # fmt: skip


# ---- recorded weights -------------------------------------------------------------------------------------------------------


def components(records: int) -> Problem:
    def rows() -> Array:
        return kept("rows", lambda: plain.recorded(records, np.random.default_rng(0)))

    def error(variances: Array) -> float:
        """Of the 20 largest variances, relative to each."""

        def make() -> Array:
            X = rows()
            return svds(X - X.mean(0), k=20, return_singular_vectors=False, random_state=0)[::-1] ** 2 / records

        return float(np.abs(variances[:20] / kept("variances", make) - 1).max())

    def ours() -> Callable[[], Array]:
        X = rows()
        return lambda: nets.pca(X).variances

    def by_numpy() -> Callable[[], Array]:
        X = rows()
        return lambda: np.linalg.eigh(np.cov(X.T, bias=True))[0][::-1]

    def by_torch() -> Callable[[], Array]:
        import torch

        torch.set_num_threads(1)
        X = torch.from_numpy(rows())
        return lambda: torch.linalg.eigh(torch.cov(X.T, correction=0))[0].numpy()[::-1]

    def by_sklearn(solver: str) -> Callable[[], Array]:
        from sklearn.decomposition import PCA

        X = rows()
        return lambda: PCA(svd_solver=solver).fit(X).explained_variance_ * (records - 1) / records

    def way(solver: str) -> Peer:
        return Peer(f"scikit-learn, PCA(svd_solver={solver!r})", "scikit-learn", lambda: one_thread(by_sklearn(solver)), error)

    peers = (
        way("covariance_eigh"),
        way("full"),
        Peer("NumPy, eigh of cov", None, lambda: one_thread(by_numpy()), error, "all rows in memory"),
        Peer("torch, linalg.eigh of cov", "torch", lambda: one_thread(by_torch()), error, "all rows in memory"),
        CannotDo("backpack", "backpack-for-pytorch", "looks at a network, not at records of it"),
        CannotDo("curvlinops", "curvlinops-for-pytorch", "looks at a network, not at records of it"),
    )
    return Problem(
        "networks", "principal components",
        f"All 2500 principal components of {records} x 2500 records whose variances fall over eight decades; double precision.",
        "ms", None, Peer("fpsolve (nets.pca)", "fpsolve", ours, error, "streams over the rows"), peers,
        "the 20 largest variances from singular values of the centred records by ARPACK (SciPy's svds)",
    )  # fmt: skip


def problems() -> list[Problem]:
    steps, many, some, records = (300, 6000, 1000, 3000) if quick() else (3000, 60_000, 10_000, 12_000)
    make = partial(training, n=steps)
    return [make("double"), make("single"), covariance(many), hessian(some), modes(some), components(records)]
