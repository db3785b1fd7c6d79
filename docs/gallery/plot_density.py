"""Density of an expression.

A landscape written down as text, a noise, and the density that they settle in. The noise is a full tensor that depends on the
place, and the density is no Boltzmann law; the Fokker-Planck solver needs neither.
"""

import matplotlib.pyplot as plt
import numpy as np

import fpsolve as fps

U = fps.Potential.from_expression("(x**2 + y - 2)**2/4 + (x + y**2 - 2)**2/8", variables="x y")
noise = fps.Noise.from_expression([["0.15*(1 + y**2/4)", "0.05*x"], ["0.05*x", "0.1 + 0.1*x**2"]], variables="x y")
fp = fps.FokkerPlanck(fps.Process(U, noise), fps.Grid((-3.5, 3.5, 120), (-3.5, 3.5, 120)))
density = fp.stationary()

# %%
# No mass is lost, none is negative, and mass that leaned on a wall would be in `density.warnings`.

print("mass", round(density.mass, 12), "least value", density.values.min() >= 0, "warnings", density.warnings)

# %%
# The lines are those of the landscape.

ax = density.plot(ax=plt.subplot())
x, y = fp.grid.centers
ax.contour(x, y, U(fp.grid.points()).reshape(fp.grid.shape).T, levels=np.geomspace(0.05, 10, 8), colors="w", linewidths=0.5)
ax.set(title="stationary density under a turning, growing noise")
plt.show()
