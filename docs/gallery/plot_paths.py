"""Paths against the density.

Forty thousand paths leave one well together. Their histogram and the solution of the Fokker-Planck equation, which knows
nothing of paths, are the same at every time.
"""

import matplotlib.pyplot as plt
import numpy as np

import fpsolve as fps

process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.25))
grid = fps.Grid((-2.2, 2.2, 88))
times = [0.25, 2.0, 60.0]
densities = fps.FokkerPlanck(process, grid).evolve(("gaussian", [-1.5], [[0.01]]), times)
start = np.random.default_rng(0).normal(-1.5, 0.1, (40_000, 1))
paths = fps.simulate(process, start, t=times[-1], dt=0.01, n=40_000, save=times, seed=1)

ax = plt.subplot()
for i, (density, time) in enumerate(zip(densities, times, strict=True)):
    counts, edges = np.histogram(paths.states[i, :, 0], bins=44, range=(-2.2, 2.2), density=True)
    ax.stairs(counts, edges, fill=True, color=f"C{i}", alpha=0.35)
    ax.plot(grid.centers[0], density.values, color=f"C{i}", label=f"t = {time:g}")
ax.set(xlabel="x", ylabel="density", title="steps: paths; lines: Fokker-Planck")
ax.legend()
plt.show()
