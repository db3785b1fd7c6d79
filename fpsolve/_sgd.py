"""Stochastic gradient descent on sample losses, and with adaptive optimisers: groups of trajectories advance together in NumPy.

Each trajectory draws its batches from a generator of its own, seeded by (seed, trajectory index).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._codegen import load_module
from ._kernels.batches import distinct
from ._watch import Watcher, make_watcher
from .samples import Ensemble, SampleMeanCode

if TYPE_CHECKING:
    from ._paths import Plan, Records
    from ._runner import Control
    from .chains import SGDChain

__all__ = ["Group", "first_exits", "group_size", "record_group", "stream_entropy", "update"]

Array = NDArray[np.float64]

#: Iterations recorded between two looks at the observers; numbers that a block of draws may hold.
BLOCK, NUMBERS = 64, 1 << 20


def _draw_count(chain: SGDChain) -> int:
    """Iterations whose batches one call of a generator draws: a function of the chain only, so that all runs of it agree."""
    if chain.kind == "gaussian":
        return BLOCK
    if not isinstance(chain.batch, int):
        return 1
    if chain.sampling == "shuffle":
        epoch = chain.size // chain.batch
        return int(epoch * max(1, 16 // epoch))
    return max(1, min(BLOCK, 4096 // chain.batch))


def group_size(chain: SGDChain) -> int:
    """Trajectories that advance together, within the memory that their draws may take."""
    width = chain.dim if chain.kind == "shift" else 1 if chain.reference is None else chain.reference.noise_dim
    batch = 1 if chain.kind == "gaussian" else chain.batch if isinstance(chain.batch, int) else chain.size
    return int(max(1, min(1024, NUMBERS // max(1, _draw_count(chain) * max(1, batch) * width), NUMBERS // (BLOCK * chain.dim))))


def update(chain: SGDChain, state: dict[str, Array], theta: Array, gradient: Array, k: int) -> Array:
    """The weights (n, dim) after iteration k = 0, 1, ..., whose mean minibatch gradient is given; `state` is changed in place."""
    lr = chain.lr_at(k)
    if chain.optimizer == "sgd":
        v = state["v"] = chain.momentum * state["v"] + gradient
        return theta - lr * (gradient + chain.momentum * v if chain.nesterov else v)
    first, second = chain.betas
    v = state["v"] = second * state["v"] + (1.0 - second) * gradient**2
    corrected = v / (1.0 - second ** (k + 1))
    if chain.optimizer == "adam":
        m = state["m"] = first * state["m"] + (1.0 - first) * gradient
        return np.asarray(theta - lr * m / (1.0 - first ** (k + 1)) / (np.sqrt(corrected) + chain.eps))
    mean = corrected.mean(axis=1, keepdims=True)
    share = np.divide(corrected, mean, out=np.zeros_like(corrected), where=mean > 0.0)
    beta = np.clip(1.0 - first * share, 0.0, 1.0 - chain.eps)
    m = state["m"] = beta * state["m"] + (1.0 - beta) * gradient
    state["p"] = state["p"] * beta
    return np.asarray(theta - lr * m / (1.0 - state["p"]))


def _compile(code: SampleMeanCode) -> Callable[..., None]:
    """Kernel of mean gradients: (thetas (n, dim), indices (n, batch), data (N, columns), parameters, out (n, dim))."""
    child, d = code.child, code.dim
    source, namespace = child.emit("slopes")
    weights = "".join(f"x{i}, " for i in range(d))
    columns = "".join(f"data[s, {j}], " for j in range(code.data.shape[1]))
    lines = [source, "@kernel", "def mean_gradients(thetas, indices, data, params, out):"]
    lines += [f"    p = {child.unpack_source('params')}", "    batch = indices.shape[1]", "    for i in range(thetas.shape[0]):"]
    lines += [f"        x{i} = thetas[i, {i}]\n        a{i} = 0.0" for i in range(d)]
    lines += ["        for b in range(batch):", "            s = indices[i, b]", f"            v = slopes(({weights}{columns}), p)"]
    lines += [f"            a{i} += v[{i}]" for i in range(d)]
    lines += [f"        out[i, {i}] = a{i}/batch" for i in range(d)]
    module = load_module("\n".join([*lines, ""]), namespace, cacheable=child.cacheable, label=f"samples_{d}d")
    return module.mean_gradients  # type: ignore[no-any-return]


class Group:
    """Trajectories lo, lo + 1, ... of a chain: weights, memory of the optimiser, generators, and batches drawn ahead."""

    def __init__(self, chain: SGDChain, theta: Array, seed: int, lo: int) -> None:
        self.chain, self.theta, self.k = chain, np.array(theta, float), 0
        self.rngs = [np.random.default_rng(stream_entropy(seed, lo + i)) for i in range(len(theta))]
        self.state = {"v": np.zeros_like(self.theta), "m": np.zeros_like(self.theta), "p": np.ones_like(self.theta)}
        self.draws, self.used = np.zeros((len(theta), 0, 1)), 0  # (n, iterations, batch[, dim])
        self.order, self.cursor = np.zeros((len(theta), 0), np.int64), 0  # epochs of a scheduled batch size
        self.code = chain.ensemble.gradient_code if type(chain.ensemble) is Ensemble else None
        self.compiled = None if self.code is None else _compile(self.code)
        self.params = np.zeros(0) if self.code is None else self.code.child.pack(chain.ensemble.params)

    def advance(self, count: int) -> Array:
        """Weights after each of the next `count` iterations: shape (count, n, dim).

        Raises
        ------
        ValueError
            If the ensemble's gradients have not the shape of the weights.
        """
        path = np.empty((count, *self.theta.shape))
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(count):
                gradient = self._gradient(self._next())
                path[t] = self.theta = update(self.chain, self.state, self.theta, gradient, self.k)
                self.k += 1
        return path

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Go on with some of the trajectories only."""
        self.theta, self.draws, self.order = self.theta[mask], self.draws[mask], self.order[mask]
        self.state = {name: a[mask] for name, a in self.state.items()}
        self.rngs = [rng for rng, kept in zip(self.rngs, mask, strict=True) if kept]

    def saved(self) -> dict[str, Any]:
        """A copy of all that the rest of the run depends on."""
        words = np.array([_words(rng) for rng in self.rngs], np.uint64).reshape(-1, 6)
        tree = {"k": self.k, "used": self.used, "cursor": self.cursor, "theta": self.theta.copy(), "generators": words}
        return tree | {"draws": np.array(self.draws), "order": self.order.copy(), **{n: a.copy() for n, a in self.state.items()}}

    def restore(self, tree: dict[str, Any]) -> None:
        self.k, self.used, self.cursor = int(tree["k"]), int(tree["used"]), int(tree["cursor"])
        self.theta, self.draws, self.order = tree["theta"].copy(), tree["draws"], tree["order"]
        self.state = {name: tree[name].copy() for name in self.state}
        self.rngs = [_generator(words) for words in tree["generators"].tolist()]

    def _next(self) -> NDArray[Any]:
        batch = 1 if self.chain.kind == "gaussian" else self.chain.batch
        if not isinstance(batch, int):
            return self._scheduled(self.chain.batch_at(self.k) or 1)
        if self.used == self.draws.shape[1]:
            self.draws = np.array([_draw(self.chain, rng, batch, _draw_count(self.chain)) for rng in self.rngs])
            self.used = 0
        self.used += 1
        return self.draws[:, self.used - 1]

    def _scheduled(self, batch: int) -> NDArray[Any]:
        """Batches whose size changes from iteration to iteration; an epoch ends where fewer samples are left than needed."""
        chain = self.chain
        if chain.sampling != "shuffle":
            return np.array([_draw(chain, rng, batch, 1)[0] for rng in self.rngs])
        if self.cursor + batch > self.order.shape[1]:
            self.order, self.cursor = np.array([rng.permutation(chain.size) for rng in self.rngs]), 0
        self.cursor += batch
        return self.order[:, self.cursor - batch : self.cursor]

    def _gradient(self, draws: NDArray[Any]) -> Array:
        chain = self.chain
        if chain.reference is not None:
            lr, ratio = chain.rates(self.k, self.k + 1)
            noise = chain.reference.kick(self.theta, draws[:, 0])
            return np.asarray(ratio[0] / np.sqrt(lr[0]) * noise - chain.reference.drift(self.theta))
        if chain.kind == "shift":
            assert chain.landscape is not None
            return np.asarray(chain.landscape.grad(self.theta[:, None] + chain.sigma * draws).mean(axis=1))
        if self.code is not None and self.compiled is not None:
            gradient = np.empty_like(self.theta)
            self.compiled(self.theta, np.ascontiguousarray(draws, np.int64), self.code.data, self.params, gradient)
            return gradient
        if hasattr(chain.ensemble, "gradients"):
            gradient = np.asarray(chain.ensemble.gradients(self.theta, draws), float)
            name, shape, expected = "gradients", gradient.shape, self.theta.shape
        else:
            rows = [np.asarray(chain.ensemble.gradient(x, i), float) for x, i in zip(self.theta, draws, strict=True)]
            name, shape, expected = "gradient", next((r.shape for r in rows if r.shape != (chain.dim,)), (chain.dim,)), (chain.dim,)
            gradient = np.array(rows) if shape == expected else self.theta
        if shape != expected:
            raise ValueError(f"ensemble.{name} returned shape {shape}; it must be {expected}")
        return gradient


def stream_entropy(seed: int, index: int) -> list[int]:
    """Words that seed the generator of a trajectory, different for all pairs of seed and index and from those of a sampler of x0.

    NumPy cuts a number into words of 32 bits and fills up with zeros, so the upper half of a seed must have a place of its own,
    and a mark: [seed, index] alone would give trajectory 0 of seed 2**32 + 5 the numbers of trajectory 1 of seed 5. An index
    above 2**32 takes two words.
    """
    low, high = seed & 0xFFFFFFFF, seed >> 32
    return [low, index, high, 2] if high else [low, index]


def _words(rng: np.random.Generator) -> list[int]:
    """The state of a PCG64 generator as six 64-bit words."""
    state: dict[str, Any] = dict(rng.bit_generator.state)
    low = (1 << 64) - 1
    pair = [word for number in (state["state"]["state"], state["state"]["inc"]) for word in (number >> 64, number & low)]
    return [*pair, int(state["has_uint32"]), int(state["uinteger"])]


def _generator(words: list[int]) -> np.random.Generator:
    rng = np.random.default_rng(0)
    state, step = (words[0] << 64) | words[1], (words[2] << 64) | words[3]
    rng.bit_generator.state = {
        "bit_generator": "PCG64", "state": {"state": state, "inc": step}, "has_uint32": words[4], "uinteger": words[5],
    }  # fmt: skip
    return rng


def _draw(chain: SGDChain, rng: np.random.Generator, batch: int, count: int) -> NDArray[Any]:
    """`count` batches of one trajectory: indices (count, batch), or standard normal numbers (count, batch, those of a draw)."""
    if chain.reference is not None:
        return rng.standard_normal((count, 1, chain.reference.noise_dim))
    if chain.kind == "shift":
        return rng.standard_normal((count, batch, chain.dim))
    if chain.sampling == "replace":
        return rng.integers(0, chain.size, (count, batch))
    if chain.sampling == "shuffle":
        epoch = chain.size // batch
        orders = np.array([rng.permutation(chain.size) for _ in range(count // epoch)])
        return orders[:, : epoch * batch].reshape(count, batch)
    if batch == chain.size:
        return np.broadcast_to(np.arange(batch), (count, batch))
    chosen = np.empty((count, batch), np.int64)
    distinct(rng.random((count, batch)), np.arange(chain.size), chosen)
    return chosen


class _GroupRecord:
    """What is kept of a group on its way: sums about the state at the start of the averages, counts, a watcher."""

    def __init__(self, group: Group, plan: Plan, records: Records, lo: int) -> None:
        n, d = group.theta.shape
        self.group, self.plan, self.records, self.rows = group, plan, records, slice(lo, lo + n)
        self.shift, self.total, self.square = group.theta, np.zeros((n, d)), np.zeros((n, d, d))
        self.counts = np.zeros(plan.shape, np.int64)
        self.watcher: Watcher | None = make_watcher(plan, n) if plan.watched else None

    def look(self, path: Array) -> None:
        """Do what the plan asks for with the weights (iterations, n, d) of the last iterations, all on one side of its start."""
        plan, records, group = self.plan, self.records, self.group
        first = group.k + 1 - len(path)
        steps = np.arange(first, group.k + 1)
        for row in (plan.stops.index(k) for k in steps.tolist() if k in plan.stops):
            assert records.states is not None
            records.states[row, self.rows] = path[plan.stops[row] - first]
        if plan.start is not None and first > plan.start:
            chosen = path[(steps - plan.start) % plan.every == 0]
            if plan.shape:
                plan.count(chosen.reshape(-1, chosen.shape[2]), self.counts)
            elif self.watcher is not None:
                self.watcher.take(chosen[:, :, list(plan.axes)].transpose(0, 2, 1))
            else:
                u = chosen - self.shift
                self.total += u.sum(axis=0)
                self.square += np.einsum("tni,tnj->nij", u, u)
        if group.k == plan.start:
            self.shift = np.where(np.isfinite(group.theta), group.theta, 0.0)
            if self.watcher is not None:
                self.watcher.begin(self.shift[:, list(plan.axes)].T)

    def saved(self) -> dict[str, Any]:
        tree: dict[str, Any] = {"done": float(len(self.total)) * self.group.k, "group": self.group.saved()}
        tree |= {name: np.array(getattr(self, name)) for name in ("shift", "total", "square", "counts")}
        if self.records.states is not None:
            tree["states"] = self.records.states[:, self.rows].copy()
        if self.watcher is not None:
            tree["watcher"] = self.watcher.state()
        return tree

    def restore(self, tree: dict[str, Any]) -> None:
        self.group.restore(tree["group"])
        self.shift, self.total, self.square, self.counts = (tree[name] for name in ("shift", "total", "square", "counts"))
        if self.records.states is not None:
            self.records.states[:, self.rows] = tree["states"]
        if self.watcher is not None:
            self.watcher.restore(tree["watcher"])

    def close(self) -> None:
        plan, records, rows = self.plan, self.records, self.rows
        final = records.final[rows] = self.group.theta
        if self.watcher is not None:
            self.watcher.close(records.tables, rows.start, np.asarray(np.isfinite(final).all(axis=1)))
        elif plan.averaged and records.means is not None and records.squares is not None:
            mean = self.total / plan.samples
            centred = self.square / plan.samples - mean[:, :, None] * mean[:, None, :]
            lower = np.tril_indices(final.shape[1])
            records.means[rows], records.squares[rows] = self.shift + mean, centred[:, lower[0], lower[1]]
        records.close(rows.start, rows.stop, self.counts)


def record_group(
    chain: SGDChain, points: Array, plan: Plan, records: Records, seed: int, lo: int, control: Control, first: int = 0
) -> bool:
    """Run trajectories lo ... lo + len(points) - 1 and record what the plan asks for; False if the run was stopped.

    Of the ensemble of the seed they are first + lo and those after it.
    """
    n, hi = len(points), lo + len(points)
    record = _GroupRecord(Group(chain, points, seed, first + lo), plan, records, lo)
    group, saved = record.group, control.resume(lo, hi)
    if saved is not None:
        record.restore(saved)
    else:
        record.look(group.theta[None])
    while group.k < plan.steps:
        control.keep(lo, hi, record.saved)
        if control.stopped:
            return False
        limit = plan.start if plan.start is not None and group.k < plan.start else plan.steps
        path = group.advance(min(BLOCK, limit - group.k))
        record.look(path)
        control.add(float(n) * len(path))
    record.close()
    control.drop(lo, hi)
    return True


def first_exits(
    chain: SGDChain,
    points: Array,
    inside: Callable[[Array], Any],
    limit: int | None,
    seed: int,
    lo: int,
    control: Control,
    first: int = 0,
) -> tuple[Array, NDArray[np.bool_], Array]:
    """(iteration, censored, weights) at which trajectories lo, lo + 1, ... are first outside; NaN if one became non-finite."""
    n, d = points.shape
    times, censored, exits = np.full(n, np.nan), np.zeros(n, bool), np.full((n, d), np.nan)
    group, index = Group(chain, points, seed, first + lo), np.arange(n)
    if (tree := control.resume(lo, lo + n)) is not None:
        group.restore(tree["group"])
        times, exits, index = tree["times"], tree["exits"], tree["index"]

    def saved() -> dict[str, Any]:
        copies = {"times": times.copy(), "exits": exits.copy(), "index": index.copy()}
        return {"done": float(n - len(index)), "group": group.saved(), **copies}

    while len(index):
        control.keep(lo, lo + n, saved)
        if control.stopped or group.k == limit:
            times[index], censored[index] = group.k, True
            break
        before = group.k
        path = group.advance(BLOCK if limit is None else min(BLOCK, limit - group.k))
        finite = np.asarray(np.isfinite(path).all(axis=2))
        safe = np.where(finite[..., None], path, 0.0)
        out = ~finite | ~np.asarray(inside(safe.reshape(-1, d)), bool).reshape(finite.shape)
        gone, step = np.asarray(out.any(axis=0)), np.asarray(out.argmax(axis=0))
        met = np.flatnonzero(gone & finite[step, np.arange(len(index))])
        times[index[met]] = before + 1 + step[met]
        exits[index[met]] = path[step[met], met]
        control.add(int(gone.sum()))
        control.reach(group.k)
        group.keep(~gone)
        index = index[~gone]
    return times, censored, exits
