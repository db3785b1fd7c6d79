"""Networks and data that the tests of nets share, and the outputs of a network by formulas of their own."""

import numpy as np

import nets


def spiral_net(**options):
    return nets.MLP((2, 6, 2), activation="tanh", **options), nets.load_data("spiral", n=125)  # 100 training samples


def outputs(mlp, theta, x):
    """z_L by formulas of its own, which take complex inputs and weights; relu is the identity where the real part is positive."""
    a, start = x, 0
    for layer, (rows, cols) in enumerate(zip(mlp.widths[:-1], mlp.widths[1:], strict=True), start=1):
        w = theta[start : start + rows * cols].reshape(rows, cols)
        a = a @ w + theta[start + rows * cols : start + (rows + 1) * cols]
        start += (rows + 1) * cols
        if layer < mlp.n_layers:
            a = np.tanh(a) if mlp.activation == "tanh" else np.where(a.real > 0.0, a, 0.0)
    return a


def problem(widths, activation, loss, n=17, soft=False, decay=0.02):
    rng = np.random.default_rng(11)
    mlp = nets.MLP(widths, activation=activation, loss=loss, weight_decay=decay)
    y = rng.random((n, widths[-1])) if soft or widths[-1] == 1 else rng.integers(0, widths[-1], n)
    return mlp, mlp.init(2) * 2.0, rng.standard_normal((n, widths[0])), y


def blocks_of(mlp, block):
    names = [block] if isinstance(block, str) else block
    return "all" if any(name != "all" and name not in mlp.blocks for name in names) else block
