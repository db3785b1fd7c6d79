"""Which minimum first, and how long.

Two fields of one process on the landscape of Mueller and Brown. The committor is the probability to reach the upper minimum
before the lower one; where it is one half, a transition is decided. Beside it the mean time until the upper minimum is reached.
"""

import matplotlib.pyplot as plt
import numpy as np

import fpsolve as fps

U = fps.potentials.mueller_brown(scale=0.05)
fp = fps.FokkerPlanck(fps.Process(U, fps.Noise.isotropic(0.8)), fps.Grid((-1.6, 1.2, 120), (-0.4, 2.1, 120)))
upper, lower = [-0.558, 1.442], [0.623, 0.028]
committor = fp.committor(fps.Region.ball(lower, 0.12), fps.Region.ball(upper, 0.12))
outside = fps.Region.from_expression("0.12**2 - (x + 0.558)**2 - (y - 1.442)**2", variables="x y")
times = fp.mean_exit_time(outside)

# %%
# The thin lines are those of the landscape. A region is where its expression is negative.

x, y = fp.grid.centers
heights = U(fp.grid.points()).reshape(fp.grid.shape).T
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
for ax, field in ((left, committor), (right, times)):
    field.plot(ax=ax)
    ax.contour(x, y, heights, levels=np.linspace(-7, 3, 9), colors="0.6", linewidths=0.5)
left.contour(x, y, committor.values.T, levels=[0.5], colors="w", linewidths=2.5)
left.get_legend().set_loc("upper right")
left.set(title="committor; the thick line is 1/2")
right.set(title="mean time to the upper minimum")
plt.show()
