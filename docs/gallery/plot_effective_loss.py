"""The loss that SGD descends.

A valley of minima whose floor is lowest at `x = 1`, and whose walls are widest apart at `x = 0`. Noise across the valley adds
an effective loss along it, and the most likely place is neither.
"""

import matplotlib.pyplot as plt

import fpsolve as fps

valley = fps.potentials.degenerate_valley("1 + 4*x**2", "0.02*(x - 1)**2")  # curvature across, loss along the floor
process = fps.Process(valley, fps.Noise.diagonal([0.01, 0.05]))
effective = fps.theory.effective_loss(process, (-2.0, 2.0))
plane = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, 120), (-1.2, 1.2, 90))).stationary()
along = plane.marginal(0)

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
plane.plot(ax=left)
left.set(title="density in the plane")
right.plot(effective.x, effective.floor, color="0.4", label="loss of the floor")
right.plot(effective.x, effective.loss - effective.loss.min(), color="C1", label="effective loss")
right.plot(along.grid.centers[0], 0.05 * along.values, color="C0", label="density (scaled)")
right.axvline(effective.minimum.value, color="C1", ls=":", lw=1)
right.set(ylim=(-0.005, 0.2), xlabel="x, along the floor", title="theory against the plane")
right.legend(loc="upper left")
plt.show()
