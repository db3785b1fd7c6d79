"""Noise that is not isotropic moves the peaks.

On a ring all minima have the same loss, and white noise visits them alike. Noise that is stronger along one axis does not
change the loss, and yet it chooses: it gathers where the strong noise points along the ring, and stays away from where it
points across.
"""

import matplotlib.pyplot as plt

import fpsolve as fps

ring = fps.potentials.ring()
grid = fps.Grid((-1.8, 1.8, 96), (-1.8, 1.8, 96))
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for ax, strengths in zip(axes, ([0.05, 0.05], [0.09, 0.01]), strict=True):
    density = fps.FokkerPlanck(fps.Process(ring, fps.Noise.diagonal(strengths)), grid).stationary()
    density.plot(ax=ax)
    ax.set(title=f"D = {strengths}")
    print(strengths, "at (0, 1) over that at (1, 0):", round(float(density.at([0.0, 1.0]) / density.at([1.0, 0.0])), 3))
plt.show()
