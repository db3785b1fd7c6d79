"""A phase diagram from a sweep.

Which of two valleys of one depth holds SGD, as the learning rate and the batch size change? A sweep asks the transition kernel
of the chain at every point; it could run on a cluster, and would go on after a kill.
"""

import matplotlib.pyplot as plt
import numpy as np

import fpsolve as fps

U = fps.potentials.two_valleys(sharp=2.0, flat=1.0, barrier=0.5)


def flat_share(lr, batch):
    noise = fps.Noise.from_expression("s*(3 - tanh(4*x))", params={"s": lr / (2 * batch)})  # sample noise like the curvature
    density = fps.TransitionKernel(fps.SGDChain.gaussian(U, noise, lr), fps.Grid((-5.0, 6.5, 240))).stationary()
    return density.cell_mass[density.grid.centers[0] > 0].sum()


axes = {"lr": np.linspace(0.1, 0.8, 8), "batch": [2, 3, 4, 6, 8, 12]}
done = fps.sweep(flat_share, axes, out="valleys.h5")

ax = plt.subplot()
mesh = ax.pcolormesh(axes["lr"], range(6), done.values().T, shading="nearest", vmax=1)
ax.figure.colorbar(mesh, label="share of the time in the flat valley")
ax.set(xlabel="learning rate", ylabel="batch size", title="48 chains")
ax.set_yticks(range(6), axes["batch"])
plt.show()
