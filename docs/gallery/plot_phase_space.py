"""A particle with inertia.

Positions and velocities in a double well with friction, and the current that carries probability around in it. In equilibrium
the current does not vanish in phase space: it follows the flow of Hamilton's equations. What vanishes is the entropy
production.
"""

import matplotlib.pyplot as plt

import fpsolve as fps

U = fps.Potential.from_expression("x**4/4 - x**2/2")
process = fps.Underdamped(U, fps.Noise.isotropic(0.0625), friction=1.0)
fp = fps.FokkerPlanck(process, fps.Grid((-2.0, 2.0, 64), (-1.6, 1.6, 64)))
density = fp.stationary()
print("entropy production below 1e-6:", fp.entropy_production(density).value < 1e-6)

ax = fp.current(density).plot(ax=plt.subplot())
ax.contour(*fp.grid.centers, density.values.T, levels=6, colors="0.4", linewidths=0.7)
ax.set(xlabel="x", ylabel="v", title="probability current of the Gibbs state")
plt.show()
