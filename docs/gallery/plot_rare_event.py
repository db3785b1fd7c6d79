"""Rates down to 1e-17.

Escape rates down to where no simulation of paths would ever see one. Multilevel splitting copies the paths that come furthest
and keeps the books, without bias. The line is the Fokker-Planck solver's, the dotted one Kramers' formula.
"""

import matplotlib.pyplot as plt
import numpy as np

import fpsolve as fps

U = fps.potentials.double_well()
left = fps.Region.halfspace([1.0], 0.3)  # x < 0.3, beyond the barrier
grid = fps.Grid((-1.9, 0.6, 400))
inverse = np.array([4.0, 10.0, 20.0, 40.0])
cells, formula, split = [], [], []
for i, D in enumerate(1 / inverse):
    process = fps.Process(U, fps.Noise.isotropic(D))
    cells.append(fps.FokkerPlanck(process, grid).escape_rate(left).value)
    formula.append(fps.theory.kramers_rate(process, [-1.0], [0.0]).value)
    split.append(fps.multilevel_splitting(process, [-1.0], left, n=100, runs=10, dt=0.02, seed=10 + i))

ax = plt.subplot()
ax.plot(inverse, cells, label="Fokker-Planck")
ax.plot(inverse, formula, ":", label="Kramers")
ends = np.array([estimate.interval for estimate in split]).T
values = np.array([estimate.value for estimate in split])
ax.errorbar(inverse, values, yerr=abs(ends - values), fmt="o", color="C3", label="splitting, 95 %")
ax.set(yscale="log", xlabel="1/D", ylabel="rate", title="10 runs of 100 paths each")
ax.legend()
plt.show()
