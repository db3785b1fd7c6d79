"""The way out, when the drift is no gradient.

Maier and Stein's drift has two attractors and a saddle between them. For weak noise a transition follows one curve. Below `beta
= 4` it is the axis; above, it leaves the axis, which is cheaper, and comes back to it at the saddle.
"""

import matplotlib.pyplot as plt
import numpy as np

import fpsolve as fps

drift = ["x - x**3 - beta*x*y**2", "-(1 + x**2)*y"]
process = fps.Process.from_drift(drift, fps.Noise.isotropic(0.5), variables="x y", params={"beta": 3.0})
x, y = np.meshgrid(np.linspace(-1.3, 1.3, 40), np.linspace(-0.6, 0.6, 40))
arrows = process.with_params(beta=10.0).drift(np.stack([x, y], axis=-1))

ax = plt.subplot()
ax.streamplot(x, y, arrows[..., 0], arrows[..., 1], color="0.85", linewidth=0.8)
for beta in (3.0, 6.0, 10.0):
    path = fps.minimum_action_path(process.with_params(beta=beta), [-1.0, 0.0], [1.0, 0.0])
    bow = path.points * [1.0, np.sign(path.points[:, 1].sum()) or 1.0]  # both ways around are alike
    ax.plot(*bow.T, lw=2, label=f"beta = {beta:g}: action {path.action.value:.3f}")
ax.set(xlabel="x", ylabel="y", title="paths of least action over the drift for beta = 10")
ax.legend(loc="lower right")
plt.show()
