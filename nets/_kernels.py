"""Compiled loops: forward and backward pass of an MLP, sampling of minibatches, and the SGD step loop.

Matrix products go to BLAS through ``np.dot`` (one thread suffices at these sizes; see nets._threads); everything around them is
fused here. Arrays in, arrays out, no exceptions: the step loop returns a status code.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsolve._jit import NOT_FINITE, OK, inline, kernel

Array = NDArray[Any]

RELU, TANH = 0, 1
CROSS_ENTROPY, MSE = 0, 1
SGD, ADAM = 0, 1
#: Squares are summed over so many weights in their own precision, and these sums in double precision.
STRETCH = 4096
#: 2^k for k = -1022 .. 1023.
POWERS = 2.0 ** np.arange(-1022.0, 1024.0)


class Net(NamedTuple):
    """Shape of the network; theta is W1, b1, W2, b2, ... with W of shape (fan_in, fan_out), row by row."""

    widths: Array  # (L + 1,) int64
    activation: int
    loss: int
    decay: float


class State(NamedTuple):
    """All that the step loop changes: with it a run continues bit for bit. theta, velocity and second share one precision."""

    theta: Array
    velocity: Array  # momentum of SGD; first moment of Adam
    second: Array  # second moment of Adam; empty for SGD
    rng: Array  # (4,) uint64, xoshiro256++
    perm: Array  # (N,) int64, order of the present epoch
    cursor: Array  # (2,) int64: position within the epoch, steps done


class Plan(NamedTuple):
    """What to do and what to record in one call of the step loop."""

    lr: Array  # (n_steps,) learning rate of each step, in the precision of theta
    batch: Array  # (n_steps,) int64, batch size of each step
    optimizer: int
    constants: Array  # momentum, beta1, beta2, eps, weight decay, size that counts as zero; in the precision of theta
    replace: bool
    row_every: int  # 0: no rows
    row_lo: int  # rows hold theta[row_lo:row_hi]
    row_hi: int
    sums: bool  # accumulate theta - ref, and (theta - ref) . g


class Out(NamedTuple):
    """Where the step loop writes."""

    ref: Array  # (P,) origin of the sums
    acc: Array  # (P,) sum over the steps of theta - ref, theta taken before the step
    rows: Array  # (n_rows, row_hi - row_lo)
    scalars: Array  # (n_steps, 4): minibatch loss, (theta - ref) . g, g . g, v . v with v = - change of theta / lr


# ---- random numbers: xoshiro256++ (Blackman & Vigna 2019), seeded by SplitMix64 -----------------------------------------


@kernel
def seed_rng(seed, rng):
    """Fill the four words of `rng` from the 64-bit `seed`."""
    z = np.uint64(seed)
    for i in range(4):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        w = z
        w = (w ^ (w >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        w = (w ^ (w >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        rng[i] = w ^ (w >> np.uint64(31))


@kernel
def next_u64(rng):
    """Next 64 random bits."""
    s0, s1, s2, s3 = rng[0], rng[1], rng[2], rng[3]
    t = s0 + s3
    result = ((t << np.uint64(23)) | (t >> np.uint64(41))) + s0
    t = s1 << np.uint64(17)
    s2 = s2 ^ s0
    s3 = s3 ^ s1
    s1 = s1 ^ s2
    s0 = s0 ^ s3
    s2 = s2 ^ t
    s3 = (s3 << np.uint64(45)) | (s3 >> np.uint64(19))
    rng[0], rng[1], rng[2], rng[3] = s0, s1, s2, s3
    return result


@kernel
def below(rng, n):
    """Uniform integer in 0 .. n - 1, n < 2**32, without bias (Lemire 2019, 32-bit words)."""
    m = np.uint64(n)
    mask = np.uint64(0xFFFFFFFF)
    x = (next_u64(rng) >> np.uint64(32)) * m
    if (x & mask) < m:
        threshold = (np.uint64(0x100000000) - m) % m
        while (x & mask) < threshold:
            x = (next_u64(rng) >> np.uint64(32)) * m
    return np.int64(x >> np.uint64(32))


@kernel
def shuffle(rng, perm):
    """Fisher-Yates, in place: all orders equally likely."""
    for i in range(perm.size - 1, 0, -1):
        j = below(rng, i + 1)
        perm[i], perm[j] = perm[j], perm[i]


@kernel
def draw(rng, perm, cursor, replace, index):
    """Indices of the next minibatch; an epoch that cannot fill another batch is dropped and the order drawn anew."""
    if replace:
        for i in range(index.size):
            index[i] = below(rng, perm.size)
        return
    if cursor[0] + index.size > perm.size:
        shuffle(rng, perm)
        cursor[0] = 0
    for i in range(index.size):
        index[i] = perm[cursor[0] + i]
    cursor[0] += index.size


# ---- one minibatch: loss and gradient -----------------------------------------------------------------------------------


@inline
def _exp(x):
    """exp(x) to a few 1e-15, without a call, so that loops over it vectorise; |x| is cut at 700 (NaN too: theta tells of it)."""
    x = min(max(x, -700.0), 700.0)
    k = math.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10  # ln 2 in two parts: |r| <= ln(2)/2
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * POWERS[np.int32(k) + np.int32(1022)]


@kernel
def exponentials(z):
    """exp of each number of a flat array, in place."""
    for i in range(z.size):
        z[i] = _exp(z[i])


@kernel
def tangents(z):
    """tanh of each number of a flat array, in place; absolute error below 1e-15."""
    for i in range(z.size):
        e = _exp(-2.0 * abs(z[i]))
        z[i] = math.copysign((1.0 - e) / (1.0 + e), z[i])


@kernel
def _add_bias(z, bias):
    n, m = z.shape
    for i in range(n):
        for j in range(m):
            z[i, j] += bias[j]


@kernel
def _activate(z, activation):
    """The hidden layers' activation of each number of a flat array, in place."""
    if activation == TANH:
        tangents(z)
    else:
        zero = z.dtype.type(0)  # a literal would make the loop one of double precision
        for i in range(z.size):
            z[i] = max(z[i], zero)


@kernel
def _output_delta(z, flat, t, loss):
    """Mean loss over the rows of z; z becomes d(mean loss)/dz. `flat` is z seen as one row."""
    n, m = z.shape
    total = 0.0
    if loss == MSE:
        for i in range(n):
            for j in range(m):
                r = z[i, j] - t[i, j]
                total += 0.5 * r * r
                z[i, j] = r / n
        return total / n
    for i in range(n):
        top = z[i, 0]
        for j in range(1, m):
            top = max(top, z[i, j])
        for j in range(m):
            z[i, j] -= top
            total -= t[i, j] * z[i, j]
    exponentials(flat)
    for i in range(n):
        norm, weight = 0.0, 0.0
        for j in range(m):
            norm += z[i, j]
            weight += t[i, j]
        total += weight * math.log(norm)
        for j in range(m):
            z[i, j] = weight / norm / n * z[i, j] - t[i, j] / n
    return total / n


@kernel
def _hidden_delta(d, a, activation):
    """d *= f'(z), written with the activation a = f(z)."""
    n, m = d.shape
    for i in range(n):
        for j in range(m):
            if activation == TANH:
                d[i, j] *= 1.0 - a[i, j] * a[i, j]
            elif a[i, j] <= 0.0:
                d[i, j] = 0.0


@kernel
def forward(net, theta, x, act):
    """Activations of the layers above the inputs, to a flat array of n * sum(widths[1:]) numbers; returns those of the last."""
    n = x.shape[0]
    layers = net.widths.size - 1
    p, q = 0, 0
    below_ = x
    for k in range(layers):
        rows, cols = net.widths[k], net.widths[k + 1]
        w = theta[p : p + rows * cols].reshape((rows, cols))
        bias = theta[p + rows * cols : p + (rows + 1) * cols]
        z = act[q : q + n * cols].reshape((n, cols))
        np.dot(below_, w, z)
        _add_bias(z, bias)
        if k < layers - 1:
            _activate(act[q : q + n * cols], net.activation)
        below_ = z
        p += (rows + 1) * cols
        q += n * cols
    return below_


@kernel
def mean_loss(net, theta, x, t, act):
    """Mean loss over the rows of x without weight decay; `act` is a work array as in `minibatch_gradient`."""
    last = forward(net, theta, x, act)
    used = x.shape[0] * (net.widths.sum() - net.widths[0])
    return _output_delta(last, act[used - t.size : used], t, net.loss)


@kernel
def minibatch_gradient(net, theta, x, t, act, delta, grad):
    """Mean loss over the rows of x without weight decay; its gradient goes to `grad`.

    act, delta: flat work arrays of n * sum(widths[1:]) numbers each; layer k starts at n * sum(widths[1:k]).
    """
    n = x.shape[0]
    layers = net.widths.size - 1
    p, q = theta.size, n * (net.widths.sum() - net.widths[0])
    d = forward(net, theta, x, act)
    value = _output_delta(d, act[q - t.size : q], t, net.loss)
    for k in range(layers - 1, -1, -1):
        rows, cols = net.widths[k], net.widths[k + 1]
        p -= (rows + 1) * cols
        q -= n * cols
        gw = grad[p : p + rows * cols].reshape((rows, cols))
        gb = grad[p + rows * cols : p + (rows + 1) * cols]
        if k == 0:
            np.dot(x.T, d, gw)
        else:
            a = act[q - n * rows : q].reshape((n, rows))
            np.dot(a.T, d, gw)
        gb[:] = 0.0
        for i in range(n):
            for j in range(cols):
                gb[j] += d[i, j]
        if k > 0:
            w = theta[p : p + rows * cols].reshape((rows, cols))
            a = act[q - n * rows : q].reshape((n, rows))
            e = delta[q - n * rows : q].reshape((n, rows))
            np.dot(d, w.T, e)
            _hidden_delta(e, a, net.activation)
            d = e
    return value


@kernel
def gather(x, t, index, xb, tb):
    """Rows of the minibatch, copied side by side."""
    for i in range(index.size):
        k = index[i]
        for j in range(x.shape[1]):
            xb[i, j] = x[k, j]
        for j in range(t.shape[1]):
            tb[i, j] = t[k, j]


@kernel
def gradient_at(net, theta, x, t, index, grad):
    """Mean gradient over the samples `index`, weight decay included; returns the loss."""
    n = index.size
    xb, tb = np.empty((n, x.shape[1])), np.empty((n, t.shape[1]))
    work = n * (net.widths.sum() - net.widths[0])
    gather(x, t, index, xb, tb)
    value = minibatch_gradient(net, theta, xb, tb, np.empty(work), np.empty(work), grad)
    norm = 0.0
    for i in range(theta.size):
        grad[i] += net.decay * theta[i]
        norm += theta[i] * theta[i]
    return value + 0.5 * net.decay * norm


@kernel
def mean_gradients(net, thetas, x, t, indices, out):
    """`gradient_at` for each row of thetas (n, P) and of indices (n, batch), to out (n, P)."""
    for i in range(thetas.shape[0]):
        gradient_at(net, thetas[i], x, t, indices[i], out[i])


@kernel
def mean_losses(net, thetas, x, t, out):
    """Mean loss over all rows of x, weight decay included, for each row of thetas (n, P), to out (n,)."""
    work = x.shape[0] * (net.widths.sum() - net.widths[0])
    act = np.empty(work)
    for i in range(thetas.shape[0]):
        theta, norm = thetas[i], 0.0
        for j in range(theta.size):
            norm += theta[j] * theta[j]
        out[i] = mean_loss(net, theta, x, t, act) + 0.5 * net.decay * norm


@kernel
def losses_and_gradients(net, thetas, x, t, losses, gradients):
    """`mean_losses` to losses (n,) and their gradients to gradients (n, P)."""
    work = x.shape[0] * (net.widths.sum() - net.widths[0])
    act, delta = np.empty(work), np.empty(work)
    for i in range(thetas.shape[0]):
        theta, grad, norm = thetas[i], gradients[i], 0.0
        value = minibatch_gradient(net, theta, x, t, act, delta, grad)
        for j in range(theta.size):
            grad[j] += net.decay * theta[j]
            norm += theta[j] * theta[j]
        losses[i] = value + 0.5 * net.decay * norm


# ---- the step loop ------------------------------------------------------------------------------------------------------


@kernel
def _sums(theta, grad, decay, out):
    """Add theta - ref to the running sum; returns (theta - ref) . g."""
    dot = 0.0
    for i in range(theta.size):
        shifted = theta[i] - out.ref[i]
        dot += shifted * (grad[i] + decay * theta[i])
        out.acc[i] += shifted
    return dot


@inline
def _sgd_stretch(theta, velocity, grad, lr, momentum, decay, tiny):
    zero = theta.dtype.type(0)
    t2, g2, v2 = zero, zero, zero
    if momentum == zero:
        for i in range(theta.size):
            g = grad[i] + decay * theta[i]
            t2 += theta[i] * theta[i]
            g2 += g * g
            theta[i] -= lr * g
        return t2, g2, g2
    for i in range(theta.size):
        g = grad[i] + decay * theta[i]
        v = momentum * velocity[i] + g
        v = v if abs(v) > tiny else zero
        t2 += theta[i] * theta[i]
        g2 += g * g
        v2 += v * v
        velocity[i] = v
        theta[i] -= lr * v
    return t2, g2, v2


@kernel
def _sgd(theta, velocity, grad, lr, constants):
    """v <- momentum v + g, theta <- theta - lr v with g = grad + decay theta; returns |theta|^2 before, |g|^2, |v|^2.

    The velocity of a weight whose input is hardly ever on dies out; as a denormal number it would slow the loop down severalfold.
    """
    t2, g2, v2 = 0.0, 0.0, 0.0
    for start in range(0, theta.size, STRETCH):
        part = slice(start, min(start + STRETCH, theta.size))
        sums = _sgd_stretch(theta[part], velocity[part], grad[part], lr, constants[0], constants[4], constants[5])
        t2 += sums[0]
        g2 += sums[1]
        v2 += sums[2]
    return t2, g2, v2


@inline
def _adam_stretch(theta, first, second, grad, lr, constants, scale):
    beta1, beta2, eps, decay, tiny = constants[1], constants[2], constants[3], constants[4], constants[5]
    c1, c2, b1, b2 = scale[0], scale[1], scale[2], scale[3]
    zero = theta.dtype.type(0)
    t2, g2, v2 = zero, zero, zero
    for i in range(theta.size):
        g = grad[i] + decay * theta[i]
        m = beta1 * first[i] + c1 * g
        q = beta2 * second[i] + c2 * g * g
        m = m if abs(m) > tiny else zero  # no denormal numbers, as in _sgd
        q = q if q > tiny else zero
        first[i] = m
        second[i] = q
        v = b1 * m / (np.sqrt(b2 * q) + eps)
        t2 += theta[i] * theta[i]
        g2 += g * g
        v2 += v * v
        theta[i] -= lr * v
    return t2, g2, v2


@kernel
def _adam(theta, first, second, grad, lr, constants, t):
    """One step of Adam, number t = 1, 2, ...; returns |theta|^2 before, |g|^2, |v|^2 with v = - change of theta / lr."""
    beta1, beta2 = constants[1], constants[2]
    scale = np.empty(4, dtype=theta.dtype)  # rounds to the precision of theta
    scale[0], scale[1] = 1.0 - beta1, 1.0 - beta2
    scale[2] = 1.0 / (1.0 - math.pow(np.float64(beta1), t))
    scale[3] = 1.0 / (1.0 - math.pow(np.float64(beta2), t))
    t2, g2, v2 = 0.0, 0.0, 0.0
    for start in range(0, theta.size, STRETCH):
        part = slice(start, min(start + STRETCH, theta.size))
        sums = _adam_stretch(theta[part], first[part], second[part], grad[part], lr, constants, scale)
        t2 += sums[0]
        g2 += sums[1]
        v2 += sums[2]
    return t2, g2, v2


@kernel
def train_steps(net, state, x, t, plan, out):
    """Run one step for each entry of plan.lr. Returns (status, steps done, rows written).

    Rows are written after each step whose number (counted over the whole run) is a multiple of plan.row_every.
    """
    largest, inputs, outputs = plan.batch.max(), x.shape[1], t.shape[1]
    indices = np.empty(largest, dtype=np.int64)
    xs, ts = np.empty(largest * inputs, dtype=x.dtype), np.empty(largest * outputs, dtype=x.dtype)
    width = net.widths.sum() - net.widths[0]
    act, delta = np.empty(largest * width, dtype=x.dtype), np.empty(largest * width, dtype=x.dtype)
    grad = np.empty(state.theta.size, dtype=x.dtype)
    n_rows = 0
    for s in range(plan.lr.size):
        b = plan.batch[s]
        index, xb, tb = indices[:b], xs[: b * inputs].reshape((b, inputs)), ts[: b * outputs].reshape((b, outputs))
        draw(state.rng, state.perm, state.cursor, plan.replace, index)
        gather(x, t, index, xb, tb)
        loss = minibatch_gradient(net, state.theta, xb, tb, act[: b * width], delta[: b * width], grad)
        dot = 0.0
        if plan.sums:
            dot = _sums(state.theta, grad, net.decay, out)
        state.cursor[1] += 1
        if plan.optimizer == ADAM:
            t2, g2, v2 = _adam(state.theta, state.velocity, state.second, grad, plan.lr[s], plan.constants, state.cursor[1])
        else:
            t2, g2, v2 = _sgd(state.theta, state.velocity, grad, plan.lr[s], plan.constants)
        loss += 0.5 * net.decay * t2
        out.scalars[s, 0] = loss
        out.scalars[s, 1] = dot
        out.scalars[s, 2] = g2
        out.scalars[s, 3] = v2
        if not (math.isfinite(loss) and math.isfinite(g2)):
            return NOT_FINITE, s, n_rows
        if plan.row_every > 0 and state.cursor[1] % plan.row_every == 0:
            for k in range(plan.row_lo, plan.row_hi):
                out.rows[n_rows, k - plan.row_lo] = state.theta[k]
            n_rows += 1
    return OK, plan.lr.size, n_rows
