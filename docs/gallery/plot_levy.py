"""Jumps instead of diffusion.

Noise with heavy tails leaves a well in one jump. How long that takes depends on how wide the well is, hardly on how high: the
exit times of paths under alpha-stable noise beside the law of small noise.
"""

import matplotlib.pyplot as plt
import numpy as np

import fpsolve as fps

alpha, scale = 1.5, 0.1
wells = {height: fps.potentials.quadratic([[height]]) for height in (1.0, 2.0)}
width = np.array([0.5, 1.0, 2.0, 4.0])

ax = plt.subplot()
for marker, (height, U) in zip("ox", wells.items(), strict=True):
    process = fps.Process(U, fps.Noise.levy(alpha, scale))
    means = [fps.escape_times(process, [0.0], fps.Region.box([-a], [a]), n=1000, dt=0.02, seed=5).mean() for a in width]
    ax.plot(width, [mean.value for mean in means], marker, label=f"paths, curvature {height:g}")
law = [1 / fps.theory.levy_exit_rate(process, 0.0, -a, a).value for a in width]
ax.plot(width, law, color="0.4", label="law of small noise")
ax.set(xscale="log", yscale="log", xlabel="half width of the well", ylabel="mean exit time", title="alpha = 1.5")
ax.legend()
plt.show()
